/** How `sink` and `echo` end. */
import { expect, test } from "bun:test";
import { DatagramBatch, UdpSocket } from "bun-sockets";
import { receiveUntilEnd } from "../../cli/reception.ts";

const SENT = 100;

/** Receives what waits, and tells what was taken. */
async function receive(
  options: { count?: number; duration?: number; idle?: number },
  stop: boolean,
) {
  using socket = UdpSocket.bind("127.0.0.1:0");
  using client = UdpSocket.open("ipv4");
  client.connectSync(socket.localAddress);
  for (let k = 0; k < SENT; k++) client.sendSync("x");
  using batch = new DatagramBatch({ capacity: 8 });
  const controller = new AbortController();
  if (stop) controller.abort();
  let taken = 0;
  const take = () => {
    taken += batch.count;
    return batch.count;
  };
  await receiveUntilEnd({ socket, batch, take, tick() {} }, options, controller.signal);
  return taken;
}

test("what has come before the end is taken", async () => {
  expect(await receive({}, true)).toBe(SENT);
  expect(await receive({ duration: 0 }, false)).toBe(SENT);
});

test("nothing is taken after as many as were asked for", async () => {
  expect(await receive({ count: 10 }, false)).toBe(16);
  expect(await receive({ count: 10 }, true)).toBe(16);
});

test("all is taken before it is quiet", async () => {
  expect(await receive({ idle: 1 }, false)).toBe(SENT);
});
