/* Claim: whatever it is that exhausts memory, one process ends for it, and it is the right one: the largest by oom_score, as oom_score_adj
 * has it; never the first program, nor who keeps to itself. Whoever needed the page goes on. What the one had is free afterwards, here and
 * in swap. One boot for all shapes; each prints "SHAPE name victim pid", which the test holds against the kernel's own records. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"

enum { PAGE = 4096, WORDS = PAGE / 8, RW = PROT_READ | PROT_WRITE, ANON = MAP_PRIVATE | MAP_ANONYMOUS, MOST = 16 };
#define GROUP "/sys/fs/cgroup/oom"

/* A number in a file of /proc or /sys: behind `name`, or the first there is. */
static long number(const char *path, const char *name)
{
    static char text[8192];
    int fd = open(path, O_RDONLY);
    ssize_t got = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    expectf(got > 0, "%s", path);
    close(fd);
    text[got > 0 ? got : 0] = 0;
    const char *at = strstr(text, name);
    return at ? strtol(at + strlen(name), 0, 10) : -1;
}

static long kib(const char *name) { return number("/proc/meminfo", name); }
static long kills(void) { return number("/proc/vmstat", "oom_kill "); }

static const char *of(pid_t pid, const char *file)
{
    static char path[64];
    snprintf(path, sizeof path, "/proc/%d/%s", pid, file);
    return path;
}

static int adjust(pid_t pid, const char *value) { return put(of(pid, "oom_score_adj"), value); }

/* Memory, and what is in it: nothing that a pager could keep in less than a page. */
static uint64_t *map(size_t pages, int flags)
{
    void *at = mmap(0, pages * PAGE, RW, flags, -1, 0);
    if (at == MAP_FAILED) {
        perror("mmap");
        _exit(3);
    }
    return at;
}

static uint64_t word(size_t i, uint64_t salt) { return (i + salt * 7919 + 1) * 0x9e3779b97f4a7c15u; }

static void fill(uint64_t *at, size_t pages, uint64_t salt)
{
    for (size_t page = 0; page < pages; page++)
        for (size_t i = 0; i < WORDS; i += 31)
            at[page * WORDS + i] = word(page * WORDS + i, salt);
}

static int holds(const uint64_t *at, size_t pages, uint64_t salt)
{
    for (size_t page = 0; page < pages; page++)
        for (size_t i = 0; i < WORDS; i += 31)
            if (at[page * WORDS + i] != word(page * WORDS + i, salt))
                return 0;
    return 1;
}

/* One of the processes of a shape. It does its part, says so, and waits until it may check what it has and leave. */
struct member {
    pid_t pid;
    int ready, go, done;
};

static struct member members[MOST];
static int count;

typedef void part(size_t pages, uint64_t salt);

/* What a member checks before it leaves. */
static uint64_t *mine;

static void plain(size_t pages, uint64_t salt) { fill(map(pages, ANON), pages, salt); }

/* What we have written is our children's, too, until they write to it. */
static uint64_t *inherited;
static size_t heirlooms;

static void copies(size_t pages, uint64_t salt)
{
    if (pages)
        fill(map(pages, ANON), pages, salt);
    mine = inherited;
    fill(inherited, heirlooms, salt);
}

static void wait_for_byte(int fd)
{
    char byte;
    while (read(fd, &byte, 1) < 0 && errno == EINTR)
        ;
}

static struct member *begin(part *does, size_t pages, const char *adj)
{
    struct member *member = &members[count];
    int ready[2], go[2], salt = ++count;
    expectf(count <= MOST && pipe(ready) == 0 && pipe(go) == 0, "pipes");
    fflush(stdout);
    member->pid = fork();
    expectf(member->pid >= 0, "fork");
    if (member->pid == 0) {
        close(ready[0]);
        close(go[1]);
        if (adj && adjust(getpid(), adj) != 0)
            _exit(4);
        if (does)
            does(pages, salt);
        else
            fill(mine = map(pages, ANON), pages, salt);
        if (write(ready[1], "", 1) != 1)
            _exit(5);
        wait_for_byte(go[0]);
        _exit(mine && !holds(mine, does == copies ? heirlooms : pages, salt) ? 6 : 0);
    }
    close(ready[1]);
    close(go[0]);
    member->ready = ready[0];
    member->go = go[1];
    member->done = 0;
    return member;
}

