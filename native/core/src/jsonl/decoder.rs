//! `text.jsonl`: lines to the rows of a contract.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use arrow_array::RecordBatch;

use super::document::{Document, Fault, Kind, Node};
use super::escapes::unescaped;
use super::lines::Lines;
use super::paths::Known;
use crate::dataset::{Column, ColumnSpec, Dataset, Misfit, Output, Rows, Source, TextForm, shown};
use crate::delimited::{RENAMED_PERCENT, similarity};
use crate::error::CoreError;
use crate::source::ReadAt;
use crate::text::{JsonKind, Value};

/// Different keys that a difference lists; more are only counted.
const KEYS_MAX: usize = 50;

/// Decodes one source, batch by batch.
///
/// A key that the contract does not know, and the lack of one that may not be null, make the source as a whole fail: the rest of it is
/// still read, so that the difference is all there is. A line that is no document is set aside: `text.too_long`, `text.encoding`,
/// `json.syntax`, `json.duplicate_key`, `json.depth`, `json.not_object`, `contract.type`.
#[derive(Debug)]
pub struct JsonlDecoder<S> {
    lines: Lines<S>,
    dataset: Arc<Dataset>,
    known: Known,
    document: Document,
    /// Of each column, the node of the line in work.
    places: Vec<Option<usize>>,
    drift: Drift,
    rows: Rows,
    is_finished: bool,
}

impl<S: ReadAt> JsonlDecoder<S> {
    /// Read `source` as the contract says.
    ///
    /// # Errors
    /// [`CoreError::Contract`]: the dataset is not one of JSON Lines. Else the first error of a read.
    pub fn new(
        source: S,
        dataset: Arc<Dataset>,
        batch_rows: usize,
        batch_bytes: usize,
    ) -> Result<Self, CoreError> {
        if !matches!(dataset.form, TextForm::Jsonl { .. }) {
            return Err(CoreError::Contract {
                reason: "it is of another parser".to_owned(),
            });
        }
        Ok(Self {
            lines: Lines::new(source)?,
            known: Known::of(&dataset),
            document: Document::default(),
            places: Vec::new(),
            drift: Drift::default(),
            rows: Rows::new(&dataset, batch_rows, batch_bytes),
            dataset,
            is_finished: false,
        })
    }

    /// The next batch.
    ///
    /// # Errors
    /// [`CoreError::Drift`]: keys are other than the contract knows. Else the first error of a read.
    pub fn next_batch(&mut self) -> Result<Option<(Output, RecordBatch)>, CoreError> {
        loop {
            if let Some(ready) = self.rows.take_ready() {
                return Ok(Some(ready));
            }
            if self.is_finished {
                return Ok(None);
            }
            let Some(line) = self.lines.next()? else {
                self.is_finished = true;
                self.drift.check(&self.dataset)?;
                self.rows.finish()?;
                continue;
            };
            if line.is_blank() {
                continue;
            }
            let (offset, length) = (line.offset, line.length);
            self.drift.begin_line(offset);
            let result = match line.text {
                None => Err(Misfit::of_unit(
                    "text.too_long",
                    "the line is longer than 16 MiB",
                )),
                Some(text) => {
                    let mut reading = Reading {
                        text,
                        dataset: &self.dataset,
                        document: &mut self.document,
                        places: &mut self.places,
                        drift: &mut self.drift,
                    };
                    reading.row(&self.known, &mut self.rows.columns)
                }
            };
            if self.drift.offset.is_some() {
                // Nothing of the source will be kept; what is left is looked at for the difference.
                result.ok();
                for column in &mut self.rows.columns {
                    column.truncate(0);
                }
                self.read_on()?;
                continue;
            }
            match result {
                Ok(()) => self.rows.keep(offset, length)?,
                Err(misfit) => self.rows.set_aside(offset, length, misfit)?,
            }
        }
    }

    /// Look at every line that is left.
    fn read_on(&mut self) -> Result<(), CoreError> {
        while let Some(line) = self.lines.next()? {
            if line.is_blank() {
                continue;
            }
            self.drift.begin_line(line.offset);
            if let Some(text) = line.text {
                let mut reading = Reading {
                    text,
                    dataset: &self.dataset,
                    document: &mut self.document,
                    places: &mut self.places,
                    drift: &mut self.drift,
                };
                // A line that is no document has no keys; that it is none was not asked.
                reading.find(&self.known).ok();
            }
        }
        self.drift.check(&self.dataset)
    }
}

