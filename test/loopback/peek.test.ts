/**
 * Looking at what has come without taking it: `MSG_PEEK` in every form of every call that receives,
 * the true length of a datagram, its sender, and `SO_PEEK_OFF`.
 */
import { describe, expect, test } from "bun:test";
import {
  ClosedError,
  DatagramBatch,
  Message,
  poller,
  Socket,
  SocketOption,
  StreamSocket,
  SystemError,
  TimeoutError,
  UdpSocket,
} from "bun-sockets";
import { MSG_EOR, MSG_OOB, MSG_PEEK, MSG_TRUNC, MSG_WAITALL } from "bun-sockets/sys";
import { systemErrorOf } from "../support/errors.ts";
import { replaceLibc } from "../support/faults.ts";
import { requires, testIf } from "../support/require.ts";
import {
  deliver,
  type Kind,
  kinds as kindsOnIpv4,
  type Pair,
  seqpacket,
  tcp,
  trySend,
  turns,
  udp4,
  udp6,
  unixDatagram,
  unixDatagramNamed,
  unixStream,
  until,
  waiting,
} from "../support/waiting.ts";

const LONG = { timeoutMs: 10_000 };
const SHORT = { timeoutMs: 5 };
const TEXT = "what is there";
const DOTS = 0x2e;
/** Unix datagrams that may wait: fewer than net.unix.max_dgram_qlen, whose default is 10. */
const UNIX_QUEUE = 8;

/** TCP over IPv6: the other kinds are shared with the tests of the promise forms. */
const tcp6: Kind = {
  ...tcp,
  name: "TCP over IPv6",
  open(options) {
    using listener = Socket.create("ipv6", "stream", options);
    listener.bind("[::1]:0");
    listener.listen(1);
    const sender = Socket.create("ipv6", "stream", options);
    sender.connectSync(listener.localAddress, LONG);
    const receiver = listener.acceptSync(LONG);
    const close = () => {
      receiver.close();
      sender.close();
    };
    return { receiver, sender, to: undefined, [Symbol.dispose]: close };
  },
};
const kinds: readonly Kind[] = [...kindsOnIpv4, tcp6, unixDatagramNamed];
const streams: readonly Kind[] = [tcp, tcp6, unixStream];
const isStream = (kind: Kind) => !kind.keepsBoundaries;

type Form = "promise" | "Sync" | "try";
type Call = "receive" | "receiveBytes" | "receiveFrom" | "receiveMessage" | "receiveBatch";

/** How a call in one of its forms is made. */
interface Way {
  readonly form: Form;
  readonly call: Call;
}

/** What a call has told. */
interface Seen {
  /** What stands in the target: dots where nothing was written. */
  readonly text: string;
  readonly length: number;
  readonly sender?: string | undefined;
  readonly originalLength?: number | undefined;
  /** Whether it said that the datagram was cut. */
  readonly cut?: boolean | undefined;
  readonly flags?: number | undefined;
}

interface Options {
  readonly timeoutMs?: number;
  readonly signal?: AbortSignal;
}

const syscalls = {
  receive: "recv",
  receiveBytes: "recv",
  receiveFrom: "recvfrom",
  receiveMessage: "recvmsg",
  receiveBatch: "recvmmsg",
} as const;

function waysOf(kind: Kind): Way[] {
  const calls = Object.keys(syscalls) as Call[];
  return calls
    .filter((call) => kind.takesBatches || call !== "receiveBatch")
    .flatMap((call) => (["promise", "Sync", "try"] as const).map((form) => ({ form, call })));
}

/** Every kind of socket with every form of every call that it has. */
const everyWay = kinds.flatMap((kind) =>
  waysOf(kind).map((way) => [kind.name, nameOf(way), kind, way] as const),
);

function nameOf({ form, call }: Way): string {
  return form === "try" ? `try${call[0]?.toUpperCase()}${call.slice(1)}` : `${call} (${form})`;
}

