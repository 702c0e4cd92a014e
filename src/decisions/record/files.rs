//! The segments: files of frames, open or complete, numbered 1, 2, 3... Each name says when its file was begun, so that what is
//! asked for by its time is found without reading the rest.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::domain::decided::{Decided, DecidedBatch, Keep, RemovedDecisions, SealedDecisions};
use crate::domain::time::Timestamp;
use crate::segments::sealed::{self, Batch, Cursor, Growing};
use crate::segments::{self, AppendFault};

/// From this length on a segment is complete: some 50,000 decisions, so much is read at once. And from this age in milliseconds
/// on: what is not sealed yet could be altered unseen by who has the disk.
const DUE: (u64, u64) = (4 << 20, 3_600_000);
/// Segments that one page looks through.
const SEGMENTS_PER_PAGE: usize = 8;
/// Segments that are removed with one record: a gigabyte of files at most.
const REMOVED_MAX: usize = 250;
/// A gateway's clock may be so far ahead of the one that names segments.
const AHEAD_MAX_MS: i64 = 300_000;
/// The end of a file's name while it grows, and when it is complete.
const OPEN: &str = "open";
const COMPLETE: &str = "decided";

/// Decisions are not stored, or cannot be read.
#[derive(Debug, Error)]
pub enum RecordFault {
    /// This try failed, and nothing of it is left.
    #[error("the record of decisions cannot be written or read: {0}")]
    Io(#[from] io::Error),
    /// Nobody knows what is on disk until the next start.
    #[error("the record of decisions is closed until the next start: {0}")]
    Closed(String),
}

/// A segment's file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Name {
    pub(super) number: u64,
    /// When it was begun: never before the one with the number before.
    pub(super) begun: Timestamp,
    pub(super) is_complete: bool,
}

impl Name {
    fn parse(name: &str) -> Option<Self> {
        let mut parts = name.splitn(3, '.');
        let (number, begun, end) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?, parts.next()?);
        let is_complete = match end {
            OPEN => false,
            COMPLETE => true,
            _ => return None,
        };
        Some(Self { number, begun: Timestamp::from_millis(begun), is_complete })
    }

    fn path(&self, dir: &Path) -> PathBuf {
        let end = if self.is_complete { COMPLETE } else { OPEN };
        dir.join(format!("{:020}.{}.{end}", self.number, self.begun.millis()))
    }
}

/// A complete segment.
#[derive(Debug, Clone, Copy)]
struct Complete {
    name: Name,
    len: u64,
}

/// All segments.
#[derive(Debug)]
pub(super) struct Files {
    dir: PathBuf,
    next: u64,
    growing: Option<(Name, Growing)>,
    /// Oldest first.
    complete: VecDeque<Complete>,
    /// How long they are together.
    len: u64,
    /// Complete ones whose digests may not be on record: those that were just completed, and the last of the run before, which
    /// may have ended between the two.
    unsealed: Vec<Name>,
    closed: Option<String>,
}

/// The segments in a folder, in the order of their numbers.
pub(super) fn listed(dir: &Path) -> io::Result<Vec<(Name, PathBuf)>> {
    let entries = match std::fs::read_dir(dir) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry?;
        if let Some(name) = entry.file_name().to_str().and_then(Name::parse) {
            found.push((name, entry.path()));
        }
    }
    found.sort();
    Ok(found)
}

impl Files {
    pub(super) fn open(dir: &Path) -> Self {
        let mut files = Self {
            dir: dir.to_owned(),
            next: 1,
            growing: None,
            complete: VecDeque::new(),
            len: 0,
            unsealed: Vec::new(),
            closed: None,
        };
        if let Err(error) = files.find() {
            tracing::error!(path = %dir.display(), %error, "the record of decisions cannot be opened; decisions are not kept");
            files.closed = Some(error.to_string());
        }
        files
    }

