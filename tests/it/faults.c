/* Loaded before the C library: a disk and a clock that fail on demand, and a record of every change to a folder.
 *
 * A seccomp filter turns every system call that changes a file into a signal, whoever makes it: the C library, or a Rust
 * library that calls the kernel itself. The handler injects the fault or makes the call, and writes it to the trace. The
 * filter lets calls with MARK as their sixth argument pass; those are the handler's own.
 *
 * Environment:
 *   TIEBREAK_FAULT        the file that says how to fail, read at every call, one word and its numbers a line
 *   TIEBREAK_FAULT_ROOT   the folder whose changes count; without it that of TIEBREAK_FAULT
 *   TIEBREAK_FAULT_TRACE  the file that records the changes, and what the process writes to its terminal or output
 *
 * The words:
 *   only WORD             counts only in processes whose first argument is WORD
 *   path TEXT             counts only changes with this in their path
 *   sync_delay MS         bringing a session's log to the disk takes this long
 *   sync_error N          the next N such calls fail with EIO
 *   full 1                writing to a session's log fails with ENOSPC
 *   disk_full 1           every write and every new file fails with ENOSPC
 *   clock MS              the wall clock is off by this much
 *   fail K ERRNO          the K-th change of the process, counted from 1, fails once with this error
 *   fail_from K ERRNO     this change and every later one fails
 *   short K 1             the K-th change, if it is a write, writes half of its bytes
 *   delay K MS            the K-th change takes this long
 *   kill K 1              the process is killed in place of its K-th change
 *   kill_after K 1        the process is killed after its K-th change
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

/* A change that is not counted. */
#define UNCOUNTED (-2)
#define MARK 0x7165627265616b21L
#define CALL(nr, a, b, c, d, e) syscall(nr, (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), MARK)

#if defined(__x86_64__)
#define ARCHITECTURE AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define ARCHITECTURE AUDIT_ARCH_AARCH64
#else
#error "the fault library knows x86-64 and 64-bit ARM"
#endif

/* What a call does to the folder. The trace holds these letters. */
enum { OPEN = 'o', WRITE = 'w', SYNC = 's', CUT = 't', RENAME = 'r', EXCHANGE = 'x', UNLINK = 'u', RMDIR = 'd',
       MKDIR = 'm', LINK = 'l', SYMLINK = 'y', SHOWN = 'p', STRUCK = '!',
       OTHER = '?' };

static char root[4096], control[4096];
static size_t root_len;
static int trace = -1;
static long changes, failed_syncs;
static int held;
static char second[256];

/* ------------------------------------------------------------------------------------------------ the control file */

/* The number after `word`, and after `word K` where K is given. */
static long told_at(const char *text, const char *word, long k) {
    char line[96];
    if (k == UNCOUNTED) return 0;
    if (k < 0) snprintf(line, sizeof line, "%s ", word);
    else snprintf(line, sizeof line, "%s %ld ", word, k);
    const char *at = text;
    while ((at = strstr(at, line))) {
        if (at == text || at[-1] == '\n') return atol(at + strlen(line));
        at++;
    }
    return 0;
}

static void read_control(char *text, size_t size) {
    text[0] = 0;
    if (!control[0]) return;
    int fd = (int)CALL(SYS_openat, AT_FDCWD, control, O_RDONLY | O_CLOEXEC, 0, 0);
    if (fd < 0) return;
    ssize_t n = read(fd, text, size - 1);
    close(fd);
    text[n > 0 ? n : 0] = 0;
    const char *only = strstr(text, "only ");
    if (only && (only == text || only[-1] == '\n')) {
        size_t len = strcspn(only + 5, "\n");
        if (len != strlen(second) || strncmp(only + 5, second, len)) text[0] = 0;
    }
}

static void pause_ms(long ms) {
    struct timespec t = {ms / 1000, ms % 1000 * 1000000};
    while (nanosleep(&t, &t) && errno == EINTR) {}
}

/* ------------------------------------------------------------------------------------------------------- the paths */

static int in_root(const char *path) {
    return root_len && !strncmp(path, root, root_len) && (path[root_len] == '/' || !path[root_len]);
}

