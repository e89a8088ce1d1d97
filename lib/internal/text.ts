/**
 * The text of streams: encodings and ends of lines.
 *
 * @module
 */
import { bytesOf } from "../ffi/memory.ts";
import { describe, toView } from "./arguments.ts";

/** Turns bytes into text. */
export interface Decoder {
  /** Bytes of the smallest piece: 2 for UTF-16, else 1. */
  readonly unit: 1 | 2;
  /** Whether the text of several lines is that of each, one after the other. */
  readonly isPerByte: boolean;
  /** Whether what is no text of the encoding is an error. */
  readonly fatal: boolean;
  /** Of the bytes from `start` to `end`, which is not among them; of all of them by default. */
  decode(bytes: Uint8Array, start?: number, end?: number): string;
}

/** Turns text into bytes, and refuses what the encoding has no bytes for. */
export interface Encoder {
  /** Whether it is UTF-8. */
  readonly isUtf8: boolean;
  encode(text: string): Uint8Array;
}

/** What a line ends with, by its name. */
export type NewlineName = "any" | "lf" | "crlf" | "cr";

const LATIN1 = /^(latin1|l1|iso-?8859-1|iso_8859-1|binary)$/i;
const UTF16 = /^(utf-?16(le)?|ucs-?2)$/i;
const UTF16BE = /^utf-?16be$/i;
const ASCII = /^(us-)?ascii$/i;
const UTF8 = /^utf-?8$/i;

/**
 * A decoder by the label of its encoding: one of TextDecoder's, or "latin1" and "iso-8859-1", which
 * are that here, and not what browsers make of it.
 *
 * @throws {RangeError} the label is not known
 */
export function decoderOf(encoding: string, fatal: boolean): Decoder {
  if (typeof encoding !== "string")
    throw new TypeError(`Cannot use ${describe(encoding)} as an encoding: expected a string`);
  if (LATIN1.test(encoding)) {
    return { unit: 1, isPerByte: true, fatal: false, decode: bufferDecode("latin1") };
  }
  let decoder: TextDecoder;
  try {
    // A byte order mark is text: a line can begin with it.
    decoder = new TextDecoder(encoding as "utf-8", { fatal, ignoreBOM: true });
  } catch {
    throw new RangeError(`Cannot use ${JSON.stringify(encoding)} as an encoding: it is not known`);
  }
  // As the decoder does it, byte for byte, in half the time.
  if (decoder.encoding === "utf-8" && !fatal)
    return { unit: 1, isPerByte: true, fatal, decode: bufferDecode("utf8") };
  const isUtf16 = decoder.encoding.startsWith("utf-16");
  return {
    unit: isUtf16 ? 2 : 1,
    isPerByte: decoder.encoding === "utf-8",
    fatal,
    decode: (bytes, start, end) =>
      decoder.decode(bytes.subarray(start, end) as Uint8Array<ArrayBuffer>),
  };
}

/**
 * An encoder by the label of its encoding: UTF-8, UTF-16 in both orders, latin1, ASCII.
 *
 * @throws {RangeError} the label is not known
 */
export function encoderOf(encoding: string): Encoder {
  if (typeof encoding !== "string")
    throw new TypeError(`Cannot use ${describe(encoding)} as an encoding: expected a string`);
  if (UTF8.test(encoding)) return { isUtf8: true, encode: (text) => Buffer.from(text) };
  if (UTF16.test(encoding))
    return { isUtf8: false, encode: (text) => Buffer.from(text, "utf16le") };
  if (UTF16BE.test(encoding))
    return { isUtf8: false, encode: (text) => Buffer.from(text, "utf16le").swap16() };
  if (LATIN1.test(encoding)) return narrow(encoding, /[^\0-\xff]/u);
  if (ASCII.test(encoding)) return narrow(encoding, /[^\0-\x7f]/u);
  throw new RangeError(
    `Cannot use ${JSON.stringify(encoding)} as an encoding to send: expected "utf-8", "utf-16le", "utf-16be", "latin1" or "ascii"`,
  );
}

function narrow(encoding: string, foreign: RegExp): Encoder {
  return {
    isUtf8: false,
    encode: (text) => {
      const found = foreign.exec(text);
      if (found) {
        const point = (found[0].codePointAt(0) as number).toString(16).padStart(4, "0");
        throw new RangeError(
          `Cannot send U+${point} at ${found.index}: ${encoding} does not have it`,
        );
      }
      return Buffer.from(text, "latin1");
    },
  };
}

/** The bytes of a line's end, by its name. */
export const NEWLINES: Readonly<Record<NewlineName, string>> = {
  any: "\n",
  lf: "\n",
  crlf: "\r\n",
  cr: "\r",
};

/** Checks a `newline` option. */
export function requireNewline(newline: unknown): NewlineName {
  if (typeof newline === "string" && Object.hasOwn(NEWLINES, newline))
    return newline as NewlineName;
  const given = typeof newline === "string" ? JSON.stringify(newline) : describe(newline);
  throw new TypeError(`Cannot use ${given} as newline: expected "any", "lf", "crlf" or "cr"`);
}

/** The bytes of a delimiter: those given, or those of a text. */
export function delimiterBytes(delimiter: ArrayBufferView | string, encoder: Encoder): Uint8Array {
  const bytes =
    typeof delimiter === "string"
      ? encoder.encode(delimiter)
      : bytesOf(toView(delimiter, "a delimiter")).slice();
  if (bytes.length === 0)
    throw new RangeError("Cannot use an empty delimiter: expected 1 byte or more");
  return bytes;
}

function bufferDecode(encoding: "latin1" | "utf8"): Decoder["decode"] {
  return (bytes, start, end) =>
    (bytes instanceof Buffer ? bytes : asBuffer(bytes)).toString(encoding, start, end);
}

/** The same memory, as a Buffer. Not exported: its type is Bun's, and no part of the package's. */
function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer as ArrayBuffer, bytes.byteOffset, bytes.byteLength);
}
