/**
 * Segmentation offload: trains that go out in every form, what they are made of, what happens when
 * they are refused, and trains that come (UDP_GRO).
 */
import { toArrayBuffer } from "bun:ffi";
import { describe, expect, test } from "bun:test";
import {
  type Address,
  ClosedError,
  capabilities,
  DatagramBatch,
  Inet4Address,
  Inet6Address,
  type InetAddress,
  IpOption,
  Message,
  type SegmentOptions,
  type SegmentPayload,
  SocketOption,
  TimeoutError,
  UdpOption,
  UdpSocket,
} from "bun-sockets";
import {
  EAGAIN,
  ECONNREFUSED,
  EHOSTUNREACH,
  EINVAL,
  EIO,
  EMSGSIZE,
  ENETUNREACH,
  ENOBUFS,
  ENOPROTOOPT,
  IPPROTO_UDP,
  MSG_MORE,
  UDP_GRO,
  UDP_SEGMENT,
} from "bun-sockets/sys";
import { cmsghdr } from "../../structs/cmsghdr.ts";
import { mmsghdr } from "../../structs/mmsghdr.ts";
import { msghdr } from "../../structs/msghdr.ts";
import { sockaddr_in } from "../../structs/sockaddr_in.ts";
import { caught, systemErrorOf } from "../support/errors.ts";
import { type Fault, failWith, replaceLibc } from "../support/faults.ts";
import { requires, testIf } from "../support/require.ts";
import { reasonOf, turns, until } from "../support/waiting.ts";

/** Room for everything that a test sends. */
const ROOMY = { receiveBufferBytes: 4 << 20 };
const WAIT = { timeoutMs: 5000 };
const SEGMENT = 1200;

/** Bytes of which no two datagrams are alike. */
function bytesOf(length: number): Buffer {
  const bytes = Buffer.alloc(length);
  for (let i = 0; i < length; i++) bytes[i] = (i * 131 + (i >> 8) * 17) & 0xff;
  return bytes;
}

/** What has come, in order: each datagram. */
function drain(socket: UdpSocket): Buffer[] {
  const datagrams: Buffer[] = [];
  for (;;) {
    const bytes = socket.tryReceiveBytes(65_536);
    if (bytes === undefined) return datagrams;
    datagrams.push(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length));
  }
}

const lengthsOf = (datagrams: readonly Uint8Array[]) => datagrams.map(({ length }) => length);

/** The lengths of what a payload is cut into. */
function cut(length: number, segmentBytes: number): number[] {
  const count = Math.max(1, Math.ceil(length / segmentBytes));
  const last = length - (count - 1) * segmentBytes;
  return Array.from({ length: count }, (_, i) => (i === count - 1 ? last : segmentBytes));
}

/** One header of a sendmmsg(2), as the kernel was to see it. */
interface Sent {
  readonly bytes: number;
  readonly vectors: number;
  /** What UDP_SEGMENT says; undefined where there is no control message. */
  readonly segment: number | undefined;
  /** The port that it goes to; 0 for the peer. */
  readonly port: number;
}

function memoryAt(address: number, length: number): DataView {
  return new DataView(toArrayBuffer(address as never, 0, length));
}

/** Reads the headers that a sendmmsg(2) was given. */
function headersOf(messages: unknown, count: number): Sent[] {
  const view =
    typeof messages === "number"
      ? memoryAt(messages, count * mmsghdr.size)
      : (messages as DataView);
  return Array.from({ length: count }, (_, i) => {
    const at = i * mmsghdr.size;
    const vectors = msghdr.msg_iovlen.get(view, at);
    const list = memoryAt(msghdr.msg_iov.get(view, at), vectors * 16);
    let bytes = 0;
    for (let k = 0; k < vectors; k++) bytes += Number(list.getBigUint64(k * 16 + 8, true));
    const nameBytes = msghdr.msg_namelen.get(view, at);
    const name = msghdr.msg_name.get(view, at);
    const port = nameBytes > 0 ? sockaddr_in.sin_port.get(memoryAt(name, nameBytes), 0) : 0;
    return { bytes, vectors, segment: segmentOf(view, at), port };
  });
}

function segmentOf(view: DataView, at: number): number | undefined {
  const length = msghdr.msg_controllen.get(view, at);
  if (length === 0) return undefined;
  const control = memoryAt(msghdr.msg_control.get(view, at), length);
  for (let k = 0; k + cmsghdr.size <= length; ) {
    const isSegment =
      cmsghdr.cmsg_level.get(control, k) === IPPROTO_UDP &&
      cmsghdr.cmsg_type.get(control, k) === UDP_SEGMENT;
    if (isSegment) return control.getUint16(k + cmsghdr.size, true);
    k += (cmsghdr.cmsg_len.get(control, k) + 7) & ~7;
  }
  return undefined;
}

/** Notes what is sent with sendmmsg(2). */
function watch(): Fault & { readonly sent: Sent[] } {
  const sent: Sent[] = [];
  const fault = replaceLibc("sendmmsg", (original) => (fd, messages, count, flags) => {
    const headers = headersOf(messages, count);
    const result = original(fd, messages, count, flags);
    sent.push(...headers.slice(0, Math.max(result, 0)));
    return result;
  });
  return Object.assign(fault, { sent });
}

const isTrain = ({ bytes, segment }: Sent) =>
  segment !== undefined && segment > 0 && bytes > segment;

/**
 * Has the kernel refuse trains for which `refuses` is true: as it does, the headers before are sent,
 * and the refusal is the answer of the call that begins with one.
 */
function refuseTrains(errno: number, refuses: (header: Sent) => boolean = () => true) {
  const told = { refusals: 0 };
  const fault = replaceLibc("sendmmsg", (original) => (fd, messages, count, flags) => {
    const headers = headersOf(messages, count);
    const first = headers.findIndex((header) => isTrain(header) && refuses(header));
    if (first === 0) {
      told.refusals++;
      return failWith(errno);
    }
    return original(fd, messages, first < 0 ? count : first, flags);
  });
  return Object.assign(told, { [Symbol.dispose]: () => fault[Symbol.dispose]() });
}

/** Lets a number of datagrams through, and then says `errno` as often as asked. */
function blockAfter(datagrams: number, errno: number, times: number): Fault {
  let left = datagrams;
  let blocks = times;
  return replaceLibc("sendmmsg", (original) => (fd, messages, count, flags) => {
    if (left === 0 && blocks > 0) {
      blocks--;
      return failWith(errno);
    }
    const result = original(fd, messages, blocks > 0 ? Math.min(count, left) : count, flags);
    if (blocks > 0) left -= Math.max(result, 0);
    return result;
  });
}

/** Puts two faults on top of each other, of which the last sees a call first. */
function both(first: Disposable, second: Disposable): Disposable {
  return {
    [Symbol.dispose]: () => {
      second[Symbol.dispose]();
      first[Symbol.dispose]();
    },
  };
}

/** The three forms of a send of segments. */
const forms = {
  trySendSegments: async (socket: UdpSocket, payload: SegmentPayload, options: SegmentOptions) =>
    socket.trySendSegments(payload, options),
  sendSegmentsSync: async (socket: UdpSocket, payload: SegmentPayload, options: SegmentOptions) =>
    socket.sendSegmentsSync(payload, { ...options, ...WAIT }),
  sendSegments: (socket: UdpSocket, payload: SegmentPayload, options: SegmentOptions) =>
    socket.sendSegments(payload, { ...options, ...WAIT }),
} as const;
const formNames = Object.keys(forms) as (keyof typeof forms)[];

/** Where a datagram can go: the socket of who sends, that of who receives, and its address. */
interface Way extends Disposable {
  readonly sender: UdpSocket;
  readonly receiver: UdpSocket;
  readonly to: InetAddress | undefined;
}

function open(
  local: string,
  family: "ipv4" | "ipv6",
  connects: boolean,
  toOf: (local: InetAddress) => InetAddress = (address) => address,
): Way {
  const receiver = UdpSocket.bind(local, ROOMY);
  const sender = UdpSocket.open(family, ROOMY);
  const to = toOf(receiver.localAddress);
  if (connects) sender.connectSync(to);
  const close = () => {
    receiver.close();
    sender.close();
  };
  return { sender, receiver, to: connects ? undefined : to, [Symbol.dispose]: close };
}

const mapped = ({ port }: InetAddress) => new Inet6Address("::ffff:127.0.0.1", port);

const ways: Readonly<Record<string, () => Way>> = {
  "IPv4, to an address": () => open("127.0.0.1:0", "ipv4", false),
  "IPv4, to the peer": () => open("127.0.0.1:0", "ipv4", true),
  "IPv6, to an address": () => open("[::1]:0", "ipv6", false),
  "IPv6, to the peer": () => open("[::1]:0", "ipv6", true),
  "IPv4 from an IPv6 socket, to an address": () => open("127.0.0.1:0", "ipv6", false),
  "IPv4 from an IPv6 socket, to a mapped address": () => open("127.0.0.1:0", "ipv6", false, mapped),
  "IPv4 from an IPv6 socket, to a mapped peer": () => open("127.0.0.1:0", "ipv6", true, mapped),
};

