//! Crafted files, one per refusal, and real ones.

use std::io::Write as _;

use super::*;

/// A minimal static program: a header, program headers, and code.
struct Elf {
    header: [u8; HEADER],
    segments: Vec<[u8; PROGRAM_HEADER]>,
    tail: Vec<u8>,
}

const CODE_AT: u64 = 0x40_0000;

impl Elf {
    fn new() -> Self {
        let mut header = [0; HEADER];
        header[..8].copy_from_slice(b"\x7fELF\x02\x01\x01\x00");
        put(&mut header, 16, &ET_EXEC.to_le_bytes());
        put(&mut header, 18, &EM_X86_64.to_le_bytes());
        put(&mut header, 24, &CODE_AT.to_le_bytes());
        put(&mut header, 32, &(HEADER as u64).to_le_bytes());
        put(&mut header, 54, &(PROGRAM_HEADER as u16).to_le_bytes());
        Self { header, segments: Vec::new(), tail: vec![0; 4096] }.segment(PT_LOAD, PF_X | 4, 0, 4096)
    }

    fn segment(mut self, kind: u32, flags: u32, offset: u64, size: u64) -> Self {
        let mut raw = [0; PROGRAM_HEADER];
        put(&mut raw, 0, &kind.to_le_bytes());
        put(&mut raw, 4, &flags.to_le_bytes());
        put(&mut raw, 8, &offset.to_le_bytes());
        put(&mut raw, 16, &CODE_AT.to_le_bytes());
        put(&mut raw, 32, &size.to_le_bytes());
        put(&mut raw, 40, &size.to_le_bytes());
        self.segments.push(raw);
        self
    }

    /// Adds a dynamic section with these entries.
    fn dynamic(mut self, entries: &[(u64, u64)]) -> Self {
        let offset = 1024;
        for (index, (tag, value)) in entries.iter().enumerate() {
            put(&mut self.tail, offset + index * 16, &tag.to_le_bytes());
            put(&mut self.tail, offset + index * 16 + 8, &value.to_le_bytes());
        }
        let at = (HEADER + (self.segments.len() + 1) * PROGRAM_HEADER + offset) as u64;
        self.segment(PT_DYNAMIC, 6, at, entries.len() as u64 * 16)
    }

    fn with(mut self, at: usize, bytes: &[u8]) -> Self {
        put(&mut self.header, at, bytes);
        self
    }

    fn file(mut self) -> Vec<u8> {
        put(&mut self.header, 56, &(self.segments.len() as u16).to_le_bytes());
        [&self.header[..], &self.segments.concat(), &self.tail].concat()
    }

    fn check(self) -> Result<ProgramFile, ProgramError> {
        check_bytes(&self.file())
    }
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    bytes[at..at + value.len()].copy_from_slice(value);
}

fn check_bytes(bytes: &[u8]) -> Result<ProgramFile, ProgramError> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    check(file.path())
}

#[test]
fn a_static_program_passes_with_its_length() {
    let len = Elf::new().file().len() as u64;
    assert_eq!(Elf::new().check().unwrap(), ProgramFile { len: Bytes(len) });
    Elf::new().with(7, &[3]).check().unwrap();
}

#[test]
fn a_static_pie_program_passes() {
    let pie = || Elf::new().with(16, &ET_DYN.to_le_bytes());
    pie().dynamic(&[(DT_FLAGS_1, DF_1_PIE | 1), (DT_NULL, 0)]).check().unwrap();
    pie().dynamic(&[(DT_NULL, 0), (DT_NEEDED, 1)]).check().unwrap();
    pie().check().unwrap();
}

#[test]
fn what_is_no_regular_file_is_refused() {
    let scratch = tempfile::tempdir().unwrap();
    assert!(matches!(check(scratch.path()), Err(ProgramError::Directory)));
    assert!(matches!(check(&scratch.path().join("none")), Err(ProgramError::Missing)));
    assert!(matches!(check(Path::new("/dev/zero")), Err(ProgramError::Special("a device"))));
}

#[test]
fn what_is_no_elf_file_is_refused_by_kind() {
    assert!(matches!(check_bytes(b""), Err(ProgramError::Empty)));
    assert!(matches!(check_bytes(b"#!/bin/sh\necho hi\n"), Err(ProgramError::Script)));
    assert!(matches!(check_bytes(b"MZ\x90\x00 and so on"), Err(ProgramError::NotElf)));
    assert!(matches!(check_bytes(b"\x7f"), Err(ProgramError::NotElf)));
    assert!(matches!(check_bytes(b"\x7fELF\x02\x01"), Err(ProgramError::Truncated { what: "ELF header", .. })));
}

