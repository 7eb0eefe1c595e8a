/* Claim: processes that begin without a copy of their parent's memory: vfork, posix_spawn, exec of the program itself,
 * waiting in all its forms, groups, orphans, stops, alarms. Called by another name, the program plays a part of its own. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "check.h"

extern char **environ;

/* Starts the program in the part of `words[0]`; posix_spawn shares the memory until exec. */
static pid_t play(char *const words[], posix_spawn_file_actions_t *files)
{
    pid_t pid = -1;
    int error = posix_spawn(&pid, "/proc/self/exe", files, NULL, words, environ);
    expect(error == 0, "posix_spawn", error);
    return pid;
}

static pid_t play_alone(const char *part, const char *argument)
{
    char *words[] = {(char *)part, (char *)argument, NULL};
    return play(words, NULL);
}

static int status_of(pid_t pid)
{
    int status = -1;
    pid_t found = waitpid(pid, &status, 0);
    expect(found == pid, "waitpid", found);
    return status;
}

static void *waits_for_mutex(void *mutex)
{
    pthread_mutex_lock(mutex);
    return NULL;
}

static void *waits_for_signal(void *nothing)
{
    for (;;)
        pause();
    return nothing;
}

static void *computes(void *nothing)
{
    for (volatile long n = 0;; n++)
        ;
    return nothing;
}

static void *executes(void *nothing)
{
    usleep(10000);
    execl("/proc/self/exe", "alone", NULL);
    return nothing;
}

/* The parts. */

static int part(int argc, char **argv)
{
    const char *name = argv[0];
    const char *argument = argc > 1 ? argv[1] : "";
    if (!strcmp(name, "status"))
        return atoi(argument);
    if (!strcmp(name, "signal")) {
        kill(getpid(), atoi(argument));
        return 99;
    }
    if (!strcmp(name, "sleeper")) {
        for (;;)
            pause();
    }
    if (!strcmp(name, "environment"))
        return argc == 3 && !strcmp(argv[2], "two words") && getenv("TIDE") && !strcmp(getenv("TIDE"), "ebb") ? 0 : 1;
    if (!strcmp(name, "descriptor"))
        return fcntl(atoi(argument), F_GETFD) == -1 && errno == EBADF ? 1 : 0;
    if (!strcmp(name, "double")) { /* a stage of a pipeline: every byte twice */
        char byte;
        while (read(0, &byte, 1) == 1)
            if (write(1, (char[2]){byte, byte}, 2) != 2)
                return 1;
        return 0;
    }
    if (!strcmp(name, "ignored")) { /* what was ignored stays so, what was handled does not */
        struct sigaction was;
        sigaction(SIGUSR1, NULL, &was);
        if (was.sa_handler != SIG_IGN)
            return 1;
        sigaction(SIGUSR2, NULL, &was);
        if (was.sa_handler != SIG_DFL)
            return 2;
        sigset_t mask;
        sigprocmask(SIG_BLOCK, NULL, &mask);
        return sigismember(&mask, SIGHUP) ? 0 : 3;
    }
    if (!strcmp(name, "parent")) { /* leaves an orphan that tells on the pipe who adopted it */
        char number[16];
        snprintf(number, sizeof number, "%d", getpid());
        char *words[] = {"orphan", number, NULL};
        play(words, NULL);
        return 0;
    }
    if (!strcmp(name, "orphan")) {
        struct pollfd end = {.fd = 4, .events = POLLIN};
        write(3, "r", 1);
        poll(&end, 1, -1); /* until the grandparent says that the parent is gone */
        write(3, getppid() != atoi(argument) ? "y" : "n", 1);
        return 0;
    }
    if (!strcmp(name, "mourner")) { /* dies with its parent */
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        write(3, "r", 1);
        for (;;)
            pause();
    }
    if (!strcmp(name, "parent-of-mourner")) {
        char *words[] = {"mourner", NULL};
        play(words, NULL);
        char byte;
        read(4, &byte, 1); /* until it has said that it mourns */
        return 0;
    }
    if (!strcmp(name, "threads")) { /* a thread that is not the first executes another program; the others wait or compute */
        static pthread_mutex_t held = PTHREAD_MUTEX_INITIALIZER;
        pthread_t threads[4];
        pthread_mutex_lock(&held);
        pthread_create(&threads[0], NULL, waits_for_mutex, &held);
        pthread_create(&threads[1], NULL, waits_for_signal, NULL);
        pthread_create(&threads[2], NULL, computes, NULL);
        pthread_create(&threads[3], NULL, executes, NULL);
        pthread_join(threads[3], NULL);
        return 97;
    }
    if (!strcmp(name, "alone")) { /* what is left of that: one thread, with the number of the process */
        char path[64], line[256];
        int threads = 0;
        snprintf(path, sizeof path, "/proc/%d/status", getpid());
        FILE *file = fopen(path, "r");
        while (file && fgets(line, sizeof line, file))
            sscanf(line, "Threads: %d", &threads);
        return threads == 1 && syscall(SYS_gettid) == getpid() ? 6 : 1;
    }
    printf("BROKEN no part is called %s\n", name);
    return 98;
}

