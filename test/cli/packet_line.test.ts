/** The lines of `bun-sockets dump`, from bytes alone. */
import { describe, expect, test } from "bun:test";
import {
  Icmpv6Header,
  Ipv4Header,
  Ipv6Header,
  LinkType,
  TcpHeader,
  UdpHeader,
} from "bun-sockets/packet";
import fc from "fast-check";
import { type FrameMetadata, FrameReader, type PacketFacts } from "../../cli/packet_facts.ts";
import { factsLine, TimeOfDay } from "../../cli/packet_line.ts";

const ETHERNET = "020000000002" + "020000000001";
const IPV4 = "0a510001" + "0a510002";
const IPV6 = "20010db8000000000000000000000001" + "20010db8000000000000000000000002";

const hex = (...parts: string[]) => Buffer.from(parts.join("").replaceAll(" ", ""), "hex");

function factsOf(
  bytes: Uint8Array,
  linkType: number = LinkType.ethernet,
  metadata: Partial<FrameMetadata> = {},
): PacketFacts {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const whole = { originalLength: bytes.length, ...metadata };
  return new FrameReader(linkType).of(view).read(0, bytes.length, whole);
}

function lineOf(...values: Parameters<typeof factsOf>): string {
  return factsLine(factsOf(...values));
}

/** A frame with an IPv4 header, whose checksums are right. */
function ipv4(protocol: string, payload: string, options = ""): Buffer {
  const bytes = hex(payload);
  const length = (20 + options.length / 2 + bytes.length).toString(16).padStart(4, "0");
  const first = (0x45 + options.length / 8).toString(16);
  const header = `${first}00 ${length} 1234 4000 40 ${protocol} 0000 ${IPV4} ${options}`;
  const frame = hex(ETHERNET, "0800", header, payload);
  const ip = new Ipv4Header(frame);
  expect(ip.at(14)).toBe(true);
  ip.fillChecksum();
  const transport = protocol === "11" ? new UdpHeader(frame) : new TcpHeader(frame);
  if (protocol !== "01" && transport.at(ip.payloadOffset, ip.payloadEnd))
    transport.fillChecksum(ip);
  return frame;
}

const DATAGRAM = "1000 0035 000d 0000 68656c6c6f";
const SEGMENT = "c000 0050 00000001 00000002 5012 ffff 0000 0000 6869";

