use std::path::Path;
use std::sync::Arc;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};

use super::finding::{Findings, Level};
use super::{DAY_MS, machine, online, record};
use crate::domain::authority::AuthorityState;
use crate::domain::codec::to_bytes;
use crate::domain::head::SignedHead;
use crate::domain::id::{Digest, Seq};
use crate::domain::state::State;
use crate::domain::tests::world::World;
use crate::domain::time::Timestamp;
use crate::pb;

/// The worst that a check found.
#[track_caller]
fn worst(check: &str, run: impl FnOnce(&mut Findings)) -> Level {
    let mut findings = Findings::default();
    run(&mut findings);
    let levels = findings.levels();
    assert!(levels.iter().all(|(name, _)| *name == check), "{levels:?}");
    levels.iter().map(|(_, level)| *level).max().expect("it says something")
}

fn state() -> State {
    State::clone(&World::new().state)
}

/// So many days before an authority ends.
fn before_the_end(state: &State, days: i64) -> Timestamp {
    state.authorities.values().next().unwrap().not_after.plus_ms(-days * DAY_MS)
}

#[test]
fn an_authority_that_ends_soon_is_warned_of_and_one_that_ended_is_a_fault() {
    let mut state = state();
    for (days, level) in [(31, Level::Ok), (29, Level::Warn), (0, Level::Fail), (-1, Level::Fail)] {
        let now = before_the_end(&state, days);
        assert_eq!(worst("authority", |found| record::authorities(&state, now, found)), level, "{days} days");
    }
    let now = before_the_end(&state, 31);
    let (id, authority) = state.authorities.get_min().cloned().unwrap();
    let mut authority = crate::domain::authority::Authority::clone(&authority);
    authority.state = AuthorityState::Tainted;
    state.authorities.insert(id, Arc::new(authority));
    assert_eq!(worst("authority", |found| record::authorities(&state, now, found)), Level::Warn);
}

#[test]
fn a_folder_of_another_owner_is_a_fault_and_root_sees_whose_it_is() {
    let folder = Path::new("/var/lib/countersign");
    for ((mode, owner), own, level) in [
        ((0o700, 998), 998, Level::Ok),
        ((0o700, 998), 0, Level::Ok),
        ((0o700, 998), 1_000, Level::Fail),
        ((0o700, 0), 998, Level::Fail),
        ((0o750, 998), 998, Level::Warn),
        ((0o720, 998), 998, Level::Fail),
    ] {
        let run = |found: &mut Findings| machine::access(folder, (mode, owner), own, found);
        assert_eq!(worst("folder", run), level, "{mode:o} {owner} {own}");
    }
}

#[test]
fn a_clock_before_the_last_record_is_a_fault() {
    let state = state();
    for (ms, level) in [(0, Level::Ok), (-59_000, Level::Ok), (-61_000, Level::Fail), (3_600_000, Level::Ok)]
    {
        let now = state.time.plus_ms(ms);
        assert_eq!(worst("clock", |found| record::clock(&state, now, found)), level, "{ms}");
    }
}

#[test]
fn calls_that_were_lost_to_the_audit_are_counted() {
    let page = |count: u64| {
        format!(
            "# TYPE countersign_audit_dropped_calls counter\ncountersign_audit_dropped_calls_total {count}\n"
        )
    };
    assert_eq!([machine::lost_calls(&page(0)), machine::lost_calls(&page(7))], [Some(0), Some(7)]);
    let two = "countersign_audit_dropped_calls_total{class=\"A\"} 3\ncountersign_audit_dropped_calls_total{class=\"B\"} 4\n";
    assert_eq!(machine::lost_calls(two), Some(7));
    assert_eq!(machine::lost_calls("countersign_other_total 9\n"), None);
}

#[test]
fn the_documentation_arc_is_warned_of() {
    let mut state = state();
    assert_eq!(worst("arc", |found| record::arc(&state, found)), Level::Warn);
    Arc::make_mut(&mut state.settings).arc = "1.3.6.1.4.1.99999".to_owned();
    assert_eq!(worst("arc", |found| record::arc(&state, found)), Level::Ok);
}

#[test]
fn an_old_backup_is_warned_of_and_a_very_old_or_foreign_one_is_a_fault() {
    let mut state = state();
    let folder = tempfile::tempdir().unwrap();
    let [key, other] = [(); 2].map(|()| Ed25519KeyPair::generate().unwrap());
    Arc::make_mut(&mut state.settings).log_key = key.public_key().as_ref().to_vec();
    let check =
        |state: &State, now| worst("backup", |found| record::backup(folder.path(), state, now, found));
    let taken = state.time;
    let write = |seq: Seq, key: &Ed25519KeyPair| {
        let head = SignedHead::sign((state.position.epoch, seq, Digest([7; 32])), taken, key).unwrap();
        std::fs::write(folder.path().join("head.cbor"), to_bytes(&head)).unwrap();
    };
    assert_eq!(check(&state, taken), Level::Fail, "there is none");
    write(state.position.seq, &key);
    for (hours, level) in [(1, Level::Ok), (35, Level::Ok), (37, Level::Warn), (24 * 7 + 1, Level::Fail)] {
        assert_eq!(check(&state, taken.plus_ms(hours * 3_600_000)), level, "{hours} hours");
    }
    write(state.position.seq.next(), &key);
    assert_eq!(check(&state, taken), Level::Fail, "the folder is an old copy");
    write(state.position.seq, &other);
    assert_eq!(check(&state, taken), Level::Fail, "of another service");
    std::fs::write(folder.path().join("head.cbor"), b"?").unwrap();
    assert_eq!(check(&state, taken), Level::Fail, "no head");
}

