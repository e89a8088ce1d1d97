/**
 * The frames that tests of rings send and count, and the veth pair that they go over.
 *
 * @module
 */
import { writeFileSync } from "node:fs";
import type { PacketRingOptions } from "bun-sockets/packet";
import { ETH_P_802_EX1, ETH_P_IP } from "bun-sockets/sys";
import { ip } from "../../support/namespaces.ts";

/**
 * A ring that loses nothing of what the tests send while its thread has to wait for a processor: each
 * block is handed over after 10 ms, so that the default 16 bear no more than 160.
 */
export const ROOMY = { blockBytes: 1 << 16, blocks: 256 } as const;

/** Where the number of a frame stands. */
export const NUMBER = 14;

/** What a generator is asked for. */
export interface Order {
  readonly interface: string;
  readonly frames: number;
  readonly bytes: number;
  /** How many flows: UDP datagrams over IPv4 then. Default: none, the frames are of no protocol. */
  readonly flows?: number | undefined;
}

const IP = 14;
const UDP = IP + 20;

/** Where the port of the sender, and the number, stand in a frame that has a flow. */
export const UDP_PORT: number = UDP;
export const UDP_NUMBER: number = UDP + 8;

/** What a Worker that counts is told. */
export interface Share {
  readonly interface: string;
  readonly options: PacketRingOptions;
  /** Its number among the Workers. */
  readonly place: number;
  readonly form: "await" | "sync";
  /** Whether it reads nothing until frames were dropped. */
  readonly stalls: boolean;
  /** `COUNTS` of each. */
  readonly counts: Int32Array;
  /** How often each number was seen. */
  readonly seen: Int32Array;
  /** Who has seen each flow: a bit for each Worker. */
  readonly flows: Int32Array;
}

/** Where the counts of a Worker stand, and what says that it is over. */
export const COUNTS = { frames: 0, packets: 1, drops: 2, size: 4, stop: 3 } as const;

/** Writes a frame with a number and, of several flows, headers of UDP. */
export function writeFrame(
  memory: Uint8Array,
  at: number,
  bytes: number,
  number: number,
  flows?: number,
): void {
  const view = new DataView(memory.buffer, memory.byteOffset + at, bytes);
  memory.fill(0xff, at, at + 6);
  memory.set([2, 0, 0, 0, 0, 1], at + 6);
  memory.fill(number & 0xff, at + NUMBER, at + bytes);
  if (flows === undefined) {
    view.setUint16(12, ETH_P_802_EX1);
    view.setUint32(NUMBER, number);
    return;
  }
  view.setUint16(12, ETH_P_IP);
  memory.set([0x45, 0, 0, 0, 0, 0, 0, 0, 64, 17, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2], at + IP);
  view.setUint16(IP + 2, bytes - IP);
  view.setUint16(UDP, 1024 + (number % flows));
  view.setUint16(UDP + 2, 9);
  view.setUint16(UDP + 4, bytes - UDP);
  view.setUint16(UDP + 6, 0);
  view.setUint32(UDP + 8, number);
}

/** Makes a veth pair that carries what tests send and nothing else. */
export function makeVeth(near: string, far: string): Disposable {
  ip("link", "add", near, "type", "veth", "peer", "name", far);
  for (const name of [near, far]) {
    // No router solicitations, and no reports of groups.
    writeFileSync(`/proc/sys/net/ipv6/conf/${name}/disable_ipv6`, "1");
    ip("link", "set", name, "up");
  }
  awaitLinks(near, far);
  return { [Symbol.dispose]: () => void ip("link", "del", near) };
}

/** Blocks until links are up at both ends: what is sent before is lost. */
export function awaitLinks(...names: readonly string[]): void {
  for (const name of names)
    while (!ip("-o", "link", "show", name).includes(" state UP ")) Bun.sleepSync(1);
}

/** A Worker that sends frames. */
export class Generator implements Disposable {
  readonly #worker = new Worker(new URL("generator.ts", import.meta.url).href);
  readonly #ready = this.#answer();

  #answer(): Promise<unknown> {
    return new Promise((resolve, reject) => {
      this.#worker.onmessage = ({ data }) => resolve(data);
      this.#worker.onerror = ({ message }) => reject(new Error(message));
    });
  }

  /**
   * Has it send, which goes on while this thread does something else, and blocks. `sent` is how many
   * frames it has sent in the end.
   */
  async start(order: Order): Promise<{ readonly sent: Promise<number> }> {
    await this.#ready;
    const sent = this.#answer() as Promise<number>;
    this.#worker.postMessage(order);
    return { sent };
  }

  [Symbol.dispose](): void {
    this.#worker.terminate();
  }
}
