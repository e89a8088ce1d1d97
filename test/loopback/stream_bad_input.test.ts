/**
 * Wrong input to streams, listeners and names, in every form that takes it: ports and services,
 * places where nobody is, calls in the wrong order, calls after close and wrong timeouts. The last
 * two go through everything that the classes have, so that a new method is asked, too.
 */
import { afterEach, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as api from "bun-sockets";
import {
  ClosedError,
  DatagramBatch,
  hostByName,
  hostByNameSync,
  Message,
  ResolutionError,
  resolve,
  resolveSync,
  reverse,
  reverseSync,
  Socket,
  SocketOption,
  StreamSocket,
  SystemError,
  TcpListener,
  TcpSocket,
  TimeoutError,
  UdpSocket,
  UnixAddress,
  UnixListener,
  UnixSeqpacketSocket,
  UnixSocket,
} from "bun-sockets";
import { SO_ERROR, SOL_SOCKET } from "bun-sockets/sys";
import { openDescriptors } from "../support/descriptors.ts";
import { replaceLibc } from "../support/faults.ts";
import { startPoller, turns } from "../support/waiting.ts";

const LONG = { timeoutMs: 10_000 };
const HOSTS = ["127.0.0.1", "[::1]"] as const;

/** What a call has come to: its error, or undefined when it had none. */
async function failure(call: () => unknown): Promise<Error | undefined> {
  try {
    await call();
    return undefined;
  } catch (error) {
    return error as Error;
  }
}

async function codeOf(call: () => unknown): Promise<string | undefined> {
  const error = await failure(call);
  if (error === undefined) return undefined;
  if (error instanceof SystemError || error instanceof ResolutionError) return error.code;
  throw error;
}

let folder = "";
let openBefore = 0;

// What the poller keeps is no leak of the first test that waits.
beforeAll(startPoller);

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "bun-sockets-"));
  openBefore = openDescriptors();
});

afterEach(() => {
  expect(openDescriptors()).toBe(openBefore);
  rmSync(folder, { recursive: true });
});

describe("a port or a service", () => {
  /** Every form that takes a host and a service. */
  const pairs: readonly [string, (host: string, service: string | number) => unknown][] = [
    ["TcpSocket.connect()", (host, service) => TcpSocket.connect(host, service, LONG)],
    ["TcpSocket.connectSync()", (host, service) => TcpSocket.connectSync(host, service, LONG)],
    ["TcpListener.listenAll()", (host, service) => TcpListener.listenAll(host, service)],
    ["TcpListener.listenAllSync()", (host, service) => TcpListener.listenAllSync(host, service)],
    ["resolve()", (host, service) => resolve(host, service, LONG)],
    ["resolveSync()", (host, service) => resolveSync(host, service, LONG)],
  ];
  /** Every form that takes both in one text. */
  const texts: readonly [string, (text: string) => unknown][] = [
    ["TcpSocket.connect()", (text) => TcpSocket.connect(text, LONG)],
    ["TcpSocket.connectSync()", (text) => TcpSocket.connectSync(text, LONG)],
    ["TcpListener.listen()", (text) => TcpListener.listen(text)],
  ];
  /** Every form that takes the text of an address, and no name. */
  const addresses: readonly [string, (text: string) => unknown][] = (
    [
      ["connect()", (tcp, text) => tcp.connect(text, LONG)],
      ["connectSync()", (tcp, text) => tcp.connectSync(text, LONG)],
      ["tryConnect()", (tcp, text) => tcp.tryConnect(text)],
      ["bind()", (tcp, text) => tcp.bind(text)],
    ] as const satisfies readonly [string, (tcp: TcpSocket, text: string) => unknown][]
  ).map(([name, call]) => [
    name,
    async (text) => {
      using tcp = TcpSocket.open("ipv4");
      await call(tcp, text);
    },
  ]);

  const wrong: readonly [service: string | number, kind: typeof TypeError | typeof RangeError][] = [
    [65_536, RangeError],
    [-1, RangeError],
    ["65536", RangeError],
    ["-1", RangeError],
    ["99999999999999999999", RangeError],
    ["http ", TypeError],
    [" http", TypeError],
    ["http\n", TypeError],
    ["", TypeError],
  ];

  test.each(pairs)(
    "%s refuses ports out of range, and what is no name, before it does anything",
    async (_, call) => {
      using calls = replaceLibc("socket", (original) => original);
      for (const host of ["localhost", "127.0.0.1", "::1"]) {
        for (const [service, kind] of wrong) {
          const error = await failure(() => call(host, service));
          expect([host, service, error?.name]).toEqual([host, service, kind.name]);
          // It names what was wrong, as it was given.
          const shown = kind === RangeError ? `${Number(service)}` : JSON.stringify(service);
          expect(error?.message).toContain(shown);
        }
        for (const service of [1.5, Number.NaN, Number.POSITIVE_INFINITY])
          expect(await failure(() => call(host, service))).toBeInstanceOf(RangeError);
      }
      expect(calls.calls).toBe(0);
    },
  );

  test.each(texts)("%s refuses them in one text, too", async (_, call) => {
    using calls = replaceLibc("socket", (original) => original);
    for (const host of ["localhost", "127.0.0.1", "[::1]"])
      for (const [service, kind] of wrong) {
        const error = await failure(() => call(`${host}:${service}`));
        expect([host, service, error?.name]).toEqual([host, service, kind.name]);
      }
    for (const text of [
      "",
      ":",
      ":80",
      "localhost",
      "127.0.0.1",
      "::1:80",
      "[::1]",
      "a:b:c",
      "http ",
    ])
      expect([text, (await failure(() => call(text)))?.name]).toEqual([text, "TypeError"]);
    expect(calls.calls).toBe(0);
  });

  test.each(addresses)("%s of a socket refuses them, and is as before", async (_, call) => {
    for (const service of ["65536", "-1", "http ", "http", ""]) {
      const kind = service === "65536" ? RangeError : TypeError;
      expect(await failure(() => call(`127.0.0.1:${service}`))).toBeInstanceOf(kind);
    }
    expect(await failure(() => call(""))).toBeInstanceOf(TypeError);
  });

  test.each(pairs)(
    "%s knows no service that nobody has registered: EAI_SERVICE, at once",
    async (_, call) => {
      for (const host of ["localhost", "127.0.0.1", "::1"]) {
        const error = await failure(() => call(host, "no-such-service"));
        expect(error).toBeInstanceOf(ResolutionError);
        expect(error).toMatchObject({ code: "EAI_SERVICE", service: "no-such-service" });
      }
    },
  );

  test.each(texts)("%s knows none in one text either", async (_, call) => {
    for (const host of ["localhost", "127.0.0.1", "[::1]"])
      expect(await codeOf(() => call(`${host}:no-such-service`))).toBe("EAI_SERVICE");
  });

  test("a missing host is refused by who connects, and is every address for who listens", async () => {
    for (const call of [
      () => TcpSocket.connect("", 80),
      () => TcpSocket.connectSync("", 80),
      () => TcpSocket.connect("", "http"),
    ])
      expect(await failure(call)).toBeInstanceOf(TypeError);
    for (const listener of await TcpListener.listenAll("", 0)) listener.close();
  });
});

