/**
 * Arguments for streams: their sockets, listeners, readers, writers, and what steps through them.
 *
 * @module
 */
import {
  Listener,
  type StreamSocket,
  TcpListener,
  type UnixAddress,
  UnixSocket,
} from "bun-sockets";
import { AF_INET, AF_INET6, AF_UNIX, SOCK_SEQPACKET, SOCK_STREAM } from "bun-sockets/sys";
import {
  asyncOptions,
  boolean,
  cancelOptions,
  clogged,
  type Draft,
  data,
  dataOrText,
  fed,
  flagOptions,
  given,
  isConnected,
  isListening,
  localFor,
  nobody,
  onSocket,
  type Plan,
  type Row,
  socket,
  socketOptions,
  some,
  timeoutOptions,
  view,
  waitOptions,
} from "./draft.ts";
import { classes } from "./surface.ts";
import {
  type AnySocket,
  isIterator,
  isOpen,
  type Kind,
  openForeign,
  openForeignListener,
  sendable,
  sendableFd,
} from "./world.ts";

const STREAM = "StreamSocket.prototype.";
const READER = "SocketReader.prototype.";
const WRITER = "SocketWriter.prototype.";

const STREAM_CLASSES = ["StreamSocket", "TcpSocket", "UnixSocket"] as const;

/** A row for a member in each of its forms: at once, blocking, and as a promise. */
function forms(name: string, of: string, values: (draft: Draft, form: Form) => Plan) {
  return FORMS.map(([form, key]): [string, Row] => [
    `${of}${key(name)}`,
    (draft) => values(draft, form),
  ]);
}

type Form = "try" | "sync" | "promise";
const FORMS: readonly (readonly [Form, (name: string) => string])[] = [
  ["try", (name) => `try${name[0]?.toUpperCase()}${name.slice(1)}`],
  ["sync", (name) => `${name}Sync`],
  ["promise", (name) => name],
];

/** The two forms that wait. */
function waiting(name: string, of: string, values: (draft: Draft, form: Form) => Plan) {
  return forms(name, of, values).slice(1);
}

/** Without an option for flags. */
function limits(draft: Draft, form: Form): unknown {
  if (form === "try") return undefined;
  return form === "sync" ? timeoutOptions(draft) : cancelOptions(draft);
}

function flagged(draft: Draft, form: Form, receiver: AnySocket): unknown {
  if (form === "try") return flagOptions(draft, receiver, false);
  return form === "sync"
    ? waitOptions(draft, receiver, false)
    : asyncOptions(draft, receiver, false);
}

/** With options of a call beside those that limit it. */
function withLimits(draft: Draft, form: Form, more: Record<string, () => unknown>): unknown {
  const all = { ...some(draft, more), ...(limits(draft, form) as object | undefined) };
  return draft.choices.chance(10) && Object.keys(all).length === 0 ? undefined : all;
}

// A connected stream, at whose end its peer has arrived now and then.
function ending(draft: Draft, percent: number): AnySocket {
  const receiver = fed(draft, isConnected);
  if (draft.choices.chance(percent)) draft.world.end(receiver);
  return receiver;
}

function urged(draft: Draft): AnySocket {
  const receiver = socket(draft, (kind) => isConnected(kind));
  if (draft.choices.chance(85)) draft.world.urge(receiver);
  return receiver;
}

function manyData(draft: Draft, textToo: boolean): unknown {
  const { choices } = draft;
  const one = () => (textToo ? dataOrText(draft) : data(draft));
  if (choices.chance(50)) return one();
  return Array.from({ length: choices.pick([0, 1, 2, 3, 70]) }, one);
}

const ENCODINGS = ["utf-8", "utf-16le", "utf-16be", "latin1"];
const NEWLINES = ["any", "lf", "crlf", "cr"];

function readerOptions(draft: Draft): Record<string, unknown> {
  const { choices } = draft;
  return some(draft, {
    bufferBytes: () => choices.pick([1, 2, 16, 100, 4096]),
    limitBytes: () => choices.pick([1, 3, 100, 4096]),
    encoding: () => choices.pick([...ENCODINGS, "utf-8", "windows-1252"]),
    fatal: () => boolean(draft),
    newline: () => choices.pick(NEWLINES),
  });
}

function writerOptions(draft: Draft): Record<string, unknown> {
  const { choices } = draft;
  return some(draft, {
    bufferBytes: () => choices.pick([1, 16, 100, 4096]),
    encoding: () => choices.pick([...ENCODINGS, "ascii"]),
    newline: () => choices.pick(NEWLINES),
  });
}

