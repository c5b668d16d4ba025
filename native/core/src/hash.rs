//! Hashing evidence: BLAKE3 and SHA-256 in one pass over the bytes.
//!
//! * A source is read once, in 1 MiB buffers; both hashes and the first 4 KiB come from that pass.
//! * SHA-256 costs about four times BLAKE3, so a big source hands its buffers to a second thread,
//!   through a bounded channel, and gets them back for the next reads.
//! * A hash of a file that changed while it was read names bytes that never existed together: it is
//!   not given, the file gets the error `source.changed`.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;

use rustix::fs::{FileType, Mode, OFlags, Stat};
use sha2::{Digest as _, Sha256};

use crate::error::CoreError;
use crate::source::{FileSource, ReadAt};
use crate::walk::mtime_nanoseconds;

/// How much is read at a time.
const BUFFER_BYTES: usize = 1 << 20;
/// From this size on SHA-256 gets a thread of its own.
const SECOND_THREAD_FROM_BYTES: u64 = 1 << 20;
/// How many buffers travel between the two threads.
const BUFFERS_IN_FLIGHT: usize = 4;
/// How much of the beginning of a source is kept, to identify it by content.
pub const HEAD_BYTES: usize = 8192;

/// What one pass over a source gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Digest {
    /// BLAKE3 of all bytes.
    pub blake3: [u8; 32],
    /// SHA-256 of all bytes, when asked for.
    pub sha256: Option<[u8; 32]>,
    /// How many bytes were hashed.
    pub size_bytes: u64,
    /// The first [`HEAD_BYTES`] bytes, or fewer when the source is shorter.
    pub head: Vec<u8>,
}

/// Hash every byte of `source`.
///
/// # Errors
/// The first error of a read; nothing is hashed in part.
pub fn digest<S: ReadAt + ?Sized>(source: &S, with_sha256: bool) -> Result<Digest, CoreError> {
    digest_with(source, with_sha256, &mut Vec::new())
}

/// [`digest`] with a read buffer that lives on from file to file.
fn digest_with<S: ReadAt + ?Sized>(
    source: &S,
    with_sha256: bool,
    buffer: &mut Vec<u8>,
) -> Result<Digest, CoreError> {
    let is_big = source.len() >= SECOND_THREAD_FROM_BYTES;
    if with_sha256
        && is_big
        && let Some(result) = digest_on_two_threads(source)
    {
        return result;
    }
    let mut pass = Pass::new(source);
    let mut sha256 = with_sha256.then(Sha256::new);
    while pass.read_into(buffer)? {
        if let Some(sha256) = &mut sha256 {
            sha256.update(&buffer);
        }
    }
    Ok(pass.finish(sha256))
}

