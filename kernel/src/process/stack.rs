//! Builds what a new program finds on its stack: argc, argv, envp, the auxiliary vector and their strings.
//!
//! Pure: returns bytes and the address they belong at; host tests include this file as it is. Does not map
//! the stack and does not write to user memory (that is `elf.rs`).
//!
//! Layout: x86-64 psABI §3.4.1, figure 3.9; auxiliary vector entries: getauxval(3).
//! ```text
//!   top ─► 8 zero bytes
//!          strings (execfn, env, argv), 16 random bytes
//!          padding so that rsp is 16-aligned
//!          auxv pairs, AT_NULL
//!          envp…, NULL
//!          argv…, NULL
//!   rsp ─► argc
//! ```

use alloc::vec::Vec;

use linux_raw_sys::auxvec as at;

/// Upper bound on the bytes built here: a quarter of what Linux allows, a page table's worth of pages.
pub const MAX_BYTES: usize = 512 << 10;

/// What the auxiliary vector tells besides the strings.
#[derive(Debug, Clone, Copy, Default)]
pub struct ProgramFacts {
    /// `AT_PHDR`.
    pub program_headers: u64,
    /// `AT_PHENT`.
    pub program_header_size: u64,
    /// `AT_PHNUM`.
    pub program_header_count: u64,
    /// `AT_ENTRY`.
    pub entry: u64,
    /// `AT_HWCAP`: CPUID.1:EDX, as on Linux.
    pub hwcap: u64,
    /// `AT_HWCAP2`: bit 1 = FSGSBASE usable in user mode.
    pub hwcap2: u64,
    /// `AT_MINSIGSTKSZ`: bytes one signal frame takes.
    pub signal_frame: u64,
    /// `AT_RANDOM` points at these: glibc takes its stack canary and pointer guard from them.
    pub random: [u8; 16],
}

/// The finished bytes and where they go.
#[derive(Debug)]
pub struct InitialStack {
    /// Address of the first byte: the program's first `rsp`.
    pub pointer: u64,
    /// From `pointer` up to the top of the stack.
    pub bytes: Vec<u8>,
}

/// The arguments and the environment do not fit on the stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the program's arguments and environment take more than {MAX_BYTES} bytes")]
pub struct TooBig;

/// Builds the stack that ends at `top` (a page boundary).
pub fn build(
    top: u64,
    argv: &[&[u8]],
    env: &[&[u8]],
    executable: &[u8],
    facts: &ProgramFacts,
) -> Result<InitialStack, TooBig> {
    let text: usize = argv.iter().chain(env).map(|s| s.len() + 1 + 8).sum();
    if text + executable.len() + 1024 > MAX_BYTES {
        return Err(TooBig);
    }
    let mut strings = Strings { top, bytes: Vec::new() };
    let random = strings.push(&facts.random);
    let execfn = strings.push_str(executable);
    let argv: Vec<u64> = argv.iter().map(|s| strings.push_str(s)).collect();
    let env: Vec<u64> = env.iter().map(|s| strings.push_str(s)).collect();

    let mut words = Vec::with_capacity(argv.len() + env.len() + 48);
    words.push(argv.len() as u64);
    words.extend(argv);
    words.push(0);
    words.extend(env);
    words.push(0);
    words.extend(auxiliary_vector(facts, random, execfn).into_iter().flatten());

    let strings_start = strings.lowest();
    let pointer = (strings_start - 8 * words.len() as u64) & !15;
    let mut bytes: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
    bytes.resize((strings_start - pointer) as usize, 0);
    strings.append_to(&mut bytes);
    Ok(InitialStack { pointer, bytes })
}

fn auxiliary_vector(facts: &ProgramFacts, random: u64, execfn: u64) -> [[u64; 2]; 20] {
    let entry = |key: u32, value: u64| [u64::from(key), value];
    [
        entry(at::AT_PHDR, facts.program_headers),
        entry(at::AT_PHENT, facts.program_header_size),
        entry(at::AT_PHNUM, facts.program_header_count),
        entry(at::AT_PAGESZ, 4096),
        entry(at::AT_BASE, 0),
        entry(at::AT_FLAGS, 0),
        entry(at::AT_ENTRY, facts.entry),
        entry(at::AT_UID, 0),
        entry(at::AT_EUID, 0),
        entry(at::AT_GID, 0),
        entry(at::AT_EGID, 0),
        entry(at::AT_HWCAP, facts.hwcap),
        entry(at::AT_CLKTCK, 100),
        entry(at::AT_SECURE, 0),
        entry(at::AT_RANDOM, random),
        entry(at::AT_HWCAP2, facts.hwcap2),
        entry(at::AT_EXECFN, execfn),
        entry(at::AT_MINSIGSTKSZ, facts.signal_frame),
        entry(at::AT_NULL, 0),
        entry(at::AT_NULL, 0),
    ]
}

/// Strings growing down from the top, kept in pieces in the order they were pushed.
struct Strings {
    top: u64,
    /// Reversed: the byte at index `i` belongs at `top - 9 - i`.
    bytes: Vec<u8>,
}

impl Strings {
    /// The last 8 bytes of the stack stay zero, as on Linux.
    const TAIL: u64 = 8;

    fn push(&mut self, data: &[u8]) -> u64 {
        self.bytes.extend(data.iter().rev());
        self.lowest()
    }

    fn push_str(&mut self, text: &[u8]) -> u64 {
        self.bytes.push(0);
        self.push(text)
    }

    fn lowest(&self) -> u64 {
        self.top - Self::TAIL - self.bytes.len() as u64
    }

    fn append_to(self, out: &mut Vec<u8>) {
        out.extend(self.bytes.iter().rev());
        out.extend([0; Self::TAIL as usize]);
    }
}
