/**
 * The program of connect_names.test.ts, inside the world of names: each line on its standard input is
 * a JSON array of a call, what it is given and its time, and it prints what came of it, on one line.
 */
import { readdirSync, readlinkSync } from "node:fs";
import { createInterface } from "node:readline";
import { TcpListener, TcpSocket } from "bun-sockets";

type Call = (host: string, service: string | number, timeoutMs: number) => unknown;

const calls: Readonly<Record<string, Call>> = {
  connect: (host, service, timeoutMs) => TcpSocket.connect(host, service, { timeoutMs }),
  "connect by one text": (host, service, timeoutMs) =>
    TcpSocket.connect(`${host}:${service}`, { timeoutMs }),
  "connect with a signal": (host, service, timeoutMs) =>
    TcpSocket.connect(host, service, { signal: AbortSignal.timeout(timeoutMs) }),
  connectSync: (host, service, timeoutMs) => TcpSocket.connectSync(host, service, { timeoutMs }),
  "connectSync by one text": (host, service, timeoutMs) =>
    TcpSocket.connectSync(`${host}:${service}`, { timeoutMs }),
  listen: (host, service) => TcpListener.listen(`${host}:${service}`),
  listenAll: (host, service, timeoutMs) => TcpListener.listenAll(host, service, { timeoutMs }),
  listenAllSync: (host, service, timeoutMs) =>
    TcpListener.listenAllSync(host, service, { timeoutMs }),
};

function openSockets(): number {
  return readdirSync("/proc/self/fd").filter((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`).startsWith("socket:");
    } catch {
      return false;
    }
  }).length;
}

async function answer(line: string): Promise<unknown> {
  const [name, host, service, timeoutMs] = JSON.parse(line);
  const before = openSockets();
  const started = performance.now();
  try {
    await calls[name]?.(host, service, timeoutMs);
    return { error: undefined };
  } catch (error) {
    const { name: kind, code, message } = error as NodeJS.ErrnoException;
    const passedMs = performance.now() - started;
    return { kind, code, message, passedMs, grown: openSockets() - before };
  }
}

// What the first lookup loads and compiles is no part of what is asked, nor what the poller keeps.
await TcpSocket.connect("127.0.0.1:9").catch(() => {});
await TcpSocket.connect("four.test", 9, { timeoutMs: 1000 }).catch(() => {});
console.log("ready");
for await (const line of createInterface({ input: process.stdin }))
  console.log(JSON.stringify(await answer(line)));
