use std::borrow::Cow;
use std::net::IpAddr;
use std::path::PathBuf;

use super::verify::verify_within;
use super::*;
use crate::domain::call::{AGGREGATED, CallBatch, CallerName, DROPPED};
use crate::domain::id::{Digest, Ordinal, RequestId, Seq};
use crate::segments::Frames;
use crate::segments::sealed::PART_LEN;

const HOUR_MS: u64 = 3_600_000;

fn at(ms: u64) -> Timestamp {
    Timestamp::from_millis(1_782_500_000_000 + i64::try_from(ms).unwrap())
}

fn call(n: u64, caller: CallerName, code: &'static str) -> Call {
    let digest = Digest::of(&n.to_be_bytes()).0;
    Call {
        at: at(n),
        request: RequestId::from_bytes(digest[..16].try_into().unwrap()),
        method: Some("/countersign.v1.AuditService/GetHead"),
        caller,
        address: None,
        code,
        reason: Cow::Borrowed(""),
        took_us: n,
        seq: None,
        detail: None,
    }
}

fn principal(name: &str) -> CallerName {
    CallerName::Principal(name.parse().unwrap())
}

fn from(address: &str, call: Call) -> Call {
    Call { address: Some(address.parse::<IpAddr>().unwrap()), ..call }
}

fn recorded(n: u64) -> Call {
    Call { seq: Some(Seq(n)), ..call(n, principal("officer-1"), "OK") }
}

fn all(log: &CallLog) -> Vec<CallLine> {
    let (mut lines, mut next) = (Vec::new(), Some(Cursor::default()));
    while let Some(from) = next {
        let (page, more) = log.page(from, 1_000, &|_| true).unwrap();
        lines.extend(page);
        next = more;
    }
    lines
}

fn open() -> (tempfile::TempDir, PathBuf, CallLog) {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("calls");
    let log = CallLog::open(&dir);
    (parent, dir, log)
}

#[track_caller]
fn write(log: &CallLog, ms: u64) -> Written {
    let written = log.write((at(ms), ms), true, false);
    assert!(written.fault.is_none(), "{:?}", written.fault);
    written
}

/// Fills until a segment is complete.
fn sealed(log: &CallLog) -> SealedCalls {
    for n in 0.. {
        assert!(n < 100, "nothing is ever sealed");
        (0..2_000).for_each(|i| log.note(recorded(n * 2_000 + i + 1)));
        let mut written = write(log, n);
        if let Some(seal) = written.sealed.pop() {
            return seal;
        }
    }
    unreachable!()
}

#[test]
fn calls_that_repeat_are_one_line_a_minute_with_a_count() {
    let (_parent, _, log) = open();
    for n in 0..1_000 {
        log.note(call(n, principal("gw-1"), "RESOURCE_EXHAUSTED"));
    }
    log.note(call(5, principal("gw-2"), "RESOURCE_EXHAUSTED"));
    assert_eq!(write(&log, 1_000).lines, 2);
    for n in 1_000..50_000 {
        log.note(call(n, principal("gw-1"), "RESOURCE_EXHAUSTED"));
    }
    assert_eq!(write(&log, 60_999).lines, 0, "the window is not over");
    assert_eq!(write(&log, 61_000).lines, 1);
    assert_eq!(write(&log, 200_000).lines, 0);
    let lines = all(&log);
    let counts: Vec<_> = lines.iter().map(|line| (line.caller.clone(), line.count, line.took_us)).collect();
    let (first, second) = (principal("gw-1"), principal("gw-2"));
    assert_eq!(counts, [(first.clone(), 1_000, 999), (second, 1, 5), (first, 49_000, 49_999)]);
    assert_eq!((lines[0].at, lines[0].last), (at(0), at(999)));
}

#[test]
fn a_call_that_made_a_record_has_a_line_of_its_own() {
    let (_parent, _, log) = open();
    (1..=3).for_each(|n| log.note(recorded(n)));
    write(&log, 10);
    let seqs: Vec<_> = all(&log).into_iter().map(|line| line.seq).collect();
    assert_eq!(seqs, [Some(Seq(1)), Some(Seq(2)), Some(Seq(3))]);
}

#[test]
fn when_there_is_no_room_reads_are_dropped_and_counted_and_refusals_are_counted_by_caller() {
    let (_parent, _, log) = open();
    // Strangers from everywhere fill their share.
    for n in 0..4_096_u32 {
        let address = std::net::Ipv4Addr::from(n << 8).to_string();
        log.note(from(&address, call(1, CallerName::Nobody, "UNAUTHENTICATED")));
    }
    log.note(from("198.51.100.0", call(1, CallerName::Nobody, "OK")));
    log.note(from("198.51.100.0", call(2, CallerName::Nobody, "PERMISSION_DENIED")));
    log.note(from("203.0.113.0", call(3, CallerName::Nobody, "PERMISSION_DENIED")));
    // Who has a certificate is not touched by that.
    log.note(call(4, principal("officer-1"), "PERMISSION_DENIED"));
    let written = write(&log, 10);
    assert_eq!((written.dropped, written.lines), (1, 4_096 + 3));
    let lines = all(&log);
    let crowded: Vec<_> = lines.iter().filter(|line| line.reason == AGGREGATED).collect();
    assert_eq!(crowded.len(), 1);
    assert_eq!((crowded[0].count, crowded[0].code.as_str()), (2, "PERMISSION_DENIED"));
    assert_eq!(lines.iter().filter(|line| line.reason == DROPPED).map(|line| line.count).sum::<u64>(), 1);
    assert!(lines.iter().any(|line| line.caller == principal("officer-1")));
}

