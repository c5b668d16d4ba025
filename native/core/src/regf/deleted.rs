//! What is left of deleted keys and values: in free cells, in the slack of cells, in damaged regions and behind the bins.
//!
//! A freed cell keeps its bytes until somebody writes there, and is merged with free neighbours; its signature then
//! lies at a place where no cell begins any more. Anything may lie there, so a remnant must be plausible as a whole.

use std::collections::HashMap;

use super::bits::{BLOCK_BYTES, Places};
use super::cells::size_at;
use super::data::SEGMENT_BYTES;
use super::emit::Emitter;
use super::hive::{Container, Hive};
use super::node::{DataPlace, KEY_FIXED_BYTES, Key, NOWHERE, VALUE_FIXED_BYTES, Value};
use super::orphans::orphaned_key;
use super::rows::State;
use crate::bytes::{array_at, u16_at, u32_at};
use crate::error::CoreError;

/// Characters that a key's name has at most, and bytes that a value's name has.
const KEY_NAME_BYTES_MAX: usize = 512;
const VALUE_NAME_BYTES_MAX: usize = 32_766;
/// Times of keys are between these two FILETIMEs: 1970 and 2100.
const TIMES: std::ops::Range<u64> = 116_444_736_000_000_000..157_469_184_000_000_000;
/// Types above this are seen in the SAM, where they are numbers of accounts, and as device properties.
const KIND_MAX: u32 = 0xffff;
const KIND_DEVICE_PROPERTY: u32 = 0xffff_0000;

/// A search for remnants, one by one: keys first, since their lists tell what values belong to.
#[derive(Debug)]
pub(super) struct Deleted {
    places: Vec<u32>,
    next: usize,
    in_values: bool,
}

impl Deleted {
    /// Find every place where something plausible lies.
    pub(super) fn new(hive: &Hive, seen: &Places) -> Self {
        Self {
            places: candidates(hive, seen),
            next: 0,
            in_values: false,
        }
    }

    /// Deal with one place. Returns whether there may be more.
    pub(super) fn step(&mut self, hive: &Hive, emitter: &mut Emitter) -> Result<bool, CoreError> {
        let Some(&at) = self.places.get(self.next) else {
            if self.in_values {
                return Ok(false);
            }
            self.in_values = true;
            self.next = 0;
            return Ok(true);
        };
        self.next += 1;
        if emitter.seen.contains(at as usize) {
            return Ok(true);
        }
        let Some(remnant) = Remnant::at(hive, at as usize) else {
            return Ok(true);
        };
        if !self.in_values {
            if let Some(key) = remnant.key() {
                orphaned_key(hive, emitter, at, remnant.length, &key, remnant.state)?;
            }
        } else if let Some(value) = remnant.value(hive) {
            emitter.seen.insert(at as usize);
            let state = remnant.state;
            emitter.value(hive, at, remnant.length, &value, None, b"?", state)?;
        }
        Ok(true)
    }
}

/// Bytes that look like a key or value, up to the end of what they lie in.
struct Remnant<'h> {
    /// Behind where the size field is, or was.
    data: &'h [u8],
    /// Of the former cell.
    length: usize,
    state: State,
}

impl<'h> Remnant<'h> {
    fn at(hive: &'h Hive, at: usize) -> Option<Self> {
        let bins = hive.image.bins();
        let end = match hive.container(at) {
            Container::Allocated { end, .. }
            | Container::Free { end }
            | Container::Outside { end } => end,
        };
        let size = size_at(bins, at, end);
        let length = size.map_or(end - at, |size| size.unsigned_abs() as usize);
        // Damage around an allocated cell does not delete it.
        let is_orphan = hive.cells.damaged_at(at).is_some() && size.is_some_and(|size| size < 0);
        Some(Self {
            data: bins.get(at + 4..at + length)?,
            length,
            state: if is_orphan {
                State::Orphaned
            } else {
                State::Deleted
            },
        })
    }

