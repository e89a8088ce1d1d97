import { describe, expect, test } from "bun:test";
import * as sys from "bun-sockets/sys";
import {
  AF_VSOCK,
  ERANGE,
  IP_MSFILTER,
  IPPROTO_ICMPV6,
  IPPROTO_IP,
  IPPROTO_IPV6,
  IPPROTO_RAW,
  IPPROTO_SCTP,
  IPPROTO_TCP,
  IPPROTO_UDP,
  IPPROTO_UDPLITE,
  MCAST_MSFILTER,
  PACKET_FANOUT_DATA,
  SO_ATTACH_FILTER,
  SO_ATTACH_REUSEPORT_CBPF,
  SO_GET_FILTER,
  SO_RCVBUF,
  SOL_ALG,
  SOL_BLUETOOTH,
  SOL_MPTCP,
  SOL_NETLINK,
  SOL_PACKET,
  SOL_RDS,
  SOL_SOCKET,
  SOL_TLS,
  SOL_XDP,
  TCP_ZEROCOPY_RECEIVE,
} from "bun-sockets/sys";
import { ClosedError } from "../../lib/error.ts";
import type { Libc } from "../../lib/ffi/libc.ts";
import * as newer from "../../lib/internal/option_constants.ts";
import {
  getOptionOf,
  getRawOptionOf,
  IpOption,
  Ipv6Option,
  type Option,
  options,
  SocketOption,
  setOptionOf,
  setRawOptionOf,
  TcpOption,
  UdpOption,
} from "../../lib/option.ts";
import { compileErrors } from "../structs/facts.ts";
import { failWith, replaceEntry } from "../support/faults.ts";
import { requires, testIf } from "../support/require.ts";

// Nothing here reaches a socket: what passes the checks ends at the descriptor.
const NONE = -1;

const groups = { SocketOption, IpOption, Ipv6Option, TcpOption, UdpOption };

function setAnything(option: unknown, value: unknown): void {
  setOptionOf({ fd: NONE }, option as Option<unknown, "set">, value);
}

/** Puts the C name of each row's option in front, for the name of the test. */
function named<Row extends readonly [{ readonly name: string }, ...unknown[]]>(
  rows: readonly Row[],
): [string, ...Row][] {
  return rows.map((row) => [row[0].name, ...row]);
}

/** What a call that must not reach the kernel throws. */
function refusal(call: () => unknown): unknown {
  using get = replaceEntry("getsockopt", () => 0);
  using set = replaceEntry("setsockopt", () => 0);
  let thrown: unknown;
  try {
    call();
  } catch (error) {
    thrown = error;
  }
  expect(get.calls + set.calls).toBe(0);
  return thrown;
}

describe.each(Object.entries(groups))("%s", (_name, group) => {
  test("is frozen, and so is each option", () => {
    expect(Object.isFrozen(group)).toBe(true);
    for (const option of Object.values(group)) expect(Object.isFrozen(option)).toBe(true);
  });

  test("has C names, in their order", () => {
    const names = Object.values(group).map(({ name }) => name);
    const prefix = {
      IpOption: /^(IP|ICMP)_/,
      Ipv6Option: /^(IPV6|ICMP6)_/,
      TcpOption: /^TCP_/,
      UdpOption: /^UDP/,
    };
    for (const name of names) expect(name).toMatch(prefix[_name as keyof typeof prefix] ?? /^SO_/);
    const words = names.map((name) => name.replaceAll("_", " "));
    expect(words).toEqual(words.toSorted());
  });
});

// A value for those options that can only be set.
const VALUES = new Map<object, unknown>([
  [SocketOption.busyPollBudget, 1],
  [SocketOption.inQueue, true],
  [IpOption.multicastInterfaceIndex, 1],
  [Ipv6Option.addressForm, "ipv4"],
  [Ipv6Option.routerAlert, 1],
]);

const LEVELS = {
  SocketOption: SOL_SOCKET,
  IpOption: IPPROTO_IP,
  Ipv6Option: IPPROTO_IPV6,
  TcpOption: IPPROTO_TCP,
  UdpOption: IPPROTO_UDP,
};