/** Receives into room for so many bytes; undefined when it would block. */
async function receive(
  socket: Socket,
  { form, call }: Way,
  room: number,
  flags = MSG_PEEK,
  wait: Options = LONG,
): Promise<Seen | undefined> {
  const target = Buffer.alloc(room, DOTS);
  const options = { flags, ...wait };
  const tell = (length: number, more?: object): Seen => ({ text: `${target}`, length, ...more });
  if (call === "receive") {
    const length =
      form === "try"
        ? socket.tryReceive(target, { flags })
        : form === "Sync"
          ? socket.receiveSync(target, options)
          : await socket.receive(target, options);
    return length === undefined ? undefined : tell(length);
  }
  if (call === "receiveBytes") {
    const bytes =
      form === "try"
        ? socket.tryReceiveBytes(room, { flags })
        : form === "Sync"
          ? socket.receiveBytesSync(room, options)
          : await socket.receiveBytes(room, options);
    if (bytes === undefined) return undefined;
    target.set(bytes);
    return tell(bytes.length);
  }
  if (call === "receiveFrom") {
    const received =
      form === "try"
        ? socket.tryReceiveFrom(target, { flags })
        : form === "Sync"
          ? socket.receiveFromSync(target, options)
          : await socket.receiveFrom(target, options);
    if (received === undefined) return undefined;
    const { length, address, originalLength } = received;
    return tell(length, {
      sender: address && `${address}`,
      originalLength,
      cut: (received.flags & MSG_TRUNC) !== 0,
    });
  }
  if (call === "receiveMessage") {
    // Cut in two, as only messages can be.
    const half = room >> 1;
    const message = new Message({ vectors: [target.subarray(0, half), target.subarray(half)] });
    const length =
      form === "try"
        ? socket.tryReceiveMessage(message, { flags })
        : form === "Sync"
          ? socket.receiveMessageSync(message, options)
          : await socket.receiveMessage(message, options);
    if (length === undefined) return undefined;
    return tell(length, {
      sender: message.address && `${message.address}`,
      originalLength: message.originalLength,
      cut: (message.flags & MSG_TRUNC) !== 0,
      flags: message.flags,
    });
  }
  // A peek has the first datagram only, however many would fit.
  const capacity = flags & MSG_PEEK ? 3 : 1;
  using batch = new DatagramBatch({ capacity, slotBytes: Math.max(room, 1) });
  batch.memory.fill(DOTS);
  const count =
    form === "try"
      ? socket.tryReceiveBatch(batch, { flags })
      : form === "Sync"
        ? socket.receiveBatchSync(batch, options)
        : await socket.receiveBatch(batch, options);
  expect(batch.count).toBe(count);
  if (count === 0) return undefined;
  target.set(batch.memory.subarray(batch.offset(0), batch.offset(0) + room));
  const sender = batch.address(0);
  return tell(batch.length(0), { sender: sender && `${sender}`, cut: batch.truncated(0) });
}

async function reasonOf(call: Promise<unknown>): Promise<Error> {
  return call.then(
    () => {
      throw new Error("Expected the call to fail");
    },
    (reason) => reason,
  );
}

/** What is still there, taken at once. */
function rest(socket: Socket): string | undefined {
  const target = Buffer.alloc(100);
  const length = socket.tryReceive(target);
  return length === undefined ? undefined : target.toString("latin1", 0, length);
}

describe.each(everyWay)("MSG_PEEK over %s by %s", (_kind, _way, kind, way) => {
  test("shows the same again and again; what was peeked is there, and nothing behind it is lost", async () => {
    using pair = kind.open();
    const texts = isStream(kind) ? [TEXT] : [TEXT, "the second", ""];
    deliver(pair, ...texts);
    for (let i = 0; i < 3; i++)
      expect(await receive(pair.receiver, way, 16)).toMatchObject({
        text: `${TEXT}...`,
        length: TEXT.length,
      });
    expect(await receive(pair.receiver, way, 16, 0)).toMatchObject({ text: `${TEXT}...` });
    if (isStream(kind)) {
      expect(rest(pair.receiver)).toBeUndefined();
      return;
    }
    expect(await receive(pair.receiver, way, 16)).toMatchObject({ text: "the second......" });
    expect(rest(pair.receiver)).toBe("the second");
    expect(await receive(pair.receiver, way, 4)).toMatchObject({ text: "....", length: 0 });
    expect(rest(pair.receiver)).toBe("");
    expect(rest(pair.receiver)).toBeUndefined();
  });

  test("into a short target shows the beginning, and how much there was", async () => {
    using pair = kind.open();
    deliver(pair, TEXT);
    const seen = await receive(pair.receiver, way, 4);
    expect(seen).toMatchObject({ text: "what", length: 4 });
    const { originalLength, cut } = seen as Seen;
    if (originalLength !== undefined) expect(originalLength).toBe(isStream(kind) ? 4 : 13);
    if (cut !== undefined) expect(cut).toBe(!isStream(kind));
    expect(rest(pair.receiver)).toBe(TEXT);
  });

  test("tells who sent it", async () => {
    using pair = kind.open();
    deliver(pair, TEXT);
    const seen = await receive(pair.receiver, way, 16);
    if (way.call === "receive" || way.call === "receiveBytes") {
      expect(seen).not.toHaveProperty("sender");
    } else if (isStream(kind)) {
      expect(seen?.sender).toBeUndefined();
    } else if (kind === seqpacket) {
      // It was not bound; what a message makes of that is its own.
      expect(seen?.sender ?? "unix:").toBe("unix:");
    } else {
      expect(seen?.sender).toBe(`${pair.sender.localAddress}`);
    }
    expect(rest(pair.receiver)).toBe(TEXT);
  });

  test("of nothing says so, and a later one sees what comes then", async () => {
    using pair = kind.open();
    const { receiver } = pair;
    if (way.form === "try") {
      expect(await receive(receiver, way, 8)).toBeUndefined();
    } else {
      for (const wait of [{ timeoutMs: 0 }, SHORT]) {
        const reason = await reasonOf(receive(receiver, way, 8, MSG_PEEK, wait));
        expect(reason).toBeInstanceOf(TimeoutError);
        expect((reason as TimeoutError).syscall).toBe(syscalls[way.call]);
      }
    }
    deliver(pair, "late");
    expect(await receive(receiver, way, 8)).toMatchObject({ text: "late....", length: 4 });
    expect(rest(receiver)).toBe("late");
  });

  test("on a closed socket is a ClosedError", async () => {
    using pair = kind.open();
    deliver(pair, TEXT);
    pair.receiver.close();
    const reason = await reasonOf(receive(pair.receiver, way, 8));
    expect(reason).toBeInstanceOf(ClosedError);
    expect((reason as ClosedError).syscall).toBe(syscalls[way.call]);
  });
});

