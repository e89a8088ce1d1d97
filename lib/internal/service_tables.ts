/**
 * What the functions for services and protocols do.
 *
 * @module
 */
import { ENOENT, ERANGE } from "../../structs/constants/errno.ts";
import { servent } from "../../structs/servent.ts";
import { check } from "../error.ts";
import { readMemory, readText } from "../ffi/memory.ts";
import type { Protocol, Service } from "../services.ts";
import { getservbyname_r, getservbyport_r } from "../sys/netdb.ts";
import { requireInteger } from "./arguments.ts";
import { requireText } from "./sockaddr.ts";

const SERVICES = "/etc/services";
const PROTOCOLS = "/etc/protocols";
const PORT_MAX = 0xffff;
const PROTOCOL_MAX = 0xff;
const BUFFER_BYTES = 1024;
const BUFFER_BYTES_MAX = 1 << 20;

/** The work of `serviceByName`. */
export function serviceByName(name: string, protocol?: string): Service | undefined {
  const wanted = cText(name, "a service");
  const over = protocol === undefined ? null : cText(protocol, "a protocol");
  return findService("getservbyname_r", (...values) => getservbyname_r(wanted, over, ...values));
}

/** The work of `serviceByPort`. */
export function serviceByPort(port: number, protocol?: string): Service | undefined {
  requireInteger(port, 0, PORT_MAX, "a port");
  const over = protocol === undefined ? null : cText(protocol, "a protocol");
  const swapped = swap(port);
  return findService("getservbyport_r", (...values) => getservbyport_r(swapped, over, ...values));
}

/** The work of `services`. */
export function services(): Service[] {
  return readTable(SERVICES).flatMap(({ name, value, aliases }) => {
    const [, port = "", protocol = ""] = /^(\d+)\/(\S+)$/.exec(value) ?? [];
    if (protocol === "" || Number(port) > PORT_MAX) return [];
    return { name, aliases, port: Number(port), protocol };
  });
}

/** The work of `protocolByName`. */
export function protocolByName(name: string): Protocol | undefined {
  const wanted = requireText(name, "a protocol");
  return protocols().find((each) => each.name === wanted || each.aliases.includes(wanted));
}

/** The work of `protocolByNumber`. */
export function protocolByNumber(number: number): Protocol | undefined {
  requireInteger(number, 0, PROTOCOL_MAX, "a protocol number");
  return protocols().find((each) => each.number === number);
}

/** The work of `protocols`. */
export function protocols(): Protocol[] {
  return readTable(PROTOCOLS).flatMap(({ name, value, aliases }) => {
    if (!/^\d+$/.test(value) || Number(value) > PROTOCOL_MAX) return [];
    return { name, aliases, number: Number(value) };
  });
}

interface Row {
  readonly name: string;
  readonly value: string;
  readonly aliases: readonly string[];
}

// Lines of a name, a value and more names; "#" begins a comment. A file that is not there is empty,
// as it is for libc.
function readTable(path: string): Row[] {
  let text: string;
  try {
    text = process.getBuiltinModule("node:fs").readFileSync(path, "utf8");
  } catch (error) {
    if ((error as { errno?: number }).errno === -ENOENT) return [];
    throw error;
  }
  return text.split("\n").flatMap((line) => {
    const [name, value, ...aliases] = line.replace(/#.*/, "").split(/\s+/).filter(Boolean);
    return name === undefined || value === undefined ? [] : { name, value, aliases };
  });
}

type Memory = [entry: DataView, buffer: Uint8Array, result: BigUint64Array];

// What the functions that end with _r fill; the others have one entry for the whole process, which a
// Worker could change between the call and the reading. The buffer is not in the collected heap,
// where it could move, and a field holds it until everything is read.
const memory = {
  entry: new DataView(new ArrayBuffer(servent.size)),
  result: new BigUint64Array(1),
  buffer: new Uint8Array(0),
};

function findService(syscall: string, find: (...values: Memory) => number): Service | undefined {
  if (memory.buffer.length === 0) memory.buffer = new Uint8Array(new ArrayBuffer(BUFFER_BYTES));
  for (;;) {
    const { entry, buffer, result } = memory;
    const found = find(entry, buffer, result);
    if (found === -ERANGE && buffer.length < BUFFER_BYTES_MAX) {
      memory.buffer = new Uint8Array(new ArrayBuffer(buffer.length * 4));
      continue;
    }
    check(found, syscall);
    return result[0] === 0n ? undefined : readService(entry);
  }
}

function readService(entry: DataView): Service {
  return {
    name: readText(servent.s_name.get(entry, 0)),
    aliases: readTexts(servent.s_aliases.get(entry, 0)),
    port: swap(servent.s_port.get(entry, 0)),
    protocol: readText(servent.s_proto.get(entry, 0)),
  };
}

// An array of pointers that ends with NULL.
function readTexts(address: number): string[] {
  const texts: string[] = [];
  for (let at = address; at !== 0; at += 8) {
    const text = Number(new BigUint64Array(readMemory(at, 8).buffer)[0]);
    if (text === 0) break;
    texts.push(readText(text));
  }
  return texts;
}

function swap(port: number): number {
  return ((port & 0xff) << 8) | ((port >> 8) & 0xff);
}

function cText(text: string, name: string): Uint8Array {
  if (requireText(text, name).includes("\0"))
    throw new TypeError(`Cannot use ${JSON.stringify(text)} as ${name}: it contains a NUL`);
  return Buffer.from(`${text}\0`);
}
