/* Claim: fork copies memory, and only what is written costs memory. Each part of the claim is a mode of its own:
 *   basics                 what a child has of its parent, and what not
 *   cow MIB                parent fills MIB, the child writes half of it anew, both find what they wrote
 *   chain DEPTH MIB        each process forks the next, writes a part anew, and all find what they should
 *   bomb LIMIT             forks until RLIMIT_NPROC says no; all end, and the limit is free again
 *   sharers COUNT MIB      COUNT children read the parent's MIB at once
 *   races ROUNDS           children that end, are killed, and are waited for, in every order
 *   stuck CHILDREN MIB     children that page MIB in from a slow disk are killed, and are gone before their page comes
 *   leaks ROUNDS           what the system has in use, before and after ROUNDS of everything
 *   guest HOST MIB         a process with HOST MiB is idle while another one fills MIB; its data is there afterwards */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"

enum { PAGE = 4096, WORDS = PAGE / 8 };

/* Word `i` of a page says whose it is and where: a page that is another's, or old, is seen. */
static uint64_t word(uint64_t owner, uint64_t page, uint64_t i)
{
    uint64_t x = owner * 0x9e3779b97f4a7c15u + page * 0xbf58476d1ce4e5b9u + i;
    x ^= x >> 31;
    return x * 0x94d049bb133111ebu;
}

static void fill(uint64_t *memory, uint64_t owner, long from, long to, long step)
{
    for (long page = from; page < to; page += step)
        for (long i = 0; i < WORDS; i++)
            memory[page * WORDS + i] = word(owner, (uint64_t)page, (uint64_t)i);
}

static void check(const uint64_t *memory, uint64_t owner, long from, long to, long step)
{
    for (long page = from; page < to; page += step)
        for (long i = 0; i < WORDS; i++)
            if (memory[page * WORDS + i] != word(owner, (uint64_t)page, (uint64_t)i)) {
                expect(0, "a page of owner", (long)owner * 1000000 + page);
                return;
            }
}

static uint64_t *pages(long mib)
{
    void *memory = mmap(0, (size_t)mib << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) {
        perror("mmap");
        exit(2);
    }
    return memory;
}

static void *idle(void *pipe_)
{
    char byte;
    read(*(int *)pipe_, &byte, 1);
    return NULL;
}

static volatile sig_atomic_t caught;

static void on_signal(int signal)
{
    caught = signal;
}

static void basics(void)
{
    int pipe_[2], offset[2];
    expect(pipe(pipe_) == 0 && pipe(offset) == 0, "pipe", 0);
    pthread_t thread;
    pthread_create(&thread, NULL, idle, &pipe_[0]);
    static int word_;
    word_ = 1;
    signal(SIGUSR1, on_signal);
    alarm(1000);
    char *heap = malloc(100000);
    strcpy(heap, "tide");
    pid_t parent = getpid();
    pid_t child = forked();
    if (child == 0) {
        expect(getppid() == parent && getpid() != parent, "relatives", getppid());
        expect(alarm(0) == 0, "an alarm is not inherited", 0);
        expect(word_ == 1 && !strcmp(heap, "tide"), "memory", word_);
        word_ = 2;
        strcpy(heap, "ebb");
        raise(SIGUSR1);
        expect(caught == SIGUSR1, "handlers are inherited", caught);
        struct rusage usage;
        getrusage(RUSAGE_SELF, &usage);
        expect(write(offset[1], "x", 1) == 1, "descriptors", 0);
        char *more = malloc(1 << 20);
        memset(more, 7, 1 << 20);
        free(more);
        leave();
    }
    join(child, "the child of a process with two threads");
    expect(word_ == 1 && !strcmp(heap, "tide") && caught == 0, "the parent's memory", word_);
    expect(alarm(0) > 0, "the parent's alarm", 0);
    char byte;
    expect(read(offset[0], &byte, 1) == 1, "the child's byte", 0);
    write(pipe_[1], "x", 1);
    pthread_join(thread, NULL);
    free(heap);

    child = forked();
    if (child == 0) {
        pid_t grandchild = forked();
        if (grandchild == 0)
            _exit(getppid() == parent ? 1 : 0);
        join(grandchild, "a grandchild");
        leave();
    }
    join(child, "a child with a child");
    int status;
    expect(wait(&status) == -1 && errno == ECHILD, "nobody is left", status);
    child = forked();
    if (child == 0)
        *(volatile int *)0 = 1;
    waitpid(child, &status, 0);
    expect(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV, "a child that crashes", status);
}

static void cow(long mib)
{
    long count = mib * 256;
    uint64_t *memory = pages(mib);
    fill(memory, 1, 0, count, 1);
    pid_t child = forked();
    if (child == 0) {
        fill(memory, 2, 0, count, 2);
        check(memory, 2, 0, count, 2);
        check(memory, 1, 1, count, 2);
        leave();
    }
    check(memory, 1, 0, count, 3);
    fill(memory, 3, 0, count, 5);
    join(child, "the child that wrote half");
    for (long page = 0; page < count; page++)
        check(memory, page % 5 ? 1 : 3, page, page + 1, 1);
}

