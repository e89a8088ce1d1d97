/** Filters as text: what libpcap makes of them, what is refused before, and the assembler. */
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { join } from "node:path";
import { FilterProgram, SystemError, UnixDatagramSocket } from "bun-sockets";
import {
  assembleFilter,
  compileFilter,
  disassembleFilter,
  FilterError,
  type LinkTypeName,
  runFilter,
} from "bun-sockets/packet";
import { BPF_ALU, BPF_JMP, BPF_MISC, BPF_NEG, BPF_X, EACCES } from "bun-sockets/sys";
import fc from "fast-check";
import { systemErrorOf } from "../support/errors.ts";
import { failWith, replaceLibc } from "../support/faults.ts";
import { requires, testIf } from "../support/require.ts";
import { ETHERNET, EVERYWHERE } from "./filter_expressions.ts";
import { programs } from "./filter_programs.ts";

// Other programs are started by the hundred: on a busy machine that takes its time.
setDefaultTimeout(60_000);

const library = Bun.which("tcpdump") ? undefined : "needs libpcap0.8";
const compiling = testIf(library);
const compared = testIf(requires("tcpdump"));

function errorOf(run: () => unknown): FilterError {
  try {
    run();
  } catch (error) {
    if (error instanceof FilterError) return error;
    throw error;
  }
  throw new Error("It did not throw");
}

interface Output {
  readonly out: string;
  readonly error: string;
}

/** What tcpdump prints for filters, four at a time: each takes 6 ms, most of it for the start. */
async function tcpdump(texts: readonly string[], ...options: readonly string[]): Promise<Output[]> {
  const results: Output[] = [];
  let next = 0;
  const work = async () => {
    while (next < texts.length) {
      const i = next++;
      const child = Bun.spawn(["tcpdump", ...options, "--", texts[i] as string], {
        stderr: "pipe",
      });
      const [out, error] = await Promise.all([child.stdout.text(), child.stderr.text()]);
      results[i] = { out: out.trimEnd(), error };
    }
  };
  await Promise.all([work(), work(), work(), work()]);
  return results;
}

/** What we make of a filter, as tcpdump -ddd prints it; or the complaint of libpcap. */
function compiled(text: string, linkType: LinkTypeName = "ethernet"): string {
  try {
    return `${compileFilter(text, { linkType })}`;
  } catch (error) {
    const [, complaint] =
      /^Cannot compile .* as a filter: (.*)$/.exec((error as Error).message) ?? [];
    if (complaint === undefined) throw error;
    return `tcpdump: ${complaint}`;
  }
}

/** The program without what its text does not show: constants that no instruction looks at. */
function shown(program: FilterProgram): FilterProgram {
  return new FilterProgram(
    program.instructions.map((instruction) => {
      const { code } = instruction;
      const isOfX = (code % 8 === BPF_ALU || code % 8 === BPF_JMP) && (code & BPF_X) !== 0;
      const isSilent = isOfX || code % 8 === BPF_MISC || code === (BPF_ALU | BPF_NEG);
      return isSilent ? { ...instruction, k: 0 } : instruction;
    }),
  );
}

/** The same of tcpdump, without what it says of itself. */
const outcome = ({ out, error }: Output): string =>
  out || (error.split("\n").findLast((line) => line.startsWith("tcpdump: ")) ?? "");

test("there are enough filters to compare, all different", () => {
  expect(new Set(ETHERNET).size).toBeGreaterThanOrEqual(150);
});

compared("compileFilter() makes the instructions of tcpdump -ddd, for Ethernet", async () => {
  const expected = await tcpdump(ETHERNET, "-y", "EN10MB", "-ddd");
  const programs = ETHERNET.map((text) => [text, compiled(text)]);
  expect(programs).toEqual(ETHERNET.map((text, i) => [text, outcome(expected[i] as Output)]));
  const made = programs.filter(([, program]) => !program?.startsWith("tcpdump"));
  expect(made.length).toBeGreaterThanOrEqual(150);
});

const OTHERS: readonly (readonly [name: LinkTypeName, dlt: string])[] = [
  ["raw", "RAW"],
  ["linux_sll", "LINUX_SLL"],
  ["linux_sll2", "LINUX_SLL2"],
  ["null", "NULL"],
  ["loop", "LOOP"],
  ["ipv4", "IPV4"],
];

