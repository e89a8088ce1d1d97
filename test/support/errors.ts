/** The error of a call that is to fail. */
import { SystemError } from "bun-sockets";

/** Runs what is to throw, and returns the error. */
export function caught(run: () => unknown): Error {
  try {
    run();
  } catch (error) {
    if (error instanceof Error) return error;
    throw error;
  }
  throw new Error("Expected the call to throw");
}

/** Runs what is to throw a SystemError, and returns it. */
export function systemErrorOf(run: () => unknown): SystemError {
  const error = caught(run);
  if (error instanceof SystemError) return error;
  throw error;
}
