/** `bun-sockets dump`, beside tcpdump(1), and read by tshark(1) and capinfos(1). */
import { afterAll, beforeAll, describe, expect } from "bun:test";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { NetworkInterface } from "bun-sockets";
import { COMMAND, RunningCommand, runCommand, WITHOUT_RIGHTS } from "../support/command.ts";
import { pcapBytes } from "../support/pcap.ts";
import { requires, testIf } from "../support/require.ts";
import { makeTwoHosts, type TwoHosts } from "../support/two_hosts.ts";
import { until } from "../support/waiting.ts";

const missing =
  process.env["BUN_SOCKETS_NAMESPACE"] === "1"
    ? requires("ip", "nsenter", "ping", "python3", "tcpdump", "tshark", "capinfos", "setpriv", "sh")
    : "needs a network namespace of its own";
const namespaced = testIf(missing);
const folder = mkdtempSync(join(tmpdir(), "bun-sockets-dump-"));
const DATAGRAMS = 20;
let hosts: TwoHosts;

beforeAll(() => {
  if (missing !== undefined) return;
  hosts = makeTwoHosts("bs-dump", 82);
});

afterAll(() => {
  rmSync(folder, { recursive: true });
  if (missing === undefined) hosts[Symbol.dispose]();
});

const LISTENING = /^listening on /m;

/** tcpdump at the near end, once it listens. */
async function tcpdump(path: string, ...filter: string[]) {
  const child = Bun.spawn(
    [
      "tcpdump",
      "-i",
      hosts.near,
      "-U",
      "--immediate-mode",
      "-B",
      "8192",
      "-Z",
      "root",
      "-w",
      path,
      ...filter,
    ],
    { stdin: "ignore", stdout: "ignore", stderr: "pipe" },
  );
  let said = "";
  const reading = (async () => {
    for await (const chunk of child.stderr) said += Buffer.from(chunk).toString();
  })();
  await until(() => said.includes("listening on"), "tcpdump listens");
  return {
    async end(): Promise<string> {
      // What it has not read yet when the signal comes, it forgets.
      const lasts = () => readFileSync(path, "latin1").split(LAST).length - 1;
      await until(() => lasts() === 6, "tcpdump has written the last packets");
      child.kill("SIGINT");
      await child.exited;
      await reading;
      return said;
    },
  };
}

function dump(...values: string[]): RunningCommand {
  return new RunningCommand(["dump", "-i", hosts.near, ...values]);
}

async function listens(...running: RunningCommand[]): Promise<void> {
  for (const each of running) await each.until((_, stderr) => LISTENING.test(stderr));
}

// In each of the last 6 packets of a talk.
const LAST = "the end!";

// A TCP conversation, datagrams of many lengths over IPv4, and echoes, from the far end to the near.
const TALK = `
import socket, sys, threading
near, far, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.bind((far, 0))
for i in range(count): udp.sendto(b"x" * (i * 7), (near, 4000 + i % 3))
with socket.create_connection((near, int(sys.argv[4]))) as tcp:
    tcp.sendall(b"hello")
    assert tcp.recv(5) == b"HELLO"
`;

// Datagrams with the ports 0 to 4, and a tag with some of them. Whoever receives takes the tag out.
const TAGS = `
import socket, struct, sys
link = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
link.bind((sys.argv[1], 0))
target = bytes.fromhex(sys.argv[2].replace(":", ""))
for port, tag in enumerate([None, 5, None, 5, 7]):
    udp = struct.pack("!HHHH", port, 9, 8, 0)
    ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 28, port, 0, 64, 17, 0, b"\\n\\x63\\0\\1", b"\\n\\x63\\0\\2")
    vlan = b"" if tag is None else struct.pack("!HH", 0x8100, tag)
    link.send(target + b"\\x02\\0\\0\\0\\0\\1" + vlan + b"\\x08\\0" + ip + udp)
`;