/* The play. */

static volatile sig_atomic_t caught, caught_code, caught_status;
static volatile pid_t caught_pid;

static void on_signal(int signal, siginfo_t *info, void *context)
{
    (void)context;
    caught = signal;
    caught_code = info->si_code;
    caught_pid = info->si_pid;
    caught_status = info->si_status;
}

static void handle(int signal, int flags)
{
    struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | flags};
    sigaction(signal, &action, NULL);
    caught = 0;
}

static void statuses(void)
{
    int status = status_of(play_alone("status", "7"));
    expect(WIFEXITED(status) && WEXITSTATUS(status) == 7, "an exit status", status);
    status = status_of(play_alone("signal", "15"));
    expect(WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM, "SIGTERM", status);
    status = status_of(play_alone("signal", "9"));
    expect(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL, "SIGKILL", status);
    expect(waitpid(-1, &status, 0) == -1 && errno == ECHILD, "no children", status);

    pid_t child = play_alone("sleeper", NULL);
    expect(waitpid(child, &status, WNOHANG) == 0, "WNOHANG", status);
    expect(waitpid(child + 100, &status, 0) == -1 && errno == ECHILD, "somebody else's child", status);
    expect(kill(child, SIGTERM) == 0, "kill", child);
    siginfo_t info = {0};
    expect(waitid(P_PID, (id_t)child, &info, WEXITED | WNOWAIT) == 0, "waitid", child);
    expect(info.si_pid == child && info.si_code == CLD_KILLED && info.si_status == SIGTERM, "siginfo", info.si_code);
    expect(kill(child, 0) == 0, "a zombie can be named", child);
    expect(status_of(child) == SIGTERM, "the zombie's status", child);
    struct rusage usage;
    pid_t other = play_alone("status", "9");
    expect(wait4(other, &status, 0, &usage) == other && WEXITSTATUS(status) == 9, "wait4", status);
    expect(usage.ru_minflt + usage.ru_majflt > 0, "faults of the child", usage.ru_minflt);
    expect(kill(child, 0) == -1 && errno == ESRCH, "nobody is left", child);
}

static void notices(void)
{
    handle(SIGCHLD, 0);
    pid_t child = play_alone("status", "3");
    while (caught != SIGCHLD)
        usleep(1000);
    expect(caught_pid == child && caught_code == CLD_EXITED && caught_status == 3, "SIGCHLD", caught_code);
    status_of(child);

    signal(SIGCHLD, SIG_IGN);
    child = play_alone("status", "0");
    int status;
    expect(waitpid(child, &status, 0) == -1 && errno == ECHILD, "children that nobody asks for", status);
    signal(SIGCHLD, SIG_DFL);
}

static void stops(void)
{
    pid_t child = play_alone("sleeper", NULL);
    int status;
    kill(child, SIGSTOP);
    expect(waitpid(child, &status, WUNTRACED) == child && WIFSTOPPED(status), "stopped", status);
    expect(WSTOPSIG(status) == SIGSTOP, "by SIGSTOP", status);
    kill(child, SIGCONT);
    expect(waitpid(child, &status, WCONTINUED) == child && WIFCONTINUED(status), "continued", status);
    kill(child, SIGSTOP);
    kill(child, SIGKILL);
    status = status_of(child);
    expect(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL, "killed while stopped", status);
}

