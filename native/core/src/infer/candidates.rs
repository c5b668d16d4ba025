//! Every way of reading a column that inference knows, as a fixed list: a set of them is one machine word.

use std::sync::OnceLock;

use crate::text::{Format, Spec};

/// A set of candidates: bit n is the candidate n of [`all`].
pub(super) type Set = u128;

/// What a candidate is, and how it is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    /// A pair of words.
    Bool,
    /// A width of integers: the least and the greatest.
    Int(i128, i128),
    /// Hexadecimal integers with `0x` before them.
    Hex,
    /// Integers with a mark between groups: where there can be one, there is.
    Grouped(u8),
    /// Decimal numbers: point or comma, and the mark between groups.
    Decimal { point: u8, group: Option<u8> },
    /// Binary floating point: the point.
    Float(u8),
    /// A count since an epoch; a moment of 1990 to 2100 between these numbers.
    Epoch(i128, i128),
    /// A date as a number: only of the years 1900 to 2100.
    DateNumber,
    /// A date.
    Date,
    /// A time of day.
    Time,
    /// A time on a date; with its zone, without one, or some with and some without.
    Moment(Zoned),
    /// A text with a meaning.
    Meaning,
    /// Any text.
    Text,
}

/// What values say of their zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Zoned {
    Always,
    Never,
    Mixed,
}

/// One candidate.
#[derive(Debug)]
pub(super) struct Candidate {
    /// How questions, answers and evidence call it.
    pub(super) name: &'static str,
    pub(super) family: Family,
    /// Reads its values, where a format can say what it is.
    pub(super) format: Format,
    /// A candidate that reads every value of this one, and reads it the same: a pattern with optional padding.
    pub(super) wider: Option<&'static str>,
}

/// Seconds of 1990-01-01 and of 2100-01-01.
const EPOCH_FROM: i128 = 631_152_000;
const EPOCH_TO: i128 = 4_102_444_800;
const FILETIME_1970: i128 = 116_444_736_000_000_000;

const BOOLS: [&str; 14] = [
    "true/false",
    "True/False",
    "TRUE/FALSE",
    "yes/no",
    "Yes/No",
    "YES/NO",
    "y/n",
    "Y/N",
    "t/f",
    "T/F",
    "on/off",
    "On/Off",
    "ON/OFF",
    "1/0",
];

/// Dates; the second is the wider one.
const DATES: [(&str, Option<&str>); 13] = [
    ("%Y-%m-%d", None),
    ("%Y/%m/%d", None),
    ("%d.%m.%Y", Some("%-d.%-m.%Y")),
    ("%-d.%-m.%Y", None),
    ("%d.%m.%y", None),
    ("%m/%d/%Y", Some("%-m/%-d/%Y")),
    ("%-m/%-d/%Y", None),
    ("%d/%m/%Y", Some("%-d/%-m/%Y")),
    ("%-d/%-m/%Y", None),
    ("%m/%d/%y", None),
    ("%d/%m/%y", None),
    ("%d-%m-%Y", None),
    ("%m-%d-%Y", None),
];
const NAMED_DATES: [(&str, Option<&str>); 3] = [
    ("%d-%b-%Y", None),
    ("%d %b %Y", Some("%-d %b %Y")),
    ("%-d %b %Y", None),
];

/// Times of day as ISO 8601 has them; with seconds or without, or some of either.
pub(super) const ISO_TIME: &str = "iso8601 time of day";

/// Other times of day; the first is the one without seconds among them.
const TIMES: [(&str, Option<&str>); 14] = [
    ("%H:%M", None),
    ("%-H:%M", None),
    ("%-H:%M:%S", None),
    ("%-H:%M:%S.%f", None),
    ("%I:%M %p", Some("%-I:%M %p")),
    ("%-I:%M %p", None),
    ("%I:%M:%S %p", Some("%-I:%M:%S %p")),
    ("%-I:%M:%S %p", None),
    ("%I:%M:%S.%f %p", Some("%-I:%M:%S.%f %p")),
    ("%-I:%M:%S.%f %p", None),
    ("%I:%M%p", Some("%-I:%M%p")),
    ("%-I:%M%p", None),
    ("%I:%M:%S%p", Some("%-I:%M:%S%p")),
    ("%-I:%M:%S%p", None),
];

