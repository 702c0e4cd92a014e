//! The full disk: ordinary batches are refused, restricting ones go on, and nothing is lost either way.

use super::*;

fn stop(nonce: u64, body: &[u8]) -> Batch {
    Batch { restricting: true, ..batch(nonce, &[body]) }
}

/// Appends ordinary batches until one is refused for space.
fn fill_up(journal: &FileJournal) {
    for _ in 0..1000 {
        let next = journal.head().seq.next();
        match push(journal, next.0, &body(next.0)) {
            Outcome::Done(_) => {}
            Outcome::Refused(Refusal::NoSpace(_)) => return,
            other => panic!("{other:?}"),
        }
    }
    panic!("the disk does not fill up");
}

fn stop_next(journal: &FileJournal) -> Outcome {
    let next = journal.head().seq.next();
    journal.append(next, &stop(next.0, &body(next.0)))
}

#[test]
fn under_the_low_water_mark_only_restricting_batches_go_on() {
    let disk = FaultDisk::default();
    let options = Options { low_water: 64 << 10, ..small() };
    let journal = FileJournal::create_on(Arc::new(disk.clone()), dir(), Epoch(1), &options).unwrap();
    disk.leave_free(Some(60 << 10));
    let refused = push(&journal, 1, &body(1));
    assert!(matches!(refused, Outcome::Refused(Refusal::NoSpace(Space { low_water: 0x10000, .. }))));
    assert!(
        matches!(journal.condition(), Condition::Open(space) if space.is_low() && space.reserve > 1_000_000)
    );
    for seq in 1..=30 {
        assert_eq!(stop_next(&journal), Outcome::Done(Seq(seq)));
    }
    disk.leave_free(None);
    fill(&journal, 1);
    holds_bodies(&journal, 31);
}

#[test]
fn full_disk_takes_restricting_batches_into_the_reserve_and_goes_on_when_there_is_space() {
    let disk = FaultDisk::default();
    let journal = create(&disk);
    fill(&journal, 10);
    disk.leave_free(Some(9000));
    fill_up(&journal);
    disk.leave_free(Some(0));
    let before = journal.head().seq.0;
    for seq in before + 1..=before + 20 {
        assert_eq!(stop_next(&journal), Outcome::Done(Seq(seq)));
        assert!(matches!(push(&journal, 1, &[0; 9000]), Outcome::Refused(Refusal::NoSpace(_))));
    }
    holds_bodies(&journal, before + 20);
    drop(journal);
    disk.cut_power(1);
    let (journal, report) = open(&disk).unwrap();
    assert!(report.in_reserve && report.dropped.is_none(), "{report:?}");
    holds_bodies(&journal, before + 20);
    assert_eq!(stop_next(&journal), Outcome::Done(Seq(before + 21)));
    assert!(matches!(push(&journal, 1, b"x"), Outcome::Refused(Refusal::NoSpace(_))));

    disk.leave_free(None);
    fill(&journal, 20);
    holds_bodies(&journal, before + 41);
    assert!(journal.condition() != Condition::Closed(String::new()));
    assert!(journal.writer().reserve.is_some());
    drop(journal);
    disk.cut_power(2);
    let (journal, report) = open(&disk).unwrap();
    assert!(!report.in_reserve);
    holds_bodies(&journal, before + 41);
}

#[test]
fn full_reserve_refuses_and_the_journal_stays_open() {
    let disk = FaultDisk::default();
    let journal = create(&disk);
    disk.leave_free(Some(0));
    let body = vec![1; 100_000];
    let mut done = 0;
    loop {
        match journal.append(Seq(done + 1), &stop(done, &body)) {
            Outcome::Done(_) => done += 1,
            Outcome::Refused(Refusal::NoSpace(space)) => break assert!(space.reserve < 101_000, "{space:?}"),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(done, 10);
    assert!(matches!(journal.condition(), Condition::Open(_)));
    assert_eq!(journal.append(Seq(11), &stop(11, b"small")), Outcome::Done(Seq(11)));
    disk.leave_free(None);
    assert_eq!(push(&journal, 12, b"ordinary"), Outcome::Done(Seq(12)));
    drop(journal);
    let report = verify::verify_on(&disk, dir(), None).unwrap();
    assert_eq!((report.records, report.torn), (12, None));
}

#[test]
fn power_cut_on_a_full_disk_loses_no_acknowledged_stop() {
    for seed in 0..60 {
        let disk = FaultDisk::default();
        let journal = create(&disk);
        fill(&journal, 10);
        disk.leave_free(Some(5000));
        fill_up(&journal);
        disk.leave_free(Some(0));
        disk.halt(u32::try_from(seed % 30).unwrap());
        let acknowledged = loop {
            match stop_next(&journal) {
                Outcome::Done(_) => {}
                Outcome::Unknown(_) | Outcome::Refused(Refusal::Closed { .. }) => break journal.head().seq.0,
                Outcome::Refused(refusal) => panic!("{refusal}"),
            }
        };
        drop(journal);
        disk.cut_power(seed);
        disk.leave_free(Some(0));
        let (journal, _) = open(&disk).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        let found = journal.head().seq.0;
        assert!((acknowledged..=acknowledged + 1).contains(&found), "seed {seed}");
        assert_eq!(stop_next(&journal), Outcome::Done(Seq(found + 1)), "seed {seed}");
        holds_bodies(&journal, found + 1);
        leaving_the_reserve_survives_a_power_cut(&disk, journal, seed);
    }
}

fn leaving_the_reserve_survives_a_power_cut(disk: &FaultDisk, journal: FileJournal, seed: u64) {
    disk.leave_free(None);
    disk.halt(u32::try_from(seed % 12).unwrap());
    let before = journal.head().seq.0;
    let outcome = push(&journal, before + 1, &body(before + 1));
    let acknowledged = journal.head().seq.0;
    drop((journal, outcome));
    disk.cut_power(seed + 100);
    let (journal, _) = open(disk).unwrap();
    let found = journal.head().seq.0;
    assert!((acknowledged..=before + 1).contains(&found));
    fill(&journal, 40);
    holds_bodies(&journal, found + 40);
    assert!(journal.writer().reserve.is_some());
}

#[test]
fn bits_flipped_in_a_used_reserve_are_noticed() {
    let disk = FaultDisk::default();
    let journal = create(&disk);
    disk.leave_free(Some(0));
    while !journal.writer().tail.in_reserve {
        assert!(matches!(stop_next(&journal), Outcome::Done(_)));
    }
    for _ in 0..3 {
        assert!(matches!(stop_next(&journal), Outcome::Done(_)));
    }
    let (head, end) = (journal.head(), usize::try_from(journal.writer().tail.offset).unwrap());
    drop(journal);
    let path = dir().join(RESERVE);
    let bytes = disk.contents(&path);
    let entropy = SeededEntropy::new(4);
    for _ in 0..300 {
        let at = usize::from_be_bytes(entropy.bytes16()[..8].try_into().unwrap()) % end;
        let mut flipped = bytes.clone();
        flipped[at] ^= 4;
        disk.plant(&path, &flipped);
        let accepted = open(&disk)
            .is_ok_and(|(journal, report)| journal.head().seq >= head.seq || report.dropped.is_none());
        assert!(!accepted, "{at}");
        disk.plant(&path, &bytes);
    }
}
