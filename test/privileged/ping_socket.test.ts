/**
 * PingSocket against hosts of every kind: the kernel's own answers, a responder of these tests that
 * answers late, twice, wrongly or not at all, and a chain of three namespaces whose router refuses.
 */
import { afterAll, afterEach, beforeAll, describe, expect } from "bun:test";
import { readFileSync, writeFileSync } from "node:fs";
import {
  ClosedError,
  type InetAddress,
  interfaceIndex,
  Message,
  type PingFailure,
  type PingReply,
  type PingResult,
  PingSocket,
  type PingSocketOptions,
  parseAddress,
  RawSocket,
  SystemError,
  TimeoutError,
  UdpSocket,
} from "bun-sockets";
import { EINVAL } from "bun-sockets/sys";
import { internetChecksum } from "../../lib/internal/echo.ts";
import { caught, systemErrorOf } from "../support/errors.ts";
import { failWith, replaceEntry, replaceLibc } from "../support/faults.ts";
import { ip, makeNamespace, type Namespace } from "../support/namespaces.ts";
import { requires, testIf } from "../support/require.ts";
import { reasonOf, turns, until, WatchedSignal } from "../support/waiting.ts";

const WAIT = { timeoutMs: 10_000 };
const FOREVER = { timeoutMs: Number.POSITIVE_INFINITY };
const LINK = "bs-ping";

const missing =
  process.env["BUN_SOCKETS_NAMESPACE"] === "1"
    ? requires("ip", "unshare", "nsenter")
    : "needs a network namespace of its own";
const namespaced = testIf(missing);
const isWholeMachine = / 4294967295$/m.test(readFileSync("/proc/self/uid_map", "utf8"));

/** What it also takes. */
const needing = (...commands: string[]) => testIf(missing ?? requires(...commands));
// It gives its own rights up, for which a user namespace has no other user.
const withTcpdump = testIf(
  missing ?? requires("tcpdump") ?? (isWholeMachine ? undefined : "needs to be root"),
);
const asOthers = testIf(
  missing ?? requires("setpriv") ?? (isWholeMachine ? undefined : "needs to be root"),
);

const families = [
  {
    family: "ipv4",
    lo: "127.0.0.1",
    others: ["127.0.0.2", "127.0.0.3", "127.0.0.4"],
    near: "10.92.1.2",
    router: "10.92.1.1",
    far: "10.92.2.2",
    silent: "10.92.2.9",
    nowhere: "10.92.3.9",
    expired: { type: 11, icmpCode: 0, reason: "time to live exceeded" },
    noRoute: { type: 3, icmpCode: 0, reason: "network unreachable" },
  },
  {
    family: "ipv6",
    lo: "::1",
    others: ["fd00:92::2", "fd00:92::3", "fd00:92::4"],
    near: "2001:db8:a1::2",
    router: "2001:db8:a1::1",
    far: "2001:db8:a2::2",
    silent: "2001:db8:a2::9",
    nowhere: "2001:db8:a3::9",
    expired: { type: 3, icmpCode: 0, reason: "hop limit exceeded" },
    noRoute: { type: 1, icmpCode: 0, reason: "no route to destination" },
  },
] as const;

const modes = families.flatMap((one) =>
  (["datagram", "raw"] as const).map((kind) => ({ ...one, kind })),
);

const sysctl = (name: string, value: string) => writeFileSync(`/proc/sys/net/${name}`, value);
const EVERYBODY = isWholeMachine ? "0 2147483647" : "0 0";
const NOBODY = "1 0";

/** Whether the kernel answers echo requests itself. */
function setKernelAnswers(answers: boolean): void {
  sysctl("ipv4/icmp_echo_ignore_all", answers ? "0" : "1");
  sysctl("ipv6/icmp/echo_ignore_all", answers ? "0" : "1");
}

let routing: Namespace | undefined;
let remote: Namespace | undefined;

beforeAll(async () => {
  if (missing !== undefined) return;
  sysctl("ipv4/ping_group_range", EVERYBODY);
  for (const { others } of families.slice(1))
    for (const address of others) ip("addr", "add", `${address}/128`, "dev", "lo", "nodad");
  const router = makeNamespace();
  const far = makeNamespace();
  [routing, remote] = [router, far];
  ip("link", "add", LINK, "type", "veth", "peer", "name", "bs-in", "netns", `${router.processId}`);
  router.ip("link", "add", "bs-out", "type", "veth", "peer", "name", "bs-far");
  router.ip("link", "set", "bs-far", "netns", `${far.processId}`);
  const give = (run: typeof ip, device: string, ...addresses: string[]) => {
    for (const address of addresses)
      run("addr", "add", address, "dev", device, ...(address.includes(":") ? ["nodad"] : []));
    run("link", "set", device, "up");
  };
  give(ip, LINK, "10.92.1.2/24", "2001:db8:a1::2/64");
  give(router.ip, "bs-in", "10.92.1.1/24", "2001:db8:a1::1/64", "fe80::a1/64");
  give(router.ip, "bs-out", "10.92.2.1/24", "2001:db8:a2::1/64");
  give(far.ip, "bs-far", "10.92.2.2/24", "2001:db8:a2::2/64");
  ip("route", "add", "default", "via", "10.92.1.1");
  ip("-6", "route", "add", "default", "via", "2001:db8:a1::1");
  far.ip("route", "add", "default", "via", "10.92.2.1");
  far.ip("-6", "route", "add", "default", "via", "2001:db8:a2::1");
  const run = [...router.prefix, "sh", "-ec"];
  const { success, stderr } = Bun.spawnSync([
    ...run,
    `
    echo 1 > /proc/sys/net/ipv4/ip_forward
    echo 1 > /proc/sys/net/ipv6/conf/all/forwarding
    echo 0 > /proc/sys/net/ipv4/icmp_ratemask
    if [ -w /proc/sys/net/ipv4/icmp_msgs_burst ]; then
      echo 10000 > /proc/sys/net/ipv4/icmp_msgs_burst
      echo 10000 > /proc/sys/net/ipv4/icmp_msgs_per_sec
    fi
    echo 0 > /proc/sys/net/ipv6/icmp/ratelimit
    for host in 10.92.2.9 2001:db8:a2::9; do
      ip neigh add $host lladdr 02:00:00:00:00:09 dev bs-out nud permanent
    done
    `,
  ]);
  if (!success) throw new Error(stderr.toString());
  // Until both ends of the cables are up, nobody answers.
  for (const { family, far: host } of families) {
    using socket = PingSocket.open(family);
    await until(() => {
      try {
        return socket.pingSync(host, { timeoutMs: 50 }).ttl > 0;
      } catch {
        return false;
      }
    }, `${host} answers`);
  }
});

