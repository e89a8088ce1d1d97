/**
 * What kernel and rights allow. Children, in network namespaces of their own: what is found is
 * remembered, and rights and sysctls belong to a process and a namespace.
 */
import { describe, expect, test } from "bun:test";
import { type Capabilities, capabilities, type SystemError } from "bun-sockets";
import {
  EACCES,
  EMFILE,
  ENOMEM,
  ENOPROTOOPT,
  ENOSYS,
  EPERM,
  SO_ATTACH_REUSEPORT_CBPF,
  UDP_SEGMENT,
} from "bun-sockets/sys";
import type { Libc } from "../../lib/ffi/libc.ts";
import { openDescriptors } from "../support/descriptors.ts";
import { failWith, replaceEntry, replaceLibc } from "../support/faults.ts";
import { type Missing, requires, testIf } from "../support/require.ts";

const INDEX = JSON.stringify(new URL("../../lib/index.ts", import.meta.url));
const SYS = JSON.stringify(new URL("../../lib/sys/index.ts", import.meta.url));
const TIMEOUT_MS = 30_000;

const ROOT_USER = 0;
const unshare = ["unshare", process.getuid?.() === ROOT_USER ? "-n" : "-rn"];
// Everything that root can do goes with the bounding set, whoever is root.
const dropRights = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"];

function missing(): Missing {
  const absent = requires("unshare", "setpriv", "ip");
  if (absent) return absent;
  const { success } = Bun.spawnSync([...unshare, "true"]);
  return success ? undefined : "needs a network namespace of its own";
}
const inNamespace = testIf(missing());

/** Runs a module in a namespace with these sysctls; what it prints is JSON. */
function run(
  script: string,
  sysctls: Readonly<Record<string, string>> = {},
  prefix: readonly string[] = [],
): unknown {
  const lines = Object.entries(sysctls).map(
    ([name, value]) => `echo "${value}" > /proc/sys/net/${name} || exit 1`,
  );
  const setUp = ["ip link set lo up", ...lines, 'exec "$@"'].join("\n");
  return runChild([...unshare, "sh", "-c", setUp, "sh", ...prefix], script);
}

function runChild(command: readonly string[], script: string): unknown {
  const child = Bun.spawnSync([...command, process.execPath, "-e", script], {
    env: { ...process.env, BUN_SOCKETS_LEAKS: "" },
    timeout: TIMEOUT_MS,
  });
  expect({ exitCode: child.exitCode, errors: child.stderr.toString() }).toEqual({
    exitCode: 0,
    errors: "",
  });
  return JSON.parse(child.stdout.toString());
}

const LIST = `
  import { capabilities } from ${INDEX};
  console.log(JSON.stringify(capabilities()));
`;

const namesOf = (found: Capabilities, supported: boolean) =>
  (Object.keys(found) as (keyof Capabilities)[]).filter(
    (name) => found[name].supported === supported,
  );

