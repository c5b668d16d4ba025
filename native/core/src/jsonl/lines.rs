//! Lines of a text, one after the other.

use memchr::memchr;

use crate::account::TextEncoding;
use crate::delimited::{Encoding, Window};
use crate::error::CoreError;
use crate::source::ReadAt;

/// How long a line may be that is held in memory, in bytes of UTF-8.
pub const LINE_BYTES_MAX: usize = 16 << 20;
const BLOCK_BYTES: usize = 256 << 10;
const SAMPLE_BYTES: u64 = 64 << 10;
const MARK: &[u8] = "\u{FEFF}".as_bytes();

/// One line. Lines follow each other without a gap.
#[derive(Debug)]
pub struct Line<'a> {
    /// Where it begins in the file, in bytes.
    pub offset: u64,
    /// How many bytes of the file it takes, its terminator included.
    pub length: u64,
    /// Its text without terminator and byte-order mark; none when it is longer than [`LINE_BYTES_MAX`].
    pub text: Option<&'a [u8]>,
}

impl Line<'_> {
    /// Whether it holds nothing but spaces and tabs.
    pub fn is_blank(&self) -> bool {
        self.text
            .is_some_and(|text| text.iter().all(|byte| matches!(byte, b' ' | b'\t')))
    }
}

/// Reads the lines of a text in UTF-8 or UTF-16, which a byte-order mark or the place of NUL bytes tells.
#[derive(Debug)]
pub struct Lines<S> {
    window: Window<S>,
    start: usize,
    offset: u64,
    /// Bytes of a byte-order mark, which belong to the first line.
    lead: u64,
    end: u64,
    at_beginning: bool,
}

impl<S: ReadAt> Lines<S> {
    /// The lines of a whole source.
    ///
    /// # Errors
    /// The error of the read that tells the encoding.
    pub fn new(source: S) -> Result<Self, CoreError> {
        let length = source.len();
        Self::between(source, 0, length)
    }

    /// The lines that begin at `start` or behind it and before `end`, where `start` must be the beginning of a line.
    ///
    /// # Errors
    /// As of [`Lines::new`].
    pub fn between(source: S, start: u64, end: u64) -> Result<Self, CoreError> {
        Self::with_blocks(source, start, end, BLOCK_BYTES)
    }

    pub(super) fn with_blocks(
        source: S,
        start: u64,
        end: u64,
        block_bytes: usize,
    ) -> Result<Self, CoreError> {
        let mut sample = vec![0; source.len().min(SAMPLE_BYTES) as usize];
        source.read_exact_at(&mut sample, 0)?;
        let encoding = match TextEncoding::detect(&sample).0 {
            TextEncoding::Bytes | TextEncoding::Utf8WithMark => Encoding::Utf8,
            TextEncoding::Utf16Le => Encoding::Utf16Le,
            TextEncoding::Utf16Be => Encoding::Utf16Be,
        };
        Ok(Self {
            window: Window::new(source, encoding, start, block_bytes),
            start: 0,
            offset: start,
            lead: 0,
            end,
            at_beginning: start == 0,
        })
    }

    /// Where the next line begins in the file.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The next line.
    ///
    /// # Errors
    /// The first error of a read.
    #[expect(clippy::should_implement_trait, reason = "a line borrows its reader")]
    pub fn next(&mut self) -> Result<Option<Line<'_>>, CoreError> {
        if self.offset >= self.end {
            return Ok(None);
        }
        if self.at_beginning {
            self.pass_mark()?;
        }
        let mut searched = 0;
        let (mut dropped, mut is_long) = (0, false);
        let (content, end) = loop {
            let rest = &self.window.text()[self.start..];
            if let Some(distance) = memchr(b'\n', &rest[searched..]) {
                let at = searched + distance;
                let content = at - usize::from(at > 0 && rest[at - 1] == b'\r');
                break (content, at + 1);
            }
            if self.window.is_at_end() {
                break (rest.len(), rest.len());
            }
            searched = rest.len();
            if searched > LINE_BYTES_MAX {
                // Nothing of it will be used: its end is all that is looked for.
                is_long = true;
                let all = self.window.text().len();
                dropped += self.window.raw_length(self.start..all);
                self.start = all;
                searched = 0;
            }
            self.window.drop_front(self.start);
            self.start = 0;
            self.window.more()?;
        };
        let begin = self.start;
        let raw = self.window.raw_length(begin..begin + end);
        let length = std::mem::take(&mut self.lead) + dropped + raw;
        let offset = self.offset;
        self.offset += length;
        self.start += end;
        let is_held = !is_long && content <= LINE_BYTES_MAX;
        Ok(Some(Line {
            offset,
            length,
            text: is_held.then(|| &self.window.text()[begin..begin + content]),
        }))
    }

    fn pass_mark(&mut self) -> Result<(), CoreError> {
        self.at_beginning = false;
        while self.window.text().len() < MARK.len() && !self.window.is_at_end() {
            self.window.more()?;
        }
        if self.window.text().starts_with(MARK) {
            self.lead = self.window.raw_length(0..MARK.len());
            self.start = MARK.len();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::account::account_lines;
    use crate::source::SliceSource;
    use crate::tally::Windows;

    fn assert_agree(raw: &[u8], block_bytes: usize) {
        let walked = account_lines(&SliceSource(raw), None).unwrap();
        let length = raw.len() as u64;
        let mut lines = Lines::with_blocks(SliceSource(raw), 0, length, block_bytes).unwrap();
        let mut windows = Windows::new(0, crate::account::lines::WINDOW_BYTES).unwrap();
        let (mut end, mut blank_units, mut blank_bytes) = (0, 0, 0);
        while let Some(line) = lines.next().unwrap() {
            assert_eq!(line.offset, end);
            end += line.length;
            if line.is_blank() {
                blank_units += 1;
                blank_bytes += line.length;
            } else {
                windows.add(line.offset, line.length).unwrap();
            }
        }
        assert_eq!(end, length);
        assert_eq!(walked.windows, windows, "{raw:?}");
        assert_eq!(
            (walked.blank_units, walked.blank_bytes),
            (blank_units, blank_bytes)
        );
    }

    proptest! {
        #[test]
        fn the_independent_walk_sees_the_same_lines(
            text in "[a \t\r\n😀]{0,80}", mark: bool, wide in 0u8..3, odd: bool, block in 4usize..40,
        ) {
            let text = if mark { format!("\u{FEFF}{text}") } else { text };
            let mut raw: Vec<u8> = match wide {
                0 => text.into_bytes(),
                1 => text.encode_utf16().flat_map(u16::to_le_bytes).collect(),
                _ => text.encode_utf16().flat_map(u16::to_be_bytes).collect(),
            };
            if odd {
                raw.push(b'x');
            }
            assert_agree(&raw, block);
        }
    }

    #[test]
    fn a_line_that_is_too_long_is_passed_over_and_counted() {
        let mut raw = vec![b'x'; LINE_BYTES_MAX + 70_000];
        raw.extend_from_slice(b"\r\n{}\n");
        assert_agree(&raw, 1 << 16);
        let mut lines = Lines::new(SliceSource(&raw)).unwrap();
        assert!(lines.next().unwrap().unwrap().text.is_none());
        assert_eq!(lines.next().unwrap().unwrap().text, Some(&b"{}"[..]));
    }
}
