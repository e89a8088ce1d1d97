import { isatty } from "node:tty";
import {
  DatagramBatch,
  type InetAddress,
  LossWindow,
  UdpOption,
  type UdpSocket,
} from "bun-sockets";
import { type Command, Option } from "commander";
import { Arrivals } from "./arrivals.ts";
import {
  type CommonOptions,
  makeCommand,
  type Run,
  reporting,
  SUCCESS,
  withAction,
} from "./command.ts";
import { bindAt, type FamilyOptions, localArgument, withFamily } from "./endpoint.ts";
import { Clock, FOREIGN, kindOf, OVER, runOf, runText, sequenceOf, transitNs } from "./probe.ts";
import { type EndOptions, receiveUntilEnd, withEnd } from "./reception.ts";
import { round, Spread } from "./spread.ts";
import { integer } from "./values.ts";

interface SinkOptions extends CommonOptions, EndOptions, FamilyOptions {
  readonly buffer: number;
  readonly gro: boolean;
}

const TRAIN_BYTES = 65_536;
const CAPACITY = 64;
const US = 1e3;
const STDOUT = 1;
/** Runs that are told apart: whoever makes up more of them is a stranger. */
const RUNS_MAX = 256;

/** `sink`: receives what `blast` sends, and tells what has become of it. */
export function sinkCommand(): Command {
  const command = makeCommand("sink", "Receives what blast sends: rate, loss, order, delay.", {
    examples: [
      ["bun-sockets sink 7000", "at port 7000 of all addresses, until Ctrl-C"],
      ["bun-sockets sink 127.0.0.1:7000 --idle 2s --json", "ends when nothing comes any more"],
      ["bun-sockets sink --buffer 33554432 --duration 60", "a larger receive buffer, a minute"],
    ],
  }).addArgument(localArgument());
  withEnd(command)
    .option(
      "--buffer <bytes>",
      "of receive buffer: net.core.rmem_max may allow less",
      integer(1, 2 ** 30 - 1),
      8 << 20,
    )
    .addOption(new Option("--no-gro", "take no trains of datagrams (UDP_GRO) from the kernel"));
  return withAction<SinkOptions>(withFamily(command), (run, options) =>
    sink(run, options, command),
  );
}

async function sink(run: Run, options: SinkOptions, command: Command): Promise<number> {
  using socket = await bindAt(
    command.processedArgs[0],
    options,
    { receiveBufferBytes: options.buffer, metadata: ["timestamp", "dropped"] },
    run.stop,
  );
  if (options.gro) socket.setOption(UdpOption.gro, true);
  using batch = new DatagramBatch({
    capacity: CAPACITY,
    slotBytes: TRAIN_BYTES,
  });
  const tally = new Tally(run, socket, batch, options.gro);
  tally.begin();
  await reporting(
    () => {
      const take = () => tally.take();
      return receiveUntilEnd({ socket, batch, take, tick: () => tally.tick() }, options, run.stop);
    },
    () => tally.report(),
  );
  return SUCCESS;
}

/** One sender's run. */
class Sender {
  readonly run: string;
  readonly from: InetAddress | undefined;
  readonly arrivals = new Arrivals();
  readonly delays = new Spread();
  /** Delays below 0: the clocks differ. */
  negative = 0;
  /** Of what counts, payload. */
  bytes = 0;
  /** When the first one came, by the kernel's clock. */
  readonly #seconds: number;
  readonly #nanoseconds: number;
  /** From then to the last one. */
  durationNs = 0;
  /** What there was when it was last told of. */
  toldReceived = 0;
  toldBytes = 0;

  constructor(run: string, from: InetAddress | undefined, seconds: number, nanoseconds: number) {
    this.run = run;
    this.from = from;
    this.#seconds = seconds;
    this.#nanoseconds = nanoseconds;
  }

