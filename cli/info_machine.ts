/**
 * What the numbers of a machine depend on: kernel, CPU, Bun, and what wakes its event loop.
 *
 * @module
 */
import { arch, availableParallelism, cpus, loadavg, release, totalmem } from "node:os";
import { poller, UnixDatagramSocket } from "bun-sockets";
import type { KernelFiles } from "./info_files.ts";

/** What a machine is. Null is what cannot be told here. */
export interface Machine {
  readonly kernel: string;
  readonly architecture: string;
  readonly cpu: string | null;
  /** The cores that are on. */
  readonly cores: number;
  /** Those that this process may use. */
  readonly coresAllowed: number;
  /** How many cores' time the control group grants; null where it sets no limit, or does not say. */
  readonly coresQuota: number | null;
  /** Whether two of them share a core. */
  readonly smt: boolean | null;
  /** Whether it is a guest of another machine. */
  readonly virtual: boolean | null;
  /** What decides how fast a core runs: "performance", "powersave", …; null where nothing does. */
  readonly governor: string | null;
  /** What decides how deep a core sleeps, and how long waking from the deepest takes. */
  readonly idle: { readonly driver: string; readonly deepestUs: number } | null;
  readonly clock: string | null;
  /** What the kernel does against holes in the CPU, by hole; those that it does not have are left out. */
  readonly mitigations: Readonly<Record<string, string>>;
  readonly memoryGiB: number;
  /** The load average of a minute. */
  readonly load: number;
  readonly bun: string;
  readonly libc: "glibc" | "musl" | null;
  /** What wakes Bun's event loop: "io_uring", "thread", "timer"; null where nothing does. */
  readonly ringer: string | null;
  readonly doorbell: string | null;
  /** What was tried before, and why it is not used. */
  readonly refusals: readonly { readonly name: string; readonly reason: string }[];
}

const CPU = "/sys/devices/system/cpu";
const GIBIBYTE = 2 ** 30;
const HEARD_MS = 2000;

/** Looks at the machine. */
export async function readMachine(files: KernelFiles): Promise<Machine> {
  const smt = files.optionalText(`${CPU}/smt/active`);
  const flags = /^flags\s*: (.*)$/m.exec(files.optionalText("/proc/cpuinfo") ?? "")?.[1];
  const governor = files.optionalText(`${CPU}/cpu0/cpufreq/scaling_governor`);
  const clocks = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
  const all = cpus();
  return {
    kernel: release(),
    architecture: arch(),
    cpu: readModel(files, all),
    cores: all.length,
    coresAllowed: availableParallelism(),
    coresQuota: readQuota(files),
    smt: smt === undefined ? null : smt === "1",
    virtual: flags === undefined ? null : / hypervisor( |$)/.test(flags),
    governor: governor ?? null,
    idle: readIdle(files),
    clock: files.text(clocks) ?? null,
    mitigations: readMitigations(files),
    memoryGiB: Math.round((10 * totalmem()) / GIBIBYTE) / 10,
    load: Math.round(100 * (loadavg()[0] ?? 0)) / 100,
    bun: Bun.version,
    libc: readLibc(files),
    ...(await wakeLoop(files)),
  };
}

// Bun reads what is asked for, when it is asked for, and fails where a file is not as it should be.
function readModel(files: KernelFiles, all: readonly { readonly model: string }[]): string | null {
  try {
    return all[0]?.model ?? null;
  } catch {
    files.miss("the model of the CPU", "/proc/cpuinfo does not tell");
    return null;
  }
}

function readMitigations(files: KernelFiles): Record<string, string> {
  const folder = `${CPU}/vulnerabilities`;
  const found = (files.names(folder) ?? []).map((name) => [
    name,
    files.text(`${folder}/${name}`) ?? "",
  ]);
  return Object.fromEntries(found.filter(([, text = ""]) => !/^(Not affected|$)/.test(text)));
}

function readIdle(files: KernelFiles): Machine["idle"] {
  const driver = files.optionalText(`${CPU}/cpuidle/current_driver`);
  if (driver === undefined || driver === "none") return null;
  let deepestUs = 0;
  for (let state = 0; ; state++) {
    const folder = `${CPU}/cpu0/cpuidle/state${state}`;
    const latency = files.optionalText(`${folder}/latency`);
    if (latency === undefined) return { driver, deepestUs };
    if (files.optionalText(`${folder}/disable`) !== "1")
      deepestUs = Math.max(deepestUs, Number(latency));
  }
}

// Of version 2 of control groups: the least that this group and those above it grant.
function readQuota(files: KernelFiles): number | null {
  const [, group] = /^0::(.*)$/m.exec(files.optionalText("/proc/self/cgroup") ?? "") ?? [];
  if (group === undefined) return null;
  const quotas: number[] = [];
  for (let path = group; ; path = path.slice(0, path.lastIndexOf("/"))) {
    const text = files.optionalText(`/sys/fs/cgroup${path === "/" ? "" : path}/cpu.max`);
    const [, quota, period] = /^(\d+) (\d+)$/.exec(text ?? "") ?? [];
    if (quota !== undefined) quotas.push(Number(quota) / Number(period));
    if (path.length <= 1) return quotas.length > 0 ? Math.min(...quotas) : null;
  }
}

function readLibc(files: KernelFiles): Machine["libc"] {
  const maps = files.text("/proc/self/maps");
  if (maps === undefined) return null;
  return /\/(ld-musl|libc\.musl)/.test(maps) ? "musl" : "glibc";
}

// The poller chooses when somebody waits for the first time, and is asked only by who really waits.
async function wakeLoop(
  files: KernelFiles,
): Promise<Pick<Machine, "ringer" | "doorbell" | "refusals">> {
  try {
    const [left, right] = UnixDatagramSocket.pair();
    using sender = left;
    using receiver = right;
    const waiting = receiver.receive(new Uint8Array(1), { timeoutMs: HEARD_MS });
    const timer = setInterval(() => {
      if (poller.ringer !== undefined) sender.trySend(new Uint8Array(1));
    }, 1);
    await waiting.finally(() => clearInterval(timer));
  } catch (error) {
    files.miss("what wakes the event loop", (error as Error).message);
  }
  const { ringer = null, doorbell = null, refusals } = poller;
  return { ringer, doorbell, refusals };
}
