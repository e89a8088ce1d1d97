/**
 * Arguments for raw sockets and PingSocket. What is sent goes to this machine, under a protocol that
 * nobody speaks.
 *
 * @module
 */
import { AF_INET, AF_INET6, SOCK_RAW } from "bun-sockets/sys";
import {
  boolean,
  cancelOptions,
  type Draft,
  type Row,
  socket,
  socketOptions,
  some,
  timeoutMs,
} from "./draft.ts";
import { openForeign } from "./world.ts";

const RAW = "RawSocket.prototype.";
const PING = "PingSocket.prototype.";
const PROTOCOL = 253;

const hostOf = (family: unknown) => (family === "ipv6" ? "::1" : "127.0.0.1");

function rawOptions(draft: Draft, isIpv6: boolean): object {
  const { choices } = draft;
  const isIcmp = choices.chance(30);
  const icmp = isIpv6 ? "icmpv6" : "icmp";
  const options = socketOptions(draft, {
    headerIncluded: () => boolean(draft),
    queueErrors: () => boolean(draft),
    broadcast: () => boolean(draft),
    interface: () => choices.pick(["lo", 1]),
    metadata: () => choices.pick([[], ["ttl"], ["destination", "timestamp"]]),
    ...(isIpv6 && !isIcmp ? { checksumOffset: () => choices.pick([0, 2, 6, 16]) } : {}),
    ...(isIcmp ? { icmpFilter: () => filter(draft) } : {}),
  });
  return { ...(options as object), protocol: isIcmp ? icmp : choices.pick([PROTOCOL, "ospf"]) };
}

function filter({ choices }: Draft): object {
  const types = choices.pick([[], ["echoReply"], ["echoRequest", 3, 0], [1, 2, 3]]);
  return choices.chance(50) ? { pass: types } : { block: types };
}

const get = (draft: Draft) => ({ receiver: socket(draft), values: [] });

// Nobody waits for long: this machine answers at once, or not at all.
function pingOptions(draft: Draft): Record<string, unknown> {
  const { choices } = draft;
  return some(draft, {
    payloadBytes: () => choices.pick([0, 8, 56, 1000, 65_507]),
    ttl: () => choices.pick([1, 64, 255]),
  });
}

const onPinger =
  (values: (draft: Draft, host: string) => unknown[] = () => []): Row =>
  (draft) => {
    const receiver = draft.world.pinger(draft.choices);
    return { receiver, values: values(draft, hostOf(receiver.family)) };
  };

