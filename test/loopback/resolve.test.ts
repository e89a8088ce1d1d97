/** Names as far as no resolver is needed. Those that need one are in test/privileged/resolve.test.ts. */
import { describe, expect, test } from "bun:test";
import { existsSync } from "node:fs";
import {
  fullHostName,
  fullHostNameSync,
  Inet6Address,
  parseAddress,
  ResolutionError,
  type ResolvedAddress,
  type ResolveOptions,
  resolve,
  resolveSync,
  reverse,
  reverseSync,
  TimeoutError,
} from "bun-sockets";
import {
  EAGAIN,
  EAI_FAIL,
  EAI_SYSTEM,
  EINTR,
  EMFILE,
  ENOMEM,
  NI_NUMERICHOST,
  NI_NUMERICSERV,
} from "bun-sockets/sys";
import { addressBytes } from "../../lib/address.ts";
import { lookUp, lookUpSync, type Question } from "../../lib/internal/lookup.ts";
import { openDescriptors } from "../support/descriptors.ts";
import { caught } from "../support/errors.ts";
import { failWith, replaceEntry, replaceLibc } from "../support/faults.ts";
import { reasonOf, startPoller, until } from "../support/waiting.ts";

const LIBC = JSON.stringify(new URL("../../lib/ffi/libc.ts", import.meta.url).pathname);
const INDEX = JSON.stringify(new URL("../../lib/index.ts", import.meta.url).pathname);

const STREAM = { type: "stream" } as const;
const texts = (answers: readonly Plain[]) => answers.map(({ address }) => address);

type Plain = Omit<ResolvedAddress, "address"> & { readonly address: string };

// As text: to toEqual() all objects with nothing but private fields are the same.
const plain = (answers: readonly ResolvedAddress[]): Plain[] =>
  answers.map((answer) => ({ ...answer, address: `${answer.address}` }));

/** Both forms, of which the promise form must not throw. */
async function both(
  host: string | undefined,
  service?: string | number,
  options?: ResolveOptions,
): Promise<Plain[]> {
  const promised = plain(await resolve(host, service, options));
  const { signal: _, ...rest } = options ?? {};
  expect(plain(resolveSync(host, service, rest))).toEqual(promised);
  return promised;
}

async function bothFail(
  host: unknown,
  service?: unknown,
  options?: unknown,
): Promise<Error & Record<string, unknown>> {
  const values = [host, service, options] as [string, string, object];
  const promised = await resolve(...values).then(
    () => undefined,
    (error) => error,
  );
  const thrown = caught(() => resolveSync(...values));
  expect(promised).toBeInstanceOf(Error);
  expect([promised.name, promised.message]).toEqual([thrown.name, thrown.message]);
  return promised;
}

