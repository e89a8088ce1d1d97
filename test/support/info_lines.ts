/**
 * What `bun-sockets info --json` says.
 *
 * @module
 */
import { expect } from "bun:test";
import { type RunOptions, runCommand } from "./command.ts";

/** A line of it. */
export interface InfoLine {
  readonly type: string;
  readonly [name: string]: unknown;
}

/** A limit. */
export interface LimitLine extends InfoLine {
  readonly name: string;
  readonly value: number | readonly number[] | string | null;
  readonly datagrams: number | null;
  readonly meaning: string;
  readonly status: "ok" | "low" | "off" | "unknown";
  readonly change: string | null;
}

/** Runs it with these values, which must go well. */
export function infoLines(...values: readonly (string | RunOptions)[]): InfoLine[] {
  const options = values.find((value) => typeof value === "object");
  const words = values.filter((value) => typeof value === "string");
  const { exitCode, stdout, stderr } = runCommand(["info", "--json", ...words], options);
  expect([exitCode, stderr]).toEqual([0, ""]);
  return stdout
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line) as InfoLine);
}

/** Its limits, by name. */
export function limitsOf(lines: readonly InfoLine[]): ReadonlyMap<string, LimitLine> {
  const limits = lines.filter((line): line is LimitLine => line.type === "limit");
  return new Map(limits.map((limit) => [limit.name, limit]));
}

/** The line of a shell that shows a sysctl: sysctl(8)'s, where there is one. */
export function showSysctl(name: string): string {
  return Bun.which("sysctl") === null ? `cat ${fileOf(name)}` : `sysctl -n ${name}`;
}

/** The line of a shell that does what a `sysctl -w NAME=VALUE` says, also without sysctl(8). */
export function setSysctl(command: string): string {
  if (Bun.which("sysctl") !== null) return command;
  const [, name = "", value = ""] = /^sysctl -w ([\w.]+)="?([^"]*)"?$/.exec(command) ?? [];
  return `echo "${value}" > ${fileOf(name)}`;
}

function fileOf(name: string): string {
  return `/proc/sys/${name.replaceAll(".", "/")}`;
}
