/** A frame with what is known of it: what a capture file takes and gives, and a ring shows. */
export interface Packet {
  /** The frame, from its link-layer header on: as much of it as was captured. */
  readonly bytes: Uint8Array;
  /** How long it was, in bytes. Default: as long as `bytes`. */
  readonly originalLength?: number | undefined;
  /** When it was captured: seconds since 1970. Default 0. */
  readonly seconds?: number | undefined;
  /** And nanoseconds, 0 to 999,999,999. Default 0. */
  readonly nanoseconds?: number | undefined;
  /** The VLAN tag that the kernel or the device has taken out of it: the TCI, 16 bits. */
  readonly vlan?: number | undefined;
  /** The protocol of that tag, `ETH_P_8021Q` (default) or `ETH_P_8021AD`. */
  readonly vlanProtocol?: number | undefined;
  /** The interface: its number in a capture file, its index at a ring. */
  readonly interface?: number | undefined;
  /** What a capture file says of it. */
  readonly comment?: string | undefined;
}
