/**
 * A server that is replaced without losing a connection: a second start gets the listening sockets
 * of the first over a Unix socket, and the first serves the connections it has, and ends. Each line
 * comes back with the number of the process that had it.
 *
 *     bun examples/hot_restart.ts [address, default 127.0.0.1:7000] [path, default /tmp/restart.sock]
 *     bun examples/hot_restart.ts    once more: takes over from the first
 *
 * It ends by SIGTERM or Ctrl-C, and then nobody listens any more.
 */
import { unlinkSync } from "node:fs";
import { SystemError, TcpListener, type TcpSocket, UnixListener, UnixSocket } from "bun-sockets";

const [address = "127.0.0.1:7000", path = "/tmp/restart.sock"] = process.argv.slice(2);
const PATIENCE = { timeoutMs: 10_000 };

/** Whoever asks here is the successor, and gets both. */
interface Sockets {
  readonly listener: TcpListener;
  readonly control: UnixListener;
}

let answered = 0;
const predecessor = await findPredecessor();
const sockets = predecessor ? await inherit(predecessor) : begin();
console.log(`listening on ${sockets.listener.localAddress}`);
serve(sockets.listener);
// From now on there are two who take connections, until the predecessor has heard of it.
await predecessor?.sendAll("ready");
predecessor?.close();
for (const signal of ["SIGTERM", "SIGINT"]) process.once(signal, end);
await waitForSuccessor(sockets);
process.once("exit", () => console.log(`answered ${answered} connections`));

function begin(): Sockets {
  const control = UnixListener.listen(path, { removeStale: true, unlinkOnClose: false });
  return { listener: TcpListener.listen(address), control };
}

async function findPredecessor(): Promise<UnixSocket | undefined> {
  try {
    return await UnixSocket.connect(path, PATIENCE);
  } catch (error) {
    const isNone = error instanceof SystemError && ["ENOENT", "ECONNREFUSED"].includes(error.code);
    if (isNone) return undefined;
    throw error;
  }
}

async function inherit(from: UnixSocket): Promise<Sockets> {
  using received = await from.receiveDescriptors(Buffer.alloc(100), { max: 2, ...PATIENCE });
  const [first, second] = received;
  if (!first || !second) throw new Error("The predecessor has sent no sockets");
  return {
    listener: TcpListener.adopt(first, { own: true }),
    control: UnixListener.adopt(second, { own: true }),
  };
}

async function serve(listener: TcpListener): Promise<void> {
  for await (const connection of listener) answer(connection);
}

async function answer(connection: TcpSocket): Promise<void> {
  using _ = connection;
  try {
    for await (const line of connection.lines())
      await connection.sendAll(`${process.pid} ${line}\n`);
    answered++;
  } catch {
    // The client has broken it off.
  }
}

async function waitForSuccessor({ listener, control }: Sockets): Promise<void> {
  for await (const successor of control) {
    using _ = successor;
    try {
      await successor.sendDescriptors("take over", [listener, control], PATIENCE);
      // The end is what comes of one that could not start: then everything stays as it is.
      if ((await successor.receive(Buffer.alloc(5), PATIENCE)) === 0) continue;
    } catch {
      continue;
    }
    break;
  }
  // What waits in their queues is the successor's. The connections that were taken keep us alive.
  control.close();
  listener.close();
}

function end(): void {
  if (sockets.control.descriptor >= 0) unlinkSync(path);
  sockets.control.close();
}
