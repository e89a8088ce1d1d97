// echo_client latency|load PORT WARM_UP COUNT PAUSE_US: asks a server on loopback for echoes, by UDP,
// or on a Unix stream when PORT is the path of one; checks each, and prints what they took as a line of JSON: the time of each round trip, the whole time,
// its own CPU time, how many datagrams were lost, and what the server said before and after.
//
// latency has one datagram on its way and sleeps between two round trips, when it is told to; load
// has 32, and sends the next ones as the answers come.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>

enum { BYTES = 64, WINDOW = 32, LOST_MS = 200, MARK_TRIES = 50, TEXT = 256 };

static int64_t *round_trips;
static long measured, lost;

static int64_t now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

static int64_t cpu_time(void) {
  struct rusage used;
  getrusage(RUSAGE_SELF, &used);
  int64_t microseconds = (used.ru_utime.tv_sec + used.ru_stime.tv_sec) * (int64_t)1000000;
  return (microseconds + used.ru_utime.tv_usec + used.ru_stime.tv_usec) * 1000;
}

static void fail(const char *reason) {
  fprintf(stderr, "%s: %s\n", reason, strerror(errno));
  exit(1);
}

static int connect_to(const char *address) {
  int is_path = address[0] == '/';
  int fd = is_path ? socket(AF_UNIX, SOCK_STREAM, 0) : socket(AF_INET, SOCK_DGRAM, 0);
  struct sockaddr_un path = {.sun_family = AF_UNIX};
  strncpy(path.sun_path, address, sizeof path.sun_path - 1);
  struct sockaddr_in port = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(address))};
  port.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  struct sockaddr *server = is_path ? (struct sockaddr *)&path : (struct sockaddr *)&port;
  if (connect(fd, server, is_path ? sizeof path : sizeof port) < 0) fail("connect");
  struct timeval limit = {0, LOST_MS * 1000};
  if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit) < 0) fail("SO_RCVTIMEO");
  return fd;
}

// No two payloads are the same in any byte that a server could mix up: all follow from the number.
static void fill(unsigned char *payload, uint64_t sequence) {
  memcpy(payload, &sequence, sizeof sequence);
  for (int i = sizeof sequence; i < BYTES; i++) payload[i] = (unsigned char)(sequence + (uint64_t)i);
}

// The number in an answer; whatever differs from the payload of that number is an error.
static uint64_t read_sequence(const unsigned char *answer) {
  unsigned char expected[BYTES];
  uint64_t sequence;
  memcpy(&sequence, answer, sizeof sequence);
  fill(expected, sequence);
  errno = EBADMSG;
  if (memcmp(answer, expected, BYTES) != 0) fail("an echo has other bytes than were sent");
  return sequence;
}

// What the server has used until now, in its own words. Nothing else may be on its way.
static void ask(int fd, char *text) {
  if (send(fd, "?", 1, 0) < 0) fail("send");
  for (int i = 0; i < MARK_TRIES; i++) {
    ssize_t length = recv(fd, text, TEXT - 1, 0);
    if (length <= 0 || text[0] != '{') continue;
    text[length] = 0;
    return;
  }
  fail("the server does not say what it has used");
}

static void run_latency(int fd, long count, const struct timespec *pause) {
  static uint64_t sequence;
  unsigned char payload[BYTES], answer[TEXT];
  for (measured = lost = 0; measured < count;) {
    fill(payload, ++sequence);
    int64_t start = now();
    if (send(fd, payload, BYTES, 0) < 0) fail("send");
    ssize_t length;
    // An answer that comes after it was given up is not the one that is waited for.
    do length = recv(fd, answer, sizeof answer, 0);
    while (length >= 0 && (length != BYTES || read_sequence(answer) != sequence));
    if (length < 0) {
      if (errno != EAGAIN) fail("recv");
      if (++lost > count) fail("the server does not answer");
      continue;
    }
    round_trips[measured++] = now() - start;
    if (pause->tv_nsec > 0) nanosleep(pause, NULL);
  }
}

