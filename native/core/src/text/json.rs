//! Whether bytes are one value in JSON (RFC 8259), strictly, in bounded depth and without building it.

/// Nested arrays and objects at most.
const DEPTH_MAX: usize = 128;

/// Whether the text is one JSON value with nothing behind it but blanks. Escaped surrogates must come in pairs.
pub fn is_json(text: &[u8]) -> bool {
    let mut checker = Checker { text, place: 0 };
    checker.blanks();
    checker.value().is_some() && {
        checker.blanks();
        checker.place == text.len()
    }
}

struct Checker<'a> {
    text: &'a [u8],
    place: usize,
}

impl Checker<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.get(self.place).copied()
    }

    fn take(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.place += 1;
        Some(byte)
    }

    fn blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.place += 1;
        }
    }

    /// A value, without recursion: the stack says which kind of thing is open.
    fn value(&mut self) -> Option<()> {
        let mut open = [false; DEPTH_MAX]; // true for an object
        let mut depth = 0;
        loop {
            // Here a value begins.
            match self.peek()? {
                start @ (b'{' | b'[') => {
                    if depth == DEPTH_MAX {
                        return None;
                    }
                    self.place += 1;
                    self.blanks();
                    let object = start == b'{';
                    let end = if object { b'}' } else { b']' };
                    if self.peek()? == end {
                        self.place += 1;
                    } else {
                        open[depth] = object;
                        depth += 1;
                        if object {
                            self.key()?;
                        }
                        continue;
                    }
                }
                b'"' => self.string()?,
                b't' => self.word(b"true")?,
                b'f' => self.word(b"false")?,
                b'n' => self.word(b"null")?,
                _ => self.number()?,
            }
            // Here one has ended.
            loop {
                if depth == 0 {
                    return Some(());
                }
                self.blanks();
                match (self.take()?, open[depth - 1]) {
                    (b',', true) => {
                        self.blanks();
                        self.key()?;
                        break;
                    }
                    (b',', false) => {
                        self.blanks();
                        break;
                    }
                    (b'}', true) | (b']', false) => depth -= 1,
                    _ => return None,
                }
            }
        }
    }

    /// `"name" :` and the blanks behind it.
    fn key(&mut self) -> Option<()> {
        self.string()?;
        self.blanks();
        if self.take()? != b':' {
            return None;
        }
        self.blanks();
        Some(())
    }

    fn word(&mut self, word: &[u8]) -> Option<()> {
        if !self.text[self.place..].starts_with(word) {
            return None;
        }
        self.place += word.len();
        Some(())
    }

    fn digits(&mut self) -> Option<()> {
        let start = self.place;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.place += 1;
        }
        (self.place > start).then_some(())
    }

    fn number(&mut self) -> Option<()> {
        if self.peek() == Some(b'-') {
            self.place += 1;
        }
        if self.peek()? == b'0' {
            self.place += 1;
        } else {
            self.digits()?;
        }
        if self.peek() == Some(b'.') {
            self.place += 1;
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.place += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.place += 1;
            }
            self.digits()?;
        }
        Some(())
    }

    fn string(&mut self) -> Option<()> {
        if self.take()? != b'"' {
            return None;
        }
        let start = self.place;
        loop {
            match self.take()? {
                b'"' => break,
                b'\\' => self.escape()?,
                0..=0x1f => return None,
                _ => {}
            }
        }
        std::str::from_utf8(&self.text[start..self.place]).ok()?;
        Some(())
    }

    fn escape(&mut self) -> Option<()> {
        match self.take()? {
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => Some(()),
            b'u' => match self.code()? {
                0xd800..=0xdbff => {
                    if self.take()? != b'\\' || self.take()? != b'u' {
                        return None;
                    }
                    matches!(self.code()?, 0xdc00..=0xdfff).then_some(())
                }
                0xdc00..=0xdfff => None,
                _ => Some(()),
            },
            _ => None,
        }
    }

    fn code(&mut self) -> Option<u32> {
        let mut value = 0;
        for _ in 0..4 {
            value = value * 16 + char::from(self.take()?).to_digit(16)?;
        }
        Some(value)
    }
}
