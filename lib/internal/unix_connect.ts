/**
 * What Unix sockets with connections share.
 *
 * @module
 */
import { AF_UNIX } from "../../structs/constants/sys_socket.ts";
import { toAddress } from "../address.ts";
import type { Socket } from "../socket.ts";
import { UnixAddress } from "../unix_address.ts";
import type {
  UnixConnectOptions,
  UnixConnectSyncOptions,
  UnixSocketOptions,
} from "../unix_socket.ts";
import { requireOptions, requireSignal } from "./arguments.ts";
import { deadlineAfter } from "./deadline.ts";
import { copyOptions, openParts, orClose, type Parts } from "./parts.ts";

/** Makes a socket of its class. */
type Make<Made> = (parts: Parts) => Made;

/** Takes a Unix address, its text, or a path that can be nothing else. */
export function toUnixAddress(value: UnixAddress | string): UnixAddress {
  const isPath = typeof value === "string" && /^[./]/.test(value);
  return isPath ? new UnixAddress(value) : (toAddress(value, AF_UNIX) as UnixAddress);
}

/** Opens a socket that is not connected. */
export function openUnix<Made extends Socket<UnixAddress>>(
  type: number,
  options: UnixSocketOptions,
  make: Make<Made>,
): Made {
  const copy = copyOptions(options, AF_UNIX);
  const unix = make(openParts(AF_UNIX, type, 0, copy));
  return orClose(unix, () => copy.configure?.(unix));
}

/** Opens a socket and connects it. */
export async function connectUnix<Made extends Socket<UnixAddress>>(
  type: number,
  address: UnixAddress | string,
  options: UnixConnectOptions = {},
  make: Make<Made>,
): Promise<Made> {
  const signal = requireSignal(requireOptions(options).signal);
  signal?.throwIfAborted();
  const { peer, timeoutMs, open } = prepare(type, address, options, make);
  const unix = open();
  try {
    await unix.connect(peer, { timeoutMs, signal });
    return unix;
  } catch (error) {
    unix.close();
    throw error;
  }
}

/** Opens a socket and connects it, and blocks meanwhile. */
export function connectUnixSync<Made extends Socket<UnixAddress>>(
  type: number,
  address: UnixAddress | string,
  options: UnixConnectSyncOptions = {},
  make: Make<Made>,
): Made {
  const { peer, timeoutMs, open } = prepare(type, address, options, make);
  const unix = open();
  return orClose(unix, () => unix.connectSync(peer, { timeoutMs }));
}

function prepare<Made extends Socket<UnixAddress>>(
  type: number,
  address: UnixAddress | string,
  options: UnixConnectSyncOptions,
  make: Make<Made>,
): { peer: UnixAddress; timeoutMs: number | undefined; open: () => Made } {
  const peer = toUnixAddress(address);
  const { localAddress, timeoutMs } = requireOptions(options);
  deadlineAfter(timeoutMs);
  const local = localAddress === undefined ? undefined : toUnixAddress(localAddress);
  const open = (): Made => {
    const unix = openUnix(type, options, make);
    return orClose(unix, () => {
      if (local) unix.bind(local);
    });
  };
  return { peer, timeoutMs, open };
}
