/* Claim: read and write between a file and a mapping of the very pages that are read or written come to their end,
 * however many do it at once and however little memory they have. COUNT threads in a memory group of PAGES pages copy
 * within two pages of one file, while another process goes round MIB MiB of memory without end, or only computes if
 * that is 0: then nothing that happens to anybody else gets the threads on. With a fourth word, `together`, they copy within
 * eight pages, which are the group's and as many as one copy pins at a time, and all begin with all of them at once: so there are
 * more copies than the machine has pins for. Works in the current directory. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"

#define GROUP "/sys/fs/cgroup/copies"
enum { PAGE = 4096, HALF = PAGE / 2, ROUNDS = 8, MOST = 8 * PAGE };

static int file, together;
static long size = 2 * PAGE;
static char *window;
static pthread_barrier_t all_are_there;

/* What the file is full of: the same when it is moved by half a page, and by nothing less. */
static char content(long at) { return (char)(at % HALF * 7 % 251); }

static void make_file(void)
{
    static char text[MOST];
    for (long i = 0; i < size; i++)
        text[i] = content(i);
    file = open("copies", O_RDWR | O_CREAT | O_TRUNC, 0644);
    expect(write(file, text, (size_t)size) == size && fsync(file) == 0, "the file", file);
    window = mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
}

/* Half a page to the other half of the same page; all pages onto themselves; each page to the one before it. */
static void *copies(void *number_)
{
    const struct {
        long from, to, length;
    } ways[] = {{0, HALF, HALF}, {HALF, 0, HALF}, {0, 0, size}, {PAGE, 0, size - PAGE}};
    long first = together ? 2 : (long)number_;
    if (together)
        pthread_barrier_wait(&all_are_there);
    for (long round = first; round < first + ROUNDS; round++) {
        long from = ways[round % 4].from, length = ways[round % 4].length;
        char *to = window + ways[round % 4].to;
        ssize_t done = round % 8 < 4 ? pread(file, to, (size_t)length, from) : pwrite(file, to, (size_t)length, from);
        expect(done == length, "a copy", done);
    }
    return NULL;
}

static void all_copies(long count)
{
    pthread_t threads[256];
    pthread_attr_t small;
    pthread_attr_init(&small), pthread_attr_setstacksize(&small, 32 << 10);
    pthread_barrier_init(&all_are_there, NULL, (unsigned)count);
    for (long i = 0; i < count; i++)
        expect(pthread_create(&threads[i], &small, copies, (void *)i) == 0, "pthread_create", i);
    for (long i = 0; i < count; i++)
        pthread_join(threads[i], NULL);
    for (long i = 0; i < size; i++)
        if (window[i] != content(i)) {
            expect(0, "a byte that is none of the file's", i);
            break;
        }
}

int main(int count, char **words)
{
    together = count == 5 && strcmp(words[4], "together") == 0;
    if (count != 4 && !together)
        return 2;
    long threads = atol(words[1]), pages = atol(words[2]), mib = atol(words[3]);
    char text[PAGE];
    if (together)
        size = MOST;
    else
        make_file();

    pid_t hungry = fork();
    if (hungry == 0) {
        for (; mib == 0;)
            ;
        char *much = mmap(NULL, (size_t)mib << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        for (long round = 0;; round++)
            for (long at = 0; at < mib << 20; at += PAGE)
                much[at] = (char)round;
    }
    pid_t child = fork();
    if (child == 0) {
        expect(mkdir(GROUP, 0755) == 0, "a group", 0);
        snprintf(text, sizeof text, "%ld", pages * PAGE);
        expect(put(GROUP "/memory.max", text) == 0, "the limit", 0);
        expect(put(GROUP "/cgroup.procs", "0") == 0, "joining", 0);
        if (together)
            make_file();
        all_copies(threads);
        fflush(stdout);
        _exit(wrong != 0);
    }
    int status = -1;
    expect(waitpid(child, &status, 0) == child && status == 0, "the group", status);
    kill(hungry, SIGKILL);
    waitpid(hungry, NULL, 0);
    int refused = open(GROUP "/memory.events", O_RDONLY);
    expect(refused >= 0, "what the group was refused", refused);
    ssize_t length = read(refused, text, sizeof text - 1);
    text[length > 0 ? length : 0] = 0;
    const char *line = strstr(text, "\nmax ");
    printf("REFUSED times=%ld\n", line ? atol(line + 5) : -1);
    printf(wrong ? "FAIL self-copies\n" : "OK self-copies threads=%ld\n", threads);
    return wrong != 0;
}
