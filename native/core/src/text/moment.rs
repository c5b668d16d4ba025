//! Timestamps: patterns, ISO 8601, RFC 2822 and counts since an epoch, in the unit of a type and in UTC.

use super::FormatError;
use super::calendar::{SECONDS_PER_DAY, days_since_1970};
use super::pattern::{Moment, Pattern};
use super::types::Unit;
use super::zone::Zone;

/// 100 ns from 1601-01-01 to 1970-01-01 ([MS-DTYP] 2.3.3).
const FILETIME_1970: i64 = 116_444_736_000_000_000;

/// How the timestamps of one column are written.
#[derive(Debug, Clone)]
pub(super) struct Moments {
    style: Style,
    unit: Unit,
    utc: bool,
    zone: Option<Zone>,
}

#[derive(Debug, Clone)]
enum Style {
    Pattern(Pattern),
    Iso8601,
    Rfc2822(Box<[Pattern]>),
    /// A count in this many decimal digits of a second, with a fraction of it or without.
    Epoch(u32),
    Filetime,
}

impl Moments {
    pub(super) fn new(
        format: &str,
        unit: Unit,
        utc: bool,
        zone: Option<&str>,
    ) -> Result<Self, FormatError> {
        let style = match format {
            "iso8601" => Style::Iso8601,
            "rfc2822" => Style::Rfc2822(rfc2822()?),
            "epoch_s" => Style::Epoch(0),
            "epoch_ms" => Style::Epoch(3),
            "epoch_us" => Style::Epoch(6),
            "epoch_ns" => Style::Epoch(9),
            "filetime" => Style::Filetime,
            _ => Style::Pattern(Pattern::of_moment(format)?),
        };
        let (always, never) = match &style {
            Style::Pattern(pattern) => (pattern.zoned(), !pattern.zoned()),
            Style::Iso8601 => (false, false),
            Style::Rfc2822(_) | Style::Epoch(_) | Style::Filetime => (true, false),
        };
        let refuse = |why: &str| Err(FormatError(format!("`{format}` {why}")));
        if always && !utc {
            return refuse("says its zone: the type would have to be `timestamp[…, UTC]`");
        }
        if always && zone.is_some() {
            return refuse("says its zone: no other can be given");
        }
        if never && utc && zone.is_none() {
            return refuse(
                "says no zone: give one, or make the type a `timestamp[…]` without `UTC`",
            );
        }
        Ok(Self {
            style,
            unit,
            utc,
            zone: zone.map(Zone::parse).transpose()?,
        })
    }

    /// Whether it is a number.
    pub(super) fn is_count(&self) -> bool {
        matches!(self.style, Style::Epoch(_) | Style::Filetime)
    }

    #[inline]
    pub(super) fn read(&self, text: &[u8]) -> Option<i64> {
        self.count(self.moment(text)?)
    }

    #[inline]
    pub(super) fn moment(&self, text: &[u8]) -> Option<Moment> {
        match &self.style {
            Style::Pattern(pattern) => pattern.read(text),
            Style::Iso8601 => iso8601(text),
            Style::Rfc2822(patterns) => patterns.iter().find_map(|p| p.read(text)),
            Style::Epoch(digits) => epoch(text, *digits),
            Style::Filetime => filetime(text),
        }
    }

    /// In the unit of the type; none when a digit would be lost or the count does not fit.
    #[inline]
    fn count(&self, moment: Moment) -> Option<i64> {
        let offset = match (self.utc, moment.offset, &self.zone) {
            (true, Some(offset), _) => offset,
            (true, None, Some(zone)) => zone.offset(|| local(moment.seconds))?,
            (false, None, _) => 0,
            _ => return None,
        };
        let digits = self.unit.digits();
        if moment.digits > digits {
            return None;
        }
        let seconds = moment.seconds.checked_sub(i64::from(offset))?;
        let fraction = i64::from(moment.nanoseconds / 10_u32.pow(9 - digits));
        let scale = 10_i64.pow(digits);
        match seconds.checked_mul(scale) {
            Some(count) => count.checked_add(fraction),
            // The first second of the range is not whole.
            None => {
                i64::try_from(i128::from(seconds) * i128::from(scale) + i128::from(fraction)).ok()
            }
        }
    }
}

