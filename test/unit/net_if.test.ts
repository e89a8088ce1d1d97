import { expect, test } from "bun:test";
import { readMemory, readText } from "../../lib/ffi/memory.ts";
import {
  if_freenameindex,
  if_indextoname,
  if_nameindex,
  if_nametoindex,
} from "../../lib/sys/net_if.ts";
import { ENOBUFS, ENODEV, ENXIO } from "../../structs/constants/errno.ts";
import { IF_NAMESIZE } from "../../structs/constants/net_if.ts";
import { if_nameindex as layout } from "../../structs/if_nameindex.ts";
import { failWith, replaceEntry } from "../support/faults.ts";

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

test("if_nameindex() lists the interfaces, and ends with index 0", () => {
  const address = if_nameindex();
  const found: unknown[] = [];
  for (let at = address; ; at += layout.size) {
    const view = new DataView(readMemory(at, layout.size).buffer);
    const index = layout.if_index.get(view, 0);
    if (index === 0) break;
    found.push([index, readText(layout.if_name.get(view, 0))]);
  }
  if_freenameindex(address);
  expect(found).toContainEqual([1, "lo"]);
});

test("if_nameindex() that fails is -errno", () => {
  using fault = replaceEntry("if_nameindex", () => failWith(ENOBUFS, null));
  expect(if_nameindex()).toBe(-ENOBUFS);
  expect(fault.calls).toBe(1);
});
