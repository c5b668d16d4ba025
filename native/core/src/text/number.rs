//! Integers, decimals and floats. Digits are never dropped: what a type cannot hold does not fit.

use super::{FormatError, Value};

/// How digits are written, of every numeric type.
#[derive(Debug, Clone, Copy, Default)]
struct Style {
    hex: bool,
    comma: bool,
    zeros: bool,
    plus: bool,
    group: Option<u8>,
}

impl Style {
    fn parse(format: Option<&str>, first: &[&str]) -> Result<Self, FormatError> {
        let mut style = Self::default();
        let format = format.unwrap_or(first[0]);
        let refused = || {
            FormatError(format!(
                "`{format}` is no format of numbers: `{}`, then any of `zeros`, `plus`, `group C`",
                first.join("` or `")
            ))
        };
        let mut words = format.split(' ');
        match words.next() {
            Some(word) if !first.contains(&word) => return Err(refused()),
            Some("hex") => style.hex = true,
            Some("comma") => style.comma = true,
            _ => {}
        }
        let mut group = None;
        while let Some(word) = words.next() {
            match word {
                "zeros" if !style.zeros => style.zeros = true,
                "plus" if !style.plus => style.plus = true,
                "group" if group.is_none() => group = Some(words.next().ok_or_else(refused)?),
                _ => return Err(refused()),
            }
        }
        if let Some(group) = group {
            style.group = match group.as_bytes() {
                b"space" => Some(b' '),
                &[mark]
                    if mark.is_ascii_punctuation()
                        && !matches!(mark, b'+' | b'-')
                        && mark != style.point() =>
                {
                    Some(mark)
                }
                _ => return Err(refused()),
            };
        }
        if style.hex && (style.zeros || style.plus || style.group.is_some()) {
            return Err(refused());
        }
        Ok(style)
    }

    fn point(self) -> u8 {
        if self.comma { b',' } else { b'.' }
    }

    /// Whether there is a minus, and the text behind the sign; none when a sign is not allowed.
    #[inline]
    fn signed(self, text: &[u8]) -> Option<(bool, &[u8])> {
        match text.first()? {
            b'-' => Some((true, &text[1..])),
            b'+' if self.plus => Some((false, &text[1..])),
            b'+' => None,
            _ => Some((false, text)),
        }
    }

    /// Digits in front of the point, each given to `each`; none when they are not written as the style says.
    #[inline]
    fn whole(self, text: &[u8], mut each: impl FnMut(u8) -> Option<()>) -> Option<()> {
        if text.len() > 1 && text[0] == b'0' && !self.zeros {
            return None;
        }
        let grouped = self.group.filter(|mark| text.contains(mark));
        match grouped {
            None => {
                for &byte in text {
                    each(digit(byte)?)?;
                }
            }
            Some(mark) => {
                for (place, part) in text.split(|byte| *byte == mark).enumerate() {
                    let fits = if place == 0 {
                        (1..=3).contains(&part.len())
                    } else {
                        part.len() == 3
                    };
                    if !fits {
                        return None;
                    }
                    for &byte in part {
                        each(digit(byte)?)?;
                    }
                }
            }
        }
        Some(())
    }
}

#[inline]
fn digit(byte: u8) -> Option<u8> {
    let digit = byte.wrapping_sub(b'0');
    (digit < 10).then_some(digit)
}

/// Integers of one width.
#[derive(Debug, Clone, Copy)]
pub(super) struct Integers {
    style: Style,
    signed: bool,
    bits: u8,
}

impl Integers {
    pub(super) fn new(bits: u8, signed: bool, format: Option<&str>) -> Result<Self, FormatError> {
        let style = Style::parse(format, &["decimal", "hex"])?;
        Ok(Self {
            style,
            signed,
            bits,
        })
    }

    pub(super) fn is_hex(&self) -> bool {
        self.style.hex
    }

    #[inline]
    pub(super) fn read<'a>(&self, text: &[u8]) -> Option<Value<'a>> {
        let (minus, magnitude) = if self.style.hex {
            (false, hex(text)?)
        } else {
            let (minus, text) = self.style.signed(text)?;
            (minus, self.magnitude(text)?)
        };
        if minus {
            // "-0" would lose its sign.
            if !self.signed || magnitude == 0 || magnitude > 1 << (self.bits - 1) {
                return None;
            }
            return Some(Value::Int((magnitude as i64).wrapping_neg()));
        }
        if self.signed {
            (magnitude < 1 << (self.bits - 1)).then_some(Value::Int(magnitude as i64))
        } else {
            (self.bits == 64 || magnitude < 1 << self.bits).then_some(Value::UInt(magnitude))
        }
    }

