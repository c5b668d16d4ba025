//! One column: which candidates are alive, what ruled out the others, and the facts that choose between those left.
//!
//! States of parts of a file, and of files, are joined in any order and give the same: a candidate is alive when it is in
//! both, its witness is the earliest, and every fact is a sum, a least, a greatest or a first.

use std::sync::OnceLock;

use super::candidates::{self, Family, Set, Zoned, all, numbers};
use super::distinct::Distinct;
use super::number::{Measure, measure};
use super::witness::{Place, Sightings, Witness, join, shown};

/// Texts that may mean "no value": when the rest of the column has a type that they contradict.
pub(super) const NULL_WORDS: [&str; 18] = [
    "", "-", "--", "NULL", "null", "Null", "N/A", "n/a", "NA", "na", "None", "none", "nil", "\\N",
    "(null)", "<null>", "#N/A", "?",
];
const WORD_BYTES_MAX: usize = 6;
/// First values that are kept as examples.
const EXAMPLES: usize = 3;
/// Nanoseconds since 1970 end within these seconds.
const NANO_SECONDS: i64 = 9_223_372_035;
const MICRO_DIGITS: u32 = 6;

/// Digits of the numbers of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Digits {
    pub(super) whole: u32,
    pub(super) scale_min: u32,
    pub(super) scale_max: u32,
}

/// What is known of one column.
#[derive(Debug, Clone)]
pub(super) struct Column {
    /// Values that are none of the words.
    pub(super) cells: u64,
    /// How often each of [`NULL_WORDS`] was seen, and where first.
    pub(super) words: [Sightings; NULL_WORDS.len()],
    pub(super) alive: Set,
    pub(super) witnesses: Vec<Witness>,
    pub(super) length: (usize, usize),
    /// Least and greatest, while every value is an integer.
    pub(super) integers: (i128, i128),
    /// By the four decimal candidates, in their order.
    pub(super) digits: [Digits; 4],
    /// Candidates that read a moment with more digits behind the second's point than microseconds have.
    pub(super) below_micro: Set,
    /// Candidates that read a moment outside of what 64 bits of nanoseconds hold.
    pub(super) beyond_nano: Set,
    pub(super) distinct: Distinct,
    pub(super) examples: Vec<(Place, Box<[u8]>)>,
    /// No integer between these rules anything out any more.
    inner: (i128, i128),
}

/// Sets of candidates that are judged together.
struct Sets {
    integers: Set,
    epochs: Set,
    decimals: Set,
    first_decimal: usize,
    float: Set,
    text: Set,
    /// What a plain number cannot be, whatever its digits.
    never_plain: Set,
    everything: Set,
}

fn sets() -> &'static Sets {
    static SETS: OnceLock<Sets> = OnceLock::new();
    SETS.get_or_init(|| {
        let of = |wanted: &dyn Fn(&candidates::Candidate) -> bool| candidates::set_of(wanted);
        let decimals = of(&|one| matches!(one.family, Family::Decimal { .. }));
        Sets {
            integers: of(&|one| matches!(one.family, Family::Int(..))),
            epochs: of(&|one| matches!(one.family, Family::Epoch(..))),
            decimals,
            first_decimal: decimals.trailing_zeros() as usize,
            float: of(&|one| one.family == Family::Float(b'.')),
            text: of(&|one| one.family == Family::Text),
            never_plain: of(&|one| {
                matches!(
                    one.family,
                    Family::Hex | Family::Date | Family::Time | Family::Moment(_) | Family::Meaning
                ) && !matches!(one.name, "md5" | "sha1" | "sha256" | "sha512" | "hex")
            }),
            everything: candidates::everything(),
        }
    })
}

impl Default for Column {
    fn default() -> Self {
        Self {
            cells: 0,
            words: [Sightings::default(); NULL_WORDS.len()],
            alive: sets().everything,
            witnesses: Vec::new(),
            length: (usize::MAX, 0),
            integers: (i128::MAX, i128::MIN),
            digits: [Digits {
                whole: 0,
                scale_min: u32::MAX,
                scale_max: 0,
            }; 4],
            below_micro: 0,
            beyond_nano: 0,
            distinct: Distinct::default(),
            examples: Vec::new(),
            inner: (i128::MAX, i128::MIN),
        }
    }
}

impl Column {
    /// Whether every value is plain text and nothing more can be learnt of its type.
    fn is_text(&self) -> bool {
        self.alive == sets().text
    }

