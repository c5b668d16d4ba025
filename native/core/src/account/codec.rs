//! Accounts as bytes: they come from the confined process, so reading one trusts nothing.
//!
//! Layout: magic `CFAC`, version u8, unit u8, then LEB128 numbers (`declared` as 0 or 1 followed by the
//! number), windows (origin, width, how many; each a count and, unless that is 0, the sum as u64
//! little-endian; then the rest likewise), findings (how many; each code, offset, length, message; texts
//! with their length before them). Nothing may follow.

use std::str;

use super::findings::{FINDINGS_MAX, Finding, Findings};
use super::{Account, Unit};
use crate::error::CoreError;
use crate::tally::{WINDOWS_MAX, Window, Windows};

const MAGIC: &[u8; 4] = b"CFAC";
const VERSION: u8 = 1;
const CODE_BYTES_MAX: usize = 64;
const MESSAGE_BYTES_MAX: usize = 1024;

/// No account of this version is longer: every window full, every finding as long as can be.
pub const ACCOUNT_BYTES_MAX: usize = 256
    + (WINDOWS_MAX as usize + 1) * 18
    + (FINDINGS_MAX + 1) * (CODE_BYTES_MAX + MESSAGE_BYTES_MAX + 40);

impl Account {
    /// The account as bytes, in the present version.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(256 + self.windows.windows().len() * 12);
        out.extend_from_slice(MAGIC);
        out.push(VERSION);
        out.push(match self.unit {
            Unit::Record => 0,
            Unit::Line => 1,
            Unit::Cell => 2,
        });
        put_number(&mut out, u64::from(self.declared.is_some()));
        if let Some(declared) = self.declared {
            put_number(&mut out, declared);
        }
        for number in [
            self.present,
            self.damaged,
            self.slack_records,
            self.blank_units,
            self.blank_bytes,
            self.windows.origin(),
            self.windows.window_bytes(),
            self.windows.windows().len() as u64,
        ] {
            put_number(&mut out, number);
        }
        for window in self.windows.windows() {
            put_window(&mut out, *window);
        }
        put_window(&mut out, self.windows.rest());
        put_number(&mut out, self.findings.list().len() as u64);
        for finding in self.findings.list() {
            put_text(&mut out, &finding.code);
            put_number(&mut out, finding.offset);
            put_number(&mut out, finding.length);
            put_text(&mut out, &finding.message);
        }
        out
    }

    /// Read an account that somebody else wrote.
    ///
    /// # Errors
    /// [`CoreError::Invalid`] for another version, anything out of bounds, and for figures that do not
    /// agree with each other. Memory stays within a small multiple of the input.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, CoreError> {
        if bytes.len() > ACCOUNT_BYTES_MAX {
            return Err(invalid("it is too long"));
        }
        let mut reader = Reader(bytes);
        if reader.take(4)? != MAGIC {
            return Err(invalid("the magic is wrong"));
        }
        if reader.byte()? != VERSION {
            return Err(invalid("the version is unknown"));
        }
        let unit = match reader.byte()? {
            0 => Unit::Record,
            1 => Unit::Line,
            2 => Unit::Cell,
            _ => return Err(invalid("the unit is unknown")),
        };
        let declared = match reader.number()? {
            0 => None,
            1 => Some(reader.number()?),
            _ => return Err(invalid("a presence mark is neither 0 nor 1")),
        };
        let account = Self {
            unit,
            declared,
            present: reader.number()?,
            damaged: reader.number()?,
            slack_records: reader.number()?,
            blank_units: reader.number()?,
            blank_bytes: reader.number()?,
            windows: reader.windows()?,
            findings: reader.findings()?,
        };
        if !reader.0.is_empty() {
            return Err(invalid("bytes follow its end"));
        }
        if account.windows.total() != account.present {
            return Err(invalid("the windows do not add up to the units present"));
        }
        if account.damaged > account.present {
            return Err(invalid("more units are damaged than present"));
        }
        if account.blank_bytes < account.blank_units {
            return Err(invalid("a blank line has no bytes"));
        }
        Ok(account)
    }
}

