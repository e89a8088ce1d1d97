import { DatagramBatch, type InetAddress, SystemError, TimeoutError, UdpSocket } from "bun-sockets";
import { type Command, InvalidArgumentError, Option } from "commander";
import {
  type CommonOptions,
  FAILURE,
  makeCommand,
  type Run,
  reporting,
  SUCCESS,
  UsageError,
  withAction,
} from "./command.ts";
import {
  addressOf,
  type Endpoint,
  type FamilyOptions,
  remote,
  titleOf,
  withFamily,
} from "./endpoint.ts";
import { Pause } from "./pause.ts";
import {
  Clock,
  newRun,
  OVER,
  PROBE,
  PROBE_BYTES,
  runText,
  setRun,
  setSequence,
  setTime,
} from "./probe.ts";
import { round, Spread } from "./spread.ts";
import { integer, duration as time } from "./values.ts";

interface BlastOptions extends CommonOptions, FamilyOptions {
  readonly size: number;
  readonly gso?: true;
  readonly segments?: number;
  readonly batch: number;
  readonly count?: number;
  /** In milliseconds. */
  readonly duration?: number;
  readonly rate?: Rate;
  readonly buffer?: number;
}

/** How fast: in datagrams, or in bits of payload. */
interface Rate {
  readonly perSecond: number;
  readonly unit: "datagrams" | "bits";
}

const PAYLOAD_MAX = 65_507;
const TRAIN_MAX = 128;
const NS = 1e9;
const US = 1e3;
/** How long a call waits for room in the send buffer: then it looks whether it is to end. */
const ROOM = { timeoutMs: 20 };
const FULL_QUEUE_MS = 1;
// So often is it said that the run is over, for one may be lost.
const NOTICES = 3;
const NOTICE_PAUSE_MS = 20;
const FACTORS: Readonly<Record<string, number>> = { "": 1, k: 1e3, M: 1e6, G: 1e9 };

/** `blast`: sends datagrams that `sink` knows. */
export function blastCommand(): Command {
  const command = makeCommand("blast", "Sends UDP datagrams, at a rate or as fast as it goes.", {
    examples: [
      ["bun-sockets blast 192.0.2.1:9000 --rate 10000 -d 10s", "10,000 a second, for ten seconds"],
      ["bun-sockets blast 192.0.2.1:9000 --rate 1Gbit --size 1400", "a Gbit/s of payload"],
      ["bun-sockets blast [::1]:9000 --gso -c 1000000 --json", "a million, in trains"],
    ],
    exitCodes:
      "Exit codes: 0 done (also when ended by Ctrl-C), 1 some could not be sent, 2 wrong usage.",
  })
    .argument("<target>", 'where to send: "host:port"', remote)
    .option("-s, --size <bytes>", "of payload", integer(PROBE_BYTES, PAYLOAD_MAX), 1200)
    .option("--gso", "in trains that the kernel cuts apart (UDP_SEGMENT), as long as it allows")
    .option("--segments <datagrams>", "of a train; means --gso", integer(1, TRAIN_MAX))
    .option("-b, --batch <datagrams>", "of a call, or trains", integer(1, 1024), 64)
    .option("-c, --count <datagrams>", "end after so many", integer(1, 2 ** 53 - 1))
    .addOption(
      new Option("-d, --duration <time>", 'end after so long: seconds, or "500ms"').argParser(time),
    )
    .addOption(
      new Option(
        "-r, --rate <rate>",
        'datagrams a second ("50000", "50k"), or "100Mbit", "1Gbit" of payload',
      ).argParser(rate),
    )
    .option("--buffer <bytes>", "of send buffer", integer(1, 2 ** 30 - 1));
  return withAction<BlastOptions>(withFamily(command), (run, options) =>
    blast(run, options, command.processedArgs[0]),
  );
}

/** Reads a rate. */
export function rate(text: string): Rate {
  const [, number, factor = "", bits] =
    /^(\d+\.?\d*|\.\d+)([kMG]?)(bit)?(?:\/s)?$/.exec(text) ?? [];
  const perSecond = Number(number) * (FACTORS[factor] as number);
  if (perSecond > 0 && perSecond <= 1e15)
    return { perSecond, unit: bits === undefined ? "datagrams" : "bits" };
  throw new InvalidArgumentError(
    'Expected datagrams a second, or bits: "50000", "50k", "100Mbit", "1.5Gbit".',
  );
}