afterAll(() => {
  if (missing !== undefined) return;
  ip("link", "del", LINK);
  remote?.[Symbol.dispose]();
  routing?.[Symbol.dispose]();
});

const open = new Set<Disposable>();

/** Closes it after the test. */
function kept<Kept extends Disposable>(socket: Kept): Kept {
  open.add(socket);
  return socket;
}

afterEach(() => {
  for (const socket of open) socket[Symbol.dispose]();
  open.clear();
  if (missing !== undefined) return;
  setKernelAnswers(true);
  sysctl("ipv4/ping_group_range", EVERYBODY);
});

interface Request {
  /** What came: the ICMP message. */
  readonly message: Uint8Array;
  readonly sequence: number;
  readonly to: InetAddress;
  /** Sends an answer; `change` has it in its hands before its checksum is made. */
  answer(
    change?: (message: Uint8Array) => Uint8Array | undefined,
    from?: InetAddress | string,
  ): void;
}

/** Answers echo requests to this machine in the kernel's place. */
function respond(family: "ipv4" | "ipv6", handle: (request: Request) => void): RawSocket {
  setKernelAnswers(false);
  const isIpv4 = family === "ipv4";
  const socket = kept(
    RawSocket.open(family, {
      protocol: isIpv4 ? "icmp" : "icmpv6",
      icmpFilter: { pass: ["echoRequest"] },
      metadata: ["destination"],
      receiveBufferBytes: 1 << 20,
    }),
  );
  socket.onBatch((batch) => {
    for (let i = 0; i < batch.count; i++) {
      const at = socket.payloadOffset(batch.memory, batch.offset(i), batch.length(i));
      const message = batch.memory.slice(at, batch.offset(i) + batch.length(i));
      const sender = batch.address(i) as InetAddress;
      const to = batch.destination(i) as InetAddress;
      handle({
        message,
        sequence: ((message[6] as number) << 8) | (message[7] as number),
        to,
        answer(change = () => undefined, from = to) {
          const copy = message.slice();
          copy[0] = isIpv4 ? 0 : 129;
          const answer = change(copy) ?? copy;
          // A change may break it on purpose.
          if (isIpv4 && answer === copy) sign(answer);
          const source = typeof from === "string" ? parseAddress(text(from)) : from;
          const reply = new Message({ vectors: answer, address: sender, controlBytes: 64 });
          reply.writer.addPacketInfo({ source: source as InetAddress });
          socket.sendMessageSync(reply);
        },
      });
    }
  });
  return socket;
}

function sign(message: Uint8Array): void {
  message.fill(0, 2, 4);
  const sum = internetChecksum(message, 0, message.length);
  message[2] = sum >> 8;
  message[3] = sum & 0xff;
}

const text = (host: string) => (host.includes(":") ? `[${host}]:0` : `${host}:0`);

function pinger(family: "ipv4" | "ipv6", options: PingSocketOptions = {}): PingSocket {
  return kept(PingSocket.open(family, options));
}

async function errorOf(promise: Promise<unknown>): Promise<SystemError> {
  const error = await reasonOf(promise);
  if (error instanceof SystemError) return error;
  throw error;
}

async function all(series: AsyncIterable<PingResult>): Promise<PingResult[]> {
  const results: PingResult[] = [];
  for await (const result of series) results.push(result);
  return results;
}

const isReply = (result: PingResult): result is PingReply => result.error === undefined;

