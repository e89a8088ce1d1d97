export const BUFFER_BYTES: number;
export const ACK_BYTES: number;
export const ACK_MS: number;
export const QUIET_MS: number;
export const FIRST_MS: number;
export const STALLS_MAX: number;
export const STAMP_AT: number;

export interface Side {
  readonly role: string;
  readonly send: string;
  readonly receive: string;
  readonly family: string;
  readonly bytes: number;
  readonly batch: number;
  readonly segments: number;
  readonly group: number;
  readonly window: number;
  readonly isFlat: boolean;
  readonly form: string;
  readonly local: string;
  readonly remote: string;
  readonly port: number;
  readonly receivers: number;
}

export function readSide(values: readonly string[]): Side;
export function makePayloads(bytes: number, count: number): Uint8Array<ArrayBuffer>[];
export interface Buffers {
  readonly sendBufferBytes: number | null;
  readonly receiveBufferBytes: number | null;
}

export function socketsOfMine(): number[];
export function setBuffers(fd: number): Promise<Buffers>;
export function makeClock(): Promise<() => number>;
export function makeAge(): Promise<(seconds: number, nanoseconds: number) => number>;
export function measureAllocated(): () => number | null;

export class Seen {
  received: number;
  messages: number;
  sum: number;
  calls: number;
  dataCalls: number;
  first: number;
  last: number;
  stalls: number;
  constructor(clock: () => number);
  begin(total: number, group: number): void;
  takeAges(messages: number): void;
  stamped(view: DataView, offset: number): void;
  wantsAge(): boolean;
  waited(ns: number): void;
  result(): object;
}

export function say(value: object): void;
export function serve(told: (word: string, number: number) => unknown): Promise<void>;