fn put_number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push((number & 0x7F) as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn put_window(out: &mut Vec<u8>, window: Window) {
    put_number(out, window.count);
    if window.count > 0 {
        out.extend_from_slice(&window.mix.to_le_bytes());
    }
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    put_number(out, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

fn invalid(reason: &'static str) -> CoreError {
    CoreError::Invalid {
        what: "account",
        reason,
    }
}

struct Reader<'bytes>(&'bytes [u8]);

impl<'bytes> Reader<'bytes> {
    fn take(&mut self, count: usize) -> Result<&'bytes [u8], CoreError> {
        let (taken, left) = self
            .0
            .split_at_checked(count)
            .ok_or(invalid("it ends too early"))?;
        self.0 = left;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8, CoreError> {
        Ok(self.take(1)?[0])
    }

    fn number(&mut self) -> Result<u64, CoreError> {
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7F);
            if shift == 63 && byte > 1 {
                break;
            }
            number |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(invalid("a number has more than 64 bits"))
    }

    /// A number of items, each of which takes at least one of the bytes that are left.
    fn count(&mut self, max: u64) -> Result<usize, CoreError> {
        let count = self.number()?;
        match usize::try_from(count) {
            Ok(fits) if count <= max && fits <= self.0.len() => Ok(fits),
            _ => Err(invalid("it announces more items than it can hold")),
        }
    }

    fn window(&mut self) -> Result<Window, CoreError> {
        let count = self.number()?;
        let mut mix = [0; 8];
        if count > 0 {
            mix.copy_from_slice(self.take(8)?);
        }
        Ok(Window {
            count,
            mix: u64::from_le_bytes(mix),
        })
    }

    fn windows(&mut self) -> Result<Windows, CoreError> {
        let origin = self.number()?;
        let window_bytes = self.number()?;
        let count = self.count(WINDOWS_MAX)?;
        let windows = (0..count)
            .map(|_| self.window())
            .collect::<Result<Vec<_>, _>>()?;
        let rest = self.window()?;
        Windows::from_parts(origin, window_bytes, windows, rest)
    }

    fn text(&mut self, bytes_max: usize) -> Result<String, CoreError> {
        let count = self.count(bytes_max as u64)?;
        let text = str::from_utf8(self.take(count)?).map_err(|_| invalid("a text is not UTF-8"))?;
        Ok(text.to_owned())
    }

    fn findings(&mut self) -> Result<Findings, CoreError> {
        let count = self.count(FINDINGS_MAX as u64 + 1)?;
        let list = (0..count)
            .map(|_| self.finding())
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Findings::from_list(list))
    }

    fn finding(&mut self) -> Result<Finding, CoreError> {
        let code = self.text(CODE_BYTES_MAX)?;
        let is_slug = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'.');
        if code.is_empty() || !code.bytes().all(is_slug) {
            return Err(invalid("a finding's code is not a slug"));
        }
        Ok(Finding {
            code,
            offset: self.number()?,
            length: self.number()?,
            message: self.text(MESSAGE_BYTES_MAX)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sample() -> Account {
        let mut windows = Windows::new(4096, 65_536).unwrap();
        windows.add(4608, 100).unwrap();
        windows.add(400_000, u64::MAX).unwrap();
        windows.add(3, 1).unwrap();
        let mut account = Account {
            declared: Some(u64::MAX),
            present: 3,
            damaged: 1,
            ..Account::empty(Unit::Record, windows)
        };
        account
            .findings
            .add("chunk.damaged", 400_000, 28, || "28 bytes".to_owned());
        account
    }

    #[test]
    fn an_account_comes_back_as_it_was() {
        let account = sample();
        assert_eq!(Account::from_bytes(&account.to_bytes()).unwrap(), account);
    }

    #[test]
    fn figures_that_contradict_each_other_are_refused() {
        let contradictions: [fn(&mut Account); 3] = [
            |account| account.present += 1,
            |account| account.damaged = 4,
            |account| account.blank_units = 1,
        ];
        for change in contradictions {
            let mut account = sample();
            change(&mut account);
            assert!(Account::from_bytes(&account.to_bytes()).is_err());
        }
    }

    #[test]
    fn every_shortened_account_and_every_extended_one_is_refused() {
        let bytes = sample().to_bytes();
        for length in 0..bytes.len() {
            assert!(Account::from_bytes(&bytes[..length]).is_err(), "{length}");
        }
        assert!(Account::from_bytes(&[bytes, vec![0]].concat()).is_err());
    }

    #[test]
    fn announcing_many_items_costs_no_memory() {
        let mut bytes = b"CFAC\x01\x00\x00".to_vec();
        bytes.extend([0; 5]);
        bytes.extend([0, 1]);
        put_number(&mut bytes, WINDOWS_MAX);
        assert!(Account::from_bytes(&bytes).is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Account::from_bytes(&bytes);
            let _ = Account::from_bytes(&[b"CFAC\x01\x00".as_slice(), &bytes].concat());
        }

        #[test]
        fn a_changed_byte_never_panics_and_what_is_accepted_survives_a_second_trip(
            position in 0..sample().to_bytes().len(), value: u8,
        ) {
            let mut bytes = sample().to_bytes();
            bytes[position] = value;
            if let Ok(account) = Account::from_bytes(&bytes) {
                prop_assert_eq!(Account::from_bytes(&account.to_bytes()).unwrap(), account);
            }
        }
    }
}