    /// Take one value into account.
    #[inline]
    pub(super) fn feed(&mut self, value: &[u8], place: Place) {
        if value.len() <= WORD_BYTES_MAX
            && let Some(word) = null_word(value)
        {
            self.words[word].note(place);
            return;
        }
        self.cells += 1;
        if self.distinct.seen(value) {
            return;
        }
        self.length.0 = self.length.0.min(value.len());
        self.length.1 = self.length.1.max(value.len());
        if self.examples.len() < EXAMPLES {
            let value = shown(value);
            if self.examples.iter().all(|(_, other)| *other != value) {
                self.examples.push((place, value));
            }
        }
        let left = if self.is_text() {
            if std::str::from_utf8(value).is_ok() {
                return;
            }
            0
        } else {
            self.judge(value)
        };
        if left != self.alive {
            self.witnesses.push(Witness {
                place,
                value: shown(value),
                out: self.alive & !left,
            });
            self.alive = left;
            self.set_inner();
        }
    }

    /// The candidates that are alive and that the value does not contradict; its facts are noted.
    fn judge(&mut self, value: &[u8]) -> Set {
        let sets = sets();
        let mut rest = self.alive;
        let mut left = 0;
        let numeric = sets.integers | sets.epochs | sets.decimals | sets.float;
        if self.alive & numeric != 0 && value.len() <= 18 && is_plain_start(value[0]) {
            let plain = self.alive & (sets.integers | sets.epochs | sets.float);
            let point = 1 << sets.first_decimal;
            if let Some(integer) = small_integer(value) {
                left |= self.integer(integer, plain);
                let digits = value.len() as u32 - u32::from(value[0] == b'-');
                if self.alive & point != 0 {
                    note(&mut self.digits[0], digits, 0);
                    left |= point;
                }
                if self.alive & (point << 1) != 0 {
                    note(&mut self.digits[1], digits, 0);
                    left |= point << 1;
                }
                rest &= !(plain | point | point << 1 | sets.never_plain);
            } else if self.alive & (sets.integers | sets.epochs) == 0
                && self.alive & point != 0
                && value.len() <= 15
                && let Some(Measure { whole, scale }) = measure(value, b'.', None)
            {
                // Fifteen digits always survive in a double.
                note(&mut self.digits[0], whole, scale);
                left |= self.alive & (sets.float | point);
                rest &= !(sets.float | point);
            }
        }
        for number in numbers(rest) {
            if self.fits(number, value) {
                left |= 1 << number;
            }
        }
        left
    }

    /// An integer of at most eighteen characters among widths, epochs and floats.
    #[inline]
    fn integer(&mut self, integer: i64, plain: Set) -> Set {
        let integer = i128::from(integer);
        self.integers.0 = self.integers.0.min(integer);
        self.integers.1 = self.integers.1.max(integer);
        let safe = integer.unsigned_abs() < 10_u128.pow(15);
        if safe && self.inner.0 <= integer && integer <= self.inner.1 {
            return plain;
        }
        let mut left = 0;
        for number in numbers(plain) {
            let fits = match all()[number].family {
                Family::Int(low, high) | Family::Epoch(low, high) => {
                    low <= integer && integer <= high
                }
                _ => {
                    safe || all()[number]
                        .format
                        .read(integer.to_string().as_bytes())
                        .is_some()
                }
            };
            if fits {
                left |= 1 << number;
            }
        }
        left
    }

    /// What no integer can rule out any more: within every range that is alive.
    fn set_inner(&mut self) {
        let mut inner = (i128::MIN, i128::MAX);
        for number in numbers(self.alive) {
            if let Family::Int(low, high) | Family::Epoch(low, high) = all()[number].family {
                inner = (inner.0.max(low), inner.1.min(high));
            }
        }
        self.inner = inner;
    }

    /// Whether a value can be one of a candidate; its facts are noted when it can.
    fn fits(&mut self, number: usize, value: &[u8]) -> bool {
        let candidate = &all()[number];
        let format = &candidate.format;
        match candidate.family {
            Family::Int(low, high) => {
                let Some(integer) = wide_integer(value) else {
                    return false;
                };
                self.integers.0 = self.integers.0.min(integer);
                self.integers.1 = self.integers.1.max(integer);
                low <= integer && integer <= high
            }
            Family::Epoch(low, high) => {
                let whole = value.split(|byte| *byte == b'.').next().unwrap_or(value);
                let plausible =
                    wide_integer(whole).is_some_and(|count| low <= count && count <= high);
                plausible && self.moment(number, value, Zoned::Always)
            }
            Family::Hex => matches!(value, [b'0', b'x' | b'X', ..]) && format.read(value).is_some(),
            Family::Grouped(mark) => {
                measure(value, 0, Some(mark)).is_some_and(|measure| measure.scale == 0)
            }
            Family::Decimal { point, group } => match measure(value, point, group) {
                Some(Measure { whole, scale }) => {
                    let place = number - sets().first_decimal;
                    note(&mut self.digits[place], whole, scale);
                    true
                }
                None => false,
            },
            Family::DateNumber => {
                value.len() == 8
                    && (b"1900".as_slice()..=b"2100").contains(&&value[..4])
                    && format.read(value).is_some()
            }
            Family::Moment(zoned) => self.moment(number, value, zoned),
            Family::Meaning if candidate.name == "json" => {
                matches!(value[0], b'{' | b'[') && format.read(value).is_some()
            }
            Family::Bool
            | Family::Float(_)
            | Family::Date
            | Family::Time
            | Family::Meaning
            | Family::Text => format.read(value).is_some(),
        }
    }

