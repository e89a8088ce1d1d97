/**
 * Arguments for what goes beside the payload, and around the usual calls: control messages, passed
 * descriptors, trains of segments, sends without a copy, groups, filters, and the queue of errors.
 *
 * @module
 */
import {
  ControlReader,
  ControlWriter,
  FilterProgram,
  LossWindow,
  type Message,
  type PacketFamily,
  type ReceivedDescriptor,
  UnixSocket,
} from "bun-sockets";
import {
  BPF_K,
  BPF_RET,
  IP_TOS,
  IP_TTL,
  IPPROTO_IP,
  IPPROTO_UDP,
  SO_TIMESTAMPNS,
  SOL_SOCKET,
  UDP_SEGMENT,
} from "bun-sockets/sys";
import {
  asyncOptions,
  boolean,
  cancelOptions,
  clogged,
  constant,
  type Draft,
  data,
  dataOrText,
  destinationFor,
  fed,
  flagOptions,
  isConnected,
  isDatagram,
  type Plan,
  type Row,
  slot,
  socket,
  some,
  timeoutOptions,
  view,
  waitOptions,
} from "./draft.ts";
import { classes } from "./surface.ts";
import { type AnySocket, type BatchRecord, isOpen, kindOf, rightsMessage } from "./world.ts";

const SOCKET = "Socket.prototype.";
const UDP = "UdpSocket.prototype.";
const IP = "IpSocket.prototype.";
const BATCH = "DatagramBatch.prototype.";
const READER = "ControlReader.prototype.";
const WRITER = "ControlWriter.prototype.";
const RECEIVED = "ReceivedDescriptor.prototype.";

type Form = "try" | "sync" | "promise";

function forms(of: string, name: string, values: (draft: Draft, form: Form) => Plan) {
  const keys = [
    ["try", `try${name[0]?.toUpperCase()}${name.slice(1)}`],
    ["sync", `${name}Sync`],
    ["promise", name],
  ] as const;
  return keys.map(([form, key]): [string, Row] => [`${of}${key}`, (draft) => values(draft, form)]);
}

function options(draft: Draft, form: Form, receiver: AnySocket, receives: boolean): object {
  const all =
    form === "try"
      ? flagOptions(draft, receiver, receives)
      : form === "sync"
        ? waitOptions(draft, receiver, receives)
        : asyncOptions(draft, receiver, receives);
  return (all ?? {}) as object;
}

// Control messages.

/** Memory that begins with control messages, and how long they are. */
function controlBytes({ choices }: Draft): readonly [bytes: Uint8Array, length: number] {
  const writer = new ControlWriter(new Uint8Array(256));
  for (let i = choices.below(5); i > 0; i--) {
    const number = choices.below(256);
    choices.pick<() => void>([
      () => writer.addTtl(Math.max(1, number), choices.pick(["ipv4", "ipv6"])),
      () => writer.addTrafficClass(number, choices.pick(["ipv4", "ipv6"])),
      () => writer.addSegmentBytes(number + 1),
      () => writer.addPacketInfo({ source: "127.0.0.1:0", interfaceIndex: 1 }),
      () => writer.add(SOL_SOCKET, SO_TIMESTAMPNS, new Uint8Array(choices.pick([16, 8, 0]))),
      () => writer.add(IPPROTO_UDP, UDP_SEGMENT, Uint8Array.of(1)),
      () => writer.add(number, number, new Uint8Array(choices.below(9))),
    ])();
  }
  const { length } = writer;
  writer.clear();
  const bytes = writer.bytes.buffer as ArrayBuffer;
  if (choices.chance(15)) new Uint8Array(bytes)[choices.below(24)] = choices.below(256);
  return [new Uint8Array(bytes), choices.chance(15) ? choices.below(256) : length];
}