static int path_of_fd(int fd, char *path, size_t size) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, size - 1);
    path[n > 0 ? n : 0] = 0;
    return n > 0;
}

/* The absolute path of `name` seen from the folder `dir`. */
static void path_of(int dir, const char *name, char *path, size_t size) {
    if (name[0] == '/') {
        snprintf(path, size, "%s", name);
        return;
    }
    char from[4096];
    if (dir == AT_FDCWD) {
        if (!getcwd(from, sizeof from)) from[0] = 0;
    } else path_of_fd(dir, from, sizeof from);
    snprintf(path, size, "%s/%s", from, name);
}

/* ------------------------------------------------------------------------------------------------------- the trace */

/* One change: a header, the two paths and the bytes. All numbers little-endian, as these machines have them. */
struct change {
    uint32_t op, pid, path_len, other_len;
    uint64_t inode, offset, data_len;
};

static void put(int fd, const void *bytes, size_t n) {
    const char *at = bytes;
    while (n) {
        ssize_t put = CALL(SYS_write, fd, at, n, 0, 0);
        if (put <= 0) _exit(97);
        at += put;
        n -= (size_t)put;
    }
}

static void record(int op, const char *path, const char *other, uint64_t inode, uint64_t offset, const void *data,
                   size_t n) {
    if (trace < 0) return;
    struct change c = {(uint32_t)op, (uint32_t)getpid(), (uint32_t)strlen(path), (uint32_t)strlen(other), inode, offset, n};
    put(trace, &c, sizeof c);
    put(trace, path, c.path_len);
    put(trace, other, c.other_len);
    if (n) put(trace, data, n);
}

static void lock(void) {
    while (__atomic_exchange_n(&held, 1, __ATOMIC_ACQUIRE)) pause_ms(0);
    if (trace >= 0) while (flock(trace, LOCK_EX) && errno == EINTR) {}
}

static void unlock(void) {
    if (trace >= 0) flock(trace, LOCK_UN);
    __atomic_store_n(&held, 0, __ATOMIC_RELEASE);
}

static uint64_t inode_of(int fd, mode_t *mode) {
    struct stat s;
    if (fstat(fd, &s)) return 0;
    if (mode) *mode = s.st_mode;
    return s.st_ino;
}

static uint64_t inode_at(const char *path) {
    struct stat s;
    return lstat(path, &s) ? 0 : s.st_ino;
}

/* ------------------------------------------------------------------------------------------------------- the calls */

static long result(long rc) { return rc == -1 ? -errno : rc; }

/* The change that a call is about to make, and the paths it names; 0 when it makes none that counts. */
static int change_of(long nr, const long *a, char *path, char *other, int *fd) {
    *fd = -1;
    path[0] = other[0] = 0;
    switch (nr) {
#ifdef SYS_open
    case SYS_open: path_of(AT_FDCWD, (const char *)a[0], path, 4096); return OPEN;
    case SYS_creat: path_of(AT_FDCWD, (const char *)a[0], path, 4096); return OPEN;
    case SYS_rename:
        path_of(AT_FDCWD, (const char *)a[0], path, 4096);
        path_of(AT_FDCWD, (const char *)a[1], other, 4096);
        return RENAME;
    case SYS_unlink: path_of(AT_FDCWD, (const char *)a[0], path, 4096); return UNLINK;
    case SYS_rmdir: path_of(AT_FDCWD, (const char *)a[0], path, 4096); return RMDIR;
    case SYS_mkdir: path_of(AT_FDCWD, (const char *)a[0], path, 4096); return MKDIR;
    case SYS_link:
        path_of(AT_FDCWD, (const char *)a[0], path, 4096);
        path_of(AT_FDCWD, (const char *)a[1], other, 4096);
        return LINK;
    case SYS_symlink:
        snprintf(other, 4096, "%s", (const char *)a[0]);
        path_of(AT_FDCWD, (const char *)a[1], path, 4096);
        return SYMLINK;
#endif
    case SYS_openat: path_of((int)a[0], (const char *)a[1], path, 4096); return OPEN;
    case SYS_renameat:
    case SYS_renameat2:
        path_of((int)a[0], (const char *)a[1], path, 4096);
        path_of((int)a[2], (const char *)a[3], other, 4096);
        return nr == SYS_renameat2 && (a[4] & 2) ? EXCHANGE : RENAME;
    case SYS_unlinkat:
        path_of((int)a[0], (const char *)a[1], path, 4096);
        return a[2] & AT_REMOVEDIR ? RMDIR : UNLINK;
    case SYS_mkdirat: path_of((int)a[0], (const char *)a[1], path, 4096); return MKDIR;
    case SYS_linkat:
        path_of((int)a[0], (const char *)a[1], path, 4096);
        path_of((int)a[2], (const char *)a[3], other, 4096);
        return LINK;
    case SYS_symlinkat:
        snprintf(other, 4096, "%s", (const char *)a[0]);
        path_of((int)a[1], (const char *)a[2], path, 4096);
        return SYMLINK;
    case SYS_truncate: path_of(AT_FDCWD, (const char *)a[0], path, 4096); return CUT;
    default: break;
    }
    *fd = (int)a[0];
    path_of_fd(*fd, path, 4096);
    switch (nr) {
    case SYS_write:
    case SYS_writev:
    case SYS_pwrite64: return WRITE;
    case SYS_fsync:
    case SYS_fdatasync: return SYNC;
    case SYS_ftruncate: return CUT;
    default: return OTHER;
    }
}

