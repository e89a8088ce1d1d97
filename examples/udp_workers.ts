/**
 * One UDP port, four Workers: with SO_REUSEPORT each has a socket of its own, and the kernel spreads
 * the senders over them. Everything that comes goes back; once a second, and at the end, it says how
 * many datagrams each Worker had.
 *
 *     bun examples/udp_workers.ts [address, default 127.0.0.1:9000] [Workers, default 4]
 *     echo hello | socat -t 1 - UDP:127.0.0.1:9000
 *
 * It ends by SIGTERM or Ctrl-C.
 */
import { isMainThread, parentPort, Worker, workerData } from "node:worker_threads";
import { UdpSocket } from "bun-sockets";

if (isMainThread) await main();
else serve(workerData.address);

async function main(): Promise<void> {
  const [address = "127.0.0.1:9000", count = "4"] = process.argv.slice(2);
  // Takes the port, if it is to be any. It gives its place up before somebody sends.
  const first = UdpSocket.bind(address, { reusePort: true });
  const local = `${first.localAddress}`;
  const echoed = new Array<number>(Number(count)).fill(0);
  const workers = echoed.map((_, i) => {
    const worker = new Worker(new URL(import.meta.url), { workerData: { address: local } });
    worker.on("message", (datagrams: number) => (echoed[i] = datagrams));
    return worker;
  });
  await Promise.all(workers.map((worker) => new Promise((ready) => worker.once("message", ready))));
  first.close();
  console.log(`listening on ${local}`);

  const report = () => console.log(`echoed ${echoed.join(" ")}`);
  const timer = setInterval(report, 1000);
  await new Promise((stop) => {
    for (const signal of ["SIGTERM", "SIGINT"]) process.once(signal, stop);
  });
  clearInterval(timer);
  // A Worker that is terminated leaves its socket open: it is asked to close it, and ends by itself.
  for (const worker of workers) worker.postMessage("close");
  await Promise.all(workers.map((worker) => new Promise((end) => worker.once("exit", end))));
  report();
}

function serve(address: string): void {
  const socket = UdpSocket.bind(address, { reusePort: true, receiveBufferBytes: 1 << 20 });
  let echoed = 0;
  socket.onBatch((batch) => {
    echoed += socket.trySendBatch(batch);
  });
  const timer = setInterval(() => parentPort?.postMessage(echoed), 100);
  parentPort?.once("message", () => {
    socket.close();
    clearInterval(timer);
    parentPort?.postMessage(echoed);
    parentPort?.close();
  });
  parentPort?.postMessage(echoed);
}
