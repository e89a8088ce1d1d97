/** Classic BPF programs on sockets: what they let through, and which socket of a group gets what. */
import { describe, expect, test } from "bun:test";
import { release } from "node:os";
import { FilterProgram, SocketOption, TcpListener, TcpSocket, UdpSocket } from "bun-sockets";
import {
  BPF_A,
  BPF_ABS,
  BPF_ALU,
  BPF_B,
  BPF_JEQ,
  BPF_JMP,
  BPF_K,
  BPF_LD,
  BPF_MEM,
  BPF_MOD,
  BPF_RET,
  ENOMEM,
} from "bun-sockets/sys";
import { systemErrorOf } from "../support/errors.ts";
import { failWith, replaceLibc } from "../support/faults.ts";
import { requires, testIf } from "../support/require.ts";

const WAIT = { timeoutMs: 5000 };
const UDP_HEADER = 8;
// Behind the UDP header of a packet.
const onlyA = new FilterProgram([
  { code: BPF_LD | BPF_B | BPF_ABS, k: UDP_HEADER },
  { code: BPF_JMP | BPF_JEQ | BPF_K, k: 0x41, jt: 0, jf: 1 },
  { code: BPF_RET | BPF_K, k: 65535 },
  { code: BPF_RET | BPF_K, k: 0 },
]);
const hosts = ["127.0.0.1", "::1"] as const;
const bracketed = (host: string) => (host.includes(":") ? `[${host}]` : host);

const codeOf = (run: () => unknown) => systemErrorOf(run).code;

function received(socket: UdpSocket): string[] {
  const texts: string[] = [];
  const target = new Uint8Array(100);
  for (;;) {
    const length = socket.tryReceive(target);
    if (length === undefined) return texts;
    texts.push(Buffer.from(target.subarray(0, length)).toString());
  }
}

describe.each(hosts)("over %s", (host) => {
  const open = () => UdpSocket.bind(`${bracketed(host)}:0`);

  test("attachFilter() lets through what the program does, from now on", () => {
    using socket = open();
    socket.sendToSync("B1", socket.localAddress);
    socket.attachFilter(onlyA);
    for (const text of ["B2", "A1", "", "B3", "A2"]) socket.sendToSync(text, socket.localAddress);
    expect(received(socket)).toEqual(["B1", "A1", "A2"]);
  });

  test("attachFilter() with drains loses what came before, of whatever kind", () => {
    using socket = open();
    socket.sendToSync("B1", socket.localAddress);
    socket.sendToSync("A1", socket.localAddress);
    socket.attachFilter(onlyA, { drains: true });
    socket.sendToSync("B2", socket.localAddress);
    socket.sendToSync("A2", socket.localAddress);
    expect(received(socket)).toEqual(["A2"]);
  });

  test("a program that returns a length cuts the datagram", () => {
    using socket = open();
    socket.attachFilter(new FilterProgram([{ code: BPF_RET | BPF_K, k: UDP_HEADER + 3 }]));
    socket.sendToSync("abcdef", socket.localAddress);
    expect(received(socket)).toEqual(["abc"]);
  });

  test("FilterProgram.bySourceHash gives all of one sender to one of four sockets", () => {
    const group = [UdpSocket.bind(`${bracketed(host)}:0`, { reusePort: true })];
    const [first] = group as [UdpSocket];
    const address = first.localAddress;
    while (group.length < 4) group.push(UdpSocket.bind(address, { reusePort: true }));
    try {
      first.attachReusePortProgram(FilterProgram.bySourceHash(group.length));
      const shares = group.map(() => 0);
      for (let sender = 0; sender < 80; sender++) {
        using client = UdpSocket.bind(`${bracketed(host)}:0`);
        for (let i = 0; i < 3; i++) client.sendToSync("x", address);
        const counts = group.map((socket) => received(socket).length);
        expect(counts.toSorted()).toEqual([0, 0, 0, 3]);
        const place = counts.indexOf(3);
        shares[place] = (shares[place] as number) + 1;
      }
      // By chance alone one of four gets less than 5 of 80 once in 20,000 runs.
      for (const share of shares) expect(share).toBeGreaterThanOrEqual(5);
    } finally {
      for (const socket of group) socket.close();
    }
  });
});

