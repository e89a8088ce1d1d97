/**
 * Multicast and broadcast as far as the loopback interface goes. Many machines route no IPv6 multicast
 * over it: that, and the network, is in test/privileged/multicast.test.ts.
 */
import { describe, expect, test } from "bun:test";
import {
  DatagramBatch,
  IpSocket,
  Ipv6Option,
  memberships,
  Socket,
  TcpSocket,
  UdpSocket,
} from "bun-sockets";
import { EADDRNOTAVAIL, EMFILE, ENODEV } from "bun-sockets/sys";
import { caught, systemErrorOf } from "../support/errors.ts";
import { failWith, replaceLibc } from "../support/faults.ts";
import {
  drain,
  families,
  LO,
  names,
  openSender,
  sysctl,
  testHearing,
  testRefusals,
} from "../support/multicast_cases.ts";
import { requires, testIf } from "../support/require.ts";

const WAIT = { timeoutMs: 5000 };
const SHARED = { reuseAddress: true };

const [group4] = families[0].groups;
const [group6] = families[1].groups;

testHearing(families[0], testIf(undefined));
for (const each of families) testRefusals(each);

test("an IpSocket is what can join a group, and nobody makes one", () => {
  const join = (socket: IpSocket): void => socket.join(group4, { interface: LO });
  using udp = UdpSocket.bind("0.0.0.0:0");
  using second = udp.duplicate();
  for (const socket of [udp, second]) expect(socket).toBeInstanceOf(IpSocket);
  join(udp);
  expect(names(second.memberships)).toEqual([group4]);
  // One that nobody has given a class has no such calls.
  using plain = Socket.adopt(udp.descriptor);
  expect(plain).not.toBeInstanceOf(IpSocket);
  // @ts-expect-error: so say its types.
  expect(caught(() => join(plain))).toBeInstanceOf(TypeError);
  expect(TcpSocket.prototype).not.toBeInstanceOf(IpSocket);
  const Made = IpSocket as unknown as new (parts?: object) => IpSocket;
  for (const parts of [undefined, {}, { descriptor: udp.descriptor }])
    expect(caught(() => new Made(parts)).message).toStartWith("Cannot construct a socket");
});

test("a mapped group and a mapped source are IPv4's, on sockets of both families", () => {
  for (const address of ["0.0.0.0:0", "[::]:0"]) {
    using member = UdpSocket.bind(address);
    using sender = openSender("127.0.0.1");
    member.join(`::ffff:${group4}`, {
      interface: "::ffff:127.0.0.1",
      source: "::ffff:127.0.0.1",
    });
    sender.sendToSync("mapped", `${group4}:${member.localAddress.port}`);
    expect(drain(member)).toEqual(["mapped"]);
    expect(names(member.memberships)).toEqual([group4]);
    member.leave(group4, { source: "127.0.0.1" });
    expect(member.memberships).toEqual([]);
  }
});

test("groups of a family that the socket does not carry are refused: it would never hear them", () => {
  using only6 = UdpSocket.bind("[::]:0", { ipv6Only: true });
  using only4 = UdpSocket.bind("0.0.0.0:0");
  for (const [socket, group, hint] of [
    [only6, group4, "ipv6Only"],
    [only6, `::ffff:${group4}`, "ipv6Only"],
    [only4, group6, "An IPv4 socket hears IPv4 groups only"],
  ] as const) {
    for (const run of [
      () => socket.join(group, { interface: LO }),
      () => socket.leave(group, { interface: LO }),
      () => socket.sourceFilter(group, { interface: LO }),
      () => socket.setSourceFilter(group, { mode: "exclude", sources: [] }, { interface: LO }),
    ]) {
      const error = systemErrorOf(run);
      expect(error.code).toBe("EAFNOSUPPORT");
      expect(error.hint).toContain(hint);
    }
  }
  expect(only6.getOption(Ipv6Option.multicastAll)).toBe(true);
  only6.join(group6, { interface: LO });
  expect(names(only6.memberships)).toEqual([group6]);
});

test("an interface that is not there is named by what was asked for", () => {
  using socket = UdpSocket.bind("0.0.0.0:0");
  const choose = (where: string | number) => () => {
    socket.multicastInterface = where as number;
  };
  for (const run of [
    () => socket.join(group4, { interface: "bs-none" }),
    () => socket.leave(group4, { interface: "bs-none" }),
    choose("bs-none"),
    () => memberships({ interface: "bs-none" }),
  ])
    expect(run).toThrow(/^\w+ ENODEV bs-none: no such device$/);
  for (const run of [() => socket.join(group4, { interface: 99_999 }), choose(99_999)])
    expect(systemErrorOf(run).hint).toStartWith("There is no such interface as 99999, or ");
  {
    // It has gone between the two calls.
    using _ = replaceLibc("setsockopt", () => () => failWith(ENODEV));
    expect(systemErrorOf(choose("lo")).hint).toStartWith(
      `There is no such interface as lo (${LO})`,
    );
  }
});

