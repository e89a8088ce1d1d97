/**
 * The error queue where there is a network: a router that says why it has not delivered a datagram,
 * paths whose MTU shrinks, times at which datagrams have left, and devices that send without a copy.
 */
import { afterAll, afterEach, beforeAll, describe, expect } from "bun:test";
import {
  DatagramBatch,
  Inet4Address,
  type InetAddress,
  IpOption,
  Ipv6Option,
  type QueuedError,
  Socket,
  TcpSocket,
  UdpSocket,
  type ZeroCopyLease,
} from "bun-sockets";
import { systemErrorOf } from "../support/errors.ts";
import { requires, testIf } from "../support/require.ts";
import { firstLine } from "../support/strangers.ts";
import { turns, until } from "../support/waiting.ts";

const WAIT = { timeoutMs: 10_000 };
// Ours, and the router's; and behind the router a narrow link, at whose end there is nobody.
const NEAR = "bs-near";
const FAR = "bs-far";
const NARROW = "bs-narrow";
const NARROW_MTU = 1300;
const FULL = 1472;

const missing =
  process.env["BUN_SOCKETS_NAMESPACE"] === "1"
    ? requires("ip", "unshare", "nsenter", "tc")
    : "needs a network namespace of its own";
const namespaced = testIf(missing);

const families = [
  {
    family: "ipv4",
    near: "10.91.1.2",
    router: "10.91.1.1",
    narrow: "10.91.2.9",
    nowhere: "10.91.3.9",
    closed: "10.91.1.1",
    headers: 28,
    noRoute: { code: "ENETUNREACH", version: 4, type: 3, icmpCode: 0 },
    noPort: { code: "ECONNREFUSED", version: 4, type: 3, icmpCode: 3 },
    noTime: { code: "EHOSTUNREACH", version: 4, type: 11, icmpCode: 0 },
  },
  {
    family: "ipv6",
    near: "2001:db8:91::2",
    router: "2001:db8:91::1",
    narrow: "2001:db8:92::9",
    nowhere: "2001:db8:93::9",
    closed: "2001:db8:91::1",
    headers: 48,
    noRoute: { code: "ENETUNREACH", version: 6, type: 1, icmpCode: 0 },
    noPort: { code: "ECONNREFUSED", version: 6, type: 1, icmpCode: 4 },
    noTime: { code: "EHOSTUNREACH", version: 6, type: 3, icmpCode: 0 },
  },
] as const;

function run(...command: string[]): void {
  const { success, stderr } = Bun.spawnSync(command);
  if (!success) throw new Error(`${command.join(" ")}: ${stderr.toString()}`);
}

const ip = (...values: string[]) => run("ip", ...values);

let routing: Bun.Subprocess<"ignore", "pipe", "inherit"> | undefined;

/** Runs a command where the router is. */
function there(command: string): void {
  run("nsenter", "-t", `${routing?.pid}`, "-n", "sh", "-ec", command);
}

