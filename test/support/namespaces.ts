/**
 * Network namespaces for tests, which end with the test process.
 *
 * @module
 */
import { closeSync, openSync, readlinkSync } from "node:fs";
import { CLONE_NEWNET, errorName, setns } from "bun-sockets/sys";

const THREAD = "/proc/thread-self/ns/net";

/** A network namespace that a program of ours keeps. */
export interface Namespace extends Disposable {
  /** What comes before a command that is to run there. */
  readonly prefix: readonly string[];
  /** The process that keeps it: ip-link(8) takes it for the namespace. */
  readonly processId: number;
  /** Runs ip(8) there and returns what it says. */
  ip(...values: string[]): string;
  /**
   * Runs something of this thread there. It must be synchronous: what belongs to the namespace is what
   * is made in this one turn.
   */
  inside<Result>(work: () => Result): Result;
}

/** Makes a network namespace, of which the loopback interface is up. */
export function makeNamespace(): Namespace {
  // It ends when its input does.
  const child = Bun.spawn(["unshare", "-n", "cat"], { stdin: "pipe", stdout: "ignore" });
  child.unref();
  const own = readlinkSync(THREAD);
  while (readlinkSync(`/proc/${child.pid}/ns/net`) === own) Bun.sleepSync(1);
  const prefix = ["nsenter", `--net=/proc/${child.pid}/ns/net`];
  const made: Namespace = {
    prefix,
    processId: child.pid,
    ip: (...values) => run([...prefix, "ip", ...values]),
    inside: (work) => inside(child.pid, work),
    [Symbol.dispose]: () => child.kill(),
  };
  made.ip("link", "set", "lo", "up");
  return made;
}

/** Runs ip(8) in the namespace of the tests and returns what it says. */
export function ip(...values: string[]): string {
  return run(["ip", ...values]);
}

function run(command: string[]): string {
  const { success, stdout, stderr } = Bun.spawnSync(command);
  if (!success) throw new Error(`${command.join(" ")}: ${stderr.toString()}`);
  return stdout.toString();
}

function inside<Result>(pid: number, work: () => Result): Result {
  const home = openSync(THREAD, "r");
  const there = openSync(`/proc/${pid}/ns/net`, "r");
  try {
    enter(there);
    try {
      return work();
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
