/**
 * The interfaces, and what their devices and drivers do for datagrams.
 *
 * @module
 */
import { interfaces, NativeBuffer, UdpSocket } from "bun-sockets";
import { ifreq, SIOCETHTOOL } from "bun-sockets/structs";
import { ioctl } from "bun-sockets/sys";
import type { KernelFiles } from "./info_files.ts";

/** An interface as it is. Null is what cannot be told here, or what its driver does not have. */
export interface InterfaceFacts {
  readonly name: string;
  readonly index: number;
  readonly up: boolean;
  readonly running: boolean;
  readonly loopback: boolean;
  readonly mtu: number;
  readonly addresses: readonly string[];
  readonly driver: string | null;
  readonly speedMbit: number | null;
  readonly queues: Queues | null;
  /** Slots of the device's rings, and how many there could be. */
  readonly rings: Readonly<Record<"receive" | "receiveMax" | "send" | "sendMax", number>> | null;
  /** How long the device waits for more before it interrupts. */
  readonly receiveCoalesceUs: number | null;
  /** Whether the kernel and the device do it, by ethtool's names. */
  readonly offloads: Readonly<Record<string, boolean>> | null;
  /** What would help at high rates. */
  readonly advice: readonly string[];
}

/** The queues of an interface. */
export interface Queues {
  readonly receive: number;
  readonly send: number;
  /** How many of the receive queues are spread over CPUs by the kernel: RPS. */
  readonly receiveSpread: number;
  /** How many of the send queues belong to some CPUs: XPS. */
  readonly sendSpread: number;
  /** How many packets wait for the device: txqueuelen. */
  readonly sendLength: number | null;
}

const ETHTOOL_GDRVINFO = 0x03;
const ETHTOOL_GCOALESCE = 0x0e;
const ETHTOOL_GRINGPARAM = 0x10;
const ETHTOOL_GSTRINGS = 0x1b;
const ETHTOOL_GSSET_INFO = 0x37;
const ETHTOOL_GFEATURES = 0x3a;
const ETH_SS_FEATURES = 4;
const STRING_BYTES = 32;

// Those that datagrams meet, of some sixty.
const FEATURES: ReadonlySet<string> = new Set([
  "rx-checksum",
  "tx-checksum-ipv4",
  "tx-checksum-ipv6",
  "tx-checksum-ip-generic",
  "tx-scatter-gather",
  "tx-generic-segmentation",
  "tx-udp-segmentation",
  "rx-gro",
  "rx-gro-hw",
  "rx-gro-list",
  "rx-udp-gro-forwarding",
  "rx-lro",
  "rx-hashing",
  "rx-ntuple-filter",
]);

const NET = "/sys/class/net";

/** Looks at the interfaces of this network namespace. */
export function readInterfaces(files: KernelFiles): InterfaceFacts[] {
  const all = interfaces();
  const isOurs = showsOurs(files, all);
  using driver = new Driver();
  return all.map((each) => {
    const { name, index, up, running, loopback, mtu } = each;
    const queues = isOurs ? readQueues(files, name) : null;
    const rings = driver.rings(name);
    const speed = isOurs ? Number(files.optionalText(`${NET}/${name}/speed`)) : Number.NaN;
    const facts = {
      name,
      index,
      up,
      running,
      loopback,
      mtu,
      addresses: each.addresses.map(
        ({ address, prefixLength }) => `${address.host}/${prefixLength}`,
      ),
      driver: driver.name(name) ?? null,
      speedMbit: speed > 0 ? speed : null,
      queues,
      rings: rings ?? null,
      receiveCoalesceUs: driver.coalesce(name) ?? null,
      offloads: driver.offloads(name) ?? null,
    };
    return { ...facts, advice: adviceOn(facts) };
  });
}

// What is mounted at /sys shows the interfaces of the namespace that has mounted it.
function showsOurs(
  files: KernelFiles,
  all: readonly { readonly name: string; readonly index: number }[],
): boolean {
  const names = files.names(NET);
  if (names === undefined) return false;
  // There are files beside the interfaces, such as bonding_masters.
  const theirs = names.flatMap((name) => {
    const index = files.optionalText(`${NET}/${name}/ifindex`);
    return index === undefined ? [] : [`${index} ${name}`];
  });
  const ours = all.map(({ name, index }) => `${index} ${name}`);
  const isSame = theirs.sort().join() === ours.sort().join();
  if (!isSame) files.miss(NET, "it shows another network namespace");
  return isSame;
}