describe.each(formNames)("%s", (form) => {
  test.each(Object.keys(ways))("sends one payload as datagrams: %s", async (name) => {
    using way = ways[name]?.() as Way;
    const { sender, receiver, to } = way;
    for (const length of [1, 1199, 1200, 1201, 2400, 60_000, 150_001]) {
      const payload = bytesOf(length);
      expect(await forms[form](sender, payload, { segmentBytes: SEGMENT, to })).toBe(length);
      const datagrams = drain(receiver);
      expect(lengthsOf(datagrams)).toEqual(cut(length, SEGMENT));
      expect(Buffer.concat(datagrams).equals(payload)).toBe(true);
    }
    // 1, 1199 and 1200 bytes are one datagram, and no train.
    expect([sender.offload.trains, sender.offload.segments]).toEqual([6, 2 + 2 + 50 + 126]);
    expect(sender.offload.fallbacks).toBe(0);
  });

  test("sends a list of views as datagrams, and equal ones that follow each other as trains", async () => {
    using way = open("127.0.0.1:0", "ipv4", false);
    const { sender, receiver, to } = way;
    const lengths = [100, 100, 100, 40, 40, 100, 0, 0, 7, 8, 8, 8, 3, 3, 1200, 1200];
    let at = 0;
    const payload = bytesOf(3000);
    const views = lengths.map((length) => {
      at += length;
      return payload.subarray(at - length, at);
    });
    using spy = watch();
    expect(await forms[form](sender, views, { to })).toBe(at);
    expect(drain(receiver).map((datagram) => datagram.toString("hex"))).toEqual(
      views.map((view) => view.toString("hex")),
    );
    const sums = spy.sent.map(({ bytes, vectors, segment }) => [bytes, vectors, segment]);
    expect(sums).toEqual([
      [340, 4, 100],
      [40, 1, undefined],
      [100, 1, undefined],
      [0, 1, undefined],
      [0, 1, undefined],
      [7, 1, undefined],
      [27, 4, 8],
      [3, 1, undefined],
      [2400, 2, 1200],
    ]);
  });

  test("sends a list of more views than one call takes", async () => {
    using way = open("127.0.0.1:0", "ipv4", false);
    const { sender, receiver, to } = way;
    const payload = bytesOf(3000 * 5);
    const views = Array.from({ length: 3000 }, (_, i) => payload.subarray(i * 5, i * 5 + 5));
    expect(await forms[form](sender, views, { to })).toBe(payload.length);
    const datagrams = drain(receiver);
    expect(datagrams).toHaveLength(3000);
    expect(Buffer.concat(datagrams).equals(payload)).toBe(true);
  });

  test("sends an empty payload as an empty datagram, and an empty list not at all", async () => {
    using way = open("127.0.0.1:0", "ipv4", false);
    const { sender, receiver, to } = way;
    expect(await forms[form](sender, new Uint8Array(0), { segmentBytes: 9, to })).toBe(0);
    expect(lengthsOf(drain(receiver))).toEqual([0]);
    expect(await forms[form](sender, [], { to })).toBe(0);
    expect(drain(receiver)).toEqual([]);
  });

  test.each<[name: string, payload: unknown, options: unknown, error: string]>([
    ["no segmentBytes", new Uint8Array(1), {}, "Cannot send segments without segmentBytes"],
    ["0", new Uint8Array(1), { segmentBytes: 0 }, "0 as segmentBytes: expected 1 to 65535"],
    ["65536", new Uint8Array(1), { segmentBytes: 65536 }, "65536 as segmentBytes"],
    ["a half", new Uint8Array(1), { segmentBytes: 1.5 }, "1.5 as segmentBytes"],
    ["text for a number", new Uint8Array(1), { segmentBytes: "1" }, "type string as segmentBytes"],
    ["a list with it", [], { segmentBytes: 1 }, "Cannot use segmentBytes with a list"],
    ["no payload", undefined, { segmentBytes: 1 }, "Cannot use a value of type undefined"],
    ["text", "text", { segmentBytes: 1 }, "Cannot use a value of type string as data"],
    ["a list of text", ["text"], {}, "Cannot use a value of type string as a datagram"],
    [
      "shared memory",
      new Uint8Array(new SharedArrayBuffer(9)),
      { segmentBytes: 1 },
      "Cannot use shared memory",
    ],
    ["a Unix address", new Uint8Array(1), { segmentBytes: 1, to: "unix:@x" }, "unix:@x as an"],
    ["MSG_MORE", new Uint8Array(1), { segmentBytes: 1, flags: MSG_MORE }, "as flags"],
    ["a number for options", new Uint8Array(1), { segmentBytes: null }, "type object as segm"],
  ])("refuses %s, and sends nothing", async (_, payload, options, error) => {
    using way = open("127.0.0.1:0", "ipv4", true);
    const { sender, receiver } = way;
    const call = forms[form](sender, payload as SegmentPayload, options as SegmentOptions);
    const reason = (await reasonOf(call)) as Error;
    expect(reason.message).toContain(error);
    expect(reason instanceof TypeError || reason instanceof RangeError).toBe(true);
    expect(drain(receiver)).toEqual([]);
  });

  test("tells what the kernel says of a single datagram, and remembers nothing", async () => {
    using socket = UdpSocket.open("ipv4");
    const options = { segmentBytes: 10, to: "127.0.0.1:0" };
    const reason = await reasonOf(forms[form](socket, bytesOf(100), options));
    expect(reason).toMatchObject({ code: "EINVAL", syscall: "sendmmsg", destination: options.to });
    const unconnected = await reasonOf(forms[form](socket, bytesOf(100), { segmentBytes: 10 }));
    expect(unconnected).toMatchObject({ code: "EDESTADDRREQ" });
    expect(socket.offload.refusedDestinations).toEqual([]);
    expect([socket.offload.trains, socket.offload.fallbacks]).toEqual([0, 0]);
  });

  test("fails on a closed socket", async () => {
    const socket = UdpSocket.bind("127.0.0.1:0");
    const to = socket.localAddress;
    socket.close();
    const reason = await reasonOf(forms[form](socket, bytesOf(9), { segmentBytes: 3, to }));
    expect(reason).toBeInstanceOf(ClosedError);
    expect(await reasonOf(forms[form](socket, [], { to }))).toBeInstanceOf(ClosedError);
  });

  for (const [name, errno] of [
    ["EIO", EIO],
    ["EINVAL", EINVAL],
    ["EMSGSIZE", EMSGSIZE],
  ] as const) {
    test(`sends datagram by datagram what the kernel refuses with ${name}, and remembers it`, async () => {
      using way = open("127.0.0.1:0", "ipv4", false);
      const { sender, receiver, to } = way;
      using other = UdpSocket.bind("127.0.0.1:0", ROOMY);
      const { port } = to as InetAddress;
      const payload = bytesOf(150_001);
      const options = { segmentBytes: SEGMENT, to };
      using fault = refuseTrains(errno, (header) => header.port === port);
      expect(await forms[form](sender, payload, options)).toBe(payload.length);
      const datagrams = drain(receiver);
      expect(lengthsOf(datagrams)).toEqual(cut(payload.length, SEGMENT));
      expect(Buffer.concat(datagrams).equals(payload)).toBe(true);

      // 54 × 1200 bytes are the longest train, so there were three of them; one was tried, and with
      // EMSGSIZE, which can be about an earlier datagram, it was tried twice.
      expect(fault.refusals).toBe(errno === EMSGSIZE ? 2 : 1);
      const { offload } = sender;
      expect([offload.trains, offload.fallbacks]).toEqual([0, 3]);
      expect(offload.lastReason?.code).toBe(name);
      expect(offload.lastReason?.destination?.equals(to)).toBe(true);
      expect(offload.refusedDestinations).toEqual([
        { code: name, destination: to as InetAddress, segmentBytes: errno === EIO ? 1 : SEGMENT },
      ]);

      // Another destination has its trains, before and after.
      const refusals = fault.refusals;
      for (let i = 0; i < 2; i++) {
        const sent = await forms[form](sender, payload, { ...options, to: other.localAddress });
        expect(sent).toBe(payload.length);
        expect(Buffer.concat(drain(other)).equals(payload)).toBe(true);
        expect(await forms[form](sender, payload, options)).toBe(payload.length);
        expect(Buffer.concat(drain(receiver)).equals(payload)).toBe(true);
      }
      expect(fault.refusals).toBe(refusals);
      expect([offload.trains, offload.fallbacks]).toEqual([6, 9]);
    });
  }

  test.each([0, 17])(
    "goes on after %d datagrams of a refused train, when there is room again",
    async (before) => {
      using way = open("127.0.0.1:0", "ipv4", false);
      const { sender, receiver, to } = way;
      const payload = bytesOf(100 * 90);
      using _ = both(blockAfter(before, EAGAIN, 1), refuseTrains(EIO));
      const options = { segmentBytes: 100, to };
      const sent = await forms[form](sender, payload, options);
      if (form === "trySendSegments") {
        expect(sent).toBe(before === 0 ? undefined : before * 100);
        const rest = payload.subarray(before * 100);
        expect(await forms[form](sender, rest, options)).toBe(rest.length);
      } else expect(sent).toBe(payload.length);
      expect(Buffer.concat(drain(receiver)).equals(payload)).toBe(true);
      expect(sender.offload.refusedDestinations).toHaveLength(1);
    },
  );

  test("says how much was sent before an error", async () => {
    using way = open("127.0.0.1:0", "ipv4", false);
    const { sender, receiver, to } = way;
    using _ = blockAfter(1, ENOBUFS, 1);
    const options = { segmentBytes: SEGMENT, to };
    const reason = await reasonOf(forms[form](sender, bytesOf(150_001), options));
    expect(reason).toMatchObject({ code: "ENOBUFS", transferred: 54 * SEGMENT });
    expect(lengthsOf(drain(receiver))).toEqual(cut(54 * SEGMENT, SEGMENT));
  });

  test("is not stopped by what is told of an earlier datagram of the same call", async () => {
    using way = open("127.0.0.1:0", "ipv4", true);
    const { sender, receiver } = way;
    const payload = bytesOf(150_001);
    const options = { segmentBytes: SEGMENT };
    {
      using _ = blockAfter(1, ECONNREFUSED, 1);
      expect(await forms[form](sender, payload, options)).toBe(payload.length);
    }
    sender.queueErrors = true;
    {
      using _ = blockAfter(1, EHOSTUNREACH, 1);
      expect(await forms[form](sender, payload, options)).toBe(payload.length);
    }
    sender.queueErrors = false;
    expect(Buffer.concat(drain(receiver)).equals(Buffer.concat([payload, payload]))).toBe(true);
    using _ = blockAfter(1, EHOSTUNREACH, 1);
    const reason = await reasonOf(forms[form](sender, payload, options));
    expect(reason).toMatchObject({ code: "EHOSTUNREACH", transferred: 54 * SEGMENT });
  });

  test("is not stopped by a peer that refuses datagrams of the same call", async () => {
    const gone = UdpSocket.bind("127.0.0.1:0");
    using socket = UdpSocket.open("ipv4");
    socket.connectSync(gone.localAddress);
    gone.close();
    using _ = refuseTrains(EIO);
    expect(await forms[form](socket, bytesOf(50), { segmentBytes: 5 })).toBe(50);
    const again = await reasonOf(forms[form](socket, bytesOf(50), { segmentBytes: 5 }));
    expect(again).toMatchObject({ code: "ECONNREFUSED" });
    expect((again as { transferred?: number }).transferred).toBeUndefined();
  });
});

