// source EVENTS SOCKETS BURST PAUSE_US REOPEN_EVERY ONE_CORE WATCHDOG_MS SEED: sends datagrams to
// the sockets of answerer.ts, so that events come while its JavaScript thread sleeps, and takes the
// time of each answer. An answer that does not come before the watchdog's time is over is a lost
// wake-up: nothing else would wake that thread.
//
// It prints two lines of JSON: the addresses of its two sockets, a UDP and a Unix datagram one, and
// at the end what it has counted. Each socket of the answerer says hello first, and anew whenever
// it was closed and opened again: what was on its way to the old one is void.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum {
  SOCKETS_MAX = 256,
  // Events that can be on their way: their numbers differ in the bits of an index.
  TABLE = 1024,
  FLIGHT_MAX = 256,
  START_MS = 30000,
  // How long an answer may take that another event was sent after.
  NUDGE_MS = 500,
  SPIN_NS = 50000,
  RECEIVE_BYTES = 1 << 20,
};

// What goes both ways. An answer is the event as it was.
struct message {
  // The event's. In a hello, how many sockets were there before.
  uint32_t number;
  uint16_t socket;
  // Which socket is to be closed and opened anew once this was answered, counted from 1; 0 for
  // none.
  uint16_t reopen;
  uint32_t is_hello;
  // Follows from the number.
  uint32_t check;
};

struct target {
  uint32_t generation;
  int fd;
  socklen_t length;
  struct sockaddr_storage address;
};

struct event {
  uint32_t number;
  uint16_t socket;
  enum { DONE, ON_ITS_WAY, VOID } state;
  int64_t sent_at;
};

static long events_wanted, sockets, burst_max, pause_max_us, reopen_every, one_core, watchdog_ms;
static uint64_t seed;
static int fds[2];
static struct target targets[SOCKETS_MAX];
static struct event table[TABLE];
static uint32_t next_number, oldest;
static long hellos, answered, voided, strange, refused, full, in_flight;
static int64_t started, longest;

static int64_t now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

static void fail(const char *reason) {
  fprintf(stderr, "%s: %s\n", reason, strerror(errno));
  exit(1);
}

static uint64_t below(long limit) {
  seed ^= seed << 13;
  seed ^= seed >> 7;
  seed ^= seed << 17;
  return (seed >> 11) % (uint64_t)limit;
}

static void open_sockets(void) {
  struct sockaddr_in inet = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  // Bound to its family alone, the kernel chooses a name: a zero and five digits.
  struct sockaddr_un local = {.sun_family = AF_UNIX};
  socklen_t length = sizeof inet;
  int bytes = RECEIVE_BYTES;
  if ((fds[0] = socket(AF_INET, SOCK_DGRAM, 0)) < 0) fail("socket");
  if ((fds[1] = socket(AF_UNIX, SOCK_DGRAM, 0)) < 0) fail("socket");
  if (setsockopt(fds[0], SOL_SOCKET, SO_RCVBUF, &bytes, sizeof bytes) < 0) fail("SO_RCVBUF");
  if (bind(fds[0], (struct sockaddr *)&inet, sizeof inet) < 0) fail("bind");
  if (bind(fds[1], (struct sockaddr *)&local, sizeof local.sun_family) < 0) fail("bind");
  if (getsockname(fds[0], (struct sockaddr *)&inet, &length) < 0) fail("getsockname");
  length = sizeof local;
  if (getsockname(fds[1], (struct sockaddr *)&local, &length) < 0) fail("getsockname");
  int digits = (int)(length - sizeof local.sun_family - 1);
  printf("{\"udp\":%d,\"unix\":\"%.*s\"}\n", ntohs(inet.sin_port), digits, local.sun_path + 1);
  fflush(stdout);
}

