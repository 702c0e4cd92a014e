//! The segments: files of frames, open or complete, each with a number that no other had.

use std::collections::{BTreeMap, VecDeque};
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::domain::call::{CallBatch, CallLine, Origin, SEALED_PART_LEN, SealedCalls};
use crate::domain::id::Digest;
use crate::segments::{self, AppendFault, Frames};

/// How long all segments of known callers are together: some ten million lines.
const KNOWN_LEN_MAX: u64 = 192 << 20;
/// And of strangers.
const STRANGERS_LEN_MAX: u64 = 64 << 20;
/// From this length on a segment is complete: so much is read at once.
const SEGMENT_LEN: u64 = 1 << 20;
/// And from this age on: what is not sealed yet could be altered unseen by who has the disk.
const SEGMENT_AGE_MS: u64 = 3_600_000;
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

/// Where a page begins.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cursor {
    /// In which segment.
    pub segment: u64,
    /// At which of its lines.
    pub line: u64,
}

#[derive(Debug, Clone, Copy)]
struct Complete {
    number: u64,
    len: u64,
}

/// The segment that grows.
#[derive(Debug)]
struct Growing {
    number: u64,
    len: u64,
    batches: u64,
    file: File,
    /// When its first line was written, on the clock that never goes back; none: before this start.
    begun_ms: Option<u64>,
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

/// The digests of a segment.
pub(super) fn digests(bytes: &[u8]) -> Vec<Digest> {
    bytes.chunks(SEALED_PART_LEN).map(Digest::of).collect()
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
                    let growing = reopen(number, &path)?;
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
        batch.number = growing.batches;
        let frame = segments::encode(batch)?;
        match segments::append((&mut growing.file, growing.len), &frame) {
            Ok(()) => {}
            Err(AppendFault::Undone(error)) => return Err(error.into()),
            Err(AppendFault::Unknown(error)) => {
                self.closed = Some(error.to_string());
                return Err(CallLogFault::Closed(error.to_string()));
            }
        }
        growing.batches += 1;
        growing.len += frame.len() as u64;
        own.len += frame.len() as u64;
        self.make_room(origin)
    }

    fn begin(&mut self, origin: Origin) -> io::Result<Growing> {
        if self.own.values().all(|own| own.growing.is_none() && own.complete.is_empty()) {
            segments::create_dir(&self.dir)?;
        }
        let number = self.next;
        // Whatever fails from here on, the next try takes another name.
        self.next = self.next.saturating_add(1);
        let file = segments::create(&path(&self.dir, number, origin, OPEN))?;
        Ok(Growing { number, len: 0, batches: 0, file, begun_ms: None })
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
            if let Some(growing) = own.growing.take_if(|growing| is_due(growing, now_ms)) {
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
                match read(&self.dir, complete.number, *origin) {
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

fn is_due(growing: &mut Growing, now_ms: u64) -> bool {
    let begun_ms = *growing.begun_ms.get_or_insert(now_ms);
    growing.batches > 0 && (growing.len >= SEGMENT_LEN || now_ms.saturating_sub(begun_ms) >= SEGMENT_AGE_MS)
}

/// What is to be recorded of a complete segment.
fn read(dir: &Path, number: u64, origin: Origin) -> io::Result<SealedCalls> {
    let bytes = std::fs::read(path(dir, number, origin, COMPLETE))?;
    let batches = Frames::<CallBatch>::of(&bytes).count() as u64;
    Ok(SealedCalls { number, origin, len: bytes.len() as u64, batches, parts: digests(&bytes) })
}

/// Goes on with a segment of the run before. What a crash tore of it is cut off.
fn reopen(number: u64, path: &Path) -> io::Result<Growing> {
    let bytes = std::fs::read(path)?;
    let (mut len, mut batches) = (0, 0);
    for (end, _) in Frames::<CallBatch>::of(&bytes) {
        (len, batches) = (end as u64, batches + 1);
    }
    if len < bytes.len() as u64 {
        tracing::warn!(path = %path.display(), offset = len, "torn lines of the audit of calls were cut off");
        segments::cut(path, len)?;
    }
    let file = OpenOptions::new().append(true).open(path)?;
    Ok(Growing { number, len, batches, file, begun_ms: None })
}

/// The lines of these segments that are wanted.
pub(super) fn page(
    paths: &[(u64, PathBuf)],
    from: Cursor,
    len: usize,
    wanted: &dyn Fn(&CallLine) -> bool,
) -> Result<(Vec<CallLine>, Option<Cursor>), CallLogFault> {
    let mut lines = Vec::new();
    for (looked, (number, path)) in paths.iter().enumerate() {
        if looked >= SEGMENTS_PER_PAGE {
            return Ok((lines, Some(Cursor { segment: *number, line: 0 })));
        }
        let bytes = match read_segment(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            bytes => bytes?,
        };
        let skip = if *number == from.segment { from.line } else { 0 };
        let all =
            Frames::<CallBatch>::of(&bytes).filter_map(|(_, batch)| batch).flat_map(|batch| batch.lines);
        for (at, line) in (0..).zip(all) {
            if at < skip || !wanted(&line) {
                continue;
            }
            if lines.len() >= len {
                return Ok((lines, Some(Cursor { segment: *number, line: at })));
            }
            lines.push(line);
        }
    }
    Ok((lines, None))
}

/// A segment that was completed between the listing and now has another name.
fn read_segment(path: &Path) -> io::Result<Vec<u8>> {
    match std::fs::read(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => std::fs::read(path.with_extension(COMPLETE)),
        bytes => bytes,
    }
}
