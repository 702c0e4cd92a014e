//! Beneath an offline root: who is recovered and who proves a proxy are given the chain, and "renew now, cut at T" reaches what
//! an authority beneath a root issued, in gateways and in lists that are checked up to the root.

use std::time::Duration;

use countersign::app::Term;
use countersign::client::Gate;
use countersign::domain::certificate::{AuthorityKind, PrincipalKind};
use countersign::domain::command::Command;
use countersign::domain::id::AuthorityId;
use countersign::domain::person::EvidenceKind;
use countersign::domain::principal::Role;
use countersign::domain::revocation::{RevocationReason, RevocationScope};
use countersign::domain::time::Timestamp;
use countersign::env::Clock as _;
use countersign::pb;
use countersign::pb::attestation_service_client::AttestationServiceClient;
use countersign::x509::chain_pem;

use crate::announced::{seen, watch, window};
use crate::beneath::{Ceremony, beneath, listener, openssl_says, put, refused};
use crate::calls::{denied, key, openssl};
use crate::envoy_sds::pem;
use crate::gate::{self, STRONG, permits, question};
use crate::recovery;
use crate::world::{Caller, World};

const ACCESS: AuthorityKind = AuthorityKind::Access;
const SYSTEM: AuthorityKind = AuthorityKind::System;
const DAY_MS: i64 = 86_400_000;
const HOUR_MS: u32 = 3_600_000;
const REASON: RevocationReason = RevocationReason::CaCompromise;

