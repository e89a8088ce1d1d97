/**
 * Packet sockets over the two ends of one cable, and over the loopback interface: what goes in at one
 * end comes out at the other, byte for byte, for us and for programs of others.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import {
  ClosedError,
  DatagramBatch,
  FilterProgram,
  interfaceIndex,
  interfaces,
  LinkAddress,
  Message,
  NetworkInterface,
  Socket,
  SocketOption,
  SystemError,
  TimeoutError,
  UdpSocket,
} from "bun-sockets";
import {
  compileFilter,
  LinkType,
  type PacketInterface,
  PacketOption,
  PacketRing,
  PacketSocket,
  type PacketSocketOptions,
  type PacketStatistics,
} from "bun-sockets/packet";
import {
  AF_PACKET,
  BPF_ABS,
  BPF_H,
  BPF_JEQ,
  BPF_JMP,
  BPF_K,
  BPF_LD,
  BPF_RET,
  EMFILE,
  EMSGSIZE,
  ETH_P_802_EX1,
  ETH_P_8021AD,
  ETH_P_8021Q,
  ETH_P_ALL,
  ETH_P_ARP,
  ETH_P_IP,
  TP_STATUS_CSUMNOTREADY,
  TP_STATUS_VLAN_TPID_VALID,
  TP_STATUS_VLAN_VALID,
} from "bun-sockets/sys";
import { layCable, plugIn } from "../support/cable.ts";
import { caught, systemErrorOf } from "../support/errors.ts";
import { failWith, replaceEntry } from "../support/faults.ts";
import { ip, makeNamespace } from "../support/namespaces.ts";
import { requires, testIf } from "../support/require.ts";
import { ending, firstLine, randomPayload } from "../support/strangers.ts";
import { until } from "../support/waiting.ts";

const NEAR = "bs-ps0";
const FAR = "bs-ps1";
const MTU = 1500;
const ETHERNET = 14;
const LIMIT = { timeoutMs: 5000 };
/** Nobody else uses these. */
const OURS = ETH_P_802_EX1;
const OTHERS = 0x88b6;
const NEAR_MAC = "02:00:00:00:00:0a";
const FAR_MAC = "02:00:00:00:00:0b";

const missing =
  process.env["BUN_SOCKETS_NAMESPACE"] === "1"
    ? requires("ip")
    : "needs a network namespace of its own";
const namespaced = testIf(missing);
const withPython = testIf(missing ?? requires("python3"));

beforeAll(() => {
  if (missing !== undefined) return;
  layCable(NEAR, FAR, NEAR_MAC, FAR_MAC);
});

afterAll(() => {
  if (missing === undefined) ip("link", "del", NEAR);
});

/** What `ip -d link` says of an interface. */
function link(name: string): { promiscuity: number; allmulti: number } {
  const [{ promiscuity, allmulti }] = JSON.parse(ip("-d", "-j", "link", "show", name));
  return { promiscuity, allmulti };
}

function bytesOfMac(mac: string): number[] {
  return mac.split(":").map((pair) => Number.parseInt(pair, 16));
}

/** An Ethernet frame from one end to the other. */
function frame(
  payload: Uint8Array,
  { to = FAR_MAC, from = NEAR_MAC, protocol = OURS, tags = [] as [number, number][] } = {},
): Uint8Array<ArrayBuffer> {
  const words = [...tags.flat(), protocol];
  return new Uint8Array(
    Buffer.concat([
      Uint8Array.from([...bytesOfMac(to), ...bytesOfMac(from)]),
      Uint8Array.from(words.flatMap((word) => [word >> 8, word & 0xff])),
      payload,
    ]),
  );
}

/** So many packets, as they come. */
function take(socket: PacketSocket, count: number): Uint8Array[] {
  const target = new Uint8Array(65_536);
  return Array.from({ length: count }, () => target.slice(0, socket.receiveSync(target, LIMIT)));
}

/** So many packets, and all that is there with them. */
function drain(socket: PacketSocket, count: number): Uint8Array[] {
  const found = take(socket, count);
  const target = new Uint8Array(65_536);
  for (;;) {
    const length = socket.tryReceive(target);
    if (length === undefined) return found;
    found.push(target.slice(0, length));
  }
}

/** What a socket has counted, once it is so many. */
function counted(socket: PacketSocket, count: number): PacketStatistics {
  const end = performance.now() + LIMIT.timeoutMs;
  for (;;) {
    const statistics = socket.statistics();
    if (statistics.packets >= count || performance.now() > end) return statistics;
    Bun.sleepSync(1);
  }
}

/** Only frames of one EtherType. */
function only(protocol: number): FilterProgram {
  return new FilterProgram([
    { code: BPF_LD | BPF_H | BPF_ABS, k: 12 },
    { code: BPF_JMP | BPF_JEQ | BPF_K, k: protocol, jt: 0, jf: 1 },
    { code: BPF_RET | BPF_K, k: 0x40000 },
    { code: BPF_RET | BPF_K, k: 0 },
  ]);
}

function open(where: PacketInterface | undefined, options: PacketSocketOptions = {}): PacketSocket {
  return PacketSocket.open(where, { protocol: OURS, ...options });
}

