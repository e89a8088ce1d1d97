/**
 * What the counts of a run must be, and where a way of ending does not exist.
 *
 * @module
 */

/** Calls of each member that must return, and calls that it must refuse. */
export const EACH_WAY_MIN = 200;

/** The same of "bun-sockets/packet", where hundreds of members read and write a field each. */
export const EACH_WAY_OF_PACKETS_MIN = 25;

/** Calls of a member that a class has from another one: there each way counts. */
export const INHERITED_MIN = 5;

/** Calls of what handlers have beside themselves: functions for room and for errors. */
export const LISTENED_MIN = 20;

/** The share of all calls that must pass the checks and reach the kernel. */
export const REACHED_MIN = 0.3;

/** A way in which the calls of some members cannot end. */
export interface Impossible {
  readonly members: RegExp;
  readonly reason: string;
}

const ADDRESS = "(Inet4|Inet6|Unix|Link|Raw)Address";

/** What never returns. */
export const NEVER_OK: readonly Impossible[] = [
  {
    members: /^new \w*(Socket|Listener|Ring)$/,
    reason: "create, open, bind, listen, pair and adopt make sockets and rings; nobody else does",
  },
  { members: /^new ReceivedDescriptor$/, reason: "a receive makes them" },
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
    members: new RegExp(`^${ADDRESS}\\.prototype\\.(equals|resolveScope|resolveInterface)$`),
    reason:
      "anything can be compared, and the addresses here have scopes and interfaces that exist",
  },
  {
    members: /^get (DatagramBatch|Message|NativeBuffer)\.prototype\./,
    reason: "what it says is known also when the memory is gone",
  },
  {
    members:
      /^get (ControlReader|ControlWriter)\.prototype\.|^ControlReader\.prototype\.(next|message)$/,
    reason: "what is not there is -1 or undefined",
  },
  { members: /^ControlWriter\.prototype\.clear$/, reason: "begins anew" },
  {
    members: /^get FilterProgram\.|^FilterProgram\.prototype(\.toString$|\[)/,
    reason: "a program is immutable, and all that it says is known",
  },
  {
    members:
      /^(get ReceivedDescriptor\.prototype\.descriptor|ReceivedDescriptor\.prototype(\.close|\.toString|\[))/,
    reason: "does nothing the second time, or says that it is closed",
  },
  {
    members:
      /^get \w*Socket\.prototype\.(closed|queueErrors|errorQueue|offload|zeroCopy|memberships)$/,
    reason: "known also when it is closed",
  },
  {
    members: /^(DatagramBatch|NativeBuffer)\.prototype(\.free|\[Symbol\.dispose\])$/,
    reason: "does nothing the second time",
  },
  {
    members: /^(DatagramBatch|Message|ControlReader|ControlWriter)\.prototype\[nodejs/,
    reason: "what it shows is known also when the memory is gone",
  },
  {
    members: /^get \w*Socket\.prototype\.(connected|descriptor)$/,
    reason: "false and -1 when closed",
  },
  {
    members: /^\w*(Socket|UnixListener)\.prototype(\.close|\.ref|\.unref|\.toString|\[)/,
    reason: "does nothing the second time, or says that it is closed",
  },
  {
    members: /^get PingSocket\.prototype\./,
    reason: "what it is and has counted is known also when it is closed",
  },
  {
    members: /^StreamSocket\.prototype\.(reset|takeUndelivered)$/,
    reason: "does nothing the second time",
  },
  {
    members: /^get StreamSocket\.prototype\.(readable|writable)$/,
    reason: "of a closed socket they are streams that fail",
  },
  {
    members: /^get \w*Listener\.prototype\.(dropped|unlinkOnClose)$/,
    reason: "known also when it is closed",
  },
  {
    members: /^get Socket(Reader|Writer)\.prototype\./,
    reason: "known also when the socket is closed",
  },
  {
    members: /^Socket(Reader\.prototype\.(lines|chunks)|Writer\.prototype\.discard)$/,
    reason: "reads nothing yet, or drops what there is",
  },
  {
    members: /^lines\.return$|^Connections\.prototype(\.return|\[)|^QueuedErrors\./,
    reason: "does nothing the second time, or gives itself",
  },
  {
    members: /^get (Prefix|AddressList)\.prototype\./,
    reason: "what it says is known",
  },
  {
    members: /^(Prefix\.prototype(\.(equals|toString|toJSON)|\[)|AddressList\.prototype\.toJSON$)/,
    reason: "the same, in another form; anything can be compared",
  },
  { members: /^get ResolutionError\.prototype\./, reason: "what its code means" },
  {
    members: /^(openSockets|socketCounters|services|protocols)$/,
    reason: "a list of what there is, which may be none, or counts",
  },
  {
    members: /^new (System|Timeout|Closed|Resolution)Error$/,
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
  {
    members: /^get (\w*Header2?|HeaderOptions|PacketView)\.prototype\./,
    reason: "what is not there is 0, false or undefined",
  },
  {
    members:
      /^(\w*Header2?\.prototype(\.(at|leave|next|sackStart|sackEnd)$|\[)|HeaderOptions\.prototype\.(next|uint)|PacketView\.prototype\.vlanAt$)/,
    reason: "a header that does not fit is nowhere, and what is not there is 0 or undefined",
  },
  {
    members: /^(Ipv4Header\.prototype\.computeChecksum|IcmpHeader\.prototype\.computeChecksum)$/,
    reason: "takes nothing, and gives a number also where the header is nowhere",
  },
  {
    members:
      /^(get )?(PacketBlock|PacketBlocks)\.prototype(?!\.next$)|^PacketBlock\.prototype\.next$/,
    reason: "a block whose loan is over has no frames",
  },
  { members: /^frames\.|^captured\.return/, reason: "ends with the loan, or ends it" },
  {
    members:
      /^get PacketRing\.prototype\.(socket|blockBytes|blockCount|closed)$|^PacketRing\.prototype(\.(close|toString)$|\[)/,
    reason: "known also when it is closed, or does nothing the second time",
  },
  {
    members:
      /^get Capture(Reader|Writer)\.prototype\.|^CaptureReader\.prototype(\.(packet|close)$|\[)/,
    reason: "what is known of a file stays when it is closed; what reads it does so step by step",
  },
  {
    members: /^CaptureWriter\.prototype(\.close$|\[)/,
    reason: "does nothing the second time; few devices are full",
  },
  {
    members:
      /^((get )?CapturedPacket\.prototype\.|new CapturedPacket$|new CaptureFile$|linkType(Name|OfHardware)$)/,
    reason: "what it says is known; what is not known is undefined",
  },
  {
    members: /^new (Filter|CaptureFile)Error$/,
    reason: "an error is made of what it is given",
  },
  { members: /^get poller\./, reason: "what it is and has done is known" },
  { members: /^capabilities$/, reason: "found once, and then remembered" },
];

const SELDOM: readonly string[] = [
  "(SocketReader.prototype.(try|read|peek|linesSync|configure|takeBuffered)|lines.next)",
  "SocketWriter.prototype.(configure|end$|flush$|writeLine|writeText)",
  "Connections.prototype.next",
  "(hostBy|fullHostName|protocolBy|serviceByName|reverse|resolve|setHostName|memberships)",
  "(ipAddresses|interfaceNames|new (NetworkInterface|AddressList|Message|ConnectError))",
  "StreamSocket.prototype.(spliceTo|receiveExactly|receiveUrgent|trySendUrgent|reader|writer|lines)",
  "StreamSocket.prototype.resetOnClose",
  "TcpSocket.connect",
  "Socket.prototype.(setRawOption|receiveMessage$|receiveFrom$|sendMessage$|receive$|receiveBytes)",
  "(set )?Socket.prototype.(receiveError|tryReceiveError|queueErrors|transmitTimestamps)",
  "(get )?Socket.prototype.(acceptSync|tryReceiveFrom|detach|detachFilter|remoteAddress)",
  "(set )?(Listener|UnixListener).prototype.(acceptSync|connections|detach|unlinkOnClose)",
  "(UnixSeqpacketSocket.(open|prototype.duplicate)|Unix(Datagram)?Socket.open|UnixAddress.abstract)",
  "Inet6Address.prototype.resolveScope",
  "set Message.prototype.(vectors|address)",
  "ControlWriter.prototype.add(Credentials|Descriptors|PacketInfo)?$",
  "DatagramBatch.prototype.(set|reply|control|segmentBytes|destination)",
  "UdpSocket.prototype.trySendSegments",
  "IpSocket.prototype.(unblockSource|sourceFilter|setSourceFilter|leave)",
  "\\w+.prototype.(receiveDescriptors|sendDescriptors|attachReusePort)",
  "(get )?RawSocket.(prototype.)?(bind|checksumOffset|remoteAddress|payloadOffset|trySendTo)",
];

/** What ends seldom in one of its ways, and is called more often. */
export const RARELY: RegExp = new RegExp(`^(${SELDOM.join("|")})`);

/** The reason why a way does not exist for a member; undefined where it does. */
export function reasonOf(key: string, impossible: readonly Impossible[]): string | undefined {
  return impossible.find(({ members }) => members.test(key))?.reason;
}

/**
 * Where the engine's own errors may come out of a call: what the package does with the argument is
 * to convert it to text, and the conversion is the argument's.
 */
export const CONVERTS: RegExp =
  /^new (System|Timeout|Closed|Connect|Resolution|Filter|CaptureFile)Error$/;

/**
 * Where an option may be read more than once, because each reading is checked where it is used: the
 * parts of an address, what an error is made of, what a file that is gone on with must be like; and a
 * cursor over frames, and what a program loads, are no options.
 */
export const READS_AGAIN: RegExp =
  /^(addressFrom|new (System|Timeout|Closed|Connect|Resolution)Error|CaptureFile\.append|CaptureWriter\.prototype\.write(Block|Frame)|runFilter)$/;
