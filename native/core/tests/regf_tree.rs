//! Keys, values and what they hold, of sound hives and of hives that lie.

#![allow(clippy::unwrap_used, reason = "a test ends where its assumptions do")]

mod regf_world;

use arrow_array::cast::AsArray;
use casparian_core::regf::{HiveOptions, HiveOutput};
use casparian_core::source::SliceSource;
use regf_world::read::{Outcome, collect, decode, lists, longs, numbers, texts};
use regf_world::*;

fn value_texts(outcome: &Outcome) -> Vec<Option<String>> {
    outcome.column(HiveOutput::Values, "value_text", texts)
}

fn raws(outcome: &Outcome) -> Vec<Option<Vec<u8>>> {
    outcome.column(HiveOutput::Values, "value_raw", |batch, name| {
        let column = batch.column_by_name(name).unwrap().as_binary::<i32>();
        column.iter().map(|raw| raw.map(<[u8]>::to_vec)).collect()
    })
}

#[test]
fn every_key_and_value_of_a_sound_hive_is_a_live_row_without_a_problem() {
    let hive = usual();
    let outcome = decode(&hive.bytes);
    outcome.check_units(&hive.bytes);
    assert!(!outcome.has_findings());
    let mut expected: Vec<_> = hive.written.iter().filter(|one| one.is_key).collect();
    let keys = outcome.keys();
    assert_eq!(keys.len(), expected.len());
    for (row, one) in keys.iter().zip(&expected) {
        assert_eq!(row.offset, (BASE_BYTES + one.at as usize) as u64);
        assert_eq!(row.length, one.length as u64);
        assert_eq!((&row.path, &row.name), (&one.path, &one.name));
    }
    expected = hive.written.iter().filter(|one| !one.is_key).collect();
    let values = outcome.values();
    assert_eq!(values.len(), expected.len());
    for (row, one) in values.iter().zip(expected) {
        assert_eq!((&row.path, &row.name), (&one.path, &one.name));
    }
    let classes = outcome.column(HiveOutput::Keys, "class_name", texts);
    assert_eq!(classes[0].as_deref(), Some("top"));
    let owners = outcome.column(HiveOutput::Keys, "owner_sid", texts);
    assert!(
        owners
            .iter()
            .all(|owner| owner.as_deref() == Some("S-1-5-32-544"))
    );
    let groups = outcome.column(HiveOutput::Keys, "group_sid", texts);
    assert!(
        groups
            .iter()
            .all(|group| group.as_deref() == Some("S-1-5-18"))
    );
}

