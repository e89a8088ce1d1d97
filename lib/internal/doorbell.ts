import { EFD_CLOEXEC, EFD_NONBLOCK } from "../../structs/constants/sys_eventfd.ts";
import {
  AF_UNIX,
  SOCK_CLOEXEC,
  SOCK_NONBLOCK,
  SOCK_STREAM,
} from "../../structs/constants/sys_socket.ts";
import { check } from "../error.ts";
import { eventfd } from "../sys/eventfd.ts";
import { socketpair } from "../sys/socket.ts";
import { close, read } from "../sys/unistd.ts";
import type { Doorbell } from "./ringer.ts";
import { TimerRinger } from "./timer_ringer.ts";

// Bun takes an open descriptor here and reads it like any other socket. The overload is not in
// bun-types, and not in the documentation: a bell is used only after it was heard.
type ConnectDescriptor = (options: {
  fd: number;
  socket: { open(): void; data(): void; error(): void; close(): void };
}) => Promise<{ ref(): void; unref(): void; terminate(): void }>;
const connectDescriptor = Bun.connect as unknown as ConnectDescriptor;

/** One end of a pair of stream sockets; Bun reads the other one, and closes it. */
export class SocketDoorbell implements Doorbell {
  readonly name = "socket";
  readonly fd: number;
  readonly descriptors: readonly number[];
  #heard: Awaited<ReturnType<ConnectDescriptor>> | undefined;
  #isRef = true;
  #isClosed = false;

  /** @throws {SystemError} `EMFILE` too many open descriptors */
  constructor(onRing: () => void) {
    const pair = new Int32Array(new ArrayBuffer(8));
    const flags = SOCK_NONBLOCK | SOCK_CLOEXEC;
    check(socketpair(AF_UNIX, SOCK_STREAM | flags, 0, pair), "socketpair");
    const [ours = -1, theirs = -1] = pair;
    this.fd = ours;
    this.descriptors = [ours, theirs];
    const nothing = () => {};
    const socket = { open: nothing, data: onRing, error: nothing, close: nothing };
    connectDescriptor({ fd: theirs, socket }).then(
      (heard) => {
        this.#heard = heard;
        if (this.#isClosed) heard.terminate();
        else if (!this.#isRef) heard.unref();
      },
      // It will not be heard, and another one is taken.
      () => close(theirs),
    );
  }

  setRef(isRef: boolean): void {
    this.#isRef = isRef;
    if (isRef) this.#heard?.ref();
    else this.#heard?.unref();
  }

  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#heard?.terminate();
    close(this.fd);
  }
}

/**
 * An eventfd, which Bun reads as a file that never ends. A reader that is open keeps the process
 * alive, so without a reference there is none, and a timer looks instead: to take a reader up again
 * costs 28 µs.
 */
export class EventfdDoorbell implements Doorbell {
  readonly name = "eventfd";
  readonly fd: number;
  readonly #onRing: () => void;
  readonly #looker: TimerRinger;
  readonly #count = new Uint32Array(new ArrayBuffer(8));
  #reader: Reader | undefined;
  #isClosed = false;

  /** @throws {SystemError} `EMFILE` too many open descriptors */
  constructor(onRing: () => void) {
    this.#onRing = onRing;
    this.fd = check(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC), "eventfd");
    this.#looker = TimerRinger.of(this.fd, this.#look);
    this.setRef(true);
  }

  get descriptors(): readonly number[] {
    return [this.fd];
  }

  setRef(isRef: boolean): void {
    const reader = this.#reader;
    if (isRef === (reader !== undefined) || this.#isClosed) return;
    this.#reader = undefined;
    if (reader) {
      // The descriptor stays open.
      reader.cancel().catch(() => {});
      this.#looker.arm();
    } else {
      this.#looker.stop();
      this.#listen();
    }
  }

  async #listen(): Promise<void> {
    const reader = openReader(this.fd);
    this.#reader = reader;
    try {
      while (this.#reader === reader) {
        const { done } = await reader.read();
        if (done || this.#isClosed) break;
        this.#onRing();
      }
    } catch {
      // It is not heard any more. Where that happens at the first trial, it is found out.
    }
  }

  readonly #look = (): void => {
    read(this.fd, this.#count);
    this.#onRing();
    if (!this.#reader && !this.#isClosed) this.#looker.arm();
  };

  close(): void {
    if (this.#isClosed) return;
    this.setRef(false);
    this.#isClosed = true;
    this.#looker.stop();
    close(this.fd);
  }
}

const openReader = (fd: number) => Bun.file(fd).stream().getReader();
type Reader = ReturnType<typeof openReader>;
