// Constants of <linux/net_tstamp.h>.

// Bits of SO_TIMESTAMPING. See Documentation/networking/timestamping.rst of the kernel.
export const SOF_TIMESTAMPING_TX_HARDWARE = 0x1;
export const SOF_TIMESTAMPING_TX_SOFTWARE = 0x2;
export const SOF_TIMESTAMPING_RX_HARDWARE = 0x4;
export const SOF_TIMESTAMPING_RX_SOFTWARE = 0x8;
export const SOF_TIMESTAMPING_SOFTWARE = 0x10;
export const SOF_TIMESTAMPING_SYS_HARDWARE = 0x20;
export const SOF_TIMESTAMPING_RAW_HARDWARE = 0x40;
export const SOF_TIMESTAMPING_OPT_ID = 0x80;
export const SOF_TIMESTAMPING_TX_SCHED = 0x100;
export const SOF_TIMESTAMPING_TX_ACK = 0x200;
export const SOF_TIMESTAMPING_OPT_CMSG = 0x400;
export const SOF_TIMESTAMPING_OPT_TSONLY = 0x800;
export const SOF_TIMESTAMPING_OPT_STATS = 0x1000;
export const SOF_TIMESTAMPING_OPT_PKTINFO = 0x2000;
export const SOF_TIMESTAMPING_OPT_TX_SWHW = 0x4000;
export const SOF_TIMESTAMPING_BIND_PHC = 0x8000;
