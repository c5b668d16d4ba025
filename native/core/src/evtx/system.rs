//! System values into their columns.
//!
//! A value that its column cannot hold exactly is not stored: the caller keeps its text in the lists.

use super::columns::push_short;
use super::damage::Reason;
use super::rows::EventRows;
use super::target::{Column, Kind};
use super::text::{normalise_guid, push_cp1252, push_utf16, strip_nuls, strip_utf16_nuls};
use super::time::{filetime_nanoseconds, systemtime_nanoseconds, text_nanoseconds};
use super::value::{self, is_absent, render};
use crate::flags::{self, Flags};

/// What became of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fit {
    /// It is in its column.
    Stored,
    /// There is none: the column stays null.
    Absent,
    /// The column cannot hold it, or holds another one already.
    Misfit,
}

fn fit(stored: bool) -> Fit {
    if stored { Fit::Stored } else { Fit::Misfit }
}

/// Store a typed value.
///
/// # Errors
/// [`Reason::ValueSize`] when the bytes do not suit the type.
#[inline]
pub(super) fn store(
    rows: &mut EventRows,
    column: Column,
    type_code: u8,
    bytes: &[u8],
) -> Result<Fit, Reason> {
    if rows.has(column) || bytes.is_empty() || type_code == value::NULL {
        return store_unusual(rows, column, type_code, bytes);
    }
    let is_text = matches!(type_code, value::STRING | value::ANSI_STRING);
    match column.kind() {
        Kind::Text if is_text => store_rendered(rows, column, type_code, bytes),
        Kind::Sid if type_code == value::SID => store_rendered(rows, column, type_code, bytes),
        Kind::Guid if type_code == value::GUID => store_rendered(rows, column, type_code, bytes),
        Kind::Number(max) if !is_text => Ok(match unsigned(type_code, bytes)? {
            Some(number) if number <= max => {
                rows.set_number(column, number);
                Fit::Stored
            }
            _ => Fit::Misfit,
        }),
        Kind::Time if type_code == value::FILETIME => {
            let ticks = u64::from_le_bytes(exact(bytes)?);
            Ok(store_time(rows, column, filetime_nanoseconds(ticks)))
        }
        Kind::Time if type_code == value::SYSTEMTIME => {
            let time = systemtime_nanoseconds(&exact(bytes)?);
            Ok(store_time(rows, column, time))
        }
        _ if is_text => store_decoded(rows, column, type_code, bytes),
        _ => Ok(Fit::Misfit),
    }
}

/// Store a value that is absent or empty, or one for a column that has a value already.
#[cold]
fn store_unusual(
    rows: &mut EventRows,
    column: Column,
    type_code: u8,
    bytes: &[u8],
) -> Result<Fit, Reason> {
    if is_absent(type_code, bytes) {
        return Ok(Fit::Absent);
    }
    if rows.has(column) {
        return Ok(Fit::Misfit);
    }
    match type_code {
        value::STRING | value::ANSI_STRING => store_text(rows, column, ""),
        _ => Ok(Fit::Misfit),
    }
}

/// Store a value whose text is what the column holds.
#[inline]
fn store_rendered(
    rows: &mut EventRows,
    column: Column,
    type_code: u8,
    bytes: &[u8],
) -> Result<Fit, Reason> {
    let stored = rows.set_text(column, |out| {
        render(type_code, bytes, out).map(|rendered| Some(rendered.flags))
    })?;
    Ok(fit(stored))
}

/// Store a text in a column of another kind.
#[cold]
fn store_decoded(
    rows: &mut EventRows,
    column: Column,
    type_code: u8,
    bytes: &[u8],
) -> Result<Fit, Reason> {
    let (text, flags) = decode(type_code, bytes);
    let fit = store_text(rows, column, &text)?;
    if fit == Fit::Stored {
        rows.add_flags(flags);
    }
    Ok(fit)
}

/// Store a value that is written as text: a record without a template.
pub(super) fn store_text(rows: &mut EventRows, column: Column, text: &str) -> Result<Fit, Reason> {
    store_parsed(rows, column, text, &Parsed::new(column, text))
}

/// What a text is to a column. A literal of a template is parsed once, and stored in each record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Parsed {
    /// It says nothing.
    Absent,
    /// The column cannot hold it.
    Misfit,
    Number(u64),
    /// Nanoseconds since 1970.
    Time(i64),
    /// The text itself is what the column holds.
    Text,
    Guid([u8; 36]),
}

