/**
 * The bytes of ICMP and ICMPv6 echo: what a request is made of, and whether something is its answer.
 * Nothing that comes from the network is read past its end, whatever it claims.
 *
 * @module
 */
import { IPPROTO_ICMP } from "../../structs/constants/netinet_in.ts";

/** Bytes of the ICMP header: type, code, checksum, identifier, sequence. */
export const ECHO_HEADER = 8;
/** Bytes at the beginning of a payload that are chosen by chance. */
export const TOKEN_BYTES = 8;
/** The longest header of an IPv4 packet. */
export const IPV4_HEADER_MAX = 60;

const IPV4_HEADER_MIN = 20;
const IPV4_PROTOCOL = 9;
const CHECKSUM = 2;
const IDENTIFIER = 4;
const SEQUENCE = 6;

// RFC 792 and RFC 4443.
const REQUEST = 8;
const REPLY = 0;
const REQUEST_6 = 128;
const REPLY_6 = 129;

/**
 * The checksum of RFC 1071, over the bytes from `start` to `end`: 0 where it stands among them and is
 * right.
 */
export function internetChecksum(bytes: Uint8Array, start: number, end: number): number {
  let sum = 0;
  let at = start;
  for (; at + 1 < end; at += 2) sum += ((bytes[at] as number) << 8) | (bytes[at + 1] as number);
  if (at < end) sum += (bytes[at] as number) << 8;
  // At most 65,535 bytes: the sum fits 32 bits.
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return ~sum & 0xffff;
}

function readWord(bytes: Uint8Array, at: number): number {
  return ((bytes[at] as number) << 8) | (bytes[at + 1] as number);
}

function writeWord(bytes: Uint8Array, at: number, word: number): void {
  bytes[at] = word >> 8;
  bytes[at + 1] = word & 0xff;
}

/**
 * Makes a request. Its payload begins with bytes that nobody can guess, as many as it has room for; the
 * rest counts up. The checksum of ICMPv6 is the kernel's to fill in.
 */
export function makeRequest(
  isVersion6: boolean,
  identifier: number,
  sequence: number,
  payloadBytes: number,
): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(new ArrayBuffer(ECHO_HEADER + payloadBytes));
  bytes[0] = isVersion6 ? REQUEST_6 : REQUEST;
  writeWord(bytes, IDENTIFIER, identifier);
  writeWord(bytes, SEQUENCE, sequence);
  const token = Math.min(payloadBytes, TOKEN_BYTES);
  crypto.getRandomValues(bytes.subarray(ECHO_HEADER, ECHO_HEADER + token));
  for (let i = token; i < payloadBytes; i++) bytes[ECHO_HEADER + i] = i;
  if (!isVersion6) writeWord(bytes, CHECKSUM, internetChecksum(bytes, 0, bytes.length));
  return bytes;
}

/**
 * Where the ICMP message begins in what a raw IPv4 socket has received, behind the IP header; -1 where
 * there is none.
 */
export function behindIpv4Header(bytes: Uint8Array, length: number): number {
  if (length < IPV4_HEADER_MIN || bytes.length < IPV4_HEADER_MIN) return -1;
  const first = bytes[0] as number;
  const header = 4 * (first & 0xf);
  const isUsable =
    first >> 4 === 4 &&
    header >= IPV4_HEADER_MIN &&
    header <= length &&
    bytes[IPV4_PROTOCOL] === IPPROTO_ICMP;
  return isUsable ? header : -1;
}

/**
 * The sequence of an echo reply, or -1 where the bytes are none: too short, of another type, of another
 * identifier, or broken.
 *
 * @param start where the ICMP message begins
 * @param end where it ends
 * @param checks whether nobody has looked at its checksum yet
 */
export function replySequence(
  bytes: Uint8Array,
  start: number,
  end: number,
  isVersion6: boolean,
  identifier: number,
  checks: boolean,
): number {
  if (start < 0 || end > bytes.length || end - start < ECHO_HEADER) return -1;
  if (bytes[start] !== (isVersion6 ? REPLY_6 : REPLY) || bytes[start + 1] !== 0) return -1;
  if (readWord(bytes, start + IDENTIFIER) !== identifier) return -1;
  if (checks && internetChecksum(bytes, start, end) !== 0) return -1;
  return readWord(bytes, start + SEQUENCE);
}

/** Whether the payload of a reply is that of the request, byte for byte. */
export function repeatsPayload(
  bytes: Uint8Array,
  start: number,
  end: number,
  request: Uint8Array,
): boolean {
  return Buffer.compare(bytes.subarray(start + ECHO_HEADER, end), payloadOf(request)) === 0;
}

function payloadOf(request: Uint8Array): Uint8Array {
  return request.subarray(ECHO_HEADER);
}

/**
 * The sequence of the request that an ICMP error quotes, or -1 where it quotes none of this identifier.
 * Routers quote at least the ICMP header.
 */
export function quotedSequence(
  quoted: Uint8Array,
  isVersion6: boolean,
  identifier: number,
): number {
  if (quoted.length < ECHO_HEADER) return -1;
  if (quoted[0] !== (isVersion6 ? REQUEST_6 : REQUEST) || quoted[1] !== 0) return -1;
  return readWord(quoted, IDENTIFIER) === identifier ? readWord(quoted, SEQUENCE) : -1;
}

/** Whether the payload that an ICMP error quotes, where it quotes any, is the beginning of the request's. */
export function quotesPayload(quoted: Uint8Array, request: Uint8Array): boolean {
  // Behind a packet that was shorter than 128 bytes RFC 4884 has zeros, and what else there is to tell.
  const end = Math.min(quoted.length, request.length, ECHO_HEADER + TOKEN_BYTES);
  const said = quoted.subarray(ECHO_HEADER, end);
  return Buffer.compare(said, request.subarray(ECHO_HEADER, end)) === 0;
}
