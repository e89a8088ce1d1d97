// `npm start`: how many datagrams this machine moves over loopback, by each way there is, in at
// most 20 seconds.
import CliTable from "cli-table3";
import { bunSockets } from "./peers/bun_sockets.ts";
import { c, hasCompiler } from "./peers/c.ts";
import { bunUdp, nodeDgram } from "./peers/child.ts";
import {
  environment,
  GROUP,
  type Line,
  noise,
  type Peer,
  readOptions,
  runCase,
  startProgress,
} from "./support.ts";

const options = readOptions();
const batch = { batch: GROUP, connected: true } as const;
const single = { batch: 1, connected: true } as const;

function peers(bytes: number): Peer[] {
  const inC = [
    { ...c(batch, bytes), name: "C, batch" },
    { ...c(single, bytes), name: "C, single calls" },
  ];
  return [
    { ...bunSockets(batch, bytes), name: "bun-sockets, batch" },
    { ...bunSockets(single, bytes), name: "bun-sockets, single calls" },
    { ...bunUdp(GROUP, bytes), name: "Bun.udpSocket" },
    { ...nodeDgram(GROUP, bytes), name: "node:dgram under Bun" },
    ...(hasCompiler() ? inC : []),
  ];
}

const sizes = [64, 1200];
const rounds = options.rounds;
const lines: Line[] = [];
const progress = startProgress();
for (const [index, bytes] of sizes.entries()) {
  const chosen = peers(bytes);
  let done = 0;
  progress.title(`${bytes} bytes`);
  lines.push(
    ...(await runCase(
      { bench: "throughput", case: "connected", bytes, batch: null, peers: chosen },
      { ...options, roundMs: Math.min(options.roundMs, 120), only: undefined },
      (last) => {
        done += 1 / (chosen.length * rounds);
        progress.set((index + done) / sizes.length);
        const perSecond = (1e9 * (last.datagrams - last.lost)) / (last.sendNs + last.receiveNs);
        progress.title(`${bytes} bytes: ${Math.round(perSecond).toLocaleString("en")} datagrams/s`);
      },
    )),
  );
}
progress.stop();

const table = new CliTable({
  head: ["bytes", "", "ns/datagram", "datagrams/s", "Gbit/s", "ours ÷ it", "lost", "noise"],
  colAligns: ["right", "left", "right", "right", "right", "right", "right", "left"],
  style: { head: [], border: [], compact: true },
});
for (const line of lines) {
  const bytes = line.bytes as number;
  table.push([
    bytes,
    line.peer,
    Math.round(line.ns),
    Math.round(1e9 / line.ns).toLocaleString("en"),
    ((bytes * 8) / line.ns).toFixed(2),
    line.ratio.toFixed(2),
    line.lost ?? "",
    noise(line),
  ]);
}
console.log(
  `One thread sends and receives over loopback, 64 datagrams in flight. ${environment()}`,
);
console.log(table.toString());
if (!hasCompiler()) console.log("C is missing here: it needs gcc.");
