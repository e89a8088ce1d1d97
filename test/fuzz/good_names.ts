/**
 * Arguments for names, interfaces, prefixes and what tells of the whole process. No name is asked for
 * that another machine could know.
 *
 * @module
 */
import { networkInterfaces } from "node:os";
import {
  AddressList,
  type AddressListParts,
  NetworkInterface,
  Prefix,
  ResolutionError,
  SystemError,
} from "bun-sockets";
import {
  boolean,
  cancelOptions,
  constant,
  type Draft,
  given,
  type Plan,
  type Row,
  some,
  timeoutOptions,
} from "./draft.ts";

// Where there is another way out than the loopback interface, no resolver is asked.
const isAlone = Object.values(networkInterfaces()).every((addresses) =>
  addresses?.every(({ internal }) => internal),
);
const HOSTS: readonly (string | undefined)[] = [
  ...["127.0.0.1", "::1", "localhost", "sub.localhost", "fe80::1%lo", "", "10.0.0.1", "0x7f.1"],
  ...(isAlone ? ["nobody.invalid", "nobody.invalid"] : []),
  undefined,
];
const KNOWN = /^([\d.]*|[\da-f:.]+(%\w+)?|0x7f\.1|(.+\.)?(localhost|invalid)\.?)$/i;

/** A host, or a host and a service, that nobody else is asked about. */
export function harmlessHost(host: unknown): unknown {
  if (isAlone || typeof host !== "string") return host;
  const [, name = host] = /^([^:[\]]+):[^:]+$/.exec(host) ?? [];
  return KNOWN.test(name) || name.includes(":") ? host : "localhost";
}

function limits(draft: Draft, isSync: boolean): object | undefined {
  return (isSync ? timeoutOptions(draft) : cancelOptions(draft)) as object | undefined;
}

function resolving(draft: Draft, isSync: boolean): Plan {
  const { choices } = draft;
  const options = {
    ...some(draft, {
      family: () => choices.pick(["ipv4", "ipv6", 0]),
      type: () => choices.pick(["stream", "datagram", "raw"]),
      protocol: () => choices.pick([0, 6, 17]),
      passive: () => boolean(draft),
      numericHost: () => choices.chance(20),
      numericService: () => choices.chance(20),
      canonicalName: () => boolean(draft),
      v4mapped: () => boolean(draft),
      all: () => boolean(draft),
      addrconfig: () => choices.chance(20),
      order: () => choices.pick(["verbatim", "ipv4first", "ipv6first"]),
    }),
    ...limits(draft, isSync),
  };
  const service = choices.pick([undefined, undefined, 80, "53", "domain", 0]);
  return { receiver: undefined, values: [choices.pick(HOSTS), service, options] };
}

function reversing(draft: Draft, isSync: boolean): Plan {
  const { choices } = draft;
  const options = {
    ...some(draft, {
      numericService: () => boolean(draft),
      nameRequired: () => choices.chance(20),
      datagram: () => boolean(draft),
      noFqdn: () => boolean(draft),
    }),
    ...limits(draft, isSync),
    ...(isAlone && choices.chance(40) ? {} : { numericHost: true }),
  };
  const whose = choices.pick(["127.0.0.1:53", "[::1]:80", "127.0.0.9:0", "192.0.2.1:1"]);
  return { receiver: undefined, values: [given(draft, whose), options] };
}

const familyOptions: Row = (draft) => ({
  receiver: undefined,
  values: draft.isToSpoil
    ? [{ family: "ipv4" }]
    : draft.choices.pick([[], [{}], [{ family: "ipv4" }], [{ family: "ipv6" }]]),
});

// With a socket to ask through, now and then.
function through({ world, choices, isToSpoil }: Draft): unknown[] {
  if (!isToSpoil && choices.chance(60)) return [];
  return [{ socket: world.socket(choices, "UdpSocket", () => true) }];
}