/** Rows of RawSocket and PingSocket. */
export const RAW_ROWS: readonly [string, Row][] = [
  ["new RawSocket", () => ({ receiver: undefined, values: [undefined] })],
  [
    "RawSocket.open",
    (draft) => {
      const isIpv6 = draft.choices.chance(50);
      const word = isIpv6 ? "ipv6" : "ipv4";
      const family = draft.choices.chance(50) ? word : hostOf(word);
      return { receiver: undefined, values: [family, rawOptions(draft, isIpv6)] };
    },
  ],
  [
    "RawSocket.bind",
    (draft) => {
      const isIpv6 = draft.choices.chance(50);
      const host = hostOf(isIpv6 ? "ipv6" : "ipv4");
      return { receiver: undefined, values: [host, rawOptions(draft, isIpv6)] };
    },
  ],
  [
    "RawSocket.adopt",
    ({ choices, world }) => {
      const fd = openForeign(choices.pick([AF_INET, AF_INET6]), SOCK_RAW, PROTOCOL);
      world.fds.add(fd);
      return { receiver: undefined, values: [fd, choices.pick([undefined, {}, { own: true }])] };
    },
  ],
  [
    `${RAW}payloadOffset`,
    (draft) => {
      const { choices } = draft;
      const bytes = new Uint8Array(100).fill(choices.below(256));
      const values = [bytes, choices.below(60), choices.below(40)];
      return { receiver: socket(draft), values: values.slice(0, 1 + choices.below(3)) };
    },
  ],
  [
    `${RAW}bind`,
    (draft) => {
      const receiver = socket(draft);
      return { receiver, values: [hostOf(receiver.family)] };
    },
  ],
  ...["tryConnect", "connectSync", "connect"].map((call): [string, Row] => [
    `${RAW}${call}`,
    (draft) => {
      const receiver = socket(draft);
      const limits = call === "connect" ? cancelOptions(draft) : { timeoutMs: timeoutMs(draft) };
      return {
        receiver,
        values: [hostOf(receiver.family), limits].slice(0, call === "tryConnect" ? 1 : 2),
      };
    },
  ]),
  [
    `${RAW}disconnect`,
    (draft) => ({ receiver: socket(draft, ({ state }) => state === "new"), values: [] }),
  ],
  ...["trySendTo", "sendToSync", "sendTo"].map((call): [string, Row] => [
    `${RAW}${call}`,
    (draft) => {
      const { choices } = draft;
      const receiver = socket(draft, ({ family }) => family === "ipv4" || family === "ipv6");
      const limits =
        call === "sendTo"
          ? cancelOptions(draft)
          : call === "sendToSync"
            ? { timeoutMs: timeoutMs(draft) }
            : undefined;
      const data = new Uint8Array(choices.pick([8, 20, 100])).fill(7);
      return { receiver, values: [data, hostOf(receiver.family), limits] };
    },
  ]),
  ...["localAddress", "remoteAddress", "headerIncluded", "checksumOffset"].map(
    (member): [string, Row] => [`get ${RAW}${member}`, get],
  ),
  [
    `get ${RAW}icmpFilter`,
    (draft) => ({ receiver: draft.world.icmpSocket(draft.choices), values: [] }),
  ],
  [
    `set ${RAW}icmpFilter`,
    (draft) => ({ receiver: draft.world.icmpSocket(draft.choices), values: [filter(draft)] }),
  ],

  ["new PingSocket", () => ({ receiver: undefined, values: [undefined] })],
  [
    "PingSocket.open",
    (draft) => {
      const { choices, world } = draft;
      const family = choices.pick(["ipv4", "ipv6"]);
      const options = some(draft, {
        kind: () => choices.pick(["raw", "datagram", undefined]),
        source: () => hostOf(family),
        interface: () => choices.pick(["lo", 1]),
        broadcast: () => boolean(draft),
        receiveBufferBytes: () => choices.pick([1, 4096, 100_000]),
        sendBufferBytes: () => choices.pick([1, 4096, 100_000]),
        configure: () => () => world.name(choices),
      });
      const named = choices.chance(50) ? family : hostOf(family);
      return { receiver: undefined, values: [named, options] };
    },
  ],
  ...["identifier", "statistics", "closed"].map((member): [string, Row] => [
    `get ${PING}${member}`,
    onPinger(),
  ]),
  [
    `${PING}ping`,
    onPinger((draft, host) => [host, { ...pingOptions(draft), ...cancelOptions(draft) }]),
  ],
  [
    `${PING}pingSync`,
    onPinger((draft, host) => [
      host,
      { ...pingOptions(draft), timeoutMs: draft.choices.pick([0, 1, 2]) },
    ]),
  ],
  [
    `${PING}series`,
    onPinger((draft, host) => [
      host,
      {
        ...pingOptions(draft),
        ...some(draft, {
          intervalMs: () => draft.choices.pick([0, 0.5, 1]),
          count: () => draft.choices.pick([1, 3, Number.POSITIVE_INFINITY]),
          signal: () => draft.world.signal(draft.choices),
        }),
      },
    ]),
  ],
  ...["ref", "unref", "close", "toString", "[Symbol.dispose]", "[nodejs.util.inspect.custom]"].map(
    (member): [string, Row] => [
      member.startsWith("[") ? `PingSocket.prototype${member}` : `${PING}${member}`,
      onPinger(),
    ],
  ),
];
