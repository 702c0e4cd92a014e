//! What a gate keeps on disk across restarts: its view, so that it resumes by deltas, and the last signed head, so that a
//! server which lost history is refused by a gate that was restarted meanwhile.
//!
//! Nothing is permitted on what was read before the first Pong. A file that is not whole, not of this service or not of
//! this version is passed over.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use minicbor::bytes::ByteVec;
use minicbor::{Decode, Encode};
use thiserror::Error;
use tokio::task::JoinHandle;

use crate::domain::codec::{from_bytes, to_bytes};
use crate::domain::enforce::message::SNAPSHOT_LEN_MAX;
use crate::domain::enforce::{EnforcementSet, Position};
use crate::domain::id::{Digest, EntityId};

/// Names the format and its version.
const MAGIC: [u8; 8] = *b"CSGATE01";
/// Magic, SHA-256 of what follows, length before compression.
const HEADER_LEN: usize = 8 + 32 + 8;
/// The longest content: a snapshot of the feed, 100,000 names of entities and the head.
const CONTENT_LEN_MAX: usize = SNAPSHOT_LEN_MAX + (4 << 20);
/// How hard it is compressed: the fastest.
const LEVEL: i32 = 1;

/// Where a gate keeps its view, and how often.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotFile {
    /// The file; made with mode 0600, replaced in one piece. Its folder must exist.
    pub path: PathBuf,
    /// It is written at most this often, in milliseconds, and when the gate is shut down.
    pub every_ms: u32,
}

impl SnapshotFile {
    /// At this path, every ten seconds.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), every_ms: 10_000 }
    }
}

/// What is kept. The head is of this epoch and not before the position: a server that is behind the one is behind the
/// other.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub struct Kept {
    #[n(0)]
    pub(super) position: Position,
    #[n(1)]
    pub(super) digest: Digest,
    #[n(2)]
    pub(super) signed_head: ByteVec,
    #[n(3)]
    pub(super) enforcement: EnforcementSet,
    #[n(4)]
    pub(super) asked: Vec<EntityId>,
}

/// Why a file is passed over.
#[derive(Debug, Error)]
pub enum KeepFault {
    /// The system does not give it.
    #[error("it cannot be read: {0}")]
    Io(#[from] io::Error),
    /// It does not begin as one does.
    #[error("it is no kept view of this version")]
    Foreign,
    /// It is cut off or was changed.
    #[error("it is not whole")]
    Broken,
    /// It is whole, and not what a gate writes.
    #[error("its content cannot be read: {0}")]
    Content(String),
}

/// Reads what was kept; none: there is no file.
pub(super) fn read(path: &Path) -> Result<Option<Kept>, KeepFault> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let mut bytes = Vec::new();
    // One byte more than there may be: a longer file is seen to be one, and not read.
    file.take((HEADER_LEN + CONTENT_LEN_MAX) as u64 + 1).read_to_end(&mut bytes)?;
    Kept::from_bytes(&bytes).map(Some)
}

impl Kept {
    /// Reads the content of a file.
    ///
    /// # Errors
    /// Why it is passed over.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, KeepFault> {
        let (magic, rest) = bytes.split_first_chunk::<8>().ok_or(KeepFault::Foreign)?;
        if *magic != MAGIC {
            return Err(KeepFault::Foreign);
        }
        let (sha256, rest) = rest.split_first_chunk::<32>().ok_or(KeepFault::Broken)?;
        if Digest::of(rest) != Digest(*sha256) {
            return Err(KeepFault::Broken);
        }
        let (len, content) = rest.split_first_chunk::<8>().ok_or(KeepFault::Broken)?;
        let len = usize::try_from(u64::from_be_bytes(*len)).unwrap_or(usize::MAX);
        if len > CONTENT_LEN_MAX {
            return Err(KeepFault::Broken);
        }
        let content =
            zstd::bulk::decompress(content, len).map_err(|error| KeepFault::Content(error.to_string()))?;
        from_bytes(&content).map_err(|error| KeepFault::Content(error.to_string()))
    }
}

/// Writes what is to be kept: whole, and on disk when this returns.
pub(super) fn write(path: &Path, kept: &Kept) -> io::Result<()> {
    let content = to_bytes(kept);
    let len = (content.len() as u64).to_be_bytes();
    let body = [len.as_slice(), &zstd::bulk::compress(&content, LEVEL)?].concat();
    replace(path, &[MAGIC.as_slice(), &Digest::of(&body).0, &body].concat())
}

/// Puts these bytes in the place of a file, readable by its owner only: all of them or none, also when the power fails.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let new = PathBuf::from(name);
    // One that a crash left behind may have another mode.
    match std::fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&new, path)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

/// Writes a view from time to time, one at a time, beside whoever is waiting for messages.
#[derive(Debug)]
pub(super) struct Saver {
    file: SnapshotFile,
    last_ms: Option<u64>,
    saved: Option<(Position, ByteVec)>,
    writing: Option<JoinHandle<()>>,
}

impl Saver {
    pub(super) const fn new(file: SnapshotFile) -> Self {
        Self { file, last_ms: None, saved: None, writing: None }
    }

    /// Is it time?
    pub(super) fn is_due(&self, boot_ms: u64) -> bool {
        let is_writing = self.writing.as_ref().is_some_and(|writing| !writing.is_finished());
        let since = |last: u64| boot_ms.saturating_sub(last) >= u64::from(self.file.every_ms);
        !is_writing && self.last_ms.is_none_or(since)
    }

    /// Begins to write, unless this is what was written last.
    pub(super) fn save(&mut self, kept: Kept, boot_ms: u64) {
        let state = (kept.position, kept.signed_head.clone());
        if self.saved.as_ref() == Some(&state) {
            return;
        }
        (self.last_ms, self.saved) = (Some(boot_ms), Some(state));
        let path = self.file.path.clone();
        self.writing = Some(tokio::task::spawn_blocking(move || {
            if let Err(error) = write(&path, &kept) {
                tracing::error!(path = %path.display(), %error, "the view could not be kept");
            }
        }));
    }

    /// Writes this last one and waits until it is on disk.
    pub(super) async fn finish(mut self, kept: Option<Kept>) {
        // A task that panicked has written nothing, and said so.
        if let Some(writing) = self.writing.take() {
            drop(writing.await);
        }
        if let Some(kept) = kept {
            self.save(kept, 0);
        }
        if let Some(writing) = self.writing.take() {
            drop(writing.await);
        }
    }
}
