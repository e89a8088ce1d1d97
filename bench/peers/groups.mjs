// What the event-driven peers share, under Bun and Node: groups of 64 datagrams, each group sent
// when the one before has arrived, counted and summed like everywhere else.
import { createInterface } from "node:readline";

export const GROUP = 64;

/** The 64 payloads of a group: the first byte is the index, the last what makes 255 with it. */
export function makePayloads(bytes) {
  return Array.from({ length: GROUP }, (_, i) => {
    const payload = new Uint8Array(bytes);
    payload[0] = i;
    payload[bytes - 1] = 255 - i;
    return payload;
  });
}

/**
 * Runs rounds as lines on standard input ask for them. `send` sends one group; whoever receives
 * calls `received` with each payload.
 */
export function serveRounds(send, close) {
  let left = 0;
  let arrived = 0;
  let lost = 0;
  let sum = 0;
  let sendMs = 0;
  let steps = 0;
  let begun = 0;
  let waiting;
  let report;

  function next() {
    if (left-- === 0) {
      clearInterval(waiting);
      const total = (performance.now() - begun) * 1e6;
      const sendNs = sendMs * 1e6;
      report({ datagrams: 0, sendNs, receiveNs: total - sendNs, lost, sum });
      return;
    }
    arrived = 0;
    steps++;
    const start = performance.now();
    send();
    sendMs += performance.now() - start;
  }

  function received(payload) {
    steps++;
    sum += payload[0] + payload[payload.length - 1];
    if (++arrived === GROUP) next();
  }

  const lines = createInterface({ input: process.stdin });
  lines.on("line", (line) => {
    const groups = Number(line);
    left = groups;
    lost = sum = sendMs = 0;
    begun = performance.now();
    report = (counts) => {
      process.stdout.write(`${JSON.stringify({ ...counts, datagrams: groups * GROUP })}\n`);
    };
    // A group that nothing was sent or received of between two looks has lost the rest. Time alone
    // does not tell: after a pause of the whole process what has come waits to be received.
    let seen = 0;
    waiting = setInterval(() => {
      if (steps === seen) {
        lost += GROUP - arrived;
        next();
      }
      seen = steps;
    }, 50);
    next();
  });
  lines.on("close", close);
  return received;
}
