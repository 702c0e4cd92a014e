//! Canaries: certificates of the access authority that TLS accepts and that nothing is ever permitted to.

use std::time::Duration;

use countersign::domain::certificate::{AuthorityKind, CanaryFacts, CanarySide, Facts};
use countersign::domain::command::Command;
use countersign::domain::id::Ordinal;
use countersign::domain::person::EvidenceKind;
use countersign::domain::revocation::{RevocationReason, RevocationScope};
use countersign::pb;
use countersign::pb::attestation_service_client::AttestationServiceClient;
use countersign::x509::explain::{Standing, explain};
use countersign::x509::{ClientKey, Curve};
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::world::{Caller, World};

fn keys() -> [ClientKey; 2] {
    [(); 2].map(|()| ClientKey::generate(Curve::P256).unwrap())
}

async fn issue(gateway: &Channel, keys: &[ClientKey; 2]) -> Result<[Vec<u8>; 2], Status> {
    let [csr_a, csr_b] = keys.each_ref().map(|key| key.request().unwrap().into());
    let request = pb::IssueCanariesRequest { csr_a, csr_b };
    let issued = AttestationServiceClient::new(gateway.clone()).issue_canaries(request).await?.into_inner();
    Ok([issued.certificate_a.to_vec(), issued.certificate_b.to_vec()])
}

fn ordinal(world: &World, der: &[u8]) -> Ordinal {
    world.running().app().read_certificate(der).unwrap().ordinal
}

#[tokio::test(flavor = "multi_thread")]
async fn canaries_are_issued_like_every_certificate_and_permitted_nothing() {
    let world = World::start().await;
    world.partner().await;
    let gateway = world.gateway("gw-1").await;
    let channel = world.connect_as(&gateway).await;
    let (first, second) = (keys(), keys());
    let issued = issue(&channel, &first).await.unwrap();
    assert_eq!(issue(&channel, &first).await.unwrap(), issued, "the same keys get the same certificates");

    let app = world.running().app();
    for (der, side) in issued.iter().zip(CanarySide::ALL) {
        let certificate = app.read_certificate(der).unwrap();
        let facts = CanaryFacts { gateway: "gw-1".parse().unwrap(), side: *side };
        assert_eq!(certificate.facts, Facts::Canary(facts.clone()));
        assert_eq!(explain(der, app.profile()).unwrap().standing, Standing::Canary);
        assert_eq!(app.state().canaries[&facts].serial, certificate.serial);
        let decision = world.evaluate(&channel, der, "mythos-5").await;
        assert_eq!((decision.permit, decision.code.as_str()), (false, "CREDENTIAL_WRONG_KIND"));
        let indexed = async {
            while app.certificates().applied_seq() < app.state().position.seq {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), indexed).await.expect("the index follows the record");
        let row = app.certificates().by_serial(&certificate.serial).unwrap().unwrap();
        assert_eq!((row.authority, row.entity, row.hash.is_some()), (AuthorityKind::Access, None, true));
        assert_eq!(row.principal.as_ref().map(ToString::to_string).as_deref(), Some("gw-1"));
    }

    let renewed = issue(&channel, &second).await.unwrap();
    assert!(ordinal(&world, &renewed[0]) > ordinal(&world, &issued[1]));
    // A key is in one certificate at a time, and a replaced one may not come back as another's.
    let swapped = second.into_iter().rev().collect::<Vec<_>>().try_into().unwrap_or_else(|_| unreachable!());
    assert_eq!(issue(&channel, &swapped).await.unwrap_err().code(), Code::InvalidArgument);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_canary_is_a_credential_nowhere_and_only_gateways_get_one() {
    let world = World::start().await;
    let entity = world.partner().await;
    let gateway = world.gateway("gw-1").await;
    let channel = world.connect_as(&gateway).await;
    let keys = keys();
    let [a, _] = issue(&channel, &keys).await.unwrap();
    let [key, _] = keys;
    let canary = Caller { key, certificate: a };
    let stranger = world.connect_as(&canary).await;
    assert_eq!(issue(&stranger, &self::keys()).await.unwrap_err().code(), Code::Unauthenticated);
    let officer = issue(&world.alice(), &self::keys()).await.unwrap_err();
    assert_eq!(officer.code(), Code::PermissionDenied);
    let person = world.enroll(world.person(entity, "EMPLOYEE", EvidenceKind::NoUsStatus).await).await;
    let person = world.connect_as(&person).await;
    assert_eq!(issue(&person, &self::keys()).await.unwrap_err().code(), Code::PermissionDenied);

    // Revoked by number like every certificate, and on the list of its shard.
    let scope = RevocationScope::Certificate(ordinal(&world, &canary.certificate));
    let command = Command::Revoke { scope, reason: RevocationReason::KeyCompromise };
    world.restrict(command, pb::Wait::Committed).await.unwrap();
    let app = world.running().app();
    let authority = app.state().authority(AuthorityKind::Access).unwrap().id;
    let list = app.crl(authority, 0).await.unwrap().unwrap();
    let serial = *app.read_certificate(&canary.certificate).unwrap().serial.as_bytes();
    assert!(list.der.windows(serial.len()).any(|bytes| bytes == serial), "its serial is on the list");

    // A removed gateway gets none.
    world.enact(Command::RemovePrincipal("gw-1".parse().unwrap())).await.unwrap();
    assert_eq!(issue(&channel, &self::keys()).await.unwrap_err().code(), Code::Unauthenticated);
}
