/**
 * What becomes of the sockets of a Worker when its thread has ended. Under load, and with every way to
 * wait: workers.test.ts.
 *
 * @module
 */
import { expect, test } from "bun:test";
import { closeSync, readlinkSync } from "node:fs";
import { join } from "node:path";
import { TcpListener, TcpSocket, UdpSocket } from "bun-sockets";
import { reasonOf, until } from "../support/waiting.ts";
import type { Opened } from "./thread_end.ts";

function linkOf(fd: number): string | undefined {
  try {
    return readlinkSync(`/proc/self/fd/${fd}`);
  } catch {
    return undefined;
  }
}

test("closeSocketsAtEnd() closes the sockets of a Worker that is terminated, and nothing else", async () => {
  const worker = new Worker(join(import.meta.dir, "thread_end.ts"));
  const opened = await new Promise<Opened>((resolve, reject) => {
    worker.onmessage = ({ data }) => resolve(data);
    worker.onerror = (event) => reject(new Error(event.message));
  });
  const { address, reused, detached, others } = opened;
  const links = others.map(linkOf);
  expect(links).toEqual(Array(others.length).fill(expect.stringMatching(/^socket:/)));
  (await TcpSocket.connect(address)).close();

  worker.terminate();
  await until(() => linkOf(others[0] as number) !== links[0], "the listener is closed");
  expect(others.filter((fd, i) => linkOf(fd) === links[i])).toEqual([]);
  // Nobody accepts there any more, and the port is free.
  expect(await reasonOf(TcpSocket.connect(address))).toMatchObject({ code: "ECONNREFUSED" });
  TcpListener.listen(address).close();

  expect(linkOf(reused)).toBe("anon_inode:[eventfd]");
  closeSync(reused);
  using taken = UdpSocket.adopt(detached, { own: true });
  expect(taken.localAddress.port).toBeGreaterThan(0);
});
