/**
 * The helper thread: what it rings for and what not, that signals pass it by, and what it leaves
 * behind, however its JavaScript thread ends.
 */
import { afterEach, beforeEach, describe, expect, spyOn, test } from "bun:test";
import {
  cpSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  realpathSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import {
  close,
  dup,
  EACCES,
  EFD_CLOEXEC,
  EFD_NONBLOCK,
  ENOMEM,
  eventfd,
  F_SETFL,
  fcntl,
  POLLIN,
  poll,
  read,
  write,
} from "bun-sockets/sys";
import {
  HELPER_SYSTEM_CALLS,
  type HelperThread,
  OWNED_MAX,
  startHelperThread,
} from "../../lib/ffi/helper_thread.ts";
import { pollfd } from "../../structs/pollfd.ts";
import { compileErrors, proof } from "../structs/facts.ts";
import { caught } from "../support/errors.ts";
import { failWith, MAP_FAILED, replaceEntry, replaceLibc } from "../support/faults.ts";
import { requires, testIf } from "../support/require.ts";
import { firstLine } from "../support/strangers.ts";
import {
  counts,
  drain,
  ENGINE_DESCRIPTORS,
  ENGINE_THREADS,
  type Heard,
  helperThreads,
  LIMIT_MS,
  type Mode,
  makeReady,
  type Owned,
  openParts,
  type Parts,
  RING_BYTES,
  SINGLE_SIGNALS,
  STORM_SIGNALS,
  type Storm,
  until,
  WORKERS_AT_ONCE,
  type Workers,
} from "./helper_thread.ts";

const ROOT = realpathSync(join(import.meta.dir, "../.."));
const PROGRAM = join(import.meta.dir, "helper_thread.ts");
const MODULE = join(ROOT, "lib/ffi/helper_thread.ts");
const CHILD_MS_MAX = 50_000;

let parts: Parts;
let thread: HelperThread | undefined;
let strangers: readonly string[];

beforeEach(() => {
  parts = openParts();
  strangers = helperThreads();
});

afterEach(() => {
  thread?.stop();
  thread = undefined;
  for (const fd of Object.values(parts)) close(fd);
});

/** Starts the thread of a test, and returns it with its id. */
function start(bell = parts.bell): { thread: HelperThread; id: string } {
  const started = startHelperThread(parts.epollFd, bell);
  thread = started;
  return { thread: started, id: newThread() };
}

// The kernel names the thread when it runs for the first time.
function newThread(): string {
  const limit = performance.now() + LIMIT_MS;
  while (performance.now() < limit) {
    const id = helperThreads().find((other) => !strangers.includes(other));
    if (id !== undefined) return id;
  }
  throw new Error("No helper thread has started");
}

/** Waits until a thread has nothing to do: until it sleeps. What wakes it makes it run at once. */
function settle(id: string): void {
  const limit = performance.now() + LIMIT_MS;
  while (performance.now() < limit) {
    const [, state] = /\) (\w)/.exec(readFileSync(`/proc/self/task/${id}/stat`, "utf8")) ?? [];
    if (state === "S") return;
  }
  throw new Error("The helper thread never sleeps");
}

const polled = new DataView(new ArrayBuffer(pollfd.size));
const heard = new BigUint64Array(64);

/** Waits for a ring, and returns how often the bell was rung since it was last asked. */
function rings(ear: number, timeoutMs = LIMIT_MS): number {
  pollfd.fd.set(polled, 0, ear);
  pollfd.events.set(polled, 0, POLLIN);
  if (poll(polled, timeoutMs) === 0) return 0;
  const length = read(ear, heard);
  const count = length / RING_BYTES;
  expect([...heard.subarray(0, count)]).toEqual(Array(count).fill(1n));
  return count;
}

/** How often it was rung until now, when the thread has nothing left to do. */
function ringsOf(id: string, ear = parts.ear): number {
  settle(id);
  return rings(ear, 0);
}