describe("resolve()", () => {
  test.each([undefined, ""])("without a host (%p) gives the loopback addresses", async (host) => {
    expect(texts(await both(host, 80, STREAM)).toSorted()).toEqual(["127.0.0.1:80", "[::1]:80"]);
    expect(texts(await both(host, undefined, { ...STREAM, family: "ipv4" }))).toEqual([
      "127.0.0.1:0",
    ]);
  });

  test.each([undefined, ""])("without a host (%p), passive, gives those for all", async (host) => {
    const passive = { ...STREAM, passive: true };
    expect(texts(await both(host, 80, passive)).toSorted()).toEqual(["0.0.0.0:80", "[::]:80"]);
    expect(texts(await both(host, 80, { ...passive, family: "ipv6" }))).toEqual(["[::]:80"]);
  });

  test("without a host has no canonical name", async () => {
    const options = { ...STREAM, family: "ipv4", canonicalName: true } as const;
    expect(await both("", 80, options)).toEqual(await both("", 80, { ...STREAM, family: "ipv4" }));
  });

  test.each(["localhost", "localhost.", "LocalHost", "some.name.localhost"])(
    "of %s gives every loopback address of the asked families",
    async (host) => {
      expect(texts(await both(host, 7, STREAM)).toSorted()).toEqual(["127.0.0.1:7", "[::1]:7"]);
      expect(texts(await both(host, 7, { ...STREAM, family: "ipv4" }))).toEqual(["127.0.0.1:7"]);
      expect(texts(await both(host, 7, { ...STREAM, family: "ipv6" }))).toEqual(["[::1]:7"]);
    },
  );

  test("of localhost that must be numeric is EAI_NONAME", async () => {
    expect(await bothFail("localhost", 80, { numericHost: true })).toMatchObject({
      name: "ResolutionError",
      code: "EAI_NONAME",
      host: "localhost",
    });
  });

  test.each([
    ["192.0.2.1", "192.0.2.1:80"],
    ["2001:DB8::0:1", "[2001:db8::1]:80"],
    ["fe80::1%lo", "[fe80::1%1]:80"],
    ["fe80::1%1", "[fe80::1%1]:80"],
    ["::ffff:192.0.2.1", "[::ffff:192.0.2.1]:80"],
    // As libc reads them.
    ["127.1", "127.0.0.1:80"],
    ["0x7f000001", "127.0.0.1:80"],
  ])("takes the text of an address as it is: %s", async (host, expected) => {
    expect(texts(await both(host, 80, STREAM))).toEqual([expected]);
    expect(texts(await both(host, "80", { ...STREAM, numericHost: true }))).toEqual([expected]);
  });

  test("keeps the scope of an address", async () => {
    const [answer] = await both("fe80::1%lo", 80, STREAM);
    expect(answer?.address).toBe("[fe80::1%1]:80");
    const [same] = await resolve("fe80::1%lo", 80, STREAM);
    expect(same?.address.equals(new Inet6Address("fe80::1%1", 80))).toBe(true);
  });

  test("never asks for what has a colon", async () => {
    for (const host of ["fe80::1%nosuchif0", "::g", "1:2"]) {
      expect(await bothFail(host, 80)).toMatchObject({ code: "EAI_NONAME", host });
    }
  });

  test("of an address of another family is EAI_ADDRFAMILY", async () => {
    expect(await bothFail("::1", 80, { family: "ipv4" })).toMatchObject({
      code: "EAI_ADDRFAMILY",
      isNotFound: true,
    });
    const mapped = { ...STREAM, family: "ipv6", v4mapped: true } as const;
    expect(texts(await both("192.0.2.1", 80, mapped))).toEqual(["[::ffff:192.0.2.1]:80"]);
  });

  test("puts a family in front, and keeps libc's order within it", async () => {
    const verbatim = await both("", 80);
    const [four, six] = (["ipv4", "ipv6"] as const).map((family) =>
      verbatim.filter(({ address }) => address.startsWith("[") === (family === "ipv6")),
    ) as [Plain[], Plain[]];
    expect(four.length).toBeGreaterThan(1);
    expect(await both("", 80, { order: "ipv4first" })).toEqual([...four, ...six]);
    expect(await both("", 80, { order: "ipv6first" })).toEqual([...six, ...four]);
    expect(await both("", 80, { order: "verbatim" })).toEqual(verbatim);
  });

  test("gives an entry for each type of socket, or for the one that is asked for", async () => {
    const answers = await both("192.0.2.1", 80);
    expect(answers.map(({ type, protocol }) => [type, protocol])).toEqual([
      ["stream", 6],
      ["datagram", 17],
      ["raw", 0],
    ]);
    for (const answer of answers.slice(0, 2))
      expect(await both("192.0.2.1", 80, { type: answer.type })).toEqual([answer]);
    // libc knows no services of raw sockets.
    expect(await bothFail("192.0.2.1", 80, { type: "raw" })).toMatchObject({ code: "EAI_SERVICE" });
    for (const host of ["", "127.0.0.1", "localhost"])
      expect(await both(host, undefined, { type: "raw", family: "ipv4", protocol: 1 })).toEqual([
        { address: "127.0.0.1:0", type: "raw", protocol: 1 },
      ]);
    expect(await both("192.0.2.1", 80, { protocol: 17 })).toEqual(answers.slice(1, 2));
    expect(await bothFail("192.0.2.1", 80, { type: "rdm" })).toMatchObject({
      code: "EAI_SOCKTYPE",
    });
  });

  test("takes the text of an address in time 0, and no name", async () => {
    for (const timeoutMs of [0, 1, 2 ** 31, Number.POSITIVE_INFINITY])
      expect(texts(await both("127.0.0.1", 80, { ...STREAM, timeoutMs }))).toEqual([
        "127.0.0.1:80",
      ]);
    const error = await bothFail("name.invalid", 80, { timeoutMs: 0 });
    expect(error).toBeInstanceOf(TimeoutError);
    expect(error).toMatchObject({
      code: "ETIMEDOUT",
      syscall: "getaddrinfo",
      host: "name.invalid",
      message: "getaddrinfo ETIMEDOUT name.invalid:80: timed out after 0 ms",
    });
  });

  test.each([
    ["a service", 65536, RangeError, "Cannot use 65536 as a port: expected 0 to 65535"],
    ["a service", -1, RangeError, "Cannot use -1 as a port: expected 0 to 65535"],
    ["a service", 1.5, RangeError, "Cannot use 1.5 as a port: expected 0 to 65535"],
    ["a service", Number.NaN, RangeError, "Cannot use NaN as a port: expected 0 to 65535"],
    ["a service", "65536", RangeError, "Cannot use 65536 as a port: expected 0 to 65535"],
    ["a service", "-1", RangeError, "Cannot use -1 as a port: expected 0 to 65535"],
    ["a service", "99999999999999999999", RangeError, "as a port: expected 0 to 65535"],
    ["a service", "+80", TypeError, 'Cannot use "+80" as a service: expected a name, or a port'],
    [
      "a service",
      "http ",
      TypeError,
      'Cannot use "http " as a service: expected a name, or a port',
    ],
    ["a service", " 80", TypeError, 'Cannot use " 80" as a service'],
    ["a service", "", TypeError, 'Cannot use "" as a service: expected a name, or a port'],
    ["a service", "ht\0tp", TypeError, "as a service: expected a name"],
    ["a service", "h".repeat(300), TypeError, "as a service: expected a name"],
    ["a service", null, TypeError, "Cannot use null as a service: expected a string"],
    ["a service", 80n, TypeError, "Cannot use a value of type bigint as a service"],
  ])("refuses %s of %p before it asks", async (_, service, type, message) => {
    using asked = replaceLibc("getaddrinfo", (original) => original);
    const error = await bothFail("127.0.0.1", service);
    expect(error).toBeInstanceOf(type);
    expect(error.message).toContain(message);
    expect(asked.calls).toBe(0);
  });

  test.each([
    [null, TypeError, "Cannot use null as a host: expected a string"],
    [80, TypeError, "Cannot use a value of type number as a host: expected a string"],
    ["a\0b", TypeError, 'Cannot use "a\\u0000b" as a host: it contains a NUL'],
    ["a".repeat(2000), RangeError, "Cannot use 2000 bytes as a host: expected at most 1024"],
  ])("refuses %p as a host before it asks", async (host, type, message) => {
    using asked = replaceLibc("getaddrinfo", (original) => original);
    const error = await bothFail(host, 80);
    expect(error).toBeInstanceOf(type);
    expect(error.message).toBe(message);
    expect(asked.calls).toBe(0);
  });

  test.each([
    [{ family: "unix" }, TypeError, "Cannot resolve addresses of family unix"],
    [{ family: "ipv5" }, TypeError, 'Cannot use "ipv5" as a family'],
    [{ family: 16 }, TypeError, "Cannot resolve addresses of family 16"],
    [{ type: "packets" }, TypeError, 'Cannot use "packets" as a socket type'],
    [{ protocol: 256 }, RangeError, "Cannot use 256 as a protocol: expected 0 to 255"],
    [{ protocol: "tcp" }, TypeError, "Cannot use a value of type string as a protocol"],
    [{ order: "random" }, TypeError, 'Cannot use "random" as an order: expected "verbatim"'],
    [{ order: 4 }, TypeError, "Cannot use a value of type number as an order"],
    [{ passive: 1 }, TypeError, "Cannot use a value of type number as passive"],
    [{ canonicalName: "yes" }, TypeError, "as canonicalName: expected a boolean"],
    [{ timeoutMs: Number.NaN }, RangeError, "Cannot use NaN as timeoutMs"],
    [{ timeoutMs: -1 }, RangeError, "Cannot use -1 as timeoutMs"],
    [null, TypeError, "Cannot use null as options"],
    [7, TypeError, "Cannot use a value of type number as options"],
  ])("refuses the options %p before it asks", async (options, type, message) => {
    using asked = replaceLibc("getaddrinfo", (original) => original);
    const error = await bothFail("127.0.0.1", 80, options);
    expect(error).toBeInstanceOf(type);
    expect(error.message).toContain(message);
    expect(asked.calls).toBe(0);
  });

  test("refuses what is no signal, and rejects with the reason of one that was aborted", async () => {
    const reason = new Error("enough");
    const signal = AbortSignal.abort(reason);
    expect(await resolve("127.0.0.1", 80, { signal }).catch((error) => error)).toBe(reason);
    const wrong = resolve("127.0.0.1", 80, { signal: {} as AbortSignal });
    expect(wrong).rejects.toThrow("Cannot use a value of type object as a signal");
  });
});