describe("PacketSocket.open()", () => {
  for (const [how, where] of [
    ["its name", () => FAR],
    ["its index", () => interfaceIndex(FAR)],
    ["a NetworkInterface", () => new NetworkInterface(FAR)],
    ["what interfaces() tells", () => interfaces().find(({ name }) => name === FAR)],
  ] as const) {
    namespaced(`binds to an interface given by ${how}, and to no other`, () => {
      using far = open(where() as PacketInterface);
      using near = open(NEAR);
      expect(far.interfaceIndex).toBe(interfaceIndex(FAR));
      expect(far.linkType).toBe(LinkType.ethernet);
      expect(`${far.localAddress}`).toBe(`link:${far.interfaceIndex}/${FAR_MAC}/0x88b5`);
      const sent = frame(randomPayload(50));
      near.trySend(sent);
      expect(drain(far, 1)).toEqual([sent]);
      // A protocol of its own shows a socket nothing that this machine sends.
      expect(drain(near, 0)).toEqual([]);
    });
  }

  namespaced("without an interface gets packets of every one, and tells of which", () => {
    using every = open(undefined);
    expect(every.interfaceIndex).toBe(0);
    using near = open(NEAR, { protocol: 0 });
    using lo = open("lo", { protocol: 0 });
    near.trySend(frame(randomPayload(50)));
    lo.trySend(frame(randomPayload(50), { to: "00:00:00:00:00:00" }));
    const target = new Uint8Array(100);
    const from = [0, 1].map(() => every.receiveFromSync(target, LIMIT).address.interfaceIndex);
    expect(from.sort()).toEqual([interfaceIndex("lo"), interfaceIndex(FAR)].sort());
    // And sends by the one that the address names.
    const sent = frame(randomPayload(50));
    using far = open(FAR);
    expect(every.trySendTo(sent, `link:${NEAR}`)).toBe(sent.length);
    expect(drain(far, 1)).toEqual([sent]);
    expect(systemErrorOf(() => every.trySend(sent)).code).toBe("ENXIO");
  });

  namespaced("with protocol 0 receives nothing, and sends", () => {
    using far = open(FAR, { protocol: 0 });
    using all = open(FAR, { protocol: ETH_P_ALL });
    using near = open(NEAR, { protocol: 0 });
    near.trySend(frame(randomPayload(50)));
    expect(drain(all, 1)).toHaveLength(1);
    expect(drain(far, 0)).toEqual([]);
    expect(far.statistics().packets).toBe(0);
  });

  namespaced("by default receives every protocol, of both directions", () => {
    using far = PacketSocket.open(FAR);
    using near = open(NEAR);
    const frames = [OURS, OTHERS, ETH_P_ARP].map((protocol) =>
      frame(randomPayload(50), { protocol }),
    );
    for (const each of frames) near.trySend(each);
    // A socket is not shown what it sends itself.
    const back = frame(randomPayload(50), { to: NEAR_MAC, from: FAR_MAC });
    far.trySend(frame(randomPayload(50), { to: NEAR_MAC, from: FAR_MAC }));
    using other = open(FAR, { protocol: 0 });
    other.trySend(back);
    const target = new Uint8Array(100);
    const got = [...frames, back].map((each) => {
      const { length, address } = far.receiveFromSync(target, LIMIT);
      expect(target.subarray(0, length)).toEqual(each);
      return `${address.hardwareAddress} ${address.protocol} ${address.packetType}`;
    });
    expect(got).toEqual([
      `${NEAR_MAC} ${OURS} host`,
      `${NEAR_MAC} ${OTHERS} host`,
      `${NEAR_MAC} ${ETH_P_ARP} host`,
      `${FAR_MAC} ${OURS} outgoing`,
    ]);
  });

  namespaced("tells whom a packet was for", () => {
    using far = open(FAR);
    using near = open(NEAR);
    const target = new Uint8Array(100);
    const types = {
      [FAR_MAC]: "host",
      "ff:ff:ff:ff:ff:ff": "broadcast",
      "01:00:5e:00:00:01": "multicast",
      "02:00:00:00:00:ff": "otherHost",
    };
    for (const [to, type] of Object.entries(types)) {
      near.trySend(frame(randomPayload(50), { to }));
      expect(far.receiveFromSync(target, LIMIT).address.packetType).toBe(type as "host");
    }
  });

  namespaced("cooked gives packets without their header, whose parts the sender has", () => {
    using far = open(FAR, { mode: "cooked" });
    using near = open(NEAR);
    expect(far.type).toBe("datagram");
    expect(far.linkType).toBe(LinkType.raw);
    const payload = randomPayload(60);
    near.trySend(frame(payload));
    const target = new Uint8Array(100);
    const { length, address } = far.receiveFromSync(target, LIMIT);
    expect(target.slice(0, length)).toEqual(new Uint8Array(payload));
    expect(`${address}`).toBe(`link:${far.interfaceIndex}/${NEAR_MAC}/0x88b5`);
  });

  namespaced("cooked makes the header of what is sent by its address", () => {
    using cooked = open(NEAR, { mode: "cooked" });
    using far = open(FAR, { protocol: ETH_P_ALL });
    const payload = randomPayload(60);
    const to = new LinkAddress({ interface: NEAR, hardwareAddress: FAR_MAC, protocol: OTHERS });
    expect(cooked.trySendTo(payload, to)).toBe(60);
    expect(cooked.trySendTo(payload, `link:${NEAR}/${FAR_MAC}/0x88b5`)).toBe(60);
    expect(take(far, 2)).toEqual([frame(payload, { protocol: OTHERS }), frame(payload)]);
  });

  namespaced("takes a filter, and lets only through what it accepts", () => {
    using far = PacketSocket.open(FAR, { filter: only(OTHERS) });
    using near = open(NEAR);
    for (const protocol of [OURS, OTHERS, OURS, OTHERS])
      near.trySend(frame(randomPayload(50), { protocol }));
    expect(drain(far, 2).map((each) => each[13])).toEqual([OTHERS & 0xff, OTHERS & 0xff]);
    // What was refused is not counted.
    expect(far.statistics()).toEqual({ packets: 2, drops: 0, freezes: 0 });
  });

  testIf(missing ?? missingLibpcap())("takes a filter as text, raw and cooked", () => {
    const raw = PacketSocket.open(FAR, { filter: "ether proto 0x88b6 and ether[14] = 7" });
    const cooked = PacketSocket.open(FAR, { mode: "cooked", filter: "ip host 192.0.2.7" });
    using near = open(NEAR);
    try {
      const wanted = Uint8Array.of(7, ...randomPayload(49));
      near.trySend(frame(wanted, { protocol: OTHERS }));
      near.trySend(frame(Uint8Array.of(8, ...randomPayload(49)), { protocol: OTHERS }));
      const header = "4500001400000000401100001122334400000000";
      const packets = ["c0000207", "c0000208"].map((host) =>
        Buffer.from(header.replace("11223344", host).padEnd(92, "0"), "hex"),
      );
      for (const each of packets) near.trySend(frame(each, { protocol: ETH_P_IP }));
      expect(drain(raw, 1)).toEqual([frame(wanted, { protocol: OTHERS })]);
      expect(drain(cooked, 1)).toEqual([new Uint8Array(packets[0] as Buffer)]);
      const before = packetSockets();
      expect(caught(() => PacketSocket.open(FAR, { filter: "no such" })).message).not.toBe("");
      expect(packetSockets()).toBe(before);
    } finally {
      raw.close();
      cooked.close();
    }
  });

  namespaced("takes another filter later, and drops what it would have refused", () => {
    using far = PacketSocket.open(FAR);
    using near = open(NEAR);
    near.trySend(frame(randomPayload(50)));
    far.attachFilter(only(OTHERS), { drains: true });
    const wanted = frame(randomPayload(50), { protocol: OTHERS });
    near.trySend(frame(randomPayload(50)));
    near.trySend(wanted);
    expect(drain(far, 1)).toEqual([wanted]);
  });

  namespaced("keeps the filter that configure attaches, also in a fanout group", () => {
    const configure = (socket: Socket) => socket.attachFilter(only(OTHERS));
    using alone = PacketSocket.open(FAR, { configure });
    const fanout = { group: 97, mode: "hash" } as const;
    using member = PacketSocket.open(FAR, { configure, fanout });
    using plain = PacketSocket.open(FAR, { fanout: { group: 96, mode: "hash" } });
    using near = open(NEAR);
    for (const protocol of [OURS, OTHERS]) near.trySend(frame(randomPayload(50), { protocol }));
    for (const socket of [alone, member]) expect(counted(socket, 1).packets).toBe(1);
    expect(counted(plain, 2).packets).toBe(2);
    expect(plain.attachedFilter()).toBeUndefined();
  });

  namespaced("calls configure before anything is received", () => {
    let seen: unknown;
    using far = open(FAR, {
      configure(socket) {
        seen = [socket instanceof PacketSocket, (socket.localAddress as LinkAddress).protocol];
        socket.setOption(SocketOption.receiveQueueOverflow, true);
      },
    });
    expect(seen).toEqual([true, 0]);
    expect(far.getOption(SocketOption.receiveQueueOverflow)).toBe(true);
    const before = packetSockets();
    const thrown = new Error("no");
    const throwing = {
      configure: () => {
        throw thrown;
      },
    };
    expect(caught(() => open(FAR, throwing))).toBe(thrown);
    expect(packetSockets()).toBe(before);
  });

  namespaced(
    "changes nothing of a socket that configure has opened in the place of its own",
    () => {
      for (const make of [PacketSocket.open, PacketRing.open]) {
        let other: PacketSocket | undefined;
        const open = () =>
          make(FAR, {
            snapBytes: 60,
            fanout: { group: 95, mode: "hash" },
            configure(socket) {
              const { descriptor } = socket;
              socket.close();
              other = PacketSocket.open(FAR);
              expect(other.descriptor).toBe(descriptor);
            },
          });
        expect(open).toThrow("the socket is closed");
        using stranger = other as unknown as PacketSocket;
        expect([stranger.attachedFilter(), stranger.fanoutGroup]).toEqual([undefined, undefined]);
      }
    },
  );

  namespaced("tells when a packet came", () => {
    using far = open(FAR, { timestampNs: true });
    using near = open(NEAR);
    const before = Date.now();
    near.trySend(frame(randomPayload(50)));
    using batch = new DatagramBatch();
    expect(far.receiveBatchSync(batch, LIMIT)).toBe(1);
    const ms = batch.timestampSeconds(0) * 1000 + batch.timestampNanoseconds(0) / 1e6;
    // Both by one clock, which need not be read in the same instant.
    expect(Math.abs(ms - before)).toBeLessThan(10_000);
  });

  for (const [options, message] of [
    [{ mode: "cook" }, 'Cannot use "cook" as a mode: expected "raw" or "cooked"'],
    [{ promiscuous: 1 }, "as promiscuous: expected a boolean"],
    [{ ignoreOutgoing: "no" }, "as ignoreOutgoing: expected a boolean"],
    [{ filter: 7 }, "as a filter: expected a FilterProgram, or its text"],
    [{ fanout: { mode: "fair", group: 1 } }, 'Cannot use "fair" as the mode of a fanout group'],
    [{ fanout: { mode: "hash" } }, "as a fanout group"],
    [{ fanout: { mode: "hash", group: 1, uniqueId: true } }, "the kernel chooses one"],
    [{ fanout: { mode: "hash", group: 1 }, protocol: 0 }, "receives nothing"],
    [{ fanout: { mode: "hash", group: 1, program: FilterProgram.dropAll } }, 'mode "program"'],
    [{ fanout: { mode: "program", group: 1, program: {} } }, "expected a FilterProgram"],
    [null, "as options"],
  ] as const) {
    test(`refuses ${JSON.stringify(options)} with a TypeError, before anything is opened`, () => {
      using _ = replaceEntry("socket", () => failWith(EMFILE));
      const error = caught(() => PacketSocket.open("lo", options as never));
      expect(error).toBeInstanceOf(TypeError);
      expect(error.message).toContain(message);
    });
  }

  for (const [where, options] of [
    [0, {}],
    [-1, {}],
    [1.5, {}],
    ["lo", { protocol: 65_536 }],
    ["lo", { protocol: -1 }],
    ["lo", { receiveBufferBytes: 0 }],
    ["lo", { fanout: { mode: "hash", group: 65_536 } }],
    ["lo", { fanout: { mode: "hash", group: 1, membersMax: 65_537 } }],
  ] as const) {
    test(`refuses ${where} with ${JSON.stringify(options)} with a RangeError`, () => {
      expect(caught(() => PacketSocket.open(where, options as never))).toBeInstanceOf(RangeError);
    });
  }

  for (const where of [null, true, {}, Symbol("x")]) {
    test(`refuses ${String(where)} as an interface with a TypeError`, () => {
      expect(caught(() => PacketSocket.open(where as never))).toBeInstanceOf(TypeError);
    });
  }

  testIf(missing ?? requires("unshare", "nsenter"))(
    "belongs to the network namespace that it is opened in, also by names",
    () => {
      using there = makeNamespace();
      there.ip("link", "add", "bs-there", "type", "veth", "peer", "bs-there-2");
      const socket = there.inside(() => open("bs-there"));
      using _ = socket;
      expect(systemErrorOf(() => open("bs-there")).code).toBe("ENODEV");
      const [{ ifindex }] = JSON.parse(there.ip("-j", "link", "show", "bs-there"));
      expect(socket.interfaceIndex).toBe(ifindex);
      socket.addMembership("promiscuous", { interface: "bs-there-2" });
      const [{ promiscuity }] = JSON.parse(there.ip("-d", "-j", "link", "show", "bs-there-2"));
      expect(promiscuity).toBe(1);
    },
  );

  namespaced("cannot make every interface promiscuous", () => {
    for (const name of ["promiscuous", "allMulticast"])
      expect(() => PacketSocket.open(undefined, { [name]: true })).toThrow(
        `Cannot make every interface ${name}: expected the name or index of one`,
      );
    using every = open(undefined);
    expect(() => every.addMembership("promiscuous")).toThrow(TypeError);
    every.addMembership("promiscuous", { interface: FAR });
    expect(link(FAR).promiscuity).toBe(1);
  });

  namespaced("says which interface there is not", () => {
    const before = packetSockets();
    const byName = systemErrorOf(() => open("nosuchif0"));
    expect(byName.code).toBe("ENODEV");
    expect(byName.message).toContain("nosuchif0");
    expect(byName.hint).toContain("interfaces()");
    const byIndex = systemErrorOf(() => open(99_999));
    expect(byIndex.code).toBe("ENODEV");
    expect(byIndex.message).toContain("link:99999");
    expect(byIndex.hint).toContain("interfaces()");
    expect(() => open("a/b")).toThrow(TypeError);
    expect(packetSockets()).toBe(before);
  });

  namespaced("closes what it has opened when a step fails", () => {
    const before = packetSockets();
    for (const name of ["bind", "getsockname", "setsockopt"] as const) {
      using _ = replaceEntry(name, () => failWith(12));
      const error = systemErrorOf(() => open(FAR, { ignoreOutgoing: true }));
      expect(error).toMatchObject({ code: "ENOMEM", syscall: name });
      expect(packetSockets()).toBe(before);
    }
  });

  testIf(missing ?? requires("setpriv"))("without the right says what gives it", () => {
    const code =
      'import { PacketSocket } from "bun-sockets/packet";' +
      'try { PacketSocket.open("lo"); } catch (error) {' +
      "  console.log(JSON.stringify({ ...error, message: error.message })); }";
    const { stdout, stderr } = unprivileged(code);
    const error = JSON.parse(stdout || stderr);
    expect(error.code).toBe("EPERM");
    expect(error.syscall).toBe("socket");
    expect(error.hint).toContain("CAP_NET_RAW");
    expect(error.hint).toContain(`sudo setcap cap_net_raw+ep ${process.execPath}`);
  });
});

