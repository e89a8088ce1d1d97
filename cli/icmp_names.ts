/** The two fields that each message has, and those of an echo. */
interface Message {
  readonly type: number;
  readonly code: number;
  readonly identifier: number;
  readonly sequence: number;
}

const ICMP: Readonly<Record<number, string>> = {
  0: "echo reply",
  3: "unreachable",
  4: "source quench",
  5: "redirect",
  8: "echo request",
  9: "router advertisement",
  10: "router solicitation",
  11: "time exceeded",
  12: "parameter problem",
  13: "timestamp request",
  14: "timestamp reply",
};

const ICMPV6: Readonly<Record<number, string>> = {
  1: "unreachable",
  2: "packet too big",
  3: "time exceeded",
  4: "parameter problem",
  128: "echo request",
  129: "echo reply",
  130: "multicast listener query",
  131: "multicast listener report",
  132: "multicast listener done",
  133: "router solicitation",
  134: "router advertisement",
  135: "neighbor solicitation",
  136: "neighbor advertisement",
  137: "redirect",
  143: "multicast listener report v2",
};

/** An ICMP message in words: "echo request id 7 seq 1". */
export function icmpText(message: Message): string {
  return describe(message, ICMP, message.type === 0 || message.type === 8);
}

/** An ICMPv6 message in words. */
export function icmpv6Text(message: Message): string {
  return describe(message, ICMPV6, message.type === 128 || message.type === 129);
}

function describe(
  { type, code, identifier, sequence }: Message,
  names: Readonly<Record<number, string>>,
  isEcho: boolean,
): string {
  const name = names[type] ?? `type ${type}`;
  if (isEcho) return `${name} id ${identifier} seq ${sequence}`;
  return code === 0 ? name : `${name} code ${code}`;
}