/// One line being read.
struct Reading<'a> {
    text: &'a [u8],
    dataset: &'a Dataset,
    document: &'a mut Document,
    places: &'a mut Vec<Option<usize>>,
    drift: &'a mut Drift,
}

impl Reading<'_> {
    /// Append one value to each column; what was appended of a line that does not fit must be cut off again.
    fn row(&mut self, known: &Known, columns: &mut [Column]) -> Result<(), Misfit> {
        self.find(known)?;
        for (number, column) in columns.iter_mut().enumerate() {
            self.value(number, column)?;
        }
        Ok(())
    }

    /// Find the value of each column, and keys that are not as the contract says.
    fn find(&mut self, known: &Known) -> Result<(), Misfit> {
        self.places.clear();
        self.places.resize(self.dataset.columns.len(), None);
        self.document.parse(self.text).map_err(of_fault)?;
        let kind = self.document.nodes()[0].kind;
        if kind != Kind::Object {
            let message = format!("the line is {}, and a row is an object", kind.name());
            return Err(Misfit::of_unit("json.not_object", message));
        }
        self.members(0, known, &mut Vec::new())?;
        for (number, column) in self.dataset.columns.iter().enumerate() {
            if self.places[number].is_none() && !column.nullable {
                self.drift.missing(number);
            }
        }
        Ok(())
    }

    fn members(
        &mut self,
        object: usize,
        known: &Known,
        path: &mut Vec<String>,
    ) -> Result<(), Misfit> {
        let end = self.document.nodes()[object].next;
        let mut at = object + 1;
        while at < end {
            let Node {
                kind, key, next, ..
            } = self.document.nodes()[at].clone();
            let here = at;
            at = next;
            let Some(key) = key else { continue };
            let name = unescaped(&self.text[key]);
            let Some(member) = known.member(&name) else {
                if !known.is_whole() {
                    path.push(String::from_utf8_lossy(&name).into_owned());
                    self.drift.unknown(path, kind);
                    path.pop();
                }
                continue;
            };
            if let Some(column) = member.column {
                self.places[column] = Some(here);
            }
            if !member.has_members() || kind == Kind::Null {
                continue;
            }
            if kind != Kind::Object {
                if member.is_whole() {
                    continue;
                }
                let message = format!(
                    "`{}` is {}, and the contract knows keys within it",
                    shown(&name),
                    kind.name()
                );
                return Err(Misfit::of_unit("contract.type", message));
            }
            path.push(String::from_utf8_lossy(&name).into_owned());
            self.members(here, member, path)?;
            path.pop();
        }
        Ok(())
    }

    fn value(&self, number: usize, column: &mut Column) -> Result<(), Misfit> {
        let Some(place) = self.places[number] else {
            column.push_null();
            return Ok(());
        };
        let spec = &self.dataset.columns[number];
        let node = &self.document.nodes()[place];
        if node.kind == Kind::Null {
            column.push_null();
            return Ok(());
        }
        let misfit = || Misfit::of_value(self.dataset, number, &self.text[node.span.clone()]);
        if spec.format.lists() == 0 {
            return self
                .scalar(node, spec, column)
                .then_some(())
                .ok_or_else(misfit);
        }
        if node.kind != Kind::Array {
            return Err(misfit());
        }
        if let Some(items) = column.items() {
            for child in self.document.children(place) {
                let item = &self.document.nodes()[child];
                if item.kind == Kind::Null {
                    items.push_null();
                } else if !self.scalar(item, spec, items) {
                    return Err(misfit());
                }
            }
        }
        column.close_list();
        Ok(())
    }

    /// Append a value that is not null; whether it fits.
    fn scalar(&self, node: &Node, spec: &ColumnSpec, column: &mut Column) -> bool {
        let kind = match node.kind {
            Kind::Null => return false,
            Kind::Bool => JsonKind::Bool,
            Kind::Number => JsonKind::Number,
            Kind::Text => JsonKind::Text,
            Kind::Array => JsonKind::Array,
            Kind::Object => JsonKind::Object,
        };
        let raw = &self.text[node.span.clone()];
        if spec.format.keeps_json() {
            let value = spec.format.read(raw);
            return value.is_some_and(|value| column.push(value));
        }
        if kind == JsonKind::Text {
            let text = unescaped(&raw[1..raw.len() - 1]);
            if spec.nulls.holds(&text) {
                column.push_null();
                return true;
            }
            let value = spec.format.read(&text).filter(|_| spec.format.takes(kind));
            return value.is_some_and(|value| column.push(value));
        }
        if !spec.format.takes(kind) {
            return false;
        }
        let value = match raw {
            // The words of JSON, whatever those of the contract are.
            b"true" => Some(Value::Bool(true)),
            b"false" => Some(Value::Bool(false)),
            _ => spec.format.read(raw),
        };
        value.is_some_and(|value| column.push(value))
    }
}

