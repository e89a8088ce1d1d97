/** Fanout groups: which member gets what, where that is certain, and that nothing is lost or doubled. */
import { afterAll, afterEach, beforeAll, describe, expect } from "bun:test";
import { FilterProgram } from "bun-sockets";
import { type FanoutOptions, PacketSocket, type PacketSocketOptions } from "bun-sockets/packet";
import {
  BPF_A,
  BPF_ABS,
  BPF_ADD,
  BPF_ALU,
  BPF_B,
  BPF_K,
  BPF_LD,
  BPF_RET,
  BPF_W,
  ETH_P_IP,
  SKF_AD_CPU,
  SKF_AD_OFF,
} from "bun-sockets/sys";
import { layCable } from "../support/cable.ts";
import { systemErrorOf } from "../support/errors.ts";
import { ip } from "../support/namespaces.ts";
import { requires, testIf } from "../support/require.ts";

const NEAR = "bs-fan0";
const FAR = "bs-fan1";
const SIZE = 4;
const COUNT = 400;
const LIMIT_MS = 5000;
const MODES = ["hash", "balance", "cpu", "rollover", "random", "queue", "program"] as const;
/** All of it fits: nothing is dropped. */
const ROOM = { receiveBufferBytes: 4 << 20 };

const missing =
  process.env["BUN_SOCKETS_NAMESPACE"] === "1"
    ? requires("ip")
    : "needs a network namespace of its own";
const namespaced = testIf(missing);

let sender: PacketSocket;
let open: PacketSocket[] = [];

beforeAll(() => {
  if (missing !== undefined) return;
  layCable(NEAR, FAR);
  sender = PacketSocket.open(NEAR, { protocol: 0 });
});

afterAll(() => {
  if (missing !== undefined) return;
  sender.close();
  ip("link", "del", NEAR);
});

afterEach(() => {
  for (const socket of open) socket.close();
  open = [];
});

/** A group that nobody had before. */
let nextGroup = 1;

function members(
  fanout: Omit<FanoutOptions, "group">,
  { size = SIZE, ...options }: PacketSocketOptions & { size?: number } = {},
): PacketSocket[] {
  const group = nextGroup++;
  const sockets = Array.from({ length: size }, () =>
    PacketSocket.open(FAR, {
      protocol: ETH_P_IP,
      ...ROOM,
      fanout: { group, ...fanout },
      ...options,
    }),
  );
  open.push(...sockets);
  return sockets;
}

/** An IPv4 UDP packet of a flow, which is told by its source port, with its number at the end. */
function packet(flow: number, number: number): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(60);
  const view = new DataView(bytes.buffer);
  view.setUint16(12, ETH_P_IP);
  bytes[14] = 0x45;
  view.setUint16(16, 46);
  bytes[22] = 64;
  bytes[23] = 17;
  view.setUint32(26, 0xc0000201);
  view.setUint32(30, 0xc0000202);
  view.setUint16(34, 1024 + flow);
  view.setUint16(36, 53);
  view.setUint16(38, 26);
  view.setUint32(56, number);
  return bytes;
}

/** Sends packets of so many flows, in turn. */
function flood(count: number, flows: number): void {
  for (let i = 0; i < count; i++) sender.sendSync(packet(i % flows, i));
}

/** The same, and waits until the members have been given all of them. */
function floodMembers(sockets: readonly PacketSocket[], count = COUNT, flows = 1): void {
  giveMembers(sockets, count, () => flood(count, flows));
}

/** Sends something, and waits until the members have been given so many packets. */
function giveMembers(sockets: readonly PacketSocket[], count: number, send: () => void): void {
  const sum = () => sockets.reduce((all, socket) => all + socket.statistics().packets, 0);
  const before = sum();
  send();
  const end = performance.now() + LIMIT_MS;
  while (sum() < before + count && performance.now() < end) Bun.sleepSync(1);
}

