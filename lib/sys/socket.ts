/**
 * socket(7) and its calls, under their C names and in C's order. Each returns the kernel's result,
 * or `-errno`; none throws, retries, allocates or keeps anything. Lengths of views are not
 * arguments: they are asked of the views.
 *
 * @module
 */
import { libc, type Memory, orErrno } from "../ffi/libc.ts";
import { byteLengthOf } from "../ffi/memory.ts";

/** socket(2). Returns the new descriptor, or `-errno`. */
export function socket(domain: number, type: number, protocol: number): number {
  return orErrno(libc.socket(domain, type, protocol));
}

/** socketpair(2). Fills `pair` with two descriptors. Returns 0, or `-errno`. */
export function socketpair(
  domain: number,
  type: number,
  protocol: number,
  pair: Int32Array,
): number {
  return orErrno(libc.socketpair(domain, type, protocol, pair));
}

/** bind(2). Returns 0, or `-errno`. */
export function bind(fd: number, address: ArrayBufferView): number {
  return orErrno(libc.bind(fd, address, byteLengthOf(address)));
}

/** connect(2). Returns 0, or `-errno`. */
export function connect(fd: number, address: ArrayBufferView): number {
  return orErrno(libc.connect(fd, address, byteLengthOf(address)));
}

/** listen(2). Returns 0, or `-errno`. */
export function listen(fd: number, backlog: number): number {
  return orErrno(libc.listen(fd, backlog));
}

/**
 * accept4(2). Fills `address` and sets `addressLength[0]`. Returns the new descriptor, or `-errno`.
 */
export function accept4(
  fd: number,
  address: ArrayBufferView,
  addressLength: Uint32Array,
  flags: number,
): number {
  addressLength[0] = byteLengthOf(address);
  return orErrno(libc.accept4(fd, address, addressLength, flags));
}

/** getsockname(2). Fills `address` and sets `addressLength[0]`. Returns 0, or `-errno`. */
export function getsockname(
  fd: number,
  address: ArrayBufferView,
  addressLength: Uint32Array,
): number {
  addressLength[0] = byteLengthOf(address);
  return orErrno(libc.getsockname(fd, address, addressLength));
}

/** getpeername(2). Fills `address` and sets `addressLength[0]`. Returns 0, or `-errno`. */
export function getpeername(
  fd: number,
  address: ArrayBufferView,
  addressLength: Uint32Array,
): number {
  addressLength[0] = byteLengthOf(address);
  return orErrno(libc.getpeername(fd, address, addressLength));
}

/** getsockopt(2). Fills `value` and sets `valueLength[0]`. Returns 0, or `-errno`. */
export function getsockopt(
  fd: number,
  level: number,
  name: number,
  value: ArrayBufferView,
  valueLength: Uint32Array,
): number {
  valueLength[0] = byteLengthOf(value);
  return orErrno(libc.getsockopt(fd, level, name, value, valueLength));
}

/** setsockopt(2). `valueLength` is for null, which is passed as NULL. Returns 0, or `-errno`. */
export function setsockopt(
  fd: number,
  level: number,
  name: number,
  value: ArrayBufferView | null,
  valueLength = 0,
): number {
  const length = value === null ? valueLength : byteLengthOf(value);
  return orErrno(libc.setsockopt(fd, level, name, value, length));
}

/** shutdown(2). Returns 0, or `-errno`. */
export function shutdown(fd: number, how: number): number {
  return orErrno(libc.shutdown(fd, how));
}

/** sockatmark(3). Returns 1 if the next byte follows the urgent mark, 0 if not, or `-errno`. */
export function sockatmark(fd: number): number {
  return orErrno(libc.sockatmark(fd));
}

/** send(2). Returns the bytes sent, or `-errno`. */
export function send(fd: number, buffer: ArrayBufferView, flags: number): number {
  return orErrno(libc.send(fd, buffer, byteLengthOf(buffer), flags));
}

/** sendto(2). Returns the bytes sent, or `-errno`. */
export function sendto(
  fd: number,
  buffer: ArrayBufferView,
  flags: number,
  address: ArrayBufferView,
): number {
  return orErrno(
    libc.sendto(fd, buffer, byteLengthOf(buffer), flags, address, byteLengthOf(address)),
  );
}

/** sendmsg(2). `message` is a `msghdr`, or its address. Returns the bytes sent, or `-errno`. */
export function sendmsg(fd: number, message: Memory, flags: number): number {
  return orErrno(libc.sendmsg(fd, message, flags));
}

/**
 * sendmmsg(2). `messages` are `count` times `mmsghdr`, or their address. Sets each `msg_len`.
 * Returns the messages sent, or `-errno` of the first one; what stopped it after the first is lost
 * until it is called again from there.
 */
export function sendmmsg(fd: number, messages: Memory, count: number, flags: number): number {
  return orErrno(libc.sendmmsg(fd, messages, count, flags));
}

/** recv(2). Fills `buffer`. Returns the byte count, or `-errno`. */
export function recv(fd: number, buffer: ArrayBufferView, flags: number): number {
  return orErrno(libc.recv(fd, buffer, byteLengthOf(buffer), flags));
}

/**
 * recvfrom(2). Fills `buffer` and `source` and sets `sourceLength[0]`. Returns the byte count, or
 * `-errno`.
 */
export function recvfrom(
  fd: number,
  buffer: ArrayBufferView,
  flags: number,
  source: ArrayBufferView,
  sourceLength: Uint32Array,
): number {
  sourceLength[0] = byteLengthOf(source);
  return orErrno(libc.recvfrom(fd, buffer, byteLengthOf(buffer), flags, source, sourceLength));
}

/**
 * recvmsg(2). `message` is a `msghdr`, or its address, and is filled. Returns the byte count, or
 * `-errno`.
 */
export function recvmsg(fd: number, message: Memory, flags: number): number {
  return orErrno(libc.recvmsg(fd, message, flags));
}

/**
 * recvmmsg(2). `messages` are `count` times `mmsghdr`, or their address, and are filled; `timeout`
 * is a `timespec`, looked at only after a datagram has come. Returns the messages received, or
 * `-errno`.
 */
export function recvmmsg(
  fd: number,
  messages: Memory,
  count: number,
  flags: number,
  timeout: Memory,
): number {
  return orErrno(libc.recvmmsg(fd, messages, count, flags, timeout));
}