// It stays until it is killed: the answerer may still open a socket that somebody has to be there
// for.
static void report(const struct event *lost, long waiting, int recovered) {
  printf("{\"sent\":%u,\"answered\":%ld,\"voided\":%ld,\"strange\":%ld,\"refused\":%ld,\"full\":%ld,"
         "\"longestMs\":%.3f,\"seconds\":%.3f,\"lost\":",
         next_number, answered, voided, strange, refused, full, (double)longest / 1e6,
         (double)(now() - started) / 1e9);
  if (!lost) printf("null}\n");
  else
    printf("{\"event\":%u,\"socket\":%u,\"waitedMs\":%.0f,\"onTheirWay\":%ld,\"recovered\":%s}}\n",
           lost->number, lost->socket, (double)(now() - lost->sent_at) / 1e6, waiting,
           recovered ? "true" : "false");
  fflush(stdout);
  for (;;) pause();
}

static void take(const struct message *message, int fd, const void *name, socklen_t length) {
  if (message->socket >= sockets) fail("an answer of a socket that there is not");
  struct event *event = &table[message->number % TABLE];
  if (message->is_hello) {
    struct target *target = &targets[message->socket];
    if (target->length == 0) hellos++;
    // One of them comes by the other kind of socket, which may be read first.
    else if (message->number < target->generation) return;
    target->generation = message->number;
    target->fd = fd;
    target->length = length;
    memcpy(&target->address, name, length);
    // The old socket has answered before this hello, or never will: such an answer may still be in
    // the queue of our other socket.
    for (uint32_t number = oldest; number != next_number; number++) {
      event = &table[number % TABLE];
      if (event->state != ON_ITS_WAY || event->socket != message->socket) continue;
      event->state = VOID;
      in_flight--;
      voided++;
    }
  } else if (message->check != ~message->number) {
    fail("an answer has other bytes than the event");
  } else if (event->number != message->number || event->state == DONE) {
    strange++;
  } else {
    int64_t took = now() - event->sent_at;
    if (took > longest) longest = took;
    if (event->state == VOID) voided--;
    else in_flight--;
    event->state = DONE;
    answered++;
  }
}

// Takes what has come. Returns how much that was.
static int drain(void) {
  int taken = 0;
  for (int i = 0; i < 2; i++)
    for (;;) {
      struct message message;
      struct sockaddr_storage name;
      socklen_t length = sizeof name;
      ssize_t bytes = recvfrom(fds[i], &message, sizeof message, MSG_DONTWAIT | MSG_TRUNC,
                               (struct sockaddr *)&name, &length);
      if (bytes < 0 && (errno == EAGAIN || errno == ECONNREFUSED)) break;
      if (bytes < 0) fail("recvfrom");
      errno = EBADMSG;
      if (bytes != sizeof message) fail("an answer is not as long as the event");
      take(&message, fds[i], &name, length);
      taken++;
    }
  return taken;
}

// Returns whether something has come before that time.
static int wait_until(int64_t limit) {
  // Where the other one has a core of its own, it is as likely as not that the answer comes soon.
  int64_t spin_limit = one_core ? 0 : now() + SPIN_NS;
  for (;;) {
    if (drain() > 0) return 1;
    int64_t time_now = now(), left = limit - time_now;
    if (left <= 0) return 0;
    if (time_now < spin_limit) continue;
    struct pollfd polled[2] = {{.fd = fds[0], .events = POLLIN}, {.fd = fds[1], .events = POLLIN}};
    struct timespec time = {left / 1000000000, left % 1000000000};
    if (ppoll(polled, 2, &time, NULL) < 0 && errno != EINTR) fail("ppoll");
  }
}

// 0, or the errno.
static int send_event(uint16_t socket, uint16_t reopen) {
  struct target *target = &targets[socket];
  struct message message = {next_number, socket, reopen, 0, ~next_number};
  struct event *event = &table[next_number % TABLE];
  event->number = next_number;
  event->socket = socket;
  event->sent_at = now();
  ssize_t bytes = sendto(target->fd, &message, sizeof message, MSG_DONTWAIT,
                         (struct sockaddr *)&target->address, target->length);
  if (bytes < 0) return errno;
  event->state = ON_ITS_WAY;
  next_number++;
  in_flight++;
  return 0;
}