describe.each(modes)("a $kind PingSocket over $family,", (one) => {
  const { family, kind, lo, others, router, far, silent, nowhere } = one;
  const name = (what: string) => `${what} (${family}, ${kind})`;

  namespaced(name("tells who answered, how fast, and how far away it is"), async () => {
    const socket = pinger(family, { kind });
    expect([socket.kind, socket.family, socket.closed]).toEqual([kind, family, false]);
    const before = performance.now();
    const reply = await socket.ping(lo, WAIT);
    const elapsedMs = performance.now() - before;
    expect(reply).toMatchObject({ sequence: 1, ttl: 64, payloadBytes: 56, duplicate: false });
    expect(`${reply.address}`).toBe(text(lo));
    expect(reply.roundTripMs).toBeGreaterThan(0);
    expect(reply.roundTripMs).toBeLessThan(elapsedMs);
    expect(socket.pingSync(lo, WAIT)).toMatchObject({ sequence: 2, ttl: 64, payloadBytes: 56 });
    // A router lets it pass, and takes one hop.
    expect(await socket.ping(far, WAIT)).toMatchObject({ sequence: 3, ttl: 63 });
    expect(socket.pingSync(text(far), WAIT)).toMatchObject({ sequence: 4, ttl: 63 });
    expect(socket.statistics).toMatchObject({ sent: 4, received: 4, refused: 0, foreign: 0 });
  });

  namespaced(name("sends as many bytes as it is told, and takes no others"), async () => {
    const most = family === "ipv4" ? 65_507 : 65_527;
    const socket = pinger(family, { kind });
    for (const payloadBytes of [0, 1, 7, 8, 9, 1472, 9000, most]) {
      expect((await socket.ping(lo, { payloadBytes, ...WAIT })).payloadBytes).toBe(payloadBytes);
      expect(socket.pingSync(lo, { payloadBytes, ...WAIT }).payloadBytes).toBe(payloadBytes);
    }
    expect(caught(() => socket.pingSync(lo, { payloadBytes: most + 1 })).message).toBe(
      `Cannot use ${most + 1} as payloadBytes: expected 0 to ${most}`,
    );
  });

  namespaced(name("keeps the answers of several hosts apart, in any order"), async () => {
    const held: Request[] = [];
    respond(family, (request) => held.push(request));
    const socket = pinger(family, { kind });
    const hosts = [...others, lo, ...others];
    const pings = hosts.map((host, i) => socket.ping(host, { payloadBytes: i, ...WAIT }));
    await until(() => held.length === hosts.length, "all requests have come");
    for (const request of held.reverse()) request.answer();
    const replies = await Promise.all(pings);
    expect(replies.map(({ address }) => address.host)).toEqual(hosts);
    expect(replies.map(({ sequence }) => sequence)).toEqual(hosts.map((_, i) => i + 1));
    expect(replies.map(({ payloadBytes }) => payloadBytes)).toEqual(hosts.map((_, i) => i));
  });

  namespaced(name("counts an answer once, and what comes later as late"), async () => {
    const held: Request[] = [];
    respond(family, (request) => held.push(request));
    const socket = pinger(family, { kind });
    const lost = await errorOf(socket.ping(lo, { timeoutMs: 1 }));
    expect(lost).toBeInstanceOf(TimeoutError);
    expect(lost).toMatchObject({ address: lo, destination: lo, timeoutMs: 1, syscall: "recvmsg" });
    expect(lost.message).toBe(`recvmsg ETIMEDOUT ${lo}: timed out after 1 ms`);
    const second = socket.ping(lo, WAIT);
    await until(() => held.length === 2, "both requests have come");
    // That of the first is no answer to the second.
    held[0]?.answer();
    held[1]?.answer();
    held[1]?.answer();
    expect((await second).sequence).toBe(2);
    const third = socket.ping(lo, WAIT);
    await until(() => held.length === 3, "the third request has come");
    held[1]?.answer();
    held[2]?.answer();
    expect((await third).sequence).toBe(3);
    expect(socket.statistics).toEqual({
      sent: 3,
      received: 2,
      refused: 0,
      duplicates: 2,
      late: 1,
      foreign: 0,
    });
  });

  namespaced(name("takes no answer that somebody else has made up"), async () => {
    const flip = (at: number) => (message: Uint8Array) => {
      message[at] = (message[at] as number) ^ 0xff;
      return undefined;
    };
    const cut = (length: number) => (message: Uint8Array) => {
      const other = new Uint8Array(length);
      other.set(message.subarray(0, length));
      if (family === "ipv4") sign(other);
      return other;
    };
    respond(family, ({ answer }) => {
      // The first byte of the token, the last of the payload, the identifier, the sequence, the code.
      for (const at of [8, 15, 63, 4, 5, 7, 1]) answer(flip(at));
      for (const length of [8, 9, 63, 65, 500]) answer(cut(length));
      // From another host, although with all that is right.
      answer(undefined, others[0]);
      // With a checksum that is wrong.
      if (family === "ipv4") answer((message) => Uint8Array.from(message).fill(0x77, 2, 4));
      answer();
    });
    const socket = pinger(family, { kind });
    for (const payloadBytes of [56, 56])
      expect(await socket.ping(lo, { payloadBytes, ...WAIT })).toMatchObject({ duplicate: false });
    const { received, foreign, duplicates } = socket.statistics;
    expect([received, duplicates]).toEqual([2, 0]);
    // The kernel has kept back some from a datagram socket.
    expect(foreign).toBeGreaterThanOrEqual(20);
  });

  namespaced(name("stands 2000 broken answers, and finds the one that is right"), async () => {
    let seed = 4711;
    const random = (below: number) => {
      seed = (Math.imul(seed, 1103515245) + 12345) >>> 0;
      return (seed >>> 8) % below;
    };
    respond(family, ({ answer }) => {
      for (let i = 0; i < 40; i++) {
        answer((message) => {
          const other = new Uint8Array(random(3) ? message.length : 4 + random(200));
          other.set(message.subarray(0, other.length));
          for (let flips = 1 + random(4); flips > 0 && other.length > 1; flips--)
            other[1 + random(other.length - 1)] = random(256);
          if (family === "ipv4" && random(2) && other.length > 3) sign(other);
          // The same as the request's would be right.
          return Buffer.compare(other.subarray(4), message.subarray(4)) === 0
            ? other.subarray(0, 7)
            : other;
        });
      }
      answer();
    });
    const socket = pinger(family, { kind, receiveBufferBytes: 1 << 20 });
    for (let i = 0; i < 50; i++) expect((await socket.ping(lo, WAIT)).sequence).toBe(i + 1);
    expect(socket.statistics).toMatchObject({ sent: 50, received: 50, duplicates: 0, late: 0 });
  });

  namespaced(name("tells which router let its hops run out"), async () => {
    const socket = pinger(family, { kind });
    const errors = [
      await errorOf(socket.ping(far, { ttl: 1, ...WAIT })),
      systemErrorOf(() => socket.pingSync(far, { ttl: 1, ...WAIT })),
    ];
    for (const error of errors) {
      expect(error).toMatchObject({
        code: "EHOSTUNREACH",
        offender: router,
        destination: far,
        cause: { kind: "icmp", ...one.expired },
      });
      expect(error.message).toEndWith(`(${one.expired.reason}, from ${router})`);
    }
    // It was of those two alone.
    expect(await socket.ping(far, { ttl: 2, ...WAIT })).toMatchObject({ ttl: 63 });
    expect(await socket.ping(router, { ttl: 1, ...WAIT })).toMatchObject({ ttl: 64 });
    expect(socket.statistics).toMatchObject({ sent: 4, received: 2, refused: 2 });
  });

  namespaced(
    name("tells which router has a narrower link, and the next one passes in fragments"),
    async () => {
      for (const [where, device] of [
        [routing, "bs-out"],
        [remote, "bs-far"],
      ] as const)
        where?.ip("link", "set", device, "mtu", "1300");
      try {
        const socket = pinger(family, { kind });
        const error = await errorOf(socket.ping(far, { payloadBytes: 1400, ...WAIT }));
        expect(error).toMatchObject({
          code: "EMSGSIZE",
          offender: router,
          destination: far,
          cause: { kind: "pathMtu", mtu: 1300 },
        });
        expect(error.message).toEndWith(`(the path carries 1300 bytes, from ${router})`);
        const reply = await socket.ping(far, { payloadBytes: 1400, ...WAIT });
        expect(reply.payloadBytes).toBe(1400);
      } finally {
        for (const [where, device] of [
          [routing, "bs-out"],
          [remote, "bs-far"],
        ] as const)
          where?.ip("link", "set", device, "mtu", "1500");
        // What was learnt of the path is not for the next one.
        ip("route", "flush", "cache");
        ip("-6", "route", "flush", "cache");
      }
    },
  );

  namespaced(name("tells where there is no way, and goes on with the others"), async () => {
    const socket = pinger(family, { kind });
    const results = await Promise.allSettled([
      socket.ping(far, WAIT),
      socket.ping(nowhere, WAIT),
      socket.ping(lo, WAIT),
      socket.ping(far, { ttl: 1, ...WAIT }),
      socket.ping(silent, { timeoutMs: 100 }),
      socket.ping(router, WAIT),
    ]);
    const told = results.map((result) =>
      result.status === "fulfilled"
        ? result.value.address.host
        : [result.reason.code, result.reason.offender],
    );
    expect(told).toEqual([
      far,
      ["ENETUNREACH", router],
      lo,
      ["EHOSTUNREACH", router],
      ["ETIMEDOUT", undefined],
      router,
    ]);
    const [, refused] = results as PromiseRejectedResult[];
    expect(refused?.reason.cause).toMatchObject(one.noRoute);
  });

  namespaced(name("does not believe an ICMP error that quotes something else"), async () => {
    // The router's error about somebody else's request, with the same number and another token.
    const held: Request[] = [];
    const responder = respond(family, (request) => held.push(request));
    const socket = pinger(family, { kind });
    const ping = socket.ping(lo, WAIT);
    await until(() => held.length === 1, "the request has come");
    const [request] = held;
    const quote = (change: (message: Uint8Array) => void, to: string) => {
      const message = Uint8Array.from(request?.message ?? []);
      change(message);
      responder.sendToSync(unreachable(family, to, message), lo);
    };
    quote((message) => message.fill(0, 8, 16), lo);
    quote((message) => message.fill(0, 6, 8), lo);
    quote((message) => message.fill(0, 4, 6), lo);
    quote(() => {}, others[0]);
    await turns(3);
    request?.answer();
    expect((await ping).sequence).toBe(1);
    expect(socket.statistics).toMatchObject({ received: 1, refused: 0 });
    // And one that quotes it right is believed: so is the test itself.
    const second = socket.ping(lo, WAIT);
    await until(() => held.length === 2, "the second request has come");
    const right = Uint8Array.from(held[1]?.message ?? []);
    responder.sendToSync(unreachable(family, lo, right), lo);
    expect(await errorOf(second)).toMatchObject({ offender: lo, destination: lo });
  });

  namespaced(name("rejects what waits when it is closed"), async () => {
    const socket = pinger(family, { kind });
    const pings = [1, 2, 3].map(() => socket.ping(silent, FOREVER));
    await turns(1);
    socket.close();
    for (const ping of pings) expect(await errorOf(ping)).toBeInstanceOf(ClosedError);
    expect(await errorOf(socket.ping(lo))).toBeInstanceOf(ClosedError);
    expect(caught(() => socket.pingSync(lo))).toBeInstanceOf(ClosedError);
    expect(await all(socket.series(lo))).toEqual([]);
    socket.close();
    expect([socket.closed, `${socket}`]).toEqual([true, `PingSocket ${family} ${kind}, closed`]);
  });

  namespaced(name("is aborted with the reason of the signal, one request alone"), async () => {
    const socket = pinger(family, { kind });
    const reason = new Error("enough");
    const controller = new AbortController();
    const ping = socket.ping(silent, { signal: controller.signal, ...FOREVER });
    const other = socket.ping(silent, { timeoutMs: 100 });
    await turns(1);
    controller.abort(reason);
    expect(await reasonOf(ping)).toBe(reason);
    expect(await reasonOf(socket.ping(lo, { signal: controller.signal }))).toBe(reason);
    expect(await errorOf(other)).toBeInstanceOf(TimeoutError);
    expect(socket.statistics.sent).toBe(2);
    const watched = new WatchedSignal();
    await socket.ping(lo, { signal: watched.signal, ...WAIT });
    expect(watched.listeners.size).toBe(0);
  });
});

