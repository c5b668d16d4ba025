//! Real logs, against the figures of published readers.
//!
//! Runs when `CASPARIAN_CORPUS` names the corpus. Where readers disagree, [`DECISIONS`] says what is right and why.

#![allow(clippy::unwrap_used, reason = "a test ends where its assumptions do")]

mod evtx_world;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use casparian_core::evtx::EvtxOptions;
use casparian_core::flags::SLACK;
use casparian_core::source::FileSource;
use evtx_world::json::Json;
use evtx_world::{Outcome, decode_with};

/// A file for which this decoder gives another number of live rows than most readers.
struct Decision {
    file: &'static str,
    rows: usize,
    quarantined: usize,
    why: &'static str,
}

const DECISIONS: &[Decision] = &[
    Decision {
        file: "System2.evtx",
        rows: 283,
        quarantined: 1,
        why: "the last chunk is cut at 64,832 bytes: it has 89 more whole records, which readers drop with it; \
              what follows them is the one damaged region",
    },
    Decision {
        file: "Microsoft-Windows-HelloForBusiness%4Operational.evtx",
        rows: 5,
        quarantined: 1,
        why: "the sixth record (at 3,984 of its chunk) was written in part: the copy of its size is zero, and zeros follow \
              up to the free space offset",
    },
    Decision {
        file: "Microsoft-Windows-LanguagePackSetup%4Operational.evtx",
        rows: 16,
        quarantined: 1,
        why: "the seventeenth record (at 7,928 of its chunk) was written in part, as above",
    },
    Decision {
        file: "sample-with-zero-data-size-event.evtx",
        rows: 449,
        quarantined: 1,
        why: "one record of the first chunk has size zero: readers give up the rest of the chunk, 114 whole records; \
              449 rows and 1 region are the 450 that the chunk headers declare",
    },
    Decision {
        file: "sample_with_a_bad_chunk_magic.evtx",
        rows: 298,
        quarantined: 89,
        why: "sectors were zeroed: readers lose what follows the first hole of a chunk; 82 records have lost their \
              template and are quarantined, with 7 damaged regions",
    },
];

/// Files with as many live rows as readers give, and quarantine besides.
const QUARANTINED: &[(&str, usize, &str)] = &[(
    "Application_no_crc32.evtx",
    38,
    "neither checksum of the chunk holds, so that its end is not known and the slack behind its 17 records is searched as \
     live: 34 stale records without their templates, and 4 regions between them",
)];

fn logs(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            logs(&path, found);
        } else if path
            .extension()
            .is_some_and(|extension| extension == "evtx")
        {
            found.push(path);
        }
    }
}

/// The values of a column in live rows.
fn live<T: Copy>(outcome: &Outcome, column: &[Option<T>]) -> Vec<Option<T>> {
    let flags = outcome.flags();
    let pairs = column.iter().zip(flags);
    let live = pairs.filter(|(_, flags)| flags & SLACK == 0);
    live.map(|(value, _)| *value).collect()
}

fn bounds(values: &[Option<u64>]) -> Option<(u64, u64)> {
    let values = || values.iter().flatten().copied();
    Some((values().min()?, values().max()?))
}

/// What a reader's figures say of record numbers.
fn reader_bounds(figures: &Json) -> Option<(u64, u64)> {
    Some((figures.u64("min_record_id")?, figures.u64("max_record_id")?))
}

/// Compare one file with the figures of other readers; returns what disagrees.
fn disagreements(path: &Path, outcome: &Outcome, figures: &Json) -> Vec<String> {
    let name = path.file_name().unwrap().to_str().unwrap();
    let header_ids = live(outcome, &outcome.u64s("header_record_id"));
    let rows = header_ids.len();
    let flags = outcome.quarantine_flags();
    let quarantined = flags.iter().filter(|flags| *flags & SLACK == 0).count();
    let expected = figures.u64("expected_records").unwrap() as usize;
    let decision = DECISIONS.iter().find(|decision| decision.file == name);
    let known = QUARANTINED.iter().find(|(file, ..)| *file == name);
    let (rows_right, quarantined_right) = match (decision, known) {
        (Some(decision), _) => (decision.rows, decision.quarantined),
        (None, Some((_, quarantined, _))) => (expected, *quarantined),
        (None, None) => (expected, 0),
    };
    let mut found = Vec::new();
    if let Some(decision) = decision {
        println!(
            "{name}: {rows} rows where readers give {expected}: {}",
            decision.why
        );
    }
    if let Some((_, quarantined, why)) = known {
        println!("{name}: {quarantined} rows of quarantine: {why}");
    }
    if (rows, quarantined) != (rows_right, quarantined_right) {
        found.push(format!(
            "{rows} rows and {quarantined} quarantined, not {rows_right} and {quarantined_right}"
        ));
    }
    let same_count = |reader: &str| {
        let figures = figures.get(reader)?;
        (figures.u64("records")? as usize == rows).then_some(figures)
    };
    if let Some(reader) = same_count("evtx_rust") {
        if bounds(&header_ids) != reader_bounds(reader) {
            found.push(format!("header record ids {:?}", bounds(&header_ids)));
        }
        let mut by_event_id: BTreeMap<String, u64> = BTreeMap::new();
        for id in live(outcome, &outcome.u32s("event_id")) {
            *by_event_id.entry(id.unwrap().to_string()).or_default() += 1;
        }
        let counts = reader.get("by_event_id").unwrap();
        let theirs = counts.map().map(|(id, count)| match count {
            Json::Number(count) => (id.clone(), *count as u64),
            other => panic!("no count: {other:?}"),
        });
        if by_event_id != theirs.collect() {
            found.push(format!("events by id {by_event_id:?}"));
        }
    }
    if let Some(reader) = same_count("dissect_eventlog") {
        let record_ids = live(outcome, &outcome.u64s("record_id"));
        if bounds(&record_ids) != reader_bounds(reader) {
            found.push(format!("EventRecordIDs {:?}", bounds(&record_ids)));
        }
    }
    found
}

#[test]
fn real_logs_give_what_published_readers_give_or_a_reason() {
    let Some(corpus) = std::env::var_os("CASPARIAN_CORPUS").map(PathBuf::from) else {
        println!("CASPARIAN_CORPUS is not set: nothing to compare with");
        return;
    };
    let oracle = fs::read_to_string(corpus.join("ORACLE.json")).unwrap();
    let oracle = Json::parse(&oracle);
    let figures = oracle.get("files").unwrap();
    let mut paths = Vec::new();
    logs(&corpus.join("evtx"), &mut paths);
    paths.sort();
    let mut wrong = Vec::new();
    for path in &paths {
        let source = FileSource::to_present_end(File::open(path).unwrap()).unwrap();
        let outcome = decode_with(&source, EvtxOptions::default());
        outcome.check_ledger(&source);
        outcome.items();
        let key = path.strip_prefix(&corpus).unwrap().to_str().unwrap();
        let found = disagreements(path, &outcome, figures.get(key).unwrap());
        wrong.extend(found.into_iter().map(|what| format!("{key}: {what}")));
    }
    println!("{} logs compared", paths.len());
    assert_eq!(paths.len(), 134);
    assert!(wrong.is_empty(), "{wrong:#?}");
}