compared(
  "compileFilter() makes those of tcpdump for other link types, and says the same",
  async () => {
    for (const [linkType, dlt] of OTHERS) {
      const expected = await tcpdump(EVERYWHERE, "-y", dlt, "-ddd");
      const programs = EVERYWHERE.map((text) => [linkType, text, compiled(text, linkType)]);
      expect(programs).toEqual(
        EVERYWHERE.map((text, i) => [linkType, text, outcome(expected[i] as Output)]),
      );
      const complaints = programs.filter(([, , program]) => program?.startsWith("tcpdump"));
      expect(complaints).toHaveLength(linkType === "ipv4" ? 5 : 0);
    }
  },
);

compared("the options of compileFilter() are those of tcpdump: -s, -O", async () => {
  const texts = [
    "",
    "tcp port 80",
    "ip[ip[2:2] - 1] = 0",
    "host 10.0.0.1 and (port 80 or port 53)",
  ];
  const short = await tcpdump(texts, "-y", "EN10MB", "-s", "96", "-ddd");
  const long = await tcpdump(texts, "-y", "EN10MB", "-O", "-ddd");
  for (const [i, text] of texts.entries()) {
    expect(`${compileFilter(text, { snapBytes: 96 })}`).toBe(short[i]?.out ?? "");
    expect(`${compileFilter(text, { optimize: false })}`).toBe(long[i]?.out ?? "");
  }
});

compared("disassembleFilter() prints what tcpdump -d prints", async () => {
  const expected = await tcpdump(ETHERNET, "-y", "EN10MB", "-d");
  for (const [i, { out, error }] of expected.entries()) {
    if (error.includes("tcpdump:")) continue;
    const program = compileFilter(ETHERNET[i] as string);
    const printed = disassembleFilter(program);
    expect(printed.trimEnd()).toBe(out);
    expect(`${assembleFilter(printed)}`).toBe(`${shown(program)}`);
  }
});

compared("a text that is no filter is refused with libpcap's own words", async () => {
  const bad = [
    "ip[",
    "tcp port",
    "port 80 and",
    "(ip",
    "port 70000",
    "port nosuchservice",
    "ip proto nosuch",
    "net 10.0.0.1/8",
    "src 1.2.3.4/33",
    "ip and not ip",
    "host 1.2.3.4 1.2.3.4",
    "ip[0:3] = 1",
    "type mgt",
    "é",
    "ether host 00:11:22:33:44",
  ];
  const expected = await tcpdump(bad, "-y", "EN10MB", "-ddd");
  const said = expected.map(outcome);
  expect(bad.map((text) => compiled(text))).toEqual(said);
  expect(said.filter((text) => !text.startsWith("tcpdump: "))).toEqual([]);
});