describe.each(everyWay.filter(([, , , way]) => way.form === "promise"))(
  "MSG_PEEK that waits over %s by %s",
  (_kind, _way, kind, way) => {
    test("is answered by what comes, which stays; cancelled or closed it takes nothing", async () => {
      using pair = kind.open();
      const { receiver } = pair;
      const abort = new AbortController();
      const cancelled = waiting(() =>
        receive(receiver, way, 8, MSG_PEEK, { signal: abort.signal }),
      );
      const peeked = waiting(() => receive(receiver, way, 8));
      const second = waiting(() => receive(receiver, way, 8));
      const why = new Error("enough");
      abort.abort(why);
      expect(await reasonOf(cancelled)).toBe(why);
      deliver(pair, "late");
      expect(await peeked).toMatchObject({ text: "late...." });
      expect(await second).toMatchObject({ text: "late...." });
      expect(rest(receiver)).toBe("late");
      const waits = waiting(() => receive(receiver, way, 8));
      receiver.close();
      expect(await reasonOf(waits)).toBeInstanceOf(ClosedError);
    });

    test("is not done when the signal was aborted before", async () => {
      using pair = kind.open();
      deliver(pair, TEXT);
      const why = new Error("before");
      const signal = AbortSignal.abort(why);
      expect(await reasonOf(receive(pair.receiver, way, 8, MSG_PEEK, { signal }))).toBe(why);
      expect(rest(pair.receiver)).toBe(TEXT);
    });
  },
);

describe.each(everyWay.filter(([, , kind]) => kind === seqpacket || isStream(kind)))(
  "MSG_PEEK at the end over %s by %s",
  (_kind, _way, kind, way) => {
    test("shows what came before, and then the end, as often as it is asked", async () => {
      using pair = kind.open();
      deliver(pair, TEXT);
      pair.sender.shutdown("write");
      for (let i = 0; i < 2; i++)
        expect(await receive(pair.receiver, way, 16)).toMatchObject({ text: `${TEXT}...` });
      expect(rest(pair.receiver)).toBe(TEXT);
      for (let i = 0; i < 3; i++) {
        const seen = await receive(pair.receiver, way, 16);
        expect(seen?.length).toBe(0);
        // Only a record has it: the end is told from an empty one.
        if (seen?.flags !== undefined) expect(seen.flags & MSG_EOR).toBe(0);
      }
      expect(rest(pair.receiver)).toBe("");
      // The other direction is as it was.
      pair.receiver.sendSync("still", LONG);
      expect(`${Buffer.from(pair.sender.receiveBytesSync(9, LONG))}`).toBe("still");
    });
  },
);

describe.each(everyWay.filter(([, , kind]) => kind === tcp || kind === tcp6))(
  "MSG_PEEK over %s by %s",
  (_kind, _way, kind, way) => {
    test("is told of a reset like any receive, once, and then of the end", async () => {
      using pair = kind.open();
      using sender = StreamSocket.adopt(pair.sender.detach(), { own: true });
      sender.reset();
      const reason = await reasonOf(
        receive(pair.receiver, way.form === "try" ? { ...way, form: "Sync" } : way, 8),
      );
      expect(reason).toBeInstanceOf(SystemError);
      expect((reason as SystemError).code).toBe("ECONNRESET");
      expect(await receive(pair.receiver, way, 8)).toMatchObject({ length: 0 });
    });
  },
);

