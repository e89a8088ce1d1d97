// Bun.udpSocket in its best documented form: connected, sendMany, views instead of Buffers.
import { makePayloads, serveRounds } from "./groups.mjs";

const [, , batch, bytes] = process.argv;
const payloads: Uint8Array[] = makePayloads(Number(bytes));
const hostname = "127.0.0.1";
let received: (payload: Uint8Array) => void = () => {};
const receiver = await Bun.udpSocket({
  hostname,
  binaryType: "uint8array",
  socket: { data: (_socket, payload) => received(payload) },
});
const sender = await Bun.udpSocket({ hostname, connect: { hostname, port: receiver.port } });

function sendGroup() {
  if (batch === "1") for (const payload of payloads) sender.send(payload);
  else sender.sendMany(payloads);
}

received = serveRounds(sendGroup, () => {
  sender.close();
  receiver.close();
});
