/** `bun-sockets info` in namespaces whose limits and interfaces are the tests' own. */
import { afterAll, beforeAll, expect } from "bun:test";
import { existsSync, readFileSync } from "node:fs";
import { UdpSocket, UnixDatagramSocket } from "bun-sockets";
import { runCommand, WITHOUT_RIGHTS } from "../support/command.ts";
import {
  type InfoLine,
  infoLines,
  limitsOf,
  setSysctl,
  showSysctl,
} from "../support/info_lines.ts";
import { makeNamespace, type Namespace } from "../support/namespaces.ts";
import { requires, testIf } from "../support/require.ts";

const missing =
  process.env["BUN_SOCKETS_NAMESPACE"] === "1"
    ? requires("ip", "mount", "nsenter", "setpriv", "unshare")
    : "needs a network namespace of its own";
const namespaced = testIf(missing);
// Some things are settled by groups that others have, and by root alone.
const isFirstUserNamespace = /^\s*0\s+0\s+4294967295$/m.test(
  readFileSync("/proc/self/uid_map", "utf8"),
);
let namespace: Namespace;

beforeAll(() => {
  if (missing === undefined) namespace = makeNamespace();
});

afterAll(() => {
  if (missing === undefined) namespace[Symbol.dispose]();
});

/** Runs a line of a shell in the namespace and returns what it says. */
function shell(line: string): string {
  const { success, stdout, stderr } = Bun.spawnSync([...namespace.prefix, "sh", "-c", line]);
  if (!success) throw new Error(`${line}: ${stderr}`);
  return stdout.toString().trim();
}

/** What comes before a command that is to run in the namespace, after a line of a shell. */
function after(line: string): string[] {
  return [...namespace.prefix, "unshare", "-m", "sh", "-c", `${line} && exec "$@"`, "sh"];
}

const OWN_SYS = "mount -t sysfs sysfs /sys";

function interfacesOf(lines: readonly InfoLine[]): ReadonlyMap<unknown, InfoLine> {
  const found = lines.filter(({ type }) => type === "interface");
  return new Map(found.map((line) => [line["name"], line]));
}

namespaced("changed sysctls are seen, and the commands that it gives make them good again", () => {
  const { prefix } = namespace;
  const changes = {
    "net.unix.max_dgram_qlen": "7",
    "net.ipv4.ip_local_port_range": "40000 40999",
    "net.core.optmem_max": "20480",
    ...(isFirstUserNamespace && { "net.ipv4.ping_group_range": "1 0" }),
  };
  for (const [name, value] of Object.entries(changes))
    shell(setSysctl(`sysctl -w ${name}="${value}"`));
  shell(setSysctl("sysctl -w net.ipv4.igmp_max_memberships=33"));
  shell(setSysctl("sysctl -w net.ipv4.ip_unprivileged_port_start=77"));
  const before = infoLines("limits", { prefix });
  const limits = limitsOf(before);
  expect(limits.get("net.unix.max_dgram_qlen")).toMatchObject({ value: 7, status: "low" });
  expect(limits.get("net.ipv4.ip_local_port_range")).toMatchObject({
    ...{ value: [40000, 40999], status: "low" },
    meaning: expect.stringMatching(/^1000 ports /),
  });
  if (isFirstUserNamespace)
    expect(limits.get("net.ipv4.ping_group_range")).toMatchObject({ value: [1, 0], status: "off" });
  expect(limits.get("net.core.optmem_max")).toMatchObject({ value: 20480, status: "low" });
  expect(limits.get("net.ipv4.igmp_max_memberships")).toMatchObject({ value: 33, status: "ok" });
  expect(limits.get("net.ipv4.ip_unprivileged_port_start")).toMatchObject({
    ...{ value: 77, status: "ok", change: null },
    meaning: "ports below 77 take a right",
  });
  const { low, off } = before.at(-1) as unknown as { low: string[]; off: string[] };
  expect(low.filter((name) => name in changes).sort()).toEqual([
    "net.core.optmem_max",
    "net.ipv4.ip_local_port_range",
    "net.unix.max_dgram_qlen",
  ]);
  if (isFirstUserNamespace) expect(off).toContain("net.ipv4.ping_group_range");

  for (const name of Object.keys(changes)) {
    const { change } = limits.get(name) ?? {};
    expect(change).toStartWith(`sudo sysctl -w ${name}=`);
    shell(setSysctl(`${change}`.replace("sudo ", "")));
  }
  const good = limitsOf(infoLines("limits", { prefix }));
  for (const name of Object.keys(changes)) {
    expect(good.get(name), name).toMatchObject({ status: "ok", change: null });
    const theirs = shell(showSysctl(name)).split(/\s+/).map(Number);
    expect([good.get(name)?.value].flat()).toEqual(theirs);
  }
});

