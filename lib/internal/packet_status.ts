/**
 * What the status of a packet says: that of auxiliary data, and of frames in a ring.
 *
 * @module
 */
import {
  TP_STATUS_CSUM_VALID,
  TP_STATUS_CSUMNOTREADY,
} from "../../structs/constants/linux_if_packet.ts";
import type { PacketChecksum } from "../control.ts";

/** What it says of the checksum; a negative one is none. */
export function checksumOf(status: number): PacketChecksum {
  if (status < 0) return "unknown";
  if (status & TP_STATUS_CSUMNOTREADY) return "unfinished";
  return status & TP_STATUS_CSUM_VALID ? "valid" : "unknown";
}
