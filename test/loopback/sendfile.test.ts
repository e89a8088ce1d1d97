/** Whole files and whole streams, moved by the kernel: sendFile() and spliceTo(). */
import { afterAll, describe, expect, spyOn, test } from "bun:test";
import fs, {
  closeSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  readSync,
  realpathSync,
  rmSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ClosedError, type StreamSocket, SystemError, TimeoutError, UnixSocket } from "bun-sockets";
import { EINVAL, pipe2 } from "bun-sockets/sys";
import { caught, systemErrorOf } from "../support/errors.ts";
import { failWith, replaceEntry, replaceLibc } from "../support/faults.ts";
import { randomPayload } from "../support/strangers.ts";
import { fillUp, socketPair, streamKinds, tcpPair, unixPair } from "../support/streams.ts";

const LONG = { timeoutMs: 10_000 };
const SHORT = { timeoutMs: 20 };
const MEBIBYTE = 1 << 20;
const CONTENTS = randomPayload(5 * MEBIBYTE + 17);

const folder = mkdtempSync(join(tmpdir(), "bun-sockets-sendfile-"));
const path = join(folder, "contents");
writeFileSync(path, CONTENTS);
afterAll(() => rmSync(folder, { recursive: true }));

async function errorOf(call: Promise<unknown>): Promise<SystemError> {
  const error = await call.then(
    () => undefined,
    (reason) => reason,
  );
  if (error instanceof SystemError) return error;
  throw new Error(`Expected a SystemError, found ${error}`);
}

