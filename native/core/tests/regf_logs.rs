//! Transaction logs: which are applied, how far, and what they change.

#![allow(clippy::unwrap_used, reason = "a test ends where its assumptions do")]

mod regf_world;

use casparian_core::flags::{RECOVERED, SLACK};
use casparian_core::regf::{HiveOutput, LogRole};
use regf_world::logs::{make_dirty, new_log, old_log, push_entry};
use regf_world::read::{Outcome, decode_with, texts};
use regf_world::*;

/// The usual hive four times: as it was, and with one more change each; the third grows.
fn history() -> [Vec<u8>; 4] {
    let mut hive = usual();
    let first = hive.bytes.clone();
    let value = hive.find(false, "\\Key 7", Some("dword")).at;
    hive.put_in_cell(value, 8, 4_711_u32.to_le_bytes());
    let second = hive.bytes.clone();
    let key = hive.find(true, "\\Key 2", None).at;
    hive.put_in_cell(key, 20, 0_u32.to_le_bytes());
    hive.put_in_cell(key, 28, NOWHERE.to_le_bytes());
    for below in 0..4 {
        let at = hive.find(true, &format!("\\Key 2\\Täg {below}"), None).at;
        hive.free(at);
    }
    let third = hive.bytes.clone();
    // A new bin with a new value for a key.
    let value = hive.find(false, "\\Key 3", Some("names")).at;
    let at = hive.bytes.len();
    hive.bytes.resize(at + 4096, 0);
    hive.put(at, *b"hbin");
    hive.put(at + 4, ((at - BASE_BYTES) as u32).to_le_bytes());
    hive.put(at + 8, 4096_u32.to_le_bytes());
    hive.put(at + 32, (-4064_i32).to_le_bytes());
    let text = utf16("grown\0\0");
    hive.bytes[at + 36..at + 36 + text.len()].copy_from_slice(&text);
    hive.put_in_cell(value, 4, (text.len() as u32).to_le_bytes());
    hive.put_in_cell(value, 8, ((at + 32 - BASE_BYTES) as u32).to_le_bytes());
    hive.put(40, ((at + 4096 - BASE_BYTES) as u32).to_le_bytes());
    seal(&mut hive.bytes);
    [first, second, third, hive.bytes]
}

fn verdicts(outcome: &Outcome) -> Vec<String> {
    let verdicts = outcome.column(HiveOutput::Hives, "log_verdicts", regf_world::read::lists);
    verdicts.into_iter().flatten().flatten().flatten().collect()
}

fn sequences(outcome: &Outcome) -> Vec<Option<String>> {
    let sequences = outcome.column(HiveOutput::Hives, "log_sequences", regf_world::read::lists);
    sequences.into_iter().flatten().flatten().collect()
}

/// Live rows only, without what says where they come from.
fn live(outcome: &Outcome) -> Vec<(u64, String, Option<String>)> {
    let rows = outcome.keys().into_iter().chain(outcome.values());
    rows.filter(|row| row.state == "live")
        .map(|row| (row.offset, row.path, row.name))
        .collect()
}

fn changes(outcome: &Outcome) -> Vec<[Option<String>; 5]> {
    let column = |name| outcome.column(HiveOutput::Changes, name, texts);
    let (change, path, name) = (column("change"), column("key_path"), column("value_name"));
    let (before, after) = (column("before"), column("after"));
    (0..change.len())
        .map(|row| [&change, &path, &name, &before, &after].map(|column| column[row].clone()))
        .collect()
}

#[test]
fn entries_of_two_logs_are_applied_in_the_order_of_their_numbers() {
    let [first, second, third, fourth] = history();
    let mut dirty = first.clone();
    make_dirty(&mut dirty, 9, 8);
    let mut log1 = new_log(&first, 10);
    push_entry(&mut log1, &second, &third, 10);
    push_entry(&mut log1, &third, &fourth, 11);
    let mut log2 = new_log(&first, 9);
    push_entry(&mut log2, &first, &second, 9);
    let logs = vec![(LogRole::Log1, &log1[..]), (LogRole::Log2, &log2[..])];
    let outcome = decode_with(&dirty, logs);
    let expected = decode_with(&fourth, vec![]);
    assert_eq!(live(&outcome), live(&expected));
    outcome.check_units(&fourth);
    assert_eq!(verdicts(&outcome), ["log.applied", "log.applied"]);
    assert_eq!(
        sequences(&outcome),
        [Some("10-11".to_owned()), Some("9-9".to_owned())]
    );
    assert!(outcome.hive_problems().is_empty());
    let roles: Vec<_> = outcome
        .values()
        .into_iter()
        .filter_map(|row| row.from_log)
        .collect();
    assert!(roles.contains(&"LOG1".to_owned()) && roles.contains(&"LOG2".to_owned()));
}

