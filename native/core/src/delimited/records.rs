//! Records and their cells, one after the other.

use std::borrow::Cow;

use memchr::{memchr, memchr2};

use super::layout::{Escape, Layout};
use super::scan::Marks;
use super::window::Window;
use crate::error::CoreError;
use crate::source::ReadAt;

const BLOCK_BYTES: usize = 256 << 10;
const MARK: &[u8] = "\u{FEFF}".as_bytes();
/// A comment that is longer is passed over without its text.
const COMMENT_TEXT_MAX: usize = 64 << 10;

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
struct Cell {
    start: u32,
    end: u32,
    quoted: bool,
    escaped: bool,
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
    text: &'a [u8],
    cells: &'a [Cell],
    quote: u8,
    escape: Escape,
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

/// Reads the units of a text.
#[derive(Debug)]
pub struct Records<S> {
    window: Window<S>,
    rules: Rules,
    /// Places of marks in the window's text.
    marks: Vec<u32>,
    /// First of `marks` that lies at `start` or behind.
    mark: usize,
    /// Where the next unit begins in the window's text.
    start: usize,
    /// The same in the file.
    offset: u64,
    /// Bytes of a byte-order mark before the text of the first unit, which they belong to.
    lead: u64,
    /// No unit begins there or behind.
    end: u64,
    skip_lines: u64,
    at_beginning: bool,
    cells: Vec<Cell>,
}

#[derive(Debug)]
struct Rules {
    delimiter: Box<[u8]>,
    quote: Option<u8>,
    escape: Escape,
    comment: Option<Box<[u8]>>,
    marks: Marks,
    quoted_max: usize,
    record_max: usize,
}

/// What was seen of a unit: it ends where its end was found, or with a line still to be found.
enum Seen {
    /// Cells are known; it ends there.
    Whole { end: usize },
    /// Its end is known, and its cells cannot be.
    Faulty { fault: Fault, end: usize },
    /// It ends with the line that is in work at `from`.
    Line { kind: Kind, from: usize },
    /// More text is needed to tell.
    More,
}

impl Seen {
    fn unbalanced(open: usize) -> Self {
        Self::Line {
            kind: Kind::Faulty(Fault::Unbalanced),
            from: open + 1,
        }
    }
}

impl<S: ReadAt> Records<S> {
    /// The units of the whole source.
    ///
    /// # Errors
    /// [`CoreError::Invalid`]: the layout cannot be ([`Layout::check`] says why).
    pub fn new(source: S, layout: &Layout) -> Result<Self, CoreError> {
        let length = source.len();
        Self::between(source, layout, 0, length)
    }

    /// The units that begin at `start` or behind it and before `end`, where `start` must be the beginning of a unit.
    ///
    /// Only from 0 on there are a byte-order mark and lines to skip.
    ///
    /// # Errors
    /// As of [`Records::new`].
    pub fn between(source: S, layout: &Layout, start: u64, end: u64) -> Result<Self, CoreError> {
        Self::with_blocks(source, layout, start, end, BLOCK_BYTES)
    }

    pub(super) fn with_blocks(
        source: S,
        layout: &Layout,
        start: u64,
        end: u64,
        block_bytes: usize,
    ) -> Result<Self, CoreError> {
        layout.check().map_err(|_| CoreError::Invalid {
            what: "a layout",
            reason: "one character has two meanings",
        })?;
        let delimiter: Box<[u8]> = layout.delimiter.as_bytes().into();
        let escape = match layout.escape {
            Escape::Byte(byte) => Some(byte),
            Escape::None | Escape::Doubled => None,
        };
        Ok(Self {
            rules: Rules {
                marks: Marks::new(delimiter[0], layout.quote, escape),
                delimiter,
                quote: layout.quote,
                escape: layout.escape,
                comment: layout.comment.as_ref().map(|text| text.as_bytes().into()),
                quoted_max: layout.quoted_bytes_max,
                record_max: layout.record_bytes_max,
            },
            window: Window::new(source, layout.encoding, start, block_bytes),
            marks: Vec::new(),
            mark: 0,
            start: 0,
            offset: start,
            lead: 0,
            end,
            skip_lines: if start == 0 { layout.skip_lines } else { 0 },
            at_beginning: start == 0,
            cells: Vec::new(),
        })
    }

