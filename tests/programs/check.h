/* What the programs here have in common: claims that are counted, and children that answer for theirs. A program prints
 * `BROKEN what: …` for each claim that does not hold, and ends with 1 if there was one. */
#ifndef CHECK_H
#define CHECK_H

#include <errno.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

static int wrong;

static inline void expect(int true_, const char *what, long value)
{
    if (true_)
        return;
    printf("BROKEN %s: %ld (%#lx), errno %d\n", what, value, value, errno);
    wrong++;
}

/* fork, with nothing in the buffer that both would print. */
static inline pid_t forked(void)
{
    fflush(stdout);
    pid_t pid = fork();
    expect(pid >= 0, "fork", pid);
    return pid;
}

/* The end of a child. */
static inline _Noreturn void leave(void)
{
    fflush(stdout);
    _exit(wrong != 0);
}

/* Waits for a child, all of whose claims must have held. */
static inline void join(pid_t pid, const char *what)
{
    int status = -1;
    pid_t found = waitpid(pid, &status, 0);
    expect(found == pid && WIFEXITED(status) && WEXITSTATUS(status) == 0, what, status);
}

#endif
