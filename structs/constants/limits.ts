// Constants of <limits.h>, those of names.

// The longest host name, final NUL excluded. See gethostname(2).
export const HOST_NAME_MAX = 64;

// The longest file name, final NUL excluded, and path, final NUL included.
export const NAME_MAX = 255;
export const PATH_MAX = 4096;