describe("ResolutionError", () => {
  test("of an EAI_SYSTEM has its errno", async () => {
    using _ = replaceEntry("getaddrinfo", () => failWith(EMFILE, EAI_SYSTEM));
    const error = caught(() => resolveSync("", "http"));
    expect(error).toBeInstanceOf(ResolutionError);
    expect(error).toMatchObject({
      code: "EAI_SYSTEM",
      errno: -EMFILE,
      syscall: "getaddrinfo",
      service: "http",
      isNotFound: false,
      isTemporary: false,
    });
    expect(error.message).toBe(
      "getaddrinfo EAI_SYSTEM: EMFILE: too many open files (service http)",
    );
  });

  test("of an EAI_SYSTEM without an errno is one all the same", () => {
    using _ = replaceEntry("getaddrinfo", () => failWith(0, EAI_SYSTEM));
    const error = caught(() => resolveSync("", 80));
    expect(error).toMatchObject({ name: "ResolutionError", code: "EAI_SYSTEM" });
    expect(error).not.toHaveProperty("errno");
  });

  test("of any other code has no errno, and libc's text", () => {
    using _ = replaceEntry("getaddrinfo", () => EAI_FAIL);
    const error = caught(() => resolveSync("", 80));
    expect(error.message).toBe(
      "getaddrinfo EAI_FAIL: Non-recoverable failure in name resolution (service 80)",
    );
    expect(error).not.toHaveProperty("errno");
    expect(error).not.toHaveProperty("host");
  });

  test("of a code that nobody knows has its number", () => {
    using _ = replaceEntry("getnameinfo", () => -77);
    expect(caught(() => reverseSync("127.0.0.1:80"))).toMatchObject({
      code: "EAI_77",
      syscall: "getnameinfo",
      host: "127.0.0.1",
      service: "80",
    });
  });
});

