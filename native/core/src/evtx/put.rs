//! A value in its place: the column that it belongs to, when it fits there, or else the lists.

use super::damage::{Damage, Decoded, Reason};
use super::rows::EventRows;
use super::system::{Fit, Parsed, store, store_parsed};
use super::target::Place;
use super::value::{self, Rendered, render};
use crate::flags;

const NO_VALUE: Rendered = Rendered {
    is_null: true,
    flags: flags::NONE,
};
const PLAIN_TEXT: Rendered = Rendered {
    is_null: false,
    flags: flags::NONE,
};

/// A value that its type does not have; it begins at `at`.
#[cold]
pub(super) fn unsuitable(reason: Reason, at: usize) -> Damage {
    Damage::new(reason, at, "a value does not suit its type")
}

/// Put a typed value into its column, or into the lists.
#[inline]
pub(super) fn put_value(
    rows: &mut EventRows,
    place: Place<'_>,
    type_code: u8,
    bytes: &[u8],
    at: usize,
) -> Decoded<()> {
    if let Some(column) = place.column {
        let fit = store(rows, column, type_code, bytes).map_err(|reason| unsuitable(reason, at))?;
        if fit != Fit::Misfit {
            return Ok(());
        }
        rows.add_flags(flags::STRANGE_SYSTEM);
    }
    if value::is_array(type_code) {
        return rows.push_array(place.label, type_code, bytes, at);
    }
    rows.push_item(place.label, type_code, at, |out| {
        render(type_code, bytes, out)
    })
}

/// Put text into its column, or into the lists.
pub(super) fn put_text(
    rows: &mut EventRows,
    place: Place<'_>,
    text: &str,
    type_code: u8,
    at: usize,
) -> Decoded<()> {
    let parsed = place
        .column
        .map_or(Parsed::Misfit, |column| Parsed::new(column, text));
    put_parsed(rows, place, text, &parsed, type_code, at)
}

/// Put text, parsed for the column of its place, into that column, or into the lists.
pub(super) fn put_parsed(
    rows: &mut EventRows,
    place: Place<'_>,
    text: &str,
    parsed: &Parsed,
    type_code: u8,
    at: usize,
) -> Decoded<()> {
    if let Some(column) = place.column {
        let fit =
            store_parsed(rows, column, text, parsed).map_err(|reason| unsuitable(reason, at))?;
        if fit != Fit::Misfit {
            return Ok(());
        }
        rows.add_flags(flags::STRANGE_SYSTEM);
    }
    rows.push_item(place.label, type_code, at, |out| {
        out.extend_from_slice(text.as_bytes());
        Ok(PLAIN_TEXT)
    })
}

/// Tell of an element without content.
pub(super) fn put_nothing(rows: &mut EventRows, place: Place<'_>, at: usize) -> Decoded<()> {
    if place.column.is_some() {
        return Ok(());
    }
    rows.push_item(place.label, value::NULL, at, |_| Ok(NO_VALUE))
}
