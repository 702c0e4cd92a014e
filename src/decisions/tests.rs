use std::io::Write as _;

use super::*;
use crate::domain::enforce::{DecisionReport, Position};
use crate::domain::id::Ordinal;
use crate::domain::model::AccessForm;
use crate::domain::policy::Place;
use crate::domain::time::Timestamp;

fn batch(boot: u8, number: u64, decisions: usize) -> DecisionBatch {
    of("gw-1", boot, number, decisions)
}

fn of(gateway: &str, boot: u8, number: u64, decisions: usize) -> DecisionBatch {
    let report = |n: usize| DecisionReport {
        at: Timestamp::from_millis(1_782_500_000_000 + n as i64),
        is_permit: n.is_multiple_of(2),
        code: "CREDENTIAL_REVOKED".to_owned(),
        // Not compressible, so that segments fill.
        model: crate::domain::id::Digest::of(&[boot, n as u8, (n >> 8) as u8, number as u8]).to_string(),
        form: AccessForm::Inference,
        place: Place::Us,
        subject: None,
        entity: None,
        ordinal: Some(Ordinal(n as u64)),
        as_of: Position::default(),
        count: 1,
        asked: None,
    };
    DecisionBatch {
        gateway: gateway.parse().unwrap(),
        boot: BootId::from_bytes([boot; 16]),
        number,
        received: Timestamp::from_millis(1_782_500_000_000),
        decisions: (0..decisions).map(report).collect(),
    }
}

fn segment(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:020}.gw-1.log"))
}

#[test]
fn a_batch_is_stored_once_also_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("decisions");
    let log = DecisionLog::open(&dir);
    assert_eq!(log.append(&batch(1, 1, 10)).unwrap(), Stored::Now);
    assert_eq!(log.append(&batch(1, 1, 10)).unwrap(), Stored::Before);
    assert_eq!(log.append(&batch(1, 2, 10)).unwrap(), Stored::Now);
    assert_eq!(log.append(&batch(2, 1, 10)).unwrap(), Stored::Now, "another run begins anew");
    drop(log);
    let log = DecisionLog::open(&dir);
    assert_eq!(log.append(&batch(1, 2, 10)).unwrap(), Stored::Before);
    assert_eq!(log.append(&batch(1, 3, 10)).unwrap(), Stored::Now);
    let kept = log.read_all().unwrap();
    assert_eq!(kept, [batch(1, 1, 10), batch(1, 2, 10), batch(2, 1, 10), batch(1, 3, 10)]);
}

#[test]
fn a_torn_tail_is_cut_wherever_it_is_torn() {
    let dir = tempfile::tempdir().unwrap();
    let log = DecisionLog::open(dir.path());
    log.append(&batch(1, 1, 3)).unwrap();
    let first = std::fs::metadata(segment(dir.path(), 1)).unwrap().len();
    log.append(&batch(1, 2, 3)).unwrap();
    drop(log);
    let whole = std::fs::read(segment(dir.path(), 1)).unwrap();
    for len in usize::try_from(first).unwrap()..whole.len() {
        std::fs::write(segment(dir.path(), 1), &whole[..len]).unwrap();
        let log = DecisionLog::open(dir.path());
        assert_eq!(log.read_all().unwrap(), [batch(1, 1, 3)], "{len}");
        // It was never acknowledged, so it comes again.
        assert_eq!(log.append(&batch(1, 2, 3)).unwrap(), Stored::Now);
        assert_eq!(std::fs::read(segment(dir.path(), 1)).unwrap(), whole);
    }
    let mut file = OpenOptions::new().append(true).open(segment(dir.path(), 1)).unwrap();
    file.write_all(b"garbage behind the last frame").unwrap();
    assert_eq!(DecisionLog::open(dir.path()).read_all().unwrap().len(), 2);
    assert_eq!(std::fs::read(segment(dir.path(), 1)).unwrap(), whole);
}

#[test]
fn a_full_log_loses_the_oldest_of_who_reported_the_most() {
    let dir = tempfile::tempdir().unwrap();
    let log = DecisionLog::open(dir.path());
    log.lock().len_max = 512 << 10;
    let quiet = of("gw-2", 1, 1, 10);
    log.append(&quiet).unwrap();
    let mut number = 0;
    while segment(dir.path(), 2).exists() || number < 20 {
        number += 1;
        assert!(number < 100, "nothing goes");
        assert_eq!(log.append(&batch(1, number, 1_000)).unwrap(), Stored::Now);
        assert!(log.lock().len <= 512 << 10);
    }
    for log in [&log, &DecisionLog::open(dir.path())] {
        let kept = log.read_all().unwrap();
        assert!(kept.contains(&quiet), "of another gateway nothing goes");
        let numbers: Vec<_> = kept.iter().filter(|b| b.gateway != quiet.gateway).map(|b| b.number).collect();
        assert!(numbers.len() >= 4, "{numbers:?}");
        assert!(numbers.iter().copied().eq(number + 1 - numbers.len() as u64..=number), "{numbers:?}");
        let on_disk = |entry: io::Result<std::fs::DirEntry>| entry.unwrap().metadata().unwrap().len();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().map(on_disk).sum::<u64>(), log.lock().len);
    }
}

#[test]
fn who_invents_runs_forgets_no_batches_but_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let log = DecisionLog::open(dir.path());
    let other = of("gw-0", 1, 7, 1);
    log.append(&other).unwrap();
    for boot in 0..=RUNS_MAX as u8 {
        // The run that goes on is not forgotten either.
        log.append(&batch(200, u64::from(boot) + 1, 1)).unwrap();
        log.append(&batch(boot, 1, 1)).unwrap();
    }
    assert!(log.lock().gateways.values().all(|own| own.last.len() <= RUNS_MAX));
    assert_eq!(log.append(&other).unwrap(), Stored::Before);
    assert_eq!(log.append(&batch(200, 1, 1)).unwrap(), Stored::Before);
    assert_eq!(log.append(&batch(0, 1, 1)).unwrap(), Stored::Now, "its oldest run");
}

#[test]
fn a_segment_that_could_not_be_begun_is_no_obstacle_to_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let log = DecisionLog::open(dir.path());
    // As it is left when the folder cannot be synced, and the file cannot be removed.
    File::create(segment(dir.path(), 1)).unwrap();
    assert!(matches!(log.append(&batch(1, 1, 1)), Err(DecisionLogFault::Io(_))));
    assert_eq!(log.append(&batch(1, 1, 1)).unwrap(), Stored::Now);
    assert_eq!(log.append(&batch(1, 2, 1)).unwrap(), Stored::Now);
    drop(log);
    let log = DecisionLog::open(dir.path());
    assert_eq!(log.read_all().unwrap(), [batch(1, 1, 1), batch(1, 2, 1)]);
    assert_eq!(log.append(&batch(1, 3, 1)).unwrap(), Stored::Now);
}

#[test]
fn a_log_that_cannot_be_opened_refuses_and_is_no_obstacle() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("decisions");
    std::fs::write(&path, b"a file").unwrap();
    let log = DecisionLog::open(&path);
    assert!(matches!(log.append(&batch(1, 1, 1)), Err(DecisionLogFault::Closed(_))));
}
