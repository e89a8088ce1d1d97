import { describe, expect, test } from "bun:test";
import { inspect } from "node:util";
import fc from "fast-check";
import {
  type Address,
  type AddressParts,
  addressBytes,
  addressFrom,
  addressFromBytes,
  compareAddresses,
  Inet4Address,
  Inet6Address,
  type InetAddress,
  LinkAddress,
  parseAddress,
  RawAddress,
  toAddress,
  toAnyAddress,
  toInetAddress,
  toPortlessAddress,
  UnixAddress,
} from "../../lib/address.ts";
import { ClosedError, SystemError } from "../../lib/error.ts";
import { EBADF, EMFILE } from "../../structs/constants/errno.ts";
import {
  AF_INET,
  AF_INET6,
  AF_NETLINK,
  AF_PACKET,
  AF_UNIX,
} from "../../structs/constants/sys_socket.ts";
import { caught } from "../support/errors.ts";
import { failWith, replaceEntry } from "../support/faults.ts";
import { requires, testIf } from "../support/require.ts";

const NO_INTERFACE = "nosuchif0";

const port = fc.oneof(fc.constantFrom(0, 1, 53, 255, 256, 65535), fc.nat(65535));
const octet = fc.constantFrom(0, 1, 2, 127, 255);
const inet4 = fc
  .tuple(octet, octet, octet, octet, port)
  .map(([a, b, c, d, number]) => new Inet4Address(`${a}.${b}.${c}.${d}`, number));
const host6 = fc.constantFrom(
  "::",
  "::1",
  "fe80::1",
  "fe80::2",
  "::ffff:1.2.3.4",
  "2001:db8::1:0:0:1",
);
const zone = fc.constantFrom("", "%1", "%2", "%4294967295", "%lo", "%eth0", "%ETH0", "%lo.1");
const flow = fc.oneof(fc.constantFrom(0, 1, 0xffff_ffff), fc.nat(0xffff_ffff));
const inet6 = fc
  .tuple(host6, zone, port, flow)
  .map(
    ([host, scope, number, bits]) => new Inet6Address(`${host}${scope}`, number, { flow: bits }),
  );
const pathByte = fc.oneof(fc.constantFrom(0x2f, 0x40, 0x61, 0xc3, 0xa9), fc.nat(254)).map(nonZero);
const unix = fc.oneof(
  fc.constant(UnixAddress.unnamed),
  fc
    .array(pathByte, { minLength: 1, maxLength: 108, size: "max" })
    .map((path) => UnixAddress.fromPath(Uint8Array.from(path))),
  fc.uint8Array({ maxLength: 107, size: "max" }).map((name) => UnixAddress.abstract(name)),
  fc.string({ maxLength: 20, unit: "binary" }).map((name) => UnixAddress.abstract(name)),
);
// Families that have no class, and two that have one, too short to be its.
const raw = fc
  .tuple(
    fc.constantFrom(0, AF_NETLINK, AF_INET, AF_INET6, 0x1234),
    fc.uint8Array({ maxLength: 13 }),
  )
  .map(([family, rest]) => new RawAddress(Uint8Array.of(family & 0xff, family >> 8, ...rest)));
const anyAddress: fc.Arbitrary<Address> = fc.oneof(inet4, inet6, unix, raw);
// Two that are equal as often as not.
const pair = fc.oneof(
  fc.tuple(anyAddress, anyAddress),
  anyAddress.map((address): [Address, Address] => [address, copyOf(address)]),
);

function nonZero(byte: number): number {
  return byte === 0 ? 1 : byte;
}

function hasZoneName(address: Address): boolean {
  return address instanceof Inet6Address && typeof address.scope === "string";
}

function copyOf(address: Address): Address {
  return addressFrom(address.toJSON());
}