fn of_fault(fault: Fault) -> Misfit {
    let message = format!("{} (byte {} of the line)", fault.message, fault.at);
    Misfit::of_unit(fault.reason, message)
}

/// Where the keys of a source are not those of its contract.
#[derive(Debug, Default)]
struct Drift {
    line: u64,
    line_offset: u64,
    /// Of the first line that has other keys.
    offset: Option<u64>,
    unknown: BTreeMap<Vec<String>, Seen>,
    missing: BTreeMap<usize, Seen>,
    unlisted: u64,
}

#[derive(Debug)]
struct Seen {
    lines: u64,
    first: u64,
    kind: Option<Kind>,
}

impl Drift {
    fn begin_line(&mut self, offset: u64) {
        self.line += 1;
        self.line_offset = offset;
    }

    fn unknown(&mut self, path: &[String], kind: Kind) {
        self.offset.get_or_insert(self.line_offset);
        if let Some(seen) = self.unknown.get_mut(path) {
            seen.lines += 1;
        } else if self.unknown.len() < KEYS_MAX {
            let first = self.line;
            let seen = Seen {
                lines: 1,
                first,
                kind: Some(kind),
            };
            self.unknown.insert(path.to_vec(), seen);
        } else {
            self.unlisted += 1;
        }
    }

    fn missing(&mut self, column: usize) {
        self.offset.get_or_insert(self.line_offset);
        let first = self.line;
        let seen = self.missing.entry(column).or_insert(Seen {
            lines: 0,
            first,
            kind: None,
        });
        seen.lines += 1;
    }

    /// Fail with all that is other.
    fn check(&self, dataset: &Dataset) -> Result<(), CoreError> {
        let Some(offset) = self.offset else {
            return Ok(());
        };
        let name = |path: &[String]| shown(path.join(".").as_bytes());
        let mut text = "the keys are not those that the contract knows:".to_owned();
        let mut missing: Vec<(String, &Seen)> = Vec::new();
        for (column, seen) in &self.missing {
            if let Source::Path(path) = &dataset.columns[*column].source {
                missing.push((name(path), seen));
            }
        }
        for (path, seen) in &self.unknown {
            let new = name(path);
            let kind = seen.kind.map_or("", Kind::name);
            let (lines, first) = (seen.lines, seen.first);
            let _ = write!(
                text,
                "\n  + `{new}` is new: {kind}, in {lines} of {} lines, first in number {first}",
                self.line
            );
            let like = missing
                .iter()
                .find(|(old, _)| similarity(old, &new) >= RENAMED_PERCENT);
            if let Some((old, _)) = like {
                let _ = write!(text, "; looks like `{old}` renamed");
            }
        }
        for (old, seen) in &missing {
            let (lines, first) = (seen.lines, seen.first);
            let _ = write!(
                text,
                "\n  - `{old}` is missing in {lines} of {} lines, first in number {first}",
                self.line
            );
        }
        if self.unlisted > 0 {
            let _ = write!(text, "\n  … and other new keys, {} times", self.unlisted);
        }
        Err(CoreError::Drift {
            difference: text,
            offset,
        })
    }
}
