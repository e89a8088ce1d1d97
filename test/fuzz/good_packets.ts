/**
 * Arguments for packet sockets, rings and their blocks, filters and capture files.
 *
 * @module
 */
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { FilterProgram } from "bun-sockets";
import {
  assembleFilter,
  type CapturedPacket,
  CaptureFile,
  type CaptureReader,
  disassembleFilter,
  LinkType,
  type PacketRing,
  PacketSocket,
} from "bun-sockets/packet";
import { AF_PACKET, SOCK_DGRAM, SOCK_RAW } from "bun-sockets/sys";
import {
  boolean,
  cancelOptions,
  type Draft,
  type Plan,
  type Row,
  socket,
  socketOptions,
  some,
  timeoutOptions,
} from "./draft.ts";
import { frameBytes, planRefusedHeader } from "./good_headers.ts";
import { openForeign } from "./world.ts";

const SOCKET = "PacketSocket.prototype.";
const RING = "PacketRing.prototype.";
const BLOCK = "PacketBlock.prototype.";
const READER = "CaptureReader.prototype.";
const WRITER = "CaptureWriter.prototype.";
const BLOCKS_MAX = 4;
const INSPECT = "[nodejs.util.inspect.custom]";

// Packet sockets and rings.

const FILTERS = ["udp", "ip and udp port 9", "arp or icmp", "len > 100", ""];
const MODES = ["hash", "balance", "cpu", "rollover", "random", "queue"] as const;

const device = ({ choices }: Draft) => choices.pick(["lo", "lo", "lo", 1, undefined]);

/** Of one interface: what every interface cannot be. */
function packetOptions(draft: Draft, isOne: boolean, more: Record<string, () => unknown> = {}) {
  const { choices, world } = draft;
  return socketOptions(draft, {
    mode: () => choices.pick(["raw", "cooked"]),
    protocol: () => choices.pick([0x0003, 0x0800, 0]),
    ...(isOne ? { promiscuous: () => boolean(draft), allMulticast: () => boolean(draft) } : {}),
    filter: () => (choices.chance(30) ? choices.pick(FILTERS) : world.packets.program(choices)),
    ignoreOutgoing: () => boolean(draft),
    auxiliaryData: () => boolean(draft),
    bypassQdisc: () => boolean(draft),
    timestampNs: () => boolean(draft),
    ...more,
  }) as Record<string, unknown>;
}

function fanout({ choices }: Draft): object {
  const mode = choices.pick(MODES);
  const group = choices.chance(70) ? { uniqueId: true } : { group: choices.below(65536) };
  return { mode, ...group, defragment: choices.chance(20), rollover: choices.chance(20) };
}

function openOptions(draft: Draft, more: Record<string, () => unknown> = {}): unknown[] {
  const where = device(draft);
  const options = packetOptions(draft, where !== undefined, more);
  // Who receives nothing joins no group.
  if (options["protocol"] !== 0 && draft.choices.chance(10)) options["fanout"] = fanout(draft);
  return [where, options];
}

/** One that is in no fanout group yet. */
function unjoined(draft: Draft): PacketSocket {
  if (draft.choices.chance(30)) return socket(draft) as PacketSocket;
  return draft.world.add(PacketSocket.open("lo"));
}

/** One that passes on what it has no room for. */
function rollover(draft: Draft): PacketSocket {
  const { world, choices } = draft;
  const has = world.sockets.find(
    (one): one is PacketSocket =>
      one instanceof PacketSocket && one.descriptor >= 0 && one.fanoutGroup !== undefined,
  );
  if (has && choices.chance(90)) return has;
  const options = { fanout: { mode: "rollover", uniqueId: true } } as const;
  return world.add(PacketSocket.open("lo", options));
}

const membership: Row = (draft) => {
  const { choices } = draft;
  const kind = choices.pick(["promiscuous", "allMulticast", "multicast", "unicast"]);
  const isOfAddress = kind === "multicast" || kind === "unicast";
  const options = {
    interface: choices.pick(["lo", 1]),
    ...(isOfAddress
      ? { address: choices.pick(["01:00:5e:00:00:01", Uint8Array.of(1, 0, 94, 0, 0, 1)]) }
      : {}),
  };
  return { receiver: socket(draft), values: [kind, options] };
};

