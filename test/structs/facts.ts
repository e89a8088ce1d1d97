/**
 * What the declarations in structs/ claim about C, as C expressions and the values they should
 * have. Two tests ask two compilers whether they are true. Nothing is listed by hand: every file in
 * structs/ and structs/constants/ is read, so a new one is proved as soon as it exists.
 *
 * @module
 */
import { readdirSync } from "node:fs";
import { join } from "node:path";
import type { Member, StructInfo } from "../../structs/layout.ts";

/** One claim: `expression`, in C, is `value`. */
export interface Fact {
  readonly expression: string;
  readonly value: number;
}

/** What the claims of one struct, or of one file of constants, are about. */
export interface Subject {
  /** "struct mmsghdr", or "constants of sys/socket.h". */
  readonly name: string;
  /** Its file, relative to structs/. */
  readonly file: string;
  /** The header that must be enough to compile the expressions. */
  readonly header: string;
  readonly facts: readonly Fact[];
  /** The declaration, where it is a struct. */
  readonly struct: StructInfo | undefined;
}

/** The folder of the declarations. */
export const structsFolder: string = join(import.meta.dir, "../../structs");

// What the folders hold beside declarations.
const OTHER_FILES: readonly string[] = ["index.ts", "layout.ts", "constants/index.ts"];

/** The files of declarations, relative to structs/. */
export const declarationFiles: readonly string[] = ["", "constants/"]
  .flatMap((folder) => readdirSync(join(structsFolder, folder)).map((name) => folder + name))
  .filter((file) => file.endsWith(".ts") && !OTHER_FILES.includes(file))
  .sort();

/** Every struct and every file of constants, as this machine should have them. */
export const subjects: readonly Subject[] = await subjectsOn(process.arch);

/** Every struct and every file of constants, as an architecture should have them. */
export async function subjectsOn(architecture: string): Promise<readonly Subject[]> {
  return (await Promise.all(declarationFiles.map((file) => subjectsIn(file, architecture)))).flat();
}

async function subjectsIn(file: string, architecture: string): Promise<Subject[]> {
  const path = join(structsFolder, file);
  const exported: Record<string, unknown> = await import(path);
  if (file.startsWith("constants/")) {
    return [constantsSubject(file, await Bun.file(path).text(), exported)];
  }
  return Object.values(exported)
    .filter(isStruct)
    .map((declared) => structSubject(file, layoutOn(architecture, declared, exported)));
}

// A struct whose layout depends on the architecture has a function beside it that gives each of
// its layouts: epoll_event has epoll_eventOn.
function layoutOn(
  architecture: string,
  declared: StructInfo,
  exported: Record<string, unknown>,
): StructInfo {
  const layout = exported[`${declared.tag}On`];
  return layout instanceof Function ? layout(architecture) : declared;
}

function constantsSubject(file: string, text: string, exported: object): Subject {
  const header = /^\/\/ Constants of <([^>]+)>[,.]/.exec(text)?.[1];
  if (header === undefined)
    throw new Error(`${file} does not begin with "// Constants of <header>"`);
  const facts = Object.entries(exported).map(([expression, value]) => ({ expression, value }));
  return { name: `constants of ${header}`, file, header, facts, struct: undefined };
}

/** The claims of a struct: its size and alignment, and those of each member. */
export function structSubject(file: string, declared: StructInfo): Subject {
  const { tag, header, size, align, members } = declared;
  const name = `struct ${tag}`;
  const facts: Fact[] = [
    { expression: `sizeof(${name})`, value: size },
    { expression: `_Alignof(${name})`, value: align },
  ];
  let end = "0";
  for (const member of members) {
    // C tells neither offset nor size of a bit-field: bit_fields.test.ts asks it for the bits.
    if (member.bits) {
      end = `${member.offset + member.size}`;
      continue;
    }
    const value = `((${name} *)0)->${member.name}`;
    const offset = `offsetof(${name}, ${member.name})`;
    facts.push(
      { expression: offset, value: member.offset },
      { expression: `sizeof(${value})`, value: member.size },
      { expression: signedness(value), value: Number(isSigned(declared, member.name)) },
      // A hole is smaller than what the next member must be aligned to: nothing else fits there.
      { expression: `(${offset} - (${end}) < __alignof__(${value}))`, value: 1 },
    );
    end = `${offset} + sizeof(${value})`;
  }
  facts.push({ expression: `(sizeof(${name}) - (${end}) < _Alignof(${name}))`, value: 1 });
  return { name, file, header, facts, struct: declared };
}

