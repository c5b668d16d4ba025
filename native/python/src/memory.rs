//! How the C library keeps memory that was freed.
#![allow(unsafe_code, reason = "a setting of the C library's allocator")]

/// Keep what batches gave back, up to 64 MiB, for the next ones: each fresh page costs a fault, and the decoder writes
/// faster than the kernel makes pages. Elsewhere than with the GNU C library nothing is changed.
pub(crate) fn keep_freed_memory() {
    #[cfg(target_env = "gnu")]
    {
        const MMAP_THRESHOLD_BYTES: i32 = 32 << 20; // the largest that the C library takes
        const TRIM_THRESHOLD_BYTES: i32 = 64 << 20;
        // SAFETY: `mallopt` takes two numbers and sets parameters under the allocator's own lock.
        unsafe {
            libc::mallopt(libc::M_MMAP_THRESHOLD, MMAP_THRESHOLD_BYTES);
            libc::mallopt(libc::M_TRIM_THRESHOLD, TRIM_THRESHOLD_BYTES);
        }
    }
}
