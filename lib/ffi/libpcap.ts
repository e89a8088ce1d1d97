/**
 * The four functions of libpcap that turn the text of a filter into a program, opened at their first
 * call: nobody who does not write filters as text needs the library.
 *
 * @module
 */
import { struct, u32, usize } from "../../structs/layout.ts";
import { sock_filter } from "../../structs/sock_filter.ts";
import { ffi } from "./libc.ts";
import { readMemory, readText } from "./memory.ts";

/**
 * The names to try in order: Debian's and its derivatives', then everybody else's. A test puts others
 * in their place.
 */
export const libpcapNames: string[] = ["libpcap.so.0.8", "libpcap.so.1"];

/** What libpcap has made of a text: the instructions as the kernel takes them, or its complaint. */
export type Compiled = { readonly bytes: Uint8Array<ArrayBuffer> } | { readonly complaint: string };

// The line above each entry is its C prototype: compare it with the man page.
const prototypes = {
  // pcap_t *pcap_open_dead(int linktype, int snaplen);
  pcap_open_dead: { args: ["i32", "i32"], returns: "ptr" },
  // int pcap_compile(pcap_t *p, struct bpf_program *fp, const char *str, int optimize,
  //                  bpf_u_int32 netmask);
  pcap_compile: { args: ["ptr", "ptr", "ptr", "i32", "u32"], returns: "i32" },
  // char *pcap_geterr(pcap_t *p);
  pcap_geterr: { args: ["ptr"], returns: "ptr" },
  // void pcap_freecode(struct bpf_program *fp);
  pcap_freecode: { args: ["ptr"], returns: "void" },
  // void pcap_close(pcap_t *p);
  pcap_close: { args: ["ptr"], returns: "void" },
} as const;

// `struct bpf_program` of <pcap/bpf.h> is `u_int bf_len; struct bpf_insn *bf_insns;`: by the rules of
// the C ABI a pointer stands at a multiple of 8. `struct bpf_insn` has the members of the kernel's
// struct sock_filter, which libpcap hands to the kernel as they are. Not among structs/, because the
// header comes with libpcap's own package for developers, which no test can count on: what the tests
// compile with it shows it.
const bpf_program = struct("bpf_program", "pcap/bpf.h", { bf_len: u32, bf_insns: usize });

// An interface that libpcap knows nothing of has no netmask.
const PCAP_NETMASK_UNKNOWN = 0xffff_ffff;

type Symbols = ReturnType<typeof open>;
let symbols: Symbols | undefined;

function open() {
  const { dlopen } = ffi();
  const failures: string[] = [];
  for (const name of libpcapNames) {
    try {
      return dlopen(name, prototypes).symbols;
    } catch (error) {
      failures.push((error as Error).message);
    }
  }
  throw new Error(failures.join("; "));
}

/** Opens libpcap, if that has not been done. Throws an error that says what dlopen(3) had to say. */
export function openLibpcap(): void {
  symbols ??= open();
}

/**
 * pcap_compile(3) for packets of a link type, on no device.
 *
 * @param linkType a `DLT_` number
 * @param text UTF-8 with a NUL at its end and nowhere else
 */
export function pcapCompile(
  linkType: number,
  snapBytes: number,
  text: Uint8Array<ArrayBuffer>,
  optimize: boolean,
): Compiled {
  symbols ??= open();
  const { pcap_open_dead, pcap_compile, pcap_geterr, pcap_freecode, pcap_close } = symbols;
  const pcap = pcap_open_dead(linkType, snapBytes);
  if (pcap === null) return { complaint: "out of memory" };
  try {
    const program = new Uint8Array(new ArrayBuffer(bpf_program.size));
    const view = new DataView(program.buffer);
    const failed = pcap_compile(pcap, program, text, optimize ? 1 : 0, PCAP_NETMASK_UNKNOWN);
    if (failed !== 0) return { complaint: readText(pcap_geterr(pcap) as unknown as number) };
    try {
      const length = bpf_program.bf_len.get(view, 0) * sock_filter.size;
      return { bytes: readMemory(bpf_program.bf_insns.get(view, 0), length) };
    } finally {
      pcap_freecode(program);
    }
  } finally {
    pcap_close(pcap);
  }
}