#[test]
fn each_type_of_value_has_its_column_and_loses_nothing() {
    let lone = [&utf16("a")[..], &[0, 0xd8], &utf16("b")].concat();
    let behind = [sz("seen"), utf16("hidden")].concat();
    // Type, data, text, number, and whether the bytes are kept as well.
    type Case = (u32, Vec<u8>, Option<&'static str>, Option<u64>, bool);
    let table: Vec<Case> = vec![
        (0, vec![1, 2, 3, 4, 5], None, None, true),
        (1, sz("text"), Some("text"), None, false),
        (1, utf16("no NUL"), Some("no NUL"), None, false),
        (1, vec![], Some(""), None, false),
        (2, sz("%A%"), Some("%A%"), None, false),
        (6, utf16("\\Link"), Some("\\Link"), None, false),
        (1, behind, Some("seen"), None, true),
        (1, lone, Some("a\u{fffd}b"), None, true),
        (1, vec![b'x', 0, b'y'], Some("x"), None, true),
        (3, vec![9; 8], None, None, true),
        (
            4,
            vec![1, 0, 0, 0x80],
            Some("2147483649"),
            Some(0x8000_0001),
            false,
        ),
        (
            5,
            vec![0x80, 0, 0, 1],
            Some("2147483649"),
            Some(0x8000_0001),
            false,
        ),
        (
            11,
            vec![0xff; 8],
            Some("18446744073709551615"),
            Some(u64::MAX),
            false,
        ),
        (4, vec![1, 0], None, None, true),
        (4, vec![1, 0, 0, 0, 7, 7, 7, 7], Some("1"), Some(1), true),
        (0x211, vec![5; 5], None, None, true),
    ];
    let mut root = node("R");
    for (number, (kind, data, ..)) in table.iter().enumerate() {
        root = root.value(&format!("v{number}"), *kind, data);
    }
    let outcome = decode(&hive(&root).bytes);
    let integers = outcome.column(HiveOutput::Values, "value_int", longs);
    let (texts_found, raws_found) = (value_texts(&outcome), raws(&outcome));
    for (number, (kind, data, text, integer, has_raw)) in table.iter().enumerate() {
        assert_eq!(texts_found[number].as_deref(), *text, "{number}: {kind}");
        assert_eq!(integers[number], *integer, "{number}: {kind}");
        let raw = raws_found[number].as_ref();
        assert_eq!(raw, has_raw.then_some(data), "{number}: {kind}");
    }
    let names = outcome.column(HiveOutput::Values, "type_name", texts);
    assert_eq!(names[15].as_deref(), Some("0x00000211"));
    assert_eq!(names[11].as_deref(), Some("REG_DWORD_BIG_ENDIAN"));
}

#[test]
fn lists_of_texts_keep_empty_items_between_others() {
    let root = node("R")
        .value("plain", 7, &utf16("one\0two\0\0"))
        .value("renames", 7, &utf16("file\0\0other\0target\0\0"))
        .value("nothing", 7, &[])
        .value("open", 7, &utf16("end"));
    let outcome = decode(&hive(&root).bytes);
    let found = outcome.column(HiveOutput::Values, "value_list", lists);
    let expected: [&[&str]; 4] = [
        &["one", "two"],
        &["file", "", "other", "target"],
        &[],
        &["end"],
    ];
    for (list, expected) in found.iter().zip(expected) {
        let list: Vec<_> = list.as_ref().unwrap().iter().flatten().collect();
        assert_eq!(list, expected);
    }
}

#[test]
fn big_data_is_put_together_and_cut_at_its_limit() {
    let big: Vec<u8> = (0..100_000_u32).map(|place| (place % 251) as u8).collect();
    let huge = vec![3; (1 << 20) + 5];
    let root = node("R")
        .value("big", 3, &big)
        .value("huge", 3, &huge)
        .value("edge", 3, &[1; 16_344]);
    let outcome = decode(&hive(&root).bytes);
    let found = raws(&outcome);
    assert_eq!(found[0].as_ref().unwrap(), &big);
    assert_eq!(found[1].as_ref().unwrap(), &huge[..1 << 20]);
    assert_eq!(found[2].as_ref().unwrap().len(), 16_344);
    assert_eq!(outcome.values()[1].problems, ["data.over_limit"]);
}

#[test]
fn batches_of_any_size_hold_the_same_rows_in_the_same_order() {
    let hive = usual();
    let whole = decode(&hive.bytes);
    for (batch_rows, batch_bytes) in [(1, 1 << 20), (7, 1 << 20), (1_000, 1)] {
        let options = HiveOptions {
            batch_rows,
            batch_bytes,
        };
        let outcome = collect(SliceSource(&hive.bytes[..]), vec![], options);
        assert!(outcome.batches.len() > whole.batches.len());
        assert_eq!(outcome.keys(), whole.keys());
        assert_eq!(outcome.values(), whole.values());
    }
}

#[test]
fn a_loop_ends_and_says_where_it_is() {
    let mut hive = usual();
    let top = hive.find(true, "\\", None).at;
    let below = hive.find(true, "\\Key 3\\Täg 1", None).at;
    // A key far down has the root as its subkey.
    let mut list = b"li\x01\0".to_vec();
    list.extend(top.to_le_bytes());
    let victim = hive.find(false, "\\Key 3\\Täg 1", Some("raw")).at;
    hive.put_in_cell(victim, 0, *b"li");
    hive.put_in_cell(victim, 2, 1_u16.to_le_bytes());
    hive.put_in_cell(victim, 4, top.to_le_bytes());
    hive.put_in_cell(below, 20, 1_u32.to_le_bytes());
    hive.put_in_cell(below, 28, victim.to_le_bytes());
    let outcome = decode(&hive.bytes);
    outcome.check_units(&hive.bytes);
    let row = outcome
        .keys()
        .into_iter()
        .find(|row| row.path == "\\Key 3\\Täg 1");
    let problems = row.unwrap().problems;
    assert!(
        problems.contains(&"subkeys.repeated".to_owned()),
        "{problems:?}"
    );
}

#[test]
fn keys_deeper_than_windows_allows_are_orphans() {
    let mut inner = node("x");
    for _ in 0..600 {
        inner = node("x").key(inner);
    }
    let hive = hive(&inner);
    let outcome = decode(&hive.bytes);
    outcome.check_units(&hive.bytes);
    assert_eq!(outcome.live_paths().len(), 513);
    let limited: Vec<_> = outcome
        .keys()
        .into_iter()
        .filter(|row| row.problems.contains(&"limit.depth".to_owned()))
        .collect();
    assert_eq!(limited.len(), 1);
    assert_eq!(outcome.keys().len(), 601);
}

#[test]
fn lists_shared_by_every_key_cost_no_more_than_the_hive_is_long() {
    let mut root = node("R");
    for number in 0..3_000 {
        root = root.key(node(&format!("k{number}")).value("v", 4, &[1, 0, 0, 0]));
    }
    let mut hive = hive(&root);
    let top = hive.find(true, "\\", None).at;
    let at = BASE_BYTES + top as usize + 4 + 28;
    let list: [u8; 4] = hive.bytes[at..at + 4].try_into().unwrap();
    let keys: Vec<u32> = hive
        .written
        .iter()
        .filter(|one| one.is_key)
        .map(|one| one.at)
        .collect();
    for key in keys {
        hive.put_in_cell(key, 20, u32::MAX.to_le_bytes());
        hive.put_in_cell(key, 28, list);
        hive.put_in_cell(key, 36, u32::MAX.to_le_bytes());
    }
    let outcome = decode(&hive.bytes);
    outcome.check_units(&hive.bytes);
    assert_eq!(outcome.keys().len(), 3_001);
    let is_limited = |row: &regf_world::read::Row| row.problems.contains(&"limit.work".to_owned());
    assert!(outcome.keys().iter().any(is_limited));
}

#[test]
fn paths_that_grow_without_bound_are_cut_and_names_are_not() {
    let name = "n".repeat(60_000);
    let mut inner = node("last");
    for _ in 0..20 {
        inner = node(&name).key(inner);
    }
    let hive = hive(&node("R").key(inner));
    let outcome = decode(&hive.bytes);
    outcome.check_units(&hive.bytes);
    let keys = outcome.keys();
    assert_eq!(keys.len(), 22);
    assert!(keys.iter().all(|row| row.path.len() <= (256 << 10) + 2));
    assert_eq!(keys[20].name.as_ref().unwrap().len(), 60_000);
    assert!(keys[20].problems.contains(&"limit.path".to_owned()));
}

#[test]
fn orphans_have_the_path_that_their_parents_tell() {
    let mut hive = usual();
    let key = hive.find(true, "\\Key 5", None).at;
    // Nobody finds the subkeys any more.
    hive.put_in_cell(key, 20, 0_u32.to_le_bytes());
    let outcome = decode(&hive.bytes);
    outcome.check_units(&hive.bytes);
    let orphans: Vec<_> = outcome
        .keys()
        .into_iter()
        .filter(|row| row.state == "orphaned")
        .collect();
    let paths: Vec<_> = orphans.iter().map(|row| row.path.as_str()).collect();
    let expected: Vec<_> = (0..4)
        .map(|below| format!("?\\Key 5\\Täg {below}"))
        .collect();
    assert_eq!(paths, expected);
    let values = outcome
        .values()
        .into_iter()
        .filter(|row| row.state == "orphaned");
    assert_eq!(
        values
            .filter(|row| row.path.starts_with("?\\Key 5\\"))
            .count(),
        8
    );
}

#[test]
fn parents_in_a_loop_end() {
    let mut hive = usual();
    let key = hive.find(true, "\\Key 5", None).at;
    let (one, two) = (
        hive.find(true, "\\Key 5\\Täg 1", None).at,
        hive.find(true, "\\Key 5\\Täg 2", None).at,
    );
    hive.put_in_cell(key, 20, 0_u32.to_le_bytes());
    hive.put_in_cell(one, 16, two.to_le_bytes());
    hive.put_in_cell(two, 16, one.to_le_bytes());
    let outcome = decode(&hive.bytes);
    outcome.check_units(&hive.bytes);
    let row = outcome
        .keys()
        .into_iter()
        .find(|row| row.offset == u64::from(one) + 4096)
        .unwrap();
    assert_eq!(
        (row.path.as_str(), row.problems.as_slice()),
        ("?\\Täg 1", &["key.parent_other".to_owned()][..])
    );
}

#[test]
fn cells_too_short_for_what_they_are_go_to_quarantine() {
    let mut hive = usual();
    let key = hive.find(true, "\\Key 1\\Täg 0", None).clone();
    let value = hive.find(false, "\\Key 2", Some("names")).clone();
    hive.put_in_cell(key.at, 72, 60_000_u16.to_le_bytes());
    hive.put_in_cell(value.at, 2, 60_000_u16.to_le_bytes());
    let outcome = decode(&hive.bytes);
    outcome.check_units(&hive.bytes);
    let place = |one: &Written| ((BASE_BYTES + one.at as usize) as u64, one.length as u64);
    let expected = [
        (place(&key).0, place(&key).1, "key.name".to_owned()),
        (place(&value).0, place(&value).1, "value.name".to_owned()),
    ];
    assert_eq!(outcome.quarantine(), expected);
    let keys = outcome.keys();
    let parent = keys.iter().find(|row| row.path == "\\Key 1").unwrap();
    assert_eq!(parent.problems, ["subkeys.dangling"]);
    let owner = keys.iter().find(|row| row.path == "\\Key 2").unwrap();
    assert_eq!(owner.problems, ["values.dangling"]);
}

#[test]
fn a_root_that_is_elsewhere_is_found_by_its_flag() {
    let mut hive = usual();
    let count = decode(&hive.bytes).live_paths().len();
    hive.put(36, 0x7ff8_u32.to_le_bytes());
    seal(&mut hive.bytes);
    let outcome = decode(&hive.bytes);
    assert_eq!(outcome.live_paths().len(), count);
    assert_eq!(outcome.hive_problems(), ["hive.root"]);
}

#[test]
fn nothing_and_noise_are_a_hive_row_and_quarantine() {
    for bytes in [
        vec![],
        vec![0; 10],
        vec![0xff; 4096],
        vec![0xff; 30_000],
        b"regf".to_vec(),
    ] {
        let outcome = decode(&bytes);
        outcome.check_units(&bytes);
        assert!(outcome.keys().is_empty());
        assert!(outcome.hive_problems().contains(&"hive.root".to_owned()));
        let versions = outcome.column(HiveOutput::Hives, "major_version", numbers);
        assert_eq!(versions.len(), 1);
    }
}
