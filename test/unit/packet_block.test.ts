/**
 * Blocks of a ring in memory that is made here, as the kernel fills it and as no kernel would: what
 * stands in a block, whatever it is, shows nothing outside of it.
 *
 * @module
 */
import { describe, expect, test } from "bun:test";
import {
  ETH_P_8021AD,
  ETH_P_8021Q,
  ETH_P_IP,
  PACKET_MULTICAST,
  PACKET_OUTGOING,
  TP_STATUS_BLK_TMO,
  TP_STATUS_CSUM_VALID,
  TP_STATUS_CSUMNOTREADY,
  TP_STATUS_KERNEL,
  TP_STATUS_LOSING,
  TP_STATUS_USER,
  TP_STATUS_VLAN_TPID_VALID,
  TP_STATUS_VLAN_VALID,
  TPACKET3_HDRLEN,
} from "bun-sockets/sys";
import { RingMemory } from "../../lib/packet/internal/ring_memory.ts";
import type { Packet } from "../../lib/packet/packet.ts";
import { isHandedOver, lend, PacketBlock } from "../../lib/packet/packet_block.ts";
import {
  sockaddr_ll,
  tpacket_bd_ts,
  tpacket_block_desc,
  tpacket_hdr_v1,
  tpacket_hdr_variant1,
  tpacket3_hdr,
} from "../../structs/index.ts";

const BLOCK_BYTES = 4096;
const BLOCKS = 3;
const PLACE = 1;
const BASE = PLACE * BLOCK_BYTES;
const ADDRESS = 48;
/** Where the kernel puts an Ethernet frame, so that its IP header is aligned. */
const LINK = 82;
const CANARY = 0xee;

/** What a frame of the tests has. */
interface Frame {
  readonly length: number;
  readonly originalLength?: number;
  readonly status?: number;
  readonly tci?: number;
  readonly tpid?: number;
  readonly type?: number;
}

/** Writes a block as the kernel does. */
function fill(memory: RingMemory, frames: readonly Frame[], status = TP_STATUS_USER): void {
  const { view, bytes } = memory;
  const inner = BASE + tpacket_block_desc.hdr.offset;
  tpacket_hdr_v1.num_pkts.set(view, inner, frames.length);
  tpacket_hdr_v1.seq_num.set(view, inner, 2 ** 32 + 5);
  tpacket_hdr_v1.offset_to_first_pkt.set(view, inner, tpacket_block_desc.size);
  tpacket_bd_ts.ts_sec.set(view, inner + tpacket_hdr_v1.ts_first_pkt.offset, 1);
  let at = BASE + tpacket_block_desc.size;
  for (const [i, frame] of frames.entries()) {
    const size = Math.ceil((LINK + frame.length) / 16) * 16;
    tpacket3_hdr.tp_next_offset.set(view, at, i + 1 < frames.length ? size : 0);
    tpacket3_hdr.tp_sec.set(view, at, 0xf000_0000 + i);
    tpacket3_hdr.tp_nsec.set(view, at, 999_999_000 + i);
    tpacket3_hdr.tp_snaplen.set(view, at, frame.length);
    tpacket3_hdr.tp_len.set(view, at, frame.originalLength ?? frame.length);
    tpacket3_hdr.tp_status.set(view, at, frame.status ?? 0);
    tpacket3_hdr.tp_mac.set(view, at, LINK);
    tpacket3_hdr.tp_net.set(view, at, LINK + 14);
    const variant = at + tpacket3_hdr.hv1.offset;
    tpacket_hdr_variant1.tp_rxhash.set(view, variant, 0xdead_0000 + i);
    tpacket_hdr_variant1.tp_vlan_tci.set(view, variant, frame.tci ?? 0);
    tpacket_hdr_variant1.tp_vlan_tpid.set(view, variant, frame.tpid ?? 0);
    sockaddr_ll.sll_family.set(view, at + ADDRESS, 17);
    sockaddr_ll.sll_protocol.set(view, at + ADDRESS, ETH_P_IP);
    sockaddr_ll.sll_ifindex.set(view, at + ADDRESS, 7);
    sockaddr_ll.sll_pkttype.set(view, at + ADDRESS, frame.type ?? 0);
    sockaddr_ll.sll_halen.set(view, at + ADDRESS, 6);
    sockaddr_ll.sll_addr.set(view, at + ADDRESS, Uint8Array.of(2, 0, 0, 0, 0, i, 0, 0));
    bytes.fill(i + 1, at + LINK, at + LINK + frame.length);
    at += size;
  }
  tpacket_hdr_v1.blk_len.set(view, inner, at - BASE);
  tpacket_hdr_v1.block_status.set(view, inner, status);
}

