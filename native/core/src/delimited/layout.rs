//! How a delimited text is laid out, as its contract says.

use super::{Encoding, QUOTED_BYTES_MAX, RECORD_BYTES_MAX};

/// How a quote, or another special character, is written as content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Escape {
    /// Not at all: the next quote closes.
    None,
    /// Twice.
    Doubled,
    /// This byte makes the one behind it content, within quotes and outside of them.
    Byte(u8),
}

/// Delimiter, quotes and all else that says where cells begin and end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// What stands between two cells: one character or several.
    pub delimiter: String,
    /// The quote, an ASCII character; none when quotes mean nothing.
    pub quote: Option<u8>,
    /// How a quote is written within quotes.
    pub escape: Escape,
    /// Whether the first record names the cells.
    pub header: bool,
    /// Lines at the beginning that are no records.
    pub skip_lines: u64,
    /// What a line begins with that is a comment.
    pub comment: Option<String>,
    /// How characters are written.
    pub encoding: Encoding,
    /// See [`QUOTED_BYTES_MAX`].
    pub quoted_bytes_max: usize,
    /// See [`RECORD_BYTES_MAX`].
    pub record_bytes_max: usize,
}

impl Default for Layout {
    fn default() -> Self {
        Self {
            delimiter: ",".to_owned(),
            quote: Some(b'"'),
            escape: Escape::Doubled,
            header: true,
            skip_lines: 0,
            comment: None,
            encoding: Encoding::Utf8,
            quoted_bytes_max: QUOTED_BYTES_MAX,
            record_bytes_max: RECORD_BYTES_MAX,
        }
    }
}

/// Why a layout cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct LayoutError(pub String);

const WORD_BYTES_MAX: usize = 16;

impl Layout {
    /// Refuse a layout in which one character would have two meanings.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub fn check(&self) -> Result<(), LayoutError> {
        let refuse = |text: &str| Err(LayoutError(text.to_owned()));
        let delimiter = self.delimiter.as_bytes();
        if delimiter.is_empty() || delimiter.len() > WORD_BYTES_MAX {
            return refuse("the delimiter has 1 to 16 bytes");
        }
        let is_end = |byte: &u8| matches!(byte, b'\n' | b'\r');
        if delimiter.iter().any(is_end) {
            return refuse("the delimiter holds an end of line");
        }
        if let Some(quote) = self.quote {
            if !quote.is_ascii() || is_end(&quote) || delimiter.contains(&quote) {
                return refuse("the quote is not an ASCII character other than the delimiter's");
            }
        } else if self.escape == Escape::Doubled {
            return refuse("without a quote there is none to double");
        }
        if let Escape::Byte(escape) = self.escape
            && (!escape.is_ascii()
                || is_end(&escape)
                || delimiter.contains(&escape)
                || self.quote == Some(escape))
        {
            return refuse("the escape is not an ASCII character other than delimiter and quote");
        }
        if let Some(comment) = &self.comment
            && (comment.is_empty()
                || comment.len() > WORD_BYTES_MAX
                || comment.bytes().any(|byte| is_end(&byte)))
        {
            return refuse("the comment prefix has 1 to 16 bytes and no end of line");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_character_with_two_meanings_is_refused() {
        let good = Layout::default();
        good.check().unwrap();
        let bad = [
            Layout {
                delimiter: String::new(),
                ..good.clone()
            },
            Layout {
                delimiter: "\n".to_owned(),
                ..good.clone()
            },
            Layout {
                delimiter: "\"".to_owned(),
                ..good.clone()
            },
            Layout {
                quote: Some(b'\r'),
                ..good.clone()
            },
            Layout {
                quote: None,
                ..good.clone()
            },
            Layout {
                escape: Escape::Byte(b','),
                ..good.clone()
            },
            Layout {
                escape: Escape::Byte(b'"'),
                ..good.clone()
            },
            Layout {
                comment: Some(String::new()),
                ..good.clone()
            },
        ];
        for layout in bad {
            assert!(layout.check().is_err(), "{layout:?}");
        }
    }
}
