//! Blocks of public keys over real mTLS: gates deny, lists name the ordinals, and nobody gets a certificate for the key.

use std::sync::Arc;

use countersign::app::Term;
use countersign::domain::command::Command;
use countersign::domain::decision::Denial;
use countersign::domain::id::{Digest, PrincipalId};
use countersign::domain::revocation::RevocationReason;
use countersign::pb;
use countersign::pb::attestation_service_client::AttestationServiceClient;
use countersign::pb::revocation_service_client::RevocationServiceClient;
use countersign::x509::crl_read;
use countersign::x509::{ClientKey, TrustBundle};
use tonic::Code;

use crate::calls::{denied, enrolled, key, refused};
use crate::gate::{PATIENCE, STRONG, connect, permits, question, until};
use crate::world::World;

const REASON: RevocationReason = RevocationReason::KeyCompromise;

fn block(key: Digest) -> Command {
    Command::BlockKey { key, reason: REASON }
}

fn digest(key: &ClientKey) -> Digest {
    key.public_key().digest()
}

impl World {
    /// The serials of the list that proxies are pushed.
    async fn pushed_serials(&self) -> Vec<String> {
        let set = self.running().app().trust_set(Term::Leased, None).await.unwrap();
        let der = pem::parse(set.crl.as_ref()).unwrap().into_contents();
        let bundle = TrustBundle::from_pem(&self.access_pem()).unwrap();
        crl_read::read(&der, &bundle).unwrap().serials.iter().map(ToString::to_string).collect()
    }

    /// The serials of the list that relying parties fetch.
    async fn fetched_serials(&self, certificate: &[u8]) -> Vec<String> {
        let ordinal = self.read(certificate).ordinal;
        let app = Arc::clone(self.running().app());
        let list = app.crl(self.read(certificate).issuer, ordinal.0 / 10_000).await.unwrap().unwrap();
        let pem = [self.access_pem(), self.system_pem()].concat();
        let bundle = TrustBundle::from_pem(&pem).unwrap();
        crl_read::read(&list.der, &bundle).unwrap().serials.iter().map(ToString::to_string).collect()
    }

    async fn restrictions(&self) -> pb::ListRestrictionsResponse {
        let mut client = RevocationServiceClient::new(self.alice());
        client.list_restrictions(pb::ListRestrictionsRequest {}).await.unwrap().into_inner()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gate_denies_a_blocked_key_and_every_list_names_its_certificates() {
    let mut world = World::start().await;
    let (_, subject, caller) = enrolled(&world).await;
    let other = world.enroll(subject).await;
    let gateway = world.gateway("gw-1").await;
    let address = world.running().address();
    let gate = connect(&world, (&gateway, address), STRONG, &world.clock).await;
    let leaf = &caller.certificate;
    for leaf in [leaf, &other.certificate] {
        assert!(gate.decide_or_ask(leaf, &question("mythos-5")).await.is_permit);
        until(&gate, leaf, permits).await;
    }
    let before = world.running().app().state().position.seq.0;
    let done = world.restrict(block(digest(&caller.key)), pb::Wait::Enforced).await.unwrap();
    assert_eq!(done.status(), pb::EnforcementStatus::Enforced, "{done:?}");
    assert!(done.acked.contains(&"gw-1".to_owned()) && done.position.unwrap().seq == before + 1, "{done:?}");
    assert_eq!(gate.decide(leaf, &question("mythos-5")).decision.denials, [Denial::CredentialRevoked]);
    assert!(permits(&gate, &other.certificate));
    denied(&world.mythos(leaf).await, "CREDENTIAL_REVOKED");
    gate.shutdown().await;

    let serials = [world.read(leaf).serial.to_string()];
    assert_eq!(world.pushed_serials().await, serials);
    assert_eq!(world.fetched_serials(leaf).await, serials);
    assert_eq!(world.restrictions().await.blocked_keys, [digest(&caller.key).to_string()]);
    // Again: the same, and nothing more. After a restart too, from the snapshot and from the record.
    world.restrict(block(digest(&caller.key)), pb::Wait::Committed).await.unwrap();
    world.close().await;
    world.open().await;
    denied(&world.mythos(leaf).await, "CREDENTIAL_REVOKED");
    assert!(world.mythos(&other.certificate).await.permit);
    assert_eq!(world.fetched_serials(leaf).await, serials);
    assert_eq!(world.restrictions().await.blocked_keys_total, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blocked_key_is_never_certified_again_and_its_holder_is_told() {
    let world = World::start().await;
    let (_, subject, caller) = enrolled(&world).await;
    // A key that nobody has seen.
    let unseen = key();
    world.restrict(block(digest(&unseen)), pb::Wait::Committed).await.unwrap();
    let token = world.token(subject).await;
    refused(world.redeem(&token, &unseen).await, Code::InvalidArgument, "KEY_BLOCKED");
    let channel = world.connect_as(&caller).await;
    refused(world.renew(&channel, &unseen).await, Code::InvalidArgument, "KEY_BLOCKED");
    // Nothing was spent: another key gets both.
    let next = key();
    world.redeem(&token, &next).await.unwrap();
    world.renew(&channel, &key()).await.unwrap();
    // What was issued to a key is not handed out again when it is blocked, and its holder renews nothing.
    world.restrict(block(digest(&next)), pb::Wait::Committed).await.unwrap();
    refused(world.redeem(&token, &next).await, Code::InvalidArgument, "KEY_BLOCKED");
    world.restrict(block(digest(&caller.key)), pb::Wait::Committed).await.unwrap();
    refused(world.renew(&channel, &key()).await, Code::Unauthenticated, "CREDENTIAL_REVOKED");
    // Two officers give it back; what was issued stays revoked.
    world.enact(Command::UnblockKey(digest(&unseen))).await.unwrap();
    let issued = world.redeem(&world.token(subject).await, &unseen).await.unwrap();
    assert!(world.mythos(&issued).await.permit);
    world.enact(Command::UnblockKey(digest(&caller.key))).await.unwrap();
    denied(&world.mythos(&caller.certificate).await, "CREDENTIAL_REVOKED");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_principal_with_a_blocked_key_calls_nothing_and_is_listed() {
    let world = World::start().await;
    let gateway = world.gateway("gw-1").await;
    let address = world.running().address();
    let gate = connect(&world, (&gateway, address), STRONG, &world.clock).await;
    let channel = world.connect_as(&gateway).await;
    world.restrict(block(digest(&gateway.key)), pb::Wait::Committed).await.unwrap();
    let name: PrincipalId = "gw-1".parse().unwrap();
    let request = pb::IssuePrincipalCertificateRequest {
        principal: name.to_string(),
        csr: gateway.key.request().unwrap().into(),
    };
    let mut officer = AttestationServiceClient::new(world.alice());
    refused(officer.issue_principal_certificate(request).await, Code::InvalidArgument, "KEY_BLOCKED");
    let mut own = AttestationServiceClient::new(channel);
    let answer = own.get_trust_bundle(pb::GetTrustBundleRequest {}).await;
    refused(answer, Code::Unauthenticated, "");
    let serial = world.read(&gateway.certificate).serial.to_string();
    assert_eq!(world.fetched_serials(&gateway.certificate).await, [serial]);
    // Its stream ends and no other begins.
    let ended = async {
        while !world.running().app().feed().sessions().iter().all(|session| !session.is_connected) {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, ended).await.expect("the stream of a blocked gateway ends");
    gate.shutdown().await;
}