static void groups(void)
{
    pid_t one = play_alone("sleeper", NULL), two = play_alone("sleeper", NULL);
    expect(getpgid(one) == getpgrp(), "a child's group", getpgid(one));
    expect(setpgid(one, one) == -1 && errno == EACCES, "setpgid after exec", one);
    pid_t child = vfork();
    if (child == 0) {
        if (setpgid(0, 0) != 0 || getpgrp() != getpid() || setsid() != -1)
            _exit(1);
        execl("/proc/self/exe", "sleeper", NULL);
        _exit(2);
    }
    expect(getpgid(child) == child, "a group of its own", getpgid(child));
    expect(kill(-child, SIGTERM) == 0, "kill of a group", child);
    int status = status_of(child);
    expect(WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM, "killed with its group", status);
    expect(kill(-child, 0) == -1 && errno == ESRCH, "the group is gone", child);
    kill(one, SIGKILL);
    kill(two, SIGKILL);
    expect(waitpid(0, &status, 0) > 0, "of my group", status);
    expect(waitpid(-getpgrp(), &status, 0) > 0, "of that group", status);
    child = vfork();
    if (child == 0)
        _exit(setsid() == getpid() && getsid(0) == getpid() && getpgrp() == getpid() ? 0 : 1);
    expect(status_of(child) == 0, "setsid", 0);
}

static int shared_word;

static void memory(void)
{
    pid_t child = vfork();
    if (child == 0) {
        shared_word = 42;
        _exit(5);
    }
    expect(shared_word == 42, "vfork shares memory, and the parent waits", shared_word);
    int status = status_of(child);
    expect(WIFEXITED(status) && WEXITSTATUS(status) == 5, "_exit of a vfork child", status);
    child = vfork();
    if (child == 0) {
        execl("/no/such/file", "x", NULL);
        shared_word = errno;
        execl("/", "x", NULL);
        _exit(errno == EACCES);
    }
    expect(shared_word == ENOENT, "execve of nothing", shared_word);
    status = status_of(child);
    expect(WIFEXITED(status) && WEXITSTATUS(status) == 1, "execve of a directory", status);
}

static void programs(void)
{
    setenv("TIDE", "ebb", 1);
    char *words[] = {"environment", "", "two words", NULL};
    expect(status_of(play(words, NULL)) == 0, "arguments and environment", 0);

    char number[16];
    int open_ = dup(1), closed = fcntl(1, F_DUPFD_CLOEXEC, 10);
    snprintf(number, sizeof number, "%d", open_);
    expect(status_of(play_alone("descriptor", number)) == 0, "a descriptor survives exec", open_);
    snprintf(number, sizeof number, "%d", closed);
    expect(WEXITSTATUS(status_of(play_alone("descriptor", number))) == 1, "close-on-exec", closed);
    close(open_);
    close(closed);

    expect(WEXITSTATUS(status_of(play_alone("threads", NULL))) == 6, "execve of one thread of many", 0);

    signal(SIGUSR1, SIG_IGN);
    handle(SIGUSR2, 0);
    sigset_t hup, before;
    sigemptyset(&hup);
    sigaddset(&hup, SIGHUP);
    sigprocmask(SIG_BLOCK, &hup, &before);
    expect(status_of(play_alone("ignored", NULL)) == 0, "signals across exec", 0);
    sigprocmask(SIG_SETMASK, &before, NULL);
    signal(SIGUSR2, SIG_DFL);
}

enum { STAGES = 6 };

/* echo x | double | double | … : six processes, and every byte comes out 64 times. */
static void pipeline(void)
{
    int first[2], input, stages = 0;
    pid_t children[STAGES];
    expect(pipe2(first, O_CLOEXEC) == 0, "pipe2", 0);
    input = first[0];
    for (; stages < STAGES; stages++) {
        int next[2];
        expect(pipe2(next, O_CLOEXEC) == 0, "pipe2", stages);
        posix_spawn_file_actions_t files;
        posix_spawn_file_actions_init(&files);
        posix_spawn_file_actions_adddup2(&files, input, 0);
        posix_spawn_file_actions_adddup2(&files, next[1], 1);
        char *words[] = {"double", NULL};
        children[stages] = play(words, &files);
        posix_spawn_file_actions_destroy(&files);
        close(input);
        close(next[1]);
        input = next[0];
    }
    const char text[] = "tide and ebb";
    expect(write(first[1], text, sizeof text) == sizeof text, "the beginning", 0);
    close(first[1]);
    long count = 0;
    char byte;
    while (read(input, &byte, 1) == 1) {
        if (byte != text[count >> STAGES])
            wrong++;
        count++;
    }
    expect(count == (long)sizeof text << STAGES, "the end of the pipeline", count);
    for (int i = 0; i < STAGES; i++)
        expect(status_of(children[i]) == 0, "a stage", i);
    close(input);
}

