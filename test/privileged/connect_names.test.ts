/**
 * Connecting to names, and listening on names, that are missing, that no resolver can answer, and
 * that nobody answers: see support/dns_world.ts. Nothing waits longer than it was told to.
 */
import { afterAll, beforeAll, expect } from "bun:test";
import { DnsWorld } from "../support/dns_world.ts";
import { requires, testIf } from "../support/require.ts";

const missing =
  process.env["BUN_SOCKETS_NAMESPACE"] === "1"
    ? requires("ip", "unshare", "mount", "dnsmasq", "python3")
    : "needs a network namespace of its own";
const named = testIf(missing);

/** Long enough to be told from the resolver's own two seconds. */
const LIMIT_MS = 300;
const LATE_MS = 1500;

let world: DnsWorld;

beforeAll(async () => {
  if (missing === undefined) world = await DnsWorld.start("test/privileged/names/connecting.ts");
});

afterAll(() => world?.stop());

const connects = [
  "connect",
  "connect by one text",
  "connectSync",
  "connectSync by one text",
] as const;
const listens = ["listen", "listenAll", "listenAllSync"] as const;

for (const call of [...connects, ...listens]) {
  const all = (host: string, service: string | number) =>
    world.ask(call, host, service, 5000) as Promise<Record<string, unknown>>;

  named(`${call} to a name that does not exist is EAI_NONAME, and tells which`, async () => {
    const told = await all("nobody.test", 4711);
    expect(told).toMatchObject({ kind: "ResolutionError", code: "EAI_NONAME", grown: 0 });
    expect(told["message"]).toContain("nobody.test");
    expect(told["passedMs"]).toBeLessThan(LATE_MS);
  });

  named(`${call} to a name whose resolver fails is EAI_AGAIN`, async () => {
    const told = await all("any.servfail.test", 4711);
    expect(told).toMatchObject({ kind: "ResolutionError", code: "EAI_AGAIN", grown: 0 });
    expect(told["message"]).toContain("any.servfail.test");
  });

  named(`${call} with a service that nobody knows is EAI_SERVICE`, async () => {
    const told = await all("four.test", "no-such-service");
    expect(told).toMatchObject({ kind: "ResolutionError", code: "EAI_SERVICE", grown: 0 });
    expect(told["message"]).toContain("no-such-service");
  });
}

for (const call of [...connects, "listenAll", "listenAllSync"])
  named(`${call} to a name that nobody answers for ends in the asked time`, async () => {
    const told = (await world.ask(call, "one.silent.test", 80, LIMIT_MS)) as Record<
      string,
      unknown
    >;
    expect(told).toMatchObject({ kind: "TimeoutError", code: "ETIMEDOUT" });
    expect(told["message"]).toContain("one.silent.test");
    expect(told["passedMs"]).toBeGreaterThanOrEqual(LIMIT_MS - 1);
    expect(told["passedMs"]).toBeLessThan(LATE_MS);
  });

named("connect to a name that nobody answers for ends with its signal", async () => {
  const told = (await world.ask(
    "connect with a signal",
    "two.silent.test",
    80,
    LIMIT_MS,
  )) as Record<string, unknown>;
  expect(told).toMatchObject({ kind: "TimeoutError" });
  expect(told["passedMs"]).toBeLessThan(LATE_MS);
});

named("listen on a name that nobody answers for ends when libc gives up", async () => {
  const told = (await world.ask("listen", "three.silent.test", 80, 0)) as Record<string, unknown>;
  expect(told).toMatchObject({ kind: "ResolutionError", code: "EAI_AGAIN" });
});
