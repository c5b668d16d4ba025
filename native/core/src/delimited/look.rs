//! Find the end of a record and its cells among the marks of a text: quotes, escapes, delimiters and line ends.

use super::layout::Escape;
use super::record::{Cell, Fault, Kind};
use super::scan::Marks;

/// What tells records and cells apart.
#[derive(Debug)]
pub(super) struct Rules {
    pub(super) delimiter: Box<[u8]>,
    pub(super) quote: Option<u8>,
    pub(super) escape: Escape,
    pub(super) comment: Option<Box<[u8]>>,
    pub(super) marks: Marks,
    pub(super) quoted_max: usize,
    pub(super) record_max: usize,
}

/// What was seen of a unit: it ends where its end was found, or with a line still to be found.
pub(super) enum Seen {
    /// Cells are known; it ends there.
    Whole { end: usize },
    /// Its end is known, and its cells cannot be.
    Faulty { fault: Fault, end: usize },
    /// It ends with the line that is in work at `from`.
    Line { kind: Kind, from: usize },
    /// More text is needed to tell.
    More,
}

impl Seen {
    fn unbalanced(open: usize) -> Self {
        Self::Line {
            kind: Kind::Faulty(Fault::Unbalanced),
            from: open + 1,
        }
    }
}

/// A look at one record, of which nothing is taken yet.
pub(super) struct Look<'a> {
    pub(super) text: &'a [u8],
    /// Whether no text follows.
    pub(super) last: bool,
    pub(super) marks: &'a [u32],
    /// The next mark to look at.
    pub(super) at: usize,
    pub(super) start: usize,
    pub(super) rules: &'a Rules,
    pub(super) cells: &'a mut Vec<Cell>,
}

/// How a quoted part went.
enum Quoted {
    /// The closing quote stands there.
    Closed {
        at: usize,
        escaped: bool,
    },
    Ended(Seen),
}

impl Look<'_> {
    /// Find the end of the record, and its cells.
    pub(super) fn record(&mut self) -> Seen {
        let mut fault = None;
        let mut cell = self.start;
        loop {
            let mut inside = Cell {
                start: 0,
                end: 0,
                quoted: false,
                escaped: false,
            };
            let opens =
                self.rules.quote.is_some() && self.text.get(cell) == self.rules.quote.as_ref();
            if opens {
                match self.quoted(cell) {
                    Quoted::Ended(seen) => return seen,
                    Quoted::Closed { at, escaped } => {
                        inside = Cell {
                            start: (cell + 1 - self.start) as u32,
                            end: (at - self.start) as u32,
                            quoted: true,
                            escaped,
                        };
                    }
                }
            }
            // Behind a closing quote there should be nothing.
            let from = if opens {
                inside.end as usize + self.start + 1
            } else {
                cell
            };
            let (content_end, next) = match self.bare(from, &mut inside.escaped) {
                Ok(found) => found,
                Err(seen) => return seen,
            };
            if !opens {
                inside.start = (cell - self.start) as u32;
                inside.end = (content_end - self.start) as u32;
            } else if content_end != from {
                fault = Some(Fault::BehindQuote);
            }
            self.cells.push(inside);
            match next {
                Next::Cell { start } => cell = start,
                Next::End { end } => {
                    return match fault {
                        None => Seen::Whole { end },
                        Some(fault) => Seen::Faulty { fault, end },
                    };
                }
            }
        }
    }

    /// Find the quote that closes the one at `open`.
    fn quoted(&mut self, open: usize) -> Quoted {
        let quote_limit = open + self.rules.quoted_max;
        let record_limit = self.start + self.rules.record_max - 1;
        let limit = quote_limit.min(record_limit);
        let given_up = || {
            Quoted::Ended(if quote_limit <= record_limit {
                Seen::unbalanced(open)
            } else {
                Seen::Line {
                    kind: Kind::Faulty(Fault::TooLong),
                    from: record_limit + 1,
                }
            })
        };
        let mut escaped = false;
        self.at += 1; // the opening quote
        loop {
            let Some(&place) = self.marks.get(self.at) else {
                return if self.text.len() > limit {
                    given_up()
                } else if self.last {
                    Quoted::Ended(Seen::unbalanced(open))
                } else {
                    Quoted::Ended(Seen::More)
                };
            };
            let place = place as usize;
            if place > limit {
                return given_up();
            }
            self.at += 1;
            let byte = self.text[place];
            let is_escape = match self.rules.escape {
                Escape::Byte(sign) => byte == sign,
                Escape::Doubled => Some(byte) == self.rules.quote,
                Escape::None => false,
            };
            if is_escape && place + 1 == self.text.len() && !self.last {
                return Quoted::Ended(Seen::More);
            }
            let escapes = match self.rules.escape {
                Escape::Doubled => self.text.get(place + 1) == self.rules.quote.as_ref(),
                _ => true,
            };
            if is_escape && escapes {
                escaped = true;
                self.pass(place + 2);
            } else if Some(byte) == self.rules.quote {
                return Quoted::Closed { at: place, escaped };
            }
        }
    }

    /// Find where the cell ends that goes on at `from`, outside of quotes: the end of what it holds, and what follows.
    fn bare(&mut self, from: usize, escaped: &mut bool) -> Result<(usize, Next), Seen> {
        self.pass(from);
        let record_limit = self.start + self.rules.record_max;
        let too_long = Seen::Line {
            kind: Kind::Faulty(Fault::TooLong),
            from: record_limit,
        };
        loop {
            let Some(&place) = self.marks.get(self.at) else {
                let end = self.text.len();
                return if end >= record_limit {
                    Err(too_long)
                } else if self.last {
                    Ok((end, Next::End { end }))
                } else {
                    Err(Seen::More)
                };
            };
            let place = place as usize;
            if place >= record_limit {
                return Err(too_long);
            }
            self.at += 1;
            let rest = &self.text[place..];
            match rest[0] {
                b'\n' => return Ok((place, Next::End { end: place + 1 })),
                b'\r' => {
                    return match rest.get(1) {
                        Some(b'\n') => Ok((place, Next::End { end: place + 2 })),
                        None if !self.last => Err(Seen::More),
                        _ => Ok((place, Next::End { end: place + 1 })),
                    };
                }
                byte if Escape::Byte(byte) == self.rules.escape => {
                    if rest.len() == 1 && !self.last {
                        return Err(Seen::More);
                    }
                    *escaped = true;
                    self.pass(place + 2);
                }
                byte if byte == self.rules.delimiter[0] => {
                    let delimiter = &*self.rules.delimiter;
                    if rest.starts_with(delimiter) {
                        let start = place + delimiter.len();
                        self.pass(start);
                        return Ok((place, Next::Cell { start }));
                    }
                    if delimiter.starts_with(rest) && !self.last {
                        return Err(Seen::More);
                    }
                }
                _ => {} // a quote in the middle of a cell
            }
        }
    }

    /// Leave out the marks before `place`.
    fn pass(&mut self, place: usize) {
        while self
            .marks
            .get(self.at)
            .is_some_and(|mark| (*mark as usize) < place)
        {
            self.at += 1;
        }
    }
}

/// What follows a cell.
enum Next {
    Cell { start: usize },
    End { end: usize },
}