beforeAll(async () => {
  if (missing !== undefined) return;
  routing = Bun.spawn(["unshare", "-n", "sh", "-c", "echo ready; exec sleep 1000"], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  expect(await firstLine(routing.stdout)).toBe("ready");
  ip("link", "add", NEAR, "type", "veth", "peer", "name", FAR, "netns", `${routing.pid}`);
  ip("addr", "add", "10.91.1.2/24", "dev", NEAR);
  ip("-6", "addr", "add", "2001:db8:91::2/64", "dev", NEAR, "nodad");
  ip("link", "set", NEAR, "up");
  there(`
    ip link set lo up
    ip link add ${NARROW} mtu ${NARROW_MTU} type veth peer name bs-end
    ip addr add 10.91.1.1/24 dev ${FAR}
    ip addr add 10.91.2.1/24 dev ${NARROW}
    ip -6 addr add 2001:db8:91::1/64 dev ${FAR} nodad
    ip -6 addr add 2001:db8:92::1/64 dev ${NARROW} nodad
    for link in ${FAR} ${NARROW} bs-end; do ip link set $link up; done
    ip neigh add 10.91.2.9 lladdr 02:00:00:00:00:09 dev ${NARROW} nud permanent
    ip neigh add 2001:db8:92::9 lladdr 02:00:00:00:00:09 dev ${NARROW} nud permanent
    echo 1 > /proc/sys/net/ipv4/ip_forward
    echo 1 > /proc/sys/net/ipv6/conf/all/forwarding
    # With a limit of 0 each error would also empty the bucket that those about routes are taken of.
    echo 0 > /proc/sys/net/ipv4/icmp_ratemask
    # Before Linux 6.13 these are of the whole machine.
    if [ -w /proc/sys/net/ipv4/icmp_msgs_burst ]; then
      echo 10000 > /proc/sys/net/ipv4/icmp_msgs_burst
      echo 10000 > /proc/sys/net/ipv4/icmp_msgs_per_sec
    fi
    echo 0 > /proc/sys/net/ipv6/icmp/ratelimit
  `);
  ip("route", "add", "default", "via", "10.91.1.1");
  ip("-6", "route", "add", "default", "via", "2001:db8:91::1");
  // Until both ends of the cables are up, nobody answers.
  for (const { router } of families) {
    using socket = UdpSocket.bind(router.includes(":") ? "[::]:0" : "0.0.0.0:0");
    socket.queueErrors = true;
    await until(() => {
      try {
        socket.sendToSync("ready?", addressOf(router, 9));
      } catch {
        return false;
      }
      return socket.tryReceiveError()?.kind === "icmp";
    }, "the router answers");
  }
});

afterAll(() => {
  if (missing !== undefined) return;
  ip("link", "del", NEAR);
  routing?.kill("SIGKILL");
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
  ip("link", "set", NEAR, "mtu", "1500");
  // What was learnt of paths is not for the next one.
  ip("route", "flush", "cache");
  ip("-6", "route", "flush", "cache");
});

function addressOf(host: string, port: number): string {
  return host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`;
}

function bound(host: string): UdpSocket {
  const socket = kept(UdpSocket.bind(addressOf(host, 0)));
  socket.queueErrors = true;
  return socket;
}

const hostOf = (address: unknown) => (address as InetAddress | undefined)?.host;

/** Has its datagrams come as far as the next router. */
function withOneHop(socket: UdpSocket, family: "ipv4" | "ipv6"): UdpSocket {
  if (family === "ipv4") socket.setOption(IpOption.ttl, 1);
  else socket.setOption(Ipv6Option.unicastHops, 1);
  return socket;
}

/** A receiver on this machine, and the program that it is to go on in. */
function expectHears(sender: UdpSocket, receiver: UdpSocket, text: string): void {
  expect(sender.sendToSync(text, receiver.localAddress)).toBe(text.length);
  expect(Buffer.from(receiver.receiveBytesSync(100, WAIT)).toString()).toBe(text);
}

describe.each(families)("over $family,", (one) => {
  const { family, near, router, narrow, nowhere, headers } = one;

  namespaced(`a router is told of by name, with where it was to go (${family})`, async () => {
    const socket = bound(near);
    const live = bound(near);
    const cases = [
      [nowhere, one.noRoute],
      [one.closed, one.noPort],
    ] as const;
    for (const [host, expected] of cases) {
      const to = addressOf(host, 4321);
      socket.sendToSync("lost", to);
      // What is on its way or here fails nobody.
      expectHears(socket, live, "live");
      const entry = await socket.receiveError(WAIT);
      expect(entry).toMatchObject({ kind: "icmp", ...expected });
      if (entry.kind !== "icmp") throw new Error(entry.kind);
      expect(hostOf(entry.offender)).toBe(router);
      expect(`${entry.destination}`).toBe(to);
      expect(Buffer.from(entry.payload).toString()).toBe("lost");
      expectHears(socket, live, "still live");
    }
    expect(socket.tryReceiveError()).toBeUndefined();
  });

  namespaced(`a datagram that runs out of hops tells where it was (${family})`, async () => {
    const socket = withOneHop(bound(near), family);
    socket.sendToSync("how far?", addressOf(narrow, 33434));
    const entry = await socket.receiveError(WAIT);
    expect(entry).toMatchObject({ kind: "icmp", ...one.noTime });
    if (entry.kind !== "icmp") throw new Error(entry.kind);
    expect([hostOf(entry.offender), hostOf(entry.destination)]).toEqual([router, narrow]);
  });

  namespaced(`a batch to reachable and unreachable ones loses no slot (${family})`, async () => {
    const socket = bound(near);
    withOneHop(socket, family);
    const live = bound(near);
    using batch = new DatagramBatch({ capacity: 20 });
    for (let round = 0; round < 5; round++) {
      batch.count = 20;
      for (let i = 0; i < 20; i++) {
        batch.write(i, `${round} ${i}`);
        // Some are refused, and some have no hops left.
        batch.setAddress(i, i % 2 ? live.localAddress : addressOf(i % 4 ? router : narrow, 1 + i));
      }
      expect(await socket.sendBatch(batch, 0, WAIT)).toBe(20);
      expect(batch.failed).toBe(0);
    }
    for (let n = 0; n < 50; n++)
      expect(Buffer.from(live.receiveBytesSync(20, WAIT)).toString()).toBe(
        `${Math.floor(n / 10)} ${2 * (n % 10) + 1}`,
      );
    const told: string[] = [];
    const codes = new Set<string>();
    while (told.length < 50) {
      const entry = await socket.receiveError(WAIT);
      if (entry.kind !== "icmp") throw new Error(entry.kind);
      told.push(Buffer.from(entry.payload).toString());
      codes.add(entry.code);
    }
    expect([...codes].toSorted()).toEqual(["ECONNREFUSED", "EHOSTUNREACH"]);
    expect(told).toEqual(
      Array.from({ length: 50 }, (_, n) => `${Math.floor(n / 10)} ${2 * (n % 10)}`),
    );
    expect(socket.tryReceiveError()).toBeUndefined();
  });

  namespaced(`the MTU of a path is learnt of a router, and told (${family})`, async () => {
    const socket = bound(near);
    const live = bound(near);
    socket.pathMtuDiscovery = "do";
    socket.connectSync(addressOf(narrow, 9));
    expect(socket.pathMtu).toBe(1500);
    const bytes = 1500 - headers;
    expect(socket.sendSync(new Uint8Array(bytes))).toBe(bytes);
    const entry = await socket.receiveError(WAIT);
    expect(entry).toMatchObject({ kind: "pathMtu", mtu: NARROW_MTU });
    if (entry.kind !== "pathMtu") throw new Error(entry.kind);
    expect(hostOf(entry.offender)).toBe(router);
    expect(`${entry.destination}`).toBe(addressOf(narrow, 9));
    await until(() => socket.pathMtu === NARROW_MTU, "it is known");
    // From now on this machine knows it: the send itself fails, and says so once.
    const error = systemErrorOf(() => socket.sendSync(new Uint8Array(bytes)));
    expect(error.code).toBe("EMSGSIZE");
    const own = socket.tryReceiveError();
    expect(own).toMatchObject({ kind: "pathMtu", mtu: NARROW_MTU, offender: undefined });
    expect(socket.tryReceiveError()).toBeUndefined();
    const most = NARROW_MTU - headers;
    expect(socket.sendSync(new Uint8Array(most))).toBe(most);
    expect(systemErrorOf(() => socket.sendSync(new Uint8Array(most + 1))).code).toBe("EMSGSIZE");
    expect(socket.tryReceiveError()).toMatchObject({ kind: "pathMtu", mtu: NARROW_MTU });
    // Another one probes, whatever is known.
    const probing = bound(near);
    probing.pathMtuDiscovery = "probe";
    probing.connectSync(addressOf(narrow, 9));
    expect(probing.sendSync(new Uint8Array(bytes))).toBe(bytes);
    expect(await probing.receiveError(WAIT)).toMatchObject({ kind: "pathMtu", mtu: NARROW_MTU });
    // And one that is fragmented passes.
    const off = bound(near);
    off.pathMtuDiscovery = family === "ipv4" ? "off" : "want";
    off.connectSync(addressOf(narrow, 9));
    expect(off.sendSync(new Uint8Array(bytes))).toBe(bytes);
    expectHears(live, live, "done");
    expect(off.tryReceiveError()).toBeUndefined();
  });

  namespaced(`"too big" of one path fails no send on another (${family})`, async () => {
    const socket = bound(near);
    const live = bound(near);
    socket.pathMtuDiscovery = "probe";
    const bytes = 1500 - headers;
    for (let i = 0; i < 5; i++) {
      expect(socket.sendToSync(new Uint8Array(bytes), addressOf(narrow, 9))).toBe(bytes);
      for (let j = 0; j < 3; j++) expectHears(socket, live, `${i} ${j}`);
      await turns(1);
    }
    for (let i = 0; i < 5; i++)
      expect(await socket.receiveError(WAIT)).toMatchObject({ kind: "pathMtu", mtu: NARROW_MTU });
    expect(socket.tryReceiveError()).toBeUndefined();
  });

  namespaced(`the MTU of a link that shrinks is told by the send (${family})`, async () => {
    const socket = bound(near);
    socket.pathMtuDiscovery = "do";
    socket.connectSync(addressOf(router, 9));
    expect(socket.pathMtu).toBe(1500);
    ip("link", "set", NEAR, "mtu", "1400");
    await until(() => socket.pathMtu === 1400, "it is known");
    const bytes = 1500 - headers;
    expect(systemErrorOf(() => socket.sendSync(new Uint8Array(bytes))).code).toBe("EMSGSIZE");
    const entry = socket.tryReceiveError();
    expect(entry).toMatchObject({ kind: "pathMtu", mtu: 1400, offender: undefined });
    // It is of the slot of a batch as well, and of no other slot.
    using batch = new DatagramBatch({ capacity: 3 });
    batch.count = 3;
    for (const i of [0, 1, 2]) batch.setLength(i, i === 1 ? bytes : 1);
    expect(socket.trySendBatch(batch)).toBe(2);
    expect([0, 1, 2].map((i) => batch.failure(i))).toEqual([undefined, "EMSGSIZE", undefined]);
    const told: QueuedError[] = [];
    await until(() => {
      const next = socket.tryReceiveError();
      if (next) told.push(next);
      return told.length === 3;
    }, "all were told");
    // Nobody has the port.
    expect(told.map(({ kind }) => kind).toSorted()).toEqual(["icmp", "icmp", "pathMtu"]);
  });

  namespaced(`transmit timestamps tell what has left by a device (${family})`, async () => {
    const socket = kept(UdpSocket.bind(addressOf(near, 0)));
    socket.transmitTimestamps = ["scheduled", "sent"];
    const to = addressOf(narrow, 9);
    for (let i = 0; i < 20; i++) socket.sendToSync(`${i}`, to);
    const ids: Record<string, number[]> = { scheduled: [], sent: [] };
    for (let i = 0; i < 40; i++) {
      const entry = await socket.receiveError(WAIT);
      if (entry.kind !== "timestamp") throw new Error(entry.kind);
      ids[entry.what]?.push(entry.id);
    }
    const all = Array.from({ length: 20 }, (_, i) => i);
    expect(ids).toEqual({ scheduled: all, sent: all });
  });
});

/** Puts a queueing discipline on the near link until the end of the block. */
function shaped(...discipline: string[]): Disposable {
  run("tc", "qdisc", "add", "dev", NEAR, "root", ...discipline);
  return { [Symbol.dispose]: () => run("tc", "qdisc", "del", "dev", NEAR, "root") };
}

namespaced("a raw socket is told of datagrams that run out of hops", async () => {
  const socket = kept(Socket.create("ipv4", "raw", { protocol: 253 }));
  socket.queueErrors = true;
  socket.setOption(IpOption.ttl, 1);
  // The kernel takes no ICMP message that quotes fewer than 8 bytes.
  for (let i = 0; i < 3; i++)
    expect(socket.sendToSync(`8 bytes${i}`, new Inet4Address("10.91.2.9", 0))).toBe(8);
  for (let i = 0; i < 3; i++) {
    const entry = await socket.receiveError(WAIT);
    expect(entry).toMatchObject({ kind: "icmp", code: "EHOSTUNREACH", type: 11, icmpCode: 0 });
    if (entry.kind !== "icmp") throw new Error(entry.kind);
    expect([hostOf(entry.offender), hostOf(entry.destination)]).toEqual(["10.91.1.1", "10.91.2.9"]);
  }
});

describe("sends without a copy", () => {
  const SILENT = "10.91.1.77";

  function toSilent(): UdpSocket {
    ip("neigh", "replace", SILENT, "lladdr", "02:00:00:00:00:77", "dev", NEAR, "nud", "permanent");
    const socket = kept(UdpSocket.bind("10.91.1.2:0"));
    socket.connectSync(`${SILENT}:9`);
    return socket;
  }

  namespaced("are none where nothing of this machine reads them, and go on so", async () => {
    const socket = toSilent();
    for (let i = 0; i < 30; i++) {
      const lease = await socket.sendZeroCopy(new Uint8Array(FULL), WAIT);
      expect(await lease.whenReleased).toEqual({ copied: false });
    }
    expect(socket.zeroCopy).toEqual({
      enabled: true,
      sends: 30,
      copied: 0,
      fallbacks: 0,
      outstanding: 0,
      reason: undefined,
    });
  });

  namespaced("keep their memory until the device has sent it", async () => {
    const socket = toSilent();
    using _ = shaped("tbf", "rate", "400kbit", "burst", "1600", "limit", "100000");
    const leases = Array.from({ length: 5 }, () => socket.sendZeroCopySync(new Uint8Array(FULL)));
    expect(socket.zeroCopy.outstanding).toBeGreaterThan(0);
    expect(leases.at(-1)?.released).toBe(false);
    expect(await leases.at(-1)?.whenReleased).toEqual({ copied: false });
    for (const lease of leases) expect(lease.waitSync(WAIT)).toEqual({ copied: false });
    expect(socket.zeroCopy).toMatchObject({ sends: 5, outstanding: 0 });
  });

  namespaced("that fail in the queue of a device do not mix up the others", async () => {
    const socket = toSilent();
    socket.queueErrors = true;
    using _ = shaped("tbf", "rate", "400kbit", "burst", "1600", "limit", "1600");
    const leases: ZeroCopyLease[] = [];
    let failures = 0;
    for (let i = 0; i < 8; i++)
      try {
        leases.push(socket.sendZeroCopySync(new Uint8Array(FULL)));
      } catch (error) {
        // The kernel has given it a number, and a notice: what was dropped is released.
        expect((error as { code: string }).code).toBe("ENOBUFS");
        failures++;
      }
    expect(failures).toBeGreaterThan(0);
    const last = leases.findLast((lease) => !lease.released) as ZeroCopyLease;
    expect(last).toBeDefined();
    expect(await last.whenReleased).toEqual({ copied: false });
    for (const lease of leases) lease.waitSync(WAIT);
    const after = socket.sendZeroCopySync(new Uint8Array(FULL));
    expect(after.waitSync(WAIT)).toEqual({ copied: false });
    expect(socket.zeroCopy.outstanding).toBe(0);
  });

  namespaced("of TCP are on loan until the peer has acknowledged them", async () => {
    const [left, right] = TcpSocket.pair().map(kept) as [TcpSocket, TcpSocket];
    const data = new Uint8Array(200_000);
    let sent = 0;
    const leases: ZeroCopyLease[] = [];
    while (leases.length < 100) {
      const lease = left.trySendZeroCopy(data);
      if (!lease) break;
      leases.push(lease);
      sent += lease.bytes;
    }
    // Nobody has read: what is in the send buffer is not acknowledged.
    expect(left.unsentBytes).toBeGreaterThan(0);
    expect(leases.at(-1)?.released).toBe(false);
    await right.receiveExactly(new Uint8Array(sent), WAIT);
    for (const lease of leases) await lease.whenReleased;
    expect(left.zeroCopy.outstanding).toBe(0);
  });
});
