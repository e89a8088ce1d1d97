/**
 * Capture files and the programs of others: they say of ours what we say, and we of theirs what they
 * do.
 *
 * @module
 */
import { afterAll, describe, expect } from "bun:test";
import { writeFileSync } from "node:fs";
import { CaptureFile, type CaptureWriterOptions, type Packet } from "bun-sockets/packet";
import { Folder, pcapHeader, randomNumbers, Section } from "../support/capture_bytes.ts";
import { requires, testIf } from "../support/require.ts";

const folder = new Folder();
afterAll(() => folder[Symbol.dispose]());
let files = 0;
const fresh = (suffix: string) => folder.file(`${files++}.${suffix}`);
const TIMEOUT_MS = 60_000;

function run(...command: string[]): string {
  const { stdout, stderr, exitCode } = Bun.spawnSync(command, {
    env: { ...process.env, TZ: "UTC" },
  });
  expect(exitCode, `${command.join(" ")}: ${stderr}`).toBe(0);
  return stdout.toString();
}

/** What tshark says of the packets: of each number, time, lengths, interface and comment. */
function tsharkRows(path: string, ...fields: string[]): string[][] {
  const names = ["number", "time_epoch", "len", "cap_len", ...fields];
  const columns = names.flatMap((name) => ["-e", `frame.${name}`]);
  const text = run("tshark", "-n", "-r", path, "-T", "fields", "-E", "separator=/t", ...columns);
  return text
    .split("\n")
    .slice(0, -1)
    .map((line) => line.split("\t"));
}

function time({ seconds = 0, nanoseconds = 0 }: Packet): string {
  return `${seconds}.${String(nanoseconds).padStart(9, "0")}`;
}

/** What capinfos says, by its own names of it. */
function capinfos(path: string): Record<string, string> {
  const [names = "", values = ""] = run("capinfos", "-T", "-M", path).split("\n");
  const list = values.split("\t");
  return Object.fromEntries(names.split("\t").map((name, i) => [name, list[i] ?? ""]));
}

function somePackets(count: number): Packet[] {
  const random = randomNumbers(count);
  const below = (limit: number) => Math.floor(random() * limit);
  return Array.from({ length: count }, (_, i) => {
    // tcpdump prints no time of an empty packet.
    const length = 1 + (random() < 0.02 ? below(60_000) : below(1600));
    return {
      bytes: new Uint8Array(length).fill(below(256)),
      originalLength: length + (random() < 0.5 ? 0 : below(3000)),
      // tcpdump and tshark take a time for one of before 1970 from 2^31 on.
      seconds: below(2 ** 31),
      nanoseconds: below(1e9),
      comment: i % 50 === 0 ? `number ${i}` : undefined,
      interface: i % 3,
    };
  });
}

const kinds = (["pcapng", "pcap"] as const).flatMap((format) =>
  (["little", "big"] as const).flatMap((byteOrder) =>
    (["ns", "us"] as const).map((resolution) => ({ format, byteOrder, resolution })),
  ),
);