describe("names", () => {
  const refused: readonly [text: string, name: string, column: number][] = [
    ["host example.com", "example.com", 6],
    ["example.com", "example.com", 1],
    ["src localhost", "localhost", 5],
    ["dst host a", "a", 10],
    ["src or dst host a", "a", 17],
    ["net loopback", "loopback", 5],
    ["src net a.b", "a.b", 9],
    ["gateway router", "router", 9],
    ["ether host printer", "printer", 12],
    ["ether src printer", "printer", 11],
    ["wlan addr1 ap", "ap", 12],
    ["host 1.2.3.4.5", "1.2.3.4.5", 6],
    ["host 1.2.3.4.", "1.2.3.4.", 6],
    ["host 0x", "0x", 6],
    ["host 10.0.0.1 or example.com", "example.com", 18],
    ["host 10.0.0.1 and not (fe80::1 or example.com)", "example.com", 35],
    ["port 80 and host a", "a", 18],
    ["port http and (tcp or host 1.2.3.4) or smtp", "smtp", 40],
    ["host (a)", "a", 7],
    ["host !a", "a", 7],
    ["host \\tcp", "tcp", 6],
    ["host \\a.b", "a.b", 6],
    ["ip host a", "a", 9],
    ["ip6 host a", "a", 10],
    ["decnet host a", "a", 13],
    ["host fe80::1foo", "oo", 14],
    ["host abc:def", "abc", 6],
    ["host 00:11:22:33:44:zz", "zz", 21],
    ["host a-b", "a-b", 6],
    ["host tcp-synx", "tcp-synx", 6],
    ["host HOST", "HOST", 6],
    ["Host 1.2.3.4", "Host", 1],
    ["type mgt and a", "a", 14],
    ["(port http) or (net a)", "a", 21],
    ["tcp or a", "a", 8],
    ["host\ta", "a", 6],
    ["host\r a", "a", 7],
    ["vlan 5 and host a", "a", 17],
    ["less 5 or a", "a", 11],
  ];

  test.each(refused)("%j is refused for its name", (text, name, column) => {
    const error = errorOf(() => compileFilter(text));
    expect(error.message).toContain(`the name ${JSON.stringify(name)}`);
    expect([error.line, error.column, error.hint]).toEqual([
      1,
      column,
      expect.stringContaining("DNS"),
    ]);
  });

  compiling("names of services and protocols are fine, also behind and, or, not", () => {
    const pairs: readonly [named: string, numbered: string][] = [
      ["tcp port http", "tcp port 80"],
      ["tcp port (http or domain)", "tcp port (80 or 53)"],
      ["tcp port domain or http and not ssh", "tcp port 53 or 80 and not 22"],
      ["tcp portrange ftp-http", "tcp portrange 21-80"],
      ["tcp src or dst port ssh", "tcp src or dst port 22"],
      ["ip proto \\tcp or igmp", "ip proto 6 or 2"],
      ["ether proto \\arp", "ether proto 0x806"],
      ["tcp port \\http", "tcp port 80"],
    ];
    for (const [named, numbered] of pairs)
      expect(`${compileFilter(named)}`).toBe(`${compileFilter(numbered)}`);
  });

  // The engine makes sockets and opens files of its own: what counts is where names are looked up.
  const child = `
    import { compileFilter } from ${JSON.stringify(join(import.meta.dir, "../../lib/packet/filter.ts"))};
    for (const text of JSON.parse(process.argv[1])) {
      try { compileFilter(text); console.log("compiled"); } catch (error) { console.log(error.name); }
    }`;
  const traced = testIf(library ?? requires("strace"));
  const lookups = (command: readonly string[]) => {
    const trace = [
      "strace",
      "-f",
      "-e",
      "trace=openat,connect,sendto,sendmmsg,sendmsg",
      ...command,
    ];
    const { stderr, stdout } = Bun.spawnSync(trace);
    const lines = stderr.toString().split("\n");
    const asks = /"\/etc\/(hosts|resolv\.conf|ethers|networks|host\.conf)"|htons\(53\)/;
    const found = lines.filter((line) => asks.test(line));
    const services = lines.filter((line) => line.includes('"/etc/services"'));
    return { found, services, stdout: stdout.toString().trim().split("\n") };
  };

  // Mostly sensible, so that many get as far as libpcap. None has the service at port 53: where a
  // service has several addresses, the C library connects to it, without sending, to sort them.
  const randomTexts = (count: number): string[] => {
    const heads =
      "host,net,port,src,dst,src host,dst port,tcp port,ip proto,ether host,ether proto".split(",");
    heads.push(
      ..."gateway,portrange,src or dst port,ip host,src net,type,llc,not,proto,wlan addr1".split(
        ",",
      ),
    );
    const values = "1.2.3.4,10,80,http,ssh,fe80::1,02:00:00:00:00:01,\\tcp,\\arp,foo,a.b,6".split(
      ",",
    );
    values.push(
      ..."(http or 80),(80 or foo),20-30,not 53,1.2.3.4/32,(1.2.3.4 or 5.6.7.8)".split(","),
    );
    const terms = "tcp,ip[0] = 5,vlan,(tcp or host 1.2.3.4),(port 80),less 9,arp,len > 3".split(
      ",",
    );
    const joints = [" and ", " or ", " and not ", " && ", " or (", ") and ", " "];
    let state = 7;
    const of = (list: readonly string[]) => {
      state = (Math.imul(state, 1664525) + 1013904223) | 0;
      return list[(state >>> 8) % list.length] as string;
    };
    const kinds = ["head", "head", "term", "value"];
    return Array.from({ length: count }, () => {
      let text = `${of(heads)} ${of(values)}`;
      while (of(["more", "end"]) === "more") {
        const kind = of(kinds);
        const next =
          kind === "head" ? `${of(heads)} ${of(values)}` : of(kind === "term" ? terms : values);
        text += of(joints) + next;
      }
      return text;
    });
  };

  traced("no file of hosts is read and no name server asked, whatever the text has", () => {
    const local = ["port http", "ip proto \\tcp", "host 1.2.3.4"];
    const made = randomTexts(3000);
    const texts = [...refused.map(([text]) => text), ...local, ...made];
    const run = lookups([process.execPath, "-e", child, JSON.stringify(texts)]);
    const outcomes = [...refused.map(() => "FilterError"), ...local.map(() => "compiled")];
    expect(run.stdout.slice(0, outcomes.length)).toEqual(outcomes);
    // Of the random ones some are filters, also such with names.
    const compiled = run.stdout.slice(outcomes.length).flatMap((word, i) => {
      return word === "compiled" ? [made[i] as string] : [];
    });
    expect(compiled.length).toBeGreaterThan(100);
    expect(compiled.filter((text) => /http|ssh|\\/.test(text)).length).toBeGreaterThan(20);
    expect(run.found).toEqual([]);
    // It sees what is opened.
    expect(run.services).not.toEqual([]);
  });

  testIf(requires("strace", "tcpdump"))(
    "tcpdump does look there, so that the test could tell",
    () => {
      const { found } = lookups(["tcpdump", "-y", "EN10MB", "-ddd", "host localhost"]);
      expect(found).not.toEqual([]);
    },
  );
});