#[test]
fn other_processors_are_named() {
    let refusal = |elf: Elf| elf.check().unwrap_err().to_string();
    assert!(refusal(Elf::new().with(18, &183u16.to_le_bytes())).contains("ARM aarch64"));
    assert!(refusal(Elf::new().with(4, &[1]).with(18, &40u16.to_le_bytes())).contains("ARM (32-bit)"));
    assert!(refusal(Elf::new().with(5, &[2]).with(18, &22u16.to_be_bytes())).contains("S/390"));
    assert!(refusal(Elf::new().with(18, &4242u16.to_le_bytes())).contains("ELF machine 4242"));
    assert!(matches!(Elf::new().with(4, &[1]).with(18, &3u16.to_le_bytes()).check(), Err(ProgramError::ThirtyTwoBit)));
    assert!(matches!(Elf::new().with(4, &[1]).check(), Err(ProgramError::ThirtyTwoBit)));
    assert!(matches!(Elf::new().with(7, &[9]).check(), Err(ProgramError::WrongSystem(9))));
}

#[test]
fn what_is_not_an_executable_is_refused_by_type() {
    let typed = |kind: u16| Elf::new().with(16, &kind.to_le_bytes()).check().unwrap_err();
    assert!(matches!(typed(ET_REL), ProgramError::Relocatable));
    assert!(matches!(typed(ET_CORE), ProgramError::CoreDump));
    assert!(matches!(typed(77), ProgramError::UnknownType(77)));
    let library = Elf::new().with(16, &ET_DYN.to_le_bytes()).dynamic(&[(DT_SONAME, 1), (DT_NULL, 0)]);
    assert!(matches!(library.check(), Err(ProgramError::SharedLibrary)));
    let like_libc = Elf::new().with(16, &ET_DYN.to_le_bytes()).segment(PT_INTERP, 4, 0, 16).dynamic(&[(DT_SONAME, 1)]);
    assert!(matches!(like_libc.check(), Err(ProgramError::SharedLibrary)));
}

#[test]
fn dynamic_programs_are_told_how_to_link() {
    let error = Elf::new().segment(PT_INTERP, 4, 0, 16).check().unwrap_err();
    assert!(matches!(error, ProgramError::Dynamic));
    assert!(error.to_string().contains("-static"), "{error}");
    assert!(matches!(Elf::new().dynamic(&[(DT_NEEDED, 1), (DT_NULL, 0)]).check(), Err(ProgramError::Dynamic)));
}

#[test]
fn truncated_files_are_refused_wherever_they_end() {
    let whole = Elf::new().file();
    assert!(matches!(
        check_bytes(&whole[..100]),
        Err(ProgramError::Truncated { what: "table of program headers", .. })
    ));
    assert!(matches!(
        check_bytes(&whole[..2000]),
        Err(ProgramError::Truncated { what: "segment", end: 4096, len: 2000 })
    ));
    for len in 0..4096 {
        assert!(check_bytes(&whole[..len]).is_err(), "{len} bytes of it passed");
    }
}

#[test]
fn damaged_headers_are_refused_without_reading_what_they_claim() {
    assert!(matches!(Elf::new().with(54, &[1]).check(), Err(ProgramError::Damaged(_))));
    assert!(matches!(Elf::new().with(32, &u64::MAX.to_le_bytes()).check(), Err(ProgramError::Damaged(_))));
    assert!(matches!(Elf::new().with(5, &[0]).check(), Err(ProgramError::Damaged(_))));
    assert!(matches!(Elf::new().with(4, &[0]).check(), Err(ProgramError::Damaged(_))));
    assert!(matches!(Elf::new().with(24, &1u64.to_le_bytes()).check(), Err(ProgramError::EntryOutside)));
    let mut data_only = Elf::new();
    data_only.segments[0][4] = 4;
    assert!(matches!(data_only.check(), Err(ProgramError::NoExecutableSegment)));
    let mut none = Elf::new();
    none.segments.clear();
    assert!(matches!(none.check(), Err(ProgramError::NoExecutableSegment)));
}

#[test]
fn any_bytes_in_the_header_are_survived() {
    let whole = Elf::new().file();
    for at in 0..HEADER + PROGRAM_HEADER {
        for value in [0, 1, 0x7f, 0x80, 0xff] {
            let mut bytes = whole.clone();
            bytes[at] = value;
            let _ = check_bytes(&bytes);
        }
    }
}

#[test]
fn the_host_s_own_dynamic_programs_are_recognised() {
    assert!(matches!(check(Path::new("/bin/sh")), Err(ProgramError::Dynamic)));
    assert!(matches!(check(&std::env::current_exe().unwrap()), Err(ProgramError::Dynamic)));
}