/** "Destination unreachable", quoting a packet to a host that holds an ICMP message. */
function unreachable(family: "ipv4" | "ipv6", to: string, quoted: Uint8Array): Uint8Array {
  const isIpv4 = family === "ipv4";
  const header = new Uint8Array(isIpv4 ? 20 : 40);
  const view = new DataView(header.buffer);
  const quad = (host: string) => Uint8Array.from(host.split("."), Number);
  if (isIpv4) {
    header[0] = 0x45;
    view.setUint16(2, 20 + quoted.length);
    header[8] = 64;
    header[9] = 1;
    header.set(quad("127.0.0.1"), 12);
    header.set(quad(to), 16);
    view.setUint16(10, internetChecksum(header, 0, 20));
  } else {
    header[0] = 0x60;
    view.setUint16(4, quoted.length);
    header[6] = 58;
    header[7] = 64;
    header.set(bytes16("::1"), 8);
    header.set(bytes16(to), 24);
  }
  const message = new Uint8Array(8 + header.length + quoted.length);
  message[0] = isIpv4 ? 3 : 1;
  message[1] = isIpv4 ? 1 : 3;
  message.set(header, 8);
  message.set(quoted, 8 + header.length);
  if (isIpv4) sign(message);
  return message;
}

// "::1", or "fd00:92::2" and its kind.
function bytes16(host: string): Uint8Array {
  const [head = "", tail = ""] = host.split("::");
  const words = (part: string) =>
    part
      .split(":")
      .filter(Boolean)
      .map((word) => Number.parseInt(word, 16));
  const bytes = new DataView(new ArrayBuffer(16));
  for (const [i, word] of words(head).entries()) bytes.setUint16(2 * i, word);
  for (const [i, word] of words(tail).reverse().entries()) bytes.setUint16(14 - 2 * i, word);
  return new Uint8Array(bytes.buffer);
}

