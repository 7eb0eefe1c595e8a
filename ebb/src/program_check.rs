//! Whether a file is a program that the kernel can run, decided before anything boots.
//!
//! Owns: the checks on the ELF headers (System V gABI chapters 4 and 5, x86-64 psABI), and the reason
//! for each refusal with what to do about it. Reads headers only, never whole files. Does not own the
//! kernel's own, stricter checks on addresses, and not which file is meant (`program`).

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt as _, FileTypeExt as _};
use std::path::Path;

use thiserror::Error;

use crate::size::Bytes;

/// What `-static` is called in the usual tool chains; part of several refusals.
const HOW_TO_LINK: &str =
    "link it statically (gcc -static; Rust: RUSTFLAGS=\"-C target-feature=+crt-static\"; Go: CGO_ENABLED=0)";

/// Why a file is not a program for us. Each reads after the file's name.
#[derive(Debug, Error)]
pub enum ProgramError {
    /// No such file.
    #[error("does not exist")]
    Missing,
    /// A directory.
    #[error("is a directory, not a program")]
    Directory,
    /// A device, socket or pipe.
    #[error("is {0}, not a file with a program in it")]
    Special(&'static str),
    /// The file system says no.
    #[error("cannot be read: {0}")]
    Unreadable(io::Error),
    /// Nothing in it.
    #[error("is empty")]
    Empty,
    /// `#!`.
    #[error("is a script: give its interpreter as the program, as a static executable, and the script as its argument")]
    Script,
    /// No ELF magic.
    #[error("is not an executable: it has no ELF header")]
    NotElf,
    /// ELFCLASS32.
    #[error("is a 32-bit program: build it for 64-bit x86 (gcc -m64 -static)")]
    ThirtyTwoBit,
    /// Built for another processor.
    #[error("is for another processor, {0}: build it for x86_64 Linux")]
    WrongMachine(Machine),
    /// An OS ABI that is not System V or GNU.
    #[error("is for another system (ELF OS ABI {0}): build it for x86_64 Linux")]
    WrongSystem(u8),
    /// ET_REL.
    #[error("is an object file that is not linked yet: link it into an executable, statically")]
    Relocatable,
    /// ET_DYN that nothing starts.
    #[error("is a shared library, not a program")]
    SharedLibrary,
    /// ET_CORE.
    #[error("is a core dump, not a program")]
    CoreDump,
    /// A type outside the gABI's.
    #[error("has the unknown ELF type {0}")]
    UnknownType(u16),
    /// PT_INTERP or DT_NEEDED.
    #[error("is dynamically linked, and there are no shared libraries here: {HOW_TO_LINK}")]
    Dynamic,
    /// Something the headers mention lies past the file's end.
    #[error("is truncated: its {what} would end at byte {end}, but it has only {len}: copy or build it again")]
    Truncated {
        /// Program headers or segment.
        what: &'static str,
        /// Where it would end.
        end: u64,
        /// The file's length.
        len: u64,
    },
    /// Sizes in the headers that no linker writes.
    #[error("has a damaged ELF header ({0}): build it again")]
    Damaged(&'static str),
    /// No PT_LOAD with PF_X.
    #[error("has no executable segment, so there is nothing to run")]
    NoExecutableSegment,
    /// e_entry is nowhere.
    #[error("has its entry point in none of its executable segments: build it again")]
    EntryOutside,
}

/// `e_machine`, named as people name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Machine(u16);

impl std::fmt::Display for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = match self.0 {
            3 => "x86 (32-bit)",
            8 => "MIPS",
            20 => "PowerPC",
            21 => "PowerPC 64",
            22 => "IBM S/390",
            40 => "ARM (32-bit)",
            43 => "SPARC 64",
            50 => "Itanium",
            183 => "ARM aarch64",
            243 => "RISC-V",
            247 => "BPF",
            258 => "LoongArch",
            other => return write!(f, "ELF machine {other}"),
        };
        f.write_str(name)
    }
}

/// A program that passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProgramFile {
    /// How long the file is, which is how much RAM it takes while it is a boot module.
    pub len: Bytes,
}