describe("packets that come while a PacketSocket is opened", () => {
  /** Sends frames as fast as it can, until it is told to stop. */
  const FLOOD = `
    import { PacketSocket } from "bun-sockets/packet";
    import { DatagramBatch } from "bun-sockets";
    using socket = PacketSocket.open(process.env.LINK, { protocol: 0, bypassQdisc: true });
    using batch = new DatagramBatch({ capacity: 64, slotBytes: 64 });
    const bytes = Uint8Array.fromHex(process.env.FRAME);
    for (let i = 0; i < 64; i++) batch.write(i, bytes);
    batch.count = 64;
    console.log("ready");
    let isOver = false;
    process.stdin.on("data", () => { isOver = true; }).on("end", () => { isOver = true; });
    while (!isOver) {
      for (let k = 0; k < 20; k++) socket.trySendBatch(batch);
      await new Promise((resolve) => setImmediate(resolve));
    }
  `;

  async function flooded(work: () => void): Promise<void> {
    const child = Bun.spawn([process.execPath, "-e", FLOOD], {
      cwd: join(import.meta.dir, "../.."),
      env: { ...process.env, LINK: NEAR, FRAME: frame(new Uint8Array(46)).toHex() },
      stdin: "pipe",
      stdout: "pipe",
    });
    using _ = ending(child);
    expect(await firstLine(child.stdout)).toBe("ready");
    // Until the first have come.
    using far = PacketSocket.open(FAR);
    far.receiveSync(new Uint8Array(64), LIMIT);
    work();
    // They never stopped.
    drain(far, 0);
    far.receiveSync(new Uint8Array(64), LIMIT);
  }

  namespaced("never get past its filter, its protocol or its interface", async () => {
    await flooded(() => {
      const target = new Uint8Array(64);
      const others: [PacketInterface | undefined, PacketSocketOptions][] = [
        [FAR, { protocol: ETH_P_ALL, filter: only(OTHERS) }],
        [undefined, { protocol: ETH_P_ALL, filter: only(OTHERS) }],
        [FAR, { protocol: OTHERS }],
        ["lo", { protocol: OURS }],
        [FAR, { protocol: ETH_P_ALL, filter: only(OTHERS), fanout: { group: 99, mode: "hash" } }],
      ];
      for (let round = 0; round < 10; round++) {
        for (const [where, options] of others) {
          using socket = PacketSocket.open(where, options);
          expect(socket.tryReceive(target)).toBeUndefined();
          expect(socket.statistics().packets).toBe(0);
        }
      }
    });
  });

  namespaced("come to one member of a fanout group, and not to the one that joins", async () => {
    await flooded(() => {
      // Without a program all is for the first member.
      const fanout = { group: 98, mode: "program" } as const;
      using first = open(FAR, { fanout, receiveBufferBytes: 64 << 20 });
      for (let round = 0; round < 20; round++) {
        using second = open(FAR, { fanout });
        expect(second.statistics().packets).toBe(0);
      }
      expect(first.statistics().packets).toBeGreaterThan(0);
    });
  });
});