describe.each([udp4, udp6])("MSG_PEEK on $name", (kind) => {
  test.each(waysOf(kind).map((way) => [nameOf(way), way] as const))(
    "is told once of what a peer refused, and nothing is lost, by %s",
    async (_name, way) => {
      const host = kind === udp4 ? "127.0.0.1" : "[::1]";
      using socket = UdpSocket.bind(`${host}:0`);
      const gone = UdpSocket.bind(`${host}:0`);
      socket.connectSync(gone.localAddress);
      gone.sendToSync("before it went", socket.localAddress);
      gone.close();
      socket.sendSync("to nobody");
      expect(((await reasonOf(receive(socket, way, 8))) as SystemError).code).toBe("ECONNREFUSED");
      expect(await receive(socket, way, 8)).toMatchObject({ text: "before i" });
      expect(rest(socket)).toBe("before it went");
    },
  );
});

describe("the true length", () => {
  const recordKinds = kinds.filter((kind) => kind.keepsBoundaries);

  test.each(recordKinds.map((kind) => [kind.name, kind] as const))(
    "of a datagram is told by MSG_PEEK and MSG_TRUNC with an empty target, in every form, over %s",
    async (_name, kind) => {
      for (const length of [0, 1, TEXT.length, 1500]) {
        using pair = kind.open();
        const { receiver } = pair;
        const data = Buffer.alloc(length, "x");
        trySend(pair, data);
        trySend(pair, "next");
        const flags = MSG_PEEK | MSG_TRUNC;
        const empty = new Uint8Array(0);
        expect(receiver.receiveSync(empty, { flags, ...LONG })).toBe(length);
        expect(receiver.tryReceive(empty, { flags })).toBe(length);
        expect(await receiver.receive(empty, { flags, ...LONG })).toBe(length);
        // These ask for it by themselves.
        const whole = { length: 0, originalLength: length, flags: length > 0 ? MSG_TRUNC : 0 };
        for (const asked of [MSG_PEEK, flags]) {
          expect(receiver.tryReceiveFrom(empty, { flags: asked })).toMatchObject(whole);
          expect(receiver.receiveFromSync(empty, { flags: asked })).toMatchObject(whole);
          expect(await receiver.receiveFrom(empty, { flags: asked })).toMatchObject(whole);
          for (const vectors of [[], [empty]]) {
            const message = new Message({ vectors });
            expect(receiver.tryReceiveMessage(message, { flags: asked })).toBe(0);
            expect(message.originalLength).toBe(length);
            expect(receiver.receiveMessageSync(message, { flags: asked })).toBe(0);
            expect(await receiver.receiveMessage(message, { flags: asked })).toBe(0);
            expect([message.originalLength, (message.flags & MSG_TRUNC) !== 0]).toEqual([
              length,
              length > 0,
            ]);
          }
        }
        const target = Buffer.alloc(2000);
        expect(receiver.tryReceive(target)).toBe(length);
        expect(data.equals(target.subarray(0, length))).toBe(true);
        expect(rest(receiver)).toBe("next");
      }
    },
  );

  test.each(recordKinds.map((kind) => [kind.name, kind] as const))(
    "of a datagram with a short target, which is written to and no further, over %s",
    async (_name, kind) => {
      using pair = kind.open();
      deliver(pair, TEXT);
      const flags = MSG_PEEK | MSG_TRUNC;
      for (const way of waysOf(kind)) {
        const seen = (await receive(pair.receiver, way, 4, flags)) as Seen;
        expect(seen.text).toBe("what");
        expect(seen.length).toBe(way.call === "receive" ? TEXT.length : 4);
      }
      const memory = Buffer.alloc(8, DOTS);
      expect(pair.receiver.tryReceive(memory.subarray(2, 5), { flags })).toBe(TEXT.length);
      expect(`${memory}`).toBe("..wha...");
      expect(rest(pair.receiver)).toBe(TEXT);
    },
  );

  test("of what waits on a socket tells how large the target must be, sender and all", () => {
    using pair = udp6.open();
    deliver(pair, TEXT);
    const { originalLength, address } = pair.receiver.receiveFromSync(new Uint8Array(0), {
      flags: MSG_PEEK,
      ...LONG,
    });
    expect(`${address}`).toBe(`${pair.sender.localAddress}`);
    const target = Buffer.alloc(originalLength);
    expect(pair.receiver.tryReceive(target)).toBe(originalLength);
    expect(`${target}`).toBe(TEXT);
  });

  test.each(streams.map((kind) => [kind.name, kind] as const))(
    "is none of a stream: an empty target is refused, and nothing is thrown away, over %s",
    async (_name, kind) => {
      using pair = kind.open();
      deliver(pair, TEXT);
      const { receiver } = pair;
      const empty = new Uint8Array(0);
      const flags = MSG_PEEK | MSG_TRUNC;
      const calls: (() => unknown)[] = [
        () => receiver.tryReceive(empty, { flags }),
        () => receiver.receiveSync(empty, { flags }),
        () => receiver.receive(empty, { flags }),
        () => receiver.tryReceiveFrom(empty, { flags }),
        () => receiver.receiveFromSync(empty, { flags }),
        () => receiver.receiveFrom(empty, { flags }),
        () => receiver.tryReceiveMessage(new Message(), { flags }),
        () => receiver.receiveMessageSync(new Message(), { flags }),
        () => receiver.receiveMessage(new Message(), { flags }),
        () => receiver.tryReceiveBytes(8, { flags }),
        () => receiver.receiveBytesSync(8, { flags }),
        () => receiver.receiveBytes(8, { flags }),
      ];
      for (const call of calls)
        expect(await reasonOf((async () => call())())).toBeInstanceOf(RangeError);
      // TCP counts, and a Unix stream shows; neither takes anything.
      expect(receiver.tryReceive(new Uint8Array(100), { flags })).toBe(TEXT.length);
      expect(rest(receiver)).toBe(TEXT);
    },
  );
});

