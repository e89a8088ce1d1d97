import { FilterProgram, type Interface, interfaces } from "bun-sockets";
import {
  type CapturedPacket,
  CaptureFile,
  type CaptureReader,
  type CaptureWriter,
  type CompileOptions,
  compileFilter,
  FilterError,
  LinkType,
  linkTypeName,
  linkTypeOfHardware,
  type PacketBlock,
  PacketRing,
  type PacketStatistics,
  runFilter,
} from "bun-sockets/packet";
import { BPF_K, BPF_RET } from "bun-sockets/sys";
import { type Command, InvalidArgumentError, Option } from "commander";
import manifest from "../package.json" with { type: "json" };
import {
  type CommonOptions,
  makeCommand,
  type Run,
  reporting,
  SUCCESS,
  UsageError,
  withAction,
} from "./command.ts";
import { FrameReader, type PacketFacts } from "./packet_facts.ts";
import { factsLine, TimeOfDay } from "./packet_line.ts";
import { integer } from "./values.ts";

interface DumpOptions extends CommonOptions {
  readonly interface?: string;
  readonly write?: string;
  readonly read?: string;
  readonly count?: number;
  readonly snap: number;
  readonly vlan?: number | true;
  readonly promiscuous?: true;
}

const FOREIGN_INTERFACES = 2 ** 31;
const STDIN = 0;
const STDOUT = 1;
const SNAP_BYTES = 262_144;
const VLAN_MAX = 4095;
const APPLICATION = `${manifest.name} ${manifest.version}`;
// How long the kernel keeps a frame back at most: half of what a person notices.
const BLOCK_TIMEOUT_MS = 10;
// Blocks that are still looked at after Ctrl-C: what came before it is not lost.
const LAST_BLOCKS = 16;

/** `dump`: shows packets, or puts them into a file. */
export function dumpCommand(): Command {
  const command = makeCommand("dump", "Shows packets as they pass, or those of a capture file.", {
    examples: [
      ["bun-sockets dump -i eth0 udp port 53", "one line for each packet of DNS, until Ctrl-C"],
      ["bun-sockets dump -i eth0 -w dns.pcapng -c 1000 udp port 53", "a thousand into a file"],
      ["bun-sockets dump -r dns.pcapng host 192.0.2.1", "those of one host, out of the file"],
      ["bun-sockets dump -i eth0 --json tcp | jq .length", "for programs"],
    ],
  })
    .argument("[filter...]", 'which packets, as pcap-filter(7) says it: "tcp port 80"')
    .option("-i, --interface <name>", "where to listen; default: the first that is up")
    .option("-r, --read <file>", 'packets of a capture file, pcapng or pcap; "-" is standard input')
    .option(
      "-w, --write <file>",
      'into a file: pcap if its name ends so, else pcapng; "-" is standard output',
    )
    .option("-c, --count <packets>", "end after so many", integer(1, Number.MAX_SAFE_INTEGER))
    .option("-s, --snap <bytes>", "keep so much of each packet", integer(1, SNAP_BYTES), SNAP_BYTES)
    .addOption(
      new Option("--vlan <number>", 'only packets of this VLAN, or of some: "any"').argParser(vlan),
    )
    .option("-p, --promiscuous", "also what is for other machines");
  return withAction<DumpOptions>(command, dump);
}

async function dump(run: Run, options: DumpOptions, operands: string[]): Promise<number> {
  const filter = operands.join(" ");
  if (options.read === undefined) return listen(run, options, filter);
  if (options.interface !== undefined)
    throw new UsageError("option '-i, --interface <name>' cannot be used with option '-r, --read'");
  return readFile(run, options, options.read, filter);
}

/** Shows packets one by one, or writes them, until there are enough. */
class Sink {
  readonly #run: Run;
  readonly #countMax: number;
  readonly #readers = new Map<number, FrameReader>();
  readonly #time = new TimeOfDay();
  /** How many there were. */
  count = 0;

  constructor(run: Run, countMax = Number.POSITIVE_INFINITY) {
    this.#run = run;
    this.#countMax = countMax;
  }

  /** How many are still wanted. */
  get left(): number {
    return this.#countMax - this.count;
  }

  /** What reads frames of a link type. */
  reader(linkType: number, view: DataView): FrameReader {
    const reader = this.#readers.get(linkType) ?? new FrameReader(linkType);
    this.#readers.set(linkType, reader);
    return reader.of(view);
  }

