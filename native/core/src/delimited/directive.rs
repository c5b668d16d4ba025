//! `#Fields:` lines of W3C extended logs: comments that name the cells of the records below them.

use super::{Kind, Layout, Record};

const FIELDS: &[u8] = b"Fields:";

/// The names that a comment gives to the cells of the records below it, of texts whose records have no header.
///
/// They stand in a row with spaces or tabs between them, whatever parts the records.
pub(crate) fn names(record: &Record<'_>, layout: &Layout) -> Option<Vec<String>> {
    if record.kind != Kind::Comment || layout.header {
        return None;
    }
    let text = record
        .text()
        .strip_prefix(layout.comment.as_ref()?.as_bytes())?;
    let listed = std::str::from_utf8(text.strip_prefix(FIELDS)?).ok()?;
    let names: Vec<_> = listed.split_ascii_whitespace().map(str::to_owned).collect();
    (!names.is_empty()).then_some(names)
}
