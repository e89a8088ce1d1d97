/**
 * What the kernel counts of packet sockets, kept over the reads that clear it there.
 *
 * @module
 */
import {
  PACKET_ROLLOVER_STATS,
  PACKET_STATISTICS,
} from "../../../structs/constants/linux_if_packet.ts";
import { SOL_PACKET } from "../../../structs/constants/sys_socket.ts";
import { tpacket_rollover_stats } from "../../../structs/tpacket_rollover_stats.ts";
import { tpacket_stats_v3 } from "../../../structs/tpacket_stats_v3.ts";
import { check } from "../../error.ts";
import { getsockopt } from "../../sys/socket.ts";
import type { PacketStatistics, RolloverStatistics } from "../packet_socket.ts";

// Filled by one call and read in it.
const answer = new DataView(new ArrayBuffer(tpacket_stats_v3.size));
const rollover = new DataView(new ArrayBuffer(tpacket_rollover_stats.size));
const length = new Uint32Array(new ArrayBuffer(4));

/** The counts of one open socket, since it was opened. */
export class StatisticsCounter {
  #packets = 0;
  #drops = 0;
  #freezes = 0;

  /**
   * PACKET_STATISTICS, which is 0 again afterwards; added to what was read before.
   *
   * @throws {SystemError} the socket is closed
   */
  read(fd: number): PacketStatistics {
    // A socket without a ring of version 3 tells the first two only.
    tpacket_stats_v3.tp_freeze_q_cnt.set(answer, 0, 0);
    check(getsockopt(fd, SOL_PACKET, PACKET_STATISTICS, answer, length), "getsockopt", {
      option: "PACKET_STATISTICS",
    });
    this.#packets += tpacket_stats_v3.tp_packets.get(answer, 0);
    this.#drops += tpacket_stats_v3.tp_drops.get(answer, 0);
    this.#freezes += tpacket_stats_v3.tp_freeze_q_cnt.get(answer, 0);
    return { packets: this.#packets, drops: this.#drops, freezes: this.#freezes };
  }
}

/** PACKET_ROLLOVER_STATS, which the kernel keeps. */
export function readRollover(fd: number): RolloverStatistics {
  const option = "PACKET_ROLLOVER_STATS";
  check(getsockopt(fd, SOL_PACKET, PACKET_ROLLOVER_STATS, rollover, length), "getsockopt", {
    option,
  });
  return {
    passed: tpacket_rollover_stats.tp_all.get(rollover, 0),
    passedOfBusyFlow: tpacket_rollover_stats.tp_huge.get(rollover, 0),
    failed: tpacket_rollover_stats.tp_failed.get(rollover, 0),
  };
}
