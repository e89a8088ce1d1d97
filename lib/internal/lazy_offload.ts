import { loadModule } from "./descriptor.ts";
import type * as offload from "./offload.ts";

let loaded: typeof offload | undefined;

/** The module of segmentation offload; it is loaded when the first train is sent. */
export function loadOffload(): typeof offload {
  loaded ??= loadModule(() => require("./offload.ts")) as typeof offload;
  return loaded;
}
