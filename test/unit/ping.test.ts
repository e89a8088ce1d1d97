/** The bytes of echo requests, and what is taken for an answer. */
import { describe, expect, test } from "bun:test";
import { PingSocket, type PingSocketOptions, RawSocket, type RawSocketOptions } from "bun-sockets";
import {
  behindIpv4Header,
  internetChecksum,
  makeRequest,
  quotedSequence,
  quotesPayload,
  repeatsPayload,
  replySequence,
} from "../../lib/internal/echo.ts";
import { ICMP_TYPES, ICMPV6_TYPES } from "../../lib/internal/icmp_filter.ts";
import { caught } from "../support/errors.ts";

const IDENTIFIER = 0xbeef;
const HEADER = 8;

/** An answer to a request, as a host makes it. */
function answerTo(request: Uint8Array, isVersion6 = false): Uint8Array {
  const answer = request.slice();
  answer[0] = isVersion6 ? 129 : 0;
  sign(answer);
  return answer;
}

function sign(message: Uint8Array): void {
  message.fill(0, 2, 4);
  const sum = internetChecksum(message, 0, message.length);
  message[2] = sum >> 8;
  message[3] = sum & 0xff;
}

describe("internetChecksum()", () => {
  test("is that of RFC 1071, section 3", () => {
    const bytes = Uint8Array.of(0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7);
    expect(internetChecksum(bytes, 0, 8)).toBe(~0xddf2 & 0xffff);
  });

  test("takes an odd byte for the upper half of a word, and a part of the memory", () => {
    expect(internetChecksum(Uint8Array.of(0xff, 0x12, 0xff), 1, 2)).toBe(~0x1200 & 0xffff);
    expect(internetChecksum(Uint8Array.of(1, 2), 1, 1)).toBe(0xffff);
  });

  test("folds the carries of the longest packet", () => {
    expect(internetChecksum(new Uint8Array(65_535).fill(0xff), 0, 65_534)).toBe(0);
  });
});

describe("makeRequest()", () => {
  test("lays out type, identifier, sequence, a token and bytes that count up", () => {
    const request = makeRequest(false, IDENTIFIER, 0x1234, 20);
    expect([...request.subarray(0, 2), ...request.subarray(4, HEADER)]).toEqual([
      8, 0, 0xbe, 0xef, 0x12, 0x34,
    ]);
    expect(internetChecksum(request, 0, request.length)).toBe(0);
    expect([...request.subarray(HEADER + 8)]).toEqual([
      8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19,
    ]);
  });

  test("leaves the checksum of ICMPv6 to the kernel", () => {
    const request = makeRequest(true, IDENTIFIER, 1, 9);
    expect([...request.subarray(0, HEADER)]).toEqual([128, 0, 0, 0, 0xbe, 0xef, 0, 1]);
  });

  test("has another token each time", () => {
    const tokens = Array.from({ length: 100 }, () =>
      Buffer.from(makeRequest(false, 1, 1, 8).subarray(HEADER)).toString("hex"),
    );
    expect(new Set(tokens).size).toBe(100);
  });

  test.each([0, 1, 7, 8, 9])("has room for a payload of %d bytes", (payloadBytes) => {
    expect(makeRequest(false, 1, 1, payloadBytes)).toHaveLength(HEADER + payloadBytes);
  });
});

describe("behindIpv4Header()", () => {
  const packet = (first: number, protocol: number, length: number) => {
    const bytes = new Uint8Array(length);
    bytes[0] = first;
    bytes[9] = protocol;
    return bytes;
  };
  test.each([
    ["a header without options", packet(0x45, 1, 28), 20],
    ["one with all options", packet(0x4f, 1, 68), 60],
    ["one that fills the packet", packet(0x45, 1, 20), 20],
    ["another version", packet(0x65, 1, 28), -1],
    ["a header that is none", packet(0x44, 1, 28), -1],
    ["one that is longer than the packet", packet(0x4f, 1, 59), -1],
    ["another protocol", packet(0x45, 17, 28), -1],
    ["too few bytes", packet(0x45, 1, 19), -1],
    ["none", new Uint8Array(0), -1],
  ])("%s", (_, bytes, expected) => {
    expect(behindIpv4Header(bytes, bytes.length)).toBe(expected);
  });
});

