/**
 * What `BUN_SOCKETS_LEAKS=1` adds: sockets know where they were made, and those that are collected
 * open are reported. Loaded with the first socket, and only then.
 *
 * @module
 */
import type { Held, SocketClass } from "./descriptor.ts";
import { describeSocket } from "./registry.ts";

/** Frames enough to get out of the library and through a framework. */
const FRAMES = 32;

const OWN_PATH = "/lib/internal/leaks.ts";
// The library's own frames say nothing to whoever has lost a socket. In a bundle they cannot be told
// from the program's.
const OWN_FRAMES = import.meta.path.endsWith(OWN_PATH)
  ? `${import.meta.path.slice(0, -OWN_PATH.length)}/lib/`
  : undefined;

/**
 * The stack of the call that makes a socket, from the program's own code on, as text: the frames of
 * an error would keep what they have called alive, and with it perhaps the socket.
 */
export function stackOf(kind: SocketClass): string {
  const { stackTraceLimit } = Error;
  Error.stackTraceLimit = FRAMES;
  const holder: { stack?: string } = {};
  Error.captureStackTrace(holder, kind as new () => object);
  Error.stackTraceLimit = stackTraceLimit;
  const frames = `${holder.stack}`.split("\n").slice(1);
  const own = frames.findIndex((frame) => !OWN_FRAMES || !frame.includes(OWN_FRAMES));
  return (own < 0 ? frames : frames.slice(own)).join("\n");
}

/** Warns of a socket that was dropped open. Its descriptor is still open. */
export function report(held: Held): void {
  process.emitWarning(
    `A ${held.kind?.name} was dropped open, and is closed now: ${describe(held)}. ` +
      "Close it, or declare it with `using`",
    {
      type: "LeakWarning",
      code: "BUN_SOCKETS_LEAK",
      detail: `It was made here:\n${held.createdAt}`,
    },
  );
}

// Nobody could catch what is thrown here.
function describe(held: Held): string {
  try {
    const { family, type, localAddress, remoteAddress } = describeSocket(held);
    const addresses = [localAddress, remoteAddress].filter((address) => address !== undefined);
    const what = [`${family} ${type}`, `descriptor ${held.fd}`, addresses.join(" to ")];
    return what.filter(Boolean).join(", ");
  } catch {
    return `descriptor ${held.fd}`;
  }
}
