/* Claim: what is made to exhaust memory is refused or paid for by who made it, and leaves nothing behind. Each bomb goes off in a
 * child of its own, twice, and the books are read between and after: what the first time leaves as a reserve, the second one finds.
 *   vma              mappings with every other page protected, until there may be no more
 *   tables GIB       a page written in every 2 MiB
 *   locks            mlock until it is refused
 *   sharers N MIB    N processes that share MIB, all of which is written and read by all */
#define _GNU_SOURCE
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"

enum { PAGE = 4096, MIB = 1 << 20, RW = PROT_READ | PROT_WRITE, ANON = MAP_PRIVATE | MAP_ANONYMOUS };

static char *map(size_t bytes, int flags)
{
    char *at = mmap(0, bytes, RW, flags, -1, 0);
    if (at == MAP_FAILED) {
        perror("mmap");
        exit(2);
    }
    return at;
}

/* KiB of a line of a file of /proc. */
static long kib(const char *path, const char *name)
{
    char line[256];
    long value = -1;
    FILE *file = fopen(path, "r");
    while (file && value < 0 && fgets(line, sizeof line, file))
        if (!strncmp(line, name, strlen(name)) && line[strlen(name)] == ':')
            value = atol(line + strlen(name) + 1);
    if (file)
        fclose(file);
    return value;
}

static long meminfo(const char *name) { return kib("/proc/meminfo", name); }

/* What is in use. Shared memory that nobody has any more is buried a piece at a time, which is waited for, but not for ever. */
static void books(const char *when)
{
    for (int patience = 0; patience < 5000 && meminfo("SwapTotal") - meminfo("SwapFree") > 1024; patience++)
        usleep(1000);
    printf("BOOKS %s free=%ld anon=%ld tables=%ld swapfree=%ld locked=%ld\n", when, meminfo("MemFree"),
           meminfo("AnonPages"), meminfo("PageTables"), meminfo("SwapFree"), meminfo("Mlocked"));
    fflush(stdout);
}

static void vma(long unused, long unused2)
{
    (void)unused, (void)unused2;
    enum { PAGES = 140000 };
    char *at = map((size_t)PAGES * PAGE, ANON | MAP_NORESERVE);
    long made = 0;
    while (made < PAGES / 2 && mprotect(at + made * 2 * PAGE, PAGE, PROT_READ) == 0)
        made++;
    expect(errno == ENOMEM && made > 32000 && made < 32768, "one area too many", made);
    /* The process lives, and what it has works; what makes no more areas is not refused. */
    at[PAGE] = 7;
    expect(at[PAGE] == 7 && at[0] == 0, "pages on both sides of an edge", 0);
    expect(munmap(at + PAGE, PAGE) == 0, "munmap of an area", 0);
    expect(munmap(at, (size_t)PAGES * PAGE) == 0, "munmap of all", 0);
    expect(map(PAGE, ANON)[0] == 0, "memory after it", 0);
    printf("VMA areas=%ld\n", 2 * made);
}

static void tables(long gib, long unused)
{
    (void)unused;
    size_t step = 2 * MIB, len = (size_t)gib << 30;
    char *at = map(len, ANON | MAP_NORESERVE);
    for (size_t page = 0; page < len; page += step)
        at[page + page / step % PAGE] = 1 + page / step % 100;
    for (size_t page = 0; page < len; page += step)
        expect(at[page + page / step % PAGE] == (char)(1 + page / step % 100), "a page in a table of its own", page);
}

static void locks(long unused, long unused2)
{
    (void)unused, (void)unused2;
    long mib = 0;
    for (;; mib++) {
        char *at = map(MIB, ANON);
        if (mlock(at, MIB) != 0)
            break;
        memset(at, (int)mib, MIB);
        expect(mib < 1024, "a limit", mib);
        if (wrong)
            leave();
    }
    expect(errno == ENOMEM && mib > 0, "mlock refused", mib);
    expect(meminfo("Mlocked") == mib * 1024, "Mlocked", meminfo("Mlocked"));
    /* The machine is still there: another process gets what it needs, through swap. */
    pid_t child = forked();
    if (child == 0) {
        char *at = map(24 * MIB, ANON);
        memset(at, 5, 24 * MIB);
        for (size_t i = 0; i < 24 * MIB; i += 512)
            expect(at[i] == 5, "a byte beside locked memory", (long)i);
        leave();
    }
    join(child, "a process beside locked memory");
    printf("LOCKED mib=%ld\n", mib);
}

static uint64_t word(uint64_t i) { return (i + 1) * 0x9e3779b97f4a7c15u ^ i >> 7; }

static void sharers(long count, long mib)
{
    size_t words = (size_t)mib * MIB / 8;
    volatile uint64_t *at = (volatile uint64_t *)map((size_t)mib * MIB, MAP_SHARED | MAP_ANONYMOUS);
    pid_t pids[64];
    uint64_t sum = 0;
    for (size_t i = 0; i < words; i++)
        sum += at[i] = word(i);
    for (long i = 0; i < count; i++) {
        pids[i] = forked();
        if (pids[i] == 0) {
            uint64_t found = 0;
            for (size_t w = 0; w < words; w++)
                found += at[w];
            expect(found == sum, "the sum", i);
            long used = meminfo("SwapTotal") - meminfo("SwapFree");
            expect(used <= mib * 1024 + 4096, "swapped once", used);
            printf("SHARER swapped=%ld\n", used);
            leave();
        }
    }
    for (long i = 0; i < count; i++)
        join(pids[i], "a sharer");
}

static void bomb(void (*what)(long, long), long first, long second)
{
    for (int time = 0; time < 2; time++) {
        if (time == 1)
            books("before");
        pid_t child = forked();
        if (child == 0) {
            what(first, second);
            leave();
        }
        join(child, "the bomb");
    }
    books("after");
}

int main(int argc, char **argv)
{
    const char *mode = argc > 1 ? argv[1] : "";
    long first = argc > 2 ? atol(argv[2]) : 0, second = argc > 3 ? atol(argv[3]) : 0;
    if (!strcmp(mode, "vma"))
        bomb(vma, 0, 0);
    else if (!strcmp(mode, "tables"))
        bomb(tables, first, 0);
    else if (!strcmp(mode, "locks"))
        bomb(locks, 0, 0);
    else if (!strcmp(mode, "sharers"))
        bomb(sharers, first, second);
    else
        return 2;
    printf("%s bombs %s\n", wrong ? "FAILED" : "OK", mode);
    return wrong != 0;
}
