/**
 * A DNS forwarder: takes queries over UDP and asks one name server, many at a time. A query goes on
 * from the memory that it came in, under a number of our own, and so does the answer.
 *
 *     bun examples/dns_forwarder.ts [address, default 127.0.0.1:5353] [server, default 127.0.0.53:53]
 *     dig @127.0.0.1 -p 5353 example.com
 *
 * It ends by SIGTERM or Ctrl-C.
 */
import { type DatagramBatch, type InetAddress, UdpSocket } from "bun-sockets";

const [address = "127.0.0.1:5353", upstream = "127.0.0.53:53"] = process.argv.slice(2);
// A burst waits here while others are forwarded.
const options = { receiveBufferBytes: 1 << 20 };
const clients = UdpSocket.bind(address, options);
const server = UdpSocket.open(upstream, options);
// From now on the kernel lets nobody else's answers through.
server.connectSync(upstream);
console.log(`listening on ${clients.localAddress}`);
for (const signal of ["SIGTERM", "SIGINT"]) {
  process.once(signal, () => [clients, server].map((socket) => socket.close()));
}

// Who asks under each number of ours, and what he called it. Nobody can guess the next number.
const questions = new Array<{ client: InetAddress; number: number } | undefined>(65536);
const draw = () => crypto.getRandomValues(new Uint16Array(1))[0] as number;

clients.onBatch((queries) => {
  renumber(queries, (i, number) => {
    const client = queries.address(i);
    let ours = draw();
    // A question that was never answered is forgotten some day.
    for (let tries = 0; questions[ours] && tries < 4; tries++) ours = draw();
    questions[ours] = client && { client, number };
    return ours;
  });
  server.trySendBatch(queries);
});

server.onBatch((answers) => {
  renumber(answers, (i, number) => {
    const question = questions[number];
    questions[number] = undefined;
    answers.setAddress(i, question?.client);
    return question?.number;
  });
  clients.trySendBatch(answers);
});

/** Gives each message, by the first two bytes of its header, another number, or drops it. */
function renumber(batch: DatagramBatch, change: (i: number, number: number) => number | undefined) {
  const kept = Array.from({ length: batch.count }, (_, i) => i).filter((i) => {
    if (batch.length(i) < 12 || batch.truncated(i)) return false;
    const view = new DataView(batch.memory.buffer, batch.offset(i));
    const number = change(i, view.getUint16(0));
    if (number !== undefined) view.setUint16(0, number);
    return number !== undefined;
  });
  batch.keep(kept);
}
