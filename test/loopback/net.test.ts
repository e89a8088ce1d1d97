/**
 * The net below the owners does no harm: it never closes a number that was closed, given away or
 * means something else by then, and what is in use stays. Too many open descriptors are an error
 * that says how many are ours. Children, because descriptors and the collector are the process's.
 *
 * That it works at all is dropped.test.ts.
 */
import { describe, expect, test } from "bun:test";
import { Socket, SystemError, UdpSocket } from "bun-sockets";
import { ENFILE } from "bun-sockets/sys";
import { ownedCount } from "../../lib/internal/descriptor.ts";
import { failWith, replaceEntry } from "../support/faults.ts";

const path = (file: string) => JSON.stringify(new URL(`../../${file}`, import.meta.url));
const LIMIT_MS = 60_000;
const FEW = 64;

const prelude = `
import { closeSync, fstatSync, openSync, readdirSync } from "node:fs";
import {
  DatagramBatch, Message, Socket, SystemError, UdpSocket, UnixDatagramSocket,
} from ${path("lib/index.ts")};
import * as sys from ${path("lib/sys/index.ts")};
import { libc } from ${path("lib/ffi/libc.ts")};

const turn = () => new Promise(setImmediate);
const cookie = new BigUint64Array(new ArrayBuffer(8));
const length = new Uint32Array(new ArrayBuffer(4));
// What a descriptor is: the kernel's number of a socket, "file" for others, undefined for none.
function what(fd) {
  if (sys.fcntl(fd, sys.F_GETFD, 0) < 0) return undefined;
  const result = sys.getsockopt(fd, sys.SOL_SOCKET, sys.SO_COOKIE, cookie, length);
  return result < 0 ? "file" : \`\${cookie[0]}\`;
}

// Tells how many of the objects given to watch() have been collected. The net's own registry is
// served at the same time, or before.
let collected = 0;
const registry = new FinalizationRegistry(() => collected++);
function watch(object) {
  registry.register(object, undefined);
  return object;
}
async function untilCollected(count) {
  const limit = performance.now() + 20_000;
  while (collected < count) {
    if (performance.now() > limit) throw new Error(\`collected only \${collected} of \${count}\`);
    Bun.gc(true);
    await Bun.sleep(1);
  }
  for (let i = 0; i < 5; i++) {
    Bun.gc(true);
    await turn();
  }
}
`;

// Runs a module in a child; what it prints is JSON.
function inChild(script: string, descriptors = 1024): unknown {
  const child = Bun.spawnSync(
    ["sh", "-c", `ulimit -n ${descriptors}; exec "$@"`, "sh", process.execPath, "-e"].concat(
      prelude + script,
    ),
    // What is dropped would be reported.
    { env: { ...process.env, BUN_SOCKETS_LEAKS: "" }, timeout: LIMIT_MS },
  );
  expect({ exitCode: child.exitCode, errors: child.stderr.toString() }).toEqual({
    exitCode: 0,
    errors: "",
  });
  return JSON.parse(child.stdout.toString());
}

/** How many sockets are dropped; the collector may keep a few that it sees on the stack. */
const DROPPED = 40;
const SURE = 30;

// Drops sockets whose numbers have become something else, and looks at those afterwards. Each
// `body` has a dropped `socket` and its number `fd`, and returns what has the number now.
function dropAll(body: string, make = 'UdpSocket.bind("127.0.0.1:0")'): unknown {
  return inChild(`
    const kept = [];
    const taken = [];
    function drop() {
      const socket = watch(${make});
      const fd = socket.descriptor;
      const holder = (() => { ${body} })();
      kept.push(holder);
      taken.push({ fd, is: what(fd) });
    }
    for (let i = 0; i < ${DROPPED}; i++) drop();
    await untilCollected(${SURE});
    const changed = taken.filter(({ fd, is }) => is === undefined || what(fd) !== is).length;
    // Each number is its holder's, who is used here and so was not collected.
    const numberOf = (holder) => holder.descriptor ?? holder;
    const numbers = kept.filter((holder, i) => numberOf(holder) === taken[i].fd).length;
    console.log(JSON.stringify({ changed, numbers }));
  `);
}

