use std::path::PathBuf;

use super::*;
use crate::domain::decided::{Decided, DecidedBatch, Keep};
use crate::domain::decision::Denial;
use crate::domain::id::Digest;
use crate::segments::Frames;
use crate::segments::sealed::PART_LEN;

const AGE_MS: u64 = 3_600_000;
const EVER: Keep = Keep { age_ms: i64::MAX / 4, len: None };

fn at(ms: u64) -> Timestamp {
    Timestamp::from_millis(1_782_500_000_000 + i64::try_from(ms).unwrap())
}

fn id(n: u64) -> DecisionId {
    DecisionId::from_bytes(Digest::of(&n.to_be_bytes()).0[..16].try_into().unwrap())
}

fn line(n: u64) -> Decided {
    Decided {
        is_permit: true,
        code: "EXEMPT_ANNEX_A_FN_EMPLOYEE".to_owned(),
        ..Decided::unrecorded(id(n), at(n), 1)
    }
}

fn open(unwritten_max: usize) -> (tempfile::TempDir, PathBuf, DecisionRecord) {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("decided");
    let record = DecisionRecord::with_room(&dir, unwritten_max);
    (parent, dir, record)
}

/// The file of a segment, whatever its name says beside its number.
fn segment(dir: &std::path::Path, number: u64) -> PathBuf {
    let files = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let begins = format!("{number:020}.");
    let is_it = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().starts_with(&begins);
    files.into_iter().find(is_it).expect("the segment is there")
}

fn fill(record: &DecisionRecord, numbers: std::ops::Range<u64>) {
    numbers.for_each(|n| record.try_reserve(1).expect("there is room").fill(line(n)));
}

#[track_caller]
fn write(record: &DecisionRecord, ms: u64) -> Written {
    let written = record.write((at(ms), ms), true, id(u64::MAX));
    assert!(written.fault.is_none(), "{:?}", written.fault);
    written
}

fn all(record: &DecisionRecord) -> Vec<Decided> {
    let (mut lines, mut next) = (Vec::new(), Some(Cursor::default()));
    while let Some(from) = next {
        let (page, more) = record.page((from, None), 700, &|_| true).unwrap();
        lines.extend(page);
        next = more;
    }
    lines
}

#[test]
fn what_was_written_is_there_after_a_crash_and_what_was_not_is_lost() {
    let (_parent, dir, record) = open(10_000);
    fill(&record, 0..1_200);
    assert_eq!((write(&record, 1).lines, record.unwritten()), (1_200, 0));
    fill(&record, 1_200..1_300);
    assert_eq!(record.unwritten(), 100, "these are the window");
    // The process ends without a word.
    drop(record);
    let again = DecisionRecord::open(&dir);
    assert_eq!(all(&again), (0..1_200).map(line).collect::<Vec<_>>());
    fill(&again, 1_300..1_301);
    write(&again, 2);
    assert_eq!(all(&again).last(), Some(&line(1_300)));
}

#[test]
fn a_torn_batch_is_cut_off() {
    let (_parent, dir, record) = open(100);
    fill(&record, 0..10);
    write(&record, 1);
    drop(record);
    let path = segment(&dir, 1);
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, [&whole[..], &whole[..whole.len() / 2]].concat()).unwrap();
    let again = DecisionRecord::open(&dir);
    assert_eq!(std::fs::read(segment(&dir, 1)).unwrap(), whole);
    assert_eq!(all(&again).len(), 10);
}

#[tokio::test]
async fn without_room_an_answer_waits_and_then_nothing_may_be_permitted() {
    let (_parent, _, record) = open(3);
    let places = [record.reserve().await.unwrap(), record.reserve().await.unwrap()];
    record.reserve().await.unwrap().fill(line(0));
    assert!(record.reserve().await.is_none());
    assert!(record.try_reserve(1).is_none());
    record.refuse();
    record.refuse();
    // A place that is given back, and a line that is on disk, are room.
    drop(places);
    assert_eq!(record.unwritten(), 1);
    assert!(record.try_reserve(3).is_none() && record.try_reserve(2).is_some());
    write(&record, 1);
    let lines = all(&record);
    assert_eq!((lines.len(), record.unwritten()), (2, 0));
    assert_eq!(
        (lines[1].count, lines[1].is_permit, lines[1].code.as_str()),
        (2, false, Denial::StateUnavailable.as_str()),
        "denials without room are counted"
    );
}

#[tokio::test]
async fn who_waits_for_room_gets_it_when_there_is_some() {
    let (_parent, _, record) = open(1);
    record.reserve().await.unwrap().fill(line(0));
    let (place, written) = tokio::join!(record.reserve(), async { write(&record, 1).lines });
    assert!(place.is_some());
    assert_eq!(written, 1);
}

