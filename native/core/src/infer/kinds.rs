//! What a place of JSON documents can be, by the kinds of values seen there, and by what is left of them.
//!
//! A number is no text and a text no number, even when they look the same.

use std::sync::LazyLock;

use super::column::Column;
use super::readings::{Reading, readings};
use super::report::{Json, column, place};
use super::seen::{KINDS, Seen};
use crate::jsonl::Kind;
use crate::text::{Format, JsonKind, Spec};

/// Of a place without numbers or without texts.
static NOTHING: LazyLock<Column> = LazyLock::new(Column::default);

impl Seen {
    fn has(&self, wanted: Kind) -> bool {
        self.kinds[wanted as usize].count > 0
    }

    /// Kinds that were seen, null left out.
    fn kinds_seen(&self) -> Vec<Kind> {
        let kinds = KINDS.into_iter().map(|(kind, _)| kind).skip(1);
        kinds.filter(|kind| self.has(*kind)).collect()
    }

    /// Write the columns at this place and below; `rows` documents could have had it.
    pub(super) fn columns<'a>(&'a self, json: &mut Json, path: &mut Vec<&'a [u8]>, rows: u64) {
        let is_column =
            !path.is_empty() && (self.members.is_empty() || self.kinds_seen().len() > 1);
        if is_column {
            json.object(|json| {
                json.key("source").array(|json| {
                    for key in path.iter() {
                        json.bytes(key);
                    }
                });
                let seen: u64 = self.kinds.iter().map(|kind| kind.count).sum();
                json.key("nulls")
                    .number(self.kinds[Kind::Null as usize].count);
                json.key("missing").number(rows.saturating_sub(seen));
                json.key("kinds").object(|json| {
                    for ((_, name), seen) in KINDS.iter().zip(self.kinds) {
                        if seen.count > 0 {
                            json.key(name).object(|json| {
                                json.key("count").number(seen.count);
                                place(json, seen.first);
                            });
                        }
                    }
                });
                json.key("has_fields").boolean(!self.members.is_empty());
                column(json, self.facts(), &self.readings());
            });
        }
        for (key, member) in self.members.sorted() {
            path.push(key);
            member.columns(json, path, rows);
            path.pop();
        }
    }

    fn numbers(&self) -> &Column {
        self.numbers.as_deref().unwrap_or(&NOTHING)
    }

    fn texts(&self) -> &Column {
        self.texts.as_deref().unwrap_or(&NOTHING)
    }

    /// The column whose facts are shown.
    fn facts(&self) -> &Column {
        if self.has(Kind::Number) {
            return self.numbers();
        }
        match &self.items {
            Some(items) if !self.has(Kind::Text) => items.facts(),
            _ => self.texts(),
        }
    }

    fn readings(&self) -> Vec<Reading> {
        match self.kinds_seen()[..] {
            [] => vec![Reading::text()],
            [Kind::Bool] => vec![Reading::of("true/false", "bool", Some("true/false"))],
            [Kind::Number] => of_kind(self.numbers(), JsonKind::Number),
            [Kind::Text] => of_kind(self.texts(), JsonKind::Text),
            [Kind::Array] => match &self.items {
                Some(items) if !items.kinds_seen().is_empty() => of_list(items),
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
}

fn of_list(items: &Seen) -> Vec<Reading> {
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

/// What the values can be, as far as a value of this kind can be read so.
fn of_kind(column: &Column, kind: JsonKind) -> Vec<Reading> {
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