const UNHARMED = { changed: 0, numbers: DROPPED };

describe("the net leaves a number alone that", () => {
  const cases: readonly (readonly [what: string, body: string])[] = [
    ["was closed, and given out to node:fs", 'socket.close(); return openSync("/dev/null");'],
    [
      "was closed, and given out to a socket of ours",
      'socket.close(); return UdpSocket.open("ipv4");',
    ],
    ["was detached", "return socket.detach();"],
    [
      "was detached, and adopted by another of ours",
      "return UdpSocket.adopt(socket.detach(), { own: true });",
    ],
    [
      "was detached, closed by who has it, and given out to node:fs",
      'sys.close(socket.detach()); return openSync("/dev/null");',
    ],
    [
      "somebody else has closed, and node:fs was given",
      'sys.close(fd); return openSync("/dev/null");',
    ],
    [
      "node:fs has closed, and somebody else's socket was given",
      "closeSync(fd); return sys.socket(sys.AF_INET, sys.SOCK_DGRAM, 0);",
    ],
    [
      "somebody else has closed, and a socket of ours was given",
      'sys.close(fd); return UdpSocket.open("ipv4");',
    ],
    [
      "somebody else has closed, and a duplicate of ours of the same socket was given",
      "const copy = socket.duplicate(); kept.copies ??= []; kept.copies.push(copy); " +
        "sys.close(fd); return copy.duplicate();",
    ],
    [
      "dup3(2) has made another socket",
      "const other = sys.socket(sys.AF_INET, sys.SOCK_DGRAM, 0); sys.dup3(other, fd, 0); " +
        "sys.close(other); return fd;",
    ],
  ];
  test.each(cases)("%s", (_, body) => expect(dropAll(body)).toEqual(UNHARMED), LIMIT_MS);

  test(
    "a failed adopt was to own",
    () => {
      const body = `
        const { getsockname } = libc;
        libc.getsockname = () => -1;
        try {
          watch(Socket.adopt(foreign, { own: true }));
        } catch {}
        libc.getsockname = getsockname;
        return foreign;
      `;
      const make = "{ descriptor: sys.socket(sys.AF_INET, sys.SOCK_DGRAM, 0) }";
      expect(dropAll(`const foreign = fd; ${body}`, make)).toEqual(UNHARMED);
    },
    LIMIT_MS,
  );

  test("is still its own: there it closes", () => {
    const { changed } = dropAll("return fd;") as { changed: number };
    expect(changed).toBeGreaterThanOrEqual(SURE);
  });
});