    /// Where the next unit begins in the file.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The next unit.
    ///
    /// # Errors
    /// The first error of a read.
    #[expect(clippy::should_implement_trait, reason = "a record borrows its reader")]
    pub fn next(&mut self) -> Result<Option<Record<'_>>, CoreError> {
        if self.offset >= self.end {
            return Ok(None);
        }
        if self.at_beginning {
            self.pass_mark()?;
        }
        let seen = loop {
            match self.look() {
                Seen::More => self.refill()?,
                seen => break seen,
            }
        };
        let (kind, end) = match seen {
            Seen::Whole { end } => (self.kind_of_whole(), end),
            Seen::Faulty { fault, end } => (Kind::Faulty(fault), end),
            Seen::Line { kind, from } => return self.line(kind, from).map(Some),
            Seen::More => unreachable!("the loop goes on"),
        };
        let begin = self.start;
        let raw = self.window.raw_length(begin..end);
        let (offset, length) = self.advance(end, raw);
        Ok(Some(Record {
            offset,
            length,
            kind,
            text: &self.window.text()[begin..end],
            cells: if kind == Kind::Row { &self.cells } else { &[] },
            quote: self.rules.quote.unwrap_or(0),
            escape: self.rules.escape,
        }))
    }

    /// Step over a byte-order mark: it belongs to the first unit, and is no part of its text.
    fn pass_mark(&mut self) -> Result<(), CoreError> {
        self.at_beginning = false;
        while self.window.text().len() < MARK.len() && !self.window.is_at_end() {
            self.refill()?;
        }
        if self.window.text().starts_with(MARK) {
            self.lead = self.window.raw_length(0..MARK.len());
            self.start = MARK.len();
            self.mark = self.marks_before(self.start);
        }
        Ok(())
    }

    /// Drop what was read, and read on.
    fn refill(&mut self) -> Result<(), CoreError> {
        let dropped = self.start;
        self.window.drop_front(dropped);
        self.start = 0;
        self.marks.drain(..self.mark);
        self.mark = 0;
        for place in &mut self.marks {
            *place -= dropped as u32;
        }
        let had = self.window.text().len();
        self.window.more()?;
        self.rules
            .marks
            .find(self.window.text(), had, &mut self.marks);
        Ok(())
    }

    fn marks_before(&self, place: usize) -> usize {
        self.mark + self.marks[self.mark..].partition_point(|mark| (*mark as usize) < place)
    }

    /// The unit ends at `end` of the text, `raw` bytes of the file behind the beginning of its text: its offset and length.
    fn advance(&mut self, end: usize, raw: u64) -> (u64, u64) {
        let (offset, length) = (self.offset, std::mem::take(&mut self.lead) + raw);
        self.start = end;
        self.mark = self.marks_before(end);
        self.offset = offset + length;
        (offset, length)
    }

    fn kind_of_whole(&self) -> Kind {
        let text = self.window.text();
        match self.cells.as_slice() {
            [only] if !only.quoted => {
                let content = &text[self.start..][only.start as usize..only.end as usize];
                let is_blank = content.iter().all(|byte| matches!(byte, b' ' | b'\t'));
                if is_blank { Kind::Blank } else { Kind::Row }
            }
            _ => Kind::Row,
        }
    }

