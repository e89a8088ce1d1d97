/** Raw sockets over IPv4 and IPv6: what is in the packets, and who gets them. */
import { afterAll, afterEach, beforeAll, describe, expect } from "bun:test";
import { readFileSync, writeFileSync } from "node:fs";
import {
  DatagramBatch,
  Inet4Address,
  Inet6Address,
  type InetAddress,
  IpOption,
  IpSocket,
  Ipv6Option,
  interfaceIndex,
  Message,
  RawSocket,
  type RawSocketOptions,
  Socket,
  TimeoutError,
  UdpSocket,
} from "bun-sockets";
import { connect } from "bun-sockets/sys";
import { internetChecksum } from "../../lib/internal/echo.ts";
import { caught, systemErrorOf } from "../support/errors.ts";
import { ip, makeNamespace, type Namespace } from "../support/namespaces.ts";
import { requires, testIf } from "../support/require.ts";
import { ending, firstLine, randomPayload } from "../support/strangers.ts";
import { reasonOf, until } from "../support/waiting.ts";

const WAIT = { timeoutMs: 10_000 };
/** https://www.rfc-editor.org/rfc/rfc3692: for experiments. */
const PROTOCOL = 253;
const LINK = "bs-raw";
const MTU = 1400;

const missing =
  process.env["BUN_SOCKETS_NAMESPACE"] === "1"
    ? requires("ip", "unshare", "nsenter")
    : "needs a network namespace of its own";
const namespaced = testIf(missing);
const isWholeMachine = / 4294967295$/m.test(readFileSync("/proc/self/uid_map", "utf8"));
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
    other: "127.0.0.2",
    near: "10.94.1.1",
    peer: "10.94.1.2",
    group: "239.94.1.1",
    unrouted: "192.0.2.1",
    headerBytes: 20,
    most: 65_515,
    icmp: "icmp",
    echoRequest: Uint8Array.of(8, 0, 0xf7, 0xff, 0, 0, 0, 0),
  },
  {
    family: "ipv6",
    lo: "::1",
    other: "fd00:94::2",
    near: "2001:db8:94::1",
    peer: "2001:db8:94::2",
    group: "ff02::9494",
    unrouted: "2001:db8:ffff::1",
    headerBytes: 0,
    most: 65_535,
    icmp: "icmpv6",
    echoRequest: Uint8Array.of(128, 0, 0, 0, 0, 0, 0, 0),
  },
] as const;

let remote: Namespace | undefined;

beforeAll(async () => {
  if (missing !== undefined) return;
  const far = makeNamespace();
  remote = far;
  ip("addr", "add", "fd00:94::2/128", "dev", "lo", "nodad");
  ip(
    "link",
    "add",
    LINK,
    "mtu",
    `${MTU}`,
    "type",
    "veth",
    "peer",
    "name",
    LINK,
    "netns",
    `${far.processId}`,
  );
  // An address of the link that is being checked for duplicates sends nothing for a second or two.
  const readyAtOnce = () => {
    writeFileSync(`/proc/sys/net/ipv6/conf/${LINK}/accept_dad`, "0");
    writeFileSync(`/proc/sys/net/ipv6/conf/${LINK}/dad_transmits`, "0");
  };
  readyAtOnce();
  far.inside(() => {
    readyAtOnce();
    // Each packet that nobody there takes is answered, and a limit would leave some out.
    writeFileSync("/proc/sys/net/ipv4/icmp_ratemask", "0");
    writeFileSync("/proc/sys/net/ipv6/icmp/ratelimit", "0");
    // Before Linux 6.13 these are of the whole machine, and not everybody's to set.
    for (const name of ["icmp_msgs_burst", "icmp_msgs_per_sec"])
      try {
        writeFileSync(`/proc/sys/net/ipv4/${name}`, "10000");
      } catch {
        // Then it is as it is.
      }
  });
  for (const [run, host] of [
    [ip, 1],
    [far.ip, 2],
  ] as const) {
    run("addr", "add", `10.94.1.${host}/24`, "broadcast", "10.94.1.255", "dev", LINK);
    run("addr", "add", `2001:db8:94::${host}/64`, "dev", LINK, "nodad");
    run("link", "set", LINK, "up");
  }
  // The kernel takes up to a second to notice that a cable has two ends.
  for (const { family, near, peer, group } of families) {
    using here = RawSocket.bind(near, { protocol: PROTOCOL });
    using there = far.inside(() => RawSocket.bind(peer, { protocol: PROTOCOL }));
    using member = far.inside(() => RawSocket.open(family, { protocol: PROTOCOL }));
    member.join(group, { interface: far.inside(() => interfaceIndex(LINK)) });
    here.multicastInterface = LINK;
    for (const [from, to, receiver] of [
      [here, peer, there],
      [there, near, here],
      [here, group, member],
    ] as const)
      await until(() => {
        try {
          from.sendToSync("ready?", to);
        } catch {
          return false;
        }
        return receiver.tryReceive(new Uint8Array(100)) !== undefined;
      }, "the link is ready");
  }
});

afterAll(() => {
  if (missing !== undefined) return;
  ip("link", "del", LINK);
  remote?.[Symbol.dispose]();
});

const made = new Set<Disposable>();

/** Closes it after the test. */
function kept<Kept extends Disposable>(socket: Kept): Kept {
  made.add(socket);
  return socket;
}

afterEach(() => {
  for (const socket of made) socket[Symbol.dispose]();
  made.clear();
});

function open(family: "ipv4" | "ipv6", options: Partial<RawSocketOptions> = {}): RawSocket {
  return kept(RawSocket.open(family, { protocol: PROTOCOL, ...options }));
}

function bound(address: string, options: Partial<RawSocketOptions> = {}): RawSocket {
  return kept(RawSocket.bind(address, { protocol: PROTOCOL, ...options }));
}

