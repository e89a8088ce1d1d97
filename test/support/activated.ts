/**
 * A program to be started by socket activation: see test/loopback/listen_fds.test.ts.
 *
 *     bun test/support/activated.ts serve     takes every socket it is given, and answers
 *     bun test/support/activated.ts report    says what listenFds gives, as a line of JSON
 *
 * An answer is the socket's name, family and type, and the question in capitals.
 *
 * @module
 */
import { dlopen } from "bun:ffi";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  type ListenFd,
  listenFds,
  Socket,
  SystemError,
  UdpSocket,
  UnixDatagramSocket,
} from "bun-sockets";

/** What `report` prints. */
export interface Report {
  readonly found: readonly ListenFd[];
  /** The class and code of the error, where the first call threw one. */
  readonly error: string | undefined;
  readonly message: string | undefined;
  /** What a second call gives. */
  readonly again: readonly ListenFd[] | undefined;
  /** The names of the variables that are left. */
  readonly variables: readonly string[];
  /** Which of the descriptors 3 and 4 a program sees that this one starts: before, and after. */
  readonly inheritedBefore: readonly number[];
  readonly inheritedAfter: readonly number[];
  /** What `Socket.adopt` says to each descriptor: the kind of the socket, or the code. */
  readonly adopted: readonly string[];
}

const SERVE_MS_MAX = 20_000;
const PROBED = [3, 4];

if (import.meta.main) {
  if (process.argv[2] === "serve") await serve();
  else console.log(JSON.stringify(report()));
}

async function serve(): Promise<void> {
  const sockets = listenFds().map(({ descriptor, name }) => ({ name, socket: adopt(descriptor) }));
  const end = performance.now() + SERVE_MS_MAX;
  while (performance.now() < end) {
    for (const { name, socket } of sockets) answer(name, socket);
    await Bun.sleep(1);
  }
}

// By its own class, as a user would who knows what the unit says.
function adopt(descriptor: number): Socket {
  using copy = Socket.adopt(descriptor);
  if (copy.type !== "datagram") return Socket.adopt(descriptor, { own: true });
  const { adopt } = copy.family === "unix" ? UnixDatagramSocket : UdpSocket;
  return adopt(descriptor, { own: true });
}

function answer(name: string, socket: Socket): void {
  const words = `${name} ${socket.family} ${socket.type}`;
  if (socket.type === "stream") {
    using connection = socket.tryAccept();
    if (!connection) return;
    const question = Buffer.from(connection.receiveBytesSync(100, { timeoutMs: 5000 }));
    connection.sendSync(`${words} ${question.toString().toUpperCase()}`);
    return;
  }
  const target = Buffer.alloc(100);
  const received = socket.tryReceiveFrom(target);
  if (received?.address === undefined) return;
  const question = target.toString("utf8", 0, received.length);
  socket.sendToSync(`${words} ${question.toUpperCase()}`, received.address);
}

function report(): Report {
  const inheritedBefore = inherited();
  let found: readonly ListenFd[] = [];
  let thrown: unknown;
  try {
    found = listenFds();
  } catch (error) {
    thrown = error;
  }
  return {
    found,
    error: thrown === undefined ? undefined : describe(thrown),
    message: thrown instanceof Error ? thrown.message : undefined,
    again: thrown === undefined ? listenFds() : undefined,
    variables: Object.keys(process.env).filter((name) => name.startsWith("LISTEN_")),
    inheritedBefore,
    inheritedAfter: inherited(),
    adopted: found.map(({ descriptor }) => tryToAdopt(descriptor)),
  };
}

// Bun.spawn closes what it does not pass on, whatever the flags say. What C starts gets everything
// that is not close-on-exec.
function inherited(): number[] {
  const folder = mkdtempSync(join(tmpdir(), "bun-sockets-inherited-"));
  try {
    const listing = join(folder, "listing");
    const command = PROBED.map((fd) => `[ -e /proc/self/fd/${fd} ] && echo ${fd}`).join("; ");
    // int system(const char *command);
    const { symbols, close } = dlopen("libc.so.6", { system: { args: ["ptr"], returns: "i32" } });
    symbols.system(Buffer.from(`{ ${command}; } > ${listing}\0`));
    close();
    const text = existsSync(listing) ? readFileSync(listing, "utf8") : "";
    return text.split("\n").filter(Boolean).map(Number);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

function tryToAdopt(descriptor: number): string {
  try {
    using socket = Socket.adopt(descriptor, { own: true });
    return `${socket.family} ${socket.type}`;
  } catch (error) {
    return describe(error);
  }
}

function describe(error: unknown): string {
  const { name } = error as Error;
  return error instanceof SystemError ? `${name} ${error.code}` : name;
}
