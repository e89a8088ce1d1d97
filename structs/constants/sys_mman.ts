// Constants of <sys/mman.h>.

// Protection of a mapping. See mmap(2).
export const PROT_NONE = 0x0;
export const PROT_READ = 0x1;
export const PROT_WRITE = 0x2;
export const PROT_EXEC = 0x4;

// Kinds of mapping. See mmap(2).
export const MAP_SHARED = 0x1;
export const MAP_PRIVATE = 0x2;
export const MAP_ANONYMOUS = 0x20;
export const MAP_POPULATE = 0x8000;
export const MAP_LOCKED = 0x2000;
export const MAP_NORESERVE = 0x4000;

// Flags of memfd_create(2).
export const MFD_CLOEXEC = 0x1;
export const MFD_ALLOW_SEALING = 0x2;
