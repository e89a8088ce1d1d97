/**
 * Arguments that a call takes, one row for each member of the public surface. A member without a row
 * ends the run: whoever adds one to the package adds it here.
 *
 * @module
 */
import { addressFrom, parseAddress, poller, UdpSocket, type UnixAddress } from "bun-sockets";
import { AF_UNIX, SO_TYPE, SOL_SOCKET } from "bun-sockets/sys";
import {
  ALL_ADDRESSES,
  address,
  addressRows,
  adopt,
  allReadable,
  allSettable,
  anyKind,
  asyncOptions,
  batchOptions,
  boolean,
  cancelOptions,
  clogged,
  constant,
  type Draft,
  data,
  dataOrText,
  destinationFor,
  families,
  fed,
  filledBatch,
  flagOptions,
  given,
  handlerOptions,
  inetOptions,
  isConnected,
  isDatagram,
  isListening,
  isNew,
  isReceivingDatagram,
  isSender,
  isUnconnectedDatagram,
  lengthOf,
  localFor,
  message,
  newSocket,
  nobody,
  onBatch,
  onIterator,
  onMessage,
  onSlot,
  onSlots,
  onSocket,
  onSubscription,
  optionsOf,
  type Plan,
  polled,
  RAW,
  type Row,
  setListenFds,
  slot,
  socket,
  socketOptions,
  some,
  some90,
  timeoutOptions,
  udpOptions,
  vectors,
  view,
  waitOptions,
} from "./draft.ts";
import { HEADER_ROWS } from "./good_headers.ts";
import { MESSAGE_ROWS, planRefusedMessage } from "./good_messages.ts";
import { NAME_ROWS, planRefusedName } from "./good_names.ts";
import { PACKET_ROWS, planRefusedPacket } from "./good_packets.ts";
import { RAW_ROWS } from "./good_raw.ts";
import { planRefusedStream, STREAM_ROWS } from "./good_streams.ts";
import { handler } from "./handlers.ts";
import type { Entry } from "./surface.ts";
import { bytesOfText, type Kind, kindOf } from "./world.ts";

/** Makes arguments that the call should take. */
export function planGood(draft: Draft): Plan {
  const row = rowOf(draft.entry);
  if (!row)
    throw new Error(`No good arguments for ${draft.entry.key}: add a row to ${import.meta.file}`);
  return row(draft);
}

// A class that overrides a member takes what the class above it takes, unless it has a row.
function rowOf({ definedAs, overrides }: Entry): Row | undefined {
  return ROWS.get(definedAs) ?? (overrides === undefined ? undefined : ROWS.get(overrides));
}

/** Which members of the surface have no row. */
export function withoutRow(entries: readonly Entry[]): string[] {
  return entries.filter((entry) => !rowOf(entry)).map(({ key }) => key);
}

/** Rows that belong to no member. */
export function withoutMember(entries: readonly Entry[]): string[] {
  const keys = new Set(entries.map(({ definedAs }) => definedAs));
  return [...ROWS.keys()].filter((key) => !keys.has(key));
}

const BUDGETS = [0, 0.1, 1, 1, 2, Number.POSITIVE_INFINITY];

const SOCKET = "Socket.prototype.";
const BATCH = "DatagramBatch.prototype.";