    fn key(&self) -> Option<Key<'h>> {
        let key = Key::read(self.data.starts_with(b"nk").then_some(self.data)?).ok()?;
        is_plausible_key(&key).then_some(key)
    }

    fn value(&self, hive: &Hive) -> Option<Value<'h>> {
        let value = Value::read(self.data.starts_with(b"vk").then_some(self.data)?).ok()?;
        is_plausible_value(&value, hive.image.bins().len()).then_some(value)
    }
}

/// Whether a remnant can have been a key.
pub(super) fn is_plausible_key(key: &Key<'_>) -> bool {
    let name = key.name;
    let is_name = if name.is_latin {
        name.bytes.iter().all(|byte| *byte >= 0x20)
    } else {
        name.bytes.len().is_multiple_of(2)
    };
    let is_place = |place: u32| place == NOWHERE || place.is_multiple_of(8);
    is_name
        && (1..=KEY_NAME_BYTES_MAX).contains(&name.bytes.len())
        && (key.last_write == 0 || TIMES.contains(&key.last_write))
        && is_place(key.parent)
        && is_place(key.security)
        && (key.subkey_count == 0 || is_place(key.subkeys))
        && (key.value_count == 0 || is_place(key.values))
}

/// Whether a remnant can have been a value of a hive with so many bytes.
pub(super) fn is_plausible_value(value: &Value<'_>, bytes: usize) -> bool {
    let is_name = value.name.is_none_or(|name| {
        name.bytes.len() <= VALUE_NAME_BYTES_MAX
            && if name.is_latin {
                name.bytes.iter().all(|byte| *byte >= 0x20)
            } else {
                name.bytes.len().is_multiple_of(2)
            }
    });
    let is_data = match value.data {
        DataPlace::Inline(_) => value.data_bytes <= 4,
        DataPlace::Cell(place) => {
            (value.data_bytes == 0 || place.is_multiple_of(8)) && value.data_bytes as usize <= bytes
        }
    };
    let is_kind =
        value.kind <= KIND_MAX || value.kind & KIND_DEVICE_PROPERTY == KIND_DEVICE_PROPERTY;
    is_name && is_data && is_kind && value.flags & !3 == 0
}

/// Every place where a signature lies that belongs to no allocated cell, in order.
fn candidates(hive: &Hive, seen: &Places) -> Vec<u32> {
    let bins = hive.image.bins();
    let mut found = Vec::new();
    // Slack of allocated cells, by the cell.
    let mut slack: HashMap<usize, Vec<usize>> = HashMap::new();
    for (number, block) in bins.chunks(BLOCK_BYTES).enumerate() {
        // Whatever was seen begins with a signature, and nearly every signature was seen.
        if let Some(block) = block.first_chunk()
            && count_signatures(block) == seen.count_in_block(number)
        {
            continue;
        }
        let (words, _) = block.as_chunks::<8>();
        for (place, word) in words.iter().enumerate() {
            if word[5] != b'k' || !matches!(word[4], b'n' | b'v') {
                continue;
            }
            let at = number * BLOCK_BYTES + place * 8;
            if hive.cells.allocated.contains(at) || seen.contains(at) {
                continue;
            }
            match hive.container(at) {
                Container::Allocated { start, .. } => slack.entry(start).or_default().push(at),
                Container::Free { .. } | Container::Outside { .. } => found.push(at as u32),
            }
        }
    }
    if !slack.is_empty() {
        let used = used_bytes(hive, slack.keys().copied());
        for (start, places) in slack {
            let used = used.get(&start).copied();
            let is_free = |at: &&usize| match used {
                Some(used) => **at + 4 >= start.saturating_add(used),
                // Nothing refers to the cell: it may have swallowed others when its size was damaged.
                None => size_at(bins, **at, bins.len()).is_some(),
            };
            found.extend(places.iter().filter(is_free).map(|at| *at as u32));
        }
        found.sort_unstable();
    }
    found
}

