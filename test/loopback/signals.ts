/**
 * The program of signals.test.ts: sits in one blocking call while its parent sends it signals, and
 * tells how often poll(2) was interrupted, how long the call took and what came of it.
 *
 * It prints two lines of JSON, a `Ready` before the call and an `Outcome` after it. The call starts
 * with the first line on its standard input, and the program ends with its end.
 *
 * @module
 */
import { writeSync } from "node:fs";
import {
  DatagramBatch,
  Message,
  Socket,
  SystemError,
  UdpSocket,
  UnixAddress,
  UnixDatagramSocket,
} from "bun-sockets";
import { EINTR, MSG_WAITALL } from "bun-sockets/sys";
import { libc, orErrno } from "../../lib/ffi/libc.ts";

/** What the program is told, as JSON in its first argument. */
export interface Order {
  readonly call: keyof typeof CALLS;
  /** Where the parent's socket is: see `CALLS`. */
  readonly address: string;
  readonly timeoutMs: number;
}

/** The line before the call. */
export interface Ready {
  /** Where the program's own socket is. */
  readonly address: string;
}

/** The line after the call. */
export interface Outcome {
  readonly elapsedMs: number;
  /** How often poll(2) ended with EINTR during the call. */
  readonly interruptions: number;
  /** The error's name, syscall and what was transferred; undefined when the call succeeded. */
  readonly error: readonly [name: string, syscall: string, transferred: number] | undefined;
  /** What was received, in the call and after it; or how many blocks and bytes were sent. */
  readonly got: readonly (string | number)[];
}

/** What fills a queue: numbered, so that the other end sees whether one is missing. */
export const BLOCK_BYTES = 1024;

interface Wait {
  /** The socket's own, where the parent needs it. */
  readonly address: string;
  /** The call; and what shows that nothing was lost. */
  readonly run: (options: { timeoutMs: number }) => (string | number)[];
  /** The same when the call has failed. */
  readonly failed?: () => (string | number)[];
}

const LATER = { timeoutMs: 5000 };

/** How many datagrams or messages the parent sends to those who receive. */
export const MESSAGES = ["one", "two", "three"] as const;

// Each of them receives the first message in the call, and the others after it.
function receiver(address: string, receive: (udp: UdpSocket, timeoutMs: number) => string[]): Wait {
  const udp = UdpSocket.bind("127.0.0.1:0");
  udp.connectSync(address);
  return {
    address: `${udp.localAddress}`,
    run({ timeoutMs }) {
      const got = receive(udp, timeoutMs);
      while (got.length < MESSAGES.length) got.push(...receive(udp, LATER.timeoutMs));
      return got;
    },
  };
}

const buffer = Buffer.alloc(BLOCK_BYTES);

function block(number: number): Buffer {
  return Buffer.alloc(BLOCK_BYTES, `${number},`);
}

// Each of them fills the parent's queue, and sends one more when there is room.
function sender(
  trySend: (data: Buffer) => number | undefined,
  send: (data: Buffer, timeoutMs: number) => number,
): Wait {
  let blocks = 0;
  let bytes = 0;
  for (let sent = trySend(block(0)); sent !== undefined; sent = trySend(block(blocks))) {
    blocks++;
    bytes += sent;
  }
  return {
    address: "",
    run({ timeoutMs }) {
      const sent = send(block(blocks), timeoutMs);
      return [blocks + 1, bytes + sent];
    },
    failed: () => [blocks, bytes],
  };
}

function connectedTo(address: string): UnixDatagramSocket {
  const unix = UnixDatagramSocket.bind(UnixAddress.unnamed);
  unix.connectSync(address);
  return unix;
}

function connector(family: "ipv4" | "unix", address: string): Wait {
  const client = Socket.create(family, "stream");
  return {
    address: "",
    run({ timeoutMs }) {
      client.connectSync(address, { timeoutMs });
      return [client.sendSync("hello")];
    },
  };
}

