/**
 * Multicast and broadcast between two network namespaces that two cables connect, with python3 and
 * socat as members and senders.
 */
import { afterAll, beforeAll, describe, expect } from "bun:test";
import {
  IpOption,
  Ipv6Option,
  interfaceIndex,
  memberships,
  SocketOption,
  UdpSocket,
} from "bun-sockets";
import { systemErrorOf } from "../support/errors.ts";
import { drain, families, LO, names, testHearing } from "../support/multicast_cases.ts";
import { ip, makeNamespace, type Namespace } from "../support/namespaces.ts";
import { requires, testIf } from "../support/require.ts";

const WAIT = { timeoutMs: 5000 };
/** The ends of the two cables in this namespace, and in the other one. */
const NEAR = ["bs-mc-0", "bs-mc-1"] as const;
const FAR = ["bs-mc-far0", "bs-mc-far1"] as const;

const missing =
  process.env["BUN_SOCKETS_NAMESPACE"] === "1"
    ? requires("ip", "unshare", "nsenter", "python3", "socat")
    : "needs a network namespace of its own";
const namespaced = testIf(missing);

interface Version {
  readonly family: "ipv4" | "ipv6";
  readonly wildcard: string;
  readonly group: string;
  readonly other: string;
  /** Addresses of the near ends of the cables, and of the far ones. */
  readonly near: readonly [string, string];
  readonly far: readonly [string, string];
  /** A second address of the far end of the first cable. */
  readonly second: string;
}

const versions: readonly Version[] = [
  {
    family: "ipv4",
    wildcard: "0.0.0.0",
    group: "239.192.7.1",
    other: "239.192.7.2",
    near: ["192.0.2.1", "198.51.100.1"],
    far: ["192.0.2.2", "198.51.100.2"],
    second: "192.0.2.3",
  },
  {
    family: "ipv6",
    wildcard: "[::]",
    group: "ff15::7:1",
    other: "ff15::7:2",
    near: ["2001:db8::1", "2001:db8:1::1"],
    far: ["2001:db8::2", "2001:db8:1::2"],
    second: "2001:db8::3",
  },
];

/** A second IPv4 address of the near end of the first cable. */
const THIRD = "192.0.2.9";

let far: Namespace;
let empty: Namespace;

beforeAll(() => {
  if (missing !== undefined) return;
  far = makeNamespace();
  empty = makeNamespace();
  // The indexes of the two namespaces are not to be the same.
  far.ip("link", "add", "bs-mc-extra", "type", "veth", "peer", "name", "bs-mc-extra2");
  for (const i of [0, 1] as const) {
    const peer = ["peer", "name", FAR[i], "netns", `${far.processId}`];
    ip("link", "add", NEAR[i], "type", "veth", ...peer);
    const [four, six] = versions as [Version, Version];
    const ends = [
      [ip, NEAR[i], four.near[i], six.near[i], "fe80::1"],
      [far.ip, FAR[i], four.far[i], six.far[i], "fe80::2"],
    ] as const;
    for (const [run, link, host4, host6, local] of ends) {
      run("link", "set", link, "addrgenmode", "none");
      run("link", "set", link, "up");
      run("addr", "add", `${host4}/24`, "brd", "+", "dev", link);
      run("-6", "addr", "add", `${host6}/64`, "dev", link, "nodad");
      run("-6", "addr", "add", `${local}/64`, "dev", link, "nodad");
    }
  }
  ip("addr", "add", `${THIRD}/24`, "dev", NEAR[0]);
  far.ip("addr", "add", "192.0.2.3/24", "dev", FAR[0]);
  far.ip("-6", "addr", "add", "2001:db8::3/64", "dev", FAR[0], "nodad");
  peer = new Stranger(["python3", "-c", PEER]);
  // For what is said of the loopback interface.
  ip("-6", "route", "add", "local", "ff12::/16", "dev", "lo");
});

afterAll(() => {
  if (missing !== undefined) return;
  peer[Symbol.dispose]();
  for (const link of NEAR) ip("link", "del", link);
  far[Symbol.dispose]();
  empty[Symbol.dispose]();
});

