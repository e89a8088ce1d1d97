// One side of a cell of the suite in C: suite_c ROLE SEND RECEIVE FAMILY BYTES BATCH SEGMENTS GROUP
// WINDOW FLOW FORM LOCAL REMOTE PORT RECEIVERS. ROLE is "send", "receive" or "both" (one thread). What is said and
// told, and what a datagram is made of, stands in suite_programs.ts.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <ifaddrs.h>
#include <linux/errqueue.h>
#include <linux/filter.h>
#include <linux/if_packet.h>
#include <linux/udp.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum {
  SLOTS = 64,
  SLOT = 65536,
  CONTROL = 256,
  BUFFER = 212992,
  SAMPLES = 4096,
  ACK_MS = 1000,
  QUIET_MS = 250,
  // Where the sender waits for answers, nothing may be late and not lost.
  FIRST_MS = 5000,
  // How often a side waits in vain before it gives a round up.
  STALLS_MAX = 5,
  // As in the library: so many in a row that the kernel has copied after all, and none is tried any more.
  COPIED_MAX = 8,
  STAMP_AT = 2,
};

// How they are called on the command line.
static const char *const SEND_PATHS[] = {"sendmmsg", "gso", "send", "sendto", "sendmsg", "zerocopy"};
static const char *const RECEIVE_PATHS[] = {"recvmmsg", "gro", "recv", "recvfrom", "recvmsg", "ring"};
enum { SENDMMSG, GSO, SEND, SENDTO, SENDMSG, ZEROCOPY, SEND_END };
enum { RECVMMSG, GRO, RECV, RECVFROM, RECVMSG, RING, RECEIVE_END };

static const char *family, *local, *remote;
static int send_path, receive_path;
static int bytes, batch, segments, group, window, is_flat, port, receivers;
static int is_gso, is_gro, receive_slots;

static struct mmsghdr out[SLOTS], in[SLOTS];
static struct iovec out_vector[SLOTS], in_vector[SLOTS];
static unsigned char out_slot[SLOTS][SLOT], in_slot[SLOTS][SLOT];
static unsigned char out_control[CMSG_SPACE(sizeof(uint16_t))] __attribute__((aligned(8)));
static unsigned char in_control[SLOTS][CONTROL] __attribute__((aligned(8)));
static struct sockaddr_storage from[SLOTS];

static struct sockaddr_storage peer;
static socklen_t peer_length;

static long calls, data_calls, stalls;

static struct {
  double sum, first, last;
  long received, messages, stamped, stride, waited, wait_stride, count, most;
  double samples[SAMPLES];
} seen;

// Whether samples are how long ago the kernel had a datagram, and not how long ago it was sent.
static int is_timed;

static double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (double)time.tv_sec * 1e9 + (double)time.tv_nsec;
}

// CPU time of this thread.
static double spent(void) {
  struct timespec time;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return (double)time.tv_sec * 1e9 + (double)time.tv_nsec;
}

static void fail(const char *reason) {
  fprintf(stderr, "suite_c: %s: %s\n", reason, strerror(errno));
  exit(1);
}

static int is(const char *value, const char *word) {
  return strcmp(value, word) == 0;
}

static int index_of(const char *value, const char *const *words, int count) {
  for (int i = 0; i < count; i++)
    if (is(value, words[i])) return i;
  fprintf(stderr, "suite_c: no path %s\n", value);
  exit(2);
}

// --- Sockets ---

