/* Claim: a program's file is mapped, not loaded: its pages come as they are touched, are shared by all who run it, and are dropped
 * when memory is short; and nobody writes to a file that runs. The file has 16 MiB of constants. Each part is a mode of its own:
 *   lazy             what is read when it begins, when three pages are touched, and when all are
 *   share COUNT      COUNT processes of the same file: constants are in memory once, variables once for each
 *   busy             who may not write to a program, and who may not run what is written to; in the current directory */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"

enum { PAGE = 4096, PAGES = 4096, VARIABLES = 64, SHARED = 256 };

/* Page i of the constants begins with i. */
__asm__(".pushsection .rodata\n.balign 4096\n.globl constants\nconstants:\n.set i, 0\n.rept 4096\n.quad i\n.zero 4088\n"
        ".set i, i + 1\n.endr\n.popsection");
extern const volatile uint64_t constants[PAGES][PAGE / 8];

/* Each page begins with 7, so all of them are in the file. */
static struct {
    volatile uint64_t words[PAGE / 8];
} __attribute__((aligned(4096))) variables[VARIABLES] = {[0 ... VARIABLES - 1] = {{7}}};

/* The end of the data shares a page with this. */
static volatile char zeroes[3 * PAGE];

/* The number behind a name in a file of /proc; those of equal names are added up. */
static long number(const char *path, const char *name)
{
    char line[256];
    long sum = 0;
    FILE *file = fopen(path, "r");
    expect(file != NULL, path, 0);
    while (file && fgets(line, sizeof line, file)) {
        size_t length = strlen(name);
        if (!strncmp(line, name, length) && (line[length] == ' ' || line[length] == ':'))
            sum += atol(line + length + 1);
    }
    if (file)
        fclose(file);
    return sum;
}

static long pages_in(void)
{
    return number("/proc/vmstat", "pgpgin") / 4 - number("/proc/vmstat", "pswpin");
}

static void expect_constant(long page)
{
    if (constants[page][0] != (uint64_t)page)
        expect(0, "a constant", page);
}

static void lazy(void)
{
    long at_begin = pages_in();
    /* All that the measuring itself needs is there now. */
    number("/proc/self/smaps_rollup", "Rss"), pages_in();
    long majors = number("/proc/vmstat", "pgmajfault"), before = pages_in();
    for (long page = 100; page < PAGES; page += 1500)
        expect_constant(page);
    long of_three = pages_in() - before, majors_of_three = number("/proc/vmstat", "pgmajfault") - majors;
    long resident = number("/proc/self/smaps_rollup", "Rss");
    for (int i = 0; i < (int)sizeof zeroes; i++)
        expect(zeroes[i] == 0, "memory behind the file's", i);
    for (int round = 0; round < 2; round++)
        for (long page = 0; page < PAGES; page++)
            expect_constant(page);
    printf("READ begin=%ld three=%ld majors=%ld all=%ld\n", at_begin, of_three, majors_of_three, pages_in() - before);
    printf("RESIDENT kib=%ld\n", resident);
}

static pid_t start(const char *path, const char *mode, int number_, int in, int out)
{
    char numbers[3][16];
    snprintf(numbers[0], sizeof numbers[0], "%d", number_);
    snprintf(numbers[1], sizeof numbers[1], "%d", in);
    snprintf(numbers[2], sizeof numbers[2], "%d", out);
    pid_t pid = vfork();
    if (pid == 0) {
        execl(path, path, mode, numbers[0], numbers[1], numbers[2], NULL);
        _exit(errno == ETXTBSY ? 26 : 127);
    }
    return pid;
}

static void await_byte(int fd)
{
    char byte;
    expect(read(fd, &byte, 1) == 1, "a byte from a pipe", fd);
}

/* One who shares: says when it has touched its pages, and looks at them again when told to. */
static void sharer(uint64_t own, int in, int out)
{
    for (int i = 0; i < VARIABLES; i++) {
        expect(variables[i].words[0] == 7, "a variable of the file", i);
        variables[i].words[0] = own;
    }
    for (long page = 0; page < SHARED; page++)
        expect_constant(page);
    expect(write(out, "r", 1) == 1, "write", 0);
    await_byte(in);
    for (int i = 0; i < VARIABLES; i++)
        expect(variables[i].words[0] == own, "a variable of one's own", i);
}

