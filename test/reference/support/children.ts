/**
 * Programs in another world: without rights, without a network, with few descriptors. Each is the
 * body of an async function, which can use what its `imports` bring, and returns what JSON can carry.
 *
 * @module
 */
import { join } from "node:path";
import { type Missing, requires } from "../../support/require.ts";

const ROOT = join(import.meta.dir, "../../..");
const CHILD_MS_MAX = 20_000;

/** Where a program runs: a command in front of it, and what is missing for it here. */
export interface World {
  readonly prefix: readonly string[];
  readonly missing: Missing;
}

const isRoot = process.getuid?.() === 0;

/** A process without any right: root's bounding set is emptied, others have none. */
export const unprivileged: World = isRoot
  ? { prefix: ["setpriv", "--bounding-set=-all", "--inh-caps=-all"], missing: requires("setpriv") }
  : { prefix: [], missing: undefined };

/** A network of its own, with nothing but `lo`, up, and a root's rights over it. */
export const ownNetwork: World = namespace("n", "");

/** The same, with a mount table of its own: /etc can be covered. */
export const ownNetworkAndFiles: World = namespace("nm", "mount --make-rprivate / && ");

function namespace(kinds: string, first: string): World {
  const flags = `-${isRoot ? "" : "r"}${kinds}`;
  const prefix = ["unshare", flags, "sh", "-c", `${first}ip link set lo up && exec "$@"`, "sh"];
  const missing = requires("unshare", "ip");
  if (missing) return { prefix, missing };
  const allowed = Bun.spawnSync([...prefix, "true"], { stdin: "ignore" }).success;
  return { prefix, missing: allowed ? undefined : "needs a network namespace of its own" };
}

/** A process that may have no more than this many descriptors. */
export function withDescriptors(count: number): World {
  const prefix = ["sh", "-c", `ulimit -n ${count}; exec "$@"`, "sh"];
  return { prefix, missing: undefined };
}

/** Runs a program in another world, and gives what it returns; throws what it prints to stderr. */
export async function runIn<Result>(
  { prefix }: World,
  imports: string,
  body: string,
): Promise<Result> {
  const script = `${imports}\nconsole.log(JSON.stringify(await (async () => {\n${body}\n})()));`;
  const child = Bun.spawn([...prefix, process.execPath, "-e", script], {
    cwd: ROOT,
    stdin: "ignore",
    stdout: "pipe",
    stderr: "pipe",
    timeout: CHILD_MS_MAX,
    killSignal: "SIGKILL",
  });
  const [output, errors] = await Promise.all([child.stdout.text(), child.stderr.text()]);
  const code = await child.exited;
  if (code !== 0) throw new Error(`The program ended with ${child.signalCode ?? code}: ${errors}`);
  return JSON.parse(output) as Result;
}
