// Locks on files between processes: fcntl's ranges, of a process and of an open file, and flock.
//
// Claims: who may lock what, what F_GETLK says of it, that a lock goes with a close or an end of its process and not with a fork, that
// waiting ends when the lock is given up and is refused in a circle, that a descriptor closed by another thread leaves
// no lock behind, and that counters under a lock lose no increment.
// Works in the current directory.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"

enum { WORKERS = 4, ROUNDS = 200, CLOSES = 20, TURNS = 50 };

static struct flock range(int type, long start, long length) {
    return (struct flock){.l_type = type, .l_whence = SEEK_SET, .l_start = start, .l_len = length};
}

// 0, or the error's number.
static int lock(int fd, int command, int type, long start, long length) {
    struct flock lock = range(type, start, length);
    return fcntl(fd, command, &lock) == 0 ? 0 : errno;
}

// The same, asked by a child with a descriptor of its own.
static int in_child(int command, int type, long start, long length) {
    pid_t child = fork();
    if (child == 0) {
        int fd = open("locks", O_RDWR);
        _exit(lock(fd, command, type, start, length));
    }
    int status;
    waitpid(child, &status, 0);
    return WEXITSTATUS(status);
}

static void ranges(int fd) {
    claim("shared", lock(fd, F_SETLK, F_RDLCK, 0, 100), 0);
    claim("shared with another", in_child(F_SETLK, F_RDLCK, 50, 100), 0);
    claim("not alone", in_child(F_SETLK, F_WRLCK, 99, 1), EAGAIN);
    claim("alone behind it", in_child(F_SETLK, F_WRLCK, 100, 0), 0);
    claim("made exclusive in the middle", lock(fd, F_SETLK, F_WRLCK, 40, 20), 0);
    claim("shared left of it", in_child(F_SETLK, F_RDLCK, 0, 40), 0);
    claim("shared right of it", in_child(F_SETLK, F_RDLCK, 60, 40), 0);
    claim("not across it", in_child(F_SETLK, F_RDLCK, 30, 15), EAGAIN);

    struct flock asked = range(F_WRLCK, 0, 0);
    pid_t child = fork();
    if (child == 0) {
        int other = open("locks", O_RDWR);
        claim("F_GETLK", fcntl(other, F_GETLK, &asked), 0);
        claim("its type", asked.l_type, F_RDLCK);
        claim("its start", asked.l_start, 0);
        claim("its length", asked.l_len, 40);
        claim("its process", asked.l_pid, getppid());
        asked = range(F_WRLCK, 5000, 1);
        claim("F_GETLK of a free range", fcntl(other, F_GETLK, &asked) == 0 && asked.l_type == F_UNLCK, 1);
        _exit(wrong);
    }
    int status;
    waitpid(child, &status, 0);
    claim("what F_GETLK says", WEXITSTATUS(status), 0);

    claim("unlocked", lock(fd, F_SETLK, F_UNLCK, 0, 0), 0);
    claim("free again", in_child(F_SETLK, F_WRLCK, 0, 0), 0);
    claim("locked once more", lock(fd, F_SETLK, F_WRLCK, 0, 10), 0);
    close(open("locks", O_RDONLY));
    claim("gone with the close of another descriptor", in_child(F_SETLK, F_WRLCK, 0, 10), 0);
    claim("a descriptor for reading locks nothing alone", lock(open("locks", O_RDONLY), F_SETLK, F_WRLCK, 0, 1), EBADF);
    claim("from the end", lock(fd, F_SETLK, 77, 0, 1), EINVAL);
    struct flock backwards = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 10, .l_len = -5};
    claim("backwards", fcntl(fd, F_SETLK, &backwards), 0);
    claim("before it", in_child(F_SETLK, F_WRLCK, 0, 5), 0);
    claim("in it", in_child(F_SETLK, F_WRLCK, 9, 1), EAGAIN);
    claim("unlocked again", lock(fd, F_SETLK, F_UNLCK, 0, 0), 0);
}

