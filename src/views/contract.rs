//! What every certificate index promises, as one suite that each adapter runs.

use std::collections::BTreeMap;
use std::convert::Infallible;

use super::*;
use crate::domain::certificate::{AccessFacts, EntityFacts, Facts, LineageStep, PrincipalKind, SystemFacts};
use crate::domain::entity::EntityClass;
use crate::domain::event::{Cause, Event, Intent};
use crate::domain::id::{Digest, LineageId, TokenId};
use crate::domain::time::Timestamp;

/// An adapter under test.
pub(super) trait Subject {
    fn index(&self) -> &dyn CertificateIndex;
    /// The process ends and another one opens the index, for a journal with this head.
    fn reopen(self: Box<Self>, head: Seq) -> Box<dyn Subject>;
}

/// A journal, and the rows that it comes to, worked out beside the fold.
pub(super) struct History {
    pub(super) entries: Vec<(Seq, Entry)>,
    pub(super) rows: BTreeMap<(AuthorityKind, Ordinal), CertificateRow>,
}

static NEVER: AtomicBool = AtomicBool::new(false);

impl History {
    /// A history with this many certificates: every fifth of the system authority, every seventh never issued, and
    /// each intent two records before its issuance, with the next intent and something else between them.
    pub(super) fn of(certificates: u64) -> Self {
        let mut history = Self { entries: Vec::new(), rows: BTreeMap::new() };
        history.push(Event::CeilingAnnounced(Ordinal(10_000)));
        let mut waiting: Option<(AuthorityKind, Ordinal)> = None;
        for number in 1..=certificates {
            let key = history.intend(number);
            history.push(Event::InstantPassed(Timestamp::from_millis(5)));
            if let Some(key) = waiting.replace(key) {
                history.issue(key);
            }
        }
        history
    }

    pub(super) fn head(&self) -> Seq {
        Seq(self.entries.len() as u64)
    }

    fn push(&mut self, event: Event) -> Seq {
        let seq = self.head().next();
        self.entries.push((seq, Entry { event, by: None, request: None }));
        seq
    }

    fn intend(&mut self, number: u64) -> (AuthorityKind, Ordinal) {
        let intent = intent(number);
        let key = (intent.authority, intent.ordinal);
        let (access, principal) = match intent.facts.clone() {
            Facts::Access(facts) => (Some(facts), None),
            Facts::System(facts) => (None, Some(facts.principal)),
            Facts::Canary(facts) => (None, Some(facts.gateway)),
        };
        let access = access.as_ref();
        let (authority, ordinal) = key;
        let Intent { serial, key: public, not_before, not_after, .. } = intent;
        let intended = self.push(Event::IssuanceIntended(Box::new(intent)));
        let row = CertificateRow {
            authority,
            ordinal,
            serial,
            hash: None,
            key: public,
            entity: access.map(|facts| facts.entity.entity),
            subject: access.map(|facts| facts.subject),
            principal,
            step: access.map(|facts| facts.step),
            not_before,
            not_after,
            intended,
            issued: None,
            determination: access.and_then(|facts| facts.entity.determination.clone()),
            annex_revision: access.and_then(|facts| facts.entity.annex_revision),
            issuer: None,
        };
        self.rows.insert(key, row);
        key
    }

    fn issue(&mut self, key: (AuthorityKind, Ordinal)) {
        let (authority, ordinal) = key;
        if ordinal.0 % 7 == 0 {
            return;
        }
        let hash = Digest::of(self.rows[&key].serial.as_bytes());
        let seq = self.push(Event::CertificateIssued { authority, ordinal, signature: vec![1; 70], hash });
        let row = self.rows.get_mut(&key).unwrap();
        (row.hash, row.issued) = (Some(hash), Some(seq));
    }

    /// What a journal's `read` gives.
    pub(super) fn read(&self, from: Seq, limit: usize) -> Result<Vec<(Seq, Entry)>, Infallible> {
        let from = usize::try_from(from.0).unwrap() - 1;
        Ok(self.entries.iter().skip(from).take(limit).cloned().collect())
    }

