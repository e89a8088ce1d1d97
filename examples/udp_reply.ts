/**
 * A UDP server on all addresses of a machine, over IPv4 and IPv6: every datagram goes back from the
 * address that it was sent to, as a client expects it, and not from the one that a route chooses. It
 * prints when each came, from where to where, its congestion mark (ECN) and its length.
 *
 *     bun examples/udp_reply.ts [address, default [::]:9000]
 *     echo hello | socat -t 1 - UDP4:127.0.0.2:9000,tos=1
 *
 * It ends by SIGTERM or Ctrl-C.
 */
import { type DatagramBatch, Inet6Address, type InetAddress, UdpSocket } from "bun-sockets";

const MARKS = ["none", "ECT(1)", "ECT(0)", "congestion experienced"];

const [address = "[::]:9000"] = process.argv.slice(2);
using server = UdpSocket.bind(address, {
  metadata: ["destination", "trafficClass", "timestamp"],
});
console.log(`listening on ${server.localAddress}`);
// Closing ends the loop.
for (const signal of ["SIGTERM", "SIGINT"]) process.once(signal, () => server.close());

for await (const batch of server.batches({ slotBytes: 65536 })) {
  for (let i = 0; i < batch.count; i++) console.log(describe(batch, i));
  batch.reply();
  await server.sendBatch(batch);
}

function describe(batch: DatagramBatch<InetAddress>, i: number): string {
  const from = plain(batch.address(i));
  const to = plain(batch.destination(i))?.host;
  const time = new Date(batch.timestampSeconds(i) * 1000 + batch.timestampNanoseconds(i) / 1e6);
  const mark = MARKS[batch.ecn(i)] ?? "unknown";
  return `${time.toISOString()} ${from} to ${to}, ECN ${mark}, ${batch.length(i)} bytes`;
}

// An IPv6 socket shows IPv4 addresses as mapped ones.
function plain(address: InetAddress | undefined): InetAddress | undefined {
  return address instanceof Inet6Address ? address.unmap() : address;
}
