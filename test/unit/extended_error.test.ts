/** What is made of an entry of the error queue, whatever its bytes are. */
import { describe, expect, test } from "bun:test";
import { Inet4Address, Inet6Address, parseAddress } from "bun-sockets";
import {
  AF_INET,
  AF_INET6,
  ECONNREFUSED,
  EHOSTUNREACH,
  EMSGSIZE,
  ENOBUFS,
  IP_RECVERR,
  IPPROTO_IP,
  IPPROTO_IPV6,
  IPV6_RECVERR,
  SCM_TIMESTAMPING,
  SO_EE_ORIGIN_ICMP,
  SO_EE_ORIGIN_ICMP6,
  SO_EE_ORIGIN_LOCAL,
  SO_EE_ORIGIN_TIMESTAMPING,
  SO_EE_ORIGIN_TXTIME,
  SO_EE_ORIGIN_ZEROCOPY,
  SOL_SOCKET,
} from "bun-sockets/sys";
import { addressBytes } from "../../lib/address.ts";
import { decodeExtendedError, decodeQueued } from "../../lib/internal/extended_error.ts";
import { cmsghdr } from "../../structs/cmsghdr.ts";
import { sock_extended_err } from "../../structs/sock_extended_err.ts";
import { timespec } from "../../structs/timespec.ts";

const QUOTED = { destination: new Inet4Address("192.0.2.9", 53), payload: new Uint8Array([1, 2]) };
const FUZZED = 300_000;
const CANARY = 0xa5;

interface Fields {
  readonly errno?: number;
  readonly origin?: number;
  readonly type?: number;
  readonly code?: number;
  readonly info?: number;
  readonly data?: number;
}

function errorBytes(fields: Fields, offender?: string): Uint8Array {
  const address =
    offender === undefined ? new Uint8Array(16) : addressBytes(parseAddress(offender));
  const bytes = new Uint8Array(sock_extended_err.size + address.length);
  const view = new DataView(bytes.buffer);
  sock_extended_err.ee_errno.set(view, 0, fields.errno ?? 0);
  sock_extended_err.ee_origin.set(view, 0, fields.origin ?? 0);
  sock_extended_err.ee_type.set(view, 0, fields.type ?? 0);
  sock_extended_err.ee_code.set(view, 0, fields.code ?? 0);
  sock_extended_err.ee_info.set(view, 0, fields.info ?? 0);
  sock_extended_err.ee_data.set(view, 0, fields.data ?? 0);
  bytes.set(address, sock_extended_err.size);
  return bytes;
}

function stampBytes(...times: readonly (readonly [number, number])[]): Uint8Array {
  const bytes = new Uint8Array(3 * timespec.size);
  const view = new DataView(bytes.buffer);
  for (const [i, [seconds, nanoseconds]] of times.entries()) {
    timespec.tv_sec.set(view, i * timespec.size, seconds);
    timespec.tv_nsec.set(view, i * timespec.size, nanoseconds);
  }
  return bytes;
}

/** Control messages, one after another, as the kernel lays them out. */
function messages(...list: readonly (readonly [number, number, Uint8Array])[]): DataView {
  const sizes = list.map(([, , data]) => (cmsghdr.size + data.length + 7) & ~7);
  const bytes = new Uint8Array(sizes.reduce((sum, size) => sum + size, 0));
  const view = new DataView(bytes.buffer);
  let at = 0;
  for (const [i, [level, type, data]] of list.entries()) {
    cmsghdr.cmsg_len.set(view, at, cmsghdr.size + data.length);
    cmsghdr.cmsg_level.set(view, at, level);
    cmsghdr.cmsg_type.set(view, at, type);
    bytes.set(data, at + cmsghdr.size);
    at += sizes[i] as number;
  }
  return view;
}

const errors4 = (fields: Fields, offender?: string) =>
  messages([IPPROTO_IP, IP_RECVERR, errorBytes(fields, offender)]);
const errors6 = (fields: Fields, offender?: string) =>
  messages([IPPROTO_IPV6, IPV6_RECVERR, errorBytes(fields, offender)]);
const decode = (view: DataView) => decodeQueued(view, view.byteLength, QUOTED);

