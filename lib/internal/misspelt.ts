/**
 * Which option somebody has meant. Loaded with the first name that is no option.
 *
 * @module
 */

/** Names that are so long may differ in two letters, all others in one. */
const LONG = 8;
/** Names that are shorter mean something else. */
const SHORT = 4;
/** How much of a name has to be there: "timeout", "reuseAddr". */
const BEGINNING = 5;

const REMEMBERED_MAX = 1000;
const remembered = new Map<string, string | undefined>();

/** The option that a name was to be; undefined for one that is like none. */
export function optionLike(name: string, known: ReadonlySet<string>): string | undefined {
  if (name.length < SHORT) return undefined;
  if (remembered.has(name)) return remembered.get(name);
  const found = look(name, known);
  if (remembered.size >= REMEMBERED_MAX) remembered.clear();
  remembered.set(name, found);
  return found;
}

function look(name: string, known: ReadonlySet<string>): string | undefined {
  const letters = lettersOf(name);
  let nearest: string | undefined;
  let least = Number.POSITIVE_INFINITY;
  for (const other of known) {
    if (other.length < SHORT) continue;
    if (lettersOf(other) === letters) return other;
    const allowed = other.length >= LONG ? 2 : other.length > SHORT ? 1 : 0;
    let distance = distanceOf(name, other, allowed);
    if (distance > allowed && name.length >= BEGINNING && other.startsWith(name))
      distance = other.length - name.length;
    else if (distance > allowed) continue;
    if (distance < least) {
      nearest = other;
      least = distance;
    }
  }
  return nearest;
}

function lettersOf(name: string): string {
  return name.toLowerCase().replace(/[_-]/g, "");
}

/** In how many letters two names differ: one that is missing, wrong, or in its neighbour's place. */
function distanceOf(left: string, right: string, most: number): number {
  if (Math.abs(left.length - right.length) > most) return most + 1;
  let before: number[] = [];
  let last = Array.from({ length: right.length + 1 }, (_, j) => j);
  for (let i = 1; i <= left.length; i++) {
    const row = [i];
    for (let j = 1; j <= right.length; j++) {
      const isSame = left[i - 1] === right[j - 1];
      let least = Math.min(
        (last[j] as number) + 1,
        (row[j - 1] as number) + 1,
        (last[j - 1] as number) + (isSame ? 0 : 1),
      );
      if (i > 1 && j > 1 && left[i - 1] === right[j - 2] && left[i - 2] === right[j - 1])
        least = Math.min(least, (before[j - 2] as number) + 1);
      row.push(least);
    }
    before = last;
    last = row;
  }
  return last[right.length] as number;
}