const onRing =
  (values: (draft: Draft) => unknown[] = () => []): Row =>
  (draft) => {
    const { world, choices } = draft;
    const receiver = world.packets.ring(choices);
    return { receiver, values: values(draft) };
  };

const fedRing =
  (values: (draft: Draft) => unknown[] = () => []): Row =>
  (draft) => {
    if (draft.choices.chance(80)) draft.world.packets.feed();
    return onRing(values)(draft);
  };

/** Mostly one that is closed: to end one takes the kernel some 20 ms. */
const onEnding =
  (percent = 12): Row =>
  ({ world, choices }) => {
    const { packets } = world;
    const receiver = choices.chance(percent) ? packets.ring(choices) : packets.closedRing(choices);
    return { receiver, values: [] };
  };

const ringSocketEnding =
  (percent?: number): Row =>
  (draft) => {
    const { receiver, values } = onEnding(percent)(draft);
    return { receiver: (receiver as PacketRing).socket, values };
  };

const onBlock: Row = ({ world, choices }) => ({
  receiver: world.packets.block(choices),
  values: [],
});

const onBlocks: Row = ({ world, choices }) => {
  if (choices.chance(70)) world.packets.feed();
  return { receiver: world.packets.iteration(choices), values: [] };
};

// Steps.

/** Something that steps, and what makes one where there is none. */
function steps(draft: Draft, kind: "frames" | "captured" | "capturedSync"): Plan {
  const { world, choices } = draft;
  const { packets } = world;
  const has = packets.steps.filter((one) => one.kind === kind);
  if (has.length > 0 && choices.chance(70))
    return { receiver: choices.pick(has).object, values: [] };
  const [object, owner] = newSteps(draft, kind);
  packets.addSteps(object, owner, kind);
  return { receiver: object, values: [] };
}

function newSteps(draft: Draft, kind: "frames" | "captured" | "capturedSync"): [object, object] {
  const { world, choices } = draft;
  if (kind === "frames") {
    const block = world.packets.block(choices);
    return [block[Symbol.iterator](), block];
  }
  const from = reader(draft);
  return [from[kind === "captured" ? Symbol.asyncIterator : Symbol.iterator](), from];
}

// Filters.

const GRAMMAR = [
  "udp port 53",
  "tcp[tcpflags] & (tcp-syn|tcp-fin) != 0",
  "ip6 and not icmp6",
  "net 192.0.2.0/24 and portrange 1-1024",
  "vlan 5 and ip",
  "ether host 02:00:00:00:00:01",
  "ether[0] & 1 = 1",
  "less 100 or greater 1000",
  "",
];
const ASSEMBLY = [
  "ret #0",
  "ldh [12]\njeq #0x800, keep\nret #0\nkeep: ret #65535",
  "ld #vlan_pr ; a tag\njne #0, 2\nret #0\nret #1",
  "ldx 4*([14]&0xf)\nldb [x+14]\nst M[0]\nldx M[0]\ntxa\nret a",
];

function program({ world, choices }: Draft): FilterProgram {
  return world.packets.program(choices);
}

function metadata(draft: Draft, length: number): object {
  const { choices } = draft;
  const offset = choices.below(length + 1);
  return some(draft, {
    offset: () => offset,
    length: () => choices.below(length - offset + 1),
    originalLength: () => choices.below(2000),
    protocol: () => choices.pick([0x0800, 0x86dd]),
    packetType: () => choices.pick(["host", "outgoing", "otherHost"]),
    interfaceIndex: () => choices.below(3),
    hardwareType: () => choices.pick([1, 772]),
    vlan: () => choices.pick([-1, 0, 5]),
    vlanProtocol: () => choices.pick([0x8100, 0x88a8]),
    hash: () => choices.below(2 ** 31),
    mark: () => 5,
    queue: () => 1,
    cpu: () => 0,
    random: () => choices.below(2 ** 31),
    payloadOffset: () => choices.below(100),
    linkOffset: () => choices.pick([0, Number.NaN]),
    networkOffset: () => choices.pick([0, 14]),
  });
}

// Capture files.

const SAMPLES: readonly Uint8Array[] = makeSamples();

