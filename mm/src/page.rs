//! The state of a page, and its 8-byte record in an address space's index.
//!
//! Owns the diagram and the packing. Does not act: transitions are carried out by [`crate::fault`] (upwards), [`crate::reclaim`]
//! (downwards) and [`crate::pager`] (when an operation ends), each at the numbered place.
//!
//! ```text
//!             1 first write: zeroed frame                     5 written (D bit, or a write fault)
//!   Absent ────────────────────────────► Dirty ◄────────────────────────────── Clean{copy}
//!     │ 2 first read                       │ ▲                                    ▲  │
//!     ▼          3 first write             │ │ 8 written meanwhile,               │  │ 10 evicted: leaves for free
//!   Clean{Fill(0)} ──────────► Dirty       │ │   or the write failed              │  ▼
//!   on the shared zero frame               │ └──────────── Cleaning ──────────────┘ Away(copy)
//!                                          │ 6 victim          ▲ 7 touched  9 done  ▲   │
//!                                          └────► Evicting ────┘                    │   │ 11 touched
//!                                                    └──────── 12 done ─────────────┘   ▼
//!                            Failed ◄── 14 unreadable, or not what was written ──── Filling ── 13 done ──► Clean{copy}
//! ```
//! A page whose words are all the same leaves as `Away(Fill(word))` without I/O, at 6; one that is compressed leaves as `Away(Tier)` at 6
//! or 10, is back at 11 without I/O, and turns into `Away(Slot)` when it is written to the device ([`crate::tier`]). Numbers are cited where the step is made.

use crate::addr::Pfn;
use crate::anon::AnonId;
use crate::ops::OpId;
use crate::platform::Slot;
use crate::tier::EntryId;

/// Hash of a page's contents, kept with its record: what a slot must read back as.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tag(u32);

/// Contents of a page that are somewhere other than in a frame of its own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PageCopy {
    /// In a slot of the swap device, where they hash to the tag.
    Slot(Slot, Tag),
    /// The same 32-bit word throughout.
    Fill(u32),
    /// In the compressed tier, from which it comes back with this hash. Only pages that are away have such a copy.
    Tier(EntryId, Tag),
    /// In the page's file. Never a record: a page of a file that is not in RAM has none.
    File,
}

/// What the index knows of a page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Record {
    /// Never touched.
    Absent,
    /// Read but never written: the shared frame of zeroes.
    Zero,
    /// In a frame; the frame's descriptor says the rest.
    Resident(Pfn),
    /// Being read in by an operation.
    Filling(OpId),
    /// Not in RAM.
    Away(PageCopy),
    /// Lost: its slot could not be read, or held something else.
    Failed,
    /// Not this space's alone: its record stands with those of shared pages.
    Shared(AnonId),
}

/// The state of a page as the outside sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PageState {
    /// Never referenced: no storage of any kind is set aside.
    Uncommitted,
    /// In RAM and equal to its copy (the shared zero frame counts).
    CommittedClean,
    /// In RAM only.
    CommittedDirty,
    /// Contents are on the store, or a fill pattern.
    PagedOut,
}

// Packed records. The low 3 bits are the kind; 0 as a whole is Absent, so fresh memory is a valid index.
const KIND_BITS: u32 = 3;
const ABSENT: u64 = 0;
const ZERO: u64 = 1;
const RESIDENT: u64 = 2;
const FILLING: u64 = 3;
const SLOT: u64 = 4;
const FILL: u64 = 5;
const FAILED: u64 = 6;
/// The same number, and the highest bit of those that a slot would have; below that the entry's.
const TIER: u64 = FAILED | (EntryId::LIMIT as u64) << KIND_BITS;
const SHARED: u64 = 7;
/// The same number as a copy: records never have this one.
const FILE: u64 = SHARED;
const SLOT_BITS: u32 = 29;

const _: () = assert!(Slot::LIMIT == 1 << SLOT_BITS && KIND_BITS + SLOT_BITS + 32 <= 64);
const _: () = assert!(EntryId::LIMIT < 1 << SLOT_BITS);

/// A [`Record`] in 8 bytes.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct PackedRecord(u64);

impl Tag {
    /// A tag from its low 32 bits.
    pub const fn new(raw: u32) -> Self {
        Self(raw)
    }
}