/** The payload of the next packet, as text. */
function next(socket: RawSocket): string {
  const packet = socket.receiveBytesSync(65_535, WAIT);
  return Buffer.from(packet.subarray(socket.payloadOffset(packet))).toString();
}

/** An IPv4 header as a caller writes it, with nothing filled in but this. */
function header4(fields: {
  source?: string;
  to: string;
  id?: number;
  flags?: number;
  bytes?: number;
}) {
  const header = new Uint8Array(20);
  const view = new DataView(header.buffer);
  header[0] = 0x45;
  view.setUint16(2, fields.bytes ?? 0);
  view.setUint16(4, fields.id ?? 0);
  view.setUint16(6, fields.flags ?? 0);
  header[8] = 33;
  header[9] = PROTOCOL;
  header.set((fields.source ?? "0.0.0.0").split(".").map(Number), 12);
  header.set(fields.to.split(".").map(Number), 16);
  return header;
}

describe.each(families)("a RawSocket over $family", (one) => {
  const { family, lo, other, near, peer, headerBytes, unrouted } = one;
  const name = (what: string) => `${what} (${family})`;

  namespaced(name("receives packets of its protocol, with the header of IPv4 only"), () => {
    const receiver = open(family);
    const otherProtocol = open(family, { protocol: PROTOCOL + 1 });
    const sender = open(family);
    expect(sender.sendToSync("hello", lo)).toBe(5);
    const packet = new Uint8Array(100);
    const { length, address } = receiver.receiveFromSync(packet, WAIT);
    expect([length, `${address.host}`, address.port]).toEqual([headerBytes + 5, lo, 0]);
    expect(receiver.payloadOffset(packet)).toBe(headerBytes);
    expect(Buffer.from(packet.subarray(headerBytes, length)).toString()).toBe("hello");
    if (family === "ipv4") {
      expect([packet[0], packet[9]]).toEqual([0x45, PROTOCOL]);
      expect(internetChecksum(packet, 0, 20)).toBe(0);
    }
    expect(otherProtocol.tryReceive(packet)).toBeUndefined();
  });

  namespaced(name("has addresses without ports, and takes text without one"), async () => {
    const receiver = bound(lo);
    expect(`${receiver.localAddress}`).toBe(family === "ipv4" ? "127.0.0.1:0" : "[::1]:0");
    expect([receiver.remoteAddress, receiver.connected]).toEqual([undefined, false]);
    const sender = open(family);
    const Address = family === "ipv4" ? Inet4Address : Inet6Address;
    const withPort = family === "ipv4" ? "127.0.0.1:77" : "[::1]:77";
    for (const to of [lo, withPort, new Address(lo, 0), new Address(lo, 4321)]) {
      sender.sendToSync("text", to);
      expect(sender.trySendTo(Buffer.from("try!"), to)).toBe(4);
      expect(await sender.sendTo("promise", to)).toBe(7);
      expect([next(receiver), next(receiver), next(receiver)]).toEqual(["text", "try!", "promise"]);
    }
    expect(caught(() => sender.sendToSync("x", "localhost"))).toBeInstanceOf(TypeError);
    expect(await reasonOf(sender.sendTo("x", "localhost"))).toBeInstanceOf(TypeError);
    expect(await reasonOf(sender.connect("localhost"))).toBeInstanceOf(TypeError);
    expect(caught(() => bound("localhost"))).toBeInstanceOf(TypeError);
  });

  namespaced(name("bound to an address hears what is sent to that one"), () => {
    const first = bound(lo);
    const second = bound(other);
    const sender = open(family);
    sender.sendToSync("one", lo);
    sender.sendToSync("two", other);
    expect([next(first), next(second)]).toEqual(["one", "two"]);
    expect([first, second].map((each) => each.tryReceive(new Uint8Array(1)))).toEqual([
      undefined,
      undefined,
    ]);
    // And sends from there.
    second.sendToSync("three", lo);
    expect(first.receiveFromSync(new Uint8Array(100), WAIT).address.host).toBe(other);
    const error = systemErrorOf(() => bound(unrouted));
    expect(error).toMatchObject({ code: "EADDRNOTAVAIL", syscall: "bind", address: unrouted });
    expect(error.message).toStartWith(`bind EADDRNOTAVAIL ${unrouted}: `);
  });

  namespaced(name("with a peer sends there, and hears nobody else"), async () => {
    const forms = [
      (socket: RawSocket) => socket.connectSync(other),
      (socket: RawSocket) => socket.connect(other),
      (socket: RawSocket) => socket.tryConnect(other),
    ];
    for (const connected of forms) {
      const socket = bound(lo);
      await connected(socket);
      expect(socket.connected).toBe(true);
      expect(`${socket.remoteAddress?.host} ${socket.remoteAddress?.port}`).toBe(`${other} 0`);
      expect(socket.localAddress.port).toBe(0);
      const receiver = bound(other);
      const stranger = bound(lo);
      expect(socket.sendSync("to the peer")).toBe(11);
      expect(next(receiver)).toBe("to the peer");
      const back = socket.localAddress;
      stranger.sendToSync("not heard", back);
      receiver.sendToSync("heard", back);
      expect(next(socket)).toBe("heard");
      expect(socket.tryReceive(new Uint8Array(1))).toBeUndefined();
      // A duplicate, and one that was adopted, know it too.
      const twin = kept(socket.duplicate());
      expect(twin).toBeInstanceOf(RawSocket);
      expect([twin.connected, twin.remoteAddress?.host]).toEqual([true, other]);
      const adopted = kept(RawSocket.adopt(socket.descriptor));
      expect([adopted.connected, adopted.remoteAddress?.host]).toEqual([true, other]);
      socket.connectSync(lo);
      expect(socket.remoteAddress?.host).toBe(lo);
    }
    expect(systemErrorOf(() => open(family).tryConnect(unrouted))).toMatchObject({
      code: "ENETUNREACH",
      syscall: "connect",
      address: unrouted,
      destination: unrouted,
    });
  });

  namespaced(name("keeps its peer, for without it Linux would give it nothing"), () => {
    const socket = open(family);
    socket.disconnect();
    socket.connectSync(lo);
    expect(caught(() => socket.disconnect()).message).toStartWith("Cannot disconnect a raw socket");
    const sender = open(family);
    sender.sendToSync("before", lo);
    expect(next(socket)).toBe("before");
    // What disconnect would do: if this is ever heard, it can be allowed.
    expect(connect(socket.descriptor, new Uint8Array(28))).toBe(0);
    sender.sendToSync("after", lo);
    expect(next(sender)).toBe("before");
    expect(next(sender)).toBe("after");
    expect(socket.tryReceive(new Uint8Array(1))).toBeUndefined();
  });

  namespaced(name("receives in all forms"), async () => {
    const receiver = bound(lo);
    const sender = open(family);
    sender.connectSync(lo);
    const packet = new Uint8Array(100);
    const waits = receiver.receiveFrom(packet, WAIT);
    await sender.send("one");
    expect((await waits).length).toBe(headerBytes + 3);
    sender.sendSync("two!");
    expect(receiver.receiveSync(packet, WAIT)).toBe(headerBytes + 4);
    sender.trySend(Buffer.from("three"));
    expect(receiver.tryReceive(packet)).toBe(headerBytes + 5);
    expect(receiver.tryReceive(packet)).toBeUndefined();
    expect(caught(() => receiver.receiveSync(packet, { timeoutMs: 1 }))).toBeInstanceOf(
      TimeoutError,
    );
    // What does not fit is cut off, and told.
    sender.sendSync("too long");
    const short = receiver.receiveFromSync(new Uint8Array(3), WAIT);
    expect([short.length, short.originalLength]).toEqual([3, headerBytes + 8]);
  });

  namespaced(
    name("sends and receives batches, and tells of each packet what was asked"),
    async () => {
      const metadata = ["destination", "ttl", "trafficClass", "timestamp"] as const;
      const receiver = bound(lo, { metadata });
      const sender = open(family);
      using out = new DatagramBatch({ capacity: 3 });
      out.count = 3;
      for (let i = 0; i < 3; i++) {
        out.write(i, `packet ${i}`);
        out.setAddress(i, family === "ipv4" ? `${lo}:0` : `[${lo}]:0`);
        out.setTtl(i, 11 + i);
      }
      expect(await sender.sendBatch(out)).toBe(3);
      using batch = new DatagramBatch({ capacity: 8 });
      expect(await receiver.receiveBatch(batch, WAIT)).toBe(3);
      for (let i = 0; i < 3; i++) {
        const start = batch.offset(i);
        const at = receiver.payloadOffset(batch.memory, start, batch.length(i));
        expect(at - start).toBe(headerBytes);
        const end = start + batch.length(i);
        expect(Buffer.from(batch.memory.subarray(at, end)).toString()).toBe(`packet ${i}`);
        expect((batch.address(i) as InetAddress).port).toBe(0);
        expect([batch.ttl(i), batch.destination(i)?.host]).toEqual([11 + i, lo]);
        expect(batch.interfaceIndex(i)).toBe(1);
        expect(batch.timestampNs(i)).toBeGreaterThan(0n);
      }
      // Over IPv6 the kernel takes a port for the protocol.
      out.setAddress(1, family === "ipv4" ? `${lo}:1` : `[${lo}]:1`);
      out.count = 3;
      expect(sender.trySendBatch(out)).toBe(family === "ipv4" ? 3 : 2);
      if (family === "ipv6") expect(out.failure(1)).toBe("EINVAL");
    },
  );

  namespaced(name("sends and receives messages with control messages"), async () => {
    const receiver = bound(lo, { metadata: ["destination", "ttl"] });
    const sender = open(family);
    const address = new (family === "ipv4" ? Inet4Address : Inet6Address)(lo, 0);
    const message = new Message({ vectors: Buffer.from("hello"), address, controlBytes: 128 });
    message.writer.addTtl(9, family);
    message.writer.addPacketInfo({ source: other });
    expect(sender.sendMessageSync(message)).toBe(5);
    const head = new Uint8Array(headerBytes);
    const body = new Uint8Array(100);
    const received = new Message({ vectors: [head, body], controlBytes: 256 });
    expect(await receiver.receiveMessage(received, WAIT)).toBe(headerBytes + 5);
    expect(Buffer.from(body.subarray(0, 5)).toString()).toBe("hello");
    expect((received.address as InetAddress).host).toBe(other);
    const told = received.controlMessages();
    expect(told.find(({ kind }) => kind === "ttl")).toMatchObject({ ttl: 9 });
    expect(told.find(({ kind }) => kind === "packetInfo")).toMatchObject({ interfaceIndex: 1 });
  });

  namespaced(name("says how long a packet may be"), () => {
    const sender = open(family);
    const receiver = bound(lo, { receiveBufferBytes: 1 << 20 });
    expect(sender.sendToSync(new Uint8Array(one.most), lo)).toBe(one.most);
    expect(receiver.receiveSync(new Uint8Array(70_000), WAIT)).toBe(headerBytes + one.most);
    const long = systemErrorOf(() => sender.sendToSync(new Uint8Array(one.most + 1), lo));
    expect(long).toMatchObject({ code: "EMSGSIZE", syscall: "sendto", destination: lo });
    expect(long.hint).toContain(`${one.most} bytes`);
    // Longer than the link carries: in fragments, unless they are forbidden.
    const header = family === "ipv4" ? 20 : 40;
    expect(sender.sendToSync(new Uint8Array(MTU + 1), peer)).toBe(MTU + 1);
    const whole = open(family);
    whole.pathMtuDiscovery = "do";
    whole.connectSync(peer);
    expect([whole.pathMtu, whole.pathMtuDiscovery]).toEqual([MTU, "do"]);
    expect(whole.sendSync(new Uint8Array(MTU - header))).toBe(MTU - header);
    const refused = systemErrorOf(() => whole.sendSync(new Uint8Array(MTU - header + 1)));
    expect(refused.code).toBe("EMSGSIZE");
    expect(refused.hint).toContain(`pathMtu, which is ${MTU}`);
    using batch = new DatagramBatch({ capacity: 2, slotBytes: 2000 });
    batch.count = 2;
    batch.setLength(0, MTU - header + 1);
    batch.setLength(1, 1);
    expect(whole.trySendBatch(batch)).toBe(1);
    expect(batch.failure(0)).toBe("EMSGSIZE");
  });

  namespaced(name("bound to an interface hears that one only"), () => {
    for (const device of [LINK, interfaceIndex(LINK)]) {
      const linked = open(family, { interface: device });
      const everywhere = open(family);
      const sender = open(family);
      sender.sendToSync("by lo", lo);
      expect(next(everywhere)).toBe("by lo");
      expect(linked.tryReceive(new Uint8Array(1))).toBeUndefined();
      const far = remote?.inside(() => RawSocket.open(family, { protocol: PROTOCOL })) as RawSocket;
      kept(far).sendToSync("by the link", near);
      expect(next(linked)).toBe("by the link");
      // What has no way by the interface does not go by another one.
      linked.sendToSync("to the peer", peer);
      expect(next(far)).toBe("to the peer");
    }
    expect(systemErrorOf(() => open(family, { interface: "bs-none" }))).toMatchObject({
      code: "ENODEV",
      option: "SO_BINDTODEVICE",
    });
  });

  namespaced(name("hears the groups that it has joined"), async () => {
    const far = kept(
      remote?.inside(() => RawSocket.open(family, { protocol: PROTOCOL })) as RawSocket,
    );
    far.join(one.group, { interface: remote?.inside(() => interfaceIndex(LINK)) ?? 0 });
    expect(far.memberships.map(({ group }) => group.host)).toEqual([one.group]);
    const sender = open(family);
    sender.multicastInterface = LINK;
    sender.multicastHops = 3;
    sender.multicastLoop = false;
    expect([sender.multicastInterface, sender.multicastHops, sender.multicastLoop]).toEqual([
      interfaceIndex(LINK),
      3,
      false,
    ]);
    sender.sendToSync("to all", one.group);
    expect(next(far)).toBe("to all");
    far.leave(one.group);
    expect(far.memberships).toEqual([]);
    sender.sendToSync("to nobody", one.group);
    sender.sendToSync("to you", peer);
    expect(next(far)).toBe("to you");
  });

  namespaced(name("hears the sources that it has not blocked"), () => {
    // Linux asks after sources where an IPv4 socket is bound to nothing, and an IPv6 one to an address.
    const far = kept(
      remote?.inside(() =>
        family === "ipv4"
          ? RawSocket.open(family, { protocol: PROTOCOL })
          : RawSocket.bind(peer, { protocol: PROTOCOL }),
      ) as RawSocket,
    );
    const there = { interface: remote?.inside(() => interfaceIndex(LINK)) ?? 0 };
    far.join(one.group, there);
    const sender = kept(RawSocket.bind(one.near, { protocol: PROTOCOL }));
    sender.multicastInterface = LINK;
    const heard = (text: string) => {
      sender.sendToSync(text, one.group);
      sender.sendToSync("last", peer);
      const all = [next(far)];
      while (all.at(-1) !== "last") all.push(next(far));
      return all.slice(0, -1);
    };
    expect(heard("joined")).toEqual(["joined"]);
    far.blockSource(one.group, one.near);
    expect(far.sourceFilter(one.group)).toMatchObject({ mode: "exclude" });
    expect(far.sourceFilter(one.group).sources.map((source) => `${source}`)).toEqual([
      `${sender.localAddress}`,
    ]);
    expect(heard("blocked")).toEqual([]);
    far.unblockSource(one.group, one.near);
    expect(heard("unblocked")).toEqual(["unblocked"]);
    far.setSourceFilter(one.group, { mode: "include", sources: [one.near] }, there);
    expect(heard("included")).toEqual(["included"]);
    expect(far.memberships.map(({ source }) => source?.host)).toEqual([one.near]);
    far.setSourceFilter(one.group, { mode: "include", sources: [one.other] }, there);
    expect(heard("another")).toEqual([]);
    if (family === "ipv6")
      expect(systemErrorOf(() => far.join("239.94.1.1", there))).toMatchObject({
        code: "EAFNOSUPPORT",
        hint: "A raw IPv6 socket carries no IPv4: IPv4 groups take an IPv4 socket",
      });
  });

  namespaced(name("receives the ICMP types that pass, and no others"), () => {
    const { icmp, echoRequest } = one;
    const all = open(family, { protocol: icmp });
    expect(all.icmpFilter).toEqual({ block: [] });
    const replies = open(family, { protocol: icmp, icmpFilter: { pass: ["echoReply"] } });
    const noReplies = open(family, { protocol: icmp, icmpFilter: { block: ["echoReply"] } });
    expect(replies.icmpFilter).toEqual({ pass: ["echoReply"] });
    expect(noReplies.icmpFilter).toEqual({ block: ["echoReply"] });
    const typesOf = (socket: RawSocket) => {
      const types: (number | undefined)[] = [];
      const packet = new Uint8Array(100);
      while (socket.tryReceive(packet) !== undefined)
        types.push(packet[socket.payloadOffset(packet)]);
      return types;
    };
    const [request, reply] = family === "ipv4" ? [8, 0] : [128, 129];
    open(family, { protocol: icmp }).sendToSync(echoRequest, lo);
    expect(typesOf(all)).toEqual([request, reply]);
    expect(typesOf(replies)).toEqual([reply]);
    expect(typesOf(noReplies)).toEqual([request]);
    // It can be changed later.
    replies.icmpFilter = { pass: [] };
    all.icmpFilter = { pass: [request, "echoReply"] };
    expect(all.icmpFilter).toEqual({
      pass: family === "ipv4" ? ["echoReply", "echoRequest"] : ["echoRequest", "echoReply"],
    });
    open(family, { protocol: icmp }).sendToSync(echoRequest, lo);
    expect([typesOf(replies), typesOf(all)]).toEqual([[], [request, reply]]);
    const notIcmp = open(family);
    expect(systemErrorOf(() => notIcmp.icmpFilter).option).toContain("FILTER");
    expect(
      systemErrorOf(() => {
        notIcmp.icmpFilter = { pass: [] };
      }).option,
    ).toContain("FILTER");
  });

  namespaced(name("is opened by family or address, and adopted by its kind"), () => {
    expect(RawSocket.open(lo, { protocol: 253 })[Symbol.dispose]()).toBeUndefined();
    const socket = open(family);
    expect([socket.family, socket.type, socket.protocol]).toEqual([family, "raw", PROTOCOL]);
    expect(socket).toBeInstanceOf(IpSocket);
    expect(socket).not.toBeInstanceOf(UdpSocket);
    const adopted = kept(RawSocket.adopt(socket.descriptor));
    expect([adopted.family, adopted.protocol]).toEqual([family, PROTOCOL]);
    using udp = UdpSocket.open(family);
    expect(caught(() => RawSocket.adopt(udp.descriptor)).message).toContain("as a raw IP socket");
    using plain = Socket.create(family, "raw", { protocol: PROTOCOL });
    expect(kept(RawSocket.adopt(plain.descriptor)).headerIncluded).toBe(false);
    expect(`${socket}`).toStartWith(`RawSocket ${family} raw, descriptor `);
    socket.close();
    expect(caught(() => socket.localAddress).name).toBe("ClosedError");
    expect(caught(() => socket.sendToSync("x", lo)).name).toBe("ClosedError");
    expect(caught(() => socket.connectSync(lo)).name).toBe("ClosedError");
  });
});

