// Windows of a file (mmap with an offset): what they show, where they end, and what a shorter file does to them.
//
// Claims: a window shows the pages it names; behind it is SIGSEGV; a page past the file's end is SIGBUS; a private
// window keeps its stores for itself; a shared one shares them with read(2), write(2) and other windows; what is cut
// off and comes back is zero. Works in the current directory.
#define _GNU_SOURCE
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "check.h"

enum { PAGE = 4096, PAGES = 16 };

static sigjmp_buf back;

static void on_fault(int signal) {
    siglongjmp(back, signal);
}

// The signal that reading a byte causes, or 0.
static int fault_at(const volatile char *byte) {
    int signal = sigsetjmp(back, 1);
    if (signal == 0)
        (void)*byte;
    return signal;
}

static char *window(int fd, int flags, int first, int pages) {
    // Nothing else may be behind the window, so it goes into a range that is kept free.
    char *room = mmap(NULL, (PAGES + 2) * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    char *at = mmap(room, pages * PAGE, PROT_READ | PROT_WRITE, flags | MAP_FIXED, fd, (long)first * PAGE);
    claim("mmap", at == room, 1);
    return at;
}

int main(void) {
    struct sigaction action = {.sa_handler = on_fault};
    sigaction(SIGSEGV, &action, NULL);
    sigaction(SIGBUS, &action, NULL);

    int fd = open("windows", O_RDWR | O_CREAT | O_TRUNC, 0644);
    char page[PAGE];
    for (int i = 0; i < PAGES; i++) {
        memset(page, 'a' + i, PAGE);
        claim("write", write(fd, page, PAGE), PAGE);
    }

    char *shared = window(fd, MAP_SHARED, 3, 5), *private = window(fd, MAP_PRIVATE, 3, 5);
    for (int i = 0; i < 5; i++) {
        claim("first byte of a page", shared[i * PAGE], 'a' + 3 + i);
        claim("last byte of a page", private[i * PAGE + PAGE - 1], 'a' + 3 + i);
    }
    claim("behind a window", fault_at(shared + 5 * PAGE), SIGSEGV);

    private[PAGE] = '!';
    claim("a private store stays private", shared[PAGE], 'e');
    shared[2 * PAGE + 7] = '#';
    claim("a shared store is in the other window", private[2 * PAGE + 7], '#');
    claim("pread", pread(fd, page, PAGE, 5 * PAGE), PAGE);
    claim("a shared store is in the file", page[7], '#');
    claim("pwrite", pwrite(fd, "?", 1, 3 * PAGE + 1), 1);
    claim("a write is in the window", shared[1], '?');
    claim("msync", msync(shared, 5 * PAGE, MS_SYNC), 0);

    claim("ftruncate", ftruncate(fd, 5 * PAGE + 100), 0);
    claim("the page the end is in", shared[2 * PAGE + 7], '#');
    claim("behind the end in the page", shared[2 * PAGE + 100], 0);
    claim("a page past the end", fault_at(shared + 3 * PAGE), SIGBUS);
    claim("a page past the end, private", fault_at(private + 3 * PAGE), SIGBUS);
    claim("what a private window has of its own", private[PAGE], '!');
    claim("ftruncate", ftruncate(fd, PAGES * PAGE), 0);
    claim("what came back is zero", shared[3 * PAGE] | shared[2 * PAGE + 100], 0);
    claim("what was before the end is there", shared[2 * PAGE + 7], '#');

    claim("close", close(fd), 0);
    claim("unlink", unlink("windows"), 0);
    shared[0] = '+';
    claim("a window outlives the name", shared[0], '+');

    printf(wrong ? "FAIL file-windows broken=%d claims=%d\n" : "OK file-windows broken=%d claims=%d\n", wrong, claims);
    return wrong != 0;
}