/// Opens and checks a program.
///
/// # Errors
/// The first reason found, the most telling one first.
pub fn check(path: &Path) -> Result<ProgramFile, ProgramError> {
    let unreadable = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => ProgramError::Missing,
        _ => ProgramError::Unreadable(error),
    };
    let kind = std::fs::metadata(path).map_err(unreadable)?.file_type();
    if kind.is_dir() {
        return Err(ProgramError::Directory);
    }
    if kind.is_fifo() || kind.is_socket() {
        return Err(ProgramError::Special("a pipe or socket"));
    }
    if !kind.is_file() {
        return Err(ProgramError::Special("a device"));
    }
    let file = File::open(path).map_err(unreadable)?;
    let len = file.metadata().map_err(unreadable)?.len();
    check_elf(&file, len)?;
    Ok(ProgramFile { len: Bytes(len) })
}

const HEADER: usize = 64;
const PROGRAM_HEADER: usize = 56;
/// No linker makes more; the gABI's escape for 65535 and above (PN_XNUM) is for core dumps.
const MAX_SEGMENTS: u64 = 1024;
const MAX_DYNAMIC: u64 = 1 << 20;

const ET_REL: u16 = 1;
const ET_EXEC: u16 = 2;
const ET_DYN: u16 = 3;
const ET_CORE: u16 = 4;
const EM_X86_64: u16 = 62;
const PT_LOAD: u32 = 1;
const PT_DYNAMIC: u32 = 2;
const PT_INTERP: u32 = 3;
const PF_X: u32 = 1;
const DT_NULL: u64 = 0;
const DT_NEEDED: u64 = 1;
const DT_SONAME: u64 = 14;
const DT_FLAGS_1: u64 = 0x6fff_fffb;
const DF_1_PIE: u64 = 0x0800_0000;

struct Segment {
    kind: u32,
    flags: u32,
    offset: u64,
    address: u64,
    file_size: u64,
    memory_size: u64,
}

impl Segment {
    fn runs(&self) -> bool {
        self.kind == PT_LOAD && self.flags & PF_X != 0
    }
}

fn check_elf(file: &File, len: u64) -> Result<(), ProgramError> {
    let mut start = [0; HEADER];
    let got = read_some(file, &mut start)?;
    check_start(&start[..got])?;
    if got < HEADER {
        return Err(ProgramError::Truncated { what: "ELF header", end: HEADER as u64, len });
    }
    let header = &start[..];
    check_identity(header)?;
    let segments = read_segments(file, header, len)?;
    let kind = u16_at(header, 16);
    check_dynamic(file, &segments, kind)?;
    if !segments.iter().any(Segment::runs) {
        return Err(ProgramError::NoExecutableSegment);
    }
    let entry = u64_at(header, 24);
    let inside = |segment: &Segment| segment.runs() && entry.wrapping_sub(segment.address) < segment.memory_size;
    if !segments.iter().any(inside) {
        return Err(ProgramError::EntryOutside);
    }
    Ok(())
}

/// What a file is by its first bytes.
fn check_start(start: &[u8]) -> Result<(), ProgramError> {
    match start {
        [] => Err(ProgramError::Empty),
        [b'#', b'!', ..] => Err(ProgramError::Script),
        [0x7f, b'E', b'L', b'F', ..] => Ok(()),
        _ => Err(ProgramError::NotElf),
    }
}

/// Class, byte order, machine, system and type, in the order that names the likeliest mistake.
fn check_identity(header: &[u8]) -> Result<(), ProgramError> {
    let little = match header[5] {
        1 => true,
        2 => false,
        _ => return Err(ProgramError::Damaged("its byte order")),
    };
    let machine = if little { u16_at(header, 18) } else { u16_at(header, 18).swap_bytes() };
    // 32-bit x86 is the one people mean by "32-bit"; any other 32-bit machine is first of all another machine.
    match (header[4], machine) {
        (1, 3 | EM_X86_64) => return Err(ProgramError::ThirtyTwoBit),
        (2, EM_X86_64) if little => {}
        (1 | 2, _) => return Err(ProgramError::WrongMachine(Machine(machine))),
        _ => return Err(ProgramError::Damaged("its class")),
    }
    // 0 is System V, 3 GNU (ifuncs in static glibc programs).
    if !matches!(header[7], 0 | 3) {
        return Err(ProgramError::WrongSystem(header[7]));
    }
    match u16_at(header, 16) {
        ET_EXEC | ET_DYN => Ok(()),
        ET_REL => Err(ProgramError::Relocatable),
        ET_CORE => Err(ProgramError::CoreDump),
        other => Err(ProgramError::UnknownType(other)),
    }
}

