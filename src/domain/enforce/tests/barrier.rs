//! The barrier: what counts as enforced, and who is in which list.

use crate::domain::enforce::message::Strength;
use crate::domain::enforce::{
    About, Barrier, BarrierReport, EnforcedBy, LEASE_MAX_MS, OwnPath, Participant, ParticipantId, Position,
    Roster, bound_ms,
};
use crate::domain::id::{BootId, Epoch, PrincipalId, Seq};

const AT: Position = Position { epoch: Epoch(1), seq: Seq(10) };
const COMMITTED_MS: u64 = 100_000;
const LEASE_MS: u32 = 10_000;

fn gateway(name: &str) -> ParticipantId {
    ParticipantId::Gateway(name.parse().unwrap(), BootId::from_bytes([1; 16]))
}

/// A gateway that acknowledged up to a record and was last sent a Pong then.
fn participant(acked: u64, last_pong_ms: Option<u64>) -> Participant {
    Participant { acked: Seq(acked), last_pong_ms, is_pushed: false, is_weak: false }
}

fn report(participants: &[(&str, Participant)], is_complete: bool, boot_ms: u64) -> BarrierReport {
    let participants = participants.iter().map(|(name, participant)| (gateway(name), *participant));
    Barrier::new(AT, COMMITTED_MS, LEASE_MS).report(participants, is_complete, boot_ms)
}

#[test]
fn the_bound_is_the_lease_and_the_drift_of_two_clocks() {
    assert_eq!(bound_ms(10_000), 10_000 + 2 * 11 + 50);
    assert!(bound_ms(10_000) >= 10_000 + 2 * 10 + 50, "0.1 % each way, rounded up");
    let barrier = Barrier::new(AT, COMMITTED_MS, LEASE_MS);
    assert_eq!((barrier.at(), barrier.bound_at_ms()), (AT, COMMITTED_MS + bound_ms(LEASE_MS)));
    let endless = Barrier::new(AT, COMMITTED_MS, u32::MAX);
    assert_eq!(endless.bound_at_ms(), COMMITTED_MS + bound_ms(LEASE_MAX_MS), "no gateway takes more");
}

#[test]
fn acknowledgements_of_everybody_enforce_at_once() {
    let done =
        report(&[("a", participant(10, Some(99_000))), ("b", participant(11, None))], true, COMMITTED_MS);
    assert_eq!(done.enforced_by, Some(EnforcedBy::Acks));
    assert!(done.is_enforced());
    assert_eq!(done.acked, [gateway("a"), gateway("b")]);
}

#[test]
fn one_that_has_not_acknowledged_keeps_it_pending_until_its_lease_is_over() {
    let slow = [("a", participant(10, Some(99_000))), ("slow", participant(9, Some(99_000)))];
    let over_ms = 99_000 + bound_ms(LEASE_MS);
    let waiting = report(&slow, true, over_ms - 1);
    assert_eq!((waiting.pending.as_slice(), waiting.enforced_by), ([gateway("slow")].as_slice(), None));
    assert!(!waiting.is_enforced());
    let closed = report(&slow, true, over_ms);
    assert_eq!(closed.lease_expired, [gateway("slow")]);
    assert_eq!((closed.enforced_by, closed.is_enforced()), (Some(EnforcedBy::Acks), true));
    assert!(over_ms < COMMITTED_MS + bound_ms(LEASE_MS), "earlier than the bound");
}

#[test]
fn a_lease_that_was_extended_after_the_commit_is_waited_for() {
    let busy = [("busy", participant(9, Some(COMMITTED_MS + 5_000)))];
    let bound_at_ms = COMMITTED_MS + bound_ms(LEASE_MS);
    assert_eq!(report(&busy, true, bound_at_ms - 1).pending, [gateway("busy")]);
    // It permits nothing without the record, but may still hold connections open that the record closes.
    let at_bound = report(&busy, true, bound_at_ms);
    assert_eq!((at_bound.pending.as_slice(), at_bound.is_enforced()), ([gateway("busy")].as_slice(), false));
    let pushed = Participant { is_pushed: true, ..participant(9, Some(COMMITTED_MS + 5_000)) };
    let pushed = report(&[("pushed", pushed)], true, bound_at_ms);
    assert_eq!(pushed.lease_expired, [gateway("pushed")], "its last set has the record");
    let over = report(&busy, true, bound_at_ms + 5_000);
    assert_eq!((over.lease_expired.as_slice(), over.is_enforced()), ([gateway("busy")].as_slice(), true));
}

