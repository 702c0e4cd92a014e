//! A certificate of an officer or a gateway that has ended may be renewed by its registered key, and does nothing else.

use countersign::domain::certificate::PrincipalKind;
use countersign::domain::command::Command;
use countersign::domain::officer_command::OfficerCommand;
use countersign::domain::principal::Role;
use countersign::domain::revocation::RevocationReason;
use countersign::pb;
use countersign::pb::attestation_service_client::AttestationServiceClient;
use countersign::pb::mandate_service_client::MandateServiceClient;
use countersign::x509::ClientKey;
use tonic::{Code, Status};

use crate::calls::{key, reason, refused};
use crate::forge::{Forgery, seconds};
use crate::world::{Caller, World};

const DAY_S: i64 = 86_400;
const REASON: RevocationReason = RevocationReason::KeyCompromise;

/// The caller's certificate as it would be if it had ended so many seconds ago.
fn ended(world: &World, caller: &Caller, ago_s: i64) -> Vec<u8> {
    let mut forgery = Forgery::of(world, &caller.certificate);
    (forgery.not_before, forgery.not_after) = (seconds(world, -ago_s - DAY_S), seconds(world, -ago_s));
    forgery.sign(world, &caller.key)
}

async fn renew(world: &World, caller: &Caller, ago_s: i64, with: &ClientKey) -> Result<Vec<u8>, Status> {
    let channel = world.connect(Some((&caller.key, &ended(world, caller, ago_s)))).await;
    let request = pb::RenewPrincipalCertificateRequest { csr: with.request().unwrap().into() };
    let answer = AttestationServiceClient::new(channel).renew_principal_certificate(request).await?;
    Ok(answer.into_inner().certificate.to_vec())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ended_certificate_renews_with_its_key_for_ninety_days_and_does_nothing_else() {
    let world = aged().await;
    let erin = world.principal("erin", (PrincipalKind::Officer, &[Role::Approver]), None).await;
    let gateway = world.gateway("gw-1").await;
    for caller in [&erin, &gateway] {
        for ago_s in [1, DAY_S, 90 * DAY_S - 5] {
            let certificate = renew(&world, caller, ago_s, &caller.key).await.unwrap();
            assert!(world.verify(&certificate).await.valid);
        }
        // Another key is not the registered one, whoever asks.
        refused(renew(&world, caller, 60, &key()).await, Code::InvalidArgument, "csr");
        // Too long ago: the handshake fails, as for any other ended certificate.
        let late = renew(&world, caller, 90 * DAY_S + 5, &caller.key).await.unwrap_err();
        assert!(!matches!(late.code(), Code::Ok | Code::Unauthenticated), "{late:?}");
    }
    let channel = world.connect(Some((&erin.key, &ended(&world, &erin, 60)))).await;
    let list = pb::ListProposalsRequest::default();
    let read = MandateServiceClient::new(channel).list_proposals(list).await;
    let read = read.unwrap_err();
    assert_eq!(reason(&read), "CREDENTIAL_EXPIRED");
    refused(Err::<(), _>(read), Code::Unauthenticated, "may renew it and do nothing else");
}

/// A service that has run for 96 days: no certificate is older than its authority.
async fn aged() -> World {
    let mut world = World::start().await;
    for _ in 0..16 {
        // The clock walks with the machine, and a start after more than seven days asks the officers.
        world.clock.advance_ms(6 * 86_400_000);
        world.close().await;
        world.open().await;
    }
    world
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ended_certificate_of_who_may_not_act_renews_nothing() {
    let world = World::start().await;
    world.clock.advance_ms(2 * 86_400_000);
    let entity = world.partner().await;
    let roles = [Role::PartnerAdmin];
    let partner = world.principal("partner-1", (PrincipalKind::Partner, &roles), Some(entity)).await;
    let mut callers = vec![("a partner", partner)];
    for (name, step) in [("suspended", 0), ("removed", 1), ("blocked", 2)] {
        let caller = world.principal(name, (PrincipalKind::Officer, &[Role::Vetter]), None).await;
        let id = name.parse().unwrap();
        let command = match step {
            0 => Command::Officers(OfficerCommand::Suspend { principal: id, reason: REASON }),
            1 => Command::RemovePrincipal(id),
            _ => Command::BlockKey { key: caller.key.public_key().digest(), reason: REASON },
        };
        world.enact(command).await.unwrap();
        callers.push((name, caller));
    }
    for (name, caller) in &callers {
        assert!(renew(&world, caller, 60, &caller.key).await.is_err(), "{name}");
    }
}
