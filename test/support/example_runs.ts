/**
 * How the examples that serve others are run: each function starts one as its own comment says,
 * uses it as a stranger would, checks what comes of it, and ends it.
 *
 * @module
 */
import { expect } from "bun:test";
import { lstatSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { TcpListener, TcpSocket } from "bun-sockets";
import { Talker } from "./talker.ts";

const ROOT = `${import.meta.dir}/../..`;

/** A started example: what it prints, line by line, and its end. */
class Example implements Disposable {
  /** Where it listens, as it says in its first line. */
  readonly address: string;
  readonly #child: Bun.Subprocess<"ignore", "pipe", "inherit">;
  readonly #lines: AsyncIterator<string>;

  private constructor(
    child: Bun.Subprocess<"ignore", "pipe", "inherit">,
    lines: AsyncIterator<string>,
    address: string,
  ) {
    this.#child = child;
    this.#lines = lines;
    this.address = address;
  }

  /** Starts it, by default on a free port. */
  static async start(file: string, where = "127.0.0.1:0", ...others: string[]): Promise<Example> {
    const child = Bun.spawn([process.execPath, `examples/${file}`, where, ...others], {
      cwd: ROOT,
      stdin: "ignore",
      stdout: "pipe",
      stderr: "inherit",
    });
    const lines = linesOf(child.stdout);
    const { value = "" } = await lines.next();
    const address = /^listening on (.+)$/.exec(value)?.[1];
    if (address === undefined) {
      child.kill();
      throw new Error(`${file} printed ${JSON.stringify(value)} as its first line`);
    }
    return new Example(child, lines, address);
  }

  /** The port of its address. */
  get port(): string {
    return this.address.replace(/^.*:/, "");
  }

  /** The number of its process. */
  get process(): number {
    return this.#child.pid;
  }

  /** Its exit code, when it has ended by itself. */
  get exited(): Promise<number> {
    return this.#child.exited;
  }

  /** The next line it prints. */
  async line(): Promise<string | undefined> {
    const { value } = await this.#lines.next();
    return value;
  }

  /** Asks it to stop, or ends it; returns its exit code. */
  async stop(signal: "SIGTERM" | "SIGKILL" = "SIGTERM"): Promise<number> {
    this.#child.kill(signal);
    return await this.#child.exited;
  }

  [Symbol.dispose](): void {
    this.#child.kill("SIGKILL");
  }
}

/** examples/udp_echo.ts sends back what socat sends, and says at its end how much that was. */
export async function udp_echo(): Promise<void> {
  using example = await Example.start("udp_echo.ts");
  const socat = Bun.spawn(["socat", "-b", "65536", "-", `UDP4:127.0.0.1:${example.port}`], {
    stdin: "pipe",
    stderr: "inherit",
  });
  try {
    const reader = socat.stdout.getReader();
    for (const text of ["hello", "grüße", "x".repeat(4000)]) {
      socat.stdin.write(text);
      await socat.stdin.flush();
      let echo = Buffer.alloc(0);
      while (echo.length < Buffer.byteLength(text)) {
        const { value, done } = await reader.read();
        if (done) break;
        echo = Buffer.concat([echo, value]);
      }
      expect(echo.toString()).toBe(text);
    }
  } finally {
    socat.kill();
  }
  expect(await example.stop()).toBe(0);
  expect(await example.line()).toBe("echoed 3 datagrams");
}

// Sends to each address with a congestion mark, and says what has answered, by which address.
const MARKED = `
import socket, sys
port = int(sys.argv[1])
for family, host, level, option, mark in (
    (socket.AF_INET, "127.0.0.1", socket.IPPROTO_IP, socket.IP_TOS, 0),
    (socket.AF_INET, "127.0.0.2", socket.IPPROTO_IP, socket.IP_TOS, 1),
    (socket.AF_INET, "127.9.8.7", socket.IPPROTO_IP, socket.IP_TOS, 2),
    (socket.AF_INET6, "::1", socket.IPPROTO_IPV6, socket.IPV6_TCLASS, 3),
):
    with socket.socket(family, socket.SOCK_DGRAM) as client:
        client.settimeout(20)
        client.setsockopt(level, option, mark)
        client.bind(("::1" if ":" in host else "127.0.0.1", 0))
        client.sendto(b"hello", (host, port))
        data, address = client.recvfrom(100)
        print(data.decode(), address[0], address[1] == port, client.getsockname()[1], flush=True)
`;

/** examples/udp_reply.ts answers from the address that was hit, and prints ECN and time. */
export async function udp_reply(): Promise<void> {
  using example = await Example.start("udp_reply.ts", "[::]:0");
  const started = Date.now();
  const child = Bun.spawn(["python3", "-c", MARKED, example.port], { stderr: "inherit" });
  const answers = linesOf(child.stdout);
  for (const [host, ecn] of [
    ["127.0.0.1", "none"],
    ["127.0.0.2", "ECT(1)"],
    ["127.9.8.7", "ECT(0)"],
    ["::1", "congestion experienced"],
  ] as const) {
    const { value: answer = "" } = await answers.next();
    expect(answer).toStartWith(`hello ${host} True `);
    const port = answer.split(" ").at(-1);
    const [time = "", ...line] = ((await example.line()) ?? "").split(" ");
    expect(Math.abs(Date.parse(time) - started)).toBeLessThan(60_000);
    const from = host === "::1" ? `[::1]:${port}` : `127.0.0.1:${port}`;
    expect(line.join(" ")).toBe(`${from} to ${host}, ECN ${ecn}, 5 bytes`);
  }
  expect(await child.exited).toBe(0);
  expect(await example.stop()).toBe(0);
}

// Makes connections, eight at a time, and says how many were answered, by whom, and which were not.
// Each "more" that it prints is a successor's time to take over.
const CLIENTS = `
import json, socket, sys, threading
port, connections, steps = map(int, sys.argv[1:])
lock = threading.Lock()
begun, lost, answers = 0, [], {}
def run():
    global begun
    while True:
        with lock:
            if begun == connections: return
            begun += 1
            number = begun
            if number % (connections // steps) == 0 and number < connections: print("more", flush=True)
        try:
            with socket.create_connection(("127.0.0.1", port), 20) as client:
                client.sendall(b"%d\\n" % number)
                client.shutdown(socket.SHUT_WR)
                answer = b""
                while data := client.recv(100): answer += data
            process, line = answer.split()
            assert int(line) == number, answer
            with lock: answers[process.decode()] = answers.get(process.decode(), 0) + 1
        except Exception as error:
            with lock: lost.append(repr(error))
threads = [threading.Thread(target=run) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(json.dumps({"lost": lost, "answers": answers}), flush=True)
`;

/** examples/hot_restart.ts hands its sockets on, four times while 10,000 connections come. */
export async function hot_restart(): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), "bun-sockets-restart-"));
  const path = join(folder, "control.sock");
  const connections = 10_000;
  const started: Example[] = [];
  try {
    const start = async (where: string) => {
      const example = await Example.start("hot_restart.ts", where, path);
      started.push(example);
      return example;
    };
    const { address, port } = await start("127.0.0.1:0");
    const command = ["python3", "-c", CLIENTS, port, `${connections}`, "5"];
    const clients = Bun.spawn(command, { stdin: "ignore", stderr: "inherit" });
    let last = "";
    for await (const line of linesOf(clients.stdout)) {
      if (line === "more") expect((await start("127.0.0.1:1")).address).toBe(address);
      else last = line;
    }
    const { lost, answers } = JSON.parse(last);
    expect(lost).toEqual([]);
    const ended = await Promise.all(started.map((example, i) => ending(example, i === 4)));
    expect(ended.map(({ code }) => code)).toEqual([0, 0, 0, 0, 0]);
    const counts = started.map((example) => answers[example.process] ?? 0);
    expect(ended.map(({ answered }) => answered)).toEqual(counts);
    expect(counts.reduce((sum, count) => sum + count)).toBe(connections);
    expect(Math.min(...counts)).toBeGreaterThan(0);
    expect(readdirSync(folder)).toEqual([]);
  } finally {
    for (const example of started) example[Symbol.dispose]();
    rmSync(folder, { recursive: true });
  }
}

