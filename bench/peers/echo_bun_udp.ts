// An echo server on Bun.udpSocket in its best documented form: views instead of Buffers.
import { isMark, report } from "./echo_report.mjs";

const socket = await Bun.udpSocket({
  hostname: "127.0.0.1",
  binaryType: "uint8array",
  socket: {
    data: (self, payload, port, address) => {
      self.send(isMark(payload) ? report() : payload, port, address);
    },
  },
});
console.log(JSON.stringify({ port: socket.port }));
