/**
 * Whether docs/reference.md has every name of the four documents, in the table of its document, and
 * names nothing of ours that is not there.
 *
 * @module
 */
import { describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import * as sockets from "bun-sockets";
import * as sys from "bun-sockets/sys";

const page = readFileSync(join(import.meta.dir, "../../docs/reference.md"), "utf8");

/** What a document defines or uses by name, by the heading of its table. */
const NAMES: Readonly<Record<string, string>> = {
  Pure: `
    sockaddr sockaddrs sockaddr_family sockaddr_path sockaddr_hostname sockaddr_ip sockaddr_service
    sockaddr_port sockaddr_info sockaddr_error HAVE_AF_UNIX socket socketpair shutdown closesocket accept
    bind connect listen recv send recvfrom sendto getsockname getpeername getsockopt setsockopt fdopen
    SOCK_NONBLOCK SOCK_CLOEXEC SOCK_STREAM SOCK_DGRAM SOCK_SEQPACKET SOCK_RAW SOCK_RDM AF_UNIX AF_INET
    AF_INET6 AF_UNSPEC IPPROTO_IP IPPROTO_ICMP IPPROTO_TCP IPPROTO_UDP SHUT_RD SHUT_WR SHUT_RDWR MSG_EOR
    MSG_OOB MSG_PEEK MSG_WAITALL MSG_DONTWAIT SOL_SOCKET SIZEOF_INT SO_ACCEPTCONN SO_BROADCAST SO_DEBUG
    SO_DONTROUTE SO_ERROR SO_KEEPALIVE SO_LINGER SO_OOBINLINE SO_RCVBUF SO_RCVLOWAT SO_RCVTIMEO
    SO_REUSEADDR SO_SNDBUF SO_SNDLOWAT SO_SNDTIMEO SO_TYPE`,
  Chapel: `
    IPFamily IPv4 IPv6 IPUnspec ipv4Addr IPv4Any IPv4Broadcast ipv6Addr IPv6Any ipAddr ipAddr.host
    ipAddr.port ipAddr.create ipAddr.ipv4 ipAddr.ipv6 indefiniteTimeout struct_timeval tcpConn
    tcpConn.socketFd tcpConn.addr setNagle setDelayAck sys_in_addr_t sys_in6_addr_t INADDR_ANY
    INADDR_BROADCAST INADDR_LOOPBACK in6addr_any in6addr_loopback AF_INET AF_INET6 tcpListener
    tcpListener.socketFd deinit tcpListener.accept close tcpListener.addr backlogDefault listen connect
    udpSocket udpSocket.socketFd udpSocket.init udpSocket.recvfrom udpSocket.recv udpSocket.send
    SO_ACCEPTCONN SO_BROADCAST SO_DEBUG SO_ERROR SO_KEEPALIVE SO_LINGER SO_OOBINLINE SO_RCVBUF
    SO_RCVTIMEO SO_REUSEADDR SO_SNDBUF SO_SNDTIMEO SO_SECINFO setSockOpt getSockOpt getPeerName
    getSockName bind SystemError writeSerializable`,
  "Foment and SRFI 106": `
    socket? make-socket bind-socket listen-socket accept-socket connect-socket shutdown-socket
    send-socket recv-socket get-ip-addresses address-family inet inet6 unspec address-info canonname
    numerichost v4mapped all addrconfig socket-domain stream datagram raw ip-protocol ip tcp udp
    message-type none peek oob wait-all shutdown-method read write socket-merge-flags
    socket-purge-flags *af-unspec* *af-inet* *af-inet6* *sock-stream* *sock-dgram* *ai-canonname*
    *ai-numerichost* *ai-v4mapped* *ai-all* *ai-addrconfig* *ipproto-ip* *ipproto-tcp* *ipproto-udp*
    *msg-none* *msg-peek* *msg-oob* *msg-waitall* *shut-rd* *shut-wr* *shut-rdwr* make-client-socket
    make-server-socket socket-accept socket-send socket-recv socket-shutdown socket-close
    socket-input-port socket-output-port call-with-socket read-bytevector write-bytevector close-port`,
  Guile: `
    socket scm_socket PF_UNIX PF_INET PF_INET6 SOCK_STREAM SOCK_DGRAM SOCK_RAW SOCK_RDM SOCK_SEQPACKET
    getprotobyname getprotoent socketpair scm_socketpair getsockopt setsockopt scm_getsockopt
    scm_setsockopt SOL_SOCKET IPPROTO_IP IPPROTO_IPV6 IPPROTO_TCP IPPROTO_UDP SO_DEBUG SO_REUSEADDR
    SO_STYLE SO_TYPE SO_ERROR SO_DONTROUTE SO_BROADCAST SO_SNDBUF SO_RCVBUF SO_KEEPALIVE SO_OOBINLINE
    SO_NO_CHECK SO_PRIORITY SO_REUSEPORT SO_RCVTIMEO SO_SNDTIMEO SO_LINGER IP_MULTICAST_IF
    IP_MULTICAST_TTL IP_ADD_MEMBERSHIP IP_DROP_MEMBERSHIP IPV6_V6ONLY TCP_NODELAY TCP_CORK shutdown
    scm_shutdown connect scm_connect bind scm_bind listen scm_listen accept scm_accept SOCK_CLOEXEC
    SOCK_NONBLOCK getsockname scm_getsockname getpeername scm_getpeername recv! scm_recv send scm_send
    recvfrom! scm_recvfrom sendto scm_sendto make-socket-address MSG_OOB MSG_PEEK MSG_DONTROUTE
    MSG_DONTWAIT INADDR_ANY INADDR_LOOPBACK setvbuf close-port fcntl O_NONBLOCK`,
};

/** The rows of a table, each without the bars at its ends; the bars within code are escaped. */
function tableUnder(heading: string): string[][] {
  const section = page.split(/^## /m).find((text) => text.startsWith(`${heading}\n`)) ?? "";
  const rows = section.split("\n").filter((line) => line.startsWith("| ") && line !== "|---|");
  return rows.slice(1).map((line) => line.slice(1, -1).split(/(?<!\\)\|/));
}

/** The code of a cell, as text between spaces. */
function codeOf(cell: string): string {
  return [...cell.matchAll(/`` (.*?) ``|`([^`]+)`/g)].map(([, a, b]) => a ?? b).join(" ");
}

function has(code: string, name: string): boolean {
  const quoted = name.replace(/[.*?!]/g, "\\$&");
  return new RegExp(`(?<![\\w*-])${quoted}(?![\\w*-])`).test(code);
}

/** Whether something of ours has a member: a class, its instances, or a group of options. */
function hasMember(owner: string, member: string): boolean {
  const value = (sockets as Readonly<Record<string, unknown>>)[owner];
  if (value === undefined || value === null) return false;
  return member in Object(value) || member in Object((value as { prototype?: object }).prototype);
}

describe("docs/reference.md", () => {
  for (const [heading, names] of Object.entries(NAMES)) {
    const theirs = tableUnder(heading).map(([cell = ""]) => codeOf(cell));

    test(`${heading}: has every name of the document in the left column`, () => {
      const list = names.trim().split(/\s+/);
      expect(list.filter((name) => !theirs.some((code) => has(code, name)))).toEqual([]);
    });

    test(`${heading}: names nothing of ours that is not there`, () => {
      const ours = tableUnder(heading).map((cells) => cells.slice(1).map(codeOf).join(" "));
      const members = ours.flatMap((code) => [...code.matchAll(/\b([A-Z]\w+)\.(\w+)/g)]);
      const constants = ours.flatMap((code) => code.match(/\b[A-Z][A-Z0-9]*_[A-Z0-9_]+\b/g) ?? []);
      expect(members.length).toBeGreaterThan(5);
      expect(members.filter(([, a = "", b = ""]) => !hasMember(a, b)).map(([all]) => all)).toEqual(
        [],
      );
      expect(constants.filter((name) => !(name in sys))).toEqual([]);
    });
  }

  test("what looks for names tells one from a part of another", () => {
    expect(has("`IPv4Any`, sys", "IPv4")).toBe(false);
    expect(has("ipAddr.host", "ipAddr")).toBe(true);
    expect(has("(make-socket address-family)", "socket")).toBe(false);
    expect(has("*af-inet6*", "*af-inet*")).toBe(false);
    expect(hasMember("TcpOption", "noDelay")).toBe(true);
    expect(hasMember("TcpSocket", "noDelayed")).toBe(false);
  });
});