describe("capabilities", () => {
  test("gives each row a reason where it is not supported, and none where it is", () => {
    const found = capabilities();
    const rows = Object.entries(found);
    expect(rows.length).toBeGreaterThan(35);
    for (const [name, { supported, reason, hint }] of rows) {
      expect([name, reason === ""]).toEqual([name, supported]);
      if (supported) expect(hint).toBeUndefined();
    }
    expect(namesOf(found, true)).toEqual(expect.arrayContaining(["ipv4", "unix", "memfd"]));
  });

  test("remembers what it found, frozen", () => {
    const found = capabilities();
    expect(capabilities()).toBe(found);
    expect(Object.isFrozen(found) && Object.isFrozen(found.ipv4)).toBe(true);
  });

  test("leaves no descriptor, no mapping and no thread", () => {
    const printed = runChild(
      [],
      `
      import { readdirSync, readFileSync, readlinkSync } from "node:fs";
      import { capabilities, UdpSocket } from ${INDEX};
      UdpSocket.open("ipv4").close();
      const all = () => ({
        descriptors: readdirSync("/proc/self/fd").map((fd) => {
          try { return readlinkSync("/proc/self/fd/" + fd); } catch { return ""; }
        }).filter((link) => !link.startsWith("/proc/")).sort(),
        // Without the heap, which grows as it likes.
        executable: readFileSync("/proc/self/maps", "latin1").split("\\n")
          .filter((line) => / r-xp .* 0 *$/.test(line)).length,
        threads: readdirSync("/proc/self/task").length,
      });
      const before = all();
      capabilities();
      console.log(JSON.stringify([before, all()]));
    `,
    );
    const [before, after] = printed as [unknown, unknown];
    expect(after).toEqual(before);
  });

  inNamespace("counts no datagram as lost", () => {
    const found = run(`
      import { readFileSync } from "node:fs";
      import { capabilities } from ${INDEX};
      const { udpSegmentation } = capabilities();
      const [names, values] = readFileSync("/proc/net/snmp", "utf8").split("\\n")
        .filter((line) => line.startsWith("Udp:")).map((line) => line.split(" "));
      const counters = Object.fromEntries(names.map((name, i) => [name, Number(values[i])]));
      const { InErrors, RcvbufErrors, OutDatagrams } = counters;
      console.log(JSON.stringify([udpSegmentation.supported, OutDatagrams > 0, InErrors, RcvbufErrors]));
    `);
    expect(found).toEqual([true, true, 0, 0]);
  });

  inNamespace("finds the rights of root in a namespace", () => {
    const found = run(LIST) as Capabilities;
    const given = [
      "raw",
      "packet",
      "packetRing",
      "lowPorts",
      "mark",
      "transparent",
      "bindToDevice",
      "ipv6Loopback",
      "multicast",
    ];
    expect(namesOf(found, true)).toEqual(expect.arrayContaining(given));
  });

  inNamespace("finds that they are missing, in the kernel's words, with what gives them", () => {
    const sysctls = {
      "ipv4/ip_unprivileged_port_start": "1024",
    };
    const found = run(LIST, sysctls, dropRights) as Capabilities;
    const EPERM_WORDS = "EPERM: Operation not permitted";
    for (const [name, reason, hint] of [
      ["raw", EPERM_WORDS, "It takes CAP_NET_RAW: run "],
      ["rawIpv6", EPERM_WORDS, "It takes CAP_NET_RAW: run "],
      ["packet", EPERM_WORDS, `sudo setcap cap_net_raw+ep ${process.execPath}`],
      ["packetRing", EPERM_WORDS, "--cap-add NET_RAW"],
      ["xdp", EPERM_WORDS, "CAP_NET_RAW"],
      ["mark", EPERM_WORDS, "CAP_NET_RAW or CAP_NET_ADMIN"],
      ["transparent", EPERM_WORDS, "CAP_NET_RAW or CAP_NET_ADMIN"],
      ["bufferForce", EPERM_WORDS, "CAP_NET_ADMIN in the first user namespace"],
      ["namespaces", EPERM_WORDS, "CAP_SYS_ADMIN"],
      ["lowPorts", "EACCES: Permission denied", "net.ipv4.ip_unprivileged_port_start=0"],
      ["ping", "EACCES: Permission denied", "sysctl -w net.ipv4.ping_group_range="],
      ["pingIpv6", "EACCES: Permission denied", "sysctl -w net.ipv4.ping_group_range="],
    ] as const) {
      const row = found[name];
      expect([name, row.supported, row.reason]).toEqual([name, false, reason]);
      expect(row.hint).toContain(hint);
    }
    const anybodys = [
      "ipv4",
      "ipv6",
      "unix",
      "unixAbstract",
      "reusePortProgram",
      "udpSegmentation",
    ];
    expect(namesOf(found, true)).toEqual(expect.arrayContaining(anybodys));
  });

  inNamespace("finds what sysctls give and take", () => {
    const given = run(
      LIST,
      {
        "ipv4/ip_unprivileged_port_start": "0",
        "ipv4/ping_group_range": "0 0",
        "ipv4/tcp_fastopen": "3",
      },
      dropRights,
    ) as Capabilities;
    expect(namesOf(given, true)).toEqual(
      expect.arrayContaining(["lowPorts", "ping", "pingIpv6", "fastOpen", "fastOpenListen"]),
    );
    const taken = run(LIST, {
      "ipv4/tcp_fastopen": "0",
      "ipv6/conf/lo/disable_ipv6": "1",
      "mptcp/enabled": "0",
    }) as Capabilities;
    const { fastOpen, fastOpenListen, ipv6, ipv6Loopback, mptcp } = taken;
    expect(fastOpen.reason).toBe("ENOTSUP: Operation not supported");
    expect(fastOpen.hint).toContain("sudo sysctl -w net.ipv4.tcp_fastopen=3");
    expect(fastOpenListen.reason).toBe("net.ipv4.tcp_fastopen is 0: without its bit 2");
    expect(ipv6.supported).toBe(true);
    expect(ipv6Loopback.reason).toBe("EADDRNOTAVAIL: Cannot assign requested address");
    expect(ipv6Loopback.hint).toContain("net.ipv6.conf.lo.disable_ipv6=0");
    expect(mptcp.reason).toBe("ENOPROTOOPT: Protocol not available");
    expect(mptcp.hint).toContain("net.mptcp.enabled=1");
  });

  inNamespace("stays in its namespace when it tries to enter one", () => {
    const printed = run(`
      import { readlinkSync } from "node:fs";
      import { capabilities } from ${INDEX};
      const namespace = () => readlinkSync("/proc/thread-self/ns/net");
      const before = namespace();
      const { supported } = capabilities().namespaces;
      console.log(JSON.stringify([supported, namespace() === before]));
    `);
    expect(printed).toEqual([true, true]);
  });

  test("throws EMFILE when nothing can be opened, and tries again the next time", () => {
    const printed = runChild(
      ["sh", "-c", 'ulimit -n 128; exec "$@"', "sh"],
      `
      import { capabilities, Socket, UdpSocket } from ${INDEX};
      const kept = [];
      let code;
      try { for (;;) kept.push(UdpSocket.open("ipv4")); } catch (error) { code = error.code; }
      let error;
      try { capabilities(); } catch (thrown) { error = thrown; }
      for (const each of kept) each.close();
      const { ipv4, helperThread } = capabilities();
      console.log(JSON.stringify([code, error?.code, error?.hint !== undefined,
        ipv4.supported, helperThread.supported]));
    `,
    );
    expect(printed).toEqual(["EMFILE", "EMFILE", true, true, true]);
  });
});

