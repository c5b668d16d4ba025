//! Cutting bins into cells and damaged regions, by sizes and signatures alone.
//!
//! Layout: M. Suhanov, "Windows registry file format specification", sections "Hive bin" and "Cell".

use super::base::BASE_BYTES;
use super::bytes::{all_zero, i32_at, u16_at, u32_at};

/// Bins begin at multiples of this.
const STEP: usize = BASE_BYTES;
const BIN_HEADER_BYTES: usize = 32;
const CELL_STEP: usize = 8;
/// What the cells that others point to begin with.
const SIGNATURES: [&[u8; 2]; 8] = [b"nk", b"vk", b"sk", b"lf", b"lh", b"li", b"ri", b"db"];

/// What a piece of the bins is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A valid bin as a whole; its cells follow.
    Bin,
    /// An allocated cell with a key.
    Key,
    /// An allocated cell with a value.
    Value,
    /// An allocated cell with anything else.
    Other,
    /// A cell that is not allocated.
    Free,
    /// Pages where a bin should begin.
    DamagedBin,
    /// Bytes within a bin where a cell should begin.
    DamagedCell,
    /// Whole pages of zeros at the end of the area.
    ZeroPages,
}

/// A bin, a cell with its size field, or a damaged region.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) kind: Kind,
    pub(super) offset: usize,
    pub(super) length: usize,
}

/// Give every piece between the base block and `end`, in order.
///
/// # Errors
/// The first one of `piece`.
pub(super) fn cut<E>(
    bytes: &[u8],
    end: usize,
    mut piece: impl FnMut(Piece) -> Result<(), E>,
) -> Result<(), E> {
    let mut at = STEP;
    while at < end {
        if let Some(length) = bin_at(bytes, at, end) {
            piece(Piece {
                kind: Kind::Bin,
                offset: at,
                length,
            })?;
            cut_bin(&bytes[..at + length], at, &mut piece)?;
            at += length;
            continue;
        }
        let mut next = at + STEP;
        while next < end && !bytes[next..end].starts_with(b"hbin") {
            next += STEP;
        }
        let next = next.min(end);
        let filled = match next == end {
            true => without_zero_pages(bytes, at, end),
            false => next,
        };
        for (kind, offset, end) in [
            (Kind::DamagedBin, at, filled),
            (Kind::ZeroPages, filled, next),
        ] {
            if end > offset {
                piece(Piece {
                    kind,
                    offset,
                    length: end - offset,
                })?;
            }
        }
        at = next;
    }
    Ok(())
}

/// Size of the valid bin that begins here.
fn bin_at(bytes: &[u8], at: usize, end: usize) -> Option<usize> {
    let space = &bytes[at..end];
    let size = u32_at(space, 8)? as usize;
    let fits = size != 0 && size.is_multiple_of(STEP) && size <= space.len();
    (space.starts_with(b"hbin") && fits).then_some(size)
}

/// The end of the last page that has something in it; `from` when none has.
fn without_zero_pages(bytes: &[u8], from: usize, end: usize) -> usize {
    let mut page = from + (end - from - 1) / STEP * STEP;
    let mut last = end;
    while all_zero(&bytes[page..last]) {
        if page == from {
            return from;
        }
        last = page;
        page -= STEP;
    }
    last
}

/// `bytes` end where the bin does.
fn cut_bin<E>(
    bytes: &[u8],
    bin: usize,
    piece: &mut impl FnMut(Piece) -> Result<(), E>,
) -> Result<(), E> {
    let mut at = bin + BIN_HEADER_BYTES;
    while at < bytes.len() {
        let (kind, length) = match cell_at(bytes, at) {
            Some((true, length)) => (allocated(bytes, at), length),
            Some((false, length)) => (Kind::Free, length),
            None => (Kind::DamagedCell, damage_end(bytes, at) - at),
        };
        piece(Piece {
            kind,
            offset: at,
            length,
        })?;
        at += length;
    }
    Ok(())
}

/// Whether the valid cell that begins here is allocated, and its length.
fn cell_at(bytes: &[u8], at: usize) -> Option<(bool, usize)> {
    let size = i32_at(bytes, at)?;
    let length = size.unsigned_abs() as usize;
    let fits = length >= 8 && length.is_multiple_of(CELL_STEP) && length <= bytes.len() - at;
    fits.then_some((size < 0, length))
}

fn allocated(bytes: &[u8], at: usize) -> Kind {
    match u16_at(bytes, at + 4).map(u16::to_le_bytes) {
        Some([b'n', b'k']) => Kind::Key,
        Some([b'v', b'k']) => Kind::Value,
        _ => Kind::Other,
    }
}

/// Where the next cell begins that is allocated and has a signature, or the bin's end.
fn damage_end(bytes: &[u8], at: usize) -> usize {
    (at + CELL_STEP..bytes.len())
        .step_by(CELL_STEP)
        .find(|next| {
            let signature = bytes.get(next + 4..next + 6);
            cell_at(bytes, *next).is_some_and(|(allocated, _)| allocated)
                && SIGNATURES
                    .iter()
                    .any(|known| Some(known.as_slice()) == signature)
        })
        .unwrap_or(bytes.len())
}
