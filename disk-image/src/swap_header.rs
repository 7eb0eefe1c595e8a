//! The header in page 0 of a Linux swap area, as `mkswap` writes it.
//!
//! Owns: the layout, what makes a header acceptable, and the sentence for each reason why one is not.
//! Does not own: reading the page from anywhere, or what the slots hold.
//!
//! Layout (Linux `include/linux/swap.h`, `union swap_header`; all words little-endian here):
//! `1024` version, `1028` last page, `1032` number of bad pages, `1036` UUID, `1052` label,
//! `4086` the signature `SWAPSPACE2`. The first 1024 bytes belong to boot loaders and are not touched.
//! Slot 0 is the header itself, so the usable slots are `1..=last_page`.

use core::fmt;

use thiserror::Error;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned, little_endian::U32};

/// Bytes in a page, which is also a swap slot.
pub const PAGE_BYTES: usize = 4096;

const VERSION: u32 = 1;
const SIGNATURE: [u8; 10] = *b"SWAPSPACE2";
/// Version 0 of the format, gone from Linux since 2.5: a bitmap of usable pages instead of a header.
const OLD_SIGNATURE: [u8; 10] = *b"SWAP-SPACE";
/// What a suspended system leaves in place of the signature: Linux, uswsusp and TuxOnIce. Such an
/// image holds somebody's memory, so it must be refused by name and never be taken for garbage.
const HIBERNATION_SIGNATURES: [&[u8]; 4] = [b"S1SUSPEND", b"S2SUSPEND", b"ULSUSPEND", b"LINHIB0001"];

/// A number of whole pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pages(pub u64);

impl Pages {
    /// The whole pages in `bytes`; a remainder is not counted.
    #[must_use]
    pub const fn in_bytes(bytes: u64) -> Self {
        Self(bytes / PAGE_BYTES as u64)
    }

    /// The bytes these pages take.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        self.0 * PAGE_BYTES as u64
    }
}

impl fmt::Display for Pages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} pages", self.0)
    }
}

/// The identity of a swap area, for people and for `blkid`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Uuid(pub [u8; 16]);

