/**
 * Layers of a drawing in the words of this report.
 *
 * @module
 */
import type { Layer } from "./svg.ts";

type Encoding = Readonly<Record<string, object>>;

/** A place in pixels. */
export function at(field: string) {
  return { field, type: "quantitative", scale: null, axis: null };
}

/** A colour, shape or dash as it is. */
export function as(field: string) {
  return { field, type: "nominal", scale: null };
}

/** What is shown to those who point at a mark. */
export const TITLED = { description: { field: "title", type: "nominal" } };

/** Marks of one kind, one for each value. */
export function marks(
  name: string,
  values: readonly object[],
  mark: object,
  encoding: Encoding,
): Layer {
  // Without this the library describes what has no description, and tells pixels.
  const aria = encoding["description"] !== undefined;
  return { name, data: { values }, mark: { ...mark, aria }, encoding };
}

/** Texts that begin at `x` pixels, each value a `text` of the colour `ink` at the height `y`. */
export function words(name: string, values: readonly object[], x: number, mark: object): Layer {
  return marks(
    name,
    values,
    { type: "text", align: "left", baseline: "middle", ...mark },
    { x: { value: x }, y: at("y"), text: { field: "text", type: "nominal" }, fill: as("ink") },
  );
}

/** How the range of rounds that do not agree is drawn, and that of those that do. */
export function dashOf({ isNoisy }: { readonly isNoisy: boolean }): readonly number[] {
  return isNoisy ? [3, 2] : [1, 0];
}
