//! Segments against what the record says of them.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use super::files::{len_max, listed};
use crate::domain::call::{CallBatch, Origin, SealedCalls};
use crate::segments::sealed::{differs, walk};

/// Something that was done to a segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallsFault {
    /// The number of its file.
    pub segment: u64,
    /// From which byte on; none: all of it.
    pub offset: Option<u64>,
    /// From which line on.
    pub line: Option<u64>,
    /// What.
    pub why: String,
}

/// What a verification found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CallsVerified {
    /// Segments that are what the record says.
    pub good: u64,
    /// Segments that the record names and that made room since.
    pub retired: u64,
    /// Segments that are not sealed yet: who has the disk could have changed them.
    pub unsealed: u64,
    /// Lines in all of them.
    pub lines: u64,
    /// What does not hold.
    pub faults: Vec<CallsFault>,
}

/// Compares the segments in a folder with what the record says of them.
///
/// # Errors
/// They cannot be read.
pub fn verify(dir: &Path, seals: &[SealedCalls]) -> io::Result<CallsVerified> {
    verify_within(dir, seals, len_max)
}

/// With so much room for each origin.
pub(super) fn verify_within(
    dir: &Path,
    seals: &[SealedCalls],
    len_max: impl Fn(Origin) -> u64,
) -> io::Result<CallsVerified> {
    let mut found = CallsVerified::default();
    let mut sealed: BTreeMap<u64, &SealedCalls> = BTreeMap::new();
    for seal in seals {
        // A start seals the last one anew: the first word counts.
        if *sealed.entry(seal.number).or_insert(seal) != seal {
            found.faults.push(whole(seal.number, "the record names it with two contents"));
        }
    }
    let mut left: BTreeMap<Origin, Left> = BTreeMap::new();
    for (number, origin, is_complete, path) in listed(dir)? {
        let bytes = std::fs::read(&path)?;
        left.entry(origin).or_insert(Left { oldest: number, len: 0 }).len += bytes.len() as u64;
        let (lines, broken) = walk::<CallBatch>(&bytes);
        found.lines += lines;
        match (sealed.remove(&number), broken) {
            (Some(seal), _) => match compare(seal, origin, &bytes) {
                Some(fault) => found.faults.push(fault),
                None => found.good += 1,
            },
            // The next start cuts off what a crash tore of one that grows.
            (None, Some((offset, line))) if is_complete => {
                let why = "a batch cannot be read".to_owned();
                found.faults.push(CallsFault {
                    segment: number,
                    offset: Some(offset),
                    line: Some(line),
                    why,
                });
            }
            (None, _) => found.unsealed += 1,
        }
    }
    judge_missing(&mut found, sealed.into_values(), &left, len_max);
    found.faults.sort_by_key(|fault| fault.segment);
    Ok(found)
}

/// What is there of an origin.
struct Left {
    oldest: u64,
    len: u64,
}

/// Segments go oldest first, never the last one, and only when all of them are too long together: what is left is then still
/// as long as may be, but for the one that went last.
fn judge_missing<'a>(
    found: &mut CallsVerified,
    missing: impl Iterator<Item = &'a SealedCalls>,
    left: &BTreeMap<Origin, Left>,
    len_max: impl Fn(Origin) -> u64,
) {
    let mut before: BTreeMap<Origin, Vec<&SealedCalls>> = BTreeMap::new();
    for seal in missing {
        match left.get(&seal.origin) {
            Some(left) if seal.number < left.oldest => before.entry(seal.origin).or_default().push(seal),
            Some(_) | None => found.faults.push(whole(seal.number, "it was removed")),
        }
    }
    for (origin, gone) in before {
        let len = left.get(&origin).map_or(0, |left| left.len);
        let last = gone.last().map_or(0, |seal| seal.len);
        if len.saturating_add(last) > len_max(origin) {
            found.retired += gone.len() as u64;
            continue;
        }
        let why = "it was removed, and there was room for it";
        found.faults.extend(gone.into_iter().map(|seal| whole(seal.number, why)));
    }
}

fn whole(segment: u64, why: &str) -> CallsFault {
    CallsFault { segment, offset: None, line: None, why: why.to_owned() }
}

/// What is wrong with a sealed segment: as near as batches and digests show it.
fn compare(seal: &SealedCalls, origin: Origin, bytes: &[u8]) -> Option<CallsFault> {
    let differs = differs::<CallBatch>((seal.len, &seal.parts), bytes);
    let place = match differs {
        None if seal.origin == origin => return None,
        differs => differs.unwrap_or_default(),
    };
    let why = if seal.len > bytes.len() as u64 { "lines were taken out" } else { "lines were altered" };
    let (offset, line) = (Some(place.0), Some(place.1));
    Some(CallsFault { segment: seal.number, offset, line, why: why.to_owned() })
}
