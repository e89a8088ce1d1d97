/**
 * Header views allocate nothing per frame, neither to move, nor to read, nor to write: measured in
 * children without garbage collection, whose resident memory grows by every object that is made. A
 * control shows that one object and one string per frame are seen.
 */
import { expect, test } from "bun:test";
import { join } from "node:path";

const FRAMES = 500_000;
const RESIDENT_BYTES_MAX = 4;
const ENTRY = join(import.meta.dir, "../../lib/packet/index.ts");

const SETUP = `
  import { Ipv6ExtensionHeader, PacketView } from ${JSON.stringify(ENTRY)};
  const hex = [
    "020000000001020000000002" + "0800" + "4500001e000000004011f6cdc0000201c0000202" + "0035c000000a00006869",
    "020000000001020000000002" + "81000064" + "0800" + "46000030000000004006f6cdc0000201c000020294040000" +
      "c0000050000000010000000070020000000000000204ffff01030307",
    "020000000001020000000002" + "86dd" + "6000000000100040" + "20010db8000000000000000000000001".repeat(2) +
      "3a00010400000000" + "8000000012340001",
    "020000000001020000000002" + "0806" + "0001080006040001020000000002c0000202000000000000c0000201",
    "020000000001020000000002" + "86dd" + "60000000001c0640" + "20010db8000000000000000000000001".repeat(2) +
      "c000005000000001000000007002000000000000020405b401030307",
  ];
  const frames = hex.map((text) => Buffer.from(text, "hex"));
  const memory = Buffer.alloc(frames.length * 256);
  for (const [i, frame] of frames.entries()) frame.copy(memory, i * 256);
  const lengths = frames.map((frame) => frame.length);
  const packet = new PacketView(memory);
  const extension = new Ipv6ExtensionHeader(packet.memory);
  const address = new Uint8Array(16);
  let touched = 0;
`;

const loops = {
  read: `
    const { ethernet, vlan, arp, ipv4, ipv6, ip, udp, tcp, icmpv6 } = packet;
    touched += ethernet.sourceValue + ethernet.etherType + (vlan ? vlan.id : 0);
    if (arp) touched += arp.senderHardwareValue + arp.targetProtocolValue;
    if (ipv4) {
      touched += ipv4.sourceValue + ipv4.ttl + (ipv4.checksumIsValid ? 1 : 0);
      for (const options = ipv4.options; options.next(); ) touched += options.kind + options.uint16(0);
    }
    if (ipv6) {
      ipv6.copySource(address);
      touched += ipv6.sourceWord(3) + (ipv6.destinationEquals(address) ? 1 : 0);
      for (let more = extension.first(ipv6); more; more = extension.next())
        for (const options = extension.options; options.next(); ) touched += options.kind;
    }
    if (udp) touched += udp.sourcePort + udp.checksumStatus(ip).length;
    if (tcp) touched += tcp.sequence + tcp.maximumSegmentBytes + tcp.windowScale + tcp.checksumStatus(ip).length;
    if (icmpv6) touched += icmpv6.sequence + icmpv6.checksumStatus(ip).length;
    touched += packet.payloadOffset + packet.payloadEnd;`,
  write: `
    const { ethernet, arp, ipv4, ipv6, ip, udp, tcp, icmpv6 } = packet;
    ethernet.sourceValue = ethernet.destinationValue + (i & 1);
    if (arp) arp.senderProtocolValue = 0xc0000000 + i;
    if (ipv4) {
      ipv4.ttl = 64;
      ipv4.decrementTtl();
      ipv4.rewriteSource(0xc0000000 + i, udp ?? tcp);
      ipv4.fillChecksum();
    }
    if (ipv6) {
      ipv6.hopLimit = i & 255;
      ipv6.flowLabel = i & 0xfffff;
      ipv6.setSource(address);
      if (tcp ?? icmpv6) ipv6.rewriteDestination(address, 0, tcp ?? icmpv6);
    }
    if (udp) {
      udp.rewriteSourcePort(i & 0xffff);
      udp.fillChecksum(ip);
    }
    if (tcp) {
      tcp.rewriteMaximumSegmentBytes(1000 + (i & 255));
      tcp.ack = (i & 1) === 1;
      tcp.fillChecksum(ip);
    }
    if (icmpv6) icmpv6.fillChecksum(ip);
    touched += i;`,
  "read, with an object and a text for each": `
    const frame = { source: packet.ethernet.source, at: i };
    touched += frame.source.length + frame.at;`,
};

/** How many bytes resident memory grows by for each frame. */
function residentBytes(body: string): number {
  const program = `${SETUP}
    function run(count) {
      for (let i = 0; i < count; i++) {
        const which = i % frames.length;
        if (!packet.at(which * 256, which * 256 + lengths[which])) throw new Error("it does not fit");
        ${body}
      }
    }
    // Compiled code is memory too, and some is let go of: the middle of some rounds is without.
    const growth = [];
    for (let round = 0; round < 7; round++) {
      const before = process.memoryUsage.rss();
      run(${FRAMES});
      growth.push((process.memoryUsage.rss() - before) / ${FRAMES});
    }
    console.log(growth.sort((a, b) => a - b)[3], touched > 0);`;
  const { stdout, stderr, exitCode } = Bun.spawnSync([process.execPath, "-e", program], {
    env: { ...process.env, BUN_JSC_useGC: "0" },
  });
  expect(exitCode, stderr.toString()).toBe(0);
  return Number(stdout.toString().split(" ")[0]);
}

test.each(["read", "write"] as const)(
  "header views allocate nothing to %s a frame",
  (name) => {
    expect(residentBytes(loops[name])).toBeLessThan(RESIDENT_BYTES_MAX);
  },
  60_000,
);

test("an object and a text for each frame are seen", () => {
  const bytes = residentBytes(loops["read, with an object and a text for each"]);
  expect(bytes).toBeGreaterThan(40);
}, 60_000);