const PREFIXES = ["10.0.0.0/8", "0.0.0.0/0", "127.0.0.1", "fe80::/10", "::/0", "2001:db8::/32"];
const INSIDE = ["10.1.2.3", "127.0.0.1", "fe80::1", "2001:db8::5", "127.0.0.1:80", "[::1]:53"];

const prefix = ({ choices }: Draft) => new Prefix(choices.pick(PREFIXES));

const onPrefix =
  (values: (draft: Draft) => unknown[] = () => []): Row =>
  (draft) => ({ receiver: prefix(draft), values: values(draft) });

function range(draft: Draft): unknown[] {
  const { choices } = draft;
  return choices.pick<() => unknown[]>([
    () => [prefix(draft)],
    () => [choices.pick(PREFIXES)],
    () => [choices.pick(INSIDE)],
    () => ["10.0.0.1", "10.0.0.9"],
    () => ["fe80::1", "fe80::ff"],
  ])();
}

function list(draft: Draft): AddressList {
  const made = new AddressList({ otherwise: draft.choices.pick(["allow", "deny"]) });
  return made.allow("10.0.0.0/8").deny("fe80::1", "fe80::ff");
}

const onList =
  (values: (draft: Draft) => unknown[] = () => []): Row =>
  (draft) => ({ receiver: list(draft), values: values(draft) });

function networkInterface(draft: Draft): NetworkInterface {
  const [options] = through({ ...draft, isToSpoil: false });
  return new NetworkInterface("lo", options as object);
}

const onInterface =
  (values: (draft: Draft) => unknown[] = () => []): Row =>
  (draft) => ({ receiver: networkInterface(draft), values: values(draft) });

const attempts = ({ choices }: Draft) =>
  Array.from({ length: choices.below(4) }, () => ({
    address: "127.0.0.1:1",
    error: new SystemError(111, "connect"),
  }));

const resolutionError = ({ choices }: Draft) =>
  new ResolutionError(choices.pick(["EAI_NONAME", "EAI_AGAIN"]), "getaddrinfo");

const ofName = (values: (draft: Draft) => unknown[]): Row => {
  return (draft) => ({ receiver: undefined, values: values(draft) });
};

const protocol = ({ choices }: Draft) => choices.pick([[], ["tcp"], ["udp"], ["none"]]);

