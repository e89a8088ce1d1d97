import { cc } from "bun:ffi";
import { expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as structs from "../../structs/index.ts";
import { be16, be32, bytes, i16, i32, nested, struct, u16, u32 } from "../../structs/layout.ts";
import { msghdr } from "../../structs/msghdr.ts";
import { type Missing, requires, testIf } from "../support/require.ts";
import {
  compileErrors,
  declarationFiles,
  type Fact,
  preamble,
  proof,
  structSubject,
  subjects,
} from "./facts.ts";

const withHeaders = testIf(missingHeaders());
const withGcc = testIf(requires("gcc"));

for (const { name, header, facts } of subjects) {
  withHeaders(`${name} is as this machine's <${header}> says`, () => {
    expect(measure(header, facts)).toEqual(claimed(facts));
  });
}

for (const subject of subjects.filter((each) => each.struct)) {
  withGcc(`${subject.name} declares every member`, () => {
    expect(compileErrors("gcc", proof(subject))).toBe("");
  });
}

withGcc("the proof refuses a forgotten member whose place looks like padding", () => {
  const declared = struct("sockaddr_in", "netinet/in.h", {
    sin_family: u16,
    sin_addr: be32,
    sin_zero: bytes(8),
  });
  const errors = compileErrors("gcc", proof(structSubject("", declared)));
  expect(errors).toContain("missing initializer for field 'sin_zero' of 'struct sockaddr_in'");
});

test.each(declarationFiles)("structs/%s is proved, and exported by the index", async (file) => {
  const proved = subjects.filter((subject) => subject.file === file);
  expect(proved.flatMap((subject) => subject.facts)).not.toBeEmpty();
  const exported: object = await import(`../../structs/${file}`);
  expect(structs).toMatchObject(exported);
});

test.each(subjects)("$name has its file's name", ({ file, header, struct: declared }) => {
  const expected = declared
    ? `${declared.tag}.ts`
    : `constants/${header.replace(/\.h$/, "").replaceAll("/", "_")}.ts`;
  expect(file).toBe(expected);
});

// Declarations that are wrong on purpose: the proof is worth what it refuses.
const wrong: readonly [what: string, declared: structs.StructInfo, fact: string][] = [
  [
    "a nested struct that lost its padding",
    struct("mmsghdr", "sys/socket.h", { msg_hdr: bytes(52), msg_len: u32 }),
    "sizeof(struct mmsghdr)",
  ],
  [
    "members in the wrong order",
    struct("pollfd", "poll.h", { events: i16, revents: i16, fd: u32 }),
    "offsetof(struct pollfd, fd)",
  ],
  [
    "members left out of a hole",
    struct("sockaddr_ll", "linux/if_packet.h", {
      sll_family: u16,
      sll_protocol: be16,
      sll_ifindex: i32,
      sll_hatype: u16,
      sll_addr: bytes(8, 4),
    }),
    "(offsetof(struct sockaddr_ll, sll_addr) - (offsetof(struct sockaddr_ll, sll_hatype) + " +
      "sizeof(((struct sockaddr_ll *)0)->sll_hatype)) < " +
      "__alignof__(((struct sockaddr_ll *)0)->sll_addr))",
  ],
  [
    "a member left out at the end",
    struct("mmsghdr", "sys/socket.h", { msg_hdr: nested(msghdr) }),
    "sizeof(struct mmsghdr)",
  ],
];

for (const [what, declared, fact] of wrong) {
  withHeaders(`the proof refuses ${what}`, () => {
    const { header, facts } = structSubject("", declared);
    const measured = measure(header, facts);
    const refused = facts.filter(({ expression, value }) => measured[expression] !== value);
    expect(refused.map(({ expression }) => expression)).toContain(fact);
  });
}

withHeaders("the proof refuses a wrong sign and a wrong constant", () => {
  const declared = struct("pollfd", "poll.h", { fd: u32, events: i16, revents: i16 });
  const { facts } = structSubject("", declared);
  expect(measure("poll.h", facts)).not.toEqual(claimed(facts));
  expect(measure("poll.h", [{ expression: "POLLRDHUP", value: 0x1000 }])).toEqual({
    POLLRDHUP: 0x2000,
  });
});

withHeaders("the proof refuses a member and a constant that C does not have", () => {
  const flat = struct("mmsghdr", "sys/socket.h", { msg_name: structs.usize, msg_len: u32 });
  expect(() => measure("sys/socket.h", structSubject("", flat).facts)).toThrow("msg_name");
  expect(() => measure("errno.h", [{ expression: "ENOSUCHNAME", value: 1 }])).toThrow(
    "ENOSUCHNAME",
  );
});

function claimed(facts: readonly Fact[]): Record<string, number> {
  return Object.fromEntries(facts.map(({ expression, value }) => [expression, value]));
}

// What the compiler says of each expression.
function measure(header: string, facts: readonly Fact[]): Record<string, number> {
  const values = facts.map(({ expression }) => `(long long)(${expression}),`);
  const source = `${preamble(header)}
static const long long values[] = {\n${values.join("\n")}\n};
long long value(int index) { return values[index]; }`;
  return compile(source, (value) =>
    Object.fromEntries(
      facts.map(({ expression }, index) => [expression, Number(value(index))] as const),
    ),
  );
}

function compile<Result>(source: string, use: (value: (index: number) => bigint) => Result) {
  const folder = mkdtempSync(join(tmpdir(), "facts-"));
  try {
    const file = join(folder, "facts.c");
    writeFileSync(file, source);
    const library = cc({ source: file, symbols: { value: { args: ["i32"], returns: "i64" } } });
    try {
      return use(library.symbols.value);
    } finally {
      library.close();
    }
  } finally {
    rmSync(folder, { recursive: true });
  }
}

function missingHeaders(): Missing {
  try {
    measure("errno.h", [{ expression: "1", value: 1 }]);
    return undefined;
  } catch {
    return "needs a C library's headers for cc()";
  }
}
