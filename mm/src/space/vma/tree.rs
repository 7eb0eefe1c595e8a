//! The tree that areas stand in: an AVL tree by address, in which every node knows the sums of what is below it.
//!
//! Owns balance and sums, so that all that is asked of the areas takes a number of steps that grows with the logarithm of their
//! number: which area has a page, which comes next, where the highest gap of a size is, how much of a range is mapped, locked or
//! promised. Knows nothing of merging and splitting, which are the map's ([`super`]), nor where nodes stand ([`super::arena`]).
//!
//! ```text
//!   node:  area · first..end of all areas below · the largest gap between two of them · pages below, by kind
//! ```
//! Why no B-tree: a node of one has to be split and merged, which needs memory when memory is freed. Why no red-black tree: AVL trees are
//! lower, and lookups outnumber changes by far.

use super::arena::{Arena, NodeId};
use super::{Charge, Liveness, Lock, Vma};
use crate::addr::{PageRange, Vpn};
use crate::object::{Backing, Sharing};
use arrayvec::ArrayVec;
use core::cmp::Ordering;

/// No AVL tree of 2^32 nodes is higher.
const HIGHEST: usize = 46;

/// Pages of some areas, by what is asked about them.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Tally {
    /// All.
    pub pages: u64,
    /// In locked areas.
    pub locked: u64,
    /// That count as promised.
    pub charged: u64,
    /// That would, if they could be written to.
    pub uncounted: u64,
    /// Whether one of the areas is being unmapped.
    pub dying: bool,
    /// Whether one of them maps an object.
    pub objects: bool,
    /// Whether one of them may only ever be looked at.
    pub viewed: bool,
}

impl Tally {
    fn of(area: &Vma, pages: u64) -> Self {
        let if_so = |yes: bool| if yes { pages } else { 0 };
        Self {
            pages,
            locked: if_so(area.lock != Lock::Unlocked),
            charged: if_so(area.charge == Charge::Counted),
            uncounted: if_so(area.charge == Charge::Uncounted),
            dying: area.liveness == Liveness::Dying,
            objects: area.backing != Backing::Anonymous,
            viewed: matches!(area.backing, Backing::Object { sharing: Sharing::Viewed, .. }),
        }
    }

    fn and(self, other: &Self) -> Self {
        Self {
            pages: self.pages + other.pages,
            locked: self.locked + other.locked,
            charged: self.charged + other.charged,
            uncounted: self.uncounted + other.uncounted,
            dying: self.dying || other.dying,
            objects: self.objects || other.objects,
            viewed: self.viewed || other.viewed,
        }
    }
}

/// One area in the tree.
pub(super) struct Node {
    area: Vma,
    left: NodeId,
    right: NodeId,
    /// Of the areas from here down: the first page, one past the last, and the largest gap between neighbours.
    first: Vpn,
    end: Vpn,
    gap: u64,
    sums: Tally,
    height: u8,
}

impl Node {
    fn alone(area: Vma) -> Self {
        let (first, end, sums) = (area.range.start, area.range.end, Tally::of(&area, area.range.len()));
        Self { area, left: NodeId::NONE, right: NodeId::NONE, first, end, gap: 0, sums, height: 1 }
    }
}

/// Areas by first page; they never overlap.
pub(super) struct AreaTree {
    arena: Arena,
    root: NodeId,
}

impl Default for AreaTree {
    fn default() -> Self {
        Self { arena: Arena::default(), root: NodeId::NONE }
    }
}

impl AreaTree {
    /// Number of areas.
    pub fn len(&self) -> usize {
        self.arena.len()
    }

    /// Areas for which there is room.
    pub fn room(&self) -> usize {
        self.arena.room()
    }

    /// Makes room for so many areas more. `false` if there is no memory for it.
    #[must_use]
    pub fn make_room(&mut self, more: usize) -> bool {
        self.arena.make_room(more)
    }

    /// Sums over all areas.
    pub fn sums(&self) -> Tally {
        if self.root.is_none() { Tally::default() } else { self.arena.get(self.root).sums }
    }

    /// The last area that starts at `page` or before it.
    #[inline]
    pub fn at_or_before(&self, page: Vpn) -> Option<&Vma> {
        let (mut at, mut best) = (self.root, None);
        while !at.is_none() {
            let node = self.arena.get(at);
            at = if node.area.range.start <= page {
                best = Some(&node.area);
                node.right
            } else {
                node.left
            };
        }
        best
    }

