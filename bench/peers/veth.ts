import { closeSync, openSync, readlinkSync } from "node:fs";
import { UdpSocket } from "bun-sockets";
import { CLONE_NEWNET, errorName, setns } from "bun-sockets/sys";
import { type Pair, prepare } from "./offload.ts";

const HOSTS = ["192.0.2.1", "192.0.2.2"] as const;
const NEAR = "bun-sockets-a";
const FAR = "bun-sockets-b";
const ROOT_USER = 0;
const THREAD = "/proc/thread-self/ns/net";

/** Two network namespaces with a veth pair between them: they end with this process. */
interface Veth {
  readonly near: number;
  readonly far: number;
}

let veth: Veth | undefined;

/** Whether namespaces and a veth pair can be made here: it takes root, iproute2 and util-linux. */
export function canMakeVeth(): boolean {
  if (process.getuid?.() !== ROOT_USER) return false;
  if (["unshare", "nsenter", "ip"].some((command) => Bun.which(command) === null)) return false;
  return Bun.spawnSync(["unshare", "-n", "true"]).success;
}

/** Two sockets that are connected with each other through a veth pair. */
export function openVethPair(gro: boolean): Pair {
  veth ??= makeVeth();
  const receiver = openIn(veth.far, `${HOSTS[1]}:0`);
  const sender = openIn(veth.near, `${HOSTS[0]}:0`);
  sender.connectSync(receiver.localAddress);
  receiver.connectSync(sender.localAddress);
  prepare({ sender, receiver }, gro);
  return { sender, receiver };
}

/** One end of a link. */
export interface End {
  readonly interfaceName: string;
  /** What comes before a command that is to run in its namespace. */
  readonly prefix: readonly string[];
}

/** Where programs run that send frames, and those that receive them. */
export interface Link {
  readonly near: End;
  readonly far: End;
}

/** A veth pair that carries nothing but what is sent through it: without addresses and IPv6. */
export function makeLink(): Link {
  const near = makeNamespace();
  const far = makeNamespace();
  ip(near, `link add ${NEAR} type veth peer name ${FAR} netns ${far}`);
  for (const [pid, name] of [
    [near, NEAR],
    [far, FAR],
  ] as const) {
    const ipv6 = `/proc/sys/net/ipv6/conf/${name}/disable_ipv6`;
    run([...prefix(pid), "sh", "-c", `! test -e ${ipv6} || echo 1 > ${ipv6}`]);
    ip(pid, `link set ${name} up`);
  }
  return {
    near: { interfaceName: NEAR, prefix: prefix(near) },
    far: { interfaceName: FAR, prefix: prefix(far) },
  };
}

/** A host of its own: a network namespace with an address. */
export interface Host {
  readonly address: string;
  /** What comes before a command that is to run there. */
  readonly prefix: readonly string[];
}

/** Two hosts that reach each other through a veth pair, for programs. */
export function vethHosts(): readonly [near: Host, far: Host] {
  veth ??= makeVeth();
  return [
    { address: HOSTS[0], prefix: prefix(veth.near) },
    { address: HOSTS[1], prefix: prefix(veth.far) },
  ];
}

function makeVeth(): Veth {
  const near = makeNamespace();
  const far = makeNamespace();
  ip(near, `link add ${NEAR} type veth peer name ${FAR} netns ${far}`);
  for (const [pid, name, host] of [
    [near, NEAR, HOSTS[0]],
    [far, FAR, HOSTS[1]],
  ] as const) {
    ip(pid, `addr add ${host}/24 dev ${name}`);
    ip(pid, `link set ${name} up`);
  }
  return { near, far };
}

// A program in a namespace of its own, which ends when its input does: with this process.
function makeNamespace(): number {
  const child = Bun.spawn(["unshare", "-n", "cat"], { stdin: "pipe", stdout: "ignore" });
  child.unref();
  const { pid } = child;
  const own = readlinkSync(THREAD);
  while (readlinkSync(`/proc/${pid}/ns/net`) === own) Bun.sleepSync(1);
  return pid;
}

function ip(pid: number, command: string): void {
  run([...prefix(pid), "ip", ...command.split(" ")]);
}

function prefix(pid: number): string[] {
  return ["nsenter", `--net=/proc/${pid}/ns/net`];
}

function run(command: string[]): void {
  const { success, stderr } = Bun.spawnSync(command);
  if (!success) throw new Error(`${command.join(" ")} failed: ${stderr}`);
}

// A socket belongs to the namespace that it was made in: the thread goes there for that, and back
// again in the same turn.
function openIn(pid: number, address: string): UdpSocket {
  const home = openSync(THREAD, "r");
  const there = openSync(`/proc/${pid}/ns/net`, "r");
  try {
    enter(there);
    try {
      return UdpSocket.bind(address);
    } finally {
      enter(home);
    }
  } finally {
    closeSync(home);
    closeSync(there);
  }
}

function enter(fd: number): void {
  const result = setns(fd, CLONE_NEWNET);
  if (result < 0) throw new Error(`setns failed: ${errorName(result)}`);
}
