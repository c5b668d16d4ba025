//! Inference over JSON Lines: a tree of keys, with what was seen at each.
//!
//! Objects are gone into, lists of scalars are lists, and all that is deeper or of mixed kinds is kept as JSON text. A number is no
//! text and a text no number, even when they look the same.

use std::collections::BTreeMap;

use super::column::Column;
use super::readings::{Reading, readings};
use super::report::{Json, column};
use super::witness::Place;
use crate::error::CoreError;
use crate::jsonl::{Document, Kind, Lines, unescaped};
use crate::source::ReadAt;
use crate::text::{Format, JsonKind, Spec};

/// Keys that lead to a column, at most; what is deeper is kept as JSON.
const DEPTH_MAX: usize = 16;
/// Objects with more different keys are maps, and kept as JSON.
const MEMBERS_MAX: usize = 512;
const KINDS: [(Kind, &str); 6] = [
    (Kind::Null, "null"),
    (Kind::Bool, "bool"),
    (Kind::Number, "number"),
    (Kind::Text, "text"),
    (Kind::Array, "list"),
    (Kind::Object, "object"),
];

/// What was seen at one place of the documents.
#[derive(Debug, Default)]
struct Seen {
    /// By [`KINDS`]: how often, and where first.
    kinds: [(u64, Place); 6],
    numbers: Column,
    texts: Column,
    /// What lists hold.
    items: Option<Box<Seen>>,
    members: BTreeMap<Box<[u8]>, Seen>,
    is_map: bool,
}

/// What is known of a table after some files.
#[derive(Debug, Default)]
pub struct JsonlInference {
    root: Seen,
    files: u32,
    rows: u64,
    faults: u64,
    first_fault: Option<(Place, String)>,
}

impl JsonlInference {
    /// Take a file into account; files are given in the order of their names.
    ///
    /// # Errors
    /// The first error of a read.
    pub fn add<S: ReadAt>(&mut self, source: S) -> Result<(), CoreError> {
        let file = self.files;
        self.files += 1;
        let mut lines = Lines::new(source)?;
        let mut document = Document::default();
        let mut row = 0;
        while let Some(line) = lines.next()? {
            if line.is_blank() {
                continue;
            }
            let place = Place {
                file,
                row,
                offset: line.offset,
            };
            row += 1;
            let problem = match line.text {
                None => Some("the line is too long".to_owned()),
                Some(text) => match document.parse(text) {
                    Err(fault) => Some(fault.message.into_owned()),
                    Ok(()) if document.nodes()[0].kind == Kind::Object => {
                        self.root.feed(&document, 0, text, place, 0);
                        None
                    }
                    Ok(()) => Some("the line holds no object".to_owned()),
                },
            };
            if let Some(problem) = problem {
                self.faults += 1;
                self.first_fault.get_or_insert((place, problem));
            }
        }
        self.rows += row;
        Ok(())
    }

    /// What was found, as one JSON document.
    pub fn report(&self) -> String {
        let mut json = Json::default();
        json.object(|json| {
            json.key("files").number(self.files);
            json.key("rows").number(self.rows);
            json.key("faults").number(self.faults);
            json.key("first_fault");
            match &self.first_fault {
                Some((_, problem)) => json.string(problem),
                None => json.null(),
            }
            let rows = self.rows - self.faults;
            json.key("columns").array(|json| {
                self.root.columns(json, &mut Vec::new(), rows);
            });
        });
        json.finish()
    }
}

impl Seen {
    fn feed(&mut self, document: &Document, node: usize, text: &[u8], place: Place, depth: usize) {
        let one = &document.nodes()[node];
        let kind = KINDS
            .iter()
            .position(|(kind, _)| *kind == one.kind)
            .unwrap_or(0);
        let (count, first) = &mut self.kinds[kind];
        if *count == 0 {
            *first = place;
        }
        *count += 1;
        let span = &text[one.span.clone()];
        match one.kind {
            Kind::Number => self.numbers.feed(span, place),
            Kind::Text => {
                let inner = &span[1..span.len() - 1];
                self.texts.feed(&unescaped(inner), place);
            }
            Kind::Array => {
                let items = self.items.get_or_insert_default();
                for child in document.children(node) {
                    let nested = document.nodes()[child].kind;
                    if matches!(nested, Kind::Array | Kind::Object) {
                        items.note(nested, place);
                    } else {
                        items.feed(document, child, text, place, DEPTH_MAX);
                    }
                }
            }
            Kind::Object if depth < DEPTH_MAX && !self.is_map => {
                for child in document.children(node) {
                    let Some(key) = document.nodes()[child].key.clone() else {
                        continue;
                    };
                    let key = unescaped(&text[key]);
                    match self.members.get_mut(&*key) {
                        Some(member) => member.feed(document, child, text, place, depth + 1),
                        None => {
                            let mut member = Self::default();
                            member.feed(document, child, text, place, depth + 1);
                            self.members.insert(key.as_ref().into(), member);
                        }
                    }
                }
                if self.members.len() > MEMBERS_MAX {
                    self.members.clear();
                    self.is_map = true;
                }
            }
            Kind::Null | Kind::Bool | Kind::Object => {}
        }
    }

