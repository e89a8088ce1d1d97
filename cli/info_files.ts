import { readdirSync, readFileSync } from "node:fs";

/** Something that could not be read here, and why. */
export interface Unreadable {
  readonly what: string;
  /** In the kernel's words where it said something: "ENOENT", "EACCES". */
  readonly reason: string;
}

/** What the kernel tells in files. What cannot be read is remembered, and is `undefined`. */
export class KernelFiles {
  readonly #unreadable = new Map<string, string>();

  /** All that could not be read so far. */
  get unreadable(): Unreadable[] {
    return [...this.#unreadable].map(([what, reason]) => ({ what, reason }));
  }

  /** Remembers that something cannot be told. */
  miss(what: string, reason: string): void {
    this.#unreadable.set(what, reason);
  }

  /** The text of a file that every Linux has, without the space around it. */
  text(path: string): string | undefined {
    return this.#try(path, () => readFileSync(path, "latin1").trim());
  }

  /** The text of a file that is only there where something is in use: its absence says that. */
  optionalText(path: string): string | undefined {
    try {
      return readFileSync(path, "latin1").trim();
    } catch {
      return undefined;
    }
  }

  /** The integers in a file: all that there are, or undefined. */
  integers(path: string): number[] | undefined {
    return integersOf(this.text(path));
  }

  /** The names in a folder. */
  names(path: string): string[] | undefined {
    return this.#try(path, () => readdirSync(path).sort());
  }

  #try<Result>(path: string, read: () => Result): Result | undefined {
    try {
      return read();
    } catch (error) {
      const { code, message } = error as { code?: string; message: string };
      this.miss(path, code ?? message);
      return undefined;
    }
  }
}

/** The integers of a text that has nothing else; undefined where it has. */
export function integersOf(text: string | undefined): number[] | undefined {
  if (text === undefined || !/^-?\d+(\s+-?\d+)*$/.test(text)) return undefined;
  return text.split(/\s+/).map(Number);
}

/** The bytes of a page of memory. */
export function pageBytes(): number {
  const AT_PAGESZ = 6n;
  try {
    const bytes = readFileSync("/proc/self/auxv");
    for (let at = 0; at + 16 <= bytes.length; at += 16)
      if (bytes.readBigUInt64LE(at) === AT_PAGESZ) return Number(bytes.readBigUInt64LE(at + 8));
  } catch {
    // Then it is what nearly all have.
  }
  return 4096;
}
