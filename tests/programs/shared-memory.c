/* Claim: memory that has no name can be shared through a descriptor, is one memory for all who have it, and threads of different
 * processes meet on its words. Each part is a mode of its own:
 *   memfd                what a file that is memory can do, and what its seals forbid
 *   futexes ROUNDS       processes that wait for each other, on words that each has at another address
 *   sharers COUNT MIB    COUNT processes read and write MIB of one memory; what it costs in swap */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "check.h"

enum { PAGE = 4096 };

/* futex(2): musl has no header of the kernel's. */
enum { FUTEX_WAIT = 0, FUTEX_WAKE = 1, FUTEX_CMP_REQUEUE = 4 };

static void refused(long result, int error, const char *what)
{
    expect(result == -1 && errno == error, what, result);
    errno = 0;
}

static char *map(int fd, size_t length, int rights, int flags)
{
    char *at = mmap(NULL, length, rights, flags, fd, 0);
    return at;
}

static sigjmp_buf back;

static void on_fault(int signal)
{
    siglongjmp(back, signal);
}

static int fault_at(const volatile char *byte)
{
    int signal = sigsetjmp(back, 1);
    if (signal == 0)
        (void)*byte;
    return signal;
}

static void contents(void)
{
    char buffer[64];
    struct stat stat;
    int fd = memfd_create("tide", MFD_CLOEXEC);
    expect(fd >= 0 && fcntl(fd, F_GETFD) == FD_CLOEXEC, "memfd_create", fd);
    char link[32], shown[32] = "";
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, shown, sizeof shown - 1);
    expect(strcmp(shown, "/memfd:tide (deleted)") == 0, "what it is called", length);
    expect(fstat(fd, &stat) == 0 && S_ISREG(stat.st_mode) && stat.st_size == 0, "fstat of an empty one", stat.st_size);
    expect(read(fd, buffer, 1) == 0, "read of an empty one", 0);
    expect(write(fd, "ebb and flow", 12) == 12, "write", 0);
    expect(lseek(fd, 4, SEEK_SET) == 4 && read(fd, buffer, 60) == 8 && !memcmp(buffer, "and flow", 8), "read", 0);
    expect(pwrite(fd, "!", 1, 3 * PAGE) == 1 && lseek(fd, 0, SEEK_END) == 3 * PAGE + 1, "pwrite behind the end", 0);
    expect(pread(fd, buffer, 64, PAGE) == 64 && buffer[0] == 0 && buffer[63] == 0, "pread of a hole", 0);
    expect(fstat(fd, &stat) == 0 && stat.st_size == 3 * PAGE + 1 && stat.st_blocks >= 16, "fstat", stat.st_blocks);

    char *one = map(fd, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED), *two = map(fd, 4 * PAGE, PROT_READ, MAP_SHARED);
    char *own = map(fd, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE);
    expect(one != two && !memcmp(two, "ebb and flow", 12) && two[3 * PAGE] == '!', "two windows", 0);
    one[PAGE] = 'x', own[PAGE + 1] = 'y';
    expect(two[PAGE] == 'x' && own[PAGE] == 'x' && two[PAGE + 1] == 0, "stores to a shared and a private window", two[PAGE + 1]);
    expect(pread(fd, buffer, 2, PAGE) == 2 && buffer[0] == 'x' && buffer[1] == 0, "a store is in the file", buffer[0]);
    expect(pwrite(fd, "z", 1, 2 * PAGE) == 1 && two[2 * PAGE] == 'z', "a write is in a window", two[2 * PAGE]);
    expect(munmap(one, 4 * PAGE) == 0 && two[PAGE] == 'x', "one window less", 0);
    expect(ftruncate(fd, PAGE + 1) == 0 && fault_at(two + 2 * PAGE) == SIGBUS && two[PAGE] == 'x', "cut", 0);
    expect(ftruncate(fd, 4 * PAGE) == 0 && two[2 * PAGE] == 0 && two[PAGE + 1] == 0, "grown again", 0);
    expect(posix_fallocate(fd, 0, 5 * PAGE) == 0 && lseek(fd, 0, SEEK_END) == 5 * PAGE, "fallocate", 0);
    expect(fsync(fd) == 0, "fsync", 0);
    int copy = dup(fd);
    expect(close(fd) == 0 && pread(copy, buffer, 1, PAGE) == 1 && buffer[0] == 'x', "dup", buffer[0]);
    expect(close(copy) == 0 && two[PAGE] == 'x', "windows outlive descriptors", two[PAGE]);

    pid_t child = forked();
    if (child == 0) {
        expect(two[PAGE] == 'x' && own[PAGE + 1] == 'y', "windows after fork", two[PAGE]);
        own[PAGE + 1] = 'c';
        leave();
    }
    join(child, "a child with windows");
    expect(own[PAGE + 1] == 'y', "a private window after fork", own[PAGE + 1]);
    munmap(two, 4 * PAGE), munmap(own, 4 * PAGE);
    char name[251];
    memset(name, 'n', 250), name[250] = 0;
    refused(memfd_create(name, 0), EINVAL, "a name that is too long");
    refused(memfd_create("x", 0x100), EINVAL, "unknown flags");
    refused(memfd_create((char *)8, 0), EFAULT, "a name that is nowhere");
}

