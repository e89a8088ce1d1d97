import type { CaptureInput } from "./capture_input.ts";

/** A step of a parser: the window is too short. */
export const MORE = 0;
/** A step of a parser: there is a packet. */
export const PACKET = 1;
/** A step of a parser: nothing comes any more. */
export const END = 2;

/** What a step of a parser gives. */
export type Step = typeof MORE | typeof PACKET | typeof END;

/** The packet that a parser has found: re-used by the next step. */
export class CapturedFrame {
  /** Where the captured bytes begin in the memory of the window. */
  offset = 0;
  length = 0;
  originalLength = 0;
  seconds = 0;
  nanoseconds = 0;
  hasTime = true;
  interface = 0;
  comment: string | undefined;
  flags: number | undefined;
  dropCount: number | undefined;
  /** Where its record begins in the file. */
  recordOffset = 0;
}

/** Reads one format. */
export interface CaptureParser {
  /**
   * Goes on to the next packet, as far as the window reaches.
   *
   * @param stopsEarly also ends when the first interface is known: then END says that it is
   * @throws {CaptureFileError} the file is damaged here
   */
  step(input: CaptureInput, frame: CapturedFrame, stopsEarly: boolean): Step;
}