async function blast(run: Run, options: BlastOptions, target: Endpoint): Promise<number> {
  const address = await addressOf(target, options, run.stop);
  // What the network refuses is counted, and fails no send.
  using socket = UdpSocket.open(address, {
    queueErrors: true,
    sendBufferBytes: options.buffer,
  });
  socket.connectSync(address);
  const segments = segmentsOf(options, socket);
  const size = segments * options.size;
  using batch = new DatagramBatch({ capacity: options.batch, slotBytes: size });
  const sender = new Sender(run, socket, batch, options, segments);
  sender.begin(titleOf(target, address), address);
  await reporting(
    () => sender.send(),
    () => sender.report(),
  );
  return sender.isComplete ? SUCCESS : FAILURE;
}

/** Datagrams of a train; 1 is none. */
function segmentsOf({ gso, segments, size }: BlastOptions, { offload }: UdpSocket): number {
  if (!gso && segments === undefined) return 1;
  const fit = Math.floor(PAYLOAD_MAX / size);
  const most = Math.max(1, Math.min(offload.maxSegments, fit));
  if (segments === undefined || segments <= most) return segments ?? most;
  throw new UsageError(
    segments > fit
      ? `Cannot use ${segments} as --segments: a train holds ${PAYLOAD_MAX} bytes, which are ${fit} of ${size}`
      : `Cannot use ${segments} as --segments: this kernel takes ${offload.maxSegments} at most`,
  );
}

/** Sends, and counts. */
class Sender {
  readonly #run: Run;
  readonly #socket: UdpSocket;
  readonly #batch: DatagramBatch;
  readonly #view: DataView;
  readonly #clock = new Clock();
  readonly #pause: Pause;
  readonly #id = newRun();
  readonly #size: number;
  readonly #segments: number;
  readonly #count: number;
  readonly #durationNs: number;
  /** Nanoseconds from one datagram to the next; undefined as fast as it goes. */
  readonly #intervalNs: number | undefined;
  readonly #late = new Spread();
  readonly #failures = new Map<string, number>();
  readonly #refusals = new Map<string, number>();
  #startCpu = process.cpuUsage();
  #start = 0;
  #end = 0;
  #cpuUs = 0;
  /** The next sequence number. */
  #sequence = 0;
  /** The slot that is sent next, and its first number. */
  #first = 0;
  #flushed = 0;
  #sent = 0;
  #calls = 0;
  #notices = 0;
  #fullQueues = 0;

  constructor(
    run: Run,
    socket: UdpSocket,
    batch: DatagramBatch,
    { size, count, duration, rate: asked }: BlastOptions,
    segments: number,
  ) {
    this.#run = run;
    this.#socket = socket;
    this.#batch = batch;
    this.#pause = new Pause(run.stop);
    this.#size = size;
    this.#segments = segments;
    this.#count = count ?? Number.POSITIVE_INFINITY;
    this.#durationNs = (duration ?? Number.POSITIVE_INFINITY) * 1e6;
    if (asked !== undefined) {
      const bits = asked.unit === "bits" ? 8 * size : 1;
      this.#intervalNs = (NS * bits) / asked.perSecond;
    }
    const { buffer, byteOffset, byteLength } = batch.memory;
    this.#view = new DataView(buffer, byteOffset, byteLength);
    for (let i = 0; i < batch.capacity; i++) this.#layOut(i);
  }

