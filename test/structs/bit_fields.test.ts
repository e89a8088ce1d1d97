/**
 * Where bit-fields lie, which C tells neither as an offset nor as a size: each compiler is asked to
 * lay out structs in which one of them is all ones, and what it writes is compared with what ours
 * write.
 *
 * @module
 */
import { expect } from "bun:test";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  be16,
  be32,
  bitField,
  type Member,
  type StructInfo,
  struct,
  u8,
  u16,
} from "../../structs/layout.ts";
import { requires, testIf } from "../support/require.ts";
import { preamble, subjects } from "./facts.ts";

// Aligned, so that no padding follows it.
const MARK = "here the structs begin".padEnd(32, ".");
const NATIVE = "gcc";
const ARM64 = "aarch64-linux-gnu-gcc";

const declared = subjects
  .map((subject) => subject.struct)
  .filter((each) => each !== undefined)
  .filter(({ members }) => members.some(({ bits }) => bits));

for (const compiler of [NATIVE, ARM64]) {
  const withCompiler = testIf(requires(compiler));
  for (const each of declared) {
    withCompiler(`the bit-fields of struct ${each.tag} are where ${compiler} has them`, () => {
      expect(ours(each)).toEqual(theirs(compiler, each));
    });
  }

  const wrong = struct("iphdr", "linux/ip.h", {
    version: bitField(u8, 0, 4),
    ihl: bitField(u8, 4, 4),
    tos: u8,
    tot_len: be16,
    id: be16,
    frag_off: be16,
    ttl: u8,
    protocol: u8,
    check: be16,
    saddr: be32,
    daddr: be32,
  });
  withCompiler(`${compiler} refuses bit-fields that have changed places`, () => {
    expect(ours(wrong)).not.toEqual(theirs(compiler, wrong));
  });
}

testIf(undefined)("bitField() leaves the other bits of its unit alone", () => {
  const two = struct("two", "", { low: bitField(u16, 0, 5), high: bitField(u16, 5, 11) });
  expect(two.size).toBe(2);
  const view = new DataView(new ArrayBuffer(4));
  two.high.set(view, 1, 0xffff);
  expect([...new Uint8Array(view.buffer)]).toEqual([0, 0xe0, 0xff, 0]);
  two.low.set(view, 1, 0x15);
  two.high.set(view, 1, 0x2aa);
  expect([two.low.get(view, 1), two.high.get(view, 1)]).toEqual([0x15, 0x2aa]);
});

function bitFieldsOf({ members }: StructInfo): string[] {
  return members.filter(({ bits }) => bits).map(({ name }) => name);
}

// The bytes of the struct, by the bit-field that is all ones in it.
function ours(each: StructInfo): Record<string, string> {
  const members = each as unknown as Record<string, Member<number>>;
  return Object.fromEntries(
    bitFieldsOf(each).map((name) => {
      const bytes = Buffer.alloc(each.size);
      members[name]?.set(new DataView(bytes.buffer, bytes.byteOffset, bytes.length), 0, -1);
      return [name, bytes.toString("hex")];
    }),
  );
}

// The same as a compiler lays it out in an object file, which need not run here.
function theirs(compiler: string, each: StructInfo): Record<string, string> {
  const names = bitFieldsOf(each);
  const values = names.map((name) => `{ .${name} = -1 },`).join(" ");
  const source = `${preamble(each.header)}
struct { char mark[${MARK.length}]; struct ${each.tag} values[${names.length}]; }
probe __attribute__((used)) = { "${MARK}", { ${values} } };`;
  const folder = mkdtempSync(join(tmpdir(), "bit-fields-"));
  try {
    const file = join(folder, "probe.c");
    writeFileSync(file, source);
    const command = [compiler, "-w", "-c", file, "-o", join(folder, "probe.o")];
    const { exitCode, stderr } = Bun.spawnSync(command, { stderr: "pipe" });
    expect(exitCode, stderr.toString()).toBe(0);
    const object = readFileSync(join(folder, "probe.o"));
    const start = object.indexOf(MARK) + MARK.length;
    expect(start).toBeGreaterThan(MARK.length);
    return Object.fromEntries(
      names.map((name, i) => {
        const at = start + i * each.size;
        return [name, object.toString("hex", at, at + each.size)];
      }),
    );
  } finally {
    rmSync(folder, { recursive: true });
  }
}
