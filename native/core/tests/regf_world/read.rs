//! What comes out of a decoder, as plain values; and a count of units that shares no code with it.

use std::collections::BTreeMap;

use arrow_array::RecordBatch;
use arrow_array::cast::AsArray;
use arrow_array::types::{UInt32Type, UInt64Type};
use casparian_core::flags::SLACK;
use casparian_core::regf::{HiveDecoder, HiveOptions, HiveOutput, LogRole};
use casparian_core::source::{ReadAt, SliceSource};

use super::BASE_BYTES;

/// Rows of every output.
#[derive(Debug, Default)]
pub struct Outcome {
    pub batches: Vec<(HiveOutput, RecordBatch)>,
}

/// A key or value row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    pub offset: u64,
    pub length: u64,
    pub flags: u32,
    pub path: String,
    pub name: Option<String>,
    pub state: String,
    pub problems: Vec<String>,
    pub from_log: Option<String>,
}

pub fn decode(hive: &[u8]) -> Outcome {
    decode_with(hive, vec![])
}

pub fn decode_with(hive: &[u8], logs: Vec<(LogRole, &[u8])>) -> Outcome {
    let logs = logs
        .into_iter()
        .map(|(role, bytes)| (role, SliceSource(bytes)))
        .collect();
    collect(SliceSource(hive), logs, HiveOptions::default())
}

pub fn collect<S: ReadAt>(hive: S, logs: Vec<(LogRole, S)>, options: HiveOptions) -> Outcome {
    let mut decoder = HiveDecoder::new(hive, logs, options).unwrap();
    let mut outcome = Outcome::default();
    while let Some((output, batch)) = decoder.next_batch().unwrap() {
        assert_eq!(batch.schema(), output.schema());
        assert!(batch.num_rows() > 0);
        outcome.batches.push((output, batch));
    }
    assert_eq!(outcome.of(HiveOutput::Hives).count(), 1);
    outcome
}

pub fn texts(batch: &RecordBatch, name: &str) -> Vec<Option<String>> {
    let column = batch.column_by_name(name).unwrap().as_string::<i32>();
    column.iter().map(|text| text.map(str::to_owned)).collect()
}

pub fn lists(batch: &RecordBatch, name: &str) -> Vec<Option<Vec<Option<String>>>> {
    let column = batch.column_by_name(name).unwrap().as_list::<i32>();
    let items = |list: arrow_array::ArrayRef| {
        let texts = list.as_string::<i32>().iter();
        texts.map(|text| text.map(str::to_owned)).collect()
    };
    column.iter().map(|list| list.map(items)).collect()
}

pub fn longs(batch: &RecordBatch, name: &str) -> Vec<Option<u64>> {
    let column = batch.column_by_name(name).unwrap();
    column.as_primitive::<UInt64Type>().iter().collect()
}

pub fn numbers(batch: &RecordBatch, name: &str) -> Vec<Option<u32>> {
    let column = batch.column_by_name(name).unwrap();
    column.as_primitive::<UInt32Type>().iter().collect()
}

impl Outcome {
    pub fn of(&self, output: HiveOutput) -> impl Iterator<Item = &RecordBatch> {
        let is_it = move |(of, _): &&(HiveOutput, RecordBatch)| *of == output;
        self.batches.iter().filter(is_it).map(|(_, batch)| batch)
    }

    /// The values of one column of an output.
    pub fn column<T>(
        &self,
        output: HiveOutput,
        name: &str,
        read: impl Fn(&RecordBatch, &str) -> Vec<T>,
    ) -> Vec<T> {
        self.of(output)
            .flat_map(|batch| read(batch, name))
            .collect()
    }

    pub fn keys(&self) -> Vec<Row> {
        self.rows(HiveOutput::Keys, "name")
    }

    pub fn values(&self) -> Vec<Row> {
        self.rows(HiveOutput::Values, "value_name")
    }

    fn rows(&self, output: HiveOutput, name_column: &str) -> Vec<Row> {
        let mut rows = vec![];
        for batch in self.of(output) {
            let offsets = longs(batch, "@offset");
            let lengths = longs(batch, "@length");
            let flags = numbers(batch, "@flags");
            let paths = texts(batch, "key_path");
            let names = texts(batch, name_column);
            let states = texts(batch, "state");
            let problems = lists(batch, "problems");
            let logs = texts(batch, "from_log");
            for row in 0..batch.num_rows() {
                let problems = problems[row].clone().unwrap_or_default();
                rows.push(Row {
                    offset: offsets[row].unwrap(),
                    length: lengths[row].unwrap(),
                    flags: flags[row].unwrap(),
                    path: paths[row].clone().unwrap(),
                    name: names[row].clone(),
                    state: states[row].clone().unwrap(),
                    problems: problems.into_iter().flatten().collect(),
                    from_log: logs[row].clone(),
                });
            }
        }
        rows
    }

