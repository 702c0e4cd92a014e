//! Reading a journal from its files and checking every byte that is read: used at open and by `verify`.
//!
//! It changes nothing. What it finds at the end of the last segment is either clean, torn (nothing valid follows, so it
//! was never acknowledged as durable) or damage; anywhere else whatever does not hold is damage.

use std::path::Path;

use super::format::{self, FRAME_LEN_MAX, HeaderFault, SEGMENT_HEADER_LEN, SegmentHeader};
use super::{Dropped, RESERVE, RESERVE_LEN, SEGMENT_LEN_MAX};
use crate::domain::id::{Epoch, Seq};
use crate::domain::time::Timestamp;
use crate::journal::disk::{self, Disk, DiskFile, Mode};
use crate::journal::merkle::Frontier;
use crate::journal::{Head, JournalError, Position, Record};

/// Segments a directory may have: 4 TiB of the usual size, and the list of them stays small.
const SEGMENTS_MAX: usize = 65_536;
/// A place to begin reading is remembered once per so many bytes: at most a thousand for a usual segment.
const STRIDE: u64 = 64 << 10;

/// A segment file and where some of its frames begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) first: Seq,
    pub(super) name: String,
    places: Vec<(Seq, u64)>,
}

impl Segment {
    pub(super) const fn new(first: Seq, name: String) -> Self {
        Self { first, name, places: Vec::new() }
    }

    /// Remembers where a frame begins, unless one close before it is remembered.
    pub(super) fn remember(&mut self, first: Seq, offset: u64) {
        if self.places.last().is_none_or(|(_, last)| offset - last >= STRIDE) {
            self.places.push((first, offset));
        }
    }

    /// Where to begin looking for a record.
    pub(super) fn place(&self, seq: Seq) -> u64 {
        let after = self.places.partition_point(|(first, _)| *first <= seq);
        let place = after.checked_sub(1).and_then(|index| self.places.get(index));
        place.map_or(SEGMENT_HEADER_LEN as u64, |(_, offset)| *offset)
    }
}

/// What the reserve file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reserve {
    /// Zeros of the right length.
    Ready,
    /// Its header was torn before anything was stored in it: to be zeroed.
    Torn,
    /// Missing or of another length: to be made anew.
    Unfit,
    /// The last segment.
    InUse,
}

/// The end of the last segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tail {
    /// After the last good frame.
    pub(super) end: u64,
    /// The length of the file.
    pub(super) len: u64,
    pub(super) header: SegmentHeader,
}

/// All that was found.
pub(super) struct Scan {
    pub(super) head: Head,
    pub(super) frontier: Frontier,
    pub(super) segments: Vec<Segment>,
    pub(super) tail: Tail,
    pub(super) reserve: Reserve,
    pub(super) records: u64,
    pub(super) dropped: Option<Dropped>,
}

/// How far the records have been followed.
struct Cursor {
    epoch: Epoch,
    time: Timestamp,
    frontier: Frontier,
    vouched: Option<Position>,
    records: u64,
}

impl Cursor {
    fn next(&self) -> Seq {
        Seq(self.frontier.size() + 1)
    }

    fn head(&self) -> Head {
        let seq = Seq(self.frontier.size());
        Head { epoch: self.epoch, seq, root: self.frontier.root(), time: self.time }
    }

    fn compare(&self) -> Result<(), JournalError> {
        let here = self.vouched.filter(|position| position.seq.0 == self.frontier.size());
        let Some(Position { seq, root: want }) = here else { return Ok(()) };
        let have = self.frontier.root();
        if have == want { Ok(()) } else { Err(JournalError::Diverged { seq, have, want }) }
    }

    fn advance(&mut self, record: &Record) -> Result<(), JournalError> {
        self.frontier.push(record.header.leaf());
        (self.epoch, self.time) = (record.header.epoch, record.header.time);
        self.records += 1;
        self.compare()
    }
}