describe("limits of a train", () => {
  const most = () => {
    using socket = UdpSocket.open("ipv4");
    return socket.offload.maxSegments;
  };

  test("maxSegments is what this kernel takes, and no more", () => {
    using way = open("127.0.0.1:0", "ipv4", true);
    const { sender, receiver } = way;
    const count = most();
    expect([64, 128, 256, 512, 1024]).toContain(count);
    const control = new DataView(new ArrayBuffer(24));
    cmsghdr.cmsg_len.set(control, 0, 18);
    cmsghdr.cmsg_level.set(control, 0, IPPROTO_UDP);
    cmsghdr.cmsg_type.set(control, 0, UDP_SEGMENT);
    control.setUint16(16, 3, true);
    const trySend = (bytes: number) => {
      const message = new Message({ vectors: bytesOf(bytes), controlBytes: 24 });
      message.control.set(new Uint8Array(control.buffer));
      message.controlLength = 24;
      return sender.trySendMessage(message);
    };
    expect(trySend(count * 3)).toBe(count * 3);
    expect(drain(receiver)).toHaveLength(count);
    expect(systemErrorOf(() => trySend(count * 3 + 1)).code).toBe("EINVAL");
  });

  test("one segment more than that is another train, and a last one alone is none", () => {
    using way = open("127.0.0.1:0", "ipv4", true);
    const { sender, receiver } = way;
    const count = most();
    for (const [segments, expected] of [
      [count, [[count * 2, 2]]],
      [
        count + 1,
        [
          [count * 2, 2],
          [2, undefined],
        ],
      ],
      [
        count + 2,
        [
          [count * 2, 2],
          [4, 2],
        ],
      ],
      [1, [[2, undefined]]],
    ] as [number, (number | undefined)[][]][]) {
      using spy = watch();
      const payload = bytesOf(segments * 2);
      expect(sender.trySendSegments(payload, { segmentBytes: 2 })).toBe(payload.length);
      expect(spy.sent.map(({ bytes, segment }) => [bytes, segment])).toEqual(expected);
      expect(Buffer.concat(drain(receiver)).equals(payload)).toBe(true);
    }
  });

  // 65535 bytes of IPv4 without its header and that of UDP; IPv6 does not count its own.
  test.each(Object.keys(ways))("as many bytes as IP carries are one train: %s", (name) => {
    using way = ways[name]?.() as Way;
    const { sender, receiver, to } = way;
    const isIpv6 = name.startsWith("IPv6");
    const half = isIpv6 ? 32_763 : 32_753;
    for (const [segmentBytes, trains] of [
      [half, 1],
      [half + 1, 2],
    ] as const) {
      using spy = watch();
      const payload = bytesOf(segmentBytes * 2);
      expect(sender.trySendSegments(payload, { segmentBytes, to })).toBe(payload.length);
      expect(spy.sent).toHaveLength(trains);
      expect(Buffer.concat(drain(receiver)).equals(payload)).toBe(true);
    }
    expect(sender.offload.fallbacks).toBe(0);
  });

  test("a datagram longer than IP carries is refused, as one alone is", () => {
    using way = open("127.0.0.1:0", "ipv4", true);
    const error = systemErrorOf(() =>
      way.sender.trySendSegments(bytesOf(70_000), { segmentBytes: 65_508 }),
    );
    expect(error).toMatchObject({ code: "EMSGSIZE" });
    expect(way.sender.offload.refusedDestinations).toEqual([]);
  });

  // Each import has what it found of a kernel for itself.
  let copies = 0;
  const probe = async () => {
    const copy: typeof import("../../lib/internal/offload.ts") = await import(
      `../../lib/internal/offload.ts?copy=${copies++}`
    );
    return copy;
  };

  test.each([
    [64, 64],
    [128, 128],
    [512, 512],
    [4096, 1024],
  ])("a kernel that takes %d is found to take %d", async (limit, expected) => {
    const { maxSegments } = await probe();
    using asked = replaceLibc("sendmsg", (original) => (fd, message, flags) => {
      const { bytes } = headersOf(message, 1)[0] as Sent;
      // 128 of them this kernel takes.
      return bytes / 32 > limit
        ? failWith(EINVAL)
        : bytes / 32 > 64
          ? bytes
          : original(fd, message, flags);
    });
    expect(maxSegments()).toBe(expected);
    const { calls } = asked;
    expect(maxSegments()).toBe(expected);
    expect(asked.calls).toBe(calls);
  });

  test("a kernel that cannot be asked is taken to take 64, until it can", async () => {
    const { maxSegments } = await probe();
    {
      using _ = replaceLibc("sendmsg", () => () => failWith(ENETUNREACH));
      expect(maxSegments()).toBe(64);
    }
    {
      using _ = replaceLibc("bind", () => () => failWith(EINVAL));
      expect(maxSegments()).toBe(64);
    }
    expect(maxSegments()).toBe(most());
  });

  test("on a kernel without the option everything goes out datagram by datagram", async () => {
    const { SegmentationOffload, trySendSegments } = await probe();
    const { descriptorOf } = await import("../../lib/socket.ts");
    using way = open("127.0.0.1:0", "ipv4", false);
    const { sender, receiver, to } = way;
    using _ = replaceLibc(
      "getsockopt",
      (original) => (fd, level, name, value, length) =>
        level === IPPROTO_UDP && name === UDP_SEGMENT
          ? failWith(ENOPROTOOPT)
          : original(fd, level, name, value, length),
    );
    const offload = new SegmentationOffload(sender.descriptor);
    const payload = bytesOf(150_001);
    using spy = watch();
    const descriptor = descriptorOf(sender) as never;
    expect(trySendSegments(descriptor, offload, payload, { segmentBytes: SEGMENT, to })).toBe(
      150_001,
    );
    expect(spy.sent.filter(isTrain)).toEqual([]);
    expect(Buffer.concat(drain(receiver)).equals(payload)).toBe(true);
    expect([offload.maxSegments, offload.enabled]).toEqual([0, false]);
    expect(offload.lastReason).toEqual({ code: "ENOPROTOOPT", destination: undefined });
    expect([offload.trains, offload.fallbacks]).toEqual([0, 3]);
    expect(offload.refusedDestinations).toEqual([]);
  });
});

