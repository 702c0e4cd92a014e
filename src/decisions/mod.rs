//! What gateways decided, as they reported it: a bounded log of its own beside the journal, so that a busy gateway can
//! neither delay nor fill the record, nor push out what others reported.
//!
//! Each gateway has segments of its own. When all of them together are too long, the oldest of the gateway that holds the
//! most goes: nobody falls below an equal share because of somebody else. A batch is on disk when [`DecisionLog::append`]
//! returns, and the same batch again is not stored twice. Called by `app`.

pub mod record;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use thiserror::Error;

use crate::domain::enforce::DecisionBatch;
use crate::domain::id::{BootId, PrincipalId};
use crate::segments::{self, AppendFault, Frames};

/// How long all segments are together: all of them are read at a start.
const LEN_MAX: u64 = 256 << 20;
/// How long a segment becomes at least, so that there are not too many files, and at most, so that it can be read whole.
const SEGMENT_LEN: (u64, u64) = (64 << 10, 4 << 20);
/// How many segments a share is: so much of it goes at once.
const SEGMENTS_OF_SHARE: u64 = 4;
/// The most runs of one gateway whose last batch is remembered: only of the last few may one come again.
const RUNS_MAX: usize = 100;

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
    /// How long all segments may be together, and are.
    len_max: u64,
    len: u64,
    /// The number of the next segment, whosever it is.
    next: u64,
    gateways: BTreeMap<PrincipalId, Own>,
    closed: Option<String>,
}

/// What the log has of one gateway.
#[derive(Debug, Default)]
struct Own {
    /// Oldest first.
    segments: VecDeque<Segment>,
    /// How long they are together.
    len: u64,
    /// Runs and their last batches; the run that was heard last is at the end.
    last: VecDeque<(BootId, u64)>,
}

#[derive(Debug, Clone, Copy)]
struct Segment {
    number: u64,
    len: u64,
}

impl Own {
    fn last(&self, boot: BootId) -> u64 {
        self.last.iter().find(|(run, _)| *run == boot).map_or(0, |(_, number)| *number)
    }

    /// Who invents runs forgets its own.
    fn remember(&mut self, batch: &DecisionBatch) {
        let last = self.last(batch.boot).max(batch.number);
        self.last.retain(|(run, _)| *run != batch.boot);
        if self.last.len() >= RUNS_MAX {
            self.last.pop_front();
        }
        self.last.push_back((batch.boot, last));
    }
}

impl DecisionLog {
    /// Opens the log in this folder, which the first batch makes. A batch that a crash tore was never acknowledged, and is cut off. A log
    /// that cannot be opened stores nothing and says so; the service runs without it.
    pub fn open(dir: &Path) -> Self {
        let mut log = Log {
            dir: dir.to_owned(),
            len_max: LEN_MAX,
            len: 0,
            next: 1,
            gateways: BTreeMap::new(),
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

    /// Every batch that is kept, gateway by gateway, oldest first: for tests and later for queries.
    ///
    /// # Errors
    /// A segment cannot be read.
    pub fn read_all(&self) -> Result<Vec<DecisionBatch>, io::Error> {
        let log = self.lock();
        let mut batches = Vec::new();
        for (gateway, own) in &log.gateways {
            for segment in &own.segments {
                let bytes = std::fs::read(path(&log.dir, segment.number, gateway))?;
                batches.extend(Frames::of(&bytes).filter_map(|(_, batch)| batch));
            }
        }
        Ok(batches)
    }
}

/// Names of gateways are at most 64 of a-z, 0-9, '-', '.' and '_'.
fn path(dir: &Path, number: u64, gateway: &PrincipalId) -> PathBuf {
    dir.join(format!("{number:020}.{gateway}.log"))
}

fn parts(name: &str) -> Option<(u64, PrincipalId)> {
    let (number, gateway) = name.strip_suffix(".log")?.split_once('.')?;
    Some((number.parse().ok()?, gateway.parse().ok()?))
}

impl Log {
    fn open(&mut self) -> io::Result<()> {
        let entries = match std::fs::read_dir(&self.dir) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            entries => entries?,
        };
        let mut found: BTreeMap<PrincipalId, BTreeSet<u64>> = BTreeMap::new();
        for entry in entries {
            if let Some((number, gateway)) = entry?.file_name().to_str().and_then(parts) {
                self.next = self.next.max(number.saturating_add(1));
                found.entry(gateway).or_default().insert(number);
            }
        }
        for (gateway, numbers) in found {
            let mut own = Own::default();
            for number in &numbers {
                let path = path(&self.dir, *number, &gateway);
                let len = load(&path, numbers.last() == Some(number), &mut own)?;
                own.segments.push_back(Segment { number: *number, len });
                own.len += len;
            }
            self.len += own.len;
            self.gateways.insert(gateway, own);
        }
        Ok(())
    }

    fn append(&mut self, batch: &DecisionBatch) -> Result<Stored, DecisionLogFault> {
        if let Some(why) = &self.closed {
            return Err(DecisionLogFault::Closed(why.clone()));
        }
        let own = self.gateways.entry(batch.gateway.clone()).or_default();
        if batch.number <= own.last(batch.boot) {
            return Ok(Stored::Before);
        }
        let frame = segments::encode(batch)?;
        self.make_room(frame.len() as u64)?;
        let (mut file, mut tail) = self.tail(&batch.gateway, frame.len() as u64)?;
        self.write((&mut file, tail.len), &frame)?;
        tail.len += frame.len() as u64;
        self.len += frame.len() as u64;
        let own = self.gateways.entry(batch.gateway.clone()).or_default();
        own.len += frame.len() as u64;
        own.segments.pop_back();
        own.segments.push_back(tail);
        own.remember(batch);
        Ok(Stored::Now)
    }

    fn make_room(&mut self, len: u64) -> io::Result<()> {
        while self.len + len > self.len_max {
            let longest = self.gateways.iter_mut().max_by_key(|(_, own)| own.len);
            let Some((gateway, own)) = longest else { break };
            let Some(oldest) = own.segments.front().copied() else { break };
            tracing::warn!(
                gateway.id = %gateway, segment = oldest.number,
                "the log of decisions is full: the oldest of the gateway that reported the most make room"
            );
            match std::fs::remove_file(path(&self.dir, oldest.number, gateway)) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                Ok(()) | Err(_) => {}
            }
            own.segments.pop_front();
            own.len -= oldest.len;
            self.len -= oldest.len;
        }
        Ok(())
    }

