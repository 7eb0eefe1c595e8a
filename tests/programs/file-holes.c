// Holes in files: fallocate(2) with FALLOC_FL_PUNCH_HOLE and FALLOC_FL_ZERO_RANGE.
//
// Claims: what is punched reads as zeroes through read(2) and through every shared window, but private copies made before stay;
// the bytes beside it and the file's size do not change; whole blocks are given back (st_blocks, f_bfree), also from the middle of
// an extent of a file with many; a zeroed range keeps its blocks. With threads storing into the range meanwhile, every word is
// either zero or one that was stored, and read(2) and the windows agree. Whoever is killed at it leaves
// every page as it was, or empty. A file of 4096 blocks goes in steps. Works in the current directory.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "check.h"

enum { PAGE = 4096, PAGES = 64, MANY = 1200, KILLED = 40 };
enum { PUNCH = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, ZERO = FALLOC_FL_ZERO_RANGE };

static int make(const char *name, int pages) {
    int fd = open(name, O_RDWR | O_CREAT | O_TRUNC, 0644);
    char page[PAGE];
    for (int i = 0; i < pages; i++) {
        memset(page, 'a' + i % 26, PAGE);
        claim("write", write(fd, page, PAGE), PAGE);
    }
    claim("fsync", fsync(fd), 0);
    return fd;
}

static struct stat look(int fd) {
    struct stat found;
    claim("fstat", fstat(fd, &found), 0);
    return found;
}

// Pages that a file has blocks for.
static long blocks(int fd) {
    claim("fsync", fsync(fd), 0);
    return look(fd).st_blocks / (PAGE / 512);
}

// Whether every byte of a range is the one that `make` wrote, or zero.
static int is_all(const char *bytes, long from, long to, int zero) {
    for (long at = from; at < to; at++)
        if (bytes[at] != (zero ? 0 : 'a' + at / PAGE % 26))
            return 0;
    return 1;
}

static void holes_and_windows(void) {
    static char bytes[PAGES * PAGE];
    int fd = make("holes", PAGES);
    char *shared = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    char *private = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
    claim("mapped", shared != MAP_FAILED && private != MAP_FAILED, 1);
    claim("shared before", is_all(shared, 0, PAGES * PAGE, 0), 1);
    claim("private before", is_all(private, 0, PAGES * PAGE, 0), 1);
    private[12 * PAGE + 5] = '!';
    shared[13 * PAGE] = '?';
    long before = blocks(fd);
    shared[14 * PAGE] = '?'; // dirty when it goes
    claim("punch whole pages", fallocate(fd, PUNCH, 8 * PAGE, 16 * PAGE), 0);
    claim("blocks given back", before - blocks(fd), 16);
    claim("size", look(fd).st_size, PAGES * PAGE);
    claim("hole, shared", is_all(shared, 8 * PAGE, 24 * PAGE, 1), 1);
    claim("before the hole", is_all(shared, 0, 8 * PAGE, 0), 1);
    claim("behind the hole", is_all(shared, 24 * PAGE, PAGES * PAGE, 0), 1);
    claim("hole, private, not copied", is_all(private, 8 * PAGE, 12 * PAGE, 1), 1);
    claim("a private copy stays", private[12 * PAGE + 5], '!');
    claim("all of it", private[12 * PAGE], 'a' + 12);
    claim("pread", pread(fd, bytes, sizeof bytes, 0), sizeof bytes);
    claim("hole, read", is_all(bytes, 8 * PAGE, 24 * PAGE, 1), 1);

    claim("punch with edges", fallocate(fd, PUNCH, 30 * PAGE + 100, 3 * PAGE - 150), 0);
    claim("blocks of whole pages only", before - blocks(fd), 17);
    claim("first edge, before", is_all(shared, 30 * PAGE, 30 * PAGE + 100, 0), 1);
    claim("edges and between", is_all(shared, 30 * PAGE + 100, 33 * PAGE - 50, 1), 1);
    claim("last edge, behind", is_all(shared, 33 * PAGE - 50, 34 * PAGE, 0), 1);
    claim("punch within a page", fallocate(fd, PUNCH, 40 * PAGE + 10, 20), 0);
    claim("within", is_all(shared, 40 * PAGE + 10, 40 * PAGE + 30, 1), 1);
    claim("around", is_all(shared, 40 * PAGE, 40 * PAGE + 10, 0) && is_all(shared, 40 * PAGE + 30, 41 * PAGE, 0), 1);
    claim("punch a hole again", fallocate(fd, PUNCH, 9 * PAGE + 7, 2 * PAGE), 0);
    claim("nothing more to give", before - blocks(fd), 17);

    claim("punch over the end", fallocate(fd, PUNCH, 60 * PAGE + 1, 100 * PAGE), 0);
    claim("size stays", look(fd).st_size, PAGES * PAGE);
    claim("to the end", is_all(shared, 60 * PAGE + 1, PAGES * PAGE, 1), 1);
    claim("punch behind the end", fallocate(fd, PUNCH, 70 * PAGE, PAGE), 0);
    claim("size stays, too", look(fd).st_size, PAGES * PAGE);

    claim("write into a hole", pwrite(fd, "x", 1, 10 * PAGE + 3), 1);
    shared[11 * PAGE + 4] = 'y';
    claim("written", shared[10 * PAGE + 3], 'x');
    claim("zero around it", is_all(shared, 10 * PAGE + 4, 11 * PAGE + 4, 1), 1);
    long given = before - blocks(fd);
    claim("two blocks, and perhaps some for a tree", given >= 17 + 3 - 2 - 3 && given <= 17 + 3 - 2, 1);
    claim("stored", (pread(fd, bytes, PAGE, 11 * PAGE), bytes[4]), 'y');
    claim("close", munmap(shared, PAGES * PAGE) | munmap(private, PAGES * PAGE) | close(fd), 0);
}

