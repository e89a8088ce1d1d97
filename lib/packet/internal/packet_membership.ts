/**
 * What an interface takes in beside what is for it: memberships end with the socket, whatever
 * becomes of the program.
 *
 * @module
 */
import { ENODEV } from "../../../structs/constants/errno.ts";
import {
  PACKET_ADD_MEMBERSHIP,
  PACKET_DROP_MEMBERSHIP,
} from "../../../structs/constants/linux_if_packet.ts";
import { SOL_PACKET } from "../../../structs/constants/sys_socket.ts";
import { packet_mreq } from "../../../structs/packet_mreq.ts";
import { systemError } from "../../error.ts";
import { setsockopt } from "../../sys/socket.ts";

// Filled by one call and read in it.
const request = new DataView(new ArrayBuffer(packet_mreq.size));

/** PACKET_ADD_MEMBERSHIP or PACKET_DROP_MEMBERSHIP, of a `PACKET_MR_` type. */
export function changeMembership(
  fd: number,
  adds: boolean,
  interfaceIndex: number,
  type: number,
  address?: Uint8Array,
): void {
  new Uint8Array(request.buffer).fill(0);
  packet_mreq.mr_ifindex.set(request, 0, interfaceIndex);
  packet_mreq.mr_type.set(request, 0, type);
  if (address) {
    packet_mreq.mr_alen.set(request, 0, address.length);
    packet_mreq.mr_address.get(request, 0).set(address);
  }
  const number = adds ? PACKET_ADD_MEMBERSHIP : PACKET_DROP_MEMBERSHIP;
  const option = adds ? "PACKET_ADD_MEMBERSHIP" : "PACKET_DROP_MEMBERSHIP";
  const result = setsockopt(fd, SOL_PACKET, number, request);
  if (result >= 0) return;
  const hint =
    result === -ENODEV
      ? `There is no interface ${interfaceIndex} in the network namespace of the socket`
      : undefined;
  throw systemError(result, "setsockopt", { option, hint });
}