const ROWS: ReadonlyMap<string, Row> = new Map<string, Row>([
  ...STREAM_ROWS,
  ...NAME_ROWS,
  ...MESSAGE_ROWS,
  ...RAW_ROWS,
  ...PACKET_ROWS,
  ...HEADER_ROWS,
  // Nobody makes a socket with new.
  ["new Socket", () => ({ receiver: undefined, values: [{ descriptor: 1 }] })],
  ["new UdpSocket", () => ({ receiver: undefined, values: [undefined] })],
  ["new IpSocket", () => ({ receiver: undefined, values: [undefined] })],
  ["new UnixDatagramSocket", () => ({ receiver: undefined, values: [{}] })],
  [
    "Socket.create",
    (draft) => {
      const [family, type] = draft.choices.pick(families);
      const isInet = family !== "unix" && family !== AF_UNIX;
      const options = isInet ? inetOptions(draft, family === "ipv6") : socketOptions(draft);
      return { receiver: undefined, values: [family, type, options] };
    },
  ],
  [
    "Socket.pair",
    (draft) => {
      const { choices } = draft;
      const types = ["stream", "datagram", "seqpacket"] as const;
      const options = some(draft, {
        family: () => choices.pick(["unix", AF_UNIX]),
        type: () => choices.pick(types),
        protocol: () => 0,
      });
      return { receiver: undefined, values: [options] };
    },
  ],
  ["Socket.adopt", adopt],
  ["UdpSocket.adopt", adopt],
  ["UnixDatagramSocket.adopt", adopt],
  [
    "UdpSocket.open",
    (draft) => {
      const isIpv6 = draft.choices.chance(50);
      const text = isIpv6 ? "[::1]:0" : "127.0.0.1:0";
      const family = draft.choices.chance(50) ? given(draft, text) : isIpv6 ? "ipv6" : "ipv4";
      return { receiver: undefined, values: [family, udpOptions(draft, isIpv6)] };
    },
  ],
  [
    "UdpSocket.bind",
    (draft) => {
      const family = draft.choices.pick(["ipv4", "ipv6"]);
      const local = localFor(draft, { family, type: "datagram", state: "new" });
      return { receiver: undefined, values: [local, udpOptions(draft, family === "ipv6")] };
    },
  ],
  ["UnixDatagramSocket.open", (draft) => ({ receiver: undefined, values: [socketOptions(draft)] })],
  [
    "UnixDatagramSocket.bind",
    (draft) => {
      const { choices, world } = draft;
      const local = given(draft, choices.chance(20) ? "unix:" : world.name(choices));
      const isPath = (typeof local === "string" ? parseAddress(local) : local) as UnixAddress;
      const more = isPath.isPath
        ? { mode: () => choices.pick([0o600, 0o777, 0]), removeStale: () => choices.chance(70) }
        : {};
      return { receiver: undefined, values: [local, socketOptions(draft, more)] };
    },
  ],
  ["UnixDatagramSocket.pair", () => ({ receiver: undefined, values: [] })],

  [`get ${SOCKET}protocol`, onSocket()],
  [
    `${SOCKET}bind`,
    (draft) => {
      const receiver = newSocket(draft, ({ type }) => type !== "raw");
      return { receiver, values: [localFor(draft, kindOf(receiver))] };
    },
  ],
  [
    `${SOCKET}tryConnect`,
    (draft) => {
      const receiver = socket(draft, (kind) => isNew(kind) || isUnconnectedDatagram(kind));
      return { receiver, values: [destinationFor(draft, kindOf(receiver))] };
    },
  ],
  [
    `${SOCKET}connectSync`,
    (draft) => {
      const receiver = socket(draft, (kind) => isNew(kind) || isUnconnectedDatagram(kind));
      return { receiver, values: [destinationFor(draft, kindOf(receiver)), timeoutOptions(draft)] };
    },
  ],
  [`${SOCKET}disconnect`, onSocket(isDatagram)],
  [`get ${SOCKET}connected`, onSocket()],
  [
    `${SOCKET}listen`,
    (draft) => {
      const isStream = ({ type, family }: Kind) =>
        type === "stream" || (type === "seqpacket" && family === "unix");
      const receiver = socket(
        draft,
        (kind) => isStream(kind) && (isListening(kind) || (isNew(kind) && kind.family !== "unix")),
      );
      return { receiver, values: [draft.choices.pick([undefined, 0, 1, 16, 2 ** 31 - 1])] };
    },
  ],
  [`${SOCKET}tryAccept`, (draft) => ({ receiver: fed(draft, isListening), values: [] })],
  [
    `${SOCKET}acceptSync`,
    (draft) => ({ receiver: fed(draft, isListening), values: [timeoutOptions(draft)] }),
  ],
  [`get ${SOCKET}localAddress`, onSocket()],
  [`get ${SOCKET}remoteAddress`, onSocket()],
  [`get ${SOCKET}receiveBuffer`, onSocket()],
  [`get ${SOCKET}sendBuffer`, onSocket()],
  [`get ${SOCKET}descriptor`, onSocket()],
  [`get ${SOCKET}inheritable`, onSocket()],
  [`set ${SOCKET}inheritable`, (draft) => ({ receiver: socket(draft), values: [boolean(draft)] })],
  [
    `${SOCKET}getOption`,
    (draft) => {
      const receiver = socket(draft);
      const { readable } = optionsOf(receiver);
      return { receiver, values: [draft.choices.pick(some90(draft, readable, allReadable))] };
    },
  ],
  [
    `${SOCKET}setOption`,
    (draft) => {
      const receiver = socket(draft);
      const { settable } = optionsOf(receiver);
      const { option, value } = draft.choices.pick(some90(draft, settable, allSettable));
      return { receiver, values: [option, value] };
    },
  ],
  [
    `${SOCKET}getRawOption`,
    (draft) => {
      const receiver = socket(draft);
      const all = [
        ...some90(draft, optionsOf(receiver).raw, RAW),
        [SOL_SOCKET, SO_TYPE, 0] as const,
      ];
      const [level, number] = draft.choices.pick(all);
      const lengths = [[], [], [1], [4], [100], [4096]];
      return { receiver, values: [level, number, ...draft.choices.pick(lengths)] };
    },
  ],
  [
    `${SOCKET}setRawOption`,
    (draft) => {
      const { choices } = draft;
      const receiver = socket(draft);
      const [level, number, value] = choices.pick(some90(draft, optionsOf(receiver).raw, RAW));
      const values = [
        ...[[value], [value], [value], [value], [Int32Array.of(value)]],
        ...[[Buffer.alloc(8)], [null, 0], [null, 8]],
      ];
      return { receiver, values: [level, number, ...choices.pick(values)] };
    },
  ],
  [
    `${SOCKET}trySend`,
    (draft) => {
      const receiver = socket(draft, isConnected);
      return { receiver, values: [data(draft), flagOptions(draft, receiver, false)] };
    },
  ],
  [
    `${SOCKET}sendSync`,
    (draft) => {
      const receiver = socket(draft, isConnected);
      return { receiver, values: [dataOrText(draft), waitOptions(draft, receiver, false)] };
    },
  ],
  [
    `${SOCKET}trySendTo`,
    (draft) => {
      const receiver = socket(draft, isUnconnectedDatagram);
      const to = destinationFor(draft, kindOf(receiver));
      return { receiver, values: [data(draft), to, flagOptions(draft, receiver, false)] };
    },
  ],
  [
    `${SOCKET}sendToSync`,
    (draft) => {
      const receiver = socket(draft, isUnconnectedDatagram);
      const to = destinationFor(draft, kindOf(receiver));
      return { receiver, values: [dataOrText(draft), to, waitOptions(draft, receiver, false)] };
    },
  ],
  [
    `${SOCKET}trySendMessage`,
    (draft) => {
      const receiver = socket(draft, isSender);
      const options = flagOptions(draft, receiver, false);
      return { receiver, values: [message(draft, kindOf(receiver)), options] };
    },
  ],
  [
    `${SOCKET}sendMessageSync`,
    (draft) => {
      const receiver = socket(draft, isSender);
      const options = waitOptions(draft, receiver, false);
      return { receiver, values: [message(draft, kindOf(receiver)), options] };
    },
  ],
  [
    `${SOCKET}tryReceive`,
    (draft) => {
      const receiver = fed(draft);
      return { receiver, values: [view(draft, 1), flagOptions(draft, receiver, true)] };
    },
  ],
  [
    `${SOCKET}receiveSync`,
    (draft) => {
      const receiver = fed(draft);
      return { receiver, values: [view(draft, 1), waitOptions(draft, receiver, true)] };
    },
  ],
  [
    `${SOCKET}tryReceiveBytes`,
    (draft) => {
      const receiver = fed(draft);
      const bytesMax = draft.choices.pick([1, 10, 100, 2000, 65536]);
      return { receiver, values: [bytesMax, flagOptions(draft, receiver, true)] };
    },
  ],
  [
    `${SOCKET}receiveBytesSync`,
    (draft) => {
      const receiver = fed(draft);
      const bytesMax = draft.choices.pick([1, 10, 100, 2000, 65536]);
      return { receiver, values: [bytesMax, waitOptions(draft, receiver, true)] };
    },
  ],
  [
    `${SOCKET}tryReceiveFrom`,
    (draft) => {
      const receiver = fed(draft);
      return { receiver, values: [view(draft, 1), flagOptions(draft, receiver, true)] };
    },
  ],
  [
    `${SOCKET}receiveFromSync`,
    (draft) => {
      const receiver = fed(draft);
      return { receiver, values: [view(draft, 1), waitOptions(draft, receiver, true)] };
    },
  ],
  [
    `${SOCKET}tryReceiveMessage`,
    (draft) => {
      const receiver = fed(draft);
      return { receiver, values: [message(draft), flagOptions(draft, receiver, true)] };
    },
  ],
  [
    `${SOCKET}receiveMessageSync`,
    (draft) => {
      const receiver = fed(draft);
      return { receiver, values: [message(draft), waitOptions(draft, receiver, true)] };
    },
  ],
  [
    `${SOCKET}trySendBatch`,
    (draft) => {
      const receiver = socket(draft, isDatagram);
      const { batch } = filledBatch(draft, kindOf(receiver));
      const first = draft.choices.pick([undefined, 0, draft.choices.below(batch.count + 1)]);
      return { receiver, values: [batch, first, flagOptions(draft, receiver, false)] };
    },
  ],
  [
    `${SOCKET}sendBatchSync`,
    (draft) => {
      const receiver = socket(draft, isDatagram);
      const { batch } = filledBatch(draft, kindOf(receiver));
      const first = draft.choices.pick([undefined, 0, draft.choices.below(batch.count + 1)]);
      return { receiver, values: [batch, first, waitOptions(draft, receiver, false)] };
    },
  ],
  [
    `${SOCKET}tryReceiveBatch`,
    (draft) => {
      const receiver = fed(draft, isReceivingDatagram);
      const { batch } = draft.world.batch(draft.choices);
      return { receiver, values: [batch, flagOptions(draft, receiver, true)] };
    },
  ],
  [
    `${SOCKET}receiveBatchSync`,
    (draft) => {
      const receiver = fed(draft, isReceivingDatagram);
      const { batch } = draft.world.batch(draft.choices);
      return { receiver, values: [batch, waitOptions(draft, receiver, true)] };
    },
  ],
  [
    `${SOCKET}connect`,
    (draft) => {
      const receiver = socket(draft, (kind) => isNew(kind) || isUnconnectedDatagram(kind));
      return { receiver, values: [destinationFor(draft, kindOf(receiver)), cancelOptions(draft)] };
    },
  ],
  [
    `${SOCKET}accept`,
    (draft) => ({ receiver: fed(draft, isListening), values: [cancelOptions(draft)] }),
  ],
  [
    `${SOCKET}send`,
    (draft) => {
      const receiver = clogged(draft, isConnected);
      return { receiver, values: [dataOrText(draft), asyncOptions(draft, receiver, false)] };
    },
  ],
  [
    `${SOCKET}sendTo`,
    (draft) => {
      const receiver = socket(draft, isUnconnectedDatagram);
      const to = destinationFor(draft, kindOf(receiver));
      return { receiver, values: [dataOrText(draft), to, asyncOptions(draft, receiver, false)] };
    },
  ],
  [
    `${SOCKET}sendMessage`,
    (draft) => {
      const receiver = clogged(draft, isSender);
      const options = asyncOptions(draft, receiver, false);
      return { receiver, values: [message(draft, kindOf(receiver)), options] };
    },
  ],
  [
    `${SOCKET}sendBatch`,
    (draft) => {
      const receiver = clogged(draft, isDatagram);
      const { batch } = filledBatch(draft, kindOf(receiver));
      const first = draft.choices.pick([undefined, 0, draft.choices.below(batch.count + 1)]);
      return { receiver, values: [batch, first, asyncOptions(draft, receiver, false)] };
    },
  ],
  ...["receive", "receiveFrom"].map((call): [string, Row] => [
    `${SOCKET}${call}`,
    (draft) => {
      const receiver = fed(draft);
      return { receiver, values: [view(draft, 1), asyncOptions(draft, receiver, true)] };
    },
  ]),
  [
    `${SOCKET}receiveBytes`,
    (draft) => {
      const receiver = fed(draft);
      const bytesMax = draft.choices.pick([1, 10, 100, 2000, 65536]);
      return { receiver, values: [bytesMax, asyncOptions(draft, receiver, true)] };
    },
  ],
  [
    `${SOCKET}receiveMessage`,
    (draft) => {
      const receiver = fed(draft);
      return { receiver, values: [message(draft), asyncOptions(draft, receiver, true)] };
    },
  ],
  [
    `${SOCKET}receiveBatch`,
    (draft) => {
      const receiver = fed(draft, isReceivingDatagram);
      const { batch } = draft.world.batch(draft.choices);
      return { receiver, values: [batch, asyncOptions(draft, receiver, true)] };
    },
  ],
  [
    `${SOCKET}batches`,
    (draft) => {
      const receiver = fed(draft, isReceivingDatagram);
      const { choices, world } = draft;
      if (choices.chance(85)) world.unsubscribe(receiver);
      const options = batchOptions(draft, {
        rotate: () => choices.pick([1, 2, 3]),
        signal: () => world.signal(choices),
      });
      return { receiver, values: draft.isToSpoil || choices.chance(80) ? [options] : [] };
    },
  ],
  [
    `${SOCKET}onBatch`,
    (draft) => {
      const receiver = fed(draft, isReceivingDatagram);
      if (draft.choices.chance(85)) {
        draft.world.unsubscribe(receiver);
        draft.world.leaveLoops(receiver);
      }
      return { receiver, values: [handler(draft, receiver), handlerOptions(draft, receiver)] };
    },
  ],
  [`${SOCKET}ref`, onSocket()],
  [`${SOCKET}unref`, onSocket()],
  [
    `${SOCKET}shutdown`,
    (draft) => ({
      receiver: socket(draft, isConnected),
      values: [draft.choices.pick(["read", "write", "both"])],
    }),
  ],
  [`${SOCKET}duplicate`, onSocket()],
  [`${SOCKET}detach`, onSocket()],
  [`${SOCKET}close`, onSocket()],
  ["Socket.prototype[Symbol.dispose]", onSocket()],
  ["Socket.prototype[nodejs.util.inspect.custom]", onSocket()],

  [
    "new DatagramBatch",
    (draft) => {
      const { choices } = draft;
      const options = some(draft, {
        capacity: () => choices.pick([1, 2, 16, 16, 1024]),
        slotBytes: () => choices.pick([1, 63, 64, 65, 1500, 9000]),
        peersMax: () => choices.pick([1, 3, 64]),
      });
      return { receiver: undefined, values: [options] };
    },
  ],
  ...["capacity", "slotBytes", "memory", "count", "stopped", "failed", "freed"].map(
    (get): [string, Row] => [`get ${BATCH}${get}`, onBatch()],
  ),
  [`set ${BATCH}count`, onBatch(({ choices }, { capacity }) => [choices.below(capacity + 1)])],
  ...[
    "offset",
    "length",
    "originalLength",
    "flags",
    "truncated",
    "sender",
    "address",
    "view",
    "failure",
    "failureError",
  ].map((call): [string, Row] => [`${BATCH}${call}`, onSlot]),
  [
    `${BATCH}setLength`,
    onBatch((draft, record) => [slot(draft, record), draft.choices.below(record.slotBytes + 1)]),
  ],
  [
    `${BATCH}setAddress`,
    onBatch((draft, record) => {
      const family = draft.choices.pick(["ipv4", "ipv6", "unix"]);
      const to = destinationFor(draft, { family, type: "datagram", state: "new" });
      return [slot(draft, record), draft.choices.pick([to, to, undefined])];
    }),
  ],
  [`${BATCH}copySender`, onSlots],
  [`${BATCH}swap`, onSlots],
  [
    `${BATCH}write`,
    onBatch((draft, record) => {
      const length = draft.choices.below(record.slotBytes + 1);
      const small = draft.choices.pick([
        new Uint8Array(length),
        Buffer.alloc(length),
        "x".repeat(length),
      ]);
      return [slot(draft, record), small];
    }),
  ],
  [
    `${BATCH}keep`,
    onBatch(({ choices }, { batch }) => {
      const indices = Array.from({ length: batch.count }, (_, i) => i).filter(() =>
        choices.chance(60),
      );
      return [
        choices.pick([indices, Uint16Array.from(indices), { ...indices, length: indices.length }]),
      ];
    }),
  ],
  [`${BATCH}free`, onBatch()],
  ["DatagramBatch.prototype[Symbol.dispose]", onBatch()],

  [
    "new Message",
    (draft) => {
      const { choices } = draft;
      const options = some(draft, {
        vectors: () => vectors(draft),
        address: () => given(draft, nobody(draft, choices.pick(["ipv4", "ipv6", "unix"]))),
        controlBytes: () => choices.pick([0, 16, 100, 65536]),
      });
      return { receiver: undefined, values: [options] };
    },
  ],
  ...["vectors", "address", "control", "controlLength", "flags", "originalLength"].map(
    (get): [string, Row] => [`get Message.prototype.${get}`, onMessage()],
  ),
  ["set Message.prototype.vectors", onMessage((draft) => [vectors(draft)])],
  [
    "set Message.prototype.address",
    onMessage((draft) => {
      const family = draft.choices.pick(["ipv4", "ipv6", "unix"]);
      return [draft.choices.pick([undefined, given(draft, nobody(draft, family))])];
    }),
  ],
  [
    "set Message.prototype.controlLength",
    onMessage(({ choices }, { control }) => [choices.below(control.length + 1)]),
  ],
  [
    "Message.prototype.advance",
    onMessage(({ choices }, made) => {
      const total = made.vectors.reduce((sum, vector) => sum + lengthOf(vector), 0);
      return [choices.below(total + 1)];
    }),
  ],

  [
    "new NativeBuffer",
    ({ choices }) => ({
      receiver: undefined,
      values: [choices.pick([1, 100, 4096, 4097, 100_000])],
    }),
  ],
  ...["get NativeBuffer.prototype.freed", "NativeBuffer.prototype.free"].map(
    (key): [string, Row] => [
      key,
      ({ world, choices }) => ({ receiver: world.buffer(choices), values: [] }),
    ],
  ),
  [
    "NativeBuffer.prototype[Symbol.dispose]",
    ({ world, choices }) => ({ receiver: world.buffer(choices), values: [] }),
  ],

  [
    "new Inet4Address",
    (draft) => {
      const { host, port, bytes } = address(draft) as {
        host: string;
        port: number;
        bytes: Uint8Array;
      };
      return { receiver: undefined, values: draft.choices.chance(30) ? [bytes] : [host, port] };
    },
  ],
  [
    "new Inet6Address",
    (draft) => {
      const made = draft.choices.pick(["[::1]:53", "[fe80::1%7]:1", "[::ffff:10.0.0.1]:9"]);
      const { host, port, bytes } = parseAddress(made) as {
        host: string;
        port: number;
        bytes: Uint8Array;
      };
      const options = draft.choices.pick([undefined, {}, { flow: 5 }, { flow: 0xffff_ffff }]);
      return {
        receiver: undefined,
        values: draft.choices.chance(30) ? [bytes] : [host, port, options],
      };
    },
  ],
  [
    "new UnixAddress",
    (draft) => {
      const { bytes } = address(draft);
      return { receiver: undefined, values: [draft.choices.pick(["/run/x", "relative", bytes])] };
    },
  ],
  [
    "new LinkAddress",
    (draft) => {
      const made = draft.choices.pick(["link:1", "link:7/02:00:00:00:00:01/0x0800"]);
      const { bytes } = parseAddress(made) as { bytes: Uint8Array };
      const parts = {
        interface: draft.choices.pick(["lo", "nosuchif0", 0, 7]),
        protocol: draft.choices.pick([undefined, 0, 0xffff]),
        hardwareAddress: draft.choices.pick([undefined, "02:00:00:00:00:01", new Uint8Array(32)]),
        hardwareType: draft.choices.pick([undefined, 1]),
        packetType: draft.choices.pick([undefined, "outgoing", 7, 255]),
      };
      return { receiver: undefined, values: [draft.choices.chance(30) ? bytes : parts] };
    },
  ],
  [
    "new RawAddress",
    (draft) => ({
      receiver: undefined,
      values: [
        bytesOfText(
          draft.choices.pick([...ALL_ADDRESSES].filter((text) => !/[%]|^link:[a-z]/.test(text))),
        ),
      ],
    }),
  ],
  [
    "UnixAddress.abstract",
    ({ choices }) => ({
      receiver: undefined,
      values: [choices.pick(["", "name", "\0\0", Buffer.from([255, 0, 1]), "x".repeat(107)])],
    }),
  ],
  [
    "UnixAddress.fromPath",
    ({ choices }) => ({
      receiver: undefined,
      values: [choices.pick([Buffer.from("/run/x"), Buffer.alloc(108, 1), Buffer.from([255])])],
    }),
  ],
  ...["Inet4Address.any", "Inet4Address.loopback", "Inet4Address.broadcast"].map(
    (key): [string, Row] => [`get ${key}`, constant],
  ),
  ...["Inet6Address.any", "Inet6Address.loopback", "UnixAddress.unnamed"].map(
    (key): [string, Row] => [`get ${key}`, constant],
  ),
  ...addressRows(
    "Inet4Address",
    "family host port bytes key hash isUnspecified isLoopback isMulticast isPrivate isLinkLocal isBroadcast",
    "withPort map equals toString toJSON",
  ),
  ...addressRows(
    "Inet6Address",
    "family host port scope flow bytes key hash isUnspecified isLoopback isMulticast isPrivate isLinkLocal isV4Mapped",
    "withPort unmap resolveScope equals toString toJSON",
  ),
  ...addressRows(
    "UnixAddress",
    "family path abstractName nameBytes isPath isAbstract isUnnamed bytes key hash",
    "equals toString toJSON",
  ),
  ...addressRows(
    "LinkAddress",
    "family interface interfaceIndex protocol hardwareAddress hardwareBytes hardwareType packetType bytes key hash",
    "resolveInterface equals toString toJSON",
  ),
  ...addressRows("RawAddress", "family bytes key hash", "equals toString toJSON"),

  [
    "parseAddress",
    ({ choices }) => ({ receiver: undefined, values: [choices.pick(ALL_ADDRESSES)] }),
  ],
  [
    "addressFrom",
    (draft) => {
      const parts = address(draft).toJSON();
      return {
        receiver: undefined,
        values: [draft.choices.chance(80) ? parts : addressFrom(parts)],
      };
    },
  ],
  [
    "addressFromBytes",
    ({ choices }) => ({
      receiver: undefined,
      values: [
        bytesOfText(choices.pick(ALL_ADDRESSES.filter((text) => !/[%]|^link:[a-z]/.test(text)))),
      ],
    }),
  ],
  [
    "compareAddresses",
    (draft) => ({ receiver: undefined, values: [address(draft), address(draft)] }),
  ],

  ...["next", "return"].map((call): [string, Row] => [`Batches.prototype.${call}`, onIterator]),
  ["Batches.prototype[Symbol.asyncIterator]", onIterator],
  ["Batches.prototype[Symbol.asyncDispose]", onIterator],
  ...["get paused", "get stopped", "pause", "resume", "stop"].map((key): [string, Row] => [
    key.replace(/(\w+)$/, "BatchSubscription.prototype.$1"),
    onSubscription,
  ]),
  ["BatchSubscription.prototype[Symbol.dispose]", onSubscription],

  ["poll", (draft) => ({ receiver: undefined, values: [polled(draft), cancelOptions(draft)] })],
  [
    "pollSync",
    (draft) => ({ receiver: undefined, values: [polled(draft), timeoutOptions(draft)] }),
  ],
  ["tryPoll", (draft) => ({ receiver: undefined, values: [polled(draft)] })],
  ...["ringer", "doorbell", "refusals", "counters", "turnBudgetMs", "busyPoll"].map(
    (get): [string, Row] => [`get poller.${get}`, constant],
  ),
  [
    "set poller.turnBudgetMs",
    ({ choices }) => ({
      receiver: undefined,
      // While the thread looks all the time, it does nothing else for so long.
      values: [poller.busyPoll ? choices.pick([0, 0.1, 1]) : choices.pick(BUDGETS)],
    }),
  ],
  [
    "set poller.busyPoll",
    ({ choices }) => ({
      receiver: undefined,
      values: [poller.turnBudgetMs <= 1 && choices.chance(30)],
    }),
  ],

  ["capabilities", constant],
  [
    "listenFds",
    ({ choices }) => {
      // Descriptors from 3 on are named, and closed for programs that are started, which they are.
      setListenFds(choices.pick([undefined, "0", "1"]));
      return { receiver: undefined, values: [] };
    },
  ],
  [
    "options.dump",
    ({ world, choices }) => {
      const className = choices.pick(["Socket", "UdpSocket", "UnixDatagramSocket"]);
      return { receiver: undefined, values: [world.socket(choices, className, anyKind)] };
    },
  ],

  [
    "new SystemError",
    (draft) => {
      const { choices } = draft;
      const details = some(draft, {
        address: () => address(draft),
        unix: () => boolean(draft),
        sending: () => boolean(draft),
        transferred: () => choices.below(100),
        option: () => "SO_RCVBUF",
        hint: () => "Try again",
      });
      return { receiver: undefined, values: [choices.pick([-98, 98, 9999]), "bind", details] };
    },
  ],
  [
    "new TimeoutError",
    ({ choices }) => ({
      receiver: undefined,
      values: ["recv", choices.pick([undefined, {}, { transferred: 5 }])],
    }),
  ],
  [
    "new ClosedError",
    ({ choices }) => ({
      receiver: undefined,
      values: ["recv", choices.pick([undefined, {}, { transferred: 5 }])],
    }),
  ],
]);

