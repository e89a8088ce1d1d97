import type * as probes from "./internal/probes.ts";

/** Whether something can be done here. */
export interface Capability {
  readonly supported: boolean;
  /** Why not, in the kernel's words: "EPERM: Operation not permitted". Empty when supported. */
  readonly reason: string;
}

/** What can differ from machine to machine, by name. */
export type Capabilities = Readonly<Record<CapabilityName, Capability>>;

/** The names of `capabilities()`. */
export type CapabilityName = keyof typeof probes.PROBES;

let found: Capabilities | undefined;

/**
 * Tells what this kernel and the rights of this process allow, found by trying at the first call and
 * remembered by the thread. Nothing that was opened for it stays open.
 *
 * @throws {SystemError} `EMFILE`, `ENFILE` too many open descriptors to try anything; `ENOMEM`,
 * `ENOBUFS` no memory for it
 *
 * @example
 * ```ts
 * import { capabilities } from "bun-sockets";
 *
 * const { ipv6, raw } = capabilities();
 * console.log(ipv6.supported, raw.supported || raw.reason); // …
 * ```
 */
export function capabilities(): Capabilities {
  if (found) return found;
  const { probeAll }: typeof probes = require("./internal/probes.ts");
  found = Object.freeze(probeAll()) as Capabilities;
  return found;
}
