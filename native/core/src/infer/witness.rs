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