describe("reverse()", () => {
  const numeric = { numericHost: true, numericService: true };

  test.each([
    ["192.0.2.1:80", "192.0.2.1", "80"],
    ["[2001:db8::1]:65535", "2001:db8::1", "65535"],
    ["[fe80::1%lo]:0", "fe80::1%lo", "0"],
    ["[fe80::1%1]:0", "fe80::1%lo", "0"],
  ])("of %s gives numbers, as asked", async (address, host, service) => {
    expect(await reverse(address, numeric)).toEqual({ host, service });
    expect(reverseSync(address, { ...numeric, timeoutMs: 0 })).toEqual({ host, service });
  });

  test("takes address objects", async () => {
    const address = new Inet6Address("2001:db8::1", 53);
    expect(await reverse(address, numeric)).toEqual({ host: "2001:db8::1", service: "53" });
  });

  test("of a name in no time is a TimeoutError", async () => {
    const options = { timeoutMs: 0 };
    expect(caught(() => reverseSync("192.0.2.1:80", options))).toBeInstanceOf(TimeoutError);
    const error = await reverse("192.0.2.1:80", options).catch((error) => error);
    expect(error).toMatchObject({ code: "ETIMEDOUT", syscall: "getnameinfo" });
  });

  test.each([
    ["192.0.2.1", undefined, TypeError],
    ["unix:/run/x.sock", undefined, TypeError],
    [7, undefined, TypeError],
    ["[fe80::1%nosuchif0]:1", numeric, Error],
    ["192.0.2.1:80", { numericHost: "yes" }, TypeError],
    ["192.0.2.1:80", { ...numeric, timeoutMs: -1 }, RangeError],
    ["192.0.2.1:80", 7, TypeError],
  ])("refuses %p with %p", async (address, options, type) => {
    const values = [address, options] as [string, object];
    expect(caught(() => reverseSync(...values))).toBeInstanceOf(type);
    expect(await reverse(...values).catch((error) => error)).toBeInstanceOf(type);
  });
});

