import { loadModule } from "./internal/descriptor.ts";
import type * as probes from "./internal/probes.ts";

/** Whether something can be done here. */
export interface Capability {
  readonly supported: boolean;
  /** Why not, in the kernel's words: "EPERM: Operation not permitted". Empty when supported. */
  readonly reason: string;
  /** How far it goes, where that differs: "128 segments" of one train. */
  readonly detail?: string;
  /** What gives it to this program: the right or the sysctl, and the command. Where we know. */
  readonly hint?: string;
}

/** What can differ from machine to machine, by name. */
export type Capabilities = Readonly<Record<CapabilityName, Capability>>;

/** The names of `capabilities()`. */
export type CapabilityName = keyof typeof probes.PROBES;

let found: Capabilities | undefined;

/**
 * Tells what this kernel and the rights of this process allow, found by trying at the first call and
 * remembered by the thread: rights that are taken away or given later make no difference to it. It
 * takes some milliseconds; nothing that was opened or mapped for it stays.
 *
 * @throws {SystemError} `EMFILE`, `ENFILE` too many open descriptors to try anything; `ENOMEM`,
 * `ENOBUFS` no memory for it. Nothing is remembered then
 *
 * @example
 * ```ts
 * import { capabilities } from "bun-sockets";
 *
 * const { ipv6, raw } = capabilities();
 * console.log(ipv6.supported, raw.supported || raw.hint); // …
 * ```
 */
export function capabilities(): Capabilities {
  if (found) return found;
  found = Object.freeze(loadProbes().probeAll()) as Capabilities;
  return found;
}

function loadProbes(): typeof probes {
  return loadModule(() => require("./internal/probes.ts"));
}
