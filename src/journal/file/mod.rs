//! The journal in files: segments that hold one frame per batch, a lock, and a reserve for restricting batches.
//!
//! `Done` means written and fdatasynced. A failed write or sync closes the journal for good; opening it anew checks
//! the tail again. A torn last frame disappears whole and is reported; any other damage is an error that names file,
//! byte and record. The format is described in `format` and ARCHITECTURE.md. Used by `app`; `verify` also offline.

mod copy;
mod format;
mod read;
mod scan;
mod verify;
mod writer;

use std::any::Any;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::watch;

use self::scan::{Reserve, Scan, Segment};
use self::writer::{TailFile, Trouble, Writer};
use super::disk::{self, Disk, DiskFile, Mode};
use super::merkle::Frontier;
use super::{Batch, Condition, Head, Journal, JournalError, Outcome, Position, Record};
use crate::domain::id::{Epoch, Seq};
use crate::domain::time::Timestamp;

pub use self::verify::{VerifyReport, look, verify};

/// The usual length of a segment: read into memory whole at open, and small enough to copy or archive at a time.
pub const SEGMENT_LEN: u64 = 64 << 20;
/// The longest segment that may be configured: it is read into memory whole.
pub const SEGMENT_LEN_MAX: u64 = 1 << 30;
/// How much a segment is extended at a time: overwriting costs two thirds of appending, and 1 MiB takes about a millisecond.
pub const GROW_LEN: u64 = 1 << 20;
/// The usual low-water mark: a day of ordinary records, so that there is time to make room.
pub const LOW_WATER: u64 = 64 << 20;
/// The reserve: two thousand stops of about 500 bytes.
pub const RESERVE_LEN: u64 = 1 << 20;

/// The file that whoever has a journal open holds a lock on.
pub const LOCK: &str = "lock";
/// Room for restrictions when the disk is full.
pub const RESERVE: &str = "reserve";

/// How a journal is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Random bytes, anew at each start (`Entropy::bytes16`): what begins a frame cannot be guessed by who writes bodies.
    pub salt: [u8; 16],
    /// A segment that reaches this length is followed by a new one.
    pub segment_len: u64,
    /// How much a segment is extended at a time.
    pub grow_len: u64,
    /// Under this much free space, ordinary batches are refused.
    pub low_water: u64,
}

impl Options {
    /// The usual sizes.
    pub const fn new(salt: [u8; 16]) -> Self {
        Self { salt, segment_len: SEGMENT_LEN, grow_len: GROW_LEN, low_water: LOW_WATER }
    }

    fn check(&self) -> Result<(), JournalError> {
        if !(8192..=SEGMENT_LEN_MAX).contains(&self.segment_len) {
            return Err(JournalError::Option("segment_len must be from 8 KiB to 1 GiB"));
        }
        if !(4096..=self.segment_len).contains(&self.grow_len) {
            return Err(JournalError::Option("grow_len must be from 4 KiB to segment_len"));
        }
        Ok(())
    }
}

/// A frame that was torn by a crash, so never acknowledged; or the last one, damaged later, which looks the same.
/// Signed heads and snapshots tell the two apart: open with the newest as the vouched position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dropped {
    /// The segment file.
    pub segment: String,
    /// Where it began.
    pub offset: u64,
    /// How many bytes, to the last that is not zero.
    pub len: u64,
    /// The number its first record had.
    pub seq: Seq,
    /// What did not hold.
    pub why: &'static str,
}

/// What opening found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenReport {
    /// The last record.
    pub head: Head,
    /// How many segments there are.
    pub segments: usize,
    /// How many records were checked.
    pub records: u64,
    /// What was torn.
    pub dropped: Option<Dropped>,
    /// True when the last records stand in the reserve: the disk was full.
    pub in_reserve: bool,
}

/// A journal in a directory of its own.
pub struct FileJournal {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    writer: Mutex<Writer>,
    segments: Arc<Mutex<Vec<Segment>>>,
    head: watch::Sender<Head>,
    _lock: Box<dyn Any + Send + Sync>,
}

impl FileJournal {
    /// Makes a journal without records in a directory that has none.
    pub fn create(dir: &Path, epoch: Epoch, options: &Options) -> Result<Self, JournalError> {
        Self::create_on(disk::of(dir), dir, epoch, options)
    }

    /// Opens a journal. With a vouched position (from a snapshot or a signed head) only what follows the segment that
    /// holds it is checked; without one, everything is.
    pub fn open(
        dir: &Path,
        options: &Options,
        vouched: Option<Position>,
    ) -> Result<(Self, OpenReport), JournalError> {
        Self::open_showing(dir, options, vouched, &mut |_| {})
    }