describe("what compileFilter() refuses by itself", () => {
  test("a NUL, and a text that is too long", () => {
    expect(errorOf(() => compileFilter("ip\0 or host a")).message).toContain("a NUL in it, at 2");
    expect(errorOf(() => compileFilter(" ".repeat(16385))).message).toContain("at most 16384");
    expect(errorOf(() => compileFilter("é".repeat(8193))).message).toContain("16386 bytes");
  });

  compiling("a text of the greatest length is still compiled", () => {
    expect(`${compileFilter(`ip${" ".repeat(16382)}`)}`).toBe(`${compileFilter("ip")}`);
  });

  compiling("programs that the kernel does not take: loops, and too many instructions", () => {
    const loop = errorOf(() => compileFilter("ip6 protochain 58"));
    expect([loop.message, loop.hint]).toEqual([
      expect.stringContaining("has a loop"),
      expect.stringContaining("proto"),
    ]);
    const text = Array.from({ length: 500 }, (_, i) => `ip6 host fe80::${i}`).join(" or ");
    expect(
      errorOf(() => compileFilter(text.slice(0, 16000).replace(/ or [^r]*$/, ""))).message,
    ).toContain("instructions, and the kernel takes 4096");
  });

  test("what is no text, and wrong options", () => {
    for (const text of [undefined, null, 5, {}, ["ip"]])
      expect(() => compileFilter(text as never)).toThrow(TypeError);
    expect(() => compileFilter("ip", null as never)).toThrow(TypeError);
    for (const options of [
      { linkType: "token ring" },
      { snapBytes: 0 },
      { snapBytes: 2 ** 31 },
      { snapBytes: 1.5 },
      { vlan: -1 },
      { vlan: 4096 },
      { linkType: -1 },
    ])
      expect(() => compileFilter("ip", options as never)).toThrow(/Cannot use/);
    for (const options of [{ vlan: false }, { vlan: "5" }, { optimize: 1 }, { snapBytes: "9" }])
      expect(() => compileFilter("ip", options as never)).toThrow(TypeError);
  });

  compiling("a link type that libpcap knows nothing of, in its own words", () => {
    expect(errorOf(() => compileFilter("ip", { linkType: 9999 })).message).toContain(
      "as a filter: unknown data link type 9999",
    );
  });

  test("without libpcap there is an error that names the package, and the assembler works", () => {
    const script = `
      import { libpcapNames } from ${JSON.stringify(join(import.meta.dir, "../../lib/ffi/libpcap.ts"))};
      import { assembleFilter, compileFilter } from ${JSON.stringify(join(import.meta.dir, "../../lib/packet/filter.ts"))};
      libpcapNames.splice(0, 9, "libpcap-of-nobody.so.0.8", "libpcap-of-nobody.so.1");
      for (let i = 0; i < 2; i++) {
        try { compileFilter("ip"); } catch (error) {
          console.log(JSON.stringify([error.name, error.code, error.syscall, error.hint, String(error.cause)]));
        }
      }
      console.log(assembleFilter("ret #1").length);`;
    const { stdout, stderr } = Bun.spawnSync([process.execPath, "-e", script]);
    const [first = "", second, third] = stdout.toString().trim().split("\n");
    expect([stderr.toString(), second, third]).toEqual(["", first, "1"]);
    const [name, code, syscall, hint, cause] = JSON.parse(first);
    expect([name, code, syscall]).toEqual([SystemError.name, "ELIBACC", "dlopen"]);
    expect(hint).toContain("apt-get install libpcap0.8");
    expect(cause).toContain("libpcap-of-nobody.so.0.8");
    expect(cause).toContain("libpcap-of-nobody.so.1");
  });
});