function reader(draft: Draft): ControlReader {
  const [bytes, length] = draft.choices.chance(15) ? [rightsMessage(), 24] : controlBytes(draft);
  const made = new ControlReader(bytes, length);
  for (let i = draft.choices.below(3); i > 0; i--) made.next();
  return made;
}

const onReader =
  (values: (draft: Draft) => unknown[] = () => []): Row =>
  (draft) => ({ receiver: reader(draft), values: values(draft) });

const READER_GETS =
  "kind level type dataOffset dataLength truncated data ttl trafficClass ecn segmentBytes dropped " +
  "mark priority packetStatus originalLength vlan vlanProtocol checksum inQueueBytes interfaceIndex address localAddress seconds nanoseconds ns " +
  "hardwareSeconds hardwareNanoseconds processId userId groupId descriptorCount";

function writer({ choices, world }: Draft): ControlWriter {
  if (choices.chance(20)) {
    const made = world.message(choices, () => ({ vectors: [], controlBytes: 128 }));
    if (made.control.length >= 128 && !made.control.buffer.detached) return made.writer;
  }
  return new ControlWriter(new Uint8Array(choices.pick([64, 128, 200, 200])));
}

const onWriter =
  (values: (draft: Draft) => unknown[] = () => []): Row =>
  (draft) => ({ receiver: writer(draft), values: values(draft) });

const family = ({ choices }: Draft) => choices.pick<PacketFamily>(["ipv4", "ipv6"]);
const packetFamily = (draft: Draft) => (draft.choices.chance(50) ? [] : [family(draft)]);

const CONTROL_ROWS: readonly [string, Row][] = [
  ["new ControlReader", (draft) => ({ receiver: undefined, values: [...controlBytes(draft)] })],
  ["decodeControl", (draft) => ({ receiver: undefined, values: [...controlBytes(draft)] })],
  [`${READER}reset`, onReader((draft) => [...controlBytes(draft)])],
  [`${READER}next`, onReader()],
  ["ControlReader.prototype[nodejs.util.inspect.custom]", onReader()],
  [`${READER}message`, onReader()],
  [
    `${READER}descriptor`,
    () => {
      const made = new ControlReader(rightsMessage(), 24);
      made.next();
      return { receiver: made, values: [0] };
    },
  ],
  ...READER_GETS.split(" ").map((get): [string, Row] => [`get ${READER}${get}`, onReader()]),

  ["new ControlWriter", () => ({ receiver: undefined, values: [new Uint8Array(64)] })],
  ["ControlWriter.space", ({ choices }) => ({ receiver: undefined, values: [choices.below(99)] })],
  [`get ${WRITER}length`, onWriter()],
  [`get ${WRITER}bytes`, onWriter()],
  [`${WRITER}clear`, onWriter()],
  ["ControlWriter.prototype[nodejs.util.inspect.custom]", onWriter()],
  [
    `${WRITER}add`,
    onWriter((draft) => [
      ...draft.choices.pick([
        [IPPROTO_IP, IP_TTL],
        [IPPROTO_IP, IP_TOS],
      ]),
      view(draft).byteLength > 40 ? new Uint8Array(4) : view(draft),
    ]),
  ],
  [`${WRITER}addTtl`, onWriter((draft) => [1 + draft.choices.below(255), family(draft)])],
  [`${WRITER}addTrafficClass`, onWriter((draft) => [draft.choices.below(256), family(draft)])],
  [
    `${WRITER}addPacketInfo`,
    onWriter((draft) => {
      const more = some(draft, {
        source: () => draft.choices.pick(["127.0.0.1:0", "127.0.0.1"]),
        interfaceIndex: () => 1,
      });
      return [more, ...packetFamily(draft)];
    }),
  ],
  [`${WRITER}addSegmentBytes`, onWriter(({ choices }) => [1 + choices.below(1000)])],
  [`${WRITER}addMark`, onWriter(({ choices }) => [choices.below(2 ** 31)])],
  [`${WRITER}addPriority`, onWriter(({ choices }) => [choices.below(7)])],
  [
    `${WRITER}addCredentials`,
    onWriter((draft) => [some(draft, { processId: () => process.pid, userId: () => 0 })]),
  ],
  [`${WRITER}addDescriptors`, onWriter((draft) => [descriptors(draft)])],
  [`${WRITER}addTransmitTime`, onWriter(({ choices }) => [BigInt(choices.below(2 ** 31))])],
  [`${WRITER}addTimestamping`, onWriter(({ choices }) => [choices.pick([0x2, 0x100, 0x200])])],
  [`${WRITER}addTimestampId`, onWriter(({ choices }) => [choices.below(2 ** 31)])],
];

