/**
 * Two machines and a cable between them: the namespace of the tests and another one, a veth pair, and
 * nobody who speaks on it unasked.
 *
 * @module
 */
import { ip, makeNamespace, type Namespace } from "./namespaces.ts";

const LIMIT_MS = 5000;

/** The cable and who is at its ends; gone with the block. */
export interface TwoHosts extends Disposable {
  /** The interface of the tests. */
  readonly near: string;
  readonly nearAddress: string;
  /** The interface in the other namespace. */
  readonly far: string;
  readonly farAddress: string;
  readonly namespace: Namespace;
}

/** Makes both. Their names begin with `name`, their addresses are in 10.`network`.0.0/24. */
export function makeTwoHosts(name: string, network: number): TwoHosts {
  const namespace = makeNamespace();
  const near = `${name}-near`;
  const far = `${name}-far`;
  const pid = String(namespace.processId);
  ip("link", "add", near, "type", "veth", "peer", "name", far, "netns", pid);
  const nearAddress = `10.${network}.0.1`;
  const farAddress = `10.${network}.0.2`;
  const ends = [
    [ip, near, nearAddress],
    [namespace.ip, far, farAddress],
  ] as const;
  for (const [run, link, address] of ends) {
    // IPv6 would ask for routers and tell of groups.
    run("link", "set", link, "addrgenmode", "none");
    run("addr", "add", `${address}/24`, "dev", link);
    run("link", "set", link, "up");
  }
  for (const [run, link] of ends) waitForCarrier(run, link);
  return {
    near,
    nearAddress,
    far,
    farAddress,
    namespace,
    [Symbol.dispose]() {
      ip("link", "del", near);
      namespace[Symbol.dispose]();
    },
  };
}

// The kernel learns of a carrier later than `ip` returns, and loses what is sent until then.
function waitForCarrier(run: (...values: string[]) => string, link: string): void {
  const end = performance.now() + LIMIT_MS;
  while (JSON.parse(run("-j", "link", "show", link))[0].operstate !== "UP") {
    if (performance.now() > end) throw new Error(`Not up within ${LIMIT_MS} ms: ${link}`);
    Bun.sleepSync(1);
  }
}
