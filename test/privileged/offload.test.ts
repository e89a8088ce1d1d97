/**
 * Segmentation offload over a link to another network namespace, with an MTU of 1500, and with what
 * the devices do for it switched off.
 */

import { afterAll, beforeAll, describe, expect } from "bun:test";
import { closeSync, openSync } from "node:fs";
import { DatagramBatch, type InetAddress, IpOption, UdpOption, UdpSocket } from "bun-sockets";
import { CLONE_NEWNET } from "bun-sockets/sys";
import { setns } from "../../lib/sys/sched.ts";
import { systemErrorOf } from "../support/errors.ts";
import { requires, testIf } from "../support/require.ts";

const LINK = "bs-gso";
const WAIT = { timeoutMs: 5000 };
const ROOMY = { receiveBufferBytes: 8 << 20, sendBufferBytes: 8 << 20 };

const missing =
  process.env["BUN_SOCKETS_NAMESPACE"] === "1"
    ? requires("ip", "unshare", "nsenter", "python3")
    : "needs a network namespace of its own";
const namespaced = testIf(missing);

let other: Bun.Subprocess<"ignore", "pipe"> | undefined;

function run(...command: string[]): void {
  const { success, stderr } = Bun.spawnSync(command);
  if (!success) throw new Error(`${command.join(" ")}: ${stderr.toString()}`);
}

const inOther = (...command: string[]) => run("nsenter", "-t", `${other?.pid}`, "-n", ...command);

beforeAll(async () => {
  if (missing !== undefined) return;
  const script = "echo ready; exec sleep 60";
  other = Bun.spawn(["unshare", "-n", "sh", "-c", script], { stdin: "ignore", stdout: "pipe" });
  await other.stdout.getReader().read();
  run("ip", "link", "add", LINK, "mtu", "1500", "type", "veth", "peer", "name", `${LINK}-peer`);
  run("ip", "link", "set", `${LINK}-peer`, "mtu", "1500", "netns", `${other.pid}`);
  run("ip", "addr", "add", "192.0.2.1/24", "dev", LINK);
  run("ip", "addr", "add", "2001:db8::1/64", "dev", LINK, "nodad");
  run("ip", "link", "set", LINK, "up");
  inOther("ip", "addr", "add", "192.0.2.2/24", "dev", `${LINK}-peer`);
  inOther("ip", "addr", "add", "2001:db8::2/64", "dev", `${LINK}-peer`, "nodad");
  inOther("ip", "link", "set", `${LINK}-peer`, "up");
});

afterAll(() => {
  if (missing !== undefined) return;
  run("ip", "link", "del", LINK);
  other?.kill();
});

/** Opens a socket in the other namespace: it stays there, and this thread does not. */
function bindThere(address: string): UdpSocket {
  const own = openSync("/proc/thread-self/ns/net", "r");
  const theirs = openSync(`/proc/${other?.pid}/ns/net`, "r");
  try {
    expect(setns(theirs, CLONE_NEWNET)).toBe(0);
    return UdpSocket.bind(address, ROOMY);
  } finally {
    expect(setns(own, CLONE_NEWNET)).toBe(0);
    closeSync(own);
    closeSync(theirs);
  }
}

// The ioctl of ethtool(8): struct ifreq, whose pointer goes to a command and its value.
const ETHTOOL = `
import array, fcntl, socket, struct, sys
SIOCETHTOOL = 0x8946
commands = dict(sg=0x19, tso=0x1f, gso=0x24, gro=0x2c, txcsum=0x17)
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for word in sys.argv[2:]:
    name, value = word.split("=")
    data = array.array("B", struct.pack("II", commands[name], int(value)))
    fcntl.ioctl(udp, SIOCETHTOOL, struct.pack("16sP", sys.argv[1].encode(), data.buffer_info()[0]))
`;

const ethtool = (...values: string[]) => run("python3", "-c", ETHTOOL, LINK, ...values);

function bytesOf(length: number): Buffer {
  return Buffer.from(Uint8Array.from({ length }, (_, i) => i * 131 + (i >> 8) * 17));
}

/** Receives so many bytes; returns the lengths of the datagrams, and the bytes. */
function receive(socket: UdpSocket, bytes: number): { lengths: number[]; all: Buffer } {
  const datagrams: Uint8Array[] = [];
  for (let left = bytes; left > 0; ) {
    const datagram = socket.receiveBytesSync(65_536, WAIT);
    datagrams.push(datagram);
    left -= datagram.length;
  }
  return { lengths: datagrams.map(({ length }) => length), all: Buffer.concat(datagrams) };
}

function cut(length: number, segmentBytes: number): number[] {
  const lengths = Array<number>(Math.ceil(length / segmentBytes)).fill(segmentBytes);
  lengths[lengths.length - 1] = length - (lengths.length - 1) * segmentBytes;
  return lengths;
}

