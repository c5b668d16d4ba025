//! A hive at rest: its image, how it is cut into cells, and how references are followed in it.

use super::bits::Places;
use super::cells::{Cells, size_at};
use super::data::Lookup;
use super::image::{Cell, Image};
use super::node::{KEY_ROOT, Key};
use super::problem::Problems;
use crate::bytes::array_at;

/// An image and its cells.
#[derive(Debug, Default)]
pub(super) struct Hive {
    pub(super) image: Image,
    pub(super) cells: Cells,
    pub(super) root: Option<u32>,
    /// What is wrong with the root.
    pub(super) problems: Problems,
}

impl Hive {
    /// Cut `image` into cells.
    pub(super) fn new(image: Image) -> Self {
        let cells = Cells::cut(image.area());
        let mut hive = Self {
            image,
            cells,
            ..Self::default()
        };
        (hive.root, hive.problems) = hive.find_root();
        hive
    }

    /// The key in the cell at `at`, allocated or not.
    #[inline]
    pub(super) fn key(&self, at: u32) -> Option<(Cell<'_>, Key<'_>)> {
        let cell = self.image.cell(at)?;
        if !cell.data.starts_with(b"nk") {
            return None;
        }
        Some((cell, Key::read(cell.data).ok()?))
    }

    /// The root: where the base block says, or else the first key that calls itself the root.
    fn find_root(&self) -> (Option<u32>, Problems) {
        let claimed = self.image.base.root_cell;
        if self.key(claimed).is_some() {
            return (Some(claimed), Problems::NONE);
        }
        let nothing = Places::default();
        let mut from = 0;
        while let Some(at) = self.cells.units.next_without(&nothing, from) {
            from = at + 8;
            let is_root = |(_, key): (Cell<'_>, Key<'_>)| key.flags & KEY_ROOT != 0;
            if self.key(at as u32).is_some_and(is_root) {
                return (Some(at as u32), Problems::HIVE_ROOT);
            }
        }
        (None, Problems::HIVE_ROOT)
    }

    /// What a reference to the cell at `place` finds of a value's data, and what is wrong with it.
    #[inline]
    pub(super) fn follow(
        &self,
        place: u32,
        lookup: Lookup,
        problems: &mut Problems,
    ) -> Option<&[u8]> {
        match lookup {
            Lookup::Live => {
                let Some(cell) = self.image.cell(place) else {
                    problems.add(Problems::DATA_UNREADABLE);
                    return None;
                };
                if !cell.is_allocated {
                    problems.add(Problems::DATA_FREE);
                }
                Some(cell.data)
            }
            Lookup::Remnant => {
                let data = self.remnant(place);
                if data.is_none() {
                    let is_inside = (place as usize) < self.image.bins().len();
                    problems.add(if is_inside {
                        Problems::DATA_REUSED
                    } else {
                        Problems::DATA_UNREADABLE
                    });
                }
                data
            }
        }
    }

    /// What is left of the freed cell at `place`: nothing when it has an owner again.
    ///
    /// A freed cell keeps its size when it is merged with the one before it, and may have been cut later.
    pub(super) fn remnant(&self, place: u32) -> Option<&[u8]> {
        let at = place as usize;
        let bins = self.image.bins();
        if !at.is_multiple_of(8) || at + 8 > bins.len() {
            return None;
        }
        let end = match self.container(at) {
            Container::Free { end } | Container::Outside { end } => end,
            Container::Allocated { .. } => return None,
        };
        let size = size_at(bins, at, end).map(|size| size.unsigned_abs() as usize);
        bins.get(at + 4..at + size.unwrap_or(end - at))
    }

    /// What owns the bytes at `at` of the bins.
    pub(super) fn container(&self, at: usize) -> Container {
        let area = self.image.area();
        if at >= area.len() {
            let end = self.image.bins().len();
            return Container::Outside { end };
        }
        if let Some(region) = self.cells.damaged_at(at) {
            return Container::Outside { end: region.end };
        }
        let Some(start) = self.cells.starts.last_up_to(at) else {
            return Container::Outside { end: area.len() };
        };
        let size = i32::from_le_bytes(array_at(area, start).unwrap_or_default());
        let end = start + size.unsigned_abs() as usize;
        if end <= at || end > area.len() {
            // Unused pages behind the last bin, or the header of a bin.
            return Container::Outside { end: area.len() };
        }
        if self.cells.allocated.contains(start) {
            Container::Allocated { start, end }
        } else {
            Container::Free { end }
        }
    }
}

/// What owns a place; ends are from the first bin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Container {
    /// An allocated cell.
    Allocated { start: usize, end: usize },
    /// A free cell.
    Free { end: usize },
    /// Damage, or bytes behind the live part.
    Outside { end: usize },
}
