//! One log, block by block, on one thread or several: the batches are the same.
//!
//! Chunks know nothing of one another, so a block of them can be decoded by whoever is free. A batch never spans two blocks, and
//! blocks are given in the order of the file, however many threads there are. A thread waits when it is too far ahead of whoever
//! takes the batches: memory is bounded by threads, not by the file.

use std::any::Any;
use std::collections::{HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use arrow_array::RecordBatch;

use super::cache::PlanCache;
use super::decoder::EvtxDecoder;
use super::{EvtxOptions, EvtxOutput, Fault};
use crate::error::CoreError;
use crate::source::ReadAt;

/// Slots of a block: 4 MiB of the file.
const BLOCK_SLOTS: u32 = 64;
/// More threads would wait for whoever takes the batches.
const THREADS_MAX: usize = 16;

type Batches = VecDeque<(EvtxOutput, RecordBatch)>;
type Decoder<S> = EvtxDecoder<Arc<S>>;

/// Decodes one log into record batches, on as many threads as it is told.
pub struct EvtxBlocks<S: ReadAt + 'static> {
    work: Work<S>,
    blocks: u32,
    /// The block that is given next.
    next: u32,
    ready: Batches,
}

enum Work<S: ReadAt + 'static> {
    Here(Box<Decoder<S>>),
    Threads(Pool),
}

impl<S: ReadAt + 'static> EvtxBlocks<S> {
    /// A decoder for `source` that begins with the plans of an earlier one. It starts `threads` threads when there are blocks
    /// for more than one, and does without those that cannot be had.
    ///
    /// # Errors
    /// [`CoreError::Limit`] when there are more slots than 32 bits can count.
    pub fn new(
        source: S,
        options: EvtxOptions,
        cache: PlanCache,
        threads: usize,
    ) -> Result<Self, CoreError> {
        let source = Arc::new(source);
        let first = Decoder::with_cache(Arc::clone(&source), options, cache)?;
        let blocks = first.source_slots().div_ceil(BLOCK_SLOTS);
        let wanted = threads.min(THREADS_MAX).min(blocks as usize);
        // What is lost on purpose is counted from row to row.
        let is_alone = wanted < 2 || options.fault != Fault::None;
        let work = if is_alone {
            Work::Here(Box::new(first))
        } else {
            let mut decoders = vec![first];
            for _ in 1..wanted {
                decoders.push(Decoder::new(Arc::clone(&source), options)?);
            }
            Pool::start(decoders, blocks)
        };
        Ok(Self {
            work,
            blocks,
            next: 0,
            ready: Batches::new(),
        })
    }

    /// The next batch of any output, or nothing at the end.
    ///
    /// # Errors
    /// When the source cannot be read, or a batch cannot be built. Damage in the file is no error.
    pub fn next_batch(&mut self) -> Result<Option<(EvtxOutput, RecordBatch)>, CoreError> {
        loop {
            if let Some(batch) = self.ready.pop_front() {
                return Ok(Some(batch));
            }
            if self.next == self.blocks {
                return Ok(None);
            }
            let block = self.next;
            self.next += 1;
            self.ready = match &mut self.work {
                Work::Here(decoder) => decode(decoder, block)?,
                Work::Threads(pool) => pool.take(block)?,
            };
        }
    }

    /// The plans that were compiled, for the next decoder.
    pub fn into_cache(self) -> PlanCache {
        match self.work {
            Work::Here(decoder) => decoder.into_cache(),
            Work::Threads(pool) => pool.finish(),
        }
    }
}

fn decode<S: ReadAt>(decoder: &mut Decoder<S>, block: u32) -> Result<Batches, CoreError> {
    let first = block * BLOCK_SLOTS;
    decoder.decode_slots(first, first.saturating_add(BLOCK_SLOTS))
}

/// What became of a block.
enum Outcome {
    Decoded(Result<Batches, CoreError>),
    /// To go on where the batches are taken.
    Panicked(Box<dyn Any + Send>),
}

/// What the threads share.
struct Queue {
    /// The block that is taken next by a thread, and how many there are.
    next: u32,
    blocks: u32,
    /// Blocks that were given away.
    given: u32,
    done: HashMap<u32, Outcome>,
    is_stopped: bool,
}

