import { loadModule } from "./descriptor.ts";
import type { engine as Engine } from "./poller_engine.ts";

let loaded: typeof Engine | undefined;

/** The poller of this thread; its modules are loaded by the first promise form, not by an import. */
export function loadPoller(): typeof Engine {
  loaded ??= (
    loadModule(() => require("./poller_engine.ts")) as typeof import("./poller_engine.ts")
  ).engine;
  return loaded;
}