describe("nobody there", () => {
  /** Every form that connects a TCP socket to an address. */
  const forms: readonly [string, (to: string) => Promise<unknown>][] = [
    ["TcpSocket.connect()", (to) => TcpSocket.connect(to, LONG)],
    ["TcpSocket.connectSync()", async (to) => TcpSocket.connectSync(to, LONG)],
    ["connect()", (to) => opened(to, (tcp) => tcp.connect(to, LONG))],
    ["connectSync()", (to) => opened(to, async (tcp) => tcp.connectSync(to, LONG))],
    [
      "tryConnect()",
      (to) =>
        opened(to, async (tcp) => {
          // Refused at once on the loopback interface; if not, the second call says so.
          while (tcp.tryConnect(to) === undefined) await turns(1);
        }),
    ],
  ];

  async function opened(to: string, body: (tcp: TcpSocket) => Promise<void>): Promise<void> {
    using tcp = TcpSocket.open(to);
    try {
      await body(tcp);
    } finally {
      expect([tcp.connected, tcp.remoteAddress]).toEqual([false, undefined]);
    }
  }

  test.each(forms)("%s to a closed port is ECONNREFUSED, and tells which", async (_, connect) => {
    for (const host of HOSTS) {
      // Held by a socket that does not listen, so that nobody else does.
      using held = TcpSocket.open(`${host}:0`);
      held.bind(`${host}:0`);
      const to = `${held.localAddress}`;
      expect(await failure(() => connect(to))).toMatchObject({
        code: "ECONNREFUSED",
        syscall: "connect",
        destination: to,
        port: held.localAddress.port,
      });
    }
  });

  test.each(forms)("%s to a net without a way there is ENETUNREACH", async (_, connect) => {
    // No connection goes to a group: the kernel has no route for one. Routes of type unreachable
    // are for the tests that have a namespace.
    for (const to of ["224.0.0.1:9", "255.255.255.255:9"]) {
      const error = await failure(() => connect(to));
      expect(error).toMatchObject({ code: "ENETUNREACH", destination: to });
    }
  });

  test.each(forms)("%s to port 0 is a RangeError", async (_, connect) => {
    for (const host of HOSTS)
      expect(await failure(() => connect(`${host}:0`))).toBeInstanceOf(RangeError);
  });

  const unixForms: readonly [string, (path: string) => unknown][] = [
    ["UnixSocket.connect()", (path) => UnixSocket.connect(path, LONG)],
    ["UnixSocket.connectSync()", (path) => UnixSocket.connectSync(path, LONG)],
    ["UnixSeqpacketSocket.connect()", (path) => UnixSeqpacketSocket.connect(path, LONG)],
    ["UnixSeqpacketSocket.connectSync()", (path) => UnixSeqpacketSocket.connectSync(path, LONG)],
    ...[UnixSocket, UnixSeqpacketSocket].flatMap((type) =>
      (["connect", "connectSync", "tryConnect"] as const).map(
        (name): [string, (path: string) => unknown] => [
          `${type.name}.${name}() of an open one`,
          async (path) => {
            using unix = type.open();
            await unix[name](/^unix:|^$/.test(path) ? path : `unix:${path}`, LONG);
          },
        ],
      ),
    ),
  ];

  test.each(unixForms)("%s tells what is wrong with a path", async (name, connect) => {
    const path = (file: string) => join(folder, file);
    writeFileSync(path("file"), "");
    using datagram = Socket.create("unix", "datagram");
    datagram.bind(`unix:${path("datagram")}`);
    using other = UnixListener.listen(path("other"), {
      type: (name.startsWith("UnixSocket") ? "seqpacket" : "stream") as "stream",
    });
    const stale = UnixListener.listen(path("stale"), { unlinkOnClose: false });
    stale.close();
    const cases: [string, string][] = [
      [path("missing"), "ENOENT"],
      [path("file"), "ECONNREFUSED"],
      [path("stale"), "ECONNREFUSED"],
      [path("datagram"), "EPROTOTYPE"],
      [other.localAddress.path ?? "", "EPROTOTYPE"],
      [`unix:@bun-sockets-${crypto.randomUUID()}`, "ECONNREFUSED"],
    ];
    for (const [to, code] of cases)
      expect([to, await codeOf(() => connect(to))]).toEqual([to, code]);
    for (const to of ["", "127.0.0.1:80", "x".repeat(200)])
      expect(await failure(() => connect(to))).toBeInstanceOf(Error);
  });
});

