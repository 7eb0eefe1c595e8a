//! Turns an ELF file into a process that is ready to run.
//!
//! Owns the order: lay out (`elf_image.rs`), map, stack (`stack.rs`). Segments of a file on the data disk are private windows
//! of it: their pages come when they are touched, are shared by all who run it, and are dropped when memory is short. Only the
//! page that file and `.bss` share is copied at once. The boot module has no object behind it: its bytes are copied into memory
//! of the program's own, and the module's RAM is given back. The space has no threads while this runs, so nobody sees a page
//! before its rights are final.

use alloc::borrow::Cow;
use alloc::sync::Arc;

use mm::addr::{PageRange, Vpn};
use mm::object::{ObjectPage, Sharing};
use mm::space::{SpaceId, SpaceLayout};

use super::deliver;
use super::elf_image::{Image, ImageError, PHDR_SIZE, PIE_BASE, Segment, SegmentRights};
use super::limits::{Limits, Resource};
use super::memory::{MapWish, Protection, STACK_BYTES};
use super::space::{AddressSpace, Heap};
use super::stack::{self, ProgramFacts, TooBig};
use crate::arch;
use crate::arch::layout::USER_START;
use crate::arch::user::UserThread;
use crate::cmdline::Aslr;
use crate::fs::actor::buffer;
use crate::fs::exclusion::Executing;
use crate::options;
use crate::syscall::abi::{PAGE_SIZE, USER_END};
use crate::syscall::errno::Errno;

/// Unmapped pages below the stack: what runs off its end faults instead of reaching the next mapping.
const STACK_GUARD: u64 = 1 << 20;
/// What a stack needs for its first frames and the arguments, whatever `RLIMIT_STACK` says.
const SMALLEST_STACK: u64 = 1 << 20;
/// Where program headers are looked for: linkers put them behind the ELF header.
const HEAD_BYTES: usize = 4096;

/// Why a program did not start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StartError {
    /// The file is not for us.
    #[error("{0}")]
    Image(#[from] ImageError),
    /// Too many arguments.
    #[error("{0}")]
    Arguments(#[from] TooBig),
    /// Its memory could not be had.
    #[error("the program does not fit into memory ({0:?})")]
    Memory(Errno),
}

impl From<Errno> for StartError {
    fn from(errno: Errno) -> Self {
        Self::Memory(errno)
    }
}

/// Where a program's file is.
#[derive(Clone)]
pub enum Source<'a> {
    /// In memory: the boot module.
    Bytes(&'a [u8]),
    /// On the data disk.
    File(Executing),
}

impl Source<'_> {
    /// The file's length, and as much of its beginning as the headers may take.
    pub async fn head(&self, space: SpaceId) -> Result<(u64, Cow<'_, [u8]>), Errno> {
        match self {
            Self::Bytes(bytes) => Ok((bytes.len() as u64, Cow::Borrowed(bytes))),
            Self::File(file) => {
                let data = file.file().await?;
                let mut head = buffer(HEAD_BYTES)?;
                let count = data.read_bytes(0, space, &mut head).await?;
                head.truncate(count);
                Ok((data.size(), Cow::Owned(head)))
            }
        }
    }
}

/// What to run.
pub struct Program<'a> {
    /// Where its bytes are.
    pub file: Source<'a>,
    /// Its path, from the root.
    pub path: &'a [u8],
    /// Its arguments, the name first.
    pub argv: &'a [&'a [u8]],
    /// Its environment, `NAME=VALUE` each.
    pub env: &'a [&'a [u8]],
}

/// Where a program's mappings may lie: between the first page above `mmap_min_addr` and the stack.
pub fn layout() -> SpaceLayout {
    let page = |address: u64| Vpn::new(address / PAGE_SIZE);
    SpaceLayout {
        bounds: PageRange { start: page(USER_START), end: page(USER_END) },
        mmap_top: page(stack_bottom() - STACK_GUARD),
    }
}

/// The stack ends at the end of user space.
fn stack_bottom() -> u64 {
    USER_END - STACK_BYTES
}

/// A program in memory, ready to run.
pub struct Loaded {
    /// Its memory.
    pub space: Arc<AddressSpace>,
    /// The registers of its first thread.
    pub machine: UserThread,
}

/// Loads `program` into memory of its own.
pub async fn load(program: &Program<'_>, limits: &Limits) -> Result<Loaded, StartError> {
    let space = AddressSpace::create()?;
    match fill(&space, program, limits).await {
        Ok(machine) => Ok(Loaded { space, machine }),
        Err(error) => {
            space.destroy().await;
            Err(error)
        }
    }
}

