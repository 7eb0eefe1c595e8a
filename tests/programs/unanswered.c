/* Claim (F4): a process that waits for a page which the disk never brings can be killed, and holds up nobody else.
 *
 * `unanswered MIB MS` fills MIB and says READY. Somebody then has the disk not answer reads any more, and sends a line. From there on
 * a child wants pages that are on disk. Its parent calls and faults until the child has not moved for ten thousand of these, lives
 * for MS milliseconds more, and kills it. What the parent needs is locked, so that it wants nothing from the disk. */
#define _GNU_SOURCE
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "check.h"

enum { PAGE = 4096, OWN = 64, CALLS = 10000, RW = PROT_READ | PROT_WRITE, ANON = MAP_PRIVATE | MAP_ANONYMOUS };

static void lock_everything(void)
{
    char line[256];
    FILE *maps = fopen("/proc/self/maps", "r");
    while (maps && fgets(line, sizeof line, maps)) {
        unsigned long from = 0, to = 0;
        char readable = '-';
        sscanf(line, "%lx-%lx %c", &from, &to, &readable);
        if (strstr(line, "[stack]"))
            from = ((unsigned long)&from & -(unsigned long)PAGE) - 4 * PAGE;
        if (readable == 'r' && !strstr(line, "[v"))
            expect(mlock((void *)from, to - from) == 0, "mlock", (long)from);
    }
    expect(maps != NULL, "/proc/self/maps", 0);
}

/* One call, and one fault on memory that is given back now and then. */
static void call_and_fault(char *own, long n)
{
    syscall(SYS_getpid);
    own[n % OWN * PAGE] = 1;
    if (n % OWN == OWN - 1)
        expect(madvise(own, OWN * PAGE, MADV_DONTNEED) == 0, "madvise", n);
}

int main(int argc, char **argv)
{
    long pages = (argc > 1 ? atol(argv[1]) : 4) * 256, ms = argc > 2 ? atol(argv[2]) : 0;
    char *own = mmap(NULL, OWN * PAGE, RW, ANON, -1, 0);
    volatile long *touched = mmap(NULL, PAGE, RW, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    *touched = 0;
    lock_everything();
    expect(munlock(own, OWN * PAGE) == 0, "munlock", 0);
    volatile char *memory = mmap(NULL, (size_t)pages * PAGE, RW, ANON, -1, 0);
    for (long page = 0; page < pages; page++)
        memory[page * PAGE + page % PAGE] = (char)(page | 1);
    printf("READY\n");
    fflush(stdout);
    char line[8];
    expect(read(0, line, sizeof line) >= 0, "read", 0);

    pid_t child = forked();
    if (child == 0) {
        for (long n = 0;; n++) {
            long page = n % pages;
            *touched = n + 1;
            expect(memory[page * PAGE + page % PAGE] == (char)(page | 1), "page", page);
        }
    }
    long last = 0;
    for (long n = 0, quiet = 0; quiet < CALLS; n++) {
        call_and_fault(own, n);
        long now = *touched;
        quiet = now != 0 && now == last ? quiet + 1 : 0;
        last = now;
    }
    usleep((useconds_t)ms * 1000);
    int status = -1;
    claim("pages that the child has touched meanwhile", *touched, last);
    claim("the end of the child by itself", waitpid(child, &status, WNOHANG), 0);
    kill(child, SIGKILL);
    claim("the child", waitpid(child, &status, 0), child);
    claim("its end", WIFSIGNALED(status) ? WTERMSIG(status) : 0, SIGKILL);
    printf("%s unanswered claims=%d touched=%ld\n", wrong ? "FAIL" : "OK", claims, last);
    return wrong != 0;
}
