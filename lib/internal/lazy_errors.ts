import type * as queue from "../error_queue.ts";
import { loadModule } from "./descriptor.ts";
import type * as errors from "./kernel_errors.ts";
import type * as zeroCopy from "./zero_copy.ts";

/** What fetches queued errors; loaded by the first socket that asks for them. */
export function loadErrors(): typeof errors {
  return loadModule(() => require("./kernel_errors.ts"));
}

/** The iterator over them. */
export function loadErrorQueue(): typeof queue {
  return loadModule(() => require("../error_queue.ts"));
}

/** Sends without a copy. */
export function loadZeroCopy(): typeof zeroCopy {
  return loadModule(() => require("./zero_copy.ts"));
}
