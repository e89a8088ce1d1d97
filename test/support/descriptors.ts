/** Counting what is open, before and after. */
import { readdirSync, readlinkSync } from "node:fs";
import { tmpdir } from "node:os";

/**
 * How many of /proc/self/fd are sockets, or files of a test. Anonymous inodes and pipes belong to
 * Bun, which closes those of a child in its own time.
 */
export function openDescriptors(): number {
  return readdirSync("/proc/self/fd").filter((fd) => {
    try {
      const target = readlinkSync(`/proc/self/fd/${fd}`);
      return target.startsWith("socket:") || target.startsWith(tmpdir());
    } catch {
      return false;
    }
  }).length;
}