describe("rings", () => {
  test("once, however long the set stays ready", () => {
    const { thread, id } = start();
    thread.arm();
    makeReady(parts);
    expect(rings(parts.ear)).toBe(1);
    expect(ringsOf(id)).toBe(0);
    makeReady(parts);
    expect(ringsOf(id)).toBe(0);
  });

  test("not before it was armed, then for what was ready before", () => {
    const { thread, id } = start();
    makeReady(parts);
    expect(ringsOf(id)).toBe(0);
    thread.arm();
    expect(rings(parts.ear)).toBe(1);
    expect(ringsOf(id)).toBe(0);
  });

  test("not before the set is ready", () => {
    const { thread, id } = start();
    thread.arm();
    expect(ringsOf(id)).toBe(0);
    makeReady(parts);
    expect(rings(parts.ear)).toBe(1);
  });

  test("once for a thread that was armed twice", () => {
    const { thread, id } = start();
    thread.arm();
    expect(ringsOf(id)).toBe(0);
    thread.arm();
    expect(ringsOf(id)).toBe(0);
    makeReady(parts);
    expect(rings(parts.ear)).toBe(1);
    expect(ringsOf(id)).toBe(0);
  });

  test("again each time that it is armed again, as long as the set is ready", () => {
    const { thread, id } = start();
    for (let round = 0; round < 100; round++) {
      thread.arm();
      makeReady(parts);
      expect(rings(parts.ear)).toBe(1);
      thread.arm();
      expect(rings(parts.ear)).toBe(1);
      drain(parts);
      thread.arm();
      expect(ringsOf(id)).toBe(0);
    }
  });

  test("for an arm that comes while the thread is on its way from the last ring", () => {
    const { thread } = start();
    makeReady(parts);
    for (let round = 0; round < 20_000; round++) {
      thread.arm();
      expect(rings(parts.ear)).toBe(1);
    }
  });

  test("an eventfd, which is no socket", () => {
    const bell = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    try {
      const { thread, id } = start(bell);
      makeReady(parts);
      for (let round = 0; round < 3; round++) {
        thread.arm();
        expect(rings(bell)).toBe(1);
        expect(ringsOf(id, bell)).toBe(0);
      }
    } finally {
      thread?.stop();
      close(bell);
    }
  });

  test("a bell that is full without waiting, and again when there is room", () => {
    const filling = new Uint8Array(4096);
    while (write(parts.bell, filling) > 0);
    while (write(parts.bell, filling.subarray(0, RING_BYTES)) > 0);
    // Also a socket that would wait.
    expect(fcntl(parts.bell, F_SETFL, 0)).toBe(0);
    const { thread, id } = start();
    makeReady(parts);
    thread.arm();
    settle(id);
    while (read(parts.ear, filling) > 0);
    expect(ringsOf(id)).toBe(0);
    thread.arm();
    expect(rings(parts.ear)).toBe(1);
  });

  test("a bell that nobody hears any more, and lives on", () => {
    const { thread, id } = start();
    close(parts.ear);
    makeReady(parts);
    for (let round = 0; round < 3; round++) {
      thread.arm();
      settle(id);
    }
    expect(helperThreads()).toContain(id);
  });

  test("once for each arming when the set was closed, and does not spin", () => {
    const { thread, id } = start();
    close(parts.epollFd);
    for (let round = 0; round < 3; round++) {
      thread.arm();
      expect(rings(parts.ear)).toBe(1);
      expect(ringsOf(id)).toBe(0);
    }
  });
});

