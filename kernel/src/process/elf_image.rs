//! Reads an ELF file's headers and decides whether it is a program for us.
//!
//! Pure: bytes in, a checked [`Image`] or an [`ImageError`] out; host tests include this file as it is.
//! Does not map or copy anything (that is `elf.rs`), does not look at sections, and does not relocate:
//! a static-PIE relocates itself. Every number in the file is hostile until checked here, so whoever
//! holds an `Image` may add and subtract its addresses without overflow.
//!
//! Format: System V gABI chapters 4 and 5; x86-64 psABI chapter 4.

use arrayvec::ArrayVec;
use elf::abi;
use elf::endian::LittleEndian;
use elf::file::{Class, ELF64_EHDR_TAILSIZE, FileHeader, parse_ident};
use elf::segment::{ProgramHeader, SegmentTable};

/// Page size the image is laid out for.
const PAGE: u64 = 4096;
/// First address behind user space: the last page below the canonical hole stays empty, because a
/// `syscall` in its last bytes would leave a non-canonical return address (SDM vol. 2, SYSRET).
const USER_END: u64 = 0x0000_7fff_ffff_f000;
/// Where static-PIE images go (the place facts §3.1 tried; 4 GiB aligned, so any sane `p_align` holds).
pub const PIE_BASE: u64 = 0x5555_0000_0000;
/// Largest image, from its first to its last byte: leaves room for the mappings and the stack.
const MAX_SPAN: u64 = 1 << 44;
/// Loadable segments one program may have; linkers make two to six.
pub const MAX_SEGMENTS: usize = 16;
/// Size of one program header, the only one we read.
pub const PHDR_SIZE: u64 = 56;

/// Why a file is not a program for us.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "each variant's sentence is its documentation")]
pub enum ImageError {
    #[error("the file is empty")]
    Empty,
    #[error("the file is a script, and only ELF executables can be run")]
    Script,
    #[error("the file is not an ELF file")]
    NotElf,
    #[error("the file is a 32-bit ELF file, and only 64-bit programs can be run")]
    Not64Bit,
    #[error("the file is a big-endian ELF file, and only x86-64 programs can be run")]
    BigEndian,
    #[error("the file is an ELF file of an unknown version")]
    Version,
    #[error("the file is built for {}, and only x86-64 programs can be run", machine_name(*.0))]
    Machine(u16),
    #[error("the file is {}, not an executable", type_name(*.0))]
    NotExecutable(u16),
    #[error("the file needs the dynamic loader (it has a PT_INTERP segment): link it statically")]
    Dynamic,
    #[error("the file is truncated: its {0} lies beyond its end")]
    Truncated(Part),
    #[error("the file's program headers have an unexpected size")]
    HeaderSize,
    #[error("the file has no loadable segment")]
    NoSegments,
    #[error("the file has more than {MAX_SEGMENTS} loadable segments")]
    TooManySegments,
    #[error("segment {0} has more bytes in the file than in memory")]
    FileLargerThanMemory(usize),
    #[error("segment {0} lies at different offsets within a page in the file and in memory")]
    Misaligned(usize),
    #[error("segment {0} would lie on page zero")]
    NullPage(usize),
    #[error("segment {0} would lie outside user memory")]
    OutsideUserMemory(usize),
    #[error("segment {0} overlaps or shares a page with the one before it, or is out of order")]
    Overlap(usize),
    #[error("the program would need {0:#x} bytes of address space, more than there is")]
    TooLarge(u64),
    #[error("the entry point {0:#x} is not inside an executable segment")]
    EntryOutside(u64),
}

/// A piece of the file, for [`ImageError::Truncated`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Part {
    Header,
    ProgramHeaders,
    Segment(usize),
}

impl core::fmt::Display for Part {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Header => f.write_str("ELF header"),
            Self::ProgramHeaders => f.write_str("program header table"),
            Self::Segment(index) => write!(f, "segment {index}"),
        }
    }
}

/// What a segment's pages may be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub struct SegmentRights {
    pub read: bool,
    pub write: bool,
    pub execute: bool,
}

/// One loadable segment, addresses as they will be in memory (bias added).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// First byte in memory; need not be page-aligned.
    pub start: u64,
    /// Bytes that come from the file, from `start` on.
    pub file_size: u64,
    /// Bytes in memory; those behind `file_size` are zero.
    pub mem_size: u64,
    /// Where the file's bytes begin in the file.
    pub file_offset: u64,
    /// What the program asked for.
    pub rights: SegmentRights,
}

