/**
 * What a poller has opened stays open when its Worker is terminated: that runs no code of the
 * Worker. So each poller leaves a note with its descriptors and its thread, and the next poller of
 * the process that starts closes what belongs to threads that have ended.
 *
 * A note is a memfd, which goes with the process, and which every thread finds in /proc/self/fd.
 *
 * @module
 */
import { F_ADD_SEALS, F_SEAL_SEAL } from "../../structs/constants/fcntl.ts";
import { MFD_ALLOW_SEALING, MFD_CLOEXEC } from "../../structs/constants/sys_mman.ts";
import { fcntl } from "../sys/fcntl.ts";
import { memfd_create } from "../sys/mman.ts";
import { close } from "../sys/unistd.ts";

const NAME = "bun-sockets-poller";
const LINK = `/memfd:${NAME}`;
const DESCRIPTORS = "/proc/self/fd";
/** The field of /proc/…/stat that says when a thread began, counted after the name. */
const START_FIELD = 19;
/** The length of every note, so that the next one covers it. */
const NOTE_BYTES = 1024;

interface Note {
  /** The note's own number: whoever reads it has opened it anew meanwhile, under another one. */
  readonly fd: number;
  readonly thread: string;
  /** Numbers of threads are used again: when it began tells them apart. */
  readonly startedAt: string;
  readonly descriptors: readonly { readonly fd: number; readonly link: string }[];
}

// A static import would cost every program that imports bun-sockets.
const files = () => process.getBuiltinModule("node:fs");

/**
 * Starts the note of this thread. Returns its descriptor, or a negative number: without a note what is
 * open stays so when the thread is ended.
 */
export function startNote(): number {
  const fd = memfd_create(Buffer.from(`${NAME}\0`), MFD_CLOEXEC | MFD_ALLOW_SEALING);
  writeNote(fd, []);
  return fd;
}

/**
 * Says in the note which descriptors are to be closed when this thread has ended. It is written over:
 * with a second note for the same descriptors, two threads could close them, one of them too late.
 */
export function writeNote(fd: number, descriptors: readonly number[]): void {
  if (fd < 0) return;
  try {
    const { readlinkSync, writeSync } = files();
    const thread = readlinkSync("/proc/thread-self");
    const links = descriptors.map((fd) => ({ fd, link: readlinkSync(`${DESCRIPTORS}/${fd}`) }));
    const note: Note = { fd, thread, startedAt: startOf(thread), descriptors: links };
    writeSync(fd, JSON.stringify(note).padEnd(NOTE_BYTES), 0);
  } catch {
    // A machine without /proc.
  }
}

/** Closes what pollers of ended threads have left open. */
export function closeOrphans(): void {
  for (const fd of openDescriptors()) if (linkOf(fd)?.startsWith(LINK)) closeOrphan(fd);
}

// None where they cannot be listed: without /proc, or when too many are open to open another one.
function openDescriptors(): number[] {
  try {
    return files().readdirSync(DESCRIPTORS).map(Number);
  } catch {
    return [];
  }
}

function closeOrphan(noteFd: number): void {
  // A descriptor of our own: the number may be closed meanwhile, and mean another note.
  const pinned = pin(noteFd);
  if (pinned < 0) return;
  try {
    const note = readNote(pinned);
    // What another reader has opened is no note, and that one's to close.
    if (!note || note.fd !== noteFd || !hasEnded(note)) return;
    // Two threads may find the same note: only one can seal it, and from then on the numbers are its
    // to close.
    if (fcntl(pinned, F_ADD_SEALS, F_SEAL_SEAL) < 0) return;
    for (const { fd, link } of note.descriptors) if (linkOf(fd) === link) close(fd);
    close(noteFd);
  } finally {
    close(pinned);
  }
}

// Opens a note anew, through /proc. Returns -1 when it is gone, or something else by now.
function pin(noteFd: number): number {
  try {
    const { openSync } = files();
    const pinned = openSync(`${DESCRIPTORS}/${noteFd}`, "r+");
    if (linkOf(pinned)?.startsWith(LINK)) return pinned;
    close(pinned);
    return -1;
  } catch {
    return -1;
  }
}

function readNote(fd: number): Note | undefined {
  try {
    return JSON.parse(files().readFileSync(`${DESCRIPTORS}/${fd}`, "utf8"));
  } catch {
    // It was not written yet.
    return undefined;
  }
}

function linkOf(fd: number): string | undefined {
  try {
    return files().readlinkSync(`${DESCRIPTORS}/${fd}`);
  } catch {
    return undefined;
  }
}

/** When a thread began, in the kernel's ticks. */
function startOf(thread: string): string {
  const stat = files().readFileSync(`/proc/${thread}/stat`, "latin1");
  return stat.slice(stat.lastIndexOf(")") + 2).split(" ")[START_FIELD] as string;
}

// Only what is certain: a file that cannot be read for another reason says nothing of the thread.
function hasEnded({ thread, startedAt }: Note): boolean {
  try {
    return startOf(thread) !== startedAt;
  } catch (error) {
    const { code } = error as { code?: unknown };
    return code === "ENOENT" || code === "ESRCH";
  }
}
