/** Filters on packet sockets and rings: what the kernel lets through, and what runFilter() says of it. */
import { afterAll, beforeAll, expect, setDefaultTimeout } from "bun:test";
import { readFileSync } from "node:fs";
import { type FilterProgram, UdpSocket } from "bun-sockets";
import {
  assembleFilter,
  compileFilter,
  type FilterMetadata,
  PacketRing,
  PacketSocket,
  runFilter,
} from "bun-sockets/packet";
import { ETH_P_802_EX1, ETH_P_8021Q, ETH_P_ARP } from "bun-sockets/sys";
import fc from "fast-check";
import { layCable } from "../support/cable.ts";
import { replaceLibc } from "../support/faults.ts";
import { ip } from "../support/namespaces.ts";
import { requires, testIf } from "../support/require.ts";
import { firstLine } from "../support/strangers.ts";
import { programs } from "../unit/filter_programs.ts";

// On a busy machine what comes takes its time.
setDefaultTimeout(60_000);

const NEAR = "bs-f0";
const FAR = "bs-f1";
const NEAR_MAC = [2, 0, 0, 0, 0, 0x0a];
const FAR_MAC = [2, 0, 0, 0, 0, 0x0b];
const LIMIT = { timeoutMs: 5000 };
const mac = (bytes: readonly number[]) =>
  bytes.map((byte) => byte.toString(16).padStart(2, "0")).join(":");

const missing =
  process.env["BUN_SOCKETS_NAMESPACE"] === "1"
    ? requires("ip", "tcpdump")
    : "needs a network namespace of its own";
const namespaced = testIf(missing);

beforeAll(() => {
  if (missing !== undefined) return;
  layCable(NEAR, FAR, mac(NEAR_MAC), mac(FAR_MAC));
});

afterAll(() => {
  if (missing === undefined) ip("link", "del", NEAR);
});

/** An Ethernet frame, with the tags of these VLANs one behind the other. */
function frame(
  payload: readonly number[],
  protocol: number = ETH_P_802_EX1,
  tags: readonly number[] = [],
): Uint8Array {
  const words = [...tags.flatMap((tag) => [ETH_P_8021Q, tag]), protocol];
  const bytes = [...FAR_MAC, ...NEAR_MAC, ...words.flatMap((word) => [word >> 8, word & 0xff])];
  bytes.push(...payload);
  while (bytes.length < 64) bytes.push(0);
  return new Uint8Array(bytes);
}

const END = 255;

/** The numbers of the frames that come, until that of the last one. */
function heard(socket: PacketSocket): number[] {
  const target = new Uint8Array(2048);
  const numbers: number[] = [];
  while (numbers.at(-1) !== END)
    numbers.push(numberOf(target, 0, socket.receiveSync(target, LIMIT)));
  return numbers;
}

/** It stands at the end of each frame: where the payload begins depends on the tags in front of it. */
function numberOf(bytes: Uint8Array, offset: number, length: number): number {
  return bytes[offset + length - 1] as number;
}

/** Sends frames without a tag, of VLAN 5 (with a priority) and 6, and of 7 in 5; then one of ARP. */
function sendTagged(last: readonly number[]): void {
  using sender = PacketSocket.open(NEAR, { protocol: 0 });
  const kinds: readonly (readonly number[])[] = [[], [0xe005], [6], [5, 7]];
  for (const [number, tags] of kinds.entries())
    sender.sendSync(frame([...new Array(50).fill(0), number], ETH_P_802_EX1, tags));
  sender.sendSync(frame([...new Array(50).fill(0), END], ETH_P_ARP, last));
}

namespaced("the vlan option finds the tag that the kernel takes out, on a packet socket", () => {
  const cases: readonly [vlan: number | true | undefined, text: string, numbers: number[]][] = [
    [undefined, "", [0, 1, 2, 3, END]],
    [5, "", [1, 3, END]],
    [6, "", [2, END]],
    [true, "", [1, 2, 3, END]],
    [5, "not ether proto 0x8100", [1, END]],
    // The inner tag is in the bytes: there libpcap's own vlan finds it.
    [5, "arp or vlan 7", [3, END]],
    [7, "", [END]],
  ];
  for (const [vlan, text, numbers] of cases) {
    using socket = PacketSocket.open(FAR, { filter: compileFilter(text, { vlan }) });
    sendTagged(vlan === undefined ? [] : [vlan === true ? 99 : vlan]);
    expect([vlan, text, heard(socket)]).toEqual([vlan, text, numbers]);
  }
});

