import { requireInteger } from "../../internal/arguments.ts";
import { write8, write16, write32 } from "./header.ts";

/**
 * How the options of a header are written: `tcp` is how IPv4 and TCP do, with an end (0), a filler
 * of one byte (1) and lengths of the whole option; `ipv6` is how hop-by-hop and destination headers
 * do, with a filler of one byte (0) and lengths of the value; `neighbour` is how neighbour discovery
 * does, with lengths of the whole in units of 8 bytes and no filler.
 */
export type OptionForm = "tcp" | "ipv6" | "neighbour";

/**
 * Walks the options of a header, in place and without allocation. Made by its header, once; the
 * header's `options` rewinds it.
 *
 * ```
 * const options = tcp.options;
 * while (options.next()) if (options.kind === 2) mss = options.uint16(0);
 * ```
 *
 * It ends at the end of the options, and before the first that does not fit: `isDamaged` tells.
 *
 * @see {@link https://www.rfc-editor.org/rfc/rfc9293#section-3.1 | RFC 9293 section 3.1}
 * @see {@link https://www.rfc-editor.org/rfc/rfc8200#section-4.2 | RFC 8200 section 4.2}
 * @see {@link https://www.rfc-editor.org/rfc/rfc4861#section-4.6 | RFC 4861 section 4.6}
 */
export class HeaderOptions {
  // The byte that is a filler, and the one that is the end; -1 is none.
  readonly #filler: number;
  readonly #last: number;
  // How the byte of length counts.
  readonly #unit: number;
  readonly #more: number;
  #view: DataView;
  #end = 0;
  #next = 0;
  #at = 0;
  #bytes = 0;
  #damaged = false;

  /** Makes a walk over nothing. */
  constructor(form: OptionForm, view: DataView) {
    this.#filler = form === "tcp" ? 1 : form === "ipv6" ? 0 : -1;
    this.#last = form === "tcp" ? 0 : -1;
    this.#unit = form === "neighbour" ? 8 : 1;
    this.#more = form === "ipv6" ? 2 : 0;
    this.#view = view;
  }

  /** Begins at the first option of those between two offsets of a view. For headers. */
  rewind(view: DataView, start: number, end: number): this {
    this.#view = view;
    this.#next = start;
    this.#end = end;
    this.#at = start;
    this.#bytes = 0;
    this.#damaged = false;
    return this;
  }

  /** Moves to the next option, and tells whether there is one. Fillers are passed over. */
  next(): boolean {
    const view = this.#view;
    const end = this.#end;
    let at = this.#next;
    while (at < end) {
      const kind = view.getUint8(at);
      if (kind === this.#filler) {
        at++;
        continue;
      }
      if (kind === this.#last) return this.#finish(false);
      // Every other option has a length.
      const left = end - at;
      const bytes = left < 2 ? 0 : view.getUint8(at + 1) * this.#unit + this.#more;
      if (bytes < 2 || bytes > left) return this.#finish(true);
      this.#at = at;
      this.#bytes = bytes;
      this.#next = at + bytes;
      return true;
    }
    return this.#finish(false);
  }

  #finish(isDamaged: boolean): false {
    this.#next = this.#end;
    this.#bytes = 0;
    this.#damaged ||= isDamaged;
    return false;
  }

  /** What the option is, 0 to 255; 0 where there is none. */
  get kind(): number {
    return this.#bytes === 0 ? 0 : this.#view.getUint8(this.#at);
  }

  /** Where the option begins in the memory: at its kind. */
  get offset(): number {
    return this.#at;
  }

  /** The length of the whole option in bytes, kind and length included; 0 where there is none. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Where its value begins. */
  get valueOffset(): number {
    return this.#at + Math.min(2, this.#bytes);
  }

  /** The length of its value in bytes. */
  get valueBytes(): number {
    return Math.max(0, this.#bytes - 2);
  }

  /** Whether the walk has ended at an option that does not fit, or says an impossible length. */
  get isDamaged(): boolean {
    return this.#damaged;
  }

  /** A byte of the value, by its place in it; 0 where the value is shorter. */
  uint8(index: number): number {
    return this.#has(index, 1) ? this.#view.getUint8(this.valueOffset + index) : 0;
  }

  /** 16 bits of the value in network byte order, by the place of the first byte; 0 likewise. */
  uint16(index: number): number {
    return this.#has(index, 2) ? this.#view.getUint16(this.valueOffset + index) : 0;
  }

  /** 32 bits of the value in network byte order, by the place of the first byte; 0 likewise. */
  uint32(index: number): number {
    return this.#has(index, 4) ? this.#view.getUint32(this.valueOffset + index) : 0;
  }

  /**
   * Sets a byte of the value.
   *
   * @throws {RangeError} the value is shorter, or the number is no byte
   */
  setUint8(index: number, value: number): void {
    this.#require(index, 1);
    write8(this.#view, this.valueOffset + index, value, "a byte of an option");
  }

  /** Sets 16 bits of the value. Throws as `setUint8` does. */
  setUint16(index: number, value: number): void {
    this.#require(index, 2);
    write16(this.#view, this.valueOffset + index, value, "16 bits of an option");
  }

  /** Sets 32 bits of the value. Throws as `setUint8` does. */
  setUint32(index: number, value: number): void {
    this.#require(index, 4);
    write32(this.#view, this.valueOffset + index, value, "32 bits of an option");
  }

  #has(index: number, bytes: number): boolean {
    return typeof index === "number" && index >>> 0 === index && index + bytes <= this.valueBytes;
  }

  #require(index: number, bytes: number): void {
    if (this.#has(index, bytes)) return;
    requireInteger(index, 0, 0xffff, "a place in an option");
    throw new RangeError(
      `Cannot set ${bytes} bytes at ${index} of an option: its value has ${this.valueBytes}`,
    );
  }
}