describe("MSG_WAITALL beside MSG_PEEK", () => {
  const flags = MSG_PEEK | MSG_WAITALL;

  test.each(streams.map((kind) => [kind.name, kind] as const))(
    "is refused where it would wait: the reader's peek() does that; at once it shows what is there, over %s",
    async (_name, kind) => {
      using pair = kind.open();
      deliver(pair, "half");
      const { receiver } = pair;
      for (const way of waysOf(kind)) {
        if (way.form === "try") {
          expect(await receive(receiver, way, 8, flags)).toMatchObject({
            text: "half....",
            length: 4,
          });
        } else {
          const reason = await reasonOf(receive(receiver, way, 8, flags, SHORT));
          expect(reason).toBeInstanceOf(RangeError);
          expect(reason.message).toContain("MSG_WAITALL");
        }
      }
      using stream = StreamSocket.adopt(receiver.descriptor);
      const whole = stream.reader().peek(8, LONG);
      deliver(pair, "half");
      expect(Buffer.from(await whole).toString()).toBe("halfhalf");
      expect(Buffer.from(stream.reader().peekSync(8, LONG)).toString()).toBe("halfhalf");
      expect(Buffer.from(stream.reader().readExactlySync(8, LONG)).toString()).toBe("halfhalf");
    },
  );

  test.each(kinds.filter((kind) => kind.keepsBoundaries).map((kind) => [kind.name, kind] as const))(
    "is no flag of datagrams, over %s",
    async (_name, kind) => {
      using pair = kind.open();
      deliver(pair, TEXT);
      for (const way of waysOf(kind))
        expect(await reasonOf(receive(pair.receiver, way, 8, flags))).toBeInstanceOf(RangeError);
      expect(rest(pair.receiver)).toBe(TEXT);
    },
  );
});

test.each(["TCP", "a Unix stream"])(
  "MSG_PEEK beside MSG_OOB leaves urgent data, over %s",
  (name) => {
    using pair = (name === "TCP" ? tcp : unixStream).open();
    try {
      pair.sender.sendSync("!", { flags: MSG_OOB });
    } catch (error) {
      // Unix streams have none before Linux 5.15.
      expect([name, (error as SystemError).code]).toEqual(["a Unix stream", "ENOTSUP"]);
      return;
    }
    const target = Buffer.alloc(1);
    const flags = MSG_PEEK | MSG_OOB;
    for (const each of [flags, flags, MSG_OOB]) {
      expect(pair.receiver.tryReceive(target, { flags: each })).toBe(1);
      expect(`${target}`).toBe("!");
    }
    expect(systemErrorOf(() => pair.receiver.tryReceive(target, { flags: MSG_OOB })).code).toBe(
      "EINVAL",
    );
  },
);

/** Why a kind of socket has no SO_PEEK_OFF here: TCP has it from Linux 6.9 on, over IPv6 from 6.12. */
function missingPeekOffset(kind: Kind): string | undefined {
  using pair = kind.open();
  try {
    pair.receiver.setOption(SocketOption.peekOffset, 0);
    return undefined;
  } catch (error) {
    if (error instanceof SystemError && error.code === "ENOTSUP")
      return `needs a kernel with SO_PEEK_OFF for ${kind.name}`;
    throw error;
  }
}

