import { isatty } from "node:tty";
import {
  DatagramBatch,
  type InetAddress,
  LossWindow,
  UdpOption,
  type UdpSocket,
} from "bun-sockets";
import { type Command, Option } from "commander";
import {
  type CommonOptions,
  makeCommand,
  type Run,
  reporting,
  SUCCESS,
  withAction,
} from "./command.ts";
import {
  bindAt,
  type FamilyOptions,
  localArgument,
  type SharingOptions,
  withFamily,
  withSharing,
} from "./endpoint.ts";
import { Clock, FOREIGN, kindOf, OVER, runOf, sequenceOf, transitNs, unsentOf } from "./probe.ts";
import { type EndOptions, receiveUntilEnd, withEnd } from "./reception.ts";
import { Runs, type SenderRun } from "./runs.ts";
import { round, spreadText } from "./spread.ts";
import { bitRateText, rateText } from "./units.ts";
import { byteCount } from "./values.ts";

interface SinkOptions extends CommonOptions, EndOptions, FamilyOptions, SharingOptions {
  readonly buffer: number;
  readonly gro: boolean;
}

const TRAIN_BYTES = 65_536;
const CAPACITY = 64;
const US = 1e3;
const STDOUT = 1;
/** Of fewer datagrams it is what starting costs. */
const CPU_COUNT = 1000;
/** Lines of a terminal that does not say how many it has. */
const TERMINAL_LINES = 24;

