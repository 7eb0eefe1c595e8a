/* Claim: what only ring 0 may do is refused in ring 3, every refusal is a signal whose handler runs, and none of it, nor
 * addresses of the kernel, nor stacks and flags that the kernel would stumble over, does the machine any harm. */
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

enum { ANY = -2, NONE = -1 };

static sigjmp_buf back;
static char alternate[65536];

static void caught(int signal) { siglongjmp(back, signal); }

/* A function in assembly that does not return, if all is well. */
#define ATTEMPT(name, code)                                                                                            \
    void name(void);                                                                                                   \
    __asm__(#name ":\n" code "\nret\n")

ATTEMPT(halt, "hlt");
ATTEMPT(interrupts_off, "cli");
ATTEMPT(interrupts_on, "sti");
ATTEMPT(port_in, "mov $0x3f8, %dx\n in %dx, %al");
ATTEMPT(port_out, "mov $0xf4, %dx\n mov $0x10, %eax\n out %eax, %dx");
ATTEMPT(read_cr0, "mov %cr0, %rax");
ATTEMPT(write_cr3, "xor %eax, %eax\n mov %rax, %cr3");
ATTEMPT(write_dr7, "mov $0x401, %eax\n mov %rax, %dr7");
ATTEMPT(read_msr, "mov $0xc0000082, %ecx\n rdmsr");
ATTEMPT(write_msr, "mov $0xc0000101, %ecx\n xor %eax, %eax\n xor %edx, %edx\n wrmsr");
ATTEMPT(load_gdt, "lgdt -32(%rsp)");
ATTEMPT(load_idt, "lidt -32(%rsp)");
ATTEMPT(load_tr, "mov $0x28, %ax\n ltr %ax");
ATTEMPT(load_ldt, "mov $0x28, %ax\n lldt %ax");
ATTEMPT(invalidate, "invlpg (%rsp)");
ATTEMPT(clear_ts, "clts");
ATTEMPT(swap_gs, "swapgs");
ATTEMPT(system_return, "xor %ecx, %ecx\n sysretq");
ATTEMPT(set_xcr0, "xor %ecx, %ecx\n mov $1, %eax\n xor %edx, %edx\n xsetbv");
ATTEMPT(vector_2, "int $2");
ATTEMPT(vector_8, "int $8");
ATTEMPT(vector_13, "int $13");
ATTEMPT(vector_14, "int $14");
ATTEMPT(vector_32, "int $0x20");
ATTEMPT(vector_64, "int $0x40");
ATTEMPT(vector_255, "int $0xff");
ATTEMPT(overflow_trap, "int $4");
ATTEMPT(breakpoint, "int3");
ATTEMPT(debug_trap, ".byte 0xf1");
ATTEMPT(undefined, "ud2");
ATTEMPT(divide, "xor %edx, %edx\n xor %ecx, %ecx\n mov $1, %eax\n div %ecx");

/* Segments that are not ring 3's. */
ATTEMPT(far_to_ring_0, "push $0x08\n lea 1f(%rip), %rax\n push %rax\n lretq\n 1:");
ATTEMPT(iret_to_ring_0,
        "mov %rsp, %rax\n push $0x10\n push %rax\n push $2\n push $0x08\n lea 1f(%rip), %rax\n push %rax\n iretq\n 1:");
ATTEMPT(kernel_data_segment, "mov $0x10, %ax\n mov %ax, %ds");
ATTEMPT(no_data_segment, "mov $0x40, %ax\n mov %ax, %gs");
ATTEMPT(no_stack_segment, "xor %eax, %eax\n mov %ax, %ss");

/* Addresses that are not a program's: the image, the direct map, the hole between the halves, and its edge. */
ATTEMPT(read_image, "mov $0xffffffff80200000, %rax\n mov (%rax), %al");
ATTEMPT(write_image, "mov $0xffffffff80200000, %rax\n movb $1, (%rax)");
ATTEMPT(read_direct_map, "mov $0xffff800000200000, %rax\n mov (%rax), %al");
ATTEMPT(read_hole, "mov $0x8000000000000000, %rax\n mov (%rax), %al");
ATTEMPT(read_edge, "mov $0x7ffffffff000, %rax\n mov (%rax), %al");
ATTEMPT(read_across_edge, "mov $0x7ffffffffffc, %rax\n mov (%rax), %rax");
ATTEMPT(jump_to_image, "mov $0xffffffff80200000, %rax\n jmp *%rax");
ATTEMPT(jump_to_direct_map, "mov $0xffff800000200000, %rax\n jmp *%rax");
ATTEMPT(jump_to_hole, "mov $0x1234567800000000, %rax\n jmp *%rax");
ATTEMPT(return_to_hole, "mov $0x8000000000000000, %rax\n push %rax\n ret");
ATTEMPT(jump_to_edge, "mov $0x7ffffffff000, %rax\n jmp *%rax");

/* Stacks that nobody can push to, at the moment of a trap or a call. */
ATTEMPT(push_to_kernel, "mov $0xffffffff80300000, %rax\n mov %rax, %rsp\n push %rax");
ATTEMPT(push_to_hole, "mov $0x8000000000000000, %rax\n mov %rax, %rsp\n push %rax");
ATTEMPT(break_on_kernel_stack, "mov $0xffffffff80300000, %rax\n mov %rax, %rsp\n int3");
ATTEMPT(break_without_stack, "xor %esp, %esp\n int3");
ATTEMPT(break_on_hole_stack, "mov $0x8000000000000000, %rax\n mov %rax, %rsp\n int3");
ATTEMPT(call_on_hole_stack, "mov $0x8000000000000000, %rax\n mov %rax, %rsp\n mov $39, %eax\n syscall\n int3");

/* Flags that must not reach the kernel, nor keep it from going back: each makes getpid with one of them set. */
ATTEMPT(single_step, "pushfq\n orq $0x100, (%rsp)\n popfq\n nop\n nop");
ATTEMPT(single_step_call, "mov $39, %eax\n pushfq\n orq $0x100, (%rsp)\n popfq\n syscall\n nop");
ATTEMPT(nested_task, "pushfq\n orq $0x4000, (%rsp)\n popfq\n mov $39, %eax\n syscall\n int3");
ATTEMPT(backward, "std\n mov $39, %eax\n syscall\n int3");
ATTEMPT(alignment_check, "pushfq\n orq $0x40000, (%rsp)\n popfq\n mov $39, %eax\n syscall\n int3");
ATTEMPT(no_gs, "xor %eax, %eax\n mov %ax, %gs\n mov $39, %eax\n syscall\n int3");

struct attempt {
    const char *name;
    void (*make)(void);
    int signal;
};

#define TRY(name, signal) {#name, name, signal}

static const struct attempt attempts[] = {
    TRY(halt, SIGSEGV), TRY(interrupts_off, SIGSEGV), TRY(interrupts_on, SIGSEGV), TRY(port_in, SIGSEGV),
    TRY(port_out, SIGSEGV), TRY(read_cr0, SIGSEGV), TRY(write_cr3, SIGSEGV), TRY(write_dr7, SIGSEGV),
    TRY(read_msr, SIGSEGV), TRY(write_msr, SIGSEGV), TRY(load_gdt, SIGSEGV), TRY(load_idt, SIGSEGV),
    TRY(load_tr, SIGSEGV), TRY(load_ldt, SIGSEGV), TRY(invalidate, SIGSEGV), TRY(clear_ts, SIGSEGV),
    TRY(swap_gs, SIGSEGV), TRY(system_return, SIGSEGV),
    /* SIGILL on processors without XSAVE. */
    TRY(set_xcr0, ANY),
    TRY(vector_2, SIGSEGV), TRY(vector_8, SIGSEGV), TRY(vector_13, SIGSEGV), TRY(vector_14, SIGSEGV),
    TRY(vector_32, SIGSEGV), TRY(vector_64, SIGSEGV), TRY(vector_255, SIGSEGV), TRY(overflow_trap, SIGSEGV),
    TRY(breakpoint, SIGTRAP), TRY(debug_trap, SIGTRAP), TRY(undefined, SIGILL), TRY(divide, SIGFPE),
    TRY(far_to_ring_0, SIGSEGV), TRY(iret_to_ring_0, SIGSEGV), TRY(kernel_data_segment, SIGSEGV),
    TRY(no_data_segment, SIGSEGV), TRY(no_stack_segment, SIGSEGV),
    TRY(read_image, SIGSEGV), TRY(write_image, SIGSEGV), TRY(read_direct_map, SIGSEGV), TRY(read_hole, SIGSEGV),
    TRY(read_edge, SIGSEGV), TRY(read_across_edge, SIGSEGV), TRY(jump_to_image, SIGSEGV),
    TRY(jump_to_direct_map, SIGSEGV), TRY(jump_to_hole, SIGSEGV), TRY(return_to_hole, SIGSEGV),
    TRY(jump_to_edge, SIGSEGV), TRY(push_to_kernel, SIGSEGV),
    /* A stack fault, SIGBUS, on hardware; QEMU's emulation makes it a general protection fault. */
    TRY(push_to_hole, ANY),
    TRY(break_on_kernel_stack, SIGTRAP), TRY(break_without_stack, SIGTRAP), TRY(break_on_hole_stack, SIGTRAP),
    TRY(call_on_hole_stack, SIGTRAP), TRY(single_step, SIGTRAP), TRY(single_step_call, SIGTRAP),
    TRY(nested_task, SIGTRAP), TRY(backward, SIGTRAP), TRY(alignment_check, SIGTRAP), TRY(no_gs, SIGTRAP),
};

enum { ATTEMPTS = sizeof attempts / sizeof *attempts };

int main(int count, char **arguments)
{
    volatile int rounds = count > 1 ? atoi(arguments[1]) : 1, wrong = 0;
    stack_t stack = {.ss_sp = alternate, .ss_size = sizeof alternate};
    sigaltstack(&stack, 0);
    struct sigaction action = {.sa_handler = caught, .sa_flags = SA_ONSTACK};
    for (int signal = 1; signal < 32; signal++)
        sigaction(signal, &action, 0);
    for (volatile int i = 0; i < rounds * ATTEMPTS; i++) {
        const struct attempt *attempt = &attempts[i % ATTEMPTS];
        int signal = sigsetjmp(back, 1);
        if (signal == 0) {
            attempt->make();
            signal = NONE;
        }
        /* Flags as a program begins with, below the red zone. */
        __asm__ volatile("sub $128, %%rsp\n push $2\n popfq\n add $128, %%rsp" ::: "memory", "cc");
        if (signal != attempt->signal && (attempt->signal != ANY || signal == NONE)) {
            printf("BROKEN %s: signal %d instead of %d\n", attempt->name, signal, attempt->signal);
            wrong++;
        }
    }
    if (!wrong)
        printf("OK privileges attempts=%d rounds=%d\n", ATTEMPTS, rounds);
    return wrong != 0;
}
