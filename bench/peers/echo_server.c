// echo_server single|spin|batch: sends every datagram back to whoever sent it; echo_server stream
// PATH does so with what comes on a Unix stream, one connection after another. One byte alone asks what the server has used until now, and the answer is a line of JSON.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { SLOTS = 64, SLOT = 2048 };

static int64_t nanoseconds(struct timeval time) {
  return (int64_t)time.tv_sec * 1000000000 + (int64_t)time.tv_usec * 1000;
}

static void answer_mark(int fd, const struct sockaddr *to, socklen_t to_length) {
  struct rusage used;
  char text[128];
  getrusage(RUSAGE_SELF, &used);
  long long cpu_ns = nanoseconds(used.ru_utime) + nanoseconds(used.ru_stime);
  int length = snprintf(text, sizeof text, "{\"cpu_ns\":%lld,\"wakeups\":%ld}", cpu_ns, used.ru_nvcsw);
  sendto(fd, text, (size_t)length, 0, to, to_length);
}

// One datagram a call. With MSG_DONTWAIT it asks again and again, and never sleeps.
static void serve_single(int fd, int flags) {
  static unsigned char buffer[SLOT];
  for (;;) {
    struct sockaddr_storage from;
    socklen_t from_length = sizeof from;
    ssize_t length = recvfrom(fd, buffer, SLOT, flags, (struct sockaddr *)&from, &from_length);
    if (length < 0) continue;
    if (length == 1) answer_mark(fd, (struct sockaddr *)&from, from_length);
    else sendto(fd, buffer, (size_t)length, MSG_NOSIGNAL, (struct sockaddr *)&from, from_length);
  }
}

// What has come in one call and back in another, after a wait in poll: the calls of an event loop.
static void serve_batch(int fd) {
  static struct mmsghdr slots[SLOTS];
  static struct iovec vectors[SLOTS];
  static struct sockaddr_storage names[SLOTS];
  static unsigned char payloads[SLOTS][SLOT];
  for (int i = 0; i < SLOTS; i++) {
    slots[i].msg_hdr.msg_iov = &vectors[i];
    slots[i].msg_hdr.msg_iovlen = 1;
    slots[i].msg_hdr.msg_name = &names[i];
    vectors[i].iov_base = payloads[i];
  }
  for (;;) {
    struct pollfd wanted = {fd, POLLIN, 0};
    if (poll(&wanted, 1, -1) <= 0) continue;
    for (int i = 0; i < SLOTS; i++) {
      vectors[i].iov_len = SLOT;
      slots[i].msg_hdr.msg_namelen = sizeof names[i];
    }
    int count = recvmmsg(fd, slots, SLOTS, MSG_DONTWAIT | MSG_TRUNC, NULL);
    if (count <= 0) continue;
    // The client asks only when nothing else is on its way.
    if (slots[0].msg_len == 1) {
      answer_mark(fd, slots[0].msg_hdr.msg_name, slots[0].msg_hdr.msg_namelen);
      continue;
    }
    for (int i = 0; i < count; i++) {
      uint32_t length = slots[i].msg_len;
      vectors[i].iov_len = length < SLOT ? length : SLOT;
    }
    int sent = 0;
    while (sent < count) {
      int more = sendmmsg(fd, slots + sent, (unsigned)(count - sent), MSG_DONTWAIT | MSG_NOSIGNAL);
      if (more <= 0) break;
      sent += more;
    }
  }
}

static int serve_streams(const char *path) {
  static unsigned char buffer[SLOT];
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  strncpy(address.sun_path, path, sizeof address.sun_path - 1);
  int listener = socket(AF_UNIX, SOCK_STREAM, 0);
  if (bind(listener, (struct sockaddr *)&address, sizeof address) < 0) return perror("bind"), 1;
  if (listen(listener, 8) < 0) return perror("listen"), 1;
  printf("{\"path\":\"%s\"}\n", path);
  fflush(stdout);
  for (;;) {
    int fd = accept(listener, NULL, NULL);
    if (fd < 0) return perror("accept"), 1;
    ssize_t length;
    while ((length = recv(fd, buffer, SLOT, 0)) > 0) {
      if (length == 1) answer_mark(fd, NULL, 0);
      else send(fd, buffer, (size_t)length, MSG_NOSIGNAL);
    }
    close(fd);
  }
}

int main(int count, char **values) {
  const char *form = count > 1 ? values[1] : "";
  if (count > 2 && strcmp(form, "stream") == 0) return serve_streams(values[2]);
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t length = sizeof address;
  int fd = socket(AF_INET, SOCK_DGRAM, 0);
  if (fd < 0 || bind(fd, (struct sockaddr *)&address, length) < 0) return perror("bind"), 1;
  getsockname(fd, (struct sockaddr *)&address, &length);
  printf("{\"port\":%d}\n", ntohs(address.sin_port));
  fflush(stdout);
  if (strcmp(form, "single") == 0) serve_single(fd, 0);
  if (strcmp(form, "spin") == 0) serve_single(fd, MSG_DONTWAIT);
  if (strcmp(form, "batch") == 0) serve_batch(fd);
  return 2;
}
