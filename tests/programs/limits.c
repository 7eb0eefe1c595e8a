/* Claim: what a program can make the kernel keep has limits with an errno each: holes in a mapping, long texts in /proc,
 * open files. Descriptors are ints, whatever the upper half of a register holds. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "check.h"

enum { PAGE = 4096, HOLES = 70000, FILES = 6 };

static void descriptors(void)
{
    const long high = 1L << 32;
    long copy = syscall(SYS_dup, high | 1);
    expect(copy > 2, "dup of 1 with rubbish above", copy);
    expect(syscall(SYS_dup2, high | 1, high | (copy + 5)) == copy + 5, "dup2 with rubbish above", copy);
    expect(fcntl((int)copy + 5, F_GETFD) == 0, "the duplicate", copy + 5);
    expect(syscall(SYS_fcntl, high | copy, F_SETFD, FD_CLOEXEC) == 0, "F_SETFD with rubbish above", copy);
    expect(fcntl((int)copy, F_GETFD) == FD_CLOEXEC, "the flag that was set", copy);
    expect(syscall(SYS_close, high | copy) == 0, "close with rubbish above", copy);
    expect(syscall(SYS_close, high | copy) == -1 && errno == EBADF, "close of what is closed", copy);
    expect(syscall(SYS_close, high - 1) == -1 && errno == EBADF, "close of -1", -1);
    close((int)copy + 5);
}

/* Every second page unmapped: each hole makes an area more, and there is a limit to areas. */
static char *make_holes(void)
{
    char *all = mmap(0, (size_t)HOLES * 2 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    int made = 0;
    while (made < HOLES && munmap(all + (size_t)made * 2 * PAGE + PAGE, PAGE) == 0)
        made++;
    expect(made < HOLES && errno == ENOMEM, "holes until there are too many areas", made);
    expect(made > 10000, "holes that were made", made);
    expect(mprotect(all, PAGE, PROT_NONE) == 0, "mprotect that changes nothing", made);
    expect(munmap(all + (size_t)made * 2 * PAGE - 2 * PAGE, PAGE) == 0, "munmap of a whole area", made);
    return all;
}

/* The text for all these areas is megabytes long: it is read whole, or refused. */
static void long_texts(void)
{
    int files[FILES], opened = 0;
    while (opened < FILES && (files[opened] = open("/proc/self/maps", O_RDONLY)) >= 0)
        opened++;
    expect(opened == FILES || errno == ENOMEM, "opens of /proc/self/maps", opened);
    static char text[65536];
    for (int i = 0; i < opened; i++) {
        long len, lines = 0;
        while (i == 0 && (len = read(files[i], text, sizeof text)) > 0)
            for (long at = 0; at < len; at++)
                lines += text[at] == '\n';
        expect(i > 0 || lines > 10000, "lines of /proc/self/maps", lines);
        close(files[i]);
    }
}

int main(void)
{
    descriptors();
    char *all = make_holes();
    long_texts();
    expect(munmap(all, (size_t)HOLES * 2 * PAGE) == 0, "munmap of everything", 0);
    char *again = mmap(all, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    expect(again == all && *again == 0, "a page where the holes were", (long)again);
    if (!wrong)
        printf("OK limits\n");
    return wrong != 0;
}
