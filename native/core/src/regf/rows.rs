//! Rows of keys, and what rows of values have in common with them.

use std::sync::Arc;

use arrow_array::types::{TimestampNanosecondType, UInt32Type, UInt64Type};
use arrow_array::{ArrayRef, RecordBatch};

use super::columns::{ListColumn, NumberColumn, TextColumn};
use super::node::{Key, NOWHERE};
use super::problem::Problems;
use super::schema::keys_schema;
use super::security::Security;
use crate::error::CoreError;
use crate::evtx::filetime;
use crate::flags::{self, Flags};
use crate::schema::{UTC, text_item};

/// Bytes that a path has, about.
pub(super) const PATH_BYTES_USUAL: usize = 96;
/// Bytes that a row has in columns of fixed width, about.
pub(super) const FIXED_BYTES_PER_ROW: usize = 128;

/// How a row's cell was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// Reached from the root.
    Live,
    /// Allocated, but nothing leads to it.
    Orphaned,
    /// In a free cell, in the slack of a cell, or behind the bins.
    Deleted,
    /// In the hive's file, but the logs remove it.
    Superseded,
}

impl State {
    pub(super) const COUNT: usize = 4;

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Orphaned => "orphaned",
            Self::Deleted => "deleted",
            Self::Superseded => "superseded",
        }
    }
}

/// Where a row comes from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    /// From the first bin.
    pub(super) cell: u32,
    /// From the beginning of the file, in bytes.
    pub(super) offset: u64,
    pub(super) length: u64,
    pub(super) flags: Flags,
    pub(super) state: State,
    pub(super) from_log: Option<&'static str>,
}

/// The columns that both outputs end with.
#[derive(Debug)]
pub(super) struct Found {
    /// Runs of rows in the same state.
    states: Vec<(State, usize)>,
    from_log: TextColumn,
    problems: ListColumn,
}

impl Found {
    pub(super) fn new() -> Self {
        Self {
            states: Vec::new(),
            from_log: TextColumn::new(),
            problems: ListColumn::new(),
        }
    }

    /// The column `state`.
    fn finish_states(&mut self) -> Result<ArrayRef, CoreError> {
        let mut column = TextColumn::new();
        for (state, count) in self.states.drain(..) {
            column.push_repeated(state.name().as_bytes(), count);
        }
        Ok(column.finish_text()?)
    }

    /// `state`, `from_log` and `problems`.
    pub(super) fn finish(&mut self) -> Result<[ArrayRef; 3], CoreError> {
        Ok([
            self.finish_states()?,
            self.from_log.finish_text()?,
            self.problems.finish(text_item())?,
        ])
    }

    #[inline]
    pub(super) fn push(&mut self, place: &Place, problems: Problems) {
        match self.states.last_mut() {
            Some((state, count)) if *state == place.state => *count += 1,
            _ => self.states.push((place.state, 1)),
        }
        self.from_log.push_text(place.from_log);
        if problems.is_none() {
            self.problems.push_null();
        } else {
            self.problems.push_texts(problems.codes());
        }
    }
}

/// The columns of `registry_keys`.
#[derive(Debug)]
pub(super) struct KeyRows {
    offset: NumberColumn<UInt64Type>,
    length: NumberColumn<UInt64Type>,
    flags: NumberColumn<UInt32Type>,
    key_path: TextColumn,
    found: Found,
    name: TextColumn,
    last_write: NumberColumn<TimestampNanosecondType>,
    key_flags: NumberColumn<UInt32Type>,
    class_name: TextColumn,
    owner: TextColumn,
    group: TextColumn,
    security_cell: NumberColumn<UInt32Type>,
    /// Subkeys, values, own cell.
    counts: [NumberColumn<UInt32Type>; 3],
    parent_cell: NumberColumn<UInt32Type>,
    depth: NumberColumn<UInt32Type>,
}

/// What a key's row says besides the key itself.
#[derive(Debug, Clone, Copy)]
pub(super) struct KeyContext<'a> {
    pub(super) path: &'a [u8],
    pub(super) class: Option<&'a [u8]>,
    pub(super) security: &'a Security,
    pub(super) parent: Option<u32>,
    pub(super) depth: u32,
    pub(super) problems: Problems,
}

