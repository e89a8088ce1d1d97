// Constants of <linux/if.h>, beyond those of <net/if.h>.

// Flags of an interface. See netdevice(7).
export const IFF_LOWER_UP = 0x10000;
export const IFF_DORMANT = 0x20000;
export const IFF_ECHO = 0x40000;
