//! Instants that nobody means: a year before all years in what officers sign, one officer's word about the clock, and what is ended
//! while the record's time lies ahead of the clock.

use countersign::app::Term;
use countersign::domain::approval::Mandate;
use countersign::domain::certificate::AuthorityKind;
use countersign::domain::codec::{from_bytes, to_bytes};
use countersign::domain::command::Command;
use countersign::domain::id::AnnouncementId;
use countersign::domain::revocation::{RevocationReason, RevocationScope, StopScope};
use countersign::domain::time::Timestamp;
use countersign::env::{Clock as _, Entropy as _, SystemEntropy};
use countersign::pb;
use countersign::x509::TrustBundle;
use countersign::x509::crl_read;
use tonic::Code;

use crate::calls::{denied, enrolled, refused};
use crate::world::World;

const REASON: RevocationReason = RevocationReason::Drill;
const HOUR_MS: i64 = 3_600_000;
/// In the year -5, which RFC 3339 cannot write.
const BEFORE_ALL_YEARS: i64 = -62_325_072_000_000;

#[tokio::test(flavor = "multi_thread")]
async fn a_mandate_of_a_year_before_all_years_is_refused_and_the_service_goes_on() {
    let world = World::start().await;
    let entity = world.applicant().await;
    let prepared = world.mandate(&Command::ActivateEntity(entity)).await.unwrap();
    let mut mandate: Mandate = from_bytes(&prepared).unwrap();
    for millis in [BEFORE_ALL_YEARS, i64::MIN, i64::MAX] {
        mandate.made_at = Timestamp::from_millis(millis);
        let bytes = to_bytes(&mandate);
        let signed = vec![world.alice.approve(&bytes), world.bob.approve(&bytes)];
        refused(world.submit(bytes, signed).await, Code::Aborted, "older than seven days");
    }
    let stop = Command::Stop { scope: StopScope::All, reason: REASON };
    assert!(world.restrict(stop, pb::Wait::Committed).await.unwrap().durable);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_announced_for_a_year_before_all_years_is_cut_at_once_and_listed() {
    let world = World::start().await;
    let (entity, _, old) = enrolled(&world).await;
    let authority = world.running().app().state().authority(AuthorityKind::Access).unwrap().id;
    let serial = world.read(&old.certificate).serial;
    let bundle = TrustBundle::from_pem(&world.access_pem()).unwrap();
    for millis in [BEFORE_ALL_YEARS, i64::MIN] {
        let id = AnnouncementId::from_parts(world.clock.now(), SystemEntropy.bytes16());
        let cut_at = Timestamp::from_millis(millis);
        let scope = RevocationScope::Entity(entity);
        let command = Command::AnnounceRevocation { id, scope, cut_at, reason: REASON };
        assert!(world.restrict(command, pb::Wait::Enforced).await.unwrap().durable);
        denied(&world.mythos(&old.certificate).await, "CREDENTIAL_REVOKED");
        let list = world.running().app().crl(authority, 0).await.unwrap().unwrap();
        assert!(crl_read::read(&list.der, &bundle).unwrap().serials.contains(&serial));
        assert_eq!(world.running().app().trust_set(Term::Leased, None).await.unwrap().entries, 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_officer_who_proposes_a_wrong_clock_does_not_move_the_record() {
    let world = World::start().await;
    let right = world.clock.now();
    world.clock.set_wall(right.plus_ms(5 * 24 * HOUR_MS));
    let mandate = world.mandate(&Command::AcceptClock(world.clock.now())).await.unwrap();
    let alone = world.submit(mandate.clone(), vec![world.alice.approve(&mandate)]).await.unwrap();
    assert_eq!(alone.signatures_missing, 1);
    let time = world.running().app().state().time;
    assert!(time <= right.plus_ms(2_000), "{time}");
    // Both, and it is so: they said it.
    world
        .submit(mandate.clone(), vec![world.alice.approve(&mandate), world.bob.approve(&mandate)])
        .await
        .unwrap();
    assert_eq!(world.running().app().state().time, world.clock.now());
}

/// A world whose clock was two hours ahead, which officers accepted, and is right again, which they accepted too.
async fn standing_still() -> (World, countersign::domain::id::EntityId, Vec<u8>) {
    let world = World::start().await;
    let (entity, _, person) = enrolled(&world).await;
    let right = world.clock.now();
    for wall in [right.plus_ms(2 * HOUR_MS), right] {
        world.clock.set_wall(wall);
        denied(&world.mythos(&person.certificate).await, "CLOCK_UNTRUSTED");
        world.enact(Command::AcceptClock(world.clock.now())).await.unwrap();
    }
    assert!(world.mythos(&person.certificate).await.permit);
    assert!(world.running().app().state().time > world.clock.now().plus_ms(HOUR_MS));
    (world, entity, person.certificate)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grant_that_is_ended_while_the_record_lies_ahead_of_the_clock_has_ended() {
    let (world, entity, certificate) = standing_still().await;
    let grant = world.running().app().state().entities[&entity].card.grants[0].id;
    world.enact(Command::EndGrant { entity, grant }).await.unwrap();
    denied(&world.mythos(&certificate).await, "P-NO_GRANT");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_is_removed_while_the_record_lies_ahead_of_the_clock_is_none() {
    let (world, entity, _) = standing_still().await;
    let determination = "2026-06-26-lift".parse().unwrap();
    let revision = world.running().app().state().annexes[&determination] + 1;
    let remove = vec![entity];
    world.enact(Command::AmendAnnex { determination, revision, add: vec![], remove }).await.unwrap();
    let state = world.running().app().state();
    let held = state.entities[&entity]
        .card
        .memberships
        .iter()
        .any(|membership| membership.interval.until.is_none_or(|until| until > world.clock.now()));
    assert!(!held, "{:?}", state.entities[&entity].card.memberships);
}