/// A reference, unless it is one to nothing.
fn reference(place: u32) -> Option<u32> {
    (place != NOWHERE).then_some(place)
}

impl KeyRows {
    pub(super) fn new() -> Self {
        Self {
            offset: NumberColumn::new(),
            length: NumberColumn::new(),
            flags: NumberColumn::new(),
            key_path: TextColumn::new(),
            found: Found::new(),
            name: TextColumn::new(),
            last_write: NumberColumn::new(),
            key_flags: NumberColumn::new(),
            class_name: TextColumn::new(),
            owner: TextColumn::new(),
            group: TextColumn::new(),
            security_cell: NumberColumn::new(),
            counts: std::array::from_fn(|_| NumberColumn::new()),
            parent_cell: NumberColumn::new(),
            depth: NumberColumn::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.depth.len()
    }

    /// Make room for a batch.
    pub(super) fn reserve(&mut self, rows: usize) {
        self.offset.reserve(rows);
        self.length.reserve(rows);
        self.flags.reserve(rows);
        self.key_path.reserve(rows, PATH_BYTES_USUAL);
        self.name.reserve(rows, 16);
        self.last_write.reserve(rows);
        self.key_flags.reserve(rows);
        self.owner.reserve(rows, 12);
        self.group.reserve(rows, 12);
        self.security_cell.reserve(rows);
        for column in &mut self.counts {
            column.reserve(rows);
        }
        self.parent_cell.reserve(rows);
        self.depth.reserve(rows);
    }

    /// How many bytes the columns hold, about.
    pub(super) fn byte_size(&self) -> usize {
        self.key_path.bytes.len()
            + self.name.bytes.len()
            + self.class_name.bytes.len()
            + self.len() * (FIXED_BYTES_PER_ROW + 64)
    }

    pub(super) fn push(&mut self, place: &Place, key: &Key<'_>, context: &KeyContext<'_>) {
        let mut problems = context.problems;
        let mut flags = flags::NONE;
        let mut lossy = key.name.push_to(&mut self.name.bytes);
        self.name.push();
        let last_write = filetime(key.last_write);
        if last_write.is_none() && key.last_write != 0 {
            problems.add(Problems::TIME_STRANGE);
        }
        self.last_write.push(last_write);
        self.key_flags.push_known(u32::from(key.flags));
        match context.class {
            Some(class) => {
                lossy |= crate::evtx::push_utf16(&mut self.class_name.bytes, class);
                self.class_name.push();
            }
            None => self.class_name.push_null(),
        }
        self.owner.push_text(context.security.owner.as_deref());
        self.group.push_text(context.security.group.as_deref());
        self.security_cell.push(reference(key.security));
        let counts = [key.subkey_count, key.value_count, place.cell];
        for (column, count) in self.counts.iter_mut().zip(counts) {
            column.push_known(count);
        }
        self.parent_cell.push(context.parent);
        self.depth.push_known(context.depth);
        if lossy {
            flags |= flags::LOSSY_TEXT;
        }
        self.offset.push_known(place.offset);
        self.length.push_known(place.length);
        self.flags.push_known(place.flags | flags);
        self.key_path.push_value(context.path);
        self.found.push(place, problems);
    }

    /// All rows as one batch; no row is left.
    pub(super) fn finish(&mut self) -> Result<RecordBatch, CoreError> {
        let [state, from_log, problems] = self.found.finish()?;
        let [subkeys, values, cell] = &mut self.counts;
        let columns: Vec<ArrayRef> = vec![
            self.offset.finish_ref(),
            self.length.finish_ref(),
            self.flags.finish_ref(),
            self.key_path.finish_text()?,
            self.name.finish_text()?,
            Arc::new(self.last_write.finish().with_timezone(UTC)),
            self.key_flags.finish_ref(),
            self.class_name.finish_text()?,
            self.owner.finish_text()?,
            self.group.finish_text()?,
            self.security_cell.finish_ref(),
            subkeys.finish_ref(),
            values.finish_ref(),
            cell.finish_ref(),
            self.parent_cell.finish_ref(),
            self.depth.finish_ref(),
            state,
            from_log,
            problems,
        ];
        Ok(RecordBatch::try_new(keys_schema(), columns)?)
    }
}
