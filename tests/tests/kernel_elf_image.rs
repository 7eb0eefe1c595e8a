//! The kernel's reading of ELF files, on the host: what runs, and one exact reason for each file that does not.

extern crate alloc;

// Warnings about parts that only the kernel uses would be about another crate.
#[allow(dead_code)]
#[path = "../../kernel/src/process/elf_image.rs"]
mod elf_image;

use elf_image::{Image, ImageError, MAX_SEGMENTS, PIE_BASE, Part};
use proptest::prelude::*;

const LOAD: u32 = 1;
const INTERP: u32 = 3;
const GNU_STACK: u32 = 0x6474_e551;
const READ_EXECUTE: u32 = 5;
const READ_WRITE: u32 = 6;

/// A whole file.
fn parse_file(bytes: &[u8]) -> Result<Image, ImageError> {
    Image::parse(bytes, bytes.len() as u64, PIE_BASE)
}

/// A program header to be written.
#[derive(Clone, Copy)]
struct Header {
    kind: u32,
    flags: u32,
    offset: u64,
    address: u64,
    file_size: u64,
    mem_size: u64,
}

fn load(flags: u32, offset: u64, address: u64, file_size: u64, mem_size: u64) -> Header {
    Header { kind: LOAD, flags, offset, address, file_size, mem_size }
}

/// Text and data of an ordinary fixed-address program.
fn ordinary() -> Vec<Header> {
    vec![load(READ_EXECUTE, 0, 0x40_0000, 0x1000, 0x1000), load(READ_WRITE, 0x1000, 0x40_1000, 0x800, 0x9000)]
}

/// An ELF file of 8 KiB with these program headers.
fn file(kind: u16, entry: u64, headers: &[Header]) -> Vec<u8> {
    let mut bytes = vec![0; 0x2000];
    bytes[..8].copy_from_slice(&[0x7f, b'E', b'L', b'F', 2, 1, 1, 0]);
    let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
    put(16, &kind.to_le_bytes());
    put(18, &62_u16.to_le_bytes());
    put(20, &1_u32.to_le_bytes());
    put(24, &entry.to_le_bytes());
    put(32, &64_u64.to_le_bytes());
    put(52, &64_u16.to_le_bytes());
    put(54, &56_u16.to_le_bytes());
    put(56, &(headers.len() as u16).to_le_bytes());
    for (index, header) in headers.iter().enumerate() {
        let at = 64 + index * 56;
        put(at, &header.kind.to_le_bytes());
        put(at + 4, &header.flags.to_le_bytes());
        let words = [header.offset, header.address, header.address, header.file_size, header.mem_size, 0x1000];
        for (field, word) in words.into_iter().enumerate() {
            put(at + 8 + field * 8, &word.to_le_bytes());
        }
    }
    bytes
}

const EXEC: u16 = 2;
const DYN: u16 = 3;
const ENTRY: u64 = 0x40_0100;

fn refusal(headers: &[Header]) -> ImageError {
    parse_file(&file(EXEC, ENTRY, headers)).expect_err("this file is not for us")
}

#[test]
fn a_program_with_fixed_addresses_is_laid_out_where_it_says() {
    let image = parse_file(&file(EXEC, ENTRY, &ordinary())).expect("an ordinary program");
    assert_eq!(image.entry, ENTRY);
    assert_eq!(image.program_headers, 0x40_0040);
    assert_eq!(image.program_header_count, 2);
    assert_eq!(image.end(), 0x40_a000);
    assert!(!image.executable_stack);
    let [text, data] = image.segments[..] else { panic!("two segments") };
    assert!(text.rights.execute && !text.rights.write);
    assert!(data.rights.write && !data.rights.execute);
    assert_eq!((data.page_start(), data.page_end(), data.file_size), (0x40_1000, 0x40_a000, 0x800));
}

#[test]
fn m8_a_static_pie_goes_to_whatever_base_it_is_given() {
    let headers = [load(READ_EXECUTE, 0, 0, 0x1000, 0x1000), load(READ_WRITE, 0x1800, 0x2800, 0x100, 0x100)];
    let image = parse_file(&file(DYN, 0x10, &headers)).expect("a static-PIE program");
    assert_eq!(image.entry, PIE_BASE + 0x10);
    assert_eq!(image.segments[1].start, PIE_BASE + 0x2800);
    for distance in [2 << 20, 77 << 21, 65535 << 21] {
        let bytes = file(DYN, 0x10, &headers);
        let moved = Image::parse(&bytes, bytes.len() as u64, PIE_BASE + distance).expect("a static-PIE program");
        assert_eq!(moved.entry, image.entry + distance);
        let starts = |image: &Image| image.segments.iter().map(|segment| segment.start).collect::<Vec<_>>();
        assert_eq!(starts(&moved), starts(&image).iter().map(|start| start + distance).collect::<Vec<_>>());
    }
    // A program with fixed addresses goes where it says, whatever base there is for others.
    let bytes = file(EXEC, ENTRY, &ordinary());
    assert_eq!(Image::parse(&bytes, bytes.len() as u64, 1 << 40).expect("a program").entry, ENTRY);
}

#[test]
fn an_executable_stack_is_noticed() {
    let mut headers = ordinary();
    headers.push(Header { kind: GNU_STACK, flags: 7, ..load(7, 0, 0, 0, 0) });
    assert!(parse_file(&file(EXEC, ENTRY, &headers)).expect("a program").executable_stack);
}