static socklen_t address_of(const char *host, int number, struct sockaddr_storage *address) {
  memset(address, 0, sizeof *address);
  if (is(family, "unix")) {
    struct sockaddr_un *name = (struct sockaddr_un *)address;
    name->sun_family = AF_UNIX;
    strncpy(name->sun_path, host, sizeof name->sun_path - 1);
    return sizeof *name;
  }
  if (is(family, "udp6")) {
    struct sockaddr_in6 *name = (struct sockaddr_in6 *)address;
    name->sin6_family = AF_INET6;
    name->sin6_port = htons((uint16_t)number);
    inet_pton(AF_INET6, host, &name->sin6_addr);
    return sizeof *name;
  }
  struct sockaddr_in *name = (struct sockaddr_in *)address;
  name->sin_family = AF_INET;
  name->sin_port = htons((uint16_t)number);
  inet_pton(AF_INET, host, &name->sin_addr);
  return sizeof *name;
}

static void set(int fd, int level, int option, int value) {
  if (setsockopt(fd, level, option, &value, sizeof value) < 0) fail("setsockopt");
}

// As it was asked for: the kernel doubles it.
static int buffer_of(int fd, int option) {
  int value = 0;
  socklen_t length = sizeof value;
  getsockopt(fd, SOL_SOCKET, option, &value, &length);
  return value / 2;
}

static int open_at(const char *host, int number, int is_shared) {
  struct sockaddr_storage address;
  socklen_t length = address_of(host, number, &address);
  int fd = socket(address.ss_family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) fail("socket");
  set(fd, SOL_SOCKET, SO_RCVBUF, BUFFER);
  set(fd, SOL_SOCKET, SO_SNDBUF, BUFFER);
  if (is_shared) set(fd, SOL_SOCKET, SO_REUSEPORT, 1);
  if (bind(fd, (struct sockaddr *)&address, length) < 0) fail("bind");
  return fd;
}

static int port_of(int fd) {
  struct sockaddr_storage address;
  socklen_t length = sizeof address;
  getsockname(fd, (struct sockaddr *)&address, &length);
  if (is(family, "unix")) return 0;
  return ntohs(((struct sockaddr_in *)&address)->sin_port);
}

static void connect_to(int fd, const char *host, int number) {
  struct sockaddr_storage address;
  socklen_t length = address_of(host, number, &address);
  if (connect(fd, (struct sockaddr *)&address, length) < 0) fail("connect");
}

// Whether there is something in time.
static int wait_for(int fd, short events, int milliseconds) {
  struct pollfd one = {fd, events, 0};
  int ready;
  do {
    calls++;
    ready = poll(&one, 1, milliseconds);
  } while (ready < 0 && errno == EINTR);
  return ready > 0;
}

// --- Sending ---

static void prepare_send(int fd) {
  if (send_path == SENDTO) peer_length = address_of(remote, port, &peer);
  else connect_to(fd, remote, port);
  if (send_path == ZEROCOPY) set(fd, SOL_SOCKET, SO_ZEROCOPY, 1);
  struct cmsghdr *header = (struct cmsghdr *)out_control;
  header->cmsg_level = IPPROTO_UDP;
  header->cmsg_type = UDP_SEGMENT;
  header->cmsg_len = CMSG_LEN(sizeof(uint16_t));
  *(uint16_t *)CMSG_DATA(header) = (uint16_t)bytes;
  for (int i = 0; i < SLOTS; i++) {
    int each = is_gso ? segments : 1;
    for (int k = 0; k < each && (k + 1) * bytes <= SLOT; k++) {
      int index = is_gso ? k : i;
      out_slot[i][k * bytes] = (unsigned char)index;
      out_slot[i][k * bytes + bytes - 1] = (unsigned char)(255 - index);
    }
    out_vector[i] = (struct iovec){out_slot[i], (size_t)bytes * (size_t)each};
    out[i].msg_hdr.msg_iov = &out_vector[i];
    out[i].msg_hdr.msg_iovlen = 1;
    if (is_gso) {
      out[i].msg_hdr.msg_control = out_control;
      out[i].msg_hdr.msg_controllen = sizeof out_control;
    }
  }
}

static void stamp(unsigned char *slot) {
  double time = now();
  memcpy(slot + STAMP_AT, &time, sizeof time);
}