describe("ends", () => {
  test("when it is stopped, armed or not, in mid-ring or twice", async () => {
    for (let round = 0; round < 200; round++) {
      const { thread } = start();
      if (round & 1) thread.arm();
      if (round & 2) makeReady(parts);
      thread.stop();
      thread.stop();
    }
    expect(await until(() => helperThreads().every((id) => strangers.includes(id)))).toBeDefined();
  });

  test("with its eventfd, of which nothing can come after it", () => {
    const { thread } = start();
    thread.stop();
    // The number may be another's by now.
    const other = dup(parts.source);
    expect(other).toBe(thread.fd);
    try {
      thread.arm();
      thread.own([other]);
      thread.stop();
      expect(read(other, new BigUint64Array(1))).toBeLessThan(0);
      makeReady(parts);
      drain(parts);
    } finally {
      close(other);
    }
  });

  test("when somebody closes its eventfd, and does not spin", async () => {
    // What is opened later takes these numbers, and not that of the eventfd.
    const lower = Array.from({ length: 16 }, () => dup(parts.source));
    const { thread, id } = start();
    for (const fd of lower) close(fd);
    thread.arm();
    settle(id);
    close(thread.fd);
    // A poll that waits does not see that, until something wakes it.
    makeReady(parts);
    expect(await until(() => !helperThreads().includes(id))).toBeDefined();
  });

  test("500 times, and leaves nothing behind", async () => {
    startHelperThread(parts.epollFd, parts.bell).stop();
    await expectNothingMore(() => {
      for (let round = 0; round < 500; round++) {
        const each = startHelperThread(parts.epollFd, parts.bell);
        each.arm();
        each.stop();
      }
    });
  });

  test("100 at the same time, and leave nothing behind", async () => {
    startHelperThread(parts.epollFd, parts.bell).stop();
    await expectNothingMore(() => {
      const all = Array.from({ length: 100 }, () => startHelperThread(parts.epollFd, parts.bell));
      makeReady(parts);
      for (const each of all) each.arm();
      for (let count = 0, more = 1; count < all.length; count += more) {
        more = rings(parts.ear);
        expect(more).toBeGreaterThan(0);
      }
      for (const each of all) each.stop();
    });
  });

  // A thread is joined a moment before /proc forgets it.
  async function expectNothingMore(run: () => void): Promise<void> {
    await until(() => helperThreads().length === strangers.length);
    const { threads, descriptors } = counts();
    run();
    expect(counts().descriptors).toBe(descriptors);
    expect(await until(() => counts().threads <= threads)).toBeDefined();
  }

  test("and gives its memory back", () => {
    const states: number[] = [];
    using _ = replaceLibc("mmap", (mmap) => (...values) => {
      const address = mmap(...values);
      states.push(Number(address));
      return address;
    });
    startHelperThread(parts.epollFd, parts.bell).stop();
    states.length = 0;
    let kept = 0;
    for (let round = 0; round < 50; round++) {
      startHelperThread(parts.epollFd, parts.bell).stop();
      if (isMapped(states.at(-1) ?? 0)) kept++;
    }
    expect(states).toHaveLength(50);
    // The engine may have taken the place for itself.
    expect(kept).toBeLessThan(10);
  });

  function isMapped(address: number): boolean {
    return [...readFileSync("/proc/self/maps", "utf8").matchAll(/^(\w+)-(\w+)/gm)].some(
      ([, begin = "", end = ""]) =>
        Number.parseInt(begin, 16) <= address && address < Number.parseInt(end, 16),
    );
  }
});

describe("owned descriptors", () => {
  // What is written to the thread's state, as numbers.
  function written(run: () => void): number[][] {
    const copies: number[][] = [];
    using _ = replaceLibc("memcpy", (memcpy) => (target, source, length) => {
      if (source instanceof Int32Array) copies.push([...source]);
      return memcpy(target, source, length);
    });
    run();
    return copies;
  }

  test("are told once each", () => {
    const { thread } = start();
    expect(written(() => thread.own([7, 9, 7, 9, 7, 9, 7, 9, 7]))).toEqual([
      [2, 7, 9, 0, 0, 0, 0, 0, 0],
    ]);
    expect(written(() => thread.own([]))).toEqual([Array(1 + OWNED_MAX).fill(0)]);
  });

  test("are not more than there is room for", () => {
    const { thread } = start();
    const tooMany = Array.from({ length: OWNED_MAX + 1 }, (_, i) => 1000 + i);
    const { message, name } = caught(() => thread.own(tooMany));
    expect(name).toBe("RangeError");
    expect(message).toContain(`${tooMany.length} descriptors`);
    expect(message).toContain(`at most ${OWNED_MAX}`);
    const { descriptors } = counts();
    expect(caught(() => startHelperThread(0, 0, tooMany)).message).toBe(message);
    expect(counts().descriptors).toBe(descriptors);
    thread.own(tooMany.slice(1));
  });

  test("stay open when it is stopped", () => {
    const { thread } = start();
    thread.own(Object.values(parts));
    thread.stop();
    makeReady(parts);
    drain(parts);
    expect(write(parts.bell, new Uint8Array(RING_BYTES))).toBe(RING_BYTES);
  });

  test("are closed when the Worker is terminated: those that were told last", async () => {
    const { before, after } = JSON.parse((await run("own")).text) as Owned;
    expect(before).toEqual([true, true, true, true, true]);
    // Its own eventfd and the two; not the two that were told before.
    expect(after).toEqual([false, false, false, true, true]);
  });
});

