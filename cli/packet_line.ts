import type { PacketFacts } from "./packet_facts.ts";

/** The time of day where the program runs, to the nanosecond: "14:02:33.000000001". */
export class TimeOfDay {
  #second = Number.NaN;
  #text = "";

  /** @param seconds since 1970 */
  text(seconds: number, nanoseconds: number): string {
    if (seconds !== this.#second) {
      this.#second = seconds;
      const date = new Date(seconds * 1000);
      const parts = [date.getHours(), date.getMinutes(), date.getSeconds()];
      this.#text = parts.map((part) => String(part).padStart(2, "0")).join(":");
    }
    return `${this.#text}.${String(nanoseconds).padStart(9, "0")}`;
  }
}

/** The line of a packet, without its time. */
export function factsLine(facts: PacketFacts): string {
  const words: string[] = [];
  if (facts.source !== undefined) {
    const source = endpoint(facts.source, facts.sourcePort);
    const destination = endpoint(facts.destination ?? "", facts.destinationPort);
    words.push(`${source} > ${destination}`);
  }
  words.push(facts.protocol);
  if (facts.flags) words.push(`[${facts.flags.join(" ")}]`);
  if (facts.sequence !== undefined)
    words.push(`seq ${facts.sequence} ack ${facts.acknowledgment} win ${facts.window}`);
  if (facts.info !== undefined) words.push(facts.info);
  if (facts.fragmentOffset !== undefined)
    words.push(`fragment at ${facts.fragmentOffset} of ${facts.identification}`);
  if (facts.payloadLength !== undefined) words.push(`payload ${facts.payloadLength}`);
  words.push(`length ${facts.length}`);
  if (facts.capturedLength < facts.length) words.push(`captured ${facts.capturedLength}`);
  if (facts.vlan) words.push(`vlan ${facts.vlan.join(".")}`);
  if (facts.checksum !== undefined) words.push(`checksum ${facts.checksum}`);
  return words.join(" ");
}

/** An address and its port, as the library's addresses are written. */
function endpoint(host: string, port: number | undefined): string {
  if (port === undefined) return host;
  return host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`;
}