// Slots of batches.

function record({ world, choices }: Draft): BatchRecord {
  return world.controlBatch(choices);
}

const onSlot =
  (values: (draft: Draft) => unknown[] = () => []): Row =>
  (draft) => {
    const made = record(draft);
    return { receiver: made.batch, values: [slot(draft, made), ...values(draft)] };
  };

const orNone = (draft: Draft, value: unknown) => [draft.choices.chance(25) ? undefined : value];

const BATCH_ROWS: readonly [string, Row][] = [
  [`get ${BATCH}controlBytes`, (draft) => ({ receiver: record(draft).batch, values: [] })],
  [
    "DatagramBatch.prototype[nodejs.util.inspect.custom]",
    (draft) => ({ receiver: record(draft).batch, values: [] }),
  ],
  ...(
    "segmentBytes destination interfaceIndex ttl trafficClass ecn timestampSeconds " +
    "timestampNanoseconds timestampNs dropped mark vlan vlanProtocol checksum packetStatus " +
    "control controlTruncated"
  )
    .split(" ")
    .map((call): [string, Row] => [`${BATCH}${call}`, onSlot()]),
  [
    `${BATCH}reply`,
    (draft) => {
      const { world, choices } = draft;
      const made = record(draft);
      if (choices.chance(85)) world.inform(made.batch);
      return { receiver: made.batch, values: made.batch.count > 0 ? [0] : [] };
    },
  ],
  [`${BATCH}setSegmentBytes`, onSlot((draft) => orNone(draft, draft.choices.below(65_536)))],
  [
    `${BATCH}setSource`,
    onSlot((draft) =>
      orNone(draft, draft.choices.pick(["127.0.0.1:0", "127.0.0.1", "[::1]:0", "::1"])),
    ),
  ],
  [`${BATCH}setInterfaceIndex`, onSlot((draft) => orNone(draft, 1))],
  [`${BATCH}setTtl`, onSlot((draft) => orNone(draft, 1 + draft.choices.below(255)))],
  [`${BATCH}setTrafficClass`, onSlot((draft) => orNone(draft, draft.choices.below(256)))],
  [`${BATCH}setEcn`, onSlot(({ choices }) => [choices.below(4)])],
  [`${BATCH}setMark`, onSlot((draft) => orNone(draft, draft.choices.below(2 ** 31)))],
  [
    `${BATCH}setTransmitTime`,
    onSlot((draft) => [...orNone(draft, draft.choices.below(2 ** 31)), draft.choices.below(1e9)]),
  ],
  [
    `${BATCH}setControl`,
    onSlot((draft) => {
      const made = new ControlWriter(new Uint8Array(32));
      made.addTtl(9, family(draft));
      return orNone(draft, made.bytes);
    }),
  ],
];

// Descriptors.

function descriptors({ world, choices }: Draft): unknown[] {
  const open = world.sockets.filter(isOpen);
  return Array.from({ length: choices.pick([0, 1, 1, 1, 2]) }, () =>
    choices.chance(50) && open.length > 0 ? choices.pick(open) : world.passable,
  );
}

