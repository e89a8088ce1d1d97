// Constants of <linux/if_arp.h>, those of link types that are still met.

// Hardware types: sll_hatype of packet(7), sa_family of SIOCGIFHWADDR in netdevice(7).
export const ARPHRD_ETHER = 1;
export const ARPHRD_IEEE802 = 6;
export const ARPHRD_IEEE1394 = 24;
export const ARPHRD_EUI64 = 27;
export const ARPHRD_INFINIBAND = 32;
export const ARPHRD_SLIP = 256;
export const ARPHRD_CAN = 280;
export const ARPHRD_MCTP = 290;
export const ARPHRD_PPP = 512;
export const ARPHRD_HDLC = 0x201;
export const ARPHRD_RAWHDLC = 518;
export const ARPHRD_RAWIP = 519;
export const ARPHRD_TUNNEL = 768;
export const ARPHRD_TUNNEL6 = 769;
export const ARPHRD_LOOPBACK = 772;
export const ARPHRD_SIT = 776;
export const ARPHRD_IPGRE = 778;
export const ARPHRD_PIMREG = 779;
export const ARPHRD_IEEE80211 = 801;
export const ARPHRD_IEEE80211_PRISM = 802;
export const ARPHRD_IEEE80211_RADIOTAP = 803;
export const ARPHRD_IEEE802154 = 804;
export const ARPHRD_IEEE802154_MONITOR = 805;
export const ARPHRD_PHONET = 820;
export const ARPHRD_IP6GRE = 823;
export const ARPHRD_NETLINK = 824;
export const ARPHRD_6LOWPAN = 825;
export const ARPHRD_VSOCKMON = 826;
export const ARPHRD_VOID = 0xffff;
export const ARPHRD_NONE = 0xfffe;

// Operations: ar_op of arp(7).
export const ARPOP_REQUEST = 1;
export const ARPOP_REPLY = 2;
