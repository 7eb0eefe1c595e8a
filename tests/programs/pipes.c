/* Claim: a pipe is a queue of bytes: reads wait for some, writes for room, short writes are never mixed, ends are noticed,
 * poll and select see all of it. Only threads, no processes. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/select.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "check.h"

enum { WRITERS = 4, RECORDS = 300, CAPACITY = 65536 };

static int ends[2];

/* Records of PIPE_BUF bytes and less; a byte says who wrote it, two how long it is. */
static void *write_records(void *argument)
{
    unsigned char who = (unsigned char)(long)argument, record[PIPE_BUF];
    for (int i = 0; i < RECORDS; i++) {
        size_t length = 3 + (size_t)(who * 977 + i * 331) % (PIPE_BUF - 2);
        memset(record, who, sizeof record);
        record[1] = (unsigned char)(length >> 8), record[2] = (unsigned char)length;
        if (write(ends[1], record, length) != (ssize_t)length)
            wrong++;
    }
    return NULL;
}

static int read_all(int fd, unsigned char *to, size_t length)
{
    for (size_t done = 0; done < length;) {
        ssize_t count = read(fd, to + done, length - done);
        if (count <= 0)
            return 0;
        done += (size_t)count;
    }
    return 1;
}

static void records(void)
{
    pthread_t writers[WRITERS];
    expect(pipe(ends) == 0, "pipe", 0);
    for (long i = 0; i < WRITERS; i++)
        pthread_create(&writers[i], NULL, write_records, (void *)(i + 1));
    for (int i = 0; i < WRITERS * RECORDS; i++) {
        unsigned char record[PIPE_BUF];
        if (!read_all(ends[0], record, 3))
            break;
        size_t length = (size_t)record[1] << 8 | record[2];
        if (!read_all(ends[0], record + 3, length - 3))
            break;
        for (size_t at = 3; at < length; at++)
            if (record[at] != record[0]) {
                expect(0, "records are mixed", i);
                return;
            }
    }
    for (int i = 0; i < WRITERS; i++)
        pthread_join(writers[i], NULL);
    close(ends[1]);
    char byte;
    expect(read(ends[0], &byte, 1) == 0, "the end", 0);
    close(ends[0]);
}

static void *write_much(void *argument)
{
    enum { MUCH = 1 << 20 };
    char *bytes = malloc(MUCH);
    for (int i = 0; i < MUCH; i++)
        bytes[i] = (char)(i * 7 + i / 256);
    long count = write(ends[1], bytes, MUCH);
    if (count != MUCH)
        wrong++;
    close(ends[1]);
    free(bytes);
    return argument;
}

static void one_long_write(void)
{
    pthread_t writer;
    expect(pipe(ends) == 0, "pipe", 0);
    pthread_create(&writer, NULL, write_much, NULL);
    char part[5003];
    long total = 0, count;
    while ((count = read(ends[0], part, sizeof part)) > 0)
        for (long i = 0; i < count; i++, total++)
            if (part[i] != (char)(total * 7 + total / 256)) {
                expect(0, "a byte of the long write", total);
                total = 1 << 30;
            }
    expect(total == 1 << 20, "bytes of the long write", total);
    pthread_join(writer, NULL);
    close(ends[0]);
}

static void nonblocking(void)
{
    int fds[2];
    char bytes[PIPE_BUF] = {0}, byte;
    expect(pipe2(fds, O_NONBLOCK) == 0, "pipe2", 0);
    expect(fcntl(fds[0], F_GETFL) == (O_RDONLY | O_NONBLOCK), "flags to read", fcntl(fds[0], F_GETFL));
    expect(fcntl(fds[1], F_GETFL) == (O_WRONLY | O_NONBLOCK), "flags to write", fcntl(fds[1], F_GETFL));
    expect(read(fds[0], &byte, 1) == -1 && errno == EAGAIN, "an empty pipe", 0);
    long total = 0, count;
    while ((count = write(fds[1], bytes, sizeof bytes)) > 0)
        total += count;
    expect(count == -1 && errno == EAGAIN && total == CAPACITY, "a full pipe", total);
    expect(read(fds[0], bytes, 100) == 100, "a hundred bytes", 0);
    expect(read(fds[1], &byte, 1) == -1 && errno == EBADF, "read at the wrong end", 0);
    expect(write(fds[0], &byte, 1) == -1 && errno == EBADF, "write at the wrong end", 0);
    expect(lseek(fds[0], 0, SEEK_CUR) == -1 && errno == ESPIPE, "lseek", 0);
    struct stat about;
    expect(fstat(fds[0], &about) == 0 && S_ISFIFO(about.st_mode), "fstat", about.st_mode);
    expect(fcntl(fds[0], F_SETFL, 0) == 0 && fcntl(fds[0], F_GETFL) == O_RDONLY, "F_SETFL", 0);
    close(fds[0]);
    close(fds[1]);
}

static volatile sig_atomic_t caught;

