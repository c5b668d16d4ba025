//! Chunks and records by their signatures, anywhere in a source.
//!
//! Rules:
//!   * A record is its magic, a size from 28 to 65,024 and the same size again at its end. The next one is
//!     looked for behind it, else one byte further.
//!   * A chunk is its magic with a header whose checksum is right, or with records whose checksum is. Chunks
//!     are 512 bytes apart at least.
//!
//! Every position is tried: memory images and file systems keep 512-byte steps, a carved or pasted file need not.
//! The source is read in windows, so that memory does not depend on its size.

use memchr::memmem::Finder;

use crate::bytes::u32_at;
use crate::error::CoreError;
use crate::evtx::layout::{
    CHUNK_HEADER_BYTES, CHUNK_MAGIC, Chunk, RECORD_BYTES_MIN, RECORD_MAGIC, SLOT_BYTES,
};
use crate::source::ReadAt;

/// Bytes that are read at a time.
const READ_BYTES: usize = 1 << 20;
/// The largest record: all of a chunk but its header.
const RECORD_BYTES_MAX: usize = SLOT_BYTES - CHUNK_HEADER_BYTES;

/// Something that was found, by its place in the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// A chunk begins.
    Chunk { at: u64 },
    /// A record whose frame is whole.
    Record { at: u64, size: usize },
}

impl Found {
    fn at(self) -> u64 {
        match self {
            Self::Chunk { at } | Self::Record { at, .. } => at,
        }
    }
}

/// Finds what there is, in order of place.
pub(super) struct Scanner {
    chunk_magic: Finder<'static>,
    record_magic: Finder<'static>,
    window: Vec<u8>,
    window_start: u64,
    /// Where the search for each goes on.
    chunk_cursor: u64,
    record_cursor: u64,
    chunk: Option<u64>,
    record: Option<(u64, usize)>,
    /// Where a chunk's magic was seen last, whatever its header is worth.
    pub(super) last_magic: Option<u64>,
    /// Where a data checksum was computed last for a header that is wrong.
    last_guess: Option<u64>,
}

impl Scanner {
    pub(super) fn new() -> Self {
        Self {
            chunk_magic: Finder::new(&CHUNK_MAGIC),
            record_magic: Finder::new(&RECORD_MAGIC),
            window: Vec::new(),
            window_start: 0,
            chunk_cursor: 0,
            record_cursor: 0,
            chunk: None,
            record: None,
            last_magic: None,
            last_guess: None,
        }
    }

    /// What begins next, or nothing at the end.
    ///
    /// # Errors
    /// When the source cannot be read.
    pub(super) fn next<S: ReadAt>(&mut self, source: &S) -> Result<Option<Found>, CoreError> {
        loop {
            // What begins before this can be judged with the bytes at hand.
            let window_end = self.window_start + self.window.len() as u64;
            let at_end = window_end >= source.len();
            let end = if at_end {
                window_end
            } else {
                window_end.saturating_sub(SLOT_BYTES as u64)
            };
            if self.chunk.is_none() {
                self.chunk = self.find_chunk(end);
            }
            if self.record.is_none() {
                self.record = self.find_record(end);
            }
            let chunk = self.chunk.map(|at| Found::Chunk { at });
            let record = self.record.map(|(at, size)| Found::Record { at, size });
            match (chunk, record) {
                (Some(chunk), record) if record.is_none_or(|record| chunk.at() <= record.at()) => {
                    self.chunk = None;
                    return Ok(Some(chunk));
                }
                (_, Some(record)) => {
                    self.record = None;
                    return Ok(Some(record));
                }
                _ if at_end => return Ok(None),
                _ => self.refill(source)?,
            }
        }
    }

    /// The bytes from `at` on that are at hand.
    pub(super) fn bytes(&self, at: u64) -> &[u8] {
        let start = at.saturating_sub(self.window_start) as usize;
        self.window.get(start..).unwrap_or_default()
    }

    fn refill<S: ReadAt>(&mut self, source: &S) -> Result<(), CoreError> {
        self.window_start = self.chunk_cursor.min(self.record_cursor);
        let left = source.len().saturating_sub(self.window_start);
        let size = left.min((READ_BYTES + SLOT_BYTES) as u64) as usize;
        self.window.resize(size, 0);
        source.read_exact_at(&mut self.window, self.window_start)
    }

    /// The part of the window from `cursor` on, in which a magic of `width` bytes may begin before `end`.
    fn part(&self, cursor: u64, end: u64, width: usize) -> &[u8] {
        let start = cursor.saturating_sub(self.window_start) as usize;
        let stop = end.saturating_sub(self.window_start) as usize + width - 1;
        let stop = stop.min(self.window.len());
        self.window.get(start..stop).unwrap_or_default()
    }

    fn find_chunk(&mut self, end: u64) -> Option<u64> {
        while self.chunk_cursor < end {
            let part = self.part(self.chunk_cursor, end, CHUNK_MAGIC.len());
            let Some(distance) = self.chunk_magic.find(part) else {
                break;
            };
            let at = self.chunk_cursor + distance as u64;
            self.last_magic = Some(at);
            if self.is_chunk(at) {
                self.chunk_cursor = at + CHUNK_HEADER_BYTES as u64;
                return Some(at);
            }
            self.chunk_cursor = at + 1;
        }
        self.chunk_cursor = self.chunk_cursor.max(end);
        None
    }

    fn is_chunk(&mut self, at: u64) -> bool {
        let bytes = self.bytes(at);
        let slot = bytes.get(..SLOT_BYTES).unwrap_or(bytes);
        if Chunk::has_right_header(slot) {
            return true;
        }
        // A checksum over a whole chunk for each of many magics would be work without a bound.
        let is_due = self
            .last_guess
            .is_none_or(|last| at >= last + CHUNK_HEADER_BYTES as u64);
        if !is_due {
            return false;
        }
        let is_chunk = Chunk::read(slot).is_some_and(|chunk| chunk.trusted);
        self.last_guess = Some(at);
        is_chunk
    }

    fn find_record(&mut self, end: u64) -> Option<(u64, usize)> {
        while self.record_cursor < end {
            let part = self.part(self.record_cursor, end, RECORD_MAGIC.len());
            let Some(distance) = self.record_magic.find(part) else {
                break;
            };
            let at = self.record_cursor + distance as u64;
            if let Some(size) = record_size(self.bytes(at)) {
                self.record_cursor = at + size as u64;
                return Some((at, size));
            }
            self.record_cursor = at + 1;
        }
        self.record_cursor = self.record_cursor.max(end);
        None
    }
}

/// The size of the record that `bytes` begin with, when its frame is whole.
fn record_size(bytes: &[u8]) -> Option<usize> {
    let size = u32_at(bytes, 4)?;
    let size_bytes = size as usize;
    if !(RECORD_BYTES_MIN..=RECORD_BYTES_MAX).contains(&size_bytes) {
        return None;
    }
    (u32_at(bytes, size_bytes - 4)? == size).then_some(size_bytes)
}