const at = (host: string, port: number) =>
  host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`;

// Does in the other namespace what it is told on its input: opens members, and sends. It tells what
// each member hears: the text, the sender and the TTL.
const PEER = `
import json, select, socket, struct, sys
members = {}
def option(six, four6, four4): return four6 if six else four4
def storage(host):
    six = ":" in host
    family = socket.AF_INET6 if six else socket.AF_INET
    packed = socket.inet_pton(family, host)
    if six: body = struct.pack("=HHI16sI", family, 0, 0, packed, 0)
    else: body = struct.pack("=HH4s", family, 0, packed)
    return body.ljust(128, b"\\0")
def open_socket(host):
    six = ":" in host
    s = socket.socket(socket.AF_INET6 if six else socket.AF_INET, socket.SOCK_DGRAM)
    return six, socket.IPPROTO_IPV6 if six else socket.IPPROTO_IP, s
def member(id, group, link, source, bound):
    six, level, s = open_socket(group)
    s.setsockopt(level, 51 if six else 12, 1)
    s.setsockopt(level, 29 if six else 49, 0)
    s.bind((bound, 0))
    if link:
        head = struct.pack("=II", socket.if_nametoindex(link), 0)
        if source: s.setsockopt(level, 46, head + storage(group) + storage(source))
        else: s.setsockopt(level, 42, head + storage(group))
    members[id] = s
    return s.getsockname()[1]
def send(source, link, to, port, texts):
    six, level, s = open_socket(to)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
    if six: s.setsockopt(level, socket.IPV6_MULTICAST_IF, socket.if_nametoindex(link))
    else: s.setsockopt(level, socket.IP_MULTICAST_IF, socket.inet_aton(source))
    s.bind((source, 0))
    for text in texts: s.sendto(text.encode(), (to, port))
    return len(texts)
def say(**what): print(json.dumps(what), flush=True)
while True:
    ready, _, _ = select.select([sys.stdin, *members.values()], [], [])
    for id, s in list(members.items()):
        if s not in ready: continue
        data, controls, _, sender = s.recvmsg(2048, 256)
        ttl = struct.unpack("=i", controls[0][2][:4])[0]
        say(id=id, heard=f"{data.decode()} {sender[0]} {ttl}")
    if sys.stdin in ready:
        line = sys.stdin.readline()
        if not line: break
        call, values = json.loads(line)
        if call == "close": say(reply=members.pop(values[0]).close() or 0)
        else: say(reply=(member if call == "member" else send)(*values))
`;

/** The lines of a program in the other namespace. */
class Stranger implements Disposable {
  readonly child: Bun.Subprocess<"pipe", "pipe", "inherit">;
  readonly #chunks: AsyncIterator<Uint8Array>;
  #text = "";

  constructor(command: readonly string[]) {
    this.child = Bun.spawn([...far.prefix, ...command], {
      stdin: "pipe",
      stdout: "pipe",
      stderr: "inherit",
    });
    this.#chunks = this.child.stdout[Symbol.asyncIterator]();
  }

  async line(): Promise<string> {
    for (;;) {
      const end = this.#text.indexOf("\n");
      if (end >= 0) {
        const line = this.#text.slice(0, end);
        this.#text = this.#text.slice(end + 1);
        return line;
      }
      const { done, value } = await this.#chunks.next();
      if (done) throw new Error(`The program has ended, after ${JSON.stringify(this.#text)}`);
      this.#text += Buffer.from(value).toString();
    }
  }

  [Symbol.dispose](): void {
    this.child.kill();
  }
}

/** What the other side tells: an answer, or what a member has heard. */
interface Told {
  readonly reply?: number;
  readonly id?: number;
  readonly heard?: string;
}

let peer: Stranger;
let ids = 0;
const heard = new Map<number, string[]>();

async function listen(isMeant: (told: Told) => boolean): Promise<Told> {
  for (;;) {
    const told = JSON.parse(await peer.line()) as Told;
    if (told.heard !== undefined) heard.get(told.id as number)?.push(told.heard);
    if (isMeant(told)) return told;
  }
}

async function ask(call: "member" | "send" | "close", ...values: unknown[]): Promise<number> {
  peer.child.stdin.write(`${JSON.stringify([call, values])}\n`);
  peer.child.stdin.flush();
  return (await listen(({ reply }) => reply !== undefined)).reply as number;
}

/** A member in the other namespace. */
interface Member extends AsyncDisposable {
  readonly port: number;
  /** The next that it hears. */
  next(): Promise<string>;
}