namespaced("a Unix datagram socket holds as many as it says", () => {
  shell(setSysctl("sysctl -w net.unix.max_dgram_qlen=23"));
  const { datagrams } =
    limitsOf(infoLines("limits", { prefix: namespace.prefix })).get("net.unix.max_dgram_qlen") ??
    {};
  const [socket, sender] = namespace.inside(() => [
    UnixDatagramSocket.bind("unix:@bun-sockets-info"),
    UnixDatagramSocket.open(),
  ]);
  using _socket = socket;
  using _sender = sender;
  let sent = 0;
  while (sent < 100 && sender.trySendTo(new Uint8Array(1), socket.localAddress) !== undefined)
    sent++;
  expect(sent).toBe(datagrams as number);
});

namespaced("what was lost is counted, of this namespace alone", () => {
  const lost = () => {
    const [line] = infoLines("lost", { prefix: namespace.prefix });
    return line as unknown as Record<"udp4" | "udp6", Record<string, number>>;
  };
  const before = lost();
  for (const family of ["127.0.0.1", "[::1]"] as const) {
    const [socket, sender] = namespace.inside(() => [
      UdpSocket.bind(`${family}:0`, { receiveBufferBytes: 4096 }),
      UdpSocket.open(family === "[::1]" ? "ipv6" : "ipv4"),
    ]);
    using _socket = socket;
    using _sender = sender;
    for (let i = 0; i < 100; i++) sender.sendToSync("hello", socket.localAddress);
    let received = 0;
    while (socket.tryReceive(new Uint8Array(9)) !== undefined) received++;
    const key = family === "[::1]" ? "udp6" : "udp4";
    const drops = (lost()[key]["RcvbufErrors"] ?? 0) - (before[key]["RcvbufErrors"] ?? 0);
    expect([received + drops, drops > 50]).toEqual([100, true]);
  }
});

namespaced(
  "interfaces have the MTU, the queues, the state and the addresses that ip(8) tells",
  () => {
    namespace.ip(
      ...["link", "add", "name", "bs-info0", "mtu", "1372", "numtxqueues", "3", "numrxqueues", "2"],
      ...["type", "veth", "peer", "name", "bs-info1"],
    );
    namespace.ip("link", "set", "bs-info0", "txqueuelen", "321");
    namespace.ip("addr", "add", "10.82.0.1/24", "dev", "bs-info0");
    namespace.ip("link", "set", "bs-info0", "up");
    namespace.ip("link", "set", "bs-info1", "up");
    try {
      const file = "/sys/class/net/bs-info0/queues/rx-1/rps_cpus";
      if (isFirstUserNamespace) shell(`unshare -m sh -c '${OWN_SYS} && echo 3 > ${file}'`);
      const lines = infoLines("interfaces", { prefix: after(OWN_SYS) });
      const found = interfacesOf(lines);
      expect(lines.at(-1)).toMatchObject({ unreadable: [] });
      const theirs = JSON.parse(namespace.ip("-j", "-d", "addr", "show")) as {
        readonly [name: string]: unknown;
        readonly addr_info: readonly { readonly local: string; readonly prefixlen: number }[];
      }[];
      expect([...found.keys()]).toEqual(theirs.map(({ ifname }) => ifname));
      for (const { ifname, ifindex, mtu, flags, txqlen, addr_info, ...rest } of theirs) {
        const name = ifname as string;
        expect(found.get(name), name).toMatchObject({
          ...{ name, index: ifindex, mtu },
          up: (flags as string[]).includes("UP"),
          loopback: (flags as string[]).includes("LOOPBACK"),
          addresses: addr_info.map(({ local, prefixlen }) =>
            expect.stringMatching(new RegExp(`^${local}(%\\d+)?/${prefixlen}$`)),
          ),
          queues: {
            send: rest["num_tx_queues"],
            receive: rest["num_rx_queues"],
            sendLength: txqlen,
            receiveSpread: isFirstUserNamespace && name === "bs-info0" ? 1 : 0,
          },
        });
      }
      expect(found.get("bs-info0")).toMatchObject({ mtu: 1372, queues: { send: 3, receive: 2 } });
    } finally {
      namespace.ip("link", "del", "bs-info0");
    }
  },
);

