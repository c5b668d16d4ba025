//! Reading a file in parts by several threads, so that the number of threads shows in nothing but the time.
//!
//! Parts are handed out in the order of the file and joined in that order, whoever is ready first. A thread that is ahead of the
//! others by [`PARTS_AHEAD`] a thread waits: what is kept in memory does not grow with the file. Of several errors the one of the
//! earliest part counts.

use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::error::CoreError;

/// Parts that a thread may be ahead of the earliest one that is still being read.
const PARTS_AHEAD: usize = 2;

/// What was read and waits for earlier parts, and the state of those that did not have to.
struct Ready<R, J> {
    waiting: BTreeMap<usize, Result<R, CoreError>>,
    /// How many parts were joined; the next one has this number.
    joined: usize,
    join: J,
    error: Option<CoreError>,
    is_over: bool,
}

/// Read each part that `next` gives and hand the results to `join` in the order of the parts.
///
/// `read` runs on `threads` threads at once, the others on one at a time.
///
/// # Errors
/// The first error in the order of the parts, whether finding, reading or joining it failed. Later parts are then not joined.
pub(super) fn read_in_order<P, R: Send>(
    threads: usize,
    mut next: impl FnMut() -> Result<Option<P>, CoreError> + Send,
    read: impl Fn(P) -> Result<R, CoreError> + Sync,
    mut join: impl FnMut(R) -> Result<(), CoreError> + Send,
) -> Result<(), CoreError> {
    if threads < 2 {
        while let Some(part) = next()? {
            join(read(part)?)?;
        }
        return Ok(());
    }
    let parts = Mutex::new((next, 0_usize));
    let ready = Mutex::new(Ready {
        waiting: BTreeMap::new(),
        joined: 0,
        join,
        error: None,
        is_over: false,
    });
    let changed = Condvar::new();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let _end = EndOfPanic(&ready, &changed);
                loop {
                    let (number, part) = {
                        // Whoever waits here keeps the others from taking a part that lies further ahead still.
                        let mut parts = lock(&parts);
                        let number = parts.1;
                        let ahead = |ready: &mut Ready<R, _>| {
                            !ready.is_over && number >= ready.joined + threads * PARTS_AHEAD
                        };
                        let ready = changed.wait_while(lock(&ready), ahead);
                        if ready.unwrap_or_else(PoisonError::into_inner).is_over {
                            return;
                        }
                        parts.1 += 1;
                        (number, parts.0())
                    };
                    let result = match part {
                        Ok(Some(part)) => read(part),
                        Ok(None) => return,
                        Err(error) => Err(error),
                    };
                    lock(&ready).take(number, result);
                    changed.notify_all();
                }
            });
        }
    });
    let ready = ready.into_inner().unwrap_or_else(PoisonError::into_inner);
    ready.error.map_or(Ok(()), Err)
}

impl<R, J: FnMut(R) -> Result<(), CoreError>> Ready<R, J> {
    fn take(&mut self, number: usize, result: Result<R, CoreError>) {
        self.waiting.insert(number, result);
        while !self.is_over
            && let Some(result) = self.waiting.remove(&self.joined)
        {
            self.joined += 1;
            if let Err(error) = result.and_then(&mut self.join) {
                self.error = Some(error);
                self.is_over = true;
            }
        }
    }
}

/// A panic of one thread goes on in the one that waits for them all; the others must not wait for its part.
struct EndOfPanic<'a, R, J>(&'a Mutex<Ready<R, J>>, &'a Condvar);

impl<R, J> Drop for EndOfPanic<'_, R, J> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            lock(self.0).is_over = true;
            self.1.notify_all();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use proptest::prelude::*;

    use super::*;

    fn fault(offset: u64) -> CoreError {
        CoreError::Limit {
            what: "parts",
            limit: 0,
            offset,
        }
    }

    /// What was joined, and where it ended; as many yields as `delays` says make the threads change places.
    fn run(
        threads: usize,
        delays: &[u8],
        faulty: &[usize],
        kept_max: &AtomicUsize,
    ) -> (Vec<usize>, Option<String>) {
        let mut parts = 0..delays.len();
        let (mut joined, taken, done) = (Vec::new(), AtomicUsize::new(0), AtomicUsize::new(0));
        let result = read_in_order(
            threads,
            || {
                taken.fetch_add(1, Ordering::SeqCst);
                Ok(parts.next())
            },
            |part| {
                (0..delays[part]).for_each(|_| std::thread::yield_now());
                let kept = taken.load(Ordering::SeqCst) - done.load(Ordering::SeqCst);
                kept_max.fetch_max(kept, Ordering::SeqCst);
                if faulty.contains(&part) {
                    Err(fault(part as u64))
                } else {
                    Ok(part)
                }
            },
            |part| {
                joined.push(part);
                done.fetch_add(1, Ordering::SeqCst);
                Ok(())
            },
        );
        (joined, result.err().map(|error| error.to_string()))
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn the_number_of_threads_shows_in_nothing(
            threads in 2..6_usize,
            delays in proptest::collection::vec(0..60_u8, 0..40),
            faulty in proptest::collection::vec(0..60_usize, 0..3),
        ) {
            let kept_max = AtomicUsize::new(0);
            let alone = run(1, &delays, &faulty, &AtomicUsize::new(0));
            prop_assert_eq!(run(threads, &delays, &faulty, &kept_max), alone);
            // One more is found while the last that may be is read: that there is none.
            prop_assert!(kept_max.into_inner() <= threads * PARTS_AHEAD + 1);
        }
    }

    #[test]
    fn a_slow_first_part_holds_the_others_back() {
        let (taken, threads) = (AtomicUsize::new(0), 3);
        let mut parts = 0..1_000;
        read_in_order(
            threads,
            || {
                taken.fetch_add(1, Ordering::SeqCst);
                Ok(parts.next())
            },
            |part| {
                if part == 0 {
                    // The others go on until they wait, however slow they are.
                    let mut seen = 0;
                    while taken.load(Ordering::SeqCst) != seen || seen < threads * PARTS_AHEAD {
                        seen = taken.load(Ordering::SeqCst);
                        std::thread::sleep(std::time::Duration::from_millis(20));
                    }
                    assert_eq!(seen, threads * PARTS_AHEAD);
                }
                Ok(())
            },
            |()| Ok(()),
        )
        .unwrap();
    }

    #[test]
    fn a_panic_ends_all_threads() {
        let mut parts = 0..100;
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            read_in_order(
                3,
                || Ok(parts.next()),
                |part| {
                    assert_ne!(part, 0, "meant");
                    Ok(())
                },
                |()| Ok(()),
            )
        }));
        assert!(panicked.is_err());
    }
}
