//! Values that come a second time: what a column whose values must be unique is checked with.
//!
//! A value is kept as the first 128 bits of its BLAKE3 with the column's number before it: nobody who writes evidence can
//! make two values look the same, and a value of any length costs 16 bytes. The number of values is bounded.

use std::collections::HashSet;

/// More values than were allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("more than {0} different values")]
pub struct TooMany(pub usize);

/// All values of some columns that were seen so far.
#[derive(Debug)]
pub struct Repeats {
    seen: HashSet<u128>,
    values_max: usize,
}

impl Repeats {
    /// Nothing was seen yet; at most so many different values may be.
    #[must_use]
    pub fn new(values_max: usize) -> Self {
        Self {
            seen: HashSet::new(),
            values_max,
        }
    }

    /// See a value; whether the column had it before.
    ///
    /// # Errors
    /// [`TooMany`]: it would be one more than allowed. It is not kept.
    pub fn is_repeated(&mut self, column: u32, value: &[u8]) -> Result<bool, TooMany> {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&column.to_le_bytes());
        hasher.update(value);
        let mut short = [0; 16];
        short.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
        let key = u128::from_le_bytes(short);
        if self.seen.contains(&key) {
            return Ok(true);
        }
        if self.seen.len() >= self.values_max {
            return Err(TooMany(self.values_max));
        }
        self.seen.insert(key);
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_repeated_in_its_own_column_only() {
        let mut repeats = Repeats::new(10);
        assert_eq!(repeats.is_repeated(0, b"a"), Ok(false));
        assert_eq!(repeats.is_repeated(1, b"a"), Ok(false));
        assert_eq!(repeats.is_repeated(0, b"a"), Ok(true));
        assert_eq!(repeats.is_repeated(0, b""), Ok(false));
        assert_eq!(repeats.is_repeated(0, b""), Ok(true));
    }

    #[test]
    fn values_are_bounded_and_those_that_are_known_stay_known() {
        let mut repeats = Repeats::new(2);
        assert_eq!(repeats.is_repeated(0, b"a"), Ok(false));
        assert_eq!(repeats.is_repeated(0, b"b"), Ok(false));
        assert_eq!(repeats.is_repeated(0, b"c"), Err(TooMany(2)));
        assert_eq!(repeats.is_repeated(0, b"a"), Ok(true));
        assert_eq!(repeats.is_repeated(0, b"c"), Err(TooMany(2)));
    }
}
