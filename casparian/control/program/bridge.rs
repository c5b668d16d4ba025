//! What a parser that is a program says to Casparian and hears from it: `docs/explanation/bridge.md`, in one file, with
//! no dependency. Copy it beside your parser.
//!
//! A program gets one socket, descriptor 3, and each source as an open descriptor; it can open nothing, start nothing and
//! reach nobody. It names no output of another job, no file and no process: only rows, bytes that are set aside, and why.
#![allow(dead_code)] // a parser need not use all of it

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{FromRawFd, RawFd};
use std::os::unix::net::UnixStream;

const SOCKET: RawFd = 3;
const HEADER_BYTES: usize = 16; // version, opcode, flags (16 bits), epoch (64), payload length (32), big-endian
const VERSION: u8 = 1;
const JOB: u8 = 48;
const SOURCE: u8 = 49;
const BATCH: u8 = 50;
const END: u8 = 52;
const FAILED: u8 = 53;
const FINISH: u8 = 54;
const READY: u8 = 56;
/// Quarantined rows of no output in particular.
const QUARANTINE: u16 = 0;
const ROWS_PER_BATCH: usize = 8192;

/// One source: a file that can only be read.
pub struct Source {
    pub index: i64,
    pub size_bytes: u64,
    pub display_path: String,
    pub file: File,
}

/// What a parser is told first.
pub struct Job {
    pub config: Value,
    /// Names of the outputs, in the order of their numbers; the first one is number 1.
    pub outputs: Vec<String>,
}

/// Serve one job: `parse` is called for each source. What it returns as an error ends that source alone.
pub fn serve(mut parse: impl FnMut(&Job, &mut Source, &mut Rows) -> Result<(), String>) -> io::Result<()> {
    // SAFETY: the parent has put the socket there, and nobody else in this program knows it.
    let mut bridge = Bridge { socket: unsafe { UnixStream::from_raw_fd(SOCKET) }, epoch: 0 };
    let (opcode, payload, _) = bridge.receive()?;
    if opcode != JOB {
        return Err(io::Error::other("expected a job"));
    }
    let told = Value::read(&payload)?;
    let outputs = told.get("outputs").items().iter().map(|one| one.get("table").text()).collect();
    let job = Job { config: told.get("config").clone(), outputs };
    bridge.send(READY, 0, &map(&[("isolation", vec![0x80])]))?; // what confines it, the host knows better
    loop {
        let (opcode, payload, descriptor) = bridge.receive()?;
        if opcode == FINISH {
            return Ok(());
        }
        let told = Value::read(&payload)?;
        let Some(file) = descriptor.filter(|_| opcode == SOURCE) else {
            return Err(io::Error::other("expected a source"));
        };
        let index = told.get("index").number();
        let mut source = Source {
            index,
            size_bytes: told.get("size_bytes").number() as u64,
            display_path: told.get("display_path").text(),
            file,
        };
        let mut rows = Rows { bridge: &mut bridge, sent: Vec::new(), set_aside: Batch::new(&QUARANTINE_COLUMNS) };
        match parse(&job, &mut source, &mut rows).and_then(|()| rows.finish().map_err(|error| error.to_string())) {
            Ok(sent) => {
                let counts = sent.iter().map(|(number, count)| (*number, *count)).collect::<Vec<_>>();
                bridge.send(END, 0, &map(&[("index", integer(index)), ("rows", counts_of(&counts))]))?;
            }
            Err(message) => bridge.send(
                FAILED,
                0,
                &map(&[("index", integer(index)), ("code", text("parser.gave_up")), ("message", text(&message))]),
            )?,
        }
    }
}

/// Rows of one source on their way to the host.
pub struct Rows<'a> {
    bridge: &'a mut Bridge,
    sent: Vec<(u16, i64)>,
    set_aside: Batch,
}

const QUARANTINE_COLUMNS: [Kind; 4] = [Kind::Utf8, Kind::Utf8, Kind::Utf8, Kind::Binary];

