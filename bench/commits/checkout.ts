import { cpSync, existsSync, lstatSync, mkdirSync, readFileSync, symlinkSync } from "node:fs";
import { dirname, join } from "node:path";
import { Failure, type Programs } from "./programs.ts";

/** What stands for the checkout as it is, with all that nobody has committed. */
export const WORKTREE = "WORKTREE";

/** One side of a comparison. */
export interface Checkout {
  readonly side: "base" | "head";
  /** As the caller named it. */
  readonly revision: string;
  /** Null for the checkout as it is. */
  readonly commit: string | null;
  /** Where its files are. */
  readonly folder: string;
  /** The Bun that runs it: that of its node_modules, else this one. */
  readonly bun: string;
}

/** The root of the checkout that a folder is in. */
export async function findRoot(programs: Programs, cwd: string): Promise<string> {
  const command = ["git", "rev-parse", "--show-toplevel"];
  return (await programs.run({ command, cwd, title: "git rev-parse" })).trimEnd();
}

/** Says which commit a revision is; null for the checkout as it is, undefined where there is none. */
export async function resolve(
  programs: Programs,
  root: string,
  revision: string,
): Promise<string | null | undefined> {
  if (revision === WORKTREE) return null;
  const command = ["git", "rev-parse", "--verify", "--quiet", "--end-of-options"];
  try {
    const spec = `${revision}^{commit}`;
    return (
      await programs.run({ command: [...command, spec], cwd: root, title: "git rev-parse" })
    ).trimEnd();
  } catch (error) {
    if (error instanceof Failure) return undefined;
    throw error;
  }
}

/**
 * Puts the files of both sides into folders of their own below a folder, and beside them what they
 * depend on. The two paths are equally long: where a program's strings and stack lie is part of what
 * it costs.
 */
export async function checkOut(
  programs: Programs,
  root: string,
  folder: string,
  sides: readonly Pick<Checkout, "side" | "revision" | "commit">[],
): Promise<Checkout[]> {
  // By the text of the lock file: what is installed once serves everybody who wants the same.
  const installed = new Map<string, string>();
  const own = join(root, "node_modules");
  if (existsSync(own)) installed.set(readLock(root), own);
  const checkouts: Checkout[] = [];
  for (const side of sides) {
    const target = join(folder, side.side);
    mkdirSync(target);
    if (side.commit === null) await copyFiles(programs, root, target);
    else await unpack(programs, root, target, side.commit);
    await install(programs, target, side.revision, installed);
    const bun = join(target, "node_modules/.bin/bun");
    checkouts.push({ ...side, folder: target, bun: existsSync(bun) ? bun : process.execPath });
  }
  return checkouts;
}

async function unpack(programs: Programs, root: string, target: string, commit: string) {
  const archive = `${target}.tar`;
  const write = ["git", "archive", "--format=tar", `--output=${archive}`, commit];
  await programs.run({ command: write, cwd: root, title: "git archive" });
  const read = ["tar", "-xf", archive];
  await programs.run({ command: read, cwd: target, title: "tar" });
}

// Everything that git knows or would add. What is deleted is still in its index, and a link to packages
// elsewhere is nothing that "node_modules/" in .gitignore means.
async function copyFiles(programs: Programs, root: string, target: string) {
  const command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"];
  const output = await programs.run({ command, cwd: root, title: "git ls-files" });
  for (const file of new Set(output.split("\0").filter(Boolean))) {
    const from = join(root, file);
    if (file === "node_modules" || !lstatSync(from, { throwIfNoEntry: false })) continue;
    mkdirSync(dirname(join(target, file)), { recursive: true });
    cpSync(from, join(target, file), { recursive: true, verbatimSymlinks: true });
  }
}

async function install(
  programs: Programs,
  folder: string,
  revision: string,
  installed: Map<string, string>,
) {
  const lock = readLock(folder);
  const from = installed.get(lock);
  const to = join(folder, "node_modules");
  if (from !== undefined) symlinkSync(from, to);
  else if (lock !== "") {
    const command = ["npm", "ci", "--no-audit", "--no-fund"];
    await programs.run({ command, cwd: folder, title: `npm ci for ${revision}` });
    installed.set(lock, to);
  }
}

function readLock(folder: string): string {
  const path = join(folder, "package-lock.json");
  return existsSync(path) ? readFileSync(path, "utf8") : "";
}
