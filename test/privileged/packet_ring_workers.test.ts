/**
 * Several Workers, each with a ring of its own in one fanout group: all of what was sent is seen once
 * by one of them, or counted as dropped by one of them.
 *
 * @module
 */
import { afterAll, beforeAll, expect } from "bun:test";
import { readFileSync } from "node:fs";
import type { FanoutMode, PacketRingOptions } from "bun-sockets/packet";
import { requires, testIf } from "../support/require.ts";
import { until } from "../support/waiting.ts";
import { COUNTS, Generator, makeVeth, ROOMY, type Share } from "./packet_ring/frames.ts";

const NEAR = "bs-pw-0";
const FAR = "bs-pw-1";
const FRAMES = 20_000;
const FLOWS = 64;
const WORKERS = 3;

const isNamespaced = process.env["BUN_SOCKETS_NAMESPACE"] === "1";
const namespaced = testIf(
  isNamespaced ? requires("ip", "unshare") : "needs a network namespace of its own",
);

let veth: Disposable | undefined;
let generator: Generator | undefined;
beforeAll(() => {
  if (!isNamespaced) return;
  veth = makeVeth(NEAR, FAR);
  generator = new Generator();
});
afterAll(() => {
  generator?.[Symbol.dispose]();
  veth?.[Symbol.dispose]();
});

function shared(length: number): Int32Array {
  return new Int32Array(new SharedArrayBuffer(4 * length));
}

/** Workers that count, until the end of the block. */
class Counters implements AsyncDisposable {
  readonly counts: Int32Array = shared(WORKERS * COUNTS.size);
  readonly seen: Int32Array = shared(FRAMES);
  readonly flows: Int32Array = shared(FLOWS);
  readonly #workers: Worker[] = [];
  readonly #answers: string[] = [];

  async start(
    options: PacketRingOptions,
    form: Share["form"],
    stalls: (place: number) => boolean,
  ): Promise<void> {
    for (let place = 0; place < WORKERS; place++) {
      const worker = new Worker(new URL("packet_ring/counter.ts", import.meta.url).href);
      worker.onmessage = ({ data }) => void this.#answers.push(data);
      worker.onerror = ({ message }) => void this.#answers.push(message);
      this.#workers.push(worker);
      const { counts, seen, flows } = this;
      const own = { place, form, stalls: stalls(place), counts, seen, flows };
      worker.postMessage({ interface: FAR, options, ...own } satisfies Share);
    }
    await this.#all("ready");
  }

  async #all(answer: string): Promise<void> {
    await until(() => this.#answers.length === WORKERS, `all are ${answer}`);
    expect(this.#answers.splice(0)).toEqual(new Array(WORKERS).fill(answer));
  }

  of(what: "frames" | "packets" | "drops"): number[] {
    return this.#workers.map((_, place) =>
      Atomics.load(this.counts, place * COUNTS.size + COUNTS[what]),
    );
  }

  terminate(): void {
    for (const worker of this.#workers) worker.terminate();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    Atomics.store(this.counts, COUNTS.stop, 1);
    for (const worker of this.#workers) worker.postMessage("stop");
    await this.#all("done");
    this.terminate();
  }
}

const sum = (numbers: readonly number[]) => numbers.reduce((left, right) => left + right, 0);

async function send(): Promise<void> {
  const order = { interface: NEAR, frames: FRAMES, bytes: 100, flows: FLOWS };
  const { sent } = await (generator as Generator).start(order);
  expect(await sent).toBe(FRAMES);
}

function packetSockets(): number {
  return readFileSync("/proc/net/packet", "utf8").trim().split("\n").length - 1;
}

namespaced("Workers that are terminated capture nothing any more", async () => {
  const before = packetSockets();
  const counters = new Counters();
  await counters.start({ ...ROOMY, fanout: { group: 99, mode: "hash" } }, "await", () => false);
  expect(packetSockets()).toBe(before + WORKERS);
  counters.terminate();
  await until(() => packetSockets() === before, "all rings are gone");
});

const forms = ["await", "sync"] as const;
let groups = 100;

for (const mode of ["hash", "balance", "random"] as const satisfies readonly FanoutMode[]) {
  for (const form of forms) {
    namespaced(`${WORKERS} Workers see each frame once (${mode}, ${form})`, async () => {
      await using counters = new Counters();
      await counters.start({ ...ROOMY, fanout: { group: groups++, mode } }, form, () => false);
      await send();
      const all = (what: "frames" | "packets") => sum(counters.of(what)) === FRAMES;
      await until(() => all("frames") && all("packets"), "all frames are seen");
      expect(counters.seen.every((times) => times === 1)).toBe(true);
      expect(counters.of("packets")).toEqual(counters.of("frames"));
      expect(sum(counters.of("drops"))).toBe(0);
      const members = [...counters.flows].map(
        (bits) => bits.toString(2).replaceAll("0", "").length,
      );
      // A flow stays with one Worker, or comes to all of them.
      if (mode === "hash") expect(members).toEqual(new Array(FLOWS).fill(1));
      else expect(Math.max(...members)).toBe(WORKERS);
      for (const frames of counters.of("frames")) expect(frames).toBeGreaterThan(0);
      if (mode === "balance")
        expect(
          Math.max(...counters.of("frames")) - Math.min(...counters.of("frames")),
        ).toBeLessThan(2);
    });
  }
}

for (const form of forms) {
  namespaced(`frames and drops of ${WORKERS} Workers are all that was sent (${form})`, async () => {
    await using counters = new Counters();
    const small = { blockBytes: 1 << 13, blocks: 2 };
    const options = { ...small, fanout: { group: groups++, mode: "balance" } } as const;
    // One reads nothing until it has lost some.
    await counters.start(options, form, (place) => place === 1);
    await send();
    const all = () => sum(counters.of("frames")) + sum(counters.of("drops"));
    await until(() => sum(counters.of("packets")) === FRAMES && all() >= FRAMES, "all is counted");
    expect(all()).toBe(FRAMES);
    expect(counters.of("drops")[1]).toBeGreaterThan(0);
    const most = Math.max(...counters.seen);
    expect([most, sum([...counters.seen])]).toEqual([1, sum(counters.of("frames"))]);
    const [frames, packets, drops] = (["frames", "packets", "drops"] as const).map((what) =>
      counters.of(what),
    ) as [number[], number[], number[]];
    expect(frames.map((count, place) => count + (drops[place] as number))).toEqual(packets);
  });
}