#[test]
fn what_cannot_be_written_stays_in_order_and_is_written_later() {
    let (parent, dir, record) = open(10_000);
    fill(&record, 0..600);
    let nothing = record.write((at(1), 1), false, id(0));
    assert_eq!((nothing.lines, record.unwritten()), (0, 600), "the disk is nearly full");
    // A file stands where the folder should.
    std::fs::write(&dir, "").unwrap();
    let failed = record.write((at(2), 2), true, id(0));
    assert!(failed.fault.is_some() && failed.lines == 0);
    assert_eq!(record.unwritten(), 600, "nothing of it is lost");
    std::fs::remove_file(&dir).unwrap();
    fill(&record, 600..700);
    assert_eq!(write(&record, 3).lines, 700);
    assert_eq!(all(&record), (0..700).map(line).collect::<Vec<_>>());
    drop(parent);
}

#[test]
fn a_segment_is_sealed_when_it_is_old_enough_and_once_more_after_a_start() {
    let (_parent, dir, record) = open(10_000);
    fill(&record, 0..10);
    assert!(write(&record, 5).sealed.is_empty());
    let sealed = write(&record, 5 + AGE_MS).sealed;
    assert_eq!(sealed.len(), 1);
    assert_eq!((sealed[0].number, sealed[0].batches), (1, 1));
    fill(&record, 10..20);
    write(&record, 6 + AGE_MS);
    assert_eq!(all(&record).len(), 20);
    drop(record);
    // The run may have ended before the journal knew; and what it left is complete.
    let again = write(&DecisionRecord::open(&dir), 7).sealed;
    assert_eq!((again.len(), &again[0], again[1].number), (2, &sealed[0], 2));
    // A start that finds nothing new says the last one again, and no more.
    assert_eq!(write(&DecisionRecord::open(&dir), 8).sealed, again[1..]);
}

/// A record with two complete segments of which the first has several parts.
fn sealed_twice() -> (tempfile::TempDir, PathBuf, Vec<SealedDecisions>) {
    let (parent, dir, record) = open(100_000);
    fill(&record, 0..30_000);
    let mut seals = write(&record, 1).sealed;
    seals.extend(write(&record, 1 + AGE_MS).sealed);
    fill(&record, 30_000..30_100);
    seals.extend(write(&record, 2 + AGE_MS).sealed);
    seals.extend(write(&record, 3 + 2 * AGE_MS).sealed);
    assert_eq!(seals.len(), 2);
    assert!(seals[0].parts.len() > 2, "{} bytes", seals[0].len);
    (parent, dir, seals)
}

#[test]
fn what_is_altered_or_taken_out_is_found_where_it_is() {
    let (_parent, dir, seals) = sealed_twice();
    let found = verify(&dir, &seals, 0).unwrap();
    assert_eq!((found.good, found.lines, found.faults.len()), (2, 30_100, 0));
    let path = segment(&dir, 1);
    let whole = std::fs::read(&path).unwrap();
    // One byte of a batch in the second part.
    let mut altered = whole.clone();
    altered[PART_LEN + 100] ^= 1;
    std::fs::write(&path, &altered).unwrap();
    let found = verify(&dir, &seals, 0).unwrap().faults.remove(0);
    assert_eq!((found.segment, found.why), (1, "decisions were altered"));
    assert!(found.line.is_some_and(|line| line < 30_000), "{found:?}");
    // A batch is replaced by one that is whole: only the digest shows it.
    let frames: Vec<_> = Frames::<DecidedBatch>::of(&whole).collect();
    let (end, first) = frames.first().unwrap();
    let mut forged = first.clone().unwrap();
    forged.lines[0].is_permit = false;
    let forged = [crate::segments::encode(&forged).unwrap(), whole[*end..].to_vec()].concat();
    std::fs::write(&path, forged).unwrap();
    let found = verify(&dir, &seals, 0).unwrap().faults;
    assert_eq!((found.len(), found[0].segment, found[0].line), (1, 1, Some(0)));
    // The last batch is cut off.
    let before_last = frames[frames.len() - 2].0;
    std::fs::write(&path, &whole[..before_last]).unwrap();
    let found = verify(&dir, &seals, 0).unwrap().faults.remove(0);
    assert_eq!((found.segment, found.why), (1, "decisions were taken out"));
    // The oldest segment is gone, and the journal does not say so.
    std::fs::remove_file(&path).unwrap();
    let found = verify(&dir, &seals, 0).unwrap().faults.remove(0);
    assert_eq!((found.segment, found.why), (1, "it was taken away"));
    std::fs::write(&path, &whole).unwrap();
    // Under the name of another time nobody would find what is in it.
    let moved = dir.join("00000000000000000001.1.decided");
    std::fs::rename(&path, &moved).unwrap();
    let found = verify(&dir, &seals, 0).unwrap().faults.remove(0);
    assert_eq!((found.segment, found.why), (1, "its name says another time"));
    std::fs::rename(&moved, &path).unwrap();
    let two = SealedDecisions { len: 1, ..seals[0].clone() };
    let found = verify(&dir, &[seals.clone(), vec![two]].concat(), 0).unwrap().faults.remove(0);
    assert_eq!(found.why, "the journal names it with two contents");
}

