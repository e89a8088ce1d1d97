/**
 * Trouble between two hosts, for as long as it is wanted, and what is seen of it.
 *
 * @module
 */
import { join } from "node:path";
import { ip } from "./namespaces.ts";
import type { Missing } from "./require.ts";
import type { TwoHosts } from "./two_hosts.ts";

const FIREWALL = join(import.meta.dir, "firewall.py");
const LIMIT_MS = 10_000;

/** A queue of a device that takes nothing: a packet that is longer than the bucket never passes. */
export const NOTHING: readonly string[] = ["rate", "1mbit", "burst", "10b", "limit", "10b"];

/** Runs a program to its end, which is to be a good one. */
export function run(...command: string[]): string {
  const { success, stdout, stderr } = Bun.spawnSync(command);
  if (!success) throw new Error(`${command.join(" ")}: ${stderr}`);
  return stdout.toString();
}

/** Waits until it is so. */
export async function until(condition: () => boolean): Promise<void> {
  const end = performance.now() + LIMIT_MS;
  while (!condition()) {
    if (performance.now() > end) throw new Error("It has not become so");
    await Bun.sleep(2);
  }
}

/** Packets that have come to the far host. */
export function cameOver({ namespace, far }: TwoHosts): number {
  return JSON.parse(namespace.ip("-j", "-s", "link", "show", far))[0].stats64.rx.packets;
}

/** Lets a firewall drop all IPv4 that goes out of this namespace, or no more. */
export function firewall(what: "on" | "off"): void {
  run("python3", FIREWALL, what);
}

/** Why there can be no firewall here, or undefined. */
export function withoutFirewall(): Missing {
  try {
    firewall("on");
    firewall("off");
    return undefined;
  } catch (error) {
    return `needs nf_tables: ${(error as Error).message.trim()}`;
  }
}

/** Gives the device of one side a bucket as its queue (tc-tbf(8)), for as long as something runs. */
export async function withQueue(
  { namespace, near, far }: TwoHosts,
  side: "near" | "far",
  limits: readonly string[],
  work: () => Promise<void>,
): Promise<void> {
  const [prefix, device] = side === "near" ? [[], near] : [namespace.prefix, far];
  const tc = (...values: string[]) => run(...prefix, "tc", "qdisc", ...values);
  tc("add", "dev", device, "root", "tbf", ...limits);
  try {
    await work();
  } finally {
    tc("del", "dev", device, "root");
  }
}

/** Says at which hardware address the far host is: at another one nobody takes it. */
export function reachAt({ near, farAddress }: TwoHosts, address: string): void {
  ip("neigh", "replace", farAddress, "lladdr", address, "nud", "permanent", "dev", near);
}

/** The hardware address that the far host really has. */
export function farHardware({ namespace, far }: TwoHosts): string {
  return JSON.parse(namespace.ip("-j", "link", "show", far))[0].address;
}
