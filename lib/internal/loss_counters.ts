/**
 * The counters behind `LossWindow`: those of a socket by SO_MEMINFO, the others from
 * /proc/thread-self/net.
 *
 * @module
 */
import { EBADF, ENODEV } from "../../structs/constants/errno.ts";
import { IPPROTO_UDP } from "../../structs/constants/netinet_in.ts";
import {
  AF_INET,
  AF_INET6,
  SO_DOMAIN,
  SO_MEMINFO,
  SO_PROTOCOL,
  SOL_SOCKET,
} from "../../structs/constants/sys_socket.ts";
import { DatagramBatch } from "../datagram_batch.ts";
import { check, systemError } from "../error.ts";
import type { BufferUse, InterfaceLoss, Loss, LossWindowOptions, ProtocolLoss } from "../loss.ts";
import { descriptorOf, type Socket } from "../socket.ts";
import { getsockopt } from "../sys/socket.ts";
import { describe, requireOptions } from "./arguments.ts";
import { requireStill } from "./descriptor.ts";
import { interfaceName } from "./interface_kernel.ts";
import { isOfThread, toInterfaceIndex } from "./interface_like.ts";
import { readInt } from "./parts.ts";

// /proc/net is that of the process's first thread: this one may be in another network namespace.
const FOLDER = "/proc/thread-self/net";
const RECEIVE_BUFFER_MAX = "/proc/sys/net/core/rmem_max";

// The words of SO_MEMINFO.
const RECEIVE_USED = 0;
const RECEIVE_LIMIT = 1;
const SEND_USED = 2;
const SEND_LIMIT = 3;
const DROPS = 8;
const WORDS = 9;

/** The names of the counters in the kernel's files, of IPv4; those of IPv6 begin with "Ip6", "Udp6". */
const PROTOCOL = {
  inErrors: ["Udp", "InErrors"],
  receiveBufferErrors: ["Udp", "RcvbufErrors"],
  checksumErrors: ["Udp", "InCsumErrors"],
  memoryErrors: ["Udp", "MemErrors"],
  noPorts: ["Udp", "NoPorts"],
  sendBufferErrors: ["Udp", "SndbufErrors"],
  discards: ["Ip", "InDiscards"],
  outDiscards: ["Ip", "OutDiscards"],
  reassemblyFailures: ["Ip", "ReasmFails"],
} as const;

type Counter = keyof typeof PROTOCOL;
type ProtocolCounts = Record<Counter, number>;

const COUNTERS = Object.keys(PROTOCOL) as Counter[];

// The columns of /proc/net/dev, after the name.
const COLUMNS = {
  receiveErrors: 2,
  receiveDrops: 3,
  receiveOverruns: 4,
  sendErrors: 10,
  sendDrops: 11,
} as const;

type Column = keyof typeof COLUMNS;
type InterfaceCounts = Record<Column, number>;

/** Everything at one moment. */
interface Snapshot {
  readonly at: number;
  readonly memory: Uint32Array;
  readonly protocol: ProtocolCounts | undefined;
  readonly backlog: readonly number[] | undefined;
  readonly device: InterfaceCounts | undefined;
}

const words = new Uint32Array(new ArrayBuffer(4 * WORDS));
const wordsLength = new Uint32Array(new ArrayBuffer(4));

/** What was lost between two looks. */
export class LossCounters {
  readonly #socket: Socket;
  readonly #fdOf: () => number;
  /** Whether it is IPv6, and so counts with both; undefined where it is none of UDP. */
  readonly #isIpv6: boolean | undefined;
  readonly #device: string | undefined;
  #before: Snapshot;
  /** What datagrams have told of the socket's drops. */
  #told: number;
  /** What others lost, and was not told: less than nothing while the counters run ahead. */
  #untoldOfOthers = 0;

  constructor(socket: Socket, options: LossWindowOptions) {
    const descriptor = descriptorOf(socket);
    if (!descriptor)
      throw new TypeError(`Cannot use ${describe(socket)} as a socket: expected a Socket`);
    const { interface: where } = requireOptions(options);
    const { fd } = descriptor;
    if (fd < 0) throw systemError(-EBADF, "getsockopt");
    this.#socket = socket;
    this.#fdOf = () => descriptor.fd;
    const isHere = isOfThread(fd);
    if (where !== undefined) {
      const index = toInterfaceIndex(where, fd);
      requireStill(descriptor, fd, "getsockopt");
      if (!isHere) throw systemError(-ENODEV, "open", { hint: ELSEWHERE });
      this.#device = interfaceName(index);
    }
    if (isHere) this.#isIpv6 = isIpv6Udp(fd);
    this.#before = this.#look();
    this.#told = this.#before.memory[DROPS] as number;
  }

