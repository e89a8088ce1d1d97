import { HOST_NAME_MAX } from "../structs/constants/limits.ts";
import { check } from "./error.ts";
import { requireOptions } from "./internal/arguments.ts";
import { requireText } from "./internal/sockaddr.ts";
import { type ResolveOptions, resolve, resolveSync } from "./resolve.ts";
import type { CancelOptions, TimeoutOptions } from "./socket.ts";
import { gethostname, sethostname } from "./sys/unistd.ts";

/**
 * Returns the name of this machine, or of the UTS namespace that it runs in, as uname(2) has it:
 * mostly without a domain.
 *
 * @see {@link https://man7.org/linux/man-pages/man2/gethostname.2.html | gethostname(2)}
 *
 * @example
 * ```ts
 * import { hostName } from "bun-sockets";
 *
 * console.log(hostName().length > 0); // true
 * ```
 */
export function hostName(): string {
  const name = new Uint8Array(HOST_NAME_MAX + 1);
  check(gethostname(name), "gethostname");
  const end = name.indexOf(0);
  return Buffer.from(end < 0 ? name : name.subarray(0, end)).toString();
}

/**
 * Changes the name of this machine, for everybody in its UTS namespace, until it is started again.
 *
 * @param name at most 64 bytes
 * @throws {TypeError} name is no string, or contains a NUL
 * @throws {RangeError} name is longer
 * @throws {SystemError} `EPERM` it takes CAP_SYS_ADMIN
 * @see {@link https://man7.org/linux/man-pages/man2/gethostname.2.html | sethostname(2)}
 */
export function setHostName(name: string): void {
  const bytes = Buffer.from(requireText(name, "a host name"));
  if (bytes.includes(0)) {
    throw new TypeError(`Cannot use ${JSON.stringify(name)} as a host name: it contains a NUL`);
  }
  if (bytes.length > HOST_NAME_MAX) {
    throw new RangeError(
      `Cannot use ${bytes.length} bytes as a host name: expected at most ${HOST_NAME_MAX}`,
    );
  }
  check(sethostname(bytes), "sethostname");
}

/**
 * Finds the whole name of a host, with its domain: its canonical name as a resolver or /etc/hosts
 * gives it.
 *
 * @param host Default: this machine
 * @throws as resolve
 * @see {@link https://man7.org/linux/man-pages/man1/hostname.1.html | hostname(1), under --fqdn}
 */
export async function fullHostName(
  host: string = hostName(),
  options: CancelOptions = {},
): Promise<string> {
  const { signal, timeoutMs } = requireOptions(options);
  const hints: ResolveOptions = { type: "stream", canonicalName: true, signal, timeoutMs };
  const [first] = await resolve(host, undefined, hints);
  return first?.canonicalName ?? host;
}

/**
 * `fullHostName`, blocking the thread, as `resolveSync` does.
 *
 * @param host Default: this machine
 * @throws as resolve
 * @see {@link https://man7.org/linux/man-pages/man1/hostname.1.html | hostname(1), under --fqdn}
 */
export function fullHostNameSync(host: string = hostName(), options: TimeoutOptions = {}): string {
  const { timeoutMs } = requireOptions(options);
  const hints = { type: "stream", canonicalName: true, timeoutMs } as const;
  const [first] = resolveSync(host, undefined, hints);
  return first?.canonicalName ?? host;
}