namespaced("the vlan option works on a ring, and runFilter() says the same of its frames", () => {
  const program = compileFilter("", { vlan: 5 });
  using all = PacketRing.open(FAR, { blocks: 2, blockTimeoutMs: 1 });
  using ring = PacketRing.open(FAR, { filter: program, blocks: 2, blockTimeoutMs: 1 });
  sendTagged([5]);
  const through: number[] = [];
  const said: number[] = [];
  let seen = 0;
  while (said.at(-1) !== END) {
    const block = all.receiveBlockSync(LIMIT);
    while (block.next()) {
      seen++;
      if (runFilter(program, block.bytes, block) === 0) continue;
      said.push(numberOf(block.bytes, block.offset, block.length));
    }
  }
  while (through.at(-1) !== END) {
    const block = ring.receiveBlockSync(LIMIT);
    while (block.next()) through.push(numberOf(block.bytes, block.offset, block.length));
  }
  expect([seen, through]).toEqual([5, [1, 3, END]]);
  expect(said).toEqual(through);
});

namespaced(
  "libpcap's own vlan never matches there, so the text of a live filter is refused",
  () => {
    using asProgram = PacketSocket.open(FAR, { filter: compileFilter("arp or vlan") });
    sendTagged([]);
    // Only the inner tag of two.
    expect(heard(asProgram)).toEqual([3, END]);
    const filter = "vlan 5 and ip";
    for (const open of [
      () => PacketSocket.open(FAR, { filter }),
      () => PacketRing.open(FAR, { filter }),
    ])
      expect(open).toThrow(
        expect.objectContaining({ name: "FilterError", hint: expect.stringContaining("vlan: 5") }),
      );
  },
);

namespaced("attachedFilter() of packet and other sockets gives what was attached", () => {
  const program = compileFilter("udp port 53 or arp", { vlan: 5 });
  using packets = PacketSocket.open(FAR, { filter: program });
  expect(`${packets.attachedFilter()}`).toBe(`${program}`);
  using byText = PacketSocket.open(FAR, { filter: "tcp port 80" });
  expect(`${byText.attachedFilter()}`).toBe(`${compileFilter("tcp port 80")}`);
  expect(byText.detachFilter()).toBe(true);
  expect(byText.attachedFilter()).toBeUndefined();
  using udp = UdpSocket.open("ipv4");
  expect(udp.attachedFilter()).toBeUndefined();
  const longest = assembleFilter(`${"ld [0]\n".repeat(1000)}ret #1`);
  udp.attachFilter(longest);
  expect(`${udp.attachedFilter()}`).toBe(`${longest}`);
});

namespaced(
  'a text filters a cooked socket, for which "inbound" and protocols are beside the bytes',
  () => {
    using cooked = PacketSocket.open(FAR, {
      mode: "cooked",
      filter: "inbound and (arp or udp port 53)",
    });
    using sender = PacketSocket.open(NEAR, { protocol: 0 });
    using other = PacketSocket.open(FAR, { protocol: 0 });
    const udp = (port: number, number: number) => [
      0x45,
      0,
      0,
      32,
      0,
      0,
      0,
      0,
      64,
      17,
      0,
      0,
      10,
      0,
      0,
      1,
      10,
      0,
      0,
      2,
      9,
      9,
      0,
      port,
      0,
      12,
      0,
      0,
      number,
    ];
    sender.sendSync(frame(udp(53, 1), 0x0800));
    sender.sendSync(frame(udp(54, 2), 0x0800));
    sender.sendSync(frame(udp(53, 3), 0x86dd));
    other.sendSync(frame([4], 0x0806));
    sender.sendSync(frame([END], 0x0806));
    const target = new Uint8Array(2048);
    const first = cooked.receiveSync(target, LIMIT);
    expect([first, target[28]]).toEqual([50, 1]);
    cooked.receiveSync(target, LIMIT);
    expect(target[0]).toBe(END);
    expect(cooked.tryReceive(target)).toBeUndefined();
  },
);