/** Every kind of connection, with a pair of it, an open one, and a listener. */
const kinds = {
  "TCP over IPv4": {
    pair: () => tcpPair("127.0.0.1"),
    open: () => TcpSocket.open("ipv4"),
    bind: (socket: Socket) => socket.bind("127.0.0.1:0"),
  },
  "TCP over IPv6": {
    pair: () => tcpPair("[::1]"),
    open: () => TcpSocket.open("ipv6"),
    bind: (socket: Socket) => socket.bind("[::1]:0"),
  },
  "a Unix stream": {
    pair: () => unixPair("stream"),
    open: () => UnixSocket.open(),
    bind: (socket: Socket) => socket.bind(UnixAddress.unnamed),
  },
  "Unix seqpacket": {
    pair: () => unixPair("seqpacket"),
    open: () => UnixSeqpacketSocket.open(),
    bind: (socket: Socket) => socket.bind(UnixAddress.unnamed),
  },
} as const;
const kindList = Object.entries(kinds) as unknown as [
  string,
  {
    pair(): Connection;
    open(): Socket;
    bind(socket: Socket): void;
  },
][];

interface Connection extends Disposable {
  readonly client: Socket;
  readonly server: Socket;
  readonly listener: Socket;
}

function connectionOf(client: Socket, server: Socket, listening: object): Connection {
  const listener = listening as Socket;
  const close = () => {
    client.close();
    server.close();
    listener.close();
  };
  return { client, server, listener, [Symbol.dispose]: close };
}

function tcpPair(host: string): Connection {
  const listener = TcpListener.listen(`${host}:0`);
  const client = TcpSocket.connectSync(listener.localAddress, LONG);
  return connectionOf(client, listener.acceptSync(LONG), listener);
}

function unixPair(type: "stream" | "seqpacket"): Connection {
  const listener = UnixListener.listen(join(folder, "pair"), { type: type as "stream" });
  const Type = type === "stream" ? UnixSocket : UnixSeqpacketSocket;
  const client = Type.connectSync(join(folder, "pair"), LONG);
  return connectionOf(client, listener.acceptSync(LONG), listener);
}