describe("CaptureWriter", () => {
  for (const kind of kinds) {
    const { format, byteOrder, resolution } = kind;
    testIf(requires("tshark", "capinfos", "tcpdump"))(
      `tshark, capinfos and tcpdump say of ${format}, ${byteOrder} endian, in ${resolution} what was written`,
      () => {
        const packets = somePackets(3000);
        const path = fresh(format);
        const options: CaptureWriterOptions = {
          ...kind,
          application: "bun-sockets",
          hardware: "a machine",
          os: "Linux",
          comment: "all of it",
          interfaces: ["zero", "one", "two"].map((name) => ({ name })),
        };
        using file = CaptureFile.create(path, format === "pcap" ? kind : options);
        for (const packet of packets) file.write(packet);
        file.writeStatistics({ packets: 5, drops: 2 });
        file.close();

        const unit = resolution === "ns" ? 1 : 1000;
        const cut = (packet: Packet) => ({
          ...packet,
          nanoseconds: Math.floor((packet.nanoseconds ?? 0) / unit) * unit,
        });
        const isNg = format === "pcapng";
        const expected = packets.map((packet, i) => [
          `${i + 1}`,
          time(cut(packet)),
          `${packet.originalLength}`,
          `${packet.bytes.length}`,
          isNg ? `${packet.interface}` : "0",
          isNg ? ["zero", "one", "two"][packet.interface as number] : "",
          isNg ? (packet.comment ?? "") : "",
        ]);
        const rows = tsharkRows(path, "interface_id", "interface_name", "comment");
        expect(rows.map((row) => (isNg ? row : [...row.slice(0, 4), "0", "", ""]))).toEqual(
          expected as string[][],
        );

        const bytes = packets.reduce((sum, { originalLength = 0 }) => sum + originalLength, 0);
        const said = capinfos(path);
        expect(said).toMatchObject({
          "Number of packets": "3000",
          "File size (bytes)": `${file.byteLength}`,
          "Data size (bytes)": `${bytes}`,
          "File encapsulation": "ether",
          "File time precision": resolution === "ns" ? "nanoseconds" : "microseconds",
        });
        if (isNg)
          expect(said).toMatchObject({
            "Capture application": "bun-sockets",
            "Capture hardware": "a machine",
            "Capture oper-sys": "Linux",
            "Capture comment": "all of it",
          });
        // One line for a packet, none for what could not be read.
        const lines = run("tcpdump", "-nr", path, "-q", "-tt", "--time-stamp-precision=nano");
        const stamps = [...lines.matchAll(/^(\d+\.\d{9}) /gm)].map(([, stamp]) => stamp);
        expect(stamps).toEqual(expected.map(([, stamp]) => stamp));
      },
      TIMEOUT_MS,
    );
  }

  testIf(requires("tshark", "capinfos"))(
    "tshark reads appended sections, and capinfos the interfaces and their statistics",
    () => {
      const path = fresh("pcapng");
      const bytes = new Uint8Array(40);
      for (const name of ["one", "two"]) {
        using file = CaptureFile.append(path, {
          byteOrder: name === "one" ? "big" : "little",
          interfaces: [
            { name, description: `the ${name}`, filter: "udp", speed: 1e9, os: "Linux" },
          ],
        });
        file.write({ bytes, seconds: 5, comment: name });
        file.writeStatistics({ packets: 7, drops: 2, time: { seconds: 6 } });
      }
      // It looks for names of interfaces in the first section only, so it is not asked for them.
      expect(tsharkRows(path, "comment")).toEqual([
        ["1", "5.000000000", "40", "40", "one"],
        ["2", "5.000000000", "40", "40", "two"],
      ]);
      const text = run("capinfos", path);
      for (const line of [
        "Number of interfaces in file: 2",
        "Name = one",
        "Description = the two",
        "Filter string = udp",
        "Operating system = Linux",
        "Speed = 1000000000",
        "Time precision = nanoseconds (9)",
      ])
        expect(text).toContain(line);
      // And it counts those of all sections for the first one: of one section it tells them apart.
      const single = fresh("pcapng");
      {
        using file = CaptureFile.create(single, { interfaces: [{ name: "one" }, { name: "two" }] });
        for (const number of [0, 1, 1]) file.write({ bytes, interface: number });
        for (const number of [0, 0, 1]) file.writeStatistics({ packets: 1 }, number);
      }
      const counts = run("capinfos", single).match(/(?<=Number of (stat entries|packets) = )\d+/g);
      expect(counts).toEqual(["2", "1", "1", "2"]);
    },
    TIMEOUT_MS,
  );

  testIf(requires("tshark"))(
    "tshark sees the VLAN tag that was put back, flags, and what was lost",
    () => {
      const path = fresh("pcapng");
      using file = CaptureFile.create(path);
      const frame = Buffer.from(
        "0202020202020404040404040800450000140000000040110000c0a80001c0a80002",
        "hex",
      );
      file.write({ bytes: frame, vlan: 0x6064 });
      file.write({ bytes: frame, vlan: 7, vlanProtocol: 0x88a8, flags: 2, dropCount: 12 });
      file.close();
      const fields = [
        "vlan.id",
        "vlan.priority",
        "ieee8021ad.id",
        "frame.len",
        "ip.src",
        "frame.packet_flags_direction",
        "frame.drop_count",
      ];
      const text = run(
        "tshark",
        "-n",
        "-r",
        path,
        "-T",
        "fields",
        ...fields.flatMap((name) => ["-e", name]),
      );
      expect(text).toBe("100\t3\t\t38\t192.168.0.1\t\t\n\t\t7\t38\t192.168.0.1\t0x00000002\t12\n");
    },
    TIMEOUT_MS,
  );
});

