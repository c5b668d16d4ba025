//! Which value of an event goes to which column, found once for each sequence of names.
//!
//! Events of one template have the same names in the same order: the names of a row are compared as a whole with those that
//! were met before, and looked up one by one only when they are new.

use std::collections::HashMap;

use arrow_array::{Array, StringArray};

use super::registry::WideTable;

/// Sequences of names that are remembered for each table; a template's versions are few.
const LAYOUTS_MAX: usize = 8;
/// Values of an event, and bytes of their names, beyond which no column is looked for: no event of the list has as many.
const VALUES_MAX: usize = 1_024;
const NAME_BYTES_MAX: usize = 16 << 10;
/// No column.
pub(super) const NO_COLUMN: u16 = u16::MAX;

/// A sequence of names and the column of each value.
#[derive(Debug)]
struct Layout {
    /// All names, one behind the other.
    names: Box<[u8]>,
    /// Where each name ends in them.
    ends: Box<[i32]>,
    /// Whether each value has a name.
    named: Box<[bool]>,
    /// The column of each value, or [`NO_COLUMN`].
    columns: Box<[u16]>,
}

/// The sequences that were met.
#[derive(Debug, Default)]
pub(super) struct Layouts {
    known: Vec<Layout>,
    /// The one that was used last.
    last: usize,
}

impl Layouts {
    /// The column of each of the values `first..end`, whose names are in `names`; nothing when there are too many.
    pub(super) fn columns(
        &mut self,
        table: &WideTable,
        names: &StringArray,
        first: usize,
        end: usize,
    ) -> &[u16] {
        if end - first > VALUES_MAX || bytes(names, first, end).len() > NAME_BYTES_MAX {
            return &[];
        }
        let matches = |layout: &Layout| is_layout(layout, names, first, end);
        let found = match self.known.get(self.last) {
            Some(layout) if matches(layout) => self.last,
            _ => match self.known.iter().position(matches) {
                Some(position) => position,
                None => self.learn(table, names, first, end),
            },
        };
        self.last = found;
        self.known.get(found).map_or(&[], |layout| &layout.columns)
    }

    fn learn(&mut self, table: &WideTable, names: &StringArray, first: usize, end: usize) -> usize {
        if self.known.len() >= LAYOUTS_MAX {
            self.known.clear();
        }
        let mut layout = Vec::with_capacity(end - first);
        let mut seen: HashMap<Option<&str>, usize> = HashMap::new();
        for item in first..end {
            let name = names.is_valid(item).then(|| names.value(item));
            let occurrence = seen.entry(name).or_default();
            *occurrence += 1;
            let column = table
                .columns
                .iter()
                .position(|column| column.source == name && column.occurrence == *occurrence);
            layout.push(column.map_or(NO_COLUMN, |position| position as u16));
        }
        let offsets = names.value_offsets();
        let start = offsets.get(first).copied().unwrap_or_default();
        self.known.push(Layout {
            names: bytes(names, first, end).into(),
            ends: (first..end).map(|item| offsets[item + 1] - start).collect(),
            named: (first..end).map(|item| names.is_valid(item)).collect(),
            columns: layout.into(),
        });
        self.known.len() - 1
    }
}

/// The bytes of all names.
fn bytes(names: &StringArray, first: usize, end: usize) -> &[u8] {
    let offsets = names.value_offsets();
    let range = offsets[first] as usize..offsets[end] as usize;
    names.value_data().get(range).unwrap_or_default()
}

fn is_layout(layout: &Layout, names: &StringArray, first: usize, end: usize) -> bool {
    if layout.ends.len() != end - first || *layout.names != *bytes(names, first, end) {
        return false;
    }
    let offsets = names.value_offsets();
    let start = offsets[first];
    let ends = &offsets[first + 1..=end];
    ends.iter()
        .zip(&layout.ends)
        .all(|(found, end)| found - start == *end)
        && (names.null_count() == 0 && layout.named.iter().all(|named| *named)
            || (first..end)
                .zip(&layout.named)
                .all(|(item, named)| names.is_valid(item) == *named))
}