describe.each(families)("PingSocket.series() over $family", ({ family, lo, far, silent }) => {
  namespaced(`gives what became of each request, and ends (${family})`, async () => {
    respond(family, ({ sequence, answer }) => {
      if (sequence % 3 === 0) return;
      answer();
      if (sequence % 3 === 1) answer();
    });
    const socket = pinger(family);
    const results = await all(socket.series(lo, { count: 9, intervalMs: 1, timeoutMs: 400 }));
    const replies = results.filter(isReply);
    const lost = results.filter((result): result is PingFailure => !isReply(result));
    // In the order of arrival, whoever has read them.
    const told = replies.map(
      ({ sequence, duplicate }) => `${sequence}${duplicate ? " again" : ""}`,
    );
    expect(told).toEqual(["1", "1 again", "2", "4", "4 again", "5", "7", "7 again", "8"]);
    expect(lost.map(({ sequence }) => sequence)).toEqual([3, 6, 9]);
    for (const { address, error } of lost) {
      expect(error).toBeInstanceOf(TimeoutError);
      expect(error).toMatchObject({ destination: lo, timeoutMs: 400 });
      expect(address.host).toBe(lo);
    }
    expect(socket.statistics).toMatchObject({ sent: 9, received: 6, duplicates: 3 });
  });

  namespaced(
    `goes on after what a router refuses, and what cannot be sent (${family})`,
    async () => {
      const socket = pinger(family);
      const refused = await all(socket.series(far, { count: 3, intervalMs: 1, ttl: 1, ...WAIT }));
      expect(refused.map(({ error }) => error?.code)).toEqual(Array(3).fill("EHOSTUNREACH"));
      const unsent = family === "ipv4" ? "255.255.255.255" : "ff02::1";
      const results = await all(socket.series(unsent, { count: 2, intervalMs: 1, timeoutMs: 1 }));
      expect(results.length).toBeGreaterThanOrEqual(2);
      if (family === "ipv4")
        expect(results.map(({ error }) => error?.code)).toEqual(["EACCES", "EACCES"]);
    },
  );

  namespaced(`with an interval of 0 sends when it has an answer (${family})`, async () => {
    const socket = pinger(family);
    const results = await all(socket.series(lo, { count: 50, intervalMs: 0, ...WAIT }));
    expect(results.filter(isReply).map(({ sequence }) => sequence)).toEqual(
      Array.from({ length: 50 }, (_, i) => i + 1),
    );
  });

  namespaced(`gives requests up when the loop is left (${family})`, async () => {
    const socket = pinger(family);
    for await (const { sequence } of socket.series(lo, { intervalMs: 1, ...WAIT })) {
      if (sequence === 3) break;
    }
    const { sent } = socket.statistics;
    await turns(5);
    expect(socket.statistics.sent).toBe(sent);
    const series = socket.series(silent, { count: 1, ...FOREVER });
    const step = series.next();
    await turns(1);
    expect(await series.return?.()).toEqual({ value: undefined, done: true });
    expect(await step).toEqual({ value: undefined, done: true });
    expect(await series.next()).toEqual({ value: undefined, done: true });
  });

  namespaced(
    `ends when its socket is closed, and is aborted with the reason (${family})`,
    async () => {
      const socket = pinger(family);
      const ended = all(socket.series(silent, { intervalMs: 1, ...FOREVER }));
      await until(() => socket.statistics.sent >= 3, "some were sent");
      socket.close();
      expect(await ended).toEqual([]);
      const other = pinger(family);
      const controller = new AbortController();
      const { signal } = controller;
      const aborted = all(other.series(silent, { intervalMs: 1, signal, ...FOREVER }));
      await until(() => other.statistics.sent >= 3, "some were sent");
      controller.abort("enough");
      expect(await reasonOf(aborted)).toBe("enough");
      expect(
        caught(() => other.series(lo, { signal: AbortSignal.abort(new Error("before")) })).message,
      ).toBe("before");
    },
  );

  namespaced(`refuses what is no pace (${family})`, () => {
    const socket = pinger(family);
    const message = (options: object) => caught(() => socket.series(lo, options)).message;
    expect(message({ intervalMs: -1 })).toBe(
      "Cannot use -1 as intervalMs: expected 0 to 2147483647",
    );
    expect(message({ intervalMs: Number.NaN })).toStartWith("Cannot use NaN as intervalMs");
    expect(message({ intervalMs: "1" })).toStartWith(
      "Cannot use a value of type string as intervalMs",
    );
    expect(message({ count: 0 })).toStartWith("Cannot use 0 as count: expected 1 to");
    expect(message({ ttl: 256 })).toBe("Cannot use 256 as ttl: expected 1 to 255");
    expect(message({ timeoutMs: -1 })).toBe(
      "Cannot use -1 as timeoutMs: expected 0 or more milliseconds",
    );
    expect(message({ signal: {} })).toStartWith("Cannot use a value of type object as a signal");
  });
});