// Whether it was another event's ring that was missing, or this socket is deaf.
static int nudge(uint16_t socket) {
  int64_t limit = now() + NUDGE_MS * (int64_t)1000000;
  long before = answered;
  send_event(socket, 0);
  while (answered == before)
    if (!wait_until(limit)) return 0;
  return 1;
}

// Waits for something to come. Every event has the watchdog's time.
static void wait_for_some(void) {
  while (oldest != next_number && table[oldest % TABLE].state != ON_ITS_WAY) oldest++;
  struct event *event = &table[oldest % TABLE];
  int64_t since = oldest == next_number ? now() : event->sent_at;
  if (wait_until(since + watchdog_ms * 1000000)) return;
  // Where none is on its way, it is one that could not be sent, because nobody made room.
  struct event lost = *event;
  long waiting = in_flight;
  report(&lost, waiting, nudge(lost.socket));
}

static void send_one(uint16_t socket) {
  uint16_t reopen = 0;
  if (reopen_every > 0 && below(reopen_every) == 0) reopen = (uint16_t)(1 + below(sockets));
  for (;;) {
    while (next_number - oldest >= TABLE / 2 || in_flight >= FLIGHT_MAX) wait_for_some();
    int error = send_event(socket, reopen);
    if (error == 0) return;
    // Answers make room. Or the socket was closed, and will say hello.
    if (error == EAGAIN) full++;
    else if (error == ECONNREFUSED || error == ENOENT) refused++;
    else {
      errno = error;
      fail("sendto");
    }
    wait_for_some();
  }
}

// Which of the moments that an event can come in: when the other one has just answered, when it
// makes itself ready to sleep, when it sleeps.
static void pause_somehow(void) {
  int64_t ns = pause_max_us > 0 ? (int64_t)below(pause_max_us * 1000) : 0;
  struct timespec time = {0, ns};
  switch (below(4)) {
    case 0: return;
    case 1: sched_yield(); return;
    default:
      if (one_core) nanosleep(&time, NULL);
      else
        for (int64_t end = now() + ns; now() < end;);
  }
}

int main(int count, char **values) {
  if (count != 9) return 2;
  long *numbers[] = {&events_wanted, &sockets, &burst_max, &pause_max_us,
                     &reopen_every,  &one_core, &watchdog_ms};
  for (int i = 0; i < 7; i++) *numbers[i] = atol(values[i + 1]);
  seed = strtoull(values[8], NULL, 10) | 1;
  if (sockets < 1 || sockets > SOCKETS_MAX || burst_max < 1) return 2;
  // A sleep of a microsecond is one.
  if (prctl(PR_SET_TIMERSLACK, 1) < 0 || prctl(PR_SET_PDEATHSIG, SIGKILL) < 0) fail("prctl");
  open_sockets();

  while (hellos < sockets)
    if (!wait_until(now() + (hellos == 0 ? START_MS : watchdog_ms) * 1000000)) {
      const char *meaning = hellos > 0 ? "a wake-up is lost: only " : "";
      fprintf(stderr, "%s%ld of %ld sockets have said hello\n", meaning, hellos, sockets);
      return 1;
    }
  started = now();
  while (answered < events_wanted) {
    uint16_t socket = (uint16_t)below(sockets);
    long burst = 1 + (long)below(burst_max);
    int one_socket = below(2) == 0;
    for (long i = 0; i < burst; i++)
      send_one(one_socket ? socket : (uint16_t)below(sockets));
    // Often until all have answered and there is nothing left to do, sometimes not at all.
    long left = below(4) == 0 ? burst / 2 : 0;
    while (in_flight > left) wait_for_some();
    pause_somehow();
  }
  while (in_flight > 0) wait_for_some();
  report(NULL, 0, 0);
}
