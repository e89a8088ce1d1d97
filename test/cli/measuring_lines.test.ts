/** What `blast`, `sink`, `echo`, `ping` and `info` tell programs, and the counts in it. */
import { describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { UdpSocket } from "bun-sockets";
import { runCommand } from "../support/command.ts";
import { end, type Line, linesOf, listening, summaryOf } from "../support/traffic.ts";

const DOCUMENT = join(import.meta.dir, "../../docs/measuring.md");
// Some take seconds by themselves, and the machine may have much else to do.
const LIMIT_MS = 30_000;

test(
  "a pace is kept by count: each datagram that is due before the end goes out, and none beside",
  async () => {
    const { running, port } = await listening(["sink", "127.0.0.1:0"]);
    const options = ["-r", "3k", "-d", "1500ms", "-s", "64", "--json"];
    const outcome = runCommand(["blast", `127.0.0.1:${port}`, ...options]);
    const sent = summaryOf(outcome);
    const { max } = sent["pacingErrorUs"] as { max: number };
    // Whoever did not get the CPU for a tenth of a second does not catch up after the end.
    if (max < 100_000) expect(sent["sent"]).toBe(4500);
    else expect(sent["sent"]).toBeLessThanOrEqual(4500);
    expect(sent["durationMs"]).toBeGreaterThanOrEqual(1500);
    expect(sent["datagramsPerSecond"]).toBeLessThanOrEqual(3000);
    // What is told each second is a part of it.
    const seconds = linesOf(outcome).filter(({ type }) => type === "interval");
    expect(seconds.length).toBeGreaterThanOrEqual(1);
    for (const { elapsedMs, durationMs, sent: some, datagramsPerSecond } of seconds) {
      expect(elapsedMs).toBeGreaterThanOrEqual(durationMs as number);
      expect(some).toBeLessThanOrEqual(sent["sent"] as number);
      const rate = ((some as number) * 1000) / (durationMs as number);
      expect(datagramsPerSecond).toBeCloseTo(rate, 0);
    }
    const came = await end(running);
    expect(summaryOf(came)["received"]).toBe(sent["sent"] as number);
    // So are the seconds of the receiver, and with the last one they are the whole.
    const rows = linesOf(came)
      .filter(({ type }) => type === "interval")
      .flatMap(({ runs }) => runs as Line[]);
    expect(rows.length).toBeGreaterThanOrEqual(2);
    expect(rows.reduce((all, { received }) => all + Number(received), 0)).toBe(
      Number(sent["sent"]),
    );
  },
  LIMIT_MS,
);

test("who starts again is another run, and both are whole", async () => {
  const { running, port } = await listening(["sink", "127.0.0.1:0"]);
  const blast = () =>
    runCommand(["blast", `127.0.0.1:${port}`, "-c", "1k", "-r", "100k", "--json"]);
  const names = [blast(), blast()].map((outcome) => summaryOf(outcome)["run"]);
  const outcome = await end(running);
  const came = summaryOf(outcome);
  expect(came).toMatchObject({ received: 2000, lost: 0, duplicates: 0, notices: 6 });
  const whole = { sent: 1000, received: 1000, lost: 0, lostInBuffer: 0, firstSequence: 0 };
  expect(came["runs"]).toEqual(names.map((run) => expect.objectContaining({ run, ...whole })));
  // The seconds, and what came after the last, make up the whole.
  const rows = linesOf(outcome)
    .filter(({ type }) => type === "interval")
    .flatMap(({ runs }) => runs as Line[]);
  const sum = (name: string) => rows.reduce((all, row) => all + Number(row[name]), 0);
  expect([sum("received"), sum("lost"), sum("duplicates")]).toEqual([2000, 0, 0]);
});

test(
  "with --reuse-port sinks share the senders, and each has whole runs",
  async () => {
    const { running: first, port } = await listening(["sink", "127.0.0.1:0", "--reuse-port"]);
    const alone = runCommand(["sink", `127.0.0.1:${port}`]);
    expect(alone.exitCode).toBe(1);
    expect(alone.stderr).toStartWith("bun-sockets sink: bind EADDRINUSE ");
    const { running: second } = await listening(["sink", `127.0.0.1:${port}`, "--reuse-port"]);
    const target = `127.0.0.1:${port}`;
    const sent = Array.from({ length: 6 }, () =>
      summaryOf(runCommand(["blast", target, "-c", "50", "-r", "100k", "--json"])),
    );
    const both = [summaryOf(await end(first)), summaryOf(await end(second))];
    const runs = both.flatMap((summary) => summary["runs"] as Line[]);
    expect(runs.map(({ run }) => run).sort()).toEqual(sent.map(({ run }) => run).sort());
    for (const run of runs) expect(run).toMatchObject({ sent: 50, received: 50, lost: 0 });
  },
  LIMIT_MS,
);

test("the command lines of the document have options that there are", () => {
  const text = readFileSync(DOCUMENT, "utf8");
  const lines = Array.from(
    text.matchAll(/(?:bunx bun-sockets|`)\s?(blast|sink|echo|ping|info)\s([^#`]*?)(?=[`#\n]|$)/gm),
    ([, name = "", rest = ""]) => [name, rest] as const,
  ).filter(([, rest]) => rest.includes("-"));
  expect(lines.length).toBeGreaterThanOrEqual(10);
  for (const name of new Set(lines.map(([own]) => own))) {
    const { stdout } = runCommand([name, "--help"]);
    const known = stdout.split("\nExamples:")[0] as string;
    for (const [, rest] of lines.filter(([own]) => own === name))
      for (const [, option = ""] of rest.matchAll(/(?:^|\s)(--?[a-z][a-z-]*)/g))
        expect(known, `${name} ${rest}`).toMatch(new RegExp(`^ .*${option}[ ,]`, "m"));
  }
});

describe("what programs read is what the document says", () => {
  /** The rows of its table: a command and a kind of line, and the fields in their order. */
  const documented = new Map<string, string[]>();
  for (const line of readFileSync(DOCUMENT, "utf8").split("\n")) {
    const [, command, type, fields = ""] = /^\| (\w+) \| `(\w+)` \| (.*) \|$/.exec(line) ?? [];
    if (command === undefined) continue;
    const names = Array.from(fields.matchAll(/`(\w+)`/g), ([, name = ""]) => name);
    documented.set(`${command} ${type}`, names);
  }
  const seen = new Map<string, Set<string>>();

  function look(command: string, lines: readonly Line[]): void {
    for (const { type, ...fields } of lines) {
      const key = `${command} ${type}`;
      const names = seen.get(key) ?? new Set();
      names.add(Object.keys(fields).join());
      seen.set(key, names);
    }
  }

  test(
    "of blast, sink, echo and ping",
    async () => {
      const { running: sink, port } = await listening(["sink", "127.0.0.1:0"]);
      const { running: echo, port: echoPort } = await listening(["echo", "127.0.0.1:0"]);
      const sent = runCommand([
        "blast",
        `127.0.0.1:${port}`,
        "-r",
        "100",
        "-d",
        "1200ms",
        "--json",
      ]);
      const asked = runCommand(["ping", `127.0.0.1:${echoPort}`, "-c", "2", "-i", "1ms", "--json"]);
      const closed = UdpSocket.bind("127.0.0.1:0");
      const target = `127.0.0.1:${closed.localAddress.port}`;
      closed.close();
      const refused = runCommand(["ping", target, "-c", "1", "--timeout", "10ms", "--json"]);
      const came = linesOf(await end(sink));
      look("blast", linesOf(sent));
      look("sink", came);
      look("echo", linesOf(await end(echo)));
      look("ping", [...linesOf(asked), ...linesOf(refused)]);
      // The parts have fields of their own.
      const part = (type: string, line: unknown) => look("sink", [{ type, ...(line as Line) }]);
      const { runs: all } = came.at(-1) as { runs: [Line] };
      part("run", all[0]);
      // Of a second in which only the notices of the end came there is nothing to tell.
      for (const { type, runs } of came)
        if (type === "interval") for (const row of runs as Line[]) part("second", row);
      part("spread", all[0]["delayUs"]);
      const own = [...documented].filter(([key]) => /^(blast|sink|echo|ping) /.test(key));
      expect(own.length).toBeGreaterThanOrEqual(14);
      for (const [key, fields] of own)
        expect([key, [...(seen.get(key) ?? [])]]).toEqual([key, [fields.join()]]);
      expect([...seen.keys()].filter((key) => !documented.has(key))).toEqual([]);
    },
    LIMIT_MS,
  );

  test("of info", () => {
    const { exitCode, stdout } = runCommand(["info", "--json"]);
    expect(exitCode).toBe(0);
    seen.clear();
    look("info", linesOf({ stdout }));
    for (const [key, names] of seen)
      expect([key, [...names]]).toEqual([key, [(documented.get(key) ?? []).join()]]);
    const own = [...documented.keys()].filter((key) => key.startsWith("info "));
    expect([...seen.keys()].sort()).toEqual(own.sort());
  });
});