test("attachReusePortProgram() chooses for the whole group, until it is detached", () => {
  using first = UdpSocket.bind("127.0.0.1:0", { reusePort: true });
  using second = UdpSocket.bind(first.localAddress, { reusePort: true });
  using client = UdpSocket.bind("127.0.0.1:0");
  const last = new FilterProgram([{ code: BPF_RET | BPF_K, k: 1 }]);
  first.attachReusePortProgram(last);
  for (let i = 0; i < 10; i++) client.sendToSync(`${i}`, first.localAddress);
  expect([received(first).length, received(second).length]).toEqual([0, 10]);
  second.attachReusePortProgram(new FilterProgram([{ code: BPF_RET | BPF_K, k: 0 }]));
  for (let i = 0; i < 10; i++) client.sendToSync(`${i}`, first.localAddress);
  expect([received(first).length, received(second).length]).toEqual([10, 0]);
  expect(first.detachReusePortProgram()).toBe(true);
  expect(second.detachReusePortProgram()).toBe(false);
});

test("a program of the group sees the payload first, and picks by it", () => {
  using first = UdpSocket.bind("127.0.0.1:0", { reusePort: true });
  using second = UdpSocket.bind(first.localAddress, { reusePort: true });
  first.attachReusePortProgram(
    new FilterProgram([
      { code: BPF_LD | BPF_B | BPF_ABS, k: 0 },
      { code: BPF_ALU | BPF_MOD | BPF_K, k: 2 },
      { code: BPF_RET | BPF_A },
    ]),
  );
  for (const digit of "0123") first.sendToSync(digit, first.localAddress);
  expect(received(first)).toEqual(["0", "2"]);
  expect(received(second)).toEqual(["1", "3"]);
});

// On lo a datagram is handled on the CPU that sends it.
const SEND_FROM_EACH_CPU = `
import os, socket, sys
sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for cpu in sorted(os.sched_getaffinity(0)):
    os.sched_setaffinity(0, {cpu})
    for _ in range(20):
        sender.sendto(b"%d" % cpu, ("127.0.0.1", int(sys.argv[1])))
    print(cpu)
`;

testIf(requires("python3"))(
  "FilterProgram.byCpu gives datagrams to the socket of the CPU that handles them",
  () => {
    const size = 2;
    const group = [UdpSocket.bind("127.0.0.1:0", { reusePort: true })];
    const [first] = group as [UdpSocket];
    while (group.length < size) group.push(UdpSocket.bind(first.localAddress, { reusePort: true }));
    try {
      first.attachReusePortProgram(FilterProgram.byCpu(size));
      const port = `${first.localAddress.port}`;
      const sender = Bun.spawnSync(["python3", "-c", SEND_FROM_EACH_CPU, port]);
      const cpus = sender.stdout.toString().trim().split("\n");
      expect(cpus.length).toBeGreaterThan(0);
      for (const [place, socket] of group.entries()) {
        const expected = cpus.filter((cpu) => Number(cpu) % size === place);
        expect(received(socket)).toEqual(expected.flatMap((cpu) => new Array(20).fill(cpu)));
      }
    } finally {
      for (const socket of group) socket.close();
    }
  },
);

// Before Linux 6.2 a group of UDP sockets passed over it.
const [major = 0, minor = 0] = release().split(".").map(Number);
const knowsCpus = major > 6 || (major === 6 && minor >= 2);

testIf(requires("python3") ?? (knowsCpus ? undefined : "needs Linux 6.2"))(
  "incomingCpu gives a socket what its CPU handles, without a program, and tells which it was",
  () => {
    const cpus = availableCpus();
    const group = [UdpSocket.bind("127.0.0.1:0", { reusePort: true })];
    const [first] = group as [UdpSocket];
    while (group.length < cpus.length)
      group.push(UdpSocket.bind(first.localAddress, { reusePort: true }));
    try {
      for (const [place, socket] of group.entries())
        socket.setOption(SocketOption.incomingCpu, cpus[place] as number);
      Bun.spawnSync(["python3", "-c", SEND_FROM_EACH_CPU, `${first.localAddress.port}`]);
      expect(group.map(received)).toEqual(cpus.map((cpu) => new Array(20).fill(`${cpu}`)));
      // The kernel keeps it for sockets with a peer only.
      using left = UdpSocket.bind("127.0.0.1:0");
      using right = UdpSocket.bind("127.0.0.1:0");
      left.connectSync(right.localAddress);
      right.sendToSync("x", left.localAddress);
      expect(received(left)).toEqual(["x"]);
      expect(cpus).toContain(left.getOption(SocketOption.incomingCpu));
    } finally {
      for (const socket of group) socket.close();
    }
  },
);

function availableCpus(): number[] {
  const script = "import os; print(*sorted(os.sched_getaffinity(0)))";
  const { stdout } = Bun.spawnSync(["python3", "-c", script]);
  return stdout.toString().trim().split(" ").map(Number);
}

