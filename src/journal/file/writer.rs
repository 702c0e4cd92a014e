//! The one place that writes: room for a frame, the frame, the sync, and what happens when one of them fails.
//!
//! Room is made before the frame is written: the file is extended with zeros, a new segment begins, or the reserve
//! becomes the last segment. So a full disk is noticed while the batch is certainly not stored, and a frame only
//! overwrites blocks that the file already has. After a failed write or sync nothing is ever written again.

use std::io::{self, ErrorKind};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use super::format::{self, SEGMENT_HEADER_LEN, SegmentHeader};
use super::scan::Segment;
use super::{Options, RESERVE, RESERVE_LEN, segment_name};
use crate::domain::id::Seq;
use crate::journal::disk::{self, Disk, DiskFile, Mode};
use crate::journal::merkle::Frontier;
use crate::journal::{Batch, Head, Header, Outcome, Record, Refusal, Space, record};

const HEADER_LEN: u64 = SEGMENT_HEADER_LEN as u64;
/// Free space at which the reserve becomes an ordinary segment: room for a new reserve, a new extension and as much again.
const LEAVE_RESERVE_FREE: u64 = 4 << 20;

/// Why there is no room.
#[derive(Debug)]
pub(super) enum Trouble {
    /// No space; nothing of the batch was written, and the journal goes on.
    Full,
    /// Anything else: what the disk holds is no longer known.
    Broken(String),
}

/// A failed write: a full disk can be told from a broken one.
fn full_or_broken(error: io::Error) -> Trouble {
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Trouble::Full,
        _ => Trouble::Broken(format!("a write failed: {error}")),
    }
}

/// A failed sync, whatever its reason: the kernel may have dropped the pages, so trying again would lie. (A failed
/// truncation likewise leaves unknown bytes.)
fn broken(error: io::Error) -> Trouble {
    Trouble::Broken(format!("a truncation or sync failed: {error}"))
}

/// The segment that is written to.
pub(super) struct TailFile {
    pub(super) file: Box<dyn DiskFile>,
    pub(super) header: SegmentHeader,
    /// Where the next frame begins.
    pub(super) offset: u64,
    /// How far the file has blocks.
    pub(super) allocated: u64,
    pub(super) in_reserve: bool,
}

/// The writing side of a file journal.
pub(super) struct Writer {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) dir: PathBuf,
    pub(super) options: Options,
    pub(super) head: Head,
    pub(super) frontier: Frontier,
    pub(super) tail: TailFile,
    /// The reserve, when it is ready and not in use.
    pub(super) reserve: Option<Box<dyn DiskFile>>,
    pub(super) segments: Arc<Mutex<Vec<Segment>>>,
    pub(super) closed: Option<String>,
}

impl Writer {
    pub(super) fn append(&mut self, expected_next: Seq, batch: &Batch) -> Outcome {
        if let Err(refusal) = self.admit(expected_next, batch) {
            return Outcome::Refused(refusal);
        }
        let headers = record::headers(batch, self.head.epoch, expected_next);
        let bodies: Vec<_> = batch.drafts.iter().map(|draft| Some(draft.body.as_slice())).collect();
        match self.make_room(len_of(&headers), batch.restricting) {
            Ok(()) => self.commit(&headers, &bodies),
            Err(Trouble::Full) => Outcome::Refused(Refusal::NoSpace(self.space())),
            Err(Trouble::Broken(why)) => {
                self.closed = Some(why.clone());
                Outcome::Refused(Refusal::Closed { why })
            }
        }
    }

    /// Stores records of another journal as they are, the first of them the next one. What `record::check` bounds in a
    /// batch is bounded by the caller.
    pub(super) fn take_over(&mut self, records: &[Record]) -> Outcome {
        let headers: Vec<_> = records.iter().map(|record| record.header).collect();
        let bodies: Vec<_> = records.iter().map(|record| record.body.as_deref()).collect();
        match self.make_room(len_of(&headers), false) {
            Ok(()) => self.commit(&headers, &bodies),
            Err(Trouble::Full) => Outcome::Refused(Refusal::NoSpace(self.space())),
            Err(Trouble::Broken(why)) => Outcome::Unknown(why),
        }
    }

