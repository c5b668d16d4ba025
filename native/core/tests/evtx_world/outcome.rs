//! What comes out of a log, and what must hold of it.

use arrow_array::cast::AsArray as _;
use arrow_array::types::{
    ArrowPrimitiveType, TimestampNanosecondType, UInt8Type, UInt32Type, UInt64Type,
};
use arrow_array::{Array as _, RecordBatch};
use casparian_core::account::{Account, account_evtx, account_evtx_carved};
use casparian_core::evtx::{EvtxCarver, EvtxDecoder, EvtxOptions, EvtxOutput};
use casparian_core::flags;
use casparian_core::source::{ReadAt, SliceSource};
use casparian_core::tally::Tally;

use super::{CHUNK_BYTES, FILE_HEADER_BYTES};

/// One value of the lists: name, text, type.
pub type Item = (Option<String>, Option<String>, u8);

/// What a file was decoded to.
pub struct Outcome {
    pub events: Vec<RecordBatch>,
    pub chunks: Vec<RecordBatch>,
    pub quarantine: Vec<RecordBatch>,
}

/// Decode a file and check what must hold of every file.
pub fn decode(file: &[u8]) -> Outcome {
    let outcome = decode_with(SliceSource(file), EvtxOptions::default());
    outcome.check_ledger(&SliceSource(file));
    outcome
}

pub fn decode_with<S: ReadAt>(source: S, options: EvtxOptions) -> Outcome {
    let mut decoder = EvtxDecoder::new(source, options).unwrap();
    collect(|| decoder.next_batch().unwrap())
}

/// Carve a source, and check what must hold of every source.
pub fn carve(bytes: &[u8]) -> Outcome {
    let outcome = carve_with(SliceSource(bytes), EvtxOptions::default());
    let account = account_evtx_carved(&SliceSource(bytes)).unwrap();
    let (tallied, extra) = outcome.tally();
    assert_eq!((account.present, tallied.total()), (0, 0));
    assert_eq!(extra, account.slack_records);
    outcome
}

pub fn carve_with<S: ReadAt>(source: S, options: EvtxOptions) -> Outcome {
    let mut carver = EvtxCarver::new(source, options);
    collect(|| carver.next_batch().unwrap())
}

fn collect(mut next: impl FnMut() -> Option<(EvtxOutput, RecordBatch)>) -> Outcome {
    let mut outcome = Outcome {
        events: vec![],
        chunks: vec![],
        quarantine: vec![],
    };
    while let Some((output, batch)) = next() {
        assert_eq!(batch.schema(), output.schema());
        assert!(batch.num_rows() > 0);
        match output {
            EvtxOutput::Events => outcome.events.push(batch),
            EvtxOutput::Chunks => outcome.chunks.push(batch),
            EvtxOutput::Quarantine => outcome.quarantine.push(batch),
        }
    }
    outcome
}

fn numbers<T: ArrowPrimitiveType>(batches: &[RecordBatch], column: &str) -> Vec<Option<T::Native>> {
    batches
        .iter()
        .flat_map(|batch| {
            let array = batch.column_by_name(column).unwrap();
            array.as_primitive::<T>().iter().collect::<Vec<_>>()
        })
        .collect()
}

fn texts(batches: &[RecordBatch], column: &str) -> Vec<Option<String>> {
    batches
        .iter()
        .flat_map(|batch| {
            let array = batch.column_by_name(column).unwrap();
            let texts = array.as_string::<i32>().iter();
            texts
                .map(|text| text.map(str::to_owned))
                .collect::<Vec<_>>()
        })
        .collect()
}

impl Outcome {
    pub fn u64s(&self, column: &str) -> Vec<Option<u64>> {
        numbers::<UInt64Type>(&self.events, column)
    }

    pub fn u32s(&self, column: &str) -> Vec<Option<u32>> {
        numbers::<UInt32Type>(&self.events, column)
    }

    pub fn u8s(&self, column: &str) -> Vec<Option<u8>> {
        numbers::<UInt8Type>(&self.events, column)
    }

    pub fn times(&self, column: &str) -> Vec<Option<i64>> {
        numbers::<TimestampNanosecondType>(&self.events, column)
    }

    pub fn texts(&self, column: &str) -> Vec<Option<String>> {
        texts(&self.events, column)
    }