describe("PacketSocket memberships", () => {
  namespaced("make the interface promiscuous as long as the socket is open", () => {
    const options = { promiscuous: true, allMulticast: true };
    expect(link(FAR)).toMatchObject({ promiscuity: 0, allmulti: 0 });
    {
      using _ = open(FAR, options);
      expect(link(FAR)).toMatchObject({ promiscuity: 1, allmulti: 1 });
      using second = open(FAR, { promiscuous: true });
      expect(link(FAR).promiscuity).toBe(2);
      using _third = second.duplicate();
      second.close();
      // Its duplicate is the same open socket.
      expect(link(FAR).promiscuity).toBe(2);
    }
    expect(link(FAR)).toMatchObject({ promiscuity: 0, allmulti: 0 });
  });

  namespaced("are added and dropped, each as often as the other", () => {
    using socket = open(FAR);
    socket.addMembership("promiscuous");
    socket.addMembership("promiscuous");
    expect(link(FAR).promiscuity).toBe(1);
    socket.dropMembership("promiscuous");
    expect(link(FAR).promiscuity).toBe(1);
    socket.dropMembership("promiscuous");
    expect(link(FAR).promiscuity).toBe(0);
    socket.addMembership("allMulticast", { interface: NEAR });
    expect(link(NEAR).allmulti).toBe(1);
    expect(link(FAR).allmulti).toBe(0);
    socket.dropMembership("allMulticast", { interface: NEAR });
    expect(link(NEAR).allmulti).toBe(0);
    // There is none any more.
    socket.dropMembership("allMulticast", { interface: NEAR });
  });

  namespaced("are for one hardware address, too", () => {
    const groups = () => ip("maddr", "show", "dev", FAR);
    using socket = open(FAR);
    socket.addMembership("multicast", { address: "01:00:5e:00:00:63" });
    expect(groups()).toContain("01:00:5e:00:00:63");
    socket.dropMembership("multicast", { address: Uint8Array.of(1, 0, 0x5e, 0, 0, 0x63) });
    expect(groups()).not.toContain("01:00:5e:00:00:63");
    socket.addMembership("unicast", { address: "02:00:00:00:00:63" });
    expect(unicastOf(socket)).toBe(1);
    socket.dropMembership("unicast", { address: "02:00:00:00:00:63" });
    expect(unicastOf(socket)).toBe(0);
    const error = systemErrorOf(() => socket.addMembership("multicast", { address: "01:00" }));
    expect(error).toMatchObject({ code: "EINVAL", option: "PACKET_ADD_MEMBERSHIP" });
  });

  // The kernel lists no addresses; but a device that cannot tell them apart takes in everything.
  function unicastOf(socket: PacketSocket): number {
    return link(socket.interfaceIndex === interfaceIndex(FAR) ? FAR : NEAR).promiscuity;
  }

  namespaced("end with the process, however it ends", async () => {
    const child = Bun.spawn(
      [
        process.execPath,
        "-e",
        'import { PacketSocket } from "bun-sockets/packet";' +
          "globalThis.socket = PacketSocket.open(process.env.LINK, { promiscuous: true });" +
          'console.log("ready"); setInterval(() => {}, 1000);',
      ],
      {
        cwd: join(import.meta.dir, "../.."),
        env: { ...process.env, LINK: FAR },
        stdout: "pipe",
      },
    );
    using _ = ending(child);
    expect(await firstLine(child.stdout)).toBe("ready");
    expect(link(FAR).promiscuity).toBe(1);
    child.kill("SIGKILL");
    await child.exited;
    expect(link(FAR).promiscuity).toBe(0);
  });

  namespaced("refuse what is none", () => {
    using socket = open(FAR);
    const wrong: [unknown, unknown][] = [
      ["all", {}],
      [undefined, {}],
      ["promiscuous", { address: "02:00:00:00:00:01" }],
      ["multicast", {}],
      ["multicast", { address: "x" }],
      ["promiscuous", { interface: true }],
      ["promiscuous", null],
    ];
    for (const [kind, options] of wrong) {
      const add = () => socket.addMembership(kind as "promiscuous", options as never);
      expect(caught(add)).toBeInstanceOf(TypeError);
      const drop = () => socket.dropMembership(kind as "promiscuous", options as never);
      expect(caught(drop)).toBeInstanceOf(TypeError);
    }
    const error = systemErrorOf(() => socket.addMembership("promiscuous", { interface: 99_999 }));
    expect(error).toMatchObject({ code: "ENODEV" });
    expect(error.hint).toContain("99999");
    expect(link(FAR)).toMatchObject({ promiscuity: 0, allmulti: 0 });
  });
});

describe("PacketSocket ignoreOutgoing", () => {
  namespaced("shows what goes over the loopback interface once instead of twice", () => {
    using both = PacketSocket.open("lo", { filter: only(OURS) });
    using once = PacketSocket.open("lo", { filter: only(OURS), ignoreOutgoing: true });
    using sender = open("lo", { protocol: 0 });
    sender.trySend(frame(randomPayload(50), { to: "00:00:00:00:00:00" }));
    const target = new Uint8Array(100);
    const types = (socket: PacketSocket) => {
      const found: unknown[] = [];
      for (;;) {
        const received = socket.tryReceiveFrom(target);
        if (!received) return found;
        found.push(received.address.packetType);
      }
    };
    expect(types(both)).toEqual(["outgoing", "host"]);
    expect(types(once)).toEqual(["host"]);
  });
});

