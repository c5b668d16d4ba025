//! Dates, times of day and times on a date as a pattern of fields writes them, as `strftime` does.
//!
//! | field | reads |
//! |---|---|
//! | `%Y` `%y` | year in four digits; in two: 69 to 99 are 1969 to 1999, 00 to 68 are 2000 to 2068 (POSIX) |
//! | `%m` `%d` `%H` `%M` `%S` `%I` | two digits; `%-m` and so on: one or two; `%e` is a day padded with a blank |
//! | `%b` `%B` `%a` `%A` | English names of months and days, short and whole, in any case; a weekday must be the date's |
//! | `%j` | day of the year in three digits |
//! | `%p` | `AM` or `PM` in any case, with `%I` |
//! | `%f` | one to nine digits of a second; more than the type keeps do not fit |
//! | `%z` | `+0200`, `+02:00`, `+02` or `Z` |
//! | `%Z` | `UTC`, `GMT` or `Z`: other names of zones are not the same everywhere |
//! | `%%` | a percent sign; every other character stands for itself |

use super::FormatError;
use super::calendar::{SECONDS_PER_DAY, day_of_year, days_since_1970, weekday};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Item {
    Literal(u8),
    Year4,
    Year2,
    Month,
    Day,
    BlankDay,
    Hour,
    Hour12,
    Minute,
    Second,
    ShortMonth,
    ShortHour,
    ShortDay,
    ShortHour12,
    ShortMinute,
    ShortSecond,
    MonthName,
    MonthWhole,
    DayName,
    DayWhole,
    YearDay,
    HalfDay,
    Fraction,
    Offset,
    ZoneName,
}

/// What a pattern is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Says {
    Date,
    TimeOfDay,
    Moment,
}

/// A parsed pattern.
#[derive(Debug, Clone)]
pub struct Pattern {
    items: Box<[Item]>,
    /// Length of every text that can match, when they are all of one length.
    length: Option<usize>,
    zoned: bool,
}

/// What a text says, before a zone is applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Moment {
    /// Seconds since 1970-01-01T00:00:00 on the wall.
    pub(crate) seconds: i64,
    pub(crate) nanoseconds: u32,
    /// Digits that the fraction was written with.
    pub(crate) digits: u32,
    /// Seconds east of Greenwich, when the text says so.
    pub(crate) offset: Option<i32>,
}

#[derive(Default)]
struct Parts {
    year: u16,
    month: u8,
    day: u8,
    year_day: u16,
    hour: u8,
    minute: u8,
    second: u8,
    afternoon: Option<bool>,
    weekday: Option<u8>,
    nanoseconds: u32,
    digits: u32,
    offset: Option<i32>,
}

const MONTHS: [&[u8]; 12] = [
    b"january",
    b"february",
    b"march",
    b"april",
    b"may",
    b"june",
    b"july",
    b"august",
    b"september",
    b"october",
    b"november",
    b"december",
];
const DAYS: [&[u8]; 7] = [
    b"monday",
    b"tuesday",
    b"wednesday",
    b"thursday",
    b"friday",
    b"saturday",
    b"sunday",
];

impl Pattern {
    /// A pattern of a date: it says the whole date and no time.
    ///
    /// # Errors
    /// A field is unknown or is there twice, or the fields do not make a date.
    pub fn of_date(text: &str) -> Result<Self, FormatError> {
        let pattern = Self::parse(text, Says::Date)?;
        if pattern.has_time() || pattern.zoned {
            return Err(FormatError(format!(
                "`{text}` says a time: the column would have to be a timestamp"
            )));
        }
        Ok(pattern)
    }

    /// A pattern of a time of day: it says the hour, no date and no zone.
    ///
    /// # Errors
    /// A field is unknown or is there twice, or the fields do not make a time.
    pub fn of_time(text: &str) -> Result<Self, FormatError> {
        let pattern = Self::parse(text, Says::TimeOfDay)?;
        if pattern.zoned {
            return Err(FormatError(format!(
                "`{text}` says a zone, and a time of day has none: the column would have to be text"
            )));
        }
        if !pattern.has_time() {
            return Err(FormatError(format!(
                "`{text}` is no format of times: it says no hour"
            )));
        }
        Ok(pattern)
    }

