/* Claim: whichever frame allocation of a program fails for good, with all that follow it, each call is refused for want of memory or
 * the program ends for it; nobody waits for ever, and nothing is left behind. COUNT children, one after the other, do a little of
 * everything. The kernel has the n-th frame allocation of each fail, n growing, and all others until that child has ended
 * (fail_frame=children:…). The books are read before the first and after each. Works in the current directory. With a second argument,
 * `locked`, each child first locks all it has, so that none of that can leave for what it does.
 *
 * With `leave` instead, parent and child each write some MiB, together far less than RAM, and the n-th allocation is one of the
 * child's: so whatever leaves has left while every allocation failed. All that the parent has must come back. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>

#include "check.h"

enum { PAGE = 4096, MIB = 1 << 20, RW = PROT_READ | PROT_WRITE, ANON = MAP_PRIVATE | MAP_ANONYMOUS };

enum { REFUSED = 3 };
static int refused;

/* Whether a call was done: if not, it was refused for want of memory. */
static int done(int true_, const char *what)
{
    if (!true_) {
        expect(errno == ENOMEM || errno == EAGAIN, what, -1);
        refused = REFUSED;
    }
    return true_;
}

static char *map(size_t bytes, int flags, int fd)
{
    char *at = mmap(NULL, bytes, RW, flags, fd, 0);
    return done(at != MAP_FAILED, "mmap") ? at : NULL;
}

static void fill(char *at, long pages, char word)
{
    for (long page = 0; page < pages; page++)
        at[page * PAGE + page] = (char)(word + page);
}

static void look(const char *at, long pages, char word, const char *what)
{
    for (long page = 0; page < pages; page++)
        expect(at[page * PAGE + page] == (char)(word + page), what, page);
}

static void own_memory(void)
{
    enum { PAGES = 16 };
    char *at = map(PAGES * PAGE, ANON, -1);
    if (!at)
        return;
    fill(at, PAGES, 'a');
    /* Areas in pieces, a page that is given up, and one that moves. */
    done(mprotect(at + 4 * PAGE, PAGE, PROT_READ) == 0, "mprotect");
    if (done(madvise(at + 8 * PAGE, PAGE, MADV_DONTNEED) == 0, "madvise"))
        at[8 * PAGE + 8] = 'a' + 8;
    look(at, PAGES, 'a', "own memory");
    char *more = mremap(at, PAGES * PAGE, 2 * PAGES * PAGE, MREMAP_MAYMOVE);
    if (done(more != MAP_FAILED || errno == EFAULT, "mremap") && more != MAP_FAILED)
        at = more;
    done(munmap(at, 2 * PAGES * PAGE) == 0, "munmap");
}

/* A table for each page. */
static void far_apart(void)
{
    char *at = map((size_t)1 << 30, ANON | MAP_NORESERVE, -1);
    for (long i = 0; at && i < 8; i++)
        at[i * 100 * MIB] = 'f';
    if (at)
        done(munmap(at, (size_t)1 << 30) == 0, "munmap");
}

static void shared_memory(void)
{
    int fd = memfd_create("droughts", 0);
    if (!done(fd >= 0, "memfd_create"))
        return;
    char *at = done(ftruncate(fd, 8 * PAGE) == 0, "ftruncate") ? map(8 * PAGE, MAP_SHARED, fd) : NULL;
    if (at) {
        fill(at, 8, 'm');
        look(at, 8, 'm', "shared memory");
        done(munmap(at, 8 * PAGE) == 0, "munmap");
    }
    close(fd);
}

static void file(void)
{
    static char text[3 * PAGE];
    int fd = open("file", O_RDWR | O_CREAT | O_TRUNC, 0644);
    if (!done(fd >= 0, "open"))
        return;
    memset(text, 't', sizeof text);
    ssize_t written = write(fd, text, sizeof text);
    done(written >= 0, "write");
    memset(text, 0, sizeof text);
    ssize_t found = pread(fd, text, sizeof text, 0);
    if (done(found >= 0, "pread")) {
        expect(found <= (written > 0 ? written : 0), "what was read", found);
        for (long i = 0; i < found; i++)
            expect(text[i] == 't', "a byte of the file", i);
    }
    if (done(ftruncate(fd, 8 * PAGE) == 0, "ftruncate")) {
        char *at = map(8 * PAGE, MAP_SHARED, fd), *own = map(8 * PAGE, MAP_PRIVATE, fd);
        if (at) {
            fill(at, 8, 'w');
            look(at, 8, 'w', "a window");
            done(msync(at, 8 * PAGE, MS_SYNC) == 0, "msync");
        }
        if (own)
            fill(own, 8, 'o');
        if (own)
            look(own, 8, 'o', "own pages of a file");
    }
    done(fsync(fd) == 0, "fsync");
    close(fd);
    done(rename("file", "other") == 0, "rename");
    struct stat there;
    if (stat("other", &there) == 0)
        done(unlink("other") == 0, "unlink");
}

