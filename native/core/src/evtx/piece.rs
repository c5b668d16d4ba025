//! Pieces of a value as UTF-8 text.

use super::damage::{Damage, Decoded};
use super::text::push_utf16;
use super::value::{self, render, strip_trailing_nuls};
use super::walk::Piece;
use crate::flags::{self, Flags};

/// Text that needs no record to be known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct StaticText {
    pub(super) text: String,
    /// The type of the only literal, or of a string.
    pub(super) type_code: u8,
    pub(super) flags: Flags,
}

/// Append a piece that is no substitution; for a substitution nothing is appended.
pub(super) fn push_static(out: &mut Vec<u8>, piece: &Piece<'_>, at: usize) -> Decoded<Flags> {
    let lossy = |replaced| {
        if replaced {
            flags::LOSSY_TEXT
        } else {
            flags::NONE
        }
    };
    Ok(match *piece {
        Piece::Text(text) => lossy(push_utf16(out, text)),
        Piece::Literal { type_code, bytes } => {
            let rendered = render(type_code, bytes, out)
                .map_err(|reason| Damage::new(reason, at, "a literal does not suit its type"))?;
            rendered.flags
        }
        Piece::Character(unit) => lossy(push_utf16(out, &unit.to_le_bytes())),
        Piece::Entity(name) => push_entity(out, name),
        Piece::Slot { .. } => flags::NONE,
    })
}

/// Append what an entity stands for; an entity that XML does not define stays as it is written.
fn push_entity(out: &mut Vec<u8>, name: &[u8]) -> Flags {
    let mut text = Vec::new();
    let replaced = push_utf16(&mut text, name);
    match text.as_slice() {
        b"lt" => out.push(b'<'),
        b"gt" => out.push(b'>'),
        b"amp" => out.push(b'&'),
        b"quot" => out.push(b'"'),
        b"apos" => out.push(b'\''),
        unknown => {
            out.push(b'&');
            out.extend_from_slice(unknown);
            out.push(b';');
        }
    }
    if replaced {
        flags::LOSSY_TEXT
    } else {
        flags::NONE
    }
}

/// The text of pieces without a substitution; `None` when there is one, or no piece at all.
pub(super) fn static_text(pieces: &[Piece<'_>], at: usize) -> Decoded<Option<StaticText>> {
    let has_slot = pieces
        .iter()
        .any(|piece| matches!(piece, Piece::Slot { .. }));
    if pieces.is_empty() || has_slot {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    let mut flags = flags::NONE;
    for piece in pieces {
        flags |= push_static(&mut bytes, piece, at)?;
    }
    strip_trailing_nuls(&mut bytes);
    let type_code = match pieces {
        [Piece::Literal { type_code, .. }] => *type_code,
        _ => value::STRING,
    };
    Ok(Some(StaticText {
        text: text_of(bytes),
        type_code,
        flags,
    }))
}

/// Bytes as text: they are UTF-8 but for a fault of the decoder.
pub(super) fn text_of(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes)
        .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}