describe("PacketSocket auxiliaryData", () => {
  namespaced("tells the VLAN tag of each packet of a batch, and leaves it out of the bytes", () => {
    using far = PacketSocket.open(FAR, { auxiliaryData: true });
    using near = open(NEAR, { protocol: 0 });
    const payload = randomPayload(50);
    const sent = [
      () => near.trySend(frame(payload, { tags: [[ETH_P_8021Q, 42]] })),
      () => near.trySend(frame(payload)),
      () => near.trySend(frame(payload, { tags: [[ETH_P_8021Q, 0xe123]] })),
      () => near.trySend(frame(payload, { tags: [[ETH_P_8021AD, 7]] })),
      // Of two tags the outer one is taken out.
      () =>
        near.trySend(
          frame(payload, {
            tags: [
              [ETH_P_8021AD, 8],
              [ETH_P_8021Q, 9],
            ],
          }),
        ),
    ];
    for (const send of sent) send();
    using batch = new DatagramBatch();
    expect(far.receiveBatchSync(batch, LIMIT)).toBe(sent.length);
    const told = sent.map((_, i) => [batch.vlan(i), batch.vlanProtocol(i)]);
    expect(told).toEqual([
      [42, ETH_P_8021Q],
      [-1, -1],
      [0xe123, ETH_P_8021Q],
      [7, ETH_P_8021AD],
      [8, ETH_P_8021AD],
    ]);
    for (const i of [0, 1, 2, 3]) expect(batch.view(i)).toEqual(frame(payload));
    expect(batch.view(4)).toEqual(frame(payload, { tags: [[ETH_P_8021Q, 9]] }));
    const tagBits = TP_STATUS_VLAN_VALID | TP_STATUS_VLAN_TPID_VALID;
    expect(batch.packetStatus(0) & tagBits).toBe(tagBits);
    expect(batch.packetStatus(1) & tagBits).toBe(0);
    // What is known goes with the slot.
    batch.swap(0, 1);
    expect([batch.vlan(0), batch.vlan(1)]).toEqual([-1, 42]);
  });

  namespaced("tells it among the control messages of a message", () => {
    using far = PacketSocket.open(FAR, { auxiliaryData: true });
    using near = open(NEAR, { protocol: 0 });
    const payload = randomPayload(50);
    const sent = frame(payload);
    near.trySend(frame(payload, { tags: [[ETH_P_8021Q, 42]] }));
    const bytes = new Uint8Array(40);
    const message = new Message({ vectors: [bytes], controlBytes: 64 });
    expect(far.receiveMessageSync(message, LIMIT)).toBe(40);
    expect(bytes).toEqual(sent.subarray(0, 40));
    expect(message.controlMessages()).toEqual([
      {
        kind: "auxiliaryData",
        status: expect.any(Number),
        originalLength: sent.length,
        capturedLength: sent.length,
        networkOffset: ETHERNET,
        vlan: 42,
        vlanProtocol: ETH_P_8021Q,
        checksum: "unknown",
      },
    ]);
    expect((message.address as LinkAddress).hardwareAddress).toBe(NEAR_MAC);
  });

  namespaced("tells of checksums that nobody has written yet", () => {
    using far = PacketSocket.open("lo", {
      auxiliaryData: true,
      protocol: ETH_P_IP,
      ignoreOutgoing: true,
    });
    using udp = UdpSocket.bind("127.0.0.1:0");
    udp.sendToSync("hello", udp.localAddress);
    using injected = open("lo", { protocol: 0 });
    const ipv4 = { to: "00:00:00:00:00:00", protocol: ETH_P_IP };
    injected.trySend(frame(new Uint8Array(46), ipv4));
    using batch = new DatagramBatch();
    expect(far.receiveBatchSync(batch, LIMIT)).toBe(2);
    expect(batch.checksum(0)).toBe("unfinished");
    expect(batch.packetStatus(0) & TP_STATUS_CSUMNOTREADY).toBe(TP_STATUS_CSUMNOTREADY);
    expect(batch.checksum(1)).not.toBe("unfinished");
  });

  namespaced("is not told without the option, nor of other sockets", () => {
    using far = PacketSocket.open(FAR);
    using near = open(NEAR, { protocol: 0 });
    near.trySend(frame(randomPayload(50), { tags: [[ETH_P_8021Q, 5]] }));
    using batch = new DatagramBatch();
    expect(far.receiveBatchSync(batch, LIMIT)).toBe(1);
    const told = () => [batch.vlan(0), batch.vlanProtocol(0), batch.packetStatus(0)];
    expect([...told(), batch.checksum(0)]).toEqual([-1, -1, -1, "unknown"]);
    using udp = UdpSocket.bind("127.0.0.1:0", { metadata: ["destination"] });
    udp.sendToSync("hello", udp.localAddress);
    expect(udp.receiveBatchSync(batch, LIMIT)).toBe(1);
    expect([...told(), batch.checksum(0)]).toEqual([-1, -1, -1, "unknown"]);
    expect(batch.destination(0)?.host).toBe("127.0.0.1");
  });

  namespaced("never goes out with a batch that is sent on", () => {
    using far = PacketSocket.open(FAR, { auxiliaryData: true, filter: only(OURS) });
    using near = open(NEAR);
    const sent = [1, 2, 3].map(() => frame(randomPayload(50)));
    for (const each of sent) near.trySend(each);
    using batch = new DatagramBatch();
    expect(far.receiveBatchSync(batch, LIMIT)).toBe(3);
    // An echo: each goes to the sockaddr that it came from.
    expect(far.trySendBatch(batch)).toBe(3);
    expect(take(near, 3)).toEqual(sent);
  });
});

describe("PacketSocket.statistics()", () => {
  namespaced("adds up over reads: received and dropped are what was sent", () => {
    using far = open(FAR, { receiveBufferBytes: 20_000 });
    using near = open(NEAR, { protocol: 0 });
    const bytes = frame(randomPayload(200));
    let sent = 0;
    let received = 0;
    let last = { packets: 0, drops: 0, freezes: 0 };
    for (const count of [5, 500, 0, 1000, 1]) {
      for (let i = 0; i < count; i++) near.trySend(bytes);
      sent += count;
      const now = counted(far, sent);
      expect(now.packets).toBe(sent);
      expect(now.drops).toBeGreaterThanOrEqual(last.drops);
      received += drain(far, 0).length;
      expect(received + now.drops).toBe(sent);
      last = far.statistics();
      expect(last).toEqual(now);
    }
    expect(last.drops).toBeGreaterThan(0);
    expect(last.freezes).toBe(0);
  });

  namespaced("are the same for a duplicate, whoever reads them", () => {
    using far = open(FAR);
    using second = far.duplicate();
    using near = open(NEAR, { protocol: 0 });
    near.trySend(frame(randomPayload(50)));
    expect(counted(far, 1).packets).toBe(1);
    near.trySend(frame(randomPayload(50)));
    expect(counted(second, 2).packets).toBe(2);
    far.close();
    expect(second.statistics().packets).toBe(2);
  });
});

