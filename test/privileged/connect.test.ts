/** Connecting and listening where the network is not as it should be. */
import { afterAll, beforeAll, describe, expect } from "bun:test";
import { readFileSync, writeFileSync } from "node:fs";
import {
  type ConnectError,
  type InetAddress,
  Ipv6Option,
  parseAddress,
  Socket,
  TcpListener,
  TcpOption,
  TcpSocket,
  TimeoutError,
} from "bun-sockets";
import { connectInOrder, type Plan, race } from "../../lib/internal/connect_race.ts";
import { deadlineAfter } from "../../lib/internal/deadline.ts";
import { openDescriptors } from "../support/descriptors.ts";
import { systemErrorOf } from "../support/errors.ts";
import { requires, testIf } from "../support/require.ts";
import { reasonOf, startPoller, until } from "../support/waiting.ts";

const WAIT = { timeoutMs: 10_000 };
// Where everything is sent to and nothing comes back.
const VOID = "bs-void";
const END = "bs-void-end";
const SILENT4 = "203.0.113.7:80";
const SILENT6 = "[2001:db8:9::7]:80";

const missing =
  process.env["BUN_SOCKETS_NAMESPACE"] === "1"
    ? requires("ip")
    : "needs a network namespace of its own";
const namespaced = testIf(missing);

function ip(...values: string[]): void {
  // Bun closes the pipes of a child in its own time, and they would be counted.
  const { success } = Bun.spawnSync(["ip", ...values], { stdio: ["ignore", "ignore", "inherit"] });
  if (!success) throw new Error(`ip ${values.join(" ")} has failed`);
}

beforeAll(async () => {
  if (missing !== undefined) return;
  // Its own descriptors are not counted.
  await startPoller();
  ip("link", "add", VOID, "type", "veth", "peer", "name", END);
  for (const link of [VOID, END]) ip("link", "set", link, "up");
  ip("addr", "add", "203.0.113.1/24", "dev", VOID);
  ip("-6", "addr", "add", "2001:db8:9::1/64", "dev", VOID, "nodad");
  // A hardware address that nobody has: the other end takes the frames for somebody else's.
  for (const silent of ["203.0.113.7", "2001:db8:9::7"])
    ip("neigh", "add", silent, "lladdr", "02:00:00:00:00:07", "dev", VOID, "nud", "permanent");
});

afterAll(() => {
  if (missing === undefined) ip("link", "del", VOID);
});

// The errors of ip-route(8) for each type of route; a new namespace has no other route at all.
const routes = [
  { type: "unreachable", code: "EHOSTUNREACH" },
  { type: "prohibit", code: "EACCES" },
  { type: "blackhole", code: "EINVAL" },
  { type: undefined, code: "ENETUNREACH" },
] as const;

const families = [
  { family: "ipv4", net: "198.51.100.0/24", to: "198.51.100.7:80", silent: SILENT4 },
  { family: "ipv6", net: "2001:db8:7::/64", to: "[2001:db8:7::7]:80", silent: SILENT6 },
] as const;

/** Adds a route and takes it away at the end of the block. */
function addRoute(family: string, type: string | undefined, net: string): Disposable {
  const flag = family === "ipv4" ? "-4" : "-6";
  const route = (verb: string) => {
    if (type !== undefined) ip(flag, "route", verb, type, net);
  };
  route("add");
  return { [Symbol.dispose]: () => route("del") };
}

/** Sets a sysctl, and sets it back at the end of the block. */
function sysctl(name: string, value: string): Disposable {
  const path = `/proc/sys/${name.replaceAll(".", "/")}`;
  const before = readFileSync(path, "utf8");
  writeFileSync(path, value);
  return { [Symbol.dispose]: () => writeFileSync(path, before) };
}

function planWith(changes: Partial<Plan<TcpSocket>> = {}, timeoutMs?: number): Plan<TcpSocket> {
  return {
    open: (address) => TcpSocket.open(address),
    name: { host: "several.example", service: 80 },
    staggerMs: 250,
    attemptTimeoutMs: Number.POSITIVE_INFINITY,
    deadline: deadlineAfter(timeoutMs),
    ...changes,
  };
}

const addressOf = (text: string): InetAddress => parseAddress(text) as InetAddress;

describe.each(families)("over $family", ({ family, net, to, silent }) => {
  for (const { type, code } of routes) {
    const name = type === undefined ? "a net without a route" : `a route of type ${type}`;

    namespaced(
      `connect() to ${name} is ${code} at once, with the address (${family})`,
      async () => {
        using _ = addRoute(family, type, net);
        const before = openDescriptors();
        const expected = { code, syscall: "connect", destination: to, port: 80 };
        expect(await reasonOf(TcpSocket.connect(to, WAIT))).toMatchObject(expected);
        expect(systemErrorOf(() => TcpSocket.connectSync(to, WAIT))).toMatchObject(expected);
        expect(openDescriptors()).toBe(before);
      },
    );

    namespaced(`${name} is passed over for one that answers (${family})`, async () => {
      using _ = addRoute(family, type, net);
      using listener = TcpListener.listen("127.0.0.1:0");
      const before = openDescriptors();
      const addresses = [addressOf(to), listener.localAddress];
      for (const socket of [
        // It would be too late for the next one to start after its turn.
        await race(addresses, planWith({ staggerMs: Number.POSITIVE_INFINITY }, 10_000)),
        connectInOrder(addresses, planWith({}, 10_000)),
      ]) {
        expect(`${socket.remoteAddress}`).toBe(`${listener.localAddress}`);
        socket.close();
      }
      const all = await reasonOf(race([addressOf(to), addressOf(to)], planWith()));
      expect((all as ConnectError).errors.map((error) => error.code)).toEqual([code, code]);
      expect(openDescriptors()).toBe(before);
    });
  }

  namespaced(`connect() to a silent address ends in the asked time (${family})`, async () => {
    const before = openDescriptors();
    for (const options of [{ timeoutMs: 30 }, { attemptTimeoutMs: 30 }]) {
      const expected = { name: "TimeoutError", code: "ETIMEDOUT", destination: silent };
      expect(await reasonOf(TcpSocket.connect(silent, options))).toMatchObject(expected);
      expect(systemErrorOf(() => TcpSocket.connectSync(silent, options))).toMatchObject(expected);
    }
    const controller = new AbortController();
    const running = TcpSocket.connect(silent, { signal: controller.signal });
    await until(() => openDescriptors() === before + 1, "it has begun");
    controller.abort("enough");
    expect(await reasonOf(running)).toBe("enough");
    expect(openDescriptors()).toBe(before);
  });
});

