/* Claim: a signal that means nothing to the program, by its own wish or by default, does not cut a sleep short; one with a
 * handler does, and says how much is left; one that is blocked waits until it is not; one that is sent to the whole process
 * cuts one sleep short and no other. */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { LONG_MS = 150, SHORT_MS = 30 };

static atomic_int sleeper, taken;
static int wrong;

static void take(int signal)
{
    (void)signal;
    taken++;
}

static void expect(int true_, const char *what, int signal)
{
    if (true_)
        return;
    printf("BROKEN signal %d: %s\n", signal, what);
    wrong++;
}

/* Returns what nanosleep left, or 0. */
static void *sleep_long(void *unused)
{
    (void)unused;
    sleeper = (int)syscall(SYS_gettid);
    struct timespec span = {0, LONG_MS * 1000000L}, left = {0, 0};
    return nanosleep(&span, &left) == 0 ? 0 : (void *)(errno == EINTR ? left.tv_nsec : -1);
}

static long disturb(int signal)
{
    pthread_t thread;
    void *left;
    sleeper = 0;
    pthread_create(&thread, 0, sleep_long, 0);
    while (!sleeper)
        usleep(1000);
    usleep(SHORT_MS * 1000);
    syscall(SYS_tgkill, getpid(), sleeper, signal);
    pthread_join(thread, &left);
    return (long)left;
}

/* Two sleep; the first thread, which blocks the signal, sends it to the process. Returns how many were cut short. */
static int disturb_one_of_two(int signal)
{
    pthread_t threads[2];
    int cut = 0;
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, signal);
    for (int i = 0; i < 2; i++)
        pthread_create(&threads[i], 0, sleep_long, 0);
    pthread_sigmask(SIG_BLOCK, &set, 0);
    usleep(SHORT_MS * 1000);
    kill(getpid(), signal);
    for (int i = 0; i < 2; i++) {
        void *left;
        pthread_join(threads[i], &left);
        cut += left != 0;
    }
    pthread_sigmask(SIG_UNBLOCK, &set, 0);
    return cut;
}

int main(void)
{
    struct sigaction handled = {.sa_handler = take}, ignored = {.sa_handler = SIG_IGN};
    sigaction(SIGUSR1, &ignored, 0);
    sigaction(SIGUSR2, &handled, 0);
    int meaningless[] = {SIGUSR1, SIGURG, SIGCHLD, SIGWINCH, SIGCONT};
    for (unsigned i = 0; i < sizeof meaningless / sizeof *meaningless; i++)
        expect(disturb(meaningless[i]) == 0, "cut a sleep short although nobody wants it", meaningless[i]);
    long left = disturb(SIGUSR2);
    expect(left > 0 && left < (LONG_MS - SHORT_MS) * 1000000L, "did not cut a sleep short", SIGUSR2);
    expect(taken == 1, "its handler did not run once", SIGUSR2);

    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR2);
    pthread_sigmask(SIG_BLOCK, &set, 0);
    expect(disturb(SIGUSR2) == 0, "cut a sleep short although it is blocked", SIGUSR2);
    raise(SIGUSR2);
    expect(taken == 1, "its handler ran although it is blocked", SIGUSR2);
    pthread_sigmask(SIG_UNBLOCK, &set, 0);
    expect(taken == 2, "its handler did not run when it was unblocked", SIGUSR2);
    taken = 0;
    expect(disturb_one_of_two(SIGUSR2) == 1, "did not cut one sleep of two short", SIGUSR2);
    expect(taken == 1, "its handler did not run once for the process", SIGUSR2);
    if (!wrong)
        printf("OK ignored-signals\n");
    return wrong != 0;
}
