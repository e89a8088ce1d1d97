/**
 * A syslog server: prints what programs report over UDP (RFC 5424, and the older RFC 3164).
 *
 *     bun examples/syslog_udp.ts [address, default 127.0.0.1:5514]
 *     logger --server 127.0.0.1 --port 5514 --udp --priority mail.err "the disk is full"
 *
 * It ends by SIGTERM or Ctrl-C.
 */
import { ClosedError, UdpSocket } from "bun-sockets";

// RFC 5424, section 6.2.1: the priority is eight times the facility, plus the severity.
const facilities =
  "kern user mail daemon auth syslog lpr news uucp cron authpriv ftp ntp audit alert clock " +
  "local0 local1 local2 local3 local4 local5 local6 local7";
const severities = "emerg alert crit err warning notice info debug";

// <34>1 time host app process id [data key="value"] text
const rfc5424 = /^<(\d{1,3})>1(?: \S+){5} (?:-|(?:\[(?:[^\]"]|"(?:[^"\\]|\\.)*")*\])+)(?: (.*))?$/s;
// <34>Oct 11 22:14:15 host text
const rfc3164 = /^<(\d{1,3})>(?:\w{3} [ \d]\d \d\d:\d\d:\d\d \S+ )?(.*)$/s;

const [address = "127.0.0.1:5514"] = process.argv.slice(2);
// A burst of reports waits here while they are printed.
using server = UdpSocket.bind(address, { receiveBufferBytes: 1 << 20 });
console.log(`listening on ${server.localAddress}`);

// Closing ends the wait, and so the program.
for (const signal of ["SIGTERM", "SIGINT"]) process.once(signal, () => server.close());

const buffer = Buffer.alloc(65536);
try {
  for (;;) {
    const { length, address } = await server.receiveFrom(buffer);
    console.log(`${address} ${describe(buffer.toString("utf8", 0, length))}`);
  }
} catch (error) {
  if (!(error instanceof ClosedError)) throw error;
}

function describe(report: string): string {
  const [, priority = "", text = ""] = rfc5424.exec(report) ?? rfc3164.exec(report) ?? [];
  const facility = facilities.split(" ")[Number(priority) >> 3];
  if (priority === "" || facility === undefined) return "sent what is no syslog message";
  // Strangers write this text: it must not steer the terminal.
  const harmless = text.replace(/^\ufeff/, "").replace(/\p{Cc}/gu, " ");
  return `${facility}.${severities.split(" ")[Number(priority) & 7]}: ${harmless.trim()}`;
}