impl World {
    /// Waits until its gateways know an authority, and issues from it.
    async fn activated(&self, id: AuthorityId) {
        let activated = async {
            while self.enact(Command::ActivateAuthority(id)).await.is_err() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(gate::PATIENCE, activated).await.expect("the gate acknowledges it");
    }

    fn certificate_of(&self, kind: AuthorityKind) -> Vec<u8> {
        self.running().app().state().authority(kind).unwrap().certificate.clone()
    }

    async fn canaries(&self, gateway: &Caller) -> pb::IssueCanariesResponse {
        let csr = || key().request().unwrap().into();
        let request = pb::IssueCanariesRequest { csr_a: csr(), csr_b: csr() };
        let mut client = AttestationServiceClient::new(self.connect_as(gateway).await);
        client.issue_canaries(request).await.unwrap().into_inner()
    }
}

/// Who trusts nothing but the root follows this chain.
fn follows(ceremony: &Ceremony, leaf: &[u8], above: &[impl AsRef<[u8]>], at: Timestamp) -> bool {
    let dir = tempfile::tempdir().unwrap();
    let chain = put(dir.path(), "chain.pem", chain_pem(leaf, above).unwrap().as_bytes());
    let root = put(dir.path(), "root.pem", pem(ceremony.root.certificate().der()).as_bytes());
    let at = at.seconds().to_string();
    let verify = ["verify", "-x509_strict", "-attime", &at, "-CAfile", &root, "-untrusted", &chain, &chain];
    openssl(&verify, b"").0
}

#[tokio::test(flavor = "multi_thread")]
async fn canaries_and_recovered_officers_are_given_the_chain_up_to_the_root() {
    let world = World::start().await;
    let gateway = world.gateway("gw-1").await;
    let alone = world.canaries(&gateway).await;
    assert!(alone.chain_a.is_empty() && alone.chain_b.is_empty(), "their authority is self-signed");
    let until = world.clock.now().plus_ms(20 * DAY_MS);
    let (ceremony, _) = beneath(&world, &[ACCESS, SYSTEM], until).await;
    let issued = world.canaries(&gateway).await;
    for (leaf, chain) in [(&issued.certificate_a, &issued.chain_a), (&issued.certificate_b, &issued.chain_b)]
    {
        assert_eq!(*chain, [world.certificate_of(ACCESS)]);
        assert!(follows(&ceremony, leaf, chain, world.clock.now()));
        assert!(!follows(&ceremony, leaf, &[] as &[Vec<u8>], world.clock.now()), "alone it leads nowhere");
    }

    let carol = key();
    let new = recovery::officer("carol", &carol);
    let bytes = recovery::prepared(&world, Command::RegisterPrincipal(new));
    let signatures: Vec<_> = world.recovery.iter().take(2).map(|key| recovery::by(key, &bytes)).collect();
    let ask = || recovery::request(&bytes, signatures.clone(), &carol);
    let announced = recovery::submit(&world, ask()).await.unwrap();
    assert!(announced.certificate.is_empty() && announced.chain.is_empty());
    world.clock.advance_ms(24 * HOUR_MS);
    recovery::over(&world).await;
    let effective = recovery::submit(&world, ask()).await.unwrap();
    assert_eq!(effective.chain, [world.certificate_of(SYSTEM)]);
    assert!(follows(&ceremony, &effective.certificate, &effective.chain, world.clock.now()));
}

/// A set with what it says of a chain, leaf first, at an instant.
async fn lists_say(world: &World, caller: &Caller, at: Timestamp) -> Result<(), String> {
    let set = world.running().app().trust_set(Term::Unleased, None).await.unwrap();
    openssl_says(&set, &world.chain_pem(caller), at)
}

fn answers(code: &str) -> impl Fn(&Gate, &[u8]) -> bool {
    move |gate, leaf| gate.decide(leaf, &question("mythos-5")).decision.code() == code
}

#[tokio::test(flavor = "multi_thread")]
async fn an_announcement_beneath_a_root_is_counted_down_and_whoever_renews_gets_the_next_chain() {
    let world = World::start().await;
    let far = world.clock.now().plus_ms(20 * DAY_MS);
    let (ceremony, old) = beneath(&world, &[ACCESS], far).await;
    let entity = world.partner().await;
    let subject = world.person(entity, "EMPLOYEE", EvidenceKind::NoUsStatus).await;
    let first = world.enroll(subject).await;
    let second = world.enroll(world.person(entity, "EMPLOYEE", EvidenceKind::NoUsStatus).await).await;
    let roles = [Role::PartnerAdmin];
    let admin = world.principal("partner-1", (PrincipalKind::Partner, &roles), Some(entity)).await;
    let gate = gate::gate(&world, "gw-1", STRONG, &world.clock).await;
    gate.want(entity);
    gate::until(&gate, &first.certificate, permits).await;
    // Another authority beneath the same root issues from now on, and what the first issued is to be renewed within the hour.
    let next = world.prepare_beneath(&ceremony, ACCESS).await;
    world.activated(next).await;
    let (_, cut_at) = world.announce(RevocationScope::Issuer(old), HOUR_MS).await;

    let mut officer = watch(world.alice()).await;
    let mut partner = watch(world.connect_as(&admin).await).await;
    let shown = seen(&mut officer, |rows| rows.iter().any(|row| row.state == "ANNOUNCED")).await;
    let row = shown.iter().find(|row| row.state == "ANNOUNCED").unwrap();
    assert_eq!((row.affected, row.renewed, row.left), (2, 0, 2), "{row:?}");
    assert_eq!((row.cut_at.as_str(), row.scope.as_str()), (&*cut_at.to_string(), &*format!("issuer {old}")));
    let own = seen(&mut partner, |rows| rows.iter().any(|row| row.state == "ANNOUNCED")).await;
    let own = own.iter().find(|row| row.state == "ANNOUNCED").unwrap();
    assert_eq!((own.left, own.certificates.len(), own.cut_at.as_str()), (2, 2, &*cut_at.to_string()));
    let early = window(&world, &first).await;
    assert_eq!((early.cause.as_str(), early.renew_from.parse()), ("ANNOUNCED", Ok(world.clock.now())));
    assert!(early.renew_until.parse::<Timestamp>().unwrap() < cut_at);

    // Who renews is given the next authority with it, as the root certified it.
    let mine = key();
    let mut client = AttestationServiceClient::new(world.connect_as(&first).await);
    let csr = mine.request().unwrap().into();
    let renewed = client.renew(pb::RenewRequest { csr }).await.unwrap().into_inner();
    assert_eq!(world.read(&renewed.certificate).issuer, next);
    assert_eq!(renewed.chain, [world.certificate_of(ACCESS)]);
    assert!(follows(&ceremony, &renewed.certificate, &renewed.chain, world.clock.now()));
    let renewed = Caller { key: mine, certificate: renewed.certificate.to_vec() };
    let counted = seen(&mut officer, |rows| rows.iter().any(|row| row.renewed == 1)).await;
    assert!(counted.iter().any(|row| (row.state.as_str(), row.affected, row.left) == ("ANNOUNCED", 2, 1)));
    for caller in [&first, &second, &renewed] {
        gate::until(&gate, &caller.certificate, permits).await;
        assert_eq!(lists_say(&world, caller, world.clock.now()).await, Ok(()));
    }
    // No set is good beyond the instant; and not beyond the list of the root, when that ends before it.
    let set = world.running().app().trust_set(Term::Unleased, None).await.unwrap();
    assert_eq!(set.next_update, Timestamp::from_millis(cut_at.seconds() * 1_000));
    let soon = world.clock.now().plus_ms(600_000);
    world.bring(&ceremony, &[], soon).await;
    let short = world.running().app().trust_set(Term::Unleased, None).await.unwrap();
    assert!(short.next_update <= soon, "{short:?}");
    world.bring(&ceremony, &[], far).await;

    world.clock.advance_ms(HOUR_MS);
    for late in [&first, &second] {
        gate::until(&gate, &late.certificate, answers("CREDENTIAL_REVOKED")).await;
        denied(&world.mythos(&late.certificate).await, "CREDENTIAL_REVOKED");
        refused(lists_say(&world, late, world.clock.now()).await, "certificate revoked");
    }
    gate::until(&gate, &renewed.certificate, permits).await;
    assert!(world.mythos(&renewed.certificate).await.permit);
    assert_eq!(lists_say(&world, &renewed, world.clock.now()).await, Ok(()));
    let cut = seen(&mut officer, |rows| rows.iter().any(|row| row.state == "CUT")).await;
    assert!(cut.iter().any(|row| (row.affected, row.renewed, row.left) == (2, 1, 1)), "{cut:?}");
    gate.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_system_authority_that_is_revoked_is_shown_by_no_handshake_after_the_record() {
    let mut world = World::start().await;
    for _ in 0..2 {
        let old = world.running().app().state().authority(SYSTEM).unwrap().id;
        let next = world.rotate(SYSTEM).await;
        world.certify_officers().await;
        assert_eq!(world.read(&listener(&world).await[0]).issuer, old, "shown as long as it is trusted");
        let revoke = Command::RevokeAuthority { authority: old, reason: REASON };
        world.enact(revoke).await.unwrap();
        for _ in 0..5 {
            let shown = listener(&world).await;
            assert_eq!(world.read(&shown[0]).issuer, next);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn with_no_other_certificate_to_show_the_listener_goes_on_after_a_second() {
    let mut world = World::start().await;
    let old = world.running().app().state().authority(SYSTEM).unwrap().id;
    let next = world.rotate(SYSTEM).await;
    world.certify_officers().await;
    // Nothing can be issued to it while its key cannot be read.
    let (file, aside) = (world.settings.keys.server.clone(), world.dir.path().join("aside.pem"));
    std::fs::rename(&file, &aside).unwrap();
    let trusts_old = [world.running().app().state().authorities[&old].certificate.clone()];
    world.enact(Command::RevokeAuthority { authority: old, reason: REASON }).await.unwrap();
    let shown = async || {
        let stream =
            crate::world::tls_stream(world.tls_of(&trusts_old, None), world.running().address()).await;
        let stream = stream.expect("who has not heard of it connects");
        stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
    };
    assert_eq!(world.read(&shown().await).issuer, old);
    // And when it can be had it is shown.
    std::fs::rename(&aside, &file).unwrap();
    let found = async {
        loop {
            let config = world.tls(None);
            if crate::world::tls_stream(config, world.running().address()).await.is_ok() {
                return;
            }
        }
    };
    tokio::time::timeout(gate::PATIENCE, found).await.expect("in time");
    assert_eq!(world.read(&listener(&world).await[0]).issuer, next);
}