// Some stand in the group of those who need them, and not of their level.
const OTHER_LEVELS: Readonly<Record<string, number>> = {
  UDPLITE: IPPROTO_UDPLITE,
  ICMP: IPPROTO_RAW,
  ICMP6: IPPROTO_ICMPV6,
};

describe("every option", () => {
  const constants: Readonly<Record<string, unknown>> = { ...sys, ...newer };

  test("has the number and the level that its C name has", () => {
    const asked: unknown[] = [];
    const note = (_fd: number, level: number, number: number) => {
      asked.push([level, number]);
      return 0;
    };
    using _get = replaceEntry("getsockopt", note);
    using _set = replaceEntry("setsockopt", note);
    const expected: unknown[] = [];
    for (const [group, list] of Object.entries(groups)) {
      const level = LEVELS[group as keyof typeof LEVELS];
      for (const option of Object.values(list)) {
        const [, family = ""] = /^(UDPLITE|ICMP|ICMP6)_/.exec(option.name) ?? [];
        expected.push([OTHER_LEVELS[family] ?? level, constants[option.name]]);
        if (VALUES.has(option)) setAnything(option, VALUES.get(option));
        else getOptionOf(3, option);
      }
    }
    expect(asked).toEqual(expected);
    expect(asked.length).toBeGreaterThan(150);
  });

  test("is read into zeroed room, whatever the last answer left there", () => {
    const rooms: Uint8Array[] = [];
    const answer: Libc["getsockopt"] = (_fd, _level, _name, value, length) => {
      const room = value as Uint8Array;
      rooms.push(room.slice());
      room.fill(0xa5);
      (length as Uint32Array)[0] = 0;
      return 0;
    };
    using _get = replaceEntry("getsockopt", answer);
    for (const option of Object.values(groups).flatMap((group) => Object.values(group))) {
      if (!VALUES.has(option)) getOptionOf(3, option);
    }
    expect(rooms.filter((room) => room.some((byte) => byte !== 0))).toEqual([]);
    expect(rooms.length).toBeGreaterThan(150);
  });
});

