//! Times of day: ISO 8601 and patterns, in microseconds since midnight.

use super::FormatError;
use super::moment::{Clock, iso_clock};
use super::pattern::Pattern;

/// Digits behind the second's point that the type keeps.
const DIGITS: u32 = 6;

/// How the times of day of one column are written.
#[derive(Debug, Clone)]
pub(super) enum Times {
    Iso8601,
    Pattern(Pattern),
}

impl Times {
    pub(super) fn new(format: &str) -> Result<Self, FormatError> {
        Ok(match format {
            "iso8601" => Self::Iso8601,
            _ => Self::Pattern(Pattern::of_time(format)?),
        })
    }

    /// Microseconds since midnight; none when a digit would be lost.
    #[inline]
    pub(super) fn read(&self, text: &[u8]) -> Option<i64> {
        let (seconds, nanoseconds, digits) = match self {
            Self::Pattern(pattern) => pattern.read_time(text)?,
            Self::Iso8601 => match iso_clock(text)? {
                (
                    Clock {
                        seconds,
                        nanoseconds,
                        digits,
                    },
                    [],
                ) => (seconds, nanoseconds, digits),
                _ => return None,
            },
        };
        (digits <= DIGITS).then(|| seconds * 1_000_000 + i64::from(nanoseconds / 1_000))
    }
}