  /** Writes what stays the same. */
  #layOut(slot: number): void {
    const batch = this.#batch;
    batch.setLength(slot, this.#segments * this.#size);
    if (this.#segments > 1) batch.setSegmentBytes(slot, this.#size);
    const begin = batch.offset(slot);
    for (let k = 0; k < this.#segments; k++) {
      const at = begin + k * this.#size;
      for (let i = PROBE_BYTES; i < this.#size; i++) batch.memory[at + i] = i;
      setRun(this.#view, at, PROBE, this.#id);
    }
  }

  /** Whether every datagram went out that was to. */
  get isComplete(): boolean {
    return this.#failures.size === 0;
  }

  /** Says what is to come. */
  begin(title: string, { host, port }: InetAddress): void {
    const { json, output } = this.#run;
    const run = runText(this.#id);
    const sizes = { size: this.#size, segments: this.#segments, batch: this.#batch.capacity };
    if (json) output.json({ type: "sending", run, address: host, port, ...sizes });
    else
      output.line(
        `run ${run} to ${title}: ${sizes.size} bytes of payload, ${sizes.batch} a call` +
          (sizes.segments > 1 ? `, in trains of ${sizes.segments}` : ""),
      );
    output.flush();
  }

  /** Sends all. */
  async send(): Promise<void> {
    // The first call takes a millisecond, which the first datagram would be late.
    this.#batch.count = 0;
    this.#socket.trySendBatch(this.#batch);
    this.#startCpu = process.cpuUsage();
    this.#start = this.#end = Bun.nanoseconds();
    try {
      for (;;) {
        let slots = this.#due(Bun.nanoseconds());
        if (slots < 0) slots = await this.#wait();
        if (slots === 0) break;
        this.#fill(slots);
        while (!this.#flush()) if (!(await this.#isToGoOn())) break;
        // What did not go out has no number.
        this.#sequence = this.#flushed;
        if (this.#batch.failed > 0) await this.#failed();
        if (!this.#pause.isTurnDue(Bun.nanoseconds())) continue;
        this.#hear();
        await this.#pause.turn();
      }
    } finally {
      const { user, system } = process.cpuUsage(this.#startCpu);
      this.#cpuUs = user + system;
      await this.#tellEnd();
      this.#hear();
    }
  }

  /** Waits for the next datagram's time. Returns how many slots are due, and 0 in the end. */
  async #wait(): Promise<number> {
    await this.#pause.until(this.#dueAt(this.#sequence));
    return Math.max(0, this.#due(Bun.nanoseconds()));
  }

  /** How many slots are due: -1 where it is to be waited for them, 0 in the end. */
  #due(now: number): number {
    const left = this.#count - this.#sequence;
    const at = this.#dueAt(this.#sequence);
    const endNs = this.#start + this.#durationNs;
    if (left <= 0 || now >= endNs || at >= endNs || this.#run.stop.aborted) return 0;
    const slots = Math.min(this.#batch.capacity, Math.ceil(left / this.#segments));
    if (this.#intervalNs === undefined) return slots;
    if (at > now && !this.#pause.tryUntil(at)) return -1;
    const late = Math.max(0, now - at) / this.#intervalNs / this.#segments;
    return Math.min(slots, 1 + Math.floor(late));
  }

  #dueAt(sequence: number): number {
    return this.#start + sequence * (this.#intervalNs ?? 0);
  }

  /** Numbers the datagrams of so many slots. */
  #fill(slots: number): void {
    const batch = this.#batch;
    batch.count = slots;
    this.#first = 0;
    this.#flushed = this.#sequence;
    for (let i = 0; i < slots; i++) {
      const count = Math.min(this.#segments, this.#count - this.#sequence);
      // Only the very last one is shorter.
      if (count < this.#segments) batch.setLength(i, count * this.#size);
      for (let k = 0, at = batch.offset(i); k < count; k++, at += this.#size)
        setSequence(this.#view, at, this.#sequence++);
    }
  }

  /** Says of slots that they are sent now. */
  #stamp(first: number): void {
    const batch = this.#batch;
    this.#clock.read();
    for (let i = first; i < batch.count; i++) {
      const begin = batch.offset(i);
      for (let at = begin, end = begin + batch.length(i); at < end; at += this.#size)
        setTime(this.#view, at, this.#clock);
    }
  }

  #datagrams(slot: number): number {
    return this.#batch.length(slot) / this.#size;
  }

  /** Sends the slots from `#first` on. Tells whether all were tried. */
  #flush(): boolean {
    const batch = this.#batch;
    const now = Bun.nanoseconds();
    this.#stamp(this.#first);
    const stopped = this.#sendFrom(this.#first);
    this.#end = Bun.nanoseconds();
    this.#calls++;
    for (const end = stopped?.index ?? batch.count; this.#first < end; this.#first++) {
      if (this.#intervalNs !== undefined) this.#late.record(now - this.#dueAt(this.#flushed));
      this.#flushed += this.#datagrams(this.#first);
      this.#account(this.#first);
    }
    return stopped === undefined;
  }

  /** Waits until what stopped a send is over. Tells whether it is to go on then. */
  async #isToGoOn(): Promise<boolean> {
    const code = this.#batch.stopped?.code;
    if (code === "ENOBUFS") {
      // The queue of the device is full: it empties by itself.
      this.#fullQueues++;
      await Bun.sleep(FULL_QUEUE_MS);
    } else if (code === "EAGAIN") await this.#pause.turn();
    else throw new Error(`sending stopped: ${code}`);
    return !this.#run.stop.aborted;
  }

  /** Not so fast, where nothing goes out; and not at all, where nothing has. */
  async #failed(): Promise<void> {
    if (this.#sent === 0) throw new Error(`nothing can be sent: ${[...this.#failures.keys()]}`);
    await Bun.sleep(FULL_QUEUE_MS);
  }

  #sendFrom(first: number): DatagramBatch["stopped"] {
    try {
      this.#socket.sendBatchSync(this.#batch, first, ROOM);
    } catch (error) {
      if (!(error instanceof TimeoutError)) throw error;
    }
    return this.#batch.stopped;
  }

  #account(slot: number): void {
    const failure = this.#batch.failed > 0 ? this.#batch.failure(slot) : undefined;
    const count = this.#datagrams(slot);
    if (failure === undefined) this.#sent += count;
    else this.#failures.set(failure, (this.#failures.get(failure) ?? 0) + count);
  }

  /** Counts what the network has refused. */
  #hear(): void {
    const socket = this.#socket;
    for (let error = socket.tryReceiveError(); error; error = socket.tryReceiveError()) {
      if (error.kind !== "icmp" && error.kind !== "local" && error.kind !== "pathMtu") continue;
      const code = error.kind === "pathMtu" ? "EMSGSIZE" : error.code;
      this.#refusals.set(code, (this.#refusals.get(code) ?? 0) + 1);
    }
  }

  /** Tells the receiver how many there were. */
  async #tellEnd(): Promise<void> {
    const bytes = new Uint8Array(new ArrayBuffer(PROBE_BYTES));
    const view = new DataView(bytes.buffer);
    setRun(view, 0, OVER, this.#id);
    setSequence(view, 0, this.#sequence);
    for (let k = 0; k < NOTICES; k++) {
      await Bun.sleep(NOTICE_PAUSE_MS);
      this.#clock.read();
      setTime(view, 0, this.#clock);
      try {
        if (this.#socket.trySend(bytes) !== undefined) this.#notices++;
      } catch (error) {
        if (!(error instanceof SystemError)) throw error;
      }
    }
  }

  report(): void {
    const { json, output } = this.#run;
    const durationMs = (this.#end - this.#start) / 1e6;
    const perSecond = (count: number) => (durationMs > 0 ? (count * 1000) / durationMs : 0);
    const sent = this.#sent;
    const bytes = sent * this.#size;
    const datagramsPerSecond = round(perSecond(sent), 1);
    const bitsPerSecond = Math.round(perSecond(bytes * 8));
    const cpuNs = sent > 0 ? round((this.#cpuUs * US) / sent, 1) : null;
    const late = this.#late.summary(US);
    const { trains, segments, fallbacks } = this.#socket.offload;
    const wanted = this.#intervalNs === undefined ? null : round(NS / this.#intervalNs, 3);
    const failures = Object.fromEntries(this.#failures);
    const refused = Object.fromEntries(this.#refusals);
    if (json) {
      output.json({
        type: "summary",
        run: runText(this.#id),
        sent,
        bytes,
        durationMs: round(durationMs, 3),
        datagramsPerSecond,
        bitsPerSecond,
        wantedPerSecond: wanted,
        pacingErrorUs: late ?? null,
        cpuNsPerDatagram: cpuNs,
        calls: this.#calls,
        trains,
        segmentsPerTrain: trains > 0 ? round(segments / trains, 2) : null,
        trainsRefused: fallbacks,
        fullQueues: this.#fullQueues,
        failures,
        refused,
        notices: this.#notices,
      });
      return;
    }
    output.line(
      `${sent} datagrams, ${bytes} bytes in ${round(durationMs / 1000, 6)} s: ` +
        `${datagramsPerSecond} datagrams/s, ${round(bitsPerSecond / 1e9, 6)} Gbit/s`,
    );
    if (cpuNs !== null) {
      const waits = this.#intervalNs === undefined ? "" : ", waiting for its time included";
      output.line(`CPU time: ${cpuNs} ns a datagram${waits}; ${this.#calls} calls`);
    }
    if (trains > 0)
      output.line(`${trains} trains of ${round(segments / trains, 2)} datagrams on average`);
    if (fallbacks > 0) output.line(`${fallbacks} trains were refused and went out one by one`);
    if (late)
      output.line(
        `${round((100 * datagramsPerSecond) / (wanted as number), 3)} % of the rate; ` +
          `late by µs: p50 ${late.p50}, p99 ${late.p99}, max ${late.max}`,
      );
    if (this.#fullQueues > 0)
      output.line(`the device's queue was full ${this.#fullQueues} times (ENOBUFS)`);
    for (const [code, count] of this.#failures) output.line(`not sent: ${count} (${code})`);
    for (const [code, count] of this.#refusals)
      output.line(`refused by the network: ${count} (${code})`);
  }
}