describe("RawSocket over IPv4, headerIncluded", () => {
  namespaced("has the kernel fill in length and checksum always, and what is 0", () => {
    const receiver = bound("127.0.0.2");
    const sender = open("ipv4", { protocol: "raw" });
    expect([sender.headerIncluded, receiver.headerIncluded]).toEqual([true, false]);
    const send = (header: Uint8Array, to = "127.0.0.2") => {
      sender.sendToSync(Buffer.concat([header, Buffer.from("payload")]), to);
      const packet = receiver.receiveBytesSync(100, WAIT);
      const view = new DataView(packet.buffer);
      expect(packet).toHaveLength(27);
      expect(internetChecksum(packet, 0, 20)).toBe(0);
      return {
        bytes: view.getUint16(2),
        id: view.getUint16(4),
        flags: view.getUint16(6),
        ttl: packet[8],
        source: packet.slice(12, 16).join("."),
        to: packet.slice(16, 20).join("."),
      };
    };
    const filled = send(header4({ to: "127.0.0.2", bytes: 999 }));
    expect(filled).toMatchObject({
      bytes: 27,
      flags: 0,
      ttl: 33,
      source: "127.0.0.1",
      to: "127.0.0.2",
    });
    expect(filled.id).not.toBe(0);
    const given = { to: "127.0.0.2", source: "127.9.9.9", id: 0x1234, flags: 0x4000 };
    expect(send(header4(given))).toMatchObject({ bytes: 27, ttl: 33, ...given });
  });

  namespaced("sends to the address of the call, whatever the header says", () => {
    const receiver = open("ipv4", { interface: LINK });
    const far = kept(
      remote?.inside(() => RawSocket.open("ipv4", { protocol: PROTOCOL })) as RawSocket,
    );
    const sender = open("ipv4", { headerIncluded: true });
    const packet = Buffer.concat([header4({ to: "10.94.1.2" }), Buffer.from("hello")]);
    sender.sendToSync(packet, "10.94.1.2");
    expect(next(far)).toBe("hello");
    sender.connectSync("10.94.1.2");
    sender.sendSync(packet);
    expect(next(far)).toBe("hello");
    expect(receiver.tryReceive(new Uint8Array(1))).toBeUndefined();
  });

  namespaced("does not fragment, and says so", () => {
    const sender = open("ipv4", { headerIncluded: true });
    const packet = new Uint8Array(MTU + 1);
    packet.set(header4({ to: "10.94.1.2" }));
    expect(sender.sendToSync(packet.subarray(0, MTU), "10.94.1.2")).toBe(MTU);
    const error = systemErrorOf(() => sender.sendToSync(packet, "10.94.1.2"));
    expect(error).toMatchObject({ code: "EMSGSIZE", destination: "10.94.1.2" });
    expect(error.hint).toContain("With headerIncluded nothing is fragmented");
    const none = systemErrorOf(() => sender.sendToSync(new Uint8Array(19), "10.94.1.2"));
    expect([none.code, none.hint]).toEqual(["EINVAL", undefined]);
  });

  namespaced("can be switched off for the protocol raw", () => {
    const sender = open("ipv4", { protocol: "raw", headerIncluded: false });
    expect(sender.headerIncluded).toBe(false);
    expect(sender.checksumOffset).toBeUndefined();
  });
});

