/**
 * UDP sends that wait for room: a link whose neighbour does not answer keeps what is sent, and the
 * send buffer fills.
 */
import { afterAll, beforeAll, beforeEach, expect } from "bun:test";
import { ClosedError, DatagramBatch, Message, TimeoutError, UdpSocket } from "bun-sockets";
import { requires, testIf } from "../support/require.ts";
import {
  beginCount,
  outcomes,
  reasonOf,
  startPoller,
  turns,
  until,
  waiters,
  waiting,
} from "../support/waiting.ts";

const LINK = "bs-room";
const HERE = "198.51.100.1";
const PIECE = 1000;
const OPTIONS = { sendBufferBytes: 8192 };

const missing =
  process.env["BUN_SOCKETS_NAMESPACE"] === "1"
    ? requires("ip")
    : "needs a network namespace of its own";
const namespaced = testIf(missing);

function ip(...values: string[]): string {
  const { success, stdout, stderr } = Bun.spawnSync(["ip", ...values]);
  if (!success) throw new Error(`ip ${values.join(" ")}: ${stderr.toString()}`);
  return stdout.toString();
}

let hosts = 1;

/** A neighbour that nobody has asked for yet, and that never answers. */
function silent(): string {
  return `198.51.100.${++hosts}`;
}

/** Says where a neighbour is: what was kept for it goes out. */
function answer(host: string): void {
  ip("neigh", "replace", host, "lladdr", "02:00:00:00:00:02", "dev", LINK, "nud", "permanent");
}

/** Datagrams that have left the link. */
function sentPackets(): number {
  const statistics = ip("-s", "-j", "link", "show", LINK);
  return JSON.parse(statistics)[0].stats64.tx.packets;
}

beforeAll(async () => {
  if (missing !== undefined) return;
  ip("link", "add", LINK, "type", "veth", "peer", "name", `${LINK}-peer`);
  ip("addr", "add", `${HERE}/24`, "dev", LINK);
  ip("link", "set", LINK, "up");
  ip("link", "set", `${LINK}-peer`, "up");
  await startPoller();
});

beforeEach(beginCount);

afterAll(() => {
  if (missing === undefined) ip("link", "del", LINK);
});

/** Sends until there is no room. */
function fill(socket: UdpSocket, to: string): number {
  let sent = 0;
  while (socket.trySendTo(new Uint8Array(PIECE), to) !== undefined) sent++;
  return sent;
}

namespaced("send(), sendTo(), sendMessage() and sendBatch() wait for room, in order", async () => {
  const host = silent();
  using socket = UdpSocket.open("ipv4", OPTIONS);
  socket.connectSync(`${host}:9`);
  const filled = fill(socket, `${host}:9`);
  expect(filled).toBeGreaterThan(1);
  using batch = new DatagramBatch({ capacity: 20, slotBytes: PIECE });
  batch.count = 20;
  for (let i = 0; i < 20; i++) batch.write(i, new Uint8Array(PIECE));
  const data = new Uint8Array(PIECE);
  const order: number[] = [];
  const promises = [
    waiting(() => socket.send(data)),
    waiting(() => socket.sendTo(data, `${host}:9`)),
    waiting(() => socket.sendMessage(new Message({ vectors: data }))),
    waiting(() => socket.send(data)),
    waiting(() => socket.sendBatch(batch)),
  ].map((promise, i) => promise.finally(() => order.push(i)));
  await turns(3);
  expect([order, waiters()]).toEqual([[], 5]);
  const before = sentPackets();
  answer(host);
  expect(await Promise.all(promises)).toEqual([PIECE, PIECE, PIECE, PIECE, 20]);
  expect(order).toEqual([0, 1, 2, 3, 4]);
  await until(() => sentPackets() - before >= filled + 24, "all of it has left the link");
});

namespaced("sends that wait are cancelled, time out, and are told of close()", async () => {
  const host = silent();
  using socket = UdpSocket.open("ipv4", OPTIONS);
  fill(socket, `${host}:9`);
  const controller = new AbortController();
  const { signal } = controller;
  const data = new Uint8Array(PIECE);
  const promises = [{ signal }, { timeoutMs: 2 }, {}].map((options) =>
    waiting(() => socket.sendTo(data, `${host}:9`, options)),
  );
  controller.abort("enough");
  expect(await reasonOf(promises[0] as Promise<number>)).toBe("enough");
  expect(await reasonOf(promises[1] as Promise<number>)).toBeInstanceOf(TimeoutError);
  const last = outcomes(promises.slice(2));
  await turns(2);
  expect(last).toEqual(["pending"]);
  socket.close();
  expect(await reasonOf(promises[2] as Promise<number>)).toBeInstanceOf(ClosedError);
  expect(waiters()).toBe(0);
});

namespaced("sendBatch() says what was sent before its time was over", async () => {
  const host = silent();
  using socket = UdpSocket.open("ipv4", OPTIONS);
  using batch = new DatagramBatch({ capacity: 64, slotBytes: PIECE });
  batch.count = 64;
  for (let i = 0; i < 64; i++) {
    batch.write(i, new Uint8Array(PIECE));
    batch.setAddress(i, `${host}:9`);
  }
  const promise = waiting(() => socket.sendBatch(batch, 0, { timeoutMs: 5 }));
  const reason = await reasonOf(promise);
  expect(reason).toBeInstanceOf(TimeoutError);
  const { transferred } = reason as TimeoutError;
  expect(transferred).toBeGreaterThan(0);
  expect(batch.stopped).toEqual({ index: transferred as number, code: "EAGAIN" });
});