static void seals(void)
{
    int fd = memfd_create("no seals", 0);
    expect(fcntl(fd, F_GET_SEALS) == F_SEAL_SEAL, "seals of one that is not to be sealed", fcntl(fd, F_GET_SEALS));
    refused(fcntl(fd, F_ADD_SEALS, F_SEAL_GROW), EPERM, "to seal it");
    close(fd);
    fd = memfd_create("seals", MFD_ALLOW_SEALING);
    expect(fcntl(fd, F_GET_SEALS) == 0 && ftruncate(fd, 2 * PAGE) == 0, "no seals", 0);
    expect(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK) == 0 && ftruncate(fd, 3 * PAGE) == 0, "growing is left", 0);
    refused(ftruncate(fd, PAGE), EPERM, "to shrink");
    expect(fcntl(fd, F_ADD_SEALS, F_SEAL_GROW) == 0 && pwrite(fd, "x", 1, 0) == 1, "writing is left", 0);
    refused(ftruncate(fd, 4 * PAGE), EPERM, "to grow");
    refused(pwrite(fd, "x", 1, 3 * PAGE), EPERM, "to write behind the end");
    char *window = map(fd, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED);
    refused(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), EBUSY, "to seal what is mapped to be written");
    munmap(window, PAGE);
    char *own = map(fd, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE);
    expect(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE) == 0, "seal", 0);
    refused(pwrite(fd, "x", 1, 0), EPERM, "to write");
    expect(map(fd, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED) == MAP_FAILED && errno == EPERM, "to map to write", errno);
    window = map(fd, PAGE, PROT_READ, MAP_SHARED);
    expect(window != MAP_FAILED && window[0] == 'x', "to map to read", 0);
    refused(mprotect(window, PAGE, PROT_READ | PROT_WRITE), EACCES, "to have a view writable");
    own[0] = 'y';
    expect(window[0] == 'x', "a private window of what is sealed", window[0]);
    expect(fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL) == 0, "the last seal", 0);
    refused(fcntl(fd, F_ADD_SEALS, F_SEAL_GROW), EPERM, "to seal what is sealed");
    refused(fcntl(fd, F_ADD_SEALS, 0x1000), EINVAL, "unknown seals");
    refused(fcntl(0, F_GET_SEALS), EINVAL, "seals of something else");
    close(fd);
}

static long futex(_Atomic uint32_t *word, int operation, uint32_t value, uintptr_t fourth, _Atomic uint32_t *second)
{
    return syscall(SYS_futex, word, operation, value, fourth, second, 0);
}

struct board {
    _Atomic uint32_t turn, arrived, gate, other;
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    pthread_barrier_t barrier;
    long sum;
};