describe("the vlan option", () => {
  const frame = new Uint8Array(60);
  frame.set([0x08, 0x06], 12);

  compiling("lets through what had the tag, and is told beside the packet", () => {
    const cases: readonly [vlan: number | true, tag: number | undefined, isLet: boolean][] = [
      [5, 5, true],
      [5, 0xe005, true],
      [5, 6, false],
      [5, undefined, false],
      [5, -1, false],
      [0, 0, true],
      [0, undefined, false],
      [true, 0, true],
      [true, 0xfff, true],
      [true, undefined, false],
    ];
    for (const [vlan, tag, isLet] of cases) {
      const accepted = runFilter(compileFilter("arp", { vlan }), frame, { vlan: tag });
      expect([vlan, tag, accepted]).toEqual([vlan, tag, isLet ? 262144 : 0]);
    }
  });

  compiling("the text is asked, too, and libpcap's own vlan looks into the bytes", () => {
    expect(runFilter(compileFilter("ip", { vlan: 5 }), frame, { vlan: 5 })).toBe(0);
    expect(runFilter(compileFilter("vlan"), frame, { vlan: 5 })).toBe(0);
    const tagged = new Uint8Array(64);
    tagged.set([0x81, 0x00, 0x00, 0x07, 0x08, 0x06], 12);
    expect(runFilter(compileFilter("vlan 7 and arp"), tagged)).toBe(262144);
    // Two tags, of which the kernel takes out the outer one.
    expect(runFilter(compileFilter("vlan 7 and arp", { vlan: 5 }), tagged, { vlan: 5 })).toBe(
      262144,
    );
  });

  compiling("works in front of programs that are longer than a jump", () => {
    const text = Array.from(
      { length: 150 },
      (_, i) => `ether host 02:00:00:00:00:${i.toString(16).padStart(2, "0")}`,
    ).join(" or ");
    const program = compileFilter(text, { vlan: 5 });
    expect(program.length).toBeGreaterThan(300);
    const last = new Uint8Array(60);
    last.set([2, 0, 0, 0, 0, 149], 6);
    expect(runFilter(program, last, { vlan: 5 })).toBe(262144);
    expect(runFilter(program, last, { vlan: 4 })).toBe(0);
  });
});

compiling(
  'the link type "cooked" reads what a cooked socket has no bytes for beside the packet',
  () => {
    const packet = new Uint8Array(40);
    packet.set([0x45, 0, 0, 40, 0, 0, 0, 0, 64, 17], 0);
    packet.set([0, 99, 0, 53], 20);
    const program = compileFilter("udp dst port 53 and inbound", { linkType: "cooked" });
    const isLet = (metadata: object) => runFilter(program, packet, metadata) > 0;
    expect(isLet({ protocol: 0x800 })).toBe(true);
    expect(isLet({ protocol: 0x806 })).toBe(false);
    expect(isLet({ protocol: 0x800, packetType: "outgoing" })).toBe(false);
    expect(isLet({ protocol: 0x800, packetType: 0 })).toBe(true);
    expect(errorOf(() => compileFilter("ether[7] = 1", { linkType: "cooked" })).message).toContain(
      "it reads the link-layer header",
    );
  },
);