describe.each([false, true])("an answer (ICMPv6: %p)", (isVersion6) => {
  const request = makeRequest(isVersion6, IDENTIFIER, 777, 56);
  const answer = answerTo(request, isVersion6);
  const sequenceOf = (bytes: Uint8Array, checks = true) =>
    replySequence(bytes, 0, bytes.length, isVersion6, IDENTIFIER, checks);
  const changed = (at: number, value: number) => {
    const copy = answer.slice();
    copy[at] = value;
    return copy;
  };

  test("has the sequence of its request, and repeats it", () => {
    expect(sequenceOf(answer)).toBe(777);
    expect(repeatsPayload(answer, 0, answer.length, request)).toBe(true);
  });

  test("is none in another place of the memory, or beyond its end", () => {
    const memory = new Uint8Array(100);
    memory.set(answer, 20);
    const at = (start: number, end: number) =>
      replySequence(memory, start, end, isVersion6, IDENTIFIER, true);
    expect(at(20, 84)).toBe(777);
    expect(repeatsPayload(memory, 20, 84, request)).toBe(true);
    expect([at(-1, 84), at(20, 101), at(20, 27), at(84, 20)]).toEqual([-1, -1, -1, -1]);
  });

  test("with a wrong checksum is none, where nobody has looked at that before", () => {
    const broken = changed(30, (answer[30] as number) ^ 1);
    expect([sequenceOf(broken), sequenceOf(broken, false)]).toEqual([-1, 777]);
    expect(repeatsPayload(broken, 0, broken.length, request)).toBe(false);
  });

  test("of another type, code or identifier is none", () => {
    for (const [at, value] of [
      [0, isVersion6 ? 128 : 8],
      [0, isVersion6 ? 0 : 129],
      [1, 1],
      [4, 0],
      [5, 0],
    ] as const)
      expect(sequenceOf(changed(at, value), false)).toBe(-1);
  });

  test("that is longer or shorter than the request is none", () => {
    for (const length of [HEADER, answer.length - 1, answer.length + 1]) {
      const other = new Uint8Array(length);
      other.set(answer.subarray(0, length));
      sign(other);
      expect(sequenceOf(other)).toBe(777);
      expect(repeatsPayload(other, 0, length, request)).toBe(false);
    }
  });

  test("no one of 200,000 broken ones is taken, and none reads past its end", () => {
    let seed = 12345;
    const random = (below: number) => {
      seed = (Math.imul(seed, 1103515245) + 12345) >>> 0;
      return (seed >>> 8) % below;
    };
    // What is behind the packet must make no difference.
    const memory = new Uint8Array(256).fill(0xaa);
    let taken = 0;
    for (let i = 0; i < 200_000; i++) {
      memory.set(answer, 60);
      for (let flips = 1 + random(3); flips > 0; flips--) {
        const at = 60 + random(answer.length);
        memory[at] = (memory[at] as number) ^ (1 + random(255));
      }
      const end = 60 + (random(2) ? answer.length : random(answer.length + 40));
      const sequence = replySequence(memory, 60, end, isVersion6, IDENTIFIER, false);
      const isWhole = Buffer.compare(memory.subarray(60, end), answer) === 0;
      // Two flips of one byte may cancel each other; its own checksum nobody repeats.
      const isSame =
        isWhole ||
        (end === 60 + answer.length &&
          Buffer.compare(memory.subarray(64, end), answer.subarray(4)) === 0 &&
          memory[60] === answer[0] &&
          memory[61] === 0);
      const isTaken = sequence === 777 && repeatsPayload(memory, 60, end, request);
      if (isTaken) taken++;
      if (isTaken !== isSame) throw new Error(`seed ${seed}, length ${end - 60}`);
    }
    expect(taken).toBeLessThan(20_000);
  });

  test("what an ICMP error quotes tells the request, by its header alone", () => {
    const quoted = (length: number) =>
      quotedSequence(request.subarray(0, length), isVersion6, IDENTIFIER);
    expect([quoted(0), quoted(7), quoted(8), quoted(64)]).toEqual([-1, -1, 777, 777]);
    expect(quotedSequence(answer, isVersion6, IDENTIFIER)).toBe(-1);
    expect(quotedSequence(request, isVersion6, IDENTIFIER + 1)).toBe(-1);
    expect(quotedSequence(request, !isVersion6, IDENTIFIER)).toBe(-1);
  });

  test("what an ICMP error quotes of the payload has to be the request's", () => {
    for (const length of [8, 9, 15, 16, 40, 64])
      expect(quotesPayload(request.subarray(0, length), request)).toBe(true);
    const other = request.slice();
    other[HEADER] = (other[HEADER] as number) ^ 1;
    expect(quotesPayload(other, request)).toBe(false);
    expect(quotesPayload(other.subarray(0, 9), request)).toBe(false);
    expect(quotesPayload(other.subarray(0, 8), request)).toBe(true);
    // What routers fill up with, behind a short packet.
    const long = new Uint8Array(128);
    long.set(request);
    expect(quotesPayload(long, request)).toBe(true);
  });
});

