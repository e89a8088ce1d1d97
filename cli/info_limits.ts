/**
 * The kernel's limits and those of the process, and what each means in datagrams.
 *
 * @module
 */
import { LossWindow, UdpSocket } from "bun-sockets";
import { integersOf, type KernelFiles, pageBytes } from "./info_files.ts";

/** What the limits are held against: so many datagrams a second, while nobody reads for a while. */
export interface Demand {
  readonly rate: number;
  readonly pauseMs: number;
  readonly payloadBytes: number;
  /** What the kernel charges a receive buffer for one of them. */
  readonly chargedBytes: number;
  /** How many come in the pause. */
  readonly datagrams: number;
}

/**
 * "low": too low for the demand, "off": it keeps something from working, "unknown": it cannot be
 * read here.
 */
export type LimitStatus = "ok" | "low" | "off" | "unknown";

/** A limit as it is. */
export interface Limit {
  /** A sysctl, or a limit of the process as a shell names it. */
  readonly name: string;
  /** As the kernel has it; "unlimited" of a process; null where it cannot be read. */
  readonly value: number | readonly number[] | string | null;
  /** What is counted: "bytes", "packets", … Null of what is a switch or a range. */
  readonly unit: string | null;
  /** How many datagrams that are, where it is a limit of datagrams. */
  readonly datagrams: number | null;
  readonly meaning: string;
  readonly status: LimitStatus;
  /** The command that changes it, where it is low or off. */
  readonly change: string | null;
}

/** What a row makes of what was read. */
interface Finding {
  readonly meaning: string;
  readonly unit?: string;
  readonly datagrams?: number;
  readonly status?: "low" | "off";
  /** What it should be. */
  readonly want?: string | number;
}

/** What a row can look at. */
interface Context {
  readonly demand: Demand;
  readonly files: KernelFiles;
}

type Judge = (values: readonly number[], context: Context) => Finding;

/** A batch, as programs commonly make it. */
const BATCH = 64;
/** What pages of memory, and packets, are worth rounding up to. */
const ROUND_BYTES = 4096;
const ROUND_PACKETS = 100;
const MEBIBYTE = 1 << 20;

/** What a datagram with so much payload takes in the kernel where that cannot be asked. */
const CHARGED_BYTES = 832;

