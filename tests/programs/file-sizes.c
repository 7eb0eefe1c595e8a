// Files that are taken from one size to another, around the ends of pages: by write(2), by ftruncate(2), by a store through a mapping.
// They are there when the program starts. What is left on the disk afterwards, the test reads.
//
// Names say how, from what size and to what size: w-1000-4096. Works in the current directory.
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static void check(const char *what, int good) {
    if (!good) {
        perror(what);
        exit(1);
    }
}

static void fill(int fd, int from, int to) {
    static char bytes[16384];
    memset(bytes, 'x', sizeof bytes);
    check("pwrite", pwrite(fd, bytes, to - from, from) == to - from);
}

static void take(const char *name, char how, int first, int second) {
    int fd = open(name, O_RDWR);
    check(name, fd >= 0);
    if (how == 'w')
        fill(fd, first, second);
    else
        check("ftruncate", ftruncate(fd, second) == 0);
    if (how == 'm' && second > 0) {
        char *window = mmap(0, second, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        check("mmap", window != MAP_FAILED);
        memset(window, 'x', second);
        check("munmap", munmap(window, second) == 0);
    }
    check("close", close(fd) == 0);
}

int main(void) {
    DIR *directory = opendir(".");
    check("opendir", directory != NULL);
    for (struct dirent *entry; (entry = readdir(directory));) {
        char how;
        int first, second;
        if (sscanf(entry->d_name, "%c-%d-%d", &how, &first, &second) == 3)
            take(entry->d_name, how, first, second);
    }
    check("closedir", closedir(directory) == 0);
    printf("OK file-sizes\n");
    return 0;
}
