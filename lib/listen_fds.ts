import { F_SETFD, FD_CLOEXEC } from "../structs/constants/fcntl.ts";
import { check } from "./error.ts";
import { fcntl } from "./sys/fcntl.ts";

/** One descriptor that the service manager has opened for this program. */
export interface ListenFd {
  /** The number, close-on-exec: the caller's to adopt or close. */
  readonly descriptor: number;
  /** `FileDescriptorName=` of the unit, by default the name of the .socket unit; else "unknown". */
  readonly name: string;
}

const FIRST = 3;
const VARIABLES = ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"] as const;

/**
 * Takes the sockets that systemd has opened for this program (socket activation), in the order of
 * the unit. Give each to the `adopt` of its class, with `{ own: true }`.
 *
 * The variables that announce them are removed from `process.env`, so that a second call, and the
 * programs that this one starts, do not take them again.
 *
 * @returns none when this program was not started that way, and none in a Worker
 * @throws {RangeError} LISTEN_FDS is no count
 * @throws {SystemError} `EBADF` an announced descriptor is not open (or has become one of Bun's own,
 * which nothing tells: `adopt` refuses what is no socket); the variables stay
 * @see {@link https://man7.org/linux/man-pages/man3/sd_listen_fds.3.html | sd_listen_fds(3)}
 *
 * @example The socket of a unit, or one of our own
 * ```ts
 * import { listenFds, UdpSocket } from "bun-sockets";
 *
 * const [activated] = listenFds();
 * using server = activated
 *   ? UdpSocket.adopt(activated.descriptor, { own: true })
 *   : UdpSocket.bind("127.0.0.1:0");
 * console.log(`serving ${server.localAddress}`);
 * ```
 */
export function listenFds(): ListenFd[] {
  const { LISTEN_PID, LISTEN_FDS, LISTEN_FDNAMES = "" } = process.env;
  // They may have been meant for the program that started this one. And a Worker has an environment
  // of its own, in which they stand however often they were taken.
  if (LISTEN_FDS === undefined || Number(LISTEN_PID) !== process.pid || !Bun.isMainThread)
    return [];
  if (!/^\d{1,6}$/.test(LISTEN_FDS))
    throw new RangeError(
      `Cannot use ${JSON.stringify(LISTEN_FDS)} as LISTEN_FDS: expected a count`,
    );
  const names = LISTEN_FDNAMES === "" ? [] : LISTEN_FDNAMES.split(":");
  const found = Array.from({ length: Number(LISTEN_FDS) }, (_, index) => ({
    descriptor: FIRST + index,
    name: names[index] ?? "unknown",
  }));
  for (const { descriptor } of found) check(fcntl(descriptor, F_SETFD, FD_CLOEXEC), "fcntl");
  for (const variable of VARIABLES) delete process.env[variable];
  return found;
}