describe("PacketSocket injection", () => {
  type Inject = (socket: PacketSocket, bytes: Uint8Array) => unknown;
  const forms: Record<string, Inject> = {
    trySend: (socket, bytes) => socket.trySend(bytes),
    sendSync: (socket, bytes) => socket.sendSync(bytes, LIMIT),
    send: (socket, bytes) => socket.send(bytes, LIMIT),
    trySendTo: (socket, bytes) => socket.trySendTo(bytes, socket.localAddress),
    sendToSync: (socket, bytes) => socket.sendToSync(bytes, `link:${NEAR}`, LIMIT),
    sendTo: (socket, bytes) => socket.sendTo(bytes, new LinkAddress({ interface: NEAR })),
    trySendMessage: (socket, bytes) => socket.trySendMessage(messageOf(bytes)),
    sendMessageSync: (socket, bytes) => socket.sendMessageSync(messageOf(bytes), LIMIT),
    sendMessage: (socket, bytes) => socket.sendMessage(messageOf(bytes), LIMIT),
    trySendBatch: (socket, bytes) => withBatch(bytes, (batch) => socket.trySendBatch(batch)),
    sendBatchSync: (socket, bytes) =>
      withBatch(bytes, (batch) => socket.sendBatchSync(batch, 0, LIMIT)),
    sendBatch: (socket, bytes) => withBatch(bytes, (batch) => socket.sendBatch(batch, 0, LIMIT)),
  };

  function messageOf(bytes: Uint8Array): Message {
    return new Message({ vectors: [bytes.subarray(0, 20), bytes.subarray(20)] });
  }

  async function rejectionOf(run: () => Promise<unknown>): Promise<SystemError> {
    try {
      await run();
    } catch (error) {
      if (error instanceof SystemError) return error;
      throw error;
    }
    throw new Error("Expected the call to fail");
  }

  async function withBatch(bytes: Uint8Array, send: (batch: DatagramBatch) => unknown) {
    using batch = new DatagramBatch({ capacity: 2, slotBytes: 65_536 });
    batch.write(0, bytes);
    batch.count = 1;
    const sent = await send(batch);
    // A slot that cannot be sent harms no other.
    const code = batch.failure(0);
    if (code) throw new SystemError(code === "EMSGSIZE" ? EMSGSIZE : 0, "sendmmsg");
    return sent;
  }

  for (const [name, inject] of Object.entries(forms)) {
    namespaced(`puts a frame on the wire as it is (${name})`, async () => {
      using far = open(FAR);
      using near = open(NEAR, { protocol: 0 });
      for (const length of [46, 1000, MTU]) {
        const sent = frame(randomPayload(length));
        const result = await inject(near, sent);
        expect(result).toBe(name.includes("Batch") ? 1 : sent.length);
        expect(take(far, 1)).toEqual([sent]);
      }
    });

    namespaced(`refuses a frame that is too long, and sends the next (${name})`, async () => {
      using far = open(FAR);
      using near = open(NEAR, { protocol: 0 });
      const long = frame(randomPayload(MTU + 5));
      const error = await rejectionOf(async () => inject(near, long));
      expect(error.code).toBe("EMSGSIZE");
      if (!name.includes("Batch")) expect(error.hint).toContain("MTU of its interface");
      const next = frame(randomPayload(50));
      await inject(near, next);
      expect(take(far, 1)).toEqual([next]);
    });
  }

  namespaced("sends batches past the queue, in order, and to addresses of their own", () => {
    using far = PacketSocket.open(FAR, { filter: only(OURS) });
    using near = PacketSocket.open(undefined, { protocol: 0, bypassQdisc: true });
    using batch = new DatagramBatch({ capacity: 64 });
    const frames = Array.from({ length: 64 }, () => frame(randomPayload(60)));
    for (const [i, bytes] of frames.entries()) {
      batch.write(i, bytes);
      batch.setAddress(i, new LinkAddress({ interface: NEAR }));
    }
    batch.count = 64;
    expect(near.trySendBatch(batch)).toBe(64);
    expect(take(far, 64)).toEqual(frames);
  });

  namespaced("passes over the frame of a batch that is too long, and says which", () => {
    using far = open(FAR);
    using near = open(NEAR, { protocol: 0, bypassQdisc: true });
    using batch = new DatagramBatch({ capacity: 4 });
    const lengths = [46, MTU, MTU + 5, 46];
    const frames = lengths.map((length) => frame(randomPayload(length)));
    for (const [i, bytes] of frames.entries()) batch.write(i, bytes);
    batch.count = 4;
    expect(near.trySendBatch(batch)).toBe(3);
    expect(batch.stopped).toBeUndefined();
    expect([0, 1, 2, 3].map((i) => batch.failure(i))).toEqual([
      undefined,
      undefined,
      "EMSGSIZE",
      undefined,
    ]);
    expect(take(far, 3)).toEqual([0, 1, 3].map((i) => frames[i] as Uint8Array));
  });

  namespaced("refuses what is too short to have a header", () => {
    using near = open(NEAR, { protocol: 0 });
    for (const length of [0, ETHERNET - 1])
      expect(systemErrorOf(() => near.trySend(new Uint8Array(length))).code).toBe("EINVAL");
    expect(() => near.trySendTo(new Uint8Array(60), "127.0.0.1:1")).toThrow(
      'expected a LinkAddress, or its text: "link:eth0"',
    );
  });
});

describe("PacketSocket on a slow interface", () => {
  const slow = testIf(missing ?? requires("tc"));
  const COUNT = 40;

  /** So many frames, and a socket that has room for some of them until they are on the wire. */
  function queueing(rate = "8mbit") {
    const bucket = ["rate", rate, "burst", "4kb", "limit", "1mb"];
    const { success, stderr } = Bun.spawnSync(
      ["tc", "qdisc", "add", "dev", NEAR, "root", "tbf"].concat(bucket),
    );
    if (!success) throw new Error(stderr.toString());
    const far = open(FAR, { receiveBufferBytes: 1 << 20 });
    const near = open(NEAR, { protocol: 0, sendBufferBytes: 8192 });
    const frames = Array.from({ length: COUNT }, () => frame(randomPayload(500)));
    const end = () => {
      near.close();
      far.close();
      Bun.spawnSync(["tc", "qdisc", "del", "dev", NEAR, "root"]);
    };
    return { far, near, frames, [Symbol.dispose]: end };
  }

  slow("waits for room in each form, and loses nothing", async () => {
    using made = queueing();
    const { far, near, frames } = made;
    const sent: Uint8Array[] = [];
    const next = () => {
      const bytes = frames[sent.length % COUNT] as Uint8Array;
      sent.push(bytes);
      return bytes;
    };
    while (near.trySend(next()) !== undefined);
    // That one found no room.
    sent.pop();
    await near.send(next(), LIMIT);
    near.sendSync(next(), LIMIT);
    await near.sendTo(next(), `link:${NEAR}`, LIMIT);
    near.sendToSync(next(), near.localAddress, LIMIT);
    expect(take(far, sent.length)).toEqual(sent);
  });

  slow("sends the whole of a batch, waiting for room", async () => {
    using made = queueing();
    const { far, near, frames } = made;
    using batch = new DatagramBatch({ capacity: COUNT });
    for (const [i, bytes] of frames.entries()) batch.write(i, bytes);
    batch.count = COUNT;
    const expectAll = () => expect(take(far, COUNT)).toEqual(frames);
    let first = near.trySendBatch(batch);
    // All of it fits when this thread is held up.
    for (; first === COUNT; first = near.trySendBatch(batch)) expectAll();
    expect(first).toBeGreaterThan(0);
    expect(batch.stopped).toEqual({ index: first, code: "EAGAIN" });
    expect(near.sendBatchSync(batch, first, LIMIT)).toBe(COUNT - first);
    expectAll();
    expect(await near.sendBatch(batch, 0, LIMIT)).toBe(COUNT);
    expectAll();
  });

  slow("overtakes what is queued with bypassQdisc", () => {
    // What is queued takes a fifth of a second.
    using made = queueing("500kbit");
    const { far, near, frames } = made;
    using direct = open(NEAR, { protocol: 0, bypassQdisc: true });
    let sent = 0;
    while (near.trySend(frames[sent] as Uint8Array) !== undefined) sent++;
    const express = frame(randomPayload(60));
    direct.trySend(express);
    const got = take(far, sent + 1);
    const at = got.findIndex((bytes) => bytes.length === express.length);
    expect(got[at]).toEqual(express);
    expect(at).toBeLessThan(sent);
  });
});

