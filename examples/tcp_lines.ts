/**
 * A server that prints what its one client sends, block by block, and the client, which sends each
 * line that is typed as UTF-8.
 *
 *     bun examples/tcp_lines.ts server [address, default localhost:12345]
 *     bun examples/tcp_lines.ts client [address]
 *
 * The end of the input ends the client, and that the server.
 */
import { createInterface } from "node:readline";
import { TcpListener, TcpSocket } from "bun-sockets";

const BLOCK_BYTES = 128;
const [role, address = "localhost:12345"] = process.argv.slice(2);

if (role === "server") await serve();
else if (role === "client") await send();
else console.log("expected server or client");

async function serve() {
  using listener = TcpListener.listen(address);
  console.log(`listening on ${listener.localAddress}`);
  using connection = await listener.accept();
  const block = new Uint8Array(BLOCK_BYTES);
  // A block can end inside a character: the decoder keeps the first part.
  const decoder = new TextDecoder();
  for (;;) {
    const length = await connection.receive(block);
    if (length === 0) break;
    console.log(decoder.decode(block.subarray(0, length), { stream: true }));
  }
}

async function send() {
  using socket = await TcpSocket.connect(address);
  for await (const line of createInterface({ input: process.stdin })) await socket.sendAll(line);
}
