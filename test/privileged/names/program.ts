/**
 * The program inside the world of names: each line on its standard input is a JSON array of the name
 * of a case and its arguments, and it prints what came of it, on one line.
 */
import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import { join } from "node:path";
import {
  fullHostName,
  fullHostNameSync,
  type HostEntry,
  type HostOptions,
  hostByAddress,
  hostByAddressSync,
  hostByName,
  hostByNameSync,
  hostName,
  protocolByName,
  protocolByNumber,
  protocols,
  type ResolvedAddress,
  type ResolveOptions,
  type ReverseOptions,
  resolve,
  resolveSync,
  reverse,
  reverseSync,
  serviceByName,
  serviceByPort,
  services,
  setHostName,
} from "bun-sockets";

type Form = "promise" | "sync" | "timed";
const LONG_MS = 20_000;

/** How many lookup threads there are. */
function threads(): number {
  return readdirSync("/proc/self/task").filter((id) => {
    try {
      return readFileSync(`/proc/self/task/${id}/comm`, "utf8") === "bun-sockets-ask\n";
    } catch {
      return false;
    }
  }).length;
}

/** What is open, without what the poller of a Worker leaves behind: that has tests of its own. */
function descriptors(): number {
  return readdirSync("/proc/self/fd").filter((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`) === "anon_inode:[eventfd]";
    } catch {
      return false;
    }
  }).length;
}

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await Bun.sleep(1);
}

function plain(answers: readonly ResolvedAddress[]) {
  return answers.map(({ address, ...rest }) => ({ ...rest, address: `${address}` }));
}

function plainHost({ name, aliases, addresses }: HostEntry) {
  return { name, aliases, addresses: addresses.map(String) };
}

function failure(error: unknown) {
  const { name, message, code, errno, syscall, host, service, isNotFound, isTemporary } =
    error as Record<string, unknown>;
  return { name, message, code, errno, syscall, host, service, isNotFound, isTemporary };
}

async function outcome(run: () => unknown): Promise<unknown> {
  try {
    return { value: await run() };
  } catch (error) {
    return { error: failure(error) };
  }
}

const cases: Record<string, (...values: never[]) => unknown> = {
  ping: () => "pong",

  resolve: (form: Form, host: string, service: string | number | null, hints: ResolveOptions) => {
    const port = service ?? undefined;
    return outcome(async () => {
      if (form === "promise") return plain(await resolve(host, port, hints));
      const limit = form === "timed" ? { timeoutMs: LONG_MS } : {};
      return plain(resolveSync(host, port, { ...hints, ...limit }));
    });
  },

  reverse: (form: Form, address: string, hints: ReverseOptions) =>
    outcome(() => {
      if (form === "promise") return reverse(address, hints);
      return reverseSync(address, form === "timed" ? { ...hints, timeoutMs: LONG_MS } : hints);
    }),

  hostByName: (form: Form, host: string, hints: HostOptions) =>
    outcome(async () => {
      if (form === "promise") return plainHost(await hostByName(host, hints));
      const limit = form === "timed" ? { timeoutMs: LONG_MS } : {};
      return plainHost(hostByNameSync(host, { ...hints, ...limit }));
    }),

  hostByAddress: (form: Form, address: string) =>
    outcome(async () => {
      if (form === "promise") return plainHost(await hostByAddress(address));
      return plainHost(hostByAddressSync(address, form === "timed" ? { timeoutMs: LONG_MS } : {}));
    }),

  /** Hosts that nobody tells about: what is thrown in time, and what libc itself says later. */
  silentHosts: async (timeoutMs: number) => {
    const reason = new Error("enough");
    const controller = new AbortController();
    const limits = { timeoutMs };
    const started = performance.now();
    const aborted = hostByName("four.silent.test", { signal: controller.signal });
    setTimeout(() => controller.abort(reason), 20);
    const answers = [
      await aborted.then(
        () => false,
        (error) => error === reason,
      ),
      await outcome(() => hostByName("five.silent.test", limits)),
      await outcome(() => hostByAddress("198.51.100.8", limits)),
      await outcome(() => hostByNameSync("six.silent.test", limits)),
      await outcome(() => hostByAddressSync("198.51.100.9", limits)),
    ];
    return { answers, passedMs: performance.now() - started };
  },

  /** Many hosts and aliases at once. */
  hostStorm: async (count: number) => {
    const before = descriptors();
    const answers = await Promise.all(
      Array.from({ length: count }, async (_, i) => {
        const { name, aliases } = await hostByName(i % 2 ? "www.test" : "alias.hosts.test");
        return `${name} ${aliases.length}`;
      }),
    );
    const wrong = answers.filter(
      (answer, i) => answer !== (i % 2 ? "four.test 2" : "first.hosts.test 1"),
    );
    return { wrong, grown: descriptors() - before };
  },

  /** A lookup that nobody answers, and what the loop does meanwhile. */
  silent: async (call: "resolve" | "reverse", timeoutMs: number) => {
    let ticks = 0;
    const interval = setInterval(() => ticks++, 10);
    const started = performance.now();
    const limits = { timeoutMs };
    const result = await outcome(() =>
      call === "resolve"
        ? resolve("one.silent.test", 80, limits)
        : reverse("198.51.100.7:80", { ...limits, nameRequired: true }),
    );
    const passedMs = performance.now() - started;
    clearInterval(interval);
    return { ...(result as object), ticks, passedMs, stillAsking: threads() };
  },

  silentSync: async (call: "resolve" | "reverse", timeoutMs: number) => {
    const started = performance.now();
    const result = await outcome(() =>
      call === "resolve"
        ? resolveSync("two.silent.test", 80, { timeoutMs })
        : reverseSync("198.51.100.7:80", { timeoutMs, nameRequired: true }),
    );
    return { ...(result as object), passedMs: performance.now() - started, stillAsking: threads() };
  },

  /** A signal is aborted while its lookup waits; and one is before. */
  aborted: async () => {
    const reason = new Error("enough");
    const controller = new AbortController();
    const pending = resolve("three.silent.test", 80, { signal: controller.signal });
    setTimeout(() => controller.abort(reason), 20);
    const isReason = await pending.then(
      () => false,
      (error) => error === reason,
    );
    const stillAsking = threads();
    const early = await resolve("three.silent.test", 80, {
      signal: AbortSignal.abort(reason),
    }).then(
      () => false,
      (error) => error === reason,
    );
    return { isReason, stillAsking, early, afterEarly: threads() };
  },

  /** After everything that was abandoned has ended. */
  leftovers: async () => {
    await until(() => threads() === 0);
    // The answer of the last one is taken in one of the next turns.
    for (let i = 0; i < 5; i++) await Bun.sleep(1);
    return { descriptors: descriptors() };
  },

  /** Many at once, of which most are abandoned. */
  crowd: async (count: number) => {
    let most = 0;
    const interval = setInterval(() => {
      most = Math.max(most, threads());
    }, 1);
    const names = Array.from({ length: count }, (_, i) => `n${i}.silent.test`);
    const codes = await Promise.all(
      names.map((name) => resolve(name, 80, { timeoutMs: 300 }).catch(({ code }) => code)),
    );
    const behind = plain(await resolve("four.test", 80, { type: "stream" }));
    clearInterval(interval);
    return { codes: [...new Set(codes)], most, behind };
  },

  crowdSync: async (count: number) => {
    let most = 0;
    const codes = new Set<unknown>();
    for (let i = 0; i < count; i++) {
      try {
        resolveSync(`s${i}.silent.test`, 80, { timeoutMs: 5 });
      } catch (error) {
        codes.add((error as { code: unknown }).code);
      }
      most = Math.max(most, threads());
    }
    // One that waits for its turn, and has it when the first of them have given up.
    const behind = plain(resolveSync("four.test", 80, { type: "stream", timeoutMs: LONG_MS }));
    return { codes: [...codes], most, behind };
  },

  /** Many answers at once. */
  storm: async (count: number) => {
    const before = descriptors();
    const answers = await Promise.all(
      Array.from({ length: count }, (_, i) =>
        i % 2 === 0
          ? resolve("four.test", i, { type: "stream" }).then(([first]) => `${first?.address}`)
          : reverse(`192.0.2.9:${i}`, { numericService: true }).then(
              ({ host, service }) => `${host}:${service}`,
            ),
      ),
    );
    const wrong = answers.filter(
      (answer, i) => answer !== (i % 2 === 0 ? `192.0.2.4:${i}` : `near.test:${i}`),
    );
    return { wrong, grown: descriptors() - before };
  },

  /** Workers that are terminated while they wait. */
  workers: async (count: number) => {
    const before = readdirSync("/proc/self/task").length;
    const made = Array.from(
      { length: count },
      () => new Worker(join(import.meta.dir, "worker.ts")),
    );
    await Promise.all(
      made.map((worker) => new Promise((done) => worker.addEventListener("message", done))),
    );
    const asking = threads();
    for (const worker of made) worker.terminate();
    await until(() => threads() === 0);
    return { asking, before, answer: plain(await resolve("four.test", 80, { type: "stream" })) };
  },

  /** Runs a module in a process of its own, in this world. */
  child: async (source: string) => {
    const text = `import { resolve, resolveSync } from "bun-sockets";
      import { readdirSync, readFileSync } from "node:fs";
      const threads = ${threads};
      ${source}`;
    const file = join(import.meta.dir, `.child-${process.pid}.ts`);
    await Bun.write(file, text);
    const child = Bun.spawn([process.execPath, file], { stderr: "pipe" });
    const output = await child.stdout.text();
    const errors = await child.stderr.text();
    await Bun.file(file).delete();
    return { output: output.trim(), errors, exitCode: await child.exited };
  },

  ip: (...values: string[]) => Bun.spawnSync(["ip", ...values]).exitCode,

  serviceByName: (name: string, protocol?: string) => serviceByName(name, protocol) ?? null,
  serviceByPort: (port: number, protocol?: string) => serviceByPort(port, protocol) ?? null,
  services: () => services(),
  protocolByName: (name: string) => protocolByName(name) ?? null,
  protocolByNumber: (number: number) => protocolByNumber(number) ?? null,
  protocols: () => protocols(),

  hostNames: async () => [hostName(), await fullHostName(), await fullHostName("alias.hosts.test")],
  hostNamesSync: () => [
    fullHostNameSync(),
    fullHostNameSync("alias.hosts.test"),
    fullHostNameSync("www.test", { timeoutMs: LONG_MS }),
  ],
  rename: (name: string) =>
    outcome(() => {
      setHostName(name);
      return hostName();
    }),
};

console.log("ready");
for await (const line of console) {
  if (line === "") continue;
  const [name, ...values] = JSON.parse(line) as [string, ...never[]];
  console.log(JSON.stringify(await cases[name]?.(...values)));
}
process.exit(0);
