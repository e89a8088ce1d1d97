// Constants of <sys/uio.h>.

// The most messages of a batch, and vectors of a message. See sendmmsg(2).
export const UIO_MAXIOV = 1024;