    /// The same, and shows each record that is checked to the visitor, in order: records before the vouched position that
    /// stand in its segment, too.
    pub fn open_showing(
        dir: &Path,
        options: &Options,
        vouched: Option<Position>,
        visit: &mut dyn FnMut(&Record),
    ) -> Result<(Self, OpenReport), JournalError> {
        Self::open_on(disk::of(dir), dir, (options, vouched), visit)
    }

    /// The tree at the head.
    pub fn frontier(&self) -> Frontier {
        self.writer().frontier.clone()
    }

    fn create_on(
        disk: Arc<dyn Disk>,
        dir: &Path,
        epoch: Epoch,
        options: &Options,
    ) -> Result<Self, JournalError> {
        options.check()?;
        disk.create_dir(dir).map_err(|source| io("create", dir, source))?;
        if let Some(parent) = dir.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            disk.sync_dir(parent).map_err(|source| io("sync", parent, source))?;
        }
        let lock = lock(disk.as_ref(), dir)?;
        let names = disk.list(dir).map_err(|source| io("list", dir, source))?;
        if names.iter().any(|name| name.ends_with(".seg")) {
            return Err(JournalError::Exists { dir: dir.to_path_buf() });
        }
        let frontier = Frontier::default();
        let head = Head { epoch, seq: Seq(0), root: frontier.root(), time: Timestamp::default() };
        let first = writer::next_header(options, &head, &frontier);
        let reserve = writer::new_reserve(disk.as_ref(), dir).map_err(|trouble| trouble_at(dir, trouble))?;
        let tail = writer::create_segment(disk.as_ref(), dir, options, first)
            .map_err(|trouble| trouble_at(dir, trouble))?;
        let segments = Arc::new(Mutex::new(vec![Segment::new(Seq(1), segment_name(Seq(1)))]));
        let (dir, options) = (dir.to_path_buf(), options.clone());
        let writer = Writer { disk, dir, options, head, frontier, tail, reserve, segments, closed: None };
        Ok(Self::assemble(writer, lock))
    }

    fn open_on(
        disk: Arc<dyn Disk>,
        dir: &Path,
        (options, vouched): (&Options, Option<Position>),
        visit: &mut dyn FnMut(&Record),
    ) -> Result<(Self, OpenReport), JournalError> {
        options.check()?;
        let names = disk.list(dir).map_err(|source| match source.kind() {
            ErrorKind::NotFound => JournalError::Missing { dir: dir.to_path_buf() },
            _ => io("list", dir, source),
        })?;
        if !names.iter().any(|name| name.ends_with(".seg")) {
            return Err(JournalError::Missing { dir: dir.to_path_buf() });
        }
        let lock = lock(disk.as_ref(), dir)?;
        settle(disk.as_ref(), dir, &names)?;
        let scan = scan::scan(disk.as_ref(), dir, vouched, visit)?;
        let in_reserve = scan.reserve == Reserve::InUse;
        let report = OpenReport {
            head: scan.head,
            segments: scan.segments.len(),
            records: scan.records,
            dropped: scan.dropped.clone(),
            in_reserve,
        };
        remove_unfinished(disk.as_ref(), dir)?;
        let tail = restore_tail(disk.as_ref(), dir, &scan)?;
        let reserve = restore_reserve(disk.as_ref(), dir, scan.reserve)?;
        let (head, frontier) = (scan.head, scan.frontier);
        let segments = Arc::new(Mutex::new(scan.segments));
        let (dir, options) = (dir.to_path_buf(), options.clone());
        let writer = Writer { disk, dir, options, head, frontier, tail, reserve, segments, closed: None };
        Ok((Self::assemble(writer, lock), report))
    }

    fn assemble(writer: Writer, lock: Box<dyn Any + Send + Sync>) -> Self {
        let (head, _) = watch::channel(writer.head);
        let (disk, dir, segments) =
            (Arc::clone(&writer.disk), writer.dir.clone(), Arc::clone(&writer.segments));
        Self { disk, dir, writer: Mutex::new(writer), segments, head, _lock: lock }
    }

    fn writer(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(|poisoned| {
            let mut writer = poisoned.into_inner();
            // What the interrupted append wrote is not known; the tail is checked at the next open.
            writer.closed = Some("an append was interrupted by a panic".into());
            writer
        })
    }
}

impl Journal for FileJournal {
    fn append(&self, expected_next: Seq, batch: &Batch) -> Outcome {
        let mut writer = self.writer();
        let outcome = writer.append(expected_next, batch);
        if let Outcome::Done(_) = outcome {
            // Under the writer's lock, so that heads are seen in order.
            self.head.send_replace(writer.head);
        }
        outcome
    }