/// Reads the segments from the one that holds the vouched position (all, when there is none) to the end.
pub(super) fn scan(
    disk: &dyn Disk,
    dir: &Path,
    vouched: Option<Position>,
    visit: &mut dyn FnMut(&Record),
) -> Result<Scan, JournalError> {
    let (mut segments, reserve) = list(disk, dir)?;
    let from = vouched.map_or(Seq(1), |position| position.seq.next());
    let start = segments.partition_point(|segment| segment.first <= from).saturating_sub(1);
    let count = segments.len();
    let mut cursor: Option<Cursor> = None;
    let mut end = None;
    for (index, segment) in segments.iter_mut().enumerate().skip(start) {
        let bytes = contents(disk, &dir.join(&segment.name))?;
        let header = header(&segment.name, segment.first, &bytes)?;
        let cursor = cursor.get_or_insert_with(|| Cursor {
            epoch: header.epoch,
            time: header.time,
            frontier: header.frontier.clone(),
            vouched,
            records: 0,
        });
        continues(cursor, &header, &segment.name)?;
        cursor.compare()?;
        let mut walk = Walk { segment, bytes: &bytes, header, cursor };
        let at = walk.frames(visit)?;
        let dropped = walk.rest(at, index + 1 == count)?;
        end = Some((Tail { end: at as u64, len: bytes.len() as u64, header: walk.header }, dropped));
    }
    let missing = || JournalError::Missing { dir: dir.to_path_buf() };
    let (cursor, (tail, dropped)) = cursor.zip(end).ok_or_else(missing)?;
    let head = cursor.head();
    if let Some(position) = vouched.filter(|position| position.seq > head.seq) {
        return Err(JournalError::Lost { have: head.seq, need: position.seq });
    }
    Ok(Scan { head, frontier: cursor.frontier, segments, tail, reserve, records: cursor.records, dropped })
}

/// The frames of one segment.
struct Walk<'a> {
    segment: &'a mut Segment,
    bytes: &'a [u8],
    header: SegmentHeader,
    cursor: &'a mut Cursor,
}

impl Walk<'_> {
    /// Follows the good frames; returns where they end.
    fn frames(&mut self, visit: &mut dyn FnMut(&Record)) -> Result<usize, JournalError> {
        let mut at = SEGMENT_HEADER_LEN;
        while let Ok((records, len)) =
            format::decode_frame(self.header.marker, self.bytes.get(at..).unwrap_or_default())
        {
            let first = records.first().map_or(Seq(0), |record| record.header.seq);
            if first != self.cursor.next() {
                return Err(self.damage(at, "a frame does not continue the records before it"));
            }
            if records.iter().any(|record| record.header.epoch < self.cursor.epoch) {
                return Err(self.damage(at, "the epoch goes back"));
            }
            for record in &records {
                self.cursor.advance(record)?;
                visit(record);
            }
            self.segment.remember(first, at as u64);
            at += len;
        }
        Ok(at)
    }

    /// What follows the good frames: nothing, a torn frame at the end of the journal, or damage.
    fn rest(&self, at: usize, is_last: bool) -> Result<Option<Dropped>, JournalError> {
        let rest = self.bytes.get(at..).unwrap_or_default();
        if disk::is_zero(rest) {
            return Ok(None);
        }
        let Some(last) = rest.iter().rposition(|byte| *byte != 0) else { return Ok(None) };
        let why = format::decode_frame(self.header.marker, rest).err().unwrap_or("it is not expected here");
        let follows = format::find_frame(self.header.marker, self.cursor.next(), rest);
        if !is_last || follows.is_some() {
            return Err(self.damage(at, why));
        }
        Ok(Some(Dropped {
            segment: self.segment.name.clone(),
            offset: at as u64,
            len: last as u64 + 1,
            seq: self.cursor.next(),
            why,
        }))
    }

    fn damage(&self, at: usize, why: &'static str) -> JournalError {
        let segment = self.segment.name.clone();
        JournalError::Corrupt { segment, offset: at as u64, seq: self.cursor.next(), why }
    }
}

/// The segment header must carry on from the records before it.
fn continues(cursor: &Cursor, header: &SegmentHeader, name: &str) -> Result<(), JournalError> {
    let damage =
        |why| Err(JournalError::Corrupt { segment: name.into(), offset: 0, seq: cursor.next(), why });
    if header.first != cursor.next() {
        return damage("the records before this segment are missing");
    }
    if header.frontier != cursor.frontier {
        return damage("the tree of the segment header is not the tree of the records before it");
    }
    if header.epoch < cursor.epoch || header.time != cursor.time {
        return damage("the epoch or time of the segment header is not that of the record before it");
    }
    Ok(())
}

