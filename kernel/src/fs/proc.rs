//! The files under `/proc`, rendered when they are opened. Linux names, Linux formats (proc(5)).
//!
//! Owns the texts only: counts come from `mm`'s snapshot and the process. A file's contents are taken at one moment, so
//! its lines agree with each other.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write;
use core::ops::ControlFlow;

use mm::space::{Label, Vma};
use mm::stats::{PageClass, Snapshot, VisiblePages};

use super::Kind;
use super::allocators;
use super::attributes::{Attributes, FileType};
use super::vnode::{Access, DirEntry, Synthetic};
use crate::process::memory::{self, Usage};
use crate::process::process::Process;
use crate::process::promptness;
use crate::syscall::errno::Errno;

/// Pages to KiB.
const KIB_PER_PAGE: u64 = 4;

/// The files there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum File {
    /// `/proc/meminfo`
    MemInfo,
    /// `/proc/vmstat`
    VmStat,
    /// `/proc/slabinfo`
    SlabInfo,
    /// `/proc/buddyinfo`
    BuddyInfo,
    /// `/proc/self/maps`
    Maps,
    /// `/proc/self/statm`
    StatM,
    /// `/proc/self/status`
    Status,
}

impl File {
    /// Its contents as they are now.
    pub fn render(self, process: &Process) -> Result<Vec<u8>, Errno> {
        let mut text = Text(Vec::new());
        let written = match self {
            Self::MemInfo => meminfo(&mut text),
            Self::VmStat => vmstat(&mut text, &memory::snapshot()),
            Self::SlabInfo => allocators::slabinfo(&mut text),
            Self::BuddyInfo => allocators::buddyinfo(&mut text),
            Self::Maps => maps(&mut text, process),
            Self::StatM => statm(&mut text, process),
            Self::Status => status(&mut text, process),
        };
        written.map(|()| text.0).map_err(|_| Errno::ENOMEM)
    }
}

/// A text that reports when there is no memory for more of it: how long `maps` is, is the program's choice.
struct Text(Vec<u8>);

impl Write for Text {
    fn write_str(&mut self, part: &str) -> core::fmt::Result {
        let len = self.0.len() + part.len();
        if len > self.0.capacity() {
            let capacity = len.max(2 * self.0.capacity());
            if !memory::has_room(capacity) {
                return Err(core::fmt::Error);
            }
            self.0.try_reserve_exact(capacity - self.0.len()).map_err(|_| core::fmt::Error)?;
        }
        self.0.extend_from_slice(part.as_bytes());
        Ok(())
    }
}

fn meminfo(text: &mut Text) -> core::fmt::Result {
    let snapshot = memory::snapshot();
    let usage = Usage::of(&snapshot);
    let pages = |count: u64| count * KIB_PER_PAGE;
    let clean = pages(snapshot.pages.get(PageClass::Clean));
    let anonymous = pages(snapshot.pages.resident());
    let tables = pages(snapshot.frames.used[mm::frame::FrameKind::PageTable as usize] as u64);
    let lines = [
        ("MemTotal", usage.ram_bytes / 1024),
        ("MemFree", usage.free_bytes / 1024),
        ("MemAvailable", usage.free_bytes / 1024 + clean),
        ("Buffers", 0),
        ("Cached", 0),
        ("SwapCached", clean),
        ("SwapTotal", usage.swap_bytes / 1024),
        ("SwapFree", usage.swap_free_bytes / 1024),
        ("Dirty", 0),
        ("Writeback", pages(snapshot.pages.get(PageClass::Evicting) + snapshot.pages.get(PageClass::Cleaning))),
        ("AnonPages", anonymous),
        ("Mapped", 0),
        ("Shmem", 0),
        ("PageTables", tables),
    ];
    for (name, kib) in lines {
        writeln!(text, "{:<15} {kib:>8} kB", Colon(name))?;
    }
    Ok(())
}

/// A name with its colon, to be padded as one.
struct Colon(&'static str);

impl core::fmt::Display for Colon {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{}:{:width$}", self.0, "", width = f.width().map_or(0, |w| w.saturating_sub(self.0.len() + 1)))
    }
}

