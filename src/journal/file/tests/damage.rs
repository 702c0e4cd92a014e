//! Bytes that are not what was written: cut off, flipped, missing, or from another release.

use super::*;

/// Twelve records of one segment; where the last frame begins and ends.
fn written() -> (FaultDisk, Vec<u8>, usize, usize) {
    let disk = FaultDisk::default();
    let journal = create(&disk);
    fill(&journal, 11);
    let before = usize::try_from(journal.writer().tail.offset).unwrap();
    let outcome = journal.append(Seq(12), &batch(12, &[&body(12), b"", b"more"]));
    assert_eq!(outcome, Outcome::Done(Seq(14)));
    let after = usize::try_from(journal.writer().tail.offset).unwrap();
    drop(journal);
    let bytes = disk.contents(&segment_path(1));
    assert!(bytes.len() > after, "the test wants zeros behind the last frame");
    (disk, bytes, before, after)
}

fn is_dropped_whole(disk: &FaultDisk, at: usize) {
    let (journal, report) = open(disk).unwrap();
    let dropped = report.dropped.unwrap();
    assert_eq!((dropped.seq, dropped.offset, journal.head().seq), (Seq(12), at as u64, Seq(11)));
    drop(journal);
    let (journal, report) = open(disk).unwrap();
    assert_eq!(report.dropped, None);
    holds_bodies(&journal, 11);
    fill(&journal, 3);
    drop(journal);
    disk.cut_power(3);
    let (journal, report) = open(disk).unwrap();
    assert_eq!(report.dropped, None);
    holds_bodies(&journal, 14);
}

#[test]
fn last_frame_cut_at_any_byte_disappears_whole() {
    let (disk, bytes, before, after) = written();
    for cut in before + 1..after {
        disk.plant(&segment_path(1), &bytes[..cut]);
        is_dropped_whole(&disk, before);
        let last_written = bytes[before..cut].iter().any(|byte| *byte != 0);
        assert!(last_written);
        let zeroed = [&bytes[..cut], &vec![0; bytes.len() - cut]].concat();
        // Where the frame itself ends in zeros, nothing is missing.
        if zeroed != bytes {
            disk.plant(&segment_path(1), &zeroed);
            is_dropped_whole(&disk, before);
        }
    }
    disk.plant(&segment_path(1), &bytes[..before]);
    let (journal, report) = open(&disk).unwrap();
    assert_eq!((report.dropped, journal.head().seq), (None, Seq(11)));
}

#[test]
fn no_flipped_bit_in_the_last_segment_is_accepted() {
    let (disk, bytes, before, after) = written();
    for at in 0..bytes.len() {
        let mut flipped = bytes.clone();
        flipped[at] ^= 1 << (at % 8);
        disk.plant(&segment_path(1), &flipped);
        match open(&disk) {
            Err(JournalError::Version { .. }) => assert!((8..10).contains(&at)),
            Err(JournalError::Corrupt { segment, offset, seq, .. }) => {
                assert!(at < before, "{at}");
                assert_eq!(segment, segment_name(Seq(1)));
                assert!(offset as usize <= at && seq <= Seq(11), "{at}");
            }
            Err(error) => panic!("{at}: {error}"),
            Ok((journal, report)) => {
                let dropped = report.dropped.unwrap();
                let (seq, offset) = if at < after { (11, before) } else { (14, after) };
                assert!(at >= before && dropped.offset == offset as u64, "{at}");
                assert_eq!(journal.head().seq, Seq(seq), "{at}");
                assert!(bodies(&journal).into_iter().take(11).eq((1..=11).map(body)));
            }
        }
    }
}

#[test]
fn no_flipped_bit_in_an_earlier_segment_is_accepted() {
    let disk = FaultDisk::default();
    let journal = create(&disk);
    fill(&journal, 60);
    drop(journal);
    let bytes = disk.contents(&segment_path(1));
    for at in 0..bytes.len() {
        let mut flipped = bytes.clone();
        flipped[at] ^= 0x80 >> (at % 8);
        disk.plant(&segment_path(1), &flipped);
        match open(&disk) {
            Err(JournalError::Corrupt { segment, .. }) => assert_eq!(segment, segment_name(Seq(1))),
            Err(JournalError::Version { .. }) => assert!((8..10).contains(&at)),
            Err(error) => panic!("{at}: {error}"),
            Ok(_) => panic!("a flipped bit at {at} was accepted"),
        }
    }
}