const optional =
  (options: (draft: Draft) => unknown): Row =>
  (draft) => ({
    receiver: socket(draft, isConnected),
    values: draft.isToSpoil || draft.choices.chance(50) ? [options(draft)] : [],
  });

/** A stream socket of any class, mostly connected. */
function stream({ world, choices }: Draft): StreamSocket {
  const made = world.socket(choices, choices.pick(STREAM_CLASSES), isConnected);
  return made as StreamSocket;
}

function reader(draft: Draft, endPercent = 25): object {
  const { world, choices } = draft;
  const type = classes.get("SocketReader") as abstract new () => object;
  const has = world.ownedBy((object) => object instanceof type);
  const known = has.length > 0 && choices.chance(60) ? choices.pick(has) : undefined;
  const owner = known?.owner ?? stream(draft);
  if (choices.chance(90) && isOpen(owner)) world.feed(choices, owner, 85);
  if (choices.chance(endPercent)) world.end(owner);
  const made = known?.object ?? (owner as StreamSocket).reader(readerOptions(draft));
  world.own(made, owner);
  return made;
}

function writer(draft: Draft): object {
  const { world, choices } = draft;
  const type = classes.get("SocketWriter") as abstract new () => object;
  const has = world.ownedBy((object) => object instanceof type);
  const known = has.length > 0 && choices.chance(50) ? choices.pick(has) : undefined;
  const owner = known?.owner ?? stream(draft);
  if (choices.chance(10)) world.clog(owner);
  const made = known?.object ?? (owner as StreamSocket).writer(writerOptions(draft));
  world.own(made, owner);
  return made;
}

const onReader =
  (values: (draft: Draft) => unknown[] = () => []): Row =>
  (draft) => ({ receiver: reader(draft), values: values(draft) });

const onWriter =
  (values: (draft: Draft) => unknown[] = () => []): Row =>
  (draft) => ({ receiver: writer(draft), values: values(draft) });

const ofReader = (
  name: string,
  values: (draft: Draft, form: Form) => unknown[],
  endPercent?: number,
) =>
  forms(name, READER, (draft, form) => ({
    receiver: reader(draft, endPercent),
    values: values(draft, form),
  }));

/** A stream that nothing else has been done with. */
function fresh({ world }: Draft): UnixSocket {
  return world.pair(UnixSocket.pair());
}

/** A reader to which a packet has come, mostly. */
function readingPacket(draft: Draft, form: Form): Plan {
  const { world, choices } = draft;
  const headerBytes = choices.pick([1, 2, 4]);
  const values = [headerBytes, limits(draft, form)];
  if (choices.chance(25)) return { receiver: reader(draft), values };
  const owner = fresh(draft);
  world.give(owner, Buffer.from("\0\0\0\x03abc".slice(-3 - headerBytes)));
  const receiver = owner.reader();
  world.own(receiver, owner);
  return { receiver, values };
}

const ofWriter = (name: string, values: (draft: Draft, form: Form) => unknown[]) =>
  waiting(name, WRITER, (draft, form) => ({
    receiver: writer(draft),
    values: values(draft, form),
  }));

const readerLimit = (draft: Draft, form: Form) =>
  withLimits(draft, form, { limitBytes: () => draft.choices.pick([1, 2, 10, 100, 5000]) });

const length = ({ choices }: Draft) => choices.pick([0, 1, 2, 3, 5, 10, 20, 100]);

// 0xc3 is the canary, and a packet's header is its length.
const PACKET_BYTES_NOT = 0xc3;

function packet(draft: Draft): unknown {
  const made = dataOrText(draft);
  const bytes = typeof made === "string" ? made.length : made.byteLength;
  return bytes % 256 === PACKET_BYTES_NOT ? "packet" : made;
}

const text = ({ choices }: Draft) =>
  choices.pick(["", "a line", "two\nlines", "x".repeat(choices.below(300))]);

/** What steps through connections, lines or chunks, and is not at its end mostly. */
function stepping(draft: Draft, isSync: boolean): object {
  const { world, choices } = draft;
  const wanted = isSync ? Symbol.iterator : Symbol.asyncIterator;
  const has = world.ownedBy(
    (object) => isIterator(object) && wanted in object && !isConnections(object),
  );
  if (has.length > 0 && choices.chance(50)) {
    const { owner, object } = choices.pick(has);
    if (choices.chance(80) && isOpen(owner)) world.feed(choices, owner);
    return object;
  }
  const from = stream(draft);
  if (choices.chance(90)) world.feed(choices, from);
  const timeoutMs = choices.pick([0, 1]);
  const made = isSync
    ? from.reader().linesSync({ timeoutMs })
    : choices.chance(50)
      ? from.lines()
      : from[Symbol.asyncIterator]();
  world.own(made, from);
  return made;
}

