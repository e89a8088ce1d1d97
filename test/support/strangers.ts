/** What the tests share that talk to programs of others. */

/** Bytes that nobody has chosen. */
export function randomPayload(length: number): Buffer {
  return Buffer.from(crypto.getRandomValues(new Uint8Array(length)));
}

/** Ends a child with the block, at once: given time, socat would still remove its file. */
export function ending(child: Bun.Subprocess): Disposable {
  return { [Symbol.dispose]: () => child.kill("SIGKILL") };
}

/** The first line that a child prints. */
export async function firstLine(stream: ReadableStream<Uint8Array>): Promise<string> {
  const reader = stream.getReader();
  let text = "";
  while (!text.includes("\n")) {
    const { value, done } = await reader.read();
    if (done) break;
    text += Buffer.from(value).toString();
  }
  reader.releaseLock();
  return text.trim();
}
