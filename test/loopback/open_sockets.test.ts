import { describe, expect, test } from "bun:test";
import {
  openSockets,
  Socket,
  SystemError,
  socketCounters,
  TcpListener,
  TcpSocket,
  UdpSocket,
  UnixDatagramSocket,
  UnixListener,
  UnixSeqpacketSocket,
  UnixSocket,
} from "bun-sockets";
import { AF_NETLINK, close, SOCK_RAW, socket } from "bun-sockets/sys";
import { failWith, replaceEntry } from "../support/faults.ts";

const INDEX = JSON.stringify(new URL("../../lib/index.ts", import.meta.url));
const SYS = JSON.stringify(new URL("../../lib/sys/index.ts", import.meta.url));
const FAULTS = JSON.stringify(new URL("../support/faults.ts", import.meta.url));

/** What became of sockets while `work` ran. */
function change(work: () => void): Record<string, number> {
  const before = socketCounters();
  work();
  const after = socketCounters();
  const entries = Object.entries(after).map(([name, count]) => [
    name,
    count - before[name as keyof typeof before],
  ]);
  return Object.fromEntries(entries.filter(([, count]) => count !== 0));
}

const listed = (each: { readonly descriptor: number }) =>
  openSockets().find(({ descriptor }) => descriptor === each.descriptor);

// Runs a module in a child; what it prints is JSON.
function inChild(script: string, env: Record<string, string> = {}): unknown {
  const child = Bun.spawnSync([process.execPath, "-e", script], {
    env: { ...process.env, BUN_SOCKETS_LEAKS: "", ...env },
    timeout: 60_000,
  });
  expect({ exitCode: child.exitCode, errors: child.stderr.toString() }).toEqual({
    exitCode: 0,
    errors: "",
  });
  return JSON.parse(child.stdout.toString());
}