/// BLAKE3 on this thread, SHA-256 on another. `None` when no thread can be started.
fn digest_on_two_threads<S: ReadAt + ?Sized>(source: &S) -> Option<Result<Digest, CoreError>> {
    thread::scope(|scope| {
        let (filled_sender, filled) = mpsc::sync_channel::<Vec<u8>>(BUFFERS_IN_FLIGHT);
        let (empty_sender, empty) = mpsc::channel::<Vec<u8>>();
        let sha256_thread = thread::Builder::new()
            .name("sha256".to_owned())
            .spawn_scoped(scope, move || {
                let mut sha256 = Sha256::new();
                for buffer in filled {
                    sha256.update(&buffer);
                    // The reader may have stopped at an error; then nobody needs the buffer.
                    let _ = empty_sender.send(buffer);
                }
                sha256
            })
            .ok()?;

        let mut pass = Pass::new(source);
        let mut buffers_made = 0;
        let read = loop {
            let recycled = if buffers_made < BUFFERS_IN_FLIGHT {
                buffers_made += 1;
                Some(Vec::new())
            } else {
                empty.recv().ok()
            };
            // Without buffers or a receiver the other thread has panicked, which `join` reports.
            let Some(mut buffer) = recycled else {
                break Ok(());
            };
            match pass.read_into(&mut buffer) {
                Ok(true) => {
                    if filled_sender.send(buffer).is_err() {
                        break Ok(());
                    }
                }
                Ok(false) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        drop(filled_sender);
        let sha256 = match sha256_thread.join() {
            Ok(sha256) => sha256,
            Err(panic) => std::panic::resume_unwind(panic),
        };
        Some(read.map(|()| pass.finish(Some(sha256))))
    })
}

/// One pass over a source: reads in order, keeps the head, feeds BLAKE3.
struct Pass<'source, S: ?Sized> {
    source: &'source S,
    position: u64,
    blake3: blake3::Hasher,
    head: Vec<u8>,
}

impl<'source, S: ReadAt + ?Sized> Pass<'source, S> {
    fn new(source: &'source S) -> Self {
        Self {
            source,
            position: 0,
            blake3: blake3::Hasher::new(),
            head: Vec::new(),
        }
    }

    /// Replace the buffer's content by the next bytes; false at the end of the source.
    fn read_into(&mut self, buffer: &mut Vec<u8>) -> Result<bool, CoreError> {
        let remaining = self.source.len() - self.position;
        if remaining == 0 {
            return Ok(false);
        }
        let count = usize::try_from(remaining).map_or(BUFFER_BYTES, |r| r.min(BUFFER_BYTES));
        buffer.resize(count, 0);
        self.source.read_exact_at(buffer, self.position)?;
        if self.position == 0 {
            self.head
                .extend_from_slice(&buffer[..count.min(HEAD_BYTES)]);
        }
        self.blake3.update(buffer);
        self.position += count as u64;
        Ok(true)
    }

    fn finish(self, sha256: Option<Sha256>) -> Digest {
        Digest {
            blake3: *self.blake3.finalize().as_bytes(),
            sha256: sha256.map(|hasher| hasher.finalize().into()),
            size_bytes: self.position,
            head: self.head,
        }
    }
}

/// The digest of one file of a list; errors are values.
#[derive(Debug)]
pub struct FileDigest {
    /// Present when every byte was read and the file did not change meanwhile.
    pub digest: Option<Digest>,
    /// The size when it was opened, in bytes; 0 when it could not be opened.
    pub size_bytes: u64,
    /// Whether size or time of change were others after the pass, or bytes went missing in it.
    pub changed: bool,
    /// Why there is no digest.
    pub error: Option<DigestError>,
}

/// Why a file has no digest.
#[derive(Debug)]
pub struct DigestError {
    /// A stable slug: `source.unreadable`, `source.changed`, `source.missing`, `source.not_a_file`.
    pub code: &'static str,
    /// For the reader of a report.
    pub message: String,
}

impl FileDigest {
    fn failed(size_bytes: u64, error: &CoreError) -> Self {
        Self {
            digest: None,
            size_bytes,
            changed: matches!(error, CoreError::SourceShrank { .. }),
            error: Some(DigestError {
                code: error.code(),
                message: error.to_string(),
            }),
        }
    }
}

/// Open a file of the evidence: read-only, never through a link, never waiting on a fifo.
///
/// # Errors
/// [`CoreError::NotARegularFile`] for anything else, [`CoreError::Io`] when it cannot be opened.
pub fn open_regular_file(path: &[u8]) -> Result<(File, Stat), CoreError> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let descriptor = rustix::fs::open(path, flags, Mode::empty()).map_err(|errno| {
        // ELOOP is what O_NOFOLLOW answers for a link, ENXIO what a socket or a lone fifo answers.
        match errno {
            rustix::io::Errno::LOOP => CoreError::NotARegularFile { kind: "symlink" },
            rustix::io::Errno::NXIO => CoreError::NotARegularFile {
                kind: "socket or device",
            },
            other => CoreError::io("open", 0, other.into()),
        }
    })?;
    let stat = stat_of_regular_file(&descriptor)?;
    Ok((File::from(descriptor), stat))
}

