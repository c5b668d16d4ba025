//! Compile the identities of the sources into the module.
//!
//! * The engine's identity covers everything that decides which rows come out: `native/**/*.rs`,
//!   `Cargo.lock`, and the guest and the SDK in Python.
//! * The identity of each first-party parser covers its folder, and its statement is signed (`build/statements.rs`).
//!
//! Both identities are [`identity::tree_hash`] over paths relative to the project (engine) or to the parser's folder.

use std::env;
use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

#[path = "../core/src/identity.rs"]
#[allow(dead_code, missing_docs, unreachable_pub)]
mod identity;
#[path = "build/statements.rs"]
mod statements;

const ENGINE_DOMAIN: &str = "casparian.engine.v1";
const ARTIFACT_DOMAIN: &str = "casparian.artifact.v1";
/// Says something about a parser's folder and is no part of it.
const STATEMENT_FILE: &str = "statement.dsse.json";

/// Path with forward slashes, and content.
type Files = Vec<(String, Vec<u8>)>;

fn main() -> Result<(), Box<dyn Error>> {
    let project = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?).join("../..");
    let project = project.canonicalize()?;

    let mut engine = Files::new();
    for (folder, extension) in [
        ("native", "rs"),
        ("casparian/guest", "py"),
        ("casparian/sdk", "py"),
    ] {
        let mut files = Files::new();
        collect(&project.join(folder), &project, &mut files)?;
        let suffix = format!(".{extension}");
        engine.extend(
            files
                .into_iter()
                .filter(|(path, _)| path.ends_with(&suffix)),
        );
        watch(&project.join(folder));
    }
    let lock = project.join("Cargo.lock");
    engine.push(("Cargo.lock".to_owned(), fs::read(&lock)?));
    watch(&lock);

    let key = statements::ReleaseKey::of_build()?;
    let mut parsers = String::new();
    let mut signed = String::new();
    let folder = project.join("parsers");
    watch(&folder);
    for name in sorted_names(&folder)? {
        let path = folder.join(&name);
        if is_left_out(&name) || !path.is_dir() {
            continue;
        }
        let mut files = Files::new();
        collect(&path, &path, &mut files)?;
        files.retain(|(path, _)| path != STATEMENT_FILE);
        if !files.is_empty() {
            let hash = identity::tree_hash(ARTIFACT_DOMAIN, &files);
            write!(parsers, "({name:?}, {hash:?}), ")?;
            let envelope = key
                .sign(&files, &hash)
                .map_err(|error| format!("{name}: {error}"))?;
            write!(signed, "({name:?}, {envelope:?}), ")?;
        }
    }

    let engine_hash = identity::tree_hash(ENGINE_DOMAIN, &engine);
    let rustc = Command::new(env::var("RUSTC")?).arg("--version").output()?;
    let rustc = String::from_utf8(rustc.stdout)?;
    let generated = format!(
        "pub(crate) const ENGINE_SOURCES_HASH: &str = {engine_hash:?};\n\
         pub(crate) const FIRST_PARTY_PARSERS: &[(&str, &str)] = &[{parsers}];\n\
         pub(crate) const FIRST_PARTY_STATEMENTS: &[(&str, &str)] = &[{signed}];\n\
         pub(crate) const RELEASE_KEY: (&str, bool) = ({:?}, {:?});\n\
         pub(crate) const SOURCE_DATE: &str = {:?};\n\
         pub(crate) const RUSTC: &str = {:?};\n\
         pub(crate) const PROFILE: &str = {:?};\n",
        key.public(),
        key.development,
        statements::source_date()?.to_string(),
        rustc.trim(),
        env::var("PROFILE")?,
    );
    let path = PathBuf::from(env::var("OUT_DIR")?).join("identities.rs");
    fs::write(path, generated)?;
    watch(&project.join("native/python/build.rs"));
    watch(&project.join("native/python/build"));
    Ok(())
}

/// Every file below `folder`, by its path relative to `base`; nothing when there is no such folder.
fn collect(folder: &Path, base: &Path, files: &mut Files) -> Result<(), Box<dyn Error>> {
    for name in sorted_names(folder)? {
        if is_left_out(&name) {
            continue;
        }
        let path = folder.join(&name);
        let kind = fs::symlink_metadata(&path)?.file_type();
        if kind.is_dir() {
            collect(&path, base, files)?;
        } else if kind.is_file() {
            let relative = path.strip_prefix(base)?;
            let relative = relative.to_str().ok_or("a source path is not UTF-8")?;
            files.push((relative.to_owned(), fs::read(&path)?));
        } else {
            return Err(format!("{} is neither a file nor a folder", path.display()).into());
        }
    }
    Ok(())
}

/// Caches, compiled and hidden files belong to no identity.
fn is_left_out(name: &str) -> bool {
    name == "__pycache__" || name.ends_with(".pyc") || name.starts_with('.')
}

fn sorted_names(folder: &Path) -> Result<Vec<String>, Box<dyn Error>> {
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        names.push(name.into_string().map_err(|_| "a file name is not UTF-8")?);
    }
    names.sort_unstable();
    Ok(names)
}

/// Run again when `path`, or anything below it, changes or appears.
fn watch(path: &Path) {
    println!("cargo::rerun-if-changed={}", path.display());
}
