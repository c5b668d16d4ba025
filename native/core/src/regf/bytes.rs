//! Little-endian integers at a position, or nothing when the bytes end before them.

/// `N` bytes at `at`.
#[inline]
pub(super) fn array_at<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk::<N>().copied()
}

/// A `u16` at `at`.
#[inline]
pub(super) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    array_at(bytes, at).map(u16::from_le_bytes)
}

/// A `u32` at `at`.
#[inline]
pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    array_at(bytes, at).map(u32::from_le_bytes)
}

/// A `u64` at `at`.
#[inline]
pub(super) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    array_at(bytes, at).map(u64::from_le_bytes)
}

/// Whether every byte is zero.
pub(super) fn all_zero(bytes: &[u8]) -> bool {
    let (blocks, rest) = bytes.as_chunks::<64>();
    blocks
        .iter()
        .all(|block| block.iter().fold(0, |sum, byte| sum | byte) == 0)
        && rest.iter().all(|byte| *byte == 0)
}

/// A FILETIME (100 ns since 1601, UTC) as nanoseconds since 1970; none for zero, and when 64 bits do
/// not hold it.
#[inline]
pub(super) fn filetime(ticks: u64) -> Option<i64> {
    const TICKS_TO_1970: i64 = 116_444_736_000_000_000;
    if ticks == 0 {
        return None;
    }
    i64::try_from(ticks)
        .ok()?
        .checked_sub(TICKS_TO_1970)?
        .checked_mul(100)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filetime_keeps_its_last_digit_or_is_refused() {
        assert_eq!(filetime(116_444_736_000_000_001), Some(100));
        assert_eq!(filetime(0), None);
        assert_eq!(filetime(1), None);
        assert_eq!(filetime(u64::MAX), None);
    }
}