describe("PacketSocket on an interface that is down", () => {
  namespaced("fails once, waits, and is good again when it is up", async () => {
    using far = open(FAR);
    using near = open(NEAR);
    const target = new Uint8Array(100);
    ip("link", "set", FAR, "down");
    try {
      expect(systemErrorOf(() => far.tryReceive(target)).code).toBe("ENETDOWN");
      expect(far.tryReceive(target)).toBeUndefined();
      expect(() => far.receiveSync(target, { timeoutMs: 20 })).toThrow(TimeoutError);
      expect(systemErrorOf(() => far.trySend(frame(randomPayload(50)))).code).toBe("ENETDOWN");
    } finally {
      plugIn(FAR, NEAR);
    }
    const waiting = far.receive(target, LIMIT);
    const sent = frame(randomPayload(50));
    near.trySend(sent);
    expect(target.subarray(0, await waiting)).toEqual(sent);
  });

  namespaced("tells one who waits, in the promise form", async () => {
    using far = open(FAR);
    const waiting = far.receive(new Uint8Array(100), LIMIT).catch((error) => error);
    ip("link", "set", FAR, "down");
    plugIn(FAR, NEAR);
    expect((await waiting).code).toBe("ENETDOWN");
  });

  namespaced("is opened all the same, and says so with the first receive", () => {
    ip("link", "set", FAR, "down");
    try {
      using far = open(FAR);
      expect(systemErrorOf(() => far.tryReceive(new Uint8Array(9))).code).toBe("ENETDOWN");
      expect(far.tryReceive(new Uint8Array(9))).toBeUndefined();
    } finally {
      plugIn(FAR, NEAR);
    }
  });

  namespaced(
    "of the peer may lose what is sent in silence, but with bypassQdisc says so",
    async () => {
      using queued = open(NEAR, { protocol: 0 });
      using direct = open(NEAR, { protocol: 0, bypassQdisc: true });
      const bytes = frame(randomPayload(50));
      ip("link", "set", FAR, "down");
      try {
        // In silence as long as the kernel has not looked after the queue; then it refuses.
        isSent(queued, bytes);
        expect(systemErrorOf(() => direct.trySend(bytes)).code).toBe("ENOBUFS");
        using batch = new DatagramBatch({ capacity: 1 });
        batch.write(0, bytes);
        batch.count = 1;
        expect(direct.trySendBatch(batch)).toBe(0);
        expect(batch.stopped).toEqual({ index: 0, code: "ENOBUFS" });
      } finally {
        plugIn(FAR, NEAR);
      }
      using far = open(FAR);
      // The kernel may still be busy with the change, and then refuses a little longer.
      await until(() => isSent(direct, bytes), "it is sent");
      expect(take(far, 1)).toEqual([bytes]);
    },
  );

  function isSent(socket: PacketSocket, bytes: Uint8Array): boolean {
    try {
      return socket.trySend(bytes) === bytes.length;
    } catch (error) {
      if (error instanceof SystemError && error.code === "ENOBUFS") return false;
      throw error;
    }
  }

  namespaced("that has gone is index -1", () => {
    ip("link", "add", "bs-gone", "type", "veth", "peer", "bs-gone-far");
    for (const name of ["bs-gone", "bs-gone-far"]) ip("link", "set", name, "up");
    using socket = open("bs-gone");
    ip("link", "del", "bs-gone");
    expect(socket.interfaceIndex).toBe(-1);
    expect(`${socket}`).toContain("link:-1");
    expect(systemErrorOf(() => socket.tryReceive(new Uint8Array(9))).code).toBe("ENETDOWN");
    expect(systemErrorOf(() => socket.trySend(frame(randomPayload(50)))).code).toBe("ENXIO");
  });
});

describe("PacketSocket as any other socket", () => {
  namespaced("waits, ends its wait, and loses nothing by it", async () => {
    using far = open(FAR);
    using near = open(NEAR, { protocol: 0 });
    const target = new Uint8Array(100);
    const abort = new AbortController();
    const aborted = far.receive(target, { signal: abort.signal }).catch((error) => error);
    abort.abort();
    expect(await aborted).toBe(abort.signal.reason);
    await expect(far.receive(target, { timeoutMs: 1 })).rejects.toBeInstanceOf(TimeoutError);
    const waiting = far.receiveFrom(target, LIMIT);
    const sent = frame(randomPayload(50));
    near.trySend(sent);
    const { length, address } = await waiting;
    expect(target.subarray(0, length)).toEqual(sent);
    expect(address.hardwareAddress).toBe(NEAR_MAC);
    const closed = far.receive(target).catch((error) => error);
    far.close();
    expect(await closed).toBeInstanceOf(ClosedError);
  });

  namespaced("tells how long a packet was that the target is too short for", () => {
    using far = open(FAR);
    using near = open(NEAR, { protocol: 0 });
    near.trySend(frame(randomPayload(500)));
    near.trySend(frame(randomPayload(500)));
    const received = far.receiveFromSync(new Uint8Array(60), LIMIT);
    expect(received).toMatchObject({ length: 60, originalLength: 514 });
    using batch = new DatagramBatch({ capacity: 1, slotBytes: 64 });
    far.receiveBatchSync(batch, LIMIT);
    expect([batch.truncated(0), batch.length(0), batch.originalLength(0)]).toEqual([true, 64, 514]);
  });

  namespaced("has one sender for all packets of a machine, by number and by address", () => {
    using far = open(FAR);
    using near = open(NEAR, { protocol: 0 });
    for (const from of [NEAR_MAC, "02:00:00:00:00:0c", NEAR_MAC])
      near.trySend(frame(randomPayload(50), { from }));
    using batch = new DatagramBatch();
    expect(far.receiveBatchSync(batch, LIMIT)).toBe(3);
    expect(batch.sender(0)).toBe(batch.sender(2));
    expect(batch.sender(0)).not.toBe(batch.sender(1));
    expect(batch.address(0)).toBeInstanceOf(LinkAddress);
    expect((batch.address(1) as LinkAddress).hardwareAddress).toBe("02:00:00:00:00:0c");
  });

  namespaced("after close says so in every call, and closes twice", () => {
    const socket = open(FAR, { fanout: { mode: "hash", uniqueId: true } });
    socket.close();
    socket.close();
    expect(`${socket}`).toBe("PacketSocket raw, closed");
    const calls = [
      () => socket.interfaceIndex,
      () => socket.linkType,
      () => socket.fanoutGroup,
      () => socket.statistics(),
      () => socket.rolloverStatistics(),
      () => socket.addMembership("promiscuous"),
      () => socket.addMembership("promiscuous", { interface: FAR }),
      () => socket.dropMembership("promiscuous"),
      () => socket.joinFanout({ mode: "hash", group: 1 }),
      () => socket.duplicate(),
      () => socket.detach(),
      () => socket.localAddress,
      () => socket.tryReceive(new Uint8Array(9)),
      () => socket.trySend(new Uint8Array(60)),
      () => socket.getOption(PacketOption.auxiliaryData),
    ];
    for (const call of calls) expect(caught(call)).toBeInstanceOf(ClosedError);
  });

  namespaced("is detached and adopted, and keeps what it has received", () => {
    const far = open(FAR);
    using near = open(NEAR, { protocol: 0 });
    const sent = frame(randomPayload(50));
    near.trySend(sent);
    using adopted = PacketSocket.adopt(far.detach(), { own: true });
    expect(() => far.statistics()).toThrow(ClosedError);
    expect(adopted.type).toBe("raw");
    expect(adopted.interfaceIndex).toBe(interfaceIndex(FAR));
    expect(adopted.linkType).toBe(LinkType.ethernet);
    expect(adopted.fanoutGroup).toBeUndefined();
    expect(drain(adopted, 1)).toEqual([sent]);
    expect(adopted.statistics().packets).toBe(1);
    using udp = UdpSocket.bind("127.0.0.1:0");
    expect(() => PacketSocket.adopt(udp.duplicate().detach())).toThrow("as a packet socket");
  });

  namespaced("shows what it is", () => {
    using socket = open(FAR);
    const { fd, index } = { fd: socket.duplicate().detach(), index: socket.interfaceIndex };
    PacketSocket.adopt(fd, { own: true }).close();
    expect(`${socket}`).toMatch(
      new RegExp(`^PacketSocket raw, descriptor \\d+, link:${index}/${FAR_MAC}/0x88b5$`),
    );
    using plain = Socket.create(AF_PACKET, "raw");
    expect(`${plain}`).toStartWith("Socket 17 raw, descriptor");
  });

  namespaced("is bound anew, to another interface", () => {
    using socket = open(FAR);
    using far = open(FAR, { protocol: 0 });
    socket.bind(`link:${NEAR}/0x88b5`);
    const sent = frame(randomPayload(50), { to: NEAR_MAC, from: FAR_MAC });
    far.trySend(sent);
    expect(drain(socket, 1)).toEqual([sent]);
    expect(socket.interfaceIndex).toBe(interfaceIndex(NEAR));
  });
});