    /// A pattern of a time on a date; with a zone (`%z`, `%Z`) or without.
    ///
    /// # Errors
    /// As for a date; and it must say the hour.
    pub fn of_moment(text: &str) -> Result<Self, FormatError> {
        let pattern = Self::parse(text, Says::Moment)?;
        if !pattern.has_time() {
            return Err(FormatError(format!(
                "`{text}` says no time: the column would have to be a date32"
            )));
        }
        Ok(pattern)
    }

    /// Whether texts say their zone.
    pub fn zoned(&self) -> bool {
        self.zoned
    }

    fn has(&self, wanted: &[Item]) -> bool {
        self.items.iter().any(|item| wanted.contains(item))
    }

    fn has_time(&self) -> bool {
        use Item::{
            Fraction, HalfDay, Hour, Hour12, Minute, Second, ShortHour, ShortHour12, ShortMinute,
            ShortSecond,
        };
        self.has(&[
            Hour,
            Hour12,
            ShortHour,
            ShortHour12,
            Minute,
            ShortMinute,
            Second,
            ShortSecond,
            Fraction,
            HalfDay,
        ])
    }

    fn parse(text: &str, says: Says) -> Result<Self, FormatError> {
        let refused = |why: String| FormatError(format!("`{text}` is no format of times: {why}"));
        let mut items = Vec::new();
        let mut bytes = text.bytes();
        while let Some(byte) = bytes.next() {
            if byte != b'%' {
                items.push(Item::Literal(byte));
                continue;
            }
            let item = match bytes.next() {
                Some(b'-') => match bytes.next() {
                    Some(b'm') => Some(Item::ShortMonth),
                    Some(b'd') => Some(Item::ShortDay),
                    Some(b'H') => Some(Item::ShortHour),
                    Some(b'I') => Some(Item::ShortHour12),
                    Some(b'M') => Some(Item::ShortMinute),
                    Some(b'S') => Some(Item::ShortSecond),
                    _ => None,
                },
                Some(field) => match field {
                    b'Y' => Some(Item::Year4),
                    b'y' => Some(Item::Year2),
                    b'm' => Some(Item::Month),
                    b'd' => Some(Item::Day),
                    b'e' => Some(Item::BlankDay),
                    b'H' => Some(Item::Hour),
                    b'I' => Some(Item::Hour12),
                    b'M' => Some(Item::Minute),
                    b'S' => Some(Item::Second),
                    b'b' => Some(Item::MonthName),
                    b'B' => Some(Item::MonthWhole),
                    b'a' => Some(Item::DayName),
                    b'A' => Some(Item::DayWhole),
                    b'j' => Some(Item::YearDay),
                    b'p' => Some(Item::HalfDay),
                    b'f' => Some(Item::Fraction),
                    b'z' => Some(Item::Offset),
                    b'Z' => Some(Item::ZoneName),
                    b'%' => Some(Item::Literal(b'%')),
                    _ => None,
                },
                None => None,
            };
            items.push(item.ok_or_else(|| refused("a field is unknown".to_owned()))?);
        }
        let pattern = Self {
            length: items.iter().map(|item| item.length()).sum(),
            zoned: items
                .iter()
                .any(|item| matches!(item, Item::Offset | Item::ZoneName)),
            items: items.into(),
        };
        pattern.check(says).map_err(refused)?;
        Ok(pattern)
    }

    /// That the fields make one date, or none in a time of day, and at most one time.
    fn check(&self, says: Says) -> Result<(), String> {
        use Item::{
            BlankDay, Day, DayName, DayWhole, Fraction, HalfDay, Hour, Hour12, Minute, Month,
            MonthName, MonthWhole, Offset, Second, ShortDay, ShortHour, ShortHour12, ShortMinute,
            ShortMonth, ShortSecond, Year2, Year4, YearDay, ZoneName,
        };
        let count = |wanted: &[Item]| {
            self.items
                .iter()
                .filter(|item| wanted.contains(item))
                .count()
        };
        let years = count(&[Year4, Year2]);
        let months = count(&[Month, ShortMonth, MonthName, MonthWhole]);
        let days = count(&[Day, ShortDay, BlankDay]);
        let year_days = count(&[YearDay]);
        let hours = count(&[Hour, ShortHour]);
        let half_hours = count(&[Hour12, ShortHour12]);
        let minutes = count(&[Minute, ShortMinute]);
        let seconds = count(&[Second, ShortSecond]);
        let fractions = count(&[Fraction]);
        let one_date = years == 1
            && ((months == 1 && days == 1 && year_days == 0)
                || (months == 0 && days == 0 && year_days == 1));
        if says == Says::TimeOfDay {
            if years + months + days + year_days + count(&[DayName, DayWhole]) > 0 {
                return Err(
                    "it says a date: the column would have to be a date32 or a timestamp".into(),
                );
            }
        } else if !one_date {
            return Err("it must say year, month and day once, or year and day of the year".into());
        }
        if hours + half_hours > 1
            || half_hours != count(&[HalfDay])
            || minutes > hours + half_hours
            || seconds > minutes
            || fractions > seconds
        {
            return Err("its time needs an hour (`%I` with `%p`), then minutes, seconds and a fraction, each once".into());
        }
        if count(&[DayName, DayWhole]) > 1 || count(&[Offset, ZoneName]) > 1 {
            return Err("a weekday or a zone is there twice".into());
        }
        Ok(())
    }

