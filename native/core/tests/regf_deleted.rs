//! What is left of keys and values that were deleted.

#![allow(clippy::unwrap_used, reason = "a test ends where its assumptions do")]

mod regf_world;

use casparian_core::flags::{RECOVERED, SLACK};
use regf_world::read::{Row, decode};
use regf_world::*;

fn deleted(rows: Vec<Row>) -> Vec<Row> {
    rows.into_iter()
        .filter(|row| row.state == "deleted")
        .collect()
}

/// Delete a key as Windows does: it leaves its parent's list, and its cells are freed.
fn delete(hive: &mut Hive, path: &str) {
    let parent = path
        .rsplit_once('\\')
        .map(|(above, _)| if above.is_empty() { "\\" } else { above });
    let parent = hive.find(true, parent.unwrap(), None).at;
    hive.put_in_cell(parent, 20, 0_u32.to_le_bytes());
    let cells: Vec<u32> = hive
        .written
        .iter()
        .filter(|one| one.path.starts_with(path))
        .map(|one| one.at)
        .collect();
    for at in &cells {
        hive.free(*at);
    }
    // The lists of values are freed with them.
    for at in cells {
        let field = BASE_BYTES + at as usize + 4;
        if hive.bytes[field..].starts_with(b"nk") {
            let list = u32::from_le_bytes(hive.bytes[field + 40..field + 44].try_into().unwrap());
            if list != NOWHERE {
                hive.free(list);
            }
        }
    }
}

fn small() -> Hive {
    hive(
        &node("R").key(
            node("Gone")
                .value("secret", 1, &sz("data"))
                .value("n", 4, &[7, 0, 0, 0]),
        ),
    )
}

#[test]
fn deleted_keys_come_back_with_their_path_and_values() {
    let mut hive = small();
    delete(&mut hive, "\\Gone");
    let outcome = decode(&hive.bytes);
    outcome.check_units(&hive.bytes);
    let keys = deleted(outcome.keys());
    assert_eq!(keys.len(), 1);
    assert_eq!(keys[0].path, "?\\Gone");
    assert_eq!(keys[0].flags, RECOVERED | SLACK);
    let values = deleted(outcome.values());
    let names: Vec<_> = values
        .iter()
        .map(|row| (row.path.as_str(), row.name.as_deref()))
        .collect();
    assert_eq!(names, [("?\\Gone", Some("secret")), ("?\\Gone", Some("n"))]);
    // Its data still has an owner: nobody can say whose it is.
    assert_eq!(values[0].problems, ["data.reused"]);
}

#[test]
fn cells_that_were_merged_are_found_inside_the_free_cell() {
    let mut hive = small();
    delete(&mut hive, "\\Gone");
    // One free cell from the key to the end of the bin.
    let at = hive.find(true, "\\Gone", None).at;
    let left = (hive.bytes.len() - BASE_BYTES) as u32 - at;
    hive.put(BASE_BYTES + at as usize, left.to_le_bytes());
    let outcome = decode(&hive.bytes);
    outcome.check_units(&hive.bytes);
    assert_eq!(deleted(outcome.keys()).len(), 1);
    let values = deleted(outcome.values());
    assert_eq!(values.len(), 2);
    assert!(
        values
            .iter()
            .all(|row| row.path == "?\\Gone" && row.problems.is_empty())
    );
    let texts = outcome.column(
        casparian_core::regf::HiveOutput::Values,
        "value_text",
        regf_world::read::texts,
    );
    assert!(texts.contains(&Some("data".to_owned())));
}

#[test]
fn remnants_in_the_slack_of_a_cell_are_found_and_its_content_is_not_searched() {
    let remnant = {
        let mut vk = b"vk".to_vec();
        vk.extend(4_u16.to_le_bytes());
        vk.extend((4_u32 | 1 << 31).to_le_bytes());
        vk.extend([1, 2, 3, 4]);
        vk.extend(4_u32.to_le_bytes());
        vk.extend([1, 0, 0, 0]);
        vk.extend(b"left");
        vk
    };
    // The data itself looks like a value twice: once inside, once behind what is in use.
    let mut data = vec![0; 4];
    for _ in 0..2 {
        data.extend(40_u32.to_le_bytes());
        data.extend(&remnant);
        data.resize(data.len().next_multiple_of(8) + 4, 0);
    }
    let mut hive = hive(&node("R").value("data", 3, &data));
    let value = hive.find(false, "\\", Some("data")).at;
    hive.put_in_cell(value, 4, 36_u32.to_le_bytes());
    let outcome = decode(&hive.bytes);
    outcome.check_units(&hive.bytes);
    let values = deleted(outcome.values());
    assert_eq!(values.len(), 1, "{values:?}");
    assert_eq!(values[0].name.as_deref(), Some("left"));
}

#[test]
fn bins_behind_the_live_part_are_searched() {
    let mut hive = usual();
    let all = hive.written.len();
    let bins = (hive.bytes.len() - BASE_BYTES) as u32;
    let cut = bins / 2 / 4096 * 4096;
    // The big value's bins are the last; a cut in the middle of the others.
    hive.put(40, cut.to_le_bytes());
    seal(&mut hive.bytes);
    let outcome = decode(&hive.bytes);
    outcome.check_units(&hive.bytes);
    let behind = (BASE_BYTES as u32 + cut) as u64;
    let rows: Vec<_> = outcome.keys().into_iter().chain(outcome.values()).collect();
    assert_eq!(rows.len(), all);
    for row in rows {
        assert_eq!(row.offset >= behind, row.state == "deleted");
    }
}

#[test]
fn noise_that_only_looks_like_a_signature_is_no_remnant() {
    let mut hive = small();
    let mut noise = vec![];
    for number in 0..200_u32 {
        noise.extend(number.to_le_bytes());
        noise.extend(if number % 2 == 0 {
            b"nk\xff\xff"
        } else {
            b"vk\xff\xff"
        });
    }
    let at = hive.bytes.len() - 2000;
    hive.bytes[at..at + noise.len()].copy_from_slice(&noise);
    let outcome = decode(&hive.bytes);
    assert!(deleted(outcome.keys()).is_empty() && deleted(outcome.values()).is_empty());
}
