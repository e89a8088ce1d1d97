// Constants of <sys/eventfd.h>.

// Flags of eventfd(2).
export const EFD_SEMAPHORE = 0o1;
export const EFD_CLOEXEC = 0o2000000;
export const EFD_NONBLOCK = 0o4000;