static int is_shown(int fd, const char *path) {
    return trace >= 0 && fd >= 0 && (!strncmp(path, "/dev/pts/", 9) || (fd == 1 && !strncmp(path, "pipe:", 5)));
}

/* How many bytes a write was asked to write. */
static uint64_t asked(long nr, const long *a) {
    if (nr != SYS_writev) return (uint64_t)a[2];
    const struct iovec *part = (const struct iovec *)a[1];
    uint64_t n = 0;
    for (long i = 0; i < a[2]; i++) n += part[i].iov_len;
    return n;
}

/* Records the bytes of a write that has happened. What is shown has, as its place, the bytes that are still to come. */
static void record_write(int op, long nr, const long *a, int fd, const char *path, long written) {
    uint64_t offset = asked(nr, a) - (uint64_t)written;
    if (op == WRITE) {
        if (nr == SYS_pwrite64) offset = (uint64_t)a[3];
        else offset = (uint64_t)lseek(fd, 0, SEEK_CUR) - (uint64_t)written;
    }
    uint64_t inode = inode_of(fd, NULL);
    if (nr != SYS_writev) {
        record(op, path, "", inode, offset, (const void *)a[1], (size_t)written);
        return;
    }
    const struct iovec *part = (const struct iovec *)a[1];
    for (size_t left = (size_t)written; left; part++) {
        size_t n = part->iov_len < left ? part->iov_len : left;
        if (n) record(op, path, "", inode, offset, part->iov_base, n);
        offset += n;
        left -= n;
    }
}

static long call(long nr, const long *a) { return result(CALL(nr, a[0], a[1], a[2], a[3], a[4])); }

