/** What the program found: the only error that ends a run. */
export class Failure extends Error {
  override name = "Failure";
}

/** Thrown out of the library in place of a wait that nothing would end. */
export class WouldWait extends Error {
  override name = "WouldWait";
}

// Errors that the library throws are made with the global classes. Those of the engine itself
// ("undefined is not an object") are not, so that the two can be told apart.
const engine = { TypeError: globalThis.TypeError, RangeError: globalThis.RangeError };

class HouseTypeError extends engine.TypeError {}
class HouseRangeError extends engine.RangeError {}

// The built-in ones may be called without `new`.
function callable<Class extends new (message?: string) => Error>(type: Class): Class {
  return new Proxy(type, { apply: (_type, _self, [message]) => new type(message as string) });
}

Object.assign(globalThis, {
  TypeError: callable(HouseTypeError),
  RangeError: callable(HouseRangeError),
});

/** Whether an error of wrong use was made by `new TypeError` or `new RangeError`, in house form. */
export function isHouseError(error: unknown): boolean {
  const isOurs = error instanceof HouseTypeError || error instanceof HouseRangeError;
  return isOurs && error.message.startsWith("Cannot ");
}

/**
 * Whether an accessor of one of the package's classes was called on what is no object of the class:
 * such as when an argument of another kind, or a Proxy, is asked for an option of that name.
 */
export function isOfAccessor(error: unknown): boolean {
  return isEngineTypeError(error) && OF_ACCESSORS.test((error as Error).message);
}

const OF_ACCESSORS =
  /'this\.(#|view\.)|^Receiver should be a typed array|^Expected this to be instanceof/;

/** Whether the engine itself made it. */
export function isEngineTypeError(error: unknown): boolean {
  return error instanceof engine.TypeError && !(error instanceof HouseTypeError);
}
