// Constants of <netinet/ip.h>.

// Values of IP_TOS. See ip(7).
export const IPTOS_TOS_MASK = 0x1e;
export const IPTOS_LOWDELAY = 0x10;
export const IPTOS_THROUGHPUT = 0x8;
export const IPTOS_RELIABILITY = 0x4;
export const IPTOS_LOWCOST = 0x2;
export const IPTOS_MINCOST = 0x2;

// Explicit congestion notification, the lower two bits. See RFC 3168.
export const IPTOS_ECN_MASK = 0x3;
export const IPTOS_ECN_NOT_ECT = 0x0;
export const IPTOS_ECN_ECT1 = 0x1;
export const IPTOS_ECN_ECT0 = 0x2;
export const IPTOS_ECN_CE = 0x3;

// Code points of differentiated services, the upper six bits. See RFC 2597 and RFC 2598.
export const IPTOS_DSCP_MASK = 0xfc;
export const IPTOS_DSCP_AF11 = 0x28;
export const IPTOS_DSCP_AF12 = 0x30;
export const IPTOS_DSCP_AF13 = 0x38;
export const IPTOS_DSCP_AF21 = 0x48;
export const IPTOS_DSCP_AF22 = 0x50;
export const IPTOS_DSCP_AF23 = 0x58;
export const IPTOS_DSCP_AF31 = 0x68;
export const IPTOS_DSCP_AF32 = 0x70;
export const IPTOS_DSCP_AF33 = 0x78;
export const IPTOS_DSCP_AF41 = 0x88;
export const IPTOS_DSCP_AF42 = 0x90;
export const IPTOS_DSCP_AF43 = 0x98;
export const IPTOS_DSCP_EF = 0xb8;

// Class selectors. See RFC 2474.
export const IPTOS_CLASS_MASK = 0xe0;
export const IPTOS_CLASS_CS0 = 0x0;
export const IPTOS_CLASS_CS1 = 0x20;
export const IPTOS_CLASS_CS2 = 0x40;
export const IPTOS_CLASS_CS3 = 0x60;
export const IPTOS_CLASS_CS4 = 0x80;
export const IPTOS_CLASS_CS5 = 0xa0;
export const IPTOS_CLASS_CS6 = 0xc0;
export const IPTOS_CLASS_CS7 = 0xe0;
export const IPTOS_CLASS_DEFAULT = 0x0;

// Precedence. See RFC 791.
export const IPTOS_PREC_MASK = 0xe0;
export const IPTOS_PREC_NETCONTROL = 0xe0;
export const IPTOS_PREC_INTERNETCONTROL = 0xc0;
export const IPTOS_PREC_CRITIC_ECP = 0xa0;
export const IPTOS_PREC_FLASHOVERRIDE = 0x80;
export const IPTOS_PREC_FLASH = 0x60;
export const IPTOS_PREC_IMMEDIATE = 0x40;
export const IPTOS_PREC_PRIORITY = 0x20;
export const IPTOS_PREC_ROUTINE = 0x0;

// Fragments, in the header.
export const IP_RF = 0x8000;
export const IP_DF = 0x4000;
export const IP_MF = 0x2000;
export const IP_OFFMASK = 0x1fff;

// IP options. See RFC 791.
export const IPOPT_COPY = 0x80;
export const IPOPT_CLASS_MASK = 0x60;
export const IPOPT_NUMBER_MASK = 0x1f;
export const IPOPT_EOL = 0;
export const IPOPT_NOP = 1;
export const IPOPT_RR = 7;
export const IPOPT_TS = 68;
export const IPOPT_SECURITY = 130;
export const IPOPT_LSRR = 131;
export const IPOPT_SATID = 136;
export const IPOPT_SSRR = 137;
export const IPOPT_RA = 148;

// Limits.
export const IPVERSION = 4;
export const IP_MAXPACKET = 65535;
export const MAX_IPOPTLEN = 40;
export const MAXTTL = 255;
export const IPDEFTTL = 64;
export const IP_MSS = 576;