impl Parsed {
    pub(super) fn new(column: Column, text: &str) -> Self {
        let kind = column.kind();
        if text.is_empty() && kind != Kind::Text {
            return Self::Absent;
        }
        let parsed = match kind {
            Kind::Number(max) => parse_unsigned(text)
                .filter(|number| *number <= max)
                .map(Self::Number),
            Kind::Time => text_nanoseconds(text).map(Self::Time),
            Kind::Text => Some(Self::Text),
            Kind::Sid => text.starts_with("S-").then_some(Self::Text),
            Kind::Guid => normalise_guid(text).map(Self::Guid),
        };
        parsed.unwrap_or(Self::Misfit)
    }
}

/// Store a text that was parsed for this column.
pub(super) fn store_parsed(
    rows: &mut EventRows,
    column: Column,
    text: &str,
    parsed: &Parsed,
) -> Result<Fit, Reason> {
    if rows.has(column) {
        return Ok(Fit::Misfit);
    }
    let written = match parsed {
        Parsed::Absent => return Ok(Fit::Absent),
        Parsed::Misfit => return Ok(Fit::Misfit),
        Parsed::Number(number) => {
            rows.set_number(column, *number);
            return Ok(Fit::Stored);
        }
        Parsed::Time(nanoseconds) => {
            rows.set_time(column, *nanoseconds);
            return Ok(Fit::Stored);
        }
        Parsed::Text => text.as_bytes(),
        Parsed::Guid(guid) => guid,
    };
    let stored = rows.set_text(column, |out| {
        push_short(out, written);
        Ok(Some(flags::NONE))
    })?;
    Ok(fit(stored))
}

fn store_time(rows: &mut EventRows, column: Column, nanoseconds: Option<i64>) -> Fit {
    match nanoseconds {
        Some(nanoseconds) => {
            rows.set_time(column, nanoseconds);
            Fit::Stored
        }
        None => Fit::Misfit,
    }
}

fn exact<const N: usize>(bytes: &[u8]) -> Result<[u8; N], Reason> {
    bytes.try_into().map_err(|_| Reason::ValueSize)
}

/// An integer of any width that is not negative; `None` for what is no such integer.
#[inline]
fn unsigned(type_code: u8, bytes: &[u8]) -> Result<Option<u64>, Reason> {
    Ok(match type_code {
        value::UINT8 => Some(u64::from(u8::from_le_bytes(exact(bytes)?))),
        value::UINT16 => Some(u64::from(u16::from_le_bytes(exact(bytes)?))),
        value::UINT32 | value::HEX32 => Some(u64::from(u32::from_le_bytes(exact(bytes)?))),
        value::UINT64 | value::HEX64 => Some(u64::from_le_bytes(exact(bytes)?)),
        value::INT8 => u64::try_from(i8::from_le_bytes(exact(bytes)?)).ok(),
        value::INT16 => u64::try_from(i16::from_le_bytes(exact(bytes)?)).ok(),
        value::INT32 => u64::try_from(i32::from_le_bytes(exact(bytes)?)).ok(),
        value::INT64 => u64::try_from(i64::from_le_bytes(exact(bytes)?)).ok(),
        value::SIZE => match bytes.len() {
            4 => Some(u64::from(u32::from_le_bytes(exact(bytes)?))),
            _ => Some(u64::from_le_bytes(exact(bytes)?)),
        },
        _ => None,
    })
}

/// Decimal digits, or hexadecimal ones behind `0x`.
fn parse_unsigned(text: &str) -> Option<u64> {
    let text = text.trim_ascii();
    let (digits, radix) = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => (digits, 16),
        None => (text, 10),
    };
    // `from_str_radix` would take a sign.
    if !digits.starts_with(|first: char| first.is_ascii_hexdigit()) {
        return None;
    }
    u64::from_str_radix(digits, radix).ok()
}

fn decode(type_code: u8, bytes: &[u8]) -> (String, Flags) {
    let mut out = Vec::new();
    let lossy = if type_code == value::STRING {
        push_utf16(&mut out, strip_utf16_nuls(bytes))
    } else {
        push_cp1252(&mut out, strip_nuls(bytes))
    };
    let flags = if lossy {
        flags::LOSSY_TEXT
    } else {
        flags::NONE
    };
    (String::from_utf8_lossy(&out).into_owned(), flags)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_from_any_integer_that_is_not_negative() {
        assert_eq!(unsigned(value::INT32, &[255; 4]), Ok(None));
        assert_eq!(unsigned(value::HEX64, &[255; 8]), Ok(Some(u64::MAX)));
        assert_eq!(unsigned(value::REAL64, &[0; 8]), Ok(None));
        assert_eq!(unsigned(value::UINT16, &[0; 4]), Err(Reason::ValueSize));
        assert_eq!(parse_unsigned("0x80"), Some(128));
        assert_eq!(parse_unsigned(" 7 "), Some(7));
        for text in ["", "-1", "+1", "0x", "0x-1", "1.0", "18446744073709551616"] {
            assert_eq!(parse_unsigned(text), None, "{text}");
        }
    }
}
