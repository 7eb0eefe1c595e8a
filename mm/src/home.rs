//! Where a page lives: the one place where its record stands.
//!
//! Owns the name ([`Home`]) and its packing in 8 bytes, which is how descriptors and operations say whose page a frame holds. Does not own
//! records: those are in a space's index. A home is not a mapping: which page tables refer to a frame is for [`crate::rmap`] to know.

use crate::addr::Vpn;
use crate::anon::AnonId;
use crate::object::{ObjectId, ObjectPage};
use crate::space::SpaceId;
use core::fmt;

/// A page of an address space: where a mapping is, whatever is mapped there.
pub(crate) type Place = (SpaceId, Vpn);

/// Where a page's record stands.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Home {
    /// In the index of the only space that has the page, under its own number.
    Private(SpaceId, Vpn),
    /// In the table of anonymous pages that several spaces have.
    Anon(AnonId),
    /// In the index of a memory object.
    Object(ObjectId, ObjectPage),
}

impl Home {
    /// Whether only one space has the page.
    #[inline]
    pub fn is_private(self) -> bool {
        matches!(self, Home::Private(..))
    }

    /// Whether a memory object has the page.
    #[inline]
    pub fn is_object(self) -> bool {
        matches!(self, Home::Object(..))
    }

    /// The only place where the page can be mapped, if only one space has it.
    pub fn private(self) -> Option<Place> {
        match self {
            Self::Private(space, page) => Some((space, page)),
            _ => None,
        }
    }
}

impl fmt::Display for Home {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Private(space, page) => write!(f, "page {:?} of {space:?}", page.addr()),
            Self::Anon(anon) => write!(f, "shared page {anon:?}"),
            Self::Object(object, page) => write!(f, "page {} of {object:?}", page.as_u64()),
        }
    }
}

/// Bits of a page number in a user half of 128 TiB (Intel SDM vol. 1 §3.3.7.1: 47 bits of address).
const PAGE_BITS: u32 = 35;

/// The bit of a packed home that says that it is in no space.
const SHARED: u64 = 1 << 63;
/// The bit that tells objects from shared anonymous pages.
const OBJECT: u64 = 1 << 62;

const _: () = assert!(SpaceId::BITS + PAGE_BITS <= 63 && ObjectId::BITS + ObjectPage::BITS <= 62);

/// A [`Place`] in 8 bytes. Zero is none: page zero is never mapped.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct PackedPlace(u64);

impl PackedPlace {
    /// No place.
    pub const NONE: Self = Self(0);

    #[inline]
    pub fn new((space, page): Place) -> Self {
        debug_assert!(page.as_u64() >> PAGE_BITS == 0 && page.as_u64() > 0, "{page:?} is no page of a program");
        Self(u64::from(space.index()) << PAGE_BITS | page.as_u64())
    }

    #[inline]
    pub fn get(self) -> Option<Place> {
        (self != Self::NONE).then(|| unpack(self.0))
    }
}

/// A [`Home`] in 8 bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct PackedHome(u64);

impl PackedHome {
    /// What the descriptor of a frame says that is no page's.
    pub const NONE: Self = Self(0);

    /// As a number, for tables by page.
    pub fn raw(self) -> u64 {
        self.0
    }

    #[inline]
    pub fn get(self) -> Home {
        if self.0 & SHARED != 0 {
            return self.get_shared();
        }
        let (space, page) = unpack(self.0);
        Home::Private(space, page)
    }

    #[cold]
    fn get_shared(self) -> Home {
        if self.0 & OBJECT == 0 {
            return Home::Anon(AnonId::new(self.0 as u32));
        }
        let object = ObjectId::new(((self.0 & !(SHARED | OBJECT)) >> ObjectPage::BITS) as u32);
        Home::Object(object, ObjectPage::new(self.0 & ((1 << ObjectPage::BITS) - 1)))
    }
}

impl From<Home> for PackedHome {
    #[inline]
    fn from(home: Home) -> Self {
        match home {
            Home::Private(space, page) => Self(PackedPlace::new((space, page)).0),
            Home::Anon(anon) => Self(SHARED | u64::from(anon.as_u32())),
            Home::Object(object, page) => {
                Self(SHARED | OBJECT | u64::from(object.raw()) << ObjectPage::BITS | page.as_u64())
            }
        }
    }
}

#[inline]
fn unpack(raw: u64) -> Place {
    (SpaceId::new((raw >> PAGE_BITS) as u32), Vpn::new(raw & ((1 << PAGE_BITS) - 1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_home_survives_packing() {
        let last = Vpn::new((1 << PAGE_BITS) - 1);
        let space = SpaceId::new((1 << SpaceId::BITS) - 1);
        for home in [
            Home::Private(SpaceId::new(0), Vpn::new(1)),
            Home::Private(space, last),
            Home::Anon(AnonId::new(0)),
            Home::Anon(AnonId::new(u32::MAX)),
            Home::Object(ObjectId::new(0), ObjectPage::new(0)),
            Home::Object(ObjectId::new((1 << ObjectId::BITS) - 1), ObjectPage::new((1 << ObjectPage::BITS) - 1)),
        ] {
            assert_eq!(PackedHome::from(home).get(), home);
        }
        assert_eq!(PackedPlace::new((space, last)).get(), Some((space, last)));
        assert_eq!(PackedPlace::NONE.get(), None);
    }
}
