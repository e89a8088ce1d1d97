import { SO_DOMAIN, SO_TYPE } from "../../structs/constants/sys_socket.ts";
import { sockaddr_storage } from "../../structs/sockaddr_storage.ts";
import { type Address, addressFromBytes } from "../address.ts";
import type { OpenSocket } from "../open_sockets.ts";
import { getpeername, getsockname } from "../sys/socket.ts";
import { type Held, heldSockets, isStill } from "./descriptor.ts";
import { familyOf, readInt, typeOf } from "./parts.ts";

const name = new Uint8Array(new ArrayBuffer(sockaddr_storage.size));
const nameLength = new Uint32Array(new ArrayBuffer(4));

/** The sockets of this thread whose descriptors are still theirs, in the order of their making. */
export function listSockets(): OpenSocket[] {
  return Array.from(heldSockets()).filter(isStill).map(describeSocket);
}

/** What the kernel says of an open socket. Nothing was remembered of it but where it was made. */
export function describeSocket({ fd, kind, createdAt }: Held): OpenSocket {
  const localAddress = addressOf(getsockname, fd);
  const remoteAddress = addressOf(getpeername, fd);
  return Object.freeze({
    kind: kind?.name ?? "",
    family: familyOf(readInt(fd, SO_DOMAIN)),
    type: typeOf(readInt(fd, SO_TYPE)),
    descriptor: fd,
    ...(localAddress && { localAddress }),
    ...(remoteAddress && { remoteAddress }),
    ...(createdAt !== undefined && { createdAt }),
  });
}

// Some families have no names, and most sockets no peer.
function addressOf(ask: typeof getsockname, fd: number): Address | undefined {
  return ask(fd, name, nameLength) < 0
    ? undefined
    : addressFromBytes(name.subarray(0, nameLength[0]));
}