/* Starts a part that finds the pipe to us at 3 and the one from us at 4. */
static pid_t play_between(const char *name, int to_us, int from_us)
{
    posix_spawn_file_actions_t files;
    posix_spawn_file_actions_init(&files);
    posix_spawn_file_actions_adddup2(&files, to_us, 3);
    posix_spawn_file_actions_adddup2(&files, from_us, 4);
    char *words[] = {(char *)name, NULL};
    pid_t pid = play(words, &files);
    posix_spawn_file_actions_destroy(&files);
    return pid;
}

static int moved(int fd)
{
    int to = fcntl(fd, F_DUPFD_CLOEXEC, 20);
    close(fd);
    return to;
}

static void orphans(void)
{
    int up[2], down[2];
    char byte = 0;
    expect(pipe2(up, O_CLOEXEC) == 0 && pipe2(down, O_CLOEXEC) == 0, "pipes", 0);
    /* Above 4, so that a part does not find them where it looks for its own. */
    up[0] = moved(up[0]), up[1] = moved(up[1]), down[0] = moved(down[0]), down[1] = moved(down[1]);
    pid_t parent = play_between("parent", up[1], down[0]);
    expect(read(up[0], &byte, 1) == 1 && byte == 'r', "the orphan to be", byte);
    expect(status_of(parent) == 0, "its parent", 0);
    write(down[1], "x", 1);
    expect(read(up[0], &byte, 1) == 1 && byte == 'y', "has another parent now", byte);
    read(down[0], &byte, 1);

    parent = play_between("parent-of-mourner", up[1], down[0]);
    expect(read(up[0], &byte, 1) == 1 && byte == 'r', "one that dies with its parent", byte);
    write(down[1], "x", 1);
    expect(status_of(parent) == 0, "the parent", 0);
    close(up[1]);
    expect(read(up[0], &byte, 1) == 0, "nobody holds the pipe any more", byte);
    close(up[0]), close(down[0]), close(down[1]);
}

static void alarms(void)
{
    handle(SIGALRM, 0);
    struct itimerval soon = {.it_value = {.tv_usec = 20000}, .it_interval = {.tv_usec = 20000}}, left;
    setitimer(ITIMER_REAL, &soon, NULL);
    sigset_t none;
    sigemptyset(&none);
    expect(sigsuspend(&none) == -1 && errno == EINTR && caught == SIGALRM, "sigsuspend", caught);
    caught = 0;
    expect(pause() == -1 && errno == EINTR && caught == SIGALRM, "the next alarm", caught);
    struct itimerval off = {0};
    setitimer(ITIMER_REAL, &off, &left);
    expect(left.it_interval.tv_usec == 20000 && left.it_value.tv_usec <= 20000, "what was left", left.it_value.tv_usec);
    expect(alarm(100) == 0 && alarm(0) == 100, "alarm", 0);
    signal(SIGALRM, SIG_DFL);

    sigset_t child_;
    sigemptyset(&child_);
    sigaddset(&child_, SIGCHLD);
    sigprocmask(SIG_BLOCK, &child_, NULL);
    pid_t child = play_alone("status", "4");
    siginfo_t info;
    struct timespec patience = {.tv_sec = 60}, none_ = {0};
    expect(sigtimedwait(&child_, &info, &patience) == SIGCHLD && info.si_pid == child, "sigtimedwait", info.si_pid);
    status_of(child);
    expect(sigtimedwait(&child_, &info, &none_) == -1 && errno == EAGAIN, "no signal", 0);
    sigprocmask(SIG_UNBLOCK, &child_, NULL);
}

int main(int argc, char **argv)
{
    setvbuf(stdout, NULL, _IONBF, 0);
    const char *name = strrchr(argv[0], '/');
    if (!name && argv[0][0] && strncmp(argv[0], "children", 8))
        return part(argc, argv);
    expect(getppid() > 0 && getpgrp() > 0, "relatives", getppid());
    statuses();
    notices();
    stops();
    groups();
    memory();
    programs();
    pipeline();
    orphans();
    alarms();
    if (wrong == 0)
        printf("OK children\n");
    return wrong != 0;
}
