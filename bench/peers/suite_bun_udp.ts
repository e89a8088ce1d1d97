// One side of a cell of the suite on Bun.udpSocket: the sender connected, sendMany, views instead of
// Buffers. The command line is that of suite_c.c.
import { serveReceiver, serveSender } from "./suite_events.mjs";
import { makePayloads, readSide, setBuffers, socketsOfMine } from "./suite_side.mjs";

const side = readSide(process.argv.slice(2));
const { local: hostname, remote, port } = side;
const before = new Set(socketsOfMine());
let received: (payload: Uint8Array) => void = () => {};
const socket = await Bun.udpSocket({
  hostname,
  binaryType: "uint8array",
  ...(side.role === "send" && { connect: { hostname: remote, port } }),
  socket: { data: (_socket, payload) => received(payload) },
});

// Bun.udpSocket has no options.
const [fd = -1] = socketsOfMine().filter((one) => !before.has(one));
const opened = { port: socket.port, ...(await setBuffers(fd)) };
if (side.role === "send") {
  const payloads = makePayloads(side.bytes, side.group);
  const sendGroup = () => {
    (socket as Bun.udp.ConnectedSocket<"uint8array">).sendMany(payloads);
    return 1;
  };
  received = await serveSender(side, payloads, sendGroup, opened);
} else {
  let senderPort = 0;
  const connect = (number: number) => {
    senderPort = number;
  };
  const acknowledge = (ack: Uint8Array) => {
    (socket as Bun.udp.Socket<"uint8array">).send(ack, senderPort, remote);
  };
  received = await serveReceiver(side, connect, acknowledge, opened);
}