    #[inline]
    fn magnitude(&self, text: &[u8]) -> Option<u64> {
        if text.is_empty() {
            return None;
        }
        let mut value = 0_u64;
        if text.len() <= 19 {
            // Nineteen digits cannot overflow.
            self.style.whole(text, |digit| {
                value = value * 10 + u64::from(digit);
                Some(())
            })?;
        } else {
            self.style.whole(text, |digit| {
                value = value.checked_mul(10)?.checked_add(u64::from(digit))?;
                Some(())
            })?;
        }
        Some(value)
    }
}

/// Hexadecimal digits, with or without `0x`.
fn hex(text: &[u8]) -> Option<u64> {
    let digits = match text {
        [b'0', b'x' | b'X', rest @ ..] => rest,
        _ => text,
    };
    if digits.is_empty() {
        return None;
    }
    let mut value = 0_u64;
    for &byte in digits {
        let digit = char::from(byte).to_digit(16)?;
        if value >> 60 != 0 {
            return None;
        }
        value = value << 4 | u64::from(digit);
    }
    Some(value)
}

/// Decimals of one precision and scale.
#[derive(Debug, Clone, Copy)]
pub(super) struct Decimals {
    style: Style,
    scale: usize,
    whole_max: usize,
}

impl Decimals {
    pub(super) fn new(precision: u8, scale: u8, format: Option<&str>) -> Result<Self, FormatError> {
        Ok(Self {
            style: Style::parse(format, &["point", "comma"])?,
            scale: scale.into(),
            whole_max: (precision - scale).into(),
        })
    }

    #[inline]
    pub(super) fn read(&self, text: &[u8]) -> Option<i128> {
        let (minus, text) = self.style.signed(text)?;
        let point = self.style.point();
        let (whole, fraction) = match memchr::memchr(point, text) {
            None => (text, &text[text.len()..]),
            Some(place) if place + 1 < text.len() => (&text[..place], &text[place + 1..]),
            Some(_) => return None, // a point with nothing behind it
        };
        if (whole.is_empty() && fraction.is_empty()) || fraction.len() > self.scale {
            return None;
        }
        // Thirty-eight digits fit into 127 bits.
        let mut value = 0_i128;
        let mut digits = 0;
        self.style.whole(whole, |digit| {
            if digits > 0 || digit > 0 {
                digits += 1;
            }
            value = value.checked_mul(10)?.checked_add(i128::from(digit))?;
            Some(())
        })?;
        if digits > self.whole_max {
            return None;
        }
        for &byte in fraction {
            value = value * 10 + i128::from(digit(byte)?);
        }
        for _ in fraction.len()..self.scale {
            value *= 10;
        }
        match (minus, value) {
            (true, 0) => None, // it would lose its sign
            (true, _) => Some(-value),
            _ => Some(value),
        }
    }
}

/// Binary floating point numbers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Floats {
    style: Style,
    single: bool,
}

/// Digits that always survive a trip through the type and back.
const DOUBLE_DIGITS: usize = 15;
const SINGLE_DIGITS: usize = 6;
/// Decimal exponents within which numbers of so many digits are far from the ends of the type.
const DOUBLE_EXPONENT: i32 = 290;
const SINGLE_EXPONENT: i32 = 30;
/// Longer numbers are text: no type here holds them.
const TEXT_MAX: usize = 400;

impl Floats {
    pub(super) fn new(single: bool, format: Option<&str>) -> Result<Self, FormatError> {
        let style = Style::parse(format, &["point", "comma"])?;
        Ok(Self { style, single })
    }

    #[inline]
    pub(super) fn read(&self, text: &[u8]) -> Option<f64> {
        if text.len() > TEXT_MAX {
            return None;
        }
        let (minus, rest) = self.style.signed(text)?;
        match rest.first()? {
            b'0'..=b'9' => {}
            byte if *byte == self.style.point() => {}
            _ => return self.word(minus, rest),
        }
        self.number(minus, rest)
    }

    /// `inf`, `infinity`, `nan`: only as words, never as what a number became.
    fn word(&self, minus: bool, text: &[u8]) -> Option<f64> {
        if text.eq_ignore_ascii_case(b"inf") || text.eq_ignore_ascii_case(b"infinity") {
            return Some(if minus {
                f64::NEG_INFINITY
            } else {
                f64::INFINITY
            });
        }
        (!minus && text.eq_ignore_ascii_case(b"nan")).then_some(f64::NAN)
    }

