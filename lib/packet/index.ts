/**
 * Packets: sockets and rings that see whole frames, filters, header views and capture files.
 *
 * @module
 */
export type { Packet } from "./packet.ts";