export const NAME_ROWS: readonly [string, Row][] = [
  ["resolve", (draft) => resolving(draft, false)],
  ["resolveSync", (draft) => resolving(draft, true)],
  ["reverse", (draft) => reversing(draft, false)],
  ["reverseSync", (draft) => reversing(draft, true)],
  ...[false, true].flatMap((isSync): [string, Row][] => {
    const suffix = isSync ? "Sync" : "";
    const ofHost = (hosts: readonly string[]) =>
      ofName((draft) => [draft.choices.pick(hosts), limits(draft, isSync)]);
    return [
      [`fullHostName${suffix}`, ofHost(["localhost", "127.0.0.1", "::1"])],
      [`hostByName${suffix}`, ofHost(["localhost", "127.0.0.1", "10.0.0.1"])],
      [`hostByAddress${suffix}`, ofHost(["127.0.0.1", "127.0.0.1", "::1"])],
    ];
  }),
  ["hostName", constant],
  ["setHostName", ofName(({ choices }) => [choices.pick(["fuzz", "a", "x".repeat(64)])])],
  [
    "serviceByName",
    ofName((draft) => [draft.choices.pick(["domain", "http", "none"]), ...protocol(draft)]),
  ],
  ["serviceByPort", ofName((draft) => [draft.choices.pick([53, 80, 1, 0]), ...protocol(draft)])],
  ["services", constant],
  ["protocolByName", ofName(({ choices }) => [choices.pick(["tcp", "UDP", "none"])])],
  ["protocolByNumber", ofName(({ choices }) => [choices.pick([0, 6, 17, 255])])],
  ["protocols", constant],

  ["interfaces", familyOptions],
  ["ipAddresses", familyOptions],
  ["interfaceNames", constant],
  ["interfaceIndex", ofName((draft) => ["lo", ...through(draft)])],
  ["interfaceName", ofName((draft) => [1, ...through(draft)])],
  ["new NetworkInterface", ofName((draft) => ["lo", ...through(draft)])],
  ...[
    "index",
    "flags",
    "up",
    "mtu",
    "transmitQueueLength",
    "hardwareType",
    "hardwareAddress",
    "map",
  ].map((get): [string, Row] => [`get NetworkInterface.prototype.${get}`, onInterface()]),
  // The kernel of this run only says that they are done: see kernel.ts.
  ["set NetworkInterface.prototype.flags", onInterface(({ choices }) => [choices.below(65536)])],
  ["set NetworkInterface.prototype.up", onInterface((draft) => [boolean(draft)])],
  ["set NetworkInterface.prototype.mtu", onInterface(({ choices }) => [choices.below(70_000)])],
  [
    "set NetworkInterface.prototype.transmitQueueLength",
    onInterface(({ choices }) => [choices.below(2000)]),
  ],
  [
    "set NetworkInterface.prototype.hardwareAddress",
    onInterface(({ choices }) => [choices.pick(["02:00:00:00:00:01", new Uint8Array(6)])]),
  ],

  ["new Prefix", ofName(({ choices }) => [choices.pick(PREFIXES)])],
  [
    "Prefix.of",
    ofName((draft) => [given(draft, draft.choices.pick(["127.0.0.1:1", "[fe80::1]:1"])), 8]),
  ],
  ...["family", "length", "first", "last", "netmask"].map((get): [string, Row] => [
    `get Prefix.prototype.${get}`,
    onPrefix(),
  ]),
  ["Prefix.prototype.contains", onPrefix(({ choices }) => [choices.pick([...INSIDE])])],
  ["Prefix.prototype.overlaps", onPrefix((draft) => [prefix(draft)])],
  ["Prefix.prototype.equals", onPrefix((draft) => [prefix(draft)])],
  ["Prefix.prototype.toString", onPrefix()],
  ["Prefix.prototype.toJSON", onPrefix()],
  ["Prefix.prototype[nodejs.util.inspect.custom]", onPrefix()],

  [
    "new AddressList",
    ofName(({ choices }) => [{ otherwise: choices.pick(["allow", "deny", undefined]) }]),
  ],
  ["AddressList.from", ofName((draft) => [list(draft).toJSON() satisfies AddressListParts])],
  ["get AddressList.prototype.size", onList()],
  ["AddressList.prototype.allow", onList(range)],
  ["AddressList.prototype.deny", onList(range)],
  ["AddressList.prototype.check", onList(({ choices }) => [choices.pick(INSIDE)])],
  ["AddressList.prototype.toJSON", onList()],

  ["new ConnectError", ofName((draft) => [attempts(draft), "localhost", 80])],
  [
    "new ResolutionError",
    ofName((draft) => {
      const details = some(draft, {
        host: () => "localhost",
        service: () => "http",
        errno: () => 111,
        text: () => "nothing known",
      });
      return ["EAI_NONAME", "getaddrinfo", details];
    }),
  ],
  ...["isNotFound", "isTemporary"].map((get): [string, Row] => [
    `get ResolutionError.prototype.${get}`,
    (draft) => ({ receiver: resolutionError(draft), values: [] }),
  ]),

  ["openSockets", constant],
  ["socketCounters", constant],
];

/** Arguments that a call of a name refuses for reasons of its own. */
export function planRefusedName({ entry, choices }: Draft): Plan | undefined {
  if (/^get NetworkInterface\.prototype/.test(entry.key))
    return { receiver: new NetworkInterface("nosuch0"), values: [] };
  if (entry.key === "new ConnectError" && choices.chance(70))
    return { receiver: undefined, values: [choices.pick([10, {}, undefined, [null]]), "", 1] };
  if (/^(fullHostName|hostByName|hostByAddress)(Sync)?$/.test(entry.key) && choices.chance(60))
    return { receiver: undefined, values: [choices.pick(["a\0b", "", "x".repeat(2000)]), {}] };
  return undefined;
}
