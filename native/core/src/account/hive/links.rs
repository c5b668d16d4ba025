//! Whether what cells say of each other holds: lists, counts, names' hashes, data.
//!
//! A list or a data cell that was lost or overwritten is no unit of the ledger, so nothing else would tell of it. Layout: M.
//! Suhanov, "Windows registry file format specification", sections "Index leaf" to "Big data".

use super::base::BASE_BYTES;
use super::bytes::{u16_at, u32_at};
use super::cut::{Kind, Piece};
use crate::account::Findings;

/// A relative offset that points nowhere.
const NOWHERE: u32 = u32::MAX;
const KEY_BYTES_MIN: usize = 4 + 76;
const VALUE_BYTES_MIN: usize = 4 + 20;
const KEY_NAME_IS_BYTES: u16 = 0x0020;
/// The number of values is a handle instead.
const KEY_IS_HANDLE: u16 = 0x0040;
const INLINE: u32 = 0x8000_0000;
/// Data longer than this is cut into segments of this length, since version 1.4.
const SEGMENT_BYTES: usize = 16_344;
/// Lower versions have other cells.
const MINOR_VERSION_MIN: u32 = 3;

// What begins at a place, one entry for each 8 bytes of the image.
const NOTHING: u8 = 0;
const KEY: u8 = 1;
const VALUE: u8 = 2;
const OTHER: u8 = 3;
const KIND: u8 = 3;
/// Somebody lists it.
const LISTED: u8 = 4;

/// The cells of an image and who points to them.
pub(super) struct Links<'image> {
    bytes: &'image [u8],
    minor_version: u32,
    /// By offset / 8.
    cells: Vec<u8>,
    /// Elements of lists that may still be looked at: lists can be shared by any number of liars.
    budget: usize,
}

impl<'image> Links<'image> {
    pub(super) fn new(bytes: &'image [u8], minor_version: u32) -> Self {
        Self {
            bytes,
            minor_version,
            cells: vec![NOTHING; bytes.len() / 8 + 1],
            budget: bytes.len() / 2,
        }
    }

    /// Note where a cell begins.
    pub(super) fn add(&mut self, piece: Piece) {
        self.cells[piece.offset / 8] = match piece.kind {
            Kind::Key => KEY,
            Kind::Value => VALUE,
            Kind::Other => OTHER,
            Kind::Bin | Kind::Free | Kind::DamagedBin | Kind::DamagedCell | Kind::ZeroPages => {
                return;
            }
        };
    }

    /// Look at every key and value in order; gives how many units the headers claim.
    pub(super) fn check(&mut self, root: u32, findings: &mut Findings) -> Option<u64> {
        if self.minor_version < MINOR_VERSION_MIN {
            findings.add("hive.version", 24, 4, || {
                format!(
                    "version 1.{}: its cells are not checked against each other",
                    self.minor_version
                )
            });
            return None;
        }
        match self.cell(root) {
            Some((at, _)) if self.kind(at) == KEY => self.cells[at / 8] |= LISTED,
            _ => findings.add("hive.root", 36, 4, || {
                format!("the root key should be at {root} of the bins, and is not")
            }),
        }
        let mut declared = 1_u64;
        for place in 0..self.cells.len() {
            let offset = place * 8;
            let claimed = match self.cells[place] & KIND {
                KEY => self.check_key(offset, self.length(offset), findings),
                VALUE => self.check_value(offset, self.length(offset), findings),
                _ => continue,
            };
            declared = declared.saturating_add(claimed);
            if self.budget == 0 {
                findings.add("hive.lists_too_long", 0, 0, || {
                    "lists of subkeys or values are shared or lie about their length: not all were checked".to_owned()
                });
                return None;
            }
        }
        for place in 0..self.cells.len() {
            let (code, what) = match self.cells[place] {
                KEY => ("key.unlisted", "an allocated key is in no list of subkeys"),
                VALUE => (
                    "value.unlisted",
                    "an allocated value is in no list of values",
                ),
                _ => continue,
            };
            let (offset, length) = (place * 8, self.length(place * 8));
            findings.add(code, offset as u64, length as u64, || what.to_owned());
        }
        Some(declared)
    }

    /// Of an allocated cell that was noted: its size is negative, and it fits.
    fn length(&self, offset: usize) -> usize {
        u32_at(self.bytes, offset).map_or(0, u32::wrapping_neg) as usize
    }

