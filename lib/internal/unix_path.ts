/**
 * Binding a Unix socket to a path: the permissions of its file, and files that were left behind.
 *
 * @module
 */
import { EADDRINUSE, ECONNREFUSED } from "../../structs/constants/errno.ts";
import { AT_FDCWD } from "../../structs/constants/fcntl.ts";
import { RENAME_EXCHANGE } from "../../structs/constants/stdio.ts";
import {
  AF_UNIX,
  SOCK_CLOEXEC,
  SOCK_DGRAM,
  SOCK_NONBLOCK,
} from "../../structs/constants/sys_socket.ts";
import { check, SystemError } from "../error.ts";
import type { Socket } from "../socket.ts";
import { bind, connect, socket } from "../sys/socket.ts";
import { chmod, fchmod } from "../sys/stat.ts";
import { renameat2 } from "../sys/stdio.ts";
import { unlink } from "../sys/unistd.ts";
import { UnixAddress } from "../unix_address.ts";
import { Descriptor } from "./descriptor.ts";

/**
 * Binds a socket to an address; `mode` and `removeStale` are for those with a path.
 *
 * @throws {SystemError} `EADDRINUSE` somebody receives there, or the file is no socket's
 */
export function bindPath(
  unix: Socket<UnixAddress, UnixAddress>,
  local: UnixAddress,
  mode: number | undefined,
  removeStale: boolean,
): void {
  // The file that bind(2) makes has the permissions of the socket, without the umask's bits: at no
  // time are they wider than asked for.
  if (mode !== undefined) check(fchmod(unix.descriptor, mode), "fchmod");
  try {
    unix.bind(local);
  } catch (error) {
    if (!removeStale || !(error instanceof SystemError) || error.errno !== -EADDRINUSE) throw error;
    if (!removeStaleFile(local)) throw error;
    unix.bind(local);
  }
  if (mode === undefined) return;
  const result = chmod(pathOf(local), mode);
  if (result === 0) return;
  unlink(pathOf(local));
  check(result, "chmod", { address: local, unix: true });
}

/**
 * Removes the file of a closed socket. Returns false, with everything as it was, when it is not one.
 *
 * Somebody else may bind to the path at any moment. So a socket of ours under a temporary name
 * changes places with the file in one step, and only what is then under the temporary name, where
 * nobody else looks, is examined once more and removed. Until the path is bound again a connect(2) is
 * refused, as before.
 */
function removeStaleFile(local: UnixAddress): boolean {
  if (!isStale(local)) return false;
  const temporary = temporaryName(local);
  const guard = open();
  try {
    check(bind(guard.fd, temporary.bytes), "bind", { address: temporary, unix: true });
    try {
      exchange(temporary, local);
      if (!isStale(temporary)) {
        exchange(temporary, local);
        return false;
      }
      check(unlink(pathOf(local)), "unlink", { address: local, unix: true });
      return true;
    } finally {
      unlink(pathOf(temporary));
    }
  } finally {
    guard.close();
  }
}

function open(): Descriptor {
  return new Descriptor(socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), "socket");
}

// Whether the path is a socket's file and nobody has it open. connect(2) is refused by a stale file
// whatever its type was, but also by a file of another kind.
function isStale(address: UnixAddress): boolean {
  const { lstatSync } = process.getBuiltinModule("node:fs");
  const status = lstatSync(Buffer.from(address.nameBytes), { throwIfNoEntry: false });
  if (!status?.isSocket()) return false;
  const probe = open();
  try {
    return connect(probe.fd, address.bytes) === -ECONNREFUSED;
  } finally {
    probe.close();
  }
}

function exchange(left: UnixAddress, right: UnixAddress): void {
  const result = renameat2(AT_FDCWD, pathOf(left), AT_FDCWD, pathOf(right), RENAME_EXCHANGE);
  check(result, "renameat2", { address: right, unix: true });
}

// In the same folder, so that it is on the same file system.
function temporaryName(local: UnixAddress): UnixAddress {
  const path = Buffer.from(local.nameBytes);
  const folder = path.subarray(0, path.lastIndexOf("/") + 1);
  const random = crypto.getRandomValues(new Uint8Array(4)).toHex();
  return UnixAddress.fromPath(Buffer.concat([folder, Buffer.from(`.${random}`)]));
}

function pathOf(address: UnixAddress): Uint8Array {
  return Buffer.concat([address.nameBytes, new Uint8Array(1)]);
}
