/**
 * The file of a Unix socket that this process has made, and removes again.
 *
 * @module
 */
import { unlink } from "../sys/unistd.ts";
import type { UnixAddress } from "../unix_address.ts";

/** A socket's file, as it was right after bind(2). */
export class OwnPath {
  /** Absolute: the working directory may change. */
  readonly #path: Buffer;
  readonly #device: bigint;
  readonly #inode: bigint;

  private constructor(path: Buffer, device: bigint, inode: bigint) {
    this.#path = path;
    this.#device = device;
    this.#inode = inode;
  }

  /** Remembers the file of an address that was just bound; undefined where it is gone already. */
  static of(address: UnixAddress): OwnPath | undefined {
    const name = Buffer.from(address.nameBytes);
    const isAbsolute = name[0] === "/".charCodeAt(0);
    const path = isAbsolute ? name : Buffer.concat([Buffer.from(`${process.cwd()}/`), name]);
    const found = lstat(path);
    return found && new OwnPath(path, found.dev, found.ino);
  }

  /** Removes the file, if it still is the one that was made. */
  remove(): void {
    const found = lstat(this.#path);
    if (found?.dev !== this.#device || found.ino !== this.#inode) return;
    // Somebody else may have removed it in this moment, and so be it.
    unlink(Buffer.concat([this.#path, Buffer.alloc(1)]));
  }
}

// Undefined also where the way there is none any more.
function lstat(path: Buffer) {
  try {
    return process.getBuiltinModule("node:fs").lstatSync(path, { bigint: true });
  } catch {
    return undefined;
  }
}