describe("assembleFilter()", () => {
  test("takes what bpf_asm takes: the examples of the kernel's documentation", () => {
    // Documentation/networking/filter.rst of the kernel.
    const examples: readonly [text: string, program: string][] = [
      [
        "ldh [12]\njne #0x806, drop\nret #-1\ndrop: ret #0",
        "4,40 0 0 12,21 0 1 2054,6 0 0 4294967295,6 0 0 0",
      ],
      [
        "ldh [12]\njne #0x800, drop\nldb [23]\njneq #6, drop\nret #-1\ndrop: ret #0",
        "6,40 0 0 12,21 0 3 2048,48 0 0 23,21 0 1 6,6 0 0 4294967295,6 0 0 0",
      ],
      [
        "ld vlan_tci\njneq #10, drop\nret #-1\ndrop: ret #0",
        "4,32 0 0 4294963244,21 0 1 10,6 0 0 4294967295,6 0 0 0",
      ],
      [
        "ld rand\nmod #4\njneq #1, drop\nret #-1\ndrop: ret #0",
        "5,32 0 0 4294963256,148 0 0 4,21 0 1 1,6 0 0 4294967295,6 0 0 0",
      ],
      [
        `ld [4]                  /* offsetof(struct seccomp_data, arch) */
         jne #0xc000003e, bad    /* AUDIT_ARCH_X86_64 */
         ld [0]                  /* offsetof(struct seccomp_data, nr) */
         jeq #15, good           /* __NR_rt_sigreturn */
         jeq #231, good          /* __NR_exit_group */
         bad: ret #0             /* SECCOMP_RET_KILL_THREAD */
         good: ret #0x7fff0000   /* SECCOMP_RET_ALLOW */`,
        "7,32 0 0 4,21 0 3 3221225534,32 0 0 0,21 2 0 15,21 1 0 231,6 0 0 0,6 0 0 2147418112",
      ],
    ];
    for (const [text, program] of examples)
      expect(`${assembleFilter(text)}`).toBe(program.replaceAll(",", "\n"));
  });

  const forms: readonly [text: string, same: string][] = [
    ["ld #pktlen", "ld #len"],
    ["ld len", "ld #len"],
    ["ldx len", "ldx #pktlen"],
    ["ldi 5", "ld #5"],
    ["ldi #5", "ld #0x5"],
    ["ldxi #5", "ldx #5"],
    ["ldx 4*([14]&0xf)", "ldxb 4*([14]&0xf)"],
    ["ldxb 4 * ( [ 14 ] & 15 )", "ldxb 4*([14]&0xf)"],
    ["ld [x+14]", "ld [x + 14]"],
    ["ldh [%x + 14]", "ldh [x + 14]"],
    ["ldb [x - 2]", "ldb [x + -2]"],
    ["ld #vlan_tci", "ld [vlan_tci]"],
    ["ld vlan_avail", "ld [vlanp]"],
    ["ld #vlan_pr", "ld [-4048]"],
    ["ld #vlan_tpid", "ld [-4036]"],
    ["ldh #type", "ldh [type]"],
    ["ld #pkttype", "ld [-4092]"],
    ["ld #ifidx", "ld [-4088]"],
    ["ld #nla", "ld [-4084]"],
    ["ld #nlan", "ld [-4080]"],
    ["ld #mark", "ld [-4076]"],
    ["ld #queue", "ld [-4072]"],
    ["ld #hatype", "ld [-4068]"],
    ["ld #rxhash", "ld [-4064]"],
    ["ld #cpu", "ld [-4060]"],
    ["ld #xor_x", "ld [-4056]"],
    ["ld #poff", "ld [-4044]"],
    ["ld #random", "ld #rand"],
    ["ld #proto", "ld [-4096]"],
    ["LD M[ 3 ]", "ld M[3]"],
    ["jlt #5, 2, 1", "jge #5, 1, 2"],
    ["jle x, 2, 1", "jgt x, 1, 2"],
    ["jne #5, 2", "jeq #5, 1, 2"],
    ["jeq %x, 2", "jeq x, 2, 1"],
    ["jeq #5 jt 2 jf 1", "jeq #5,2,1"],
    ["jmp 2", "ja 2"],
    ["add %x", "add x"],
    ["sub #-1", "sub #0xffffffff"],
    ["and #017", "and #15"],
    ["or #0b101", "or #5"],
    ["a: b: neg ; twice", "neg"],
    ["/* over\ntwo lines */ tax", "tax"],
    ["\n\n  txa\n\n", "txa"],
    ["(000) txa", "txa"],
  ];

  test.each(forms)("%j is the same as %j", (text, same) => {
    const end = "\nret #1\nret a";
    expect(`${assembleFilter(text + end)}`).toBe(`${assembleFilter(same + end)}`);
  });

  const wrong: readonly [text: string, line: number, column: number, message: string][] = [
    ["", 1, 1, "expected an instruction"],
    ["; nothing", 1, 1, "expected an instruction"],
    ["ret #1\nfoo", 2, 1, '"foo" is no instruction'],
    ["  ld [12", 1, 9, 'expected "]" instead of the end of the line'],
    ["ld [12] x", 1, 9, "expected the end of the line instead of"],
    ["ld", 1, 3, "expected an operand"],
    ["ldh #5", 1, 5, "no such operand"],
    ["ldb M[1]", 1, 5, "no such operand"],
    ["ldxb [5]", 1, 6, "no such operand"],
    ["st #5", 1, 4, "a word of memory"],
    ["st M[16]", 1, 6, "16 is not from 0 to 15"],
    ["ld M[-1]", 1, 6, "-1 is not from 0 to 15"],
    ["ret x", 1, 5, "a constant or a"],
    ["ret #4294967296", 1, 6, "4294967296 is not from"],
    ["ret #-2147483649", 1, 6, "is not from"],
    ["ret #0x", 1, 6, "expected a number"],
    ["ret #5e3", 1, 6, "expected a number"],
    ["ret #1.5", 1, 7, "the end of the line"],
    ["ld #what", 1, 5, '"what" is no operand'],
    ["ld [what]", 1, 5, '"what" is no operand'],
    ["ldx 4*([14]&0xe)", 1, 13, "expected 0xf"],
    ["jeq #5", 1, 7, 'expected "," instead of'],
    ["jeq #5, nowhere\nret #1", 1, 9, "there is no label nowhere"],
    ["l: ld [0]\nja l\nret #1", 2, 4, "it jumps back"],
    ["ja 0\nret #1", 1, 4, "it jumps back"],
    ["ja 2\nret #1", 1, 4, "behind the end"],
    ["jeq #1 jt 1\nret #1", 1, 12, 'expected "jf"'],
    ["l: ld [0]\nl: ret #1", 2, 1, "the label l stands twice"],
    ["(000) ld [0]\n(002) ret #1", 2, 1, "this is instruction 1, not 002"],
    ["div #0\nret a", 1, 5, "divides by 0"],
    ["mod #0\nret a", 1, 5, "divides by 0"],
    ["lsh #32\nret a", 1, 5, "more than 31 bits"],
    ["ret #1\nld [0]", 2, 1, "the last instruction has to return"],
    ["ret #1 /* never", 1, 8, "the comment has no end"],
    ["ret #1 /*/", 1, 8, "the comment has no end"],
    [`jeq #1, far\n${"ld [0]\n".repeat(256)}far: ret #1`, 1, 9, "it passes over 256 instructions"],
    [`${"ret #1\n".repeat(4096)}ret #1`, 4097, 1, "more than 4096 instructions"],
  ];

  test.each(wrong)("%j is refused", (text, line, column, message) => {
    const error = errorOf(() => assembleFilter(text));
    expect([error.line, error.column, error.message]).toEqual([
      line,
      column,
      expect.stringContaining(message),
    ]);
    expect(error.message).toStartWith(`Cannot assemble line ${line}, column ${column}: `);
  });

  test("an unconditional jump reaches further than a conditional one", () => {
    const program = assembleFilter(`ja far\n${"ld [0]\n".repeat(4000)}far: ret #1`);
    expect(program.length).toBe(4002);
    expect(runFilter(program, new Uint8Array(0))).toBe(1);
  });

  test("what is no text, and text without end", () => {
    for (const text of [undefined, null, 5, {}])
      expect(() => assembleFilter(text as never)).toThrow(TypeError);
    expect(() => assembleFilter(" ".repeat(2 ** 20 + 1))).toThrow(RangeError);
  });

  test("a program comes back out of its text, whatever it does", () => {
    fc.assert(
      fc.property(programs(), (program) => {
        const text = disassembleFilter(program);
        expect(`${assembleFilter(text)}`).toBe(`${program}`);
        expect(text.split("\n")).toHaveLength(program.length);
      }),
      { numRuns: 500 },
    );
  });

  test("text that is thrown at it gives a program or a FilterError, never anything else", () => {
    const words =
      "ld ldh ldb ldx ldxb ldi st stx ja jeq jgt jlt jset add mod neg tax ret a x %x [12] [x + 3] M[4] M[99] #5 #-1 4*([14]&0xf) #len vlan_tci , ; /* */ jt jf (000) l: l 0x \n \n \n é \u{1f600}".split(
        " ",
      );
    const seed = 20260711;
    let state = seed;
    const random = (limit: number) => {
      state = (Math.imul(state, 1664525) + 1013904223) | 0;
      return (state >>> 8) % limit;
    };
    let programsMade = 0;
    for (let i = 0; i < 150_000; i++) {
      let text = "";
      for (let j = random(8); j >= 0; j--)
        text += `${words[random(words.length)]}${" \n"[random(2)]}`;
      try {
        assembleFilter(text);
        programsMade++;
      } catch (error) {
        if (!(error instanceof FilterError)) throw error;
      }
    }
    expect(programsMade).toBeGreaterThan(100);
  });
});