/* Every link waits for the next one; so all are alive when the last one looks. */
static void chain(long depth, long mib)
{
    long count = mib * 256;
    uint64_t *memory = pages(mib);
    fill(memory, 0, 0, count, 1);
    for (long link = 1; link <= depth; link++) {
        pid_t next = forked();
        if (next < 0)
            break;
        if (next != 0) {
            join(next, "a link of the chain");
            check(memory, (uint64_t)link - 1, (link - 1) % count, (link - 1) % count + 1, 1);
            if (link > 1)
                leave();
            return;
        }
        /* Its own page is new, those of the links before it are theirs. */
        fill(memory, (uint64_t)link, link % count, link % count + 1, 1);
        struct timeval before, after;
        gettimeofday(&before, NULL);
        for (long other = link > count ? link - count + 1 : 1; other <= link; other++)
            check(memory, (uint64_t)other, other % count, other % count + 1, 1);
        gettimeofday(&after, NULL);
        if (link == depth)
            printf("DEEPEST link=%ld\n", link);
    }
    leave();
}

static void bombard(rlim_t limit)
{
    struct rlimit before, now;
    getrlimit(RLIMIT_NPROC, &before);
    now = before;
    now.rlim_cur = limit;
    expect(setrlimit(RLIMIT_NPROC, &now) == 0, "setrlimit", (long)limit);
    int hold[2];
    expect(pipe(hold) == 0, "pipe", 0);
    long made = 0;
    for (;; made++) {
        pid_t child = fork();
        if (child == 0) {
            char byte;
            close(hold[1]);
            if (fork() == 0) /* it has a child of its own, or not */
                read(hold[0], &byte, 1);
            read(hold[0], &byte, 1);
            _exit(0);
        }
        if (child < 0)
            break;
        if (made > 5000)
            break;
    }
    expect(errno == EAGAIN, "the fork too many", errno);
    close(hold[1]);
    long ended = 0;
    while (wait(NULL) > 0)
        ended++;
    expect(ended == made, "children that ended", ended);
    close(hold[0]);
    printf("BOMB made=%ld\n", made);
    /* Orphans end on their own time. */
    pid_t child = -1;
    for (int patience = 0; child < 0 && patience < 10000; patience++) {
        child = fork();
        if (child < 0)
            usleep(1000);
    }
    if (child == 0)
        _exit(0);
    join(child, "a fork after the bomb");
    setrlimit(RLIMIT_NPROC, &before);
}

/* Linux lets root pass this limit, so it is somebody else who forks; where there is nobody else, root is bound. */
static void bomb(rlim_t limit)
{
    pid_t child = forked();
    if (child == 0) {
        (void)!setresuid(54321, 54321, 54321);
        bombard(limit);
        leave();
    }
    join(child, "the bomb");
}

static void sharers(int children, long mib)
{
    long count = mib * 256;
    uint64_t *memory = pages(mib);
    fill(memory, 1, 0, count, 1);
    pid_t pids[64];
    for (int i = 0; i < children; i++) {
        pids[i] = forked();
        if (pids[i] == 0) {
            check(memory, 1, 0, count, 1);
            leave();
        }
    }
    for (int i = 0; i < children; i++)
        join(pids[i], "a sharer");
}

static void races(int rounds)
{
    long mib = 2, count = mib * 256;
    uint64_t *memory = pages(mib);
    fill(memory, 1, 0, count, 1);
    signal(SIGCHLD, on_signal);
    for (int round = 0; round < rounds; round++) {
        pid_t children[4];
        for (int i = 0; i < 4; i++) {
            children[i] = fork();
            if (children[i] == 0) {
                if (i % 2)
                    for (long n = 0;; n++)
                        fill(memory, (uint64_t)i, n % count, n % count + 1, 1);
                check(memory, 1, round % count, count, 7);
                leave();
            }
        }
        usleep((useconds_t)(round * 37 % 3000));
        kill(children[1], SIGKILL);
        kill(children[3], round % 2 ? SIGTERM : SIGKILL);
        for (int i = 0, status; i < 4; i++) {
            pid_t pid = round % 3 ? wait(&status) : waitpid(children[i], &status, 0);
            int is_killed = pid == children[1] || pid == children[3];
            expect(pid > 0 && (is_killed ? WIFSIGNALED(status) : status == 0), "a child of a round", status);
        }
        expect(wait(NULL) == -1 && errno == ECHILD, "nobody is left", round);
    }
    check(memory, 1, 0, count, 1);
}

static long resident(pid_t pid)
{
    char path[64], line[256];
    long kib = -1;
    snprintf(path, sizeof path, "/proc/%d/status", pid);
    FILE *file = fopen(path, "r");
    while (file && fgets(line, sizeof line, file))
        sscanf(line, "VmRSS: %ld", &kib);
    if (file)
        fclose(file);
    return kib;
}