    pub fn ids(&self) -> Vec<u64> {
        self.u64s("header_record_id")
            .into_iter()
            .flatten()
            .collect()
    }

    pub fn flags(&self) -> Vec<u32> {
        self.u32s("@flags").into_iter().flatten().collect()
    }

    /// The lists of each event: name, value, type.
    pub fn items(&self) -> Vec<Vec<Item>> {
        let mut rows = Vec::new();
        for batch in &self.events {
            let column = |name: &str| batch.column_by_name(name).unwrap().as_list::<i32>().clone();
            let (names, values, types) = (
                column("data_names"),
                column("data_values"),
                column("data_types"),
            );
            for row in 0..batch.num_rows() {
                let (names, values, types) =
                    (names.value(row), values.value(row), types.value(row));
                assert_eq!(names.len(), values.len());
                assert_eq!(names.len(), types.len());
                let names = names.as_string::<i32>().iter();
                let values = values.as_string::<i32>().iter();
                let types = types.as_primitive::<UInt8Type>().values().to_vec();
                let items = names
                    .zip(values)
                    .zip(types)
                    .map(|((name, value), type_code)| {
                        (name.map(str::to_owned), value.map(str::to_owned), type_code)
                    });
                rows.push(items.collect());
            }
        }
        rows
    }

    /// The items of the only event, as `name=value`.
    pub fn shown(&self) -> Vec<String> {
        let [items] = self.items().try_into().unwrap();
        let show = |text: Option<String>| text.unwrap_or_else(|| "<null>".into());
        items
            .into_iter()
            .map(|(name, value, _)| format!("{}={}", show(name), show(value)))
            .collect()
    }

    pub fn reasons(&self) -> Vec<String> {
        texts(&self.quarantine, "reason")
            .into_iter()
            .flatten()
            .collect()
    }

    pub fn quarantine_flags(&self) -> Vec<u32> {
        numbers::<UInt32Type>(&self.quarantine, "@flags")
            .into_iter()
            .flatten()
            .collect()
    }

    /// Offset and raw bytes of each quarantine row.
    pub fn raw(&self) -> Vec<(u64, Vec<u8>)> {
        let mut rows = Vec::new();
        for batch in &self.quarantine {
            let offsets = batch.column(0).as_primitive::<UInt64Type>();
            let lengths = batch.column(1).as_primitive::<UInt64Type>();
            let raw = batch.column_by_name("raw").unwrap().as_binary::<i32>();
            for row in 0..batch.num_rows() {
                assert_eq!(lengths.value(row), raw.value(row).len() as u64);
                rows.push((offsets.value(row), raw.value(row).to_vec()));
            }
        }
        rows
    }

    pub fn chunk_u32s(&self, column: &str) -> Vec<Option<u32>> {
        numbers::<UInt32Type>(&self.chunks, column)
    }

    pub fn chunk_bools(&self, column: &str) -> Vec<bool> {
        self.chunks
            .iter()
            .flat_map(|batch| {
                let array = batch.column_by_name(column).unwrap();
                array.as_boolean().iter().flatten().collect::<Vec<_>>()
            })
            .collect()
    }

    /// Each unit that the independent account finds is a row or a quarantine row, and nothing else is.
    pub fn check_ledger<S: ReadAt>(&self, source: &S) -> Account {
        let account = account_evtx(source).unwrap();
        let (tally, extra) = self.tally();
        assert_eq!(tally.total(), account.present);
        assert_eq!(extra, account.slack_records);
        assert!(tally.compare(&account).unwrap().is_empty());
        account
    }

    /// The units that count as present, and how many do not.
    fn tally(&self) -> (Tally, u64) {
        let mut tally = Tally::new(FILE_HEADER_BYTES as u64, CHUNK_BYTES as u64).unwrap();
        let mut extra = 0;
        for batch in self.events.iter().chain(&self.quarantine) {
            let offsets = batch.column(0).as_primitive::<UInt64Type>();
            let lengths = batch.column(1).as_primitive::<UInt64Type>();
            let row_flags = batch.column(2).as_primitive::<UInt32Type>();
            for row in 0..batch.num_rows() {
                if row_flags.value(row) & (flags::SLACK | flags::CARVED) == 0 {
                    tally.add(offsets.value(row), lengths.value(row)).unwrap();
                } else {
                    extra += 1;
                }
            }
        }
        (tally, extra)
    }
}
