/**
 * What the kernel is asked to tell of each datagram, by one option of a socket for all.
 *
 * @module
 */
import type { DatagramMetadata } from "../ip_socket.ts";
import { IpOption, Ipv6Option, type Option, SocketOption } from "../option.ts";
import type { Socket } from "../socket.ts";
import { describe, requireInteger } from "./arguments.ts";

type Flag = Option<boolean, "set">;

/** The options of each: of a socket of any family, of IPv4 and of IPv6. */
interface Flags {
  readonly both?: Flag;
  readonly ipv4?: Flag;
  readonly ipv6?: Flag;
}

const FLAGS: Readonly<Record<DatagramMetadata, Flags>> = {
  destination: { ipv4: IpOption.receivePacketInfo, ipv6: Ipv6Option.receivePacketInfo },
  ttl: { ipv4: IpOption.receiveTtl, ipv6: Ipv6Option.receiveHopLimit },
  trafficClass: { ipv4: IpOption.receiveTos, ipv6: Ipv6Option.receiveTrafficClass },
  timestamp: { both: SocketOption.timestampNs },
  mark: { both: SocketOption.receiveMark },
  dropped: { both: SocketOption.receiveQueueOverflow },
};
const NAMES = Object.keys(FLAGS);

/**
 * Reads the list once, and checks it.
 *
 * @throws {TypeError} it is no array, or holds something else
 * @throws {RangeError} it is longer than there are words
 */
export function copyMetadata(metadata: readonly DatagramMetadata[]): readonly DatagramMetadata[] {
  if (!Array.isArray(metadata))
    throw new TypeError(`Cannot use ${describe(metadata)} as metadata: expected an array`);
  // What looks like an array can be endless.
  const { length } = metadata;
  requireInteger(length, 0, NAMES.length, "the number of metadata");
  const copy: DatagramMetadata[] = [];
  for (let i = 0; i < length; i++) {
    const word: unknown = metadata[i];
    if (typeof word !== "string" || !NAMES.includes(word)) throw noMetadata(word);
    copy.push(word as DatagramMetadata);
  }
  return copy;
}

function noMetadata(word: unknown): TypeError {
  const given = typeof word === "string" ? JSON.stringify(word) : describe(word);
  const known = NAMES.map((name) => `"${name}"`).join(", ");
  return new TypeError(`Cannot use ${given} as metadata: expected ${known}`);
}

/** Switches it on; on an IPv6 socket also for the IPv4 that it carries. */
export function askFor(
  socket: Pick<Socket, "family" | "setOption">,
  metadata: readonly DatagramMetadata[],
  ipv6Only: boolean,
): void {
  for (const word of metadata) {
    const { both, ipv4, ipv6 } = FLAGS[word];
    if (both) socket.setOption(both, true);
    if (ipv6 && socket.family === "ipv6") socket.setOption(ipv6, true);
    if (ipv4 && !ipv6Only) socket.setOption(ipv4, true);
  }
}