describe("RawSocket over IPv6", () => {
  const header6 = (bytes: number, to = 1) => {
    const header = new Uint8Array(40);
    header[0] = 0x60;
    header[5] = bytes;
    header[6] = PROTOCOL;
    header[7] = 33;
    header[23] = 1;
    header[39] = to;
    return header;
  };

  namespaced("headerIncluded sends the header as it is", () => {
    const receiver = open("ipv6", { metadata: ["ttl"] });
    const sender = open("ipv6", { protocol: "raw" });
    expect(sender.headerIncluded).toBe(true);
    sender.sendToSync(Buffer.concat([header6(5), Buffer.from("hello")]), "::1");
    using batch = new DatagramBatch();
    expect(receiver.receiveBatchSync(batch, WAIT)).toBe(1);
    expect([Buffer.from(batch.view(0)).toString(), batch.ttl(0)]).toEqual(["hello", 33]);
    // A length of 0 is not filled in: what comes is empty, or nothing.
    sender.sendToSync(Buffer.concat([header6(0), Buffer.from("hello")]), "::1");
    sender.sendToSync(Buffer.concat([header6(4), Buffer.from("last")]), "::1");
    let last = next(receiver);
    if (last === "") last = next(receiver);
    expect(last).toBe("last");
    const long = new Uint8Array(MTU + 1);
    const error = systemErrorOf(() => sender.sendToSync(long, "2001:db8:94::2"));
    expect([error.code, error.destination]).toEqual(["EMSGSIZE", "2001:db8:94::2"]);
    expect(error.hint).toContain("With headerIncluded nothing is fragmented");
  });

  namespaced("checksumOffset has the kernel fill in the checksum, and verify it", () => {
    const verifying = open("ipv6", { checksumOffset: 2 });
    const plain = open("ipv6");
    expect([verifying.checksumOffset, plain.checksumOffset]).toEqual([2, undefined]);
    expect(open("ipv6", { protocol: "icmpv6" }).checksumOffset).toBe(2);
    const payload = Uint8Array.of(1, 2, 0, 0, 5, 6, 7, 8, 9);
    verifying.sendToSync(payload, "::1");
    const signed = plain.receiveBytesSync(100, WAIT);
    // RFC 8200, section 8.1: addresses, length, and protocol count too.
    const pseudo = new Uint8Array(40);
    pseudo[15] = pseudo[31] = 1;
    pseudo[35] = payload.length;
    pseudo[39] = PROTOCOL;
    const covered = Buffer.concat([pseudo, signed]);
    expect(signed.slice(2, 4)).not.toEqual(new Uint8Array(2));
    expect(internetChecksum(covered, 0, covered.length)).toBe(0);
    expect(verifying.receiveBytesSync(100, WAIT)).toEqual(signed);
    // A wrong one comes to those who do not ask for it.
    const sender = open("ipv6");
    const wrong = signed.slice();
    wrong[8] = 77;
    sender.sendToSync(wrong, "::1");
    sender.sendToSync(signed, "::1");
    expect([...plain.receiveBytesSync(100, WAIT)]).toEqual([...wrong]);
    expect([...verifying.receiveBytesSync(100, WAIT)]).toEqual([...signed]);
    expect(verifying.tryReceive(new Uint8Array(1))).toBeUndefined();
    const refused = systemErrorOf(() => open("ipv6", { protocol: "icmpv6", checksumOffset: 2 }));
    expect([refused.code, refused.option]).toEqual(["EINVAL", "IPV6_CHECKSUM"]);
  });

  namespaced("sends to an address of one link by its zone", () => {
    const mine = /inet6 (fe80::[^/]*)/.exec(ip("-6", "addr", "show", "dev", LINK))?.[1];
    const receiver = bound(`${mine}%${LINK}`);
    expect(receiver.localAddress.host).toBe(`${mine}%${interfaceIndex(LINK)}`);
    open("ipv6").sendToSync("hello", `${mine}%${LINK}`);
    expect(next(receiver)).toBe("hello");
  });

  namespaced("carries no IPv4", () => {
    const error = systemErrorOf(() => open("ipv6").sendToSync("hello", "127.0.0.1"));
    expect([error.code, error.address, error.hint]).toEqual(["EINVAL", "127.0.0.1", undefined]);
  });
});

