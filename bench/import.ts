// What does importing the main entry add to a program? Whole processes, one after the other: an
// empty program, the import alone, and the import with a first socket, which opens libc.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Line, print, readOptions, spread, startProgress } from "./support.ts";

const programs: Record<string, string> = {
  "bun-sockets": `import ${JSON.stringify(join(import.meta.dir, "../lib/index.ts"))};`,
  empty: "",
};
const firstSocket = `
import { UdpSocket } from ${JSON.stringify(join(import.meta.dir, "../lib/index.ts"))};
UdpSocket.open("ipv4").close();`;

const options = readOptions();
const rounds = options.rounds === 1 ? 1 : Math.max(options.rounds, 31);

async function measure(name: string, source: string) {
  const path = join(folder, `${name}.ts`);
  await Bun.write(path, source);
  return () => {
    const start = performance.now();
    const { success, stderr } = Bun.spawnSync([process.execPath, path]);
    if (!success) throw new Error(`${name} failed: ${stderr}`);
    return (performance.now() - start) * 1e6;
  };
}

const folder = mkdtempSync(join(tmpdir(), "bun-sockets-import-"));
try {
  const entries = Object.entries({ ...programs, "first-socket": firstSocket });
  const runs = await Promise.all(entries.map(([name, source]) => measure(name, source)));
  const times = runs.map((): number[] => []);
  const progress = startProgress(options.json);
  // The first round fills the file cache and is not counted.
  for (const run of runs) run();
  for (let round = 0; round < rounds; round++) {
    for (let k = 0; k < runs.length; k++) {
      const index = (k + round) % runs.length;
      times[index]?.push((runs[index] as () => number)());
    }
    progress.set((round + 1) / rounds);
  }
  progress.stop();
  const [imported = [], empty = [], socket = []] = times;
  const over = (some: readonly number[]) => some.map((ns, round) => ns - (empty[round] as number));
  const nothing = { bench: "import", bytes: null, batch: null, rounds, lost: null };
  const line = (name: string, peer: string, theirs: readonly number[], ours = imported): Line => ({
    ...nothing,
    case: name,
    peer,
    send_ns: null,
    receive_ns: null,
    ...spread(theirs, ours),
  });
  const lines = [
    line("process", "bun-sockets", imported),
    line("process", "empty", empty),
    line("over an empty program", "bun-sockets", over(imported), over(imported)),
    line("over an empty program, first socket", "bun-sockets", over(socket), over(socket)),
  ];
  print(lines, options);
} finally {
  rmSync(folder, { recursive: true });
}