    fn number(&self, minus: bool, text: &[u8]) -> Option<f64> {
        let (mantissa, exponent) = match memchr::memchr2(b'e', b'E', text) {
            Some(place) => (&text[..place], exponent(&text[place + 1..])?),
            None => (text, 0),
        };
        let (whole, fraction) = match memchr::memchr(self.style.point(), mantissa) {
            None => (mantissa, &mantissa[mantissa.len()..]),
            Some(place) if place + 1 < mantissa.len() => {
                (&mantissa[..place], &mantissa[place + 1..])
            }
            Some(_) => return None,
        };
        let mut digits = Digits::default();
        self.style.whole(whole, |digit| {
            digits.push(digit);
            Some(())
        })?;
        for &byte in fraction {
            digits.push(digit(byte)?);
        }
        let exponent = exponent.checked_sub(fraction.len() as i32)?;
        let value = digits.value(exponent, self.single)?;
        Some(if minus { -value } else { value })
    }
}

/// The number behind `e`, with its sign.
fn exponent(text: &[u8]) -> Option<i32> {
    let (minus, digits) = match text.first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    if digits.is_empty() || digits.len() > 4 {
        return None;
    }
    let mut value = 0;
    for &byte in digits {
        value = value * 10 + i32::from(digit(byte)?);
    }
    Some(if minus { -value } else { value })
}

/// Digits of a number without leading zeros.
struct Digits {
    text: [u8; TEXT_MAX],
    length: usize,
    small: u64, // the same as a number, up to nineteen digits
}

impl Default for Digits {
    fn default() -> Self {
        Self {
            text: [0; TEXT_MAX],
            length: 0,
            small: 0,
        }
    }
}

/// Powers of ten that a double holds exactly.
const POWERS: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16,
    1e17, 1e18, 1e19, 1e20, 1e21, 1e22,
];

impl Digits {
    #[inline]
    fn push(&mut self, digit: u8) {
        if self.length > 0 || digit > 0 {
            self.text[self.length] = digit + b'0'; // as many as the text has bytes at most
            self.length += 1;
            if self.length <= 19 {
                self.small = self.small * 10 + u64::from(digit);
            }
        }
    }

    /// The number, when the type keeps every digit of it.
    fn value(&self, exponent: i32, single: bool) -> Option<f64> {
        if self.length == 0 {
            return Some(0.0);
        }
        if !single && self.length <= DOUBLE_DIGITS && exponent.abs() <= 22 {
            // Both operands are exact, so the one operation rounds correctly (Clinger 1990).
            let power = POWERS[exponent.unsigned_abs() as usize];
            let digits = self.small as f64;
            return Some(if exponent < 0 {
                digits / power
            } else {
                digits * power
            });
        }
        let zeros = self.text[..self.length]
            .iter()
            .rev()
            .take_while(|byte| **byte == b'0')
            .count();
        let significant = std::str::from_utf8(&self.text[..self.length - zeros]).ok()?;
        let exponent = exponent.checked_add(i32::try_from(zeros).ok()?)?;
        let first = exponent.checked_add(i32::try_from(significant.len()).ok()?)?; // of the first digit, plus one
        let text = format!("{significant}e{exponent}");
        let (value, safe) = if single {
            let value: f32 = text.parse().ok()?;
            let safe = significant.len() <= SINGLE_DIGITS && first.abs() <= SINGLE_EXPONENT;
            (f64::from(value), safe)
        } else {
            let value: f64 = text.parse().ok()?;
            let safe = significant.len() <= DOUBLE_DIGITS && first.abs() <= DOUBLE_EXPONENT;
            (value, safe)
        };
        if safe {
            return Some(value);
        }
        if !value.is_finite() || value == 0.0 {
            return None;
        }
        // Written back, with as many digits or with as few as name it, the number must be the same.
        let places = significant.len() - 1;
        let same = |back: String| {
            back.split_once('e').is_some_and(|(mantissa, power)| {
                let digits = mantissa.bytes().filter(|byte| *byte != b'.');
                digits.eq(significant.bytes()) && power.parse() == Ok(first - 1)
            })
        };
        let shortest = if single {
            format!("{:e}", value as f32) // it came from one
        } else {
            format!("{value:e}")
        };
        (same(shortest) || same(format!("{value:.places$e}"))).then_some(value)
    }
}
