//! One record as Windows event XML, or as JSON, from its bytes.
//!
//! This is a reading of its own, token by token, without plans or columns: what a person is shown beside a row
//! comes from the bytes and not from the row. `render_tree` resolves templates and substitutions into a tree
//! ([MS-EVEN6] 3.1.4.7), `render_xml` and `render_json` write it down.

use super::carve;
use super::damage::{Damage, Reason};
use super::layout::{FILE_HEADER_BYTES, RECORD_HEADER_BYTES, RECORD_MAGIC, SLOT_BYTES};
use super::limits::Budget;
use super::render_json::to_json;
use super::render_tree::Builder;
use super::render_xml::to_xml;
use crate::bytes::u32_at;
use crate::error::CoreError;
use crate::source::ReadAt;

/// Where a record is, as its row says: `_cf_offset`, `_cf_length`, and whether `_cf_flags` has `carved`.
#[derive(Debug, Clone, Copy)]
pub struct RecordPlace {
    /// Bytes from the beginning of the source.
    pub offset: u64,
    /// Bytes of the whole record.
    pub length: u64,
    /// Found by its signature: chunks may begin anywhere.
    pub carved: bool,
}

/// A record, rendered. Neither text holds a character that could act on a terminal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RenderedRecord {
    /// Event XML, indented.
    pub xml: String,
    /// JSON, indented: typed values, elements by name.
    pub json: String,
    /// How many characters of the record XML cannot hold; `xml` has U+FFFD for each.
    pub unfit_for_xml: usize,
}

/// Render the record at a place.
///
/// # Errors
/// [`CoreError::Invalid`] when no record is there, or its event cannot be read; errors of the source.
pub fn render_record<S: ReadAt>(
    source: &S,
    place: RecordPlace,
) -> Result<RenderedRecord, CoreError> {
    let length = usize::try_from(place.length)
        .ok()
        .filter(|length| (RECORD_HEADER_BYTES + 4..=SLOT_BYTES).contains(length))
        .ok_or_else(|| invalid("no record has this length"))?;
    let mut record = vec![0; length];
    source.read_exact_at(&mut record, place.offset)?;
    let is_record = record.starts_with(&RECORD_MAGIC)
        && u32_at(&record, 4) == Some(length as u32)
        && u32_at(&record, length - 4) == Some(length as u32);
    if !is_record {
        return Err(invalid("no event record of this length begins here"));
    }
    let bases = if place.carved {
        carve::bases(source, &record, place.offset)?
    } else {
        vec![slot_of(place.offset)?]
    };
    let mut budget = Budget::new();
    let mut first = None;
    for base in bases {
        let chunk = carve::chunk_at(source, base)?;
        let Ok(start) = usize::try_from(place.offset.cast_signed() - base) else {
            continue;
        };
        match render_in(&chunk, start, length, &mut budget) {
            Ok(rendered) => return Ok(rendered),
            Err(damage) => first = first.or(Some(damage)),
        }
    }
    Err(invalid(first.map_or(
        "what the record refers to in its chunk is not here",
        |damage| damage.detail,
    )))
}

/// Render the record at `start` of `chunk`.
fn render_in(
    chunk: &[u8],
    start: usize,
    length: usize,
    budget: &mut Budget,
) -> Result<RenderedRecord, Damage> {
    let end = start + length - 4;
    if end > chunk.len() {
        return Err(Damage::truncated(start));
    }
    let roots = Builder::new(chunk, budget).document(start + RECORD_HEADER_BYTES..end)?;
    if roots.is_empty() {
        return Err(Damage::new(
            Reason::Structure,
            start,
            "the record holds no event",
        ));
    }
    let (xml, unfit_for_xml) = to_xml(&roots);
    Ok(RenderedRecord {
        xml,
        json: to_json(&roots),
        unfit_for_xml,
    })
}

/// Where the slot begins that `offset` is in.
fn slot_of(offset: u64) -> Result<i64, CoreError> {
    let distance = offset
        .checked_sub(FILE_HEADER_BYTES)
        .ok_or_else(|| invalid("no record of a log begins in its file header"))?;
    Ok((offset - distance % SLOT_BYTES as u64).cast_signed())
}

fn invalid(reason: &'static str) -> CoreError {
    CoreError::Invalid {
        what: "the record",
        reason,
    }
}

/// Whether a character can be shown as it is: no control, no invisible one, none that turns text around.
pub(super) fn is_plain(character: char) -> bool {
    !character.is_control()
        && !matches!(
            character,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
                | '\u{e0000}'..='\u{e007f}'
        )
}
