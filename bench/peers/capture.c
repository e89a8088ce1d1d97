// What capture.ts compares with: a generator of frames, and what receives them in C.
//
// capture send IF: for each line "BYTES COUNT" of its standard input sends that many frames through
// a packet socket, 64 in a call, past the queueing discipline, and prints what it sent.
// capture ring IF FORM: for each line "COUNT" opens a ring (TPACKET_V3) of 16 blocks of 1 MiB and says
// that it is ready; takes frames until there are COUNT or nothing comes any more; prints what it saw
// and the CPU time of its thread. FORM is what it does with a frame: count, offset or ports.
// capture recvmmsg IF: the same with a plain packet socket, 64 frames in a call, first and last byte
// read.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
  BATCH = 64,
  SLOT = 2048,
  BLOCK_BYTES = 1 << 20,
  BLOCKS = 16,
  BLOCK_TIMEOUT_MS = 10,
  FRAME_BYTES = 2048,
  QUIET_MS = 200,
  QUIET_TIMES = 25,
  IPV4_BYTES = 20,
  UDP = 17,
  UDP_BYTES = 8,
};

static const char *interface;

static _Noreturn void fail(const char *what) {
  perror(what);
  exit(1);
}

static long long now(clockid_t clock) {
  struct timespec time;
  clock_gettime(clock, &time);
  return time.tv_sec * 1000000000LL + time.tv_nsec;
}

// It receives nothing until it is bound to a protocol.
static int open_socket(void) {
  int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
  if (fd < 0) fail("socket");
  return fd;
}

static void bind_to(int fd, int protocol) {
  struct sockaddr_ll address = {
      .sll_family = AF_PACKET,
      .sll_protocol = htons((uint16_t)protocol),
      .sll_ifindex = (int)if_nametoindex(interface),
  };
  if (bind(fd, (struct sockaddr *)&address, sizeof address) < 0) fail("bind");
}

// The generator.

static unsigned char frames[2 * BATCH][SLOT];

// Ethernet, IPv4 and UDP. The first byte of a frame and its last one make 255, and so its ports make
// 65535: whoever loses frames knows still what the others are to sum up to. The destination is of
// another host, so that the kernel does nothing else with a frame.
static void make_frames(int bytes) {
  for (int i = 0; i < 2 * BATCH; i++) {
    unsigned char *frame = frames[i];
    memset(frame, 0, SLOT);
    frame[0] = (unsigned char)(2 * i);
    frame[5] = 1;
    frame[6] = 2;
    frame[11] = 2;
    frame[12] = ETH_P_IP >> 8;
    frame[13] = ETH_P_IP & 255;
    unsigned char *ip = frame + ETH_HLEN;
    int length = bytes - ETH_HLEN;
    ip[0] = 0x45;
    ip[2] = (unsigned char)(length >> 8);
    ip[3] = (unsigned char)length;
    ip[8] = 64;
    ip[9] = UDP;
    memcpy(ip + 12, "\xc0\x00\x02\x01\xc0\x00\x02\x02", 8);
    unsigned sum = 0;
    for (int at = 0; at < IPV4_BYTES; at += 2) sum += (unsigned)(ip[at] << 8 | ip[at + 1]);
    sum = (sum & 0xffff) + (sum >> 16);
    ip[10] = (unsigned char)(~sum >> 8);
    ip[11] = (unsigned char)~sum;
    unsigned char *udp = ip + IPV4_BYTES;
    int source = 1024 + 301 * i;
    int destination = 65535 - source;
    udp[0] = (unsigned char)(source >> 8);
    udp[1] = (unsigned char)source;
    udp[2] = (unsigned char)(destination >> 8);
    udp[3] = (unsigned char)destination;
    udp[4] = (unsigned char)((length - IPV4_BYTES) >> 8);
    udp[5] = (unsigned char)(length - IPV4_BYTES);
    frame[bytes - 1] = (unsigned char)(255 - frame[0]);
  }
}

// What the device has not taken on its way out although the socket had.
static long long device_drops(void) {
  FILE *file = fopen("/proc/self/net/dev", "r");
  if (!file) fail("/proc/self/net/dev");
  char line[512];
  long long drops = -1;
  while (fgets(line, sizeof line, file)) {
    char *colon = strchr(line, ':');
    if (!colon) continue;
    *colon = 0;
    char *name = line + strspn(line, " ");
    if (strcmp(name, interface) != 0) continue;
    // Eight numbers about receiving, then bytes, packets, errors and drops of sending.
    sscanf(colon + 1, "%*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %lld", &drops);
  }
  fclose(file);
  return drops;
}