#[test]
fn a_file_of_another_kind_gets_its_reason() {
    let parse = |bytes: &[u8]| parse_file(bytes).expect_err("not a program");
    assert_eq!(parse(b""), ImageError::Empty);
    assert_eq!(parse(b"#!/bin/sh\necho\n"), ImageError::Script);
    assert_eq!(parse(b"MZ and so on"), ImageError::NotElf);
    assert_eq!(parse(b"\x7fELF"), ImageError::Truncated(Part::Header));
    let mut bytes = file(EXEC, ENTRY, &ordinary());
    assert_eq!(parse(&bytes[..40]), ImageError::Truncated(Part::Header));
    assert_eq!(parse(&bytes[..100]), ImageError::Truncated(Part::ProgramHeaders));
    bytes[18] = 40;
    assert_eq!(parse(&bytes), ImageError::Machine(40));
    assert!(ImageError::Machine(40).to_string().contains("32-bit ARM"));
    bytes[4] = 1;
    assert_eq!(parse(&bytes), ImageError::Not64Bit);
    bytes[5] = 2;
    assert_eq!(parse(&bytes), ImageError::BigEndian);
    assert_eq!(parse(&file(1, ENTRY, &ordinary())), ImageError::NotExecutable(1));
}

#[test]
fn this_test_itself_is_dynamic_and_refused_as_such() {
    let own = std::env::current_exe().and_then(std::fs::read).expect("a test can read itself");
    assert_eq!(parse_file(&own), Err(ImageError::Dynamic));
    let mut headers = ordinary();
    headers.push(Header { kind: INTERP, ..load(4, 0x200, 0x40_0200, 0x1c, 0x1c) });
    assert_eq!(refusal(&headers), ImageError::Dynamic);
}

#[test]
fn a_segment_that_cannot_be_loaded_gets_its_reason() {
    let with = |changed: Header| refusal(&[ordinary()[0], changed]);
    assert_eq!(refusal(&[]), ImageError::NoSegments);
    assert_eq!(refusal(&[Header { kind: GNU_STACK, ..ordinary()[0] }]), ImageError::NoSegments);
    assert_eq!(with(load(6, 0x1000, 0x40_1000, 0x800, 0x7ff)), ImageError::FileLargerThanMemory(1));
    assert_eq!(with(load(6, 0x1000, 0x40_1000, 0x1001, 0x2000)), ImageError::Truncated(Part::Segment(1)));
    assert_eq!(with(load(6, u64::MAX, 0x40_1fff, 2, 2)), ImageError::Truncated(Part::Segment(1)));
    assert_eq!(with(load(6, 0x1000, 0x40_1010, 8, 8)), ImageError::Misaligned(1));
    assert_eq!(refusal(&[load(5, 0x10, 0x10, 8, 8)]), ImageError::NullPage(0));
    assert_eq!(with(load(6, 0, 0x7fff_ffff_f000, 0, 1)), ImageError::OutsideUserMemory(1));
    assert_eq!(with(load(6, 0, 0xffff_ffff_8000_0000, 0, 0x1000)), ImageError::OutsideUserMemory(1));
    assert_eq!(with(load(6, 0, u64::MAX, 0, 2)), ImageError::OutsideUserMemory(1));
    assert_eq!(with(load(6, 0, 0x40_0800, 0, 8)), ImageError::Overlap(1));
    assert_eq!(with(load(6, 0, 0x30_0000, 0, 8)), ImageError::Overlap(1));
    assert_eq!(with(load(6, 0, 0x50_0000, 0, u64::MAX)), ImageError::TooLarge(u64::MAX));
    assert!(matches!(with(load(6, 0, 0x6000_0000_0000, 0, 8)), ImageError::TooLarge(_)));
    let many: Vec<Header> =
        (0..=MAX_SEGMENTS as u64).map(|n| load(READ_EXECUTE, 0, 0x40_0000 + n * 0x1000, 0, 0x1000)).collect();
    assert_eq!(refusal(&many), ImageError::TooManySegments);
}

#[test]
fn an_entry_point_must_be_code() {
    let parse = |entry| parse_file(&file(EXEC, entry, &ordinary()));
    for entry in [0, 0x40_1000, 0x3f_ffff, u64::MAX] {
        assert_eq!(parse(entry), Err(ImageError::EntryOutside(entry)));
    }
    assert!(parse(0x40_0fff).is_ok());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    /// Whatever is in the file: no panic, no overflow, and what is accepted can be loaded.
    #[test]
    fn m7_a_damaged_file_is_refused_or_safe_to_load(
        kind in prop_oneof![Just(EXEC), Just(DYN)],
        damage in prop::collection::vec((0_usize..240, any::<u8>()), 0..12),
        words in prop::collection::vec((0_usize..12, any::<u64>()), 0..3),
    ) {
        let mut bytes = file(kind, ENTRY, &ordinary());
        for (at, value) in damage {
            bytes[at] = value;
        }
        for (word, value) in words {
            let at = 64 + 8 + word * 8;
            bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
        }
        if let Ok(image) = parse_file(&bytes) {
            let mut end = 0x1000;
            for segment in &image.segments {
                prop_assert!(segment.page_start() >= end && segment.page_end() <= 0x7fff_ffff_f000);
                prop_assert!(segment.file_size <= segment.mem_size);
                prop_assert!(segment.file_offset + segment.file_size <= bytes.len() as u64);
                end = segment.page_end();
            }
            prop_assert!(image.segments.iter().any(|s| (s.start..s.start + s.mem_size).contains(&image.entry)));
        }
    }
}
