//! The files of lists beside the journal: one that is being received, the newest, and the one that is about to be.
//!
//! A file is named by its digest, which is on record, so one that was changed is not used. They are public, and can be
//! uploaded again.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, BufReader, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use super::{FILE_LEN_MAX, ListFault, ListSummary, NameIndex, read_list};
use crate::domain::id::Digest;

/// What is being received. What a crash left of it is removed at the next start.
const UPLOAD: &str = "upload.new";

/// A list in memory: what it holds, and its names.
pub struct Loaded {
    /// What its file holds.
    pub summary: ListSummary,
    /// Its names.
    pub index: NameIndex,
}

/// The folder.
#[derive(Debug, Clone)]
pub struct ListFiles {
    dir: PathBuf,
}

/// A file that is being received. Dropped before it is a list, it leaves nothing.
#[derive(Debug)]
pub struct Upload {
    dir: PathBuf,
    file: File,
    len: u64,
    is_kept: bool,
}

impl ListFiles {
    /// The folder at this path, without what the run before was receiving. It is made when there is something to keep.
    pub fn open(dir: &Path) -> Self {
        remove(&dir.join(UPLOAD));
        Self { dir: dir.to_owned() }
    }

    /// Begins to receive a file. One at a time, or they write over each other.
    ///
    /// # Errors
    /// The disk.
    pub fn begin(&self) -> io::Result<Upload> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.dir)?;
        let path = self.dir.join(UPLOAD);
        let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
        Ok(Upload { dir: self.dir.clone(), file, len: 0, is_kept: false })
    }

    /// Reads the file with this digest. Takes seconds.
    ///
    /// # Errors
    /// It is not there, or is another one.
    pub fn load(&self, file: Digest) -> Result<Loaded, ListFault> {
        let loaded = read(&self.dir.join(name(file)))?;
        match loaded.summary.file == file {
            true => Ok(loaded),
            false => Err(ListFault::Io(io::Error::other("the file is not the one on record"))),
        }
    }

    /// Removes all files but these.
    ///
    /// # Errors
    /// The disk.
    pub fn keep(&self, files: &[Digest]) -> io::Result<()> {
        let kept: Vec<_> = files.iter().map(|file| name(*file)).collect();
        for entry in fs::read_dir(&self.dir)? {
            let entry = entry?;
            let found = entry.file_name();
            let found = found.to_string_lossy();
            if found.ends_with(".list") && !kept.iter().any(|name| *name == found) {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }
}

impl Upload {
    /// Takes the next part.
    ///
    /// # Errors
    /// It is too long, or the disk.
    pub fn write(&mut self, part: &[u8]) -> Result<(), ListFault> {
        self.len = self.len.saturating_add(part.len() as u64);
        if self.len > FILE_LEN_MAX {
            return Err(ListFault::TooLong);
        }
        Ok(self.file.write_all(part)?)
    }

    /// Reads what was received, and keeps it when it is a list. Takes seconds.
    ///
    /// # Errors
    /// It is no list, or the disk.
    pub fn finish(mut self) -> Result<Loaded, ListFault> {
        self.file.sync_all()?;
        let path = self.dir.join(UPLOAD);
        let loaded = read(&path)?;
        fs::rename(&path, self.dir.join(name(loaded.summary.file)))?;
        self.is_kept = true;
        File::open(&self.dir)?.sync_all()?;
        Ok(loaded)
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if !self.is_kept {
            remove(&self.dir.join(UPLOAD));
        }
    }
}

/// Removes what is no list. What cannot be removed is written over by the next upload.
fn remove(upload: &Path) {
    match fs::remove_file(upload) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(path = %upload.display(), %error, "an upload that is no list was not removed");
        }
        Ok(()) | Err(_) => {}
    }
}

fn name(file: Digest) -> String {
    format!("{file}.list")
}

fn read(path: &Path) -> Result<Loaded, ListFault> {
    let mut index = NameIndex::new();
    let summary = read_list(BufReader::new(File::open(path)?), |entry| index.add(entry))?;
    Ok(Loaded { summary, index })
}
