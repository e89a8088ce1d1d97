/**
 * Two interfaces at the ends of one cable, in the namespace of the tests, on which nothing speaks but
 * the tests.
 *
 * @module
 */
import { PacketOption, PacketSocket } from "bun-sockets/packet";
import { ip } from "./namespaces.ts";

const LIMIT_MS = 5000;
/** An EtherType that no test uses. */
const PROBE = 0x88b7;

/** Makes a cable with these two ends, and waits until it carries packets. */
export function layCable(near: string, far: string, nearMac?: string, farMac?: string): void {
  const address = (mac: string | undefined) => (mac === undefined ? [] : ["address", mac]);
  const peer = ["type", "veth", "peer", far, ...address(farMac)];
  ip("link", "add", near, ...address(nearMac), ...peer);
  // IPv6 would ask for routers and tell of groups.
  for (const name of [near, far]) ip("link", "set", name, "addrgenmode", "none", "up");
  waitUntilUp(near, far);
}

/** Plugs one end in again, and waits until the cable carries packets. */
export function plugIn(end: string, other: string): void {
  ip("link", "set", end, "up");
  waitUntilUp(end, other);
}

// The kernel learns of a carrier later than `ip` returns, and loses what is sent until then.
function waitUntilUp(near: string, far: string): void {
  for (const [from, to] of [
    [near, far],
    [far, near],
  ] as const) {
    using receiver = PacketSocket.open(to, { protocol: PROBE });
    using sender = PacketSocket.open(from, { protocol: 0 });
    for (const bypasses of [false, true]) {
      sender.setOption(PacketOption.bypassQdisc, bypasses);
      probe(sender, receiver);
    }
  }
}

function probe(sender: PacketSocket, receiver: PacketSocket): void {
  const frame = new Uint8Array(60);
  new DataView(frame.buffer).setUint16(12, PROBE);
  const end = performance.now() + LIMIT_MS;
  for (let isThrough = false; !isThrough; ) {
    if (performance.now() > end) throw new Error(`The cable is not up within ${LIMIT_MS} ms`);
    try {
      sender.trySend(frame);
      receiver.receiveSync(frame, { timeoutMs: 5 });
      isThrough = true;
    } catch {
      // ENETDOWN, ENOBUFS, or nothing came.
      Bun.sleepSync(1);
    }
  }
}
