//! Records, chunks and logs, and events as Windows writes them.

use super::binxml::*;
use super::*;

impl ChunkBuilder {
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
