//! Where a big file may be cut, so that no record is parted.

use super::{Layout, Records};
use crate::error::CoreError;
use crate::source::ReadAt;

/// Cuts a source at beginnings of units, so that several can read it at once: iterate to get (start, end) in bytes.
///
/// Finding a cut means reading everything before it, since only that tells whether a line lies within quotes; no cell is looked
/// at, which is several times as fast as reading them. Parts are at least `part_bytes` long, but for the last.
#[derive(Debug)]
pub struct Borders<S> {
    records: Records<S>,
    length: u64,
    part_bytes: u64,
}

impl<S: ReadAt> Borders<S> {
    /// Cut `source` in parts of so many bytes, or a little more.
    ///
    /// # Errors
    /// As of [`Records::new`].
    pub fn new(source: S, layout: &Layout, part_bytes: u64) -> Result<Self, CoreError> {
        let length = source.len();
        Ok(Self {
            records: Records::new(source, layout)?,
            length,
            part_bytes,
        })
    }

    /// The next part.
    ///
    /// # Errors
    /// The first error of a read.
    pub fn next_part(&mut self) -> Result<Option<(u64, u64)>, CoreError> {
        let start = self.records.offset();
        if start >= self.length {
            return Ok(None);
        }
        let until = start.saturating_add(self.part_bytes);
        while self.records.offset() < until {
            if self.records.next()?.is_none() {
                break;
            }
        }
        Ok(Some((start, self.records.offset())))
    }
}