/** A module of its own, which has compiled nothing yet. */
let modules = 0;
async function freshModule(): Promise<{ startHelperThread: typeof startHelperThread }> {
  return await import(`${MODULE}?module=${modules++}`);
}

describe("starting", () => {
  test("compiles when the first thread is started, and not before", async () => {
    using getBuiltinModule = spyOn(process, "getBuiltinModule");
    using mmap = replaceLibc("mmap", (original) => original);
    const wanted = () => getBuiltinModule.mock.calls.map(([id]) => id);
    const { startHelperThread } = await freshModule();
    expect(mmap.calls).toBe(0);
    expect(wanted()).not.toContain("bun:ffi");
    startHelperThread(parts.epollFd, parts.bell).stop();
    expect(wanted().filter((id) => id === "node:fs")).toHaveLength(1);
    startHelperThread(parts.epollFd, parts.bell).stop();
    expect(wanted().filter((id) => id === "node:fs")).toHaveLength(1);
  });

  // The mask of the calling thread, and the descriptors.
  function traces() {
    const status = readFileSync("/proc/thread-self/status", "utf8");
    const [, blocked] = /^SigBlk:\s*(\w+)/m.exec(status) ?? [];
    return { blocked, descriptors: counts().descriptors };
  }

  async function failing(fail: () => Disposable, isCompiled = false) {
    const { startHelperThread } = await freshModule();
    const before = traces();
    let error: Error;
    {
      using _ = fail();
      error = caught(() => startHelperThread(parts.epollFd, parts.bell));
    }
    expect(traces()).toEqual(before);
    // What failed is tried again, unless the fault is in the code by now.
    if (!isCompiled) startHelperThread(parts.epollFd, parts.bell).stop();
    expect(traces()).toEqual(before);
    const { message, code, errno, syscall } = error as unknown as Record<string, unknown>;
    return { message, code, errno, syscall };
  }

  test("leaves the signal mask of the caller as it was", () => {
    const { blocked } = traces();
    start();
    expect(traces().blocked).toBe(blocked);
  });

  test("says that there is no memory", async () => {
    const error = await failing(() => replaceEntry("mmap", () => failWith(ENOMEM, MAP_FAILED)));
    expect(error).toEqual({
      message: "Cannot start the helper thread: mmap ENOMEM: not enough memory",
      code: "ENOMEM",
      errno: -ENOMEM,
      syscall: "mmap",
    });
  });

  test("says that no code can be added to the process", async () => {
    const error = await failing(() => replaceEntry("mprotect", () => failWith(EACCES)));
    expect(error).toMatchObject({ code: "EACCES", errno: -EACCES, syscall: "mprotect" });
  });

  test("says which function libc lacks", async () => {
    const { message } = await failing(() =>
      replaceLibc("dlsym", (dlsym) => (handle, symbol) => {
        const isPoll = `${symbol}` === "poll\0";
        return isPoll ? null : dlsym(handle, symbol);
      }),
    );
    expect(message).toBe("Cannot find poll in the C library");
  });

  test("says why no thread can be made", async () => {
    // A function that refuses whatever it is given, by the same kind of result.
    const refusing = Buffer.from("pthread_setcancelstate\0");
    const error = await failing(
      () =>
        replaceLibc("dlsym", (dlsym) => (handle, symbol) => {
          const isCreate = `${symbol}` === "pthread_create\0";
          return dlsym(handle, isCreate ? refusing : symbol);
        }),
      true,
    );
    expect(error).toMatchObject({ code: "EINVAL", syscall: "pthread_create" });
  });

  test("says which call found no free descriptor", async () => {
    const { startHelperThread } = await freshModule();
    const failures = () => {
      const { code, syscall } = caught(() =>
        startHelperThread(parts.epollFd, parts.bell),
      ) as unknown as Record<string, unknown>;
      return [code, syscall];
    };
    const before = traces();
    const taken = takeDescriptors();
    try {
      expect(failures()).toEqual(["EMFILE", "memfd_create"]);
      // One for the source, and one for the compiler to read it.
      for (const fd of taken.splice(-2)) close(fd);
      startHelperThread(parts.epollFd, parts.bell).stop();
      taken.push(dup(0));
      // Without a pidfd the thread looks for its JavaScript thread itself.
      startHelperThread(parts.epollFd, parts.bell).stop();
      taken.push(dup(0));
      expect(failures()).toEqual(["EMFILE", "eventfd"]);
    } finally {
      for (const fd of taken) close(fd);
    }
    expect(traces()).toEqual(before);
  });

  // All that are left under the limit of the process.
  function takeDescriptors(): number[] {
    const taken: number[] = [];
    for (let fd = dup(0); fd >= 0; fd = dup(0)) taken.push(fd);
    return taken;
  }

  test("says what the compiler says", async () => {
    const { message } = await failing(() =>
      replaceLibc("dlsym", (dlsym) => (handle, symbol) => {
        // An address that no C can make sense of.
        const isPoll = `${symbol}` === "poll\0";
        return isPoll ? Number.NaN : dlsym(handle, symbol);
      }),
    );
    expect(message).toStartWith("Cannot compile the helper thread: ");
  });

  for (const [architecture, compiler] of [
    ["x64", "x86_64-linux-gnu-gcc"],
    ["arm64", "aarch64-linux-gnu-gcc"],
  ] as const) {
    const name = `its numbers of system calls are as <sys/syscall.h> says on ${architecture}`;
    testIf(requires(compiler))(name, () => {
      const facts = Object.entries(HELPER_SYSTEM_CALLS[architecture]).map(([call, value]) => ({
        expression: `SYS_${call}`,
        value,
      }));
      const header = "sys/syscall.h";
      const source = proof({ name: header, file: "", header, facts, struct: undefined });
      expect(compileErrors(compiler, source)).toBe("");
    });
  }
});