/// The counters with their Linux names, and those of [`promptness`]. `kswapd` is our reclaim task; nobody else reclaims.
pub fn vmstat_counters(snapshot: &Snapshot) -> [(&'static str, u64); 25] {
    let c = &snapshot.counters;
    let kib = |pages: u64| pages * KIB_PER_PAGE;
    let [completions, completions_late, resumed, resumed_late] = promptness::counters();
    [
        ("nr_free_pages", snapshot.frames.free as u64),
        ("nr_anon_pages", snapshot.pages.resident()),
        ("pgpgin", kib(c.pswpin)),
        ("pgpgout", kib(c.pswpout)),
        ("pswpin", c.pswpin),
        ("pswpout", c.pswpout),
        ("pgalloc_normal", c.pgalloc),
        ("pgfree", c.pgfree),
        ("pgfault", c.pgfault),
        ("pgmajfault", c.pgmajfault),
        ("pgscan", c.pgscan),
        ("pgsteal", c.pgsteal),
        ("pgscan_kswapd", c.pgscan),
        ("pgsteal_kswapd", c.pgsteal),
        ("pgscan_direct", 0),
        ("pgsteal_direct", 0),
        ("allocstall_normal", c.allocstall),
        ("swpin_zero", c.swpin_zero),
        ("swpout_zero", c.swpout_zero),
        ("oom_kill", c.oom_kill),
        ("ebb_page_tables_dropped", c.ptdrop),
        completions,
        completions_late,
        resumed,
        resumed_late,
    ]
}

/// Linux' names, and after them the four states of a page, which Linux does not count.
fn vmstat(text: &mut Text, snapshot: &Snapshot) -> core::fmt::Result {
    let VisiblePages { uncommitted, committed_clean, committed_dirty, paged_out } = snapshot.visible;
    let states = [
        ("ebb_uncommitted", uncommitted),
        ("ebb_committed_clean", committed_clean),
        ("ebb_committed_dirty", committed_dirty),
        ("ebb_paged_out", paged_out),
    ];
    for (name, value) in vmstat_counters(snapshot).into_iter().chain(states) {
        writeln!(text, "{name} {value}")?;
    }
    Ok(())
}

fn maps(text: &mut Text, process: &Process) -> core::fmt::Result {
    let mut written = Ok(());
    process.each_mapping(&mut |area| {
        if written.is_ok() {
            written = map_line(text, area, &process.executable);
        }
    });
    written
}

fn map_line(text: &mut Text, area: &Vma, executable: &[u8]) -> core::fmt::Result {
    let (start, end) = (area.range.start.addr().as_u64(), area.range.end.addr().as_u64());
    let flag = |allowed: mm::platform::Permission, letter| if allowed.is_allowed() { letter } else { '-' };
    let rights = area.rights;
    write!(
        text,
        "{start:08x}-{end:08x} {}{}{}p 00000000 00:00 0",
        flag(rights.access, 'r'),
        flag(rights.write, 'w'),
        flag(rights.execute, 'x'),
    )?;
    match area.label {
        Label::Anonymous => {}
        Label::Image => write!(text, " {:>26}{}", "", String::from_utf8_lossy(executable))?,
        Label::Heap => write!(text, " {:>26}[heap]", "")?,
        Label::Stack => write!(text, " {:>26}[stack]", "")?,
    }
    writeln!(text)
}

/// Pages of the areas that carry a label.
fn labelled(process: &Process, wanted: impl Fn(&Vma) -> bool) -> u64 {
    let mut pages = 0;
    process.each_mapping(&mut |area| {
        if wanted(area) {
            pages += area.range.len();
        }
    });
    pages
}

fn statm(text: &mut Text, process: &Process) -> core::fmt::Result {
    let (mapped, counts) = process.page_counts();
    let code = labelled(process, |area| area.label == Label::Image && area.rights.execute.is_allowed());
    let data = labelled(process, |area| area.rights.write.is_allowed());
    writeln!(text, "{mapped} {} 0 {code} 0 {data} 0", counts.resident())
}

fn status(text: &mut Text, process: &Process) -> core::fmt::Result {
    let (mapped, counts) = process.page_counts();
    let name = process.executable.rsplit(|b| *b == b'/').next().unwrap_or_default();
    let pid = process.pid.number();
    let kib = |pages: u64| pages * KIB_PER_PAGE;
    writeln!(text, "Name:\t{}", String::from_utf8_lossy(&name[..name.len().min(15)]))?;
    writeln!(text, "State:\tR (running)")?;
    writeln!(text, "Tgid:\t{pid}\nPid:\t{pid}\nPPid:\t0")?;
    writeln!(text, "Uid:\t0\t0\t0\t0\nGid:\t0\t0\t0\t0")?;
    writeln!(text, "VmSize:\t{:>8} kB", kib(mapped))?;
    writeln!(text, "VmRSS:\t{:>8} kB", kib(counts.resident()))?;
    writeln!(text, "RssAnon:\t{:>8} kB", kib(counts.resident()))?;
    writeln!(text, "VmStk:\t{:>8} kB", kib(labelled(process, |area| area.label == Label::Stack)))?;
    writeln!(text, "VmSwap:\t{:>8} kB", kib(counts.away()))?;
    writeln!(text, "Threads:\t{}", process.thread_count())
}

/// `st_dev` of everything under `/proc`.
const DEVICE: u64 = 5;

/// A place under `/proc`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Node {
    /// `/proc`
    Root,
    /// `/proc/self`
    OfProcess,
    /// `/proc/self/exe`: a symbolic link to the program.
    Executable,
    /// A file.
    Text(File),
}