static struct board *board_at(int fd)
{
    /* At another address each time it is asked for. */
    mmap(NULL, 3 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return (struct board *)map(fd, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED);
}

static void take_turns(struct board *board, uint32_t own, uint32_t rounds)
{
    for (uint32_t round = 0; round < rounds; round++) {
        uint32_t now;
        while ((now = board->turn) % 2 != own)
            futex(&board->turn, FUTEX_WAIT, now, 0, NULL);
        board->turn = now + 1;
        futex(&board->turn, FUTEX_WAKE, 1, 0, NULL);
    }
}

static void wait_for(_Atomic uint32_t *word, uint32_t value)
{
    while (*word != value)
        sched_yield();
}

/* Wakes until somebody was asleep there. */
static long wake_all(_Atomic uint32_t *word, long sleepers)
{
    long woken = 0;
    while (woken < sleepers)
        woken += futex(word, FUTEX_WAKE, 100, 0, NULL);
    return woken;
}

static void futexes(uint32_t rounds)
{
    enum { CHILDREN = 3 };
    int fd = memfd_create("board", 0);
    expect(ftruncate(fd, PAGE) == 0, "ftruncate", 0);
    struct board *board = board_at(fd);
    pthread_mutexattr_t mutex;
    pthread_mutexattr_init(&mutex), pthread_mutexattr_setpshared(&mutex, PTHREAD_PROCESS_SHARED);
    pthread_condattr_t condition;
    pthread_condattr_init(&condition), pthread_condattr_setpshared(&condition, PTHREAD_PROCESS_SHARED);
    pthread_barrierattr_t barrier;
    pthread_barrierattr_init(&barrier), pthread_barrierattr_setpshared(&barrier, PTHREAD_PROCESS_SHARED);
    pthread_mutex_init(&board->mutex, &mutex), pthread_cond_init(&board->changed, &condition);
    pthread_barrier_init(&board->barrier, &barrier, CHILDREN + 1);

    pid_t child = forked();
    if (child == 0) {
        struct board *own = board_at(fd);
        expect(own != board, "another address", 0);
        take_turns(own, 1, rounds);
        leave();
    }
    take_turns(board, 0, rounds);
    join(child, "the other side");
    expect(board->turn == 2 * rounds, "turns", board->turn);

    pid_t children[CHILDREN];
    for (int i = 0; i < CHILDREN; i++) {
        children[i] = forked();
        if (children[i] == 0) {
            struct board *own = board_at(fd);
            for (uint32_t round = 0; round < rounds; round++) {
                pthread_mutex_lock(&own->mutex);
                long before = own->sum;
                if (round % 16 == 0)
                    sched_yield();
                own->sum = before + 1;
                pthread_cond_signal(&own->changed);
                pthread_mutex_unlock(&own->mutex);
            }
            pthread_barrier_wait(&own->barrier);
            own->arrived++;
            /* All of them sleep until they are moved to the other word, and woken there. */
            while (own->gate == 0 && own->other == 0)
                futex(&own->gate, FUTEX_WAIT, 0, 0, NULL);
            leave();
        }
    }
    pthread_mutex_lock(&board->mutex);
    while (board->sum < (long)(CHILDREN * rounds))
        pthread_cond_wait(&board->changed, &board->mutex);
    pthread_mutex_unlock(&board->mutex);
    expect(board->sum == (long)(CHILDREN * rounds), "a sum under a mutex", board->sum);
    pthread_barrier_wait(&board->barrier);
    wait_for(&board->arrived, CHILDREN);
    long moved = 0;
    while (moved < CHILDREN)
        moved += futex(&board->gate, FUTEX_CMP_REQUEUE, 0, CHILDREN, &board->other);
    expect(moved == CHILDREN, "moved", moved);
    board->other = 1;
    expect(wake_all(&board->other, CHILDREN) == CHILDREN, "woken", 0);
    for (int i = 0; i < CHILDREN; i++)
        join(children[i], "one of three");

    struct timespec soon = {.tv_nsec = 1000000};
    refused(syscall(SYS_futex, &board->other, FUTEX_WAIT, 1, &soon, NULL, 0), ETIMEDOUT, "a wait that ends by itself");
    refused(futex(&board->other, FUTEX_WAIT, 7, 0, NULL), EAGAIN, "a word with another value");
    /* A private window is nobody else's, whatever it shows. */
    uint32_t *own = (uint32_t *)map(fd, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE);
    expect(futex((_Atomic uint32_t *)own, FUTEX_WAKE, 1, 0, NULL) == 0, "nobody waits on a private window", 0);
}

static uint64_t word(uint64_t page, uint64_t i)
{
    uint64_t x = page * 0x9e3779b97f4a7c15u + i;
    return (x ^ x >> 29) * 0x94d049bb133111ebu;
}

static uint64_t sum_of(const volatile uint64_t *memory, long pages)
{
    uint64_t sum = 0;
    for (long i = 0; i < pages * (PAGE / 8); i++)
        sum = sum * 31 + memory[i];
    return sum;
}

static long swap_used(void)
{
    char line[256];
    long total = 0, left = 0;
    FILE *file = fopen("/proc/meminfo", "r");
    while (file && fgets(line, sizeof line, file)) {
        sscanf(line, "SwapTotal: %ld", &total);
        sscanf(line, "SwapFree: %ld", &left);
    }
    if (file)
        fclose(file);
    return total - left;
}

static void sharers(int count, long mib)
{
    long pages = mib * 256, most = 0;
    int fd = memfd_create("shared", 0), reports[2];
    expect(ftruncate(fd, mib << 20) == 0 && pipe(reports) == 0, "a memory to share", 0);
    volatile uint64_t *memory = (uint64_t *)map(fd, (size_t)mib << 20, PROT_READ | PROT_WRITE, MAP_SHARED);
    for (long page = 0; page < pages; page++)
        for (long i = 0; i < PAGE / 8; i++)
            memory[page * (PAGE / 8) + i] = word((uint64_t)page, (uint64_t)i);
    for (int i = 0; i < count; i++)
        if (forked() == 0) {
            munmap((void *)memory, (size_t)mib << 20);
            mmap(NULL, (size_t)(i + 1) * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
            memory = (uint64_t *)map(fd, (size_t)mib << 20, PROT_READ | PROT_WRITE, MAP_SHARED);
            uint64_t sum = sum_of(memory, pages);
            long used = swap_used();
            expect(write(reports[1], (uint64_t[]){sum, (uint64_t)used}, 16) == 16, "a report", 0);
            leave();
        }
    uint64_t first = 0;
    for (int i = 0; i < count; i++) {
        uint64_t report[2];
        expect(read(reports[0], report, 16) == 16, "a report", 0);
        if (i == 0)
            first = report[0];
        expect(report[0] == first, "a sum that another has not", i);
        most = (long)report[1] > most ? (long)report[1] : most;
    }
    for (int i = 0, status = 0; i < count; i++)
        expect(wait(&status) > 0 && status == 0, "a sharer", status);
    expect(sum_of(memory, pages) == first, "one's own sum", 0);
    printf("SHARERS count=%d mib=%ld swapkib=%ld sum=%016llx\n", count, mib, most, (unsigned long long)first);
}

int main(int count, char **words)
{
    const char *mode = count > 1 ? words[1] : "";
    struct sigaction action = {.sa_handler = on_fault};
    sigaction(SIGBUS, &action, NULL);
    if (!strcmp(mode, "memfd"))
        contents(), seals();
    else if (!strcmp(mode, "futexes") && count == 3)
        futexes((uint32_t)atoi(words[2]));
    else if (!strcmp(mode, "sharers") && count == 4)
        sharers(atoi(words[2]), atol(words[3]));
    else
        return 2;
    printf(wrong ? "FAIL shared-memory %s\n" : "OK shared-memory %s\n", mode);
    return wrong != 0;
}
