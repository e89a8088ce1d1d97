/** What packet sockets tell beside a packet, as control messages: PACKET_AUXDATA. */
import { describe, expect, test } from "bun:test";
import { ControlReader, ControlWriter, decodeControl } from "bun-sockets";
import {
  ETH_P_8021AD,
  ETH_P_8021Q,
  PACKET_AUXDATA,
  SOL_PACKET,
  TP_STATUS_CSUM_VALID,
  TP_STATUS_CSUMNOTREADY,
  TP_STATUS_USER,
  TP_STATUS_VLAN_TPID_VALID,
  TP_STATUS_VLAN_VALID,
} from "bun-sockets/sys";
import { tpacket_auxdata } from "../../structs/tpacket_auxdata.ts";

const TAGGED = TP_STATUS_USER | TP_STATUS_VLAN_VALID | TP_STATUS_VLAN_TPID_VALID;

/** A control message as the kernel writes it. */
function control(status: number, { vlan = 0, vlanProtocol = 0, bytes = 20 } = {}): Uint8Array {
  const data = new DataView(new ArrayBuffer(tpacket_auxdata.size));
  tpacket_auxdata.tp_status.set(data, 0, status);
  tpacket_auxdata.tp_len.set(data, 0, 1514);
  tpacket_auxdata.tp_snaplen.set(data, 0, 96);
  tpacket_auxdata.tp_mac.set(data, 0, 7);
  tpacket_auxdata.tp_net.set(data, 0, 14);
  tpacket_auxdata.tp_vlan_tci.set(data, 0, vlan);
  tpacket_auxdata.tp_vlan_tpid.set(data, 0, vlanProtocol);
  const writer = new ControlWriter(new Uint8Array(64));
  writer.add(SOL_PACKET, PACKET_AUXDATA, new Uint8Array(data.buffer, 0, bytes));
  return writer.bytes;
}

describe("decodeControl() of auxiliary data", () => {
  test("tells all of it", () => {
    const [message] = decodeControl(control(TAGGED, { vlan: 0xe02a, vlanProtocol: ETH_P_8021AD }));
    expect(message).toEqual({
      kind: "auxiliaryData",
      status: TAGGED,
      originalLength: 1514,
      capturedLength: 96,
      networkOffset: 14,
      vlan: 0xe02a,
      vlanProtocol: ETH_P_8021AD,
      checksum: "unknown",
    });
  });

  test("tells no tag where there is none, whatever stands in its place", () => {
    const bytes = control(TP_STATUS_USER, { vlan: 5, vlanProtocol: ETH_P_8021Q });
    expect(decodeControl(bytes)).toMatchObject([{ vlan: undefined, vlanProtocol: undefined }]);
  });

  test("tells tag 0, and takes 802.1Q where the kernel says no protocol", () => {
    const bytes = control(TP_STATUS_USER | TP_STATUS_VLAN_VALID, { vlan: 0, vlanProtocol: 9 });
    expect(decodeControl(bytes)).toMatchObject([{ vlan: 0, vlanProtocol: ETH_P_8021Q }]);
  });

  test.each([
    [TP_STATUS_USER, "unknown"],
    [TP_STATUS_CSUM_VALID, "valid"],
    [TP_STATUS_CSUMNOTREADY, "unfinished"],
    [TP_STATUS_CSUMNOTREADY | TP_STATUS_CSUM_VALID, "unfinished"],
    [0x8000_0000, "unknown"],
  ] as const)("reads of status %d the checksum as %s", (status, checksum) => {
    expect(decodeControl(control(status))).toMatchObject([{ status, checksum }]);
  });

  test("is unknown where it is too short, or of another level", () => {
    expect(decodeControl(control(TAGGED, { bytes: 19 }))).toMatchObject([
      { kind: "unknown", level: SOL_PACKET, type: PACKET_AUXDATA },
    ]);
    const writer = new ControlWriter(new Uint8Array(64));
    writer.add(SOL_PACKET, PACKET_AUXDATA + 1, new Uint8Array(20));
    expect(decodeControl(writer.bytes)).toMatchObject([{ kind: "unknown" }]);
  });
});

describe("ControlReader of auxiliary data", () => {
  test("reads it without an object", () => {
    const bytes = control(TAGGED | TP_STATUS_CSUM_VALID, { vlan: 42, vlanProtocol: ETH_P_8021Q });
    const reader = new ControlReader(bytes);
    const read = () => [
      reader.kind,
      reader.packetStatus,
      reader.originalLength,
      reader.vlan,
      reader.vlanProtocol,
      reader.checksum,
    ];
    expect(read()).toEqual(["unknown", -1, -1, -1, -1, "unknown"]);
    expect(reader.next()).toBe(true);
    expect(read()).toEqual([
      "auxiliaryData",
      TAGGED | TP_STATUS_CSUM_VALID,
      1514,
      42,
      ETH_P_8021Q,
      "valid",
    ]);
    reader.reset(control(TP_STATUS_USER, { vlan: 42, vlanProtocol: ETH_P_8021Q }));
    reader.next();
    expect(read()).toEqual(["auxiliaryData", TP_STATUS_USER, 1514, -1, -1, "unknown"]);
  });
});