    fn find(&mut self) -> io::Result<()> {
        let mut left = Vec::new();
        for (name, path) in listed(&self.dir)? {
            self.next = self.next.max(name.number.saturating_add(1));
            match name.is_complete {
                true => self.add(Complete { name, len: std::fs::metadata(&path)?.len() }),
                false => left.push((name, Growing::reopen::<DecidedBatch>(name.number, &path)?)),
            }
        }
        self.unsealed.extend(self.complete.back().map(|last| last.name));
        for (name, growing) in left {
            match growing.batches {
                0 => self.growing = Some((name, growing)),
                // What the run before left is complete as it is, or each start would leave it unsealed for longer.
                _ => self.complete(name, growing.len)?,
            }
        }
        Ok(())
    }

    fn add(&mut self, complete: Complete) {
        self.len += complete.len;
        self.complete.push_back(complete);
    }

    fn complete(&mut self, name: Name, len: u64) -> io::Result<()> {
        let complete = Name { is_complete: true, ..name };
        std::fs::rename(name.path(&self.dir), complete.path(&self.dir))?;
        self.add(Complete { name: complete, len });
        self.unsealed.push(complete);
        segments::sync_dir(&self.dir)
    }

    /// Stores decisions. Gives them back, stored or not.
    pub(super) fn append(
        &mut self,
        lines: Vec<Decided>,
        now: Timestamp,
    ) -> Result<Vec<Decided>, (Vec<Decided>, RecordFault)> {
        if let Some(why) = &self.closed {
            return Err((lines, RecordFault::Closed(why.clone())));
        }
        let mut batch = DecidedBatch { number: 0, lines };
        match self.try_append(&mut batch, now) {
            Ok(()) => Ok(batch.lines),
            Err(fault) => Err((batch.lines, fault)),
        }
    }

    fn try_append(&mut self, batch: &mut DecidedBatch, now: Timestamp) -> Result<(), RecordFault> {
        let (name, mut growing) = match self.growing.take() {
            Some(growing) => growing,
            None => self.begin(now)?,
        };
        let appended = growing.append(batch);
        self.growing = Some((name, growing));
        match appended {
            Ok(_) => Ok(()),
            Err(AppendFault::Undone(error)) => Err(error.into()),
            Err(AppendFault::Unknown(error)) => {
                self.closed = Some(error.to_string());
                Err(RecordFault::Closed(error.to_string()))
            }
        }
    }

    fn begin(&mut self, now: Timestamp) -> io::Result<(Name, Growing)> {
        segments::create_dir(&self.dir)?;
        // A clock that was set back names none before the last.
        let begun = self.complete.back().map_or(now, |last| last.name.begun.max(now));
        let name = Name { number: self.next, begun, is_complete: false };
        // Whatever fails from here on, the next try takes another name.
        self.next = self.next.saturating_add(1);
        Ok((name, Growing::create(name.number, &name.path(&self.dir))?))
    }

    /// Completes what is long or old enough, and says what is to be recorded of it.
    pub(super) fn seal(&mut self, now_ms: u64) -> Result<Vec<SealedDecisions>, RecordFault> {
        if let Some(why) = &self.closed {
            return Err(RecordFault::Closed(why.clone()));
        }
        if let Some((name, growing)) = self.growing.take_if(|(_, growing)| growing.is_due(now_ms, DUE))
            && let Err(error) = self.complete(name, growing.len)
        {
            // It is complete and only the folder's sync failed, or it goes on growing.
            self.growing =
                (!self.unsealed.iter().any(|done| done.number == name.number)).then_some((name, growing));
            return Err(error.into());
        }
        let mut sealed = Vec::new();
        for name in std::mem::take(&mut self.unsealed) {
            match seal(&self.dir, name) {
                Ok(seal) => sealed.push(seal),
                Err(error) => {
                    self.unsealed.push(name);
                    return Err(error.into());
                }
            }
        }
        Ok(sealed)
    }

