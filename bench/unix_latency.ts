// How long does an echo take on a Unix stream, with one of 64 bytes on its way? The client asks again
// at once ("tight"), or lets the server fall asleep first ("paced").
import { type Load, runLoads, unixServers } from "./peers/echo.ts";
import { readOptions } from "./support.ts";

const PAUSE_US = 150;

const CASES = [
  { name: "tight, one core", oneCore: true, pauseUs: 0 },
  { name: "paced, one core", oneCore: true, pauseUs: PAUSE_US },
  { name: "tight, two cores", oneCore: false, pauseUs: 0 },
];

const loads = CASES.map(
  ({ name, oneCore, pauseUs }): Load => ({
    bench: "unix_latency",
    case: name,
    kind: "latency",
    batch: 1,
    oneCore,
    pauseUs,
    echoes: pauseUs ? 3000 : 20_000,
    ns: "p50Ns",
  }),
);

await runLoads(loads, unixServers(), readOptions());