describe("parseAddress()", () => {
  test.each([
    "0.0.0.0:0",
    "127.0.0.1:53",
    "255.255.255.255:65535",
    "[::]:0",
    "[::1]:53",
    "[fe80::1%eth0]:53",
    "[fe80::1%2]:53",
    "[fe80::1%4294967295]:1",
    "[fe80::1%br-1.100@x]:1",
    "[2001:db8::1:0:0:1]:65535",
    "[::ffff:1.2.3.4]:80",
    "unix:",
    "unix:/run/x.sock",
    "unix:relative.sock",
    "unix:53",
    "unix:/a b:53/[x]%/é",
    "unix: ",
    "unix:@",
    "unix:@name",
    "unix:@@/x",
    "unix:unix:",
    "sockaddr:1000",
    "sockaddr:10002f72756e2f78",
    "sockaddr:01004000",
    "sockaddr:0100ff00",
    "sockaddr:01000000",
  ])("gives %s, which toString() writes back", (text) => {
    expect(`${parseAddress(text)}`).toBe(text);
    expect(parseAddress(text).key).toBe(text);
  });

  test.each([
    ["[2001:DB8:0:0::1]:53", "[2001:db8::1]:53"],
    ["[0:0:0:0:0:0:0:1]:53", "[::1]:53"],
    ["[::FFFF:102:304]:53", "[::ffff:1.2.3.4]:53"],
    ["sockaddr:02000035c0000201", "sockaddr:02000035c0000201"],
    ["sockaddr:02000035c00002010000000000000000", "192.0.2.1:53"],
    ["sockaddr:0100", "unix:"],
    ["sockaddr:01002f72756e2f78", "unix:/run/x"],
    ["sockaddr:01002f72756e2f780000", "unix:/run/x"],
    ["sockaddr:010000786d", "unix:@xm"],
    ["unix:\n", "sockaddr:01000a00"],
    ["unix:@\0", "sockaddr:01000000"],
  ])("reads %j as %s", (text, canonical) => {
    expect(`${parseAddress(text)}`).toBe(canonical);
  });

  test.each([
    ...["", " ", ":", ":53", "127.0.0.1", "127.0.0.1:", "127.0.0.1:-1", "127.0.0.1:05"],
    ...["127.0.0.1:00", "127.0.0.1:+5", "127.0.0.1:5 ", "127.0.0.1:5\n", " 127.0.0.1:5"],
    ...["127.0.0.1:0x5", "127.0.0.1:5.0", "127.0.0.1:1e1", "127.0.0.1 :5", "127.0.0.1:5:6"],
    ...["127.1:5", "127.0.0.01:5", "0x7f.0.0.1:5", "2130706433:5", "127.0.0.256:5", "1.2.3.4.5:5"],
    ...["::1:53", "::1", "[::1]", "[::1]:", "[::1]53", "[::1]:05", "[::1", "::1]:5", "[]:5"],
    ...["[[::1]]:5", "[::1]]:5", "[127.0.0.1]:5", "127.0.0.1%lo:5", "[:::1]:5", "[::1 ]:5"],
    ...["[::1%]:5", "[fe80::1%eth0/x]:5", "[fe80::1%eth0%1]:5", "[fe80::1%e:0]:5", "[%lo]:5"],
    ...["[fe80::1%eth 0]:5", "[fe80::1%0]:5", "[fe80::1%01]:5", "[fe80::1%1a]:5"],
    ...["[fe80::1%sixteen-bytes-xy]:5", "[fe80::1%éééééééé]:5", "[fe80::1%eth0\0]:5"],
    ...["localhost:53", "example.com:53", "[localhost]:53", "http://[::1]:5"],
    ...[
      "unix",
      "Unix:/run/x",
      " unix:/run/x",
      "unix:/a\0b",
      "unix:\0name",
      "unix:\ud800",
      "/run/x",
    ],
    ...["sockaddr:", "sockaddr:0", "sockaddr:010", "sockaddr:0G00", "sockaddr:0A00", "sockaddr"],
  ])("refuses %p with a TypeError", (text) => {
    expect(() => parseAddress(text)).toThrow(TypeError);
  });

  test.each([
    ["127.0.0.1:65536", "Cannot use 65536 as a port: expected 0 to 65535"],
    ["[::1]:70000", "Cannot use 70000 as a port: expected 0 to 65535"],
    ["127.0.0.1:99999999999999999999", "Cannot use 100000000000000000000 as a port"],
    ["[fe80::1%4294967296]:1", "Cannot use 4294967296 as an interface index"],
    [`unix:${"x".repeat(109)}`, "Cannot use 109 bytes as a path: expected 1 to 108"],
    [`unix:@${"é".repeat(54)}`, "Cannot use 108 bytes as an abstract name: expected 0 to 107"],
    ["sockaddr:01", "Cannot make a RawAddress of 1 bytes: expected 2 to 128"],
    [`sockaddr:${"01".repeat(129)}`, "Cannot make a RawAddress of 129 bytes: expected 2 to 128"],
  ])("refuses %p with a RangeError", (text, message) => {
    expect(() => parseAddress(text)).toThrow(RangeError);
    expect(() => parseAddress(text)).toThrow(message);
  });

  test.each([[undefined], [null], [53], [{}], [["127.0.0.1:53"]], [Buffer.from("127.0.0.1:53")]])(
    "refuses %p, which is no string",
    (value) => {
      expect(() => parseAddress(value as unknown as string)).toThrow(TypeError);
    },
  );

  test("says what it wanted", () => {
    expect(() => parseAddress("::1")).toThrow(
      'Cannot parse "::1" as an address: expected "host:port", "[host]:port" or "unix:path"',
    );
    expect(() => parseAddress("127.1:5")).toThrow('Cannot use "127.1" as an IPv4 address');
    expect(() => parseAddress("[g::]:5")).toThrow('Cannot use "g::" as an IPv6 address');
  });

  test("reads what toString() writes, for any address", () => {
    fc.assert(
      fc.property(anyAddress, (address) => {
        const again = parseAddress(`${address}`);
        expect(`${again}`).toBe(`${address}`);
        if (!(address instanceof Inet6Address)) expect(again.equals(address)).toBe(true);
      }),
    );
  });
});

describe("Inet4Address", () => {
  test("has parts, a text, and the bytes of a sockaddr_in", () => {
    const address = new Inet4Address("192.0.2.1", 0x1234);
    expect(address).toMatchObject({ family: "ipv4", host: "192.0.2.1", port: 0x1234 });
    expect(`${address}`).toBe("192.0.2.1:4660");
    expect(address.bytes.toHex()).toBe("02001234c00002010000000000000000");
    expect(inspect(address)).toBe("Inet4Address 192.0.2.1:4660");
  });

  test("is made of the bytes of a sockaddr_in, which are copied", () => {
    const bytes = Buffer.from("02000035c00002010000000000000000ffff", "hex").subarray(0, 16);
    const address = new Inet4Address(bytes);
    bytes.fill(0);
    expect(`${address}`).toBe("192.0.2.1:53");
  });

  test.each([
    ["too few bytes", new Uint8Array(15).fill(2, 0, 1)],
    ["another family", new Uint8Array(28).fill(AF_INET6, 0, 1)],
    ["no bytes", new Uint8Array(0)],
  ])("refuses %s", (_what, bytes) => {
    expect(() => new Inet4Address(bytes)).toThrow(
      "Cannot make an Inet4Address: expected at least 16 bytes that start with its family",
    );
  });

  test.each([
    [-1, RangeError],
    [65536, RangeError],
    [0.5, RangeError],
    [Number.NaN, RangeError],
    ["53", TypeError],
    [undefined, TypeError],
    [null, TypeError],
    [53n, TypeError],
  ])("refuses %p as a port", (value, kind) => {
    expect(() => new Inet4Address("127.0.0.1", value as number)).toThrow(kind);
    expect(() => Inet4Address.any.withPort(value as number)).toThrow(kind);
  });

  test.each([["127.1"], ["::1"], [""], [undefined], [null], [127]])(
    "refuses %p as a host",
    (host) => {
      expect(() => new Inet4Address(host as string, 53)).toThrow(TypeError);
    },
  );

  test("withPort() changes the port only", () => {
    const address = new Inet4Address("192.0.2.1", 53);
    expect(`${address.withPort(54)} ${address}`).toBe("192.0.2.1:54 192.0.2.1:53");
  });

  test.each([
    [Inet4Address.any, "0.0.0.0:0"],
    [Inet4Address.loopback, "127.0.0.1:0"],
    [Inet4Address.broadcast, "255.255.255.255:0"],
  ])("has the constant %s", (constant, text) => {
    expect(`${constant}`).toBe(text);
  });
});

