/**
 * The Pure sockets interface, row by row: C's calls through "bun-sockets/sys", and addresses that are
 * made of names. The adapter keeps Pure's names; see its file for what stands behind each.
 */
import { expect } from "bun:test";
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdtempSync,
  openSync,
  readFileSync,
  readSync,
  rmSync,
  writeSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  addressFromBytes,
  Inet4Address,
  ResolutionError,
  resolveSync,
  UnixAddress,
} from "bun-sockets";
import { pollfd, timeval } from "bun-sockets/structs";
import * as sys from "bun-sockets/sys";
import manifest from "../../package.json" with { type: "json" };
import { caught } from "../support/errors.ts";
import { replaceEntry } from "../support/faults.ts";
import { requires } from "../support/require.ts";
import { Talker } from "../support/talker.ts";
import {
  ownNetwork,
  ownNetworkAndFiles,
  runIn,
  unprivileged,
  withDescriptors,
} from "./support/children.ts";
import { type Pure, pure, Sockaddr } from "./support/pure_adapter.ts";
import { PATIENCE_MS, row } from "./support/rows.ts";

const ROOT = join(import.meta.dir, "../..");
const SIZEOF_INT = 4;
const ANY_IPV4 = new Sockaddr(new Inet4Address("127.0.0.1", 0));

// What a program in another world begins with.
const IMPORTS = `
  import { Inet4Address, Inet6Address, UnixAddress } from "bun-sockets";
  import * as sys from "bun-sockets/sys";
  import { pure, Sockaddr } from "./test/reference/support/pure_adapter.ts";
  const inet = (host, port) => new Sockaddr(new Inet4Address(host, port));
`;

/** Descriptors that are closed at the end of the block, and a folder for paths. */
class Opened implements Disposable {
  readonly #descriptors: number[] = [];
  #folder: string | undefined;

  /** Keeps a descriptor, which must be one, to close it. */
  add(descriptor: number): number {
    expect(descriptor).toBeGreaterThanOrEqual(0);
    this.#descriptors.push(descriptor);
    return descriptor;
  }

  /** A new socket. */
  socket(domain: number, type: number, protocol = 0): number {
    return this.add(pure.socket(domain, type, protocol));
  }

  /** A connected pair. */
  pair(type: number = sys.SOCK_STREAM): [left: number, right: number] {
    const sv = new Int32Array(2);
    expect(pure.socketpair(sys.AF_UNIX, type, 0, sv)).toBe(0);
    return [this.add(sv[0] as number), this.add(sv[1] as number)];
  }

  /** A socket with an address of its own on the loopback, or at a path. */
  bound(type: number = sys.SOCK_STREAM, address: Sockaddr = ANY_IPV4): [number, Sockaddr] {
    const fd = this.socket(pure.sockaddr_family(address), type);
    expect(pure.bind(fd, address)).toBe(0);
    const name = pure.sockaddr();
    expect(pure.getsockname(fd, name)).toBe(0);
    return [fd, name];
  }

  /** A bound socket that listens. */
  listener(address: Sockaddr = ANY_IPV4, backlog = 5): [number, Sockaddr] {
    const [fd, name] = this.bound(sys.SOCK_STREAM, address);
    expect(pure.listen(fd, backlog)).toBe(0);
    return [fd, name];
  }

  /** A TCP connection over the loopback. */
  connection(): { client: number; served: number; peer: Sockaddr; server: Sockaddr } {
    const [listening, server] = this.listener();
    const client = this.socket(sys.AF_INET, sys.SOCK_STREAM);
    expect(pure.connect(client, server)).toBe(0);
    const peer = pure.sockaddr();
    arrives(listening);
    const served = this.add(pure.accept(listening, peer));
    return { client, served, peer, server };
  }

  /** A TCP client whose connection is not answered: the listener's queue is full. */
  unanswered(): [client: number, server: Sockaddr] {
    const [, server] = this.listener(ANY_IPV4, 0);
    const first = this.socket(sys.AF_INET, sys.SOCK_STREAM);
    expect(pure.connect(first, server)).toBe(0);
    return [this.socket(sys.AF_INET, sys.SOCK_STREAM), server];
  }