  take(batch?: DatagramBatch): Loss {
    const told = batch === undefined ? undefined : newestOf(batch);
    const before = this.#before;
    const now = this.#look();
    this.#before = now;
    const socketDrops = wrapped(now.memory, before.memory, DROPS);
    const protocol = this.#protocolLoss(now, before, socketDrops);
    const loss: Omit<Loss, "advice"> = {
      durationMs: now.at - before.at,
      socketDrops,
      queueOverflow: told === undefined ? undefined : this.#tell(told),
      receiveBuffer: this.#use("receiveBuffer", now.memory, RECEIVE_LIMIT, RECEIVE_USED),
      sendBuffer: this.#use("sendBuffer", now.memory, SEND_LIMIT, SEND_USED),
      protocol,
      backlogDrops: backlogDrops(now.backlog, before.backlog),
      interface: this.#interfaceLoss(now, before),
    };
    return { ...loss, advice: adviceOf(loss) };
  }

  // The counters of all are read before the socket's: what it drops between is told with the next look,
  // and no others are blamed for it.
  #look(): Snapshot {
    const isIpv6 = this.#isIpv6;
    const protocol = isIpv6 === undefined ? undefined : readProtocol(isIpv6);
    const device = this.#device === undefined ? undefined : readInterface(this.#device);
    const backlog = readBacklog();
    check(getsockopt(this.#fdOf(), SOL_SOCKET, SO_MEMINFO, words, wordsLength), "getsockopt", {
      option: "SO_MEMINFO",
    });
    return { at: performance.now(), memory: words.slice(), protocol, backlog, device };
  }

  // A datagram that was queued before the window began tells of less than what is known.
  #tell(newest: number): number {
    const gap = (newest - this.#told) | 0;
    if (gap <= 0) return 0;
    this.#told = newest;
    return gap;
  }

  #use(name: "receiveBuffer" | "sendBuffer", memory: Uint32Array, limit: number, used: number) {
    const { effectiveBytes, clamped } = this.#socket[name];
    const use: BufferUse = {
      effectiveBytes,
      clamped,
      limitBytes: memory[limit] as number,
      usedBytes: memory[used] as number,
    };
    return use;
  }

  #protocolLoss(now: Snapshot, before: Snapshot, socketDrops: number): ProtocolLoss | undefined {
    if (now.protocol === undefined || before.protocol === undefined) return undefined;
    const counts = {} as ProtocolCounts;
    for (const name of COUNTERS) counts[name] = since(now.protocol[name], before.protocol[name]);
    this.#untoldOfOthers += counts.inErrors - socketDrops;
    const otherSockets = Math.max(0, this.#untoldOfOthers);
    this.#untoldOfOthers -= otherSockets;
    return { ...counts, otherSockets };
  }

  #interfaceLoss(now: Snapshot, before: Snapshot): InterfaceLoss | undefined {
    const name = this.#device;
    if (name === undefined || now.device === undefined) return undefined;
    const counts = {} as InterfaceCounts;
    for (const column of Object.keys(COLUMNS) as Column[])
      counts[column] = since(now.device[column], before.device?.[column] ?? 0);
    return { name, ...counts };
  }
}

const ELSEWHERE =
  "The socket is in another network namespace than this thread, which does not see its interfaces' counters";

function isIpv6Udp(fd: number): boolean | undefined {
  const domain = readInt(fd, SO_DOMAIN);
  if (domain !== AF_INET && domain !== AF_INET6) return undefined;
  return readInt(fd, SO_PROTOCOL) === IPPROTO_UDP ? domain === AF_INET6 : undefined;
}

// The last datagram that tells: the kernel says nothing before the first drop.
function newestOf(batch: DatagramBatch): number | undefined {
  if (!(batch instanceof DatagramBatch))
    throw new TypeError(`Cannot use ${describe(batch)} as a batch: expected a DatagramBatch`);
  for (let i = batch.count - 1; i >= 0; i--) {
    const dropped = batch.dropped(i);
    if (dropped >= 0) return dropped;
  }
  return undefined;
}

