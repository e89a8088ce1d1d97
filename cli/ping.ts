import { DatagramBatch, type InetAddress, SystemError, TimeoutError, UdpSocket } from "bun-sockets";
import { type Command, Option } from "commander";
import { Bars, barLines } from "./bars.ts";
import {
  type CommonOptions,
  FAILURE,
  makeCommand,
  type Run,
  reporting,
  SUCCESS,
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
import {
  Clock,
  kindOf,
  newRun,
  PROBE,
  PROBE_BYTES,
  runOf,
  sequenceOf,
  setRun,
  setSequence,
  setTime,
} from "./probe.ts";
import { round, Spread, spreadText } from "./spread.ts";
import { count, durationAboveZero, integer, duration as time } from "./values.ts";

interface PingOptions extends CommonOptions, FamilyOptions, FragmentOptions {
  readonly count?: number;
  /** In milliseconds, as `timeout`. */
  readonly interval: number;
  readonly timeout: number;
  readonly size: number;
  readonly quiet?: true;
}

const CAPACITY = 64;
const SLOT_BYTES = 65_536;
const MS = 1e6;
const US = 1e3;
/** Probes that are remembered. */
const REMEMBERED = 2 ** 16;
// Bun's timers are a millisecond late: what is nearer is waited for by looking.
const TIMER_SLACK_MS = 2;
const TURN_MS = 20;

/** `ping`: asks an echo server. */
export function pingCommand(): Command {
  const command = makeCommand(
    "ping",
    "Measures the round trips of UDP datagrams to an echo server.",
    {
      examples: [
        [
          "bun-sockets ping 192.0.2.1:9000",
          "once a second, until Ctrl-C; there runs: bun-sockets echo",
        ],
        ["bun-sockets ping [::1]:9000 -c 10000 -i 0 -q", "ten thousand, each after the answer"],
        [
          "bun-sockets ping 192.0.2.1:9000 -i 10ms -s 1400 --json",
          "large ones, a hundred a second",
        ],
      ],
      exitCodes:
        "Exit codes: 0 there were answers, 1 there was none or something failed, 2 wrong usage.",
    },
  )
    .argument("<target>", 'whom to ask: "host:port"', remote)
    .option("-c, --count <probes>", 'end after so many: "100", "10k"', count(2 ** 31 - 1))
    .addOption(
      new Option(
        "-i, --interval <time>",
        'between two: seconds, or "200ms"; 0 waits for each answer instead',
      )
        .argParser(time)
        .default(1000, "1s"),
    )
    .addOption(
      new Option("--timeout <time>", "how long an answer may take")
        .argParser(durationAboveZero)
        .default(2000, "2s"),
    )
    .option("-s, --size <bytes>", "of payload", integer(PROBE_BYTES, 65_507), 64)
    .option("-q, --quiet", "only the summary");
  return withAction<PingOptions>(withFamily(withFragments(command)), (run, options) =>
    ping(run, options, command.processedArgs[0]),
  );
}

async function ping(run: Run, options: PingOptions, target: Endpoint): Promise<number> {
  const address = await addressOf(target, options, run.stop);
  // What the network refuses is told, and fails no send.
  using socket = UdpSocket.open(address, { queueErrors: true, metadata: ["timestamp"] });
  setFragments(socket, options);
  socket.connectSync(address);
  using batch = new DatagramBatch({ capacity: CAPACITY, slotBytes: SLOT_BYTES });
  const title = titleOf(target, address);
  const pinger = new Pinger(run, socket, batch, options, address);
  if (!run.json) run.output.line(`${title}: ${options.size} bytes of payload`);
  run.output.flush();
  noteFragments(run, socket, options);
  await reporting(
    () => pinger.send(),
    () => pinger.report(title),
  );
  return pinger.answered > 0 ? SUCCESS : FAILURE;
}

// What has become of a probe.
const WAITING = 1;
const ANSWERED = 2;
const LOST = 3;

/** Asks, listens, and counts. */
class Pinger {
  readonly #run: Run;
  readonly #socket: UdpSocket;
  readonly #batch: DatagramBatch;
  readonly #view: DataView;
  readonly #address: InetAddress;
  readonly #count: number;
  readonly #intervalMs: number;
  readonly #timeoutMs: number;
  readonly #isQuiet: boolean;
  readonly #clock = new Clock();
  readonly #beginSeconds: number;
  readonly #id = newRun();
  readonly #probe: Uint8Array<ArrayBuffer>;
  readonly #probeView: DataView;
  readonly #roundTrips = new Spread();
  readonly #bars = new Bars();
  readonly #refusals = new Map<string, number>();
  /** Of the last probes: what has become of them, and when they were sent, by both clocks. */
  readonly #states = new Uint8Array(REMEMBERED);
  readonly #wallNs = new Float64Array(REMEMBERED);
  readonly #sentMs = new Float64Array(REMEMBERED);
  /** The next sequence number. */
  #next = 0;
  /** All before this one are answered or lost. */
  #oldest = 0;
  #waiting = 0;
  #highest = -1;
  #lost = 0;
  #late = 0;
  #duplicates = 0;
  #reordered = 0;
  #foreign = 0;
  #failed = 0;

  constructor(
    run: Run,
    socket: UdpSocket,
    batch: DatagramBatch,
    { count, interval, timeout, size, quiet }: PingOptions,
    address: InetAddress,
  ) {
    this.#run = run;
    this.#socket = socket;
    this.#batch = batch;
    this.#address = address;
    this.#count = count ?? Number.POSITIVE_INFINITY;
    this.#intervalMs = interval;
    this.#timeoutMs = timeout;
    this.#isQuiet = quiet === true;
    const { buffer, byteOffset, byteLength } = batch.memory;
    this.#view = new DataView(buffer, byteOffset, byteLength);
    this.#probe = new Uint8Array(new ArrayBuffer(size)).map((_, i) => i);
    this.#probeView = new DataView(this.#probe.buffer);
    setRun(this.#probeView, 0, PROBE, this.#id);
    this.#clock.read();
    this.#beginSeconds = this.#clock.seconds;
  }

  /** How many probes were answered. */
  get answered(): number {
    return this.#roundTrips.count;
  }

  /** Sends all, and waits for the last answers. */
  async send(): Promise<void> {
    const { stop } = this.#run;
    const begin = performance.now();
    let turn = begin;
    while (!stop.aborted && (this.#next < this.#count || this.#waiting > 0)) {
      const now = performance.now();
      this.#listen();
      this.#giveUp(now);
      const at = this.#nextAt(begin);
      if (now >= at) {
        this.#ask();
        continue;
      }
      // Whatever comes next: the oldest one is the first to be lost.
      const until = Math.min(at, this.#giveUpAt());
      // The last one is settled.
      if (until === Number.POSITIVE_INFINITY) break;
      const isSoon = at - now < TIMER_SLACK_MS;
      if (isSoon && now - turn < TURN_MS) continue;
      await this.#wait(isSoon ? 0 : Math.max(0, until - now));
      turn = performance.now();
    }
    this.#listen();
  }

  /** When the next probe is due: never, where it is to be waited for an answer, or there is none. */
  #nextAt(begin: number): number {
    if (this.#next >= this.#count) return Number.POSITIVE_INFINITY;
    if (this.#intervalMs > 0) return begin + this.#next * this.#intervalMs;
    return this.#waiting > 0 ? Number.POSITIVE_INFINITY : 0;
  }

  #giveUpAt(): number {
    if (this.#waiting === 0) return Number.POSITIVE_INFINITY;
    return (this.#sentMs[this.#oldest % REMEMBERED] as number) + this.#timeoutMs;
  }

  async #wait(timeoutMs: number): Promise<void> {
    this.#run.output.flush();
    if (timeoutMs === 0) {
      await new Promise((resolve) => setImmediate(resolve));
      return;
    }
    try {
      await this.#socket.receiveBatch(this.#batch, { timeoutMs, signal: this.#run.stop });
      this.#takeBatch();
    } catch (error) {
      if (!(error instanceof TimeoutError) && !this.#run.stop.aborted) throw error;
    }
  }

  /** Takes what is there. */
  #listen(): void {
    while (this.#socket.tryReceiveBatch(this.#batch) > 0) this.#takeBatch();
    for (let e = this.#socket.tryReceiveError(); e; e = this.#socket.tryReceiveError())
      // What this host could not send is known by the send that failed.
      if (e.kind === "icmp") this.#refuse(e.code);
      else if (e.kind === "pathMtu" && e.offender) this.#refuse("EMSGSIZE");
  }

  #refuse(code: string): void {
    this.#refusals.set(code, (this.#refusals.get(code) ?? 0) + 1);
    const { json, output } = this.#run;
    if (this.#isQuiet) return;
    if (json) output.json({ type: "refusal", code });
    else output.line(`refused: ${code}`);
  }

  #ask(): void {
    const sequence = this.#next++;
    const i = sequence % REMEMBERED;
    // Nobody can remember so many.
    if (sequence - this.#oldest >= REMEMBERED) this.#lose(this.#oldest++);
    setSequence(this.#probeView, 0, sequence);
    const clock = this.#clock;
    clock.read();
    setTime(this.#probeView, 0, clock);
    this.#wallNs[i] = (clock.seconds - this.#beginSeconds) * 1e9 + clock.nanoseconds;
    this.#sentMs[i] = performance.now();
    this.#states[i] = WAITING;
    this.#waiting++;
    try {
      if (this.#socket.trySend(this.#probe) === undefined) this.#fail(sequence, "EAGAIN");
    } catch (error) {
      if (!(error instanceof SystemError)) throw error;
      this.#fail(sequence, error.code);
    }
  }

  #fail(sequence: number, code: string): void {
    this.#failed++;
    this.#lose(sequence, code);
  }

  /** Gives up on those that have waited too long. */
  #giveUp(now: number): void {
    for (; this.#oldest < this.#next; this.#oldest++) {
      const i = this.#oldest % REMEMBERED;
      if (this.#states[i] !== WAITING) continue;
      if (now - (this.#sentMs[i] as number) < this.#timeoutMs) return;
      this.#lose(this.#oldest);
    }
  }

  #lose(sequence: number, code = "ETIMEDOUT"): void {
    const i = sequence % REMEMBERED;
    if (this.#states[i] !== WAITING) return;
    this.#states[i] = LOST;
    this.#waiting--;
    this.#lost++;
    if (this.#isQuiet) return;
    const { json, output } = this.#run;
    if (json) output.json({ type: "failure", sequence, code });
    else output.line(`no answer: seq ${sequence}${code === "ETIMEDOUT" ? "" : `: ${code}`}`);
  }

  #takeBatch(): void {
    const batch = this.#batch;
    // Without the kernel's time it is now.
    this.#clock.read();
    for (let i = 0; i < batch.count; i++) {
      const at = batch.offset(i);
      const isOurs =
        batch.length(i) === this.#probe.length &&
        kindOf(this.#view, at, batch.length(i)) === PROBE &&
        runOf(this.#view, at) === this.#id;
      const sequence = isOurs ? sequenceOf(this.#view, at) : -1;
      if (sequence < 0 || sequence >= this.#next || sequence < this.#next - REMEMBERED) {
        this.#foreign++;
        continue;
      }
      let seconds = batch.timestampSeconds(i);
      let nanoseconds = batch.timestampNanoseconds(i);
      if (seconds < 0) ({ seconds, nanoseconds } = this.#clock);
      this.#answer(sequence, (seconds - this.#beginSeconds) * 1e9 + nanoseconds);
    }
  }

  #answer(sequence: number, wallNs: number): void {
    const i = sequence % REMEMBERED;
    const roundTripNs = Math.max(0, wallNs - (this.#wallNs[i] as number));
    const state = this.#states[i];
    const isReordered = state === WAITING && sequence < this.#highest;
    if (state === ANSWERED) this.#duplicates++;
    else if (state === LOST) this.#late++;
    else {
      this.#waiting--;
      this.#roundTrips.record(roundTripNs);
      this.#bars.record(roundTripNs);
      if (isReordered) this.#reordered++;
      this.#highest = Math.max(this.#highest, sequence);
    }
    this.#states[i] = ANSWERED;
    if (!this.#isQuiet) this.#tell(sequence, roundTripNs, state ?? WAITING, isReordered);
  }

  #tell(sequence: number, roundTripNs: number, state: number, reordered: boolean): void {
    const { json, output } = this.#run;
    const roundTripMs = round(roundTripNs / MS, 3);
    const duplicate = state === ANSWERED;
    const late = state === LOST;
    if (json) {
      output.json({ type: "reply", sequence, roundTripMs, duplicate, late, reordered });
      return;
    }
    output.line(
      `${this.#probe.length} bytes from ${this.#address}: seq ${sequence} time ${roundTripMs} ms` +
        (duplicate ? " (duplicate)" : late ? " (too late)" : reordered ? " (out of order)" : ""),
    );
  }

  report(title: string): void {
    const { answered } = this;
    const settled = answered + this.#lost;
    const lostPercent = settled > 0 ? round((100 * this.#lost) / settled, 3) : 0;
    const roundTripUs = this.#roundTrips.summary(US);
    const rows = this.#bars.rows();
    const { json, output } = this.#run;
    if (json) {
      output.json({
        type: "summary",
        address: this.#address.host,
        port: this.#address.port,
        sent: this.#next,
        answered,
        lost: this.#lost,
        waiting: this.#waiting,
        lostPercent,
        late: this.#late,
        duplicates: this.#duplicates,
        reordered: this.#reordered,
        foreign: this.#foreign,
        failed: this.#failed,
        refused: Object.fromEntries(this.#refusals),
        roundTripUs: roundTripUs ?? null,
        histogramUs: rows.map(({ from, to, count }) => [us(from), us(to), count]),
      });
      return;
    }
    const rest = [
      `${this.#next} sent, ${answered} answered, ${this.#lost} lost (${lostPercent} %)`,
      ...named(this.#waiting, "not waited for"),
      ...named(this.#late, "came too late"),
      ...named(this.#duplicates, "duplicates"),
      ...named(this.#reordered, "out of order"),
      ...named(this.#foreign, "foreign"),
    ];
    output.line(`${title}: ${rest.join(", ")}`);
    for (const [code, count] of this.#refusals)
      output.line(`refused: ${count} (${refusalText(code)})`);
    if (roundTripUs === undefined) return;
    output.line(`round trip in µs: ${spreadText(roundTripUs)}`);
    for (const line of barLines(rows, (ns) => `${us(ns)} µs`)) output.line(line);
  }
}

function named(count: number, what: string): string[] {
  return count > 0 ? [`${count} ${what}`] : [];
}

/** Nanoseconds in µs, as exactly as a class of a histogram is. */
function us(nanoseconds: number): number {
  return Number((nanoseconds / US).toPrecision(3));
}