describe("setOption()", () => {
  const INT_MAX = 2 ** 31 - 1;
  const INT_MIN = -(2 ** 31);
  const WHOLE_SECONDS =
    "expected milliseconds that are a multiple of 1000, as the kernel counts seconds";

  test.each(
    named([
      [IpOption.tos, [0, 255], [-1, 256, 0.5, Number.NaN], "IP_TOS: expected 0 to 255"],
      [IpOption.ttl, [-1, 255], [-2, 70000], "IP_TTL: expected -1 to 255"],
      [SocketOption.mark, [0, 2 ** 32 - 1], [-1, 2 ** 32], "SO_MARK: expected 0 to 4294967295"],
      [SocketOption.peekOffset, [-1, INT_MAX], [-2, INT_MAX + 1], "SO_PEEK_OFF: expected -1 to"],
      [
        SocketOption.receiveBufferBytes,
        [0, 2 ** 30 - 1],
        [-1, 2 ** 30],
        "SO_RCVBUF: expected 0 to",
      ],
      [SocketOption.bindToInterfaceIndex, [0], [-1, INT_MIN], "SO_BINDTOIFINDEX: expected 0 to"],
      [IpOption.unicastInterfaceIndex, [0, INT_MAX], [-1, 2 ** 31], "IP_UNICAST_IF: expected 0 to"],
      [IpOption.multicastInterfaceIndex, [0, INT_MAX], [-1, 0.1], "IP_MULTICAST_IF: expected 0 to"],
      [
        SocketOption.maxPacingBytesPerSecond,
        [1, 2 ** 53 - 1, Number.POSITIVE_INFINITY],
        [0, -1, 2 ** 53, Number.NaN, Number.NEGATIVE_INFINITY],
        "SO_MAX_PACING_RATE: expected 1 to 9007199254740991",
      ],
      [
        TcpOption.keepAliveIdleMs,
        [1000, 32_767_000],
        [0, 60, 999, 32_768_000, Number.NaN, Number.POSITIVE_INFINITY],
        "TCP_KEEPIDLE: expected 1000 to 32767000 milliseconds",
      ],
      [
        TcpOption.keepAliveIdleMs,
        [2000],
        [1500, 1000.5, 2999.999],
        `TCP_KEEPIDLE: ${WHOLE_SECONDS}`,
      ],
      [
        TcpOption.userTimeoutMs,
        [0, INT_MAX],
        [0.5, 1.001],
        "TCP_USER_TIMEOUT: expected milliseconds that are a multiple of 1, as the kernel counts " +
          "milliseconds",
      ],
      [
        SocketOption.busyPollMs,
        [0, 0.001, 0.035, 0.29, 1.001, INT_MAX / 1000],
        [0.0005, 1.0015],
        "SO_BUSY_POLL: expected milliseconds that are a multiple of 0.001, as the kernel counts " +
          "microseconds",
      ],
      [
        SocketOption.receiveTimeoutMs,
        [0, 0.001, 2.5, INT_MAX * 1000],
        [-1, INT_MAX * 1000 + 1, Number.NaN, Number.POSITIVE_INFINITY],
        "SO_RCVTIMEO: expected 0 to 2147483647000 milliseconds",
      ],
      [
        SocketOption.lingerMs,
        [undefined, 0, 1000, INT_MAX * 1000],
        [-1000, (INT_MAX + 1) * 1000, Number.POSITIVE_INFINITY],
        "SO_LINGER: expected 0 to 2147483647000 milliseconds",
      ],
      [SocketOption.lingerMs, [undefined], [1, 1500], `SO_LINGER: ${WHOLE_SECONDS}`],
      [
        TcpOption.linger2Ms,
        [undefined, 0, 120_000],
        [-1000, 121_000],
        "TCP_LINGER2: expected 0 to 120000 milliseconds",
      ],
    ]),
  )("checks the bounds of %s", (_name, option, good, bad, text) => {
    for (const value of good) expect(() => setAnything(option, value)).toThrow(ClosedError);
    for (const value of bad) {
      const error = refusal(() => setAnything(option, value));
      expect(error).toBeInstanceOf(RangeError);
      expect(`${error}`).toStartWith(`RangeError: Cannot use ${value} as ${text}`);
    }
  });

  test.each(
    named([
      [TcpOption.noDelay, "a boolean", [0, 1, "true", undefined, null, {}]],
      [IpOption.tos, "a number", [true, "1", undefined, null, 1n, {}, [1]]],
      [SocketOption.receiveBufferBytes, "a number", ["4096", undefined, new Number(1)]],
      [SocketOption.receiveTimeoutMs, "a number", ["1", undefined, 1n, true]],
      [SocketOption.lingerMs, "a number", ["1", null, false]],
      [TcpOption.linger2Ms, "a number", ["1", null, false]],
      [SocketOption.maxPacingBytesPerSecond, "a number", ["1", 1n, undefined]],
      [IpOption.unicastInterfaceIndex, "a number", ["lo", undefined]],
      [IpOption.mtuDiscover, "a string", [0, undefined, null, {}]],
      [TcpOption.congestion, "a string", [0, undefined, null, new Uint8Array(1)]],
      [IpOption.multicastInterface, "a string", [1, undefined, null]],
      [IpOption.options, "a view", ["", [1], undefined, null, new ArrayBuffer(4)]],
      [IpOption.localPortRange, "an object", [40000, undefined, null, "1-2"]],
      [SocketOption.transmitTime, "an object", [1, undefined, null]],
    ]),
  )("refuses other types for %s", (name, option, expected, values) => {
    for (const value of values) {
      const shown = value === null ? "null" : `a value of type ${typeof value}`;
      const error = refusal(() => setAnything(option, value));
      expect(error).toBeInstanceOf(TypeError);
      // The checks of booleans and numbers that others share say "object" for null.
      expect([
        `TypeError: Cannot use ${shown} as ${name}: expected ${expected}`,
        `TypeError: Cannot use a value of type ${typeof value} as ${name}: expected ${expected}`,
      ]).toContain(`${error}`);
    }
  });

  test("refuses a word that the option does not have, and names those that it has", () => {
    for (const word of ["Do", "", "toString", "__proto__", "constructor"]) {
      expect(refusal(() => setAnything(IpOption.mtuDiscover, word))).toEqual(
        new RangeError(
          `Cannot use "${word}" as IP_MTU_DISCOVER: expected one of "dont", "want", "do", ` +
            '"probe", "interface", "omit"',
        ),
      );
    }
  });

  test.each(["sixteen letters ", "é".repeat(8), "a\0b", "\0", "x".repeat(100_000)])(
    "refuses text that is too long or has a NUL: %j",
    (value) => {
      const shown = JSON.stringify(value);
      expect(refusal(() => setAnything(SocketOption.bindToDevice, value))).toEqual(
        new RangeError(
          `Cannot use ${shown} as SO_BINDTODEVICE: expected at most 15 bytes of text without NUL`,
        ),
      );
    },
  );

  test("refuses bytes that are too long, or in memory that may change", () => {
    expect(refusal(() => setAnything(IpOption.options, new Uint8Array(41)))).toEqual(
      new RangeError("Cannot use 41 bytes as IP_OPTIONS: expected at most 40 bytes"),
    );
    const detached = new Uint8Array(4);
    detached.buffer.transfer();
    for (const view of [
      detached,
      new Uint8Array(new SharedArrayBuffer(4)),
      new Uint8Array(new ArrayBuffer(4, { maxByteLength: 8 })),
    ]) {
      expect(refusal(() => setAnything(IpOption.options, view))).toBeInstanceOf(TypeError);
    }
  });

  test("is not fooled by a view that lies about its length", () => {
    class Liar extends Uint8Array {
      override get byteLength(): number {
        return 4;
      }
    }
    expect(`${refusal(() => setAnything(IpOption.options, new Liar(1000)))}`).toContain(
      "Cannot use 1000 bytes as IP_OPTIONS",
    );
  });

  test("refuses an address that is none, and ports that are none", () => {
    expect(refusal(() => setAnything(IpOption.multicastInterface, "lo"))).toEqual(
      new RangeError('Cannot use "lo" as IP_MULTICAST_IF: expected an IPv4 address'),
    );
    expect(refusal(() => setAnything(IpOption.localPortRange, { low: 1, high: 65536 }))).toEqual(
      new RangeError("Cannot use 65536 as high of IP_LOCAL_PORT_RANGE: expected 0 to 65535"),
    );
    expect(refusal(() => setAnything(IpOption.localPortRange, { low: 1 }))).toBeInstanceOf(
      TypeError,
    );
    expect(refusal(() => setAnything(SocketOption.transmitTime, { clockId: 1 }))).toBeInstanceOf(
      TypeError,
    );
  });

  test("reads each member of a value once, before memory is touched", () => {
    let reads = 0;
    const range = {
      get low() {
        reads++;
        return 40000;
      },
      get high() {
        reads++;
        // Whatever the caller's code does here comes too early to harm.
        setOptionOf({ fd: 3 }, IpOption.localPortRange, { low: 1, high: 2 });
        return 50000;
      },
    };
    const seen: unknown[] = [];
    using _set = replaceEntry("setsockopt", (_fd, _level, _name, value) => {
      const { buffer, byteOffset } = value as Uint8Array;
      seen.push(new DataView(buffer, byteOffset).getUint32(0, true));
      return 0;
    });
    setOptionOf({ fd: 3 }, IpOption.localPortRange, range);
    expect(reads).toBe(2);
    expect(seen).toEqual([1 + 2 * 65536, 40000 + 50000 * 65536]);
  });
});

