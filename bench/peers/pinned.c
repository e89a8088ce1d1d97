// pinned CORE COMMAND…: runs a program on one core of those that this process may use, counted from
// 0, or from the end with -1. The program ends with its parent even while it is stopped, which
// nothing that it could do itself would bring about.
#define _GNU_SOURCE
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <unistd.h>

int main(int count, char **values) {
  if (count < 3) return 2;
  cpu_set_t allowed, one;
  if (sched_getaffinity(0, sizeof allowed, &allowed) < 0) return perror("sched_getaffinity"), 1;
  int index = atoi(values[1]);
  if (index < 0) index += CPU_COUNT(&allowed);
  CPU_ZERO(&one);
  for (int core = 0; core < CPU_SETSIZE; core++)
    if (CPU_ISSET(core, &allowed) && index-- == 0) CPU_SET(core, &one);
  if (sched_setaffinity(0, sizeof one, &one) < 0) return perror("sched_setaffinity"), 1;
  if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0) return perror("prctl"), 1;
  execvp(values[2], values + 2);
  return perror(values[2]), 1;
}
