//! Segments against what the journal says of them: each that it sealed is there as it was, unless the journal says too that it was
//! removed.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use super::files::listed;
use crate::domain::decided::{DecidedBatch, SealedDecisions};
use crate::segments::sealed::{differs, walk};

/// Something that was done to a segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecisionsFault {
    /// The number of its file.
    pub segment: u64,
    /// From which byte on; none: all of it.
    pub offset: Option<u64>,
    /// From which decision on.
    pub line: Option<u64>,
    /// What.
    pub why: &'static str,
}

/// What a verification found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DecisionsVerified {
    /// Segments that are what the journal says.
    pub good: u64,
    /// Segments that the journal says were removed after their time.
    pub removed: u64,
    /// Segments that are not sealed yet: who has the disk could have changed them.
    pub unsealed: u64,
    /// Decisions in all of them.
    pub lines: u64,
    /// What does not hold.
    pub faults: Vec<DecisionsFault>,
}

/// Compares the segments in a folder with what the journal says of them: what it sealed, and up to which it removed them.
///
/// # Errors
/// They cannot be read.
pub fn verify(dir: &Path, seals: &[SealedDecisions], removed: u64) -> io::Result<DecisionsVerified> {
    let mut found = DecisionsVerified::default();
    let mut sealed: BTreeMap<u64, &SealedDecisions> = BTreeMap::new();
    for seal in seals {
        // A start seals the last one anew: the first word counts.
        if *sealed.entry(seal.number).or_insert(seal) != seal {
            found.faults.push(whole(seal.number, "the journal names it with two contents"));
        }
    }
    for (name, path) in listed(dir)? {
        let bytes = std::fs::read(&path)?;
        let (lines, broken) = walk::<DecidedBatch>(&bytes);
        found.lines += lines;
        match (sealed.remove(&name.number), broken) {
            (Some(seal), _) if seal.begun != name.begun => {
                found.faults.push(whole(seal.number, "its name says another time"));
            }
            (Some(seal), _) => match compare(seal, &bytes) {
                Some(fault) => found.faults.push(fault),
                None => found.good += 1,
            },
            // The next start cuts off what a crash tore of one that grows.
            (None, Some((offset, line))) if name.is_complete => found.faults.push(DecisionsFault {
                segment: name.number,
                offset: Some(offset),
                line: Some(line),
                why: "a batch cannot be read",
            }),
            (None, _) => found.unsealed += 1,
        }
    }
    let (gone, missing): (Vec<u64>, Vec<u64>) = sealed.into_keys().partition(|number| *number <= removed);
    found.removed = gone.len() as u64;
    found.faults.extend(missing.into_iter().map(|number| whole(number, "it was taken away")));
    found.faults.sort_by_key(|fault| fault.segment);
    Ok(found)
}

const fn whole(segment: u64, why: &'static str) -> DecisionsFault {
    DecisionsFault { segment, offset: None, line: None, why }
}

/// What is wrong with a sealed segment: as near as batches and digests show it.
fn compare(seal: &SealedDecisions, bytes: &[u8]) -> Option<DecisionsFault> {
    let (offset, line) = differs::<DecidedBatch>((seal.len, &seal.parts), bytes)?;
    let why =
        if seal.len > bytes.len() as u64 { "decisions were taken out" } else { "decisions were altered" };
    Some(DecisionsFault { segment: seal.number, offset: Some(offset), line: Some(line), why })
}
