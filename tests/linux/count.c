/* A plugin of QEMU's that counts a guest's instructions, for `just bench` (tests/src/bin/bench/count.rs builds it and
 * reads what it writes).
 *
 *   -plugin count.so,out=FILE,entry=ADDRESS
 *
 * FILE gets a line whenever one of these is executed, with how many instructions were before it in the lower half of the
 * address space (programs, but also firmware, and a kernel's beginning) and in the upper half (kernels):
 *
 *   entry LOWER UPPER       the kernel's first, at ADDRESS
 *   user LOWER UPPER        the first one above 4 GiB in the lower half: that of a position-independent program
 *   mark-HH LOWER UPPER     0f 1f 80 with a displacement of 0x4b4d50HH, a NOP by which a program says where it is
 *
 * The time that a halted processor waits is not in them. The declarations are the part of QEMU's interface for plugins,
 * version 4 (QEMU 9.2 and later; https://www.qemu.org/docs/master/devel/tcg-plugins.html), that is used here: Debian has
 * no package with its header. */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef uint64_t qemu_plugin_id_t;
typedef struct {
    struct qemu_plugin_scoreboard *score;
    size_t offset;
} qemu_plugin_u64;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
typedef void on_translation(qemu_plugin_id_t, struct qemu_plugin_tb *);
typedef void on_execution(unsigned, void *);
struct qemu_plugin_scoreboard *qemu_plugin_scoreboard_new(size_t);
uint64_t qemu_plugin_u64_sum(qemu_plugin_u64);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *, size_t);
size_t qemu_plugin_insn_data(const struct qemu_plugin_insn *, void *, size_t);
uint64_t qemu_plugin_insn_vaddr(const struct qemu_plugin_insn *);
void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t, on_translation *);
void qemu_plugin_register_vcpu_insn_exec_cb(struct qemu_plugin_insn *, on_execution *, int, void *);
void qemu_plugin_register_vcpu_insn_exec_inline_per_vcpu(struct qemu_plugin_insn *, int, qemu_plugin_u64, uint64_t);
enum { NO_REGISTERS = 0, ADD = 0 };

#define PUBLIC __attribute__((visibility("default")))
PUBLIC int qemu_plugin_version = 4;

enum { LOWER, UPPER };
static qemu_plugin_u64 counter[2];
static FILE *out;
static uint64_t entry;
static bool at_entry, in_program;

static void say(const char *name)
{
    fprintf(out, "%s %llu %llu\n", name, (unsigned long long)qemu_plugin_u64_sum(counter[LOWER]),
            (unsigned long long)qemu_plugin_u64_sum(counter[UPPER]));
    fflush(out); /* QEMU is killed in the end */
}

/* *done says whether it has been executed before. */
static void say_once(const char *name, bool *done)
{
    if (!*done) say(name);
    *done = true;
}

static void on_entry(unsigned cpu, void *nothing)
{
    (void)cpu, (void)nothing;
    say_once("entry", &at_entry);
}

static void on_user(unsigned cpu, void *nothing)
{
    (void)cpu, (void)nothing;
    if (at_entry) say_once("user", &in_program);
}

static void on_mark(unsigned cpu, void *number)
{
    (void)cpu;
    char name[16];
    snprintf(name, sizeof name, "mark-%02x", (unsigned)(uintptr_t)number);
    say(name);
}

static void translated(qemu_plugin_id_t id, struct qemu_plugin_tb *block)
{
    (void)id;
    for (size_t i = 0, n = qemu_plugin_tb_n_insns(block); i < n; i++) {
        struct qemu_plugin_insn *this = qemu_plugin_tb_get_insn(block, i);
        uint64_t address = qemu_plugin_insn_vaddr(this);
        uint8_t code[16];
        uint32_t displacement;
        /* What is registered first is done first: each of these says what was before it. */
        if (address == entry && !at_entry) qemu_plugin_register_vcpu_insn_exec_cb(this, on_entry, NO_REGISTERS, NULL);
        if (i == 0 && !in_program && address >> 32 && !(address >> 63))
            qemu_plugin_register_vcpu_insn_exec_cb(this, on_user, NO_REGISTERS, NULL);
        if (qemu_plugin_insn_data(this, code, sizeof code) == 7 && !memcmp(code, "\x0f\x1f\x80", 3)) {
            memcpy(&displacement, code + 3, sizeof displacement);
            if (displacement >> 8 == 0x4b4d50)
                qemu_plugin_register_vcpu_insn_exec_cb(this, on_mark, NO_REGISTERS,
                                                       (void *)(uintptr_t)(displacement & 0xff));
        }
        qemu_plugin_register_vcpu_insn_exec_inline_per_vcpu(this, ADD, counter[address >> 63], 1);
    }
}

PUBLIC int qemu_plugin_install(qemu_plugin_id_t id, const void *info, int count, char **arguments)
{
    (void)info;
    for (int i = 0; i < count; i++) {
        if (!strncmp(arguments[i], "out=", 4)) out = fopen(arguments[i] + 4, "w");
        if (!strncmp(arguments[i], "entry=", 6)) entry = strtoull(arguments[i] + 6, NULL, 0);
    }
    if (!out) return 1;
    for (int i = 0; i < 2; i++) counter[i].score = qemu_plugin_scoreboard_new(sizeof(uint64_t));
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    return 0;
}
