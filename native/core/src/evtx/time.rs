//! Windows times: FILETIME, SYSTEMTIME, and times written as text.

/// 100 ns ticks from 1601-01-01 to 1970-01-01.
const TICKS_TO_1970: i64 = 116_444_736_000_000_000;
const TICKS_PER_SECOND: u64 = 10_000_000;
const SECONDS_PER_DAY: u64 = 86_400;
/// Days from 0000-03-01, where the calendar's cycles start, to 1601-01-01.
const DAYS_TO_1601: u64 = 584_694;
const YEAR_MAX: u64 = 9_999;

/// A FILETIME (100 ns since 1601, UTC) as nanoseconds since 1970, exact, when 64 bits hold it.
#[inline]
pub(super) fn filetime_nanoseconds(ticks: u64) -> Option<i64> {
    i64::try_from(ticks)
        .ok()?
        .checked_sub(TICKS_TO_1970)?
        .checked_mul(100)
}

/// The same where zero stands for no time.
#[inline]
pub(super) fn filetime(ticks: u64) -> Option<i64> {
    (ticks != 0).then(|| filetime_nanoseconds(ticks)).flatten()
}

/// A moment in parts. The year has four digits at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Parts {
    year: u64,
    month: u64,
    day: u64,
    hour: u64,
    minute: u64,
    second: u64,
}

/// A FILETIME as `YYYY-MM-DDTHH:MM:SS.fffffffZ`; none behind the year 9999.
pub(super) fn filetime_text(ticks: u64) -> Option<[u8; 28]> {
    let seconds = ticks / TICKS_PER_SECOND;
    let (year, month, day) = civil_date(seconds / SECONDS_PER_DAY);
    if year > YEAR_MAX {
        return None;
    }
    let clock = seconds % SECONDS_PER_DAY;
    let mut text = *b"0000-00-00T00:00:00.0000000Z";
    let parts = Parts {
        year,
        month,
        day,
        hour: clock / 3_600,
        minute: clock / 60 % 60,
        second: clock % 60,
    };
    write_parts(&mut text, parts);
    write_digits(&mut text[20..27], ticks % TICKS_PER_SECOND);
    Some(text)
}

/// A SYSTEMTIME (eight 16-bit fields) as `YYYY-MM-DDTHH:MM:SS.fffZ`; none when a field is out of range.
pub(super) fn systemtime_text(bytes: &[u8; 16]) -> Option<[u8; 24]> {
    let (parts, milliseconds) = systemtime_parts(bytes)?;
    let mut text = *b"0000-00-00T00:00:00.000Z";
    write_parts(&mut text, parts);
    write_digits(&mut text[20..23], milliseconds);
    Some(text)
}

/// A SYSTEMTIME as nanoseconds since 1970, when it is a moment and 64 bits hold it.
pub(super) fn systemtime_nanoseconds(bytes: &[u8; 16]) -> Option<i64> {
    let (parts, milliseconds) = systemtime_parts(bytes)?;
    nanoseconds(parts, milliseconds * 1_000_000)
}

fn systemtime_parts(bytes: &[u8; 16]) -> Option<(Parts, u64)> {
    let (fields, _) = bytes.as_chunks::<2>();
    let field = |place: usize| u64::from(u16::from_le_bytes(fields[place]));
    let parts = Parts {
        year: field(0),
        month: field(1),
        day: field(3), // field 2 is the day of the week
        hour: field(4),
        minute: field(5),
        second: field(6),
    };
    let milliseconds = field(7);
    (is_moment(parts) && milliseconds < 1_000).then_some((parts, milliseconds))
}

/// A time as event XML writes it, `YYYY-MM-DDTHH:MM:SS[.fffffffff][Z]`, in nanoseconds since 1970.
/// The schema says that it is UTC; another zone is refused.
pub(super) fn text_nanoseconds(text: &str) -> Option<i64> {
    let text = text.trim_ascii();
    let text = text.strip_suffix('Z').unwrap_or(text).as_bytes();
    let (moment, fraction) = text.split_at_checked(19)?;
    let separators = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')];
    if separators
        .iter()
        .any(|(place, separator)| moment[*place] != *separator)
    {
        return None;
    }
    let parts = Parts {
        year: digits(&moment[0..4])?,
        month: digits(&moment[5..7])?,
        day: digits(&moment[8..10])?,
        hour: digits(&moment[11..13])?,
        minute: digits(&moment[14..16])?,
        second: digits(&moment[17..19])?,
    };
    let fraction_nanoseconds = match fraction {
        [] => 0,
        [b'.', rest @ ..] if (1..=9).contains(&rest.len()) => {
            digits(rest)? * 10_u64.pow(9 - rest.len() as u32)
        }
        _ => return None,
    };
    if !is_moment(parts) {
        return None;
    }
    nanoseconds(parts, fraction_nanoseconds)
}

fn digits(text: &[u8]) -> Option<u64> {
    text.iter().try_fold(0, |value, digit| {
        digit
            .is_ascii_digit()
            .then(|| value * 10 + u64::from(digit - b'0'))
    })
}