const offsetOf = (socket: Socket) => socket.getOption(SocketOption.peekOffset);
const setOffset = (socket: Socket, offset: number) =>
  socket.setOption(SocketOption.peekOffset, offset);

for (const kind of kinds) {
  const withOffset = testIf(missingPeekOffset(kind));

  describe(`SO_PEEK_OFF over ${kind.name}`, () => {
    withOffset("is off at first, and can be set and taken back; nonsense is refused", () => {
      using pair = kind.open();
      expect(offsetOf(pair.receiver)).toBe(-1);
      for (const offset of [0, 7, 2 ** 31 - 1, -1]) {
        setOffset(pair.receiver, offset);
        expect(offsetOf(pair.receiver)).toBe(offset);
      }
      for (const offset of [-2, 2 ** 31, 0.5, Number.NaN]) {
        expect(() => setOffset(pair.receiver, offset)).toThrow(RangeError);
        expect(offsetOf(pair.receiver)).toBe(-1);
      }
    });

    for (const way of waysOf(kind)) {
      withOffset(`moves on with each peek by ${nameOf(way)}, and back with a receive`, async () => {
        using pair = kind.open();
        const { receiver } = pair;
        deliver(pair, TEXT);
        setOffset(receiver, 0);
        for (const [text, offset] of [
          ["what", 4],
          [" is ", 8],
          ["ther", 12],
        ] as const) {
          expect(await receive(receiver, way, 4)).toMatchObject({ text, length: 4 });
          expect(offsetOf(receiver)).toBe(offset);
        }
        // One byte is left, whatever room there is, and no more is said to be there.
        const last = (await receive(receiver, way, 8)) as Seen;
        expect(last).toMatchObject({ text: "e.......", length: 1 });
        if (last.originalLength !== undefined) expect(last.originalLength).toBe(1);
        expect(offsetOf(receiver)).toBe(TEXT.length);
        // There is nothing behind it, although something waits.
        expect(await receive(receiver, { ...way, form: "try" }, 8)).toBeUndefined();
        if (way.form !== "try") {
          expect(await reasonOf(receive(receiver, way, 8, MSG_PEEK, SHORT))).toBeInstanceOf(
            TimeoutError,
          );
        }
        // A receive takes from the beginning, and the rest is still where it was.
        if (isStream(kind)) {
          expect(await receive(receiver, way, 5, 0)).toMatchObject({ text: "what " });
          expect(offsetOf(receiver)).toBe(TEXT.length - 5);
          setOffset(receiver, 3);
          expect(await receive(receiver, way, 9)).toMatchObject({ text: "there....", length: 5 });
        } else {
          deliverMore(pair, "next");
          expect(await receive(receiver, way, 16)).toMatchObject({ text: "next............" });
          expect(await receive(receiver, way, 16, 0)).toMatchObject({ text: `${TEXT}...` });
          expect(offsetOf(receiver)).toBe(4);
          expect(await receive(receiver, { ...way, form: "try" }, 8)).toBeUndefined();
          setOffset(receiver, 1);
          expect(await receive(receiver, way, 8)).toMatchObject({ text: "ext.....", length: 3 });
        }
        setOffset(receiver, -1);
        const first = isStream(kind) ? "is the" : "next";
        for (let i = 0; i < 2; i++)
          expect((await receive(receiver, way, 6))?.text).toBe(first.padEnd(6, "."));
        expect(offsetOf(receiver)).toBe(-1);
      });

      if (way.form === "try") continue;

      withOffset(
        `lets a peek by ${nameOf(way)} wait for what is behind it, and does not spin`,
        async () => {
          using pair = kind.open();
          const { receiver } = pair;
          deliver(pair, TEXT);
          setOffset(receiver, TEXT.length);
          const name = syscalls[way.call];
          using calls = replaceLibc(name, (original) => original);
          const before = poller.counters.wakeUps;
          if (way.form === "Sync") {
            const late = { timeoutMs: 30 };
            expect(await reasonOf(receive(receiver, way, 8, MSG_PEEK, late))).toBeInstanceOf(
              TimeoutError,
            );
          } else {
            const peeked = waiting(() => receive(receiver, way, 8));
            await turns(50);
            deliverMore(pair, "more");
            expect(await peeked).toMatchObject({ text: "more...." });
            expect(poller.counters.wakeUps - before).toBeLessThan(10);
          }
          // The blocking receive asks some 80 times before it sleeps, where that has paid.
          expect(calls.calls).toBeLessThan(120);
          expect(rest(receiver)?.startsWith(TEXT)).toBe(true);
        },
      );
    }
  });
}

