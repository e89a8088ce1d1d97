// What does a datagram cost in trains that the kernel cuts (GSO) and joins (GRO)? Sent and received by
// one thread, over loopback and over a veth pair between two network namespaces, first and last byte
// of every payload read. Neither is a network: see README.md.
import { hasCompiler } from "./peers/c.ts";
import { bunUdp, node } from "./peers/child.ts";
import { metadata } from "./peers/metadata.ts";
import { offload, offloadInC, openPair, type Pair, type TrainPath } from "./peers/offload.ts";
import { canMakeVeth, openVethPair } from "./peers/veth.ts";
import { type Case, GROUP, type Peer, readOptions, runCases } from "./support.ts";

/** A train: as many datagrams of each size as fit one IP packet, 64 at most. */
const TRAINS = [
  { bytes: 64, segments: 64 },
  { bytes: 512, segments: 64 },
  { bytes: 1200, segments: 54 },
] as const;

const WAYS = [
  { name: "GSO and GRO", gso: true, gro: true, trains: 1 },
  { name: "GSO and GRO", gso: true, gro: true, trains: 4 },
  { name: "GSO", gso: true, gro: false, trains: 1 },
  { name: "GRO", gso: false, gro: true, trains: 1 },
  { name: "batch", gso: false, gro: false, trains: 1 },
] as const;

function caseOf(
  name: string,
  path: TrainPath,
  open: (gro: boolean) => Pair,
  others: readonly (Peer | undefined)[],
): Case {
  const peers = [
    offload(path, open(path.gro)),
    hasCompiler() ? offloadInC(path, open(path.gro)) : undefined,
    ...others,
  ];
  return {
    bench: "udp_offload",
    case: name,
    bytes: path.bytes,
    batch: path.trains,
    peers: peers.filter((peer) => peer !== undefined),
  };
}

// Beside our best way stand the best ways of the others, who have no trains.
function overLoopback(): (() => Case)[] {
  return TRAINS.flatMap((train) =>
    WAYS.map(({ name, ...way }) => () => {
      const path = { ...train, ...way };
      const isBest = path.gso && path.gro && path.trains === 1;
      const others = isBest ? [bunUdp(GROUP, path.bytes), node(GROUP, path.bytes)] : [];
      return caseOf(name, path, openPair, others);
    }),
  );
}

// The packets of a veth pair are not cut before they leave, but where they arrive: towards a receiver
// without GRO the kernel cuts them for it.
function overVeth(): (() => Case)[] {
  if (!canMakeVeth()) return [];
  return TRAINS.flatMap((train) =>
    [true, false].map((gro) => () => {
      const path = { ...train, gso: true, gro, trains: 1 };
      return caseOf(gro ? "veth, GSO and GRO" : "veth, GSO", path, openVethPair, []);
    }),
  );
}

// What it costs to be told of each datagram where it came to and its ECN; or its TTL and time besides.
function withMetadata(bytes: number, facts: "path" | "all"): Case {
  const name = facts === "path" ? "metadata" : "metadata, with TTL and time";
  const peers = [metadata(bytes, facts), metadata(bytes, "none")];
  return { bench: "udp_offload", case: name, bytes, batch: GROUP, peers };
}

await runCases(
  [
    ...overLoopback(),
    ...overVeth(),
    ...TRAINS.map(
      ({ bytes }) =>
        () =>
          withMetadata(bytes, "path"),
    ),
    ...TRAINS.map(
      ({ bytes }) =>
        () =>
          withMetadata(bytes, "all"),
    ),
  ],
  readOptions(),
);