/// Times without a zone.
const LOCALS: [(&str, Option<&str>); 18] = [
    ("%Y/%m/%d %H:%M:%S", None),
    ("%Y/%m/%d %H:%M:%S.%f", None),
    ("%d.%m.%Y %H:%M:%S", None),
    ("%d.%m.%Y %H:%M", None),
    ("%m/%d/%Y %H:%M:%S", None),
    ("%d/%m/%Y %H:%M:%S", None),
    ("%m/%d/%Y %H:%M", None),
    ("%d/%m/%Y %H:%M", None),
    ("%-m/%-d/%Y %-I:%M:%S %p", None),
    ("%-d/%-m/%Y %-I:%M:%S %p", None),
    ("%-m/%-d/%Y %-I:%M %p", None),
    ("%-m/%-d/%Y %-H:%M", None),
    ("%-d/%-m/%Y %-H:%M", None),
    ("%d/%b/%Y:%H:%M:%S", None),
    ("%d/%b/%Y %H:%M:%S", None),
    ("%a %b %e %H:%M:%S %Y", None),
    ("%y%m%d %H:%M:%S", None),
    ("%Y%m%d-%H:%M:%S", None),
];

/// Times with a zone.
const ZONED: [(&str, Option<&str>); 4] = [
    ("%d/%b/%Y:%H:%M:%S %z", None),
    ("%a %b %e %H:%M:%S %Z %Y", None),
    ("%Y-%m-%d %H:%M:%S %z", None),
    ("%Y-%m-%d %H:%M:%S %Z", None),
];

const MEANINGS: [&str; 14] = [
    "ipv4", "ipv6", "ip", "cidr", "uuid", "mac", "sid", "md5", "sha1", "sha256", "sha512", "time",
    "json", "hex",
];

