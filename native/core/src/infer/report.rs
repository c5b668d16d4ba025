//! What inference found, as one JSON document for those who ask the questions and write the contract.

use std::fmt::Write as _;

use super::candidates::{all, numbers};
use super::column::{Column, NULL_WORDS};
use super::readings::{Reading, readings};
use super::witness::Place;
use crate::text::{Format, Spec, Type, Unit, Value};

/// Writes JSON by hand: few kinds of values, and no library for them in the engine.
#[derive(Debug, Default)]
pub(super) struct Json {
    text: String,
    comma: bool,
}

impl Json {
    pub(super) fn finish(self) -> String {
        self.text
    }

    fn part(&mut self) {
        if self.comma {
            self.text.push(',');
        }
        self.comma = true;
    }

    pub(super) fn object(&mut self, fill: impl FnOnce(&mut Self)) {
        self.between('{', '}', fill);
    }

    pub(super) fn array(&mut self, fill: impl FnOnce(&mut Self)) {
        self.between('[', ']', fill);
    }

    fn between(&mut self, open: char, close: char, fill: impl FnOnce(&mut Self)) {
        self.part();
        self.text.push(open);
        self.comma = false;
        fill(self);
        self.text.push(close);
        self.comma = true;
    }

    pub(super) fn key(&mut self, name: &str) -> &mut Self {
        self.part();
        self.quoted(name);
        self.text.push(':');
        self.comma = false;
        self
    }

    pub(super) fn string(&mut self, text: &str) {
        self.part();
        self.quoted(text);
    }

    /// Bytes of evidence: what is not UTF-8 is shown as `\xNN`.
    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        let mut text = String::with_capacity(bytes.len());
        for chunk in bytes.utf8_chunks() {
            text.push_str(chunk.valid());
            for byte in chunk.invalid() {
                let _ = write!(text, "\\x{byte:02x}");
            }
        }
        self.string(&text);
    }

    pub(super) fn number(&mut self, number: impl std::fmt::Display) {
        self.part();
        let _ = write!(self.text, "{number}");
    }

    pub(super) fn boolean(&mut self, value: bool) {
        self.number(value);
    }

    pub(super) fn null(&mut self) {
        self.number("null");
    }

    pub(super) fn optional(&mut self, text: Option<&str>) {
        match text {
            Some(text) => self.string(text),
            None => self.null(),
        }
    }

    fn quoted(&mut self, text: &str) {
        self.text.push('"');
        for character in text.chars() {
            match character {
                '"' => self.text.push_str("\\\""),
                '\\' => self.text.push_str("\\\\"),
                '\u{0}'..='\u{1f}' | '\u{7f}' => {
                    let _ = write!(self.text, "\\u{:04x}", u32::from(character));
                }
                _ => self.text.push(character),
            }
        }
        self.text.push('"');
    }
}

pub(super) fn place(json: &mut Json, place: Place) {
    json.key("file").number(place.file);
    json.key("row").number(place.row);
    json.key("offset").number(place.offset);
}

/// Facts, readings and evidence of one column, as keys of an object that is open.
pub(super) fn column(json: &mut Json, column: &Column, readings: &[Reading]) {
    json.key("cells").number(column.cells);
    json.key("words").array(|json| {
        for (word, seen) in NULL_WORDS.iter().zip(column.words) {
            if seen.count > 0 {
                json.object(|json| {
                    json.key("word").string(word);
                    json.key("count").number(seen.count);
                    place(json, seen.first);
                });
            }
        }
    });
    json.key("facts").object(|json| facts(json, column));
    json.key("readings").array(|json| {
        for reading in readings {
            json.object(|json| self::reading(json, column, reading));
        }
    });
    json.key("evidence").array(|json| {
        for witness in &column.witnesses {
            json.object(|json| {
                place(json, witness.place);
                json.key("value").bytes(&witness.value);
                json.key("ruled_out").array(|json| {
                    for number in numbers(witness.out) {
                        json.string(all()[number].name);
                    }
                });
            });
        }
    });
}