/** One that has come over a socket of its own. */
function received({ world, choices }: Draft): ReceivedDescriptor {
  const has = world.received.filter(({ descriptor }) => descriptor >= 0);
  if (has.length > 0 && choices.chance(30)) return choices.pick(has);
  const [left, right] = UnixSocket.pair();
  left.sendDescriptorsSync("x", [world.passable]);
  const [first] = right.receiveDescriptorsSync(new Uint8Array(1)).descriptors;
  left.close();
  right.close();
  world.harvest(first);
  return first as ReceivedDescriptor;
}

const onReceived: Row = (draft) => ({ receiver: received(draft), values: [] });

/** A socket to which descriptors have come, mostly. */
function given(draft: Draft): AnySocket {
  const receiver = fed(draft, isConnected);
  const peer = draft.world.peers.get(receiver);
  if (draft.choices.chance(70) && peer && isOpen(peer)) draft.world.giveDescriptor(peer);
  return receiver;
}

const passing = (className: string) => {
  const of = `${className}.prototype.`;
  return [
    ...forms(of, "sendDescriptors", (draft, form) => {
      const receiver =
        form === "promise" ? clogged(draft, isConnected) : socket(draft, isConnected);
      const payload = form === "try" ? data(draft) : dataOrText(draft);
      const more = options(draft, form, receiver, false);
      return { receiver, values: [payload, descriptors(draft), more] };
    }),
    ...forms(of, "receiveDescriptors", (draft, form) => {
      const receiver = given(draft);
      const more = {
        ...some(draft, { max: () => draft.choices.pick([0, 1, 2, 253]) }),
        ...options(draft, form, receiver, true),
      };
      return { receiver, values: [view(draft, 1), more] };
    }),
  ];
};

function message(draft: Draft): Message {
  const { world, choices } = draft;
  return world.message(choices, () => ({ vectors: [], controlBytes: choices.pick([0, 64, 256]) }));
}

const onMessage: Row = (draft) => ({ receiver: message(draft), values: [] });

const DESCRIPTOR_ROWS: readonly [string, Row][] = [
  ["new ReceivedDescriptor", () => ({ receiver: undefined, values: [3] })],
  [`get ${RECEIVED}descriptor`, onReceived],
  [`get ${RECEIVED}kind`, onReceived],
  ...["take", "close", "[Symbol.dispose]"].map((call): [string, Row] => [
    call.startsWith("[") ? `ReceivedDescriptor.prototype${call}` : `${RECEIVED}${call}`,
    onReceived,
  ]),
  ["ReceivedDescriptor.prototype[nodejs.util.inspect.custom]", onReceived],
  [`${RECEIVED}toString`, onReceived],
  ["Message.prototype[nodejs.util.inspect.custom]", onMessage],
  ["Message.prototype.controlMessages", onMessage],
  ["get Message.prototype.writer", onMessage],
  ["get Message.prototype.descriptors", onMessage],
  ["get Message.prototype.processDescriptor", onMessage],
  ...["UnixSocket", "UnixDatagramSocket", "UnixSeqpacketSocket"].flatMap(passing),
  ...["UnixSocket", "UnixSeqpacketSocket"].map((name): [string, Row] => [
    `${name}.prototype.openPeerProcess`,
    (draft) => ({ receiver: socket(draft, isConnected), values: [] }),
  ]),
];

// Segments, and sends without a copy.

function to(draft: Draft, receiver: AnySocket): object {
  const kind = kindOf(receiver);
  return kind.state === "connected" ? {} : { to: destinationFor(draft, kind) };
}

