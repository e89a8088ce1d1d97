/**
 * Fanout groups: packet sockets that share what comes, each packet for one of them.
 *
 * @module
 */
import { EALREADY, EINVAL, ENOSPC } from "../../../structs/constants/errno.ts";
import {
  PACKET_FANOUT,
  PACKET_FANOUT_CBPF,
  PACKET_FANOUT_CPU,
  PACKET_FANOUT_DATA,
  PACKET_FANOUT_FLAG_DEFRAG,
  PACKET_FANOUT_FLAG_ROLLOVER,
  PACKET_FANOUT_FLAG_UNIQUEID,
  PACKET_FANOUT_HASH,
  PACKET_FANOUT_LB,
  PACKET_FANOUT_QM,
  PACKET_FANOUT_RND,
  PACKET_FANOUT_ROLLOVER,
} from "../../../structs/constants/linux_if_packet.ts";
import { SOL_PACKET } from "../../../structs/constants/sys_socket.ts";
import { fanout_args } from "../../../structs/fanout_args.ts";
import { sock_filter } from "../../../structs/sock_filter.ts";
import { sock_fprog } from "../../../structs/sock_fprog.ts";
import { check, systemError } from "../../error.ts";
import { addressOf } from "../../ffi/memory.ts";
import { type FilterProgram, programBytes } from "../../filter_program.ts";
import {
  describe,
  requireBoolean,
  requireInteger,
  requireOptions,
} from "../../internal/arguments.ts";
import { getsockopt, setsockopt } from "../../sys/socket.ts";
import type { FanoutOptions } from "../packet_socket.ts";

const GROUP_MAX = 0xffff;
// PACKET_FANOUT_MAX of the kernel's net/packet/internal.h.
const MEMBERS_MAX = 1 << 16;

const MODES: Readonly<Record<FanoutOptions["mode"], number>> = {
  hash: PACKET_FANOUT_HASH,
  balance: PACKET_FANOUT_LB,
  cpu: PACKET_FANOUT_CPU,
  rollover: PACKET_FANOUT_ROLLOVER,
  random: PACKET_FANOUT_RND,
  queue: PACKET_FANOUT_QM,
  program: PACKET_FANOUT_CBPF,
};

/** What is asked of a fanout group, read once and checked. */
export interface CopiedFanout {
  readonly group: number;
  readonly type: number;
  readonly flags: number;
  readonly membersMax: number;
  readonly program: Uint8Array<ArrayBuffer> | undefined;
}

// Filled by one call and read in it.
const request = new DataView(new ArrayBuffer(fanout_args.size));
const fprog = new DataView(new ArrayBuffer(sock_fprog.size));
const word = new Int32Array(new ArrayBuffer(4));
const wordLength = new Uint32Array(new ArrayBuffer(4));
// What the program in a call points to: an address alone would not keep it alive.
const inCall: { bytes: Uint8Array | undefined } = { bytes: undefined };

/** Reads the options of a fanout group once, and checks them. */
export function copyFanout(options: FanoutOptions): CopiedFanout {
  const { group, mode, membersMax = 0, program } = requireOptions(options);
  const { rollover = false, defragment = false, uniqueId = false } = options;
  for (const [name, flag] of Object.entries({ rollover, defragment, uniqueId }))
    requireBoolean(flag, name);
  const type = typeof mode === "string" && Object.hasOwn(MODES, mode) ? MODES[mode] : undefined;
  if (type === undefined) {
    const known = Object.keys(MODES).map((name) => `"${name}"`);
    const given = typeof mode === "string" ? JSON.stringify(mode) : describe(mode);
    throw new TypeError(
      `Cannot use ${given} as the mode of a fanout group: expected ${known.join(", ")}`,
    );
  }
  if (type === PACKET_FANOUT_ROLLOVER && rollover) {
    throw new TypeError('Cannot use rollover with the mode "rollover", which is that already');
  }
  if (!uniqueId) requireInteger(group, 0, GROUP_MAX, "a fanout group");
  else if (group !== undefined) {
    throw new TypeError("Cannot give a fanout group with uniqueId: the kernel chooses one");
  }
  if (membersMax !== 0) requireInteger(membersMax, 1, MEMBERS_MAX, "membersMax");
  return {
    group: group ?? 0,
    type,
    flags:
      (rollover ? PACKET_FANOUT_FLAG_ROLLOVER : 0) |
      (defragment ? PACKET_FANOUT_FLAG_DEFRAG : 0) |
      (uniqueId ? PACKET_FANOUT_FLAG_UNIQUEID : 0),
    membersMax,
    program: program === undefined ? undefined : requireProgram(program, type),
  };
}

function requireProgram(program: FilterProgram, type: number): Uint8Array<ArrayBuffer> {
  const bytes = programBytes(program);
  if (!bytes)
    throw new TypeError(
      `Cannot use ${describe(program)} as the program of a fanout group: expected a FilterProgram`,
    );
  if (type !== PACKET_FANOUT_CBPF)
    throw new TypeError('Cannot give a fanout group a program: expected the mode "program"');
  return bytes;
}

/** PACKET_FANOUT, and PACKET_FANOUT_DATA where there is a program. Returns the group. */
export function joinFanout(fd: number, fanout: CopiedFanout): number {
  const { group, type, flags, membersMax, program } = fanout;
  fanout_args.id.set(request, 0, group);
  fanout_args.type_flags.set(request, 0, type | flags);
  fanout_args.max_num_members.set(request, 0, membersMax);
  const result = setsockopt(fd, SOL_PACKET, PACKET_FANOUT, request);
  if (result < 0) throw withHint(result, "PACKET_FANOUT", JOIN);
  if (program) setProgram(fd, program);
  return fanoutGroupOf(fd) ?? group;
}

/** The group that a socket is in. Undefined for none, and for group 0 by hash. */
export function fanoutGroupOf(fd: number): number | undefined {
  const option = "PACKET_FANOUT";
  check(getsockopt(fd, SOL_PACKET, PACKET_FANOUT, word, wordLength), "getsockopt", { option });
  const [answer = 0] = word;
  return answer === 0 ? undefined : answer & GROUP_MAX;
}

/** PACKET_FANOUT_DATA: for the whole group. */
function setProgram(fd: number, program: Uint8Array<ArrayBuffer>): void {
  inCall.bytes = program;
  sock_fprog.len.set(fprog, 0, program.length / sock_filter.size);
  sock_fprog.filter.set(fprog, 0, addressOf(program));
  const result = setsockopt(fd, SOL_PACKET, PACKET_FANOUT_DATA, fprog);
  inCall.bytes = undefined;
  if (result < 0) throw withHint(result, "PACKET_FANOUT_DATA", {});
}

type Hints = Readonly<Record<number, string>>;

const JOIN: Hints = {
  [EALREADY]: "The socket is a member of a group already, and stays one until it is closed",
  [EINVAL]:
    "All members of a group have one mode, the same flags and membersMax, one protocol and one " +
    "interface, which is up",
  [ENOSPC]: "The group is full: membersMax of its first member, 256 unless said otherwise",
};

function withHint(result: number, option: string, hints: Hints): Error {
  return systemError(result, "setsockopt", { option, hint: hints[-result] });
}
