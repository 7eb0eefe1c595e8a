/* Claim: a process in a memory group of 8 MiB goes through 24 MiB and gets every byte back, never has more than its 8 MiB, and
 * takes nothing from its neighbour, which does not have one major fault meanwhile. Without swap the group runs out, and only
 * its own process is killed; so it is in a group that may have nothing, where the first program cannot fork if that takes
 * a page. The files are those of Linux' cgroup2. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define ROOT "/sys/fs/cgroup"
#define GROUP ROOT "/small"
enum { PAGE = 4096, OWN = 16 << 20, CHILD = 24 << 20, LIMIT = 8 << 20, ROUNDS = 3 };

static int failed;

static void check(int holds, const char *what)
{
    if (!holds) {
        printf("FAIL memgroup: %s (errno %d)\n", what, errno);
        failed = 1;
    }
}

static int put(const char *file, const char *value)
{
    int fd = open(file, O_WRONLY | O_TRUNC);
    if (fd < 0)
        return -1;
    ssize_t written = write(fd, value, strlen(value));
    close(fd);
    return written == (ssize_t)strlen(value) ? 0 : -1;
}

static char *get(const char *file)
{
    static char text[4096];
    int fd = open(file, O_RDONLY);
    ssize_t got = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    close(fd);
    text[got > 0 ? got : 0] = 0;
    return text;
}

static long number(const char *file) { return atol(get(file)); }

static long event(const char *name)
{
    const char *line = strstr(get(GROUP "/memory.events"), name);
    return line ? atol(line + strlen(name)) : -1;
}

static uint64_t *pages(size_t bytes)
{
    void *at = mmap(0, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED)
        _exit(3);
    return at;
}

static int go_round(uint64_t *memory, size_t bytes, uint64_t round)
{
    for (size_t i = 0; i < bytes / PAGE; i++) {
        uint64_t *page = memory + i * (PAGE / 8);
        if (round && (page[0] != i * 31 + round - 1 || page[511] != ~page[0]))
            return 0;
        page[0] = i * 31 + round;
        page[511] = ~page[0];
    }
    return 1;
}

static void in_group(void)
{
    if (put(GROUP "/cgroup.procs", "0"))
        _exit(4);
    uint64_t *memory = pages(CHILD);
    for (uint64_t round = 0; round < ROUNDS; round++)
        if (!go_round(memory, CHILD, round))
            _exit(5);
    _exit(0);
}

static long major_faults(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return usage.ru_majflt;
}

/* Runs the child in the group, going through our own pages until it ends. */
static int beside(uint64_t *own)
{
    pid_t child = fork();
    if (child == 0)
        in_group();
    int status = 0;
    uint64_t round = 1;
    while (waitpid(child, &status, WNOHANG) == 0)
        check(go_round(own, OWN, round++), "our own bytes");
    go_round(own, OWN, 0);
    return status;
}

static void has_group(int expected)
{
    DIR *directory = opendir(ROOT);
    int found = 0;
    for (struct dirent *entry; directory && (entry = readdir(directory));)
        found += !strcmp(entry->d_name, "small");
    check(directory && found == expected, "the directory lists its groups");
    if (directory)
        closedir(directory);
}

int main(void)
{
    setvbuf(stdout, 0, _IOLBF, 0);
    check(mkdir(GROUP, 0755) == 0, "mkdir");
    check(mkdir(GROUP, 0755) == -1 && errno == EEXIST, "mkdir twice");
    check(mkdir(GROUP "/deeper", 0755) == -1 && errno == EAGAIN, "one level");
    has_group(1);
    check(!strcmp(get(GROUP "/memory.max"), "max\n"), "no limit at first");
    check(put(GROUP "/memory.max", "8M\n") == 0 && number(GROUP "/memory.max") == LIMIT, "memory.max");
    check(put(GROUP "/memory.max", "much") == -1 && errno == EINVAL, "a limit is a number");
    check(put(GROUP "/memory.current", "0") == -1, "memory.current is not written to");
    check(put(GROUP "/cgroup.procs", "999999") == -1 && errno == ESRCH, "no such process");

    uint64_t *own = pages(OWN);
    go_round(own, OWN, 0);
    long before = major_faults();
    check(beside(own) == 0, "the child in the group ended well");
    long majors = major_faults() - before, most = number(GROUP "/memory.peak");
    long full = event("max ");
    check(majors == 0, "the neighbour has no major fault");
    check(most <= LIMIT && most > LIMIT / 2, "the group never had more than its limit");
    check(full > 0 && event("oom_kill ") == 0, "it was at its limit, and nobody was killed");
    check(number(GROUP "/memory.current") == 0 && number(GROUP "/memory.swap.current") == 0, "all is given back");

    check(put(GROUP "/memory.swap.max", "0") == 0, "memory.swap.max");
    int status = beside(own);
    check(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL, "without swap the child is killed");
    check(event("oom_kill ") == 1, "and that is counted");

    check(put(GROUP "/memory.max", "0") == 0 && number(GROUP "/memory.max") == 0, "nothing at all");
    status = beside(own);
    check(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL, "with nothing the child is killed, and does not wait");
    check(event("oom_kill ") == 2, "and that is counted, too");
    check(put(GROUP "/memory.max", "8M") == 0, "as before");

    check(put(GROUP "/cgroup.procs", "0") == 0 && atol(get(GROUP "/cgroup.procs")) == getpid(), "we join");
    check(rmdir(GROUP) == -1 && errno == EBUSY, "rmdir with a member");
    check(put(GROUP "/memory.max", "0") == 0, "nothing for us");
    int number = -1;
    long child = syscall(SYS_clone, CLONE_CHILD_SETTID | SIGCHLD, 0, 0, &number, 0);
    if (child == 0)
        _exit(0);
    check(child == -1 && errno == ENOMEM && number == -1, "a child that cannot be told its number is not made");
    check(put(GROUP "/memory.max", "max") == 0, "as much as there is");
    child = syscall(SYS_clone, CLONE_CHILD_SETTID | SIGCHLD, 0, 0, &number, 0);
    if (child == 0)
        _exit(number != getpid());
    check(child > 0 && waitpid(child, &status, 0) == child && status == 0, "another one is told");
    check(put(ROOT "/cgroup.procs", "0") == 0, "we leave");
    check(rmdir(GROUP) == 0, "rmdir");
    check(access(GROUP, F_OK) == -1 && errno == ENOENT, "it is gone");
    has_group(0);
    if (!failed)
        printf("OK memgroup majors=%ld peak_kib=%ld max=%ld\n", majors, most / 1024, full);
    return failed;
}
