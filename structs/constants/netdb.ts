// Constants of <netdb.h>.

// Flags of the hints. See getaddrinfo(3).
export const AI_PASSIVE = 0x1;
export const AI_CANONNAME = 0x2;
export const AI_NUMERICHOST = 0x4;
export const AI_V4MAPPED = 0x8;
export const AI_ALL = 0x10;
export const AI_ADDRCONFIG = 0x20;
export const AI_IDN = 0x40;
export const AI_CANONIDN = 0x80;
export const AI_IDN_ALLOW_UNASSIGNED = 0x100;
export const AI_IDN_USE_STD3_ASCII_RULES = 0x200;
export const AI_NUMERICSERV = 0x400;

// Errors. See gai_strerror(3).
export const EAI_BADFLAGS = -1;
export const EAI_NONAME = -2;
export const EAI_AGAIN = -3;
export const EAI_FAIL = -4;
export const EAI_NODATA = -5;
export const EAI_FAMILY = -6;
export const EAI_SOCKTYPE = -7;
export const EAI_SERVICE = -8;
export const EAI_ADDRFAMILY = -9;
export const EAI_MEMORY = -10;
export const EAI_SYSTEM = -11;
export const EAI_OVERFLOW = -12;
export const EAI_INPROGRESS = -100;
export const EAI_CANCELED = -101;
export const EAI_NOTCANCELED = -102;
export const EAI_ALLDONE = -103;
export const EAI_INTR = -104;
export const EAI_IDN_ENCODE = -105;

// What h_errno says. See gethostbyname(3).
export const NETDB_INTERNAL = -1;
export const NETDB_SUCCESS = 0;
export const HOST_NOT_FOUND = 1;
export const TRY_AGAIN = 2;
export const NO_RECOVERY = 3;
export const NO_DATA = 4;

// Flags. See getnameinfo(3).
export const NI_NUMERICHOST = 1;
export const NI_NUMERICSERV = 2;
export const NI_NOFQDN = 4;
export const NI_NAMEREQD = 8;
export const NI_DGRAM = 16;
export const NI_IDN = 32;
export const NI_IDN_ALLOW_UNASSIGNED = 64;
export const NI_IDN_USE_STD3_ASCII_RULES = 128;

// Room for the names of a host and of a service, final NUL included. See getnameinfo(3).
export const NI_MAXHOST = 1025;
export const NI_MAXSERV = 32;
