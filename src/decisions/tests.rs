use std::io::Write as _;

use super::*;
use crate::domain::enforce::{DecisionReport, Position};
use crate::domain::id::Ordinal;
use crate::domain::model::AccessForm;
use crate::domain::policy::Place;
use crate::domain::time::Timestamp;

fn batch(boot: u8, number: u64, decisions: usize) -> DecisionBatch {
    let report = |n: usize| DecisionReport {
        at: Timestamp::from_millis(1_782_500_000_000 + n as i64),
        is_permit: n.is_multiple_of(2),
        code: "CREDENTIAL_REVOKED".to_owned(),
        // Not compressible, so that segments fill.
        model: crate::domain::id::Digest::of(&[boot, n as u8, number as u8]).to_string(),
        form: AccessForm::Inference,
        place: Place::Us,
        subject: None,
        entity: None,
        ordinal: Some(Ordinal(n as u64)),
        as_of: Position::default(),
        count: 1,
    };
    DecisionBatch {
        gateway: "gw-1".parse().unwrap(),
        boot: BootId::from_bytes([boot; 16]),
        number,
        received: Timestamp::from_millis(1_782_500_000_000),
        decisions: (0..decisions).map(report).collect(),
    }
}

fn segment(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:020}.log"))
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
fn the_log_is_bounded_and_the_oldest_goes() {
    let dir = tempfile::tempdir().unwrap();
    // Segments that are full already: sparse, so that the test writes little.
    for number in 1..=SEGMENTS_MAX as u64 {
        File::create(segment(dir.path(), number)).unwrap();
    }
    let log = DecisionLog::open(dir.path());
    log.lock().tail.as_mut().unwrap().1 = SEGMENT_LEN;
    log.append(&batch(1, 1, 3)).unwrap();
    assert!(!segment(dir.path(), 1).exists());
    assert!(segment(dir.path(), SEGMENTS_MAX as u64 + 1).exists());
    assert_eq!(log.lock().segments.len(), SEGMENTS_MAX);
    assert_eq!(log.read_all().unwrap(), [batch(1, 1, 3)]);
}

#[test]
fn a_log_that_cannot_be_opened_refuses_and_is_no_obstacle() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("decisions");
    std::fs::write(&path, b"a file").unwrap();
    let log = DecisionLog::open(&path);
    assert!(matches!(log.append(&batch(1, 1, 1)), Err(DecisionLogFault::Closed(_))));
}