static void open_files(int fd) {
    int other = open("locks", O_RDWR), same = dup(fd);
    claim("of an open file", lock(fd, F_OFD_SETLK, F_WRLCK, 0, 10), 0);
    claim("another open file of this process", lock(other, F_OFD_SETLK, F_WRLCK, 5, 1), EAGAIN);
    claim("another descriptor of the same", lock(same, F_OFD_SETLK, F_WRLCK, 5, 1), 0);
    close(same);
    claim("a close that is not the last", lock(other, F_OFD_SETLK, F_WRLCK, 5, 1), EAGAIN);
    claim("unlocked", lock(fd, F_OFD_SETLK, F_UNLCK, 0, 0), 0);
    claim("free again", lock(other, F_OFD_SETLK, F_WRLCK, 5, 1), 0);
    close(other);
    claim("gone with the last close", lock(fd, F_OFD_SETLK, F_WRLCK, 5, 1), 0);
    claim("unlocked at last", lock(fd, F_OFD_SETLK, F_UNLCK, 0, 0), 0);

    other = open("locks", O_RDONLY);
    claim("flock", flock(fd, LOCK_SH), 0);
    claim("flock shared", flock(other, LOCK_SH | LOCK_NB), 0);
    claim("flock not alone", flock(other, LOCK_EX | LOCK_NB) == 0 ? 0 : errno, EWOULDBLOCK);
    claim("flock knows nothing of ranges", lock(fd, F_SETLK, F_WRLCK, 0, 0), 0);
    close(other);
    claim("flock alone", flock(fd, LOCK_EX | LOCK_NB), 0);
    claim("flock given up", flock(fd, LOCK_UN), 0);
}

static void on_alarm(int signal) {
    (void)signal;
}

static void waiting(int fd) {
    int told[2], status;
    claim("pipe", pipe(told), 0);
    claim("held", lock(fd, F_SETLK, F_WRLCK, 0, 1), 0);
    pid_t child = fork();
    if (child == 0) {
        int own = open("locks", O_RDWR);
        claim("the second", lock(own, F_SETLK, F_WRLCK, 1, 1), 0);
        claim("written", write(told[1], "x", 1), 1);
        // The parent waits for the second byte: one of the two is told of the circle.
        int first = lock(own, F_SETLKW, F_WRLCK, 0, 1);
        _exit(wrong ? 100 : first);
    }
    char byte;
    claim("read", read(told[0], &byte, 1), 1);
    int second = lock(fd, F_SETLKW, F_WRLCK, 1, 1);
    if (second != 0)
        claim("given up", lock(fd, F_SETLK, F_UNLCK, 0, 0), 0);
    waitpid(child, &status, 0);
    claim("one of a circle has its lock", (second == 0) + (WEXITSTATUS(status) == 0), 1);
    claim("the other is told", second + WEXITSTATUS(status), EDEADLK);
    claim("all free", lock(fd, F_SETLK, F_UNLCK, 0, 0), 0);

    // A holder that is killed holds no more.
    child = fork();
    if (child == 0) {
        int own = open("locks", O_RDWR);
        lock(own, F_SETLK, F_WRLCK, 0, 0);
        claim("written", write(told[1], "x", 1), 1);
        pause();
    }
    claim("read", read(told[0], &byte, 1), 1);
    struct sigaction action = {.sa_handler = on_alarm};
    sigaction(SIGALRM, &action, NULL);
    struct itimerval soon = {.it_value = {.tv_usec = 10000}, .it_interval = {.tv_usec = 10000}};
    setitimer(ITIMER_REAL, &soon, NULL);
    claim("a signal ends the wait", lock(fd, F_SETLKW, F_WRLCK, 0, 1), EINTR);
    setitimer(ITIMER_REAL, &(struct itimerval){0}, NULL);
    kill(child, SIGKILL);
    claim("after its end", lock(fd, F_SETLKW, F_WRLCK, 0, 1), 0);
    waitpid(child, &status, 0);
    claim("unlocked", lock(fd, F_SETLK, F_UNLCK, 0, 0), 0);
    close(told[0]), close(told[1]);
}

