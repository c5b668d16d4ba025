//! Cutting the bins into cells: which bytes are a unit, and which are damage.
//!
//! Nothing here follows a reference: what is a unit depends on sizes and signatures alone, so that another
//! walk over the same bytes comes to the same units.

use super::bits::{BLOCK_BYTES, Places};
use super::problem::Reason;
use crate::bytes::{all_zero, array_at, u32_at};

/// Bins begin at multiples of this and are multiples of it.
pub(super) const PAGE_BYTES: usize = 4096;
/// Bytes of a bin in front of its first cell.
const BIN_HEADER_BYTES: usize = 32;
/// The signatures of units.
const KEY: u16 = u16::from_le_bytes(*b"nk");
const VALUE: u16 = u16::from_le_bytes(*b"vk");
/// What an allocated cell behind a damaged one must begin with to be found again.
const SIGNATURES: [[u8; 2]; 8] = [
    *b"nk", *b"vk", *b"sk", *b"lf", *b"lh", *b"li", *b"ri", *b"db",
];

/// Bytes that belong to no valid cell, from the first bin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Region {
    pub(super) start: usize,
    pub(super) end: usize,
    pub(super) reason: Reason,
}

/// How many cells of each kind there are.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct CellCounts {
    pub(super) bins: u64,
    pub(super) allocated: u64,
    pub(super) free: u64,
    pub(super) free_bytes: u64,
    /// Of the allocated ones, keys and values.
    pub(super) keys: u64,
    pub(super) values: u64,
}

/// The cells of a hive.
#[derive(Debug, Default)]
pub(super) struct Cells {
    /// Where a cell of any kind begins, and where a bin does.
    pub(super) starts: Places,
    /// Where an allocated cell begins.
    pub(super) allocated: Places,
    /// Where an allocated `nk` or `vk` begins.
    pub(super) units: Places,
    /// In order, none of them empty.
    pub(super) damaged: Vec<Region>,
    pub(super) counts: CellCounts,
}

/// Which cells begin in a block of [`BLOCK_BYTES`], in bits.
#[derive(Debug, Default)]
struct BlockCells {
    block: usize,
    starts: u64,
    allocated: u64,
    keys: u64,
    values: u64,
    free_bytes: u64,
}

/// The size field at `at`: negative when the cell is allocated. None when no valid cell begins there
/// that ends by `end`.
#[inline]
pub(super) fn size_at(bytes: &[u8], at: usize, end: usize) -> Option<i32> {
    let size = i32::from_le_bytes(array_at(bytes, at)?);
    let length = size.unsigned_abs() as usize;
    (length >= 8 && length.is_multiple_of(8) && at + length <= end).then_some(size)
}

impl Cells {
    /// Cut `area`, the live part of the bins.
    pub(super) fn cut(area: &[u8]) -> Self {
        let mut cells = Self {
            starts: Places::new(area.len()),
            allocated: Places::new(area.len()),
            units: Places::new(area.len()),
            ..Self::default()
        };
        let mut at = 0;
        while at < area.len() {
            at = match bin_size(area, at) {
                Some(size) => {
                    cells.cut_bin(area, at, at + size);
                    at + size
                }
                None => cells.skip_damaged_pages(area, at),
            };
        }
        cells
    }

    /// The damaged region that `place` lies in.
    pub(super) fn damaged_at(&self, place: usize) -> Option<&Region> {
        let behind = self.damaged.partition_point(|region| region.start <= place);
        let region = self.damaged.get(behind.checked_sub(1)?)?;
        (place < region.end).then_some(region)
    }

    fn cut_bin(&mut self, area: &[u8], start: usize, end: usize) {
        self.counts.bins += 1;
        self.starts.insert(start);
        let mut found = BlockCells::default();
        let mut at = start + BIN_HEADER_BYTES;
        while at < end {
            let Some(size) = size_at(area, at, end) else {
                let next = next_known_cell(area, at, end);
                self.damaged.push(Region {
                    start: at,
                    end: next,
                    reason: Reason::CellDamaged,
                });
                at = next;
                continue;
            };
            if at / BLOCK_BYTES != found.block {
                self.note(&found);
                found = BlockCells {
                    block: at / BLOCK_BYTES,
                    ..BlockCells::default()
                };
            }
            let length = size.unsigned_abs() as usize;
            // What comes next is anybody's guess: no branches.
            let is_allocated = size < 0;
            let signature = array_at(area, at + 4).map_or(0, u16::from_le_bytes);
            let is_key = is_allocated & (signature == KEY);
            let is_value = is_allocated & (signature == VALUE);
            let place = at / 8 % 64;
            found.starts |= 1 << place;
            found.allocated |= u64::from(is_allocated) << place;
            found.keys |= u64::from(is_key) << place;
            found.values |= u64::from(is_value) << place;
            found.free_bytes += if is_allocated { 0 } else { length as u64 };
            at += length;
        }
        self.note(&found);
    }

    /// Take over what begins in a block, or in a part of one.
    #[inline]
    fn note(&mut self, found: &BlockCells) {
        self.starts.insert_all(found.block, found.starts);
        self.allocated.insert_all(found.block, found.allocated);
        self.units
            .insert_all(found.block, found.keys | found.values);
        let count = |bits: u64| u64::from(bits.count_ones());
        let counts = &mut self.counts;
        counts.allocated += count(found.allocated);
        counts.free += count(found.starts & !found.allocated);
        counts.free_bytes += found.free_bytes;
        counts.keys += count(found.keys);
        counts.values += count(found.values);
    }

    /// Everything from `at` to the next page that begins like a bin; pages of zeros at the very end of
    /// the area are no damage but room that was never used.
    fn skip_damaged_pages(&mut self, area: &[u8], at: usize) -> usize {
        let next = (at + PAGE_BYTES..area.len())
            .step_by(PAGE_BYTES)
            .find(|page| {
                area.get(*page..)
                    .is_some_and(|page| page.starts_with(b"hbin"))
            })
            .unwrap_or(area.len());
        let mut end = next;
        if next == area.len() {
            while end > at {
                let page = at.max((end - 1) / PAGE_BYTES * PAGE_BYTES);
                if !all_zero(area.get(page..end).unwrap_or_default()) {
                    break;
                }
                end = page;
            }
        }
        if end > at {
            self.damaged.push(Region {
                start: at,
                end,
                reason: Reason::BinDamaged,
            });
        }
        next
    }
}

/// The size of the valid bin at `at`.
fn bin_size(area: &[u8], at: usize) -> Option<usize> {
    if !area.get(at..)?.starts_with(b"hbin") {
        return None;
    }
    let size = u32_at(area, at + 8)? as usize;
    let fits = size > 0 && size.is_multiple_of(PAGE_BYTES) && size <= area.len() - at;
    fits.then_some(size)
}

/// The next allocated cell of a known kind behind `at`, or the end of the bin.
fn next_known_cell(area: &[u8], at: usize, end: usize) -> usize {
    let is_known = |place: &usize| {
        array_at(area, place + 4).is_some_and(|signature| SIGNATURES.contains(&signature))
            && size_at(area, *place, end).is_some_and(|size| size < 0)
    };
    (at + 8..end).step_by(8).find(is_known).unwrap_or(end)
}