describe("an option", () => {
  const readOnly = Object.values(SocketOption).filter(({ name }) =>
    ["SO_TYPE", "SO_ERROR", "SO_MEMINFO", "SO_COOKIE", "SO_PEERCRED"].includes(name),
  );

  test.each(readOnly)("$name can only be read: it is not set", (option) => {
    expect(refusal(() => setAnything(option, 1))).toEqual(
      new TypeError(`Cannot set ${option.name}: it can only be read`),
    );
  });

  test.each([Ipv6Option.addressForm, SocketOption.inQueue, IpOption.multicastInterfaceIndex])(
    "$name can only be set: it is not read",
    (option) => {
      expect(refusal(() => getOptionOf(NONE, option as unknown as Option<unknown, "get">))).toEqual(
        new TypeError(`Cannot read ${option.name}: it can only be set`),
      );
    },
  );

  const genuine = SocketOption.receiveBufferBytes;
  test.each([
    ["a look-alike", { name: "SO_RCVBUF", level: 1, number: 8, codec: {}, access: "get set" }],
    ["a copy", { ...genuine }],
    ["an heir", Object.create(genuine)],
    ["a Proxy", new Proxy(genuine, {})],
    ["undefined", undefined],
    ["null", null],
    ["a number", 8],
    ["a string", "SO_RCVBUF"],
    ["a function", () => genuine],
  ])("that is %s is none", (_what, forged) => {
    const shown = forged === null ? "null" : `a value of type ${typeof forged}`;
    const error = new TypeError(
      `Cannot use ${shown} as an option: expected one of SocketOption, IpOption, Ipv6Option, ` +
        "TcpOption or UdpOption",
    );
    const option = forged as Option<unknown, "get set">;
    expect(refusal(() => getOptionOf(NONE, option))).toEqual(error);
    expect(refusal(() => setOptionOf({ fd: NONE }, option, 1))).toEqual(error);
  });

  test("gives nobody a way to make another", () => {
    expect(Object.getPrototypeOf(genuine)).toBe(Object.prototype);
    expect(Reflect.ownKeys(genuine)).toEqual(["name"]);
  });

  test("names call and option when there is no socket", () => {
    expect(() => getOptionOf(NONE, TcpOption.noDelay)).toThrow(
      "getsockopt EBADF TCP_NODELAY: bad file descriptor",
    );
    expect(() => setOptionOf({ fd: NONE }, TcpOption.noDelay, true)).toThrow(
      "setsockopt EBADF TCP_NODELAY: bad file descriptor",
    );
    expect(() => options.dump({ descriptor: NONE })).toThrow(ClosedError);
  });
});

