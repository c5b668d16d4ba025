//! One grammar of values written as text, for everybody who reads or judges them.
//!
//! Inference asks whether a value fits a [`Format`]; decoders of text convert with the very same function, so a
//! column that was inferred from a file reads that file without one misfit.
//!
//! Rules:
//!   * A value that would lose a digit, a sign or a leading zero does not fit: it is never rounded or guessed.
//!   * A format is parsed once and then only read from. Nothing here depends on the host: no locale, no clock, no
//!     zone of the machine; zones are compiled in.
//!   * Reading costs no allocation, but for floats of more than 15 digits.
//!
//! The text of a format, as contracts write it (`docs/reference/formats.md`):
//!   * integers: `decimal` or `hex`; decimals and floats: `point` or `comma`; each may be followed by the words `zeros`
//!     (leading zeros allowed), `plus` (a plus sign allowed) and `group C` (digits may stand in groups of three parted by the
//!     character C; `space` for a blank);
//!   * booleans: the two words, the true one first: `yes/no`;
//!   * dates, times of day and timestamps: see [`pattern`].

mod calendar;
mod json;
mod moment;
mod nulls;
mod number;
pub mod pattern;
mod shape;
mod time_of_day;
mod types;
mod zone;

pub use json::is_json;
pub use nulls::Nulls;
pub use shape::Meaning;
pub use types::{Type, Unit};

pub(crate) use pattern::Moment;

use moment::Moments;
use number::{Decimals, Floats, Integers};
use time_of_day::Times;

/// What a cell says, in the type of its column.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value<'a> {
    /// One of the two words.
    Bool(bool),
    /// Of a signed integer type; it fits the type's width.
    Int(i64),
    /// Of an unsigned integer type; it fits the type's width.
    UInt(u64),
    /// Of `float32` or `float64`; of the former when it is exact in 32 bits as its digits say.
    Float(f64),
    /// Unscaled: the value times ten to the power of the type's scale.
    Decimal(i128),
    /// Days since 1970-01-01.
    Date(i32),
    /// Microseconds since midnight, less than a day of them.
    Time(i64),
    /// Since 1970-01-01T00:00:00, in the unit of the type; UTC, or local time when the type names no zone.
    Timestamp(i64),
    /// The text itself.
    Text(&'a str),
}

/// How a JSON document says a value: a number is no text, even when it looks the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum JsonKind {
    /// `true` or `false`.
    Bool,
    /// A number.
    Number,
    /// A string; its text is read without quotes and escapes.
    Text,
    /// An array.
    Array,
    /// An object.
    Object,
}

/// A contract's words about one column.
#[derive(Debug, Clone, Copy, Default)]
pub struct Spec<'a> {
    /// Type name, as contracts write it: `int64`, `decimal128(10, 2)`, `timestamp[us, UTC]`, `list<utf8>`.
    pub type_name: &'a str,
    /// See the module; the default when it is absent: `decimal`, `point`, `true/false`, `iso8601`.
    pub format: Option<&'a str>,
    /// Zone of times that do not say theirs: `UTC`, `+02:00` or a name of the IANA database.
    pub zone: Option<&'a str>,
    /// What a text means: `ipv4`, `uuid`, … ([`Meaning`]).
    pub meaning: Option<&'a str>,
}

/// Why a contract's words about a column are no format.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct FormatError(pub String);

/// How the values of one column are written. For `list<T>` it reads the items.
#[derive(Debug, Clone)]
pub struct Format {
    kind: Type,
    lists: u8,
    reader: Reader,
}

#[derive(Debug, Clone)]
enum Reader {
    Bool { yes: Box<[u8]>, no: Box<[u8]> },
    Integers(Integers),
    Floats(Floats),
    Decimals(Decimals),
    Dates(pattern::Pattern),
    Times(Times),
    Moments(Box<Moments>),
    Text(Meaning),
}