describe("decodeQueued()", () => {
  test("tells what a router or host has said", () => {
    const icmp = { errno: ECONNREFUSED, origin: SO_EE_ORIGIN_ICMP, type: 3, code: 3 };
    expect(decode(errors4(icmp, "192.0.2.1:0"))).toEqual({
      kind: "icmp",
      code: "ECONNREFUSED",
      version: 4,
      type: 3,
      icmpCode: 3,
      reason: "port unreachable",
      offender: new Inet4Address("192.0.2.1", 0),
      ...QUOTED,
    });
    const icmp6 = { errno: EHOSTUNREACH, origin: SO_EE_ORIGIN_ICMP6, type: 1, code: 3 };
    expect(decode(errors6(icmp6, "[2001:db8::1]:0"))).toEqual({
      kind: "icmp",
      code: "EHOSTUNREACH",
      version: 6,
      type: 1,
      icmpCode: 3,
      reason: "address unreachable",
      offender: new Inet6Address("2001:db8::1", 0),
      ...QUOTED,
    });
    expect(decode(errors4(icmp))).toMatchObject({ kind: "icmp", offender: undefined });
  });

  test.each([
    [SO_EE_ORIGIN_ICMP, 3, 0, "network unreachable"],
    [SO_EE_ORIGIN_ICMP, 3, 13, "communication prohibited"],
    [SO_EE_ORIGIN_ICMP, 3, 15, "precedence cutoff"],
    [SO_EE_ORIGIN_ICMP, 3, 16, "unknown"],
    [SO_EE_ORIGIN_ICMP, 11, 0, "time to live exceeded"],
    [SO_EE_ORIGIN_ICMP, 200, 0, "unknown"],
    [SO_EE_ORIGIN_ICMP6, 1, 0, "no route to destination"],
    [SO_EE_ORIGIN_ICMP6, 1, 4, "port unreachable"],
    [SO_EE_ORIGIN_ICMP6, 3, 0, "hop limit exceeded"],
    [SO_EE_ORIGIN_ICMP6, 11, 0, "unknown"],
  ])("says in words what origin %d, type %d, code %d is: %s", (origin, type, code, reason) => {
    expect(decode(errors4({ errno: EHOSTUNREACH, origin, type, code }))).toMatchObject({ reason });
  });

  test("tells the MTU of a path, of a router's or this host's knowledge", () => {
    const v4 = { errno: EMSGSIZE, origin: SO_EE_ORIGIN_ICMP, type: 3, code: 4, info: 1300 };
    const v6 = { errno: EMSGSIZE, origin: SO_EE_ORIGIN_ICMP6, type: 2, code: 0, info: 1280 };
    const local = { errno: EMSGSIZE, origin: SO_EE_ORIGIN_LOCAL, info: 1500 };
    const offender = new Inet4Address("192.0.2.1", 0);
    expect(decode(errors4(v4, "192.0.2.1:0"))).toEqual({
      kind: "pathMtu",
      mtu: 1300,
      offender,
      ...QUOTED,
    });
    expect(decode(errors6(v6, "[2001:db8::1]:0"))).toMatchObject({ kind: "pathMtu", mtu: 1280 });
    expect(decode(errors4(local))).toEqual({
      kind: "pathMtu",
      mtu: 1500,
      offender: undefined,
      ...QUOTED,
    });
    expect(decode(errors4({ errno: ENOBUFS, origin: SO_EE_ORIGIN_LOCAL }))).toEqual({
      kind: "local",
      code: "ENOBUFS",
      ...QUOTED,
    });
  });

  test("tells a range of sends without a copy, also one that wraps", () => {
    const origin = SO_EE_ORIGIN_ZEROCOPY;
    expect(decode(errors4({ origin, code: 1, info: 0xffffffff, data: 2 }))).toEqual({
      kind: "zeroCopy",
      first: 0xffffffff,
      last: 2,
      copied: true,
    });
    expect(decode(errors6({ origin, info: 7, data: 7 }))).toMatchObject({ copied: false });
  });

  test.each([
    [0, "sent"],
    [1, "scheduled"],
    [2, "acknowledged"],
  ])("tells a timestamp of kind %d: %s", (info, what) => {
    const error = errorBytes({ origin: SO_EE_ORIGIN_TIMESTAMPING, info, data: 0xffffffff });
    const soft = stampBytes([1_700_000_000, 999_999_999]);
    const hard = stampBytes([0, 0], [0, 0], [5, 6]);
    const expected = { kind: "timestamp", what, id: 0xffffffff };
    for (const [stamp, told] of [
      [soft, { seconds: 1_700_000_000, nanoseconds: 999_999_999, isHardware: false }],
      [hard, { seconds: 5, nanoseconds: 6, isHardware: true }],
    ] as const) {
      const stamped = [SOL_SOCKET, SCM_TIMESTAMPING, stamp] as const;
      const about = [IPPROTO_IP, IP_RECVERR, error] as const;
      // Whichever comes first.
      expect(decode(messages(stamped, about))).toEqual({ ...expected, ...told } as never);
      expect(decode(messages(about, stamped))).toEqual({ ...expected, ...told } as never);
      expect(decode(messages(about)).kind).toBe("unknown");
    }
  });

  test.each([
    [1, true],
    [2, false],
  ])("tells a transmit time that was not kept, by code %d", (code, isInvalid) => {
    const fields = { origin: SO_EE_ORIGIN_TXTIME, code, info: 0xfffffffe, data: 0x12345678 };
    expect(decode(errors4(fields))).toEqual({
      kind: "transmitTimeMissed",
      isInvalid,
      timeNs: 0x12345678fffffffen,
      payload: QUOTED.payload,
    });
  });

  test("keeps what it does not know, and what is no error at all", () => {
    const fields = { errno: 5, origin: 77, type: 1, code: 2, info: 3, data: 4 };
    expect(decode(errors4(fields))).toEqual({
      kind: "unknown",
      error: { ...(fields as Required<Fields>), offender: undefined },
      ...QUOTED,
    });
    expect(decode(new DataView(new ArrayBuffer(0)))).toEqual({
      kind: "unknown",
      error: undefined,
      ...QUOTED,
    });
  });

  test("looks at no byte beyond those that the kernel has filled", () => {
    const view = errors4({ errno: ECONNREFUSED, origin: SO_EE_ORIGIN_ICMP }, "192.0.2.1:0");
    for (let length = 0; length <= view.byteLength; length++) {
      const { kind } = decodeQueued(view, length, QUOTED);
      expect([length, kind]).toEqual([length, length < 32 ? "unknown" : "icmp"]);
    }
    // One that says that it has filled more than there is.
    expect(decodeQueued(view, 1e9, QUOTED).kind).toBe("icmp");
  });
});

