// What does a datagram cost when 64 of them go in one call? Sent and received by one thread over
// loopback, first and last byte of every payload read.
import { bunSockets } from "./peers/bun_sockets.ts";
import { c, hasCompiler } from "./peers/c.ts";
import { bunUdp, node, nodeDgram } from "./peers/child.ts";
import { type Case, GROUP, type Peer, readOptions, runCases } from "./support.ts";

function connected(bytes: number): Case {
  const path = { batch: GROUP, connected: true } as const;
  const peers = [
    bunSockets(path, bytes),
    hasCompiler() ? c(path, bytes) : undefined,
    bunUdp(GROUP, bytes),
    nodeDgram(GROUP, bytes),
    node(GROUP, bytes),
  ];
  return {
    bench: "udp_batch",
    case: "connected",
    bytes,
    batch: GROUP,
    peers: peers.filter(isPeer),
  };
}

// Each datagram carries its address: what a server that answers many clients does.
function addressed(bytes: number): Case {
  const path = { batch: GROUP, connected: false } as const;
  const peers = [bunSockets(path, bytes), hasCompiler() ? c(path, bytes) : undefined];
  return {
    bench: "udp_batch",
    case: "addressed",
    bytes,
    batch: GROUP,
    peers: peers.filter(isPeer),
  };
}

function isPeer(peer: Peer | undefined): peer is Peer {
  return peer !== undefined;
}

await runCases(
  [connected, addressed].flatMap((make) => [64, 1200].map((bytes) => () => make(bytes))),
  readOptions(),
);
