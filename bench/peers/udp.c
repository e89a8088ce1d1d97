// The same work in C: groups of datagrams sent on one socket and received on another by the same
// thread, with the system calls, flags and touched bytes of bench/peers/bun_sockets.ts.
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

enum { GROUP = 64, SLOT = 2048, NAME = 128 };

struct result {
  double send_ns, receive_ns, sent, received, sum;
};

static struct mmsghdr out[GROUP], in[GROUP];
static struct iovec out_vector[GROUP], in_vector[GROUP];
static unsigned char out_slot[GROUP][SLOT], in_slot[GROUP][SLOT];
static char out_name[GROUP][NAME], in_name[GROUP][NAME];

static double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (double)time.tv_sec * 1e9 + (double)time.tv_nsec;
}

static void prepare(int bytes, const void *address, unsigned address_length) {
  memset(out, 0, sizeof out);
  memset(in, 0, sizeof in);
  for (int i = 0; i < GROUP; i++) {
    memset(out_slot[i], 0, SLOT);
    out_slot[i][0] = (unsigned char)i;
    out_slot[i][bytes - 1] = (unsigned char)(255 - i);
    out_vector[i] = (struct iovec){out_slot[i], (size_t)bytes};
    out[i].msg_hdr.msg_iov = &out_vector[i];
    out[i].msg_hdr.msg_iovlen = 1;
    if (address_length > 0) {
      memcpy(out_name[i], address, address_length);
      out[i].msg_hdr.msg_name = out_name[i];
      out[i].msg_hdr.msg_namelen = address_length;
    }
    in_vector[i] = (struct iovec){in_slot[i], SLOT};
    if (address_length > 0) in[i].msg_hdr.msg_name = in_name[i];
    in[i].msg_hdr.msg_iov = &in_vector[i];
    in[i].msg_hdr.msg_iovlen = 1;
  }
}

// Waits until something can be received. 0 when nothing came: what is missing is lost.
static int wait_for(int receiver) {
  struct pollfd fd = {receiver, POLLIN, 0};
  return poll(&fd, 1, 100) > 0;
}

static int receive_batch(int receiver, struct result *result) {
  for (int i = 0; i < GROUP; i++) in[i].msg_hdr.msg_namelen = NAME;
  int count = recvmmsg(receiver, in, GROUP, MSG_DONTWAIT | MSG_TRUNC, NULL);
  for (int i = 0; i < count; i++) result->sum += in_slot[i][0] + in_slot[i][in[i].msg_len - 1];
  return count;
}

// Groups of 64, `batch` of them per call: 64 is one sendmmsg and recvmmsg, 1 is 64 send and recv.
void udp_run(int sender, int receiver, int bytes, int batch, int groups, const void *address,
             unsigned address_length, struct result *result) {
  prepare(bytes, address, address_length);
  memset(result, 0, sizeof *result);
  for (int group = 0; group < groups; group++) {
    double start = now();
    int sent = 0;
    if (batch == GROUP) {
      while (sent < GROUP) {
        int count = sendmmsg(sender, out + sent, (unsigned)(GROUP - sent), MSG_DONTWAIT | MSG_NOSIGNAL);
        if (count <= 0) break;
        sent += count;
      }
    } else {
      for (int i = 0; i < GROUP; i++) {
        ssize_t count = address_length > 0
                          ? sendto(sender, out_slot[i], (size_t)bytes, MSG_DONTWAIT | MSG_NOSIGNAL,
                                   (const struct sockaddr *)out_name[i], address_length)
                          : send(sender, out_slot[i], (size_t)bytes, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (count >= 0) sent++;
      }
    }
    double middle = now();
    int received = 0;
    while (received < sent) {
      int count;
      if (batch == GROUP) {
        count = receive_batch(receiver, result);
      } else {
        ssize_t length = recv(receiver, in_slot[0], SLOT, MSG_DONTWAIT);
        count = length < 0 ? (int)length : 1;
        if (length > 0) result->sum += in_slot[0][0] + in_slot[0][length - 1];
      }
      if (count > 0) received += count;
      else if (errno != EAGAIN || !wait_for(receiver)) break;
    }
    double end = now();
    result->send_ns += middle - start;
    result->receive_ns += end - middle;
    result->sent += GROUP;
    result->received += received;
  }
}
