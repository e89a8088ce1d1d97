// Constants of <fcntl.h>, those that have one value on every architecture.

// Operations on a descriptor. See fcntl(2).
export const F_DUPFD = 0;
export const F_GETFD = 1;
export const F_SETFD = 2;
export const F_GETFL = 3;
export const F_SETFL = 4;
export const F_DUPFD_CLOEXEC = 1030;

// Flag of a descriptor, by F_SETFD. See fcntl(2).
export const FD_CLOEXEC = 1;

// Who is told of I/O by which signal. See fcntl(2).
export const F_SETOWN = 8;
export const F_GETOWN = 9;
export const F_SETSIG = 10;
export const F_GETSIG = 11;
export const F_SETOWN_EX = 15;
export const F_GETOWN_EX = 16;
export const F_OWNER_TID = 0;
export const F_OWNER_PID = 1;
export const F_OWNER_PGRP = 2;

// Locks. See fcntl(2).
export const F_GETLK = 5;
export const F_SETLK = 6;
export const F_SETLKW = 7;
export const F_OFD_GETLK = 36;
export const F_OFD_SETLK = 37;
export const F_OFD_SETLKW = 38;
export const F_RDLCK = 0;
export const F_WRLCK = 1;
export const F_UNLCK = 2;

// Leases and notifications. See fcntl(2).
export const F_SETLEASE = 1024;
export const F_GETLEASE = 1025;
export const F_NOTIFY = 1026;

// Events of F_NOTIFY. See fcntl(2).
export const DN_ACCESS = 0x1;
export const DN_MODIFY = 0x2;
export const DN_CREATE = 0x4;
export const DN_DELETE = 0x8;
export const DN_RENAME = 0x10;
export const DN_ATTRIB = 0x20;
export const DN_MULTISHOT = 0x80000000;

// Capacity of a pipe in bytes. See fcntl(2).
export const F_SETPIPE_SZ = 1031;
export const F_GETPIPE_SZ = 1032;

// How splice(2) and tee(2) move.
export const SPLICE_F_MOVE = 1;
export const SPLICE_F_NONBLOCK = 2;
export const SPLICE_F_MORE = 4;
export const SPLICE_F_GIFT = 8;

// Seals of a memory file. See fcntl(2).
export const F_ADD_SEALS = 1033;
export const F_GET_SEALS = 1034;
export const F_SEAL_SEAL = 0x0001;
export const F_SEAL_SHRINK = 0x0002;
export const F_SEAL_GROW = 0x0004;
export const F_SEAL_WRITE = 0x0008;
export const F_SEAL_FUTURE_WRITE = 0x0010;

// How long written data lives. See fcntl(2).
export const F_GET_RW_HINT = 1035;
export const F_SET_RW_HINT = 1036;
export const F_GET_FILE_RW_HINT = 1037;
export const F_SET_FILE_RW_HINT = 1038;
export const RWH_WRITE_LIFE_NOT_SET = 0;
export const RWH_WRITE_LIFE_NONE = 1;
export const RWH_WRITE_LIFE_SHORT = 2;
export const RWH_WRITE_LIFE_MEDIUM = 3;
export const RWH_WRITE_LIFE_LONG = 4;
export const RWH_WRITE_LIFE_EXTREME = 5;

// How a file is opened. See open(2).
export const O_ACCMODE = 0o3;
export const O_RDONLY = 0;
export const O_WRONLY = 0o1;
export const O_RDWR = 0o2;
export const O_CREAT = 0o100;
export const O_EXCL = 0o200;
export const O_NOCTTY = 0o400;
export const O_TRUNC = 0o1000;
export const O_CLOEXEC = 0o2000000;
export const O_NOATIME = 0o1000000;
export const O_PATH = 0o10000000;

// Status flags, by F_SETFL. See fcntl(2).
export const O_APPEND = 0o2000;
export const O_NONBLOCK = 0o4000;
export const O_NDELAY = 0o4000;
export const O_DSYNC = 0o10000;
export const O_SYNC = 0o4010000;
export const O_RSYNC = 0o4010000;
export const O_ASYNC = 0o20000;

// Directory and flags of the calls whose names end with "at". See openat(2).
export const AT_FDCWD = -100;
export const AT_SYMLINK_NOFOLLOW = 0x100;
export const AT_SYMLINK_FOLLOW = 0x400;
export const AT_REMOVEDIR = 0x200;
export const AT_EACCESS = 0x200;
export const AT_NO_AUTOMOUNT = 0x800;
export const AT_EMPTY_PATH = 0x1000;