describe.each(kindList)("in the wrong order, over %s", (_name, kind) => {
  test("connecting twice is EISCONN in every form, on either side, and the connection stays", async () => {
    using pair = kind.pair();
    const to = pair.listener.localAddress;
    for (const socket of [pair.client, pair.server])
      for (const call of [
        () => socket.connect(to, LONG),
        () => socket.connectSync(to, LONG),
        () => socket.tryConnect(to),
      ])
        expect(await codeOf(call)).toBe("EISCONN");
    expect(pair.client.sendSync("still", LONG)).toBe(5);
    expect(`${Buffer.from(pair.server.receiveBytesSync(9, LONG))}`).toBe("still");
    // Nobody has come beside.
    expect(pair.listener.tryAccept()).toBeUndefined();
  });

  test("connecting a listener, and listening on a connection, is refused", async () => {
    using pair = kind.pair();
    const to = pair.listener.localAddress;
    for (const call of [
      () => pair.listener.connect(to, LONG),
      () => pair.listener.connectSync(to, LONG),
      () => pair.listener.tryConnect(to),
    ])
      expect(["EISCONN", "EINVAL"]).toContain((await codeOf(call)) ?? "");
    expect(await codeOf(() => pair.client.listen())).toBe("EINVAL");
    using other = kind.open();
    other.connectSync(to, LONG);
    pair.listener.acceptSync(LONG).close();
  });

  test("accepting on what does not listen is EINVAL, and does not wait", async () => {
    using pair = kind.pair();
    using fresh = kind.open();
    using bound = kind.open();
    kind.bind(bound);
    for (const socket of [fresh, bound, pair.client, pair.server])
      for (const call of [
        () => socket.accept(LONG),
        () => socket.acceptSync(LONG),
        () => socket.tryAccept(),
      ]) {
        const error = await failure(call);
        expect(error).toMatchObject({ code: "EINVAL", syscall: "accept4" });
      }
    for (const socket of [pair.client, pair.server]) expect(socket.connected).toBe(true);
  });

  test("shutting down before there is a connection", async () => {
    for (const direction of ["read", "write", "both"] as const) {
      using socket = kind.open();
      const code = await codeOf(() => socket.shutdown(direction));
      // Unix sockets need none.
      expect(code).toBe(socket.family === "unix" ? undefined : "ENOTCONN");
      if (socket.family === "unix") continue;
      // Linux says so, and does it all the same: a connection that is made then has that end already.
      using pair = kind.pair();
      socket.connectSync(pair.listener.localAddress, LONG);
      using served = pair.listener.acceptSync(LONG) as Socket;
      served.sendSync("b", LONG);
      const sent = await codeOf(() => socket.sendSync("a", LONG));
      expect(sent).toBe(direction === "read" ? undefined : "EPIPE");
      expect(socket.receiveBytesSync(9, LONG).length).toBe(1);
      if (direction !== "write") expect(socket.receiveSync(new Uint8Array(1), LONG)).toBe(0);
    }
    for (const direction of ["", "reading", "Read", 0, 1, null, undefined]) {
      using socket = kind.open();
      const shutdown = () => socket.shutdown(direction as "read");
      expect(await failure(shutdown)).toBeInstanceOf(TypeError);
    }
  });

  test("sending and receiving before there is a connection is refused, and does not wait", async () => {
    using socket = kind.open();
    const bytes = new Uint8Array(4);
    const calls: [string, () => unknown][] = [
      ["send", () => socket.send("a", LONG)],
      ["sendSync", () => socket.sendSync("a", LONG)],
      ["trySend", () => socket.trySend(bytes)],
      ["sendMessage", () => socket.sendMessage(new Message({ vectors: bytes }), LONG)],
      ["sendMessageSync", () => socket.sendMessageSync(new Message({ vectors: bytes }), LONG)],
      ["receive", () => socket.receive(bytes, LONG)],
      ["receiveSync", () => socket.receiveSync(bytes, LONG)],
      ["tryReceive", () => socket.tryReceive(bytes)],
      ["receiveFrom", () => socket.receiveFrom(bytes, LONG)],
      [
        "receiveMessageSync",
        () => socket.receiveMessageSync(new Message({ vectors: bytes }), LONG),
      ],
    ];
    if (socket instanceof StreamSocket)
      calls.push(
        ["sendAll", () => socket.sendAll("a", LONG)],
        ["sendAllSync", () => socket.sendAllSync("a", LONG)],
        ["receiveExactly", () => socket.receiveExactly(bytes, LONG)],
        ["receiveExactlySync", () => socket.receiveExactlySync(bytes, LONG)],
        ["sendFile", () => socket.sendFile(import.meta.path, LONG)],
        ["readLine", () => socket.reader().readLine(LONG)],
        ["readLineSync", () => socket.reader().readLineSync(LONG)],
        ["flush", () => socket.writer().write("x".repeat(100_000), LONG)],
      );
    for (const [name, call] of calls) {
      const code = await codeOf(call);
      // Linux: EPIPE for TCP that was never connected, EINVAL for a Unix stream that reads.
      expect([name, ["ENOTCONN", "EPIPE", "EINVAL"].includes(`${code}`)]).toEqual([name, true]);
    }
  });
});

test("accepting on a datagram socket says that its type has no connections", async () => {
  using udp = UdpSocket.bind("127.0.0.1:0");
  for (const call of [() => udp.accept(LONG), () => udp.acceptSync(LONG), () => udp.tryAccept()])
    expect(await codeOf(call)).toBe("ENOTSUP");
});

// From here on through everything that a class has.

interface Member {
  readonly name: string;
  readonly key: string | symbol;
  readonly get: boolean;
  readonly set: boolean;
}

/** Everything that an object has by its classes, the nearest first. */
function membersOf(object: object): Member[] {
  const found = new Map<string | symbol, Member>();
  for (
    let prototype = Object.getPrototypeOf(object);
    prototype !== Object.prototype && prototype !== null;
    prototype = Object.getPrototypeOf(prototype)
  ) {
    for (const key of Reflect.ownKeys(prototype)) {
      if (key === "constructor" || found.has(key)) continue;
      const descriptor = Object.getOwnPropertyDescriptor(prototype, key) as PropertyDescriptor;
      const name = typeof key === "symbol" ? `[${key.description}]` : key;
      const get = descriptor.get !== undefined;
      found.set(key, { name, key, get, set: descriptor.set !== undefined });
    }
  }
  return [...found.values()];
}

type Call = (this: unknown, ...values: unknown[]) => unknown;

