//! A square matrix of words, larger than RAM, transposed in place.
//!
//! Rows are not a whole number of pages, so that columns wander through them. The tiles are what is good for a cache of
//! a few KiB: a programmer who thinks of the processor and not of the disk would choose them.

use std::ops::Range;

use super::options::Options;
use super::words::Words;
use crate::failure::Failure;
use crate::mapping::Charge;
use crate::phase::Phase;
use crate::rng::mix;

/// Elements on a side of a tile; two tiles are 8 KiB.
const TILE: usize = 32;

/// Which way the matrix lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Orientation {
    AsFilled,
    Transposed,
}

impl Orientation {
    fn other(self) -> Self {
        match self {
            Self::AsFilled => Self::Transposed,
            Self::Transposed => Self::AsFilled,
        }
    }
}

struct Matrix {
    words: Words,
    side: usize,
    seed: u64,
    orientation: Orientation,
}

/// Fills, transposes, verifies.
pub fn run(options: &Options) -> Result<(), Failure> {
    let name = options.kind.name();
    let words = Words::new(options.map(options.pages(), Charge::Committed)?);
    // An odd side: then a row is never a whole number of pages.
    let side = (words.len().isqrt() - 1) | 1;
    let mut matrix = Matrix { words, side, seed: mix(options.seed), orientation: Orientation::AsFilled };
    let elements = (side * side) as u64;

    let phase = Phase::Populate.begin();
    matrix.fill();
    phase.end(name, elements, 0);
    let phase = Phase::Run.begin();
    for _ in 0..options.passes {
        matrix.transpose()?;
    }
    phase.end(name, elements * options.passes, 0);
    let phase = Phase::Verify.begin();
    let sum = matrix.verify()?;
    phase.end(name, elements, sum);
    Ok(())
}

impl Matrix {
    fn at(&self, row: usize, column: usize) -> usize {
        row * self.side + column
    }

    /// What an element was filled with.
    #[inline(always)]
    fn filled(&self, row: usize, column: usize) -> u64 {
        mix(self.seed.wrapping_add(self.at(row, column) as u64))
    }

    fn fill(&self) {
        for index in 0..self.side * self.side {
            self.words.set(index, mix(self.seed.wrapping_add(index as u64)));
        }
    }

    /// The word at a place, which has to be the one that belongs there.
    #[inline(always)]
    fn checked(&self, row: usize, column: usize) -> Result<u64, Failure> {
        let found = self.words.get(self.at(row, column));
        let expected = match self.orientation {
            Orientation::AsFilled => self.filled(row, column),
            Orientation::Transposed => self.filled(column, row),
        };
        Failure::unless_equal("element", self.at(row, column) as u64, expected, found)?;
        Ok(found)
    }

    fn transpose(&mut self) -> Result<(), Failure> {
        let tile = |start: usize| start..(start + TILE).min(self.side);
        for row in (0..self.side).step_by(TILE) {
            for column in (row..self.side).step_by(TILE) {
                self.swap_tiles(tile(row), tile(column))?;
            }
        }
        self.orientation = self.orientation.other();
        Ok(())
    }

    /// Swaps what is above the diagonal in a tile with its mirror image.
    fn swap_tiles(&self, rows: Range<usize>, columns: Range<usize>) -> Result<(), Failure> {
        for row in rows {
            for column in columns.start.max(row + 1)..columns.end {
                let (above, below) = (self.checked(row, column)?, self.checked(column, row)?);
                self.words.set(self.at(row, column), below);
                self.words.set(self.at(column, row), above);
            }
        }
        Ok(())
    }

    fn verify(&self) -> Result<u64, Failure> {
        let mut sum = 0_u64;
        for row in 0..self.side {
            for column in 0..self.side {
                sum = sum.wrapping_mul(31).wrapping_add(self.checked(row, column)?);
            }
        }
        Ok(sum)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mapping::Mapping;

    fn matrix(side: usize) -> Matrix {
        let words = Words::new(Mapping::anonymous(16, Charge::Committed).expect("maps"));
        let matrix = Matrix { words, side, seed: 5, orientation: Orientation::AsFilled };
        matrix.fill();
        matrix
    }

    #[test]
    fn rows_become_columns_whatever_the_size() {
        for side in [1, 2, 31, 32, 33, 89] {
            let mut matrix = matrix(side);
            let before: Vec<u64> = (0..side * side).map(|index| matrix.words.get(index)).collect();
            matrix.transpose().expect("right");
            for row in 0..side {
                for column in 0..side {
                    assert_eq!(matrix.words.get(row * side + column), before[column * side + row]);
                }
            }
            matrix.verify().expect("right");
            matrix.transpose().expect("right");
            assert!(before.iter().enumerate().all(|(index, &word)| matrix.words.get(index) == word));
        }
    }

    #[test]
    fn a_wrong_element_is_noticed_when_it_is_moved() {
        let mut matrix = matrix(50);
        matrix.words.set(7 * 50 + 40, 1);
        let failure = matrix.transpose().expect_err("a wrong element");
        assert!(matches!(failure, Failure::Wrong { what: "element", at: 390, found: 1, .. }), "{failure}");
    }
}