#[test]
fn read_beside_the_writer_notices_damage() {
    let disk = FaultDisk::default();
    let journal = create(&disk);
    fill(&journal, 60);
    let mut bytes = disk.contents(&segment_path(1));
    let at = SEGMENT_HEADER_LEN + 500;
    bytes[at] ^= 1;
    disk.plant(&segment_path(1), &bytes);
    let Err(JournalError::Corrupt { segment, offset, .. }) = journal.read(Seq(1), 60) else {
        panic!("unnoticed")
    };
    assert_eq!(segment, segment_name(Seq(1)));
    assert!(offset as usize <= at);
}

#[test]
fn missing_and_misnamed_segments_are_noticed() {
    let names = {
        let disk = FaultDisk::default();
        fill(&create(&disk), 100);
        let names = disk.list(dir()).unwrap();
        names.into_iter().filter(|name| name.ends_with(".seg")).collect::<Vec<_>>()
    };
    let (last, others) = names.split_last().unwrap();
    for name in others {
        let disk = FaultDisk::default();
        fill(&create(&disk), 100);
        disk.remove(&dir().join(name)).unwrap();
        assert!(matches!(open(&disk), Err(JournalError::Corrupt { .. })), "{name}");
    }
    let disk = FaultDisk::default();
    fill(&create(&disk), 100);
    disk.rename(&dir().join(last), &segment_path(999)).unwrap();
    assert!(matches!(open(&disk), Err(JournalError::Corrupt { .. })));
    disk.rename(&segment_path(999), &dir().join("1.seg")).unwrap();
    assert!(matches!(open(&disk), Err(JournalError::Corrupt { .. })));
}

#[test]
fn lost_last_segment_is_noticed_by_who_knows_a_later_head() {
    let disk = FaultDisk::default();
    let journal = create(&disk);
    fill(&journal, 100);
    let head = journal.head();
    drop(journal);
    let names = disk.list(dir()).unwrap();
    let last = names.iter().filter(|name| name.ends_with(".seg")).max().unwrap();
    disk.remove(&dir().join(last)).unwrap();
    let vouched = Some(Position { seq: head.seq, root: head.root });
    let opened = FileJournal::open_on(Arc::new(disk.clone()), dir(), (&small(), vouched), &mut |_| {});
    assert!(matches!(opened, Err(JournalError::Lost { .. })));
}

#[test]
fn newer_format_is_refused() {
    let disk = FaultDisk::default();
    drop(create(&disk));
    let mut bytes = disk.contents(&segment_path(1));
    bytes[9] = 2;
    disk.plant(&segment_path(1), &bytes);
    assert!(matches!(open(&disk), Err(JournalError::Version { version: 2, .. })));
}

#[test]
fn frame_inside_a_body_is_not_taken_for_one() {
    let disk = FaultDisk::default();
    let journal = create(&disk);
    fill(&journal, 3);
    // A frame of the same journal but without its salt: the best that a writer of bodies can make.
    let headers = crate::journal::record::headers(&batch(9, &[b"forged"]), Epoch(1), Seq(6));
    let marker = format::marker(&[0; 16], Seq(1));
    let forged = format::encode_frame(marker, &headers, &[Some(b"forged")]);
    let at = usize::try_from(journal.writer().tail.offset).unwrap();
    assert_eq!(push(&journal, 4, &forged), Outcome::Done(Seq(4)));
    drop(journal);
    let mut bytes = disk.contents(&segment_path(1));
    bytes[at] ^= 1;
    disk.plant(&segment_path(1), &bytes);
    let (journal, report) = open(&disk).unwrap();
    assert_eq!((journal.head().seq, report.dropped.unwrap().offset), (Seq(3), at as u64));
    assert!(decode_frame(marker, &forged).is_ok());
}