function makeMemory(): RingMemory {
  const memory = new RingMemory(new ArrayBuffer(BLOCKS * BLOCK_BYTES), BLOCK_BYTES);
  memory.bytes.fill(CANARY);
  memory.bytes.fill(0, BASE, BASE + BLOCK_BYTES);
  return memory;
}

function makeBlock(frames: readonly Frame[], isChecked = false, status = TP_STATUS_USER) {
  const memory = makeMemory();
  fill(memory, frames, status);
  const block = new PacketBlock(memory, isChecked);
  lend(block, PLACE);
  const statusNow = () => memory.view.getUint32(BASE + 8, true);
  return { memory, block, statusNow };
}

const THREE: readonly Frame[] = [{ length: 60 }, { length: 0 }, { length: 999 }];

describe("PacketBlock", () => {
  test("shows one frame after the other, with all that the kernel says of it", () => {
    const { block } = makeBlock([
      { length: 60, status: TP_STATUS_CSUMNOTREADY },
      {
        length: 1,
        originalLength: 70_000,
        status: TP_STATUS_VLAN_VALID | TP_STATUS_VLAN_TPID_VALID | TP_STATUS_CSUM_VALID,
        tci: 0xe123,
        tpid: ETH_P_8021AD,
        type: PACKET_MULTICAST,
      },
      { length: 100, status: TP_STATUS_VLAN_VALID, tci: 5, type: PACKET_OUTGOING },
      { length: 100, tci: 5, tpid: 5, type: 99 },
    ]);
    expect([block.count, block.released, block.length, block.packet()]).toEqual([
      4,
      false,
      0,
      undefined,
    ]);
    const seen = [];
    while (block.next()) {
      const { offset, length, originalLength, seconds, nanoseconds, vlan, vlanProtocol } = block;
      const { checksum, hash, packetType, protocol, interfaceIndex, networkOffset } = block;
      const bytes = [...block.bytes.subarray(offset, offset + length)];
      expect(bytes).toEqual(new Array(length).fill(seen.length + 1));
      expect([protocol, interfaceIndex, networkOffset]).toEqual([
        ETH_P_IP,
        7,
        offset + Math.min(14, length),
      ]);
      expect(`${block.sender()?.hardwareAddress}`).toBe(`02:00:00:00:00:0${seen.length}`);
      seen.push([length, originalLength, seconds, nanoseconds, hash]);
      seen.push([vlan, vlanProtocol, checksum, packetType]);
      seen.splice(-2, 2, [...(seen.at(-2) as []), ...(seen.at(-1) as [])]);
    }
    expect(seen).toEqual([
      [60, 60, 0xf000_0000, 999_999_000, 0xdead_0000, -1, 0, "unfinished", "host"],
      [
        1,
        70_000,
        0xf000_0001,
        999_999_001,
        0xdead_0001,
        0xe123,
        ETH_P_8021AD,
        "valid",
        "multicast",
      ],
      [100, 100, 0xf000_0002, 999_999_002, 0xdead_0002, 5, ETH_P_8021Q, "unknown", "outgoing"],
      [100, 100, 0xf000_0003, 999_999_003, 0xdead_0003, -1, 0, "unknown", 99],
    ]);
    expect([block.next(), block.offset, block.length, block.seconds]).toEqual([false, 0, 0, 0]);
  });

  test("tells of the block: its number, drops, and whether its time was over", () => {
    const { block } = makeBlock(THREE, false, TP_STATUS_USER | TP_STATUS_LOSING);
    expect([block.sequence, block.losing, block.timedOut]).toEqual([2 ** 32 + 5, true, false]);
    const other = makeBlock(THREE, false, TP_STATUS_USER | TP_STATUS_BLK_TMO).block;
    expect([other.losing, other.timedOut]).toEqual([false, true]);
    other.release();
    expect([other.sequence, other.losing, other.timedOut]).toEqual([0, false, false]);
  });

  test("gives each frame as a Packet with a view in place, and moves the same cursor", () => {
    const { block, memory } = makeBlock([
      { length: 60 },
      { length: 7, status: TP_STATUS_VLAN_VALID, tci: 9, originalLength: 8 },
    ]);
    block.next();
    const packets = [];
    for (const packet of block) {
      expect(packet.bytes.buffer).toBe(memory.buffer);
      expect([packet.bytes.byteOffset, packet.bytes.length]).toEqual([block.offset, block.length]);
      packets.push({ ...packet, bytes: packet.bytes.length });
    }
    const common = { nanoseconds: 999_999_000, interface: 7, seconds: 0xf000_0000 };
    expect(packets).toEqual([
      { ...common, bytes: 60, originalLength: 60, vlan: undefined, vlanProtocol: undefined },
      {
        bytes: 7,
        originalLength: 8,
        seconds: 0xf000_0001,
        nanoseconds: 999_999_001,
        vlan: 9,
        vlanProtocol: ETH_P_8021Q,
        interface: 7,
      },
    ]);
    expect([...block].length).toBe(2);
  });

  test.each([0, 1, TPACKET3_HDRLEN - 1, 2 ** 31, 2 ** 32 - 160, BLOCK_BYTES])(
    "ends at a frame whose distance to the next is %d, and shows none twice",
    (distance) => {
      const { block, memory } = makeBlock(THREE);
      tpacket3_hdr.tp_next_offset.set(memory.view, BASE + tpacket_block_desc.size, distance);
      expect([block.next(), block.length, block.next(), block.next()]).toEqual([
        true,
        60,
        false,
        false,
      ]);
      block.rewind();
      expect([block.next(), block.length, block.next()]).toEqual([true, 60, false]);
    },
  );

  test("begins anew with rewind", () => {
    const { block } = makeBlock(THREE);
    const lengths = () => {
      const all = [];
      while (block.next()) all.push(block.length);
      return all;
    };
    expect(lengths()).toEqual([60, 0, 999]);
    expect(lengths()).toEqual([]);
    block.rewind();
    expect(block.length).toBe(0);
    expect(lengths()).toEqual([60, 0, 999]);
    block.release();
    block.rewind();
    expect(lengths()).toEqual([]);
  });

  test.each([false, true])(
    "is empty after release, at any time and twice (checked: %p)",
    (checked) => {
      for (let shown = 0; shown <= THREE.length; shown++) {
        const { block, statusNow } = makeBlock(THREE, checked);
        for (let i = 0; i < shown; i++) expect(block.next()).toBe(true);
        expect(statusNow()).toBe(TP_STATUS_USER);
        block.release();
        expect(statusNow()).toBe(TP_STATUS_KERNEL);
        block.release();
        const { count, released, offset, length, originalLength, seconds, nanoseconds } = block;
        expect(released).toBe(true);
        expect([count, offset, length, originalLength, seconds, nanoseconds]).toEqual(
          new Array(6).fill(0),
        );
        const { status, hash, protocol, interfaceIndex, vlanProtocol, networkOffset } = block;
        expect([status, hash, protocol, interfaceIndex, vlanProtocol, networkOffset]).toEqual(
          new Array(6).fill(0),
        );
        const { vlan, checksum, packetType } = block;
        expect([vlan, checksum, packetType]).toEqual([-1, "unknown", "host"]);
        expect([block.next(), block.packet(), block.sender(), [...block]]).toEqual([
          false,
          undefined,
          undefined,
          [],
        ]);
      }
    },
  );

  test("does not give a block back that was lent out anew", () => {
    const { block, memory, statusNow } = makeBlock(THREE);
    {
      using _ = block;
    }
    expect(statusNow()).toBe(TP_STATUS_KERNEL);
    fill(memory, THREE);
    block.release();
    expect(statusNow()).toBe(TP_STATUS_USER);
  });

  test("ends a loop when the loan ends inside of it, also when it is lent out anew", () => {
    const { block, memory } = makeBlock(THREE);
    let turns = 0;
    for (const _ of block) {
      turns++;
      block.release();
      fill(memory, THREE);
      lend(block, PLACE);
    }
    expect(turns).toBe(1);
    expect(block.next()).toBe(true);
  });

  test("leaves views of fast mode as they are: they show what is written next", () => {
    const { block, memory } = makeBlock(THREE);
    const [first] = [...block];
    block.release();
    expect(first?.bytes[0]).toBe(1);
    fill(memory, [{ length: 1 }, { length: 100 }]);
    expect(first?.bytes.length).toBe(60);
    memory.bytes.fill(0x77, BASE);
    expect(first?.bytes[0]).toBe(0x77);
  });

  test("empties views of checked mode, and overwrites what is read by offset", () => {
    const { block, memory } = makeBlock(THREE, true);
    const views = [...block].map(({ bytes }) => bytes);
    expect(views.map(({ length }) => length)).toEqual([60, 0, 999]);
    expect([views[0]?.[59], views[2]?.[0], views[2]?.[998]]).toEqual([1, 3, 3]);
    block.rewind();
    block.next();
    const { offset } = block;
    expect(memory.bytes[offset]).toBe(1);
    block.release();
    expect(views.map(({ length }) => length)).toEqual([0, 0, 0]);
    expect(memory.bytes[offset]).toBe(0xa5);
    // Its header is the kernel's, and so are the neighbours.
    expect([...memory.bytes.subarray(0, BASE)].every((byte) => byte === CANARY)).toBe(true);
    expect([...memory.bytes.subarray(BASE + BLOCK_BYTES)].every((byte) => byte === CANARY)).toBe(
      true,
    );
    // Whoever has transferred a view's buffer keeps what he has, and disturbs nothing.
    fill(memory, THREE);
    lend(block, PLACE);
    const [packet] = [...block];
    const { bytes } = packet as Packet;
    const taken = (bytes.buffer as ArrayBuffer).transfer();
    block.release();
    expect([bytes.length, taken.byteLength]).toEqual([0, BLOCK_BYTES]);
  });

  test("has nothing left when the memory ends", () => {
    const { block, memory } = makeBlock(THREE);
    const [first] = [...block];
    block.release();
    memory.end();
    memory.end();
    expect(memory.isGone).toBe(true);
    expect([first?.bytes.length, block.bytes.length, block.view.buffer.byteLength]).toEqual([
      0, 0, 0,
    ]);
    expect([block.count, block.length, block.seconds, block.next()]).toEqual([0, 0, 0, false]);
    // And when it ends in the middle of a loan, by somebody who transfers it: an error, no crash.
    const other = makeBlock(THREE);
    other.block.next();
    other.memory.buffer.transfer();
    expect(() => other.block.next()).toThrow(TypeError);
    expect(() => other.block.seconds).toThrow(TypeError);
    other.block.release();
    expect([other.block.length, other.block.seconds]).toEqual([0, 0]);
  });
});