function isConnections(object: object): boolean {
  return object instanceof (classes.get("Connections") as abstract new () => object);
}

function connections(draft: Draft): object {
  const { world, choices } = draft;
  const has = world.ownedBy(isConnections);
  if (has.length > 0 && choices.chance(60)) {
    const { owner, object } = choices.pick(has);
    if (choices.chance(70) && isOpen(owner)) world.feed(choices, owner);
    return object;
  }
  const from = world.socket(choices, "Listener", isListening);
  if (choices.chance(80)) world.feed(choices, from);
  const made = (from as Listener<never, never>).connections(
    some(draft, { signal: () => world.signal(choices) }),
  );
  world.own(made, from);
  return made;
}

const onConnections: Row = (draft) => ({ receiver: connections(draft), values: [] });

// Connecting and listening.

/** Somebody who listens, or nobody. */
function listenerFor(
  { world, choices }: Draft,
  className: string,
  isWanted: (kind: Kind) => boolean,
) {
  const made = world.socket(choices, className, (kind) => isListening(kind) && isWanted(kind));
  return made instanceof Listener && isOpen(made) ? made : undefined;
}

function tcpDestination(draft: Draft): unknown[] {
  const { choices } = draft;
  const to = choices.chance(85) ? listenerFor(draft, "TcpListener", () => true) : undefined;
  const local = to?.localAddress as { family: string; host: string; port: number } | undefined;
  if (!local) return [given(draft, nobody(draft, choices.pick(["ipv4", "ipv6"])))];
  const { family, host, port } = local;
  return choices.pick<() => unknown[]>([
    () => [given(draft, `${local}`)],
    () => [host, choices.pick([port, `${port}`])],
    () => ["localhost", port],
    () => [family === "ipv4" ? `localhost:${port}` : `[${host}]:${port}`],
  ])();
}

function tcpOptions(draft: Draft): Record<string, unknown> {
  return inetStreamOptions(draft, { noDelay: () => boolean(draft) });
}

function inetStreamOptions(draft: Draft, more: Record<string, () => unknown>) {
  return socketOptions(draft, {
    reuseAddress: () => boolean(draft),
    reusePort: () => boolean(draft),
    ...more,
  }) as Record<string, unknown>;
}

function connectTcp(draft: Draft, form: Form): Plan {
  const { choices } = draft;
  const to = tcpDestination(draft);
  const options = {
    ...tcpOptions(draft),
    ...some(draft, {
      attemptTimeoutMs: () => choices.pick([1, 2, 1000]),
      ...(form === "promise" ? { staggerMs: () => choices.pick([0, 1, 250]) } : {}),
      ...(choices.chance(15) ? { localAddress: () => "127.0.0.1:0" } : {}),
      ...(choices.chance(15) ? { localPortRange: () => ({ low: 40_000, high: 50_000 }) } : {}),
      ...(choices.chance(15) ? { family: () => choices.pick(["ipv4", "ipv6"]) } : {}),
    }),
    ...(limits(draft, form) as object | undefined),
  };
  return { receiver: undefined, values: choices.chance(15) ? to : [...to, options] };
}

function connectUnix(draft: Draft, form: Form): Plan {
  const { choices, world, entry } = draft;
  const type = entry.className === "UnixSocket" ? "stream" : "seqpacket";
  const made = choices.chance(85)
    ? listenerFor(draft, "UnixListener", (kind) => kind.type === type)
    : undefined;
  const local = made?.localAddress as UnixAddress | undefined;
  const isText = local?.path !== undefined && choices.chance(30);
  const to = isText ? local.path : given(draft, local ?? nobody(draft, "unix"));
  const options = {
    ...(socketOptions(draft, {
      ...(choices.chance(20) ? { localAddress: () => world.name(choices) } : {}),
    }) as object),
    ...(limits(draft, form) as object | undefined),
  };
  return { receiver: undefined, values: choices.chance(15) ? [to] : [to, options] };
}

function listenOptions(draft: Draft, family: string): Record<string, () => unknown> {
  const { choices } = draft;
  return {
    backlog: () => choices.pick([0, 1, 8, 128, 2 ** 31 - 1]),
    ...(family === "ipv6" ? { ipv6Only: () => boolean(draft) } : {}),
  };
}

