// What the servers of the echo benchmarks share, under Bun and Node.
import { readFileSync } from "node:fs";

/** Whether a datagram asks what the server has used until now, and is no payload to send back. */
export function isMark(payload) {
  return payload.length === 1;
}

/**
 * The answer: the CPU time of all threads, and how often the server was woken. A server that does
 * not count that itself has slept as often as its main thread gave up its core.
 */
export function report(wakeUps) {
  const { user, system } = process.cpuUsage();
  const wakeups = wakeUps ?? countSleeps();
  return Buffer.from(JSON.stringify({ cpu_ns: (user + system) * 1000, wakeups }));
}

function countSleeps() {
  const status = readFileSync("/proc/self/status", "latin1");
  return Number(/^voluntary_ctxt_switches:\s*(\d+)$/m.exec(status)[1]);
}