  show(facts: PacketFacts, seconds: number, nanoseconds: number): void {
    this.count++;
    const { json, output } = this.#run;
    if (json) output.json({ type: "packet", seconds, nanoseconds, ...facts });
    else output.line(`${this.#time.text(seconds, nanoseconds)} ${factsLine(facts)}`);
  }
}

async function listen(run: Run, options: DumpOptions, filter: string): Promise<number> {
  const { name, index, hardwareType, loopback } = findInterface(options.interface);
  const linkType = linkTypeOfHardware(hardwareType ?? -1);
  if (linkType === undefined)
    throw new Error(`Cannot read the frames of ${name}: it is of hardware type ${hardwareType}`);
  using ring = PacketRing.open(name, {
    filter: programOf(filter, { linkType, snapBytes: options.snap, vlan: options.vlan }),
    blockTimeoutMs: BLOCK_TIMEOUT_MS,
    promiscuous: options.promiscuous,
    // There each packet goes out and comes in.
    ignoreOutgoing: loopback,
  });
  using file =
    options.write === undefined
      ? undefined
      : CaptureFile.create(options.write === "-" ? STDOUT : options.write, {
          application: APPLICATION,
          linkType,
          snapBytes: options.snap,
          interfaces: [{ name, interfaceIndex: index, filter: filter === "" ? undefined : filter }],
        });
  const sink = new Sink(run, options.count);
  run.note(`listening on ${name}, link type ${linkTypeName(linkType) ?? linkType}`);
  const show = async () => {
    for await (const block of blocksOf(ring, run.stop)) {
      if (file === undefined) showBlock(block, sink, linkType);
      else writeBlock(block, sink, file);
      run.output.flush();
      // Somebody may be looking at it.
      if (options.write === "-") file?.flush();
      if (sink.left <= 0) break;
    }
    file?.writeStatistics({ ...ring.statistics(), delivered: sink.count });
    file?.flush();
  };
  await reporting(show, () => {
    reportCapture(run, sink.count, ring.statistics(), options.write === "-");
  });
  return SUCCESS;
}

/** Blocks until Ctrl-C, and those that came before it. */
async function* blocksOf(ring: PacketRing, stop: AbortSignal): AsyncGenerator<PacketBlock> {
  try {
    while (!stop.aborted) yield await ring.receiveBlock({ signal: stop });
  } catch (error) {
    if (!stop.aborted) throw error;
  }
  // The kernel still fills one.
  await Bun.sleep(2 * BLOCK_TIMEOUT_MS);
  for (let left = LAST_BLOCKS; left > 0; left--) {
    const block = ring.tryReceiveBlock();
    if (block === undefined) return;
    yield block;
  }
}

function showBlock(block: PacketBlock, sink: Sink, linkType: number): void {
  const reader = sink.reader(linkType, block.view);
  while (sink.left > 0 && block.next()) {
    const { offset, length, originalLength, vlan, checksum } = block;
    const metadata = { originalLength, vlan: vlan < 0 ? undefined : vlan, checksum };
    const facts = reader.read(offset, offset + length, metadata);
    sink.show(facts, block.seconds, block.nanoseconds);
  }
}

function writeBlock(block: PacketBlock, sink: Sink, file: CaptureWriter): void {
  if (block.count <= sink.left) {
    sink.count += file.writeBlock(block);
    return;
  }
  for (; sink.left > 0 && block.next(); sink.count++) file.writeFrame(block);
}