// What one that was replaced, or is asked to stop, says of itself.
async function ending(example: Example, asks: boolean) {
  const code = asks ? await example.stop() : await example.exited;
  const line = (await example.line()) ?? "";
  return { code, answered: Number(/^answered (\d+) connections$/.exec(line)?.[1]) };
}

/** examples/tiny_http.ts tells curl what it asked, over TCP and over a Unix path. */
export async function tiny_http(): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), "bun-sockets-http-"));
  try {
    for (const where of ["127.0.0.1:0", join(folder, "tiny.sock")]) {
      using example = await Example.start("tiny_http.ts", where);
      const isPath = where.startsWith("/");
      const how = isPath ? ["--unix-socket", where] : [];
      const host = isPath ? "localhost" : example.address;
      const command = ["curl", "-sS", ...how, "--data", "hello", `http://${host}/some/path`];
      const curl = Bun.spawnSync(command, { stderr: "inherit" });
      expect(curl.stdout.toString()).toBe("POST /some/path\nhello");
      expect(await example.stop()).toBe(0);
    }
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** examples/udp_workers.ts gives each of many senders to one of four Workers, and counts them. */
export async function udp_workers(): Promise<void> {
  using example = await Example.start("udp_workers.ts");
  const senders = 64;
  const script = `
import socket
for _ in range(${senders}):
    client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    client.settimeout(5)
    client.connect(("127.0.0.1", ${example.port}))
    for word in (b"one", b"two", b"three"):
        client.send(word)
        assert client.recv(100) == word
`;
  const python = Bun.spawnSync(["python3", "-c", script], { stderr: "inherit" });
  expect(python.exitCode).toBe(0);
  expect(await example.stop()).toBe(0);
  let last = "";
  for (let line = await example.line(); line !== undefined; line = await example.line())
    last = line;
  const counts = last
    .replace(/^echoed /, "")
    .split(" ")
    .map(Number);
  expect(counts).toHaveLength(4);
  expect(counts.reduce((sum, count) => sum + count)).toBe(senders * 3);
  // That one of four gets none of 64 senders has a chance of one in twenty million.
  expect(Math.min(...counts)).toBeGreaterThan(0);
}

/**
 * examples/dns_forwarder.ts asks dnsmasq, in a network and mount namespace of their own, for dig and
 * for a program that asks 20,000 questions and checks every answer.
 */
export async function dns_forwarder(): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), "bun-sockets-dns-"));
  const names = 1000;
  const questions = 20_000;
  const hosts = Array.from({ length: names }, (_, i) => `10.${i >> 8}.${i & 255}.1 name${i}.test`);
  writeFileSync(join(folder, "hosts"), `${hosts.join("\n")}\n`);
  writeFileSync(join(folder, "resolv.conf"), "nameserver 127.0.0.1\n");
  const script = `
    set -e
    ip link set lo up
    mount --make-rprivate /
    mount --bind ${folder}/hosts /etc/hosts
    mount --bind ${folder}/resolv.conf /etc/resolv.conf
    dnsmasq --keep-in-foreground --conf-file=/dev/null --no-resolv --user=root --pid-file \
      --listen-address=127.0.0.1 --port=5300 --bind-interfaces --cache-size=0 --no-dhcp-interface=lo &
    dnsmasq=$!
    ${process.execPath} examples/dns_forwarder.ts 127.0.0.1:5353 127.0.0.1:5300 >${folder}/log &
    forwarder=$!
    trap 'kill $dnsmasq $forwarder' EXIT
    until dig @127.0.0.1 -p 5353 +short +tries=1 +time=1 name7.test >${folder}/dig; do :; done
    dig @127.0.0.1 -p 5353 +tries=2 nothing.test | grep -o "status: [A-Z]*" >>${folder}/dig
    python3 test/support/dns_load.py 5353 ${questions} ${names}
    kill $forwarder
    wait $forwarder
    trap 'kill $dnsmasq' EXIT
  `;
  try {
    const flags = process.getuid?.() === 0 ? "-nm" : "-rnm";
    const child = Bun.spawn(["unshare", flags, "sh", "-c", script], {
      cwd: ROOT,
      stdin: "ignore",
      stderr: "inherit",
    });
    const output = await child.stdout.text();
    expect(await child.exited).toBe(0);
    expect(JSON.parse(output)).toMatchObject({ answered: questions, wrong: 0 });
    expect(readFileSync(join(folder, "dig"), "utf8")).toMatch(/^10\.0\.7\.1\nstatus: [A-Z]+\n$/);
    expect(readFileSync(join(folder, "log"), "utf8")).toBe("listening on 127.0.0.1:5353\n");
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/**
 * examples/dns_capture.ts writes what dig asks, in a network namespace of its own, and nothing else:
 * tcpdump reads it, and capinfos what was counted.
 */
export async function dns_capture(): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), "bun-sockets-capture-"));
  // Twice each: the loopback interface shows what goes out and what comes in.
  const script = `
    set -e
    ip link set lo up
    ${process.execPath} examples/dns_capture.ts lo ${folder}/dns.pcapng >${folder}/log &
    capture=$!
    trap 'kill $capture' EXIT
    until grep -q "^listening on lo$" ${folder}/log; do :; done
    for port in 5353 53; do dig @127.0.0.1 -p $port +tries=1 +time=1 port$port.test >/dev/null 2>&1 || true; done
    kill $capture
    wait $capture
    trap - EXIT
    cat ${folder}/log
    tcpdump -nr ${folder}/dns.pcapng 2>/dev/null | grep -o "A? .* "
    capinfos ${folder}/dns.pcapng | grep -o "Capture application: .*\\|Name = .*\\|Number of stat.*"
  `;
  try {
    const flags = process.getuid?.() === 0 ? "-n" : "-rn";
    const child = Bun.spawn(["unshare", flags, "sh", "-c", script], { cwd: ROOT, stdin: "ignore" });
    const output = await child.stdout.text();
    expect(await child.exited).toBe(0);
    expect(output.split("\n").slice(0, -1)).toEqual([
      "listening on lo",
      "captured 2 packets, dropped 0",
      "A? port53.test. ",
      "A? port53.test. ",
      "Capture application: dns_capture",
      "Name = lo",
      "Number of stat entries = 1",
    ]);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** examples/syslog_udp.ts prints what util-linux's logger sends, in both formats. */
export async function syslog_udp(): Promise<void> {
  using example = await Example.start("syslog_udp.ts");
  const cases: [options: string[], text: string, expected: RegExp][] = [
    [[], "plain", /^user\.notice: (\S+: )?plain$/],
    [["--priority", "mail.err"], "the disk is full", /^mail\.err: (\S+: )?the disk is full$/],
    [["--rfc5424=notime"], "grüße [a] <b>", /^user\.notice: grüße \[a\] <b>$/],
    [["--rfc5424", "--sd-id", "x@1", "--sd-param", 'k="a b"'], "data", /^user\.notice: data$/],
    [["--rfc3164", "--tag", "demo", "-p", "local7.debug"], "old", /^local7\.debug: demo: old$/],
    [["--rfc5424=notime"], "\x1b[31mred", /^user\.notice: \[31mred$/],
  ];
  for (const [options, text, expected] of cases) {
    const logger = Bun.spawnSync(
      ["logger", "--server", "127.0.0.1", "--port", example.port, "--udp", ...options, text],
      { stderr: "inherit" },
    );
    expect(logger.exitCode).toBe(0);
    const [, from, report = ""] = /^(\S+) (.*)$/.exec((await example.line()) ?? "") ?? [];
    expect(from).toStartWith("127.0.0.1:");
    expect(report).toMatch(expected);
  }
  expect(await example.stop()).toBe(0);
}

/** examples/syslog_unix.ts prints what logger sends, also after a run that was killed. */
export async function syslog_unix(): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), "bun-sockets-syslog-"));
  const path = join(folder, "log.sock");
  try {
    const killed = await Example.start("syslog_unix.ts", path);
    await killed.stop("SIGKILL");
    expect(lstatSync(path).isSocket()).toBe(true);
    using example = await Example.start("syslog_unix.ts", path);
    expect(example.address).toBe(`unix:${path}`);
    expect(lstatSync(path).mode & 0o777).toBe(0o666);
    await useLogger(example, path);
    expect(await example.stop()).toBe(0);
    expect(lstatSync(path, { throwIfNoEntry: false })).toBeUndefined();
  } finally {
    rmSync(folder, { recursive: true });
  }
}

