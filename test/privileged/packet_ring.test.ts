/**
 * Rings on a veth pair of their own: what is sent at one end is read at the other, or counted as
 * dropped, to the last frame and in every form; and what the kernel says of each frame.
 *
 * @module
 */
import { afterAll, beforeAll, describe, expect } from "bun:test";
import { TcpListener, TcpSocket, UdpSocket } from "bun-sockets";
import {
  LinkType,
  type PacketBlock,
  PacketRing,
  type PacketRingOptions,
  PacketSocket,
} from "bun-sockets/packet";
import {
  ETH_P_802_EX1,
  ETH_P_8021AD,
  ETH_P_8021Q,
  ETH_P_IP,
  if_nametoindex,
} from "bun-sockets/sys";
import { ip, makeNamespace } from "../support/namespaces.ts";
import { requires, testIf } from "../support/require.ts";
import { Generator, makeVeth, NUMBER, ROOMY, writeFrame } from "./packet_ring/frames.ts";

const NEAR = "bs-pr-0";
const FAR = "bs-pr-1";
const LIMIT = { timeoutMs: 20_000 };
const ETHERNET = 14;

const namespaced = testIf(
  process.env["BUN_SOCKETS_NAMESPACE"] === "1"
    ? requires("ip", "unshare", "nsenter")
    : "needs a network namespace of its own",
);
const isNamespaced = process.env["BUN_SOCKETS_NAMESPACE"] === "1";

let veth: Disposable | undefined;
let generator: Generator;
let sender: PacketSocket;

beforeAll(() => {
  if (!isNamespaced) return;
  veth = makeVeth(NEAR, FAR);
  generator = new Generator();
  sender = PacketSocket.open(NEAR, { protocol: 0 });
});
afterAll(() => {
  if (!isNamespaced) return;
  sender.close();
  generator[Symbol.dispose]();
  veth?.[Symbol.dispose]();
});

/** Sends frames of 60 bytes with numbers from `first` on. */
function send(count: number, first = 0): void {
  for (let i = 0; i < count; i++) sendFrame(makeFrame(60, first + i));
}

function sendFrame(frame: Uint8Array): void {
  expect(sender.trySend(frame)).toBe(frame.length);
}

function makeFrame(bytes: number, number: number): Uint8Array {
  const frame = new Uint8Array(bytes);
  writeFrame(frame, 0, bytes, number);
  return frame;
}

/** The frames of a block, as numbers. */
function numbersOf(block: PacketBlock): number[] {
  const numbers: number[] = [];
  while (block.next()) numbers.push(block.view.getUint32(block.offset + NUMBER));
  return numbers;
}

/** Reads until it has so many frames, each as a copy with what was said of it. */
function read<Result>(
  ring: PacketRing,
  count: number,
  look: (block: PacketBlock) => Result | undefined,
): Result[] {
  const results: Result[] = [];
  while (results.length < count) {
    using block = ring.receiveBlockSync(LIMIT);
    while (block.next()) {
      const result = look(block);
      if (result !== undefined) results.push(result);
    }
  }
  return results;
}

/** Counts frames: how many, and whether each is whole and comes after the one before it. */
class Tally {
  frames = 0;
  last = -1;
  readonly #bytes: number;

  constructor(bytes: number) {
    this.#bytes = bytes;
  }

