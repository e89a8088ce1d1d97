// Constants of <netinet/icmp6.h>.

// Options at IPPROTO_ICMPV6.
export const ICMP6_FILTER = 1;

// Types of messages of neighbour discovery. See RFC 4861.
export const ND_ROUTER_SOLICIT = 133;
export const ND_ROUTER_ADVERT = 134;
export const ND_NEIGHBOR_SOLICIT = 135;
export const ND_NEIGHBOR_ADVERT = 136;
export const ND_REDIRECT = 137;

// Options of neighbour discovery. See RFC 4861.
export const ND_OPT_SOURCE_LINKADDR = 1;
export const ND_OPT_TARGET_LINKADDR = 2;
export const ND_OPT_PREFIX_INFORMATION = 3;
export const ND_OPT_REDIRECTED_HEADER = 4;
export const ND_OPT_MTU = 5;
