// The programs of stream.c on node:net; the arguments are as there.
import { once } from "node:events";
import { connect, createServer } from "node:net";
import { piece, Receiver, say, sendWhenAsked } from "./stream_data.mjs";

const [, , role, port, size] = process.argv;

if (role === "receive") {
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    const receiver = new Receiver();
    socket.on("data", (data) => receiver.take(data));
    socket.on("end", () => {
      receiver.end();
      socket.end(new Uint8Array(1));
    });
  });
  server.listen(0, "127.0.0.1", () => say({ port: server.address().port }));
} else {
  const data = piece(Number(size));
  await sendWhenAsked(
    async () => {
      const socket = connect({ port: Number(port), host: "127.0.0.1", allowHalfOpen: true });
      await once(socket, "connect");
      return socket;
    },
    async (socket, count) => {
      const answered = once(socket, "data");
      for (let sent = 0; sent < count; sent += data.length)
        if (!socket.write(data)) await once(socket, "drain");
      socket.end();
      await answered;
      socket.destroy();
    },
  );
}
