// The programs of stream.c in ours: the first argument is the form, the others are as there.
import { TcpListener, TcpSocket } from "bun-sockets";
import { piece, Receiver, ROOM, say, sendWhenAsked } from "./stream_data.mjs";

const [, , form, role, port, size] = process.argv;

async function receive(listener: TcpListener, buffer: Uint8Array) {
  using socket = await listener.accept();
  const receiver = new Receiver();
  for (;;) {
    const length = await socket.receive(buffer);
    if (length === 0) break;
    receiver.take(buffer, length);
  }
  receiver.end();
  await socket.sendAll(new Uint8Array(1));
}

function receiveSync(listener: TcpListener, buffer: Uint8Array) {
  using socket = listener.acceptSync();
  const receiver = new Receiver();
  for (;;) {
    const length = socket.receiveSync(buffer);
    if (length === 0) break;
    receiver.take(buffer, length);
  }
  receiver.end();
  socket.sendAllSync(new Uint8Array(1));
}

async function send(socket: TcpSocket, data: Uint8Array, count: number) {
  for (let sent = 0; sent < count; sent += data.length) await socket.sendAll(data);
  socket.shutdown("write");
  await socket.receiveExactly(new Uint8Array(1));
  socket.close();
}

function sendSync(socket: TcpSocket, data: Uint8Array, count: number) {
  for (let sent = 0; sent < count; sent += data.length) socket.sendAllSync(data);
  socket.shutdown("write");
  socket.receiveExactlySync(new Uint8Array(1));
  socket.close();
}

if (role === "receive") {
  const listener = TcpListener.listen("127.0.0.1:0");
  const buffer = new Uint8Array(ROOM);
  say({ port: listener.localAddress.port });
  for (;;) await (form === "sync" ? receiveSync(listener, buffer) : receive(listener, buffer));
}
const data = piece(Number(size));
const work = form === "sync" ? sendSync : send;
await sendWhenAsked(
  () => TcpSocket.connectSync(`127.0.0.1:${port}`),
  (socket, count) => work(socket, data, count),
);
