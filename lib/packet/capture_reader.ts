import { EBUSY } from "../../structs/constants/errno.ts";
import { ClosedError, SystemError } from "../error.ts";
import { bytesOf } from "../ffi/memory.ts";
import { describe, requireInteger, requireOptions, toView } from "../internal/arguments.ts";
import { hasTime } from "../internal/turn.ts";
import type { CaptureInterface, CaptureSection } from "./capture_interface.ts";
import { CapturedPacket } from "./captured_packet.ts";
import {
  type ByteStream,
  CaptureInput,
  type CaptureSource,
  DescriptorSource,
  fileAddress,
  MemorySource,
  openFile,
  StreamSource,
} from "./internal/capture_input.ts";
import { CaptureTables } from "./internal/capture_tables.ts";
import { CapturedFrame, type CaptureParser, END, MORE, PACKET } from "./internal/captured_frame.ts";
import { type PcapFormat, PcapParser, pcapFormat } from "./internal/pcap.ts";
import { PcapngParser } from "./internal/pcapng.ts";
import { Block } from "./internal/pcapng_format.ts";

/** The formats of capture files. */
export type CaptureFormat = "pcapng" | "pcap";

/** Where a capture file can be read from: see `CaptureFile.open`. */
export type CaptureFileSource =
  | string
  | number
  | ArrayBufferView
  | ArrayBuffer
  | AsyncIterable<Uint8Array>
  | { stream(): AsyncIterable<Uint8Array> };

/** What the reader of a capture file can be told. */
export interface CaptureReaderOptions {
  /**
   * How long a packet, or a block of any kind that is read, may be, in bytes; default 16 MiB. A file
   * that has a longer one is taken for damaged: a length that lies must not cost memory.
   */
  readonly limitBytes?: number | undefined;
}

const LIMIT_BYTES = 16 << 20;
const LIMIT_BYTES_MAX = 1 << 30;
/** The shortest that tells a format. */
const MAGIC_BYTES = 4;
const FD_MAX = 2 ** 31 - 1;
const GZIP = 0x8b1f;
/** Packets that are given between two looks at the clock. */
const PACKETS_A_LOOK = 32;

/**
 * Reads a capture file from its beginning to its end, once: pcapng, and pcap in every byte order and
 * resolution. `CaptureFile.open` makes it.
 *
 * `for (const packet of reader)` gives packets one by one, and `for await` does so without blocking
 * the thread. Their bytes are views of what was read, made for each packet; what a view was given of is
 * never overwritten, so packets may be kept. The cursor of `next()`, `bytes`, `offset`, `length` … makes
 * nothing for a packet: there the memory is used again, and holds what it tells until the next step.
 * Both go over the same file: each goes on where the other was.
 *
 * Memory: one piece of 1 MiB at a time, whatever the length of the file, and as much as is kept of
 * interfaces and names.
 *
 * Lifetime: its descriptor is closed when the end, or damage, is reached, by `close`, and by `using`. A
 * loop that is left before leaves it open, so that another goes on; some time after the reader was dropped
 * so it is closed too. What is known of the file, and packets that were given, stay.
 *
 * @example
 * ```ts
 * import { CaptureFile } from "bun-sockets/packet";
 *
 * const path = "/tmp/capture_reader_example.pcapng";
 * using file = CaptureFile.create(path, { interfaces: [{ name: "eth0" }] });
 * file.write({ bytes: new Uint8Array(60), seconds: 1, nanoseconds: 5, comment: "the first" });
 * file.close();
 *
 * using reader = CaptureFile.open(path);
 * console.log(reader.format, reader.linkType, reader.interfaces[0]?.name); // pcapng 1 eth0
 * for (const packet of reader) console.log(packet.bytes.length, packet.comment); // 60 the first
 * ```
 */
export class CaptureReader implements Disposable {
  readonly #input: CaptureInput;
  readonly #source: CaptureSource;
  readonly #limitBytes: number;
  readonly #tables = new CaptureTables();
  readonly #frame = new CapturedFrame();
  #parser: CaptureParser | undefined;
  #format: CaptureFormat | undefined;
  #pcap: PcapFormat | undefined;
  #failure: { readonly error: unknown } | undefined;
  #isOver = false;
  #isClosed = false;
  /** What wakes a loop that waits for bytes, when it is closed. */
  #interrupt: (() => void) | undefined;

