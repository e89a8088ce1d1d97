/**
 * A tiny HTTP server: it answers every request with what it was asked, method, path and body. One
 * connection carries any number of requests.
 *
 *     bun examples/tiny_http.ts [address, default 127.0.0.1:8080; or a path of its own]
 *     curl --data hello http://127.0.0.1:8080/some/path
 *     curl --unix-socket /tmp/tiny.sock http://localhost/
 *
 * It ends by SIGTERM or Ctrl-C, and takes the file of its path away.
 */
import { TcpListener, type TcpSocket, UnixListener, type UnixSocket } from "bun-sockets";

const BODY_BYTES_MAX = 1 << 20;

const [address = "127.0.0.1:8080"] = process.argv.slice(2);
const isPath = /^(unix:|[/.])/.test(address);
using server = isPath ? UnixListener.listen(address) : TcpListener.listen(address);
console.log(`listening on ${server.localAddress}`);
// Closing ends the loop.
for (const signal of ["SIGTERM", "SIGINT"]) process.once(signal, () => server.close());
for await (const connection of server)
  serve(connection).catch(({ message }) => console.log(message));

async function serve(connection: TcpSocket | UnixSocket): Promise<void> {
  using socket = connection;
  const reader = socket.reader({ newline: "crlf", limitBytes: 65536 });
  for (let request = await reader.readLine(); request; request = await reader.readLine()) {
    let bodyBytes = 0;
    for (let header = await reader.readLine(); header; header = await reader.readLine())
      if (/^content-length:/i.test(header)) bodyBytes = Number(header.split(":")[1]);
    const [, method, path] = /^([A-Z]+) (\S+) HTTP\/1\.1$/.exec(request) ?? [];
    if (!(method && bodyBytes <= BODY_BYTES_MAX))
      return void (await socket.sendAll("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"));
    const body = bodyBytes > 0 ? await reader.readExactly(bodyBytes) : new Uint8Array();
    const answer = Buffer.concat([Buffer.from(`${method} ${path}\n`), body]);
    const head = `HTTP/1.1 200 OK\r\nContent-Length: ${answer.length}\r\n\r\n`;
    await socket.sendAll(method === "HEAD" ? head : [head, answer]);
  }
}
