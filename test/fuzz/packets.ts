/**
 * What sequences of calls about packets work with: packet sockets and rings, which are kept for several
 * sequences because the kernel takes some 20 ms to end one, blocks, headers over frames, filters and
 * capture files.
 *
 * @module
 */
import { closeSync, mkdtempSync, openSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { FilterProgram, type Socket } from "bun-sockets";
import {
  assembleFilter,
  CaptureFile,
  CaptureReader,
  CaptureWriter,
  Header,
  type Packet,
  type PacketBlock,
  PacketRing,
  PacketSocket,
  PacketView,
} from "bun-sockets/packet";
import { AF_INET, MSG_DONTWAIT, SOCK_CLOEXEC, SOCK_DGRAM, SOCK_NONBLOCK } from "bun-sockets/sys";
import { addressBytes } from "../../lib/address.ts";
import { Inet4Address } from "../../lib/inet_address.ts";
import { PacketBlock as Block } from "../../lib/packet/packet_block.ts";
import { PacketBlocks } from "../../lib/packet/packet_ring.ts";
import type { Choices } from "./choices.ts";
import { real } from "./kernel.ts";

const SOCKETS_KEPT = 6;
const RINGS_KEPT = 3;
const RINGS_MAX = 4;
const HEADERS_MAX = 8;
const FILES_MAX = 6;
const STEPS_MAX = 6;
const DATAGRAM_BYTES = 1400;
const DATAGRAMS = 6;

const keptSockets: PacketSocket[] = [];
const keptRings: PacketRing[] = [];
// For calls on what is closed, which need no ring of their own.
const closedRings: PacketRing[] = [];

const folder = mkdtempSync(join(tmpdir(), "bun-sockets-fuzz-packets-"));
process.on("exit", () => rmSync(folder, { recursive: true, force: true }));

/** Goes where files may be that are called anything. */
export function enterFolder(): void {
  process.chdir(folder);
}

const sender = real.socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
const nobody = addressBytes(new Inet4Address("127.0.0.1", 9));
const datagram = new Uint8Array(new ArrayBuffer(DATAGRAM_BYTES)).fill(7);

/** A file for everything that is written and looked at by nobody. */
const fullFd: number = openSync("/dev/full", "w");

/** Steps over the packets of a file, or over the frames of a block. */
export interface Steps {
  readonly object: object;
  readonly owner: object;
  readonly kind: "frames" | "captured" | "capturedSync";
  /** Ends what it steps over. */
  end(): void;
}

/** What one sequence has. */
export class Packets {
  readonly rings: PacketRing[] = [];
  readonly blocks: { readonly blocks: PacketBlocks; readonly ring: PacketRing }[] = [];
  readonly headers: Header[] = [];
  readonly views: PacketView[] = [];
  readonly readers: CaptureReader[] = [];
  readonly writers: CaptureWriter[] = [];
  readonly steps: Steps[] = [];
  readonly programs: FilterProgram[] = [];
  /** Those that capture files are read from and written to. */
  readonly fds: number[] = [fullFd];
  #files = 0;

  /** Opens what a sequence is to find, before somebody looks at what is open. */
  static prepare(): void {
    while (keptRings.length < RINGS_KEPT) keptRings.push(openRing(keptRings.length));
    if (closedRings.length === 0) {
      const ring = openRing(0);
      ring.close();
      closedRings.push(ring);
    }
  }

  /** Closes what was kept. */
  static retire(): void {
    for (const socket of keptSockets.splice(0)) socket.close();
    for (const ring of keptRings.splice(0)) ring.close();
  }

  /** The descriptors of what is kept. */
  static kept(): Set<string> {
    const sockets = [...keptSockets, ...keptRings.map(({ socket }) => socket)];
    return new Set(sockets.map(({ descriptor }) => `${descriptor}`));
  }

  /** A packet socket that was kept. */
  takeSocket(): PacketSocket | undefined {
    return keptSockets.pop();
  }

  /** Keeps a packet socket that nobody waits for; false where there are enough. */
  keepSocket(socket: Socket): boolean {
    if (!(socket instanceof PacketSocket) || keptSockets.length >= SOCKETS_KEPT) return false;
    if (socket.fanoutGroup !== undefined) return false;
    socket.ref();
    keptSockets.push(socket);
    return true;
  }

  /** A ring, mostly open. */
  ring(choices: Choices): PacketRing {
    return choices.chance(3) ? choices.pick(closedRings) : this.openRing(choices);
  }

  openRing(choices: Choices): PacketRing {
    const has = [...keptRings, ...this.rings].filter(isWhole);
    if (has.length > 0) return choices.pick(has);
    return this.addRing(openRing(choices.below(RINGS_KEPT)));
  }

  /** One that is closed. */
  closedRing(choices: Choices): PacketRing {
    return choices.pick(closedRings);
  }

  addRing(ring: PacketRing): PacketRing {
    if (!this.rings.includes(ring) && !keptRings.includes(ring)) this.rings.push(ring);
    const open = this.rings.filter(({ closed }) => !closed);
    if (open.length > RINGS_MAX) open[0]?.close();
    return ring;
  }

  /** Has frames come to all rings and packet sockets: so many that blocks are full. */
  feed(): void {
    for (let i = 0; i < DATAGRAMS; i++)
      real.sendto(sender, datagram, datagram.length, MSG_DONTWAIT, nobody, nobody.length);
  }

  /** The block of a ring: mostly one that is lent out, and mostly at a frame. */
  block(choices: Choices): PacketBlock {
    const ring = this.ring(choices);
    let block = blocksOf.get(ring);
    if (!block || block.released || choices.chance(10)) {
      this.feed();
      block = quietly(() => ring.tryReceiveBlock()) ?? block;
    }
    if (!block) return this.#anyBlock(choices);
    blocksOf.set(ring, block);
    const lent = block;
    // Whose memory may be gone.
    quietly(() => {
      for (let i = choices.below(3); i > 0; i--) lent.next();
    });
    return lent;
  }

  #anyBlock(choices: Choices): PacketBlock {
    const all = [...keptRings, ...this.rings, ...closedRings]
      .map((ring) => blocksOf.get(ring))
      .filter((block) => block !== undefined);
    // Of a ring that had none yet.
    return all.length > 0 ? choices.pick(all) : this.#waitForBlock();
  }

  #waitForBlock(): PacketBlock {
    const ring = openRing(0);
    this.addRing(ring);
    for (;;) {
      this.feed();
      const block = ring.tryReceiveBlock();
      if (!block) continue;
      blocksOf.set(ring, block);
      return block;
    }
  }

  /** What steps over the blocks of a ring. */
  iteration(choices: Choices): PacketBlocks {
    const has = this.blocks.map(({ blocks }) => blocks);
    if (has.length > 0 && choices.chance(70)) return choices.pick(has);
    const ring = this.ring(choices);
    const blocks = ring.blocks();
    this.addBlocks(blocks, ring);
    return blocks;
  }

  addBlocks(blocks: PacketBlocks, ring: PacketRing): void {
    if (this.blocks.push({ blocks, ring }) > STEPS_MAX) this.blocks.shift()?.blocks.return();
  }

  addHeader<Any extends Header>(header: Any): Any {
    if (this.headers.push(header) > HEADERS_MAX) this.headers.shift();
    return header;
  }

  /** A path that the sequence may have used before. */
  path(choices: Choices): string {
    const number = choices.chance(60) ? this.#files++ : choices.below(this.#files + 1);
    return join(folder, `${number % FILES_MAX}.${choices.pick(["pcap", "pcapng"])}`);
  }

  /** A descriptor to write a file to: of /dev/full now and then. */
  fdForWriting(choices: Choices): number {
    return choices.chance(20) ? fullFd : this.#open(this.path(choices), "a");
  }

  /** A descriptor to read a file from. */
  fdForReading(choices: Choices): number {
    const path = this.path(choices);
    closeSync(openSync(path, "a"));
    return this.#open(path, "r");
  }

  #open(path: string, flags: string): number {
    const fd = openSync(path, flags);
    this.fds.push(fd);
    return fd;
  }

  writer(choices: Choices): CaptureWriter {
    const has = this.writers.filter(({ closed }) => !closed);
    if (has.length > 0 && (has.length >= FILES_MAX || choices.chance(80))) return choices.pick(has);
    const options = {
      format: choices.pick(["pcap", "pcapng", "pcapng"] as const),
      linkType: choices.pick(["ethernet", "raw", "linux_sll"] as const),
      byteOrder: choices.pick(["little", "big"] as const),
      resolution: choices.pick(["us", "ns"] as const),
      snapBytes: choices.pick([1, 20, 1000, 262_144]),
    };
    return this.addWriter(CaptureFile.create(this.path(choices), options));
  }

  addWriter(writer: CaptureWriter): CaptureWriter {
    if (!this.writers.includes(writer)) this.writers.push(writer);
    const open = this.writers.filter(({ closed }) => !closed);
    if (open.length > FILES_MAX) quietly(() => open[0]?.close());
    return writer;
  }

  addReader(reader: CaptureReader): CaptureReader {
    if (!this.readers.includes(reader)) this.readers.push(reader);
    if (this.readers.length > FILES_MAX) this.readers.shift()?.close();
    return reader;
  }

  addSteps(object: object, owner: object, kind: Steps["kind"]): void {
    const end = () => {
      if (owner instanceof Block) owner.release();
      else (owner as CaptureReader).close();
    };
    if (this.steps.push({ object, owner, kind, end }) > STEPS_MAX) this.steps.shift();
  }

  program(choices: Choices): FilterProgram {
    if (this.programs.length > 0 && choices.chance(40)) return choices.pick(this.programs);
    return choices.pick(PROGRAMS);
  }

  /** Keeps what a call has given. */
  harvest(result: unknown, owner: unknown): boolean {
    if (result instanceof PacketRing) this.addRing(result);
    else if (result instanceof CaptureWriter) this.addWriter(result);
    else if (result instanceof CaptureReader) this.addReader(result);
    else if (result instanceof FilterProgram) this.programs.push(result);
    else if (result instanceof PacketView) this.views.push(result);
    else if (result instanceof Header) this.addHeader(result);
    else if (result instanceof PacketBlocks) {
      if (owner instanceof PacketRing) this.addBlocks(result, owner);
    } else if (result instanceof Block) {
      if (owner instanceof PacketRing) blocksOf.set(owner, result);
    } else if (isIterator(result) && owner instanceof Block) this.addSteps(result, owner, "frames");
    else if (isIterator(result) && owner instanceof CaptureReader)
      this.addSteps(result, owner, Symbol.asyncIterator in result ? "captured" : "capturedSync");
    else return false;
    return true;
  }

  /** Lets go of what waits: of what is kept, too. */
  release(waitedFor: (object: unknown) => boolean): void {
    for (const { blocks } of this.blocks) blocks.return();
    for (const reader of this.readers) reader.close();
    for (const ring of [...keptRings, ...this.rings])
      if (waitedFor(ring) || waitedFor(ring.socket) || ring.bytes.length === 0) ring.close();
  }

  close(): void {
    for (const ring of this.rings) {
      const isKept = isWhole(ring) && keptRings.length < RINGS_KEPT;
      if (isKept) keptRings.push(ring);
      else ring.close();
    }
    for (const ring of [...keptRings])
      if (ring.closed) keptRings.splice(keptRings.indexOf(ring), 1);
    for (const reader of this.readers) reader.close();
    for (const writer of this.writers) quietly(() => writer.close());
    for (const fd of this.fds) if (fd !== fullFd) closeSync(fd);
    for (const file of readdirSync(folder)) rmSync(join(folder, file));
  }
}

