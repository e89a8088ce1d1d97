/**
 * A run of the suite that never was: made-up numbers of a plausible size, for tests of what is made
 * of a run. Its machine is called a fixture, so that nobody takes it for a measurement.
 *
 * @module
 */
import type {
  EnvironmentLine,
  LatencySteps,
  ResultLine,
  Spread,
  SuiteLine,
} from "../../bench/results.ts";

export const ENVIRONMENT: EnvironmentLine = {
  kind: "environment",
  at: "2026-01-02T03:04:05.000Z",
  commit: "0123456789abcdef0123456789abcdef01234567",
  isDirty: false,
  bun: "1.4.5",
  node: "v26.1.0",
  deno: null,
  python: "3.13.1",
  kernel: "6.12.0-fixture",
  cpu: "Fixture CPU, not measured",
  cores: 4,
  memoryGiB: 15.6,
  load: 0.42,
  mitigations: { spectre_v2: "Mitigation: Retpolines" },
  offloads: { UDP_SEGMENT: "yes", UDP_GRO: "yes", rmem_max: "212992" },
};

export function spread(median: number, width = 0.04): Spread {
  return { median, min: median * (1 - width), max: median * (1 + width) };
}

/** One result, plausible in itself, with what a test wants otherwise. */
export function resultLine(ns: number, other: Partial<ResultLine> = {}): ResultLine {
  const payloadBytes = other.payloadBytes ?? 64;
  const width = other.isNoisy ? 0.3 : 0.04;
  const perSecond = 1e9 / ns;
  return {
    kind: "result",
    cell: "udp4/64/sendmmsg-recvmmsg",
    question: "paths",
    peer: "bun-sockets",
    send: "sendmmsg",
    receive: "recvmmsg",
    family: "ipv4",
    payloadBytes,
    batch: 64,
    topology: "two processes",
    form: "try",
    rounds: 9,
    datagrams: 9 * Math.round(0.4 * perSecond),
    lost: 0,
    ns: spread(ns, width),
    sendCpuNs: spread(ns * 0.9, width),
    receiveCpuNs: spread(ns * 0.6, width),
    datagramsPerSecond: spread(perSecond, width),
    gbitPerSecond: spread((perSecond * payloadBytes * 8) / 1e9, width),
    sendCallsPerDatagram: 1 / 64,
    receiveCallsPerDatagram: 1 / 64,
    bytesAllocatedPerDatagram: 0,
    achievedSendBatch: 64,
    achievedReceiveBatch: 61.4,
    achievedSegments: null,
    sendBufferBytes: 425984,
    receiveBufferBytes: 425984,
    latencyUs: null,
    ratioToC: null,
    isNoisy: false,
    ...other,
  };
}

const SEND: Readonly<Record<string, number>> = {
  send: 520,
  sendto: 560,
  sendmsg: 590,
  sendmmsg: 310,
  GSO: 45,
};
const RECEIVE: Readonly<Record<string, number>> = {
  recv: 120,
  recvmmsg: 40,
  GRO: 5,
  "packet ring": 30,
};

/** Lines of a whole run: the base with all peers, and what is varied: paths, batches, forms. */
export function wholeRun(): SuiteLine[] {
  return [ENVIRONMENT, ...peers(), ...paths(), ...batches(), ...forms()];
}

function paths(): ResultLine[] {
  return [64, 1200].flatMap((payloadBytes) =>
    Object.entries(SEND).flatMap(([send, sendNs]) =>
      Object.entries(RECEIVE).flatMap(([receive, receiveNs]) => {
        if (send === "sendmmsg" && receive === "recvmmsg") return [];
        const ns = sendNs + receiveNs + payloadBytes / 16;
        const cell = `udp4/${payloadBytes}/${send}-${receive.replace(" ", "_")}`;
        const of = { cell, payloadBytes, send, receive };
        const isNoisy = send === "sendto" && receive === "GRO";
        const lost = receive === "packet ring" ? 12345 : 0;
        return [
          resultLine(ns * 1.06, {
            ...of,
            isNoisy,
            lost,
            ratioToC: spread(1.06, isNoisy ? 0.3 : 0.02),
          }),
          resultLine(ns, { ...of, peer: "c" }),
        ];
      }),
    ),
  );
}

function batches(): ResultLine[] {
  return [64, 1200].flatMap((payloadBytes) =>
    [1, 4, 16, 256].flatMap((batch) => {
      const ns = 300 + 400 / batch + payloadBytes / 12;
      const of = {
        question: "batches",
        cell: `udp4/${payloadBytes}/batch-${batch}`,
        payloadBytes,
        batch,
      };
      const isNoisy = batch === 4 && payloadBytes === 1200;
      return [
        resultLine(ns * 1.08, { ...of, isNoisy, ratioToC: spread(1.08, isNoisy ? 0.3 : 0.03) }),
        resultLine(ns, { ...of, peer: "c" }),
      ];
    }),
  );
}

function peers(): ResultLine[] {
  const times = {
    "bun-sockets": 380,
    c: 350,
    "bun-udp": 1400,
    "node-dgram-bun": 6100,
    "node-dgram": 5200,
    deno: 9000,
    python: 2300,
  };
  return [64, 1200].flatMap((payloadBytes) =>
    Object.entries(times).map(([peer, base], i) => {
      const ns = base + payloadBytes / 16;
      const p50 = 8 * (i + 1);
      return resultLine(ns, {
        question: "peers",
        cell: `udp4/${payloadBytes}/sendmmsg-recvmmsg`,
        peer,
        payloadBytes,
        ratioToC: peer === "c" ? null : spread(base / 350, 0.05),
        latencyUs: { p50, p90: p50 * 1.4, p99: p50 * 4, max: p50 * 60 },
        latencySteps: stepsAround(p50),
        lost: peer === "deno" ? 4000 : 0,
      });
    }),
  );
}

// Most take about so long, some twice as long, and one of hundreds much longer.
function stepsAround(us: number): LatencySteps {
  return [
    [us / 2 ** 0.25, 300],
    [us, 400],
    [us * 2 ** 0.25, 250],
    [us * 2, 45],
    [us * 64, 5],
  ];
}

function forms(): ResultLine[] {
  return ["promise", "handler"].map((form, i) => {
    const p50 = 13 + 4 * i;
    return resultLine(460 + 90 * i, {
      question: "forms",
      cell: `udp4/64/sendmmsg-recvmmsg/${form}`,
      form,
      latencyUs: { p50, p90: p50 * 1.5, p99: p50 * 3, max: p50 * 80 },
      isNoisy: form === "handler",
    });
  });
}

/** The text of a run's file. */
export function ndjson(lines: readonly SuiteLine[]): string {
  return lines.map((line) => `${JSON.stringify(line)}\n`).join("");
}