#[test]
fn gateways_that_are_away_behind_or_weak_are_warned_of() {
    let well =
        pb::GatewaySession { gateway: "gw-1".to_owned(), connected: true, lag: 3, ..Default::default() };
    let check =
        |row: pb::GatewaySession| worst("gateways", |found| online::fleet(&[well.clone(), row], found));
    assert_eq!(check(well.clone()), Level::Ok);
    assert_eq!(check(pb::GatewaySession { connected: false, ..well.clone() }), Level::Warn);
    assert_eq!(check(pb::GatewaySession { lag: 1_001, ..well.clone() }), Level::Warn);
    assert_eq!(check(pb::GatewaySession { weak: true, ..well.clone() }), Level::Warn);
}

#[test]
fn an_active_partner_that_is_not_screened_freshly_is_warned_of() {
    let check = |status: &str, screening: &str| {
        let (status, screening) = (status.to_owned(), screening.to_owned());
        let entity = pb::Entity { status, screening, ..Default::default() };
        worst("screening", |found| online::screened(&[entity], found))
    };
    assert_eq!([check("ACTIVE", "PENDING"), check("ACTIVE", "STALE")], [Level::Warn; 2]);
    assert_eq!([check("ACTIVE", "CLEAR"), check("APPLICANT", "PENDING")], [Level::Ok; 2]);
}

#[test]
fn what_the_server_says_of_its_authorities_is_judged_as_its_record_is() {
    let now: Timestamp = "2026-11-30T00:00:00Z".parse().unwrap();
    let check = |state: &str, not_after: &str| {
        let authority =
            pb::Authority { state: state.to_owned(), not_after: not_after.to_owned(), ..Default::default() };
        worst("authority", |found| online::lives(&[authority], now, found).unwrap())
    };
    assert_eq!(check("ACTIVE", "2027-11-30T00:00:00Z"), Level::Ok);
    assert_eq!(check("ACTIVE", "2026-12-20T00:00:00Z"), Level::Warn);
    assert_eq!(check("ACTIVE", "2026-11-29T00:00:00Z"), Level::Fail);
    assert_eq!(check("TAINTED", "2027-11-30T00:00:00Z"), Level::Warn);
}

#[test]
fn a_drill_that_is_old_missing_or_did_not_reach_everybody_is_warned_of() {
    let now: Timestamp = "2026-11-30T00:00:00Z".parse().unwrap();
    let check =
        |drills: &[pb::DrillRecord]| worst("drill", |found| online::practised(drills, now, found).unwrap());
    let good =
        pb::DrillRecord { time: "2026-11-29T00:00:00Z".to_owned(), report_seq: 9, ..Default::default() };
    assert_eq!(check(&[]), Level::Warn);
    assert_eq!(check(&[pb::DrillRecord { report_seq: 0, ..good.clone() }]), Level::Warn, "no report");
    assert_eq!(check(std::slice::from_ref(&good)), Level::Ok);
    assert_eq!(
        check(&[pb::DrillRecord { time: "2026-11-20T00:00:00Z".to_owned(), ..good.clone() }]),
        Level::Warn
    );
    for missed in [
        pb::DrillRecord { weak: 1, ..good.clone() },
        pb::DrillRecord { pending: 1, ..good.clone() },
        pb::DrillRecord { lease_expired: 1, ..good.clone() },
    ] {
        assert_eq!(check(&[missed]), Level::Warn);
    }
}

#[test]
fn a_screening_list_that_is_missing_old_or_not_looked_at_is_said() {
    let now: Timestamp = "2026-11-30T00:00:00Z".parse().unwrap();
    let check = |standing: &pb::GetScreeningResponse| {
        worst("list", |found| online::listed(standing, now, found).unwrap())
    };
    let good = pb::GetScreeningResponse {
        list_version: "csl-1".to_owned(),
        fresh_until: "2026-12-02T00:00:00Z".to_owned(),
        ..Default::default()
    };
    let until = |at: &str| pb::GetScreeningResponse { fresh_until: at.to_owned(), ..good.clone() };
    assert_eq!(check(&good), Level::Ok);
    assert_eq!(check(&pb::GetScreeningResponse::default()), Level::Warn);
    assert_eq!(check(&until("2026-11-30T12:00:00Z")), Level::Warn);
    assert_eq!(check(&until("2026-11-29T00:00:00Z")), Level::Fail);
    assert_eq!(check(&pb::GetScreeningResponse { open_matches: 1, ..good.clone() }), Level::Warn);
    assert_eq!(check(&pb::GetScreeningResponse { file_missing: true, ..good.clone() }), Level::Fail);
}