  /** A path in a folder of this test's own. */
  path(file: string): string {
    this.#folder ??= mkdtempSync(join(tmpdir(), "bun-sockets-pure-"));
    return join(this.#folder, file);
  }

  /** Something open that is no socket. */
  file(): number {
    return this.add(openSync("/dev/null", "r+"));
  }

  [Symbol.dispose](): void {
    for (const descriptor of this.#descriptors) sys.close(descriptor);
    if (this.#folder) rmSync(this.#folder, { recursive: true, force: true });
  }
}

/** Waits until something can be received or accepted: the calls below block. */
function arrives(fd: number): void {
  const set = new DataView(new ArrayBuffer(pollfd.size));
  pollfd.fd.set(set, 0, fd);
  pollfd.events.set(set, 0, sys.POLLIN);
  expect(sys.poll(set, PATIENCE_MS)).toBe(1);
}

/** Receives what has come, as text. */
function received(fd: number, flags = 0, length = 100): string {
  if ((flags & sys.MSG_OOB) === 0) arrives(fd);
  const buffer = Buffer.alloc(length);
  const result = pure.recv(fd, buffer, length, flags);
  expect(result).toBeGreaterThanOrEqual(0);
  return buffer.toString("utf8", 0, result);
}

function send(fd: number, text: string, flags = 0): number {
  return pure.send(fd, Buffer.from(text), Buffer.byteLength(text), flags);
}

function sendto(fd: number, text: string, to: Sockaddr, flags = 0): number {
  return pure.sendto(fd, Buffer.from(text), Buffer.byteLength(text), flags, to);
}

function setInt(fd: number, option: number, value: number, length = SIZEOF_INT): number {
  return pure.setsockopt(fd, sys.SOL_SOCKET, option, Int32Array.of(value, 0), length);
}

function getInt(fd: number, option: number): number {
  const value = new Int32Array(1);
  const length = Uint32Array.of(SIZEOF_INT);
  expect(pure.getsockopt(fd, sys.SOL_SOCKET, option, value, length)).toBe(0);
  expect(length[0]).toBe(SIZEOF_INT);
  return value[0] as number;
}

/** A timeval, as the int vector that Pure would pass. */
function time(seconds: number, microseconds: number): Int32Array {
  const view = new DataView(new ArrayBuffer(timeval.size));
  timeval.tv_sec.set(view, 0, seconds);
  timeval.tv_usec.set(view, 0, microseconds);
  return new Int32Array(view.buffer);
}

function setTime(fd: number, option: number, seconds: number, microseconds: number): number {
  return pure.setsockopt(fd, sys.SOL_SOCKET, option, time(seconds, microseconds), timeval.size);
}

function getInts(fd: number, option: number, count: number): number[] {
  const value = new Int32Array(count);
  const length = Uint32Array.of(count * SIZEOF_INT);
  expect(pure.getsockopt(fd, sys.SOL_SOCKET, option, value, length)).toBe(0);
  expect(length[0]).toBe(count * SIZEOF_INT);
  return [...value];
}

function codeOf(run: () => unknown): string {
  const error = caught(run);
  expect(error).toBeInstanceOf(ResolutionError);
  return (error as ResolutionError).code;
}

/** What libc itself says to a host and a service. */
function lookedUp(host: string, service: string): number {
  const found = new BigUint64Array(1);
  const [node, name] = [host, service].map((text) => Buffer.from(`${text}\0`)) as [Buffer, Buffer];
  const result = sys.getaddrinfo(node, name, null, found);
  if (result === 0) sys.freeaddrinfo(Number(found[0]));
  return result;
}

/** Whether this process may do what only CAP_NET_ADMIN may. */
function isNetAdmin(): boolean {
  const status = readFileSync("/proc/self/status", "utf8");
  return ((BigInt(`0x${/^CapEff:\s*(\w+)$/m.exec(status)?.[1]}`) >> 12n) & 1n) === 1n;
}

/** Whether an on-off option starts at 0 and can be set. */
function expectSwitch(option: number, number: number, type: number = sys.SOCK_STREAM): void {
  expect(option).toBe(number);
  using opened = new Opened();
  const fd = opened.socket(sys.AF_INET, type);
  expect(getInt(fd, option)).toBe(0);
  expect(setInt(fd, option, 1)).toBe(0);
  expect(getInt(fd, option)).toBe(1);
  expect(setInt(fd, option, 0)).toBe(0);
  expect(getInt(fd, option)).toBe(0);
}

// Module

row("pure-01: installing takes no make and no compiler, and uninstalling leaves nothing", () => {
  expect(Object.keys(manifest.scripts).filter((name) => name.includes("install"))).toEqual([]);
  expect(manifest).not.toHaveProperty("dependencies");
  using opened = new Opened();
  const module = opened.path("node_modules/bun-sockets");
  for (const file of manifest.files.filter((name) => existsSync(join(ROOT, name))))
    cpSync(join(ROOT, file), join(module, file), { recursive: true });
  cpSync(join(ROOT, "package.json"), join(module, "package.json"));
  const program = 'import * as sys from "bun-sockets/sys"; console.log(sys.close(-1));';
  const use = () =>
    Bun.spawnSync([process.execPath, "-e", program], { cwd: join(module, "../..") });
  expect(use().stdout.toString()).toBe(`${-sys.EBADF}\n`);
  rmSync(module, { recursive: true });
  expect(use().exitCode).not.toBe(0);
});

row("pure-02: one import brings everything; calls return C's result, only resolving throws", () => {
  const buffer = new Uint8Array(4);
  const length = Uint32Array.of(SIZEOF_INT);
  const address = pure.sockaddr();
  const calls: Partial<Record<keyof Pure, () => number>> = {
    shutdown: () => pure.shutdown(-1, sys.SHUT_RD),
    closesocket: () => pure.closesocket(-1),
    accept: () => pure.accept(-1, address),
    bind: () => pure.bind(-1, ANY_IPV4),
    connect: () => pure.connect(-1, ANY_IPV4),
    listen: () => pure.listen(-1, 1),
    recv: () => pure.recv(-1, buffer, 4, 0),
    send: () => pure.send(-1, buffer, 4, 0),
    recvfrom: () => pure.recvfrom(-1, buffer, 4, 0, address),
    sendto: () => pure.sendto(-1, buffer, 4, 0, ANY_IPV4),
    getsockname: () => pure.getsockname(-1, address),
    getpeername: () => pure.getpeername(-1, address),
    getsockopt: () => pure.getsockopt(-1, 1, 1, new Int32Array(1), length),
    setsockopt: () => pure.setsockopt(-1, 1, 1, new Int32Array(1), SIZEOF_INT),
  };
  for (const [name, call] of Object.entries(calls))
    expect([name, call()]).toEqual([name, -sys.EBADF]);
  expect(sys.errorName(-sys.EBADF)).toBe("EBADF");
  const error = caught(() => pure.sockaddr("nobody.invalid", 80));
  expect(error).toBeInstanceOf(ResolutionError);
  expect(error.message.toLowerCase()).toContain(sys.gai_strerror(sys.EAI_NONAME).toLowerCase());
});

row("pure-03: no call takes a length: it is that of the address, to the byte", () => {
  using opened = new Opened();
  expect(pure.sockaddr("127.0.0.1", 80).address?.bytes).toHaveLength(16);
  expect(pure.sockaddr("::1", 80).address?.bytes).toHaveLength(28);
  // Not 110, whatever the name: a short path, an abstract name, and the longest path.
  const paths = [opened.path("s"), `@bun-sockets-${process.pid}`];
  for (const path of paths) {
    const isPath = path.startsWith("/");
    const address = isPath
      ? pure.sockaddr(path)
      : new Sockaddr(UnixAddress.abstract(path.slice(1)));
    expect(address.address?.bytes).toHaveLength(2 + path.length + (isPath ? 1 : 0));
    const [, name] = opened.bound(sys.SOCK_DGRAM, address);
    expect(name.address?.equals(address.address)).toBe(true);
    // The kernel shows a NUL as @: one that is too many would stand behind the name.
    expect(readFileSync("/proc/net/unix", "utf8")).toContain(` ${path}\n`);
  }
  // A null pointer has length 0, an empty address that of sockaddr_storage.
  const fd = opened.socket(sys.AF_INET, sys.SOCK_STREAM);
  expect(pure.bind(fd, null)).toBe(-sys.EINVAL);
  expect(pure.connect(fd, null)).toBe(-sys.EINVAL);
  // Family 0 and address 0 is 0.0.0.0 for bind(2), port 0: a free one.
  expect(pure.bind(fd, pure.sockaddr())).toBe(0);
});

// Addresses

row(
  "pure-04: sockaddr () is empty, and holds the result of any call that returns an address",
  () => {
    using opened = new Opened();
    for (const [local, family] of [
      [pure.sockaddr(sys.AF_INET, "127.0.0.1", 0), sys.AF_INET],
      [pure.sockaddr(sys.AF_INET6, "::1", 0), sys.AF_INET6],
      [pure.sockaddr(opened.path("listener")), sys.AF_UNIX],
    ] as const) {
      const [listening, name] = opened.listener(local);
      const [client, own] = opened.bound(
        sys.SOCK_STREAM,
        family === sys.AF_UNIX ? pure.sockaddr(opened.path("client")) : local,
      );
      expect(pure.connect(client, name)).toBe(0);
      const [accepted, peer, served] = [pure.sockaddr(), pure.sockaddr(), pure.sockaddr()];
      expect(pure.sockaddr_family(accepted)).toBe(0);
      arrives(listening);
      const connection = opened.add(pure.accept(listening, accepted));
      expect(pure.getpeername(client, peer)).toBe(0);
      expect(pure.getsockname(connection, served)).toBe(0);
      expect(pure.sockaddr_family(accepted)).toBe(family);
      expect(`${accepted.address}`).toBe(`${own.address}`);
      expect(`${peer.address}`).toBe(`${name.address}`);
      expect(`${served.address}`).toBe(`${name.address}`);
    }
    const [udp, to] = opened.bound(sys.SOCK_DGRAM);
    const [sender, from] = opened.bound(sys.SOCK_DGRAM);
    expect(sendto(sender, "x", to)).toBe(1);
    const source = pure.sockaddr();
    arrives(udp);
    expect(pure.recvfrom(udp, new Uint8Array(1), 1, 0, source)).toBe(1);
    expect(`${source.address}`).toBe(`${from.address}`);
    // Where Pure has null for memory that is not there, the engine throws.
    expect(caught(() => new Uint8Array(Number.MAX_SAFE_INTEGER))).toBeInstanceOf(RangeError);
  },
);

row("pure-05: addresses free themselves when they are collected", async () => {
  const count = 1000;
  const make = () =>
    Array.from({ length: count }, (_, i) => new WeakRef(pure.sockaddr(`/tmp/address-${i}`)));
  const addresses = make();
  const living = () => addresses.filter((address) => address.deref()).length;
  for (let turns = 0; turns < 50 && living() > count / 10; turns++) {
    await new Promise((resolve) => setImmediate(resolve));
    Bun.gc(true);
  }
  expect(living()).toBeLessThanOrEqual(count / 10);
});

row(
  "pure-06: sockaddr path is a Unix address; a path that does not fit is refused, not cut",
  () => {
    const address = pure.sockaddr("server_socket");
    expect(pure.sockaddr_family(address)).toBe(sys.AF_UNIX);
    expect(pure.sockaddr_path(address)).toBe("server_socket");
    const longest = `/tmp/${"x".repeat(103)}`;
    expect(pure.sockaddr_path(pure.sockaddr(longest))).toBe(longest);
    expect(caught(() => pure.sockaddr(`${longest}x`))).toBeInstanceOf(RangeError);
    expect(caught(() => pure.sockaddr("a\0b"))).toBeInstanceOf(TypeError);
    expect(caught(() => pure.sockaddr(""))).toBeInstanceOf(TypeError);
  },
);

row("pure-07: sockaddr (family, path) takes AF_UNIX, and no other family", () => {
  const address = pure.sockaddr(sys.AF_UNIX, "server_socket");
  expect(address.address?.equals(pure.sockaddr("server_socket").address)).toBe(true);
  for (const family of [sys.AF_UNSPEC, sys.AF_INET, sys.AF_INET6])
    expect(caught(() => pure.sockaddr(family, "server_socket"))).toBeInstanceOf(TypeError);
});

row("pure-08: HAVE_AF_UNIX is true on Linux", () => {
  expect(pure.HAVE_AF_UNIX).toBe(true);
});

row("pure-09: sockaddr (host, port) takes a name or an IP, a service or a decimal port", () => {
  expect(`${pure.sockaddr("127.0.0.1", "8080").address}`).toBe("127.0.0.1:8080");
  expect(`${pure.sockaddr("127.0.0.1", "http").address}`).toBe("127.0.0.1:80");
  expect(`${pure.sockaddr("::1", "https").address}`).toBe("[::1]:443");
  expect(pure.sockaddr_port(pure.sockaddr("::1", "https"))).toBe(443);
  const named = pure.sockaddr("localhost", "8080");
  expect(["127.0.0.1:8080", "[::1]:8080"]).toContain(`${named.address}`);
  const wildcard = pure.sockaddr("*", "8080");
  expect(["0.0.0.0:8080", "[::]:8080"]).toContain(`${wildcard.address}`);
  expect(codeOf(() => pure.sockaddr("nobody.invalid", "80"))).toBe("EAI_NONAME");
  expect(codeOf(() => pure.sockaddr("127.0.0.1", "no-such-service"))).toBe("EAI_SERVICE");
  // glibc takes it for port 0.
  expect(caught(() => pure.sockaddr("127.0.0.1", "65536"))).toBeInstanceOf(RangeError);
  expect(lookedUp("127.0.0.1", "65536")).toBe(0);
});

row("pure-10: sockaddr (host, port) takes a number too", () => {
  for (const port of [0, 1, 80, 258, 65535]) {
    const address = pure.sockaddr("127.0.0.1", port);
    expect(pure.sockaddr_port(address)).toBe(port);
    expect(address.address?.equals(pure.sockaddr("127.0.0.1", `${port}`).address)).toBe(true);
  }
  expect(codeOf(() => pure.sockaddr("nobody.invalid", 80))).toBe("EAI_NONAME");
  for (const port of [-1, 65536, 65616])
    expect(caught(() => pure.sockaddr("127.0.0.1", port))).toBeInstanceOf(RangeError);
  expect(lookedUp("127.0.0.1", "-1")).toBe(sys.EAI_SERVICE);
});

row("pure-11: sockaddr (family, host, port) keeps to the family", () => {
  expect(`${pure.sockaddr(sys.AF_INET, "localhost", 80).address}`).toBe("127.0.0.1:80");
  expect(`${pure.sockaddr(sys.AF_INET6, "localhost", "80").address}`).toBe("[::1]:80");
  expect(`${pure.sockaddr(sys.AF_INET, "*", 80).address}`).toBe("0.0.0.0:80");
  expect(`${pure.sockaddr(sys.AF_INET6, "*", 80).address}`).toBe("[::]:80");
  const others = ["EAI_ADDRFAMILY", "EAI_NONAME"];
  expect(others).toContain(codeOf(() => pure.sockaddr(sys.AF_INET6, "127.0.0.1", 80)));
  expect(others).toContain(codeOf(() => pure.sockaddr(sys.AF_INET, "::1", 80)));
});

row("pure-12: without a family it is AF_UNSPEC: addresses of both are found", () => {
  expect(sys.AF_UNSPEC).toBe(0);
  for (const host of ["127.0.0.1", "::1"]) {
    const address = pure.sockaddr(host, 80);
    expect(address.address?.equals(pure.sockaddr(sys.AF_UNSPEC, host, 80).address)).toBe(true);
  }
  const families = pure.sockaddrs("localhost", 80).map(pure.sockaddr_family);
  expect(new Set(families)).toEqual(new Set([sys.AF_INET, sys.AF_INET6]));
});

row("pure-13: sockaddrs gives all addresses in order, each once", () => {
  // One for each type of socket, as getaddrinfo(3) gives them.
  expect(resolveSync("127.0.0.1", 80).length).toBeGreaterThan(1);
  const texts = (list: readonly Sockaddr[]) => list.map(({ address }) => `${address}`);
  expect(texts(pure.sockaddrs("127.0.0.1", 80))).toEqual(["127.0.0.1:80"]);
  expect(texts(pure.sockaddrs("localhost", "http")).sort()).toEqual(["127.0.0.1:80", "[::1]:80"]);
  expect(texts(pure.sockaddrs(sys.AF_INET6, "localhost", 80))).toEqual(["[::1]:80"]);
  expect(texts(pure.sockaddrs(sys.AF_INET, "localhost", "80"))).toEqual(["127.0.0.1:80"]);
  for (const host of ["localhost", "*"]) {
    const [first] = texts(pure.sockaddrs(host, 80));
    expect(first).toBe(`${pure.sockaddr(host, 80).address}`);
  }
  expect(codeOf(() => pure.sockaddrs("nobody.invalid", 80))).toBe("EAI_NONAME");
  expect(codeOf(() => pure.sockaddrs("127.0.0.1", "no-such-service"))).toBe("EAI_SERVICE");
});

row("pure-14: sockaddr_family is the number of the family, 0 for an empty address", () => {
  expect(pure.sockaddr_family(pure.sockaddr("127.0.0.1", 80))).toBe(sys.AF_INET);
  expect(pure.sockaddr_family(pure.sockaddr("::1", 80))).toBe(sys.AF_INET6);
  expect(pure.sockaddr_family(pure.sockaddr("path"))).toBe(sys.AF_UNIX);
  const netlink = addressFromBytes(new Uint8Array([sys.AF_NETLINK, 0, ...Buffer.alloc(10)]));
  expect(pure.sockaddr_family(new Sockaddr(netlink))).toBe(sys.AF_NETLINK);
  expect(pure.sockaddr_family(pure.sockaddr())).toBe(0);
  expect(pure.sockaddr_family(null)).toBe(0);
});

row("pure-15: sockaddr_path is the path, null for other families", () => {
  expect(pure.sockaddr_path(pure.sockaddr("/run/x.sock"))).toBe("/run/x.sock");
  expect(pure.sockaddr_path(pure.sockaddr("grüße"))).toBe("grüße");
  for (const address of [pure.sockaddr("127.0.0.1", 80), pure.sockaddr("::1", 80)])
    expect(pure.sockaddr_path(address)).toBeNull();
  expect(pure.sockaddr_path(pure.sockaddr())).toBeNull();
});

row(
  "pure-16: sockaddr_hostname is the host's name, or its number where it has none",
  async () => {
    using opened = new Opened();
    await Bun.write(
      opened.path("hosts"),
      "127.0.0.1 localhost\n192.0.2.1 named.test\n2001:db8::1 six.test\n",
    );
    await Bun.write(opened.path("resolv.conf"), "nameserver 127.0.0.1\n");
    const namesOf = async (sources: string, ...hosts: string[]) => {
      await Bun.write(opened.path("nsswitch.conf"), `hosts: ${sources}\n`);
      const covers = ["hosts", "resolv.conf", "nsswitch.conf"].map(
        (file) => `mount --bind ${opened.path(file)} /etc/${file} && `,
      );
      const { prefix } = ownNetworkAndFiles;
      const world = [...prefix, "sh", "-c", `${covers.join("")}exec "$@"`, "sh"];
      const script = `
        return ${JSON.stringify(hosts)}.map((host) => {
          try {
            return pure.sockaddr_hostname(pure.sockaddr(host, 80));
          } catch (error) {
            return error.code;
          }
        });
      `;
      return await runIn<string[]>({ prefix: world, missing: undefined }, IMPORTS, script);
    };
    const named = ["127.0.0.1", "192.0.2.1", "2001:db8::1"];
    const nameless = ["192.0.2.2", "2001:db8::2"];
    expect(await namesOf("files", ...named, ...nameless)).toEqual([
      "localhost",
      "named.test",
      "six.test",
      ...nameless,
    ]);
    // A resolver that does not answer.
    expect(await namesOf("files dns", "192.0.2.1", "192.0.2.2")).toEqual([
      "named.test",
      "EAI_AGAIN",
    ]);
    expect(pure.sockaddr_hostname(pure.sockaddr("/run/x.sock"))).toBeNull();
    expect(pure.sockaddr_hostname(pure.sockaddr())).toBeNull();
    using _ = replaceEntry("getnameinfo", () => sys.EAI_FAIL);
    expect(codeOf(() => pure.sockaddr_hostname(ANY_IPV4))).toBe("EAI_FAIL");
  },
  ownNetworkAndFiles.missing,
);

row("pure-17: sockaddr_ip is the number of the host, null for other families", () => {
  expect(pure.sockaddr_ip(pure.sockaddr(sys.AF_INET, "localhost", 80))).toBe("127.0.0.1");
  expect(pure.sockaddr_ip(pure.sockaddr("2001:DB8:0::1", 80))).toBe("2001:db8::1");
  expect(pure.sockaddr_ip(pure.sockaddr("/run/x.sock"))).toBeNull();
  expect(pure.sockaddr_ip(pure.sockaddr())).toBeNull();
  expect(pure.sockaddr_ip(null)).toBeNull();
  using _ = replaceEntry("getnameinfo", () => sys.EAI_FAIL);
  expect(codeOf(() => pure.sockaddr_ip(ANY_IPV4))).toBe("EAI_FAIL");
});

row("pure-18: sockaddr_service is the TCP name of the port, or its number", () => {
  const service = (port: number) => pure.sockaddr_service(pure.sockaddr("127.0.0.1", port));
  expect([80, 443, 22].map(service)).toEqual(["http", "https", "ssh"]);
  expect(pure.sockaddr_service(pure.sockaddr("::1", "domain"))).toBe("domain");
  // 514 is shell for TCP, syslog for UDP.
  expect(service(514)).toBe("shell");
  expect(service(65535)).toBe("65535");
  expect(pure.sockaddr_service(pure.sockaddr("/run/x.sock"))).toBeNull();
  expect(pure.sockaddr_service(pure.sockaddr())).toBeNull();
  using _ = replaceEntry("getnameinfo", () => sys.EAI_FAIL);
  expect(codeOf(() => pure.sockaddr_service(ANY_IPV4))).toBe("EAI_FAIL");
});

row("pure-19: sockaddr_port is the port in host order, -1 for other families", () => {
  expect(pure.sockaddr_port(pure.sockaddr("127.0.0.1", 8080))).toBe(8080);
  expect(pure.sockaddr_port(pure.sockaddr("::1", 1))).toBe(1);
  using opened = new Opened();
  const [, name] = opened.listener();
  // The kernel prints it in hexadecimal.
  const port = pure.sockaddr_port(name).toString(16).toUpperCase().padStart(4, "0");
  expect(readFileSync("/proc/net/tcp", "utf8")).toContain(` 0100007F:${port} `);
  for (const address of [pure.sockaddr("/run/x.sock"), pure.sockaddr(), null])
    expect(pure.sockaddr_port(address)).toBe(-1);
});

row("pure-20: sockaddr_info is family, IP and port, or family and path, or nothing", () => {
  expect(pure.sockaddr_info(pure.sockaddr(sys.AF_INET, "localhost", "http"))).toEqual([
    sys.AF_INET,
    "127.0.0.1",
    80,
  ]);
  expect(pure.sockaddr_info(pure.sockaddr("::1", 80))).toEqual([sys.AF_INET6, "::1", 80]);
  expect(pure.sockaddr_info(pure.sockaddr("/run/x.sock"))).toEqual([sys.AF_UNIX, "/run/x.sock"]);
  expect(pure.sockaddr_info(pure.sockaddr())).toEqual([]);
  expect(pure.sockaddr_info(null)).toEqual([]);
});

row("pure-21: what sockaddr_info gives makes the same address again", () => {
  for (const address of [
    pure.sockaddr("localhost", "http"),
    pure.sockaddr("255.255.255.255", 65535),
    pure.sockaddr("::1", 1),
    pure.sockaddr("::ffff:192.0.2.1", 80),
    pure.sockaddr("fe80::1%lo", 80),
    pure.sockaddr("/run/x.sock"),
  ]) {
    const info = pure.sockaddr_info(address) as [number, string, number];
    const again = pure.sockaddr(...info);
    expect(again.address?.equals(address.address)).toBe(true);
    expect(again.address?.bytes).toEqual(address.address?.bytes);
  }
});

// Creating and closing

row(
  "pure-22: socket makes a blocking descriptor of any family and type",
  async () => {
    using opened = new Opened();
    for (const domain of [sys.AF_UNIX, sys.AF_INET, sys.AF_INET6]) {
      for (const type of [sys.SOCK_STREAM, sys.SOCK_DGRAM]) {
        const fd = opened.socket(domain, type);
        expect([getInt(fd, sys.SO_DOMAIN), getInt(fd, sys.SO_TYPE)]).toEqual([domain, type]);
        expect(sys.fcntl(fd, sys.F_GETFL, 0) & sys.O_NONBLOCK).toBe(0);
        expect(sys.fcntl(fd, sys.F_GETFD, 0) & sys.FD_CLOEXEC).toBe(0);
      }
    }
    const tcp = opened.socket(sys.AF_INET, sys.SOCK_STREAM, sys.IPPROTO_TCP);
    expect(getInt(tcp, sys.SO_PROTOCOL)).toBe(sys.IPPROTO_TCP);
    expect(pure.socket(100, sys.SOCK_STREAM, 0)).toBe(-sys.EAFNOSUPPORT);
    expect(pure.socket(sys.AF_INET, sys.SOCK_STREAM | 0x10000, 0)).toBe(-sys.EINVAL);
    expect(pure.socket(sys.AF_INET, sys.SOCK_STREAM, sys.IPPROTO_UDP)).toBe(-sys.EPROTONOSUPPORT);
    expect(pure.socket(sys.AF_UNIX, sys.SOCK_STREAM, 17)).toBe(-sys.EPROTONOSUPPORT);
    expect(pure.socket(sys.AF_INET, sys.SOCK_SEQPACKET, 0)).toBe(-sys.ESOCKTNOSUPPORT);
    const refused = "return pure.socket(sys.AF_INET, sys.SOCK_RAW, sys.IPPROTO_ICMP);";
    expect(await runIn<number>(unprivileged, IMPORTS, refused)).toBe(-sys.EPERM);
    const full = `
      for (;;) {
        const fd = pure.socket(sys.AF_INET, sys.SOCK_STREAM, 0);
        if (fd < 0) return fd;
      }
    `;
    expect(await runIn<number>(withDescriptors(64), IMPORTS, full)).toBe(-sys.EMFILE);
  },
  unprivileged.missing,
);

row("pure-23: SOCK_NONBLOCK, or-ed to the type, sets O_NONBLOCK", () => {
  expect(sys.SOCK_NONBLOCK).toBe(0x800);
  using opened = new Opened();
  const [listening, name] = opened.listener();
  const fd = opened.socket(sys.AF_INET, sys.SOCK_STREAM | sys.SOCK_NONBLOCK);
  expect(sys.fcntl(fd, sys.F_GETFL, 0) & sys.O_NONBLOCK).toBe(sys.O_NONBLOCK);
  expect(pure.connect(fd, name)).toBe(-sys.EINPROGRESS);
  arrives(listening);
});

row("pure-24: SOCK_CLOEXEC, or-ed to the type, sets FD_CLOEXEC", () => {
  expect(sys.SOCK_CLOEXEC).toBe(0x80000);
  using opened = new Opened();
  const fd = opened.socket(sys.AF_INET, sys.SOCK_STREAM | sys.SOCK_CLOEXEC);
  expect(sys.fcntl(fd, sys.F_GETFD, 0) & sys.FD_CLOEXEC).toBe(sys.FD_CLOEXEC);
});

row("pure-25: SOCK_STREAM is 1", () => {
  expect(sys.SOCK_STREAM).toBe(1);
  using opened = new Opened();
  expect(getInt(opened.socket(sys.AF_INET, 1), sys.SO_PROTOCOL)).toBe(sys.IPPROTO_TCP);
});

row("pure-26: SOCK_DGRAM is 2", () => {
  expect(sys.SOCK_DGRAM).toBe(2);
  using opened = new Opened();
  expect(getInt(opened.socket(sys.AF_INET, 2), sys.SO_PROTOCOL)).toBe(sys.IPPROTO_UDP);
});

row("pure-27: SOCK_SEQPACKET is 5", () => {
  expect(sys.SOCK_SEQPACKET).toBe(5);
  using opened = new Opened();
  const [left, right] = opened.pair(5);
  expect([send(left, "one"), send(left, "two")]).toEqual([3, 3]);
  expect([received(right), received(right)]).toEqual(["one", "two"]);
});

row(
  "pure-28: SOCK_RAW is 3, and takes a right",
  async () => {
    expect(sys.SOCK_RAW).toBe(3);
    const open = `
      const fd = pure.socket(sys.AF_INET, sys.SOCK_RAW, sys.IPPROTO_ICMP);
      return fd < 0 ? fd : pure.closesocket(fd);
    `;
    expect(await runIn<number>(unprivileged, IMPORTS, open)).toBe(-sys.EPERM);
    // Whoever has a network of his own has the right there.
    expect(await runIn<number>(ownNetwork, IMPORTS, open)).toBe(0);
  },
  unprivileged.missing ?? ownNetwork.missing,
);

row("pure-29: SOCK_RDM is 4, and has no protocol on Linux", () => {
  expect(sys.SOCK_RDM).toBe(4);
  for (const domain of [sys.AF_UNIX, sys.AF_INET, sys.AF_INET6])
    expect(pure.socket(domain, sys.SOCK_RDM, 0)).toBe(-sys.ESOCKTNOSUPPORT);
});

row("pure-30: AF_UNIX is 1, and so are AF_LOCAL and AF_FILE", () => {
  expect([sys.AF_UNIX, sys.AF_LOCAL, sys.AF_FILE]).toEqual([1, 1, 1]);
});

row("pure-31: AF_INET is 2", () => {
  expect(sys.AF_INET).toBe(2);
});

row("pure-32: AF_INET6 is 10", () => {
  expect(sys.AF_INET6).toBe(10);
});

row("pure-33: AF_UNSPEC is 0", () => {
  expect(sys.AF_UNSPEC).toBe(0);
});

row("pure-34: IPPROTO_IP is 0", () => {
  expect(sys.IPPROTO_IP).toBe(0);
});

row("pure-35: IPPROTO_ICMP is 1", () => {
  expect(sys.IPPROTO_ICMP).toBe(1);
});

row("pure-36: IPPROTO_TCP is 6", () => {
  expect(sys.IPPROTO_TCP).toBe(6);
});

row("pure-37: IPPROTO_UDP is 17", () => {
  expect(sys.IPPROTO_UDP).toBe(17);
});

row("pure-38: socketpair stores two connected descriptors", () => {
  using opened = new Opened();
  for (const type of [sys.SOCK_STREAM, sys.SOCK_DGRAM, sys.SOCK_SEQPACKET]) {
    const [left, right] = opened.pair(type);
    expect([send(left, "there"), received(right)]).toEqual([5, "there"]);
    expect([send(right, "back"), received(left)]).toEqual([4, "back"]);
  }
  const sv = new Int32Array(2);
  for (const [domain, type, protocol, errno] of [
    [sys.AF_INET, sys.SOCK_STREAM, 0, sys.EOPNOTSUPP],
    [sys.AF_INET6, sys.SOCK_DGRAM, 0, sys.EOPNOTSUPP],
    [sys.AF_UNIX, sys.SOCK_STREAM, 17, sys.EPROTONOSUPPORT],
    [100, sys.SOCK_STREAM, 0, sys.EAFNOSUPPORT],
    [sys.AF_UNIX, sys.SOCK_STREAM | 0x10000, 0, sys.EINVAL],
  ] as const) {
    expect(pure.socketpair(domain, type, protocol, sv)).toBe(-errno);
  }
});

row("pure-39: shutdown ends one direction or both", () => {
  using opened = new Opened();
  const { client, served } = opened.connection();
  expect(pure.shutdown(client, sys.SHUT_WR)).toBe(0);
  expect(received(served)).toBe("");
  expect([send(served, "still"), received(client)]).toEqual([5, "still"]);
  expect(pure.shutdown(client, 3)).toBe(-sys.EINVAL);
  const unconnected = opened.socket(sys.AF_INET, sys.SOCK_STREAM);
  expect(pure.shutdown(unconnected, sys.SHUT_RDWR)).toBe(-sys.ENOTCONN);
  expect(pure.shutdown(-1, sys.SHUT_RD)).toBe(-sys.EBADF);
  expect(pure.shutdown(opened.file(), sys.SHUT_RD)).toBe(-sys.ENOTSOCK);
});

row("pure-40: SHUT_RD is 0: receiving gives the end", () => {
  expect(sys.SHUT_RD).toBe(0);
  using opened = new Opened();
  const [left] = opened.pair();
  expect(pure.shutdown(left, 0)).toBe(0);
  expect(received(left)).toBe("");
});

row("pure-41: SHUT_WR is 1: sending is EPIPE, receiving goes on", () => {
  expect(sys.SHUT_WR).toBe(1);
  using opened = new Opened();
  const [left, right] = opened.pair();
  expect(pure.shutdown(left, 1)).toBe(0);
  expect(send(left, "x")).toBe(-sys.EPIPE);
  expect([send(right, "x"), received(left)]).toEqual([1, "x"]);
});

row("pure-42: SHUT_RDWR is 2: both at once", () => {
  expect(sys.SHUT_RDWR).toBe(2);
  using opened = new Opened();
  const [left, right] = opened.pair();
  expect(pure.shutdown(left, 2)).toBe(0);
  expect([received(left), send(left, "x")]).toEqual(["", -sys.EPIPE]);
  expect([received(right), send(right, "x")]).toEqual(["", -sys.EPIPE]);
});

row("pure-43: closesocket is close", () => {
  using opened = new Opened();
  const sv = new Int32Array(2);
  expect(pure.socketpair(sys.AF_UNIX, sys.SOCK_STREAM, 0, sv)).toBe(0);
  const [left, right] = [sv[0] as number, opened.add(sv[1] as number)];
  expect(pure.closesocket(left)).toBe(0);
  expect(received(right)).toBe("");
  expect(pure.closesocket(left)).toBe(-sys.EBADF);
});

// Connections

row("pure-44: accept waits for a connection and tells its address", async () => {
  using opened = new Opened();
  const [listening, name] = opened.listener();
  const [client, own] = opened.bound();
  expect(pure.connect(client, name)).toBe(0);
  const peer = pure.sockaddr();
  arrives(listening);
  const served = opened.add(pure.accept(listening, peer));
  expect(`${peer.address}`).toBe(`${own.address}`);
  expect([send(client, "hello"), received(served)]).toEqual([5, "hello"]);
  expect(sys.fcntl(served, sys.F_GETFL, 0) & sys.O_NONBLOCK).toBe(0);

  expect(pure.accept(-1, peer)).toBe(-sys.EBADF);
  expect(pure.accept(opened.file(), peer)).toBe(-sys.ENOTSOCK);
  expect(pure.accept(opened.bound()[0], peer)).toBe(-sys.EINVAL);
  expect(pure.accept(opened.bound(sys.SOCK_DGRAM)[0], peer)).toBe(-sys.EOPNOTSUPP);
  const idle = opened.socket(sys.AF_INET, sys.SOCK_STREAM | sys.SOCK_NONBLOCK);
  expect([pure.bind(idle, ANY_IPV4), pure.listen(idle, 1)]).toEqual([0, 0]);
  expect(pure.accept(idle, peer)).toBe(-sys.EAGAIN);
  const full = `
    const listener = pure.socket(sys.AF_INET, sys.SOCK_STREAM, 0);
    const name = pure.sockaddr();
    pure.bind(listener, inet("127.0.0.1", 0));
    pure.listen(listener, 5);
    pure.getsockname(listener, name);
    pure.connect(pure.socket(sys.AF_INET, sys.SOCK_STREAM, 0), name);
    while (sys.dup(listener) >= 0);
    return pure.accept(listener, pure.sockaddr());
  `;
  expect(await runIn<number>(withDescriptors(64), IMPORTS, full)).toBe(-sys.EMFILE);
});

row(
  "pure-45: bind gives an address",
  async () => {
    using opened = new Opened();
    const [first, taken] = opened.bound();
    expect(pure.sockaddr_port(taken)).toBeGreaterThan(0);
    const tcp = () => opened.socket(sys.AF_INET, sys.SOCK_STREAM);
    expect(pure.bind(tcp(), taken)).toBe(-sys.EADDRINUSE);
    // TEST-NET-1, which is nobody's.
    const foreign = new Sockaddr(new Inet4Address("192.0.2.1", 0));
    expect(pure.bind(tcp(), foreign)).toBe(-sys.EADDRNOTAVAIL);
    expect(pure.bind(first, ANY_IPV4)).toBe(-sys.EINVAL);
    expect(pure.bind(tcp(), pure.sockaddr("::1", 0))).toBe(-sys.EAFNOSUPPORT);
    const unix = opened.socket(sys.AF_UNIX, sys.SOCK_STREAM);
    expect(pure.bind(unix, pure.sockaddr(opened.path("missing/socket")))).toBe(-sys.ENOENT);
    expect(pure.bind(unix, pure.sockaddr(opened.path("socket")))).toBe(0);
    expect(existsSync(opened.path("socket"))).toBe(true);
    chmodSync(opened.path("."), 0o555);
    const path = JSON.stringify(opened.path("closed"));
    const refused = `
      const fd = pure.socket(sys.AF_UNIX, sys.SOCK_STREAM, 0);
      return pure.bind(fd, pure.sockaddr(${path}));
    `;
    expect(await runIn<number>(unprivileged, IMPORTS, refused)).toBe(-sys.EACCES);
    chmodSync(opened.path("."), 0o755);
  },
  unprivileged.missing,
);

row(
  "pure-46: connect waits until it is connected",
  async () => {
    using opened = new Opened();
    const { client, server } = opened.connection();
    expect(pure.connect(client, server)).toBe(-sys.EISCONN);
    const tcp = (flags = 0) => opened.socket(sys.AF_INET, sys.SOCK_STREAM | flags);
    const [, closed] = opened.bound();
    expect(pure.connect(tcp(), closed)).toBe(-sys.ECONNREFUSED);
    expect(pure.connect(tcp(sys.SOCK_NONBLOCK), server)).toBe(-sys.EINPROGRESS);
    const unix = opened.socket(sys.AF_UNIX, sys.SOCK_STREAM);
    const [, datagrams] = opened.bound(sys.SOCK_DGRAM, pure.sockaddr(opened.path("datagrams")));
    expect(pure.connect(unix, datagrams)).toBe(-sys.EPROTOTYPE);
    expect(pure.connect(unix, pure.sockaddr(opened.path("missing")))).toBe(-sys.ENOENT);
    // The first answer would be waited for one second, of which this socket has one millisecond.
    const [late, full] = opened.unanswered();
    const millisecond = Int32Array.of(1);
    const option = sys.TCP_USER_TIMEOUT;
    expect(pure.setsockopt(late, sys.IPPROTO_TCP, option, millisecond, SIZEOF_INT)).toBe(0);
    expect(pure.connect(late, full)).toBe(-sys.ETIMEDOUT);
    const nowhere = `
      const fd = pure.socket(sys.AF_INET, sys.SOCK_STREAM, 0);
      return pure.connect(fd, inet("198.51.100.1", 80));
    `;
    expect(await runIn<number>(ownNetwork, IMPORTS, nowhere)).toBe(-sys.ENETUNREACH);
  },
  ownNetwork.missing,
);

row("pure-47: listen makes a bound socket take connections", () => {
  using opened = new Opened();
  const [fd] = opened.bound();
  expect(getInt(fd, sys.SO_ACCEPTCONN)).toBe(0);
  expect(pure.listen(fd, 5)).toBe(0);
  expect(getInt(fd, sys.SO_ACCEPTCONN)).toBe(1);
  expect(pure.listen(opened.bound(sys.SOCK_DGRAM)[0], 5)).toBe(-sys.EOPNOTSUPP);
  expect(pure.listen(opened.socket(sys.AF_UNIX, sys.SOCK_STREAM), 5)).toBe(-sys.EINVAL);
  expect(pure.listen(-1, 5)).toBe(-sys.EBADF);
});

// I/O

row("pure-48: recv gives the bytes received, 0 at the end or for an empty datagram", () => {
  using opened = new Opened();
  const buffer = Buffer.alloc(100);
  const { client, served } = opened.connection();
  expect(send(client, "hello")).toBe(5);
  arrives(served);
  // No more than is asked for.
  expect(pure.recv(served, buffer, 2, 0)).toBe(2);
  expect(pure.recv(served, buffer.subarray(2), 98, 0)).toBe(3);
  expect(buffer.toString("utf8", 0, 6)).toBe("hello\0");
  expect(pure.recv(served, buffer, 1, sys.MSG_OOB)).toBe(-sys.EINVAL);
  expect(send(client, "x")).toBe(1);
  arrives(served);
  expect(pure.recv(served, null, 1, 0)).toBe(-sys.EFAULT);
  expect(received(served)).toBe("x");
  expect(pure.shutdown(client, sys.SHUT_WR)).toBe(0);
  arrives(served);
  expect(pure.recv(served, buffer, 100, 0)).toBe(0);

  const idle = opened.socket(sys.AF_INET, sys.SOCK_DGRAM | sys.SOCK_NONBLOCK);
  expect(pure.recv(idle, buffer, 100, 0)).toBe(-sys.EAGAIN);
  const unconnected = opened.socket(sys.AF_INET, sys.SOCK_STREAM);
  expect(pure.recv(unconnected, buffer, 100, 0)).toBe(-sys.ENOTCONN);

  const [udp, name] = opened.bound(sys.SOCK_DGRAM);
  const sender = opened.socket(sys.AF_INET, sys.SOCK_DGRAM);
  expect(pure.connect(sender, name)).toBe(0);
  expect([send(sender, ""), send(sender, "next")]).toEqual([0, 4]);
  arrives(udp);
  expect(pure.recv(udp, buffer, 100, 0)).toBe(0);
  expect(received(udp)).toBe("next");

  const nobody = pure.sockaddr();
  const gone = pure.socket(sys.AF_INET, sys.SOCK_DGRAM, 0);
  expect(pure.bind(gone, ANY_IPV4)).toBe(0);
  expect([pure.getsockname(gone, nobody), pure.closesocket(gone)]).toEqual([0, 0]);
  expect([pure.connect(sender, nobody), send(sender, "x")]).toEqual([0, 1]);
  arrives(sender);
  expect(pure.recv(sender, buffer, 100, 0)).toBe(-sys.ECONNREFUSED);

  const broken = opened.connection();
  const atOnce = Int32Array.of(1, 0);
  expect(pure.setsockopt(broken.client, sys.SOL_SOCKET, sys.SO_LINGER, atOnce, 8)).toBe(0);
  // dup2: its number stays taken, so that it is not closed twice.
  expect(sys.dup3(idle, broken.client, 0)).toBe(broken.client);
  arrives(broken.served);
  expect(pure.recv(broken.served, buffer, 100, 0)).toBe(-sys.ECONNRESET);
});

row("pure-49: send gives the bytes sent, which may be fewer", () => {
  using opened = new Opened();
  const [left] = opened.pair(sys.SOCK_STREAM | sys.SOCK_NONBLOCK);
  const much = new Uint8Array(1 << 22);
  const sent = pure.send(left, much, much.length, 0);
  expect(sent).toBeGreaterThan(0);
  expect(sent).toBeLessThan(much.length);
  expect(pure.send(left, much, much.length, 0)).toBe(-sys.EAGAIN);
  // Without MSG_NOSIGNAL: SIGPIPE kills no Bun program.
  const [alone, other] = opened.pair();
  expect(pure.shutdown(other, sys.SHUT_RDWR)).toBe(0);
  expect(send(alone, "x")).toBe(-sys.EPIPE);
  const udp = opened.socket(sys.AF_INET, sys.SOCK_DGRAM);
  expect(send(udp, "x")).toBe(-sys.EDESTADDRREQ);
  expect(pure.connect(udp, opened.bound(sys.SOCK_DGRAM)[1])).toBe(0);
  expect(pure.send(udp, much, 65507, 0)).toBe(65507);
  expect(pure.send(udp, much, 65508, 0)).toBe(-sys.EMSGSIZE);
});

row("pure-50: recvfrom tells the sender too, except on a connection", () => {
  using opened = new Opened();
  const buffer = Buffer.alloc(100);
  const [udp, name] = opened.bound(sys.SOCK_DGRAM);
  const [sender, own] = opened.bound(sys.SOCK_DGRAM);
  expect(sendto(sender, "hello", name)).toBe(5);
  const from = pure.sockaddr();
  arrives(udp);
  expect(pure.recvfrom(udp, buffer, 100, 0, from)).toBe(5);
  expect(`${from.address}`).toBe(`${own.address}`);
  const { client, served } = opened.connection();
  expect(send(client, "hello")).toBe(5);
  const nobody = pure.sockaddr();
  arrives(served);
  expect(pure.recvfrom(served, buffer, 100, 0, nobody)).toBe(5);
  expect(pure.sockaddr_family(nobody)).toBe(0);

  expect(pure.recvfrom(udp, buffer, 100, sys.MSG_DONTWAIT, from)).toBe(-sys.EAGAIN);
  const stream = opened.socket(sys.AF_INET, sys.SOCK_STREAM);
  expect(pure.recvfrom(stream, buffer, 100, 0, from)).toBe(-sys.ENOTCONN);
  expect(pure.recvfrom(served, buffer, 1, sys.MSG_OOB, from)).toBe(-sys.EINVAL);
  expect(pure.recvfrom(-1, buffer, 100, 0, from)).toBe(-sys.EBADF);
  expect(send(client, "x")).toBe(1);
  arrives(served);
  expect(pure.recvfrom(served, null, 1, 0, from)).toBe(-sys.EFAULT);
  const [, closed] = opened.bound();
  expect(pure.connect(sender, closed)).toBe(0);
  expect(send(sender, "x")).toBe(1);
  arrives(sender);
  expect(pure.recvfrom(sender, buffer, 100, 0, from)).toBe(-sys.ECONNREFUSED);
  const reset = opened.connection();
  const atOnce = Int32Array.of(1, 0);
  expect(pure.setsockopt(reset.client, sys.SOL_SOCKET, sys.SO_LINGER, atOnce, 8)).toBe(0);
  expect(sys.dup3(udp, reset.client, 0)).toBe(reset.client);
  arrives(reset.served);
  expect(pure.recvfrom(reset.served, buffer, 100, 0, from)).toBe(-sys.ECONNRESET);
});

row(
  "pure-51: sendto sends to an address",
  async () => {
    using opened = new Opened();
    const [udp, name] = opened.bound(sys.SOCK_DGRAM);
    const sender = opened.socket(sys.AF_INET, sys.SOCK_DGRAM);
    expect([sendto(sender, "hello", name), received(udp)]).toEqual([5, "hello"]);
    expect(sendto(sender, "x", pure.sockaddr("::1", 80))).toBe(-sys.EAFNOSUPPORT);
    expect(sendto(sender, "x", ANY_IPV4)).toBe(-sys.EINVAL);
    expect(sendto(sender, "x".repeat(65508), name)).toBe(-sys.EMSGSIZE);
    // Without SO_BROADCAST.
    const everybody = new Sockaddr(new Inet4Address("127.255.255.255", 9));
    expect(sendto(sender, "x", everybody)).toBe(-sys.EACCES);
    const path = pure.sockaddr(opened.path("socket"));
    opened.listener(path);
    const stream = opened.socket(sys.AF_UNIX, sys.SOCK_STREAM);
    expect(pure.connect(stream, path)).toBe(0);
    expect(sendto(stream, "x", path)).toBe(-sys.EISCONN);
    const [left, right] = opened.pair();
    expect(pure.shutdown(right, sys.SHUT_RDWR)).toBe(0);
    expect(sendto(left, "x", new Sockaddr(UnixAddress.unnamed))).toBe(-sys.EISCONN);
    expect(pure.sendto(sender, new Uint8Array(1), 1, 0, null)).toBe(-sys.EDESTADDRREQ);
    const { client, server } = opened.connection();
    expect(pure.shutdown(client, sys.SHUT_WR)).toBe(0);
    expect(sendto(client, "x", server)).toBe(-sys.EPIPE);
    const [, full] = opened.bound(sys.SOCK_DGRAM, pure.sockaddr(opened.path("full")));
    const unix = opened.socket(sys.AF_UNIX, sys.SOCK_DGRAM);
    while (sendto(unix, "x", full, sys.MSG_DONTWAIT) === 1);
    expect(sendto(unix, "x", full, sys.MSG_DONTWAIT)).toBe(-sys.EAGAIN);
    const nowhere = `
      const fd = pure.socket(sys.AF_INET, sys.SOCK_DGRAM, 0);
      return pure.sendto(fd, new Uint8Array(1), 1, 0, inet("198.51.100.1", 80));
    `;
    expect(await runIn<number>(ownNetwork, IMPORTS, nowhere)).toBe(-sys.ENETUNREACH);
  },
  ownNetwork.missing,
);

row("pure-52: MSG_EOR is 0x80, and is accepted at the end of a record", () => {
  expect(sys.MSG_EOR).toBe(0x80);
  using opened = new Opened();
  const [left, right] = opened.pair(sys.SOCK_SEQPACKET);
  expect([send(left, "one", sys.MSG_EOR), send(left, "two", sys.MSG_EOR)]).toEqual([3, 3]);
  expect([received(right), received(right)]).toEqual(["one", "two"]);
});

row("pure-53: MSG_OOB is 1: one urgent byte overtakes", () => {
  expect(sys.MSG_OOB).toBe(1);
  using opened = new Opened();
  const { client, served } = opened.connection();
  expect(pure.recv(served, new Uint8Array(1), 1, sys.MSG_OOB)).toBe(-sys.EINVAL);
  expect([send(client, "slow"), send(client, "!", sys.MSG_OOB)]).toEqual([4, 1]);
  arrives(served);
  expect(received(served, sys.MSG_OOB)).toBe("!");
  expect(received(served)).toBe("slow");
  const udp = opened.socket(sys.AF_INET, sys.SOCK_DGRAM);
  const [, name] = opened.bound(sys.SOCK_DGRAM);
  expect(sendto(udp, "x", name, sys.MSG_OOB)).toBe(-sys.EOPNOTSUPP);
});

row("pure-54: MSG_PEEK is 2: what is read stays", () => {
  expect(sys.MSG_PEEK).toBe(2);
  using opened = new Opened();
  const [left, right] = opened.pair();
  expect(send(left, "hello")).toBe(5);
  expect(received(right, sys.MSG_PEEK)).toBe("hello");
  expect(received(right, sys.MSG_PEEK, 2)).toBe("he");
  expect(received(right)).toBe("hello");
});

row("pure-55: MSG_WAITALL is 0x100: the whole length is waited for", () => {
  expect(sys.MSG_WAITALL).toBe(0x100);
  // The other side sends the second half when the first one has been taken.
  const halves = `
    import * as sys from "bun-sockets/sys";
    const queued = new Int32Array(1);
    sys.write(1, Buffer.from("hel"));
    do sys.ioctl(1, sys.SIOCOUTQ, queued); while (queued[0] > 0);
    sys.write(1, Buffer.from("lo"));
  `;
  for (const [flags, text] of [
    [0, "hel"],
    [sys.MSG_WAITALL, "hello"],
  ] as const) {
    using opened = new Opened();
    const [left, right] = opened.pair();
    Bun.spawn([process.execPath, "-e", halves], {
      cwd: ROOT,
      stdio: ["ignore", left, "inherit"],
    });
    // So that it ends, whatever happens.
    expect(setTime(right, sys.SO_RCVTIMEO, 5, 0)).toBe(0);
    expect(received(right, flags, 5)).toBe(text);
  }
});

row("pure-56: MSG_DONTWAIT is 0x40: this one call does not block", () => {
  expect(sys.MSG_DONTWAIT).toBe(0x40);
  using opened = new Opened();
  const [left, right] = opened.pair();
  expect(pure.recv(right, new Uint8Array(1), 1, sys.MSG_DONTWAIT)).toBe(-sys.EAGAIN);
  const much = new Uint8Array(1 << 20);
  while (pure.send(left, much, much.length, sys.MSG_DONTWAIT) > 0);
  expect(pure.send(left, much, much.length, sys.MSG_DONTWAIT)).toBe(-sys.EAGAIN);
  expect(sys.fcntl(right, sys.F_GETFL, 0) & sys.O_NONBLOCK).toBe(0);
});

row(
  "pure-57: the descriptor is an ordinary one, for files and for stdio",
  () => {
    using opened = new Opened();
    const [left, right] = opened.pair();
    expect(writeSync(left, "a line\n")).toBe(7);
    const buffer = Buffer.alloc(100);
    arrives(right);
    expect(buffer.toString("utf8", 0, readSync(right, buffer))).toBe("a line\n");
    expect(send(left, "hello\n")).toBe(6);
    // fgets and fputs, on the descriptor itself.
    const program = ["sed", "--unbuffered", "s/^/got /; q"];
    const { success } = Bun.spawnSync(program, { stdio: [right, right, "inherit"] });
    expect([success, received(left)]).toEqual([true, "got hello\n"]);
  },
  requires("sed"),
);

// Information

row("pure-58: getsockname fills the local address", () => {
  using opened = new Opened();
  const address = pure.sockaddr();
  const { client, peer } = opened.connection();
  expect(pure.getsockname(client, address)).toBe(0);
  expect(`${address.address}`).toBe(`${peer.address}`);
  const [unix, name] = opened.bound(sys.SOCK_STREAM, pure.sockaddr(opened.path("socket")));
  expect(pure.getsockname(unix, address)).toBe(0);
  expect(pure.sockaddr_path(address)).toBe(pure.sockaddr_path(name));
  expect(pure.getsockname(-1, address)).toBe(-sys.EBADF);
  expect(pure.getsockname(opened.file(), address)).toBe(-sys.ENOTSOCK);
});

row("pure-59: getpeername fills the address of the peer", () => {
  using opened = new Opened();
  const address = pure.sockaddr();
  const { client, served, peer, server } = opened.connection();
  expect(pure.getpeername(client, address)).toBe(0);
  expect(`${address.address}`).toBe(`${server.address}`);
  expect(pure.getpeername(served, address)).toBe(0);
  expect(`${address.address}`).toBe(`${peer.address}`);
  const lonely = opened.socket(sys.AF_INET, sys.SOCK_STREAM);
  expect(pure.getpeername(lonely, address)).toBe(-sys.ENOTCONN);
  expect(pure.getpeername(-1, address)).toBe(-sys.EBADF);
  expect(pure.getpeername(opened.file(), address)).toBe(-sys.ENOTSOCK);
});

row("pure-60: getsockopt fills an int vector, and its length", () => {
  using opened = new Opened();
  const fd = opened.socket(sys.AF_INET, sys.SOCK_STREAM);
  const value = Int32Array.of(-1, -1);
  const length = Uint32Array.of(8);
  expect(pure.getsockopt(fd, sys.SOL_SOCKET, sys.SO_TYPE, value, length)).toBe(0);
  expect([[...value], length[0]]).toEqual([[sys.SOCK_STREAM, -1], SIZEOF_INT]);
  expect(pure.getsockopt(fd, sys.SOL_SOCKET, 9999, value, length)).toBe(-sys.ENOPROTOOPT);
  // It takes 8 bytes.
  expect(pure.getsockopt(fd, sys.SOL_SOCKET, sys.SO_COOKIE, value, Uint32Array.of(4))).toBe(
    -sys.EINVAL,
  );
  expect(pure.getsockopt(-1, sys.SOL_SOCKET, sys.SO_TYPE, value, length)).toBe(-sys.EBADF);
});

row(
  "pure-61: setsockopt takes an int vector and its length",
  async () => {
    using opened = new Opened();
    const fd = opened.socket(sys.AF_INET, sys.SOCK_STREAM);
    const on = Int32Array.of(1);
    expect(pure.setsockopt(fd, sys.SOL_SOCKET, sys.SO_KEEPALIVE, on, SIZEOF_INT)).toBe(0);
    expect(getInt(fd, sys.SO_KEEPALIVE)).toBe(1);
    expect(setInt(fd, 9999, 1)).toBe(-sys.ENOPROTOOPT);
    expect(setInt(fd, sys.SO_KEEPALIVE, 1, 2)).toBe(-sys.EINVAL);
    expect(setTime(fd, sys.SO_RCVTIMEO, 0, 1_000_000)).toBe(-sys.EDOM);
    const refused = `
      const fd = pure.socket(sys.AF_INET, sys.SOCK_STREAM, 0);
      const set = (name, value) => pure.setsockopt(fd, sys.SOL_SOCKET, name, Int32Array.of(value), 4);
      return [set(sys.SO_PRIORITY, 7), set(sys.SO_DEBUG, 1)];
    `;
    expect(await runIn<number[]>(unprivileged, IMPORTS, refused)).toEqual([
      -sys.EPERM,
      -sys.EACCES,
    ]);
  },
  unprivileged.missing,
);

row("pure-62: SOL_SOCKET is 1", () => {
  expect(sys.SOL_SOCKET).toBe(1);
});

row("pure-63: values are int vectors of SIZEOF_INT, 4 bytes; 1 to 3 are EINVAL", () => {
  expect(Int32Array.BYTES_PER_ELEMENT).toBe(SIZEOF_INT);
  using opened = new Opened();
  const fd = opened.socket(sys.AF_INET, sys.SOCK_STREAM);
  for (const length of [1, 2, 3]) expect(setInt(fd, sys.SO_REUSEADDR, 1, length)).toBe(-sys.EINVAL);
  expect(getInt(fd, sys.SO_REUSEADDR)).toBe(0);
  expect(setInt(fd, sys.SO_REUSEADDR, 1, SIZEOF_INT)).toBe(0);
  expect(getInt(fd, sys.SO_REUSEADDR)).toBe(1);
});

row("pure-64: SO_ACCEPTCONN is 30: 1 on what listens, read-only", () => {
  expect(sys.SO_ACCEPTCONN).toBe(30);
  using opened = new Opened();
  expect(getInt(opened.listener()[0], sys.SO_ACCEPTCONN)).toBe(1);
  const fd = opened.socket(sys.AF_INET, sys.SOCK_STREAM);
  expect(getInt(fd, sys.SO_ACCEPTCONN)).toBe(0);
  expect(setInt(fd, sys.SO_ACCEPTCONN, 1)).toBe(-sys.ENOPROTOOPT);
});

row("pure-65: SO_BROADCAST is 6: without it a broadcast is EACCES", () => {
  expectSwitch(sys.SO_BROADCAST, 6, sys.SOCK_DGRAM);
  using opened = new Opened();
  const fd = opened.socket(sys.AF_INET, sys.SOCK_DGRAM);
  const everybody = new Sockaddr(new Inet4Address("127.255.255.255", 9));
  expect(sendto(fd, "x", everybody)).toBe(-sys.EACCES);
  expect(setInt(fd, sys.SO_BROADCAST, 1)).toBe(0);
  expect(sendto(fd, "x", everybody)).toBe(1);
});

row(
  "pure-66: SO_DEBUG is 1, and takes a right",
  async () => {
    expect(sys.SO_DEBUG).toBe(1);
    const set = `
      const fd = pure.socket(sys.AF_INET, sys.SOCK_STREAM, 0);
      const value = new Int32Array(1);
      const length = Uint32Array.of(4);
      const read = () => (pure.getsockopt(fd, sys.SOL_SOCKET, sys.SO_DEBUG, value, length), value[0]);
      const before = read();
      return [
        before,
        pure.setsockopt(fd, sys.SOL_SOCKET, sys.SO_DEBUG, Int32Array.of(1), 4),
        read(),
        pure.setsockopt(fd, sys.SOL_SOCKET, sys.SO_DEBUG, Int32Array.of(0), 4),
      ];
    `;
    expect(await runIn<number[]>(unprivileged, IMPORTS, set)).toEqual([0, -sys.EACCES, 0, 0]);
    if (isNetAdmin()) expectSwitch(sys.SO_DEBUG, 1);
  },
  unprivileged.missing,
);

row("pure-67: SO_DONTROUTE is 5", () => {
  expectSwitch(sys.SO_DONTROUTE, 5);
});

row("pure-68: SO_ERROR is 4: reading it clears it, and it cannot be set", () => {
  expect(sys.SO_ERROR).toBe(4);
  using opened = new Opened();
  const fd = opened.socket(sys.AF_INET, sys.SOCK_STREAM | sys.SOCK_NONBLOCK);
  expect(getInt(fd, sys.SO_ERROR)).toBe(0);
  expect(pure.connect(fd, opened.bound()[1])).toBe(-sys.EINPROGRESS);
  arrives(fd);
  expect([getInt(fd, sys.SO_ERROR), getInt(fd, sys.SO_ERROR)]).toEqual([sys.ECONNREFUSED, 0]);
  expect(setInt(fd, sys.SO_ERROR, 1)).toBe(-sys.ENOPROTOOPT);
});

row("pure-69: SO_KEEPALIVE is 9", () => {
  expectSwitch(sys.SO_KEEPALIVE, 9);
});

row("pure-70: SO_LINGER is 13: on or off and seconds, 8 bytes", () => {
  expect(sys.SO_LINGER).toBe(13);
  using opened = new Opened();
  const fd = opened.socket(sys.AF_INET, sys.SOCK_STREAM);
  expect(getInts(fd, sys.SO_LINGER, 2)).toEqual([0, 0]);
  expect(pure.setsockopt(fd, sys.SOL_SOCKET, sys.SO_LINGER, Int32Array.of(1, 3), 8)).toBe(0);
  expect(getInts(fd, sys.SO_LINGER, 2)).toEqual([1, 3]);
  expect(setInt(fd, sys.SO_LINGER, 1)).toBe(-sys.EINVAL);
});

row("pure-71: SO_OOBINLINE is 10: an urgent byte stays in the stream", () => {
  expectSwitch(sys.SO_OOBINLINE, 10);
  using opened = new Opened();
  const { client, served } = opened.connection();
  expect(setInt(served, sys.SO_OOBINLINE, 1)).toBe(0);
  expect([send(client, "a"), send(client, "!", sys.MSG_OOB)]).toEqual([1, 1]);
  expect(received(served) + received(served)).toBe("a!");
});

row("pure-72: SO_RCVBUF is 8: doubled, and between two bounds", () => {
  expect(sys.SO_RCVBUF).toBe(8);
  using opened = new Opened();
  const fd = opened.socket(sys.AF_INET, sys.SOCK_DGRAM);
  const maximum = Number(readFileSync("/proc/sys/net/core/rmem_max", "utf8"));
  for (const [value, there] of [
    [10_000, 20_000],
    [1, 2304],
    [2 ** 30, 2 * maximum],
  ] as const) {
    expect(setInt(fd, sys.SO_RCVBUF, value)).toBe(0);
    expect(getInt(fd, sys.SO_RCVBUF)).toBe(there);
  }
});

row("pure-73: SO_RCVLOWAT is 18: 1 by default, and for 0", () => {
  expect(sys.SO_RCVLOWAT).toBe(18);
  using opened = new Opened();
  const fd = opened.socket(sys.AF_INET, sys.SOCK_STREAM);
  expect(getInt(fd, sys.SO_RCVLOWAT)).toBe(1);
  expect(setInt(fd, sys.SO_RCVLOWAT, 4)).toBe(0);
  expect(getInt(fd, sys.SO_RCVLOWAT)).toBe(4);
  expect(setInt(fd, sys.SO_RCVLOWAT, 0)).toBe(0);
  expect(getInt(fd, sys.SO_RCVLOWAT)).toBe(1);
});

row("pure-74: SO_RCVTIMEO is 20: a timeval, after which receiving is EAGAIN", () => {
  expect(sys.SO_RCVTIMEO).toBe(20);
  using opened = new Opened();
  const fd = opened.socket(sys.AF_INET, sys.SOCK_DGRAM);
  expect(getInts(fd, sys.SO_RCVTIMEO, 4)).toEqual([0, 0, 0, 0]);
  expect(setTime(fd, sys.SO_RCVTIMEO, 0, 20_000)).toBe(0);
  expect(getInts(fd, sys.SO_RCVTIMEO, 4)).toEqual([0, 0, 20_000, 0]);
  expect(pure.recv(fd, new Uint8Array(1), 1, 0)).toBe(-sys.EAGAIN);
  expect(setTime(fd, sys.SO_RCVTIMEO, 0, 1_000_000)).toBe(-sys.EDOM);
  expect(setTime(fd, sys.SO_RCVTIMEO, 0, -1)).toBe(-sys.EDOM);
  expect(setInt(fd, sys.SO_RCVTIMEO, 1)).toBe(-sys.EINVAL);
});

row("pure-75: SO_REUSEADDR is 2", () => {
  expectSwitch(sys.SO_REUSEADDR, 2);
  // Two UDP sockets that both have it may share a port.
  using opened = new Opened();
  const [first, second] = [0, 0].map(() => opened.socket(sys.AF_INET, sys.SOCK_DGRAM));
  for (const fd of [first, second]) expect(setInt(fd as number, sys.SO_REUSEADDR, 1)).toBe(0);
  const name = pure.sockaddr();
  expect(pure.bind(first as number, ANY_IPV4)).toBe(0);
  expect(pure.getsockname(first as number, name)).toBe(0);
  expect(pure.bind(second as number, name)).toBe(0);
});

row("pure-76: SO_SNDBUF is 7: doubled, and at least 4608", () => {
  expect(sys.SO_SNDBUF).toBe(7);
  using opened = new Opened();
  const fd = opened.socket(sys.AF_INET, sys.SOCK_DGRAM);
  for (const [value, there] of [
    [10_000, 20_000],
    [1, 4608],
  ] as const) {
    expect(setInt(fd, sys.SO_SNDBUF, value)).toBe(0);
    expect(getInt(fd, sys.SO_SNDBUF)).toBe(there);
  }
});

row("pure-77: SO_SNDLOWAT is 19: 1, and cannot be set", () => {
  expect(sys.SO_SNDLOWAT).toBe(19);
  using opened = new Opened();
  const fd = opened.socket(sys.AF_INET, sys.SOCK_STREAM);
  expect(getInt(fd, sys.SO_SNDLOWAT)).toBe(1);
  expect(setInt(fd, sys.SO_SNDLOWAT, 2)).toBe(-sys.ENOPROTOOPT);
});

row("pure-78: SO_SNDTIMEO is 21: for sending, and for connecting, which is EINPROGRESS", () => {
  expect(sys.SO_SNDTIMEO).toBe(21);
  using opened = new Opened();
  const [left] = opened.pair();
  expect(getInts(left, sys.SO_SNDTIMEO, 4)).toEqual([0, 0, 0, 0]);
  expect(setTime(left, sys.SO_SNDTIMEO, 0, 20_000)).toBe(0);
  const much = new Uint8Array(1 << 22);
  expect(pure.send(left, much, much.length, 0)).toBeLessThan(much.length);
  expect(pure.send(left, much, much.length, 0)).toBe(-sys.EAGAIN);
  expect(setTime(left, sys.SO_SNDTIMEO, 0, 1_000_000)).toBe(-sys.EDOM);
  expect(setInt(left, sys.SO_SNDTIMEO, 1)).toBe(-sys.EINVAL);
  const [client, server] = opened.unanswered();
  expect(setTime(client, sys.SO_SNDTIMEO, 0, 20_000)).toBe(0);
  expect(pure.connect(client, server)).toBe(-sys.EINPROGRESS);
});

row("pure-79: SO_TYPE is 3: the type without flags, read-only", () => {
  expect(sys.SO_TYPE).toBe(3);
  using opened = new Opened();
  for (const type of [sys.SOCK_STREAM, sys.SOCK_DGRAM, sys.SOCK_SEQPACKET]) {
    const fd = opened.socket(sys.AF_UNIX, type | sys.SOCK_NONBLOCK | sys.SOCK_CLOEXEC);
    expect(getInt(fd, sys.SO_TYPE)).toBe(type);
    expect(setInt(fd, sys.SO_TYPE, type)).toBe(-sys.ENOPROTOOPT);
  }
});

// Examples

const ECHO = "examples/unix_echo_quit.ts";

/** One question of a client that knows only C's calls. */
function asked(path: string, line: string): string {
  using opened = new Opened();
  const fd = opened.socket(sys.AF_UNIX, sys.SOCK_STREAM);
  expect(pure.connect(fd, pure.sockaddr(path))).toBe(0);
  expect(send(fd, line)).toBe(Buffer.byteLength(line));
  return received(fd);
}

row("pure-80: the example server echoes a line of each connection, and ends at quit", async () => {
  using opened = new Opened();
  const path = opened.path("server_socket");
  // What an earlier server has left is unlinked first.
  {
    using earlier = new Opened();
    earlier.bound(sys.SOCK_STREAM, pure.sockaddr(path));
  }
  expect(existsSync(path)).toBe(true);
  await using server = new Talker(ECHO, "server", path);
  expect(await server.line()).toBe(`server listening at '${path}'`);
  for (const line of ["1+1", "foo bar", "grüße", ""]) {
    expect(asked(path, `${line}\n`)).toBe(`${line}\n`);
    expect(await server.line()).toBe(`server> ${line}`);
  }
  expect(existsSync(path)).toBe(true);
  expect(asked(path, "quit\n")).toBe("quit\n");
  expect(await server.end()).toEqual({ rest: "server> quit\nserver is exiting\n", code: 0 });
  expect(existsSync(path)).toBe(false);
});

row(
  "pure-81: the example client makes a connection for each line, and ends with its input",
  async () => {
    using opened = new Opened();
    const path = opened.path("server_socket");
    await using server = new Talker(ECHO, "server", path);
    await server.line();
    {
      await using client = new Talker(ECHO, "client", path);
      for (const line of ["1+1", "foo bar"]) {
        expect(await client.through("> ")).toBe("client> ");
        await client.type(line);
        expect(await server.line()).toBe(`server> ${line}`);
      }
      // The end of the input ends the client only.
      expect(await client.through("> ")).toBe("client> ");
      await client.endInput();
      expect(await client.end()).toEqual({ rest: "client is exiting\n", code: 0 });
    }
    await using client = new Talker(ECHO, "client", path);
    expect(await client.through("> ")).toBe("client> ");
    await client.type("quit");
    expect(await client.end()).toEqual({ rest: "client is exiting\n", code: 0 });
    expect(await server.end()).toEqual({ rest: "server> quit\nserver is exiting\n", code: 0 });

    const fd = opened.socket(sys.AF_UNIX, sys.SOCK_STREAM);
    expect(pure.connect(fd, pure.sockaddr(path))).toBe(-sys.ENOENT);
    opened.bound(sys.SOCK_STREAM, pure.sockaddr(path));
    expect(pure.connect(fd, pure.sockaddr(path))).toBe(-sys.ECONNREFUSED);
  },
);

row("pure-82: several clients take turns, one request after another", async () => {
  using opened = new Opened();
  const path = opened.path("server_socket");
  await using server = new Talker(ECHO, "server", path);
  await server.line();
  await using first = new Talker(ECHO, "client", path);
  await using second = new Talker(ECHO, "client", path);
  for (const round of ["one", "two", "three"]) {
    for (const [name, client] of [
      ["first", first],
      ["second", second],
    ] as const) {
      expect(await client.through("> ")).toBe("client> ");
      await client.type(`${name} ${round}`);
      expect(await server.line()).toBe(`server> ${name} ${round}`);
    }
  }
  // A connection that says nothing yet keeps the next one waiting, and no longer.
  const quiet = opened.socket(sys.AF_UNIX, sys.SOCK_STREAM);
  expect(pure.connect(quiet, pure.sockaddr(path))).toBe(0);
  const late = opened.socket(sys.AF_UNIX, sys.SOCK_STREAM);
  expect(pure.connect(late, pure.sockaddr(path))).toBe(0);
  expect(send(late, "late\n")).toBe(5);
  expect(send(quiet, "quiet\n")).toBe(6);
  expect([received(quiet), received(late)]).toEqual(["quiet\n", "late\n"]);
  expect(await server.line()).toBe("server> quiet");
  expect(await server.line()).toBe("server> late");
});

row("pure-83: a UDP server answers to where each datagram came from", () => {
  using opened = new Opened();
  const [server, name] = opened.bound(sys.SOCK_DGRAM, pure.sockaddr("localhost", 0));
  const local = pure.sockaddr(pure.sockaddr_family(name), pure.sockaddr_ip(name) as string, 0);
  const clients = [0, 1, 2].map(() => opened.bound(sys.SOCK_DGRAM, local));
  const buffer = Buffer.alloc(100);
  for (const [i, [client]] of clients.entries())
    expect(sendto(client, `question ${i}`, name)).toBe(10);
  for (const [, own] of clients) {
    const from = pure.sockaddr();
    arrives(server);
    const length = pure.recvfrom(server, buffer, 100, 0, from);
    expect(`${from.address}`).toBe(`${own.address}`);
    const answer = buffer.toString("utf8", 0, length).replace("question", "answer");
    expect(sendto(server, answer, from)).toBe(answer.length);
  }
  for (const [i, [client]] of clients.entries()) {
    const from = pure.sockaddr();
    arrives(client);
    const length = pure.recvfrom(client, buffer, 100, 0, from);
    expect(buffer.toString("utf8", 0, length)).toBe(`answer ${i}`);
    expect(`${from.address}`).toBe(`${name.address}`);
  }
});
