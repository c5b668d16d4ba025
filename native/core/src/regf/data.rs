//! The data of a value: in the value itself, in a cell, or in the segments of a `db` cell.

use super::hive::Hive;
use super::node::{DataPlace, Value};
use super::problem::Problems;
use super::work::{DATA_BYTES_MAX, Work};
use crate::bytes::{u16_at, u32_at};

/// Data that is longer than this is cut into segments of this size, as of version 1.4
/// (regf specification, "Big data").
pub(super) const SEGMENT_BYTES: usize = 16_344;

/// How references are followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lookup {
    /// To cells as they are.
    Live,
    /// To what is left of cells that were freed.
    Remnant,
}

/// The data of `value`, at most [`DATA_BYTES_MAX`] bytes; none when it cannot be had.
pub(super) fn fetch<'h>(
    hive: &'h Hive,
    value: &'h Value<'_>,
    lookup: Lookup,
    work: &mut Work,
    scratch: &'h mut Vec<u8>,
) -> (Option<&'h [u8]>, Problems) {
    let size = value.data_bytes as usize;
    let place = match &value.data {
        DataPlace::Inline(bytes) => {
            return match bytes.get(..size) {
                Some(data) => (Some(data), Problems::NONE),
                None => (Some(bytes), Problems::DATA_SIZE),
            };
        }
        DataPlace::Cell(place) => *place,
    };
    if size == 0 {
        return (Some(&[]), Problems::NONE);
    }
    let mut problems = Problems::NONE;
    let wanted = size.min(DATA_BYTES_MAX);
    if wanted < size {
        problems.add(Problems::DATA_OVER_LIMIT);
    }
    if !work.spend_data(wanted) {
        problems.add(Problems::WORK_LIMIT);
        return (None, problems);
    }
    let mut follow = |place| hive.follow(place, lookup, &mut problems);
    let Some(cell) = follow(place) else {
        return (None, problems);
    };
    let is_segmented = size > SEGMENT_BYTES && cell.len() < size && cell.starts_with(b"db");
    let data = if is_segmented {
        let count = usize::from(u16_at(cell, 2).unwrap_or_default());
        let list = u32_at(cell, 4).and_then(&mut follow).unwrap_or_default();
        scratch.clear();
        for item in list.chunks_exact(4).take(count) {
            let left = wanted - scratch.len();
            let segment = u32_at(item, 0).and_then(&mut follow).unwrap_or_default();
            if left == 0 || segment.is_empty() {
                break;
            }
            let used = left.min(SEGMENT_BYTES).min(segment.len());
            scratch.extend_from_slice(segment.get(..used).unwrap_or_default());
        }
        scratch
    } else {
        cell.get(..wanted.min(cell.len())).unwrap_or_default()
    };
    if data.len() < wanted {
        problems.add(Problems::DATA_TRUNCATED);
    }
    (Some(data), problems)
}
