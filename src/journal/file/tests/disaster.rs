//! Power cuts, failed writes and failed syncs: nothing acknowledged is lost, and every open succeeds.

use super::*;

/// Rounds of the power-cut loops: each seed dies at another place; a hundred take about a second.
const ROUNDS: u64 = 100;

/// After a crash, the acknowledged records are there, and at most the one batch that was under way besides.
fn recovers(disk: &FaultDisk, acknowledged: u64, seed: u64) {
    let (journal, _) = open(disk).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    let found = journal.head().seq.0;
    assert!((acknowledged..=acknowledged + 1).contains(&found), "seed {seed}: {acknowledged} {found}");
    holds_bodies(&journal, found);
    fill(&journal, 30);
    drop(journal);
    disk.cut_power(seed + 1000);
    let (journal, report) = open(disk).unwrap();
    assert_eq!(report.dropped, None, "seed {seed}");
    holds_bodies(&journal, found + 30);
    let report = verify::verify_on(disk, dir(), None).unwrap();
    assert_eq!(report.records, found + 30);
}

/// Appends until the disk fails; returns how many were acknowledged.
fn run(journal: &FileJournal) -> u64 {
    loop {
        let next = journal.head().seq.next();
        match push(journal, next.0, &body(next.0)) {
            Outcome::Done(_) => {}
            Outcome::Unknown(_) | Outcome::Refused(Refusal::Closed { .. }) => return next.0 - 1,
            Outcome::Refused(refusal) => panic!("{refusal}"),
        }
    }
}

#[test]
fn power_cut_at_any_moment_loses_nothing_acknowledged() {
    for seed in 0..ROUNDS {
        let disk = FaultDisk::default();
        let journal = create(&disk);
        disk.halt(u32::try_from(seed * 7 % 397).unwrap());
        let acknowledged = run(&journal);
        drop(journal);
        disk.cut_power(seed);
        recovers(&disk, acknowledged, seed);
    }
}

#[test]
fn power_cut_while_opening_after_a_power_cut_loses_nothing() {
    for seed in 0..ROUNDS {
        let disk = FaultDisk::default();
        let journal = create(&disk);
        disk.halt(u32::try_from(50 + seed).unwrap());
        let acknowledged = run(&journal);
        drop(journal);
        disk.cut_power(seed);
        disk.halt(u32::try_from(seed % 9).unwrap());
        drop(open(&disk));
        disk.cut_power(seed + 500);
        recovers(&disk, acknowledged, seed);
    }
}

#[test]
fn power_cut_while_creating_leaves_a_journal_or_none() {
    for seed in 0..40 {
        let disk = FaultDisk::default();
        disk.halt(u32::try_from(seed).unwrap());
        drop(FileJournal::create_on(Arc::new(disk.clone()), dir(), Epoch(1), &small()));
        disk.cut_power(seed);
        match open(&disk) {
            Ok((journal, _)) => assert_eq!(journal.head().seq, Seq(0)),
            Err(JournalError::Missing { .. }) => fill(&create(&disk), 3),
            Err(error) => panic!("{seed}: {error}"),
        }
    }
}

#[test]
fn failed_write_closes_the_journal_and_is_not_retried() {
    let disk = FaultDisk::default();
    let journal = create(&disk);
    fill(&journal, 2);
    disk.fail_write(0);
    assert!(matches!(push(&journal, 3, &body(3)), Outcome::Unknown(_)));
    let before = disk.counts();
    assert!(matches!(push(&journal, 3, &body(3)), Outcome::Refused(Refusal::Closed { .. })));
    assert!(matches!(journal.condition(), Condition::Closed(_)));
    assert_eq!((disk.counts(), journal.head().seq), (before, Seq(2)));
    holds_bodies(&journal, 2);
    drop(journal);
    let (journal, report) = open(&disk).unwrap();
    assert_eq!((journal.head().seq, report.dropped.unwrap().seq), (Seq(2), Seq(3)));
    fill(&journal, 1);
}

#[test]
fn failed_sync_closes_the_journal_and_the_reopened_tail_is_durable() {
    for seed in 0..20 {
        let disk = FaultDisk::default();
        let journal = create(&disk);
        fill(&journal, 2);
        disk.fail_sync(0);
        assert!(matches!(push(&journal, 3, &body(3)), Outcome::Unknown(_)));
        assert!(matches!(push(&journal, 3, &body(3)), Outcome::Refused(Refusal::Closed { .. })));
        drop(journal);
        // The pages look clean but are not on the disk; what this open accepts must be there from now on.
        let (journal, _) = open(&disk).unwrap();
        assert_eq!(journal.head().seq, Seq(2));
        fill(&journal, seed % 2);
        let found = 2 + seed % 2;
        drop(journal);
        disk.cut_power(seed);
        let (journal, report) = open(&disk).unwrap();
        assert_eq!((journal.head().seq.0, report.dropped), (found, None));
        holds_bodies(&journal, found);
    }
}

#[test]
fn failure_while_a_segment_begins_is_a_certain_refusal() {
    for (writes, syncs) in [(Some(1), None), (None, Some(0)), (None, Some(1))] {
        let disk = FaultDisk::default();
        let journal = create(&disk);
        while journal.writer().tail.offset + 900 < small().segment_len {
            fill(&journal, 1);
        }
        let acknowledged = journal.head().seq.0;
        writes.into_iter().for_each(|after| disk.fail_write(after));
        syncs.into_iter().for_each(|after| disk.fail_sync(after));
        let large = batch(1, &[&[1; 5000]]);
        let outcome = journal.append(Seq(acknowledged + 1), &large);
        assert!(matches!(outcome, Outcome::Refused(Refusal::Closed { .. })), "{outcome:?}");
        drop(journal);
        let (journal, _) = open(&disk).unwrap();
        assert_eq!(journal.head().seq.0, acknowledged);
        fill(&journal, 20);
        drop(journal);
        disk.cut_power(5);
        holds_bodies(&open(&disk).unwrap().0, acknowledged + 20);
    }
}
