/* Claim: what is stored in a shared window of a file gets to the file at three occasions: when it is synced, when memory is short, and
 * when nobody has the file any more. Between them a marker is written and made durable, so that whoever has the order of the disk's
 * writes can tell which occasion it was. Works in the current directory; argument: MiB of memory to be short with. */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "check.h"

enum { PAGE = 4096, PAGES = 128, WORDS = PAGE / 8 };

/* Every word of page i of file `which` is this. */
static uint64_t content(uint64_t which, uint64_t page)
{
    return 0x6562620000000000 | which << 32 | page;
}

static uint64_t *window(const char *name)
{
    int fd = open(name, O_RDWR | O_CREAT | O_TRUNC, 0644);
    expect(fd >= 0 && ftruncate(fd, PAGES * PAGE) == 0, name, fd);
    uint64_t *at = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    expect(at != MAP_FAILED && close(fd) == 0, "mmap", 0);
    return at;
}

static void fill(uint64_t *at, uint64_t which)
{
    for (long i = 0; i < PAGES * WORDS; i++)
        at[i] = content(which, (uint64_t)i / WORDS);
}

static void mark(uint64_t number)
{
    uint64_t words[WORDS];
    for (int i = 0; i < WORDS; i++)
        words[i] = content(0, number);
    int fd = open("marker", O_RDWR | O_CREAT, 0644);
    expect(pwrite(fd, words, PAGE, (off_t)number * PAGE) == PAGE && fsync(fd) == 0 && close(fd) == 0, "a marker", 0);
}

int main(int count, char **words)
{
    long mib = count > 1 ? atol(words[1]) : 16;
    uint64_t *synced = window("synced"), *pressed = window("pressed"), *ended = window("ended");
    mark(0);
    fill(synced, 1);
    expect(msync(synced, PAGES * PAGE, MS_SYNC) == 0, "msync", 0);
    mark(1);

    fill(pressed, 2);
    mark(2);
    volatile char *much = mmap(NULL, (size_t)mib << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (int round = 1; round < 3; round++)
        for (long at = 0; at < mib << 20; at += 64)
            much[at] = (char)(at * round);
    mark(3);
    expect(pressed[7 * WORDS] == content(2, 7), "a page that was away", 7);

    fill(ended, 3);
    mark(4);
    munmap(ended, PAGES * PAGE);
    printf(wrong ? "FAIL write-back\n" : "OK write-back\n");
    return wrong != 0;
}