/** A batch that has payloads to go to addresses, as trains where a segment size is given. */
function batchOf(
  slots: readonly { bytes: Uint8Array; to?: Address | undefined; segmentBytes?: number }[],
): DatagramBatch {
  const batch = new DatagramBatch({ capacity: 16, slotBytes: 65_536 });
  batch.count = slots.length;
  for (const [i, { bytes, to, segmentBytes }] of slots.entries()) {
    batch.write(i, bytes);
    batch.setAddress(i, to);
    if (segmentBytes !== undefined) batch.setSegmentBytes(i, segmentBytes);
  }
  return batch;
}

const batchForms = {
  trySendBatch: async (socket: UdpSocket, batch: DatagramBatch, first?: number) =>
    socket.trySendBatch(batch, first),
  sendBatchSync: async (socket: UdpSocket, batch: DatagramBatch, first?: number) =>
    socket.sendBatchSync(batch, first, WAIT),
  sendBatch: (socket: UdpSocket, batch: DatagramBatch, first?: number) =>
    socket.sendBatch(batch, first, WAIT),
} as const;

describe.each(Object.keys(batchForms) as (keyof typeof batchForms)[])("%s", (form) => {
  test.each(Object.keys(ways))("sends slots as trains beside others: %s", async (name) => {
    using way = ways[name]?.() as Way;
    const { sender, receiver, to } = way;
    const payload = bytesOf(60_000);
    using batch = batchOf([
      { bytes: payload.subarray(0, 100), to },
      { bytes: payload, to, segmentBytes: SEGMENT },
      { bytes: payload.subarray(0, 900), to, segmentBytes: 900 },
      { bytes: payload.subarray(0, 901), to, segmentBytes: 900 },
      { bytes: payload.subarray(0, 2000), to, segmentBytes: 0 },
    ]);
    expect(await batchForms[form](sender, batch)).toBe(5);
    expect(lengthsOf(drain(receiver))).toEqual([100, ...cut(60_000, SEGMENT), 900, 900, 1, 2000]);
    expect([sender.offload.trains, sender.offload.segments]).toEqual([2, 52]);
  });

  for (const [name, errno] of [
    ["EIO", EIO],
    ["EINVAL", EINVAL],
    ["EMSGSIZE", EMSGSIZE],
  ] as const) {
    test(`sends a slot datagram by datagram that is refused with ${name}, and remembers it`, async () => {
      using way = open("127.0.0.1:0", "ipv4", false);
      const { sender, receiver, to } = way;
      using other = UdpSocket.bind("127.0.0.1:0", ROOMY);
      const { port } = to as InetAddress;
      const payload = bytesOf(30_001);
      const slots = [
        { bytes: payload.subarray(0, 10), to },
        { bytes: payload, to: other.localAddress, segmentBytes: 500 },
        { bytes: payload, to, segmentBytes: 500 },
        { bytes: payload.subarray(0, 20), to },
        { bytes: payload.subarray(0, 5000), to, segmentBytes: 400 },
        { bytes: payload.subarray(0, 30), to: other.localAddress },
      ];
      using batch = batchOf(slots);
      using fault = refuseTrains(errno, (header) => header.port === port);
      for (let round = 1; round < 3; round++) {
        expect(await batchForms[form](sender, batch)).toBe(6);
        expect([batch.failed, batch.stopped]).toEqual([0, undefined]);
        expect(lengthsOf(drain(receiver))).toEqual([
          10,
          ...cut(30_001, 500),
          20,
          ...cut(5000, 400),
        ]);
        const datagrams = drain(other);
        expect(lengthsOf(datagrams)).toEqual([...cut(30_001, 500), 30]);
        expect(Buffer.concat(datagrams.slice(0, -1)).equals(payload)).toBe(true);
        expect(sender.offload.trains).toBe(round);
        expect(sender.offload.fallbacks).toBe(round * 2);
      }
      // Of shorter segments the others may tell nothing: they were tried once, too.
      expect(fault.refusals).toBe(errno === EIO ? 1 : errno === EINVAL ? 2 : 4);
      const segmentBytes = errno === EIO ? 1 : 400;
      expect(sender.offload.refusedDestinations).toEqual([
        { code: name, destination: to as InetAddress, segmentBytes },
      ]);
      // What the slots say has not changed.
      expect([2, 4].map((i) => batch.segmentBytes(i))).toEqual([500, 400]);
    });
  }

  test("keeps what else a refused slot says", async () => {
    using way = open("127.0.0.1:0", "ipv4", false);
    const { sender, receiver, to } = way;
    receiver.setOption(IpOption.receiveTos, true);
    receiver.setOption(IpOption.receiveTtl, true);
    using batch = batchOf([{ bytes: bytesOf(1000), to, segmentBytes: 300 }]);
    batch.setTtl(0, 33);
    batch.setTrafficClass(0, 0x2d);
    using _ = refuseTrains(EIO);
    expect(await batchForms[form](sender, batch)).toBe(1);
    using received = new DatagramBatch();
    expect(receiver.tryReceiveBatch(received)).toBe(4);
    for (let i = 0; i < 4; i++)
      expect([received.ttl(i), received.trafficClass(i)]).toEqual([33, 0x2d]);
  });

  test("goes on in the middle of a refused slot when there is room again", async () => {
    using way = open("127.0.0.1:0", "ipv4", false);
    const { sender, receiver, to } = way;
    const payload = bytesOf(10_000);
    using batch = batchOf([
      { bytes: payload.subarray(0, 1), to },
      { bytes: payload, to, segmentBytes: 100 },
      { bytes: payload.subarray(0, 2), to },
    ]);
    using _ = both(blockAfter(32, EAGAIN, 1), refuseTrains(EIO));
    const sent = await batchForms[form](sender, batch);
    if (form === "trySendBatch") {
      expect([sent, batch.stopped]).toEqual([1, { index: 1, code: "EAGAIN" }]);
      expect(lengthsOf(drain(receiver))).toEqual([1, ...cut(3100, 100)]);
      expect(await batchForms[form](sender, batch, 1)).toBe(2);
      const rest = drain(receiver);
      expect(lengthsOf(rest)).toEqual([...cut(6900, 100), 2]);
      expect(Buffer.concat(rest.slice(0, -1)).equals(payload.subarray(3100))).toBe(true);
    } else {
      expect(sent).toBe(3);
      expect(lengthsOf(drain(receiver))).toEqual([1, ...cut(10_000, 100), 2]);
    }
    expect(sender.offload.fallbacks).toBe(1);
  });

  test("is not stopped by what is told of an earlier datagram of the same slot", async () => {
    using way = open("127.0.0.1:0", "ipv4", true);
    const { sender, receiver } = way;
    const payload = bytesOf(1000);
    using batch = batchOf([{ bytes: payload, segmentBytes: 100 }]);
    {
      using _ = both(blockAfter(4, ECONNREFUSED, 1), refuseTrains(EIO));
      expect(await batchForms[form](sender, batch)).toBe(1);
    }
    {
      using _ = both(blockAfter(4, EHOSTUNREACH, 1), refuseTrains(EIO));
      expect(await batchForms[form](sender, batch)).toBe(0);
      expect(batch.failure(0)).toBe("EHOSTUNREACH");
    }
    expect(lengthsOf(drain(receiver))).toEqual(cut(1400, 100));
  });

  test("fails a slot whose datagrams are refused as well, and remembers nothing", async () => {
    using way = open("127.0.0.1:0", "ipv4", false);
    const { sender, receiver, to } = way;
    using batch = batchOf([
      { bytes: bytesOf(1000), to: new Inet4Address("127.0.0.1", 0), segmentBytes: 300 },
      { bytes: bytesOf(5), to },
    ]);
    expect(await batchForms[form](sender, batch)).toBe(1);
    expect([batch.failed, batch.failure(0)]).toEqual([1, "EINVAL"]);
    expect(lengthsOf(drain(receiver))).toEqual([5]);
    expect(sender.offload.refusedDestinations).toEqual([]);
  });
});

