/**
 * Constants that the kernel has and the headers of Debian 12, by which structs/constants is proved,
 * do not have yet: names of options newer than Linux 6.1, and some that no header for programs has.
 * They belong into structs/constants as soon as the headers know them.
 *
 * @module
 */

/** Of asm/socket.h, since Linux 6.5. */
export const SO_PASSPIDFD = 76;
/** Of asm/socket.h, since Linux 6.5. */
export const SO_PEERPIDFD = 77;
/** Of linux/socket.h, since Linux 6.5; in no header for programs. */
export const SCM_PIDFD = 4;
/** Of asm/socket.h, since Linux 6.13. */
export const SCM_TS_OPT_ID = 81;
/** Of asm/socket.h, since Linux 6.14. */
export const SO_RCVPRIORITY = 82;
/** Of asm/socket.h, since Linux 6.16. */
export const SO_PASSRIGHTS = 83;
/** Of asm/socket.h, since Linux 6.17. */
export const SO_INQ = 84;

/** Of linux/in.h, since Linux 6.3. */
export const IP_LOCAL_PORT_RANGE = 51;
/** Of linux/in.h, since Linux 6.4. */
export const IP_PROTOCOL = 52;

/** Of linux/net_tstamp.h, since Linux 6.2. */
export const SOF_TIMESTAMPING_OPT_ID_TCP = 0x10000;

/** Of linux/tcp.h, since Linux 6.7. */
export const TCP_AO_GET_KEYS = 41;
/** Of linux/tcp.h, since Linux 6.10. */
export const TCP_IS_MPTCP = 43;
/** Of linux/tcp.h, since Linux 6.15. */
export const TCP_RTO_MAX_MS = 44;
/** Of linux/tcp.h, since Linux 6.15. */
export const TCP_RTO_MIN_US = 45;
/** Of linux/tcp.h, since Linux 6.15. */
export const TCP_DELACK_MAX_US = 46;

/** In no header for programs. See udplite(7). */
export const UDPLITE_SEND_CSCOV = 10;
/** In no header for programs. See udplite(7). */
export const UDPLITE_RECV_CSCOV = 11;
