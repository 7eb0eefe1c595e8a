//! One descriptor per frame: whose page it holds, in which state, with which copy on the store, and who maps it.
//!
//! Owns the descriptors. Does not own the transitions between states (that is [`crate::page`]), nor the order of eviction
//! (that is the policy, which keeps its links here). Indexed by frame number; everything is behind the manager's lock.

use super::{Frame, FrameKind, IoFrame, Order};
use crate::addr::Pfn;
use crate::group::GroupId;
use crate::home::{Home, PackedHome, PackedPlace, Place};
use crate::page::PageCopy;
use crate::rmap::NO_ENTRY;

/// Bits of a frame's number: 1 TiB of RAM. What is above them in `prev` is the policy's mark.
const LINK_BITS: u32 = 28;
/// No frame: the end of a list.
const NIL: u32 = (1 << LINK_BITS) - 1;

/// What a frame is to the memory manager. The states of a resident page are the upper half of [`crate::page::PageState`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(u8)]
pub enum Residence {
    /// Not a page of a program.
    #[default]
    None,
    /// Being read into; the token is in the request.
    Filling,
    /// Equal to its copy, if it was not written since it was mapped.
    Clean,
    /// Differs from every copy.
    Dirty,
    /// Being written out, and mapped or wanted; the token is in the request.
    Cleaning,
    /// Being written out so as to be evicted; the token is in the request.
    Evicting,
    /// Its page is gone while the device still works on it; freed at completion.
    Orphaned,
    /// No page's: the last-level page table of its owner's neighbourhood. Tables are evicted like pages.
    Table,
}

/// Descriptor of one frame: 40 bytes, which with the page's record makes 48 (design D6).
#[derive(Clone, Debug)]
pub struct FrameDesc {
    home: PackedHome,
    copy: u64,
    /// The first of its mappings, and the pool's entry with the next.
    place: PackedPlace,
    more: u32,
    next: u32,
    prev: u32,
    residence: Residence,
    holds: u8,
    flags: u8,
    generation: u8,
}

const _: () = assert!(size_of::<FrameDesc>() == 40);

/// Flag: the page was used although no A bit says so (just filled, or written through the direct map).
const YOUNG: u8 = 1;
/// Flag: written through the direct map while it was being written out.
const REWRITTEN: u8 = 2;
/// Flag: read ahead, and neither used nor gone yet. Only frames that are filling or clean have it, and only others are rewritten.
const AHEAD: u8 = REWRITTEN;
/// Flag: on the policy's lists.
const LISTED: u8 = 4;
/// Flag: being read in only to leave for another slot.
const MOVING: u8 = 8;
/// The upper half of the flags: the group that the frame is charged to.
const GROUP_SHIFT: u32 = 4;
const GROUP: u8 = 0xf << GROUP_SHIFT;
/// Flag: a page of a file that has a block, so that it may be written to. Such pages do not move.
const PREPARED: u8 = MOVING;
/// Flag: a page of a file that is dirty, and was so already when old pages were looked for. Dirty pages are not under write-out.
const OLD: u8 = REWRITTEN;

impl FrameDesc {
    /// A frame of no interest.
    pub const EMPTY: Self = Self {
        home: PackedHome::NONE,
        copy: 0,
        place: PackedPlace::NONE,
        more: NO_ENTRY,
        next: NIL,
        prev: NIL,
        residence: Residence::None,
        holds: 0,
        flags: 0,
        generation: 0,
    };

