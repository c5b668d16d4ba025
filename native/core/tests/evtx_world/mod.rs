//! Event logs to test with, built byte by byte, and the rows that come out of them.

#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test file is a crate and uses a part"
)]
#![allow(clippy::unwrap_used, reason = "a test ends where its assumptions do")]

pub mod json;

use std::collections::HashMap;

use arrow_array::cast::AsArray as _;
use arrow_array::types::{
    ArrowPrimitiveType, TimestampNanosecondType, UInt8Type, UInt32Type, UInt64Type,
};
use arrow_array::{Array as _, RecordBatch};
use casparian_core::account::account_evtx;
use casparian_core::evtx::{EvtxDecoder, EvtxOptions, EvtxOutput};
use casparian_core::flags;
use casparian_core::source::{ReadAt, SliceSource};
use casparian_core::tally::Tally;

pub const FILE_HEADER_BYTES: usize = 4_096;
pub const CHUNK_BYTES: usize = 65_536;
pub const CHUNK_HEADER_BYTES: usize = 512;
/// 2016-08-26T00:00:12.3456789Z.
pub const FILETIME: u64 = 131_166_432_123_456_789;
pub const GUID_OUTER: [u8; 16] = [0x11; 16];
pub const GUID_PAYLOAD: [u8; 16] = [0x22; 16];