/** Lets the far end talk to the near one. */
async function talk(datagrams = DATAGRAMS): Promise<void> {
  const { nearAddress, farAddress, namespace } = hosts;
  using server = Bun.listen({
    hostname: nearAddress,
    port: 0,
    socket: {
      data(socket, data) {
        socket.write(data.toString().toUpperCase());
      },
    },
  });
  const script = ["python3", "-c", TALK, nearAddress, farAddress, `${datagrams}`, `${server.port}`];
  const child = Bun.spawn([...namespace.prefix, ...script], { stderr: "inherit" });
  expect(await child.exited).toBe(0);
  // 16 bytes are a time stamp, and the rest the pattern.
  const pattern = ["-s", `${16 + LAST.length}`, "-p", Buffer.from(LAST).toString("hex")];
  const pinging = ["ping", "-nq", "-c", "3", "-i", "0.01", ...pattern, nearAddress];
  expect(Bun.spawnSync([...namespace.prefix, ...pinging]).exitCode).toBe(0);
}

const FIELDS = [
  "frame.len",
  "ip.src",
  "ip.dst",
  "arp.src.proto_ipv4",
  "arp.dst.proto_ipv4",
  "ip.proto",
  "udp.srcport",
  "udp.dstport",
  "udp.length",
  "tcp.srcport",
  "tcp.dstport",
  "tcp.flags",
  "tcp.seq_raw",
  "tcp.ack_raw",
  "tcp.len",
  "icmp.type",
  "icmp.seq",
  "frame.cap_len",
] as const;

type Fields = Record<(typeof FIELDS)[number], string>;

/** What tshark sees in a capture file. */
function tshark(path: string): Fields[] {
  const wanted = FIELDS.flatMap((field) => ["-e", field]);
  const command = [
    "tshark",
    "-nr",
    path,
    "-T",
    "fields",
    "-E",
    "separator=|",
    "-E",
    "occurrence=f",
    ...wanted,
  ];
  const { stdout, exitCode, stderr } = Bun.spawnSync(command);
  expect(exitCode, stderr.toString()).toBe(0);
  const lines = stdout.toString().split("\n").filter(Boolean);
  return lines.map((line) => {
    const values = line.split("|");
    return Object.fromEntries(FIELDS.map((field, i) => [field, values[i] ?? ""])) as Fields;
  });
}

interface Shown {
  readonly type: string;
  readonly protocol: string;
  readonly source?: string;
  readonly destination?: string;
  readonly sourcePort?: number;
  readonly destinationPort?: number;
  readonly flags?: string[];
  readonly sequence?: number;
  readonly acknowledgment?: number;
  readonly info?: string;
  readonly payloadLength?: number;
  readonly length: number;
  readonly capturedLength: number;
  readonly vlan?: number[];
  readonly checksum?: string;
  readonly seconds: number;
  readonly nanoseconds: number;
}

interface Summary {
  readonly type: string;
  readonly captured: number;
  readonly received: number;
  readonly dropped: number;
}

function parse(stdout: string): { packets: Shown[]; summary: Summary } {
  const values = stdout
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line));
  return { packets: values.slice(0, -1), summary: values.at(-1) };
}

const PROTOCOLS: Record<string, string> = { "1": "icmp", "6": "tcp", "17": "udp", "": "arp" };
// Nobody listens at the ports that datagrams go to.
const MESSAGES: Record<string, string> = {
  "0": "echo reply",
  "3": "unreachable code 3",
  "8": "echo request",
};
const FLAGS = ["FIN", "SYN", "RST", "PSH", "ACK", "URG", "ECE", "CWR"];

