// Mounting the data disk anew: mount(2) with MS_REMOUNT, and what is refused.
//
// Claims: descriptors, their positions, directories and mappings go on working, with what was in them; of files that nobody maps
// nothing stays in memory (mincore(2)); with a nameless file in use it is refused, EBUSY; so is what cannot be done. Killed at any
// moment of it, somebody else can do it. Works at `/`.
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "check.h"

enum { PAGE = 4096, PAGES = 64, NAMES = 200, KILLED = 40 };

static int outcome(int result) {
    return result == 0 ? 0 : errno;
}

static int remount(void) {
    return outcome(mount("none", "/", NULL, MS_REMOUNT, NULL));
}

// How many of the file's pages are in memory.
static int resident(int fd) {
    unsigned char pages[PAGES];
    void *at = mmap(NULL, PAGES * PAGE, PROT_READ, MAP_SHARED, fd, 0);
    int count = 0;
    claim("mincore", at != MAP_FAILED && mincore(at, PAGES * PAGE, pages) == 0, 1);
    for (int i = 0; i < PAGES; i++)
        count += pages[i] & 1;
    munmap(at, PAGES * PAGE);
    return count;
}

// Whoever remounts is killed at some moment of it, again and again; the next one does it all the same, and nothing is lost.
static void killed(void) {
    int fd = open("/beside", O_RDWR | O_CREAT | O_TRUNC, 0644);
    for (int i = 0; i < KILLED; i++) {
        pid_t child = forked();
        if (child == 0)
            for (;;) {
                pwrite(fd, "again", 5, PAGE);
                remount();
            }
        unsigned char mark = 100 + i, marks[KILLED];
        claim("pwrite", pwrite(fd, &mark, 1, i), 1);
        usleep(1 + i * 311 % 4096);
        int status = 0;
        claim("kill", kill(child, SIGKILL), 0);
        claim("killed", waitpid(child, &status, 0) == child && WIFSIGNALED(status), 1);
        claim("remount after it", remount(), 0);
        claim("pread", pread(fd, marks, i + 1, 0), i + 1);
        for (int j = 0; j <= i; j++)
            claim("what was written", marks[j], 100 + j);
    }
    claim("close", close(fd) | unlink("/beside"), 0);
}

int main(void) {
    killed();
    char page[PAGE], again[PAGE];
    int fd = open("data", O_RDWR | O_CREAT | O_TRUNC, 0644);
    for (int i = 0; i < PAGES; i++) {
        memset(page, i + 1, PAGE);
        claim("write", write(fd, page, PAGE), PAGE);
    }
    claim("mkdir", mkdir("names", 0755) | chdir("names"), 0);
    for (int i = 0; i < NAMES; i++) {
        char name[16];
        snprintf(name, sizeof name, "name-%d", i);
        close(open(name, O_WRONLY | O_CREAT, 0644));
    }
    DIR *names = opendir(".");
    int seen = 0;
    for (; seen < NAMES / 2; seen++)
        readdir(names);
    claim("position", lseek(fd, 3 * PAGE, SEEK_SET), 3 * PAGE);

    int mapped = open("/mapped", O_RDWR | O_CREAT | O_TRUNC, 0644);
    claim("a page", ftruncate(mapped, PAGE), 0);
    char *window = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, mapped, 0);
    claim("close", close(mapped), 0);
    strcpy(window, "stored before");

    claim("in memory before", resident(fd), PAGES);
    claim("remount", remount(), 0);
    claim("in memory after", resident(fd), 0);
    claim("read on", read(fd, page, PAGE), PAGE);
    memset(again, 4, PAGE);
    claim("where it was", memcmp(page, again, PAGE), 0);
    claim("all of it", lseek(fd, 0, SEEK_END), PAGES * PAGE);
    while (readdir(names))
        seen++;
    claim("names, with . and ..", seen, NAMES + 2);
    claim("working directory", access("name-7", F_OK), 0);
    claim("the window", strcmp(window, "stored before"), 0);
    memset(window, 0, PAGE);
    memcpy(window, "stored after", 12);
    claim("again", remount(), 0);
    claim("append", pwrite(fd, "end", 3, PAGES * PAGE), 3);
    claim("fsync", fsync(fd), 0);

    claim("unlink", unlink("/data"), 0);
    claim("nameless", remount(), EBUSY);
    claim("it can be read", pread(fd, page, 3, PAGES * PAGE) == 3 && memcmp(page, "end", 3) == 0, 1);
    claim("close", close(fd), 0);
    claim("nameless no more", remount(), 0);
    claim("gone", access("/data", F_OK) == -1 ? errno : 0, ENOENT);

    claim("read-only", outcome(mount("none", "/", NULL, MS_REMOUNT | MS_RDONLY, NULL)), EOPNOTSUPP);
    claim("not mounted there", outcome(mount("none", "/names", NULL, MS_REMOUNT, NULL)), EINVAL);
    claim("another", outcome(mount("/dev/vdb", "/names", "ext4", 0, NULL)), ENODEV);
    claim("nowhere", outcome(mount("none", "/nowhere", NULL, MS_REMOUNT, NULL)), ENOENT);
    claim("/proc", outcome(mount("none", "/proc", NULL, MS_REMOUNT, NULL)), 0);
    claim("unmount", outcome(umount2("/", 0)), EBUSY);
    claim("unmount what is not mounted", outcome(umount2("/names", 0)), EINVAL);
    if (wrong)
        return 1;
    printf("OK remount claims=%d\n", claims);
}
