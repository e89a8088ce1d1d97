// The npm package unix-dgram, under Node: two sockets with paths in one process, the sender with a
// peer or naming the receiver's path each time.
import { mkdtempSync, rmSync } from "node:fs";
import { constants, tmpdir } from "node:os";
import { join } from "node:path";
import { createSocket } from "unix-dgram";
import { makePayloads, serveRounds } from "../groups.mjs";

const [, , how, , bytes] = process.argv;
const payloads = makePayloads(Number(bytes)).map((payload) => Buffer.from(payload.buffer));
const folder = mkdtempSync(join(tmpdir(), "bun-sockets-bench-"));
const there = join(folder, "receiver");
const here = join(folder, "sender");
const receiver = createSocket("unix_dgram");
const sender = createSocket("unix_dgram");
receiver.bind(there);
sender.bind(here);
// Only strangers are held to net.unix.max_dgram_qlen: the receiver's peer may fill its buffer.
receiver.connect(here);
if (how === "connected") sender.connect(there);

const received = serveRounds(
  how === "connected"
    ? () => {
        for (const payload of payloads) sender.send(payload);
      }
    : () => {
        for (const payload of payloads) sender.send(payload, 0, payload.length, there);
      },
  () => {
    for (const socket of [sender, receiver]) socket.close();
    rmSync(folder, { recursive: true });
  },
);
receiver.on("message", received);
// What finds no room is lost, as in all benches.
sender.on("error", (error) => {
  if (error.code !== -constants.errno.EAGAIN) throw error;
});
