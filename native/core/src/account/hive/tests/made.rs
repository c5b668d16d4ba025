//! Hives and their logs, built cell by cell and page by page.

use super::super::base::checksum;
use super::super::marvin::marvin32;
use super::super::*;

pub(super) const BIN: usize = BASE_BYTES;
pub(super) const ROOT: usize = 32;

/// A cell of this many bytes, all told, that is allocated and begins with `data`.
pub(super) fn cell(length: usize, data: &[u8]) -> Vec<u8> {
    let mut cell = (-(length as i32)).to_le_bytes().to_vec();
    cell.extend_from_slice(data);
    cell.resize(length, 0);
    cell
}

pub(super) fn free(length: usize) -> Vec<u8> {
    let mut cell = (length as i32).to_le_bytes().to_vec();
    cell.resize(length, 0);
    cell
}

pub(super) struct Key<'name> {
    pub(super) name: &'name str,
    pub(super) parent: usize,
    /// How many, and where their list is.
    pub(super) subkeys: (u32, usize),
    pub(super) values: (u32, usize),
}

pub(super) fn key(key: &Key<'_>) -> Vec<u8> {
    let mut data = vec![0; 76];
    data[..4].copy_from_slice(&[b'n', b'k', 0x20, 0]);
    for (at, number) in [
        (16, key.parent as u32),
        (20, key.subkeys.0),
        (28, key.subkeys.1 as u32),
        (36, key.values.0),
        (40, key.values.1 as u32),
        (44, u32::MAX),
        (48, u32::MAX),
        (72, key.name.len() as u32),
    ] {
        data[at..at + 4].copy_from_slice(&number.to_le_bytes());
    }
    data.extend_from_slice(key.name.as_bytes());
    cell((data.len() + 4).next_multiple_of(8), &data)
}

pub(super) fn value(name: &str, size: u32, data_at: u32) -> Vec<u8> {
    let mut data = b"vk".to_vec();
    data.extend((name.len() as u16).to_le_bytes());
    for number in [size, data_at, 4, 1] {
        data.extend(u32::to_le_bytes(number));
    }
    data.extend_from_slice(name.as_bytes());
    cell((data.len() + 4).next_multiple_of(8), &data)
}

pub(super) fn leaf(targets: &[(usize, &str)]) -> Vec<u8> {
    let mut data = b"lh".to_vec();
    data.extend((targets.len() as u16).to_le_bytes());
    for (target, name) in targets {
        let hash = name.bytes().fold(0_u32, |hash, byte| {
            hash.wrapping_mul(37)
                .wrapping_add(u32::from(byte.to_ascii_uppercase()))
        });
        data.extend((*target as u32).to_le_bytes());
        data.extend(hash.to_le_bytes());
    }
    cell((data.len() + 4).next_multiple_of(8), &data)
}

pub(super) fn bin(place: usize, cells: &[Vec<u8>]) -> Vec<u8> {
    let mut bin = b"hbin".to_vec();
    bin.extend((place as u32).to_le_bytes());
    bin.extend(4096_u32.to_le_bytes());
    bin.resize(32, 0);
    bin.extend(cells.concat());
    let left = 4096 - bin.len();
    if left > 0 {
        bin.extend(free(left));
    }
    bin
}

pub(super) fn seal(image: &mut [u8]) {
    let sector: &[u8; 512] = image.first_chunk().unwrap();
    let sum = checksum(sector);
    image[508..512].copy_from_slice(&sum.to_le_bytes());
}

pub(super) fn base(sequences: (u32, u32), file_type: u32, bins_bytes: usize) -> Vec<u8> {
    let mut base = b"regf".to_vec();
    for number in [sequences.0, sequences.1, 77, 0, 1, 5, file_type, 1] {
        base.extend(number.to_le_bytes());
    }
    base.extend((ROOT as u32).to_le_bytes());
    base.extend((bins_bytes as u32).to_le_bytes());
    base.resize(512, 0);
    seal(&mut base);
    base
}

/// Offsets of what [`hive`] holds, from the beginning of the file.
pub(super) struct Places {
    pub(super) root: usize,
    pub(super) list: usize,
    pub(super) child: usize,
    pub(super) values: usize,
    pub(super) value: usize,
    pub(super) data: usize,
}

/// A root with one subkey that has one value, and a second bin with nothing in it.
pub(super) fn hive() -> (Vec<u8>, Places) {
    let root_bytes = 88;
    let list = ROOT + root_bytes;
    let child = list + 16;
    let values = child + 88;
    let value_at = values + 8;
    let data = value_at + 32;
    let cells = [
        key(&Key {
            name: "root",
            parent: 0,
            subkeys: (1, list),
            values: (0, 0),
        }),
        leaf(&[(child, "Child")]),
        key(&Key {
            name: "Child",
            parent: ROOT,
            subkeys: (0, 0),
            values: (1, values),
        }),
        cell(8, &(value_at as u32).to_le_bytes()),
        value("Name", 12, data as u32),
        cell(16, b"twelve bytes"),
    ];
    assert_eq!(cells[0].len(), root_bytes);
    let mut image = base((9, 9), 0, 8192);
    image.resize(BASE_BYTES, 0);
    image.extend(bin(0, &cells));
    image.extend(bin(4096, &[]));
    let at = |place: usize| BIN + place;
    let places = Places {
        root: at(ROOT),
        list: at(list),
        child: at(child),
        values: at(values),
        value: at(value_at),
        data: at(data),
    };
    (image, places)
}

pub(super) fn put(image: &mut [u8], at: usize, number: u32) {
    image[at..at + 4].copy_from_slice(&number.to_le_bytes());
}

/// An entry of a log that puts pages in their places (from the first bin).
pub(super) fn entry(sequence: u32, bins_bytes: usize, pages: &[(usize, &[u8])]) -> Vec<u8> {
    let mut body = Vec::new();
    for (place, page) in pages {
        body.extend((*place as u32).to_le_bytes());
        body.extend((page.len() as u32).to_le_bytes());
    }
    for (_, page) in pages {
        body.extend_from_slice(page);
    }
    body.resize((body.len() + 40).next_multiple_of(512) - 40, 0);
    let mut entry = b"HvLE".to_vec();
    for number in [
        body.len() + 40,
        0,
        sequence as usize,
        bins_bytes,
        pages.len(),
    ] {
        entry.extend((number as u32).to_le_bytes());
    }
    entry.extend(marvin32(&body).to_le_bytes());
    entry.extend(marvin32(&entry).to_le_bytes());
    entry.extend(body);
    entry
}

pub(super) fn new_log(first: u32, entries: &[Vec<u8>]) -> Vec<u8> {
    let mut log = base((first, first), 6, 8192);
    log.extend(entries.concat());
    log
}

/// The hive of [`hive`] as a write left it that was cut short.
pub(super) fn dirty() -> Vec<u8> {
    let (mut image, _) = hive();
    put(&mut image, 4, 10);
    seal(&mut image);
    image
}

pub(super) fn second_bin(names: &[&str]) -> Vec<u8> {
    let values: Vec<_> = names.iter().map(|name| value(name, 0, 0)).collect();
    bin(4096, &values)
}