namespaced("RawSocket.payloadOffset() tells of headers with options, and of broken ones", () => {
  const receiver = bound("127.0.0.1");
  const sender = open("ipv4");
  // Three times nothing, and the end of the list: RFC 791.
  sender.setOption(IpOption.options, Uint8Array.of(1, 1, 1, 0));
  sender.sendToSync("hello", "127.0.0.1");
  const packet = new Uint8Array(100);
  const length = receiver.receiveSync(packet, WAIT);
  expect([length, receiver.payloadOffset(packet)]).toEqual([29, 24]);
  expect(receiver.payloadOffset(packet, 0, length)).toBe(24);
  // Cut off within the header, there is no payload.
  expect([0, 1, 19, 20, 23].map((cut) => receiver.payloadOffset(packet, 0, cut))).toEqual([
    0, 1, 19, 20, 23,
  ]);
  expect(receiver.payloadOffset(packet, 100)).toBe(100);
  expect(receiver.payloadOffset(Uint8Array.of(0x40, ...new Uint8Array(30)))).toBe(20);
  expect(open("ipv6").payloadOffset(packet, 7, 3)).toBe(7);
  const message = (...values: [unknown, unknown?, unknown?]) =>
    caught(() => receiver.payloadOffset(...(values as [Uint8Array, number, number]))).message;
  expect(message(packet, 101)).toBe("Cannot use 101 as the offset of a packet: expected 0 to 100");
  expect(message(packet, 90, 11)).toBe("Cannot use 11 as the length of a packet: expected 0 to 10");
  expect(message("packet")).toBe("Cannot use a value of type string as bytes: expected a view");
  expect(message(new DataView(new ArrayBuffer(8)))).toContain("expected a Uint8Array");
});