/// A record with so many complete segments, one for each hour, and one that grows.
fn hourly(segments: u64) -> (tempfile::TempDir, PathBuf, DecisionRecord, Vec<SealedDecisions>) {
    let (parent, dir, record) = open(10_000);
    let mut seals = Vec::new();
    for hour in 0..segments {
        fill(&record, hour * 10..hour * 10 + 10);
        write(&record, hour * AGE_MS);
        seals.extend(write(&record, (hour + 1) * AGE_MS).sealed);
    }
    fill(&record, 1_000..1_001);
    write(&record, segments * AGE_MS);
    assert_eq!(seals.len() as u64, segments);
    (parent, dir, record, seals)
}

#[test]
fn what_is_old_enough_is_removed_and_the_journal_knows() {
    let (_parent, dir, record, seals) = hourly(5);
    let now = at(5 * AGE_MS);
    assert_eq!(record.overdue(&EVER, now, None), None);
    // The first ended an hour after its beginning, four hours ago; an hour later, five.
    let keep = Keep { age_ms: 4 * 3_600_000 - 1, len: None };
    let removed = record.overdue(&keep, now, None).unwrap();
    assert_eq!((removed.first, removed.last, removed.is_early), (1, 1, false));
    assert_eq!((removed.since, removed.until, removed.len), (at(0), at(AGE_MS), seals[0].len));
    let later = record.overdue(&keep, at(7 * AGE_MS), None).unwrap();
    assert_eq!((later.first, later.last, later.until), (1, 3, at(3 * AGE_MS)));
    // Never the last complete one, which a start seals again, nor the one that grows.
    let last = record.overdue(&keep, at(1_000 * AGE_MS), None).unwrap();
    assert_eq!(last.last, 4);
    assert_eq!(all(&record).len(), 51, "nothing is gone before it is recorded");
    record.remove(&later).unwrap();
    assert_eq!(all(&record).first(), Some(&line(30)));
    assert_eq!(record.kept_len(), seals[3].len + seals[4].len);
    let found = verify(&dir, &seals, later.last).unwrap();
    assert_eq!((found.good, found.removed, found.faults.len()), (2, 3, 0));
    let found = verify(&dir, &seals, 2).unwrap().faults;
    assert_eq!((found.len(), found[0].segment, found[0].why), (1, 3, "it was taken away"));
    // After a start the same ones are there.
    drop(record);
    let again = DecisionRecord::open(&dir);
    assert_eq!(all(&again).len(), 21);
    assert_eq!(again.overdue(&keep, at(9 * AGE_MS), None).unwrap().first, 4);
}

#[test]
fn what_there_is_no_room_for_goes_before_its_time_and_what_is_on_hold_never() {
    let (_parent, _, record, seals) = hourly(5);
    let now = at(5 * AGE_MS);
    let room = seals[3].len + seals[4].len;
    let keep = Keep { age_ms: EVER.age_ms, len: Some(room) };
    let removed = record.overdue(&keep, now, None).unwrap();
    assert_eq!((removed.last, removed.is_early), (3, true));
    assert_eq!(record.overdue(&Keep { len: Some(record.kept_len()), ..keep }, now, None), None);
    // From the third hour on all is kept; a gateway's clock may be five minutes ahead, so the second is too.
    let held = record.overdue(&keep, now, Some(at(2 * AGE_MS))).unwrap();
    assert_eq!(held.last, 1);
    assert_eq!(record.overdue(&keep, now, Some(at(0))), None);
}

#[test]
fn a_segment_whose_seal_may_not_be_on_record_stays() {
    let (_parent, dir, record, _) = hourly(3);
    drop(record);
    let again = DecisionRecord::open(&dir);
    let keep = Keep { age_ms: 0, len: Some(0) };
    // The third was complete before, and the fourth is since this start: both are sealed with the next write.
    assert_eq!(again.overdue(&keep, at(9 * AGE_MS), None).unwrap().last, 2);
    assert_eq!(write(&again, 9 * AGE_MS).sealed.len(), 2);
    assert_eq!(again.overdue(&keep, at(9 * AGE_MS), None).unwrap().last, 3);
}

#[test]
fn what_was_decided_lately_is_found_without_reading_what_is_old() {
    let (_parent, dir, record, _) = hourly(20);
    // Who reads an old one would find it damaged: nothing of it is found.
    for number in 1..=15 {
        std::fs::write(segment(&dir, number), "x").unwrap();
    }
    let since = Some(at(17 * AGE_MS));
    let (found, next) = record.page((Cursor::default(), since), 100, &|line| line.at >= at(170)).unwrap();
    assert_eq!((found.len(), next), (31, None));
    let (found, next) = record.page((Cursor::default(), None), 100, &|_| true).unwrap();
    assert_eq!((found.len(), next.map(|at| at.segment)), (0, Some(9)), "a page looks through eight");
}
