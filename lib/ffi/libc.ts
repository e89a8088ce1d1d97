/**
 * The libc table: every C function that bun-sockets calls, opened at the first call of any of them.
 *
 * The table is one mutable object, and every caller goes through it (`libc.bind(...)`), so a test
 * can put another function in the place of an entry to force an error that the kernel would not
 * give. `bench/ffi_call.ts` shows that this costs under 1 ns a call.
 *
 * @module
 */
import type { FFIFunction, Pointer } from "bun:ffi";
import { libcNames, requireSupported } from "./platform.ts";

requireSupported();

// The line above each entry is its C prototype: compare it with the man page. Results that fit are
// declared i32, because a 64-bit result costs 6 to 15 ns more, and no transfer is longer than
// 0x7ffff000 bytes. Functions make the two tables, because an import should not wait for them.
const makePrototypes = () =>
  ({
    // int socket(int domain, int type, int protocol);
    socket: { args: ["i32", "i32", "i32"], returns: "i32" },
    // int socketpair(int domain, int type, int protocol, int sv[2]);
    socketpair: { args: ["i32", "i32", "i32", "ptr"], returns: "i32" },
    // int bind(int sockfd, const struct sockaddr *addr, socklen_t addrlen);
    bind: { args: ["i32", "ptr", "u32"], returns: "i32" },
    // int connect(int sockfd, const struct sockaddr *addr, socklen_t addrlen);
    connect: { args: ["i32", "ptr", "u32"], returns: "i32" },
    // int listen(int sockfd, int backlog);
    listen: { args: ["i32", "i32"], returns: "i32" },
    // int accept4(int sockfd, struct sockaddr *addr, socklen_t *addrlen, int flags);
    accept4: { args: ["i32", "ptr", "ptr", "i32"], returns: "i32" },
    // int getsockname(int sockfd, struct sockaddr *addr, socklen_t *addrlen);
    getsockname: { args: ["i32", "ptr", "ptr"], returns: "i32" },
    // int getpeername(int sockfd, struct sockaddr *addr, socklen_t *addrlen);
    getpeername: { args: ["i32", "ptr", "ptr"], returns: "i32" },
    // int getsockopt(int sockfd, int level, int optname, void *optval, socklen_t *optlen);
    getsockopt: { args: ["i32", "i32", "i32", "ptr", "ptr"], returns: "i32" },
    // int setsockopt(int sockfd, int level, int optname, const void *optval, socklen_t optlen);
    setsockopt: { args: ["i32", "i32", "i32", "ptr", "u32"], returns: "i32" },
    // int shutdown(int sockfd, int how);
    shutdown: { args: ["i32", "i32"], returns: "i32" },
    // int sockatmark(int sockfd);
    sockatmark: { args: ["i32"], returns: "i32" },

    // ssize_t send(int sockfd, const void *buf, size_t len, int flags);
    send: { args: ["i32", "ptr", "usize", "i32"], returns: "i32" },
    // ssize_t sendto(int sockfd, const void *buf, size_t len, int flags,
    //                const struct sockaddr *dest_addr, socklen_t addrlen);
    sendto: { args: ["i32", "ptr", "usize", "i32", "ptr", "u32"], returns: "i32" },
    // ssize_t sendmsg(int sockfd, const struct msghdr *msg, int flags);
    sendmsg: { args: ["i32", "ptr", "i32"], returns: "i32" },
    // int sendmmsg(int sockfd, struct mmsghdr *msgvec, unsigned int vlen, int flags);
    sendmmsg: { args: ["i32", "ptr", "u32", "i32"], returns: "i32" },
    // ssize_t recv(int sockfd, void *buf, size_t len, int flags);
    recv: { args: ["i32", "ptr", "usize", "i32"], returns: "i32" },
    // ssize_t recvfrom(int sockfd, void *buf, size_t len, int flags,
    //                  struct sockaddr *src_addr, socklen_t *addrlen);
    recvfrom: { args: ["i32", "ptr", "usize", "i32", "ptr", "ptr"], returns: "i32" },
    // ssize_t recvmsg(int sockfd, struct msghdr *msg, int flags);
    recvmsg: { args: ["i32", "ptr", "i32"], returns: "i32" },
    // int recvmmsg(int sockfd, struct mmsghdr *msgvec, unsigned int vlen, int flags,
    //              struct timespec *timeout);
    recvmmsg: { args: ["i32", "ptr", "u32", "i32", "ptr"], returns: "i32" },

    // int poll(struct pollfd *fds, nfds_t nfds, int timeout);
    poll: { args: ["ptr", "usize", "i32"], returns: "i32" },
    // int epoll_create1(int flags);
    epoll_create1: { args: ["i32"], returns: "i32" },
    // int epoll_ctl(int epfd, int op, int fd, struct epoll_event *event);
    epoll_ctl: { args: ["i32", "i32", "i32", "ptr"], returns: "i32" },
    // int epoll_wait(int epfd, struct epoll_event *events, int maxevents, int timeout);
    epoll_wait: { args: ["i32", "ptr", "i32", "i32"], returns: "i32" },
    // int eventfd(unsigned int initval, int flags);
    eventfd: { args: ["u32", "i32"], returns: "i32" },

    // ssize_t read(int fd, void *buf, size_t count);
    read: { args: ["i32", "ptr", "usize"], returns: "i32" },
    // ssize_t write(int fd, const void *buf, size_t count);
    write: { args: ["i32", "ptr", "usize"], returns: "i32" },
    // ssize_t sendfile(int out_fd, int in_fd, off_t *offset, size_t count);
    sendfile: { args: ["i32", "i32", "ptr", "usize"], returns: "i32" },
    // ssize_t splice(int fd_in, off_t *off_in, int fd_out, off_t *off_out, size_t len,
    //                unsigned int flags);
    splice: { args: ["i32", "ptr", "i32", "ptr", "usize", "u32"], returns: "i32" },
    // ssize_t tee(int fd_in, int fd_out, size_t len, unsigned int flags);
    tee: { args: ["i32", "i32", "usize", "u32"], returns: "i32" },
    // int pipe2(int pipefd[2], int flags);
    pipe2: { args: ["ptr", "i32"], returns: "i32" },
    // int dup(int oldfd);
    dup: { args: ["i32"], returns: "i32" },
    // int dup3(int oldfd, int newfd, int flags);
    dup3: { args: ["i32", "i32", "i32"], returns: "i32" },
    // int fcntl(int fd, int cmd, ... /* int arg */);
    fcntl: { args: ["i32", "i32", "i32"], returns: "i32" },
    // int ioctl(int fd, unsigned long request, ... /* void *argp */);
    ioctl: { args: ["i32", "usize", "ptr"], returns: "i32" },
    // int close(int fd);
    close: { args: ["i32"], returns: "i32" },

    // int chmod(const char *pathname, mode_t mode);
    chmod: { args: ["ptr", "u32"], returns: "i32" },
    // int fchmod(int fd, mode_t mode);
    fchmod: { args: ["i32", "u32"], returns: "i32" },
    // int rename(const char *oldpath, const char *newpath);
    rename: { args: ["ptr", "ptr"], returns: "i32" },
    // int unlink(const char *pathname);
    unlink: { args: ["ptr"], returns: "i32" },
    // int setns(int fd, int nstype);
    setns: { args: ["i32", "i32"], returns: "i32" },
    // int gethostname(char *name, size_t len);
    gethostname: { args: ["ptr", "usize"], returns: "i32" },
    // int sethostname(const char *name, size_t len);
    sethostname: { args: ["ptr", "usize"], returns: "i32" },
    // int clock_gettime(clockid_t clockid, struct timespec *tp);
    clock_gettime: { args: ["i32", "ptr"], returns: "i32" },

    // void *mmap(void *addr, size_t length, int prot, int flags, int fd, off_t offset);
    mmap: { args: ["ptr", "usize", "i32", "i32", "i32", "i64"], returns: "ptr" },
    // int munmap(void *addr, size_t length);
    munmap: { args: ["ptr", "usize"], returns: "i32" },
    // int memfd_create(const char *name, unsigned int flags);
    memfd_create: { args: ["ptr", "u32"], returns: "i32" },
    // int mprotect(void *addr, size_t len, int prot);
    mprotect: { args: ["ptr", "usize", "i32"], returns: "i32" },
    // void *dlsym(void *handle, const char *symbol);
    dlsym: { args: ["ptr", "ptr"], returns: "ptr" },
    // void *memcpy(void *dest, const void *src, size_t n);
    memcpy: { args: ["ptr", "ptr", "usize"], returns: "ptr" },

    // unsigned int if_nametoindex(const char *ifname);
    if_nametoindex: { args: ["ptr"], returns: "u32" },
    // char *if_indextoname(unsigned int ifindex, char *ifname);
    if_indextoname: { args: ["u32", "ptr"], returns: "ptr" },
    // struct if_nameindex *if_nameindex(void);
    if_nameindex: { args: [], returns: "ptr" },
    // void if_freenameindex(struct if_nameindex *ptr);
    if_freenameindex: { args: ["ptr"], returns: "void" },
    // int getifaddrs(struct ifaddrs **ifap);
    getifaddrs: { args: ["ptr"], returns: "i32" },
    // void freeifaddrs(struct ifaddrs *ifa);
    freeifaddrs: { args: ["ptr"], returns: "void" },

    // int inet_aton(const char *cp, struct in_addr *inp);
    inet_aton: { args: ["ptr", "ptr"], returns: "i32" },
    // int inet_pton(int af, const char *src, void *dst);
    inet_pton: { args: ["i32", "ptr", "ptr"], returns: "i32" },
    // const char *inet_ntop(int af, const void *src, char *dst, socklen_t size);
    inet_ntop: { args: ["i32", "ptr", "ptr", "u32"], returns: "ptr" },

    // int getaddrinfo(const char *node, const char *service,
    //                 const struct addrinfo *hints, struct addrinfo **res);
    getaddrinfo: { args: ["ptr", "ptr", "ptr", "ptr"], returns: "i32" },
    // void freeaddrinfo(struct addrinfo *res);
    freeaddrinfo: { args: ["ptr"], returns: "void" },
    // const char *gai_strerror(int errcode);
    gai_strerror: { args: ["i32"], returns: "ptr" },
    // int getnameinfo(const struct sockaddr *addr, socklen_t addrlen, char *host, socklen_t hostlen,
    //                 char *serv, socklen_t servlen, int flags);
    getnameinfo: { args: ["ptr", "u32", "ptr", "u32", "ptr", "u32", "i32"], returns: "i32" },
    // int gethostbyname2_r(const char *name, int af, struct hostent *ret, char *buf, size_t buflen,
    //                      struct hostent **result, int *h_errnop);
    gethostbyname2_r: {
      args: ["ptr", "i32", "ptr", "ptr", "usize", "ptr", "ptr"],
      returns: "i32",
    },
    // int gethostbyaddr_r(const void *addr, socklen_t len, int type, struct hostent *ret, char *buf,
    //                     size_t buflen, struct hostent **result, int *h_errnop);
    gethostbyaddr_r: {
      args: ["ptr", "u32", "i32", "ptr", "ptr", "usize", "ptr", "ptr"],
      returns: "i32",
    },
    // struct servent *getservbyname(const char *name, const char *proto);
    getservbyname: { args: ["ptr", "ptr"], returns: "ptr" },
    // struct servent *getservbyport(int port, const char *proto);
    getservbyport: { args: ["i32", "ptr"], returns: "ptr" },
    // int getservbyname_r(const char *name, const char *proto, struct servent *result_buf,
    //                     char *buf, size_t buflen, struct servent **result);
    getservbyname_r: { args: ["ptr", "ptr", "ptr", "ptr", "usize", "ptr"], returns: "i32" },
    // int getservbyport_r(int port, const char *proto, struct servent *result_buf,
    //                     char *buf, size_t buflen, struct servent **result);
    getservbyport_r: { args: ["i32", "ptr", "ptr", "ptr", "usize", "ptr"], returns: "i32" },
    // struct protoent *getprotobyname(const char *name);
    getprotobyname: { args: ["ptr"], returns: "ptr" },
    // struct protoent *getprotobynumber(int proto);
    getprotobynumber: { args: ["i32"], returns: "ptr" },

    // char *strerror(int errnum);
    strerror: { args: ["i32"], returns: "ptr" },
    // int *__errno_location(void);
    __errno_location: { args: [], returns: "ptr" },
  }) as const satisfies Record<string, FFIFunction>;