/** Calls a method of an object, or reads a getter. */
function use(object: object, { key, get }: Member, values: readonly unknown[]): unknown {
  if (get) return Reflect.get(object, key);
  return (Reflect.get(object, key) as Call).apply(object, [...values]);
}

/** Good arguments, without the options. Who needs none is not here. */
function goodArguments(
  name: string,
  other: StreamSocket,
  subject: object,
): readonly unknown[] | undefined {
  const isUnix = subject instanceof Socket && subject.family === "unix";
  const [own, to] = isUnix
    ? [`unix:${join(folder, "own")}`, `unix:${join(folder, "nobody")}`]
    : ["127.0.0.1:0", "127.0.0.1:9"];
  const base = name.replace(/Sync$/, "").replace(/^try([A-Z])/, (_, first) => first.toLowerCase());
  const bytes = () => new Uint8Array(3);
  const table: Record<string, () => readonly unknown[]> = {
    bind: () => [own],
    connect: () => [to],
    send: () => [bytes()],
    sendTo: () => [bytes(), to],
    sendAll: () => [bytes()],
    sendFile: () => [import.meta.path],
    sendMessage: () => [new Message({ vectors: bytes() })],
    sendUrgent: () => [33],
    receive: () => [bytes()],
    receiveBytes: () => [3],
    receiveFrom: () => [bytes()],
    receiveExactly: () => [bytes()],
    receiveMessage: () => [new Message({ vectors: bytes() })],
    spliceTo: () => [other],
    shutdown: () => ["write"],
    getOption: () => [SocketOption.keepAlive],
    setOption: () => [SocketOption.keepAlive, true],
    getRawOption: () => [SOL_SOCKET, SO_ERROR],
    setRawOption: () => [SOL_SOCKET, SO_ERROR, 1],
    read: () => [bytes()],
    readInto: () => [bytes()],
    readExactly: () => [3],
    readUntil: () => ["\n"],
    readPacket: () => [1],
    peek: () => [3],
    write: () => ["abc"],
    writeLine: () => ["abc"],
    writeText: () => ["abc"],
    writePacket: () => [bytes(), 1],
    sendDescriptors: () => [bytes(), [other]],
    receiveDescriptors: () => [bytes(), { max: 1 }],
    sendZeroCopy: () => [bytes()],
    attachFilter: () => [filterProgram],
    attachReusePortProgram: () => [filterProgram],
    sendBatch: () => [new DatagramBatch({ capacity: 1 })],
    receiveBatch: () => [new DatagramBatch({ capacity: 1 })],
    batches: () => [],
    onBatch: () => [() => {}],
  };
  return Object.hasOwn(table, base) ? table[base]?.() : undefined;
}

// Of a library that has filters; without, nothing takes one.
const filterProgram = (
  api as { FilterProgram?: { byCpu(sockets: number): object } }
).FilterProgram?.byCpu(2);

/** What a setter is given, where true is not good. */
const settings: Readonly<Record<string, unknown>> = { transmitTimestamps: [] };

/** Whether a call is refused because this kind of socket has nothing of the sort, open or closed. */
function hasNoSuchCall(error: unknown): boolean {
  return error instanceof TypeError && /\b(stream|seqpacket) (socket|one)\b/.test(error.message);
}

/** Adds to the options of a call, or gives it some. */
function withOptions(values: readonly unknown[], more: object): unknown[] {
  const last = values.at(-1);
  const isOptions = last instanceof Object && Object.getPrototypeOf(last) === Object.prototype;
  return isOptions ? [...values.slice(0, -1), { ...last, ...more }] : [...values, more];
}

/** What can be tried for a method that is not in the table: the first that fits says all. */
function guesses(other: StreamSocket): (readonly unknown[])[] {
  const bytes = new Uint8Array(3);
  const ones: unknown[] = [bytes, "text", 1, "127.0.0.1:9", new Message({ vectors: bytes }), other];
  const functions = [() => {}, [other], { length: 1 }];
  const singles = [...ones, ...functions].map((value) => [value]);
  const doubles = ones.flatMap((first) => [...ones, ...functions].map((second) => [first, second]));
  return [[], ...singles, ...doubles];
}

