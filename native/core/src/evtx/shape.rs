//! Definitions recognised by their bytes, without reading their tokens.
//!
//! In each chunk a template's definition stands anew: the same bytes but for the offsets of its names, and for names that stand
//! inside it when they are used first. A shape is a definition whose tokens were read once; another one has the same content
//! when all bytes between the names are equal, each name stands inside or outside as it did, and each name is equal to the
//! last unit. Nothing is taken on trust: a GUID or a checksum alone never decides.

use super::token::NAME_HEADER_BYTES;
use crate::bytes::{array_at, offset_at, u16_at};

/// Where a definition refers to a name.
#[derive(Debug)]
struct NameReference {
    /// Position of the offset, from the definition's start.
    at: usize,
    /// Whether the name stands right behind it.
    is_inside: bool,
    /// Where the name ends in [`Shape::name_bytes`]; it begins where the one before ends.
    name_end: usize,
}

/// The bytes of a definition, and where they may differ.
#[derive(Debug)]
pub(super) struct Shape {
    bytes: Box<[u8]>,
    names: Vec<NameReference>,
    /// The names, in the chunk that the shape was made from: checksum, count of units, units of each.
    name_bytes: Vec<u8>,
}

/// Bytes of an offset.
const OFFSET_BYTES: usize = 4;
/// Bytes of a stored name before its checksum: the offset of the next name in its bucket.
const NEXT_BYTES: usize = 4;
/// Bytes behind a name: a NUL.
const NUL_BYTES: usize = 2;

impl Shape {
    /// The shape of `chunk[start..end]`, which refers to names at `references`, in order.
    pub(super) fn new(
        chunk: &[u8],
        start: usize,
        end: usize,
        references: &[usize],
    ) -> Option<Self> {
        let mut names = Vec::with_capacity(references.len());
        let mut name_bytes = Vec::with_capacity(end - start);
        for at in references {
            let stored = offset_at(chunk, *at)?;
            name_bytes.extend_from_slice(stored_name(chunk, stored)?);
            names.push(NameReference {
                at: at.checked_sub(start)?,
                is_inside: stored == at + OFFSET_BYTES,
                name_end: name_bytes.len(),
            });
        }
        name_bytes.shrink_to_fit();
        Some(Self {
            names,
            name_bytes,
            bytes: chunk.get(start..end)?.into(),
        })
    }

    /// Whether `chunk[start..]` has the same content, as far as this shape is long.
    pub(super) fn is_at(&self, chunk: &[u8], start: usize) -> bool {
        self.matches(chunk, start).is_some()
    }

    /// As [`Shape::is_at`]; `None` is no.
    fn matches(&self, chunk: &[u8], start: usize) -> Option<()> {
        let bytes = chunk.get(start..start + self.bytes.len())?;
        let mut at = 0;
        let mut name_start = 0;
        for reference in &self.names {
            let literal = at..reference.at;
            equal(bytes.get(literal.clone())?, self.bytes.get(literal)?)?;
            let stored = u32::from_le_bytes(array_at(bytes, reference.at)?) as usize;
            at = reference.at + OFFSET_BYTES;
            if reference.is_inside != (stored == start + at) {
                return None;
            }
            let known = self.name_bytes.get(name_start..reference.name_end)?;
            name_start = reference.name_end;
            let name = chunk.get(stored.checked_add(NEXT_BYTES)?..)?;
            equal(name.get(..known.len())?, known)?;
            if reference.is_inside {
                at += NEXT_BYTES + known.len() + NUL_BYTES;
            }
        }
        equal(bytes.get(at..)?, self.bytes.get(at..)?)
    }

    /// How much memory it takes, about, in bytes.
    pub(super) fn byte_size(&self) -> usize {
        self.bytes.len() + self.name_bytes.len() + 40 * self.names.len() + 64
    }
}

#[inline]
fn equal(one: &[u8], other: &[u8]) -> Option<()> {
    (one == other).then_some(())
}

/// Checksum, count and units of the name at `stored`.
fn stored_name(chunk: &[u8], stored: usize) -> Option<&[u8]> {
    let header = chunk.get(stored..)?;
    let units = usize::from(u16_at(header, NAME_HEADER_BYTES - 2)?);
    header.get(NEXT_BYTES..NAME_HEADER_BYTES + units * 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A chunk with a definition of one name inside and one outside, at `start`; the outside name at `outside`.
    fn chunk(start: usize, outside: usize, inside: &[u8], other: &[u8]) -> (Vec<u8>, usize) {
        let name = |text: &[u8]| {
            let mut stored = vec![0xee, 0xee, 0, 0, 7, 7];
            stored.extend_from_slice(&(text.len() as u16 / 2).to_le_bytes());
            stored.extend_from_slice(text);
            stored.extend_from_slice(&[0, 0]);
            stored
        };
        let mut definition = vec![0x0f, 1, 1, 0, 0x01];
        definition.extend_from_slice(&((start + 9) as u32).to_le_bytes());
        definition.extend_from_slice(&name(inside));
        definition.push(0x06);
        definition.extend_from_slice(&(outside as u32).to_le_bytes());
        definition.extend_from_slice(&[0x03, 0]);
        let mut chunk = vec![0xaa; 400];
        chunk[start..start + definition.len()].copy_from_slice(&definition);
        let name = name(other);
        chunk[outside..outside + name.len()].copy_from_slice(&name);
        (chunk, definition.len())
    }

    fn shape() -> Shape {
        let (chunk, length) = chunk(50, 200, b"a\0b\0", b"c\0");
        let second = 50 + 9 + 8 + 4 + 2 + 1;
        Shape::new(&chunk, 50, 50 + length, &[55, second]).unwrap()
    }

    #[test]
    fn the_same_content_elsewhere_is_recognised() {
        let (chunk, _) = chunk(81, 300, b"a\0b\0", b"c\0");
        assert!(shape().is_at(&chunk, 81));
        assert!(!shape().is_at(&chunk, 80));
    }

    #[test]
    fn another_name_another_byte_or_a_cut_is_not() {
        let same = chunk(81, 300, b"a\0b\0", b"c\0").0;
        let inside = chunk(81, 300, b"a\0x\0", b"c\0").0;
        let outside = chunk(81, 300, b"a\0b\0", b"x\0").0;
        assert!(!shape().is_at(&inside, 81));
        assert!(!shape().is_at(&outside, 81));
        assert!(!shape().is_at(&same[..301], 81));
        let length = shape().bytes.len();
        for place in (0..length).filter(|place| {
            // What a shape leaves open: the offset of the next name of a bucket, and the NUL.
            !(9..13).contains(place) && !(21..23).contains(place)
        }) {
            let mut changed = same.clone();
            changed[81 + place] ^= 0x10;
            assert!(!shape().is_at(&changed, 81), "byte {place}");
        }
    }

    #[test]
    fn a_name_that_moved_in_or_out_is_not() {
        let mut moved = chunk(81, 300, b"a\0b\0", b"c\0").0;
        let copy = moved[90..104].to_vec();
        moved[350..364].copy_from_slice(&copy);
        moved[86..90].copy_from_slice(&350_u32.to_le_bytes());
        assert!(!shape().is_at(&moved, 81));
    }
}