describe("a slot that went out in part", () => {
  const stopped = (change: (batch: DatagramBatch, forget: () => void) => void) => {
    using way = open("127.0.0.1:0", "ipv4", false);
    const { sender, receiver, to } = way;
    using batch = batchOf([
      { bytes: bytesOf(1000), to, segmentBytes: 100 },
      { bytes: bytesOf(7), to },
    ]);
    let refuses = true;
    using _ = both(
      blockAfter(3, EAGAIN, 1),
      refuseTrains(EIO, () => refuses),
    );
    expect(sender.trySendBatch(batch)).toBe(0);
    expect(batch.stopped?.index).toBe(0);
    expect(lengthsOf(drain(receiver))).toEqual([100, 100, 100]);
    change(batch, () => {
      refuses = false;
      sender.offload.enabled = true;
    });
    sender.trySendBatch(batch, batch.stopped?.index);
    return lengthsOf(drain(receiver));
  };

  test("goes on from there", () => {
    expect(stopped(() => {})).toEqual([...cut(700, 100), 7]);
    // Also when the reason was forgotten meanwhile.
    expect(stopped((_, forget) => forget())).toEqual([...cut(700, 100), 7]);
  });

  test.each<[string, (batch: DatagramBatch) => void, number[]]>([
    ["another length", (batch) => batch.setLength(0, 400), [...cut(400, 100), 7]],
    ["other contents", (batch) => batch.write(0, new Uint8Array(5)), [5, 7]],
    ["another size", (batch) => batch.setSegmentBytes(0, 500), [500, 500, 7]],
    ["the same address", (batch) => batch.setAddress(0, batch.address(0)), [...cut(1000, 100), 7]],
    ["an address", (batch) => batch.copySender(0, 1), [...cut(1000, 100), 7]],
  ])("begins anew with %s", (_, change, expected) => {
    expect(stopped(change)).toEqual(expected);
  });

  test("goes on from there behind another that takes its place", () => {
    // The send begins with the other one, so the whole of it is asked for.
    expect(stopped((batch) => batch.swap(0, 1))).toEqual([7, ...cut(1000, 100)]);
  });
});

describe("a train that is too long", () => {
  test("for this kernel goes out in shorter trains", () => {
    using way = open("127.0.0.1:0", "ipv4", false);
    const { sender, receiver, to } = way;
    const most = sender.offload.maxSegments;
    const payload = bytesOf((2 * most + 1) * 10);
    using batch = batchOf([
      { bytes: payload, to, segmentBytes: 10 },
      { bytes: payload.subarray(0, 9), to },
    ]);
    expect(sender.trySendBatch(batch)).toBe(2);
    const datagrams = drain(receiver);
    expect(lengthsOf(datagrams)).toEqual([...cut(payload.length, 10), 9]);
    expect(Buffer.concat(datagrams.slice(0, -1)).equals(payload)).toBe(true);
    const { offload } = sender;
    expect([offload.trains, offload.segments, offload.fallbacks]).toEqual([2, 2 * most, 0]);
    expect([offload.lastReason, offload.refusedDestinations]).toEqual([undefined, []]);
  });

  test("for IPv4, as of one that came over IPv6, too", () => {
    using way = open("127.0.0.1:0", "ipv4", false);
    const { sender, receiver, to } = way;
    const payload = bytesOf(65_520);
    using batch = batchOf([{ bytes: payload, to, segmentBytes: 13_104 }]);
    expect(sender.trySendBatch(batch)).toBe(1);
    const datagrams = drain(receiver);
    expect(lengthsOf(datagrams)).toEqual(cut(65_520, 13_104));
    expect(Buffer.concat(datagrams).equals(payload)).toBe(true);
    // Four segments are a train, and the fifth is alone.
    const { offload } = sender;
    expect([offload.trains, offload.segments, offload.fallbacks]).toEqual([1, 4, 0]);
    expect(offload.refusedDestinations).toEqual([]);
  });

  test("goes out datagram by datagram where the shorter trains are refused, too", () => {
    using way = open("127.0.0.1:0", "ipv4", false);
    const { sender, receiver, to } = way;
    const payload = bytesOf(65_520);
    using batch = batchOf([{ bytes: payload, to, segmentBytes: 13_104 }]);
    using _ = refuseTrains(EIO, ({ bytes }) => bytes < 65_000);
    expect(sender.trySendBatch(batch)).toBe(1);
    expect(Buffer.concat(drain(receiver)).equals(payload)).toBe(true);
    const { offload } = sender;
    expect([offload.trains, offload.fallbacks, offload.lastReason?.code]).toEqual([0, 1, "EIO"]);
  });
});

describe("the wait of a send", () => {
  const options = { segmentBytes: 100 };

  test("ends in time, and tells how much was sent", async () => {
    using way = open("127.0.0.1:0", "ipv4", true);
    const { sender, receiver } = way;
    for (const send of [
      async () => sender.sendSegmentsSync(bytesOf(5000), { ...options, timeoutMs: 20 }),
      () => sender.sendSegments(bytesOf(5000), { ...options, timeoutMs: 20 }),
    ]) {
      sender.offload.enabled = true;
      using _ = both(blockAfter(12, EAGAIN, 1e9), refuseTrains(EIO));
      const reason = await reasonOf(send());
      expect(reason).toBeInstanceOf(TimeoutError);
      expect(reason).toMatchObject({ transferred: 1200, syscall: "sendmmsg" });
      expect(lengthsOf(drain(receiver))).toEqual(cut(1200, 100));
    }
  });

  test("ends in time where there is always room", async () => {
    using way = open("127.0.0.1:0", "ipv4", true);
    const { sender } = way;
    // The kernel drops what the receiver has no room for: this would go on for minutes.
    const payload = new Uint8Array(2 ** 28);
    for (const timeoutMs of [0, 20])
      expect(
        await reasonOf(
          (async () => sender.sendSegmentsSync(payload, { segmentBytes: 1, timeoutMs }))(),
        ),
      ).toMatchObject({ name: "TimeoutError", timeoutMs });
    let isOther = false;
    setTimeout(() => {
      isOther = true;
    });
    const sending = sender.sendSegments(payload, { segmentBytes: 1 });
    await until(() => isOther, "something else had its turn");
    sender.close();
    expect(await reasonOf(sending)).toBeInstanceOf(ClosedError);
  });

  test("ends when the socket is closed, and tells how much was sent", async () => {
    using way = open("127.0.0.1:0", "ipv4", true);
    const { sender } = way;
    using _ = blockAfter(1, EAGAIN, 1e9);
    const sending = sender.sendSegments(bytesOf(50_000), options);
    await turns(2);
    sender.close();
    const reason = await reasonOf(sending);
    expect(reason).toBeInstanceOf(ClosedError);
    expect(reason).toMatchObject({ transferred: 12_800 });
  });

  test("ends with the reason of its signal", async () => {
    using way = open("127.0.0.1:0", "ipv4", true);
    const { sender } = way;
    using _ = blockAfter(0, EAGAIN, 1e9);
    const controller = new AbortController();
    const { signal } = controller;
    const sending = sender.sendSegments(bytesOf(50_000), { ...options, signal });
    await turns(2);
    const reason = new Error("enough");
    controller.abort(reason);
    expect(await reasonOf(sending)).toBe(reason);
    expect(await reasonOf(sender.sendSegments(bytesOf(9), { ...options, signal }))).toBe(reason);
  });

  test("finds memory gone that was transferred meanwhile, and sends no empty datagrams", async () => {
    using way = open("127.0.0.1:0", "ipv4", true);
    const { sender, receiver } = way;
    for (const asList of [false, true]) {
      const payload = new Uint8Array(new ArrayBuffer(1000));
      using _ = blockAfter(0, EAGAIN, 1);
      const sending = asList
        ? sender.sendSegments([payload, payload])
        : sender.sendSegments(payload, options);
      payload.buffer.transfer();
      expect(await reasonOf(sending)).toBeInstanceOf(TypeError);
      expect(drain(receiver)).toEqual([]);
    }
  });

  test("lets others have their turn between parts of a long payload", async () => {
    using way = open("127.0.0.1:0", "ipv4", true);
    const { sender } = way;
    let sent = 0;
    using _ = replaceLibc("sendmmsg", () => (_fd, messages, count) => {
      for (const { bytes } of headersOf(messages, count)) sent += bytes;
      return count;
    });
    let sentAtTimer = 0;
    setTimeout(() => {
      sentAtTimer = sent;
    }, 0);
    const payload = Buffer.alloc(128 << 20);
    expect(await sender.sendSegments(payload, { segmentBytes: SEGMENT })).toBe(payload.length);
    expect(sent).toBe(payload.length);
    expect(sentAtTimer).toBeGreaterThan(0);
    expect(sentAtTimer).toBeLessThan(payload.length);
  });
});

test.each([0, 1])(
  "drain is called when trySendSegments() stopped after %d trains",
  async (trains) => {
    using way = open("127.0.0.1:0", "ipv4", true);
    const { sender } = way;
    let calls = 0;
    const drained = new Promise<void>((resolve) => {
      const drain = () => {
        calls++;
        resolve();
      };
      sender.onBatch(() => {}, { drain });
    });
    const options = { segmentBytes: SEGMENT };
    expect(sender.trySendSegments(bytesOf(100), options)).toBe(100);
    await turns(3);
    expect(calls).toBe(0);
    {
      using _ = blockAfter(trains, EAGAIN, 1);
      const sent = sender.trySendSegments(bytesOf(150_001), options);
      expect(sent).toBe(trains === 0 ? undefined : 54 * SEGMENT);
    }
    await drained;
    expect(calls).toBe(1);
  },
);

