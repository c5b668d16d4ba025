//! What can be said of a row: the bits of `@flags`, which users see as names in `_cf_flags`.
//!
//! The numbers are part of stored data: a bit is never reused or renumbered.

/// A set of row flags, one bit each.
pub type Flags = u32;

/// Nothing special.
pub const NONE: Flags = 0;
/// Read from a damaged or untrusted part of the live area.
pub const RECOVERED: Flags = 1;
/// Read from the slack behind the live area.
pub const SLACK: Flags = 2;
/// Found by signature, outside any known structure.
pub const CARVED: Flags = 4;
/// The container's checksum over this row does not match.
pub const CRC_BAD: Flags = 8;
/// The container was cut off behind this row.
pub const CUT: Flags = 16;
/// An unpaired surrogate or an undecodable byte was replaced in a text.
pub const LOSSY_TEXT: Flags = 32;
/// Written without a template (inline BinXML).
pub const INLINE: Flags = 64;
/// A system value did not fit its column; its rendering is in the lists.
pub const STRANGE_SYSTEM: Flags = 128;
/// The year is not in the bytes; it was inferred from configuration or the path.
pub const YEAR_INFERRED: Flags = 256;
/// The time zone is not in the bytes; it was declared in the configuration.
pub const TZ_DECLARED: Flags = 512;

/// Every flag with the name that users see, in order of the bit.
pub const NAMES: [(Flags, &str); 10] = [
    (RECOVERED, "recovered"),
    (SLACK, "slack"),
    (CARVED, "carved"),
    (CRC_BAD, "crc_bad"),
    (CUT, "cut"),
    (LOSSY_TEXT, "lossy_text"),
    (INLINE, "inline"),
    (STRANGE_SYSTEM, "strange_system"),
    (YEAR_INFERRED, "year_inferred"),
    (TZ_DECLARED, "tz_declared"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_flag_is_one_bit_of_its_own() {
        for (position, (bit, _)) in NAMES.iter().enumerate() {
            assert_eq!(*bit, 1 << position);
        }
    }
}