/// The list. It never changes while the program runs, and its order is the order of preference within a family.
pub(super) fn all() -> &'static [Candidate] {
    static ALL: OnceLock<Vec<Candidate>> = OnceLock::new();
    ALL.get_or_init(|| {
        let mut list = Vec::with_capacity(128);
        let mut add = |name: &'static str,
                       family: Family,
                       spec: Spec<'static>,
                       wider: Option<&'static str>| {
            if let Ok(format) = Format::new(&spec) {
                list.push(Candidate {
                    name,
                    family,
                    format,
                    wider,
                });
            }
        };
        let of = |type_name: &'static str| Spec {
            type_name,
            ..Spec::default()
        };
        for words in BOOLS {
            let spec = Spec {
                format: Some(words),
                ..of("bool")
            };
            add(words, Family::Bool, spec, None);
        }
        for (name, low, high) in [
            ("int8", i128::from(i8::MIN), i128::from(i8::MAX)),
            ("uint8", 0, i128::from(u8::MAX)),
            ("int16", i128::from(i16::MIN), i128::from(i16::MAX)),
            ("uint16", 0, i128::from(u16::MAX)),
            ("int32", i128::from(i32::MIN), i128::from(i32::MAX)),
            ("uint32", 0, i128::from(u32::MAX)),
            ("int64", i128::from(i64::MIN), i128::from(i64::MAX)),
            ("uint64", 0, i128::from(u64::MAX)),
        ] {
            add(name, Family::Int(low, high), of(name), None);
        }
        let hex = Spec {
            format: Some("hex"),
            ..of("uint64")
        };
        add("hex integer", Family::Hex, hex, None);
        for (name, format) in [
            ("group ,", "point group ,"),
            ("group .", "comma group ."),
            ("group space", "point group space"),
            ("group '", "point group '"),
        ] {
            let mark = if name.ends_with("space") {
                b' '
            } else {
                name.as_bytes()[6]
            };
            let spec = Spec {
                format: Some(format),
                ..of("decimal128(38, 0)")
            };
            add(name, Family::Grouped(mark), spec, None);
        }
        for (name, format, point, group) in [
            ("point", "point", b'.', None),
            ("comma", "comma", b',', None),
            ("point, group ,", "point group ,", b'.', Some(b',')),
            ("comma, group .", "comma group .", b',', Some(b'.')),
        ] {
            let spec = Spec {
                format: Some(format),
                ..of("decimal128(38, 0)")
            };
            add(name, Family::Decimal { point, group }, spec, None);
        }
        for (name, format, point) in [("float", "point", b'.'), ("float comma", "comma", b',')] {
            let spec = Spec {
                format: Some(format),
                ..of("float64")
            };
            add(name, Family::Float(point), spec, None);
        }
        let moment = |format: &'static str| Spec {
            format: Some(format),
            ..of("timestamp[ns, UTC]")
        };
        for (name, scale) in [
            ("epoch_s", 1),
            ("epoch_ms", 1_000),
            ("epoch_us", 1_000_000),
            ("epoch_ns", 1_000_000_000),
        ] {
            let family = Family::Epoch(EPOCH_FROM * scale, EPOCH_TO * scale);
            add(name, family, moment(name), None);
        }
        let family = Family::Epoch(
            EPOCH_FROM * 10_000_000 + FILETIME_1970,
            EPOCH_TO * 10_000_000 + FILETIME_1970,
        );
        add("filetime", family, moment("filetime"), None);
        let date = |format: &'static str| Spec {
            format: Some(format),
            ..of("date32")
        };
        add("%Y%m%d", Family::DateNumber, date("%Y%m%d"), None);
        for (name, wider) in DATES.into_iter().chain(NAMED_DATES) {
            add(name, Family::Date, date(name), wider);
        }
        let time = |format: &'static str| Spec {
            format: Some(format),
            ..of("time64[us]")
        };
        add(ISO_TIME, Family::Time, time("iso8601"), None);
        for (name, wider) in TIMES {
            add(name, Family::Time, time(name), wider);
        }
        let local = |format: &'static str| Spec {
            format: Some(format),
            ..of("timestamp[ns]")
        };
        add("iso8601", Family::Moment(Zoned::Always), moment_iso(), None);
        add(
            "iso8601 without zone",
            Family::Moment(Zoned::Never),
            local("iso8601"),
            None,
        );
        add(
            "iso8601 some with zone",
            Family::Moment(Zoned::Mixed),
            Spec {
                zone: Some("UTC"),
                ..moment_iso()
            },
            None,
        );
        add(
            "rfc2822",
            Family::Moment(Zoned::Always),
            moment("rfc2822"),
            None,
        );
        for (name, wider) in ZONED {
            add(name, Family::Moment(Zoned::Always), moment(name), wider);
        }
        for (name, wider) in LOCALS {
            add(name, Family::Moment(Zoned::Never), local(name), wider);
        }
        for name in MEANINGS {
            let spec = Spec {
                meaning: Some(name),
                ..of("utf8")
            };
            add(name, Family::Meaning, spec, None);
        }
        add("text", Family::Text, of("utf8"), None);
        list
    })
}

fn moment_iso() -> Spec<'static> {
    Spec {
        type_name: "timestamp[ns, UTC]",
        format: Some("iso8601"),
        ..Spec::default()
    }
}

/// Number of a candidate by its name.
pub(super) fn number(name: &str) -> Option<usize> {
    all().iter().position(|candidate| candidate.name == name)
}

/// The set of the candidates for which `wanted` holds.
pub(super) fn set_of(wanted: impl Fn(&'static Candidate) -> bool) -> Set {
    all()
        .iter()
        .enumerate()
        .filter(|(_, candidate)| wanted(candidate))
        .fold(0, |set, (number, _)| set | 1 << number)
}

/// All of them.
pub(super) fn everything() -> Set {
    set_of(|_| true)
}

/// The numbers in a set, lowest first.
pub(super) fn numbers(mut set: Set) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        (set != 0).then(|| {
            let number = set.trailing_zeros() as usize;
            set &= set - 1;
            number
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_whole_and_fits_a_set() {
        let names: std::collections::BTreeSet<_> = all().iter().map(|one| one.name).collect();
        assert_eq!(names.len(), all().len());
        assert!(all().len() <= 128);
        let fixed = 14 + 8 + 1 + 4 + 4 + 2 + 5 + 1 + 1 + 4 + 1;
        let times = TIMES.len();
        let listed = DATES.len() + NAMED_DATES.len() + ZONED.len() + LOCALS.len() + MEANINGS.len();
        assert_eq!(all().len(), fixed + times + listed, "a format was refused");
        for candidate in all() {
            if let Some(wider) = candidate.wider {
                assert!(number(wider).is_some(), "{wider}");
            }
        }
    }
}
