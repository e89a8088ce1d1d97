/**
 * What the kernel has opened for a message that was received: each descriptor has its owner before
 * anything else happens. Nothing is loaded for it any more: there may be no descriptor left to read
 * a file with.
 *
 * @module
 */
import { cmsghdr } from "../../structs/cmsghdr.ts";
import { SCM_CREDENTIALS, SCM_RIGHTS, SOL_SOCKET } from "../../structs/constants/sys_socket.ts";
import { ucred } from "../../structs/ucred.ts";
import type { PeerCredentials } from "../option.ts";
import { heldBy, type ReceivedDescriptor, receivedDescriptorOf } from "../received_descriptor.ts";
import { SCM_PIDFD } from "./option_constants.ts";

/** What a received message owns. */
export interface Rights {
  readonly descriptors: readonly ReceivedDescriptor[];
  readonly processDescriptor: ReceivedDescriptor | undefined;
}

const INT_BYTES = 4;

/** CMSG_SPACE of cmsg(3), for descriptors. */
export function spaceFor(descriptors: number): number {
  return align(cmsghdr.size + descriptors * INT_BYTES);
}

function align(length: number): number {
  return Math.ceil(length / 8) * 8;
}

/** Writes SCM_RIGHTS at the start of control memory that has room for it. */
export function writeRights(control: Uint8Array, numbers: readonly number[]): void {
  const view = viewOf(control);
  cmsghdr.cmsg_len.set(view, 0, cmsghdr.size + numbers.length * INT_BYTES);
  cmsghdr.cmsg_level.set(view, 0, SOL_SOCKET);
  cmsghdr.cmsg_type.set(view, 0, SCM_RIGHTS);
  for (const [i, number] of numbers.entries())
    view.setInt32(cmsghdr.size + i * INT_BYTES, number, true);
}

/** Owns what control messages have brought. Undefined when they brought none. */
export function ownRights(control: Uint8Array): Rights | undefined {
  const descriptors: ReceivedDescriptor[] = [];
  let processDescriptor: ReceivedDescriptor | undefined;
  eachOfSocket(control, (type, view, start, end) => {
    if (type !== SCM_RIGHTS && type !== SCM_PIDFD) return;
    for (let at = start; at + INT_BYTES <= end; at += INT_BYTES) {
      const number = view.getInt32(at, true);
      // In place of a process descriptor there can be -errno.
      if (number < 0) continue;
      const received = receivedDescriptorOf(number, "recvmsg");
      if (type === SCM_PIDFD && !processDescriptor) processDescriptor = received;
      else descriptors.push(received);
    }
  });
  if (descriptors.length === 0 && !processDescriptor) return undefined;
  return { descriptors: Object.freeze(descriptors), processDescriptor };
}

/** Closes what nobody has taken, but no number that means something else by now. */
export function discardRights({ descriptors, processDescriptor }: Rights): void {
  for (const received of [...descriptors, processDescriptor]) {
    heldBy(received)?.closeIfStill();
    received?.close();
  }
}

/** The credentials of the sender, where they are among the control messages. */
export function credentialsIn(control: Uint8Array): PeerCredentials | undefined {
  let credentials: PeerCredentials | undefined;
  eachOfSocket(control, (type, view, start, end) => {
    if (type !== SCM_CREDENTIALS || end - start < ucred.size) return;
    credentials = {
      processId: ucred.pid.get(view, start),
      userId: ucred.uid.get(view, start),
      groupId: ucred.gid.get(view, start),
    };
  });
  return credentials;
}

// Calls with each control message of SOL_SOCKET: its type, and where its data begins and ends.
function eachOfSocket(
  control: Uint8Array,
  call: (type: number, view: DataView, start: number, end: number) => void,
): void {
  const view = viewOf(control);
  for (let at = 0; at + cmsghdr.size <= control.length; ) {
    const length = cmsghdr.cmsg_len.get(view, at);
    if (length < cmsghdr.size) return;
    const end = Math.min(at + length, control.length);
    if (cmsghdr.cmsg_level.get(view, at) === SOL_SOCKET)
      call(cmsghdr.cmsg_type.get(view, at), view, at + cmsghdr.size, end);
    at += align(length);
  }
}

function viewOf({ buffer, byteOffset, byteLength }: Uint8Array): DataView {
  return new DataView(buffer, byteOffset, byteLength);
}
