//! One unit of a text: what it is, where it lies, and its cells.

use std::borrow::Cow;

use memchr::memchr;

use super::layout::Escape;

/// What a unit of the text is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A record, with its cells.
    Row,
    /// Nothing but spaces and tabs, or a byte-order mark alone.
    Blank,
    /// A comment.
    Comment,
    /// One of the lines at the beginning that are no records.
    Skipped,
    /// A record whose cells cannot be told.
    Faulty(Fault),
}

/// Why cells cannot be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The quote that opens a cell is never closed, or too far away.
    Unbalanced,
    /// Something stands between a closing quote and the end of its cell.
    BehindQuote,
    /// The record is longer than may be.
    TooLong,
}

/// Place of a cell in the text of its record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cell {
    pub(super) start: u32,
    pub(super) end: u32,
    pub(super) quoted: bool,
    pub(super) escaped: bool,
}

/// One unit of the text. Units follow each other without a gap.
#[derive(Debug)]
pub struct Record<'a> {
    /// Where it begins in the file, in bytes.
    pub offset: u64,
    /// How many bytes of the file it takes, its terminator included.
    pub length: u64,
    /// What it is.
    pub kind: Kind,
    pub(super) text: &'a [u8],
    pub(super) cells: &'a [Cell],
    pub(super) quote: u8,
    pub(super) escape: Escape,
}

impl<'a> Record<'a> {
    /// How many cells it has; none unless it is a row.
    pub fn len(&self) -> usize {
        self.cells.len()
    }

    /// Whether it has no cells.
    pub fn is_empty(&self) -> bool {
        self.cells.is_empty()
    }

    /// The unit's text as UTF-8, where it is valid, with quotes and terminator; empty when it ended with a line, but for a comment
    /// that is not very long.
    pub fn text(&self) -> &'a [u8] {
        self.text
    }

    /// A cell as written, without its quotes.
    ///
    /// # Panics
    /// There is no such cell.
    #[inline]
    pub fn raw(&self, index: usize) -> &'a [u8] {
        let cell = self.cells[index];
        &self.text[cell.start as usize..cell.end as usize]
    }

    /// Whether a cell was in quotes.
    ///
    /// # Panics
    /// There is no such cell.
    pub fn is_quoted(&self, index: usize) -> bool {
        self.cells[index].quoted
    }

    /// Whether a cell holds an escape, so that its value is not what is written.
    ///
    /// # Panics
    /// There is no such cell.
    #[inline]
    pub fn is_escaped(&self, index: usize) -> bool {
        self.cells[index].escaped
    }

    /// A cell's value: without quotes and escapes; copied only when there are escapes.
    ///
    /// # Panics
    /// There is no such cell.
    #[inline]
    pub fn cell(&self, index: usize) -> Cow<'a, [u8]> {
        let raw = self.raw(index);
        if self.cells[index].escaped {
            Cow::Owned(unescaped(raw, self.quote, self.escape))
        } else {
            Cow::Borrowed(raw)
        }
    }
}

fn unescaped(raw: &[u8], quote: u8, escape: Escape) -> Vec<u8> {
    let sign = match escape {
        Escape::Byte(byte) => byte,
        Escape::Doubled | Escape::None => quote,
    };
    let mut value = Vec::with_capacity(raw.len());
    let mut rest = raw;
    while let Some(at) = memchr(sign, rest) {
        value.extend_from_slice(&rest[..at]);
        // A sign at the very end escapes nothing.
        value.push(*rest.get(at + 1).unwrap_or(&sign));
        rest = rest.get(at + 2..).unwrap_or_default();
    }
    value.extend_from_slice(rest);
    value
}
