//! Inference over JSON Lines: every value of every line, in parts of a file at once, and file after file.
//!
//! A file is always cut in parts of one size, at the ends of lines, whatever the number of threads; what a document holds is
//! gathered in a tree of keys, [`super::seen`].

use super::parts::read_in_order;
use super::report::Json;
use super::seen::{Room, Row, Seen};
use super::witness::Place;
use crate::error::CoreError;
use crate::jsonl::{Document, Kind, Lines};
use crate::source::ReadAt;

/// Parts that a big file is read in.
const PART_BYTES: u64 = 8 << 20;
/// More different keys, those within other objects counted with them, are refused.
const PLACES_MAX: usize = 16_384;

/// What is known of a table after some files.
#[derive(Debug, Default)]
pub struct JsonlInference {
    known: Part,
    files: u32,
    part_bytes: Option<u64>,
}

/// What is known of some lines.
#[derive(Debug, Default)]
struct Part {
    root: Seen,
    rows: u64,
    faults: u64,
    first_fault: Option<(Place, String)>,
}

impl JsonlInference {
    /// Cut files in parts of so many bytes: the answer is the same.
    #[must_use]
    pub fn in_parts_of(mut self, bytes: u64) -> Self {
        self.part_bytes = Some(bytes.max(1));
        self
    }

    /// Take a file into account; files are given in the order of their names. After an error nothing can be said any more.
    ///
    /// # Errors
    /// The first error of a read; more different keys than there can be.
    pub fn add<S: ReadAt + Sync>(&mut self, source: &S, threads: usize) -> Result<(), CoreError> {
        let file = self.files;
        self.files += 1;
        let (length, part_bytes) = (source.len(), self.part_bytes.unwrap_or(PART_BYTES));
        let parts = usize::try_from(length.div_ceil(part_bytes)).unwrap_or(usize::MAX);
        let (mut next, mut rows) = (0_u64, 0);
        let known = &mut self.known;
        read_in_order(
            threads.min(parts),
            || {
                let start = next;
                next = length.min(start.saturating_add(part_bytes));
                Ok((start < next).then_some((start, next)))
            },
            |(start, end)| Part::read(source, start, end, file),
            |mut part: Part| {
                part.shift(rows);
                rows += part.rows;
                known.join(part);
                if known.root.places() > PLACES_MAX {
                    return Err(too_many(length));
                }
                Ok(())
            },
        )
    }

    /// What was found, as one JSON document.
    pub fn report(&self) -> String {
        let Part {
            root,
            rows,
            faults,
            first_fault,
        } = &self.known;
        let mut json = Json::default();
        json.object(|json| {
            json.key("files").number(self.files);
            json.key("rows").number(rows);
            json.key("faults").number(faults);
            json.key("first_fault");
            match first_fault {
                Some((_, problem)) => json.string(problem),
                None => json.null(),
            }
            json.key("columns").array(|json| {
                root.columns(json, &mut Vec::new(), rows - faults);
            });
        });
        json.finish()
    }
}

impl Part {
    /// The lines that begin in a range of bytes; rows are counted from 0.
    fn read<S: ReadAt>(source: &S, start: u64, end: u64, file: u32) -> Result<Self, CoreError> {
        let mut part = Self::default();
        let mut lines = Lines::beginning_in(source, start..end)?;
        let mut document = Document::default();
        let mut room = Room::of(PLACES_MAX);
        while let Some(line) = lines.next()? {
            if line.is_blank() {
                continue;
            }
            let place = Place {
                file,
                row: part.rows,
                offset: line.offset,
            };
            part.rows += 1;
            let problem = match line.text {
                None => Some("the line is too long".to_owned()),
                Some(text) => match document.parse(text) {
                    Err(fault) => Some(fault.message.into_owned()),
                    Ok(()) if document.nodes()[0].kind == Kind::Object => {
                        let row = Row {
                            document: &document,
                            text,
                            place,
                        };
                        part.root.feed(&row, 0, 0, &mut room);
                        if room.is_short() {
                            return Err(too_many(place.offset));
                        }
                        None
                    }
                    Ok(()) => Some("the line holds no object".to_owned()),
                },
            };
            if let Some(problem) = problem {
                part.faults += 1;
                part.first_fault.get_or_insert((place, problem));
            }
        }
        Ok(part)
    }