describe("filters of ICMP types", () => {
  const view = (...words: number[]) => {
    const bytes = new DataView(new ArrayBuffer(32));
    for (const [i, word] of words.entries()) bytes.setUint32(4 * i, word, true);
    return bytes;
  };

  test("are read as the shorter list, in order, with words where there are some", () => {
    expect(ICMP_TYPES.decode(view(0), 4)).toEqual({ block: [] });
    expect(ICMP_TYPES.decode(view(0xffff_ffff), 4)).toEqual({ pass: [] });
    expect(ICMP_TYPES.decode(view(~0x0000_0109), 4)).toEqual({
      pass: ["echoReply", "destinationUnreachable", "echoRequest"],
    });
    expect(ICMP_TYPES.decode(view(0x8000_0002), 4)).toEqual({ block: [1, 31] });
    const all = 0xffff_ffff;
    expect(ICMPV6_TYPES.decode(view(all, all, all, all, ~3, all, all, 0x7fff_ffff), 32)).toEqual({
      pass: ["echoRequest", "echoReply", 255],
    });
  });

  test("are written with a bit for each type that does not pass", () => {
    const bits = (bytes: ArrayBufferView) =>
      Array.from(new Uint32Array(bytes.buffer.slice(0, bytes.byteLength) as ArrayBuffer));
    expect(bits(ICMP_TYPES.encode({ pass: ["echoReply", 31] }, "X"))).toEqual([0x7fff_fffe]);
    expect(bits(ICMP_TYPES.encode({ block: [31, "echoReply"] }, "X"))).toEqual([0x8000_0001]);
    expect(bits(ICMPV6_TYPES.encode({ block: ["echoReply", 0] }, "X"))).toEqual([
      1, 0, 0, 0, 2, 0, 0, 0,
    ]);
  });

  test.each([
    [undefined, TypeError],
    [null, TypeError],
    ["echoReply", TypeError],
    [{}, TypeError],
    [{ pass: [], block: [] }, TypeError],
    [{ pass: "echoReply" }, TypeError],
    [{ pass: { length: 1e9 } }, TypeError],
    [{ pass: [null] }, TypeError],
    [{ pass: ["packetTooBig"] }, RangeError],
    [{ pass: ["toString"] }, RangeError],
    [{ pass: [32] }, RangeError],
    [{ pass: [-1] }, RangeError],
    [{ pass: [0.5] }, RangeError],
    [{ pass: new Array(257).fill(0) }, RangeError],
  ])("refuse %j", (value, kind) => {
    const error = caught(() => ICMP_TYPES.encode(value as never, "ICMP_FILTER"));
    expect(error).toBeInstanceOf(kind);
    expect(error.message).toContain("ICMP_FILTER");
  });
});