    pub(super) fn rebuild(&self, index: &dyn CertificateIndex) -> Ended {
        rebuild(index, |from, limit| self.read(from, limit), self.head(), &NEVER).unwrap()
    }

    /// Every answer is the one that the whole history calls for.
    pub(super) fn holds(&self, index: &dyn CertificateIndex) {
        assert_eq!(index.applied_seq(), self.head());
        for (key, row) in &self.rows {
            let row = Some(row.clone());
            assert_eq!(index.by_ordinal(key.0, key.1).unwrap(), row);
            assert_eq!(index.by_serial(&self.rows[key].serial).unwrap(), row);
        }
        for number in 0..4 {
            let of = self.rows.values().filter(|row| row.entity == Some(entity(number)));
            assert!(index.by_entity(entity(number), None, 2000).unwrap().iter().eq(of.take(LOOKUP_ROWS_MAX)));
        }
        for number in 0..10 {
            let of = self.rows.values().filter(|row| row.subject == Some(subject(number)));
            assert!(
                index.by_subject(subject(number), None, 2000).unwrap().iter().eq(of.take(LOOKUP_ROWS_MAX))
            );
        }
        index.check(&NEVER).unwrap();
    }
}

pub(super) fn entity(number: u64) -> EntityId {
    EntityId::from_bytes([u8::try_from(number).unwrap(); 16])
}

fn subject(number: u64) -> SubjectId {
    SubjectId::from_bytes([u8::try_from(number).unwrap(); 16])
}

fn intent(number: u64) -> Intent {
    let seed = Digest::of(&number.to_be_bytes());
    let (authority, ordinal, facts) = if number.is_multiple_of(5) {
        let facts = SystemFacts {
            kind: PrincipalKind::Gateway,
            principal: format!("gateway-{number}").parse().unwrap(),
        };
        (AuthorityKind::System, Ordinal(number / 5), Facts::System(facts))
    } else {
        let class = EntityClass::AnnexA;
        let facts = AccessFacts {
            subject: subject(number % 9),
            entity: EntityFacts {
                entity: entity(number % 3),
                class,
                annex_revision: Some(3),
                determination: Some("2026-06-26-lift".parse().unwrap()),
            },
            person: None,
            models: vec!["mythos-5".parse().unwrap()],
            step: LineageStep { lineage: LineageId::from_bytes([4; 16]), generation: 1 },
        };
        (AuthorityKind::Access, Ordinal(number), Facts::Access(facts))
    };
    Intent {
        authority,
        ordinal,
        serial: Serial::from_random(*seed.0.first_chunk().unwrap()),
        facts,
        key: seed,
        not_before: Timestamp::from_millis(1000),
        not_after: Timestamp::from_millis(2000),
        cause: Cause::Enroll(TokenId::from_bytes([1; 16])),
        tbs: vec![2; 300],
        issuer: None,
    }
}

/// Every promise of the port.
pub(super) fn holds(make: &dyn Fn() -> Box<dyn Subject>) {
    an_empty_index_answers_nothing(make());
    pages_of_any_size_come_to_the_same(make);
    what_was_applied_is_there_after_a_restart(make());
    only_the_next_records_are_taken(make());
    an_intent_and_its_issuance_may_share_a_page(make());
    contradictions_are_damage_and_change_nothing(make());
    lists_continue_after_an_ordinal(make());
    a_shard_is_all_of_its_ordinals_and_no_other(make());
    a_cleared_index_is_filled_again(make());
    a_rebuild_stops_when_told(make());
    a_rebuild_gives_up_on_a_journal_that_contradicts_itself(make());
    readers_see_whole_batches(make());
}

fn an_empty_index_answers_nothing(subject: Box<dyn Subject>) {
    let check = |index: &dyn CertificateIndex| {
        assert_eq!(index.applied_seq(), Seq(0));
        assert_eq!(index.by_ordinal(AuthorityKind::Access, Ordinal(1)).unwrap(), None);
        assert_eq!(index.by_entity(entity(1), None, 10).unwrap(), []);
        index.apply(&[]).unwrap();
        index.check(&NEVER).unwrap();
    };
    check(subject.index());
    check(subject.reopen(Seq(0)).index());
}