// Sends that the kernel was to make without a copy: those it has not told the end of, those it has
// copied in a row, and plain ones since it is not asked any more.
static struct {
  long outstanding, copied_in_row, plain;
  int is_off;
} zero_copy;

static void read_notices(int fd) {
  static unsigned char control[CONTROL] __attribute__((aligned(8)));
  for (;;) {
    struct msghdr message = {.msg_control = control, .msg_controllen = sizeof control};
    calls++;
    if (recvmsg(fd, &message, MSG_ERRQUEUE | MSG_DONTWAIT) < 0) break;
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    if (!header) continue;
    const struct sock_extended_err *error = (void *)CMSG_DATA(header);
    if (error->ee_origin != SO_EE_ORIGIN_ZEROCOPY) continue;
    long count = (long)(error->ee_data - error->ee_info) + 1;
    zero_copy.outstanding -= count;
    int is_copied = (error->ee_code & SO_EE_CODE_ZEROCOPY_COPIED) != 0;
    zero_copy.copied_in_row = is_copied ? zero_copy.copied_in_row + count : 0;
  }
  if (zero_copy.copied_in_row >= COPIED_MAX) zero_copy.is_off = 1;
}

// The same as trySendZeroCopy does.
static long send_zero_copy(int fd, int at, int flags) {
  if (zero_copy.outstanding > 0) read_notices(fd);
  if (!zero_copy.is_off) {
    long result = send(fd, out_slot[at], (size_t)bytes, flags | MSG_ZEROCOPY);
    if (result >= 0) zero_copy.outstanding++;
    if (result >= 0 || errno != ENOBUFS) return result;
    // There is no room for more notices.
    calls++;
  }
  long result = send(fd, out_slot[at], (size_t)bytes, flags);
  if (result >= 0) zero_copy.plain++;
  return result;
}

// One call from slot `at`; gives how many slots went, or 0 when there is no room.
static int send_some(int fd, int at) {
  int flags = MSG_DONTWAIT | MSG_NOSIGNAL;
  long result;
  if (at == 0 || is_gso) stamp(out_slot[at]);
  calls++;
  switch (send_path) {
    case SENDMSG: result = sendmsg(fd, &out[at].msg_hdr, flags) < 0 ? -1 : 1; break;
    case SENDTO:
      result = sendto(fd, out_slot[at], (size_t)bytes, flags, (struct sockaddr *)&peer, peer_length);
      result = result < 0 ? -1 : 1;
      break;
    case SEND: result = send(fd, out_slot[at], (size_t)bytes, flags) < 0 ? -1 : 1; break;
    case ZEROCOPY:
      result = send_zero_copy(fd, at, flags) < 0 ? -1 : 1;
      break;
    default: result = sendmmsg(fd, out + at, (unsigned)batch, flags);
  }
  if (result > 0) {
    data_calls++;
    return (int)result;
  }
  if (errno != EAGAIN && errno != ENOBUFS) fail("send");
  if (!wait_for(fd, POLLOUT, ACK_MS)) stalls++;
  return 0;
}

// What a batch of a train, or of single datagrams, begins with again after the last slot.
static int next_slot(int at, int count) {
  int slots = is_gso ? batch : SLOTS / batch * batch;
  return (at + count) % slots;
}

static uint32_t receive_ack(int fd, uint32_t before) {
  uint32_t value;
  for (;;) {
    calls++;
    if (recv(fd, &value, sizeof value, MSG_DONTWAIT) == sizeof value) return value;
    if (!wait_for(fd, POLLIN, ACK_MS)) return before;
  }
}

static void say_sent(long sent, double ns, long own_calls, long own_data_calls, double cpu_ns) {
  printf("{\"sent\":%ld,\"ns\":%.0f,\"calls\":%ld,\"dataCalls\":%ld,\"stalls\":%ld,\"plain\":%ld,"
         "\"cpuNs\":%.0f}\n",
         sent, ns, own_calls, own_data_calls, stalls, zero_copy.plain, cpu_ns);
  fflush(stdout);
}