const blocksOf = new WeakMap<PacketRing, PacketBlock>();

function openRing(kind: number): PacketRing {
  const geometry = [
    { blockBytes: 4096, blocks: 2, checked: false },
    { blockBytes: 4096, blocks: 3, checked: true },
    { blockBytes: 16_384, blocks: 1, checked: false, flowHash: true },
  ][kind % RINGS_KEPT];
  return PacketRing.open("lo", { ...geometry, blockTimeoutMs: 1 });
}

// Not closed, and its memory not transferred.
function isWhole(ring: PacketRing): boolean {
  return !ring.closed && ring.bytes.length > 0;
}

function isIterator(value: unknown): value is Iterator<Packet> & object {
  return value instanceof Object && "next" in value && !(value instanceof Header);
}

function quietly<Result>(work: () => Result): Result | undefined {
  try {
    return work();
  } catch {
    return undefined;
  }
}

const ETHERNET_IP =
  "ldh [12]\njne #0x800, drop\nldb [23]\njeq #17, keep\ndrop: ret #0\nkeep: ret #65535";

const PROGRAMS: readonly FilterProgram[] = [
  FilterProgram.dropAll,
  assembleFilter("ret #65535"),
  assembleFilter(ETHERNET_IP),
  assembleFilter("ldx 4*([14]&0xf)\nldh [x+16]\ntax\ntxa\nst M[3]\nld M[3]\nadd x\nret a"),
  assembleFilter("ld #vlan_pr\njeq #0, drop\nld #vlan_tci\nand #0xfff\nret a\ndrop: ret #0"),
  assembleFilter("ld #len\nsub #14\ndiv #3\nmul #5\nxor #1\nlsh #2\nrsh #1\nneg\nret a"),
  assembleFilter("ld #proto\nld #type\nld #ifidx\nld #rxhash\nld #cpu\nld #rand\nret #1"),
  assembleFilter("ld [0xfffffff0]\nret #1"),
];