fn pages_of_any_size_come_to_the_same(make: &dyn Fn() -> Box<dyn Subject>) {
    let history = History::of(40);
    for len in [1, 2, 7, 1000] {
        let subject = make();
        history.entries.chunks(len).for_each(|page| subject.index().apply(page).unwrap());
        history.holds(subject.index());
    }
}

fn what_was_applied_is_there_after_a_restart(mut subject: Box<dyn Subject>) {
    let history = History::of(60);
    for part in history.entries.chunks(50) {
        // An index that keeps nothing is filled again; the promise is the same.
        let (first, last) = (part[0].0, part.last().unwrap().0);
        let read = |from, limit| history.read(from, limit);
        rebuild(subject.index(), read, Seq(first.0 - 1), &NEVER).unwrap();
        subject.index().apply(part).unwrap();
        assert_eq!(subject.index().applied_seq(), last);
        subject = subject.reopen(history.head());
    }
    history.rebuild(subject.index());
    history.holds(subject.index());
}

fn only_the_next_records_are_taken(subject: Box<dyn Subject>) {
    let (index, entries) = (subject.index(), History::of(20).entries);
    index.apply(&entries[..10]).unwrap();
    let holed = [&entries[10..12], &entries[13..15]].concat();
    for (page, at) in [(&entries[9..12], (11, 10)), (&entries[11..12], (11, 12)), (&holed, (13, 14))] {
        let error = index.apply(page).unwrap_err();
        assert!(
            matches!(error, ViewError::Gap { expected, found } if (expected.0, found.0) == at),
            "{error}"
        );
    }
    let many: Vec<_> =
        (0..=APPLY_RECORDS_MAX).map(|at| (Seq(at as u64 + 11), entries[0].1.clone())).collect();
    assert!(matches!(index.apply(&many), Err(ViewError::TooMany { .. })));
    assert_eq!(index.applied_seq(), Seq(10));
    index.apply(&entries[10..]).unwrap();
    History::of(20).holds(index);
}

fn an_intent_and_its_issuance_may_share_a_page(subject: Box<dyn Subject>) {
    let mut history = History { entries: Vec::new(), rows: BTreeMap::new() };
    let key = history.intend(1);
    history.issue(key);
    subject.index().apply(&history.entries).unwrap();
    history.holds(subject.index());
}

fn contradictions_are_damage_and_change_nothing(subject: Box<dyn Subject>) {
    let index = subject.index();
    let mut history = History { entries: Vec::new(), rows: BTreeMap::new() };
    let key = history.intend(1);
    history.issue(key);
    index.apply(&history.entries).unwrap();
    let issue = |number| Event::CertificateIssued {
        authority: AuthorityKind::Access,
        ordinal: Ordinal(number),
        signature: vec![1],
        hash: Digest::of(b"x"),
    };
    for event in [issue(1), issue(2), Event::IssuanceIntended(Box::new(intent(1)))] {
        let page = [(Seq(3), Entry { event, by: None, request: None })];
        let error = index.apply(&page).unwrap_err();
        assert!(matches!(error, ViewError::Damaged { .. }), "{error}");
        history.holds(index);
    }
}

fn lists_continue_after_an_ordinal(subject: Box<dyn Subject>) {
    let history = History::of(100);
    history.rebuild(subject.index());
    let (mut found, mut after) = (Vec::new(), None);
    loop {
        let page = subject.index().by_entity(entity(1), after, 4).unwrap();
        assert!(page.len() <= 4);
        let Some(last) = page.last() else { break };
        after = Some(last.ordinal);
        found.extend(page);
    }
    let expected = history.rows.values().filter(|row| row.entity == Some(entity(1)));
    assert!(found.iter().eq(expected) && found.len() > 20);
    assert_eq!(subject.index().by_entity(entity(1), Some(Ordinal(u64::MAX)), 4).unwrap(), []);
    assert_eq!(subject.index().by_entity(entity(1), None, 0).unwrap(), []);
}