#[test]
fn refusals_are_counted_while_nothing_can_be_written_and_come_out_later() {
    let (_parent, dir, log) = open();
    log.note(call(1, principal("officer-1"), "OK"));
    for n in 0..7 {
        log.note(call(n, principal("officer-1"), "PERMISSION_DENIED"));
    }
    log.note(call(1, CallerName::Subject(Ordinal(9)), "UNAUTHENTICATED"));
    assert_eq!(log.write((at(10), 10), false, false).lines, 0);
    assert!(!dir.exists(), "nothing is stored under the mark");
    log.note(call(20, principal("officer-1"), "PERMISSION_DENIED"));
    let written = log.write((at(20), 20), false, false);
    assert_eq!((written.lines, written.dropped), (0, 1), "the read");
    assert_eq!(log.write((at(30), 30), false, false).dropped, 0, "it is told once");
    assert_eq!(write(&log, 70_000).dropped, 0);
    let lines = all(&log);
    assert_eq!(lines.iter().filter(|line| line.reason == DROPPED).map(|line| line.count).sum::<u64>(), 1);
    let refused = |caller: &CallerName| -> u64 {
        let of = lines.iter().filter(|line| line.caller == *caller && line.is_refusal());
        of.map(|line| line.count).sum()
    };
    assert_eq!(refused(&principal("officer-1")), 8);
    assert_eq!(refused(&CallerName::Subject(Ordinal(9))), 1);
}

#[test]
fn a_folder_that_cannot_be_used_loses_no_refusals() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("calls");
    std::fs::write(&dir, b"a file").unwrap();
    let log = CallLog::open(&dir);
    log.note(call(1, principal("officer-1"), "PERMISSION_DENIED"));
    for ms in [10, 20, 30] {
        assert!(log.write((at(ms), ms), true, false).fault.is_some());
    }
    let (kept, _) = lock(&log.book).due(at(40), 40, true);
    assert_eq!(kept.iter().map(|line| line.count).sum::<u64>(), 1);
}

#[test]
fn lines_go_on_after_a_restart_and_a_torn_end_is_cut() {
    let (_parent, dir, log) = open();
    log.note(recorded(1));
    write(&log, 1);
    let path = dir.join("00000000000000000001.known.open");
    let first = std::fs::read(&path).unwrap().len();
    log.note(recorded(2));
    write(&log, 2);
    drop(log);
    let whole = std::fs::read(&path).unwrap();
    for len in first..whole.len() {
        std::fs::write(&path, &whole[..len]).unwrap();
        let log = CallLog::open(&dir);
        assert_eq!(all(&log).len(), 1, "{len}");
        log.note(recorded(2));
        write(&log, 3);
        let seqs: Vec<_> = all(&log).into_iter().map(|line| line.seq).collect();
        assert_eq!(seqs, [Some(Seq(1)), Some(Seq(2))]);
    }
    assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 1, "no restart begins a segment");
}

#[test]
fn a_segment_is_sealed_when_it_is_long_or_an_hour_old_and_again_after_a_restart() {
    let (_parent, dir, log) = open();
    let seal = sealed(&log);
    assert_eq!((seal.number, seal.origin), (1, Origin::Known));
    assert_eq!(seal.parts.len(), usize::try_from(seal.len).unwrap().div_ceil(PART_LEN));
    assert!(verify(&dir, std::slice::from_ref(&seal)).unwrap().faults.is_empty());
    // A stranger's is not long; it is sealed when it is old.
    log.note(call(1, CallerName::Nobody, "UNAUTHENTICATED"));
    assert_eq!(write(&log, 1_000).sealed, []);
    assert_eq!(write(&log, HOUR_MS).sealed, []);
    let young = write(&log, 1_000 + HOUR_MS).sealed;
    assert_eq!(
        young.iter().map(|seal| (seal.number, seal.origin)).collect::<Vec<_>>(),
        [(2, Origin::Strangers)]
    );
    drop(log);
    // The record may not have got what the run before sealed last.
    let log = CallLog::open(&dir);
    assert_eq!(write(&log, 5).sealed, [seal, young[0].clone()]);
    assert_eq!(write(&log, 6).sealed, []);
}

