import { close } from "../../sys/unistd.ts";

// Made with the first file: an import pays for nothing that is not used.
let net: FinalizationRegistry<number> | undefined;

/**
 * Closes a descriptor some time after its owner was dropped open: a loop over a file that was left,
 * and a file that nobody has closed.
 */
export function hold(owner: object, fd: number): void {
  net ??= new FinalizationRegistry((left) => close(left));
  net.register(owner, fd, owner);
}

/** Says that the owner closes it itself, now: the number may mean another file then. */
export function letGo(owner: object): void {
  net?.unregister(owner);
}