async function openMember(
  group: string,
  {
    link = FAR[0],
    source = "",
    bound = "",
  }: { link?: string; source?: string; bound?: string } = {},
): Promise<Member> {
  const id = ids++;
  const queue: string[] = [];
  heard.set(id, queue);
  return {
    port: await ask("member", id, group, link, source, bound),
    next: async () => {
      if (queue.length === 0) await listen(() => queue.length > 0);
      return queue.shift() as string;
    },
    [Symbol.asyncDispose]: async () => {
      heard.delete(id);
      await ask("close", id);
    },
  };
}

/** Sends from the other namespace, by one of the cables. */
function sendFromFar(
  source: string,
  to: string,
  port: number,
  texts: readonly string[],
  cable = 0,
) {
  return ask("send", source, FAR[cable], to, port, texts);
}

function sendBySocat(version: Version, port: number, text: string): void {
  const { family, group, far: hosts, second } = version;
  const target =
    family === "ipv4"
      ? `UDP4-DATAGRAM:${group}:${port},bind=${second},ip-multicast-if=${hosts[0]}`
      : `UDP6-DATAGRAM:[${group}]:${port},bind=[${second}]`;
  const command = [...far.prefix, "socat", "-u", "STDIN", target];
  const { exitCode, stderr } = Bun.spawnSync(command, { stdin: Buffer.from(text) });
  if (exitCode !== 0) throw new Error(stderr.toString());
}

/** The next one, and who sent it. */
function next(socket: UdpSocket): string {
  const target = new Uint8Array(100);
  const { length, address } = socket.receiveFromSync(target, WAIT);
  return `${Buffer.from(target.subarray(0, length))} ${address.host}`;
}

testHearing(families[1], namespaced);

namespaced("an IPv6 socket joins groups of both families, and sends to both", () => {
  using member = UdpSocket.bind("[::]:0");
  using only6 = UdpSocket.bind("[::]:0", { ipv6Only: true });
  using sender = UdpSocket.open("ipv6");
  sender.multicastInterface = "lo";
  const { port } = member.localAddress;
  member.join("239.192.3.7", { interface: "lo" });
  member.join("ff12::3:7%lo");
  only6.join("ff12::3:7%lo");
  sender.sendToSync("four", `239.192.3.7:${port}`);
  sender.sendToSync("six", `[ff12::3:7]:${port}`);
  sender.sendToSync("only six", `[ff12::3:7]:${only6.localAddress.port}`);
  expect(drain(member)).toEqual(["four", "six"]);
  expect(drain(only6)).toEqual(["only six"]);
  expect(names(member.memberships)).toEqual(["239.192.3.7", "ff12::3:7"]);
});

