//! A zone: equal chunks of one type, all there from the start, with the free ones on a list.
//!
//! Owns the chunks. Never grows, so whoever may not allocate can use one; a full zone says so.

use alloc::boxed::Box;

/// Which chunk. Only the zone that gave it out knows what to do with it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place(u32);

enum Chunk<T> {
    Used(T),
    /// The next free one.
    Free(Option<Place>),
}

/// Room for a fixed number of `T`.
pub struct Zone<T> {
    chunks: Box<[Chunk<T>]>,
    first_free: Option<Place>,
    used: usize,
}

impl<T> Zone<T> {
    /// A zone with room for `capacity` values.
    pub fn new(capacity: u32) -> Self {
        let next = |index: u32| (index + 1 < capacity).then_some(Place(index + 1));
        let chunks = (0..capacity).map(|index| Chunk::Free(next(index))).collect();
        Self { chunks, first_free: (capacity > 0).then_some(Place(0)), used: 0 }
    }

    /// Values it holds.
    pub fn len(&self) -> usize {
        self.used
    }
    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.used == 0
    }
    /// Values it has room for.
    pub fn capacity(&self) -> usize {
        self.chunks.len()
    }

    /// Puts a value in; gives it back if the zone is full.
    pub fn insert(&mut self, value: T) -> Result<Place, T> {
        let Some(place) = self.first_free else { return Err(value) };
        let chunk = &mut self.chunks[place.0 as usize];
        let Chunk::Free(next) = *chunk else { unreachable!("a used chunk on the list of free ones") };
        self.first_free = next;
        *chunk = Chunk::Used(value);
        self.used += 1;
        Ok(place)
    }

    /// Takes a value out; `None` if there is none.
    pub fn remove(&mut self, place: Place) -> Option<T> {
        let chunk = self.chunks.get_mut(place.0 as usize).filter(|chunk| matches!(chunk, Chunk::Used(_)))?;
        let Chunk::Used(value) = core::mem::replace(chunk, Chunk::Free(self.first_free)) else { return None };
        self.first_free = Some(place);
        self.used -= 1;
        Some(value)
    }

    /// The value at a place.
    pub fn get(&self, place: Place) -> Option<&T> {
        match self.chunks.get(place.0 as usize)? {
            Chunk::Used(value) => Some(value),
            Chunk::Free(_) => None,
        }
    }

    /// The value at a place, to be changed.
    pub fn get_mut(&mut self, place: Place) -> Option<&mut T> {
        match self.chunks.get_mut(place.0 as usize)? {
            Chunk::Used(value) => Some(value),
            Chunk::Free(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    #[test]
    fn x7_a_zone_gives_each_of_its_chunks_once_and_takes_it_back() {
        let mut zone = Zone::new(100);
        let places: Vec<_> = (0..100).map(|value| zone.insert(value).unwrap()).collect();
        assert_eq!(zone.insert(100), Err(100), "a full zone says so");
        for (value, place) in places.iter().enumerate() {
            assert_eq!(zone.get(*place), Some(&value));
        }
        for place in places.iter().step_by(2) {
            assert!(zone.remove(*place).is_some());
            assert_eq!((zone.remove(*place), zone.get(*place)), (None, None), "twice");
        }
        assert_eq!((zone.len(), zone.capacity()), (50, 100));
        // The chunk freed last is given first: it is in the cache.
        assert_eq!(zone.insert(7), Ok(places[98]));
        *zone.get_mut(places[98]).unwrap() += 1;
        assert_eq!(zone.remove(places[98]), Some(8));
        assert!((0..50).all(|value| zone.insert(value).is_ok()) && zone.insert(50).is_err());
    }

    #[test]
    fn x7_an_empty_zone_has_no_room() {
        let mut zone = Zone::new(0);
        assert!(zone.is_empty() && zone.insert(()).is_err());
    }
}
