/**
 * Captures the DNS of an interface into a file that tcpdump and Wireshark read: the kernel drops all
 * else, and what is left is written from the memory that the kernel has put it in.
 *
 *     sudo bun examples/dns_capture.ts [interface, default lo] [file, default dns.pcapng] [filter]
 *     dig @127.0.0.1 example.org
 *     tcpdump -r dns.pcapng
 *
 * The filter is one of tcpdump's, default "udp port 53". It ends by SIGTERM or Ctrl-C.
 */
import { CaptureFile, PacketRing } from "bun-sockets/packet";

const [where = "lo", path = "dns.pcapng", filter = "udp port 53"] = process.argv.slice(2);
using ring = PacketRing.open(where, { filter });
using file = CaptureFile.create(path, { application: "dns_capture", interfaces: [ring] });
console.log(`listening on ${where}`);

// Frames come by the block, 10 ms after the first of it at the latest: the last ones are waited for.
// Closing ends the loop; what is counted has to be read before.
let statistics = ring.statistics();
const stop = () => {
  statistics = ring.statistics();
  ring.close();
};
for (const signal of ["SIGTERM", "SIGINT"]) process.once(signal, () => setTimeout(stop, 50));

// As much as has come goes to the file: who looks at it meanwhile sees whole packets.
for await (using block of ring) {
  file.writeBlock(block);
  file.flush();
}
file.writeStatistics(statistics);
console.log(`captured ${file.packetCount} packets, dropped ${statistics.drops}`);