/** A child that has ended. */
interface Ended {
  /** What it printed, without the line end. */
  readonly text: string;
  /** From what it printed to its end. */
  readonly endingMs: number;
}

/** Runs the program in a child, which is to end well. */
async function run(
  mode: Mode,
  values: readonly string[] = [],
  prefix: readonly string[] = [],
): Promise<Ended> {
  const child = Bun.spawn([...prefix, process.execPath, PROGRAM, mode, ...values], {
    cwd: ROOT,
    env: { ...process.env, BUN_SOCKETS_LEAKS: "" },
    stderr: "pipe",
    timeout: CHILD_MS_MAX,
    killSignal: "SIGKILL",
  });
  const text = await firstLine(child.stdout);
  const printed = performance.now();
  const [exitCode, errors] = await Promise.all([child.exited, child.stderr.text()]);
  expect({ exitCode, signalCode: child.signalCode, errors }).toEqual({
    exitCode: 0,
    signalCode: null,
    errors: "",
  });
  return { text, endingMs: performance.now() - printed };
}

describe("the process", () => {
  test.each(["leave", "leaveByCall"] as const)(
    "ends at once with a running thread: %s",
    async (mode) => {
      const endingMs: number[] = [];
      // A machine with much else to do may be late once.
      while (endingMs.length < 3 && !endingMs.some((ms) => ms < 1000)) {
        const ended = await run(mode);
        expect(ended.text).toBe("1");
        endingMs.push(ended.endingMs);
      }
      expect(Math.min(...endingMs)).toBeLessThan(1000);
    },
    CHILD_MS_MAX,
  );
});

