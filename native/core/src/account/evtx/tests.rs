//! Logs built byte by byte, and what the walk must say of each.

use proptest::prelude::*;

use super::*;
use crate::source::SliceSource;
use crate::tally::Tally;

const SLOT: usize = SLOT_BYTES as usize;

/// A record of `size` bytes whose event is filler without zeros.
fn record(id: u64, size: usize) -> Vec<u8> {
    let mut bytes = vec![0x55; size];
    bytes[..4].copy_from_slice(&RECORD_MAGIC);
    bytes[4..8].copy_from_slice(&(size as u32).to_le_bytes());
    bytes[8..16].copy_from_slice(&id.to_le_bytes());
    bytes[size - 4..].copy_from_slice(&(size as u32).to_le_bytes());
    bytes
}

/// A sealed chunk with records of `size` bytes, one for each id.
fn chunk(ids: std::ops::RangeInclusive<u64>, size: usize) -> Vec<u8> {
    let mut bytes = vec![0; 512];
    for id in ids.clone() {
        bytes.extend(record(id, size));
    }
    let free_space = bytes.len();
    bytes.resize(SLOT, 0);
    bytes[..8].copy_from_slice(b"ElfChnk\0");
    bytes[8..16].copy_from_slice(&ids.start().to_le_bytes());
    bytes[16..24].copy_from_slice(&ids.end().to_le_bytes());
    bytes[48..52].copy_from_slice(&(free_space as u32).to_le_bytes());
    seal(&mut bytes);
    bytes
}

/// Make both checksums of a chunk right.
fn seal(bytes: &mut [u8]) {
    let free_space = u32_at(bytes, 48).unwrap() as usize;
    let data = crc32fast::hash(&bytes[512..free_space]);
    bytes[52..56].copy_from_slice(&data.to_le_bytes());
    let header = crc32fast::hash(&[&bytes[..120], &bytes[128..512]].concat());
    bytes[124..128].copy_from_slice(&header.to_le_bytes());
}

fn log(chunks: &[Vec<u8>], dirty: bool) -> Vec<u8> {
    let mut header = vec![0; 4096];
    header[..8].copy_from_slice(FILE_MAGIC);
    header[42..44].copy_from_slice(&(chunks.len() as u16).to_le_bytes());
    header[120] = u8::from(dirty);
    let crc = crc32fast::hash(&header[..120]);
    header[124..128].copy_from_slice(&crc.to_le_bytes());
    header.extend(chunks.concat());
    header
}

fn account(bytes: &[u8]) -> Account {
    account_evtx(&SliceSource(bytes)).unwrap()
}

fn codes(account: &Account) -> Vec<&str> {
    account
        .findings
        .list()
        .iter()
        .map(|f| f.code.as_str())
        .collect()
}

/// Two chunks: ids 1 to 10 and 11 to 20, each record 100 bytes.
fn two_chunks() -> Vec<u8> {
    log(&[chunk(1..=10, 100), chunk(11..=20, 100)], false)
}

const FIRST: usize = 4096 + 512;

#[test]
fn a_whole_log_has_all_its_records_and_no_finding() {
    let account = account(&two_chunks());
    assert_eq!(
        (account.present, account.declared, account.damaged),
        (20, Some(20), 0)
    );
    assert_eq!(codes(&account), [""; 0]);
    let mut tally = Tally::new(4096, 65_536).unwrap();
    for index in 0..10 {
        tally.add((FIRST + index * 100) as u64, 100).unwrap();
        tally.add((FIRST + SLOT + index * 100) as u64, 100).unwrap();
    }
    assert_eq!(tally.compare(&account).unwrap(), []);
}

/// The free-space offset may lie anywhere in the last record, be it in its magic: behind damage, the record is still live.
#[test]
fn a_record_behind_damage_is_live_when_it_begins_before_the_free_space() {
    for inside in 0..=100 {
        let mut chunk = chunk(1..=10, 100);
        chunk[512 + 800] = 0; // the ninth record's magic
        chunk[48..52].copy_from_slice(&(512 + 900 + inside as u32).to_le_bytes());
        seal(&mut chunk);
        let account = account(&log(&[chunk], false));
        let (present, slack) = if inside == 0 { (9, 1) } else { (10, 0) };
        assert_eq!((account.present, account.damaged), (present, 1), "{inside}");
        assert_eq!(account.slack_records, slack, "{inside}");
    }
}

