/* Claim: many threads at once map, unmap and protect memory, are born and die, take signals on alternate stacks, wake each
 * other by futex and use the FPU, and each finds every byte, value and wake-up that is its own. With `pages`, another thread
 * goes through that many pages meanwhile and checks them: more than there is RAM, and everything else is paged out, too.
 *
 * usage: storm KIND [threads [amount [pages]]] */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { PAGE = 4096, WORDS = PAGE / 4, MOST_THREADS = 64 };
/* futex(2): musl has no header for these. */
enum { FUTEX_WAIT = 0, FUTEX_WAKE = 1, FUTEX_PRIVATE_FLAG = 128 };

static int threads = 4, amount = 200;

static void broken(const char *what, long where, long value)
{
    printf("BROKEN %s at %lx: %lx\n", what, where, value);
    fflush(stdout);
    _exit(1);
}

static void expect(int true_, const char *what, long where, long value)
{
    if (!true_)
        broken(what, where, value);
}

/* splitmix64 */
static uint64_t draw(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
}

static void *map(void *where, size_t pages, int flags)
{
    flags |= MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    void *at = mmap(where, pages * PAGE, PROT_READ | PROT_WRITE, flags, -1, 0);
    expect(at != MAP_FAILED, "mmap", (long)where, (long)pages);
    return at;
}

static void run(int count, void *(*work)(void *))
{
    pthread_t all[MOST_THREADS];
    for (long i = 0; i < count; i++) {
        int error = pthread_create(&all[i], 0, work, (void *)i);
        expect(error == 0, "pthread_create", i, error);
    }
    for (int i = 0; i < count; i++)
        pthread_join(all[i], 0);
}

/* Pressure. */
static atomic_int over;
static long pressure_pages;

static void *press(void *unused)
{
    uint64_t seed = 5, *all = map(0, pressure_pages, 0);
    for (long i = 0; i < pressure_pages; i++)
        all[i * PAGE / 8] = ~(uint64_t)i;
    while (!over) {
        long i = draw(&seed) % pressure_pages;
        uint64_t *page = &all[i * PAGE / 8];
        expect(page[0] == ~(uint64_t)i, "a page under pressure", (long)page, (long)page[0]);
        page[1]++;
    }
    return unused;
}

/* Areas that change all the time; a model of each page says what must be in it. */
enum { AREAS = 6, AREA_PAGES = 200 };

struct area {
    char *at;
    int pages;
    uint32_t value[AREA_PAGES];
    char read_only[AREA_PAGES];
};

static void change(struct area *area, int first, int count, int how)
{
    char *at = area->at + (size_t)first * PAGE;
    size_t len = (size_t)count * PAGE;
    int result = 0, is_kept = 0, is_read_only = 0;
    switch (how) {
    case 0: result = madvise(at, len, MADV_DONTNEED); is_read_only = -1; break;
    case 1: result = mprotect(at, len, PROT_READ); is_kept = is_read_only = 1; break;
    case 2: result = mprotect(at, len, PROT_READ | PROT_WRITE); is_kept = 1; break;
    case 3: map(at, count, MAP_FIXED); break;
    default: result = mprotect(at, len, PROT_NONE) || mprotect(at, len, PROT_READ | PROT_WRITE); is_kept = 1; break;
    }
    expect(result == 0, "a change of an area", (long)at, how);
    if (!is_kept)
        memset(&area->value[first], 0, count * sizeof *area->value);
    if (is_read_only >= 0)
        memset(&area->read_only[first], is_read_only, count);
}

