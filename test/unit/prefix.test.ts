import { describe, expect, test } from "bun:test";
import {
  AddressList,
  type AddressListParts,
  Inet4Address,
  Inet6Address,
  Prefix,
} from "bun-sockets";
import { caught } from "../support/errors.ts";

describe("Prefix", () => {
  test.each([
    ["10.0.0.0/8", "10.0.0.0/8", "ipv4", 8, "10.0.0.0", "10.255.255.255", "255.0.0.0"],
    [
      "192.0.2.128/25",
      "192.0.2.128/25",
      "ipv4",
      25,
      "192.0.2.128",
      "192.0.2.255",
      "255.255.255.128",
    ],
    ["0.0.0.0/0", "0.0.0.0/0", "ipv4", 0, "0.0.0.0", "255.255.255.255", "0.0.0.0"],
    ["192.0.2.1/32", "192.0.2.1/32", "ipv4", 32, "192.0.2.1", "192.0.2.1", "255.255.255.255"],
    ["192.0.2.1", "192.0.2.1/32", "ipv4", 32, "192.0.2.1", "192.0.2.1", "255.255.255.255"],
    [
      "fe80::/10",
      "fe80::/10",
      "ipv6",
      10,
      "fe80::",
      "febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
      "ffc0::",
    ],
    ["::/0", "::/0", "ipv6", 0, "::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "::"],
    [
      "2001:DB8:0::/33",
      "2001:db8::/33",
      "ipv6",
      33,
      "2001:db8::",
      "2001:db8:7fff:ffff:ffff:ffff:ffff:ffff",
      "ffff:ffff:8000::",
    ],
    ["::1", "::1/128", "ipv6", 128, "::1", "::1", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"],
    // IPv4-mapped ones are IPv4.
    ["::ffff:10.0.0.0/104", "10.0.0.0/8", "ipv4", 8, "10.0.0.0", "10.255.255.255", "255.0.0.0"],
    ["::ffff:0:0/96", "0.0.0.0/0", "ipv4", 0, "0.0.0.0", "255.255.255.255", "0.0.0.0"],
    // Wider ones are not.
    ["::/80", "::/80", "ipv6", 80, "::", "::ffff:255.255.255.255", "ffff:ffff:ffff:ffff:ffff::"],
  ] as const)("%s is %s", (text, canonical, family, length, first, last, netmask) => {
    const prefix = new Prefix(text);
    expect(`${prefix}`).toBe(canonical);
    expect(JSON.stringify(prefix)).toBe(JSON.stringify(canonical));
    expect(prefix).toMatchObject({ family, length });
    expect(prefix.first.host).toBe(first);
    expect(prefix.last.host).toBe(last);
    expect(prefix.netmask.host).toBe(netmask);
    expect(new Prefix(`${prefix}`).equals(prefix)).toBe(true);
    expect(Bun.inspect(prefix)).toBe(`Prefix ${canonical}`);
    expect(Object.isFrozen(prefix)).toBe(true);
  });

  test.each([
    ["10.0.0.0/8", ["10.0.0.0", "10.255.255.255", "10.1.2.3:80", "::ffff:10.1.2.3"]],
    ["192.0.2.128/25", ["192.0.2.128", "192.0.2.255"]],
    ["0.0.0.0/0", ["0.0.0.0", "255.255.255.255", "::ffff:1.2.3.4", "[::ffff:1.2.3.4]:9"]],
    ["fe80::/10", ["fe80::1", "fe80::1%lo", "[febf::1%3]:80", "fe80::"]],
    ["::/0", ["::", "::1", "2001:db8::1"]],
    ["2001:db8::/33", ["2001:db8:7fff::1"]],
    ["::1", ["::1", "[::1]:80"]],
    ["::ffff:10.0.0.0/104", ["10.9.9.9", "::ffff:10.9.9.9"]],
  ])("%s contains %p", (text, inside) => {
    const prefix = new Prefix(text);
    for (const each of inside) expect([each, prefix.contains(each)]).toEqual([each, true]);
  });

  test.each([
    ["10.0.0.0/8", ["9.255.255.255", "11.0.0.0", "::ffff:11.0.0.0", "::10.0.0.1", "::"]],
    ["192.0.2.128/25", ["192.0.2.127", "192.0.3.0"]],
    ["0.0.0.0/0", ["::", "::1", "::1.2.3.4"]],
    ["fe80::/10", ["fe7f::1", "fec0::1"]],
    ["::/0", ["0.0.0.0", "::ffff:1.2.3.4"]],
    ["2001:db8::/33", ["2001:db8:8000::", "2001:db7::"]],
    ["::1", ["::2", "::", "0.0.0.1"]],
    ["::/80", ["::ffff:1.2.3.4", "0:0:0:0:1::"]],
  ])("%s does not contain %p", (text, outside) => {
    const prefix = new Prefix(text);
    for (const each of outside) expect([each, prefix.contains(each)]).toEqual([each, false]);
  });

  test("every length of both families has its first and last address, and no more", () => {
    for (const [whole, host] of [
      [32, "172.21.43.87"],
      [128, "2001:db8:9:a876::5a5a:a5a5"],
    ] as const)
      for (let length = 0; length <= whole; length++) {
        const prefix = Prefix.of(host, length);
        expect(prefix.length).toBe(length);
        for (const inside of [prefix.first, prefix.last, host])
          expect(prefix.contains(inside)).toBe(true);
        if (length === 0) continue;
        // The other half of the prefix that is one bit shorter.
        const wider = Prefix.of(host, length - 1);
        expect(wider.contains(prefix)).toBe(true);
        expect(prefix.contains(wider)).toBe(false);
        const ends = [wider.first, wider.last].map((end) => prefix.contains(end));
        expect(ends.filter(Boolean)).toHaveLength(1);
      }
  });

  test("contains prefixes, and overlaps with them", () => {
    const [wide, narrow, other, six] = [
      new Prefix("10.0.0.0/8"),
      new Prefix("10.1.0.0/16"),
      new Prefix("11.0.0.0/8"),
      new Prefix("::/0"),
    ];
    expect(wide.contains(narrow)).toBe(true);
    expect(narrow.contains(wide)).toBe(false);
    expect([wide.overlaps(narrow), narrow.overlaps(wide)]).toEqual([true, true]);
    expect([wide.overlaps(other), wide.overlaps(six)]).toEqual([false, false]);
    expect(wide.contains(new Prefix("10.0.0.0/8"))).toBe(true);
  });

  test("equals a prefix of the same addresses only", () => {
    const prefix = new Prefix("10.0.0.0/8");
    expect(prefix.equals(new Prefix("::ffff:10.0.0.0/104"))).toBe(true);
    for (const other of [new Prefix("10.0.0.0/9"), new Prefix("11.0.0.0/8"), "10.0.0.0/8", null])
      expect(prefix.equals(other)).toBe(false);
  });

  test("of() clears what is behind the length, and leaves port and zone out", () => {
    expect(`${Prefix.of(new Inet4Address("192.0.2.77", 80), 24)}`).toBe("192.0.2.0/24");
    expect(`${Prefix.of(new Inet6Address("fe80::1%lo", 80), 64)}`).toBe("fe80::/64");
    expect(`${Prefix.of("[2001:db8::77]:80", 32)}`).toBe("2001:db8::/32");
    expect(`${Prefix.of("::ffff:192.0.2.77", 120)}`).toBe("192.0.2.0/24");
    expect(`${Prefix.of("::ffff:192.0.2.77", 90)}`).toBe("::ffc0:0:0/90");
  });

  test.each([
    ["10.0.0.1/8", TypeError, "it has bits behind its length. Prefix.of() clears them"],
    ["10.0.0.0/33", RangeError, "Cannot use 33 as the length of a prefix: expected 0 to 32"],
    ["::/129", RangeError, "Cannot use 129 as the length of a prefix: expected 0 to 128"],
    ["10.0.0.0/", TypeError, 'expected "address/length"'],
    ["10.0.0.0/08", TypeError, 'expected "address/length"'],
    ["10.0.0.0/-1", TypeError, 'expected "address/length"'],
    ["10.0.0.0/8/8", TypeError, 'expected "address/length"'],
    ["10.0.0.0/255.0.0.0", TypeError, 'expected "address/length"'],
    ["10.0/8", TypeError, 'expected "address/length"'],
    ["/8", TypeError, 'expected "address/length"'],
    ["", TypeError, 'expected "address/length"'],
    ["fe80::%lo/64", TypeError, "a prefix has no zone"],
    ["[fe80::]/64", TypeError, 'expected "address/length"'],
    ["10.0.0.0:80/8", TypeError, 'expected "address/length"'],
    [8, TypeError, "Cannot use a value of type number as a prefix: expected a string"],
  ])("refuses %p", (text, type, message) => {
    const error = caught(() => new Prefix(text as string));
    expect(error).toBeInstanceOf(type);
    expect(error.message).toContain(message);
  });

  test.each(["", "host", "unix:/x", 7, null, {}])("contains() refuses %p", (value) => {
    expect(caught(() => new Prefix("10.0.0.0/8").contains(value as string))).toBeInstanceOf(
      TypeError,
    );
  });

  test.each([-1, 33, 1.5, Number.NaN, "8"])("of() refuses the length %p", (length) => {
    expect(() => Prefix.of("10.0.0.0", length as number)).toThrow("as the length of a prefix");
  });
});

describe("AddressList", () => {
  test("allows what no rule names, unless it is to deny", () => {
    expect(new AddressList().check("192.0.2.1")).toBe(true);
    expect(new AddressList({ otherwise: "deny" }).check("192.0.2.1")).toBe(false);
  });

  test("knows addresses, ranges and prefixes of both families", () => {
    const list = new AddressList()
      .deny("192.0.2.1")
      .deny("192.0.2.10", "192.0.2.20")
      .deny("10.0.0.0/8")
      .deny(new Prefix("fe80::/10"))
      .deny(new Inet6Address("::1", 99))
      .deny("2001:db8::a", "2001:db8::1:0");
    expect(list.size).toBe(6);
    for (const [address, allowed] of [
      ["192.0.2.1", false],
      ["192.0.2.1:80", false],
      ["[::ffff:192.0.2.1]:80", false],
      ["192.0.2.2", true],
      ["192.0.2.9", true],
      ["192.0.2.10", false],
      ["192.0.2.20", false],
      ["192.0.2.21", true],
      ["10.255.0.1", false],
      ["11.0.0.0", true],
      ["fe80::1%lo", false],
      ["::1", false],
      ["::2", true],
      ["2001:db8::9", true],
      ["2001:db8::a", false],
      ["2001:db8::ffff", false],
      ["2001:db8::1:0", false],
      ["2001:db8::1:1", true],
    ] as const)
      expect([address, list.check(address)]).toEqual([address, allowed]);
  });

  test("lets the first rule decide that names an address", () => {
    const list = new AddressList({ otherwise: "deny" })
      .deny("10.0.0.66")
      .allow("10.0.0.0/24")
      .deny("10.0.0.0/8")
      .allow("10.9.9.9");
    const checked = ["10.0.0.66", "10.0.0.65", "10.1.0.0", "10.9.9.9", "11.0.0.0"].map((address) =>
      list.check(address),
    );
    expect(checked).toEqual([false, true, false, false, false]);
  });

  test("knows a prefix that ends among the IPv4-mapped addresses", () => {
    const list = new AddressList().deny("::/80");
    expect([list.check("::5"), list.check("::1:0:0:0"), list.check("1.2.3.4")]).toEqual([
      false,
      true,
      true,
    ]);
  });

  test("goes through JSON and back", () => {
    const list = new AddressList({ otherwise: "deny" })
      .deny("[::ffff:192.0.2.1]:80")
      .allow("192.0.2.10", "192.0.2.20")
      .allow("2001:db8::/32");
    const parts: AddressListParts = {
      otherwise: "deny",
      rules: [
        { verdict: "deny", address: "192.0.2.1" },
        { verdict: "allow", from: "192.0.2.10", to: "192.0.2.20" },
        { verdict: "allow", prefix: "2001:db8::/32" },
      ],
    };
    expect(list.toJSON()).toEqual(parts);
    const copy = AddressList.from(JSON.parse(JSON.stringify(list)));
    expect(copy.toJSON()).toEqual(parts);
    expect(copy.check("192.0.2.15")).toBe(true);
    expect(AddressList.from({ rules: [] }).toJSON()).toEqual({ otherwise: "allow", rules: [] });
  });

  test.each([
    [["192.0.2.2", "192.0.2.1"], RangeError, "from 192.0.2.2 to 192.0.2.1: it ends before"],
    [["192.0.2.2", "::1"], TypeError, "192.0.2.2 and ::1: they are of two families"],
    [["10.0.0.0/8", "11.0.0.0"], TypeError, "a range of a prefix and an address"],
    [["host.test"], TypeError, '"host.test" as an IPv4 address'],
    [["10.0.0.1/8"], TypeError, "bits behind its length"],
    [[undefined], TypeError, "as an address"],
    [[null], TypeError, "as an address"],
  ])("refuses %p, and is as it was", (values, type, message) => {
    const list = new AddressList();
    const error = caught(() => list.deny(...(values as [string, string])));
    expect(error).toBeInstanceOf(type);
    expect(error.message).toContain(message);
    expect(list.size).toBe(0);
  });

  test.each([
    [null, "as options: expected an object"],
    [{}, "Cannot use a value of type undefined as rules: expected an array"],
    [{ rules: [null] }, "as options: expected an object"],
    [{ rules: [{ address: "192.0.2.1" }] }, "as a verdict"],
    [{ rules: [{ verdict: "allow" }] }, "as an address"],
    [{ rules: [{ verdict: "maybe", address: "192.0.2.1" }] }, 'Cannot use "maybe" as a verdict'],
    [{ otherwise: "ask", rules: [] }, 'Cannot use "ask" as otherwise: expected "allow" or "deny"'],
  ])("from() refuses %p", (parts, message) => {
    const error = caught(() => AddressList.from(parts as AddressListParts));
    expect(error).toBeInstanceOf(TypeError);
    expect(error.message).toContain(message);
  });

  test("check() refuses what is no address", () => {
    for (const value of ["", "host", "10.0.0.0/8", null, 7, {}])
      expect(caught(() => new AddressList().check(value as string))).toBeInstanceOf(TypeError);
  });
});
