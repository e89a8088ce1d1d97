// Constants of <linux/tcp.h>.

// Flags that <netinet/tcp.h> leaves out: of TCP_MD5SIG_EXT and of TCP_ZEROCOPY_RECEIVE.
export const TCP_MD5SIG_FLAG_IFINDEX = 0x2;
export const TCP_RECEIVE_ZEROCOPY_FLAG_TLB_CLEAN_HINT = 0x1;

// Attributes of SCM_TIMESTAMPING_OPT_STATS.
export const TCP_NLA_PAD = 0;
export const TCP_NLA_BUSY = 1;
export const TCP_NLA_RWND_LIMITED = 2;
export const TCP_NLA_SNDBUF_LIMITED = 3;
export const TCP_NLA_DATA_SEGS_OUT = 4;
export const TCP_NLA_TOTAL_RETRANS = 5;
export const TCP_NLA_PACING_RATE = 6;
export const TCP_NLA_DELIVERY_RATE = 7;
export const TCP_NLA_SND_CWND = 8;
export const TCP_NLA_REORDERING = 9;
export const TCP_NLA_MIN_RTT = 10;
export const TCP_NLA_RECUR_RETRANS = 11;
export const TCP_NLA_DELIVERY_RATE_APP_LMT = 12;
export const TCP_NLA_SNDQ_SIZE = 13;
export const TCP_NLA_CA_STATE = 14;
export const TCP_NLA_SND_SSTHRESH = 15;
export const TCP_NLA_DELIVERED = 16;
export const TCP_NLA_DELIVERED_CE = 17;
export const TCP_NLA_BYTES_SENT = 18;
export const TCP_NLA_BYTES_RETRANS = 19;
export const TCP_NLA_DSACK_DUPS = 20;
export const TCP_NLA_REORD_SEEN = 21;
export const TCP_NLA_SRTT = 22;
export const TCP_NLA_TIMEOUT_REHASH = 23;
export const TCP_NLA_BYTES_NOTSENT = 24;
export const TCP_NLA_EDT = 25;
export const TCP_NLA_TTL = 26;
