//! What one stream asked for, was sent and answered: pure, the same for both variants of the protocol.
//!
//! Every name that is asked for is answered, nothing that is unchanged is sent again, and an acknowledgement is of the
//! response with its nonce and of nothing else.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;

use thiserror::Error;

use super::name::Name;
use crate::app::{CrlNumber, Term};
use crate::domain::id::{Digest, Seq};

/// Responses that are sent and not answered. A consumer that answers none gets no more, and its lease ends.
const UNANSWERED_MAX: usize = 8;
/// The most names in one message, known or not: far more than there are secrets.
const NAMES_MAX: usize = 16;
/// The longest name.
const NAME_LEN_MAX: usize = 128;

/// What a consumer says.
#[derive(Debug, Default)]
pub(super) struct Heard {
    pub(super) names: Names,
    /// The response that it answers, by its nonce, and why it refuses it if it does.
    pub(super) answer: Option<(String, Option<String>)>,
}

/// What it asks for.
#[derive(Debug)]
pub(super) enum Names {
    /// These and no others.
    All(Vec<String>),
    /// These as well, and those no more.
    Change(Vec<String>, Vec<String>),
}

impl Default for Names {
    fn default() -> Self {
        Self::Change(Vec::new(), Vec::new())
    }
}

/// What a consumer did that ends its stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(super) enum Fault {
    #[error("at most {NAMES_MAX} names of at most {NAME_LEN_MAX} bytes can be asked for")]
    TooMuch,
    #[error("a nonce was answered that was never sent")]
    UnknownNonce,
    #[error("a leased secret was dropped, which may still be in use: begin another stream")]
    Dropped,
}

/// What tells a secret from others of its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Version {
    /// The number of the set's list.
    Set(CrlNumber),
    /// The fingerprint of the listener's chain.
    Chain(Digest),
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Set(number) => number.fmt(f),
            Self::Chain(fingerprint) => fingerprint.fmt(f),
        }
    }
}

/// A refusal: of which secrets, and why.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) names: Vec<Name>,
    pub(super) why: String,
}

/// One name that is asked for.
#[derive(Debug, Default)]
struct Row {
    /// Asked for and not answered since.
    is_asked: bool,
    /// What was sent last.
    sent: Option<Version>,
    /// What was acknowledged last, and the last record that it is known to say.
    acked: Option<(Version, Seq)>,
    /// Which canary is listed next.
    turn: bool,
}

/// The secrets of one response, each with the last record that it says.
type Secrets = Vec<(Name, Version, Seq)>;

/// The books of one stream.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    rows: BTreeMap<Name, Row>,
    unknown: Vec<String>,
    unanswered: VecDeque<(u64, Secrets)>,
    nonce: u64,
}

impl Ledger {
    /// Takes what the consumer says, and gives what it refused, if it did. `exists` says which names there are.
    ///
    /// # Errors
    /// What ends the stream.
    pub(super) fn hear(
        &mut self,
        heard: Heard,
        exists: impl Fn(Name) -> bool,
    ) -> Result<Option<Refusal>, Fault> {
        let refused = match heard.answer {
            Some((nonce, refused)) => self.answer(&nonce, refused)?,
            None => None,
        };
        match heard.names {
            Names::All(names) => {
                let known = self.known(names, &exists)?;
                let dropped: Vec<_> =
                    self.rows.keys().filter(|name| !known.contains(name)).copied().collect();
                dropped.into_iter().try_for_each(|name| self.drop_name(name))?;
                for name in known {
                    self.rows.entry(name).or_insert_with(|| Row { is_asked: true, ..Row::default() });
                }
                // This variant has no word for a name that there is not.
                self.unknown.clear();
            }
            Names::Change(more, less) => {
                for name in self.known(more, &exists)? {
                    // Whoever asks is answered, whatever was sent before.
                    self.rows.entry(name).or_default().is_asked = true;
                }
                let less: Vec<Name> = bounded(&less)?.iter().filter_map(|name| name.parse().ok()).collect();
                less.into_iter().try_for_each(|name| self.drop_name(name))?;
            }
        }
        Ok(refused)
    }

