/* Preloaded into a process, the day is as many seconds ahead as CLOCK_AHEAD_S says; the clock that never goes back is as it is.
   For tests of what takes a day (tests/it/recovery_cli.rs). */
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int clock_gettime(clockid_t clock, struct timespec *at) {
  long done = syscall(SYS_clock_gettime, clock, at);
  const char *ahead = getenv("CLOCK_AHEAD_S");
  if (done == 0 && clock == CLOCK_REALTIME && ahead != NULL) at->tv_sec += atol(ahead);
  return (int)done;
}
