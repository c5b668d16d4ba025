//! The bounds that keep hostile input from costing more than a multiple of its size.
//!
//! A list, a data cell or a name may be referred to many times, though a sound hive refers to each once. What
//! references cost is therefore counted, and nothing more is followed when it is used up; cells themselves
//! still come out, each once.

/// Keys inside one another; Windows allows no more.
pub(super) const DEPTH_MAX: u32 = 512;
/// The longest path, in bytes.
pub(super) const PATH_BYTES_MAX: usize = 256 << 10;
/// Bytes of a value's data that are looked at.
pub(super) const DATA_BYTES_MAX: usize = 1 << 20;

/// What is left of a hive's work.
#[derive(Debug, Default)]
pub(super) struct Work {
    items: usize,
    data_bytes: usize,
    path_bytes: usize,
}

impl Work {
    /// The work that a hive of `bytes` bytes may cost.
    pub(super) fn for_bytes(bytes: usize) -> Self {
        Self {
            // A list's item has 4 bytes.
            items: bytes / 2 + (1 << 16),
            data_bytes: bytes.saturating_mul(2) + (16 << 20),
            path_bytes: bytes.saturating_mul(32) + (64 << 20),
        }
    }

    /// Pay for items of lists.
    #[inline]
    pub(super) fn spend_items(&mut self, count: usize) -> bool {
        spend(&mut self.items, count)
    }

    /// Pay for data that lies outside of its value.
    #[inline]
    pub(super) fn spend_data(&mut self, bytes: usize) -> bool {
        spend(&mut self.data_bytes, bytes)
    }

    /// Pay for a path that is written.
    #[inline]
    pub(super) fn spend_path(&mut self, bytes: usize) -> bool {
        spend(&mut self.path_bytes, bytes)
    }
}

#[inline]
fn spend(left: &mut usize, amount: usize) -> bool {
    match left.checked_sub(amount) {
        Some(rest) => {
            *left = rest;
            true
        }
        None => false,
    }
}