describe("Inet6Address", () => {
  test("has parts, a text, and the bytes of a sockaddr_in6", () => {
    const address = new Inet6Address("2001:DB8::1", 0x1234, { flow: 0x0102_0304 });
    expect(address).toMatchObject({
      family: "ipv6",
      host: "2001:db8::1",
      port: 0x1234,
      flow: 0x0102_0304,
      scope: 0,
    });
    expect(address.bytes.toHex()).toBe("0a0012340102030420010db800000000000000000000000100000000");
    expect(inspect(address)).toBe("Inet6Address [2001:db8::1]:4660");
  });

  test("keeps a scope as a number", () => {
    const address = new Inet6Address("fe80::1%258", 53);
    expect(address.scope).toBe(258);
    expect(address.host).toBe("fe80::1%258");
    expect(address.bytes.subarray(24).toHex()).toBe("02010000");
    expect(address.resolveScope()).toBe(address);
  });

  test("keeps a scope as a name, and has its index in the bytes", () => {
    const address = new Inet6Address("fe80::1%lo", 53, { flow: 9 });
    expect(address.scope).toBe("lo");
    expect(`${address}`).toBe("[fe80::1%lo]:53");
    // The loopback interface is the first of every network namespace.
    expect(address.bytes.subarray(24).toHex()).toBe("01000000");
    const resolved = address.resolveScope();
    expect(resolved).toMatchObject({ scope: 1, host: "fe80::1%1", port: 53, flow: 9 });
    expect(resolved.equals(address)).toBe(false);
    expect(address.scope).toBe("lo");
  });

  test("an interface that does not exist is ENODEV when the address is used", () => {
    const address = new Inet6Address(`fe80::1%${NO_INTERFACE}`, 53);
    for (const use of [
      () => address.resolveScope(),
      () => address.bytes,
      () => addressBytes(address),
    ]) {
      expect(use).toThrow(SystemError);
      expect(use).toThrow(`if_nametoindex ENODEV [fe80::1%${NO_INTERFACE}]:53: no such device`);
    }
    expect(address.hash).toBeNumber();
    expect(address.equals(copyOf(address))).toBe(true);
  });

  test("resolveScope() reports whatever the C library says", () => {
    const address = new Inet6Address("fe80::1%lo", 53);
    {
      using _fault = replaceEntry("if_nametoindex", () => failWith(EMFILE, 0));
      expect(() => address.resolveScope()).toThrow("if_nametoindex EMFILE [fe80::1%lo]:53");
    }
    {
      using _fault = replaceEntry("if_nametoindex", () => failWith(EBADF, 0));
      expect(() => address.resolveScope()).toThrow(ClosedError);
    }
    expect(address.resolveScope().scope).toBe(1);
  });

  test("resolveScope() asks anew each time: indexes belong to the moment", () => {
    const address = new Inet6Address("fe80::1%lo", 53);
    let index = 6;
    using _fault = replaceEntry("if_nametoindex", () => ++index);
    expect([address.resolveScope().scope, address.resolveScope().scope]).toEqual([7, 8]);
  });

  test.each([
    ["too few bytes", new Uint8Array(27).fill(AF_INET6, 0, 1)],
    ["another family", new Uint8Array(28).fill(AF_INET, 0, 1)],
  ])("refuses %s", (_what, bytes) => {
    expect(() => new Inet6Address(bytes)).toThrow(
      "Cannot make an Inet6Address: expected at least 28 bytes that start with its family",
    );
  });

  test.each([-1, 2 ** 32, 0.5, Number.NaN])("refuses %d as flow information", (bits) => {
    expect(() => new Inet6Address("::1", 53, { flow: bits })).toThrow(
      `Cannot use ${bits} as flow information: expected 0 to 4294967295`,
    );
  });

  test.each([-1, 65536, 0.5])("refuses %d as a port", (value) => {
    expect(() => new Inet6Address("::1", value)).toThrow(RangeError);
  });

  test.each([["[::1]"], ["127.0.0.1"], [""], ["%lo"], [undefined], [null]])(
    "refuses %p as a host",
    (host) => {
      expect(() => new Inet6Address(host as string, 53)).toThrow(TypeError);
    },
  );

  test("withPort() changes the port only", () => {
    const address = new Inet6Address("fe80::1%lo", 53, { flow: 5 });
    const other = address.withPort(54);
    expect(other).toMatchObject({ host: "fe80::1%lo", port: 54, flow: 5, scope: "lo" });
    expect(other.withPort(53).equals(address)).toBe(true);
  });

  test.each([
    [Inet6Address.any, "[::]:0"],
    [Inet6Address.loopback, "[::1]:0"],
  ])("has the constant %s", (constant, text) => {
    expect(`${constant}`).toBe(text);
  });
});