// What is full when it holds less than needed: the text says what it holds.
const SYSCTLS: Readonly<Record<string, Judge>> = {
  "net.core.rmem_default": ([bytes = 0], { demand }) => {
    const datagrams = held(bytes, demand);
    const ask = Math.ceil((demand.datagrams * demand.chargedBytes) / 2);
    const more = datagrams < demand.datagrams ? `; ask with receiveBufferBytes: ${ask}` : "";
    return { datagrams, unit: "bytes", meaning: `the receive buffer of who asks for none${more}` };
  },
  "net.core.rmem_max": ([bytes = 0], { demand }) => {
    // The kernel doubles what is asked for.
    const datagrams = held(2 * bytes, demand);
    const want = roundUp((demand.datagrams * demand.chargedBytes) / 2, ROUND_BYTES);
    return {
      datagrams,
      unit: "bytes",
      meaning: "the most that receiveBufferBytes gives, which the kernel doubles",
      ...lowUnless(datagrams >= demand.datagrams, want),
    };
  },
  "net.core.wmem_default": ([bytes = 0], { demand }) => ({
    datagrams: held(bytes, demand),
    unit: "bytes",
    meaning: "the send buffer of who asks for none: what waits for the device",
  }),
  "net.core.wmem_max": ([bytes = 0], { demand }) => {
    const datagrams = held(2 * bytes, demand);
    const want = roundUp((BATCH * demand.chargedBytes) / 2, ROUND_BYTES);
    return {
      datagrams,
      unit: "bytes",
      meaning: `the most that sendBufferBytes gives; a batch is ${BATCH}`,
      ...lowUnless(datagrams >= BATCH, want),
    };
  },
  "net.core.optmem_max": ([bytes = 0]) => ({
    unit: "bytes",
    meaning: "of a socket, for control messages, filters, and zero-copy sends on their way",
    // A batch of those takes 52 KiB.
    ...lowUnless(bytes >= 64 << 10, 128 << 10),
  }),
  "net.core.netdev_max_backlog": ([packets = 0], { demand }) => ({
    datagrams: packets,
    unit: "packets",
    meaning: "what one CPU lets wait that comes by lo, veth, a tunnel or RPS",
    ...lowUnless(packets >= demand.datagrams, roundUp(demand.datagrams, ROUND_PACKETS)),
  }),
  "net.core.netdev_budget": () => ({
    unit: "packets",
    meaning: "that a CPU takes from its devices before it does something else",
  }),
  "net.core.netdev_budget_usecs": ([us = 0]) => ({
    unit: "µs",
    meaning: `or for how long: ${us / 1000} ms`,
  }),
  "net.core.busy_poll": ([us = 0]) => ({
    unit: "µs",
    meaning: us === 0 ? "poll() does not look in the driver" : `poll() looks for ${us} µs`,
  }),
  "net.core.bpf_jit_enable": ([mode = 0]) => ({
    meaning: mode === 0 ? "filters are interpreted" : "filters run as machine code",
    ...lowUnless(mode !== 0, 1),
  }),
  "net.ipv4.udp_mem": (pages, { demand }) => {
    const [min = 0, pressure = 0, max = 0] = pages;
    const page = pageBytes();
    const datagrams = held(max * page, demand);
    const want = Math.ceil((demand.datagrams * demand.chargedBytes) / page);
    const wanted = `${Math.min(min, want)} ${Math.min(pressure, want)} ${want}`;
    return {
      datagrams,
      unit: "pages",
      meaning: `memory for all UDP sockets together: ${round1((max * page) / MEBIBYTE)} MiB`,
      ...lowUnless(datagrams >= demand.datagrams, wanted),
    };
  },
  "net.unix.max_dgram_qlen": ([length = 0]) => ({
    // One more than its name says: it is full when more than so many wait.
    datagrams: length + 1,
    unit: "datagrams",
    meaning: "what an unconnected Unix datagram socket lets wait; then the sender would block",
    ...lowUnless(length >= BATCH, 8 * BATCH),
  }),
  "net.ipv4.ping_group_range": ([first = 0, last = 0]) => {
    const groups = [process.getegid?.() ?? 0, ...(process.getgroups?.() ?? [])];
    const isIn = groups.some((group) => group >= first && group <= last);
    const who = first > last ? "no group" : `groups ${first} to ${last}`;
    return {
      meaning: `${who} may open a PingSocket without a right: ${isIn ? "so may" : "not"} this process`,
      ...(!isIn && { status: "off", want: "0 2147483647" }),
    };
  },
  "net.ipv4.ip_local_port_range": ([first = 0, last = 0]) => {
    const ports = Math.max(0, last - first + 1);
    return {
      meaning: `${ports} ports for sockets of one address that ask for port 0`,
      ...lowUnless(ports >= 1024, "32768 60999"),
    };
  },
  "net.ipv4.ip_unprivileged_port_start": ([port = 0]) => ({
    meaning: port === 0 ? "every port is free to all" : `ports below ${port} take a right`,
  }),
  "net.ipv4.igmp_max_memberships": () => ({
    unit: "groups",
    meaning: "of IPv4 that one socket can join",
  }),
  "net.ipv4.igmp_max_msf": () => ({
    unit: "senders",
    meaning: "that a socket can choose of an IPv4 group",
  }),
  "net.ipv6.mld_max_msf": () => ({
    unit: "senders",
    meaning: "that a socket can choose of an IPv6 group",
  }),
  "kernel.io_uring_disabled": ([mode = 0]) => ({
    meaning:
      ["allowed to all", "allowed with a right, or to a group", "allowed to nobody"][mode] ?? "",
    ...(mode === 2 && { status: "off", want: 0 }),
  }),
  "net.netfilter.nf_conntrack_max": ([max = 0], { files }) => {
    const path = "/proc/sys/net/netfilter/nf_conntrack_count";
    const [now = 0] = integersOf(files.optionalText(path)) ?? [];
    return {
      unit: "flows",
      meaning: `that the firewall follows before it drops; now ${now}`,
      ...lowUnless(now <= 0.8 * max, 2 * max),
    };
  },
};