/** Pipes of this process. */
function pipes(): number {
  return readdirSync("/proc/self/fd").filter((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`).startsWith("pipe:");
    } catch {
      return false;
    }
  }).length;
}

async function everythingOf(socket: StreamSocket): Promise<Buffer> {
  return Buffer.from(await socket.reader().readAll(LONG));
}

describe.each(streamKinds)("sendFile() over %s", (_name, make) => {
  test("sends the whole file, of a path and of a descriptor, whose position stays", async () => {
    using pair = make();
    const fd = openSync(path, "r");
    expect(readSync(fd, new Uint8Array(3))).toBe(3);
    const receiving = everythingOf(pair.right);
    expect(await pair.left.sendFile(path, LONG)).toBe(CONTENTS.length);
    expect(await pair.left.sendFile(fd, LONG)).toBe(CONTENTS.length);
    pair.left.shutdown("write");
    expect(Buffer.concat([CONTENTS, CONTENTS]).equals(await receiving)).toBe(true);
    const next = new Uint8Array(3);
    readSync(fd, next);
    expect(CONTENTS.subarray(3, 6).equals(next)).toBe(true);
    closeSync(fd);
  });

  test("sends a part, and less where the file is shorter", async () => {
    using pair = make();
    const { left, right } = pair;
    expect(left.sendFileSync(path, { offset: 1000, length: 10, ...LONG })).toBe(10);
    expect(await left.sendFile(path, { offset: CONTENTS.length - 5, length: 100 })).toBe(5);
    expect(left.sendFileSync(path, { offset: CONTENTS.length + 5 })).toBe(0);
    expect(await left.sendFile(path, { length: 0 })).toBe(0);
    left.shutdown("write");
    const wanted = Buffer.concat([CONTENTS.subarray(1000, 1010), CONTENTS.subarray(-5)]);
    expect(wanted.equals(await everythingOf(right))).toBe(true);
  });

  test("tells what was sent when the time is over, and goes on from there", async () => {
    using pair = make();
    const { left, right } = pair;
    const large = join(folder, "large");
    const contents = randomPayload(32 * MEBIBYTE);
    writeFileSync(large, contents);
    const first = await errorOf(left.sendFile(large, SHORT));
    expect(first).toBeInstanceOf(TimeoutError);
    let sent = first.transferred as number;
    const error = systemErrorOf(() => left.sendFileSync(large, { offset: sent, ...SHORT }));
    expect(error).toBeInstanceOf(TimeoutError);
    sent += error.transferred ?? 0;
    const receiving = everythingOf(right);
    expect(await left.sendFile(large, { offset: sent, ...LONG })).toBe(contents.length - sent);
    left.shutdown("write");
    expect(contents.equals(await receiving)).toBe(true);
  });

  test("fails without a signal when the peer is gone, and when the socket is closed", async () => {
    using pair = make();
    pair.right.close();
    const codes = [
      (await errorOf(pair.left.sendFile(path, LONG))).code,
      systemErrorOf(() => pair.left.sendFileSync(path, LONG)).code,
    ];
    for (const code of codes) expect(["EPIPE", "ECONNRESET"]).toContain(code);
    expect(codes[1]).toBe("EPIPE");
    using other = make();
    fillUp(other.left);
    const large = join(folder, "large");
    writeFileSync(large, new Uint8Array(32 * MEBIBYTE));
    const sending = errorOf(other.left.sendFile(large, LONG));
    const controller = new AbortController();
    const aborted = other.right.sendFile(large, { signal: controller.signal });
    await new Promise(setImmediate);
    controller.abort("stop");
    expect(await aborted.catch((reason) => reason)).toBe("stop");
    other.left.close();
    expect(await sending).toBeInstanceOf(ClosedError);
  });
});

describe("sendFile()", () => {
  test("is one system call for many bytes, and reads nothing into the program", async () => {
    using pair = tcpPair();
    using sends = replaceLibc("send", (send) => send);
    using files = replaceLibc("sendfile", (sendfile) => sendfile);
    const receiving = everythingOf(pair.right);
    await pair.left.sendFile(path, LONG);
    pair.left.shutdown("write");
    await receiving;
    expect(sends.calls).toBe(0);
    expect(files.calls).toBeGreaterThan(0);
    expect(files.calls).toBeLessThan(1000);
  });

  test.each(["EINVAL", "ENOSYS", "ENOTSUP"] as const)(
    "reads and sends what the kernel refuses with %s, also after a part",
    async (code) => {
      const errno = { EINVAL: 22, ENOSYS: 38, ENOTSUP: 95 }[code];
      for (const after of [0, 1])
        for (const form of ["sendFile", "sendFileSync"] as const) {
          using pair = tcpPair();
          let calls = 0;
          using _ = replaceLibc(
            "sendfile",
            (sendfile) => (out, file, offset, count) =>
              calls++ < after
                ? sendfile(out, file, offset, Math.min(count as number, 1000))
                : failWith(errno),
          );
          const receiving = everythingOf(pair.right);
          const options = { offset: 5, length: 100_000, ...LONG };
          expect(await pair.left[form](path, options)).toBe(100_000);
          pair.left.shutdown("write");
          expect(CONTENTS.subarray(5, 100_005).equals(await receiving)).toBe(true);
        }
    },
  );

  test("sends files that have no length, devices, and pipes in order", async () => {
    using pair = socketPair();
    const wanted = readFileSync("/proc/version");
    expect(await pair.left.sendFile("/proc/version", LONG)).toBe(wanted.length);
    expect(pair.left.sendFileSync("/proc/version", LONG)).toBe(wanted.length);
    expect(await pair.left.sendFile("/dev/zero", { length: 1000, ...LONG })).toBe(1000);
    expect(pair.left.sendFileSync("/dev/null")).toBe(0);
    const fds = new Int32Array(new ArrayBuffer(8));
    expect(pipe2(fds, 0)).toBe(0);
    const [reader = -1, writer = -1] = fds;
    writeSync(writer, "through a pipe, in order");
    expect(await pair.left.sendFile(reader, { length: 15, ...LONG })).toBe(15);
    closeSync(writer);
    expect(pair.left.sendFileSync(reader, LONG)).toBe(9);
    expect(systemErrorOf(() => pair.left.sendFileSync(reader, { offset: 1 })).code).toBe("ESPIPE");
    closeSync(reader);
    pair.left.shutdown("write");
    const zeros = Buffer.alloc(1000);
    const text = Buffer.from("through a pipe, in order");
    expect(
      Buffer.concat([wanted, wanted, zeros, text]).equals(await everythingOf(pair.right)),
    ).toBe(true);
  });

  test("a pipe that stays silent is waited for as long as is allowed", async () => {
    using pair = socketPair();
    const fds = new Int32Array(new ArrayBuffer(8));
    expect(pipe2(fds, 0)).toBe(0);
    const [reader = -1, writer = -1] = fds;
    writeSync(writer, "abc");
    const error = systemErrorOf(() => pair.left.sendFileSync(reader, SHORT));
    expect([error.code, error.syscall, error.transferred]).toEqual(["ETIMEDOUT", "read", 3]);
    expect(await errorOf(pair.left.sendFile(reader, SHORT))).toBeInstanceOf(TimeoutError);
    const controller = new AbortController();
    const sending = pair.left.sendFile(reader, { signal: controller.signal });
    await new Promise(setImmediate);
    controller.abort("stop");
    expect(await sending.catch((reason) => reason)).toBe("stop");
    // Ends the reads that nobody waits for any more.
    closeSync(writer);
    expect(await pair.left.sendFile(reader, LONG)).toBe(0);
    closeSync(reader);
    expect(pair.right.unreadBytes).toBe(3);
  });

  test("closing the socket ends it, also while a pipe stays silent", async () => {
    using pair = socketPair();
    const fds = new Int32Array(new ArrayBuffer(8));
    expect(pipe2(fds, 0)).toBe(0);
    const [reader = -1, writer = -1] = fds;
    const sending = errorOf(pair.left.sendFile(reader));
    await new Promise(setImmediate);
    pair.left.close();
    const error = await sending;
    expect(error).toBeInstanceOf(ClosedError);
    expect(error.syscall).toBe("read");
    closeSync(writer);
    closeSync(reader);
  });

  test("a file stays open for a read that nobody waits for any more", async () => {
    using pair = socketPair();
    using _ = replaceEntry("sendfile", () => failWith(EINVAL));
    // A file of its own: what earlier tests have left to be read, or open, is none of this one's.
    const own = join(folder, "own");
    writeFileSync(own, "contents");
    const isOwn = (fd: number | string) => {
      try {
        return readlinkSync(`/proc/self/fd/${fd}`) === realpathSync(own);
      } catch {
        return false;
      }
    };
    const open = () => readdirSync("/proc/self/fd").filter(isOwn).length;
    const reads: ((error: null, count: number) => void)[] = [];
    const { read: original } = fs;
    const read = spyOn(fs, "read").mockImplementation(((...values: Parameters<typeof original>) => {
      if (!isOwn(values[0])) original(...values);
      else reads.push(values.at(-1) as (typeof reads)[number]);
    }) as never);
    try {
      expect(await errorOf(pair.left.sendFile(own, SHORT))).toBeInstanceOf(TimeoutError);
      // Its number is nobody else's before the thread that reads is done with it.
      expect(open()).toBe(1);
      expect(reads.length).toBe(1);
      reads[0]?.(null, 0);
      await new Promise(setImmediate);
      expect(open()).toBe(0);
    } finally {
      read.mockRestore();
    }
  });

  test("reads no more of a caller's number once the call is over", async () => {
    using pair = socketPair();
    using _ = replaceEntry("sendfile", () => failWith(EINVAL));
    const fd = openSync(path, "r");
    const reads: ((error: Error) => void)[] = [];
    const { read: original } = fs;
    const read = spyOn(fs, "read").mockImplementation(((...values: Parameters<typeof original>) => {
      if (values[0] !== fd) original(...values);
      else reads.push(values.at(-1) as (typeof reads)[number]);
    }) as never);
    try {
      expect(await errorOf(pair.left.sendFile(fd, SHORT))).toBeInstanceOf(TimeoutError);
      expect(reads.length).toBe(1);
      // What a pipe says to a read at an offset: while somebody waits it is read in order instead.
      reads[0]?.(Object.assign(new Error("no seeking"), { code: "ESPIPE", errno: -29 }));
      await new Promise(setImmediate);
      expect(reads.length).toBe(1);
    } finally {
      read.mockRestore();
      closeSync(fd);
    }
  });

  test("tells of files that cannot be sent, and leaves nothing open", async () => {
    using pair = socketPair();
    const before = readdirSync("/proc/self/fd").length;
    const missing = join(folder, "missing");
    const error = await errorOf(pair.left.sendFile(missing));
    expect([error.code, error.syscall, error.path]).toEqual(["ENOENT", "open", missing]);
    expect(systemErrorOf(() => pair.left.sendFileSync(missing)).code).toBe("ENOENT");
    for (const error of [
      systemErrorOf(() => pair.left.sendFileSync(folder)),
      await errorOf(pair.left.sendFile(folder)),
    ]) {
      expect([error.code, error.path]).toEqual(["EISDIR", folder]);
      expect(error.message).toContain(`EISDIR ${folder}: `);
    }
    // Not the socket: its descriptor is good.
    const bad = systemErrorOf(() => pair.left.sendFileSync(1_000_000));
    expect([bad.code, bad instanceof ClosedError]).toEqual(["EBADF", false]);
    expect(caught(() => pair.left.sendFileSync("a\0b")).name).not.toBe("SystemError");
    using _ = replaceEntry("sendfile", () => failWith(5));
    expect(systemErrorOf(() => pair.left.sendFileSync(path)).code).toBe("EIO");
    expect((await errorOf(pair.left.sendFile(path))).code).toBe("EIO");
    expect(readdirSync("/proc/self/fd").length).toBe(before);
    expect(pair.right.unreadBytes).toBe(0);
  });

  test("goes on after interruptions, and from the byte where a short count ended", async () => {
    using pair = socketPair();
    let calls = 0;
    using _ = replaceLibc("sendfile", (sendfile) => (out, file, offset, count) => {
      const turn = calls++ % 4;
      if (turn === 0) return failWith(4);
      return turn === 1
        ? failWith(11)
        : sendfile(out, file, offset, Math.min(count as number, 777));
    });
    expect(pair.left.sendFileSync(path, { length: 20_000, ...LONG })).toBe(20_000);
    expect(CONTENTS.subarray(0, 20_000).equals(pair.right.receiveBytesSync(30_000))).toBe(true);
  });
});

const ROUTES = [
  ["TCP to TCP", tcpPair, tcpPair],
  ["TCP to Unix", tcpPair, unixPair],
  ["Unix to TCP", unixPair, tcpPair],
  ["a socketpair to itself", socketPair, undefined],
] as const;

describe.each(ROUTES)("spliceTo(), %s", (_name, makeFirst, makeSecond) => {
  test.each(["spliceTo", "spliceToSync"] as const)(
    "moves everything up to the end: %s",
    async (form) => {
      using first = makeFirst();
      using second = makeSecond?.() ?? {
        left: first.right,
        right: first.left,
        [Symbol.dispose]() {},
      };
      const wanted = randomPayload(form === "spliceTo" ? 3 * MEBIBYTE + 11 : 20_000);
      const sending = first.left.sendAll(wanted, LONG).then(() => first.left.shutdown("write"));
      const target = new Uint8Array(wanted.length);
      const receiving = second.right.receiveExactly(target, LONG);
      // The blocking form lets nobody else send meanwhile.
      if (form === "spliceToSync") await sending;
      using received = replaceLibc("recv", (recv) => recv);
      expect(await first.right[form](second.left, LONG)).toBe(wanted.length);
      await Promise.all([sending, receiving]);
      expect(received.calls).toBeLessThan(wanted.length / 1000);
      expect(wanted.equals(target)).toBe(true);
      expect(first.right.takeUndelivered().length).toBe(0);
    },
  );
});

describe("spliceTo()", () => {
  test("moves what comes, byte for byte, and leaves the ends to the caller", async () => {
    using first = tcpPair();
    using second = tcpPair();
    const wanted = randomPayload(4 * MEBIBYTE);
    const sending = first.left.sendAll(wanted, LONG).then(() => first.left.shutdown("write"));
    const target = new Uint8Array(wanted.length);
    const receiving = second.right.receiveExactly(target, LONG);
    expect(await first.right.spliceTo(second.left, LONG)).toBe(wanted.length);
    await Promise.all([sending, receiving]);
    expect(wanted.equals(target)).toBe(true);
    expect(second.right.tryReceive(new Uint8Array(1))).toBeUndefined();
    await second.right.sendAll("back");
    expect(second.left.receiveBytesSync(10, LONG).length).toBe(4);
  });

  test("moves so many bytes and no more", async () => {
    using first = socketPair();
    using second = socketPair();
    await first.left.sendAll("0123456789");
    expect(await first.right.spliceTo(second.left, { length: 4, ...LONG })).toBe(4);
    expect(first.right.spliceToSync(second.left, { length: 3, ...LONG })).toBe(3);
    expect(await first.right.spliceTo(second.left, { length: 0 })).toBe(0);
    expect(`${Buffer.from(second.right.receiveBytesSync(20))}`).toBe("0123456");
    expect(`${Buffer.from(first.right.receiveBytesSync(20))}`).toBe("789");
  });

  test("serves an echo, and a proxy in both directions", async () => {
    using echo = tcpPair();
    using front = tcpPair();
    const proxying = Promise.all([
      front.right.spliceTo(echo.left, LONG).then(() => echo.left.shutdown("write")),
      echo.left.spliceTo(front.right, LONG).then(() => front.right.shutdown("write")),
    ]);
    const echoing = echo.right.spliceTo(echo.right, LONG).then(() => echo.right.shutdown("write"));
    const wanted = randomPayload(2 * MEBIBYTE);
    const receiving = everythingOf(front.left);
    await front.left.sendAll(wanted, LONG);
    front.left.shutdown("write");
    expect(wanted.equals(await receiving)).toBe(true);
    await Promise.all([proxying, echoing]);
  });

  test.each(["a timeout", "a blocking timeout", "an aborted signal", "a peer that is gone"])(
    "loses nothing to %s: the next one goes on with the byte that was not delivered",
    async (why) => {
      using first = socketPair();
      using second = socketPair();
      fillUp(second.left);
      const wanted = randomPayload(2 * MEBIBYTE);
      const sending = first.left.sendAll(wanted, LONG).then(() => first.left.shutdown("write"));
      let delivered = 0;
      if (why === "a timeout") {
        const error = await errorOf(first.right.spliceTo(second.left, SHORT));
        expect(error).toBeInstanceOf(TimeoutError);
        delivered = error.transferred ?? 0;
      } else if (why === "a blocking timeout") {
        const error = systemErrorOf(() => first.right.spliceToSync(second.left, SHORT));
        expect(error).toBeInstanceOf(TimeoutError);
        delivered = error.transferred ?? 0;
      } else if (why === "an aborted signal") {
        const controller = new AbortController();
        using splices = replaceLibc("splice", (splice) => splice);
        const splicing = first.right.spliceTo(second.left, { signal: controller.signal });
        while (splices.calls < 2) await new Promise(setImmediate);
        controller.abort("stop");
        expect(await splicing.catch((reason) => reason)).toBe("stop");
      } else {
        using gone = socketPair();
        gone.right.close();
        const error = await errorOf(first.right.spliceTo(gone.left, LONG));
        expect(error.code).toBe("EPIPE");
      }
      expect(delivered).toBe(0);
      // Half of what is kept is delivered to one, and the rest to another.
      using third = socketPair();
      const part = await first.right.spliceTo(third.left, { length: 100, ...LONG });
      expect(part).toBe(100);
      const head = third.right.receiveBytesSync(1000);
      using last = socketPair();
      const target = new Uint8Array(wanted.length - 100);
      const receiving = last.right.receiveExactly(target, LONG);
      expect(await first.right.spliceTo(last.left, LONG)).toBe(wanted.length - 100);
      await Promise.all([sending, receiving]);
      expect(wanted.equals(Buffer.concat([head, target]))).toBe(true);
    },
  );

  test("gives what it could not deliver away, once", async () => {
    using first = socketPair();
    using gone = socketPair();
    gone.right.close();
    await first.left.sendAll("kept");
    expect((await errorOf(first.right.spliceTo(gone.left, LONG))).code).toBe("EPIPE");
    expect(`${Buffer.from(first.right.takeUndelivered())}`).toBe("kept");
    expect(first.right.takeUndelivered().length).toBe(0);
  });

  test("falls back to receive and send where the kernel refuses either half", async () => {
    for (const refused of ["take", "deliver"] as const)
      for (const form of ["spliceTo", "spliceToSync"] as const) {
        using first = socketPair();
        using second = socketPair();
        let calls = 0;
        using _ = replaceLibc("splice", (splice) => (...values) => {
          const isTaking = values[0] === first.right.descriptor;
          if (isTaking === (refused === "take")) {
            calls++;
            return failWith(22);
          }
          return splice(...values);
        });
        const wanted = randomPayload(100_000);
        const sending = first.left.sendAll(wanted, LONG).then(() => first.left.shutdown("write"));
        const receiving = second.right.reader().readExactly(wanted.length, LONG);
        await (form === "spliceToSync" ? sending : undefined);
        expect(await first.right[form](second.left, LONG)).toBe(wanted.length);
        await sending;
        expect(wanted.equals(await receiving)).toBe(true);
        expect(calls).toBe(1);
      }
  });

  test("goes on after interruptions and short counts", () => {
    using first = socketPair();
    using second = socketPair();
    let calls = 0;
    using _ = replaceLibc("splice", (splice) => (a, b, c, d, length, flags) => {
      const turn = calls++ % 4;
      if (turn === 0) return failWith(4);
      return turn === 1 ? failWith(11) : splice(a, b, c, d, Math.min(length as number, 77), flags);
    });
    const wanted = randomPayload(5000);
    first.left.sendAllSync(wanted);
    first.left.shutdown("write");
    expect(first.right.spliceToSync(second.left, LONG)).toBe(5000);
    expect(wanted.equals(second.right.receiveBytesSync(6000))).toBe(true);
  });

  test("leaves no pipe open, and no bytes in one for the next", async () => {
    // Those of the tests before go when their turn ends.
    await new Promise(setImmediate);
    await new Promise(setImmediate);
    const before = pipes();
    for (let i = 0; i < 20; i++) {
      using first = socketPair();
      using second = socketPair();
      using gone = socketPair();
      gone.right.close();
      await first.left.sendAll("abc");
      await errorOf(first.right.spliceTo(gone.left, LONG));
      first.right.takeUndelivered();
      await first.left.sendAll("def");
      first.left.shutdown("write");
      await first.right.spliceTo(second.left, LONG);
      expect(`${Buffer.from(second.right.receiveBytesSync(20))}`).toBe("def");
    }
    await new Promise(setImmediate);
    await new Promise(setImmediate);
    expect(pipes()).toBe(before);
  });

  test("says when there is no pipe to be had, and when either end is closed meanwhile", async () => {
    using first = socketPair();
    using second = socketPair();
    await first.left.sendAll("abc");
    await new Promise(setImmediate);
    await new Promise(setImmediate);
    {
      using _ = replaceEntry("pipe2", () => failWith(24));
      const error = await errorOf(first.right.spliceTo(second.left, LONG));
      expect([error.code, error.syscall]).toEqual(["EMFILE", "pipe2"]);
    }
    const splicing = errorOf(first.right.spliceTo(second.left, LONG));
    expect((await second.right.receiveBytes(10, LONG)).length).toBe(3);
    first.right.close();
    const error = await splicing;
    expect([error.code, error.transferred]).toEqual(["EBADF", 3]);
    using third = socketPair();
    fillUp(third.left);
    await second.right.sendAll("xyz");
    const waiting = errorOf(second.left.spliceTo(third.left, LONG));
    await new Promise(setImmediate);
    third.left.close();
    expect((await waiting).code).toBe("EBADF");
    expect(`${Buffer.from(second.left.takeUndelivered())}`).toBe("xyz");
  });

  test("tells of a peer that broke the source off", async () => {
    using first = tcpPair();
    using second = socketPair();
    const splicing = errorOf(first.right.spliceTo(second.left, LONG));
    await first.left.sendAll("abc");
    expect((await second.right.receiveBytes(10, LONG)).length).toBe(3);
    first.left.reset();
    const error = await splicing;
    expect([error.code, error.transferred]).toEqual(["ECONNRESET", 3]);
  });
});

test("spliceTo() keeps its time while both ends always go on: what it moves comes back", async () => {
  const [left, right] = UnixSocket.pair();
  using _ = left;
  using __ = right;
  right.sendSync("x");
  expect(() => left.spliceToSync(right, { timeoutMs: 50 })).toThrow(TimeoutError);
  await expect(left.spliceTo(right, { timeoutMs: 50 })).rejects.toThrow(TimeoutError);
});

describe("idleMs", () => {
  const IDLE_MS = 50;
  const idle = { idleMs: IDLE_MS };

  /** Takes a byte as often as is allowed, for three times as long as nothing may come. */
  async function takeSlowly(taker: StreamSocket, giver: StreamSocket): Promise<number> {
    const started = performance.now();
    let bytes = 0;
    while (performance.now() - started < 3 * IDLE_MS) {
      bytes += (await taker.receiveBytes(MEBIBYTE, LONG)).length;
      // Room was made, and what moves is asked for it before the time is looked at again.
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
    expect(giver.closed).toBe(false);
    return bytes;
  }

  test("ends a sendFile() whose peer takes nothing, and tells how much it took before", async () => {
    for (const isSync of [false, true]) {
      using pair = socketPair();
      const error = isSync
        ? systemErrorOf(() => pair.left.sendFileSync(path, idle))
        : await errorOf(pair.left.sendFile(path, { ...idle, ...LONG }));
      expect(error).toBeInstanceOf(TimeoutError);
      expect(error.message).toEndWith(`ETIMEDOUT: no byte was moved for ${IDLE_MS} ms`);
      expect(error).toMatchObject({ idleMs: IDLE_MS, transferred: pair.right.unreadBytes });
      expect("timeoutMs" in error).toBe(false);
    }
  });

  test("lets a sendFile() go on for as long as bytes are moved", async () => {
    using pair = socketPair();
    const sending = pair.left.sendFile("/dev/zero", idle).catch((error) => error);
    const taken = await takeSlowly(pair.right, pair.left);
    const error = await sending;
    expect(error).toMatchObject({ name: "TimeoutError", idleMs: IDLE_MS });
    expect(error.transferred).toBeGreaterThanOrEqual(taken);
  });

  test("ends a spliceTo() to which nothing comes, or whose target takes nothing", async () => {
    for (const isSync of [false, true]) {
      using first = socketPair();
      using second = socketPair();
      const splice = () =>
        isSync
          ? systemErrorOf(() => first.right.spliceToSync(second.left, idle))
          : errorOf(first.right.spliceTo(second.left, { ...LONG, ...idle }));
      await first.left.send("abc");
      const error = await splice();
      expect(error).toBeInstanceOf(TimeoutError);
      expect(error).toMatchObject({ syscall: "splice", idleMs: IDLE_MS, transferred: 3 });
      fillUp(second.left);
      await first.left.send("def");
      expect(await splice()).toMatchObject({ idleMs: IDLE_MS });
      expect(`${Buffer.from(first.right.takeUndelivered())}`).toBe("def");
    }
  });

  test("lets a spliceTo() go on for as long as bytes come", async () => {
    using first = socketPair();
    using second = socketPair();
    const splicing = errorOf(first.right.spliceTo(second.left, idle));
    const started = performance.now();
    let bytes = 0;
    for (; performance.now() - started < 3 * IDLE_MS; bytes++) {
      await first.left.send("x");
      expect((await second.right.receiveBytes(1, LONG)).length).toBe(1);
    }
    expect(await splicing).toMatchObject({ idleMs: IDLE_MS, transferred: bytes });
  });

  test("and timeoutMs: the one that is over first is told", async () => {
    using first = socketPair();
    using second = socketPair();
    const limits = { timeoutMs: 20, idleMs: 1e6 };
    for (const error of [
      systemErrorOf(() => first.right.spliceToSync(second.left, limits)),
      await errorOf(first.right.spliceTo(second.left, limits)),
      systemErrorOf(() => first.right.sendFileSync("/dev/zero", limits)),
      await errorOf(second.right.sendFile("/dev/zero", limits)),
    ]) {
      expect(error.message).toEndWith("ETIMEDOUT: timed out after 20 ms");
      expect(error).toMatchObject({ name: "TimeoutError", timeoutMs: 20 });
      expect("idleMs" in error).toBe(false);
    }
  });

  test("is no way past a signal", async () => {
    using first = socketPair();
    using second = socketPair();
    const controller = new AbortController();
    const { signal } = controller;
    const reason = new TimeoutError("mine");
    const calls = [
      first.right.spliceTo(second.left, { idleMs: 1e6, signal }),
      second.right.spliceTo(first.left, { signal }),
      first.right.sendFile("/dev/zero", { idleMs: 1e6, signal }),
    ].map((call) => call.catch((error) => error));
    controller.abort(reason);
    for (const answer of await Promise.all(calls)) expect(answer).toBe(reason);
  });

  test.each([-1, Number.NaN, "5", null])(
    "of %p is refused before anything is sent",
    async (idleMs) => {
      using pair = socketPair();
      const options = { idleMs: idleMs as number };
      const kind = typeof idleMs === "number" ? RangeError : TypeError;
      expect(() => pair.left.sendFileSync(path, options)).toThrow(kind);
      expect(() => pair.left.spliceToSync(pair.right, options)).toThrow(kind);
      expect(await pair.left.sendFile(path, options).catch((error) => error)).toBeInstanceOf(kind);
      const splicing = pair.left.spliceTo(pair.right, options);
      expect(await splicing.catch((error) => error)).toBeInstanceOf(kind);
      expect(pair.right.unreadBytes).toBe(0);
    },
  );
});