describe("what is remembered", () => {
  const payload = bytesOf(1000);

  test("shorter segments are tried where a length was refused, and not where the way is", () => {
    using way = open("127.0.0.1:0", "ipv4", false);
    const { sender, receiver, to } = way;
    using fault = refuseTrains(EMSGSIZE, ({ segment = 0 }) => segment > 200);
    for (const [segmentBytes, trains, fallbacks, least] of [
      [300, 0, 1, 300],
      [250, 0, 2, 250],
      [400, 0, 3, 250],
      [200, 1, 3, 250],
      [100, 2, 3, 250],
      [250, 2, 4, 250],
    ] as const) {
      expect(sender.trySendSegments(payload, { segmentBytes, to })).toBe(1000);
      expect([sender.offload.trains, sender.offload.fallbacks]).toEqual([trains, fallbacks]);
      expect(sender.offload.refusedDestinations[0]?.segmentBytes).toBe(least);
    }
    expect(fault.refusals).toBe(4);
    expect(Buffer.concat(drain(receiver)).length).toBe(6000);
  });

  test("an earlier datagram that was too long is no reason", () => {
    using way = open("127.0.0.1:0", "ipv4", true);
    const { sender, receiver } = way;
    let first = true;
    using _ = replaceLibc("sendmmsg", (original) => (...values) => {
      if (!first) return original(...values);
      first = false;
      return failWith(EMSGSIZE);
    });
    using batch = batchOf([{ bytes: payload, segmentBytes: 100 }]);
    expect(sender.trySendSegments(payload, { segmentBytes: 100 })).toBe(1000);
    first = true;
    expect(sender.trySendBatch(batch)).toBe(1);
    expect([sender.offload.trains, sender.offload.fallbacks]).toEqual([2, 0]);
    expect(drain(receiver)).toHaveLength(20);
  });

  test("the peer is forgotten when the socket gets another", () => {
    using way = open("127.0.0.1:0", "ipv4", true);
    const { sender, receiver } = way;
    using second = UdpSocket.bind("127.0.0.1:0", ROOMY);
    const send = () => sender.trySendSegments(payload, { segmentBytes: 100 });
    {
      using _ = refuseTrains(EIO);
      expect(send()).toBe(1000);
    }
    const { offload } = sender;
    const destination = receiver.localAddress;
    expect(offload.refusedDestinations).toEqual([{ code: "EIO", destination, segmentBytes: 1 }]);
    send();
    expect([offload.trains, offload.fallbacks]).toEqual([0, 2]);
    sender.connectSync(second.localAddress);
    expect(offload.refusedDestinations).toEqual([]);
    send();
    expect([offload.trains, offload.fallbacks]).toEqual([1, 2]);
    expect(drain(second)).toHaveLength(10);
    expect(offload.lastReason?.code).toBe("EIO");
    sender.disconnect();
    expect(sender.trySendSegments(payload, { segmentBytes: 100, to: destination })).toBe(1000);
    expect(offload.trains).toBe(2);
  });

  test("enabled switches trains off, and on again anew", () => {
    using way = open("127.0.0.1:0", "ipv4", false);
    const { sender, receiver, to } = way;
    const { offload } = sender;
    const send = () => sender.trySendSegments(payload, { segmentBytes: 100, to });
    {
      using _ = refuseTrains(EIO);
      send();
    }
    expect([offload.enabled, offload.refusedDestinations.length]).toEqual([true, 1]);
    offload.enabled = false;
    expect(offload.enabled).toBe(false);
    send();
    expect([offload.trains, offload.fallbacks]).toEqual([0, 1]);
    offload.enabled = true;
    expect(offload.refusedDestinations).toEqual([]);
    send();
    expect([offload.trains, offload.segments, offload.fallbacks]).toEqual([1, 10, 1]);
    expect(drain(receiver)).toHaveLength(30);
    sender.connectSync(receiver.localAddress);
    {
      using _ = refuseTrains(EIO);
      sender.trySendSegments(payload, { segmentBytes: 100 });
    }
    expect(offload.refusedDestinations).toHaveLength(1);
    offload.enabled = true;
    expect(offload.refusedDestinations).toEqual([]);
    expect(caught(() => Object.assign(offload, { enabled: 1 }))).toBeInstanceOf(TypeError);
  });

  test("it is the newest 1024 destinations", () => {
    using socket = UdpSocket.open("ipv4");
    using _ = replaceLibc(
      "sendmmsg",
      () => (_fd, messages, count) =>
        headersOf(messages, count).some(isTrain) ? failWith(EIO) : count,
    );
    const portOf = (i: number) => 1000 + i;
    for (let i = 0; i < 1100; i++) {
      const to = new Inet4Address("127.0.0.1", portOf(i));
      expect(socket.trySendSegments(payload, { segmentBytes: 100, to })).toBe(1000);
    }
    const { refusedDestinations } = socket.offload;
    expect(refusedDestinations.map(({ destination }) => destination?.port)).toEqual(
      Array.from({ length: 1024 }, (_, i) => portOf(76 + i)),
    );
    expect(socket.offload.fallbacks).toBe(1100);
  });

  test("duplicates of a socket share it, other sockets do not", () => {
    using way = open("127.0.0.1:0", "ipv4", false);
    const { sender, receiver, to } = way;
    using duplicate = sender.duplicate();
    sender.trySendSegments(payload, { segmentBytes: 100, to });
    expect(duplicate.offload.trains).toBe(1);
    expect(duplicate.offload).toBe(sender.offload);
    expect(receiver.offload.trains).toBe(0);
    expect(Bun.inspect(sender.offload)).toContain("segments: 10");
    expect(JSON.parse(JSON.stringify(sender.offload))).toMatchObject({ trains: 1, fallbacks: 0 });
  });
});

test("errors that are queued for others fail no train, and are no reason", async () => {
  const gone = UdpSocket.bind("127.0.0.1:0");
  using socket = UdpSocket.open("ipv4");
  socket.queueErrors = true;
  socket.connectSync(gone.localAddress);
  gone.close();
  using batch = batchOf([{ bytes: bytesOf(500), segmentBytes: 50 }]);
  for (const refuses of [false, true]) {
    using _ = refuseTrains(EIO, () => refuses);
    for (let i = 0; i < 3; i++) {
      expect(socket.trySendSegments(bytesOf(500), { segmentBytes: 50 })).toBe(500);
      expect(await socket.sendBatch(batch)).toBe(1);
    }
  }
  expect([socket.offload.trains, socket.offload.fallbacks]).toEqual([6, 6]);
  expect(socket.offload.lastReason?.code).toBe("EIO");
  expect(socket.tryReceiveError()?.kind).toBe("icmp");
});

test("one prepared batch sends trains in one call, each with marks, source and time of its own", () => {
  using receiver = UdpSocket.bind("127.0.0.1:0", ROOMY);
  for (const option of [IpOption.receiveTos, IpOption.receiveTtl, UdpOption.gro])
    receiver.setOption(option, true);
  using sender = UdpSocket.open("ipv4");
  const CLOCK_MONOTONIC = 1;
  sender.setOption(SocketOption.transmitTime, { clockId: CLOCK_MONOTONIC, flags: 0 });
  const payload = bytesOf(12_000);
  const to = receiver.localAddress;
  using batch = batchOf(
    [1000, 500, 12_000].map((segmentBytes) => ({ bytes: payload, to, segmentBytes })),
  );
  for (let i = 0; i < 3; i++) {
    batch.setEcn(i, i + 1);
    batch.setTtl(i, 40 + i);
    batch.setSource(i, `127.0.0.${7 + i}:0`);
    batch.setTransmitTime(i, 1);
  }
  using spy = watch();
  expect(sender.trySendBatch(batch)).toBe(3);
  expect([spy.calls, spy.sent.map(({ segment }) => segment)]).toEqual([1, [1000, 500, undefined]]);
  using received = new DatagramBatch({ slotBytes: 65_536 });
  expect(receiver.tryReceiveBatch(received)).toBe(3);
  const told = [0, 1, 2].map((i) => [
    received.segmentBytes(i),
    received.ecn(i),
    received.ttl(i),
    (received.address(i) as InetAddress).host,
    Buffer.from(received.view(i)).equals(payload),
  ]);
  expect(told).toEqual([
    [1000, 1, 40, "127.0.0.7", true],
    [500, 2, 41, "127.0.0.8", true],
    [12_000, 3, 42, "127.0.0.9", true],
  ]);
});

// Sends trains to the port that it is told, and receives one with UDP_GRO: what it got is its output.
const STRANGER = `
import socket, struct, sys
SOL_UDP, UDP_SEGMENT, UDP_GRO = 17, 103, 104
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.settimeout(5)
udp.setsockopt(SOL_UDP, UDP_GRO, 1)
ours = ("127.0.0.1", int(sys.argv[1]))
segment = [(SOL_UDP, UDP_SEGMENT, struct.pack("=H", 700))]
udp.sendmsg([bytes(i % 251 for i in range(5000))], segment, 0, ours)
data, control, _, _ = udp.recvmsg(65536, 64)
sizes = [struct.unpack("=i", value)[0] for level, name, value in control if name == UDP_GRO]
print(len(data), sizes[0], all(byte == i % 251 for i, byte in enumerate(data)))
`;