    fn moment(&mut self, number: usize, value: &[u8], zoned: Zoned) -> bool {
        let Some(moment) = all()[number].format.moment(value) else {
            return false;
        };
        let fits = match zoned {
            Zoned::Always => moment.offset.is_some(),
            Zoned::Never => moment.offset.is_none(),
            Zoned::Mixed => true,
        };
        if fits {
            let is_fine = moment.digits > MICRO_DIGITS;
            let is_beyond = !(-NANO_SECONDS..=NANO_SECONDS).contains(&moment.seconds);
            self.below_micro |= Set::from(is_fine) << number;
            self.beyond_nano |= Set::from(is_beyond) << number;
        }
        fits
    }

    /// Count rows on from `rows`: this state is of a later part of the same file.
    pub(super) fn shift(&mut self, rows: u64) {
        for seen in &mut self.words {
            seen.first.row += rows;
        }
        for witness in &mut self.witnesses {
            witness.place.row += rows;
        }
        for (place, _) in &mut self.examples {
            place.row += rows;
        }
    }

    /// Make this the state of both.
    pub(super) fn join(&mut self, other: Self) {
        self.cells += other.cells;
        for (mine, theirs) in self.words.iter_mut().zip(other.words) {
            mine.join(theirs);
        }
        self.alive &= other.alive;
        self.witnesses = join(std::mem::take(&mut self.witnesses), other.witnesses);
        self.length = (
            self.length.0.min(other.length.0),
            self.length.1.max(other.length.1),
        );
        self.integers = (
            self.integers.0.min(other.integers.0),
            self.integers.1.max(other.integers.1),
        );
        for (mine, theirs) in self.digits.iter_mut().zip(other.digits) {
            mine.whole = mine.whole.max(theirs.whole);
            mine.scale_min = mine.scale_min.min(theirs.scale_min);
            mine.scale_max = mine.scale_max.max(theirs.scale_max);
        }
        self.below_micro |= other.below_micro;
        self.beyond_nano |= other.beyond_nano;
        self.distinct.join(other.distinct);
        self.examples.extend(other.examples);
        // No row is in both: values of one row, the items of a list, keep their order.
        self.examples.sort_by_key(|(place, _)| *place);
        let mut kept: Vec<(Place, Box<[u8]>)> = Vec::with_capacity(EXAMPLES);
        for (place, value) in std::mem::take(&mut self.examples) {
            if kept.len() < EXAMPLES && kept.iter().all(|(_, other)| *other != value) {
                kept.push((place, value));
            }
        }
        self.examples = kept;
        self.set_inner();
    }
}

#[inline]
fn note(digits: &mut Digits, whole: u32, scale: u32) {
    digits.whole = digits.whole.max(whole);
    digits.scale_min = digits.scale_min.min(scale);
    digits.scale_max = digits.scale_max.max(scale);
}

#[inline]
fn is_plain_start(byte: u8) -> bool {
    byte.is_ascii_digit() || byte == b'-'
}

#[inline]
fn null_word(value: &[u8]) -> Option<usize> {
    match value.first() {
        None => Some(0),
        Some(b'0'..=b'9') => None,
        Some(_) => NULL_WORDS.iter().position(|word| word.as_bytes() == value),
    }
}

/// An integer as `decimal` reads it, of at most eighteen characters.
#[inline]
fn small_integer(value: &[u8]) -> Option<i64> {
    let (minus, digits) = match value {
        [b'-', digits @ ..] => (true, digits),
        _ => (false, value),
    };
    if digits.is_empty() || (digits[0] == b'0' && value.len() > 1) {
        return None;
    }
    let mut number = 0_i64;
    for byte in digits {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        number = number * 10 + i64::from(digit);
    }
    Some(if minus { -number } else { number })
}

/// The same of up to 38 digits.
fn wide_integer(value: &[u8]) -> Option<i128> {
    let (minus, digits) = match value {
        [b'-', digits @ ..] => (true, digits),
        _ => (false, value),
    };
    let plain = (1..=38).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit);
    if !plain || (digits[0] == b'0' && value.len() > 1) {
        return None;
    }
    let number = digits.iter().fold(0_i128, |number, digit| {
        number * 10 + i128::from(digit - b'0')
    });
    Some(if minus { -number } else { number })
}