#[test]
fn what_the_logs_change_is_told_with_before_and_after() {
    let [first, second, third, fourth] = history();
    let mut dirty = first.clone();
    make_dirty(&mut dirty, 9, 8);
    let mut log = new_log(&first, 9);
    push_entry(&mut log, &first, &second, 9);
    push_entry(&mut log, &second, &third, 10);
    push_entry(&mut log, &third, &fourth, 11);
    let outcome = decode_with(&dirty, vec![(LogRole::Log1, &log)]);
    let told = changes(&outcome);
    let row = |cells: [Option<&str>; 5]| cells.map(|cell| cell.map(str::to_owned));
    let expected = row([
        Some("modified"),
        Some("\\Key 7"),
        Some("dword"),
        Some("7"),
        Some("4711"),
    ]);
    assert!(told.contains(&expected), "{told:?}");
    let expected = row([
        Some("modified"),
        Some("\\Key 3"),
        Some("names"),
        Some("one\ntwo"),
        Some("grown"),
    ]);
    assert!(told.contains(&expected), "{told:?}");
    let removed = told
        .iter()
        .filter(|row| row[0].as_deref() == Some("removed"))
        .count();
    // Four keys, each with two values.
    assert_eq!(removed, 12);
    assert_eq!(told.len(), 14);
    let gone: Vec<_> = outcome
        .keys()
        .into_iter()
        .filter(|row| row.state == "superseded")
        .collect();
    assert_eq!(gone.len(), 4);
    assert!(
        gone.iter()
            .all(|row| row.flags == RECOVERED | SLACK && row.path.starts_with("\\Key 2\\"))
    );
    // What is superseded is not found again in the free cells.
    assert!(outcome.keys().iter().all(|row| row.state != "deleted"));
}

#[test]
fn a_clean_hive_is_taken_as_it_is() {
    let [first, second, ..] = history();
    let mut log = new_log(&first, 7);
    push_entry(&mut log, &first, &second, 7);
    let outcome = decode_with(&first, vec![(LogRole::Log, &log)]);
    assert_eq!(verdicts(&outcome), ["log.hive_clean"]);
    assert_eq!(live(&outcome), live(&decode_with(&first, vec![])));
    assert!(changes(&outcome).is_empty());
}

#[test]
fn recovery_stops_at_a_gap_and_at_a_broken_entry() {
    let [first, second, third, _] = history();
    let mut dirty = first.clone();
    make_dirty(&mut dirty, 9, 8);
    let mut log = new_log(&first, 9);
    push_entry(&mut log, &first, &second, 9);
    push_entry(&mut log, &second, &third, 11);
    let outcome = decode_with(&dirty, vec![(LogRole::Log1, &log)]);
    assert_eq!(live(&outcome), live(&decode_with(&second, vec![])));
    assert_eq!(sequences(&outcome), [Some("9-9".to_owned())]);

    let mut log = new_log(&first, 9);
    push_entry(&mut log, &first, &second, 9);
    let broken = push_entry(&mut log, &second, &third, 10);
    log[broken + 100] ^= 1;
    let outcome = decode_with(&dirty, vec![(LogRole::Log1, &log)]);
    assert_eq!(live(&outcome), live(&decode_with(&second, vec![])));

    // The very first one is broken: nothing is applied, and the hive says so.
    let mut log = new_log(&first, 9);
    let broken = push_entry(&mut log, &first, &second, 9);
    log[broken + 13] ^= 1;
    let outcome = decode_with(&dirty, vec![(LogRole::Log1, &log)]);
    assert_eq!(verdicts(&outcome), ["log.entry"]);
    assert_eq!(outcome.hive_problems(), ["hive.not_recovered"]);
    outcome.check_units(&dirty);
}

