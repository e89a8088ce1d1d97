// node:dgram, under Bun or Node: two connected sockets in one process.
import { createSocket } from "node:dgram";
import { once } from "node:events";
import { makePayloads, serveRounds } from "./groups.mjs";

const payloads = makePayloads(Number(process.argv[3]));
const receiver = createSocket("udp4");
const sender = createSocket("udp4");
for (const socket of [receiver, sender]) {
  socket.bind(0, "127.0.0.1");
  await once(socket, "listening");
}
sender.connect(receiver.address().port, "127.0.0.1");
await once(sender, "connect");
receiver.connect(sender.address().port, "127.0.0.1");
await once(receiver, "connect");

const received = serveRounds(
  () => {
    for (const payload of payloads) sender.send(payload);
  },
  () => {
    sender.close();
    receiver.close();
  },
);
receiver.on("message", received);
