/**
 * What the kernel may touch and what may leave the process. Payload memory lies between pages that
 * nobody may touch, and is full of canary bytes that no datagram of these tests contains: a byte
 * written where it should not be is missed, and one that was sent is seen by the peer.
 */
import { describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import {
  DatagramBatch,
  type InetAddress,
  NativeBuffer,
  parseAddress,
  UdpSocket,
} from "bun-sockets";
import {
  AF_INET,
  AF_INET6,
  bind,
  close,
  EFAULT,
  getsockname,
  MSG_DONTWAIT,
  MSG_PEEK,
  MSG_TRUNC,
  PROT_NONE,
  recvfrom,
  SOCK_CLOEXEC,
  SOCK_DGRAM,
  sendto,
  socket,
} from "bun-sockets/sys";
import { addressFromBytes } from "../../lib/address.ts";
import { libc, orErrno } from "../../lib/ffi/libc.ts";
import { replaceEntry } from "../support/faults.ts";
import { requires, testIf } from "../support/require.ts";

const WAIT = { timeoutMs: 2000 };
const CANARY = 0xa5;
const PAGE = 4096;

const families = [
  { family: "ipv4", loopback: "127.0.0.1:0", domain: AF_INET },
  { family: "ipv6", loopback: "[::1]:0", domain: AF_INET6 },
] as const;

// Every union of the flags that a receive takes.
const flagUnions = Array.from(
  { length: 8 },
  (_, bits) =>
    (bits & 1 ? MSG_PEEK : 0) | (bits & 2 ? MSG_TRUNC : 0) | (bits & 4 ? MSG_DONTWAIT : 0),
);

/** Puts every mapping that is made inside its block between two pages that nobody may touch. */
function guardMappings(): { readonly guards: readonly number[] } & Disposable {
  // Opens libc, so that the entries are the real functions.
  libc.__errno_location();
  const { mmap, munmap, mprotect } = libc;
  const guards: number[] = [];
  const fault = replaceEntry("mmap", (address, length, protection, flags, fd, offset) => {
    const whole = Math.ceil((length as number) / PAGE) * PAGE;
    const start = mmap(address, whole + 2 * PAGE, protection, flags, fd, offset) as number;
    for (const guard of [start, start + PAGE + whole]) {
      mprotect(guard, PAGE, PROT_NONE);
      guards.push(guard);
    }
    return start + PAGE;
  });
  return {
    guards,
    [Symbol.dispose]() {
      fault[Symbol.dispose]();
      // What lies between them belongs to its owner, who unmaps it.
      for (const guard of guards) munmap(guard, PAGE);
    },
  };
}

/** A stranger: a UDP socket that shares no code with UdpSocket and DatagramBatch. */
class Stranger implements Disposable {
  readonly address: InetAddress;
  readonly #fd: number;

  constructor(domain: number, loopback: string) {
    this.#fd = socket(domain, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    const name = new Uint8Array(new ArrayBuffer(128));
    const length = new Uint32Array(new ArrayBuffer(4));
    if (bind(this.#fd, (parseAddress(loopback) as InetAddress).bytes) !== 0)
      throw new Error("bind failed");
    getsockname(this.#fd, name, length);
    this.address = addressFromBytes(name.subarray(0, length[0])) as InetAddress;
  }

  send(bytes: Uint8Array, to: InetAddress): void {
    if (sendto(this.#fd, bytes, 0, to.bytes) !== bytes.length) throw new Error("sendto failed");
  }

  /** What has come: loopback delivers before a send returns. */
  drain(): Buffer[] {
    const datagrams: Buffer[] = [];
    const target = Buffer.alloc(65536);
    const name = new Uint8Array(new ArrayBuffer(128));
    const nameLength = new Uint32Array(new ArrayBuffer(4));
    for (;;) {
      const length = recvfrom(this.#fd, target, MSG_DONTWAIT, name, nameLength);
      if (length < 0) return datagrams;
      datagrams.push(Buffer.from(target.subarray(0, length)));
    }
  }

  [Symbol.dispose](): void {
    close(this.#fd);
  }
}

/** Bytes without a canary among them, other ones for each seed. */
function payload(length: number, seed: number): Uint8Array {
  return new Uint8Array(length).map((_, i) => (seed * 31 + i) % CANARY);
}

function hasCanary(datagram: Uint8Array): boolean {
  return datagram.includes(CANARY);
}

/** What differs from what the datagrams alone would have written to memory full of canaries. */
function firstStray(batch: DatagramBatch, datagrams: readonly Uint8Array[]): string | undefined {
  const expected = new Uint8Array(batch.memory.length).fill(CANARY);
  for (const [i, datagram] of datagrams.entries()) {
    expected.set(datagram.subarray(0, batch.slotBytes), batch.offset(i));
  }
  const at = expected.findIndex((byte, index) => byte !== batch.memory[index]);
  return at < 0 ? undefined : `byte ${at} is ${batch.memory[at]}, not ${expected[at]}`;
}

test("the guard pages guard: the kernel can neither read nor write them", () => {
  using guarded = guardMappings();
  using buffer = new NativeBuffer(PAGE);
  using server = UdpSocket.bind("127.0.0.1:0");
  using client = UdpSocket.open("ipv4");
  client.connectSync(server.localAddress);
  expect(guarded.guards).toEqual([buffer.address - PAGE, buffer.address + PAGE]);
  for (const address of [buffer.address - 1, buffer.address + PAGE]) {
    expect(orErrno(libc.send(client.descriptor, address, 1, 0))).toBe(-EFAULT);
    client.sendSync("x");
    expect(orErrno(libc.recv(server.descriptor, address, 1, MSG_DONTWAIT))).toBe(-EFAULT);
  }
  expect(libc.send(client.descriptor, buffer.address, PAGE, 0)).toBe(PAGE);
});

describe.each(families)("over $family", ({ family, loopback, domain }) => {
  // A multiple of a cache line has no gap behind it, the others do.
  describe.each([1, 60, 64, 100, 1000, 1472, 4096])("slots of %d bytes", (slotBytes) => {
    const lengths = [0, 1, slotBytes - 1, slotBytes, slotBytes + 1, slotBytes + 63]
      .concat([2 * slotBytes, slotBytes + 3000])
      .filter((length) => length >= 0);
    const datagrams = lengths.map((length, i) => payload(length, i));

    // 64 slots of a multiple of 64 bytes fill whole pages: the last slot ends at a guard.
    function makeGuarded(): DatagramBatch {
      using _ = guardMappings();
      const batch = new DatagramBatch({ capacity: 64, slotBytes });
      batch.memory.fill(CANARY);
      return batch;
    }

    test.each(flagUnions)("a receive with flags %d writes what arrived and no more", (flags) => {
      using guarded = guardMappings();
      using batch = new DatagramBatch({ capacity: 64, slotBytes });
      expect(batch.memory.length % PAGE).toBe(0);
      // Two for each: the payloads, the tables and the control messages.
      expect(guarded.guards).toHaveLength(6);
      batch.memory.fill(CANARY);
      using server = UdpSocket.bind(loopback);
      using stranger = new Stranger(domain, loopback);
      for (const datagram of datagrams) stranger.send(datagram, server.localAddress);
      const count = server.receiveBatchSync(batch, { ...WAIT, flags });
      const arrived =
        flags & MSG_PEEK
          ? Array.from({ length: count }, () => datagrams[0] as Uint8Array)
          : datagrams;
      expect(count).toBe(arrived.length);
      expect(firstStray(batch, arrived)).toBeUndefined();
      for (const [i, datagram] of arrived.entries()) {
        expect(batch.length(i)).toBe(Math.min(datagram.length, slotBytes));
        expect(batch.originalLength(i)).toBe(datagram.length);
      }
    });

    test("a full batch of too long datagrams leaves every gap alone", () => {
      using guarded = guardMappings();
      using batch = new DatagramBatch({ capacity: 64, slotBytes });
      batch.memory.fill(CANARY);
      using server = UdpSocket.bind(loopback);
      using stranger = new Stranger(domain, loopback);
      const long = Array.from({ length: 16 }, (_, i) => payload(slotBytes + 200, i));
      for (let round = 0; round < 4; round++) {
        for (const datagram of long) stranger.send(datagram, server.localAddress);
        expect(server.receiveBatchSync(batch, WAIT)).toBe(16);
        expect(firstStray(batch, long)).toBeUndefined();
        // So that the next round fills other slots.
        for (let i = 0; i < 16; i++) batch.swap(i, 16 * ((round + 1) % 4) + i);
        batch.memory.fill(CANARY);
      }
      expect(guarded.guards).toHaveLength(6);
    });

    const works: [name: string, work: (batch: DatagramBatch) => void][] = [
      ["as it is", () => {}],
      ["turned round", (batch) => reverse(batch)],
      ["with every other slot kept", (batch) => batch.keep(evens(batch.count))],
      ["turned round and cut down", (batch) => [reverse(batch), batch.keep(evens(batch.count))]],
      ["with truncated slots made whole", (batch) => makeWhole(batch)],
    ];
    const truncated = lengths.filter((length) => length > slotBytes).length;
    test.each(works)("a batch sent %s sends no canary", (_, work) => {
      using batch = makeGuarded();
      using server = UdpSocket.bind(loopback);
      using stranger = new Stranger(domain, loopback);
      using sink = new Stranger(domain, loopback);
      using out = UdpSocket.open(family);
      out.connectSync(sink.address);
      for (const flags of [MSG_TRUNC, 0, MSG_PEEK | MSG_TRUNC, 0]) {
        for (const datagram of datagrams) stranger.send(datagram, server.localAddress);
        server.receiveBatchSync(batch, { ...WAIT, flags });
        work(batch);
        const sendable = Array.from({ length: batch.count }, (_, i) => i).filter(
          (i) => !batch.truncated(i),
        );
        const views = sendable.map((i) => Buffer.from(batch.view(i)));
        expect(server.trySendBatch(batch)).toBe(sendable.length);
        expect(out.sendBatchSync(batch, 0, WAIT)).toBe(sendable.length);
        expect(batch.failed).toBe(batch.count - sendable.length);
        for (const peer of [stranger, sink]) {
          const came = peer.drain();
          expect(came.filter(hasCanary)).toEqual([]);
          expect(came.map((datagram) => datagram.toHex())).toEqual(
            views.map((view) => view.toHex()),
          );
        }
        // The batch is refilled: what an earlier round left must not go out either.
        while (server.tryReceive(new Uint8Array(1)) !== undefined);
        batch.memory.fill(CANARY);
      }
      expect(truncated).toBeGreaterThan(2);
    });

    test("a receive after a send with the same batch is as wide as the slots", () => {
      using batch = makeGuarded();
      using server = UdpSocket.bind(loopback);
      using stranger = new Stranger(domain, loopback);
      for (let round = 0; round < 3; round++) {
        stranger.send(payload(round % 2, 1), server.localAddress);
        server.receiveBatchSync(batch, WAIT);
        expect(server.trySendBatch(batch)).toBe(1);
        batch.memory.fill(CANARY);
        stranger.send(payload(slotBytes, 2), server.localAddress);
        server.receiveBatchSync(batch, WAIT);
        expect(batch.length(0)).toBe(slotBytes);
        expect(firstStray(batch, [payload(slotBytes, 2)])).toBeUndefined();
      }
    });
  });

  const places: [name: string, at: number, length: number][] = [
    ["at the start of the mapping", 0, 100],
    ["in the middle", 1999, 100],
    ["at the end of the mapping", PAGE - 100, 100],
    ["of one byte at the end", PAGE - 1, 1],
    ["of no bytes at the end", PAGE, 0],
    ["of all of it", 0, PAGE],
  ];
  test.each(places)("single receives into a view %s leave the bytes around alone", (...place) => {
    const [, at, length] = place;
    using _ = guardMappings();
    using buffer = new NativeBuffer(PAGE);
    using server = UdpSocket.bind(loopback);
    using stranger = new Stranger(domain, loopback);
    const target = buffer.bytes.subarray(at, at + length);
    const expected = new Uint8Array(PAGE);
    for (const size of [0, 1, length, length + 1, 9000]) {
      for (const flags of flagUnions) {
        for (const from of [false, true]) {
          const datagram = payload(size, flags);
          stranger.send(datagram, server.localAddress);
          buffer.bytes.fill(CANARY);
          const told = from
            ? server.receiveFromSync(target, { ...WAIT, flags }).originalLength
            : server.receiveSync(target, { ...WAIT, flags: flags | MSG_TRUNC });
          expect(told).toBe(size);
          expected.fill(CANARY).set(datagram.subarray(0, length), at);
          expect(Buffer.compare(buffer.bytes, expected)).toBe(0);
          if (flags & MSG_PEEK) server.tryReceive(new Uint8Array(0));
        }
      }
    }
    expect(server.tryReceive(new Uint8Array(1))).toBeUndefined();
  });

  test("single sends from a view send its bytes only", () => {
    using _ = guardMappings();
    using buffer = new NativeBuffer(PAGE);
    using stranger = new Stranger(domain, loopback);
    using client = UdpSocket.open(family);
    client.connectSync(stranger.address);
    for (const [, at, length] of places) {
      buffer.bytes.fill(CANARY).set(payload(length, 5), at);
      const view = buffer.bytes.subarray(at, at + length);
      expect(client.trySend(view)).toBe(length);
      expect(client.sendSync(view)).toBe(length);
      expect(stranger.drain().map((datagram) => datagram.toHex())).toEqual(
        Array(2).fill(payload(length, 5).toHex()),
      );
    }
  });

  const echoed = testIf(requires("python3"));
  echoed(`python3 gets no canary from a batch that is echoed and cut over ${family}`, async () => {
    // Sends rounds of datagrams of many lengths, and tells of what came back.
    const script = `
import json, socket, sys
host, port = sys.argv[1], int(sys.argv[2])
peer = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
peer.settimeout(5)
peer.connect((host, port))
canaries = wrong = came = 0
for length in list(range(0, 130)) + [500, 1000, 5000, 20000]:
    sent = bytes((length * 31 + i) % ${CANARY} for i in range(length))
    peer.send(sent)
    back = peer.recv(65536)
    came += 1
    canaries += back.count(${CANARY})
    wrong += back != sent[:100]
print(json.dumps({"canaries": canaries, "wrong": wrong, "came": came}))
`;
    using batch = (() => {
      using _ = guardMappings();
      return new DatagramBatch({ capacity: 64, slotBytes: 100 });
    })();
    batch.memory.fill(CANARY);
    using server = UdpSocket.bind(loopback);
    const { host, port } = server.localAddress;
    const python = Bun.spawn(["python3", "-c", script, host, `${port}`], { stderr: "inherit" });
    for (let answered = 0; answered < 134; ) {
      server.receiveBatchSync(batch, { timeoutMs: 10_000, flags: MSG_TRUNC });
      makeWhole(batch);
      answered += server.sendBatchSync(batch, 0, WAIT);
      batch.memory.fill(CANARY);
    }
    expect(JSON.parse(await python.stdout.text())).toEqual({ canaries: 0, wrong: 0, came: 134 });
    expect(await python.exited).toBe(0);
  });
});

test("freed memory is unmapped at once, and its views are empty, not dangling", () => {
  const batch = new DatagramBatch({ capacity: 1024, slotBytes: 65536 });
  const buffer = new NativeBuffer(64 << 20);
  const views = [batch.memory, batch.memory.subarray(100, 200), buffer.bytes, batch.view(0)];
  const mapped = () =>
    Number(/^VmSize:\s+(\d+) kB$/m.exec(readFileSync("/proc/self/status", "utf8"))?.[1]);
  const before = mapped();
  batch.free();
  buffer.free();
  // 64 MiB each.
  expect(before - mapped()).toBeGreaterThanOrEqual(2 * 60 * 1024);
  for (const view of views) {
    expect([view.length, view.byteOffset, view[0]]).toEqual([0, 0, undefined]);
    expect(view.buffer.detached).toBe(true);
  }
});

function evens(count: number): number[] {
  return Array.from({ length: Math.ceil(count / 2) }, (_, i) => 2 * i);
}

function reverse(batch: DatagramBatch): void {
  for (let i = 0, j = batch.count - 1; i < j; i++, j--) batch.swap(i, j);
}

/** Makes truncated slots ordinary ones, as long as they can be. */
function makeWhole(batch: DatagramBatch): void {
  for (let i = 0; i < batch.count; i++) {
    if (batch.truncated(i)) batch.setLength(i, batch.length(i));
  }
}
