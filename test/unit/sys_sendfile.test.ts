import { expect, test } from "bun:test";
import { closeSync, openSync } from "node:fs";
import { fcntl, splice, tee } from "../../lib/sys/fcntl.ts";
import { sendfile } from "../../lib/sys/sendfile.ts";
import { socketpair } from "../../lib/sys/socket.ts";
import { close, pipe2, read, write } from "../../lib/sys/unistd.ts";
import { EAGAIN, EBADF, EINVAL, EPIPE } from "../../structs/constants/errno.ts";
import {
  F_GETFD,
  FD_CLOEXEC,
  O_CLOEXEC,
  O_NONBLOCK,
  SPLICE_F_NONBLOCK,
} from "../../structs/constants/fcntl.ts";
import { AF_UNIX, SOCK_NONBLOCK, SOCK_STREAM } from "../../structs/constants/sys_socket.ts";

const TEXT = "0123456789";

function makePipe(): [number, number] {
  const fds = new Int32Array(new ArrayBuffer(8));
  expect(pipe2(fds, O_CLOEXEC | O_NONBLOCK)).toBe(0);
  return [fds[0] as number, fds[1] as number];
}

function makePair(): [number, number] {
  const fds = new Int32Array(new ArrayBuffer(8));
  expect(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds)).toBe(0);
  return [fds[0] as number, fds[1] as number];
}

function textOf(fd: number): string {
  const target = new Uint8Array(100);
  return Buffer.from(target.subarray(0, read(fd, target))).toString();
}

test("pipe2() makes two ends with the flags, and wrong flags are -EINVAL", () => {
  const [reader, writer] = makePipe();
  expect(fcntl(reader, F_GETFD, 0)).toBe(FD_CLOEXEC);
  expect(write(writer, Buffer.from(TEXT))).toBe(10);
  expect(textOf(reader)).toBe(TEXT);
  for (const fd of [reader, writer]) expect(close(fd)).toBe(0);
  expect(pipe2(new Int32Array(2), 1)).toBe(-EINVAL);
});

test("splice() moves between a socket and a pipe, tee() leaves the bytes where they are", () => {
  const [left, right] = makePair();
  const [reader, writer] = makePipe();
  const [copy, copyWriter] = makePipe();
  expect(splice(right, null, writer, null, 100, SPLICE_F_NONBLOCK)).toBe(-EAGAIN);
  expect(write(left, Buffer.from(TEXT))).toBe(10);
  expect(splice(right, null, writer, null, 4, SPLICE_F_NONBLOCK)).toBe(4);
  expect(tee(reader, copyWriter, 100, SPLICE_F_NONBLOCK)).toBe(4);
  expect([textOf(reader), textOf(copy), textOf(right)]).toEqual(["0123", "0123", "456789"]);
  expect(close(left)).toBe(0);
  expect(splice(right, null, writer, null, 4, SPLICE_F_NONBLOCK)).toBe(0);
  expect(write(writer, Buffer.from(TEXT))).toBe(10);
  // SIGPIPE would end the process: Bun ignores it, and splice(2) has no flag against it.
  expect(splice(reader, null, right, null, 4, SPLICE_F_NONBLOCK)).toBe(-EPIPE);
  expect(splice(-1, null, writer, null, 4, 0)).toBe(-EBADF);
  expect(tee(right, writer, 4, 0)).toBe(-EINVAL);
  for (const fd of [right, reader, writer, copy, copyWriter]) expect(close(fd)).toBe(0);
});

test("sendfile() sends from an offset, which it moves, or from the file's own position", () => {
  const [left, right] = makePair();
  const file = openSync(import.meta.path, "r");
  const offset = new BigInt64Array(new ArrayBuffer(8));
  offset[0] = 7n;
  expect(sendfile(left, file, offset, 3)).toBe(3);
  expect(offset[0]).toBe(10n);
  expect(sendfile(left, file, null, 6)).toBe(6);
  expect(sendfile(left, file, null, 2)).toBe(2);
  expect(textOf(right)).toBe("{ eimport {");
  offset[0] = 1_000_000_000n;
  expect(sendfile(left, file, offset, 3)).toBe(0);
  expect(sendfile(left, -1, null, 3)).toBe(-EBADF);
  expect(close(right)).toBe(0);
  expect(sendfile(left, file, null, 3)).toBe(-EPIPE);
  closeSync(file);
  expect(close(left)).toBe(0);
});