test("the list of every answer is freed, whatever comes of it", async () => {
  using lists = replaceLibc("freeaddrinfo", (original) => original);
  await resolve("", 80);
  expect(lists.calls).toBe(1);
  resolveSync("localhost", 80);
  expect(lists.calls).toBe(2);
  // One to find out that it is numeric.
  resolveSync("127.0.0.1", 80);
  expect(lists.calls).toBe(4);
  {
    using _ = replaceEntry("memcpy", () => {
      throw new Error("no memory");
    });
    expect(() => resolveSync("", 80)).toThrow("no memory");
  }
  expect(lists.calls).toBe(5);
});

test("what needs no resolver starts no thread and loads nothing for it", async () => {
  using mmap = replaceLibc("mmap", (original) => original);
  using eventfd = replaceLibc("eventfd", (original) => original);
  await resolve("localhost", "http");
  await resolve("::1", 80, { timeoutMs: 1000 });
  await reverse("127.0.0.1:80", { numericHost: true });
  expect([mmap.calls, eventfd.calls]).toEqual([0, 0]);
});

describe("a lookup on a thread that cannot be started", () => {
  const NAME = "bun-sockets.invalid";

  // Each in a process of its own, where nothing is compiled yet.
  function inFreshProcess(fault: string): unknown {
    const script = `
      import { libc } from ${LIBC};
      import { toArrayBuffer } from "bun:ffi";
      import { resolve, resolveSync } from ${INDEX};
      const errno = new Int32Array(toArrayBuffer(libc.__errno_location(), 0, 4));
      const { dlsym } = libc;
      ${fault}
      const told = ({ name, message, code, syscall }) => ({ name, message, code, syscall });
      const sync = () => {
        try {
          resolveSync("${NAME}", 80, { timeoutMs: 5000 });
        } catch (error) {
          return told(error);
        }
      };
      const promised = () => resolve("${NAME}", 80).catch(told);
      const first = sync();
      const others = [sync(), ...await Promise.all(Array.from({ length: 20 }, promised))];
      // The compiler tells the number of its file.
      const text = (error) => JSON.stringify(error).replace(/\\d+/g, "");
      console.log(JSON.stringify({ first, same: others.every((each) => text(each) === text(first)) }));
    `;
    const child = Bun.spawnSync({
      cmd: [process.execPath, "-e", script],
      env: { ...process.env, BUN_SOCKETS_LEAKS: "" },
    });
    expect(child.stderr.toString()).toBe("");
    return JSON.parse(child.stdout.toString());
  }

  test("says what the compiler says", () => {
    const fault = `libc.dlsym = (handle, symbol) =>
      \`\${symbol}\` === "prctl\\0" ? NaN : dlsym(handle, symbol);`;
    const { first, same } = inFreshProcess(fault) as { first: Error; same: boolean };
    expect(first.message).toStartWith("Cannot compile a lookup thread: ");
    expect(same).toBe(true);
  });

  test("says which function libc lacks", () => {
    const fault = `libc.dlsym = (handle, symbol) =>
      \`\${symbol}\` === "freeaddrinfo\\0" ? null : dlsym(handle, symbol);`;
    expect(inFreshProcess(fault)).toEqual({
      first: { name: "Error", message: "Cannot find freeaddrinfo in the C library" },
      same: true,
    });
  });

  test("says that there is no memory", () => {
    const fault = "libc.mmap = () => { errno[0] = 12; return 0xffff_ffff_ffff_ffffn; };";
    expect(inFreshProcess(fault)).toEqual({
      first: {
        name: "SystemError",
        message: "mmap ENOMEM: not enough memory",
        code: "ENOMEM",
        syscall: "mmap",
      },
      same: true,
    });
  });

  test("says why no thread can be made", () => {
    // A function that refuses whatever it is given, by the same kind of result.
    const fault = `libc.dlsym = (handle, symbol) => dlsym(handle,
      \`\${symbol}\` === "pthread_create\\0" ? Buffer.from("pthread_setcancelstate\\0") : symbol);`;
    expect(inFreshProcess(fault)).toEqual({
      first: {
        name: "SystemError",
        message: "pthread_create EINVAL: invalid argument",
        code: "EINVAL",
        syscall: "pthread_create",
      },
      same: true,
    });
  });

  test("says that there is no descriptor, and leaves none open", async () => {
    const before = openDescriptors();
    using _ = replaceEntry("eventfd", () => failWith(EMFILE));
    const error = caught(() => resolveSync(NAME, 80, { timeoutMs: 5000 }));
    expect(error).toMatchObject({ code: "EMFILE", syscall: "eventfd" });
    const promised = await resolve(NAME, 80).catch((each) => each);
    expect(promised).toMatchObject({ code: "EMFILE", syscall: "eventfd" });
    expect(openDescriptors()).toBe(before);
  });
});

