/**
 * Sockets and the programs that this one starts: a child has what was passed to it and nothing else,
 * and can serve on it.
 */
import { dlopen } from "bun:ffi";
import { afterAll, describe, expect, test } from "bun:test";
import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, readlinkSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  Socket,
  TcpListener,
  TcpSocket,
  UdpSocket,
  UnixDatagramSocket,
  UnixSocket,
} from "bun-sockets";
import { AF_UNIX, SOCK_STREAM, socket } from "bun-sockets/sys";
import { requires, testIf } from "../support/require.ts";
import { ending, firstLine } from "../support/strangers.ts";

const INDEX = JSON.stringify(new URL("../../lib/index.ts", import.meta.url));
const withPython = testIf(requires("python3"));
const timeoutMs = 20_000;

const folder = mkdtempSync(join(tmpdir(), "bun-sockets-children-"));
afterAll(() => rmSync(folder, { recursive: true }));

const link = (fd: number) => readlinkSync(`/proc/self/fd/${fd}`);

// Prints each descriptor of the child and what it is, but for the one that lists them.
const LISTING =
  "cd /proc/self/fd; for fd in *; do " +
  '[ -e "$fd" ] && [ "$fd" -gt 2 ] && echo "$fd $(readlink /proc/$$/fd/$fd)"; done; true';

/** What descriptors a child sees above 2: the shell's own one, of a script, is not among them. */
function parse(text: string): Record<string, string> {
  const rows = text.split("\n").filter(Boolean);
  return Object.fromEntries(rows.map((row) => row.split(" ") as [string, string]));
}

/** What C starts: it gets everything that is not close-on-exec. */
function system(command: string): string {
  const file = join(folder, "listing");
  // int system(const char *command);
  const { symbols, close } = dlopen("libc.so.6", { system: { args: ["ptr"], returns: "i32" } });
  // Not { … } > file, for which the shell would keep its own output open meanwhile.
  symbols.system(Buffer.from(`exec > ${file}; ${command}\0`));
  close();
  return readFileSync(file, "utf8");
}

/** One of every way to come by a socket. */
function everyKind(): Socket[] {
  const udp = UdpSocket.bind("127.0.0.1:0");
  const listener = listen();
  const client = Socket.create("ipv4", "stream");
  client.connectSync(listener.localAddress, { timeoutMs });
  return [
    udp,
    udp.duplicate(),
    UdpSocket.adopt(udp.descriptor),
    // As others open them.
    Socket.adopt(socket(AF_UNIX, SOCK_STREAM, 0), { own: true }),
    UnixDatagramSocket.open(),
    ...UnixDatagramSocket.pair(),
    ...Socket.pair({ type: "seqpacket" }),
    listener,
    client,
    listener.acceptSync({ timeoutMs }),
  ];
}

function closing(sockets: readonly Socket[]): Disposable {
  return { [Symbol.dispose]: () => sockets.forEach((each) => void each.close()) };
}

function listen(): Socket {
  const listener = Socket.create("ipv4", "stream");
  listener.bind("127.0.0.1:0");
  listener.listen();
  return listener;
}

const STARTERS: Readonly<
  Record<string, (command: string, passed: readonly number[]) => Promise<string>>
> = {
  "Bun.spawn": async (command, passed) => {
    const child = Bun.spawn(["sh", "-c", command], {
      stdio: ["ignore", "pipe", "inherit", ...passed],
    });
    return await (child.stdout as ReadableStream).text();
  },
  "Bun.spawnSync": async (command, passed) => {
    const stdio = ["ignore", "pipe", "inherit", ...passed];
    // The declarations of spawnSync know of no more than three.
    const options = { stdio } as unknown as Bun.SpawnOptions.SpawnSyncOptions<
      "ignore",
      "pipe",
      "inherit"
    >;
    return Bun.spawnSync(["sh", "-c", command], options).stdout.toString();
  },
  "spawn of node:child_process": async (command, passed) => {
    const child = spawn("sh", ["-c", command], { stdio: ["ignore", "pipe", "inherit", ...passed] });
    return await new Response(child.stdout as unknown as ReadableStream).text();
  },
};
const starters = Object.keys(STARTERS);