impl Rows<'_> {
    /// Send what a batch holds, as rows of output `number`, and empty it.
    pub fn send(&mut self, number: u16, batch: &mut Batch) -> io::Result<()> {
        if batch.rows > 0 {
            self.bridge.send(BATCH, number, &batch.message())?;
            match self.sent.iter_mut().find(|(other, _)| *other == number) {
                Some((_, count)) => *count += batch.rows as i64,
                None => self.sent.push((number, batch.rows as i64)),
            }
            batch.clear();
        }
        Ok(())
    }

    /// Send it when it is worth a frame.
    pub fn send_if_full(&mut self, number: u16, batch: &mut Batch) -> io::Result<()> {
        if batch.rows >= ROWS_PER_BATCH { self.send(number, batch) } else { Ok(()) }
    }

    /// Set bytes of the source aside: they are kept with the reason, and counted.
    pub fn quarantine(&mut self, offset: u64, raw: &[u8], reason: &str, message: &str) -> io::Result<()> {
        self.set_aside.begin(offset, raw.len() as u64, 0);
        self.set_aside.put(0, Some(reason.as_bytes()));
        self.set_aside.put(1, None);
        self.set_aside.put(2, Some(message.as_bytes()));
        self.set_aside.put(3, Some(&raw[..raw.len().min(65_536)]));
        let mut batch = std::mem::replace(&mut self.set_aside, Batch::new(&[]));
        let result = self.send_if_full(QUARANTINE, &mut batch);
        self.set_aside = batch;
        result
    }

    fn finish(&mut self) -> io::Result<Vec<(u16, i64)>> {
        let mut batch = std::mem::replace(&mut self.set_aside, Batch::new(&[]));
        self.send(QUARANTINE, &mut batch)?;
        Ok(std::mem::take(&mut self.sent))
    }
}

// -- columns --------------------------------------------------------------------------------------------------------

/// A column's type; the contract's `int64`, `uint64`, `float64` and times are all eight bytes.
#[derive(Clone, Copy, PartialEq)]
pub enum Kind {
    Bytes8,
    Bytes4,
    Utf8,
    Binary,
}

struct Column {
    kind: Kind,
    values: Vec<u8>,
    offsets: Vec<i32>,
    valid: Vec<bool>,
}

/// Rows of one output, column by column, as an Arrow record batch has them. Three columns say where a row's bytes are.
pub struct Batch {
    columns: Vec<Column>,
    pub rows: usize,
}

impl Batch {
    /// An empty batch of an output with these columns, in the contract's order.
    pub fn new(kinds: &[Kind]) -> Self {
        let all = [Kind::Bytes8, Kind::Bytes8, Kind::Bytes4].iter().chain(kinds);
        let columns = all
            .map(|kind| Column { kind: *kind, values: Vec::new(), offsets: vec![0], valid: Vec::new() })
            .collect();
        Self { columns, rows: 0 }
    }

    /// A new row: the bytes of the source that it came from, and its flags.
    pub fn begin(&mut self, offset: u64, length: u64, flags: u32) {
        self.rows += 1;
        self.columns[0].put(Some(&offset.to_le_bytes()));
        self.columns[1].put(Some(&length.to_le_bytes()));
        self.columns[2].put(Some(&flags.to_le_bytes()));
    }

    /// The row's value in column `number` of the contract, from 0: little-endian bytes, or UTF-8; nothing is null.
    pub fn put(&mut self, number: usize, value: Option<&[u8]>) {
        self.columns[3 + number].put(value);
    }

    fn clear(&mut self) {
        self.rows = 0;
        for column in &mut self.columns {
            column.values.clear();
            column.offsets = vec![0];
            column.valid.clear();
        }
    }