static void *change_areas(void *number)
{
    uint64_t seed = 1000 + (long)number;
    struct area *all = calloc(AREAS, sizeof *all);
    for (int i = 0; i < amount; i++) {
        struct area *area = &all[draw(&seed) % AREAS];
        if (!area->at) {
            memset(area, 0, sizeof *area);
            area->pages = 1 + draw(&seed) % AREA_PAGES;
            area->at = map(0, area->pages, 0);
            continue;
        }
        int first = draw(&seed) % area->pages, count = 1 + draw(&seed) % (area->pages - first);
        int how = draw(&seed) % 16;
        if (how == 15) {
            expect(munmap(area->at, (size_t)area->pages * PAGE) == 0, "munmap", (long)area->at, area->pages);
            area->at = 0;
        } else if (how < 5) {
            change(area, first, count, how);
        } else {
            for (int page = first; page < first + count && page < first + 24; page++) {
                uint32_t *words = (uint32_t *)(area->at + (size_t)page * PAGE);
                for (int word = 0; word < WORDS; word += 41)
                    expect(words[word] == area->value[page] * (word + 1), "a word", (long)&words[word], words[word]);
                if (how < 10 && !area->read_only[page]) {
                    area->value[page] = (uint32_t)draw(&seed);
                    for (int word = 0; word < WORDS; word += 41)
                        words[word] = area->value[page] * (word + 1);
                }
            }
        }
    }
    return 0;
}

/* Births: threads that live for a moment. */
static void *live(void *number)
{
    volatile char deep[20000];
    deep[0] = 1;
    return (void *)((long)number * 3 + deep[0]);
}

static void give_birth(void)
{
    for (int i = 0; i < amount; i++) {
        pthread_t all[MOST_THREADS];
        for (long n = 0; n < threads; n++)
            expect(pthread_create(&all[n], 0, live, (void *)(n + i)) == 0, "pthread_create", i, n);
        for (long n = 0; n < threads; n++) {
            void *result;
            pthread_join(all[n], &result);
            expect((long)result == (n + i) * 3 + 1, "a thread's result", n, (long)result);
        }
    }
}

/* Signals to oneself, on a stack somewhere in a mebibyte, with a value in the FPU. */
enum { STACK_PAGES = 8, PLACES = 256 };
static __thread volatile long taken;

static void take(int signal)
{
    volatile double lost = signal * 1.5;
    volatile char deep[6000];
    deep[0] = deep[5999] = 1;
    taken += deep[0] + (lost < 0);
}

static void *signal_oneself(void *number)
{
    uint64_t seed = (long)number;
    char *places = map(0, PLACES, 0);
    for (int i = 0; i < amount; i++) {
        stack_t stack = {.ss_sp = places + draw(&seed) % (PLACES - STACK_PAGES) * PAGE, .ss_size = STACK_PAGES * PAGE};
        expect(sigaltstack(&stack, 0) == 0, "sigaltstack", i, 0);
        long before = taken;
        double in = i * 0.5 + (long)number, out;
        long result = SYS_tkill, thread = syscall(SYS_gettid);
        __asm__ volatile("movsd %3, %%xmm7\n syscall\n movsd %%xmm7, %1"
                         : "+a"(result), "=m"(out) : "D"(thread), "m"(in), "S"((long)SIGUSR1)
                         : "rcx", "r11", "memory", "xmm7");
        expect(result == 0 && taken == before + 1, "signals taken", i, taken - before);
        expect(in == out, "a register of the FPU after a signal", i, (long)out);
    }
    return 0;
}

/* Futexes: pairs that wake each other by words on many pages, then all by a condition variable with and without time. */
static uint32_t *words;

static void futex(uint32_t *word, int operation, uint32_t value, int turn)
{
    syscall(SYS_futex, word, operation | (turn & 1 ? FUTEX_PRIVATE_FLAG : 0), value, 0, 0, 0);
}

static void wait_for(uint32_t *word, uint32_t value, int turn)
{
    uint32_t seen;
    while ((seen = __atomic_load_n(word, __ATOMIC_SEQ_CST)) != value)
        futex(word, FUTEX_WAIT, seen, turn);
}

static void *play(void *number)
{
    long pair = (long)number / 2, second = (long)number % 2;
    for (int turn = 0; turn < amount; turn++) {
        uint32_t *word = &words[(pair * 512 + turn * 379L % 512) * WORDS];
        if (second)
            wait_for(word, turn * 2 + 1, turn);
        __atomic_store_n(word, turn * 2 + 1 + second, __ATOMIC_SEQ_CST);
        futex(word, FUTEX_WAKE, 1, turn);
        if (!second)
            wait_for(word, turn * 2 + 2, turn);
    }
    return 0;
}

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static long turns;