for (const version of versions) {
  const { family, wildcard, group, other, near, far: hosts, second } = version;
  const on = { interface: NEAR[0] };
  const open = () => UdpSocket.bind(`${wildcard}:0`);

  namespaced(`join(): python3 and socat of the other namespace are heard (${family})`, async () => {
    using socket = open();
    const { port } = socket.localAddress;
    socket.join(group, on);
    await sendFromFar(hosts[0], group, port, ["by python3"]);
    expect(next(socket)).toBe(`by python3 ${hosts[0]}`);
    if (family === "ipv6")
      far.ip("-6", "route", "add", "multicast", "ff15::7:1", "dev", FAR[0], "table", "local");
    sendBySocat(version, port, "by socat");
    expect(next(socket)).toBe(`by socat ${second}`);
    // On the other interface it was not joined.
    await sendFromFar(hosts[1], group, port, ["unheard"], 1);
    await sendFromFar(hosts[0], group, port, ["last"]);
    expect(next(socket)).toBe(`last ${hosts[0]}`);
    expect(drain(socket)).toEqual([]);
  });

  namespaced(
    `join() with sources, and sets of them: only those are heard (${family})`,
    async () => {
      using socket = open();
      const { port } = socket.localAddress;
      const send = async (mark: string) => {
        await sendFromFar(hosts[0], group, port, [`${mark} first`]);
        await sendFromFar(second, group, port, [`${mark} second`]);
        // After both, by another way: what is not in front of it was not heard.
        await sendFromFar(hosts[0], near[0], port, ["end"]);
        const texts: string[] = [];
        for (let text = next(socket); !text.startsWith("end"); text = next(socket))
          texts.push(text.replace(/ \S+$/, ""));
        return texts;
      };
      socket.join(group, { ...on, source: hosts[0] });
      expect(await send("1")).toEqual(["1 first"]);
      socket.join(group, { ...on, source: second });
      expect(await send("2")).toEqual(["2 first", "2 second"]);
      socket.leave(group, { ...on, source: hosts[0] });
      expect(await send("3")).toEqual(["3 second"]);
      socket.setSourceFilter(group, { mode: "exclude", sources: [] }, on);
      expect(await send("4")).toEqual(["4 first", "4 second"]);
      socket.blockSource(group, second, on);
      expect(await send("5")).toEqual(["5 first"]);
      socket.unblockSource(group, second, on);
      socket.blockSource(group, hosts[0], on);
      expect(await send("6")).toEqual(["6 second"]);
      socket.setSourceFilter(group, { mode: "include", sources: [hosts[0], second] }, on);
      expect(await send("7")).toEqual(["7 first", "7 second"]);
      socket.leave(group, on);
      expect(await send("8")).toEqual([]);
    },
  );

  namespaced(
    `a send goes out by multicastInterface, and python3 hears it (${family})`,
    async () => {
      // Two groups: of IPv6 Linux hears one on each interface where anybody has joined it.
      await using first = await openMember(group);
      await using last = await openMember(other, { link: FAR[1] });
      using sender = UdpSocket.open(family);
      const send = (where: string | number, text: string) => {
        sender.multicastInterface = where;
        sender.sendToSync(text, at(group, first.port));
        sender.sendToSync(text, at(other, last.port));
      };
      send(NEAR[0], "by name");
      send(interfaceIndex(NEAR[1]), "by index");
      send(near[0], "by address");
      send(near[1], "by address");
      expect(sender.multicastInterface).toBe(interfaceIndex(NEAR[1]));
      expect(await first.next()).toBe(`by name ${near[0]} 1`);
      expect(await first.next()).toBe(`by address ${near[0]} 1`);
      expect(await last.next()).toBe(`by index ${near[1]} 1`);
      expect(await last.next()).toBe(`by address ${near[1]} 1`);
    },
  );

  namespaced(
    `python3 that joined one source hears ours from that address only (${family})`,
    async () => {
      await using member = await openMember(group, { source: near[0] });
      using right = UdpSocket.bind(at(near[0], 0));
      using wrong = UdpSocket.bind(at(near[1], 0));
      for (const socket of [wrong, right]) {
        socket.multicastInterface = NEAR[0];
        socket.sendToSync("hello", at(group, member.port));
      }
      expect(await member.next()).toBe(`hello ${near[0]} 1`);
    },
  );

  namespaced(`socat hears a group that it joined (${family})`, async () => {
    using probe = far.inside(() => UdpSocket.bind(`${wildcard}:0`));
    const { port } = probe.localAddress;
    probe.close();
    const address =
      family === "ipv4"
        ? `UDP4-RECV:${port},ip-add-membership=${group}:${FAR[0]}`
        : `UDP6-RECV:${port},ipv6-join-group=[${group}]:${FAR[0]}`;
    using member = new Stranger(["socat", "-u", "-b100", address, "STDOUT"]);
    using sender = UdpSocket.open(family);
    sender.multicastInterface = NEAR[0];
    while (!maddrOf(far).includes(group)) await Bun.sleep(1);
    sender.sendToSync("to socat\n", at(group, port));
    expect(await member.line()).toBe("to socat");
  });

  namespaced(`multicastHops: 1 at first, 0 stays on this machine (${family})`, async () => {
    await using member = await openMember(group);
    using home = UdpSocket.bind(`${wildcard}:${member.port}`);
    home.join(group, on);
    using sender = UdpSocket.open(family);
    sender.multicastInterface = NEAR[0];
    for (const hops of [1, 0, 5]) {
      sender.multicastHops = hops;
      sender.sendToSync(`${hops} hops`, at(group, member.port));
    }
    expect(await member.next()).toBe(`1 hops ${near[0]} 1`);
    expect(await member.next()).toBe(`5 hops ${near[0]} 5`);
    expect([next(home), next(home), next(home)]).toEqual(
      [1, 0, 5].map((hops) => `${hops} hops ${near[0]}`),
    );
  });

  namespaced(
    `multicastLoop: members on this machine hear nothing when it is off (${family})`,
    async () => {
      await using member = await openMember(group);
      using home = UdpSocket.bind(`${wildcard}:${member.port}`);
      home.join(group, on);
      using sender = UdpSocket.open(family);
      sender.multicastInterface = NEAR[0];
      for (const isOn of [true, false]) {
        sender.multicastLoop = isOn;
        sender.sendToSync(`loop ${isOn}`, at(group, member.port));
      }
      expect(await member.next()).toBe(`loop true ${near[0]} 1`);
      expect(await member.next()).toBe(`loop false ${near[0]} 1`);
      expect(next(home)).toBe(`loop true ${near[0]}`);
      expect(drain(home)).toEqual([]);
    },
  );

  namespaced(
    `a group of the network that another socket joined is not ours (${family})`,
    async () => {
      using stranger = UdpSocket.bind(`${wildcard}:0`, { reuseAddress: true });
      const { port } = stranger.localAddress;
      const share = () => UdpSocket.bind(`${wildcard}:${port}`, { reuseAddress: true });
      using member = share();
      using curious = share();
      stranger.join(group, on);
      member.join(other, on);
      curious.join(other, { ...on, hearsAll: true });
      await sendFromFar(hosts[0], group, port, ["theirs"]);
      await sendFromFar(hosts[0], other, port, ["ours"]);
      expect(next(stranger)).toBe(`theirs ${hosts[0]}`);
      expect(next(member)).toBe(`ours ${hosts[0]}`);
      expect([next(curious), next(curious)]).toEqual([`theirs ${hosts[0]}`, `ours ${hosts[0]}`]);
      expect([...drain(stranger), ...drain(member), ...drain(curious)]).toEqual([]);
    },
  );

  namespaced(`memberships() of both namespaces are those of ip-maddress(8) (${family})`, () => {
    using socket = open();
    using there = far.inside(open);
    socket.join(group, on);
    there.join(other, { interface: FAR[1] });
    for (const [list, text] of [
      [memberships({ family }), ip("maddr", "show")],
      [far.inside(() => memberships({ family })), far.ip("maddr", "show")],
    ] as const) {
      const shown = list.map((each) => `${each.interface} ${each.group.host} ${each.users}`);
      expect(shown.sort()).toEqual(maddr(text, family).sort());
    }
    expect(names(memberships({ interface: NEAR[0] }))).toContain(group);
    expect(names(memberships({ interface: NEAR[1] }))).not.toContain(group);
    expect(names(far.inside(() => memberships({ interface: FAR[1] })))).toContain(other);
  });

  namespaced(`a socket of another namespace finds interfaces there, not here (${family})`, () => {
    using there = far.inside(open);
    const index = far.inside(() => interfaceIndex(FAR[0]));
    expect(() => interfaceIndex(FAR[0])).toThrow("ENODEV");
    // "lo" has one index everywhere; this one is another here and there.
    ip("link", "add", "bs-mc-extra", "type", "veth", "peer", "name", "bs-mc-extra2");
    try {
      const extra = far.inside(() => interfaceIndex("bs-mc-extra"));
      expect(interfaceIndex("bs-mc-extra")).not.toBe(extra);
      there.join(other, { interface: "bs-mc-extra" });
      expect(there.memberships).toMatchObject([{ interfaceIndex: extra }]);
      there.leave(other);
    } finally {
      ip("link", "del", "bs-mc-extra");
    }
    there.join(group, { interface: FAR[0] });
    expect(there.memberships).toMatchObject([{ interfaceIndex: index }]);
    there.multicastInterface = FAR[0];
    expect(there.multicastInterface).toBe(index);
    for (const run of [
      () => there.join(other, { interface: NEAR[0] }),
      () => {
        there.multicastInterface = NEAR[0];
      },
    ]) {
      expect(systemErrorOf(run)).toMatchObject({ code: "ENODEV", syscall: "ioctl" });
    }
    const byAddress = () => there.join(other, { interface: hosts[0] });
    if (family === "ipv4") {
      byAddress();
      expect(there.memberships.map(({ interfaceIndex: each }) => each)).toEqual([index, index]);
      there.multicastInterface = hosts[1];
      expect(there.multicastInterface).toBe(far.inside(() => interfaceIndex(FAR[1])));
    } else {
      const error = systemErrorOf(byAddress);
      expect(error.code).toBe("EADDRNOTAVAIL");
      expect(error.hint).toContain("in another network namespace");
      there.join(`${other}%${FAR[0]}`);
      expect(names(there.memberships)).toEqual([group, other]);
      there.leave(`${other}%${FAR[0]}`);
    }
    // An address of this namespace is none of that one.
    const foreign = systemErrorOf(() => there.join(other, { interface: near[0] }));
    expect(foreign.code).toBe("EADDRNOTAVAIL");
    using sender = UdpSocket.open(family);
    sender.multicastInterface = NEAR[0];
    sender.sendToSync("into the other one", at(group, there.localAddress.port));
    expect(next(there)).toBe(`into the other one ${near[0]}`);
  });

  namespaced(
    `a group is heard on its interface only, by IPv6 where anybody joined (${family})`,
    async () => {
      using socket = open();
      using other6 = open();
      const { port } = socket.localAddress;
      socket.join(group, { interface: NEAR[0] });
      await sendFromFar(hosts[1], group, port, ["nobody joined"], 1);
      other6.join(group, { interface: NEAR[1] });
      await sendFromFar(hosts[1], group, port, ["another joined"], 1);
      await sendFromFar(hosts[0], group, port, ["last"]);
      if (family === "ipv6") expect(next(socket)).toBe(`another joined ${hosts[1]}`);
      expect(next(socket)).toBe(`last ${hosts[0]}`);
    },
  );

  namespaced(`multicastInterface of a socket bound to another one is refused (${family})`, () => {
    using socket = UdpSocket.open(family);
    socket.setOption(SocketOption.bindToDevice, NEAR[0]);
    const error = systemErrorOf(() => {
      socket.multicastInterface = NEAR[1];
    });
    expect([error.code, error.hint]).toEqual([
      "EINVAL",
      expect.stringContaining("bound to another"),
    ]);
    socket.multicastInterface = NEAR[0];
    expect(socket.multicastInterface).toBe(interfaceIndex(NEAR[0]));
  });

  namespaced(`without a route and an interface it is ENODEV with a hint (${family})`, () => {
    using lonely = empty.inside(open);
    const error = systemErrorOf(() => lonely.join(group));
    expect([error.code, error.address]).toEqual(["ENODEV", group]);
    expect(error.hint).toContain('{ interface: "eth0" }');
    expect(systemErrorOf(() => lonely.join(group, { interface: 99 })).hint).toStartWith(
      "There is no such interface",
    );
    lonely.join(group, { interface: LO });
    // Where it was joined is known.
    expect(lonely.sourceFilter(group)).toEqual({ mode: "exclude", sources: [] });
    lonely.leave(group);
    expect(lonely.memberships).toEqual([]);
  });

  namespaced(
    `without an interface the kernel's route says which, and leave() knows (${family})`,
    () => {
      const route =
        family === "ipv4"
          ? ["239.192.0.0/16", "dev", NEAR[1]]
          : ["multicast", "ff15::/16", "dev", NEAR[1], "table", "local"];
      ip(`-${family.at(-1)}`, "route", "add", ...route);
      const index = interfaceIndex(NEAR[1]);
      using socket = open();
      try {
        // Joined elsewhere already: that is another membership, which IPv6 takes for the same.
        if (family === "ipv4") socket.join(group, { interface: LO });
        socket.join(group);
        if (family === "ipv6") socket.join(group, { interface: LO });
        expect(socket.memberships.map((each) => each.interfaceIndex).sort()).toEqual([LO, index]);
        expect(systemErrorOf(() => socket.join(group)).code).toBe("EADDRINUSE");
        socket.blockSource(group, hosts[1]);
        expect(socket.sourceFilter(group)).toMatchObject({ sources: [{ host: hosts[1] }] });
        expect(socket.sourceFilter(group, { interface: LO }).sources).toEqual([]);
        expect(socket.sourceFilter(group, { interface: NEAR[1] }).sources).toHaveLength(1);
      } finally {
        ip(`-${family.at(-1)}`, "route", "del", ...route);
      }
      // The route has gone; the membership has not.
      socket.leave(group);
      expect(socket.memberships).toMatchObject([{ interfaceIndex: LO }]);
      socket.leave(group);
      expect(socket.memberships).toEqual([]);
    },
  );
}