    /// One encapsulated Arrow message: `format/Message.fbs` of Arrow, written by hand because its shape never changes.
    fn message(&self) -> Vec<u8> {
        let (mut nodes, mut buffers, mut body) = (Vec::new(), Vec::new(), Vec::new());
        let mut buffer = |content: &[u8]| {
            buffers.extend((body.len() as i64).to_le_bytes());
            buffers.extend((content.len() as i64).to_le_bytes());
            body.extend_from_slice(content);
            body.resize(body.len().next_multiple_of(8), 0);
        };
        for column in &self.columns {
            let nulls = column.valid.iter().filter(|valid| !**valid).count();
            nodes.extend((self.rows as i64).to_le_bytes());
            nodes.extend((nulls as i64).to_le_bytes());
            buffer(&if nulls == 0 { Vec::new() } else { bitmap(&column.valid) });
            if matches!(column.kind, Kind::Utf8 | Kind::Binary) {
                buffer(&column.offsets.iter().flat_map(|offset| offset.to_le_bytes()).collect::<Vec<_>>());
            }
            buffer(&column.values);
        }
        let columns = nodes.len() / 16;
        let mut head = Vec::with_capacity(96 + nodes.len() + buffers.len());
        head.extend(16_u32.to_le_bytes()); // to the Message table
        for field in [12_u16, 24, 16, 18, 4, 8] {
            head.extend(field.to_le_bytes()); // its vtable: version, header type, header, body length
        }
        head.extend(12_i32.to_le_bytes());
        head.extend(36_u32.to_le_bytes()); // to the RecordBatch table
        head.extend((body.len() as i64).to_le_bytes());
        head.extend(4_i16.to_le_bytes()); // metadata version 5
        head.extend([3, 0, 0, 0, 0, 0]); // a record batch
        head.extend([0; 6]);
        for field in [10_u16, 24, 8, 4, 16] {
            head.extend(field.to_le_bytes()); // its vtable: length, nodes, buffers
        }
        head.extend(10_i32.to_le_bytes());
        head.extend(24_u32.to_le_bytes()); // to the nodes
        head.extend((self.rows as i64).to_le_bytes());
        head.extend((20 + 16 * columns as u32).to_le_bytes()); // to the buffers
        head.extend([0; 8]);
        head.extend((columns as u32).to_le_bytes());
        head.extend(&nodes);
        head.extend([0; 4]);
        head.extend((buffers.len() as u32 / 16).to_le_bytes());
        head.extend(&buffers);
        let mut message = u32::MAX.to_le_bytes().to_vec();
        message.extend((head.len() as u32).to_le_bytes());
        message.extend(head);
        message.extend(body);
        message
    }
}

impl Column {
    fn put(&mut self, value: Option<&[u8]>) {
        self.valid.push(value.is_some());
        let size = match self.kind {
            Kind::Bytes8 => 8,
            Kind::Bytes4 => 4,
            Kind::Utf8 | Kind::Binary => value.map_or(0, <[u8]>::len),
        };
        let end = self.values.len() + size;
        self.values.extend_from_slice(&value.unwrap_or_default()[..size.min(value.map_or(0, <[u8]>::len))]);
        self.values.resize(end, 0);
        self.offsets.push(end as i32);
    }
}

fn bitmap(valid: &[bool]) -> Vec<u8> {
    let mut bits = vec![0; valid.len().div_ceil(8)];
    for (place, _) in valid.iter().enumerate().filter(|(_, valid)| **valid) {
        bits[place / 8] |= 1 << (place % 8);
    }
    bits
}

// -- frames ---------------------------------------------------------------------------------------------------------

struct Bridge {
    socket: UnixStream,
    epoch: u64,
}

impl Bridge {
    fn send(&mut self, opcode: u8, flags: u16, payload: &[u8]) -> io::Result<()> {
        let mut head = vec![VERSION, opcode];
        head.extend(flags.to_be_bytes());
        head.extend(self.epoch.to_be_bytes());
        head.extend((payload.len() as u32).to_be_bytes());
        self.socket.write_all(&head)?;
        self.socket.write_all(payload)
    }