    /// Count rows on from `rows`: this is a later part of the same file.
    fn shift(&mut self, rows: u64) {
        if rows == 0 {
            return;
        }
        self.root.shift(rows);
        if let Some((place, _)) = &mut self.first_fault {
            place.row += rows;
        }
    }

    /// Make this what is known of the lines of both.
    fn join(&mut self, other: Self) {
        self.root.join(other.root);
        self.rows += other.rows;
        self.faults += other.faults;
        self.first_fault = match (self.first_fault.take(), other.first_fault) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
    }
}

fn too_many(offset: u64) -> CoreError {
    CoreError::Limit {
        what: "different keys",
        limit: PLACES_MAX as u64,
        offset,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::source::SliceSource;

    /// Lines with few keys and few values, so that they meet again in other parts.
    fn lines() -> impl Strategy<Value = String> {
        let value = prop_oneof![
            4 => "-?[1-9]?[0-9](\\.[0-9]{1,2})?",
            4 => "\"(-|a|N/A|[0-9]{2}/0[0-9]/2024|10\\.0\\.0\\.[0-9]|\\\\u0061)\"",
            1 => "(null|true|\\{\\}|\\[\\]|\\[\\[1\\],2\\])",
            2 => "\\[(\"[a-d]\"|[0-9])(,\"[a-z]\"|,[0-9]|,null){0,4}\\]",
            2 => "\\{\"[x-z]\":(1|\"1\"|null)\\}",
        ];
        let member = ("[a-c]", value);
        let line = proptest::collection::btree_map(member.0, member.1, 0..4).prop_map(|members| {
            let members: Vec<_> = members
                .into_iter()
                .map(|(key, value)| format!("\"{key}\":{value}"))
                .collect();
            format!("{{{}}}", members.join(","))
        });
        let line = prop_oneof![9 => line, 1 => Just("[]".to_owned()), 1 => Just("{".to_owned()), 1 => Just(String::new())];
        proptest::collection::vec(line, 0..30).prop_map(|lines| lines.join("\n"))
    }

    fn report(known: Part) -> String {
        JsonlInference {
            known,
            files: 1,
            part_bytes: None,
        }
        .report()
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn parts_may_be_joined_in_any_order(
            text in lines(), part_bytes in 1..80_u64, picks in proptest::collection::vec(any::<(usize, usize)>(), 60),
        ) {
            let source = SliceSource(text.as_bytes());
            let length = source.len();
            let whole = report(Part::read(&source, 0, length, 0).unwrap());
            let (mut parts, mut rows) = (Vec::new(), 0);
            let mut start = 0;
            while start < length {
                let end = length.min(start + part_bytes);
                let mut part = Part::read(&source, start, end, 0).unwrap();
                part.shift(rows);
                rows += part.rows;
                parts.push(part);
                start = end;
            }
            let mut picks = picks.into_iter().cycle();
            while parts.len() > 1 {
                let (one, other) = picks.next().unwrap();
                let one = parts.swap_remove(one % parts.len());
                let other = other % parts.len();
                parts[other].join(one);
            }
            prop_assert_eq!(report(parts.pop().unwrap_or_default()), whole);
        }
    }

    #[test]
    fn keys_without_end_are_refused_within_little_memory() {
        // 512 keys an object are no map yet; so each of them with as many again is too much.
        let nested: Vec<_> = (0..500).map(|key| format!("\"k{key}\":1")).collect();
        let nested = nested.join(",");
        let text: String = (0..100)
            .map(|key| format!("{{\"o{key}\":{{{nested}}}}}\n"))
            .collect();
        let refused = |part_bytes| {
            let mut inference = JsonlInference::default().in_parts_of(part_bytes);
            let error = inference.add(&SliceSource(text.as_bytes()), 2).unwrap_err();
            assert!(matches!(error, CoreError::Limit { .. }), "{error}");
        };
        refused(1 << 30);
        refused(1 << 12);
    }
}