// Wrong arguments are refused before anything is opened: it takes no right to see that.
describe("RawSocket.open()", () => {
  const open = (options: unknown, family = "ipv4") => {
    const error = caught(() => RawSocket.open(family as "ipv4", options as RawSocketOptions));
    return `${error.name}: ${error.message}`;
  };

  test.each([
    [
      undefined,
      "ipv4",
      "TypeError: Cannot use a value of type undefined as options: expected an object",
    ],
    [
      {},
      "ipv4",
      "TypeError: Cannot use a value of type undefined as a protocol: expected its name or number",
    ],
    [{ protocol: 0 }, "ipv4", "RangeError: Cannot use 0 as a protocol: expected 1 to 255"],
    [{ protocol: 256 }, "ipv4", "RangeError: Cannot use 256 as a protocol: expected 1 to 255"],
    [{ protocol: 1.5 }, "ipv4", "RangeError: Cannot use 1.5 as a protocol: expected 1 to 255"],
    [
      { protocol: 1, headerIncluded: 1 },
      "ipv4",
      "TypeError: Cannot use a value of type number as headerIncluded: expected a boolean",
    ],
    [
      { protocol: 17, checksumOffset: 6 },
      "ipv4",
      "TypeError: Cannot have a checksumOffset over IPv4: expected an IPv6 socket",
    ],
    [
      { protocol: 17, checksumOffset: 7 },
      "ipv6",
      "RangeError: Cannot use 7 as checksumOffset: expected an even number",
    ],
    [
      { protocol: 17, checksumOffset: -2 },
      "ipv6",
      "RangeError: Cannot use -2 as checksumOffset: expected 0 to 65534",
    ],
    [
      { protocol: 17, icmpFilter: { pass: [] } },
      "ipv4",
      'TypeError: Cannot filter types of protocol 17: expected "icmp"',
    ],
    [
      { protocol: "icmp", icmpFilter: { pass: [] } },
      "ipv6",
      'TypeError: Cannot filter types of protocol 1: expected "icmpv6"',
    ],
    [
      { protocol: 1, interface: 0 },
      "ipv4",
      "RangeError: Cannot use 0 as the index of an interface: expected 1 to 2147483647",
    ],
    [
      { protocol: 1, interface: null },
      "ipv4",
      "TypeError: Cannot use a value of type object as the index of an interface: expected a number",
    ],
    [
      { protocol: 1, queueErrors: 1 },
      "ipv4",
      "TypeError: Cannot use a value of type number as queueErrors: expected a boolean",
    ],
    [
      { protocol: 1, metadata: ["size"] },
      "ipv4",
      'TypeError: Cannot use "size" as metadata: expected "destination", "ttl", "trafficClass", "timestamp", "mark", "dropped"',
    ],
    [
      { protocol: 1, broadcast: "yes" },
      "ipv4",
      "TypeError: Cannot use a value of type string as broadcast: expected a boolean",
    ],
    [{ protocol: 1 }, "ipv5", 'TypeError: Cannot use "ipv5" as an IPv4 address'],
  ])("refuses %j over %s", (options, family, expected) => {
    expect(open(options, family)).toBe(expected);
  });

  test.each(["", "ICMP", "toString", "icmp6"])("knows no protocol %j", (protocol) => {
    const message = open({ protocol });
    expect(message).toStartWith(
      `TypeError: Cannot use ${JSON.stringify(protocol)} as a protocol: `,
    );
    expect(message).toEndWith('"udplite", "raw", or a number');
  });
});

describe("PingSocket.open()", () => {
  test.each([
    [null, "ipv4", "TypeError: Cannot use null as options: expected an object"],
    [
      { kind: "stream" },
      "ipv4",
      'TypeError: Cannot use "stream" as a kind: expected "datagram" or "raw"',
    ],
    [
      { kind: 3 },
      "ipv4",
      'TypeError: Cannot use a value of type number as a kind: expected "datagram" or "raw"',
    ],
    [{ source: "::1" }, "ipv4", "TypeError: Cannot send from ::1: expected an IPv4 address"],
    [
      { source: "127.0.0.1" },
      "ipv6",
      "TypeError: Cannot send from 127.0.0.1: expected an IPv6 address",
    ],
    [{ source: "localhost" }, "ipv4", 'TypeError: Cannot use "localhost" as an IPv4 address'],
    [
      { interface: -1 },
      "ipv4",
      "RangeError: Cannot use -1 as the index of an interface: expected 1 to 2147483647",
    ],
    [
      { receiveBufferBytes: 0 },
      "ipv4",
      "RangeError: Cannot use 0 as receiveBufferBytes: expected 1 to 2147483647",
    ],
    [
      { configure: 1 },
      "ipv4",
      "TypeError: Cannot use a value of type number as configure: expected a function",
    ],
  ])("refuses %j over %s", (options, family, expected) => {
    const error = caught(() => PingSocket.open(family as "ipv4", options as PingSocketOptions));
    expect(`${error.name}: ${error.message}`).toBe(expected);
  });
});
