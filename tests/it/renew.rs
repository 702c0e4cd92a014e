//! Renewal: over mTLS with the certificate that is renewed. Every rule runs again and nothing is copied; a second
//! renewal of one generation with another key shows a copy, and locks the lineage.

use countersign::app::store;
use countersign::domain::command::Command;
use countersign::domain::event::Event;
use countersign::domain::grant::Grant;
use countersign::domain::id::{GrantId, LineageId, Seq};
use countersign::domain::person::EvidenceKind;
use countersign::domain::revocation::{RevocationReason, RevocationScope, SuspensionTarget};
use countersign::domain::time::Interval;
use countersign::env::{Clock as _, Entropy as _, SystemEntropy};
use countersign::pb;
use tonic::Code;

use crate::calls::{denied, enrolled, key, refused};
use crate::world::{Caller, World};

const HOUR_MS: u32 = 3_600_000;

#[tokio::test(flavor = "multi_thread")]
async fn a_renewal_is_the_next_generation_with_a_new_key() {
    let mut world = World::start().await;
    let (_, subject, caller) = enrolled(&world).await;
    world.clock.advance_ms(12 * HOUR_MS);
    let channel = world.connect_as(&caller).await;
    let next = key();
    let renewed = world.renew(&channel, &next).await.unwrap();
    let (before, after) = (world.facts(&caller.certificate), world.facts(&renewed));
    assert_eq!((after.subject, after.step.lineage), (subject, before.step.lineage));
    assert_eq!((before.step.generation, after.step.generation), (1, 2));
    let (old, new) = (world.read(&caller.certificate), world.read(&renewed));
    assert!(new.ordinal > old.ordinal && new.not_after > old.not_after && new.serial != old.serial);
    assert_eq!(new.key, next.public_key().digest());
    // Both are good until the old one expires.
    assert!(world.mythos(&caller.certificate).await.permit);
    assert!(world.mythos(&renewed).await.permit);
    // The answer was lost: the same key gets the same certificate, after a restart too.
    assert_eq!(world.renew(&channel, &next).await.unwrap(), renewed);
    world.close().await;
    world.open().await;
    let channel = world.connect_as(&caller).await;
    assert_eq!(world.renew(&channel, &next).await.unwrap(), renewed);
    // The third generation follows from the second.
    let second = Caller { key: next, certificate: renewed };
    let third = world.renew(&world.connect_as(&second).await, &key()).await.unwrap();
    assert_eq!(world.facts(&third).step.generation, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewal_states_the_facts_of_now() {
    let world = World::start().await;
    let (entity, subject, caller) = enrolled(&world).await;
    let id = GrantId::from_parts(world.clock.now(), SystemEntropy.bytes16());
    let grant = Grant {
        id,
        model: "mythos-5-defender".parse().unwrap(),
        interval: Interval { from: world.clock.now().plus_ms(-60_000), until: None },
        forms: vec![],
        countries: vec![],
        purposes: vec![],
    };
    world.enact(Command::GrantModel { entity, grant }).await.unwrap();
    let channel = world.connect_as(&caller).await;
    let next = key();
    let renewed = world.renew(&channel, &next).await.unwrap();
    let models = |der: &[u8]| world.facts(der).models.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(models(&caller.certificate), ["mythos-5"]);
    assert_eq!(models(&renewed), ["mythos-5", "mythos-5-defender"]);
    // Without any grant there is nothing to state, and no renewal.
    let held: Vec<_> =
        world.running().app().state().entities[&entity].card.grants.iter().map(|grant| grant.id).collect();
    for grant in held {
        world.enact(Command::EndGrant { entity, grant }).await.unwrap();
    }
    let channel = world.connect_as(&Caller { key: next, certificate: renewed }).await;
    world.not_issuable(world.renew(&channel, &key()).await, subject, "without an active grant").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_relation_cuts_off_the_certificate_and_its_renewal() {
    let world = World::start().await;
    let (_, subject, caller) = enrolled(&world).await;
    let channel = world.connect_as(&caller).await;
    world.attest(subject, "CONTRACTOR", "").await.unwrap();
    denied(&world.mythos(&caller.certificate).await, "CREDENTIAL_REVOKED");
    refused(world.renew(&channel, &key()).await, Code::Unauthenticated, "CREDENTIAL_REVOKED");
    // Employed again, the old certificate stays cut off.
    world.attest(subject, "EMPLOYEE", "").await.unwrap();
    denied(&world.mythos(&caller.certificate).await, "CREDENTIAL_REVOKED");
    refused(world.renew(&channel, &key()).await, Code::Unauthenticated, "CREDENTIAL_REVOKED");
    assert!(world.mythos(&world.enroll(subject).await.certificate).await.permit);
}

impl World {
    /// The lineages that the record says are locked, in its order.
    fn locks(&self) -> Vec<LineageId> {
        let records = self.running().app().journal().read(Seq(1), 10_000).unwrap();
        let events = records.iter().map(|record| store::entry_of(record).unwrap().event);
        let locked = |event| if let Event::LineageLocked(lineage) = event { Some(lineage) } else { None };
        events.filter_map(locked).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_renewal_with_another_key_locks_the_lineage_and_nothing_else() {
    let mut world = World::start().await;
    let (entity, subject, caller) = enrolled(&world).await;
    let colleague = world.enroll(world.person(entity, "EMPLOYEE", EvidenceKind::NoUsStatus).await).await;
    let channel = world.connect_as(&caller).await;
    let stolen = key();
    let thief = world.renew(&channel, &stolen).await.unwrap();
    // The same key again is a lost reply: the same certificate, and nothing happens.
    assert_eq!(world.renew(&channel, &stolen).await.unwrap(), thief);
    assert!(world.mythos(&thief).await.permit && world.locks().is_empty());
    refused(world.renew(&channel, &key()).await, Code::PermissionDenied, "lineage is locked");
    // An event of its own, by name in the record, once.
    let lineage = world.facts(&thief).step.lineage;
    assert_eq!(world.locks(), [lineage]);
    for round in 0..2 {
        denied(&world.mythos(&caller.certificate).await, "CREDENTIAL_LINEAGE_LOCKED");
        denied(&world.mythos(&thief).await, "CREDENTIAL_LINEAGE_LOCKED");
        assert!(world.mythos(&colleague.certificate).await.permit);
        if round == 0 {
            refused(world.renew(&channel, &key()).await, Code::Unauthenticated, "LINEAGE_LOCKED");
            world.close().await;
            world.open().await;
        }
    }
    // The same person enrolls anew.
    assert!(world.mythos(&world.enroll(subject).await.certificate).await.permit);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_renewals_at_once_at_most_one_certificate_stays_good() {
    let world = World::start().await;
    let (_, _, caller) = enrolled(&world).await;
    let (one, two) = (world.connect_as(&caller).await, world.connect_as(&caller).await);
    let (first, second) = (key(), key());
    let (a, b) = tokio::join!(world.renew(&one, &first), world.renew(&two, &second));
    let issued: Vec<_> = [a, b].into_iter().flatten().collect();
    assert_eq!(issued.len(), 1, "one of them is shown to be a copy");
    denied(&world.mythos(&issued[0]).await, "CREDENTIAL_LINEAGE_LOCKED");
    denied(&world.mythos(&caller.certificate).await, "CREDENTIAL_LINEAGE_LOCKED");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewal_needs_a_new_key() {
    let world = World::start().await;
    let (entity, _, caller) = enrolled(&world).await;
    let channel = world.connect_as(&caller).await;
    refused(world.renew(&channel, &caller.key).await, Code::InvalidArgument, "a renewal needs a new key");
    let colleague = world.enroll(world.person(entity, "EMPLOYEE", EvidenceKind::NoUsStatus).await).await;
    refused(world.renew(&channel, &colleague.key).await, Code::InvalidArgument, "in use already");
    // None of that cost anything.
    assert!(world.mythos(&caller.certificate).await.permit);
    world.renew(&channel, &key()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_revoked_held_or_expired_cannot_renew() {
    let world = World::start().await;
    let (_, subject, caller) = enrolled(&world).await;
    let ordinal = world.read(&caller.certificate).ordinal;
    let channel = world.connect_as(&caller).await;
    let reason = RevocationReason::Drill;
    world.restrict(Command::Hold { ordinal, reason }, pb::Wait::Committed).await.unwrap();
    refused(world.renew(&channel, &key()).await, Code::Unauthenticated, "CREDENTIAL_HELD");
    world.enact(Command::ReleaseHold(ordinal)).await.unwrap();
    let target = SuspensionTarget::Subject(subject);
    world.restrict(Command::Suspend { target, reason }, pb::Wait::Committed).await.unwrap();
    world.not_issuable(world.renew(&channel, &key()).await, subject, "suspended").await;
    world.enact(Command::Unsuspend(target)).await.unwrap();
    let scope = RevocationScope::Certificate(ordinal);
    world.restrict(Command::Revoke { scope, reason }, pb::Wait::Committed).await.unwrap();
    refused(world.renew(&channel, &key()).await, Code::Unauthenticated, "CREDENTIAL_REVOKED");

    let other = world.enroll(subject).await;
    let channel = world.connect_as(&other).await;
    // The connection is open before the certificate ends.
    refused(world.renew(&channel, &other.key).await, Code::InvalidArgument, "new key");
    world.clock.advance_ms(25 * HOUR_MS);
    refused(world.renew(&channel, &key()).await, Code::Unauthenticated, "your certificate is refused");
    // And a new connection is not accepted at all.
    assert!(world.renew(&world.connect_as(&other).await, &key()).await.is_err());
}
