/**
 * The local half of a syslog server: prints what programs of this machine report on a Unix datagram
 * socket, as they do on /dev/log (RFC 3164 without a host, or RFC 5424).
 *
 *     bun examples/syslog_unix.ts [path, default /tmp/log.sock]
 *     logger --socket /tmp/log.sock --priority auth.warning "three failed logins"
 *
 * It ends by SIGTERM or Ctrl-C.
 */
import { unlinkSync } from "node:fs";
import { ClosedError, UnixDatagramSocket } from "bun-sockets";

// RFC 5424, section 6.2.1: the priority is eight times the facility, plus the severity.
const facilities =
  "kern user mail daemon auth syslog lpr news uucp cron authpriv ftp ntp audit alert clock " +
  "local0 local1 local2 local3 local4 local5 local6 local7";
const severities = "emerg alert crit err warning notice info debug";

// <34>1 time host app process id [data key="value"] text
const rfc5424 = /^<(\d{1,3})>1(?: \S+){5} (?:-|(?:\[(?:[^\]"]|"(?:[^"\\]|\\.)*")*\])+)(?: (.*))?$/s;
// <34>Oct 11 22:14:15 tag: text; what comes from this machine leaves its name out.
const rfc3164 = /^<(\d{1,3})>(?:\w{3} [ \d]\d \d\d:\d\d:\d\d )?(.*)$/s;

const [path = "/tmp/log.sock"] = process.argv.slice(2);
// Everybody may report, as on /dev/log. An earlier run may have left its file.
using server = UnixDatagramSocket.bind(`unix:${path}`, { mode: 0o666, removeStale: true });
console.log(`listening on ${server.localAddress}`);

// Closing ends the wait, and so the program.
for (const signal of ["SIGTERM", "SIGINT"]) process.once(signal, () => server.close());

const buffer = Buffer.alloc(65536);
try {
  for (;;) console.log(describe(buffer.toString("utf8", 0, await server.receive(buffer))));
} catch (error) {
  if (!(error instanceof ClosedError)) throw error;
}
unlinkSync(path);

function describe(report: string): string {
  const [, priority = "", text = ""] = rfc5424.exec(report) ?? rfc3164.exec(report) ?? [];
  const facility = facilities.split(" ")[Number(priority) >> 3];
  if (priority === "" || facility === undefined) return "somebody sent what is no syslog message";
  // Others write this text: it must not steer the terminal.
  const harmless = text.replace(/^\ufeff/, "").replace(/\p{Cc}/gu, " ");
  return `${facility}.${severities.split(" ")[Number(priority) & 7]}: ${harmless.trim()}`;
}
