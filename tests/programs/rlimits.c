/* Claim: limits bind where they are said to, are inherited, and survive exec; use is counted. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/times.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"

enum { MIB = 1 << 20 };

static struct rlimit changed(int resource, rlim_t to)
{
    struct rlimit before, now;
    expect(getrlimit(resource, &before) == 0, "getrlimit", resource);
    now = before;
    now.rlim_cur = to;
    expect(setrlimit(resource, &now) == 0, "setrlimit", resource);
    return before;
}

static void *map(size_t bytes)
{
    return mmap(0, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

static void limits(void)
{
    struct rlimit before = changed(RLIMIT_AS, 64 * MIB);
    expect(map(100 * MIB) == MAP_FAILED && errno == ENOMEM, "RLIMIT_AS", 0);
    void *small = map(MIB);
    expect(small != MAP_FAILED, "within RLIMIT_AS", 0);
    munmap(small, MIB);
    setrlimit(RLIMIT_AS, &before);
    before = changed(RLIMIT_DATA, 16 * MIB);
    expect(sbrk(32 * MIB) == (void *)-1 && errno == ENOMEM, "RLIMIT_DATA", 0);
    setrlimit(RLIMIT_DATA, &before);

    before = changed(RLIMIT_NOFILE, 10);
    int fds[16], opened = 0;
    while (opened < 16 && (fds[opened] = dup(1)) >= 0)
        opened++;
    expect(opened < 10 && errno == EMFILE && fds[opened - 1] == 9, "RLIMIT_NOFILE", opened);
    expect(dup2(1, 10) == -1 && errno == EBADF, "dup2 beyond it", 0);
    pid_t child = fork();
    if (child == 0) {
        struct rlimit inherited;
        getrlimit(RLIMIT_NOFILE, &inherited);
        _exit(inherited.rlim_cur == 10 && dup(1) == -1 ? 0 : 1);
    }
    int status;
    waitpid(child, &status, 0);
    expect(status == 0, "limits are inherited", status);
    while (opened > 0)
        close(fds[--opened]);
    setrlimit(RLIMIT_NOFILE, &before);
    struct rlimit backwards = {.rlim_cur = 2, .rlim_max = 1};
    expect(setrlimit(RLIMIT_NOFILE, &backwards) == -1 && errno == EINVAL, "more than the hard limit", 0);
    expect(getrlimit(99, &before) == -1 && errno == EINVAL, "no such limit", 0);
    child = fork();
    if (child == 0) {
        pause();
        _exit(0);
    }
    struct rlimit of_child = {.rlim_cur = 5, .rlim_max = 7}, seen;
    expect(prlimit(child, RLIMIT_NOFILE, &of_child, NULL) == 0, "prlimit of another", 0);
    expect(prlimit(child, RLIMIT_NOFILE, NULL, &seen) == 0 && seen.rlim_cur == 5 && seen.rlim_max == 7, "what it has", 0);
    kill(child, SIGKILL);
    waitpid(child, &status, 0);
}

static void usage(void)
{
    enum { PAGES = 300 };
    struct rusage before, after, children;
    getrusage(RUSAGE_SELF, &before);
    char *memory = map(PAGES * 4096);
    for (int i = 0; i < PAGES; i++)
        memory[i * 4096] = 1;
    getrusage(RUSAGE_SELF, &after);
    long faults = after.ru_minflt + after.ru_majflt - before.ru_minflt - before.ru_majflt;
    expect(faults >= 1, "faults are counted", faults);
    expect(after.ru_maxrss > 1000, "most memory", after.ru_maxrss);
    getrusage(RUSAGE_CHILDREN, &before);
    pid_t child = fork();
    if (child == 0) {
        for (int i = 0; i < PAGES; i++)
            memory[i * 4096] = 2;
        for (volatile long n = 0; n < 200000000; n++)
            ;
        _exit(0);
    }
    waitpid(child, NULL, 0);
    getrusage(RUSAGE_CHILDREN, &children);
    faults = children.ru_minflt + children.ru_majflt - before.ru_minflt - before.ru_majflt;
    expect(faults >= PAGES, "faults of a child: each page is copied", faults);
    struct tms times_;
    expect(times(&times_) != -1 && times_.tms_cutime > 0, "time of a child", times_.tms_cutime);
    munmap(memory, PAGES * 4096);
}

/* Reading and writing another process's memory. */
static void across(void)
{
    static char here[10000], there[10000];
    int ready[2];
    char byte;
    expect(pipe(ready) == 0, "pipe", 0);
    memset(there, 'p', sizeof there);
    pid_t child = fork();
    if (child == 0) {
        memset(there, 'c', sizeof there);
        write(ready[1], "x", 1);
        while (there[9999] != 'w')
            usleep(1000);
        _exit(there[0] == 'w' ? 0 : 1);
    }
    read(ready[0], &byte, 1);
    struct iovec local = {here, sizeof here}, remote = {there, sizeof there};
    expect(process_vm_readv(child, &local, 1, &remote, 1, 0) == sizeof here, "process_vm_readv", 0);
    expect(here[0] == 'c' && here[9999] == 'c' && there[0] == 'p', "the child's bytes", here[0]);
    memset(here, 'w', sizeof here);
    expect(process_vm_writev(child, &local, 1, &remote, 1, 0) == sizeof here, "process_vm_writev", 0);
    int status;
    waitpid(child, &status, 0);
    expect(status == 0, "the child saw it", status);
    expect(process_vm_readv(child, &local, 1, &remote, 1, 0) == -1 && errno == ESRCH, "of nobody", 0);
}

static void trivia(void)
{
    struct sched_param parameters = {.sched_priority = 7};
    /* musl's own functions say ENOSYS without asking. */
    expect(syscall(SYS_sched_getscheduler, 0) == SCHED_OTHER, "policy", 0);
    expect(syscall(SYS_sched_getparam, 0, &parameters) == 0 && parameters.sched_priority == 0, "priority", parameters.sched_priority);
    expect(sched_get_priority_max(SCHED_FIFO) == 99 && sched_get_priority_min(SCHED_RR) == 1, "real-time priorities", 0);
    expect(sched_get_priority_max(SCHED_OTHER) == 0, "other priorities", 0);
    errno = 0;
    expect(getpriority(PRIO_PROCESS, 0) == 0 && errno == 0, "nice value", 0);
    uid_t real = 1, effective = 2, saved = 3;
    expect(getresuid(&real, &effective, &saved) == 0 && real == getuid() && saved == real, "getresuid", saved);
    expect(setresuid(-1, -1, -1) == 0 && setuid(getuid()) == 0, "staying who one is", 0);
}

int main(void)
{
    trivia();
    limits();
    usage();
    across();
    if (wrong == 0)
        printf("OK rlimits\n");
    return wrong != 0;
}
