// What does an echo cost a server that has more to do than it can sleep between? 32 datagrams are
// on their way; the client has a core of its own, and the server's CPU time is what counts.
import { cores, cServer, eventServers, ourServer, runLoads, type Server } from "./peers/echo.ts";
import { readOptions } from "./support.ts";

const OURS = "handler";
const oneCore = cores === 1;

const servers: Server[] = [
  ...["promise", "batches", "handler", "sync"].map((form) => ourServer(form)),
  cServer("c", "batch", OURS),
  cServer("c-single", "single", OURS),
  ...eventServers(OURS),
];

await runLoads(
  [
    {
      bench: "echo_server",
      case: oneCore ? "one core" : "two cores",
      kind: "load",
      batch: 32,
      oneCore,
      pauseUs: 0,
      echoes: 200_000,
      ns: "cpuNs",
    },
  ],
  servers,
  readOptions(),
);
