//! Lists of subkeys: `li`, `lf`, `lh`, and `ri`, which lists lists.

use super::image::Image;
use super::problem::Problems;
use super::work::Work;
use crate::bytes::{u16_at, u32_at};

/// An `ri` lists no `ri` in a sound hive; one more level is read.
const NESTING_MAX: u32 = 2;

/// Append the subkeys that the list in the cell at `place` names.
pub(super) fn push_subkeys(
    image: &Image,
    place: u32,
    work: &mut Work,
    out: &mut Vec<u32>,
) -> Problems {
    push_list(image, place, work, out, 0)
}

fn push_list(
    image: &Image,
    place: u32,
    work: &mut Work,
    out: &mut Vec<u32>,
    depth: u32,
) -> Problems {
    let Some(cell) = image.cell(place) else {
        return Problems::SUBKEYS_UNREADABLE;
    };
    let list = cell.data;
    let item_bytes = match list.first_chunk::<2>() {
        Some(b"lf" | b"lh") => 8,
        Some(b"li" | b"ri") => 4,
        _ => return Problems::SUBKEYS_UNREADABLE,
    };
    let mut problems = Problems::NONE;
    let claimed = usize::from(u16_at(list, 2).unwrap_or_default());
    let items = list.get(4..).unwrap_or_default();
    let count = claimed.min(items.len() / item_bytes);
    if count < claimed {
        problems.add(Problems::SUBKEYS_UNREADABLE);
    }
    if !work.spend_items(count) {
        return Problems::WORK_LIMIT;
    }
    let is_root = list.starts_with(b"ri");
    if is_root && depth == NESTING_MAX {
        return Problems::SUBKEYS_UNREADABLE;
    }
    for item in items.chunks_exact(item_bytes).take(count) {
        let to = u32_at(item, 0).unwrap_or_default();
        if is_root {
            problems.add(push_list(image, to, work, out, depth + 1));
        } else {
            out.push(to);
        }
    }
    problems
}