/// Where a static-PIE goes: with the option `aslr=on` to any of 65536 places, 2 MiB apart.
fn pie_base() -> u64 {
    const STEP: u64 = 2 << 20;
    let random = options::get().is_some_and(|options| options.aslr == Aslr::On);
    let mut place = [0; 2];
    if random {
        crate::arch::random::fill(&mut place);
    }
    PIE_BASE + u64::from(u16::from_le_bytes(place)) * STEP
}

/// Puts a program into an empty space.
pub async fn fill(space: &AddressSpace, program: &Program<'_>, limits: &Limits) -> Result<UserThread, StartError> {
    let image = {
        let (size, head) = program.file.head(space.id).await?;
        Image::parse(&head, size, pie_base())?
    };
    for segment in &image.segments {
        match &program.file {
            Source::Bytes(bytes) => copy_segment(space, segment, bytes).await?,
            Source::File(file) => map_segment(space, segment, file).await?,
        }
    }
    *space.heap.lock() = Heap { start: image.end(), end: image.end() };
    let top = USER_END;
    let protection = Protection { execute: image.executable_stack, ..Protection::READ_WRITE };
    space.map(MapWish::stack(top, stack_bytes(limits), protection)).await?;
    let mut machine = UserThread::new(image.entry, top);
    let facts = facts(&image, machine.fpu_image().len());
    let initial = stack::build(top, program.argv, program.env, program.path, &facts)?;
    space.write_bytes(initial.pointer, &initial.bytes).await?;
    machine.context_mut().set_sp(initial.pointer);
    Ok(machine)
}

/// As much as the limit allows, within what is kept free for the stack; arguments must fit in any case (execve(2)).
fn stack_bytes(limits: &Limits) -> u64 {
    let wanted = limits.get(Resource::STACK).current.clamp(SMALLEST_STACK, STACK_BYTES);
    wanted.next_multiple_of(PAGE_SIZE)
}

fn protection(segment: &Segment) -> Protection {
    let SegmentRights { read, write, execute } = segment.rights;
    Protection { read, write, execute }
}

/// Memory of the program's own, with the file's bytes copied in.
async fn copy_segment(space: &AddressSpace, segment: &Segment, file: &[u8]) -> Result<(), Errno> {
    let (start, from) = (segment.page_start(), segment.file_offset as usize);
    let len = segment.page_end() - start;
    space.map(MapWish::image(start, len, Protection::READ_WRITE)).await?;
    space.write_bytes(segment.start, &file[from..from + segment.file_size as usize]).await?;
    give_rights(space, start, len, protection(segment)).await
}

/// A window of the file, and memory of the program's own behind it. Offset and address agree within a page (`elf_image.rs`).
async fn map_segment(space: &AddressSpace, segment: &Segment, file: &Executing) -> Result<(), Errno> {
    const ZEROES: [u8; PAGE_SIZE as usize] = [0; PAGE_SIZE as usize];
    let (start, end, rights) = (segment.page_start(), segment.page_end(), protection(segment));
    let data_end = segment.start + segment.file_size;
    let window_end = if segment.file_size == 0 { start } else { data_end.next_multiple_of(PAGE_SIZE) };
    if window_end > start {
        let data = file.file().await?;
        let from = (data.object(), ObjectPage::holding(segment.file_offset));
        let len = window_end - start;
        // What the file has behind the segment's bytes is something else's, where `.bss` is to begin.
        let tail = if segment.mem_size > segment.file_size { (window_end - data_end) as usize } else { 0 };
        let first_rights = if tail > 0 { Protection::READ_WRITE } else { rights };
        space.map(MapWish::image(start, len, first_rights).window(from, Sharing::Private)).await?;
        if tail > 0 {
            let unreadable = |errno| if errno == Errno::EFAULT { Errno::EIO } else { errno };
            space.write_bytes(data_end, &ZEROES[..tail]).await.map_err(unreadable)?;
            give_rights(space, start, len, rights).await?;
        }
    }
    if end > window_end {
        space.map(MapWish::image(window_end, end - window_end, rights)).await?;
    }
    Ok(())
}

/// What was mapped to be written to gets the rights it is to have.
async fn give_rights(space: &AddressSpace, start: u64, len: u64, rights: Protection) -> Result<(), Errno> {
    if rights == Protection::READ_WRITE { Ok(()) } else { space.protect(start, len, rights).await }
}

fn facts(image: &Image, fpu_bytes: usize) -> ProgramFacts {
    let (hwcap, hwcap2) = arch::cpu::hardware_capabilities();
    let mut random = [0; 16];
    arch::random::fill(&mut random);
    ProgramFacts {
        program_headers: image.program_headers,
        program_header_size: PHDR_SIZE,
        program_header_count: image.program_header_count,
        entry: image.entry,
        hwcap,
        hwcap2,
        signal_frame: deliver::frame_bytes(fpu_bytes),
        random,
    }
}
