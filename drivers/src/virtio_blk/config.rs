//! What a virtio-blk device offers: feature bits and configuration space (VirtIO 1.2 §5.2.3, §5.2.4), read once at
//! start.
//!
//! Owns [`Info`] and the judgement whether a request is possible on this disk at all. Does not touch the ring.

use super::{InitError, MAX_SEGMENTS};
use crate::block::{Invalid, Kind, Sector, SectorCount};
use virtio_drivers::transport::Transport;

bitflags::bitflags! {
    /// The feature bits this driver knows.
    ///
    /// Left out on purpose: indirect descriptors (a table per request) and EVENT_IDX (nothing to gain); see
    /// `docs/decisions/virtio-queue.md`.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(super) struct Features: u64 {
        /// `seg_max` is valid.
        const SEG_MAX = 1 << 2;
        /// The disk is read-only.
        const RO = 1 << 5;
        /// `blk_size` is valid.
        const BLK_SIZE = 1 << 6;
        /// FLUSH requests.
        const FLUSH = 1 << 9;
        /// DISCARD requests.
        const DISCARD = 1 << 13;
        /// WRITE_ZEROES requests.
        const WRITE_ZEROES = 1 << 14;
        /// The device follows VirtIO 1.0 or later.
        const VERSION_1 = 1 << 32;
    }
}

/// Offsets into `struct virtio_blk_config`.
mod offset {
    pub(super) const CAPACITY: usize = 0;
    pub(super) const SEG_MAX: usize = 12;
    pub(super) const BLK_SIZE: usize = 20;
    pub(super) const MAX_DISCARD_SECTORS: usize = 36;
    pub(super) const DISCARD_SECTOR_ALIGNMENT: usize = 44;
    pub(super) const MAX_WRITE_ZEROES_SECTORS: usize = 48;
}

/// Limits of one discard or write-zeroes request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RangeLimits {
    /// The most sectors in one request.
    pub max_sectors: SectorCount,
    /// Ranges aligned to this do the most good; others are allowed.
    pub alignment: SectorCount,
}

/// What this disk is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Info {
    /// The first sector past the end.
    pub end: Sector,
    /// The disk's own block size in bytes (a hint; requests are in sectors of 512).
    pub block_size: u32,
    /// Writes are refused.
    pub read_only: bool,
    /// FLUSH is offered. If not, completed writes are as durable as they will get.
    pub flush: bool,
    /// DISCARD is offered, within these limits.
    pub discard: Option<RangeLimits>,
    /// WRITE_ZEROES is offered, within these limits.
    pub write_zeroes: Option<RangeLimits>,
    /// The most separate runs of memory in one request.
    pub max_segments: usize,
}

impl Info {
    /// Reads configuration space, all fields from one generation.
    pub(super) fn read(transport: &impl Transport, features: Features) -> Result<Self, InitError> {
        let word = |at| transport.read_config_space::<u32>(at);
        let limits = |offered: Features, max_at| -> virtio_drivers::Result<Option<RangeLimits>> {
            if !features.contains(offered) {
                return Ok(None);
            }
            let max_sectors = SectorCount(word(max_at)?);
            let alignment = if offered == Features::DISCARD { word(offset::DISCARD_SECTOR_ALIGNMENT)? } else { 1 };
            Ok((max_sectors.0 > 0).then_some(RangeLimits { max_sectors, alignment: SectorCount(alignment) }))
        };
        let info = transport.read_consistent(|| {
            let end = u64::from(word(offset::CAPACITY)?) | u64::from(word(offset::CAPACITY + 4)?) << 32;
            let seg_max = if features.contains(Features::SEG_MAX) { word(offset::SEG_MAX)? } else { 1 };
            Ok(Info {
                end: Sector(end),
                block_size: if features.contains(Features::BLK_SIZE) { word(offset::BLK_SIZE)? } else { 512 },
                read_only: features.contains(Features::RO),
                flush: features.contains(Features::FLUSH),
                discard: limits(Features::DISCARD, offset::MAX_DISCARD_SECTORS)?,
                write_zeroes: limits(Features::WRITE_ZEROES, offset::MAX_WRITE_ZEROES_SECTORS)?,
                max_segments: (seg_max as usize).clamp(1, MAX_SEGMENTS),
            })
        })?;
        Ok(info)
    }

    /// Whether this disk can do such a request; the buffers are judged where they are gathered.
    pub(super) fn judge(&self, kind: Kind, sector: Sector, sectors: SectorCount) -> Result<(), Invalid> {
        if kind.modifies() && self.read_only {
            return Err(Invalid::ReadOnly);
        }
        let limits = match kind {
            Kind::Flush => {
                return if self.flush { Ok(()) } else { Err(Invalid::NotOffered) };
            }
            Kind::Read | Kind::Write => None,
            Kind::Discard => Some(self.discard.ok_or(Invalid::NotOffered)?),
            Kind::WriteZeroes => Some(self.write_zeroes.ok_or(Invalid::NotOffered)?),
        };
        if sectors.0 == 0 {
            return Err(Invalid::Empty);
        }
        if limits.is_some_and(|limits| sectors > limits.max_sectors) {
            return Err(Invalid::TooLong);
        }
        match sector.0.checked_add(u64::from(sectors.0)) {
            Some(end) if end <= self.end.0 => Ok(()),
            _ => Err(Invalid::PastEnd),
        }
    }
}