/// The segment files in order. The first record must be there: a journal without it has lost its beginning.
fn list(disk: &dyn Disk, dir: &Path) -> Result<(Vec<Segment>, Reserve), JournalError> {
    let names = disk.list(dir).map_err(|source| super::io("list", dir, source))?;
    let mut segments = Vec::new();
    for name in names.iter().filter_map(|name| name.strip_suffix(".seg")) {
        let first =
            name.parse().ok().map(Seq).filter(|first| super::segment_name(*first) == format!("{name}.seg"));
        let damage =
            |why| JournalError::Corrupt { segment: format!("{name}.seg"), offset: 0, seq: Seq(0), why };
        let first = first.ok_or_else(|| damage("the file name is not a record number"))?;
        segments.push(Segment::new(first, super::segment_name(first)));
        if segments.len() > SEGMENTS_MAX {
            return Err(damage("there are more segments than a journal may have"));
        }
    }
    segments.sort_by_key(|segment| segment.first);
    let Some(first) = segments.first() else { return Err(JournalError::Missing { dir: dir.to_path_buf() }) };
    if first.first != Seq(1) {
        let why = "the records before this segment are missing";
        return Err(JournalError::Corrupt { segment: first.name.clone(), offset: 0, seq: Seq(1), why });
    }
    let reserve =
        if names.iter().any(|name| name == RESERVE) { reserve(disk, dir)? } else { (Reserve::Unfit, None) };
    segments.extend(reserve.1.map(|first| Segment::new(first, RESERVE.into())));
    Ok((segments, reserve.0))
}

/// Frames are written to the reserve only after its header is durable, so a header that is zero or torn means that it
/// holds nothing, unless something follows it.
fn reserve(disk: &dyn Disk, dir: &Path) -> Result<(Reserve, Option<Seq>), JournalError> {
    let bytes = contents(disk, &dir.join(RESERVE))?;
    let (head, rest) = bytes.split_at_checked(SEGMENT_HEADER_LEN).unwrap_or((&bytes, &[]));
    match SegmentHeader::decode(head) {
        Ok(header) => Ok((Reserve::InUse, Some(header.first))),
        Err(HeaderFault::Newer(version)) => Err(JournalError::Version { segment: RESERVE.into(), version }),
        Err(HeaderFault::Damaged(_)) if disk::is_zero(head) || disk::is_zero(rest) => {
            let state = match (bytes.len() as u64 == RESERVE_LEN, disk::is_zero(&bytes)) {
                (false, _) => Reserve::Unfit,
                (true, false) => Reserve::Torn,
                (true, true) => Reserve::Ready,
            };
            Ok((state, None))
        }
        Err(HeaderFault::Damaged(why)) => {
            Err(JournalError::Corrupt { segment: RESERVE.into(), offset: 0, seq: Seq(0), why })
        }
    }
}

/// The checked header of a segment.
pub(super) fn header(name: &str, first: Seq, bytes: &[u8]) -> Result<SegmentHeader, JournalError> {
    let damage = |why| JournalError::Corrupt { segment: name.into(), offset: 0, seq: first, why };
    match SegmentHeader::decode(bytes) {
        Ok(header) if header.first == first => Ok(header),
        Ok(_) => Err(damage("the segment header names another first record than the file name")),
        Err(HeaderFault::Newer(version)) => Err(JournalError::Version { segment: name.into(), version }),
        Err(HeaderFault::Damaged(why)) => Err(damage(why)),
    }
}

fn contents(disk: &dyn Disk, path: &Path) -> Result<Vec<u8>, JournalError> {
    let failed = |source| super::io("read", path, source);
    let file: Box<dyn DiskFile> = disk.open(path, Mode::Read).map_err(failed)?;
    let len = file.len().map_err(failed)?;
    if len > SEGMENT_LEN_MAX + FRAME_LEN_MAX as u64 {
        return Err(failed(std::io::Error::other("it is longer than a segment can be")));
    }
    let len = usize::try_from(len).map_err(|error| failed(std::io::Error::other(error)))?;
    disk::read(file.as_ref(), 0, len).map_err(failed)
}
