/**
 * Rings from the beginning to the end: geometry, what goes wrong, waiting, and closing at any time.
 *
 * @module
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import {
  ClosedError,
  FilterProgram,
  openSockets,
  poller,
  SystemError,
  TimeoutError,
} from "bun-sockets";
import {
  type PacketBlock,
  PacketRing,
  type PacketRingOptions,
  PacketSocket,
} from "bun-sockets/packet";
import {
  BPF_A,
  BPF_ABS,
  BPF_ADD,
  BPF_ALU,
  BPF_JEQ,
  BPF_JMP,
  BPF_JSET,
  BPF_K,
  BPF_LD,
  BPF_RET,
  BPF_W,
  close,
  EINVAL,
  ENOMEM,
  EPERM,
  ETH_P_802_EX1,
  PACKET_RX_RING,
  PACKET_VERSION,
  SOL_PACKET,
} from "bun-sockets/sys";
import { libc } from "../../lib/ffi/libc.ts";
import { type Member, tpacket_req3 } from "../../structs/index.ts";
import { openDescriptors } from "../support/descriptors.ts";
import { failWith, MAP_FAILED, replaceEntry } from "../support/faults.ts";
import { ip } from "../support/namespaces.ts";
import { requires, testIf } from "../support/require.ts";
import { beginCount, reasonOf, until, waiting } from "../support/waiting.ts";
import { awaitLinks, makeVeth, NUMBER, writeFrame } from "./packet_ring/frames.ts";

const NEAR = "bs-pl-0";
const FAR = "bs-pl-1";
const LIMIT = { timeoutMs: 20_000 };
const SMALL: PacketRingOptions = { blockBytes: 4096, blocks: 4, blockTimeoutMs: 1 };

const isNamespaced = process.env["BUN_SOCKETS_NAMESPACE"] === "1";
const namespaced = testIf(
  isNamespaced ? requires("ip", "unshare") : "needs a network namespace of its own",
);

let veth: Disposable | undefined;
let sender: PacketSocket;

beforeAll(() => {
  if (!isNamespaced) return;
  veth = makeVeth(NEAR, FAR);
  sender = PacketSocket.open(NEAR, { protocol: 0 });
});
afterAll(() => {
  sender?.close();
  veth?.[Symbol.dispose]();
});

function send(number: number): void {
  const frame = new Uint8Array(60);
  writeFrame(frame, 0, frame.length, number);
  expect(sender.trySend(frame)).toBe(frame.length);
}

function numberOf(block: PacketBlock | undefined): number {
  expect(block?.next()).toBe(true);
  return (block as PacketBlock).view.getUint32((block as PacketBlock).offset + NUMBER);
}

/** What is mapped of packet sockets in this process. */
function mappings(): number {
  return readFileSync("/proc/self/maps", "latin1").match(/ socket:\[/g)?.length ?? 0;
}

/** The packet sockets of this network namespace, also those that have no descriptor any more. */
function capturing(): number {
  return readFileSync("/proc/thread-self/net/packet", "latin1").trim().split("\n").length - 1;
}

/** What the kernel is asked for, without asking it. */
function askedFor(options: PacketRingOptions): Record<string, number> {
  const asked: Record<string, number> = {};
  const members = ["size", "nr"].flatMap((what) => [`block_${what}`, `frame_${what}`]);
  const real = libc.setsockopt;
  using _ = replaceEntry("setsockopt", (fd, level, name, value, length) => {
    if (level !== SOL_PACKET || name !== PACKET_RX_RING)
      return real(fd, level, name, value, length);
    const view = value as DataView;
    for (const name of [...members, "retire_blk_tov", "feature_req_word", "sizeof_priv"]) {
      const member = tpacket_req3[`tp_${name}` as "tp_block_nr"] as Member<number>;
      asked[name] = member.get(view, 0);
    }
    return failWith(ENOMEM);
  });
  expect(() => PacketRing.open("lo", options)).toThrow("setsockopt ENOMEM PACKET_RX_RING");
  return asked;
}

describe("geometry", () => {
  namespaced("is 16 blocks of 1 MiB and 10 ms, unless something else is asked for", () => {
    const plain = { frame_size: 2048, feature_req_word: 0, sizeof_priv: 0 };
    expect(askedFor({})).toEqual({
      ...plain,
      block_size: 1 << 20,
      block_nr: 16,
      frame_nr: 8192,
      retire_blk_tov: 10,
    });
    const options = { blockBytes: 4096, blocks: 3, blockTimeoutMs: 65_535, flowHash: true };
    expect(askedFor(options)).toEqual({
      ...plain,
      block_size: 4096,
      block_nr: 3,
      frame_nr: 6,
      retire_blk_tov: 65_535,
      feature_req_word: 1,
    });
    // The cap itself, and above it where that is asked for.
    expect(askedFor({ blocks: 256 }).block_nr).toBe(256);
    expect(askedFor({ blocks: 257, maxBytes: 257 << 20 }).block_nr).toBe(257);
    expect(askedFor({ blockBytes: 2 ** 30, blocks: 4, maxBytes: 2 ** 32 }).block_nr).toBe(4);
  });

  const wrong: readonly [options: unknown, error: typeof TypeError, message: string][] = [
    [
      { blockBytes: 4095 },
      RangeError,
      "Cannot use 4095 as blockBytes: expected 4096 to 1073741824",
    ],
    [{ blockBytes: 12_288 }, RangeError, "Cannot use 12288 as blockBytes: expected a power of 2"],
    [{ blockBytes: 4097 }, RangeError, "expected a power of 2"],
    [{ blockBytes: 2 ** 31 }, RangeError, "as blockBytes"],
    [{ blockBytes: Number.NaN }, RangeError, "Cannot use NaN as blockBytes"],
    [{ blockBytes: "4096" }, TypeError, "Cannot use a value of type string as blockBytes"],
    [{ blocks: 0 }, RangeError, "Cannot use 0 as blocks: expected 1 to 1048576"],
    [{ blocks: 1.5 }, RangeError, "Cannot use 1.5 as blocks"],
    [{ blockTimeoutMs: 0 }, RangeError, "Cannot use 0 as blockTimeoutMs: expected 1 to 65535"],
    [{ blockTimeoutMs: 65_536 }, RangeError, "Cannot use 65536 as blockTimeoutMs"],
    [
      { blocks: 257 },
      RangeError,
      "Cannot make a ring of 257 blocks of 1048576 bytes: expected at most 268435456 bytes in all",
    ],
    [{ maxBytes: (1 << 24) - 1 }, RangeError, "expected at most 16777215 bytes in all"],
    [{ blocks: 8192, maxBytes: 2 ** 32 + 1 }, RangeError, "Cannot use 4294967297 as maxBytes"],
    [{ flowHash: 1 }, TypeError, "Cannot use a value of type number as flowHash"],
    [{ checked: "1" }, TypeError, "Cannot use a value of type string as checked"],
    [{ protocol: -1 }, RangeError, "as a protocol"],
    [null, TypeError, "Cannot use null as options"],
  ];
  test.each(wrong)("%p is refused before the kernel is asked", (options, error, message) => {
    using socket = replaceEntry("socket", () => failWith(EPERM));
    const open = () => PacketRing.open("lo", options as PacketRingOptions);
    expect(open).toThrow(error);
    expect(open).toThrow(message);
    expect(socket.calls).toBe(0);
  });
});

describe("a ring that cannot be made", () => {
  test("without the right says which, and how it is granted", () => {
    using _ = replaceEntry("socket", () => failWith(EPERM));
    let thrown: unknown;
    try {
      PacketRing.open("lo");
    } catch (error) {
      thrown = error;
    }
    expect(thrown).toBeInstanceOf(SystemError);
    const { code, hint = "" } = thrown as SystemError;
    expect([code, hint]).toEqual(["EPERM", expect.stringContaining("CAP_NET_RAW")]);
  });

  const faults: readonly [
    what: string,
    fault: () => Disposable,
    code: string,
    syscall: string,
    hint: string | undefined,
  ][] = [
    ["no version 3", () => failOption(PACKET_VERSION, EINVAL), "EINVAL", "setsockopt", undefined],
    ["no memory", () => failOption(PACKET_RX_RING, ENOMEM), "ENOMEM", "setsockopt", "fewer blocks"],
    ["larger pages", () => failOption(PACKET_RX_RING, EINVAL), "EINVAL", "setsockopt", "PAGESIZE"],
    [
      "no address space",
      () => replaceEntry("mmap", () => failWith(ENOMEM, MAP_FAILED)),
      "ENOMEM",
      "mmap",
      "fewer blocks",
    ],
    // The second of two: the first has no protocol.
    ["no bind", () => failSecond("bind"), "ENOMEM", "bind", undefined],
  ];
  for (const [what, fault, code, syscall, hint] of faults) {
    namespaced(`(${what}) leaves nothing behind`, () => {
      const before = [openDescriptors(), mappings(), capturing(), openSockets().length];
      let thrown: unknown;
      {
        using _ = fault();
        try {
          PacketRing.open(FAR);
        } catch (error) {
          thrown = error;
        }
      }
      expect(thrown).toBeInstanceOf(SystemError);
      const error = thrown as SystemError;
      expect([error.code, error.syscall]).toEqual([code, syscall]);
      if (hint) expect(error.hint).toContain(hint);
      expect([openDescriptors(), mappings(), capturing(), openSockets().length]).toEqual(before);
    });
  }

  function failOption(name: number, errno: number): Disposable {
    const real = libc.setsockopt;
    return replaceEntry("setsockopt", (fd, level, asked, value, length) =>
      level === SOL_PACKET && asked === name
        ? failWith(errno)
        : real(fd, level, asked, value, length),
    );
  }

  function failSecond(name: "bind"): Disposable {
    const real = libc[name];
    let calls = 0;
    return replaceEntry(name, (...values) => (++calls === 2 ? failWith(ENOMEM) : real(...values)));
  }

  namespaced("for an interface that is not there, or a group of another kind", () => {
    const before = [openDescriptors(), mappings(), capturing()];
    expect(() => PacketRing.open("bs-none")).toThrow("ENODEV");
    {
      using _ = PacketRing.open(FAR, { ...SMALL, fanout: { group: 3, mode: "hash" } });
      expect(() =>
        PacketRing.open(FAR, { ...SMALL, fanout: { group: 3, mode: "balance" } }),
      ).toThrow("setsockopt EINVAL PACKET_FANOUT");
    }
    expect([openDescriptors(), mappings(), capturing()]).toEqual(before);
  });
});

describe("waiting", () => {
  let ring: PacketRing;
  beforeAll(() => {
    if (isNamespaced) ring = PacketRing.open(FAR, SMALL);
  });
  afterAll(() => ring?.close());

  namespaced("has a limit in every form", async () => {
    expect(ring.tryReceiveBlock()).toBeUndefined();
    for (const timeoutMs of [0, 5]) {
      expect(() => ring.receiveBlockSync({ timeoutMs })).toThrow(TimeoutError);
      const error = await reasonOf(ring.receiveBlock({ timeoutMs }));
      expect(error).toBeInstanceOf(TimeoutError);
      expect(`${error}`).toContain(`poll ETIMEDOUT: timed out after ${timeoutMs} ms`);
    }
    // And goes on after it.
    send(1);
    expect(numberOf(await ring.receiveBlock(LIMIT))).toBe(1);
    send(2);
    expect(numberOf(ring.receiveBlockSync(LIMIT))).toBe(2);
  });

  namespaced("a try that finds a block takes it with a limit of 0", async () => {
    expect(ring.tryReceiveBlock()).toBeUndefined();
    send(3);
    await until(() => isReadable(ring), "a block is handed over");
    expect(numberOf(ring.receiveBlockSync({ timeoutMs: 0 }))).toBe(3);
    send(4);
    ring.tryReceiveBlock();
    await until(() => isReadable(ring), "a block is handed over");
    expect(numberOf(await ring.receiveBlock({ timeoutMs: 0 }))).toBe(4);
  });

  namespaced("is cancelled by a signal, which is heard no more then", async () => {
    beginCount();
    const reason = new Error("enough");
    const aborted = AbortSignal.abort(reason);
    expect(await reasonOf(ring.receiveBlock({ signal: aborted }))).toBe(reason);
    const controller = new AbortController();
    const call = waiting(() => ring.receiveBlock({ signal: controller.signal }));
    controller.abort(reason);
    expect(await reasonOf(call)).toBe(reason);
    const looping = new AbortController();
    const loop = (async () => {
      for await (const _ of ring.blocks({ signal: looping.signal }));
    })();
    looping.abort(reason);
    expect(await reasonOf(loop)).toBe(reason);
    send(5);
    expect(numberOf(await ring.receiveBlock(LIMIT))).toBe(5);
  });

  namespaced("has one call at a time: another fails with EBUSY", async () => {
    beginCount();
    const call = waiting(() => ring.receiveBlock(LIMIT));
    expect(() => ring.tryReceiveBlock()).toThrow("poll EBUSY");
    expect(() => ring.receiveBlockSync()).toThrow("poll EBUSY");
    expect(`${await reasonOf(ring.receiveBlock())}`).toContain("poll EBUSY");
    expect(`${await reasonOf(ring.blocks().next())}`).toContain("poll EBUSY");
    send(6);
    expect(numberOf(await call)).toBe(6);
    expect(ring.tryReceiveBlock()).toBeUndefined();
  });

  namespaced("is refused with wrong arguments, and then the loan goes on", async () => {
    send(7);
    const block = ring.receiveBlockSync(LIMIT);
    expect(() => ring.receiveBlockSync({ timeoutMs: -1 })).toThrow(RangeError);
    expect(() => ring.receiveBlockSync({ timeoutMs: "1" as never })).toThrow(TypeError);
    expect(await reasonOf(ring.receiveBlock({ timeoutMs: Number.NaN }))).toBeInstanceOf(RangeError);
    expect(await reasonOf(ring.receiveBlock({ signal: {} as never }))).toBeInstanceOf(TypeError);
    expect(await reasonOf(ring.receiveBlock({ signal: AbortSignal.abort(1) }))).toBe(1);
    expect(() => ring.blocks({ signal: 1 as never })).toThrow(TypeError);
    expect(() => ring.blocks(null as never)).toThrow(TypeError);
    expect(block.released).toBe(false);
    expect(numberOf(block)).toBe(7);
  });

  namespaced("sleeps: one wake-up for a block", async () => {
    await ring.receiveBlock({ timeoutMs: 1 }).catch(() => {});
    const before = poller.counters.wakeUps;
    const call = ring.receiveBlock(LIMIT);
    await new Promise((resolve) => setTimeout(resolve, 30));
    const asleep = poller.counters.wakeUps;
    send(8);
    expect(numberOf(await call)).toBe(8);
    expect(poller.counters.wakeUps - before).toBeLessThan(6);
    expect(asleep - before).toBeLessThan(5);
  });

  namespaced("of a loop ends with the loop, and gives the block back", async () => {
    send(9);
    let kept: PacketBlock | undefined;
    for await (const block of ring) {
      kept = block;
      expect(block.released).toBe(false);
      break;
    }
    expect(kept?.released).toBe(true);
    const blocks = ring.blocks();
    const next = blocks.next();
    expect(await blocks.return()).toEqual({ value: undefined, done: true });
    expect(await next).toEqual({ value: undefined, done: true });
    expect(await blocks.next()).toEqual({ value: undefined, done: true });
    {
      await using last = ring.blocks();
      send(10);
      expect(numberOf((await last.next()).value)).toBe(10);
    }
    expect(kept?.released).toBe(true);
    send(11);
    expect(numberOf(await ring.receiveBlock(LIMIT))).toBe(11);
  });

  namespaced("is told once that the interface went down, and goes on when it is up", async () => {
    beginCount();
    const call = waiting(() => ring.receiveBlock(LIMIT));
    ip("link", "set", FAR, "down");
    expect(`${await reasonOf(call)}`).toContain("poll ENETDOWN");
    expect(ring.tryReceiveBlock()).toBeUndefined();
    expect(() => ring.receiveBlockSync({ timeoutMs: 2 })).toThrow(TimeoutError);
    ip("link", "set", FAR, "up");
    awaitLinks(NEAR, FAR);
    send(12);
    expect(numberOf(ring.receiveBlockSync(LIMIT))).toBe(12);
    ip("link", "set", FAR, "down");
    expect(() => ring.receiveBlockSync(LIMIT)).toThrow("poll ENETDOWN");
    ip("link", "set", FAR, "up");
    awaitLinks(NEAR, FAR);
  });

  function isReadable(of: PacketRing): boolean {
    const view = of.view;
    for (let at = 0; at < view.byteLength; at += of.blockBytes)
      if (view.getUint32(at + 8, true) & 1) return true;
    return false;
  }
});

/** What is left of a ring that was closed. */
async function expectClosed(ring: PacketRing): Promise<void> {
  expect([ring.closed, ring.bytes.length, ring.view.buffer.byteLength]).toEqual([true, 0, 0]);
  expect([ring.blockBytes, ring.blockCount, ring.linkType]).toEqual([4096, 4, 1]);
  for (const call of [
    () => ring.tryReceiveBlock(),
    () => ring.receiveBlockSync(),
    () => ring.statistics(),
    () => ring.interfaceIndex,
    () => ring.socket.tryReceive(new Uint8Array(1)),
  ])
    expect(call).toThrow(ClosedError);
  expect(await reasonOf(ring.receiveBlock())).toBeInstanceOf(ClosedError);
  for await (const _ of ring) throw new Error("a block of a closed ring");
  ring.close();
  ring.socket.close();
}

describe("close", () => {
  const ways: readonly [name: string, end: (ring: PacketRing) => void][] = [
    ["close", (ring) => ring.close()],
    ["the end of a using block", (ring) => ring[Symbol.dispose]()],
    ["close of the socket", (ring) => ring.socket.close()],
    ["detach of the socket", (ring) => void close(ring.socket.detach())],
  ];
  for (const [name, end] of ways) {
    namespaced(`(${name}) ends memory and capture, in the middle of a block`, async () => {
      const before = [openDescriptors(), mappings(), capturing(), openSockets().length];
      const ring = PacketRing.open(FAR, SMALL);
      expect(mappings()).toBe((before[1] as number) + 1);
      const { bytes, view } = ring;
      send(1);
      send(2);
      const block = ring.receiveBlockSync(LIMIT);
      const views = [...block].map((packet) => packet.bytes);
      block.rewind();
      block.next();
      end(ring);
      expect([block.released, block.count, block.offset, block.length]).toEqual([true, 0, 0, 0]);
      expect([block.next(), block.seconds, block.vlan, block.packet()]).toEqual([
        false,
        0,
        -1,
        undefined,
      ]);
      expect([bytes.length, view.buffer.byteLength, block.bytes.length]).toEqual([0, 0, 0]);
      expect(views.map(({ length }) => length)).toEqual(views.map(() => 0));
      expect(() => view.getUint8(0)).toThrow(TypeError);
      block.release();
      await expectClosed(ring);
      expect([openDescriptors(), mappings(), capturing(), openSockets().length]).toEqual(before);
    });
  }

  namespaced("unmaps the memory first: it would keep the closed socket capturing", () => {
    const ring = PacketRing.open(FAR, SMALL);
    const real = libc.close;
    const mapped: number[] = [];
    using _ = replaceEntry("close", (fd) => {
      mapped.push(mappings());
      return real(fd);
    });
    expect(mappings()).toBe(1);
    ring.close();
    expect(mapped).toEqual([0]);
  });

  namespaced("ends what waits: a call with a ClosedError, a loop as a loop", async () => {
    beginCount();
    const ring = PacketRing.open(FAR, SMALL);
    const call = waiting(() => ring.receiveBlock());
    ring.close();
    expect(await reasonOf(call)).toBeInstanceOf(ClosedError);
    await expectClosed(ring);
    const looping = PacketRing.open(FAR, SMALL);
    let steps = 0;
    const loop = (async () => {
      for await (const _ of looping) steps++;
      return steps;
    })();
    send(1);
    await until(() => steps === 1, "the loop has its first block");
    looping.close();
    expect(await loop).toBe(1);
    await expectClosed(looping);
    const detached = PacketRing.open(FAR, SMALL);
    const last = waiting(() => detached.receiveBlock());
    close(detached.socket.detach());
    expect(`${await reasonOf(last)}`).toContain("poll ECANCELED");
  });

  for (const checked of [false, true]) {
    namespaced(`ends a loop over frames from within (checked: ${checked})`, async () => {
      const ring = PacketRing.open(FAR, { ...SMALL, checked });
      for (let i = 0; i < 5; i++) send(i);
      let frames = 0;
      for (const { bytes } of ring.receiveBlockSync(LIMIT)) {
        frames++;
        expect(bytes.length).toBe(60);
        ring.close();
        expect(bytes.length).toBe(0);
      }
      expect(frames).toBe(1);
      await expectClosed(ring);
      const other = PacketRing.open(FAR, { ...SMALL, checked });
      send(1);
      for await (using block of other) {
        expect(numberOf(block)).toBe(1);
        other.close();
        expect(block.next()).toBe(false);
      }
      await expectClosed(other);
    });
  }

  namespaced(
    "may come from a signal handler, while something waits and a block is lent out",
    async () => {
      const ring = PacketRing.open(FAR, SMALL);
      send(1);
      const block = ring.receiveBlockSync(LIMIT);
      block.next();
      let closed = false;
      process.once("SIGUSR2", () => {
        ring.close();
        closed = true;
      });
      process.kill(process.pid, "SIGUSR2");
      await until(() => closed, "the handler has run");
      expect([block.next(), block.length]).toEqual([false, 0]);
      await expectClosed(ring);
      const other = PacketRing.open(FAR, SMALL);
      const call = other.receiveBlock();
      process.once("SIGUSR2", () => other.close());
      process.kill(process.pid, "SIGUSR2");
      expect(await reasonOf(call)).toBeInstanceOf(ClosedError);
      await expectClosed(other);
    },
  );

  namespaced("leaves a detached socket without a ring: it is a packet socket as any other", () => {
    const ring = PacketRing.open(FAR, { ...SMALL, protocol: ETH_P_802_EX1 });
    using socket = PacketSocket.adopt(ring.socket.detach(), { own: true });
    expect([ring.closed, ring.bytes.length]).toEqual([true, 0]);
    send(7);
    const buffer = new Uint8Array(100);
    expect(socket.receiveSync(buffer, LIMIT)).toBe(60);
    expect(new DataView(buffer.buffer).getUint32(NUMBER)).toBe(7);
  });

  namespaced("ends for those who share its socket, too: they have a packet socket", () => {
    const ring = PacketRing.open(FAR, { ...SMALL, protocol: ETH_P_802_EX1 });
    using second = ring.socket.duplicate();
    using adopted = PacketSocket.adopt(ring.socket.descriptor);
    send(8);
    const block = ring.receiveBlockSync(LIMIT);
    expect([block.next(), block.view.getUint32(block.offset + NUMBER)]).toEqual([true, 8]);
    ring.close();
    const buffer = new Uint8Array(100);
    const view = new DataView(buffer.buffer);
    // With a ring that nobody reads any more the kernel would give neither of them anything.
    [second, adopted].forEach((socket, i) => {
      send(i);
      expect([socket.receiveSync(buffer, LIMIT), view.getUint32(NUMBER)]).toEqual([60, i]);
    });
  });

  namespaced(
    "stays while a duplicate of its socket is there, also when it was dropped",
    async () => {
      const { second, dropped } = (() => {
        const ring = PacketRing.open(FAR, { ...SMALL, protocol: ETH_P_802_EX1 });
        return { second: ring.socket.duplicate(), dropped: new WeakRef(ring) };
      })();
      using _ = second;
      for (let round = 0; round < 5; round++) {
        await new Promise(setImmediate);
        Bun.gc(true);
      }
      const ring = dropped.deref();
      expect(ring?.closed).toBeFalse();
      ring?.close();
    },
  );

  namespaced("is refused no more than once by whoever has transferred the memory", async () => {
    const ring = PacketRing.open(FAR, SMALL);
    send(1);
    const block = ring.receiveBlockSync(LIMIT);
    block.next();
    const stolen = ring.bytes.buffer.transfer();
    expect(ring.bytes.length).toBe(0);
    expect(() => ring.tryReceiveBlock()).toThrow("Cannot receive into detached memory");
    expect(await reasonOf(ring.receiveBlock())).toBeInstanceOf(TypeError);
    block.release();
    ring.close();
    await expectClosed(ring);
    // It is the thief's, and still there.
    expect(new Uint8Array(stolen).length).toBe(4 * 4096);
    stolen.transfer(0);
    expect(mappings()).toBe(0);
  });

  namespaced("of a ring that was dropped comes after the engine has collected it", () => {
    // In a child, where nothing is reported.
    const child = Bun.spawnSync([process.execPath, "-e", DROPPING], {
      cwd: `${import.meta.dir}/../..`,
      env: { ...process.env, BUN_SOCKETS_LEAKS: "" },
      timeout: LIMIT.timeoutMs,
    });
    expect([child.stdout.toString(), child.stderr.toString()]).toEqual(["3 3\n3 3\n0 0\n", ""]);
  });
});

// Rings of which only the memory is held, and then nothing.
const DROPPING = `
  import { readFileSync } from "node:fs";
  import { PacketRing } from "bun-sockets/packet";
  const capturing = () => readFileSync("/proc/thread-self/net/packet", "latin1").trim().split("\\n").length - 1;
  const mappings = () => readFileSync("/proc/self/maps", "latin1").match(/ socket:\\[/g)?.length ?? 0;
  const others = capturing();
  const now = () => [capturing() - others, mappings()].join(" ");
  const turns = async () => {
    for (let i = 0; i < 10; i++) {
      Bun.gc(true);
      await Bun.sleep(1);
    }
  };
  let kept = [];
  function open() {
    const ring = PacketRing.open("lo", { blockBytes: 4096, blocks: 2 });
    ring.tryReceiveBlock();
    kept.push(ring.bytes);
  }
  const fill = () => {
    for (let i = 0; i < 3; i++) open();
  };
  fill();
  console.log(now());
  await turns();
  console.log(now());
  const lengths = () => kept.map((bytes) => bytes.length).join();
  if (lengths() !== "8192,8192,8192") throw new Error("the memory has gone");
  kept = undefined;
  while (now() !== "0 0") await turns();
  console.log(now());
`;

namespaced("a filter of a ring counts what it lets through only", () => {
  // Accept the frames whose number is even.
  const even = new FilterProgram([
    { code: BPF_LD | BPF_W | BPF_ABS, k: NUMBER },
    { code: BPF_JMP | BPF_JSET | BPF_K, k: 1, jf: 1 },
    { code: BPF_RET | BPF_K, k: 0 },
    { code: BPF_RET | BPF_K, k: 40 },
  ]);
  using ring = PacketRing.open(FAR, { ...SMALL, filter: even });
  for (let i = 0; i < 10; i++) send(i);
  const seen: number[][] = [];
  while (seen.length < 5) {
    using block = ring.receiveBlockSync(LIMIT);
    while (block.next())
      seen.push([block.view.getUint32(block.offset + NUMBER), block.length, block.originalLength]);
  }
  expect(seen).toEqual([0, 2, 4, 6, 8].map((number) => [number, 40, 60]));
  expect(ring.statistics()).toEqual({ packets: 5, drops: 0, freezes: 0 });
});

describe("snapBytes", () => {
  // The number of the frame, plus one: the last instruction is one that computes it.
  const computed = new FilterProgram([
    { code: BPF_LD | BPF_W | BPF_ABS, k: NUMBER },
    { code: BPF_JMP | BPF_JEQ | BPF_K, k: 5, jf: 1 },
    { code: BPF_RET | BPF_A },
    { code: BPF_JMP | BPF_JEQ | BPF_K, k: 6, jf: 1 },
    { code: BPF_RET | BPF_K, k: 0 },
    { code: BPF_ALU | BPF_ADD | BPF_K, k: 18 },
    { code: BPF_RET | BPF_A },
  ]);
  const cases: readonly [what: string, options: PacketRingOptions, lengths: readonly number[]][] = [
    ["frames", { snapBytes: 20 }, [20, 20, 20, 20]],
    ["nothing where frames are shorter", { snapBytes: 2 ** 31 - 1 }, [60, 60, 60, 60]],
    ["what a filter lets through", { filter: computed, snapBytes: 21 }, [5, 21, 21]],
    ["no more than a filter does", { filter: computed, snapBytes: 1000 }, [5, 25, 58]],
    [
      "in a group",
      { filter: computed, snapBytes: 19, fanout: { group: 9, mode: "balance" } },
      [5, 19, 19],
    ],
    [
      "what a filter of configure lets through",
      { snapBytes: 19, configure: (socket) => socket.attachFilter(computed) },
      [5, 19, 19],
    ],
  ];
  for (const [what, options, lengths] of cases) {
    namespaced(`cuts ${what}`, () => {
      using ring = PacketRing.open(FAR, { ...SMALL, ...options });
      for (const number of [5, 6, 7, 40]) send(number);
      const seen: number[] = [];
      while (seen.length < lengths.length) {
        using block = ring.receiveBlockSync(LIMIT);
        while (block.next()) {
          seen.push(block.length);
          expect(block.originalLength).toBe(60);
        }
      }
      expect(seen).toEqual([...lengths]);
    });
  }

  test.each([0, 2 ** 31, 1.5, Number.NaN])("%p is refused", (snapBytes) => {
    expect(() => PacketRing.open("lo", { snapBytes })).toThrow(RangeError);
  });
});

namespaced("reading blocks that are there makes no system call", () => {
  using ring = PacketRing.open(FAR, { ...SMALL, blocks: 8, blockTimeoutMs: 60_000 });
  // Seven blocks, and the beginning of the last.
  for (let i = 0; i < 28 * 7 + 1; i++) send(i);
  ring.receiveBlockSync(LIMIT);
  const names = Object.keys(libc).filter((name) => name !== "__errno_location");
  let calls = 0;
  const faults = names.map((name) => {
    const real = libc[name as "poll"];
    return replaceEntry(name as "poll", (...values) => {
      calls++;
      return real(...values);
    });
  });
  let frames = 28;
  try {
    for (let i = 0; i < 6; i++) {
      const block = ring.tryReceiveBlock();
      while (block?.next()) frames++;
    }
  } finally {
    for (const fault of faults.reverse()) fault[Symbol.dispose]();
  }
  expect([frames, calls]).toEqual([28 * 7, 0]);
});

/** One loop over a real ring, in a child: the engine's collector is the process's. */
function makeScript(walk: string): string {
  return `
    import { heapStats } from "bun:jsc";
    import { DatagramBatch, LinkAddress } from "bun-sockets";
    import { PacketRing, PacketSocket } from "bun-sockets/packet";
    const ring = PacketRing.open(${JSON.stringify(FAR)}, { checked: false, blockTimeoutMs: 1 });
    const sender = PacketSocket.open(${JSON.stringify(NEAR)}, { protocol: 0 });
    const batch = new DatagramBatch({ capacity: 512, slotBytes: 64 });
    const to = new LinkAddress({ interface: ${JSON.stringify(NEAR)}, protocol: 0x88b5 });
    for (let i = 0; i < 512; i++) {
      batch.setAddress(i, to);
      batch.setLength(i, 64);
      batch.memory.fill(255, batch.offset(i), batch.offset(i) + 6);
      batch.memory.set([0x88, 0xb5], batch.offset(i) + 12);
    }
    let touched = 0;
    const { bytes } = ring;
    function walk(block) {
      ${walk}
    }
    function run(frames) {
      let sent = 0, seen = 0;
      while (seen < frames) {
        if (sent - seen < 50_000) {
          batch.count = 512;
          sent += sender.trySendBatch(batch);
        }
        for (let block = ring.tryReceiveBlock(); block; block = ring.tryReceiveBlock()) {
          seen += block.count;
          for (let times = 0; times < 12; times++) {
            block.rewind();
            walk(block);
          }
        }
      }
    }
    const resident = () => process.memoryUsage.rss();
    const heap = () => {
      Bun.gc(true);
      const { heapSize, extraMemorySize } = heapStats();
      return heapSize + extraMemorySize;
    };
    const measure = process.env.BUN_JSC_useGC === "0" ? resident : heap;
    run(40_000);
    const before = measure();
    run(100_000);
    const after = measure();
    console.log(JSON.stringify({ bytes: (after - before) / 1_200_000, touched: touched > 0 }));
    ring.close();
  `;
}

const CURSOR = `
  while (block.next()) {
    const at = block.offset;
    touched += bytes[at] + bytes[at + block.length - 1] + block.originalLength + block.seconds;
    touched += block.nanoseconds + block.vlan + block.vlanProtocol + block.hash + block.protocol;
    touched += block.interfaceIndex + (block.checksum === "valid" ? 1 : 2) + block.networkOffset;
    if (block.packetType === "host") touched++;
  }`;
const VIEWS = "for (const packet of block) touched += packet.bytes[0];";

async function measure(walk: string, environment: Record<string, string>) {
  const child = Bun.spawn([process.execPath, "-e", makeScript(walk)], {
    cwd: `${import.meta.dir}/../..`,
    env: { ...process.env, BUN_SOCKETS_LEAKS: "", BUN_SOCKETS_DEBUG: "", ...environment },
    stderr: "inherit",
  });
  const output = await child.stdout.text();
  expect(await child.exited).toBe(0);
  return JSON.parse(output) as { bytes: number; touched: boolean };
}

describe("allocation", () => {
  namespaced(
    "walking 1,200,000 frames allocates nothing for each",
    async () => {
      const resident = await measure(CURSOR, { BUN_JSC_useGC: "0" });
      const heap = await measure(CURSOR, {});
      expect([resident.touched, heap.touched]).toEqual([true, true]);
      expect(resident.bytes).toBeLessThan(4);
      expect(heap.bytes).toBeLessThan(0.5);
      // The measure sees the views of the comfortable form.
      expect((await measure(VIEWS, { BUN_JSC_useGC: "0" })).bytes).toBeGreaterThan(16);
    },
    60_000,
  );
});
