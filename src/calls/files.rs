//! The segments: files of frames, each with a number that no other had. The end of a file's name says how far it is: it grows, it is
//! complete, or the record has its digests.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::domain::call::{CallBatch, CallLine, Origin, SealedCalls};
use crate::segments::sealed::{self, Batch, Cursor, Growing};
use crate::segments::{self, AppendFault};

/// How long all segments of known callers are together: some ten million lines.
const KNOWN_LEN_MAX: u64 = 192 << 20;
/// And of strangers.
const STRANGERS_LEN_MAX: u64 = 64 << 20;
/// From this length on a segment is complete: so much is read at once. And from this age in milliseconds on: what is not sealed
/// yet could be altered unseen by who has the disk.
const DUE: (u64, u64) = (1 << 20, 3_600_000);
/// Segments that one page looks through.
const SEGMENTS_PER_PAGE: usize = 16;
/// All segments of an origin are longer than they may be by this part while the oldest cannot be removed; then no more is written.
const OVER_PART: u64 = 8;
/// Segments that are given to the record at once: with their digests some 40 KB.
const SEALS_AT_ONCE: usize = 64;

/// Lines are not stored, or cannot be read.
#[derive(Debug, Error)]
pub enum CallLogFault {
    /// This try failed, and nothing of it is left.
    #[error("the audit of calls cannot be written or read: {0}")]
    Io(#[from] io::Error),
    /// Nobody knows what is on disk until the next start.
    #[error("the audit of calls is closed: {0}")]
    Closed(String),
    /// The lines are stored, and what they push out is still there.
    #[error(
        "the oldest segment of the audit of calls, {path}, cannot be removed: {why}; make it removable, or move it away yourself"
    )]
    Room {
        /// Which.
        path: PathBuf,
        /// Why.
        why: io::Error,
    },
    /// Nothing was removed for so long that there is no room left.
    #[error("the audit of calls has no room: its oldest segments cannot be removed")]
    Full,
}

/// What the name of a segment ends with once it does not grow any more.
const LATER: [&str; 2] = [Stage::Complete.end(), Stage::Sealed.end()];

/// How far a segment is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    /// It grows.
    Open,
    /// It is complete, and nobody knows that the record has its digests.
    Complete,
    /// The record has its digests.
    Sealed,
}

impl Stage {
    const ALL: [Self; 3] = [Self::Open, Self::Complete, Self::Sealed];

    /// The end of a file's name.
    const fn end(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Complete => "complete",
            Self::Sealed => "calls",
        }
    }
}

/// A segment that grows no more.
#[derive(Debug, Clone, Copy)]
struct Complete {
    number: u64,
    len: u64,
    stage: Stage,
}

/// The segments of one origin.
#[derive(Debug, Default)]
struct Own {
    /// Oldest first.
    complete: VecDeque<Complete>,
    len: u64,
    growing: Option<Growing>,
    /// Complete ones that are to be recorded, and what of them once they were read: as many as there are, some 600 bytes each.
    unsealed: BTreeMap<u64, Option<SealedCalls>>,
}

/// All segments.
#[derive(Debug)]
pub(super) struct Files {
    dir: PathBuf,
    len_max: [u64; 2],
    next: u64,
    own: BTreeMap<Origin, Own>,
    /// The name of a complete segment may not be on disk: a crash could have it grow again, so it is not recorded yet.
    is_unsynced: bool,
    closed: Option<String>,
}

/// A segment's number, whose it is, and how far it is.
pub(super) fn parts(name: &str) -> Option<(u64, Origin, Stage)> {
    let (number, rest) = name.split_once('.')?;
    let (origin, end) = rest.split_once('.')?;
    let origin = Origin::ALL.iter().find(|known| word(**known) == origin)?;
    let stage = Stage::ALL.into_iter().find(|stage| stage.end() == end)?;
    Some((number.parse().ok()?, *origin, stage))
}

/// How long all segments of an origin are together.
pub(super) const fn len_max(origin: Origin) -> u64 {
    match origin {
        Origin::Known => KNOWN_LEN_MAX,
        Origin::Strangers => STRANGERS_LEN_MAX,
    }
}

const fn word(origin: Origin) -> &'static str {
    match origin {
        Origin::Known => "known",
        Origin::Strangers => "strangers",
    }
}

fn path(dir: &Path, number: u64, origin: Origin, stage: Stage) -> PathBuf {
    dir.join(format!("{number:020}.{}.{}", word(origin), stage.end()))
}

