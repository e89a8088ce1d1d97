import { expect, test } from "bun:test";
import { readMemory, readText } from "../../lib/ffi/memory.ts";
import { freeifaddrs, getifaddrs } from "../../lib/sys/ifaddrs.ts";
import { ENOMEM } from "../../structs/constants/errno.ts";
import { IFF_LOOPBACK } from "../../structs/constants/net_if.ts";
import { AF_INET } from "../../structs/constants/sys_socket.ts";
import { ifaddrs } from "../../structs/ifaddrs.ts";
import { sockaddr_in } from "../../structs/sockaddr_in.ts";
import { failWith, replaceEntry } from "../support/faults.ts";

test("getifaddrs() lists the loopback interface with its address, netmask and flag", () => {
  const result = new BigUint64Array(1);
  expect(getifaddrs(result)).toBe(0);
  const found: unknown[] = [];
  for (let address = Number(result[0]); address !== 0; ) {
    const link = new DataView(readMemory(address, ifaddrs.size).buffer);
    const [ip, netmask] = [ifaddrs.ifa_addr, ifaddrs.ifa_netmask].map((member) =>
      inetAt(member.get(link, 0)),
    );
    const name = readText(ifaddrs.ifa_name.get(link, 0));
    const loopback = (ifaddrs.ifa_flags.get(link, 0) & IFF_LOOPBACK) !== 0;
    found.push({ name, loopback, ip, netmask });
    address = ifaddrs.ifa_next.get(link, 0);
  }
  freeifaddrs(Number(result[0]));
  expect(found).toContainEqual({
    name: "lo",
    loopback: true,
    ip: 0x7f00_0001,
    netmask: 0xff00_0000,
  });
});

test("getifaddrs() that fails is -errno", () => {
  using fault = replaceEntry("getifaddrs", () => failWith(ENOMEM));
  expect(getifaddrs(new BigUint64Array(1))).toBe(-ENOMEM);
  expect(fault.calls).toBe(1);
});

// The IPv4 address of a sockaddr, if it has one.
function inetAt(address: number): number | undefined {
  if (address === 0) return undefined;
  const view = new DataView(readMemory(address, sockaddr_in.size).buffer);
  return sockaddr_in.sin_family.get(view, 0) === AF_INET
    ? sockaddr_in.sin_addr.get(view, 0)
    : undefined;
}