  /** Notes when one came. */
  came(seconds: number, nanoseconds: number): void {
    const sinceNs = (seconds - this.#seconds) * 1e9 + (nanoseconds - this.#nanoseconds);
    if (sinceNs > this.durationNs) this.durationNs = sinceNs;
  }
}

/** What is told of a run, of a second or of all. */
interface Row {
  readonly run: string;
  readonly from: string | null;
  readonly received: number;
  readonly datagramsPerSecond: number;
  readonly bitsPerSecond: number;
  readonly lost: number;
  readonly duplicates: number;
  readonly reordered: number;
  readonly jitterUs: number;
}

/** Looks at everything that comes, and shows it. */
class Tally {
  readonly #run: Run;
  readonly #socket: UdpSocket;
  readonly #batch: DatagramBatch;
  readonly #view: DataView;
  readonly #clock = new Clock();
  readonly #senders = new Map<number, Sender>();
  readonly #loss: LossWindow;
  readonly #isTerminal = isatty(STDOUT);
  readonly #isGro: boolean;
  readonly #advice = new Set<string>();
  /** The run of the datagram before, and its sender. */
  #lastRun = -1;
  #last: Sender | undefined;
  #foreign = 0;
  #foreignBytes = 0;
  #notices = 0;
  #drops = 0;
  #calls = 0;
  #datagrams = 0;
  #told = performance.now();
  #toldDatagrams = 0;
  #shownLines = 0;

  constructor(run: Run, socket: UdpSocket, batch: DatagramBatch, isGro: boolean) {
    this.#run = run;
    this.#isGro = isGro;
    this.#socket = socket;
    this.#batch = batch;
    const { buffer, byteOffset, byteLength } = batch.memory;
    this.#view = new DataView(buffer, byteOffset, byteLength);
    this.#loss = new LossWindow(socket);
  }

