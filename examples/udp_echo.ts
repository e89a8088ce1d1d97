/**
 * A UDP echo server: every datagram goes back to who sent it, up to 64 for a system call, from the
 * memory that it arrived in.
 *
 *     bun examples/udp_echo.ts [address, default 127.0.0.1:9000]
 *     echo hello | socat -t 1 - UDP:127.0.0.1:9000
 *
 * It ends by SIGTERM or Ctrl-C.
 */
import { UdpSocket } from "bun-sockets";

const [address = "127.0.0.1:9000"] = process.argv.slice(2);
using server = UdpSocket.bind(address);
console.log(`listening on ${server.localAddress}`);
// Closing ends the loop.
for (const signal of ["SIGTERM", "SIGINT"]) process.once(signal, () => server.close());

let echoed = 0;
for await (const batch of server.batches({ slotBytes: 65536 }))
  echoed += await server.sendBatch(batch);
console.log(`echoed ${echoed} datagrams`);