// What ethtool -K does: the numbers of its requests are those of linux/ethtool.h.
const SWITCH = `
import fcntl, socket, struct, sys
def ask(name, command, value):
    data = bytearray(struct.pack("II", command, value))
    address = __import__("ctypes").addressof(__import__("ctypes").c_char.from_buffer(data))
    fcntl.ioctl(socket.socket(socket.AF_INET, socket.SOCK_DGRAM), 0x8946,
                struct.pack("16sP16x", name.encode(), address))
    return struct.unpack("II", data)[1]
name, gro, gso = sys.argv[1:]
ask(name, 0x2c, int(gro)); ask(name, 0x24, int(gso))
print(ask(name, 0x2b, 0), ask(name, 0x23, 0))
`;

const withPython = testIf(missing ?? requires("python3"));
withPython("offloads are those that were switched, and the driver its name", () => {
  namespace.ip("link", "add", "name", "bs-info2", "type", "veth", "peer", "name", "bs-info3");
  try {
    for (const [gro, gso] of [
      ["0", "1"],
      ["1", "0"],
    ] as const) {
      const command = ["python3", "-c", SWITCH, "bs-info2", gro, gso];
      const { stdout, stderr } = Bun.spawnSync([...namespace.prefix, ...command]);
      expect(stdout.toString().trim(), stderr.toString()).toBe(`${gro} ${gso}`);
      const lines = infoLines("interfaces", { prefix: namespace.prefix });
      expect(interfacesOf(lines).get("bs-info2")).toMatchObject({
        driver: "veth",
        offloads: { "rx-gro": gro === "1", "tx-generic-segmentation": gso === "1" },
      });
    }
  } finally {
    namespace.ip("link", "del", "bs-info2");
  }
});

namespaced("where /sys is of another namespace it says so, and shows none of its queues", () => {
  // The mounted one has an interface more than this one, or one less.
  namespace.ip("link", "add", "name", "bs-info4", "type", "veth", "peer", "name", "bs-info5");
  try {
    const lines = infoLines("interfaces", { prefix: namespace.prefix });
    expect(lines.at(-1)).toMatchObject({
      unreadable: [{ what: "/sys/class/net", reason: "it shows another network namespace" }],
    });
    for (const line of interfacesOf(lines).values()) expect(line).toMatchObject({ queues: null });
  } finally {
    namespace.ip("link", "del", "bs-info4");
  }
});

namespaced(
  "without /proc/sys and /sys, as containers may be, it says what it could not read",
  () => {
    const hide = ["/proc/sys", "/sys"]
      .map((folder) => `mount -t tmpfs none ${folder}`)
      .join(" && ");
    const lines = infoLines({ prefix: after(hide) });
    const limits = limitsOf(lines);
    const { value, status, datagrams, change } = limits.get("net.core.rmem_max") ?? {};
    expect({ value, status, datagrams, change }).toEqual({
      ...{ value: null, status: "unknown", datagrams: null, change: null },
    });
    const sysctls = [...limits.keys()].filter((name) => name.includes("."));
    expect(sysctls.length).toBeGreaterThan(12);
    for (const name of sysctls) expect(limits.get(name)?.status, name).toBe("unknown");
    // What is not in there is still told.
    expect(limits.get("ulimit -n")?.value).toBeNumber();
    expect(lines.find(({ type }) => type === "lost")?.["udp4"]).toMatchObject({ NoPorts: 0 });
    const { unreadable } = lines.at(-1) as unknown as {
      unreadable: { what: string; reason: string }[];
    };
    for (const name of sysctls) {
      const what = `/proc/sys/${name.replaceAll(".", "/")}`;
      expect(unreadable).toContainEqual({ what, reason: "ENOENT" });
    }
    expect(unreadable).toContainEqual({ what: "/sys/class/net", reason: "ENOENT" });

    const { exitCode, stdout, stderr } = runCommand(["info", "--strict"], { prefix: after(hide) });
    expect([exitCode, stderr]).toEqual([0, ""]);
    expect(stdout).toContain("\nNot readable here\n");
    expect(stdout).toMatch(/^ {2}net\.core\.rmem_max +\? +cannot be read here$/m);
  },
);