testIf(requires("python3"))("a train of a stranger goes back to him as it came", async () => {
  using socket = UdpSocket.bind("127.0.0.1:0");
  socket.setOption(UdpOption.gro, true);
  const { port } = socket.localAddress;
  const child = Bun.spawn(["python3", "-c", STRANGER, `${port}`], { stderr: "inherit" });
  for await (const batch of socket.batches()) {
    expect([batch.length(0), batch.segmentBytes(0)]).toEqual([5000, 700]);
    expect(await socket.sendBatch(batch)).toBe(1);
    break;
  }
  expect(await child.stdout.text()).toBe("5000 700 True\n");
  expect(socket.offload.trains).toBe(1);
});

test("capabilities() tells how long trains may be", () => {
  using socket = UdpSocket.open("ipv4");
  const { udpSegmentation, udpCoalescing } = capabilities();
  expect([udpSegmentation.supported, udpCoalescing.supported]).toEqual([true, true]);
  expect(udpSegmentation.detail).toBe(`${socket.offload.maxSegments} segments`);
});

test("a socket without checksums gets its datagrams out, one by one, and remembers why", () => {
  using way = open("127.0.0.1:0", "ipv4", false);
  const { sender, receiver, to } = way;
  sender.setOption(SocketOption.noChecksum, true);
  const payload = bytesOf(100_000);
  expect(sender.trySendSegments(payload, { segmentBytes: SEGMENT, to })).toBe(100_000);
  using batch = batchOf([{ bytes: payload.subarray(0, 60_000), to, segmentBytes: SEGMENT }]);
  expect(sender.sendBatchSync(batch)).toBe(1);
  const datagrams = drain(receiver);
  expect(lengthsOf(datagrams)).toEqual([...cut(100_000, SEGMENT), ...cut(60_000, SEGMENT)]);
  expect(Buffer.concat(datagrams.slice(0, 84)).equals(payload)).toBe(true);
  const { trains, fallbacks, lastReason } = sender.offload;
  expect([trains, fallbacks]).toEqual([0, 3]);
  // EIO on older kernels.
  expect(["EINVAL", "EIO"]).toContain(lastReason?.code as string);
});

test("the option of the socket does not cut what a call cuts otherwise", () => {
  using way = open("127.0.0.1:0", "ipv4", false);
  const { sender, receiver, to } = way;
  const payload = bytesOf(1000);
  sender.setOption(UdpOption.segmentBytes, 90);
  using adopted = UdpSocket.adopt(sender.descriptor);
  for (const socket of [sender, adopted]) {
    expect(socket.trySendSegments(payload, { segmentBytes: 1000, to })).toBe(1000);
    expect(socket.trySendSegments([payload.subarray(0, 100), payload], { to })).toBe(1100);
    using _ = refuseTrains(EIO);
    expect(socket.trySendSegments(payload, { segmentBytes: 400, to })).toBe(1000);
    expect(lengthsOf(drain(receiver))).toEqual([1000, 100, 1000, 400, 400, 200]);
  }
  sender.setOption(UdpOption.segmentBytes, 0);
  using spy = watch();
  sender.trySendSegments(payload, { segmentBytes: 1000, to });
  expect(spy.sent.map(({ segment }) => segment)).toEqual([undefined]);
});

test("reading a list may send another one, and each arrives", () => {
  using way = open("127.0.0.1:0", "ipv4", true);
  const { sender, receiver } = way;
  const list = [bytesOf(5), bytesOf(5)];
  Object.defineProperty(list, 1, {
    get: () => {
      sender.trySendSegments([bytesOf(3)]);
      return bytesOf(6);
    },
  });
  expect(sender.trySendSegments(list)).toBe(11);
  expect(lengthsOf(drain(receiver))).toEqual([3, 5, 6]);
});