    fn kind(&self, offset: usize) -> u8 {
        self.cells[offset / 8] & KIND
    }

    /// Where an allocated cell is that begins just there, and its bytes without the size.
    fn cell(&self, relative: u32) -> Option<(usize, &'image [u8])> {
        let offset = BASE_BYTES.checked_add(relative as usize)?;
        if !offset.is_multiple_of(8) || self.cells.get(offset / 8)? & KIND == NOTHING {
            return None;
        }
        Some((
            offset,
            self.bytes.get(offset + 4..offset + self.length(offset))?,
        ))
    }

    /// Gives how many subkeys and values the key claims.
    fn check_key(&mut self, offset: usize, length: usize, findings: &mut Findings) -> u64 {
        let (at, size) = (offset as u64, length as u64);
        let data = &self.bytes[offset + 4..offset + length];
        let field = |at| u32_at(data, at).unwrap_or(0);
        let name_bytes = u16_at(data, 72).unwrap_or(0) as usize;
        if length < KEY_BYTES_MIN + name_bytes {
            findings.add("key.cut", at, size, || {
                "the cell is too short for its key".to_owned()
            });
            return 0;
        }
        let flags = u16_at(data, 2).unwrap_or(0);
        let (subkeys, list) = (field(20), field(28));
        if subkeys > 0 {
            let found = self.count_subkeys(list, offset, true, findings);
            if found != u64::from(subkeys) {
                findings.add("key.subkeys", at, size, || {
                    format!("the key claims {subkeys} subkeys, its lists have {found}")
                });
            }
        }
        let values = if flags & KEY_IS_HANDLE == 0 {
            field(36)
        } else {
            0
        };
        if values > 0 {
            let found = self.count_values(field(40), values as usize);
            if found != u64::from(values) {
                findings.add("key.values", at, size, || {
                    format!("the key claims {values} values, its list has {found}")
                });
            }
        }
        let security = field(44);
        let is_security = |(_, cell): (usize, &[u8])| cell.starts_with(b"sk") && cell.len() >= 20;
        if security != NOWHERE && !self.cell(security).is_some_and(is_security) {
            findings.add("key.security", at, size, || {
                "the key's security descriptor is not where the key says".to_owned()
            });
        }
        let class_bytes = u16_at(data, 74).unwrap_or(0) as usize;
        let holds = |(_, cell): (usize, &[u8])| cell.len() >= class_bytes;
        if class_bytes > 0 && field(48) != NOWHERE && !self.cell(field(48)).is_some_and(holds) {
            findings.add("key.class", at, size, || {
                "the key's class name is not where the key says".to_owned()
            });
        }
        u64::from(subkeys) + u64::from(values)
    }

    /// Keys in a list of `parent`; a root of lists is followed once.
    fn count_subkeys(
        &mut self,
        list: u32,
        parent: usize,
        follow: bool,
        findings: &mut Findings,
    ) -> u64 {
        let Some((at, data)) = self.cell(list) else {
            return 0;
        };
        let claimed = u16_at(data, 2).unwrap_or(0) as usize;
        let (width, is_root) = match data.first_chunk() {
            Some(b"li") => (4, false),
            Some(b"lf" | b"lh") => (8, false),
            Some(b"ri") if follow => (4, true),
            _ => return 0,
        };
        let is_hash = data.starts_with(b"lh");
        let count = claimed.min((data.len() - 4) / width);
        let mut found = 0;
        for element in data[4..4 + count * width].chunks_exact(width) {
            if self.budget == 0 {
                return found;
            }
            self.budget -= 1;
            let target = u32_at(element, 0).unwrap_or(NOWHERE);
            if is_root {
                found += self.count_subkeys(target, parent, false, findings);
            } else if let Some((key, key_data)) = self.cell(target)
                && self.kind(key) == KEY
            {
                found += 1;
                let (place, size) = (key as u64, 4 + key_data.len() as u64);
                if self.cells[key / 8] & LISTED != 0 {
                    findings.add("key.listed_twice", place, size, || {
                        format!("the list at {at} has a key that is listed elsewhere, or the root")
                    });
                }
                self.cells[key / 8] |= LISTED;
                let said = u32_at(key_data, 16).unwrap_or(NOWHERE) as usize;
                if said.checked_add(BASE_BYTES) != Some(parent) {
                    findings.add("key.parent", place, size, || {
                        format!("the key at {parent} lists a key that names another parent")
                    });
                }
                let hint: Option<&[u8; 4]> = element.get(4..).and_then(<[u8]>::first_chunk);
                if hint.is_some_and(|hint| contradicts(hint, is_hash, key_data)) {
                    findings.add("key.name_hint", place, size, || {
                        format!(
                            "the list of subkeys at {at} was made for another name than the key has"
                        )
                    });
                }
            }
        }
        found
    }