static void *take_turns(void *number)
{
    for (int i = 0; i < amount; i++) {
        pthread_mutex_lock(&lock);
        while (turns % threads != (long)number) {
            struct timespec soon;
            clock_gettime(CLOCK_REALTIME, &soon);
            soon.tv_nsec = (soon.tv_nsec + 500000) % 1000000000;
            if (i % 5 == 0)
                pthread_cond_timedwait(&changed, &lock, &soon);
            else
                pthread_cond_wait(&changed, &lock);
        }
        turns++;
        pthread_cond_broadcast(&changed);
        pthread_mutex_unlock(&lock);
    }
    return 0;
}

/* Registers and modes of the FPU, of every thread its own, through pre-emption. */
static void *compute(void *number)
{
    long me = (long)number + 1;
    uint64_t in[3] = {me * 0x0101010101010101, ~me, me * 77}, out[4];
    uint32_t mode = 0x1f80 | (me & 3) << 13, mode_after;
    uint16_t x87 = (0x37f & ~0xc00) | (me & 3) << 10, x87_after;
    __asm__ volatile("ldmxcsr %0\n fldcw %1" ::"m"(mode), "m"(x87));
    for (int i = 0; i < amount; i++) {
        __asm__ volatile("movdqu (%2), %%xmm3\n movdqu 8(%2), %%xmm15\n fildll 16(%2)\n mov $200000, %%ecx\n"
                         "1: dec %%ecx\n jnz 1b\n"
                         "movdqu %%xmm3, (%3)\n movdqu %%xmm15, 8(%3)\n fistpll 24(%3)\n stmxcsr %0\n fnstcw %1"
                         : "=m"(mode_after), "=m"(x87_after) : "r"(in), "r"(out) : "rcx", "memory", "xmm3", "xmm15");
        expect(out[0] == in[0] && out[1] == in[1] && out[2] == in[2] && out[3] == in[2], "FPU registers", i, me);
        expect(mode == mode_after && x87 == x87_after, "FPU modes", mode_after, x87_after);
    }
    return 0;
}

int main(int count, char **arguments)
{
    const char *kind = count > 1 ? arguments[1] : "";
    threads = count > 2 ? atoi(arguments[2]) : threads;
    amount = count > 3 ? atoi(arguments[3]) : amount;
    pressure_pages = count > 4 ? atol(arguments[4]) : 0;
    pthread_t pressure;
    if (pressure_pages)
        expect(pthread_create(&pressure, 0, press, 0) == 0, "pthread_create", 0, 0);
    if (!strcmp(kind, "areas")) {
        run(threads, change_areas);
    } else if (!strcmp(kind, "births")) {
        give_birth();
    } else if (!strcmp(kind, "signals")) {
        struct sigaction action = {.sa_handler = take, .sa_flags = SA_ONSTACK};
        sigaction(SIGUSR1, &action, 0);
        run(threads, signal_oneself);
    } else if (!strcmp(kind, "futexes")) {
        words = map(0, threads * 512L, 0);
        run(threads * 2, play);
        run(threads, take_turns);
        expect(turns == (long)threads * amount, "turns", turns, 0);
    } else if (!strcmp(kind, "fpu")) {
        run(threads, compute);
    } else if (!strcmp(kind, "quit")) {
        /* The process ends while its threads are at it: `amount` is for how many milliseconds. */
        int ms = amount;
        amount = 1 << 30;
        pthread_t thread;
        for (long i = 0; i < threads; i++)
            expect(pthread_create(&thread, 0, change_areas, (void *)i) == 0, "pthread_create", i, 0);
        usleep(ms * 1000);
        printf("OK storm quit\n");
        fflush(stdout);
        _exit(0);
    } else {
        printf("usage: storm areas|births|signals|futexes|fpu|quit [threads [amount [pages]]]\n");
        return 2;
    }
    over = 1;
    if (pressure_pages)
        pthread_join(pressure, 0);
    printf("OK storm %s\n", kind);
    return 0;
}