impl Segment {
    /// First page boundary at or below the segment.
    pub fn page_start(&self) -> u64 {
        self.start & !(PAGE - 1)
    }

    /// First page boundary at or above its end.
    pub fn page_end(&self) -> u64 {
        (self.start + self.mem_size).next_multiple_of(PAGE)
    }
}

/// A program's checked layout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Ascending, no two on one page, all inside user memory.
    pub segments: ArrayVec<Segment, MAX_SEGMENTS>,
    /// First instruction.
    pub entry: u64,
    /// Where the program headers are in memory (`AT_PHDR`), 0 if they are not loaded.
    pub program_headers: u64,
    /// How many there are (`AT_PHNUM`).
    pub program_header_count: u64,
    /// The program asked for an executable stack (`PT_GNU_STACK` with `PF_X`).
    pub executable_stack: bool,
}

impl Image {
    /// Checks a file of `size` bytes that begins with `head` and lays the program out; nothing is loaded. The program headers
    /// must be in `head`.
    /// A static-PIE goes to `base`, a multiple of 2 MiB.
    pub fn parse(head: &[u8], size: u64, base: u64) -> Result<Self, ImageError> {
        let header = file_header(head)?;
        let headers = program_headers(&header, head)?;
        if headers.iter().any(|h| h.p_type == abi::PT_INTERP) {
            return Err(ImageError::Dynamic);
        }
        let bias = bias(&header, &headers, base);
        let mut segments = ArrayVec::new();
        for h in headers.iter().filter(|h| h.p_type == abi::PT_LOAD && h.p_memsz != 0) {
            let index = segments.len();
            let segment = checked_segment(index, &h, bias, size)?;
            check_order(index, segments.last(), &segment)?;
            segments.try_push(segment).map_err(|_| ImageError::TooManySegments)?;
        }
        let (Some(first), Some(last)) = (segments.first(), segments.last()) else {
            return Err(ImageError::NoSegments);
        };
        let span = last.page_end() - first.page_start();
        if span > MAX_SPAN {
            return Err(ImageError::TooLarge(span));
        }
        let entry = entry_point(&header, bias, &segments)?;
        let phdrs_loaded_at = segments.iter().find_map(|s| {
            let at = header.e_phoff.checked_sub(s.file_offset)?;
            (at < s.file_size).then_some(s.start + at)
        });
        let executable_stack = headers.iter().any(|h| h.p_type == abi::PT_GNU_STACK && h.p_flags & abi::PF_X != 0);
        Ok(Self {
            segments,
            entry,
            program_headers: phdrs_loaded_at.unwrap_or(0),
            program_header_count: u64::from(header.e_phnum),
            executable_stack,
        })
    }

    /// First page boundary behind the program: its heap (`brk`) starts there.
    pub fn end(&self) -> u64 {
        self.segments.last().map_or(PAGE, Segment::page_end)
    }
}

fn file_header(file: &[u8]) -> Result<FileHeader<LittleEndian>, ImageError> {
    if file.is_empty() {
        return Err(ImageError::Empty);
    }
    if file.starts_with(b"#!") {
        return Err(ImageError::Script);
    }
    if !file.starts_with(&abi::ELFMAGIC) {
        return Err(ImageError::NotElf);
    }
    let ident_end = abi::EI_NIDENT;
    let ident = file.get(..ident_end).ok_or(ImageError::Truncated(Part::Header))?;
    if ident[abi::EI_DATA] == abi::ELFDATA2MSB {
        return Err(ImageError::BigEndian);
    }
    let ident = parse_ident::<LittleEndian>(ident).map_err(|e| match e {
        elf::ParseError::UnsupportedVersion(_) => ImageError::Version,
        _ => ImageError::NotElf,
    })?;
    if ident.1 != Class::ELF64 {
        return Err(ImageError::Not64Bit);
    }
    let tail = file.get(ident_end..ident_end + ELF64_EHDR_TAILSIZE).ok_or(ImageError::Truncated(Part::Header))?;
    let header = FileHeader::parse_tail(ident, tail).map_err(|_| ImageError::Truncated(Part::Header))?;
    if header.e_machine != abi::EM_X86_64 {
        return Err(ImageError::Machine(header.e_machine));
    }
    if header.e_type != abi::ET_EXEC && header.e_type != abi::ET_DYN {
        return Err(ImageError::NotExecutable(header.e_type));
    }
    Ok(header)
}

