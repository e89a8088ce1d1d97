/**
 * What the questions of the suite ask, in a sentence or two: see bench/cells.ts.
 *
 * @module
 */

/** The question whose lines the others vary. */
export const BASE = "peers";

const TEXTS: Readonly<Record<string, string>> = {
  [BASE]:
    "The base: UDP over IPv4 on loopback from one process to another, everybody in their best way. Ours and C send with sendmmsg and receive with recvmmsg.",
  "send paths":
    "How they are sent: one in a call (send, sendto, sendmsg), many in a call (sendmmsg), as a train that the kernel cuts (gso), or without a copy (zerocopy). All are received with recvmmsg.",
  "receive paths":
    "How they are received: one in a call (recv, recvfrom, recvmsg), many in a call (recvmmsg), as trains that the kernel has joined (gro), or from a packet ring. The ring is at the end of a veth pair, and recvmmsg stands beside it there. Flat-out means that the sender waits for nobody: what the receiver is too slow for is lost.",
  batches: "How many go in a call.",
  families: "UDP over IPv4, UDP over IPv6, and Unix datagrams.",
  topologies:
    "Who sends to whom: one process to another, one thread to itself, over a veth pair into another network namespace, or two senders to one or two receivers on one port (2 × 1, 2 × 2). These two, and flat-out, wait for nobody: what the receiver is too slow for is lost.",
  forms:
    "How ours waits: not at all (try), for a promise, or until a handler is called. C stands beside each, and is always the same.",
  sizes: "How long they are. As many go in a call as the smallest buffers hold.",
};

/** What a question asks; nothing of one that is not known. */
export function questionText(question: string): string {
  return Object.hasOwn(TEXTS, question) ? (TEXTS[question] as string) : "";
}
