/** Filters as text, for the tests that compare what becomes of them. */

const HOSTS = ["10.0.0.1", "10.0.0.2", "192.168.1.77", "224.0.0.251", "255.255.255.255"];
const HOSTS6 = ["fe80::1", "2001:db8::2", "ff02::fb", "::ffff:10.0.0.1", "1:2:3:4:5:6:7:8", "::"];
const MACS = ["02:00:00:00:00:01", "02-00-00-00-00-02", "0200.0000.0003", "020000000004"];
const PORTS = ["53", "80", "http", "domain", "ssh", "0x35", "65535"];
const SPANS = ["20-30", "0-1023", "ftp-http", "53-53"];

/** What Ethernet frames are asked for. */
export const ETHERNET: readonly string[] = [
  "",
  ...["ip", "ip6", "arp", "rarp", "tcp", "udp", "icmp", "icmp6", "sctp", "igmp", "pim", "ah"],
  ...["esp", "vrrp", "atalk", "aarp", "decnet", "iso", "stp", "ipx", "netbeui", "lat", "moprc"],
  ...HOSTS.flatMap((host) => [
    `host ${host}`,
    `src ${host}`,
    `dst host ${host} and not arp`,
    `ip host ${host}`,
    `arp src or dst host ${host}`,
  ]),
  ...HOSTS6.flatMap((host) => [`host ${host}`, `ip6 src host ${host}`]),
  ...["net 10", "net 10.0", "net 10.0.0.0/8", "src net 192.168.0.0 mask 255.255.0.0"],
  ...["dst net 10.0.0.0/30", "ip6 net 2001:db8::/32", "net fe80::/10", "net 0.0.0.0/0"],
  ...MACS.flatMap((mac) => [`ether host ${mac}`, `ether src ${mac}`, `ether dst ${mac} or ip`]),
  ...PORTS.flatMap((port) => [
    `port ${port}`,
    `tcp dst port ${port}`,
    `udp src port ${port}`,
    `src and dst port ${port}`,
  ]),
  ...SPANS.flatMap((span) => [`portrange ${span}`, `tcp src portrange ${span}`]),
  ...["ip proto 6", "ip proto \\tcp", "ip6 proto \\udp", "proto 47", "ether proto 0x88cc"],
  ...["ether proto \\arp", "ip proto igmp", "not ip proto \\icmp", "ip6 proto 58"],
  ...["ether broadcast", "broadcast", "ether multicast", "multicast", "ip multicast"],
  ...["ip6 multicast", "not broadcast and not multicast"],
  ...["less 64", "greater 500", "len = 60", "len > 100 and len < 1000", "length >= 0x40"],
  ...["vlan", "vlan 5", "vlan 5 and ip", "vlan and vlan 7", "vlan 5 and tcp port 80", "not vlan"],
  ...["mpls", "mpls 100", "mpls and ip", "pppoed", "pppoes", "pppoes 3 and ip", "llc", "llc u"],
  ...["inbound", "outbound", "ip and outbound"],
  "ether[0] & 1 = 0 and ip[16] >= 224",
  "ip[0] & 0xf != 5",
  "ip[6:2] & 0x1fff = 0",
  "ip[2:2] - ((ip[0] & 0xf) << 2) > 8",
  "ether[12:2] = 0x800 or ether[12:2] = 0x86dd",
  "tcp[tcpflags] & (tcp-syn|tcp-fin) != 0",
  "tcp[tcpflags] & (tcp-syn|tcp-ack) = (tcp-syn|tcp-ack)",
  "tcp[13] = 18",
  "tcp[((tcp[12:1] & 0xf0) >> 2):4] = 0x47455420",
  "icmp[icmptype] != icmp-echo and icmp[icmptype] != icmp-echoreply",
  "icmp6[icmp6type] = icmp6-neighborsolicit",
  "udp[4:2] > 100",
  "ip6[6] = 17",
  "arp[6:2] = 1",
  "ip[8] % 2 = 1",
  "ip[8] * 3 > 100",
  "ip[8] / 2 = 32",
  "ip[8] ^ 0xff = 0xbf",
  "(ip[8] | 1) = 65",
  "ip[8] << 2 = 256",
  "ip[8] >> 2 = 16",
  "-ip[8] = -64",
  "ether[100] = 7",
  "ip[ip[2:2] - 1] = 0",
  "tcp and port 80 or udp and port 53",
  "tcp port http or https and not net 10.0.0.0/8",
  "port 53 or 5353 or 123",
  "not (tcp or udp)",
  "!tcp && !udp || arp",
  "(((tcp)))",
  "src host 10.0.0.1 and dst host 10.0.0.2 and tcp port 80",
  "host 10.0.0.1 and (port 80 or port 53)",
  "host 10.0.0.1 or 10.0.0.2 or 192.168.1.77",
  "ip and ((src net 10 and dst port 53) or (dst net 10 and src port 53))",
  "(src or dst) host 10.0.0.1".replace("(src or dst)", "src or dst"),
  "udp port 53 and udp[10] & 0x80 = 0",
  "tcp[0:2] > 1024 and tcp[2:2] < 1024",
  "ip proto \\udp and (ip[6:2] & 0x1fff != 0 or port 53)",
  "ether src 02:00:00:00:00:01 and not ether dst ff:ff:ff:ff:ff:ff",
];

/** What packets of any other link type are asked for. */
export const EVERYWHERE: readonly string[] = [
  "",
  ...["ip", "ip6", "tcp", "udp", "icmp", "icmp6", "not ip"],
  ...["host 10.0.0.1", "src 10.0.0.2", "net 10.0.0.0/8", "ip6 host 2001:db8::2"],
  ...["port 53", "udp src port domain", "tcp dst portrange 20-80", "ip proto \\tcp"],
  ...["less 64", "len > 100", "ip[8] = 64", "tcp[tcpflags] & tcp-syn != 0"],
  ...["ip6[6] = 17", "ip multicast", "host 10.0.0.1 and port 80 or icmp"],
];