static int status_of(pid_t pid)
{
    int status = -1;
    expect(waitpid(pid, &status, 0) == pid, "waitpid", pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

static void share(int count)
{
    int go[2], ready[2];
    pid_t pids[64];
    expect(pipe(go) == 0 && pipe(ready) == 0, "pipe", 0);
    for (long page = 0; page < SHARED; page++)
        expect_constant(page);
    long before = pages_in();
    for (int i = 0; i < count; i++)
        pids[i] = start("/proc/self/exe", "sharer", i + 100, go[0], ready[1]);
    for (int i = 0; i < count; i++)
        await_byte(ready[0]);
    long resident = 0, share_ = 0, shared = 0, dirty = 0;
    for (int i = 0; i < count; i++) {
        char path[64];
        snprintf(path, sizeof path, "/proc/%d/smaps_rollup", pids[i]);
        resident += number(path, "Rss"), share_ += number(path, "Pss");
        shared += number(path, "Shared_Clean"), dirty += number(path, "Private_Dirty");
    }
    printf("SHARE read=%ld rss=%ld pss=%ld shared=%ld dirty=%ld\n", pages_in() - before, resident, share_, shared, dirty);
    for (int i = 0; i < count; i++)
        expect(write(go[1], "g", 1) == 1, "write", i);
    for (int i = 0; i < count; i++)
        expect(status_of(pids[i]) == 0, "a sharer's status", i);
}

static sigjmp_buf back;

static void on_fault(int signal)
{
    siglongjmp(back, signal);
}

static void expect_refused(int result, const char *what)
{
    expect(result == -1 && errno == ETXTBSY, what, result);
    errno = 0;
}

static void copy(const char *from, const char *to)
{
    static char buffer[1 << 16];
    int in = open(from, O_RDONLY), out = open(to, O_WRONLY | O_CREAT | O_TRUNC, 0755);
    ssize_t count;
    expect(in >= 0 && out >= 0, "files to copy", in);
    while ((count = read(in, buffer, sizeof buffer)) > 0)
        expect(write(out, buffer, (size_t)count) == count, "write", count);
    close(in), close(out);
}

/* A process is to end by itself, with its file written to by nobody meanwhile. */
static void a_copy_runs(void)
{
    int go[2], ready[2];
    expect(pipe(go) == 0 && pipe(ready) == 0, "pipe", 0);
    pid_t pid = start("./copy", "sharer", 1, go[0], ready[1]);
    await_byte(ready[0]);
    expect_refused(open("copy", O_RDWR), "open while it runs");
    expect(rename("copy", "moved") == 0, "rename while it runs", 0);
    expect_refused(open("moved", O_WRONLY), "open by another name");
    expect(unlink("moved") == 0, "unlink while it runs", 0);
    expect(write(go[1], "g", 1) == 1, "write", 0);
    expect(status_of(pid) == 0, "the copy's status", 0);
}

/* A file that is cut takes its pages from those who map it, code included. */
static void cut(void)
{
    static const unsigned char code[] = {0xb8, 42, 0, 0, 0, 0xc3}; /* mov eax, 42; ret */
    int fd = open("code", O_RDWR | O_CREAT | O_TRUNC, 0755);
    expect(write(fd, code, sizeof code) == sizeof code, "write", 0);
    int (*function)(void) = mmap(NULL, PAGE, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0);
    expect(function() == 42, "code of a file", 0);
    expect(ftruncate(fd, 0) == 0, "ftruncate", 0);
    int caught = sigsetjmp(back, 1);
    if (caught == 0)
        function();
    expect(caught == SIGBUS, "the signal for code that was cut off", caught);
    expect(close(fd) == 0 && unlink("code") == 0, "unlink", 0);
}

static void busy(void)
{
    struct sigaction action = {.sa_handler = on_fault};
    sigaction(SIGBUS, &action, NULL);
    char self[256] = {0};
    expect(readlink("/proc/self/exe", self, sizeof self - 1) > 0, "readlink", 0);
    expect_refused(open(self, O_WRONLY), "open to write");
    expect_refused(open(self, O_RDWR), "open to read and write");
    expect_refused(open(self, O_RDONLY | O_TRUNC), "open to cut");
    expect_refused(truncate(self, 0), "truncate");

    copy(self, "copy");
    int fd = open("copy", O_RDWR);
    expect(status_of(start("./copy", "exit", 0, 0, 0)) == 26, "exec of what is open to be written", 0);
    char *window = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, 0);
    close(fd);
    expect(status_of(start("./copy", "exit", 0, 0, 0)) == 26, "exec of what is mapped to be written", 0);
    expect(mprotect(window, PAGE, PROT_READ | PROT_WRITE) == 0, "a window may become writable", 0);
    munmap(window, PAGE);
    fd = open("copy", O_RDONLY);
    window = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, 0);
    expect(mprotect(window, PAGE, PROT_READ | PROT_WRITE) == -1 && errno == EACCES, "a view stays one", errno);
    expect(status_of(start("./copy", "exit", 0, 0, 0)) == 0, "exec of what is only read", 0);
    close(fd);
    expect(waitpid(-1, NULL, WNOHANG) == -1 && errno == ECHILD, "children that are left", errno);

    pid_t zombie = start("./copy", "exit", 0, 0, 0);
    siginfo_t info;
    expect(waitid(P_PID, (id_t)zombie, &info, WEXITED | WNOWAIT) == 0, "waitid", zombie);
    fd = open("copy", O_RDWR);
    expect(fd >= 0, "a zombie's file may be written to", fd);
    close(fd);
    expect(status_of(zombie) == 0, "a zombie's status", 0);
    a_copy_runs();

    fd = open("script", O_WRONLY | O_CREAT | O_TRUNC, 0755);
    dprintf(fd, "#!%s exit\n", self);
    expect(status_of(start("./script", "x", 0, 0, 0)) == 26, "exec of a script that is open to be written", 0);
    close(fd);
    expect(status_of(start("./script", "x", 0, 0, 0)) == 0, "exec of a script", 0);
    unlink("script");
    cut();
}

int main(int count, char **words)
{
    const char *mode = count > 1 ? words[1] : "";
    if (!strcmp(mode, "exit"))
        return 0;
    if (!strcmp(mode, "sharer")) {
        sharer((uint64_t)atoi(words[2]), atoi(words[3]), atoi(words[4]));
        fflush(stdout);
        return wrong != 0;
    }
    if (!strcmp(mode, "lazy"))
        lazy();
    else if (!strcmp(mode, "share"))
        share(atoi(words[2]));
    else if (!strcmp(mode, "busy"))
        busy();
    else
        return 2;
    printf(wrong ? "FAIL images %s\n" : "OK images %s\n", mode);
    return wrong != 0;
}
