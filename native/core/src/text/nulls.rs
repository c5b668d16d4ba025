//! Spellings of "no value".

/// Texts that mean null in one column, compared byte by byte. They are looked at before the format is.
#[derive(Debug, Clone, Default)]
pub struct Nulls {
    words: Vec<Box<[u8]>>,
    empty: bool,
    length_max: usize,
}

impl Nulls {
    /// Of a contract's `null` list.
    pub fn new<T: AsRef<[u8]>>(words: impl IntoIterator<Item = T>) -> Self {
        let mut nulls = Self::default();
        for word in words {
            let word = word.as_ref();
            if word.is_empty() {
                nulls.empty = true;
            } else {
                nulls.length_max = nulls.length_max.max(word.len());
                nulls.words.push(word.into());
            }
        }
        nulls
    }

    /// Whether the text means null.
    #[inline]
    pub fn holds(&self, text: &[u8]) -> bool {
        if text.is_empty() {
            return self.empty;
        }
        text.len() <= self.length_max && self.words.iter().any(|word| **word == *text)
    }
}
