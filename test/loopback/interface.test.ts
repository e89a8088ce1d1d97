/** Interfaces, as far as nothing is changed. The rest is in test/privileged/interface.test.ts. */
import { describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { networkInterfaces } from "node:os";
import {
  type Interface,
  interfaceIndex,
  interfaceName,
  interfaceNames,
  interfaces,
  ipAddresses,
  NetworkInterface,
  UdpSocket,
} from "bun-sockets";
import { ARPHRD_LOOPBACK, EMFILE, ENODEV, ENOMEM, IFF_UP } from "bun-sockets/sys";
import { openDescriptors } from "../support/descriptors.ts";
import { caught, systemErrorOf } from "../support/errors.ts";
import { failWith, replaceEntry, replaceLibc } from "../support/faults.ts";

function loopback(list: readonly Interface[]): Interface {
  const found = list.find(({ name }) => name === "lo");
  if (!found) throw new Error("There is no loopback interface");
  return found;
}

const hosts = ({ addresses }: Interface) => addresses.map(({ address }) => address.host);

describe("interfaces()", () => {
  test("tells all of the loopback interface", () => {
    const lo = loopback(interfaces());
    // Zeros, unless somebody has changed them.
    const hardwareAddress = readFileSync("/sys/class/net/lo/address", "utf8").trim();
    expect(lo).toMatchObject({
      index: 1,
      up: true,
      running: true,
      loopback: true,
      broadcast: false,
      multicast: false,
      pointToPoint: false,
      hardwareAddress,
      hardwareBytes: Uint8Array.fromHex(hardwareAddress.replaceAll(":", "")),
      hardwareType: ARPHRD_LOOPBACK,
    });
    expect(lo.flags & IFF_UP).toBe(IFF_UP);
    expect(lo.mtu).toBe(new NetworkInterface("lo").mtu);
    const four = lo.addresses.find(({ address }) => address.host === "127.0.0.1");
    expect(`${four?.address} ${four?.netmask} ${four?.prefixLength}`).toBe(
      "127.0.0.1:0 255.0.0.0:0 8",
    );
    expect([four?.broadcast, four?.peer]).toEqual([undefined, undefined]);
    const six = lo.addresses.find(({ address }) => address.host === "::1");
    expect(`${six?.netmask.host} ${six?.prefixLength}`).toBe(
      "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 128",
    );
  });

  test("lists all, in the order of their indexes, each once", () => {
    const list = interfaces();
    expect(list.map(({ index, name }) => ({ index, name }))).toEqual(
      interfaceNames().toSorted((left, right) => left.index - right.index),
    );
  });

  test("agrees with node:os about those that are up", () => {
    const found = new Map(interfaces().map((each) => [each.name, each]));
    for (const [name, addresses = []] of Object.entries(networkInterfaces())) {
      const each = found.get(name) as Interface;
      for (const { address, netmask, mac, cidr, scopeid } of addresses) {
        expect(each.hardwareAddress).toBe(mac);
        const host = scopeid ? `${address}%${each.index}` : address;
        const same = each.addresses.find((other) => other.address.host === host);
        expect(same?.netmask.host).toBe(netmask);
        expect(`${address}/${same?.prefixLength}`).toBe(cidr as string);
      }
    }
  });

  test.each(["ipv4", "ipv6"] as const)("keeps to a family: %s", (family) => {
    const list = interfaces({ family });
    expect(hosts(loopback(list))).toContain(family === "ipv4" ? "127.0.0.1" : "::1");
    for (const { addresses } of list) {
      expect(addresses.length).toBeGreaterThan(0);
      expect(new Set(addresses.map(({ address }) => address.family))).toEqual(new Set([family]));
    }
    expect(ipAddresses({ family }).toSorted()).toEqual(list.flatMap(hosts).toSorted());
  });

  test("passes over one that goes away meanwhile", () => {
    const real = interfaces().map(({ name }) => name);
    let asked = 0;
    using _ = replaceLibc("ioctl", (original) => (...values) => {
      return ++asked === 1 ? failWith(ENODEV) : original(...values);
    });
    expect(interfaces()).toHaveLength(real.length - 1);
  });

  test.each(["unix", "ipv5", 17, null] as const)("refuses the family %p", (family) => {
    const options = { family } as unknown as { family: "ipv4" };
    expect(caught(() => interfaces(options)).message).toMatch(/family|Cannot use a value|null/);
    expect(caught(() => ipAddresses(options))).toBeInstanceOf(TypeError);
  });

  test("frees what libc has given, whatever comes of it", () => {
    using freed = replaceLibc("freeifaddrs", (original) => original);
    const before = openDescriptors();
    interfaces();
    {
      using _ = replaceEntry("socket", () => failWith(EMFILE));
      expect(caught(() => interfaces())).toMatchObject({ code: "EMFILE", syscall: "socket" });
    }
    {
      using _ = replaceEntry("ioctl", () => failWith(ENOMEM));
      const error = caught(() => interfaces());
      expect(error).toMatchObject({ code: "ENOMEM", syscall: "ioctl", option: "SIOCGIFMTU" });
    }
    expect(freed.calls).toBe(3);
    {
      using _ = replaceEntry("getifaddrs", () => failWith(ENOMEM));
      expect(caught(() => interfaces())).toMatchObject({ syscall: "getifaddrs" });
      expect(caught(() => ipAddresses())).toMatchObject({ syscall: "getifaddrs" });
    }
    expect(freed.calls).toBe(3);
    expect(openDescriptors()).toBe(before);
  });
});

describe("interface names", () => {
  test("and indexes are inverses", () => {
    for (const { index, name } of interfaceNames()) {
      expect(interfaceIndex(name)).toBe(index);
      expect(interfaceName(index)).toBe(name);
    }
    expect([interfaceIndex("lo"), interfaceName(1)]).toEqual([1, "lo"]);
  });

  test("are asked of the namespace of a socket", () => {
    using socket = UdpSocket.open("ipv4");
    expect([interfaceIndex("lo", { socket }), interfaceName(1, { socket })]).toEqual([1, "lo"]);
    expect(new NetworkInterface("lo", { socket }).index).toBe(1);
    socket.close();
    for (const ask of [
      () => interfaceIndex("lo", { socket }),
      () => interfaceName(1, { socket }),
      () => new NetworkInterface("lo", { socket }).mtu,
    ])
      expect(caught(ask)).toMatchObject({ name: "ClosedError", code: "EBADF" });
  });

  test("that nobody has are an ENODEV, from all that ask", () => {
    using socket = UdpSocket.open("ipv4");
    for (const [asked, ask] of [
      ["nosuchif0", () => interfaceIndex("nosuchif0")],
      ["nosuchif0", () => interfaceIndex("nosuchif0", { socket })],
      ["2147483647", () => interfaceName(0x7fff_ffff)],
      ["2147483647", () => interfaceName(0x7fff_ffff, { socket })],
      ["nosuchif0", () => new NetworkInterface("nosuchif0").mtu],
    ] as const) {
      const error = systemErrorOf(ask);
      expect(error).toMatchObject({ name: "SystemError", code: "ENODEV" });
      // What was asked for, rather than how.
      expect(error.message).toBe(`${error.syscall} ENODEV ${asked}: no such device`);
      expect(error.option !== undefined).toBe(error.syscall === "ioctl");
      expect(error.hint).toContain("interfaces()");
      expect("address" in error).toBe(false);
    }
  });

  test.each(["", "a".repeat(16), "ä".repeat(8), "a b", "a/b", "a:1", ".", "..", "a\0", 7, null])(
    "like %p are refused before anything is asked",
    (name) => {
      using ioctl = replaceLibc("ioctl", (original) => original);
      for (const ask of [
        () => interfaceIndex(name as string),
        () => new NetworkInterface(name as string),
      ])
        expect(caught(ask)).toBeInstanceOf(TypeError);
      expect(ioctl.calls).toBe(0);
    },
  );

  test.each([0, -1, 1.5, 2 ** 31, "1", null])("by the index %p are refused", (index) => {
    expect(() => interfaceName(index as number)).toThrow("as an interface index");
  });

  test("are refused with what is no socket", () => {
    for (const socket of [7, {}, null] as unknown as UdpSocket[]) {
      expect(caught(() => interfaceName(1, { socket }))).toBeInstanceOf(TypeError);
      expect(caught(() => interfaceIndex("lo", { socket }))).toBeInstanceOf(TypeError);
    }
  });

  test("are freed by libc", () => {
    using freed = replaceLibc("if_freenameindex", (original) => original);
    interfaceNames();
    expect(freed.calls).toBe(1);
    using _ = replaceEntry("if_nameindex", () => failWith(ENOMEM, null));
    expect(caught(() => interfaceNames())).toMatchObject({ syscall: "if_nameindex" });
  });
});

describe("NetworkInterface", () => {
  test("reads what the kernel says, and opens nothing that stays", async () => {
    const before = openDescriptors();
    const lo = new NetworkInterface("lo");
    const read = async (file: string) =>
      (await Bun.file(`/sys/class/net/lo/${file}`).text()).trim();
    expect(lo.name).toBe("lo");
    expect(lo.index).toBe(1);
    expect(lo.up).toBe(true);
    expect(`${lo.mtu}`).toBe(await read("mtu"));
    expect(`${lo.transmitQueueLength}`).toBe(await read("tx_queue_len"));
    expect(lo.hardwareAddress).toBe(await read("address"));
    expect(`${lo.hardwareType}`).toBe(await read("type"));
    expect(lo.flags & 0xff).toBe((Number(await read("flags")) & 0xff) | 0x40);
    expect(lo.map).toEqual({
      memoryStart: 0,
      memoryEnd: 0,
      baseAddress: 0,
      irq: 0,
      dma: 0,
      port: 0,
    });
    expect(openDescriptors()).toBe(before);
  });

  test("refuses values before it tells the kernel", () => {
    const lo = new NetworkInterface("lo");
    // What is not refused must not change this machine.
    using ioctl = replaceEntry("ioctl", () => failWith(ENODEV));
    for (const set of [
      () => (lo.mtu = -1),
      () => (lo.mtu = 1.5),
      () => (lo.mtu = 2 ** 31),
      () => (lo.mtu = "1500" as unknown as number),
      () => (lo.transmitQueueLength = -1),
      () => (lo.flags = 0x10000),
      () => (lo.flags = -1),
      () => (lo.up = 1 as unknown as boolean),
      () => (lo.hardwareAddress = ""),
      () => (lo.hardwareAddress = "02:00:00"),
      () => (lo.hardwareAddress = "02:00:00:00:00:0g"),
      () => (lo.hardwareAddress = "2:0:0:0:0:1"),
      () => (lo.hardwareAddress = "020000000001"),
      () => (lo.hardwareAddress = "02:00:00:00:00:00:01"),
      () => (lo.hardwareAddress = Array(15).fill("02").join(":")),
      () => (lo.hardwareAddress = new Uint8Array(0) as unknown as string),
      () => (lo.hardwareAddress = new Uint8Array(15) as unknown as string),
      () => (lo.hardwareAddress = 7 as unknown as string),
    ])
      expect(caught(set).message).toStartWith("Cannot use ");
    expect(ioctl.calls).toBe(0);
  });

  test("says which request failed", () => {
    using _ = replaceEntry("ioctl", () => failWith(ENOMEM));
    const lo = new NetworkInterface("lo");
    for (const [name, ask] of [
      ["SIOCGIFINDEX", () => lo.index],
      ["SIOCGIFFLAGS", () => lo.flags],
      ["SIOCGIFMTU", () => lo.mtu],
      ["SIOCGIFTXQLEN", () => lo.transmitQueueLength],
      ["SIOCGIFHWADDR", () => lo.hardwareAddress],
      ["SIOCGIFMAP", () => lo.map],
      ["SIOCSIFMTU", () => (lo.mtu = 1500)],
      ["SIOCSIFFLAGS", () => (lo.flags = 0)],
      ["SIOCSIFTXQLEN", () => (lo.transmitQueueLength = 1)],
    ] as const) {
      const error = caught(ask);
      expect(error).toMatchObject({ code: "ENOMEM", syscall: "ioctl", option: name });
      expect(error.message).toContain(name);
    }
  });
});
