/* Claim: signals between processes and threads: who sent them and what came along, stacks that no page of was touched
 * before, masks for the time of a call, nesting, queues, and addresses of faults. */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"

enum { PAGE = 4096, STACK = 64 * PAGE };

static volatile sig_atomic_t caught, count;
static siginfo_t last;
static char *stack, *handler_at;
static sigjmp_buf back;

static void note(int signal, siginfo_t *info, void *context)
{
    (void)context;
    char here;
    handler_at = &here;
    caught = signal;
    count++;
    last = *info;
}

static void jump(int signal, siginfo_t *info, void *context)
{
    note(signal, info, context);
    siglongjmp(back, 1);
}

static void handle(int signal, void (*handler)(int, siginfo_t *, void *), int flags)
{
    struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO | flags};
    sigemptyset(&action.sa_mask);
    expect(sigaction(signal, &action, NULL) == 0, "sigaction", signal);
    caught = count = 0;
}

static void senders(void)
{
    handle(SIGUSR1, note, 0);
    kill(getpid(), SIGUSR1);
    expect(caught == SIGUSR1 && last.si_code == SI_USER && last.si_pid == getpid(), "kill of oneself", last.si_code);
    handle(SIGUSR1, note, 0);
    raise(SIGUSR1);
    expect(caught == SIGUSR1 && last.si_code == SI_TKILL && last.si_pid == getpid(), "raise", last.si_code);
    pid_t child = fork();
    if (child == 0) {
        union sigval value = {.sival_int = 4711};
        sigqueue(getppid(), SIGUSR2, value);
        _exit(0);
    }
    sigset_t usr2, before;
    sigemptyset(&usr2);
    sigaddset(&usr2, SIGUSR2);
    sigprocmask(SIG_BLOCK, &usr2, &before);
    siginfo_t info;
    /* It may have come before the mask, were it not for this: the handler is not there. */
    expect(sigwaitinfo(&usr2, &info) == SIGUSR2 && info.si_pid == child, "sigwaitinfo", info.si_pid);
    expect(info.si_code == SI_QUEUE && info.si_value.sival_int == 4711, "its value", info.si_value.sival_int);
    sigprocmask(SIG_SETMASK, &before, NULL);
    waitpid(child, NULL, 0);
}

static void queues(void)
{
    sigset_t set, before;
    sigemptyset(&set);
    sigaddset(&set, SIGRTMIN);
    sigaddset(&set, SIGRTMIN + 1);
    sigaddset(&set, SIGUSR1);
    sigprocmask(SIG_BLOCK, &set, &before);
    for (int i = 0; i < 5; i++) {
        union sigval value = {.sival_int = i};
        sigqueue(getpid(), SIGRTMIN + 1, value);
        sigqueue(getpid(), SIGRTMIN, value);
        kill(getpid(), SIGUSR1);
    }
    sigset_t pending;
    sigpending(&pending);
    expect(sigismember(&pending, SIGUSR1) && sigismember(&pending, SIGRTMIN + 1), "sigpending", 0);
    siginfo_t info;
    struct timespec none = {0};
    expect(sigtimedwait(&set, &info, &none) == SIGUSR1, "the standard one comes first, once", info.si_signo);
    for (int i = 0; i < 10; i++) {
        int signal = sigtimedwait(&set, &info, &none);
        expect(signal == SIGRTMIN + (i >= 5) && info.si_value.sival_int == i % 5, "in order", signal * 100 + i);
    }
    expect(sigtimedwait(&set, &info, &none) == -1 && errno == EAGAIN, "no more", 0);
    sigprocmask(SIG_SETMASK, &before, NULL);
}