describe("RawAddress", () => {
  test("passes any family's bytes through", () => {
    const bytes = Uint8Array.of(AF_NETLINK, 0, 0x2f, 0x78);
    const address = new RawAddress(bytes);
    bytes.fill(9);
    expect(address.family).toBe(AF_NETLINK);
    expect([...address.bytes]).toEqual([AF_NETLINK, 0, 0x2f, 0x78]);
    expect(`${address}`).toBe("sockaddr:10002f78");
    expect(inspect(address)).toBe("RawAddress sockaddr:10002f78");
  });

  test.each([2, 110, 128])("takes %d bytes", (length) => {
    expect(new RawAddress(new Uint8Array(length)).bytes.length).toBe(length);
  });

  test.each([0, 1, 129])("refuses %d bytes", (length) => {
    expect(() => new RawAddress(new Uint8Array(length))).toThrow(
      new RangeError(`Cannot make a RawAddress of ${length} bytes: expected 2 to 128`),
    );
  });

  test.each([["text"], [[1, 0, 0]], [new ArrayBuffer(4)], [undefined]])("refuses %p", (value) => {
    expect(() => new RawAddress(value as unknown as Uint8Array)).toThrow(TypeError);
  });

  test("asks the bytes for their true length", () => {
    const bytes = Object.defineProperty(new Uint8Array(4096), "length", { value: 16 });
    expect(() => new RawAddress(bytes)).toThrow("Cannot make a RawAddress of 4096 bytes");
  });
});

describe("addressFromBytes()", () => {
  test.each([
    [AF_INET, 16, Inet4Address],
    [AF_INET, 128, Inet4Address],
    [AF_INET, 15, RawAddress],
    [AF_INET6, 28, Inet6Address],
    [AF_INET6, 24, RawAddress],
    [AF_UNIX, 2, UnixAddress],
    [AF_UNIX, 110, UnixAddress],
    [AF_UNIX, 111, RawAddress],
    [AF_PACKET, 12, LinkAddress],
    [AF_PACKET, 20, LinkAddress],
    [AF_PACKET, 128, LinkAddress],
    [AF_PACKET, 11, RawAddress],
    [0, 2, RawAddress],
  ])("reads family %d with %d bytes as the class that fits", (family, length, expected) => {
    const bytes = new Uint8Array(length).fill(family, 0, 1);
    expect(addressFromBytes(bytes).constructor).toBe(expected);
  });

  test("reads what bytes gives, for any address with a known interface", () => {
    fc.assert(
      fc.property(anyAddress, (address) => {
        fc.pre(!hasZoneName(address));
        const again = addressFromBytes(address.bytes);
        expect(again.equals(address)).toBe(true);
        expect(addressBytes(address)).toEqual(address.bytes);
      }),
    );
  });
});

describe("addressFrom()", () => {
  test("makes the same address of its JSON, for any address", () => {
    fc.assert(
      fc.property(anyAddress, (address) => {
        const parts: AddressParts = JSON.parse(JSON.stringify(address));
        expect(addressFrom(parts).equals(address)).toBe(true);
      }),
    );
  });

  test("has plain parts, and no flow where there is none", () => {
    expect(new Inet4Address("192.0.2.1", 53).toJSON()).toEqual({
      family: "ipv4",
      host: "192.0.2.1",
      port: 53,
    });
    expect(new Inet6Address("fe80::1%lo", 53).toJSON()).toStrictEqual({
      family: "ipv6",
      host: "fe80::1%lo",
      port: 53,
    });
    expect(new Inet6Address("::1", 53, { flow: 7 }).toJSON()).toMatchObject({ flow: 7 });
    expect(new RawAddress(Uint8Array.of(16, 0, 0x61)).toJSON()).toEqual({
      family: 16,
      sockaddr: "100061",
    });
  });

  test("takes an address for its own parts", () => {
    fc.assert(
      fc.property(anyAddress, (address) => {
        expect(addressFrom(address as AddressParts)).toBe(address);
      }),
    );
  });

  test.each([
    [{ family: "ipx", host: "::1", port: 53 }],
    [{ family: "ipv4", host: "::1", port: 53 }],
    [{ family: "ipv6", host: "127.0.0.1", port: 53 }],
    [{ family: "ipv4", host: "127.0.0.1" }],
    [{ host: "127.0.0.1", port: 53 }],
    [{ family: "unix", sockaddr: "0100" }],
    [{ family: AF_INET, sockaddr: "0100" }],
    [{ family: AF_UNIX, sockaddr: "1000" }],
    [{ family: AF_INET, sockaddr: "02000035c00002010000000000000000" }],
    [{}],
  ])("refuses %j", (parts) => {
    expect(() => addressFrom(parts as unknown as AddressParts)).toThrow(TypeError);
  });

  test.each([
    [{ family: "unix", path: "/run/x" }, "unix:/run/x"],
    [{ family: "unix", path: "@x" }, "sockaddr:0100407800"],
    [{ family: "unix", abstract: "x" }, "unix:@x"],
    [{ family: "unix", abstract: "" }, "unix:@"],
    [{ family: "unix" }, "unix:"],
    [{ family: 1, sockaddr: "0100ff" }, "sockaddr:0100ff00"],
  ] as const)("makes an address of %j", (parts, text) => {
    expect(`${addressFrom(parts)}`).toBe(text);
  });

  test.each([
    [{ family: "unix", path: "/x", abstract: "x" }, '"path" and "abstract"'],
    [{ family: "unix", name: "x" }, '"name"'],
    [{ family: "unix", host: "127.0.0.1", port: 53 }, '"host" and "port"'],
    [{ family: "unix", path: "/x", port: 53 }, '"path" and "port"'],
  ])("refuses %j by name", (parts, given) => {
    expect(() => addressFrom(parts as unknown as AddressParts)).toThrow(
      new TypeError(
        `Cannot make a Unix address of ${given}: expected "path", or "abstract", or neither`,
      ),
    );
  });

  test.each([
    [{ path: undefined }, "Cannot use a value of type undefined as a path: expected a string"],
    [{ path: Uint8Array.of(1, 0) }, "Cannot use a value of type object as a path"],
    [{ path: "" }, "Cannot use an empty path"],
    [{ path: "a\0b" }, "Cannot use a path with a NUL"],
    [{ path: "\udc00" }, 'Cannot use "\\udc00" as a path: it has a lone surrogate'],
    [{ abstract: null }, "Cannot use null as an abstract name: expected a string"],
    [{ abstract: Uint8Array.of(1) }, "Cannot use a value of type object as an abstract name"],
    [{ abstract: "\udc00" }, 'Cannot use "\\udc00" as an abstract name'],
  ])("refuses the Unix part %j", (part, message) => {
    const parts = { family: "unix", ...part } as unknown as AddressParts;
    expect(() => addressFrom(parts)).toThrow(TypeError);
    expect(() => addressFrom(parts)).toThrow(message);
  });
});