    #[inline]
    pub(crate) fn reset(&mut self, home: Home, residence: Residence) {
        debug_assert!(self.holds == 0, "a held frame became another page's");
        let (generation, flags) = (self.generation.wrapping_add(1), self.flags & GROUP);
        *self = Self { home: home.into(), residence, generation, flags, ..Self::EMPTY };
    }
    /// Where the record of the page in the frame stands.
    #[inline]
    pub(crate) fn home(&self) -> Home {
        self.home.get()
    }
    /// As [`Self::home`], for tables by page.
    pub(crate) fn packed_home(&self) -> PackedHome {
        self.home
    }
    pub(crate) fn set_home(&mut self, home: Home) {
        self.home = home.into();
    }
    pub(crate) fn place(&self) -> PackedPlace {
        self.place
    }
    pub(crate) fn set_place(&mut self, place: PackedPlace) {
        self.place = place;
    }
    pub(crate) fn more(&self) -> u32 {
        self.more
    }
    pub(crate) fn set_more(&mut self, more: u32) {
        self.more = more;
    }
    /// What the frame is now.
    pub fn residence(&self) -> Residence {
        self.residence
    }
    pub(crate) fn set_residence(&mut self, residence: Residence) {
        self.residence = residence;
    }
    #[inline]
    pub(crate) fn copy(&self) -> Option<PageCopy> {
        PageCopy::unpack(self.copy)
    }
    pub(crate) fn has_copy(&self) -> bool {
        self.copy != 0
    }
    #[inline]
    pub(crate) fn set_copy(&mut self, copy: Option<PageCopy>) {
        self.copy = copy.map_or(0, PageCopy::pack);
    }
    pub(crate) fn generation(&self) -> u8 {
        self.generation
    }
    pub(crate) fn holds(&self) -> u8 {
        self.holds
    }
    pub(crate) fn add_hold(&mut self) -> bool {
        let room = self.holds < u8::MAX;
        self.holds += u8::from(room);
        room
    }
    pub(crate) fn drop_hold(&mut self) {
        self.holds -= 1;
    }
    /// Ends all holds: those who have them find another generation. Returns how many there were.
    pub(crate) fn void_holds(&mut self) -> u8 {
        self.generation = self.generation.wrapping_add(1);
        core::mem::take(&mut self.holds)
    }
    fn flag(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }
    fn set_flag(&mut self, flag: u8, on: bool) {
        if on { self.flags |= flag } else { self.flags &= !flag }
    }
    pub(crate) fn mapped(&self) -> bool {
        self.place != PackedPlace::NONE
    }
    /// Whether this is the only place where the frame is mapped, and its page's home.
    #[inline(always)]
    pub(crate) fn is_mapped_only_at(&self, place: Place) -> bool {
        let packed = PackedPlace::new(place);
        self.place == packed && self.more == NO_ENTRY && self.home == Home::Private(place.0, place.1).into()
    }
    pub(crate) fn group(&self) -> GroupId {
        GroupId::new(self.flags >> GROUP_SHIFT)
    }
    pub(crate) fn set_group(&mut self, group: GroupId) {
        self.flags = self.flags & !GROUP | group.raw() << GROUP_SHIFT;
    }
    pub(crate) fn young(&self) -> bool {
        self.flag(YOUNG)
    }
    pub(crate) fn set_young(&mut self, on: bool) {
        self.set_flag(YOUNG, on)
    }
    pub(crate) fn rewritten(&self) -> bool {
        self.flag(REWRITTEN)
    }
    pub(crate) fn set_rewritten(&mut self, on: bool) {
        self.set_flag(REWRITTEN, on)
    }
    pub(crate) fn moving(&self) -> bool {
        self.flag(MOVING)
    }
    pub(crate) fn set_moving(&mut self, on: bool) {
        self.set_flag(MOVING, on)
    }
    pub(crate) fn prepared(&self) -> bool {
        self.flag(PREPARED)
    }
    pub(crate) fn set_prepared(&mut self, on: bool) {
        self.set_flag(PREPARED, on)
    }
    pub(crate) fn old(&self) -> bool {
        self.flag(OLD)
    }
    pub(crate) fn set_old(&mut self, on: bool) {
        self.set_flag(OLD, on)
    }
    pub(crate) fn ahead(&self) -> bool {
        self.flag(AHEAD) && matches!(self.residence, Residence::Filling | Residence::Clean)
    }
    pub(crate) fn set_ahead(&mut self, on: bool) {
        self.set_flag(AHEAD, on)
    }
    pub(crate) fn listed(&self) -> bool {
        self.flag(LISTED)
    }
    pub(crate) fn set_listed(&mut self, on: bool) {
        self.set_flag(LISTED, on)
    }
}

/// The descriptors of all frames.
pub struct FrameTable {
    descs: &'static mut [FrameDesc],
}

impl FrameTable {
    /// A table over the descriptors of frames `0..descs.len()`, all [`FrameDesc::EMPTY`].
    pub fn new(descs: &'static mut [FrameDesc]) -> Self {
        assert!(descs.len() < NIL as usize, "more frames than links can name");
        Self { descs }
    }
    #[inline]
    pub(crate) fn get(&self, frame: Pfn) -> &FrameDesc {
        &self.descs[frame.index()]
    }
    #[inline]
    pub(crate) fn get_mut(&mut self, frame: Pfn) -> &mut FrameDesc {
        &mut self.descs[frame.index()]
    }
    /// Gives a frame to the page at `home`: from here on the page has it, and no token exists. Left to itself the compiler calls it, which costs
    /// each minor fault twenty instructions.
    #[inline(always)]
    pub(crate) fn settle(&mut self, frame: Frame, home: Home, residence: Residence) -> Pfn {
        debug_assert_eq!((frame.kind(), frame.order()), (FrameKind::User, Order::PAGE));
        self.get_mut(frame.pfn()).reset(home, residence);
        frame.pfn()
    }