// Not there where nothing needs it.
const OPTIONAL: ReadonlySet<string> = new Set([
  "net.netfilter.nf_conntrack_max",
  "kernel.io_uring_disabled",
  "net.core.busy_poll",
  "net.core.bpf_jit_enable",
  "net.ipv6.mld_max_msf",
]);

/** Tells of all limits. */
export function readLimits(files: KernelFiles, demand: Demand): Limit[] {
  const sysctls = Object.entries(SYSCTLS).flatMap(([name, judge]) => {
    const path = `/proc/sys/${name.replaceAll(".", "/")}`;
    const isOptional = OPTIONAL.has(name) && files.optionalText("/proc/sys/kernel/ostype");
    const text = isOptional ? files.optionalText(path) : files.text(path);
    if (text === undefined) return isOptional ? [] : [unknown(name)];
    const values = integersOf(text);
    if (values === undefined) {
      files.miss(path, `it says ${JSON.stringify(text)}`);
      return [unknown(name)];
    }
    const { want, ...finding } = judge(values, { demand, files });
    const quoted = typeof want === "string" ? `"${want}"` : `${want}`;
    const change = want === undefined ? null : `sudo sysctl -w ${name}=${quoted}`;
    const [first = 0] = values;
    return [toLimit(name, values.length === 1 ? first : values, finding, change)];
  });
  return [...sysctls, ...readProcessLimits(files)];
}

function readProcessLimits(files: KernelFiles): Limit[] {
  const path = "/proc/self/limits";
  const text = files.text(path);
  const find = (title: string) => {
    const [, soft, hard] = new RegExp(`^${title} +(\\S+) +(\\S+)`, "m").exec(text ?? "") ?? [];
    if (soft === undefined && text !== undefined) files.miss(path, `it has no "${title}"`);
    return soft === undefined ? undefined : { soft: toValue(soft), hard: toValue(hard) };
  };
  return [
    toProcessLimit("ulimit -n", find("Max open files"), (files) => ({
      unit: "descriptors",
      meaning: "sockets and files of this process: Bun raises it to the hard limit",
      ...lowUnless(files > 1024, 65_536),
    })),
    toProcessLimit("ulimit -l", find("Max locked memory"), (bytes) => ({
      unit: "bytes",
      meaning: "of this user that zero-copy sends and AF_XDP may pin",
      ...lowUnless(bytes >= MEBIBYTE, "unlimited"),
    })),
  ];
}

function toProcessLimit(
  name: string,
  found: { readonly soft: number | "unlimited" } | undefined,
  judge: (value: number) => Finding,
): Limit {
  if (found === undefined) return unknown(name);
  const { soft } = found;
  const { want, ...finding } = judge(soft === "unlimited" ? Number.POSITIVE_INFINITY : soft);
  return toLimit(name, soft, finding, want === undefined ? null : `${name} ${want}`);
}

function toValue(text: string | undefined): number | "unlimited" {
  return text === undefined || text === "unlimited" ? "unlimited" : Number(text);
}

function toLimit(
  name: string,
  value: Limit["value"],
  finding: Omit<Finding, "want">,
  change: string | null,
): Limit {
  const { datagrams = null, unit = null, meaning, status = "ok" } = finding;
  return { name, value, unit, datagrams, meaning, status, change };
}

function unknown(name: string): Limit {
  const meaning = "cannot be read here";
  return {
    name,
    value: null,
    unit: null,
    datagrams: null,
    meaning,
    status: "unknown",
    change: null,
  };
}