/// Local seconds as what zones are looked up by.
fn local(seconds: i64) -> Option<jiff::civil::DateTime> {
    let day = seconds.div_euclid(SECONDS_PER_DAY);
    let clock = seconds.rem_euclid(SECONDS_PER_DAY);
    let start = jiff::civil::date(1970, 1, 1);
    let date = start
        .checked_add(jiff::Span::new().try_days(day).ok()?)
        .ok()?;
    Some(date.at(
        (clock / 3600) as i8,
        (clock / 60 % 60) as i8,
        (clock % 60) as i8,
        0,
    ))
}

/// RFC 5322 §3.3: the weekday and the seconds may be absent, a day may have one digit.
fn rfc2822() -> Result<Box<[Pattern]>, FormatError> {
    ["%a, ", ""]
        .iter()
        .flat_map(|day| {
            ["%H:%M:%S %z", "%H:%M %z", "%H:%M:%S %Z", "%H:%M %Z"]
                .iter()
                .map(move |time| Pattern::of_moment(&format!("{day}%-d %b %Y {time}")))
        })
        .collect()
}

#[inline]
fn pair(text: &[u8], place: usize) -> Option<u8> {
    let tens = text[place].wrapping_sub(b'0');
    let ones = text[place + 1].wrapping_sub(b'0');
    (tens < 10 && ones < 10).then(|| tens * 10 + ones)
}

/// `YYYY-MM-DDTHH:MM[:SS[.f]][Z|±HH[[:]MM]]`; a blank may stand for the `T`, a comma for the point.
#[inline]
pub(super) fn iso8601(text: &[u8]) -> Option<Moment> {
    if text.len() < 16
        || text[4] != b'-'
        || text[7] != b'-'
        || !matches!(text[10], b'T' | b't' | b' ')
        || text[13] != b':'
    {
        return None;
    }
    let year = u16::from(pair(text, 0)?) * 100 + u16::from(pair(text, 2)?);
    let days = days_since_1970(year, pair(text, 5)?, pair(text, 8)?)?;
    let (clock, rest) = iso_clock(&text[11..])?;
    Some(Moment {
        seconds: i64::from(days) * SECONDS_PER_DAY + clock.seconds,
        nanoseconds: clock.nanoseconds,
        digits: clock.digits,
        offset: iso_offset(rest)?,
    })
}

/// A time of day as ISO 8601 has it.
pub(super) struct Clock {
    /// Since midnight.
    pub(super) seconds: i64,
    pub(super) nanoseconds: u32,
    /// Digits that the fraction was written with.
    pub(super) digits: u32,
}

/// `HH:MM[:SS[.f]]`, and what stands behind it; a comma may stand for the point. 00:00 to 23:59:59 and its fractions: the end
/// of a day (`24:00`) is a time of the next one, and a leap second (`23:59:60`) has no place among the others.
#[inline]
pub(super) fn iso_clock(text: &[u8]) -> Option<(Clock, &[u8])> {
    if text.len() < 5 || text[2] != b':' {
        return None;
    }
    let (hour, minute) = (pair(text, 0)?, pair(text, 3)?);
    if hour > 23 || minute > 59 {
        return None;
    }
    let mut seconds = i64::from(hour) * 3600 + i64::from(minute) * 60;
    let mut rest = &text[5..];
    let (mut nanoseconds, mut digits) = (0, 0);
    if rest.len() >= 3 && rest[0] == b':' {
        let second = pair(rest, 1)?;
        if second > 59 {
            return None;
        }
        seconds += i64::from(second);
        rest = &rest[3..];
        if let [b'.' | b',', fraction @ ..] = rest {
            while digits < 9 && (digits as usize) < fraction.len() {
                let digit = fraction[digits as usize].wrapping_sub(b'0');
                if digit > 9 {
                    break;
                }
                nanoseconds = nanoseconds * 10 + u32::from(digit);
                digits += 1;
            }
            if digits == 0 {
                return None;
            }
            nanoseconds *= 10_u32.pow(9 - digits);
            rest = &fraction[digits as usize..];
        }
    }
    let clock = Clock {
        seconds,
        nanoseconds,
        digits,
    };
    Some((clock, rest))
}