test.each([
  [TP_STATUS_KERNEL, false],
  [TP_STATUS_USER, true],
  [TP_STATUS_USER | TP_STATUS_LOSING | TP_STATUS_BLK_TMO, true],
  [TP_STATUS_LOSING | TP_STATUS_BLK_TMO, false],
])("a block with status %d is handed over: %p", (status, expected) => {
  const memory = makeMemory();
  fill(memory, THREE, status);
  expect(isHandedOver(memory, PLACE)).toBe(expected);
});

/** Reads that are refused outside of one block. */
class Fenced extends DataView<ArrayBuffer> {
  override getUint8(at: number): number {
    return super.getUint8(inside(at, 1));
  }
  override getUint16(at: number, little?: boolean): number {
    return super.getUint16(inside(at, 2), little);
  }
  override getInt32(at: number, little?: boolean): number {
    return super.getInt32(inside(at, 4), little);
  }
  override getUint32(at: number, little?: boolean): number {
    return super.getUint32(inside(at, 4), little);
  }
}

function inside(at: number, size: number): number {
  if (!(at >= BASE && at + size <= BASE + BLOCK_BYTES))
    throw new Error(`a read of ${size} bytes at ${at - BASE} of the block`);
  return at;
}

class FencedMemory extends RingMemory {
  override readonly view = new Fenced(this.buffer);
}

