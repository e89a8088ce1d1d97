export function isMark(payload: Uint8Array): boolean;
export function report(wakeUps?: number): Uint8Array<ArrayBuffer>;
