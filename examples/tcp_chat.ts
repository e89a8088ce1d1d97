/**
 * A chat of several people: the first line of each is the name, and every other one is told to all.
 *
 *     bun examples/tcp_chat.ts [address, default 127.0.0.1:7777]
 *     nc 127.0.0.1 7777
 *
 * It ends by SIGTERM or Ctrl-C.
 */
import { TcpListener, type TcpSocket } from "bun-sockets";

const LINE_BYTES_MAX = 1000;
const WAITING_BYTES_MAX = 1 << 20;

const [address = "127.0.0.1:7777"] = process.argv.slice(2);
using listener = TcpListener.listen(address);
console.log(`listening on ${listener.localAddress}`);
const present = new Map<TcpSocket, string>();
// Closing ends the loop.
for (const signal of ["SIGTERM", "SIGINT"]) process.once(signal, () => listener.close());
for await (const connection of listener)
  serve(connection).catch(({ message }) => console.log(message));
for (const socket of present.keys()) socket.close();

async function serve(connection: TcpSocket): Promise<void> {
  using socket = connection;
  const reader = socket.reader({ newline: "any", limitBytes: LINE_BYTES_MAX });
  const name = await reader.readLine({ timeoutMs: 60_000 });
  if (!name) return;
  present.set(socket, name);
  tellAll(`${name} is here: ${[...present.values()].join(", ")}`);
  try {
    for await (const line of reader.lines()) tellAll(`<${name}> ${line}`);
  } finally {
    present.delete(socket);
    tellAll(`${name} has left`);
  }
}

function tellAll(text: string): void {
  for (const socket of present.keys()) tell(socket, text).catch(() => socket.reset());
}

// Nobody waits for one who does not read, and what is kept for him has an end.
async function tell(socket: TcpSocket, text: string): Promise<void> {
  const writer = socket.writer();
  if (writer.buffered > WAITING_BYTES_MAX) throw new Error("too slow");
  await writer.writeLine(text);
  await writer.flush();
}
