// turn_budget CORE PORT QUIET_PORT: floods one UDP port of loopback without a pause, so that its
// queue is never empty, and sends another one a datagram every 20 ms that says when it was sent: the
// nanoseconds of CLOCK_MONOTONIC, and a number that counts them. Ends with its parent.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { BATCH = 64, BYTES = 32, EVERY_NS = 20000000, SECONDS_MAX = 60 };

static int64_t now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

static int connect_to(int port) {
  int fd = socket(AF_INET, SOCK_DGRAM, 0);
  // What comes back is not read: the sooner it is dropped the better.
  int bytes = 0;
  setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof bytes);
  struct sockaddr_in server = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
  server.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (connect(fd, (struct sockaddr *)&server, sizeof server) < 0) exit(1);
  return fd;
}

int main(int count, char **values) {
  if (count != 4) return 2;
  alarm(SECONDS_MAX);
  if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0) return perror("prctl"), 1;
  cpu_set_t core;
  CPU_ZERO(&core);
  CPU_SET(atoi(values[1]), &core);
  if (sched_setaffinity(0, sizeof core, &core) < 0) return perror("sched_setaffinity"), 1;
  int fd = connect_to(atoi(values[2])), quiet = connect_to(atoi(values[3]));

  static char payload[BYTES];
  static struct mmsghdr messages[BATCH];
  struct iovec vector = {payload, sizeof payload};
  for (int i = 0; i < BATCH; i++) messages[i].msg_hdr = (struct msghdr){.msg_iov = &vector, .msg_iovlen = 1};
  int64_t next = now(), number = 0;
  for (;;) {
    sendmmsg(fd, messages, BATCH, 0);
    int64_t time = now();
    if (time < next) continue;
    next = time + EVERY_NS;
    int64_t words[2] = {time, number++};
    send(quiet, words, sizeof words, 0);
  }
}