// System calls for which not every libc has a function. Each entry is the C function `syscall` with
// the prototype of one of them behind the number of the call, which system_call.ts knows:
// long syscall(long number, ...);
const makeSystemCalls = () =>
  ({
    // int renameat2(int olddirfd, const char *oldpath, int newdirfd, const char *newpath,
    //               unsigned int flags);
    renameat2: { args: ["i64", "i32", "ptr", "i32", "ptr", "u32"], returns: "i32" },
    // int io_uring_setup(u32 entries, struct io_uring_params *p);
    io_uring_setup: { args: ["i64", "u32", "ptr"], returns: "i32" },
    // int io_uring_enter(unsigned int fd, unsigned int to_submit, unsigned int min_complete,
    //                    unsigned int flags, const sigset_t *sig, size_t sz);
    io_uring_enter: { args: ["i64", "u32", "u32", "u32", "u32", "ptr", "usize"], returns: "i32" },
  }) as const satisfies Record<string, FFIFunction>;

type Prototypes = ReturnType<typeof makePrototypes> & ReturnType<typeof makeSystemCalls>;
type Name = keyof Prototypes;

// The names in both tables, so that an import does not wait for the tables.
const NAMES = (
  "socket socketpair bind connect listen accept4 getsockname getpeername getsockopt " +
  "setsockopt shutdown sockatmark send sendto sendmsg sendmmsg recv recvfrom recvmsg " +
  "recvmmsg poll epoll_create1 epoll_ctl epoll_wait eventfd read write sendfile splice tee " +
  "pipe2 dup dup3 fcntl ioctl close chmod fchmod rename unlink setns gethostname " +
  "sethostname clock_gettime mmap munmap memfd_create mprotect dlsym memcpy if_nametoindex " +
  "if_indextoname if_nameindex if_freenameindex getifaddrs freeifaddrs inet_aton inet_pton " +
  "inet_ntop getaddrinfo freeaddrinfo gai_strerror getnameinfo gethostbyname2_r " +
  "gethostbyaddr_r getservbyname getservbyport getservbyname_r getservbyport_r " +
  "getprotobyname getprotobynumber strerror __errno_location renameat2 io_uring_setup " +
  "io_uring_enter"
).split(" ") as Name[];