const ELSEWHERE = 'getsockopt and setsockopt of "bun-sockets/sys" take everything';
const FOLLOWS = "its value holds an address that the kernel follows";
const OVERFLOWS = "its value, and not the room, says how much the kernel writes";

describe("the raw form", () => {
  const TABLES = "a number of";
  test.each([
    ["set", SOL_SOCKET, SO_ATTACH_FILTER, "SO_ATTACH_FILTER", FOLLOWS],
    [
      "get",
      SOL_SOCKET,
      SO_GET_FILTER,
      "SO_GET_FILTER",
      "the kernel counts its room in instructions of 8 bytes",
    ],
    ["both", SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, "SO_ATTACH_REUSEPORT_CBPF", FOLLOWS],
    [
      "get",
      SOL_SOCKET,
      newer.SO_PEERPIDFD,
      "SO_PEERPIDFD",
      "it opens a descriptor that nobody would own",
    ],
    ["get", IPPROTO_IP, IP_MSFILTER, "IP_MSFILTER", OVERFLOWS],
    ["get", IPPROTO_IP, MCAST_MSFILTER, "MCAST_MSFILTER", OVERFLOWS],
    ["get", IPPROTO_IPV6, MCAST_MSFILTER, "MCAST_MSFILTER", OVERFLOWS],
    ["both", IPPROTO_TCP, TCP_ZEROCOPY_RECEIVE, "TCP_ZEROCOPY_RECEIVE", FOLLOWS],
    ["get", IPPROTO_TCP, newer.TCP_AO_GET_KEYS, "TCP_AO_GET_KEYS", OVERFLOWS],
    ["both", SOL_PACKET, PACKET_FANOUT_DATA, "PACKET_FANOUT_DATA", FOLLOWS],
    ["both", SOL_XDP, 4, "XDP_UMEM_REG", FOLLOWS],
    ["both", SOL_MPTCP, 4, "MPTCP_FULL_INFO", FOLLOWS],
    ["both", IPPROTO_IP, 64, `${TABLES} iptables (IPT_SO_SET_REPLACE and its kind)`, FOLLOWS],
    ["both", IPPROTO_IP, 67, `${TABLES} iptables (IPT_SO_SET_REPLACE and its kind)`, FOLLOWS],
    ["both", IPPROTO_IP, 83, `${TABLES} ipset (SO_IP_SET and its kind)`, FOLLOWS],
    ["both", IPPROTO_IP, 96, `${TABLES} arptables (ARPT_SO_SET_REPLACE and its kind)`, FOLLOWS],
    ["both", IPPROTO_IP, 128, `${TABLES} ebtables (EBT_SO_SET_ENTRIES and its kind)`, FOLLOWS],
    ["both", IPPROTO_IP, 131, `${TABLES} ebtables (EBT_SO_SET_ENTRIES and its kind)`, FOLLOWS],
    ["both", IPPROTO_IP, 1152, `${TABLES} IPVS (IP_VS_SO_SET_ADD and its kind)`, FOLLOWS],
    ["both", IPPROTO_IP, 1215, `${TABLES} IPVS (IP_VS_SO_SET_ADD and its kind)`, FOLLOWS],
    ["both", IPPROTO_IPV6, 64, `${TABLES} ip6tables (IP6T_SO_SET_REPLACE and its kind)`, FOLLOWS],
    ["both", IPPROTO_IPV6, 65, `${TABLES} ip6tables (IP6T_SO_SET_REPLACE and its kind)`, FOLLOWS],
    ["both", IPPROTO_IPV6, 68, `${TABLES} ip6tables (IP6T_SO_GET_REVISION_MATCH)`, FOLLOWS],
    ["both", IPPROTO_IPV6, 69, `${TABLES} ip6tables (IP6T_SO_GET_REVISION_MATCH)`, FOLLOWS],
  ])("refuses to %s level %d, number %d: %s", (call, level, number, name, reason) => {
    const error = new RangeError(`Cannot use ${name} in raw form: ${reason}. ${ELSEWHERE}`);
    const get = [undefined, 1, 4, 4096].map(
      (length) => () => getRawOptionOf(NONE, level, number, length),
    );
    const set = [
      () => setRawOptionOf(NONE, level, number, 1),
      () => setRawOptionOf(NONE, level, number, new Uint8Array(16)),
      () => setRawOptionOf(NONE, level, number, null, 16),
    ];
    for (const form of call === "set" ? set : [...get, ...(call === "both" ? set : [])]) {
      expect(refusal(form)).toEqual(error);
    }
  });

  test.each([
    ["multicast of IPv6 numbered as netfilter of IPv4", IPPROTO_IPV6, 66],
    ["SO_ORIGINAL_DST", IPPROTO_IP, 80],
    ["IP6T_SO_ORIGINAL_DST", IPPROTO_IPV6, 80],
    ["multicast routing", IPPROTO_IP, 205],
    ["a name of tomorrow", SOL_SOCKET, 127],
    ["TLS", SOL_TLS, 1],
    ["netlink", SOL_NETLINK, 9],
    ["vsock", AF_VSOCK, 0],
    ["CAN", 101, 1],
    ["a cipher", SOL_ALG, 1],
  ])("takes %s", (_name, level, number) => {
    expect(() => getRawOptionOf(NONE, level, number)).toThrow(
      `getsockopt EBADF ${number} at level ${level}: bad file descriptor`,
    );
    expect(() => setRawOptionOf(NONE, level, number, 1)).toThrow(
      `setsockopt EBADF ${number} at level ${level}: bad file descriptor`,
    );
  });

  test.each([SOL_RDS, SOL_BLUETOOTH, IPPROTO_SCTP, 2, 100, 2 ** 31 - 1])(
    "refuses level %d, which it does not know",
    (level) => {
      const error = new RangeError(
        `Cannot use level ${level} in raw form: its options may hold addresses that the kernel ` +
          `follows. ${ELSEWHERE}`,
      );
      expect(refusal(() => getRawOptionOf(NONE, level, 1))).toEqual(error);
      expect(refusal(() => setRawOptionOf(NONE, level, 1, 1))).toEqual(error);
    },
  );

  test.each([
    [-1, 0, "Cannot use -1 as the level of an option: expected 0 to 2147483647"],
    [1.5, 0, "Cannot use 1.5 as the level of an option: expected 0 to 2147483647"],
    // Cut off to 32 bits these would be SOL_SOCKET and SO_ATTACH_FILTER.
    [2 ** 32 + 1, 0, "Cannot use 4294967297 as the level of an option: expected 0 to 2147483647"],
    [1, 2 ** 32 + 26, "Cannot use 4294967322 as the number of an option: expected 0 to 2147483647"],
    [1, Number.NaN, "Cannot use NaN as the number of an option: expected 0 to 2147483647"],
  ])("refuses level %d, number %d", (level, number, text) => {
    expect(refusal(() => getRawOptionOf(NONE, level, number))).toEqual(new RangeError(text));
    expect(refusal(() => setRawOptionOf(NONE, level, number, 1))).toEqual(new RangeError(text));
  });

  test("refuses numbers in the shape of something else, which could change between looks", () => {
    let looks = 0;
    const shifty = {
      valueOf: () => (looks++ === 0 ? SO_RCVBUF : SO_ATTACH_FILTER),
    } as unknown as number;
    expect(refusal(() => getRawOptionOf(NONE, SOL_SOCKET, shifty, 4))).toBeInstanceOf(TypeError);
    expect(refusal(() => getRawOptionOf(NONE, shifty, SO_RCVBUF))).toBeInstanceOf(TypeError);
    expect(refusal(() => getRawOptionOf(NONE, SOL_SOCKET, SO_RCVBUF, shifty))).toBeInstanceOf(
      TypeError,
    );
    expect(refusal(() => setRawOptionOf(NONE, SOL_SOCKET, SO_RCVBUF, shifty))).toBeInstanceOf(
      TypeError,
    );
    expect(refusal(() => setRawOptionOf(NONE, SOL_SOCKET, 8, null, shifty))).toBeInstanceOf(
      TypeError,
    );
    expect(looks).toBe(0);
  });

  test.each([0, -1, 1.5, 2 ** 20 + 1, Number.NaN])("refuses to read %d bytes", (length) => {
    expect(refusal(() => getRawOptionOf(NONE, SOL_SOCKET, SO_RCVBUF, length))).toEqual(
      new RangeError(`Cannot use ${length} as the length of an option: expected 1 to 1048576`),
    );
  });

  test.each([-(2 ** 31) - 1, 2 ** 32, 0.5, Number.NaN])("refuses to set %d", (value) => {
    expect(refusal(() => setRawOptionOf(NONE, SOL_SOCKET, SO_RCVBUF, value))).toEqual(
      new RangeError(
        `Cannot use ${value} as the value of an option: expected -2147483648 to 4294967295`,
      ),
    );
  });

  test("refuses values that are no memory, or memory that may change", () => {
    const detached = new Uint8Array(4);
    detached.buffer.transfer();
    const values = [
      "1",
      true,
      undefined,
      [1],
      new ArrayBuffer(4),
      detached,
      new Uint8Array(new SharedArrayBuffer(4)),
      new Uint8Array(new ArrayBuffer(4, { maxByteLength: 8 })),
    ];
    for (const value of values) {
      const form = () => setRawOptionOf(NONE, SOL_SOCKET, SO_RCVBUF, value as Uint8Array);
      expect(refusal(form)).toBeInstanceOf(TypeError);
    }
  });

  test("takes a length with null, and only with null", () => {
    expect(refusal(() => setRawOptionOf(NONE, SOL_SOCKET, SO_RCVBUF, null))).toEqual(
      new TypeError("Cannot use null as the value of an option: expected a length with it"),
    );
    expect(refusal(() => setRawOptionOf(NONE, SOL_SOCKET, SO_RCVBUF, null, -1))).toBeInstanceOf(
      RangeError,
    );
    for (const value of [1, new Uint8Array(4)]) {
      expect(refusal(() => setRawOptionOf(NONE, SOL_SOCKET, SO_RCVBUF, value, 4))).toEqual(
        new TypeError(
          "Cannot use a value of type number as the length of an option: a value has its own",
        ),
      );
    }
  });

  test("gives the kernel zeroed room, and returns what it filled of it", () => {
    const rooms: number[][] = [];
    const answer: Libc["getsockopt"] = (_fd, _level, _name, value, length) => {
      const view = value as Uint8Array;
      rooms.push([...view]);
      view.fill(0xa5);
      (length as Uint32Array)[0] = 3;
      return 0;
    };
    using _get = replaceEntry("getsockopt", answer);
    expect(getRawOptionOf(3, SOL_SOCKET, 99, 5)).toEqual(new Uint8Array(3).fill(0xa5));
    expect(getRawOptionOf(3, SOL_SOCKET, 99, 3)).toEqual(new Uint8Array(3).fill(0xa5));
    expect(getRawOptionOf(3, SOL_SOCKET, 99, 2)).toEqual(new Uint8Array(2).fill(0xa5));
    expect(getRawOptionOf(3, SOL_SOCKET, 99)).toBe(0xa5a5a5a5 | 0);
    expect(rooms).toEqual([5, 3, 2, 4].map((length) => new Array(length).fill(0)));
  });

  test("hands over numbers, bytes and NULL as C has them", () => {
    const calls: unknown[] = [];
    const take: Libc["setsockopt"] = (_fd, level, name, value, length) => {
      calls.push([level, name, value && [...new Uint8Array((value as Uint8Array).buffer)], length]);
      return 0;
    };
    using _set = replaceEntry("setsockopt", take);
    setRawOptionOf(3, SOL_SOCKET, 99, 2 ** 32 - 2);
    setRawOptionOf(3, SOL_SOCKET, 99, -2);
    setRawOptionOf(3, SOL_SOCKET, 99, Uint8Array.of(1, 2, 3));
    setRawOptionOf(3, SOL_ALG, 5, null, 16);
    expect(calls).toEqual([
      [SOL_SOCKET, 99, [0xfe, 0xff, 0xff, 0xff], 4],
      [SOL_SOCKET, 99, [0xfe, 0xff, 0xff, 0xff], 4],
      [SOL_SOCKET, 99, [1, 2, 3], 3],
      [SOL_ALG, 5, null, 16],
    ]);
  });
});