/// Hash the open regular file `file` from its first byte; its file position is not moved.
pub fn digest_open_file(file: File, with_sha256: bool) -> FileDigest {
    match stat_of_regular_file(&file) {
        Ok(stat) => digest_checked(file, &stat, with_sha256, &mut Vec::new()),
        Err(error) => FileDigest::failed(0, &error),
    }
}

/// Hash open files one after the other, with one buffer for all; see [`digest_open_file`].
pub fn digest_open_files(files: Vec<File>, with_sha256: bool) -> Vec<FileDigest> {
    let mut buffer = Vec::new();
    files
        .into_iter()
        .map(|file| match stat_of_regular_file(&file) {
            Ok(stat) => digest_checked(file, &stat, with_sha256, &mut buffer),
            Err(error) => FileDigest::failed(0, &error),
        })
        .collect()
}

/// Hash the file at `path`.
pub fn digest_file(path: &[u8], with_sha256: bool) -> FileDigest {
    digest_path(path, with_sha256, &mut Vec::new())
}

/// Hash many files on `threads` threads; the results have the order of `paths`.
pub fn digest_files<P: AsRef<[u8]> + Sync>(
    paths: &[P],
    threads: usize,
    with_sha256: bool,
) -> Vec<FileDigest> {
    let next = AtomicUsize::new(0);
    let work = || {
        let mut buffer = Vec::new();
        let mut done = Vec::new();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(path) = paths.get(index) else {
                return done;
            };
            done.push((index, digest_path(path.as_ref(), with_sha256, &mut buffer)));
        }
    };
    let helpers = threads.clamp(1, paths.len().max(1)) - 1;
    let mut done = thread::scope(|scope| {
        // A helper that cannot be started is no harm: this thread does what is left.
        let started: Vec<_> = (0..helpers)
            .map_while(|_| thread::Builder::new().spawn_scoped(scope, work).ok())
            .collect();
        let mut done = work();
        for helper in started {
            match helper.join() {
                Ok(part) => done.extend(part),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        done
    });
    done.sort_unstable_by_key(|(index, _)| *index);
    done.into_iter().map(|(_, digest)| digest).collect()
}

fn digest_path(path: &[u8], with_sha256: bool, buffer: &mut Vec<u8>) -> FileDigest {
    match open_regular_file(path) {
        Ok((file, stat)) => digest_checked(file, &stat, with_sha256, buffer),
        Err(error) => FileDigest::failed(0, &error),
    }
}

/// Hash, then look whether the file is still what it was in `before`.
fn digest_checked(
    file: File,
    before: &Stat,
    with_sha256: bool,
    buffer: &mut Vec<u8>,
) -> FileDigest {
    let size_bytes = size_of(before);
    let source = FileSource::new(file, size_bytes);
    let result = digest_with(&source, with_sha256, buffer)
        .and_then(|digest| Ok((digest, stat_of(source.file())?)));
    match result {
        Ok((digest, after)) => {
            let changed = size_of(&after) != size_bytes
                || mtime_nanoseconds(&after) != mtime_nanoseconds(before);
            FileDigest {
                digest: (!changed).then_some(digest),
                size_bytes,
                changed,
                error: changed.then(|| DigestError {
                    code: "source.changed",
                    message: "size or modification time changed while the file was read".to_owned(),
                }),
            }
        }
        Err(error) => FileDigest::failed(size_bytes, &error),
    }
}

fn stat_of_regular_file(descriptor: &impl AsFd) -> Result<Stat, CoreError> {
    let stat = stat_of(descriptor)?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Ok(stat),
        other => Err(CoreError::NotARegularFile {
            kind: crate::walk::Kind::of(other).name(),
        }),
    }
}

fn stat_of(descriptor: &impl AsFd) -> Result<Stat, CoreError> {
    rustix::fs::fstat(descriptor).map_err(|errno| CoreError::io("stat", 0, io::Error::from(errno)))
}