/**
 * What C may read or write: a view, passed for the length of one call, or an address that its owner
 * keeps alive.
 */
export type Memory = ArrayBufferView | number | null;

type Arguments<Kinds extends readonly string[]> = {
  -readonly [Index in keyof Kinds]: Kinds[Index] extends "ptr" ? Memory : number;
};

// A pointer result is null for NULL, and a bigint where it does not fit a double: MAP_FAILED is
// such a one.
type Result<Kind extends string> = Kind extends "ptr"
  ? number | bigint | null
  : Kind extends "void"
    ? undefined
    : number;

/** The table's type: each entry takes and returns what its prototype says. */
export type Libc = {
  [Key in Name]: (
    ...values: Arguments<Prototypes[Key]["args"]>
  ) => Result<Prototypes[Key]["returns"]>;
};

// What stands in each entry until libc is open.
const stubs: Libc = makeStubs();

/** The C functions, under their C names. */
export const libc: Libc = { ...stubs };

/**
 * bun:ffi, evaluated when it is first needed: a static import would cost every program that imports
 * bun-sockets 0.6 ms.
 *
 * @internal Left out of the declarations, which must not need Bun's own types.
 */
export function ffi(): typeof import("bun:ffi") {
  // Kept: to ask for it takes 100 ns, which every message with vectors would wait for.
  loaded ??= process.getBuiltinModule("bun:ffi") as typeof import("bun:ffi");
  return loaded;
}

