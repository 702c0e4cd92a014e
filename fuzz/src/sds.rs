//! One stream of secrets: the shipped names and books (src/envoy/sds), beside a model of them that is as simple as can be.

#[path = "../../src/envoy/sds/ledger.rs"]
mod ledger;
#[path = "../../src/envoy/sds/name.rs"]
mod name;

use std::collections::BTreeMap;

use self::ledger::{Fault, Heard, Ledger, Names, Version};
use self::name::Name;
use crate::app::{CrlNumber, Term};
use crate::domain::id::{Digest, Epoch, Seq};

/// Responses without an answer.
const UNANSWERED_MAX: usize = 8;
/// Names that were asked for and do not exist.
const UNKNOWN_MAX: usize = 16;

/// A name that is asked for: the set that was sent last, and what was acknowledged.
#[derive(Default)]
struct Row {
    sent: Option<Version>,
    acked: Option<(Version, Seq)>,
}

/// What must be so.
#[derive(Default)]
struct Model {
    rows: BTreeMap<Name, Row>,
    responses: Vec<Vec<(Name, Version, Seq)>>,
    answered: usize,
}

impl Model {
    /// The consumer answers; false: what was never sent.
    fn answer(&mut self, nonce: &str, is_refused: bool) -> bool {
        let Ok(number) = nonce.parse::<u64>() else { return false };
        let Ok(number) = usize::try_from(number) else { return false };
        if number > self.responses.len() {
            return false;
        }
        if number > self.answered {
            self.answered = number;
            for (name, set, as_of) in &self.responses[number - 1] {
                if let Some(row) = self.rows.get_mut(name).filter(|_| !is_refused) {
                    row.acked = Some((*set, *as_of));
                }
            }
        }
        true
    }

    fn acked(&self) -> Option<Seq> {
        let least = |term| {
            let rows = self.rows.iter().filter(|(name, _)| name.term() == Some(term));
            rows.map(|(_, row)| row.acked.map_or(Seq(0), |(_, seq)| seq)).min()
        };
        least(Term::Leased).or_else(|| least(Term::Unleased))
    }
}

/// The input, taken piece by piece; what is not there any more is zero.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    fn text(&mut self) -> String {
        let len = usize::from(self.byte() % 40).min(self.0.len());
        let (text, rest) = self.0.split_at(len);
        self.0 = rest;
        String::from_utf8_lossy(text).into_owned()
    }

    fn known(&mut self) -> Name {
        let byte = self.byte();
        let term = if byte & 1 == 0 { Term::Leased } else { Term::Unleased };
        if byte & 4 == 0 { Name::Set { term, has_canary: byte & 2 != 0 } } else { Name::Listener }
    }

    fn names(&mut self) -> Vec<String> {
        let count = self.byte() % 18;
        let mut name = || match self.byte() % 8 {
            0..=5 => self.known().to_string(),
            6 => self.text(),
            _ => "x".repeat(usize::from(self.byte())),
        };
        (0..count).map(|_| name()).collect()
    }

    fn answer(&mut self) -> Option<(String, Option<String>)> {
        match self.byte() % 4 {
            0 => None,
            1 => Some((self.byte().to_string(), None)),
            2 => Some((self.byte().to_string(), Some(self.text()))),
            _ => Some((self.text(), None)),
        }
    }
}

/// Reads the name of a secret: a name has one spelling, and nothing but it is that name.
pub fn read_name(text: &str) {
    let Ok(name) = text.parse::<Name>() else { return };
    assert_eq!(name.to_string(), text);
    assert_eq!(name.term().is_none(), name == Name::Listener);
}

