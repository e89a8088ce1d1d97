import { dlopen, type FFIFunction } from "bun:ffi";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Peer } from "../support.ts";
import { bunSockets, type Path } from "./bun_sockets.ts";

let library: ReturnType<typeof load> | undefined;

/** Whether a C compiler is there. */
export function hasCompiler(): boolean {
  return Bun.which("gcc") !== null;
}

/**
 * The loop in C, compiled with gcc -O2 and called once for a whole round, in this process and
 * thread: nothing but the language of the loop differs from ours. Its sockets are made by ours.
 */
export function c(path: Path, bytes: number): Peer {
  const { sockets, close } = bunSockets(path, bytes);
  const { sender, receiver } = sockets;
  const address = path.connected ? new Uint8Array(1) : receiver.localAddress.bytes;
  const addressLength = path.connected ? 0 : address.length;
  const result = new Float64Array(new ArrayBuffer(5 * 8));
  library ??= load();
  const { udp_run } = library;
  return {
    name: "c",
    close,
    run: async (groups) => {
      const { descriptor: from } = sender;
      udp_run(from, receiver.descriptor, bytes, path.batch, groups, address, addressLength, result);
      const [sendNs = 0, receiveNs = 0, sent = 0, received = 0, sum = 0] = result;
      return { datagrams: sent, sendNs, receiveNs, lost: sent - received, sum };
    },
  };
}

function load() {
  return loadC("udp", {
    // void udp_run(int sender, int receiver, int bytes, int batch, int groups,
    //              const void *address, unsigned address_length, struct result *result);
    udp_run: {
      args: ["i32", "i32", "i32", "i32", "i32", "ptr", "u32", "ptr"],
      returns: "void",
    },
  });
}

/** Compiles a file of this folder as a library, with gcc -O2, and opens it. */
export function loadC<Fns extends Record<string, FFIFunction>>(name: string, symbols: Fns) {
  const folder = mkdtempSync(join(tmpdir(), "bun-sockets-bench-"));
  try {
    const output = join(folder, `${name}.so`);
    const source = join(import.meta.dir, `${name}.c`);
    const gcc = Bun.spawnSync(["gcc", "-O2", "-shared", "-fPIC", "-o", output, source]);
    if (!gcc.success) throw new Error(`gcc failed: ${gcc.stderr}`);
    return dlopen(output, symbols).symbols;
  } finally {
    rmSync(folder, { recursive: true });
  }
}