namespaced(
  "multicastInterface by an IPv4 address makes it the sender's, where there are several",
  async () => {
    await using member = await openMember("239.192.7.1");
    for (const family of ["ipv4", "ipv6"] as const) {
      using sender = UdpSocket.open(family);
      for (const where of [THIRD, "192.0.2.1", NEAR[0]]) {
        sender.multicastInterface = where;
        expect(sender.multicastInterface).toBe(interfaceIndex(NEAR[0]));
        sender.sendToSync("x", `239.192.7.1:${member.port}`);
        expect(await member.next()).toBe(`x ${where === THIRD ? THIRD : "192.0.2.1"} 1`);
      }
    }
  },
);

namespaced(
  "memberships() of a Worker are those of the namespace that its thread is in",
  async () => {
    const path = (file: string) =>
      JSON.stringify(new URL(`../../lib/${file}`, import.meta.url).href);
    const source = `
    import { closeSync, openSync } from "node:fs";
    import { memberships } from ${path("index.ts")};
    import { CLONE_NEWNET, setns } from ${path("sys/index.ts")};
    const fd = openSync("/proc/${far.processId}/ns/net", "r");
    const result = setns(fd, CLONE_NEWNET);
    closeSync(fd);
    postMessage([result, memberships().map((each) => each.interface)]);
  `;
    const url = URL.createObjectURL(new Blob([source], { type: "text/javascript" }));
    const worker = new Worker(url);
    try {
      const [result, links] = await new Promise<[number, string[]]>((resolve, reject) => {
        worker.onmessage = ({ data }) => resolve(data);
        worker.onerror = ({ message }) => reject(new Error(message));
      });
      expect(result).toBe(0);
      expect(links).toContain(FAR[0]);
      expect(links).not.toContain(NEAR[0]);
      expect(memberships().map((each) => each.interface)).toContain(NEAR[0]);
    } finally {
      worker.terminate();
      URL.revokeObjectURL(url);
    }
  },
);