describe("equality", () => {
  test("equals() is the same as equal keys, and equal addresses have equal hashes", () => {
    fc.assert(
      fc.property(pair, ([left, right]) => {
        const equal = left.equals(right);
        expect(left.key === right.key).toBe(equal);
        expect(right.equals(left)).toBe(equal);
        expect(compareAddresses(left, right) === 0).toBe(equal);
        if (equal) expect(left.hash).toBe(right.hash);
      }),
      { numRuns: 800 },
    );
  });

  test("hash is 32 bits without a sign", () => {
    fc.assert(
      fc.property(anyAddress, ({ hash }) => {
        expect(hash).toBe(hash >>> 0);
      }),
    );
    const hashes = [1, 2, 3, 4, 5].map((number) => Inet4Address.loopback.withPort(number).hash);
    expect(new Set(hashes).size).toBeGreaterThan(3);
  });

  test("equals() tells apart what differs in one part", () => {
    const addresses = [
      "127.0.0.1:53 127.0.0.1:54 127.0.0.2:53 [::ffff:127.0.0.1]:53 [::1]:53 [::1]:54 [::1%1]:53",
      "[::1%lo]:53 [::1%2]:53 [::2]:53 sockaddr:1000 sockaddr:100000 sockaddr:0200 sockaddr:0a00",
      "unix: unix:@ sockaddr:01000000 unix:@a sockaddr:0100006100 unix:a unix:/a sockaddr:0100ff",
    ].flatMap((line) => line.split(" ").map(parseAddress));
    addresses.push(new Inet6Address("::1", 53, { flow: 1 }));
    for (const [i, left] of addresses.entries()) {
      for (const [j, right] of addresses.entries()) {
        expect(left.equals(right)).toBe(i === j);
        expect(left.key === right.key).toBe(i === j);
        expect(compareAddresses(left, right) === 0).toBe(i === j);
      }
    }
  });

  test.each([
    [undefined],
    [null],
    ["127.0.0.1:53"],
    [{ family: "ipv4", host: "127.0.0.1", port: 53 }],
  ])("equals() is false for %j", (other) => {
    expect(parseAddress("127.0.0.1:53").equals(other)).toBe(false);
    expect(parseAddress("[::1]:53").equals(other)).toBe(false);
    expect(parseAddress("unix:").equals(other)).toBe(false);
    expect(parseAddress("sockaddr:1000").equals(other)).toBe(false);
  });
});

describe("compareAddresses()", () => {
  test("is a total order", () => {
    fc.assert(
      fc.property(anyAddress, anyAddress, anyAddress, (a, b, c) => {
        const order = (left: Address, right: Address) => Math.sign(compareAddresses(left, right));
        expect(order(a, a)).toBe(0);
        expect(order(a, b)).toBe(0 - order(b, a));
        if (order(a, b) <= 0 && order(b, c) <= 0) expect(order(a, c)).toBeLessThanOrEqual(0);
      }),
      { numRuns: 800 },
    );
  });

  test("orders by family, host, port, flow and zone, as numbers and not as text", () => {
    const sorted = [
      parseAddress("unix:"),
      parseAddress("unix:@"),
      parseAddress("unix:@a"),
      parseAddress("unix:/x"),
      parseAddress("unix:/x1"),
      parseAddress("unix:a"),
      parseAddress("9.0.0.1:65535"),
      parseAddress("10.0.0.1:9"),
      parseAddress("10.0.0.1:10"),
      parseAddress("10.0.0.1:256"),
      parseAddress("10.0.0.2:1"),
      parseAddress("[::9]:9"),
      parseAddress("[::9]:10"),
      parseAddress("[::10]:1"),
      new Inet6Address("::10", 2, { flow: 9 }),
      new Inet6Address("::10", 2, { flow: 10 }),
      parseAddress("[fe80::1%1]:1"),
      parseAddress("[fe80::1%2]:1"),
      parseAddress("[fe80::1%lo]:1"),
      parseAddress("sockaddr:1000"),
    ];
    const order = [7, 3, 12, 0, 9, 19, 13, 5, 16, 1, 11, 18, 8, 14, 2, 10, 17, 6, 4, 15];
    const shuffled = order.map((i) => sorted[i] as Address);
    expect(shuffled.sort(compareAddresses).map((each) => each.key)).toEqual(
      sorted.map((each) => each.key),
    );
  });
});

describe("immutability", () => {
  test("the constants are one object each", () => {
    for (const name of ["any", "loopback", "broadcast"] as const)
      expect(Inet4Address[name]).toBe(Inet4Address[name]);
    for (const name of ["any", "loopback"] as const)
      expect(Inet6Address[name]).toBe(Inet6Address[name]);
  });

  test("writing to bytes changes a copy", () => {
    fc.assert(
      fc.property(anyAddress, (address) => {
        fc.pre(!hasZoneName(address));
        const before = address.key;
        address.bytes.fill(0xee);
        expect(address.key).toBe(before);
      }),
    );
  });

  test("addresses are frozen", () => {
    fc.assert(
      fc.property(anyAddress, (address) => {
        expect(Object.isFrozen(address)).toBe(true);
        expect(() => Object.assign(address, { port: 1 })).toThrow(TypeError);
      }),
    );
  });
});