// Answers pidfd_open(2) with ENOSYS, as a kernel before 5.3 does, and starts what follows.
const WITHOUT_PIDFD = `
import ctypes, os, struct, sys
PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER, PIDFD_OPEN, ENOSYS = 38, 22, 2, 434, 38
BPF_LD_W_ABS, BPF_JEQ_K, BPF_RET_K, ALLOW, ERRNO = 0x20, 0x15, 0x06, 0x7fff0000, 0x00050000
code = b"".join(struct.pack("HBBI", *line) for line in [
    (BPF_LD_W_ABS, 0, 0, 0), (BPF_JEQ_K, 0, 1, PIDFD_OPEN),
    (BPF_RET_K, 0, 0, ERRNO | ENOSYS), (BPF_RET_K, 0, 0, ALLOW)])
instructions = ctypes.create_string_buffer(code)
program = struct.pack("HxxxxxxP", len(code) // 8, ctypes.addressof(instructions))
libc = ctypes.CDLL(None, use_errno=True)
for values in [(PR_SET_NO_NEW_PRIVS, 1), (PR_SET_SECCOMP, SECCOMP_MODE_FILTER, program)]:
    values = (*values, 0, 0, 0, 0)[:5]
    if libc.prctl(*[v if isinstance(v, bytes) else ctypes.c_ulong(v) for v in values]):
        sys.exit(os.strerror(ctypes.get_errno()))
os.execvp(sys.argv[1], sys.argv[1:])
`;

describe("a Worker that is terminated", () => {
  const ORPHANED_MS_MAX = 2000;

  function expectNothingLeft({ before, running, orphanedMs, after }: Workers): void {
    // With those of the Workers before them, which may not have ended yet.
    expect(running).toBeGreaterThanOrEqual(WORKERS_AT_ONCE);
    expect(orphanedMs).toBeLessThan(ORPHANED_MS_MAX);
    expect(after.threads).toBeLessThanOrEqual(before.threads + ENGINE_THREADS);
    expect(after.descriptors).toBeLessThanOrEqual(before.descriptors + ENGINE_DESCRIPTORS);
  }

  test(
    "200 times: each thread ends by itself and closes what it owns",
    async () => {
      const count = 200;
      const result = JSON.parse((await run("workers", [`${count}`])).text) as Workers;
      expectNothingLeft(result);
      // What the compiler keeps for each is 12 mappings.
      expect(result.after.mappings).toBeLessThan(result.before.mappings + count);
    },
    CHILD_MS_MAX,
  );

  testIf(requires("python3"))(
    "also where the kernel has no pidfd_open(2)",
    async () => {
      const prefix = ["python3", "-c", WITHOUT_PIDFD];
      const result = JSON.parse((await run("workers", ["20"], prefix)).text) as Workers;
      expect(result.pidfds).toBe(0);
      expectNothingLeft(result);
    },
    CHILD_MS_MAX,
  );
});

describe("signals", () => {
  test("are all blocked in the thread, as far as they can be", () => {
    const { id } = start();
    const status = readFileSync(`/proc/self/task/${id}/status`, "utf8");
    const blocked = BigInt(`0x${/^SigBlk:\s*(\w+)/m.exec(status)?.[1]}`);
    const open = Array.from({ length: 64 }, (_, i) => i + 1).filter(
      (signal) => ((blocked >> BigInt(signal - 1)) & 1n) === 0n,
    );
    // SIGKILL and SIGSTOP, and those that libc itself uses between threads.
    expect([9, 19, 32, 33, 34]).toEqual(expect.arrayContaining(open));
  });

  // Sends as many as it is told to a process, and then the end of its stdin.
  const SENDER = `
import os, signal, sys
process, count = int(sys.argv[1]), int(sys.argv[2])
signals = [getattr(signal, name) for name in sys.argv[3:]]
for i in range(count): os.kill(process, signals[i % len(signals)])
`;

  testIf(requires("python3"))(
    "10,000 in a storm: no ring is lost, and no signal after it",
    async () => {
      const child = Bun.spawn([process.execPath, PROGRAM, "storm" satisfies Mode], {
        cwd: ROOT,
        stdin: "pipe",
        stderr: "inherit",
        timeout: CHILD_MS_MAX,
        killSignal: "SIGKILL",
      });
      expect(await firstLine(child.stdout)).toBe('"ready"');
      const sender = ["python3", "-c", SENDER, `${child.pid}`, "10000", ...STORM_SIGNALS];
      expect(await Bun.spawn(sender, { stderr: "inherit" }).exited).toBe(0);
      child.stdin.end();
      const result = JSON.parse(await firstLine(child.stdout)) as Storm;
      expect(await child.exited).toBe(0);
      expect(result.rings).toBe(result.rounds);
      expect(result.rounds).toBeGreaterThan(100);
      expect(result.inStorm).toBeGreaterThan(100);
      expect(result.afterStorm).toBe(SINGLE_SIGNALS);
    },
    CHILD_MS_MAX,
  );
});