namespaced("PingSocket.series() does not send on when nobody takes the results", async () => {
  const socket = pinger("ipv4");
  const series = socket.series("127.0.0.1", { intervalMs: 0.01, payloadBytes: 8, ...WAIT });
  await series.next();
  let before = -1;
  await until(() => {
    const { sent } = socket.statistics;
    const isStill = sent >= 256 && sent === before;
    before = sent;
    return isStill;
  }, "it has stopped");
  expect(before).toBeLessThan(300);
  for (let i = 0; i < 200; i++) await series.next();
  await until(() => socket.statistics.sent > before, "it goes on");
  await series.return?.();
});

namespaced(
  "PingSocket measures until the kernel has the answer, not until it is read",
  async () => {
    for (const { family, lo, silent } of families)
      for (const kind of ["datagram", "raw"] as const) {
        const socket = pinger(family, { kind });
        // Whoever waits before it keeps it from being read at once.
        const first = socket.ping(silent, FOREVER);
        const second = socket.ping(lo, FOREVER);
        const busyUntil = performance.now() + 50;
        while (performance.now() < busyUntil);
        expect((await second).roundTripMs).toBeLessThan(50);
        socket.close();
        expect(await errorOf(first)).toBeInstanceOf(ClosedError);
      }
  },
);

namespaced("PingSocket reads what has come before it says that nothing came in time", async () => {
  const socket = pinger("ipv4");
  const first = socket.ping("10.92.2.9", FOREVER);
  // A second socket has the poller ask which of them it is, and it is told of none.
  using other = UdpSocket.bind("127.0.0.1:0");
  const never = other.receive(new Uint8Array(1));
  {
    using _ = replaceEntry("epoll_wait", () => 0);
    expect((await socket.ping("127.0.0.1", { timeoutMs: 10 })).sequence).toBe(2);
  }
  socket.close();
  other.close();
  await Promise.all([first, never].map(reasonOf));
});

namespaced("PingSocket does not measure by a clock that somebody sets meanwhile", async () => {
  const socket = pinger("ipv4");
  for (const seconds of [-3600n, 3600n, undefined]) {
    using _ = replaceLibc("clock_gettime", (original) => (id, time) => {
      const result = original(id, time);
      if (seconds === undefined) return failWith(EINVAL);
      const view = time as DataView;
      view.setBigInt64(0, view.getBigInt64(0, true) + seconds, true);
      return result;
    });
    const before = performance.now();
    const { roundTripMs } = await socket.ping("127.0.0.1", WAIT);
    expect(roundTripMs).toBeGreaterThan(0);
    expect(roundTripMs).toBeLessThan(performance.now() - before);
  }
});

namespaced("PingSocket is unprivileged where the sysctl lets it, and else raw", () => {
  expect(pinger("ipv4").kind).toBe("datagram");
  expect(pinger("ipv6").kind).toBe("datagram");
  // At first it lets nobody in.
  using closed = makeNamespace();
  closed.inside(() => {
    expect(pinger("ipv4").kind).toBe("raw");
    expect(pinger("ipv6").kind).toBe("raw");
    const error = systemErrorOf(() => pinger("ipv4", { kind: "datagram" }));
    expect([error.code, error.syscall]).toEqual(["EACCES", "socket"]);
    expect(error.hint).toContain("sudo sysctl -w net.ipv4.ping_group_range=");
    expect(error.hint).not.toContain("CAP_NET_RAW");
  });
});

/** Runs a program as nobody, in the namespace of the tests, with these capabilities. */
function asNobody(program: string, ...capabilities: string[]): { stdout: string; stderr: string } {
  const added = capabilities.map((name) => `+${name}`).join(",") || "-all";
  const { stdout, stderr } = Bun.spawnSync([
    "setpriv",
    "--reuid=65534",
    "--regid=65534",
    "--clear-groups",
    `--inh-caps=${added}`,
    ...(capabilities.length > 0 ? [`--ambient-caps=${added}`] : ["--bounding-set=-all"]),
    process.execPath,
    "-e",
    program,
  ]);
  return { stdout: stdout.toString().trim(), stderr: stderr.toString() };
}

const OPEN = `
  const { PingSocket } = await import("${import.meta.dir}/../../lib/index.ts");
  for (const [family, host] of [["ipv4", "127.0.0.1"], ["ipv6", "::1"]]) {
    try {
      using socket = PingSocket.open(family);
      console.log(socket.kind, socket.pingSync(host, { timeoutMs: 5000 }).sequence);
    } catch (error) {
      console.log(error.name, error.code, error.syscall, error.hint);
    }
  }`;

asOthers("PingSocket takes no right where the sysctl lets everybody in", () => {
  expect(asNobody(OPEN).stdout).toBe("datagram 1\ndatagram 1");
});

asOthers("PingSocket takes CAP_NET_RAW where the sysctl lets nobody in", () => {
  sysctl("ipv4/ping_group_range", NOBODY);
  expect(asNobody(OPEN, "net_raw").stdout).toBe("raw 1\nraw 1");
});

