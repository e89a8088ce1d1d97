// Constants of <net/if.h>.

// Room for an interface name, final NUL included. See if_nametoindex(3).
export const IF_NAMESIZE = 16;
export const IFNAMSIZ = 16;