#[test]
fn each_damage_of_file_and_chunk_headers_has_its_code() {
    type Damage = fn(&mut Vec<u8>);
    let cases: [(&str, Damage, &[&str], u64); 8] = [
        (
            "magic",
            |b| b[0] = 0,
            &["file.magic", "file.header_crc"],
            20,
        ),
        ("header crc", |b| b[124] ^= 1, &["file.header_crc"], 20),
        (
            "chunk magic",
            |b| b[4096] = 0,
            &["chunk.magic", "chunk.header_crc"],
            20,
        ),
        (
            "chunk header",
            |b| b[4096 + 300] = 9,
            &["chunk.header_crc"],
            20,
        ),
        (
            "chunk data",
            |b| b[FIRST + 50] ^= 1,
            &["chunk.data_crc"],
            20,
        ),
        (
            "no slots",
            |b| b.truncate(4096),
            &["file.chunk_count", "source.truncated"],
            0,
        ),
        ("too short", |b| b.truncate(4095), &["file.too_short"], 0),
        ("empty", Vec::clear, &["file.too_short"], 0),
    ];
    for (name, damage, expected, present) in cases {
        let mut bytes = two_chunks();
        damage(&mut bytes);
        let account = account(&bytes);
        assert_eq!(
            (codes(&account).as_slice(), account.present),
            (expected, present),
            "{name}"
        );
    }
}

#[test]
fn a_stale_chunk_count_does_not_stop_the_walk_and_the_dirty_flag_explains_it() {
    for dirty in [true, false] {
        let mut bytes = log(&[chunk(1..=1, 100)], dirty);
        bytes.extend(vec![0; SLOT]);
        bytes.extend(chunk(2..=4, 100));
        let account = account(&bytes);
        assert_eq!(
            (account.present, codes(&account)),
            (4, vec!["file.chunk_count"])
        );
        let message = &account.findings.list()[0].message;
        assert_eq!(message.contains("which explains it"), dirty, "{message}");
    }
}

#[test]
fn a_damaged_region_is_one_unit_and_the_walk_goes_on_behind_it() {
    let mut bytes = two_chunks();
    bytes[FIRST + 100..FIRST + 300].fill(0);
    let account = account(&bytes);
    assert_eq!(
        (account.present, account.damaged, account.declared),
        (19, 1, Some(20))
    );
    let expected = [
        "chunk.data_crc",
        "chunk.damaged",
        "chunk.id_gap",
        "chunk.record_count",
        "source.truncated",
    ];
    assert_eq!(codes(&account), expected);
    let damaged = &account.findings.list()[1];
    assert_eq!((damaged.offset, damaged.length), (FIRST as u64 + 100, 200));
    assert!(
        account.findings.list()[2]
            .message
            .starts_with("record id 4 follows 1,")
    );
}

#[test]
fn damage_reaches_to_the_end_of_a_trusted_area_and_to_the_last_byte_of_an_untrusted_one() {
    let mut trusted = two_chunks();
    trusted[FIRST + 900..FIRST + 1000].fill(0);
    let account_trusted = account(&trusted);
    assert_eq!((account_trusted.present, account_trusted.damaged), (20, 1));

    let mut untrusted = two_chunks();
    untrusted[4096 + 8] ^= 1; // header checksum
    untrusted[FIRST + 904] ^= 1; // size of the last record, and with it the data checksum
    let account_untrusted = account(&untrusted);
    assert_eq!(
        (account_untrusted.present, account_untrusted.damaged),
        (20, 1)
    );
    assert_eq!(account_untrusted.declared, Some(10));
    let damaged = account_untrusted
        .findings
        .list()
        .iter()
        .find(|f| f.code == "chunk.damaged")
        .unwrap();
    // The high bytes of the repeated size are zeros.
    assert_eq!((damaged.offset, damaged.length), (FIRST as u64 + 900, 97));
}

