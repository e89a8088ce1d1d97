import { DatagramBatch } from "bun-sockets";
import {
  type CapturedPacket,
  CaptureFile,
  type CaptureReader,
  linkTypeName,
  PacketSocket,
} from "bun-sockets/packet";
import { type Command, Option } from "commander";
import {
  type CommonOptions,
  FAILURE,
  makeCommand,
  type Run,
  SUCCESS,
  withAction,
} from "./command.ts";
import { Pause } from "./pause.ts";
import { round, Spread } from "./spread.ts";
import { integer, positive } from "./values.ts";

interface ReplayOptions extends CommonOptions {
  readonly interface: string;
  readonly speed?: number;
  readonly rate?: number;
  readonly topspeed?: true;
  readonly loop: number;
}

const CAPACITY = 64;
// The longest packet there is, with its link-layer header and VLAN tags: segmentation offload makes
// such on virtual interfaces.
const SLOT_BYTES = 66_000;
const NS = 1e9;
const US = 1e3;
const FULL_QUEUE_MS = 1;

/** `replay`: sends the frames of a capture file. */
export function replayCommand(): Command {
  const command = makeCommand("replay", "Sends the frames of a capture file, as they are.", {
    examples: [
      ["bun-sockets replay capture.pcapng -i eth0", "at the times of the capture"],
      ["bun-sockets replay capture.pcapng -i eth0 --speed 10", "ten times as fast"],
      ["bun-sockets replay capture.pcapng -i eth0 --rate 50000 --loop 10", "50,000 a second"],
      ["bun-sockets replay capture.pcapng -i eth0 --topspeed", "as fast as it goes"],
    ],
  })
    .argument("<file>", 'pcapng or pcap; "-" is standard input')
    .requiredOption("-i, --interface <name>", "where to send")
    .addOption(
      new Option("--speed <factor>", "times as fast as captured; default: 1")
        .argParser(positive)
        .conflicts(["rate", "topspeed"]),
    )
    .addOption(
      new Option("--rate <frames>", "so many a second, whatever the times of the capture")
        .argParser(positive)
        .conflicts(["speed", "topspeed"]),
    )
    .addOption(new Option("--topspeed", "without a pause").conflicts(["speed", "rate"]))
    .option("--loop <times>", "the file so many times", integer(1, 2 ** 31 - 1), 1);
  return withAction<ReplayOptions>(command, replay);
}

async function replay(run: Run, options: ReplayOptions, operands: string[]): Promise<number> {
  const [path = ""] = operands;
  using socket = PacketSocket.open(options.interface, { protocol: 0 });
  using batch = new DatagramBatch({ capacity: CAPACITY, slotBytes: SLOT_BYTES, controlBytes: 0 });
  const sender = new Sender(socket, batch, run.stop);
  const pace = paceOf(options);
  run.note(`sending ${path === "-" ? "standard input" : path} at ${options.interface}`);
  try {
    try {
      for (let loop = 0; loop < options.loop && !run.stop.aborted; loop++) {
        using capture = openCapture(path);
        pace.begin();
        for (const packet of capture) {
          requireLinkType(packet, socket, options.interface);
          await sender.add(packet, pace.next(packet));
          if (run.stop.aborted) break;
        }
      }
    } finally {
      // What is before the damage of a file goes out; what Ctrl-C came before does not.
      if (!run.stop.aborted) await sender.flush();
    }
  } finally {
    // Also of what was sent before something went wrong.
    sender.report(run, options.topspeed !== true);
  }
  return sender.isComplete ? SUCCESS : FAILURE;
}

function openCapture(path: string): CaptureReader {
  return CaptureFile.open(path === "-" ? 0 : path);
}

function requireLinkType(packet: CapturedPacket, socket: PacketSocket, name: string): void {
  const { linkType } = socket;
  if (linkType === undefined || packet.linkType === linkType) return;
  throw new Error(
    `Cannot send frames of link type ${nameOf(packet.linkType)} at ${name}: ` +
      `expected ${nameOf(linkType)}`,
  );
}

function nameOf(linkType: number): string {
  return linkTypeName(linkType) ?? String(linkType);
}

/** When frames are due, in nanoseconds from the start. */
interface Pace {
  /** The file begins, or begins again. */
  begin(): void;
  next(packet: CapturedPacket): number;
}

function paceOf({ topspeed, rate, speed = 1 }: ReplayOptions): Pace {
  if (topspeed) return { begin() {}, next: () => 0 };
  if (rate !== undefined) {
    let frames = 0;
    return { begin() {}, next: () => (frames++ / rate) * NS };
  }
  let first: CapturedPacket | undefined;
  let begin = 0;
  let last = 0;
  return {
    // The first frame follows the last one at once.
    begin() {
      first = undefined;
      begin = last;
    },
    next(packet) {
      first ??= packet;
      const seconds = (packet.seconds ?? 0) - (first.seconds ?? 0);
      const nanoseconds = (packet.nanoseconds ?? 0) - (first.nanoseconds ?? 0);
      // A capture of several interfaces can go back a little.
      last = Math.max(last, begin + (seconds * NS + nanoseconds) / speed);
      return last;
    },
  };
}

