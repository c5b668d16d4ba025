//! A part of a text in memory, read on as it is needed.

use super::Encoding;
use crate::error::CoreError;
use crate::source::ReadAt;

/// The text from one place of a source on. It grows by [`Window::more`] and shrinks by [`Window::drop_front`].
#[derive(Debug)]
pub(crate) struct Window<S> {
    source: S,
    encoding: Encoding,
    text: Vec<u8>,
    /// Offset of the first byte that was not read yet.
    next: u64,
    end: u64,
    block_bytes: usize,
    raw: Vec<u8>,
}

impl<S: ReadAt> Window<S> {
    /// Nothing of `source` yet, which is read from `start` to its end.
    pub(crate) fn new(source: S, encoding: Encoding, start: u64, block_bytes: usize) -> Self {
        let end = source.len();
        Self {
            source,
            encoding,
            text: Vec::new(),
            next: start.min(end),
            end,
            block_bytes: block_bytes.max(4),
            raw: Vec::new(),
        }
    }

    /// The text, as UTF-8 where it is text at all.
    pub(crate) fn text(&self) -> &[u8] {
        &self.text
    }

    /// Whether nothing is left to read.
    pub(crate) fn is_at_end(&self) -> bool {
        self.next == self.end && self.raw.is_empty()
    }

    /// How many bytes of the file the beginning of the text stands for.
    pub(crate) fn raw_length(&self, range: std::ops::Range<usize>) -> u64 {
        self.encoding.raw_length(&self.text[range])
    }

    /// Forget the first `count` bytes of the text.
    pub(crate) fn drop_front(&mut self, count: usize) {
        self.text.drain(..count);
    }

    /// Read on, at least as much as there is: so taking in a long record costs no more than its length, twice.
    ///
    /// # Errors
    /// The error of the read.
    pub(crate) fn more(&mut self) -> Result<(), CoreError> {
        let wanted = self.block_bytes.max(self.text.len()) as u64;
        let count = wanted.min(self.end - self.next) as usize;
        let into = match self.encoding {
            Encoding::Utf8 => &mut self.text,
            _ => &mut self.raw,
        };
        let had = into.len();
        into.resize(had + count, 0);
        self.source.read_exact_at(&mut into[had..], self.next)?;
        self.next += count as u64;
        if self.encoding != Encoding::Utf8 {
            let last = self.next == self.end;
            let left = self.encoding.decode(&self.raw, last, &mut self.text);
            self.raw.drain(..self.raw.len() - left);
        }
        Ok(())
    }
}
