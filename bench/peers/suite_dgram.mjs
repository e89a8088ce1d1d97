// One side of a cell of the suite on node:dgram, under Bun, Node or Deno. The command line is that of
// suite_c.c.
import { createSocket } from "node:dgram";
import { once } from "node:events";
import { serveReceiver, serveSender } from "./suite_events.mjs";
import { BUFFER_BYTES, makePayloads, readSide, setBuffers, socketsOfMine } from "./suite_side.mjs";

const side = readSide(process.argv.slice(2));
const before = new Set(socketsOfMine());
const socket = createSocket(side.family);
socket.bind(0, side.local);
await once(socket, "listening");

async function connect(port) {
  socket.connect(port, side.remote);
  await once(socket, "connect");
}

// Deno has the setters of node:dgram, which do nothing.
const [fd = -1] = socketsOfMine().filter((one) => !before.has(one));
const buffers = globalThis.Deno === undefined ? setOptions() : await setBuffers(fd);
const opened = { port: socket.address().port, ...buffers };

function setOptions() {
  socket.setRecvBufferSize(BUFFER_BYTES);
  socket.setSendBufferSize(BUFFER_BYTES);
  return {
    sendBufferBytes: socket.getSendBufferSize() / 2,
    receiveBufferBytes: socket.getRecvBufferSize() / 2,
  };
}

if (side.role === "send") {
  await connect(side.port);
  const payloads = makePayloads(side.bytes, side.group);
  const sendGroup = () => {
    for (const payload of payloads) socket.send(payload);
    return payloads.length;
  };
  socket.on("message", await serveSender(side, payloads, sendGroup, opened));
} else {
  const acknowledge = (ack) => socket.send(ack);
  socket.on("message", await serveReceiver(side, connect, acknowledge, opened));
}
