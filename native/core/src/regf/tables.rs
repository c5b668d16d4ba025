//! Rows of the smaller outputs: the hive itself, and what its logs change.

use std::sync::Arc;

use arrow_array::types::{TimestampNanosecondType, UInt32Type, UInt64Type};
use arrow_array::{ArrayRef, RecordBatch};

use super::base::BaseBlock;
use super::columns::{BoolColumn, ListColumn, NumberColumn, TextColumn};
use super::log::Log;
use super::problem::Problems;
use super::schema::{HIVE_COUNTS, changes_schema, hives_schema};
use crate::error::CoreError;
use crate::evtx::filetime;
use crate::schema::{UTC, text_item};

/// What the row of a hive says.
#[derive(Debug)]
pub(super) struct HiveFacts<'f> {
    pub(super) base: &'f BaseBlock,
    /// Bytes of the base block that are there.
    pub(super) length: u64,
    pub(super) hive_type: Option<&'static str>,
    pub(super) root_name: Option<Vec<u8>>,
    pub(super) is_recovered: bool,
    /// In the order of [`HIVE_COUNTS`].
    pub(super) counts: [u64; HIVE_COUNTS.len()],
    pub(super) logs: &'f [Log],
    pub(super) problems: Problems,
}

/// The only row of `registry_hives`.
pub(super) fn hive_batch(facts: &HiveFacts<'_>) -> Result<RecordBatch, CoreError> {
    let base = facts.base;
    let number = |value: u32| -> ArrayRef {
        let mut column = NumberColumn::<UInt32Type>::new();
        column.push(value);
        column.finish_ref()
    };
    let long = |value: u64| -> ArrayRef {
        let mut column = NumberColumn::<UInt64Type>::new();
        column.push(value);
        column.finish_ref()
    };
    let truth = |value: bool| -> ArrayRef {
        let mut column = BoolColumn::default();
        column.push(value);
        column.finish_ref()
    };
    let time = |value: Option<i64>| -> ArrayRef {
        let mut column = NumberColumn::<TimestampNanosecondType>::new();
        column.push(value);
        Arc::new(column.finish().with_timezone(UTC))
    };
    let text = |value: Option<&[u8]>| -> Result<ArrayRef, CoreError> {
        let mut column = TextColumn::new();
        match value {
            Some(value) => column.push_value(value),
            None => column.push_null(),
        }
        Ok(column.finish_text()?)
    };
    let mut file_name = Vec::new();
    crate::evtx::push_utf16(&mut file_name, &base.file_name);
    let mut columns = vec![
        long(0),
        long(facts.length),
        number(0),
        text(facts.hive_type.map(str::as_bytes))?,
        text(Some(file_name.as_slice()).filter(|name| !name.is_empty()))?,
        text(facts.root_name.as_deref())?,
        number(base.primary_sequence),
        number(base.secondary_sequence),
        truth(base.is_dirty()),
        truth(facts.is_recovered),
        truth(base.checksum_ok),
        time(filetime(base.last_written)),
        time(base.reorganized_at()),
        number(base.major_version),
        number(base.minor_version),
    ];
    columns.extend(facts.counts.iter().map(|count| long(*count)));
    let mut lists = [ListColumn::new(), ListColumn::new(), ListColumn::new()];
    let [roles, verdicts, sequences] = &mut lists;
    for log in facts.logs {
        roles.items.push_text(Some(log.role.name()));
        verdicts.items.push_text(Some(log.verdict.code()));
        let range = log.sequences.map(|(first, last)| format!("{first}-{last}"));
        sequences.items.push_text(range.as_deref());
    }
    for list in &mut lists {
        list.push();
        columns.push(list.finish(text_item())?);
    }
    let mut problems = ListColumn::new();
    if facts.problems.is_none() {
        problems.push_null();
    } else {
        problems.push_texts(facts.problems.codes());
    }
    columns.push(problems.finish(text_item())?);
    Ok(RecordBatch::try_new(hives_schema(), columns)?)
}

/// One thing that the logs change.
#[derive(Debug, Clone, Copy)]
pub(super) struct Change<'c> {
    /// The cell that holds it, after the change unless it is removed.
    pub(super) offset: u64,
    pub(super) length: u64,
    /// `added`, `removed` or `modified`.
    pub(super) change: &'static str,
    /// `key` or `value`.
    pub(super) subject: &'static str,
    pub(super) key_path: &'c str,
    pub(super) value_name: Option<&'c str>,
    /// Text and type.
    pub(super) before: Option<(&'c str, &'c str)>,
    pub(super) after: Option<(&'c str, &'c str)>,
    pub(super) from_log: Option<&'static str>,
}

/// The columns of `registry_changes`.
#[derive(Debug)]
pub(super) struct ChangeRows {
    places: [NumberColumn<UInt64Type>; 2],
    flags: NumberColumn<UInt32Type>,
    texts: [TextColumn; 9],
}

impl ChangeRows {
    pub(super) fn new() -> Self {
        Self {
            places: std::array::from_fn(|_| NumberColumn::new()),
            flags: NumberColumn::new(),
            texts: std::array::from_fn(|_| TextColumn::new()),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.flags.len()
    }

    /// How many bytes the columns hold, about.
    pub(super) fn byte_size(&self) -> usize {
        let texts: usize = self.texts.iter().map(|text| text.bytes.len()).sum();
        texts + self.len() * 64
    }

    pub(super) fn push(&mut self, change: &Change<'_>) {
        let [offset, length] = &mut self.places;
        offset.push(change.offset);
        length.push(change.length);
        self.flags.push(0);
        let values = [
            Some(change.change),
            Some(change.subject),
            Some(change.key_path),
            change.value_name,
            change.before.map(|(text, _)| text),
            change.before.map(|(_, kind)| kind),
            change.after.map(|(text, _)| text),
            change.after.map(|(_, kind)| kind),
            change.from_log,
        ];
        for (column, value) in self.texts.iter_mut().zip(values) {
            column.push_text(value);
        }
    }

    /// All rows as one batch; no row is left.
    pub(super) fn finish(&mut self) -> Result<RecordBatch, CoreError> {
        let mut columns = Vec::with_capacity(12);
        columns.extend(self.places.iter_mut().map(NumberColumn::finish_ref));
        columns.push(self.flags.finish_ref());
        for text in &mut self.texts {
            columns.push(text.finish_text()?);
        }
        Ok(RecordBatch::try_new(changes_schema(), columns)?)
    }
}
