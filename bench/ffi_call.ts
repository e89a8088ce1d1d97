// What does the way to a C function cost? The same call straight from dlopen, through the libc
// table that tests can replace entries of, and through a function of lib/sys.
import { dlopen } from "bun:ffi";
import { do_not_optimize, measure } from "mitata";
import { libc } from "../lib/ffi/libc.ts";
import { listen } from "../lib/sys/socket.ts";
import { type Line, print, readOptions, spread, startProgress } from "./support.ts";

const { symbols: direct } = dlopen("libc.so.6", {
  // int *__errno_location(void);
  __errno_location: { args: [], returns: "ptr" },
  // int listen(int sockfd, int backlog);
  listen: { args: ["i32", "i32"], returns: "i32" },
});
libc.__errno_location();

const CALLS = 1000;
// Each benchmark calls 1000 times. The loops are repeated on purpose: sharing one through a
// callback would measure the callback.
const cases = {
  // Returns an address and enters no kernel: the cheapest call there is.
  "__errno_location()": {
    table: () => {
      for (let i = 0; i < CALLS; i++) do_not_optimize(libc.__errno_location());
    },
    direct: () => {
      for (let i = 0; i < CALLS; i++) do_not_optimize(direct.__errno_location());
    },
  },
  // Fails in the kernel at once: a whole system call, with errno read in sys.
  "listen(-1)": {
    sys: () => {
      for (let i = 0; i < CALLS; i++) do_not_optimize(listen(-1, 0));
    },
    direct: () => {
      for (let i = 0; i < CALLS; i++) do_not_optimize(direct.listen(-1, 0));
    },
  },
};

const options = readOptions();
const progress = startProgress(options.json);
const lines: Line[] = [];
for (const [name, peers] of Object.entries(cases)) {
  const times = new Map(Object.keys(peers).map((peer): [string, number[]] => [peer, []]));
  for (let round = 0; round < options.rounds; round++) {
    for (const [peer, call] of Object.entries(peers)) {
      const { p50 } = await measure(call, { min_cpu_time: options.roundMs * 1e6 });
      times.get(peer)?.push(p50 / CALLS);
    }
    progress.set((round + 1) / options.rounds);
  }
  const [ours = []] = times.values();
  for (const [peer, theirs] of times) {
    const { length: rounds } = theirs;
    const nothing = { bytes: null, batch: null, send_ns: null, receive_ns: null, lost: null };
    lines.push({
      bench: "ffi_call",
      case: name,
      peer,
      ...nothing,
      rounds,
      ...spread(theirs, ours),
    });
  }
}
progress.stop();
print(lines, options);