namespaced("an address of a link is an interface where it is one's only, or has its zone", () => {
  using socket = UdpSocket.bind("[::]:0");
  const error = systemErrorOf(() => socket.join("ff12::1", { interface: "fe80::1" }));
  expect([error.code, error.hint]).toEqual([
    "EADDRNOTAVAIL",
    "Several interfaces have it: give the zone, as in fe80::1%eth0",
  ]);
  for (const link of NEAR) socket.join("ff12::1", { interface: `fe80::1%${link}` });
  expect(socket.memberships.map((each) => each.interfaceIndex)).toEqual(
    NEAR.map((each) => interfaceIndex(each)),
  );
});

namespaced("an interface that goes takes its groups along, and memberships tells it", () => {
  ip("link", "add", "bs-mc-gone", "type", "veth", "peer", "name", "bs-mc-gone2");
  using socket = UdpSocket.bind("[::]:0");
  socket.join("239.192.7.9", { interface: "bs-mc-gone" });
  socket.join("ff15::7:9", { interface: "bs-mc-gone" });
  expect(socket.memberships).toHaveLength(2);
  const index = interfaceIndex("bs-mc-gone");
  ip("link", "del", "bs-mc-gone");
  for (const group of ["239.192.7.9", "ff15::7:9"]) {
    // The kernel keeps them for the socket until it leaves.
    if (names(socket.memberships).includes(group)) socket.leave(group, { interface: index });
  }
  expect(socket.memberships).toEqual([]);
});

