//! Sign the first-party parsers: a DSSE envelope over an in-toto statement for each folder of `parsers/`.
//!
//! The payload is the one that `casparian/trust/statement.py` reads. It is made without a clock: `issued` is
//! `SOURCE_DATE_EPOCH`, or 1970 when nobody set it. The key is the PKCS#8 PEM file (Ed25519) that
//! `CASPARIAN_RELEASE_KEY_FILE` names, else the development key below, which is no secret and which a release
//! policy refuses.

use std::env;
use std::error::Error;
use std::fs;

use ed25519_compact::{KeyPair, Seed};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// Everybody has this seed: a signature by it says "a development build", and nothing else.
const DEVELOPMENT_SEED: &[u8; 32] = b"casparian-development-only-key-1";
const KEY_VARIABLE: &str = "CASPARIAN_RELEASE_KEY_FILE";
const DATE_VARIABLE: &str = "SOURCE_DATE_EPOCH";
const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";
/// RFC 8410: what stands before the 32 bytes of the seed in the PKCS#8 document of an Ed25519 key.
const PKCS8_PREFIX: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];

/// The key that signs what comes with this build.
pub(crate) struct ReleaseKey {
    pair: KeyPair,
    /// Nobody gave a key to the build.
    pub(crate) development: bool,
}

impl ReleaseKey {
    /// The key that the environment names.
    pub(crate) fn of_build() -> Result<Self, Box<dyn Error>> {
        println!("cargo::rerun-if-env-changed={KEY_VARIABLE}");
        println!("cargo::rerun-if-env-changed={DATE_VARIABLE}");
        let file = env::var(KEY_VARIABLE).unwrap_or_default();
        let seed = if file.is_empty() {
            *DEVELOPMENT_SEED
        } else {
            println!("cargo::rerun-if-changed={file}");
            seed_of_pem(&fs::read_to_string(&file)?).ok_or_else(|| {
                format!("{file} holds no unencrypted PKCS#8 PEM of an Ed25519 key")
            })?
        };
        Ok(Self {
            pair: KeyPair::from_seed(Seed::new(seed)),
            development: seed == *DEVELOPMENT_SEED,
        })
    }

    /// The public key, as hexadecimal digits.
    pub(crate) fn public(&self) -> String {
        hex(&*self.pair.pk)
    }

    /// Identity of the key: SHA-256 of its canonical JSON, as in TUF.
    fn keyid(&self) -> String {
        let public = self.public();
        let key = json!({"keytype": "ed25519", "keyval": {"public": public}, "scheme": "ed25519"});
        hex(&Sha256::digest(key.to_string()))
    }

    /// The envelope of one parser's folder.
    pub(crate) fn sign(
        &self,
        files: &[(String, Vec<u8>)],
        artifact_hash: &str,
    ) -> Result<String, Box<dyn Error>> {
        let payload = statement(files, artifact_hash)?;
        let mut signed = format!(
            "DSSEv1 {} {PAYLOAD_TYPE} {} ",
            PAYLOAD_TYPE.len(),
            payload.len()
        );
        signed.push_str(&payload);
        let signature = self.pair.sk.sign(signed.as_bytes(), None);
        let envelope = json!({
            "payload": base64(payload.as_bytes()),
            "payloadType": PAYLOAD_TYPE,
            "signatures": [{"keyid": self.keyid(), "sig": base64(&*signature)}],
        });
        Ok(envelope.to_string())
    }
}

/// Seconds since 1970 that the build says it was made at; 0 when it says nothing.
pub(crate) fn source_date() -> Result<u64, Box<dyn Error>> {
    let text = env::var(DATE_VARIABLE).unwrap_or_default();
    if text.is_empty() {
        return Ok(0);
    }
    Ok(text.parse()?)
}