    pub fn live_paths(&self) -> Vec<String> {
        let keys = self.keys().into_iter();
        keys.filter(|row| row.state == "live")
            .map(|row| row.path)
            .collect()
    }

    /// (offset, length, reason)
    pub fn quarantine(&self) -> Vec<(u64, u64, String)> {
        let offsets = self.column(HiveOutput::Quarantine, "@offset", longs);
        let lengths = self.column(HiveOutput::Quarantine, "@length", longs);
        let reasons = self.column(HiveOutput::Quarantine, "reason", texts);
        let places = offsets.into_iter().zip(lengths).zip(reasons);
        places
            .map(|((at, length), reason)| (at.unwrap(), length.unwrap(), reason.unwrap()))
            .collect()
    }

    /// Problems of the hive itself.
    pub fn hive_problems(&self) -> Vec<String> {
        let problems = self.column(HiveOutput::Hives, "problems", lists);
        problems.into_iter().flatten().flatten().flatten().collect()
    }

    /// Whether anything at all says that something is wrong.
    pub fn has_findings(&self) -> bool {
        !self.hive_problems().is_empty()
            || !self.quarantine().is_empty()
            || self
                .keys()
                .iter()
                .chain(&self.values())
                .any(|row| !row.problems.is_empty() || row.state != "live")
    }

    /// Check that the units of `image` and the rows are the same, each once.
    pub fn check_units(&self, image: &[u8]) {
        let mut expected = BTreeMap::new();
        for (offset, length) in units(image) {
            *expected.entry((offset, length)).or_insert(0) += 1;
        }
        let mut found = BTreeMap::new();
        let rows = self.keys().into_iter().chain(self.values());
        let rows = rows.filter(|row| row.flags & SLACK == 0);
        let rows = rows.map(|row| (row.offset, row.length));
        let quarantine = self.quarantine().into_iter();
        for place in rows.chain(quarantine.map(|(at, length, _)| (at, length))) {
            *found.entry(place).or_insert(0) += 1;
        }
        assert_eq!(found, expected);
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

/// Offset and length of every unit: allocated `nk` and `vk` cells, and damaged regions.
pub fn units(image: &[u8]) -> Vec<(u64, u64)> {
    let mut units = vec![];
    if image.len() <= BASE_BYTES {
        return units;
    }
    let mut sealed = image[..512].to_vec();
    super::seal(&mut sealed);
    let mut end = image.len();
    if sealed == image[..512] {
        let claimed = (u32_at(image, 40) as usize).next_multiple_of(4096);
        end = end.min(BASE_BYTES + claimed);
    }
    let mut at = BASE_BYTES;
    while at < end {
        let size = if end - at >= 12 {
            u32_at(image, at + 8) as usize
        } else {
            0
        };
        if image[at..].starts_with(b"hbin")
            && size > 0
            && size.is_multiple_of(4096)
            && at + size <= end
        {
            bin_units(image, at, at + size, &mut units);
            at += size;
            continue;
        }
        let mut next = at + 4096;
        while next < end && !image[next..end].starts_with(b"hbin") {
            next += 4096;
        }
        let next = next.min(end);
        let mut used = next;
        while next == end && used > at {
            let page = at + (used - 1 - at) / 4096 * 4096;
            if image[page..used].iter().any(|byte| *byte != 0) {
                break;
            }
            used = page;
        }
        if used > at {
            units.push((at as u64, (used - at) as u64));
        }
        at = next;
    }
    units
}

fn bin_units(image: &[u8], start: usize, end: usize, units: &mut Vec<(u64, u64)>) {
    let valid = |at: usize| {
        let size = u32_at(image, at).cast_signed();
        let length = size.unsigned_abs() as usize;
        (length >= 8 && length.is_multiple_of(8) && at + length <= end)
            .then_some((size < 0, length))
    };
    let known: [&[u8]; 8] = [b"nk", b"vk", b"sk", b"lf", b"lh", b"li", b"ri", b"db"];
    let mut at = start + 32;
    while at < end {
        let signature = &image[at + 4..at + 6];
        if let Some((is_allocated, length)) = valid(at) {
            if is_allocated && (signature == b"nk" || signature == b"vk") {
                units.push((at as u64, length as u64));
            }
            at += length;
            continue;
        }
        let first = at;
        at += 8;
        while at < end
            && !(valid(at).is_some_and(|(is_allocated, _)| is_allocated)
                && known.contains(&&image[at + 4..at + 6]))
        {
            at += 8;
        }
        units.push((first as u64, (at - first) as u64));
    }
}
