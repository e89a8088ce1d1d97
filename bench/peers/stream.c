// stream receive: takes one connection after another, reads each to its end, checks it, answers with
// one byte, and prints what it was. stream send PORT BYTES: for each count on its standard input
// sends that many bytes over a connection of its own, BYTES in a call, and prints what it took.
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { ROOM = 256 << 10, PERIOD = 1024 };

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

// What stands at an offset of the stream.
static unsigned char byte_at(int64_t offset) {
  return (unsigned char)(offset % PERIOD * 7);
}

static void receive_all(int listener) {
  static unsigned char buffer[ROOM];
  int fd = accept(listener, NULL, NULL);
  if (fd < 0) fail("accept");
  int64_t start = cpu_time(), bytes = 0;
  long wrong = 0, calls = 0;
  ssize_t length;
  while ((length = recv(fd, buffer, sizeof buffer, 0)) > 0) {
    wrong += buffer[0] != byte_at(bytes);
    bytes += length;
    wrong += buffer[length - 1] != byte_at(bytes - 1);
    calls++;
  }
  if (length < 0) fail("recv");
  int64_t end = cpu_time();
  printf("{\"bytes\":%lld,\"wrong\":%ld,\"calls\":%ld,\"cpu_ns\":%lld}\n", (long long)bytes, wrong,
         calls, (long long)(end - start));
  fflush(stdout);
  if (send(fd, "", 1, MSG_NOSIGNAL) < 0) fail("send");
  close(fd);
}

static void send_all(int port, size_t size, int64_t count) {
  static unsigned char buffer[ROOM];
  for (size_t i = 0; i < size; i++) buffer[i] = byte_at((int64_t)i);
  struct sockaddr_in server = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
  server.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  int fd = socket(AF_INET, SOCK_STREAM, 0);
  if (connect(fd, (struct sockaddr *)&server, sizeof server) < 0) fail("connect");
  int64_t start_cpu = cpu_time(), start = now();
  for (int64_t sent = 0; sent < count; sent += (int64_t)size)
    for (size_t done = 0; done < size;) {
      ssize_t more = send(fd, buffer + done, size - done, MSG_NOSIGNAL);
      if (more < 0) fail("send");
      done += (size_t)more;
    }
  shutdown(fd, SHUT_WR);
  // When all of it has been read.
  char answer;
  if (recv(fd, &answer, 1, 0) != 1) fail("recv");
  int64_t end = now(), end_cpu = cpu_time();
  close(fd);
  printf("{\"ns\":%lld,\"cpu_ns\":%lld}\n", (long long)(end - start),
         (long long)(end_cpu - start_cpu));
  fflush(stdout);
}

int main(int values, char **value) {
  if (values == 4 && strcmp(value[1], "send") == 0) {
    size_t size = (size_t)atol(value[3]);
    if (size == 0 || size > ROOM) return 2;
    for (long long count; scanf("%lld", &count) == 1;) send_all(atoi(value[2]), size, count);
    return 0;
  }
  if (values != 2 || strcmp(value[1], "receive") != 0) return 2;
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t length = sizeof address;
  int listener = socket(AF_INET, SOCK_STREAM, 0);
  if (bind(listener, (struct sockaddr *)&address, length) < 0) fail("bind");
  if (listen(listener, 8) < 0) fail("listen");
  getsockname(listener, (struct sockaddr *)&address, &length);
  printf("{\"port\":%d}\n", ntohs(address.sin_port));
  fflush(stdout);
  for (;;) receive_all(listener);
}
