/**
 * A capture file that is damaged, cut off, or none: what of it could be read has been read.
 *
 * Thrown after every packet before the damage was given. What the system says of the file, as that it
 * does not exist, is a `SystemError` instead.
 *
 * @example A file that was cut off
 * ```ts
 * import { CaptureFile, CaptureFileError } from "bun-sockets/packet";
 *
 * const header = Buffer.from("d4c3b2a1020004000000000000000000ffff000001000000", "hex");
 * const bytes = Buffer.concat([header, Buffer.from("0000000000000000030000000300", "hex")]);
 * try {
 *   for (const packet of CaptureFile.open(bytes)) console.log(packet);
 * } catch (error) {
 *   if (!(error instanceof CaptureFileError)) throw error;
 *   console.log(error.offset, error.path); // 24 undefined
 *   console.log(error.message); // Cannot read on at byte 24: the file ends within a packet
 * }
 * ```
 */
export class CaptureFileError extends Error {
  override name = "CaptureFileError";
  /** Where the damage begins, in bytes from the beginning of the file. */
  readonly offset: number;
  /** The path of the file, where it was opened by one. */
  declare readonly path?: string;

  /**
   * @param offset where the damage begins, in bytes from the beginning of the file
   * @param reason what is wrong there
   * @param path the file, where it has a path
   */
  constructor(offset: number, reason: string, path?: string) {
    super(`Cannot read on at byte ${offset}${path === undefined ? "" : ` of ${path}`}: ${reason}`);
    this.offset = offset;
    if (path !== undefined) this.path = path;
  }
}
