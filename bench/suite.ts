// The suite: every way for datagrams in one table. `npm run bench` runs all of it in less than ten
// minutes, `npm run bench -- NAME …` the cells of that name, of that question, or that begin with it.
import { suiteCommand } from "../cli/bench.ts";
import { runProgram } from "../cli/command.ts";

const command = suiteCommand("bench/suite.ts", "whole", {
  examples: [
    ["npm run bench", "the whole suite"],
    ["npm run bench -- peers --rounds 21", "who else there is, in more rounds"],
    ["bun bench/suite.ts --json | bun bench/record.ts", "puts a run on record"],
  ],
});
await runProgram(command, process.argv.slice(2));