asOthers("PingSocket says what grants the right to somebody who has none", () => {
  sysctl("ipv4/ping_group_range", NOBODY);
  const lines = asNobody(OPEN).stdout.split("\n");
  expect(lines).toHaveLength(2);
  for (const line of lines) {
    expect(line).toStartWith("SystemError EACCES socket ");
    expect(line).toContain(`sudo sysctl -w net.ipv4.ping_group_range="0 2147483647"`);
    expect(line).toContain(`CAP_NET_RAW: run "sudo setcap cap_net_raw+ep ${process.execPath}"`);
  }
});

namespaced(
  "PingSocket numbers its requests up to 65535, then from 0, and has no more",
  async () => {
    setKernelAnswers(false);
    const socket = pinger("ipv4");
    const silent = () => socket.ping("127.0.0.1", { payloadBytes: 0, ...FOREVER });
    const pings = Array.from({ length: 65_534 }, silent);
    setKernelAnswers(true);
    // From 1 on all numbers are taken.
    const sequences = [1, 2, 3].map(() => socket.pingSync("127.0.0.1", WAIT).sequence);
    expect(sequences).toEqual([65_535, 0, 65_535]);
    expect(socket.statistics).toMatchObject({ sent: 65_537, received: 3, foreign: 0 });
    setKernelAnswers(false);
    pings.push(silent(), silent());
    const error = await errorOf(silent());
    expect([error.code, error.destination]).toEqual(["ENOBUFS", "127.0.0.1"]);
    expect(error.hint).toContain("65536 requests wait already");
    socket.close();
    const settled = await Promise.allSettled(pings);
    expect(settled).toHaveLength(65_536);
    expect(settled.filter(({ status }) => status === "fulfilled")).toEqual([]);
  },
);

namespaced("PingSocket reaches an address of one link by its zone", async () => {
  const index = interfaceIndex(LINK);
  for (const kind of ["datagram", "raw"] as const) {
    const socket = pinger("ipv6", { kind });
    for (const zone of [LINK, index]) {
      const reply = await socket.ping(`fe80::a1%${zone}`, WAIT);
      expect(reply.address.host).toBe(`fe80::a1%${index}`);
    }
    const error = await errorOf(socket.ping("fe80::a1%bs-none", WAIT));
    expect(error.code).toBe("ENODEV");
  }
});

namespaced(
  "PingSocket sends from the address and through the interface that it was told",
  async () => {
    for (const { family, near, router, others } of families)
      for (const kind of ["datagram", "raw"] as const) {
        const from = pinger(family, { kind, source: near, interface: LINK });
        expect((await from.ping(router, WAIT)).address.host).toBe(router);
        expect(await errorOf(from.ping(others[0], { timeoutMs: 50 }))).toBeInstanceOf(SystemError);
        const refused = systemErrorOf(() => pinger(family, { kind, source: router }));
        expect(refused).toMatchObject({ code: "EADDRNOTAVAIL", syscall: "bind", address: router });
        const device = systemErrorOf(() => pinger(family, { kind, interface: "bs-none" }));
        expect(device).toMatchObject({ code: "ENODEV", option: "SO_BINDTODEVICE" });
      }
  },
);

namespaced("PingSocket asks all hosts of a link at once, where it may", async () => {
  routing?.inside(() => sysctl("ipv4/icmp_echo_ignore_broadcasts", "0"));
  for (const kind of ["datagram", "raw"] as const) {
    const refused = await errorOf(pinger("ipv4", { kind }).ping("10.92.1.255", WAIT));
    expect(refused).toMatchObject({ code: "EACCES", destination: "10.92.1.255" });
    expect(refused.hint).toContain("broadcast: true");
    const socket = pinger("ipv4", { kind, broadcast: true });
    expect((await socket.ping("10.92.1.255", WAIT)).address.host).toBe("10.92.1.1");
    const group = await pinger("ipv6", { kind }).ping(`ff02::1%${LINK}`, WAIT);
    expect(group.address.host).toStartWith("fe80::");
  }
});

namespaced("PingSocket takes addresses of its family only, and no names", async () => {
  const socket = pinger("ipv4");
  const messageOf = async (address: unknown) =>
    ((await reasonOf(socket.ping(address as string))) as Error).message;
  expect(await messageOf("::1")).toBe("Cannot ping ::1: expected an IPv4 address");
  expect(await messageOf("localhost")).toBe('Cannot use "localhost" as an IPv4 address');
  expect(await messageOf(1)).toContain("Cannot use a value of type number as an address");
  expect(caught(() => socket.pingSync("::1")).message).toBe(await messageOf("::1"));
  expect((await reasonOf(socket.ping("127.0.0.1", null as never))) as Error).toBeInstanceOf(
    TypeError,
  );
  expect(socket.statistics.sent).toBe(0);
});

namespaced("PingSocket.configure gets the socket before it is used", async () => {
  const { IpOption } = await import("bun-sockets");
  const socket = pinger("ipv4", { configure: (made) => made.setOption(IpOption.ttl, 1) });
  expect(await errorOf(socket.ping("10.92.2.2", WAIT))).toMatchObject({ offender: "10.92.1.1" });
  const broken = new Error("no");
  expect(
    caught(() =>
      pinger("ipv4", {
        configure() {
          throw broken;
        },
      }),
    ),
  ).toBe(broken);
});

namespaced("an unref'd PingSocket lets the process end, and a ref'd one holds it", () => {
  const run = (middle: string) =>
    Bun.spawnSync([
      process.execPath,
      "-e",
      `
      const { PingSocket } = await import("${import.meta.dir}/../../lib/index.ts");
      const socket = PingSocket.open("ipv4");
      ${middle}
      socket.ping("10.92.2.9", { timeoutMs: 150 }).catch((error) => console.log(error.code));
      `,
    ]).stdout.toString();
  expect(run("")).toBe("ETIMEDOUT\n");
  expect(run("socket.unref();")).toBe("");
  expect(run("socket.unref(); socket.ref();")).toBe("ETIMEDOUT\n");
});