test("too many IPv4 groups are ENOBUFS with the sysctl's name, and the others stay", () => {
  using member = UdpSocket.bind("0.0.0.0:0");
  const max = Math.min(sysctl("ipv4/igmp_max_memberships", 20), 200);
  for (let i = 0; i < max; i++) member.join(`239.192.4.${i}`, { interface: LO });
  if (max < 200) {
    const error = systemErrorOf(() => member.join("239.192.5.1", { interface: LO }));
    expect([error.code, error.hint]).toEqual([
      "ENOBUFS",
      expect.stringContaining("igmp_max_memberships"),
    ]);
  }
  expect(member.memberships.length).toBe(max);
  // Those that were left make room.
  member.leave("239.192.4.0");
  member.join("239.192.5.1", { interface: LO });
  expect(member.memberships.length).toBe(max);
});

test("memberships() refuses a family that is none", () => {
  for (const family of ["ipv5", 4, null])
    expect(caught(() => memberships({ family } as never))).toBeInstanceOf(TypeError);
  expect(() => memberships(null as never)).toThrow(TypeError);
});

testIf(requires("ip"))("memberships() tells what ip-maddress(8) does", () => {
  using member = UdpSocket.bind("[::]:0");
  member.join(group4, { interface: "lo" });
  member.join(`${group6}%lo`);
  const list = () =>
    memberships()
      .map((each) => `${each.interfaceIndex} ${each.interface} ${each.group.host} ${each.users}`)
      .sort();
  let [before, shown, after]: string[][] = [[], [], []];
  do {
    before = list();
    shown = showMemberships();
    after = list();
    // Others may join meanwhile: then they are asked again.
  } while (!Bun.deepEquals(before, after));
  expect(before).toEqual(shown.sort());
  expect(before).toContain(`${LO} lo ${group4} 1`);
  expect(before).toContain(`${LO} lo ${group6} 1`);
});

interface Row {
  readonly ifindex: number;
  readonly ifname: string;
  readonly maddr: readonly {
    readonly family?: string;
    readonly address?: string;
    readonly users?: number;
  }[];
}

function showMemberships(): string[] {
  const { stdout } = Bun.spawnSync(["ip", "-j", "maddr", "show"]);
  return (JSON.parse(stdout.toString()) as Row[]).flatMap(({ ifindex, ifname, maddr }) =>
    maddr
      .filter(({ family }) => family === "inet" || family === "inet6")
      .map(({ address, users = 1 }) => `${ifindex} ${ifname} ${address} ${users}`),
  );
}

test("a failure of the calls is told by its name, and the group is not remembered", () => {
  using member = UdpSocket.bind("0.0.0.0:0");
  for (const [entry, code, errno] of [
    ["setsockopt", "EADDRNOTAVAIL", EADDRNOTAVAIL],
    ["ioctl", "ENODEV", ENODEV],
    ["getsockopt", "EMFILE", EMFILE],
  ] as const) {
    using _ = replaceLibc(entry, () => () => failWith(errno));
    const error = systemErrorOf(() => member.join(group4, { interface: "lo" }));
    expect([error.code, error.syscall]).toEqual([code, entry]);
  }
  expect(member.memberships).toEqual([]);
});

describe("broadcast over lo", () => {
  const TO_ALL = "127.255.255.255";

  test("without the option it is EACCES with the remedy, in a batch for that datagram only", () => {
    using server = UdpSocket.bind("0.0.0.0:0");
    const { port } = server.localAddress;
    using client = UdpSocket.open("ipv4");
    const error = systemErrorOf(() => client.sendToSync("x", `${TO_ALL}:${port}`));
    expect([error.code, error.hint]).toEqual([
      "EACCES",
      expect.stringContaining("broadcast: true"),
    ]);
    using batch = new DatagramBatch({ capacity: 3 });
    batch.count = 3;
    for (let i = 0; i < 3; i++) {
      batch.write(i, `${i}`);
      batch.setAddress(i, `${i === 1 ? TO_ALL : "127.0.0.1"}:${port}`);
    }
    expect([client.sendBatchSync(batch), batch.failed, batch.failure(1)]).toEqual([2, 1, "EACCES"]);
    expect(drain(server)).toEqual(["0", "2"]);
  });

  test("a socket bound to the broadcast address hears broadcasts only, and answers as a host", () => {
    using listener = UdpSocket.bind(`${TO_ALL}:0`);
    const { port } = listener.localAddress;
    using client = UdpSocket.open("ipv4", { broadcast: true });
    client.sendToSync("to all", `${TO_ALL}:${port}`);
    client.sendToSync("to one", `127.0.0.1:${port}`);
    const target = new Uint8Array(100);
    const { length, address } = listener.receiveFromSync(target, WAIT);
    expect(Buffer.from(target.subarray(0, length)).toString()).toBe("to all");
    expect(drain(listener)).toEqual([]);
    listener.sendToSync("answer", address);
    const answer = client.receiveFromSync(target, WAIT);
    expect([answer.length, `${answer.address}`]).toEqual([6, `127.0.0.1:${port}`]);
  });

  test("every socket of the port hears a broadcast, and connect() takes one with the option", () => {
    using first = UdpSocket.bind("0.0.0.0:0", SHARED);
    using second = UdpSocket.bind(`0.0.0.0:${first.localAddress.port}`, SHARED);
    using client = UdpSocket.open("ipv4", { broadcast: true });
    client.connectSync(`${TO_ALL}:${first.localAddress.port}`);
    client.sendSync("all");
    expect([drain(first), drain(second)]).toEqual([["all"], ["all"]]);
  });
});