    fn read(&self, from: Seq, limit: usize) -> Result<Vec<Record>, JournalError> {
        read::read(self, from, limit)
    }

    fn head(&self) -> Head {
        *self.head.borrow()
    }

    fn watch(&self) -> watch::Receiver<Head> {
        self.head.subscribe()
    }

    fn condition(&self) -> Condition {
        let writer = self.writer();
        writer.closed.clone().map_or_else(|| Condition::Open(writer.space()), Condition::Closed)
    }
}

fn segment_name(first: Seq) -> String {
    format!("{:020}.seg", first.0)
}

fn io(what: &'static str, path: &Path, source: io::Error) -> JournalError {
    JournalError::Io { what, path: path.to_path_buf(), source }
}

fn trouble_at(dir: &Path, trouble: Trouble) -> JournalError {
    match trouble {
        Trouble::Full => io("write", dir, ErrorKind::StorageFull.into()),
        Trouble::Broken(why) => io("write", dir, io::Error::other(why)),
    }
}

fn lock(disk: &dyn Disk, dir: &Path) -> Result<Box<dyn Any + Send + Sync>, JournalError> {
    let path = dir.join(LOCK);
    disk.lock(&path).map_err(|source| match source.kind() {
        ErrorKind::WouldBlock => JournalError::InUse { dir: dir.to_path_buf() },
        _ => io("lock", &path, source),
    })
}

/// Files that never got their name hold nothing.
fn remove_unfinished(disk: &dyn Disk, dir: &Path) -> Result<(), JournalError> {
    let names = disk.list(dir).map_err(|source| io("list", dir, source))?;
    for name in names.iter().filter(|name| name.ends_with(".new")) {
        let path = dir.join(name);
        disk.remove(&path).map_err(|source| io("remove", &path, source))?;
    }
    disk.sync_dir(dir).map_err(|source| io("sync", dir, source))
}

/// What an earlier process wrote and could not sync is made durable or gone before anything is read. Only the last
/// frame can be concerned, so only the files that can hold it.
fn settle(disk: &dyn Disk, dir: &Path, names: &[String]) -> Result<(), JournalError> {
    let last = names.iter().filter(|name| name.ends_with(".seg")).max();
    for name in last.into_iter().chain(names.iter().filter(|name| *name == RESERVE)) {
        let path = dir.join(name);
        let settled = disk.open(&path, Mode::Write).and_then(|file| file.settle());
        settled.map_err(|source| io("settle", &path, source))?;
    }
    Ok(())
}

/// Removes what is torn and touches nothing else: good frames are never written again, so a power cut at this moment
/// cannot damage them.
fn restore_tail(disk: &dyn Disk, dir: &Path, scan: &Scan) -> Result<TailFile, JournalError> {
    let in_reserve = scan.reserve == Reserve::InUse;
    let name = scan.segments.last().map_or("", |segment| segment.name.as_str());
    let path = dir.join(name);
    let failed = |source| io("repair", &path, source);
    let file = disk.open(&path, Mode::Write).map_err(failed)?;
    let (offset, mut allocated) = (scan.tail.end, scan.tail.len);
    if scan.dropped.is_some() {
        if in_reserve {
            // Its blocks must stay: they are why it can be written on a full disk.
            disk::write_zeros(file.as_ref(), offset, allocated).map_err(failed)?;
        } else {
            file.set_len(offset).map_err(failed)?;
            allocated = offset;
        }
        file.sync().map_err(failed)?;
    }
    Ok(TailFile { file, header: scan.tail.header.clone(), offset, allocated, in_reserve })
}

fn restore_reserve(
    disk: &dyn Disk,
    dir: &Path,
    state: Reserve,
) -> Result<Option<Box<dyn DiskFile>>, JournalError> {
    let path = dir.join(RESERVE);
    let failed = |source| io("restore", &path, source);
    match state {
        Reserve::InUse => Ok(None),
        Reserve::Ready => disk.open(&path, Mode::Write).map(Some).map_err(failed),
        // In place: the disk may be full.
        Reserve::Torn => {
            let file = disk.open(&path, Mode::Write).map_err(failed)?;
            disk::write_zeros(file.as_ref(), 0, RESERVE_LEN).map_err(failed)?;
            file.sync().map_err(failed)?;
            Ok(Some(file))
        }
        Reserve::Unfit => writer::new_reserve(disk, dir).map_err(|trouble| trouble_at(dir, trouble)),
    }
}

#[cfg(test)]
mod tests;