fn a_shard_is_all_of_its_ordinals_and_no_other(subject: Box<dyn Subject>) {
    let mut history = History { entries: Vec::new(), rows: BTreeMap::new() };
    // Every fifth is of the system authority, with a fifth of the number.
    for number in [1, 9_999, 10_001, 19_999, 20_001, 49_995, 50_000] {
        let key = history.intend(number);
        history.issue(key);
    }
    history.rebuild(subject.index());
    let (access, system) = (AuthorityKind::Access, AuthorityKind::System);
    for (authority, shard, ordinals) in [
        (access, 0, [1, 9_999].as_slice()),
        (access, 1, &[10_001, 19_999]),
        (access, 2, &[20_001]),
        (access, 3, &[]),
        (access, u64::MAX, &[]),
        (system, 0, &[9_999]),
        (system, 1, &[10_000]),
        (system, 2, &[]),
    ] {
        let rows = subject.index().by_shard(authority, shard).unwrap();
        let expected = ordinals.iter().map(|ordinal| &history.rows[&(authority, Ordinal(*ordinal))]);
        assert!(rows.iter().eq(expected), "{authority} {shard}");
    }
}

fn a_cleared_index_is_filled_again(subject: Box<dyn Subject>) {
    let history = History::of(30);
    for _ in 0..3 {
        history.rebuild(subject.index());
        history.holds(subject.index());
        subject.index().clear().unwrap();
        assert_eq!(subject.index().applied_seq(), Seq(0));
        assert_eq!(subject.index().by_entity(entity(1), None, 10).unwrap(), []);
    }
    let subject = subject.reopen(history.head());
    assert_eq!(subject.index().applied_seq(), Seq(0));
    history.rebuild(subject.index());
    history.holds(subject.index());
}

fn a_rebuild_stops_when_told(subject: Box<dyn Subject>) {
    let (history, stop) = (History::of(600), AtomicBool::new(false));
    let read = |from, limit| {
        assert!(limit <= PAGE_RECORDS);
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        history.read(from, limit)
    };
    assert_eq!(rebuild(subject.index(), read, history.head(), &stop).unwrap(), Ended::Stopped);
    assert_eq!(subject.index().applied_seq(), Seq(PAGE_RECORDS as u64));
    assert_eq!(history.rebuild(subject.index()), Ended::AtHead { cleared: false });
    history.holds(subject.index());
}

fn a_rebuild_gives_up_on_a_journal_that_contradicts_itself(subject: Box<dyn Subject>) {
    let mut history = History::of(10);
    let read = |from, limit| history.read(from, limit);
    let beyond = rebuild(subject.index(), read, history.head().next(), &NEVER).unwrap_err();
    assert!(matches!(beyond, RebuildError::Missing(seq) if seq == history.head().next()), "{beyond}");
    history.push(Event::IssuanceIntended(Box::new(intent(1))));
    let read = |from, limit| history.read(from, limit);
    let error = rebuild(subject.index(), read, history.head(), &NEVER).unwrap_err();
    assert!(matches!(error, RebuildError::View(ViewError::Damaged { .. })), "{error}");
}

fn readers_see_whole_batches(subject: Box<dyn Subject>) {
    let (history, index, done) = (History::of(300), subject.index(), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            history.entries.chunks(5).for_each(|page| index.apply(page).unwrap());
            done.store(true, std::sync::atomic::Ordering::Relaxed);
        });
        while !done.load(std::sync::atomic::Ordering::Relaxed) {
            let applied = index.applied_seq();
            let rows = index.by_entity(entity(1), None, 100).unwrap();
            let expected = history.rows.values().filter(|row| row.entity == Some(entity(1)));
            let expected = expected.take_while(|row| row.intended <= applied).take(100).count();
            assert!(rows.len() >= expected, "{} of {expected} at {applied}", rows.len());
        }
    });
    history.holds(index);
}

struct InMemory(MemoryIndex);

impl Subject for InMemory {
    fn index(&self) -> &dyn CertificateIndex {
        &self.0
    }

    fn reopen(self: Box<Self>, _head: Seq) -> Box<dyn Subject> {
        Box::new(Self(MemoryIndex::new()))
    }
}

#[test]
fn memory_index_keeps_the_contract() {
    holds(&|| Box::new(InMemory(MemoryIndex::new())));
}
