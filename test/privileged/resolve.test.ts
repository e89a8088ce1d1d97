/**
 * Names, against dnsmasq and files of our own: see support/dns_world.ts. What needs no resolver is in
 * test/loopback/resolve.test.ts.
 */
import { afterAll, beforeAll, describe, expect } from "bun:test";
import { DnsWorld, MANY_ALIASES } from "../support/dns_world.ts";
import { requires, testIf } from "../support/require.ts";

const PROGRAM = "test/privileged/names/program.ts";

const missing =
  process.env["BUN_SOCKETS_NAMESPACE"] === "1"
    ? requires("ip", "unshare", "mount", "dnsmasq", "python3")
    : "needs a network namespace of its own";
const named = testIf(missing);

// The promise form, libc's own call, and the one that keeps a time.
const FORMS = ["promise", "sync", "timed"] as const;
/** The resolver's own time is two seconds. */
const LIMIT_MS = 300;
const RESOLVER_MS = 2000;
/** LOOKUPS_MAX. */
const THREADS_MAX = 8;

let world: DnsWorld;
const ask = (name: string, ...values: unknown[]) => world.ask(name, ...values);

// Those that take the resolver's own time take it side by side, each in a world of its own.
const SLOW = {
  crowd: [["crowd", 20]],
  crowdSync: [["crowdSync", 20]],
  workers: [["leftovers"], ["workers", 3], ["leftovers"]],
  hosts: [["leftovers"], ["silentHosts", LIMIT_MS], ["leftovers"]],
  abandoned: [
    ["leftovers"],
    ["silent", "resolve", LIMIT_MS],
    ["silent", "reverse", LIMIT_MS],
    ["silentSync", "resolve", LIMIT_MS],
    ["silentSync", "reverse", LIMIT_MS],
    ["aborted"],
    ["leftovers"],
  ],
} as const;

async function inWorld(questions: readonly (readonly unknown[])[]): Promise<unknown[]> {
  const other = await DnsWorld.start(PROGRAM);
  try {
    // What the first lookup loads and compiles is no part of what is asked.
    await other.ask("resolve", "promise", "four.test", 80, {});
    const answers: unknown[] = [];
    for (const [name, ...values] of questions)
      answers.push(await other.ask(name as string, ...values));
    return answers;
  } finally {
    await other.stop();
  }
}

const slow = new Map<keyof typeof SLOW, Promise<unknown[]>>();
const answersOf = async (name: keyof typeof SLOW) => (await slow.get(name)) as unknown[];

beforeAll(async () => {
  if (missing !== undefined) return;
  for (const [name, questions] of Object.entries(SLOW)) {
    const answers = inWorld(questions);
    // The test that awaits them tells.
    answers.catch(() => {});
    slow.set(name as keyof typeof SLOW, answers);
  }
  world = await DnsWorld.start(PROGRAM);
});

afterAll(async () => {
  if (missing !== undefined) return;
  await Promise.allSettled(slow.values());
  await world.stop();
});

const STREAM = { type: "stream" };

interface Outcome {
  readonly value?: readonly { readonly address: string; readonly canonicalName?: string }[];
  readonly error?: Record<string, unknown>;
}

async function resolved(
  form: string,
  host: string,
  service: string | number | null,
  hints: object = {},
): Promise<Outcome> {
  return (await ask("resolve", form, host, service, hints)) as Outcome;
}

const addresses = ({ value = [] }: Outcome): string[] => value.map(({ address }) => address);

