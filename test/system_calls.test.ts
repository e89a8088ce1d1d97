import { afterAll, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { io_uring_setup } from "../lib/sys/io_uring.ts";
import { close } from "../lib/sys/unistd.ts";
import { io_uring_params } from "../structs/io_uring_params.ts";
import { type Missing, requires, testIf } from "./support/require.ts";
import { firstLine } from "./support/strangers.ts";

const bench = join(import.meta.dir, "../bench");
const GROUPS = 100;
const ECHOES = 400;
/** The client sleeps this long after each echo: then the server sleeps, too, also under strace. */
const PAUSE_US = 2000;
/** Calls of each name that a program makes to start: Bun writes once for each module that it loads. */
const START_CALLS = 120;
// The calls that move datagrams or wait for them. send(2) and recv(2) are sendto and recvfrom to
// the kernel.
const CALLS = ["sendto", "sendmmsg", "recvfrom", "recvmmsg", "poll", "ppoll"];

// What a benchmark and a peer of it ask of the kernel, by name.
function count(file: string, peer: string): Record<string, number> {
  const folder = mkdtempSync(join(tmpdir(), "bun-sockets-strace-"));
  try {
    const output = join(folder, "calls");
    const options = ["--json", "--rounds", "1", "--groups", `${GROUPS}`, "--only", peer];
    const strace = ["strace", "-f", "-c", "-o", output, "-e", `trace=${CALLS.join(",")}`];
    const run = Bun.spawnSync([...strace, process.execPath, join(bench, file), ...options]);
    expect(`${run.exitCode} ${run.stderr}`).toBe("0 ");
    return parse(readFileSync(output, "utf8"));
  } finally {
    rmSync(folder, { recursive: true });
  }
}

// A row of `strace -c`: % time, seconds, usecs/call, calls, errors or nothing, name.
function parse(table: string, column: "calls" | "errors" = "calls"): Record<string, number> {
  const rows = table.matchAll(/^\s*[\d.]+\s+[\d.]+\s+\d+\s+(\d+)\s+(?:(\d+)\s+)?(\w+)$/gm);
  return Object.fromEntries(
    [...rows]
      .map(([, calls, errors = 0, name]) => [name, Number(column === "calls" ? calls : errors)])
      .filter(([name]) => name !== "total"),
  );
}

const missing = requires("strace") ?? requires("gcc");

for (const [file, calls] of [
  ["udp_batch.ts", ["sendmmsg", "recvmmsg"]],
  ["udp_single.ts", ["sendto", "recvfrom"]],
  ["unix_datagram.ts", ["sendmmsg", "recvmmsg", "sendto", "recvfrom"]],
] as const) {
  testIf(missing)(
    `bench/${file} makes the system calls of its C peer, within 2 %`,
    () => {
      const ours = count(file, "bun-sockets");
      const theirs = count(file, "c");
      for (const name of calls) expect(theirs[name]).toBeGreaterThan(GROUPS);
      for (const name of CALLS) {
        // Four calls of room for a rare one: poll stands for a wait that the machine's load caused.
        const room = Math.max(0.02 * (theirs[name] ?? 0), 4);
        const apart = Math.abs((ours[name] ?? 0) - (theirs[name] ?? 0));
        expect([name, apart <= room, ours, theirs]).toEqual([name, true, ours, theirs]);
      }
    },
    60_000,
  );
}

const folder = mkdtempSync(join(tmpdir(), "bun-sockets-strace-"));
afterAll(() => rmSync(folder, { recursive: true }));

function compile(name: string): string {
  const output = join(folder, name);
  const source = join(bench, "peers", `${name}.c`);
  const { exitCode, stderr } = Bun.spawnSync(["gcc", "-O2", "-o", output, source]);
  expect(`${exitCode} ${stderr}`).toBe("0 ");
  return output;
}

/** What an echo server has asked of the kernel. */
interface Echoed {
  /** Calls that did something, by name. */
  readonly done: Readonly<Record<string, number>>;
  /** Calls that found nothing, or failed. */
  readonly failed: Readonly<Record<string, number>>;
  readonly wakeUps: number;
}

/** Lets a server answer one datagram at a time, each after a pause. */
async function countEchoes(command: readonly string[], ringer = ""): Promise<Echoed> {
  const output = join(folder, "calls");
  const strace = Bun.spawn(["strace", "-f", "-c", "-o", output, ...command], {
    env: { ...process.env, BUN_SOCKETS_RINGER: ringer },
    stdio: ["ignore", "pipe", "inherit"],
  });
  const { port } = JSON.parse(await firstLine(strace.stdout));
  const values = ["latency", port, 0, ECHOES, PAUSE_US].map(String);
  const client = Bun.spawnSync([compile("echo_client"), ...values]);
  // It ends with the server, and writes its table.
  const server = readFileSync(`/proc/${strace.pid}/task/${strace.pid}/children`, "utf8");
  process.kill(Number(server), "SIGKILL");
  await strace.exited;
  expect(`${client.exitCode} ${client.stderr}`).toBe("0 ");
  const { lost, after } = JSON.parse(`${client.stdout}`);
  expect(lost).toBe(0);
  const table = readFileSync(output, "utf8");
  const failed = parse(table, "errors");
  const all = Object.entries(parse(table));
  const done = Object.fromEntries(all.map(([name, calls]) => [name, calls - (failed[name] ?? 0)]));
  return { done, failed, wakeUps: after.wakeups };
}

// What the data takes, in calls that moved some: as many as in C.
const DATA = ["recvmmsg", "sendmmsg"];

// What waiting takes besides, for each time that the loop was woken. Bun's loop and its read of the
// bell are among it, and the look that finds nothing more.
const WAITING: Readonly<Record<string, Readonly<Record<string, number>>>> = {
  io_uring: {
    recvmmsg: 1,
    io_uring_enter: 1,
    epoll_wait: 0,
    epoll_ctl: 0,
    recvfrom: 1,
    epoll_pwait2: 2,
    poll: 0,
  },
  thread: {
    recvmmsg: 1,
    write: 1,
    sendto: 1,
    read: 2,
    poll: 2,
    epoll_wait: 0,
    epoll_ctl: 0,
    recvfrom: 1,
    epoll_pwait2: 2,
  },
};

const missingOf = (ringer: string): Missing =>
  missing ?? (ringer === "io_uring" && !allowsIoUring() ? "needs io_uring" : undefined);

function allowsIoUring(): boolean {
  const fd = io_uring_setup(1, new DataView(new ArrayBuffer(io_uring_params.size)));
  if (fd >= 0) close(fd);
  return fd >= 0;
}

for (const ringer of ["io_uring", "thread"])
  for (const form of ["handler", "batches"])
    testIf(missingOf(ringer))(
      `an echo server (${form}, ${ringer}) moves its data with the system calls of one in C`,
      async () => {
        const server = join(bench, "peers/echo_bun_sockets.ts");
        const ours = await countEchoes([process.execPath, server, form], ringer);
        const theirs = await countEchoes([compile("echo_server"), "batch"]);
        for (const name of DATA) {
          const [our = 0, their = 0] = [ours.done[name], theirs.done[name]];
          expect(their).toBeWithin(ECHOES, ECHOES + 4);
          const isEqual = Math.abs(our - their) <= 0.02 * their;
          expect([name, isEqual, our, their]).toEqual([name, true, our, their]);
        }
        // Nearly each echo has found the server asleep, so that what follows means something.
        expect(ours.wakeUps).toBeWithin(0.9 * ECHOES, 1.1 * ECHOES);
        for (const [name, most] of Object.entries(WAITING[ringer] ?? {})) {
          const done = DATA.includes(name) ? 0 : (ours.done[name] ?? 0);
          const calls = done + (ours.failed[name] ?? 0);
          const limit = most * ours.wakeUps * 1.1 + START_CALLS;
          expect([name, calls <= limit, calls, limit]).toEqual([name, true, calls, limit]);
        }
      },
      60_000,
    );

test("parse() reads a table of strace -c", () => {
  const table =
    "% time     seconds  usecs/call     calls    errors syscall\n" +
    "------ ----------- ----------- --------- --------- ----------------\n" +
    " 80.00    0.123456          12      1000           sendmmsg\n" +
    " 20.00    0.023456           2       500         3 poll\n" +
    "------ ----------- ----------- --------- --------- ----------------\n" +
    "100.00    0.146912                  1500         3 total\n";
  expect(parse(table)).toEqual({ sendmmsg: 1000, poll: 500 });
  expect(parse(table, "errors")).toEqual({ sendmmsg: 0, poll: 3 });
});