static void guest(long host, long mib)
{
    int ready[2], over[2];
    char byte;
    expect(pipe(ready) == 0 && pipe(over) == 0, "pipe", 0);
    pid_t idle_ = forked();
    if (idle_ == 0) {
        uint64_t *memory = pages(host);
        fill(memory, 1, 0, host * 256, 1);
        write(ready[1], "x", 1);
        read(over[0], &byte, 1);
        check(memory, 1, 0, host * 256, 1);
        leave();
    }
    read(ready[0], &byte, 1);
    long before = resident(idle_);
    pid_t busy = forked();
    if (busy == 0) {
        uint64_t *memory = pages(mib);
        for (int pass = 0; pass < 3; pass++) {
            fill(memory, 2, 0, mib * 256, 1);
            check(memory, 2, 0, mib * 256, 1);
        }
        leave();
    }
    join(busy, "the busy one");
    printf("RSS before=%ld after=%ld\n", before, resident(idle_));
    write(over[1], "x", 1);
    join(idle_, "the idle one");
}

/* Frames of pages that are gone and that the disk still works on: Ebb's own figure, 0 elsewhere. Without stdio, whose
 * pages may be on the disk themselves. */
static long orphaned(void)
{
    static char text[4096];
    int file = open("/proc/zoneinfo", O_RDONLY);
    long count = read(file, text, sizeof text - 1);
    close(file);
    text[count < 0 ? 0 : count] = 0;
    const char *found = strstr(text, "ebb_orphaned ");
    return found ? atol(found + strlen("ebb_orphaned ")) : 0;
}

/* The child has filled its memory when it says so; then it waits for the disk most of the time. */
static void stuck(int children, long mib)
{
    long frames[64];
    for (int i = 0; i < children; i++) {
        int ready[2], status;
        expect(pipe(ready) == 0, "pipe", 0);
        pid_t child = forked();
        if (child == 0) {
            uint64_t *memory = pages(mib);
            fill(memory, 1, 0, mib * 256, 1);
            write(ready[1], "x", 1);
            for (;;)
                check(memory, 1, 0, mib * 256, 1);
        }
        struct pollfd filled = {.fd = ready[0], .events = POLLIN};
        /* What is needed at the end is used all the time, so that it stays in RAM. */
        for (int patience = 300; patience > 0;) {
            expect(orphaned() >= 0 && kill(child, 0) == 0 && waitpid(child, &status, WNOHANG) == 0, "the child", i);
            patience -= poll(&filled, 1, 0);
            usleep(1000);
        }
        kill(child, i % 2 ? SIGKILL : SIGTERM);
        pid_t pid = waitpid(child, &status, 0);
        frames[i] = orphaned();
        expect(pid == child && WIFSIGNALED(status), "the killed one", status);
        close(ready[0]), close(ready[1]);
    }
    for (int i = 0; i < children; i++)
        printf("REAPED orphaned=%ld\n", frames[i]);
}

static long meminfo(const char *name)
{
    char line[256];
    long kib = -1;
    size_t length = strlen(name);
    FILE *file = fopen("/proc/meminfo", "r");
    while (file && fgets(line, sizeof line, file))
        if (!strncmp(line, name, length) && line[length] == ':')
            kib = atol(line + length + 1);
    if (file)
        fclose(file);
    return kib;
}

static void figures(const char *when)
{
    printf("BOOKS %s free=%ld anon=%ld tables=%ld swapfree=%ld\n", when, meminfo("MemFree"), meminfo("AnonPages"),
           meminfo("PageTables"), meminfo("SwapFree"));
    fflush(stdout);
}

/* The same twice: what the first time leaves as a reserve, the second one finds. */
static void leaks(int rounds)
{
    for (int time = 0; time < 2; time++) {
        if (time == 1)
            figures("before");
        for (int round = 0; round < rounds; round++) {
            bomb(60);
            pid_t child = forked();
            if (child == 0) {
                cow(6);
                races(2);
                chain(20, 1);
                _exit(wrong != 0);
            }
            join(child, "a round");
        }
    }
    figures("after");
}

int main(int argc, char **argv)
{
    const char *mode = argc > 1 ? argv[1] : "basics";
    long first = argc > 2 ? atol(argv[2]) : 0, second = argc > 3 ? atol(argv[3]) : 0;
    if (!strcmp(mode, "basics"))
        basics();
    else if (!strcmp(mode, "cow"))
        cow(first);
    else if (!strcmp(mode, "chain"))
        chain(first, second);
    else if (!strcmp(mode, "bomb"))
        bomb((rlim_t)first);
    else if (!strcmp(mode, "sharers"))
        sharers((int)first, second);
    else if (!strcmp(mode, "races"))
        races((int)first);
    else if (!strcmp(mode, "stuck"))
        stuck((int)first, second);
    else if (!strcmp(mode, "leaks"))
        leaks((int)first);
    else if (!strcmp(mode, "guest"))
        guest(first, second);
    else
        return 2;
    if (wrong == 0)
        printf("OK forks %s\n", mode);
    return wrong != 0;
}