namespaced("RawSocket sends to broadcast addresses where it may", () => {
  const far = kept(
    remote?.inside(() => RawSocket.open("ipv4", { protocol: PROTOCOL })) as RawSocket,
  );
  const error = systemErrorOf(() => open("ipv4").sendToSync("all", "10.94.1.255"));
  expect([error.code, error.destination]).toEqual(["EACCES", "10.94.1.255"]);
  expect(error.hint).toContain("broadcast: true");
  open("ipv4", { broadcast: true }).sendToSync("all", "10.94.1.255");
  expect(next(far)).toBe("all");
});

namespaced("RawSocket knows protocols by the names that the system has for them", () => {
  const names = {
    icmp: "icmp",
    igmp: "igmp",
    ipip: "ipencap",
    tcp: "tcp",
    udp: "udp",
    dccp: "dccp",
    ipv6: "ipv6",
    rsvp: "rsvp",
    gre: "gre",
    esp: "esp",
    ah: "ah",
    eigrp: "eigrp",
    ospf: "ospf",
    pim: "pim",
    vrrp: "vrrp",
    l2tp: "l2tp",
    sctp: "sctp",
    udplite: "udplite",
  } as const;
  const file = readFileSync("/etc/protocols", "utf8");
  for (const [name, theirs] of Object.entries(names)) {
    const [, number] = new RegExp(`^${theirs}\\s+(\\d+)`, "m").exec(file) ?? [];
    expect(`${name} ${open("ipv4", { protocol: name as "udp" }).protocol}`).toBe(
      `${name} ${number}`,
    );
  }
  expect(open("ipv6", { protocol: "icmpv6" }).protocol).toBe(58);
  expect(open("ipv4", { protocol: "raw" }).protocol).toBe(255);
  expect(open("ipv4", { protocol: 1 }).protocol).toBe(1);
});