/// Nothing, `Z`, `+02`, `+0200` or `+02:00`.
fn iso_offset(text: &[u8]) -> Option<Option<i32>> {
    let minutes = match text {
        [] => return Some(None),
        b"Z" | b"z" => return Some(Some(0)),
        [b'+' | b'-', _, _] => 0,
        [b'+' | b'-', _, _, b':', _, _] => pair(text, 4)?,
        [b'+' | b'-', _, _, _, _] => pair(text, 3)?,
        _ => return None,
    };
    let hours = pair(text, 1)?;
    if hours > 23 || minutes > 59 {
        return None;
    }
    let seconds = i32::from(hours) * 3600 + i32::from(minutes) * 60;
    Some(Some(if text[0] == b'-' { -seconds } else { seconds }))
}

/// A count since 1970 in units of ten to the minus `places` seconds. It may have a fraction; leading zeros do not fit.
fn epoch(text: &[u8], places: u32) -> Option<Moment> {
    let (minus, text) = match text.first()? {
        b'-' => (true, &text[1..]),
        _ => (false, text),
    };
    let (whole, fraction) = match memchr::memchr(b'.', text) {
        Some(place) if place + 1 < text.len() => (&text[..place], &text[place + 1..]),
        Some(_) => return None,
        None => (text, &text[text.len()..]),
    };
    let digits = places as usize + fraction.len();
    if whole.is_empty() || whole.len() > 20 || digits > 9 || (whole.len() > 1 && whole[0] == b'0') {
        return None;
    }
    let mut count = 0_i128; // in units of ten to the minus `digits` seconds
    for byte in whole.iter().chain(fraction) {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        count = count * 10 + i128::from(digit);
    }
    if minus {
        if count == 0 {
            return None; // it would lose its sign
        }
        count = -count;
    }
    let nanoseconds = count * 10_i128.pow(9 - digits as u32);
    // `epoch_ms` has three digits that a type in seconds would lose, but only when they are not nothing.
    let mut needed = digits as u32;
    let mut rest = count;
    while needed > 0 && rest % 10 == 0 {
        rest /= 10;
        needed -= 1;
    }
    Some(Moment {
        seconds: i64::try_from(nanoseconds.div_euclid(1_000_000_000)).ok()?,
        nanoseconds: nanoseconds.rem_euclid(1_000_000_000) as u32,
        digits: needed,
        offset: Some(0),
    })
}

/// 100 ns since 1601, in decimal digits.
fn filetime(text: &[u8]) -> Option<Moment> {
    if text.is_empty() || text.len() > 19 || (text.len() > 1 && text[0] == b'0') {
        return None;
    }
    let mut ticks = 0_i64;
    for byte in text {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        ticks = ticks.checked_mul(10)?.checked_add(i64::from(digit))?;
    }
    let since = ticks - FILETIME_1970;
    let rest = since.rem_euclid(10_000_000);
    let mut digits = if rest == 0 { 0 } else { 7 };
    let mut left = rest;
    while digits > 0 && left % 10 == 0 {
        left /= 10;
        digits -= 1;
    }
    Some(Moment {
        seconds: since.div_euclid(10_000_000),
        nanoseconds: rest as u32 * 100,
        digits,
        offset: Some(0),
    })
}
