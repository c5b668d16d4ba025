//! Accounting for delimited text: the unit is the record.
//!
//! The rules are those of [`crate::delimited`], which says how a record ends, what an unbalanced quote costs, and what is blank. This
//! walk reads the file's own bytes unit by unit and keeps nothing but a place: it decodes no text, makes no list of marks,
//! and knows cells only as places at which a quote may open. Header, comments, skipped lines and blank records are counted as
//! blank: with the spans of the others they tile the file exactly.

use memchr::{memchr2, memchr3};

use super::lines::WINDOW_BYTES;
use super::{Account, Unit};
use crate::delimited::{Encoding, Escape, Layout};
use crate::error::CoreError;
use crate::source::ReadAt;
use crate::tally::Windows;

/// Small in tests, so that records lie across many buffers.
const BUFFER_BYTES: usize = if cfg!(test) { 128 } else { 1 << 20 };
/// Longer than any delimiter or comment prefix in any encoding.
const AHEAD_BYTES: usize = 64;
const LINE_FEED: u32 = 0x0A;
const CARRIAGE_RETURN: u32 = 0x0D;
const SPACE: u32 = 0x20;
const TAB: u32 = 0x09;
/// An odd byte at the end of UTF-16; equals no character.
const HALF: u32 = 0x11_0000;

/// Walk the records of `source`.
///
/// # Errors
/// The first error of a read; [`CoreError::Invalid`] when the layout cannot be.
pub fn account_delimited<S: ReadAt + ?Sized>(
    source: &S,
    layout: &Layout,
) -> Result<Account, CoreError> {
    layout.check().map_err(|_| CoreError::Invalid {
        what: "a layout",
        reason: "one character has two meanings",
    })?;
    let walk = Walk {
        cursor: Cursor::new(source, layout.encoding),
        delimiter: units(layout.encoding, &layout.delimiter),
        comment: layout
            .comment
            .as_ref()
            .and_then(|text| units(layout.encoding, text)),
        quote: layout.quote.map(u32::from),
        escape: match layout.escape {
            Escape::Byte(byte) => Some(u32::from(byte)),
            Escape::None | Escape::Doubled => None,
        },
        doubled: layout.escape == Escape::Doubled,
        quoted_max: layout.quoted_bytes_max as u64,
        record_max: layout.record_bytes_max as u64,
        account: Account::empty(Unit::Record, Windows::new(0, WINDOW_BYTES)?),
    };
    walk.run(layout.skip_lines, layout.header)
}

/// A text as units of an encoding; none when it cannot be written in it, and so is never found.
fn units(encoding: Encoding, text: &str) -> Option<Vec<u32>> {
    match encoding {
        Encoding::Utf8 => Some(text.bytes().map(u32::from).collect()),
        Encoding::Utf16Le | Encoding::Utf16Be => Some(text.encode_utf16().map(u32::from).collect()),
        Encoding::Latin1 => text
            .chars()
            .map(|c| u8::try_from(c).ok().map(u32::from))
            .collect(),
        Encoding::Cp1252 => text
            .chars()
            .map(|c| match c {
                '\0'..='\x7F' | '\u{A0}'..='\u{FF}' => Some(c as u32),
                _ => PUNCTUATION
                    .chars()
                    .position(|known| known == c && c != '\0')
                    .map(|at| 0x80 + at as u32),
            })
            .collect(),
    }
}

/// Code page 1252 from 80 on; NUL where there is nothing. Source: unicode.org, CP1252.TXT.
const PUNCTUATION: &str = "€\0‚ƒ„…†‡ˆ‰Š‹Œ\0Ž\0\0‘’“”•–—˜™š›œ\0žŸ";

/// A place in the file, and how many bytes of UTF-8 the text before it takes.
#[derive(Debug, Clone, Copy)]
struct Place {
    offset: u64,
    width: u64,
}

struct Walk<'a, S: ?Sized> {
    cursor: Cursor<'a, S>,
    delimiter: Option<Vec<u32>>,
    comment: Option<Vec<u32>>,
    quote: Option<u32>,
    escape: Option<u32>,
    doubled: bool,
    quoted_max: u64,
    record_max: u64,
    account: Account,
}