describe("the line of a frame", () => {
  test("of UDP has addresses, ports, lengths and the checksum", () => {
    expect(lineOf(ipv4("11", DATAGRAM))).toBe(
      "10.81.0.1:4096 > 10.81.0.2:53 udp payload 5 length 47 checksum valid",
    );
    expect(lineOf(ipv4("11", DATAGRAM, "01010101"))).toContain(":53 udp payload 5 length 51");
  });

  test("of TCP has its flags and numbers, too", () => {
    expect(lineOf(ipv4("06", SEGMENT))).toBe(
      "10.81.0.1:49152 > 10.81.0.2:80 tcp [SYN ACK] seq 1 ack 2 win 65535 payload 2 length 56 checksum valid",
    );
    const flags = ["FIN", "SYN", "RST", "PSH", "ACK", "URG", "ECE", "CWR"];
    for (const [bit, flag] of flags.entries()) {
      const octet = (1 << bit).toString(16).padStart(2, "0");
      const frame = ipv4("06", SEGMENT.replace("5012", `50${octet}`));
      expect(factsOf(frame).flags).toEqual([flag]);
    }
  });

  test("tells a wrong checksum, an unfinished one, and one that the kernel has found right", () => {
    const frame = ipv4("11", DATAGRAM);
    frame[41] = (frame[41] as number) ^ 1;
    expect(lineOf(frame)).toEndWith(" checksum wrong");
    const { ethernet } = LinkType;
    expect(lineOf(frame, ethernet, { checksum: "unfinished" })).toEndWith(" checksum unfinished");
    expect(lineOf(frame, ethernet, { checksum: "valid" })).toEndWith(" checksum valid");
    expect(lineOf(frame, ethernet, { checksum: "unknown" })).toEndWith(" checksum wrong");
  });

  test("tells how long a frame was that was cut", () => {
    const frame = ipv4("11", DATAGRAM).subarray(0, 44);
    expect(lineOf(frame, LinkType.ethernet, { originalLength: 47 })).toBe(
      "10.81.0.1:4096 > 10.81.0.2:53 udp payload 2 length 47 captured 44 checksum unknown",
    );
  });

  test("of a later fragment has no ports", () => {
    const frame = ipv4("11", DATAGRAM);
    frame.writeUInt16BE(0x00b9, 20);
    expect(lineOf(frame)).toBe(
      "10.81.0.1 > 10.81.0.2 udp fragment at 1480 of 4660 payload 13 length 47",
    );
  });

  test("of ICMP says what it is about", () => {
    const says = (payload: string) => factsOf(ipv4("01", payload)).info;
    expect(says("0800 0000 0007 0001 61")).toBe("echo request id 7 seq 1");
    expect(says("0000 0000 0007 0002")).toBe("echo reply id 7 seq 2");
    expect(says("0303 0000 0000 0000")).toBe("unreachable code 3");
    expect(says("0b00 0000 0000 0000")).toBe("time exceeded");
    expect(says("2a00 0000 0000 0000")).toBe("type 42");
    expect(lineOf(ipv4("01", "0800 f7f7 0007 0001"))).toBe(
      "10.81.0.1 > 10.81.0.2 icmp echo request id 7 seq 1 payload 0 length 42 checksum valid",
    );
  });

  test("of IPv6 has addresses in brackets where there is a port, also behind other headers", () => {
    const frame = (next: string, length: string, payload: string) => {
      const bytes = hex(ETHERNET, "86dd", "60000000", length, next, "40", IPV6, payload);
      const ip = new Ipv6Header(bytes);
      expect(ip.at(14)).toBe(true);
      const transport =
        ip.transportProtocol === 17 ? new UdpHeader(bytes) : new Icmpv6Header(bytes);
      expect(transport.at(ip.transportOffset, ip.payloadEnd)).toBe(true);
      transport.fillChecksum(ip);
      return bytes;
    };
    const line = "[2001:db8::1]:4096 > [2001:db8::2]:53 udp payload 5 length N checksum valid";
    expect(lineOf(frame("11", "000d", DATAGRAM))).toBe(line.replace("N", "67"));
    const hopByHop = "11 00 0104 00000000";
    expect(lineOf(frame("00", "0015", hopByHop + DATAGRAM))).toBe(line.replace("N", "75"));
    expect(lineOf(frame("3a", "0009", "8000 0000 0007 0001 61"))).toBe(
      "2001:db8::1 > 2001:db8::2 icmp6 echo request id 7 seq 1 payload 1 length 63 checksum valid",
    );
    expect(factsOf(frame("3a", "0018", `8700 0000 00000000 ${IPV6.slice(0, 32)}`)).info).toBe(
      "neighbor solicitation",
    );
  });

  test("of ARP tells who asks, and who is where", () => {
    const frame = (operation: string) =>
      hex(
        `ffffffffffff ${ETHERNET.slice(12)} 0806 0001 0800 06 04 ${operation}`,
        `${ETHERNET.slice(12)} 0a510001 000000000000 0a510002`,
      );
    expect(lineOf(frame("0001"))).toBe("10.81.0.1 > 10.81.0.2 arp who is it? length 42");
    expect(lineOf(frame("0002"))).toBe(
      "10.81.0.1 > 10.81.0.2 arp it is at 02:00:00:00:00:01 length 42",
    );
  });

  test("has VLAN tags, those beside the frame and those in it", () => {
    const frame = ipv4("11", DATAGRAM);
    const { ethernet } = LinkType;
    expect(lineOf(frame, ethernet, { vlan: 0xa005 })).toContain(" length 47 vlan 5 checksum");
    const tagged = hex(ETHERNET, "8100 0064", frame.subarray(12).toString("hex"));
    expect(lineOf(tagged)).toContain(":53 udp payload 5 length 51 vlan 100 checksum valid");
    expect(lineOf(tagged, ethernet, { vlan: 5 })).toContain(" vlan 5.100 ");
  });

  test("knows the other link types", () => {
    const packet = ipv4("11", DATAGRAM).subarray(14).toString("hex");
    const line = "10.81.0.1:4096 > 10.81.0.2:53 udp payload 5 length N checksum valid";
    for (const [name, header] of [
      ["raw", ""],
      ["ipv4", ""],
      ["null", "02000000"],
      ["loop", "00000002"],
      ["linux_sll", "0000 0001 0006 020000000001 0000 0800"],
      ["linux_sll2", "0800 0000 00000002 0001 00 06 020000000001 0000"],
    ] as const) {
      const frame = hex(header, packet);
      expect(lineOf(frame, LinkType[name]), name).toBe(line.replace("N", `${frame.length}`));
    }
  });

  test("of what nobody here understands says its number", () => {
    expect(lineOf(hex(ETHERNET, "88cc", "00"))).toBe(
      "02:00:00:00:00:01 > 02:00:00:00:00:02 0x88cc payload 1 length 15",
    );
    expect(lineOf(hex(ETHERNET, "0026", "424203"))).toContain(" 802.3 payload 3 ");
    expect(lineOf(ipv4("2f", "00000800"))).toBe("10.81.0.1 > 10.81.0.2 ip 47 payload 4 length 38");
    expect(lineOf(hex("00"), 147)).toBe("link type 147 length 1");
    expect(lineOf(hex("00"))).toBe("unknown length 1");
    expect(lineOf(hex(""))).toBe("unknown length 0");
  });

  test("is one line of printable characters, whatever the bytes say", () => {
    const linkTypes = fc.constantFrom(...Object.values(LinkType), 65535);
    const starts = [
      "",
      `${ETHERNET}0800`,
      `${ETHERNET}86dd60`,
      `${ETHERNET}0806`,
      `${ETHERNET}8100`,
    ];
    const start = fc.constantFrom(...starts.map((text) => hex(text)));
    const rest = fc.uint8Array({ maxLength: 120 });
    fc.assert(
      fc.property(linkTypes, start, rest, (linkType, first, last) => {
        const facts = factsOf(Buffer.concat([first, last]), linkType);
        expect(factsLine(facts)).toMatch(/^[ -~]+$/);
        expect(facts.payloadLength ?? 0).toBeGreaterThanOrEqual(0);
        expect(facts.payloadLength ?? 0).toBeLessThanOrEqual(first.length + last.length);
      }),
      { numRuns: 5000 },
    );
  });
});

describe("the time of a line", () => {
  test("is the time of day to the nanosecond, as it is where the program runs", () => {
    const time = new TimeOfDay();
    const date = new Date(2026, 0, 2, 3, 4, 5);
    const seconds = date.getTime() / 1000;
    expect(time.text(seconds, 6)).toBe("03:04:05.000000006");
    expect(time.text(seconds, 999_999_999)).toBe("03:04:05.999999999");
    expect(time.text(seconds + 55, 0)).toBe("03:05:00.000000000");
  });
});
