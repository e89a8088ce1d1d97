import { describe, expect, test } from "bun:test";
import { inspect } from "node:util";
import {
  type Address,
  addressFrom,
  addressFromBytes,
  compareAddresses,
  LinkAddress,
  type LinkAddressParts,
  type PacketType,
  parseAddress,
  RawAddress,
} from "bun-sockets";
import {
  AF_PACKET,
  ARPHRD_ETHER,
  ETH_P_ARP,
  ETH_P_IP,
  PACKET_BROADCAST,
  PACKET_HOST,
  PACKET_KERNEL,
  PACKET_LOOPBACK,
  PACKET_MULTICAST,
  PACKET_OTHERHOST,
  PACKET_OUTGOING,
  PACKET_USER,
} from "bun-sockets/sys";
import fc from "fast-check";
import { sockaddr_ll } from "../../structs/sockaddr_ll.ts";
import { caught } from "../support/errors.ts";

const MAC = "02:00:00:00:00:01";
const NO_INTERFACE = "nosuchif0";

/** Any address whose interface is an index, as the kernel tells them. */
const told = fc
  .record({
    interface: fc.oneof(fc.constantFrom(-1, 0, 1, 2 ** 31 - 1), fc.nat(99)),
    protocol: fc.constantFrom(0, 3, ETH_P_IP, ETH_P_ARP, 0xffff),
    hardwareAddress: fc.option(fc.uint8Array({ minLength: 0, maxLength: 32 }), { nil: undefined }),
    hardwareType: fc.constantFrom(0, ARPHRD_ETHER, 0xffff),
    packetType: fc.nat(255),
  })
  .map((parts) => new LinkAddress(parts));

function field(address: LinkAddress, name: "sll_protocol" | "sll_ifindex" | "sll_pkttype"): number {
  return sockaddr_ll[name].get(new DataView(address.bytes.buffer), 0);
}

