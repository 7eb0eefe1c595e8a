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

/* How long one sleeps whom nobody is to wake, and whom somebody is; how long it takes to be quite sure that one sleeps. */
enum { LONG_MS = 150, FOR_EVER_MS = 1000000, SHORT_MS = 30 };

static atomic_int sleepers[2], taken, sent, cut_short;
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

struct sleep {
    int number, ms;
};

/* Returns whether somebody woke it. */
static void *sleep_long(void *how)
{
    struct sleep *my = how;
    sleepers[my->number] = (int)syscall(SYS_gettid);
    struct timespec span = {my->ms / 1000, my->ms % 1000 * 1000000L}, left = {0, 0};
    if (nanosleep(&span, &left) == 0)
        return 0;
    long left_ms = left.tv_sec * 1000 + left.tv_nsec / 1000000;
    expect(errno == EINTR && left_ms > 0 && left_ms < my->ms, "did not say how much sleep is left", 0);
    cut_short++;
    return my;
}

static pthread_t begin(struct sleep *how)
{
    pthread_t thread;
    sleepers[how->number] = 0;
    pthread_create(&thread, 0, sleep_long, how);
    while (!sleepers[how->number])
        usleep(1000);
    return thread;
}

/* A signal that nobody is to notice. Returns whether one did. */
static int disturb(int signal)
{
    struct sleep how = {0, LONG_MS};
    void *woken;
    pthread_t thread = begin(&how);
    usleep(SHORT_MS * 1000);
    syscall(SYS_tgkill, getpid(), sleepers[0], signal);
    pthread_join(thread, &woken);
    return woken != 0;
}

/* Sends a signal that has a handler, to one sleeper or (-1) to the process, until it has cut a sleep short: the first may
 * come before anybody sleeps, however long one waits. Each is taken before the next is sent. */
static void cut_one_short(int signal, int sleeper)
{
    for (int before = cut_short; cut_short == before; usleep(SHORT_MS * 1000)) {
        sent++;
        if (sleeper < 0)
            kill(getpid(), signal);
        else
            syscall(SYS_tgkill, getpid(), sleepers[sleeper], signal);
        while (taken < sent)
            usleep(1000);
    }
}

static void wake_one(int signal)
{
    struct sleep how = {0, FOR_EVER_MS};
    pthread_t thread = begin(&how);
    usleep(SHORT_MS * 1000);
    cut_one_short(signal, 0);
    pthread_join(thread, 0);
}

/* Two sleep; the first thread, which blocks the signal, sends it to the process: one of the two wakes. */
static void wake_one_of_two(int signal)
{
    struct sleep how[2] = {{0, FOR_EVER_MS}, {1, FOR_EVER_MS}};
    pthread_t threads[2];
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, signal);
    for (int i = 0; i < 2; i++)
        threads[i] = begin(&how[i]);
    pthread_sigmask(SIG_BLOCK, &set, 0);
    usleep(SHORT_MS * 1000);
    cut_short = 0;
    cut_one_short(signal, -1);
    expect(cut_short == 1, "cut more than one sleep of two short", signal);
    cut_one_short(signal, -1);
    expect(cut_short == 2, "did not cut the other sleep short the next time", signal);
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], 0);
    pthread_sigmask(SIG_UNBLOCK, &set, 0);
}

int main(void)
{
    struct sigaction handled = {.sa_handler = take}, ignored = {.sa_handler = SIG_IGN};
    sigaction(SIGUSR1, &ignored, 0);
    sigaction(SIGUSR2, &handled, 0);
    int meaningless[] = {SIGUSR1, SIGURG, SIGCHLD, SIGWINCH, SIGCONT};
    for (unsigned i = 0; i < sizeof meaningless / sizeof *meaningless; i++)
        expect(disturb(meaningless[i]) == 0, "cut a sleep short although nobody wants it", meaningless[i]);
    wake_one(SIGUSR2);
    expect(taken == sent, "its handler did not run once for each", SIGUSR2);

    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR2);
    pthread_sigmask(SIG_BLOCK, &set, 0);
    expect(disturb(SIGUSR2) == 0, "cut a sleep short although it is blocked", SIGUSR2);
    raise(SIGUSR2);
    expect(taken == sent, "its handler ran although it is blocked", SIGUSR2);
    pthread_sigmask(SIG_UNBLOCK, &set, 0);
    sent++;
    expect(taken == sent, "its handler did not run when it was unblocked", SIGUSR2);
    wake_one_of_two(SIGUSR2);
    expect(taken == sent, "its handler did not run once for each sent to the process", SIGUSR2);
    if (!wrong)
        printf("OK ignored-signals\n");
    return wrong != 0;
}
