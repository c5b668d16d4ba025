//! Reading evidence by position.
//!
//! Sources are read with `pread`, never mapped: a mapped file raises SIGBUS when the medium is
//! pulled, and costs memory that nobody counts. The length is fixed when a source is made; bytes that
//! are gone later are an error ([`CoreError::SourceShrank`]), bytes that are added are not read.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use rustix::buffer::spare_capacity;
use rustix::io::Errno;

use crate::error::CoreError;

/// Bytes that can be read at any position, from any thread.
pub trait ReadAt: Send + Sync {
    /// The length in bytes; constant for the life of the source.
    fn len(&self) -> u64;

    /// Fill `buffer` from `offset`.
    ///
    /// # Errors
    /// [`CoreError::SourceShrank`] when fewer bytes are there, [`CoreError::Io`] when a read fails.
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> Result<(), CoreError>;

    /// All bytes: for sources that are known to be small.
    ///
    /// # Errors
    /// As of [`ReadAt::read_exact_at`].
    fn read_to_vec(&self) -> Result<Vec<u8>, CoreError> {
        let mut bytes = vec![0; self.len() as usize];
        self.read_exact_at(&mut bytes, 0)?;
        Ok(bytes)
    }

    /// Whether the source has no bytes.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<S: ReadAt + ?Sized> ReadAt for &S {
    fn len(&self) -> u64 {
        (**self).len()
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> Result<(), CoreError> {
        (**self).read_exact_at(buffer, offset)
    }

    fn read_to_vec(&self) -> Result<Vec<u8>, CoreError> {
        (**self).read_to_vec()
    }
}

impl<S: ReadAt + ?Sized> ReadAt for std::sync::Arc<S> {
    fn len(&self) -> u64 {
        (**self).len()
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> Result<(), CoreError> {
        (**self).read_exact_at(buffer, offset)
    }

    fn read_to_vec(&self) -> Result<Vec<u8>, CoreError> {
        (**self).read_to_vec()
    }
}

/// An open file, read with `pread`: its file position is neither used nor moved.
#[derive(Debug)]
pub struct FileSource {
    file: File,
    length: u64,
}

impl FileSource {
    /// Read `file` as `length` bytes, whatever its size is now.
    pub fn new(file: File, length: u64) -> Self {
        Self { file, length }
    }

    /// Read `file` to its present end.
    ///
    /// # Errors
    /// [`CoreError::Io`] when the file cannot be queried.
    pub fn to_present_end(file: File) -> Result<Self, CoreError> {
        let metadata = file
            .metadata()
            .map_err(|error| CoreError::io("stat", 0, error))?;
        Ok(Self::new(file, metadata.len()))
    }

    /// The open file.
    pub fn file(&self) -> &File {
        &self.file
    }
}

impl ReadAt for FileSource {
    fn len(&self) -> u64 {
        self.length
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> Result<(), CoreError> {
        check_range(self.length, buffer.len(), offset)?;
        let mut filled = 0;
        while filled < buffer.len() {
            let position = offset + filled as u64;
            match self.file.read_at(&mut buffer[filled..], position) {
                Ok(0) => {
                    return Err(CoreError::SourceShrank {
                        offset: position,
                        expected: (buffer.len() - filled) as u64,
                    });
                }
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(CoreError::io("read", position, error)),
            }
        }
        Ok(())
    }

    /// Into memory that nobody filled with zeros before.
    fn read_to_vec(&self) -> Result<Vec<u8>, CoreError> {
        let length = self.length as usize;
        let mut bytes = Vec::with_capacity(length);
        while bytes.len() < length {
            let position = bytes.len() as u64;
            match rustix::io::pread(&self.file, spare_capacity(&mut bytes), position) {
                Ok(0) => {
                    return Err(CoreError::SourceShrank {
                        offset: position,
                        expected: self.length - position,
                    });
                }
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(CoreError::io("read", position, error.into())),
            }
        }
        // There may be more room than was asked for, and the file may have grown.
        bytes.truncate(length);
        Ok(bytes)
    }
}

/// Bytes in memory: `&[u8]` or `Vec<u8>`.
#[derive(Debug, Clone)]
pub struct SliceSource<B>(pub B);

impl<B: AsRef<[u8]> + Send + Sync> ReadAt for SliceSource<B> {
    fn len(&self) -> u64 {
        self.0.as_ref().len() as u64
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> Result<(), CoreError> {
        check_range(self.len(), buffer.len(), offset)?;
        // `check_range` has shown that offset and end lie within the slice, so within usize.
        let start = offset as usize;
        buffer.copy_from_slice(&self.0.as_ref()[start..start + buffer.len()]);
        Ok(())
    }
}

/// A read past the declared length is answered like a source that shrank.
fn check_range(length: u64, wanted: usize, offset: u64) -> Result<(), CoreError> {
    let available = length.saturating_sub(offset);
    if wanted as u64 > available {
        return Err(CoreError::SourceShrank {
            offset: offset.saturating_add(available),
            expected: wanted as u64 - available,
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_slice_gives_its_bytes_and_refuses_what_lies_behind() {
        let source = SliceSource(b"abcdef".as_slice());
        let mut buffer = [0; 3];
        source.read_exact_at(&mut buffer, 2).unwrap();
        assert_eq!(&buffer, b"cde");
        let error = source.read_exact_at(&mut buffer, 4).unwrap_err();
        assert!(matches!(
            error,
            CoreError::SourceShrank {
                offset: 6,
                expected: 1
            }
        ));
        assert!(source.read_exact_at(&mut buffer, u64::MAX).is_err());
    }

    #[test]
    fn a_file_is_read_whole_but_not_what_was_added() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"0123456789").unwrap();
        let source = FileSource::to_present_end(file).unwrap();
        source.file().write_at(b"abc", 10).unwrap();
        assert_eq!(source.read_to_vec().unwrap(), b"0123456789");
        source.file().set_len(4).unwrap();
        let error = source.read_to_vec().unwrap_err();
        assert!(matches!(
            error,
            CoreError::SourceShrank {
                offset: 4,
                expected: 6
            }
        ));
        let slice = SliceSource(b"abc".as_slice());
        assert_eq!(slice.read_to_vec().unwrap(), b"abc");
    }

    #[test]
    fn a_file_that_shrank_is_an_error_and_not_a_short_answer() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"0123456789").unwrap();
        let source = FileSource::to_present_end(file).unwrap();
        source.file().set_len(4).unwrap();
        let mut buffer = [0; 8];
        let error = source.read_exact_at(&mut buffer, 0).unwrap_err();
        assert!(matches!(
            error,
            CoreError::SourceShrank {
                offset: 4,
                expected: 4
            }
        ));
    }
}