impl Format {
    /// Check a contract's words and make them a reader.
    ///
    /// # Errors
    /// The type is unknown, the format is not one of that type, or a word is given that the type has no use for.
    pub fn new(spec: &Spec<'_>) -> Result<Self, FormatError> {
        let (kind, lists) = Type::parse(spec.type_name)?;
        let refuse = |given: bool, what: &str| {
            if given {
                Err(FormatError(format!(
                    "a column of type `{}` has no use for a {what}",
                    spec.type_name
                )))
            } else {
                Ok(())
            }
        };
        refuse(spec.meaning.is_some() && kind != Type::Utf8, "meaning")?;
        refuse(
            spec.zone.is_some() && !matches!(kind, Type::Timestamp { utc: true, .. }),
            "zone",
        )?;
        refuse(spec.format.is_some() && kind == Type::Utf8, "format")?;
        let reader = match kind {
            Type::Utf8 => Reader::Text(Meaning::parse(spec.meaning)?),
            Type::Bool => {
                let (yes, no) = words(spec.format.unwrap_or("true/false"))?;
                Reader::Bool { yes, no }
            }
            Type::Int { bits } => Reader::Integers(Integers::new(bits, true, spec.format)?),
            Type::UInt { bits } => Reader::Integers(Integers::new(bits, false, spec.format)?),
            Type::Float32 => Reader::Floats(Floats::new(true, spec.format)?),
            Type::Float64 => Reader::Floats(Floats::new(false, spec.format)?),
            Type::Decimal { precision, scale } => {
                Reader::Decimals(Decimals::new(precision, scale, spec.format)?)
            }
            Type::Date => Reader::Dates(pattern::Pattern::of_date(
                spec.format.unwrap_or("%Y-%m-%d"),
            )?),
            Type::Time => Reader::Times(Times::new(spec.format.unwrap_or("iso8601"))?),
            Type::Timestamp { unit, utc } => Reader::Moments(Box::new(Moments::new(
                spec.format.unwrap_or("iso8601"),
                unit,
                utc,
                spec.zone,
            )?)),
        };
        Ok(Self {
            kind,
            lists,
            reader,
        })
    }

    /// Type of a value, or of an item when the column holds lists.
    pub fn kind(&self) -> Type {
        self.kind
    }

    /// How many lists are around an item: 1 for `list<T>`, 0 for `T`.
    pub fn lists(&self) -> u8 {
        self.lists
    }

    /// Whether the text is kept as JSON, whatever the kind of its value: [`Format::read`] is given the document's own bytes.
    pub fn keeps_json(&self) -> bool {
        matches!(self.reader, Reader::Text(Meaning::Json))
    }

    /// Whether a JSON value of this kind can be one of the column (or an item of it): numbers are read from numbers only,
    /// text and times that are written out from strings only.
    pub fn takes(&self, kind: JsonKind) -> bool {
        match &self.reader {
            Reader::Text(Meaning::Json) => true,
            Reader::Bool { .. } => kind == JsonKind::Bool,
            Reader::Integers(integers) if integers.is_hex() => kind == JsonKind::Text,
            Reader::Integers(_) | Reader::Floats(_) | Reader::Decimals(_) => {
                kind == JsonKind::Number
            }
            Reader::Moments(moments) if moments.is_count() => {
                matches!(kind, JsonKind::Number | JsonKind::Text)
            }
            Reader::Dates(_) | Reader::Times(_) | Reader::Moments(_) | Reader::Text(_) => {
                kind == JsonKind::Text
            }
        }
    }

    /// What a text says of a moment, whatever the unit of the type could hold and whether or not it says its zone.
    pub(crate) fn moment(&self, text: &[u8]) -> Option<Moment> {
        match &self.reader {
            Reader::Moments(moments) => moments.moment(text),
            _ => None,
        }
    }

    /// The value that the text says; none when it does not fit.
    #[inline]
    pub fn read<'a>(&self, text: &'a [u8]) -> Option<Value<'a>> {
        match &self.reader {
            Reader::Text(meaning) => meaning.read(text).map(Value::Text),
            Reader::Integers(integers) => integers.read(text),
            Reader::Floats(floats) => floats.read(text).map(Value::Float),
            Reader::Decimals(decimals) => decimals.read(text).map(Value::Decimal),
            Reader::Dates(pattern) => pattern.read_date(text).map(Value::Date),
            Reader::Times(times) => times.read(text).map(Value::Time),
            Reader::Moments(moments) => moments.read(text).map(Value::Timestamp),
            Reader::Bool { yes, no } => {
                if *text == **yes {
                    Some(Value::Bool(true))
                } else if *text == **no {
                    Some(Value::Bool(false))
                } else {
                    None
                }
            }
        }
    }
}

/// The two words of a boolean, the true one first.
type Words = (Box<[u8]>, Box<[u8]>);

/// Take them apart.
fn words(format: &str) -> Result<Words, FormatError> {
    match format.split_once('/') {
        Some((yes, no)) if !yes.is_empty() && !no.is_empty() && yes != no && !no.contains('/') => {
            Ok((yes.as_bytes().into(), no.as_bytes().into()))
        }
        _ => Err(FormatError(format!(
            "`{format}` is not a pair of different words like `true/false`"
        ))),
    }
}
