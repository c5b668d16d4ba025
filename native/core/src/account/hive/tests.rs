//! Hives and logs built cell by cell, damaged in one place each.

mod made;

use proptest::prelude::*;

use self::made::*;
use super::*;
use crate::source::SliceSource;
use crate::tally::Tally;

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
