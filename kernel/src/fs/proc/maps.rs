//! `/proc/PID/maps` (proc_pid_maps(5)): a line for each area, in order of address (P8).

use alloc::string::String;
use core::fmt::{self, Write};

use mm::object::Backing;
use mm::platform::Permission;
use mm::space::{Label, Vma};

use super::Text;
use crate::fs::attributes::DATA_DEVICE;
use crate::process::memory;
use crate::process::process::Process;

/// The column where names begin.
pub(super) const NAME_COLUMN: usize = 73;

/// The line of one area, which is also the first of each area in `smaps`.
pub(super) fn write_line(text: &mut Text, area: &Vma, executable: &[u8]) -> fmt::Result {
    let (start, end) = (area.range.start.addr().as_u64(), area.range.end.addr().as_u64());
    let flag = |allowed: Permission, letter| if allowed.is_allowed() { letter } else { '-' };
    let (mut whose, mut offset, mut inode) = ('p', 0, 0);
    if let Backing::Object { object, first, sharing } = area.backing {
        whose = if sharing.is_private() { 'p' } else { 's' };
        offset = first.offset();
        inode = memory::file_of(object).unwrap_or(0);
    }
    let device = if inode == 0 { 0 } else { DATA_DEVICE };
    let begun = text.0.len();
    write!(
        text,
        "{start:08x}-{end:08x} {}{}{}{whose} {offset:08x} {:02x}:{:02x} {inode} ",
        flag(area.rights.access, 'r'),
        flag(area.rights.write, 'w'),
        flag(area.rights.execute, 'x'),
        device >> 8,
        device & 0xff,
    )?;
    let padding = NAME_COLUMN.saturating_sub(text.0.len() - begun);
    match area.label {
        Label::Anonymous | Label::Block => {}
        Label::Image => write!(text, "{:padding$}{}", "", String::from_utf8_lossy(executable))?,
        Label::Heap => write!(text, "{:padding$}[heap]", "")?,
        Label::Stack => write!(text, "{:padding$}[stack]", "")?,
    }
    writeln!(text)
}

/// Pages of the areas that are so.
pub(super) fn pages(process: &Process, wanted: impl Fn(&Vma) -> bool) -> u64 {
    let mut pages = 0;
    process.each_mapping(&mut |area| {
        if wanted(area) {
            pages += area.range.len();
        }
    });
    pages
}