static void on_signal(int signal)
{
    caught = signal;
}

static void nobody_reads(void)
{
    int fds[2];
    signal(SIGPIPE, on_signal);
    expect(pipe(fds) == 0, "pipe", 0);
    int copy = dup(fds[0]);
    close(fds[0]);
    expect(write(fds[1], "x", 1) == 1, "a copy of the descriptor reads", 0);
    close(copy);
    expect(write(fds[1], "x", 1) == -1 && errno == EPIPE && caught == SIGPIPE, "nobody reads", caught);
    signal(SIGPIPE, SIG_IGN);
    expect(write(fds[1], "x", 1) == -1 && errno == EPIPE, "SIGPIPE ignored", 0);
    struct pollfd end = {.fd = fds[1], .events = POLLOUT};
    expect(poll(&end, 1, -1) == 1 && (end.revents & POLLERR), "poll of a broken pipe", end.revents);
    close(fds[1]);
}

static void *write_later(void *argument)
{
    usleep(20000);
    expect(write(*(int *)argument, "x", 1) == 1, "a late byte", 0);
    return NULL;
}

static void several(void)
{
    int one[2], two[2];
    char byte;
    pthread_t writer;
    expect(pipe(one) == 0 && pipe(two) == 0, "pipe", 0);
    struct pollfd both[2] = {{.fd = one[0], .events = POLLIN}, {.fd = two[0], .events = POLLIN}};
    expect(poll(both, 2, 0) == 0 && poll(both, 2, 10) == 0, "nothing yet", both[0].revents);
    pthread_create(&writer, NULL, write_later, &two[1]);
    expect(poll(both, 2, -1) == 1 && both[1].revents == POLLIN && both[0].revents == 0, "poll", both[1].revents);
    pthread_join(writer, NULL);
    expect(read(two[0], &byte, 1) == 1 && byte == 'x', "the byte", 0);

    fd_set set, out;
    FD_ZERO(&set);
    FD_SET(one[0], &set);
    FD_SET(two[0], &set);
    FD_ZERO(&out);
    FD_SET(one[1], &out);
    int most = two[1] + 1;
    struct timeval moment = {.tv_usec = 1000};
    fd_set in = set;
    expect(select(most, &in, NULL, NULL, &moment) == 0 && !FD_ISSET(one[0], &in), "select in vain", 0);
    pthread_create(&writer, NULL, write_later, &one[1]);
    in = set;
    expect(select(most, &in, NULL, NULL, NULL) == 1 && FD_ISSET(one[0], &in) && !FD_ISSET(two[0], &in), "select", 0);
    pthread_join(writer, NULL);
    in = set;
    expect(select(most, &in, &out, NULL, NULL) == 2 && FD_ISSET(one[1], &out), "select to read and write", 0);
    close(two[1]);
    expect(poll(both, 2, -1) == 2 && (both[1].revents & POLLHUP), "poll at the end", both[1].revents);
    FD_CLR(one[0], &set);
    expect(select(most, &set, NULL, NULL, NULL) == 1, "select at the end", 0);
    close(one[0]), close(one[1]), close(two[0]);
    struct pollfd closed = {.fd = one[0], .events = POLLIN};
    expect(poll(&closed, 1, -1) == 1 && closed.revents == POLLNVAL, "poll of what is closed", closed.revents);
}

static void interrupted(void)
{
    int fds[2];
    char byte;
    expect(pipe(fds) == 0, "pipe", 0);
    struct sigaction action = {.sa_handler = on_signal};
    sigaction(SIGALRM, &action, NULL);
    ualarm(20000, 20000);
    expect(read(fds[0], &byte, 1) == -1 && errno == EINTR, "a read that a signal ends", 0);
    struct pollfd end = {.fd = fds[0], .events = POLLIN};
    expect(poll(&end, 1, -1) == -1 && errno == EINTR, "a poll that a signal ends", 0);
    static char much[CAPACITY + 1];
    expect(write(fds[1], much, sizeof much) == CAPACITY, "a write that a signal cuts short", 0);
    ualarm(0, 0);
    close(fds[0]), close(fds[1]);
}

static void vectors(void)
{
    int fds[2];
    char a[3], b[5];
    expect(pipe(fds) == 0, "pipe", 0);
    struct iovec parts[2] = {{"tide", 4}, {"ebb", 3}};
    expect(writev(fds[1], parts, 2) == 7, "writev", 0);
    struct iovec places[2] = {{a, 3}, {b, 5}};
    expect(readv(fds[0], places, 2) == 7 && !memcmp(a, "tid", 3) && !memcmp(b, "eebb", 4), "readv", 0);
    close(fds[0]), close(fds[1]);
}

int main(void)
{
    records();
    one_long_write();
    nonblocking();
    nobody_reads();
    several();
    interrupted();
    vectors();
    if (wrong == 0)
        printf("OK pipes\n");
    return wrong != 0;
}
