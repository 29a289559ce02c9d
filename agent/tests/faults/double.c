/* A disk and a clock that fail as the test says: preloaded into the agent. The test writes into the mapped file. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

struct control {
    volatile int64_t clock_ns;    /* added to the wall's clock */
    volatile int64_t delay_us;    /* before each write into a segment */
    volatile int64_t write_errno; /* instead of each write into a segment */
};

static struct control *control(void)
{
    static struct control *mapped;
    if (!mapped) {
        const char *path = getenv("WIRETAPE_TEST_DOUBLE");
        int file = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
        void *at = file < 0 ? MAP_FAILED
                            : mmap(NULL, sizeof(struct control), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
        static struct control nothing;
        mapped = at == MAP_FAILED ? &nothing : at;
        if (file >= 0)
            close(file);
    }
    return mapped;
}

static int is_segment(int file)
{
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0)
        return 0;
    path[length] = 0;
    return strstr(path, ".pcapng") != NULL;
}

ssize_t write(int file, const void *bytes, size_t length)
{
    static ssize_t (*real)(int, const void *, size_t);
    if (!real)
        real = (ssize_t (*)(int, const void *, size_t))dlsym(RTLD_NEXT, "write");
    struct control *is = control();
    if ((is->delay_us || is->write_errno) && is_segment(file)) {
        if (is->delay_us)
            usleep((useconds_t)is->delay_us);
        if (is->write_errno) {
            errno = (int)is->write_errno;
            return -1;
        }
    }
    return real(file, bytes, length);
}

ssize_t pwrite64(int file, const void *bytes, size_t length, off64_t at)
{
    static ssize_t (*real)(int, const void *, size_t, off64_t);
    if (!real)
        real = (ssize_t (*)(int, const void *, size_t, off64_t))dlsym(RTLD_NEXT, "pwrite64");
    struct control *is = control();
    if ((is->delay_us || is->write_errno) && is_segment(file)) {
        if (is->delay_us)
            usleep((useconds_t)is->delay_us);
        if (is->write_errno) {
            errno = (int)is->write_errno;
            return -1;
        }
    }
    return real(file, bytes, length, at);
}

int clock_gettime(clockid_t clock, struct timespec *time)
{
    static int (*real)(clockid_t, struct timespec *);
    if (!real)
        real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int outcome = real(clock, time);
    if (outcome == 0 && clock == CLOCK_REALTIME) {
        int64_t now = (int64_t)time->tv_sec * 1000000000 + time->tv_nsec + control()->clock_ns;
        time->tv_sec = now / 1000000000;
        time->tv_nsec = now % 1000000000;
    }
    return outcome;
}