/** The numbers of the packets that a socket has, in their order. */
function numbers(socket: PacketSocket): number[] {
  const target = new Uint8Array(100);
  const found: number[] = [];
  while (socket.tryReceive(target) !== undefined)
    found.push(new DataView(target.buffer).getUint32(56));
  return found;
}

const everything = Array.from({ length: COUNT }, (_, i) => i);

function sorted(lists: number[][]): number[] {
  return lists.flat().sort((left, right) => left - right);
}

describe("PacketSocket fanout", () => {
  for (const mode of MODES) {
    const alone = [{}, { defragment: true }];
    for (const flags of mode === "rollover" ? alone : [...alone, { rollover: true }]) {
      const name = [mode, ...Object.keys(flags)].join(" and ");
      namespaced(`by ${name} gives each packet to one member`, () => {
        const sockets = members({ mode, ...flags });
        floodMembers(sockets, COUNT, 50);
        const got = sockets.map(numbers);
        expect(sorted(got)).toEqual(everything);
        // In the order in which they came.
        for (const list of got) expect(list).toEqual(sorted([list]));
        const statistics = sockets.map((socket) => socket.statistics());
        expect(statistics.map(({ packets }) => packets)).toEqual(got.map(({ length }) => length));
        for (const { drops } of statistics) expect(drops).toBe(0);
      });
    }
  }

  namespaced("by hash gives all of one flow to one member, and many flows to all", () => {
    const sockets = members({ mode: "hash" });
    floodMembers(sockets, COUNT, 1);
    const one = sockets.map((socket) => numbers(socket).length);
    expect(one.toSorted()).toEqual([0, 0, 0, COUNT]);
    const FLOWS = 100;
    floodMembers(sockets, COUNT, FLOWS);
    const flows = sockets.map((socket) => new Set(numbers(socket).map((number) => number % FLOWS)));
    // No flow is at two members.
    expect(flows.reduce((sum, { size }) => sum + size, 0)).toBe(FLOWS);
    // By chance alone one of four gets none of 100 once in 10^12 runs.
    for (const { size } of flows) expect(size).toBeGreaterThan(0);
  });

  namespaced("by balance gives each member as many, in turn", () => {
    const sockets = members({ mode: "balance" });
    floodMembers(sockets);
    const got = sockets.map(numbers);
    expect(got.map(({ length }) => length)).toEqual(Array(SIZE).fill(COUNT / SIZE));
    for (const list of got)
      for (const [i, number] of list.entries()) expect(number).toBe((list[0] as number) + i * SIZE);
  });

  namespaced("by cpu gives all that comes in on one CPU to one member", () => {
    const sockets = members({ mode: "cpu" });
    // The filter tells the CPU: it cuts each packet to as many bytes, and one.
    const tellCpu = new FilterProgram([
      { code: BPF_LD | BPF_W | BPF_ABS, k: SKF_AD_OFF + SKF_AD_CPU },
      { code: BPF_ALU | BPF_ADD | BPF_K, k: 1 },
      { code: BPF_RET | BPF_A },
    ]);
    for (const socket of sockets) socket.attachFilter(tellCpu);
    floodMembers(sockets);
    const target = new Uint8Array(1000);
    let received = 0;
    for (const [place, socket] of sockets.entries()) {
      for (;;) {
        const length = socket.tryReceive(target);
        if (length === undefined) break;
        expect((length - 1) % SIZE).toBe(place);
        received++;
      }
    }
    expect(received).toBe(COUNT);
  });

  namespaced("by rollover fills one member, then the next", () => {
    const sockets = members({ mode: "rollover" }, { receiveBufferBytes: 30_000 });
    floodMembers(sockets, 150);
    const got = sockets.map(numbers);
    // The first ones are for the first member, as many as it has room for, and so on.
    expect(got.flat()).toEqual(everything.slice(0, 150));
    const lengths = got.map(({ length }) => length);
    expect(Math.min(...lengths.slice(0, 2))).toBeGreaterThan(0);
    expect(lengths[0]).toBe(lengths[1] as number);
    expect(lengths[3]).toBe(0);
  });

  namespaced("of full members drops what is too much, and counts it", () => {
    const sockets = members({ mode: "rollover" }, { receiveBufferBytes: 10_000, size: 2 });
    floodMembers(sockets);
    const statistics = sockets.map((socket) => socket.statistics());
    const dropped = statistics.reduce((sum, { drops }) => sum + drops, 0);
    expect(sockets.flatMap(numbers).length + dropped).toBe(COUNT);
    expect(dropped).toBeGreaterThan(0);
  });

  namespaced("with rollover passes on what a full member has no room for, and counts that", () => {
    const sockets = members({ mode: "hash", rollover: true }, { receiveBufferBytes: 30_000 });
    const SENT = 120;
    floodMembers(sockets, SENT, 1);
    const passed = sockets.map((socket) => socket.rolloverStatistics());
    const got = sockets.map(numbers);
    expect(sorted(got)).toEqual(everything.slice(0, SENT));
    const owner = got.findIndex((list) => list.includes(0));
    const elsewhere = SENT - (got[owner] as number[]).length;
    expect(elsewhere).toBeGreaterThan(0);
    // One flow that is all there is; nobody else had to pass anything on.
    const { passed: count, passedOfBusyFlow, failed } = passed[owner] as (typeof passed)[0];
    expect([count, failed]).toEqual([elsewhere, 0]);
    // Whether a flow is busy the kernel finds out by chance.
    expect(passedOfBusyFlow).toBeLessThanOrEqual(count);
    for (const [i, each] of passed.entries()) if (i !== owner) expect(each.passed).toBe(0);
    using none = PacketSocket.open(FAR, { protocol: 0 });
    expect(systemErrorOf(() => none.rolloverStatistics()).code).toBe("EINVAL");
  });

  namespaced("by random gives every member some", () => {
    const sockets = members({ mode: "random" });
    floodMembers(sockets);
    // By chance alone one of four gets none of 400 once in 10^49 runs.
    for (const socket of sockets) expect(numbers(socket).length).toBeGreaterThan(0);
  });

  namespaced("by queue gives all of a device with one queue to one member", () => {
    const sockets = members({ mode: "queue" });
    floodMembers(sockets, COUNT, 50);
    const counts = sockets.map((socket) => numbers(socket).length);
    expect(counts.toSorted()).toEqual([0, 0, 0, COUNT]);
  });

  // The packet begins at its IP header here: the program sees what a cooked socket receives.
  const byLastByte = new FilterProgram([
    { code: BPF_LD | BPF_B | BPF_ABS, k: 45 },
    { code: BPF_RET | BPF_A },
  ]);

  namespaced("by program gives each packet to the member that the program says", () => {
    const sockets = members({ mode: "program", program: byLastByte });
    floodMembers(sockets, 200, 50);
    for (const [place, socket] of sockets.entries()) {
      const got = numbers(socket);
      expect(got).toEqual(everything.slice(0, 200).filter((number) => number % SIZE === place));
    }
  });

  namespaced("by program without one gives all to the first member, until there is one", () => {
    const sockets = members({ mode: "program" });
    const [first, ...others] = sockets as [PacketSocket, ...PacketSocket[]];
    floodMembers(sockets, 20);
    expect(numbers(first)).toEqual(everything.slice(0, 20));
    for (const socket of others) expect(numbers(socket)).toEqual([]);
    // The program of one that joins is that of the group.
    const group = first.fanoutGroup as number;
    const fanout = { mode: "program", group, program: byLastByte } as const;
    const fifth = PacketSocket.open(FAR, { protocol: ETH_P_IP, ...ROOM, fanout });
    open.push(fifth);
    floodMembers([...sockets, fifth], 20);
    expect(numbers(first)).toEqual([0, 5, 10, 15]);
  });

  namespaced("of a member that leaves goes on with the others", () => {
    const sockets = members({ mode: "balance" });
    sockets[1]?.close();
    const others = [0, 2, 3].map((i) => sockets[i] as PacketSocket);
    floodMembers(others);
    const got = others.map(numbers);
    expect(sorted(got)).toEqual(everything);
    for (const list of got) expect(list.length).toBeGreaterThan(COUNT / 4);
  });

  namespaced("puts fragments together before it looks for the flow", () => {
    const sockets = members({ mode: "hash", defragment: true });
    const whole = packet(1, 7);
    const fragment = (at: number, bytes: Uint8Array, more: boolean) => {
      const made = new Uint8Array(34 + bytes.length);
      made.set(whole.subarray(0, 34));
      made.set(bytes, 34);
      const view = new DataView(made.buffer);
      view.setUint16(16, 20 + bytes.length);
      view.setUint16(18, 99);
      view.setUint16(20, (at >> 3) | (more ? 0x2000 : 0));
      view.setUint16(24, 0);
      let sum = 0;
      for (let i = 14; i < 34; i += 2) sum += view.getUint16(i);
      view.setUint16(24, ~((sum & 0xffff) + (sum >> 16)) & 0xffff);
      return made;
    };
    const payload = whole.subarray(34);
    sender.sendSync(fragment(16, payload.subarray(16), false));
    for (const socket of sockets) expect(numbers(socket)).toEqual([]);
    giveMembers(sockets, 1, () => sender.sendSync(fragment(0, payload.subarray(0, 16), true)));
    const got = sockets.flatMap((socket) => {
      const target = new Uint8Array(100);
      const length = socket.tryReceive(target);
      return length === undefined ? [] : [target.slice(34, length)];
    });
    expect(got).toEqual([payload]);
  });

  namespaced("without a number of its own gets one from the kernel", () => {
    const fanout = { mode: "hash", uniqueId: true } as const;
    const [first, second] = [0, 1].map(() =>
      PacketSocket.open(FAR, { protocol: ETH_P_IP, fanout }),
    ) as [PacketSocket, PacketSocket];
    open.push(first, second);
    expect(first.fanoutGroup).not.toBe(second.fanoutGroup);
    using plain = PacketSocket.open(FAR, { protocol: ETH_P_IP });
    expect(plain.fanoutGroup).toBeUndefined();
    const group = first.fanoutGroup as number;
    const also = { mode: "hash", group } as const;
    using third = PacketSocket.open(FAR, { protocol: ETH_P_IP, fanout: also });
    expect(third.fanoutGroup).toBe(group);
    using again = third.duplicate();
    expect(again.fanoutGroup).toBe(group);
  });

  namespaced("has a group 0, too", () => {
    using socket = PacketSocket.open(FAR, { fanout: { mode: "hash", group: 0 } });
    expect(socket.fanoutGroup).toBe(0);
    using other = PacketSocket.open(FAR);
    expect(other.fanoutGroup).toBeUndefined();
    expect(other.joinFanout({ mode: "hash", group: 0 })).toBe(0);
    expect(other.fanoutGroup).toBe(0);
    using again = other.duplicate();
    expect(again.fanoutGroup).toBe(0);
  });

  namespaced("is joined later, once", () => {
    using socket = PacketSocket.open(FAR, { protocol: ETH_P_IP, ...ROOM });
    floodMembers([socket], 3);
    expect(socket.joinFanout({ mode: "balance", group: 50_000 })).toBe(50_000);
    floodMembers([socket], 3);
    expect(numbers(socket)).toEqual([0, 1, 2, 0, 1, 2]);
    const error = systemErrorOf(() => socket.joinFanout({ mode: "balance", group: 50_001 }));
    expect(error).toMatchObject({ code: "EALREADY", option: "PACKET_FANOUT" });
    expect(error.hint).toContain("until it is closed");
    const unbound = PacketSocket.open(FAR, { protocol: 0 });
    open.push(unbound);
    expect(systemErrorOf(() => unbound.joinFanout({ mode: "hash", group: 3 })).code).toBe("EINVAL");
  });

  for (const [what, options] of [
    ["mode", { fanout: { mode: "cpu", group: 60_000 } }],
    ["flag", { fanout: { mode: "hash", group: 60_000, rollover: true } }],
    ["protocol", { protocol: 0x0806, fanout: { mode: "hash", group: 60_000 } }],
  ] as const) {
    namespaced(`takes no member of another ${what}, and says why`, () => {
      const fanout = { mode: "hash", group: 60_000 } as const;
      using _ = PacketSocket.open(FAR, { protocol: ETH_P_IP, fanout });
      const error = systemErrorOf(() => PacketSocket.open(FAR, { protocol: ETH_P_IP, ...options }));
      expect(error).toMatchObject({ code: "EINVAL", option: "PACKET_FANOUT" });
      expect(error.hint).toContain("one protocol and one interface");
    });
  }

  namespaced("has no more members than its first one said", () => {
    const [first] = members({ mode: "hash", membersMax: 2 }, { size: 2 }) as [PacketSocket];
    const group = first.fanoutGroup as number;
    const fanout = { mode: "hash", group, membersMax: 2 } as const;
    const error = systemErrorOf(() => PacketSocket.open(FAR, { protocol: ETH_P_IP, fanout }));
    expect(error).toMatchObject({ code: "ENOSPC" });
    expect(error.hint).toContain("membersMax");
  });
});