pub fn utf16(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

/// One node of an event to write as BinXML.
#[derive(Clone)]
pub enum Node {
    /// Name, attributes, content.
    Element(String, Vec<(String, Vec<Node>)>, Vec<Node>),
    Text(String),
    CData(String),
    Character(u16),
    Entity(String),
    Slot(u16),
    Optional(u16),
}

pub fn element(name: &str, content: Vec<Node>) -> Node {
    Node::Element(name.into(), Vec::new(), content)
}

pub fn with(name: &str, attributes: Vec<(&str, Node)>, content: Vec<Node>) -> Node {
    let attributes = attributes
        .into_iter()
        .map(|(name, value)| (name.to_owned(), vec![value]))
        .collect();
    Node::Element(name.into(), attributes, content)
}

pub fn text(value: &str) -> Node {
    Node::Text(value.into())
}

/// A chunk that is being written. Positions in it are final, as names and definitions need.
pub struct ChunkBuilder {
    pub bytes: Vec<u8>,
    names: HashMap<String, u32>,
    definitions: HashMap<[u8; 16], u32>,
    record_start: usize,
    pub records: Vec<(usize, usize)>,
    first_id: Option<u64>,
    last_id: u64,
}

impl ChunkBuilder {
    pub fn new() -> Self {
        Self {
            bytes: vec![0; CHUNK_HEADER_BYTES],
            names: HashMap::new(),
            definitions: HashMap::new(),
            record_start: 0,
            records: Vec::new(),
            first_id: None,
            last_id: 0,
        }
    }

    fn put(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    fn patch(&mut self, at: usize, value: usize) {
        self.bytes[at..at + 4].copy_from_slice(&(value as u32).to_le_bytes());
    }

    fn name(&mut self, name: &str) {
        if let Some(offset) = self.names.get(name) {
            let offset = offset.to_le_bytes();
            self.put(&offset);
            return;
        }
        let offset = self.bytes.len() as u32 + 4;
        self.names.insert(name.into(), offset);
        self.put(&offset.to_le_bytes());
        self.put(&[0; 4]);
        let checksum = name.encode_utf16().fold(0_u32, |sum, unit| {
            sum.wrapping_mul(65_599).wrapping_add(u32::from(unit))
        });
        self.put(&(checksum as u16).to_le_bytes());
        self.put(&(name.encode_utf16().count() as u16).to_le_bytes());
        self.put(&utf16(name));
        self.put(&[0, 0]);
    }

    fn counted(&mut self, value: &str) {
        self.put(&(value.encode_utf16().count() as u16).to_le_bytes());
        self.put(&utf16(value));
    }

    fn node(&mut self, node: &Node, in_template: bool) {
        match node {
            Node::Element(name, attributes, content) => {
                let has_attributes = !attributes.is_empty();
                self.put(&[if has_attributes { 0x41 } else { 0x01 }]);
                if in_template {
                    self.put(&[0xff, 0xff]);
                }
                self.put(&[0; 4]);
                self.name(name);
                if has_attributes {
                    self.put(&[0; 4]);
                }
                for (name, value) in attributes {
                    self.put(&[0x06]);
                    self.name(name);
                    for piece in value {
                        self.node(piece, in_template);
                    }
                }
                if content.is_empty() {
                    self.put(&[0x03]);
                    return;
                }
                self.put(&[0x02]);
                for child in content {
                    self.node(child, in_template);
                }
                self.put(&[0x04]);
            }
            Node::Text(value) => {
                self.put(&[0x05, 0x01]);
                self.counted(value);
            }
            Node::CData(value) => {
                self.put(&[0x07]);
                self.counted(value);
            }
            Node::Character(unit) => {
                self.put(&[0x08]);
                self.put(&unit.to_le_bytes());
            }
            Node::Entity(name) => {
                self.put(&[0x09]);
                self.name(name);
            }
            Node::Slot(slot) | Node::Optional(slot) => {
                let is_optional = matches!(node, Node::Optional(_));
                self.put(&[if is_optional { 0x0e } else { 0x0d }]);
                self.put(&slot.to_le_bytes());
                self.put(&[0x01]);
            }
        }
    }

    pub fn begin_record(&mut self, id: u64) {
        self.record_start = self.bytes.len();
        self.first_id.get_or_insert(id);
        self.last_id = id;
        self.put(b"**\0\0\0\0\0\0");
        self.put(&id.to_le_bytes());
        self.put(&FILETIME.to_le_bytes());
    }

    pub fn end_record(&mut self) {
        let size = self.bytes.len() + 4 - self.record_start;
        self.put(&(size as u32).to_le_bytes());
        self.patch(self.record_start + 4, size);
        self.records.push((self.record_start, size));
    }

    /// A record written without a template.
    pub fn inline_record(&mut self, id: u64, event: &Node) {
        self.begin_record(id);
        self.fragment(event);
        self.end_record();
    }

    fn fragment(&mut self, event: &Node) {
        self.put(&[0x0f, 1, 1, 0]);
        self.node(event, false);
        self.put(&[0x00]);
    }

    /// A template instance, with its definition when the chunk has none of this GUID.
    pub fn instance(&mut self, guid: [u8; 16], definition: &Node, values: &[(u8, Value)]) {
        self.put(&[0x0f, 1, 1, 0, 0x0c, 1]);
        self.put(&guid[..4]);
        match self.definitions.get(&guid) {
            Some(offset) => {
                let offset = offset.to_le_bytes();
                self.put(&offset);
            }
            None => {
                let offset = self.bytes.len() + 4;
                self.definitions.insert(guid, offset as u32);
                self.put(&(offset as u32).to_le_bytes());
                self.put(&[0; 4]);
                self.put(&guid);
                self.put(&[0; 4]);
                let start = self.bytes.len();
                self.put(&[0x0f, 1, 1, 0]);
                self.node(definition, true);
                self.put(&[0x00]);
                self.patch(start - 4, self.bytes.len() - start);
            }
        }
        self.put(&(values.len() as u32).to_le_bytes());
        let descriptions = self.bytes.len();
        for (type_code, _) in values {
            self.put(&[0, 0, *type_code, 0]);
        }
        for (place, (_, value)) in values.iter().enumerate() {
            let start = self.bytes.len();
            match value {
                Value::Bytes(bytes) => self.put(bytes),
                Value::Instance(guid, definition, values) => {
                    self.instance(*guid, definition, values);
                }
                Value::Inline(event) => self.fragment(event),
            }
            let size = (self.bytes.len() - start) as u16;
            let at = descriptions + 4 * place;
            self.bytes[at..at + 2].copy_from_slice(&size.to_le_bytes());
        }
    }

    /// A record made from a template.
    pub fn record(&mut self, id: u64, guid: [u8; 16], definition: &Node, values: &[(u8, Value)]) {
        self.begin_record(id);
        self.instance(guid, definition, values);
        self.put(&[0x00]);
        self.end_record();
    }

    /// The chunk of 65,536 bytes with right checksums, and everything so far live.
    pub fn finish(self) -> Vec<u8> {
        let end = self.bytes.len();
        self.finish_at(end)
    }

    /// As [`Self::finish`], with the live area ending at `end`.
    pub fn finish_at(mut self, end: usize) -> Vec<u8> {
        assert!(self.bytes.len() <= CHUNK_BYTES);
        self.bytes.resize(CHUNK_BYTES, 0);
        let mut chunk = self.bytes;
        chunk[..8].copy_from_slice(b"ElfChnk\0");
        let first = self.first_id.unwrap_or(0);
        chunk[8..16].copy_from_slice(&first.to_le_bytes());
        chunk[16..24].copy_from_slice(&self.last_id.to_le_bytes());
        chunk[24..32].copy_from_slice(&first.to_le_bytes());
        chunk[32..40].copy_from_slice(&self.last_id.to_le_bytes());
        chunk[40..44].copy_from_slice(&128_u32.to_le_bytes());
        chunk[48..52].copy_from_slice(&(end as u32).to_le_bytes());
        seal(&mut chunk);
        chunk
    }
}

/// What a substitution holds.
pub enum Value {
    Bytes(Vec<u8>),
    Instance([u8; 16], Node, Vec<(u8, Value)>),
    Inline(Node),
}

pub fn bytes(value: &[u8]) -> Value {
    Value::Bytes(value.to_vec())
}

pub fn string(value: &str) -> (u8, Value) {
    (0x01, Value::Bytes(utf16(value)))
}

pub const NULL: (u8, Value) = (0x00, Value::Bytes(Vec::new()));

/// Make both checksums of a chunk right.
pub fn seal(chunk: &mut [u8]) {
    let end = u32::from_le_bytes(chunk[48..52].try_into().unwrap()) as usize;
    let data = crc32fast::hash(&chunk[CHUNK_HEADER_BYTES..end]);
    chunk[52..56].copy_from_slice(&data.to_le_bytes());
    let header = crc32fast::hash(&[&chunk[..120], &chunk[128..512]].concat());
    chunk[124..128].copy_from_slice(&header.to_le_bytes());
}

/// A file of these slots.
pub fn log(slots: &[Vec<u8>]) -> Vec<u8> {
    let mut file = vec![0; FILE_HEADER_BYTES];
    file[..8].copy_from_slice(b"ElfFile\0");
    file[42..44].copy_from_slice(&(slots.len() as u16).to_le_bytes());
    let crc = crc32fast::hash(&file[..120]);
    file[124..128].copy_from_slice(&crc.to_le_bytes());
    for slot in slots {
        file.extend_from_slice(slot);
    }
    file
}

/// The template of a usual event: all System columns from slots 0 to 18, the payload in slot 19.
pub fn outer_template() -> Node {
    element(
        "Event",
        vec![
            element(
                "System",
                vec![
                    with(
                        "Provider",
                        vec![
                            ("Name", text("Provider-One")),
                            ("Guid", Node::Optional(14)),
                            ("EventSourceName", Node::Optional(15)),
                        ],
                        vec![],
                    ),
                    with(
                        "EventID",
                        vec![("Qualifiers", Node::Optional(4))],
                        vec![Node::Optional(3)],
                    ),
                    element("Version", vec![Node::Optional(11)]),
                    element("Level", vec![Node::Optional(0)]),
                    element("Task", vec![Node::Optional(2)]),
                    element("Opcode", vec![Node::Optional(1)]),
                    element("Keywords", vec![Node::Optional(5)]),
                    with(
                        "TimeCreated",
                        vec![("SystemTime", Node::Optional(6))],
                        vec![],
                    ),
                    element("EventRecordID", vec![Node::Optional(10)]),
                    with(
                        "Correlation",
                        vec![
                            ("ActivityID", Node::Optional(7)),
                            ("RelatedActivityID", Node::Optional(18)),
                        ],
                        vec![],
                    ),
                    with(
                        "Execution",
                        vec![
                            ("ProcessID", Node::Optional(8)),
                            ("ThreadID", Node::Optional(9)),
                            ("SessionID", Node::Optional(17)),
                        ],
                        vec![],
                    ),
                    element("Channel", vec![Node::Optional(16)]),
                    element("Computer", vec![text("host.example")]),
                    with("Security", vec![("UserID", Node::Optional(12))], vec![]),
                ],
            ),
            Node::Optional(19),
        ],
    )
}

/// The template of a usual payload: two named values and one without a name.
pub fn payload_template() -> Node {
    element(
        "EventData",
        vec![
            with(
                "Data",
                vec![("Name", text("TargetUserName"))],
                vec![Node::Slot(0)],
            ),
            with("Data", vec![("Name", text("Status"))], vec![Node::Slot(1)]),
            element("Data", vec![Node::Slot(2)]),
        ],
    )
}

pub fn payload(user: &str) -> (u8, Value) {
    let values = vec![
        string(user),
        (0x14, bytes(&0xc000_006d_u32.to_le_bytes())),
        (0x08, bytes(&7_u32.to_le_bytes())),
    ];
    (
        0x21,
        Value::Instance(GUID_PAYLOAD, payload_template(), values),
    )
}

/// Values for [`outer_template`].
pub fn system_values(record_id: u64, payload: (u8, Value)) -> Vec<(u8, Value)> {
    let sid = [1, 1, 0, 0, 0, 0, 0, 5, 18, 0, 0, 0];
    vec![
        (0x04, bytes(&[4])),
        (0x04, bytes(&[2])),
        (0x06, bytes(&12_544_u16.to_le_bytes())),
        (0x06, bytes(&4_625_u16.to_le_bytes())),
        NULL,
        (0x15, bytes(&0x8010_0000_0000_0000_u64.to_le_bytes())),
        (0x11, bytes(&FILETIME.to_le_bytes())),
        (0x0f, bytes(&[0xab; 16])),
        (0x08, bytes(&752_u32.to_le_bytes())),
        (0x08, bytes(&4_u32.to_le_bytes())),
        (0x0a, bytes(&record_id.to_le_bytes())),
        (0x04, bytes(&[1])),
        (0x13, bytes(&sid)),
        NULL,
        (0x0f, bytes(&[0xcd; 16])),
        NULL,
        string("Security"),
        (0x08, bytes(&3_u32.to_le_bytes())),
        NULL,
        payload,
    ]
}

/// A chunk of usual events with header ids from `first` on.
pub fn usual_chunk(first: u64, count: u64) -> ChunkBuilder {
    let mut chunk = ChunkBuilder::new();
    for id in first..first + count {
        let user = format!("user-{id}");
        let values = system_values(1_000 + id, payload(&user));
        chunk.record(id, GUID_OUTER, &outer_template(), &values);
    }
    chunk
}

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
    let mut outcome = Outcome {
        events: vec![],
        chunks: vec![],
        quarantine: vec![],
    };
    while let Some((output, batch)) = decoder.next_batch().unwrap() {
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
    pub fn check_ledger<S: ReadAt>(&self, source: &S) {
        let account = account_evtx(source).unwrap();
        let mut tally = Tally::new(FILE_HEADER_BYTES as u64, CHUNK_BYTES as u64).unwrap();
        let mut slack = 0;
        for batch in self.events.iter().chain(&self.quarantine) {
            let offsets = batch.column(0).as_primitive::<UInt64Type>();
            let lengths = batch.column(1).as_primitive::<UInt64Type>();
            let row_flags = batch.column(2).as_primitive::<UInt32Type>();
            for row in 0..batch.num_rows() {
                if row_flags.value(row) & flags::SLACK == 0 {
                    tally.add(offsets.value(row), lengths.value(row)).unwrap();
                } else {
                    slack += 1;
                }
            }
        }
        assert_eq!(tally.total(), account.present);
        assert_eq!(slack, account.slack_records);
        assert!(tally.compare(&account).unwrap().is_empty());
    }
}