function listenTcp(draft: Draft): Plan {
  const family = draft.choices.pick(["ipv4", "ipv6"]);
  const local = localFor(draft, { family, type: "stream", state: "new" });
  const options = inetStreamOptions(draft, listenOptions(draft, family));
  return { receiver: undefined, values: [local, options] };
}

function listenAll(draft: Draft, form: Form): Plan {
  const { choices } = draft;
  const host = choices.pick(["localhost", "127.0.0.1", "::1", "", "localhost"]);
  const options = {
    ...inetStreamOptions(draft, {
      ...listenOptions(draft, "ipv6"),
      ...(choices.chance(20) ? { family: () => choices.pick(["ipv4", "ipv6"]) } : {}),
    }),
    ...(limits(draft, form) as object | undefined),
  };
  const service = choices.pick([undefined, 0, "0"]);
  return { receiver: undefined, values: [host, service, options] };
}

function listenUnix(draft: Draft): Plan {
  const { choices, world } = draft;
  const name = choices.chance(20) ? "unix:" : world.name(choices);
  const isPath = !name.includes("@") && name !== "unix:";
  const options = socketOptions(draft, {
    type: () => choices.pick(["stream", "seqpacket"]),
    backlog: () => choices.pick([0, 1, 8]),
    unlinkOnClose: () => boolean(draft),
    ...(isPath
      ? { mode: () => choices.pick([0o600, 0o777, 0]), removeStale: () => choices.chance(70) }
      : {}),
  });
  const local = isPath && choices.chance(30) ? name.slice("unix:".length) : given(draft, name);
  return { receiver: undefined, values: [local, options] };
}

const FOREIGN: Readonly<Record<string, readonly (readonly [domain: number, type: number])[]>> = {
  StreamSocket: [
    [AF_INET, SOCK_STREAM],
    [AF_UNIX, SOCK_STREAM],
  ],
  TcpSocket: [
    [AF_INET, SOCK_STREAM],
    [AF_INET6, SOCK_STREAM],
  ],
  TcpListener: [
    [AF_INET, SOCK_STREAM],
    [AF_INET6, SOCK_STREAM],
  ],
  UnixSocket: [[AF_UNIX, SOCK_STREAM]],
  UnixListener: [
    [AF_UNIX, SOCK_STREAM],
    [AF_UNIX, SOCK_SEQPACKET],
  ],
  UnixSeqpacketSocket: [[AF_UNIX, SOCK_SEQPACKET]],
};

function adoptStream(className: string): Row {
  return ({ world, choices }) => {
    const [domain, type] = choices.pick(FOREIGN[className] ?? []);
    const isListener = className.endsWith("Listener") && choices.chance(95);
    const fd = isListener ? openForeignListener(domain, type) : openForeign(domain, type);
    world.fds.add(fd);
    const more =
      className === "UnixListener" && type === SOCK_SEQPACKET ? { type: "seqpacket" } : {};
    const options = choices.pick([undefined, {}, { own: true }, { own: false }]);
    const isPlain = options === undefined && !("type" in more);
    return { receiver: undefined, values: isPlain ? [fd] : [fd, { ...options, ...more }] };
  };
}

const isNotListening = ({ state }: Kind) => state !== "listening";

