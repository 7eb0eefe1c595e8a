/* Claim: submaps limit allocations, and only whole blocks are freed, and only one's own. Calls that only Ebb has. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"

enum { PAGE = 4096, MIB = 1 << 20, RW = PROT_READ | PROT_WRITE };
enum { VM_ALLOC = 0x45420000, VM_FREE, VM_SUBMAP, VM_UNSUBMAP };

static long vm_alloc(long submap, size_t len) { return syscall(VM_ALLOC, submap, len, RW); }
static long vm_submap(long within, size_t len) { return syscall(VM_SUBMAP, within, len); }
static long vm_unsubmap(long submap) { return syscall(VM_UNSUBMAP, submap); }
static long vm_free(const void *at) { return syscall(VM_FREE, at); }

static void refused(long result, int number, const char *what)
{
    expect(result == -1 && errno == number, what, result);
}

static int inside(long at, size_t len, long start, size_t room)
{
    return at >= start && at + len <= start + room;
}

/* Takes all of a submap in pieces of some pages; the number of bytes got. */
static size_t exhaust(long submap, size_t room, size_t piece)
{
    size_t got = 0;
    for (;;) {
        long at = vm_alloc(submap, piece);
        if (at == -1) {
            expect(errno == ENOMEM, "a full submap", at);
            return got;
        }
        expect(inside(at, piece, submap, room), "a block in its submap", at);
        memset((void *)at, 0x5a, piece);
        got += piece;
    }
}

static void submap(void)
{
    long map = vm_submap(0, MIB);
    expect(map > 0, "vm_submap", map);
    /* Nothing that is put anywhere, or near, lands in it. */
    for (int i = 0; i < 600; i++) {
        size_t len = (1 + i % 5) * PAGE;
        char *wish = i % 2 ? (char *)map + i % 256 * PAGE : 0;
        char *at = mmap(wish, len, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        expect(at + len <= (char *)map || at >= (char *)map + MIB, "mmap goes round the submap", (long)at);
    }
    /* A child inside: its parent goes round it, and it never leaves its range. */
    long child = vm_submap(map, 64 * PAGE);
    expect(inside(child, 64 * PAGE, map, MIB), "a submap in a submap", child);
    expect(exhaust(child, 64 * PAGE, 3 * PAGE) == 63 * PAGE, "21 blocks of three pages", 0);
    expect(exhaust(child, 64 * PAGE, PAGE) == PAGE, "and one page", 0);
    expect(exhaust(map, MIB, PAGE) == MIB - 64 * PAGE, "the rest of the submap", 0);
    refused(vm_alloc(map, PAGE), ENOMEM, "a page in a full submap");
    refused(vm_submap(map, PAGE), ENOMEM, "a submap in a full submap");
    expect(vm_alloc(0, MIB) > 0, "the space has room", 0);
    expect(mmap(0, MIB, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) != MAP_FAILED, "so has mmap", 0);
    /* A mapping below does not grow into it; what a process has its child has, too. */
    char *below = mmap((void *)(map - PAGE), PAGE, RW, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    refused((long)mremap(below, PAGE, 2 * PAGE, 0), ENOMEM, "growing into a submap");
    if (fork() == 0) {
        refused(vm_alloc(map, PAGE), ENOMEM, "a page in a full submap, for the child");
        expect(vm_unsubmap(child) == 0, "the child ends a submap", child);
        expect(vm_alloc(map, 64 * PAGE) == child, "and takes its place", child);
        _exit(wrong);
    }
    int status = -1;
    expect(wait(&status) > 0 && status == 0, "the child's claims", status);
    /* What is freed is there again. */
    expect(vm_unsubmap(child) == 0, "vm_unsubmap", child);
    refused(vm_alloc(child, PAGE), EINVAL, "a submap that is no more");
    refused(vm_unsubmap(child), EINVAL, "a submap that is no more");
    expect(vm_alloc(map, 64 * PAGE) == child, "the place is the parent's", child);
    expect(vm_unsubmap(map) == 0, "vm_unsubmap", map);
    refused(mprotect((void *)map, PAGE, RW), ENOMEM, "all of it is unmapped");
    refused(vm_submap(0, 0), EINVAL, "a submap of nothing");
    refused(vm_submap(0, 1L << 50), ENOMEM, "a submap larger than the space");
    refused(vm_alloc(PAGE + 1, PAGE), EINVAL, "no submap");
}

static int text_stays(void) { return 7; }
static int data_stays = 7;

static void vmfree(void)
{
    int stack_stays = 7;
    char *foreign = mmap(0, 4 * PAGE, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    char *blocks[4];
    for (int i = 0; i < 4; i++) {
        blocks[i] = (char *)vm_alloc(0, 5 * PAGE);
        memset(blocks[i], 'a' + i, 5 * PAGE);
    }
    refused(vm_free(&stack_stays), EINVAL, "the stack");
    refused(vm_free((void *)(uintptr_t)text_stays), EINVAL, "the text");
    refused(vm_free(&data_stays), EINVAL, "the data");
    refused(vm_free(foreign), EINVAL, "what mmap has made");
    refused(vm_free(0), EINVAL, "null");
    refused(vm_free((void *)0xffff800000000000), EINVAL, "the kernel's half");
    refused(vm_free((void *)0x123456789000), EINVAL, "what is not mapped");
    expect(foreign[0] == 0 && stack_stays + text_stays() + data_stays == 21, "all is still there", 0);
    /* Any address in it, and all of it goes, in how many pieces it may be by now; its neighbours stay. */
    expect(mprotect(blocks[1] + 2 * PAGE, PAGE, PROT_READ) == 0, "mprotect of a part", 0);
    expect(munmap(blocks[1] + 4 * PAGE, PAGE) == 0, "munmap of a part", 0);
    expect(vm_free(blocks[1] + 3 * PAGE + 123) == 0, "an address in the middle", 0);
    for (int page = 0; page < 5; page++)
        refused(mprotect(blocks[1] + page * PAGE, PAGE, RW), ENOMEM, "a page of it");
    expect(blocks[0][5 * PAGE - 1] == 'a' && blocks[2][0] == 'c', "the neighbours", 0);
    refused(vm_free(blocks[1]), EINVAL, "twice");
    /* A block whose place has something else in it is none. */
    expect(munmap(blocks[2], 5 * PAGE) == 0, "munmap of all", 0);
    refused(vm_free(blocks[2]), EINVAL, "a block that is gone");
    char *other = mmap(blocks[3] + PAGE, PAGE, RW, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    other[0] = 1;
    refused(vm_free(blocks[3]), EINVAL, "a block with something else in it");
    expect(other[0] == 1 && blocks[3][0] == 'd', "nothing of it has gone", 0);
    expect(vm_free(blocks[0]) == 0, "the last whole one", 0);
}

int main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "";
    if (!strcmp(what, "submap"))
        submap();
    else if (!strcmp(what, "vmfree"))
        vmfree();
    else
        return 2;
    printf("%s native-memory %s\n", wrong ? "FAILED" : "OK", what);
    return wrong != 0;
}
