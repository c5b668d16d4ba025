//! Hives and logs built cell by cell, damaged in one place each.

use proptest::prelude::*;

use super::base::checksum;
use super::marvin::marvin32;
use super::*;
use crate::source::SliceSource;
use crate::tally::Tally;

const BIN: usize = BASE_BYTES;
const ROOT: usize = 32;

/// A cell of this many bytes, all told, that is allocated and begins with `data`.
fn cell(length: usize, data: &[u8]) -> Vec<u8> {
    let mut cell = (-(length as i32)).to_le_bytes().to_vec();
    cell.extend_from_slice(data);
    cell.resize(length, 0);
    cell
}

fn free(length: usize) -> Vec<u8> {
    let mut cell = (length as i32).to_le_bytes().to_vec();
    cell.resize(length, 0);
    cell
}

struct Key<'name> {
    name: &'name str,
    parent: usize,
    /// How many, and where their list is.
    subkeys: (u32, usize),
    values: (u32, usize),
}

fn key(key: &Key<'_>) -> Vec<u8> {
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

fn value(name: &str, size: u32, data_at: u32) -> Vec<u8> {
    let mut data = b"vk".to_vec();
    data.extend((name.len() as u16).to_le_bytes());
    for number in [size, data_at, 4, 1] {
        data.extend(u32::to_le_bytes(number));
    }
    data.extend_from_slice(name.as_bytes());
    cell((data.len() + 4).next_multiple_of(8), &data)
}

fn leaf(targets: &[(usize, &str)]) -> Vec<u8> {
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

fn bin(place: usize, cells: &[Vec<u8>]) -> Vec<u8> {
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

fn seal(image: &mut [u8]) {
    let sector: &[u8; 512] = image.first_chunk().unwrap();
    let sum = checksum(sector);
    image[508..512].copy_from_slice(&sum.to_le_bytes());
}

fn base(sequences: (u32, u32), file_type: u32, bins_bytes: usize) -> Vec<u8> {
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
struct Places {
    root: usize,
    list: usize,
    child: usize,
    values: usize,
    value: usize,
    data: usize,
}

/// A root with one subkey that has one value, and a second bin with nothing in it.
fn hive() -> (Vec<u8>, Places) {
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

fn account(image: &[u8]) -> Account {
    account_hive(&SliceSource(image), &[]).unwrap()
}

fn with_logs(image: &[u8], logs: &[(LogRole, &[u8])]) -> Account {
    let sources: Vec<_> = logs
        .iter()
        .map(|(role, bytes)| (*role, SliceSource(*bytes)))
        .collect();
    let logs: Vec<_> = sources
        .iter()
        .map(|(role, source)| HiveLog {
            role: *role,
            source,
        })
        .collect();
    account_hive(&SliceSource(image), &logs).unwrap()
}

fn codes(account: &Account) -> Vec<&str> {
    let list = account.findings.list().iter();
    list.map(|finding| finding.code.as_str()).collect()
}

fn has_units(account: &Account, units: &[(usize, usize)]) -> bool {
    let mut tally = Tally::new(BASE_BYTES as u64, WINDOW_BYTES).unwrap();
    for (offset, length) in units {
        tally.add(*offset as u64, *length as u64).unwrap();
    }
    tally.compare(account).unwrap().is_empty()
}

fn put(image: &mut [u8], at: usize, number: u32) {
    image[at..at + 4].copy_from_slice(&number.to_le_bytes());
}

#[test]
fn keys_and_values_are_units_and_nothing_else_is() {
    let (image, places) = hive();
    let account = account(&image);
    assert_eq!(codes(&account), [""; 0]);
    assert!(has_units(
        &account,
        &[(places.root, 88), (places.child, 88), (places.value, 32)]
    ));
    assert_eq!(
        (account.unit, account.declared, account.damaged),
        (Unit::Cell, Some(3), 0)
    );
}

#[test]
fn an_impossible_size_makes_a_region_up_to_the_next_cell_with_a_signature() {
    let (mut image, places) = hive();
    put(&mut image, places.list, 0);
    let account = account(&image);
    assert!(has_units(
        &account,
        &[
            (places.root, 88),
            (places.list, 16),
            (places.child, 88),
            (places.value, 32)
        ]
    ));
    assert_eq!(
        codes(&account),
        ["cell.damaged", "key.subkeys", "key.unlisted"]
    );
    assert_eq!(account.damaged, 1);
}

#[test]
fn a_size_that_runs_over_the_bin_takes_the_rest_of_it_when_nothing_follows() {
    let (mut image, places) = hive();
    put(&mut image, places.value, (-4096_i32) as u32);
    let account = account(&image);
    let rest = BIN + 4096 - places.value;
    assert!(has_units(
        &account,
        &[(places.root, 88), (places.child, 88), (places.value, rest)]
    ));
}

#[test]
fn a_bin_without_its_magic_is_one_region_and_zeros_at_the_end_are_none() {
    let (mut image, _) = hive();
    image[BIN] = b'x';
    let damaged = account(&image);
    assert!(has_units(&damaged, &[(BIN, 4096)]));
    assert_eq!(codes(&damaged), ["bin.damaged", "hive.root"]);

    image[BIN + 4096] = b'x';
    assert!(has_units(&account(&image), &[(BIN, 8192)]));

    let (mut image, places) = hive();
    image[BIN + 4096..].fill(0);
    let zeroed = account(&image);
    assert!(has_units(
        &zeroed,
        &[(places.root, 88), (places.child, 88), (places.value, 32)]
    ));
    assert_eq!(codes(&zeroed), ["bin.missing"]);
    let missing = &zeroed.findings.list()[0];
    assert_eq!((missing.offset, missing.length), (BIN as u64 + 4096, 4096));
}

#[test]
fn a_wrong_checksum_reads_to_the_end_and_a_right_one_ends_where_it_says() {
    let (mut image, _) = hive();
    image.extend(bin(8192, &[value("Lost", 0x8000_0004, 1)]));
    let ends = account(&image);
    assert_eq!((ends.present, codes(&ends)), (3, vec!["hive.bins_behind"]));
    image[508] ^= 1;
    let reads_on = account(&image);
    assert_eq!(reads_on.present, 4);
    assert_eq!(
        codes(&reads_on),
        ["hive.dirty", "hive.checksum", "value.unlisted"]
    );
}

#[test]
fn a_cut_file_is_said_to_be_cut() {
    let (image, _) = hive();
    let cut = account(&image[..BIN + 4096 + 100]);
    assert_eq!(codes(&cut), ["source.truncated", "bin.damaged"]);
    assert_eq!(cut.present, 4);
    assert_eq!(
        codes(&account(&image[..100])),
        ["hive.too_short", "hive.dirty"]
    );
}

/// Where a number is put, the number, and what is found.
type Lie = (fn(&Places) -> usize, u32, &'static [&'static str]);

#[test]
fn what_cells_say_of_each_other_is_checked() {
    let lies: [Lie; 8] = [
        (|p| p.root + 4 + 20, 2, &["key.subkeys"]),
        (|p| p.child + 4 + 36, 3, &["key.values"]),
        (|p| p.child + 4 + 16, 8, &["key.parent"]),
        (|p| p.child + 4 + 44, 8, &["key.security"]),
        (|p| p.list + 4 + 8, 1, &["key.name_hint"]),
        (|p| p.values + 4, 8, &["key.values", "value.unlisted"]),
        (|p| p.value + 4 + 4, 13, &["value.data"]),
        (|p| p.data, 16, &["value.data"]),
    ];
    for (place, lie, expected) in lies {
        let (mut image, places) = hive();
        put(&mut image, place(&places), lie);
        assert_eq!(codes(&account(&image)), expected, "{lie}");
    }
    let (mut image, places) = hive();
    let root = (places.root - BASE_BYTES) as u32;
    put(&mut image, places.list + 8, root);
    let loops = account(&image);
    assert_eq!(
        codes(&loops),
        [
            "key.listed_twice",
            "key.parent",
            "key.name_hint",
            "key.unlisted"
        ]
    );
}

/// An entry of a log that puts pages in their places (from the first bin).
fn entry(sequence: u32, bins_bytes: usize, pages: &[(usize, &[u8])]) -> Vec<u8> {
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

fn new_log(first: u32, entries: &[Vec<u8>]) -> Vec<u8> {
    let mut log = base((first, first), 6, 8192);
    log.extend(entries.concat());
    log
}

/// The hive of [`hive`] as a write left it that was cut short.
fn dirty() -> Vec<u8> {
    let (mut image, _) = hive();
    put(&mut image, 4, 10);
    seal(&mut image);
    image
}

fn second_bin(names: &[&str]) -> Vec<u8> {
    let values: Vec<_> = names.iter().map(|name| value(name, 0, 0)).collect();
    bin(4096, &values)
}

#[test]
fn entries_of_both_logs_are_applied_in_order_and_a_clean_hive_takes_none() {
    let one = second_bin(&["a"]);
    let two = second_bin(&["a", "b"]);
    let three = second_bin(&["a", "b", "c"]);
    let first = new_log(
        10,
        &[
            entry(10, 8192, &[(4096, &one)]),
            entry(11, 8192, &[(4096, &two)]),
        ],
    );
    let second = new_log(12, &[entry(12, 8192, &[(4096, &three)])]);
    let image = dirty();
    let none = with_logs(&image, &[]);
    assert_eq!((none.present, codes(&none)[0]), (3, "hive.dirty"));
    let logs = [
        (LogRole::Log1, second.as_slice()),
        (LogRole::Log2, first.as_slice()),
    ];
    let both = with_logs(&image, &logs);
    assert_eq!((both.present, codes(&both)[0]), (6, "hive.recovered"));
    assert!(
        both.findings.list()[0]
            .message
            .ends_with("applied: LOG2 entries 10 to 11, LOG1 entries 12 to 12")
    );
    assert_eq!(with_logs(&hive().0, &logs).present, 3);
    let gap = with_logs(
        &image,
        &[
            (LogRole::Log1, &second),
            (
                LogRole::Log2,
                &new_log(10, &[entry(10, 8192, &[(4096, &one)])]),
            ),
        ],
    );
    assert_eq!((gap.present, codes(&gap)[0]), (4, "log.gap"));
}

#[test]
fn a_broken_entry_ends_its_log() {
    let (one, two) = (second_bin(&["a"]), second_bin(&["a", "b"]));
    let good = entry(10, 8192, &[(4096, &one)]);
    let mut bad = entry(11, 8192, &[(4096, &two)]);
    for at in [5, 13, 30, 100] {
        bad[at] ^= 1;
        let log = new_log(10, &[good.clone(), bad.clone()]);
        let account = with_logs(&dirty(), &[(LogRole::Log1, &log)]);
        assert_eq!(account.present, 4, "{at}");
        assert!(codes(&account)[0].starts_with("log."), "{at}");
        bad[at] ^= 1;
    }
    let far = entry(10, 1 << 30, &[((1 << 30) - 4096, &one)]);
    let account = with_logs(&dirty(), &[(LogRole::Log1, &new_log(10, &[far]))]);
    assert_eq!((account.present, codes(&account)[0]), (3, "log.beyond"));
}

#[test]
fn a_base_block_that_is_not_valid_comes_from_the_log_and_a_hive_grows() {
    let mut image = dirty();
    image[100] ^= 1;
    image.truncate(BIN + 4096);
    let page = second_bin(&["a"]);
    let log = new_log(10, &[entry(10, 8192, &[(4096, &page)])]);
    let account = with_logs(&image, &[(LogRole::Log1, &log)]);
    assert_eq!(account.present, 4);
    assert_eq!(codes(&account), ["hive.recovered", "value.unlisted"]);
}

#[test]
fn sectors_of_an_old_log_are_applied_when_it_has_the_time_of_the_hive() {
    let page = second_bin(&["a"]);
    let mut log = base((10, 10), 1, 8192);
    log.extend(b"DIRT\x00\xff");
    log.resize(1024, 0);
    log.extend(&page);
    let image = dirty();
    let applied = with_logs(&image, &[(LogRole::Log, &log)]);
    assert_eq!((applied.present, codes(&applied)[0]), (4, "hive.recovered"));
    put(&mut log, 12, 76);
    seal(&mut log);
    let stale = with_logs(&image, &[(LogRole::Log, &log)]);
    assert_eq!((stale.present, codes(&stale)[0]), (3, "log.stale"));
    log.truncate(1024);
    put(&mut log, 12, 77);
    seal(&mut log);
    let cut = with_logs(&image, &[(LogRole::Log, &log)]);
    assert_eq!((cut.present, codes(&cut)[0]), (3, "log.cut"));
    let empty = with_logs(&image, &[(LogRole::Log1, &[]), (LogRole::Log2, &[0; 600])]);
    assert_eq!(codes(&empty), ["hive.dirty"]);
}

#[test]
fn lists_that_are_shared_by_many_liars_cost_a_bounded_number_of_steps() {
    let mut image = base((1, 1), 0, 1 << 20);
    image.resize(BASE_BYTES, 0);
    let mut bins = b"hbin\0\0\0\0".to_vec();
    bins.extend((1_u32 << 20).to_le_bytes());
    bins.resize(32, 0);
    let keys = 6_000;
    let list = 32 + keys * 88;
    for _ in 0..keys {
        bins.extend(key(&Key {
            name: "x",
            parent: 0,
            subkeys: (65_535, list),
            values: (65_535, list),
        }));
    }
    let targets = vec![(32, "x"); 50_000];
    bins.extend(leaf(&targets));
    let left = (1 << 20) - bins.len();
    bins.extend(free(left));
    image.extend(bins);
    let account = account(&image);
    assert!(codes(&account).len() <= crate::account::findings::FINDINGS_MAX + 1);
    assert_eq!((account.present, account.declared), (keys as u64, None));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Whatever is written over a hive and its log: no panic, every unit where the tally can hold it.
    #[test]
    fn no_bytes_make_it_panic(
        changes in proptest::collection::vec((0_usize..14_000, any::<u32>()), 0..12),
        length in 0_usize..14_000,
    ) {
        let page = second_bin(&["a"]);
        let mut all = dirty();
        let hive_bytes = all.len();
        all.extend(new_log(10, &[entry(10, 8192, &[(4096, &page)])]));
        for (at, number) in changes {
            if let Some(target) = all.get_mut(at..at + 4) {
                target.copy_from_slice(&number.to_le_bytes());
            }
        }
        let (image, log) = all.split_at(hive_bytes);
        let image = &image[..image.len().min(length)];
        let account = with_logs(image, &[(LogRole::Log1, log)]);
        prop_assert_eq!(account.windows.total(), account.present);
        prop_assert_eq!(Account::from_bytes(&account.to_bytes()).unwrap(), account);
    }
}
