/**
 * What the counts of a run must be, and where a way of ending does not exist.
 *
 * @module
 */

/** Calls of each member that must return, and calls that it must refuse. */
export const EACH_WAY_MIN = 200;

/** Calls of what handlers have beside themselves: functions for room and for errors. */
export const LISTENED_MIN = 20;

/** The share of all calls that must pass the checks and reach the kernel. */
export const REACHED_MIN = 0.3;

/** A way in which the calls of some members cannot end. */
export interface Impossible {
  readonly members: RegExp;
  readonly reason: string;
}

const ADDRESS = "(Inet4|Inet6|Unix|Raw)Address";

/** What never returns. */
export const NEVER_OK: readonly Impossible[] = [
  {
    members: /^new (Socket|UdpSocket|UnixDatagramSocket)$/,
    reason: "create, open, bind, pair and adopt make sockets; nobody else does",
  },
  {
    members: /^(UdpSocket|UnixDatagramSocket)\.prototype\.(listen|tryAccept|accept|acceptSync)$/,
    reason: "inherited, and datagram sockets have no connections",
  },
];

/**
 * What the package never refuses, whatever the arguments are. `this` of another class is refused by
 * the engine itself, which is counted apart.
 */
export const NEVER_REFUSED: readonly Impossible[] = [
  {
    members: new RegExp(`^get ${ADDRESS}\\.(any|loopback|broadcast|unnamed)$`),
    reason: "a constant",
  },
  {
    members: new RegExp(`^get ${ADDRESS}\\.prototype\\.`),
    reason: "an address is immutable, and all that it says is known",
  },
  {
    members: new RegExp(`^${ADDRESS}\\.prototype(\\.(map|unmap|toString|toJSON)|\\[)`),
    reason: "the same, in another form",
  },
  {
    members: new RegExp(`^${ADDRESS}\\.prototype\\.(equals|resolveScope)$`),
    reason: "anything can be compared, and the addresses here have scopes that exist",
  },
  {
    members: /^get (DatagramBatch|Message|NativeBuffer)\.prototype\./,
    reason: "what it says is known also when the memory is gone",
  },
  {
    members: /^(DatagramBatch|NativeBuffer)\.prototype(\.free|\[Symbol\.dispose\])$/,
    reason: "does nothing the second time",
  },
  {
    members: /^get \w*Socket\.prototype\.(connected|descriptor)$/,
    reason: "false and -1 when closed",
  },
  {
    members: /^\w*Socket\.prototype(\.close|\.ref|\.unref|\[)/,
    reason: "does nothing the second time, or says that it is closed",
  },
  {
    members: /^new (System|Timeout|Closed)Error$/,
    reason: "an error is made of what it is given",
  },
  {
    members: /^Batches\.prototype(\.return|\[)/,
    reason: "does nothing the second time, or gives itself",
  },
  {
    members: /BatchSubscription\.prototype/,
    reason: "does nothing the second time, or says what it is",
  },
  { members: /^get poller\./, reason: "what it is and has done is known" },
  { members: /^capabilities$/, reason: "found once, and then remembered" },
];

/** The reason why a way does not exist for a member; undefined where it does. */
export function reasonOf(key: string, impossible: readonly Impossible[]): string | undefined {
  return impossible.find(({ members }) => members.test(key))?.reason;
}

/**
 * Where the engine's own errors may come out of a call: what the package does with the argument is
 * to convert it to text, and the conversion is the argument's.
 */
export const CONVERTS: RegExp = /^new (System|Timeout|Closed)Error$/;

/**
 * Where an option may be read more than once, because each reading is checked where it is used: the
 * parts of an address, and what an error is made of.
 */
export const READS_AGAIN: RegExp = /^(addressFrom|new (System|Timeout|Closed)Error)$/;
