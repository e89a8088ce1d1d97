/**
 * What is so of multicast over either version of IP, on the loopback interface: which groups a socket
 * hears, from whom, and what is refused.
 *
 * @module
 */
import { describe, expect, test } from "bun:test";
import { existsSync, readFileSync } from "node:fs";
import {
  ClosedError,
  Inet4Address,
  Inet6Address,
  type InetAddress,
  type InterfaceLike,
  IpOption,
  Ipv6Option,
  memberships,
  parseAddress,
  type SourceFilter,
  UdpSocket,
  type UdpSocketOptions,
} from "bun-sockets";
import { caught, systemErrorOf } from "./errors.ts";
import type { Register } from "./require.ts";

/** The index of the loopback interface. */
export const LO = 1;
const NO_INDEX = 2 ** 31 - 1;
const SHARED = { reuseAddress: true };

/** A version of IP, and addresses of it. */
export interface Family {
  readonly family: "ipv4" | "ipv6";
  readonly wildcard: string;
  readonly host: string;
  readonly unheard: string;
  /** Groups that nobody else of this machine has joined. */
  readonly groups: readonly [string, string, string];
}

// Other tests may run at the same time, in the same namespace.
const RANDOM = Math.floor(Math.random() * 2 ** 14);
const NET4 = `${192 + (RANDOM >> 8)}.${RANDOM & 0xff}`;
const NET6 = (RANDOM + 1).toString(16);

/** Both versions of IP. */
export const families: readonly [Family, Family] = [
  {
    family: "ipv4",
    wildcard: "0.0.0.0",
    host: "127.0.0.1",
    unheard: "192.0.2.7",
    groups: [`239.${NET4}.7`, `239.${NET4}.8`, `239.${NET4}.9`],
  },
  {
    family: "ipv6",
    wildcard: "[::]",
    host: "::1",
    unheard: "2001:db8::7",
    groups: [`ff12::${NET6}:7`, `ff12::${NET6}:8`, `ff12::${NET6}:9`],
  },
];

const optionOf = ({ family }: Family) =>
  family === "ipv4" ? IpOption.multicastAll : Ipv6Option.multicastAll;