static void send_round(int fd, long total) {
  char old[8];
  while (recv(fd, old, sizeof old, MSG_DONTWAIT) >= 0) {}
  int each = is_gso ? segments : 1, at = 0;
  long sent = 0, acked = 0, lost = 0;
  double start = now();
  calls = data_calls = stalls = zero_copy.plain = 0;
  for (;;) {
    int is_done = sent >= total || stalls >= STALLS_MAX;
    long most = is_done ? 0 : window - batch * each;
    while (!is_flat && sent - acked - lost > most) {
      uint32_t value = receive_ack(fd, (uint32_t)acked);
      if (value == acked) lost = sent - acked, stalls++;
      else acked = value;
    }
    if (is_done) break;
    int count = send_some(fd, at);
    at = next_slot(at, count);
    sent += count * each;
  }
  say_sent(sent, now() - start, calls, data_calls, 0);
}

// --- Receiving ---

// Who sends on one core is received by one of those that share a port.
static void spread_by_core(int fd) {
  struct sock_filter program[] = {
      {BPF_LD | BPF_W | BPF_ABS, 0, 0, (uint32_t)(SKF_AD_OFF + SKF_AD_CPU)},
      {BPF_ALU | BPF_MOD | BPF_K, 0, 0, (uint32_t)receivers},
      {BPF_RET | BPF_A, 0, 0, 0},
  };
  struct sock_fprog whole = {sizeof program / sizeof *program, program};
  if (setsockopt(fd, SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, &whole, sizeof whole) < 0) fail("filter");
}

static void prepare_receive(int fd) {
  if (receivers > 1 && port == 0) spread_by_core(fd);
  if (is_gro) set(fd, IPPROTO_UDP, UDP_GRO, 1);
  for (int i = 0; i < SLOTS; i++) {
    in_vector[i] = (struct iovec){in_slot[i], SLOT};
    in[i].msg_hdr.msg_iov = &in_vector[i];
    in[i].msg_hdr.msg_iovlen = 1;
    in[i].msg_hdr.msg_control = in_control[i];
    in[i].msg_hdr.msg_name = &from[i];
  }
}

static void look_at(const unsigned char *slot, int length) {
  seen.sum += slot[0] + slot[length - 1];
  seen.received++;
  if (slot[0] != 0 || seen.stamped++ % seen.stride != 0 || seen.count >= seen.most) return;
  double time;
  memcpy(&time, slot + STAMP_AT, sizeof time);
  seen.samples[seen.count++] = now() - time;
}

// Takes how long ago the kernel had a datagram, of some of them.
static void take_age(const struct timespec *had) {
  if (seen.waited++ % seen.wait_stride != 0 || seen.count == SAMPLES) return;
  struct timespec time;
  clock_gettime(CLOCK_REALTIME, &time);
  seen.samples[seen.count++] =
      (double)(time.tv_sec - had->tv_sec) * 1e9 + (double)(time.tv_nsec - had->tv_nsec);
}

static void take_age_of(struct msghdr *message) {
  for (struct cmsghdr *header = CMSG_FIRSTHDR(message); header; header = CMSG_NXTHDR(message, header))
    if (header->cmsg_level == SOL_SOCKET && header->cmsg_type == SO_TIMESTAMPNS)
      take_age((const struct timespec *)CMSG_DATA(header));
}

static int segment_bytes(struct msghdr *message, int length) {
  for (struct cmsghdr *header = CMSG_FIRSTHDR(message); header; header = CMSG_NXTHDR(message, header))
    if (header->cmsg_level == IPPROTO_UDP && header->cmsg_type == UDP_GRO)
      return *(int *)CMSG_DATA(header);
  return length;
}

static int receive_block(void);