static int generate(void) {
  int fd = open_socket();
  int one = 1;
  if (setsockopt(fd, SOL_PACKET, PACKET_QDISC_BYPASS, &one, sizeof one) < 0) fail("bypass");
  bind_to(fd, 0);
  static struct iovec vector[2 * BATCH];
  static struct mmsghdr message[2 * BATCH];
  int bytes;
  long long count;
  while (scanf("%d %lld", &bytes, &count) == 2) {
    make_frames(bytes);
    for (int i = 0; i < 2 * BATCH; i++) {
      vector[i] = (struct iovec){frames[i], (size_t)bytes};
      message[i].msg_hdr = (struct msghdr){.msg_iov = &vector[i], .msg_iovlen = 1};
    }
    long long drops = device_drops();
    long long sent = 0, sum = 0;
    long long start = now(CLOCK_MONOTONIC), cpu = now(CLOCK_THREAD_CPUTIME_ID);
    while (sent < count) {
      int first = (int)(sent % (2 * BATCH));
      int some = 2 * BATCH - first < BATCH ? 2 * BATCH - first : BATCH;
      if (some > count - sent) some = (int)(count - sent);
      int taken = sendmmsg(fd, message + first, (unsigned)some, 0);
      if (taken < 0 && (errno == ENOBUFS || errno == EINTR)) continue;
      if (taken < 0) fail("sendmmsg");
      for (int i = first; i < first + taken; i++) sum += frames[i][0] + frames[i][bytes - 1];
      sent += taken;
    }
    long long ns = now(CLOCK_MONOTONIC) - start;
    printf("{\"sent\":%lld,\"sum\":%lld,\"ns\":%lld,\"cpu_ns\":%lld,\"dropped\":%lld}\n", sent, sum,
           ns, now(CLOCK_THREAD_CPUTIME_ID) - cpu, device_drops() - drops);
    fflush(stdout);
  }
  return 0;
}

// Those that receive.

struct seen {
  long long frames, bytes, sum, waits, drops;
};

enum form { COUNT, OFFSET, PORTS };

static void ready(void) {
  puts("{\"ready\":true}");
  fflush(stdout);
}

// The kernel forgets them when it has told.
static long long read_drops(int fd) {
  struct tpacket_stats_v3 stats = {0};
  socklen_t length = sizeof stats;
  if (getsockopt(fd, SOL_PACKET, PACKET_STATISTICS, &stats, &length) < 0) fail("statistics");
  return stats.tp_drops;
}

// Waits until something can be received. 0 when all that was sent was seen or dropped, or nothing has
// come for a long time.
static int wait_for(int fd, long long count, struct seen *seen) {
  struct pollfd one = {fd, POLLIN, 0};
  seen->waits++;
  for (int i = 0; i < QUIET_TIMES; i++) {
    if (poll(&one, 1, QUIET_MS) > 0) return 1;
    seen->drops += read_drops(fd);
    if (seen->frames + seen->drops >= count) break;
  }
  return 0;
}

static void report(int fd, struct seen *seen, long long cpu_ns) {
  seen->drops += read_drops(fd);
  printf("{\"frames\":%lld,\"bytes\":%lld,\"sum\":%lld,\"drops\":%lld,\"waits\":%lld,"
         "\"cpu_ns\":%lld,\"process_cpu_ns\":%lld}\n",
         seen->frames, seen->bytes, seen->sum, seen->drops, seen->waits, cpu_ns, cpu_ns);
  fflush(stdout);
}

static const struct tpacket3_hdr *next(const struct tpacket3_hdr *frame) {
  return (const void *)((const char *)frame + frame->tp_next_offset);
}

static void walk_count(const struct tpacket3_hdr *frame, uint32_t count, struct seen *seen) {
  long long bytes = 0;
  for (uint32_t i = 0; i < count; i++, frame = next(frame)) bytes += frame->tp_snaplen;
  seen->bytes += bytes;
  seen->frames += count;
}

static void walk_offset(const struct tpacket3_hdr *frame, uint32_t count, struct seen *seen) {
  long long bytes = 0, sum = 0;
  for (uint32_t i = 0; i < count; i++, frame = next(frame)) {
    const unsigned char *data = (const unsigned char *)frame + frame->tp_mac;
    sum += data[0] + data[frame->tp_snaplen - 1];
    bytes += frame->tp_snaplen;
  }
  seen->sum += sum;
  seen->bytes += bytes;
  seen->frames += count;
}

static long ports(const unsigned char *data, unsigned length) {
  if (length < ETH_HLEN + IPV4_BYTES || (data[12] << 8 | data[13]) != ETH_P_IP) return 0;
  const unsigned char *ip = data + ETH_HLEN;
  unsigned header = (ip[0] & 15u) * 4;
  if (ip[0] >> 4 != 4 || header < IPV4_BYTES || ip[9] != UDP) return 0;
  if (length < ETH_HLEN + header + UDP_BYTES) return 0;
  const unsigned char *udp = ip + header;
  return (udp[0] << 8 | udp[1]) + (udp[2] << 8 | udp[3]);
}

