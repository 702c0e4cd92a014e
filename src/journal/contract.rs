//! What every journal promises, as one suite that each adapter runs.
use super::merkle::{self, Frontier};
use super::*;

/// An adapter under test.
pub(super) trait Subject {
    fn journal(&self) -> &dyn Journal;
    /// The process ends and another one opens the journal.
    fn reopen(self: Box<Self>) -> Box<dyn Subject>;
}

pub(super) const WRITER: BootId = BootId::from_bytes([7; 16]);

pub(super) fn batch(nonce: u64, bodies: &[&[u8]]) -> Batch {
    let draft = |body: &&[u8]| Draft { kind: 3, body: body.to_vec() };
    let drafts = bodies.iter().map(draft).collect();
    Batch { writer: WRITER, nonce, time: Timestamp::from_millis(1000), drafts, restricting: false }
}

/// Appends a batch of one body at the head.
pub(super) fn push(journal: &dyn Journal, nonce: u64, body: &[u8]) -> Outcome {
    journal.append(journal.head().seq.next(), &batch(nonce, &[body]))
}

/// Every promise of the port.
pub(super) fn holds(make: &dyn Fn() -> Box<dyn Subject>) {
    empty_journal_has_the_empty_root(make());
    batch_becomes_dense_records_and_survives(make());
    writer_at_the_wrong_place_is_told_where_the_head_is(make());
    batches_over_a_bound_are_refused(make());
    reads_are_bounded_and_continue(make());
    largest_bodies_survive(make());
    appends_wake_those_who_watch(make());
}

fn empty_journal_has_the_empty_root(subject: Box<dyn Subject>) {
    let check = |subject: &dyn Subject| {
        let head = subject.journal().head();
        assert_eq!((head.epoch, head.seq, head.root), (Epoch(1), Seq(0), Digest::of(b"")));
        assert_eq!(subject.journal().read(Seq(0), 10).unwrap(), []);
        assert!(matches!(subject.journal().condition(), Condition::Open(space) if !space.is_low()));
    };
    check(subject.as_ref());
    check(subject.reopen().as_ref());
}

fn batch_becomes_dense_records_and_survives(mut subject: Box<dyn Subject>) {
    let first = batch(1, &[b"a", b"", b"ccc"]);
    let second = Batch { time: Timestamp::from_millis(2000), ..batch(2, &[b"d"]) };
    assert_eq!(subject.journal().append(Seq(1), &first), Outcome::Done(Seq(3)));
    assert_eq!(subject.journal().append(Seq(4), &second), Outcome::Done(Seq(4)));
    for _ in 0..3 {
        let records = subject.journal().read(Seq(1), 10).unwrap();
        let mut frontier = Frontier::default();
        for (index, record) in records.iter().enumerate() {
            let header = &record.header;
            assert_eq!((header.seq, header.epoch, header.kind), (Seq(index as u64 + 1), Epoch(1), 3));
            assert_eq!((header.writer, header.nonce), (WRITER, if index < 3 { 1 } else { 2 }));
            assert_eq!(header.body, Digest::of(record.body.as_ref().unwrap()));
            frontier.push(merkle::leaf_hash(&header.encode()));
        }
        let bodies: Vec<_> = records.iter().map(|record| record.body.clone().unwrap()).collect();
        assert_eq!(bodies, [b"a".as_slice(), b"", b"ccc", b"d"]);
        let (seq, root, time) = (Seq(4), frontier.root(), Timestamp::from_millis(2000));
        assert_eq!(subject.journal().head(), Head { epoch: Epoch(1), seq, root, time });
        subject = subject.reopen();
    }
    assert_eq!(push(subject.journal(), 3, b"e"), Outcome::Done(Seq(5)));
}

fn writer_at_the_wrong_place_is_told_where_the_head_is(subject: Box<dyn Subject>) {
    let journal = subject.journal();
    assert_eq!(push(journal, 1, b"a"), Outcome::Done(Seq(1)));
    let head = journal.head();
    for wrong in [0, 1, 3, u64::MAX] {
        assert_eq!(journal.append(Seq(wrong), &batch(2, &[b"b"])), Outcome::Refused(Refusal::Moved(head)));
    }
    assert_eq!(journal.head(), head);
}

