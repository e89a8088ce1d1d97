/**
 * Where a run of the suite is made.
 *
 * @module
 */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import * as os from "node:os";
import { join } from "node:path";
import { type Capability, capabilities } from "bun-sockets";
import { findDeno } from "./peers/suite_programs.ts";
import { ROOT } from "./places.ts";
import type { EnvironmentLine } from "./results.ts";

const GIB = 2 ** 30;
const VERSION = /(\d+\.\d+\S*)/;

function versionOf(path: string | null): string | null {
  if (path === null) return null;
  const { stdout } = Bun.spawnSync([path, "--version"]);
  return VERSION.exec(stdout.toString())?.[1] ?? null;
}

function commitNow(): string | null {
  return git("rev-parse", "HEAD");
}

// Without a commit to compare with nobody knows.
function isDirtyNow(): boolean {
  return git("status", "--porcelain") !== "";
}

function git(...values: string[]): string | null {
  // An installed package lies in somebody else's checkout.
  if (!existsSync(join(ROOT, ".git")) || Bun.which("git") === null) return null;
  const { success, stdout } = Bun.spawnSync(["git", ...values], { cwd: ROOT });
  return success ? stdout.toString().trim() : null;
}

function textOf(path: string): string | null {
  try {
    return readFileSync(path, "utf8").trim();
  } catch {
    return null;
  }
}

function mitigationsNow(): Record<string, string> {
  const folder = "/sys/devices/system/cpu/vulnerabilities";
  try {
    const all = readdirSync(folder).map((name) => [name, textOf(join(folder, name)) ?? ""]);
    return Object.fromEntries(all.filter(([, text]) => text?.includes("Mitigation")));
  } catch {
    return {};
  }
}

function offloadsNow(): Record<string, string> {
  const { udpSegmentation, udpCoalescing, zeroCopy, ioUring, helperThread } = capabilities();
  const able = ({ supported, reason, detail }: Capability) =>
    supported ? (detail ?? "yes") : reason;
  return {
    UDP_SEGMENT: able(udpSegmentation),
    UDP_GRO: able(udpCoalescing),
    MSG_ZEROCOPY: able(zeroCopy),
    // The best that there is, as our sockets choose it.
    ringer: ioUring.supported ? "io_uring" : helperThread.supported ? "thread" : "timer",
    rmem_max: textOf("/proc/sys/net/core/rmem_max") ?? "",
    wmem_max: textOf("/proc/sys/net/core/wmem_max") ?? "",
  };
}

/** This machine, and what of it matters. */
export function environmentNow(): EnvironmentLine {
  return {
    kind: "environment",
    at: new Date().toISOString(),
    commit: commitNow(),
    isDirty: isDirtyNow(),
    bun: Bun.version,
    node: versionOf(Bun.which("node")),
    deno: versionOf(findDeno()),
    python: versionOf(Bun.which("python3")),
    kernel: os.release(),
    cpu: os.cpus()[0]?.model.trim() ?? "unknown",
    cores: os.availableParallelism(),
    memoryGiB: Math.round(os.totalmem() / GIB),
    load: Number((os.loadavg()[0] ?? 0).toFixed(2)),
    mitigations: mitigationsNow(),
    offloads: offloadsNow(),
  };
}