static long handled(long nr, const long *a) {
    char path[4096], other[4096], text[1024];
    int fd;
#ifdef SYS_copy_file_range
    /* The caller then reads and writes, which the trace can follow. */
    if (nr == SYS_copy_file_range || nr == SYS_sendfile) return -ENOSYS;
#endif
    int op = change_of(nr, a, path, other, &fd);
    if (op == WRITE && is_shown(fd, path)) {
        lock();
        long rc = call(nr, a);
        if (rc > 0) record_write(SHOWN, nr, a, fd, path, rc);
        unlock();
        return rc;
    }
    if (!in_root(path) || !strcmp(path, control)) return call(nr, a);
    read_control(text, sizeof text);
    if (strstr(path, "/events/")) {
        if (op == SYNC) {
            long ms = told_at(text, "sync_delay", -1), errors = told_at(text, "sync_error", -1);
            if (ms > 0) pause_ms(ms);
            if (!errors) failed_syncs = 0;
            if (failed_syncs < errors) {
                failed_syncs++;
                return -EIO;
            }
        }
        if (op == WRITE && told_at(text, "full", -1)) return -ENOSPC;
    }
    const char *only = strstr(text, "path ");
    char part[256] = {0};
    if (only && (only == text || only[-1] == '\n')) {
        size_t len = strcspn(only + 5, "\n");
        memcpy(part, only + 5, len < sizeof part ? len : sizeof part - 1);
    }
    int grows = op == WRITE || op == MKDIR || (op == OPEN && ((nr == SYS_openat ? a[2] : a[1]) & O_CREAT));
    if (grows && told_at(text, "disk_full", -1)) return -ENOSPC;
    lock();
    long rc, k = !part[0] || strstr(path, part) || strstr(other, part) ? ++changes : UNCOUNTED;
    const char *from = strstr(text, "fail_from ");
    long error = told_at(text, "fail", k), ms = told_at(text, "delay", k);
    if (from && k > 0 && k >= atol(from + 10)) {
        const char *space = strchr(from + 10, ' ');
        error = space ? atol(space) : EIO;
    }
    int short_write = op == WRITE && told_at(text, "short", k);
    if (error || ms > 0 || short_write || told_at(text, "kill", k) || told_at(text, "kill_after", k)) {
        char letter = (char)op;
        record(STRUCK, path, "", 0, (uint64_t)k, &letter, 1);
    }
    if (ms > 0) pause_ms(ms);
    if (told_at(text, "kill", k)) kill(getpid(), SIGKILL);
    if (error) {
        unlock();
        return -error;
    }
    long changed[6];
    memcpy(changed, a, sizeof changed);
    if (short_write) {
        if (nr == SYS_writev) {
            const struct iovec *part = (const struct iovec *)a[1];
            nr = SYS_write;
            changed[1] = (long)part->iov_base;
            changed[2] = (long)part->iov_len;
        }
        changed[2] = changed[2] > 1 ? changed[2] / 2 : changed[2];
    }
    uint64_t before = 0, replaced = 0;
    if (op == OPEN || op == UNLINK || op == RMDIR || op == RENAME || op == EXCHANGE || op == LINK || op == CUT)
        before = inode_at(path);
    if (op == OPEN || op == EXCHANGE) replaced = inode_at(op == OPEN ? path : other);
    rc = call(nr, changed);
    if (rc >= 0) switch (op) {
        case OPEN: {
            mode_t mode = 0;
            uint64_t inode = inode_of((int)rc, &mode);
            long flags = nr == SYS_openat ? a[2] : a[1];
            if ((flags & O_TMPFILE) == O_TMPFILE) break;
            if (S_ISREG(mode) && inode != before) record(OPEN, path, "", inode, 0, "", 0);
            else if (S_ISREG(mode) && (flags & O_TRUNC)) record(CUT, path, "", inode, 0, "", 0);
            break;
        }
        case WRITE:
            if (rc > 0) record_write(WRITE, nr, changed, fd, path, rc);
            break;
        case SYNC: record(SYNC, path, "", inode_of(fd, NULL), 0, "", 0); break;
        case CUT: record(CUT, path, "", fd < 0 ? before : inode_of(fd, NULL), (uint64_t)a[1], "", 0); break;
        case MKDIR: record(MKDIR, path, "", inode_at(path), 0, "", 0); break;
        case SYMLINK: record(SYMLINK, path, other, inode_at(path), 0, "", 0); break;
        default: record(op, path, other, before, replaced, "", 0);
    }
    if (told_at(text, "kill_after", k)) kill(getpid(), SIGKILL);
    unlock();
    return rc;
}

static void on_call(int signal, siginfo_t *info, void *context) {
    (void)signal;
    int saved = errno;
    ucontext_t *u = context;
#if defined(__x86_64__)
    greg_t *r = u->uc_mcontext.gregs;
    long a[6] = {r[REG_RDI], r[REG_RSI], r[REG_RDX], r[REG_R10], r[REG_R8], r[REG_R9]};
    r[REG_RAX] = handled(info->si_syscall, a);
#else
    unsigned long long *r = u->uc_mcontext.regs;
    long a[6] = {r[0], r[1], r[2], r[3], r[4], r[5]};
    r[0] = (unsigned long long)handled(info->si_syscall, a);
#endif
    errno = saved;
}

