use super::*;

#[test]
fn a_copy_has_the_same_tree_and_goes_on_in_another_epoch() {
    let (disk, copied) = (FaultDisk::default(), FaultDisk::default());
    let journal = create(&disk);
    fill(&journal, 30);
    let mut records = journal.read(Seq(1), 30).unwrap();
    // A body that was purged is purged in the copy as well.
    records[4].body = None;
    let copy = create(&copied);
    assert_eq!(copy.take_over(&records[..7]).unwrap().seq, Seq(7));
    assert_eq!(copy.take_over(&records[7..]).unwrap(), journal.head());
    drop(copy);
    let (copy, report) = open(&copied).unwrap();
    assert_eq!((report.head, report.dropped), (journal.head(), None));
    assert_eq!(copy.read(Seq(1), 30).unwrap(), records);
    copy.begin_epoch(Epoch(2));
    copy.begin_epoch(Epoch(1));
    assert_eq!(push(&copy, 31, b"new"), Outcome::Done(Seq(31)));
    assert_eq!(copy.head().epoch, Epoch(2));
    drop(copy);
    assert_eq!(open(&copied).unwrap().1.head.epoch, Epoch(2));
}

#[test]
fn what_does_not_follow_is_not_taken_over() {
    let disk = FaultDisk::default();
    let journal = create(&disk);
    fill(&journal, 3);
    let records = journal.read(Seq(1), 3).unwrap();
    let copy = create(&FaultDisk::default());
    let unfit = |records: &[Record]| matches!(copy.take_over(records), Err(JournalError::Unfit { .. }));
    assert!(unfit(&records[1..]), "a gap");
    let mut changed = records.clone();
    changed[0].body.as_mut().unwrap()[0] ^= 1;
    assert!(unfit(&changed), "another body");
    let mut back = records.clone();
    back[1].header.epoch = Epoch(0);
    assert!(unfit(&back), "an epoch that goes back");
    assert_eq!(copy.head().seq, Seq(0), "nothing of them is kept");
    copy.take_over(&records).unwrap();
    assert!(unfit(&records), "the same again");
}