// What a closed socket, reader or writer still answers, and with what; each is documented so. What is
// not here is a call, and refused.
const IS = (value: unknown) => (given: unknown) => expect(given).toEqual(value);
const ENDS = async (given: unknown) => {
  const iterator = given as AsyncIterator<unknown>;
  expect(await iterator.next()).toEqual({ done: true, value: undefined });
};
const FINE = () => {};
const ofSockets: Readonly<Record<string, (given: unknown) => unknown>> = {
  close: IS(undefined),
  "[Symbol.dispose]": IS(undefined),
  reset: IS(undefined),
  ref: (given) => expect(given).toBeInstanceOf(Socket),
  unref: (given) => expect(given).toBeInstanceOf(Socket),
  connected: IS(false),
  descriptor: IS(-1),
  closed: IS(true),
  dropped: IS(0),
  unlinkOnClose: FINE,
  takeUndelivered: IS(new Uint8Array(0)),
  "[nodejs.util.inspect.custom]": (given) => expect(given).toContain("closed"),
  inspect: (given) => expect(given).toContain("closed"),
  toString: (given: unknown) => expect(given).toBeString(),
  toJSON: FINE,
  // What they give is a reader, a writer, a stream or an iterator: it says so when it is used.
  reader: FINE,
  writer: FINE,
  readable: FINE,
  writable: FINE,
  lines: ENDS,
  "[Symbol.asyncIterator]": ENDS,
  // What is known here and needs no kernel.
  offload: FINE,
  zeroCopy: FINE,
  queueErrors: FINE,
  errorQueue: FINE,
  errors: (given) => (hasNoSuchCall(given) ? undefined : ENDS(given)),
};
const { "[Symbol.asyncIterator]": _, ...ofListeners } = ofSockets;
const ofReaders: typeof ofSockets = {
  configure: IS(undefined),
  buffered: IS(0),
  ended: IS(false),
  newline: IS("any"),
  encoding: IS("utf-8"),
  limitBytes: FINE,
  takeBuffered: IS(new Uint8Array(0)),
  lines: ENDS,
  chunks: ENDS,
  linesSync: (given: unknown) => expect((given as Iterator<string>).next().done).toBe(true),
};
const ofWriters: typeof ofSockets = {
  configure: IS(undefined),
  buffered: IS(0),
  ended: IS(false),
  newline: IS("lf"),
  encoding: IS("utf-8"),
  discard: IS(0),
};

/** What each class is shown by: made with a connection that is closed with the block. */
const subjects: readonly [
  string,
  () => { readonly subject: object; readonly close: () => void; readonly connection: Connection },
  typeof ofSockets,
][] = [
  ["TcpSocket", () => socketOf(tcpPair("127.0.0.1"), "client"), ofSockets],
  ["TcpListener", () => socketOf(tcpPair("127.0.0.1"), "listener"), ofListeners],
  ["UnixSocket", () => socketOf(unixPair("stream"), "client"), ofSockets],
  ["UnixSeqpacketSocket", () => socketOf(unixPair("seqpacket"), "client"), ofSockets],
  ["UnixListener", () => socketOf(unixPair("stream"), "listener"), ofListeners],
  ["UnixListener of seqpacket", () => socketOf(unixPair("seqpacket"), "listener"), ofListeners],
  ["SocketReader", () => partOf((socket) => socket.reader()), ofReaders],
  ["SocketWriter", () => partOf((socket) => socket.writer()), ofWriters],
];

function socketOf(connection: Connection, which: "client" | "listener") {
  const subject = connection[which];
  return { subject, close: () => subject.close(), connection };
}

function partOf(part: (socket: StreamSocket) => object) {
  const connection = tcpPair("127.0.0.1");
  const client = connection.client as StreamSocket;
  return { subject: part(client), close: () => client.close(), connection };
}

describe.each(subjects)("every call of a %s", (name, make, harmless) => {
  const names = (() => {
    folder = mkdtempSync(join(tmpdir(), "bun-sockets-"));
    const { subject, connection } = make();
    using _ = connection;
    const list = membersOf(subject);
    rmSync(folder, { recursive: true });
    return list;
  })();

  test("is known: a class without members would show nothing", () => {
    expect(names.length).toBeGreaterThan(10);
    const known = new Set(names.map((member) => member.name));
    // That much is there in any case.
    const calls = /Reader/.test(name) ? ["readLine"] : /Writer/.test(name) ? ["flush"] : ["accept"];
    for (const call of calls) expect(known).toContain(call);
  });

  for (const member of names) {
    test(`after close: ${member.name}`, async () => {
      const { subject, close, connection } = make();
      using _ = connection;
      const [other, far] = StreamSocket.pair();
      try {
        close();
        const answers = harmless[member.name];
        if (answers) {
          let given: unknown;
          try {
            given = await use(
              subject,
              member,
              goodArguments(member.name, other, subject) ?? configured(member.name),
            );
          } catch (error) {
            given = error;
          }
          await answers(given);
          return;
        }
        const good = goodArguments(member.name, other, subject);
        let error: Error | undefined;
        for (const values of good ? [good] : guesses(other)) {
          error = await failure(() => use(subject, member, values));
          if (error instanceof ClosedError || error === undefined || hasNoSuchCall(error)) break;
        }
        if (hasNoSuchCall(error)) return;
        // Anything else: it needs good arguments above, or does not say that it is closed.
        expect([member.name, error?.name, error?.message]).toEqual([
          member.name,
          "ClosedError",
          expect.stringContaining("EBADF"),
        ]);
        expect((error as ClosedError).syscall).not.toBe("");
        if (member.set) {
          const set = await failure(() =>
            Reflect.set(subject, member.key, settings[member.name] ?? true),
          );
          if (!hasNoSuchCall(set)) expect(set).toBeInstanceOf(ClosedError);
        }
      } finally {
        other.close();
        far.close();
      }
    });
  }

  test("after detach, too, where there is a descriptor to give away", async () => {
    const { subject, connection } = make();
    using _ = connection;
    if (!(subject instanceof Socket)) return;
    const [other, far] = StreamSocket.pair();
    using kept = Socket.adopt(subject.detach(), { own: true });
    for (const member of names) {
      if (member.name in harmless) continue;
      const values = goodArguments(member.name, other, subject);
      if (values === undefined && !member.get) continue;
      const error = await failure(() => use(subject, member, values ?? []));
      if (!hasNoSuchCall(error))
        expect([member.name, error?.name]).toEqual([member.name, "ClosedError"]);
    }
    // Nothing of all that has touched the open socket.
    expect(kept.descriptor).toBeGreaterThan(-1);
    other.close();
    far.close();
  });
});