// The thread's descriptor, and what became of its wait.
struct closed {
    int fd, told, ended;
};

static void *locks_what_is_closed(void *argument) {
    struct closed *closed = argument;
    if (write(closed->told, "x", 1) == 1)
        closed->ended = lock(closed->fd, F_SETLKW, F_WRLCK, 200, 8);
    return NULL;
}

// A thread waits for a lock, the descriptor is closed meanwhile, then the lock is granted: the close has given up what
// its process had, so nobody would ever give up this one. Whether the thread waits yet when the descriptor goes makes
// no difference to anybody.
static void closed_while_waiting(void) {
    int to_holder[2], to_us[2], told[2], status;
    claim("pipes", pipe(to_holder) | pipe(to_us) | pipe(told), 0);
    for (int round = 0; round < CLOSES; round++) {
        char byte;
        pid_t holder = fork();
        if (holder == 0) {
            int own = open("locks", O_RDWR), mine = lock(own, F_SETLK, F_WRLCK, 200, 8);
            if (write(to_us[1], "h", 1) != 1 || read(to_holder[0], &byte, 1) != 1)
                _exit(1);
            _exit(mine != 0 || lock(own, F_SETLK, F_UNLCK, 200, 8) != 0);
        }
        claim("it is held", read(to_us[0], &byte, 1), 1);
        struct closed closed = {.fd = open("locks", O_RDWR), .told = told[1], .ended = -1};
        pthread_t thread;
        claim("a thread", pthread_create(&thread, NULL, locks_what_is_closed, &closed), 0);
        claim("it is about to wait", read(told[0], &byte, 1), 1);
        for (int turn = 0; turn < TURNS; turn++)
            sched_yield();
        claim("closed", close(closed.fd), 0);
        claim("given up by the holder", write(to_holder[1], "g", 1), 1);
        pthread_join(thread, NULL);
        claim("a lock by a descriptor that is closed", closed.ended, EBADF);
        waitpid(holder, &status, 0);
        claim("the holder", status, 0);
        claim("no lock is left", in_child(F_SETLK, F_WRLCK, 200, 8), 0);
    }
    for (int end = 0; end < 2; end++)
        close(to_holder[end]), close(to_us[end]), close(told[end]);
}

static void counters(int fd) {
    long zero = 0, sum = 0;
    claim("written", pwrite(fd, &zero, sizeof zero, 64), sizeof zero);
    for (int worker = 0; worker < WORKERS; worker++) {
        if (fork() == 0) {
            int own = open("locks", O_RDWR);
            for (int round = 0; round < ROUNDS; round++) {
                long value;
                if (lock(own, F_SETLKW, F_WRLCK, 64, 8) || pread(own, &value, 8, 64) != 8)
                    _exit(1);
                value++;
                if (pwrite(own, &value, 8, 64) != 8 || lock(own, F_SETLK, F_UNLCK, 64, 8))
                    _exit(1);
            }
            _exit(0);
        }
    }
    for (int worker = 0, status; worker < WORKERS; worker++) {
        wait(&status);
        claim("a worker", status, 0);
    }
    claim("read", pread(fd, &sum, sizeof sum, 64), sizeof sum);
    claim("the sum", sum, WORKERS * ROUNDS);
}

int main(void) {
    int fd = open("locks", O_RDWR | O_CREAT | O_TRUNC, 0644);
    ranges(fd);
    open_files(fd);
    waiting(fd);
    closed_while_waiting();
    counters(fd);
    printf(wrong ? "FAIL file-locks broken=%d claims=%d\n" : "OK file-locks broken=%d claims=%d\n", wrong, claims);
    return wrong != 0;
}
