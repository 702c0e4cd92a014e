//! The whole path once, over real mTLS: onboard, issue, permit, revoke, deny.

use countersign::domain::command::Command;
use countersign::domain::id::Ordinal;
use countersign::domain::person::EvidenceKind;
use countersign::domain::revocation::{RevocationReason, RevocationScope};
use countersign::pb;

use crate::world::World;

#[tokio::test(flavor = "multi_thread")]
async fn a_partner_s_foreign_employee_is_permitted_until_revoked() {
    let world = World::start().await;
    let entity = world.partner().await;
    let subject = world.person(entity, "EMPLOYEE", EvidenceKind::NoUsStatus).await;
    let caller = world.enroll(subject).await;
    let gateway = world.gateway("gw-1").await;
    let channel = world.connect(Some((&gateway.key, &gateway.certificate))).await;

    let decision = world.evaluate(&channel, &caller.certificate, "Claude Mythos 5").await;
    assert_eq!((decision.permit, decision.legal.as_str(), decision.rule.as_str()), (true, "EXEMPT", "L-21"));
    // The same certificate grants nothing for Fable.
    let fable = world.evaluate(&channel, &caller.certificate, "fable-5").await;
    assert!(!fable.permit);
    assert_eq!((fable.legal.as_str(), fable.policy.as_str()), ("LICENSE_REQUIRED", "P-SUSPEND_ALL"));

    let ordinal = world.running().app().read_certificate(&caller.certificate).unwrap().ordinal;
    assert_eq!(ordinal, Ordinal(1));
    let scope = RevocationScope::Certificate(ordinal);
    let done = world
        .restrict(Command::Revoke { scope, reason: RevocationReason::Drill }, pb::Wait::Committed)
        .await
        .unwrap();
    assert!(done.durable);
    let decision = world.evaluate(&channel, &caller.certificate, "mythos-5").await;
    assert!(!decision.permit);
    assert_eq!(decision.denials, ["CREDENTIAL_REVOKED"]);
}
