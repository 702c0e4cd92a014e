use super::format::{SEGMENT_HEADER_LEN, decode_frame, purge_in_place};
use super::*;
use crate::domain::id::Digest;
use crate::env::{Entropy, SeededEntropy};
use crate::journal::contract::{self, Subject, batch, push};
use crate::journal::fault::FaultDisk;
use crate::journal::{Refusal, Space, merkle};

mod copies;
mod damage;
mod disaster;
mod full;

fn dir() -> &'static Path {
    Path::new("/j")
}

/// Small segments, so that a few records need several.
fn small() -> Options {
    Options { salt: [9; 16], segment_len: 12 << 10, grow_len: 4096, low_water: 0 }
}

fn create(disk: &FaultDisk) -> FileJournal {
    FileJournal::create_on(Arc::new(disk.clone()), dir(), Epoch(1), &small()).unwrap()
}

fn open(disk: &FaultDisk) -> Result<(FileJournal, OpenReport), JournalError> {
    FileJournal::open_on(Arc::new(disk.clone()), dir(), (&small(), None), &mut |_| {})
}

fn segment_path(first: u64) -> PathBuf {
    dir().join(segment_name(Seq(first)))
}

/// The bodies, in order, read in small steps so that every segment is entered anew.
fn bodies(journal: &dyn Journal) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    loop {
        let read = journal.read(Seq(all.len() as u64 + 1), 3).unwrap();
        if read.is_empty() {
            return all;
        }
        all.extend(read.into_iter().map(|record| record.body.unwrap()));
    }
}

/// A body that names its record, so that what is read back can be told apart.
fn body(seq: u64) -> Vec<u8> {
    let len = usize::try_from(seq * 131 % 700).unwrap();
    [seq.to_be_bytes().to_vec(), vec![u8::try_from(seq % 251).unwrap() + 1; len]].concat()
}

fn fill(journal: &FileJournal, count: u64) {
    for _ in 0..count {
        let next = journal.head().seq.next();
        assert_eq!(push(journal, next.0, &body(next.0)), Outcome::Done(next));
    }
}

fn holds_bodies(journal: &FileJournal, count: u64) {
    assert!(bodies(journal).into_iter().eq((1..=count).map(body)));
}

struct OnFaultDisk(FaultDisk, FileJournal);

impl Subject for OnFaultDisk {
    fn journal(&self) -> &dyn Journal {
        &self.1
    }
    fn reopen(self: Box<Self>) -> Box<dyn Subject> {
        drop(self.1);
        self.0.cut_power(1);
        let (journal, report) = open(&self.0).unwrap();
        assert_eq!(report.dropped, None);
        Box::new(OnFaultDisk(self.0, journal))
    }
}

struct OnRealDisk(tempfile::TempDir, FileJournal);

impl Subject for OnRealDisk {
    fn journal(&self) -> &dyn Journal {
        &self.1
    }
    fn reopen(self: Box<Self>) -> Box<dyn Subject> {
        let Self(dir, journal) = *self;
        drop(journal);
        let options = Options { low_water: 0, ..Options::new([1; 16]) };
        let (journal, report) = FileJournal::open(dir.path(), &options, None).unwrap();
        assert_eq!(report.dropped, None);
        Box::new(OnRealDisk(dir, journal))
    }
}

#[test]
fn file_journal_keeps_the_contract() {
    holds_on(&|| {
        let disk = FaultDisk::default();
        let journal = create(&disk);
        Box::new(OnFaultDisk(disk, journal))
    });
}

#[test]
fn file_journal_keeps_the_contract_with_short_writes() {
    holds_on(&|| {
        let disk = FaultDisk::default();
        disk.short_writes();
        let journal = create(&disk);
        Box::new(OnFaultDisk(disk, journal))
    });
}

#[test]
fn file_journal_keeps_the_contract_on_a_real_disk() {
    holds_on(&|| {
        let dir = tempfile::tempdir().unwrap();
        let options = Options { low_water: 0, ..Options::new([1; 16]) };
        let journal = FileJournal::create(dir.path(), Epoch(1), &options).unwrap();
        Box::new(OnRealDisk(dir, journal))
    });
}

fn holds_on(make: &dyn Fn() -> Box<dyn Subject>) {
    contract::holds(make);
}

#[test]
fn batch_costs_one_write_and_one_sync() {
    let disk = FaultDisk::default();
    let options = Options { segment_len: 1 << 20, grow_len: 1 << 16, ..small() };
    let journal = FileJournal::create_on(Arc::new(disk.clone()), dir(), Epoch(1), &options).unwrap();
    let before = disk.counts();
    for nonce in 0..50 {
        assert!(matches!(push(&journal, nonce, b"event"), Outcome::Done(_)));
    }
    assert_eq!(disk.counts(), (before.0 + 50, before.1 + 50));
}

#[test]
fn records_stand_in_segments_and_are_all_read() {
    let disk = FaultDisk::default();
    let journal = create(&disk);
    fill(&journal, 200);
    let (head, frontier) = (journal.head(), journal.frontier());
    drop(journal);
    let (journal, report) = open(&disk).unwrap();
    assert!(report.segments > 5, "{report:?}");
    assert_eq!((report.head, report.records, report.dropped), (head, 200, None));
    assert_eq!((journal.head(), journal.frontier()), (head, frontier));
    holds_bodies(&journal, 200);
    let leaves: Vec<_> =
        journal.read(Seq(1), 200).unwrap().iter().map(|record| record.header.leaf()).collect();
    assert_eq!(merkle::root(&leaves), head.root);
}