describe("capabilities of a kernel without", () => {
  // What it has found it remembers: so each test evaluates the module anew.
  async function fresh(): Promise<Capabilities> {
    const module = await import(`../../lib/capabilities.ts?${Math.random()}`);
    return (module as { capabilities: typeof capabilities }).capabilities();
  }

  type Entry = (...values: never[]) => unknown;

  /** Lets an entry fail where its arguments are such. */
  function failing<Name extends keyof Libc>(
    name: Name,
    errno: number,
    where: (...values: readonly unknown[]) => boolean = () => true,
  ) {
    return replaceLibc(name, (original) => {
      const entry: Entry = (...values) =>
        where(...values) ? failWith(errno) : (original as Entry)(...values);
      return entry as unknown as Libc[Name];
    });
  }

  test.each([
    ["io_uring_setup", ENOSYS, "ioUring", "ENOSYS: Function not implemented", "io_uring_disabled"],
    ["io_uring_setup", EPERM, "ioUring", "EPERM: Operation not permitted", "the helper thread"],
    ["io_uring_setup", ENOMEM, "ioUring", "ENOMEM: Cannot allocate memory", "ulimit -l"],
    ["memfd_create", ENOSYS, "memfd", "ENOSYS: Function not implemented", ""],
    ["setns", EPERM, "namespaces", "EPERM: Operation not permitted", "CAP_SYS_ADMIN"],
    ["mprotect", EACCES, "helperThread", "EACCES: Permission denied", ""],
    ["socketpair", ENOSYS, "peerPidfd", "ENOSYS: Function not implemented", ""],
  ] as const)("%s, which gives %d: %s says why", async (entry, errno, name, reason, hint) => {
    const before = openDescriptors();
    using fault = failing(entry, errno);
    const row = (await fresh())[name];
    expect(fault.calls).toBeGreaterThan(0);
    expect([row.supported, row.reason]).toEqual([false, reason]);
    expect(row.hint ?? "").toContain(hint);
    // Fewer, where Bun has closed those of a child meanwhile.
    expect(openDescriptors()).toBeLessThanOrEqual(before);
  });

  test.each([
    ["udpSegmentation", UDP_SEGMENT],
    ["reusePortProgram", SO_ATTACH_REUSEPORT_CBPF],
  ] as const)("an option: %s says why, and others are none the worse", async (name, option) => {
    using _ = failing("setsockopt", ENOPROTOOPT, (_fd, _level, number) => number === option);
    const found = await fresh();
    expect(found[name].reason).toBe("ENOPROTOOPT: Protocol not available");
    expect(found[name].hint).toContain("newer kernel");
    expect(found.udpCoalescing.supported).toBe(capabilities().udpCoalescing.supported);
  });

  test.each(["memfd_create", "io_uring_setup", "socketpair"] as const)(
    "room for %s throws EMFILE, and leaves nothing open",
    async (entry) => {
      const before = openDescriptors();
      using _ = failing(entry, EMFILE);
      const error = (await fresh().catch((thrown) => thrown)) as SystemError;
      expect(error.code).toBe("EMFILE");
      expect(openDescriptors()).toBeLessThanOrEqual(before);
    },
  );

  test("libc's functions: the helper thread says which", async () => {
    using _ = replaceEntry("dlsym", () => null);
    expect((await fresh()).helperThread).toEqual({
      supported: false,
      reason: "Cannot find syscall in the C library",
    });
  });
});