fn read_segments(file: &File, header: &[u8], len: u64) -> Result<Vec<Segment>, ProgramError> {
    let (offset, size, count) = (u64_at(header, 32), u16_at(header, 54), u64::from(u16_at(header, 56)));
    if count == 0 {
        return Err(ProgramError::NoExecutableSegment);
    }
    if usize::from(size) != PROGRAM_HEADER || count > MAX_SEGMENTS {
        return Err(ProgramError::Damaged("its program headers' size or number"));
    }
    let bytes = count * PROGRAM_HEADER as u64;
    within("table of program headers", offset, bytes, len)?;
    let mut table = vec![0; bytes as usize];
    file.read_exact_at(&mut table, offset).map_err(ProgramError::Unreadable)?;
    let segments: Vec<_> = table
        .chunks_exact(PROGRAM_HEADER)
        .map(|raw| Segment {
            kind: u32_at(raw, 0),
            flags: u32_at(raw, 4),
            offset: u64_at(raw, 8),
            address: u64_at(raw, 16),
            file_size: u64_at(raw, 32),
            memory_size: u64_at(raw, 40),
        })
        .collect();
    for segment in segments.iter().filter(|segment| matches!(segment.kind, PT_LOAD | PT_DYNAMIC)) {
        within("segment", segment.offset, segment.file_size, len)?;
        if segment.kind == PT_LOAD && segment.memory_size < segment.file_size {
            return Err(ProgramError::Damaged("a segment is larger in the file than in memory"));
        }
    }
    Ok(segments)
}

/// Tells a static-PIE program from what needs a dynamic linker, and both from a library.
///
/// All three are ET_DYN. A program says so by DF_1_PIE, set by every linker since 2015; older static
/// programs without it pass as long as they neither need a library nor have a library's name.
fn check_dynamic(file: &File, segments: &[Segment], kind: u16) -> Result<(), ProgramError> {
    let dynamic = segments.iter().find(|segment| segment.kind == PT_DYNAMIC);
    let entries = dynamic.map_or(Ok(Vec::new()), |segment| read_dynamic(file, segment))?;
    let has = |wanted: u64| entries.iter().any(|(tag, _)| *tag == wanted);
    let needs_linker = segments.iter().any(|segment| segment.kind == PT_INTERP);
    let is_program = entries.iter().any(|(tag, value)| *tag == DT_FLAGS_1 && value & DF_1_PIE != 0);
    // glibc's own library names an interpreter as well, because it can be run to print its version.
    if kind == ET_DYN && !is_program && (has(DT_SONAME) || has(DT_NEEDED) && !needs_linker) {
        return Err(ProgramError::SharedLibrary);
    }
    if needs_linker || has(DT_NEEDED) {
        return Err(ProgramError::Dynamic);
    }
    Ok(())
}

/// The dynamic section's entries: tags and values.
fn read_dynamic(file: &File, segment: &Segment) -> Result<Vec<(u64, u64)>, ProgramError> {
    if segment.file_size > MAX_DYNAMIC {
        return Err(ProgramError::Damaged("its dynamic section's size"));
    }
    let mut table = vec![0; segment.file_size as usize];
    file.read_exact_at(&mut table, segment.offset).map_err(ProgramError::Unreadable)?;
    let entries = table.chunks_exact(16).map(|raw| (u64_at(raw, 0), u64_at(raw, 8)));
    Ok(entries.take_while(|(tag, _)| *tag != DT_NULL).collect())
}

fn within(what: &'static str, offset: u64, size: u64, len: u64) -> Result<(), ProgramError> {
    match offset.checked_add(size) {
        Some(end) if end <= len => Ok(()),
        Some(end) => Err(ProgramError::Truncated { what, end, len }),
        None => Err(ProgramError::Damaged("an offset past 2^64")),
    }
}

fn read_some(file: &File, buffer: &mut [u8]) -> Result<usize, ProgramError> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(&mut buffer[filled..], filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(ProgramError::Unreadable(error)),
        }
    }
    Ok(filled)
}

/// The `N` bytes at `at`; every caller has checked that they are there.
fn bytes_at<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&bytes[at..at + N]);
    out
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(bytes_at(bytes, at))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes_at(bytes, at))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes_at(bytes, at))
}

#[cfg(test)]
mod tests;
