//! From a hive and its logs to batches, step by step.

use arrow_array::RecordBatch;

use super::base::BASE_BYTES;
use super::changes;
use super::deleted::Deleted;
use super::emit::Emitter;
use super::hive::Hive;
use super::image::{IMAGE_BYTES_MAX, Image};
use super::lists::push_subkeys;
use super::log::{Log, LogRole, Verdict};
use super::orphans::Orphans;
use super::output::Output;
use super::problem::Problems;
use super::schema::HIVE_COUNTS;
use super::tables::{HiveFacts, hive_batch};
use super::walk::Walk;
use super::work::Work;
use super::{HiveOptions, HiveOutput};
use crate::error::CoreError;
use crate::source::ReadAt;

/// Decodes one hive into record batches.
///
/// The hive and its logs are read whole, when the first batch is asked for; there is one more copy of the hive when logs are
/// applied.
pub struct HiveDecoder<S: ReadAt> {
    source: S,
    logs: Vec<(LogRole, S)>,
    options: HiveOptions,
    state: State,
}

/// How far it is.
enum State {
    Unread,
    Decoding(Box<Decoding>),
    Finished,
}

/// A hive that was read.
struct Decoding {
    /// As its file has it, when `hive` is what the logs made of it.
    primary: Option<Hive>,
    hive: Hive,
    logs: Vec<Log>,
    emitter: Emitter,
    phase: Phase,
}

enum Phase {
    Damaged(usize),
    Walk(Walk),
    Orphans(Orphans),
    Changes,
    Deleted(Deleted),
    Hive,
    Done,
}

impl<S: ReadAt> HiveDecoder<S> {
    /// A decoder for the hive `source` and its logs, which are looked at in this order.
    ///
    /// # Errors
    /// [`CoreError::Limit`] when they are larger than 2 GiB together, or there are more than 255 logs.
    pub fn new(
        source: S,
        logs: Vec<(LogRole, S)>,
        options: HiveOptions,
    ) -> Result<Self, CoreError> {
        let total = logs
            .iter()
            .fold(source.len(), |sum, (_, log)| sum.saturating_add(log.len()));
        if total > IMAGE_BYTES_MAX {
            return Err(CoreError::Limit {
                what: "bytes of a hive and its logs",
                limit: IMAGE_BYTES_MAX,
                offset: 0,
            });
        }
        if logs.len() > usize::from(u8::MAX) {
            return Err(CoreError::Limit {
                what: "logs of a hive",
                limit: u64::from(u8::MAX),
                offset: 0,
            });
        }
        Ok(Self {
            source,
            logs,
            options,
            state: State::Unread,
        })
    }

    /// The next batch of any output, or nothing at the end.
    ///
    /// # Errors
    /// When a source cannot be read or a batch cannot be built. Damage in the files is no error.
    pub fn next_batch(&mut self) -> Result<Option<(HiveOutput, RecordBatch)>, CoreError> {
        loop {
            match &mut self.state {
                State::Unread => {
                    self.state = State::Decoding(Box::new(self.read()?));
                }
                State::Decoding(decoding) => {
                    if let Some(batch) = decoding.next_batch()? {
                        return Ok(Some(batch));
                    }
                    self.state = State::Finished;
                }
                State::Finished => return Ok(None),
            }
        }
    }

    fn read(&self) -> Result<Decoding, CoreError> {
        // Checked to be at most 2 GiB together.
        let primary = Image::new(self.source.read_to_vec()?);
        let mut logs = Vec::with_capacity(self.logs.len());
        for (role, source) in &self.logs {
            logs.push(Log::read(*role, source.read_to_vec()?));
        }
        logs.sort_by_key(|log| log.role);
        let recovered = primary.recovered(&mut logs);
        let (image, primary) = match recovered {
            Some(image) => (image, Some(Hive::new(primary))),
            None => (primary, None),
        };
        // Their bytes are in the image now.
        for log in &mut logs {
            log.bytes = Vec::new();
        }
        let hive = Hive::new(image);
        let mut output = Output::new(self.options);
        output.reserve(hive.cells.counts.keys, hive.cells.counts.values);
        let emitter = Emitter::new(output, &hive);
        Ok(Decoding {
            primary,
            hive,
            logs,
            emitter,
            phase: Phase::Damaged(0),
        })
    }
}

impl Decoding {
    fn next_batch(&mut self) -> Result<Option<(HiveOutput, RecordBatch)>, CoreError> {
        loop {
            if let Some(batch) = self.emitter.output.take_ready() {
                return Ok(Some(batch));
            }
            if matches!(self.phase, Phase::Done) {
                return Ok(None);
            }
            self.step()?;
        }
    }