#[test]
fn second_process_is_refused_and_told_where() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options::new([1; 16]);
    let journal = FileJournal::create(dir.path(), Epoch(1), &options).unwrap();
    let Err(error) = FileJournal::open(dir.path(), &options, None) else { panic!("two writers") };
    assert!(error.to_string().contains(dir.path().to_str().unwrap()), "{error}");
    assert!(matches!(error, JournalError::InUse { .. }));
    assert!(matches!(verify(dir.path(), None), Err(JournalError::InUse { .. })));
    drop(journal);
    assert!(verify(dir.path(), None).is_ok());
    assert!(matches!(FileJournal::create(dir.path(), Epoch(1), &options), Err(JournalError::Exists { .. })));
    let empty = tempfile::tempdir().unwrap();
    assert!(matches!(FileJournal::open(empty.path(), &options, None), Err(JournalError::Missing { .. })));
    let absent = empty.path().join("absent");
    assert!(matches!(FileJournal::open(&absent, &options, None), Err(JournalError::Missing { .. })));
}

#[test]
fn open_from_a_vouched_position_reads_only_what_follows_and_compares_the_root() {
    let disk = FaultDisk::default();
    let journal = create(&disk);
    let mut positions = vec![Position { seq: Seq(0), root: journal.head().root }];
    for _ in 0..100 {
        fill(&journal, 1);
        positions.push(Position { seq: journal.head().seq, root: journal.head().root });
    }
    let head = journal.head();
    drop(journal);
    let open_from = |position| {
        FileJournal::open_on(Arc::new(disk.clone()), dir(), (&small(), Some(position)), &mut |_| {})
    };
    for position in &positions {
        let (journal, report) = open_from(*position).unwrap();
        assert_eq!((report.head, journal.frontier().root()), (head, head.root));
        assert!(report.records <= 100 - position.seq.0 + 40, "{report:?}");
        holds_bodies(&journal, 100);
        let wrong = Position { root: Digest([1; 32]), ..*position };
        assert!(matches!(open_from(wrong), Err(JournalError::Diverged { seq, .. }) if seq == position.seq));
    }
    let beyond = Position { seq: Seq(101), root: head.root };
    assert!(matches!(open_from(beyond), Err(JournalError::Lost { have: Seq(100), need: Seq(101) })));
}

#[test]
fn purged_body_is_gone_and_everything_else_verifies() {
    let disk = FaultDisk::default();
    let journal = create(&disk);
    let outcome = journal.append(Seq(1), &batch(1, &[b"one", b"two", b"three"]));
    assert_eq!(outcome, Outcome::Done(Seq(3)));
    fill(&journal, 5);
    let head = journal.head();
    drop(journal);
    let mut bytes = disk.contents(&segment_path(1));
    let marker = format::marker(&small().salt, Seq(1));
    assert!(purge_in_place(marker, &mut bytes[SEGMENT_HEADER_LEN..], Seq(2)));
    assert!(!bytes.windows(3).any(|window| window == b"two"));
    disk.plant(&segment_path(1), &bytes);
    let (journal, _) = open(&disk).unwrap();
    let records = journal.read(Seq(1), 3).unwrap();
    let found: Vec<_> = records.iter().map(|record| record.body.as_deref()).collect();
    assert_eq!(found, [Some(b"one".as_slice()), None, Some(b"three")]);
    assert_eq!(records[1].header.body, Digest::of(b"two"));
    let report = verify::verify_on(&disk, dir(), None).unwrap();
    assert_eq!((report.head, report.purged, report.records), (head, 1, 8));
}

#[test]
fn verify_shows_every_record_and_reports_clocks_that_went_back() {
    let disk = FaultDisk::default();
    let journal = create(&disk);
    for (nonce, millis) in [(1, 5), (2, 5), (3, 4), (4, 9), (5, 8)] {
        let batch = Batch { time: Timestamp::from_millis(millis), ..batch(nonce, &[b"x"]) };
        assert_eq!(journal.append(Seq(nonce), &batch), Outcome::Done(Seq(nonce)));
    }
    let head = journal.head();
    let mut seen = Vec::new();
    let report = verify::verify_on(&disk, dir(), Some(&mut |record| seen.push(record.header.seq.0))).unwrap();
    assert_eq!(seen, [1, 2, 3, 4, 5]);
    assert_eq!((report.head, report.time_steps_back, report.first_step_back), (head, 2, Some(Seq(3))));
}

#[test]
fn reader_beside_the_writer_sees_only_whole_records_in_order() {
    let disk = FaultDisk::default();
    let journal = create(&disk);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            fill(&journal, 150);
            disk.leave_free(Some(0));
            for seq in 151..=180 {
                let stop = Batch { restricting: true, ..batch(seq, &[&body(seq)]) };
                assert_eq!(journal.append(Seq(seq), &stop), Outcome::Done(Seq(seq)));
            }
            disk.leave_free(None);
            fill(&journal, 120);
        });
        let mut seen = 0;
        loop {
            let finished = writer.is_finished();
            let read = journal.read(Seq(seen + 1), 7).unwrap();
            if finished && read.is_empty() {
                break;
            }
            for record in read {
                seen += 1;
                assert_eq!((record.header.seq, record.body), (Seq(seen), Some(body(seen))));
            }
        }
        writer.join().unwrap();
        assert_eq!(seen, 300);
    });
}