/// How many words of these look like the beginning of a key or value. (The compiler makes vector code of this.)
#[inline]
fn count_signatures(block: &[u8; BLOCK_BYTES]) -> u32 {
    // Behind a size of four bytes, `nk` or `vk`; without the bits in which they differ, two strange signatures count too.
    const MASK: u64 = 0xffe7 << 32;
    const KEY: u64 = u64::from_le_bytes(*b"\0\0\0\0nk\0\0") & MASK;
    let (words, _) = block.as_chunks::<8>();
    let count = words.iter().fold(0, |count, word| {
        let difference = (u64::from_le_bytes(*word) & MASK) ^ KEY;
        // Only of nothing can one not be taken.
        count + (difference.wrapping_sub(1) >> 63)
    });
    count as u32
}

/// How many bytes of these allocated cells are in use, their size fields included. A cell that nothing refers to
/// has no entry.
fn used_bytes(hive: &Hive, cells: impl Iterator<Item = usize>) -> HashMap<usize, usize> {
    let area = hive.image.area();
    let mut used: HashMap<usize, Option<usize>> = HashMap::new();
    for start in cells {
        let own = area.get(start + 4..).and_then(own_bytes);
        used.insert(start, own.map(|bytes| bytes + 4));
    }
    // Most cells are asked for in vain.
    let mut wanted = Places::new(area.len());
    for start in used.keys() {
        wanted.insert(*start);
    }
    let mut note = |place: u32, bytes: usize| {
        if !wanted.contains(place as usize) {
            return;
        }
        if let Some(entry) = used.get_mut(&(place as usize)) {
            *entry = Some(entry.unwrap_or(0).max(bytes + 4));
        }
    };
    let nothing = Places::default();
    let mut from = 0;
    while let Some(at) = hive.cells.units.next_without(&nothing, from) {
        from = at + 8;
        let Some(cell) = hive.image.cell(at as u32) else {
            continue;
        };
        if let Some((_, key)) = hive.key(at as u32) {
            if key.value_count > 0 {
                note(key.values, (key.value_count as usize).saturating_mul(4));
            }
            if key.class_bytes > 0 {
                note(key.class, usize::from(key.class_bytes));
            }
        } else if cell.data.starts_with(b"vk")
            && let Ok(value) = Value::read(cell.data)
            && let DataPlace::Cell(place) = value.data
        {
            let size = value.data_bytes as usize;
            note(place, size);
            if size > SEGMENT_BYTES {
                note_segments(hive, place, size, &mut note);
            }
        }
    }
    used.into_iter()
        .filter_map(|(start, used)| Some((start, used?)))
        .collect()
}

/// The list and the segments of a `db` cell are in use as well.
fn note_segments(hive: &Hive, place: u32, size: usize, note: &mut impl FnMut(u32, usize)) {
    let Some(cell) = hive.image.cell(place).map(|cell| cell.data) else {
        return;
    };
    if !cell.starts_with(b"db") {
        return;
    }
    let count = usize::from(u16_at(cell, 2).unwrap_or_default());
    let list_at = u32_at(cell, 4).unwrap_or(NOWHERE);
    let Some(list) = hive.image.cell(list_at).map(|cell| cell.data) else {
        return;
    };
    note(list_at, count * 4);
    let mut left = size;
    for item in list.chunks_exact(4).take(count) {
        let used = left.min(SEGMENT_BYTES);
        note(u32_at(item, 0).unwrap_or(NOWHERE), used);
        left -= used;
    }
}

/// How many bytes a cell uses by its own account, when its signature tells; `data` begins behind its size field.
fn own_bytes(data: &[u8]) -> Option<usize> {
    let count = usize::from(u16_at(data, 2)?);
    match &array_at(data, 0)? {
        b"nk" => Some(KEY_FIXED_BYTES + usize::from(u16_at(data, 72)?)),
        b"vk" => Some(VALUE_FIXED_BYTES + count),
        b"lf" | b"lh" => Some(4 + count * 8),
        b"li" | b"ri" => Some(4 + count * 4),
        b"sk" => Some((u32_at(data, 16)? as usize).saturating_add(20)),
        b"db" => Some(8),
        _ => None,
    }
}