/* Stacks nobody has touched yet. */
static void stacks(void)
{
    stack = mmap(0, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    stack_t alternate = {.ss_sp = stack, .ss_size = STACK}, was;
    expect(sigaltstack(&alternate, NULL) == 0, "sigaltstack", 0);
    handle(SIGUSR1, note, SA_ONSTACK);
    raise(SIGUSR1);
    expect(handler_at > stack && handler_at <= stack + STACK, "on the alternate stack", (long)handler_at);
    expect(sigaltstack(NULL, &was) == 0 && was.ss_flags == 0 && was.ss_sp == stack, "back from it", was.ss_flags);
    madvise(stack, STACK, MADV_DONTNEED);
    pid_t child = fork();
    if (child == 0) { /* fork copies which stack it is */
        raise(SIGUSR1);
        _exit(handler_at > stack && handler_at <= stack + STACK ? 0 : 1);
    }
    int status;
    waitpid(child, &status, 0);
    expect(status == 0, "a child's alternate stack", status);
    /* One that cannot be written ends the process, even for a signal that is handled. */
    child = fork();
    if (child == 0) {
        mprotect(stack, STACK, PROT_NONE);
        raise(SIGUSR1);
        _exit(0);
    }
    waitpid(child, &status, 0);
    expect(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV, "no stack for a handler", status);
    alternate.ss_flags = SS_DISABLE;
    sigaltstack(&alternate, NULL);
    munmap(stack, STACK);
    handle(SIGUSR1, note, 0);
}

static void addresses(void)
{
    char *page = mmap(0, 2 * PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    munmap(page + PAGE, PAGE);
    handle(SIGSEGV, jump, SA_NODEFER);
    if (!sigsetjmp(back, 1))
        *(volatile char *)(page + 5) = 1;
    expect(caught == SIGSEGV && last.si_addr == page + 5 && last.si_code == SEGV_ACCERR, "no right", last.si_code);
    caught = 0;
    if (!sigsetjmp(back, 1))
        (void)*(volatile char *)(page + PAGE + 7);
    expect(last.si_addr == page + PAGE + 7 && last.si_code == SEGV_MAPERR, "not mapped", last.si_code);
    signal(SIGSEGV, SIG_DFL);
    handle(SIGFPE, jump, 0);
    static volatile int zero, some = 7;
    if (!sigsetjmp(back, 1))
        some /= zero;
    expect(caught == SIGFPE && last.si_code == FPE_INTDIV, "division", last.si_code);
    munmap(page, PAGE);
}

static void masks(void)
{
    sigset_t usr1, none, before, now;
    sigemptyset(&none);
    sigemptyset(&usr1);
    sigaddset(&usr1, SIGUSR1);
    handle(SIGUSR1, note, 0);
    sigprocmask(SIG_BLOCK, &usr1, &before);
    raise(SIGUSR1);
    expect(count == 0, "blocked", count);
    expect(ppoll(NULL, 0, NULL, &none) == -1 && errno == EINTR && count == 1, "ppoll lets it through", count);
    sigprocmask(SIG_SETMASK, NULL, &now);
    expect(sigismember(&now, SIGUSR1), "and blocks it again", 0);
    raise(SIGUSR1);
    expect(sigsuspend(&none) == -1 && errno == EINTR && count == 2, "sigsuspend, too", count);
    struct timespec moment = {.tv_nsec = 1000000};
    expect(ppoll(NULL, 0, &moment, &none) == 0, "ppoll in time", 0);
    sigprocmask(SIG_SETMASK, NULL, &now);
    expect(sigismember(&now, SIGUSR1), "blocked after it", 0);
    sigprocmask(SIG_SETMASK, &before, NULL);

    handle(SIGUSR1, note, SA_RESETHAND);
    raise(SIGUSR1);
    struct sigaction was;
    sigaction(SIGUSR1, NULL, &was);
    expect(was.sa_handler == SIG_DFL && count == 1, "SA_RESETHAND", count);
}

static volatile int over;

static void *spin(void *argument)
{
    while (!over)
        ;
    return argument;
}

/* A process is sent many signals by two others while its threads run. */
static void storm(void)
{
    enum { EACH = 300 };
    handle(SIGUSR1, note, SA_RESTART);
    handle(SIGUSR2, note, SA_RESTART);
    over = 0;
    pthread_t threads[2];
    for (int i = 0; i < 2; i++)
        pthread_create(&threads[i], NULL, spin, NULL);
    pid_t target = getpid(), senders_[2];
    for (int i = 0; i < 2; i++) {
        senders_[i] = fork();
        if (senders_[i] == 0) {
            for (int n = 0; n < EACH; n++)
                if (kill(target, i ? SIGUSR1 : SIGUSR2) != 0)
                    _exit(1);
            _exit(0);
        }
    }
    for (int i = 0; i < 2; i++) {
        int status = -1;
        pid_t pid = waitpid(senders_[i], &status, 0);
        expect(pid == senders_[i] && status == 0, "a sender", status);
    }
    over = 1;
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    expect(count > 0 && count <= 2 * EACH, "signals that came", count);
}

int main(void)
{
    /* Before a child can send it: without a handler it would end us. */
    sigset_t usr2;
    sigemptyset(&usr2);
    sigaddset(&usr2, SIGUSR2);
    sigprocmask(SIG_BLOCK, &usr2, NULL);
    senders();
    sigprocmask(SIG_UNBLOCK, &usr2, NULL);
    queues();
    stacks();
    addresses();
    masks();
    storm();
    if (wrong == 0)
        printf("OK signals\n");
    return wrong != 0;
}
