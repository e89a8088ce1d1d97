/**
 * C that runs on threads of its own, compiled by Bun's compiler when it is first needed.
 *
 * That compiler finds a C library only on machines that have one installed for developers, so the
 * source is freestanding: it includes nothing, links nothing, and is told the address of every
 * function that it calls.
 *
 * @module
 */
import {
  MAP_ANONYMOUS,
  MAP_PRIVATE,
  PROT_EXEC,
  PROT_READ,
  PROT_WRITE,
} from "../../structs/constants/sys_mman.ts";
import { ffi, libc, negativeErrno } from "./libc.ts";

/**
 * A C source. Its functions are copied to another place, so they are without strings, switches and
 * static data, and call nothing but absolute addresses: what they compile to does not depend on
 * where it stands.
 */
export interface FreestandingSource<Symbols extends string> {
  /** As it stands in errors: "the helper thread". */
  readonly what: string;
  /** The name of the file that the compiler reads. */
  readonly file: string;
  readonly text: string;
  /** What libc has to have: each is defined, in capitals, as its address. */
  readonly functions: readonly string[];
  /** What else is defined. */
  readonly define: Readonly<Record<string, string>>;
  /** All functions of the source, in its order. */
  readonly symbols: readonly Symbols[];
  /** The number of memfd_create(2) on this machine. */
  readonly memfdCreateNumber: number;
}

const CODE_BYTES = 4096;

const MFD_CLOEXEC = 0x1;
const MFD_NOEXEC_SEAL = 0x8;

/**
 * Compiles a source. Returns where its functions are, which is for ever: they may run on threads
 * that outlive this one.
 *
 * Throws an Error that names what failed, with `errno`, `code` and `syscall` where it was a call.
 */
export function compileFreestanding<Symbols extends string>(
  source: FreestandingSource<Symbols>,
): Record<Symbols, number> {
  const define: Record<string, string> = { ...source.define };
  for (const name of source.functions) define[name.toUpperCase()] = `${addressOfFunction(name)}UL`;
  const file = writeSource(source);
  try {
    const { symbols, close } = compileFile(source.what, `/proc/self/fd/${file}`, define);
    const addresses = new BigUint64Array(source.symbols.length + 1);
    symbols.addresses(addresses);
    const linked = link(source, Array.from(addresses, Number));
    // Otherwise it would stay, with 12 mappings, also when its Worker has ended.
    close();
    return linked;
  } finally {
    libc.close(file);
  }
}

/**
 * Maps memory that a thread and JavaScript share. Not by mapMemory, whose memory goes with its
 * ArrayBuffer: the thread outlives a Worker's.
 */
export function mapShared(byteLength: number, what: string): number {
  const protection = PROT_READ | PROT_WRITE;
  const address = libc.mmap(null, byteLength, protection, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (typeof address !== "number") throw startFailure(what, negativeErrno(), "mmap");
  return address;
}

/** Returns the address of a function of libc. */
export function addressOfFunction(name: string): number {
  const address = libc.dlsym(null, Buffer.from(`${name}\0`));
  if (address === null) throw new Error(`Cannot find ${name} in the C library`);
  return Number(address);
}

/** An error in the shape of a system error. The class itself belongs to the layers above. */
export function startFailure(what: string, errno: number, syscall: string): Error {
  const { getSystemErrorMessage, getSystemErrorName } = process.getBuiltinModule("node:util");
  const code = getSystemErrorName(errno);
  const message = `Cannot start ${what}: ${syscall} ${code}: ${getSystemErrorMessage(errno)}`;
  return Object.assign(new Error(message), { errno, code, syscall });
}

function compileFile(what: string, source: string, define: Record<string, string>) {
  try {
    return ffi().cc({
      source,
      define,
      flags: "-nostdlib",
      symbols: { addresses: { args: ["ptr"], returns: "void" } },
    });
  } catch (cause) {
    throw new Error(`Cannot compile ${what}: ${(cause as Error).message}`, { cause });
  }
}

// The compiler takes nothing but a file. This one is in memory: a container may have no folder that
// can be written to.
function writeSource({
  what,
  file: name,
  text,
  symbols: functions,
  memfdCreateNumber,
}: FreestandingSource<string>): number {
  const { symbols } = ffi().linkSymbols({
    // int memfd_create(const char *name, unsigned int flags);
    // Through syscall(2), behind the number of the call: older libcs have no function for it.
    memfd_create: {
      args: ["i64", "ptr", "u32"],
      returns: "i32",
      ptr: BigInt(addressOfFunction("syscall")),
    },
  });
  const create = (flags: number) =>
    symbols.memfd_create(memfdCreateNumber, Buffer.from(`${name}\0`), flags);
  // A kernel can be told to refuse every other one; before 6.3 it does not know the flag.
  let file = create(MFD_CLOEXEC | MFD_NOEXEC_SEAL);
  if (file < 0) file = create(MFD_CLOEXEC);
  if (file < 0) throw startFailure(what, negativeErrno(), "memfd_create");
  try {
    process.getBuiltinModule("node:fs").writeFileSync(file, text + tellAddresses(functions));
  } catch (error) {
    libc.close(file);
    throw error;
  }
  return file;
}

// A function that is not copied: it says where the others begin, and where they end.
function tellAddresses(functions: readonly string[]): string {
  const lines = [...functions, "addresses"].map((name, i) => `  result[${i}] = ${name};\n`);
  return `\nvoid addresses(void **result) {\n${lines.join("")}}\n`;
}

// What the compiler made belongs to the engine, which may take it back when a Worker ends, and the
// Worker's threads end a little later. So the code moves to a mapping that nobody takes back: one
// page for each source and JavaScript thread.
function link<Symbols extends string>(
  { what, symbols }: FreestandingSource<Symbols>,
  addresses: readonly number[],
): Record<Symbols, number> {
  const first = addresses[0] as number;
  const byteLength = (addresses.at(-1) as number) - first;
  if (!(byteLength > 0 && byteLength <= CODE_BYTES))
    throw new Error(`Cannot use the code of ${what}: it has ${byteLength} bytes`);
  const copy = mapShared(CODE_BYTES, what);
  libc.memcpy(copy, first, byteLength);
  // The kernel makes the instruction cache coherent when a page becomes executable.
  if (libc.mprotect(copy, CODE_BYTES, PROT_READ | PROT_EXEC) < 0) {
    const errno = negativeErrno();
    libc.munmap(copy, CODE_BYTES);
    throw startFailure(what, errno, "mprotect");
  }
  const copied = symbols.map((name, i) => [name, copy + (addresses[i] as number) - first]);
  return Object.fromEntries(copied) as Record<Symbols, number>;
}
