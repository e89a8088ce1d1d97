import { type Capability, capabilities } from "bun-sockets";
import { Argument, type Command, Option } from "commander";
import {
  type CommonOptions,
  FAILURE,
  makeCommand,
  type Run,
  SUCCESS,
  withAction,
} from "./command.ts";
import { KernelFiles } from "./info_files.ts";
import { type InterfaceFacts, readInterfaces } from "./info_interfaces.ts";
import {
  type Demand,
  type Limit,
  type LostSoFar,
  makeDemand,
  readLimits,
  readLostSoFar,
} from "./info_limits.ts";
import { type Machine, readMachine } from "./info_machine.ts";
import type { Output } from "./output.ts";
import { duration, integer } from "./values.ts";

interface InfoOptions extends CommonOptions {
  readonly rate: number;
  readonly pause: number;
  readonly size: number;
  readonly strict?: true;
}

const PARTS = ["machine", "limits", "lost", "interfaces", "capabilities"] as const;
type Part = (typeof PARTS)[number];

/** `info`: what this machine can do, and how much of it. */
export function infoCommand(): Command {
  const command = makeCommand(
    "info",
    "Shows what this machine can do, its limits in datagrams, and what to change.",
    {
      examples: [
        ["bun-sockets info machine limits", "these parts; without a name all. No right is needed"],
        [
          "bun-sockets info limits --rate 500000 --pause 20ms --size 1200",
          "what would be too low for that",
        ],
        ["bun-sockets info --strict limits", "fails where something is low: before a measurement"],
        [
          "bun-sockets info --json capabilities | jq -r 'select(.supported == false).name'",
          "what is missing, for programs",
        ],
      ],
      exitCodes:
        "Exit codes: 0 told, also of what could not be read; 1 with --strict a limit is low, or\n" +
        "something failed; 2 wrong usage.",
    },
  )
    .addArgument(new Argument("[part...]", "what to show: all").choices(PARTS))
    .addOption(
      new Option("--rate <datagrams>", "a second, that the limits are held against")
        .argParser(integer(1, 1e9))
        .default(100_000),
    )
    .addOption(
      new Option("--pause <time>", 'for which nobody receives: seconds, or "20ms"')
        .argParser(duration)
        .default(10, "10ms"),
    )
    .addOption(
      new Option("--size <bytes>", "of payload of these datagrams")
        .argParser(integer(0, 65_507))
        .default(64),
    )
    .option("--strict", "end with 1 when a limit is low");
  return withAction<InfoOptions>(command, info);
}

async function info(run: Run, options: InfoOptions, operands: string[]): Promise<number> {
  const isShown = (part: Part) => operands.length === 0 || operands.includes(part);
  const files = new KernelFiles();
  const show = run.json ? new JsonShow(run.output) : new TextShow(run.output);
  if (isShown("machine")) show.machine(await readMachine(files));
  let limits: Limit[] = [];
  // Also where limits are not shown, who asks for --strict asks for them.
  if (isShown("limits") || options.strict) {
    const demand = makeDemand(files, options.rate, options.pause, options.size);
    limits = readLimits(files, demand);
    if (isShown("limits")) show.limits(limits, demand);
  }
  if (isShown("lost")) show.lost(readLostSoFar(files));
  if (isShown("interfaces")) show.interfaces(readInterfaces(files));
  const able = isShown("capabilities") ? Object.entries(capabilities()) : [];
  if (able.length > 0) show.capabilities(able);
  const named = (status: Limit["status"]) =>
    limits.filter((limit) => limit.status === status).map(({ name }) => name);
  const low = named("low");
  show.end({
    low,
    off: named("off"),
    unsupported: able.filter(([, { supported }]) => !supported).map(([name]) => name),
    unreadable: files.unreadable,
  });
  return options.strict && low.length > 0 ? FAILURE : SUCCESS;
}

