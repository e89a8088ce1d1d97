/**
 * A TCP proxy: whoever connects to it is connected with another server, and what either sends goes to
 * the other without passing through the program's memory.
 *
 *     bun examples/tcp_proxy.ts [address, default 127.0.0.1:8080] [server, default 127.0.0.1:80]
 *     curl http://127.0.0.1:8080/
 *
 * Each direction ends by itself: who has sent his last byte may still be answered at length. It ends
 * by SIGTERM or Ctrl-C, and breaks off what is under way.
 */
import { TcpListener, TcpSocket } from "bun-sockets";

const [address = "127.0.0.1:8080", server = "127.0.0.1:80"] = process.argv.slice(2);
using listener = TcpListener.listen(address);
console.log(`listening on ${listener.localAddress}`);
const open = new Set<TcpSocket>();
// Closing ends the loop.
for (const signal of ["SIGTERM", "SIGINT"]) process.once(signal, () => listener.close());
for await (const connection of listener)
  serve(connection).catch(({ message }) => console.log(message));
for (const socket of open) socket.reset();

async function serve(client: TcpSocket): Promise<void> {
  open.add(client);
  let back: TcpSocket | undefined;
  try {
    back = await TcpSocket.connect(server, { timeoutMs: 5000 });
    open.add(back);
    await Promise.all([pass(client, back), pass(back, client)]);
  } catch (error) {
    // Neither is to take what it has for everything.
    client.reset();
    back?.reset();
    throw error;
  } finally {
    for (const socket of [client, back]) {
      socket?.close();
      if (socket) open.delete(socket);
    }
  }
}

/** One direction, and its end. */
async function pass(from: TcpSocket, to: TcpSocket): Promise<void> {
  await from.spliceTo(to);
  to.shutdown("write");
}
