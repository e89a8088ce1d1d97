// What the programs of tcp_throughput.ts share, under Bun and Node.
import { createInterface } from "node:readline";

/** Room for one receive. */
export const ROOM = 256 << 10;
const PERIOD = 1024;

/** What stands at an offset of the stream. */
export function byteAt(offset) {
  return ((offset % PERIOD) * 7) & 255;
}

/** A piece that can be sent again and again: its length is a multiple of the period. */
export function piece(bytes) {
  return Buffer.from(Array.from({ length: bytes }, (_, i) => byteAt(i)));
}

/** CPU time of all threads until now. */
export function cpuNs() {
  const { user, system } = process.cpuUsage();
  return (user + system) * 1000;
}

/** Looks at what one connection brings. */
export class Receiver {
  #start = cpuNs();
  #bytes = 0;
  #wrong = 0;
  #calls = 0;

  take(data, length = data.length) {
    if (data[0] !== byteAt(this.#bytes)) this.#wrong++;
    this.#bytes += length;
    if (data[length - 1] !== byteAt(this.#bytes - 1)) this.#wrong++;
    this.#calls++;
  }

  end() {
    const cpu_ns = cpuNs() - this.#start;
    say({ bytes: this.#bytes, wrong: this.#wrong, calls: this.#calls, cpu_ns });
  }
}

export function say(value) {
  console.log(JSON.stringify(value));
}

/** Sends as many bytes as each line of the standard input says, and says what it took. */
export async function sendWhenAsked(connect, sendAll) {
  for await (const line of createInterface({ input: process.stdin })) {
    const socket = await connect();
    const startCpu = cpuNs();
    const start = performance.now();
    await sendAll(socket, Number(line));
    const ns = Math.round((performance.now() - start) * 1e6);
    say({ ns, cpu_ns: cpuNs() - startCpu });
  }
}
