/**
 * The public names, as they stand in test/api.txt: whoever adds or removes one sees it in review.
 * `UPDATE_API=1 bun test test/api.test.ts` writes the file anew.
 *
 * They are read from the declaration files, which have the types and the fields that nobody sees at
 * run time, and compared with what the modules really export.
 *
 * @module
 */
import { afterAll, describe, expect, test } from "bun:test";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import manifest from "../package.json" with { type: "json" };

const root = join(import.meta.dir, "..");
const file = join(import.meta.dir, "api.txt");
const types = mkdtempSync(join(tmpdir(), "bun-sockets-api-"));
afterAll(() => rmSync(types, { recursive: true }));

const built = Bun.spawnSync(
  [
    process.execPath,
    join(root, "node_modules/typescript/bin/tsc"),
    "-p",
    join(root, "tsconfig.build.json"),
    "--outDir",
    types,
  ],
  { cwd: root },
);

/** All public names of the declaration files that one file exports, itself and through others. */
function namesOf(path: string): string[] {
  const source = readFileSync(path, "utf8");
  const names = declaredNames(source);
  const reexports = /^export (type )?(?:\*|\{([^}]*)\}) from "([^"]+)";/gm;
  for (const [, isType, list, specifier = ""] of source.matchAll(reexports)) {
    const target = namesOf(join(dirname(path), specifier.replace(/\.ts$/, ".d.ts")));
    const wanted = list?.split(",").map((item) => `${isType ?? ""}${item.trim()}`);
    const isWanted = (name: string) => !wanted || wanted.includes(topLevel(name));
    const isWantedAsType = (name: string) => wanted?.includes(`type ${topLevel(name)}`);
    names.push(...target.filter(isWanted), ...asTypes(target.filter(isWantedAsType)));
  }
  return names;
}

// A class of which only the type is exported: nobody can make one, and nothing of it stands alone.
function asTypes(names: readonly string[]): string[] {
  return names
    .filter((name) => !name.startsWith("new "))
    .map((name) =>
      name.startsWith("type ") ? name : `type ${name.replace(/\.prototype(?=[.[])/, "")}`,
    );
}

/** "DatagramBatch" of "DatagramBatch.prototype.count", "Stopped" of "type Stopped.code". */
function topLevel(name: string): string {
  return name.replace(/^(type|new) /, "").replace(/\..*/, "");
}

const KINDS = "class|const|function|interface|let|type";

/** The names that one declaration file declares, members of classes and interfaces with them. */
function declaredNames(source: string): string[] {
  const plain = source.replace(/\/\*.*?\*\//gs, "");
  const declarations = new RegExp(
    `^export (?:declare |abstract )*(${KINDS}) (\\w+)[^;]*?(?:\\{\\n(.*?)^\\}|;)`,
    "gms",
  );
  return [...plain.matchAll(declarations)].flatMap(([, kind = "", name = "", body = ""]) => {
    if (kind === "class")
      return [name, ...membersOf(body).map((member) => classMember(name, member))];
    if (kind === "interface") return [`type ${name}`, ...interfaceMembers(name, body)];
    return [kind === "type" ? `type ${name}` : name];
  });
}

function interfaceMembers(name: string, body: string): string[] {
  return membersOf(body).map((member) => `type ${name}.${member.name}`);
}

interface MemberName {
  readonly name: string;
  readonly isStatic: boolean;
}

// Members stand four spaces deep; what is deeper belongs to an object type inside of one.
function membersOf(body: string): MemberName[] {
  const members =
    /^ {4}(?!private |protected |#)(?:abstract |declare |override |readonly )*(static )?(?:abstract |readonly )*(?:[gs]et (?=[\w[]))?(\[[\w.]+\]|\w+)/gm;
  return [...body.matchAll(members)].map(([, isStatic, name = ""]) => ({
    name,
    isStatic: isStatic !== undefined,
  }));
}

function classMember(className: string, { name, isStatic }: MemberName): string {
  if (name === "constructor") return `new ${className}`;
  if (isStatic) return `${className}.${name}`;
  return `${className}.prototype${name.startsWith("[") ? "" : "."}${name}`;
}

const entries = Object.keys(manifest.exports).map((key) => join(manifest.name, key));
const api = new Map<string, readonly string[]>();
for (const [key, { types: declaration }] of Object.entries(manifest.exports)) {
  const path = join(types, declaration.replace("./types/", ""));
  if (existsSync(path)) api.set(join(manifest.name, key), [...new Set(namesOf(path))].sort());
}

describe("public names", () => {
  test("can be read, as the declaration files could be made", () => {
    expect(built.stdout.toString() + built.stderr.toString()).toBe("");
    expect([...api.keys()]).toEqual(entries);
  });

  test("are those of test/api.txt", () => {
    const text = [...api].map(([entry, names]) => `${entry}\n${names.join("\n")}\n`).join("\n");
    if (process.env["UPDATE_API"] === "1") writeFileSync(file, text);
    expect(text).toBe(readFileSync(file, "utf8"));
  });

  test.each(entries)("of %s are those that it exports at run time", async (entry) => {
    const exported: Record<string, unknown> = await import(entry);
    const values = api.get(entry)?.filter((name) => !/^(type|new) |\./.test(name)) ?? [];
    expect(values).toEqual(Object.keys(exported).sort());
  });

  test.each(entries)("of the classes of %s are those that they have", async (entry) => {
    const exported: Record<string, unknown> = await import(entry);
    for (const [name, value] of Object.entries(exported)) {
      if (typeof value !== "function" || !value.toString().startsWith("class")) continue;
      const names = api.get(entry) ?? [];
      for (const member of Object.getOwnPropertyNames(value.prototype)) {
        if (member !== "constructor") expect(names).toContain(`${name}.prototype.${member}`);
      }
      for (const member of Object.getOwnPropertyNames(value)) {
        if (!["length", "name", "prototype"].includes(member)) {
          expect(names).toContain(`${name}.${member}`);
        }
      }
    }
  });

  test("declaredNames() reads every form of declaration", () => {
    const source = `export interface A extends B {
    readonly inner: {
        deeper: number;
    };
    optional?: string;
    method(value: string): void;
}
export type C<T> = { x: T } & A;
export declare const d: 1;
export declare let e: {
    f: 1;
};
export declare function f(a: { b: 1 }): void;
export declare abstract class G<T> extends A implements C {
    #private;
    private hidden;
    static open(): G;
    static readonly zero: G;
    readonly field: string;
    constructor(x: number);
    get count(): number;
    set count(value: number);
    get: string;
    [Symbol.dispose](): void;
    /** export declare const no: 1; */
}
declare class Hidden {
}
`;
    expect(declaredNames(source)).toEqual([
      ...["type A", "type A.inner", "type A.optional", "type A.method"],
      ...["type C", "d", "e", "f"],
      ...["G", "G.open", "G.zero", "G.prototype.field", "new G", "G.prototype.count"],
      ...["G.prototype.count", "G.prototype.get", "G.prototype[Symbol.dispose]"],
    ]);
  });
});
