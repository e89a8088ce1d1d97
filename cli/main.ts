/**
 * The command `bun-sockets`. Thin: what a command does is in the library, and here are its words,
 * its lines and its exit codes.
 *
 * @module
 */
import { Command } from "commander";
import manifest from "../package.json" with { type: "json" };
import { benchCommand } from "./bench.ts";
import { blastCommand } from "./blast.ts";
import { type Help, helpEnd, runProgram } from "./command.ts";
import { dumpCommand } from "./dump.ts";
import { echoCommand } from "./echo.ts";
import { icmpCommand } from "./icmp.ts";
import { infoCommand } from "./info.ts";
import { pingCommand } from "./ping.ts";
import { replayCommand } from "./replay.ts";
import { sinkCommand } from "./sink.ts";

const COMMANDS: readonly (() => Command)[] = [
  benchCommand,
  blastCommand,
  sinkCommand,
  echoCommand,
  pingCommand,
  dumpCommand,
  icmpCommand,
  infoCommand,
  replayCommand,
];

const HELP: Help = {
  examples: [
    ["bun-sockets bench", "measures this machine, by each way for datagrams, in 20 seconds"],
    ["bun-sockets sink", "receives and measures; on another machine: bun-sockets blast HOST:9000"],
    ["bun-sockets ping 192.0.2.1:9000", "measures round trips; there runs: bun-sockets echo"],
    ["bun-sockets dump -i eth0 udp port 53", "shows DNS as it passes"],
    ["bun-sockets icmp -c 5 example.com", "measures round trips"],
    ["bun-sockets info", "shows what this machine can do, and what to change for high rates"],
    ["bun-sockets replay capture.pcapng -i eth0", "sends what was captured, as fast as it came"],
    ["bun-sockets dump --help", "tells all of one command"],
  ],
};

const program = new Command("bun-sockets")
  .description("Sockets and packets of Linux, looked at and measured.")
  .version(manifest.version, "-V, --version", "the version")
  .helpCommand("help [command]", "the text of a command")
  .addHelpText("after", helpEnd(HELP));
for (const make of COMMANDS)
  program.addCommand(make().version(manifest.version, "-V, --version", "the version"));

await runProgram(program, process.argv.slice(2));
