//! The table of programs. Every case ends on Linux as it says here, and has to end like that on Ebb.
//!
//! Sizes are small, so that a case takes moments even where nothing is paged out; scenarios that need pressure run the
//! same programs with larger ones.

use super::build::{Flavour, Program};
use super::judge::Expected;
use Flavour::{Glibc, GlibcPie, Musl};
use Program::{C, Workload};

/// A program with its arguments and what must come out.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// The program.
    pub program: Program,
    /// Its arguments.
    pub arguments: &'static [&'static str],
    /// What it finds on its standard input.
    pub stdin: &'static [u8],
    /// How it ends.
    pub expected: Expected,
}

const fn case(
    program: Program,
    arguments: &'static [&'static str],
    status: i32,
    lines: &'static [&'static str],
) -> Case {
    Case { program, arguments, stdin: b"", expected: Expected { status, lines } }
}

const fn ok(program: Program, arguments: &'static [&'static str], lines: &'static [&'static str]) -> Case {
    case(program, arguments, 0, lines)
}

const SIGSEGV: i32 = 128 + 11;
const SIGABRT: i32 = 128 + 6;
const RUST_PANIC: i32 = 101;
const USAGE: i32 = 2;

const TEXT: &[u8] = b"tide\nebb\0and flow";

/// Every case.
pub const CASES: &[Case] = &[
    ok(Workload("hello"), &[], &["hello, 2893 digits", "OK hello"]),
    ok(Workload("threads"), &[], &["OK threads"]),
    ok(Workload("slab-churn"), &[], &["OK slab-churn"]),
    case(Workload("panics"), &[], RUST_PANIC, &["…panicked at", "as announced", "OK panics unwound"]),
    case(Workload("nullderef"), &[], SIGSEGV, &["about to read"]),
    case(Workload("nullderef"), &["write"], SIGSEGV, &["about to write"]),
    case(Workload("nullderef"), &["execute"], SIGSEGV, &["about to execute"]),
    case(Workload("past-mapping"), &[], SIGSEGV, &["the last byte inside is 7"]),
    case(Workload("recurse"), &[], SIGABRT, &["about to recurse", "…has overflowed its stack"]),
    case(Workload("recurse"), &["thread"], SIGABRT, &["about to recurse", "…'deep'"]),
    ok(Workload("avx2-pair"), &[], &["OK avx2-pair"]),
    ok(Workload("spin"), &["ms=50"], &["spinning", "OK spin"]),
    ok(Workload("states"), &["mib=8", "pressure=24", "pause_ms=5"], &["STEP 12 unmap", "OK states"]),
    Case { stdin: TEXT, ..ok(Workload("stdin-cat"), &[], &["tide", "ebb\0and flow", "OK stdin-cat bytes=17"]) },
    ok(Workload("stdin-cat"), &[], &["OK stdin-cat bytes=0 sum=0"]),
    ok(Workload("badptr"), &[], &["OK badptr"]),
    ok(Workload("mmap-contract"), &[], &["OK mmap-contract"]),
    ok(Workload("latency-pair"), &["mib=4", "majors=0", "touches=500"], &["OK latency-pair"]),
    ok(Workload("latency-pair"), &["mib=4", "majors=0", "touches=500", "beside=2"], &["OK latency-pair"]),
    ok(Workload("proc-sums"), &["mib=4"], &["OK proc-sums"]),
    ok(Workload("exhaust"), &["mib=16"], &["HELD mib=16", "OK exhaust mib=16"]),
    ok(Workload("sigsegv-handler"), &[], &["OK sigsegv-handler"]),
    ok(Workload("args-env"), &["a", "b c", ""], &["argv[1]=a", "argv[2]=b c", "argv[3]=", "cwd /", "OK args-env"]),
    ok(Workload("pressure"), &["seq-write", "mib=4"], &["RESULT kind=seq-write phase=verify", "OK seq-write"]),
    ok(Workload("pressure"), &["random", "mib=4", "wr=30", "lat=1"], &["LATENCY kind=random", "OK random"]),
    ok(Workload("pressure"), &["zipf", "mib=4", "fill=100"], &["…phase=run units=20000", "OK zipf"]),
    ok(Workload("pressure"), &["hot-cold", "mib=4", "seed=7"], &["… rss_mean_pages=", "OK hot-cold"]),
    ok(Workload("pressure"), &["lazy", "gib=1"], &["…phase=run units=256", "OK lazy"]),
    ok(Workload("pressure"), &["sparse-read", "gib=1"], &["…phase=run units=1024", "OK sparse-read"]),
    ok(Workload("pressure"), &["fault", "mib=4"], &["…phase=run units=2048", "OK fault"]),
    ok(Workload("pressure"), &["null-syscall"], &["…phase=run units=20000", "OK null-syscall"]),
    ok(Workload("pressure"), &["--help"], &["usage: pressure KIND"]),
    case(Workload("pressure"), &["random", "mb=4"], USAGE, &["pressure: unknown key \"mb\""]),
    ok(Workload("mixes"), &["phases", "mib=4", "ops=500"], &["…phase=run units=4048", "OK phases"]),
    ok(Workload("mixes"), &["pair", "mib=4", "ops=500"], &["…phase=run units=2804", "OK pair"]),
    ok(Workload("mixes"), &["shifting", "mib=4", "ops=500", "fill=100"], &["…phase=run units=500", "OK shifting"]),
    ok(Workload("mixes"), &["btree", "mib=4", "ops=500"], &["…phase=run units=500", "OK btree"]),
    ok(Workload("mixes"), &["transpose", "mib=4", "passes=3"], &["…phase=run units=", "OK transpose"]),
    ok(Workload("mixes"), &["mark-sweep", "mib=4", "ops=100"], &["…phase=run units=100", "OK mark-sweep"]),
    ok(Workload("mixes"), &["--help"], &["usage: mixes KIND"]),
    ok(C("hello", Glibc), &[], &["hello from", "OK hello-c"]),
    ok(C("hello", GlibcPie), &[], &["hello from", "OK hello-c"]),
    ok(C("hello", Musl), &[], &["hello from", "OK hello-c"]),
    ok(C("pthreads", Glibc), &[], &["OK pthreads"]),
    ok(C("pthreads", GlibcPie), &[], &["OK pthreads"]),
    ok(C("pthreads", Musl), &[], &["OK pthreads"]),
    case(C("segv", Glibc), &[], SIGSEGV, &["…is about to write to a constant"]),
    case(C("segv", GlibcPie), &[], SIGSEGV, &["…is about to write to a constant"]),
    case(C("segv", Musl), &[], SIGSEGV, &["…is about to write to a constant"]),
    ok(C("malloc", Glibc), &[], &["OK malloc"]),
    ok(C("malloc", Musl), &[], &["OK malloc"]),
    ok(C("avx2", Glibc), &[], &["OK avx2"]),
    ok(C("avx2", Musl), &[], &["OK avx2"]),
    ok(C("doubles", Glibc), &[], &["OK doubles"]),
    ok(C("doubles", Musl), &[], &["OK doubles"]),
    ok(C("privileges", Glibc), &["5"], &["OK privileges"]),
    ok(C("privileges", Musl), &["5"], &["OK privileges"]),
    ok(C("where", GlibcPie), &[], &["main 0x", "OK where"]),
    ok(C("isolation", Glibc), &["2"], &["OK isolation"]),
    ok(C("limits", Glibc), &[], &["OK limits"]),
    ok(C("map-interface", Glibc), &[], &["OK map-interface"]),
    ok(C("random-calls", Glibc), &["5000", "2"], &["OK random-calls"]),
    ok(C("ignored-signals", Glibc), &[], &["OK ignored-signals"]),
    ok(C("storm", Glibc), &["areas", "4", "500"], &["OK storm areas"]),
    ok(C("storm", Glibc), &["births", "8", "20"], &["OK storm births"]),
    ok(C("storm", Glibc), &["signals", "4", "200"], &["OK storm signals"]),
    ok(C("storm", Musl), &["signals", "4", "200"], &["OK storm signals"]),
    ok(C("storm", Glibc), &["futexes", "3", "100"], &["OK storm futexes"]),
    ok(C("storm", Musl), &["futexes", "3", "100"], &["OK storm futexes"]),
    ok(C("storm", Glibc), &["fpu", "6", "10"], &["OK storm fpu"]),
    ok(C("storm", Glibc), &["quit", "4", "20"], &["OK storm quit"]),
    ok(C("pipes", Glibc), &[], &["OK pipes"]),
    ok(C("pipes", Musl), &[], &["OK pipes"]),
    ok(C("forks", Glibc), &["basics"], &["OK forks basics"]),
    ok(C("forks", Musl), &["basics"], &["OK forks basics"]),
    ok(C("forks", Glibc), &["cow", "4"], &["OK forks cow"]),
    ok(C("forks", Glibc), &["chain", "40", "1"], &["DEEPEST link=40", "OK forks chain"]),
    ok(C("forks", Glibc), &["sharers", "4", "3"], &["OK forks sharers"]),
    ok(C("forks", Glibc), &["races", "20"], &["OK forks races"]),
    ok(C("forks", Glibc), &["guest", "4", "4"], &["RSS before=", "OK forks guest"]),
    ok(C("forks", Glibc), &["bomb", "60"], &["BOMB made=", "OK forks bomb"]),
    ok(C("shared-memory", Glibc), &["memfd"], &["OK shared-memory memfd"]),
    ok(C("shared-memory", Musl), &["memfd"], &["OK shared-memory memfd"]),
    ok(C("shared-memory", Glibc), &["futexes", "200"], &["OK shared-memory futexes"]),
    ok(C("shared-memory", Musl), &["futexes", "200"], &["OK shared-memory futexes"]),
    ok(C("shared-memory", Glibc), &["sharers", "4", "4"], &["SHARERS count=4", "OK shared-memory sharers"]),
    ok(C("signals", Glibc), &[], &["OK signals"]),
    ok(C("signals", Musl), &[], &["OK signals"]),
    ok(C("rlimits", Glibc), &[], &["OK rlimits"]),
    ok(C("rlimits", Musl), &[], &["OK rlimits"]),
];

/// Cases whose programs execute themselves anew: on Ebb their file has to stay in RAM (`module=keep`).
pub const PROCESS_CASES: &[Case] =
    &[ok(C("children", Glibc), &[], &["OK children"]), ok(C("children", Musl), &[], &["OK children"])];