describe("toInetAddress()", () => {
  test("takes an address as it is, and its text", () => {
    for (const address of [Inet4Address.loopback, Inet6Address.loopback])
      expect(toInetAddress(address)).toBe(address);
    expect(`${toInetAddress("[::1]:53")}`).toBe("[::1]:53");
  });

  const ofUnix = "; a Unix path belongs to UnixSocket or UnixDatagramSocket";
  test.each([
    [parseAddress("sockaddr:1000"), "sockaddr:1000"],
    ["sockaddr:1000", "sockaddr:1000"],
    ["unix:/run/x", "unix:/run/x"],
    [UnixAddress.unnamed, "unix:"],
    [null, "null"],
    [undefined, "a value of type undefined"],
    [53, "a value of type number"],
    [{ family: "ipv4", host: "127.0.0.1", port: 53 }, "a value of type object"],
  ])("refuses %j by name", (value, shown) => {
    const isUnix = shown.startsWith("unix:");
    expect(() => toInetAddress(value as InetAddress)).toThrow(
      new TypeError(
        `Cannot use ${shown} as an address: expected an Inet4Address, an Inet6Address, ` +
          `or its text: "host:port" or "[host]:port"${isUnix ? ofUnix : ""}`,
      ),
    );
  });

  test.each(["/run/x.sock", "./x", "@name"])("tells of %j where a path belongs", (text) => {
    expect(() => toInetAddress(text)).toThrow(
      new TypeError(
        `Cannot parse "${text}" as an address: expected "host:port" or "[host]:port"${ofUnix}`,
      ),
    );
  });

  test("refuses what only looks like an address", () => {
    const lookalikes = [
      Object.create(Inet4Address.prototype),
      Object.create(Inet6Address.prototype),
    ];
    for (const value of lookalikes) {
      expect(() => toInetAddress(value)).toThrow(
        "Cannot use a value of type object as an address: expected an Inet4Address",
      );
    }
  });

  test("refuses a text that is no address", () => {
    expect(() => toInetAddress("localhost:53")).toThrow(TypeError);
  });
});

describe("toAddress()", () => {
  const each: Record<string, Address> = {
    inet4: Inet4Address.loopback,
    inet6: Inet6Address.loopback,
    unix: UnixAddress.abstract("x"),
    netlink: new RawAddress(Uint8Array.of(AF_NETLINK, 0)),
    packet: new RawAddress(Uint8Array.of(AF_PACKET, 0)),
    link: new LinkAddress({ interface: 1 }),
    // No class refuses bytes that belong to another; toAddress() does.
    rawInet: new RawAddress(Inet4Address.loopback.bytes),
    rawUnix: new RawAddress(UnixAddress.abstract("x").bytes),
  };
  const inet = "an Inet4Address, an Inet6Address";

  test.each([
    [AF_INET, ["inet4", "inet6"], inet],
    [AF_INET6, ["inet4", "inet6"], inet],
    [AF_UNIX, ["unix"], "a UnixAddress"],
    [AF_NETLINK, ["netlink"], "a RawAddress of family 16"],
    [AF_PACKET, ["packet", "link"], "a LinkAddress"],
    [0, [], "a RawAddress of family 0"],
  ])(
    "takes for family %d the addresses %j, and refuses the others by name",
    (family, taken, expected) => {
      for (const [name, address] of Object.entries(each)) {
        if (taken.includes(name)) {
          expect(toAddress(address, family)).toBe(address);
          expect(addressBytes(toAddress(address, family))).toEqual(address.bytes);
        } else {
          expect(() => toAddress(address, family)).toThrow(
            `Cannot use ${address} as an address: expected ${expected}, or its text`,
          );
        }
      }
    },
  );

  test.each([
    ["127.0.0.1:80", '; "host:port" belongs to TcpSocket or UdpSocket'],
    ["localhost:80", '; "host:port" belongs to TcpSocket or UdpSocket'],
    ["127.0.0.1:99999", '; "host:port" belongs to TcpSocket or UdpSocket'],
    ["name", ""],
  ])("of Unix refuses %j, with the forms that it takes, and where it belongs", (text, owner) => {
    const { message } = caught(() => toAddress(text, AF_UNIX));
    expect(message).toContain(JSON.stringify(text).slice(1, -1));
    expect(message).toEndWith(`"unix:/path" or "unix:@name"${owner}`);
  });

  test.each([
    [AF_INET, "127.0.0.1:53"],
    [AF_INET, "[::1]:53"],
    [AF_INET6, "127.0.0.1:53"],
    [AF_UNIX, "unix:/run/x"],
    [AF_UNIX, "unix:@x"],
    [AF_UNIX, "unix:"],
    [AF_NETLINK, "sockaddr:1000"],
  ])("takes for family %d the text %s", (family, text) => {
    expect(`${toAddress(text, family)}`).toBe(text);
    expect(`${toAnyAddress(text)}`).toBe(text);
  });

  test.each([
    [AF_INET, "unix:/run/x"],
    [AF_UNIX, "127.0.0.1:53"],
    [AF_UNIX, "/run/x"],
    [AF_NETLINK, "sockaddr:1100"],
    [AF_INET, "localhost:53"],
  ])("refuses for family %d the text %s", (family, text) => {
    expect(() => toAddress(text, family)).toThrow(TypeError);
  });

  test.each([
    ["10.1.1.1", "10.1.1.1:0"],
    ["10.1.1.1:53", "10.1.1.1:53"],
    ["::1", "[::1]:0"],
    ["[::1]", "[::1]:0"],
    ["[::1]:53", "[::1]:53"],
    ["fe80::1%7", "[fe80::1%7]:0"],
    ["::ffff:10.1.1.1", "[::ffff:10.1.1.1]:0"],
  ])("toPortlessAddress() takes the text %s, with or without a port", (text, whole) => {
    expect(`${toPortlessAddress(text)}`).toBe(whole);
    expect(`${toPortlessAddress(parseAddress(whole))}`).toBe(whole);
  });

  test.each([
    ["localhost", '"localhost" as an IPv4 address'],
    ["10.1.1", '"10.1.1" as an IPv4 address'],
    ["localhost:53", '"localhost'],
    ["1::2::3", '"1::2::3" as an IPv6 address'],
    ["[::1", '"[::1'],
    ["unix:/run/x", "unix:/run/x"],
    ["", '"" as an IPv4 address'],
    [undefined, "undefined"],
    [1, "number"],
  ])("toPortlessAddress() refuses %p, and names it", (value, named) => {
    const error = caught(() => toPortlessAddress(value as string));
    expect(error).toBeInstanceOf(TypeError);
    expect(error.message).toContain(named);
  });

  const forged = Object.values(each).flatMap((address): [string, object][] => [
    ["what only inherits", Object.create(address.constructor.prototype)],
    ["what inherits from one", Object.create(address)],
    ["a Proxy", new Proxy(address, {})],
    ["its parts", address.toJSON()],
    ["its members", { family: address.family, bytes: address.bytes, key: address.key }],
  ]);

  test.each(forged)("refuses %s by its type", (_what, value) => {
    for (const family of [AF_INET, AF_INET6, AF_UNIX, AF_NETLINK]) {
      expect(() => toAddress(value, family)).toThrow(
        "Cannot use a value of type object as an address: expected",
      );
    }
    expect(() => toAnyAddress(value)).toThrow(
      "Cannot use a value of type object as an address: expected an address object, or its text",
    );
  });

  test.each([
    [null, "null"],
    [undefined, "a value of type undefined"],
    [53n, "a value of type bigint"],
  ])("refuses %p", (value, shown) => {
    expect(() => toAddress(value, AF_UNIX)).toThrow(`Cannot use ${shown} as an address`);
    expect(() => toAnyAddress(value)).toThrow(`Cannot use ${shown} as an address`);
  });

  test("takes a subclass, but no bytes that it makes up", () => {
    class Forged4 extends Inet4Address {
      override get bytes(): Uint8Array {
        return new Uint8Array(4096);
      }
    }
    class Forged6 extends Inet6Address {
      override get bytes(): Uint8Array {
        return new Uint8Array(4096);
      }
      override resolveScope(): Inet6Address {
        return new Proxy(this, {});
      }
    }
    class ForgedUnix extends UnixAddress {
      override get bytes(): Uint8Array {
        return new Uint8Array(4096);
      }
    }
    class ForgedRaw extends RawAddress {
      override get bytes(): Uint8Array {
        return new Uint8Array(4096);
      }
    }
    for (const [address, honest] of [
      [new Forged4("127.0.0.1", 53), parseAddress("127.0.0.1:53")],
      [new Forged6("fe80::1%lo", 53), parseAddress("[fe80::1%1]:53")],
      [new ForgedUnix("/x"), parseAddress("unix:/x")],
      [new ForgedRaw(Uint8Array.of(16, 0)), parseAddress("sockaddr:1000")],
    ] as const) {
      expect(addressBytes(toAnyAddress(address))).toEqual(honest.bytes);
    }
  });
});

