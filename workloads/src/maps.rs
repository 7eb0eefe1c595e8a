//! `/proc/self/maps`, as far as the mapping contract needs it.

use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;

/// One line: a range with its rights.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Area {
    /// Addresses.
    pub range: Range<usize>,
    /// As printed: `rw-p` and the like.
    pub rights: String,
}

/// The mapped areas that overlap `range`, clipped to it.
pub fn areas(range: Range<usize>) -> io::Result<Vec<Area>> {
    let mut text = String::new();
    File::open("/proc/self/maps")?.read_to_string(&mut text)?;
    Ok(overlapping(&text, &range))
}

fn overlapping(text: &str, range: &Range<usize>) -> Vec<Area> {
    text.lines()
        .filter_map(parse)
        .map(|area| Area { range: area.range.start.max(range.start)..area.range.end.min(range.end), ..area })
        .filter(|area| !area.range.is_empty())
        .collect()
}

fn parse(line: &str) -> Option<Area> {
    let mut fields = line.split_ascii_whitespace();
    let (start, end) = fields.next()?.split_once('-')?;
    let address = |text| usize::from_str_radix(text, 16).ok();
    Some(Area { range: address(start)?..address(end)?, rights: fields.next()?.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn areas_are_clipped_and_others_left_out() {
        let text =
            "1000-3000 rw-p 00000000 00:00 0 \n3000-4000 ---p 00000000 00:00 0 [heap]\n5000-6000 r--p 0 0:0 1 /x y\n";
        let found = overlapping(text, &(0x2000..0x5000));
        let expected = [(0x2000..0x3000, "rw-p"), (0x3000..0x4000, "---p")];
        assert_eq!(found, expected.map(|(range, rights)| Area { range, rights: rights.to_owned() }));
    }
}
