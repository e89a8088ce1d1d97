/** Every cell of the suite runs once: those with more than 64 bytes. */
import { CELLS } from "../../bench/cells.ts";
import { runOnce } from "../support/suite_cells.ts";

runOnce(CELLS.filter(({ topology, bytes }) => topology !== "veth" && bytes > 64));
