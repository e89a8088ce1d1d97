import { heapStats } from "bun:jsc";
import { expect } from "bun:test";
import { DatagramBatch, type Inet4Address, NativeBuffer, UdpSocket } from "bun-sockets";
import { iovec, mmsghdr, msghdr, sockaddr_in } from "bun-sockets/structs";
import {
  AF_INET,
  close,
  IPPROTO_RAW,
  MSG_DONTWAIT,
  SOCK_CLOEXEC,
  SOCK_RAW,
  sendmmsg,
  socket,
} from "bun-sockets/sys";
import { requires, testIf } from "../support/require.ts";

const SENDERS = 1_000_000;
const BATCH = 64;
const ROUNDS = 25;
// struct iphdr and struct udphdr without options. See RFC 791 and RFC 768.
const IP_HEADER = 20;
const UDP_HEADER = 8;
const PACKET = IP_HEADER + UDP_HEADER + 8;
const SOURCE_PORT = 4000;

const namespaced = testIf(
  process.env["BUN_SOCKETS_NAMESPACE"] === "1"
    ? requires("ip")
    : "needs a network namespace of its own",
);

/** Sends UDP datagrams from any source address: a batch of raw IPv4 packets with our own headers. */
class Spoofer implements Disposable {
  readonly #fd: number;
  readonly #memory = new NativeBuffer(BATCH * (mmsghdr.size + iovec.size + PACKET) + 16);
  readonly #view = new DataView(this.#memory.bytes.buffer);
  readonly #packets = BATCH * (mmsghdr.size + iovec.size);

  constructor(to: Inet4Address) {
    this.#fd = socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_RAW);
    if (this.#fd < 0) throw new Error(`socket: ${this.#fd}`);
    const { bytes, address } = this.#memory;
    const name = this.#packets + BATCH * PACKET;
    bytes.set(to.bytes, name);
    for (let i = 0; i < BATCH; i++) {
      const vector = BATCH * mmsghdr.size + i * iovec.size;
      const packet = this.#packets + i * PACKET;
      iovec.iov_base.set(this.#view, vector, address + packet);
      iovec.iov_len.set(this.#view, vector, PACKET);
      msghdr.msg_name.set(this.#view, i * mmsghdr.size, address + name);
      msghdr.msg_namelen.set(this.#view, i * mmsghdr.size, sockaddr_in.size);
      msghdr.msg_iov.set(this.#view, i * mmsghdr.size, address + vector);
      msghdr.msg_iovlen.set(this.#view, i * mmsghdr.size, 1);
      // Version 4, five words of header; the kernel fills in the length, id and checksum.
      bytes[packet] = 0x45;
      bytes[packet + 8] = 64;
      bytes[packet + 9] = 17;
      bytes.set(to.bytes.subarray(4, 8), packet + 16);
      this.#view.setUint16(packet + IP_HEADER, SOURCE_PORT);
      this.#view.setUint16(packet + IP_HEADER + 2, to.port);
      this.#view.setUint16(packet + IP_HEADER + 4, UDP_HEADER + 8);
    }
  }

  /** Sends a batch: datagram i from 10.0.0.0 + first + i * step. */
  send(first: number, step: number): void {
    for (let i = 0; i < BATCH; i++) {
      const source = 0x0a00_0000 + first + i * step;
      this.#view.setUint32(this.#packets + i * PACKET + 12, source);
    }
    const sent = sendmmsg(this.#fd, this.#memory.address, BATCH, MSG_DONTWAIT);
    if (sent !== BATCH) throw new Error(`sendmmsg: ${sent}`);
  }

  [Symbol.dispose](): void {
    close(this.#fd);
    this.#memory.free();
  }
}

/** Receives a batch and asks for every sender; returns how long that took, in milliseconds. */
function receive(server: UdpSocket, batch: DatagramBatch, senders: Int32Array): number {
  const started = performance.now();
  const count = server.tryReceiveBatch(batch);
  for (let i = 0; i < count; i++) senders[i] = batch.sender(i);
  const elapsed = performance.now() - started;
  if (count !== BATCH) throw new Error(`${count} datagrams came`);
  return elapsed;
}

function heapBytes(): number {
  Bun.gc(true);
  const { heapSize, extraMemorySize } = heapStats();
  return heapSize + extraMemorySize;
}

function median(values: readonly number[]): number {
  return values.toSorted((left, right) => left - right)[values.length >> 1] as number;
}

namespaced("a spoofed sender is received as the address it claims", () => {
  using server = UdpSocket.bind("127.0.0.1:0");
  using spoofer = new Spoofer(server.localAddress as Inet4Address);
  using batch = new DatagramBatch();
  spoofer.send(0x01_02_03, 1);
  expect(server.receiveBatchSync(batch, { timeoutMs: 1000 })).toBe(BATCH);
  expect(`${batch.address(0)} ${batch.address(63)}`).toBe(
    `10.1.2.3:${SOURCE_PORT} 10.1.2.66:${SOURCE_PORT}`,
  );
});

namespaced(
  "1,000,000 spoofed senders cost at most twice one sender, bounded memory, and no number twice",
  () => {
    using server = UdpSocket.bind("127.0.0.1:0");
    using spoofer = new Spoofer(server.localAddress as Inet4Address);
    using many = new DatagramBatch();
    using one = new DatagramBatch();
    const senders = new Int32Array(BATCH);
    const batches = SENDERS / BATCH / ROUNDS;
    // Warm: the tables are full and the code is compiled before anything is measured.
    let next = 0;
    let given = 0;
    for (let i = 0; i < 500; i++) {
      spoofer.send(next, 1);
      next += BATCH;
      receive(server, many, senders);
      given += BATCH;
      spoofer.send(0, 0);
      receive(server, one, senders);
    }
    const heapBefore = heapBytes();
    const residentBefore = process.memoryUsage.rss();
    const ratios: number[] = [];
    for (let round = 0; round < ROUNDS; round++) {
      let manyMs = 0;
      let oneMs = 0;
      // Interleaved, so that a busy machine is busy for both.
      for (let i = 0; i < batches; i++) {
        spoofer.send(next, 1);
        next += BATCH;
        manyMs += receive(server, many, senders);
        // A new sender each: each has the number after the one before, so none comes twice.
        for (let slot = 0; slot < BATCH; slot++) {
          if (senders[slot] !== given++) expect(senders[slot]).toBe(given - 1);
        }
        spoofer.send(0, 0);
        oneMs += receive(server, one, senders);
        if (senders[BATCH - 1] !== 0) expect(senders[BATCH - 1]).toBe(0);
      }
      ratios.push(manyMs / oneMs);
    }
    expect(given).toBeGreaterThan(SENDERS);
    expect(next).toBe(given);
    expect(median(ratios)).toBeLessThan(2);
    expect(heapBytes() - heapBefore).toBeLessThan(1 << 20);
    expect(process.memoryUsage.rss() - residentBefore).toBeLessThan(16 << 20);
    // The newest are remembered, with their numbers and addresses.
    expect(many.sender(BATCH - 1)).toBe(given - 1);
    const last = new DataView(new ArrayBuffer(4));
    last.setUint32(0, 0x0a00_0000 + next - 1);
    const host = new Uint8Array(last.buffer).join(".");
    expect(`${many.address(BATCH - 1)}`).toBe(`${host}:${SOURCE_PORT}`);
  },
  60_000,
);
