/**
 * A server on a Unix socket that takes one line of each connection and sends it back, and its client,
 * which makes a connection for each line that is typed. The line "quit" ends both; the end of the
 * input ends only the client.
 *
 *     bun examples/unix_echo_quit.ts server [path, default /tmp/echo.sock]
 *     bun examples/unix_echo_quit.ts client [path]
 */
import { createInterface } from "node:readline";
import { UnixAddress, UnixListener, UnixSocket } from "bun-sockets";

const [role, path = "/tmp/echo.sock"] = process.argv.slice(2);

if (role === "server") await serve();
else if (role === "client") await ask();
else console.log("expected server or client");

async function serve() {
  // Closing it removes the file; a server that was killed may have left one.
  using listener = UnixListener.listen(new UnixAddress(path), { backlog: 5, removeStale: true });
  console.log(`server listening at '${path}'`);
  for await (using connection of listener) {
    const line = await connection.reader().readLine();
    if (line === undefined) continue;
    console.log(`server> ${line}`);
    await connection.sendAll(`${line}\n`);
    if (line === "quit") break;
  }
  console.log("server is exiting");
}

async function ask() {
  process.stdout.write("client> ");
  for await (const line of createInterface({ input: process.stdin })) {
    using socket = await UnixSocket.connect(new UnixAddress(path));
    await socket.sendAll(`${line}\n`);
    const reply = await socket.reader().readLine();
    if (reply === "quit") break;
    process.stdout.write("client> ");
  }
  console.log("client is exiting");
  // It would be waited for.
  process.stdin.destroy();
}