/** What the last line is made of. */
interface Summary {
  readonly low: readonly string[];
  readonly off: readonly string[];
  readonly unsupported: readonly string[];
  readonly unreadable: KernelFiles["unreadable"];
}

type Abilities = readonly (readonly [name: string, capability: Capability])[];

/** A line of JSON for each thing. */
class JsonShow {
  readonly #output: Output;

  constructor(output: Output) {
    this.#output = output;
  }

  machine(machine: Machine): void {
    this.#output.json({ type: "machine", ...machine });
  }

  limits(limits: readonly Limit[], demand: Demand): void {
    this.#output.json({ type: "demand", ...demand });
    for (const limit of limits) this.#output.json({ type: "limit", ...limit });
  }

  lost(lost: LostSoFar): void {
    this.#output.json({ type: "lost", ...lost });
  }

  interfaces(all: readonly InterfaceFacts[]): void {
    for (const each of all) this.#output.json({ type: "interface", ...each });
  }

  capabilities(all: Abilities): void {
    for (const [name, capability] of all) {
      const { supported, reason, detail = null, hint = null } = capability;
      this.#output.json({ type: "capability", name, supported, reason, detail, hint });
    }
  }

  end(summary: Summary): void {
    this.#output.json({ type: "summary", ...summary });
  }
}

/** Tables for people. */
class TextShow {
  readonly #output: Output;

  constructor(output: Output) {
    this.#output = output;
  }

