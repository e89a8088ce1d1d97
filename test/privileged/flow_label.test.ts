/** Leases of flow labels: a namespace that had one asks for one for a while, so it is one of its own. */
import { expect } from "bun:test";
import { Inet6Address, Ipv6Option, UdpSocket } from "bun-sockets";
import {
  IPPROTO_IPV6,
  IPV6_FL_A_GET,
  IPV6_FL_F_CREATE,
  IPV6_FL_S_EXCL,
  IPV6_FLOWLABEL_MGR,
} from "bun-sockets/sys";
import { systemErrorOf } from "../support/errors.ts";
import { testIf } from "../support/require.ts";

const WAIT = { timeoutMs: 5000 };

const namespaced = testIf(
  process.env["BUN_SOCKETS_NAMESPACE"] === "1" ? undefined : "needs a network namespace of its own",
);

namespaced("a label that is leased is refused to others, for as long as its socket is open", () => {
  using receiver = UdpSocket.bind("[::1]:0");
  const { port } = receiver.localAddress;
  const to = new Inet6Address("::1", port, { flow: 0x54321 });
  using other = UdpSocket.open("ipv6");
  other.setOption(Ipv6Option.sendFlowInfo, true);
  const owner = UdpSocket.open("ipv6");
  try {
    owner.setOption(Ipv6Option.sendFlowInfo, true);
    // struct in6_flowlabel_req: destination, label, action, share, flags, and times.
    const request = new DataView(new ArrayBuffer(32));
    new Uint8Array(request.buffer).set(to.bytes.subarray(8, 24));
    request.setUint32(16, 0x54321);
    request.setUint8(20, IPV6_FL_A_GET);
    request.setUint8(21, IPV6_FL_S_EXCL);
    request.setUint16(22, IPV6_FL_F_CREATE, true);
    owner.setRawOption(IPPROTO_IPV6, IPV6_FLOWLABEL_MGR, request);
    owner.sendToSync("owner", to);
    expect(receiver.receiveSync(new Uint8Array(10), WAIT)).toBe(5);
    const error = systemErrorOf(() => other.sendToSync("other", to));
    expect([error.code, error.destination]).toEqual(["EINVAL", `[::1]:${port}`]);
  } finally {
    owner.close();
  }
});