/** Sends, where something has arrived before: waits until this has, too. */
function deliverMore(pair: Pair, data: string): void {
  expect(trySend(pair, data)).toBe(data.length);
}

describe("SO_PEEK_OFF does not harm", () => {
  for (const kind of streams) {
    const withOffset = testIf(missingPeekOffset(kind));

    withOffset(`whole receives, readers and splices of ${kind.name}`, async () => {
      for (const offset of [0, 5, 1_000_000, 2 ** 31 - 1]) {
        using pair = kind.open();
        using left = StreamSocket.adopt(pair.sender.descriptor);
        using right = StreamSocket.adopt(pair.receiver.descriptor);
        setOffset(right, offset);
        const data = Buffer.from(crypto.getRandomValues(new Uint8Array(50_000)));
        const target = Buffer.alloc(data.length);
        const whole = right.receiveExactly(target, LONG);
        await left.sendAll(data, LONG);
        expect([await whole, data.equals(target)]).toEqual([data.length, true]);
        const sending = left.sendAll(data, LONG);
        const first = right.receiveExactlySync(target.subarray(0, 1000), LONG);
        const second = await right.receiveExactly(target.subarray(1000), LONG);
        await sending;
        expect([first + second, data.equals(target)]).toEqual([data.length, true]);

        const reader = right.reader({ bufferBytes: 64 });
        await left.sendAll("one\ntwo\nabcdef", LONG);
        expect(reader.readLineSync(LONG)).toBe("one");
        expect(await reader.readLine(LONG)).toBe("two");
        expect(`${Buffer.from(reader.peekSync(3, LONG))}`).toBe("abc");
        expect(`${Buffer.from(await reader.readExactly(6, LONG))}`).toBe("abcdef");

        const [near, far] = StreamSocket.pair();
        await left.sendAll("through", LONG);
        left.shutdown("write");
        expect(await right.spliceTo(near, LONG)).toBe(7);
        expect(`${Buffer.from(far.receiveBytesSync(9, LONG))}`).toBe("through");
        near.close();
        far.close();
      }
    });
  }

  for (const kind of kinds.filter(({ takesBatches }) => takesBatches)) {
    const withOffset = testIf(missingPeekOffset(kind));

    withOffset(`batches, loops over them and handlers of ${kind.name}`, async () => {
      for (const offset of [0, 3, 2 ** 31 - 1]) {
        using pair = kind.open();
        const { receiver } = pair;
        setOffset(receiver, offset);
        const sent = Array.from({ length: 12 }, (_, i) => `datagram ${i}`);
        const came: string[] = [];
        const take = (batch: DatagramBatch) => {
          for (let i = 0; i < batch.count; i++) came.push(Buffer.from(batch.view(i)).toString());
        };
        using batch = new DatagramBatch({ capacity: 2, slotBytes: 64 });
        for (const text of sent.slice(0, 4)) trySend(pair, text);
        receiver.receiveBatchSync(batch, LONG);
        take(batch);
        await receiver.receiveBatch(batch, LONG);
        take(batch);
        for (const text of sent.slice(4, 8)) trySend(pair, text);
        for await (const each of receiver.batches({ capacity: 3 })) {
          take(each);
          if (came.length >= 8) break;
        }
        using _ = receiver.onBatch(take, { capacity: 3 });
        for (const text of sent.slice(8)) trySend(pair, text);
        await until(() => came.length >= sent.length, "the handler has all");
        expect(came).toEqual(sent);
      }
    });

    withOffset(
      `what stands in a batch of ${kind.name}: a peek at the rest counts what it wrote`,
      async () => {
        using pair = kind.open();
        const { receiver } = pair;
        using batch = new DatagramBatch({ capacity: 2, slotBytes: 32 });
        deliver(pair, "a secret of somebody else");
        receiver.receiveBatchSync(batch, LONG);
        deliver(pair, TEXT);
        setOffset(receiver, 8);
        expect(receiver.tryReceiveBatch(batch, { flags: MSG_PEEK | MSG_TRUNC })).toBe(1);
        expect(`${Buffer.from(batch.view(0))}`).toBe("there");
        const target = Buffer.alloc(32, DOTS);
        setOffset(receiver, 8);
        const flags = MSG_PEEK | MSG_TRUNC;
        expect(receiver.tryReceiveFrom(target, { flags })?.length).toBe(5);
        setOffset(receiver, 8);
        expect(receiver.tryReceiveMessage(new Message({ vectors: target }), { flags })).toBe(5);
        expect(rest(receiver)).toBe(TEXT);
      },
    );
  }
});

