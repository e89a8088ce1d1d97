/**
 * Opens sockets until there are no more descriptors, and goes on serving: run by
 * tcp_listener.test.ts with a low limit.
 */
import { Socket, SystemError, TcpListener, TcpSocket } from "bun-sockets";

const CLIENTS = 5;

const listener = TcpListener.listen("127.0.0.1:0");
const iterator = listener.connections();
// What is loaded at the first use is loaded while there are descriptors.
const first = iterator.next();
const opener = await TcpSocket.connect(listener.localAddress);
const [served] = [(await first).value as TcpSocket];
const clients = Array.from({ length: CLIENTS }, () => TcpSocket.connectSync(listener.localAddress));

const others: Socket[] = [];
try {
  for (;;) others.push(Socket.create("unix", "stream"));
} catch (error) {
  if (!(error instanceof SystemError) || error.code !== "EMFILE") throw error;
}

let plain = "none";
try {
  listener.tryAccept();
} catch (error) {
  if (error instanceof SystemError) plain = error.code;
}

const next = iterator.next();
let ended = 0;
const target = new Uint8Array(1);
// Whoever has no place learns so at once.
for (const client of clients)
  if ((await client.receive(target, { timeoutMs: 5000 })) === 0) ended++;
for (const socket of [...others, ...clients, opener]) socket.close();

using last = await TcpSocket.connect(listener.localAddress);
using servedLast = (await next).value as TcpSocket;
const servedAfter = servedLast.remoteAddress?.equals(last.localAddress) ?? false;
console.log(JSON.stringify({ plain, dropped: listener.dropped, ended, servedAfter }));
served.close();
listener.close();
