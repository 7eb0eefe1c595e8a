//! Files that are computed where they are read, because as a whole they may be larger than memory.
//!
//! Owns how a read finds its place: in files of records by arithmetic, in texts by going on where the last read ended, or
//! from the beginning for one that goes elsewhere (as Linux' `seq_file` does). What is read is as it was at that moment;
//! two reads may see two moments.

use alloc::vec::Vec;

use mm::addr::Vpn;

use super::node::{Number, find};
use super::{Text, frames, maps, pagemap, smaps};
use crate::sync::Mutex;
use crate::syscall::errno::Errno;

/// An open file of this kind.
pub enum Computed {
    /// `pagemap`
    PageMap(Number),
    /// `/proc/ebb_frames`
    Frames,
    /// `maps`, `smaps`
    Areas(Areas),
}

impl Computed {
    /// Its bytes from `from` on, `most` of them at most; none at its end.
    pub async fn read(&self, from: u64, most: usize) -> Result<Vec<u8>, Errno> {
        match self {
            Self::PageMap(number) => pagemap::read(&*find(*number)?, from, most).await,
            Self::Frames => frames::read(from, most).await,
            Self::Areas(areas) => areas.read(from, most).await,
        }
    }
}

/// What is said about each area.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum About {
    /// `maps`: a line.
    Mapping,
    /// `smaps`: what its pages are, too.
    Pages,
}

/// A text that goes from area to area.
pub struct Areas {
    process: Number,
    about: About,
    /// Where the last read ended; none while one is under way, and another then begins from the beginning.
    place: Mutex<Option<Place>>,
}

#[derive(Debug, Default)]
struct Place {
    /// The text of one area, and where in the whole it begins.
    text: Vec<u8>,
    begins: u64,
    /// The area after it is the first that ends behind this page.
    next: Option<Vpn>,
}

impl Place {
    fn end(&self) -> u64 {
        self.begins + self.text.len() as u64
    }
}

impl Areas {
    pub(super) fn new(process: Number, about: About) -> Self {
        Self { process, about, place: Mutex::new(None) }
    }

    async fn read(&self, from: u64, most: usize) -> Result<Vec<u8>, Errno> {
        let last = self.place.lock().take();
        let mut place = last.filter(|place| place.begins <= from).unwrap_or_default();
        while place.end() <= from {
            if !self.go_on(&mut place).await? {
                return Ok(Vec::new());
            }
        }
        let rest = &place.text[(from - place.begins) as usize..];
        let read = rest[..rest.len().min(most)].to_vec();
        *self.place.lock() = Some(place);
        Ok(read)
    }

    /// The text of the next area; false if there is none.
    async fn go_on(&self, place: &mut Place) -> Result<bool, Errno> {
        let process = find(self.process)?;
        let Some(area) = process.area_from(place.next.unwrap_or(Vpn::new(0))) else { return Ok(false) };
        let mut text = Text(Vec::new());
        let written = match self.about {
            About::Mapping => maps::write_line(&mut text, &area, &process.executable()),
            About::Pages => smaps::write_area(&mut text, &process, &area).await,
        };
        written.map_err(|_| Errno::ENOMEM)?;
        *place = Place { begins: place.end(), text: text.0, next: Some(area.range.end) };
        Ok(true)
    }
}