static void family(void)
{
    char *at = map(8 * PAGE, ANON, -1);
    if (!at)
        return;
    fill(at, 8, 'p');
    pid_t pid = fork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        fill(at, 4, 'c');
        look(at, 4, 'c', "a child's own");
        look(at + 4 * PAGE, 0, 'p', "");
        leave();
    }
    if (done(pid > 0, "fork")) {
        fill(at + 4 * PAGE, 4, 'q');
        look(at, 4, 'p', "a parent's own");
        int status = -1;
        expect(waitpid(pid, &status, 0) == pid, "waitpid", status);
        expect(status == 0 || status == SIGKILL, "a grandchild", status);
    }
    done(munmap(at, 8 * PAGE) == 0, "munmap");
}

static void *answer(void *question)
{
    char local[2 * PAGE];
    memset(local, 7, sizeof local);
    return (char *)question + local[PAGE];
}

static void threads(void)
{
    pthread_t thread;
    pthread_attr_t small;
    pthread_attr_init(&small), pthread_attr_setstacksize(&small, 64 << 10);
    errno = pthread_create(&thread, &small, answer, NULL);
    if (done(errno == 0, "pthread_create")) {
        void *result = NULL;
        pthread_join(thread, &result);
        expect(result == (void *)7, "a thread", (long)result);
    }
}

static void kernel_memory(void)
{
    static char text[2 * PAGE];
    int ends[2];
    if (done(pipe(ends) == 0, "pipe")) {
        ssize_t sent = write(ends[1], text, sizeof text);
        if (done(sent > 0, "write to a pipe"))
            expect(read(ends[0], text, sizeof text) == sent, "read from a pipe", sent);
        close(ends[0]), close(ends[1]);
    }
    const char *const names[] = {"/proc/self/maps", "/proc/meminfo", "/proc/self/status"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        int fd = open(names[i], O_RDONLY);
        if (done(fd >= 0, names[i])) {
            done(read(fd, text, sizeof text) > 0, names[i]);
            close(fd);
        }
    }
}

/* Does something to each area of the program. Of the stack, which is a larger area than is used, to what is, and a little more. */
static void each_area(void what(char *from, size_t length, int rights))
{
    static char text[4 * PAGE];
    int fd = open("/proc/self/maps", O_RDONLY);
    if (!done(fd >= 0, "maps"))
        return;
    ssize_t length = read(fd, text, sizeof text - 1);
    close(fd);
    if (!done(length > 0, "maps"))
        return;
    text[length] = 0;
    for (char *line = text, *next; *line; line = next) {
        next = strchr(line, '\n') + 1;
        next[-1] = 0;
        char *rest;
        unsigned long from = strtoul(line, &rest, 16), to = strtoul(rest + 1, &rest, 16);
        if (strstr(rest, "[stack]"))
            from = ((unsigned long)&from & -(unsigned long)PAGE) - 4 * PAGE;
        if (rest[1] == 'r' && !strstr(rest, "[v"))
            what((char *)from, to - from, PROT_READ | (rest[2] == 'w' ? PROT_WRITE : 0) | (rest[3] == 'x' ? PROT_EXEC : 0));
    }
}

static void make_writable(char *from, size_t length, int rights)
{
    done(mprotect(from, length, rights | PROT_WRITE) == 0, "mprotect");
}

static void lock(char *from, size_t length, int rights)
{
    (void)rights;
    done(mlock(from, length) == 0, "mlock");
}

static void store(char *from, size_t length, int rights)
{
    (void)rights;
    for (volatile char *at = from; at < from + length; at += PAGE)
        *at = *at;
}

static void live(void)
{
    for (int round = 0; round < 4; round++) {
        own_memory();
        shared_memory();
        file();
        family();
        threads();
        far_apart();
        kernel_memory();
    }
}

struct books {
    long anon, shared, tables, swap, processes, threads, slab;
};

static const struct books ANYTHING = {LONG_MAX, LONG_MAX, LONG_MAX, LONG_MAX, LONG_MAX, LONG_MAX, LONG_MAX};

