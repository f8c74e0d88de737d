/* Storage that fails, for LD_PRELOAD. From its FAULT_AFTER-th call on, FAULT_CALL (write, pwrite, fsync or rename) on a
   path that ends in FAULT_PATH fails with the number FAULT_ERROR; with 0 it moves half of the bytes it is given. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

static int fails(const char *call, const char *path) {
    static atomic_int calls;
    const char *wanted = getenv("FAULT_CALL"), *end = getenv("FAULT_PATH"), *after = getenv("FAULT_AFTER");
    if (!wanted || !end || !after || strcmp(wanted, call)) return 0;
    if (strlen(path) < strlen(end) || strcmp(path + strlen(path) - strlen(end), end)) return 0;
    return atomic_fetch_add(&calls, 1) + 1 >= atoi(after);
}

static int fails_on(const char *call, int fd) {
    if (!getenv("FAULT_CALL")) return 0;  /* what follows is not allowed in the sandbox of sshd */
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    path[length < 0 ? 0 : length] = 0;
    return fails(call, path);
}

static int error_number(void) { return atoi(getenv("FAULT_ERROR")); }

ssize_t write(int fd, const void *data, size_t count) {
    ssize_t (*real)(int, const void *, size_t) = dlsym(RTLD_NEXT, "write");
    if (!fails_on("write", fd)) return real(fd, data, count);
    if (!(errno = error_number())) return real(fd, data, count / 2 + 1);
    return -1;
}

ssize_t pwrite64(int fd, const void *data, size_t count, off64_t position) {
    ssize_t (*real)(int, const void *, size_t, off64_t) = dlsym(RTLD_NEXT, "pwrite64");
    if (!fails_on("pwrite", fd)) return real(fd, data, count, position);
    if (!(errno = error_number())) return real(fd, data, count / 2 + 1, position);
    return -1;
}

int fsync(int fd) {
    int (*real)(int) = dlsym(RTLD_NEXT, "fsync");
    if (!fails_on("fsync", fd)) return real(fd);
    errno = error_number();
    return -1;
}

int rename(const char *from, const char *to) {
    int (*real)(const char *, const char *) = dlsym(RTLD_NEXT, "rename");
    if (!fails("rename", to)) return real(from, to);
    errno = error_number();
    return -1;
}