function lowUnless(isEnough: boolean, want: string | number): Pick<Finding, "status" | "want"> {
  return isEnough ? {} : { status: "low", want };
}

function held(bytes: number, { chargedBytes }: Demand): number {
  return Math.floor(bytes / chargedBytes);
}

function roundUp(value: number, unit: number): number {
  return Math.ceil(value / unit) * unit;
}

function round1(value: number): number {
  return Math.round(value * 10) / 10;
}

/**
 * What the kernel charges a receive buffer for a datagram with so much payload, found with one over
 * loopback.
 */
export function measureCharge(payloadBytes: number): number | undefined {
  try {
    using receiver = UdpSocket.bind("127.0.0.1:0");
    using sender = UdpSocket.open("ipv4");
    const window = new LossWindow(receiver);
    sender.sendToSync(new Uint8Array(payloadBytes), receiver.localAddress, { timeoutMs: 100 });
    const { usedBytes } = window.take().receiveBuffer;
    return usedBytes > 0 ? usedBytes : undefined;
  } catch {
    // No loopback, or it is down.
    return undefined;
  }
}

/** The demand, with what a datagram is charged here. */
export function makeDemand(
  files: KernelFiles,
  rate: number,
  pauseMs: number,
  payloadBytes: number,
): Demand {
  const measured = measureCharge(payloadBytes);
  if (measured === undefined) files.miss("the charge of a datagram", "nothing comes over loopback");
  const chargedBytes = measured ?? Math.max(CHARGED_BYTES, 2 * payloadBytes);
  const datagrams = Math.max(1, Math.ceil((rate * pauseMs) / 1000));
  return { rate, pauseMs, payloadBytes, chargedBytes, datagrams };
}

/** What was lost since the machine, or this network namespace, has started. */
export interface LostSoFar {
  /** Of UDP over IPv4; null where it cannot be read. */
  readonly udp4: Readonly<Record<string, number>> | null;
  /** Of UDP over IPv6. */
  readonly udp6: Readonly<Record<string, number>> | null;
  /** Of all CPUs: packets that found a backlog full, and how often the budget was spent. */
  readonly backlog: { readonly drops: number; readonly squeezes: number } | null;
}

const UDP_COUNTERS: readonly string[] = [
  "InDatagrams",
  "OutDatagrams",
  "NoPorts",
  "InErrors",
  "RcvbufErrors",
  "SndbufErrors",
  "InCsumErrors",
  "MemErrors",
];

/** Reads what the kernel has counted. */
export function readLostSoFar(files: KernelFiles): LostSoFar {
  const path = "/proc/net/snmp";
  const text = files.text(path);
  const [names, values] = [...(text ?? "").matchAll(/^Udp: (.*)$/gm)].map(([, line = ""]) =>
    line.split(" "),
  );
  if (text !== undefined && values === undefined) files.miss(path, "it does not tell of UDP");
  const four = new Map(names?.map((name, i) => [name, Number(values?.[i])]));
  const six = new Map(
    [...(files.optionalText("/proc/net/snmp6") ?? "").matchAll(/^Udp6(\w+)\s+(\d+)$/gm)].map(
      ([, name = "", value]) => [name, Number(value)],
    ),
  );
  return { udp4: pick(four), udp6: pick(six), backlog: readBacklog(files) };
}

function pick(counters: ReadonlyMap<string, number>): Record<string, number> | null {
  if (counters.size === 0) return null;
  return Object.fromEntries(UDP_COUNTERS.map((name) => [name, counters.get(name) ?? 0]));
}

// A line a CPU, in hexadecimal: processed, dropped, squeezed, …
function readBacklog(files: KernelFiles): LostSoFar["backlog"] {
  const text = files.text("/proc/net/softnet_stat");
  if (text === undefined) return null;
  const rows = text.split("\n").map((line) => line.split(" ").map((word) => parseInt(word, 16)));
  const sum = (column: number) => rows.reduce((total, row) => total + (row[column] ?? 0), 0);
  return { drops: sum(1), squeezes: sum(2) };
}
