/**
 * A world of names: a network, mount and UTS namespace with an /etc of its own, dnsmasq, a server
 * that answers SERVFAIL, one that never answers, and a program in it that does what it is told.
 *
 * @module
 */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const ROOT = join(import.meta.dir, "../..");

/** More names than fit into the first buffer that is tried. */
export const MANY_ALIASES: readonly string[] = Array.from(
  { length: 300 },
  (_, i) => `one-of-many-aliases-${i}.hosts.test`,
);

/** What the files of /etc say. */
export const ETC: Readonly<Record<string, string>> = {
  passwd: "root:x:0:0:root:/root:/bin/sh\n",
  group: "root:x:0:\n",
  "nsswitch.conf": "hosts: files dns\nservices: files\nprotocols: files\n",
  // libc gives up after two seconds, which is long enough to see it busy.
  "resolv.conf": "nameserver 127.0.0.1\noptions timeout:2 attempts:1\n",
  hosts: [
    "127.0.0.1 file.test",
    "192.0.2.50 box.test box",
    "fe80::77 zoned.test",
    "192.0.2.51 first.hosts.test alias.hosts.test",
    `192.0.2.52 crowded.hosts.test ${MANY_ALIASES.join(" ")}`,
    "",
  ].join("\n"),
  services: [
    "# name port/protocol aliases",
    "http 80/tcp www www-http # the web",
    "exec 512/tcp",
    "biff 512/udp comsat",
    "odd-one 4711/tcp strange",
    "odd-one 4712/udp",
    "too-high 65536/tcp",
    "",
  ].join("\n"),
  protocols: "ip 0 IP\ntcp 6 TCP\nudp 17 UDP # datagrams\nours 253 OURS mine\n",
  // IPv4 in front, which is not RFC 6724's own order.
  "gai.conf": "precedence ::1/128 50\nprecedence ::/0 40\nprecedence ::ffff:0:0/96 100\n",
};

const DNSMASQ = [
  "--keep-in-foreground --conf-file=/dev/null --no-resolv --no-hosts --user=root --pid-file",
  "--listen-address=127.0.0.1 --bind-interfaces --cache-size=0 --local=/test/ --local=/arpa/",
  "--host-record=many.test,192.0.2.11,2001:db8::11",
  "--host-record=many.test,192.0.2.12,2001:db8::12",
  "--host-record=four.test,192.0.2.4",
  "--host-record=six.test,2001:db8::6",
  "--host-record=near.test,192.0.2.9",
  "--cname=www.test,middle.test --cname=middle.test,four.test",
  "--server=/100.51.198.in-addr.arpa/127.0.0.1#5302",
  "--server=/servfail.test/127.0.0.1#5301 --server=/silent.test/127.0.0.1#5302",
  // What RFC 6761 keeps from resolvers: this one would say something else.
  "--address=/localhost/192.0.2.66",
].join(" ");

/** The world, until the end of the `using` block. */
export class DnsWorld {
  readonly #folder: string;
  readonly #child: Bun.Subprocess<"pipe", "pipe", "inherit">;
  readonly #lines: AsyncIterator<string>;

  private constructor(program: string) {
    this.#folder = mkdtempSync(join(tmpdir(), "bun-sockets-names-"));
    mkdirSync(join(this.#folder, "etc"));
    for (const [name, text] of Object.entries(ETC))
      writeFileSync(join(this.#folder, "etc", name), text);
    const script = `
      set -e
      ip link set lo up
      ip addr add 192.0.2.1/24 dev lo
      ip -6 addr add 2001:db8::1/64 dev lo nodad
      mount --make-rprivate /
      mount --bind ${this.#folder}/etc /etc
      hostname box.test
      : >${this.#folder}/servers
      python3 test/support/dns_world.py 5301 5302 >${this.#folder}/servers &
      servers=$!
      dnsmasq ${DNSMASQ} &
      dnsmasq=$!
      trap 'kill $servers $dnsmasq' EXIT
      until grep -q ready ${this.#folder}/servers; do :; done
      ${process.execPath} ${program}
    `;
    // In a process namespace of its own all of it ends with its first process.
    const flags = ["--fork", "--kill-child", "--mount-proc", "-nmup"];
    if (process.getuid?.() !== 0) flags.push("-r");
    this.#child = Bun.spawn(["unshare", ...flags, "sh", "-c", script], {
      cwd: ROOT,
      stdin: "pipe",
      stdout: "pipe",
      stderr: "inherit",
    });
    this.#lines = linesOf(this.#child.stdout);
  }

  /** Starts it, and the program, which answers each line of JSON with one. */
  static async start(program: string): Promise<DnsWorld> {
    const world = new DnsWorld(program);
    await world.#lines.next();
    return world;
  }

  /** Has the program do something, and returns what came of it. */
  async ask(name: string, ...values: unknown[]): Promise<unknown> {
    this.#child.stdin.write(`${JSON.stringify([name, ...values])}\n`);
    this.#child.stdin.flush();
    const { value, done } = await this.#lines.next();
    if (done) throw new Error(`The program has ended: ${await this.#child.exited}`);
    return JSON.parse(value);
  }

  /** Ends all of it. */
  async stop(): Promise<void> {
    this.#child.stdin.end();
    await this.#child.exited;
    rmSync(this.#folder, { recursive: true });
  }
}

async function* linesOf(stream: ReadableStream<Uint8Array>): AsyncGenerator<string> {
  let text = "";
  for await (const chunk of stream) {
    const lines = (text + Buffer.from(chunk).toString()).split("\n");
    text = lines.pop() ?? "";
    yield* lines;
  }
}
