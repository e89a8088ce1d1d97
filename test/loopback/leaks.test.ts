/**
 * Reports of leaks, with BUN_SOCKETS_LEAKS=1. Children, because it is looked at with the first socket
 * of a process, and warnings are the process's.
 */
import { describe, expect, test } from "bun:test";

const INDEX = JSON.stringify(new URL("../../lib/index.ts", import.meta.url));

interface Ran {
  readonly printed: unknown;
  readonly errors: string;
}

const prelude = `
import { Socket, socketCounters, UdpSocket, UnixDatagramSocket } from ${INDEX};
const warnings = [];
process.on("warning", ({ name, code, message, detail }) =>
  warnings.push({ name, code, message, detail }));
async function collect(count) {
  for (let i = 0; i < 400 && socketCounters().leaked < count; i++) {
    Bun.gc(true);
    await Bun.sleep(5);
  }
  // Warnings are told in a turn of their own.
  await Bun.sleep(0);
}
`;

function inChild(script: string, leaks = "1"): Ran {
  const child = Bun.spawnSync([process.execPath, "-e", prelude + script], {
    env: { ...process.env, BUN_SOCKETS_LEAKS: leaks, NODE_NO_WARNINGS: "" },
    timeout: 60_000,
  });
  const errors = child.stderr.toString();
  expect(child.exitCode, errors).toBe(0);
  const printed = child.stdout.toString();
  return { printed: printed === "" ? undefined : JSON.parse(printed), errors };
}

interface Warning {
  readonly name: string;
  readonly code: string;
  readonly message: string;
  readonly detail: string;
}