// One call; whether it has brought something.
static int receive_some(int fd) {
  int flags = MSG_DONTWAIT | MSG_TRUNC;
  if (receive_path == RING) return receive_block();
  size_t control = is_gro || is_timed ? CONTROL : 0;
  calls++;
  if (receive_path == RECVMMSG || is_gro) {
    int slots = receive_slots;
    for (int i = 0; i < slots; i++) {
      in[i].msg_hdr.msg_namelen = sizeof from[i];
      in[i].msg_hdr.msg_controllen = control;
    }
    int count = recvmmsg(fd, in, (unsigned)slots, flags, NULL);
    if (count <= 0) return 0;
    for (int i = 0; i < count; i++) {
      int length = (int)in[i].msg_len;
      if (is_timed) take_age_of(&in[i].msg_hdr);
      int each = is_gro ? segment_bytes(&in[i].msg_hdr, length) : length;
      for (int at = 0; at < length; at += each)
        look_at(in_slot[i] + at, at + each < length ? each : length - at);
    }
    seen.messages += count;
    data_calls++;
    return 1;
  }
  long length;
  if (receive_path == RECVMSG) {
    in[0].msg_hdr.msg_namelen = sizeof from[0];
    in[0].msg_hdr.msg_controllen = control;
    length = recvmsg(fd, &in[0].msg_hdr, flags);
    if (is_timed && length >= 0) take_age_of(&in[0].msg_hdr);
  } else if (receive_path == RECVFROM) {
    socklen_t size = sizeof from[0];
    length = recvfrom(fd, in_slot[0], SLOT, flags, (struct sockaddr *)&from[0], &size);
  } else length = recv(fd, in_slot[0], SLOT, flags);
  if (length < 0) return 0;
  look_at(in_slot[0], (int)length);
  seen.messages++;
  data_calls++;
  return 1;
}

static void begin_receive(int fd, long total) {
  while (receive_some(fd)) {}
  calls = data_calls = stalls = 0;
  seen.sum = seen.first = seen.last = 0;
  seen.received = seen.messages = seen.stamped = seen.waited = seen.count = 0;
  seen.most = is_timed ? 0 : SAMPLES;
  seen.stride = total / group / SAMPLES + 1;
  // Odd, so that it is not always the same one of a group. Trains have one time each.
  seen.wait_stride = total / (is_gro ? segments : 1) / SAMPLES | 1;
}

static void say_received(double cpu_ns) {
  printf("{\"received\":%ld,\"sum\":%.0f,\"ns\":%.0f,\"calls\":%ld,\"dataCalls\":%ld,\"messages\":%ld,"
         "\"stalls\":%ld,\"cpuNs\":%.0f,\"samples\":[",
         seen.received, seen.sum, seen.last - seen.first, calls, data_calls, seen.messages, stalls, cpu_ns);
  for (long i = 0; i < seen.count; i++) printf(i ? ",%.0f" : "%.0f", seen.samples[i]);
  printf("]}\n");
  fflush(stdout);
}

static void say_ready(void) {
  printf("{\"ready\":true}\n");
  fflush(stdout);
}

static int ring_fd;

static void receive_round(int fd, long total) {
  begin_receive(fd, total);
  say_ready();
  long acked = 0;
  while (seen.received < total) {
    if (receive_some(fd)) {
      if (seen.first == 0) seen.first = now();
      while (!is_flat && seen.received - acked >= group) {
        uint32_t value = (uint32_t)(acked += group);
        calls++;
        send(fd, &value, sizeof value, MSG_DONTWAIT | MSG_NOSIGNAL);
      }
      continue;
    }
    seen.last = now();
    int waited = receive_path == RING ? ring_fd : fd;
    // Where nobody waits for answers, some may be lost, and that is the end.
    int is_end = seen.received && is_flat;
    if (wait_for(waited, POLLIN, is_end ? QUIET_MS : FIRST_MS)) continue;
    if (!is_end) stalls++;
    break;
  }
  if (seen.received >= total) seen.last = now();
  say_received(0);
}

