//! One bit for each 8 bytes of a hive: cells begin nowhere else.

/// Bytes whose places share a word of the set.
pub(super) const BLOCK_BYTES: usize = 512;

/// A set of places that are multiples of 8.
#[derive(Debug, Default)]
pub(super) struct Places(Vec<u64>);

impl Places {
    /// An empty set for places below `bytes`.
    pub(super) fn new(bytes: usize) -> Self {
        Self(vec![0; bytes.div_ceil(BLOCK_BYTES)])
    }

    /// Add a place; one behind the end is ignored.
    #[inline]
    pub(super) fn insert(&mut self, place: usize) {
        self.insert_all(place / BLOCK_BYTES, 1 << (place / 8 % 64));
    }

    /// Add the places of the block with this number that have a bit.
    #[inline]
    pub(super) fn insert_all(&mut self, number: usize, bits: u64) {
        if let Some(word) = self.0.get_mut(number) {
            *word |= bits;
        }
    }

    /// How many places of the block with this number are in the set.
    #[inline]
    pub(super) fn count_in_block(&self, number: usize) -> u32 {
        self.0.get(number).map_or(0, |word| word.count_ones())
    }

    #[inline]
    pub(super) fn contains(&self, place: usize) -> bool {
        place.is_multiple_of(8)
            && self
                .0
                .get(place / BLOCK_BYTES)
                .is_some_and(|word| word >> (place / 8 % 64) & 1 == 1)
    }

    /// The last place that is not above `place`.
    pub(super) fn last_up_to(&self, place: usize) -> Option<usize> {
        let mut index = (place / BLOCK_BYTES).min(self.0.len().checked_sub(1)?);
        let mut word = *self.0.get(index)?;
        if index == place / BLOCK_BYTES {
            let bit = place / 8 % 64;
            word &= u64::MAX >> (63 - bit);
        }
        loop {
            if word != 0 {
                let bit = 63 - word.leading_zeros() as usize;
                return Some(index * BLOCK_BYTES + bit * 8);
            }
            index = index.checked_sub(1)?;
            word = *self.0.get(index)?;
        }
    }

    /// The first place from `place` on that is in this set and not in `other`.
    pub(super) fn next_without(&self, other: &Self, place: usize) -> Option<usize> {
        let mut index = place / BLOCK_BYTES;
        let mut mask = u64::MAX << (place / 8 % 64);
        while let Some(word) = self.0.get(index) {
            let left = word & !other.0.get(index).copied().unwrap_or(0) & mask;
            if left != 0 {
                return Some(index * BLOCK_BYTES + left.trailing_zeros() as usize * 8);
            }
            mask = u64::MAX;
            index += 1;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_found_from_both_sides() {
        let mut places = Places::new(4096);
        let mut other = Places::new(4096);
        for place in [32, 504, 512, 4088] {
            places.insert(place);
        }
        other.insert(512);
        assert_eq!((places.count_in_block(0), places.count_in_block(9)), (2, 0));
        assert!(places.contains(504) && !places.contains(505) && !places.contains(496));
        assert_eq!(places.last_up_to(24), None);
        assert_eq!(places.last_up_to(503), Some(32));
        assert_eq!(places.last_up_to(1 << 40), Some(4088));
        assert_eq!(places.next_without(&other, 0), Some(32));
        assert_eq!(places.next_without(&other, 512), Some(4088));
        assert_eq!(places.next_without(&other, 4096), None);
        places.insert(1 << 40);
    }
}