describe("the nets of two threads", () => {
  // The Worker opens what the main thread's numbers are given to, or the other way round.
  const worker = `
    const { UdpSocket } = await import(${path("lib/index.ts")});
    const sys = await import(${path("lib/sys/index.ts")});
    const cookie = new BigUint64Array(new ArrayBuffer(8));
    const length = new Uint32Array(new ArrayBuffer(4));
    let sockets = [];
    let dropped = 0;
    const registry = new FinalizationRegistry(() => dropped++);
    onmessage = async ({ data }) => {
      if (data === "open") {
        for (let i = 0; i < ${DROPPED}; i++) {
          const socket = UdpSocket.bind("127.0.0.1:0");
          registry.register(socket);
          sockets.push(socket);
        }
        postMessage(sockets.map(({ descriptor }) => {
          sys.getsockopt(descriptor, sys.SOL_SOCKET, sys.SO_COOKIE, cookie, length);
          return { fd: descriptor, is: \`\${cookie[0]}\` };
        }));
      } else if (data === "use") {
        const works = (socket) => socket.sendToSync("x", socket.localAddress) === 1;
        postMessage(sockets.filter(works).length);
      } else {
        sockets = [];
        for (let i = 0; dropped < ${SURE} && i < 5000; i++) {
          Bun.gc(true);
          await Bun.sleep(1);
        }
        postMessage(dropped);
      }
    };
    postMessage("ready");
  `;
  const inBoth = (body: string) =>
    inChild(`
      const source = ${JSON.stringify(worker)};
      const url = URL.createObjectURL(new Blob([source], { type: "text/javascript" }));
      const other = new Worker(url);
      const answer = () => new Promise((resolve) => {
        other.onmessage = ({ data }) => resolve(data);
      });
      const ask = (question) => {
        const answered = answer();
        other.postMessage(question);
        return answered;
      };
      await answer();
      ${body}
      other.terminate();
    `);

  test(
    "the main thread's leaves alone what a Worker was given under its numbers",
    () => {
      const result = inBoth(`
        const numbers = [];
        (() => {
          const sockets = Array.from({ length: ${DROPPED} }, () => watch(UdpSocket.open("ipv4")));
          numbers.push(...sockets.map(({ descriptor }) => descriptor));
          for (const fd of numbers) sys.close(fd);
        })();
        const theirs = await ask("open");
        const shared = theirs.filter(({ fd }) => numbers.includes(fd)).length;
        await untilCollected(${SURE});
        const changed = theirs.filter(({ fd, is }) => what(fd) !== is).length;
        console.log(JSON.stringify({ shared: shared >= ${SURE}, changed, used: await ask("use") }));
      `);
      expect(result).toEqual({ shared: true, changed: 0, used: DROPPED });
    },
    LIMIT_MS,
  );

  test(
    "a Worker's leaves alone what the main thread was given under its numbers",
    () => {
      const result = inBoth(`
        const theirs = await ask("open");
        for (const { fd } of theirs) sys.close(fd);
        const sockets = theirs.map(() => UdpSocket.bind("127.0.0.1:0"));
        const ours = sockets.map(({ descriptor }) => ({ fd: descriptor, is: what(descriptor) }));
        const shared = ours.filter(({ fd }) => theirs.some((their) => their.fd === fd)).length;
        const dropped = await ask("drop");
        const changed = ours.filter(({ fd, is }) => what(fd) !== is).length;
        const used = sockets.filter((udp) => udp.sendToSync("x", udp.localAddress) === 1).length;
        console.log(JSON.stringify({
          shared: shared >= ${SURE}, dropped: dropped >= ${SURE}, changed, used,
        }));
      `);
      expect(result).toEqual({ shared: true, dropped: true, changed: 0, used: DROPPED });
    },
    LIMIT_MS,
  );
});

// Whoever has closed the number behind its back, the socket itself knows that another one of this
// thread has it now.
test("close() closes no number that another socket of ours has by now", () => {
  const result = inChild(`
    const old = UdpSocket.open("ipv4");
    sys.close(old.descriptor);
    const udp = UdpSocket.bind("127.0.0.1:0");
    const same = udp.descriptor === old.descriptor;
    old.close();
    console.log(JSON.stringify({ same, open: what(udp.descriptor) !== undefined }));
  `);
  expect(result).toEqual({ same: true, open: true });
});

test(
  "a socket that is dropped in the middle of a call is there until its end",
  () => {
    const result = inChild(`
      const peer = UdpSocket.bind("127.0.0.1:0");
      const to = peer.localAddress;
      const batch = new DatagramBatch({ capacity: 4 });
      const message = new Message({ vectors: Buffer.alloc(8) });
      let calls = 0;
      let gone = 0;
      // Collects around every call of the kernel, and looks whether the descriptor is still there.
      const isGone = (fd) => sys.fcntl(fd, sys.F_GETFD, 0) < 0;
      for (const name of ["sendmmsg", "recvmmsg", "sendmsg", "recvmsg", "recvfrom", "sendto"]) {
        const real = libc[name];
        libc[name] = (fd, ...rest) => {
          calls++;
          Bun.gc(true);
          if (isGone(fd)) gone++;
          const result = real(fd, ...rest);
          if (isGone(fd)) gone++;
          return result;
        };
      }
      const { poll } = libc;
      libc.poll = (...values) => {
        Bun.gc(true);
        return poll(...values);
      };
      const connected = () => {
        const udp = watch(UdpSocket.open("ipv4"));
        udp.connectSync(to);
        return udp;
      };
      const answering = () => {
        const udp = watch(UdpSocket.bind("127.0.0.1:0"));
        for (let i = 0; i < 3; i++) peer.sendToSync("data", udp.localAddress);
        return udp;
      };
      let moved = 0;
      for (let i = 0; i < ${DROPPED}; i++) {
        batch.count = 3;
        for (let slot = 0; slot < 3; slot++) batch.write(slot, "data");
        moved += connected().sendBatchSync(batch, 0, { timeoutMs: 1000 });
        moved += connected().trySendMessage(new Message({ vectors: Buffer.from("data") })) / 4;
        moved += answering().receiveBatchSync(batch, { timeoutMs: 1000 });
        moved += answering().receiveMessageSync(message, { timeoutMs: 1000 }) / 4;
        moved += answering().receiveFromSync(Buffer.alloc(8), { timeoutMs: 1000 }).length / 4;
        if (i % 8 === 0) await turn();
      }
      await untilCollected(5 * ${SURE});
      console.log(JSON.stringify({ gone, called: calls >= 5 * ${DROPPED}, moved }));
    `);
    expect(result).toEqual({ gone: 0, called: true, moved: 9 * DROPPED });
  },
  LIMIT_MS,
);

