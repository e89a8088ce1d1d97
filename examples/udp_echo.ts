/**
 * A UDP echo server: every datagram goes back to who sent it, up to 64 for a system call, from the
 * memory that it arrived in.
 *
 *     bun examples/udp_echo.ts [address, default 127.0.0.1:9000] [seconds to wait for work]
 *     echo hello | socat -t 1 - UDP:127.0.0.1:9000
 *
 * It ends by SIGTERM, by Ctrl-C, or when nothing has come for as long as it was told to wait.
 */
import { DatagramBatch, TimeoutError, UdpSocket } from "bun-sockets";

const [address = "127.0.0.1:9000", idleSeconds = "Infinity"] = process.argv.slice(2);
using server = UdpSocket.bind(address);
using batch = new DatagramBatch({ capacity: 64, slotBytes: 65536 });
console.log(`listening on ${server.localAddress}`);

let stopping = false;
for (const signal of ["SIGTERM", "SIGINT"]) process.once(signal, () => (stopping = true));

let echoed = 0;
let idleSince = performance.now();
while (!stopping && performance.now() - idleSince < Number(idleSeconds) * 1000) {
  echoFor(100);
  // Blocking calls stop the whole thread. Timers and signal handlers run here.
  await new Promise(setImmediate);
}
console.log(`echoed ${echoed} datagrams`);

function echoFor(milliseconds: number): void {
  const end = performance.now() + milliseconds;
  for (let left = milliseconds; left > 0; left = end - performance.now()) {
    try {
      server.receiveBatchSync(batch, { timeoutMs: left });
    } catch (error) {
      if (error instanceof TimeoutError) return;
      throw error;
    }
    echoed += server.sendBatchSync(batch);
    idleSince = performance.now();
  }
}