fn program_headers<'a>(
    header: &FileHeader<LittleEndian>,
    file: &'a [u8],
) -> Result<SegmentTable<'a, LittleEndian>, ImageError> {
    if header.e_phnum == 0 {
        return Err(ImageError::NoSegments);
    }
    if u64::from(header.e_phentsize) != PHDR_SIZE {
        return Err(ImageError::HeaderSize);
    }
    let bytes = u64::from(header.e_phnum) * PHDR_SIZE;
    let table = slice(file, header.e_phoff, bytes).ok_or(ImageError::Truncated(Part::ProgramHeaders))?;
    Ok(SegmentTable::new(LittleEndian, Class::ELF64, table))
}

/// What to add to the file's addresses: nothing for a program linked at fixed addresses.
fn bias(header: &FileHeader<LittleEndian>, headers: &SegmentTable<'_, LittleEndian>, base: u64) -> u64 {
    if header.e_type == abi::ET_EXEC {
        return 0;
    }
    let first = headers.iter().find(|h| h.p_type == abi::PT_LOAD && h.p_memsz != 0);
    // Wraps only for files whose first segment lies above the base, and those fail in
    // `checked_segment`: their sum is computed checked there.
    base.saturating_sub(first.map_or(0, |h| h.p_vaddr & !(PAGE - 1)))
}

fn checked_segment(index: usize, h: &ProgramHeader, bias: u64, size: u64) -> Result<Segment, ImageError> {
    if h.p_filesz > h.p_memsz {
        return Err(ImageError::FileLargerThanMemory(index));
    }
    if h.p_offset.checked_add(h.p_filesz).is_none_or(|end| end > size) {
        return Err(ImageError::Truncated(Part::Segment(index)));
    }
    if h.p_filesz != 0 && h.p_offset % PAGE != h.p_vaddr % PAGE {
        return Err(ImageError::Misaligned(index));
    }
    let start = h.p_vaddr.checked_add(bias).ok_or(ImageError::OutsideUserMemory(index))?;
    if h.p_memsz > MAX_SPAN {
        return Err(ImageError::TooLarge(h.p_memsz));
    }
    let end = start.checked_add(h.p_memsz).ok_or(ImageError::OutsideUserMemory(index))?;
    if start < PAGE {
        return Err(ImageError::NullPage(index));
    }
    if end > USER_END {
        return Err(ImageError::OutsideUserMemory(index));
    }
    let has = |flag| h.p_flags & flag != 0;
    Ok(Segment {
        start,
        file_size: h.p_filesz,
        mem_size: h.p_memsz,
        file_offset: h.p_offset,
        rights: SegmentRights { read: has(abi::PF_R), write: has(abi::PF_W), execute: has(abi::PF_X) },
    })
}

fn check_order(index: usize, before: Option<&Segment>, next: &Segment) -> Result<(), ImageError> {
    match before {
        Some(before) if next.page_start() < before.page_end() => Err(ImageError::Overlap(index)),
        _ => Ok(()),
    }
}

fn entry_point(header: &FileHeader<LittleEndian>, bias: u64, segments: &[Segment]) -> Result<u64, ImageError> {
    let outside = ImageError::EntryOutside(header.e_entry);
    let entry = header.e_entry.checked_add(bias).ok_or(outside)?;
    let home = segments.iter().find(|s| s.rights.execute && entry >= s.start && entry - s.start < s.mem_size);
    home.map(|_| entry).ok_or(outside)
}

/// `file[offset..offset + len]`, if the file is that long.
fn slice(file: &[u8], offset: u64, len: u64) -> Option<&[u8]> {
    let start = usize::try_from(offset).ok()?;
    let end = start.checked_add(usize::try_from(len).ok()?)?;
    file.get(start..end)
}

fn machine_name(machine: u16) -> &'static str {
    match machine {
        abi::EM_386 => "32-bit x86",
        abi::EM_ARM => "32-bit ARM",
        abi::EM_AARCH64 => "64-bit ARM",
        abi::EM_RISCV => "RISC-V",
        abi::EM_PPC64 => "64-bit PowerPC",
        abi::EM_S390 => "S/390",
        abi::EM_MIPS => "MIPS",
        _ => "another kind of machine",
    }
}

fn type_name(kind: u16) -> &'static str {
    match kind {
        abi::ET_REL => "an object file",
        abi::ET_CORE => "a core dump",
        _ => "an ELF file of an unknown kind",
    }
}
