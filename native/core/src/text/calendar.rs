//! Days and seconds of the proleptic Gregorian calendar, years 1 to 9999.

pub(super) const SECONDS_PER_DAY: i64 = 86_400;

/// Days of each month before it, in a common year.
const DAYS_BEFORE: [u16; 12] = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334];

pub(super) fn is_leap(year: u16) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

pub(super) fn days_in_month(year: u16, month: u8) -> u8 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days since 1970-01-01 of a date that exists.
pub(super) fn days_since_1970(year: u16, month: u8, day: u8) -> Option<i32> {
    if !(1..=9999).contains(&year)
        || !(1..=12).contains(&month)
        || day == 0
        || day > days_in_month(year, month)
    {
        return None;
    }
    Some(days_unchecked(year, month, day))
}

/// The day of that number (1 to 366) in a year, as days since 1970.
pub(super) fn day_of_year(year: u16, number: u16) -> Option<i32> {
    let days = if is_leap(year) { 366 } else { 365 };
    ((1..=9999).contains(&year) && (1..=days).contains(&number))
        .then(|| days_unchecked(year, 1, 1) + i32::from(number) - 1)
}

fn days_unchecked(year: u16, month: u8, day: u8) -> i32 {
    let before = i32::from(year) - 1;
    let leap_day = i32::from(month > 2 && is_leap(year));
    before * 365 + before / 4 - before / 100
        + before / 400
        + i32::from(DAYS_BEFORE[usize::from(month) - 1])
        + leap_day
        + i32::from(day)
        - 719_163 // 1970-01-01 counted from 0001-01-01, which is 1
}

/// 0 for Monday.
pub(super) fn weekday(days_since_1970: i32) -> u8 {
    (days_since_1970 + 3).rem_euclid(7) as u8 // 1970-01-01 was a Thursday
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_day_follows_the_one_before() {
        let mut expected = days_since_1970(1, 1, 1).unwrap();
        assert_eq!(expected, -719_162);
        let mut of_week = weekday(expected);
        for year in 1..=9999 {
            let first = expected;
            for month in 1..=12 {
                for day in 1..=days_in_month(year, month) {
                    assert_eq!(days_since_1970(year, month, day), Some(expected));
                    assert_eq!(weekday(expected), of_week);
                    expected += 1;
                    of_week = (of_week + 1) % 7;
                }
                assert_eq!(
                    days_since_1970(year, month, days_in_month(year, month) + 1),
                    None
                );
            }
            let length = (expected - first) as u16;
            assert_eq!(day_of_year(year, length), Some(expected - 1));
            assert_eq!(day_of_year(year, length + 1), None);
        }
        assert_eq!(weekday(0), 3);
        assert_eq!(days_since_1970(1970, 1, 1), Some(0));
    }
}
