/* Claim: a process that is moved to another memory group while it is in execve, or in fork with its child, is in that group
 * afterwards, and the group it was in can be removed meanwhile, although the new memory has been made in it so far. The files
 * are those of Linux' cgroup2. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "check.h"

#define ROOT "/sys/fs/cgroup"
enum { TRIES = 12, ARGUMENTS = 8, LENGTH = 14 << 10, MEMORY = 8 << 20, FROM_PARENT = 10, TO_PARENT = 11 };

static int lines(const char *file)
{
    char text[256];
    int fd = open(file, O_RDONLY), count = 0;
    ssize_t got = fd < 0 ? -1 : read(fd, text, sizeof text);
    close(fd);
    for (ssize_t i = 0; i < got; i++)
        count += text[i] == '\n';
    return count;
}

/* In the new memory: says so, and stays until it is told. */
static int arrive(void)
{
    char byte;
    return write(TO_PARENT, "x", 1) != 1 || read(FROM_PARENT, &byte, 1) != 1;
}

static int begin(void)
{
    return put(ROOT "/small/cgroup.procs", "0") == 0 && write(TO_PARENT, "b", 1) == 1;
}

/* The arguments are more than the group may have, so pages must leave before the program is loaded. */
static _Noreturn void in_execve(void)
{
    static char argument[LENGTH];
    char *arguments[ARGUMENTS + 2] = { "loaded" };
    memset(argument, 'a', sizeof argument - 1);
    for (int i = 1; i <= ARGUMENTS; i++)
        arguments[i] = argument;
    if (begin())
        execv("/proc/self/exe", arguments);
    _exit(3);
}

/* Its memory is copied in many steps. */
static _Noreturn void in_fork(void)
{
    char *memory = malloc(MEMORY);
    for (int i = 0; memory && i < MEMORY; i += 4096)
        memory[i] = (char)(i >> 12);
    if (!memory || !begin())
        _exit(3);
    pid_t child = fork();
    if (child == 0)
        _exit(arrive());
    int status = -1;
    _exit(waitpid(child, &status, 0) != child || status != 0);
}

/* Whether the process was still at it when it was moved. */
static int move_after(int yields, void (*what)(void), int processes)
{
    char byte, pid[16];
    int down[2], up[2];
    claim("mkdir", mkdir(ROOT "/small", 0755), 0);
    claim("a limit", put(ROOT "/small/memory.max", "96K"), 0);
    claim("pipes", pipe(down) | pipe(up), 0);
    pid_t child = forked();
    if (child == 0) {
        dup2(down[0], FROM_PARENT), dup2(up[1], TO_PARENT);
        close(down[1]), close(up[0]);
        what();
    }
    close(down[0]), close(up[1]);
    claim("it begins", read(up[0], &byte, 1), 1);
    for (int i = 0; i < yields; i++)
        sched_yield();
    snprintf(pid, sizeof pid, "%d", child);
    struct pollfd arrived = { up[0], POLLIN, 0 };
    int at_it = poll(&arrived, 1, 0) == 0;
    claim("it is moved", put(ROOT "/other/cgroup.procs", pid), 0);
    /* Nobody, unless the fork has come to its end. */
    int left = lines(ROOT "/small/cgroup.procs");
    if (!left)
        claim("rmdir", rmdir(ROOT "/small"), 0);
    claim("it arrives", read(up[0], &byte, 1), 1);
    if (!left)
        expectf(lines(ROOT "/other/cgroup.procs") == processes, "after %d turns they are not where they were moved", yields);
    claim("it goes on", write(down[1], "g", 1), 1);
    close(down[1]), close(up[0]);
    join(child, "its end");
    if (left)
        claim("rmdir afterwards", rmdir(ROOT "/small"), 0);
    return at_it && !left;
}

int main(int argc, char **argv)
{
    (void)argv;
    if (argc > 1)
        return arrive();
    claim("mkdir of the other", mkdir(ROOT "/other", 0755), 0);
    int in_time[2] = { 0, 0 };
    for (int i = 0; i < TRIES; i++) {
        in_time[0] += move_after(i, in_execve, 1);
        in_time[1] += move_after(i % 3, in_fork, 2);
    }
    claim("rmdir of the other", rmdir(ROOT "/other"), 0);
    expect(in_time[0] > 0, "moves while it was in execve", in_time[0]);
    if (!wrong)
        printf("OK moved-while-made claims=%d in_execve=%d in_fork=%d\n", claims, in_time[0], in_time[1]);
    return wrong != 0;
}
