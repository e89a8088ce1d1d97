// Constants of <linux/icmpv6.h>.

// Types of messages. See RFC 4443.
export const ICMPV6_DEST_UNREACH = 1;
export const ICMPV6_PKT_TOOBIG = 2;
export const ICMPV6_TIME_EXCEED = 3;
export const ICMPV6_PARAMPROB = 4;
export const ICMPV6_ERRMSG_MAX = 127;
export const ICMPV6_INFOMSG_MASK = 0x80;
export const ICMPV6_ECHO_REQUEST = 128;
export const ICMPV6_ECHO_REPLY = 129;
export const ICMPV6_MGM_QUERY = 130;
export const ICMPV6_MGM_REPORT = 131;
export const ICMPV6_MGM_REDUCTION = 132;
export const ICMPV6_NI_QUERY = 139;
export const ICMPV6_NI_REPLY = 140;
export const ICMPV6_MLD2_REPORT = 143;
export const ICMPV6_DHAAD_REQUEST = 144;
export const ICMPV6_DHAAD_REPLY = 145;
export const ICMPV6_MOBILE_PREFIX_SOL = 146;
export const ICMPV6_MOBILE_PREFIX_ADV = 147;
export const ICMPV6_MRDISC_ADV = 151;
export const ICMPV6_MSG_MAX = 255;

// Codes of ICMPV6_DEST_UNREACH.
export const ICMPV6_NOROUTE = 0;
export const ICMPV6_ADM_PROHIBITED = 1;
export const ICMPV6_NOT_NEIGHBOUR = 2;
export const ICMPV6_ADDR_UNREACH = 3;
export const ICMPV6_PORT_UNREACH = 4;
export const ICMPV6_POLICY_FAIL = 5;
export const ICMPV6_REJECT_ROUTE = 6;

// Codes of ICMPV6_TIME_EXCEED.
export const ICMPV6_EXC_HOPLIMIT = 0;
export const ICMPV6_EXC_FRAGTIME = 1;

// Codes of ICMPV6_PARAMPROB.
export const ICMPV6_HDR_FIELD = 0;
export const ICMPV6_UNK_NEXTHDR = 1;
export const ICMPV6_UNK_OPTION = 2;
export const ICMPV6_HDR_INCOMP = 3;

// Extended echo. See RFC 8335.
export const ICMPV6_EXT_ECHO_REQUEST = 160;
export const ICMPV6_EXT_ECHO_REPLY = 161;

// Preferences of a router. See RFC 4191.
export const ICMPV6_ROUTER_PREF_LOW = 0x3;
export const ICMPV6_ROUTER_PREF_MEDIUM = 0x0;
export const ICMPV6_ROUTER_PREF_HIGH = 0x1;
export const ICMPV6_ROUTER_PREF_INVALID = 0x2;