/** A root folder with nothing in it but Bun, the libraries it is linked with, and the program. */
class MinimalRoot implements Disposable {
  readonly #folder = mkdtempSync(join(tmpdir(), "bun-sockets-root-"));
  readonly #bun = realpathSync(process.execPath);

  constructor() {
    const { stdout } = Bun.spawnSync(["ldd", this.#bun]);
    for (const [, library = ""] of `${stdout}`.matchAll(/(?:=> |^\s*)(\/\S+)/gm)) {
      this.#copy(library, library);
    }
    for (const file of ["lib", "structs", "package.json", "tsconfig.json", PROGRAM]) {
      const source = join(file.startsWith("/") ? "" : ROOT, file);
      this.#copy(source, join("/project", source.slice(ROOT.length)));
    }
    for (const folder of ["proc", "dev", "tmp"]) mkdirSync(join(this.#folder, folder));
    // Bun is large, so it is not copied, but mounted on this.
    writeFileSync(join(this.#folder, "bun"), "");
  }

  #copy(from: string, to: string): void {
    const target = join(this.#folder, to);
    mkdirSync(dirname(target), { recursive: true });
    cpSync(from, target, { recursive: true, dereference: true });
  }

  /** Runs the program in it. */
  run(mode: Mode): { exitCode: number; text: string; errors: string } {
    const script = `
      mount --bind "$2" "$1/bun" && mount --rbind /proc "$1/proc" &&
      exec chroot "$1" /bun /project/test/loopback/helper_thread.ts "$3"`;
    const { exitCode, stdout, stderr } = Bun.spawnSync(
      ["unshare", ...unshareFlags, "sh", "-c", script, "sh", this.#folder, this.#bun, mode],
      { timeout: CHILD_MS_MAX, env: { PATH: process.env["PATH"], TMPDIR: "/tmp" } },
    );
    return { exitCode, text: `${stdout}`, errors: `${stderr}` };
  }

  [Symbol.dispose](): void {
    // Its mounts have gone with their namespace.
    rmSync(this.#folder, { recursive: true });
  }
}

const unshareFlags = process.getuid?.() === 0 ? ["-m"] : ["-rm"];

function missingForRoot(): string | undefined {
  const missing = requires("unshare", "mount", "chroot", "ldd");
  if (missing !== undefined) return missing;
  const { success } = Bun.spawnSync(["unshare", ...unshareFlags, "true"]);
  return success ? undefined : "needs a mount namespace of its own";
}

describe("a machine without any C package", () => {
  testIf(missingForRoot())("hears a ring", () => {
    using root = new MinimalRoot();
    const { exitCode, text, errors } = root.run("hear");
    expect({ exitCode, errors }).toEqual({ exitCode: 0, errors: "" });
    const { rung, withHeader, withoutHeader } = JSON.parse(text) as Heard;
    // There really is none: what the compiler is asked for ordinarily cannot be done.
    expect(withHeader).toContain("stdio.h");
    expect(withoutHeader).toContain("library 'c' not found");
    expect(rung).toBe(true);
  });
});
