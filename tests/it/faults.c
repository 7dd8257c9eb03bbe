/* Loaded before the C library: a disk and a clock that fail on demand.
 *
 * The file named by TIEBREAK_FAULT says how, one word and a number a line:
 *   sync_delay MS    bringing a session's log to the disk takes this long
 *   sync_error N     the next N such calls fail with EIO
 *   full 1           writing to a session's log fails with ENOSPC
 *   clock MS         the wall clock is off by this much
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static long told(const char *word) {
    const char *path = getenv("TIEBREAK_FAULT");
    char text[512] = {0}, line[64];
    if (!path) return 0;
    int fd = (int)syscall(SYS_openat, AT_FDCWD, path, O_RDONLY, 0);
    if (fd < 0) return 0;
    ssize_t n = syscall(SYS_read, fd, text, sizeof text - 1);
    syscall(SYS_close, fd);
    if (n <= 0) return 0;
    snprintf(line, sizeof line, "%s ", word);
    char *at = strstr(text, line);
    return at ? atol(at + strlen(line)) : 0;
}

static int is_log(int fd) {
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path - 1);
    if (n <= 0) return 0;
    path[n] = 0;
    return strstr(path, "/events/") != NULL;
}

static int faulty_sync(int fd, const char *name) {
    static int failed = 0;
    int (*real)(int) = dlsym(RTLD_NEXT, name);
    if (is_log(fd)) {
        long ms = told("sync_delay"), errors = told("sync_error");
        if (ms > 0) {
            struct timespec t = {ms / 1000, ms % 1000 * 1000000};
            nanosleep(&t, NULL);
        }
        if (errors == 0) failed = 0;
        if (failed < errors) {
            failed++;
            errno = EIO;
            return -1;
        }
    }
    return real(fd);
}

int fsync(int fd) { return faulty_sync(fd, "fsync"); }
int fdatasync(int fd) { return faulty_sync(fd, "fdatasync"); }

ssize_t write(int fd, const void *bytes, size_t n) {
    ssize_t (*real)(int, const void *, size_t) = dlsym(RTLD_NEXT, "write");
    if (is_log(fd) && told("full")) {
        errno = ENOSPC;
        return -1;
    }
    return real(fd, bytes, n);
}

int clock_gettime(clockid_t clock, struct timespec *t) {
    int rc = (int)syscall(SYS_clock_gettime, clock, t);
    if (clock == CLOCK_REALTIME) t->tv_sec += told("clock") / 1000;
    return rc;
}
