/**
 * Layouts of C structs and values of C constants, under their C names, for x86-64 and arm64 Linux.
 * This is C, with C's dangers: what is written through these layouts is what the kernel reads.
 *
 * @module
 */
export * from "./addrinfo.ts";
export * from "./cmsghdr.ts";
export * from "./constants/index.ts";
export * from "./epoll_event.ts";
export * from "./group_filter.ts";
export * from "./group_req.ts";
export * from "./group_source_req.ts";
export * from "./hostent.ts";
export * from "./if_nameindex.ts";
export * from "./ifaddrs.ts";
export * from "./ifconf.ts";
export * from "./ifmap.ts";
export * from "./ifreq.ts";
export * from "./in_pktinfo.ts";
export * from "./in6_pktinfo.ts";
export * from "./io_cqring_offsets.ts";
export * from "./io_sqring_offsets.ts";
export * from "./io_uring_cqe.ts";
export * from "./io_uring_params.ts";
export * from "./io_uring_sqe.ts";
export * from "./iovec.ts";
export * from "./ip_mreq.ts";
export * from "./ip_mreq_source.ts";
export * from "./ip_mreqn.ts";
export * from "./ipv6_mreq.ts";
export * from "./layout.ts";
export * from "./linger.ts";
export * from "./mmsghdr.ts";
export * from "./msghdr.ts";
export * from "./packet_mreq.ts";
export * from "./pollfd.ts";
export * from "./protoent.ts";
export * from "./servent.ts";
export * from "./sock_extended_err.ts";
export * from "./sock_filter.ts";
export * from "./sock_fprog.ts";
export * from "./sockaddr.ts";
export * from "./sockaddr_in.ts";
export * from "./sockaddr_in6.ts";
export * from "./sockaddr_ll.ts";
export * from "./sockaddr_nl.ts";
export * from "./sockaddr_storage.ts";
export * from "./sockaddr_un.ts";
export * from "./tcp_info.ts";
export * from "./timespec.ts";
export * from "./timeval.ts";
export * from "./ucred.ts";
