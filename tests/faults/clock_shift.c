/* Shifts the wall clock of a process, as a clock that is set does: loaded by LD_PRELOAD, driven by the two cells
 * at the beginning of the process's switches. Monotonic clocks go on. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static const int64_t BILLION = 1000000000;
static volatile int64_t *cells; /* the shift in nanoseconds, and how often a shifted clock was read */
static int (*real_gettime)(clockid_t, struct timespec *);

/* Called by the process once it knows its file. Returns 0 if that could be opened. */
int lares_clock_shift(const char *path) {
    int file = open(path, O_RDWR | O_CLOEXEC);
    if (file < 0) return -1;
    void *mapped = mmap(0, 2 * sizeof(int64_t), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    if (mapped == MAP_FAILED) return -1;
    cells = mapped;
    return 0;
}

int clock_gettime(clockid_t id, struct timespec *now) {
    if (!real_gettime) real_gettime = dlsym(RTLD_NEXT, "clock_gettime");
    int result = real_gettime(id, now);
    if (!cells || result || (id != CLOCK_REALTIME && id != CLOCK_REALTIME_COARSE)) return result;
    int64_t shift = cells[0];
    if (shift) {
        int64_t at = now->tv_sec * BILLION + now->tv_nsec + shift;
        now->tv_sec = at / BILLION;
        now->tv_nsec = at % BILLION;
        cells[1]++;
    }
    return result;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    (void)zone;
    struct timespec at;
    int result = clock_gettime(CLOCK_REALTIME, &at);
    now->tv_sec = at.tv_sec;
    now->tv_usec = at.tv_nsec / 1000;
    return result;
}

time_t time(time_t *out) {
    struct timespec at;
    clock_gettime(CLOCK_REALTIME, &at);
    if (out) *out = at.tv_sec;
    return at.tv_sec;
}
