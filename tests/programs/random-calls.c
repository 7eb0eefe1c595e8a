/* Claim: no system call with any arguments harms the machine, nor the caller's registers and stack. Numbers and arguments are
 * drawn from a seed: small and huge ones, edges of user memory, addresses of the kernel, and pages of its own. Left out are calls
 * that end or block the caller for good; on any kernel but Ebb, also those that would reach other programs and files.
 *
 * usage: random-calls [calls [threads [seed]]] */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

enum { OWN_BYTES = 0x10000, ARENA_BYTES = 0x200000, MOST_THREADS = 16 };
/* The arena: at first pages for arguments, then pages that calls may map, unmap and protect. */
static char *const arena = (char *)0x10000000000;

static long calls = 20000;
static uint64_t seed = 1;
static int is_ebb;

static uint64_t draw(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
}

static uint64_t argument(uint64_t *state)
{
    uint64_t any = draw(state), own = (uint64_t)arena, more = any >> 20;
    switch (any % 22) {
    case 0: return 0;
    case 1: return 1;
    case 2: return more & 0xff;
    case 3: return more & 0xfff;
    case 4: return ~0UL;
    case 5: return 1UL << (any >> 58);
    case 6: return own + (more & 0x3fff);
    case 7: return own + (more & 0x3000);
    case 8: return own + 0x4000 - (more & 15);
    case 9: return own + (more & 0x3ff8);
    case 10: return 0x7ffffffff000 - (more & 0x3f);
    case 11: return 0xffff800000000000 + (more & 0xffffff);
    case 12: return 0xffffffff80200000 + (more & 0xfffff);
    case 13: return 0x8000000000000000;
    case 14: return 0x100000000 + (more & 7);
    case 15: return (uint32_t) - (more & 255);
    case 16: return -(more & 4095);
    case 17: return 4096 * (more & 0xff);
    case 18: return 0xfffffffffffff000;
    case 19: return 0x7fffffff;
    default: return any;
    }
}

/* Calls that Ebb has, as far as they concern only the caller. */
static const int harmless[] = {
    SYS_mmap, SYS_mprotect, SYS_munmap, SYS_madvise, SYS_brk, SYS_rt_sigaction, SYS_rt_sigprocmask, SYS_sched_yield,
    SYS_getpid, SYS_nanosleep, SYS_uname, SYS_gettimeofday, SYS_getrlimit, SYS_getrusage, SYS_sysinfo, SYS_times, SYS_gettid,
    SYS_time, SYS_futex, SYS_sched_getaffinity, SYS_clock_gettime, SYS_clock_getres, SYS_clock_nanosleep, SYS_getcpu,
    SYS_getrandom, SYS_getcwd, SYS_stat, SYS_access, SYS_readlink, SYS_newfstatat, SYS_statx,
};
static const int all_of_ebb[] = {
    SYS_read, SYS_write, SYS_open, SYS_close, SYS_fstat, SYS_lstat, SYS_poll, SYS_lseek, SYS_ioctl, SYS_pread64, SYS_readv,
    SYS_writev, SYS_msync, SYS_dup, SYS_dup2, SYS_dup3, SYS_kill, SYS_tkill, SYS_tgkill, SYS_fcntl, SYS_fsync, SYS_umask,
    SYS_sigaltstack, SYS_arch_prctl, SYS_prctl, SYS_set_robust_list, SYS_prlimit64, SYS_rseq, SYS_clone3, SYS_openat,
    SYS_faccessat, SYS_readlinkat, SYS_ppoll, SYS_rt_sigpending, SYS_mremap, SYS_pipe2, SYS_close_range, SYS_setpgid,
    SYS_rt_sigtimedwait, SYS_rt_sigqueueinfo, SYS_alarm, SYS_setitimer, SYS_mlock, SYS_munlock, SYS_mincore, SYS_getdents64,
    SYS_process_vm_readv, SYS_process_vm_writev, SYS_pwrite64, SYS_ftruncate, SYS_chdir, SYS_mkdir, SYS_unlink, SYS_rename,
};
/* Calls that do not come back, take the caller's future away, or make a process. */
static const int never[] = {
    SYS_exit, SYS_exit_group, SYS_pause, SYS_rt_sigreturn, SYS_clone, SYS_fork, SYS_vfork, SYS_execve, SYS_execveat,
    SYS_rt_sigsuspend, SYS_select, SYS_pselect6, SYS_wait4, SYS_waitid, SYS_set_tid_address, SYS_pipe,
};

static long number(uint64_t *state)
{
    uint64_t any = draw(state);
    long count = sizeof harmless / sizeof *harmless, more = sizeof all_of_ebb / sizeof *all_of_ebb;
    if (!is_ebb)
        return harmless[any % count];
    if (any % 8 == 0)
        return (long)draw(state);
    if (any % 8 < 3)
        return any / 8 % 470;
    long which = any / 8 % (count + more);
    return which < count ? harmless[which] : all_of_ebb[which - count];
}

static int is_allowed(long call)
{
    for (size_t i = 0; i < sizeof never / sizeof *never; i++)
        if (call == never[i])
            return 0;
    return 1;
}

/* The console is kept out of it: descriptors 1 and 2 become others, whatever is above their lower halves. */
static void spare_console(uint64_t *descriptor)
{
    if ((uint32_t)*descriptor == 1 || (uint32_t)*descriptor == 2)
        *descriptor += 100;
}