function makeSamples(): Uint8Array[] {
  const folder = mkdtempSync(join(tmpdir(), "bun-sockets-fuzz-sample-"));
  try {
    return (["pcap", "pcapng"] as const).flatMap((format) =>
      (["little", "big"] as const).map((byteOrder) => {
        const path = join(folder, `${format}-${byteOrder}`);
        using file = CaptureFile.create(path, { format, byteOrder, comment: "a sample" });
        for (let i = 0; i < 5; i++) {
          const comment = i % 2 === 0 ? "even" : undefined;
          file.write({ bytes: new Uint8Array(20 * i).fill(i), seconds: i, comment, flags: i % 3 });
        }
        file.writeStatistics({ packets: 5, drops: 1 });
        file.close();
        return new Uint8Array(readFileSync(path));
      }),
    );
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** The bytes of a file: whole, cut, or damaged. */
function fileBytes({ choices }: Draft): Uint8Array {
  const bytes = choices.pick(SAMPLES).slice();
  if (choices.chance(70)) return bytes;
  if (choices.chance(40)) return bytes.subarray(0, choices.below(bytes.length));
  for (let i = 1 + choices.below(4); i > 0; i--)
    bytes[choices.below(bytes.length)] = choices.pick([0, 1, 0xff, choices.below(256)]);
  return bytes;
}

async function* pieces(bytes: Uint8Array, length: number): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += length) yield bytes.slice(at, at + length);
}

function source(draft: Draft): unknown {
  const { world, choices } = draft;
  const bytes = fileBytes(draft);
  return choices.pick<() => unknown>([
    () => bytes,
    () => bytes,
    () => Buffer.from(bytes),
    () => bytes.slice().buffer,
    () => pieces(bytes, choices.pick([1, 7, 64, 1000])),
    () => new Blob([bytes.slice()]),
    () => world.packets.path(choices),
    () => world.packets.fdForReading(choices),
  ])();
}

/** A reader that gives something, mostly. */
function reader(draft: Draft): CaptureReader {
  const { world, choices } = draft;
  const { packets } = world;
  if (packets.readers.length > 0 && choices.chance(70)) return choices.pick(packets.readers);
  const bytes = choices.pick(SAMPLES);
  const isStream = choices.chance(20);
  return packets.addReader(CaptureFile.open(isStream ? pieces(bytes, 50) : bytes));
}

const onReader: Row = (draft) => ({ receiver: reader(draft), values: [] });

const TEXTS_OF_FILES = ["comment", "hardware", "os", "application"];

function writerOptions(draft: Draft): Record<string, unknown> {
  const { choices } = draft;
  return some(draft, {
    format: () => choices.pick(["pcap", "pcapng"]),
    linkType: () => choices.pick(["ethernet", "raw", 113]),
    snapBytes: () => choices.pick([1, 60, 262_144]),
    byteOrder: () => choices.pick(["little", "big"]),
    resolution: () => choices.pick(["ns", "us"]),
    vlan: () => choices.pick(["reinsert", "drop"]),
    ...Object.fromEntries(TEXTS_OF_FILES.map((name) => [name, () => "a text"])),
    interfaces: () => [],
  });
}

function interfaceOptions(draft: Draft): Record<string, unknown> {
  const { choices } = draft;
  return some(draft, {
    name: () => "lo",
    description: () => "for people",
    interfaceIndex: () => choices.below(1000),
    linkType: () => choices.pick(["ethernet", 1]),
    snapBytes: () => 1,
    filter: () => "udp",
    os: () => "an os",
    hardware: () => "a device",
    speed: () => choices.pick([0, 1e9]),
    comment: () => "a remark",
  });
}

function packet(draft: Draft): Record<string, unknown> {
  const { choices } = draft;
  const bytes = frameBytes(draft);
  return {
    bytes: choices.chance(80) ? bytes : new Uint8Array(choices.pick([0, 5000, 300_000])),
    ...some(draft, {
      originalLength: () => 300_000,
      seconds: () => choices.pick([0, 1, 1_700_000_000]),
      nanoseconds: () => choices.below(1e9),
      vlan: () => choices.pick([0, 5, 65_535]),
      vlanProtocol: () => choices.pick([0x8100, 0x88a8]),
      interface: () => choices.below(4),
      comment: () => "a remark",
      flags: () => choices.below(4),
      dropCount: () => choices.below(10),
    }),
  };
}