/** Arguments that a call refuses for reasons of its own; undefined where there are none. */
export function planRefused(draft: Draft): Plan | undefined {
  const { entry, choices } = draft;
  const refused =
    planRefusedName(draft) ??
    planRefusedStream(draft) ??
    planRefusedMessage(draft) ??
    planRefusedPacket(draft);
  if (refused) return refused;
  if (entry.definedAs === "listenFds") {
    setListenFds(choices.pick(["x", "-1", "1.5", "9999", "1000000000"]));
    return { receiver: undefined, values: [] };
  }
  if (entry.key === "Batches.prototype.next") {
    // The batch is another step's, which waits.
    const from = draft.world.add(UdpSocket.bind("127.0.0.1:0"));
    const batches = from.batches({ capacity: 1 });
    batches.next().catch(() => {});
    draft.world.iterate(batches, from);
    return { receiver: batches, values: [] };
  }
  if (entry.definedAs.endsWith(".batches") && choices.chance(40)) {
    const options = { rotate: choices.pick([0, 1025, 1.5]), capacity: choices.pick([1, 0, 2000]) };
    return { receiver: socket(draft), values: [options] };
  }
  if (!entry.definedAs.endsWith(".adopt") || choices.chance(60)) return undefined;
  // It has an owner.
  return { receiver: undefined, values: [socket(draft).descriptor, { own: true }] };
}
