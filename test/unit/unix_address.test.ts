import { afterAll, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { inspect } from "node:util";
import fc from "fast-check";
import {
  type AddressParts,
  addressBytes,
  addressFrom,
  addressFromBytes,
  parseAddress,
  RawAddress,
} from "../../lib/address.ts";
import { bind, getpeername, getsockname, socket, socketpair } from "../../lib/sys/socket.ts";
import { close } from "../../lib/sys/unistd.ts";
import { UnixAddress } from "../../lib/unix_address.ts";
import { EADDRINUSE } from "../../structs/constants/errno.ts";
import { AF_INET, AF_UNIX, SOCK_DGRAM, SOCK_STREAM } from "../../structs/constants/sys_socket.ts";
import { sockaddr_storage } from "../../structs/sockaddr_storage.ts";
import { sockaddr_un } from "../../structs/sockaddr_un.ts";

const folder = mkdtempSync(join(tmpdir(), "bun-sockets-unix-"));
afterAll(() => rmSync(folder, { recursive: true }));

const FAMILY = [AF_UNIX, 0];
const LONGEST = "p".repeat(108);

// Bytes as names have them: text, what is almost UTF-8, and anything.
const anyByte = fc.oneof(fc.constantFrom(0x2f, 0x40, 0x61, 0xc3, 0xa9, 0xed, 0xff), fc.nat(255));
const bytesOf = (minimum: number, maximum: number, byte: fc.Arbitrary<number>) =>
  fc
    .array(byte, { minLength: minimum, maxLength: maximum, size: "max" })
    .map((bytes) => Uint8Array.from(bytes));
const path = bytesOf(
  1,
  108,
  anyByte.filter((byte) => byte !== 0),
);
const abstractName = bytesOf(0, 107, anyByte);
const text = fc
  .oneof(
    fc.string({ maxLength: 20 }),
    fc.string({ unit: "binary", maxLength: 20 }),
    fc.string({
      unit: fc.constantFrom("\ufeff", "\u202e", "@", "/", "\n", "é", "😀", " "),
      maxLength: 9,
    }),
  )
  .filter((each) => each.isWellFormed());
const pathText = text.filter((each) => each !== "" && !each.includes("\0"));
const anyUnix = fc.oneof(
  fc.constant(UnixAddress.unnamed),
  path.map((bytes) => UnixAddress.fromPath(bytes)),
  abstractName.map((bytes) => UnixAddress.abstract(bytes)),
  pathText.map((each) => new UnixAddress(each)),
  text.map((each) => UnixAddress.abstract(each)),
);

function sockaddrOf(...sunPath: readonly number[]): Uint8Array {
  return Uint8Array.of(...FAMILY, ...sunPath);
}

function kindOf(address: UnixAddress): readonly [boolean, boolean, boolean] {
  return [address.isPath, address.isAbstract, address.isUnnamed];
}

describe("new UnixAddress()", () => {
  test("makes a path, with its text, its bytes, and no other kind", () => {
    const address = new UnixAddress("/run/é");
    expect(kindOf(address)).toEqual([true, false, false]);
    expect(address).toMatchObject({ family: "unix", path: "/run/é", abstractName: undefined });
    expect(Buffer.from(address.nameBytes).toString()).toBe("/run/é");
    expect(address.bytes).toEqual(sockaddrOf(...Buffer.from("/run/é\0")));
    expect(`${address}`).toBe("unix:/run/é");
    expect(inspect(address)).toBe("UnixAddress unix:/run/é");
  });

  test.each([
    [1, 4],
    [107, 110],
    // sun_path has no room for the final NUL.
    [108, 110],
  ])("takes a path of %d bytes, which makes a sockaddr of %d", (length, sockaddrLength) => {
    const address = new UnixAddress("p".repeat(length));
    expect(address.path).toHaveLength(length);
    expect(address.nameBytes).toHaveLength(length);
    expect(address.bytes).toHaveLength(sockaddrLength);
    expect(UnixAddress.fromPath(address.nameBytes).equals(address)).toBe(true);
  });

  test.each([109, 4096])("refuses a path of %d bytes", (length) => {
    const error = new RangeError(`Cannot use ${length} bytes as a path: expected 1 to 108`);
    expect(() => new UnixAddress("p".repeat(length))).toThrow(error);
    expect(() => UnixAddress.fromPath(new Uint8Array(length).fill(0x70))).toThrow(error);
  });

  test("counts bytes and not characters", () => {
    expect(new UnixAddress("é".repeat(54)).bytes).toHaveLength(110);
    expect(() => new UnixAddress("é".repeat(55))).toThrow("Cannot use 110 bytes as a path");
  });

  test.each([
    ["", "Cannot use an empty path: the address without a name is UnixAddress.unnamed"],
    ["\0", "Cannot use a path with a NUL: abstract names take UnixAddress.abstract"],
    ["\0name", "Cannot use a path with a NUL: abstract names take UnixAddress.abstract"],
    ["a\0", "Cannot use a path with a NUL: abstract names take UnixAddress.abstract"],
  ])("refuses %j and says what to use instead", (value, message) => {
    expect(() => new UnixAddress(value)).toThrow(new TypeError(message));
    expect(() => UnixAddress.fromPath(Buffer.from(value))).toThrow(new TypeError(message));
  });

  test.each([[undefined], [null], [1], [{}], [[1, 0]], [new ArrayBuffer(2)]])(
    "refuses %p",
    (value) => {
      const forced = value as unknown as string;
      expect(() => new UnixAddress(forced)).toThrow("Cannot make a UnixAddress of ");
      expect(() => new UnixAddress(forced)).toThrow(TypeError);
    },
  );

  test("refuses half of a character", () => {
    expect(() => new UnixAddress("/run/\ud83d")).toThrow(
      new TypeError('Cannot use "/run/\\ud83d" as a path: it has a lone surrogate'),
    );
    expect(() => UnixAddress.abstract("\ude00")).toThrow(TypeError);
  });
});

describe("new UnixAddress() of the bytes of a sockaddr", () => {
  test.each([
    ["no name", [], "unix:"],
    ["an abstract name of no bytes", [0], "unix:@"],
    ["an abstract name", [0, 0x61], "unix:@a"],
    ["an abstract name that ends with a NUL", [0, 0x61, 0], "sockaddr:0100006100"],
    ["a path", [0x61, 0], "unix:a"],
    ["a path without a final NUL", [0x61], "unix:a"],
    ["a path in a buffer of zeros", [0x61, ...new Uint8Array(107)], "unix:a"],
    ["a path before what stood there", [0x61, 0, 0xa5, 0xa5], "unix:a"],
    ["a path of 108 bytes", Buffer.from(LONGEST), `unix:${LONGEST}`],
    ["a path of 108 bytes and a NUL", Buffer.from(`${LONGEST}\0`), `unix:${LONGEST}`],
  ])("reads %s", (_what, sunPath, expected) => {
    const bytes = sockaddrOf(...sunPath);
    const address = new UnixAddress(bytes);
    bytes.fill(0xa5);
    expect(`${address}`).toBe(expected);
    expect(addressFromBytes(sockaddrOf(...sunPath)).equals(address)).toBe(true);
    expect(address.equals(parseAddress(expected))).toBe(true);
    expect(address.bytes).toEqual(parseAddress(expected).bytes);
  });

  test.each([
    ["no bytes", []],
    ["one byte", [AF_UNIX]],
    ["another family", [AF_INET, 0, 0x61]],
    ["an abstract name of 108 bytes", [...FAMILY, ...new Uint8Array(109)]],
    ["a path of 109 bytes", [...FAMILY, ...Buffer.from(`${LONGEST}p`)]],
    ["more bytes than a sockaddr_un has", [...FAMILY, 0x61, ...new Uint8Array(109)]],
  ])("refuses %s", (_what, bytes) => {
    expect(() => new UnixAddress(Uint8Array.from(bytes))).toThrow(
      new TypeError(
        "Cannot make a UnixAddress: expected 2 to 110 bytes that start with its family",
      ),
    );
  });

  test("asks the bytes for their true length", () => {
    const long = Object.defineProperty(new Uint8Array(4096).fill(1), "length", { value: 4 });
    expect(() => new UnixAddress(long)).toThrow(TypeError);
    expect(() => UnixAddress.fromPath(long)).toThrow("Cannot use 4096 bytes as a path");
    expect(() => UnixAddress.abstract(long)).toThrow("Cannot use 4096 bytes as an abstract name");
  });
});

describe("UnixAddress.abstract()", () => {
  test("makes an abstract name, with its text, its bytes, and no other kind", () => {
    const address = UnixAddress.abstract("name");
    expect(kindOf(address)).toEqual([false, true, false]);
    expect(address).toMatchObject({ family: "unix", abstractName: "name", path: undefined });
    expect(Buffer.from(address.nameBytes).toString()).toBe("name");
    expect(address.bytes).toEqual(sockaddrOf(0, ...Buffer.from("name")));
    expect(`${address}`).toBe("unix:@name");
    expect(inspect(address)).toBe("UnixAddress unix:@name");
  });

  test.each([0, 1, 107])("takes %d bytes, all of which count", (length) => {
    const address = UnixAddress.abstract(new Uint8Array(length));
    expect(kindOf(address)).toEqual([false, true, false]);
    expect(address.nameBytes).toEqual(new Uint8Array(length));
    expect(address.bytes).toEqual(sockaddrOf(0, ...new Uint8Array(length)));
    expect(address.abstractName).toBe("\0".repeat(length));
  });

  test.each([108, 4096])("refuses %d bytes", (length) => {
    const error = `Cannot use ${length} bytes as an abstract name: expected 0 to 107`;
    expect(() => UnixAddress.abstract(new Uint8Array(length))).toThrow(new RangeError(error));
    expect(() => UnixAddress.abstract("n".repeat(length))).toThrow(new RangeError(error));
  });

  test.each([[undefined], [null], [1], [["name"]], [new ArrayBuffer(1)]])("refuses %p", (value) => {
    expect(() => UnixAddress.abstract(value as unknown as string)).toThrow(TypeError);
    expect(() => UnixAddress.fromPath(value as unknown as Uint8Array)).toThrow(TypeError);
  });

  test("is no path of the same name", () => {
    expect(UnixAddress.abstract("a").equals(new UnixAddress("a"))).toBe(false);
    expect(UnixAddress.abstract("").equals(UnixAddress.unnamed)).toBe(false);
  });
});

test("UnixAddress.unnamed has no name, and is one object", () => {
  const address = UnixAddress.unnamed;
  expect(kindOf(address)).toEqual([false, false, true]);
  expect(address).toMatchObject({ path: undefined, abstractName: undefined });
  expect(address.nameBytes).toHaveLength(0);
  expect(address.bytes).toEqual(sockaddrOf());
  expect(inspect(address)).toBe("UnixAddress unix:");
  expect(UnixAddress.unnamed).toBe(address);
});

describe("the text of a UnixAddress", () => {
  test.each([
    ["a path that begins with @", new UnixAddress("@a")],
    ["a line end", new UnixAddress("a\nb")],
    ["an escape sequence", new UnixAddress("\x1b[31m")],
    ["DEL", UnixAddress.abstract("\x7f")],
    ["a C1 control", UnixAddress.abstract("\x9b1m")],
    ["text in the other direction", new UnixAddress("/run/\u202egnp.x")],
    ["a byte order mark", new UnixAddress("\ufeffa")],
    ["a line separator", UnixAddress.abstract("a\u2028b")],
    ["a NUL", UnixAddress.abstract("a\0b")],
    ["what is not UTF-8", UnixAddress.fromPath(Uint8Array.of(0x61, 0xff))],
    ["a surrogate in UTF-8", UnixAddress.fromPath(Uint8Array.of(0xed, 0xa0, 0x80))],
  ])("is in hexadecimal for %s", (_what, address) => {
    expect(`${address}`).toBe(`sockaddr:${address.bytes.toHex()}`);
    expect(parseAddress(`${address}`)).toBeInstanceOf(UnixAddress);
    expect(parseAddress(`${address}`).equals(address)).toBe(true);
  });

  test("is no text where the bytes are not UTF-8", () => {
    const bytes = Uint8Array.of(0x2f, 0xff);
    const [file, name] = [UnixAddress.fromPath(bytes), UnixAddress.abstract(bytes)];
    expect([file.path, file.isPath, name.abstractName, name.isAbstract]).toEqual([
      undefined,
      true,
      undefined,
      true,
    ]);
    expect([file.nameBytes, name.nameBytes]).toEqual([bytes, bytes]);
    expect(file.toJSON()).toEqual({ family: 1, sockaddr: "01002fff00" });
    expect(name.toJSON()).toEqual({ family: 1, sockaddr: "0100002fff" });
  });

  test.each([
    [new UnixAddress("/run/x"), { family: "unix", path: "/run/x" }],
    [new UnixAddress("@\n"), { family: "unix", path: "@\n" }],
    [UnixAddress.abstract(""), { family: "unix", abstract: "" }],
    [UnixAddress.abstract("a\0"), { family: "unix", abstract: "a\0" }],
    [UnixAddress.unnamed, { family: "unix" }],
  ] as const)("is %j as plain parts", (address, parts) => {
    expect(address.toJSON()).toStrictEqual(parts);
  });

  test("has nothing in it that a terminal acts on, and comes back, for any address", () => {
    fc.assert(
      fc.property(anyUnix, (address) => {
        expect(`${address}`).not.toMatch(/[\p{Cc}\u202a-\u202e\u2066-\u2069]/u);
        const again = parseAddress(`${address}`);
        expect(again.equals(address)).toBe(true);
        expect(`${again}`).toBe(`${address}`);
      }),
      { numRuns: 2000 },
    );
  });

  test("is what was given, for any text that is no other form", () => {
    fc.assert(
      fc.property(pathText, (each) => {
        fc.pre(!each.startsWith("@"));
        expect(parseAddress(`unix:${each}`).equals(new UnixAddress(each))).toBe(true);
        expect(parseAddress(`unix:@${each}`).equals(UnixAddress.abstract(each))).toBe(true);
        expect(new UnixAddress(each).path).toBe(each);
        expect(UnixAddress.abstract(each).abstractName).toBe(each);
      }),
    );
  });
});

describe("any UnixAddress", () => {
  test("is made again of its JSON, of its bytes, and of the bytes of its name", () => {
    fc.assert(
      fc.property(anyUnix, (address) => {
        const parts: AddressParts = JSON.parse(JSON.stringify(address));
        expect(addressFrom(parts).equals(address)).toBe(true);
        expect(new UnixAddress(address.bytes).equals(address)).toBe(true);
        expect(addressFromBytes(address.bytes).equals(address)).toBe(true);
        expect(addressBytes(address)).toEqual(address.bytes);
        const name = address.nameBytes;
        if (address.isPath) expect(UnixAddress.fromPath(name).equals(address)).toBe(true);
        if (address.isAbstract) expect(UnixAddress.abstract(name).equals(address)).toBe(true);
      }),
      { numRuns: 1000 },
    );
  });

  test("has one kind, and is equal to what has the same kind and name", () => {
    fc.assert(
      fc.property(anyUnix, anyUnix, (left, right) => {
        expect(kindOf(left).filter(Boolean)).toHaveLength(1);
        const same =
          `${kindOf(left)}` === `${kindOf(right)}` &&
          left.nameBytes.toHex() === right.nameBytes.toHex();
        expect(left.equals(right)).toBe(same);
        expect(left.key === right.key).toBe(same);
        if (same) expect(left.hash).toBe(right.hash);
      }),
    );
  });

  test("does not change when its bytes are written to", () => {
    fc.assert(
      fc.property(anyUnix, (address) => {
        const { key } = address;
        address.bytes.fill(0xa5);
        address.nameBytes.fill(0xa5);
        expect(address.key).toBe(key);
        expect(Object.isFrozen(address)).toBe(true);
      }),
    );
  });
});

describe("addressFromBytes() of AF_UNIX", () => {
  test("never throws, and makes equal addresses of equal bytes, whatever sun_path is", () => {
    fc.assert(
      fc.property(bytesOf(0, 126, anyByte), (sunPath) => {
        const bytes = sockaddrOf(...sunPath);
        const address = addressFromBytes(bytes);
        // The kernel gives at most 108 bytes, and a NUL behind a path.
        const counted = sunPath.length === 109 && sunPath[0] !== 0 && sunPath[108] === 0;
        expect(address instanceof UnixAddress).toBe(sunPath.length <= 108 || counted);
        expect(address instanceof RawAddress).toBe(!(address instanceof UnixAddress));
        expect(addressFromBytes(address.bytes).equals(address)).toBe(true);
        expect(parseAddress(`${address}`).equals(address)).toBe(true);
        if (address instanceof UnixAddress)
          expect(address.bytes.length).toBeLessThanOrEqual(sockaddr_un.size);
      }),
      { numRuns: 2000 },
    );
  });
});

/** A descriptor that is closed at the end of its block. */
class Opened {
  readonly fd: number;

  constructor(fd: number) {
    expect(fd).toBeGreaterThanOrEqual(0);
    this.fd = fd;
  }

  static datagram(): Opened {
    return new Opened(socket(AF_UNIX, SOCK_DGRAM, 0));
  }

  address(of: typeof getsockname = getsockname): { bytes: Uint8Array; address: UnixAddress } {
    const name = new Uint8Array(sockaddr_storage.size).fill(0xa5);
    const length = new Uint32Array(1);
    expect(of(this.fd, name, length)).toBe(0);
    const bytes = name.slice(0, length[0]);
    const address = addressFromBytes(bytes);
    expect(address).toBeInstanceOf(UnixAddress);
    return { bytes, address: address as UnixAddress };
  }

  [Symbol.dispose](): void {
    close(this.fd);
  }
}

describe("the kernel", () => {
  // A name of this process, and of this use.
  let uses = 0;
  const unique = (): string => `bun-sockets-${process.pid}-${uses++}`;

  test.each([
    ["a path", () => new UnixAddress(join(folder, "x.sock"))],
    [
      "a path that is not UTF-8",
      () => UnixAddress.fromPath(Buffer.from(`${folder}/\xff`, "latin1")),
    ],
    ["a path of 107 bytes", () => new UnixAddress(`${folder}/`.padEnd(107, "p"))],
    ["an abstract name", () => UnixAddress.abstract(unique())],
    ["an abstract name with NULs", () => UnixAddress.abstract(`${unique()}\0\0x\0`)],
    ["an abstract name of 107 bytes", () => UnixAddress.abstract(unique().padEnd(107, "\0"))],
  ])("gives %s back as it was bound to", (_what, make) => {
    using bound = Opened.datagram();
    const address = make();
    expect(bind(bound.fd, address.bytes)).toBe(0);
    expect(bound.address().bytes).toEqual(address.bytes);
    expect(bound.address().address.equals(address)).toBe(true);
  });

  test("binds to a path of 108 bytes, and counts the NUL that has no room", () => {
    using bound = Opened.datagram();
    const address = new UnixAddress(`${folder}/`.padEnd(108, "p"));
    expect(bind(bound.fd, address.bytes)).toBe(0);
    const { bytes, address: given } = bound.address();
    expect(bytes).toHaveLength(111);
    expect(given.equals(address)).toBe(true);
    expect(given.bytes).toEqual(address.bytes);
  });

  test("tells abstract names apart by every byte, and takes each once", () => {
    const base = unique();
    const names = ["", "\0", "\0\0", "x"].map((end) => UnixAddress.abstract(`${base}${end}`));
    using stack = new DisposableStack();
    for (const name of names) {
      const bound = stack.use(Opened.datagram());
      expect(bind(bound.fd, name.bytes)).toBe(0);
      expect(bind(stack.use(Opened.datagram()).fd, name.bytes)).toBe(-EADDRINUSE);
    }
  });

  test("takes an abstract name of no bytes", () => {
    using bound = Opened.datagram();
    const result = bind(bound.fd, UnixAddress.abstract("").bytes);
    // There is one such name in the network namespace, and another program may have it.
    expect([0, -EADDRINUSE]).toContain(result);
    if (result === 0) expect(`${bound.address().address}`).toBe("unix:@");
  });

  test("chooses an abstract name of five hexadecimal digits for the unnamed address", () => {
    using bound = Opened.datagram();
    expect(`${bound.address().address}`).toBe("unix:");
    expect(bind(bound.fd, UnixAddress.unnamed.bytes)).toBe(0);
    expect(bound.address().address.abstractName).toMatch(/^[0-9a-f]{5}$/);
  });

  test("says that both ends of a pair are unnamed", () => {
    const pair = new Int32Array(2);
    expect(socketpair(AF_UNIX, SOCK_STREAM, 0, pair)).toBe(0);
    using left = new Opened(pair[0] as number);
    using right = new Opened(pair[1] as number);
    for (const end of [left, right]) {
      for (const of of [getsockname, getpeername]) {
        expect(end.address(of).bytes).toEqual(sockaddrOf());
        expect(end.address(of).address.isUnnamed).toBe(true);
      }
    }
  });
});
