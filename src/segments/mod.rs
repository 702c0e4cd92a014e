//! What logs beside the journal have in common: a folder of bounded files, each a row of frames. A frame is appended and synced
//! whole or taken back; a sync that failed closes the log until the next start. Knows nothing of what the frames say.

mod frame;
pub mod sealed;

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use thiserror::Error;

pub use frame::{Frames, encode};

/// A frame is not stored.
#[derive(Debug, Error)]
pub enum AppendFault {
    /// This write failed, and nothing of it is left.
    #[error("{0}")]
    Undone(#[from] io::Error),
    /// Nobody knows what is on disk until the next start.
    #[error("{0}")]
    Unknown(io::Error),
}

/// Makes a log's folder.
///
/// # Errors
/// It cannot be made, or its name does not reach the disk.
pub fn create_dir(dir: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(dir) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
        Ok(()) | Err(_) => {}
    }
    // Its name must be on disk too, or the power could take the folder with what was acknowledged.
    match dir.parent() {
        Some(parent) => sync_dir(parent),
        None => Ok(()),
    }
}

/// Has names in a folder reach the disk.
///
/// # Errors
/// They do not.
pub fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Begins a file of a log.
///
/// # Errors
/// It exists, or cannot be made; then nothing is left of it.
pub fn create(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().append(true).create_new(true).mode(0o600).open(path)?;
    if let Some(dir) = path.parent()
        && let Err(error) = sync_dir(dir)
    {
        // Left behind, it would be an empty segment at the next start: no harm.
        drop(std::fs::remove_file(path));
        return Err(error);
    }
    Ok(file)
}

/// Appends a frame to a file of this length, and syncs it.
///
/// # Errors
/// It is not stored.
pub fn append((file, len): (&mut File, u64), frame: &[u8]) -> Result<(), AppendFault> {
    if let Err(error) = file.write_all(frame) {
        // What was written of it is taken back, or the next frame would stand behind it and be lost.
        return Err(match file.set_len(len) {
            Ok(()) => AppendFault::Undone(error),
            Err(worse) => AppendFault::Unknown(worse),
        });
    }
    // A sync that failed is never tried again: the kernel may have forgotten what it could not write.
    file.sync_data().map_err(AppendFault::Unknown)
}

/// Cuts off what a crash tore.
///
/// # Errors
/// The file cannot be changed.
pub fn cut(path: &Path, len: u64) -> io::Result<()> {
    let file = OpenOptions::new().append(true).open(path)?;
    file.set_len(len)?;
    file.sync_all()
}