    /// Find the end of the unit, and its cells.
    fn look(&mut self) -> Seen {
        let text = self.window.text();
        let last = self.window.is_at_end();
        if self.start == text.len() && !last {
            return Seen::More;
        }
        if self.skip_lines > 0 {
            self.skip_lines -= 1;
            return Seen::Line {
                kind: Kind::Skipped,
                from: self.start,
            };
        }
        if let Some(comment) = &self.rules.comment {
            let rest = &text[self.start..];
            if rest.starts_with(comment) {
                return Seen::Line {
                    kind: Kind::Comment,
                    from: self.start,
                };
            }
            if comment.starts_with(rest) && !last {
                return Seen::More;
            }
        }
        self.cells.clear();
        let mut look = Look {
            text,
            last,
            marks: &self.marks,
            at: self.mark,
            start: self.start,
            rules: &self.rules,
            cells: &mut self.cells,
        };
        look.record()
    }

    /// A unit that ends with a line: the first that ends at `from` of the text or behind. Only a comment's text is kept.
    fn line(&mut self, kind: Kind, from: usize) -> Result<Record<'_>, CoreError> {
        let (mut search, mut passed) = (from, 0);
        let end = loop {
            let text = self.window.text();
            let last = self.window.is_at_end();
            match memchr2(b'\n', b'\r', &text[search..]) {
                Some(distance) => {
                    search += distance;
                    match (text[search], text.get(search + 1)) {
                        (b'\r', Some(b'\n')) => break search + 2,
                        (b'\r', None) if !last => {}
                        _ => break search + 1,
                    }
                }
                None if last => break text.len(),
                None => search = text.len(),
            }
            let is_kept =
                kind == Kind::Comment && passed == 0 && search - self.start < COMMENT_TEXT_MAX;
            if !is_kept {
                // What was searched is not needed again, but for a CR behind which a LF may come.
                passed += self.window.raw_length(self.start..search);
                self.start = search;
                self.mark = self.marks_before(search);
            }
            search -= self.start;
            self.refill()?;
        };
        let begin = self.start;
        let raw = passed + self.window.raw_length(self.start..end);
        let (offset, length) = self.advance(end, raw);
        let text = if kind == Kind::Comment && passed == 0 {
            &self.window.text()[begin..end]
        } else {
            &[]
        };
        Ok(Record {
            offset,
            length,
            kind,
            text,
            cells: &[],
            quote: 0,
            escape: Escape::None,
        })
    }
}

/// A look at one record, of which nothing is taken yet.
struct Look<'a> {
    text: &'a [u8],
    /// Whether no text follows.
    last: bool,
    marks: &'a [u32],
    /// The next mark to look at.
    at: usize,
    start: usize,
    rules: &'a Rules,
    cells: &'a mut Vec<Cell>,
}

/// How a quoted part went.
enum Quoted {
    /// The closing quote stands there.
    Closed {
        at: usize,
        escaped: bool,
    },
    Ended(Seen),
}