  machine(machine: Machine): void {
    this.#title("Machine");
    const { kernel, architecture, cores, coresAllowed, coresQuota, idle, ringer } = machine;
    const quota = coresQuota === null ? "" : `, time of ${coresQuota} granted`;
    const refused = machine.refusals.map(({ name, reason }) => `not ${name}: ${reason}`);
    this.#rows([
      ["kernel", `Linux ${kernel}, ${architecture}${machine.virtual ? ", a guest" : ""}`],
      ["CPU", machine.cpu ?? "unknown"],
      [
        "cores",
        `${cores}, ${coresAllowed} allowed${quota}${machine.smt ? ", two threads each" : ""}`,
      ],
      ["speed", machine.governor === null ? "no governor" : `governor ${machine.governor}`],
      ["sleep", idle === null ? "no idle driver" : `${idle.driver}, wakes in ${idle.deepestUs} µs`],
      ["clock", machine.clock ?? "unknown"],
      ["memory", `${machine.memoryGiB} GiB`],
      ["load", `${machine.load}`],
      ["Bun", `${machine.bun}${machine.libc === null ? "" : `, ${machine.libc}`}`],
      ["event loop", [`rung by ${ringer ?? "nothing"}`, ...refused].join("; ")],
      ...Object.entries(machine.mitigations).map(([name, text]) => [name, text] as const),
    ]);
  }

  limits(limits: readonly Limit[], demand: Demand): void {
    const { rate, pauseMs, payloadBytes, chargedBytes, datagrams } = demand;
    this.#title(`Limits, for ${rate} datagrams a second of ${payloadBytes} bytes`);
    this.#output.line(
      `  In a pause of ${pauseMs} ms ${datagrams} of them come; each is charged ${chargedBytes} bytes.`,
    );
    const wide = width(limits.map(({ name }) => name));
    const values = limits.map(({ value, unit }) => {
      const text = Array.isArray(value) ? value.join(" ") : `${value ?? "?"}`;
      return unit === null ? text : `${text} ${unit}`;
    });
    const wideValue = width(values);
    for (const [i, { name, datagrams, meaning, status, change }] of limits.entries()) {
      const count = datagrams === null ? "" : `holds ${datagrams} datagrams: `;
      const mark = status === "ok" || status === "unknown" ? "" : `${status.toUpperCase()}: `;
      const value = values[i] ?? "";
      this.#output.line(
        `  ${name.padEnd(wide)}  ${value.padEnd(wideValue)}  ${mark}${count}${meaning}`,
      );
      if (change !== null) this.#output.line(`  ${"".padEnd(wide)}  change it: ${change}`);
    }
  }

  lost({ udp4, udp6, backlog }: LostSoFar): void {
    this.#title("Lost since the start of this network namespace");
    this.#rows([
      ["UDP, IPv4", counters(udp4)],
      ["UDP, IPv6", counters(udp6)],
      [
        "all CPUs",
        backlog === null
          ? "unknown"
          : `${backlog.drops} dropped for a full backlog, budget spent ${backlog.squeezes} times`,
      ],
    ]);
  }

  interfaces(all: readonly InterfaceFacts[]): void {
    this.#title("Interfaces");
    for (const each of all) this.#interface(each);
  }

  #interface(facts: InterfaceFacts): void {
    const { name, mtu, speedMbit, driver, queues, rings, receiveCoalesceUs, offloads } = facts;
    const state = facts.up ? (facts.running ? "up" : "up, no carrier") : "down";
    const first = [state, `MTU ${mtu}`, ...(driver === null ? [] : [`driver ${driver}`])];
    if (speedMbit !== null) first.push(`${speedMbit} Mbit/s`);
    this.#output.line(`  ${name}: ${[...first, ...facts.addresses].join(", ")}`);
    if (queues) {
      const { receive, send, receiveSpread, sendSpread, sendLength } = queues;
      this.#output.line(
        `    queues: ${receive} receive (${receiveSpread} with RPS), ${send} send ` +
          `(${sendSpread} with XPS)${sendLength === null ? "" : `, ${sendLength} packets wait`}`,
      );
    }
    if (rings) {
      const { receive, receiveMax, send, sendMax } = rings;
      const wait = receiveCoalesceUs === null ? "" : `, interrupts after ${receiveCoalesceUs} µs`;
      this.#output.line(
        `    rings: receive ${receive} of ${receiveMax}, send ${send} of ${sendMax}${wait}`,
      );
    }
    if (offloads) {
      const named = (isOn: boolean) =>
        Object.keys(offloads)
          .filter((feature) => offloads[feature] === isOn)
          .join(" ") || "none";
      this.#output.line(`    on: ${named(true)}`);
      this.#output.line(`    off: ${named(false)}`);
    }
    for (const advice of facts.advice) this.#output.line(`    ${advice}`);
  }

  capabilities(all: Abilities): void {
    this.#title("Capabilities");
    const wide = width(all.map(([name]) => name));
    for (const [name, { supported, reason, detail, hint }] of all) {
      const answer = supported ? ["yes", detail].filter(Boolean).join(", ") : `no, ${reason}`;
      this.#output.line(`  ${name.padEnd(wide)}  ${answer}`);
      if (hint !== undefined) this.#output.line(`  ${"".padEnd(wide)}  ${hint}`);
    }
  }

  end({ low, unreadable }: Summary): void {
    if (unreadable.length > 0) {
      this.#title("Not readable here");
      this.#rows(unreadable.map(({ what, reason }) => [what, reason] as const));
    }
    if (low.length > 0) {
      this.#title(`${low.length === 1 ? "One limit is" : `${low.length} limits are`} low`);
      this.#output.line(`  ${low.join(", ")}`);
    }
  }

  #hasTitle = false;

  #title(text: string): void {
    if (this.#hasTitle) this.#output.line("");
    this.#hasTitle = true;
    this.#output.line(text);
  }

  #rows(rows: readonly (readonly [name: string, text: string])[]): void {
    const wide = width(rows.map(([name]) => name));
    for (const [name, text] of rows) this.#output.line(`  ${name.padEnd(wide)}  ${text}`);
  }
}

function width(texts: readonly string[]): number {
  return Math.max(0, ...texts.map((text) => text.length));
}

function counters(values: Readonly<Record<string, number>> | null): string {
  if (values === null) return "unknown";
  return Object.entries(values)
    .map(([name, value]) => `${name} ${value}`)
    .join(", ");
}