describe("decodeExtendedError()", () => {
  test("needs the whole of the struct, and of the address for an address", () => {
    const bytes = errorBytes({ errno: ECONNREFUSED }, "192.0.2.1:9");
    const view = new DataView(bytes.buffer);
    for (let length = -1; length <= 40; length++) {
      const decoded = decodeExtendedError(view, 0, length);
      expect(decoded?.errno).toBe(length < 16 ? (undefined as never) : ECONNREFUSED);
      expect(`${decoded?.offender}`).toBe(length < 32 ? "undefined" : "192.0.2.1:9");
    }
    for (const offset of [-1, 17, 33, Number.NaN])
      expect(decodeExtendedError(view, offset, 16)).toBeUndefined();
  });
});

// xorshift32: the same bytes in each run.
let state = 0x9e3779b9;
function random(limit: number): number {
  state ^= state << 13;
  state ^= state >>> 17;
  state ^= state << 5;
  return (state >>> 0) % limit;
}

const VALUES = [0, 1, 2, 3, 4, 5, 6, 11, 15, 16, 17, 25, 32, 41, 47, 48, 63, 64, 65, 127, 255];
const PLACES = 4;

/** Bytes that look like control messages more or less. */
function fuzzed(target: Uint8Array): void {
  for (let i = 0; i < target.length; i++) target[i] = random(4) === 0 ? random(256) : 0;
  const view = new DataView(target.buffer, target.byteOffset, target.length);
  let at = 0;
  for (let left = random(PLACES); left >= 0 && at + cmsghdr.size <= target.length; left--) {
    const data = random(80);
    const length = cmsghdr.size + data + (random(4) === 0 ? random(40) - 20 : 0);
    view.setUint32(at, random(50) === 0 ? 0xffffffff : length, true);
    view.setUint32(at + 4, random(50) === 0 ? random(0xffffffff) : 0, true);
    const [level, type] = [
      [IPPROTO_IP, IP_RECVERR],
      [IPPROTO_IPV6, IPV6_RECVERR],
      [SOL_SOCKET, SCM_TIMESTAMPING],
      [VALUES[random(VALUES.length)], VALUES[random(VALUES.length)]],
    ][random(4)] as [number, number];
    view.setInt32(at + 8, level, true);
    view.setInt32(at + 12, type, true);
    if (at + 34 <= target.length && random(2) === 0) {
      target[at + 20] = random(8);
      view.setUint16(at + 32, random(2) === 0 ? AF_INET : AF_INET6, true);
    }
    at += (cmsghdr.size + data + 7) & ~7;
  }
}

test("of any bytes, nothing is read but those that were given", () => {
  const around = new Uint8Array(new ArrayBuffer(640));
  const kinds = new Map<string, number>();
  let offenders = 0;
  for (let i = 0; i < FUZZED; i++) {
    const start = random(80);
    const length = random(400);
    around.fill(CANARY);
    fuzzed(around.subarray(start, start + length));
    const exact = around.slice(start, start + length);
    const claimed = random(8) === 0 ? length + random(100) : random(length + 1);
    // The same bytes with nothing behind them, where any read beyond would throw.
    const alone = decodeQueued(new DataView(exact.buffer), claimed, QUOTED);
    const within = decodeQueued(new DataView(around.buffer, start, length), claimed, QUOTED);
    // And with others behind them, which may change nothing.
    around.fill(~CANARY, start + Math.min(claimed, length), start + length);
    const other = decodeQueued(new DataView(around.buffer, start, length), claimed, QUOTED);
    if (!Bun.deepEquals(alone, within) || !Bun.deepEquals(alone, other))
      expect([i, within, other]).toEqual([i, alone, alone]);
    kinds.set(alone.kind, (kinds.get(alone.kind) ?? 0) + 1);
    if ("offender" in alone && alone.offender) {
      offenders++;
      const { offender } = alone;
      if (!(offender instanceof Inet4Address || offender instanceof Inet6Address))
        throw new Error(`No address: ${offender}`);
    }
  }
  // All of them were met, so that the fuzz has looked everywhere.
  expect([...kinds.keys()].toSorted()).toEqual([
    "icmp",
    "local",
    "pathMtu",
    "timestamp",
    "transmitTimeMissed",
    "unknown",
    "zeroCopy",
  ]);
  expect(offenders).toBeGreaterThan(1000);
});