    /// How much room there is. When the disk does not say, none.
    pub(super) fn space(&self) -> Space {
        let reserve = match (&self.reserve, self.tail.in_reserve) {
            (_, true) => RESERVE_LEN.saturating_sub(self.tail.offset),
            (Some(_), false) => RESERVE_LEN - HEADER_LEN,
            (None, false) => 0,
        };
        let free = self.disk.free(&self.dir).unwrap_or(0);
        Space { free, low_water: self.options.low_water, reserve }
    }

    fn admit(&self, expected_next: Seq, batch: &Batch) -> Result<(), Refusal> {
        if let Some(why) = &self.closed {
            return Err(Refusal::Closed { why: why.clone() });
        }
        if self.head.seq.next() != expected_next {
            return Err(Refusal::Moved(self.head));
        }
        record::check(batch)?;
        let space = self.space();
        if space.is_low() && !batch.restricting { Err(Refusal::NoSpace(space)) } else { Ok(()) }
    }

    fn make_room(&mut self, len: u64, restricting: bool) -> Result<(), Trouble> {
        if self.tail.in_reserve {
            self.leave_reserve()?;
        }
        if self.tail.in_reserve {
            let fits = restricting && self.tail.offset + len <= self.tail.allocated;
            return if fits { Ok(()) } else { Err(Trouble::Full) };
        }
        if self.reserve.is_none() && self.has_space_again() {
            self.reserve = new_reserve(self.disk.as_ref(), &self.dir)?;
        }
        match self.extend(len) {
            Err(Trouble::Full) if restricting => self.enter_reserve(len),
            other => other,
        }
    }

    fn extend(&mut self, len: u64) -> Result<(), Trouble> {
        if self.tail.offset + len > self.options.segment_len && self.tail.offset > HEADER_LEN {
            self.seal()?;
            self.tail = self.new_segment()?;
            self.index().push(Segment::new(self.head.seq.next(), segment_name(self.head.seq.next())));
        }
        let end = self.tail.offset + len;
        if end > self.tail.allocated {
            let until = end.next_multiple_of(self.options.grow_len);
            disk::write_zeros(self.tail.file.as_ref(), self.tail.allocated, until).map_err(full_or_broken)?;
            self.tail.allocated = until;
        }
        Ok(())
    }

    /// Cuts the zeros that were never used: an extension that met a full disk was not synced, and after a power cut it
    /// could be anything, which is damage anywhere but at the end of the last segment.
    fn seal(&mut self) -> Result<(), Trouble> {
        self.tail.file.set_len(self.tail.offset).map_err(broken)?;
        self.tail.allocated = self.tail.offset;
        self.tail.file.sync().map_err(broken)
    }

    /// A segment gets its name only once its header is durable, so a named one without a good header is damage.
    fn new_segment(&self) -> Result<TailFile, Trouble> {
        let header = next_header(&self.options, &self.head, &self.frontier);
        create_segment(self.disk.as_ref(), &self.dir, &self.options, header)
    }

    /// The reserve becomes the last segment, under its own name: no rename, no new block, nothing that could need space.
    fn enter_reserve(&mut self, len: u64) -> Result<(), Trouble> {
        if self.reserve.is_none() || HEADER_LEN + len > RESERVE_LEN {
            return Err(Trouble::Full);
        }
        self.seal()?;
        let Some(file) = self.reserve.take() else { return Err(Trouble::Full) };
        let header = next_header(&self.options, &self.head, &self.frontier);
        // Every block of the reserve exists, so no failure here is a full disk.
        let failed = |error| Trouble::Broken(format!("a write to the reserve failed: {error}"));
        disk::write_all(file.as_ref(), &header.encode(), 0).map_err(failed)?;
        file.sync().map_err(broken)?;
        self.index().push(Segment::new(header.first, RESERVE.into()));
        self.tail = TailFile { file, header, offset: HEADER_LEN, allocated: RESERVE_LEN, in_reserve: true };
        Ok(())
    }

    /// With space again, the reserve gets the name of the segment it is, and a new reserve is made.
    fn leave_reserve(&mut self) -> Result<(), Trouble> {
        if !self.has_space_again() {
            return Ok(());
        }
        let name = segment_name(self.tail.header.first);
        // The index stays locked over both, so that a reader never opens the old name for the new reserve.
        let segments = Arc::clone(&self.segments);
        let mut index = segments.lock().unwrap_or_else(PoisonError::into_inner);
        match self.disk.rename(&self.dir.join(RESERVE), &self.dir.join(&name)).map_err(full_or_broken) {
            Ok(()) => {}
            Err(Trouble::Full) => return Ok(()),
            Err(trouble) => return Err(trouble),
        }
        self.disk.sync_dir(&self.dir).map_err(broken)?;
        if let Some(mut segment) = index.pop() {
            // A segment that stayed empty has the same name and is replaced.
            index.pop_if(|before| before.first == segment.first);
            segment.name = name;
            index.push(segment);
        }
        self.tail.in_reserve = false;
        Ok(())
    }

