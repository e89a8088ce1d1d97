// Constants of <linux/in.h>.

// A protocol that <netinet/in.h> leaves out.
export const IPPROTO_L2TP = 115;