    fn known(&mut self, names: Vec<String>, exists: impl Fn(Name) -> bool) -> Result<Vec<Name>, Fault> {
        let mut known = Vec::new();
        bounded(&names)?;
        for text in names {
            match text.parse::<Name>().ok().filter(|name| exists(*name)) {
                Some(name) => known.push(name),
                None if self.unknown.len() < NAMES_MAX => self.unknown.push(text),
                None => return Err(Fault::TooMuch),
            }
        }
        Ok(known)
    }

    fn drop_name(&mut self, name: Name) -> Result<(), Fault> {
        let row = self.rows.remove(&name);
        let was_sent = row.is_some_and(|row| row.sent.is_some());
        if was_sent && name.term() == Some(Term::Leased) { Err(Fault::Dropped) } else { Ok(()) }
    }

    /// Answers are of responses in the order in which those were sent; an answer of a later one leaves the earlier ones
    /// without.
    fn answer(&mut self, nonce: &str, refused: Option<String>) -> Result<Option<Refusal>, Fault> {
        let number: u64 = nonce.parse().map_err(|_| Fault::UnknownNonce)?;
        if number > self.nonce {
            return Err(Fault::UnknownNonce);
        }
        while self.unanswered.front().is_some_and(|(sent, _)| *sent < number) {
            self.unanswered.pop_front();
        }
        // A nonce that was answered before comes again with every message of the older variant.
        if self.unanswered.front().is_none_or(|(sent, _)| *sent != number) {
            return Ok(None);
        }
        let secrets = self.unanswered.pop_front().map(|(_, secrets)| secrets).unwrap_or_default();
        if let Some(why) = refused {
            return Ok(Some(Refusal { names: secrets.into_iter().map(|(name, ..)| name).collect(), why }));
        }
        for (name, version, as_of) in secrets {
            if let Some(row) = self.rows.get_mut(&name) {
                row.acked = Some((version, as_of));
            }
        }
        Ok(None)
    }

    /// The names that are asked for.
    pub(super) fn names(&self) -> impl Iterator<Item = Name> + '_ {
        self.rows.keys().copied()
    }

    /// What was sent last for a name, and which canary comes next.
    pub(super) fn last(&self, name: Name) -> (Option<Version>, bool) {
        self.rows.get(&name).map_or((None, false), |row| (row.sent, row.turn))
    }

    /// This set is the one of its name and says what the record says up to `as_of`: who acknowledged it needs nothing.
    pub(super) fn confirm(&mut self, name: Name, set: Version, as_of: Seq) {
        if let Some((acked, seq)) = self.rows.get_mut(&name).and_then(|row| row.acked.as_mut())
            && *acked == set
        {
            *seq = as_of.max(*seq);
        }
    }

    /// Must this be sent?
    pub(super) fn is_due(&self, name: Name, version: Version) -> bool {
        self.rows.get(&name).is_some_and(|row| row.is_asked || row.sent != Some(version))
    }

    /// May another response be sent?
    pub(super) fn has_room(&self) -> bool {
        self.unanswered.len() < UNANSWERED_MAX
    }

    /// Names that were asked for and do not exist.
    pub(super) fn take_unknown(&mut self) -> Vec<String> {
        std::mem::take(&mut self.unknown)
    }

    /// Notes that these are sent in one response, and gives its nonce.
    pub(super) fn send(&mut self, secrets: Secrets) -> String {
        self.nonce += 1;
        for (name, version, _) in &secrets {
            if let Some(row) = self.rows.get_mut(name) {
                row.is_asked = false;
                row.sent = Some(*version);
                row.turn = !row.turn;
            }
        }
        self.unanswered.push_back((self.nonce, secrets));
        self.nonce.to_string()
    }

    /// Up to which record the consumer enforces, as far as its lists can say it; the leased ones, if it has any.
    pub(super) fn acked(&self) -> Option<Seq> {
        let of = |term: Term| {
            self.rows.iter().filter(move |(name, _)| name.term() == Some(term)).map(|(_, row)| row)
        };
        let least = |term| of(term).map(|row| row.acked.map_or(Seq(0), |(_, seq)| seq)).min();
        least(Term::Leased).or_else(|| least(Term::Unleased))
    }
}

fn bounded(names: &[String]) -> Result<&[String], Fault> {
    let fits = names.len() <= NAMES_MAX && names.iter().all(|name| name.len() <= NAME_LEN_MAX);
    if fits { Ok(names) } else { Err(Fault::TooMuch) }
}
