//! Event logs to test with, built byte by byte, and the rows that come out of them.

#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test file is a crate and uses a part"
)]
#![allow(clippy::unwrap_used, reason = "a test ends where its assumptions do")]

pub mod binxml;
pub mod json;
pub mod log;
pub mod outcome;

#[allow(unused_imports, reason = "each test file uses a part")]
pub use binxml::*;
#[allow(unused_imports, reason = "each test file uses a part")]
pub use log::*;
#[allow(unused_imports, reason = "each test file uses a part")]
pub use outcome::*;

pub const FILE_HEADER_BYTES: usize = 4_096;
pub const CHUNK_BYTES: usize = 65_536;
pub const CHUNK_HEADER_BYTES: usize = 512;
/// 2016-08-26T00:00:12.3456789Z.
pub const FILETIME: u64 = 131_166_432_123_456_789;
pub const GUID_OUTER: [u8; 16] = [0x11; 16];
pub const GUID_PAYLOAD: [u8; 16] = [0x22; 16];