export const STREAM_ROWS: readonly [string, Row][] = [
  ...["new StreamSocket", "new TcpSocket", "new UnixSocket", "new UnixSeqpacketSocket"].map(
    (key): [string, Row] => [key, () => ({ receiver: undefined, values: [{}] })],
  ),
  ...["new Listener", "new TcpListener", "new UnixListener"].map((key): [string, Row] => [
    key,
    () => ({ receiver: undefined, values: [undefined] }),
  ]),
  ...Object.keys(FOREIGN).map((name): [string, Row] => [`${name}.adopt`, adoptStream(name)]),

  ...forms("sendAll", STREAM, (draft, form) => {
    const receiver = clogged(draft, isConnected);
    return {
      receiver,
      values: [manyData(draft, form !== "try"), flagged(draft, form, receiver)],
    };
  }),
  ...waiting("receiveExactly", STREAM, (draft, form) => ({
    receiver: ending(draft, 20),
    values: [view(draft, 1), limits(draft, form)],
  })),
  ...waiting("sendFile", STREAM, (draft, form) => {
    const { choices } = draft;
    const file = choices.pick([
      sendable,
      sendable,
      sendableFd,
      sendableFd,
      "/dev/null",
      "/proc/version",
    ]);
    const options = withLimits(draft, form, {
      offset: () => choices.pick([0, 1, 100, 100_000]),
      length: () => choices.pick([0, 1, 100, 5000]),
    });
    return { receiver: socket(draft, isConnected), values: [file, options] };
  }),
  ...waiting("spliceTo", STREAM, (draft, form) => {
    const { choices } = draft;
    const receiver = ending(draft, 40);
    const limited = limits(draft, form) as object | undefined;
    // The target may be the other end of the source: bytes then go round without end.
    const options = choices.chance(70)
      ? { length: choices.pick([0, 1]), ...limited }
      : { ...limited, timeoutMs: choices.pick([0, 5, 20]) };
    return { receiver, values: [stream(draft), options] };
  }),
  [`${STREAM}takeUndelivered`, onSocket(isConnected)],
  ...forms("sendUrgent", STREAM, (draft, form) => ({
    receiver: socket(draft, isConnected),
    values: form === "try" ? [7] : [draft.choices.below(100), limits(draft, form)],
  })),
  ...forms("receiveUrgent", STREAM, (draft, form) => ({
    receiver: urged(draft),
    values: form === "try" ? [] : [limits(draft, form)],
  })),
  [`get ${STREAM}atMark`, onSocket(isConnected)],
  [`${STREAM}resetOnClose`, onSocket()],
  [`${STREAM}reset`, onSocket()],
  [`${STREAM}reader`, optional(readerOptions)],
  [`${STREAM}writer`, optional(writerOptions)],
  [`${STREAM}lines`, optional(readerOptions)],
  [`get ${STREAM}readable`, onSocket(isConnected)],
  [`get ${STREAM}writable`, onSocket(isConnected)],
  ["StreamSocket.prototype[Symbol.asyncIterator]", onSocket(isConnected)],

  [`${READER}configure`, onReader((draft) => [readerOptions(draft)])],
  ...["buffered", "ended", "newline", "encoding", "limitBytes"].map((get): [string, Row] => [
    `get ${READER}${get}`,
    onReader(),
  ]),
  [`${READER}takeBuffered`, onReader()],
  ...ofReader("read", (draft, form) => [view(draft, 1), limits(draft, form)]),
  ...ofReader("readExactly", (draft, form) => [length(draft), limits(draft, form)]),
  ...ofReader("readInto", (draft, form) => [view(draft, 1), limits(draft, form)]).slice(1),
  ...ofReader("readLine", (draft, form) => (form === "try" ? [] : [limits(draft, form)])),
  [`${READER}lines`, onReader()],
  [`${READER}linesSync`, onReader((draft) => [timeoutOptions(draft)])],
  ...ofReader("readUntil", (draft, form) => {
    const delimiter = draft.choices.pick(["\n", ";", "ne", Buffer.from("\0"), Buffer.from("=v")]);
    return [delimiter, readerLimit(draft, form)];
  }),
  ...ofReader("peek", (draft, form) => [
    length(draft),
    ...(form === "try" ? [] : [limits(draft, form)]),
  ]),
  ...ofReader("readAll", (draft, form) => [readerLimit(draft, form)], 75).slice(1),
  ...ofReader("readText", (draft, form) => [readerLimit(draft, form)], 75).slice(1),
  ...waiting("readPacket", READER, readingPacket),
  [`${READER}chunks`, onReader()],

  [`${WRITER}configure`, onWriter((draft) => [writerOptions(draft)])],
  ...["buffered", "ended", "newline", "encoding"].map((get): [string, Row] => [
    `get ${WRITER}${get}`,
    onWriter(),
  ]),
  [`${WRITER}tryWrite`, onWriter((draft) => [dataOrText(draft)])],
  ...ofWriter("write", (draft, form) => [dataOrText(draft), limits(draft, form)]),
  ...ofWriter("writeLine", (draft, form) => [text(draft), limits(draft, form)]),
  ...ofWriter("writeText", (draft, form) => [text(draft), limits(draft, form)]),
  ...ofWriter("writePacket", (draft, form) => [
    packet(draft),
    draft.choices.pick([1, 2, 4]),
    limits(draft, form),
  ]),
  ...ofWriter("flush", (draft, form) => [limits(draft, form)]),
  [`${WRITER}tryFlush`, onWriter()],
  ...ofWriter("end", (draft, form) => [limits(draft, form)]),
  [`${WRITER}discard`, onWriter()],

  ["lines.next", (draft) => ({ receiver: stepping(draft, false), values: [] })],
  ["lines.nextSync", (draft) => ({ receiver: stepping(draft, true), values: [] })],
  ["lines.return", (draft) => ({ receiver: stepping(draft, false), values: [] })],

  [
    "TcpSocket.open",
    (draft) => {
      const isIpv6 = draft.choices.chance(50);
      const text = isIpv6 ? "[::1]:0" : "127.0.0.1:0";
      const family = draft.choices.chance(50) ? given(draft, text) : isIpv6 ? "ipv6" : "ipv4";
      return { receiver: undefined, values: [family, tcpOptions(draft)] };
    },
  ],
  ...waiting("connect", "TcpSocket.", connectTcp),
  ["TcpSocket.pair", () => ({ receiver: undefined, values: [] })],
  ["TcpSocket.prototype.duplicate", onSocket()],
  ["UnixSocket.prototype.duplicate", onSocket()],
  ["get TcpSocket.prototype.noDelay", onSocket()],
  [
    "set TcpSocket.prototype.noDelay",
    (draft) => ({ receiver: socket(draft), values: [boolean(draft)] }),
  ],
  ["get TcpSocket.prototype.info", onSocket(isNotListening)],

  ["TcpListener.listen", listenTcp],
  ...waiting("listenAll", "TcpListener.", listenAll),

  ["UnixListener.listen", listenUnix],
  ["get UnixListener.prototype.unlinkOnClose", onSocket()],
  [
    "set UnixListener.prototype.unlinkOnClose",
    (draft) => ({ receiver: socket(draft), values: [boolean(draft)] }),
  ],

  ...["UnixSocket", "UnixSeqpacketSocket"].flatMap((name): [string, Row][] => [
    [`${name}.open`, (draft) => ({ receiver: undefined, values: [socketOptions(draft)] })],
    ...waiting("connect", `${name}.`, connectUnix),
    [`${name}.pair`, () => ({ receiver: undefined, values: [] })],
    [`get ${name}.prototype.peerCredentials`, onSocket()],
  ]),

  [
    "Listener.prototype.connections",
    (draft) => ({
      receiver: fed(draft, isListening),
      values: draft.isToSpoil
        ? [{ signal: draft.world.signal(draft.choices) }]
        : [some(draft, { signal: () => draft.world.signal(draft.choices) })],
    }),
  ],
  ["get Listener.prototype.dropped", onSocket()],
  ["Listener.prototype[Symbol.asyncIterator]", onSocket(isListening)],
  ...["next", "return"].map((call): [string, Row] => [
    `Connections.prototype.${call}`,
    onConnections,
  ]),
  ["Connections.prototype[Symbol.asyncIterator]", onConnections],
  ["Connections.prototype[Symbol.asyncDispose]", onConnections],

  ["get Socket.prototype.unreadBytes", onSocket()],
  ["get Socket.prototype.unsentBytes", onSocket()],
];