describe("CaptureReader", () => {
  const strip = ({ bytes, originalLength, seconds, nanoseconds }: Packet) => ({
    bytes: Buffer.from(bytes).toString("hex"),
    originalLength,
    seconds,
    nanoseconds,
  });

  // The formats of editcap that are one of these two.
  for (const [format, unit, expected] of [
    ["pcapng", 1, { format: "pcapng" }],
    ["nsecpcap", 1, { format: "pcap", isModified: false }],
    ["pcap", 1000, { format: "pcap", isModified: false }],
    ["modpcap", 1000, { format: "pcap", isModified: true }],
  ] as const)
    testIf(requires("editcap"))(
      `reads what editcap writes as ${format}`,
      () => {
        const packets = somePackets(2000);
        const ours = fresh("pcapng");
        using file = CaptureFile.create(ours, { linkType: "ethernet" });
        for (const packet of packets) file.write({ ...packet, interface: undefined });
        file.close();
        const theirs = fresh("x");
        run("editcap", "-F", format, ours, theirs);
        const reader = CaptureFile.open(theirs);
        expect(reader).toMatchObject({ ...expected, linkType: 1 });
        const read = [...reader];
        expect(read.map(strip)).toEqual(
          packets.map(strip).map((packet) => ({
            ...packet,
            nanoseconds: Math.floor((packet.nanoseconds as number) / unit) * unit,
          })),
        );
        if (format === "pcapng")
          expect(read.map(({ comment }) => comment)).toEqual(packets.map(({ comment }) => comment));
      },
      TIMEOUT_MS,
    );

  testIf(requires("mergecap", "editcap"))(
    "reads what mergecap writes, of files with other link types and interfaces",
    () => {
      const [one, two, merged] = [fresh("pcapng"), fresh("pcap"), fresh("pcapng")] as const;
      {
        using first = CaptureFile.create(one, {
          interfaces: [{ name: "a", linkType: "raw" }, { name: "b" }],
        });
        for (let i = 0; i < 50; i++)
          first.write({ bytes: new Uint8Array(i), seconds: 2 * i, interface: i % 2 });
        using second = CaptureFile.create(two, { linkType: "linux_sll" });
        for (let i = 0; i < 50; i++) second.write({ bytes: new Uint8Array(i), seconds: 2 * i + 1 });
      }
      run("mergecap", "-w", merged, one, two);
      const reader = CaptureFile.open(merged);
      const packets = [...reader];
      expect(packets.map(({ seconds }) => seconds)).toEqual(
        Array.from({ length: 100 }, (_, i) => i),
      );
      expect(packets.map(({ linkType }) => linkType)).toEqual(
        packets.map((_, i) => (i % 2 === 1 ? 113 : i % 4 === 0 ? 101 : 1)),
      );
      expect(reader.interfaces.map(({ name }) => name)).toEqual(["a", "b", undefined]);
      expect(reader.sections[0]?.application).toStartWith("Mergecap");
    },
    TIMEOUT_MS,
  );

  testIf(requires("tcpdump"))(
    "reads what tcpdump writes, in both resolutions",
    () => {
      const ours = fresh("pcapng");
      const packets = somePackets(2000);
      using file = CaptureFile.create(ours, { linkType: "raw" });
      for (const packet of packets)
        file.write({ ...packet, interface: undefined, comment: undefined });
      file.close();
      for (const [precision, unit] of [
        ["nano", 1],
        ["micro", 1000],
      ] as const) {
        const theirs = fresh("pcap");
        run("tcpdump", "-r", ours, `--time-stamp-precision=${precision}`, "-w", theirs);
        expect([...CaptureFile.open(theirs)].map(strip)).toEqual(
          packets.map(strip).map((packet) => ({
            ...packet,
            nanoseconds: Math.floor((packet.nanoseconds as number) / unit) * unit,
          })),
        );
      }
    },
    TIMEOUT_MS,
  );

  testIf(requires("tshark"))(
    "says the same as tshark of resolutions and offsets, old blocks, and sections in both byte orders",
    () => {
      const codes = [0, 1, 3, 6, 8, 9, 0x80, 0x8a, 0x94, 0x9e];
      const sections = (["little", "big"] as const).map((byteOrder) => {
        const section = new Section(byteOrder);
        for (const code of codes) section.interface(1, 0, [[9, new Uint8Array([code])]]);
        section.interface(1, 0, [[14, 1_000_000_000n]]);
        for (const [number, code] of [...codes, 6].entries()) {
          const unit = code & 0x80 ? 2n ** BigInt(code & 0x7f) : 10n ** BigInt(code);
          section.packet("x".repeat(20 + number), { number, time: 1_234_567n * unit + unit / 3n });
        }
        section.block(3, section.body().u32(15).padded("y".repeat(15)).bytes);
        section.block(2, section.body().u16(3, 0).u32(0, 5_000_001, 4, 9).padded("zzzz").bytes);
        return section.bytes;
      });
      const path = fresh("pcapng");
      writeFileSync(path, Buffer.concat(sections));
      const ours = [...CaptureFile.open(path)].map((packet, i) => [
        `${i + 1}`,
        packet.seconds === undefined ? "" : time(packet),
        `${packet.originalLength}`,
        `${packet.bytes.length}`,
      ]);
      const theirs = tsharkRows(path);
      expect(ours).toHaveLength(26);
      expect(ours).toEqual(theirs);
    },
    TIMEOUT_MS,
  );

  testIf(requires("tcpdump"))("and tcpdump agree on where a file is cut off", () => {
    const path = fresh("pcap");
    using file = CaptureFile.create(path, { linkType: "raw" });
    for (const packet of somePackets(20)) file.write(packet);
    file.close();
    const whole = Bun.file(path);
    const size = file.byteLength;
    for (const length of [
      pcapHeader().length,
      size - 1,
      Math.floor(size / 2),
      Math.floor(size / 3),
    ]) {
      const cut = fresh("pcap");
      writeFileSync(cut, new Uint8Array(0));
      run("sh", "-c", `head -c ${length} ${whole.name} > ${cut}`);
      let packets = 0;
      try {
        for (const _ of CaptureFile.open(cut)) packets++;
      } catch {}
      const { stdout } = Bun.spawnSync(["tcpdump", "-nqttr", cut]);
      expect(packets).toBe([...stdout.toString().matchAll(/^\d+\.\d{6} /gm)].length);
    }
  });
});
