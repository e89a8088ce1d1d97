import { ENOENT, ESPIPE } from "../../structs/constants/errno.ts";
import { SystemError, systemError } from "../error.ts";
import { describe, requireInteger, requireOptions } from "../internal/arguments.ts";
import { close } from "../sys/unistd.ts";
import {
  type CaptureFileSource,
  CaptureReader,
  type CaptureReaderOptions,
} from "./capture_reader.ts";
import {
  abandon,
  attach,
  CaptureWriter,
  type CaptureWriterOptions,
  settingsOf,
  type WriterSettings,
} from "./capture_writer.ts";
import { errnoOf, fileAddress, fs, openFile } from "./internal/capture_input.ts";
import { linkTypeNumber } from "./link_type.ts";

const FD_MAX = 2 ** 31 - 1;

/**
 * Capture files, as tcpdump and Wireshark have them: pcapng, which knows interfaces, comments and
 * statistics, and pcap, which every program reads.
 *
 * @see {@link https://www.ietf.org/archive/id/draft-ietf-opsawg-pcapng-03.html | PCAP Next Generation}
 * @see {@link https://man7.org/linux/man-pages/man5/pcap-savefile.5.html | pcap-savefile(5)}
 *
 * @example Keep what is long
 * ```ts
 * import { CaptureFile } from "bun-sockets/packet";
 *
 * using all = CaptureFile.create("/tmp/capture_file_example.pcap");
 * for (const length of [60, 1500, 900]) all.write({ bytes: new Uint8Array(length), seconds: length });
 * all.close();
 *
 * using some = CaptureFile.create("/tmp/capture_file_example.pcapng");
 * for (const packet of CaptureFile.open("/tmp/capture_file_example.pcap"))
 *   if (packet.originalLength > 800) some.write(packet);
 * console.log(some.packetCount); // 2
 * ```
 */
export class CaptureFile {
  private constructor() {}

  /**
   * Creates a capture file, in the place of one that is there. Its header is written at once, so that
   * who reads a pipe knows what comes.
   *
   * @param file a path, or a descriptor that is open for writing: it stays the caller's
   * @throws {SystemError} it cannot be opened or written; `path` says which
   * @throws {RangeError} an option is out of range; no file is touched
   * @throws {TypeError} an option is of the wrong type; neither
   *
   * @example To a descriptor: 1 would be the standard output, which `tcpdump -r -` reads
   * ```ts
   * import { closeSync, fstatSync, openSync } from "node:fs";
   * import { CaptureFile } from "bun-sockets/packet";
   *
   * const fd = openSync("/tmp/capture_file_create_example", "w");
   * const options = { format: "pcap", linkType: "raw", resolution: "us" } as const;
   * using file = CaptureFile.create(fd, options);
   * file.write({ bytes: new Uint8Array(28), seconds: 1 });
   * file.close();
   * console.log(fstatSync(fd).size); // 68
   * closeSync(fd);
   * ```
   */
  static create(file: string | number, options: CaptureWriterOptions = {}): CaptureWriter {
    const path = pathOf(file);
    const writer = new CaptureWriter(settingsOf(requireOptions(options), path), path, true);
    return begin(writer, typeof file === "string" ? openFile(file, "w") : file, path !== undefined);
  }

  /**
   * Goes on with a capture file, and creates one that is not there, or empty. A pcap file is gone on
   * with as it is: byte order, resolution, link type and limit are those that it has. A pcapng file gets a
   * new section, which has its own interfaces, once something is written.
   *
   * The file is read once, from its beginning to its end: behind damage nobody would find what is
   * appended.
   *
   * @throws {CaptureFileError} what is there is no capture file, damaged, or cut off
   * @throws {TypeError} an option says what the file is not
   * @throws {SystemError} it cannot be opened; `ESPIPE` it is no regular file
   *
   * @example
   * ```ts
   * import { CaptureFile } from "bun-sockets/packet";
   *
   * const path = "/tmp/capture_file_append_example.pcapng";
   * CaptureFile.create(path, { application: "first" }).close();
   * using file = CaptureFile.append(path, { application: "second" });
   * file.write({ bytes: new Uint8Array(60) });
   * file.close();
   *
   * using reader = CaptureFile.open(path);
   * console.log([...reader].length, reader.sections.map(({ application }) => application)); // 1 [ "first", "second" ]
   * ```
   */
  static append(path: string, options: CaptureWriterOptions = {}): CaptureWriter {
    if (typeof path !== "string")
      throw new TypeError(`Cannot use ${describe(path)} as a path: expected a string`);
    const settings = settingsOf(requireOptions(options), path);
    const fd = openExisting(path);
    if (fd === undefined) return CaptureFile.create(path, options);
    return begin(toAppend(fd, path, options, settings), fd, true);
  }

