//! Key nodes (`nk`) and key values (`vk`) as their cells hold them.

use super::columns::push_short_ascii;
use super::problem::Reason;
use crate::bytes::{array_at, u16_at, u32_at, u64_at};

/// A reference to nothing.
pub(super) const NOWHERE: u32 = u32::MAX;
/// Bytes of a key in front of its name, and of a value.
pub(super) const KEY_FIXED_BYTES: usize = 76;
pub(super) const VALUE_FIXED_BYTES: usize = 20;
/// Key flag: the root of the hive.
pub(super) const KEY_ROOT: u16 = 0x4;
/// Key flag: the name is Latin-1.
const KEY_COMP_NAME: u16 = 0x20;
/// Value flag: the name is Latin-1.
const VALUE_COMP_NAME: u16 = 1;
/// Bit of the data size: the data is in the field of its place.
const DATA_INLINE: u32 = 1 << 31;

/// A name as it is stored.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Name<'c> {
    pub(super) bytes: &'c [u8],
    /// Latin-1, or else UTF-16.
    pub(super) is_latin: bool,
}

impl Name<'_> {
    /// Append the name as UTF-8. Returns whether something was replaced.
    #[inline]
    pub(super) fn push_to(self, out: &mut Vec<u8>) -> bool {
        if !self.is_latin {
            return crate::evtx::push_utf16(out, self.bytes);
        }
        if !push_short_ascii(out, self.bytes) {
            for byte in self.bytes {
                let mut buffer = [0; 2];
                out.extend_from_slice(char::from(*byte).encode_utf8(&mut buffer).as_bytes());
            }
        }
        false
    }
}

/// A key node.
#[derive(Debug, Clone, Copy)]
pub(super) struct Key<'c> {
    pub(super) flags: u16,
    /// A FILETIME.
    pub(super) last_write: u64,
    pub(super) parent: u32,
    pub(super) subkey_count: u32,
    pub(super) subkeys: u32,
    pub(super) value_count: u32,
    pub(super) values: u32,
    pub(super) security: u32,
    pub(super) class: u32,
    pub(super) class_bytes: u16,
    pub(super) name: Name<'c>,
}

impl<'c> Key<'c> {
    /// Read the key in a cell; `data` begins behind the cell's size.
    #[inline]
    pub(super) fn read(data: &'c [u8]) -> Result<Self, Reason> {
        let fixed: &[u8; KEY_FIXED_BYTES] = data.first_chunk().ok_or(Reason::KeyTruncated)?;
        let u16_of = |at| u16_at(fixed, at).unwrap_or_default();
        let u32_of = |at| u32_at(fixed, at).unwrap_or_default();
        let flags = u16_of(2);
        let end = KEY_FIXED_BYTES + usize::from(u16_of(72));
        Ok(Self {
            flags,
            last_write: u64_at(fixed, 4).unwrap_or_default(),
            parent: u32_of(16),
            subkey_count: u32_of(20),
            subkeys: u32_of(28),
            value_count: u32_of(36),
            values: u32_of(40),
            security: u32_of(44),
            class: u32_of(48),
            class_bytes: u16_of(74),
            name: Name {
                bytes: data.get(KEY_FIXED_BYTES..end).ok_or(Reason::KeyName)?,
                is_latin: flags & KEY_COMP_NAME != 0,
            },
        })
    }
}

/// Where a value's data is.
#[derive(Debug, Clone, Copy)]
pub(super) enum DataPlace {
    /// In the value itself.
    Inline([u8; 4]),
    /// In the cell at this place.
    Cell(u32),
}

/// A key value.
#[derive(Debug, Clone, Copy)]
pub(super) struct Value<'c> {
    pub(super) data_bytes: u32,
    pub(super) data: DataPlace,
    pub(super) kind: u32,
    pub(super) flags: u16,
    /// None for the default value.
    pub(super) name: Option<Name<'c>>,
}

impl<'c> Value<'c> {
    /// Read the value in a cell; `data` begins behind the cell's size.
    #[inline]
    pub(super) fn read(data: &'c [u8]) -> Result<Self, Reason> {
        let fixed: &[u8; VALUE_FIXED_BYTES] = data.first_chunk().ok_or(Reason::ValueTruncated)?;
        let u32_of = |at| u32_at(fixed, at).unwrap_or_default();
        let flags = u16_at(fixed, 16).unwrap_or_default();
        let name_bytes = usize::from(u16_at(fixed, 2).unwrap_or_default());
        let end = VALUE_FIXED_BYTES + name_bytes;
        let name = data.get(VALUE_FIXED_BYTES..end).ok_or(Reason::ValueName)?;
        let size = u32_of(4);
        Ok(Self {
            data_bytes: size & !DATA_INLINE,
            data: if size & DATA_INLINE != 0 {
                DataPlace::Inline(array_at(fixed, 8).unwrap_or_default())
            } else {
                DataPlace::Cell(u32_of(8))
            },
            kind: u32_of(12),
            flags,
            name: (name_bytes > 0).then_some(Name {
                bytes: name,
                is_latin: flags & VALUE_COMP_NAME != 0,
            }),
        })
    }
}