impl Look<'_> {
    fn record(&mut self) -> Seen {
        let mut fault = None;
        let mut cell = self.start;
        loop {
            let mut inside = Cell {
                start: 0,
                end: 0,
                quoted: false,
                escaped: false,
            };
            let opens =
                self.rules.quote.is_some() && self.text.get(cell) == self.rules.quote.as_ref();
            if opens {
                match self.quoted(cell) {
                    Quoted::Ended(seen) => return seen,
                    Quoted::Closed { at, escaped } => {
                        inside = Cell {
                            start: (cell + 1 - self.start) as u32,
                            end: (at - self.start) as u32,
                            quoted: true,
                            escaped,
                        };
                    }
                }
            }
            // Behind a closing quote there should be nothing.
            let from = if opens {
                inside.end as usize + self.start + 1
            } else {
                cell
            };
            let (content_end, next) = match self.bare(from, &mut inside.escaped) {
                Ok(found) => found,
                Err(seen) => return seen,
            };
            if !opens {
                inside.start = (cell - self.start) as u32;
                inside.end = (content_end - self.start) as u32;
            } else if content_end != from {
                fault = Some(Fault::BehindQuote);
            }
            self.cells.push(inside);
            match next {
                Next::Cell { start } => cell = start,
                Next::End { end } => {
                    return match fault {
                        None => Seen::Whole { end },
                        Some(fault) => Seen::Faulty { fault, end },
                    };
                }
            }
        }
    }

    /// Find the quote that closes the one at `open`.
    fn quoted(&mut self, open: usize) -> Quoted {
        let quote_limit = open + self.rules.quoted_max;
        let record_limit = self.start + self.rules.record_max - 1;
        let limit = quote_limit.min(record_limit);
        let given_up = || {
            Quoted::Ended(if quote_limit <= record_limit {
                Seen::unbalanced(open)
            } else {
                Seen::Line {
                    kind: Kind::Faulty(Fault::TooLong),
                    from: record_limit + 1,
                }
            })
        };
        let mut escaped = false;
        self.at += 1; // the opening quote
        loop {
            let Some(&place) = self.marks.get(self.at) else {
                return if self.text.len() > limit {
                    given_up()
                } else if self.last {
                    Quoted::Ended(Seen::unbalanced(open))
                } else {
                    Quoted::Ended(Seen::More)
                };
            };
            let place = place as usize;
            if place > limit {
                return given_up();
            }
            self.at += 1;
            let byte = self.text[place];
            let is_escape = match self.rules.escape {
                Escape::Byte(sign) => byte == sign,
                Escape::Doubled => Some(byte) == self.rules.quote,
                Escape::None => false,
            };
            if is_escape && place + 1 == self.text.len() && !self.last {
                return Quoted::Ended(Seen::More);
            }
            let escapes = match self.rules.escape {
                Escape::Doubled => self.text.get(place + 1) == self.rules.quote.as_ref(),
                _ => true,
            };
            if is_escape && escapes {
                escaped = true;
                self.pass(place + 2);
            } else if Some(byte) == self.rules.quote {
                return Quoted::Closed { at: place, escaped };
            }
        }
    }

    /// Find where the cell ends that goes on at `from`, outside of quotes: the end of what it holds, and what follows.
    fn bare(&mut self, from: usize, escaped: &mut bool) -> Result<(usize, Next), Seen> {
        self.pass(from);
        let record_limit = self.start + self.rules.record_max;
        let too_long = Seen::Line {
            kind: Kind::Faulty(Fault::TooLong),
            from: record_limit,
        };
        loop {
            let Some(&place) = self.marks.get(self.at) else {
                let end = self.text.len();
                return if end >= record_limit {
                    Err(too_long)
                } else if self.last {
                    Ok((end, Next::End { end }))
                } else {
                    Err(Seen::More)
                };
            };
            let place = place as usize;
            if place >= record_limit {
                return Err(too_long);
            }
            self.at += 1;
            let rest = &self.text[place..];
            match rest[0] {
                b'\n' => return Ok((place, Next::End { end: place + 1 })),
                b'\r' => {
                    return match rest.get(1) {
                        Some(b'\n') => Ok((place, Next::End { end: place + 2 })),
                        None if !self.last => Err(Seen::More),
                        _ => Ok((place, Next::End { end: place + 1 })),
                    };
                }
                byte if Escape::Byte(byte) == self.rules.escape => {
                    if rest.len() == 1 && !self.last {
                        return Err(Seen::More);
                    }
                    *escaped = true;
                    self.pass(place + 2);
                }
                byte if byte == self.rules.delimiter[0] => {
                    let delimiter = &*self.rules.delimiter;
                    if rest.starts_with(delimiter) {
                        let start = place + delimiter.len();
                        self.pass(start);
                        return Ok((place, Next::Cell { start }));
                    }
                    if delimiter.starts_with(rest) && !self.last {
                        return Err(Seen::More);
                    }
                }
                _ => {} // a quote in the middle of a cell
            }
        }
    }

    /// Leave out the marks before `place`.
    fn pass(&mut self, place: usize) {
        while self
            .marks
            .get(self.at)
            .is_some_and(|mark| (*mark as usize) < place)
        {
            self.at += 1;
        }
    }
}

/// What follows a cell.
enum Next {
    Cell { start: usize },
    End { end: usize },
}