// --- A packet ring ---

enum {
  BLOCK_BYTES = 1 << 20,
  BLOCKS = 16,
  FRAME_BYTES = 2048,
  BLOCK_TIMEOUT_MS = 10,
  IP_AT = 14,
  UDP_AT = 34,
  PAYLOAD_AT = 42,
};

static char *ring;
static int own_port, next_block;

// The interface that has our address.
static int interface_here(void) {
  struct ifaddrs *all;
  if (getifaddrs(&all) < 0) fail("getifaddrs");
  struct in_addr wanted;
  inet_pton(AF_INET, local, &wanted);
  int index = 0;
  for (struct ifaddrs *one = all; one; one = one->ifa_next) {
    if (!one->ifa_addr || one->ifa_addr->sa_family != AF_INET) continue;
    struct in_addr address = ((struct sockaddr_in *)one->ifa_addr)->sin_addr;
    if (address.s_addr == wanted.s_addr) index = (int)if_nametoindex(one->ifa_name);
  }
  freeifaddrs(all);
  return index;
}

// The socket keeps the port, and takes nothing.
static void open_ring(int fd) {
  struct sock_filter nothing[] = {{BPF_RET | BPF_K, 0, 0, 0}};
  struct sock_fprog whole = {1, nothing};
  if (setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &whole, sizeof whole) < 0) fail("filter");
  own_port = port_of(fd);
  ring_fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
  if (ring_fd < 0) fail("packet socket");
  set(ring_fd, SOL_PACKET, PACKET_VERSION, TPACKET_V3);
  struct tpacket_req3 geometry = {
      .tp_block_size = BLOCK_BYTES,
      .tp_block_nr = BLOCKS,
      .tp_frame_size = FRAME_BYTES,
      .tp_frame_nr = BLOCK_BYTES / FRAME_BYTES * BLOCKS,
      .tp_retire_blk_tov = BLOCK_TIMEOUT_MS,
  };
  if (setsockopt(ring_fd, SOL_PACKET, PACKET_RX_RING, &geometry, sizeof geometry) < 0) fail("ring");
  size_t length = (size_t)BLOCK_BYTES * BLOCKS;
  ring = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED, ring_fd, 0);
  if (ring == MAP_FAILED) fail("mmap");
  struct sockaddr_ll where = {.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL)};
  where.sll_ifindex = interface_here();
  if (bind(ring_fd, (struct sockaddr *)&where, sizeof where) < 0) fail("bind");
}

// Whether it is one of ours.
static int look_at_frame(const unsigned char *frame) {
  if (frame[12] != 8 || frame[13] != 0 || frame[IP_AT + 9] != IPPROTO_UDP) return 0;
  if ((frame[UDP_AT + 2] << 8 | frame[UDP_AT + 3]) != own_port) return 0;
  look_at(frame + PAYLOAD_AT, (frame[UDP_AT + 4] << 8 | frame[UDP_AT + 5]) - 8);
  seen.messages++;
  return 1;
}

// One block; whether there was one.
static int receive_block(void) {
  struct tpacket_block_desc *block = (void *)(ring + (size_t)next_block * BLOCK_BYTES);
  uint32_t *status = &block->hdr.bh1.block_status;
  if (!(__atomic_load_n(status, __ATOMIC_ACQUIRE) & TP_STATUS_USER)) return 0;
  const char *at = (const char *)block + block->hdr.bh1.offset_to_first_pkt;
  for (uint32_t i = 0; i < block->hdr.bh1.num_pkts; i++) {
    const struct tpacket3_hdr *frame = (const void *)at;
    if (look_at_frame((const unsigned char *)at + frame->tp_mac) && is_timed)
      take_age(&(struct timespec){frame->tp_sec, frame->tp_nsec});
    at += frame->tp_next_offset;
  }
  __atomic_store_n(status, TP_STATUS_KERNEL, __ATOMIC_RELEASE);
  next_block = (next_block + 1) % BLOCKS;
  data_calls++;
  return 1;
}

