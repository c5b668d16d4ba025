//! What a column can be, by what is left of its candidates: one reading, or several and a question.
//!
//! The rules, in this order:
//!   * A specific meaning (an address, a hash by its length, JSON) is kept as text with that meaning: nothing is lost by it.
//!   * Pairs of words are booleans when both were seen (`true` or `false` alone is enough); `1/0` are integers too: a question.
//!   * Dates and times: every order of day and month that is left; more than one is a question. A narrower pattern is
//!     preferred to a wider one that reads the same.
//!   * Times of day are `time64[us]` when they say seconds in two digits each, or their half of the day. Two numbers may be minutes
//!     and seconds as well, and an hour in one digit may be one of twelve or a duration: a question. More than six digits behind
//!     the second are text that means a time: nothing is lost by it.
//!   * Integers are `int64`, `uint64` when one is greater, `decimal128(38, 0)` beyond. When they could all be moments of
//!     1990 to 2100, or dates like 20240131, it is a question.
//!   * Decimal numbers are `decimal128` when all have as many digits behind the point, `float64` otherwise. When the only mark
//!     could be the point or part groups of digits, it is a question.
//!   * All else is text.

use super::candidates::{Family, ISO_TIME, Set, Zoned, all, number, numbers, set_of};
use super::column::{Column, Digits};

/// One way to read a column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reading {
    /// How an answer names it.
    pub(super) option: String,
    pub(super) type_name: String,
    pub(super) format: Option<String>,
    pub(super) group: Option<char>,
    pub(super) meaning: Option<String>,
    /// It says times of some zone, and not of which.
    pub(super) needs_zone: bool,
}

impl Reading {
    pub(super) fn text() -> Self {
        Self::of("text", "utf8", None)
    }

    pub(super) fn of(option: &str, type_name: &str, format: Option<&str>) -> Self {
        Self {
            option: option.to_owned(),
            type_name: type_name.to_owned(),
            format: format.map(str::to_owned),
            group: None,
            meaning: None,
            needs_zone: false,
        }
    }

    pub(super) fn meaning(name: &str) -> Self {
        Self {
            meaning: Some(name.to_owned()),
            ..Self::of(name, "utf8", None)
        }
    }

    /// The format with the group among its words, as the grammar has it.
    pub(super) fn words(&self) -> Option<String> {
        let Some(group) = self.group else {
            return self.format.clone();
        };
        let plain = if self.type_name == "int64" {
            "decimal"
        } else {
            "point"
        };
        let group = if group == ' ' {
            "space".to_owned()
        } else {
            group.to_string()
        };
        Some(format!(
            "{} group {group}",
            self.format.as_deref().unwrap_or(plain)
        ))
    }

    fn grouped(mut self, mark: Option<u8>) -> Self {
        self.group = mark.map(char::from);
        self
    }
}

/// Digits of which fewer, all of them decimal, may still be hexadecimal by chance.
const HEX_DIGITS_SEEN: u64 = 64;
/// Eighteen digits, five marks and a sign.
const GROUPED_LENGTH_MAX: usize = 23;
/// Shorter words of hexadecimal digits are words.
const HEX_LENGTH_MIN: usize = 8;

/// The readings of a column, the preferred one first. More than one is a question.
pub(super) fn readings(column: &Column) -> Vec<Reading> {
    if column.cells == 0 {
        return vec![Reading::text()];
    }
    let alive = |name: &str| number(name).is_some_and(|number| column.alive & (1 << number) != 0);
    let specific = set_of(|one| {
        // An `ipv4` is an `ip` too; a time is kept as text only where no type of times holds it.
        one.family == Family::Meaning && !matches!(one.name, "hex" | "ip" | "time")
    });
    if let Some(number) = numbers(column.alive & specific).next() {
        return vec![Reading::meaning(all()[number].name)];
    }
    if alive("ip") {
        return vec![Reading::meaning("ip")];
    }
    if alive("time") && !alive(ISO_TIME) {
        return vec![Reading::meaning("time")];
    }
    let mut found = booleans(column);
    found.extend(moments(column));
    found.extend(times(column));
    found.extend(counts(column));
    let integers = set_of(|one| matches!(one.family, Family::Int(..)));
    let wide = column.alive & integers == 0 && column.integers.0 <= column.integers.1;
    if column.alive & integers != 0 {
        let unsigned = column.integers.1 > i128::from(i64::MAX);
        found.push(Reading::of(
            "integer",
            if unsigned { "uint64" } else { "int64" },
            None,
        ));
        let fixed = column.length.0 == column.length.1 && column.length.1 >= HEX_LENGTH_MIN;
        let digits = column.cells.saturating_mul(column.length.1 as u64);
        if found.len() == 1 && alive("hex") && fixed && digits < HEX_DIGITS_SEEN {
            found.push(Reading::meaning("hex"));
        }
    } else if wide && alive("point") && column.digits[0].scale_max == 0 {
        found.push(Reading::of("integer", "decimal128(38, 0)", None));
    } else {
        found.extend(numbers_with_marks(column));
        if alive("hex integer") {
            found.push(Reading::of("hex integer", "uint64", Some("hex")));
        }
        if alive("hex") && column.length.0 >= HEX_LENGTH_MIN {
            found.push(Reading::meaning("hex"));
        }
    }
    if found.is_empty() {
        found.push(Reading::text());
    }
    found
}

fn booleans(column: &Column) -> Vec<Reading> {
    let Some(values) = column.distinct.values() else {
        return Vec::new();
    };
    let pairs = column.alive & set_of(|one| one.family == Family::Bool);
    numbers(pairs)
        .map(|number| all()[number].name)
        .filter(|name| values.len() == 2 || name.eq_ignore_ascii_case("true/false"))
        .map(|name| Reading::of(name, "bool", Some(name)))
        .collect()
}

