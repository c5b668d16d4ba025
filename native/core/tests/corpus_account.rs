//! The accountants on real evidence, when `CASPARIAN_CORPUS` names the development corpus.
//!
//! Each expected figure comes from tools of others (`ORACLE.json` there). Where this walk rightly gives
//! another figure the difference is listed with the reason that the bytes show.

#![allow(clippy::unwrap_used, reason = "a test ends where its assumptions do")]

use std::env;
use std::fs::{self, File};
use std::path::PathBuf;

use casparian_core::account::{Account, account_evtx, account_lines};
use casparian_core::source::{FileSource, ReadAt as _};
use serde_json::Value;

/// Path below `evtx/`, records, damaged regions, and why they are not what the byte walk of the oracle found.
const DECIDED: [(&str, u64, u64, &str); 6] = [
    (
        "log2timeline-plaso/evtx/System2.evtx",
        283,
        1,
        "the last chunk is cut off inside of a record; the rest of that record is a damaged region",
    ),
    (
        "omerbenamram-evtx/Application_no_crc32.evtx",
        51,
        4,
        "no checksum holds, so the free-space offset is not believed and the older records behind it count",
    ),
    (
        "omerbenamram-evtx/Microsoft-Windows-HelloForBusiness%4Operational.evtx",
        5,
        1,
        "the sixth record is zeros from a sector border on, its repeated size too",
    ),
    (
        "omerbenamram-evtx/Microsoft-Windows-LanguagePackSetup%4Operational.evtx",
        16,
        1,
        "the last record is zeros from a sector border on, its repeated size too",
    ),
    (
        "omerbenamram-evtx/sample-with-zero-data-size-event.evtx",
        449,
        1,
        "one record has size 0; the walk goes on behind it, where the others gave up the chunk",
    ),
    (
        "omerbenamram-evtx/sample_with_a_bad_chunk_magic.evtx",
        380,
        7,
        "two chunks with zeroed headers hold records, and the walk goes on behind each damaged region",
    ),
];

fn corpus() -> Option<(PathBuf, Value)> {
    let root = PathBuf::from(env::var_os("CASPARIAN_CORPUS")?);
    let oracle = fs::read_to_string(root.join("ORACLE.json")).unwrap();
    // Some texts of the evidence hold unpaired surrogates, which the JSON reader refuses; no figure does.
    let oracle = oracle.replace(r"\ud", r"\u0");
    Some((root, serde_json::from_str(&oracle).unwrap()))
}

fn source(root: &std::path::Path, path: &str) -> FileSource {
    FileSource::to_present_end(File::open(root.join(path)).unwrap()).unwrap()
}

fn has(account: &Account, code: &str) -> bool {
    account.findings.list().iter().any(|f| f.code == code)
}

#[test]
fn every_event_log_has_the_records_that_a_walk_over_its_bytes_finds() {
    let Some((root, oracle)) = corpus() else {
        return;
    };
    let mut logs = 0;
    let mut differences = Vec::new();
    for (path, figures) in oracle["files"].as_object().unwrap() {
        let bytes = &figures["bytes_read_directly"];
        let Some(walked) = bytes["records_walked_in_live_area"].as_u64() else {
            continue;
        };
        logs += 1;
        let account = account_evtx(&source(&root, path)).unwrap();
        assert_eq!(Account::from_bytes(&account.to_bytes()).unwrap(), account);
        let mut differ =
            |what: &str, expected: &dyn std::fmt::Debug, found: &dyn std::fmt::Debug| {
                differences.push(format!(
                    "{path}: {what}: expected {expected:?}, found {found:?}"
                ));
            };
        let found = (account.present - account.damaged, account.damaged);
        let decided = DECIDED.iter().find(|case| path["evtx/".len()..] == *case.0);
        let expected = decided.map_or((walked, 0), |case| (case.1, case.2));
        if found != expected {
            differ("records and damaged regions", &expected, &found);
        }
        let flag = |name: &str| bytes[name].as_bool().unwrap();
        let some = |name: &str| bytes[name].as_u64().unwrap() > 0;
        for (code, expected) in [
            ("file.header_crc", !flag("header_crc_ok")),
            // The oracle looks at the checksums of chunks with the right magic only,
            // and this walk at the data checksum of whole chunks only.
            (
                "chunk.header_crc",
                some("chunk_header_crc_bad") || has(&account, "chunk.magic"),
            ),
            (
                "chunk.data_crc",
                some("chunk_data_crc_bad") && !has(&account, "chunk.cut"),
            ),
            (
                "file.chunk_count",
                bytes["header_chunk_count"] != bytes["chunks_present"],
            ),
        ] {
            if has(&account, code) != expected {
                differ(code, &expected, &!expected);
            }
        }
    }
    assert_eq!(logs, 134);
    assert_eq!(differences, [""; 0], "{differences:#?}");
}

#[test]
fn every_text_log_has_the_lines_that_were_counted() {
    let Some((root, oracle)) = corpus() else {
        return;
    };
    let mut texts = 0;
    let mut differences = Vec::new();
    for (path, figures) in oracle["files"].as_object().unwrap() {
        let Some(line_feeds) = figures["lines_lf"].as_u64() else {
            continue;
        };
        let source = source(&root, path);
        if path.ends_with(".gz") || path.ends_with(".xz") || source.len() < 2 {
            continue;
        }
        texts += 1;
        let account = account_lines(&source, None).unwrap();
        // The oracle looks at the last byte, which is the high one of a line feed in UTF-16 LE.
        let mut last = [0; 2];
        source.read_exact_at(&mut last, source.len() - 2).unwrap();
        let ended = figures["ends_with_newline"].as_bool().unwrap()
            || (figures["decodes_as"] == "utf-16" && last == *b"\n\0");
        let expected = line_feeds + u64::from(!ended);
        let found = account.present + account.blank_units;
        if found != expected {
            differences.push(format!(
                "{path}: expected {expected}, found {found}: {figures}"
            ));
        }
    }
    assert!(texts > 80, "{texts}");
    assert_eq!(differences, [""; 0], "{differences:#?}");
}
