import { type PingFailure, type PingReply, PingSocket, resolve } from "bun-sockets";
import { type Command, Option } from "commander";
import {
  type CommonOptions,
  FAILURE,
  makeCommand,
  type Run,
  SUCCESS,
  withAction,
} from "./command.ts";
import { round, Spread, spreadText } from "./spread.ts";
import { duration, integer } from "./values.ts";

interface IcmpOptions extends CommonOptions {
  readonly count?: number;
  readonly interval: number;
  readonly timeout: number;
  readonly size: number;
  readonly ipv4?: true;
  readonly ipv6?: true;
}

const MS = 1e6;

/** `icmp`: asks a host for echoes. */
export function icmpCommand(): Command {
  const command = makeCommand("icmp", "Asks a host for ICMP echoes and measures the round trips.", {
    examples: [
      ["bun-sockets icmp example.com", "once a second, until Ctrl-C"],
      ["bun-sockets icmp -c 100 -i 10ms --json 192.0.2.1 | tail -n 1", "the summary of a hundred"],
      ["bun-sockets icmp -6 -s 1400 -c 3 example.com", "large ones over IPv6"],
    ],
    exitCodes:
      "Exit codes: 0 there were answers, 1 there was none or something failed, 2 wrong usage.",
  })
    .argument("<host>", "a name or an address")
    .option("-c, --count <echoes>", "end after so many", integer(1, 2 ** 31 - 1))
    .addOption(
      new Option(
        "-i, --interval <time>",
        'between two: seconds, or "200ms"; 0 waits for each answer instead',
      )
        .argParser(duration)
        .default(1000, "1s"),
    )
    .addOption(
      new Option("--timeout <time>", "how long an answer may take")
        .argParser(duration)
        .default(2000, "2s"),
    )
    .option("-s, --size <bytes>", "of payload", integer(0, 65_507), 56)
    .addOption(new Option("-4, --ipv4", "over IPv4 only").conflicts("ipv6"))
    .addOption(new Option("-6, --ipv6", "over IPv6 only").conflicts("ipv4"));
  return withAction<IcmpOptions>(command, icmp);
}

async function icmp(run: Run, options: IcmpOptions, operands: string[]): Promise<number> {
  const [host = ""] = operands;
  const family = options.ipv4 ? "ipv4" : options.ipv6 ? "ipv6" : undefined;
  const [first] = await resolve(host, undefined, { type: "datagram", family, signal: run.stop });
  if (first === undefined) throw new Error(`Cannot find an address of ${host}`);
  const { address } = first;
  using socket = PingSocket.open(address);
  const title = host === address.host ? host : `${host} (${address.host})`;
  const tally = new Tally(run, title, address.host);
  if (!run.json) run.output.line(`${title}: ${options.size} bytes of payload`);
  run.output.flush();
  try {
    const series = socket.series(address, {
      count: options.count,
      intervalMs: options.interval,
      timeoutMs: options.timeout,
      payloadBytes: options.size,
      signal: run.stop,
    });
    for await (const result of series) {
      if (result.error) tally.failure(result);
      else tally.reply(result);
      run.output.flush();
    }
  } catch (error) {
    if (!run.stop.aborted) throw error;
  } finally {
    tally.report(socket.statistics.sent);
  }
  return tally.answered > 0 ? SUCCESS : FAILURE;
}

/** Shows what becomes of each request, and counts. */
class Tally {
  readonly #run: Run;
  readonly #title: string;
  readonly #host: string;
  readonly #roundTrips = new Spread();
  #lost = 0;
  #duplicates = 0;

  constructor(run: Run, title: string, host: string) {
    this.#run = run;
    this.#title = title;
    this.#host = host;
  }

  get answered(): number {
    return this.#roundTrips.count;
  }

  reply({ address, sequence, roundTripMs, ttl, payloadBytes, duplicate }: PingReply): void {
    if (duplicate) this.#duplicates++;
    else this.#roundTrips.record(roundTripMs * MS);
    const { json, output } = this.#run;
    const { host } = address;
    const ms = round(roundTripMs, 3);
    if (json) {
      const reply = { address: host, sequence, roundTripMs: ms, ttl, payloadBytes, duplicate };
      output.json({ type: "reply", ...reply });
      return;
    }
    output.line(
      `${payloadBytes} bytes from ${host}: seq ${sequence} ttl ${ttl} time ${ms} ms` +
        (duplicate ? " (duplicate)" : ""),
    );
  }

  failure({ sequence, error }: PingFailure): void {
    this.#lost++;
    const { json, output } = this.#run;
    const { code, message } = error;
    if (json) output.json({ type: "failure", sequence, code, message });
    else if (code === "ETIMEDOUT") output.line(`no answer: seq ${sequence}`);
    else output.line(`no answer: seq ${sequence}: ${message}`);
  }

  report(sent: number): void {
    const { answered } = this;
    const lost = this.#lost;
    const duplicates = this.#duplicates;
    // Those that Ctrl-C came before are not lost.
    const waiting = Math.max(0, sent - answered - lost);
    const requests = answered + lost + waiting;
    const lostPercent = answered + lost > 0 ? round((100 * lost) / (answered + lost), 1) : 0;
    const roundTripMs = this.#roundTrips.summary(MS);
    const { json, output } = this.#run;
    if (json) {
      output.json({
        type: "summary",
        address: this.#host,
        sent: requests,
        answered,
        lost,
        waiting,
        duplicates,
        lostPercent,
        roundTripMs: roundTripMs ?? null,
      });
      return;
    }
    const rest = [
      `${requests} sent, ${answered} answered, ${lost} lost (${lostPercent} %)`,
      ...(waiting > 0 ? [`${waiting} not waited for`] : []),
      ...(duplicates > 0 ? [`${duplicates} duplicates`] : []),
    ];
    output.line(`${this.#title}: ${rest.join(", ")}`);
    if (roundTripMs === undefined) return;
    output.line(`round trip in ms: ${spreadText(roundTripMs)}`);
  }
}
