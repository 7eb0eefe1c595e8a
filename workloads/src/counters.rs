//! The kernel's own counters, by their Linux names.
//!
//! Reading allocates nothing and touches one page of stack, so that looking does not disturb what is looked at. A kernel
//! without these files is fine: then there is nothing to report.

use std::fs::File;
use std::io::{self, Read};

/// Longest line that is looked at; longer ones are skipped.
const BUFFER: usize = 2048;

/// Calls `each` with the name and the value of every `name value` line of `/proc/vmstat`.
pub fn for_each_vmstat(each: impl FnMut(&str, u64)) -> io::Result<()> {
    for_each_line(&mut File::open("/proc/vmstat")?, each)
}

/// One `/proc/vmstat` value.
pub fn vmstat(name: &str) -> Option<u64> {
    let mut value = None;
    for_each_vmstat(|found, number| {
        if found == name {
            value = Some(number);
        }
    })
    .ok()?;
    value
}

/// Resident pages of this process, from `/proc/self/statm`.
pub fn resident_pages() -> Option<u64> {
    let mut buffer = [0; 128];
    let length = File::open("/proc/self/statm").ok()?.read(&mut buffer).ok()?;
    str::from_utf8(&buffer[..length]).ok()?.split_ascii_whitespace().nth(1)?.parse().ok()
}

fn for_each_line(input: &mut impl Read, mut each: impl FnMut(&str, u64)) -> io::Result<()> {
    let mut buffer = [0; BUFFER];
    let mut filled = 0;
    loop {
        let read = input.read(&mut buffer[filled..])?;
        filled += read;
        let complete = match buffer[..filled].iter().rposition(|&byte| byte == b'\n') {
            Some(newline) => newline + 1,
            // The last line need not end with a newline; a line longer than the buffer is dropped.
            None if read == 0 || filled == BUFFER => filled,
            None => continue,
        };
        for line in buffer[..complete].split(|&byte| byte == b'\n') {
            let mut fields = str::from_utf8(line).unwrap_or_default().split_ascii_whitespace();
            if let (Some(name), Some(Ok(value))) = (fields.next(), fields.next().map(str::parse)) {
                each(name, value);
            }
        }
        buffer.copy_within(complete..filled, 0);
        filled -= complete;
        if read == 0 && filled == 0 {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Hands out a few bytes at a time, as a pipe may.
    struct Dribble<'a>(&'a [u8], usize);

    impl Read for Dribble<'_> {
        fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
            let length = self.1.min(out.len()).min(self.0.len());
            out[..length].copy_from_slice(&self.0[..length]);
            self.0 = &self.0[length..];
            Ok(length)
        }
    }

    #[test]
    fn lines_are_found_however_the_reads_cut_them() {
        let text = b"pgfault 12\nbad\npswpin 18446744073709551615\nnr x\nlast 7";
        for step in 1..text.len() + 1 {
            let mut found = Vec::new();
            for_each_line(&mut Dribble(text, step), |name, value| found.push((name.to_owned(), value))).expect("reads");
            let expected = [("pgfault", 12), ("pswpin", u64::MAX), ("last", 7)];
            assert_eq!(found, expected.map(|(name, value)| (name.to_owned(), value)), "step {step}");
        }
    }

    #[test]
    fn a_long_text_and_an_overlong_line_are_survived() {
        let mut text: String = (0..1000).map(|n| format!("counter_{n} {n}\n")).collect();
        text.push_str(&"x".repeat(3 * BUFFER));
        text.push_str("\nend 1\n");
        let (mut lines, mut end) = (0, 0);
        for_each_line(&mut text.as_bytes(), |name, value| {
            lines += usize::from(name.starts_with("counter_"));
            end += u64::from(name == "end") * value;
        })
        .expect("reads");
        assert_eq!((lines, end), (1000, 1));
    }
}