    /// Areas that end behind `page`, in order.
    pub fn from(&self, page: Vpn) -> Iter<'_> {
        let mut iter = Iter { tree: self, path: ArrayVec::new() };
        iter.descend(self.root, page);
        iter
    }

    /// The first area of a range for which that is so: which must be so for a sum if it is for one of its areas.
    pub fn first_where(&self, range: PageRange, is: impl Fn(&Tally) -> bool) -> Option<&Vma> {
        self.first_below(self.root, range, &is)
    }

    fn first_below(&self, at: NodeId, range: PageRange, is: &impl Fn(&Tally) -> bool) -> Option<&Vma> {
        if at.is_none() {
            return None;
        }
        let node = self.arena.get(at);
        if node.end <= range.start || node.first >= range.end || !is(&node.sums) {
            return None;
        }
        let own = || {
            let area = &node.area;
            (area.range.overlaps(range) && is(&Tally::of(area, area.range.len()))).then_some(area)
        };
        self.first_below(node.left, range, is).or_else(own).or_else(|| self.first_below(node.right, range, is))
    }

    /// Sums over what areas have of a range.
    pub fn sums_in(&self, range: PageRange) -> Tally {
        self.sums_below(self.root, range)
    }

    fn sums_below(&self, at: NodeId, range: PageRange) -> Tally {
        if at.is_none() {
            return Tally::default();
        }
        let node = self.arena.get(at);
        if node.end <= range.start || node.first >= range.end {
            return Tally::default();
        }
        if node.first >= range.start && node.end <= range.end {
            return node.sums;
        }
        let area = node.area.range;
        let part = PageRange { start: area.start.max(range.start), end: area.end.min(range.end) };
        let own = if part.is_empty() { Tally::default() } else { Tally::of(&node.area, part.len()) };
        self.sums_below(node.left, range).and(&own).and(&self.sums_below(node.right, range))
    }

    /// The highest gap of so many pages within `bounds`: where it ends.
    pub fn highest_gap(&self, pages: u64, bounds: PageRange) -> Option<Vpn> {
        self.gap_below(self.root, pages, bounds)
    }

    /// As that, for the part of the bounds that lies between the areas left and right of those below a node. Only where the bounds cut a
    /// gap off can a subtree promise more than it has, which is on two paths at most.
    fn gap_below(&self, at: NodeId, pages: u64, room: PageRange) -> Option<Vpn> {
        if room.len() < pages {
            return None;
        }
        if at.is_none() {
            return Some(room.end);
        }
        let node = self.arena.get(at);
        let before = node.first.as_u64().saturating_sub(room.start.as_u64());
        let behind = room.end.as_u64().saturating_sub(node.end.as_u64());
        if node.gap.max(before).max(behind) < pages {
            return None;
        }
        let area = node.area.range;
        let right = PageRange { start: area.end.max(room.start), end: room.end };
        let left = PageRange { start: room.start, end: area.start.min(room.end) };
        self.gap_below(node.right, pages, right).or_else(|| self.gap_below(node.left, pages, left))
    }

    /// Adds an area, for which there must be room in memory and among the others.
    pub fn insert(&mut self, area: Vma) {
        let new = self.arena.push(Node::alone(area));
        self.root = self.insert_below(self.root, new, area.range.start);
    }

    fn insert_below(&mut self, at: NodeId, new: NodeId, start: Vpn) -> NodeId {
        if at.is_none() {
            return new;
        }
        let Node { area, left, right, .. } = *self.arena.get(at);
        if start < area.range.start {
            self.arena.get_mut(at).left = self.insert_below(left, new, start);
        } else {
            self.arena.get_mut(at).right = self.insert_below(right, new, start);
        }
        self.balance(at)
    }

    /// Changes the area that starts at `start`, if there is one. It must stay between its neighbours.
    pub fn update(&mut self, start: Vpn, change: impl FnOnce(&mut Vma)) {
        let mut path: ArrayVec<NodeId, HIGHEST> = ArrayVec::new();
        let mut at = self.root;
        while !at.is_none() {
            path.push(at);
            let node = self.arena.get(at);
            match start.cmp(&node.area.range.start) {
                Ordering::Less => at = node.left,
                Ordering::Greater => at = node.right,
                Ordering::Equal => {
                    change(&mut self.arena.get_mut(at).area);
                    return path.into_iter().rev().for_each(|at| self.sum_up(at));
                }
            }
        }
    }

    /// Takes out the area that starts at `start`.
    pub fn remove(&mut self, start: Vpn) -> Option<Vma> {
        let (root, taken) = self.remove_below(self.root, start);
        self.root = root;
        let id = taken?;
        let area = self.arena.get(id).area;
        if let Some(old) = self.arena.swap_remove(id) {
            self.relink(old, id);
        }
        Some(area)
    }

    fn remove_below(&mut self, at: NodeId, start: Vpn) -> (NodeId, Option<NodeId>) {
        if at.is_none() {
            return (at, None);
        }
        let Node { area, left, right, .. } = *self.arena.get(at);
        let taken = match start.cmp(&area.range.start) {
            Ordering::Less => {
                let (rest, taken) = self.remove_below(left, start);
                self.arena.get_mut(at).left = rest;
                taken
            }
            Ordering::Greater => {
                let (rest, taken) = self.remove_below(right, start);
                self.arena.get_mut(at).right = rest;
                taken
            }
            Ordering::Equal if right.is_none() => return (left, Some(at)),
            Ordering::Equal if left.is_none() => return (right, Some(at)),
            Ordering::Equal => {
                let (rest, next) = self.take_first(right);
                let heir = self.arena.get_mut(next);
                (heir.left, heir.right) = (left, rest);
                return (self.balance(next), Some(at));
            }
        };
        (self.balance(at), taken)
    }

    /// Takes the first node out of a tree that has one: what is left, and that node.
    fn take_first(&mut self, at: NodeId) -> (NodeId, NodeId) {
        let Node { left, right, .. } = *self.arena.get(at);
        if left.is_none() {
            return (right, at);
        }
        let (rest, first) = self.take_first(left);
        self.arena.get_mut(at).left = rest;
        (self.balance(at), first)
    }

    /// A node has another name now.
    fn relink(&mut self, old: NodeId, new: NodeId) {
        let start = self.arena.get(new).area.range.start;
        if self.root == old {
            self.root = new;
            return;
        }
        let mut at = self.root;
        loop {
            let node = self.arena.get_mut(at);
            let link = if start < node.area.range.start { &mut node.left } else { &mut node.right };
            if *link == old {
                *link = new;
                return;
            }
            at = *link;
        }
    }

    fn height(&self, at: NodeId) -> u8 {
        if at.is_none() { 0 } else { self.arena.get(at).height }
    }

    /// Left minus right.
    fn tilt(&self, at: NodeId) -> i16 {
        let node = self.arena.get(at);
        i16::from(self.height(node.left)) - i16::from(self.height(node.right))
    }

    /// Makes the two sides of a node differ by one at most, after one of them has changed by one, and sums up. Returns who is on top.
    fn balance(&mut self, at: NodeId) -> NodeId {
        let Node { left, right, .. } = *self.arena.get(at);
        match self.tilt(at) {
            2.. => {
                if self.tilt(left) < 0 {
                    self.arena.get_mut(at).left = self.rotate_left(left);
                }
                self.rotate_right(at)
            }
            ..=-2 => {
                if self.tilt(right) > 0 {
                    self.arena.get_mut(at).right = self.rotate_right(right);
                }
                self.rotate_left(at)
            }
            _ => {
                self.sum_up(at);
                at
            }
        }
    }

    fn rotate_left(&mut self, at: NodeId) -> NodeId {
        let top = self.arena.get(at).right;
        self.arena.get_mut(at).right = self.arena.get(top).left;
        self.arena.get_mut(top).left = at;
        self.sum_up(at);
        self.sum_up(top);
        top
    }

    fn rotate_right(&mut self, at: NodeId) -> NodeId {
        let top = self.arena.get(at).left;
        self.arena.get_mut(at).left = self.arena.get(top).right;
        self.arena.get_mut(top).right = at;
        self.sum_up(at);
        self.sum_up(top);
        top
    }

    /// Computes what a node says of all below it, from its two sides.
    fn sum_up(&mut self, at: NodeId) {
        let Node { area, left, right, .. } = *self.arena.get(at);
        let (mut first, mut end, mut gap, mut height) = (area.range.start, area.range.end, 0, 0);
        let mut sums = Tally::of(&area, area.range.len());
        if !left.is_none() {
            let side = self.arena.get(left);
            (first, height, sums) = (side.first, side.height, sums.and(&side.sums));
            gap = side.gap.max(area.range.start.as_u64() - side.end.as_u64());
        }
        if !right.is_none() {
            let side = self.arena.get(right);
            (end, height, sums) = (side.end, height.max(side.height), sums.and(&side.sums));
            gap = gap.max(side.gap).max(side.first.as_u64() - area.range.end.as_u64());
        }
        let node = self.arena.get_mut(at);
        (node.first, node.end, node.gap, node.sums, node.height) = (first, end, gap, sums, height + 1);
    }

    /// Nodes looked at so far.
    #[cfg(any(test, feature = "sim"))]
    pub fn looks(&self) -> u64 {
        self.arena.looks()
    }
}

/// Areas in order.
pub(super) struct Iter<'a> {
    tree: &'a AreaTree,
    /// What comes next, and what comes after all that is right of it.
    path: ArrayVec<NodeId, HIGHEST>,
}

impl Iter<'_> {
    /// Goes down to the first area that ends behind `page`.
    fn descend(&mut self, mut at: NodeId, page: Vpn) {
        while !at.is_none() {
            let node = self.tree.arena.get(at);
            at = if node.area.range.end > page {
                self.path.push(at);
                node.left
            } else {
                node.right
            };
        }
    }
}

impl<'a> Iterator for Iter<'a> {
    type Item = &'a Vma;

    fn next(&mut self) -> Option<&'a Vma> {
        let node = self.tree.arena.get(self.path.pop()?);
        self.descend(node.right, node.area.range.end);
        Some(&node.area)
    }
}
