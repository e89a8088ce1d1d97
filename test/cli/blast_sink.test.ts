/** `bun-sockets blast` and `sink` on one machine, which takes no right. */
import { describe, expect, test } from "bun:test";
import { UdpSocket } from "bun-sockets";
import { RunningCommand, runCommand } from "../support/command.ts";
import { end, HOSTS, type Line, listening, summaryOf } from "../support/traffic.ts";

describe("blast and sink", () => {
  test.each(HOSTS)(
    "%s is %s: what is sent comes, and is told in the same words",
    async (host, address, family) => {
      const { running, port } = await listening(["sink", `${host}:0`, family, "--no-gro"]);
      const options = ["-c", "200", "-s", "100", "-r", "20k", "--json"];
      const sent = summaryOf(runCommand(["blast", `${host}:${port}`, family, ...options]));
      const came = summaryOf(await end(running));
      expect(sent).toMatchObject({
        sent: 200,
        bytes: 20_000,
        notSent: 0,
        notices: 3,
      });
      expect([sent["failures"], sent["refused"]]).toEqual([{}, {}]);
      expect(came).toMatchObject({ datagrams: 203, received: 200, notices: 3, foreign: 0 });
      expect(came).toMatchObject({ lost: 0, duplicates: 0, reordered: 0, kernelDrops: 0 });
      const [run, ...others] = came["runs"] as Line[];
      expect(others).toEqual([]);
      expect(run).toMatchObject({ run: sent["run"], sent: 200, received: 200, bytes: 20_000 });
      expect(run).toMatchObject({ firstSequence: 0, negativeDelays: 0, lostPercent: 0 });
      expect(run?.["from"]).toStartWith(address.includes(":") ? "[::1]:" : "127.0.0.1:");
      // One way takes some time, and not as long as the whole.
      const { min, max } = (run as Line)["delayUs"] as { min: number; max: number };
      expect(min).toBeGreaterThan(0);
      expect(max).toBeLessThan(60e6);
    },
  );

  test("trains are told apart, and the last one is shorter", async () => {
    const { running, port } = await listening(["sink", "127.0.0.1:0"]);
    const sent = summaryOf(
      runCommand([
        "blast",
        `127.0.0.1:${port}`,
        "-c",
        "1005",
        "--segments",
        "10",
        "-r",
        "20k",
        "--json",
      ]),
    );
    expect(sent).toMatchObject({ sent: 1005, bytes: 1005 * 1200, notSent: 0 });
    const came = summaryOf(await end(running));
    expect(came).toMatchObject({ received: 1005, lost: 0, duplicates: 0, reordered: 0 });
    expect((came["runs"] as Line[])[0]).toMatchObject({ bytes: 1005 * 1200 });
  });

  test.each([
    [["-r", "1000", "-c", "101"], 100, 1000],
    // 1250 bytes are 10,000 bits.
    [["-r", "5Mbit", "-s", "1250", "-c", "51"], 100, 500],
    [["-r", "10k", "-s", "100", "--segments", "10", "-c", "1010"], 100, 10_000],
  ] as const)("%j never goes faster than that", async (options, leastMs, wanted) => {
    const { running, port } = await listening(["sink", "127.0.0.1:0"]);
    const sent = summaryOf(runCommand(["blast", `127.0.0.1:${port}`, ...options, "--json"]));
    expect(sent["durationMs"]).toBeGreaterThanOrEqual(leastMs);
    expect(sent["wantedPerSecond"]).toBe(wanted);
    const { min, p50 } = sent["pacingErrorUs"] as { min: number; p50: number };
    expect([min > 0, p50 >= min]).toEqual([true, true]);
    const came = summaryOf(await end(running));
    expect(came["received"]).toBe(Number(options.at(-1)));
  });

  test("blast ends after the duration, without a sink", () => {
    using nobody = UdpSocket.bind("127.0.0.1:0");
    const { port } = nobody.localAddress;
    const target = `127.0.0.1:${port}`;
    const sent = summaryOf(runCommand(["blast", target, "-d", "100ms", "-r", "1k", "--json"]));
    expect(sent["sent"]).toBeGreaterThan(0);
    expect(sent["sent"]).toBeLessThanOrEqual(100);
    // The last one goes out earlier, but who says how long has it last so long.
    const begin = performance.now();
    expect(runCommand(["blast", target, "-d", "800ms", "-r", "2"]).exitCode).toBe(0);
    expect(performance.now() - begin).toBeGreaterThan(800);
    const flat = summaryOf(runCommand(["blast", target, "-d", "50ms", "--json"]));
    expect(flat["durationMs"]).toBeGreaterThan(49);
    expect(flat["pacingErrorUs"]).toBeNull();
  });

  test("blast counts what is refused, and does not stop for it", () => {
    const closed = UdpSocket.bind("127.0.0.1:0");
    const { port } = closed.localAddress;
    closed.close();
    const options = ["-c", "50", "-r", "500", "-b", "1", "--json"];
    const sent = summaryOf(runCommand(["blast", `127.0.0.1:${port}`, ...options]));
    expect(sent).toMatchObject({ sent: 50, notSent: 0 });
    const { ECONNREFUSED } = sent["refused"] as { ECONNREFUSED?: number };
    expect(ECONNREFUSED).toBeGreaterThan(0);
    expect(ECONNREFUSED).toBeLessThanOrEqual(53);
  });

  test("a train that is too long for the kernel, or for UDP, is an error of --segments", () => {
    for (const [segments, size] of [
      ["100", "1200"],
      ["2", "40000"],
    ] as const) {
      const options = ["--segments", segments, "-s", size];
      const { exitCode, stdout, stderr } = runCommand(["blast", "127.0.0.1:9", ...options]);
      expect([exitCode, stdout]).toEqual([2, ""]);
      expect(stderr).toStartWith(`bun-sockets blast: Cannot use ${segments} as --segments: `);
    }
  });
});

test("Ctrl-C ends both with their summaries, and the numbers agree", async () => {
  const { running: sink, port } = await listening(["sink", "127.0.0.1:0"]);
  const blast = new RunningCommand(["blast", `127.0.0.1:${port}`, "-r", "5000", "--json"]);
  await sink.until((stdout) => stdout.includes("interval"));
  const sent = summaryOf(await end(blast));
  const came = summaryOf(await end(sink));
  expect(sent["sent"]).toBeGreaterThan(0);
  expect((came["runs"] as Line[])[0]?.["sent"]).toBe(sent["sent"]);
  expect(Number(came["received"]) + Number(came["lost"])).toBe(sent["sent"] as number);
});

test.each(["SIGINT", "SIGTERM"] as const)(
  "%s ends blast while it goes flat out",
  async (signal) => {
    using receiver = UdpSocket.bind("127.0.0.1:0");
    const target = `127.0.0.1:${receiver.localAddress.port}`;
    const blast = new RunningCommand(["blast", target, "--json"]);
    await blast.until((stdout) => stdout.includes("sending"));
    receiver.receiveSync(new Uint8Array(2000), { timeoutMs: 10_000 });
    expect(summaryOf(await end(blast, signal))["sent"]).toBeGreaterThan(0);
  },
);