    fn receive(&mut self) -> io::Result<(u8, Vec<u8>, Option<File>)> {
        let mut head = [0; HEADER_BYTES];
        let (count, descriptor) = ancillary::receive(&mut head)?;
        if count == 0 {
            std::process::exit(0); // the host is gone: there is nobody to work for
        }
        self.socket.read_exact(&mut head[count..])?;
        self.epoch = u64::from_be_bytes(head[4..12].try_into().expect("eight bytes"));
        let length = u32::from_be_bytes(head[12..].try_into().expect("four bytes"));
        let mut payload = vec![0; length as usize];
        self.socket.read_exact(&mut payload)?;
        Ok((head[1], payload, descriptor))
    }
}

/// Descriptors come beside the first byte of a frame; the standard library cannot receive them yet.
mod ancillary {
    use super::{File, FromRawFd, RawFd, SOCKET, io};

    #[repr(C)]
    struct Vector {
        base: *mut u8,
        length: usize,
    }

    #[repr(C)]
    struct Message {
        name: *mut u8,
        name_length: u32,
        vectors: *mut Vector,
        vector_count: usize,
        control: *mut u8,
        control_length: usize,
        flags: i32,
    }

    /// `struct cmsghdr` and room for eight descriptors.
    #[repr(C, align(8))]
    struct Control {
        length: usize,
        level: i32,
        kind: i32,
        descriptors: [RawFd; 8],
    }

    unsafe extern "C" {
        fn recvmsg(socket: RawFd, message: *mut Message, flags: i32) -> isize;
    }

    /// Some bytes, and the first descriptor of those that came with them; companions are closed.
    pub fn receive(buffer: &mut [u8]) -> io::Result<(usize, Option<File>)> {
        let mut vector = Vector { base: buffer.as_mut_ptr(), length: buffer.len() };
        let mut control = Control { length: 0, level: 0, kind: 0, descriptors: [-1; 8] };
        let mut message = Message {
            name: std::ptr::null_mut(),
            name_length: 0,
            vectors: &raw mut vector,
            vector_count: 1,
            control: (&raw mut control).cast(),
            control_length: size_of::<Control>(),
            flags: 0,
        };
        // SAFETY: every pointer is to something above that lives, with its true length.
        let count = unsafe { recvmsg(SOCKET, &raw mut message, 0) };
        if count < 0 {
            return Err(io::Error::last_os_error());
        }
        let came = if message.control_length > 16 { control.length.saturating_sub(16) / 4 } else { 0 };
        let mut files: Vec<File> = control.descriptors[..came.min(8)]
            .iter()
            // SAFETY: the kernel has just made them for us alone.
            .map(|number| unsafe { File::from_raw_fd(*number) })
            .collect();
        files.truncate(1);
        Ok((count as usize, files.pop()))
    }
}

// -- MessagePack: what the host's messages need of it -----------------------------------------------------------------

/// A value of a message.
#[derive(Clone, Debug)]
pub enum Value {
    Nothing,
    Flag(bool),
    Number(i64),
    Float(f64),
    Text(String),
    List(Vec<Value>),
    Map(Vec<(Value, Value)>),
}

static NOTHING: Value = Value::Nothing;

impl Value {
    fn read(mut bytes: &[u8]) -> io::Result<Self> {
        Self::next(&mut bytes)
    }

    /// A field of a map; nothing when there is none.
    pub fn get(&self, name: &str) -> &Value {
        let Value::Map(pairs) = self else { return &NOTHING };
        let named = |key: &Value| matches!(key, Value::Text(text) if text == name);
        pairs.iter().find(|(key, _)| named(key)).map_or(&NOTHING, |(_, value)| value)
    }

    pub fn text(&self) -> String {
        if let Value::Text(text) = self { text.clone() } else { String::new() }
    }

    pub fn number(&self) -> i64 {
        if let Value::Number(number) = self { *number } else { 0 }
    }

    pub fn items(&self) -> &[Value] {
        if let Value::List(items) = self { items } else { &[] }
    }

