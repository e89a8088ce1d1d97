import {
  BPF_JA,
  BPF_JGT,
  BPF_JMP,
  BPF_K,
  BPF_RET,
} from "../../../structs/constants/linux_bpf_common.ts";
import { BPF_A } from "../../../structs/constants/linux_filter.ts";
import { type FilterInstruction, FilterProgram } from "../../filter_program.ts";

/**
 * A filter that lets through what another one does, or everything, and no more than so many bytes of
 * each packet: the kernel has no other way to say so.
 *
 * @throws {RangeError} it has too many instructions then
 */
export function cutTo(snapBytes: number, program: FilterProgram | undefined): FilterProgram {
  if (!program) return new FilterProgram([{ code: BPF_RET | BPF_K, k: snapBytes }]);
  const { instructions } = program;
  const { length } = instructions;
  // What returns a number that is computed goes through a comparison at the end.
  const comparison: FilterInstruction[] = [];
  const cut = instructions.map((instruction, i) => {
    const { code, k = 0 } = instruction;
    if (code === (BPF_RET | BPF_K)) return { code, k: Math.min(k, snapBytes) };
    if (code !== (BPF_RET | BPF_A)) return instruction;
    comparison.splice(
      0,
      3,
      { code: BPF_JMP | BPF_JGT | BPF_K, k: snapBytes, jf: 1 },
      { code: BPF_RET | BPF_K, k: snapBytes },
      { code: BPF_RET | BPF_A },
    );
    return { code: BPF_JMP | BPF_JA, k: length - i - 1 };
  });
  return new FilterProgram([...cut, ...comparison]);
}
