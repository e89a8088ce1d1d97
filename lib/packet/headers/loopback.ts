import { ETH_P_IP, ETH_P_IPV6 } from "../../../structs/constants/linux_if_ether.ts";
import { fits, Header, write32 } from "./header.ts";

const BYTES = 4;

// AF_INET is 2 everywhere, AF_INET6 what BSDs, macOS and Linux have made it.
const IPV4 = 2;
const IPV6: readonly number[] = [24, 28, 30, 10];

/**
 * The header of a BSD loopback capture, link types `null` and `loop`: 4 bytes, an address family.
 * That of `null` is in the byte order of the machine that captured, so that both are understood.
 *
 * @see {@link https://www.tcpdump.org/linktypes/LINKTYPE_NULL.html | LINKTYPE_NULL}
 * @see {@link https://www.tcpdump.org/linktypes/LINKTYPE_LOOP.html | LINKTYPE_LOOP}
 *
 * @example
 * ```ts
 * import { LoopbackHeader } from "bun-sockets/packet";
 *
 * const loopback = new LoopbackHeader(Buffer.from("1e000000", "hex"));
 * if (loopback.at(0)) console.log(loopback.family, loopback.etherType.toString(16)); // 30 86dd
 * ```
 */
export class LoopbackHeader extends Header {
  /** Moves to a header. True: 4 bytes are there. */
  override at(offset: number, end: number = this.limit): boolean {
    if (!fits(offset, end, BYTES, this.limit)) {
      this.leave();
      return false;
    }
    this.view = this.whole;
    this.start = offset;
    this.stop = end;
    return true;
  }

  /** 4. */
  override get headerBytes(): number {
    return BYTES;
  }

  /** Where what was captured begins. */
  override get payloadOffset(): number {
    return Math.min(this.start + BYTES, this.stop);
  }

  /** The address family, in whichever byte order it is small; set in network byte order. */
  get family(): number {
    const value = this.view.getUint32(this.start);
    return value > 0xffff ? this.view.getUint32(this.start, true) : value;
  }

  set family(value: number) {
    write32(this.view, this.start, value, "a family");
  }

  /** What was captured, as an EtherType: `ETH_P_IP`, `ETH_P_IPV6`; 0 for other families. */
  get etherType(): number {
    const { family } = this;
    if (family === IPV4) return ETH_P_IP;
    return IPV6.includes(family) ? ETH_P_IPV6 : 0;
  }
}