function configured(name: string): readonly unknown[] {
  return name === "configure" ? [{}] : [];
}

describe.each(subjects)("timeoutMs of every call of a %s", (_name, make) => {
  /** The calls that take a timeout: those that have a blocking form, and the blocking forms. */
  function timed(subject: object): Member[] {
    const members = membersOf(subject).filter(({ get }) => !get);
    const known = new Set(members.map(({ name }) => name));
    return members.filter(
      ({ name }) =>
        (known.has(`${name}Sync`) || name.endsWith("Sync")) &&
        !name.includes("Batch") &&
        // A promise form without options: each step takes its own.
        name !== "lines",
    );
  }

  test("of NaN, below 0, or no number is refused before anything is done", async () => {
    const { subject, connection } = make();
    using _ = connection;
    const [other, far] = StreamSocket.pair();
    // Something to take for all who could.
    if (connection.client !== subject || connection.server instanceof Socket)
      connection.server.sendSync(DATA, LONG);
    const calls = timed(subject);
    expect(calls.length).toBeGreaterThan(1);
    for (const member of calls) {
      for (const [timeoutMs, kind] of [
        [Number.NaN, RangeError],
        [-1, RangeError],
        [-0.001, RangeError],
        [Number.NEGATIVE_INFINITY, RangeError],
        ["5", TypeError],
        [null, TypeError],
        [5n, TypeError],
      ] as const) {
        const values = goodArguments(member.name, other, subject) ?? [];
        const error = await failure(async () => {
          const given = use(subject, member, withOptions(values, { timeoutMs }));
          // An iterator refuses at its first step, if not before.
          if (member.name === "linesSync") (given as Iterator<string>).next();
          return given;
        });
        if (hasNoSuchCall(error) && kind === RangeError) break;
        expect([member.name, timeoutMs, error?.name]).toEqual([member.name, timeoutMs, kind.name]);
        expect(error?.message).toContain("timeoutMs");
      }
    }
    // Nothing was taken, and nothing was sent.
    const { client, server, listener } = connection;
    if (listener !== subject) expect(client.unreadBytes).toBe(DATA.length);
    expect([server.tryReceive(new Uint8Array(9)), listener.tryAccept()]).toEqual([
      undefined,
      undefined,
    ]);
    expect(client.connected).toBe(true);
    other.close();
    far.close();
  });

  test("of 0 is one try; of Infinity, 2^31 and more it waits, and does not fire", async () => {
    const probe = make();
    const calls = timed(probe.subject);
    probe.connection[Symbol.dispose]();
    let waited = 0;
    for (const member of calls) {
      const { subject, connection } = make();
      using _ = connection;
      using others = new Pair();
      const values = goodArguments(member.name, others.left, subject) ?? [];
      const call = (timeoutMs: number) => {
        const given = use(subject, member, withOptions(values, { timeoutMs }));
        return member.name === "linesSync" ? (given as Iterator<string>).next() : given;
      };
      const first = await failure(() => call(0));
      if (first instanceof TimeoutError) {
        waited++;
        await waitFor(member.name, call, connection, subject === connection.listener);
      } else if (!/^end/.test(member.name)) {
        // It needs no waiting, or waiting does not help: any time gives the same.
        const told = [member.name, first?.name, first && (first as SystemError).code];
        for (const timeoutMs of ENDLESS) {
          const again = await failure(() => call(timeoutMs));
          expect([member.name, again?.name, again && (again as SystemError).code]).toEqual(told);
        }
      }
      rmSync(join(folder, "pair"), { force: true });
    }
    const isWriter = calls.some(({ name }) => name === "flush");
    expect(waited > 1).toBe(!isWriter);
  });

  /** Shows that a call which has to wait does so, and is answered by what comes. */
  async function waitFor(
    name: string,
    call: (timeoutMs: number) => unknown,
    { client, server, listener, [Symbol.dispose]: closeAll }: Connection,
    accepts: boolean,
  ): Promise<void> {
    const deliver = () => {
      if (accepts) {
        const { open } = client.constructor as unknown as { open(family?: unknown): Socket };
        using third = open(client.family === "unix" ? undefined : client.family);
        third.connectSync(listener.localAddress, LONG);
      } else if (/Urgent/.test(name)) {
        (server as StreamSocket).trySendUrgent(33);
      } else {
        server.sendSync(DATA, LONG);
        server.shutdown("write");
      }
    };
    // The queue of errors is nothing that the peer writes to.
    const isError = /Error/.test(name);
    if (name.endsWith("Sync")) {
      if (isError) return;
      deliver();
      const given = await call(2 ** 31);
      if (given instanceof Socket) given.close();
      return;
    }
    const settled: unknown[] = [];
    const waiting = ENDLESS.map((timeoutMs) =>
      (call(timeoutMs) as Promise<unknown>).then(
        (value) => settled.push(value),
        (reason) => settled.push(reason),
      ),
    );
    // Who waits for 3 ms is out of time first.
    using clock = UdpSocket.bind("127.0.0.1:0");
    await failure(() => clock.receive(new Uint8Array(1), { timeoutMs: 3 }));
    await turns(5);
    expect([name, settled]).toEqual([name, []]);
    if (!isError) {
      deliver();
      await Promise.race(waiting);
      expect([name, settled[0]]).not.toEqual([name, expect.any(Error)]);
    }
    // Who still waits is told.
    closeAll();
    await Promise.all(waiting);
    for (const value of settled) {
      if (value instanceof Socket) value.close();
      else if (value instanceof Error)
        expect([name, value]).toEqual([name, expect.any(ClosedError)]);
    }
  }
});

