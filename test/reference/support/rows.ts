/**
 * What the files of test/reference share: rows, each a test that carries the row's name; adapters,
 * which put a document's names on our API; and, of each adapter, broken variants, with the rows that
 * have to notice.
 *
 * @module
 */
import { expect } from "bun:test";
import { socketCounters } from "bun-sockets";
import { openDescriptors } from "../../support/descriptors.ts";
import { type Missing, testIf } from "../../support/require.ts";

/** Names the broken variant that an adapter is to be: "pure: a swallowed error". */
export const VARIANT = "BUN_SOCKETS_REFERENCE_VARIANT";

// A broken adapter is meant to fail, and soon.
const isBroken = process.env[VARIANT] !== undefined;
const SETTLE_MS_MAX = isBroken ? 50 : 2000;

/** How long a call may wait, in milliseconds, for what comes at once when all is well. */
export const PATIENCE_MS: number = isBroken ? 300 : 20_000;

/** An adapter with a fault, and the rows that fail with it. */
export interface Variant<Adapter> {
  /** What replaces the sound functions. */
  readonly breaks: Partial<Adapter>;
  /** The rows that must fail, by name: "pure-44". */
  readonly rows: readonly string[];
}

/** The broken variants of an adapter, by what is wrong with them. */
export type Variants<Adapter> = Readonly<Record<string, Variant<Adapter>>>;

/** Returns the adapter of a document, or the variant of it that the environment asks for. */
export function chosen<Adapter extends object>(
  document: string,
  adapter: Adapter,
  variants: Variants<Adapter>,
): Adapter {
  const [wanted, ...fault] = (process.env[VARIANT] ?? "").split(": ");
  if (wanted !== document) return adapter;
  const variant = variants[fault.join(": ")];
  if (!variant) throw new Error(`No broken variant is called ${process.env[VARIANT]}`);
  return { ...adapter, ...variant.breaks };
}

// The engine may close a socket that was dropped before anybody looks: that is a leak all the same.
function kept(): number {
  const { open, leaked } = socketCounters();
  return open + leaked;
}

/**
 * Registers a row: a test whose name begins with the row's, and after which nothing is open that was
 * not before.
 */
export function row(name: string, body: () => unknown, missing?: Missing): void {
  testIf(missing)(name, async () => {
    const before = openDescriptors();
    const keptBefore = kept();
    await body();
    expect(kept()).toBe(keptBefore);
    // Bun closes what connected it with a child in its own time.
    const limit = performance.now() + SETTLE_MS_MAX;
    while (openDescriptors() > before && performance.now() < limit) await Bun.sleep(1);
    expect(openDescriptors()).toBeLessThanOrEqual(before);
  });
}