describe("openSockets", () => {
  test("tells class, family, type, descriptor and addresses of each", () => {
    using server = UdpSocket.bind("127.0.0.1:0");
    using client = UdpSocket.open("ipv6");
    using named = UnixDatagramSocket.open();
    using netlink = Socket.create(AF_NETLINK, SOCK_RAW);
    using connected = UdpSocket.open("ipv4");
    connected.connectSync(server.localAddress);
    const { createdAt: _, ...server1 } = listed(server) ?? {};
    expect(server1 as unknown).toEqual({
      kind: "UdpSocket",
      family: "ipv4",
      type: "datagram",
      descriptor: server.descriptor,
      localAddress: server.localAddress,
    });
    expect(listed(connected)).toMatchObject({
      localAddress: connected.localAddress,
      remoteAddress: server.localAddress,
    });
    expect(listed(client)).toMatchObject({ family: "ipv6" });
    expect(listed(named)).toMatchObject({ kind: "UnixDatagramSocket", family: "unix" });
    expect(listed(netlink)).toMatchObject({ kind: "Socket", family: AF_NETLINK, type: "raw" });
  });

  test("calls each by its class: listeners, and what they accept and connect", async () => {
    using tcp = TcpListener.listen("127.0.0.1:0");
    using unix = UnixListener.listen("unix:");
    using records = UnixListener.listen("unix:", { type: "seqpacket" });
    using tcpClient = await TcpSocket.connect(tcp.localAddress);
    using unixClient = await UnixSocket.connect(unix.localAddress);
    using recordsClient = await UnixSeqpacketSocket.connect(records.localAddress);
    using tcpServed = await tcp.accept();
    using unixServed = await unix.accept();
    using recordsServed = await records.accept();
    const kinds = [tcp, unix, tcpClient, tcpServed, unixClient, unixServed].map(
      (each) => listed(each)?.kind,
    );
    expect(kinds).toEqual([
      "TcpListener",
      "UnixListener",
      "TcpSocket",
      "TcpSocket",
      "UnixSocket",
      "UnixSocket",
    ]);
    for (const each of [recordsClient, recordsServed])
      expect(listed(each)?.kind).toBe("UnixSeqpacketSocket");
    expect(listed(tcpServed)?.remoteAddress).toEqual(tcpClient.localAddress);
  });

  test("lists in the order of making, and no longer what was closed or detached", () => {
    const [left, right] = Socket.pair();
    using twin = right.duplicate();
    const numbers = [left, right, twin].map(({ descriptor }) => descriptor);
    const list = () =>
      openSockets()
        .map(({ descriptor }) => descriptor)
        .filter((descriptor) => numbers.includes(descriptor));
    expect(list()).toEqual(numbers);
    left.close();
    expect(list()).toEqual(numbers.slice(1));
    const detached = right.detach();
    expect(list()).toEqual(numbers.slice(2));
    close(detached);
  });

  test("is a new list of frozen rows each time", () => {
    using udp = UdpSocket.open("ipv4");
    const [first] = openSockets();
    expect(Object.isFrozen(first)).toBe(true);
    openSockets().length = 0;
    expect(listed(udp)).toBeDefined();
  });

  test("passes over a descriptor that somebody else has closed, also when it means another", () => {
    using udp = UdpSocket.open("ipv4");
    const { descriptor } = udp;
    close(descriptor);
    expect(listed({ descriptor })).toBeUndefined();
    const foreign = socket(1, 1, 0);
    expect(foreign).toBe(descriptor);
    expect(listed({ descriptor })).toBeUndefined();
    close(foreign);
    using next = Socket.create("unix", "stream");
    expect(next.descriptor).toBe(descriptor);
    expect(listed(next)).toMatchObject({ kind: "Socket", family: "unix" });
    udp.close();
    expect(listed(next)).toBeDefined();
  });

  test("has no stack of the making, which nobody keeps without BUN_SOCKETS_LEAKS", () => {
    const script = `
      import { openSockets, UdpSocket } from ${INDEX};
      // Not as its last act: a tail call leaves no frame.
      function makes() { const made = [UdpSocket.open("ipv4")]; return made[0]; }
      using udp = makes();
      console.log(JSON.stringify(openSockets().map(({ createdAt }) => createdAt ?? "")));
    `;
    expect(inChild(script)).toEqual([""]);
    expect(inChild(script, { BUN_SOCKETS_LEAKS: "0" })).toEqual([""]);
    const [stack] = inChild(script, { BUN_SOCKETS_LEAKS: "1" }) as string[];
    // The library's own frames are left out.
    expect(stack).toStartWith("    at makes (");
  });

  test("keeps no socket alive: a dropped one goes, and counts as leaked", () => {
    const printed = inChild(`
      import { openSockets, socketCounters, UdpSocket } from ${INDEX};
      (() => { for (let i = 0; i < 10; i++) UdpSocket.open("ipv4"); })();
      const kept = openSockets();
      for (let i = 0; i < 200 && openSockets().length > 0; i++) {
        Bun.gc(true);
        await Bun.sleep(5);
      }
      console.log(JSON.stringify([kept.length, openSockets().length, socketCounters()]));
    `);
    expect(printed).toEqual([
      10,
      0,
      { open: 0, opened: 10, adopted: 0, closed: 0, detached: 0, leaked: 10 },
    ]);
  });

  test("lists those of its own thread only", () => {
    const printed = inChild(`
      import { openSockets, UdpSocket } from ${INDEX};
      using udp = UdpSocket.open("ipv4");
      const source = 'import { openSockets } from ' + JSON.stringify(${INDEX}) +
        '; postMessage(openSockets().length);';
      const worker = new Worker(URL.createObjectURL(new Blob([source])));
      const { promise, resolve } = Promise.withResolvers();
      worker.onmessage = ({ data }) => resolve(data);
      const there = await promise;
      console.log(JSON.stringify([openSockets().length, there]));
      process.exit(0);
    `);
    expect(printed).toEqual([1, 0]);
  });
});

