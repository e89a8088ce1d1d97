/**
 * What comes over a link is written by us, tcpdump and dumpcap at once: the three files have the same
 * frames.
 *
 * @module
 */
import { afterAll, beforeAll, describe, expect } from "bun:test";
import { writeFileSync } from "node:fs";
import { UdpSocket } from "bun-sockets";
import { CaptureFile, type CaptureFormat, PacketRing, PacketSocket } from "bun-sockets/packet";
import { Folder, randomNumbers } from "../support/capture_bytes.ts";
import { ip, makeNamespace, type Namespace } from "../support/namespaces.ts";
import { requires, testIf } from "../support/require.ts";

const missing =
  process.env["BUN_SOCKETS_NAMESPACE"] === "1"
    ? requires("ip", "unshare", "nsenter", "tcpdump", "dumpcap", "tshark")
    : "needs a network namespace of its own";
const namespaced = testIf(missing);

const LINK = "bs-cap";
const PEER = "bs-cap-peer";
const FRAMES = 2000;
const TIMEOUT_MS = 60_000;
const WAIT = { timeoutMs: 10_000 };
/** For local experiments. */
const ETHERTYPE = 0x88b5;

let other: Namespace | undefined;
const folder = new Folder();

beforeAll(() => {
  if (missing !== undefined) return;
  other = makeNamespace();
  ip("link", "add", LINK, "type", "veth", "peer", "name", PEER, "netns", `${other.processId}`);
  // Else IPv6 says something by itself.
  writeFileSync(`/proc/sys/net/ipv6/conf/${LINK}/disable_ipv6`, "1");
  ip("link", "set", LINK, "up");
  other.ip("link", "set", PEER, "addrgenmode", "none", "up");
});

afterAll(() => {
  folder[Symbol.dispose]();
  if (missing !== undefined) return;
  ip("link", "del", LINK);
  other?.[Symbol.dispose]();
});

/** Frames of many lengths; every seventh has a VLAN tag, which the kernel takes out. */
function makeFrames(): Buffer[] {
  const random = randomNumbers(5);
  return Array.from({ length: FRAMES }, (_, i) => {
    const payload = Buffer.alloc(46 + Math.floor(random() * 1450), i);
    payload.writeUInt32BE(i);
    const tag = Buffer.from(i % 14 === 0 ? [0x88, 0xa8, 0x20, i & 255] : [0x81, 0, 0x60, i & 255]);
    return Buffer.concat([
      Buffer.alloc(6, 0xff),
      Buffer.from([2, 0, 0, 0, 0, 1]),
      i % 7 === 0 ? tag : Buffer.alloc(0),
      Buffer.from([ETHERTYPE >> 8, ETHERTYPE & 255]),
      payload,
    ]);
  });
}

/** Starts a program that captures, and waits until it does. */
async function capturing(command: string[], ready: string): Promise<Bun.Subprocess> {
  const child = Bun.spawn(command, { stdin: "ignore", stdout: "ignore", stderr: "pipe" });
  let said = "";
  const reader = child.stderr.getReader();
  for (let piece = await reader.read(); !piece.done; piece = await reader.read()) {
    said += Buffer.from(piece.value).toString();
    if (!said.includes(ready)) continue;
    // It is read on: a SIGPIPE ends tcpdump as SIGINT does.
    void drain(reader);
    return child;
  }
  throw new Error(`${command.join(" ")}: ${said}`);
}

async function drain(reader: { read(): Promise<{ done: boolean }> }): Promise<void> {
  while (!(await reader.read()).done);
}