describe("attachedFilter()", () => {
  test("gives what was attached, and undefined without a filter", () => {
    using socket = UnixDatagramSocket.open();
    expect(socket.attachedFilter()).toBeUndefined();
    const program = assembleFilter("ld [vlanp]\njeq #1, yes\nret #-1\nyes: ret #0");
    socket.attachFilter(program);
    const attached = socket.attachedFilter();
    expect(attached).toBeInstanceOf(FilterProgram);
    expect(`${attached}`).toBe(`${program}`);
    socket.detachFilter();
    expect(socket.attachedFilter()).toBeUndefined();
  });

  test("an eBPF program cannot be read: EACCES, and the hint says why", () => {
    using socket = UnixDatagramSocket.open();
    using _ = replaceLibc("getsockopt", () => () => failWith(EACCES));
    const error = systemErrorOf(() => socket.attachedFilter());
    expect([error.code, error.syscall]).toEqual(["EACCES", "getsockopt"]);
    expect(error.hint).toContain("eBPF");
  });

  test("of a closed socket: EBADF", () => {
    const socket = UnixDatagramSocket.open();
    socket.close();
    expect(systemErrorOf(() => socket.attachedFilter()).code).toBe("EBADF");
  });
});

describe("disassembleFilter()", () => {
  test("prints each kind of instruction as libpcap does", () => {
    const lines = [
      "(000) ld       #0x5",
      "(001) ldx      #pktlen",
      "(002) st       M[5]",
      "(003) jset     #0x5             jt 5\tjf 4",
      "(004) neg      ",
      "(005) ld       [-1048576]",
      "(006) ldb      [x + -4]",
      "(007) ldxb     4*([14]&0xf)",
      "(008) jge      x                jt 9\tjf 9",
      "(009) ldh      [vlanp]",
      "(010) xor      #0xffffffff",
      "(011) sub      #-5",
      "(012) ja       14",
      "(013) ret      #-1",
      "(014) ret      ",
    ];
    expect(disassembleFilter(assembleFilter(lines.join("\n")))).toBe(lines.join("\n"));
  });

  test("refuses what is no program", () => {
    for (const wrong of [undefined, {}, "ip", Object.create(FilterProgram.prototype)])
      expect(() => disassembleFilter(wrong as never)).toThrow(TypeError);
  });
});