describe("PacketOption", () => {
  for (const name of [
    "auxiliaryData",
    "bypassQdisc",
    "ignoreOutgoing",
    "originalDevice",
  ] as const) {
    namespaced(`${name} is off, on, and off again`, () => {
      using socket = open(FAR);
      const option = PacketOption[name];
      const states = [socket.getOption(option)];
      for (const state of [true, false]) {
        socket.setOption(option, state);
        states.push(socket.getOption(option));
      }
      expect(states).toEqual([false, true, false]);
      expect(() => socket.setOption(option, 1 as never)).toThrow(TypeError);
    });
  }

  namespaced("are what the creation options set", () => {
    using socket = open(FAR, { auxiliaryData: true, bypassQdisc: true, ignoreOutgoing: true });
    for (const name of ["auxiliaryData", "bypassQdisc", "ignoreOutgoing"] as const)
      expect(socket.getOption(PacketOption[name])).toBe(true);
    expect(socket.getOption(SocketOption.timestampNs)).toBe(false);
  });

  namespaced("timestampSource and copyThreshold take numbers", () => {
    using socket = open(FAR);
    socket.setOption(PacketOption.timestampSource, 0x40);
    expect(socket.getOption(PacketOption.timestampSource)).toBe(0x40);
    socket.setOption(PacketOption.copyThreshold, 128);
    expect(() => socket.setOption(PacketOption.copyThreshold, -1)).toThrow(RangeError);
    expect(() => socket.getOption(PacketOption.copyThreshold as never)).toThrow(TypeError);
  });

  namespaced("are none of a UDP socket", () => {
    using udp = UdpSocket.open("ipv4");
    const error = systemErrorOf(() => udp.setOption(PacketOption.auxiliaryData, true));
    expect(error).toMatchObject({ code: "ENOPROTOOPT", option: "PACKET_AUXDATA" });
  });
});

describe("PacketSocket and programs of others", () => {
  // Prints the frames that come, then sends those that it is given.
  const PYTHON = `
import socket, sys
name, protocol, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(protocol))
s.bind((name, protocol))
s.settimeout(10)
print("ready", flush=True)
for _ in range(count):
    data, address = s.recvfrom(65536)
    print(data.hex(), *address[:4], address[4].hex(), flush=True)
for frame in sys.argv[4:]:
    s.send(bytes.fromhex(frame))
`;

  withPython("gives python3's packet sockets what it sends, and gets what they send", async () => {
    using near = PacketSocket.open(NEAR, {
      auxiliaryData: true,
      ignoreOutgoing: true,
      filter: only(OURS),
    });
    const ours = [46, 200, MTU].map((length) => frame(randomPayload(length)));
    const back = { to: NEAR_MAC, from: FAR_MAC };
    const payload = randomPayload(80);
    const theirs = [frame(payload, back), frame(payload, { ...back, tags: [[ETH_P_8021Q, 77]] })];
    const values = [FAR, `${OURS}`, "3", ...theirs.map((bytes) => bytes.toHex())];
    const child = Bun.spawn(["python3", "-c", PYTHON, ...values], { stdout: "pipe" });
    using _ = ending(child);
    const reader = child.stdout.getReader();
    let said = "";
    while (!said.includes("ready")) said += Buffer.from((await reader.read()).value ?? []);
    for (const bytes of ours) await near.send(bytes, LIMIT);
    for (let got = await reader.read(); !got.done; got = await reader.read())
      said += Buffer.from(got.value);
    const host = 0;
    const ethernet = 1;
    expect(said.trim().split("\n").slice(1)).toEqual(
      ours.map((bytes) =>
        [bytes.toHex(), FAR, OURS, host, ethernet, NEAR_MAC.replaceAll(":", "")].join(" "),
      ),
    );
    using batch = new DatagramBatch();
    expect(await near.receiveBatch(batch, LIMIT)).toBe(2);
    expect([batch.view(0), batch.view(1)]).toEqual(Array(2).fill(frame(payload, back)));
    expect([batch.vlan(0), batch.vlan(1)]).toEqual([-1, 77]);
    expect(`${batch.address(0)}`).toBe(`link:${near.interfaceIndex}/${FAR_MAC}/0x88b5`);
  });

  testIf(missing ?? requires("tcpdump"))("gives tcpdump what it sends, byte for byte", async () => {
    const frames = [
      ...[46, 300, MTU].map((length) => frame(randomPayload(length))),
      // It puts the tag back.
      frame(randomPayload(100), { tags: [[ETH_P_8021Q, 0x2005]] }),
    ];
    const flags = ["-i", FAR, "-c", `${frames.length}`, "-U", "-w", "-", "--immediate-mode"];
    const filter = "ether proto 0x88b5 or vlan";
    const child = Bun.spawn(["tcpdump", ...flags, "-Q", "in", filter], {
      stdout: "pipe",
      stderr: "pipe",
    });
    using _ = ending(child);
    expect(await firstLine(child.stderr)).toContain("listening on");
    using near = open(NEAR, { protocol: 0 });
    for (const bytes of frames) near.sendSync(bytes, LIMIT);
    const file = new Uint8Array(await new Response(child.stdout).arrayBuffer());
    expect(recordsOf(file)).toEqual(frames);
  });

  // pcap(5): a header of 24 bytes, then each frame behind one of 16, of which the third word tells how
  // long it is.
  function recordsOf(file: Uint8Array): Uint8Array[] {
    const view = new DataView(file.buffer);
    const found: Uint8Array[] = [];
    for (let at = 24; at < file.length; ) {
      const length = view.getUint32(at + 8, true);
      found.push(file.slice(at + 16, at + 16 + length));
      at += 16 + length;
    }
    return found;
  }

  testIf(missing ?? requires("tshark"))("gives tshark what it sends, field by field", async () => {
    const fields = ["eth.dst", "eth.src", "eth.type", "frame.len", "data.data"];
    const flags = ["-l", "-n", "-i", FAR, "-c", "2", "-f", "ether proto 0x88b5", "-T", "fields"];
    const child = Bun.spawn(["tshark", ...flags, ...fields.flatMap((field) => ["-e", field])], {
      stdout: "pipe",
      stderr: "pipe",
    });
    using _ = ending(child);
    const errors = child.stderr.getReader();
    for (let said = ""; !said.includes("Capturing on"); )
      said += Buffer.from((await errors.read()).value ?? []);
    // It says so before it does: until it has the first one, others are sent.
    const payload = randomPayload(60);
    using near = open(NEAR, { protocol: 0 });
    const timer = setInterval(() => near.trySend(frame(payload)), 10);
    const text = await new Response(child.stdout).text();
    clearInterval(timer);
    const line = [FAR_MAC, NEAR_MAC, "0x88b5", "74", payload.toString("hex")].join("\t");
    expect(text.trim().split("\n")).toEqual([line, line]);
  });
});

function missingLibpcap(): string | undefined {
  try {
    compileFilter("ip");
    return undefined;
  } catch (error) {
    return `needs libpcap: ${error}`;
  }
}

/** Runs a program as nobody, from this checkout. */
function unprivileged(code: string): { stdout: string; stderr: string } {
  const { stdout, stderr } = Bun.spawnSync(
    [
      ...["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--bounding-set=-net_raw"],
      ...[process.execPath, "-e", code],
    ],
    { cwd: join(import.meta.dir, "../.."), env: { ...process.env, HOME: "/nonexistent" } },
  );
  return { stdout: stdout.toString(), stderr: stderr.toString() };
}

/** How many packet sockets there are in this namespace, whoever has them. */
function packetSockets(): number {
  return readFileSync("/proc/net/packet", "latin1").split("\n").length;
}
