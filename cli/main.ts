/**
 * The command `bun-sockets`. Thin: what a command does is in the library, and here are its words,
 * its lines and its exit codes.
 *
 * @module
 */
import { Command, CommanderError } from "commander";
import manifest from "../package.json" with { type: "json" };
import { blastCommand } from "./blast.ts";
import { commandPath, FAILURE, type Help, helpEnd, SUCCESS, USAGE } from "./command.ts";
import { dumpCommand } from "./dump.ts";
import { echoCommand } from "./echo.ts";
import { icmpCommand } from "./icmp.ts";
import { infoCommand } from "./info.ts";
import { BrokenPipe, Output, say } from "./output.ts";
import { pingCommand } from "./ping.ts";
import { replayCommand } from "./replay.ts";
import { sinkCommand } from "./sink.ts";

const COMMANDS: readonly (() => Command)[] = [
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
    ["bun-sockets sink", "receives and measures; on another machine: bun-sockets blast HOST:9000"],
    ["bun-sockets ping 192.0.2.1:9000", "measures round trips; there runs: bun-sockets echo"],
    ["bun-sockets dump -i eth0 udp port 53", "shows DNS as it passes"],
    ["bun-sockets icmp -c 5 example.com", "measures round trips"],
    ["bun-sockets info", "shows what this machine can do, and what to change for high rates"],
    ["bun-sockets replay capture.pcapng -i eth0", "sends what was captured, as fast as it came"],
    ["bun-sockets dump --help", "tells all of one command"],
  ],
};

async function main(values: readonly string[]): Promise<void> {
  const output = new Output();
  const program = new Command("bun-sockets")
    .description("Sockets and packets of Linux, looked at and measured.")
    .version(manifest.version, "-V, --version", "the version")
    .helpOption("-h, --help", "this text")
    .helpCommand("help [command]", "the text of a command")
    .addHelpText("after", helpEnd(HELP));
  for (const make of COMMANDS) {
    const command = make().helpOption("-h, --help", "this text");
    command.version(manifest.version, "-V, --version", "the version");
    program.addCommand(command);
  }
  for (const command of [program, ...program.commands]) {
    command.exitOverride().configureOutput({
      writeOut: (text) => output.text(text),
      writeErr: say,
      outputError: (text, write) => write(errorLines(command, text)),
      // Colours nowhere, so nothing has to find out about terminals.
      getOutHasColors: () => false,
      getErrHasColors: () => false,
    });
  }
  try {
    await program.parseAsync(values, { from: "user" });
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error;
    process.exitCode = error.exitCode === 0 ? SUCCESS : USAGE;
  }
  try {
    output.flush();
  } catch (error) {
    if (error instanceof BrokenPipe) return;
    say(`bun-sockets: ${(error as Error).message}\n`);
    process.exitCode = FAILURE;
  }
}

/** Commander's "error: …" in the form of all our errors, with where to read on. */
function errorLines(command: Command, text: string): string {
  const name = commandPath(command);
  const message = text.replace(/^error: /, "").trimEnd();
  return `${name}: ${message.replaceAll("\n", " ")}\nhint: ${name} --help\n`;
}

await main(process.argv.slice(2));
