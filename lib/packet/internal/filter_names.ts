/**
 * Finds, in the text of a filter, the names that libpcap would look up: hosts and networks by DNS or
 * in files of /etc, Ethernet hosts in /etc/ethers. Names of services and protocols are fine: they
 * stand in tables of this machine.
 *
 * The tokens are those of libpcap's scanner.l (the longest match wins, among equals the first rule),
 * because a name that is taken for a part of something else is one that asks DNS. What a name means
 * follows from the last qualifier in front of it, also over `and`, `or`, `not` and parentheses, as
 * in its grammar.y; what is not known to be harmless is refused.
 *
 * @module
 */

/** A name that would be looked up, and where it stands, in UTF-16 units from 0. */
export interface RefusedName {
  readonly name: string;
  readonly at: number;
}

/** What has been found in the text of a filter. */
export interface FilterNames {
  /** The first name that is neither a service nor a protocol. */
  readonly refused: RefusedName | undefined;
  /** Whether it has the word `vlan`. */
  readonly usesVlan: boolean;
}

// What comes next may be a name of something local, for as long as no other qualifier says more.
const LOCAL = new Set(["port", "portrange", "proto", "protochain"]);
// The very next word may be a name out of a list of libpcap's own.
const LISTED = new Set(
  "type subtype dir direction on ifname rset ruleset reason action llc".split(" "),
);
const JOINING = new Set(["and", "or", "not"]);
const WORDS = new Set(
  `dst src link ether ppp slip fddi tr wlan arp rarp ip sctp tcp udp icmp igmp igrp pim vrrp carp
  radio ip6 icmp6 ah esp atalk aarp decnet lat sca moprc mopdl iso esis es-is isis is-is l1 l2 iih lsp
  snp csnp psnp clnp stp ipx netbeui host net mask gateway address1 addr1 address2 addr2 address3 addr3
  address4 addr4 ra ta less greater byte broadcast multicast len length inbound outbound ifindex vlan
  mpls pppoed pppoes geneve lane metac bcc oam oamf4 oamf4ec oamf4sc sc ilmic vpi vci connectmsg
  metaconnect rnr rulenum srnr subrulenum fisu lssu lsu msu hfisu hlssu hmsu sio opc dpc sls hsio hopc
  hdpc hsls icmptype icmpcode icmp-echoreply icmp-unreach icmp-sourcequench icmp-redirect icmp-echo
  icmp-routeradvert icmp-routersolicit icmp-timxceed icmp-paramprob icmp-tstamp icmp-tstampreply
  icmp-ireq icmp-ireqreply icmp-maskreq icmp-maskreply icmp6type icmp6code icmp6-destinationunreach
  icmp6-packettoobig icmp6-timeexceeded icmp6-parameterproblem icmp6-echo icmp6-echoreply
  icmp6-multicastlistenerquery icmp6-multicastlistenerreportv1 icmp6-multicastlistenerdone
  icmp6-routersolicit icmp6-routeradvert icmp6-neighborsolicit icmp6-neighboradvert icmp6-redirect
  icmp6-routerrenum icmp6-nodeinformationquery icmp6-nodeinformationresponse
  icmp6-ineighbordiscoverysolicit icmp6-ineighbordiscoveryadvert icmp6-multicastlistenerreportv2
  icmp6-homeagentdiscoveryrequest icmp6-homeagentdiscoveryreply icmp6-mobileprefixsolicit
  icmp6-mobileprefixadvert icmp6-certpathsolicit icmp6-certpathadvert icmp6-multicastrouteradvert
  icmp6-multicastroutersolicit icmp6-multicastrouterterm tcpflags tcp-fin tcp-syn tcp-rst tcp-push
  tcp-ack tcp-urg tcp-ece tcp-cwr`.split(/\s+/),
);

const N = "(?:0[xX][0-9A-Fa-f]+|[0-9]+)";
const B = "[0-9A-Fa-f]{1,2}";
const B2 = "[0-9A-Fa-f]{4}";
const W = "[0-9A-Fa-f]{1,4}";

// What can be more than a word: numbers and addresses. Each is as long as it can be; the longest one
// wins, and over a word of the same length, too.
const VALUES: readonly RegExp[] = [
  N,
  `${N}(?:\\.${N}){1,3}`,
  `${B}(?::${B}){5}`,
  `${B}(?:-${B}){5}`,
  `${B}(?:\\.${B}){5}`,
  `${B2}(?:\\.${B2}){2}`,
  "[0-9A-Fa-f]{12}",
  // What it calls a bogus Ethernet address.
  `${B}:+(?:${B}:+)+`,
  `${W}(?::${W}){7}`,
  `(?:${W}:){6}${N}(?:\\.${N}){3}`,
  ...ipv6With(7, (before, after) => `${words(before)}::${words(after)}`),
  ...ipv6With(5, (before, after) => {
    return `${words(before)}::${after > 0 ? `${words(after)}:` : ""}${N}(?:\\.${N}){3}`;
  }),
].map((source) => new RegExp(source, "y"));
const WORD = /[A-Za-z0-9](?:[-_.A-Za-z0-9]*[.A-Za-z0-9])?/y;
const ESCAPED = /\\[^ !()\n\t]+/y;
const ARCNET = /\$[0-9A-Fa-f]{1,2}/y;
const SPACE = " \r\n\t";
const MAYBE_VALUE = /[0-9A-Fa-f:]/;

function words(count: number): string {
  return count === 0 ? "" : `${W}(?::${W}){${count - 1}}`;
}

// The forms of an IPv6 address with "::" and at most so many words.
function ipv6With(most: number, form: (before: number, after: number) => string): string[] {
  const forms: string[] = [];
  for (let before = 0; before <= most; before++) {
    for (let after = 0; before + after <= most; after++) forms.push(form(before, after));
  }
  return forms;
}

/** Reads the text of a filter as libpcap would. */
export function findNames(text: string): FilterNames {
  let usesVlan = false;
  // Whether a name would be that of a service or protocol: by the qualifier that was last in the
  // text, and by the last one outside of parentheses that have ended. Versions of libpcap differ in
  // which of them counts behind a parenthesis.
  let last = false;
  let outer = false;
  const outside: boolean[] = [];
  let isListed = false;
  for (let at = 0; at < text.length; ) {
    const first = text.charAt(at);
    if (SPACE.includes(first)) {
      at++;
      continue;
    }
    const value = MAYBE_VALUE.test(first) ? longestValue(text, at) : 0;
    const word = Math.max(matchLength(WORD, text, at), matchLength(ESCAPED, text, at));
    const length = Math.max(value, word, matchLength(ARCNET, text, at), 1);
    const token = text.slice(at, at + length);
    const mayBeListed = isListed;
    isListed = LISTED.has(token);
    if (LOCAL.has(token)) last = outer = true;
    else if (isListed || WORDS.has(token)) {
      last = outer = false;
      usesVlan ||= token === "vlan";
    } else if (token === "(") outside.push(outer);
    else if (token === ")") outer = outside.pop() ?? false;
    else if (word === length && value < length && !JOINING.has(token)) {
      const isFine = mayBeListed || (last && outer);
      if (!isFine) return { refused: { name: token.replace(/^\\/, ""), at }, usesVlan };
    }
    at += length;
  }
  return { refused: undefined, usesVlan };
}

function longestValue(text: string, at: number): number {
  let longest = 0;
  for (const value of VALUES) longest = Math.max(longest, matchLength(value, text, at));
  return longest;
}

function matchLength(pattern: RegExp, text: string, at: number): number {
  pattern.lastIndex = at;
  return pattern.test(text) ? pattern.lastIndex - at : 0;
}