// Does what it is told with sockets of its own, and prints what each step gave.
const pythonPeeks = `
import json, socket, sys
kind, steps = sys.argv[1], json.loads(sys.argv[2])
SO_PEEK_OFF, MSG_TRUNC = 42, 0x20
if kind.startswith("UDP"):
    family, host = (socket.AF_INET6, "::1") if "IPv6" in kind else (socket.AF_INET, "127.0.0.1")
    receiver, sender = (socket.socket(family, socket.SOCK_DGRAM) for _ in range(2))
    receiver.bind((host, 0))
    sender.connect(receiver.getsockname())
elif kind.startswith("TCP"):
    family, host = (socket.AF_INET6, "::1") if "IPv6" in kind else (socket.AF_INET, "127.0.0.1")
    listener = socket.create_server((host, 0), family=family)
    sender = socket.create_connection(listener.getsockname()[:2])
    receiver, _ = listener.accept()
else:
    types = {"stream": socket.SOCK_STREAM, "datagram": socket.SOCK_DGRAM, "seqpacket": socket.SOCK_SEQPACKET}
    receiver, sender = socket.socketpair(socket.AF_UNIX, types[kind.split()[-1]])
receiver.setblocking(False)
told = []
for what, value in steps:
    try:
        if what == "send":
            given = sender.send(value.encode())
        elif what == "offset":
            receiver.setsockopt(socket.SOL_SOCKET, SO_PEEK_OFF, value)
            given = 0
        elif what == "end":
            sender.shutdown(socket.SHUT_WR)
            given = 0
        elif what == "peek":
            given = receiver.recv(value, socket.MSG_PEEK).decode()
        elif what == "measure":
            given = receiver.recv_into(bytearray(value), value, socket.MSG_PEEK | MSG_TRUNC)
        else:
            given = receiver.recv(value).decode()
    except BlockingIOError:
        given = None
    told.append([given, receiver.getsockopt(socket.SOL_SOCKET, SO_PEEK_OFF)])
print(json.dumps(told))
`;

type Step = readonly [
  what: "send" | "offset" | "end" | "peek" | "measure" | "take",
  value: string | number,
];

/** Steps that nobody has chosen; a Unix queue has room for what they leave in it. */
function randomSteps(kind: Kind, count: number): Step[] {
  const below = (limit: number) => Math.floor(Math.random() * limit);
  const steps: Step[] = [];
  let queued = 0;
  for (let i = 0; i < count; i++) {
    const letters = String.fromCharCode(97 + (i % 26)).repeat(1 + below(9));
    const choices: Step[] = [
      ["send", letters],
      ["send", letters],
      ["peek", 1 + below(12)],
      ["peek", 1 + below(12)],
      ["measure", 1 + below(12)],
      ["take", 1 + below(12)],
      ["offset", below(20) - 1],
    ];
    let step = choices[below(choices.length)] as Step;
    if (step[0] === "send" && queued === UNIX_QUEUE) step = ["take", 12];
    if (step[0] === "send") queued++;
    else if (step[0] === "take" && queued > 0) queued--;
    steps.push(step);
  }
  // Datagrams have no end.
  if (isStream(kind) || kind === seqpacket) steps.push(["end", 0], ["peek", 9], ["peek", 9]);
  return steps;
}

function doStep({ receiver, sender }: Pair, [what, value]: Step): string | number | null {
  if (what === "send") return sender.sendSync(value as string, LONG);
  if (what === "end") sender.shutdown("write");
  else if (what === "offset") setOffset(receiver, value as number);
  else {
    const target = Buffer.alloc(value as number);
    const flags = what === "take" ? 0 : what === "peek" ? MSG_PEEK : MSG_PEEK | MSG_TRUNC;
    const length = receiver.tryReceive(target, { flags });
    if (length === undefined) return null;
    return what === "measure" ? length : target.toString("latin1", 0, length);
  }
  return 0;
}

for (const kind of [udp4, udp6, tcp, tcp6, unixStream, unixDatagram, seqpacket]) {
  const withPython = testIf(requires("python3") ?? missingPeekOffset(kind));

  withPython(
    `python3's socket sees the same of every peek and offset over ${kind.name}`,
    async () => {
      const steps = randomSteps(kind, 250);
      const child = Bun.spawn(["python3", "-c", pythonPeeks, kind.name, JSON.stringify(steps)], {
        stderr: "inherit",
      });
      const theirs = JSON.parse(await child.stdout.text());
      using pair = kind.open();
      const ours = steps.map((step) => [doStep(pair, step), offsetOf(pair.receiver)]);
      expect(steps.map((step, i) => [step, ours[i]])).toEqual(
        steps.map((step, i) => [step, theirs[i]]),
      );
    },
  );
}