// --- One thread ---

static void both_round(int sender, int receiver, long total) {
  begin_receive(receiver, total);
  int each = is_gso ? segments : 1;
  long sent = 0, lost = 0, send_calls = 0, send_data_calls = 0;
  zero_copy.plain = 0;
  double start = now(), send_cpu = 0, receive_cpu = 0, mark = spent();
  seen.first = start;
  while (sent < total && stalls < STALLS_MAX) {
    long own = calls, own_data = data_calls;
    for (int at = 0, left = group; left > 0 && stalls < STALLS_MAX;) {
      int count = send_some(sender, at);
      at = next_slot(at, count);
      sent += count * each;
      left -= count * each;
    }
    send_calls += calls - own;
    send_data_calls += data_calls - own_data;
    double half = spent();
    send_cpu += half - mark;
    while (seen.received < sent - lost) {
      if (receive_some(receiver) || wait_for(receiver, POLLIN, ACK_MS)) continue;
      lost = sent - seen.received;
      stalls++;
    }
    mark = spent();
    receive_cpu += mark - half;
  }
  seen.last = now();
  // Who waits in vain is the receiver.
  long all = stalls;
  stalls = 0;
  say_sent(sent, seen.last - start, send_calls, send_data_calls, send_cpu);
  calls -= send_calls;
  data_calls -= send_data_calls;
  stalls = all;
  say_received(receive_cpu);
}

int main(int count, char **value) {
  if (count != 16) return 2;
  const char *role = value[1];
  send_path = index_of(value[2], SEND_PATHS, SEND_END);
  receive_path = index_of(value[3], RECEIVE_PATHS, RECEIVE_END);
  family = value[4];
  bytes = atoi(value[5]), batch = atoi(value[6]), segments = atoi(value[7]);
  group = atoi(value[8]), window = atoi(value[9]);
  is_flat = is(value[10], "flat");
  local = value[12], remote = value[13], port = atoi(value[14]);
  receivers = atoi(value[15]);
  is_gso = send_path == GSO, is_gro = receive_path == GRO;
  receive_slots = is_gro ? 1 : is_gso ? group : batch;
  int receives = !is(role, "send"), sends = !is(role, "receive");
  int receiver = -1, sender = -1;
  if (receives) {
    receiver = open_at(local, port, receivers > 1);
    prepare_receive(receiver);
    if (receive_path == RING) open_ring(receiver);
  }
  if (is(role, "both")) {
    sender = open_at(remote, 0, 0);
    // The sender stands at `remote`, and sends to the receiver.
    connect_to(receiver, remote, port_of(sender));
    remote = local, port = port_of(receiver);
    prepare_send(sender);
  } else if (sends) {
    sender = open_at(local, 0, 0);
    prepare_send(sender);
  }
  int fd = receives ? receiver : sender;
  printf("{\"port\":%d,\"sendBufferBytes\":%d,\"receiveBufferBytes\":%d}\n", port_of(fd),
         buffer_of(sends ? sender : fd, SO_SNDBUF), buffer_of(fd, SO_RCVBUF));
  fflush(stdout);
  char word[16];
  long number;
  while (scanf("%15s %ld", word, &number) == 2) {
    if (is(word, "peer")) {
      connect_to(receiver, remote, (int)number);
      say_ready();
    } else if (is(word, "times")) {
      is_timed = (int)number;
      set(receiver, SOL_SOCKET, SO_TIMESTAMPNS, is_timed);
      say_ready();
    } else if (is(role, "both")) both_round(sender, receiver, number);
    else if (sends) send_round(sender, number);
    else receive_round(receiver, number);
  }
  return 0;
}
