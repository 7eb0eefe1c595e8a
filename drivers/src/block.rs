//! What a block request is: kinds, addresses, who owns the memory, how it ends.
//!
//! Owns the vocabulary shared by the disk driver and its users. Does not own a queue or a device; see
//! [`crate::virtio_blk`].
#![expect(unsafe_code, reason = "declares the unsafe trait by which a request names the memory it owns")]

use crate::hal::PhysRange;
use core::fmt;
use thiserror::Error;

/// Bytes per sector; the protocol counts in these whatever the disk's own block size is (VirtIO 1.2 §5.2.4).
pub const SECTOR_SIZE: u64 = 512;

/// Position on the disk, in units of [`SECTOR_SIZE`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sector(pub u64);

/// Length on the disk, in units of [`SECTOR_SIZE`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SectorCount(pub u32);

impl SectorCount {
    /// Length in bytes.
    pub const fn bytes(self) -> u64 {
        self.0 as u64 * SECTOR_SIZE
    }
}

/// The submitter's own mark on a request; the driver only carries it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Cookie(pub u64);

/// Memory that a request owns while the device may touch it.
///
/// # Safety
///
/// The device reads or writes the named runs at any time between submission and completion. Therefore, until the value is
/// dropped or taken back:
/// - every run is RAM that the value owns (nobody frees or reuses it, and no Rust code reads what the device writes or
///   writes what it reads); user mappings of it do not matter, because Rust code never goes through them,
/// - the runs stay where they are when the value is moved; while a request is built, `segments` names the same ones each
///   time it is called,
/// - dropping the value, and nothing before that, gives the memory up.
pub unsafe trait Buffers: Send {
    /// The runs in the order in which the disk's bytes fill them; their lengths add up to the request's length for
    /// reads and writes. Ignored for the other kinds.
    fn segments(&self) -> impl Iterator<Item = PhysRange>;
}

/// What a request asks of the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Disk to memory.
    Read,
    /// Memory to disk.
    Write,
    /// Everything completed before is to be durable.
    Flush,
    /// The contents of these sectors are no longer wanted.
    Discard,
    /// These sectors are to read as zeroes.
    WriteZeroes,
}

impl Kind {
    /// Every kind, in the order of [`Kind::index`].
    pub const ALL: [Kind; 5] = [Kind::Read, Kind::Write, Kind::Flush, Kind::Discard, Kind::WriteZeroes];

    /// A small number for tables.
    pub const fn index(self) -> usize {
        self as usize
    }

    /// Whether the request carries the caller's memory.
    pub const fn moves_data(self) -> bool {
        matches!(self, Kind::Read | Kind::Write)
    }

    /// Whether the request changes what the disk holds.
    pub const fn modifies(self) -> bool {
        matches!(self, Kind::Write | Kind::Discard | Kind::WriteZeroes)
    }
}

/// One request. It owns its buffers: they move in here, stay in the driver while the device works, and come back in the
/// [`Completion`] (or in [`Refused`]).
#[derive(Debug)]
pub struct Request<B> {
    /// The submitter's mark.
    pub cookie: Cookie,
    /// What to do.
    pub kind: Kind,
    /// Where; 0 for a flush.
    pub sector: Sector,
    /// How much; 0 for a flush.
    pub sectors: SectorCount,
    /// The memory, for reads and writes.
    pub buffers: B,
}

/// A request the device is done with, and how it went.
#[derive(Debug)]
#[must_use]
pub struct Completion<B> {
    /// The request, its buffers included.
    pub request: Request<B>,
    /// Whether the disk did it.
    pub result: Result<(), BlockError>,
}

/// Why a request that reached the device did not succeed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum BlockError {
    /// The device reports an I/O error (VIRTIO_BLK_S_IOERR).
    #[error("the disk reports an I/O error")]
    Io,
    /// The device does not do this kind of request (VIRTIO_BLK_S_UNSUPP).
    #[error("the disk does not support this request")]
    Unsupported,
    /// A status the specification does not know.
    #[error("the disk answered with the unknown status {0}")]
    UnknownStatus(u8),
    /// Success was reported for fewer bytes than were asked for.
    #[error("the disk wrote {got} bytes of {wanted}")]
    Short {
        /// Bytes the device says it wrote, its status byte included.
        got: u32,
        /// Bytes it had to write.
        wanted: u32,
    },
    /// The device broke the ring protocol and was reset with this request in flight; whether it was done is not known.
    #[error("the disk failed with this request in flight")]
    DeviceFailed,
}

/// A request that did not reach the device. Nothing has been touched; the request comes back whole.
#[must_use]
pub enum Refused<B> {
    /// No slot or too few descriptors are free: try again after the next completion.
    Full(Request<B>),
    /// The request can never succeed on this disk.
    Invalid(Request<B>, Invalid),
    /// The device has failed and takes no more requests.
    Failed(Request<B>),
}

impl<B> Refused<B> {
    /// Takes the request back.
    pub fn into_request(self) -> Request<B> {
        match self {
            Refused::Full(request) | Refused::Invalid(request, _) | Refused::Failed(request) => request,
        }
    }
}

impl<B> fmt::Debug for Refused<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refused::Full(_) => f.write_str("Full"),
            Refused::Invalid(_, why) => write!(f, "Invalid({why:?})"),
            Refused::Failed(_) => f.write_str("Failed"),
        }
    }
}

/// What is wrong with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Invalid {
    /// It reaches past the end of the disk.
    #[error("the request reaches past the end of the disk")]
    PastEnd,
    /// It changes a read-only disk.
    #[error("the disk is read-only")]
    ReadOnly,
    /// The device does not offer this kind.
    #[error("the disk does not offer this kind of request")]
    NotOffered,
    /// No sectors.
    #[error("the request is empty")]
    Empty,
    /// The buffers' length is not the request's, or a buffer is empty.
    #[error("the buffers do not add up to the request's length")]
    WrongLength,
    /// More separate runs of memory than one request can carry.
    #[error("the request has too many separate buffers")]
    TooManySegments,
    /// More sectors than the device takes in one discard or write-zeroes.
    #[error("the request has more sectors than the disk takes at once")]
    TooLong,
}