describe("a lookup on a thread", () => {
  // The text of an address, for which nobody is asked.
  const numeric: Question<number> = {
    call: "getnameinfo",
    host: "127.0.0.1",
    values: [
      ...[addressBytes(parseAddress("127.0.0.1:80")), 16],
      ...[new Uint8Array(64), 64, new Uint8Array(64), 64],
      NI_NUMERICHOST | NI_NUMERICSERV,
    ],
    read: ({ result }) => result,
  };
  const never = Number.POSITIVE_INFINITY;

  test("is answered when a signal interrupts the reading of its bell", async () => {
    let isInterrupted = false;
    using fault = replaceLibc("read", (original) => (...values) => {
      isInterrupted = !isInterrupted;
      return isInterrupted ? failWith(EINTR) : original(...values);
    });
    expect(lookUpSync(numeric, never)).toBe(0);
    expect(await lookUp(numeric, never, undefined)).toBe(0);
    expect(fault.calls).toBeGreaterThanOrEqual(4);
  });

  test("may have undefined for an answer", async () => {
    const nothing = { ...numeric, read: () => undefined };
    expect(lookUpSync(nothing, never)).toBe(undefined);
    expect(await lookUp(nothing, never, undefined)).toBe(undefined);
  });

  test("that nobody waits for ends also when the kernel cannot say for a while whether it is done", async () => {
    await startPoller();
    let bell = -1;
    using _bell = replaceLibc("eventfd", (original) => (...values) => {
      bell = original(...values);
      return bell;
    });
    // The first tries after it is done.
    let failures = 3;
    using _poll = replaceLibc("poll", (original) => (...values) => {
      const ready = original(...values);
      return ready > 0 && failures-- > 0 ? failWith(ENOMEM) : ready;
    });
    const controller = new AbortController();
    {
      // It has no answer while somebody waits.
      using _read = replaceEntry("read", () => failWith(EAGAIN));
      const answer = lookUp(numeric, never, controller.signal);
      controller.abort("enough");
      expect(await reasonOf(answer)).toBe("enough");
    }
    await until(() => !existsSync(`/proc/self/fd/${bell}`), "its bell is closed");
    expect(failures).toBeLessThan(0);
  });
});

test.each([null, 7, "5"])(
  "fullHostName() and fullHostNameSync() refuse options of %p",
  async (options) => {
    const values = ["localhost", options] as unknown as [string, object];
    const error = caught(() => fullHostNameSync(...values));
    expect(error).toBeInstanceOf(TypeError);
    expect(error.message).toEndWith("as options: expected an object");
    expect(await reasonOf(fullHostName(...values))).toEqual(error);
  },
);