    /// A date in days since 1970.
    #[inline]
    pub(super) fn read_date(&self, text: &[u8]) -> Option<i32> {
        let parts = self.parts(text)?;
        parts.days()
    }

    /// A time on a date.
    #[inline]
    pub(super) fn read(&self, text: &[u8]) -> Option<Moment> {
        let parts = self.parts(text)?;
        Some(Moment {
            seconds: i64::from(parts.days()?) * SECONDS_PER_DAY + parts.clock(),
            nanoseconds: parts.nanoseconds,
            digits: parts.digits,
            offset: parts.offset,
        })
    }

    /// A time of day: its seconds since midnight, its nanoseconds and the digits these were written with.
    #[inline]
    pub(super) fn read_time(&self, text: &[u8]) -> Option<(i64, u32, u32)> {
        let parts = self.parts(text)?;
        Some((parts.clock(), parts.nanoseconds, parts.digits))
    }

    #[inline]
    fn parts(&self, text: &[u8]) -> Option<Parts> {
        if self.length.is_some_and(|length| length != text.len()) {
            return None;
        }
        let mut parts = Parts::default();
        let mut rest = text;
        for item in &self.items {
            rest = item.read(rest, &mut parts)?;
        }
        rest.is_empty().then_some(parts)
    }
}

impl Parts {
    /// Seconds since midnight.
    #[inline]
    fn clock(&self) -> i64 {
        let hour = match self.afternoon {
            None => self.hour,
            Some(afternoon) => self.hour % 12 + 12 * u8::from(afternoon),
        };
        i64::from(hour) * 3600 + i64::from(self.minute) * 60 + i64::from(self.second)
    }

    #[inline]
    fn days(&self) -> Option<i32> {
        let days = if self.year_day > 0 {
            day_of_year(self.year, self.year_day)?
        } else {
            days_since_1970(self.year, self.month, self.day)?
        };
        match self.weekday {
            Some(expected) if weekday(days) != expected => None,
            _ => Some(days),
        }
    }
}

impl Item {
    /// How many bytes it reads, when they are always as many.
    fn length(self) -> Option<usize> {
        Some(match self {
            Self::Literal(_) => 1,
            Self::Year4 => 4,
            Self::YearDay | Self::MonthName | Self::DayName => 3,
            Self::Year2
            | Self::Month
            | Self::Day
            | Self::BlankDay
            | Self::Hour
            | Self::Hour12
            | Self::Minute
            | Self::Second
            | Self::HalfDay => 2,
            _ => return None,
        })
    }