namespaced(
  "RawSocket.configure comes before bind, and queued errors tell who refuses",
  async () => {
    const socket = kept(
      RawSocket.bind("10.94.1.1", {
        protocol: PROTOCOL,
        queueErrors: true,
        configure: (made) => made.setOption(IpOption.ttl, 77),
      }),
    );
    expect([socket.getOption(IpOption.ttl), socket.queueErrors]).toEqual([77, true]);
    // Nobody has this protocol there, and an ICMP error quotes 8 bytes.
    socket.sendToSync("8 bytes.", "10.94.1.2");
    expect(await socket.receiveError(WAIT)).toMatchObject({
      kind: "icmp",
      code: "ENOPROTOOPT",
      reason: "protocol unreachable",
    });
    const six = open("ipv6", { queueErrors: true });
    six.setOption(Ipv6Option.unicastHops, 77);
    six.sendToSync("8 bytes.", "2001:db8:94::2");
    expect(await six.receiveError(WAIT)).toMatchObject({ kind: "icmp", code: "EPROTO" });
  },
);

namespaced("RawSocket gives batches to a loop and to a handler", async () => {
  const receiver = bound("127.0.0.1");
  const sender = open("ipv4");
  sender.sendToSync("one", "127.0.0.1");
  for await (const batch of receiver.batches()) {
    expect(batch.count).toBe(1);
    // Back to who has sent it.
    batch.setLength(0, 3);
    expect(receiver.trySendBatch(batch)).toBe(1);
    break;
  }
  expect(next(sender)).toBe("one");
  expect(receiver.tryReceive(new Uint8Array(100))).toBe(23);
  const heard: number[] = [];
  using _ = receiver.onBatch((batch) => void heard.push(batch.count));
  sender.sendToSync("two", "127.0.0.1");
  await until(() => heard.length === 1, "it was heard");
});

/** Runs a program of ours as nobody, with or without the right. */
function asNobody(program: string, ...prefix: string[]): string {
  const child = Bun.spawnSync([
    "setpriv",
    "--reuid=65534",
    "--regid=65534",
    "--clear-groups",
    ...prefix,
    process.execPath,
    "-e",
    `const { RawSocket } = await import("${import.meta.dir}/../../lib/index.ts");\n${program}`,
  ]);
  return child.stdout.toString().trim() + child.stderr.toString();
}

const TRY = `
  for (const family of ["ipv4", "ipv6"])
    try {
      using socket = RawSocket.open(family, { protocol: 253 });
      console.log(socket.sendToSync("hello", family === "ipv4" ? "127.0.0.1" : "::1"));
    } catch (error) {
      console.log(error.name, error.code, error.syscall, error.hint);
    }`;

asOthers("RawSocket without the right is an error that names it, and what grants it", () => {
  const lines = asNobody(TRY, "--inh-caps=-all", "--bounding-set=-all").split("\n");
  expect(lines).toHaveLength(2);
  for (const line of lines) {
    expect(line).toStartWith("SystemError EPERM socket It takes CAP_NET_RAW: ");
    expect(line).toContain(`sudo setcap cap_net_raw+ep ${process.execPath}`);
  }
});

asOthers("RawSocket takes no more than CAP_NET_RAW", () => {
  expect(asNobody(TRY, "--inh-caps=+net_raw", "--ambient-caps=+net_raw")).toBe("5\n5");
});

const ownUser = testIf(
  missing ??
    (isWholeMachine ? requires("setpriv", "unshare") : "needs to be root") ??
    (Bun.spawnSync([
      ...["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"],
      ...["unshare", "-Urn", "true"],
    ]).success
      ? undefined
      : "needs user namespaces"),
);
ownUser("RawSocket takes no right of the machine within a user namespace", () => {
  const said = asNobody(
    TRY,
    ...["unshare", "-Urn", "sh", "-c", 'ip link set lo up && exec "$@"', "sh"],
  );
  expect(said).toBe("5\n5");
});

