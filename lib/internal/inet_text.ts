/**
 * The text of IPv4 and IPv6 addresses, strictly: dotted quads of four decimal numbers without
 * leading zeros, IPv6 as RFC 4291 section 2.2 reads and RFC 5952 writes. Nothing here asks a
 * resolver.
 *
 * @module
 */

/** Writes the four bytes of a dotted quad at `target[at]`. Returns whether the text was one. */
export function parseInet4(text: string, target: Uint8Array, at: number): boolean {
  const match = /^(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})$/.exec(text);
  if (!match) return false;
  for (let i = 0; i < 4; i++) {
    const octet = match[i + 1] as string;
    // "010" is 8 to inet_aton and 10 to a reader: an ambiguity that has been exploited, so neither.
    if (Number(octet) > 255 || (octet.length > 1 && octet.startsWith("0"))) return false;
    target[at + i] = Number(octet);
  }
  return true;
}

/** Writes four bytes of `source` from `at` as a dotted quad. */
export function formatInet4(source: Uint8Array, at: number): string {
  return `${source[at]}.${source[at + 1]}.${source[at + 2]}.${source[at + 3]}`;
}

/**
 * Writes the sixteen bytes of an IPv6 address, without a zone, at `target[at]`. Returns whether the
 * text was one.
 */
export function parseInet6(text: string, target: Uint8Array, at: number): boolean {
  const halves = text.split("::");
  if (halves.length > 2) return false;
  const head = parseGroups(halves[0] as string, halves.length === 1);
  const tail = halves.length === 2 ? parseGroups(halves[1] as string, true) : [];
  if (!head || !tail) return false;
  const missing = 16 - head.length - tail.length;
  // RFC 4291: "::" stands for one or more groups of zeros.
  if (halves.length === 2 ? missing < 2 : missing !== 0) return false;
  target.fill(0, at, at + 16);
  target.set(head, at);
  target.set(tail, at + 16 - tail.length);
  return true;
}

// The bytes of groups between colons; the last may be a dotted quad where the address ends with it.
function parseGroups(text: string, ends: boolean): number[] | undefined {
  if (text === "") return [];
  const groups = text.split(":");
  const parsed: number[] = [];
  const quad = new Uint8Array(4);
  for (const [index, group] of groups.entries()) {
    if (/^[0-9a-fA-F]{1,4}$/.test(group)) {
      const value = Number.parseInt(group, 16);
      parsed.push(value >> 8, value & 0xff);
    } else if (ends && index === groups.length - 1 && parseInet4(group, quad, 0)) {
      parsed.push(...quad);
    } else {
      return undefined;
    }
  }
  return parsed;
}

/**
 * Writes sixteen bytes of `source` from `at` as RFC 5952 says; IPv4-mapped ones with a dotted quad.
 */
export function formatInet6(source: Uint8Array, at: number): string {
  const groups: number[] = [];
  for (let i = at; i < at + 16; i += 2)
    groups.push(((source[i] as number) << 8) | (source[i + 1] as number));
  const mapped = groups.slice(0, 5).every((group) => group === 0) && groups[5] === 0xffff;
  if (mapped) return `::ffff:${formatInet4(source, at + 12)}`;
  const { start, count } = longestZeros(groups);
  const hex = groups.map((group) => group.toString(16));
  if (count < 2) return hex.join(":");
  return `${hex.slice(0, start).join(":")}::${hex.slice(start + count).join(":")}`;
}

// RFC 5952 section 4.2.3: the longest run, and the first of two equal ones.
function longestZeros(groups: readonly number[]): { start: number; count: number } {
  let best = { start: 0, count: 0 };
  for (let start = 0; start < groups.length; start++) {
    let count = 0;
    while (groups[start + count] === 0) count++;
    if (count > best.count) best = { start, count };
  }
  return best;
}