struct Shared {
    queue: Mutex<Queue>,
    changed: Condvar,
    /// How far a thread may be ahead of the blocks that were given away.
    window: u32,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        // Nothing panics while it is held.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'g>(&self, queue: MutexGuard<'g, Queue>) -> MutexGuard<'g, Queue> {
        self.changed
            .wait(queue)
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// The next block for a thread; nothing when there is none, or nobody wants it.
    fn next_block(&self) -> Option<u32> {
        let mut queue = self.lock();
        loop {
            if queue.is_stopped || queue.next == queue.blocks {
                return None;
            }
            if queue.next < queue.given.saturating_add(self.window) {
                queue.next += 1;
                return Some(queue.next - 1);
            }
            queue = self.wait(queue);
        }
    }

    fn put(&self, block: u32, outcome: Outcome) {
        self.lock().done.insert(block, outcome);
        self.changed.notify_all();
    }

    fn stop(&self) {
        self.lock().is_stopped = true;
        self.changed.notify_all();
    }
}

struct Pool {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<PlanCache>>,
}

impl Pool {
    /// Start a thread for each decoder; without any, the first one works here.
    fn start<S: ReadAt + 'static>(decoders: Vec<Decoder<S>>, blocks: u32) -> Work<S> {
        let shared = Arc::new(Shared {
            queue: Mutex::new(Queue {
                next: 0,
                blocks,
                given: 0,
                done: HashMap::new(),
                is_stopped: false,
            }),
            changed: Condvar::new(),
            window: decoders.len() as u32 + 1,
        });
        let mut threads = Vec::new();
        // A decoder that gets no thread is handed back through this place.
        let spare = Arc::new(Mutex::new(None));
        for decoder in decoders {
            let (theirs, place) = (Arc::clone(&shared), Arc::clone(&spare));
            *place.lock().unwrap_or_else(PoisonError::into_inner) = Some(decoder);
            let (ready, is_taken) = std::sync::mpsc::sync_channel(1);
            let work = move || {
                let taken = place.lock().unwrap_or_else(PoisonError::into_inner).take();
                let _ = ready.send(());
                taken.map_or_else(PlanCache::new, |decoder| serve(decoder, &theirs))
            };
            match thread::Builder::new().name("evtx".to_owned()).spawn(work) {
                Ok(thread) => {
                    let _ = is_taken.recv();
                    threads.push(thread);
                }
                Err(_) => break,
            }
        }
        let left = spare.lock().unwrap_or_else(PoisonError::into_inner).take();
        match left {
            Some(decoder) if threads.is_empty() => Work::Here(Box::new(decoder)),
            _ => Work::Threads(Self { shared, threads }),
        }
    }

    /// The batches of `block`, which is the one behind the last that was taken.
    fn take(&mut self, block: u32) -> Result<Batches, CoreError> {
        let mut queue = self.shared.lock();
        let outcome = loop {
            if let Some(outcome) = queue.done.remove(&block) {
                break outcome;
            }
            queue = self.shared.wait(queue);
        };
        queue.given = block + 1;
        drop(queue);
        self.shared.changed.notify_all();
        match outcome {
            Outcome::Decoded(batches) => batches,
            Outcome::Panicked(panic) => resume_unwind(panic),
        }
    }

    /// End the threads, and keep the plans of one of them.
    fn finish(mut self) -> PlanCache {
        self.shared.stop();
        let mut caches = self.threads.drain(..).filter_map(|one| one.join().ok());
        let first = caches.next().unwrap_or_default();
        caches.for_each(drop);
        first
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.stop();
        for thread in self.threads.drain(..) {
            // A panic in it is known already: `take` gave it.
            let _ = thread.join();
        }
    }
}

/// What a thread does.
fn serve<S: ReadAt>(mut decoder: Decoder<S>, shared: &Shared) -> PlanCache {
    while let Some(block) = shared.next_block() {
        // After a panic or an error nothing of the decoder is used again: the one who takes it stops everything.
        let decoded = catch_unwind(AssertUnwindSafe(|| decode(&mut decoder, block)));
        let is_over = !matches!(decoded, Ok(Ok(_)));
        let outcome = match decoded {
            Ok(batches) => Outcome::Decoded(batches),
            Err(panic) => Outcome::Panicked(panic),
        };
        shared.put(block, outcome);
        if is_over {
            break;
        }
    }
    decoder.into_cache()
}
