import {
  DatagramBatch,
  type InetAddress,
  LossWindow,
  pollSync,
  TimeoutError,
  type UdpSocket,
} from "bun-sockets";
import type { Command } from "commander";
import {
  type CommonOptions,
  makeCommand,
  type Run,
  reporting,
  SUCCESS,
  withAction,
} from "./command.ts";
import {
  bindAt,
  type FamilyOptions,
  localArgument,
  type SharingOptions,
  withFamily,
  withSharing,
} from "./endpoint.ts";
import { type EndOptions, receiveUntilEnd, withEnd } from "./reception.ts";
import { round } from "./spread.ts";
import { byteCount } from "./values.ts";

interface EchoOptions extends CommonOptions, EndOptions, FamilyOptions, SharingOptions {
  readonly buffer?: number;
}

const CAPACITY = 64;
// The longest datagram there is.
const SLOT_BYTES = 65_536;
/** Senders of which it is remembered whether they are answered. */
const PEERS = 4096;
const ROOM_MS = 100;
const US = 1e3;
/** Of fewer datagrams it is what starting costs. */
const CPU_COUNT = 1000;

/** `echo`: sends back what it gets. */
export function echoCommand(): Command {
  const command = makeCommand("echo", "Sends every UDP datagram back to where it came from.", {
    examples: [
      ["bun-sockets echo 7000", "at port 7000 of all addresses, until Ctrl-C"],
      ["bun-sockets echo 127.0.0.1:7000 --count 100", "ends after a hundred"],
      ["bun-sockets echo [::1]:7000 --idle 5s --json", "ends when nobody asks any more"],
      ["bun-sockets echo 7000 --reuse-port", "on each core one of these: they share the senders"],
    ],
  }).addArgument(localArgument());
  withEnd(command).option(
    "--buffer <bytes>",
    'of receive buffer: "262144", "4Mi"; default: the system\'s',
    byteCount(2 ** 30 - 1),
  );
  return withAction<EchoOptions>(withFamily(withSharing(command)), (run, options) =>
    echo(run, options, command),
  );
}

async function echo(run: Run, options: EchoOptions, command: Command): Promise<number> {
  // On all addresses, the answer comes from the one that was asked.
  using socket = await bindAt(
    command.processedArgs[0],
    options,
    { receiveBufferBytes: options.buffer, metadata: ["destination"] },
    run.stop,
  );
  using batch = new DatagramBatch<InetAddress>({
    capacity: CAPACITY,
    slotBytes: SLOT_BYTES,
    peersMax: PEERS,
  });
  const { localAddress } = socket;
  if (run.json) {
    const { host, port } = localAddress;
    run.output.json({ type: "listening", address: host, port });
  } else run.output.line(`answering at ${localAddress}`);
  run.output.flush();
  const answerer = new Answerer(socket, batch);
  await reporting(
    () => {
      const take = () => answerer.take();
      return receiveUntilEnd({ socket, batch, take, tick() {} }, options, run.stop);
    },
    () => answerer.report(run),
  );
  return SUCCESS;
}

/** Sends batches back, and counts. */
class Answerer {
  readonly #socket: UdpSocket;
  readonly #batch: DatagramBatch<InetAddress>;
  readonly #port: number;
  readonly #kept = new Uint16Array(new ArrayBuffer(2 * CAPACITY));
  readonly #failures = new Map<string, number>();
  readonly #loss: LossWindow;
  readonly #begin = performance.now();
  #startCpu: NodeJS.CpuUsage | undefined;
  #received = 0;
  #answered = 0;
  #bytes = 0;
  #refused = 0;

  constructor(socket: UdpSocket, batch: DatagramBatch<InetAddress>) {
    this.#socket = socket;
    this.#batch = batch;
    this.#port = socket.localAddress.port;
    this.#loss = new LossWindow(socket);
  }

  /** Answers the batch. */
  take(): number {
    const batch = this.#batch;
    const received = batch.count;
    this.#startCpu ??= process.cpuUsage();
    this.#received += received;
    this.#refuseEchoes();
    batch.reply();
    for (let i = 0; i < batch.count; i++) this.#bytes += batch.length(i);
    for (let next = 0; next < batch.count; ) next = this.#send(next);
    return received;
  }

  // Two echo servers that somebody makes answer each other, with the address of one as sender, would do
  // so for ever.
  #refuseEchoes(): void {
    const batch = this.#batch;
    let kept = 0;
    for (let i = 0; i < batch.count; i++)
      if (batch.address(i)?.port !== this.#port) this.#kept[kept++] = i;
    if (kept === batch.count) return;
    this.#refused += batch.count - kept;
    batch.keep(this.#kept.subarray(0, kept));
  }

  /** Sends from a slot on, and returns the first that was not tried. */
  #send(first: number): number {
    const batch = this.#batch;
    this.#answered += this.#socket.trySendBatch(batch, first);
    if (batch.failed > 0) for (let i = first; i < batch.count; i++) this.#fail(batch.failure(i), 1);
    const { stopped } = batch;
    if (stopped === undefined) return batch.count;
    // There will be room.
    if (stopped.code === "EAGAIN" && stopped.index > first) return stopped.index;
    if (stopped.code === "EAGAIN" && this.#waitForRoom()) return stopped.index;
    this.#fail(stopped.code, batch.count - stopped.index);
    return batch.count;
  }

  #waitForRoom(): boolean {
    try {
      pollSync([{ socket: this.#socket, write: true }], { timeoutMs: ROOM_MS });
      return true;
    } catch (error) {
      if (error instanceof TimeoutError) return false;
      throw error;
    }
  }

  #fail(code: string | undefined, count: number): void {
    if (code !== undefined) this.#failures.set(code, (this.#failures.get(code) ?? 0) + count);
  }

  report({ json, output }: Run): void {
    const durationMs = performance.now() - this.#begin;
    const failures = [...this.#failures];
    const { user, system } = process.cpuUsage(this.#startCpu);
    const received = this.#received;
    const { socketDrops } = this.#loss.take();
    const cpuNs = received > 0 ? round(((user + system) * US) / received, 1) : null;
    if (json) {
      output.json({
        type: "summary",
        received: this.#received,
        answered: this.#answered,
        bytes: this.#bytes,
        refused: this.#refused,
        failures: Object.fromEntries(failures),
        kernelDrops: socketDrops,
        durationMs: round(durationMs, 3),
        cpuNsPerDatagram: cpuNs,
      });
      return;
    }
    output.line(
      `${this.#received} received, ${this.#answered} answered, ${this.#bytes} bytes in ` +
        `${round(durationMs / 1000, 3)} s`,
    );
    if (received >= CPU_COUNT) output.line(`CPU time: ${cpuNs} ns a datagram`);
    if (this.#refused > 0)
      output.line(
        `not answered: ${this.#refused} from port ${this.#port}, which may be an echo server`,
      );
    if (socketDrops > 0)
      output.line(
        `dropped by the kernel: ${socketDrops}, for which the receive buffer had no room`,
      );
    for (const [code, count] of failures) output.line(`not answered: ${count} (${code})`);
  }
}