test("attachReusePortProgram() steers connections, too", () => {
  using first = TcpListener.listen("127.0.0.1:0", { reusePort: true });
  using second = TcpListener.listen(first.localAddress, { reusePort: true });
  first.attachReusePortProgram(new FilterProgram([{ code: BPF_RET | BPF_K, k: 1 }]));
  for (let i = 0; i < 5; i++) {
    using _client = TcpSocket.connectSync(first.localAddress, WAIT);
    using _served = second.acceptSync(WAIT);
    expect(first.tryAccept()).toBeUndefined();
  }
});

test("detachFilter() tells whether there was one", () => {
  using socket = UdpSocket.bind("127.0.0.1:0");
  expect(socket.detachFilter()).toBe(false);
  socket.attachFilter(FilterProgram.dropAll);
  socket.sendToSync("lost", socket.localAddress);
  expect(socket.detachFilter()).toBe(true);
  expect(socket.detachFilter()).toBe(false);
  socket.sendToSync("heard", socket.localAddress);
  expect(received(socket)).toEqual(["heard"]);
});

test("a filter that was locked stays: EPERM", () => {
  using socket = UdpSocket.bind("127.0.0.1:0");
  socket.attachFilter(onlyA);
  socket.setOption(SocketOption.lockFilter, true);
  expect(codeOf(() => socket.detachFilter())).toBe("EPERM");
  expect(codeOf(() => socket.attachFilter(FilterProgram.acceptAll))).toBe("EPERM");
  expect(codeOf(() => socket.attachFilter(FilterProgram.acceptAll, { drains: true }))).toBe(
    "EPERM",
  );
  expect(codeOf(() => socket.setOption(SocketOption.lockFilter, false))).toBe("EPERM");
  socket.sendToSync("B", socket.localAddress);
  socket.sendToSync("A", socket.localAddress);
  expect(received(socket)).toEqual(["A"]);
});

test("a program that loads memory without having stored to it is the kernel's to refuse", () => {
  using socket = UdpSocket.bind("127.0.0.1:0");
  const unsound = new FilterProgram([{ code: BPF_LD | BPF_MEM, k: 3 }, { code: BPF_RET | BPF_A }]);
  expect(systemErrorOf(() => socket.attachFilter(unsound))).toMatchObject({
    code: "EINVAL",
    hint: expect.stringContaining("has not written"),
  });
  // With drains neither what had come is lost, nor the filter that there was.
  socket.attachFilter(onlyA);
  socket.sendToSync("A1", socket.localAddress);
  expect(codeOf(() => socket.attachFilter(unsound, { drains: true }))).toBe("EINVAL");
  for (const text of ["B", "A2"]) socket.sendToSync(text, socket.localAddress);
  expect(received(socket)).toEqual(["A1", "A2"]);
});

test("a program longer than optmem_max is ENOMEM with its name, and loses nothing", () => {
  using socket = UdpSocket.bind("127.0.0.1:0");
  socket.sendToSync("still", socket.localAddress);
  using _ = replaceLibc("setsockopt", () => () => failWith(ENOMEM));
  for (const drains of [false, true]) {
    const error = systemErrorOf(() => socket.attachFilter(FilterProgram.acceptAll, { drains }));
    expect([error.code, error.hint]).toEqual(["ENOMEM", expect.stringContaining("optmem_max")]);
  }
  expect(received(socket)).toEqual(["still"]);
});

test("a group needs sockets that share their port: EINVAL with a hint", () => {
  using alone = UdpSocket.bind("127.0.0.1:0");
  expect(systemErrorOf(() => alone.attachReusePortProgram(FilterProgram.byCpu(1)))).toMatchObject({
    code: "EINVAL",
    hint: expect.stringContaining("reusePort"),
  });
});

test("filters of what is none, on streams, and on what is closed", () => {
  const socket = UdpSocket.bind("127.0.0.1:0");
  const imitation = Object.create(FilterProgram.prototype);
  for (const wrong of [undefined, null, {}, [], imitation]) {
    expect(() => socket.attachFilter(wrong as never)).toThrow(TypeError);
    expect(() => socket.attachFilter(wrong as never, { drains: true })).toThrow(TypeError);
    expect(() => socket.attachReusePortProgram(wrong as never)).toThrow(TypeError);
  }
  expect(() => socket.attachFilter(onlyA, { drains: 1 as never })).toThrow(TypeError);
  using listener = TcpListener.listen("127.0.0.1:0");
  expect(() => listener.attachFilter(onlyA, { drains: true })).toThrow("Cannot drain");
  socket.close();
  for (const call of [
    () => socket.attachFilter(onlyA),
    () => socket.attachFilter(onlyA, { drains: true }),
    () => socket.detachFilter(),
    () => socket.attachReusePortProgram(onlyA),
    () => socket.detachReusePortProgram(),
  ])
    expect(codeOf(call)).toBe("EBADF");
});
