import { EAGAIN, EINTR, EINVAL } from "../../structs/constants/errno.ts";
import {
  IORING_OFF_CQ_RING,
  IORING_OFF_SQ_RING,
  IORING_OFF_SQES,
  IORING_OP_POLL_ADD,
  IORING_OP_SEND,
  IORING_OP_WRITE,
  IORING_SETUP_SINGLE_ISSUER,
  IOSQE_IO_LINK,
} from "../../structs/constants/linux_io_uring.ts";
import { POLLIN } from "../../structs/constants/poll.ts";
import { MSG_DONTWAIT, MSG_NOSIGNAL } from "../../structs/constants/sys_socket.ts";
import { io_cqring_offsets } from "../../structs/io_cqring_offsets.ts";
import { io_sqring_offsets } from "../../structs/io_sqring_offsets.ts";
import { io_uring_cqe } from "../../structs/io_uring_cqe.ts";
import { io_uring_params } from "../../structs/io_uring_params.ts";
import { io_uring_sqe } from "../../structs/io_uring_sqe.ts";
import { check } from "../error.ts";
import { type Mapping, mapDescriptor, mapMemory, unmapMemory } from "../ffi/memory.ts";
import { io_uring_enter, io_uring_setup } from "../sys/io_uring.ts";
import { close } from "../sys/unistd.ts";
import type { Doorbell, Ringer } from "./ringer.ts";

/** The poll, and the ring that is linked to it. */
const ENTRIES = 2;
/** What is written to a bell: a 64-bit 1, as an eventfd wants it. */
const RING_BYTES = 8;

/**
 * Rings by io_uring: a one-shot poll of the epoll set, linked to a send on the bell. The kernel does
 * both by itself, with one system call for each time it is armed.
 *
 * Not with IORING_SETUP_DEFER_TASKRUN: then the ring would go out only when this thread enters the
 * kernel through io_uring again, and not while it sleeps in Bun's loop. And one-shot, because a
 * multishot poll may merge the wake-ups of two events into one.
 */
export class IoUringRinger implements Ringer {
  readonly #fd: number;
  #mappings: Mapping[] = [];
  #submissions!: Int32Array;
  #completions!: Int32Array;
  #tailAt = 0;
  #completedHeadAt = 0;
  #completedTailAt = 0;

  /** @throws {SystemError} `ENOSYS`, `EPERM` the kernel, or a container's filter, does not allow it */
  constructor(epollFd: number, bell: Doorbell) {
    const params = new DataView(new ArrayBuffer(io_uring_params.size));
    this.#fd = check(setup(params), "io_uring_setup");
    try {
      this.#connect(params, epollFd, bell);
    } catch (error) {
      this.stop();
      throw error;
    }
  }

  /** Its descriptor. */
  get descriptor(): number {
    return this.#fd;
  }

  // Writes both requests once and for all: each time it is armed, the same two are submitted.
  #connect(params: DataView, epollFd: number, bell: Doorbell): void {
    const sq = io_uring_params.sq_off.get(params, 0);
    const cq = io_uring_params.cq_off.get(params, 0);
    const submissionBytes =
      io_sqring_offsets.array.get(params, sq) + io_uring_params.sq_entries.get(params, 0) * 4;
    const completionBytes =
      io_cqring_offsets.cqes.get(params, cq) +
      io_uring_params.cq_entries.get(params, 0) * io_uring_cqe.size;
    const submissions = this.#map(submissionBytes, IORING_OFF_SQ_RING);
    const completions = this.#map(completionBytes, IORING_OFF_CQ_RING);
    const entries = this.#map(ENTRIES * io_uring_sqe.size, IORING_OFF_SQES);
    const payload = mapMemory(RING_BYTES);
    if (typeof payload === "number") throw check(payload, "mmap");
    this.#mappings.push(payload);
    new DataView(payload.buffer).setUint32(0, 1, true);

    this.#submissions = new Int32Array(submissions.buffer, 0, submissionBytes >> 2);
    this.#completions = new Int32Array(completions.buffer, 0, completionBytes >> 2);
    this.#tailAt = io_sqring_offsets.tail.get(params, sq) >> 2;
    this.#completedHeadAt = io_cqring_offsets.head.get(params, cq) >> 2;
    this.#completedTailAt = io_cqring_offsets.tail.get(params, cq) >> 2;
    const indices = io_sqring_offsets.array.get(params, sq) >> 2;
    for (let i = 0; i < ENTRIES; i++) this.#submissions[indices + i] = i;

    const view = new DataView(entries.buffer);
    io_uring_sqe.opcode.set(view, 0, IORING_OP_POLL_ADD);
    io_uring_sqe.flags.set(view, 0, IOSQE_IO_LINK);
    io_uring_sqe.fd.set(view, 0, epollFd);
    io_uring_sqe.poll32_events.set(view, 0, POLLIN);
    const ring = io_uring_sqe.size;
    const isSocket = bell.name === "socket";
    io_uring_sqe.opcode.set(view, ring, isSocket ? IORING_OP_SEND : IORING_OP_WRITE);
    io_uring_sqe.fd.set(view, ring, bell.fd);
    io_uring_sqe.addr.set(view, ring, payload.address);
    io_uring_sqe.len.set(view, ring, RING_BYTES);
    // The union of the flags of all operations.
    if (isSocket) io_uring_sqe.poll32_events.set(view, ring, MSG_DONTWAIT | MSG_NOSIGNAL);
  }

  #map(byteLength: number, offset: number): Mapping {
    const mapping = mapDescriptor(this.#fd, byteLength, offset);
    if (typeof mapping === "number") throw check(mapping, "mmap");
    this.#mappings.push(mapping);
    return mapping;
  }

  arm(): number {
    const completions = this.#completions;
    // What has completed tells nothing: the ring was heard.
    Atomics.store(
      completions,
      this.#completedHeadAt,
      Atomics.load(completions, this.#completedTailAt),
    );
    const submissions = this.#submissions;
    Atomics.store(submissions, this.#tailAt, ((submissions[this.#tailAt] as number) + ENTRIES) | 0);
    let left = ENTRIES;
    while (left > 0) {
      const submitted = io_uring_enter(this.#fd, left, 0, 0);
      if (submitted > 0) left -= submitted;
      // Nothing taken off a queue that is not empty: it would stay so.
      else if (submitted !== -EINTR) return submitted || -EAGAIN;
    }
    return 0;
  }

  setRef(): void {}

  stop(): void {
    for (const { buffer } of this.#mappings.splice(0)) unmapMemory(buffer);
    close(this.#fd);
  }
}

function setup(params: DataView): number {
  io_uring_params.flags.set(params, 0, IORING_SETUP_SINGLE_ISSUER);
  const result = io_uring_setup(ENTRIES, params);
  if (result !== -EINVAL) return result;
  // Linux before 6.0 does not know the flag.
  io_uring_params.flags.set(params, 0, 0);
  return io_uring_setup(ENTRIES, params);
}
