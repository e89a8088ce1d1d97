// An echo server of Unix streams of ours, in the form that the first argument names, on the path that
// is the second.
import { poller, UnixListener } from "bun-sockets";
import { SLOT_BYTES } from "../support.ts";
import { isMark, report } from "./echo_report.mjs";

const [, , form, path = ""] = process.argv;
const listener = UnixListener.listen(`unix:${path}`);
const buffer = new Uint8Array(SLOT_BYTES);
console.log(JSON.stringify({ path }));

// An immediate send that finds room, as it nearly always does, needs no second promise.
async function promise() {
  for await (const connection of listener) {
    using socket = connection;
    for (;;) {
      const length = await socket.receive(buffer);
      if (length === 0) break;
      const payload = buffer.subarray(0, length);
      const answer = isMark(payload) ? report(poller.counters.wakeUps) : payload;
      if (socket.trySend(answer) !== answer.length) throw new Error("there was no room");
    }
  }
}

// It does not use the poller, so its sleeps are counted like those of servers that are not ours.
function sync() {
  for (;;) {
    using socket = listener.acceptSync();
    for (;;) {
      const length = socket.receiveSync(buffer);
      if (length === 0) break;
      const payload = buffer.subarray(0, length);
      socket.sendSync(isMark(payload) ? report() : payload);
    }
  }
}

await (form === "sync" ? sync() : promise());