/** Frames as a block has them: those of a ring, or of somebody else. */
function cursor(draft: Draft): unknown {
  const { world, choices } = draft;
  if (choices.chance(50)) return world.packets.block(choices);
  const bytes = new Uint8Array(1000);
  let left = choices.below(5);
  return {
    bytes,
    next: () => left-- > 0,
    offset: choices.below(500),
    length: choices.below(500),
    originalLength: choices.below(2000),
    seconds: choices.below(2 ** 31),
    nanoseconds: choices.below(1e9),
    vlan: choices.pick([-1, -1, 5]),
    vlanProtocol: 0x8100,
    interfaceIndex: choices.below(4),
  };
}

const onWriter =
  (values: (draft: Draft) => unknown[] = () => []): Row =>
  (draft) => ({ receiver: draft.world.packets.writer(draft.choices), values: values(draft) });

function capturedPacket(draft: Draft): CapturedPacket {
  for (const one of CaptureFile.open(draft.choices.pick(SAMPLES))) return one;
  throw new Error("there is no packet in the samples");
}

/** Rows of "bun-sockets/packet" that are not of headers. */
export const PACKET_ROWS: readonly [string, Row][] = [
  ["new PacketSocket", () => ({ receiver: undefined, values: [undefined] })],
  ["PacketSocket.open", (draft) => ({ receiver: undefined, values: openOptions(draft) })],
  [
    "PacketSocket.adopt",
    ({ choices, world }) => {
      const fd = openForeign(AF_PACKET, choices.pick([SOCK_RAW, SOCK_DGRAM]));
      world.fds.add(fd);
      return { receiver: undefined, values: [fd, choices.pick([undefined, {}, { own: true }])] };
    },
  ],
  ...["interfaceIndex", "linkType", "fanoutGroup"].map((get): [string, Row] => [
    `get ${SOCKET}${get}`,
    (draft) => ({ receiver: socket(draft), values: [] }),
  ]),
  [`${SOCKET}statistics`, (draft) => ({ receiver: socket(draft), values: [] })],
  [`${SOCKET}rolloverStatistics`, (draft) => ({ receiver: rollover(draft), values: [] })],
  [`${SOCKET}addMembership`, membership],
  [`${SOCKET}dropMembership`, membership],
  [`${SOCKET}joinFanout`, (draft) => ({ receiver: unjoined(draft), values: [fanout(draft)] })],
  ["get RingSocket.prototype.fanoutGroup", (draft) => ({ receiver: socket(draft), values: [] })],
  [
    "RingSocket.prototype.duplicate",
    (draft) => ({ receiver: (onRing()(draft).receiver as PacketRing).socket, values: [] }),
  ],
  ["RingSocket.prototype.close", ringSocketEnding()],
  ["RingSocket.prototype.detach", ringSocketEnding(35)],

  ["new PacketRing", () => ({ receiver: undefined, values: [undefined] })],
  [
    "PacketRing.open",
    (draft) => {
      const { choices } = draft;
      const [where, options] = openOptions(draft, {
        blockTimeoutMs: () => choices.pick([1, 10, 65_535]),
        snapBytes: () => choices.pick([1, 60, 2 ** 31 - 1]),
        flowHash: () => boolean(draft),
        checked: () => boolean(draft),
        maxBytes: () => 1 << 20,
      });
      const geometry = {
        blockBytes: choices.pick([4096, 4096, 8192, 65_536]),
        blocks: choices.pick([1, 2]),
      };
      return { receiver: undefined, values: [where, { ...(options as object), ...geometry }] };
    },
  ],
  ...["socket", "interfaceIndex", "blockBytes", "blockCount", "closed"].map(
    (get): [string, Row] => [`get ${RING}${get}`, onRing()],
  ),
  [`${RING}statistics`, onRing()],
  [`${RING}toString`, onRing()],
  [`PacketRing.prototype${INSPECT}`, onRing()],
  [`${RING}tryReceiveBlock`, fedRing()],
  [`${RING}receiveBlockSync`, fedRing((draft) => [timeoutOptions(draft)])],
  [`${RING}receiveBlock`, fedRing((draft) => [cancelOptions(draft)])],
  [
    `${RING}blocks`,
    onRing((draft) => [some(draft, { signal: () => draft.world.signal(draft.choices) })]),
  ],
  ["PacketRing.prototype[Symbol.asyncIterator]", onRing()],
  [`${RING}close`, onEnding()],
  ["PacketRing.prototype[Symbol.dispose]", onEnding()],
  ...(
    "bytes view released count losing timedOut sequence offset end length originalLength networkOffset " +
    "seconds nanoseconds status vlan vlanProtocol checksum hash packetType protocol interfaceIndex"
  )
    .split(" ")
    .map((get): [string, Row] => [`get ${BLOCK}${get}`, onBlock]),
  ...["next", "rewind", "packet", "sender", "release"].map((call): [string, Row] => [
    `${BLOCK}${call}`,
    onBlock,
  ]),
  ["PacketBlock.prototype[Symbol.iterator]", onBlock],
  ["PacketBlock.prototype[Symbol.dispose]", onBlock],
  ...[".next", ".return", "[Symbol.asyncIterator]", "[Symbol.asyncDispose]"].map(
    (member): [string, Row] => [`PacketBlocks.prototype${member}`, onBlocks],
  ),
  ["frames.next", (draft) => steps(draft, "frames")],
  ["captured.next", (draft) => steps(draft, "captured")],
  ["captured.nextSync", (draft) => steps(draft, "capturedSync")],
  ["captured.return", (draft) => steps(draft, "captured")],
  ["captured.returnSync", (draft) => steps(draft, "capturedSync")],

  [
    "compileFilter",
    (draft) => {
      const { choices } = draft;
      const options = some(draft, {
        linkType: () => choices.pick(["ethernet", "raw", "linux_sll", 1]),
        snapBytes: () => choices.pick([1, 262_144]),
        vlan: () => choices.pick([true, 5]),
        optimize: () => boolean(draft),
      });
      return { receiver: undefined, values: [choices.pick(GRAMMAR), options] };
    },
  ],
  [
    "assembleFilter",
    (draft) => {
      const text = draft.choices.chance(50)
        ? draft.choices.pick(ASSEMBLY)
        : disassembleFilter(program(draft));
      return { receiver: undefined, values: [text] };
    },
  ],
  ["disassembleFilter", (draft) => ({ receiver: undefined, values: [program(draft)] })],
  [
    "runFilter",
    (draft) => {
      const bytes = frameBytes(draft);
      const values = [program(draft), bytes, metadata(draft, bytes.length)];
      return {
        receiver: undefined,
        values: draft.choices.chance(30) ? values.slice(0, 2) : values,
      };
    },
  ],
  [
    "new FilterError",
    ({ choices }) => ({
      receiver: undefined,
      values: ["Cannot do this", choices.pick([undefined, {}, { line: 1, hint: "try" }])],
    }),
  ],
  [
    "new CaptureFileError",
    ({ choices }) => ({
      receiver: undefined,
      values: [choices.below(100), "it is cut off", choices.pick([undefined, "x.pcap"])],
    }),
  ],
  [
    "linkTypeName",
    ({ choices }) => ({ receiver: undefined, values: [choices.pick([0, 1, 276, 999])] }),
  ],
  [
    "linkTypeNumber",
    ({ choices }) => ({
      receiver: undefined,
      values: [choices.pick([...Object.keys(LinkType), 1, 65_535])],
    }),
  ],
  [
    "linkTypeOfHardware",
    ({ choices }) => ({ receiver: undefined, values: [choices.pick([1, 772, 65_534])] }),
  ],
  ...["internetChecksum", "internetSum"].map((call): [string, Row] => [
    call,
    (draft) => {
      const { choices } = draft;
      const bytes = frameBytes(draft);
      const offset = choices.below(bytes.length + 1);
      const end = offset + choices.below(bytes.length - offset + 1);
      const values = [bytes, offset, end, choices.pick([0, 0xffff, 2 ** 32 - 1])];
      return { receiver: undefined, values: values.slice(0, 1 + choices.below(4)) };
    },
  ]),
  [
    "updatedChecksum",
    ({ choices }) => ({
      receiver: undefined,
      values: [choices.below(65_536), choices.below(65_536), choices.below(65_536)],
    }),
  ],

  ["new CaptureFile", () => ({ receiver: undefined, values: [] })],
  [
    "CaptureFile.create",
    (draft) => {
      const { world, choices } = draft;
      const isFd = choices.chance(30);
      const file = isFd ? world.packets.fdForWriting(choices) : world.packets.path(choices);
      return { receiver: undefined, values: [file, writerOptions(draft)] };
    },
  ],
  [
    "CaptureFile.append",
    (draft) => {
      const path = draft.world.packets.path(draft.choices);
      return { receiver: undefined, values: [path, writerOptions(draft)] };
    },
  ],
  ...["CaptureFile.open", "new CaptureReader"].map((key): [string, Row] => [
    key,
    (draft) => {
      const limitBytes = () => draft.choices.pick([1, 100, 1 << 24]);
      return { receiver: undefined, values: [source(draft), some(draft, { limitBytes })] };
    },
  ]),
  ...(
    "path format byteOrder isModified linkType interfaces sections names position bytes view offset end " +
    "length originalLength seconds nanoseconds interface comment"
  )
    .split(" ")
    .map((get): [string, Row] => [`get ${READER}${get}`, onReader]),
  ...["next", "packet", "close"].map((call): [string, Row] => [`${READER}${call}`, onReader]),
  ...["iterator", "asyncIterator", "dispose"].map((name): [string, Row] => [
    `CaptureReader.prototype[Symbol.${name}]`,
    onReader,
  ]),
  [
    "new CapturedPacket",
    (draft) => ({ receiver: undefined, values: [{ ...capturedPacket(draft) }] }),
  ],
  ...["get CapturedPacket.prototype.direction", "CapturedPacket.prototype.copy"].map(
    (key): [string, Row] => [key, (draft) => ({ receiver: capturedPacket(draft), values: [] })],
  ),
  ...["path", "packetCount", "byteLength", "closed"].map((get): [string, Row] => [
    `get ${WRITER}${get}`,
    onWriter(),
  ]),
  [`${WRITER}addInterface`, onWriter((draft) => [interfaceOptions(draft)])],
  [`${WRITER}write`, onWriter((draft) => [packet(draft)])],
  [`${WRITER}writeBlock`, onWriter((draft) => [cursor(draft)])],
  [`${WRITER}writeFrame`, onWriter((draft) => [cursor(draft)])],
  [
    `${WRITER}writeStatistics`,
    onWriter((draft) => {
      const { choices } = draft;
      const time = () => ({ seconds: choices.below(2 ** 31), nanoseconds: choices.below(1e9) });
      const counts = ["packets", "drops", "accepted", "systemDrops", "delivered"];
      const options = some(draft, {
        ...Object.fromEntries(counts.map((name) => [name, () => choices.below(1000)])),
        start: time,
        end: time,
        time,
        comment: () => "a remark",
      });
      return choices.chance(70) ? [options] : [options, 0];
    }),
  ],
  [`${WRITER}flush`, onWriter()],
  [`${WRITER}close`, onWriter()],
  ["CaptureWriter.prototype[Symbol.dispose]", onWriter()],
];

