//! The segments: files of frames, open or complete, each with a number that no other had.

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
/// The end of a file's name while it grows, and when it is complete.
const OPEN: &str = "open";
const COMPLETE: &str = "calls";

/// Lines are not stored, or cannot be read.
#[derive(Debug, Error)]
pub enum CallLogFault {
    /// This try failed, and nothing of it is left.
    #[error("the audit of calls cannot be written or read: {0}")]
    Io(#[from] io::Error),
    /// Nobody knows what is on disk until the next start.
    #[error("the audit of calls is closed: {0}")]
    Closed(String),
}

#[derive(Debug, Clone, Copy)]
struct Complete {
    number: u64,
    len: u64,
}

/// The segments of one origin.
#[derive(Debug, Default)]
struct Own {
    /// Oldest first.
    complete: VecDeque<Complete>,
    len: u64,
    growing: Option<Growing>,
    /// Complete ones whose digests may not be on record: those of this run that were just completed, and the last of the run
    /// before, which may have ended between the two.
    unsealed: Vec<Complete>,
}

/// All segments.
#[derive(Debug)]
pub(super) struct Files {
    dir: PathBuf,
    len_max: [u64; 2],
    next: u64,
    own: BTreeMap<Origin, Own>,
    closed: Option<String>,
}

/// A segment's number, whose it is, and whether it is complete.
pub(super) fn parts(name: &str) -> Option<(u64, Origin, bool)> {
    let (number, rest) = name.split_once('.')?;
    let (origin, end) = rest.split_once('.')?;
    let origin = Origin::ALL.iter().find(|known| word(**known) == origin)?;
    let is_complete = match end {
        OPEN => false,
        COMPLETE => true,
        _ => return None,
    };
    Some((number.parse().ok()?, *origin, is_complete))
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

fn path(dir: &Path, number: u64, origin: Origin, end: &str) -> PathBuf {
    dir.join(format!("{number:020}.{}.{end}", word(origin)))
}

/// The segments in a folder, in the order of their numbers.
pub(super) fn listed(dir: &Path) -> io::Result<Vec<(u64, Origin, bool, PathBuf)>> {
    let entries = match std::fs::read_dir(dir) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry?;
        if let Some((number, origin, is_complete)) = entry.file_name().to_str().and_then(parts) {
            found.push((number, origin, is_complete, entry.path()));
        }
    }
    found.sort();
    Ok(found)
}

impl Files {
    pub(super) fn open(dir: &Path) -> Self {
        let len_max = [KNOWN_LEN_MAX, STRANGERS_LEN_MAX];
        let mut files = Self { dir: dir.to_owned(), len_max, next: 1, own: BTreeMap::new(), closed: None };
        if let Err(error) = files.find() {
            tracing::error!(path = %dir.display(), %error, "the audit of calls cannot be opened; calls are not kept");
            files.closed = Some(error.to_string());
        }
        files
    }

    fn find(&mut self) -> io::Result<()> {
        for (number, origin, is_complete, path) in listed(&self.dir)? {
            self.next = self.next.max(number.saturating_add(1));
            let own = self.own.entry(origin).or_default();
            let found = match is_complete {
                true => Complete { number, len: std::fs::metadata(&path)?.len() },
                false => {
                    let growing = Growing::reopen::<CallBatch>(number, &path)?;
                    let found = Complete { number, len: growing.len };
                    own.growing = Some(growing);
                    own.len += found.len;
                    continue;
                }
            };
            own.len += found.len;
            own.complete.push_back(found);
        }
        for own in self.own.values_mut() {
            own.unsealed.extend(own.complete.back().copied());
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
        if self.own.entry(origin).or_default().growing.is_none() {
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
        self.make_room(origin)
    }

    fn begin(&mut self, origin: Origin) -> io::Result<Growing> {
        if self.own.values().all(|own| own.growing.is_none() && own.complete.is_empty()) {
            segments::create_dir(&self.dir)?;
        }
        let number = self.next;
        // Whatever fails from here on, the next try takes another name.
        self.next = self.next.saturating_add(1);
        Growing::create(number, &path(&self.dir, number, origin, OPEN))
    }

    /// The oldest of an origin go when its segments are too long together.
    fn make_room(&mut self, origin: Origin) -> Result<(), CallLogFault> {
        let [known, strangers] = self.len_max;
        let len_max = match origin {
            Origin::Known => known,
            Origin::Strangers => strangers,
        };
        let own = self.own.entry(origin).or_default();
        while own.len > len_max {
            let Some(oldest) = own.complete.pop_front() else { break };
            match std::fs::remove_file(path(&self.dir, oldest.number, origin, COMPLETE)) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    own.complete.push_front(oldest);
                    return Err(error.into());
                }
                Ok(()) | Err(_) => {}
            }
            own.len -= oldest.len;
            tracing::info!(segment = oldest.number, origin = origin.as_str(), "the oldest calls made room");
        }
        Ok(())
    }

    /// Completes what is long or old enough, and says what is to be recorded of it.
    pub(super) fn seal(&mut self, now_ms: u64) -> Result<Vec<SealedCalls>, CallLogFault> {
        if let Some(why) = &self.closed {
            return Err(CallLogFault::Closed(why.clone()));
        }
        let mut sealed = Vec::new();
        for (origin, own) in &mut self.own {
            if let Some(growing) = own.growing.take_if(|growing| growing.is_due(now_ms, DUE)) {
                let complete = Complete { number: growing.number, len: growing.len };
                let open = path(&self.dir, growing.number, *origin, OPEN);
                if let Err(error) = std::fs::rename(&open, path(&self.dir, growing.number, *origin, COMPLETE))
                {
                    own.growing = Some(growing);
                    return Err(error.into());
                }
                own.complete.push_back(complete);
                own.unsealed.push(complete);
                segments::sync_dir(&self.dir)?;
            }
            for complete in std::mem::take(&mut own.unsealed) {
                match seal(&self.dir, complete.number, *origin) {
                    Ok(seal) => sealed.push(seal),
                    // It may have made room meanwhile.
                    Err(error) if error.kind() == ErrorKind::NotFound => {}
                    Err(error) => {
                        own.unsealed.push(complete);
                        return Err(error.into());
                    }
                }
            }
        }
        Ok(sealed)
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

/// What is to be recorded of a complete segment.
fn seal(dir: &Path, number: u64, origin: Origin) -> io::Result<SealedCalls> {
    let (len, batches, parts) = sealed::seal::<CallBatch>(&path(dir, number, origin, COMPLETE))?;
    Ok(SealedCalls { number, origin, len, batches, parts })
}

/// The lines of these segments that are wanted.
pub(super) fn page(
    paths: &[(u64, PathBuf)],
    from: Cursor,
    len: usize,
    wanted: &dyn Fn(&CallLine) -> bool,
) -> Result<(Vec<CallLine>, Option<Cursor>), CallLogFault> {
    Ok(sealed::page::<CallBatch>((paths, COMPLETE, SEGMENTS_PER_PAGE), from, len, wanted)?)
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