namespaced(
  "where files of /proc are empty or missing it says so of each, and tells the rest",
  () => {
    // The shell's number is that of the command in the end.
    const empty = ["cpuinfo", "stat", "$$/limits"];
    const mounts = empty.map((name) => `mount --bind /dev/null /proc/${name}`);
    const lines = infoLines({
      prefix: after([...mounts, "mount -t tmpfs none /proc/$$/net"].join(" && ")),
    });
    const [machine] = lines;
    expect(machine).toMatchObject({ cpu: null, virtual: null, bun: Bun.version });
    expect(lines.find(({ type }) => type === "lost")).toMatchObject({ udp4: null, udp6: null });
    const limits = limitsOf(lines);
    expect(limits.get("ulimit -n")).toMatchObject({ value: null, status: "unknown" });
    expect(limits.get("net.unix.max_dgram_qlen")?.value).toBeNumber();
    const { unreadable } = lines.at(-1) as unknown as { unreadable: { what: string }[] };
    const missed = unreadable.map(({ what }) => what);
    const names = ["the model of the CPU", "/proc/net/snmp", "/proc/self/limits"];
    expect(missed).toEqual(expect.arrayContaining(names));
  },
);

namespaced("with loopback down it takes the charge for what it commonly is", () => {
  using other = makeNamespace();
  other.ip("link", "set", "lo", "down");
  const lines = infoLines("limits", { prefix: other.prefix });
  expect(lines[0]).toMatchObject({ type: "demand", chargedBytes: 832 });
  const what = "the charge of a datagram";
  expect(lines.at(-1)).toMatchObject({
    unreadable: expect.arrayContaining([{ what, reason: "nothing comes over loopback" }]),
  });
});

namespaced("without any right it tells the same, and which capabilities that costs", () => {
  const prefix = [...namespace.prefix, ...WITHOUT_RIGHTS];
  const [mine, theirs] = [infoLines({ prefix }), infoLines({ prefix: namespace.prefix })];
  expect([...limitsOf(mine).keys()]).toEqual([...limitsOf(theirs).keys()]);
  expect(mine.at(-1)?.["unreadable"]).toEqual(theirs.at(-1)?.["unreadable"]);
  expect([...interfacesOf(mine).values()]).toEqual([...interfacesOf(theirs).values()]);
  const raw = (lines: readonly InfoLine[]) =>
    lines.find(({ type, name }) => type === "capability" && name === "raw");
  expect(raw(theirs)).toMatchObject({ supported: true, hint: null });
  expect(raw(mine)).toMatchObject({
    supported: false,
    reason: "EPERM: Operation not permitted",
    hint: expect.stringContaining("CAP_NET_RAW"),
  });
});

const HEADER = "/usr/include/linux/ethtool.h";

testIf(existsSync(HEADER) ? undefined : "needs the headers of Linux")(
  "the numbers of the requests above are those of linux/ethtool.h",
  () => {
    const text = readFileSync(HEADER, "utf8");
    for (const [name, value] of [
      ["ETHTOOL_GGRO", "0x0000002b"],
      ["ETHTOOL_SGRO", "0x0000002c"],
      ["ETHTOOL_GGSO", "0x00000023"],
      ["ETHTOOL_SGSO", "0x00000024"],
    ] as const)
      expect(text).toMatch(new RegExp(`^#define ${name}\\s+${value}\\b`, "m"));
  },
);