    #[inline]
    fn read<'a>(self, text: &'a [u8], parts: &mut Parts) -> Option<&'a [u8]> {
        match self {
            Self::Literal(byte) => return text.strip_prefix(&[byte]),
            Self::Year4 => {
                let (high, rest) = two(text)?;
                let (low, rest) = two(rest)?;
                parts.year = u16::from(high) * 100 + u16::from(low);
                return Some(rest);
            }
            Self::Year2 => {
                let (year, rest) = two(text)?;
                parts.year = u16::from(year) + if year < 69 { 2000 } else { 1900 };
                return Some(rest);
            }
            Self::YearDay => {
                let (tens, rest) = two(text)?;
                let (last, rest) = rest.split_first()?;
                parts.year_day = u16::from(tens) * 10 + u16::from(digit(*last)?);
                return (parts.year_day > 0).then_some(rest);
            }
            Self::Fraction => return fraction(text, parts),
            Self::Offset => return offset(text, parts),
            Self::ZoneName => {
                parts.offset = Some(0);
                return [b"UTC".as_slice(), b"GMT", b"Z"]
                    .iter()
                    .find_map(|name| text.strip_prefix(*name));
            }
            Self::MonthName | Self::MonthWhole => {
                let (place, rest) = name(text, &MONTHS, self == Self::MonthName)?;
                parts.month = place + 1;
                return Some(rest);
            }
            Self::DayName | Self::DayWhole => {
                let (place, rest) = name(text, &DAYS, self == Self::DayName)?;
                parts.weekday = Some(place);
                return Some(rest);
            }
            Self::HalfDay => {
                let (half, rest) = text.split_at_checked(2)?;
                parts.afternoon = Some(if half.eq_ignore_ascii_case(b"AM") {
                    false
                } else if half.eq_ignore_ascii_case(b"PM") {
                    true
                } else {
                    return None;
                });
                return Some(rest);
            }
            _ => {}
        }
        let (value, rest) = match self {
            Self::ShortMonth
            | Self::ShortDay
            | Self::ShortHour
            | Self::ShortHour12
            | Self::ShortMinute
            | Self::ShortSecond => one_or_two(text)?,
            Self::BlankDay if text.first() == Some(&b' ') => {
                let (value, rest) = text[1..].split_first()?;
                (digit(*value)?, rest)
            }
            _ => two(text)?,
        };
        match self {
            Self::Month | Self::ShortMonth => parts.month = value,
            Self::Day | Self::ShortDay | Self::BlankDay => parts.day = value,
            Self::Hour | Self::ShortHour if value < 24 => parts.hour = value,
            Self::Hour12 | Self::ShortHour12 if (1..=12).contains(&value) => parts.hour = value,
            Self::Minute | Self::ShortMinute if value < 60 => parts.minute = value,
            Self::Second | Self::ShortSecond if value < 60 => parts.second = value,
            _ => return None,
        }
        Some(rest)
    }
}

#[inline]
fn digit(byte: u8) -> Option<u8> {
    let digit = byte.wrapping_sub(b'0');
    (digit < 10).then_some(digit)
}

#[inline]
fn two(text: &[u8]) -> Option<(u8, &[u8])> {
    let [tens, ones, rest @ ..] = text else {
        return None;
    };
    Some((digit(*tens)? * 10 + digit(*ones)?, rest))
}

#[inline]
fn one_or_two(text: &[u8]) -> Option<(u8, &[u8])> {
    if let Some(both) = two(text) {
        return Some(both);
    }
    let (first, rest) = text.split_first()?;
    Some((digit(*first)?, rest))
}

fn fraction<'a>(text: &'a [u8], parts: &mut Parts) -> Option<&'a [u8]> {
    let mut value = 0_u32;
    let mut count = 0;
    for byte in text.iter().take(9) {
        let Some(digit) = digit(*byte) else { break };
        value = value * 10 + u32::from(digit);
        count += 1;
    }
    if count == 0 {
        return None;
    }
    parts.nanoseconds = value * 10_u32.pow(9 - count);
    parts.digits = count;
    Some(&text[count as usize..])
}

fn offset<'a>(text: &'a [u8], parts: &mut Parts) -> Option<&'a [u8]> {
    let (sign, rest) = text.split_first()?;
    let minus = match sign {
        b'Z' => {
            parts.offset = Some(0);
            return Some(rest);
        }
        b'+' => false,
        b'-' => true,
        _ => return None,
    };
    let (hours, rest) = two(rest)?;
    let (minutes, rest) = match rest {
        [b':', after @ ..] => two(after)?,
        [b'0'..=b'9', ..] => two(rest)?,
        _ => (0, rest),
    };
    if hours > 23 || minutes > 59 {
        return None;
    }
    let seconds = i32::from(hours) * 3600 + i32::from(minutes) * 60;
    parts.offset = Some(if minus { -seconds } else { seconds });
    Some(rest)
}

/// Which of the names the text begins with: their first three letters, or all.
fn name<'a>(text: &'a [u8], names: &[&[u8]], short: bool) -> Option<(u8, &'a [u8])> {
    for (place, name) in names.iter().enumerate() {
        let name = if short { &name[..3] } else { name };
        if let Some((start, rest)) = text.split_at_checked(name.len())
            && start.eq_ignore_ascii_case(name)
        {
            return Some((place as u8, rest));
        }
    }
    None
}
