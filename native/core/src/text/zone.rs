//! Zones of local times, from the IANA database that is compiled in.

use super::FormatError;
use jiff::civil::DateTime;
use jiff::tz::{AmbiguousOffset, TimeZone};

/// How far a local time is from UTC.
#[derive(Debug, Clone)]
pub(super) enum Zone {
    /// The same everywhere, in seconds east of Greenwich.
    Fixed(i32),
    /// By the rules of a place.
    Named(TimeZone),
}

impl Zone {
    /// `UTC`, `Z`, `+02:00`, or a name like `Europe/Berlin`.
    pub(super) fn parse(name: &str) -> Result<Self, FormatError> {
        if matches!(name, "UTC" | "Z") {
            return Ok(Self::Fixed(0));
        }
        if let Some(offset) = fixed(name.as_bytes()) {
            return Ok(Self::Fixed(offset));
        }
        TimeZone::get(name).map(Self::Named).map_err(|_| {
            FormatError(format!(
                "`{name}` is no zone: `UTC`, `+02:00` or `Europe/Berlin` are"
            ))
        })
    }

    /// The offset at a local time.
    ///
    /// A time that clocks skipped never was: none. One that they showed twice is the first of the two, as RFC 5545
    /// §3.3.5 reads it.
    #[inline]
    pub(super) fn offset(&self, local: impl FnOnce() -> Option<DateTime>) -> Option<i32> {
        match self {
            Self::Fixed(offset) => Some(*offset),
            Self::Named(zone) => match zone.to_ambiguous_timestamp(local()?).offset() {
                AmbiguousOffset::Unambiguous { offset } => Some(offset.seconds()),
                AmbiguousOffset::Fold { before, .. } => Some(before.seconds()),
                AmbiguousOffset::Gap { .. } => None,
            },
        }
    }
}

/// `+HH:MM`, in seconds.
fn fixed(text: &[u8]) -> Option<i32> {
    let &[sign @ (b'+' | b'-'), a, b, b':', c, d] = text else {
        return None;
    };
    let number = |tens: u8, ones: u8| {
        (tens.is_ascii_digit() && ones.is_ascii_digit())
            .then(|| i32::from(tens - b'0') * 10 + i32::from(ones - b'0'))
    };
    let (hours, minutes) = (number(a, b)?, number(c, d)?);
    (hours < 24 && minutes < 60).then(|| {
        let seconds = hours * 3600 + minutes * 60;
        if sign == b'-' { -seconds } else { seconds }
    })
}
