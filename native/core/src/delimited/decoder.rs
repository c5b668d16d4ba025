//! `text.delimited`: records to the rows of a contract.

use std::sync::Arc;

use arrow_array::RecordBatch;
use memchr::memchr;

use super::directive;
use super::drift::header_difference;
use super::{Fault, Kind, Record, Records};
use crate::dataset::{Column, Dataset, Misfit, Output, Rows, Source, TextForm, cell_index};
use crate::error::CoreError;
use crate::source::ReadAt;

/// Decodes one source, batch by batch.
///
/// The first record, or a comment that names the cells, decides which of the contract's headers the file has; when it is none of
/// them, the source as a whole fails. After that a record is a row, or is set aside with the first reason that holds: `text.too_long`, `text.quote`, `text.encoding`,
/// `text.nul`, `text.cells`, `contract.type`.
#[derive(Debug)]
pub struct DelimitedDecoder<S> {
    records: Records<S>,
    dataset: Arc<Dataset>,
    rows: Rows,
    /// Of each column, the cell that it comes from; known with the first record.
    plan: Option<Plan>,
    is_finished: bool,
}

#[derive(Debug)]
struct Plan {
    /// How many cells a record has.
    cells: usize,
    /// Of each column; none where this header lacks it.
    sources: Vec<Option<usize>>,
}

impl Plan {
    fn of(dataset: &Dataset, header: &[String]) -> Self {
        let source = |source: &Source| match source {
            Source::Cell(name) => cell_index(header, name),
            Source::Path(_) => None,
        };
        let columns = dataset.columns.iter();
        Self {
            cells: header.len(),
            sources: columns.map(|column| source(&column.source)).collect(),
        }
    }
}

impl<S: ReadAt> DelimitedDecoder<S> {
    /// Read `source` as the contract says.
    ///
    /// # Errors
    /// [`CoreError::Contract`]: the dataset is not one of delimited text.
    pub fn new(
        source: S,
        dataset: Arc<Dataset>,
        batch_rows: usize,
        batch_bytes: usize,
    ) -> Result<Self, CoreError> {
        let TextForm::Delimited { layout, .. } = &dataset.form else {
            return Err(CoreError::Contract {
                reason: "it is of another parser".to_owned(),
            });
        };
        Ok(Self {
            records: Records::new(source, layout)?,
            rows: Rows::new(&dataset, batch_rows, batch_bytes),
            dataset,
            plan: None,
            is_finished: false,
        })
    }

    /// The next batch.
    ///
    /// # Errors
    /// [`CoreError::Drift`]: the header is not one that the contract knows. Else the first error of a read.
    pub fn next_batch(&mut self) -> Result<Option<(Output, RecordBatch)>, CoreError> {
        loop {
            if let Some(ready) = self.rows.take_ready() {
                return Ok(Some(ready));
            }
            if self.is_finished {
                return Ok(None);
            }
            let Some(record) = self.records.next()? else {
                self.is_finished = true;
                self.rows.finish()?;
                continue;
            };
            if !matches!(record.kind, Kind::Row | Kind::Faulty(_)) {
                if let Some(named) = plan_of_directive(&self.dataset, &record)? {
                    self.plan = Some(named);
                }
                continue;
            }
            let plan = match &self.plan {
                Some(plan) => plan,
                None => {
                    let (plan, is_header) = plan(&self.dataset, &record)?;
                    let plan = self.plan.insert(plan);
                    if is_header {
                        continue;
                    }
                    plan
                }
            };
            let (offset, length) = (record.offset, record.length);
            match row(&self.dataset, plan, &record, &mut self.rows.columns) {
                Ok(()) => self.rows.keep(offset, length)?,
                Err(misfit) => self.rows.set_aside(offset, length, misfit)?,
            }
        }
    }
}