/** What we are to show of what tshark sees. */
function expected(fields: Fields): Record<string, unknown> {
  const number = (text: string) => (text === "" ? undefined : Number(text));
  const protocol = PROTOCOLS[fields["ip.proto"]];
  const flags = number(fields["tcp.flags"]);
  // What an ICMP error is about is in it, and not the packet itself.
  const ports =
    protocol === "icmp"
      ? []
      : [
          number(fields["udp.srcport"] || fields["tcp.srcport"]),
          number(fields["udp.dstport"] || fields["tcp.dstport"]),
        ];
  return {
    protocol,
    length: Number(fields["frame.len"]),
    capturedLength: Number(fields["frame.cap_len"]),
    source: fields["ip.src"] || fields["arp.src.proto_ipv4"],
    destination: fields["ip.dst"] || fields["arp.dst.proto_ipv4"],
    sourcePort: ports[0],
    destinationPort: ports[1],
    flags: flags === undefined ? undefined : FLAGS.filter((_, bit) => (flags >> bit) & 1),
    sequence: number(fields["tcp.seq_raw"]),
    acknowledgment: number(fields["tcp.ack_raw"]),
    what: MESSAGES[fields["icmp.type"]],
    payload: protocol === "udp" ? Number(fields["udp.length"]) - 8 : number(fields["tcp.len"]),
  };
}

/** The same of what we have shown. */
function shown(packet: Shown): Record<string, unknown> {
  const isUdpOrTcp = packet.protocol === "udp" || packet.protocol === "tcp";
  return {
    protocol: packet.protocol,
    length: packet.length,
    capturedLength: packet.capturedLength,
    source: packet.source,
    destination: packet.destination,
    sourcePort: packet.sourcePort,
    destinationPort: packet.destinationPort,
    flags: packet.flags,
    sequence: packet.sequence,
    acknowledgment: packet.acknowledgment,
    what: packet.protocol === "icmp" ? packet.info?.replace(/ id .*/, "") : undefined,
    payload: isUdpOrTcp ? packet.payloadLength : undefined,
  };
}

/** Splits "N packets captured" and so on. */
function counts(stderr: string): number[] {
  return [
    ...stderr.matchAll(/^(\d+) packets (captured|received by filter|dropped by kernel)$/gm),
  ].map(([, count]) => Number(count));
}