const OFFLOAD_ROWS: readonly [string, Row][] = [
  ...forms(UDP, "sendSegments", (draft, form) => {
    const { choices } = draft;
    const receiver = socket(draft, isDatagram);
    const isList = choices.chance(30);
    const payload = isList
      ? Array.from({ length: 1 + choices.below(4) }, () => view(draft, 1))
      : data(draft);
    const more = {
      ...options(draft, form, receiver, false),
      ...to(draft, receiver),
      ...(isList ? {} : { segmentBytes: choices.pick([1000, 1472, 9000]) }),
    };
    return { receiver, values: [payload, more] };
  }),
  [`get ${UDP}offload`, (draft) => ({ receiver: socket(draft), values: [] })],
  ...["UdpSocket", "TcpSocket"].flatMap((name): [string, Row][] => [
    ...forms(`${name}.prototype.`, "sendZeroCopy", (draft, form) => {
      const isUdp = name === "UdpSocket";
      const receiver = socket(draft, isUdp ? isDatagram : isConnected);
      const payload = ownCopy(form === "try" ? data(draft) : dataOrText(draft));
      const more = {
        ...options(draft, form, receiver, false),
        ...(isUdp ? to(draft, receiver) : {}),
      };
      return { receiver, values: [payload, more] };
    }),
    [`get ${name}.prototype.zeroCopy`, (draft) => ({ receiver: socket(draft), values: [] })],
  ]),
];

// The kernel may read lent memory after the call, and even after the socket was closed: then it must
// not be full of canaries by now.
function ownCopy(data: ArrayBufferView | ArrayBuffer | string) {
  if (typeof data === "string") return data;
  if (!ArrayBuffer.isView(data)) return data.slice(0);
  return new Uint8Array(data.buffer, data.byteOffset, data.byteLength).slice();
}

// Groups. Those that are joined here no router is told of.

const groupOf = (receiver: AnySocket) => (receiver.family === "ipv6" ? "ff01::1" : "224.0.0.1");

const onGroup =
  (values: (draft: Draft, receiver: AnySocket) => unknown[], joins = true): Row =>
  (draft) => {
    const receiver = socket(draft);
    const group = groupOf(receiver);
    if (joins && draft.choices.chance(80)) {
      try {
        (receiver as unknown as Groups).join(group, { interface: "lo" });
      } catch {
        // It has joined it before, or is closed.
      }
    }
    return { receiver, values: [group, ...values(draft, receiver)] };
  };

interface Groups {
  join(group: string, options: object): void;
}

const onLo = { interface: "lo" };
const sourceFor = (receiver: AnySocket) => (receiver.family === "ipv6" ? "::1" : "127.0.0.1");

const GROUP_ROWS: readonly [string, Row][] = [
  [
    `${IP}join`,
    onGroup(
      (draft, receiver) => [
        {
          ...onLo,
          ...some(draft, { hearsAll: () => boolean(draft), source: () => sourceFor(receiver) }),
        },
      ],
      false,
    ),
  ],
  [`${IP}leave`, onGroup(() => [onLo])],
  [`${IP}blockSource`, onGroup((_draft, receiver) => [sourceFor(receiver), onLo])],
  [
    `${IP}unblockSource`,
    (draft) => {
      const plan = onGroup((_draft, receiver) => [sourceFor(receiver), onLo])(draft);
      try {
        (plan.receiver as { blockSource(...values: unknown[]): void }).blockSource(...plan.values);
      } catch {
        // It is blocked already, or there is nothing to block.
      }
      return plan;
    },
  ],
  [`${IP}sourceFilter`, onGroup(() => [onLo])],
  [
    `${IP}setSourceFilter`,
    onGroup((draft, receiver) => [
      {
        mode: "exclude",
        sources: draft.choices.chance(50) ? [] : [sourceFor(receiver)],
      },
      onLo,
    ]),
  ],
  [`get ${IP}memberships`, (draft) => ({ receiver: socket(draft), values: [] })],
  ["memberships", (draft) => ({ receiver: undefined, values: [some(draft, onlyLo)] })],
  ...["multicastInterface", "multicastHops", "multicastLoop", "pathMtu", "pathMtuDiscovery"].map(
    (name): [string, Row] => [
      `get ${IP}${name}`,
      (draft) => ({ receiver: socket(draft), values: [] }),
    ],
  ),
  [
    `set ${IP}multicastInterface`,
    (draft) => ({ receiver: socket(draft), values: [draft.choices.pick([1, "lo", undefined])] }),
  ],
  [
    `set ${IP}multicastHops`,
    (draft) => ({ receiver: socket(draft), values: [draft.choices.below(256)] }),
  ],
  [`set ${IP}multicastLoop`, (draft) => ({ receiver: socket(draft), values: [boolean(draft)] })],
  [
    `set ${IP}pathMtuDiscovery`,
    (draft) => ({
      receiver: socket(draft),
      values: [draft.choices.pick(["off", "want", "do", "probe", "interface", "omit"])],
    }),
  ],
];