// The kernel counts a socket's drops, and those of a CPU, in 32 bits.
function wrapped(now: ArrayLike<number>, before: ArrayLike<number>, i: number): number {
  return ((now[i] as number) - (before[i] as number)) >>> 0;
}

// Counters of 64 bits, which begin anew with their interface.
function since(now: number, before: number): number {
  return now >= before ? now - before : now;
}

function backlogDrops(
  now: readonly number[] | undefined,
  before: readonly number[] | undefined,
): number | undefined {
  if (now === undefined || before === undefined) return undefined;
  let sum = 0;
  // A CPU that was switched on has counted nothing before.
  for (let cpu = 0; cpu < now.length; cpu++) sum += wrapped(now, before, cpu);
  return sum;
}

function readText(file: string): string | undefined {
  try {
    return process.getBuiltinModule("node:fs").readFileSync(file, "utf8");
  } catch (error) {
    if ((error as { code?: unknown }).code === "ENOENT") return undefined;
    throw error;
  }
}

// IPv4 that an IPv6 socket carries is counted as IPv4.
function readProtocol(isIpv6: boolean): ProtocolCounts | undefined {
  const four = readText(`${FOLDER}/snmp`);
  if (four === undefined) return undefined;
  const six = isIpv6 ? readText(`${FOLDER}/snmp6`) : undefined;
  const found = parseSnmp(four);
  if (six !== undefined) for (const [name, count] of parseSnmp6(six)) found.set(name, count);
  const counts = {} as ProtocolCounts;
  for (const name of COUNTERS) {
    const [layer, counter] = PROTOCOL[name];
    counts[name] = (found.get(layer + counter) ?? 0) + (found.get(`${layer}6${counter}`) ?? 0);
  }
  return counts;
}

/** Two lines for each layer: "Udp: InDatagrams NoPorts …" and "Udp: 17 0 …". */
export function parseSnmp(text: string): Map<string, number> {
  const found = new Map<string, number>();
  const lines = text.split("\n");
  for (let i = 0; i + 1 < lines.length; i += 2) {
    const [layer = "", ...names] = (lines[i] as string).split(" ");
    const values = (lines[i + 1] as string).split(" ").slice(1);
    for (const [at, name] of names.entries())
      found.set(layer.slice(0, -1) + name, Number(values[at]));
  }
  return found;
}

/** A line for each counter: "Udp6InErrors  18". */
export function parseSnmp6(text: string): Map<string, number> {
  const found = new Map<string, number>();
  for (const line of text.split("\n")) {
    const [name = "", value] = line.split(/\s+/);
    found.set(name, Number(value));
  }
  return found;
}

function readInterface(name: string): InterfaceCounts | undefined {
  return parseDevice(readText(`${FOLDER}/dev`) ?? "", name);
}

/** A line for each interface: "  eth0: 4848520522  113050    0 …", not always with a blank. */
export function parseDevice(text: string, name: string): InterfaceCounts | undefined {
  for (const line of text.split("\n")) {
    const colon = line.lastIndexOf(":");
    if (line.slice(0, colon).trim() !== name) continue;
    const values = line
      .slice(colon + 1)
      .trim()
      .split(/\s+/)
      .map(Number);
    const counts = {} as InterfaceCounts;
    for (const column of Object.keys(COLUMNS) as Column[])
      counts[column] = values[COLUMNS[column]] as number;
    return counts;
  }
  return undefined;
}

// A line for each CPU, in hexadecimal: what it processed, and what it dropped.
function readBacklog(): number[] | undefined {
  const text = readText(`${FOLDER}/softnet_stat`);
  return text === undefined ? undefined : parseSoftnet(text);
}

/** The drops of each CPU: the second word of its line. */
export function parseSoftnet(text: string): number[] {
  const lines = text.split("\n").filter(Boolean);
  return lines.map((line) => Number.parseInt(line.split(" ")[1] ?? "0", 16));
}

function adviceOf(loss: Omit<Loss, "advice">): string[] {
  return [...adviceOfSocket(loss), ...adviceOfProtocol(loss.protocol), ...adviceOfMachine(loss)];
}

