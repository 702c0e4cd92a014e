//! What the record keeps of screening: which list is the newest, which of its entries an entity's name came close to, and
//! what officers made of that. Never the name of an entry that may be a person.
//!
//! A match stays until an officer resolves it, also when the entry leaves the list. What was resolved is not asked again
//! for the same name and an entry that says the same, in whichever version.

use minicbor::{Decode, Encode};

use super::entity::{Entity, Organisation, Screening, ScreeningResult};
use super::id::{Digest, Seq};
use super::time::Timestamp;
use super::word::words;

/// The most matches that one run may add: nobody looks at more at once, and the rest come when these are resolved.
pub const FOUND_MAX: usize = 64;
/// The most matches that are kept of an entity. One with more has a name of ordinary words only, and is screened by hand.
pub const MATCHES_MAX: usize = 1_024;
/// The least score that is a match unless officers say otherwise (docs/screening.md); for a higher one two sign.
pub const SCORE_MIN: u8 = 82;
/// From this score on, two officers say that a match is somebody else: nearly every word is the same.
pub const ALIKE_SCORE: u8 = 95;

words! {
    /// What officers make of a match.
    MatchVerdict {
        /// Somebody else.
        FalsePositive = 0, "FALSE_POSITIVE";
        /// It is the party. Everything is denied.
        Confirmed = 1, "CONFIRMED";
        /// What was confirmed is not so, or not any more.
        Withdrawn = 2, "WITHDRAWN";
    }
}

/// A version of the list.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct ScreeningList {
    /// Its name, as officers call it.
    #[n(0)]
    pub version: String,
    /// When it was published.
    #[n(1)]
    pub date: Timestamp,
    /// SHA-256 of the file.
    #[n(2)]
    pub file: Digest,
    /// How many entries it has.
    #[n(3)]
    pub entries: u32,
    /// The least score that is a match, from 0 to 100.
    #[n(4)]
    pub score_min: u8,
}

/// An entry that a name came close to.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct ScreeningMatch {
    /// SHA-256 of what the entry says: its name in every version in which it says the same.
    #[n(0)]
    pub entry: Digest,
    /// Its id, as published.
    #[n(1)]
    pub entry_id: String,
    /// The list that it is of: SDN, EL.
    #[n(2)]
    pub source: String,
    /// How close, from 0 to 100.
    #[n(3)]
    pub score: u8,
    /// Why, in words.
    #[n(4)]
    pub explanation: String,
}

/// What officers made of a match.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Resolution {
    /// What.
    #[n(0)]
    pub verdict: MatchVerdict,
    /// Why.
    #[n(1)]
    pub reason: String,
    /// When.
    #[n(2)]
    pub at: Timestamp,
    /// The record, which has their signatures.
    #[n(3)]
    pub record: Seq,
}

/// A match of an entity.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct HeldMatch {
    /// What was found.
    #[n(0)]
    pub found: ScreeningMatch,
    /// What was looked up when it was found.
    #[n(1)]
    pub query: Digest,
    /// The version that it was found in.
    #[n(2)]
    pub version: String,
    /// What officers made of it; none: nobody has looked at it.
    #[n(3)]
    pub resolution: Option<Resolution>,
}

impl HeldMatch {
    /// What it means for the entity.
    pub fn result(&self) -> ScreeningResult {
        match self.resolution.as_ref().map(|resolution| resolution.verdict) {
            None => ScreeningResult::Unresolved,
            Some(MatchVerdict::Confirmed) => ScreeningResult::Confirmed,
            Some(MatchVerdict::FalsePositive | MatchVerdict::Withdrawn) => ScreeningResult::Clear,
        }
    }
}

/// The last time that an entity was compared with a list.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Run {
    /// The list.
    #[n(0)]
    pub list: ScreeningList,
    /// SHA-256 of what was looked up.
    #[n(1)]
    pub query: Digest,
    /// Matches that had no room.
    #[n(2)]
    pub more: u32,
}

/// Where an entity stands.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode)]
pub struct EntityScreening {
    /// What a vetter entered last: for people and owners, whom only the partner and the vetter know.
    #[n(0)]
    pub by_hand: Option<Screening>,
    /// The last comparison with a list.
    #[n(1)]
    pub run: Option<Run>,
    /// Every match.
    #[n(2)]
    pub matches: Vec<HeldMatch>,
}

impl EntityScreening {
    /// As far as decisions read it: the worst of what is known, of the newest list that anybody looked at.
    pub fn summary(&self) -> Option<Screening> {
        let of_run = self.run.as_ref().map(|run| Screening {
            list_version: run.list.version.clone(),
            list_date: run.list.date,
            result: ScreeningResult::Clear,
        });
        let newest = match (&self.by_hand, of_run) {
            (Some(by_hand), Some(run)) if by_hand.list_date > run.list_date => by_hand.clone(),
            (_, Some(run)) => run,
            (by_hand, None) => by_hand.clone()?,
        };
        let by_hand = self.by_hand.as_ref().map(|screening| screening.result);
        let hidden = self.run.as_ref().filter(|run| run.more > 0).map(|_| ScreeningResult::Unresolved);
        let results = self.matches.iter().map(HeldMatch::result).chain(by_hand).chain(hidden);
        Some(Screening { result: results.max().unwrap_or(ScreeningResult::Clear), ..newest })
    }

    /// Must it be compared with this list? Also when what had no room may have some now.
    pub fn is_due(&self, list: &ScreeningList, query: Digest) -> bool {
        self.run.as_ref().is_none_or(|run| {
            let has_open = self.matches.iter().any(|held| held.resolution.is_none());
            run.list != *list
                || run.query != query
                || (run.more > 0 && !has_open && self.matches.len() < MATCHES_MAX)
        })
    }

    /// The match with this entry.
    pub fn find(&self, entry: Digest) -> Option<&HeldMatch> {
        self.matches.iter().find(|held| held.found.entry == entry)
    }

    /// Need nobody be asked about this entry, for what was looked up?
    pub fn knows(&self, entry: Digest, query: Digest) -> bool {
        self.find(entry)
            .is_some_and(|held| held.query == query || held.result() == ScreeningResult::Confirmed)
    }

    /// Takes what a comparison found.
    pub(super) fn take_run(&mut self, run: Run, found: &[ScreeningMatch]) {
        for found in found {
            // What was confirmed stays so, whatever is looked up.
            if self.find(found.entry).is_some_and(|held| held.result() == ScreeningResult::Confirmed) {
                continue;
            }
            // Under another name of ours it is asked anew.
            self.matches.retain(|held| held.found.entry != found.entry);
            self.matches.push(HeldMatch {
                found: found.clone(),
                query: run.query,
                version: run.list.version.clone(),
                resolution: None,
            });
        }
        self.run = Some(run);
    }

    /// Takes what officers made of a match.
    pub(super) fn resolve(&mut self, entry: Digest, resolution: Resolution) -> Result<(), String> {
        let held = self.matches.iter_mut().find(|held| held.found.entry == entry);
        held.ok_or("no such match")?.resolution = Some(resolution);
        Ok(())
    }
}

impl Entity {
    /// The country that its name is compared with: that of its seat, two letters.
    pub fn country(&self) -> Option<&str> {
        match (&self.card.seat, self.card.org) {
            (Some(seat), _) => Some(seat.as_str()),
            (None, Organisation::Us) => Some("US"),
            (None, Organisation::Foreign) => None,
        }
    }

    /// SHA-256 of what is looked up for it.
    pub fn query(&self) -> Digest {
        Digest::of(format!("{}\n{}", self.country().unwrap_or_default(), self.name).as_bytes())
    }
}