const onlyLo = { family: () => "ipv4" };

// Filters.

const RETURN = BPF_RET | BPF_K;

function program({ choices }: Draft): FilterProgram {
  return choices.pick([
    () => FilterProgram.acceptAll,
    () => FilterProgram.acceptAll,
    () => FilterProgram.dropAll,
    () => FilterProgram.byCpu(2),
    () => new FilterProgram([{ code: RETURN, k: 20 }]),
  ])();
}

// A socket of a group, where its class has groups.
function sharing(draft: Draft): AnySocket {
  const { world, choices, entry } = draft;
  const hasGroups = /^(Udp|Ip)?Socket$/.test(entry.className ?? "");
  return hasGroups && choices.chance(70) ? world.sharing(choices) : socket(draft);
}

const onProgram: Row = (draft) => ({ receiver: program(draft), values: [] });

const FILTER_ROWS: readonly [string, Row][] = [
  [
    "new FilterProgram",
    ({ choices }) => ({
      receiver: undefined,
      values: [Array.from({ length: 1 + choices.below(3) }, (_, k) => ({ code: RETURN, k }))],
    }),
  ],
  ["FilterProgram.parse", () => ({ receiver: undefined, values: [`1\n${RETURN} 0 0 9`] })],
  ["get FilterProgram.dropAll", constant],
  ["get FilterProgram.acceptAll", constant],
  ...["byCpu", "byQueue", "bySourceHash"].map((call): [string, Row] => [
    `FilterProgram.${call}`,
    ({ choices }) => ({ receiver: undefined, values: [1 + choices.below(100)] }),
  ]),
  ["get FilterProgram.prototype.length", onProgram],
  ["get FilterProgram.prototype.instructions", onProgram],
  ["FilterProgram.prototype.toString", onProgram],
  ["FilterProgram.prototype[nodejs.util.inspect.custom]", onProgram],
  [
    `${SOCKET}attachFilter`,
    (draft) => ({
      receiver: socket(draft),
      values: [program(draft), draft.choices.pick([undefined, {}, { drains: false }])],
    }),
  ],
  [`${SOCKET}attachedFilter`, (draft) => ({ receiver: socket(draft), values: [] })],
  [`${SOCKET}detachFilter`, (draft) => ({ receiver: socket(draft), values: [] })],
  [
    `${SOCKET}attachReusePortProgram`,
    (draft) => ({ receiver: sharing(draft), values: [program(draft)] }),
  ],
  [`${SOCKET}detachReusePortProgram`, (draft) => ({ receiver: sharing(draft), values: [] })],
];

// The queue of errors.

/** A socket whose peer is not there, as its queue of errors knows, mostly. */
function refused(draft: Draft): AnySocket {
  const receiver = socket(draft, isDatagram);
  if (draft.choices.chance(85)) draft.world.refuse(receiver);
  return receiver;
}

function errors(draft: Draft): object {
  const { world, choices } = draft;
  const type = classes.get("QueuedErrors") as abstract new () => object;
  const has = world.ownedBy((object) => object instanceof type);
  if (has.length > 0 && choices.chance(50)) {
    const { owner, object } = choices.pick(has);
    if (choices.chance(70)) world.refuse(owner);
    return object;
  }
  const from = world.socket(choices, "UdpSocket", isDatagram);
  if (choices.chance(85)) world.refuse(from);
  const made = from.errors(some(draft, { signal: () => world.signal(choices) }));
  world.own(made, from);
  return made;
}