const PYTHON = `
import socket, sys
family = socket.AF_INET6 if sys.argv[1] == "ipv6" else socket.AF_INET
s = socket.socket(family, socket.SOCK_RAW, 253)
s.bind((sys.argv[2], 0))
print("ready", flush=True)
while True:
    data, address = s.recvfrom(65535)
    payload = data if family == socket.AF_INET6 else data[4 * (data[0] & 15):]
    if payload.startswith(b"answer:"): continue
    s.sendto(b"answer:" + payload[::-1], (address[0], 0))
`;

describe.each(families)("a RawSocket over $family and strangers", ({ family, lo, other }) => {
  needing("python3")(
    `python3 reads what it sends, and it reads python3's (${family})`,
    async () => {
      const child = Bun.spawn(["python3", "-c", PYTHON, family, other], {
        stdio: ["ignore", "pipe", "inherit"],
      });
      using _ = ending(child);
      expect(await firstLine(child.stdout)).toBe("ready");
      const socket = bound(lo);
      for (const length of [0, 1, 100, 1400, 30_000]) {
        const payload = randomPayload(length);
        await socket.sendTo(payload, other);
        const packet = await socket.receiveBytes(65_535, WAIT);
        const at = socket.payloadOffset(packet);
        const expected = Buffer.concat([Buffer.from("answer:"), Buffer.from(payload).reverse()]);
        expect(Buffer.from(packet.subarray(at)).equals(expected)).toBe(true);
      }
    },
  );

  needing("socat")(`socat hears it, and it hears socat (${family})`, async () => {
    const host = family === "ipv4" ? other : `[${other}]`;
    const target = family === "ipv4" ? lo : `[${lo}]`;
    const version = family === "ipv4" ? "IP4" : "IP6";
    const receiving = Bun.spawn(
      ["socat", "-u", "-d", "-d", `${version}-RECV:${PROTOCOL},bind=${host}`, "STDOUT"],
      { stdio: ["ignore", "pipe", "pipe"] },
    );
    using _ = ending(receiving);
    const errors = receiving.stderr.getReader();
    let told = "";
    while (!told.includes("starting data transfer loop")) {
      const { value, done } = await errors.read();
      if (done) throw new Error(told);
      told += Buffer.from(value).toString();
    }
    const socket = bound(lo);
    socket.sendToSync("to socat\n", other);
    expect(await firstLine(receiving.stdout)).toBe("to socat");
    const sending = Bun.spawn(["socat", "-u", "STDIN", `${version}-SENDTO:${target}:${PROTOCOL}`], {
      stdio: [Buffer.from("from socat"), "ignore", "inherit"],
    });
    expect(await sending.exited).toBe(0);
    expect(next(socket)).toBe("from socat");
  });
});

withTcpdump("tcpdump reads the packets of RawSocket as what they are", async () => {
  const child = Bun.spawn(
    [
      "tcpdump",
      "-i",
      "lo",
      "-n",
      "-v",
      "-c",
      "3",
      "--immediate-mode",
      `ip proto ${PROTOCOL} or ip6 proto ${PROTOCOL} or ip6 proto 17`,
    ],
    { stdio: ["ignore", "pipe", "pipe"] },
  );
  using _ = ending(child);
  const errors = child.stderr.getReader();
  let told = "";
  while (!told.includes("listening on")) {
    const { value, done } = await errors.read();
    if (done) throw new Error(told);
    told += Buffer.from(value).toString();
  }
  const four = open("ipv4");
  four.setOption(IpOption.ttl, 17);
  four.sendToSync("hello", "127.0.0.2");
  const whole = open("ipv4", { protocol: "raw" });
  const header = header4({ to: "127.0.0.2", source: "127.7.7.7", id: 0x4321 });
  whole.sendToSync(Buffer.concat([header, Buffer.from("hello")]), "127.0.0.2");
  // UDP, whose checksum the kernel fills in.
  const udp = open("ipv6", { protocol: "udp", checksumOffset: 6 });
  udp.sendToSync(Uint8Array.of(0x12, 0x34, 0x56, 0x78, 0, 11, 0, 0, 97, 98, 99), "::1");
  const said = await child.stdout.text();
  expect(said).toContain(`ttl 17, id`);
  expect(said).toContain(`127.0.0.1 > 127.0.0.2:`);
  expect(said).toContain(
    `ttl 33, id ${0x4321}, offset 0, flags [none], proto unknown (${PROTOCOL}), length 25)`,
  );
  expect(said).toContain(`127.7.7.7 > 127.0.0.2:`);
  expect(said).toContain("::1.4660 > ::1.22136: [udp sum ok] UDP, length 3");
  expect(said).not.toContain("bad cksum");
});

needing("ping")(
  "RawSocket sees the requests of ping(8), and answers them in the kernel's place",
  async () => {
    const seen = open("ipv4", {
      protocol: "icmp",
      icmpFilter: { pass: ["echoRequest", "echoReply"] },
    });
    const child = Bun.spawnSync(["ping", "-n", "-c", "2", "-i", "0.01", "-s", "20", "127.0.0.2"]);
    expect(child.stdout.toString()).toContain("2 packets transmitted, 2 received");
    const types: string[] = [];
    for (let i = 0; i < 4; i++) {
      const packet = seen.receiveBytesSync(100, WAIT);
      const at = seen.payloadOffset(packet);
      types.push(`${packet[at]} ${packet[at + 7]} ${packet.length - at}`);
    }
    expect(types).toEqual(["8 1 28", "0 1 28", "8 2 28", "0 2 28"]);
  },
);
