// What all peers that are processes of their own need.
import { join } from "node:path";
import { PEERS } from "../places.ts";

/** Compiles a program in C beside this file into a folder, and returns its path. */
export function compile(folder: string, name: string): string {
  const output = join(folder, name);
  const source = join(PEERS, `${name}.c`);
  const gcc = Bun.spawnSync(["gcc", "-O2", "-o", output, source]);
  if (!gcc.success) throw new Error(`gcc failed: ${gcc.stderr}`);
  return output;
}

/** The lines of an output, as they come. */
export async function* readLines(stream: ReadableStream<Uint8Array>): AsyncGenerator<string, void> {
  const decoder = new TextDecoder();
  let text = "";
  for await (const chunk of stream) {
    text += decoder.decode(chunk, { stream: true });
    const lines = text.split("\n");
    text = lines.pop() ?? "";
    yield* lines;
  }
}