  /**
   * Opens a capture file of any format for reading, and reads what is known of it before the first
   * packet: of a pipe it waits for that, and of a named one for somebody who writes. A stream is read
   * when it is iterated.
   *
   * @param source a path; a descriptor, which stays the caller's; bytes, which are read in place and
   * must not change meanwhile; or a stream of bytes, or what has one, as a child's output or a Blob:
   * for `for await` only
   * @throws {CaptureFileError} it is no capture file, or damaged before its first packet
   * @throws {SystemError} it cannot be opened or read; `path` says which
   * @throws {TypeError} source is nothing that can be read
   * @throws {RangeError} an option is out of range
   *
   * @example From a pipe, beside everything else
   * ```ts
   * import { CaptureFile } from "bun-sockets/packet";
   *
   * using file = CaptureFile.create("/tmp/capture_file_open_example.pcap");
   * for (let i = 0; i < 3; i++) file.write({ bytes: new Uint8Array(60), seconds: i });
   * file.close();
   * const cat = Bun.spawn(["cat", "/tmp/capture_file_open_example.pcap"]);
   * let packets = 0;
   * for await (const packet of CaptureFile.open(cat.stdout)) packets += packet.originalLength / 60;
   * console.log(packets); // 3
   * ```
   */
  static open(source: CaptureFileSource, options: CaptureReaderOptions = {}): CaptureReader {
    return new CaptureReader(source, options);
  }
}

// Writes what a file begins with, and leaves nothing open where that fails.
function begin(writer: CaptureWriter, fd: number, isOwn: boolean): CaptureWriter {
  attach(writer, fd, isOwn);
  try {
    writer.flush();
    return writer;
  } catch (error) {
    abandon(writer);
    throw error;
  }
}

function pathOf(file: unknown): string | undefined {
  if (typeof file === "string") return file;
  if (typeof file !== "number")
    throw new TypeError(
      `Cannot use ${describe(file)} as a capture file: expected a path or a descriptor`,
    );
  requireInteger(file, 0, FD_MAX, "a descriptor");
  return undefined;
}

function openExisting(path: string): number | undefined {
  try {
    return openFile(path, "r+");
  } catch (error) {
    if (error instanceof SystemError && error.errno === -ENOENT) return undefined;
    throw error;
  }
}

function sizeOf(fd: number, path: string): number {
  try {
    const stats = fs().fstatSync(fd);
    if (stats.isFile()) return stats.size;
  } catch (error) {
    throw systemError(errnoOf(error), "fstat", { address: fileAddress(path) });
  }
  throw systemError(ESPIPE, "lseek", { address: fileAddress(path) });
}

function toAppend(
  fd: number,
  path: string,
  options: CaptureWriterOptions,
  settings: WriterSettings,
): CaptureWriter {
  try {
    const isEmpty = sizeOf(fd, path) === 0;
    const going = isEmpty ? settings : goingOn(fd, path, options, settings);
    return new CaptureWriter(going, path, isEmpty);
  } catch (error) {
    close(fd);
    throw error;
  }
}

// Reads a file to its end, where the descriptor then is, and says how to go on.
function goingOn(
  fd: number,
  path: string,
  options: CaptureWriterOptions,
  settings: WriterSettings,
): WriterSettings {
  const reader = new CaptureReader(fd, {}, path);
  while (reader.next());
  const { format = "pcapng", byteOrder, linkType, isModified } = reader;
  if (options.format !== undefined) requireSame("format", options.format, format, path);
  if (format === "pcapng") return { ...settings, format };
  if (isModified)
    throw new TypeError(`Cannot append to ${path}: its packets have the headers of modified pcap`);
  const [{ resolution, snapBytes } = { resolution: 0, snapBytes: 0 }] = reader.interfaces;
  const unit = resolution === 1e9 ? "ns" : "us";
  if (options.byteOrder !== undefined) requireSame("byteOrder", options.byteOrder, byteOrder, path);
  if (options.resolution !== undefined) requireSame("resolution", options.resolution, unit, path);
  for (const each of [options, ...settings.interfaces])
    if (each.linkType !== undefined)
      requireSame("linkType", linkTypeNumber(each.linkType), linkType, path);
  return {
    ...settings,
    format,
    linkType: linkType ?? settings.linkType,
    // 0 is no limit; what programs wrote there that is more than ours is none either.
    snapBytes: Math.min(snapBytes || settings.snapBytes, settings.snapBytes),
    isLittle: byteOrder === "little",
    resolution: unit,
  };
}

function requireSame(name: string, asked: unknown, is: unknown, path: string): void {
  if (asked !== is)
    throw new TypeError(`Cannot append with ${name} ${asked} to ${path}: it has ${is}`);
}
