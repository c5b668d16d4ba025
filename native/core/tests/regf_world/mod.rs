//! Hives to build: every kind of list, value and damage, with what must come out of them.
//!
//! Written from the format's description and sharing no code with the decoder.

#![allow(dead_code, unreachable_pub, reason = "each test uses its part")]
#![allow(clippy::unwrap_used, reason = "a test ends where its assumptions do")]

pub mod logs;
pub mod read;

/// Bytes in front of the first bin.
pub const BASE_BYTES: usize = 4096;
pub const NOWHERE: u32 = u32::MAX;
/// 2020-06-01 in 100 ns since 1601.
pub const TIME: u64 = 132_354_432_000_000_000;

/// How a key lists its subkeys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum List {
    Li,
    Lf,
    Lh,
    /// Lists of this many each.
    Ri(usize),
}

/// A value to write.
#[derive(Debug, Clone)]
pub struct Value {
    pub name: Option<String>,
    pub kind: u32,
    pub data: Vec<u8>,
}

/// A key to write, with everything below it.
#[derive(Debug, Clone)]
pub struct Node {
    pub name: String,
    pub class: Option<String>,
    pub values: Vec<Value>,
    pub subkeys: Vec<Node>,
    pub list: List,
    pub time: u64,
}

/// A key or value that was written.
#[derive(Debug, Clone)]
pub struct Written {
    /// From the first bin.
    pub at: u32,
    /// Of the cell.
    pub length: usize,
    pub is_key: bool,
    pub path: String,
    /// Of the key, or of the value; none for a default value.
    pub name: Option<String>,
}

/// A hive in the making.
#[derive(Debug, Clone)]
pub struct Hive {
    pub bytes: Vec<u8>,
    pub written: Vec<Written>,
    security: u32,
    /// Where the next cell goes, and the end of its bin.
    next: usize,
    bin_end: usize,
}

pub fn node(name: &str) -> Node {
    Node {
        name: name.to_owned(),
        class: None,
        values: vec![],
        subkeys: vec![],
        list: List::Lh,
        time: TIME,
    }
}

impl Node {
    pub fn value(mut self, name: &str, kind: u32, data: &[u8]) -> Self {
        self.values.push(Value {
            name: (!name.is_empty()).then(|| name.to_owned()),
            kind,
            data: data.to_vec(),
        });
        self
    }

    pub fn key(mut self, subkey: Node) -> Self {
        self.subkeys.push(subkey);
        self
    }

    pub fn listed(mut self, list: List) -> Self {
        self.list = list;
        self
    }

    pub fn class(mut self, class: &str) -> Self {
        self.class = Some(class.to_owned());
        self
    }
}

