//! A lock on a file that shows other processes that what lies beside it has an owner.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// A held lock (flock(2)). Dropping it releases it at once, even while a child process that is being started still
/// shares the descriptor.
#[derive(Debug)]
pub struct FileLock(File);

impl FileLock {
    /// Takes the lock, and makes its file (0600) if there is none.
    ///
    /// # Errors
    /// `WouldBlock` when somebody else holds it; otherwise the file cannot be opened or locked.
    pub fn take(path: &Path) -> io::Result<Self> {
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Self(file)),
            Err(TryLockError::WouldBlock) => Err(ErrorKind::WouldBlock.into()),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}

impl Drop for FileLock {
    fn drop(&mut self) {
        // When it fails, closing the file still releases the lock.
        drop(self.0.unlock());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_that_a_duplicate_of_its_descriptor_outlives_is_released() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let lock = FileLock::take(&path).unwrap();
        let shared = lock.0.try_clone().unwrap();
        assert_eq!(FileLock::take(&path).unwrap_err().kind(), ErrorKind::WouldBlock);
        drop(lock);
        drop(FileLock::take(&path).unwrap());
        drop(shared);
    }
}
