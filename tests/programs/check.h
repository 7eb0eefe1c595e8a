/* What the programs here have in common: claims that are counted, and children that answer for theirs. A program prints
 * `BROKEN what: …` for each claim that does not hold, and ends with 1 if there was one. */
#ifndef CHECK_H
#define CHECK_H

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* Claims that did not hold; claims by `claim`. */
static int wrong, claims;

/* That something holds; else what it was that did not, as printf writes it. */
__attribute__((format(printf, 2, 3))) static inline void expectf(int true_, const char *what, ...)
{
    if (true_)
        return;
    int error = errno;
    va_list values;
    va_start(values, what);
    printf("BROKEN ");
    vprintf(what, values);
    printf(", errno %d\n", error);
    fflush(stdout);
    va_end(values);
    wrong++;
}

static inline void expect(int true_, const char *what, long value)
{
    expectf(true_, "%s: %ld (%#lx)", what, value, value);
}

static inline void claim(const char *what, long found, long expected)
{
    claims++;
    expectf(found == expected, "%s: found %ld, expected %ld", what, found, expected);
}

/* Writes all of a text to a file that is there; -1 if that fails, and errno. */
static inline int put(const char *file, const char *value)
{
    int fd = open(file, O_WRONLY | O_TRUNC);
    if (fd < 0)
        return -1;
    ssize_t written = write(fd, value, strlen(value));
    int error = errno;
    close(fd);
    errno = error;
    return written == (ssize_t)strlen(value) ? 0 : -1;
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
