// How long does an echo take, with one datagram on its way? Answers are awaited, handled or blocked
// for; the client asks again at once ("tight"), or lets the server fall asleep first ("paced").
import {
  cServer,
  eventServers,
  type Load,
  ourServer,
  runLoads,
  type Server,
} from "./peers/echo.ts";
import { readOptions } from "./support.ts";

const PAUSE_US = 150;

const loads = [true, false].flatMap((oneCore) =>
  [0, PAUSE_US].map(
    (pauseUs): Load => ({
      bench: "async_latency",
      case: `${pauseUs ? "paced" : "tight"}, ${oneCore ? "one core" : "two cores"}`,
      kind: "latency",
      batch: 1,
      oneCore,
      pauseUs,
      // Half a second or so of the fastest.
      echoes: pauseUs ? 3000 : 20_000,
      ns: "p50Ns",
    }),
  ),
);

const servers: Server[] = [
  ...["promise", "batches", "handler", "sync"].map((form) => ourServer(form)),
  ourServer("busy", true),
  cServer("c", "single", "handler"),
  cServer("c-spin", "spin", "busy", true),
  ...eventServers("promise"),
];

await runLoads(loads, servers, readOptions());
