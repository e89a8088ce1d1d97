import { expect, test } from "bun:test";
import fc from "fast-check";
import {
  type Address,
  Inet4Address,
  Inet6Address,
  parseAddress,
  RawAddress,
  UnixAddress,
} from "../../lib/address.ts";
import { SenderTable } from "../../lib/internal/sender_table.ts";
import { AF_VSOCK } from "../../structs/constants/sys_socket.ts";

// A sockaddr as the kernel puts it in a batch: at a word, with zeros up to the next one.
function numberOf(table: SenderTable, sockaddr: Uint8Array, at = 0): number {
  const names = new Int32Array(at + 40).fill(-1);
  const bytes = new Uint8Array(names.buffer);
  bytes.fill(0, at * 4, at * 4 + Math.ceil(sockaddr.length / 4) * 4);
  bytes.set(sockaddr, at * 4);
  return table.number(names, at, sockaddr.length);
}

function peer(index: number): Inet4Address {
  return new Inet4Address("10.0.0.1", index);
}

function otherName(length: number): Uint8Array {
  const bytes = new Uint8Array(length).fill(0x61);
  new DataView(bytes.buffer).setUint16(0, AF_VSOCK, true);
  return bytes;
}

test("SenderTable gives 0, 1, 2, … to new senders and the same number to known ones", () => {
  const table = new SenderTable(8);
  expect([5, 6, 7, 5, 6, 7, 7, 5].map((port) => numberOf(table, peer(port).bytes))).toEqual([
    0, 1, 2, 0, 1, 2, 2, 0,
  ]);
});

test("SenderTable does not take the first sender for an empty slot", () => {
  const table = new SenderTable(4);
  const unspecified = new Inet4Address("0.0.0.0", 0);
  expect(numberOf(table, unspecified.bytes)).toBe(0);
  expect(numberOf(table, new RawAddress(new Uint8Array(16)).bytes)).toBe(1);
  expect(numberOf(table, unspecified.bytes)).toBe(0);
});

test("SenderTable forgets the oldest for a new one, and never gives its number again", () => {
  const table = new SenderTable(3);
  const numbers = [1, 2, 3, 1, 4, 2, 1, 4].map((port) => numberOf(table, peer(port).bytes));
  // 4 takes the place of 1, although 1 was seen again: the oldest, not the least used. Then 1 is
  // new, and takes the place of 2.
  expect(numbers).toEqual([0, 1, 2, 0, 3, 1, 4, 3]);
  expect(numberOf(table, peer(2).bytes)).toBe(5);
});

test("SenderTable.find() gives the number of who is kept, and adds nobody", () => {
  const table = new SenderTable(3);
  const find = (port: number) => {
    const names = new Int32Array(peer(port).bytes.slice().buffer);
    return table.find(names, 0, 16);
  };
  expect([find(1), table.given]).toEqual([-1, 0]);
  for (const port of [1, 2, 3, 4]) numberOf(table, peer(port).bytes);
  expect([1, 2, 3, 4, 5, 2].map(find)).toEqual([-1, 1, 2, 3, -1, 1]);
  expect(table.given).toBe(4);
  expect(numberOf(table, peer(1).bytes)).toBe(4);
  expect([1, 2].map(find)).toEqual([4, -1]);
});

test("SenderTable with room for one sender knows the latest only", () => {
  const table = new SenderTable(1);
  expect([1, 1, 2, 2, 1].map((port) => numberOf(table, peer(port).bytes))).toEqual([0, 0, 1, 1, 2]);
  expect(`${table.address(2)}`).toBe("10.0.0.1:1");
});

test("SenderTable.address() is one object for as long as the sender is kept", () => {
  const table = new SenderTable(2);
  const first = table.address(numberOf(table, peer(1).bytes));
  expect(first.equals(peer(1))).toBe(true);
  numberOf(table, peer(2).bytes);
  expect(table.address(numberOf(table, peer(1).bytes))).toBe(first);
  // Forgotten and seen again: equal, and another object.
  numberOf(table, peer(3).bytes);
  const again = table.address(numberOf(table, peer(1).bytes));
  expect(again.equals(first)).toBe(true);
  expect(again).not.toBe(first);
});

