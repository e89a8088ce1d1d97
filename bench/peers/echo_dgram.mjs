// An echo server on node:dgram, under Bun or Node.
import { createSocket } from "node:dgram";
import { isMark, report } from "./echo_report.mjs";

const socket = createSocket("udp4");
socket.on("message", (payload, { port, address }) => {
  socket.send(isMark(payload) ? report() : payload, port, address);
});
socket.bind(0, "127.0.0.1", () => {
  console.log(JSON.stringify({ port: socket.address().port }));
});
