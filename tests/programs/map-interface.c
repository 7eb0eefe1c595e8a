/* Claim: mremap, madvise, mincore, mlock and the flags of mmap do what their manual pages say, errno by errno; and space that is
 * only held costs nothing. */
#define _GNU_SOURCE
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "check.h"

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#define MADV_POPULATE_WRITE 23
#endif
#ifndef MAP_FIXED_NOREPLACE
#define MAP_FIXED_NOREPLACE 0x100000
#endif

enum { PAGE = 4096, RW = PROT_READ | PROT_WRITE, ANON = MAP_PRIVATE | MAP_ANONYMOUS };

#define REFUSED(call, number) \
    do { \
        errno = 0; \
        long result_ = (long)(call); \
        expect(result_ == -1 && errno == (number), #call " is " #number, result_); \
    } while (0)
#define DONE(call) expect((call) == 0, #call, -1)

static char *map(size_t pages, int flags)
{
    char *at = mmap(0, pages * PAGE, RW, ANON | flags, -1, 0);
    expect(at != MAP_FAILED, "mmap", pages);
    return at;
}

static int resident(char *at, size_t pages)
{
    unsigned char told[512];
    int count = 0;
    DONE(mincore(at, pages * PAGE, told));
    for (size_t i = 0; i < pages; i++)
        count += told[i] & 1;
    return count;
}

static void fill(char *at, int pages)
{
    for (int i = 0; i < pages; i++)
        memset(at + (long)i * PAGE, i + 1, 64), *(uint64_t *)(at + (long)i * PAGE + 128) = (uint64_t)rand() << 32 | i;
}

static int is_filled(char *at, int pages)
{
    for (int i = 0; i < pages; i++)
        if (at[(long)i * PAGE + 63] != (char)(i + 1))
            return 0;
    return 1;
}

/* Lines of /proc/self/maps that lie in a range. */
static int areas(char *from, size_t len)
{
    static char line[512];
    FILE *file = fopen("/proc/self/maps", "r");
    int count = 0;
    while (fgets(line, sizeof line, file)) {
        unsigned long start, end;
        sscanf(line, "%lx-%lx", &start, &end);
        count += start >= (unsigned long)from && end <= (unsigned long)from + len;
    }
    fclose(file);
    return count;
}

static void moves(void)
{
    char *room = map(64, MAP_NORESERVE);
    fill(room, 8);
    expect(mremap(room, 64 * PAGE, 16 * PAGE, 0) == room, "shrink", 0);
    expect(areas(room, 64 * PAGE) == 1 && is_filled(room, 8), "what is left", 0);
    expect(mremap(room, 16 * PAGE, 20 * PAGE, 0) == room, "grow in place", 0);
    expect(room[19 * PAGE] == 0, "zeroes where it grew", 0);
    char *blocker = mmap(room + 20 * PAGE, PAGE, PROT_READ, ANON | MAP_FIXED_NOREPLACE, -1, 0);
    expect(blocker == room + 20 * PAGE, "a blocker", (long)blocker);
    REFUSED(mremap(room, 20 * PAGE, 40 * PAGE, 0), ENOMEM);
    char *moved = mremap(room, 20 * PAGE, 40 * PAGE, MREMAP_MAYMOVE);
    expect(moved != MAP_FAILED && moved != room && is_filled(moved, 8) && moved[39 * PAGE] == 0, "it moves", (long)moved);
    unsigned char told[64];
    REFUSED(mincore(room, PAGE, told), ENOMEM);
    char *to = mremap(moved, 40 * PAGE, 8 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, room);
    expect(to == room && is_filled(room, 8), "it moves to where it is told", (long)to);
    REFUSED(mincore(moved, PAGE, told), ENOMEM);
    expect(mremap(room, 8 * PAGE, 8 * PAGE, 0) == room, "no change", 0);
    REFUSED(mremap(room + 1, PAGE, PAGE, 0), EINVAL);
    REFUSED(mremap(room, PAGE, 0, MREMAP_MAYMOVE), EINVAL);
    REFUSED(mremap(room, 0, PAGE, MREMAP_MAYMOVE), EINVAL);
    REFUSED(mremap(room, PAGE, PAGE, 64), EINVAL);
    REFUSED(mremap(room, PAGE, PAGE, MREMAP_FIXED, moved), EINVAL);
    REFUSED(mremap(room, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, moved + 1), EINVAL);
    REFUSED(mremap(room, 4 * PAGE, 4 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, room + 2 * PAGE), EINVAL);
    REFUSED(mremap(moved, PAGE, 2 * PAGE, MREMAP_MAYMOVE), EFAULT);
    DONE(mprotect(room + 4 * PAGE, PAGE, PROT_READ));
    REFUSED(mremap(room, 8 * PAGE, 16 * PAGE, MREMAP_MAYMOVE), EFAULT);
    DONE(munmap(room, 21 * PAGE));
}

static void advice(void)
{
    char *at = map(32, 0);
    expect(resident(at, 32) == 0, "lazy: nothing is resident", resident(at, 32));
    DONE(madvise(at, 8 * PAGE, MADV_POPULATE_WRITE));
    expect(resident(at, 32) == 8, "populated to write", resident(at, 32));
    DONE(madvise(at + 8 * PAGE, 8 * PAGE, MADV_POPULATE_READ));
    expect(resident(at, 32) == 16, "populated to read", resident(at, 32));
    fill(at, 8);
    DONE(madvise(at, 8 * PAGE, MADV_COLD));
    expect(is_filled(at, 8), "cold pages keep what they hold", 0);
    DONE(madvise(at, 8 * PAGE, MADV_PAGEOUT));
    DONE(madvise(at, 8 * PAGE, MADV_WILLNEED));
    expect(is_filled(at, 8), "pages that went out come back", 0);
    DONE(madvise(at, 2 * PAGE, MADV_DONTNEED));
    expect(at[0] == 0 && at[PAGE] == 0 && at[2 * PAGE] == 3, "MADV_DONTNEED", at[0]);
    DONE(madvise(at + 2 * PAGE, 2 * PAGE, MADV_FREE));
    expect(at[2 * PAGE] == 3 || at[2 * PAGE] == 0, "MADV_FREE: old or zero", at[2 * PAGE]);
    at[2 * PAGE] = 77;
    expect(at[2 * PAGE] == 77, "and to be used again", at[2 * PAGE]);
    DONE(madvise(at, 0, MADV_DONTNEED));
    REFUSED(madvise(at, PAGE, 12345), EINVAL);
    REFUSED(madvise(at + 1, PAGE, MADV_DONTNEED), EINVAL);
    REFUSED(madvise(at, (size_t)-1, MADV_DONTNEED), EINVAL);
    DONE(mprotect(at, PAGE, PROT_READ));
    REFUSED(madvise(at, PAGE, MADV_POPULATE_WRITE), EINVAL);
    DONE(munmap(at + 16 * PAGE, PAGE));
    static const int all[] = {MADV_NORMAL, MADV_COLD, MADV_PAGEOUT, MADV_DONTNEED, MADV_FREE, MADV_POPULATE_READ};
    for (unsigned i = 0; i < sizeof all / sizeof *all; i++)
        REFUSED(madvise(at + 8 * PAGE, 16 * PAGE, all[i]), ENOMEM);
    unsigned char told[32];
    REFUSED(mincore(at, 32 * PAGE, told), ENOMEM);
    REFUSED(mincore(at + 1, PAGE, told), EINVAL);
    REFUSED(mincore(at, PAGE, (unsigned char *)8), EFAULT);
    REFUSED(mincore(at, (size_t)-PAGE, told), ENOMEM);
    DONE(mincore(at, 0, told));
    DONE(munmap(at, 32 * PAGE));
    at = map(16, MAP_POPULATE);
    expect(resident(at, 16) == 16, "MAP_POPULATE", resident(at, 16));
    DONE(munmap(at, 16 * PAGE));
}

/* The limit binds who may not pass it: everybody but root on Linux, everybody on Ebb. */
static void locks(void)
{
    struct rlimit limit = {32 * PAGE, 32 * PAGE};
    DONE(setrlimit(RLIMIT_MEMLOCK, &limit));
    if (geteuid() == 0)
        syscall(SYS_setuid, 65534);
    char *at = map(128, 0);
    DONE(mlock(at + 5, 8 * PAGE - 10));
    expect(resident(at, 128) == 8, "locked pages are there", resident(at, 128));
    REFUSED(madvise(at, PAGE, MADV_DONTNEED), EINVAL);
    REFUSED(madvise(at, PAGE, MADV_PAGEOUT), EINVAL);
    DONE(mlock2(at + 16 * PAGE, 8 * PAGE, MLOCK_ONFAULT));
    expect(resident(at, 128) == 8, "locked when they come", resident(at, 128));
    REFUSED(mlock2(at, PAGE, 8), EINVAL);
    REFUSED(mlock(at + 64 * PAGE, 17 * PAGE), ENOMEM);
    DONE(mlock(at + 64 * PAGE, 16 * PAGE));
    DONE(mlock(at, 8 * PAGE));
    REFUSED(mlock(at + 32 * PAGE, PAGE), ENOMEM);
    REFUSED(mmap(0, PAGE, RW, ANON | MAP_LOCKED, -1, 0), EAGAIN);
    REFUSED(mlockall(MCL_CURRENT), ENOMEM);
    REFUSED(mlockall(0), EINVAL);
    REFUSED(mlockall(MCL_ONFAULT), EINVAL);
    REFUSED(mlockall(64), EINVAL);
    DONE(munlock(at + 64 * PAGE, 16 * PAGE));
    char *locked = map(8, MAP_LOCKED);
    expect(resident(locked, 8) == 8, "MAP_LOCKED", resident(locked, 8));
    DONE(munlockall());
    DONE(madvise(at, PAGE, MADV_DONTNEED));
    DONE(mlockall(MCL_FUTURE));
    char *future = map(8, 0);
    expect(resident(future, 8) == 8, "MCL_FUTURE", resident(future, 8));
    REFUSED(mmap(0, 64 * PAGE, RW, ANON, -1, 0), EAGAIN);
    DONE(munlockall());
    DONE(munmap(future, 8 * PAGE));
    REFUSED(munlock(future, PAGE), ENOMEM);
    REFUSED(mlock(future, PAGE), ENOMEM);
    DONE(mlock(at, 0));
    limit.rlim_cur = 0;
    DONE(setrlimit(RLIMIT_MEMLOCK, &limit));
    REFUSED(mlock(at, PAGE), EPERM);
    DONE(munmap(locked, 8 * PAGE));
    DONE(munmap(at, 128 * PAGE));
}

static void placement(void)
{
    char *room = map(16, 0);
    char *near = mmap(room + 4 * PAGE, PAGE, RW, ANON, -1, 0);
    expect(near != MAP_FAILED && (near < room || near >= room + 16 * PAGE), "a hint that is taken is adjusted", (long)near);
    DONE(munmap(near, PAGE));
    DONE(munmap(room + 8 * PAGE, 4 * PAGE));
    expect(mmap(room + 9 * PAGE, PAGE, RW, ANON, -1, 0) == room + 9 * PAGE, "a hint that is free is taken", 0);
    REFUSED(mmap(room + 7 * PAGE, 2 * PAGE, RW, ANON | MAP_FIXED_NOREPLACE, -1, 0), EEXIST);
    REFUSED(mmap((void *)(0x7ffffffff000ul), PAGE, RW, ANON | MAP_FIXED, -1, 0), ENOMEM);
    REFUSED(mmap((void *)(0x7fffffffe000ul), 2 * PAGE, RW, ANON | MAP_FIXED, -1, 0), ENOMEM);
    DONE(munmap(room, 16 * PAGE));
    /* X4: a thousand neighbours are one area, also after mprotect back and forth. */
    char *many = map(1000, MAP_NORESERVE);
    DONE(munmap(many, 1000 * PAGE));
    for (int i = 0; i < 1000; i++)
        expect(mmap(many + i * PAGE, PAGE, RW, ANON | MAP_FIXED_NOREPLACE, -1, 0) == many + i * PAGE, "neighbour", i);
    int merged = areas(many - PAGE, 1002 * PAGE);
    expect(merged <= 1, "1000 neighbours in so many areas", merged);
    for (int i = 0; i < 1000; i += 2)
        DONE(mprotect(many + i * PAGE, PAGE, PROT_READ));
    expect(areas(many, 1000 * PAGE) >= 998, "every second one with other rights", areas(many, 1000 * PAGE));
    DONE(mprotect(many, 1000 * PAGE, RW));
    merged = areas(many - PAGE, 1002 * PAGE);
    expect(merged <= 1, "and back", merged);
    DONE(munmap(many, 1000 * PAGE));
}

static long committed(void)
{
    char line[256];
    long kib = -1;
    FILE *file = fopen("/proc/meminfo", "r");
    while (file && fgets(line, sizeof line, file))
        if (!strncmp(line, "Committed_AS:", 13))
            kib = atol(line + 13);
    if (file)
        fclose(file);
    return kib;
}

static sigjmp_buf refused;
static volatile int reason;

static void segv(int number, siginfo_t *info, void *context)
{
    (void)number, (void)context;
    reason = info->si_code;
    siglongjmp(refused, 1);
}

/* 1 if reading, or writing, is answered by SIGSEGV because the mapping does not allow it. */
static int is_refused(volatile char *at, int writing)
{
    if (sigsetjmp(refused, 1))
        return reason == SEGV_ACCERR;
    if (writing)
        *at = 1;
    else
        (void)*at;
    return 0;
}

/* P9: space that is only held costs nothing, whatever its size, and cannot be touched; made accessible, it is memory. */
static void reserve(void)
{
    const size_t GIB = 1ul << 30;
    struct sigaction action = {.sa_sigaction = segv, .sa_flags = SA_SIGINFO}, before;
    DONE(sigaction(SIGSEGV, &action, &before));
    committed();
    long without = committed();
    char *held = mmap(0, GIB, PROT_NONE, ANON, -1, 0);
    expect(held != MAP_FAILED, "a GiB of nothing", (long)held);
    long with = committed();
    /* Of a machine that others use, too, it says little; of our own, everything. */
    expect(without > 0 && with - without < 1 << 19, "KiB promised for it", with - without);
    printf("RESERVED kib=%lu committed=%ld\n", GIB >> 10, with - without);
    for (size_t at = 0; at < GIB; at += GIB / 8) {
        expect(is_refused(held + at, 0), "a load from held space", (long)at);
        expect(is_refused(held + at + PAGE - 1, 1), "a store to held space", (long)at);
    }
    DONE(mprotect(held + GIB / 2, PAGE, RW));
    held[GIB / 2] = 7;
    expect(held[GIB / 2] == 7 && is_refused(held + GIB / 2 + PAGE, 1), "one page of it made memory", 0);
    DONE(munmap(held, GIB));
    DONE(sigaction(SIGSEGV, &before, 0));
}

int main(void)
{
    moves();
    advice();
    placement();
    locks();
    reserve();
    if (!wrong)
        printf("OK map-interface\n");
    return wrong != 0;
}