    fn next(bytes: &mut &[u8]) -> io::Result<Self> {
        let tag = take(bytes, 1)? as u8;
        Ok(match tag {
            0x00..=0x7F => Value::Number(i64::from(tag)),
            0xE0.. => Value::Number(i64::from(tag as i8)),
            0x80..=0x8F => Self::map(bytes, u64::from(tag & 15))?,
            0x90..=0x9F => Self::list(bytes, u64::from(tag & 15))?,
            0xA0..=0xBF => Self::string(bytes, u64::from(tag & 31))?,
            0xC2 | 0xC3 => Value::Flag(tag == 0xC3),
            0xC4..=0xC6 | 0xD9..=0xDB => {
                let size = if tag < 0xD0 { tag - 0xC4 } else { tag - 0xD9 };
                let length = take(bytes, 1 << size)?;
                Self::string(bytes, length)?
            }
            0xCA => Value::Float(f64::from(f32::from_bits(take(bytes, 4)? as u32))),
            0xCB => Value::Float(f64::from_bits(take(bytes, 8)?)),
            0xCC..=0xCF => Value::Number(take(bytes, 1 << (tag - 0xCC))? as i64),
            0xD0 => Value::Number(i64::from(take(bytes, 1)? as i8)),
            0xD1 => Value::Number(i64::from(take(bytes, 2)? as i16)),
            0xD2 => Value::Number(i64::from(take(bytes, 4)? as i32)),
            0xD3 => Value::Number(take(bytes, 8)? as i64),
            0xDC | 0xDD => {
                let count = take(bytes, 2 << (tag - 0xDC))?;
                Self::list(bytes, count)?
            }
            0xDE | 0xDF => {
                let count = take(bytes, 2 << (tag - 0xDE))?;
                Self::map(bytes, count)?
            }
            _ => Value::Nothing,
        })
    }

    fn list(bytes: &mut &[u8], count: u64) -> io::Result<Self> {
        Ok(Value::List((0..count).map(|_| Self::next(bytes)).collect::<io::Result<_>>()?))
    }

    fn map(bytes: &mut &[u8], count: u64) -> io::Result<Self> {
        let pairs = (0..count).map(|_| Ok((Self::next(bytes)?, Self::next(bytes)?)));
        Ok(Value::Map(pairs.collect::<io::Result<_>>()?))
    }

    fn string(bytes: &mut &[u8], length: u64) -> io::Result<Self> {
        let length = usize::try_from(length).map_err(io::Error::other)?;
        let (head, rest) = bytes.split_at_checked(length).ok_or_else(|| io::Error::other("a message that is cut"))?;
        *bytes = rest;
        Ok(Value::Text(String::from_utf8_lossy(head).into_owned()))
    }
}

/// A big-endian number of so many bytes.
fn take(bytes: &mut &[u8], size: usize) -> io::Result<u64> {
    let (head, rest) = bytes.split_at_checked(size).ok_or_else(|| io::Error::other("a message that is cut"))?;
    *bytes = rest;
    Ok(head.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
}

fn map(fields: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = vec![0x80 | fields.len() as u8];
    for (name, value) in fields {
        bytes.extend(text(name));
        bytes.extend(value);
    }
    bytes
}

fn text(text: &str) -> Vec<u8> {
    let mut bytes = vec![0xDB];
    bytes.extend((text.len() as u32).to_be_bytes());
    bytes.extend(text.as_bytes());
    bytes
}

fn integer(number: i64) -> Vec<u8> {
    let mut bytes = vec![0xD3];
    bytes.extend(number.to_be_bytes());
    bytes
}

fn counts_of(counts: &[(u16, i64)]) -> Vec<u8> {
    let mut bytes = vec![0xDF];
    bytes.extend((counts.len() as u32).to_be_bytes());
    for (number, count) in counts {
        bytes.extend(integer(i64::from(*number)));
        bytes.extend(integer(*count));
    }
    bytes
}
