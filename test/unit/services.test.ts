/** Services and protocols as this machine has them. Files of our own: test/privileged/resolve.test.ts. */
import { describe, expect, spyOn, test } from "bun:test";
import { existsSync } from "node:fs";
import {
  hostName,
  protocolByName,
  protocolByNumber,
  protocols,
  type Service,
  serviceByName,
  serviceByPort,
  services,
  setHostName,
} from "bun-sockets";
import { EIO, EPERM, ERANGE } from "bun-sockets/sys";
import { caught } from "../support/errors.ts";
import { failWith, replaceEntry, replaceLibc } from "../support/faults.ts";
import { testIf } from "../support/require.ts";

const needs = (file: string) => (existsSync(file) ? undefined : `needs ${file}`);
const withServices = testIf(needs("/etc/services"));
const withProtocols = testIf(needs("/etc/protocols"));

describe("services", () => {
  withServices("are found by name and by port", () => {
    expect(serviceByName("domain", "udp")).toMatchObject({ port: 53, protocol: "udp" });
    expect(serviceByPort(53, "tcp")).toMatchObject({ name: "domain", protocol: "tcp" });
    expect(serviceByName("no such service")).toBeUndefined();
    expect(serviceByName("domain", "no such protocol")).toBeUndefined();
    expect(serviceByPort(0)).toBeUndefined();
  });

  withServices("are all found by what the list says of them", () => {
    const all = services();
    expect(all.length).toBeGreaterThan(10);
    const isCalled = (each: Service, name: string) =>
      each.name === name || each.aliases.includes(name);
    const first = (found: (each: Service) => boolean) => all.find(found);
    for (const { name, port, protocol } of all) {
      const same = first((each) => isCalled(each, name) && each.protocol === protocol);
      expect(serviceByName(name, protocol)).toEqual(same);
      const other = first((each) => each.port === port && each.protocol === protocol);
      expect(serviceByPort(port, protocol)).toEqual(other);
    }
  });

  withServices("have memory that grows as libc asks for it", () => {
    const lengths: unknown[] = [];
    using _ = replaceLibc("getservbyname_r", (original) => (...values) => {
      lengths.push(values[4]);
      return lengths.length < 4 ? ERANGE : original(...values);
    });
    expect(serviceByName("domain", "udp")).toMatchObject({ port: 53 });
    expect(lengths).toHaveLength(4);
    expect(lengths.map((length) => (length as number) / (lengths[0] as number))).toEqual([
      1, 4, 16, 64,
    ]);
  });

  test("that ask for more and more memory are given up", () => {
    using fault = replaceEntry("getservbyport_r", () => ERANGE);
    expect(caught(() => serviceByPort(53))).toMatchObject({
      code: "ERANGE",
      syscall: "getservbyport_r",
    });
    expect(fault.calls).toBeLessThan(10);
  });

  test("that cannot be asked for are a SystemError", () => {
    using _ = replaceEntry("getservbyname_r", () => EIO);
    expect(caught(() => serviceByName("domain"))).toMatchObject({
      name: "SystemError",
      code: "EIO",
      syscall: "getservbyname_r",
    });
  });

  test.each([65536, -1, 1.5, Number.NaN])("by the port %p are refused", (port) => {
    expect(() => serviceByPort(port)).toThrow("as a port: expected 0 to 65535");
  });

  test.each([7, null, undefined, "a\0b"])("by the name %p are refused", (name) => {
    expect(caught(() => serviceByName(name as string))).toBeInstanceOf(TypeError);
    const protocol = (name === undefined ? 7 : name) as unknown as string;
    expect(caught(() => serviceByName("domain", protocol))).toBeInstanceOf(TypeError);
    expect(caught(() => serviceByPort(53, protocol))).toBeInstanceOf(TypeError);
  });
});

describe("protocols", () => {
  withProtocols("are found by name and by number", () => {
    expect(protocolByName("udp")).toMatchObject({ name: "udp", number: 17 });
    expect(protocolByName("UDP")).toEqual(protocolByNumber(17));
    expect(protocolByName("no such protocol")).toBeUndefined();
    expect(protocolByNumber(254)).toBeUndefined();
    for (const { name, number } of protocols()) {
      expect(protocolByName(name)?.number).toBe(number);
      expect(protocolByNumber(number)).toBeDefined();
    }
  });

  test.each([256, -1, 1.5])("by the number %p are refused", (number) => {
    expect(() => protocolByNumber(number)).toThrow("as a protocol number: expected 0 to 255");
  });

  test.each([7, null, undefined])("by the name %p are refused", (name) => {
    expect(caught(() => protocolByName(name as unknown as string))).toBeInstanceOf(TypeError);
  });
});

describe("a file that is not there", () => {
  test("is empty, and one that cannot be read is an error", () => {
    const readFileSync = spyOn(process.getBuiltinModule("node:fs"), "readFileSync");
    const fail = (code: string, errno: number) =>
      readFileSync.mockImplementation(() => {
        throw Object.assign(new Error(code), { code, errno });
      });
    try {
      fail("ENOENT", -2);
      expect([services(), protocols(), protocolByName("tcp")]).toEqual([[], [], undefined]);
      fail("EACCES", -13);
      expect(() => services()).toThrow("EACCES");
      expect(() => protocolByNumber(6)).toThrow("EACCES");
    } finally {
      readFileSync.mockRestore();
    }
  });
});

describe("host names", () => {
  test("hostName() is what the kernel says", async () => {
    const file = await Bun.file("/proc/sys/kernel/hostname").text();
    expect(hostName()).toBe(file.trim());
  });

  test("setHostName() refuses before it asks", () => {
    using sethostname = replaceEntry("sethostname", () => 0);
    expect(() => setHostName("a".repeat(65))).toThrow("Cannot use 65 bytes as a host name");
    expect(() => setHostName("a\0b")).toThrow("it contains a NUL");
    expect(caught(() => setHostName(7 as unknown as string))).toBeInstanceOf(TypeError);
    expect(sethostname.calls).toBe(0);
  });

  test("setHostName() that is not allowed is an EPERM", () => {
    using _ = replaceEntry("sethostname", () => failWith(EPERM));
    expect(caught(() => setHostName("other"))).toMatchObject({
      code: "EPERM",
      syscall: "sethostname",
    });
  });
});
