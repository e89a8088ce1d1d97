// The two charts of README.md, from a recorded run: `bun bench/charts.ts RUN.ndjson`. A run that was
// too short, or of nobody knows what, makes no chart.
import { join } from "node:path";
import { readRun } from "./report/run.ts";
import { runTool } from "./report/tool.ts";

const folder = join(import.meta.dir, "..", "docs", "charts");

await runTool("bench/charts.ts RUN.ndjson [--out docs/charts]", folder, async (file, out) => {
  const run = readRun(await Bun.file(file).text(), file);
  const { recordedCharts } = await import("./report/recorded.ts");
  const charts = await recordedCharts(run, file);
  const paths = Object.entries(charts).map(([name, svg]) => [join(out, name), svg] as const);
  for (const [path, svg] of paths) await Bun.write(path, svg);
  return paths.map(([path]) => path);
});
