/**
 * Arguments that close the socket while they are read, and open another one, which gets its number:
 * that one is left alone.
 *
 * @module
 */
import { expect, test } from "bun:test";
import { Inet4Address, IpOption, LossWindow, options, UdpSocket } from "bun-sockets";

const GROUP = "239.7.7.7";

let ours: UdpSocket;
let stranger: UdpSocket | undefined;

function swap(): void {
  if (stranger) return;
  const { descriptor } = ours;
  ours.close();
  stranger = UdpSocket.bind("127.0.0.1:0");
  expect(stranger.descriptor).toBe(descriptor);
  stranger.join(GROUP, { interface: "lo" });
}

/** The same, but reading it runs `swap`. */
class Trap extends Inet4Address {
  override get host(): string {
    swap();
    return super.host;
  }

  override get isMulticast(): boolean {
    swap();
    return super.isMulticast;
  }
}

const trapped = {
  get interface() {
    swap();
    return "lo";
  },
};

const range = {
  get low() {
    swap();
    return 5000;
  },
  high: 6000,
};

function* whats(): Iterable<"sent"> {
  swap();
  yield "sent";
}

const calls: readonly [name: string, call: () => unknown][] = [
  ["join", () => ours.join(new Trap("239.7.7.8", 0), { interface: "lo" })],
  ["leave", () => ours.leave(new Trap(GROUP, 0), { interface: "lo" })],
  ["blockSource", () => ours.blockSource(GROUP, "127.0.0.1", trapped)],
  [
    "setSourceFilter",
    () => ours.setSourceFilter(GROUP, { mode: "exclude", sources: ["127.0.0.9"] }, trapped),
  ],
  ["sourceFilter", () => ours.sourceFilter(GROUP, trapped)],
  [
    "multicastInterface",
    () => {
      ours.multicastInterface = new Trap("127.0.0.1", 0);
    },
  ],
  [
    "transmitTimestamps",
    () => {
      ours.transmitTimestamps = whats() as never;
    },
  ],
  ["setOption", () => ours.setOption(IpOption.localPortRange, range)],
  ["LossWindow", () => new LossWindow(ours, trapped)],
];

test.each(calls)("%s changes nothing of a socket that has got the number", (_, call) => {
  stranger = undefined;
  ours = UdpSocket.bind("127.0.0.1:0");
  expect(call).toThrow("the socket is closed");
  using other = stranger as unknown as UdpSocket;
  expect(other.memberships).toMatchObject([{ interfaceIndex: 1, source: undefined }]);
  expect(other.sourceFilter(GROUP, { interface: "lo" })).toEqual({ mode: "exclude", sources: [] });
  expect(other.getOption(IpOption.multicastInterface)).toBe("0.0.0.0");
  expect(other.getOption(IpOption.localPortRange)).toEqual({ low: 0, high: 0 });
  expect(options.dump(other)["SO_TIMESTAMPING"]).toBe(0);
});