/** Has a call wait for the next block of a ring: then no other can. */
function waitFor(ring: PacketRing): void {
  try {
    for (let i = 0; i < BLOCKS_MAX && ring.tryReceiveBlock(); i++);
  } catch {
    // It is closed, or another one waits.
  }
  ring.receiveBlock({ timeoutMs: 1 }).catch(() => {});
}

/** Arguments that a call about packets refuses for reasons of its own; undefined where there are none. */
export function planRefusedPacket(draft: Draft): Plan | undefined {
  const { entry, choices, world } = draft;
  const { packets } = world;
  if (entry.module === "main") return undefined;
  const refused = planRefusedHeader(draft);
  if (refused) return refused;
  if (entry.key === "assembleFilter" && choices.chance(50))
    return {
      receiver: undefined,
      values: [choices.pick(["ret", "jeq #1, 9", "ld [", "x: x: ret #0"])],
    };
  if (entry.key === "compileFilter" && choices.chance(50))
    return {
      receiver: undefined,
      values: [choices.pick(["udp prot", "host example.com", "(((", "ip broadcast"])],
    };
  if (entry.key === "disassembleFilter" && choices.chance(50))
    return { receiver: undefined, values: [assembleFilter] };
  if (/^PacketRing\.prototype\.(tryR|r)eceiveBlock/.test(entry.key) && choices.chance(30)) {
    // Another call waits for the next one.
    const ring = packets.ring(choices);
    const { values } = onRing()(draft);
    waitFor(ring);
    return { receiver: ring, values };
  }
  if (entry.key === "PacketBlocks.prototype.next" && choices.chance(50)) {
    const ring = packets.ring(choices);
    const blocks = ring.blocks();
    packets.addBlocks(blocks, ring);
    waitFor(ring);
    return { receiver: blocks, values: [] };
  }
  return undefined;
}