/* The number behind a name that begins a line of a file, 0 if there is none. Nothing here takes memory. */
static long figure(const char *path, const char *name)
{
    static char text[4 * PAGE];
    int fd = open(path, O_RDONLY);
    long length = 0, got = 0;
    while ((got = read(fd, text + length, sizeof text - 1 - (size_t)length)) > 0)
        length += got;
    close(fd);
    text[length] = 0;
    char *line = strstr(text, name);
    return line ? strtol(line + strlen(name), NULL, 10) : 0;
}

static struct books books(void)
{
    const char *meminfo = "/proc/meminfo", *slabinfo = "/proc/slabinfo";
    return (struct books){
        .anon = figure(meminfo, "\nAnonPages:"),
        .shared = figure(meminfo, "\nShmem:"),
        .tables = figure(meminfo, "\nPageTables:"),
        .swap = figure(meminfo, "\nSwapTotal:") - figure(meminfo, "\nSwapFree:") -
                4 * figure("/proc/vmstat", "\nebb_open_slots"),
        .processes = figure(slabinfo, "\nprocess "),
        .threads = figure(slabinfo, "\nthread ") + figure(slabinfo, "\nuser_thread "),
        .slab = figure(meminfo, "\nSlab:"),
    };
}

static int no_more_than(struct books now, struct books before)
{
    return now.anon <= before.anon && now.shared <= before.shared && now.tables <= before.tables &&
           now.swap <= before.swap && now.processes <= before.processes && now.threads <= before.threads;
}

/* All that the program itself has comes back and is written to, so that none of it has a copy in swap. What is taken down behind a
 * program's back is waited for, but not for ever. */
static struct books books_after(struct books before)
{
    struct books now;
    int patience = 0;
    do {
        usleep(patience ? 1000 : 0);
        each_area(store);
        now = books();
    } while (!no_more_than(now, before) && patience++ < 1000);
    return now;
}

static void print(const char *when, struct books b)
{
    printf("BOOKS %s anon=%ld shared=%ld tables=%ld swap=%ld processes=%ld threads=%ld slab=%ld\n", when, b.anon, b.shared,
           b.tables, b.swap, b.processes, b.threads, b.slab);
}

/* Runs a child; says how it ended. */
static int one(long child, int locked)
{
    pid_t pid = forked();
    if (pid == 0) {
        if (locked)
            each_area(lock);
        live();
        fflush(stdout);
        _exit(wrong ? 1 : refused);
    }
    int status = -1;
    expect(waitpid(pid, &status, 0) == pid, "waitpid", child);
    expect(status == SIGKILL || status == REFUSED << 8 || status == 0, "a child", status);
    return status;
}

enum { LEAVING = 1024 };

/* Pages that left while a child could have no frame. */
static void leave_without_a_frame(void)
{
    char *at = map(LEAVING * PAGE, ANON, -1);
    fill(at, LEAVING, 'P');
    long before = figure("/proc/vmstat", "\npswpout ");
    int status = -1;
    pid_t pid = forked();
    if (pid == 0) {
        char *own = map(LEAVING * PAGE, ANON, -1);
        if (own)
            fill(own, LEAVING, 'C');
        _exit(0);
    }
    expect(waitpid(pid, &status, 0) == pid, "waitpid", pid);
    long out = figure("/proc/vmstat", "\npswpout ") - before;
    look(at, LEAVING, 'P', "what left and came back");
    printf("LEFT before=%ld pages=%ld child=%d\n", before, out, status);
    expect(status == SIGKILL, "a child without a frame", status);
}

int main(int argc, char **argv)
{
    long count = argc > 1 ? atol(argv[1]) : 0, ended = 0, refusals = 0;
    int locked = argc > 2 && strcmp(argv[2], "locked") == 0;
    if (argc > 2 && strcmp(argv[2], "leave") == 0) {
        leave_without_a_frame();
        printf("%s droughts\n", wrong ? "FAILED" : "OK");
        return wrong != 0;
    }
    /* The first reading is for what only reading takes. */
    each_area(make_writable);
    books_after(ANYTHING);
    struct books before = books_after(ANYTHING), after = before;
    print("before", before);
    for (long child = 0; child < count && wrong == 0; child++) {
        int status = one(child, locked);
        ended += status == SIGKILL;
        refusals += status == REFUSED << 8;
        after = books_after(before);
        expect(no_more_than(after, before), "what is left behind child", child);
    }
    print("after", after);
    printf("CHILDREN count=%ld ended=%ld refused=%ld\n", count, ended, refusals);
    printf("%s droughts\n", wrong ? "FAILED" : "OK");
    return wrong != 0;
}