/// How a unit is to be counted.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Record,
    Blank,
    Comment,
}

impl<S: ReadAt + ?Sized> Walk<'_, S> {
    fn run(mut self, skip_lines: u64, mut header: bool) -> Result<Account, CoreError> {
        let mut start = 0; // a byte-order mark belongs to the first unit
        self.cursor.pass_mark()?;
        let mut skip = skip_lines;
        while start < self.cursor.length {
            let class = if skip > 0 {
                skip -= 1;
                self.line()?;
                Class::Comment
            } else {
                self.record()?
            };
            let end = self.cursor.place.offset;
            let is_header = class == Class::Record && std::mem::take(&mut header);
            if class == Class::Record && !is_header {
                self.account.present += 1;
                self.account.windows.add(start, end - start)?;
            } else {
                self.account.blank_units += 1;
                self.account.blank_bytes += end - start;
            }
            start = end;
        }
        Ok(self.account)
    }

    /// Go to the end of one unit.
    fn record(&mut self) -> Result<Class, CoreError> {
        let start = self.cursor.place;
        if self.cursor.begins(self.comment.as_deref())? {
            self.line()?;
            return Ok(Class::Comment);
        }
        if self.is_blank(start)? {
            self.end_line()?;
            return Ok(Class::Blank);
        }
        self.cursor.seek(start)?;
        let limit = start.width + self.record_max;
        loop {
            // The beginning of a cell.
            if self.quote.is_some()
                && self.cursor.peek()? == self.quote
                && let Some(from) = self.quoted(start)?
            {
                self.cursor.seek(from)?;
                self.line()?;
                return Ok(Class::Record);
            }
            let stops = [
                self.delimiter.as_ref().map(|units| units[0]),
                self.escape,
                Some(LINE_FEED),
                Some(CARRIAGE_RETURN),
            ];
            loop {
                self.cursor.skip_to(stops, limit)?;
                if self.cursor.place.width >= limit {
                    self.too_long(start)?;
                    return Ok(Class::Record);
                }
                match self.cursor.peek()? {
                    None => return Ok(Class::Record),
                    Some(LINE_FEED | CARRIAGE_RETURN) => {
                        self.end_line()?;
                        return Ok(Class::Record);
                    }
                    unit if unit == self.escape => {
                        self.cursor.step()?;
                        self.cursor.step()?;
                    }
                    _ if self.cursor.begins(self.delimiter.as_deref())? => {
                        for _ in 0..self.delimiter.as_ref().map_or(0, Vec::len) {
                            self.cursor.step()?;
                        }
                        break;
                    }
                    _ => self.cursor.step()?,
                }
            }
        }
    }

    /// Whether nothing but spaces and tabs comes before the end of the line; goes there.
    fn is_blank(&mut self, start: Place) -> Result<bool, CoreError> {
        loop {
            if self.cursor.place.width - start.width >= self.record_max {
                return Ok(false);
            }
            match self.cursor.peek()? {
                None | Some(LINE_FEED | CARRIAGE_RETURN) => return Ok(true),
                Some(SPACE | TAB) => {
                    let unit = self.cursor.peek()?;
                    if unit == self.quote
                        || unit == self.escape
                        || self.cursor.begins(self.delimiter.as_deref())?
                    {
                        return Ok(false);
                    }
                    self.cursor.step()?;
                }
                Some(_) => return Ok(false),
            }
        }
    }

    /// Go behind the quote that closes the one here; or say from where on the end of a line ends the unit.
    fn quoted(&mut self, start: Place) -> Result<Option<Place>, CoreError> {
        let open = self.cursor.place;
        self.cursor.step()?;
        let behind_open = self.cursor.place;
        let quote_limit = open.width + self.quoted_max;
        let record_limit = start.width + self.record_max - 1;
        let limit = quote_limit.min(record_limit);
        loop {
            self.cursor
                .skip_to([self.quote, self.escape, None, None], limit + 1)?;
            if self.cursor.place.width > limit {
                if quote_limit <= record_limit {
                    return Ok(Some(behind_open));
                }
                return self.behind(start, record_limit + 1).map(Some);
            }
            let unit = self.cursor.peek()?;
            if unit.is_none() {
                return Ok(Some(behind_open));
            }
            self.cursor.step()?;
            // The character behind an escape, or the second of two quotes.
            if unit != self.escape && !(self.doubled && self.cursor.peek()? == self.quote) {
                return Ok(None);
            }
            self.cursor.step()?;
        }
    }

    fn too_long(&mut self, start: Place) -> Result<(), CoreError> {
        let from = self.behind(start, start.width + self.record_max)?;
        self.cursor.seek(from)?;
        self.line()
    }

    /// The first place from `start` on before which the text takes `width` bytes or more.
    fn behind(&mut self, start: Place, width: u64) -> Result<Place, CoreError> {
        self.cursor.seek(start)?;
        self.cursor.skip_to([None; 4], width)?;
        Ok(self.cursor.place)
    }

    /// Go behind the end of the line.
    fn line(&mut self) -> Result<(), CoreError> {
        let stops = [Some(LINE_FEED), Some(CARRIAGE_RETURN), None, None];
        self.cursor.skip_to(stops, u64::MAX)?;
        self.end_line()
    }

    /// Go behind the terminator that is here, if one is.
    fn end_line(&mut self) -> Result<(), CoreError> {
        if self.cursor.peek()? == Some(CARRIAGE_RETURN) {
            self.cursor.step()?;
        } else if self.cursor.peek()? != Some(LINE_FEED) {
            return Ok(());
        } else {
            return self.cursor.step();
        }
        if self.cursor.peek()? == Some(LINE_FEED) {
            self.cursor.step()?;
        }
        Ok(())
    }
}

