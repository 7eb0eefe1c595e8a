/* Claim: a process that is moved to another memory group while it is in execve is in that group afterwards, and the group it was
 * in can be removed meanwhile, although the new program has been loaded in it so far. The files are those of Linux' cgroup2. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sched.h>
#include <string.h>
#include <sys/stat.h>

#include "check.h"

#define ROOT "/sys/fs/cgroup"
enum { TRIES = 40, ARGUMENTS = 8, LENGTH = 14 << 10, FROM_PARENT = 10, TO_PARENT = 11 };

static int put(const char *file, const char *value)
{
    int fd = open(file, O_WRONLY | O_TRUNC);
    ssize_t written = fd < 0 ? -1 : write(fd, value, strlen(value));
    close(fd);
    return written == (ssize_t)strlen(value);
}

static const char *get(const char *file)
{
    static char text[256];
    int fd = open(file, O_RDONLY);
    ssize_t got = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    close(fd);
    text[got > 0 ? got : 0] = 0;
    return text;
}

/* The arguments are more than the group may have, so pages must leave before the program is loaded. */
static _Noreturn void become_another(void)
{
    static char argument[LENGTH];
    char *arguments[ARGUMENTS + 2] = { "loaded" };
    memset(argument, 'a', sizeof argument - 1);
    for (int i = 1; i <= ARGUMENTS; i++)
        arguments[i] = argument;
    if (put(ROOT "/small/cgroup.procs", "0") && write(TO_PARENT, "b", 1) == 1)
        execv("/proc/self/exe", arguments);
    _exit(3);
}

/* Whether the process was still in execve when it was moved. */
static int move_after(int yields)
{
    char byte, pid[16], cmdline[64];
    int down[2], up[2];
    claim("mkdir", mkdir(ROOT "/small", 0755), 0);
    claim("a limit", put(ROOT "/small/memory.max", "96K"), 1);
    claim("pipes", pipe(down) | pipe(up), 0);
    pid_t child = forked();
    if (child == 0) {
        dup2(down[0], FROM_PARENT), dup2(up[1], TO_PARENT);
        close(down[1]), close(up[0]);
        become_another();
    }
    close(down[0]), close(up[1]);
    claim("it begins", read(up[0], &byte, 1), 1);
    for (int i = 0; i < yields; i++)
        sched_yield();
    snprintf(pid, sizeof pid, "%d\n", child);
    snprintf(cmdline, sizeof cmdline, "/proc/%d/cmdline", child);
    claim("it is moved", put(ROOT "/other/cgroup.procs", pid), 1);
    int while_loading = strcmp(get(cmdline), "loaded") != 0;
    claim("rmdir", rmdir(ROOT "/small"), 0);
    claim("it is loaded", read(up[0], &byte, 1), 1);
    expect(!strcmp(get(ROOT "/other/cgroup.procs"), pid), "it is where it was moved, after turns", yields);
    claim("it goes on", write(down[1], "g", 1), 1);
    close(down[1]), close(up[0]);
    join(child, "its end");
    return while_loading;
}

int main(int argc, char **argv)
{
    (void)argv;
    if (argc > 1) {
        char byte;
        return write(TO_PARENT, "x", 1) != 1 || read(FROM_PARENT, &byte, 1) != 1;
    }
    claim("mkdir of the other", mkdir(ROOT "/other", 0755), 0);
    int while_loading = 0;
    for (int i = 0; i < TRIES; i++)
        while_loading += move_after(16 * i);
    claim("rmdir of the other", rmdir(ROOT "/other"), 0);
    expect(while_loading > TRIES / 4, "moves while it was in execve", while_loading);
    if (!wrong)
        printf("OK moved-in-exec claims=%d while_loading=%d\n", claims, while_loading);
    return wrong != 0;
}
