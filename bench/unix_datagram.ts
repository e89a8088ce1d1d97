// What does a Unix datagram cost, 64 in one call and one at a time? Sent and received by one
// thread, first and last byte of every payload read.
import { bunSockets, type Path } from "./peers/bun_sockets.ts";
import { c, hasCompiler } from "./peers/c.ts";
import { hasUnixDgram, unixDgram } from "./peers/child.ts";
import { type Case, GROUP, type Peer, readOptions, runCases } from "./support.ts";

// Addressed, each datagram names its receiver: what a server that answers many clients does.
function moved(how: "connected" | "addressed", batch: Path["batch"], bytes: number): Case {
  const connected = how === "connected";
  const path: Path = { batch, connected, kind: "unix" };
  const peers = [
    bunSockets(path, bytes),
    hasCompiler() ? c(path, bytes) : undefined,
    unixDgram(connected, bytes),
  ];
  return { bench: "unix_datagram", case: how, bytes, batch, peers: peers.filter(isPeer) };
}

function isPeer(peer: Peer | undefined): peer is Peer {
  return peer !== undefined;
}

const options = readOptions();
const cases: (() => Case)[] = [];
for (const how of ["connected", "addressed"] as const)
  for (const batch of [GROUP, 1] as const)
    for (const bytes of [64, 1200]) cases.push(() => moved(how, batch, bytes));
await runCases(cases, options);
if (!options.json && !hasUnixDgram())
  console.log("node is missing here: it needs npm ci --prefix bench/peers/unix_dgram.");
