/**
 * Which groups the interfaces hear, as the kernel lists them in /proc/thread-self/net.
 *
 * @module
 */
import { Inet4Address, Inet6Address } from "../address.ts";
import type { InterfaceMembership, MembershipsOptions } from "../multicast.ts";
import { describe, requireOptions } from "./arguments.ts";
import { formatInet6 } from "./inet_text.ts";
import { toInterfaceIndex } from "./interface_like.ts";

// /proc/net is that of the process's first thread: this one may be in another network namespace.
const FOLDER = "/proc/thread-self/net";

/** The work of `memberships`. */
export function listMemberships(options: MembershipsOptions): InterfaceMembership[] {
  const { interface: where, family } = requireOptions(options);
  if (family !== undefined && family !== "ipv4" && family !== "ipv6")
    throw new TypeError(`Cannot use ${describe(family)} as a family: expected "ipv4" or "ipv6"`);
  const index = where === undefined ? 0 : toInterfaceIndex(where);
  const all = [
    ...(family === "ipv6" ? [] : ofIpv4(read("igmp"))),
    ...(family === "ipv4" ? [] : ofIpv6(read("igmp6"))),
  ];
  return index === 0 ? all : all.filter(({ interfaceIndex }) => interfaceIndex === index);
}

// A kernel without a family has no file for it.
function read(name: string): string {
  const { existsSync, readFileSync } = process.getBuiltinModule("node:fs");
  try {
    return readFileSync(`${FOLDER}/${name}`, "utf8");
  } catch (error) {
    if ((error as { code?: unknown }).code === "ENOENT" && existsSync(FOLDER)) return "";
    throw error;
  }
}

// A line for each interface, "4 eth0 : 1 V3", and below one for each group, whose number is as it lies
// in memory: "010000E0 1 0:00000000 0".
function ofIpv4(text: string): InterfaceMembership[] {
  const found: InterfaceMembership[] = [];
  let name = "";
  let index = 0;
  for (const line of text.split("\n")) {
    const head = /^(\d+)\s+(\S+)\s*:/.exec(line);
    if (head) {
      index = Number(head[1]);
      name = head[2] as string;
    }
    const [, group, users] = /^\s+([0-9A-F]{8})\s+(\d+)/.exec(line) ?? [];
    if (group === undefined) continue;
    const host = [6, 4, 2, 0].map((at) => Number.parseInt(group.slice(at, at + 2), 16)).join(".");
    found.push({
      interface: name,
      interfaceIndex: index,
      group: new Inet4Address(host, 0),
      users: Number(users),
    });
  }
  return found;
}

// "4 eth0 ff020000000000000000000000000001 1 0000000C 0"
function ofIpv6(text: string): InterfaceMembership[] {
  const found: InterfaceMembership[] = [];
  for (const line of text.split("\n")) {
    const [, index, name, group, users] =
      /^(\d+)\s+(\S+)\s+([0-9a-f]{32})\s+(\d+)/.exec(line) ?? [];
    if (group === undefined) continue;
    found.push({
      interface: name as string,
      interfaceIndex: Number(index),
      group: new Inet6Address(formatInet6(Buffer.from(group as string, "hex"), 0), 0),
      users: Number(users),
    });
  }
  return found;
}