/* Keeps the program itself alive: its stack, code, handlers and output, and waits short. */
static void tame(long call, uint64_t *a, uint64_t any, uint64_t *time)
{
    time[0] = 0;
    time[1] = any % 100000;
    switch (call) {
    case SYS_mmap:
        a[3] |= MAP_ANONYMOUS | MAP_NORESERVE;
        if (a[3] & (MAP_FIXED | 0x100000)) {
            a[0] = (uint64_t)arena + OWN_BYTES + (a[0] & 0xff000);
            a[1] %= 0x40000;
        } else if (!is_ebb) {
            /* The host is to stay as it is: nothing populated or locked. */
            a[1] %= 0x400000;
            a[3] &= MAP_PRIVATE | MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK;
        }
        break;
    case SYS_madvise:
        /* Advice from 100 on damages memory where the caller is privileged. */
        a[2] %= is_ebb ? 1UL << 32 : 20;
        /* fall through */
    case SYS_munmap: case SYS_mprotect: case SYS_mremap:
        a[0] = any & 1 ? (uint64_t)arena + OWN_BYTES + (a[0] & 0xff000) : a[0] | 0xffff800000000000;
        a[1] %= 0x40000;
        a[3] = 0;
        break;
    case SYS_brk: a[0] = any & 1 ? 0 : a[0] | 0x600000000000; break;
    case SYS_rt_sigaction: case SYS_rt_sigprocmask: a[1] = 0; break;
    case SYS_kill: a[1] = 0; break;
    case SYS_tkill: a[1] = 0; break;
    case SYS_tgkill: a[2] = 0; break;
    case SYS_rt_sigqueueinfo: a[1] = 0; break;
    case SYS_rt_tgsigqueueinfo: a[2] = 0; break;
    case SYS_rt_sigtimedwait: a[2] = (uint64_t)time; break;
    case SYS_close_range: a[0] = 3 + (a[0] & 0xffff); break;
    case SYS_pipe2: a[1] |= O_NONBLOCK; break;
    case SYS_arch_prctl: a[0] = 0x1003; break;
    case SYS_fcntl:
        /* Pipes stay as they were made: a read of an empty one would wait for ever. */
        a[2] |= (uint32_t)a[1] == F_SETFL ? O_NONBLOCK : 0;
        /* fall through */
    case SYS_write: case SYS_writev: case SYS_pwrite64: case SYS_close: case SYS_dup: spare_console(&a[0]); break;
    case SYS_dup2: case SYS_dup3: spare_console(&a[0]); spare_console(&a[1]); break;
    case SYS_poll: a[2] &= 3; break;
    case SYS_ppoll: a[2] = (uint64_t)time; break;
    case SYS_nanosleep: a[0] = any & 1 ? (uint64_t)time : 1; break;
    case SYS_clock_nanosleep: a[0] &= 1; a[1] = 0; a[2] = any & 1 ? (uint64_t)time : 1; break;
    case SYS_futex: a[3] = (a[1] & 127) == 3 || (a[1] & 127) == 4 ? a[3] : (uint64_t)time; break;
    default: break;
    }
}

static void *make_calls(void *index)
{
    uint64_t state = seed * 1000 + (long)index, time[2];
    unsigned char mark[64];
    for (long i = 0; i < calls; i++) {
        long call = number(&state), result;
        uint64_t a[6], any = draw(&state);
        for (int n = 0; n < 6; n++)
            a[n] = argument(&state);
        if (!is_allowed((uint32_t)call))
            continue;
        tame(call, a, any, time);
        memset(mark, 0x5a, sizeof mark);
        register uint64_t fourth __asm__("r10") = a[3], fifth __asm__("r8") = a[4], sixth __asm__("r9") = a[5];
        register uint64_t kept __asm__("r14") = any;
        __asm__ volatile("syscall"
                         : "=a"(result), "+r"(kept)
                         : "a"(call), "D"(a[0]), "S"(a[1]), "d"(a[2]), "r"(fourth), "r"(fifth), "r"(sixth)
                         : "rcx", "r11", "memory");
        int is_stack_kept = 1;
        for (size_t n = 0; n < sizeof mark; n++)
            is_stack_kept &= mark[n] == 0x5a;
        /* No errno is larger than 133. */
        if (!is_stack_kept || kept != any || (result < -133 && result >= -4095 && call != SYS_lseek)) {
            printf("BROKEN call %ld(%lx, %lx, %lx, %lx, %lx, %lx) = %ld, stack %d, r14 %d\n", call, a[0], a[1], a[2], a[3],
                   a[4], a[5], result, is_stack_kept, kept == any);
            fflush(stdout);
            _exit(1);
        }
    }
    return 0;
}

static void ignore(int signal) { (void)signal; }

int main(int count, char **arguments)
{
    calls = count > 1 ? atol(arguments[1]) : calls;
    int threads = count > 2 ? atoi(arguments[2]) : 1;
    seed = count > 3 ? strtoul(arguments[3], 0, 10) : seed;
    struct utsname name;
    uname(&name);
    is_ebb = strstr(name.release, "ebb") != 0;
    if (mmap(arena, ARENA_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != arena)
        return 2;
    for (int number = SIGUSR1; number < 65; number++)
        if (number != SIGSEGV)
            signal(number, ignore);
    pthread_t all[MOST_THREADS];
    /* Not in the first thread: its stack ends where some arguments point. */
    for (long i = 0; i < threads; i++)
        if (pthread_create(&all[i], 0, make_calls, (void *)i))
            return 2;
    for (int i = 0; i < threads; i++)
        pthread_join(all[i], 0);
    printf("OK random-calls calls=%ld threads=%d seed=%lu\n", calls, threads, seed);
    return 0;
}