    /// The last segment of this gateway, or a new one when there is no room in it.
    fn tail(&mut self, gateway: &PrincipalId, len: u64) -> io::Result<(File, Segment)> {
        let share = self.len_max / (self.gateways.len() as u64).max(1);
        let len_max = (share / SEGMENTS_OF_SHARE).clamp(SEGMENT_LEN.0, SEGMENT_LEN.1);
        let last = self.gateways.get(gateway).and_then(|own| own.segments.back().copied());
        match last {
            Some(last) if last.len == 0 || last.len + len <= len_max => {
                // Not kept open: there may be more gateways than file descriptors.
                let file = OpenOptions::new().append(true).open(path(&self.dir, last.number, gateway))?;
                Ok((file, last))
            }
            Some(_) | None => self.begin_segment(gateway),
        }
    }

    fn begin_segment(&mut self, gateway: &PrincipalId) -> io::Result<(File, Segment)> {
        if self.gateways.values().all(|own| own.segments.is_empty()) {
            segments::create_dir(&self.dir)?;
        }
        let segment = Segment { number: self.next, len: 0 };
        // Whatever fails from here on, the next try takes another name: this one may exist by then.
        self.next = self.next.saturating_add(1);
        let file = segments::create(&path(&self.dir, segment.number, gateway))?;
        self.gateways.entry(gateway.clone()).or_default().segments.push_back(segment);
        Ok((file, segment))
    }

    fn write(&mut self, file: (&mut File, u64), frame: &[u8]) -> Result<(), DecisionLogFault> {
        segments::append(file, frame).map_err(|fault| match fault {
            AppendFault::Undone(error) => error.into(),
            AppendFault::Unknown(error) => {
                self.closed = Some(error.to_string());
                DecisionLogFault::Closed(error.to_string())
            }
        })
    }
}

/// Remembers the batches of a segment, and cuts off a torn end of the last one. Gives its length.
fn load(path: &Path, is_last: bool, own: &mut Own) -> io::Result<u64> {
    let bytes = std::fs::read(path)?;
    let mut good = 0;
    for (end, batch) in Frames::<DecisionBatch>::of(&bytes) {
        good = end as u64;
        if let Some(batch) = batch {
            own.remember(&batch);
        }
    }
    let len = bytes.len() as u64;
    if good == len {
        return Ok(len);
    }
    if !is_last {
        tracing::error!(path = %path.display(), offset = good, "decisions after this are damaged");
        return Ok(len);
    }
    tracing::warn!(path = %path.display(), offset = good, "a torn batch of decisions was cut off");
    segments::cut(path, good)?;
    Ok(good)
}