#[test]
fn slack_records_are_counted_apart_and_zeroed_sectors_in_slack_are_told() {
    let mut bytes = chunk(1..=200, 100);
    bytes[48..52].copy_from_slice(&(512 + 50 * 100_u32).to_le_bytes());
    bytes[16..24].copy_from_slice(&50_u64.to_le_bytes());
    seal(&mut bytes);
    let whole = account(&log(&[bytes.clone()], false));
    assert_eq!((whole.present, whole.slack_records), (50, 150));
    assert_eq!(codes(&whole), [""; 0]);

    bytes[6144..7168].fill(0);
    let zeroed = account(&log(&[bytes], false));
    assert_eq!((zeroed.present, zeroed.slack_records), (50, 139));
    let finding = &zeroed.findings.list()[0];
    assert_eq!(
        (finding.code.as_str(), finding.offset, finding.length),
        ("chunk.slack_zeroed", 4096 + 6144, 1024)
    );
}

#[test]
fn a_record_in_slack_whose_end_was_zeroed_is_told_even_when_nothing_follows_it() {
    let mut bytes = chunk(1..=155, 418); // the last record ends in the chunk's last sector
    bytes[48..52].copy_from_slice(&(512 + 50 * 418_u32).to_le_bytes());
    bytes[16..24].copy_from_slice(&50_u64.to_le_bytes());
    seal(&mut bytes);
    assert_eq!(codes(&account(&log(&[bytes.clone()], false))), [""; 0]);

    bytes[SLOT - 512..].fill(0);
    let zeroed = account(&log(&[bytes], false));
    assert_eq!((zeroed.present, zeroed.slack_records), (50, 104));
    let [finding] = zeroed.findings.list() else {
        panic!("one finding, not {:?}", codes(&zeroed));
    };
    assert_eq!(
        (finding.code.as_str(), finding.offset, finding.length),
        ("chunk.slack_cut", 4096 + 512 + 154 * 418, 418)
    );
}

#[test]
fn a_cut_chunk_gives_its_whole_records_and_one_damaged_region() {
    let mut bytes = two_chunks();
    bytes.truncate(FIRST + SLOT + 550);
    let account = account(&bytes);
    assert_eq!((account.present, account.damaged), (16, 1));
    let expected = [
        "chunk.cut",
        "chunk.damaged",
        "chunk.record_count",
        "source.truncated",
    ];
    assert_eq!(codes(&account), expected);
}

#[test]
fn a_log_can_be_cut_anywhere() {
    let bytes = two_chunks();
    for length in (0..8192).chain((8192..bytes.len()).step_by(97)) {
        let account = account(&bytes[..length]);
        assert!(account.damaged <= account.present);
        assert_eq!(account.windows.total(), account.present);
    }
}

#[test]
fn a_slot_full_of_record_magics_ends_quickly() {
    let mut bytes = log(&[], true);
    bytes.extend(RECORD_MAGIC.repeat(SLOT / 4));
    assert_eq!(account(&bytes).damaged, 1);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..9000)) {
        account(&bytes);
    }

    #[test]
    fn changed_bytes_keep_the_figures_together(
        changes in proptest::collection::vec((0..2 * SLOT + 4096, any::<u8>()), 1..40),
        length in 4096..2 * SLOT + 4096,
    ) {
        let mut bytes = two_chunks();
        for (position, value) in changes {
            bytes[position] = value;
        }
        bytes.truncate(length);
        let account = account(&bytes);
        prop_assert!(account.damaged <= account.present);
        prop_assert_eq!(account.windows.total(), account.present);
        prop_assert_eq!(Account::from_bytes(&account.to_bytes()).unwrap(), account);
    }
}

#[test]
fn a_chunk_off_the_grid_is_told_with_its_place() {
    let mut log = two_chunks();
    let second = 4096 + SLOT;
    log.splice(second..second, [7; 1_000]);
    let account = account(&log);
    let findings = account.findings.list();
    let misplaced: Vec<u64> = findings
        .iter()
        .filter(|finding| finding.code == "chunk.misplaced")
        .map(|finding| finding.offset)
        .collect();
    assert_eq!(misplaced, [second as u64 + 1_000]);
}
