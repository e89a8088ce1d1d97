import { type Address, addressFromBytes } from "../address.ts";
import { halfSipHash } from "./half_sip_hash.ts";

// Room for the longest name a datagram can come from, sockaddr_un with its 110 bytes and a NUL that has no room, in 32-bit
// words.
const KEY_WORDS = 28;
const NONE = -1;

/**
 * Gives senders small integers: the same number for the same address as long as it is kept, never
 * the same number for two addresses. Keeps the newest `peersMax`, and forgets the oldest for each
 * new one. Strangers who invent addresses cost the same as anybody (the hash is keyed), and no
 * memory beyond the table.
 *
 * Number n lives in slot n % peersMax, so a number tells its slot, and whether it is still there.
 * Buckets are chains of slots: heads[hash] → nexts[slot] → …
 */
export class SenderTable {
  readonly #peersMax: number;
  readonly #heads: Int32Array;
  readonly #nexts: Int32Array;
  readonly #hashes: Int32Array;
  readonly #keys: Int32Array;
  readonly #lengths: Uint8Array;
  readonly #addresses: (Address | undefined)[] = [];
  #given = 0;
  #latest = -1;

  constructor(peersMax: number) {
    this.#peersMax = peersMax;
    this.#heads = new Int32Array(2 ** Math.ceil(Math.log2(2 * peersMax))).fill(NONE);
    this.#nexts = new Int32Array(peersMax);
    this.#hashes = new Int32Array(peersMax);
    this.#keys = new Int32Array(peersMax * KEY_WORDS);
    this.#lengths = new Uint8Array(peersMax);
  }

  /**
   * Returns the number of the sender whose sockaddr stands in `names` at word `at`, giving it the
   * next one when it is new.
   *
   * @param length bytes of the sockaddr; bytes after it, up to the next word, must be 0
   */
  number(names: Int32Array, at: number, length: number): number {
    const words = (length + 3) >> 2;
    // Most datagrams come from who sent the one before.
    const latest = this.#latest;
    if (this.#is(latest % this.#peersMax, names, at, length, words)) return latest;
    const hash = halfSipHash(names, at, words);
    const known = this.#search(names, at, length, words, hash);
    this.#latest = known < 0 ? this.#add(names, at, length, words, hash) : known;
    return this.#latest;
  }

  /** Returns the number of a sender, as `number` does, or -1 when it is not kept. */
  find(names: Int32Array, at: number, length: number): number {
    const words = (length + 3) >> 2;
    const latest = this.#latest;
    if (this.#is(latest % this.#peersMax, names, at, length, words)) return latest;
    const known = this.#search(names, at, length, words, halfSipHash(names, at, words));
    if (known >= 0) this.#latest = known;
    return known;
  }

  /** How many numbers were given: the newest is one less, and of them the newest are kept. */
  get given(): number {
    return this.#given;
  }

  #search(names: Int32Array, at: number, length: number, words: number, hash: number): number {
    const head = hash & (this.#heads.length - 1);
    for (
      let slot = this.#heads[head] as number;
      slot !== NONE;
      slot = this.#nexts[slot] as number
    ) {
      if (this.#is(slot, names, at, length, words)) return this.#numberIn(slot);
    }
    return -1;
  }

  /**
   * Returns the address of a number that was just given. One object for as long as the sender is
   * kept.
   */
  address(number: number): Address {
    const slot = number % this.#peersMax;
    const start = slot * KEY_WORDS;
    const known = this.#addresses[slot];
    if (known) return known;
    const bytes = new Uint8Array(this.#keys.buffer, start * 4, this.#lengths[slot] as number);
    const address = addressFromBytes(bytes);
    this.#addresses[slot] = address;
    return address;
  }

  #is(slot: number, names: Int32Array, at: number, length: number, words: number): boolean {
    if (this.#lengths[slot] !== length) return false;
    const start = slot * KEY_WORDS;
    for (let i = 0; i < words; i++) if (this.#keys[start + i] !== names[at + i]) return false;
    return true;
  }

  // The newest number that falls on the slot.
  #numberIn(slot: number): number {
    const newest = this.#given - 1;
    return newest - ((newest - slot) % this.#peersMax);
  }

  #add(names: Int32Array, at: number, length: number, words: number, hash: number): number {
    const number = this.#given++;
    const slot = number % this.#peersMax;
    if (number >= this.#peersMax) this.#forget(slot);
    const start = slot * KEY_WORDS;
    for (let i = 0; i < words; i++) this.#keys[start + i] = names[at + i] as number;
    this.#lengths[slot] = length;
    this.#hashes[slot] = hash;
    const head = hash & (this.#heads.length - 1);
    this.#nexts[slot] = this.#heads[head] as number;
    this.#heads[head] = slot;
    return number;
  }

  #forget(slot: number): void {
    const head = (this.#hashes[slot] as number) & (this.#heads.length - 1);
    const next = this.#nexts[slot] as number;
    this.#addresses[slot] = undefined;
    let at = this.#heads[head] as number;
    if (at === slot) {
      this.#heads[head] = next;
      return;
    }
    while (this.#nexts[at] !== slot) at = this.#nexts[at] as number;
    this.#nexts[at] = next;
  }
}