const CALLS = {
  receiveSync: (address: string) =>
    receiver(address, (udp, timeoutMs) => [
      buffer.toString("utf8", 0, udp.receiveSync(buffer, { timeoutMs })),
    ]),
  receiveFromSync: (address: string) =>
    receiver(address, (udp, timeoutMs) => [
      buffer.toString("utf8", 0, udp.receiveFromSync(buffer, { timeoutMs }).length),
    ]),
  receiveMessageSync: (address: string) =>
    receiver(address, (udp, timeoutMs) => [
      buffer.toString(
        "utf8",
        0,
        udp.receiveMessageSync(new Message({ vectors: buffer }), { timeoutMs }),
      ),
    ]),
  receiveBatchSync: (address: string) =>
    receiver(address, (udp, timeoutMs) => {
      using batch = new DatagramBatch({ capacity: 8 });
      udp.receiveBatchSync(batch, { timeoutMs });
      return Array.from({ length: batch.count }, (_, i) => `${Buffer.from(batch.view(i))}`);
    }),
  /** The parent has sent the first of the three messages, which fill the target together. */
  receiveAllSync(address: string): Wait {
    const stream = Socket.create("unix", "stream");
    stream.connectSync(address);
    const target = Buffer.alloc(MESSAGES.join("").length);
    return {
      address: "",
      run({ timeoutMs }) {
        stream.receiveSync(target, { timeoutMs, flags: MSG_WAITALL });
        return [`${target}`];
      },
    };
  },
  acceptSync(): Wait {
    const listener = Socket.create("ipv4", "stream");
    listener.bind("127.0.0.1:0");
    listener.listen();
    return {
      address: `${listener.localAddress}`,
      run({ timeoutMs }) {
        const served = listener.acceptSync({ timeoutMs });
        return [`${Buffer.from(served.receiveBytesSync(100, LATER))}`];
      },
    };
  },
  /** The parent listens, and its queue is full. */
  connectSync: (address: string) => connector("ipv4", address),
  connectUnixSync: (address: string) => connector("unix", address),
  /** The parent listens, accepts and does not read. */
  sendSync(address: string): Wait {
    const stream = Socket.create("unix", "stream");
    stream.connectSync(address);
    return sender(
      (data) => stream.trySend(data),
      (data, timeoutMs) => stream.sendSync(data, { timeoutMs }),
    );
  },
  /** The parent is bound, and does not read. */
  sendToSync(address: string): Wait {
    const unix = UnixDatagramSocket.open();
    return sender(
      (data) => unix.trySendTo(data, address),
      (data, timeoutMs) => unix.sendToSync(data, address, { timeoutMs }),
    );
  },
  sendMessageSync(address: string): Wait {
    const unix = connectedTo(address);
    return sender(
      (data) => unix.trySend(data),
      (data, timeoutMs) => unix.sendMessageSync(new Message({ vectors: data }), { timeoutMs }),
    );
  },
  sendBatchSync(address: string): Wait {
    const unix = connectedTo(address);
    return sender(
      (data) => unix.trySend(data),
      (data, timeoutMs) => {
        using batch = new DatagramBatch({ capacity: 1 });
        batch.count = 1;
        batch.write(0, data);
        unix.sendBatchSync(batch, 0, { timeoutMs });
        return data.length;
      },
    );
  },
} as const;

/** The names of the calls. */
export const CALL_NAMES = Object.keys(CALLS) as (keyof typeof CALLS)[];

function say(line: Ready | Outcome): void {
  writeSync(1, `${JSON.stringify(line)}\n`);
}

if (import.meta.main) {
  const { call, address, timeoutMs } = JSON.parse(process.argv[2] ?? "") as Order;
  process.on("SIGUSR2", () => {});
  const wait = CALLS[call](address);
  let interruptions = 0;
  const { poll } = libc;
  libc.poll = (...values) => {
    const result = poll(...values);
    if (orErrno(result) === -EINTR) interruptions++;
    return result;
  };

  say({ address: wait.address });
  const input = Bun.stdin.stream().getReader();
  await input.read();
  const started = performance.now();
  let error: Outcome["error"];
  let got: (string | number)[] = [];
  try {
    got = wait.run({ timeoutMs });
  } catch (thrown) {
    if (!(thrown instanceof SystemError)) throw thrown;
    error = [thrown.name, thrown.syscall, thrown.transferred ?? 0];
    got = wait.failed?.() ?? [];
  }
  say({ elapsedMs: performance.now() - started, interruptions, error, got });
  // The parent may still send signals.
  while (!(await input.read()).done);
}
