// What did a run of the suite find? One HTML file with charts and all numbers, which needs neither
// a network nor scripts: `bun bench/report.ts RUN.ndjson --out report.html`.
import { readRun } from "./report/run.ts";
import { runTool } from "./report/tool.ts";

await runTool(
  "bench/report.ts RUN.ndjson [--out report.html]",
  "report.html",
  async (file, out) => {
    const run = readRun(await Bun.file(file).text(), file);
    // What draws takes longer to load than all else: not before there is something to draw.
    const { reportPage } = await import("./report/page.ts");
    await Bun.write(out, await reportPage(run));
    return [out];
  },
);