impl Uuid {
    /// Marks random bytes as a version 4 UUID (RFC 9562 §5.4).
    #[must_use]
    pub const fn from_random(mut bytes: [u8; 16]) -> Self {
        bytes[6] = bytes[6] & 0x0f | 0x40;
        bytes[8] = bytes[8] & 0x3f | 0x80;
        Self(bytes)
    }
}

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, byte) in self.0.iter().enumerate() {
            if matches!(index, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

/// The volume name, padded with zeroes; bytes of no known encoding.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Label(pub [u8; 16]);

impl Label {
    /// A label of at most 16 bytes; the rest of a longer one is dropped.
    #[must_use]
    pub const fn new(text: &str) -> Self {
        let mut bytes = [0; 16];
        let mut index = 0;
        while index < 16 && index < text.len() {
            bytes[index] = text.as_bytes()[index];
            index += 1;
        }
        Self(bytes)
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for byte in self.0.iter().take_while(|byte| **byte != 0) {
            write!(f, "{}", byte.escape_ascii())?;
        }
        Ok(())
    }
}

/// A swap area as its header describes it: checked, and small enough for its device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SwapHeader {
    last_page: u32,
    uuid: Uuid,
    label: Label,
}

/// Why a swap header is not one that this project can use. Each reads as one sentence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum HeaderError {
    /// Neither signature of the format is there.
    #[error("it has no swap signature: it was not made by mkswap with 4096-byte pages")]
    NoSignature,
    /// The signature of format version 0.
    #[error("it has the swap format of before Linux 2.6 (SWAP-SPACE): make it anew with mkswap")]
    OldFormat,
    /// Somebody's suspended system is in it.
    #[error("it holds a hibernated system's memory, which using it would destroy")]
    Hibernated,
    /// The words are byte-swapped.
    #[error("it was made on a machine of the other byte order: make it anew with mkswap")]
    ForeignEndian,
    /// A version other than 1.
    #[error("its header has version {version}, and only version 1 is known")]
    WrongVersion {
        /// What the header says.
        version: u32,
    },
    /// Bad blocks are recorded in the header.
    #[error("its header lists {count} bad pages, which is not supported: use a sound disk or file")]
    BadPages {
        /// What the header says.
        count: u32,
    },
    /// There is no slot beside the header.
    #[error("it has room for its header only: {pages} is too small")]
    TooSmall {
        /// Header included.
        pages: Pages,
    },
    /// The area does not fit on its device: a truncated file, or a header copied from elsewhere.
    #[error("its header says {header} but there are only {device}: it was truncated or copied from a larger one")]
    LargerThanDevice {
        /// Pages by the header, itself included.
        header: Pages,
        /// Pages there are.
        device: Pages,
    },
    /// More pages than the header's 32-bit field can count (building only).
    #[error("{pages} are more than a swap header can describe (2^32)")]
    TooLarge {
        /// What was asked for.
        pages: Pages,
    },
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Raw {
    boot: [u8; 1024],
    version: U32,
    last_page: U32,
    bad_pages: U32,
    uuid: [u8; 16],
    label: [u8; 16],
    /// 117 words of padding, then the bad-page list, which must be empty.
    rest: [u8; 3018],
    signature: [u8; 10],
}

const _: () = assert!(size_of::<Raw>() == PAGE_BYTES);
const _: () = assert!(core::mem::offset_of!(Raw, signature) == 4086);

impl SwapHeader {
    /// A header for an area of `pages` in all, its own page included.
    ///
    /// # Errors
    /// [`HeaderError::TooSmall`] without a slot beside the header, [`HeaderError::TooLarge`] beyond
    /// what the field can say.
    pub fn new(pages: Pages, uuid: Uuid, label: Label) -> Result<Self, HeaderError> {
        if pages.0 < 2 {
            return Err(HeaderError::TooSmall { pages });
        }
        let last_page = u32::try_from(pages.0 - 1).map_err(|_| HeaderError::TooLarge { pages })?;
        Ok(Self { last_page, uuid, label })
    }

    /// Checks the first page of a device that has `device` pages.
    ///
    /// # Errors
    /// The first reason found why the area must not be used, the most telling one first.
    pub fn parse(page: &[u8; PAGE_BYTES], device: Pages) -> Result<Self, HeaderError> {
        let raw: &Raw = zerocopy::transmute_ref!(page);
        check_signature(&raw.signature)?;
        let version = raw.version.get();
        if version == VERSION.swap_bytes() {
            return Err(HeaderError::ForeignEndian);
        }
        if version != VERSION {
            return Err(HeaderError::WrongVersion { version });
        }
        let count = raw.bad_pages.get();
        if count != 0 {
            return Err(HeaderError::BadPages { count });
        }
        let pages = Pages(u64::from(raw.last_page.get()) + 1);
        if pages > device {
            return Err(HeaderError::LargerThanDevice { header: pages, device });
        }
        Self::new(pages, Uuid(raw.uuid), Label(raw.label))
    }

    /// Writes the header over `page`, boot sector excepted.
    pub fn write(&self, page: &mut [u8; PAGE_BYTES]) {
        let raw: &mut Raw = zerocopy::transmute_mut!(page);
        raw.version = U32::new(VERSION);
        raw.last_page = U32::new(self.last_page);
        raw.bad_pages = U32::new(0);
        raw.uuid = self.uuid.0;
        raw.label = self.label.0;
        raw.rest.fill(0);
        raw.signature = SIGNATURE;
    }

    /// All pages of the area, the header's included.
    #[must_use]
    pub fn pages(&self) -> Pages {
        Pages(u64::from(self.last_page) + 1)
    }

    /// The last usable slot; the first is 1.
    #[must_use]
    pub fn last_page(&self) -> u32 {
        self.last_page
    }

    /// The area's identity.
    #[must_use]
    pub fn uuid(&self) -> Uuid {
        self.uuid
    }

    /// The area's name.
    #[must_use]
    pub fn label(&self) -> Label {
        self.label
    }
}

fn check_signature(signature: &[u8; 10]) -> Result<(), HeaderError> {
    if *signature == SIGNATURE {
        Ok(())
    } else if *signature == OLD_SIGNATURE {
        Err(HeaderError::OldFormat)
    } else if HIBERNATION_SIGNATURES.iter().any(|known| signature.starts_with(known)) {
        Err(HeaderError::Hibernated)
    } else {
        Err(HeaderError::NoSignature)
    }
}

#[cfg(test)]
mod tests;