static void walk_ports(const struct tpacket3_hdr *frame, uint32_t count, struct seen *seen) {
  long long bytes = 0, sum = 0;
  for (uint32_t i = 0; i < count; i++, frame = next(frame)) {
    sum += ports((const unsigned char *)frame + frame->tp_mac, frame->tp_snaplen);
    bytes += frame->tp_snaplen;
  }
  seen->sum += sum;
  seen->bytes += bytes;
  seen->frames += count;
}

static void ring_round(long long count, enum form form) {
  int fd = open_socket();
  int version = TPACKET_V3;
  if (setsockopt(fd, SOL_PACKET, PACKET_VERSION, &version, sizeof version) < 0) fail("version");
  struct tpacket_req3 geometry = {
      .tp_block_size = BLOCK_BYTES,
      .tp_block_nr = BLOCKS,
      .tp_frame_size = FRAME_BYTES,
      .tp_frame_nr = BLOCK_BYTES / FRAME_BYTES * BLOCKS,
      .tp_retire_blk_tov = BLOCK_TIMEOUT_MS,
  };
  if (setsockopt(fd, SOL_PACKET, PACKET_RX_RING, &geometry, sizeof geometry) < 0) fail("ring");
  size_t length = (size_t)BLOCK_BYTES * BLOCKS;
  char *ring = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (ring == MAP_FAILED) fail("mmap");
  bind_to(fd, ETH_P_ALL);
  ready();
  struct seen seen = {0};
  int index = 0;
  long long start = now(CLOCK_THREAD_CPUTIME_ID);
  while (seen.frames < count) {
    struct tpacket_block_desc *block = (void *)(ring + (size_t)index * BLOCK_BYTES);
    uint32_t *status = &block->hdr.bh1.block_status;
    if (!(__atomic_load_n(status, __ATOMIC_ACQUIRE) & TP_STATUS_USER)) {
      if (!wait_for(fd, count, &seen)) break;
      continue;
    }
    const void *first = (const char *)block + block->hdr.bh1.offset_to_first_pkt;
    uint32_t packets = block->hdr.bh1.num_pkts;
    if (form == COUNT) walk_count(first, packets, &seen);
    else if (form == OFFSET) walk_offset(first, packets, &seen);
    else walk_ports(first, packets, &seen);
    __atomic_store_n(status, TP_STATUS_KERNEL, __ATOMIC_RELEASE);
    index = (index + 1) % BLOCKS;
  }
  long long cpu_ns = now(CLOCK_THREAD_CPUTIME_ID) - start;
  report(fd, &seen, cpu_ns);
  munmap(ring, length);
  close(fd);
}

static void recvmmsg_round(long long count) {
  static unsigned char slot[BATCH][SLOT];
  static struct iovec vector[BATCH];
  static struct mmsghdr message[BATCH];
  static struct sockaddr_ll sender[BATCH];
  for (int i = 0; i < BATCH; i++) {
    vector[i] = (struct iovec){slot[i], SLOT};
    message[i].msg_hdr = (struct msghdr){
        .msg_name = &sender[i], .msg_iov = &vector[i], .msg_iovlen = 1};
  }
  int fd = open_socket();
  bind_to(fd, ETH_P_ALL);
  ready();
  struct seen seen = {0};
  long long start = now(CLOCK_THREAD_CPUTIME_ID);
  while (seen.frames < count) {
    for (int i = 0; i < BATCH; i++) message[i].msg_hdr.msg_namelen = sizeof sender[i];
    int some = recvmmsg(fd, message, BATCH, MSG_DONTWAIT | MSG_TRUNC, NULL);
    if (some < 0) {
      if (errno != EAGAIN) fail("recvmmsg");
      if (!wait_for(fd, count, &seen)) break;
      continue;
    }
    for (int i = 0; i < some; i++) {
      seen.sum += slot[i][0] + slot[i][message[i].msg_len - 1];
      seen.bytes += message[i].msg_len;
    }
    seen.frames += some;
  }
  long long cpu_ns = now(CLOCK_THREAD_CPUTIME_ID) - start;
  report(fd, &seen, cpu_ns);
  close(fd);
}

int main(int count, char **values) {
  if (count < 3) return 2;
  const char *role = values[1];
  interface = values[2];
  if (strcmp(role, "send") == 0) return generate();
  const char *form = count > 3 ? values[3] : "";
  long long expected;
  while (scanf("%lld", &expected) == 1) {
    if (strcmp(role, "recvmmsg") == 0) recvmmsg_round(expected);
    else if (strcmp(form, "count") == 0) ring_round(expected, COUNT);
    else if (strcmp(form, "offset") == 0) ring_round(expected, OFFSET);
    else ring_round(expected, PORTS);
  }
  return 0;
}