function readQueues(files: KernelFiles, name: string): Queues | null {
  const folder = `${NET}/${name}/queues`;
  const names = files.names(folder);
  if (names === undefined) return null;
  const spread = (file: string) => (queue: string) =>
    /[1-9a-f]/.test(files.optionalText(`${folder}/${queue}/${file}`) ?? "");
  const receive = names.filter((queue) => queue.startsWith("rx-"));
  const send = names.filter((queue) => queue.startsWith("tx-"));
  const [sendLength = null] = files.integers(`${NET}/${name}/tx_queue_len`) ?? [];
  return {
    receive: receive.length,
    send: send.length,
    receiveSpread: receive.filter(spread("rps_cpus")).length,
    sendSpread: send.filter(spread("xps_cpus")).length,
    sendLength,
  };
}

function adviceOn(facts: Omit<InterfaceFacts, "advice">): string[] {
  const { name, up, loopback, rings, queues, driver } = facts;
  if (!up || loopback) return [];
  const advice: string[] = [];
  if (rings && rings.receive < rings.receiveMax)
    advice.push(
      `a longer receive ring holds longer bursts: sudo ethtool -G ${name} rx ${rings.receiveMax}`,
    );
  const isDevice = driver !== null && driver !== "veth";
  const cores = navigator.hardwareConcurrency;
  if (isDevice && queues?.receive === 1 && queues.receiveSpread === 0 && cores > 1) {
    const file = `${NET}/${name}/queues/rx-0/rps_cpus`;
    const mask = cores < 32 ? (2 ** cores - 1).toString(16) : "ffffffff";
    advice.push(
      `one queue keeps one core busy, RPS spreads the flows: echo ${mask} | sudo tee ${file}`,
    );
  }
  return advice;
}

/** What ethtool(8) asks. None of it takes a right. */
class Driver implements Disposable {
  readonly #socket = UdpSocket.open("ipv4");
  readonly #argument = new NativeBuffer(64 << 10);
  readonly #view = new DataView(this.#argument.bytes.buffer);
  readonly #request = new Uint8Array(ifreq.size);

  [Symbol.dispose](): void {
    this.#argument.free();
    this.#socket.close();
  }

  name(name: string): string | undefined {
    if (!this.#ask(name, ETHTOOL_GDRVINFO)) return undefined;
    return this.#text(4) || undefined;
  }

  rings(name: string): Record<"receive" | "receiveMax" | "send" | "sendMax", number> | undefined {
    if (!this.#ask(name, ETHTOOL_GRINGPARAM)) return undefined;
    const [receiveMax, sendMax, receive, send] = [1, 4, 5, 8].map((word) => this.#word(word));
    if (!receiveMax) return undefined;
    return { receive: receive ?? 0, receiveMax, send: send ?? 0, sendMax: sendMax ?? 0 };
  }

  coalesce(name: string): number | undefined {
    return this.#ask(name, ETHTOOL_GCOALESCE) ? this.#word(1) : undefined;
  }

  offloads(name: string): Record<string, boolean> | undefined {
    // struct ethtool_sset_info: reserved, a mask of 64 bits, and a length for each of its bits.
    if (!this.#ask(name, ETHTOOL_GSSET_INFO, [0, 1 << ETH_SS_FEATURES, 0])) return undefined;
    const count = this.#word(4);
    if (!this.#ask(name, ETHTOOL_GSTRINGS, [ETH_SS_FEATURES, count])) return undefined;
    const names = Array.from({ length: count }, (_, i) => this.#text(12 + i * STRING_BYTES));
    const blocks = Math.ceil(count / 32);
    if (!this.#ask(name, ETHTOOL_GFEATURES, [blocks])) return undefined;
    // struct ethtool_get_features_block: available, requested, active, never changed.
    const isActive = (bit: number) => (this.#word(2 + 4 * (bit >> 5) + 2) >>> (bit & 31)) & 1;
    const known = names.flatMap((feature, bit) =>
      FEATURES.has(feature) ? [[feature, isActive(bit) === 1] as const] : [],
    );
    return Object.fromEntries(known);
  }

  #ask(name: string, command: number, words: readonly number[] = []): boolean {
    this.#argument.bytes.fill(0, 0, 4096);
    for (const [i, word] of [command, ...words].entries()) this.#view.setUint32(4 * i, word, true);
    this.#request.fill(0);
    this.#request.set(Buffer.from(name));
    const request = new DataView(this.#request.buffer);
    request.setBigUint64(ifreq.ifr_ifru.offset, BigInt(this.#argument.address), true);
    return ioctl(this.#socket.descriptor, SIOCETHTOOL, this.#request) >= 0;
  }

  #word(index: number): number {
    return this.#view.getUint32(4 * index, true);
  }

  #text(offset: number): string {
    const bytes = this.#argument.bytes.subarray(offset, offset + STRING_BYTES);
    const end = bytes.indexOf(0);
    return Buffer.from(bytes.subarray(0, end < 0 ? STRING_BYTES : end)).toString("latin1");
  }
}