/// What the first record says of all others, and whether it is a header.
fn plan(dataset: &Dataset, record: &Record<'_>) -> Result<(Plan, bool), CoreError> {
    let TextForm::Delimited { layout, headers } = &dataset.form else {
        return Err(CoreError::Contract {
            reason: "it is of another parser".to_owned(),
        });
    };
    let drift = |difference: String| CoreError::Drift {
        difference,
        offset: record.offset,
    };
    let header = if layout.header {
        let found = header_cells(record)
            .map_err(|misfit| drift(format!("the header cannot be read: {}", misfit.message)))?;
        let known = headers.iter().find(|header| **header == found);
        known.ok_or_else(|| drift(header_difference(&found, headers)))?
    } else {
        let width = record.len();
        let mut known = headers.iter().filter(|header| header.len() == width);
        let first = known.next();
        if first.is_some() && known.next().is_some() {
            return Err(drift(format!(
                "nothing names the {width} cells of its records, and the contract knows several such headers"
            )));
        }
        first.ok_or_else(|| {
            let widths: Vec<_> = headers
                .iter()
                .map(|header| header.len().to_string())
                .collect();
            let known = widths.join(" or ");
            drift(format!(
                "the first record has {width} cells, the contract knows {known}"
            ))
        })?
    };
    Ok((Plan::of(dataset, header), layout.header))
}

/// What a comment that names cells says of the records below it.
fn plan_of_directive(dataset: &Dataset, record: &Record<'_>) -> Result<Option<Plan>, CoreError> {
    let TextForm::Delimited { layout, headers } = &dataset.form else {
        return Ok(None);
    };
    let Some(found) = directive::names(record, layout) else {
        return Ok(None);
    };
    match headers.iter().find(|header| **header == found) {
        Some(header) => Ok(Some(Plan::of(dataset, header))),
        None => Err(CoreError::Drift {
            difference: header_difference(&found, headers),
            offset: record.offset,
        }),
    }
}

/// The texts of a header's cells.
fn header_cells(record: &Record<'_>) -> Result<Vec<String>, Misfit> {
    check(record)?;
    Ok((0..record.len())
        .map(|index| String::from_utf8_lossy(&record.cell(index)).into_owned())
        .collect())
}

/// Whether the record's cells are what the file says, and text.
#[inline]
fn check(record: &Record<'_>) -> Result<(), Misfit> {
    let (reason, message) = match record.kind {
        Kind::Faulty(Fault::TooLong) => ("text.too_long", "the record does not end within 8 MiB"),
        Kind::Faulty(Fault::Unbalanced) => ("text.quote", "a quote is opened and not closed"),
        Kind::Faulty(Fault::BehindQuote) => (
            "text.quote",
            "something stands between a closing quote and the end of its cell",
        ),
        _ if std::str::from_utf8(record.text()).is_err() => (
            "text.encoding",
            "the record holds bytes that are no characters of its encoding",
        ),
        _ if memchr(0, record.text()).is_some() => (
            "text.nul",
            "the record holds NUL characters, as zeroed or binary parts of a file do",
        ),
        _ => return Ok(()),
    };
    Err(Misfit::of_unit(reason, message))
}

/// Append one value to each column; what was appended of a record that does not fit must be cut off again.
fn row(
    dataset: &Dataset,
    plan: &Plan,
    record: &Record<'_>,
    columns: &mut [Column],
) -> Result<(), Misfit> {
    check(record)?;
    if record.len() != plan.cells {
        let message = format!(
            "the record has {} cells, the header {}",
            record.len(),
            plan.cells
        );
        return Err(Misfit::of_unit("text.cells", message));
    }
    for (number, (column, source)) in columns.iter_mut().zip(&plan.sources).enumerate() {
        let Some(cell) = *source else {
            column.push_null();
            continue;
        };
        let spec = &dataset.columns[number];
        let raw = record.raw(cell);
        // `\N` is null as it is written; without its escape it would be a letter.
        if spec.nulls.holds(raw) {
            column.push_null();
            continue;
        }
        let fits = if record.is_escaped(cell) {
            let value = record.cell(cell);
            if spec.nulls.holds(&value) {
                column.push_null();
                continue;
            }
            spec.format
                .read(&value)
                .is_some_and(|value| column.push(value))
        } else {
            spec.format
                .read(raw)
                .is_some_and(|value| column.push(value))
        };
        if !fits {
            return Err(Misfit::of_value(dataset, number, &record.cell(cell)));
        }
    }
    Ok(())
}