test("SenderTable.address() does not change when the names do", () => {
  const table = new SenderTable(2);
  const names = new Int32Array(new Uint8Array(peer(1).bytes).buffer);
  const address = table.address(table.number(names, 0, 16));
  names.fill(0);
  expect(`${address}`).toBe("10.0.0.1:1");
  expect(numberOf(table, peer(1).bytes)).toBe(0);
});

test("SenderTable.address() is of the sender's family", () => {
  const table = new SenderTable(8);
  const addresses: Address[] = [
    new Inet4Address("192.0.2.1", 53),
    new Inet6Address("2001:db8::1", 53, { flow: 7 }),
    new Inet6Address("fe80::1%3", 53),
    new RawAddress(otherName(110)),
    new RawAddress(otherName(2)),
    new RawAddress(otherName(5)),
  ];
  addresses.push(new UnixAddress("/run/x.sock"), UnixAddress.unnamed);
  for (const [index, address] of addresses.entries()) {
    expect(numberOf(table, address.bytes, index)).toBe(index);
    expect(table.address(index).equals(address)).toBe(true);
  }
});

test("SenderTable tells names apart that differ by trailing zeros only", () => {
  const table = new SenderTable(8);
  const lengths = [2, 3, 4, 5, 8, 16, 110];
  const names = lengths.map((length) => new Uint8Array(length).fill(AF_VSOCK, 0, 1));
  expect(names.map((name) => numberOf(table, name))).toEqual([0, 1, 2, 3, 4, 5, 6]);
  expect(names.map((name) => numberOf(table, name))).toEqual([0, 1, 2, 3, 4, 5, 6]);
  expect(names.map((_, number) => table.address(number).bytes.length)).toEqual(lengths);
});

test("SenderTable does what a Map with a queue does, for any sequence of senders", () => {
  const universe = [
    ...Array.from({ length: 12 }, (_, index) => peer(index).bytes),
    ...[1, 2, 3].map((scope) => new Inet6Address(`fe80::1%${scope}`, 9).bytes),
    ...[2, 3, 4, 110].map(otherName),
  ];
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 9 }),
      fc.array(fc.nat(universe.length - 1), { maxLength: 200 }),
      fc.nat(7),
      (peersMax, senders, at) => {
        const table = new SenderTable(peersMax);
        const model = new Map<number, number>();
        let given = 0;
        for (const sender of senders) {
          const sockaddr = universe[sender] as Uint8Array;
          const number = numberOf(table, sockaddr, at);
          if (!model.has(sender)) {
            const [oldest] = model.keys();
            if (model.size === peersMax && oldest !== undefined) model.delete(oldest);
            model.set(sender, given++);
          }
          expect(number).toBe(model.get(sender) as number);
          expect(table.address(number).bytes).toEqual(sockaddr);
        }
        for (const [sender, number] of model)
          expect(table.address(number).bytes).toEqual(universe[sender] as Uint8Array);
      },
    ),
    { numRuns: 300 },
  );
});

test("SenderTable keeps thousands of senders apart while as many come and go", () => {
  const table = new SenderTable(4096);
  const names = new Int32Array(4);
  const view = new DataView(names.buffer);
  view.setUint16(0, 2, true);
  const number = (host: number) => {
    view.setUint32(4, host);
    return table.number(names, 0, 16);
  };
  for (let host = 0; host < 10_000; host++) expect(number(host)).toBe(host);
  for (let host = 10_000 - 4096; host < 10_000; host++) expect(number(host)).toBe(host);
  expect(table.address(9999).equals(parseAddress("0.0.39.15:0"))).toBe(true);
  expect(number(10_000 - 4097)).toBe(10_000);
});
