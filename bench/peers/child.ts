import { join } from "node:path";
import type { Counts, Peer } from "../support.ts";
import { readLines } from "./programs.ts";

/** A peer that runs in a process of its own: a line of JSON for each round, both ways. */
function child(name: string, command: readonly string[], batch: number, bytes: number): Peer {
  let running: ReturnType<typeof start> | undefined;
  return {
    name,
    run: async (groups) => {
      running ??= start([...command, String(batch), String(bytes)]);
      const { process, lines } = running;
      process.stdin.write(`${groups}\n`);
      process.stdin.flush();
      const { value, done } = await lines.next();
      if (done) throw new Error(`${name} ended with code ${await process.exited}`);
      return JSON.parse(value) as Counts;
    },
    close: async () => {
      running?.process.stdin.end();
      await running?.process.exited;
    },
  };
}

function start(command: string[]) {
  const process = Bun.spawn(command, { stdin: "pipe", stdout: "pipe", stderr: "inherit" });
  return { process, lines: readLines(process.stdout) };
}

const file = (name: string) => join(import.meta.dir, name);

/** `Bun.udpSocket`: connected, `sendMany`, `binaryType: "uint8array"`, in a Bun of its own. */
export function bunUdp(batch: number, bytes: number): Peer {
  return child("bun-udp", [process.execPath, file("bun_udp.ts")], batch, bytes);
}

/** `node:dgram` under Bun, connected. */
export function nodeDgram(batch: number, bytes: number): Peer {
  return child("node-dgram", [process.execPath, file("dgram.mjs")], batch, bytes);
}

/** `node:dgram` under Node, connected; undefined where there is no Node. */
export function node(batch: number, bytes: number): Peer | undefined {
  const path = Bun.which("node");
  return path ? child("node", [path, file("dgram.mjs")], batch, bytes) : undefined;
}

/**
 * The npm package unix-dgram under Node: Unix datagrams, which neither Node nor Bun has. It is
 * compiled when it is installed, so it is no dependency of ours: undefined where it cannot be
 * loaded. See unix_dgram/package.json.
 */
export function unixDgram(connected: boolean, bytes: number): Peer | undefined {
  const path = Bun.which("node");
  if (path === null || !hasUnixDgram()) return undefined;
  const how = connected ? "connected" : "addressed";
  return child("node", [path, file("unix_dgram/peer.mjs"), how], 1, bytes);
}

let loads: boolean | undefined;

/** Whether Node is here, and can load the npm package unix-dgram. */
export function hasUnixDgram(): boolean {
  loads ??= canLoadUnixDgram();
  return loads;
}

function canLoadUnixDgram(): boolean {
  const path = Bun.which("node");
  if (path === null) return false;
  const load = [path, "--eval", 'require("unix-dgram")'];
  return Bun.spawnSync(load, { cwd: file("unix_dgram"), stderr: "ignore" }).success;
}