#[test]
fn what_is_altered_or_taken_out_is_found_where_it_is() {
    let (_parent, dir, log) = open();
    let seal = sealed(&log);
    log.note(recorded(1));
    write(&log, 1);
    drop(log);
    let seals = [seal.clone()];
    let good = verify(&dir, &seals).unwrap();
    assert_eq!((good.good, good.unsealed, good.faults.as_slice()), (1, 1, [].as_slice()));
    let path = dir.join("00000000000000000001.known.calls");
    let whole = std::fs::read(&path).unwrap();
    let fault = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        let mut faults = verify(&dir, &seals).unwrap().faults;
        assert_eq!(faults.len(), 1, "{faults:?}");
        faults.remove(0)
    };
    // A byte: the batch that holds it.
    let ends: Vec<_> = Frames::<CallBatch>::of(&whole).map(|(end, _)| end).collect();
    let mut bytes = whole.clone();
    bytes[ends[0] + 100] ^= 1;
    let found = fault(&bytes);
    assert_eq!((found.segment, found.offset, found.line), (1, Some(ends[0] as u64), Some(2_000)));
    // A batch that is taken out, with all checksums right.
    let bytes = [&whole[..ends[0]], &whole[ends[1]..]].concat();
    let found = fault(&bytes);
    assert_eq!((found.offset, found.line), (Some(ends[0] as u64), Some(2_000)));
    assert!(found.why.contains("taken out"), "{found:?}");
    // A line that is altered, with all checksums right: to 64 KiB.
    let mut batches: Vec<CallBatch> =
        Frames::<CallBatch>::of(&whole).map(|(_, batch)| batch.unwrap()).collect();
    batches[2].lines[7].caller = principal("somebody-else");
    let bytes: Vec<u8> = batches.iter().flat_map(|batch| crate::segments::encode(batch).unwrap()).collect();
    let found = fault(&bytes);
    let (altered, offset) = (ends[1] as u64, found.offset.unwrap());
    assert!(offset <= ends[2] as u64 && offset + PART_LEN as u64 > altered, "{found:?}");
    // The end, and all of it.
    let found = fault(&whole[..ends[ends.len() - 2]]);
    assert!(found.why.contains("taken out"), "{found:?}");
    std::fs::remove_file(&path).unwrap();
    let found = verify(&dir, &seals).unwrap();
    assert_eq!((found.retired, found.faults.len()), (0, 1), "nothing had to make room");
    assert!(found.faults[0].why.contains("there was room for it"), "{found:?}");
    let last = SealedCalls { number: 3, ..seal };
    let found = verify(&dir, &[last]).unwrap().faults.remove(0);
    assert_eq!((found.segment, found.why.as_str()), (3, "it was removed"), "the last may not");
}

#[test]
fn strangers_push_out_strangers_only() {
    let (_parent, dir, log) = open();
    lock(&log.files).shrink(2 << 20);
    log.note(recorded(1));
    write(&log, 1);
    let (mut n, mut seals) = (0, Vec::new());
    while dir.join("00000000000000000002.strangers.open").exists()
        || dir.join("00000000000000000002.strangers.calls").exists()
        || n == 0
    {
        n += 1;
        assert!(n < 500, "nothing goes");
        for i in 0..2_000_u64 {
            let detail = Some(Digest::of(&(n * 2_000 + i).to_be_bytes()).to_string());
            let stranger =
                Call { seq: Some(Seq(1)), detail, ..call(i, CallerName::Nobody, "PERMISSION_DENIED") };
            log.note(stranger);
        }
        seals.extend(write(&log, n).sealed);
    }
    // What made room is known as that, and what is removed beyond it is not.
    let verified = || verify_within(&dir, &seals, |_| 2 << 20).unwrap();
    let found = verified();
    assert!(found.retired >= 1 && found.faults.is_empty(), "{found:?}");
    let gone = found.retired;
    let third = dir.join("00000000000000000003.strangers.calls");
    let kept = std::fs::read(&third).unwrap();
    std::fs::remove_file(&third).unwrap();
    let found = verified();
    assert_eq!((found.retired, found.faults.len() as u64), (0, gone + 1), "{found:?}");
    std::fs::write(&third, kept).unwrap();
    assert!(all(&log).iter().any(|line| line.caller == principal("officer-1")));
    let len = |entry: std::io::Result<std::fs::DirEntry>| entry.unwrap().metadata().unwrap().len();
    assert!(std::fs::read_dir(&dir).unwrap().map(len).sum::<u64>() < 3 << 20);
}

#[test]
fn a_page_goes_on_where_the_last_one_ended() {
    let (_parent, _, log) = open();
    (1..=25).for_each(|n| log.note(recorded(n)));
    write(&log, 1);
    (26..=40).for_each(|n| log.note(recorded(n)));
    write(&log, 2);
    let odd = |line: &CallLine| line.seq.is_some_and(|seq| seq.0 % 2 == 1);
    let (mut seen, mut next) = (Vec::new(), Some(Cursor::default()));
    while let Some(from) = next {
        let (page, more) = log.page(from, 7, &odd).unwrap();
        assert!(page.len() <= 7);
        seen.extend(page.into_iter().filter_map(|line| line.seq));
        next = more;
    }
    assert_eq!(seen, (1..=40).step_by(2).map(Seq).collect::<Vec<_>>());
    let beyond = log.page(Cursor { segment: 99, line: 3 }, 7, &odd).unwrap();
    assert_eq!(beyond, (vec![], None));
}
