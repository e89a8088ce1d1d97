import { expect, test } from "bun:test";
import { if_indextoname, if_nametoindex } from "../../lib/sys/net_if.ts";
import { ENODEV, ENXIO } from "../../structs/constants/errno.ts";
import { IF_NAMESIZE } from "../../structs/constants/net_if.ts";

// The loopback interface is the first of every network namespace.
test("if_nametoindex() and if_indextoname() are inverses", () => {
  expect(if_nametoindex(Buffer.from("lo\0"))).toBe(1);
  const name = new Uint8Array(IF_NAMESIZE).fill(0xa5);
  expect(if_indextoname(1, name)).toBe(0);
  expect([...name.subarray(0, 3)]).toEqual([0x6c, 0x6f, 0]);
});

test("if_nametoindex() of no interface is -ENODEV", () => {
  expect(if_nametoindex(Buffer.from("nosuchif0\0"))).toBe(-ENODEV);
});

test("if_indextoname() of no interface is -ENXIO", () => {
  expect(if_indextoname(0x7fff_ffff, new Uint8Array(IF_NAMESIZE))).toBe(-ENXIO);
});