async function useLogger(example: Example, path: string): Promise<void> {
  const cases: [options: string[], text: string, expected: RegExp][] = [
    [[], "plain", /^user\.notice: \S+: plain$/],
    [["--priority", "auth.warning"], "three failed", /^auth\.warning: \S+: three failed$/],
    [["--tag", "demo", "--id=77", "-p", "mail.err"], "full", /^mail\.err: demo\[77\]: full$/],
    [["--rfc5424"], "grüße [a] <b>", /^user\.notice: grüße \[a\] <b>$/],
    [["--rfc5424", "--sd-id", "x@1", "--sd-param", 'k="a b"'], "data", /^user\.notice: data$/],
    [["--rfc3164", "--tag", "demo", "-p", "local7.debug"], "old", /^local7\.debug: \S+ demo: old$/],
    [["--tag", "demo"], "\x1b[31mred", /^user\.notice: demo: {2}\[31mred$/],
    [["--tag", "demo"], "x".repeat(900), /^user\.notice: demo: x{900}$/],
  ];
  for (const [options, text, expected] of cases) {
    const logger = Bun.spawnSync(["logger", "--socket", path, ...options, text], {
      stderr: "inherit",
    });
    expect(logger.exitCode).toBe(0);
    expect(await example.line()).toMatch(expected);
  }
}

// Prints each datagram that comes, in hexadecimal, from the path or abstract name it is told.
const RECEIVER = `
import socket, sys
name = sys.argv[1]
receiver = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
receiver.bind("\\0" + name[1:] if name[0] == "@" else name)
print("ready", flush=True)
while True: print(receiver.recv(65536).hex(), flush=True)
`;

/** examples/sd_notify.ts sends what systemd-notify sends, byte for byte. */
export async function sd_notify(): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), "bun-sockets-notify-"));
  try {
    await compareNotifications(join(folder, "notify"));
    await compareNotifications(`@bun-sockets-notify-${process.pid}`);
  } finally {
    rmSync(folder, { recursive: true });
  }
  const unset = runNotifier([process.execPath, "examples/sd_notify.ts"], undefined);
  expect(unset.exitCode).toBe(1);
  expect(unset.stderr.toString()).toContain("NOTIFY_SOCKET is not set");
}