fn size_of(stat: &Stat) -> u64 {
    u64::try_from(stat.st_size).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt;

    use proptest::prelude::*;

    use super::*;
    use crate::source::SliceSource;

    fn one_shot(bytes: &[u8]) -> ([u8; 32], [u8; 32]) {
        (
            *blake3::hash(bytes).as_bytes(),
            Sha256::digest(bytes).into(),
        )
    }

    #[test]
    fn both_hashes_equal_the_one_shot_hashes_at_every_buffer_border() {
        let border = BUFFER_BYTES;
        for size in [
            0,
            1,
            4095,
            4096,
            4097,
            border - 1,
            border,
            border + 1,
            9 * border + 17,
        ] {
            let bytes: Vec<u8> = (0..size).map(|i| (i * 31 % 251) as u8).collect();
            let result = digest(&SliceSource(&bytes), true).unwrap();
            let (blake3, sha256) = one_shot(&bytes);
            assert_eq!(result.blake3, blake3, "{size}");
            assert_eq!(result.sha256, Some(sha256), "{size}");
            assert_eq!(result.size_bytes, size as u64);
            assert_eq!(result.head, bytes[..size.min(HEAD_BYTES)]);
        }
    }

    #[test]
    fn an_error_in_the_middle_of_a_big_source_ends_both_threads() {
        struct Failing;
        impl ReadAt for Failing {
            fn len(&self) -> u64 {
                64 << 20
            }
            fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> Result<(), CoreError> {
                if offset >= 32 << 20 {
                    return Err(CoreError::io("read", offset, io::Error::other("pulled")));
                }
                buffer.fill(1);
                Ok(())
            }
        }
        let error = digest(&Failing, true).unwrap_err();
        assert_eq!(error.code(), "source.unreadable");
        assert_eq!(error.offset(), Some(32 << 20));
    }

    #[test]
    fn files_come_back_in_the_order_given_with_errors_as_values() {
        let folder = tempfile::tempdir().unwrap();
        let mut paths = Vec::new();
        for index in 0..40_u8 {
            let path = folder.path().join(format!("{index}"));
            std::fs::write(&path, vec![index; 1000]).unwrap();
            paths.push(path.as_os_str().as_bytes().to_vec());
        }
        std::os::unix::fs::symlink("0", folder.path().join("link")).unwrap();
        paths.insert(
            7,
            folder.path().join("none").as_os_str().as_bytes().to_vec(),
        );
        paths.insert(9, folder.path().as_os_str().as_bytes().to_vec());
        paths.push(folder.path().join("link").as_os_str().as_bytes().to_vec());
        let results = digest_files(&paths, 3, false);
        assert_eq!(results.len(), paths.len());
        let codes: Vec<_> = results
            .iter()
            .map(|r| r.error.as_ref().map(|e| e.code))
            .collect();
        assert_eq!(codes[7], Some("source.missing"));
        assert_eq!(codes[9], Some("source.not_a_file"));
        assert_eq!(codes[42], Some("source.not_a_file"));
        let digest = results[41].digest.as_ref().unwrap();
        assert_eq!(digest.blake3, *blake3::hash(&[39; 1000]).as_bytes());
        assert_eq!(digest.sha256, None);
    }

    #[test]
    fn a_file_that_changed_has_no_hash() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        std::fs::write(&path, b"before").unwrap();
        let (file, stat) = open_regular_file(path.as_os_str().as_bytes()).unwrap();
        std::fs::write(&path, b"before and after").unwrap();
        let result = digest_checked(file, &stat, true, &mut Vec::new());
        assert!(result.changed && result.digest.is_none());
        assert_eq!(result.error.unwrap().code, "source.changed");
    }

    proptest! {
        #[test]
        fn the_hashes_equal_the_one_shot_hashes(bytes in proptest::collection::vec(any::<u8>(), 0..5000)) {
            let result = digest(&SliceSource(&bytes), true).unwrap();
            let (blake3, sha256) = one_shot(&bytes);
            prop_assert_eq!(result.blake3, blake3);
            prop_assert_eq!(result.sha256, Some(sha256));
        }
    }
}