/* Until it has done its part, or is dead. */
static void await(struct member *member)
{
    if (!member->done)
        wait_for_byte(member->ready);
    member->done = 1;
}

static struct member *keep(size_t pages, const char *adj)
{
    struct member *member = begin(0, pages, adj);
    await(member);
    return member;
}

/* All may leave: `victim` was killed, and all others are as they should be. */
static void end(const char *shape, struct member *victim, long kills_before)
{
    for (int i = 0; i < count; i++)
        await(&members[i]);
    for (int i = 0; i < count; i++) {
        int status = -1;
        expectf(write(members[i].go, "", 1) == 1 || errno == EPIPE, "go");
        close(members[i].go);
        close(members[i].ready);
        pid_t found = waitpid(members[i].pid, &status, 0);
        if (&members[i] == victim)
            expectf(found > 0 && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL, "%s: the victim: %x", shape, status);
        else
            expectf(found > 0 && status == 0, "%s: member %d: %x", shape, i, status);
    }
    expectf(kills() - kills_before == 1, "%s: %ld were killed", shape, kills() - kills_before);
    printf("SHAPE %s victim %d\n", shape, victim->pid);
    fflush(stdout);
    count = 0;
}

static size_t all_pages;
static long free_at_first;

/* So many hundredths of all memory there is. */
static size_t part_of(int hundredths) { return all_pages * hundredths / 100; }

/* What was in use is free again, but for what the bystander and we have. Buried a piece at a time: waited for, but not for ever. */
static void books(const char *when)
{
    long swapped = 0;
    for (int patience = 0; patience < 5000; patience++) {
        swapped = kib("SwapTotal:") - kib("SwapFree:");
        if (swapped <= 3072 && kib("MemFree:") >= free_at_first - 1024)
            break;
        usleep(1000);
    }
    printf("BOOKS %s free=%ld of %ld swapped=%ld\n", when, kib("MemFree:"), free_at_first, swapped);
    expectf(swapped <= 3072, "%s: %ld KiB stay in swap", when, swapped);
    expectf(kib("MemFree:") >= free_at_first - 1024, "%s: %ld KiB are free", when, kib("MemFree:"));
}

static void locked(size_t pages, uint64_t salt)
{
    size_t piece = 256, done = 0;
    uint64_t *at = map(pages, ANON);
    while (done + piece <= pages && mlock(at + done * WORDS, piece * PAGE) == 0)
        done += piece;
    if (done == 0)
        _exit(7);
    fill(at, pages, salt);
}

static void shared(size_t pages, uint64_t salt) { fill(map(pages, MAP_SHARED | MAP_ANONYMOUS), pages, salt); }

/* In the middle of a system call as often as not. Pages of zeroes take no room in swap, so what is populated is written to. */
static void populated(size_t pages, uint64_t salt)
{
    fill(map(pages / 2, ANON), pages / 2, salt);
    for (size_t done = 0; done < pages; done += 64)
        fill(map(64, ANON | MAP_POPULATE), 64, salt);
}

static void one_hog(const char *shape, part *does, int hundredths)
{
    long before = kills();
    keep(part_of(15), 0);
    struct member *hog = begin(does, part_of(hundredths), 0);
    end(shape, hog, before);
    books(shape);
}

static void cow(void)
{
    long before = kills();
    heirlooms = part_of(18);
    inherited = map(heirlooms, ANON);
    fill(inherited, heirlooms, 99);
    struct member *largest = begin(copies, part_of(40), 0);
    await(largest);
    for (int i = 0; i < 2; i++)
        begin(copies, 0, 0);
    end("cow", largest, before);
    expectf(holds(inherited, heirlooms, 99), "our own pages");
    munmap(inherited, heirlooms * PAGE);
    books("cow");
}

static void many(void)
{
    long before = kills();
    struct member *largest = keep(part_of(20), 0);
    for (int i = 0; i < 7; i++)
        begin(0, part_of(13), 0);
    end("many", largest, before);
    books("many");
}

