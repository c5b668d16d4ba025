//! Lines of a text, one after the other.

use std::ops::Range;

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
        Self::beginning_in(source, 0..length)
    }

    /// The lines that begin in a range of bytes, wherever a file is cut: ranges that tile a file have each of its lines once.
    ///
    /// # Errors
    /// As of [`Lines::new`], and the first error of looking for the beginning of a line.
    pub fn beginning_in(source: S, range: Range<u64>) -> Result<Self, CoreError> {
        Self::with_blocks(source, range, BLOCK_BYTES)
    }

    pub(super) fn with_blocks(
        source: S,
        range: Range<u64>,
        block_bytes: usize,
    ) -> Result<Self, CoreError> {
        let mut sample = vec![0; source.len().min(SAMPLE_BYTES) as usize];
        source.read_exact_at(&mut sample, 0)?;
        let encoding = TextEncoding::detect(&sample).0;
        let start = beginning(&source, encoding, &range, block_bytes)?;
        let encoding = match encoding {
            TextEncoding::Bytes | TextEncoding::Utf8WithMark => Encoding::Utf8,
            TextEncoding::Utf16Le => Encoding::Utf16Le,
            TextEncoding::Utf16Be => Encoding::Utf16Be,
        };
        Ok(Self {
            window: Window::new(source, encoding, start, block_bytes),
            start: 0,
            offset: start,
            lead: 0,
            end: range.end,
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

/// Where the first line begins in a range; the end of the range when none does.
fn beginning<S: ReadAt>(
    source: &S,
    encoding: TextEncoding,
    range: &Range<u64>,
    block_bytes: usize,
) -> Result<u64, CoreError> {
    if range.start == 0 {
        return Ok(0);
    }
    let line_end: &[u8] = match encoding {
        TextEncoding::Bytes | TextEncoding::Utf8WithMark => b"\n",
        TextEncoding::Utf16Le => b"\n\0",
        TextEncoding::Utf16Be => b"\0\n",
    };
    let unit = line_end.len();
    // The terminator ends where a line of the range begins; units lie at multiples of their width.
    let mut at = range.start.saturating_sub(unit as u64);
    at = at.next_multiple_of(unit as u64);
    let mut block = vec![0; block_bytes.next_multiple_of(unit)];
    while at < range.end {
        let length = (range.end - at).min(block.len() as u64) as usize;
        let block = &mut block[..length];
        source.read_exact_at(block, at)?;
        let found = match unit {
            1 => memchr(b'\n', block),
            _ => block.chunks(unit).position(|chunk| chunk == line_end),
        };
        if let Some(place) = found {
            return Ok(at + ((place + 1) * unit) as u64);
        }
        at += length as u64;
    }
    Ok(range.end)
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
        let mut lines = Lines::with_blocks(SliceSource(raw), 0..length, block_bytes).unwrap();
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
            assert_agree(&encoded(&text, mark, wide, odd), block);
        }

        #[test]
        fn cuts_part_no_line_and_lose_none(
            text in "[a\r\n\u{0A0A}😀]{0,60}", mark: bool, wide in 0u8..3, odd: bool, block in 4usize..20,
            mut cuts in proptest::collection::vec(0u64..260, 0..12),
        ) {
            let raw = encoded(&text, mark, wide, odd);
            let length = raw.len() as u64;
            let spans = |from: u64, to: u64| {
                let mut lines = Lines::with_blocks(SliceSource(&raw), from..to, block).unwrap();
                let mut spans = Vec::new();
                while let Some(line) = lines.next().unwrap() {
                    spans.push((line.offset, line.length, line.text.map(<[u8]>::to_vec)));
                }
                spans
            };
            cuts.retain(|cut| *cut < length);
            cuts.extend([0, length]);
            cuts.sort_unstable();
            let parts: Vec<_> = cuts.windows(2).flat_map(|pair| spans(pair[0], pair[1])).collect();
            prop_assert_eq!(parts, spans(0, length));
        }
    }

    fn encoded(text: &str, mark: bool, wide: u8, odd: bool) -> Vec<u8> {
        let text = format!("{}{text}", if mark { "\u{FEFF}" } else { "" });
        let mut raw: Vec<u8> = match wide {
            0 => text.into_bytes(),
            1 => text.encode_utf16().flat_map(u16::to_le_bytes).collect(),
            _ => text.encode_utf16().flat_map(u16::to_be_bytes).collect(),
        };
        if odd {
            raw.push(b'x');
        }
        raw
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