/// The units of a source, one after the other.
struct Cursor<'a, S: ?Sized> {
    source: &'a S,
    encoding: Encoding,
    length: u64,
    buffer: Vec<u8>,
    /// Where the buffer begins in the file.
    base: u64,
    place: Place,
}

impl<'a, S: ReadAt + ?Sized> Cursor<'a, S> {
    fn new(source: &'a S, encoding: Encoding) -> Self {
        Self {
            source,
            encoding,
            length: source.len(),
            buffer: Vec::new(),
            base: 0,
            place: Place {
                offset: 0,
                width: 0,
            },
        }
    }

    fn pass_mark(&mut self) -> Result<(), CoreError> {
        let mark: &[u8] = match self.encoding {
            Encoding::Utf8 => &[0xEF, 0xBB, 0xBF],
            Encoding::Utf16Le => &[0xFF, 0xFE],
            Encoding::Utf16Be => &[0xFE, 0xFF],
            Encoding::Latin1 | Encoding::Cp1252 => return Ok(()),
        };
        self.load()?;
        if self.rest().starts_with(mark) {
            self.place.offset = mark.len() as u64;
        }
        Ok(())
    }

    fn seek(&mut self, place: Place) -> Result<(), CoreError> {
        self.place = place;
        self.load()
    }

    /// Have what is at the place in the buffer, and as much behind it as anybody looks ahead.
    fn load(&mut self) -> Result<(), CoreError> {
        let at = self.place.offset;
        let end = self.base + self.buffer.len() as u64;
        let ahead = (at + AHEAD_BYTES as u64).min(self.length);
        if at >= self.base && ahead <= end {
            return Ok(());
        }
        let count = (self.length - at).min(BUFFER_BYTES as u64);
        self.buffer.resize(count as usize, 0);
        self.base = at;
        self.source.read_exact_at(&mut self.buffer, at)
    }

    /// What the buffer holds from the place on.
    fn rest(&self) -> &[u8] {
        &self.buffer[(self.place.offset - self.base) as usize..]
    }

    fn at(bytes: &[u8], encoding: Encoding) -> Option<u32> {
        match (encoding, bytes) {
            (_, []) => None,
            (Encoding::Utf16Le, [low, high, ..]) => {
                Some(u32::from(u16::from_le_bytes([*low, *high])))
            }
            (Encoding::Utf16Be, [high, low, ..]) => {
                Some(u32::from(u16::from_be_bytes([*high, *low])))
            }
            (Encoding::Utf16Le | Encoding::Utf16Be, _) => Some(HALF),
            (_, [byte, ..]) => Some(u32::from(*byte)),
        }
    }