async function readFile(
  run: Run,
  options: DumpOptions,
  path: string,
  filter: string,
): Promise<number> {
  using capture = CaptureFile.open(path === "-" ? STDIN : path);
  const programs = new Map<number, FilterProgram>();
  // In a file the tags are among the bytes.
  const text = options.vlan === undefined ? filter : taggedFilter(options.vlan, filter);
  const programFor = (linkType: number) => {
    const known = programs.get(linkType);
    if (known !== undefined) return known;
    const program = programOf(text, { linkType, snapBytes: options.snap });
    programs.set(linkType, program);
    return program;
  };
  // What is wrong with it is found out before a file is made.
  programFor(capture.linkType ?? LinkType.ethernet);
  using copy = options.write === undefined ? undefined : new Copy(options.write, capture);
  const sink = new Sink(run, options.count);
  let read = 0;
  const show = async () => {
    for await (const packet of capture) {
      read++;
      const { bytes, originalLength, linkType, seconds = 0, nanoseconds = 0 } = packet;
      const accepted = runFilter(programFor(linkType), bytes, { originalLength });
      const kept = Math.min(accepted, bytes.length);
      if (kept > 0 && copy !== undefined) {
        sink.count++;
        copy.write(packet, kept);
        if (path === "-" && options.write === "-") copy.flush();
      } else if (kept > 0) {
        const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
        const facts = sink.reader(linkType, view).read(0, kept, { originalLength });
        sink.show(facts, seconds, nanoseconds);
        // Whoever writes into the pipe may take his time.
        if (path === "-") run.output.flush();
      }
      if (sink.left <= 0 || run.stop.aborted) break;
    }
    copy?.flush();
  };
  await reporting(show, () => reportReading(run, sink.count, read, options.write === "-"));
  return SUCCESS;
}

/** Packets of one capture file on their way to another, with the interfaces that they were seen at. */
class Copy implements Disposable {
  readonly #capture: CaptureReader;
  readonly #file: CaptureWriter;
  readonly #known = new Set<number>();

  constructor(path: string, capture: CaptureReader) {
    this.#capture = capture;
    this.#file = CaptureFile.create(path === "-" ? STDOUT : path, {
      application: APPLICATION,
      ...(capture.linkType === undefined ? {} : { linkType: capture.linkType }),
    });
  }

  write(packet: CapturedPacket, kept: number): void {
    const index = packet.interface;
    // Of no interface of this machine, of which the file would tell the name.
    const key = FOREIGN_INTERFACES + index;
    if (!this.#known.has(index)) {
      this.#known.add(index);
      this.#file.addInterface({ ...this.#capture.interfaces[index], interfaceIndex: key });
    }
    this.#file.write({ ...packet, bytes: packet.bytes.subarray(0, kept), interface: key });
  }

  flush(): void {
    this.#file.flush();
  }

  [Symbol.dispose](): void {
    this.#file.close();
  }
}

/** "3 packets captured" and so on, as tcpdump says it; with `--json` a value. */
function reportCapture(
  { json, note, output }: Run,
  captured: number,
  { packets, drops }: PacketStatistics,
  isOutputTaken: boolean,
): void {
  if (json && !isOutputTaken) {
    output.json({ type: "summary", captured, received: packets, dropped: drops });
    return;
  }
  note(
    [
      `${captured} packets captured`,
      `${packets} packets received by filter`,
      `${drops} packets dropped by kernel`,
    ].join("\n"),
  );
}

function reportReading(
  { json, note, output }: Run,
  shown: number,
  read: number,
  isOutputTaken: boolean,
): void {
  if (json && !isOutputTaken) output.json({ type: "summary", captured: shown, read });
  else note(`${shown} packets of ${read} read`);
}

/** The filter's program; without a filter the one that only cuts, for which libpcap is not needed. */
function programOf(filter: string, options: CompileOptions): FilterProgram {
  if (filter === "" && options.vlan === undefined)
    return new FilterProgram([{ code: BPF_RET | BPF_K, k: options.snapBytes }]);
  try {
    return compileFilter(filter, options);
  } catch (error) {
    if (error instanceof FilterError) throw new UsageError(error.message, error.hint);
    throw error;
  }
}

function taggedFilter(vlan: number | true, filter: string): string {
  const tag = vlan === true ? "vlan" : `vlan ${vlan}`;
  return filter === "" ? tag : `${tag} and (${filter})`;
}

function vlan(text: string): number | true {
  if (text === "any") return true;
  const value = /^\d+$/.test(text) ? Number(text) : Number.NaN;
  if (value <= VLAN_MAX) return value;
  throw new InvalidArgumentError(`Expected 0 to ${VLAN_MAX}, or "any".`);
}

/** An interface by its name; by default the first that is up and not only to this machine. */
function findInterface(name: string | undefined): Interface {
  const all = interfaces();
  if (name !== undefined) {
    const found = all.find((each) => each.name === name);
    if (found === undefined) throw new Error(`Cannot find the interface ${JSON.stringify(name)}`);
    return found;
  }
  const first = all.find(({ up, loopback }) => up && !loopback) ?? all.find(({ up }) => up);
  if (first === undefined) throw new Error("Cannot find an interface that is up");
  return first;
}