describe("hints of calls that take a right", () => {
  const sysctls = {
    "ipv4/ip_unprivileged_port_start": "1024",
  };
  const calls: Readonly<Record<string, readonly [call: string, code: string, hint: string]>> = {
    "a raw socket": ['Socket.create("ipv4", "raw", { protocol: 1 })', "EPERM", "CAP_NET_RAW"],
    "a packet socket": ['Socket.create(sys.AF_PACKET, "raw")', "EPERM", "CAP_NET_RAW"],
    "a ping socket": [
      'Socket.create("ipv4", "datagram", { protocol: sys.IPPROTO_ICMP })',
      "EACCES",
      "net.ipv4.ping_group_range",
    ],
    "a low UDP port": ['UdpSocket.bind("127.0.0.1:53")', "EACCES", "CAP_NET_BIND_SERVICE"],
    "a low TCP port": [
      'TcpListener.listen("127.0.0.1:80")',
      "EACCES",
      "net.ipv4.ip_unprivileged_port_start=0",
    ],
    SO_MARK: ["udp.setOption(SocketOption.mark, 1)", "EPERM", "CAP_NET_RAW or CAP_NET_ADMIN"],
    SO_PRIORITY: [
      "udp.setOption(SocketOption.priority, 7)",
      "EPERM",
      "CAP_NET_RAW or CAP_NET_ADMIN",
    ],
    SO_RCVBUFFORCE: [
      "udp.setRawOption(sys.SOL_SOCKET, sys.SO_RCVBUFFORCE, 1 << 20)",
      "EPERM",
      "CAP_NET_ADMIN in the first user namespace",
    ],
    IP_TRANSPARENT: [
      "udp.setOption(IpOption.transparent, true)",
      "EPERM",
      "CAP_NET_RAW or CAP_NET_ADMIN",
    ],
    "a second SO_BINDTODEVICE": [
      `(udp.setOption(SocketOption.bindToDevice, "lo"),
        udp.setOption(SocketOption.bindToDevice, ""))`,
      "EPERM",
      "CAP_NET_RAW",
    ],
  };

  inNamespace("name the right and the command", () => {
    const script = `
      import { IpOption, Socket, SocketOption, TcpListener, UdpSocket } from ${INDEX};
      import * as sys from ${SYS};
      const calls = {${Object.entries(calls).map(([name, [call]]) => `${JSON.stringify(name)}: (udp) => ${call}`)}};
      const told = {};
      for (const [name, call] of Object.entries(calls)) {
        using udp = UdpSocket.open("ipv4");
        try { call(udp)?.close?.(); told[name] = ["", ""]; }
        catch (error) { told[name] = [error.code, error.hint]; }
      }
      console.log(JSON.stringify(told));
    `;
    const told = run(script, sysctls, dropRights) as Record<string, [string, string]>;
    for (const [name, [, code, hint]] of Object.entries(calls)) {
      expect([name, told[name]?.[0]]).toEqual([name, code]);
      expect(told[name]?.[1], name).toContain(hint);
    }
    // With the rights none of them is refused for lack of one.
    const allowed = run(script, { ...sysctls, "ipv4/ping_group_range": "0 0" });
    const codes = Object.values(allowed as typeof told).map(([code]) => code);
    expect(codes.filter((code) => code === "EACCES")).toEqual([]);
  });
});