async function compareNotifications(name: string): Promise<void> {
  const receiver = Bun.spawn(["python3", "-c", RECEIVER, name], { stderr: "inherit" });
  try {
    const lines = linesOf(receiver.stdout);
    expect((await lines.next()).value).toBe("ready");
    const cases: [theirs: string[], ours: string[]][] = [
      [["--ready"], []],
      [
        ["--ready", "--status=serving 3 clients"],
        ["READY=1", "STATUS=serving 3 clients"],
      ],
      [["--status=grüße"], ["STATUS=grüße"]],
      [["WATCHDOG=1"], ["WATCHDOG=1"]],
      [
        ["--ready", "X_A=b=c"],
        ["READY=1", "X_A=b=c"],
      ],
    ];
    // Without --no-block it would also send a barrier, and wait for an answer.
    for (const [theirs, ours] of cases) {
      const sent: (string | undefined)[] = [];
      for (const command of [
        ["systemd-notify", "--no-block", ...theirs],
        [process.execPath, "examples/sd_notify.ts", ...ours],
      ]) {
        const { exitCode, stderr } = runNotifier(command, name);
        expect(`${exitCode} ${stderr}`).toBe("0 ");
        sent.push((await lines.next()).value);
      }
      expect(Buffer.from(sent[1] ?? "", "hex").toString()).toBe(
        (ours[0] ? ours : ["READY=1"]).join("\n"),
      );
      expect(sent[1]).toBe(sent[0]);
    }
  } finally {
    receiver.kill();
  }
}

