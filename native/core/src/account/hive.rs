//! Accounting for registry hives: a walk over bins and cells, not over the tree of keys.
//!
//! A unit is an allocated cell with a key or a value, or a damaged region, in the effective image: the file with what its
//! transaction logs would write ([`image`]). Where cells begin and end is said by their sizes alone ([`cut`]), so a key
//! is counted whether or not anything points to it; what points where is checked afterwards ([`links`]). Shares no code
//! with the decoder, which is the point of it.

mod base;
mod bytes;
mod cut;
mod image;
mod links;
mod log;
mod marvin;

use self::base::{BASE_BYTES, Base, SECTOR_BYTES};
use self::bytes::u32_at;
use self::cut::{Kind, Piece};
use self::image::Image;
use self::links::Links;
use super::{Account, Findings, Unit};
use crate::error::CoreError;
use crate::source::ReadAt;
use crate::tally::Windows;

/// Width of a window, in bytes.
const WINDOW_BYTES: u64 = 65_536;

/// Which of a hive's transaction logs a companion is, by the end of its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogRole {
    /// `.LOG`: the only one, before Windows Vista.
    Log,
    /// `.LOG1`.
    Log1,
    /// `.LOG2`.
    Log2,
}

impl LogRole {
    /// The role by its name: `LOG`, `LOG1` or `LOG2`.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        [Self::Log, Self::Log1, Self::Log2]
            .into_iter()
            .find(|role| role.name() == name)
    }

    /// The name that messages use.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Log => "LOG",
            Self::Log1 => "LOG1",
            Self::Log2 => "LOG2",
        }
    }
}

/// A transaction log that lies beside a hive.
#[derive(Clone, Copy)]
pub struct HiveLog<'source> {
    /// Which one.
    pub role: LogRole,
    /// Its bytes.
    pub source: &'source dyn ReadAt,
}

/// Find the units of a hive. Bad content makes findings, never an error. Memory: the hive, its logs, and an eighth.
///
/// # Errors
/// The first error of a read; [`CoreError::Limit`] when hive and logs are more than 2 GiB.
pub fn account_hive<S: ReadAt + ?Sized>(
    source: &S,
    logs: &[HiveLog<'_>],
) -> Result<Account, CoreError> {
    let mut account = Account::empty(Unit::Cell, Windows::new(BASE_BYTES as u64, WINDOW_BYTES)?);
    let size = source.len();
    if size < BASE_BYTES as u64 {
        account.findings.add("hive.too_short", 0, size, || {
            format!("{size} bytes are less than the base block of {BASE_BYTES}")
        });
    }
    let image = Image::build(source, logs, &mut account.findings)?;
    let base = image.base;
    if image.bytes.len() < BASE_BYTES {
        return Ok(account);
    }
    let end = image.area_end();
    check_base(&image, base, &mut account.findings);
    let mut links = Links::new(&image.bytes, base.minor_version);
    cut::cut(&image.bytes, end, |piece| {
        links.add(piece);
        count(&mut account, piece, &image.bytes)
    })?;
    report_bins_behind(&image.bytes, end, &mut account.findings);
    account.declared = links.check(base.root, &mut account.findings);
    Ok(account)
}

/// Count one piece of the bins, when it is a unit, and say what is wrong with it.
fn count(account: &mut Account, piece: Piece, bytes: &[u8]) -> Result<(), CoreError> {
    let (offset, length) = (piece.offset as u64, piece.length as u64);
    let findings = &mut account.findings;
    match piece.kind {
        Kind::Key | Kind::Value => {}
        Kind::DamagedBin => {
            account.damaged += 1;
            findings.add("bin.damaged", offset, length, || {
                format!("{length} bytes are no bin")
            });
        }
        Kind::DamagedCell => {
            account.damaged += 1;
            findings.add("cell.damaged", offset, length, || {
                format!("{length} bytes of a bin are not cells")
            });
        }
        Kind::ZeroPages => {
            findings.add("bin.missing", offset, length, || {
                format!("{length} bytes where bins should be are zeros, to the end")
            });
            return Ok(());
        }
        Kind::Bin => {
            let place = offset - BASE_BYTES as u64;
            let stored = u32_at(bytes, piece.offset + 4).unwrap_or(0);
            if u64::from(stored) != place {
                findings.add("bin.offset", offset, length, || {
                    format!("the bin at {place} of the bins says that it is at {stored}")
                });
            }
            return Ok(());
        }
        Kind::Other | Kind::Free => return Ok(()),
    }
    account.present += 1;
    account.windows.add(offset, length)
}

fn check_base(image: &Image, base: Base, findings: &mut Findings) {
    if !base.magic_ok {
        findings.add("hive.magic", 0, 4, || {
            "the file does not begin with the magic of a registry hive".to_owned()
        });
    }
    if !base.checksum_ok {
        findings.add("hive.checksum", 0, SECTOR_BYTES as u64, || {
            "the checksum of the base block does not match; bins are read to the end of the file"
                .to_owned()
        });
    }
    let claimed = BASE_BYTES as u64 + u64::from(base.bins_bytes);
    let available = image.bytes.len() as u64;
    if base.checksum_ok && claimed > available {
        findings.add("source.truncated", available, 0, || {
            format!("the base block claims {claimed} bytes, {available} are there")
        });
    }
}

/// Bins that the base block leaves out, and that say themselves that they belong there.
fn report_bins_behind(bytes: &[u8], end: usize, findings: &mut Findings) {
    for at in (end.next_multiple_of(BASE_BYTES)..bytes.len()).step_by(BASE_BYTES) {
        let place = u32_at(bytes, at + 4).map(|stored| stored as usize + BASE_BYTES);
        if bytes[at..].starts_with(b"hbin") && place == Some(at) {
            let length = (bytes.len() - end) as u64;
            return findings.add("hive.bins_behind", at as u64, length, || {
                "a bin lies behind the bins that the base block counts: it is read for deleted cells only".to_owned()
            });
        }
    }
}

#[cfg(test)]
mod tests;
