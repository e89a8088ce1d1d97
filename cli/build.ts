/**
 * Makes one file of the command, for the package: other packages that it uses come with it, and
 * their licences on top. bun-sockets itself is left to be imported: it is the package.
 *
 *     bun cli/build.ts [file, default cli/bun-sockets.js]
 *
 * @module
 */
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

const root = join(import.meta.dir, "..");
const [target = join(import.meta.dir, "bun-sockets.js")] = process.argv.slice(2);

const { outputs, metafile } = await Bun.build({
  entrypoints: [join(import.meta.dir, "main.ts")],
  target: "bun",
  external: ["bun-sockets", "bun-sockets/*"],
  // Names stay, for whoever reads a stack. Comments go: they have paths of this machine.
  minify: { whitespace: true, syntax: true },
  metafile: true,
});
const [bundle] = outputs;
if (bundle === undefined || outputs.length > 1) throw new Error("Cannot bundle: expected one file");

const inputs = Object.keys(metafile?.inputs ?? {});
const packages = inputs.flatMap(
  (path) => /.*\bnode_modules\/((?:@[^/]+\/)?[^/]+)\//.exec(path)?.[1] ?? [],
);
const licences = [...new Set(packages)].sort().map((name) => {
  const folder = join(root, "node_modules", name);
  const { version } = JSON.parse(readFileSync(join(folder, "package.json"), "utf8"));
  const licence = readdirSync(folder).find((file) => /^licen[cs]e\b/i.test(file));
  if (licence === undefined)
    throw new Error(`Cannot bundle ${name}: expected its licence beside it`);
  return `${name} ${version}\n\n${readFileSync(join(folder, licence), "utf8").trim()}\n`;
});
const code = (await bundle.text()).replace(/^\/\/ @bun\n/, "");
writeFileSync(target, `// @bun\n/*!\nWith this file come:\n\n${licences.join("\n")}*/\n${code}`);
