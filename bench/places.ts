/**
 * Where files are that the suite needs when it runs. The command is bundled into one file of cli/, which
 * is as deep as this one, so the ways are the same from there.
 *
 * @module
 */
import { join } from "node:path";

/** The checkout, or the folder of the installed package. */
export const ROOT = join(import.meta.dir, "..");

/** The programs of the peers. */
export const PEERS = join(ROOT, "bench/peers");
