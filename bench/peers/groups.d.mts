export const GROUP: number;
export function makePayloads(bytes: number): Uint8Array[];
export function serveRounds(send: () => void, close: () => void): (payload: Uint8Array) => void;