describe("what a child sees in /proc/self/fd", () => {
  test.each(starters)("nothing of ours, started by %s", async (name) => {
    const sockets = everyKind();
    using _ = closing(sockets);
    // The poller's own descriptors are there too.
    const waits = sockets[0]?.receiveBytes(1).catch(() => {});
    expect(parse((await STARTERS[name]?.(LISTING, [])) ?? "")).toEqual({});
    sockets[0]?.close();
    await waits;
  });

  test("nothing of ours, started by C: every descriptor is close-on-exec", async () => {
    const sockets = everyKind();
    using _ = closing(sockets);
    const waits = sockets[0]?.receiveBytes(1).catch(() => {});
    expect(Object.values(parse(system(LISTING)))).toEqual([]);
    sockets[0]?.close();
    await waits;
  });

  test("nothing of what listeners and transfers hold beside, started by C", async () => {
    using listener = TcpListener.listen("127.0.0.1:0");
    const connections = listener.connections();
    const served = connections.next();
    using client = await TcpSocket.connect(listener.localAddress, { timeoutMs });
    using source = (await served).value as TcpSocket;
    const next = connections.next().catch(() => {});
    const [left, right] = UnixSocket.pair();
    using _ends = closing([left, right]);
    // What has come is on its way through a pipe; more is waited for.
    await client.sendAll("hello");
    const moved = source.spliceTo(left, { timeoutMs }).catch(() => {});
    expect(`${Buffer.from(await right.receiveBytes(100, { timeoutMs }))}`).toBe("hello");
    expect(Object.values(parse(system(LISTING)))).toEqual([]);
    listener.close();
    source.close();
    await Promise.all([next, moved]);
  });

  test.each(starters)("just what was passed by %s, in its order from 3 on", async (name) => {
    const sockets = everyKind();
    using _ = closing(sockets);
    // Backwards, so that what goes to one number stands in another's place.
    const passed = sockets.map(({ descriptor }) => descriptor).reverse();
    const seen = parse((await STARTERS[name]?.(LISTING, passed)) ?? "");
    expect(seen).toEqual(
      Object.fromEntries(passed.map((descriptor, index) => [`${3 + index}`, link(descriptor)])),
    );
    // Still ours, and still not for others.
    expect(sockets.map(({ descriptor }) => descriptor).reverse()).toEqual(passed);
    expect(sockets.some(({ inheritable }) => inheritable)).toBe(false);
  });

  test("under its own number what is inheritable, started by C; Bun.spawn does not ask", async () => {
    using udp = UdpSocket.open("ipv4");
    using other = UdpSocket.open("ipv4");
    udp.inheritable = true;
    expect(parse(system(LISTING))).toEqual({ [udp.descriptor]: link(udp.descriptor) });
    for (const name of starters) expect(await STARTERS[name]?.(LISTING, [])).toBe("");
    udp.inheritable = false;
    expect(parse(system(LISTING))).toEqual({});
    expect(other.inheritable).toBe(false);
  });

  test.each(starters)("no child at all, started by %s with a closed socket", async (name) => {
    const udp = UdpSocket.open("ipv4");
    udp.close();
    expect(async () => await STARTERS[name]?.(LISTING, [udp.descriptor])).toThrow();
  });
});

