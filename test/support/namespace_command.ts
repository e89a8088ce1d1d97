/** How to start a program in a network namespace of its own, or why that cannot be done here. */
export interface Namespace {
  readonly command: readonly string[];
  readonly missing: string | undefined;
}

const ROOT_USER = 0;

/**
 * Returns what stands before a command that is to run where nothing can leave, with loopback up. As
 * root a network namespace is enough; anybody else makes a user namespace with it.
 */
export function namespaceCommand(): Namespace {
  const flags = process.getuid?.() === ROOT_USER ? "-n" : "-rn";
  const command = ["unshare", flags, "sh", "-c", 'ip link set lo up && exec "$@"', "sh"];
  try {
    const { success, stderr } = Bun.spawnSync([...command, "true"], { stdin: "ignore" });
    if (success) return { command, missing: undefined };
    return { command: [], missing: stderr.toString().trim() };
  } catch (error) {
    return { command: [], missing: (error as Error).message };
  }
}