/** Arguments that a call of a stream refuses for reasons of its own. */
export function planRefusedStream(draft: Draft): Plan | undefined {
  const { world, choices, entry } = draft;
  const { key } = entry;
  if (key === "Connections.prototype.next" && choices.chance(70)) {
    const from = world.add(TcpListener.listen("127.0.0.1:0"));
    const receiver = from.connections();
    world.own(receiver, from);
    world.shut(from);
    return { receiver, values: [] };
  }
  const limited = /\.(linesSync|endSync|flushSync)$/.exec(key);
  if (limited && choices.chance(60)) {
    const receiver = limited[1] === "linesSync" ? reader(draft) : writer(draft);
    return { receiver, values: [{ timeoutMs: choices.pick([-1, Number.NaN, "1"]) }] };
  }
  if (key === `${READER}takeBuffered` && choices.chance(70)) {
    // Somebody waits, who is to get what comes.
    const from = fresh(draft);
    const receiver = from.reader();
    world.own(receiver, from);
    receiver.readLine().catch(() => {});
    return { receiver, values: [] };
  }
  if (!/^lines\.next(Sync)?$/.test(key) || choices.chance(30)) return undefined;
  // A line that is too long.
  const from = fresh(draft);
  world.give(from, Buffer.from("a long line\n"));
  const strict = from.reader({ limitBytes: 1 });
  const receiver = key === "lines.next" ? strict.lines() : strict.linesSync();
  world.own(receiver, from);
  return { receiver, values: [] };
}