describe("broadcast", () => {
  const DIRECTED = "192.0.2.255";
  const LIMITED = "255.255.255.255";

  namespaced("a directed broadcast reaches python3, with the permission only", async () => {
    await using member = await openMember("0.0.0.0", { link: "" });
    await using strict = await openMember("0.0.0.0", { link: "", bound: DIRECTED });
    using client = UdpSocket.bind("192.0.2.1:0");
    const error = systemErrorOf(() => client.sendToSync("x", `${DIRECTED}:${member.port}`));
    expect([error.code, error.syscall, error.destination]).toEqual([
      "EACCES",
      "sendto",
      `${DIRECTED}:${member.port}`,
    ]);
    expect(error.hint).toContain("{ broadcast: true }");
    expect(() => client.connectSync(`${DIRECTED}:${member.port}`)).toThrow("connect EACCES");
    client.setOption(SocketOption.broadcast, true);
    for (const { port } of [member, strict]) {
      client.sendToSync("to one", `192.0.2.2:${port}`);
      client.sendToSync("to all", `${DIRECTED}:${port}`);
    }
    expect(await member.next()).toBe("to one 192.0.2.1 64");
    expect(await member.next()).toBe("to all 192.0.2.1 64");
    expect(await strict.next()).toBe("to all 192.0.2.1 64");
  });

  namespaced(
    "a socket bound to the broadcast address hears python3's broadcasts only",
    async () => {
      using socket = UdpSocket.bind(`${DIRECTED}:0`);
      using limited = UdpSocket.bind(`${LIMITED}:0`, { broadcast: true });
      const { port } = socket.localAddress;
      await sendFromFar("192.0.2.2", "192.0.2.1", port, ["to one"]);
      await sendFromFar("192.0.2.2", DIRECTED, port, ["to all"]);
      expect(next(socket)).toBe("to all 192.0.2.2");
      expect(drain(socket)).toEqual([]);
      await sendFromFar("192.0.2.2", DIRECTED, limited.localAddress.port, ["directed"]);
      using there = far.inside(() => UdpSocket.open("ipv4", { broadcast: true }));
      there.setOption(SocketOption.bindToDevice, FAR[0]);
      there.sendToSync("limited", `${LIMITED}:${limited.localAddress.port}`);
      expect(next(limited)).toBe("limited 192.0.2.2");
      expect(drain(limited)).toEqual([]);
    },
  );

  namespaced("IP_UNICAST_IF says where the limited broadcast goes out", () => {
    using there = far.inside(() => UdpSocket.bind("0.0.0.0:0"));
    there.setOption(IpOption.receivePacketInfo, true);
    using client = UdpSocket.open("ipv4", { broadcast: true });
    const to = `${LIMITED}:${there.localAddress.port}`;
    expect(systemErrorOf(() => client.sendToSync("nowhere", to)).code).toBe("ENETUNREACH");
    for (const i of [0, 1, 0]) {
      client.setOption(IpOption.unicastInterfaceIndex, interfaceIndex(NEAR[i] as string));
      client.sendToSync(`by ${i}`, to);
      expect(next(there)).toBe(`by ${i} ${["192.0.2.1", "198.51.100.1"][i]}`);
    }
    client.setOption(IpOption.unicastInterfaceIndex, 0);
    expect(systemErrorOf(() => client.sendToSync("nowhere", to)).code).toBe("ENETUNREACH");
  });
});