    /// Takes a frame back from a page that no page table refers to and no device works on: the token exists again.
    #[inline]
    pub(crate) fn take(&mut self, frame: Pfn) -> Frame {
        let desc = self.get_mut(frame);
        let idle = matches!(desc.residence, Residence::Clean | Residence::Dirty);
        assert!(idle && !desc.mapped() && !desc.listed(), "frame {frame:?} taken from a page in use: {desc:?}");
        desc.residence = Residence::None;
        desc.generation = desc.generation.wrapping_add(1);
        desc.holds = 0;
        Frame { pfn: frame, kind: FrameKind::User, order: Order::PAGE }
    }

    /// As [`Self::take`], for a page that is about to leave: its descriptor goes on naming page and state until it has left.
    pub(crate) fn take_as(&mut self, frame: Pfn, residence: Residence) -> Frame {
        let desc = self.get_mut(frame);
        assert!(
            desc.residence == residence && !desc.mapped() && !desc.listed(),
            "frame {frame:?} taken from a page in use: {desc:?}"
        );
        desc.generation = desc.generation.wrapping_add(1);
        desc.holds = 0;
        Frame { pfn: frame, kind: FrameKind::User, order: Order::PAGE }
    }

    /// Takes the copy of a frame's number out of its request, once the device is done with it and its page is to keep it.
    pub(crate) fn keep(&mut self, frame: IoFrame) -> Pfn {
        let state = self.get(frame.pfn()).residence();
        debug_assert!(!matches!(state, Residence::None | Residence::Orphaned));
        frame.pfn()
    }

    /// Makes the token of a frame whose page gives it to the device; the caller changes its state next.
    pub(crate) fn lend(&mut self, frame: Pfn) -> IoFrame {
        let desc = self.get(frame);
        let idle = matches!(desc.residence, Residence::Clean | Residence::Dirty);
        assert!(idle && !desc.listed(), "lending {desc:?}");
        IoFrame(frame)
    }

    pub(crate) fn len(&self) -> usize {
        self.descs.len()
    }
}

/// What a policy notes of a page beside its links: four bits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mark(u8);

impl Mark {
    /// Nothing noted.
    pub const ZERO: Self = Self(0);

    /// A mark below 16.
    #[inline(always)]
    pub const fn new(raw: u8) -> Self {
        debug_assert!(raw < 16);
        Self(raw)
    }

    /// Its number.
    #[inline(always)]
    pub const fn get(self) -> u8 {
        self.0
    }
}

/// A neighbour in a list, or none. As it is kept with the frame: on the path of a fault an `Option` would be taken apart and put together.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Link(u32);

impl Link {
    /// The end of the list.
    pub const NONE: Self = Self(NIL);

    /// To a frame.
    #[inline(always)]
    pub fn to(frame: Pfn) -> Self {
        Self(frame.as_u32())
    }

    /// The frame, if there is one.
    #[inline(always)]
    pub fn frame(self) -> Option<Pfn> {
        (self.0 != NIL).then(|| Pfn::new(self.0))
    }
}

impl Default for Link {
    fn default() -> Self {
        Self::NONE
    }
}

/// The links that replacement policies thread their lists through.
pub trait Links {
    /// Sets the neighbours and the mark of a frame that comes into a list.
    fn place(&mut self, frame: Pfn, neighbours: (Link, Link), mark: Mark);
    /// The mark it came with.
    fn mark(&self, frame: Pfn) -> Mark;
    /// Neighbours of a frame in its list: previous, next.
    fn neighbours(&self, frame: Pfn) -> (Link, Link);
    /// Sets the next frame in the list.
    fn set_next(&mut self, frame: Pfn, next: Link);
    /// Sets the previous frame in the list; the mark stays.
    fn set_prev(&mut self, frame: Pfn, prev: Link);
}

impl Links for FrameTable {
    #[inline(always)]
    fn place(&mut self, frame: Pfn, (prev, next): (Link, Link), mark: Mark) {
        let desc = self.get_mut(frame);
        desc.prev = u32::from(mark.0) << LINK_BITS | prev.0;
        desc.next = next.0;
    }
    #[inline(always)]
    fn mark(&self, frame: Pfn) -> Mark {
        Mark((self.get(frame).prev >> LINK_BITS) as u8)
    }
    #[inline(always)]
    fn neighbours(&self, frame: Pfn) -> (Link, Link) {
        let desc = self.get(frame);
        (Link(desc.prev & NIL), Link(desc.next))
    }
    #[inline(always)]
    fn set_next(&mut self, frame: Pfn, next: Link) {
        self.get_mut(frame).next = next.0;
    }
    #[inline(always)]
    fn set_prev(&mut self, frame: Pfn, prev: Link) {
        let desc = self.get_mut(frame);
        desc.prev = desc.prev & !NIL | prev.0;
    }
}
