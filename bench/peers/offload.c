// The work of bench/peers/offload.ts in C: trains of datagrams sent on one socket and received on
// another by the same thread, with the same system calls, flags and touched bytes.
#define _GNU_SOURCE
#include <errno.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <poll.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

enum { BATCH = 64, SLOT = 65536, SMALL_SLOT = 2048, CONTROL = 256, NAME = 128 };

struct result {
  double send_ns, receive_ns, sent, received, sum;
};

static struct mmsghdr out[BATCH], in[BATCH];
static struct iovec out_vector[BATCH], in_vector[BATCH];
static unsigned char out_slot[BATCH][SLOT], in_slot[BATCH][SLOT];
static unsigned char out_control[CMSG_SPACE(sizeof(uint16_t))] __attribute__((aligned(8)));
static unsigned char in_control[BATCH][CONTROL] __attribute__((aligned(8)));

static double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (double)time.tv_sec * 1e9 + (double)time.tv_nsec;
}

// What lies in a slot: `segments` payloads, the first byte of each its number, the last what makes 255
// with it.
static void fill(unsigned char *slot, int bytes, int segments, int first) {
  memset(slot, 0, (size_t)bytes * (size_t)segments);
  for (int i = 0; i < segments; i++) {
    slot[i * bytes] = (unsigned char)(first + i);
    slot[i * bytes + bytes - 1] = (unsigned char)(255 - (unsigned char)(first + i));
  }
}

static void prepare(int bytes, int segments, int gso, int gro) {
  memset(out, 0, sizeof out);
  memset(in, 0, sizeof in);
  struct cmsghdr *header = (struct cmsghdr *)out_control;
  header->cmsg_level = IPPROTO_UDP;
  header->cmsg_type = UDP_SEGMENT;
  header->cmsg_len = CMSG_LEN(sizeof(uint16_t));
  *(uint16_t *)CMSG_DATA(header) = (uint16_t)bytes;
  for (int i = 0; i < BATCH; i++) {
    fill(out_slot[i], bytes, gso ? segments : 1, gso ? 0 : i);
    out_vector[i] = (struct iovec){out_slot[i], (size_t)bytes * (size_t)(gso ? segments : 1)};
    out[i].msg_hdr.msg_iov = &out_vector[i];
    out[i].msg_hdr.msg_iovlen = 1;
    if (gso) {
      out[i].msg_hdr.msg_control = out_control;
      out[i].msg_hdr.msg_controllen = sizeof out_control;
    }
    in_vector[i] = (struct iovec){in_slot[i], gro ? SLOT : SMALL_SLOT};
    in[i].msg_hdr.msg_iov = &in_vector[i];
    in[i].msg_hdr.msg_iovlen = 1;
    in[i].msg_hdr.msg_control = in_control[i];
  }
}

// Waits until something can be received. 0 when nothing came: what is missing is lost.
static int wait_for(int receiver) {
  struct pollfd fd = {receiver, POLLIN, 0};
  return poll(&fd, 1, 100) > 0;
}

static int segment_bytes(struct msghdr *message, int length) {
  for (struct cmsghdr *header = CMSG_FIRSTHDR(message); header; header = CMSG_NXTHDR(message, header))
    if (header->cmsg_level == IPPROTO_UDP && header->cmsg_type == UDP_GRO)
      return *(int *)CMSG_DATA(header);
  return length;
}

// One call; returns the datagrams that it has brought, or -1.
static int receive(int receiver, int slots, struct result *result) {
  for (int i = 0; i < slots; i++) in[i].msg_hdr.msg_controllen = CONTROL;
  int count = recvmmsg(receiver, in, (unsigned)slots, MSG_DONTWAIT | MSG_TRUNC, NULL);
  int datagrams = 0;
  for (int i = 0; i < count; i++) {
    int length = (int)in[i].msg_len;
    int bytes = segment_bytes(&in[i].msg_hdr, length);
    unsigned char *slot = in_slot[i];
    for (int at = 0; at < length; at += bytes) {
      int end = at + bytes < length ? at + bytes : length;
      result->sum += slot[at] + slot[end - 1];
      datagrams++;
    }
  }
  return count < 0 ? -1 : datagrams;
}

// Groups of `trains` times `segments` datagrams. With GSO a message is a train, and without a datagram;
// with GRO a slot is.
void offload_run(int sender, int receiver, int bytes, int segments, int trains, int gso, int gro,
                 int groups, struct result *result) {
  prepare(bytes, segments, gso, gro);
  memset(result, 0, sizeof *result);
  int total = segments * trains;
  int messages = gso ? trains : total;
  int each = gso ? segments : 1;
  for (int group = 0; group < groups; group++) {
    double start = now();
    int sent = 0;
    while (sent < messages) {
      int left = messages - sent < BATCH ? messages - sent : BATCH;
      int count = sendmmsg(sender, out, (unsigned)left, MSG_DONTWAIT | MSG_NOSIGNAL);
      if (count <= 0) break;
      sent += count;
    }
    double middle = now();
    int received = 0;
    while (received < sent * each) {
      int count = receive(receiver, gro ? trains : BATCH, result);
      if (count > 0) received += count;
      else if (errno != EAGAIN || !wait_for(receiver)) break;
    }
    double end = now();
    result->send_ns += middle - start;
    result->receive_ns += end - middle;
    result->sent += total;
    result->received += received;
  }
}