// Every other page goes, one by one, so that the file has more extents than fit into its inode, and then into one block.
static void many_holes(void) {
    int fd = make("many", MANY);
    for (int i = 1; i < MANY; i += 2)
        if (fallocate(fd, PUNCH, (long)i * PAGE, PAGE) != 0)
            return claim("punch one of many", errno, 0);
    for (int i = 0; i < MANY; i++) {
        char page[PAGE];
        claim("pread", pread(fd, page, PAGE, (long)i * PAGE), PAGE);
        claim("one of many", page[1000], i % 2 ? 0 : 'a' + i % 26);
    }
    long kept = blocks(fd);
    claim("half of them and a few for the tree", kept >= MANY / 2 && kept <= MANY / 2 + 8, 1);
    claim("punch all", fallocate(fd, PUNCH, 0, (long)MANY * PAGE), 0);
    claim("nothing left", blocks(fd) <= 1, 1);
    claim("close", close(fd), 0);
}

static void reserved(int refuses) {
    static char bytes[PAGES * PAGE];
    int fd = open("reserved", O_RDWR | O_CREAT | O_TRUNC, 0644);
    claim("reserve", fallocate(fd, 0, 0, PAGES * PAGE), 0);
    claim("write in it", pwrite(fd, "z", 1, 50 * PAGE), 1);
    for (int i = 2; i < 48; i += 4)
        claim("punch what is reserved", fallocate(fd, PUNCH, (long)i * PAGE, 2 * PAGE), 0);
    claim("reserve behind the end", fallocate(fd, FALLOC_FL_KEEP_SIZE, PAGES * PAGE, 8 * PAGE), 0);
    claim("punch to the end", fallocate(fd, PUNCH, 60 * PAGE, 4 * PAGE), 0);
    long kept = blocks(fd), most = PAGES + 8 - 24 - 4;
    claim("blocks left", kept >= most - 8 && kept <= most + 2, 1);
    claim("size", look(fd).st_size, PAGES * PAGE);
    claim("pread", pread(fd, bytes, sizeof bytes, 0), sizeof bytes);
    claim("what was written", bytes[50 * PAGE], 'z');
    bytes[50 * PAGE] = 0;
    claim("all else", is_all(bytes, 0, sizeof bytes, 1), 1);
    claim("close", close(fd), 0);

    fd = make("zeroed", 8);
    long before = blocks(fd);
    int zeroed = fallocate(fd, ZERO, PAGE + 100, 3 * PAGE);
    if (zeroed != 0 && errno == EOPNOTSUPP && !refuses) // a host without it
        goto out;
    claim("zero", zeroed, 0);
    claim("blocks stay", blocks(fd), before);
    claim("pread", pread(fd, bytes, 8 * PAGE, 0), 8 * PAGE);
    claim("zeroes", is_all(bytes, PAGE + 100, 4 * PAGE + 100, 1), 1);
    claim("before", is_all(bytes, 0, PAGE + 100, 0), 1);
    claim("behind", is_all(bytes, 4 * PAGE + 100, 8 * PAGE, 0), 1);
    claim("zero behind the end", fallocate(fd, ZERO | FALLOC_FL_KEEP_SIZE, 7 * PAGE, 3 * PAGE), 0);
    claim("size stays", look(fd).st_size, 8 * PAGE);
    claim("zero and grow", fallocate(fd, ZERO, 7 * PAGE, 5 * PAGE + 7), 0);
    claim("size grows", look(fd).st_size, 12 * PAGE + 7);
    claim("blocks for all", blocks(fd) >= 13, 1);
    if (refuses) {
        claim("collapse", fallocate(fd, FALLOC_FL_COLLAPSE_RANGE, 0, PAGE) == -1 ? errno : 0, EOPNOTSUPP);
        claim("insert", fallocate(fd, FALLOC_FL_INSERT_RANGE, 0, PAGE) == -1 ? errno : 0, EOPNOTSUPP);
    }
    claim("punch and grow", fallocate(fd, FALLOC_FL_PUNCH_HOLE, 0, PAGE) == -1 ? errno : 0, EOPNOTSUPP);
    claim("no length", fallocate(fd, PUNCH, 0, 0) == -1 ? errno : 0, EINVAL);
out:
    claim("close", close(fd), 0);
    fd = open("zeroed", O_RDONLY);
    claim("punch, read-only", fallocate(fd, PUNCH, 0, PAGE) == -1 ? errno : 0, EBADF);
    claim("close", close(fd), 0);
}