/* The wall clock is read without a system call. */
int clock_gettime(clockid_t clock, struct timespec *t) {
    int rc = (int)syscall(SYS_clock_gettime, clock, t);
    if (clock == CLOCK_REALTIME && control[0]) {
        char text[1024];
        read_control(text, sizeof text);
        t->tv_sec += told_at(text, "clock", -1) / 1000;
    }
    return rc;
}

#define LOAD(what) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, what))
#define TRAP(nr) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, nr, 0, 1), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP)
#define PASS BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)
/* An open that may change something. */
#define TRAP_OPEN(nr, at)                                                                        \
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, nr, 0, 4), LOAD(args[at]),                               \
    BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, O_WRONLY | O_RDWR | O_CREAT | O_TRUNC, 0, 1),           \
    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP), PASS

__attribute__((constructor)) static void begin(void) {
    const char *file = getenv("TIEBREAK_FAULT"), *folder = getenv("TIEBREAK_FAULT_ROOT");
    const char *to = getenv("TIEBREAK_FAULT_TRACE");
    if (!file && !folder && !to) return;
    if (file) snprintf(control, sizeof control, "%s", file);
    if (folder) snprintf(root, sizeof root, "%s", folder);
    else {
        snprintf(root, sizeof root, "%s", control);
        char *slash = strrchr(root, '/');
        if (slash) *slash = 0;
    }
    root_len = strlen(root);
    /* First of all: the filter of a parent process is in force already. */
    struct sigaction action = {.sa_sigaction = on_call, .sa_flags = SA_SIGINFO | SA_NODEFER | SA_RESTART};
    sigaction(SIGSYS, &action, NULL);
    int fd = open("/proc/self/cmdline", O_RDONLY | O_CLOEXEC);
    if (fd >= 0) {
        char line[512] = {0};
        ssize_t n = read(fd, line, sizeof line - 2);
        close(fd);
        size_t first = n > 0 ? strlen(line) + 1 : 0;
        if (first && (ssize_t)first < n) snprintf(second, sizeof second, "%s", line + first);
    }
    if (to) {
        /* Out of the way of the numbers that a program expects. */
        int low = (int)CALL(SYS_openat, AT_FDCWD, to, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600, 0);
        trace = fcntl(low, F_DUPFD_CLOEXEC, 900);
        close(low);
        if (trace < 0) _exit(98);
    }
    struct sock_filter filter[] = {
        LOAD(arch),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ARCHITECTURE, 1, 0),
        PASS,
        LOAD(args[5]),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)MARK, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[5]) + 4),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)((uint64_t)MARK >> 32), 0, 1),
        PASS,
        LOAD(nr),
        TRAP(SYS_write), TRAP(SYS_writev), TRAP(SYS_pwrite64), TRAP(SYS_pwritev), TRAP(SYS_fsync),
        TRAP(SYS_fdatasync), TRAP(SYS_ftruncate), TRAP(SYS_truncate), TRAP(SYS_fallocate), TRAP(SYS_renameat),
        TRAP(SYS_renameat2), TRAP(SYS_unlinkat), TRAP(SYS_mkdirat), TRAP(SYS_linkat), TRAP(SYS_symlinkat),
        TRAP(SYS_sendfile),
#ifdef SYS_copy_file_range
        TRAP(SYS_copy_file_range),
#endif
#ifdef SYS_open
        TRAP(SYS_rename), TRAP(SYS_unlink), TRAP(SYS_rmdir), TRAP(SYS_mkdir), TRAP(SYS_link), TRAP(SYS_symlink),
        TRAP(SYS_creat),
        TRAP_OPEN(SYS_open, 1),
#endif
        TRAP_OPEN(SYS_openat, 2),
        PASS,
    };
    struct sock_fprog program = {sizeof filter / sizeof filter[0], filter};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program)) {
        static const char sorry[] = "the fault library needs seccomp, which this system refuses\n";
        if (write(2, sorry, sizeof sorry - 1) < 0) _exit(99);
        _exit(99);
    }
}
