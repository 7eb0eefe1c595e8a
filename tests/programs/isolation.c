/* Claim: a program sees no byte that another one left, whichever way it gets its memory, and can do nothing with memory that
 * its rights do not say. The first argument is how many MiB each of the two programs takes. */
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PAGE = 4096 };
#define SECRET 0x5ec2e75ec2e75ec2ull

static int failed;
static sigjmp_buf back;

static void check(int holds, const char *what)
{
    if (!holds) {
        printf("FAIL isolation: %s\n", what);
        failed = 1;
    }
}

static uint64_t *memory(size_t bytes)
{
    void *at = mmap(0, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED)
        _exit(3);
    return at;
}

static size_t not_zero(const uint64_t *words, size_t bytes)
{
    size_t found = 0;
    for (size_t i = 0; i < bytes / 8; i++)
        found += words[i] != 0;
    return found;
}

static void leave_secrets(size_t bytes)
{
    uint64_t *words = memory(bytes);
    for (size_t i = 0; i < bytes / 8; i++)
        words[i] = SECRET + i % 7;
}

/* Fresh pages that are read first, and pages of which one word is written first. */
static void look_for_secrets(size_t bytes)
{
    uint64_t *words = memory(bytes);
    for (size_t i = 0; i < bytes / 8; i += 2 * PAGE / 8)
        words[i] = 1;
    size_t found = not_zero(words, bytes) - bytes / (2 * PAGE);
    if (found)
        printf("FAIL isolation: %zu words that others left\n", found);
    _exit(found != 0);
}

static void in_child(void (*work)(size_t), size_t bytes, const char *what)
{
    int status = -1;
    if (fork() == 0) {
        work(bytes);
        _exit(0);
    }
    wait(&status);
    check(status == 0, what);
}

/* Memory that is given back and had again. */
static void again(void)
{
    enum { SIZE = 64 * PAGE };
    uint64_t *words = memory(SIZE);
    memset(words, 0xa5, SIZE);
    madvise(words, SIZE, MADV_DONTNEED);
    check(!not_zero(words, SIZE), "MADV_DONTNEED");
    memset(words, 0xa5, SIZE);
    void *same = mmap(words, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    check(same == words && !not_zero(words, SIZE), "MAP_FIXED over what was there");
    char *end = sbrk(0), *start = (char *)(((uintptr_t)end + PAGE - 1) & -(uintptr_t)PAGE);
    check(brk(start + SIZE) == 0, "brk");
    memset(start, 0xa5, SIZE);
    check(brk(start + PAGE) == 0 && brk(start + SIZE) == 0, "brk down and up");
    check(!not_zero((uint64_t *)(start + PAGE), SIZE - PAGE), "a heap that shrank and grew");
    brk(end);
}

static void caught(int signal) { siglongjmp(back, signal); }

static volatile unsigned char sink;
static void read_at(void *at) { sink = *(volatile unsigned char *)at; }
static void write_at(void *at) { *(volatile unsigned char *)at = 0x90; }
static void run_at(void *at) { ((void (*)(void))at)(); }

static void refused(const char *what, void (*attempt)(void *), void *at)
{
    if (sigsetjmp(back, 1) == 0) {
        attempt(at);
        check(0, what);
    }
}

static void rights(void)
{
    static unsigned char data[] = {0xc3};
    unsigned char on_stack[] = {0xc3};
    unsigned char *heap = (unsigned char *)memory(PAGE);
    *heap = 0xc3;
    refused("running data", run_at, data);
    refused("running the stack", run_at, on_stack);
    refused("running memory of mmap", run_at, heap);
    refused("writing code", write_at, (void *)(uintptr_t)&rights);
    refused("writing constants", write_at, (void *)"constant");
    mprotect(heap, PAGE, PROT_READ);
    refused("writing after PROT_READ", write_at, heap);
    mprotect(heap, PAGE, PROT_NONE);
    refused("reading after PROT_NONE", read_at, heap);
    mprotect(heap, PAGE, PROT_READ | PROT_EXEC);
    run_at(heap);
    refused("writing after PROT_EXEC", write_at, heap);
    munmap(heap, PAGE);
    refused("reading after munmap", read_at, heap);
    refused("reading address 0", read_at, 0);
    /* Every entry of the upper half of the top-level table. */
    for (uintptr_t slot = 256; slot < 512; slot++)
        refused("reading the kernel's half", read_at, (void *)(0xffff000000000000u | slot << 39));
}

static void read_port(void *port)
{
    unsigned char value;
    __asm__ volatile("inb %w1, %b0" : "=a"(value) : "d"((unsigned)(uintptr_t)port));
    sink = value;
}

int main(int count, char **arguments)
{
    size_t bytes = (size_t)(count > 1 ? atoi(arguments[1]) : 4) << 20;
    setvbuf(stdout, 0, _IOLBF, 0);
    for (int round = 0; round < 2; round++) {
        in_child(leave_secrets, bytes, "filling memory");
        in_child(look_for_secrets, bytes, "what another program left");
    }
    again();
    struct sigaction action = {.sa_handler = caught};
    sigaction(SIGSEGV, &action, 0);
    sigaction(SIGBUS, &action, 0);
    rights();
    for (uintptr_t port = 0; port < 256; port++)
        refused("reading a port", read_port, (void *)port);
    if (!failed)
        puts("OK isolation");
    return failed;
}