fn batches_over_a_bound_are_refused(subject: Box<dyn Subject>) {
    let large = vec![0; BODY_LEN_MAX + 1];
    let half = vec![0; BODY_LEN_MAX];
    let refused = [
        batch(1, &[]),
        batch(1, &[&large]),
        batch(1, &[b"".as_slice(); BATCH_RECORDS_MAX + 1]),
        batch(1, &[half.as_slice(); 9]),
    ];
    for batch in refused {
        let outcome = subject.journal().append(Seq(1), &batch);
        assert!(matches!(outcome, Outcome::Refused(Refusal::Invalid { .. })), "{outcome:?}");
    }
    assert_eq!(subject.journal().head().seq, Seq(0));
}

fn reads_are_bounded_and_continue(subject: Box<dyn Subject>) {
    let journal = subject.journal();
    let bodies: Vec<Vec<u8>> = (0..100_u8).map(|i| vec![i; 100]).collect();
    for (nonce, chunk) in bodies.chunks(7).enumerate() {
        let chunk: Vec<&[u8]> = chunk.iter().map(Vec::as_slice).collect();
        let outcome = journal.append(journal.head().seq.next(), &batch(nonce as u64, &chunk));
        assert!(matches!(outcome, Outcome::Done(_)));
    }
    for from in 0..=102 {
        for limit in [0, 1, 5, 50, usize::MAX] {
            let read = journal.read(Seq(from), limit).unwrap();
            let first = usize::try_from(from.max(1)).unwrap() - 1;
            let expected = bodies.get(first..).unwrap_or_default();
            let expected = &expected[..expected.len().min(limit)];
            assert!(read.iter().map(|record| record.body.as_ref().unwrap()).eq(expected), "{from} {limit}");
        }
    }
}

fn largest_bodies_survive(subject: Box<dyn Subject>) {
    let body = vec![0xab; BODY_LEN_MAX];
    let outcome = subject.journal().append(Seq(1), &batch(1, &[body.as_slice(); 8]));
    assert_eq!(outcome, Outcome::Done(Seq(8)));
    assert_eq!(push(subject.journal(), 2, b"next"), Outcome::Done(Seq(9)));
    let subject = subject.reopen();
    assert_eq!(subject.journal().read(Seq(8), 1).unwrap()[0].body.as_ref(), Some(&body));
    assert_eq!(subject.journal().read(Seq(9), 1).unwrap()[0].body.as_deref(), Some(b"next".as_slice()));
}

fn appends_wake_those_who_watch(subject: Box<dyn Subject>) {
    let watch = subject.journal().watch();
    assert!(!watch.has_changed().unwrap());
    assert_eq!(push(subject.journal(), 1, b"a"), Outcome::Done(Seq(1)));
    assert!(watch.has_changed().unwrap());
    assert_eq!(*watch.borrow(), subject.journal().head());
}

mod memory {
    use super::*;
    use crate::journal::memory::{Fault, MemoryJournal};

    impl Subject for MemoryJournal {
        fn journal(&self) -> &dyn Journal {
            self
        }
        fn reopen(self: Box<Self>) -> Box<dyn Subject> {
            Box::new(MemoryJournal::reopen(&self))
        }
    }

    #[test]
    fn memory_journal_keeps_the_contract() {
        holds(&|| Box::new(MemoryJournal::new(Epoch(1))));
    }

    #[test]
    fn unknown_batch_shows_after_reopening_or_never() {
        for (fault, stored) in [(Fault::UnknownStored, 1), (Fault::UnknownLost, 0)] {
            let journal = MemoryJournal::new(Epoch(1));
            journal.set_fault(fault);
            assert!(matches!(push(&journal, 1, b"a"), Outcome::Unknown(_)));
            assert_eq!((journal.head().seq, journal.read(Seq(1), 9).unwrap().len()), (Seq(0), 0));
            let again = journal.append(Seq(1), &batch(1, &[b"a"]));
            assert!(matches!(again, Outcome::Refused(Refusal::Closed { .. })));
            assert_eq!(journal.reopen().head().seq, Seq(stored));
        }
    }

    #[test]
    fn low_disk_takes_only_what_restricts() {
        let journal = MemoryJournal::new(Epoch(1));
        journal.set_fault(Fault::LowWater);
        let stop = Batch { restricting: true, ..batch(1, &[b"stop"]) };
        assert!(matches!(push(&journal, 1, b"a"), Outcome::Refused(Refusal::NoSpace(_))));
        assert_eq!(journal.append(Seq(1), &stop), Outcome::Done(Seq(1)));
        journal.set_fault(Fault::Full);
        assert!(matches!(journal.append(Seq(2), &stop), Outcome::Refused(Refusal::NoSpace(_))));
    }
}