/// Dates and times written in fields.
fn moments(column: &Column) -> Vec<Reading> {
    let mut written =
        column.alive & set_of(|one| matches!(one.family, Family::Date | Family::Moment(_)));
    written &= !wider_of(written);
    // One kind of ISO 8601 is enough.
    if let Some(mixed) = number("iso8601 some with zone") {
        let alone = written.count_ones() == 1;
        if !alone {
            written &= !(1 << mixed);
        }
    }
    numbers(written)
        .filter_map(|number| {
            let candidate = &all()[number];
            let is_fine = column.below_micro & (1 << number) != 0;
            let is_beyond = column.beyond_nano & (1 << number) != 0;
            let (unit, fits) = (if is_beyond { "us" } else { "ns" }, !(is_beyond && is_fine));
            let format = candidate
                .name
                .split(' ')
                .next()
                .filter(|name| *name == "iso8601");
            let format = format.unwrap_or(candidate.name);
            match candidate.family {
                Family::Date => Some(Reading::of(candidate.name, "date32", Some(format))),
                Family::Moment(zoned) if fits => Some(Reading {
                    needs_zone: zoned != Zoned::Always,
                    ..Reading::of(
                        candidate.name,
                        &format!("timestamp[{unit}, UTC]"),
                        Some(format),
                    )
                }),
                _ => None,
            }
        })
        .collect()
}

/// Times of day.
fn times(column: &Column) -> Vec<Reading> {
    let mut written = column.alive & set_of(|one| one.family == Family::Time);
    let has = |name: &str| number(name).is_some_and(|number| written & (1 << number) != 0);
    let (iso, short) = (has(ISO_TIME), has("%H:%M"));
    if iso {
        let time = Reading::of(ISO_TIME, "time64[us]", Some("iso8601"));
        return if short {
            vec![time, Reading::text()]
        } else {
            vec![time]
        };
    }
    written &= !wider_of(written);
    let mut found: Vec<Reading> = numbers(written)
        .map(|number| Reading::of(all()[number].name, "time64[us]", Some(all()[number].name)))
        .collect();
    if found
        .iter()
        .any(|reading| reading.option.starts_with("%-H"))
    {
        found.push(Reading::text());
    }
    found
}

/// The candidates that read no more than a narrower one that is alive as well.
fn wider_of(alive: Set) -> Set {
    numbers(alive)
        .filter_map(|number| self::number(all()[number].wider?))
        .fold(0, |set, wide| set | 1 << wide)
}

/// Dates and times written as one number.
fn counts(column: &Column) -> Vec<Reading> {
    let counted =
        column.alive & set_of(|one| matches!(one.family, Family::Epoch(..) | Family::DateNumber));
    numbers(counted)
        .map(|number| {
            let candidate = &all()[number];
            let type_name = match candidate.family {
                Family::DateNumber => "date32",
                _ => "timestamp[ns, UTC]",
            };
            Reading::of(candidate.name, type_name, Some(candidate.name))
        })
        .collect()
}

/// Numbers with a point, a comma or groups of digits.
fn numbers_with_marks(column: &Column) -> Vec<Reading> {
    let mut found = Vec::new();
    let set = column.alive
        & set_of(|one| {
            matches!(
                one.family,
                Family::Grouped(_) | Family::Decimal { .. } | Family::Float(_)
            )
        });
    let first =
        set_of(|one| matches!(one.family, Family::Decimal { .. })).trailing_zeros() as usize;
    let has = |name: &str| number(name).is_some_and(|number| set & (1 << number) != 0);
    for number in numbers(set) {
        let candidate = &all()[number];
        match candidate.family {
            Family::Grouped(mark) => {
                let reading = if mark != b'.' && column.length.1 <= GROUPED_LENGTH_MAX {
                    Reading::of(candidate.name, "int64", None)
                } else {
                    let format = if mark == b'.' { "comma" } else { "point" };
                    Reading::of(candidate.name, "decimal128(38, 0)", Some(format))
                };
                found.push(reading.grouped(Some(mark)));
            }
            Family::Decimal { point, group } => {
                let digits = column.digits[number - first];
                let whole_groups = group.is_some() && digits.scale_max == 0;
                // Without a group mark anywhere the plain candidate is alive and says the same.
                let plain = group.is_some() && has(if point == b',' { "comma" } else { "point" });
                if whole_groups || plain || digits.scale_max == 0 {
                    continue;
                }
                let format = if point == b',' { "comma" } else { "point" };
                let float = if point == b',' {
                    "float comma"
                } else {
                    "float"
                };
                let type_name = decimal_type(digits, has(float));
                if let Some(type_name) = type_name {
                    let name = if group.is_some() {
                        candidate.name
                    } else {
                        format
                    };
                    found.push(Reading::of(name, &type_name, Some(format)).grouped(group));
                }
            }
            Family::Float(point) => {
                let format = if point == b',' { "comma" } else { "point" };
                if !has(format) && (point == b'.' || !has("float")) {
                    found.push(Reading::of(candidate.name, "float64", Some(format)));
                }
            }
            _ => {}
        }
    }
    found
}

/// `decimal128` when all have as many digits behind the point or no float holds them, `float64` otherwise.
fn decimal_type(digits: Digits, float: bool) -> Option<String> {
    let needed = digits.whole + digits.scale_max;
    if float && (digits.scale_min != digits.scale_max || needed > 38) {
        return Some("float64".to_owned());
    }
    let precision = match needed {
        0..=18 => 18,
        19..=38 => 38,
        _ => return None,
    };
    Some(format!("decimal128({precision}, {})", digits.scale_max))
}
