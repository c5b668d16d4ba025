//! What a text means beyond being text. The value stays as it was written.

use super::FormatError;
use super::json::is_json;
use super::moment::iso_clock;

/// Meaning of the texts of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Meaning {
    /// Any text.
    Any,
    /// Four numbers 0 to 255 without leading zeros.
    Ipv4,
    /// RFC 4291 §2.2, without a zone.
    Ipv6,
    /// Either of the two.
    Ip,
    /// An address, `/` and the length of its prefix.
    Cidr,
    /// RFC 9562 §4, in braces or not.
    Uuid,
    /// Six octets parted by `:` or `-`, or three groups parted by `.`.
    Mac,
    /// Security identifier, [MS-DTYP] 2.4.2.1.
    Sid,
    /// 32 hexadecimal digits.
    Md5,
    /// 40.
    Sha1,
    /// 64.
    Sha256,
    /// 128.
    Sha512,
    /// Bytes in hexadecimal digits, two each; `0x` may stand before them.
    Hex,
    /// A time of day: `HH:MM[:SS[.f]]`; up to nine digits behind the second, which no type of times keeps.
    Time,
    /// A value in JSON.
    Json,
}

const NAMES: [(&str, Meaning); 14] = [
    ("ipv4", Meaning::Ipv4),
    ("ipv6", Meaning::Ipv6),
    ("ip", Meaning::Ip),
    ("cidr", Meaning::Cidr),
    ("uuid", Meaning::Uuid),
    ("mac", Meaning::Mac),
    ("sid", Meaning::Sid),
    ("md5", Meaning::Md5),
    ("sha1", Meaning::Sha1),
    ("sha256", Meaning::Sha256),
    ("sha512", Meaning::Sha512),
    ("hex", Meaning::Hex),
    ("time", Meaning::Time),
    ("json", Meaning::Json),
];

impl Meaning {
    pub(super) fn parse(name: Option<&str>) -> Result<Self, FormatError> {
        let Some(name) = name else {
            return Ok(Self::Any);
        };
        NAMES
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, meaning)| *meaning)
            .ok_or_else(|| FormatError(format!("`{name}` is no meaning of text")))
    }

    /// As contracts write it; none for any text.
    pub fn name(self) -> Option<&'static str> {
        NAMES
            .iter()
            .find(|(_, meaning)| *meaning == self)
            .map(|(name, _)| *name)
    }

    #[inline]
    pub(super) fn read(self, text: &[u8]) -> Option<&str> {
        let fits = match self {
            Self::Any => true,
            Self::Ipv4 => ipv4(text),
            Self::Ipv6 => ipv6(text),
            Self::Ip => ipv4(text) || ipv6(text),
            Self::Cidr => cidr(text),
            Self::Uuid => uuid(text),
            Self::Mac => mac(text),
            Self::Sid => sid(text),
            Self::Md5 => hex_of(text, 32),
            Self::Sha1 => hex_of(text, 40),
            Self::Sha256 => hex_of(text, 64),
            Self::Sha512 => hex_of(text, 128),
            Self::Hex => hex(text),
            Self::Time => time(text),
            Self::Json => is_json(text),
        };
        if fits {
            std::str::from_utf8(text).ok()
        } else {
            None
        }
    }
}

fn ipv4(text: &[u8]) -> bool {
    let mut octets = 0;
    (7..=15).contains(&text.len())
        && text.split(|byte| *byte == b'.').all(|octet| {
            octets += 1;
            number_up_to(octet, 255)
        })
        && octets == 4
}

/// Decimal digits without leading zeros.
fn number_up_to(text: &[u8], limit: u32) -> bool {
    if text.is_empty() || text.len() > 3 || (text.len() > 1 && text[0] == b'0') {
        return false;
    }
    let mut value = 0;
    for byte in text {
        if !byte.is_ascii_digit() {
            return false;
        }
        value = value * 10 + u32::from(byte - b'0');
    }
    value <= limit
}

fn ipv6(text: &[u8]) -> bool {
    (2..=45).contains(&text.len())
        && text.contains(&b':')
        && std::str::from_utf8(text).is_ok_and(|text| text.parse::<std::net::Ipv6Addr>().is_ok())
}

fn cidr(text: &[u8]) -> bool {
    let Some(place) = memchr::memchr(b'/', text) else {
        return false;
    };
    let (address, length) = (&text[..place], &text[place + 1..]);
    (ipv4(address) && number_up_to(length, 32)) || (ipv6(address) && number_up_to(length, 128))
}

fn uuid(text: &[u8]) -> bool {
    let text = match text {
        [b'{', inner @ .., b'}'] => inner,
        _ => text,
    };
    text.len() == 36
        && text.iter().enumerate().all(|(place, byte)| {
            if matches!(place, 8 | 13 | 18 | 23) {
                *byte == b'-'
            } else {
                byte.is_ascii_hexdigit()
            }
        })
}

fn mac(text: &[u8]) -> bool {
    match text.len() {
        17 => {
            let mark = text[2];
            matches!(mark, b':' | b'-')
                && text.iter().enumerate().all(|(place, byte)| {
                    if place % 3 == 2 {
                        *byte == mark
                    } else {
                        byte.is_ascii_hexdigit()
                    }
                })
        }
        14 => text.iter().enumerate().all(|(place, byte)| {
            if place % 5 == 4 {
                *byte == b'.'
            } else {
                byte.is_ascii_hexdigit()
            }
        }),
        _ => false,
    }
}

fn sid(text: &[u8]) -> bool {
    let Some(rest) = text.strip_prefix(b"S-1-") else {
        return false;
    };
    let mut parts = 0;
    rest.split(|byte| *byte == b'-').all(|part| {
        parts += 1;
        let plain = !part.is_empty()
            && part.iter().all(u8::is_ascii_digit)
            && (part.len() == 1 || part[0] != b'0');
        let limit: u64 = if parts == 1 {
            (1 << 48) - 1
        } else {
            u64::from(u32::MAX)
        };
        plain
            && part.len() <= 15
            && part
                .iter()
                .fold(0, |value, digit| value * 10 + u64::from(digit - b'0'))
                <= limit
    }) && parts <= 16 // the authority, and 15 subauthorities at most
}

fn hex_of(text: &[u8], digits: usize) -> bool {
    text.len() == digits && text.iter().all(u8::is_ascii_hexdigit)
}

fn hex(text: &[u8]) -> bool {
    let digits = match text {
        [b'0', b'x' | b'X', rest @ ..] => rest,
        _ => text,
    };
    !digits.is_empty() && digits.len().is_multiple_of(2) && digits.iter().all(u8::is_ascii_hexdigit)
}

fn time(text: &[u8]) -> bool {
    iso_clock(text).is_some_and(|(_, rest)| rest.is_empty())
}