describe(`in one turn, with ${FEW} descriptors,`, () => {
  // Each makes one or two sockets. What the first line prepares is held open, and counted, too.
  const creations: readonly (readonly [
    what: string,
    syscall: string,
    make: string,
    prepared?: string,
  ])[] = [
    ["UdpSocket.open()", "socket", 'UdpSocket.open("ipv4")'],
    ["UdpSocket.bind()", "socket", 'UdpSocket.bind("127.0.0.1:0")'],
    ["Socket.create()", "socket", 'Socket.create("unix", "seqpacket")'],
    ["UnixDatagramSocket.bind()", "socket", 'UnixDatagramSocket.bind("unix:")'],
    ["Socket.pair()", "socketpair", "Socket.pair()"],
    ["UnixDatagramSocket.pair()", "socketpair", "UnixDatagramSocket.pair()"],
    ["duplicate()", "fcntl", "first.duplicate()", 'const first = hold(UdpSocket.open("ipv4"));'],
    [
      "adopt()",
      "fcntl",
      "UdpSocket.adopt(first.descriptor)",
      'const first = hold(UdpSocket.open("ipv4"));',
    ],
    [
      "tryAccept()",
      "accept4",
      "listener.tryAccept()",
      `
        const listener = hold(Socket.create("ipv4", "stream"));
        listener.bind("127.0.0.1:0");
        listener.listen();
        for (let i = 0; i < 40; i++) {
          const client = hold(Socket.create("ipv4", "stream"));
          client.connectSync(listener.localAddress, { timeoutMs: 1000 });
        }
      `,
    ],
  ];
  test.each(creations)(
    "%s throws EMFILE of %s with the number of ours, and works again after a close",
    (_, syscall, make, prepared = "") => {
      const result = inChild(
        `
        let ours = 0;
        const hold = (socket) => {
          ours++;
          return socket;
        };
        ${prepared}
        const made = [];
        const create = () => made.push([${make}].flat().map(hold));
        const closeLast = () => {
          for (const socket of made.pop()) {
            socket.close();
            ours--;
          }
        };
        function untilFull() {
          for (;;) {
            try {
              create();
            } catch (error) {
              return error;
            }
          }
        }
        const tell = (error) => ({
          isSystemError: error instanceof SystemError,
          code: error.code,
          syscall: error.syscall,
          errno: error.errno,
          says: Number(/holds (\\d+) sockets/.exec(error.hint)?.[1]) === ours,
          limit: error.hint.includes("ulimit -n"),
        });
        const open = () => readdirSync("/proc/self/fd").length;
        const first_ = tell(untilFull());
        const enough = made.length >= 5;
        closeLast();
        const before = open();
        create();
        closeLast();
        const leaked = open() - before;
        const second = tell(untilFull());
        console.log(JSON.stringify({ first: first_, second, enough, leaked }));
      `,
        FEW,
      );
      const refusal = {
        isSystemError: true,
        code: "EMFILE",
        syscall,
        errno: -24,
        says: true,
        limit: true,
      };
      expect(result).toEqual({ first: refusal, second: refusal, enough: true, leaked: 0 });
    },
    LIMIT_MS,
  );

  test(
    "dropped sockets are among those it counts, and room again in later turns",
    () => {
      const result = inChild(
        `
        let dropped = 0;
        let error;
        function dropAll() {
          for (;;) {
            try {
              UdpSocket.open("ipv4");
              dropped++;
            } catch (thrown) {
              return thrown;
            }
          }
        }
        const { code, hint } = dropAll();
        const says = Number(/holds (\\d+) sockets/.exec(hint)?.[1]) === dropped;
        let turns = 0;
        for (let made = 0; made < 20 && turns < 1000; turns++) {
          await turn();
          try {
            UdpSocket.open("ipv4");
            made++;
          } catch {
            made = 0;
          }
          Bun.gc(true);
        }
        console.log(JSON.stringify({ code, says, again: turns < 1000 }));
      `,
        FEW,
      );
      expect(result).toEqual({ code: "EMFILE", says: true, again: true });
    },
    LIMIT_MS,
  );
});