describe("LinkAddress", () => {
  test("has the parts it was made of", () => {
    const address = new LinkAddress({
      interface: "eth0",
      protocol: ETH_P_IP,
      hardwareAddress: "02:00:00:00:00:AB",
      hardwareType: ARPHRD_ETHER,
      packetType: "outgoing",
    });
    expect(address.family).toBe("link");
    expect(address.interface).toBe("eth0");
    expect(address.protocol).toBe(ETH_P_IP);
    expect(address.hardwareAddress).toBe("02:00:00:00:00:ab");
    expect([...address.hardwareBytes]).toEqual([2, 0, 0, 0, 0, 0xab]);
    expect(address.hardwareType).toBe(ARPHRD_ETHER);
    expect(address.packetType).toBe("outgoing");
    expect(Object.isFrozen(address)).toBe(true);
  });

  test("of an interface alone has no protocol and no hardware address", () => {
    const address = new LinkAddress({ interface: 3 });
    expect(address.interface).toBe(3);
    expect(address.interfaceIndex).toBe(3);
    expect(address.protocol).toBe(0);
    expect(address.hardwareAddress).toBeUndefined();
    expect(address.hardwareBytes).toHaveLength(0);
    expect(address.packetType).toBe("host");
  });

  test("has the bytes of a sockaddr_ll, the protocol in network byte order", () => {
    const address = new LinkAddress({
      interface: 0x01020304,
      protocol: 0x0806,
      hardwareAddress: MAC,
      hardwareType: 0x0a0b,
      packetType: "otherHost",
    });
    const expected = "1100 0806 04030201 0b0a 03 06 020000000001 0000";
    expect(address.bytes.toHex()).toBe(expected.replaceAll(" ", ""));
    const bytes = address.bytes;
    address.bytes.fill(0);
    expect(address.bytes).toEqual(bytes);
  });

  test.each<[PacketType, number]>([
    ["host", PACKET_HOST],
    ["broadcast", PACKET_BROADCAST],
    ["multicast", PACKET_MULTICAST],
    ["otherHost", PACKET_OTHERHOST],
    ["outgoing", PACKET_OUTGOING],
    ["loopback", PACKET_LOOPBACK],
    ["user", PACKET_USER],
    ["kernel", PACKET_KERNEL],
    [200, 200],
  ])("reads and writes the packet type %p as C's %d", (packetType, number) => {
    const address = new LinkAddress({ interface: 1, packetType });
    expect(field(address, "sll_pkttype")).toBe(number);
    expect(new LinkAddress(address.bytes).packetType).toBe(packetType);
    expect(new LinkAddress({ interface: 1, packetType: number }).packetType).toBe(packetType);
  });

  test("takes a hardware address as bytes, which it copies, and any length up to 32", () => {
    const bytes = new Uint8Array(32).fill(0xab);
    const address = new LinkAddress({ interface: 1, hardwareAddress: bytes });
    bytes.fill(0);
    expect(address.hardwareAddress).toBe(Array(32).fill("ab").join(":"));
    expect(address.bytes).toHaveLength(44);
    expect(
      new LinkAddress({ interface: 1, hardwareAddress: new Uint8Array(0) }).bytes,
    ).toHaveLength(20);
  });

  test("becomes the index of its interface each time it is used", () => {
    const address = new LinkAddress({ interface: "lo", hardwareAddress: MAC });
    expect(address.interfaceIndex).toBe(1);
    expect(field(address, "sll_ifindex")).toBe(1);
    expect(`${address}`).toBe(`link:lo/${MAC}`);
    const resolved = address.resolveInterface();
    expect(`${resolved}`).toBe(`link:1/${MAC}`);
    expect(resolved.resolveInterface()).toBe(resolved);
    expect(resolved.equals(address)).toBe(false);
  });

  test.each(["bytes", "interfaceIndex"] as const)(
    "without such an interface gives ENODEV for its %s, and its text all the same",
    (property) => {
      const address = new LinkAddress({ interface: NO_INTERFACE });
      const error = caught(() => address[property]);
      expect(error).toMatchObject({ code: "ENODEV", syscall: "if_nametoindex" });
      expect(error.message).toContain(`link:${NO_INTERFACE}`);
      expect(`${address}`).toBe(`link:${NO_INTERFACE}`);
    },
  );

  test.each<[unknown, string]>([
    [{ interface: "" }, 'Cannot use "" as an interface'],
    [{ interface: "a b" }, 'Cannot use "a b" as an interface'],
    [{ interface: "a/b" }, 'Cannot use "a/b" as an interface'],
    [{ interface: "a:b" }, 'Cannot use "a:b" as an interface'],
    [{ interface: ".." }, 'Cannot use ".." as an interface'],
    [{ interface: "a\0" }, "as an interface"],
    // It would be read back as an index.
    [{ interface: "7" }, 'Cannot use "7" as an interface'],
    [{ interface: "x".repeat(16) }, "expected a name of 1 to 15 bytes"],
    [{ interface: 1, hardwareAddress: "02:0" }, 'Cannot use "02:0" as a hardware address'],
    [{ interface: 1, hardwareAddress: "" }, 'Cannot use "" as a hardware address'],
    [{ interface: 1, hardwareAddress: 7 }, "as a hardware address: expected a Uint8Array"],
    [{ interface: 1, packetType: "nobody" }, 'Cannot use "nobody" as a packet type'],
    [{ interface: 1, packetType: null }, "Cannot use null as a packet type"],
    [{}, "as an interface: expected a string"],
    [null, "Cannot make a LinkAddress of null"],
    [new Uint8Array(11), "expected at least 12 bytes"],
    [new Uint8Array(20), "expected at least 12 bytes that start with its family"],
    [Uint8Array.of(AF_PACKET, 0, ...new Uint8Array(9), 6, 1, 2, 3), "expected at least 12 bytes"],
    [Uint8Array.of(AF_PACKET, 0, ...new Uint8Array(9), 33, ...new Uint8Array(40)), "expected"],
    [Uint8Array.of(AF_PACKET, 0, 0, 0, 0xfe, 0xff, 0xff, 0xff, ...new Uint8Array(12)), "expected"],
  ])("refuses %p with a TypeError", (parts, message) => {
    const error = caught(() => new LinkAddress(parts as LinkAddressParts));
    expect(error).toBeInstanceOf(TypeError);
    expect(error.message).toContain(message);
  });

  test.each<[unknown]>([
    [{ interface: -2 }],
    [{ interface: 1.5 }],
    [{ interface: 2 ** 31 }],
    [{ interface: 1, protocol: 65_536 }],
    [{ interface: 1, protocol: -1 }],
    [{ interface: 1, hardwareType: 65_536 }],
    [{ interface: 1, packetType: 256 }],
    [{ interface: 1, hardwareAddress: new Uint8Array(33) }],
  ])("refuses %p with a RangeError", (parts) => {
    expect(caught(() => new LinkAddress(parts as LinkAddressParts))).toBeInstanceOf(RangeError);
  });

  test("takes names that begin with a digit, as some tunnels have them", () => {
    for (const name of ["6in4-wan", "01", "1e3"])
      expect((parseAddress(`link:${name}`) as LinkAddress).interface).toBe(name);
  });
});