impl PageCopy {
    #[inline]
    pub(crate) fn pack(self) -> u64 {
        match self {
            PageCopy::Slot(slot, tag) => {
                u64::from(tag.0) << (KIND_BITS + SLOT_BITS) | u64::from(slot.as_u32()) << KIND_BITS | SLOT
            }
            PageCopy::Fill(word) => u64::from(word) << KIND_BITS | FILL,
            PageCopy::Tier(id, tag) => {
                u64::from(tag.0) << (KIND_BITS + SLOT_BITS) | u64::from(id.as_u32()) << KIND_BITS | TIER
            }
            PageCopy::File => FILE,
        }
    }
    #[inline]
    pub(crate) fn unpack(raw: u64) -> Option<Self> {
        match raw & 7 {
            SLOT => {
                let slot = Slot::new((raw >> KIND_BITS) as u32 & (Slot::LIMIT - 1));
                Some(PageCopy::Slot(slot, Tag((raw >> (KIND_BITS + SLOT_BITS)) as u32)))
            }
            FILL => Some(PageCopy::Fill((raw >> KIND_BITS) as u32)),
            FAILED if raw != FAILED => {
                let id = EntryId::new((raw >> KIND_BITS) as u32 & (EntryId::LIMIT - 1));
                Some(PageCopy::Tier(id, Tag((raw >> (KIND_BITS + SLOT_BITS)) as u32)))
            }
            FILE => Some(PageCopy::File),
            _ => None,
        }
    }
    /// The slot, if the copy has one.
    pub fn slot(self) -> Option<Slot> {
        match self {
            PageCopy::Slot(slot, _) => Some(slot),
            PageCopy::Fill(_) | PageCopy::Tier(..) | PageCopy::File => None,
        }
    }
}

impl PackedRecord {
    /// The packed form of [`Record::Absent`].
    pub const ABSENT: Self = Self(ABSENT);

    /// Whether it is [`Record::Absent`].
    pub fn is_absent(self) -> bool {
        self.0 == ABSENT
    }
}

impl From<Record> for PackedRecord {
    #[inline(always)]
    fn from(record: Record) -> Self {
        Self(match record {
            Record::Absent => ABSENT,
            Record::Zero => ZERO,
            Record::Resident(frame) => u64::from(frame.as_u32()) << KIND_BITS | RESIDENT,
            Record::Filling(op) => u64::from(op.as_u16()) << KIND_BITS | FILLING,
            Record::Away(copy) => copy.pack(),
            Record::Failed => FAILED,
            Record::Shared(anon) => u64::from(anon.as_u32()) << KIND_BITS | SHARED,
        })
    }
}

impl From<PackedRecord> for Record {
    #[inline(always)]
    fn from(packed: PackedRecord) -> Self {
        match packed.0 & 7 {
            ABSENT => Record::Absent,
            ZERO => Record::Zero,
            RESIDENT => Record::Resident(Pfn::new((packed.0 >> KIND_BITS) as u32)),
            FILLING => Record::Filling(OpId::new((packed.0 >> KIND_BITS) as u16)),
            SHARED => Record::Shared(AnonId::new((packed.0 >> KIND_BITS) as u32)),
            _ => PageCopy::unpack(packed.0).map_or(Record::Failed, Record::Away),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_record_survives_packing() {
        for record in [
            Record::Absent,
            Record::Zero,
            Record::Resident(Pfn::new(u32::MAX)),
            Record::Filling(OpId::new(u16::MAX)),
            Record::Away(PageCopy::Slot(Slot::new(Slot::LIMIT - 1), Tag::new(u32::MAX))),
            Record::Away(PageCopy::Slot(Slot::new(1), Tag::new(0))),
            Record::Away(PageCopy::Fill(u32::MAX)),
            Record::Away(PageCopy::Tier(EntryId::new(0), Tag::new(0))),
            Record::Away(PageCopy::Tier(EntryId::new(EntryId::LIMIT - 1), Tag::new(u32::MAX))),
            Record::Failed,
            Record::Shared(AnonId::new(u32::MAX)),
        ] {
            assert_eq!(Record::from(PackedRecord::from(record)), record);
        }
    }
}
