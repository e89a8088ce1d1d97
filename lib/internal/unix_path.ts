/**
 * Binding a Unix socket to a path: the permissions of its file, and files that were left behind.
 *
 * @module
 */
import { EADDRINUSE, ECONNREFUSED, ENOENT } from "../../structs/constants/errno.ts";
import { AT_FDCWD, O_PATH } from "../../structs/constants/fcntl.ts";
import { RENAME_EXCHANGE, RENAME_NOREPLACE } from "../../structs/constants/stdio.ts";
import {
  AF_UNIX,
  SOCK_CLOEXEC,
  SOCK_DGRAM,
  SOCK_NONBLOCK,
} from "../../structs/constants/sys_socket.ts";
import { sockaddr_un } from "../../structs/sockaddr_un.ts";
import { check, SystemError, type SystemErrorDetails, systemError } from "../error.ts";
import type { Socket } from "../socket.ts";
import { bind, connect, socket } from "../sys/socket.ts";
import { chmod, fchmod } from "../sys/stat.ts";
import { renameat2 } from "../sys/stdio.ts";
import { unlink } from "../sys/unistd.ts";
import { UnixAddress } from "../unix_address.ts";
import { Descriptor } from "./descriptor.ts";

const PATH_BYTES_MAX = sockaddr_un.sun_path.size;

/**
 * Binds a socket to an address; `mode` and `removeStale` are for those with a path.
 *
 * @throws {SystemError} `EADDRINUSE` somebody receives there, or the file is no socket's: the hint
 * tells which
 */
export function bindPath(
  unix: Pick<Socket<UnixAddress>, "descriptor" | "bind">,
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
    if (!removeStaleFile(local)) throw inUse(local);
    unix.bind(local);
  }
  if (mode === undefined) return;
  const result = chmod(pathOf(local), mode);
  if (result === 0) return;
  unlink(pathOf(local));
  check(result, "chmod", { address: local, unix: true });
}

// To recommend removeStale once more would be no help.
function inUse(address: UnixAddress): SystemError {
  const hint = lstat(pathOf(address))?.isSocket()
    ? "Somebody has the socket at that path open: it is not stale"
    : "What lies at that path is no socket: removeStale leaves it alone";
  return new SystemError(EADDRINUSE, "bind", { address, unix: true, hint });
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
  using probe = open();
  if (!isStale(local, probe)) return false;
  using place = makePlace(local);
  const { address: temporary } = place;
  using _guard = guardAt(temporary);
  const [from, to] = [pathOf(temporary), pathOf(local)];
  const details = { address: local, unix: true };
  const guardInode = inodeOf(from);
  const result = renameat2(AT_FDCWD, from, AT_FDCWD, to, RENAME_EXCHANGE);
  if (result < 0) {
    unlink(from);
    // Where the file is gone already, nothing is in the way.
    if (result !== -ENOENT) check(result, "renameat2", details);
    return true;
  }
  // Whatever goes wrong from here on, both get their places back.
  let removed = false;
  try {
    if (!isStale(temporary, probe)) return false;
    check(unlink(from), "unlink", details);
    removed = true;
  } finally {
    if (!removed) giveBack(from, to, guardInode);
  }
  return removeGuard(from, to, guardInode, details);
}

// Moved aside before it is looked at, so that it is nobody else's that is removed: somebody may have
// removed the guard and bound to the path himself.
function removeGuard(
  from: Uint8Array,
  to: Uint8Array,
  guardInode: number | undefined,
  details: SystemErrorDetails,
): boolean {
  const moved = renameat2(AT_FDCWD, to, AT_FDCWD, from, RENAME_NOREPLACE);
  if (moved === -ENOENT) return true;
  check(moved, "renameat2", details);
  if (inodeOf(from) !== guardInode) {
    renameat2(AT_FDCWD, from, AT_FDCWD, to, RENAME_NOREPLACE);
    return false;
  }
  const removed = unlink(from);
  // Nobody is to find a file of ours there, also where that has failed.
  if (removed < 0) unlink(from);
  check(removed, "unlink", details);
  return true;
}

// The file that lies under the temporary name gets its path back, where our guard is. If somebody
// has bound there meanwhile, he keeps it.
function giveBack(from: Uint8Array, to: Uint8Array, guardInode: number | undefined): void {
  if (renameat2(AT_FDCWD, from, AT_FDCWD, to, RENAME_EXCHANGE) < 0) {
    const isGuard = inodeOf(to) === guardInode;
    renameat2(AT_FDCWD, from, AT_FDCWD, to, isGuard ? 0 : RENAME_NOREPLACE);
    return;
  }
  if (inodeOf(from) === guardInode) unlink(from);
  else renameat2(AT_FDCWD, from, AT_FDCWD, to, RENAME_EXCHANGE);
}

function open(): Descriptor {
  return new Descriptor(socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), "socket");
}

// A socket that receives at the address, so that nobody takes the file for a stale one.
function guardAt(address: UnixAddress): Descriptor {
  const guard = open();
  const result = bind(guard.fd, address.bytes);
  if (result === 0) return guard;
  guard.close();
  throw systemError(result, "bind", { address, unix: true });
}

// Whether the path is a socket's file and nobody has it open. connect(2) is refused by a stale file
// whatever its type was, but also by a file of another kind.
function isStale(address: UnixAddress, probe: Descriptor): boolean {
  return (
    lstat(pathOf(address))?.isSocket() === true &&
    connect(probe.fd, address.bytes) === -ECONNREFUSED
  );
}

function lstat(path: Uint8Array) {
  return fs().lstatSync(Buffer.from(path.subarray(0, -1)), { throwIfNoEntry: false });
}

function inodeOf(path: Uint8Array): number | undefined {
  return lstat(path)?.ino;
}

function fs() {
  return process.getBuiltinModule("node:fs");
}

/** A temporary name, and what makes it short. */
interface Place extends Disposable {
  readonly address: UnixAddress;
}

// In the same folder, so that it is on the same file system; through the folder's descriptor where
// the path would not fit an address.
function makePlace(local: UnixAddress): Place {
  const path = Buffer.from(local.nameBytes);
  const folder = path.subarray(0, path.lastIndexOf("/") + 1);
  const name = Buffer.from(`.${crypto.getRandomValues(new Uint8Array(4)).toHex()}`);
  if (folder.length + name.length <= PATH_BYTES_MAX) {
    const address = UnixAddress.fromPath(Buffer.concat([folder, name]));
    return { address, [Symbol.dispose]() {} };
  }
  const descriptor = fs().openSync(folder, O_PATH);
  return {
    address: new UnixAddress(`/proc/self/fd/${descriptor}/${name}`),
    [Symbol.dispose]: () => fs().closeSync(descriptor),
  };
}

/** The path as C takes it, with its NUL. */
function pathOf(address: UnixAddress): Uint8Array {
  return Buffer.concat([address.nameBytes, new Uint8Array(1)]);
}
