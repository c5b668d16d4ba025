//! Owner and group of a key: the security descriptor in its `sk` cell ([MS-DTYP] 2.4.6, 2.4.2).

use std::collections::HashMap;
use std::fmt::Write as _;

use super::image::Image;
use crate::bytes::{array_at, u32_at};

/// Bytes of an `sk` in front of its descriptor.
const SECURITY_FIXED_BYTES: usize = 20;
/// Sub-authorities that an identifier has at most.
const SUB_AUTHORITIES_MAX: usize = 15;

/// Who owns a key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Security {
    pub(super) owner: Option<String>,
    pub(super) group: Option<String>,
    /// Whether the descriptor was there and whole.
    pub(super) is_readable: bool,
}

/// The descriptors that were read: a hive has few, and each serves many keys.
#[derive(Debug, Default)]
pub(super) struct SecurityCache {
    known: Vec<Security>,
    by_cell: HashMap<u32, usize>,
    /// The one that was asked for last: keys beside each other mostly share theirs.
    last: Option<(u32, usize)>,
}

/// Descriptors that are kept at a time, so that lies about them cost no memory.
const KNOWN_MAX: usize = 1 << 16;

impl SecurityCache {
    /// The security of keys that refer to the cell at `place`.
    #[inline]
    pub(super) fn at(&mut self, image: &Image, place: u32) -> &Security {
        let number = match self.last {
            Some((last, number)) if last == place => number,
            _ => self.find(image, place),
        };
        &self.known[number]
    }

    fn find(&mut self, image: &Image, place: u32) -> usize {
        if self.known.len() >= KNOWN_MAX {
            *self = Self::default();
        }
        let known = &mut self.known;
        let number = *self.by_cell.entry(place).or_insert_with(|| {
            known.push(read(image, place).unwrap_or_default());
            known.len() - 1
        });
        self.last = Some((place, number));
        number
    }
}

fn read(image: &Image, place: u32) -> Option<Security> {
    let cell = image.cell(place)?.data;
    if !cell.starts_with(b"sk") {
        return None;
    }
    let size = u32_at(cell, 16)? as usize;
    let descriptor = cell.get(SECURITY_FIXED_BYTES..SECURITY_FIXED_BYTES.checked_add(size)?)?;
    let identifier = |field| match u32_at(descriptor, field)? as usize {
        0 => Some(None),
        at => Some(Some(sid_text(descriptor.get(at..)?)?)),
    };
    Some(Security {
        owner: identifier(4)?,
        group: identifier(8)?,
        is_readable: true,
    })
}

/// `S-1-…` of the identifier at the beginning of `bytes`.
fn sid_text(bytes: &[u8]) -> Option<String> {
    let [revision, count] = array_at(bytes, 0)?;
    if revision != 1 || usize::from(count) > SUB_AUTHORITIES_MAX {
        return None;
    }
    let authority: [u8; 6] = array_at(bytes, 2)?;
    let mut wide = [0; 8];
    wide[2..].copy_from_slice(&authority);
    let mut text = format!("S-1-{}", u64::from_be_bytes(wide));
    for number in 0..usize::from(count) {
        write!(text, "-{}", u32_at(bytes, 8 + number * 4)?).ok()?;
    }
    Some(text)
}