function adviceOfSocket(loss: Omit<Loss, "advice">): string[] {
  const refused = refusedOf(loss);
  const roomless = loss.socketDrops - refused;
  const advice: string[] = [];
  if (roomless > 0) advice.push(adviceOfBuffer(loss.receiveBuffer, roomless));
  if (refused > 0)
    advice.push(
      `The socket dropped ${count(refused, "datagram")} though it had room: its filter refused them, or they came damaged`,
    );
  return advice;
}

// What of the socket's drops can have been for lack of room was.
function refusedOf({ socketDrops, protocol }: Omit<Loss, "advice">): number {
  if (protocol === undefined) return 0;
  const forRoom = protocol.receiveBufferErrors + protocol.memoryErrors;
  const rest = Math.max(0, socketDrops - forRoom);
  return Math.min(rest, Math.max(0, protocol.inErrors - forRoom));
}

function adviceOfBuffer({ effectiveBytes, clamped }: BufferUse, roomless: number): string {
  const wanted = 2 * effectiveBytes;
  const most = Number(readText(RECEIVE_BUFFER_MAX) ?? Number.NaN);
  const limit =
    clamped || wanted > most
      ? `, which takes CAP_NET_ADMIN or 'sudo sysctl -w net.core.rmem_max=${wanted}'`
      : "";
  return (
    `The receive buffer had no room for ${count(roomless, "datagram")}: receive more often, or in larger ` +
    `batches, or give it more than its ${effectiveBytes} bytes: { receiveBufferBytes: ${wanted} }${limit}`
  );
}

function adviceOfProtocol(protocol: ProtocolLoss | undefined): string[] {
  if (protocol === undefined) return [];
  const { otherSockets, checksumErrors, memoryErrors } = protocol;
  const { sendBufferErrors, discards, outDiscards, reassemblyFailures } = protocol;
  const rows: readonly (readonly [number, string, string])[] = [
    [
      otherSockets,
      "datagram",
      "not this socket's: others of this network namespace lost them, or they came damaged",
    ],
    [
      checksumErrors,
      "datagram",
      "with a wrong checksum: they came damaged, from the link or their sender",
    ],
    [memoryErrors, "datagram", "for which UDP had no memory: enlarge the sysctl net.ipv4.udp_mem"],
    [
      sendBufferErrors,
      "send",
      "without memory, or into a full queue: enlarge the send buffer, { sendBufferBytes }, or send more slowly",
    ],
    [discards, "packet", "dropped by IP on the way in"],
    [
      outDiscards,
      "packet",
      "dropped by IP on the way out: the interface's queue was full, or a rule said so",
    ],
    [
      reassemblyFailures,
      "packet",
      "of which a fragment was missing: send what fits the path's MTU, or enlarge the sysctl net.ipv4.ipfrag_high_thresh",
    ],
  ];
  return rows
    .filter(([times]) => times > 0)
    .map(([times, what, why]) => `${count(times, what)} ${why}`);
}

function adviceOfMachine({ backlogDrops, interface: device }: Omit<Loss, "advice">): string[] {
  const advice: string[] = [];
  if (backlogDrops)
    advice.push(
      `${count(backlogDrops, "packet")} found the backlog of a CPU full: enlarge the sysctl net.core.netdev_max_backlog`,
    );
  if (device === undefined) return advice;
  const { name, receiveErrors, receiveDrops, receiveOverruns, sendErrors, sendDrops } = device;
  const received = receiveDrops + receiveOverruns;
  if (received > 0)
    advice.push(
      `${name} dropped ${count(received, "packet")} that came: enlarge its ring, 'sudo ethtool -G ${name} rx 4096', or spread its queues over more CPUs`,
    );
  if (sendDrops > 0)
    advice.push(
      `${name} dropped ${count(sendDrops, "packet")} that were to go: send more slowly, or enlarge its queue, 'sudo ip link set ${name} txqueuelen 10000'`,
    );
  if (receiveErrors + sendErrors > 0)
    advice.push(
      `${name} had ${count(receiveErrors + sendErrors, "packet")} with errors of the link`,
    );
  return advice;
}

function count(times: number, what: string): string {
  return `${times} ${what}${times === 1 ? "" : "s"}`;
}