describe("PacketSocket fanout over Workers", () => {
  const WORKER = `
    import { DatagramBatch } from "bun-sockets";
    import { PacketSocket } from "bun-sockets/packet";
    const { link, fanout, protocol } = JSON.parse(process.env.FANOUT);
    const socket = PacketSocket.open(link, { protocol, fanout, receiveBufferBytes: 4 << 20 });
    const batch = new DatagramBatch({ capacity: 32, slotBytes: 128 });
    const found = [];
    self.onmessage = ({ data }) => {
      if (data === "end") {
        while (socket.tryReceiveBatch(batch) > 0) collect();
        const { packets, drops } = socket.statistics();
        socket.close();
        postMessage({ found, packets, drops });
      }
    };
    function collect() {
      for (let i = 0; i < batch.count; i++)
        found.push(new DataView(batch.view(i).buffer, batch.offset(i)).getUint32(56));
    }
    socket.unref();
    (async () => {
      for await (const received of socket.batches({ slotBytes: 128 })) {
        for (let i = 0; i < received.count; i++)
          found.push(new DataView(received.memory.buffer, received.offset(i)).getUint32(56));
      }
    })().catch(() => {});
    postMessage("ready");
  `;

  interface Found {
    readonly found: number[];
    readonly packets: number;
    readonly drops: number;
  }

  for (const mode of MODES) {
    namespaced(`gives each packet to one of three of them (${mode})`, async () => {
      const total = 3000;
      const fanout = { mode, group: 40_000 + MODES.indexOf(mode) };
      const env = {
        ...(process.env as Record<string, string>),
        FANOUT: JSON.stringify({ link: FAR, fanout, protocol: ETH_P_IP }),
      };
      const url = URL.createObjectURL(new Blob([WORKER], { type: "application/typescript" }));
      const workers = Array.from({ length: 3 }, () => new Worker(url, { env }));
      try {
        await Promise.all(workers.map((worker) => next(worker)));
        flood(total, 64);
        const answers = workers.map((worker) => next(worker) as Promise<Found>);
        for (const worker of workers) worker.postMessage("end");
        const found = await Promise.all(answers);
        expect(sorted(found.map((each) => each.found))).toEqual(
          Array.from({ length: total }, (_, i) => i),
        );
        expect(found.map(({ packets }) => packets)).toEqual(found.map((each) => each.found.length));
        if (mode === "balance")
          for (const { packets } of found) expect(Math.abs(packets - total / 3)).toBeLessThan(2);
      } finally {
        for (const worker of workers) worker.terminate();
        URL.revokeObjectURL(url);
      }
    });
  }

  function next(worker: Worker): Promise<unknown> {
    return new Promise((resolve, reject) => {
      worker.addEventListener("message", ({ data }) => resolve(data), { once: true });
      worker.addEventListener("error", reject, { once: true });
    });
  }
});