describe("with BUN_SOCKETS_LEAKS=1", () => {
  test("a socket that is collected open is reported once, with kind, addresses and stack", () => {
    const { printed, errors } = inChild(`
      let descriptor, address, peer;
      function loses() {
        const udp = UdpSocket.bind("127.0.0.1:0");
        descriptor = udp.descriptor;
        address = String(udp.localAddress);
        using other = UdpSocket.bind("127.0.0.1:0");
        peer = String(other.localAddress);
        udp.connectSync(peer);
      }
      function main() {
        loses();
      }
      main();
      await collect(1);
      await collect(2);
      console.log(JSON.stringify({ warnings, descriptor, address, peer }));
    `);
    const { warnings, descriptor, address, peer } = printed as {
      warnings: Warning[];
      descriptor: number;
      address: string;
      peer: string;
    };
    expect(warnings).toHaveLength(1);
    const [{ name, code, message, detail }] = warnings as [Warning];
    expect([name, code]).toEqual(["LeakWarning", "BUN_SOCKETS_LEAK"]);
    expect(message).toBe(
      "A UdpSocket was dropped open, and is closed now: ipv4 datagram, descriptor " +
        `${descriptor}, ${address} to ${peer}. Close it, or declare it with \`using\``,
    );
    const [intro, first, second] = detail.split("\n");
    expect(intro).toBe("It was made here:");
    expect(first).toStartWith("    at loses (");
    expect(second).toStartWith("    at main (");
    expect(detail).not.toContain("/lib/socket.ts");
    expect(errors.split(`LeakWarning: ${message}`)).toHaveLength(2);
    expect(errors).toContain(detail);
  }, 30_000);

  const droppings: readonly [what: string, each: string, count: number, kind: string][] = [
    ["a pair", "Socket.pair()", 2, "Socket"],
    ["a Unix datagram socket", "UnixDatagramSocket.open()", 1, "UnixDatagramSocket"],
    ["a duplicate", "kept.duplicate()", 1, "UdpSocket"],
    ["an adopted descriptor", "UdpSocket.adopt(kept.descriptor)", 1, "UdpSocket"],
    ["a socket that was shut down", 'Socket.pair()[0].shutdown("both")', 2, "Socket"],
    ["a socket without a reference", 'UdpSocket.open("ipv4").unref()', 1, "UdpSocket"],
    [
      "a socket that has waited",
      'await UdpSocket.bind("127.0.0.1:0").receiveBytes(1, { timeoutMs: 1 }).catch(() => {})',
      1,
      "UdpSocket",
    ],
  ];
  test.each(droppings)(
    "%s that was dropped is reported",
    (_, each, count, kind) => {
      const { printed } = inChild(`
        const kept = UdpSocket.open("ipv4");
        await (async () => { ${each}; })();
        await collect(${count});
        console.log(JSON.stringify([warnings, socketCounters().leaked]));
        kept.close();
      `);
      const [warnings, leaked] = printed as [Warning[], number];
      expect(warnings.map(({ message }) => message.split(" was dropped open")[0])).toEqual(
        Array(count).fill(`A ${kind}`),
      );
      expect(leaked).toBe(count);
    },
    30_000,
  );

  test("what was closed, detached, or ended by its block is not reported", () => {
    const { printed, errors } = inChild(`
      (() => {
        UdpSocket.open("ipv4").close();
        UdpSocket.open("ipv4").detach();
        using udp = UdpSocket.open("ipv4");
        using twin = udp.duplicate();
        try { UdpSocket.bind("127.0.0.1:0", { configure() { throw 1; } }); } catch {}
      })();
      // So that something is there to wait for.
      (() => UdpSocket.open("ipv4"))();
      await collect(1);
      console.log(JSON.stringify([warnings.length, socketCounters()]));
    `);
    expect(printed).toEqual([
      1,
      { open: 0, opened: 6, adopted: 0, closed: 4, detached: 1, leaked: 1 },
    ]);
    expect(errors.split("LeakWarning")).toHaveLength(2);
  }, 30_000);

  test("one whose descriptor somebody else has closed is not: it is not open", () => {
    const { printed } = inChild(`
      import { close } from ${JSON.stringify(new URL("../../lib/sys/index.ts", import.meta.url))};
      (() => close(UdpSocket.open("ipv4").descriptor))();
      for (let i = 0; i < 400 && socketCounters().open > 0; i++) {
        Bun.gc(true);
        await Bun.sleep(5);
      }
      await Bun.sleep(0);
      console.log(JSON.stringify([warnings.length, socketCounters()]));
    `);
    expect(printed).toEqual([
      0,
      { open: 0, opened: 1, adopted: 0, closed: 1, detached: 0, leaked: 0 },
    ]);
  }, 30_000);

  const ends: readonly [what: string, script: string][] = [
    ["the process ends by itself", ""],
    ["the process exits", "Bun.gc(true); process.exit(0);"],
    [
      "a thread ends",
      `const source = 'import { UdpSocket } from ' + JSON.stringify(${INDEX}) +
         '; globalThis.kept = UdpSocket.open("ipv4"); postMessage(0);';
       const worker = new Worker(URL.createObjectURL(new Blob([source])));
       await new Promise((resolve) => { worker.onmessage = resolve; });
       const closed = new Promise((resolve) => worker.addEventListener("close", resolve));
       worker.terminate();
       await closed;`,
    ],
  ];
  test.each(ends)(
    "what is open when %s is no leak",
    (_, script) => {
      const { errors } = inChild(`
      globalThis.kept = [UdpSocket.open("ipv4"), ...Socket.pair()];
      ${script}
    `);
      expect(errors).toBe("");
    },
    30_000,
  );

  test("a stack trace of the program's is as long as before", () => {
    const { printed } = inChild(`
      Error.stackTraceLimit = 3;
      UdpSocket.open("ipv4").close();
      console.log(JSON.stringify(Error.stackTraceLimit));
    `);
    expect(printed).toBe(3);
  }, 30_000);
});

describe("without BUN_SOCKETS_LEAKS", () => {
  test.each(["", "0"])(
    "a dropped socket is closed in silence (%j), and counted",
    (leaks) => {
      const { printed, errors } = inChild(
        `
        (() => UdpSocket.open("ipv4"))();
        await collect(1);
        console.log(JSON.stringify([warnings.length, socketCounters().leaked]));
      `,
        leaks,
      );
      expect(printed).toEqual([0, 1]);
      expect(errors).toBe("");
    },
    30_000,
  );

  test("nothing of it is loaded", () => {
    const script = `
      UdpSocket.open("ipv4").close();
      const loaded = [...require.cache ? Object.keys(require.cache) : []];
      console.log(JSON.stringify(loaded.filter((file) => file.endsWith("/leaks.ts")).length));
    `;
    expect(inChild(script, "").printed).toBe(0);
    expect(inChild(script).printed).toBe(1);
  }, 30_000);
});
