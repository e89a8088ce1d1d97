import { describe, expect } from "bun:test";
import { DatagramBatch, SystemError, UdpSocket } from "bun-sockets";
import { requires, testIf } from "../support/require.ts";

const WAIT = { timeoutMs: 2000 };

const namespaced = testIf(
  process.env["BUN_SOCKETS_NAMESPACE"] === "1"
    ? requires("ip")
    : "needs a network namespace of its own",
);

// The errors of ip-route(8) for each type of route; a new namespace has no other route at all.
const routes = [
  { type: "unreachable", code: "EHOSTUNREACH" },
  { type: "prohibit", code: "EACCES" },
  { type: "blackhole", code: "EINVAL" },
  { type: undefined, code: "ENETUNREACH" },
] as const;

const families = [
  { family: "ipv4", loopback: "127.0.0.1:0", net: "198.51.100.0/24", to: "198.51.100.7:9" },
  { family: "ipv6", loopback: "[::1]:0", net: "2001:db8:7::/64", to: "[2001:db8:7::7]:9" },
] as const;

/** Adds a route and takes it away at the end of the block. */
function addRoute(family: string, type: string | undefined, net: string): Disposable {
  const flag = family === "ipv4" ? "-4" : "-6";
  const ip = (verb: string) => {
    if (type === undefined) return;
    const { success, stderr } = Bun.spawnSync(["ip", flag, "route", verb, type, net]);
    if (!success) throw new Error(`ip route ${verb}: ${stderr.toString()}`);
  };
  ip("add");
  return { [Symbol.dispose]: () => ip("del") };
}

function drain(udp: UdpSocket): string[] {
  const target = Buffer.alloc(2048);
  const texts: string[] = [];
  for (;;) {
    const length = udp.tryReceive(target);
    if (length === undefined) return texts;
    texts.push(target.toString("utf8", 0, length));
  }
}

describe.each(families)("over $family", ({ family, loopback, net, to }) => {
  for (const { type, code } of routes) {
    const name = type === undefined ? "a destination without a route" : `a route of type ${type}`;

    for (const send of ["trySendBatch", "sendBatchSync"] as const) {
      namespaced(`${send}(): ${name} harms no other slot (${family})`, () => {
        using _ = addRoute(family, type, net);
        using server = UdpSocket.bind(loopback);
        using client = UdpSocket.open(family);
        using batch = new DatagramBatch({ capacity: 8 });
        for (const bad of [[0], [3], [7], [0, 1, 7], [0, 1, 2, 3, 4, 5, 6, 7]]) {
          batch.count = 8;
          for (let i = 0; i < 8; i++) {
            batch.write(i, `datagram ${i}`);
            batch.setAddress(i, bad.includes(i) ? to : server.localAddress);
          }
          const good = [0, 1, 2, 3, 4, 5, 6, 7].filter((i) => !bad.includes(i));
          expect(client[send](batch)).toBe(good.length);
          expect([batch.failed, batch.stopped]).toEqual([bad.length, undefined]);
          for (const i of bad) expect(batch.failure(i)).toBe(code);
          for (const i of good) expect(batch.failure(i)).toBeUndefined();
          expect(drain(server)).toEqual(good.map((i) => `datagram ${i}`));
          expect(client.tryReceive(new Uint8Array(1))).toBeUndefined();
        }
      });
    }

    namespaced(`trySendTo() and connect(): ${name} is an error by name (${family})`, () => {
      using _ = addRoute(family, type, net);
      using server = UdpSocket.bind(loopback);
      using client = UdpSocket.open(family);
      for (const [syscall, run] of [
        ["sendto", () => client.trySendTo(new Uint8Array(1), to)],
        ["sendto", () => client.sendToSync("x", to, WAIT)],
        ["connect", () => client.connectSync(to)],
      ] as const) {
        let error: unknown;
        try {
          run();
        } catch (thrown) {
          error = thrown;
        }
        expect(error).toBeInstanceOf(SystemError);
        expect(error).toMatchObject({ code, syscall, destination: to, port: 9 });
      }
      expect(client.connected).toBe(false);
      client.sendToSync("still works", server.localAddress);
      expect(drain(server)).toEqual(["still works"]);
    });
  }
});