describe("when the whole machine has too many open files,", () => {
  const creations: readonly (readonly [
    what: string,
    syscall: "socket" | "socketpair" | "accept4" | "fcntl",
    make: (udp: UdpSocket, listener: Socket) => unknown,
  ])[] = [
    ["UdpSocket.open()", "socket", () => UdpSocket.open("ipv4")],
    ["Socket.pair()", "socketpair", () => Socket.pair()],
    ["tryAccept()", "accept4", (_, listener) => listener.tryAccept()],
    ["duplicate()", "fcntl", (udp) => udp.duplicate()],
  ];
  test.each(creations)("%s throws ENFILE of %s with the number of ours", (_, syscall, make) => {
    using udp = UdpSocket.open("ipv4");
    using listener = Socket.create("ipv4", "stream");
    listener.listen();
    using fault = replaceEntry(syscall, () => failWith(ENFILE));
    let error: unknown;
    try {
      make(udp, listener);
    } catch (thrown) {
      error = thrown;
    }
    expect(error).toBeInstanceOf(SystemError);
    const { code, syscall: name, hint } = error as SystemError;
    expect([code, name, fault.calls]).toEqual(["ENFILE", syscall, 1]);
    expect(hint).toContain(`holds ${ownedCount()} sockets`);
    expect(hint).toContain("fs.file-max");
  });
});

const LIVE = 200;
const CREATIONS = 10_000;

test.each([
  // How often the engine is asked to collect meanwhile: what is closed at once is no reason.
  ["are closed", "other.close();", 0, 0],
  ["are dropped", "", 1, CREATIONS / 10],
])(
  `${LIVE} sockets in use stay, while ${CREATIONS} others %s beside them`,
  (_, end, askedMin, askedMax) => {
    const result = inChild(`
      const live = Array.from({ length: ${LIVE} }, () => watch(UdpSocket.bind("127.0.0.1:0")));
      const numbers = new Map(live.map(({ descriptor }) => [descriptor, what(descriptor)]));
      let closed = 0;
      const { close } = libc;
      libc.close = (fd) => {
        if (numbers.has(fd)) closed++;
        return close(fd);
      };
      let asked = 0;
      const { gc } = Bun;
      Bun.gc = (force) => {
        asked++;
        return gc.call(Bun, force);
      };
      const create = () => {
        const other = UdpSocket.open("ipv4");
        ${end}
      };
      for (let i = 0; i < ${CREATIONS}; i++) {
        create();
        if (i % 10 === 9) await turn();
        if (i % 500 === 499) gc.call(Bun, true);
      }
      let alive = 0;
      const target = Buffer.alloc(8);
      for (const [i, udp] of live.entries()) {
        live[(i + 1) % ${LIVE}].sendToSync("data", udp.localAddress);
        if (udp.receiveSync(target, { timeoutMs: 1000 }) === 4) alive++;
      }
      const isSame = ({ descriptor }) => what(descriptor) === numbers.get(descriptor);
      const same = live.filter(isSame).length;
      console.log(JSON.stringify({ collected, closed, alive, same, asked }));
    `);
    const { asked, ...rest } = result as { asked: number };
    expect(rest as unknown).toEqual({ collected: 0, closed: 0, alive: LIVE, same: LIVE });
    expect(asked).toBeWithin(askedMin, askedMax + 1);
  },
  LIMIT_MS,
);
