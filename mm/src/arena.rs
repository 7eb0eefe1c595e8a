//! Values with names that are never given twice: what an old name stands for is not found any more.
//!
//! Owns the places, each with its generation, and which are vacant. It grows by pieces of a page, so that adding a value moves nothing
//! and never needs several frames in a row: those may be missing when there is memory in plenty. How slot and generation make a name
//! is for the names to say ([`crate::space::SpaceId`], [`crate::object::ObjectId`]).

use alloc::{boxed::Box, vec::Vec};

/// Places in a piece: 4 KiB.
const PIECE: usize = 256;

struct Place<T> {
    generation: u32,
    value: Option<Box<T>>,
}

const _: () = assert!(PIECE * size_of::<Place<u64>>() == 4096);

/// See the module's head.
pub(crate) struct Arena<T> {
    pieces: Vec<Vec<Place<T>>>,
}

impl<T> Default for Arena<T> {
    fn default() -> Self {
        Self { pieces: Vec::new() }
    }
}

impl<T> Arena<T> {
    fn place(&self, slot: usize) -> Option<&Place<T>> {
        self.pieces.get(slot / PIECE)?.get(slot % PIECE)
    }

    fn places(&mut self) -> impl Iterator<Item = (usize, &mut Place<T>)> {
        self.pieces.iter_mut().flatten().enumerate()
    }

    /// Adds a value, in one of the first `most` slots: its slot and generation. `None` if all are taken, or there is no memory.
    pub fn insert(&mut self, value: T, most: usize) -> Option<(usize, u32)> {
        let vacant = self.places().find(|(_, place)| place.value.is_none()).map(|(slot, _)| slot);
        let slot = vacant.unwrap_or(self.len());
        if slot >= most {
            return None;
        }
        if vacant.is_none() {
            if slot.is_multiple_of(PIECE) {
                let mut piece = Vec::new();
                piece.try_reserve_exact(PIECE).ok()?;
                self.pieces.try_reserve(1).ok()?;
                self.pieces.push(piece);
            }
            self.pieces[slot / PIECE].push(Place { generation: 0, value: None });
        }
        let place = &mut self.pieces[slot / PIECE][slot % PIECE];
        place.generation += 1;
        place.value = Some(Box::new(value));
        Some((slot, place.generation))
    }

    /// What is in a slot, and of which generation.
    #[inline]
    pub fn get_mut(&mut self, slot: usize) -> Option<(u32, &mut T)> {
        let place = self.pieces.get_mut(slot / PIECE)?.get_mut(slot % PIECE)?;
        Some((place.generation, place.value.as_deref_mut()?))
    }

    /// Takes out what is in a slot.
    pub fn remove(&mut self, slot: usize) -> Option<T> {
        let value = self.pieces.get_mut(slot / PIECE)?.get_mut(slot % PIECE)?.value.take()?;
        Some(*value)
    }

    /// How many slots there are by now.
    pub fn len(&self) -> usize {
        self.pieces.last().map_or(0, |last| (self.pieces.len() - 1) * PIECE + last.len())
    }

    /// Slot, generation and value of all there are.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (usize, u32, &mut T)> {
        self.places().filter_map(|(slot, place)| Some((slot, place.generation, place.value.as_deref_mut()?)))
    }

    /// As [`Self::iter_mut`], from a slot on: for walks that stop in between.
    pub fn values_from(&self, first: usize) -> impl Iterator<Item = (usize, u32, &T)> {
        let place =
            move |slot| self.place(slot).and_then(|place| Some((slot, place.generation, place.value.as_deref()?)));
        (first..self.len()).filter_map(place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_used_again_has_another_generation() {
        let mut arena = Arena::default();
        let all: Vec<_> = (0..600).map(|value| arena.insert(value, 600).unwrap()).collect();
        assert_eq!(arena.insert(600, 600), None);
        assert_eq!((arena.remove(300), arena.remove(300), arena.len()), (Some(300), None, 600));
        assert_eq!(arena.get_mut(300), None);
        assert_eq!(arena.insert(700, 600), Some((300, all[300].1 + 1)));
        assert_eq!(arena.values_from(299).map(|(_, _, value)| *value).take(3).collect::<Vec<_>>(), [299, 700, 301]);
        assert_eq!(arena.iter_mut().count(), 600);
    }
}