    fn count_values(&mut self, list: u32, claimed: usize) -> u64 {
        let Some((_, data)) = self.cell(list) else {
            return 0;
        };
        let mut found = 0;
        for element in data.chunks_exact(4).take(claimed) {
            if self.budget == 0 {
                break;
            }
            self.budget -= 1;
            if let Some((value, _)) = u32_at(element, 0).and_then(|target| self.cell(target))
                && self.kind(value) == VALUE
            {
                self.cells[value / 8] |= LISTED;
                found += 1;
            }
        }
        found
    }

    /// A value claims nothing of other units.
    fn check_value(&mut self, offset: usize, length: usize, findings: &mut Findings) -> u64 {
        let (at, size) = (offset as u64, length as u64);
        let data = &self.bytes[offset + 4..offset + length];
        let name_bytes = u16_at(data, 2).unwrap_or(0) as usize;
        if length < VALUE_BYTES_MIN + name_bytes {
            findings.add("value.cut", at, size, || {
                "the cell is too short for its value".to_owned()
            });
            return 0;
        }
        let stored = u32_at(data, 4).unwrap_or(0);
        let target = u32_at(data, 8).unwrap_or(NOWHERE);
        if stored & INLINE != 0 {
            if stored & !INLINE > 4 {
                findings.add("value.data", at, size, || {
                    format!("{} bytes are said to be in a field of 4", stored & !INLINE)
                });
            }
        } else if stored > 0 {
            let has = self.data_bytes(target, stored as usize);
            if has < stored as usize {
                findings.add("value.data", at, size, || {
                    format!("the value claims {stored} bytes of data, {has} are where it says")
                });
            }
        }
        0
    }

    /// Bytes of data that are there, of those wanted.
    fn data_bytes(&mut self, target: u32, wanted: usize) -> usize {
        let Some((_, data)) = self.cell(target) else {
            return 0;
        };
        let is_cut = self.minor_version > 3 && wanted > SEGMENT_BYTES && data.starts_with(b"db");
        if !is_cut {
            return data.len().min(wanted);
        }
        let segments = u16_at(data, 2).unwrap_or(0) as usize;
        let Some((_, list)) = u32_at(data, 4).and_then(|list| self.cell(list)) else {
            return 0;
        };
        let mut there = 0;
        for element in list.chunks_exact(4).take(segments) {
            if there >= wanted || self.budget == 0 {
                break;
            }
            self.budget -= 1;
            match u32_at(element, 0).and_then(|segment| self.cell(segment)) {
                Some((_, segment)) => there += segment.len().min(SEGMENT_BYTES),
                None => break,
            }
        }
        there.min(wanted)
    }
}

/// Whether a list's hint belongs to another name. Only names in ASCII are told: how Windows makes other letters
/// capital depends on its version.
fn contradicts(hint: &[u8; 4], is_hash: bool, key: &[u8]) -> bool {
    let flags = u16_at(key, 2).unwrap_or(0);
    let length = u16_at(key, 72).unwrap_or(0) as usize;
    let Some(name) = key.get(76..).and_then(|name| name.get(..length)) else {
        return false;
    };
    let is_plain = flags & KEY_NAME_IS_BYTES != 0 && name.is_ascii();
    if !is_plain {
        return false;
    }
    if is_hash {
        let hash = name.iter().fold(0_u32, |hash, byte| {
            hash.wrapping_mul(37)
                .wrapping_add(u32::from(byte.to_ascii_uppercase()))
        });
        return hash != u32::from_le_bytes(*hint);
    }
    let mut first = [0; 4];
    for (to, byte) in first.iter_mut().zip(name) {
        *to = byte.to_ascii_uppercase();
    }
    first != hint.map(|byte| byte.to_ascii_uppercase())
}