    /// Where the segments from this place on are that can hold what was decided at this time or later: one more than a page
    /// looks through.
    pub(super) fn paths(&self, from: Cursor, since: Option<Timestamp>) -> Vec<(u64, PathBuf)> {
        let names = self.complete.iter().map(|complete| complete.name);
        let names: Vec<_> = names.chain(self.growing.iter().map(|(name, _)| *name)).collect();
        let ends = names.iter().skip(1).map(|next| Some(next.begun)).chain([None]);
        // What was decided was written later: a segment that ended before has none of it.
        let is_early = |ended: Option<Timestamp>| matches!((ended, since), (Some(ended), Some(since)) if ended.plus_ms(AHEAD_MAX_MS) < since);
        let wanted =
            names.iter().zip(ends).filter(|(name, ended)| name.number >= from.segment && !is_early(*ended));
        wanted.take(SEGMENTS_PER_PAGE + 1).map(|(name, _)| (name.number, name.path(&self.dir))).collect()
    }

    /// How long all complete segments are together.
    pub(super) const fn len(&self) -> u64 {
        self.len
    }

    /// The oldest segments that need not be kept: older than they must be, or more than there may be, and sealed. Nothing from
    /// this instant on is among them.
    pub(super) fn overdue(
        &self,
        keep: &Keep,
        now: Timestamp,
        held_since: Option<Timestamp>,
    ) -> Option<RemovedDecisions> {
        let mut found: Option<RemovedDecisions> = None;
        let mut left = self.len;
        let nexts = self.complete.iter().skip(1);
        for (complete, next) in self.complete.iter().zip(nexts).take(REMOVED_MAX) {
            let until = next.name.begun;
            let is_old = until.plus_ms(keep.age_ms) < now;
            let is_much = keep.len.is_some_and(|len| left > len);
            let is_held = held_since.is_some_and(|since| until.plus_ms(AHEAD_MAX_MS) >= since);
            if is_held || !(is_old || is_much) || self.unsealed.contains(&complete.name) {
                break;
            }
            left -= complete.len;
            let one = RemovedDecisions {
                first: complete.name.number,
                last: complete.name.number,
                since: complete.name.begun,
                until,
                len: complete.len,
                is_early: !is_old,
            };
            found = Some(match found {
                Some(found) => RemovedDecisions {
                    last: one.last,
                    until,
                    len: found.len + one.len,
                    is_early: found.is_early || one.is_early,
                    ..found
                },
                None => one,
            });
        }
        found
    }

    /// Removes the segments up to this one.
    pub(super) fn remove(&mut self, last: u64) -> Result<(), RecordFault> {
        while let Some(oldest) = self.complete.front().filter(|oldest| oldest.name.number <= last) {
            match std::fs::remove_file(oldest.name.path(&self.dir)) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error.into()),
                Ok(()) | Err(_) => {}
            }
            self.len -= oldest.len;
            self.complete.pop_front();
        }
        Ok(())
    }
}

/// What is to be recorded of a complete segment.
fn seal(dir: &Path, name: Name) -> io::Result<SealedDecisions> {
    let (len, batches, parts) = sealed::seal::<DecidedBatch>(&name.path(dir))?;
    Ok(SealedDecisions { number: name.number, begun: name.begun, len, batches, parts })
}

/// The decisions of these segments that are wanted.
pub(super) fn page(
    paths: &[(u64, PathBuf)],
    from: Cursor,
    len: usize,
    wanted: &dyn Fn(&Decided) -> bool,
) -> Result<(Vec<Decided>, Option<Cursor>), RecordFault> {
    Ok(sealed::page::<DecidedBatch>((paths, COMPLETE, SEGMENTS_PER_PAGE), from, len, wanted)?)
}

impl Batch for DecidedBatch {
    type Line = Decided;

    fn number(&self) -> u64 {
        self.number
    }

    fn set_number(&mut self, number: u64) {
        self.number = number;
    }

    fn lines(self) -> Vec<Decided> {
        self.lines
    }
}
