/**
 * What the compiler says of an option used in the wrong direction or with a wrong value. A program
 * is compiled twice: each of its wrong lines is expected to be refused, and then refused by itself.
 *
 * @module
 */
import { afterAll, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const root = join(import.meta.dir, "../..");
const COMPILE_MS_MAX = 60_000;

const folder = mkdtempSync(join(tmpdir(), "bun-sockets-types-"));
afterAll(() => rmSync(folder, { recursive: true }));

const right = `
const noDelay: boolean = getOptionOf(3, TcpOption.noDelay);
const type: number = getOptionOf(3, SocketOption.type);
const linger: number | undefined = getOptionOf(3, SocketOption.lingerMs);
const cookie: bigint = getOptionOf(3, SocketOption.cookie);
const discover: "dont" | "want" | "do" | "probe" | "interface" | "omit" = getOptionOf(
  3,
  IpOption.mtuDiscover,
);
const user: number | undefined = getOptionOf(3, SocketOption.peerCredentials)?.userId;
const drops: number = getOptionOf(3, SocketOption.memoryInfo).dropCount;
const info: Uint8Array = getOptionOf(3, TcpOption.info);
setOptionOf({ fd: 3 }, TcpOption.noDelay, true);
setOptionOf({ fd: 3 }, TcpOption.congestion, "cubic");
setOptionOf({ fd: 3 }, SocketOption.lingerMs, undefined);
setOptionOf({ fd: 3 }, SocketOption.lingerMs, 0);
setOptionOf({ fd: 3 }, IpOption.mtuDiscover, "do");
setOptionOf({ fd: 3 }, IpOption.localPortRange, { low: 40000, high: 50000 });
setOptionOf({ fd: 3 }, Ipv6Option.addressForm, "ipv4");
setOptionOf({ fd: 3 }, UdpOption.segmentBytes, 1200);
const readable: Option<boolean, "get"> = UdpOption.gro;
const writable: Option<boolean, "set"> = UdpOption.gro;
const either: Option<unknown, "get">[] = [UdpOption.gro, SocketOption.type, TcpOption.info];
`;

// Each with the code and the text of what is said of it.
const wrong: readonly (readonly [line: string, code: string, text: string])[] = [
  [
    "setOptionOf({ fd: 3 }, SocketOption.type, 1);",
    "TS2741",
    "Property '[SET]' is missing in type 'ReadableOption<number>' but required in type " +
      "'WritableOption<unknown>'.",
  ],
  [
    "getOptionOf(3, Ipv6Option.addressForm);",
    "TS2741",
    "Property '[GET]' is missing in type 'WritableOption<\"ipv4\">' but required in type " +
      "'ReadableOption<unknown>'.",
  ],
  [
    "setOptionOf({ fd: 3 }, TcpOption.noDelay, 1);",
    "TS2345",
    "Argument of type 'number' is not assignable to parameter of type 'boolean'.",
  ],
  [
    "setOptionOf({ fd: 3 }, SocketOption.receiveBufferBytes, true);",
    "TS2345",
    "Argument of type 'boolean' is not assignable to parameter of type 'number'.",
  ],
  [
    "setOptionOf({ fd: 3 }, SocketOption.keepAlive, undefined);",
    "TS2345",
    "Argument of type 'undefined' is not assignable to parameter of type 'boolean'.",
  ],
  [
    'setOptionOf({ fd: 3 }, IpOption.mtuDiscover, "yes");',
    "TS2345",
    "Argument of type '\"yes\"' is not assignable to parameter of type " +
      '\'"do" | "dont" | "interface" | "omit" | "probe" | "want"\'.',
  ],
  [
    "setOptionOf({ fd: 3 }, IpOption.localPortRange, { low: 1 });",
    "TS2741",
    "Property 'high' is missing in type '{ low: number; }' but required in type 'PortRange'.",
  ],
  [
    'getOptionOf(3, { name: "SO_TYPE" });',
    "TS2741",
    "Property '[GET]' is missing in type '{ name: string; }' but required in type " +
      "'ReadableOption<unknown>'.",
  ],
  [
    "const text: string = getOptionOf(3, TcpOption.noDelay);",
    "TS2322",
    "Type 'boolean' is not assignable to type 'string'.",
  ],
  [
    "SocketOption.broadcast = UdpOption.gro;",
    "TS2540",
    "Cannot assign to 'broadcast' because it is a read-only property.",
  ],
];

/** What the compiler says of a program, by line, leaving out what other files have. */
function errorsOf(name: string, source: string): { line: number; code: string; text: string }[] {
  const imports = `import {
  getOptionOf, setOptionOf, IpOption, Ipv6Option, type Option, SocketOption, TcpOption, UdpOption,
} from ${JSON.stringify(join(root, "lib/option.ts"))};
export {};
`;
  const project = join(folder, name);
  writeFileSync(`${project}.ts`, imports + source);
  const config = {
    extends: join(root, "tsconfig.json"),
    compilerOptions: {
      noUnusedLocals: false,
      typeRoots: [join(root, "node_modules"), join(root, "node_modules/@types")],
    },
    include: [`${name}.ts`],
  };
  writeFileSync(`${project}.json`, JSON.stringify(config));
  writeFileSync(join(folder, "package.json"), '{ "type": "module" }');
  const tsc = join(root, "node_modules/typescript/bin/tsc");
  const { stdout } = Bun.spawnSync(
    [process.execPath, tsc, "-p", `${project}.json`, "--pretty", "false"],
    { cwd: folder },
  );
  const first = imports.split("\n").length;
  const said = new RegExp(`^${name}\\.ts\\((\\d+),\\d+\\): error (TS\\d+): (.*)$`, "gm");
  return [...stdout.toString().matchAll(said)].map(([, line, code = "", text = ""]) => ({
    line: Number(line) - first,
    code,
    text,
  }));
}

describe("the compiler", () => {
  test(
    "takes every option in its direction and with its value, and refuses the wrong lines",
    () => {
      const expected = wrong.map(([line]) => `// @ts-expect-error\n${line}\n`).join("");
      expect(errorsOf("expected", right + expected)).toEqual([]);
    },
    COMPILE_MS_MAX,
  );

  test(
    "says of each wrong line what is wrong with it, and nothing of the others",
    () => {
      const source = right + wrong.map(([line]) => `${line}\n`).join("");
      const first = right.split("\n").length - 1;
      expect(errorsOf("refused", source)).toEqual(
        wrong.map(([, code, text], index) => ({ line: first + index, code, text })),
      );
    },
    COMPILE_MS_MAX,
  );
});