const PREDICATES = [
  "isUnspecified",
  "isLoopback",
  "isMulticast",
  "isPrivate",
  "isLinkLocal",
] as const;
type Predicate = (typeof PREDICATES)[number];

// What RFC 1918, 3927, 4193, 4291 and 5771 say.
const NETWORKS: Readonly<Record<Predicate, readonly string[]>> = {
  isUnspecified: ["0.0.0.0/32", "::/128"],
  isLoopback: ["127.0.0.0/8", "::1/128"],
  isMulticast: ["224.0.0.0/4", "ff00::/8"],
  isPrivate: ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7"],
  isLinkLocal: ["169.254.0.0/16", "fe80::/10"],
};

function predicatesOf(address: InetAddress): Predicate[] {
  return PREDICATES.filter((name) => address[name]);
}

describe("predicates", () => {
  test.each<[host: string, true_: Predicate[]]>([
    ["0.0.0.0", ["isUnspecified"]],
    ["0.0.0.1", []],
    ["126.255.255.255", []],
    ["127.0.0.0", ["isLoopback"]],
    ["127.255.255.255", ["isLoopback"]],
    ["128.0.0.0", []],
    ["223.255.255.255", []],
    ["224.0.0.0", ["isMulticast"]],
    ["239.255.255.255", ["isMulticast"]],
    ["240.0.0.0", []],
    ["9.255.255.255", []],
    ["10.0.0.0", ["isPrivate"]],
    ["10.255.255.255", ["isPrivate"]],
    ["11.0.0.0", []],
    ["172.15.255.255", []],
    ["172.16.0.0", ["isPrivate"]],
    ["172.31.255.255", ["isPrivate"]],
    ["172.32.0.0", []],
    ["192.167.255.255", []],
    ["192.168.0.0", ["isPrivate"]],
    ["192.168.255.255", ["isPrivate"]],
    ["192.169.0.0", []],
    ["169.253.255.255", []],
    ["169.254.0.0", ["isLinkLocal"]],
    ["169.254.255.255", ["isLinkLocal"]],
    ["169.255.0.0", []],
    ["255.255.255.255", []],
  ])("of %s are %j, mapped or not", (host, expected) => {
    const address = new Inet4Address(host, 53);
    expect(predicatesOf(address)).toEqual(expected);
    expect(predicatesOf(address.map())).toEqual(expected);
    expect(address.isBroadcast).toBe(host === "255.255.255.255");
  });

  test.each<[host: string, true_: Predicate[]]>([
    ["::", ["isUnspecified"]],
    ["::1", ["isLoopback"]],
    ["::2", []],
    ["::101", []],
    ["::1:0", []],
    // Once the way to write IPv4 addresses (RFC 4291 section 2.5.5.1), which nothing uses.
    ["::127.0.0.1", []],
    ["fbff:ffff::", []],
    ["fc00::", ["isPrivate"]],
    ["fdff:ffff::1", ["isPrivate"]],
    ["fe00::", []],
    ["fe7f:ffff::", []],
    ["fe80::", ["isLinkLocal"]],
    ["fe80::1%lo", ["isLinkLocal"]],
    ["febf:ffff::1", ["isLinkLocal"]],
    ["fec0::", []],
    ["feff::", []],
    ["ff00::", ["isMulticast"]],
    ["ffff::", ["isMulticast"]],
    ["2001:db8::1", []],
    ["64:ff9b::127.0.0.1", []],
  ])("of %s are %j", (host, expected) => {
    expect(predicatesOf(new Inet6Address(host, 53))).toEqual(expected);
  });

  testIf(requires("python3"))(
    "agree with the networks, as Python's ipaddress sees them",
    async () => {
      // The edges of every network, one before and one behind, and addresses from everywhere.
      const addresses = fc.sample(
        fc.oneof(
          fc.uint8Array({ minLength: 4, maxLength: 4 }),
          fc.uint8Array({ minLength: 16, maxLength: 16 }),
          fc
            .tuple(
              fc.constantFrom([0xfe, 0x80], [0xfe, 0xbf], [0xfe, 0xc0], [0xfd], [0xff], [0]),
              fc.uint8Array({ minLength: 16, maxLength: 16 }),
            )
            .map(([prefix, bytes]) => Uint8Array.from([...prefix, ...bytes]).subarray(0, 16)),
        ),
        3000,
      );
      const script = `
import json, sys
from ipaddress import ip_address, ip_network
asked = json.load(sys.stdin)
networks = {name: [ip_network(each) for each in texts] for name, texts in asked["networks"].items()}
addresses = [ip_address(bytes.fromhex(each)) for each in asked["addresses"]]
for network in sum(networks.values(), []):
    for edge in (network.network_address, network.broadcast_address):
        for step in (-1, 0, 1):
            if 0 <= int(edge) + step < 2 ** network.max_prefixlen: addresses.append(edge + step)
def answer(address):
    meant = getattr(address, "ipv4_mapped", None) or address
    true = [name for name, each in networks.items() if any(meant in network for network in each)]
    return [str(address), true]
json.dump([answer(each) for each in addresses], sys.stdout)
`;
      const asked = { networks: NETWORKS, addresses: addresses.map((bytes) => bytes.toHex()) };
      const answers: [string, Predicate[]][] = await Bun.$`python3 -c ${script} < ${Buffer.from(
        JSON.stringify(asked),
      )}`.json();
      expect(answers.length).toBeGreaterThan(3050);
      for (const [host, expected] of answers) {
        const address = host.includes(":") ? new Inet6Address(host, 0) : new Inet4Address(host, 0);
        expect([host, predicatesOf(address)]).toEqual([host, expected]);
        if (address instanceof Inet4Address)
          expect([host, predicatesOf(address.map())]).toEqual([host, expected]);
      }
      // Worth something only if every answer is frequent.
      for (const name of PREDICATES)
        expect(answers.filter(([, expected]) => expected.includes(name)).length).toBeGreaterThan(5);
    },
  );
});

