// What the sides share that are told of datagrams by an event loop: the window, the acknowledgements,
// and what is lost. A group is sent whenever the window has room for it.
import {
  ACK_BYTES,
  ACK_MS,
  FIRST_MS,
  makeClock,
  measureAllocated,
  QUIET_MS,
  Seen,
  STALLS_MAX,
  STAMP_AT,
  say,
  serve,
} from "./suite_side.mjs";

/**
 * Sends as it is told. `sendGroup` sends `payloads` once and gives how many calls that was. Returns what
 * is to be called with each acknowledgement.
 */
export async function serveSender({ group, window }, payloads, sendGroup, opened) {
  const clock = await makeClock();
  const stamped = new DataView(payloads[0].buffer, payloads[0].byteOffset);
  let total = 0;
  let sent = 0;
  let acked = 0;
  let lost = 0;
  let steps = 0;
  let dataCalls = 0;
  let stalls = 0;
  let finish;

  function sendMore() {
    while (sent < total && sent - acked - lost + group <= window) {
      stamped.setFloat64(STAMP_AT, clock(), true);
      dataCalls += sendGroup();
      sent += group;
    }
    if ((sent >= total && acked + lost >= sent) || stalls >= STALLS_MAX) finish?.();
  }

  function onAck(payload) {
    steps++;
    const { buffer, byteOffset } = payload;
    acked = new DataView(buffer, byteOffset).getUint32(0, true);
    sendMore();
  }

  say(opened);
  void serve(async (_, number) => {
    total = number;
    sent = acked = lost = dataCalls = stalls = 0;
    const allocated = measureAllocated();
    const begun = performance.now();
    // What nothing was heard of between two looks is lost.
    let seenSteps = -1;
    const timer = setInterval(() => {
      if (steps === seenSteps) {
        lost = sent - acked;
        stalls++;
        sendMore();
      }
      seenSteps = steps;
    }, ACK_MS);
    await new Promise((resolve) => {
      finish = resolve;
      sendMore();
    });
    finish = undefined;
    total = 0;
    clearInterval(timer);
    const ns = (performance.now() - begun) * 1e6;
    say({ sent, ns, calls: null, dataCalls, stalls, allocated: allocated() });
  }).then(() => process.exit(0));
  return onAck;
}

/**
 * Receives as it is told. `connect` is called with the port of the sender, and `acknowledge` with what is
 * to be sent there. Returns what is to be called with each datagram.
 */
export async function serveReceiver({ group }, connect, acknowledge, opened) {
  const seen = new Seen(await makeClock());
  const ack = new Uint8Array(new ArrayBuffer(ACK_BYTES));
  const ackView = new DataView(ack.buffer);
  let total = 0;
  let acked = 0;
  let finish;

  function onDatagram(payload) {
    if (total === 0) return;
    const first = payload[0];
    seen.sum += first + payload[payload.length - 1];
    if (first === 0) seen.stamped(new DataView(payload.buffer, payload.byteOffset), 0);
    seen.received++;
    if (seen.received === 1) seen.first = performance.now();
    if (seen.received - acked >= group) {
      acked += group;
      seen.last = performance.now();
      ackView.setUint32(0, acked, true);
      acknowledge(ack);
      if (seen.received >= total) finish();
    }
  }

  say(opened);
  void serve(async (word, number) => {
    if (word === "peer") {
      await connect(number);
      say({ ready: true });
      return;
    }
    seen.begin(number, group);
    acked = 0;
    total = number;
    let begun = performance.now();
    let before = 0;
    const timer = setInterval(() => {
      if (seen.received !== before) begun = performance.now();
      before = seen.received;
      if (performance.now() - begun <= FIRST_MS) return;
      seen.stalls++;
      finish();
    }, QUIET_MS);
    const finished = new Promise((resolve) => {
      finish = resolve;
    });
    const allocated = measureAllocated();
    say({ ready: true });
    await finished;
    const bytes = allocated();
    total = 0;
    clearInterval(timer);
    const unknown = { calls: null, dataCalls: null, allocated: bytes };
    say({ ...seen.result(), messages: seen.received, ...unknown });
  }).then(() => process.exit(0));
  return onDatagram;
}