    fn note(&mut self, kind: Kind, place: Place) {
        let kind = KINDS
            .iter()
            .position(|(known, _)| *known == kind)
            .unwrap_or(0);
        let (count, first) = &mut self.kinds[kind];
        if *count == 0 {
            *first = place;
        }
        *count += 1;
    }

    fn has(&self, wanted: Kind) -> bool {
        KINDS
            .iter()
            .zip(self.kinds)
            .any(|((kind, _), (count, _))| *kind == wanted && count > 0)
    }

    /// Kinds that were seen, null left out.
    fn kinds(&self) -> Vec<Kind> {
        let seen = KINDS.iter().zip(self.kinds).skip(1);
        seen.filter(|(_, (count, _))| *count > 0)
            .map(|((kind, _), _)| *kind)
            .collect()
    }

    /// Write the columns at this place and below; `rows` documents could have had it.
    fn columns<'a>(&'a self, json: &mut Json, path: &mut Vec<&'a [u8]>, rows: u64) {
        let is_column = !path.is_empty() && (self.members.is_empty() || self.kinds().len() > 1);
        if is_column {
            json.object(|json| {
                json.key("source").array(|json| {
                    for key in path.iter() {
                        json.bytes(key);
                    }
                });
                let seen: u64 = self.kinds.iter().map(|(count, _)| count).sum();
                json.key("nulls").number(self.kinds[0].0);
                json.key("missing").number(rows.saturating_sub(seen));
                json.key("kinds").object(|json| {
                    for ((_, name), (count, first)) in KINDS.iter().zip(self.kinds) {
                        if count > 0 {
                            json.key(name).object(|json| {
                                json.key("count").number(count);
                                json.key("file").number(first.file);
                                json.key("row").number(first.row);
                                json.key("offset").number(first.offset);
                            });
                        }
                    }
                });
                json.key("has_fields").boolean(!self.members.is_empty());
                let readings = self.readings();
                column(json, self.facts(), &readings);
            });
        }
        for (key, member) in &self.members {
            path.push(key);
            member.columns(json, path, rows);
            path.pop();
        }
    }

    /// The column whose facts are shown.
    fn facts(&self) -> &Column {
        if self.has(Kind::Number) {
            return &self.numbers;
        }
        match &self.items {
            Some(items) if !self.has(Kind::Text) => items.facts(),
            _ => &self.texts,
        }
    }

    fn readings(&self) -> Vec<Reading> {
        match self.kinds()[..] {
            [] => vec![Reading::text()],
            [Kind::Bool] => vec![Reading::of("true/false", "bool", Some("true/false"))],
            [Kind::Number] => self.of_kind(&self.numbers, JsonKind::Number),
            [Kind::Text] => self.of_kind(&self.texts, JsonKind::Text),
            [Kind::Array] => match &self.items {
                Some(items) if !items.kinds().is_empty() => {
                    let inner = items.readings();
                    if inner
                        .iter()
                        .any(|one| one.meaning.as_deref() == Some("json"))
                    {
                        return vec![Reading::meaning("json")];
                    }
                    inner
                        .into_iter()
                        .map(|one| Reading {
                            type_name: format!("list<{}>", one.type_name),
                            ..one
                        })
                        .collect()
                }
                _ => vec![Reading::meaning("json")],
            },
            _ if !self.members.is_empty() => {
                vec![
                    Reading::meaning("json"),
                    Reading::of("fields", "fields", None),
                ]
            }
            _ => vec![Reading::meaning("json")],
        }
    }

    /// What the values can be, as far as a value of this kind can be read so.
    fn of_kind(&self, column: &Column, kind: JsonKind) -> Vec<Reading> {
        let mut found: Vec<Reading> = readings(column)
            .into_iter()
            .filter(|reading| {
                let words = reading.words();
                Format::new(&Spec {
                    type_name: &reading.type_name,
                    format: words.as_deref(),
                    zone: reading.needs_zone.then_some("UTC"),
                    meaning: reading.meaning.as_deref(),
                })
                .is_ok_and(|format| format.takes(kind))
            })
            .collect();
        let counts = |one: &Reading| {
            one.format
                .as_deref()
                .is_some_and(|format| format.starts_with("epoch") || format == "filetime")
        };
        if kind == JsonKind::Text && found.iter().all(counts) {
            found.push(Reading::text());
        }
        if found.is_empty() {
            found.push(Reading::meaning("json"));
        }
        found
    }
}