static atomic_int stop;

// Stores its pages' numbers, which are not zero, into all words of a window.
static void *store(void *window) {
    volatile long *words = window;
    for (long i = 0; !atomic_load(&stop); i = (i + 7919) % (PAGES * PAGE / 8))
        words[i] = i * 8 / PAGE + 1;
    return NULL;
}

static void while_others_store(void) {
    int fd = make("storm", PAGES);
    claim("punch all", fallocate(fd, PUNCH, 0, PAGES * PAGE), 0);
    long *words = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    pthread_t threads[3];
    for (int i = 0; i < 3; i++)
        claim("thread", pthread_create(&threads[i], NULL, store, words), 0);
    unsigned state = 12345;
    for (int i = 0; i < 150; i++) {
        state = state * 1103515245 + 12345;
        long first = (state >> 8) % PAGES, pages = 1 + (state >> 16 & 15);
        claim("punch", fallocate(fd, PUNCH, first * PAGE + (i % 3 ? 0 : 9), pages * PAGE), 0);
        if (i % 10 == 0)
            claim("fsync", fsync(fd), 0);
    }
    atomic_store(&stop, 1);
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    static long found[PAGES * PAGE / 8];
    claim("pread", pread(fd, found, sizeof found, 0), sizeof found);
    int strange = 0, differ = 0;
    for (long i = 0; i < PAGES * PAGE / 8; i++) {
        strange += words[i] != 0 && words[i] != i * 8 / PAGE + 1 && i % 512 != 1; // word 1 may be cut through
        differ += words[i] != found[i];
    }
    claim("words that nobody stored", strange, 0);
    claim("words that differ", differ, 0);
    claim("close", munmap(words, PAGES * PAGE) | close(fd), 0);
}

