//! Rows of a dataset's table, and the units that became none, on their way out.

use std::collections::VecDeque;
use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch, StringArray, UInt32Array, UInt64Array, new_null_array};
use arrow_schema::{DataType, Field, Schema, SchemaRef};

use super::{Column, Dataset};
use crate::error::CoreError;
use crate::flags::{Flags, NONE};

const VALUE_CHARACTERS_MAX: usize = 80;

/// Which table a batch belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// The dataset's own.
    Rows,
    /// Units that became no row.
    Quarantine,
}

/// Why a unit became no row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Misfit {
    /// A stable slug: `contract.type`, `text.cells`, …
    pub reason: &'static str,
    /// Number of the column, when it is about one.
    pub column: Option<usize>,
    /// In words.
    pub message: String,
}

impl Misfit {
    /// About the unit as a whole.
    pub fn of_unit(reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            reason,
            column: None,
            message: message.into(),
        }
    }

    /// A value that is not what its column holds.
    pub fn of_value(dataset: &Dataset, column: usize, value: &[u8]) -> Self {
        let spec = &dataset.columns[column];
        Self {
            reason: "contract.type",
            column: Some(column),
            message: format!(
                "`{}` is `{}`, which is not {}",
                spec.name,
                shown(value),
                spec.wanted
            ),
        }
    }
}

/// A value as a message shows it: its beginning, one character for each that cannot be decoded.
pub(crate) fn shown(value: &[u8]) -> String {
    let cut = &value[..value.len().min(VALUE_CHARACTERS_MAX * 4)];
    let text = String::from_utf8_lossy(cut);
    let mut shown: String = text.chars().take(VALUE_CHARACTERS_MAX).collect();
    if shown.len() < text.len() || cut.len() < value.len() {
        shown.push('…');
    }
    shown
}

/// Collects rows, and gives batches of them.
#[derive(Debug)]
pub struct Rows {
    schema: SchemaRef,
    names: Vec<String>,
    /// The dataset's columns; the row in work is their last, once it is begun.
    pub columns: Vec<Column>,
    offsets: Vec<u64>,
    lengths: Vec<u64>,
    flags: Vec<u32>,
    aside: Aside,
    ready: VecDeque<(Output, RecordBatch)>,
    batch_rows: usize,
    batch_bytes: usize,
}

#[derive(Debug, Default)]
struct Aside {
    offsets: Vec<u64>,
    lengths: Vec<u64>,
    reasons: Vec<&'static str>,
    fields: Vec<Option<String>>,
    messages: Vec<String>,
}

impl Rows {
    /// No rows yet. A batch is finished when it has so many rows, or about so many bytes.
    #[must_use]
    pub fn new(dataset: &Dataset, batch_rows: usize, batch_bytes: usize) -> Self {
        let columns: Vec<_> = dataset
            .columns
            .iter()
            .map(|c| Column::new(&c.format))
            .collect();
        let mut fields = bookkeeping();
        for (spec, column) in dataset.columns.iter().zip(&columns) {
            fields.push(Field::new(&spec.name, column.data_type().clone(), true));
        }
        Self {
            schema: Arc::new(Schema::new(fields)),
            names: dataset.columns.iter().map(|c| c.name.clone()).collect(),
            columns,
            offsets: Vec::new(),
            lengths: Vec::new(),
            flags: Vec::new(),
            aside: Aside::default(),
            ready: VecDeque::new(),
            batch_rows: batch_rows.max(1),
            batch_bytes: batch_bytes.max(1),
        }
    }

    /// Keep the row whose values were appended to the columns.
    ///
    /// # Errors
    /// [`CoreError::Arrow`]: a bug.
    pub fn keep(&mut self, offset: u64, length: u64) -> Result<(), CoreError> {
        self.offsets.push(offset);
        self.lengths.push(length);
        self.flags.push(NONE as Flags);
        debug_assert!(
            self.columns
                .iter()
                .all(|column| column.len() == self.flags.len())
        );
        let rows = self.flags.len();
        // Texts are counted now and then only: a row of them is small.
        if rows >= self.batch_rows || (rows.is_multiple_of(64) && self.bytes() >= self.batch_bytes)
        {
            self.finish_rows()?;
        }
        Ok(())
    }

    fn bytes(&self) -> usize {
        let texts: usize = self.columns.iter().map(Column::text_bytes).sum();
        texts + self.flags.len() * (20 + 8 * self.columns.len())
    }

    /// Set a unit aside; what was appended of it to the columns is taken back.
    ///
    /// # Errors
    /// [`CoreError::Arrow`]: a bug.
    pub fn set_aside(&mut self, offset: u64, length: u64, misfit: Misfit) -> Result<(), CoreError> {
        let rows = self.flags.len();
        for column in &mut self.columns {
            column.truncate(rows);
        }
        self.aside.offsets.push(offset);
        self.aside.lengths.push(length);
        self.aside.reasons.push(misfit.reason);
        let field = misfit.column.map(|column| self.names[column].clone());
        self.aside.fields.push(field);
        self.aside.messages.push(misfit.message);
        if self.aside.offsets.len() >= self.batch_rows.min(4_096) {
            self.finish_aside()?;
        }
        Ok(())
    }

    /// A finished batch, the oldest first.
    pub fn take_ready(&mut self) -> Option<(Output, RecordBatch)> {
        self.ready.pop_front()
    }

    /// Finish what is left.
    ///
    /// # Errors
    /// [`CoreError::Arrow`]: a bug.
    pub fn finish(&mut self) -> Result<(), CoreError> {
        self.finish_rows()?;
        self.finish_aside()
    }

    fn finish_rows(&mut self) -> Result<(), CoreError> {
        if self.flags.is_empty() {
            return Ok(());
        }
        let mut arrays: Vec<ArrayRef> = vec![
            Arc::new(UInt64Array::from(std::mem::take(&mut self.offsets))),
            Arc::new(UInt64Array::from(std::mem::take(&mut self.lengths))),
            Arc::new(UInt32Array::from(std::mem::take(&mut self.flags))),
        ];
        for column in &mut self.columns {
            arrays.push(column.finish()?);
        }
        let batch = RecordBatch::try_new(Arc::clone(&self.schema), arrays)?;
        self.ready.push_back((Output::Rows, batch));
        Ok(())
    }

    fn finish_aside(&mut self) -> Result<(), CoreError> {
        let count = self.aside.offsets.len();
        if count == 0 {
            return Ok(());
        }
        let aside = std::mem::take(&mut self.aside);
        let mut fields = bookkeeping();
        for (name, kind) in [
            ("reason", DataType::Utf8),
            ("field", DataType::Utf8),
            ("message", DataType::Utf8),
            // The host reads the bytes itself: it has the file.
            ("raw", DataType::Binary),
        ] {
            fields.push(Field::new(name, kind, true));
        }
        let arrays: Vec<ArrayRef> = vec![
            Arc::new(UInt64Array::from(aside.offsets)),
            Arc::new(UInt64Array::from(aside.lengths)),
            Arc::new(UInt32Array::from(vec![NONE; count])),
            Arc::new(StringArray::from(aside.reasons)),
            Arc::new(StringArray::from(aside.fields)),
            Arc::new(StringArray::from(aside.messages)),
            new_null_array(&DataType::Binary, count),
        ];
        let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays)?;
        self.ready.push_back((Output::Quarantine, batch));
        Ok(())
    }
}

fn bookkeeping() -> Vec<Field> {
    vec![
        Field::new("@offset", DataType::UInt64, false),
        Field::new("@length", DataType::UInt64, false),
        Field::new("@flags", DataType::UInt32, false),
    ]
}