describe("dump", () => {
  namespaced("shows the packets that tcpdump shows, as lines and as JSON", async () => {
    const path = join(folder, "all.pcap");
    const json = dump("--json");
    const text = dump();
    const theirs = await tcpdump(path);
    await listens(json, text);
    await talk();
    // What came before the signal is shown.
    for (const running of [json, text]) running.signal("SIGINT");
    const said = await theirs.end();
    const outcome = await json.ended();
    const { packets, summary } = parse(outcome.stdout);
    const seen = tshark(path);
    expect(seen.length).toBeGreaterThan(DATAGRAMS + 3 + 3 + 6);
    expect(said).toContain(`${seen.length} packets captured`);
    expect(packets.map(shown)).toEqual(seen.map(expected));
    const { length } = seen;
    expect(summary).toEqual({ type: "summary", captured: length, received: length, dropped: 0 });
    expect(outcome.exitCode).toBe(0);
    expect(outcome.stderr).toBe(`listening on ${hosts.near}, link type ethernet\n`);
    for (const [i, packet] of packets.entries()) {
      const before = packets[i - 1] ?? packet;
      const elapsed =
        packet.seconds - before.seconds + (packet.nanoseconds - before.nanoseconds) / 1e9;
      expect(elapsed).toBeGreaterThanOrEqual(0);
      expect(packet.checksum).not.toBe("wrong");
    }
    // What tcpdump has written is read, and filtered, as it came.
    for (const filter of ["", "udp", "tcp port 1 or icmp", `src host ${hosts.farAddress}`]) {
      const read = runCommand(["dump", "-r", path, "--json", ...filter.split(" ").filter(Boolean)]);
      expect(read.exitCode, read.stderr).toBe(0);
      const again = Bun.spawnSync(["tcpdump", "-nn", "--count", "-r", path, filter]);
      const { packets: some, summary: counted } = parse(read.stdout);
      expect(again.stdout.toString()).toBe(`${some.length} packets\n`);
      expect(counted).toMatchObject({ type: "summary", captured: some.length });
      if (filter === "") expect(some.map(shown)).toEqual(packets.map(shown));
    }
    // veth leaves the checksum to a device that there is not.
    expect(packets.some(({ checksum }) => checksum === "unfinished")).toBe(true);

    const { exitCode, stdout, stderr } = await text.ended();
    expect(exitCode).toBe(0);
    expect(counts(stderr)).toEqual([length, length, 0]);
    const lines = stdout.trimEnd().split("\n");
    expect(lines).toHaveLength(length);
    for (const [i, line] of lines.entries()) {
      const { source, sourcePort, destination, destinationPort, protocol } = packets[i] as Shown;
      const from = sourcePort === undefined ? source : `${source}:${sourcePort}`;
      const to = destinationPort === undefined ? destination : `${destination}:${destinationPort}`;
      expect(line).toMatch(/^\d\d:\d\d:\d\d\.\d{9} /);
      expect(line.slice(19)).toStartWith(`${from} > ${to} ${protocol} `);
    }
  });

  namespaced("takes a filter, and ends after so many packets", async () => {
    const running = dump("-c", "7", "--json", "udp", "port", "4000");
    await listens(running);
    await talk(30);
    const { exitCode, stdout } = await running.ended();
    const { packets, summary } = parse(stdout);
    expect(exitCode).toBe(0);
    expect(packets.map(({ destinationPort }) => destinationPort)).toEqual(Array(7).fill(4000));
    // What came after it is not shown, but was received.
    expect(summary).toMatchObject({ captured: 7, dropped: 0 });
    expect(summary.received).toBeGreaterThanOrEqual(7);
    expect(summary.received).toBeLessThanOrEqual(10);
  });

  namespaced("keeps so much of each packet, and tells how long it was", async () => {
    const running = dump("-c", "2", "-s", "50", "--json", "udp");
    await listens(running);
    await talk(3);
    const { packets } = parse((await running.ended()).stdout);
    expect(packets.map(({ length, capturedLength }) => [length, capturedLength])).toEqual([
      [42, 42],
      [49, 49],
    ]);
    const other = dump("-c", "1", "-s", "50", "udp and greater 100");
    await listens(other);
    await talk(10);
    expect((await other.ended()).stdout).toContain(" length 105 captured 50 ");
  });

  namespaced(
    "writes files that capinfos and tshark read, of as many packets as tcpdump sees",
    async () => {
      const theirs = await tcpdump(join(folder, "theirs.pcap"));
      const pcapng = dump("-w", join(folder, "ours.pcapng"));
      const pcap = dump("-w", join(folder, "ours.pcap"), "--json");
      const some = dump("-w", join(folder, "some.pcapng"), "-c", "5", "udp");
      const piped = Bun.spawn(
        [
          "sh",
          "-c",
          '"$@" > "$0"',
          join(folder, "piped.pcapng"),
          ...COMMAND,
          "dump",
          "-i",
          hosts.near,
          "-w",
          "-",
          "-c",
          "4",
          "icmp",
        ],
        { stderr: "ignore" },
      );
      await listens(pcapng, pcap, some);
      await talk();
      const said = await theirs.end();
      for (const running of [pcapng, pcap]) running.signal("SIGTERM");
      const [first, second, third] = await Promise.all(
        [pcapng, pcap, some].map((each) => each.ended()),
      );
      const seen = tshark(join(folder, "theirs.pcap"));
      expect(said).toContain(`${seen.length} packets captured`);
      expect(counts(first?.stderr ?? "")).toEqual([seen.length, seen.length, 0]);
      expect([first?.exitCode, first?.stdout]).toEqual([0, ""]);
      expect(JSON.parse(second?.stdout ?? "")).toMatchObject({ captured: seen.length, dropped: 0 });
      expect(third?.exitCode).toBe(0);
      expect(tshark(join(folder, "ours.pcapng"))).toEqual(seen);
      expect(tshark(join(folder, "ours.pcap"))).toEqual(seen);

      const infos = (name: string) =>
        Bun.spawnSync(["capinfos", join(folder, name)]).stdout.toString();
      const ours = infos("ours.pcapng");
      expect(ours).toMatch(/File type: +Wireshark\/\.\.\. - pcapng/);
      expect(ours).toMatch(new RegExp(`Number of packets: +${seen.length}\n`));
      expect(ours).toMatch(/File timestamp precision: +nanoseconds/);
      expect(ours).toMatch(/Strict time order: +True/);
      expect(ours).toMatch(/Capture application: +bun-sockets /);
      expect(ours).toContain(`Name = ${hosts.near}\n`);
      expect(infos("ours.pcap")).toMatch(
        /File type: +Wireshark\/tcpdump\/\.\.\. - nanosecond pcap/,
      );
      expect(infos("some.pcapng")).toMatch(/Number of packets: +5\n(.*\n)+.*Filter string = udp\n/);
      // It was not waited for whether that one listens: it ends when it has enough.
      while (piped.exitCode === null) await talk(1);
      expect(infos("piped.pcapng")).toMatch(/Number of packets: +4\n/);
    },
  );

  namespaced("shows tags of VLANs, and finds packets by them", async () => {
    const tagged = dump("--vlan", "5", "--json", "-c", "2", "udp");
    const others = dump("--vlan", "6", "--json", "udp");
    const file = dump("-w", join(folder, "vlan.pcapng"), "udp");
    await listens(tagged, others, file);
    const { namespace, near, far } = hosts;
    const hardware = new NetworkInterface(near).hardwareAddress ?? "";
    const command = ["python3", "-c", TAGS, far, hardware];
    expect(Bun.spawnSync([...namespace.prefix, ...command]).exitCode).toBe(0);
    const { packets } = parse((await tagged.ended()).stdout);
    expect(packets.map(({ vlan, sourcePort }) => [vlan, sourcePort])).toEqual([
      [[5], 1],
      [[5], 3],
    ]);
    for (const running of [others, file]) running.signal("SIGINT");
    expect(parse((await others.ended()).stdout).packets).toEqual([]);
    expect(counts((await file.ended()).stderr)).toEqual([5, 5, 0]);
    const read = (...values: string[]) =>
      parse(runCommand(["dump", "-r", join(folder, "vlan.pcapng"), "--json", ...values]).stdout);
    const list = read().packets.map(({ vlan, sourcePort }) => [vlan?.[0], sourcePort]);
    expect(list).toEqual([
      [undefined, 0],
      [5, 1],
      [undefined, 2],
      [5, 3],
      [7, 4],
    ]);
    expect(read("--vlan", "5", "udp").packets).toHaveLength(2);
    expect(read("--vlan", "any").packets).toHaveLength(3);
    expect(read("vlan", "5").packets).toHaveLength(2);
    expect(read("--vlan", "6").packets).toEqual([]);
    const fields = ["-T", "fields", "-e", "vlan.id"];
    const ids = Bun.spawnSync(["tshark", "-nr", join(folder, "vlan.pcapng"), ...fields]);
    expect(ids.stdout.toString()).toBe("\n5\n\n5\n7\n");
  });

  namespaced(
    "shows each packet once on the loopback interface, which is not the default",
    async () => {
      const loopback = new RunningCommand(["dump", "-i", "lo", "--json", "icmp"]);
      const first = new RunningCommand(["dump"]);
      await listens(loopback, first);
      expect(Bun.spawnSync(["ping", "-nq", "-c", "2", "-i", "0.01", "127.0.0.1"]).exitCode).toBe(0);
      for (const running of [loopback, first]) running.signal("SIGINT");
      const { packets } = parse((await loopback.ended()).stdout);
      const said = packets.map(({ info }) => info?.replace(/ id \d+/, ""));
      const twice = [1, 2].flatMap((seq) => [`echo request seq ${seq}`, `echo reply seq ${seq}`]);
      expect(said).toEqual(twice);
      expect((await first.ended()).stderr).toMatch(/^listening on (?!lo,)\S+, /);
    },
  );

  namespaced("is read while it writes, through a pipe", async () => {
    const writer = Bun.spawn([...COMMAND, "dump", "-i", hosts.near, "-w", "-", "icmp"], {
      stderr: "ignore",
    });
    const reader = Bun.spawn(["tcpdump", "-nlr", "-"], { stdin: writer.stdout, stderr: "ignore" });
    let said = "";
    const reading = (async () => {
      for await (const chunk of reader.stdout) said += Buffer.from(chunk).toString();
    })();
    const ping = ["ping", "-nq", "-c", "1", hosts.nearAddress];
    await until(() => {
      expect(Bun.spawnSync([...hosts.namespace.prefix, ...ping]).exitCode).toBe(0);
      return said.includes("ICMP echo request");
    }, "tcpdump has read a packet");
    writer.kill("SIGINT");
    expect(await writer.exited).toBe(0);
    // And it has read to the end.
    expect(await reader.exited).toBe(0);
    await reading;
  });

  namespaced("counts what it could not keep up with", async () => {
    const flood = join(folder, "flood.pcap");
    const bytes = Buffer.alloc(1514);
    bytes.writeUInt16BE(0x88b5, 12);
    writeFileSync(flood, pcapBytes(Array.from({ length: 300 }, () => ({ time: 0n, bytes }))));
    const running = dump("--json", "-s", "1000", "ether proto 0x88b5");
    await listens(running);
    running.signal("SIGSTOP");
    const options = ["-i", hosts.far, "--topspeed", "--loop", "80", "--json"];
    const replay = runCommand(["replay", flood, ...options], { prefix: hosts.namespace.prefix });
    expect(JSON.parse(replay.stdout).frames).toBe(24_000);
    running.signal("SIGCONT");
    running.signal("SIGINT");
    const { packets, summary } = parse((await running.ended()).stdout);
    expect(summary.received).toBe(24_000);
    expect(summary.dropped).toBeGreaterThan(1000);
    expect(packets).toHaveLength(summary.captured);
    expect(summary.captured + summary.dropped).toBe(summary.received);
  });

  namespaced("says which right is missing, and what grants it", () => {
    const { exitCode, stdout, stderr } = runCommand(["dump", "-i", hosts.near], {
      prefix: WITHOUT_RIGHTS,
    });
    expect([exitCode, stdout]).toEqual([1, ""]);
    const [message, hint, ...rest] = stderr.trimEnd().split("\n");
    expect(message).toMatch(/^bun-sockets dump: socket EPERM: /);
    expect(hint).toMatch(/^hint: .*CAP_NET_RAW.*setcap cap_net_raw/);
    expect(rest).toEqual([]);
  });

  namespaced("says that there is no such interface, and that a filter is none", () => {
    const nowhere = runCommand(["dump", "-i", "bs-nowhere"]);
    expect(nowhere).toEqual({
      exitCode: 1,
      stdout: "",
      stderr: 'bun-sockets dump: Cannot find the interface "bs-nowhere"\n',
    });
    const { exitCode, stdout, stderr } = runCommand(["dump", "-i", hosts.near, "udp", "or"]);
    expect([exitCode, stdout]).toEqual([2, ""]);
    expect(stderr).toMatch(/^bun-sockets dump: Cannot compile "udp or" as a filter: /);
    expect(stderr.trimEnd().split("\n")).toHaveLength(2);
  });
});