#[test]
fn one_that_never_had_a_lease_has_none_to_wait_for() {
    let new = report(&[("new", participant(0, None))], true, COMMITTED_MS);
    assert_eq!((new.lease_expired.as_slice(), new.is_enforced()), ([gateway("new")].as_slice(), true));
}

#[test]
fn without_participants_it_is_enforced_if_nobody_else_can_hold_a_lease() {
    let alone = report(&[], true, COMMITTED_MS);
    assert_eq!((alone.enforced_by, alone.is_enforced()), (Some(EnforcedBy::Acks), true));
}

#[test]
fn after_a_restart_only_the_bound_closes_those_nobody_knows_of() {
    let known = [("a", participant(10, Some(99_000)))];
    let early = report(&known, false, COMMITTED_MS);
    assert_eq!((early.enforced_by, early.is_enforced()), (None, false));
    assert_eq!(early.pending, [ParticipantId::EarlierRun]);
    let later = report(&known, false, COMMITTED_MS + bound_ms(LEASE_MS));
    assert_eq!((later.enforced_by, later.is_enforced()), (Some(EnforcedBy::Bound), true));
}

#[test]
fn a_weak_participant_is_weak_whether_it_acknowledged_or_fell_silent() {
    let weak = |acked, last_pong_ms| Participant { is_weak: true, ..participant(acked, last_pong_ms) };
    let acked = report(&[("weak", weak(10, Some(99_000)))], true, COMMITTED_MS);
    assert_eq!((acked.weak.as_slice(), acked.is_enforced()), ([gateway("weak")].as_slice(), false));
    // Before its lease could be over it is merely pending.
    let over_ms = 99_000 + bound_ms(LEASE_MS);
    let silent = [("weak", weak(9, Some(99_000)))];
    assert_eq!(report(&silent, true, over_ms - 1).pending, [gateway("weak")]);
    // A clock that may have paused proves nothing, neither then nor at the bound.
    for boot_ms in [over_ms, COMMITTED_MS + bound_ms(LEASE_MS), u64::MAX] {
        let report = report(&silent, true, boot_ms);
        assert_eq!(report.weak, [gateway("weak")], "at {boot_ms}");
        assert!(report.lease_expired.is_empty() && !report.is_enforced());
    }
}

#[test]
fn each_participant_is_in_exactly_one_list() {
    for acked in [9, 10] {
        for last_pong_ms in [None, Some(90_000), Some(COMMITTED_MS), Some(u64::MAX)] {
            for is_weak in [false, true] {
                for boot_ms in [COMMITTED_MS, COMMITTED_MS + 1_000, COMMITTED_MS + 20_000] {
                    let one = Participant { is_weak, ..participant(acked, last_pong_ms) };
                    let r = report(&[("one", one)], true, boot_ms);
                    let lists = [&r.acked, &r.weak, &r.lease_expired, &r.pending];
                    assert_eq!(lists.map(Vec::len).iter().sum::<usize>(), 1);
                }
            }
        }
    }
}

#[test]
fn participants_are_named_by_gateway_and_told_apart_by_run() {
    let [first, second] =
        [1, 2].map(|run| ParticipantId::Gateway("edge-1".parse().unwrap(), BootId::from_bytes([run; 16])));
    assert!(first != second && first.to_string() == "edge-1" && second.to_string() == "edge-1");
    assert_eq!(ParticipantId::Server.to_string(), "server");
}

#[test]
fn a_gateway_that_can_be_paused_and_flaps_keeps_its_place_and_stays_in_doubt() {
    let gateway: PrincipalId = "edge-1".parse().unwrap();
    let strength =
        Strength { pausable: true, per_request: true, resumption_off: true, ..Strength::default() };
    let about = About { agent: None, adapter: None, strength, from: None };
    let at = Position { seq: Seq(10), ..Position::default() };
    let own = OwnPath { published: at, unsent: None };
    let mut roster = Roster::new(0, LEASE_MS);
    roster.begin_first_run();
    let mut now_ms = 0;
    for run in 0..300_u16 {
        let mut boot = [0; 16];
        boot[..2].copy_from_slice(&run.to_be_bytes());
        let key = (gateway.clone(), BootId::from_bytes(boot));
        let connection = roster.enter_pushed(key.clone(), about.clone()).unwrap();
        assert!(roster.push((&key, connection), (at.seq, now_ms), at.seq));
        roster.leave(&key, connection);
        now_ms += bound_ms(LEASE_MS);
        roster.forget(now_ms, true);
        assert_eq!(roster.report(at, now_ms, own, now_ms).report.weak.len(), 1, "its last run");
    }
    assert!(roster.report(at, now_ms + 3_600_000, own, now_ms + 3_600_000).report.is_enforced());
}
