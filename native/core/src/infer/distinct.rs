//! The values of a column, while they are few.

use std::collections::BTreeMap;

/// Different values that are kept.
pub(super) const DISTINCT_MAX: usize = 64;
/// Longer values are not kept, and the column counts as having many.
const VALUE_BYTES_MAX: usize = 64;
const SLOTS: usize = 256;

/// A set of values with how often each was seen, until there are too many; then it forgets them all.
#[derive(Debug, Clone)]
pub(super) struct Distinct {
    values: Vec<(Box<[u8]>, u64)>,
    slots: Box<[u8; SLOTS]>, // number of the value plus one
    last: usize,
    many: bool,
}

impl Default for Distinct {
    fn default() -> Self {
        Self {
            values: Vec::new(),
            slots: Box::new([0; SLOTS]),
            last: usize::MAX,
            many: false,
        }
    }
}

impl Distinct {
    /// Count a value; whether it was here before, so that it can say nothing new.
    #[inline]
    pub(super) fn seen(&mut self, value: &[u8]) -> bool {
        if self.many {
            return false;
        }
        if let Some((last, count)) = self.values.get_mut(self.last)
            && **last == *value
        {
            *count += 1;
            return true;
        }
        self.find(value, 1)
    }

    fn find(&mut self, value: &[u8], more: u64) -> bool {
        let mut slot = hash(value) % SLOTS;
        loop {
            match self.slots[slot] {
                0 => break,
                number => {
                    let number = usize::from(number) - 1;
                    if *self.values[number].0 == *value {
                        self.values[number].1 += more;
                        self.last = number;
                        return true;
                    }
                }
            }
            slot = (slot + 1) % SLOTS;
        }
        if self.values.len() == DISTINCT_MAX || value.len() > VALUE_BYTES_MAX {
            *self = Self {
                many: true,
                ..Self::default()
            };
            return false;
        }
        self.last = self.values.len();
        self.values.push((value.into(), more));
        self.slots[slot] = self.values.len() as u8;
        false
    }

    pub(super) fn join(&mut self, other: Self) {
        if other.many {
            *self = other;
            return;
        }
        for (value, count) in other.values {
            if self.many {
                return;
            }
            self.find(&value, count);
        }
    }

    /// The values in their own order with their counts; none when they are too many.
    pub(super) fn values(&self) -> Option<BTreeMap<&[u8], u64>> {
        (!self.many).then(|| {
            self.values
                .iter()
                .map(|(value, count)| (&**value, *count))
                .collect()
        })
    }
}

/// Any hash will do: the values are compared, and there are few.
#[inline]
fn hash(value: &[u8]) -> usize {
    let mut hash = value.len() as u64;
    let (words, rest) = value.as_chunks::<8>();
    for word in words {
        hash = (hash ^ u64::from_le_bytes(*word)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        hash ^= hash >> 29;
    }
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    hash = (hash ^ u64::from_le_bytes(last)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (hash >> 40) as usize
}
