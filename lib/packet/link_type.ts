import {
  ARPHRD_ETHER,
  ARPHRD_IEEE80211,
  ARPHRD_IEEE80211_RADIOTAP,
  ARPHRD_LOOPBACK,
  ARPHRD_NETLINK,
  ARPHRD_NONE,
  ARPHRD_PPP,
  ARPHRD_RAWIP,
  ARPHRD_SIT,
  ARPHRD_TUNNEL,
  ARPHRD_TUNNEL6,
} from "../../structs/constants/linux_if_arp.ts";
import { describe, requireInteger } from "../internal/arguments.ts";

const LINK_TYPE_MAX = 0xffff;

/**
 * What the first header of a captured frame is: the numbers that capture files say it with, under
 * the names of libpcap in lower case.
 *
 * @see {@link https://www.tcpdump.org/linktypes.html | Link-layer header types}
 * @see {@link https://man7.org/linux/man-pages/man7/pcap-linktype.7.html | pcap-linktype(7)}
 *
 * @example Both ways
 * ```ts
 * import { LinkType, linkTypeName, linkTypeNumber } from "bun-sockets/packet";
 *
 * console.log(LinkType.linux_sll2, linkTypeNumber("raw"), linkTypeName(1)); // 276 101 ethernet
 * ```
 */
export const LinkType = Object.freeze({
  /** BSD loopback: 4 bytes, an address family in the byte order of the machine that captured. */
  null: 0,
  /** Ethernet, without preamble and without checksum. What the Linux loopback interface has too. */
  ethernet: 1,
  /** PPP in HDLC framing, or without it. */
  ppp: 9,
  /** An IP packet; its first four bits tell which. */
  raw: 101,
  /** IEEE 802.11. */
  ieee802_11: 105,
  /** OpenBSD loopback: 4 bytes, an address family in network byte order. */
  loop: 108,
  /** Linux cooked: what tcpdump captured on all interfaces at once before `linux_sll2`. */
  linux_sll: 113,
  /** IEEE 802.11 with radiotap in front. */
  ieee802_11_radio: 127,
  /** An IPv4 packet. */
  ipv4: 228,
  /** An IPv6 packet. */
  ipv6: 229,
  /** Netlink messages, cooked. */
  netlink: 253,
  /** Linux cooked, second version: with the interface. */
  linux_sll2: 276,
});

/** The name of a link type. */
export type LinkTypeName = keyof typeof LinkType;

const NAMES = new Map<number, LinkTypeName>(
  Object.entries(LinkType).map(([name, value]) => [value, name as LinkTypeName]),
);

// What the kernel calls a device, and what its frames begin with in a raw packet socket.
const BY_HARDWARE = new Map<number, number>([
  [ARPHRD_ETHER, LinkType.ethernet],
  [ARPHRD_LOOPBACK, LinkType.ethernet],
  [ARPHRD_PPP, LinkType.raw],
  [ARPHRD_RAWIP, LinkType.raw],
  [ARPHRD_TUNNEL, LinkType.raw],
  [ARPHRD_TUNNEL6, LinkType.raw],
  [ARPHRD_SIT, LinkType.raw],
  [ARPHRD_NONE, LinkType.raw],
  [ARPHRD_IEEE80211, LinkType.ieee802_11],
  [ARPHRD_IEEE80211_RADIOTAP, LinkType.ieee802_11_radio],
  [ARPHRD_NETLINK, LinkType.netlink],
]);

/** Returns the name of a link type's number, or undefined where it has none here. */
export function linkTypeName(linkType: number): LinkTypeName | undefined {
  return NAMES.get(linkType);
}

/**
 * Returns the number of a link type, by its name or as it is.
 *
 * @param linkType a name of `LinkType`, or any number that a capture file can say, 0 to 65535
 * @throws {TypeError} no such name
 * @throws {RangeError} the number is out of range
 */
export function linkTypeNumber(linkType: LinkTypeName | number): number {
  if (typeof linkType === "string" && Object.hasOwn(LinkType, linkType)) return LinkType[linkType];
  if (typeof linkType === "number") {
    requireInteger(linkType, 0, LINK_TYPE_MAX, "a link type");
    return linkType;
  }
  const what = typeof linkType === "string" ? JSON.stringify(linkType) : describe(linkType);
  throw new TypeError(
    `Cannot use ${what} as a link type: expected a number, or one of ${[...NAMES.values()].join(", ")}`,
  );
}

/**
 * Returns the link type of the frames that a raw packet socket receives from an interface, by its
 * hardware type: `ARPHRD_…`, as `sll_hatype` of packet(7) says it. Undefined where the hardware is
 * none of those whose frames are understood here; such an interface is captured cooked.
 */
export function linkTypeOfHardware(hardwareType: number): number | undefined {
  return BY_HARDWARE.get(hardwareType);
}