/** Two packets whose header is a byte, and among them the end of a line. */
const DATA = "\u0003ab\n\u0003xyz";
/** Times that are no limit, or longer than any timer. */
const ENDLESS = [Number.POSITIVE_INFINITY, 2 ** 31, 1e300];

/** Two streams, closed with the block. */
class Pair implements Disposable {
  readonly left: StreamSocket;
  readonly right: StreamSocket;

  constructor() {
    [this.left, this.right] = StreamSocket.pair();
  }

  [Symbol.dispose](): void {
    this.left.close();
    this.right.close();
  }
}

describe("timeoutMs of what makes sockets and names", () => {
  const calls: readonly [string, (timeoutMs: number) => unknown][] = [
    ["TcpSocket.connect()", (timeoutMs) => TcpSocket.connect("127.0.0.1:9", { timeoutMs })],
    ["TcpSocket.connectSync()", (timeoutMs) => TcpSocket.connectSync("127.0.0.1:9", { timeoutMs })],
    ["UnixSocket.connect()", (timeoutMs) => UnixSocket.connect("/nowhere", { timeoutMs })],
    ["UnixSocket.connectSync()", (timeoutMs) => UnixSocket.connectSync("/nowhere", { timeoutMs })],
    [
      "UnixSeqpacketSocket.connect()",
      (timeoutMs) => UnixSeqpacketSocket.connect("/nowhere", { timeoutMs }),
    ],
    [
      "UnixSeqpacketSocket.connectSync()",
      (timeoutMs) => UnixSeqpacketSocket.connectSync("/nowhere", { timeoutMs }),
    ],
    [
      "TcpListener.listenAll()",
      (timeoutMs) => TcpListener.listenAll("localhost", 0, { timeoutMs }),
    ],
    [
      "TcpListener.listenAllSync()",
      (timeoutMs) => TcpListener.listenAllSync("localhost", 0, { timeoutMs }),
    ],
    ["resolve()", (timeoutMs) => resolve("localhost", 80, { timeoutMs })],
    ["resolveSync()", (timeoutMs) => resolveSync("localhost", 80, { timeoutMs })],
    ["reverse()", (timeoutMs) => reverse("127.0.0.1:80", { numericHost: true, timeoutMs })],
    ["reverseSync()", (timeoutMs) => reverseSync("127.0.0.1:80", { numericHost: true, timeoutMs })],
    ["hostByName()", (timeoutMs) => hostByName("localhost", { timeoutMs })],
    ["hostByNameSync()", (timeoutMs) => hostByNameSync("localhost", { timeoutMs })],
  ];

  test.each(calls)("%s refuses NaN and what is below 0, and opens nothing", async (_, call) => {
    using opened = replaceLibc("socket", (original) => original);
    for (const timeoutMs of [Number.NaN, -1, Number.NEGATIVE_INFINITY]) {
      const error = await failure(() => call(timeoutMs));
      expect([timeoutMs, error?.name]).toEqual([timeoutMs, "RangeError"]);
      expect(error?.message).toContain("timeoutMs");
    }
    for (const timeoutMs of ["5", null, {}])
      expect(await failure(() => call(timeoutMs as number))).toBeInstanceOf(TypeError);
    expect(opened.calls).toBe(0);
  });

  test.each(calls)(
    "%s takes 0, Infinity and 2^31, and says at once what there is",
    async (_, call) => {
      for (const timeoutMs of [Number.POSITIVE_INFINITY, 2 ** 31, 1e300]) {
        const error = await failure(async () => {
          const given = await call(timeoutMs);
          if (Array.isArray(given))
            for (const each of given) if (each instanceof Socket) each.close();
        });
        expect(
          error === undefined || ["ECONNREFUSED", "ENOENT"].includes((error as SystemError).code),
        ).toBe(true);
      }
      const once = await failure(async () => {
        const given = await call(0);
        if (Array.isArray(given))
          for (const each of given) if (each instanceof Socket) each.close();
      });
      expect(
        once === undefined || once instanceof SystemError || once instanceof ResolutionError,
      ).toBe(true);
    },
  );
});
