//! Little-endian integers at a position, or nothing when the bytes end before them.

/// `N` bytes at `at`.
#[inline]
pub(crate) fn array_at<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk::<N>().copied()
}

/// A `u16` at `at`.
#[inline]
pub(crate) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    array_at(bytes, at).map(u16::from_le_bytes)
}

/// A `u32` at `at`.
#[inline]
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    array_at(bytes, at).map(u32::from_le_bytes)
}

/// A `u32` at `at`, as a position or length.
#[inline]
pub(crate) fn offset_at(bytes: &[u8], at: usize) -> Option<usize> {
    u32_at(bytes, at).map(|value| value as usize)
}

/// A `u64` at `at`.
#[inline]
pub(crate) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    array_at(bytes, at).map(u64::from_le_bytes)
}

/// Whether every byte is zero.
pub(crate) fn all_zero(bytes: &[u8]) -> bool {
    let (blocks, rest) = bytes.as_chunks::<64>();
    blocks
        .iter()
        .all(|block| block.iter().fold(0, |sum, byte| sum | byte) == 0)
        && rest.iter().all(|byte| *byte == 0)
}

/// How many bytes are not zero.
pub(crate) fn nonzero_count(bytes: &[u8]) -> usize {
    // At most 64 in a block: the count fits eight bits, and the compiler makes vector code of it.
    let count = |part: &[u8]| {
        let count: u8 = part.iter().map(|byte| u8::from(*byte != 0)).sum();
        usize::from(count)
    };
    let (blocks, rest) = bytes.as_chunks::<64>();
    blocks.iter().map(|block| count(block)).sum::<usize>() + count(rest)
}
