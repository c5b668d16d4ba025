//! Inference over delimited text: every cell of every row, in parts of a file at once, and file after file.

use std::collections::BTreeMap;

use super::column::Column;
use super::parts::read_in_order;
use super::readings::{Reading, readings};
use super::report::{Json, cells};
use super::witness::Place;
use crate::delimited::{Borders, Kind, Layout, Records, names_of_directive};
use crate::error::CoreError;
use crate::source::ReadAt;
use crate::text::{Format, Spec};

/// Parts that a big file is read in.
const PART_BYTES: u64 = 8 << 20;
/// More different headers, or columns of one, are refused.
const HEADERS_MAX: usize = 256;
const COLUMNS_MAX: usize = 4_096;

/// What is known of a table after some files.
#[derive(Debug, Default)]
pub struct DelimitedInference {
    columns: BTreeMap<Box<[u8]>, Column>,
    /// Header rows in the order of the first file that has each.
    headers: Vec<Vec<Box<[u8]>>>,
    files: u32,
    rows: u64,
    faults: u64,
    first_fault: Option<Place>,
    part_bytes: Option<u64>,
}

/// A part of a file.
#[derive(Debug, Default)]
struct Part {
    columns: Vec<Column>,
    rows: u64,
    faults: u64,
    first_fault: Option<Place>,
}

impl DelimitedInference {
    /// Cut files in parts of so many bytes, whatever their size: the answer is the same.
    #[must_use]
    pub fn in_parts_of(mut self, bytes: u64) -> Self {
        self.part_bytes = Some(bytes);
        self
    }

    /// Take a file into account; files are given in the order of their names.
    ///
    /// # Errors
    /// The first error of a read; more headers or columns than there can be.
    pub fn add<S: ReadAt + Sync>(
        &mut self,
        source: &S,
        layout: &Layout,
        threads: usize,
    ) -> Result<(), CoreError> {
        let file = self.files;
        let mut start = 0;
        let mut header: Vec<Box<[u8]>> = Vec::new();
        let mut records = Records::new(source, layout)?;
        let mut named = Vec::new();
        while let Some(record) = records.next()? {
            if record.kind != Kind::Row {
                if let Some(names) = names_of_directive(&record, layout) {
                    named = names;
                }
                continue;
            }
            if record.len() > COLUMNS_MAX {
                return Err(CoreError::Limit {
                    what: "columns",
                    limit: COLUMNS_MAX as u64,
                    offset: record.offset,
                });
            }
            for index in 0..record.len() {
                header.push(if layout.header {
                    record.cell(index).as_ref().into()
                } else if named.len() == record.len() {
                    named[index].as_bytes().into()
                } else {
                    format!("c{}", index + 1).into_bytes().into()
                });
            }
            if layout.header {
                start = record.offset + record.length;
            }
            break;
        }
        self.files += 1;
        if header.is_empty() {
            return Ok(());
        }
        let part = read_parts(
            source,
            layout,
            start,
            file,
            header.len(),
            threads,
            self.part_bytes,
        )?;
        self.rows += part.rows;
        self.faults += part.faults;
        self.first_fault = earliest(self.first_fault, part.first_fault);
        for (name, column) in names(&header).into_iter().zip(part.columns) {
            match self.columns.get_mut(&name) {
                Some(known) => known.join(column),
                None => {
                    self.columns.insert(name, column);
                }
            }
        }
        if !self.headers.contains(&header) {
            if self.headers.len() == HEADERS_MAX || self.columns.len() > COLUMNS_MAX {
                return Err(CoreError::Limit {
                    what: "different headers",
                    limit: HEADERS_MAX as u64,
                    offset: 0,
                });
            }
            self.headers.push(header);
        }
        Ok(())
    }

    /// Whether the header could be a row like the others; none when no column has a type that it could contradict.
    ///
    /// A header with an empty cell is no header.
    pub(super) fn header_fits(&self) -> Option<bool> {
        let header = self.headers.first()?;
        let unfit = self.columns.len() < header.len() || header.iter().any(|cell| cell.is_empty());
        if unfit {
            return Some(true);
        }
        let mut fits = None;
        for (name, column) in &self.columns {
            let typed = readings(column)
                .into_iter()
                .filter(|one| *one != Reading::text());
            for reading in typed {
                let words = reading.words();
                let format = Format::new(&Spec {
                    type_name: &reading.type_name,
                    format: words.as_deref(),
                    zone: reading.needs_zone.then_some("UTC"),
                    meaning: reading.meaning.as_deref(),
                });
                if let Ok(format) = format {
                    if format.read(name).is_none() {
                        return Some(false);
                    }
                    fits = Some(true);
                }
            }
        }
        fits
    }

