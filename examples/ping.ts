/**
 * Tells which hosts of a network answer, and how fast: all are asked at once, over one socket.
 *
 *     bun examples/ping.ts [network, default 127.0.0.0/29]
 *
 * It takes no right where the sysctl net.ipv4.ping_group_range lets you in; where not, the error says
 * what helps.
 */
import { PingSocket, Prefix, SystemError } from "bun-sockets";

const network = new Prefix(process.argv[2] ?? "127.0.0.0/29");
if (network.family !== "ipv4" || network.length < 22)
  throw new RangeError(`Cannot ask all of ${network}: expected an IPv4 network of at most /22`);

// Without its first address, which is the network's, and its last one, which is everybody's.
const numberOf = (host: string) =>
  host.split(".").reduce((sum, part) => sum * 256 + Number(part), 0);
const hosts: string[] = [];
for (let n = numberOf(network.first.host) + 1; n < numberOf(network.last.host); n++)
  hosts.push([24, 16, 8, 0].map((shift) => (n >>> shift) & 0xff).join("."));

using socket = PingSocket.open("ipv4");
const answers = await Promise.all(
  hosts.map(async (host) => {
    try {
      const { roundTripMs, ttl } = await socket.ping(host, { timeoutMs: 1000 });
      return `${host} answers in ${roundTripMs.toFixed(2)} ms, ttl ${ttl}`;
    } catch (error) {
      if (!(error instanceof SystemError)) throw error;
      // A router that has said why, or this machine; silence is what most hosts have to say.
      return error.offender === undefined
        ? undefined
        : `${host} ${error.code} by ${error.offender}`;
    }
  }),
);
for (const answer of answers) if (answer !== undefined) console.log(answer);
const { sent, received } = socket.statistics;
console.log(`${received} of ${sent} answered`);