static void adjusted(void)
{
    long before = kills();
    keep(part_of(55), 0);
    struct member *small = keep(part_of(12), "1000");
    expectf(number(of(small->pid, "oom_score"), "") > number(of(members[0].pid, "oom_score"), ""), "scores");
    begin(0, part_of(38), 0);
    end("willing", small, before);
    books("willing");

    before = kills();
    struct member *spared = keep(part_of(60), "-1000");
    expectf(number(of(spared->pid, "oom_score"), "") == 0, "no score");
    struct member *asker = begin(0, part_of(50), 0);
    end("spared", asker, before);
    books("spared");
}

/* We ask, by touching memory and in the middle of a system call, and somebody else ends: we are the first program. */
static void first_program(void)
{
    size_t pages = part_of(30);
    uint64_t *at = map(pages, ANON);
    long before = kills();
    struct member *hog = keep(part_of(85), 0);
    fill(at, pages, 5);
    end("touch", hog, before);
    expectf(holds(at, pages, 5), "what we touched");
    munmap(at, pages * PAGE);
    books("touch");

    at = map(pages, ANON);
    before = kills();
    hog = keep(part_of(85), 0);
    int fd = open("/dev/urandom", O_RDONLY);
    ssize_t got = 0, more = 1;
    while (more > 0 && (size_t)got < pages * PAGE)
        got += more = read(fd, (char *)at + got, pages * PAGE - got);
    expectf((size_t)got == pages * PAGE, "read: %zd", got);
    close(fd);
    end("read", hog, before);
    munmap(at, pages * PAGE);
    books("read");
}

static void joins(size_t pages, uint64_t salt)
{
    if (put(GROUP "/cgroup.procs", "0"))
        _exit(8);
    fill(mine = map(pages, ANON), pages, salt);
}

static void group(void)
{
    expectf(mkdir(GROUP, 0755) == 0 && put(GROUP "/memory.max", "3M") == 0 && put(GROUP "/memory.swap.max", "0") == 0, "group");
    long before = kills();
    keep(part_of(20), "500");
    struct member *large = begin(joins, 450, 0);
    await(large);
    begin(joins, 400, 0);
    end("group", large, before);
    expectf(number(GROUP "/memory.events", "oom_kill ") == 1, "memory.events");
    expectf(rmdir(GROUP) == 0, "rmdir");
    books("group");
}

static void adjustments(char *self)
{
    const char *own = "/proc/self/oom_score_adj";
    expectf(number(own, "") == 0, "none at first");
    expectf(put(own, "1001") == -1 && errno == EINVAL && put(own, "-1001") == -1 && errno == EINVAL, "out of range");
    expectf(put(own, "much") == -1 && errno == EINVAL, "no number");
    expectf(put("/proc/self/oom_score", "1") == -1 && errno == EACCES, "a score is not written to");
    expectf(put(own, "-17\n") == 0 && number(own, "") == -17, "what was written is there");
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        if (number(own, "") != -17 || put(own, "300"))
            _exit(1);
        execl(self, self, "300", (char *)0);
        _exit(2);
    }
    int status = -1;
    waitpid(child, &status, 0);
    expectf(status == 0, "inherited by fork, kept by execve: %x", status);
    expectf(number(own, "") == -17 && put(own, "0") == 0, "the child's is its own");
}

static void bystander(size_t pages, uint64_t salt)
{
    mine = map(pages, ANON);
    fill(mine, pages, salt);
}

int main(int argc, char **argv)
{
    if (argc > 1)
        return number("/proc/self/oom_score_adj", "") != atol(argv[1]);
    signal(SIGPIPE, SIG_IGN);
    struct rlimit none = {RLIM_INFINITY, RLIM_INFINITY};
    setrlimit(RLIMIT_MEMLOCK, &none);
    adjustments("/proc/self/exe");

    struct member beside = *begin(bystander, 256, 0);
    await(&beside);
    count = 0;
    all_pages = (kib("MemFree:") + kib("SwapFree:")) / 4;
    free_at_first = kib("MemFree:");
    one_hog("plain", plain, 130);
    one_hog("mlock", locked, 130);
    one_hog("populate", populated, 130);
    one_hog("shared", shared, 130);
    cow();
    many();
    adjusted();
    first_program();
    group();
    expectf(write(beside.go, "", 1) == 1, "go");
    int status = -1;
    expectf(waitpid(beside.pid, &status, 0) == beside.pid && status == 0, "the bystander: %x", status);
    printf("%s oom\n", wrong ? "FAILED" : "OK");
    return wrong != 0;
}
