import { afterAll, beforeAll, beforeEach, describe, expect } from "bun:test";
import {
  type Interface,
  interfaceIndex,
  interfaceName,
  interfaces,
  ipAddresses,
  NetworkInterface,
} from "bun-sockets";
import { ARPHRD_ETHER, IFF_MULTICAST, IFF_NOARP, IFF_PROMISC } from "bun-sockets/sys";
import { caught } from "../support/errors.ts";
import { requires, testIf } from "../support/require.ts";

// Two ends of one cable in this namespace.
const LEFT = "bs-if-left";
const RIGHT = "bs-if-right";
const MAC = "02:00:00:00:00:aa";

const missing =
  process.env["BUN_SOCKETS_NAMESPACE"] === "1"
    ? requires("ip")
    : "needs a network namespace of its own";
const namespaced = testIf(missing);

function ip(...values: string[]): string {
  const { success, stdout, stderr } = Bun.spawnSync(["ip", ...values]);
  if (!success) throw new Error(`ip ${values.join(" ")}: ${stderr.toString()}`);
  return stdout.toString();
}

beforeAll(() => {
  if (missing !== undefined) return;
  ip("link", "add", LEFT, "address", MAC, "type", "veth", "peer", "name", RIGHT);
  for (const link of [LEFT, RIGHT]) ip("link", "set", link, "addrgenmode", "none");
  ip("addr", "add", "192.0.2.1/25", "brd", "192.0.2.127", "dev", LEFT);
  ip("addr", "add", "198.51.100.1/24", "dev", LEFT, "label", `${LEFT}:1`);
  ip("addr", "add", "203.0.113.1", "peer", "203.0.113.2/32", "dev", LEFT);
  ip("addr", "add", "203.0.113.9/24", "brd", "255.255.255.255", "dev", LEFT);
  ip("-6", "addr", "add", "2001:db8::1/64", "dev", LEFT, "nodad");
  ip("-6", "addr", "add", "fe80::1/10", "dev", LEFT, "nodad");
  ip("-6", "addr", "add", "2001:db8:1::1", "peer", "2001:db8:1::2/128", "dev", LEFT, "nodad");
});

beforeEach(() => {
  if (missing === undefined) for (const link of [LEFT, RIGHT]) ip("link", "set", link, "up");
});

afterAll(() => {
  if (missing === undefined) ip("link", "del", LEFT);
});

function find(name: string, list: readonly Interface[] = interfaces()): Interface {
  const found = list.find((each) => each.name === name);
  if (!found) throw new Error(`There is no ${name}`);
  return found;
}

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((done) => setTimeout(done, 1));
}

function plain({ addresses }: Interface) {
  return addresses.map(({ address, netmask, prefixLength, broadcast, peer }) =>
    [address, netmask, prefixLength, broadcast, peer].map((each) =>
      typeof each === "object" ? each.host : each,
    ),
  );
}

describe("interfaces()", () => {
  namespaced("tells flags, hardware and MTU", async () => {
    ip("link", "set", LEFT, "mtu", "1400");
    await until(() => find(LEFT).running);
    const left = find(LEFT);
    expect(left).toMatchObject({
      index: interfaceIndex(LEFT),
      up: true,
      running: true,
      loopback: false,
      broadcast: true,
      multicast: true,
      pointToPoint: false,
      mtu: 1400,
      hardwareAddress: MAC,
      hardwareBytes: new Uint8Array([2, 0, 0, 0, 0, 0xaa]),
      hardwareType: ARPHRD_ETHER,
    });
    ip("link", "set", RIGHT, "down");
    // The kernel notices a little later.
    await until(() => !find(LEFT).running);
    expect(find(LEFT)).toMatchObject({ up: true, running: false });
    expect(find(RIGHT)).toMatchObject({ up: false, running: false, addresses: [] });
    ip("link", "set", LEFT, "multicast", "off");
    expect(find(LEFT).multicast).toBe(false);
    ip("link", "set", LEFT, "multicast", "on");
  });

  namespaced("tells every address, those with labels too", () => {
    const index = interfaceIndex(LEFT);
    expect(plain(find(LEFT)).toSorted()).toEqual(
      [
        ["192.0.2.1", "255.255.255.128", 25, "192.0.2.127", undefined],
        ["198.51.100.1", "255.255.255.0", 24, undefined, undefined],
        ["203.0.113.1", "255.255.255.255", 32, undefined, "203.0.113.2"],
        ["203.0.113.9", "255.255.255.0", 24, "255.255.255.255", undefined],
        ["2001:db8::1", "ffff:ffff:ffff:ffff::", 64, undefined, undefined],
        [`fe80::1%${index}`, "ffc0::", 10, undefined, undefined],
        [
          "2001:db8:1::1",
          "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
          128,
          undefined,
          "2001:db8:1::2",
        ],
      ].toSorted(),
    );
  });

  namespaced("keeps to a family", () => {
    expect(plain(find(LEFT, interfaces({ family: "ipv4" }))).map(([host]) => host)).toEqual([
      "192.0.2.1",
      "198.51.100.1",
      "203.0.113.1",
      "203.0.113.9",
    ]);
    expect(interfaces({ family: "ipv4" }).map(({ name }) => name)).not.toContain(RIGHT);
    expect(ipAddresses({ family: "ipv6" })).toContain(`fe80::1%${interfaceIndex(LEFT)}`);
    expect(ipAddresses()).toEqual(expect.arrayContaining(["198.51.100.1", "2001:db8:1::1"]));
  });
});

