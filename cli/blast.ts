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
  type FragmentOptions,
  noteFragments,
  refusalText,
  remote,
  setFragments,
  titleOf,
  withFamily,
  withFragments,
} from "./endpoint.ts";
import { Pause } from "./pause.ts";
import {
  Clock,
  newRun,
  OVER,
  OVER_BYTES,
  PROBE,
  PROBE_BYTES,
  runText,
  setRun,
  setSequence,
  setTime,
  setUnsent,
} from "./probe.ts";
import { round, Spread } from "./spread.ts";
import { bitRateText, rateText } from "./units.ts";
import { byteCount, count, integer, durationAboveZero as time } from "./values.ts";

interface BlastOptions extends CommonOptions, FamilyOptions, FragmentOptions {
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
/** So often it is told how it goes. */
const TELL_NS = 1e9;
/** How late what was to go out before the end of the duration may still do so. */
const LATE_NS = 100e6;
const FACTORS: Readonly<Record<string, number>> = { "": 1, k: 1e3, M: 1e6, G: 1e9 };

/** `blast`: sends datagrams that `sink` knows. */
export function blastCommand(): Command {
  const command = makeCommand("blast", "Sends UDP datagrams, at a rate or as fast as it goes.", {
    examples: [
      [
        "bun-sockets blast 192.0.2.1:9000",
        "as fast as it goes, until Ctrl-C; there runs: bun-sockets sink",
      ],
      ["bun-sockets blast 192.0.2.1:9000 --rate 10k -d 10s", "10,000 a second, for ten seconds"],
      ["bun-sockets blast 192.0.2.1:9000 --rate 1Gbit --size 1400", "a Gbit/s of payload"],
      ["bun-sockets blast [::1]:9000 --gso -c 1M --json", "a million, in trains"],
    ],
    exitCodes:
      "Exit codes: 0 done (also when ended by Ctrl-C), 1 some could not be sent, 2 wrong usage.",
  })
    .argument("<target>", 'where to send: "host:port"', remote)
    .option("-s, --size <bytes>", "of payload", integer(PROBE_BYTES, PAYLOAD_MAX), 1200)
    .option("--gso", "in trains that the kernel cuts apart (UDP_SEGMENT), as long as it allows")
    .option("--segments <datagrams>", "of a train; means --gso", integer(1, TRAIN_MAX))
    .option("-b, --batch <datagrams>", "of a call, or trains", integer(1, 1024), 64)
    .option("-c, --count <datagrams>", 'end after so many: "1000", "10k"', count(2 ** 53 - 1))
    .addOption(
      new Option("-d, --duration <time>", 'end after so long: seconds, or "500ms"').argParser(time),
    )
    .addOption(
      new Option(
        "-r, --rate <rate>",
        'datagrams a second ("50000", "50k"), or "100Mbit", "1Gbit" of payload',
      ).argParser(rate),
    )
    .option("--buffer <bytes>", 'of send buffer: "262144", "4Mi"', byteCount(2 ** 30 - 1));
  return withAction<BlastOptions>(withFamily(withFragments(command)), (run, options) =>
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
  setFragments(socket, options);
  socket.connectSync(address);
  const segments = segmentsOf(options, socket);
  const size = segments * options.size;
  using batch = new DatagramBatch({ capacity: options.batch, slotBytes: size });
  const sender = new Sender(run, socket, batch, options, segments);
  sender.begin(titleOf(target, address), address);
  noteFragments(run, socket, options);
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
  /** Whether the duration is what ends it. */
  readonly #isTimed: boolean;
  /** Nanoseconds from one datagram to the next; undefined as fast as it goes. */
  readonly #intervalNs: number | undefined;
  readonly #late = new Spread();
  readonly #failures = new Map<string, number>();
  readonly #refusals = new Map<string, number>();
  #startCpu = process.cpuUsage();
  #start = 0;
  #end = 0;
  /** When it was stopped before its end. */
  #stopped = Number.POSITIVE_INFINITY;
  #cpuUs = 0;
  /** Datagrams that were tried, which the pace goes by; those that went out; their payload's number. */
  #tried = 0;
  #sent = 0;
  /** The next sequence number, and the one after the last that went out. */
  #sequence = 0;
  #used = 0;
  /** Numbers that are known to have come to nothing, below the last that went out. */
  #unsent = 0;
  /** The slot that is sent next. */
  #first = 0;
  #calls = 0;
  #notices = 0;
  #fullQueues = 0;
  /** When it is told next how it goes, and what was told before. */
  #tellAt = 0;
  #toldAt = 0;
  #toldSent = 0;
  #toldFailed = 0;

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
    this.#durationNs = (duration ?? Number.POSITIVE_INFINITY) * 1e6;
    if (asked !== undefined) {
      const bits = asked.unit === "bits" ? 8 * size : 1;
      this.#intervalNs = (NS * bits) / asked.perSecond;
    }
    // Those that are due before the end, whatever the last digit of a fraction is.
    const due = Math.ceil(this.#durationNs / (this.#intervalNs ?? 0) - 1e-6);
    const most = count ?? Number.POSITIVE_INFINITY;
    this.#count = Math.min(due, most);
    this.#isTimed = duration !== undefined && due <= most;
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
    const pathMtu = this.#socket.pathMtu ?? null;
    if (json) output.json({ type: "sending", run, address: host, port, ...sizes, pathMtu });
    else
      output.line(
        `run ${run} to ${title}: ${sizes.size} bytes of payload` +
          (sizes.segments > 1 ? `, in trains of ${sizes.segments}` : "") +
          `, up to ${sizes.batch} a call`,
      );
    output.flush();
  }

  /** Sends all. */
  async send(): Promise<void> {
    // The first call takes a millisecond, which the first datagram would be late.
    this.#batch.count = 0;
    this.#socket.trySendBatch(this.#batch);
    this.#startCpu = process.cpuUsage();
    this.#start = this.#end = this.#toldAt = Bun.nanoseconds();
    this.#tellAt = this.#start + TELL_NS;
    try {
      for (;;) {
        const slots = this.#due(Bun.nanoseconds());
        if (slots === 0) break;
        if (slots > 0) await this.#sendSlots(slots);
        else await this.#pause.until(Math.min(this.#dueAt(this.#tried), this.#tellAt));
        await this.#look(slots < 0);
      }
      // Who says how long has it last so long, also where the last one went out before that.
      if (this.#isTimed) await this.#pause.until(this.#start + this.#durationNs);
    } finally {
      if (this.#run.stop.aborted) this.#stopped = Bun.nanoseconds();
      const { user, system } = process.cpuUsage(this.#startCpu);
      this.#cpuUs = user + system;
      await this.#tellEnd();
      this.#hear();
    }
  }

  /** Gives the event loop its turn, listens, and tells how it goes, each when it is time for it. */
  async #look(hasWaited: boolean): Promise<void> {
    const now = Bun.nanoseconds();
    if (now >= this.#tellAt) this.#tell(now);
    const isTurnDue = this.#pause.isTurnDue(now);
    if (hasWaited || isTurnDue) this.#hear();
    if (isTurnDue) await this.#pause.turn();
  }

  /** How many slots are due: -1 where it is to be waited for them, 0 in the end. */
  #due(now: number): number {
    const left = this.#count - this.#tried;
    const at = this.#dueAt(this.#tried);
    if (left <= 0 || this.#isOver(now) || this.#run.stop.aborted) return 0;
    const slots = Math.min(this.#batch.capacity, Math.ceil(left / this.#segments));
    if (this.#intervalNs === undefined) return slots;
    if (at > now && !this.#pause.tryUntil(at)) return -1;
    const late = Math.max(0, now - at) / this.#intervalNs / this.#segments;
    return Math.min(slots, 1 + Math.floor(late));
  }

  /** Whether the duration is over. A paced sender that is a little late may finish. */
  #isOver(now: number): boolean {
    const endNs = this.#start + this.#durationNs;
    const isLate = this.#intervalNs !== undefined && now - this.#dueAt(this.#tried) <= LATE_NS;
    return now >= (isLate ? endNs + LATE_NS : endNs);
  }

  #dueAt(count: number): number {
    return this.#start + count * (this.#intervalNs ?? 0);
  }

  /** Sends so many slots, waiting for room. */
  async #sendSlots(slots: number): Promise<void> {
    this.#fill(slots);
    while (!this.#flush()) if (!(await this.#isToGoOn())) break;
    // What did not go out has no number, so that the receiver misses nothing. Of a train that
    // failed some may be on their way.
    if (this.#segments > 1) this.#skipTo(this.#sequence);
    else this.#sequence = this.#used;
    if (this.#batch.failed > 0) await this.#failed();
  }

  /** Numbers the datagrams of so many slots. */
  #fill(slots: number): void {
    const batch = this.#batch;
    batch.count = slots;
    this.#first = 0;
    let left = this.#count - this.#tried;
    for (let i = 0, sequence = this.#sequence; i < slots; i++) {
      const count = Math.min(this.#segments, left);
      // Only the very last one is shorter.
      if (count < this.#segments) batch.setLength(i, count * this.#size);
      for (let k = 0, at = batch.offset(i); k < count; k++, at += this.#size)
        setSequence(this.#view, at, sequence++);
      left -= count;
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
      if (this.#intervalNs !== undefined) this.#late.record(now - this.#dueAt(this.#tried));
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
    const now = Bun.nanoseconds();
    await this.#look(true);
    return !this.#run.stop.aborted && now < this.#start + this.#durationNs + LATE_NS;
  }

  /** Not so fast, where nothing goes out; and not at all, where nothing has. */
  async #failed(): Promise<void> {
    if (this.#sent === 0) throw nothingSent([...this.#failures.keys()]);
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
    this.#tried += count;
    this.#sequence += count;
    if (failure === undefined) {
      this.#sent += count;
      this.#skipTo(this.#sequence - count);
      this.#used += count;
    } else this.#failures.set(failure, (this.#failures.get(failure) ?? 0) + count);
  }

  /** Says of the numbers from the last that went out to this one that they came to nothing. */
  #skipTo(sequence: number): void {
    this.#unsent += sequence - this.#used;
    this.#used = sequence;
  }

  /** Counts what the network has refused. */
  #hear(): void {
    const socket = this.#socket;
    for (let error = socket.tryReceiveError(); error; error = socket.tryReceiveError()) {
      // What this host could not send is known by the send that failed.
      if (error.kind !== "icmp" && (error.kind !== "pathMtu" || !error.offender)) continue;
      const code = error.kind === "pathMtu" ? "EMSGSIZE" : error.code;
      this.#refusals.set(code, (this.#refusals.get(code) ?? 0) + 1);
    }
  }

  /** Tells the receiver how many there were. */
  async #tellEnd(): Promise<void> {
    const bytes = new Uint8Array(new ArrayBuffer(OVER_BYTES));
    const view = new DataView(bytes.buffer);
    setRun(view, 0, OVER, this.#id);
    setSequence(view, 0, this.#used);
    setUnsent(view, 0, this.#unsent);
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

  /** Tells of the time since the last look. */
  #tell(now: number): void {
    const durationMs = (now - this.#toldAt) / 1e6;
    const sent = this.#sent - this.#toldSent;
    const failed = this.#tried - this.#sent - this.#toldFailed;
    this.#toldAt = now;
    this.#toldSent += sent;
    this.#toldFailed += failed;
    while (this.#tellAt <= now) this.#tellAt += TELL_NS;
    const datagramsPerSecond = (sent * 1000) / durationMs;
    const bitsPerSecond = datagramsPerSecond * this.#size * 8;
    const elapsedMs = (now - this.#start) / 1e6;
    const { json, output } = this.#run;
    if (json) {
      output.json({
        type: "interval",
        elapsedMs: round(elapsedMs, 3),
        durationMs: round(durationMs, 3),
        sent,
        notSent: failed,
        datagramsPerSecond: round(datagramsPerSecond, 1),
        bitsPerSecond: Math.round(bitsPerSecond),
      });
    } else {
      const rest = failed > 0 ? `, not sent ${failed}` : "";
      output.line(
        `${round(elapsedMs / 1000, 1)} s: ${rateText(datagramsPerSecond)} datagrams/s, ` +
          `${bitRateText(bitsPerSecond)}${rest}`,
      );
    }
    output.flush();
  }

  /** Tells of all. */
  report(): void {
    const { json, output } = this.#run;
    // A pace gives each datagram its time, also the last one.
    const paceNs = this.#tried * (this.#intervalNs ?? 0);
    const timeNs = Math.max(this.#end - this.#start, paceNs);
    // Who was stopped before that time was over has not taken it.
    const durationMs = Math.min(timeNs, this.#stopped - this.#start) / 1e6;
    const perSecond = (count: number) => (timeNs > 0 ? (count * NS) / timeNs : 0);
    const sent = this.#sent;
    const bytes = sent * this.#size;
    const datagramsPerSecond = perSecond(sent);
    const bitsPerSecond = perSecond(bytes * 8);
    const cpuNs = sent > 0 ? round((this.#cpuUs * US) / sent, 1) : null;
    const late = this.#late.summary(US);
    const { trains, segments, fallbacks } = this.#socket.offload;
    const wanted = this.#intervalNs === undefined ? null : NS / this.#intervalNs;
    if (json) {
      output.json({
        type: "summary",
        run: runText(this.#id),
        sent,
        notSent: this.#tried - sent,
        bytes,
        durationMs: round(durationMs, 3),
        datagramsPerSecond: round(datagramsPerSecond, 1),
        bitsPerSecond: Math.round(bitsPerSecond),
        wantedPerSecond: wanted === null ? null : round(wanted, 3),
        pacingErrorUs: late ?? null,
        cpuNsPerDatagram: cpuNs,
        calls: this.#calls,
        trains,
        segmentsPerTrain: trains > 0 ? round(segments / trains, 2) : null,
        trainsRefused: fallbacks,
        fullQueues: this.#fullQueues,
        failures: Object.fromEntries(this.#failures),
        refused: Object.fromEntries(this.#refusals),
        notices: this.#notices,
      });
      return;
    }
    output.line(
      `${sent} datagrams, ${bytes} bytes in ${round(durationMs / 1000, 6)} s: ` +
        `${rateText(datagramsPerSecond)} datagrams/s, ${bitRateText(bitsPerSecond)}`,
    );
    if (wanted !== null && late)
      output.line(
        `${round((100 * datagramsPerSecond) / wanted, 2)} % of the rate; ` +
          `late by µs: p50 ${late.p50}, p99 ${late.p99}, max ${late.max}`,
      );
    // Who waits for the time looks at the clock: what a datagram costs does not show.
    const share = round(this.#cpuUs / 10 / Math.max(1, durationMs), 0);
    if (wanted !== null) output.line(`CPU: ${share} % of a core, with the waiting`);
    else if (cpuNs !== null) output.line(`CPU time: ${cpuNs} ns a datagram; ${this.#calls} calls`);
    if (trains > 0)
      output.line(`${trains} trains of ${round(segments / trains, 2)} datagrams on average`);
    if (fallbacks > 0) output.line(`${fallbacks} trains were refused and went out one by one`);
    if (this.#fullQueues > 0)
      output.line(`the device's queue was full ${this.#fullQueues} times (ENOBUFS)`);
    for (const [code, count] of this.#failures) output.line(`not sent: ${count} (${code})`);
    for (const [code, count] of this.#refusals)
      output.line(`refused by the network: ${count} (${refusalText(code)})`);
  }
}

/** Why nothing went out at all. */
function nothingSent(codes: readonly string[]): Error {
  const error = new Error(`nothing can be sent: ${codes.join(", ")}`);
  if (codes.includes("EMSGSIZE"))
    return Object.assign(error, { hint: "A smaller --size, or no --no-fragment" });
  if (codes.includes("EPERM"))
    return Object.assign(error, { hint: "A firewall of this machine drops it" });
  return error;
}