// Whoever punches holes is killed at some moment of it: a page is as it was or empty, the next one punches all of it.
static void killed(void) {
    static char bytes[PAGES * PAGE];
    int fd = make("killed", PAGES);
    for (int i = 0; i < KILLED; i++) {
        pid_t child = forked();
        if (child == 0)
            for (unsigned n = i;; n += 7) {
                char page[PAGE];
                memset(page, 'a' + n % PAGES % 26, PAGE);
                pwrite(fd, page, PAGE, n % PAGES * (long)PAGE);
                fallocate(fd, PUNCH, n * 5 % PAGES * (long)PAGE, (1 + n % 9) * (long)PAGE);
            }
        usleep(1 + i * 311 % 4096);
        int status = 0;
        claim("kill", kill(child, SIGKILL), 0);
        claim("killed", waitpid(child, &status, 0) == child && WIFSIGNALED(status), 1);
        claim("size", look(fd).st_size, PAGES * PAGE);
        claim("pread", pread(fd, bytes, sizeof bytes, 0), sizeof bytes);
        for (long page = 0; page < PAGES; page++) {
            int zero = bytes[page * PAGE] == 0;
            // Only a write that is cut short leaves a page half written.
            int whole = is_all(bytes, page * PAGE, (page + 1) * PAGE, zero);
            for (long at = page * PAGE; !whole && at < (page + 1) * PAGE; at++)
                claim("a byte of a torn page", bytes[at] == 0 || bytes[at] == 'a' + page % 26, 1);
        }
    }
    claim("punch all", fallocate(fd, PUNCH, 0, PAGES * PAGE), 0);
    claim("nothing left", blocks(fd) <= 1, 1);
    claim("close", close(fd) | unlink("killed"), 0);
}

static void in_memory(void) {
    int fd = memfd_create("holes", MFD_ALLOW_SEALING);
    char page[PAGE];
    memset(page, 'm', PAGE);
    for (int i = 0; i < 8; i++)
        claim("write", write(fd, page, PAGE), PAGE);
    char *window = mmap(NULL, 8 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    claim("blocks", look(fd).st_blocks, 8 * 8);
    claim("punch", fallocate(fd, PUNCH, 2 * PAGE + 1, 4 * PAGE), 0);
    claim("blocks given back", look(fd).st_blocks, 5 * 8);
    claim("first byte", window[2 * PAGE], 'm');
    claim("hole", is_all(window, 2 * PAGE + 1, 6 * PAGE + 1, 1), 1);
    claim("behind", window[6 * PAGE + 1], 'm');
    claim("unmap", munmap(window, 8 * PAGE), 0);
    claim("seal", fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), 0);
    claim("sealed", fallocate(fd, PUNCH, 0, PAGE) == -1 ? errno : 0, EPERM);
    claim("close", close(fd), 0);
}

static long free_blocks(void) {
    struct statvfs found;
    claim("statvfs", statvfs(".", &found), 0);
    return found.f_bfree;
}

// What was deleted is buried piece by piece: waited for, but not for ever.
static void expect_free(const char *what, long before) {
    long now = free_blocks();
    for (int patience = 0; now != before && patience < 20000; patience++) {
        usleep(1000);
        now = free_blocks();
    }
    claim(what, now, before);
}

// A large file goes step by step, and all of it in the end.
static void deletion(void) {
    long before = free_blocks();
    int fd = open("large", O_RDWR | O_CREAT | O_TRUNC, 0644);
    claim("reserve", fallocate(fd, 0, 0, 4096 * PAGE), 0);
    claim("fsync", fsync(fd), 0);
    claim("unlink", unlink("large") | close(fd), 0);
    expect_free("free after a deletion", before);
}

// What is reserved behind the end goes with a cut, and with the file.
static void reserved_behind(int size, int cut) {
    long before = free_blocks();
    int fd = open("behind", O_RDWR | O_CREAT | O_TRUNC, 0644);
    claim("reserve", fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, 256 * PAGE), 0);
    claim("a size", ftruncate(fd, size) | fsync(fd), 0);
    claim("a cut", ftruncate(fd, cut) | fsync(fd), 0);
    claim("unlink", unlink("behind") | fsync(fd) | close(fd), 0);
    expect_free("free after a deletion with blocks behind the end", before);
}

int main(int argc, char **argv) {
    int is_ours = argc > 1 && strcmp(argv[1], "refuses") == 0;
    holes_and_windows();
    many_holes();
    reserved(is_ours);
    while_others_store();
    killed();
    in_memory();
    if (is_ours) {
        deletion();
        reserved_behind(PAGE, 0);
        reserved_behind(PAGE, PAGE);
        reserved_behind(200 * PAGE, 100 * PAGE);
    }
    const char *names[] = {"holes", "many", "reserved", "zeroed", "storm"};
    for (int i = 0; i < 5; i++)
        if (!is_ours || i > 1) // two are left for whoever looks at the disk
            claim("unlink", unlink(names[i]), 0);
    if (wrong)
        return 1;
    printf("OK file-holes claims=%d\n", claims);
}