// 1 for a signed integer; 0 for unsigned ones, pointers, arrays and structs.
function signedness(value: string): string {
  return `_Generic(${value}, signed char: 1, short: 1, int: 1, long: 1, long long: 1, default: 0)`;
}

function isSigned(declared: StructInfo, member: string): boolean {
  const { get } = (declared as unknown as Record<string, Member<unknown>>)[
    member
  ] as Member<unknown>;
  const value = get(new DataView(new Uint8Array(declared.size).fill(0xff).buffer), 0);
  return typeof value === "number" && value < 0;
}

function isStruct(value: unknown): value is StructInfo {
  return value instanceof Object && "tag" in value && "members" in value;
}

// Headers that use what they do not include, and where it is.
const MISSING_INCLUDES: Readonly<Record<string, string>> = {
  "linux/errqueue.h": "#include <time.h>\n",
  // FIONREAD is the value of SIOCINQ.
  "linux/sockios.h": "#include <sys/ioctl.h>\n",
};

// Members that are with the one before them in a struct without a name, which has one initializer.
const SHARED_INITIALIZERS: Readonly<Record<string, readonly string[]>> = {
  io_uring_sqe: ["__pad2"],
  iphdr: ["daddr"],
  ipv6hdr: ["daddr"],
};

// How many bit-fields follow a member: C does not tell where one lies.
const BIT_FIELDS: Readonly<Record<string, Readonly<Record<string, number>>>> = {
  tcp_info: { tcpi_options: 4 },
};

/** The lines that every C file about a header begins with. */
export function preamble(header: string): string {
  // glibc defines __attribute__ away, and with it `packed`, for compilers that it does not know:
  // the one of cc() knows it all the same.
  const start = "#define _GNU_SOURCE\n#include <features.h>\n#undef __attribute__";
  const missing = MISSING_INCLUDES[header] ?? "";
  return `${start}\n#include <stddef.h>\n${missing}#include <${header}>\n`;
}

/** A C file that does not compile unless every claim is true and no member is missing. */
export function proof({ header, facts, struct: declared }: Subject): string {
  const asserts = facts.map(
    ({ expression, value }) =>
      `_Static_assert((long long)(${expression}) == ${value}, "${expression} is not ${value}");`,
  );
  // gcc knows how many initializers a struct has room for, and so which member we forgot, be it
  // one that hides in a hole.
  const whole = declared ? `struct ${declared.tag} whole = { ${initializers(declared)} };` : "";
  return `${preamble(header)}${asserts.join("\n")}\n${whole}\n`;
}

function initializers({ tag, members }: StructInfo): string {
  const own = members.filter(({ name }) => !SHARED_INITIALIZERS[tag]?.includes(name));
  return own
    .flatMap(({ name }) => new Array<string>(1 + (BIT_FIELDS[tag]?.[name] ?? 0)).fill("{0}"))
    .join(", ");
}

/** Compiles a C file, for its errors only: none is the empty string. */
export function compileErrors(compiler: string, source: string): string {
  const { exitCode, stderr } = Bun.spawnSync({
    cmd: [compiler, "-x", "c", "-fsyntax-only", "-Werror=missing-field-initializers", "-"],
    stdin: Buffer.from(source),
    stderr: "pipe",
    env: { ...process.env, LC_ALL: "C" },
  });
  const errors = stderr
    .toString()
    .split("\n")
    .filter((line) => line.includes("error:"));
  if (exitCode !== 0 && errors.length === 0) return `${compiler} failed: ${stderr}`;
  return errors.join("\n");
}