const at = (host: string, port: number) =>
  host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`;
/** A number of the kernel's settings; it does not show all of them in every namespace. */
export function sysctl(name: string, usual: number): number {
  const file = `/proc/sys/net/${name}`;
  return existsSync(file) ? Number(readFileSync(file, "utf8")) : usual;
}
/** The groups of a list. */
export const names = (list: readonly { readonly group: InetAddress }[]) =>
  list.map(({ group }) => group.host);

/** What has come. What was sent on lo has come when the send returns. */
export function drain(socket: UdpSocket): string[] {
  const texts: string[] = [];
  const target = new Uint8Array(100);
  for (;;) {
    const length = socket.tryReceive(target);
    if (length === undefined) return texts;
    texts.push(Buffer.from(target.subarray(0, length)).toString());
  }
}

/** A socket that sends its multicast by the loopback interface. */
export function openSender(host: string): UdpSocket {
  const sender = UdpSocket.bind(at(host, 0));
  sender.multicastInterface = LO;
  return sender;
}

/** What of a filter is to be compared. */
function plain({ mode, sources }: SourceFilter): (string | string[])[] {
  return [mode, sources.map((source) => (source as InetAddress).host).sort()];
}

/** Which groups a socket hears, and from whom. It takes a route for multicast on the interface. */
export function testHearing(each: Family, register: Register): void {
  const { family, wildcard, host, unheard, groups } = each;
  const over = ` (${family})`;
  const [group, other, third] = groups;
  const open = (options?: UdpSocketOptions) => UdpSocket.bind(`${wildcard}:0`, options);
  const address = family === "ipv4" ? new Inet4Address(host, 9) : new Inet6Address(host, 9);
  const zoned = family === "ipv4" ? group : `${group}%lo`;
  const ways: readonly (readonly [string, string, InterfaceLike | undefined])[] = [
    ["its index", group, LO],
    ["its name", group, "lo"],
    ["an address as text", group, host],
    ["an address as text with a port", group, at(host, 9)],
    ["an address", group, address],
    ["the zone of the group, where it has one", zoned, family === "ipv4" ? LO : undefined],
    ["its name beside a group with a port", at(group, 99), "lo"],
  ];

  for (const [way, text, where] of ways)
    register(`join() takes the interface by ${way}${over}`, () => {
      using member = open();
      using sender = openSender(host);
      const to = at(group, member.localAddress.port);
      sender.sendToSync("before", to);
      member.join(text, { interface: where });
      sender.sendToSync("during", to);
      expect(member.memberships).toMatchObject([{ interfaceIndex: LO, source: undefined }]);
      expect(`${member.memberships[0]?.group}`).toBe(at(group, 0));
      member.leave(text, { interface: where });
      sender.sendToSync("after", to);
      expect(drain(member)).toEqual(["during"]);
      expect(member.memberships).toEqual([]);
    });

  register(
    `join() takes a group as an address, and what it is told of cannot be changed${over}`,
    () => {
      using member = open();
      member.join(parseAddress(at(group, 7)), { interface: LO });
      expect(names(member.memberships)).toEqual([group]);
      (member.memberships as unknown[]).push("planted");
      expect(names(member.memberships)).toEqual([group]);
    },
  );

  register(`a socket that joined hears its own groups only, unless it hears all${over}`, () => {
    using first = open(SHARED);
    const { port } = first.localAddress;
    const sockets = Array.from({ length: 4 }, () => UdpSocket.bind(`${wildcard}:${port}`, SHARED));
    const [second, stranger, curious, late] = sockets as [
      UdpSocket,
      UdpSocket,
      UdpSocket,
      UdpSocket,
    ];
    using sender = openSender(host);
    try {
      first.join(group, { interface: LO });
      second.join(other, { interface: LO });
      curious.join(other, { interface: LO, hearsAll: true });
      late.join(other, { interface: LO });
      late.setOption(optionOf(each), true);
      late.join(third, { interface: LO });
      sender.sendToSync("G1", at(group, port));
      sender.sendToSync("G2", at(other, port));
      expect([first, second, stranger, curious, late].map(drain)).toEqual([
        ["G1"],
        ["G2"],
        // That is what Linux does, and why join() does more.
        ["G1", "G2"],
        ["G1", "G2"],
        ["G1", "G2"],
      ]);
      curious.join(group, { interface: LO, hearsAll: false });
      expect(curious.getOption(optionOf(each))).toBe(false);
    } finally {
      for (const socket of sockets) socket.close();
    }
  });

  register(`a join that fails leaves the socket hearing what it heard${over}`, () => {
    using member = open();
    for (const hearsAll of [undefined, false, true]) {
      const error = systemErrorOf(() => member.join(group, { interface: NO_INDEX, hearsAll }));
      expect([error.code, error.syscall, error.address]).toEqual(["ENODEV", "setsockopt", group]);
      expect(error.hint).toStartWith("There is no such interface");
      expect(member.getOption(optionOf(each))).toBe(true);
    }
    expect(member.memberships).toEqual([]);
    member.join(group, { interface: LO });
    expect(member.getOption(optionOf(each))).toBe(false);
    expect(() => member.join(other, { interface: NO_INDEX, hearsAll: true })).toThrow("ENODEV");
    expect(member.getOption(optionOf(each))).toBe(false);
  });

  register(`join() twice, and leave() twice, are refused by name${over}`, () => {
    using member = open();
    member.join(group, { interface: LO });
    for (const where of [LO, "lo"]) {
      const error = systemErrorOf(() => member.join(group, { interface: where }));
      expect([error.code, error.hint]).toEqual([
        "EADDRINUSE",
        "The socket has joined it already, on this interface",
      ]);
    }
    expect(names(member.memberships)).toEqual([group]);
    member.leave(group, { interface: LO });
    const error = systemErrorOf(() => member.leave(group, { interface: LO }));
    expect([error.code, error.address]).toEqual(["EADDRNOTAVAIL", group]);
    expect(error.hint).toContain("has not joined it");
  });

  register(`join() with a source hears that one, and the next one beside it${over}`, () => {
    using member = open();
    using sender = openSender(host);
    const to = at(group, member.localAddress.port);
    member.join(group, { interface: LO, source: unheard });
    sender.sendToSync("unheard", to);
    expect(member.sourceFilter(group)).toMatchObject({
      mode: "include",
      sources: [{ host: unheard }],
    });
    member.join(group, { interface: LO, source: parseAddress(at(host, 5)) });
    sender.sendToSync("heard", to);
    expect(member.memberships.map(({ source }) => source?.host).sort()).toEqual(
      [host, unheard].sort(),
    );
    member.leave(group, { interface: LO, source: host });
    sender.sendToSync("unheard again", to);
    expect(drain(member)).toEqual(["heard"]);
    expect(member.memberships).toMatchObject([{ source: { host: unheard, port: 0 } }]);
    member.leave(group, { interface: LO, source: unheard });
    expect(member.memberships).toEqual([]);
  });

  register(
    `a group is joined with sources or without: neither becomes the other in silence${over}`,
    () => {
      using member = open();
      using sender = openSender(host);
      member.join(group, { interface: LO });
      for (const run of [
        () => member.join(group, { interface: LO, source: unheard }),
        () => member.leave(group, { interface: LO, source: unheard }),
        () => member.leave(group, { source: host }),
      ]) {
        const error = systemErrorOf(run);
        expect([error.code, error.address]).toEqual(["EINVAL", group]);
        expect(error.hint).toContain("from all sources");
      }
      sender.sendToSync("still heard", at(group, member.localAddress.port));
      expect(drain(member)).toEqual(["still heard"]);

      member.join(other, { interface: LO, source: host });
      expect(systemErrorOf(() => member.join(other, { interface: LO })).code).toBe("EADDRINUSE");
      expect(systemErrorOf(() => member.join(other, { interface: LO, source: host })).code).toBe(
        "EADDRINUSE",
      );
      const blocked = systemErrorOf(() => member.blockSource(other, host, { interface: LO }));
      expect([blocked.code, blocked.hint]).toEqual([
        "EINVAL",
        "The socket hears some sources of that group only: leave those that it is not to hear",
      ]);
      expect(systemErrorOf(() => member.leave(other, { source: unheard })).code).toBe(
        "EADDRNOTAVAIL",
      );
      expect(plain(member.sourceFilter(other))).toEqual(["include", [host]]);
      // The whole group goes with all its sources.
      member.leave(other);
      expect(names(member.memberships)).toEqual([group]);
    },
  );

  register(`blockSource() and unblockSource() change what is heard of a group${over}`, () => {
    using member = open();
    using sender = openSender(host);
    const to = at(group, member.localAddress.port);
    member.join(group, { interface: LO });
    sender.sendToSync("1", to);
    member.blockSource(group, host, { interface: "lo" });
    expect(plain(member.sourceFilter(group))).toEqual(["exclude", [host]]);
    expect(systemErrorOf(() => member.blockSource(group, host)).hint).toBe(
      "That source is blocked already",
    );
    sender.sendToSync("2", to);
    member.unblockSource(group, host);
    sender.sendToSync("3", to);
    expect(drain(member)).toEqual(["1", "3"]);
    const error = systemErrorOf(() => member.unblockSource(group, unheard));
    expect([error.code, error.hint]).toEqual(["EADDRNOTAVAIL", "That source is not blocked"]);
    expect(plain(member.sourceFilter(group))).toEqual(["exclude", []]);
    for (const run of [
      () => member.blockSource(other, host),
      () => member.unblockSource(other, host),
      () => member.sourceFilter(other),
      () => member.setSourceFilter(other, { mode: "exclude", sources: [] }),
    ]) {
      const unjoined = systemErrorOf(run);
      expect([unjoined.code, unjoined.hint]).toEqual([
        "EADDRNOTAVAIL",
        "The socket has not joined that group on this interface",
      ]);
    }
  });

  register(`setSourceFilter() sets all of it at once, each source once${over}`, () => {
    using member = open();
    using sender = openSender(host);
    const to = at(group, member.localAddress.port);
    member.join(group, { interface: LO });
    const steps: readonly (readonly [SourceFilter, boolean])[] = [
      [{ mode: "exclude", sources: [] }, true],
      [{ mode: "exclude", sources: [host] }, false],
      [{ mode: "exclude", sources: [unheard] }, true],
      [{ mode: "include", sources: [unheard] }, false],
      [{ mode: "include", sources: [unheard, at(host, 4), host] }, true],
    ];
    for (const [i, [filter, isHeard]] of steps.entries()) {
      member.setSourceFilter(group, filter, { interface: LO });
      sender.sendToSync(`${i}`, to);
      expect(drain(member)).toEqual(isHeard ? [`${i}`] : []);
      const hosts = filter.sources.length === 3 ? [host, unheard].sort() : filter.sources;
      expect(plain(member.sourceFilter(group))).toEqual([filter.mode, [...hosts] as string[]]);
      expect(member.memberships.length).toBe(filter.mode === "include" ? hosts.length : 1);
    }
    // To hear none is to leave.
    member.setSourceFilter(group, { mode: "include", sources: [] });
    expect(member.memberships).toEqual([]);
    expect(systemErrorOf(() => member.sourceFilter(group)).code).toBe("EADDRNOTAVAIL");
  });

  register(`sourceFilter() reads as many sources as there may be${over}`, () => {
    using member = open();
    member.join(group, { interface: LO });
    const max =
      family === "ipv4" ? sysctl("ipv4/igmp_max_msf", 10) : sysctl("ipv6/mld_max_msf", 64);
    const count = Math.min(max, 100);
    const sources = Array.from({ length: count }, (_, i) =>
      family === "ipv4" ? `192.0.2.${i + 1}` : `2001:db8::${(i + 1).toString(16)}`,
    );
    member.setSourceFilter(group, { mode: "exclude", sources });
    expect(plain(member.sourceFilter(group))).toEqual(["exclude", [...sources].sort()]);
    if (count < max) return;
    const error = systemErrorOf(() =>
      member.setSourceFilter(group, { mode: "exclude", sources: [...sources, host] }),
    );
    expect([error.code, error.hint]).toEqual(["ENOBUFS", expect.stringContaining("max_msf")]);
    expect(systemErrorOf(() => member.blockSource(group, host)).code).toBe("ENOBUFS");
    expect(plain(member.sourceFilter(group))).toEqual(["exclude", [...sources].sort()]);
  });

  register(
    `multicastInterface takes an index, a name or an address, and tells the index${over}`,
    () => {
      using socket = UdpSocket.open(family);
      expect(socket.multicastInterface).toBe(0);
      for (const where of [LO, "lo", host, at(host, 9), address]) {
        socket.multicastInterface = where as number;
        expect(socket.multicastInterface).toBe(LO);
        socket.multicastInterface = undefined as unknown as number;
        expect(socket.multicastInterface).toBe(0);
      }
      socket.multicastInterface = LO;
      using copy = socket.duplicate();
      expect(copy.multicastInterface).toBe(LO);
      for (const [where, code] of [
        [NO_INDEX, family === "ipv4" ? "EADDRNOTAVAIL" : "ENODEV"],
        ["bs-no-such-if", "ENODEV"],
        [unheard, "EADDRNOTAVAIL"],
      ] as const) {
        const error = systemErrorOf(() => {
          socket.multicastInterface = where as number;
        });
        expect(error.code).toBe(code);
        expect(socket.multicastInterface).toBe(LO);
      }
    },
  );

  register(`multicastHops and multicastLoop are set for both versions of IP${over}`, () => {
    using socket = UdpSocket.open(family);
    expect([socket.multicastHops, socket.multicastLoop]).toEqual([1, true]);
    for (const hops of [0, 255, 7]) {
      socket.multicastHops = hops;
      expect([socket.multicastHops, socket.getOption(IpOption.multicastTtl)]).toEqual([hops, hops]);
    }
    for (const isOn of [false, true]) {
      socket.multicastLoop = isOn;
      expect([socket.multicastLoop, socket.getOption(IpOption.multicastLoop)]).toEqual([
        isOn,
        isOn,
      ]);
    }
  });

  register(`duplicates know the same groups, which end with the last of them${over}`, () => {
    const member = open();
    const { port } = member.localAddress;
    using sender = openSender(host);
    const copy = member.duplicate();
    const users = () =>
      memberships({ interface: LO }).find((one) => one.group.host === group)?.users;
    try {
      member.join(group, { interface: LO });
      copy.join(other, { interface: LO });
      const both = [group, other];
      expect([names(member.memberships), names(copy.memberships)]).toEqual([both, both]);
      expect(users()).toBe(1);
      member.close();
      expect(users()).toBe(1);
      sender.sendToSync("still", at(group, port));
      expect(drain(copy)).toEqual(["still"]);
      copy.leave(group);
      expect(names(copy.memberships)).toEqual([other]);
    } finally {
      member.close();
      copy.close();
    }
    expect(users()).toBeUndefined();
    expect(memberships().some((one) => one.group.host === other)).toBe(false);
  });

  register(`an adopted socket does not know its groups, and can leave them${over}`, () => {
    using member = open();
    member.join(group, { interface: LO });
    member.join(other, { interface: LO, source: host });
    using adopted = UdpSocket.adopt(member.descriptor);
    expect(adopted.memberships).toEqual([]);
    // Where it was joined is found out.
    expect(plain(adopted.sourceFilter(other))).toEqual(["include", [host]]);
    adopted.leave(other, { source: host });
    adopted.leave(group);
    // Told by the kernel, not from memory.
    expect(member.memberships).toEqual([]);
    expect(systemErrorOf(() => adopted.leave(group)).code).toMatch(/^(EADDRNOTAVAIL|ENODEV)$/);
  });

  register(`memberships() counts who has joined on which interface${over}`, () => {
    const found = () =>
      memberships({ interface: "lo", family }).filter((one) => one.group.host === group);
    expect(found()).toEqual([]);
    using first = open();
    using second = open();
    first.join(group, { interface: LO });
    expect(found()).toMatchObject([{ interface: "lo", interfaceIndex: LO, users: 1 }]);
    second.join(group, { interface: LO });
    expect(found()).toMatchObject([{ users: 2 }]);
    expect(found()[0]?.group.port).toBe(0);
    expect(memberships({ interface: host }).filter((one) => one.group.host === group)).toEqual(
      found(),
    );
    const elsewhere = family === "ipv4" ? "ipv6" : "ipv4";
    expect(memberships({ family: elsewhere }).every((one) => one.group.family === elsewhere)).toBe(
      true,
    );
  });
}

/** What is refused, whatever routes there are. */
export function testRefusals(each: Family): void {
  const { family, wildcard, host, unheard, groups } = each;
  const [group, other] = groups;
  const open = () => UdpSocket.bind(`${wildcard}:0`);

  describe(`over ${family}`, () => {
    const refusals: readonly (readonly [string, (socket: UdpSocket) => void])[] = [
      ["join", (socket) => socket.join(group, { interface: LO })],
      ["leave", (socket) => socket.leave(group, { interface: LO })],
      ["leave without interface", (socket) => socket.leave(group)],
      ["blockSource", (socket) => socket.blockSource(group, host, { interface: LO })],
      ["unblockSource", (socket) => socket.unblockSource(group, host, { interface: "lo" })],
      ["sourceFilter", (socket) => void socket.sourceFilter(group, { interface: LO })],
      [
        "setSourceFilter",
        (socket) =>
          socket.setSourceFilter(group, { mode: "exclude", sources: [] }, { interface: LO }),
      ],
      ["multicastInterface", (socket) => void socket.multicastInterface],
      [
        "multicastInterface set",
        (socket) => {
          socket.multicastInterface = LO;
        },
      ],
      ["multicastHops", (socket) => void socket.multicastHops],
      ["multicastLoop", (socket) => void socket.multicastLoop],
      [
        "multicastHops set",
        (socket) => {
          socket.multicastHops = 1;
        },
      ],
      [
        "multicastLoop set",
        (socket) => {
          socket.multicastLoop = true;
        },
      ],
    ];

    test.each(refusals)("%s of a closed socket is a ClosedError", (_, run) => {
      const socket = open();
      socket.close();
      expect(caught(() => run(socket))).toBeInstanceOf(ClosedError);
      expect(socket.memberships).toEqual([]);
    });

    const wrong: readonly (readonly [string, (socket: UdpSocket) => unknown, string])[] = [
      ["a host for a group", (s) => s.join(host), `Cannot use ${host} as a group`],
      ["no address", (s) => s.join("eth0" as never), "as an IPv4 address"],
      ["a path", (s) => s.join("unix:/x" as never), "Cannot"],
      ["null", (s) => s.join(null as never), "Cannot use null as an address"],
      ["null options", (s) => s.join(group, null as never), "Cannot use null as options"],
      [
        "a source that is a group",
        (s) => s.join(group, { interface: LO, source: other }),
        `Cannot use ${other} as a source: expected the address of a host`,
      ],
      [
        "a source that is none",
        (s) => s.join(group, { interface: LO, source: family === "ipv4" ? wildcard : "::" }),
        "as a source: expected the address of a host",
      ],
      [
        "a source of the other family",
        (s) => s.blockSource(group, family === "ipv4" ? "::1" : "127.0.0.1"),
        `as a source of ${group}: expected the same family`,
      ],
      ["interface null", (s) => s.join(group, { interface: null as never }), "as an interface"],
      ["interface object", (s) => s.join(group, { interface: {} as never }), "as an address"],
      ["interface empty", (s) => s.join(group, { interface: "" }), "as an interface name"],
      [
        "interface too long",
        (s) => s.join(group, { interface: "a".repeat(16) }),
        "as an interface name",
      ],
      ["hearsAll", (s) => s.join(group, { interface: LO, hearsAll: 1 as never }), "as hearsAll"],
      [
        "a mode that is none",
        (s) => s.setSourceFilter(group, { mode: "all", sources: [] } as never),
        'Cannot use "all" as a mode',
      ],
      [
        "sources that are none",
        (s) => s.setSourceFilter(group, { mode: "include" } as never),
        "as sources: expected an array",
      ],
      ["a filter that is none", (s) => s.setSourceFilter(group, null as never), "Cannot use null"],
    ];

    test.each(wrong)("%s is a TypeError, and nothing is touched", (_, run, text) => {
      using socket = open();
      const error = caught(() => run(socket));
      expect(error).toBeInstanceOf(TypeError);
      expect(error.message).toContain(text);
      expect(socket.getOption(optionOf(each))).toBe(true);
      expect(socket.memberships).toEqual([]);
    });

    test.each([-1, 256, 1.5, Number.NaN, 2 ** 31])(
      "%p as multicastHops is a RangeError",
      (hops) => {
        using socket = open();
        const error = caught(() => {
          socket.multicastHops = hops;
        });
        expect(error).toBeInstanceOf(RangeError);
        expect(socket.multicastHops).toBe(1);
      },
    );

    test("setters refuse values of other types", () => {
      using socket = open();
      for (const set of [
        () => Object.assign(socket, { multicastHops: "1" }),
        () => Object.assign(socket, { multicastLoop: 1 }),
        () => Object.assign(socket, { multicastInterface: true }),
      ]) {
        expect(caught(set)).toBeInstanceOf(TypeError);
      }
      expect(() => Object.assign(socket, { multicastInterface: -1 })).toThrow(RangeError);
      expect(() => socket.join(group, { interface: 2 ** 31 })).toThrow(RangeError);
      expect([socket.multicastHops, socket.multicastLoop, socket.multicastInterface]).toEqual([
        1,
        true,
        0,
      ]);
    });

    test("more than 1024 sources are a RangeError", () => {
      using socket = open();
      socket.join(group, { interface: LO });
      const sources = new Array(1025).fill(host);
      expect(() => socket.setSourceFilter(group, { mode: "include", sources })).toThrow(RangeError);
      expect(plain(socket.sourceFilter(group))).toEqual(["exclude", []]);
    });

    test("an interface that is not there is refused by name, index and address", () => {
      using socket = open();
      for (const [where, code] of [
        [NO_INDEX, "ENODEV"],
        ["bs-no-such-if", "ENODEV"],
        [unheard, "EADDRNOTAVAIL"],
      ] as const) {
        expect(systemErrorOf(() => socket.join(group, { interface: where })).code).toBe(code);
        expect(
          systemErrorOf(() => memberships({ interface: where === NO_INDEX ? "bs-none" : where }))
            .code,
        ).toBe(code);
      }
      expect(memberships({ interface: NO_INDEX })).toEqual([]);
    });
  });
}