namespaced("IPV6_UNICAST_IF says by which of two links an address goes that both have", () => {
  using first = far.inside(() => UdpSocket.bind(`[fe80::2%${FAR[0]}]:0`));
  const { port } = first.localAddress;
  using second = far.inside(() => UdpSocket.bind(`[fe80::2%${FAR[1]}]:${port}`));
  using client = UdpSocket.open("ipv6");
  for (const i of [0, 1]) {
    client.setOption(Ipv6Option.unicastInterfaceIndex, interfaceIndex(NEAR[i] as string));
    client.sendToSync(`by ${i}`, `[fe80::2]:${port}`);
  }
  expect(next(first)).toStartWith("by 0 fe80::1%");
  expect(next(second)).toStartWith("by 1 fe80::1%");
  expect([...drain(first), ...drain(second)]).toEqual([]);
});

namespaced("a closed socket of another namespace asks nobody: it is closed", () => {
  const there = far.inside(() => UdpSocket.bind("0.0.0.0:0"));
  there.close();
  expect(systemErrorOf(() => there.join("239.192.7.1", { interface: NEAR[0] })).code).toBe("EBADF");
});

function maddrOf(where: Namespace): string {
  return where.ip("maddr", "show");
}

/** The rows of ip-maddress(8): "interface group users". */
function maddr(text: string, family: "ipv4" | "ipv6"): string[] {
  const word = family === "ipv4" ? "inet" : "inet6";
  const rows: string[] = [];
  let name = "";
  for (const line of text.split("\n")) {
    const head = /^\d+:\s+(\S+)/.exec(line);
    if (head) name = head[1] as string;
    const [, group, users = "1"] =
      new RegExp(`^\\s+${word}\\s+(\\S+)(?: users (\\d+))?`).exec(line) ?? [];
    if (group !== undefined) rows.push(`${name} ${group} ${users}`);
  }
  return rows;
}