/** What ping(8) says of a host. */
async function pingSays(...values: string[]) {
  const child = Bun.spawn(["ping", "-n", ...values], {
    stdio: ["ignore", "pipe", "inherit"],
    env: { ...process.env, LC_ALL: "C" },
  });
  const said = await child.stdout.text();
  const [, sent, received] = /(\d+) packets transmitted, (\d+) received/.exec(said) ?? [];
  const [, minimum, average] = /= ([\d.]+)\/([\d.]+)\//.exec(said) ?? [];
  const ttls = [...said.matchAll(/ttl=(\d+)/g)].map(([, ttl]) => Number(ttl));
  const bytes = [...said.matchAll(/^(\d+) bytes from/gm)].map(([, count]) => Number(count));
  return {
    sent: Number(sent),
    received: Number(received),
    minimumMs: Number(minimum),
    averageMs: Number(average),
    ttls,
    bytes,
    said,
  };
}

needing("ping")("PingSocket and ping(8) say the same of a host that loses and delays", async () => {
  const delayMs = 40;
  respond("ipv4", ({ sequence, answer }) => {
    if (sequence % 2 === 0) setTimeout(answer, delayMs);
  });
  const theirs = pingSays("-c", "10", "-i", "0.01", "-W", "1", "127.0.0.1");
  const socket = pinger("ipv4");
  const results = await all(
    socket.series("127.0.0.1", { count: 10, intervalMs: 10, timeoutMs: 400 }),
  );
  const ours = results.filter(isReply);
  const said = await theirs;
  expect([said.sent, said.received]).toEqual([results.length, ours.length]);
  expect(ours.map(({ sequence }) => sequence)).toEqual([2, 4, 6, 8, 10]);
  expect(said.ttls).toEqual(ours.map(({ ttl }) => ttl));
  // ping(8) counts the ICMP header too.
  expect(said.bytes).toEqual(ours.map(({ payloadBytes }) => payloadBytes + 8));
  const fastest = Math.min(...ours.map(({ roundTripMs }) => roundTripMs));
  expect(said.minimumMs).toBeGreaterThan(delayMs - 2);
  expect(fastest).toBeGreaterThan(delayMs - 2);
});

needing("ping")("PingSocket and ping(8) say the same of a router that refuses", async () => {
  const { said } = await pingSays("-c", "1", "-t", "1", "10.92.2.2");
  expect(said).toContain("From 10.92.1.1 icmp_seq=1 Time to live exceeded");
  const error = await errorOf(pinger("ipv4").ping("10.92.2.2", { ttl: 1, ...WAIT }));
  expect(error.message).toBe(
    "sendmsg EHOSTUNREACH 10.92.2.2: host is unreachable (time to live exceeded, from 10.92.1.1)",
  );
});

const netem = testIf(missing ?? requires("tc", "ping"));
netem("PingSocket and ping(8) measure the same delay of a link", async () => {
  const { success } = Bun.spawnSync(
    ["tc", "qdisc", "add", "dev", LINK, "root", "netem", "delay", "30ms"],
    { stderr: "ignore" },
  );
  // Not every kernel has it: then the link is as fast as it is.
  const delayMs = success ? 30 : 0;
  try {
    const said = await pingSays("-c", "5", "-i", "0.01", "10.92.1.1");
    const results = await all(
      pinger("ipv4").series("10.92.1.1", { count: 5, intervalMs: 10, ...WAIT }),
    );
    const ours = results.filter(isReply).map(({ roundTripMs }) => roundTripMs);
    expect([said.received, ours.length]).toEqual([5, 5]);
    expect(said.minimumMs).toBeGreaterThan(delayMs);
    expect(Math.min(...ours)).toBeGreaterThan(delayMs);
  } finally {
    if (success) Bun.spawnSync(["tc", "qdisc", "del", "dev", LINK, "root"]);
  }
});

needing("ping")("two programs that ping do not hear each other's answers", async () => {
  for (const kind of ["datagram", "raw"] as const) {
    const socket = pinger("ipv4", { kind });
    const theirs = pingSays("-c", "20", "-i", "0.002", "127.0.0.1");
    const results = await all(socket.series("127.0.0.1", { count: 20, intervalMs: 2, ...WAIT }));
    expect((await theirs).received).toBe(20);
    expect(results.filter(isReply)).toHaveLength(20);
    const { received, duplicates, foreign } = socket.statistics;
    expect([received, duplicates]).toEqual([20, 0]);
    // A raw socket hears them, and sorts them out.
    if (kind === "datagram") expect(foreign).toBe(0);
  }
});

withTcpdump("tcpdump reads the requests of PingSocket as what they are", async () => {
  const child = Bun.spawn(
    ["tcpdump", "-i", "lo", "-n", "-c", "2", "-v", "--immediate-mode", "icmp[0] == 8"],
    { stdio: ["ignore", "pipe", "pipe"] },
  );
  kept({ [Symbol.dispose]: () => child.kill("SIGKILL") });
  const reader = child.stderr.getReader();
  let told = "";
  while (!told.includes("listening on")) {
    const { value, done } = await reader.read();
    if (done) break;
    told += Buffer.from(value).toString();
  }
  const [datagram, raw] = [pinger("ipv4", { kind: "datagram" }), pinger("ipv4", { kind: "raw" })];
  await datagram.ping("127.0.0.1", { payloadBytes: 100, ttl: 9, ...WAIT });
  await raw.ping("127.0.0.1", { payloadBytes: 7, ttl: 10, ...WAIT });
  const said = await child.stdout.text();
  expect(said).toContain(`ICMP echo request, id ${datagram.identifier}, seq 1, length 108`);
  expect(said).toContain(`ICMP echo request, id ${raw.identifier}, seq 1, length 15`);
  expect(said).toContain("ttl 9,");
  expect(said).toContain("ttl 10,");
  expect(said).not.toContain("wrong icmp cksum");
});