    /// The unit here; none at the end.
    fn peek(&mut self) -> Result<Option<u32>, CoreError> {
        self.load()?;
        Ok(Self::at(self.rest(), self.encoding))
    }

    /// Whether these units come next.
    fn begins(&mut self, units: Option<&[u32]>) -> Result<bool, CoreError> {
        let Some(units) = units else {
            return Ok(false);
        };
        self.load()?;
        let size = self.encoding.unit_bytes() as usize;
        let rest = self.rest();
        Ok(units.iter().enumerate().all(|(index, unit)| {
            Self::at(rest.get(index * size..).unwrap_or_default(), self.encoding) == Some(*unit)
        }))
    }

    /// Go behind the character here, if there is one.
    fn step(&mut self) -> Result<(), CoreError> {
        self.load()?;
        self.pass();
        Ok(())
    }

    fn pass(&mut self) {
        let rest = self.rest();
        let Some(unit) = Self::at(rest, self.encoding) else {
            return;
        };
        let size = self.encoding.unit_bytes();
        if size == 2 && (0xD800..0xDC00).contains(&unit) {
            let next = Self::at(rest.get(2..).unwrap_or_default(), self.encoding);
            if next.is_some_and(|next| (0xDC00..0xE000).contains(&next)) {
                // A pair is one character.
                self.place.offset += 4;
                self.place.width += 4;
                return;
            }
        }
        self.place.offset += size.min(rest.len() as u64);
        self.place.width += self.width(unit);
    }

    /// Bytes that a unit by itself takes as UTF-8.
    fn width(&self, unit: u32) -> u64 {
        match (self.encoding, unit) {
            (Encoding::Utf8, _) | (_, 0..=0x7F | HALF) => 1,
            (Encoding::Latin1, _) => 2,
            (Encoding::Cp1252, 0x81 | 0x8D | 0x8F | 0x90 | 0x9D) => 1,
            (Encoding::Cp1252, 0x83 | 0x88 | 0x8A | 0x8C | 0x8E | 0x98 | 0x9A | 0x9C) => 2,
            (Encoding::Cp1252, 0x9E | 0x9F | 0xA0..) | (_, 0x80..=0x7FF) => {
                if self.encoding == Encoding::Cp1252 && unit < 0x9E {
                    3
                } else {
                    2
                }
            }
            _ => 3,
        }
    }

    /// Go to the next of these units, to the end, or to where the text before takes `width` bytes or more.
    fn skip_to(&mut self, stops: [Option<u32>; 4], width: u64) -> Result<(), CoreError> {
        while self.place.width < width {
            self.load()?;
            let rest = self.rest();
            if rest.is_empty() {
                return Ok(());
            }
            if self.encoding == Encoding::Utf8 {
                let most = usize::try_from(width - self.place.width).unwrap_or(usize::MAX);
                let rest = &rest[..rest.len().min(most)];
                let found = find(rest, stops);
                let passed = found.unwrap_or(rest.len()) as u64;
                self.place.offset += passed;
                self.place.width += passed;
                if found.is_some() {
                    return Ok(());
                }
                continue;
            }
            let Some(unit) = Self::at(rest, self.encoding) else {
                return Ok(());
            };
            if stops.contains(&Some(unit)) {
                return Ok(());
            }
            self.pass();
        }
        Ok(())
    }
}

/// The first of the stops, which are bytes.
fn find(bytes: &[u8], stops: [Option<u32>; 4]) -> Option<usize> {
    let [a, b, c, d] = stops.map(|stop| stop.and_then(|unit| u8::try_from(unit).ok()));
    match (a, b, c, d) {
        (Some(a), None, Some(c), Some(d)) => memchr3(a, c, d, bytes),
        (Some(a), Some(b), Some(c), Some(d)) => {
            let stops = [a, b, c, d];
            bytes.iter().position(|byte| stops.contains(byte))
        }
        (Some(a), b, None, None) => memchr2(a, b.unwrap_or(a), bytes),
        (None, None, None, None) => None,
        _ => bytes
            .iter()
            .position(|byte| [a, b, c, d].contains(&Some(*byte))),
    }
}

#[cfg(test)]
mod tests;
