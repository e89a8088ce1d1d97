// The programs of stream.c on Bun.listen and Bun.connect; the arguments are as there.
import type { Socket } from "bun";
import { piece, Receiver, say, sendWhenAsked } from "./stream_data.mjs";

const [, , role, port, size] = process.argv;

interface Sender {
  resume: () => void;
  end: () => void;
}

if (role === "receive") {
  const { port } = Bun.listen<Receiver>({
    hostname: "127.0.0.1",
    port: 0,
    allowHalfOpen: true,
    socket: {
      open: (socket) => {
        socket.data = new Receiver();
      },
      data: ({ data }, chunk) => data.take(chunk),
      end: (socket) => {
        socket.data.end();
        socket.end(new Uint8Array(1));
      },
    },
  });
  say({ port });
} else {
  const data = piece(Number(size));
  await sendWhenAsked(
    () =>
      Bun.connect<Sender>({
        hostname: "127.0.0.1",
        port: Number(port),
        allowHalfOpen: true,
        data: { resume() {}, end() {} },
        socket: {
          drain: (socket) => socket.data.resume(),
          data: (socket) => socket.data.end(),
        },
      }),
    sendAll,
  );

  async function sendAll(socket: Socket<Sender>, count: number) {
    const answered = new Promise<void>((resolve) => {
      socket.data.end = resolve;
    });
    for (let sent = 0; sent < count; sent += data.length) {
      for (let done = 0; ; ) {
        done += socket.write(data, done, data.length - done);
        if (done === data.length) break;
        await new Promise<void>((resolve) => {
          socket.data.resume = resolve;
        });
      }
    }
    socket.shutdown();
    await answered;
    socket.terminate();
  }
}