describe.each([
  ["ipv4", "192.0.2.2:0", 1472],
  ["ipv6", "[2001:db8::2]:0", 1452],
] as const)("over a link with an MTU of 1500 (%s)", (family, address, longest) => {
  namespaced(`the longest segments that it carries are trains (${family})`, () => {
    using receiver = bindThere(address);
    using sender = UdpSocket.open(family, ROOMY);
    const payload = bytesOf(200_000);
    const options = { segmentBytes: longest, to: receiver.localAddress };
    expect(sender.sendSegmentsSync(payload, options)).toBe(payload.length);
    const { lengths, all } = receive(receiver, payload.length);
    expect(lengths).toEqual(cut(payload.length, longest));
    expect(all.equals(payload)).toBe(true);
    expect([sender.offload.fallbacks, sender.offload.lastReason]).toEqual([0, undefined]);
    expect(sender.offload.segments).toBe(lengths.length);
  });

  namespaced(`longer ones go out in fragments, one by one (${family})`, () => {
    using receiver = bindThere(address);
    using sender = UdpSocket.open(family, ROOMY);
    const payload = bytesOf(60_000);
    const to = receiver.localAddress;
    const segmentBytes = longest + 1;
    expect(sender.trySendSegments(payload, { segmentBytes, to })).toBe(payload.length);
    using batch = new DatagramBatch({ slotBytes: 65_536 });
    batch.count = 2;
    for (const [i, bytes] of [payload, payload.subarray(0, 9)].entries()) {
      batch.write(i, bytes);
      batch.setAddress(i, to);
      batch.setSegmentBytes(i, segmentBytes);
    }
    expect(sender.sendBatchSync(batch)).toBe(2);
    const { lengths, all } = receive(receiver, 2 * payload.length + 9);
    const once = cut(payload.length, segmentBytes);
    expect(lengths).toEqual([...once, ...once, 9]);
    expect(all.equals(Buffer.concat([payload, payload, payload.subarray(0, 9)]))).toBe(true);
    const { trains, fallbacks, lastReason, refusedDestinations } = sender.offload;
    expect([trains, fallbacks]).toEqual([0, 2]);
    // EINVAL on older kernels.
    expect(["EMSGSIZE", "EINVAL"]).toContain(lastReason?.code as string);
    expect(refusedDestinations).toMatchObject([{ segmentBytes }]);
    expect(`${refusedDestinations[0]?.destination}`).toBe(`${to}`);
    // What the link carries goes there as trains still.
    sender.sendSegmentsSync(payload, { segmentBytes: longest, to });
    expect(sender.offload.trains).toBe(1);
  });

  namespaced(`whoever takes trains gets them whole (${family})`, () => {
    using receiver = bindThere(address);
    receiver.setOption(UdpOption.gro, true);
    using sender = UdpSocket.open(family, ROOMY);
    const payload = bytesOf(60_000);
    sender.sendSegmentsSync(payload, { segmentBytes: 1200, to: receiver.localAddress });
    using batch = new DatagramBatch({ slotBytes: 65_536 });
    const lengths: number[] = [];
    const parts: Buffer[] = [];
    let calls = 0;
    for (let left = payload.length; left > 0; calls++) {
      receiver.receiveBatchSync(batch, WAIT);
      for (let i = 0; i < batch.count; i++) {
        expect(batch.segmentBytes(i)).toBe(1200);
        for (let at = 0; at < batch.length(i); at += 1200) lengths.push(1200);
        parts.push(Buffer.from(batch.view(i)));
        left -= batch.length(i);
      }
    }
    expect(lengths).toEqual(cut(60_000, 1200));
    expect(Buffer.concat(parts).equals(payload)).toBe(true);
    expect(calls).toBeLessThan(50);
  });
});

namespaced("segments that must not be fragmented, and are too long, are refused", () => {
  using receiver = bindThere("192.0.2.2:0");
  using sender = UdpSocket.open("ipv4");
  sender.setOption(IpOption.mtuDiscover, "do");
  const to: InetAddress = receiver.localAddress;
  const send = (segmentBytes: number) =>
    sender.trySendSegments(bytesOf(6000), { segmentBytes, to });
  const error = systemErrorOf(() => send(1473));
  expect(error).toMatchObject({ code: "EMSGSIZE", destination: `${to}` });
  expect(error.transferred).toBeUndefined();
  // It is not the train that was refused.
  expect([sender.offload.fallbacks, sender.offload.refusedDestinations]).toEqual([0, []]);
  expect(send(1472)).toBe(6000);
  expect(receive(receiver, 6000).lengths).toEqual(cut(6000, 1472));
});

namespaced("everything arrives when the device does nothing for it", () => {
  using receiver = bindThere("192.0.2.2:0");
  const to = receiver.localAddress;
  const off = ["tso=0", "gso=0", "sg=0", "txcsum=0"];
  try {
    ethtool(...off);
    run("ip", "link", "set", LINK, "gso_max_segs", "1", "gso_max_size", "1500");
    using sender = UdpSocket.open("ipv4", ROOMY);
    const payload = bytesOf(100_000);
    expect(sender.sendSegmentsSync(payload, { segmentBytes: 1200, to })).toBe(payload.length);
    const { lengths, all } = receive(receiver, payload.length);
    expect(lengths).toEqual(cut(payload.length, 1200));
    expect(all.equals(payload)).toBe(true);
    // The kernel does it itself, then; an older one says EIO.
    const { trains, fallbacks, lastReason } = sender.offload;
    expect(trains === 0 ? [fallbacks, lastReason?.code] : [trains]).toEqual(
      trains === 0 ? [2, "EIO"] : [2],
    );
  } finally {
    ethtool("txcsum=1", "sg=1", "gso=1", "tso=1");
    run("ip", "link", "set", LINK, "gso_max_segs", "65535", "gso_max_size", "65536");
  }
});