  /** Says where it receives. */
  begin(): void {
    const { json, output } = this.#run;
    const { localAddress, receiveBuffer } = this.#socket;
    const { effectiveBytes, clamped, requestedBytes } = receiveBuffer;
    if (json) {
      const { host, port } = localAddress;
      const receiveBufferBytes = effectiveBytes;
      output.json({ type: "listening", address: host, port, receiveBufferBytes, gro: this.#isGro });
    } else {
      output.line(`receiving at ${localAddress}, ${effectiveBytes} bytes of receive buffer`);
    }
    output.flush();
    if (clamped)
      this.#run.note(
        `the receive buffer is smaller than ${requestedBytes} bytes: ` +
          `'sudo sysctl -w net.core.rmem_max=${requestedBytes}' allows them`,
      );
  }

  /** Looks at the batch. Returns how many datagrams of runs there are in it. */
  take(): number {
    const batch = this.#batch;
    const before = this.#datagrams - this.#foreign - this.#notices;
    this.#calls++;
    this.#clock.read();
    for (let i = 0; i < batch.count; i++) {
      const length = batch.length(i);
      const step = batch.segmentBytes(i);
      const offset = batch.offset(i);
      // The kernel's time is that of a train, and without one it is now.
      let seconds = batch.timestampSeconds(i);
      let nanoseconds = batch.timestampNanoseconds(i);
      if (seconds < 0) ({ seconds, nanoseconds } = this.#clock);
      let at = 0;
      do {
        const bytes = Math.min(step, length - at);
        this.#datagram(i, offset + at, bytes, seconds, nanoseconds);
        at += step;
      } while (at < length);
    }
    return this.#datagrams - this.#foreign - this.#notices - before;
  }

  #datagram(slot: number, at: number, bytes: number, seconds: number, nanoseconds: number): void {
    this.#datagrams++;
    const view = this.#view;
    const kind = kindOf(view, at, bytes);
    const run = kind === FOREIGN ? -1 : runOf(view, at);
    if (run >= 0 && run !== this.#lastRun) this.#turnTo(run, slot, seconds, nanoseconds);
    const sender = run < 0 ? undefined : this.#last;
    if (sender === undefined) {
      this.#foreign++;
      this.#foreignBytes += bytes;
      return;
    }
    const { arrivals } = sender;
    const sequence = sequenceOf(view, at);
    if (kind === OVER) {
      this.#notices++;
      arrivals.end(sequence);
      return;
    }
    sender.came(seconds, nanoseconds);
    if (!arrivals.note(sequence)) return;
    sender.bytes += bytes;
    const delay = transitNs(view, at, seconds, nanoseconds);
    arrivals.time(delay);
    if (delay < 0) sender.negative++;
    else sender.delays.record(delay);
  }

  /** Finds the sender of a run, or none where there are too many. */
  #turnTo(run: number, slot: number, seconds: number, nanoseconds: number): void {
    let sender = this.#senders.get(run);
    if (sender === undefined && this.#senders.size < RUNS_MAX) {
      const from = this.#batch.address(slot) as InetAddress | undefined;
      sender = new Sender(runText(run), from, seconds, nanoseconds);
      this.#senders.set(run, sender);
    }
    this.#lastRun = run;
    this.#last = sender;
  }

  /** Shows the last second. */
  tick(): void {
    const drops = this.#takeLoss();
    const now = performance.now();
    const durationMs = now - this.#told;
    this.#told = now;
    const isQuiet = this.#datagrams === this.#toldDatagrams && drops === 0;
    this.#toldDatagrams = this.#datagrams;
    const rows = this.#rowsOfSecond(durationMs, isQuiet);
    const { json, output } = this.#run;
    if (json) {
      if (!isQuiet)
        output.json({
          type: "interval",
          durationMs: round(durationMs, 3),
          kernelDrops: drops,
          runs: rows,
        });
    } else if (this.#isTerminal) this.#repaint(rows);
    else if (!isQuiet) {
      for (const row of rows) output.line(lineOf(row));
      if (drops > 0) output.line(`dropped by the kernel: ${drops}`);
    }
    output.flush();
  }

  #rowsOfSecond(durationMs: number, isQuiet: boolean): Row[] {
    const rows: Row[] = [];
    for (const sender of this.#senders.values()) {
      const { arrivals, bytes } = sender;
      const received = arrivals.received - sender.toldReceived;
      const isShown = this.#isTerminal || received > 0 || isQuiet;
      if (isShown) rows.push(rowOf(sender, received, bytes - sender.toldBytes, durationMs));
      sender.toldReceived = arrivals.received;
      sender.toldBytes = bytes;
    }
    return rows;
  }

  #repaint(rows: readonly Row[]): void {
    const lines = [
      ...tableOf(rows),
      `dropped by the kernel ${this.#drops}, foreign ${this.#foreign}`,
    ];
    const { output } = this.#run;
    // Up to where the last table began, and nothing below it.
    if (this.#shownLines > 0) output.text(`\x1b[${this.#shownLines}F\x1b[J`);
    // A line that goes on below would be two. A terminal that does not know how wide it is says 0.
    const width = process.stdout.columns || Number.POSITIVE_INFINITY;
    for (const line of lines) output.line(line.slice(0, width));
    this.#shownLines = lines.length;
  }

  #takeLoss(): number {
    const { socketDrops, advice } = this.#loss.take();
    // One of each kind, whatever its numbers: the last.
    for (const sentence of advice) {
      const kind = sentence.replaceAll(/\d+/g, "");
      for (const old of this.#advice)
        if (old.replaceAll(/\d+/g, "") === kind) this.#advice.delete(old);
      this.#advice.add(sentence);
    }
    this.#drops += socketDrops;
    return socketDrops;
  }

  /** Sums up. */
  report(): void {
    this.#takeLoss();
    const runs = [...this.#senders.values()].map(summaryOf);
    const { json, output } = this.#run;
    const sum = (of: (summary: Summary) => number) => runs.reduce((all, one) => all + of(one), 0);
    const totals = {
      datagrams: this.#datagrams,
      received: sum(({ received }) => received),
      lost: sum(({ lost }) => lost),
      duplicates: sum(({ duplicates }) => duplicates),
      reordered: sum(({ reordered }) => reordered),
      tooLate: sum(({ tooLate }) => tooLate),
      notices: this.#notices,
      foreign: this.#foreign,
      foreignBytes: this.#foreignBytes,
      kernelDrops: this.#drops,
      datagramsPerCall: this.#calls > 0 ? round(this.#datagrams / this.#calls, 2) : null,
    };
    // Some of the counters are those of all sockets: without a loss they say nothing of this one.
    const advice = totals.lost > 0 || totals.kernelDrops > 0 ? [...this.#advice] : [];
    if (json) {
      output.json({ type: "summary", ...totals, runs, advice });
      return;
    }
    for (const summary of runs) for (const line of linesOf(summary)) output.line(line);
    output.line(
      `${totals.datagrams} datagrams came: ${totals.received} received, ` +
        `${totals.duplicates} duplicates, ${totals.tooLate} too late to tell, ` +
        `${totals.notices} notices of the end, ${totals.foreign} foreign`,
    );
    const unit = this.#drops > 0 && this.#isGro ? ", a train being one" : "";
    output.line(`dropped by the kernel: ${totals.kernelDrops}${unit}`);
    output.flush();
    for (const sentence of advice) this.#run.note(sentence);
  }
}

function rowOf(sender: Sender, received: number, bytes: number, durationMs: number): Row {
  const { arrivals, run, from } = sender;
  const perSecond = (count: number) => (durationMs > 0 ? (count * 1000) / durationMs : 0);
  return {
    run,
    from: from === undefined ? null : String(from),
    received,
    datagramsPerSecond: round(perSecond(received), 1),
    bitsPerSecond: Math.round(perSecond(bytes * 8)),
    lost: arrivals.lost,
    duplicates: arrivals.duplicates,
    reordered: arrivals.reordered,
    jitterUs: round(arrivals.jitterNs / US, 3),
  };
}

function lineOf(row: Row): string {
  return (
    `run ${row.run} from ${row.from}: ${row.datagramsPerSecond} datagrams/s, ` +
    `${gbit(row.bitsPerSecond)} Gbit/s, so far ${row.lost} lost, ${row.duplicates} duplicates, ` +
    `${row.reordered} reordered, jitter ${row.jitterUs} µs`
  );
}

const COLUMNS = [
  "run",
  "from",
  "datagrams/s",
  "Gbit/s",
  "lost",
  "duplicates",
  "reordered",
  "jitter µs",
];

function tableOf(rows: readonly Row[]): string[] {
  const cells = rows.map((row) => [
    row.run,
    row.from ?? "",
    Math.round(row.datagramsPerSecond),
    gbit(row.bitsPerSecond),
    row.lost,
    row.duplicates,
    row.reordered,
    row.jitterUs,
  ]);
  const lines = [COLUMNS, ...cells].map((row) => row.map(String));
  const widths = COLUMNS.map((_, k) => Math.max(...lines.map((row) => (row[k] as string).length)));
  return lines.map((row) => row.map((cell, k) => cell.padStart(widths[k] as number)).join("  "));
}

type Summary = ReturnType<typeof summaryOf>;

function summaryOf(sender: Sender) {
  const { arrivals, bytes, negative } = sender;
  const { expected, lost, sent, reorderedMax, tooLate, first } = arrivals;
  const durationMs = sender.durationNs / 1e6;
  return {
    ...rowOf(sender, arrivals.received, bytes, durationMs),
    sent: sent ?? null,
    lostPercent: expected > 0 ? round((100 * lost) / expected, 3) : 0,
    reorderedMax,
    tooLate,
    firstSequence: first,
    bytes,
    durationMs: round(durationMs, 3),
    delayUs: sender.delays.summary(US) ?? null,
    negativeDelays: negative,
  };
}

function linesOf(summary: Summary): string[] {
  const { sent, durationMs, delayUs, negativeDelays } = summary;
  const of = sent === null ? "its end was not heard" : `${sent} sent`;
  const lines = [
    `run ${summary.run} from ${summary.from}: ${of}, ${summary.received} received, ` +
      `${summary.lost} lost (${summary.lostPercent} %), ${summary.duplicates} duplicates, ` +
      `${summary.reordered} reordered${summary.reordered > 0 ? ` by up to ${summary.reorderedMax}` : ""}`,
    `  ${summary.bytes} bytes in ${round(durationMs / 1000, 6)} s: ` +
      `${summary.datagramsPerSecond} datagrams/s, ${gbit(summary.bitsPerSecond)} Gbit/s`,
  ];
  if (summary.firstSequence > 0)
    lines.push(`  the first that came was number ${summary.firstSequence}`);
  const delays = Object.entries(delayUs ?? {}).map(([name, value]) => `${name} ${value}`);
  lines.push(`  jitter ${summary.jitterUs} µs`);
  if (delayUs !== null)
    lines.push(`  one way in µs, if both have the same clock: ${delays.join(", ")}`);
  if (negativeDelays > 0)
    lines.push(`  ${negativeDelays} came before they were sent: the clocks differ`);
  return lines;
}

/** Bits a second in Gbit/s. */
function gbit(bitsPerSecond: number): number {
  return round(bitsPerSecond / 1e9, 6);
}
