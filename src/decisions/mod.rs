//! What gateways decided, as they reported it: a bounded log of its own beside the journal, so that a busy gateway can
//! neither delay nor fill the record.
//!
//! A batch is on disk when [`DecisionLog::append`] returns, and the same batch again is not stored twice. Called by `app`.

mod frame;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use thiserror::Error;

use crate::domain::enforce::DecisionBatch;
use crate::domain::id::{BootId, PrincipalId};

/// How long a segment becomes: small enough to be read whole.
const SEGMENT_LEN: u64 = 16 << 20;
/// How many segments there are; the oldest goes for a new one. All of them are read at a start: 256 MiB.
const SEGMENTS_MAX: usize = 16;
/// The most runs of gateways whose last batch is remembered.
const RUNS_MAX: usize = 100_000;

/// Is the batch stored by this call?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stored {
    /// Yes, and it is on disk.
    Now,
    /// It was before.
    Before,
}

/// A batch is not stored.
#[derive(Debug, Error)]
pub enum DecisionLogFault {
    /// This write failed, and nothing of it is left.
    #[error("decisions cannot be written: {0}")]
    Io(#[from] io::Error),
    /// A sync failed, or opening: nobody knows what is on disk until the next start.
    #[error("the log of decisions is closed: {0}")]
    Closed(String),
}

/// The log.
#[derive(Debug)]
pub struct DecisionLog(Mutex<Log>);

#[derive(Debug)]
struct Log {
    dir: PathBuf,
    /// Numbers of the segments, oldest first.
    segments: VecDeque<u64>,
    /// The last one, and how long it is.
    tail: Option<(File, u64)>,
    last: BTreeMap<(PrincipalId, BootId), u64>,
    closed: Option<String>,
}

impl DecisionLog {
    /// Opens the log in this folder, which the first batch makes. A batch that a crash tore was never acknowledged, and is cut off. A log
    /// that cannot be opened stores nothing and says so; the service runs without it.
    pub fn open(dir: &Path) -> Self {
        let mut log = Log {
            dir: dir.to_owned(),
            segments: VecDeque::new(),
            tail: None,
            last: BTreeMap::new(),
            closed: None,
        };
        if let Err(error) = log.open() {
            tracing::error!(path = %dir.display(), %error, "the log of decisions cannot be opened; reports are refused");
            log.closed = Some(error.to_string());
        }
        Self(Mutex::new(log))
    }

    fn lock(&self) -> MutexGuard<'_, Log> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stores a batch. Blocks for a write and its sync.
    ///
    /// # Errors
    /// It is not stored.
    pub fn append(&self, batch: &DecisionBatch) -> Result<Stored, DecisionLogFault> {
        self.lock().append(batch)
    }

    /// Every batch that is kept, oldest first: for tests and later for queries.
    ///
    /// # Errors
    /// A segment cannot be read.
    pub fn read_all(&self) -> Result<Vec<DecisionBatch>, io::Error> {
        let log = self.lock();
        let mut batches = Vec::new();
        for segment in &log.segments {
            let bytes = std::fs::read(log.path(*segment))?;
            batches.extend(frame::Frames::of(&bytes).filter_map(|(_, batch)| batch));
        }
        Ok(batches)
    }
}

impl Log {
    fn path(&self, segment: u64) -> PathBuf {
        self.dir.join(format!("{segment:020}.log"))
    }

    fn open(&mut self) -> io::Result<()> {
        let entries = match std::fs::read_dir(&self.dir) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            entries => entries?,
        };
        let mut segments = Vec::new();
        for entry in entries {
            let name = entry?.file_name();
            let number: Option<u64> = name.to_str().and_then(|name| name.strip_suffix(".log")?.parse().ok());
            segments.extend(number);
        }
        segments.sort_unstable();
        self.segments = segments.into();
        for segment in self.segments.clone() {
            let path = self.path(segment);
            let bytes = std::fs::read(&path)?;
            let mut good = 0;
            for (end, batch) in frame::Frames::of(&bytes) {
                good = end as u64;
                if let Some(batch) = batch {
                    self.remember(&batch);
                }
            }
            let is_torn = good < bytes.len() as u64;
            let is_last = self.segments.back() == Some(&segment);
            if is_torn && !is_last {
                tracing::error!(path = %path.display(), offset = good, "decisions after this are damaged");
            }
            if is_last {
                let file = OpenOptions::new().append(true).open(&path)?;
                if is_torn {
                    tracing::warn!(path = %path.display(), offset = good, "a torn batch of decisions was cut off");
                    file.set_len(good)?;
                    file.sync_all()?;
                }
                self.tail = Some((file, good));
            }
        }
        Ok(())
    }

    fn remember(&mut self, batch: &DecisionBatch) {
        let key = (batch.gateway.clone(), batch.boot);
        if self.last.len() >= RUNS_MAX && !self.last.contains_key(&key) {
            drop(self.last.pop_first());
        }
        let last = self.last.entry(key).or_default();
        *last = batch.number.max(*last);
    }

    fn append(&mut self, batch: &DecisionBatch) -> Result<Stored, DecisionLogFault> {
        if let Some(why) = &self.closed {
            return Err(DecisionLogFault::Closed(why.clone()));
        }
        let key = (batch.gateway.clone(), batch.boot);
        if self.last.get(&key).is_some_and(|last| batch.number <= *last) {
            return Ok(Stored::Before);
        }
        let frame = frame::encode(batch)?;
        if self.tail.as_ref().is_none_or(|(_, len)| len + frame.len() as u64 > SEGMENT_LEN) {
            self.begin_segment()?;
        }
        self.write(&frame)?;
        self.remember(batch);
        Ok(Stored::Now)
    }

    fn create_dir(&self) -> io::Result<()> {
        match DirBuilder::new().mode(0o700).create(&self.dir) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
            Ok(()) | Err(_) => {}
        }
        // Its name must be on disk too, or the power could take the folder with what was acknowledged.
        match self.dir.parent() {
            Some(parent) => File::open(parent)?.sync_all(),
            None => Ok(()),
        }
    }

    fn begin_segment(&mut self) -> io::Result<()> {
        if self.segments.is_empty() {
            self.create_dir()?;
        }
        let next = self.segments.back().map_or(1, |last| last + 1);
        let file = OpenOptions::new().append(true).create_new(true).mode(0o600).open(self.path(next))?;
        File::open(&self.dir)?.sync_all()?;
        self.tail = Some((file, 0));
        self.segments.push_back(next);
        while self.segments.len() > SEGMENTS_MAX {
            let Some(oldest) = self.segments.pop_front() else { break };
            tracing::warn!(segment = oldest, "the oldest reported decisions make room for new ones");
            std::fs::remove_file(self.path(oldest))?;
        }
        Ok(())
    }

    fn write(&mut self, frame: &[u8]) -> Result<(), DecisionLogFault> {
        let Some((file, len)) = &mut self.tail else {
            return Err(DecisionLogFault::Closed("there is no segment".to_owned()));
        };
        if let Err(error) = file.write_all(frame) {
            // What was written of it is taken back, or the next batch would stand behind it and be lost.
            if let Err(worse) = file.set_len(*len) {
                self.closed = Some(worse.to_string());
            }
            return Err(error.into());
        }
        if let Err(error) = file.sync_data() {
            // A sync that failed is never tried again: the kernel may have forgotten what it could not write.
            self.closed = Some(error.to_string());
            return Err(DecisionLogFault::Closed(error.to_string()));
        }
        *len += frame.len() as u64;
        Ok(())
    }
}