#[test]
fn logs_older_than_the_hive_and_logs_cut_short_are_refused() {
    let [first, second, ..] = history();
    let mut dirty = first.clone();
    make_dirty(&mut dirty, 9, 8);
    let mut old = new_log(&first, 7);
    push_entry(&mut old, &first, &second, 7);
    let mut torn = new_log(&first, 9);
    push_entry(&mut torn, &first, &second, 9);
    torn[4] ^= 3;
    let logs = vec![
        (LogRole::Log, &[][..]),
        (LogRole::Log1, &old),
        (LogRole::Log2, &torn),
    ];
    let outcome = decode_with(&dirty, logs);
    assert_eq!(
        verdicts(&outcome),
        ["log.empty", "log.sequence", "log.base_block"]
    );
    assert_eq!(outcome.hive_problems(), ["hive.not_recovered"]);
}

#[test]
fn a_log_of_the_old_format_is_applied_when_it_was_written_with_the_hive() {
    let [first, second, third, fourth] = history();
    let mut dirty = first.clone();
    make_dirty(&mut dirty, 9, 8);
    let log = old_log(&first, &fourth, 9);
    let outcome = decode_with(&dirty, vec![(LogRole::Log1, &log)]);
    assert_eq!(verdicts(&outcome), ["log.applied"]);
    assert_eq!(live(&outcome), live(&decode_with(&fourth, vec![])));
    outcome.check_units(&fourth);

    // A newer second log holds all that the first one does.
    let mut newer = third.clone();
    newer[12..20].copy_from_slice(&(TIME + 1).to_le_bytes());
    let log1 = old_log(&first, &second, 9);
    let log2 = old_log(&first, &newer, 9);
    let logs = vec![(LogRole::Log1, &log1[..]), (LogRole::Log2, &log2[..])];
    let outcome = decode_with(&dirty, logs);
    assert_eq!(verdicts(&outcome), ["log.not_chosen", "log.applied"]);
    assert_eq!(live(&outcome), live(&decode_with(&third, vec![])));

    // One of another time is not its log.
    let outcome = decode_with(&dirty, vec![(LogRole::Log1, &log2)]);
    assert_eq!(verdicts(&outcome), ["log.sequence"]);
}

#[test]
fn a_base_block_that_is_not_valid_comes_from_the_log() {
    let [first, second, third, _] = history();
    let mut broken = first.clone();
    broken[36..44].fill(0xee);
    let mut log1 = new_log(&first, 3);
    push_entry(&mut log1, &first, &second, 3);
    let mut log2 = new_log(&first, 4);
    push_entry(&mut log2, &first, &third, 4);
    // Only the log with the latest entries is used.
    let logs = vec![(LogRole::Log1, &log1[..]), (LogRole::Log2, &log2[..])];
    let outcome = decode_with(&broken, logs);
    assert_eq!(verdicts(&outcome), ["log.not_chosen", "log.applied"]);
    assert_eq!(live(&outcome), live(&decode_with(&third, vec![])));
    assert_eq!(outcome.hive_problems(), ["hive.checksum"]);
    let log = old_log(&first, &third, 4);
    let outcome = decode_with(&broken, vec![(LogRole::Log1, &log)]);
    assert_eq!(live(&outcome), live(&decode_with(&third, vec![])));
}

#[test]
fn a_log_cannot_make_a_hive_grow_without_filling_it() {
    let [first, second, ..] = history();
    let mut dirty = first.clone();
    make_dirty(&mut dirty, 9, 8);
    let mut huge = second.clone();
    huge[40..44].copy_from_slice(&0x7fff_f000_u32.to_le_bytes());
    let log = old_log(&first, &huge, 9);
    let outcome = decode_with(&dirty, vec![(LogRole::Log1, &log)]);
    let sizes = outcome.column(HiveOutput::Hives, "bins_bytes", regf_world::read::longs);
    assert!(sizes[0].unwrap() <= 64 << 20);
}
