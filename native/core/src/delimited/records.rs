//! Records and their cells, one after the other.

use memchr::memchr2;

use super::layout::{Escape, Layout};
use super::look::{Look, Rules, Seen};
use super::record::{Cell, Kind, Record};
use super::scan::Marks;
use super::window::Window;
use crate::error::CoreError;
use crate::source::ReadAt;

const BLOCK_BYTES: usize = 256 << 10;
const MARK: &[u8] = "\u{FEFF}".as_bytes();
/// A comment that is longer is passed over without its text.
const COMMENT_TEXT_MAX: usize = 64 << 10;

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