describe("with UdpOption.gro on", () => {
  const openBoth = (local = "127.0.0.1:0", family: "ipv4" | "ipv6" = "ipv4") => {
    const way = open(local, family, true);
    way.receiver.setOption(UdpOption.gro, true);
    return way;
  };

  test.each([
    ["127.0.0.1:0", "ipv4"],
    ["[::1]:0", "ipv6"],
  ] as const)("a batch gets trains, and goes through them without a view: %s", (local, family) => {
    using way = openBoth(local, family);
    const { sender, receiver } = way;
    const payload = bytesOf(60_001);
    sender.sendSegmentsSync(payload, { segmentBytes: 500 });
    sender.sendSync(payload.subarray(0, 700));
    sender.sendSync(new Uint8Array(0));
    using batch = new DatagramBatch({ capacity: 4, slotBytes: 65_536 });
    expect(receiver.receiveBatchSync(batch, WAIT)).toBe(3);
    const most = sender.offload.maxSegments;
    expect(most).toBeGreaterThan(120);
    expect([0, 1, 2].map((i) => [batch.length(i), batch.segmentBytes(i)])).toEqual([
      [60_001, 500],
      [700, 700],
      [0, 0],
    ]);
    let datagrams = 0;
    let at = 0;
    for (; at < batch.length(0); at += batch.segmentBytes(0)) {
      const from = batch.offset(0) + at;
      const length = Math.min(batch.segmentBytes(0), batch.length(0) - at);
      expect(batch.memory[from]).toBe(payload[at] as number);
      expect(batch.memory[from + length - 1]).toBe(payload[at + length - 1] as number);
      datagrams++;
    }
    expect(datagrams).toBe(121);
  });

  test("batches() and onBatch() refuse controlBytes that hold no size of segments, at once", () => {
    using way = openBoth();
    const { sender, receiver } = way;
    const refusal =
      "Cannot receive with 23 controlBytes while UdpOption.gro is on: expected 24 or more, which tell the size of the segments";
    for (const options of [{ controlBytes: 23 }, { controlBytes: 23, slotBytes: 65_535 }]) {
      expect(() => receiver.batches(options)).toThrow(new RangeError(refusal));
      expect(() => receiver.onBatch(() => {}, options)).toThrow(new RangeError(refusal));
    }
    for (const controlBytes of [0, -1, 65_537, Number.NaN])
      expect(() => receiver.onBatch(() => {}, { controlBytes })).toThrow(RangeError);
    expect(() => receiver.batches({ controlBytes: "24" as never })).toThrow(TypeError);
    receiver.onBatch(() => {}, { controlBytes: 24 }).stop();
    // Where no trains come, they may have any number.
    sender.onBatch(() => {}, { controlBytes: 0 }).stop();
  });

  test("what was received goes back as the train that it was, in one call each way", () => {
    using way = openBoth();
    const { sender, receiver } = way;
    const payload = bytesOf(64 * 900);
    sender.sendSegmentsSync(payload, { segmentBytes: 900 });
    sender.sendSync(payload.subarray(0, 5));
    using batch = new DatagramBatch({ capacity: 8, slotBytes: 65_536 });
    using spy = watch();
    expect(receiver.tryReceiveBatch(batch)).toBe(2);
    expect(receiver.trySendBatch(batch)).toBe(2);
    expect(spy.calls).toBe(1);
    expect(spy.sent.map(({ bytes, segment }) => [bytes, segment])).toEqual([
      [payload.length, 900],
      [5, undefined],
    ]);
    const datagrams = drain(sender);
    expect(lengthsOf(datagrams)).toEqual([...cut(payload.length, 900), 5]);
    expect(Buffer.concat(datagrams.slice(0, -1)).equals(payload)).toBe(true);
    // And whoever takes trains gets it as one.
    sender.setOption(UdpOption.gro, true);
    expect(receiver.trySendBatch(batch)).toBe(2);
    expect(sender.tryReceiveBatch(batch)).toBe(2);
    expect([batch.length(0), batch.segmentBytes(0), batch.length(1)]).toEqual([57_600, 900, 5]);
  });

  test("a train that was received and is refused goes back datagram by datagram", async () => {
    using way = openBoth();
    const { sender, receiver } = way;
    const payload = bytesOf(9001);
    using _ = refuseTrains(EIO, ({ port }) => port !== 0);
    sender.sendSegmentsSync(payload, { segmentBytes: 900 });
    for await (const batch of receiver.batches()) {
      expect(batch.slotBytes).toBe(65_536);
      expect(await receiver.sendBatch(batch)).toBe(1);
      break;
    }
    expect(lengthsOf(drain(sender))).toEqual(cut(9001, 900));
    expect(receiver.offload.lastReason?.destination?.equals(sender.localAddress)).toBe(true);
  });

  test("a message tells the size of its segments", async () => {
    using way = openBoth();
    const { sender, receiver } = way;
    const payload = bytesOf(3001);
    const target = new Uint8Array(65_536);
    const message = new Message({ vectors: target, controlBytes: 24 });
    for (const receive of [
      async () => receiver.tryReceiveMessage(message),
      async () => receiver.receiveMessageSync(message, WAIT),
      () => receiver.receiveMessage(message, WAIT),
    ]) {
      sender.sendSegmentsSync(payload, { segmentBytes: 1000 });
      expect(await receive()).toBe(3001);
      expect(message.controlMessages()).toMatchObject([
        { kind: "segmentBytes", segmentBytes: 1000 },
      ]);
    }
  });

  const small = () => new DatagramBatch({ capacity: 2, slotBytes: 65_534 });
  const deaf = () => new DatagramBatch({ capacity: 2, slotBytes: 65_535, controlBytes: 16 });
  const message = () => new Message({ vectors: new Uint8Array(65_536), controlBytes: 23 });
  test.each<[string, (socket: UdpSocket) => unknown, string]>([
    ["tryReceiveBatch", (socket) => socket.tryReceiveBatch(small()), "slots of 65534 bytes"],
    ["receiveBatchSync", (socket) => socket.receiveBatchSync(small()), "slots of 65534 bytes"],
    ["receiveBatch", (socket) => socket.receiveBatch(small()), "slots of 65534 bytes"],
    ["tryReceiveBatch", (socket) => socket.tryReceiveBatch(deaf()), "with 16 controlBytes"],
    ["batches", (socket) => socket.batches({ slotBytes: 2048 }), "slots of 2048 bytes"],
    ["onBatch", (socket) => socket.onBatch(() => {}, { slotBytes: 2048 }), "slots of 2048 bytes"],
    ["tryReceiveMessage", (socket) => socket.tryReceiveMessage(message()), "with 23 controlBytes"],
    ["receiveMessageSync", (socket) => socket.receiveMessageSync(message()), "23 controlBytes"],
    ["receiveMessage", (socket) => socket.receiveMessage(message()), "with 23 controlBytes"],
    ["tryReceive", (socket) => socket.tryReceive(new Uint8Array(9)), "but into a batch"],
    ["receiveSync", (socket) => socket.receiveSync(new Uint8Array(9)), "but into a batch"],
    ["receive", (socket) => socket.receive(new Uint8Array(9)), "but into a batch"],
    ["tryReceiveFrom", (socket) => socket.tryReceiveFrom(new Uint8Array(9)), "but into a batch"],
    ["receiveFromSync", (socket) => socket.receiveFromSync(new Uint8Array(9)), "but into a batch"],
    ["receiveFrom", (socket) => socket.receiveFrom(new Uint8Array(9)), "but into a batch"],
    ["tryReceiveBytes", (socket) => socket.tryReceiveBytes(9), "but into a batch"],
    ["receiveBytesSync", (socket) => socket.receiveBytesSync(9), "but into a batch"],
    ["receiveBytes", (socket) => socket.receiveBytes(9), "but into a batch"],
  ])("%s refuses what would lose or hide datagrams of a train", async (_, receive, error) => {
    using way = openBoth();
    const { sender, receiver } = way;
    sender.sendSegmentsSync(bytesOf(3000), { segmentBytes: 1000 });
    const reason = (await reasonOf((async () => receive(receiver))())) as Error;
    expect(reason.message).toContain(error);
    expect(reason).toBeInstanceOf(error.startsWith("but") ? TypeError : RangeError);
    // Nothing was lost: it takes the next that can.
    using batch = new DatagramBatch({ slotBytes: 65_535, controlBytes: 24 });
    expect(receiver.tryReceiveBatch(batch)).toBe(1);
    expect([batch.length(0), batch.segmentBytes(0)]).toEqual([3000, 1000]);
  });

  test("a batch that waits with small slots is refused when it is switched on", async () => {
    using way = open("127.0.0.1:0", "ipv4", true);
    const { sender, receiver } = way;
    using batch = new DatagramBatch();
    const receiving = receiver.receiveBatch(batch);
    receiver.setOption(UdpOption.gro, true);
    sender.sendSegmentsSync(bytesOf(3000), { segmentBytes: 1000 });
    expect(await reasonOf(receiving)).toBeInstanceOf(RangeError);
  });

  test("batches() and onBatch() have room for trains by themselves", async () => {
    using way = openBoth();
    const { sender, receiver } = way;
    const seen = new Promise((resolve) => {
      receiver.onBatch((batch) =>
        resolve([batch.slotBytes, batch.length(0), batch.segmentBytes(0)]),
      );
    });
    sender.sendSegmentsSync(bytesOf(50_000), { segmentBytes: 1000 });
    expect(await seen).toEqual([65_536, 50_000, 1000]);
  });

  test("it is known however it was switched on, and of duplicates and adopted sockets", () => {
    using way = open("127.0.0.1:0", "ipv4", true);
    const { receiver } = way;
    using duplicate = receiver.duplicate();
    const target = new Uint8Array(9);
    const isOn = (socket: UdpSocket) => {
      try {
        socket.tryReceive(target);
        return false;
      } catch (error) {
        return error instanceof TypeError;
      }
    };
    expect([isOn(receiver), isOn(duplicate)]).toEqual([false, false]);
    receiver.setRawOption(IPPROTO_UDP, UDP_GRO, 1);
    using adopted = UdpSocket.adopt(receiver.descriptor);
    expect([isOn(receiver), isOn(duplicate), isOn(adopted)]).toEqual([true, true, true]);
    receiver.setRawOption(IPPROTO_UDP, UDP_GRO, new Int32Array([0]));
    expect([isOn(receiver), isOn(duplicate)]).toEqual([false, false]);
    using _ = replaceLibc(
      "getsockopt",
      (original) => (fd, level, name, value, length) =>
        name === UDP_GRO ? failWith(ENOPROTOOPT) : original(fd, level, name, value, length),
    );
    duplicate.setOption(UdpOption.gro, true);
    expect([isOn(receiver), isOn(duplicate)]).toEqual([true, true]);
    duplicate.setOption(UdpOption.gro, false);
    expect([isOn(receiver), isOn(duplicate)]).toEqual([false, false]);
  });

  test("it is off unless it is switched on: datagrams come apart", () => {
    using way = open("127.0.0.1:0", "ipv4", true);
    way.sender.sendSegmentsSync(bytesOf(3001), { segmentBytes: 1000 });
    using batch = new DatagramBatch();
    expect(way.receiver.tryReceiveBatch(batch)).toBe(4);
    expect([0, 3].map((i) => batch.segmentBytes(i))).toEqual([1000, 1]);
  });
});

describe("nothing is allocated for a train", () => {
  const loops: Readonly<Record<string, string>> = {
    "that is sent, received, and sent back": "",
    "that goes out datagram by datagram, because another was refused": `
      for (const socket of [server, client]) socket.setOption(SocketOption.noChecksum, true);`,
    "but an object and a text, which are seen": `
      keep = (i) => (seen[i & 63] = { sent, text: "train " + sent });`,
  };

  // Resident memory without garbage collection, in many parts, of which the third is looked at: the
  // engine compiles something now and then, but what is allocated for each train is in all of them.
  const script = (change: string) => `
    import { DatagramBatch, SocketOption, UdpOption, UdpSocket } from "bun-sockets";
    const server = UdpSocket.bind("127.0.0.1:0");
    const client = UdpSocket.open("ipv4");
    for (const socket of [server, client]) socket.setOption(UdpOption.gro, true);
    const payload = new Uint8Array(48).fill(7);
    const options = { segmentBytes: 16, to: server.localAddress };
    const batch = new DatagramBatch({ slotBytes: 65_536 });
    const seen = new Array(64);
    let keep = () => {};
    ${change}
    let [sent, touched] = [0, 0];
    function touch(count) {
      if (count === 0) throw new Error("nothing came");
      for (let i = 0; i < count; i++) {
        const step = batch.segmentBytes(i);
        for (let at = 0; at < batch.length(i); at += step)
          touched += batch.memory[batch.offset(i) + at];
      }
    }
    function run(count) {
      for (let i = 0; i < count; i++) {
        sent += client.trySendSegments(payload, options);
        keep(i);
        touch(server.tryReceiveBatch(batch));
        if (server.trySendBatch(batch) !== batch.count) throw new Error("not all went back");
        touch(client.tryReceiveBatch(batch));
      }
    }
    run(12_000);
    const parts = Array.from({ length: 12 }, () => {
      const before = process.memoryUsage.rss();
      run(4000);
      return (process.memoryUsage.rss() - before) / 4000;
    });
    console.log(parts.sort((left, right) => left - right)[3]);
    if (touched < sent / 16) throw new Error("not all came");
  `;

  test.concurrent.each(Object.keys(loops))(
    "%s",
    async (name) => {
      const child = Bun.spawn([process.execPath, "-e", script(loops[name] as string)], {
        cwd: `${import.meta.dir}/../..`,
        env: { ...process.env, BUN_JSC_useGC: "0" },
        stderr: "inherit",
      });
      const bytes = Number(await child.stdout.text());
      expect(await child.exited).toBe(0);
      if (name.startsWith("but")) expect(bytes).toBeGreaterThan(16);
      else expect(bytes).toBeLessThan(16);
    },
    60_000,
  );
});