describe("parseAddress() of link addresses", () => {
  test.each([
    ["link:eth0", { interface: "eth0" }],
    ["link:2", { interface: 2 }],
    ["link:0", { interface: 0 }],
    ["link:-1", { interface: -1 }],
    [`link:eth0/${MAC}`, { interface: "eth0", hardwareAddress: MAC }],
    ["link:eth0/0x0806", { interface: "eth0", protocol: 0x0806 }],
    [`link:3/${MAC}/0xffff`, { interface: 3, hardwareAddress: MAC, protocol: 0xffff }],
    ["link:eth0.7/ab", { interface: "eth0.7", hardwareAddress: Uint8Array.of(0xab) }],
  ])("reads %s, and writes it", (text, parts) => {
    expect(parseAddress(text).equals(new LinkAddress(parts))).toBe(true);
    expect(`${new LinkAddress(parts)}`).toBe(text);
  });

  test("reads capital digits, and writes small ones", () => {
    expect(`${parseAddress("link:eth0/AB:CD/0x88B5")}`).toBe("link:eth0/ab:cd/0x88b5");
  });

  test.each([
    "link:",
    "link:/",
    "link:eth0/",
    "link:eth0//",
    "link:eth0//0x0800",
    "link:eth0/0x800",
    "link:eth0/0x00800",
    "link:eth0/2048",
    "link:eth0/02:00:00:00:00:0",
    "link:eth0/02:00:00:00:00:01/",
    "link:eth0/02:00:00:00:00:01/0x0800/",
    "link:eth0/0x0800/02:00:00:00:00:01",
    "link:eth0/02:00/02:00",
    "link: eth0",
  ])("refuses %s", (text) => {
    expect(() => parseAddress(text)).toThrow(TypeError);
  });
});

describe("link addresses", () => {
  test("go through text, JSON and bytes, whatever the kernel tells", () => {
    fc.assert(
      fc.property(told, (address) => {
        expect(parseAddress(`${address}`).equals(address)).toBe(true);
        const again = addressFrom(JSON.parse(JSON.stringify(address))) as LinkAddress;
        expect(again.bytes).toEqual(address.bytes);
        expect(addressFromBytes(address.bytes)).toBeInstanceOf(LinkAddress);
        expect((addressFromBytes(address.bytes) as LinkAddress).bytes).toEqual(address.bytes);
      }),
    );
  });

  test("are equal when interface, protocol and hardware address are", () => {
    fc.assert(
      fc.property(told, told, (left, right) => {
        const same =
          left.interface === right.interface &&
          left.protocol === right.protocol &&
          left.hardwareAddress === right.hardwareAddress;
        expect(left.equals(right)).toBe(same);
        expect(left.key === right.key).toBe(same);
        expect(compareAddresses(left, right) === 0).toBe(same);
        if (same) expect(left.hash).toBe(right.hash);
      }),
    );
  });

  test("are equal whatever the kernel tells of a packet beside its sender", () => {
    const parts = { interface: 2, protocol: ETH_P_IP, hardwareAddress: MAC };
    const sent = new LinkAddress({ ...parts, packetType: "outgoing", hardwareType: ARPHRD_ETHER });
    const other = new LinkAddress(parts);
    expect(sent.equals(other)).toBe(true);
    expect(sent.key).toBe(other.key);
    expect(sent.hash).toBe(other.hash);
    expect(sent.bytes).not.toEqual(other.bytes);
    expect(inspect(sent)).toBe(`LinkAddress link:2/${MAC}/0x0800, outgoing`);
    expect(inspect(other)).toBe(`LinkAddress link:2/${MAC}/0x0800`);
  });

  test("are not equal to others", () => {
    const address = new LinkAddress({ interface: 1 });
    expect(address.equals(new RawAddress(address.bytes))).toBe(false);
    expect(address.equals(undefined)).toBe(false);
    expect(address.equals(Object.create(LinkAddress.prototype))).toBe(false);
  });

  test("sort by protocol, hardware address and interface, names last", () => {
    const expected = [
      "127.0.0.1:1",
      "link:1",
      "link:2",
      "link:eth0",
      "link:eth1",
      `link:1/${MAC}`,
      "link:1/0x0800",
      `link:1/${MAC}/0x0800`,
    ];
    const sorted = expected.toReversed().map(parseAddress).sort(compareAddresses);
    expect(sorted.map(String)).toEqual(expected);
  });

  test("of fewer bytes than a sockaddr_ll, as getsockname(2) gives, have all of them", () => {
    const short = Uint8Array.fromHex("1100000302000000010000060200000000ff");
    const address = addressFromBytes(short) as LinkAddress;
    expect(`${address}`).toBe("link:2/02:00:00:00:00:ff/0x0003");
    expect(address.bytes).toHaveLength(20);
  });

  test("forget what lies behind their hardware address", () => {
    const bytes = Uint8Array.fromHex("1100000302000000010000060200000000ff1234");
    expect((addressFromBytes(bytes) as LinkAddress).bytes.subarray(18)).toEqual(new Uint8Array(2));
  });

  test("that are none stay bytes", () => {
    const tooFew = Uint8Array.of(AF_PACKET, 0, ...new Uint8Array(9));
    const addresses: Address[] = [tooFew].map(addressFromBytes);
    for (const address of addresses) expect(address).toBeInstanceOf(RawAddress);
  });
});