namespaced("the kernel lets through what runFilter() says, of random programs on a device", () => {
  const index = PacketSocket.open(FAR);
  const { interfaceIndex } = index;
  index.close();
  using sender = PacketSocket.open(NEAR, { protocol: 0 });
  // The kernel gives a frame to the youngest socket first: what has come here has come to all.
  using all = PacketSocket.open(FAR);
  using filtered = PacketSocket.open(FAR);
  const metadata: FilterMetadata = { interfaceIndex, protocol: ETH_P_802_EX1 };
  const target = new Uint8Array(256);
  const counts = { all: 0, cut: 0, none: 0 };
  const check = (program: FilterProgram, payloads: readonly Uint8Array[]) => {
    filtered.attachFilter(program);
    for (const payload of payloads) {
      const bytes = frame([...payload]);
      sender.sendSync(bytes);
      all.receiveSync(target, LIMIT);
    }
    // A frame that every filter lets through tells that all before it have come.
    filtered.attachFilter(assembleFilter("ret #-1"));
    const end = frame([1, 2, 3, 4]);
    sender.sendSync(end);
    all.receiveSync(target, LIMIT);
    const expected = payloads.flatMap((payload) => {
      const bytes = frame([...payload]);
      const accepted = Math.min(runFilter(program, bytes, metadata), bytes.length);
      counts[accepted === 0 ? "none" : accepted < bytes.length ? "cut" : "all"]++;
      return accepted === 0 ? [] : [accepted];
    });
    const lengths: number[] = [];
    for (let i = 0; i <= expected.length; i++) lengths.push(filtered.receiveSync(target, LIMIT));
    expect(lengths).toEqual([...expected, end.length]);
    expect(filtered.tryReceive(target)).toBeUndefined();
  };
  const payload = fc.uint8Array({ maxLength: 60, size: "max" });
  fc.assert(fc.property(programs(), fc.array(payload, { minLength: 1, maxLength: 4 }), check), {
    numRuns: 600,
  });
  expect(Math.min(counts.all, counts.cut, counts.none)).toBeGreaterThan(50);
  // What only a device has.
  for (const name of ["ifidx", "hatype", "type", "proto", "vlan_avail", "queue"]) {
    for (let shift = 0; shift < 16; shift += 4)
      check(assembleFilter(`ld #${name}\nrsh #${shift}\nand #15\nadd #20\nret`), [
        new Uint8Array(9),
      ]);
  }
});

// Sends frames that no filter below lets through, until it is ended.
const FLOOD = `
import socket, sys
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
s.bind((sys.argv[1], 0))
frame = bytes.fromhex("02000000000b02000000000a88b5") + b"x" * 46
print("sending", flush=True)
while True:
    s.send(frame)
`;

/** How many frames have come to an end of the cable. */
function framesReceived(): number {
  const [, counts = ""] =
    new RegExp(`${FAR}:(.*)`).exec(readFileSync("/proc/net/dev", "utf8")) ?? [];
  return Number(counts.trim().split(/\s+/)[1]);
}

function waitForFrames(count: number): void {
  const end = framesReceived() + count;
  const deadline = performance.now() + LIMIT.timeoutMs;
  while (framesReceived() < end)
    if (performance.now() > deadline) throw new Error("No frames come");
}

testIf(missing ?? requires("python3"))(
  "nothing unfiltered gets through while frames pour in: open, and attachFilter()",
  async () => {
    const child = Bun.spawn(["python3", "-c", FLOOD, NEAR], { stdout: "pipe" });
    const program = compileFilter("arp");
    const target = new Uint8Array(2048);
    const isEmpty = (socket: PacketSocket) => {
      waitForFrames(10);
      return socket.tryReceive(target) === undefined;
    };
    try {
      await firstLine(child.stdout);
      {
        // Frames come between each two steps of opening.
        using slow = replaceLibc("bind", (bind) => (...values) => {
          const result = bind(...values);
          waitForFrames(10);
          return result;
        });
        using opened = PacketSocket.open(FAR, { filter: program });
        expect(slow.calls).toBeGreaterThan(0);
        expect(opened.tryReceive(target)).toBeUndefined();
      }
      let leaks = 0;
      for (let i = 0; i < 20; i++) {
        using opened = PacketSocket.open(FAR, { filter: program });
        expect(isEmpty(opened)).toBe(true);
        using drained = PacketSocket.open(FAR);
        waitForFrames(10);
        drained.attachFilter(program, { drains: true });
        expect(isEmpty(drained)).toBe(true);
        // Without draining some are there: so the test could tell.
        using careless = PacketSocket.open(FAR);
        waitForFrames(10);
        careless.attachFilter(program);
        if (!isEmpty(careless)) leaks++;
      }
      expect(leaks).toBeGreaterThan(0);
    } finally {
      child.kill();
      await child.exited;
    }
  },
);
