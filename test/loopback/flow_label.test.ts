/** Flow labels of IPv6: what the sender's address says is what the receiver reads beside the payload. */
import { expect, test } from "bun:test";
import {
  ControlReader,
  DatagramBatch,
  Inet6Address,
  Ipv6Option,
  Message,
  UdpSocket,
} from "bun-sockets";
import { IPPROTO_IPV6, IPV6_FLOWINFO } from "bun-sockets/sys";

const LABEL = 0xabcde;
const LABEL_BITS = 0xfffff;
const WAIT = { timeoutMs: 5000 };

function openReceiver(): UdpSocket {
  const receiver = UdpSocket.bind("[::1]:0");
  receiver.setOption(Ipv6Option.receiveFlowInfo, true);
  return receiver;
}

/** The flow information of the next datagram; undefined where the kernel did not tell. */
function nextFlow(receiver: UdpSocket): number | undefined {
  const message = new Message({ vectors: new Uint8Array(100), controlBytes: 256 });
  receiver.receiveMessageSync(message, WAIT);
  const reader = new ControlReader(message.control);
  while (reader.next()) {
    const { level, type, data } = reader;
    if (level === IPPROTO_IPV6 && type === IPV6_FLOWINFO)
      return new DataView(data.buffer, data.byteOffset).getUint32(0);
  }
  return undefined;
}

test("a label goes out with sendFlowInfo, and without it the kernel's own or none", () => {
  using receiver = openReceiver();
  using sender = UdpSocket.bind("[::1]:0");
  sender.setOption(Ipv6Option.autoFlowLabel, false);
  const { port } = receiver.localAddress;
  const to = new Inet6Address("::1", port, { flow: LABEL });
  sender.sendToSync("without", to);
  expect(nextFlow(receiver) ?? 0).toBe(0);
  sender.setOption(Ipv6Option.sendFlowInfo, true);
  sender.sendToSync("with", to);
  expect(nextFlow(receiver)).toBe(LABEL);
  sender.sendToSync("none", receiver.localAddress);
  expect(nextFlow(receiver) ?? 0).toBe(0);
  // A label of its own for each pair of ports, always the same.
  sender.setOption(Ipv6Option.autoFlowLabel, true);
  const own = [1, 2].map(() => {
    sender.sendToSync("own", receiver.localAddress);
    return (nextFlow(receiver) ?? 0) & LABEL_BITS;
  });
  expect(own[0]).toBeGreaterThan(0);
  expect(own[1]).toBe(own[0] as number);
});

test("the traffic class goes with it, and both are read", () => {
  using receiver = openReceiver();
  using sender = UdpSocket.open("ipv6");
  sender.setOption(Ipv6Option.sendFlowInfo, true);
  sender.setOption(Ipv6Option.trafficClass, 0xb8);
  sender.sendToSync("x", new Inet6Address("::1", receiver.localAddress.port, { flow: LABEL }));
  expect(nextFlow(receiver)).toBe((0xb8 << 20) | LABEL);
});

test("each datagram of a batch has the label of its address, and a connected socket that of its peer", () => {
  using receiver = openReceiver();
  using sender = UdpSocket.open("ipv6");
  sender.setOption(Ipv6Option.sendFlowInfo, true);
  const { port } = receiver.localAddress;
  using batch = new DatagramBatch({ capacity: 3, slotBytes: 16 });
  batch.count = 3;
  for (let i = 0; i < 3; i++) {
    batch.write(i, "x");
    batch.setAddress(i, new Inet6Address("::1", port, { flow: LABEL + i }));
  }
  expect(sender.sendBatchSync(batch)).toBe(3);
  expect([0, 1, 2].map(() => nextFlow(receiver))).toEqual([LABEL, LABEL + 1, LABEL + 2]);
  sender.connectSync(new Inet6Address("::1", port, { flow: 0x12345 }));
  expect(sender.remoteAddress).toMatchObject({ flow: 0x12345 });
  sender.sendSync("connected");
  expect(nextFlow(receiver)).toBe(0x12345);
});