fn statement(files: &[(String, Vec<u8>)], artifact_hash: &str) -> Result<String, Box<dyn Error>> {
    let manifest = files
        .iter()
        .find(|(path, _)| path == "parser.toml")
        .ok_or("a parser's folder has no parser.toml")?;
    let manifest = std::str::from_utf8(&manifest.1)?;
    let version = top_level(manifest, "version")?;
    let mut subject: Vec<(&str, Value)> = files
        .iter()
        .map(|(path, content)| {
            let digest = json!({
                "blake3": blake3::hash(content).to_hex().as_str(),
                "sha256": hex(&Sha256::digest(content)),
            });
            (path.as_str(), json!({"name": path, "digest": digest}))
        })
        .collect();
    subject.sort_unstable_by_key(|(path, _)| *path);
    let subject: Vec<Value> = subject.into_iter().map(|(_, entry)| entry).collect();
    let statement = json!({
        "_type": "https://in-toto.io/Statement/v1",
        "predicateType": "https://casparian.dev/parser/v1",
        "subject": subject,
        "predicate": {
            "name": top_level(manifest, "name")?,
            "version": version,
            "serial": serial(&version)?,
            "artifact_hash": artifact_hash,
            "entry": top_level(manifest, "entry")?,
            "environment": null,
            "min_runtime": env::var("CARGO_PKG_VERSION")?,
            "issued": utc(source_date()?),
            "expires": null,
            "note": "",
        },
    });
    Ok(statement.to_string())
}

/// `major.minor.patch` as a number that grows with it.
fn serial(version: &str) -> Result<u64, Box<dyn Error>> {
    let mut number = 0;
    let parts: Vec<&str> = version.split('.').collect();
    if parts.len() != 3 {
        return Err(format!("the version {version} of a parser is not major.minor.patch").into());
    }
    for part in parts {
        let part: u64 = part.parse()?;
        if part >= 100_000 {
            return Err("a part of a parser's version is too large".into());
        }
        number = number * 100_000 + part;
    }
    Ok(number)
}

/// The text of `key = "text"` before the first table of a manifest; the library checks the manifest in full.
fn top_level(manifest: &str, key: &str) -> Result<String, Box<dyn Error>> {
    manifest
        .lines()
        .map(str::trim)
        .take_while(|line| !line.starts_with('['))
        .filter_map(|line| line.split_once('='))
        .find(|(name, _)| name.trim() == key)
        .and_then(|(_, value)| {
            let text = value.trim().strip_prefix('"')?;
            let (text, _) = text.split_once('"')?;
            (!text.contains('\\')).then(|| text.to_owned())
        })
        .ok_or_else(|| format!("a parser.toml has no plain text `{key}`").into())
}

/// RFC 3339 in UTC, of seconds since 1970 (days to date: Howard Hinnant's `civil_from_days`).
fn utc(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = (month_from_march + 2) % 12 + 1;
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z",
        rest / 3_600,
        rest / 60 % 60,
        rest % 60
    )
}

fn seed_of_pem(pem: &str) -> Option<[u8; 32]> {
    let body = pem
        .split_once("-----BEGIN PRIVATE KEY-----")?
        .1
        .split_once("-----END PRIVATE KEY-----")?
        .0;
    let document = from_base64(body)?;
    document.strip_prefix(&PKCS8_PREFIX[..])?.try_into().ok()
}

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

fn base64(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let group = chunk
            .iter()
            .chain([0, 0].iter())
            .take(3)
            .fold(0_usize, |group, &byte| group << 8 | usize::from(byte));
        for place in 0..4 {
            if place > chunk.len() {
                text.push('=');
            } else {
                text.push(char::from(BASE64[group >> (18 - 6 * place) & 63]));
            }
        }
    }
    text
}

fn from_base64(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<usize> = text
        .bytes()
        .filter(|byte| !byte.is_ascii_whitespace() && *byte != b'=')
        .map(|byte| BASE64.iter().position(|&digit| digit == byte))
        .collect::<Option<_>>()?;
    let mut bytes = Vec::with_capacity(digits.len() * 3 / 4);
    for chunk in digits.chunks(4) {
        let group =
            chunk.iter().fold(0, |group, digit| group << 6 | digit) << (6 * (4 - chunk.len()));
        for place in 0..chunk.len() - 1 {
            bytes.push(u8::try_from(group >> (16 - 8 * place) & 255).ok()?);
        }
    }
    Some(bytes)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
