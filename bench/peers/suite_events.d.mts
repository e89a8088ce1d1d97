import type { Side } from "./suite_side.mjs";

export function serveSender(
  side: Side,
  payloads: readonly Uint8Array[],
  sendGroup: () => number,
  opened: object,
): Promise<(payload: Uint8Array) => void>;

export function serveReceiver(
  side: Side,
  connect: (port: number) => unknown,
  acknowledge: (ack: Uint8Array) => void,
  opened: object,
): Promise<(payload: Uint8Array) => void>;