/// Plays a stream: the first byte says whether there are canaries, and each that follows what happens next.
pub fn play(data: &[u8]) {
    let mut input = Input(data);
    let has_canaries = input.byte() & 1 == 1;
    let (mut ledger, mut model) = (Ledger::default(), Model::default());
    let (mut number, mut as_of) = (1, Seq(1));
    while !input.0.is_empty() {
        match input.byte() % 4 {
            0 => {
                let heard = Heard { names: Names::All(input.names()), answer: input.answer() };
                if hear(&mut ledger, &mut model, heard, has_canaries).is_err() {
                    return;
                }
            }
            1 => {
                let names = Names::Change(input.names(), input.names());
                let heard = Heard { names, answer: input.answer() };
                if hear(&mut ledger, &mut model, heard, has_canaries).is_err() {
                    return;
                }
            }
            2 => {
                number += u64::from(input.byte() & 1);
                as_of = Seq(as_of.0 + u64::from(input.byte()));
                send(&mut ledger, &mut model, (number, as_of));
            }
            _ => {
                let name = input.known();
                let sent = version(name, number);
                ledger.confirm(name, sent, as_of);
                let acked = model.rows.get_mut(&name).and_then(|row| row.acked.as_mut());
                if let Some((_, seq)) = acked.filter(|(acked, _)| *acked == sent) {
                    *seq = as_of.max(*seq);
                }
            }
        }
        assert!(ledger.names().eq(model.rows.keys().copied()), "other names");
        assert_eq!(ledger.acked(), model.acked());
        assert_eq!(ledger.has_room(), model.responses.len() - model.answered < UNANSWERED_MAX);
        if input.0.first().is_some_and(|byte| byte & 1 == 1) {
            assert!(ledger.take_unknown().len() <= UNKNOWN_MAX);
        }
    }
}

fn version(name: Name, number: u64) -> Version {
    match name {
        Name::Set { .. } => Version::Set(CrlNumber::new(Epoch(1), number, Seq(1)).expect("a small epoch")),
        Name::Listener => Version::Chain(Digest::of(&number.to_be_bytes())),
    }
}

fn hear(ledger: &mut Ledger, model: &mut Model, heard: Heard, has_canaries: bool) -> Result<(), Fault> {
    let exists = |name: Name| !matches!(name, Name::Set { has_canary: true, .. }) || has_canaries;
    let read =
        |names: &[String]| -> Vec<Name> { names.iter().filter_map(|name| name.parse().ok()).collect() };
    let (more, less) = match &heard.names {
        Names::All(names) => {
            let asked = read(names);
            let less = model.rows.keys().filter(|name| !asked.contains(name)).copied().collect();
            (asked, less)
        }
        Names::Change(more, less) => (read(more), read(less)),
    };
    let answer = heard.answer.clone();
    let refused = ledger.hear(heard, exists)?;
    if let Some((nonce, why)) = answer {
        assert!(model.answer(&nonce, why.is_some()), "an answer to nothing was taken");
        assert!(refused.is_none() || refused.map(|refusal| refusal.why) == why);
    }
    for name in more.into_iter().filter(|name| exists(*name)) {
        model.rows.entry(name).or_default();
    }
    for name in less {
        let row = model.rows.remove(&name);
        let is_held = row.is_some_and(|row| row.sent.is_some()) && name.term() == Some(Term::Leased);
        assert!(!is_held, "a leased set that was sent is let go of");
    }
    Ok(())
}

/// As the service does: what is due, when there is room.
fn send(ledger: &mut Ledger, model: &mut Model, (number, as_of): (u64, Seq)) {
    let due: Vec<_> = ledger.names().filter(|name| ledger.is_due(*name, version(*name, number))).collect();
    if due.is_empty() || !ledger.has_room() {
        return;
    }
    let secrets: Vec<_> = due.iter().map(|name| (*name, version(*name, number), as_of)).collect();
    let nonce = ledger.send(secrets.clone());
    model.responses.push(secrets);
    assert_eq!(nonce, model.responses.len().to_string());
    for name in due {
        let sent = version(name, number);
        model.rows.get_mut(&name).expect("a name that is asked for").sent = Some(sent);
        assert!(!ledger.is_due(name, sent) && ledger.last(name).0 == Some(sent));
    }
}