pub fn utf16(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

/// Text with its NUL.
pub fn sz(text: &str) -> Vec<u8> {
    utf16(&format!("{text}\0"))
}

/// Latin-1 when every character is, and whether it is.
fn stored_name(name: &str) -> (Vec<u8>, bool) {
    let latin: Option<Vec<u8>> = name
        .chars()
        .map(|character| u8::try_from(u32::from(character)).ok())
        .collect();
    match latin {
        Some(bytes) => (bytes, true),
        None => (utf16(name), false),
    }
}

/// `S-1-5-32-544` owns, `S-1-5-18` is the group.
fn descriptor() -> Vec<u8> {
    let mut bytes = vec![1, 0, 0, 0x80];
    for at in [20_u32, 36, 0, 0] {
        bytes.extend(at.to_le_bytes());
    }
    bytes.extend([1, 2, 0, 0, 0, 0, 0, 5]);
    bytes.extend(32_u32.to_le_bytes());
    bytes.extend(544_u32.to_le_bytes());
    bytes.extend([1, 1, 0, 0, 0, 0, 0, 5]);
    bytes.extend(18_u32.to_le_bytes());
    bytes
}

/// A whole hive with this root.
pub fn hive(root: &Node) -> Hive {
    let mut hive = Hive {
        bytes: vec![0; BASE_BYTES],
        written: vec![],
        security: NOWHERE,
        next: BASE_BYTES,
        bin_end: BASE_BYTES,
    };
    let descriptor = descriptor();
    let mut security = b"sk\0\0".to_vec();
    security.extend([0; 8]);
    security.extend(1_u32.to_le_bytes());
    security.extend((descriptor.len() as u32).to_le_bytes());
    security.extend(descriptor);
    hive.security = hive.cell(&security);
    let at = hive.write_key(root, NOWHERE, "");
    hive.finish(at);
    hive
}

impl Hive {
    /// Allocate a cell; returns its place from the first bin.
    pub fn cell(&mut self, data: &[u8]) -> u32 {
        let length = (data.len() + 4).next_multiple_of(8);
        if self.next + length > self.bin_end {
            self.close_bin();
            self.open_bin(length);
        }
        let at = self.next;
        self.bytes[at..at + 4].copy_from_slice(&(-(length as i32)).to_le_bytes());
        self.bytes[at + 4..at + 4 + data.len()].copy_from_slice(data);
        self.next += length;
        (at - BASE_BYTES) as u32
    }

    fn open_bin(&mut self, length: usize) {
        let size = (length + 32).next_multiple_of(4096);
        let at = self.bytes.len();
        self.bytes.resize(at + size, 0);
        self.bytes[at..at + 4].copy_from_slice(b"hbin");
        self.put(at + 4, ((at - BASE_BYTES) as u32).to_le_bytes());
        self.put(at + 8, (size as u32).to_le_bytes());
        self.next = at + 32;
        self.bin_end = at + size;
    }

    /// What is left of a bin is a free cell.
    fn close_bin(&mut self) {
        let left = (self.bin_end - self.next) as i32;
        if left > 0 {
            self.put(self.next, left.to_le_bytes());
        }
        self.next = self.bin_end;
    }

    pub fn put<const N: usize>(&mut self, at: usize, bytes: [u8; N]) {
        self.bytes[at..at + N].copy_from_slice(&bytes);
    }

    /// Change a field of the cell at `at`; `field` counts behind the size.
    pub fn put_in_cell<const N: usize>(&mut self, at: u32, field: usize, bytes: [u8; N]) {
        self.put(BASE_BYTES + at as usize + 4 + field, bytes);
    }

    fn write_key(&mut self, node: &Node, parent: u32, path: &str) -> u32 {
        let is_root = parent == NOWHERE;
        let path = match (is_root, path) {
            (true, _) => "\\".to_owned(),
            (false, "\\") => format!("\\{}", node.name),
            (false, _) => format!("{path}\\{}", node.name),
        };
        let (name, is_latin) = stored_name(&node.name);
        let flags = if is_latin { 0x20_u16 } else { 0 } | if is_root { 0xc } else { 0 };
        let mut data = b"nk".to_vec();
        data.extend(flags.to_le_bytes());
        data.extend(node.time.to_le_bytes());
        data.extend([0; 4]);
        data.extend(if is_root { 0 } else { parent }.to_le_bytes());
        data.extend((node.subkeys.len() as u32).to_le_bytes());
        data.extend([0; 4]);
        data.extend([0xff; 8]);
        data.extend((node.values.len() as u32).to_le_bytes());
        data.extend([0xff; 4]);
        data.extend(self.security.to_le_bytes());
        data.extend([0xff; 4]);
        data.extend([0; 20]);
        data.extend((name.len() as u16).to_le_bytes());
        data.extend([0; 2]);
        data.extend(&name);
        let at = self.cell(&data);
        self.note(at, true, &path, Some(&node.name));
        if let Some(class) = &node.class {
            let class = utf16(class);
            let place = self.cell(&class);
            self.put_in_cell(at, 48, place.to_le_bytes());
            self.put_in_cell(at, 74, (class.len() as u16).to_le_bytes());
        }
        if !node.values.is_empty() {
            let places: Vec<u32> = node
                .values
                .iter()
                .map(|value| self.write_value(value, &path))
                .collect();
            let list = self.cell(
                &places
                    .iter()
                    .flat_map(|at| at.to_le_bytes())
                    .collect::<Vec<_>>(),
            );
            self.put_in_cell(at, 40, list.to_le_bytes());
        }
        if !node.subkeys.is_empty() {
            let places: Vec<u32> = node
                .subkeys
                .iter()
                .map(|subkey| self.write_key(subkey, at, &path))
                .collect();
            let list = self.write_list(node.list, &places);
            self.put_in_cell(at, 28, list.to_le_bytes());
        }
        at
    }

    fn write_list(&mut self, list: List, places: &[u32]) -> u32 {
        let (signature, pad) = match list {
            List::Li => (b"li", 0),
            List::Lf => (b"lf", 4),
            List::Lh => (b"lh", 4),
            List::Ri(each) => {
                let lists: Vec<u32> = places
                    .chunks(each)
                    .map(|part| self.write_list(List::Lh, part))
                    .collect();
                return self.write_items(b"ri", 0, &lists);
            }
        };
        self.write_items(signature, pad, places)
    }

    fn write_items(&mut self, signature: &[u8; 2], pad: usize, places: &[u32]) -> u32 {
        let mut data = signature.to_vec();
        data.extend((places.len() as u16).to_le_bytes());
        for place in places {
            data.extend(place.to_le_bytes());
            data.extend(vec![b'#'; pad]);
        }
        self.cell(&data)
    }

    fn write_value(&mut self, value: &Value, path: &str) -> u32 {
        let name = value.name.as_deref().unwrap_or_default();
        let (stored, is_latin) = stored_name(name);
        let size = value.data.len() as u32;
        let mut data = b"vk".to_vec();
        data.extend((stored.len() as u16).to_le_bytes());
        if size <= 4 && size > 0 {
            data.extend((size | 1 << 31).to_le_bytes());
            let mut inline = value.data.clone();
            inline.resize(4, 0);
            data.extend(inline);
        } else {
            data.extend(size.to_le_bytes());
            let place = match size {
                0 => NOWHERE,
                1..=16_344 => self.cell(&value.data),
                _ => self.write_segments(&value.data),
            };
            data.extend(place.to_le_bytes());
        }
        data.extend(value.kind.to_le_bytes());
        data.extend(u16::from(is_latin).to_le_bytes());
        data.extend([0; 2]);
        data.extend(&stored);
        let at = self.cell(&data);
        self.note(at, false, path, value.name.as_deref());
        at
    }

    fn write_segments(&mut self, data: &[u8]) -> u32 {
        let places: Vec<u32> = data.chunks(16_344).map(|part| self.cell(part)).collect();
        let list = self.cell(
            &places
                .iter()
                .flat_map(|at| at.to_le_bytes())
                .collect::<Vec<_>>(),
        );
        let mut db = b"db".to_vec();
        db.extend((places.len() as u16).to_le_bytes());
        db.extend(list.to_le_bytes());
        self.cell(&db)
    }

    fn note(&mut self, at: u32, is_key: bool, path: &str, name: Option<&str>) {
        self.written.push(Written {
            at,
            length: self.length_of(at),
            is_key,
            path: path.to_owned(),
            name: name.map(str::to_owned),
        });
    }

    /// The length of the cell at `at`.
    pub fn length_of(&self, at: u32) -> usize {
        let at = BASE_BYTES + at as usize;
        let size = i32::from_le_bytes(self.bytes[at..at + 4].try_into().unwrap());
        size.unsigned_abs() as usize
    }

    /// Turn an allocated cell into a free one.
    pub fn free(&mut self, at: u32) {
        let length = self.length_of(at) as i32;
        self.put(BASE_BYTES + at as usize, length.to_le_bytes());
    }

    fn finish(&mut self, root: u32) {
        self.close_bin();
        let bins = (self.bytes.len() - BASE_BYTES) as u32;
        self.put(0, *b"regf");
        self.put(4, 7_u32.to_le_bytes());
        self.put(8, 7_u32.to_le_bytes());
        self.put(12, TIME.to_le_bytes());
        self.put(20, 1_u32.to_le_bytes());
        self.put(24, 5_u32.to_le_bytes());
        self.put(32, 1_u32.to_le_bytes());
        self.put(36, root.to_le_bytes());
        self.put(40, bins.to_le_bytes());
        self.put(44, 1_u32.to_le_bytes());
        let name = utf16("\\SystemRoot\\System32\\Config\\SOFTWARE");
        let shown = &name[name.len().saturating_sub(62)..];
        self.bytes[48..48 + shown.len()].copy_from_slice(shown);
        seal(&mut self.bytes);
    }

    /// The key or value that was written under this path and name.
    pub fn find(&self, is_key: bool, path: &str, name: Option<&str>) -> &Written {
        self.written
            .iter()
            .find(|one| {
                one.is_key == is_key && one.path == path && (is_key || one.name.as_deref() == name)
            })
            .unwrap()
    }
}

/// Make the checksum of the base block right.
pub fn seal(bytes: &mut [u8]) {
    let mut sum = 0;
    for number in bytes[..508].chunks_exact(4) {
        sum ^= u32::from_le_bytes(number.try_into().unwrap());
    }
    let sum: u32 = match sum {
        0 => 1,
        u32::MAX => u32::MAX - 1,
        sum => sum,
    };
    bytes[508..512].copy_from_slice(&sum.to_le_bytes());
}

/// A hive with something of everything: about 40 keys and 80 values in a dozen bins.
pub fn usual() -> Hive {
    let mut root = node("ROOT").listed(List::Ri(3)).class("top");
    for number in 0..8 {
        let list = [List::Li, List::Lf, List::Lh, List::Ri(2)][number % 4];
        let mut key = node(&format!("Key {number}"))
            .listed(list)
            .value("", 1, &sz(&format!("default of {number}")))
            .value("dword", 4, &(number as u32).to_le_bytes())
            .value("names", 7, &utf16("one\0two\0\0"));
        for below in 0..4 {
            key = key.key(
                node(&format!("Täg {below}"))
                    .value("Ключ", 2, &sz("%PATH%"))
                    .value("raw", 3, &[number as u8; 90]),
            );
        }
        root = root.key(key);
    }
    hive(&root.key(node("Big").value("data", 3, &[7; 40_000])))
}