/** `sink`: receives what `blast` sends, and tells what has become of it. */
export function sinkCommand(): Command {
  const command = makeCommand("sink", "Receives what blast sends: rate, loss, order, delay.", {
    examples: [
      ["bun-sockets sink 7000", "at port 7000 of all addresses, until Ctrl-C"],
      ["bun-sockets sink 127.0.0.1:7000 --idle 2s --json", "ends when nothing comes any more"],
      ["bun-sockets sink 239.1.2.3:7000", "a member of that group, if the address is one"],
      ["bun-sockets sink --buffer 32Mi --duration 1m", "a larger receive buffer, a minute"],
    ],
  }).addArgument(localArgument());
  withEnd(command)
    .option(
      "--buffer <bytes>",
      'of receive buffer: "262144", "32Mi"; net.core.rmem_max may allow less',
      byteCount(2 ** 30 - 1),
      8 << 20,
    )
    .addOption(new Option("--no-gro", "take no trains of datagrams (UDP_GRO) from the kernel"));
  return withAction<SinkOptions>(withFamily(withSharing(command)), (run, options) =>
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
  // Who is at the address of a group without being a member hears nothing.
  const { localAddress } = socket;
  if (localAddress.isMulticast) socket.join(localAddress);
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

/** What is told of a run, of a second. */
interface Row {
  readonly run: string;
  readonly from: string | null;
  readonly received: number;
  /** What came late is taken off again. */
  readonly lost: number;
  readonly lostSoFar: number;
  readonly duplicates: number;
  readonly reordered: number;
  readonly datagramsPerSecond: number;
  readonly bitsPerSecond: number;
  readonly jitterUs: number;
}

/** Looks at everything that comes, and shows it. */
class Tally {
  readonly #run: Run;
  readonly #socket: UdpSocket;
  readonly #batch: DatagramBatch;
  readonly #view: DataView;
  readonly #clock = new Clock();
  readonly #runs = new Runs();
  /** Of the runs that are no more among these. */
  readonly #over = makeSums();
  readonly #loss: LossWindow;
  readonly #isTerminal = isatty(STDOUT);
  readonly #isGro: boolean;
  readonly #advice = new Set<string>();
  /** The run of the datagram before, and its sender. */
  #lastRun = -1;
  #last: SenderRun | undefined;
  #foreign = 0;
  #foreignBytes = 0;
  #notices = 0;
  #drops = 0;
  /** What the kernel had dropped when the newest datagram came, and what of it no gap explains yet. */
  #dropped = 0;
  #unexplained = 0;
  /** Datagrams of the train that is looked at. */
  #train = 1;
  #startCpu: NodeJS.CpuUsage | undefined;
  readonly #begin = performance.now();
  #calls = 0;
  #datagrams = 0;
  #told = this.#begin;
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
    this.#startCpu ??= process.cpuUsage();
    this.#clock.read();
    for (let i = 0; i < batch.count; i++) {
      const length = batch.length(i);
      const step = batch.segmentBytes(i);
      const offset = batch.offset(i);
      // The kernel's time is that of a train, and without one it is now.
      let seconds = batch.timestampSeconds(i);
      let nanoseconds = batch.timestampNanoseconds(i);
      if (seconds < 0) ({ seconds, nanoseconds } = this.#clock);
      this.#noteDrops(batch.dropped(i));
      this.#train = Math.ceil(length / step);
      let at = 0;
      do {
        const bytes = Math.min(step, length - at);
        this.#datagram(i, offset + at, bytes, seconds, nanoseconds);
        at += step;
      } while (at < length);
    }
    return this.#datagrams - this.#foreign - this.#notices - before;
  }

  /** Notes what the kernel had dropped for want of room, of trains one each; -1 is nothing yet. */
  #noteDrops(dropped: number): void {
    if (dropped < 0 || dropped === this.#dropped) return;
    this.#unexplained += (dropped - this.#dropped) >>> 0;
    this.#dropped = dropped;
  }

  /** Tells how many of a gap in the numbers of a run the receive buffer had no room for. */
  #inBuffer(sender: SenderRun, gap: number): number {
    const drops = Math.min(this.#unexplained, Math.ceil(gap / sender.train));
    this.#unexplained -= drops;
    return Math.min(gap, drops * sender.train);
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
    if (this.#train > sender.train) sender.train = this.#train;
    const gap = sequence - arrivals.numbers;
    if (gap > 0 && this.#unexplained > 0) arrivals.inBuffer += this.#inBuffer(sender, gap);
    if (kind === OVER) {
      this.#notices++;
      arrivals.end(sequence, unsentOf(view, at, bytes));
      return;
    }
    sender.came(seconds, nanoseconds);
    if (!arrivals.note(sequence)) return;
    if (arrivals.received === 1) sender.firstBytes = bytes;
    sender.bytes += bytes;
    const delay = transitNs(view, at, seconds, nanoseconds);
    arrivals.time(delay);
    if (delay < 0) sender.negative++;
    else sender.delays.record(delay);
  }

  /** Finds a run, or none where there are too many. */
  #turnTo(run: number, slot: number, seconds: number, nanoseconds: number): void {
    this.#lastRun = run;
    this.#last = this.#runs.get(run);
    if (this.#last) return;
    const from = this.#batch.address(slot) as InetAddress | undefined;
    this.#last = this.#runs.begin(run, from, seconds, nanoseconds);
  }

  /** Shows the last second. */
  tick(): void {
    const drops = this.#takeLoss();
    const now = performance.now();
    const durationMs = now - this.#told;
    this.#told = now;
    const isQuiet = this.#datagrams === this.#toldDatagrams && drops === 0;
    this.#toldDatagrams = this.#datagrams;
    const { json, output } = this.#run;
    const over = this.#takeOver(now);
    const elapsedMs = round(now - this.#begin, 3);
    const rows = this.#rowsOfSecond(durationMs);
    if (json) {
      if (!isQuiet)
        output.json({
          type: "interval",
          elapsedMs,
          durationMs: round(durationMs, 3),
          kernelDrops: drops,
          runs: rows.filter(isBusy),
        });
    } else if (this.#isTerminal) this.#repaint(over, rows);
    else if (!isQuiet) {
      const at = `${round(elapsedMs / 1000, 1)} s: `;
      for (const row of rows.filter(isBusy)) output.line(`${at}${lineOf(row)}`);
      if (drops > 0) output.line(`${at}dropped by the kernel: ${drops}`);
    }
    output.flush();
  }

  #rowsOfSecond(durationMs: number): Row[] {
    return Array.from(this.#runs, (sender) => {
      const { arrivals, bytes, told } = sender;
      const { received, lost, duplicates, reordered } = arrivals;
      const news = {
        received: received - told.received,
        lost: lost - told.lost,
        duplicates: duplicates - told.duplicates,
        reordered: reordered - told.reordered,
      };
      const rates = ratesOf(news.received, bytes - told.bytes, durationMs);
      sender.told = { received, lost, duplicates, reordered, bytes };
      return { ...headOf(sender), ...news, ...rates, jitterUs: jitterOf(sender), lostSoFar: lost };
    });
  }

  /** Takes out runs that are over, and keeps their sums. Gives the lines that a terminal is to show. */
  #takeOver(now: number): string[] {
    const over = this.#runs.takeOver(now).map(summaryOf);
    // Whoever has the same number is another one.
    if (over.length > 0) this.#lastRun = -1;
    for (const summary of over) add(this.#over, summary);
    const { json, output } = this.#run;
    if (json) for (const summary of over) output.json({ type: "run", ...summary });
    const lines = json ? [] : over.flatMap(linesOf);
    if (this.#isTerminal) return lines;
    for (const line of lines) output.line(line);
    return [];
  }

  #repaint(above: readonly string[], rows: readonly Row[]): void {
    const { output } = this.#run;
    const { columns = 0, rows: height = 0 } = process.stdout;
    // Of more than there is room for those that came last.
    const room = Math.max(1, (height || TERMINAL_LINES) - 3);
    const lines = [
      ...tableOf(rows.slice(-room)),
      `dropped by the kernel ${this.#drops}, foreign ${this.#foreign}`,
    ];
    // Up to where the last table began, and nothing below it.
    if (this.#shownLines > 0) output.text(`\x1b[${this.#shownLines}F\x1b[J`);
    for (const line of above) output.line(line);
    // A line that goes on below would be two. A terminal that does not know how wide it is says 0.
    for (const line of lines) output.line(line.slice(0, columns || Number.POSITIVE_INFINITY));
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
    const { json, output } = this.#run;
    // What came since the last second, so that the seconds make up the whole.
    if (json || this.#told > this.#begin) this.tick();
    else this.#takeLoss();
    const runs = Array.from(this.#runs, summaryOf);
    const sums = { ...this.#over };
    for (const summary of runs) add(sums, summary);
    const { user, system } = process.cpuUsage(this.#startCpu);
    const received = this.#datagrams;
    const totals = {
      datagrams: received,
      ...sums,
      notices: this.#notices,
      foreign: this.#foreign,
      foreignBytes: this.#foreignBytes,
      kernelDrops: this.#drops,
      datagramsPerCall: this.#calls > 0 ? round(received / this.#calls, 2) : null,
      cpuNsPerDatagram: received > 0 ? round(((user + system) * US) / received, 1) : null,
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
    if (totals.cpuNsPerDatagram !== null && received >= CPU_COUNT)
      output.line(
        `CPU time: ${totals.cpuNsPerDatagram} ns a datagram; ${totals.datagramsPerCall} a call`,
      );
    output.flush();
    for (const sentence of advice) this.#run.note(sentence);
  }
}

/** What is summed up over runs. */
type Sums = Record<
  "received" | "lost" | "lostInBuffer" | "duplicates" | "reordered" | "tooLate",
  number
>;

function makeSums(): Sums {
  return { received: 0, lost: 0, lostInBuffer: 0, duplicates: 0, reordered: 0, tooLate: 0 };
}

function add(sums: Sums, summary: Summary): void {
  for (const name of Object.keys(sums) as (keyof Sums)[]) sums[name] += summary[name];
}

function headOf({ run, from }: SenderRun) {
  return { run, from: from === undefined ? null : String(from) };
}

function jitterOf({ arrivals }: SenderRun): number {
  return round(arrivals.jitterNs / US, 3);
}

function ratesOf(received: number, bytes: number, durationMs: number) {
  const perSecond = (count: number) => (durationMs > 0 ? (count * 1000) / durationMs : 0);
  return {
    datagramsPerSecond: round(perSecond(received), 1),
    bitsPerSecond: Math.round(perSecond(bytes * 8)),
  };
}

/** Whether something of a run has changed. */
function isBusy({ received, lost, duplicates }: Row): boolean {
  return received > 0 || lost !== 0 || duplicates > 0;
}

function lineOf(row: Row): string {
  return (
    `run ${row.run} from ${row.from}: ${rateText(row.datagramsPerSecond)} datagrams/s, ` +
    `${bitRateText(row.bitsPerSecond)}, ${row.lost} lost, ${row.duplicates} duplicates, ` +
    `${row.reordered} reordered, jitter ${row.jitterUs} µs`
  );
}

const COLUMNS = [
  "run",
  "from",
  "datagrams/s",
  "bit/s",
  "lost",
  "lost so far",
  "duplicates",
  "reordered",
  "jitter µs",
];

function tableOf(rows: readonly Row[]): string[] {
  const cells = rows.map((row) => [
    row.run,
    row.from ?? "",
    rateText(row.datagramsPerSecond),
    bitRateText(row.bitsPerSecond).replace("bit/s", ""),
    row.lost,
    row.lostSoFar,
    row.duplicates,
    row.reordered,
    row.jitterUs,
  ]);
  const lines = [COLUMNS, ...cells].map((row) => row.map(String));
  const widths = COLUMNS.map((_, k) => Math.max(...lines.map((row) => (row[k] as string).length)));
  return lines.map((row) => row.map((cell, k) => cell.padStart(widths[k] as number)).join("  "));
}

type Summary = ReturnType<typeof summaryOf>;

function summaryOf(sender: SenderRun) {
  const { arrivals, bytes, negative } = sender;
  const { received, expected, lost, lostInBuffer, sent, duplicates, reordered } = arrivals;
  const durationMs = sender.durationNs / 1e6;
  return {
    ...headOf(sender),
    sent: sent ?? null,
    received,
    lost,
    lostPercent: expected > 0 ? round((100 * lost) / expected, 3) : 0,
    lostInBuffer,
    duplicates,
    reordered,
    reorderedMax: arrivals.reorderedMax,
    tooLate: arrivals.tooLate,
    firstSequence: arrivals.first,
    bytes,
    durationMs: round(durationMs, 3),
    // From the first to the last it is one step less than there are.
    ...ratesOf(received - 1, bytes - sender.firstBytes, durationMs),
    jitterUs: jitterOf(sender),
    delayUs: sender.delays.summary(US) ?? null,
    negativeDelays: negative,
  };
}

function linesOf(summary: Summary): string[] {
  const { sent, lost, lostInBuffer, durationMs, delayUs, negativeDelays } = summary;
  const of = sent === null ? "its end was not heard" : `${sent} sent`;
  const where = lost > 0 ? `, ${lostInBuffer} of them in the receive buffer here` : "";
  const by = summary.reordered > 0 ? ` by up to ${summary.reorderedMax}` : "";
  const lines = [
    `run ${summary.run} from ${summary.from}: ${of}, ${summary.received} received, ` +
      `${lost} lost (${summary.lostPercent} %)${where}, ${summary.duplicates} duplicates, ` +
      `${summary.reordered} reordered${by}`,
    `  ${summary.bytes} bytes in ${round(durationMs / 1000, 6)} s: ` +
      `${rateText(summary.datagramsPerSecond)} datagrams/s, ${bitRateText(summary.bitsPerSecond)}`,
  ];
  if (summary.firstSequence > 0)
    lines.push(`  the first that came was number ${summary.firstSequence}`);
  lines.push(`  jitter ${summary.jitterUs} µs`);
  if (delayUs !== null)
    lines.push(`  one way in µs, if both have the same clock: ${spreadText(delayUs)}`);
  if (negativeDelays > 0)
    lines.push(`  ${negativeDelays} came before they were sent: the clocks differ`);
  return lines;
}
