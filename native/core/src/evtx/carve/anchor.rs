//! Where the chunk of a lone record began.
//!
//! A record refers to names and template definitions by their distance from its chunk's beginning, which a
//! carved record does not have. Yet it says which definition it means (the first four bytes of a GUID) and
//! at what distance it stands: wherever these bytes are found nearby, the chunk's beginning is known. In a
//! record that is the first of its chunk to use a definition or a name, these stand right behind the reference.
//! The names' checksums then tell a right guess from a wrong one.

use memchr::memmem::Finder;

use crate::bytes::{array_at, offset_at, u16_at, u32_at};
use crate::error::CoreError;
use crate::evtx::layout::{CHUNK_HEADER_BYTES, RECORD_HEADER_BYTES, SLOT_BYTES};
use crate::evtx::token::name_checksum;
use crate::source::ReadAt;

/// Guesses that are tried for one record.
const GUESSES_MAX: usize = 8;
/// What stands before the GUID of a definition: the offset of another one.
const GUID_AT: u64 = 4;

/// What a record says of the place of its chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Anchor {
    /// The definition that begins with this, at this distance from the chunk's beginning. It would
    /// stand at `behind` from the record's beginning if it were in the record.
    Template {
        identifier: [u8; 4],
        distance: u64,
        behind: u64,
    },
    /// The name of the first element; it is taken only if it is in the record.
    Name { distance: u64, behind: u64 },
}

fn anchor(record: &[u8]) -> Option<Anchor> {
    let mut at = RECORD_HEADER_BYTES;
    if record.get(at) == Some(&0x0f) {
        at += 4;
    }
    match record.get(at)? & !0x40 {
        // token, version, identifier, offset
        0x0c => Some(Anchor::Template {
            identifier: array_at(record, at + 2)?,
            distance: offset_at(record, at + 6)? as u64,
            behind: at as u64 + 10,
        }),
        // token, length, offset of the name
        0x01 => Some(Anchor::Name {
            distance: u64::from(u32_at(record, at + 5)?),
            behind: at as u64 + 9,
        }),
        _ => None,
    }
}

/// A place in a source, possibly before its first byte.
pub(super) type Base = i64;

/// Whether a record can belong to the chunk at `base`.
pub(super) fn covers(base: Base, at: u64, size: usize) -> bool {
    let Some(start) = at.cast_signed().checked_sub(base) else {
        return false;
    };
    let end = start.saturating_add(size as i64);
    start >= CHUNK_HEADER_BYTES as i64 && end <= SLOT_BYTES as i64
}

/// Where the chunk of the record at `at` may begin, the likeliest place first.
///
/// # Errors
/// When the source cannot be read.
pub(super) fn guesses<S: ReadAt>(
    source: &S,
    record: &[u8],
    at: u64,
) -> Result<Vec<Base>, CoreError> {
    let size = record.len();
    let base_of = |place: u64, distance: u64| {
        let base = place.cast_signed().checked_sub(distance.cast_signed())?;
        covers(base, at, size).then_some(base)
    };
    let mut found = Vec::new();
    match anchor(record) {
        Some(Anchor::Name { distance, behind })
            if is_name(record.get(behind as usize..).unwrap_or_default()) =>
        {
            found.extend(base_of(at + behind, distance));
        }
        Some(Anchor::Template {
            identifier,
            distance,
            behind,
        }) => {
            if array_at(record, (behind + GUID_AT) as usize) == Some(identifier) {
                found.extend(base_of(at + behind, distance));
            }
            // Of all chunks that could hold the record, where their definition would be.
            let first = (at + size as u64 + distance + GUID_AT).saturating_sub(SLOT_BYTES as u64);
            let last = (at + distance + GUID_AT).saturating_sub(CHUNK_HEADER_BYTES as u64);
            let end = (last + 4).min(source.len());
            let mut nearby = vec![0; end.saturating_sub(first).min(SLOT_BYTES as u64) as usize];
            source.read_exact_at(&mut nearby, first.min(end))?;
            let finder = Finder::new(&identifier);
            let places = finder.find_iter(&nearby).filter_map(|place| {
                let definition = (first + place as u64).checked_sub(GUID_AT)?;
                base_of(definition, distance)
            });
            let mut elsewhere: Vec<Base> = places.collect();
            // Chunks begin at a multiple of a sector nearly always.
            elsewhere.sort_by_key(|base| base.rem_euclid(512) != 0);
            found.extend(elsewhere);
            found.dedup();
            found.truncate(GUESSES_MAX);
        }
        Some(Anchor::Name { .. }) | None => {}
    }
    Ok(found)
}

/// Whether a stored name stands here: next offset, checksum, count, characters.
fn is_name(bytes: &[u8]) -> bool {
    let (Some(checksum), Some(units)) = (u16_at(bytes, 4), u16_at(bytes, 6)) else {
        return false;
    };
    let name = bytes.get(8..8 + 2 * usize::from(units));
    name.is_some_and(|name| !name.is_empty() && name_checksum(name) == checksum)
}