for (const form of FORMS) {
  describe(`resolve, in its ${form} form`, () => {
    named(`gives all addresses of both families, in the order of gai.conf (${form})`, async () => {
      const found = addresses(await resolved(form, "many.test", 80, STREAM));
      // What dnsmasq rotates.
      expect(found.slice(0, 2).toSorted()).toEqual(["192.0.2.11:80", "192.0.2.12:80"]);
      expect(found.slice(2).toSorted()).toEqual(["[2001:db8::11]:80", "[2001:db8::12]:80"]);
    });

    named(`puts a family in front, as asked (${form})`, async () => {
      for (const [order, pattern] of [
        ["ipv4first", /^192.*,192.*,\[.*,\[/],
        ["ipv6first", /^\[.*,\[.*,192.*,192/],
        ["verbatim", /^192.*,192.*,\[.*,\[/],
      ] as const) {
        const found = await resolved(form, "many.test", 80, { ...STREAM, order });
        expect(addresses(found).join(",")).toMatch(pattern);
      }
    });

    named(
      `gives an entry for each type of socket, unless a type is asked for (${form})`,
      async () => {
        const { value } = await resolved(form, "four.test", 80);
        const address = "192.0.2.4:80";
        expect(value as unknown).toEqual([
          { address, type: "stream", protocol: 6 },
          { address, type: "datagram", protocol: 17 },
          { address, type: "raw", protocol: 0 },
        ]);
        const datagrams = await resolved(form, "four.test", 80, { type: "datagram" });
        expect(datagrams.value as unknown).toEqual([{ address, type: "datagram", protocol: 17 }]);
      },
    );

    named(`keeps to a protocol (${form})`, async () => {
      const { value } = await resolved(form, "four.test", 80, { protocol: 17 });
      expect(value as unknown).toEqual([
        { address: "192.0.2.4:80", type: "datagram", protocol: 17 },
      ]);
    });

    named(`keeps to a family (${form})`, async () => {
      const four = await resolved(form, "many.test", 80, { ...STREAM, family: "ipv4" });
      expect(addresses(four).toSorted()).toEqual(["192.0.2.11:80", "192.0.2.12:80"]);
      const six = await resolved(form, "many.test", 80, { ...STREAM, family: "ipv6" });
      expect(addresses(six).toSorted()).toEqual(["[2001:db8::11]:80", "[2001:db8::12]:80"]);
    });

    named(`finds services by any of their names, for the type of socket (${form})`, async () => {
      for (const [service, type, port] of [
        ["http", "stream", 80],
        ["www-http", "stream", 80],
        ["odd-one", "stream", 4711],
        ["odd-one", "datagram", 4712],
        ["comsat", "datagram", 512],
        ["65535", "stream", 65535],
        ["0080", "stream", 80],
      ] as const) {
        const found = await resolved(form, "four.test", service, { type });
        expect(addresses(found)).toEqual([`192.0.2.4:${port}`]);
      }
    });

    named(`finds hosts in the hosts file (${form})`, async () => {
      expect(addresses(await resolved(form, "alias.hosts.test", 80, STREAM))).toEqual([
        "192.0.2.51:80",
      ]);
    });

    named(
      `tells the canonical name where it is asked for, in the first entry (${form})`,
      async () => {
        const hints = { ...STREAM, canonicalName: true };
        const { value = [] } = await resolved(form, "www.test", 80, hints);
        expect(value as unknown).toEqual([
          { address: "192.0.2.4:80", type: "stream", protocol: 6, canonicalName: "four.test" },
        ]);
        const many = await resolved(form, "many.test", 80, { ...hints, order: "ipv6first" });
        const names = many.value?.map(({ canonicalName }) => canonicalName);
        expect(names as unknown).toEqual(["many.test", undefined, undefined, undefined]);
        expect(await resolved(form, "www.test", 80, STREAM)).toEqual({
          value: [{ address: "192.0.2.4:80", type: "stream", protocol: 6 }] as never,
        });
      },
    );

    named(`maps IPv4 addresses for IPv6 sockets, as asked (${form})`, async () => {
      const six = { ...STREAM, family: "ipv6" };
      const mapped = { ...six, v4mapped: true };
      expect(addresses(await resolved(form, "four.test", 80, mapped))).toEqual([
        "[::ffff:192.0.2.4]:80",
      ]);
      // Those that a host has are enough, unless all are asked for.
      expect(addresses(await resolved(form, "many.test", 80, mapped))).toHaveLength(2);
      const all = addresses(await resolved(form, "many.test", 80, { ...mapped, all: true }));
      expect(all.toSorted()).toEqual([
        "[2001:db8::11]:80",
        "[2001:db8::12]:80",
        "[::ffff:192.0.2.11]:80",
        "[::ffff:192.0.2.12]:80",
      ]);
      const { error } = await resolved(form, "four.test", 80, six);
      expect(error).toMatchObject({ isNotFound: true, syscall: "getaddrinfo" });
    });

    named(
      `leaves out families that this machine has no address of, as asked (${form})`,
      async () => {
        const hints = { ...STREAM, addrconfig: true };
        expect(addresses(await resolved(form, "many.test", 80, hints))).toHaveLength(4);
        const ip = (verb: string) =>
          ask("ip", "-6", "addr", verb, "2001:db8::1/64", "dev", "lo", "nodad");
        expect(await ip("del")).toBe(0);
        try {
          const found = addresses(await resolved(form, "many.test", 80, hints));
          expect(found.toSorted()).toEqual(["192.0.2.11:80", "192.0.2.12:80"]);
          // The loopback addresses are there all the same.
          const local = await resolved(form, "localhost", 80, { ...hints, family: "ipv6" });
          expect(addresses(local)).toEqual(["[::1]:80"]);
        } finally {
          expect(await ip("add")).toBe(0);
        }
      },
    );

    named(
      `names below localhost are the loopback addresses, whatever a resolver says (${form})`,
      async () => {
        for (const host of ["localhost", "LOCALHOST.", "a.b.localhost", "x.LocalHost."]) {
          const found = await resolved(form, host, "http", { ...STREAM, addrconfig: true });
          expect(addresses(found).toSorted()).toEqual(["127.0.0.1:80", "[::1]:80"]);
          for (const [family, address] of [
            ["ipv4", "127.0.0.1:80"],
            ["ipv6", "[::1]:80"],
          ] as const) {
            const one = await resolved(form, host, 80, { ...STREAM, family, passive: true });
            expect(addresses(one)).toEqual([address]);
          }
        }
        const named = await resolved(form, "a.localhost", 80, {
          ...STREAM,
          canonicalName: true,
          order: "ipv4first",
        });
        expect(named.value as unknown).toEqual([
          { address: "127.0.0.1:80", type: "stream", protocol: 6, canonicalName: "a.localhost" },
          { address: "[::1]:80", type: "stream", protocol: 6 },
        ]);
        // This is no name below it.
        const { error } = await resolved(form, "notlocalhost", 80, STREAM);
        expect(error).toMatchObject({ name: "ResolutionError" });
      },
    );

    named(`a name that does not exist is EAI_NONAME (${form})`, async () => {
      const { error } = await resolved(form, "none.test", "http", STREAM);
      expect(error).toEqual({
        name: "ResolutionError",
        message: "getaddrinfo EAI_NONAME: Name or service not known (none.test, service http)",
        code: "EAI_NONAME",
        syscall: "getaddrinfo",
        host: "none.test",
        service: "http",
        isNotFound: true,
        isTemporary: false,
      });
    });

    named(`a resolver that fails is EAI_AGAIN (${form})`, async () => {
      const { error } = await resolved(form, "any.servfail.test", 80, STREAM);
      expect(error).toMatchObject({
        name: "ResolutionError",
        code: "EAI_AGAIN",
        host: "any.servfail.test",
        isNotFound: false,
        isTemporary: true,
      });
    });

    named(`a service that nobody knows is EAI_SERVICE (${form})`, async () => {
      for (const [service, type] of [
        ["no-such-service", "stream"],
        ["biff", "stream"],
        // Its line says 65536, which libc takes for 0.
        ["too-high", "stream"],
      ]) {
        const { error } = await resolved(form, "four.test", service as string, { type });
        expect(error).toMatchObject({ code: "EAI_SERVICE", service });
      }
    });
  });

  describe(`reverse, in its ${form} form`, () => {
    const reversed = async (address: string, hints: object = {}) =>
      (await ask("reverse", form, address, hints)) as {
        value?: unknown;
        error?: Record<string, unknown>;
      };

    named(`gives the names of host and service (${form})`, async () => {
      for (const [address, host, service] of [
        ["192.0.2.9:80", "near.test", "http"],
        ["[2001:db8::6]:4711", "six.test", "odd-one"],
        ["192.0.2.51:512", "first.hosts.test", "exec"],
      ] as const)
        expect(await reversed(address)).toEqual({ value: { host, service } });
    });

    named(`gives numbers where there are no names, or as asked (${form})`, async () => {
      expect(await reversed("192.0.2.77:81")).toEqual({
        value: { host: "192.0.2.77", service: "81" },
      });
      expect(await reversed("192.0.2.9:80", { numericHost: true })).toEqual({
        value: { host: "192.0.2.9", service: "http" },
      });
      expect(await reversed("192.0.2.9:80", { numericService: true })).toEqual({
        value: { host: "near.test", service: "80" },
      });
      expect(await reversed("[fe80::9%lo]:80", { numericHost: true })).toEqual({
        value: { host: "fe80::9%lo", service: "http" },
      });
    });

    named(
      `an address without a name is EAI_NONAME where a name is required (${form})`,
      async () => {
        const { error } = await reversed("192.0.2.77:81", { nameRequired: true });
        expect(error).toMatchObject({
          name: "ResolutionError",
          code: "EAI_NONAME",
          syscall: "getnameinfo",
          host: "192.0.2.77",
          service: "81",
        });
        expect(await reversed("192.0.2.9:80", { nameRequired: true })).toMatchObject({
          value: { host: "near.test" },
        });
      },
    );

    named(`gives the service's name over UDP, as asked (${form})`, async () => {
      expect(await reversed("192.0.2.9:512", { datagram: true })).toEqual({
        value: { host: "near.test", service: "biff" },
      });
      expect(await reversed("192.0.2.9:80", { datagram: true })).toEqual({
        value: { host: "near.test", service: "80" },
      });
    });

    named(`leaves the domain of this machine out, as asked (${form})`, async () => {
      expect(await reversed("192.0.2.9:80", { noFqdn: true })).toEqual({
        value: { host: "near", service: "http" },
      });
      expect(await reversed("192.0.2.9:80")).toMatchObject({ value: { host: "near.test" } });
    });
  });
}

interface Host {
  readonly value?: {
    readonly name: string;
    readonly aliases: string[];
    readonly addresses: string[];
  };
  readonly error?: Record<string, unknown>;
}

for (const form of FORMS) {
  describe(`hostByName, in its ${form} form`, () => {
    const found = async (host: string, hints: object = {}) =>
      (await ask("hostByName", form, host, hints)) as Host;

    named(
      `gives the other names of a host in the hosts file, by any of them (${form})`,
      async () => {
        const value = {
          name: "first.hosts.test",
          aliases: ["alias.hosts.test"],
          addresses: ["192.0.2.51:0"],
        };
        expect(await found("first.hosts.test")).toEqual({ value });
        expect(await found("alias.hosts.test")).toEqual({ value });
        expect(await found("ALIAS.hosts.TEST", { family: "ipv4" })).toEqual({ value });
      },
    );

    named(`gives as many names as there are (${form})`, async () => {
      const aliases = [...MANY_ALIASES];
      expect(await found(aliases.at(-1) as string)).toEqual({
        value: { name: "crowded.hosts.test", aliases, addresses: ["192.0.2.52:0"] },
      });
    });

    named(`gives the names that lead to a host in DNS (${form})`, async () => {
      const addresses = ["192.0.2.4:0"];
      expect(await found("www.test")).toEqual({
        value: { name: "four.test", aliases: ["www.test", "middle.test"], addresses },
      });
      expect(await found("middle.test", { family: "ipv4" })).toEqual({
        value: { name: "four.test", aliases: ["middle.test"], addresses },
      });
      expect(await found("four.test")).toEqual({
        value: { name: "four.test", aliases: [], addresses },
      });
    });

    named(`gives all addresses, of both families or of one (${form})`, async () => {
      const four = ["192.0.2.11:0", "192.0.2.12:0"];
      const six = ["[2001:db8::11]:0", "[2001:db8::12]:0"];
      for (const [family, addresses] of [
        [undefined, [...four, ...six]],
        ["ipv4", four],
        ["ipv6", six],
      ] as const) {
        const { value } = await found("many.test", { family });
        expect([value?.name, value?.aliases]).toEqual(["many.test", []]);
        expect(value?.addresses.toSorted()).toEqual([...addresses]);
      }
      expect(await found("six.test")).toEqual({
        value: { name: "six.test", aliases: [], addresses: ["[2001:db8::6]:0"] },
      });
    });

    named(`asks no resolver about localhost (${form})`, async () => {
      const { value } = await found("a.localhost");
      expect([value?.name, value?.aliases]).toEqual(["a.localhost", []]);
      expect(value?.addresses.toSorted()).toEqual(["127.0.0.1:0", "[::1]:0"]);
    });

    named(`says why there is none (${form})`, async () => {
      const [call, host] = ["gethostbyname2_r", "none.test"];
      expect((await found(host)).error).toEqual({
        name: "ResolutionError",
        message: `${call} EAI_NONAME: Name or service not known (${host})`,
        code: "EAI_NONAME",
        syscall: call,
        host,
        isNotFound: true,
        isTemporary: false,
      });
      expect((await found("four.test", { family: "ipv6" })).error).toMatchObject({
        code: "EAI_NODATA",
        isNotFound: true,
      });
      expect((await found("any.servfail.test")).error).toMatchObject({
        name: "ResolutionError",
        code: "EAI_AGAIN",
        isTemporary: true,
      });
    });
  });

  describe(`hostByAddress, in its ${form} form`, () => {
    const found = async (address: string) => (await ask("hostByAddress", form, address)) as Host;

    named(`gives the names of an address, in the hosts file and in DNS (${form})`, async () => {
      for (const text of ["192.0.2.51", "192.0.2.51:80"])
        expect(await found(text)).toEqual({
          value: {
            name: "first.hosts.test",
            aliases: ["alias.hosts.test"],
            addresses: ["192.0.2.51:0"],
          },
        });
      expect(await found("192.0.2.9")).toEqual({
        value: { name: "near.test", aliases: [], addresses: ["192.0.2.9:0"] },
      });
      expect(await found("2001:db8::6")).toEqual({
        value: { name: "six.test", aliases: [], addresses: ["[2001:db8::6]:0"] },
      });
      expect((await found("192.0.2.52")).value?.aliases).toEqual([...MANY_ALIASES]);
    });

    named(`keeps the zone of the address (${form})`, async () => {
      expect(await found("fe80::77%lo")).toEqual({
        value: { name: "zoned.test", aliases: [], addresses: ["[fe80::77%lo]:0"] },
      });
    });

    named(`says that it has none (${form})`, async () => {
      expect((await found("192.0.2.77")).error).toMatchObject({
        name: "ResolutionError",
        code: "EAI_NONAME",
        syscall: "gethostbyaddr_r",
        host: "192.0.2.77",
        isNotFound: true,
      });
    });
  });
}

/** What such an error says beside the call: what was asked for, and the limit. */
const LATE = {
  host: expect.stringMatching(/^[\w.-]+$/),
  message: expect.stringMatching(
    new RegExp(`ETIMEDOUT [\\w.:-]+: timed out after ${LIMIT_MS} ms$`),
  ),
};

named("a lookup of a host ends in time, or with its signal", async () => {
  const [{ answers, passedMs }] = (await answersOf("hosts")).slice(1) as [
    { answers: unknown[]; passedMs: number },
  ];
  const [aborted, ...outcomes] = answers;
  expect(aborted).toBe(true);
  const late = (syscall: string) => ({ name: "TimeoutError", code: "ETIMEDOUT", syscall });
  for (const [i, { error }] of (outcomes as Host[]).entries()) {
    expect(error).toMatchObject(late(i % 2 ? "gethostbyaddr_r" : "gethostbyname2_r"));
    expect(error).toMatchObject(LATE);
  }
  expect(passedMs).toBeGreaterThanOrEqual(4 * LIMIT_MS);
});

named("lookups of hosts that are abandoned leave nothing behind", async () => {
  const answers = await answersOf("hosts");
  expect(answers.at(-1)).toEqual(answers[0]);
});

named("many lookups of hosts at once give each its own answer", async () => {
  expect(await ask("hostStorm", 40)).toEqual({ wrong: [], grown: 0 });
});

describe("a resolver that never answers", () => {
  interface Silent {
    readonly error: Record<string, unknown>;
    readonly ticks: number;
    readonly passedMs: number;
    readonly stillAsking: number;
  }

  named("lets the promise forms reject in time, while the loop goes on", async () => {
    const [, ...outcomes] = (await answersOf("abandoned")).slice(0, 3) as [unknown, Silent, Silent];
    for (const [i, { error, ticks, passedMs, stillAsking }] of outcomes.entries()) {
      const syscall = ["getaddrinfo", "getnameinfo"][i];
      expect(error).toMatchObject({ name: "TimeoutError", code: "ETIMEDOUT", syscall, ...LATE });
      expect(passedMs).toBeGreaterThanOrEqual(LIMIT_MS);
      // libc itself had not given up.
      expect(passedMs).toBeLessThan(RESOLVER_MS);
      expect(stillAsking).toBeGreaterThan(0);
      // One that blocked the loop would let it tick once.
      expect(ticks).toBeGreaterThan(5);
    }
  });

  named("lets the Sync forms throw in time", async () => {
    const outcomes = (await answersOf("abandoned")).slice(3, 5) as Silent[];
    for (const [i, { error, passedMs, stillAsking }] of outcomes.entries()) {
      const syscall = ["getaddrinfo", "getnameinfo"][i];
      expect(error).toMatchObject({ name: "TimeoutError", code: "ETIMEDOUT", syscall, ...LATE });
      expect(passedMs).toBeGreaterThanOrEqual(LIMIT_MS);
      expect(passedMs).toBeLessThan(RESOLVER_MS);
      expect(stillAsking).toBeGreaterThan(0);
    }
  });

  named("is left at once when the signal is aborted, with its reason", async () => {
    const [aborted] = (await answersOf("abandoned")).slice(5) as [Record<string, unknown>];
    expect(aborted).toMatchObject({ isReason: true, early: true });
    expect(aborted["stillAsking"]).toBeGreaterThan(0);
    // One that was aborted before starts nothing.
    expect(aborted["afterEarly"]).toBe(aborted["stillAsking"]);
  });

  named("leaves nothing behind when libc has given up", async () => {
    const answers = await answersOf("abandoned");
    expect(answers.at(-1)).toEqual(answers[0]);
  });

  named("holds up no more than eight threads, and others have their turn", async () => {
    const behind = [{ address: "192.0.2.4:80", type: "stream", protocol: 6 }];
    for (const name of ["crowd", "crowdSync"] as const) {
      const [{ codes, most, ...rest }] = (await answersOf(name)) as [Record<string, unknown>];
      expect({ name, codes, most }).toEqual({ name, codes: ["ETIMEDOUT"], most: THREADS_MAX });
      expect(rest).toEqual({ behind });
    }
  });

  named("outlives the Workers that have asked, and all is freed", async () => {
    const [before, workers, after] = (await answersOf("workers")) as Record<string, unknown>[];
    expect(workers).toMatchObject({
      asking: 12,
      answer: [{ address: "192.0.2.4:80", type: "stream", protocol: 6 }],
    });
    expect(after).toEqual(before);
  });
});

describe("the process", () => {
  const ended = async (source: string) =>
    (await ask("child", source)) as { output: string; errors: string; exitCode: number };

  named("lives as long as a lookup is waited for", async () => {
    const source = `resolve("near.test", 80, { type: "stream" })
      .then(([first]) => console.log(\`\${first.address}\`));`;
    expect(await ended(source)).toEqual({ output: "192.0.2.9:80", errors: "", exitCode: 0 });
  });

  named("ends while a lookup goes on that nobody waits for", async () => {
    const source = `
      process.on("exit", () => console.log(threads()));
      resolve("silent.test", 80, { timeoutMs: 100 }).catch(({ code }) => console.log(code));`;
    expect(await ended(source)).toEqual({ output: "ETIMEDOUT\n1", errors: "", exitCode: 0 });
  });

  named("ends by process.exit() while a lookup goes on", async () => {
    const source = `
      const silent = resolve("silent.test", 80);
      const look = () => threads() === 1 ? (console.log("asking"), process.exit(3)) : setTimeout(look);
      look();`;
    expect(await ended(source)).toEqual({ output: "asking", errors: "", exitCode: 3 });
  });

  named("ends after a Sync form that was too short", async () => {
    const source = `
      try { resolveSync("silent.test", 80, { timeoutMs: 50 }); } catch ({ code }) { console.log(code); }
      process.on("exit", () => console.log(threads()));`;
    expect(await ended(source)).toEqual({ output: "ETIMEDOUT\n1", errors: "", exitCode: 0 });
  });
});

named("400 lookups at once each have their own answer, and leave nothing open", async () => {
  await ask("storm", 8);
  expect(await ask("storm", 400)).toEqual({ wrong: [], grown: 0 });
});

describe("services", () => {
  const http = { name: "http", aliases: ["www", "www-http"], port: 80, protocol: "tcp" };

  named("serviceByName() finds official names and aliases", async () => {
    expect(await ask("serviceByName", "http")).toEqual(http);
    expect(await ask("serviceByName", "www", "tcp")).toEqual(http);
    expect(await ask("serviceByName", "odd-one", "udp")).toMatchObject({ port: 4712 });
    expect(await ask("serviceByName", "odd-one")).toMatchObject({ port: 4711, protocol: "tcp" });
    expect(await ask("serviceByName", "http", "udp")).toBeNull();
    expect(await ask("serviceByName", "none")).toBeNull();
  });

  named("serviceByPort() finds the same", async () => {
    expect(await ask("serviceByPort", 80, "tcp")).toEqual(http);
    expect(await ask("serviceByPort", 512, "udp")).toMatchObject({ name: "biff" });
    expect(await ask("serviceByPort", 512)).toMatchObject({ name: "exec", protocol: "tcp" });
    expect(await ask("serviceByPort", 80, "udp")).toBeNull();
    expect(await ask("serviceByPort", 81)).toBeNull();
  });

  named("services() gives all of the file, in its order", async () => {
    expect(await ask("services")).toEqual([
      http,
      { name: "exec", aliases: [], port: 512, protocol: "tcp" },
      { name: "biff", aliases: ["comsat"], port: 512, protocol: "udp" },
      { name: "odd-one", aliases: ["strange"], port: 4711, protocol: "tcp" },
      { name: "odd-one", aliases: [], port: 4712, protocol: "udp" },
    ]);
  });
});

describe("protocols", () => {
  named("protocolByName() and protocolByNumber() are inverses", async () => {
    const ours = { name: "ours", aliases: ["OURS", "mine"], number: 253 };
    for (const name of ["ours", "OURS", "mine"])
      expect(await ask("protocolByName", name)).toEqual(ours);
    expect(await ask("protocolByNumber", 253)).toEqual(ours);
    expect(await ask("protocolByName", "icmp")).toBeNull();
    expect(await ask("protocolByNumber", 1)).toBeNull();
  });

  named("protocols() gives all of the file, in its order", async () => {
    expect(await ask("protocols")).toEqual([
      { name: "ip", aliases: ["IP"], number: 0 },
      { name: "tcp", aliases: ["TCP"], number: 6 },
      { name: "udp", aliases: ["UDP"], number: 17 },
      { name: "ours", aliases: ["OURS", "mine"], number: 253 },
    ]);
  });
});

describe("host names", () => {
  named("hostName() is the short one, fullHostName() what a resolver makes of it", async () => {
    expect(await ask("rename", "box")).toEqual({ value: "box" });
    expect(await ask("hostNames")).toEqual(["box", "box.test", "first.hosts.test"]);
    expect(await ask("hostNamesSync")).toEqual(["box.test", "first.hosts.test", "four.test"]);
    expect(await ask("rename", "box.test")).toEqual({ value: "box.test" });
  });

  named("setHostName() takes names of 64 bytes", async () => {
    expect(await ask("rename", "a".repeat(64))).toEqual({ value: "a".repeat(64) });
    expect(await ask("rename", "box.test")).toEqual({ value: "box.test" });
  });
});