describe("a child that serves on what was passed", () => {
  async function asks(server: UdpSocket): Promise<string> {
    using client = UdpSocket.open("ipv4");
    await client.sendTo("hello", server.localAddress);
    return `${Buffer.from(await client.receiveBytes(100, { timeoutMs }))}`;
  }

  withPython(
    "python3, with a UDP socket",
    async () => {
      using server = UdpSocket.bind("127.0.0.1:0");
      const source = `
import socket
s = socket.socket(fileno=3)
s.setblocking(True)
data, peer = s.recvfrom(100)
s.sendto(f"{s.family.name} {s.type.name} ".encode() + data.upper(), peer)
`;
      const child = Bun.spawn(["python3", "-c", source], {
        stdio: ["ignore", "inherit", "inherit", server.descriptor],
      });
      using _ = ending(child);
      expect(await asks(server)).toBe("AF_INET SOCK_DGRAM HELLO");
      expect(await child.exited).toBe(0);
    },
    30_000,
  );

  withPython(
    "python3, with a listener, which accepts there",
    async () => {
      using listener = listen();
      const source = `
import socket
s = socket.socket(fileno=3)
s.setblocking(True)
print(s.getsockname()[1], flush=True)
c, peer = s.accept()
c.sendall(b"from " + str(peer[1]).encode() + b": " + c.recv(100).upper())
`;
      const child = Bun.spawn(["python3", "-c", source], {
        stdio: ["ignore", "pipe", "inherit", listener.descriptor],
      });
      using _ = ending(child);
      const address = listener.localAddress;
      expect(await firstLine(child.stdout)).toBe(`${(address as { port?: number }).port}`);
      // The child serves alone from here on.
      listener.close();
      using client = Socket.create("ipv4", "stream");
      await client.connect(address, { timeoutMs });
      await client.send("hello");
      const { port } = client.localAddress as { port?: number };
      const answer = Buffer.from(await client.receiveBytes(100, { timeoutMs }));
      expect(`${answer}`).toBe(`from ${port}: HELLO`);
      expect(await child.exited).toBe(0);
    },
    30_000,
  );

  test("Bun, which adopts the listener, as the README says", async () => {
    using listener = TcpListener.listen("127.0.0.1:0");
    const source = `
      const { TcpListener } = await import(${INDEX});
      using listener = TcpListener.adopt(3);
      using served = await listener.accept();
      for await (const line of served.lines()) await served.sendAll(line.toUpperCase());
    `;
    const command = [process.execPath, "-e", source];
    const child = Bun.spawn(command, {
      stdio: ["ignore", "inherit", "inherit", listener.descriptor],
    });
    using _ = ending(child);
    const { localAddress } = listener;
    // Connected here, and accepted there.
    using client = await TcpSocket.connect(localAddress, { timeoutMs });
    listener.close();
    await client.sendAll("hello\n");
    client.shutdown("write");
    expect(await client.reader().readText({ timeoutMs })).toBe("HELLO");
    expect(await child.exited).toBe(0);
  });

  withPython(
    "python3, started by node:child_process",
    async () => {
      using server = UdpSocket.bind("127.0.0.1:0");
      const source = `
import select, socket
s = socket.socket(fileno=3)
select.select([s], [], [])
data, peer = s.recvfrom(100)
s.sendto(data[::-1], peer)
`;
      const child = spawn("python3", ["-c", source], {
        stdio: ["ignore", "inherit", "inherit", server.descriptor],
      });
      const exited = new Promise((resolve) => child.on("exit", resolve));
      expect(await asks(server)).toBe("olleh");
      expect(await exited).toBe(0);
    },
    30_000,
  );

  test("bun, which adopts descriptor 3", async () => {
    using server = UdpSocket.bind("127.0.0.1:0");
    const source = `
      import { openSockets, UdpSocket } from ${INDEX};
      using server = UdpSocket.adopt(3, { own: true });
      const target = new Uint8Array(100);
      const { length, address } = await server.receiveFrom(target, { timeoutMs: ${timeoutMs} });
      const [{ descriptor, localAddress }] = openSockets();
      await server.sendTo(\`\${descriptor} \${localAddress} \${Buffer.from(target.subarray(0, length))}\`, address);
    `;
    const child = Bun.spawn([process.execPath, "-e", source], {
      stdio: ["ignore", "inherit", "inherit", server.descriptor],
    });
    using _ = ending(child);
    expect(await asks(server)).toBe(`3 ${server.localAddress} hello`);
    expect(await child.exited).toBe(0);
  }, 30_000);

  test("cat, for which one end of a pair is standard input and output", async () => {
    const [ours, theirs] = Socket.pair();
    using _ours = ours;
    const child = Bun.spawn(["cat"], {
      stdio: [theirs.descriptor, theirs.descriptor, "inherit"],
    });
    using _ = ending(child);
    // Else the end would never come: this one is open too.
    theirs.close();
    await ours.send("hello");
    expect(`${Buffer.from(await ours.receiveBytes(100, { timeoutMs }))}`).toBe("hello");
    ours.shutdown("write");
    expect(await ours.receive(new Uint8Array(100), { timeoutMs })).toBe(0);
    expect(await child.exited).toBe(0);
  }, 30_000);
});