describe("constants that are newer than the headers", () => {
  const HEADERS = ["sys/socket.h", "linux/in.h", "linux/tcp.h"];
  const names = Object.entries(newer);

  testIf(requires("gcc"))("are those of the headers that have them", () => {
    const claims = ([name, value]: readonly [string, number]) =>
      `#if defined ${name} && ${name} != ${value}\n#error ${name} is not ${value}\n#endif`;
    for (const header of HEADERS) {
      const source = `#define _GNU_SOURCE\n#include <${header}>\n`;
      expect(compileErrors("gcc", source + names.map(claims).join("\n"))).toBe("");
      const planted = `${source}#define SO_INQ 85\n${claims(["SO_INQ", 84])}`;
      expect(compileErrors("gcc", planted)).toContain("SO_INQ is not 84");
    }
  });
});

test("an answer that is longer than the scratch memory gets memory of its own", () => {
  const groups = Uint32Array.from({ length: 5000 }, (_, index) => index);
  const answer: Libc["getsockopt"] = (_fd, _level, _name, value, length) => {
    const room = value as Uint8Array;
    (length as Uint32Array)[0] = groups.byteLength;
    if (room.byteLength < groups.byteLength) return failWith(ERANGE);
    room.set(new Uint8Array(groups.buffer));
    return 0;
  };
  using fault = replaceEntry("getsockopt", answer);
  expect(getOptionOf(3, SocketOption.peerGroups)).toEqual([...groups]);
  expect(fault.calls).toBe(2);
});