  add(memory: Uint8Array, offset: number, length: number): void {
    const number = new DataView(memory.buffer, memory.byteOffset + offset).getUint32(NUMBER);
    const last = memory[offset + length - 1];
    if (length !== this.#bytes || number <= this.last || last !== (number & 0xff))
      throw new Error(`frame ${number} of ${length} bytes with ${last} after ${this.last}`);
    this.last = number;
    this.frames++;
  }

  addAll(block: PacketBlock): void {
    while (block.next()) this.add(block.bytes, block.offset, block.length);
  }

  addViews(block: PacketBlock): void {
    for (const { bytes } of block) this.add(bytes, 0, bytes.length);
  }
}

/** Every form: reads blocks until it is enough, and calls `stall` before each. */
type Form = (ring: PacketRing, tally: Tally, isEnough: () => boolean) => Promise<void>;

const forms: Readonly<Record<string, Form>> = {
  "tryReceiveBlock, by offset": async (ring, tally, isEnough) => {
    while (!isEnough()) {
      const block = ring.tryReceiveBlock();
      if (block) tally.addAll(block);
    }
  },
  "receiveBlockSync, by offset": async (ring, tally, isEnough) => {
    while (!isEnough()) tally.addAll(ring.receiveBlockSync(LIMIT));
  },
  "receiveBlockSync, with views": async (ring, tally, isEnough) => {
    while (!isEnough()) tally.addViews(ring.receiveBlockSync(LIMIT));
  },
  "receiveBlock, by offset": async (ring, tally, isEnough) => {
    while (!isEnough()) tally.addAll(await ring.receiveBlock(LIMIT));
  },
  "for await, by offset": async (ring, tally, isEnough) => {
    for await (const block of ring) {
      tally.addAll(block);
      if (isEnough()) return;
    }
  },
  "for await with using, with views": async (ring, tally, isEnough) => {
    for await (using block of ring) {
      tally.addViews(block);
      if (isEnough()) return;
    }
  },
};

describe("frames read + drops = frames sent", () => {
  const FRAMES = 10_000;
  const cases = Object.entries(forms).flatMap(([name, form]) =>
    [64, 1200].flatMap((bytes) => [false, true].map((checked) => ({ name, form, bytes, checked }))),
  );

  for (const { name, form, bytes, checked } of cases) {
    const what = `${name}, ${bytes} bytes${checked ? ", checked" : ""}`;
    namespaced(`${what}: all are read where they fit`, async () => {
      using ring = PacketRing.open(FAR, { ...ROOMY, checked });
      const { sent } = await generator.start({ interface: NEAR, frames: FRAMES, bytes });
      const tally = new Tally(bytes);
      await form(ring, tally, () => tally.frames >= FRAMES);
      expect([tally.frames, tally.last, await sent]).toEqual([FRAMES, FRAMES - 1, FRAMES]);
      expect(ring.statistics()).toEqual({ packets: FRAMES, drops: 0, freezes: 0 });
    });
  }

  namespaced("with the default geometry, however long the thread has to wait", async () => {
    using ring = PacketRing.open(FAR);
    const { sent } = await generator.start({ interface: NEAR, frames: FRAMES, bytes: 64 });
    let frames = 0;
    let counted = 0;
    while (counted < FRAMES) {
      using block = await ring.receiveBlock(LIMIT);
      frames += block.count;
      counted = frames + ring.statistics().drops;
    }
    expect([counted, await sent]).toEqual([FRAMES, FRAMES]);
  });

  for (const { name, form, bytes } of cases.filter(({ checked }) => !checked)) {
    namespaced(`${name}, ${bytes} bytes: the rest is dropped when it stalls`, async () => {
      using ring = PacketRing.open(FAR, { blockBytes: 1 << 14, blocks: 4 });
      const { sent } = await generator.start({ interface: NEAR, frames: FRAMES, bytes });
      const tally = new Tally(bytes);
      // Before the first block and once in the middle it reads nothing until more frames are dropped,
      // or none can be any more.
      const stall = () => {
        const { drops } = ring.statistics();
        for (;;) {
          const now = ring.statistics();
          if (now.drops > drops || now.packets === FRAMES) return;
          Bun.sleepSync(1);
        }
      };
      stall();
      let stalls = 1;
      await form(ring, tally, () => {
        if (stalls === 1 && tally.frames > 0) {
          stalls++;
          stall();
        }
        const { packets, drops } = ring.statistics();
        return packets === FRAMES && tally.frames + drops >= FRAMES;
      });
      expect(await sent).toBe(FRAMES);
      const { packets, drops, freezes } = ring.statistics();
      expect([packets, tally.frames + drops]).toEqual([FRAMES, FRAMES]);
      expect(drops).toBeGreaterThan(0);
      expect(freezes).toBeGreaterThan(0);
      // Nothing comes after.
      expect(ring.tryReceiveBlock()).toBeUndefined();
    });
  }
});

describe("PacketRing", () => {
  namespaced("tells what it is: geometry, interface, link type, socket", () => {
    using ring = PacketRing.open(FAR);
    expect([ring.blockBytes, ring.blockCount, ring.bytes.length]).toEqual([1 << 20, 16, 1 << 24]);
    expect([ring.view.byteLength, ring.view.buffer]).toEqual([1 << 24, ring.bytes.buffer]);
    expect([ring.linkType, ring.closed]).toEqual([LinkType.ethernet, false]);
    expect(ring.interfaceIndex).toBe(if_nametoindex(Buffer.from(`${FAR}\0`)));
    expect(ring.socket).toBeInstanceOf(PacketSocket);
    expect(`${ring.socket}`).toMatch(/^PacketRing raw, descriptor \d+, /);
    expect(`${ring}`).toBe(`${ring.socket}, 16 blocks of 1048576 bytes`);
    expect(Bun.inspect(ring)).toBe(`${ring}`);
    const { interfaceIndex } = ring;
    using byIndex = PacketRing.open(interfaceIndex, { blockBytes: 4096, blocks: 1 });
    expect([byIndex.interfaceIndex, byIndex.bytes.length]).toEqual([interfaceIndex, 4096]);
  });

  namespaced("shows frames in place, with time, protocol and sender", () => {
    using ring = PacketRing.open(FAR, { flowHash: true });
    const before = Date.now() / 1000;
    sendFrame(makeFrame(99, 5));
    const block = ring.receiveBlockSync(LIMIT);
    expect([block.count, block.sequence, block.timedOut, block.losing]).toEqual([
      1,
      1,
      true,
      false,
    ]);
    expect(block.next()).toBe(true);
    const { offset, length, originalLength, networkOffset } = block;
    expect(Buffer.from(ring.bytes.subarray(offset, offset + length))).toEqual(
      Buffer.from(makeFrame(99, 5)),
    );
    expect([originalLength, networkOffset]).toEqual([99, offset + ETHERNET]);
    const seconds = block.seconds + block.nanoseconds / 1e9;
    expect(seconds).toBeGreaterThan(before - 0.01);
    expect(seconds).toBeLessThan(Date.now() / 1000 + 0.01);
    expect([block.protocol, block.packetType, block.interfaceIndex]).toEqual([
      ETH_P_802_EX1,
      "broadcast",
      ring.interfaceIndex,
    ]);
    expect([block.vlan, block.vlanProtocol]).toEqual([-1, 0]);
    expect(block.hash).toBeGreaterThan(0);
    expect(block.sender()?.hardwareAddress).toBe("02:00:00:00:00:01");
    expect(block.next()).toBe(false);
  });

  namespaced("hands a block over when it is full, or when its time is over", async () => {
    using patient = PacketRing.open(FAR, { blockBytes: 4096, blocks: 4, blockTimeoutMs: 60_000 });
    using quick = PacketRing.open(FAR, { blockBytes: 4096, blocks: 4, blockTimeoutMs: 1 });
    // A frame of 60 bytes takes 144 of a block.
    send(20);
    let seen: number[] = [];
    while (seen.length < 20) seen = seen.concat(numbersOf(await quick.receiveBlock(LIMIT)));
    expect(patient.tryReceiveBlock()).toBeUndefined();
    send(20, 20);
    const block = await patient.receiveBlock(LIMIT);
    expect([block.count, block.timedOut]).toEqual([28, false]);
    expect(numbersOf(block)).toEqual([...new Array(28).keys()]);
    expect(patient.tryReceiveBlock()).toBeUndefined();
  });

  namespaced("goes around: block after block, in order", () => {
    using ring = PacketRing.open(FAR, { blockBytes: 4096, blocks: 3, blockTimeoutMs: 1 });
    const places: number[] = [];
    for (let round = 0; round < 10; round++) {
      send(1, round);
      const block = ring.receiveBlockSync(LIMIT);
      block.next();
      places.push(Math.floor(block.offset / 4096));
      expect([ring.view.getUint32(block.offset + NUMBER), block.sequence]).toEqual([
        round,
        round + 1,
      ]);
    }
    expect(places).toEqual([0, 1, 2, 0, 1, 2, 0, 1, 2, 0]);
  });

  namespaced("lends one block at a time: the next receive ends the loan", async () => {
    using ring = PacketRing.open(FAR, { blockBytes: 4096, blocks: 4, blockTimeoutMs: 1 });
    send(1, 1);
    const block = ring.receiveBlockSync(LIMIT);
    const [packet] = [...block];
    expect([block.released, packet?.bytes.length]).toEqual([false, 60]);
    // With nothing there too.
    expect(ring.tryReceiveBlock()).toBeUndefined();
    expect([block.released, block.count]).toEqual([true, 0]);
    send(1, 2);
    expect(await ring.receiveBlock(LIMIT)).toBe(block);
    expect(numbersOf(block)).toEqual([2]);
    const waiting = ring.receiveBlock(LIMIT);
    expect(block.released).toBe(true);
    send(1, 3);
    expect(numbersOf(await waiting)).toEqual([3]);
    block.release();
    block.release();
    expect(block.released).toBe(true);
  });

  namespaced("says that frames are dropped, until somebody asks how many", () => {
    using ring = PacketRing.open(FAR, { blockBytes: 4096, blocks: 2, blockTimeoutMs: 1 });
    send(200);
    using block = ring.receiveBlockSync(LIMIT);
    let frames = block.count;
    let last = block;
    for (let next = ring.tryReceiveBlock(); next; next = ring.tryReceiveBlock()) {
      frames += next.count;
      last = next;
    }
    last.release();
    // The next block tells.
    send(1, 200);
    expect(ring.receiveBlockSync(LIMIT).losing).toBe(true);
    expect(ring.statistics()).toEqual({ packets: 201, drops: 200 - frames, freezes: 1 });
    send(1, 201);
    expect(ring.receiveBlockSync(LIMIT).losing).toBe(false);
    expect(ring.statistics()).toEqual({ packets: 202, drops: 200 - frames, freezes: 1 });
  });

  namespaced("sees every interface where none is named, and each frame at both ends", () => {
    using ring = PacketRing.open(undefined, { protocol: ETH_P_802_EX1 });
    using all = PacketRing.open(undefined);
    expect(ring.interfaceIndex).toBe(0);
    send(3);
    const index = (name: string) => if_nametoindex(Buffer.from(`${name}\0`));
    const seen = read(all, 6, ({ interfaceIndex, packetType, protocol }) =>
      protocol === ETH_P_802_EX1 ? [interfaceIndex, packetType] : undefined,
    );
    const ends = [
      [index(NEAR), "outgoing"],
      [index(FAR), "broadcast"],
    ];
    expect((seen as unknown[]).sort()).toEqual([...ends, ...ends, ...ends].sort());
    expect(read(ring, 3, ({ interfaceIndex }) => interfaceIndex)).toEqual(
      new Array(3).fill(index(FAR)),
    );
  });

  namespaced("leaves out what this machine sends, and what a filter refuses", () => {
    const options: PacketRingOptions = { blockBytes: 4096, blocks: 8, ignoreOutgoing: true };
    using ring = PacketRing.open(NEAR, options);
    send(3);
    using back = PacketSocket.open(FAR, { protocol: 0 });
    back.trySend(makeFrame(60, 77));
    expect(numbersOf(ring.receiveBlockSync(LIMIT))).toEqual([77]);
    expect(ring.statistics().packets).toBe(1);
  });

  namespaced("shows VLAN tags as metadata: they are not among the bytes", () => {
    using ring = PacketRing.open(FAR);
    const plain = makeFrame(60, 1);
    const tagged = (protocol: number, tci: number) => {
      const frame = new Uint8Array(64);
      frame.set(plain.subarray(0, 12));
      frame.set(plain.subarray(12), 16);
      new DataView(frame.buffer).setUint16(12, protocol);
      new DataView(frame.buffer).setUint16(14, tci);
      return frame;
    };
    sendFrame(tagged(ETH_P_8021Q, 0x6123));
    sendFrame(tagged(ETH_P_8021AD, 0x0ffe));
    sendFrame(tagged(ETH_P_8021Q, 0));
    sendFrame(plain);
    const seen = read(ring, 4, (block) => {
      const { vlan, vlanProtocol, offset, length, originalLength } = block;
      const bytes = Buffer.from(ring.bytes.slice(offset, offset + length)).toString("hex");
      const packet = block.packet();
      expect([packet?.vlan ?? -1, packet?.vlanProtocol ?? 0]).toEqual([vlan, vlanProtocol]);
      return [vlan, vlanProtocol, originalLength, bytes];
    });
    const hex = Buffer.from(plain).toString("hex");
    expect(seen).toEqual([
      [0x6123, ETH_P_8021Q, 60, hex],
      [0x0ffe, ETH_P_8021AD, 60, hex],
      [0, ETH_P_8021Q, 60, hex],
      [-1, 0, 60, hex],
    ]);
  });

  namespaced("cuts frames to what a block holds, and tells how long they were", () => {
    using ring = PacketRing.open(FAR, { blockBytes: 4096, blocks: 8, blockTimeoutMs: 1 });
    ip("link", "set", NEAR, "mtu", "9000");
    ip("link", "set", FAR, "mtu", "9000");
    sendFrame(makeFrame(9000, 1));
    sendFrame(makeFrame(60, 2));
    const seen = read(ring, 2, ({ length, originalLength }) => [length, originalLength]);
    ip("link", "set", NEAR, "mtu", "1500");
    ip("link", "set", FAR, "mtu", "1500");
    expect(seen[0]?.[1]).toBe(9000);
    expect(seen[0]?.[0]).toBeGreaterThan(3900);
    expect(seen[0]?.[0]).toBeLessThan(4096);
    expect(seen[1]).toEqual([60, 60]);
  });

  namespaced("gives cooked frames from the network header on", () => {
    using ring = PacketRing.open(FAR, { mode: "cooked" });
    expect(ring.linkType).toBe(LinkType.raw);
    sendFrame(makeFrame(60, 3));
    const [seen] = read(ring, 1, (block) => [
      Buffer.from(block.bytes.slice(block.offset, block.offset + block.length)),
      block.networkOffset - block.offset,
      block.protocol,
      `${block.sender()?.hardwareAddress}`,
    ]);
    const frame = Buffer.from(makeFrame(60, 3).subarray(ETHERNET));
    expect(seen).toEqual([frame, 0, ETH_P_802_EX1, "02:00:00:00:00:01"]);
  });

  namespaced("takes options of its socket, also before it is bound", () => {
    const seen: unknown[] = [];
    using ring = PacketRing.open(FAR, {
      promiscuous: true,
      configure: (socket) => {
        seen.push(socket instanceof PacketSocket);
        // Nothing can have come yet.
        send(1, 99);
      },
    });
    send(1, 1);
    expect(seen).toEqual([true]);
    expect(numbersOf(ring.receiveBlockSync(LIMIT))).toEqual([1]);
    expect(() =>
      PacketRing.open(FAR, {
        configure: () => {
          throw new Error("not like this");
        },
      }),
    ).toThrow("not like this");
  });
});

/** How many bytes parts of a stream have together, whose numbers may begin anew at 2^32. */
function coveredBy(parts: ReadonlyMap<number, number>): number {
  const [first = 0] = parts.keys();
  const ordered = [...parts].map(([begin, bytes]) => [(begin - first) | 0, bytes] as const);
  let end = Number.NEGATIVE_INFINITY;
  let covered = 0;
  for (const [begin, bytes] of ordered.sort(([left], [right]) => left - right)) {
    covered += Math.max(0, begin + bytes - Math.max(begin, end));
    end = Math.max(end, begin + bytes);
  }
  return covered;
}

describe("between two machines", () => {
  namespaced("shows packets larger than the MTU, and checksums that are unfinished", async () => {
    using far = makeNamespace();
    ip(
      "link",
      "add",
      "bs-pr-2",
      "type",
      "veth",
      "peer",
      "name",
      "eth0",
      "netns",
      `${far.processId}`,
    );
    try {
      ip("addr", "add", "192.0.2.1/24", "dev", "bs-pr-2");
      ip("link", "set", "bs-pr-2", "up");
      far.ip("addr", "add", "192.0.2.2/24", "dev", "eth0");
      far.ip("link", "set", "eth0", "up");
      using ring = PacketRing.open("bs-pr-2", { ...ROOMY, protocol: ETH_P_IP });
      // A datagram.
      using receiver = UdpSocket.bind("192.0.2.1:0");
      using udp = far.inside(() => UdpSocket.open("ipv4"));
      udp.sendToSync("hello", receiver.localAddress, LIMIT);
      const [datagram] = read(ring, 1, ({ length, checksum, packetType }) => [
        length,
        checksum,
        packetType,
      ]);
      expect(datagram).toEqual([47, "unfinished", "host"]);
      // A stream: TSO leaves its parts together. All of it is there, each byte once.
      using listener = TcpListener.listen("192.0.2.1:0");
      const bytes = 1_000_000;
      const connecting = listener.accept(LIMIT);
      using client = await far.inside(() => TcpSocket.connect(listener.localAddress, LIMIT));
      using served = await connecting;
      const sending = client.sendAll(new Uint8Array(bytes), LIMIT);
      let longest = 0;
      // By where they begin: what was sent twice counts once.
      const parts = new Map<number, number>();
      const target = new Uint8Array(1 << 16);
      for (let left = bytes; left > 0; ) left -= await served.receive(target, LIMIT);
      await sending;
      const { port } = listener.localAddress;
      while (coveredBy(parts) < bytes) {
        using block = await ring.receiveBlock(LIMIT);
        while (block.next()) {
          const { offset, length, originalLength, view } = block;
          if (view.getUint16(offset + ETHERNET + 22) !== port) continue;
          const tcp = offset + ETHERNET + 20;
          expect([length, block.checksum]).toEqual([originalLength, "unfinished"]);
          longest = Math.max(longest, length);
          const header = 20 + (view.getUint8(tcp + 12) >> 4) * 4;
          const payload = view.getUint16(offset + ETHERNET + 2) - header;
          const begin = view.getUint32(tcp + 4);
          if (payload > 0) parts.set(begin, Math.max(payload, parts.get(begin) ?? 0));
        }
      }
      expect(coveredBy(parts)).toBe(bytes);
      expect(longest).toBeGreaterThan(1514);
      expect(ring.statistics().drops).toBe(0);
    } finally {
      ip("link", "del", "bs-pr-2");
    }
  });
});