describe("socketCounters", () => {
  test("counts what is made and what becomes of it, each socket once", () => {
    expect(change(() => UdpSocket.open("ipv4").close())).toEqual({ opened: 1, closed: 1 });
    using udp = UdpSocket.open("ipv4");
    expect(
      change(() => {
        const adopted = UdpSocket.adopt(udp.descriptor);
        adopted.close();
        adopted.close();
      }),
    ).toEqual({ adopted: 1, closed: 1 });
    expect(
      change(() => {
        const number = UdpSocket.open("ipv4").detach();
        UdpSocket.adopt(number, { own: true }).close();
      }),
    ).toEqual({ opened: 1, detached: 1, adopted: 1, closed: 1 });
    expect(change(() => Socket.pair().map((each) => each.close()))).toEqual({
      opened: 2,
      closed: 2,
    });
    expect(change(() => udp.duplicate().close())).toEqual({ opened: 1, closed: 1 });
    expect(
      change(() => {
        using listener = Socket.create("ipv4", "stream");
        listener.bind("127.0.0.1:0");
        listener.listen();
        using client = Socket.create("ipv4", "stream");
        client.connectSync(listener.localAddress, { timeoutMs: 20_000 });
        listener.acceptSync({ timeoutMs: 20_000 }).close();
      }),
    ).toEqual({ opened: 3, closed: 3 });
  });

  test("counts what is open", () => {
    let udp: UdpSocket | undefined;
    expect(
      change(() => {
        udp = UdpSocket.open("ipv4");
      }),
    ).toEqual({ open: 1, opened: 1 });
    expect(change(() => udp?.close())).toEqual({ open: -1, closed: 1 });
  });

  test("does not count what could not be made", () => {
    expect(
      change(() => {
        using _ = replaceEntry("setsockopt", () => failWith(12));
        expect(() => UdpSocket.open("ipv4", { broadcast: true })).toThrow(SystemError);
      }),
    ).toEqual({});
    expect(
      change(() => {
        using udp = UdpSocket.open("ipv4");
        expect(() => UdpSocket.bind(udp.bind("127.0.0.1:0") ?? udp.localAddress)).toThrow();
      }),
      // The second one was made, and closed because its address was taken.
    ).toEqual({ opened: 2, closed: 2 });
  });

  test("counts a socket as closed whose number somebody else has closed and got again", () => {
    const result = change(() => {
      const lost = UdpSocket.open("ipv4");
      close(lost.descriptor);
      using _ = UdpSocket.open("ipv4");
      lost.close();
    });
    expect(result).toEqual({ opened: 2, closed: 2 });
  });

  test("counts it as closed also when its owner was dropped", () => {
    const printed = inChild(`
      import { socketCounters, UdpSocket } from ${INDEX};
      import { close } from ${SYS};
      let number = -1;
      (() => { number = UdpSocket.open("ipv4").descriptor; close(number); })();
      const next = UdpSocket.open("ipv4");
      console.log(JSON.stringify([next.descriptor === number, socketCounters()]));
      next.close();
    `);
    expect(printed).toEqual([
      true,
      { open: 1, opened: 2, adopted: 0, closed: 1, detached: 0, leaked: 0 },
    ]);
  });

  test("1,000,000 creations and closes leave nothing behind", () => {
    // The kernel's part is left out: it would take most of the time.
    const printed = inChild(`
      import { openSockets, socketCounters, UdpSocket } from ${INDEX};
      import { replaceEntry } from ${FAULTS};
      const fd = (() => { using udp = UdpSocket.open("ipv4"); return udp.descriptor; })();
      let next = fd;
      for (const [name, fake] of Object.entries({
        socket: () => fd + (next = (next + 1) % 50),
        close: () => 0,
        getsockopt: () => 0,
      })) replaceEntry(name, fake);
      const many = (count) => {
        for (let i = 0; i < count; i++) UdpSocket.open("ipv4").close();
        Bun.gc(true);
        return process.memoryUsage.rss();
      };
      const before = Math.max(many(200_000), many(200_000));
      const after = many(1_000_000);
      const { open, closed } = socketCounters();
      const grownMiB = (after - before) / 2 ** 20;
      console.log(JSON.stringify({ open, closed, grew: grownMiB > 16, listed: openSockets().length }));
    `);
    expect(printed).toEqual({ open: 0, closed: 1_400_001, grew: false, listed: 0 });
  }, 60_000);
});
