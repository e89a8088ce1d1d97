// Reads capture files as they are written on this machine, with nothing of ours: what bench/capture.ts
// believes about a file that somebody has written.

/** The frames of a file, and the sum of the first and the last byte of each. */
export interface Found {
  readonly frames: number;
  readonly bytes: number;
  readonly sum: number;
}

const PCAP_US = 0xa1b2c3d4;
const PCAP_NS = 0xa1b23c4d;
const SECTION = 0x0a0d0d0a;
const INTERFACE = 1;
const ENHANCED_PACKET = 6;

/** Reads a file in memory. Throws unless it is whole, of this byte order and of this link type. */
export function readCapture(file: Uint8Array, linkType: number): Found {
  const view = new DataView(file.buffer, file.byteOffset, file.length);
  const magic = view.getUint32(0, true);
  const frames = magic === SECTION ? framesOfPcapng(view, linkType) : framesOfPcap(view, linkType);
  let count = 0;
  let bytes = 0;
  let sum = 0;
  for (const [at, length] of frames) {
    sum += view.getUint8(at) + view.getUint8(at + length - 1);
    bytes += length;
    count++;
  }
  return { frames: count, bytes, sum };
}

function* framesOfPcap(view: DataView, linkType: number): Generator<[at: number, length: number]> {
  const magic = view.getUint32(0, true);
  if (magic !== PCAP_US && magic !== PCAP_NS) throw new Error("no capture file of this machine");
  if (view.getUint32(20, true) !== linkType) throw new Error("another link type");
  let at = 24;
  while (at < view.byteLength) {
    const length = view.getUint32(at + 8, true);
    yield [at + 16, length];
    at += 16 + length;
  }
  if (at !== view.byteLength) throw new Error("the last packet is cut off");
}

function* framesOfPcapng(
  view: DataView,
  linkType: number,
): Generator<[at: number, length: number]> {
  let at = 0;
  while (at < view.byteLength) {
    const type = view.getUint32(at, true);
    const blockBytes = view.getUint32(at + 4, true);
    if (view.getUint32(at + blockBytes - 4, true) !== blockBytes) throw new Error("a broken block");
    if (type === INTERFACE && view.getUint16(at + 8, true) !== linkType)
      throw new Error("another link type");
    if (type === ENHANCED_PACKET) yield [at + 28, view.getUint32(at + 20, true)];
    at += blockBytes;
  }
}
