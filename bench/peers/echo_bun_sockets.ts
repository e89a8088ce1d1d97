// An echo server of ours, in the form that the first argument names.
import { DatagramBatch, Inet4Address, type InetAddress, poller, UdpSocket } from "bun-sockets";
import { SLOT_BYTES } from "../support.ts";
import { isMark, report } from "./echo_report.mjs";

const socket = UdpSocket.bind(Inet4Address.loopback);
const options = { capacity: 64, slotBytes: SLOT_BYTES };

// The form that awaits each datagram. An immediate send that finds room, as it nearly always does,
// needs no second promise.
async function promise() {
  const buffer = new Uint8Array(SLOT_BYTES);
  for (;;) {
    const { length, address } = await socket.receiveFrom(buffer);
    const payload = buffer.subarray(0, length);
    const answer = isMark(payload) ? report(countWakeUps()) : payload;
    if (socket.trySendTo(answer, address) === undefined) await socket.sendTo(answer, address);
  }
}

async function batches() {
  for await (const batch of socket.batches(options)) echo(batch, countWakeUps);
}

function handler() {
  socket.onBatch((batch) => echo(batch, countWakeUps), options);
}

function busy() {
  poller.busyPoll = true;
  handler();
}

// It does not use the poller, so its sleeps are counted like those of servers that are not ours.
function sync() {
  const batch = new DatagramBatch(options);
  for (;;) {
    socket.receiveBatchSync(batch);
    echo(batch);
  }
}

// The client asks only when nothing else is on its way: so one look at the first slot is enough.
function echo(batch: DatagramBatch, wakeUps?: () => number) {
  if (batch.length(0) !== 1) socket.trySendBatch(batch);
  else socket.trySendTo(report(wakeUps?.()), batch.address(0) as InetAddress);
}

function countWakeUps(): number {
  return poller.counters.wakeUps;
}

const forms: Record<string, () => unknown> = { promise, batches, handler, busy, sync };
console.log(JSON.stringify({ port: socket.localAddress.port }));
await forms[process.argv[2] ?? ""]?.();
