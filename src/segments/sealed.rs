//! Segments that a journal seals: each a row of numbered batches, which grows until it is complete and is never changed
//! afterwards. What the two logs that have such segments share: growing one, reading pages of them, and finding where one
//! differs from its digests. Which ones there are, and which may go, each log knows itself.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use minicbor::{Decode, Encode};

use super::{AppendFault, Frames, append, create, cut, encode};
use crate::domain::id::Digest;

/// Bytes of a segment under one digest: to so many an altered line is located.
pub const PART_LEN: usize = 64 << 10;

/// What is written at once.
pub trait Batch: Encode<()> + for<'b> Decode<'b, ()> {
    /// What it has many of.
    type Line;
    /// Dense within a segment, from 0 on: one that was taken out shows.
    fn number(&self) -> u64;
    /// Gives it its number.
    fn set_number(&mut self, number: u64);
    /// Its lines.
    fn lines(self) -> Vec<Self::Line>;
}

/// Where a page begins.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cursor {
    /// In which segment.
    pub segment: u64,
    /// At which of its lines.
    pub line: u64,
}

/// The segment that grows.
#[derive(Debug)]
pub struct Growing {
    /// Its number.
    pub number: u64,
    /// How long it is.
    pub len: u64,
    /// How many batches it has.
    pub batches: u64,
    file: File,
    /// When it was first looked at, on the clock that never goes back; none: not yet.
    begun_ms: Option<u64>,
}

impl Growing {
    /// Begins one.
    ///
    /// # Errors
    /// It cannot be made, or a file has its name.
    pub fn create(number: u64, path: &Path) -> io::Result<Self> {
        Ok(Self { number, len: 0, batches: 0, file: create(path)?, begun_ms: None })
    }

    /// Goes on with one of the run before. What a crash tore of it is cut off.
    ///
    /// # Errors
    /// It cannot be read or changed.
    pub fn reopen<B: Batch>(number: u64, path: &Path) -> io::Result<Self> {
        let bytes = std::fs::read(path)?;
        let (mut len, mut batches) = (0, 0);
        for (end, _) in Frames::<B>::of(&bytes) {
            (len, batches) = (end as u64, batches + 1);
        }
        if len < bytes.len() as u64 {
            tracing::warn!(path = %path.display(), offset = len, "a torn batch was cut off");
            cut(path, len)?;
        }
        let file = OpenOptions::new().append(true).open(path)?;
        Ok(Self { number, len, batches, file, begun_ms: None })
    }

    /// Appends a batch with the next number, and syncs it. Gives its length.
    ///
    /// # Errors
    /// It is not stored.
    pub fn append(&mut self, batch: &mut impl Batch) -> Result<u64, AppendFault> {
        batch.set_number(self.batches);
        let frame = encode(batch)?;
        append((&mut self.file, self.len), &frame)?;
        self.batches += 1;
        self.len += frame.len() as u64;
        Ok(frame.len() as u64)
    }

    /// Is it as long as it may be, or as old? An empty one is neither.
    pub fn is_due(&mut self, now_ms: u64, (len, age_ms): (u64, u64)) -> bool {
        let begun_ms = *self.begun_ms.get_or_insert(now_ms);
        self.batches > 0 && (self.len >= len || now_ms.saturating_sub(begun_ms) >= age_ms)
    }
}

/// The digests of a segment.
pub fn digests(bytes: &[u8]) -> Vec<Digest> {
    bytes.chunks(PART_LEN).map(Digest::of).collect()
}

/// The length, batches and digests of a complete segment.
///
/// # Errors
/// It cannot be read.
pub fn seal<B: Batch>(path: &Path) -> io::Result<(u64, u64, Vec<Digest>)> {
    let bytes = std::fs::read(path)?;
    Ok((bytes.len() as u64, Frames::<B>::of(&bytes).count() as u64, digests(&bytes)))
}

/// The lines of these segments that are wanted, and where to go on; none: that was all. Looks through so many segments and no
/// more. One that was completed since it was listed has another end of its name, and one that made room is no more.
///
/// # Errors
/// One cannot be read.
pub fn page<B: Batch>(
    (paths, complete, segments_max): (&[(u64, PathBuf)], &str, usize),
    from: Cursor,
    len: usize,
    wanted: &dyn Fn(&B::Line) -> bool,
) -> io::Result<(Vec<B::Line>, Option<Cursor>)> {
    let mut lines = Vec::new();
    for (looked, (number, path)) in paths.iter().enumerate() {
        if looked >= segments_max {
            return Ok((lines, Some(Cursor { segment: *number, line: 0 })));
        }
        let Some(bytes) = read(path, complete)? else { continue };
        let skip = if *number == from.segment { from.line } else { 0 };
        let all = Frames::<B>::of(&bytes).filter_map(|(_, batch)| batch).flat_map(Batch::lines);
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

fn read(path: &Path, complete: &str) -> io::Result<Option<Vec<u8>>> {
    let found = match std::fs::read(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => std::fs::read(path.with_extension(complete)),
        bytes => bytes,
    };
    match found {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        bytes => bytes.map(Some),
    }
}

/// How many lines can be read, and the byte and line from which on they cannot: there stands no whole batch, or not the next.
pub fn walk<B: Batch>(bytes: &[u8]) -> (u64, Option<(u64, u64)>) {
    let (mut lines, mut good, mut number) = (0, 0, 0);
    for (end, batch) in Frames::<B>::of(bytes) {
        let Some(batch) = batch.filter(|batch| batch.number() == number) else {
            return (lines, Some((good, lines)));
        };
        lines += batch.lines().len() as u64;
        (good, number) = (end as u64, number + 1);
    }
    (lines, (good < bytes.len() as u64).then_some((good, lines)))
}

/// The byte and line from which on a segment is not the one with this length and these digests: as near as they show it. None: it
/// is that one.
pub fn differs<B: Batch>((len, sealed): (u64, &[Digest]), bytes: &[u8]) -> Option<(u64, u64)> {
    let parts = digests(bytes);
    if len == bytes.len() as u64 && sealed == parts {
        return None;
    }
    if let (_, Some(broken)) = walk::<B>(bytes) {
        return Some(broken);
    }
    let part = sealed.iter().zip(&parts).position(|(sealed, now)| sealed != now);
    let offset = part.unwrap_or(sealed.len().min(parts.len())) * PART_LEN;
    Some((offset as u64, line_at::<B>(bytes, offset)))
}

/// The first line of the batch that holds this byte.
fn line_at<B: Batch>(bytes: &[u8], offset: usize) -> u64 {
    let mut lines = 0;
    for (end, batch) in Frames::<B>::of(bytes) {
        if end > offset {
            break;
        }
        lines += batch.map_or(0, |batch| batch.lines().len() as u64);
    }
    lines
}