const onErrors: Row = (draft) => ({ receiver: errors(draft), values: [] });

const ERROR_ROWS: readonly [string, Row][] = [
  [`get ${SOCKET}closed`, (draft) => ({ receiver: socket(draft), values: [] })],
  [`${SOCKET}toString`, (draft) => ({ receiver: socket(draft), values: [] })],
  [`get ${SOCKET}queueErrors`, (draft) => ({ receiver: socket(draft), values: [] })],
  [
    `set ${SOCKET}queueErrors`,
    (draft) => ({ receiver: socket(draft, isDatagram), values: [boolean(draft)] }),
  ],
  [`${SOCKET}tryReceiveError`, (draft) => ({ receiver: refused(draft), values: [] })],
  [
    `${SOCKET}receiveErrorSync`,
    (draft) => ({ receiver: refused(draft), values: [timeoutOptions(draft)] }),
  ],
  [
    `${SOCKET}receiveError`,
    (draft) => ({ receiver: refused(draft), values: [cancelOptions(draft)] }),
  ],
  [
    `${SOCKET}errors`,
    (draft) => ({
      receiver: refused(draft),
      values: [some(draft, { signal: () => draft.world.signal(draft.choices) })],
    }),
  ],
  ...[".next", ".return", "[Symbol.asyncIterator]", "[Symbol.asyncDispose]"].map(
    (member): [string, Row] => [`QueuedErrors.prototype${member}`, onErrors],
  ),
  [`get ${SOCKET}errorQueue`, (draft) => ({ receiver: socket(draft), values: [] })],
  [`get ${SOCKET}transmitTimestamps`, (draft) => ({ receiver: socket(draft), values: [] })],
  [
    `set ${SOCKET}transmitTimestamps`,
    (draft) => ({
      receiver: socket(draft, isDatagram),
      values: [draft.choices.pick([[], ["scheduled"], ["sent"], ["sent", "scheduled"]])],
    }),
  ],
];

/** Arguments that such a call refuses for reasons of its own. */
export function planRefusedMessage({ entry, world }: Draft): Plan | undefined {
  if (!/ReceivedDescriptor\.prototype\.(kind|take)$/.test(entry.key)) return undefined;
  const [left, right] = UnixSocket.pair();
  left.sendDescriptorsSync("x", [world.passable]);
  const [gone] = right.receiveDescriptorsSync(new Uint8Array(1)).descriptors;
  left.close();
  right.close();
  gone?.close();
  return { receiver: gone, values: [] };
}

// What was lost.

const LOSS_ROWS: readonly [string, Row][] = [
  [
    "new LossWindow",
    (draft) => ({
      receiver: undefined,
      values: [
        draft.world.socket(draft.choices, "UdpSocket", isDatagram),
        some(draft, { interface: () => draft.choices.pick(["lo", 1]) }),
      ],
    }),
  ],
  [
    "LossWindow.prototype.take",
    (draft) => {
      const { world, choices } = draft;
      const receiver = new LossWindow(world.socket(choices, "UdpSocket", isDatagram));
      const given = draft.isToSpoil || choices.chance(50);
      return { receiver, values: given ? [world.batch(choices).batch] : [] };
    },
  ],
];

export const MESSAGE_ROWS: readonly [string, Row][] = [
  ...LOSS_ROWS,
  ...CONTROL_ROWS,
  ...BATCH_ROWS,
  ...DESCRIPTOR_ROWS,
  ...OFFLOAD_ROWS,
  ...GROUP_ROWS,
  ...FILTER_ROWS,
  ...ERROR_ROWS,
];