fn is_moment(parts: Parts) -> bool {
    let leap = parts.year.is_multiple_of(4)
        && (!parts.year.is_multiple_of(100) || parts.year.is_multiple_of(400));
    let days = match parts.month {
        4 | 6 | 9 | 11 => 30,
        2 if leap => 29,
        2 => 28,
        _ => 31,
    };
    (1..=YEAR_MAX).contains(&parts.year)
        && (1..=12).contains(&parts.month)
        && (1..=days).contains(&parts.day)
        && parts.hour < 24
        && parts.minute < 60
        && parts.second < 60
}

/// Nanoseconds since 1970 of a moment for which [`is_moment`] holds.
fn nanoseconds(parts: Parts, fraction_nanoseconds: u64) -> Option<i64> {
    // Days since 0000-03-01, by Hinnant, "chrono-compatible low-level date algorithms".
    let year = parts.year - u64::from(parts.month <= 2);
    let month = (parts.month + 9) % 12;
    let day_of_year = (153 * month + 2) / 5 + parts.day - 1;
    let days = year * 365 + year / 4 - year / 100 + year / 400 + day_of_year;
    let clock = parts.hour * 3_600 + parts.minute * 60 + parts.second;
    let days_since_1970 = i64::try_from(days).ok()? - 719_468;
    let seconds = days_since_1970 * 86_400 + i64::try_from(clock).ok()?;
    let wide = i128::from(seconds) * 1_000_000_000 + i128::from(fraction_nanoseconds);
    i64::try_from(wide).ok()
}

/// Year, month and day of a day counted from 1601-01-01, by Hinnant's algorithm.
fn civil_date(days_since_1601: u64) -> (u64, u64, u64) {
    let days = days_since_1601 + DAYS_TO_1601;
    let era = days / 146_097;
    let day_of_era = days % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

/// Fill in `YYYY-MM-DDTHH:MM:SS` at the start of `text`.
fn write_parts(text: &mut [u8], parts: Parts) {
    write_digits(&mut text[0..4], parts.year);
    write_digits(&mut text[5..7], parts.month);
    write_digits(&mut text[8..10], parts.day);
    write_digits(&mut text[11..13], parts.hour);
    write_digits(&mut text[14..16], parts.minute);
    write_digits(&mut text[17..19], parts.second);
}

fn write_digits(place: &mut [u8], mut value: u64) {
    for digit in place.iter_mut().rev() {
        *digit = b'0' + (value % 10) as u8;
        value /= 10;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text_of(ticks: u64) -> String {
        String::from_utf8(filetime_text(ticks).unwrap().to_vec()).unwrap()
    }

    #[test]
    fn every_digit_of_a_filetime_is_kept() {
        assert_eq!(text_of(0), "1601-01-01T00:00:00.0000000Z");
        assert_eq!(
            text_of(116_444_736_000_000_000),
            "1970-01-01T00:00:00.0000000Z"
        );
        let ticks = 131_166_432_123_456_789;
        assert_eq!(text_of(ticks), "2016-08-26T00:00:12.3456789Z");
        assert_eq!(
            text_nanoseconds(&text_of(ticks)),
            filetime_nanoseconds(ticks)
        );
    }

    #[test]
    fn times_that_do_not_fit_are_refused() {
        assert_eq!(filetime_text(u64::MAX), None);
        assert_eq!(filetime_nanoseconds(u64::MAX), None);
        assert_eq!(filetime_nanoseconds(0), None);
        for text in [
            "",
            "2020-02-30T00:00:00Z",
            "2020-01-01 00:00:00Z",
            "2020-01-01T00:00:00+01:00",
            "2020-01-01T00:00:00.Z",
        ] {
            assert_eq!(text_nanoseconds(text), None, "{text}");
        }
    }

    #[test]
    fn a_systemtime_is_checked_field_by_field() {
        let fields = |values: [u16; 8]| {
            let mut bytes = [0; 16];
            for (place, value) in values.iter().enumerate() {
                bytes[place * 2..place * 2 + 2].copy_from_slice(&value.to_le_bytes());
            }
            bytes
        };
        let good = fields([2020, 2, 6, 29, 23, 59, 58, 7]);
        assert_eq!(
            systemtime_text(&good).unwrap(),
            *b"2020-02-29T23:59:58.007Z"
        );
        assert_eq!(
            systemtime_nanoseconds(&good),
            text_nanoseconds("2020-02-29T23:59:58.007Z")
        );
        assert_eq!(systemtime_text(&[0; 16]), None);
        assert_eq!(systemtime_text(&fields([2021, 2, 1, 29, 0, 0, 0, 0])), None);
    }

    #[test]
    fn no_filetime_is_no_time() {
        assert_eq!(filetime(116_444_736_000_000_001), Some(100));
        assert_eq!(filetime(0), None);
        assert_eq!(filetime(1), None);
        assert_eq!(filetime(u64::MAX), None);
    }
}