describe("map() and unmap()", () => {
  test("turn an IPv4 address into its mapped one and back, for any address", () => {
    fc.assert(
      fc.property(inet4, (address) => {
        const mapped = address.map();
        expect(`${mapped}`).toBe(`[::ffff:${address.host}]:${address.port}`);
        expect(mapped.isV4Mapped).toBe(true);
        expect(mapped.unmap().equals(address)).toBe(true);
      }),
    );
  });

  test("unmap() gives every other address back", () => {
    fc.assert(
      fc.property(inet6, (address) => {
        fc.pre(!address.host.startsWith("::ffff:"));
        expect(address.isV4Mapped).toBe(false);
        expect(address.unmap()).toBe(address);
      }),
    );
  });

  test.each([
    "::fffe:1.2.3.4",
    "::1:ffff:1.2.3.4",
    "1::ffff:1.2.3.4",
    "::ff7f:1.2.3.4",
    "::1.2.3.4",
  ])("%s is not mapped", (host) => {
    expect(new Inet6Address(host, 53).isV4Mapped).toBe(false);
  });

  test("unmap() drops the scope and the flow, which IPv4 does not have", () => {
    const address = new Inet6Address("::ffff:192.0.2.1%lo", 53, { flow: 7 });
    expect(`${address.unmap()}`).toBe("192.0.2.1:53");
  });
});

test("compareAddresses() orders zones: none, then indexes by number, then names", () => {
  const texts = ["[fe80::1]:5", "[fe80::1%2]:5", "[fe80::1%10]:5", "[fe80::1%eth0]:5"];
  const sorted = [...texts].reverse().map(parseAddress).sort(compareAddresses);
  expect(sorted.map(String)).toEqual(texts);
});

test.each([
  null,
  "x",
  { family: 1, sockaddr: "zz" },
  { family: 2, sockaddr: "1000" },
  { family: "ipv6", host: "::1", port: 5, flow: "7" },
])("addressFrom() refuses %p with a TypeError", (parts) => {
  expect(() => addressFrom(parts as unknown as AddressParts)).toThrow(TypeError);
});

test("the prototypes of addresses can be inspected", () => {
  const classes = [Inet4Address, Inet6Address, UnixAddress, RawAddress];
  expect(classes.map(({ prototype }) => Bun.inspect(prototype))).toEqual(
    classes.map(({ name }) => name),
  );
});