  /** Not for callers: `CaptureFile.open` makes it. */
  constructor(source: CaptureFileSource, options: CaptureReaderOptions = {}, path?: string) {
    const { limitBytes = LIMIT_BYTES } = requireOptions(options);
    requireInteger(limitBytes, 1, LIMIT_BYTES_MAX, "limitBytes");
    this.#limitBytes = limitBytes;
    this.#input = new CaptureInput(typeof source === "string" ? source : path);
    this.#source = openSource(source, this.#input);
    // What is known of a file is known when it is open, but of a stream nothing has come yet.
    if (this.#source.read !== undefined) this.#readHeader();
  }

  /** The path of the file, where it was opened by one. */
  get path(): string | undefined {
    return this.#input.path;
  }

  /** The format. Of a stream undefined until its beginning has come, as what follows. */
  get format(): CaptureFormat | undefined {
    return this.#format;
  }

  /** The byte order: of pcapng that of the section that is being read. */
  get byteOrder(): "little" | "big" | undefined {
    return this.#tables.sections.at(-1)?.byteOrder;
  }

  /** Whether it is pcap with the longer packet headers of Alexey Kuznetzov's. */
  get isModified(): boolean {
    return this.#pcap?.isModified ?? false;
  }

  /** The link type of the first interface: what frames begin with, one of `LinkType`. */
  get linkType(): number | undefined {
    return this.#tables.interfaces[0]?.linkType;
  }

  /**
   * The interfaces that were described so far, of all sections. `Packet.interface` is an index in it.
   * pcap has one.
   */
  get interfaces(): readonly CaptureInterface[] {
    return this.#tables.interfaces;
  }

  /** The sections that have begun so far. pcap has one. */
  get sections(): readonly CaptureSection[] {
    return this.#tables.sections;
  }

  /** The names of addresses that the file has told so far: by the text of the address. */
  get names(): ReadonlyMap<string, ReadonlySet<string>> {
    return this.#tables.names;
  }

  /** Where the next step begins, in bytes from the beginning of the file. */
  get position(): number {
    return this.#input.base + this.#input.start;
  }

  /**
   * Goes on to the next packet, for the properties that follow: they are its own until the next step.
   * Blocks the thread while a pipe has nothing.
   *
   * @returns false at the end of the file
   * @throws {CaptureFileError} the file is damaged here; again at each further call
   * @throws {SystemError} it could not be read; `EBUSY` a promise of it waits
   * @throws {ClosedError} it was closed before its end
   * @throws {TypeError} it is read from a stream, which has `for await` only
   *
   * @example Count, by length, and make nothing for a packet
   * ```ts
   * import { CaptureFile } from "bun-sockets/packet";
   *
   * const header = Buffer.from("d4c3b2a1020004000000000000000000ffff000001000000", "hex");
   * const packet = Buffer.from("01000000020000000300000003000000aabbcc", "hex");
   * using reader = CaptureFile.open(Buffer.concat([header, packet, packet]));
   * let bytes = 0;
   * while (reader.next()) bytes += reader.length;
   * console.log(bytes, reader.bytes[reader.offset]); // 6 170
   * ```
   */
  next(): boolean {
    for (;;) {
      const step = this.#step();
      if (step !== MORE) return step === PACKET;
      this.#fill();
    }
  }

  /** The memory that `offset` counts in. */
  get bytes(): Uint8Array {
    return this.#input.bytes;
  }

  /** The same memory. */
  get view(): DataView {
    return this.#input.view;
  }

  /** Where the bytes of the packet begin in `bytes`. */
  get offset(): number {
    return this.#frame.offset;
  }

  /** How many bytes of the packet there are. */
  get length(): number {
    return this.#frame.length;
  }

  /** Where it ends in `bytes`: `offset + length`, as header views want it. */
  get end(): number {
    return this.#frame.offset + this.#frame.length;
  }

  /** How long it was, in bytes. */
  get originalLength(): number {
    return this.#frame.originalLength;
  }

  /** When it was captured: seconds since 1970. 0 where the file does not say when. */
  get seconds(): number {
    return this.#frame.seconds;
  }

  /** And nanoseconds, 0 to 999,999,999. */
  get nanoseconds(): number {
    return this.#frame.nanoseconds;
  }

  /** Its interface: an index in `interfaces`. */
  get interface(): number {
    return this.#frame.interface;
  }

  /** What the file says of it. */
  get comment(): string | undefined {
    return this.#frame.comment;
  }

  /** The packet of the cursor, as the loops give it. */
  packet(): CapturedPacket {
    const frame = this.#frame;
    const { bytes } = this.#input;
    this.#input.isLent = true;
    return new CapturedPacket({
      bytes: bytes.subarray(frame.offset, frame.offset + frame.length),
      originalLength: frame.originalLength,
      seconds: frame.hasTime ? frame.seconds : undefined,
      nanoseconds: frame.hasTime ? frame.nanoseconds : undefined,
      interface: frame.interface,
      linkType: this.#tables.interfaces[frame.interface]?.linkType ?? 0,
      offset: frame.recordOffset,
      comment: frame.comment,
      flags: frame.flags,
      dropCount: frame.dropCount,
    });
  }

  /**
   * Every packet from here on, blocking the thread while a pipe has nothing.
   *
   * @throws what `next` throws
   */
  *[Symbol.iterator](): IterableIterator<CapturedPacket> {
    while (this.next()) {
      yield this.packet();
      if (this.#isClosed) return;
    }
  }

  /**
   * Every packet from here on, without blocking the thread: what is read is read by Bun's own threads,
   * or comes from the stream.
   *
   * @throws what `next` throws, and what the stream does
   */
  async *[Symbol.asyncIterator](): AsyncIterableIterator<CapturedPacket> {
    for (let given = 1; ; given++) {
      const step = this.#step();
      if (step === END) return;
      if (step === PACKET) yield this.packet();
      else await this.#fillLater();
      if (this.#isClosed) return;
      // Others of this thread want their turn too.
      if (given % PACKETS_A_LOOK === 0 && !hasTime()) await new Promise((go) => setImmediate(go));
    }
  }

  /**
   * Lets go of the file. A loop that is under way ends, also one that waits. Packets that were given stay
   * as they are. Does nothing the second time.
   */
  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#source.close();
    this.#interrupt?.();
  }

  /** Closes at the end of a `using` block. */
  [Symbol.dispose](): void {
    this.close();
  }

  #readHeader(): void {
    try {
      while (this.#step(true) === MORE) this.#fill();
    } catch (error) {
      this.close();
      throw error;
    }
  }

  #step(stopsEarly = false) {
    if (this.#failure) throw this.#failure.error;
    if (this.#interrupt) throw new SystemError(EBUSY, "read", { address: this.#address });
    if (this.#isOver) return END;
    if (this.#isClosed) throw this.#closedError();
    try {
      this.#parser ??= this.#recognize();
      if (this.#parser === undefined) return MORE;
      const step = this.#parser.step(this.#input, this.#frame, stopsEarly);
      if (step === END && !stopsEarly) this.#end();
      return step;
    } catch (error) {
      this.#failure = { error };
      this.#source.close();
      throw error;
    }
  }

  #end(): void {
    this.#isOver = true;
    this.#source.close();
  }

  #recognize(): CaptureParser | undefined {
    const input = this.#input;
    if (!input.has(MAGIC_BYTES)) {
      if (!input.ended) return undefined;
      const isEmpty = input.start === input.end;
      throw input.damaged(0, isEmpty ? "the file is empty" : "the file ends within its header");
    }
    const magic = input.view.getUint32(input.start, true);
    if (magic === Block.section) {
      this.#format = "pcapng";
      return new PcapngParser(this.#tables, this.#limitBytes);
    }
    this.#pcap = pcapFormat(magic);
    if (this.#pcap !== undefined) {
      this.#format = "pcap";
      return new PcapParser(this.#pcap, this.#tables, this.#limitBytes);
    }
    if ((magic & 0xffff) === GZIP)
      throw input.damaged(0, "it is compressed: expected gunzip before");
    throw input.damaged(0, "it begins neither as pcapng nor as pcap does");
  }

  #fill(): void {
    const input = this.#input;
    if (this.#source.read === undefined)
      throw new TypeError("Cannot block the thread for a stream: expected for await");
    const count = input.ended ? 0 : this.#source.read(this.#isMemory ? EMPTY : input.room());
    input.end += count;
    input.ended = count === 0;
  }

  async #fillLater(): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    this.#interrupt = resolve;
    this.#source.readLater(this.#input).then(resolve, reject);
    try {
      await promise;
    } catch (error) {
      // Closing ends the loop.
      if (!this.#isClosed) throw error;
    } finally {
      this.#interrupt = undefined;
    }
  }

  get #isMemory(): boolean {
    return this.#source instanceof MemorySource;
  }

  get #address() {
    return fileAddress(this.path);
  }

  #closedError(): ClosedError {
    return closedError("read", this.path);
  }
}

const EMPTY = new Uint8Array(0);

/** The error of a call on a capture file that was closed. */
export function closedError(syscall: string, path: string | undefined): ClosedError {
  const error = new ClosedError(syscall, { address: fileAddress(path) });
  error.message = error.message.replace(": the socket is closed", ": the file is closed");
  return error;
}

function openSource(source: CaptureFileSource, input: CaptureInput): CaptureSource {
  if (typeof source === "string") return new DescriptorSource(openFile(source, "r"), source, true);
  if (typeof source === "number") {
    requireInteger(source, 0, FD_MAX, "a descriptor");
    return new DescriptorSource(source, input.path, false);
  }
  if (ArrayBuffer.isView(source) || source instanceof ArrayBuffer) {
    input.lookAt(bytesOf(toView(source, "a capture file")));
    return new MemorySource();
  }
  if (source instanceof Object && Symbol.asyncIterator in source)
    return new StreamSource(source as ByteStream);
  if (source instanceof Object && typeof source.stream === "function")
    return new StreamSource(source.stream());
  throw new TypeError(
    `Cannot use ${describe(source)} as a capture file: expected a path, a descriptor, bytes, or a stream of them`,
  );
}