/** Numbers below a bound, the same for the same seed. */
function makeRandom(seed: number): (bound: number) => number {
  let state = seed;
  return (bound) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * bound);
  };
}

// What does harm where it is believed.
const HOSTILE: readonly number[] = [
  ...[0, 1, 2, 15, 16, 47, 48, 67, 68, 69, 82, 96, 255, 256],
  ...[4096 - 68, 4096 - 48, 4095, 4096, 4097, 8192, 65_535],
  ...[0x7fff_ffff, 0x8000_0000, 0xffff_0000, 0xffff_ffb8, 0xffff_fff0, 0xffff_ffff],
];

// What a walk goes by; undefined is anything else.
const MEMBERS = [
  tpacket3_hdr.tp_next_offset,
  tpacket3_hdr.tp_snaplen,
  tpacket3_hdr.tp_mac,
  undefined,
] as const;

const WALKED = 1_000_000;

test("a million frames of hostile blocks show nothing outside of their block", () => {
  const memory = new FencedMemory(new ArrayBuffer(BLOCKS * BLOCK_BYTES), BLOCK_BYTES);
  memory.bytes.fill(CANARY);
  const blocks = [new PacketBlock(memory, false), new PacketBlock(memory, true)] as const;
  const plain = new DataView(memory.buffer);
  let walked = 0;
  let cut = 0;
  for (let seed = 1; walked < WALKED; seed++) {
    const random = makeRandom(seed);
    const isChecked = seed % 2 === 1;
    const block = blocks[isChecked ? 1 : 0];
    const hostile = () =>
      random(4) === 0 ? random(2 ** 32) : (HOSTILE[random(HOSTILE.length)] ?? 0);
    const frames = Array.from({ length: 1 + random(35) }, () => ({ length: random(20) }));
    const plainMemory = { view: plain, bytes: memory.bytes } as unknown as RingMemory;
    fill(plainMemory, frames);
    const inner = BASE + tpacket_block_desc.hdr.offset;
    // Some of it, so that the walk gets far enough to meet the rest.
    if (random(4) === 0) tpacket_hdr_v1.num_pkts.set(plain, inner, hostile());
    if (random(8) === 0) tpacket_hdr_v1.offset_to_first_pkt.set(plain, inner, hostile());
    for (let harm = random(4); harm > 0; harm--) {
      const at = BASE + tpacket_block_desc.size + 16 * random(250);
      const member = MEMBERS[random(MEMBERS.length)];
      const isWhole = BASE + BLOCK_BYTES - at >= tpacket3_hdr.size;
      if (member && isWhole) member.set(plain, at, hostile());
      else plain.setUint32(BASE + 48 + random(BLOCK_BYTES - 52), hostile(), true);
    }
    if (random(16) === 0)
      for (let at = BASE + 8; at < BASE + BLOCK_BYTES; at += 4)
        plain.setUint32(at, hostile(), true);
    const why = `seed ${seed}`;
    try {
      lend(block, PLACE);
      let shown = 0;
      while (block.next()) {
        shown++;
        const { offset, length, networkOffset } = block;
        const isInside = offset >= BASE && offset + length <= BASE + BLOCK_BYTES && length >= 0;
        const isNetworkInside = networkOffset >= offset && networkOffset <= offset + length;
        if (!isInside || !isNetworkInside) throw new Error(`a frame at ${offset}, ${length} bytes`);
        // Each reads what is behind the fence.
        const { originalLength, seconds, nanoseconds, status, vlan, vlanProtocol } = block;
        const { hash, protocol, interfaceIndex, packetType, checksum } = block;
        const numbers = [originalLength, seconds, nanoseconds, status, vlan + 1, vlanProtocol];
        for (const number of [...numbers, hash, protocol, interfaceIndex])
          if (!(number >= 0 && number < 2 ** 32)) throw new Error(`${number}`);
        if (packetType === undefined || checksum === undefined) throw new Error("no text");
      }
      if (shown > BLOCK_BYTES / TPACKET3_HDRLEN) throw new Error(`${shown} frames`);
      if (shown < block.count) cut++;
      walked += shown;
      const begin = isChecked ? 0 : BASE;
      for (const { bytes } of block)
        if (bytes.byteOffset < begin || bytes.byteOffset + bytes.length > begin + BLOCK_BYTES)
          throw new Error("a view");
      block.release();
    } catch (error) {
      throw new Error(`${why}: ${(error as Error).message}`);
    }
  }
  for (const begin of [0, BASE + BLOCK_BYTES])
    expect(memory.bytes.subarray(begin, begin + BLOCK_BYTES).every((byte) => byte === CANARY)).toBe(
      true,
    );
  // The damage is met, and most of the frames are none.
  expect(cut).toBeGreaterThan(1000);
});
