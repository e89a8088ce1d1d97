/** What the command says of itself, and of what it is told wrongly. */
import { describe, expect, test } from "bun:test";
import manifest from "../../package.json" with { type: "json" };
import { runCommand } from "../support/command.ts";

const COMMANDS = ["bench", "blast", "dump", "echo", "icmp", "info", "ping", "replay", "sink"];

describe("bun-sockets", () => {
  test.each(["--version", "-V", "dump --version"])("%s is that of the package", (line) => {
    const stdout = `${manifest.version}\n`;
    expect(runCommand(line.split(" "))).toEqual({ exitCode: 0, stdout, stderr: "" });
  });

  test("--help lists all commands", () => {
    const { exitCode, stdout, stderr } = runCommand(["--help"]);
    expect([exitCode, stderr]).toEqual([0, ""]);
    for (const name of COMMANDS) expect(stdout).toMatch(new RegExp(`^  ${name} .*`, "m"));
    expect(stdout).toContain("Exit codes: ");
  });

  test("without a command says what there is, as an error", () => {
    const { exitCode, stdout, stderr } = runCommand([]);
    expect([exitCode, stdout]).toEqual([2, ""]);
    expect(stderr).toContain("Usage: bun-sockets");
  });

  test.each(COMMANDS)("%s --help explains options, shows examples and exit codes", (name) => {
    const { exitCode, stdout, stderr } = runCommand([name, "--help"]);
    expect([exitCode, stderr]).toEqual([0, ""]);
    expect(stdout).toStartWith(`Usage: bun-sockets ${name} [options]`);
    expect(stdout).toContain("Exit codes: 0 ");
    expect(stdout).toContain("--json ");
    expect(runCommand(["help", name]).stdout).toBe(stdout);
    const [options = "", examples = ""] = stdout.split("\nExamples:\n");
    const lines = examples.split("\n").filter((line) => line.startsWith("  bun-sockets "));
    expect(lines.length).toBeGreaterThanOrEqual(3);
    for (const line of lines) {
      expect(`${line} `).toStartWith(`  bun-sockets ${name} `);
      const [own = ""] = line.split(" | ");
      // What an example says is an option of the command.
      for (const [, option = ""] of own.matchAll(/ (--?[a-z][a-z-]*)/g))
        expect(options, line).toMatch(new RegExp(`^ .*${option}[ ,]`, "m"));
    }
  });
});

describe("wrong usage", () => {
  test.each([
    [["nonsense"], "nonsense"],
    [["bench", "udp5"], "name"],
    [["bench", "--rounds", "0"], "--rounds"],
    [["bench", "--round-ms", "60001"], "--round-ms"],
    [["bench", "--only", "rust"], "--only"],
    [["blast", "127.0.0.1"], "target"],
    [["blast", "127.0.0.1:0"], "target"],
    [["blast", "::1:9000"], "target"],
    [["blast", "127.0.0.1:9", "-s", "23"], "--size"],
    [["blast", "127.0.0.1:9", "--segments", "129"], "--segments"],
    [["blast", "127.0.0.1:9", "-b", "1025"], "--batch"],
    [["blast", "127.0.0.1:9", "-c", "-1"], "--count"],
    [["blast", "127.0.0.1:9", "-d", "soon"], "--duration"],
    [["blast", "127.0.0.1:9", "-r", "fast"], "--rate"],
    [["blast", "127.0.0.1:9", "-4", "-6"], "--ipv4"],
    [["sink", "nowhere"], "address"],
    [["sink", "1", "2"], "too many arguments"],
    [["sink", "-c", "0"], "--count"],
    [["sink", "--idle", "x"], "--idle"],
    [["sink", "--buffer", "1e6"], "--buffer"],
    [["echo", "[::1]"], "address"],
    [["ping"], "target"],
    [["ping", "localhost"], "target"],
    [["ping", "localhost:9", "-i", "soon"], "--interval"],
    [["ping", "localhost:9", "--timeout", "-1"], "--timeout"],
    [["ping", "localhost:9", "-s", "10"], "--size"],
    [["--nonsense"], "--nonsense"],
    [["dump", "--nonsense"], "--nonsense"],
    [["dump", "-c", "x"], "--count"],
    [["dump", "-c", "0"], "--count"],
    [["dump", "-c", "1e3"], "--count"],
    [["dump", "-c"], "--count"],
    [["dump", "-s", "-5"], "--snap"],
    [["dump", "-s", "262145"], "--snap"],
    [["dump", "-r", "a.pcap", "-i", "lo"], "--interface"],
    [["dump", "--vlan", "4096"], "--vlan"],
    [["icmp"], "host"],
    [["icmp", "a", "b"], "too many arguments"],
    [["icmp", "-4", "-6", "localhost"], "--ipv4"],
    [["icmp", "-i", "soon", "localhost"], "--interval"],
    [["icmp", "--timeout", "-1", "localhost"], "--timeout"],
    [["icmp", "-s", "65508", "localhost"], "--size"],
    [["icmp", "-c", "2147483648", "localhost"], "--count"],
    [["info", "nonsense"], "part"],
    [["info", "--rate", "0"], "--rate"],
    [["info", "--pause", "soon"], "--pause"],
    [["info", "--size", "65508"], "--size"],
    [["replay", "-i", "lo"], "file"],
    [["replay", "a.pcap"], "--interface"],
    [["replay", "a.pcap", "-i", "lo", "--speed", "0"], "--speed"],
    [["replay", "a.pcap", "-i", "lo", "--rate", "-1"], "--rate"],
    [["replay", "a.pcap", "-i", "lo", "--rate", "1", "--topspeed"], "--rate"],
    [["replay", "a.pcap", "-i", "lo", "--loop", "1.5"], "--loop"],
  ] as const)("%j ends with 2 and names the argument", (values, name) => {
    const { exitCode, stdout, stderr } = runCommand(values);
    expect([exitCode, stdout], stderr).toEqual([2, ""]);
    const lines = stderr.trimEnd().split("\n");
    expect(lines).toHaveLength(2);
    expect(lines[0]).toMatch(/^bun-sockets[a-z ]*: /);
    expect(lines[0]).toContain(name);
    expect(lines[1]).toMatch(/^hint: bun-sockets.* --help$/);
  });
});