namespaced("a silent address holds up nobody: the next one starts after staggerMs", async () => {
  using listener = TcpListener.listen("127.0.0.1:0");
  const before = openDescriptors();
  const addresses = [SILENT6, SILENT4, `${listener.localAddress}`].map(addressOf);
  const started: number[] = [];
  const open = (address: InetAddress) => {
    started.push(performance.now());
    return TcpSocket.open(address);
  };
  {
    using socket = await race(addresses, planWith({ open, staggerMs: 30 }, 10_000));
    expect(`${socket.remoteAddress}`).toBe(`${listener.localAddress}`);
    expect(openDescriptors()).toBe(before + 1);
  }
  const [first = 0, second = 0, third = 0] = started;
  // A timer may run a little early.
  expect(second - first).toBeGreaterThan(28);
  expect(third - second).toBeGreaterThan(28);
  expect(openDescriptors()).toBe(before);
});

namespaced("of silent and unreachable addresses all attempts are told", async () => {
  using _ = addRoute("ipv4", "unreachable", "198.51.100.0/24");
  const before = openDescriptors();
  const addresses = [SILENT6, "198.51.100.7:80", SILENT4].map(addressOf);
  const each = await reasonOf(race(addresses, planWith({ attemptTimeoutMs: 20 })));
  expect((each as ConnectError).errors.map(({ code }) => code)).toEqual([
    "ETIMEDOUT",
    "EHOSTUNREACH",
    "ETIMEDOUT",
  ]);
  const all = (await reasonOf(race(addresses, planWith({ staggerMs: 5 }, 40)))) as TimeoutError;
  expect(all).toBeInstanceOf(TimeoutError);
  expect((all.cause as ConnectError).errors.map(({ destination }) => destination)).toEqual(
    addresses.map(String),
  );
  expect(openDescriptors()).toBe(before);
});

namespaced("listen([::]) takes both families whatever the sysctl says, and one if asked", () => {
  using _ = sysctl("net.ipv6.bindv6only", "1");
  using usual = Socket.create("ipv4", "stream");
  expect(usual.family).toBe("ipv4");
  using listener = TcpListener.listen("[::]:0");
  expect(listener.getOption(Ipv6Option.v6Only)).toBe(false);
  using client = TcpSocket.connectSync(`127.0.0.1:${listener.localAddress.port}`, WAIT);
  using served = listener.acceptSync(WAIT);
  expect(served.remoteAddress?.port).toBe(client.localAddress.port);
  using only = TcpListener.listen("[::]:0", { ipv6Only: true });
  const to = `127.0.0.1:${only.localAddress.port}`;
  expect(systemErrorOf(() => TcpSocket.connectSync(to, WAIT)).code).toBe("ECONNREFUSED");
});

namespaced("on a machine without IPv6 localhost is what there is", async () => {
  using _ = sysctl("net.ipv6.conf.lo.disable_ipv6", "1");
  using listener = TcpListener.listen("localhost:0");
  expect(listener.localAddress.host).toBe("127.0.0.1");
  const all = await TcpListener.listenAll("localhost");
  expect(all.map(({ localAddress }) => localAddress.host)).toEqual(["127.0.0.1"]);
  for (const each of all) each.close();
  const { port } = listener.localAddress;
  using client = await TcpSocket.connect("localhost", port, WAIT);
  using blocking = TcpSocket.connectSync("localhost", port, WAIT);
  expect([client.family, blocking.family]).toEqual(["ipv4", "ipv4"]);
});

namespaced("with fast open the first data comes with the connection", async () => {
  using _ = sysctl("net.ipv4.tcp_fastopen", "3");
  using listener = TcpListener.listen("127.0.0.1:0", {
    configure: (socket) => {
      socket.setOption(TcpOption.fastOpenQueueLength, 16);
      socket.setOption(TcpOption.fastOpenNoCookie, true);
    },
  });
  const configure = (socket: Socket) => {
    socket.setOption(TcpOption.fastOpenConnect, true);
    socket.setOption(TcpOption.fastOpenNoCookie, true);
  };
  for (const form of ["connect", "connectSync"] as const) {
    using client = await TcpSocket[form](listener.localAddress, { ...WAIT, configure });
    // Nothing has been sent yet.
    expect(listener.tryAccept()).toBeUndefined();
    expect(client.sendSync("early")).toBe(5);
    using served = listener.acceptSync(WAIT);
    expect(Buffer.from(served.receiveBytesSync(100, WAIT)).toString()).toBe("early");
    await until(() => client.info.fastOpened === true, "the data was acknowledged");
    served.sendSync("answer");
    expect(Buffer.from(client.receiveBytesSync(100, WAIT)).toString()).toBe("answer");
  }
});