describe("CaptureFile", () => {
  namespaced(
    "has the frames that tcpdump and dumpcap have of the same link, tags put back",
    async () => {
      const frames = makeFrames();
      const paths = {
        tcpdump: folder.file("tcpdump.pcap"),
        dumpcap: folder.file("dumpcap.pcapng"),
        pcapng: folder.file("ours.pcapng"),
        pcap: folder.file("ours.pcap"),
        packets: folder.file("packets.pcapng"),
      };
      const count = ["-c", `${FRAMES}`, "-w"];
      const nano = ["--time-stamp-precision=nano", "-Z", "root", "-s", "0"];
      const tcpdump = await capturing(
        ["tcpdump", "-i", LINK, ...nano, ...count, paths.tcpdump],
        "listening on",
      );
      const dumpcap = await capturing(
        ["dumpcap", "-i", LINK, "-f", `not port 9`, ...count, paths.dumpcap],
        "File: ",
      );
      const started = Math.floor(Date.now() / 1000);
      {
        using ring = PacketRing.open(LINK, { blocks: 8 });
        const writers = (["pcapng", "pcap"] as const).map((format: CaptureFormat) =>
          CaptureFile.create(paths[format], { format, interfaces: [ring] }),
        );
        using packets = CaptureFile.create(paths.packets, { interfaces: [ring] });
        using sender = other?.inside(() =>
          PacketSocket.open(PEER, { protocol: 0 }),
        ) as PacketSocket;
        for (const frame of frames) sender.sendSync(frame);
        for (let seen = 0; seen < FRAMES; ) {
          using block = ring.receiveBlockSync(WAIT);
          for (const packet of block) packets.write(packet);
          for (const writer of writers) {
            block.rewind();
            expect(writer.writeBlock(block)).toBe(block.count);
          }
          seen += block.count;
        }
        for (const writer of writers) writer.writeStatistics(ring.statistics());
        for (const writer of writers) writer.close();
      }
      expect([await tcpdump.exited, await dumpcap.exited]).toEqual([0, 0]);

      const expected = frames.map((frame) => frame.toString("hex"));
      const ended = Math.ceil(Date.now() / 1000);
      for (const [name, path] of Object.entries(paths)) {
        const reader = CaptureFile.open(path);
        const read = [...reader];
        expect(
          read.map(({ bytes }) => Buffer.from(bytes).toString("hex")),
          name,
        ).toEqual(expected);
        expect(read.every(({ bytes, originalLength }) => bytes.length === originalLength)).toBe(
          true,
        );
        const seconds = read.map((packet) => packet.seconds as number);
        expect(Math.min(...seconds)).toBeGreaterThanOrEqual(started);
        expect(Math.max(...seconds)).toBeLessThanOrEqual(ended);
        expect(read.some(({ nanoseconds = 0 }) => nanoseconds % 1000 > 0)).toBe(true);
        if (reader.format === "pcapng") expect(reader.interfaces[0]?.name).toBe(LINK);
      }
      const theirs = CaptureFile.open(paths.dumpcap);
      expect(theirs.sections[0]?.application).toStartWith("Dumpcap");
      expect([...theirs]).toHaveLength(FRAMES);
      expect(theirs.interfaces[0]).toMatchObject({ filter: "not port 9", resolution: 1e9 });
      expect(theirs.interfaces[0]?.statistics?.packets).toBeGreaterThanOrEqual(FRAMES);
      const ours = CaptureFile.open(paths.pcapng);
      expect([...ours]).toHaveLength(FRAMES);
      expect(ours.interfaces[0]?.statistics).toMatchObject({ packets: FRAMES, drops: 0 });
    },
    TIMEOUT_MS,
  );

  namespaced("names the interfaces of a ring that sees every one", async () => {
    const path = folder.file("every.pcapng");
    {
      using ring = PacketRing.open(undefined, { blocks: 4 });
      using file = CaptureFile.create(path);
      using sender = other?.inside(() => PacketSocket.open(PEER, { protocol: 0 })) as PacketSocket;
      using server = UdpSocket.bind("127.0.0.1:0");
      using client = UdpSocket.open("ipv4");
      const frame = Buffer.concat([
        Buffer.alloc(12, 0xff),
        Buffer.from([0x88, 0xb5]),
        Buffer.alloc(46),
      ]);
      sender.sendSync(frame);
      client.sendToSync("hello", server.localAddress);
      sender.sendSync(frame);
      while (file.packetCount < 4) {
        using block = ring.receiveBlockSync(WAIT);
        file.writeBlock(block);
      }
    }
    const reader = CaptureFile.open(path);
    // The loopback interface shows what it sends, and what it receives of that.
    const names = [...reader].map((packet) => reader.interfaces[packet.interface]?.name);
    expect(names).toEqual([LINK, "lo", "lo", LINK]);
    const { stdout } = Bun.spawnSync([
      "tshark",
      "-n",
      "-r",
      path,
      "-T",
      "fields",
      "-e",
      "frame.interface_name",
    ]);
    expect(stdout.toString().split("\n").slice(0, -1)).toEqual(names as string[]);
  });
});
