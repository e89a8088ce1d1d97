// Constants of <sys/ioctl.h>, without those of terminals.

// Bytes that wait to be received or sent. See tcp(7), udp(7) and unix(7).
export const FIONREAD = 0x541b;
export const TIOCINQ = 0x541b;
export const TIOCOUTQ = 0x5411;

// What fcntl(2) also sets: O_NONBLOCK, O_ASYNC and FD_CLOEXEC.
export const FIONBIO = 0x5421;
export const FIOASYNC = 0x5452;
export const FIONCLEX = 0x5450;
export const FIOCLEX = 0x5451;

// Bytes of a file.
export const FIOQSIZE = 0x5460;