/** Sends frames when they are due, those that are due together in one call. */
class Sender {
  readonly #socket: PacketSocket;
  readonly #batch: DatagramBatch;
  readonly #stop: AbortSignal;
  readonly #pause: Pause;
  readonly #due = new Float64Array(CAPACITY);
  readonly #late = new Spread();
  readonly #failures = new Map<string, number>();
  #start = 0;
  #end = 0;
  #frames = 0;
  #bytes = 0;
  #cut = 0;

  constructor(socket: PacketSocket, batch: DatagramBatch, stop: AbortSignal) {
    this.#socket = socket;
    this.#batch = batch;
    this.#stop = stop;
    this.#pause = new Pause(stop);
    batch.count = 0;
    // The first call takes a millisecond, which the first frame would be late.
    socket.sendBatchSync(batch);
  }

  /** Whether every frame went out that was to. */
  get isComplete(): boolean {
    return this.#failures.size === 0;
  }

  async add(packet: CapturedPacket, due: number): Promise<void> {
    if (this.#start === 0) this.#start = this.#end = Bun.nanoseconds();
    const batch = this.#batch;
    const at = this.#start + due;
    if (batch.count === CAPACITY || (batch.count > 0 && at > Bun.nanoseconds())) await this.flush();
    await this.#pause.until(at);
    if (this.#stop.aborted) return;
    const { bytes, originalLength } = packet;
    if (bytes.length < originalLength) this.#cut++;
    if (bytes.length > SLOT_BYTES) {
      this.#fail("EMSGSIZE");
      return;
    }
    const slot = batch.count++;
    batch.write(slot, bytes);
    this.#due[slot] = at;
  }

  /** Sends what there is. */
  async flush(): Promise<void> {
    const batch = this.#batch;
    const { count } = batch;
    try {
      for (let next = 0; next < count; ) {
        const now = Bun.nanoseconds();
        this.#socket.sendBatchSync(batch, next);
        this.#end = Bun.nanoseconds();
        const { stopped } = batch;
        const end = stopped?.index ?? count;
        for (; next < end; next++) this.#account(next, now);
        if (stopped === undefined) continue;
        if (stopped.code !== "ENOBUFS") throw new Error(`sending stopped: ${stopped.code}`);
        // The queue of the device is full: it empties by itself.
        await Bun.sleep(FULL_QUEUE_MS);
        if (this.#stop.aborted) break;
      }
    } finally {
      // Nothing is sent twice, whatever went wrong.
      batch.count = 0;
    }
  }

  #account(slot: number, now: number): void {
    const failure = this.#batch.failed > 0 ? this.#batch.failure(slot) : undefined;
    if (failure !== undefined) {
      this.#fail(failure);
      return;
    }
    this.#frames++;
    this.#bytes += this.#batch.length(slot);
    this.#late.record(now - (this.#due[slot] as number));
  }

  #fail(code: string): void {
    this.#failures.set(code, (this.#failures.get(code) ?? 0) + 1);
  }

  report({ json, output }: Run, isPaced: boolean): void {
    const durationMs = (this.#end - this.#start) / 1e6;
    const perSecond = (count: number) => (durationMs > 0 ? (count * 1000) / durationMs : 0);
    const error = isPaced ? this.#late.summary(US) : undefined;
    const failures = [...this.#failures];
    if (json) {
      output.json({
        type: "summary",
        frames: this.#frames,
        bytes: this.#bytes,
        durationMs: round(durationMs, 3),
        framesPerSecond: round(perSecond(this.#frames), 1),
        bitsPerSecond: Math.round(perSecond(this.#bytes * 8)),
        pacingErrorUs: error ?? null,
        failures: Object.fromEntries(failures),
        cutInCapture: this.#cut,
      });
      return;
    }
    output.line(
      `${this.#frames} frames, ${this.#bytes} bytes in ${round(durationMs / 1000, 6)} s: ` +
        `${round(perSecond(this.#frames), 1)} frames/s, ` +
        `${round(perSecond(this.#bytes * 8) / 1e6, 3)} Mbit/s`,
    );
    if (error)
      output.line(`pacing error: p50 ${error.p50} µs, p99 ${error.p99} µs, max ${error.max} µs`);
    for (const [code, count] of failures) output.line(`not sent: ${count} frames (${code})`);
    if (this.#cut > 0) output.line(`sent as short as they were captured: ${this.#cut} frames`);
  }
}
