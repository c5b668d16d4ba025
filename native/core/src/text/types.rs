//! Type names of contracts that text can be read as.

use super::FormatError;

/// Unit of a timestamp.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Unit {
    /// Seconds.
    Second,
    /// Milliseconds.
    Milli,
    /// Microseconds.
    Micro,
    /// Nanoseconds; 1677 to 2262.
    Nano,
}

impl Unit {
    /// Digits behind the second's point that it keeps.
    pub fn digits(self) -> u32 {
        match self {
            Self::Second => 0,
            Self::Milli => 3,
            Self::Micro => 6,
            Self::Nano => 9,
        }
    }

    /// As type names write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Second => "s",
            Self::Milli => "ms",
            Self::Micro => "us",
            Self::Nano => "ns",
        }
    }
}

/// Type of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Type {
    /// `bool`
    Bool,
    /// `int8` … `int64`
    Int {
        /// 8, 16, 32 or 64.
        bits: u8,
    },
    /// `uint8` … `uint64`
    UInt {
        /// 8, 16, 32 or 64.
        bits: u8,
    },
    /// `float32`
    Float32,
    /// `float64`
    Float64,
    /// `decimal128(precision, scale)`
    Decimal {
        /// Digits in all, 1 to 38.
        precision: u8,
        /// Digits behind the point.
        scale: u8,
    },
    /// `utf8`
    Utf8,
    /// `date32`
    Date,
    /// `time64[us]`: a time of day, of no date and no zone
    Time,
    /// `timestamp[unit]`, `timestamp[unit, UTC]`
    Timestamp {
        /// Of the count.
        unit: Unit,
        /// Whether it is a moment; without it, a time on somebody's wall.
        utc: bool,
    },
}

const LISTS_MAX: u8 = 8;

impl Type {
    /// A type name, and how many lists are around it.
    pub(super) fn parse(name: &str) -> Result<(Self, u8), FormatError> {
        let mut inner = name;
        let mut lists = 0;
        while let Some(item) = inner
            .strip_prefix("list<")
            .and_then(|rest| rest.strip_suffix('>'))
        {
            inner = item;
            lists += 1;
            if lists > LISTS_MAX {
                return Err(unknown(name));
            }
        }
        Ok((Self::scalar(inner).ok_or_else(|| unknown(name))?, lists))
    }

    fn scalar(name: &str) -> Option<Self> {
        Some(match name {
            "bool" => Self::Bool,
            "int8" => Self::Int { bits: 8 },
            "int16" => Self::Int { bits: 16 },
            "int32" => Self::Int { bits: 32 },
            "int64" => Self::Int { bits: 64 },
            "uint8" => Self::UInt { bits: 8 },
            "uint16" => Self::UInt { bits: 16 },
            "uint32" => Self::UInt { bits: 32 },
            "uint64" => Self::UInt { bits: 64 },
            "float32" => Self::Float32,
            "float64" => Self::Float64,
            "utf8" => Self::Utf8,
            "date32" => Self::Date,
            "time64[us]" => Self::Time,
            _ => return Self::with_arguments(name),
        })
    }

    fn with_arguments(name: &str) -> Option<Self> {
        if let Some(inside) = name
            .strip_prefix("timestamp[")
            .and_then(|rest| rest.strip_suffix(']'))
        {
            let (unit, utc) = match inside.strip_suffix(", UTC") {
                Some(unit) => (unit, true),
                None => (inside, false),
            };
            let unit = match unit {
                "s" => Unit::Second,
                "ms" => Unit::Milli,
                "us" => Unit::Micro,
                "ns" => Unit::Nano,
                _ => return None,
            };
            return Some(Self::Timestamp { unit, utc });
        }
        let inside = name.strip_prefix("decimal128(")?.strip_suffix(')')?;
        let (precision, scale) = inside.split_once(',')?;
        let number = |text: &str| {
            (!text.is_empty() && text.len() <= 2 && text.bytes().all(|b| b.is_ascii_digit()))
                .then(|| text.parse::<u8>().ok())
                .flatten()
        };
        let precision = number(precision)?;
        let scale = number(scale.strip_prefix(' ').unwrap_or(scale))?;
        ((1..=38).contains(&precision) && scale <= precision)
            .then_some(Self::Decimal { precision, scale })
    }

    /// As contracts write it.
    pub fn name(self) -> String {
        match self {
            Self::Bool => "bool".to_owned(),
            Self::Int { bits } => format!("int{bits}"),
            Self::UInt { bits } => format!("uint{bits}"),
            Self::Float32 => "float32".to_owned(),
            Self::Float64 => "float64".to_owned(),
            Self::Decimal { precision, scale } => format!("decimal128({precision}, {scale})"),
            Self::Utf8 => "utf8".to_owned(),
            Self::Date => "date32".to_owned(),
            Self::Time => "time64[us]".to_owned(),
            Self::Timestamp { unit, utc } => {
                format!(
                    "timestamp[{}{}]",
                    unit.name(),
                    if utc { ", UTC" } else { "" }
                )
            }
        }
    }
}

fn unknown(name: &str) -> FormatError {
    FormatError(format!("text cannot be read as type `{name}`"))
}