static struct mmsghdr out[WINDOW], in[WINDOW];
static struct iovec out_vector[WINDOW], in_vector[WINDOW];
static unsigned char out_slot[WINDOW][BYTES], in_slot[WINDOW][TEXT];

// The number of a datagram tells its place in the window: every WINDOW-th is of the same place.
static uint64_t expected[WINDOW];
static int waiting[WINDOW];
static int64_t sent_at[WINDOW];

static void send_places(int fd, const int *places, int count) {
  int64_t time = now();
  for (int i = 0; i < count; i++) {
    int place = places[i];
    expected[place] += WINDOW;
    waiting[place] = 1;
    sent_at[place] = time;
    fill(out_slot[i], expected[place]);
  }
  for (int sent = 0; sent < count;) {
    int more = sendmmsg(fd, out + sent, (unsigned)(count - sent), 0);
    if (more < 0) fail("sendmmsg");
    sent += more;
  }
}

static void run_load(int fd, long count) {
  int places[WINDOW], first = count < WINDOW ? (int)count : WINDOW;
  for (int i = 0; i < first; i++) places[i] = i;
  send_places(fd, places, first);
  long to_send = count - first;
  for (measured = lost = 0; measured < count;) {
    int received = recvmmsg(fd, in, WINDOW, MSG_WAITFORONE, NULL);
    int64_t time = now();
    int again = 0;
    if (received < 0) {
      if (errno != EAGAIN) fail("recvmmsg");
      // Nothing has come for so long that what is still waited for is lost, and is replaced.
      for (int place = 0; place < WINDOW; place++)
        if (waiting[place]) places[again++] = place;
      lost += again;
      if (lost > count) fail("the server does not answer");
    }
    for (int i = 0; i < received; i++) {
      if (in[i].msg_len != BYTES) continue;
      uint64_t sequence = read_sequence(in_slot[i]);
      int place = (int)(sequence % WINDOW);
      if (!waiting[place] || expected[place] != sequence) continue;
      round_trips[measured++] = time - sent_at[place];
      waiting[place] = 0;
      if (to_send > 0) {
        places[again++] = place;
        to_send--;
      }
    }
    if (again > 0) send_places(fd, places, again);
  }
}

static void prepare_load(void) {
  for (int i = 0; i < WINDOW; i++) {
    expected[i] = (uint64_t)i;
    out_vector[i] = (struct iovec){out_slot[i], BYTES};
    in_vector[i] = (struct iovec){in_slot[i], TEXT};
    out[i].msg_hdr.msg_iov = &out_vector[i];
    in[i].msg_hdr.msg_iov = &in_vector[i];
    out[i].msg_hdr.msg_iovlen = in[i].msg_hdr.msg_iovlen = 1;
  }
}

int main(int values, char **value) {
  if (values != 6) return 2;
  int load = strcmp(value[1], "load") == 0;
  int fd = connect_to(value[2]);
  long warm_up = atol(value[3]), count = atol(value[4]);
  struct timespec pause = {0, atol(value[5]) * 1000};
  char before[TEXT], after[TEXT];
  // A sleep ends when it should, and not up to 50 µs later together with other timers.
  if (prctl(PR_SET_TIMERSLACK, 1) < 0) fail("PR_SET_TIMERSLACK");
  round_trips = calloc((size_t)(count > warm_up ? count : warm_up) + 1, sizeof *round_trips);
  if (round_trips == NULL) fail("calloc");
  prepare_load();

  if (load) run_load(fd, warm_up);
  else run_latency(fd, warm_up, &pause);
  ask(fd, before);
  int64_t start_cpu = cpu_time(), start = now();
  if (load) run_load(fd, count);
  else run_latency(fd, count, &pause);
  int64_t end = now(), end_cpu = cpu_time();
  ask(fd, after);

  printf("{\"ns\":%lld,\"cpu_ns\":%lld,\"lost\":%ld,", (long long)(end - start),
         (long long)(end_cpu - start_cpu), lost);
  printf("\"before\":%s,\"after\":%s,\"round_trips\":[", before, after);
  for (long i = 0; i < measured; i++) printf("%s%lld", i > 0 ? "," : "", (long long)round_trips[i]);
  puts("]}");
  return 0;
}
