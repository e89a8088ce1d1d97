import { expect } from "bun:test";
import { SYSTEM_CALLS } from "../../lib/ffi/system_call.ts";
import { requires, testIf } from "../support/require.ts";
import { compileErrors, proof, type Subject } from "./facts.ts";

const HEADER = "sys/syscall.h";

function subject(numbers: Readonly<Record<string, number>>): Subject {
  const facts = Object.entries(numbers).map(([name, value]) => ({
    expression: `SYS_${name}`,
    value,
  }));
  return { name: HEADER, file: "", header: HEADER, facts, struct: undefined };
}

for (const [architecture, compiler] of [
  ["x64", "x86_64-linux-gnu-gcc"],
  ["arm64", "aarch64-linux-gnu-gcc"],
] as const) {
  const withGcc = testIf(requires(compiler));

  withGcc(`the numbers of system calls are as <${HEADER}> says on ${architecture}`, () => {
    expect(compileErrors(compiler, proof(subject(SYSTEM_CALLS[architecture])))).toBe("");
  });

  withGcc(`the proof for ${architecture} refuses a wrong number`, () => {
    const errors = compileErrors(compiler, proof(subject({ renameat2: 1 })));
    expect(errors).toContain("SYS_renameat2 is not 1");
  });
}
