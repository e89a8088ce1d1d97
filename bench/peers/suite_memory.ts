// What the sides of a peer allocate for a datagram: see bench/README.md.
import { mean, median, min } from "simple-statistics";
import { GROUPS_MIN, type Pair } from "./suite_programs.ts";

/** Bytes that were allocated for a datagram; null where it is not known. */
export interface Allocated {
  readonly send: number | null;
  readonly receive: number | null;
  readonly both: number | null;
}

/** Bytes that the sides have allocated in a round, and how many datagrams they have sent and received. */
export interface Touched {
  readonly send: number;
  readonly receive: number;
  readonly sendCount: number;
  readonly receiveCount: number;
}

export const UNKNOWN: Allocated = { send: null, receive: null, both: null };

// Enough that a page is nothing, and no longer on a slow machine.
const DATAGRAMS = 20_000;
const ROUND_MS = 400;
/** With fewer a page is too much. */
const DATAGRAMS_MIN = 5000;
// V8 cannot be kept from collecting, but it tells what it has allocated: of so few groups that it collects
// in few of these rounds.
const GROUPS_IN_V8 = 4;
const ROUNDS_IN_V8 = 11;

/**
 * Measures what each side allocates for a datagram, of a pair that was started so that it does not
 * collect.
 */
export async function measureAllocated(pair: Pair): Promise<Allocated> {
  await pair.warmUp();
  return ["node-dgram", "deno"].includes(pair.peer) ? await askV8(pair) : await count(pair);
}

async function askV8(pair: Pair): Promise<Allocated> {
  const rounds: Touched[] = [];
  for (let k = 0; k < ROUNDS_IN_V8; k++)
    rounds.push(await pair.runTouching(GROUPS_IN_V8 * pair.cell.group));
  // Where it has collected there is less.
  const send = median(rounds.map((round) => round.send / round.sendCount));
  const receive = median(rounds.map((round) => round.receive / round.receiveCount));
  return { send, receive, both: send + receive };
}

async function count(pair: Pair): Promise<Allocated> {
  const { group, topology } = pair.cell;
  const few = GROUPS_MIN * group;
  const more = Math.min(Math.ceil(DATAGRAMS / group) * group, pair.countFor(ROUND_MS));
  // What is called once for many datagrams is compiled late.
  await pair.run(more);
  const parts: { readonly few: Touched; readonly many: Touched }[] = [];
  for (let k = 0; k < partsOf(pair); k++)
    parts.push({ few: await pair.runTouching(few), many: await pair.runTouching(few + more) });
  const each = (side: "send" | "receive") => {
    const all = (key: "few" | "many", member: keyof Touched) =>
      parts.map((part) => part[key][member]);
    const counts = mean(all("many", `${side}Count`)) - mean(all("few", `${side}Count`));
    if (counts < DATAGRAMS_MIN) return null;
    // What touches memory besides, above all the compilers, only adds: so it is the least. And a round
    // costs something that is not for its datagrams: so it is the difference of two.
    return Math.max(0, min(all("many", side)) - min(all("few", side))) / counts;
  };
  const send = each("send");
  // The pages of one thread do not tell what for.
  if (topology === "one thread") return { send: null, receive: null, both: send };
  const receive = each("receive");
  return { send, receive, both: send === null || receive === null ? null : send + receive };
}

// C is the same each time, and where nobody answers each takes longer.
function partsOf({ peer, cell }: Pair): number {
  const isFlat = cell.flow === "flat";
  if (peer === "c") return isFlat ? 1 : 2;
  return isFlat ? 3 : 5;
}
