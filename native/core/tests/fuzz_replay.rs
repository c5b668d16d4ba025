//! Inputs of the fuzzers through the same checks, with stable Rust: whatever a fuzzer found (named for what was wrong), and
//! `seed-*`, a few that together take the ways through the code which hours of search came to know.

mod fuzz_checks;

use std::fs;
use std::path::Path;

/// The inputs of one target: `fuzz_inputs/TARGET/NAME`.
fn inputs(target: &str) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fuzz_inputs")
        .join(target);
    let mut found: Vec<_> = fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| {
            let path = entry.expect("a readable folder").path();
            let content = fs::read(&path).expect("a readable input");
            (path.display().to_string(), content)
        })
        .collect();
    found.sort();
    assert!(!found.is_empty(), "{} is empty", folder.display());
    found
}

#[test]
fn what_fuzzers_found_is_found_no_more() {
    for (target, check) in fuzz_checks::CHECKS {
        for (name, bytes) in inputs(target) {
            println!("{name}"); // shown when the check panics
            check(&bytes);
            // Also with its end cut off, and with a byte changed here and there.
            for part in 1..8 {
                check(&bytes[..bytes.len() * part / 8]);
                let mut changed = bytes.clone();
                if let Some(byte) = changed.get_mut(bytes.len() * part / 8) {
                    *byte ^= 1 << part;
                }
                check(&changed);
            }
        }
    }
}