let loaded: typeof import("bun:ffi") | undefined;

// Both are set when libc is opened. The address is this thread's errno's: each Worker loads this
// module anew and asks for its own.
let readInt = (_address: Pointer, _offset: number): number => {
  // Only an entry that was replaced can have failed before libc is open.
  open();
  return readInt(location, 0);
};
let location = 0 as Pointer;

/**
 * Returns `-errno` of the call that has just failed. Nothing may stand between that call and this
 * one.
 */
export function negativeErrno(): number {
  return -readInt(location, 0);
}

/**
 * Returns the result of a C call, or `-errno` where it was negative. The call stands in the
 * argument.
 */
export function orErrno(result: number): number {
  return result < 0 ? -readInt(location, 0) : result;
}

// One function bound to each name: this is part of every import, and closures take four times as
// long to make.
function makeStubs(): Libc {
  const made: Record<string, unknown> = {};
  for (const name of NAMES) made[name] = openAndCall.bind(null, name);
  return made as Libc;
}

function openAndCall(name: Name, ...values: never[]): unknown {
  open();
  return (libc[name] as (...values: never[]) => unknown)(...values);
}

// Opens libc and puts its functions in the place of every stub. An entry that a test has replaced
// stays as it is.
function open(): void {
  const symbols = openFirst(libcNames()) as unknown as Libc;
  Object.assign(symbols, linkSystemCalls(symbols));
  for (const name of Object.keys(symbols) as Name[]) {
    if (libc[name] === stubs[name]) Object.assign(libc, { [name]: symbols[name] });
  }
  readInt = ffi().read.i32;
  location = symbols.__errno_location() as Pointer;
}

function openFirst(names: readonly string[]) {
  const { dlopen } = ffi();
  const prototypes = makePrototypes();
  const failures: string[] = [];
  for (const name of names) {
    try {
      return dlopen(name, prototypes).symbols;
    } catch (error) {
      failures.push(`${name}: ${(error as Error).message}`);
    }
  }
  throw new Error(`Cannot open the C library: ${failures.join("; ")}`);
}

// dlopen() cannot give one C function under several names, so these are linked by its address.
function linkSystemCalls({ dlsym }: Libc) {
  const ptr = dlsym(null, Buffer.from("syscall\0")) as Pointer | null;
  if (ptr === null) throw new Error("Cannot find syscall in the C library");
  const linked = Object.entries(makeSystemCalls()).map(([name, call]) => [name, { ...call, ptr }]);
  return ffi().linkSymbols(Object.fromEntries(linked)).symbols;
}