    /// Do a little, and go on to the next phase when this one is over.
    fn step(&mut self) -> Result<(), CoreError> {
        let (hive, emitter) = (&self.hive, &mut self.emitter);
        match &mut self.phase {
            Phase::Damaged(next) => match hive.cells.damaged.get(*next) {
                Some(region) => {
                    *next += 1;
                    emitter.quarantine(hive, region.start, region.end, region.reason)?;
                }
                None => self.phase = Phase::Walk(Walk::new(hive, emitter)),
            },
            Phase::Walk(walk) => {
                if !walk.step(hive, emitter)? {
                    self.phase = Phase::Orphans(Orphans::new());
                }
            }
            Phase::Orphans(orphans) => {
                if !orphans.step(hive, emitter)? {
                    self.phase = Phase::Changes;
                }
            }
            Phase::Changes => {
                if let Some(primary) = &self.primary {
                    changes::compare(primary, hive, emitter)?;
                }
                self.phase = Phase::Deleted(Deleted::new(hive, &emitter.seen));
            }
            Phase::Deleted(deleted) => {
                if !deleted.step(hive, emitter)? {
                    self.phase = Phase::Hive;
                }
            }
            Phase::Hive => {
                emitter.output.flush(0, 0)?;
                let batch = self.hive_row()?;
                self.emitter.output.push_ready(HiveOutput::Hives, batch);
                self.phase = Phase::Done;
            }
            Phase::Done => {}
        }
        Ok(())
    }

    /// What is to be said of the hive as a whole. Header fields are those of its file, before any log.
    fn hive_row(&self) -> Result<RecordBatch, CoreError> {
        let hive = &self.hive;
        let file = &self.primary.as_ref().unwrap_or(hive).image;
        let base = &file.base;
        let mut problems = hive.problems;
        if !base.signature_ok {
            problems.add(Problems::HIVE_SIGNATURE);
        }
        if !base.checksum_ok {
            problems.add(Problems::HIVE_CHECKSUM);
        }
        if base.checksum_ok && file.bins().len() < base.bins_bytes as usize {
            problems.add(Problems::HIVE_TRUNCATED);
        }
        let is_applied = |log: &Log| log.verdict == Verdict::Applied;
        if base.is_dirty() && !self.logs.iter().any(is_applied) {
            problems.add(Problems::HIVE_NOT_RECOVERED);
        }
        let root_name = hive.root.and_then(|root| {
            let mut name = Vec::new();
            hive.key(root)?.1.name.push_to(&mut name);
            Some(name)
        });
        let output = &self.emitter.output;
        let cells = hive.cells.counts;
        let mut counts = [0; HIVE_COUNTS.len()];
        let figures = [
            file.len() as u64,
            hive.image.area().len() as u64,
            cells.bins,
            cells.allocated,
            cells.free,
            cells.free_bytes,
            hive.cells.damaged.len() as u64,
            output.quarantined_cells,
        ];
        let figures = figures
            .into_iter()
            .chain(output.key_counts)
            .chain(output.value_counts);
        for (place, figure) in counts.iter_mut().zip(figures) {
            *place = figure;
        }
        hive_batch(&HiveFacts {
            base,
            length: file.len().min(BASE_BYTES) as u64,
            hive_type: hive_type(hive, &base.file_name),
            root_name,
            is_recovered: hive.image.is_recovered(),
            counts,
            logs: &self.logs,
            problems,
        })
    }
}

/// Which of Windows' hives it is, by the file name in its base block or else by subkeys of its root.
fn hive_type(hive: &Hive, file_name: &[u8]) -> Option<&'static str> {
    const FILES: [(&str, &str); 13] = [
        ("ntuser.dat", "NTUSER"),
        ("usrclass.dat", "USRCLASS"),
        ("system", "SYSTEM"),
        ("software", "SOFTWARE"),
        ("sam", "SAM"),
        ("security", "SECURITY"),
        ("default", "DEFAULT"),
        ("components", "COMPONENTS"),
        ("drivers", "DRIVERS"),
        ("amcache.hve", "AMCACHE"),
        ("bcd", "BCD"),
        ("elam", "ELAM"),
        ("syscache.hve", "SYSCACHE"),
    ];
    const SUBKEYS: [(&str, &str); 8] = [
        ("select", "SYSTEM"),
        ("sam", "SAM"),
        ("policy", "SECURITY"),
        ("local settings", "USRCLASS"),
        ("appevents", "NTUSER"),
        ("inventoryapplicationfile", "AMCACHE"),
        ("objects", "BCD"),
        ("classes", "SOFTWARE"),
    ];
    let mut text = Vec::new();
    crate::evtx::push_utf16(&mut text, file_name);
    let path = String::from_utf8_lossy(&text).to_lowercase();
    let file = path.rsplit(['\\', '/']).next().unwrap_or_default();
    if let Some((_, kind)) = FILES.iter().find(|(name, _)| *name == file) {
        return Some(kind);
    }
    let (_, root) = hive.key(hive.root?)?;
    let mut subkeys = Vec::new();
    let mut work = Work::for_bytes(0);
    push_subkeys(&hive.image, root.subkeys, &mut work, &mut subkeys);
    let names: Vec<String> = subkeys
        .iter()
        .filter_map(|at| {
            let mut name = Vec::new();
            hive.key(*at)?.1.name.push_to(&mut name);
            Some(String::from_utf8_lossy(&name).to_lowercase())
        })
        .collect();
    let is_there = |(name, _): &&(&str, &str)| names.iter().any(|there| there == name);
    SUBKEYS.iter().find(is_there).map(|(_, kind)| *kind)
}