    /// What was found, as one JSON document.
    pub fn report(&self) -> String {
        let mut json = Json::default();
        json.object(|json| {
            json.key("files").number(self.files);
            json.key("rows").number(self.rows);
            json.key("faults").number(self.faults);
            json.key("headers").array(|json| {
                for header in &self.headers {
                    json.array(|json| {
                        for cell in header {
                            json.bytes(cell);
                        }
                    });
                }
            });
            json.key("columns").array(|json| {
                for name in self.order() {
                    if let Some(column) = self.columns.get(&name) {
                        json.object(|json| {
                            json.key("source").bytes(&name);
                            cells(json, column);
                        });
                    }
                }
            });
        });
        json.finish()
    }

    /// Columns in the order of the headers, those of the first one first.
    fn order(&self) -> Vec<Box<[u8]>> {
        let mut seen = std::collections::BTreeSet::new();
        let cells = self.headers.iter().flat_map(|header| names(header));
        cells.filter(|cell| seen.insert(cell.clone())).collect()
    }
}

/// What the columns below a header are called: the second cell of one name is `NAME#2`, and so on, as contracts have it.
fn names(header: &[Box<[u8]>]) -> Vec<Box<[u8]>> {
    let mut seen = BTreeMap::<&[u8], usize>::new();
    let mut names = Vec::with_capacity(header.len());
    for cell in header {
        let number = seen.entry(cell).or_default();
        *number += 1;
        names.push(if *number == 1 {
            cell.clone()
        } else {
            [cell, format!("#{number}").as_bytes()].concat().into()
        });
    }
    names
}

fn earliest(one: Option<Place>, other: Option<Place>) -> Option<Place> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

/// All rows behind `start`, by several threads when the file is big; the state is the same for any number of them.
fn read_parts<S: ReadAt + Sync>(
    source: &S,
    layout: &Layout,
    start: u64,
    file: u32,
    width: usize,
    threads: usize,
    part_bytes: Option<u64>,
) -> Result<Part, CoreError> {
    let length = source.len();
    let small = part_bytes.is_none() && length - start.min(length) < 2 * PART_BYTES;
    if threads < 2 || small {
        return read_part(source, layout, start, length, file, width);
    }
    let mut borders = Borders::new(source, layout, part_bytes.unwrap_or(PART_BYTES))?;
    let mut all = Part::of(width);
    read_in_order(
        threads,
        || borders.next_part(),
        |(from, to)| match from.max(start) {
            from if from < to => read_part(source, layout, from, to, file, width),
            _ => Ok(Part::of(width)),
        },
        |part| {
            all.follow(part);
            Ok(())
        },
    )?;
    Ok(all)
}

impl Part {
    fn of(width: usize) -> Self {
        Self {
            columns: (0..width).map(|_| Column::default()).collect(),
            ..Self::default()
        }
    }

    /// Take in the part of the same file right behind this one.
    fn follow(&mut self, mut next: Self) {
        for (column, mut other) in self.columns.iter_mut().zip(next.columns) {
            other.shift(self.rows);
            column.join(other);
        }
        if let Some(place) = &mut next.first_fault {
            place.row += self.rows;
        }
        self.first_fault = earliest(self.first_fault, next.first_fault);
        self.rows += next.rows;
        self.faults += next.faults;
    }
}

fn read_part<S: ReadAt>(
    source: &S,
    layout: &Layout,
    start: u64,
    end: u64,
    file: u32,
    width: usize,
) -> Result<Part, CoreError> {
    let mut part = Part::of(width);
    let mut records = Records::between(source, layout, start, end)?;
    while let Some(record) = records.next()? {
        let place = Place {
            file,
            row: part.rows,
            offset: record.offset,
        };
        match record.kind {
            Kind::Row if record.len() == width => {
                for (index, column) in part.columns.iter_mut().enumerate() {
                    if record.is_escaped(index) {
                        column.feed(&record.cell(index), place);
                    } else {
                        column.feed(record.raw(index), place);
                    }
                }
                part.rows += 1;
            }
            Kind::Row | Kind::Faulty(_) => {
                part.faults += 1;
                part.first_fault.get_or_insert(place);
                part.rows += 1;
            }
            _ => {}
        }
    }
    Ok(part)
}