fn facts(json: &mut Json, column: &Column) {
    if column.cells > 0 {
        json.key("length_min").number(column.length.0);
        json.key("length_max").number(column.length.1);
        json.key("first").array(|json| {
            for (_, value) in &column.examples {
                json.bytes(value);
            }
        });
    }
    let widths: Vec<&str> = numbers(column.alive)
        .map(|number| all()[number].name)
        .filter(|name| name.starts_with("int") || name.starts_with("uint"))
        .collect();
    if !widths.is_empty() && column.cells > 0 {
        json.key("minimum").number(column.integers.0);
        json.key("maximum").number(column.integers.1);
        json.key("widths").array(|json| {
            for width in widths {
                json.string(width);
            }
        });
    }
    json.key("values");
    match column.distinct.values() {
        Some(values) => json.object(|json| {
            for (value, count) in values {
                let text = String::from_utf8_lossy(value);
                json.key(&text).number(count);
            }
        }),
        None => json.null(),
    }
}

fn reading(json: &mut Json, column: &Column, reading: &Reading) {
    json.key("option").string(&reading.option);
    json.key("type").string(&reading.type_name);
    json.key("format").optional(reading.format.as_deref());
    let group = reading.group.map(String::from);
    json.key("group").optional(group.as_deref());
    json.key("meaning").optional(reading.meaning.as_deref());
    json.key("needs_zone").boolean(reading.needs_zone);
    let words = reading.words();
    let format = Format::new(&Spec {
        type_name: &reading.type_name,
        format: words.as_deref(),
        zone: reading.needs_zone.then_some("UTC"),
        meaning: reading.meaning.as_deref(),
    });
    json.key("examples").array(|json| {
        let Ok(format) = format else { return };
        for (_, value) in &column.examples {
            if let Some(read) = format.read(value) {
                json.array(|json| {
                    json.bytes(value);
                    json.string(&text_of(read, format.kind()));
                });
            }
        }
    });
}

/// A value as people read it.
fn text_of(value: Value<'_>, kind: Type) -> String {
    match (value, kind) {
        (Value::Bool(value), _) => value.to_string(),
        (Value::Int(value), _) => value.to_string(),
        (Value::UInt(value), _) => value.to_string(),
        (Value::Float(value), _) => value.to_string(),
        (Value::Text(value), _) => value.to_owned(),
        (Value::Decimal(value), Type::Decimal { scale, .. }) if scale > 0 => {
            let scale = usize::from(scale);
            let digits = format!("{:0width$}", value.unsigned_abs(), width = scale + 1);
            let (whole, fraction) = digits.split_at(digits.len() - scale);
            format!("{}{whole}.{fraction}", if value < 0 { "-" } else { "" })
        }
        (Value::Decimal(value), _) => value.to_string(),
        (Value::Date(days), _) => jiff::civil::date(1970, 1, 1)
            .checked_add(jiff::Span::new().days(days))
            .map_or_else(|_| days.to_string(), |date| date.to_string()),
        (Value::Time(microseconds), _) => time_of_day(microseconds),
        (Value::Timestamp(count), kind) => {
            let nanoseconds = match kind {
                Type::Timestamp {
                    unit: Unit::Nano, ..
                } => Some(i128::from(count)),
                Type::Timestamp {
                    unit: Unit::Micro, ..
                } => Some(i128::from(count) * 1_000),
                _ => None,
            };
            nanoseconds
                .and_then(|count| jiff::Timestamp::from_nanosecond(count).ok())
                .map_or_else(|| count.to_string(), |moment| moment.to_string())
        }
    }
}

/// `HH:MM:SS`, and the fraction when there is one.
fn time_of_day(microseconds: i64) -> String {
    let (seconds, fraction) = (microseconds / 1_000_000, microseconds % 1_000_000);
    let mut text = format!(
        "{:02}:{:02}:{:02}",
        seconds / 3600,
        seconds / 60 % 60,
        seconds % 60
    );
    if fraction != 0 {
        let _ = write!(text, ".{fraction:06}");
    }
    text
}

/// The readings of a column of text cells.
pub(super) fn cells(json: &mut Json, one: &Column) {
    column(json, one, &readings(one));
}
