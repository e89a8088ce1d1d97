/**
 * Sends without a copy: the memory is the kernel's until its notice comes, whatever becomes of
 * everything else; and what the kernel copies all the same is sent as ever.
 */
import { afterEach, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import {
  ClosedError,
  openSockets,
  poller,
  SystemError,
  TcpListener,
  TcpSocket,
  TimeoutError,
  UdpSocket,
  type ZeroCopyLease,
} from "bun-sockets";
import {
  EAGAIN,
  ECONNREFUSED,
  ENOBUFS,
  ENOPROTOOPT,
  EOPNOTSUPP,
  MSG_ERRQUEUE,
  MSG_MORE,
  MSG_ZEROCOPY,
  SO_ZEROCOPY,
  close as sysClose,
} from "bun-sockets/sys";
import { KeptMemory, leftBehind, ZeroCopy } from "../../lib/internal/zero_copy.ts";
import { caught, systemErrorOf } from "../support/errors.ts";
import { type Fault, failWith, replaceLibc } from "../support/faults.ts";
import {
  beginCount,
  reasonOf,
  startPoller,
  turns,
  until,
  waiters,
  waiting,
} from "../support/waiting.ts";

const WAIT = { timeoutMs: 20_000 };
const BIG = 50_000;
const COPIED_MAX = 8;
const BUDGET_MS = poller.turnBudgetMs;

const open = new Set<Disposable>();

/** Closes it after the test. */
function kept<Kept extends Disposable>(socket: Kept): Kept {
  open.add(socket);
  return socket;
}

const bound = (local = "127.0.0.1:0") => kept(UdpSocket.bind(local));
const pair = () => TcpSocket.pair().map(kept) as [TcpSocket, TcpSocket];

/** A pair over UDP: one that sends, and its peer. */
function connected(): [UdpSocket, UdpSocket] {
  const [sender, receiver] = [bound(), bound()];
  sender.connectSync(receiver.localAddress);
  return [sender, receiver];
}

beforeAll(startPoller);
beforeEach(beginCount);

afterEach(() => {
  for (const socket of open) socket[Symbol.dispose]();
  open.clear();
  poller.turnBudgetMs = BUDGET_MS;
  expect(waiters()).toBe(0);
});

/** Keeps the notices of the kernel back until the end of the block. */
function withoutNotices(): Fault {
  return replaceLibc("recvmsg", (real) => (...values) => {
    return values[2] & MSG_ERRQUEUE ? failWith(EAGAIN) : real(...values);
  });
}

/** Sends until there is no room, and none comes: the kernel makes some of its own accord. */
function fill(socket: TcpSocket): number {
  let bytes = 0;
  // An acknowledgement makes room for a send before poll(2) tells of it.
  for (;;)
    try {
      bytes += socket.sendZeroCopySync(pattern(100_000), { timeoutMs: 50 }).bytes;
    } catch (error) {
      if (!(error instanceof TimeoutError)) throw error;
      const lease = socket.trySendZeroCopy(pattern(100_000));
      if (!lease) return bytes;
      bytes += lease.bytes;
    }
}

/** Bytes that differ from place to place. */
function pattern(length: number, seed = 1): Uint8Array<ArrayBuffer> {
  return Uint8Array.from({ length }, (_, i) => (i * 7 + seed) & 0xff);
}

describe("a lease", () => {
  test.each(["127.0.0.1:0", "[::1]:0"])(
    "over UDP is released by the notice, at %s",
    async (local) => {
      const [sender, receiver] = [bound(local), bound(local)];
      const data = pattern(BIG);
      const leases = [
        sender.trySendZeroCopy(data, { to: receiver.localAddress }) as ZeroCopyLease,
        sender.sendZeroCopySync(data.buffer, { to: `${receiver.localAddress}`, ...WAIT }),
        await sender.sendZeroCopy(data.subarray(1), { to: receiver.localAddress, ...WAIT }),
      ];
      expect(leases.map(({ bytes }) => bytes)).toEqual([BIG, BIG, BIG - 1]);
      for (const lease of leases) {
        expect(await lease.whenReleased).toEqual({ copied: true });
        expect(lease.released).toBe(true);
        expect(lease.waitSync()).toEqual({ copied: true });
      }
      expect(sender.zeroCopy).toEqual({
        enabled: true,
        sends: 3,
        copied: 3,
        fallbacks: 0,
        outstanding: 0,
        reason: undefined,
      });
      for (const expected of [data, data, data.subarray(1)])
        expect(Buffer.compare(receiver.receiveBytesSync(BIG, WAIT), expected)).toBe(0);
    },
  );

  test("is outstanding until the notice has come, also where nothing else asks for it", async () => {
    const [sender] = connected();
    {
      using _ = withoutNotices();
      sender.sendZeroCopySync(pattern(BIG));
      expect(sender.zeroCopy.outstanding).toBe(1);
    }
    expect(sender.zeroCopy).toMatchObject({ outstanding: 0, copied: 1 });
  });

  test("over TCP is released when the peer has it, many by one notice", async () => {
    const [left, right] = pair();
    const leases = Array.from({ length: 5 }, (_, i) => left.sendZeroCopySync(pattern(1000, i)));
    expect(leases.map(({ bytes }) => bytes)).toEqual([1000, 1000, 1000, 1000, 1000]);
    const target = new Uint8Array(5000);
    await right.receiveExactly(target, WAIT);
    expect(await Promise.all(leases.map(({ whenReleased }) => whenReleased))).toHaveLength(5);
    expect(left.zeroCopy).toMatchObject({ sends: 5, copied: 5, outstanding: 0 });
    for (let i = 0; i < 5; i++)
      expect(Buffer.compare(target.subarray(i * 1000, i * 1000 + 1000), pattern(1000, i))).toBe(0);
  });

  test("over TCP tells how much was sent, and the rest is the caller's", async () => {
    const [left, right] = pair();
    const data = pattern(4_000_000);
    const received = new Uint8Array(data.length);
    const reading = right.receiveExactly(received, WAIT);
    let parts = 0;
    for (let rest = data; rest.length > 0; parts++) {
      const lease = await left.sendZeroCopy(rest, WAIT);
      rest = rest.subarray(lease.bytes);
    }
    await reading;
    expect(Buffer.compare(received, data)).toBe(0);
    expect(parts).toBeGreaterThan(1);
    expect(left.trySendZeroCopy(pattern(10), { flags: MSG_MORE })?.bytes).toBe(10);
  });

  test("is not released before the notice, and waits in all three forms", async () => {
    const [sender, receiver] = connected();
    let lease: ZeroCopyLease;
    {
      using _ = withoutNotices();
      lease = sender.sendZeroCopySync(pattern(BIG));
      expect(receiver.receiveSync(new Uint8Array(BIG), WAIT)).toBe(BIG);
      expect(lease.released).toBe(false);
      expect(sender.zeroCopy.outstanding).toBe(1);
      const error = caught(() => lease.waitSync({ timeoutMs: 5 }));
      expect(error).toBeInstanceOf(TimeoutError);
      expect(caught(() => lease.waitSync({ timeoutMs: 0 }))).toBeInstanceOf(TimeoutError);
      expect(caught(() => lease.waitSync({ timeoutMs: -1 }))).toBeInstanceOf(RangeError);
      waiting(() => lease.whenReleased);
      expect(lease.whenReleased).toBe(lease.whenReleased);
      await turns(3);
      expect(waiters()).toBe(1);
    }
    expect(lease.released).toBe(true);
    expect(await lease.whenReleased).toEqual({ copied: true });
    expect(waiters()).toBe(0);
  });

  test("that is waited for is answered whoever fetches the notice, and beside who waits for errors", async () => {
    const [sender] = connected();
    let leases: ZeroCopyLease[];
    let notice: Promise<unknown>;
    {
      using _ = withoutNotices();
      leases = [0, 1, 2].map(() => sender.sendZeroCopySync(pattern(BIG)));
      notice = waiting(() => sender.receiveError(WAIT));
      for (const lease of leases.toReversed()) waiting(() => lease.whenReleased);
    }
    expect(await Promise.all(leases.map(({ whenReleased }) => whenReleased))).toEqual([
      { copied: true },
      { copied: true },
      { copied: true },
    ]);
    expect(await notice).toMatchObject({ kind: "zeroCopy", copied: true });
    await until(() => waiters() === 0, "all were answered");
  });

  test("keeps the memory as long as the kernel has it, and no longer", async () => {
    const [sender] = connected();
    const refs: WeakRef<ArrayBuffer>[] = [];
    const send = () => {
      for (let i = 0; i < 4; i++) {
        const data = pattern(BIG, i);
        refs.push(new WeakRef(data.buffer));
        sender.sendZeroCopySync(data);
      }
    };
    const living = () => refs.filter((ref) => ref.deref() !== undefined).length;
    {
      using _ = withoutNotices();
      send();
      for (let i = 0; i < 5; i++) {
        await turns(2);
        Bun.gc(true);
      }
      expect(living()).toBe(4);
    }
    sender.tryReceive(new Uint8Array(1));
    expect(sender.zeroCopy.outstanding).toBe(0);
    await until(() => {
      Bun.gc(true);
      return living() < 2;
    }, "it is let go of");
  });

  test("of a socket that is closed or detached says so, and keeps the memory", async () => {
    for (const how of ["close", "detach"] as const) {
      const [sender] = connected();
      const duplicate = sender.duplicate();
      const refs: WeakRef<ArrayBuffer>[] = [];
      let lease: ZeroCopyLease | undefined;
      let promise: Promise<unknown> | undefined;
      {
        using _ = withoutNotices();
        const send = () => {
          const data = pattern(BIG);
          refs.push(new WeakRef(data.buffer));
          return sender.sendZeroCopySync(data);
        };
        const made = send();
        lease = made;
        promise = waiting(() => made.whenReleased);
        // There is one more who can tell.
        duplicate.close();
        expect(sender.zeroCopy.outstanding).toBe(1);
        const fd = sender[how]();
        if (typeof fd === "number") sysClose(fd);
      }
      const expected = { code: how === "close" ? "EBADF" : "ECANCELED", syscall: "recvmsg" };
      expect(await reasonOf(promise as Promise<unknown>)).toMatchObject(expected);
      expect(lease?.released).toBe(false);
      expect(caught(() => lease?.waitSync())).toMatchObject(expected);
      expect(sender.zeroCopy.outstanding).toBe(0);
      lease = promise = undefined;
      for (let i = 0; i < 5; i++) {
        await turns(2);
        Bun.gc(true);
      }
      expect(refs[0]?.deref()).toBeDefined();
    }
  });

  test.each([
    ["close", "EBADF", ClosedError],
    ["detach", "ECANCELED", SystemError],
  ] as const)(
    "says the same of a socket after %s, whenever it is asked",
    async (how, code, kind) => {
      const [sender] = connected();
      using _ = withoutNotices();
      const [before, after] = [pattern(BIG), pattern(BIG)].map((data) =>
        sender.sendZeroCopySync(data),
      ) as [ZeroCopyLease, ZeroCopyLease];
      const asked = waiting(() => before.whenReleased);
      const fd = sender[how]();
      if (typeof fd === "number") sysClose(fd);
      for (const promise of [asked, after.whenReleased]) {
        const reason = (await reasonOf(promise)) as SystemError;
        expect([reason.constructor, reason.code]).toEqual([kind, code]);
      }
      expect(caught(() => after.waitSync())).toMatchObject({ code, constructor: kind });
    },
  );

  test.each(["close", "detach"] as const)(
    "that the kernel is done with is released by %s, and answers those who wait",
    async (how) => {
      const [sender] = connected();
      const before = leftBehind.bytes;
      let lease: ZeroCopyLease;
      let promise: Promise<unknown>;
      {
        // As if it had come only now.
        using _ = withoutNotices();
        lease = sender.sendZeroCopySync(pattern(BIG));
        promise = waiting(() => lease.whenReleased);
      }
      const fd = sender[how]();
      if (typeof fd === "number") sysClose(fd);
      expect(lease.released).toBe(true);
      expect(await promise).toEqual({ copied: true });
      expect(lease.waitSync()).toEqual({ copied: true });
      expect(leftBehind.bytes).toBe(before);
    },
  );

  test("of a socket that was dropped is released, where the kernel is done with it", async () => {
    const before = leftBehind.bytes;
    const receiver = bound();
    const drop = () => {
      const sender = UdpSocket.open("127.0.0.1:0");
      sender.connectSync(receiver.localAddress);
      using _ = withoutNotices();
      sender.sendZeroCopySync(pattern(BIG));
    };
    const { length } = openSockets();
    for (let i = 0; i < 4; i++) drop();
    await until(() => {
      Bun.gc(true);
      return openSockets().length < length + 4;
    }, "one is collected");
    expect(leftBehind.bytes).toBe(before);
  });

  test("of a socket that is closed is kept up to a limit in all, the oldest first", async () => {
    const bytes = 10_000_000;
    const refs: WeakRef<ArrayBuffer>[] = [];
    const before = leftBehind.bytes;
    const lose = () => {
      const [left, right] = TcpSocket.pair();
      using _left = left;
      using _right = right;
      const data = new Uint8Array(bytes).fill(1);
      refs.push(new WeakRef(data.buffer));
      return left.sendZeroCopySync(data);
    };
    const leases: ZeroCopyLease[] = [];
    {
      using _ = withoutNotices();
      for (let i = 0; i < 12; i++) leases.push(lose());
    }
    expect(leases.filter(({ released }) => released)).toEqual([]);
    expect(leftBehind.bytes).toBeGreaterThan(before);
    expect(leftBehind.bytes).toBeLessThanOrEqual(64 * 2 ** 20);
    await until(() => {
      Bun.gc(true);
      return refs.filter((ref) => ref.deref()).length <= 7;
    }, "the oldest are let go of");
    // Also while somebody has the leases.
    expect(leases).toHaveLength(12);
    expect(refs.slice(-6).filter((ref) => ref.deref())).toHaveLength(6);
    expect(refs[0]?.deref()).toBeUndefined();
  });

  test("of sockets that are closed one after the other costs no memory", async () => {
    const before = leftBehind.bytes;
    const refs: WeakRef<ArrayBuffer>[] = [];
    const listener = kept(TcpListener.listen("127.0.0.1:0"));
    const send = () => {
      using client = TcpSocket.connectSync("127.0.0.1", listener.localAddress.port);
      using _served = listener.acceptSync(WAIT);
      const data = new Uint8Array(4_000_000).fill(1);
      refs.push(new WeakRef(data.buffer));
      client.sendZeroCopySync(data);
    };
    for (let i = 0; i < 20; i++) send();
    // The peer has refused what it had not read, so the kernel was done with it all.
    expect(leftBehind.bytes).toBe(before);
    await until(() => {
      Bun.gc(true);
      return refs.filter((ref) => ref.deref()).length <= 2;
    }, "they are let go of");
  });

  test("that is kept lets the process end", () => {
    const code = `
      import { TcpSocket } from "bun-sockets";
      import { leftBehind } from "./lib/internal/zero_copy.ts";
      const [left, right] = TcpSocket.pair();
      left.sendZeroCopySync(new Uint8Array(8_000_000));
      left.close();
      console.log(leftBehind.bytes > 0);
    `;
    const { stdout } = Bun.spawnSync([process.execPath, "-e", code], { timeout: 20_000 });
    expect(`${stdout}`).toBe("true\n");
  });

  test("of a socket whose duplicate is open is released by that", async () => {
    const [sender] = connected();
    const duplicate = kept(sender.duplicate());
    let lease: ZeroCopyLease;
    {
      using _ = withoutNotices();
      lease = sender.sendZeroCopySync(pattern(BIG));
      sender.close();
      expect(lease.released).toBe(false);
    }
    expect(duplicate.tryReceive(new Uint8Array(1))).toBeUndefined();
    expect(lease.released).toBe(true);
    expect(duplicate.zeroCopy).toMatchObject({ sends: 1, outstanding: 0 });
  });
});

describe("what is not sent without a copy", () => {
  test("is everything once the kernel has copied eight in a row", async () => {
    const [sender, receiver] = connected();
    for (let i = 1; i <= COPIED_MAX; i++) {
      const lease = await sender.sendZeroCopy(pattern(BIG, i));
      await lease.whenReleased;
      expect(sender.zeroCopy).toMatchObject({
        sends: i,
        copied: i,
        fallbacks: 0,
        enabled: i < COPIED_MAX,
        reason: i < COPIED_MAX ? undefined : "copied",
      });
      receiver.receiveSync(new Uint8Array(BIG), WAIT);
    }
    using fault = replaceLibc("send", (real) => (...values) => {
      expect(values[3] & MSG_ZEROCOPY).toBe(0);
      return real(...values);
    });
    const data = pattern(BIG, 99);
    const lease = await sender.sendZeroCopy(data);
    // It is nobody's but the caller's.
    data.fill(0);
    expect([lease.bytes, lease.released, await lease.whenReleased]).toEqual([
      BIG,
      true,
      { copied: true },
    ]);
    expect(fault.calls).toBe(1);
    expect(Buffer.compare(receiver.receiveBytesSync(BIG, WAIT), pattern(BIG, 99))).toBe(0);
    expect(sender.zeroCopy).toMatchObject({ sends: COPIED_MAX, fallbacks: 1, outstanding: 0 });
  });

  test("is what finds no memory to lock, as long as there is none", () => {
    const [sender, receiver] = connected();
    {
      using fault = replaceLibc("send", (real) => (...values) => {
        return values[3] & MSG_ZEROCOPY ? failWith(ENOBUFS) : real(...values);
      });
      expect(sender.sendZeroCopySync(pattern(BIG)).released).toBe(true);
      expect(fault.calls).toBe(2);
    }
    expect(receiver.receiveSync(new Uint8Array(BIG), WAIT)).toBe(BIG);
    expect(sender.zeroCopy).toEqual({
      enabled: true,
      sends: 0,
      copied: 0,
      fallbacks: 1,
      outstanding: 0,
      reason: "memory",
    });
    const lease = sender.sendZeroCopySync(pattern(BIG));
    expect(sender.zeroCopy.sends).toBe(1);
    expect(lease.waitSync(WAIT)).toEqual({ copied: true });
  });

  test("is what really finds no memory: many are on their way, and all come", () => {
    const [left, right] = pair();
    const leases: ZeroCopyLease[] = [];
    // net.core.optmem_max holds some hundreds of notices at most.
    using _ = withoutNotices();
    let bytes = 0;
    for (let i = 0; i < 5000; i++) {
      const lease = left.trySendZeroCopy(pattern(1, i));
      if (!lease) break;
      leases.push(lease);
      bytes += lease.bytes;
    }
    expect(leases.length).toBeGreaterThan(100);
    const target = new Uint8Array(bytes);
    right.receiveExactlySync(target, WAIT);
    expect([...target]).toEqual(Array.from({ length: bytes }, (_, i) => i & 0xff));
  });

  test.each([ENOPROTOOPT, EOPNOTSUPP])(
    "is what the kernel has no option for: errno %d",
    (errno) => {
      const [sender, receiver] = connected();
      using _ = replaceLibc("setsockopt", (real) => (...values) => {
        return values[2] === SO_ZEROCOPY ? failWith(errno) : real(...values);
      });
      for (let i = 0; i < 2; i++) {
        expect(sender.sendZeroCopySync(pattern(BIG)).released).toBe(true);
        expect(receiver.receiveSync(new Uint8Array(BIG), WAIT)).toBe(BIG);
      }
      expect(sender.zeroCopy).toMatchObject({ enabled: false, sends: 0, reason: "unsupported" });
      expect(sender.zeroCopy.fallbacks).toBe(2);
    },
  );

  test("is counted once, however often it is tried", () => {
    const [sender, receiver] = connected();
    expect(sender.descriptor).toBeGreaterThan(0);
    let failures = 3;
    using _ = replaceLibc("send", (real) => (...values) => {
      return failures-- > 0 ? failWith(EAGAIN) : real(...values);
    });
    expect(sender.sendZeroCopySync(pattern(9), WAIT).bytes).toBe(9);
    expect(receiver.receiveSync(new Uint8Array(9), WAIT)).toBe(9);
    expect(sender.zeroCopy).toMatchObject({ fallbacks: 1, reason: "shared" });
  });

  test("is what others could take the notices of", () => {
    const [sender, receiver] = connected();
    expect(sender.descriptor).toBeGreaterThan(0);
    const adopted = kept(UdpSocket.adopt(kept(bound()).descriptor));
    for (const socket of [sender, adopted]) {
      expect(socket.zeroCopy.enabled).toBe(false);
      const lease = socket.sendZeroCopySync(pattern(10), { to: receiver.localAddress });
      expect(lease.released).toBe(true);
      expect(socket.zeroCopy).toMatchObject({ sends: 0, fallbacks: 1, reason: "shared" });
      expect(receiver.receiveSync(new Uint8Array(BIG), WAIT)).toBe(10);
    }
  });

  test("is nothing at all, which the kernel does not count", () => {
    const [sender, receiver] = connected();
    expect(sender.sendZeroCopySync("")).toMatchObject({ bytes: 0, released: true });
    expect(receiver.receiveSync(new Uint8Array(1), WAIT)).toBe(0);
    expect(sender.zeroCopy).toMatchObject({ enabled: true, fallbacks: 1, reason: "empty" });
    const lease = sender.sendZeroCopySync("text");
    expect(Buffer.from(receiver.receiveBytesSync(10, WAIT)).toString()).toBe("text");
    expect(lease.waitSync(WAIT)).toEqual({ copied: true });
    expect(sender.zeroCopy).toMatchObject({ sends: 1, outstanding: 0 });
  });
});

describe("a send without a copy", () => {
  test("waits for room, and sends nothing when there is none in time", async () => {
    const [left, right] = pair();
    const bytes = fill(left);
    expect(caught(() => left.sendZeroCopySync("x", { timeoutMs: 5 }))).toBeInstanceOf(TimeoutError);
    const late = (await reasonOf(left.sendZeroCopy("x", { timeoutMs: 5 }))) as TimeoutError;
    expect([late.name, late.syscall]).toEqual(["TimeoutError", "send"]);
    const controller = new AbortController();
    const aborted = waiting(() => left.sendZeroCopy("x", { signal: controller.signal }));
    controller.abort("enough");
    expect(await reasonOf(aborted)).toBe("enough");
    const sent = waiting(() => left.sendZeroCopy("last", WAIT));
    await right.receiveExactly(new Uint8Array(bytes), WAIT);
    expect((await sent).bytes).toBe(4);
    expect(Buffer.from(await right.receiveBytes(10, WAIT)).toString()).toBe("last");
  });

  test("fails as a plain one does", async () => {
    const [sender] = connected();
    const lone = bound();
    expect(systemErrorOf(() => lone.sendZeroCopySync("x")).code).toBe("EDESTADDRREQ");
    expect(await reasonOf(lone.sendZeroCopy("x"))).toMatchObject({
      code: "EDESTADDRREQ",
      syscall: "send",
    });
    expect(
      systemErrorOf(() => lone.sendZeroCopySync(pattern(65_508), { to: "127.0.0.1:9" })),
    ).toMatchObject({ code: "EMSGSIZE", syscall: "sendto", destination: "127.0.0.1:9" });
    {
      using _ = replaceLibc("send", () => () => failWith(ECONNREFUSED));
      expect(systemErrorOf(() => sender.trySendZeroCopy(pattern(9))).code).toBe("ECONNREFUSED");
    }
    // None of these has a number.
    const lease = sender.sendZeroCopySync(pattern(9));
    expect(lease.waitSync(WAIT)).toEqual({ copied: true });
    const [left, right] = pair();
    right.reset();
    await until(() => {
      try {
        left.sendZeroCopySync("x");
        return false;
      } catch (error) {
        expect((error as { code: string }).code).toMatch(/EPIPE|ECONNRESET/);
        return true;
      }
    }, "the peer is gone");
    sender.close();
    expect(caught(() => sender.trySendZeroCopy(pattern(9)))).toBeInstanceOf(ClosedError);
    expect(await reasonOf(sender.sendZeroCopy("x"))).toBeInstanceOf(ClosedError);
    expect(await reasonOf(left.sendZeroCopy(7 as never))).toBeInstanceOf(TypeError);
  });

  test("refuses what is no data, no address and no flag", async () => {
    const socket = bound();
    const [left] = pair();
    const shared = new Uint8Array(new SharedArrayBuffer(8)) as never;
    const gone = new Uint8Array(8);
    gone.buffer.transfer();
    for (const wrong of [7, undefined, null, shared, gone, "text"] as never[])
      for (const one of [socket, left])
        expect(caught(() => one.trySendZeroCopy(wrong))).toBeInstanceOf(TypeError);
    expect(caught(() => socket.trySendZeroCopy(pattern(1), { to: "x" }))).toBeInstanceOf(TypeError);
    expect(systemErrorOf(() => socket.trySendZeroCopy(pattern(1), { to: "[::1]:9" })).code).toBe(
      "EAFNOSUPPORT",
    );
    // It would make one datagram of several.
    expect(caught(() => socket.trySendZeroCopy(pattern(1), { flags: MSG_MORE }))).toBeInstanceOf(
      RangeError,
    );
    for (const options of [null, 7] as never[]) {
      expect(caught(() => socket.trySendZeroCopy(pattern(1), options))).toBeInstanceOf(TypeError);
      expect(caught(() => left.sendZeroCopySync(pattern(1), options))).toBeInstanceOf(TypeError);
      expect(await reasonOf(left.sendZeroCopy(pattern(1), options))).toBeInstanceOf(TypeError);
    }
    expect(socket.zeroCopy.sends + socket.zeroCopy.fallbacks).toBe(0);
  });

  test("whose data has gone while it waited is an error, and sends nothing", async () => {
    const [left, right] = pair();
    const bytes = fill(left);
    const data = pattern(100);
    const sent = waiting(() => left.sendZeroCopy(data, WAIT));
    data.buffer.transfer();
    await right.receiveExactly(new Uint8Array(bytes), WAIT);
    expect(await reasonOf(sent)).toBeInstanceOf(TypeError);
    expect(right.tryReceive(new Uint8Array(1))).toBeUndefined();
  });
});

/** What became of so many sends. */
function lend(zeroCopy: ZeroCopy, count: number) {
  return Array.from({ length: count }, () => zeroCopy.lend(new Uint8Array(1)));
}

const told = (loans: readonly { outcome: unknown; view: unknown }[]) =>
  loans.map(({ outcome, view }) => [outcome && (outcome as { copied: boolean }).copied, !view]);
const HELD = [undefined, false];

describe("kept memory", () => {
  test("is counted in pages, each once, and dropped above the limit", () => {
    const memory = new KeptMemory(5 * 4096, 1000);
    const views = [1, 4096, 4097].map((length) => new Uint8Array(length));
    for (const view of views) memory.keep(view, 60_000);
    expect(memory.bytes).toBe(4 * 4096);
    // The memory behind it is what counts, and it becomes the youngest.
    memory.keep((views[0] as Uint8Array).subarray(1), 60_000);
    expect(memory.bytes).toBe(4 * 4096);
    memory.keep(new Uint8Array(2 * 4096), 60_000);
    expect(memory.bytes).toBe(5 * 4096);
    memory.keep(new Uint8Array(6 * 4096), 60_000);
    expect(memory.bytes).toBe(0);
  });

  test("is let go of when its time is over, and not before", async () => {
    const memory = new KeptMemory(100 * 4096, 1);
    const [short, long] = [new Uint8Array(1), new Uint8Array(4097)];
    memory.keep(short, 20);
    memory.keep(long, 60_000);
    // The longer time of the two.
    memory.keep(long, 1);
    const since = performance.now();
    await until(() => memory.bytes === 2 * 4096, "the first is let go of");
    expect(performance.now() - since).toBeGreaterThan(15);
    memory.keep(short, 1);
    expect(memory.bytes).toBe(3 * 4096);
    await until(() => memory.bytes === 2 * 4096, "it is let go of again");
  });
});

describe("notices", () => {
  test("are of ranges, which end those sends and no other", () => {
    const zeroCopy = new ZeroCopy(true);
    const loans = lend(zeroCopy, 6);
    zeroCopy.complete(1, 2, false);
    zeroCopy.complete(4, 4, true);
    expect(told(loans)).toEqual([HELD, [false, true], [false, true], HELD, [true, true], HELD]);
    zeroCopy.complete(0, 5, false);
    expect(told(loans)[4]).toEqual([true, true]);
    expect(told(loans)[5]).toEqual([false, true]);
    expect([zeroCopy.outstanding, zeroCopy.copied, zeroCopy.sends]).toEqual([0, 1, 6]);
  });

  test("wrap where the numbers do", () => {
    const zeroCopy = new ZeroCopy(false);
    // As far as the numbers of others go on.
    zeroCopy.complete(0, 0x7ffffffe, false);
    zeroCopy.complete(0x7fffffff, 0xfffffffd, false);
    const loans = lend(zeroCopy, 5);
    zeroCopy.complete(0xffffffff, 0, false);
    expect(told(loans)).toEqual([HELD, [false, true], [false, true], HELD, HELD]);
    zeroCopy.complete(0xfffffffe, 2, false);
    expect(told(loans).filter(([outcome]) => outcome === undefined)).toEqual([]);
    expect(zeroCopy.outstanding).toBe(0);
  });

  test("of sends that have failed and were counted move the numbers on", () => {
    const zeroCopy = new ZeroCopy(false);
    const [first] = lend(zeroCopy, 1);
    zeroCopy.complete(1, 2, false);
    const [third] = lend(zeroCopy, 1);
    zeroCopy.complete(3, 3, false);
    expect(told([first as never, third as never])).toEqual([HELD, [false, true]]);
    zeroCopy.complete(0, 0, false);
    expect(zeroCopy.outstanding).toBe(0);
  });

  test("of what was copied count only in a row", () => {
    const zeroCopy = new ZeroCopy(true);
    for (let round = 0; round < 3; round++) {
      lend(zeroCopy, COPIED_MAX);
      const first = round * COPIED_MAX;
      zeroCopy.complete(first, first + COPIED_MAX - 2, true);
      zeroCopy.complete(first + COPIED_MAX - 1, first + COPIED_MAX - 1, false);
      expect(zeroCopy.isEnabled).toBe(true);
    }
    lend(zeroCopy, COPIED_MAX);
    zeroCopy.complete(3 * COPIED_MAX, 4 * COPIED_MAX - 1, true);
    expect([zeroCopy.isEnabled, zeroCopy.reason]).toEqual([false, "copied"]);
  });
});

test("console.log of a lease is one short line, and does not ask the kernel", async () => {
  using sender = UdpSocket.bind("127.0.0.1:0");
  const lease = sender.sendZeroCopySync(pattern(BIG), { to: sender.localAddress });
  expect(Bun.inspect(lease)).toBe(`ZeroCopyLease, ${BIG} bytes, not released yet`);
  sender.tryReceive(new Uint8Array(1));
  await lease.whenReleased;
  expect(Bun.inspect(lease)).toStartWith(`ZeroCopyLease, ${BIG} bytes, released`);
  expect(Bun.inspect(Object.getPrototypeOf(lease))).toBe("ZeroCopyLease");
});
