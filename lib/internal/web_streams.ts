/**
 * The Web Streams of a socket.
 *
 * @module
 */
import type { SocketReader } from "../socket_reader.ts";
import type { SocketWriter } from "../socket_writer.ts";

// Not every project has the types of Web Streams: they are taken from where it has them.
type Global<Name extends string> = typeof globalThis extends {
  readonly [Key in Name]: { readonly prototype: infer Instance };
}
  ? Instance
  : unknown;

/** A ReadableStream of bytes, of the types that the project has. */
export type WebReadable = Global<"ReadableStream">;
/** A WritableStream of chunks, of the types that the project has. */
export type WebWritable = Global<"WritableStream">;

type Chunk = ArrayBufferView | ArrayBuffer | string;

/** Memory for a reader that brings none. */
const CHUNK_BYTES = 1 << 16;
const HIGH_WATER_BYTES = 1 << 16;

/**
 * Makes a byte stream of a reader.
 *
 * @param shutdown ends the direction, when the stream is cancelled
 * @param onEnd called once, when the stream has ended in whatever way
 */
export function openReadable(
  reader: SocketReader,
  shutdown: () => void,
  onEnd: () => void,
): WebReadable {
  const over = new AbortController();
  const end = once(onEnd);
  return new ReadableStream({
    type: "bytes",
    autoAllocateChunkSize: CHUNK_BYTES,
    async pull(controller) {
      const byteController = controller as ReadableByteStreamController;
      const { byobRequest } = byteController;
      const view = byobRequest?.view as Uint8Array<ArrayBuffer> | null | undefined;
      const target = view ?? new Uint8Array(CHUNK_BYTES);
      let length: number;
      try {
        length = await reader.read(target, { signal: over.signal });
      } catch (error) {
        // A cancelled stream needs no answer.
        if (over.signal.aborted) return;
        end();
        throw error;
      }
      if (length > 0) {
        if (byobRequest) byobRequest.respond(length);
        else byteController.enqueue(target.subarray(0, length));
        return;
      }
      byteController.close();
      // Who waits with memory of his own gets it back.
      byobRequest?.respond(0);
      end();
    },
    cancel(reason) {
      over.abort(reason);
      end.with(() => ignoreClosed(shutdown));
    },
  }) as WebReadable;
}

/**
 * Makes a stream of a writer.
 *
 * @param abandon says that what was sent is not all of it
 * @param onEnd called once, when the stream has ended in whatever way
 */
export function openWritable(
  writer: SocketWriter,
  abandon: () => void,
  onEnd: () => void,
): WebWritable {
  const end = once(onEnd);
  const strategy = { highWaterMark: HIGH_WATER_BYTES, size: sizeOf as () => number };
  const sink = {
    async write(chunk: Chunk, controller: WritableStreamDefaultController) {
      // An abort is not to wait for a peer that does not read.
      const { signal } = controller as unknown as { readonly signal: AbortSignal };
      try {
        await writer.write(chunk, { signal });
        await writer.flush({ signal });
      } catch (error) {
        end();
        throw error;
      }
    },
    async close() {
      try {
        await writer.end();
      } finally {
        end();
      }
    },
    abort() {
      writer.discard();
      end.with(() => ignoreClosed(abandon));
    },
  };
  return new WritableStream(sink, strategy) as WebWritable;
}

function sizeOf(chunk: Chunk): number {
  return typeof chunk === "string" ? chunk.length : (chunk?.byteLength ?? 1);
}

// A socket that is closed already has nothing to end.
function ignoreClosed(work: () => void): void {
  try {
    work();
  } catch (error) {
    const { code } = error as { code?: string };
    if (code !== "EBADF" && code !== "ENOTCONN") throw error;
  }
}

/** Calls a function the first time only; `with` does something before. */
function once(work: () => void): { (): void; with(before: () => void): void } {
  let isOver = false;
  const call = (): void => {
    if (isOver) return;
    isOver = true;
    work();
  };
  return Object.assign(call, {
    with: (before: () => void) => {
      try {
        before();
      } finally {
        call();
      }
    },
  });
}
