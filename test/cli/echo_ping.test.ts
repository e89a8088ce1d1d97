/** `bun-sockets echo` and `ping` on one machine, which takes no right. */
import { describe, expect, test } from "bun:test";
import { UdpSocket } from "bun-sockets";
import { RunningCommand, runCommand } from "../support/command.ts";
import { end, HOSTS, linesOf, listening, summaryOf } from "../support/traffic.ts";

describe("echo and ping", () => {
  test.each(HOSTS)("%s is %s: each probe is answered", async (host, address, family) => {
    const { running, port } = await listening(["echo", `${host}:0`, family]);
    const options = ["-c", "50", "-i", "0", "-s", "1400", "--json"];
    const outcome = runCommand(["ping", `${host}:${port}`, family, ...options]);
    const asked = summaryOf(outcome);
    expect(asked).toMatchObject({ address, port, sent: 50, answered: 50, lost: 0, waiting: 0 });
    const replies = linesOf(outcome).slice(0, -1);
    expect(replies.map(({ type, sequence }) => [type, sequence])).toEqual(
      Array.from({ length: 50 }, (_, k) => ["reply", k]),
    );
    const times = replies.map(({ roundTripMs }) => roundTripMs as number);
    const { min, max } = asked["roundTripUs"] as { min: number; max: number };
    expect([min / 1000, max / 1000].map((ms) => Number(ms.toFixed(3)))).toEqual([
      Math.min(...times),
      Math.max(...times),
    ]);
    const rows = asked["histogramUs"] as [number, number, number][];
    expect(rows.reduce((sum, [, , count]) => sum + count, 0)).toBe(50);
    const answered = summaryOf(await end(running));
    expect(answered).toMatchObject({ received: 50, answered: 50, bytes: 70_000, refused: 0 });
    expect([answered["failures"], answered["kernelDrops"]]).toEqual([{}, 0]);
  });

  test("has lines and a histogram for people", async () => {
    const { running, port } = await listening(["echo", "0", "-c", "10"]);
    const { exitCode, stdout } = runCommand(["ping", `127.0.0.1:${port}`, "-c", "10", "-i", "1ms"]);
    expect(exitCode).toBe(0);
    const lines = stdout.trimEnd().split("\n");
    expect(lines[0]).toBe(`127.0.0.1:${port}: 64 bytes of payload`);
    expect(lines[10]).toMatch(/^64 bytes from 127\.0\.0\.1:\d+: seq 9 time [\d.]+ ms$/);
    expect(lines[11]).toBe(`127.0.0.1:${port}: 10 sent, 10 answered, 0 lost (0 %)`);
    expect(lines[12]).toMatch(/^round trip in µs: min [\d.]+, mean [\d.]+, p50 /);
    const bars = lines.slice(13).map((line) => /^ +[\d.]+ µs +(\d+)(?: {2}(#+))?$/.exec(line));
    expect(bars.reduce((sum, bar) => sum + Number(bar?.[1]), 0)).toBe(10);
    for (const bar of bars) expect(bar?.[2] === undefined).toBe(bar?.[1] === "0");
    expect(summaryOf(await running.ended())).toMatchObject({ received: 10, answered: 10 });
  });

  test("-q tells the summary only", async () => {
    const { running, port } = await listening(["echo", "127.0.0.1:0"]);
    const { stdout } = runCommand(["ping", `127.0.0.1:${port}`, "-qc", "3", "-i", "0", "--json"]);
    expect(linesOf({ stdout })).toHaveLength(1);
    await end(running);
  });

  test("ping without an answer ends with 1, and says why", () => {
    const closed = UdpSocket.bind("127.0.0.1:0");
    const { port } = closed.localAddress;
    closed.close();
    const options = ["-c", "2", "-i", "1ms", "--timeout", "50ms", "--json"];
    const { exitCode, stdout, stderr } = runCommand(["ping", `127.0.0.1:${port}`, ...options]);
    expect([exitCode, stderr]).toEqual([1, ""]);
    const lines = linesOf({ stdout });
    expect(lines.at(-1)).toMatchObject({ sent: 2, answered: 0, lost: 2, roundTripUs: null });
    expect(lines.at(-1)).toMatchObject({ refused: { ECONNREFUSED: 2 }, histogramUs: [] });
    const kinds = lines.map(({ type, code }) => `${type} ${code}`);
    expect(kinds).toContain("refusal ECONNREFUSED");
    expect(kinds.filter((kind) => kind === "failure ETIMEDOUT")).toHaveLength(2);
  });

  test("echo does not answer what may be another echo server", async () => {
    const { running, port } = await listening(["echo", "127.0.0.1:0", "--count", "3"]);
    using twin = UdpSocket.bind(`127.0.0.2:${port}`);
    using client = UdpSocket.bind("127.0.0.1:0");
    twin.sendToSync("for ever", `127.0.0.1:${port}`);
    client.sendToSync("once", `127.0.0.1:${port}`);
    client.sendToSync("", `127.0.0.1:${port}`);
    const outcome = await running.ended();
    expect(summaryOf(outcome)).toMatchObject({ received: 3, answered: 2, refused: 1, bytes: 4 });
    expect(`${Buffer.from(client.receiveBytesSync(100, { timeoutMs: 5000 }))}`).toBe("once");
    expect(twin.tryReceive(new Uint8Array(10))).toBeUndefined();
  });

  test("echo answers from the address that was asked", async () => {
    const { running, port } = await listening(["echo", "0.0.0.0:0"]);
    using client = UdpSocket.open("ipv4");
    client.sendToSync("x", `127.0.0.3:${port}`);
    const { address } = client.receiveFromSync(new Uint8Array(10), { timeoutMs: 5000 });
    expect(address.host).toBe("127.0.0.3");
    await end(running);
  });
});

describe.each(["SIGINT", "SIGTERM"] as const)("%s", (signal) => {
  test("ends echo and ping with theirs", async () => {
    const { running: echo, port } = await listening(["echo", "127.0.0.1:0"]);
    const ping = new RunningCommand(["ping", `127.0.0.1:${port}`, "-i", "5ms", "--json"]);
    await ping.until((stdout) => stdout.split("\n").length > 20);
    const asked = summaryOf(await end(ping, signal));
    const answered = summaryOf(await end(echo, signal));
    expect(asked["answered"]).toBeGreaterThanOrEqual(20);
    expect(asked).toMatchObject({ lost: 0, duplicates: 0, foreign: 0 });
    expect(asked["refused"]).toEqual({});
    expect(asked["sent"]).toBe(Number(asked["answered"]) + Number(asked["waiting"]));
    expect(answered).toMatchObject({ received: asked["sent"], answered: asked["sent"] });
  });
});

test("a name that does not exist is told of", () => {
  for (const values of [
    ["blast", "no such host:9"],
    ["ping", "no such host:9"],
    ["sink", "no such host:9"],
  ]) {
    const { exitCode, stdout, stderr } = runCommand(values);
    expect([exitCode, stdout]).toEqual([1, ""]);
    expect(stderr).toMatch(/^bun-sockets \w+: .*EAI_/);
  }
});

test("a port that is taken is told of", () => {
  using taken = UdpSocket.bind("127.0.0.1:0");
  for (const name of ["sink", "echo"]) {
    const { exitCode, stderr } = runCommand([name, `127.0.0.1:${taken.localAddress.port}`]);
    expect(exitCode).toBe(1);
    expect(stderr).toStartWith(`bun-sockets ${name}: bind EADDRINUSE `);
  }
});
