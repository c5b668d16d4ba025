//! Where a value stood, and what it ruled out.

use super::candidates::Set;

/// Bytes of a value that evidence shows.
pub(super) const SHOWN_BYTES: usize = 80;

/// A row: of the file with that number, counted from 0 without the header, and where it begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Place {
    /// Number of the file in the order in which files are given.
    pub file: u32,
    /// Row in the file, from 0; the header is none.
    pub row: u64,
    /// Where the row begins, in bytes.
    pub offset: u64,
}

/// How often something was seen, and where first.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Sightings {
    pub(super) count: u64,
    /// Says something while there is one at all.
    pub(super) first: Place,
}

impl Sightings {
    /// One more; places come in their order.
    #[inline]
    pub(super) fn note(&mut self, place: Place) {
        if self.count == 0 {
            self.first = place;
        }
        self.count += 1;
    }

    /// Make this what both have seen.
    pub(super) fn join(&mut self, other: Self) {
        self.first = match (self.count, other.count) {
            (_, 0) => self.first,
            (0, _) => other.first,
            _ => self.first.min(other.first),
        };
        self.count += other.count;
    }
}

/// The first value that ruled out some candidates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Witness {
    pub(super) place: Place,
    pub(super) value: Box<[u8]>,
    pub(super) out: Set,
}

pub(super) fn shown(value: &[u8]) -> Box<[u8]> {
    value[..value.len().min(SHOWN_BYTES)].into()
}

/// Join two lists so that each candidate keeps its earliest witness.
///
/// No row is in both: witnesses of one row, the items of a list, keep their order.
pub(super) fn join(one: Vec<Witness>, other: Vec<Witness>) -> Vec<Witness> {
    let mut all: Vec<Witness> = one.into_iter().chain(other).collect();
    all.sort_by_key(|witness| witness.place);
    let mut seen: Set = 0;
    let mut kept: Vec<Witness> = Vec::with_capacity(all.len());
    for mut witness in all {
        witness.out &= !seen;
        if witness.out == 0 {
            continue;
        }
        seen |= witness.out;
        kept.push(witness);
    }
    kept
}
