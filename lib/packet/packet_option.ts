import {
  PACKET_AUXDATA,
  PACKET_COPY_THRESH,
  PACKET_IGNORE_OUTGOING,
  PACKET_ORIGDEV,
  PACKET_QDISC_BYPASS,
  PACKET_TIMESTAMP,
} from "../../structs/constants/linux_if_packet.ts";
import { SOL_PACKET } from "../../structs/constants/sys_socket.ts";
import { INT_MAX, integer } from "../internal/option_codec.ts";
import { flag, option, writeOnly } from "../internal/option_kinds.ts";

/**
 * Options of packet sockets, at `SOL_PACKET`. See packet(7).
 *
 * @example
 * ```ts
 * import { PacketOption, PacketSocket } from "bun-sockets/packet";
 *
 * using socket = PacketSocket.open("lo", { ignoreOutgoing: true });
 * console.log(socket.getOption(PacketOption.ignoreOutgoing)); // true
 * socket.setOption(PacketOption.auxiliaryData, true);
 * ```
 */
export const PacketOption = Object.freeze({
  /** `PACKET_AUXDATA`: packets come with their length, VLAN tag and the state of their checksum. */
  auxiliaryData: flag("PACKET_AUXDATA", SOL_PACKET, PACKET_AUXDATA),
  /**
   * `PACKET_COPY_THRESH`: packets that are longer than the frames of a ring are also queued whole, to
   * be received. 0 is none.
   */
  copyThreshold: writeOnly("PACKET_COPY_THRESH", SOL_PACKET, PACKET_COPY_THRESH, integer(0)),
  /** `PACKET_IGNORE_OUTGOING`: what this machine sends is not received. Linux 4.20. */
  ignoreOutgoing: flag("PACKET_IGNORE_OUTGOING", SOL_PACKET, PACKET_IGNORE_OUTGOING),
  /**
   * `PACKET_ORIGDEV`: the sender's address tells the interface that the packet came in on, rather than
   * the one on top of it (a bond) that the socket is bound to.
   */
  originalDevice: flag("PACKET_ORIGDEV", SOL_PACKET, PACKET_ORIGDEV),
  /** `PACKET_QDISC_BYPASS`: what is sent goes to the driver at once, past the queue. */
  bypassQdisc: flag("PACKET_QDISC_BYPASS", SOL_PACKET, PACKET_QDISC_BYPASS),
  /**
   * `PACKET_TIMESTAMP`: whose clock the times of a ring are of, `SOF_TIMESTAMPING_` bits: 0 or
   * `SOF_TIMESTAMPING_SOFTWARE` the system's, `SOF_TIMESTAMPING_RAW_HARDWARE` the device's, where it
   * has one that is switched on.
   */
  timestampSource: option("PACKET_TIMESTAMP", SOL_PACKET, PACKET_TIMESTAMP, integer(0, INT_MAX)),
});