impl Node {
    /// Names of one directory, in order.
    const SYSTEM: [(&'static [u8], Self); 5] = [
        (b"meminfo", Self::Text(File::MemInfo)),
        (b"vmstat", Self::Text(File::VmStat)),
        (b"slabinfo", Self::Text(File::SlabInfo)),
        (b"buddyinfo", Self::Text(File::BuddyInfo)),
        (b"self", Self::OfProcess),
    ];
    const OF_PROCESS: [(&'static [u8], Self); 4] = [
        (b"maps", Self::Text(File::Maps)),
        (b"statm", Self::Text(File::StatM)),
        (b"status", Self::Text(File::Status)),
        (b"exe", Self::Executable),
    ];

    fn children(self) -> &'static [(&'static [u8], Self)] {
        match self {
            Self::Root => &Self::SYSTEM,
            Self::OfProcess => &Self::OF_PROCESS,
            Self::Executable | Self::Text(_) => &[],
        }
    }

    fn inode(self) -> u64 {
        match self {
            Self::Root => 1,
            Self::OfProcess => 2,
            Self::Executable => 3,
            Self::Text(file) => 4 + file as u64,
        }
    }

    fn kind(self) -> FileType {
        match self {
            Self::Root | Self::OfProcess => FileType::Directory,
            Self::Executable => FileType::Symlink,
            Self::Text(_) => FileType::Regular,
        }
    }
}

impl Synthetic for Node {
    const ROOT: Self = Self::Root;

    fn child(self, name: &[u8], who: &Process) -> Result<Self, Errno> {
        if self.kind() != FileType::Directory {
            return Err(Errno::ENOTDIR);
        }
        let number = core::str::from_utf8(name).ok().and_then(|name| name.parse().ok());
        if self == Self::Root && number == Some(who.pid.number()) {
            return Ok(Self::OfProcess);
        }
        let found = self.children().iter().find(|(known, _)| *known == name);
        found.map(|(_, node)| *node).ok_or(Errno::ENOENT)
    }

    fn parent(self) -> Option<Self> {
        match self {
            Self::Root => None,
            Self::Executable | Self::Text(File::Maps | File::StatM | File::Status) => Some(Self::OfProcess),
            Self::OfProcess | Self::Text(_) => Some(Self::Root),
        }
    }

    fn attributes(self, _: &Process) -> Result<Attributes, Errno> {
        let permissions = match self.kind() {
            FileType::Directory => 0o555,
            FileType::Symlink => 0o777,
            _ => 0o444,
        };
        Ok(Attributes::made_up(self.kind(), permissions, DEVICE, self.inode()))
    }

    fn link(self, who: &Process) -> Option<Vec<u8>> {
        (self == Self::Executable).then(|| who.executable.to_vec())
    }

    fn entries(self, _: &Process, from: u64, emit: &mut dyn FnMut(DirEntry<'_>) -> ControlFlow<()>) {
        for (next, (name, node)) in (1..).zip(self.children()).skip(from as usize) {
            if emit(DirEntry { inode: node.inode(), kind: node.kind(), name, next }).is_break() {
                return;
            }
        }
    }

    async fn open(self, access: Access, who: &Process) -> Result<Kind, Errno> {
        match self {
            Self::Text(file) if !access.write => {
                memory::wait_for_room().await.map_err(|_| Errno::ENOMEM)?;
                memory::settle_counts().await;
                Ok(Kind::Snapshot { contents: file.render(who)? })
            }
            _ => Err(Errno::EACCES),
        }
    }
}