    fn has_space_again(&self) -> bool {
        self.disk.free(&self.dir).is_ok_and(|free| free >= LEAVE_RESERVE_FREE)
    }

    fn commit(&mut self, headers: &[Header], bodies: &[Option<&[u8]>]) -> Outcome {
        let frame = format::encode_frame(self.tail.header.marker, headers, bodies);
        let file = self.tail.file.as_ref();
        let stored = disk::write_all(file, &frame, self.tail.offset)
            .map_err(|error| format!("a write failed: {error}"))
            .and_then(|()| file.sync().map_err(|error| format!("a sync failed: {error}")));
        if let Err(why) = stored {
            self.closed = Some(why.clone());
            return Outcome::Unknown(why);
        }
        let first = self.head.seq.next();
        headers.iter().for_each(|header| self.frontier.push(header.leaf()));
        let seq = Seq(self.frontier.size());
        let (epoch, time) =
            headers.last().map_or((self.head.epoch, self.head.time), |last| (last.epoch, last.time));
        self.head = Head { epoch, seq, root: self.frontier.root(), time };
        if let Some(segment) = self.index().last_mut() {
            segment.remember(first, self.tail.offset);
        }
        self.tail.offset += frame.len() as u64;
        Outcome::Done(seq)
    }

    fn index(&self) -> std::sync::MutexGuard<'_, Vec<Segment>> {
        self.segments.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long the frame of these records is.
fn len_of(headers: &[Header]) -> u64 {
    format::frame_len(headers.len(), headers.iter().map(|header| header.body_len as usize).sum())
}

/// The header of the segment that begins after this head.
pub(super) fn next_header(options: &Options, head: &Head, frontier: &Frontier) -> SegmentHeader {
    let first = head.seq.next();
    let marker = format::marker(&options.salt, first);
    SegmentHeader { marker, epoch: head.epoch, first, time: head.time, frontier: frontier.clone() }
}

/// Makes a segment file: under another name until it is durable.
pub(super) fn create_segment(
    disk: &dyn Disk,
    dir: &std::path::Path,
    options: &Options,
    header: SegmentHeader,
) -> Result<TailFile, Trouble> {
    let name = segment_name(header.first);
    let allocated = HEADER_LEN.next_multiple_of(options.grow_len);
    let fill = |file: &dyn DiskFile| {
        disk::write_all(file, &header.encode(), 0)?;
        disk::write_zeros(file, HEADER_LEN, allocated)
    };
    let file = make_durable(disk, dir, &name, &fill)?;
    Ok(TailFile { file, header, offset: HEADER_LEN, allocated, in_reserve: false })
}

/// Makes the reserve; `None` when the disk has no room for it.
pub(super) fn new_reserve(
    disk: &dyn Disk,
    dir: &std::path::Path,
) -> Result<Option<Box<dyn DiskFile>>, Trouble> {
    match make_durable(disk, dir, RESERVE, &|file| disk::write_zeros(file, 0, RESERVE_LEN)) {
        Ok(file) => Ok(Some(file)),
        Err(Trouble::Full) => Ok(None),
        Err(trouble) => Err(trouble),
    }
}

/// Fills a file under a temporary name, syncs it, names it and syncs the directory.
fn make_durable(
    disk: &dyn Disk,
    dir: &std::path::Path,
    name: &str,
    fill: &dyn Fn(&dyn DiskFile) -> io::Result<()>,
) -> Result<Box<dyn DiskFile>, Trouble> {
    let path = dir.join(format!("{name}.new"));
    let file = disk.open(&path, Mode::Create).map_err(full_or_broken)?;
    if let Err(error) = fill(file.as_ref()) {
        // What was written so far must not keep the space; should it stay, the next open removes it.
        drop(disk.remove(&path));
        return Err(full_or_broken(error));
    }
    file.sync().map_err(broken)?;
    disk.rename(&path, &dir.join(name)).map_err(full_or_broken)?;
    disk.sync_dir(dir).map_err(broken)?;
    Ok(file)
}