/// The segments in a folder, in the order of their numbers.
pub(super) fn listed(dir: &Path) -> io::Result<Vec<(u64, Origin, Stage, PathBuf)>> {
    let entries = match std::fs::read_dir(dir) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry?;
        if let Some((number, origin, stage)) = entry.file_name().to_str().and_then(parts) {
            found.push((number, origin, stage, entry.path()));
        }
    }
    found.sort();
    Ok(found)
}

impl Files {
    pub(super) fn open(dir: &Path) -> Self {
        let len_max = [KNOWN_LEN_MAX, STRANGERS_LEN_MAX];
        let own = BTreeMap::new();
        // The run before may have ended before it synced a name.
        let mut files = Self { dir: dir.to_owned(), len_max, next: 1, own, is_unsynced: true, closed: None };
        if let Err(error) = files.find() {
            tracing::error!(path = %dir.display(), %error, "the audit of calls cannot be opened; calls are not kept");
            files.closed = Some(error.to_string());
        }
        files
    }

    fn find(&mut self) -> io::Result<()> {
        for (number, origin, stage, path) in listed(&self.dir)? {
            self.next = self.next.max(number.saturating_add(1));
            let own = self.own.entry(origin).or_default();
            match stage {
                Stage::Open => {
                    let growing = Growing::reopen::<CallBatch>(number, &path)?;
                    own.len += growing.len;
                    own.growing = Some(growing);
                }
                Stage::Complete | Stage::Sealed => {
                    let len = std::fs::metadata(&path)?.len();
                    own.len += len;
                    own.complete.push_back(Complete { number, len, stage });
                }
            }
            if stage == Stage::Complete {
                own.unsealed.insert(number, None);
            }
        }
        Ok(())
    }

    /// Stores lines, or gives them back.
    pub(super) fn append(
        &mut self,
        origin: Origin,
        lines: Vec<CallLine>,
    ) -> Result<u64, (Vec<CallLine>, CallLogFault)> {
        if let Some(why) = &self.closed {
            return Err((lines, CallLogFault::Closed(why.clone())));
        }
        let mut batch = CallBatch { number: 0, lines };
        match self.try_append(origin, &mut batch) {
            Ok(()) => Ok(batch.lines.len() as u64),
            Err(fault) => Err((batch.lines, fault)),
        }
    }

    fn try_append(&mut self, origin: Origin, batch: &mut CallBatch) -> Result<(), CallLogFault> {
        let own = self.own.entry(origin).or_default();
        // Room is made after each write: so much is there only when nothing could be removed.
        let len_max = limit(self.len_max, origin);
        if own.len > len_max.saturating_add(len_max / OVER_PART) {
            return Err(CallLogFault::Full);
        }
        if own.growing.is_none() {
            let growing = self.begin(origin)?;
            self.own.entry(origin).or_default().growing = Some(growing);
        }
        let own = self.own.entry(origin).or_default();
        let Some(growing) = &mut own.growing else { return Ok(()) };
        match growing.append(batch) {
            Ok(len) => own.len += len,
            Err(AppendFault::Undone(error)) => return Err(error.into()),
            Err(AppendFault::Unknown(error)) => {
                self.closed = Some(error.to_string());
                return Err(CallLogFault::Closed(error.to_string()));
            }
        }
        Ok(())
    }

    fn begin(&mut self, origin: Origin) -> io::Result<Growing> {
        if self.own.values().all(|own| own.growing.is_none() && own.complete.is_empty()) {
            segments::create_dir(&self.dir)?;
        }
        let number = self.next;
        // Whatever fails from here on, the next try takes another name.
        self.next = self.next.saturating_add(1);
        Growing::create(number, &path(&self.dir, number, origin, Stage::Open))
    }

    /// The oldest of an origin go when its segments are too long together. What cannot be removed is tried again with the next
    /// write; no line is lost for it.
    pub(super) fn make_room(&mut self) -> Result<(), CallLogFault> {
        for (origin, own) in &mut self.own {
            while own.len > limit(self.len_max, *origin) {
                let Some(oldest) = own.complete.front().copied() else { break };
                let path = path(&self.dir, oldest.number, *origin, oldest.stage);
                match std::fs::remove_file(&path) {
                    Err(why) if why.kind() != ErrorKind::NotFound => {
                        return Err(CallLogFault::Room { path, why });
                    }
                    Ok(()) | Err(_) => {}
                }
                own.complete.pop_front();
                own.unsealed.remove(&oldest.number);
                own.len -= oldest.len;
                tracing::info!(
                    segment = oldest.number,
                    origin = origin.as_str(),
                    "the oldest calls made room"
                );
            }
        }
        Ok(())
    }

