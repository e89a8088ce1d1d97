/** UnixSeqpacketSocket: connections whose records keep their ends. */
import { afterEach, beforeAll, describe, expect, test } from "bun:test";
import {
  Message,
  Socket,
  UnixAddress,
  UnixListener,
  UnixSeqpacketSocket,
  UnixSocket,
} from "bun-sockets";
import { MSG_EOR, MSG_TRUNC } from "bun-sockets/sys";
import { libc } from "../../lib/ffi/libc.ts";
import { openDescriptors } from "../support/descriptors.ts";
import { systemErrorOf } from "../support/errors.ts";
import { replaceEntry } from "../support/faults.ts";
import { reasonOf, startPoller } from "../support/waiting.ts";

const WAIT = { timeoutMs: 10_000 };

// Its own descriptors are not counted.
beforeAll(startPoller);
afterEach(() => Bun.gc(true));

function textOf(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString();
}

/** Two ends, from a listener or a pair. Closed with the block. */
interface Ends extends Disposable {
  readonly left: UnixSeqpacketSocket;
  readonly right: UnixSeqpacketSocket;
}

function endsOf(left: UnixSeqpacketSocket, right: UnixSeqpacketSocket): Ends {
  const close = () => {
    left.close();
    right.close();
  };
  return { left, right, [Symbol.dispose]: close };
}

const sources = [
  ["pair()", async () => endsOf(...UnixSeqpacketSocket.pair())],
  [
    "connect()",
    async () => {
      using listener = UnixListener.listen(UnixAddress.unnamed, { type: "seqpacket" });
      const left = await UnixSeqpacketSocket.connect(listener.localAddress, WAIT);
      return endsOf(left, await listener.accept(WAIT));
    },
  ],
  [
    "connectSync()",
    async () => {
      using listener = UnixListener.listen(UnixAddress.unnamed, { type: "seqpacket" });
      const left = UnixSeqpacketSocket.connectSync(listener.localAddress, WAIT);
      return endsOf(left, listener.acceptSync(WAIT));
    },
  ],
  [
    "adopt()",
    async () => {
      const [left, right] = UnixSeqpacketSocket.pair();
      const own = { own: true };
      return endsOf(
        UnixSeqpacketSocket.adopt(left.detach(), own),
        UnixSeqpacketSocket.adopt(right.detach(), own),
      );
    },
  ],
  [
    "duplicate()",
    async () => {
      const [left, right] = UnixSeqpacketSocket.pair();
      const ends = endsOf(left.duplicate(), right.duplicate());
      left.close();
      right.close();
      return ends;
    },
  ],
] as const;

describe.each(sources)("%s", (_name, open) => {
  test("gives sockets of this class, which are connected", async () => {
    const before = openDescriptors();
    {
      using ends = await open();
      for (const each of [ends.left, ends.right]) {
        expect(each).toBeInstanceOf(UnixSeqpacketSocket);
        expect(each).toBeInstanceOf(Socket);
        expect([each.family, each.type, each.connected]).toEqual(["unix", "seqpacket", true]);
        expect(each.peerCredentials).toMatchObject({ processId: process.pid });
      }
      expect(ends.right.remoteAddress).toEqual(UnixAddress.unnamed);
    }
    expect(openDescriptors()).toBe(before);
  });

  test("records keep their ends, in both directions", async () => {
    using ends = await open();
    for (const [from, to] of [
      [ends.left, ends.right],
      [ends.right, ends.left],
    ] as const) {
      for (const text of ["one", "two", "x".repeat(5000)])
        expect(await from.send(text)).toBe(text.length);
      expect(textOf(await to.receiveBytes(10_000, WAIT))).toBe("one");
      expect(textOf(to.receiveBytesSync(10_000, WAIT))).toBe("two");
      const { length, originalLength, flags } = to.receiveFromSync(new Uint8Array(100), WAIT);
      expect([length, originalLength, flags]).toEqual([100, 5000, MSG_TRUNC]);
    }
  });

  test("an empty record is told from the end", async () => {
    using ends = await open();
    ends.left.sendSync("");
    ends.left.sendSync("full");
    ends.left.shutdown("write");
    const message = new Message({ vectors: new Uint8Array(100) });
    const read = async () => {
      const length = await ends.right.receiveMessage(message, WAIT);
      return [length, (message.flags & MSG_EOR) !== 0];
    };
    expect(await read()).toEqual([0, true]);
    expect(await read()).toEqual([4, true]);
    expect(await read()).toEqual([0, false]);
    // The other direction goes on.
    ends.right.sendSync("and yet");
    expect(textOf(await ends.left.receiveBytes(100, WAIT))).toBe("and yet");
  });
});

describe("connect()", () => {
  test("says what is wrong with the address, and leaks nothing", async () => {
    using streams = UnixListener.listen(UnixAddress.unnamed);
    const before = openDescriptors();
    expect(await reasonOf(UnixSeqpacketSocket.connect(streams.localAddress, WAIT))).toMatchObject({
      // Each type has abstract names of its own.
      code: "ECONNREFUSED",
      syscall: "connect",
    });
    const nobody = `unix:@nobody-${process.pid}`;
    const error = systemErrorOf(() => UnixSeqpacketSocket.connectSync(nobody, WAIT));
    expect(error).toMatchObject({ code: "ECONNREFUSED", hint: "Nobody is bound to that name" });
    expect(openDescriptors()).toBe(before);
  });

  test.each([
    ["x.sock", {}, TypeError],
    ["unix:@x", { timeoutMs: -1 }, RangeError],
    ["unix:@x", null, TypeError],
  ])("refuses %j with %j before anything is opened", async (address, options, error) => {
    using socket = replaceEntry("socket", libc.socket);
    const given = options as object;
    expect(await reasonOf(UnixSeqpacketSocket.connect(address, given))).toBeInstanceOf(error);
    expect(() => UnixSeqpacketSocket.connectSync(address, given)).toThrow(error);
    expect(socket.calls).toBe(0);
  });
});

test("open() makes a socket that connects by its own call", async () => {
  using listener = UnixListener.listen(UnixAddress.unnamed, { type: "seqpacket" });
  using socket = UnixSeqpacketSocket.open();
  expect([socket.connected, socket.remoteAddress]).toEqual([false, undefined]);
  await socket.connect(listener.localAddress, WAIT);
  expect(`${socket.remoteAddress}`).toBe(`${listener.localAddress}`);
});

test("adopt() refuses every other kind, and says which it is", () => {
  const [left, right] = UnixSocket.pair();
  using _left = left;
  using _right = right;
  using listener = UnixListener.listen(UnixAddress.unnamed, { type: "seqpacket" });
  expect(() => UnixSeqpacketSocket.adopt(left.descriptor)).toThrow(
    "as a Unix seqpacket socket: it is unix stream",
  );
  expect(() => UnixSeqpacketSocket.adopt(listener.descriptor)).toThrow("it listens");
});