describe("NetworkInterface", () => {
  const left = new NetworkInterface(LEFT);
  const shown = () => JSON.parse(ip("-j", "-d", "link", "show", LEFT))[0];

  namespaced("sets the MTU", () => {
    left.mtu = 1300;
    expect([left.mtu, shown().mtu]).toEqual([1300, 1300]);
    expect(caught(() => (left.mtu = 2 ** 30))).toMatchObject({
      code: "EINVAL",
      syscall: "ioctl",
      option: "SIOCSIFMTU",
    });
    expect(left.mtu).toBe(1300);
    left.mtu = 1500;
  });

  namespaced("sets the length of the transmit queue", () => {
    left.transmitQueueLength = 77;
    expect([left.transmitQueueLength, shown().txqlen]).toEqual([77, 77]);
    left.transmitQueueLength = 1000;
  });

  namespaced("switches it on and off, and leaves the other flags", () => {
    const flags = left.flags;
    left.up = false;
    expect([left.up, shown().flags.includes("UP")]).toEqual([false, false]);
    left.up = true;
    expect([left.up, shown().flags.includes("UP")]).toEqual([true, true]);
    expect(left.flags & IFF_MULTICAST).toBe(flags & IFF_MULTICAST);
  });

  namespaced("sets flags", () => {
    const { flags } = left;
    left.flags = flags | IFF_PROMISC | IFF_NOARP;
    expect(shown().flags).toEqual(expect.arrayContaining(["PROMISC", "NOARP"]));
    expect(left.flags & (IFF_PROMISC | IFF_NOARP)).toBe(IFF_PROMISC | IFF_NOARP);
    left.flags = flags;
    expect(left.flags).toBe(flags);
    expect(shown().flags).not.toContain("PROMISC");
  });

  namespaced("sets the hardware address, as text and as bytes", () => {
    left.hardwareAddress = "02:00:00:00:00:0B";
    expect([left.hardwareAddress, shown().address]).toEqual([
      "02:00:00:00:00:0b",
      "02:00:00:00:00:0b",
    ]);
    left.hardwareAddress = new Uint8Array([2, 0, 0, 0, 0, 0xaa]) as unknown as string;
    expect([left.hardwareAddress, find(LEFT).hardwareAddress]).toEqual([MAC, MAC]);
    // A multicast address is nobody's own.
    expect(caught(() => (left.hardwareAddress = "01:00:5e:00:00:01"))).toMatchObject({
      code: "EADDRNOTAVAIL",
      option: "SIOCSIFHWADDR",
    });
    expect(left.hardwareAddress).toBe(MAC);
    expect(left.hardwareType).toBe(ARPHRD_ETHER);
  });

  namespaced("reads where the device is: veth is nowhere", () => {
    expect(left.map).toMatchObject({ memoryStart: 0, baseAddress: 0, irq: 0 });
  });

  namespaced("knows its index, and the name goes back to it", () => {
    expect(interfaceName(left.index)).toBe(LEFT);
    expect(left.index).toBe(shown().ifindex);
  });

  namespaced("is told apart by the network namespace of a socket", () => {
    // A child in another namespace, which hands nothing over: it asks for what only we have.
    const script = `
      import { interfaceIndex } from "bun-sockets";
      try { interfaceIndex("${LEFT}"); } catch ({ code }) { console.log(code); }`;
    const child = Bun.spawnSync(["unshare", "-n", process.execPath, "-e", script], {
      cwd: `${import.meta.dir}/../..`,
    });
    expect(child.stdout.toString()).toBe("ENODEV\n");
  });
});