    /// Completes what is long or old enough.
    pub(super) fn complete(&mut self, now_ms: u64) -> Result<(), CallLogFault> {
        if let Some(why) = &self.closed {
            return Err(CallLogFault::Closed(why.clone()));
        }
        for (origin, own) in &mut self.own {
            let Some(growing) = own.growing.take_if(|growing| growing.is_due(now_ms, DUE)) else { continue };
            let (number, len, stage) = (growing.number, growing.len, Stage::Complete);
            let name = |stage| path(&self.dir, number, *origin, stage);
            if let Err(error) = std::fs::rename(name(Stage::Open), name(stage)) {
                own.growing = Some(growing);
                return Err(error.into());
            }
            self.is_unsynced = true;
            own.complete.push_back(Complete { number, len, stage });
            own.unsealed.insert(number, None);
        }
        Ok(())
    }

    /// What is to be recorded of complete segments, until it is said that it was ([`Self::sealed`]). One that cannot be read
    /// holds up no other.
    pub(super) fn unsealed(&mut self) -> (Vec<SealedCalls>, Option<CallLogFault>) {
        let (mut seals, mut fault) = (Vec::new(), None);
        if self.own.values().all(|own| own.unsealed.is_empty()) {
            return (seals, fault);
        }
        if self.is_unsynced {
            match segments::sync_dir(&self.dir) {
                Ok(()) => self.is_unsynced = false,
                Err(error) => return (seals, Some(error.into())),
            }
        }
        for (origin, own) in &mut self.own {
            own.unsealed.retain(|number, seal| {
                if seals.len() >= SEALS_AT_ONCE {
                    return true;
                }
                match seal.take().map_or_else(|| seal(&self.dir, *number, *origin), Ok) {
                    Ok(read) => seals.push(seal.insert(read).clone()),
                    Err(error) if error.kind() == ErrorKind::NotFound => {
                        tracing::error!(
                            segment = *number,
                            "somebody removed calls that were not on record yet"
                        );
                        return false;
                    }
                    Err(error) => fault = Some(error.into()),
                }
                true
            });
        }
        (seals, fault)
    }

    /// These are on record. A name that cannot be changed has the next start record the same again, which harms nothing.
    pub(super) fn sealed(&mut self, numbers: &[u64]) -> Result<(), CallLogFault> {
        let mut outcome = Ok(());
        for (origin, own) in &mut self.own {
            for number in numbers {
                if own.unsealed.remove(number).is_none() {
                    continue;
                }
                let Some(complete) = own.complete.iter_mut().find(|complete| complete.number == *number)
                else {
                    continue;
                };
                let name = |stage| path(&self.dir, *number, *origin, stage);
                match std::fs::rename(name(complete.stage), name(Stage::Sealed)) {
                    Ok(()) => complete.stage = Stage::Sealed,
                    Err(error) => outcome = Err(error.into()),
                }
            }
        }
        outcome
    }

    #[cfg(test)]
    pub(super) const fn shrink(&mut self, len_max: u64) {
        self.len_max = [len_max, len_max];
    }

    /// Where the segments from this place on are.
    pub(super) fn paths(&self, from: Cursor) -> Result<Vec<(u64, PathBuf)>, CallLogFault> {
        let found = listed(&self.dir)?.into_iter().filter(|(number, ..)| *number >= from.segment);
        Ok(found.map(|(number, _, _, path)| (number, path)).collect())
    }
}

const fn limit([known, strangers]: [u64; 2], origin: Origin) -> u64 {
    match origin {
        Origin::Known => known,
        Origin::Strangers => strangers,
    }
}

/// What is to be recorded of a complete segment.
fn seal(dir: &Path, number: u64, origin: Origin) -> io::Result<SealedCalls> {
    let (len, batches, parts) = sealed::seal::<CallBatch>(&path(dir, number, origin, Stage::Complete))?;
    Ok(SealedCalls { number, origin, len, batches, parts })
}

/// The lines of these segments that are wanted.
pub(super) fn page(
    paths: &[(u64, PathBuf)],
    from: Cursor,
    len: usize,
    wanted: &dyn Fn(&CallLine) -> bool,
) -> Result<(Vec<CallLine>, Option<Cursor>), CallLogFault> {
    Ok(sealed::page::<CallBatch>((paths, &LATER, SEGMENTS_PER_PAGE), from, len, wanted)?)
}

impl Batch for CallBatch {
    type Line = CallLine;

    fn number(&self) -> u64 {
        self.number
    }

    fn set_number(&mut self, number: u64) {
        self.number = number;
    }

    fn lines(self) -> Vec<CallLine> {
        self.lines
    }
}
