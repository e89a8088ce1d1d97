/**
 * Every example runs as its own comment says. Those that serve others are used by strangers; see
 * support/example_runs.ts.
 *
 * @module
 */
import { describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import {
  dns_capture,
  dns_forwarder,
  hot_restart,
  ping,
  sd_notify,
  syslog_udp,
  syslog_unix,
  tcp_chat,
  tcp_lines,
  tcp_proxy,
  tiny_http,
  udp_echo,
  udp_reply,
  udp_workers,
  unix_echo_quit,
} from "./support/example_runs.ts";
import { requires, testIf } from "./support/require.ts";

const folder = join(import.meta.dir, "../examples");
const files = [...new Bun.Glob("**/*.ts").scanSync(folder)].sort();
const TIMEOUT_MS = 60_000;

// Every example has a row: the commands it needs, and the function that runs it and looks at it.
const EXAMPLES: Record<string, { needs: readonly string[]; run: () => Promise<void> }> = {
  "dns_capture.ts": {
    needs: ["dig", "tcpdump", "capinfos", "unshare", "ip"],
    run: dns_capture,
  },
  "dns_forwarder.ts": {
    needs: ["dnsmasq", "dig", "python3", "unshare", "ip"],
    run: dns_forwarder,
  },
  "hot_restart.ts": { needs: ["python3"], run: hot_restart },
  "ping.ts": { needs: ["ping", "unshare", "ip"], run: ping },
  "sd_notify.ts": { needs: ["python3", "systemd-notify"], run: sd_notify },
  "syslog_udp.ts": { needs: ["logger"], run: syslog_udp },
  "syslog_unix.ts": { needs: ["logger"], run: syslog_unix },
  "tcp_chat.ts": { needs: [], run: tcp_chat },
  "tcp_lines.ts": { needs: [], run: tcp_lines },
  "tcp_proxy.ts": { needs: [], run: tcp_proxy },
  "tiny_http.ts": { needs: ["curl"], run: tiny_http },
  "udp_echo.ts": { needs: ["socat"], run: udp_echo },
  "udp_reply.ts": { needs: ["python3"], run: udp_reply },
  "udp_workers.ts": { needs: ["python3"], run: udp_workers },
  "unix_echo_quit.ts": { needs: [], run: unix_echo_quit },
};

describe("examples", () => {
  test("have a row each", () => {
    expect(files).toEqual(Object.keys(EXAMPLES));
  });

  for (const [file, { needs, run }] of Object.entries(EXAMPLES)) {
    testIf(requires(...needs))(`${file} does what it says`, run, TIMEOUT_MS);
  }

  test.each(files)("%s begins with a comment that tells how to start it", (file) => {
    const [head = ""] = readFileSync(join(folder, file), "utf8").split("*/");
    expect(head).toStartWith("/**\n");
    expect(head).toContain(` bun examples/${file}`);
  });
});