/** examples/unix_echo_quit.ts answers clients, one after the other, until one of them says "quit". */
export async function unix_echo_quit(): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), "bun-sockets-echo-"));
  try {
    const path = join(folder, "server_socket");
    await using server = new Talker("examples/unix_echo_quit.ts", "server", path);
    expect(await server.line()).toBe(`server listening at '${path}'`);
    await using client = new Talker("examples/unix_echo_quit.ts", "client", path);
    for (const line of ["1+1", "foo bar", "quit"]) {
      expect(await client.through("> ")).toBe("client> ");
      await client.type(line);
      expect(await server.line()).toBe(`server> ${line}`);
    }
    expect(await client.end()).toEqual({ rest: "client is exiting\n", code: 0 });
    expect(await server.end()).toEqual({ rest: "server is exiting\n", code: 0 });
    expect(readdirSync(folder)).toEqual([]);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** examples/tcp_lines.ts prints what its client is told, until the client's input ends. */
export async function tcp_lines(): Promise<void> {
  await using server = new Talker("examples/tcp_lines.ts", "server", "localhost:0");
  const address = (await server.line()).replace(/^listening on /, "");
  await using client = new Talker("examples/tcp_lines.ts", "client", address);
  for (const line of ["hello", "grüße", "x".repeat(100)]) {
    await client.type(line);
    expect(await server.line()).toBe(line);
  }
  await client.endInput();
  expect(await client.end()).toEqual({ rest: "", code: 0 });
  expect(await server.end()).toEqual({ rest: "", code: 0 });
}

const LIMIT = { timeoutMs: 10_000 };

/** examples/tcp_proxy.ts passes everything on, each direction by itself, and outlives a dead server. */
export async function tcp_proxy(): Promise<void> {
  const bytes = crypto.getRandomValues(new Uint8Array(1 << 16));
  const upstream = TcpListener.listen("127.0.0.1:0");
  const { localAddress } = upstream;
  using example = await Example.start("tcp_proxy.ts", "127.0.0.1:0", `${localAddress}`);
  {
    using client = await TcpSocket.connect(example.address, LIMIT);
    using served = await upstream.accept(LIMIT);
    const asking = client.sendAll(bytes, LIMIT).then(() => client.shutdown("write"));
    // The question has its end before the answer begins.
    const question = await served.reader().readAll(LIMIT);
    expect(question.toHex()).toBe(bytes.toHex());
    await asking;
    expect(client.tryReceive(new Uint8Array(1))).toBeUndefined();
    const answering = served.sendAll(bytes.toReversed(), LIMIT).then(() => served.close());
    expect((await client.reader().readAll(LIMIT)).toHex()).toBe(bytes.toReversed().toHex());
    await answering;
  }
  {
    using client = await TcpSocket.connect(example.address, LIMIT);
    using served = await upstream.accept(LIMIT);
    served.reset();
    expect(await client.receiveBytes(1, LIMIT).catch(({ code }) => code)).toBe("ECONNRESET");
    expect(await example.line()).toContain("ECONNRESET");
  }
  upstream.close();
  // It may be broken off before this end knows that it was made.
  const refused = TcpSocket.connect(example.address, LIMIT).then(async (client) => {
    using _ = client;
    return await client.receiveBytes(1, LIMIT);
  });
  expect(await refused.catch(({ code }) => code)).toBe("ECONNRESET");
  expect(await example.line()).toContain(`ECONNREFUSED ${localAddress}`);
  expect(await example.stop()).toBe(0);
}

/** examples/tcp_chat.ts tells each line to all who are there, and who comes and goes. */
export async function tcp_chat(): Promise<void> {
  using example = await Example.start("tcp_chat.ts");
  const enter = async (name: string) => {
    const socket = await TcpSocket.connect(example.address, LIMIT);
    const say = (line: string) => socket.sendAll(`${line}\r\n`, LIMIT);
    await say(name);
    return { socket, say, hear: () => socket.reader().readLine(LIMIT) };
  };
  const ada = await enter("Ada");
  expect(await ada.hear()).toBe("Ada is here: Ada");
  const bob = await enter("Böb");
  for (const { hear } of [ada, bob]) expect(await hear()).toBe("Böb is here: Ada, Böb");
  await ada.say("hello");
  await ada.say("are you there?");
  for (const { hear } of [ada, bob])
    expect([await hear(), await hear()]).toEqual(["<Ada> hello", "<Ada> are you there?"]);
  // What has no end of its line is no less said.
  await bob.socket.sendAll("bye", LIMIT);
  bob.socket.shutdown("write");
  expect([await ada.hear(), await ada.hear()]).toEqual(["<Böb> bye", "Böb has left"]);
  expect(await bob.hear()).toBe("<Böb> bye");
  const loud = await enter("Loud");
  expect(await ada.hear()).toBe("Loud is here: Ada, Loud");
  await loud.say("x".repeat(2000));
  expect(await ada.hear()).toBe("Loud has left");
  expect(await example.line()).toContain("EMSGSIZE");
  expect(await example.stop()).toBe(0);
  expect(await ada.hear()).toBeUndefined();
  for (const { socket } of [ada, bob, loud]) socket.close();
}

function runNotifier(command: readonly string[], name: string | undefined) {
  const { NOTIFY_SOCKET: _, ...env } = process.env;
  return Bun.spawnSync([...command], {
    cwd: ROOT,
    env: name === undefined ? env : { ...env, NOTIFY_SOCKET: name },
  });
}

async function* linesOf(stream: ReadableStream<Uint8Array>): AsyncGenerator<string, undefined> {
  const decoder = new TextDecoder();
  let text = "";
  for await (const chunk of stream) {
    text += decoder.decode(chunk, { stream: true });
    const lines = text.split("\n");
    text = lines.pop() ?? "";
    yield* lines;
  }
}

/**
 * examples/ping.ts asks a network of which two hosts answer, in a namespace of its own: ping(8) says
 * the same of each.
 */
export async function ping(): Promise<void> {
  const script = `
    set -e
    ip link set lo up
    ip addr add 192.0.2.1/32 dev lo
    ip addr add 192.0.2.3/32 dev lo
    ip route add blackhole 192.0.2.0/29
    ${process.execPath} examples/ping.ts 192.0.2.0/29
    for host in 1 2 3; do
      ping -n -q -c 1 -W 1 192.0.2.$host 2>&1 | grep -o " [01] received\\|ping: .*" || true
    done
  `;
  const flags = process.getuid?.() === 0 ? "-n" : "-rn";
  const child = Bun.spawn(["unshare", flags, "sh", "-c", script], { cwd: ROOT, stdin: "ignore" });
  const output = await child.stdout.text();
  expect(await child.exited).toBe(0);
  expect(
    output
      .replace(/in [\d.]+ ms/g, "in time")
      .split("\n")
      .slice(0, -1),
  ).toEqual([
    "192.0.2.1 answers in time, ttl 64",
    "192.0.2.3 answers in time, ttl 64",
    "2 of 2 answered",
    " 1 received",
    "ping: connect: Invalid argument",
    " 1 received",
  ]);
}
