//! A service whose authority stands beneath an offline root, and what the real proxies and openssl make of the trust sets
//! that it pushes: they hold the root and its list too, and check every list up to it.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use countersign::app::{Term, TrustSet};
use countersign::ca::root::{RootIssuer, new_root};
use countersign::ca::{FileSigner, ListOrder, SignatureAlgorithm, backdated};
use countersign::client::{Gate, GateOptions, Renewal};
use countersign::domain::certificate::{AuthorityKind, Serial};
use countersign::domain::command::Command;
use countersign::domain::id::{AuthorityId, RootId};
use countersign::domain::person::EvidenceKind;
use countersign::domain::revocation::RevocationReason;
use countersign::domain::root::{Root as Row, RootList};
use countersign::domain::time::Timestamp;
use countersign::env::{Clock as _, Entropy as _, SystemClock, SystemEntropy};
use countersign::pb;
use countersign::pb::attestation_service_client::AttestationServiceClient;
use countersign::pb::authority_service_client::AuthorityServiceClient;
use countersign::x509::{
    AuthorityRequest, ClientKey, CrlEntry, CrlNumber, Curve, ReasonCode, Root, TrustBundle, chain_pem,
    root_row,
};
use tokio::time::timeout;

use crate::agent_proxy::{self, Proxy};
use crate::calls::{key, openssl};
use crate::envoy::Credential;
use crate::envoy_sds::{Control, SAMPLE, Scene, pem};
use crate::gate;
use crate::world::{Caller, World, tls_stream};

const ACCESS: AuthorityKind = AuthorityKind::Access;
const DAY_MS: i64 = 86_400_000;
/// How long a proxy takes to hear of something, at most.
const LIMIT: Duration = Duration::from_secs(60);
const REASON: RevocationReason = RevocationReason::CaCompromise;

/// A root with its key, on a machine of its own.
pub(crate) struct Ceremony {
    _dir: tempfile::TempDir,
    signer: FileSigner,
    pub(crate) root: Root,
    lists: AtomicU64,
}

impl Ceremony {
    pub(crate) fn at(now: Timestamp) -> Self {
        Self::until(now.plus_ms(3_650 * DAY_MS), now)
    }

    /// One that ends then.
    pub(crate) fn until(until: Timestamp, now: Timestamp) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let p384 = SignatureAlgorithm::Ecdsa(Curve::P384);
        let signer = FileSigner::create(&dir.path().join("root.key.pem"), p384).unwrap();
        let id = RootId::from_parts(now, SystemEntropy.bytes16());
        let serial = Serial::from_random(SystemEntropy.bytes16());
        let root = new_root(&signer, (id, serial), until, now).unwrap();
        Self { _dir: dir, signer, root, lists: AtomicU64::new(0) }
    }

    pub(crate) fn issuer(&self) -> RootIssuer<'_> {
        RootIssuer::new(self.root.clone(), &self.signer).unwrap()
    }

    /// Its next list, which revokes these until then.
    pub(crate) fn list(&self, revoked: &[Serial], now: Timestamp, until: Timestamp) -> RootList {
        let number = CrlNumber::counted(self.lists.fetch_add(1, Ordering::SeqCst) + 1);
        let reason = ReasonCode::CaCompromise;
        let entries = revoked.iter().map(|serial| CrlEntry { serial: *serial, at: backdated(now), reason });
        let next_update = Timestamp::from_millis(until.seconds() * 1_000);
        let order = ListOrder {
            address: None,
            number,
            this_update: backdated(now),
            next_update,
            entries: entries.collect(),
        };
        let list = self.issuer().sign_list(order).unwrap();
        root_row::list(&list.der, &self.root).unwrap()
    }

    pub(crate) fn row(&self, list: RootList) -> Row {
        let certificate = self.root.certificate();
        Row {
            id: self.root.id(),
            certificate: certificate.der().to_vec(),
            not_after: certificate.not_after(),
            list,
        }
    }

    fn certify(&self, request: &[u8], until: Timestamp, now: Timestamp) -> Vec<u8> {
        let request = AuthorityRequest::from_der(request).unwrap();
        let serial = Serial::from_random(SystemEntropy.bytes16());
        self.issuer().certify(&request, serial, until, now).unwrap().der().to_vec()
    }

    /// The certificate of another root by this one.
    pub(crate) fn cross(&self, other: &Root, now: Timestamp) -> Vec<u8> {
        let serial = Serial::from_random(SystemEntropy.bytes16());
        self.issuer().cross_certify(other, serial, now).unwrap().certificate().der().to_vec()
    }
}

impl World {
    /// Trusts a root, whose list ends then.
    pub(crate) async fn trust_root(&self, ceremony: &Ceremony, until: Timestamp) {
        let row = ceremony.row(ceremony.list(&[], self.clock.now(), until));
        self.enact(Command::TrustRoot(row)).await.unwrap();
    }

    /// Goes on with an authority beneath a root.
    pub(crate) async fn go_beneath(&self, ceremony: &Ceremony, kind: AuthorityKind) -> AuthorityId {
        let until = self.clock.now().plus_ms(700 * DAY_MS);
        self.go_beneath_until(ceremony, kind, until).await
    }

    /// With one that ends then.
    pub(crate) async fn go_beneath_until(
        &self,
        ceremony: &Ceremony,
        kind: AuthorityKind,
        until: Timestamp,
    ) -> AuthorityId {
        let id = self.prepare_until(ceremony, kind, until).await;
        self.enact(Command::ActivateAuthority(id)).await.unwrap();
        id
    }

    pub(crate) async fn prepare_beneath(&self, ceremony: &Ceremony, kind: AuthorityKind) -> AuthorityId {
        self.prepare_until(ceremony, kind, self.clock.now().plus_ms(700 * DAY_MS)).await
    }

    /// Has a root certify an authority, and two officers trust it.
    async fn prepare_until(&self, ceremony: &Ceremony, kind: AuthorityKind, until: Timestamp) -> AuthorityId {
        self.clock.advance_ms(5);
        let mut client = AuthorityServiceClient::new(self.alice());
        let ask = |certificate: Vec<u8>| pb::PrepareAuthorityRequest {
            kind: kind.to_string(),
            beneath_root: true,
            certificate: certificate.into(),
            ..Default::default()
        };
        let made = client.prepare_authority(ask(Vec::new())).await.unwrap().into_inner();
        let certificate = ceremony.certify(&made.certificate_request, until, self.clock.now());
        let made = client.prepare_authority(ask(certificate)).await.unwrap().into_inner();
        let mandate = made.mandate.to_vec();
        let approvals = vec![self.alice.approve(&mandate), self.bob.approve(&mandate)];
        self.submit(mandate, approvals).await.unwrap();
        made.authority_id.parse().unwrap()
    }
}

/// A service beneath a root, whose list ends then; nothing else is trusted.
pub(crate) async fn beneath(
    world: &World,
    kinds: &[AuthorityKind],
    until: Timestamp,
) -> (Ceremony, AuthorityId) {
    let ceremony = Ceremony::at(world.clock.now());
    world.trust_root(&ceremony, until).await;
    let first = world.running().app().state().authority(ACCESS).unwrap().id;
    let mut made = first;
    for kind in kinds {
        let id = world.go_beneath(&ceremony, *kind).await;
        if *kind == ACCESS {
            made = id;
        }
    }
    world.enact(Command::RevokeAuthority { authority: first, reason: REASON }).await.unwrap();
    (ceremony, made)
}

impl World {
    fn serial_of(&self, authority: AuthorityId) -> Serial {
        self.running().app().state().authorities[&authority].beneath.unwrap().serial
    }

    /// One officer brings the root's next list.
    pub(crate) async fn bring(&self, ceremony: &Ceremony, revoked: &[Serial], until: Timestamp) {
        let list = ceremony.list(revoked, self.clock.now(), until);
        self.enact(Command::RenewRootList { root: ceremony.root.id(), list }).await.unwrap();
    }

    /// The leaf and its authority, as PEM.
    pub(crate) fn chain_pem(&self, caller: &Caller) -> String {
        let issuer = self.read(&caller.certificate).issuer;
        let above = self.running().app().chain(issuer);
        assert!(!above.is_empty(), "it stands beneath a root");
        pem(&caller.certificate) + &above.iter().map(|der| pem(der)).collect::<String>()
    }
}

fn day(world: &World) -> Timestamp {
    world.clock.now().plus_ms(DAY_MS)
}

/// What openssl says of a chain (leaf first) under a set, with every list up to the root, at an instant.
pub(crate) fn openssl_says(set: &TrustSet, chain: &str, at: Timestamp) -> Result<(), String> {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, bytes: &[u8]| put(dir.path(), name, bytes);
    let (bundle, lists) = (file("bundle.pem", &set.bundle), file("lists.pem", &set.crl));
    let (leaf, at) = (file("leaf.pem", chain.as_bytes()), at.seconds().to_string());
    let strict = ["verify", "-crl_check_all", "-x509_strict", "-attime", &at];
    let files = ["-CAfile", &bundle, "-CRLfile", &lists, "-untrusted", &leaf, &leaf];
    let (done, _, said) = openssl(&[&strict[..], &files].concat(), b"");
    if done { Ok(()) } else { Err(said) }
}

pub(crate) fn put(dir: &Path, name: &str, bytes: &[u8]) -> String {
    let path = dir.join(name);
    std::fs::write(&path, bytes).unwrap();
    path.to_str().unwrap().to_owned()
}

#[track_caller]
pub(crate) fn refused(said: Result<(), String>, why: &str) {
    assert!(said.as_ref().is_err_and(|said| said.contains(why)), "{said:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_set_beneath_a_root_is_checked_up_to_it() {
    let world = World::start().await;
    let until = day(&world);
    let (ceremony, authority) = beneath(&world, &[ACCESS, AuthorityKind::System], until).await;
    let entity = world.partner().await;
    let subject = world.person(entity, "EMPLOYEE", EvidenceKind::NoUsStatus).await;
    let caller = world.enroll(subject).await;
    let gateway = world.gateway("gw-one").await;
    let app = world.running().app();
    let set = app.trust_set(Term::Unleased, None).await.unwrap();
    let (leaf, now) = (pem(&caller.certificate), world.clock.now());
    assert_eq!(openssl_says(&set, &leaf, now), Ok(()));
    assert_eq!(openssl_says(&set, &world.chain_pem(&caller), now), Ok(()));
    // The root certified the system's authority too: what tells them apart is that no list of it is here.
    refused(openssl_says(&set, &world.chain_pem(&gateway), now), "unable to get certificate CRL");
    // The root's list ends with the root's next ceremony: a set never says that it is good for longer.
    world.bring(&ceremony, &[], now.plus_ms(60_000)).await;
    let short = app.trust_set(Term::Unleased, None).await.unwrap();
    assert!(short.next_update <= now.plus_ms(60_000) && set.next_update > short.next_update);
    assert_eq!(openssl_says(&short, &leaf, now.plus_ms(58_000)), Ok(()));
    refused(openssl_says(&short, &leaf, now.plus_ms(61_000)), "CRL has expired");
    // Revoked by its root: the set that it was on refuses it, and so does the next, which is closed.
    world.bring(&ceremony, &[world.serial_of(authority)], until).await;
    let closed = app.trust_set(Term::Unleased, None).await.unwrap();
    assert!(closed.is_closed);
    refused(openssl_says(&closed, &leaf, world.clock.now()), "expired");
    let lists = ceremony.list(&[world.serial_of(authority)], now, until).list;
    let lists = countersign::x509::bundle::crl_pem(&lists);
    let own = String::from_utf8(set.crl.to_vec()).unwrap();
    let own = own.split_inclusive("-----END X509 CRL-----\n").next().unwrap().to_owned();
    let mixed = TrustSet { crl: (own + &lists).into(), ..set };
    refused(openssl_says(&mixed, &leaf, now), "certificate revoked");
}

/// The status of a first request of whoever shows this chain; none: the handshake was refused.
pub(crate) async fn shown(scene: &Scene, caller: &Caller, chain_pem: String) -> Option<u16> {
    let credential = Credential { chain_pem, key_pem: caller.key.to_pem() };
    scene.status_of(credential).await
}

async fn envoy(until: Timestamp) -> (Ceremony, AuthorityId, Scene, Caller) {
    let world = World::start_at(SystemClock.now().plus_ms(-2_000)).await;
    let (ceremony, authority) = beneath(&world, &[ACCESS, AuthorityKind::System], until).await;
    let entity = world.partner().await;
    let gateway = world.gateway("gw-envoy").await;
    let control = Control { system_pem: world.system_bundle().await, ..Control::of(&world) };
    let scene = Scene::with((world, entity), &gateway, &control, SAMPLE).await;
    (ceremony, authority, scene, gateway)
}

impl Scene {
    /// Waits until this gateway knows of an authority, and issues from it.
    async fn activate(&self, id: AuthorityId) {
        let acked = timeout(LIMIT, async {
            while let Err(status) = self.world.enact(Command::ActivateAuthority(id)).await {
                assert_eq!(status.code(), tonic::Code::FailedPrecondition, "{status:?}");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        });
        acked.await.expect("in time");
    }
}

impl World {
    /// Every system authority that is trusted, and the roots above, as officers fetch it.
    pub(crate) async fn system_bundle(&self) -> String {
        let mut client = AttestationServiceClient::new(self.alice());
        client.get_trust_bundle(pb::GetTrustBundleRequest {}).await.unwrap().into_inner().system_pem
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn envoy_checks_every_list_up_to_the_root() {
    let far = SystemClock.now().plus_ms(DAY_MS);
    let (ceremony, authority, scene, gateway) = envoy(far).await;
    let (subject, caller) = scene.employee().await;
    let (_, other) = scene.employee().await;
    assert_eq!(scene.status(&caller).await, Some(200), "the leaf alone: {}", scene.envoy.log());
    let chain = scene.world.chain_pem(&other);
    assert_eq!(shown(&scene, &other, chain.clone()).await, Some(200), "with its authority");
    // What the same root certified for the system has no list here.
    assert_eq!(scene.status(&gateway).await, None);
    assert_eq!(shown(&scene, &gateway, scene.world.chain_pem(&gateway)).await, None);
    let report = scene.revoke(subject).await;
    crate::envoy_sds::assert_enforced(&report);
    assert_eq!(scene.status(&caller).await, None);
    assert_eq!(shown(&scene, &caller, scene.world.chain_pem(&caller)).await, None);
    assert_eq!(scene.status(&other).await, Some(200));
    // Two authorities beneath the root, and the root revokes one.
    let next = scene.world.prepare_beneath(&ceremony, ACCESS).await;
    scene.activate(next).await;
    let (_, newer) = scene.employee().await;
    assert_eq!(scene.world.read(&newer.certificate).issuer, next);
    scene.until(&newer, Some(200)).await;
    assert_eq!(scene.status(&other).await, Some(200), "still trusted");
    scene.world.bring(&ceremony, &[scene.world.serial_of(authority)], far).await;
    scene.until(&other, None).await;
    assert_eq!(shown(&scene, &other, chain).await, None);
    assert_eq!(scene.status(&newer).await, Some(200));
    assert!(scene.rows().await.iter().all(|row| row.last_nack.is_empty()), "{}", scene.envoy.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn envoy_lets_nobody_in_when_the_root_s_list_has_ended_until_there_is_another() {
    let far = SystemClock.now().plus_ms(DAY_MS);
    let (ceremony, _, scene, _) = envoy(far).await;
    let (_, caller) = scene.employee().await;
    assert_eq!(scene.status(&caller).await, Some(200), "{}", scene.envoy.log());
    let soon = scene.world.clock.now().plus_ms(5_000);
    scene.world.bring(&ceremony, &[], soon).await;
    scene.until(&caller, None).await;
    // By the machine's clock, which is Envoy's; that of the service follows it a moment later.
    assert!(SystemClock.now() >= Timestamp::from_millis(soon.seconds() * 1_000), "not before");
    scene.world.bring(&ceremony, &[], far).await;
    scene.until(&caller, Some(200)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn haproxy_checks_every_list_up_to_the_root() {
    an_agent_s_proxy(Proxy::Haproxy).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nginx_checks_every_list_up_to_the_root() {
    an_agent_s_proxy(Proxy::Nginx).await;
}

async fn an_agent_s_proxy(proxy: Proxy) {
    let world = World::start_at(SystemClock.now().plus_ms(-30_000)).await;
    let far = day(&world);
    let (ceremony, authority) = beneath(&world, &[ACCESS], far).await;
    let mut scene = agent_proxy::Scene::set_on(proxy, world).await;
    scene.start_all().await;
    let first = scene.ask_anew(&scene.caller).await;
    assert!(matches!(&first, Ok(response) if response.status == 200), "{first:?} {}", scene.agent_log());
    scene.until_strong().await;
    assert_eq!(scene.revoke().await.status(), pb::EnforcementStatus::Enforced);
    scene.until_refused().await;
    scene.until_permitted().await;
    // The list of the root ends, and nobody gets in until there is another.
    scene.world.bring(&ceremony, &[], scene.world.clock.now().plus_ms(5_000)).await;
    let is_permitted = |answer: &std::io::Result<crate::envoy::Response>| matches!(answer, Ok(response) if response.status == 200);
    scene.until_answered("refused", |answer| !is_permitted(answer)).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(!is_permitted(&scene.ask_anew(&scene.other).await));
    scene.world.bring(&ceremony, &[], far).await;
    scene.until_permitted().await;
    // The root revokes the authority: what it issued is refused.
    scene.world.bring(&ceremony, &[scene.world.serial_of(authority)], far).await;
    scene.until_answered("refused", |answer| !is_permitted(answer)).await;
}

/// What the service shows in its handshakes now.
pub(crate) async fn listener(world: &World) -> Vec<Vec<u8>> {
    let stream = tls_stream(world.tls(None), world.running().address()).await.unwrap();
    stream.get_ref().1.peer_certificates().unwrap().iter().map(|der| der.to_vec()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_enrolls_or_renews_is_given_the_chain_up_to_the_old_root() {
    let world = World::start().await;
    let until = day(&world);
    let entity = world.partner().await;
    let subject = world.person(entity, "EMPLOYEE", EvidenceKind::NoUsStatus).await;
    let enroll = async |key: &ClientKey| {
        let token = world.token(subject).await;
        world.enroll_csr(&token, key.request().unwrap()).await.unwrap()
    };
    let alone = enroll(&key()).await;
    assert!(alone.chain.is_empty(), "its authority is self-signed, and whoever trusts it has it");
    let (new, _) = beneath(&world, &[ACCESS, AuthorityKind::System], until).await;
    let old = Ceremony::at(world.clock.now());
    world.trust_root(&old, until).await;
    let mine = |kind| world.running().app().state().authority(kind).unwrap().certificate.clone();
    let mine_key = key();
    let issued = enroll(&mine_key).await;
    assert_eq!(issued.chain, [mine(ACCESS)]);
    // The old root certifies the new one: from then on everybody is given that too.
    let cross = old.cross(&new.root, world.clock.now());
    let row = root_row::cross(&cross, &old.root).unwrap();
    world.enact(Command::AddCrossCertificate(row)).await.unwrap();
    let caller = Caller { key: mine_key, certificate: issued.certificate.to_vec() };
    let mut client = AttestationServiceClient::new(world.connect_as(&caller).await);
    let csr = key().request().unwrap().into();
    let renewed = client.renew(pb::RenewRequest { csr }).await.unwrap().into_inner();
    assert_eq!(renewed.chain, [mine(ACCESS), cross.clone()]);
    // Who trusts nothing but the old root follows it.
    let chain = chain_pem(&renewed.certificate, &renewed.chain).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let (chain, old_pem) = (put(dir.path(), "chain.pem", chain.as_bytes()), old.root.certificate().der());
    let old_pem = put(dir.path(), "old.pem", pem(old_pem).as_bytes());
    let at = world.clock.now().seconds().to_string();
    let verify =
        ["verify", "-x509_strict", "-attime", &at, "-CAfile", &old_pem, "-untrusted", &chain, &chain];
    let (done, _, said) = openssl(&verify, b"");
    assert!(done, "{said}");
    // Officers and gateways likewise, and the service itself shows it.
    let mut officer = AttestationServiceClient::new(world.alice());
    let csr = world.alice.key.request().unwrap().into();
    let request = pb::RenewPrincipalCertificateRequest { csr };
    let renewed = officer.renew_principal_certificate(request).await.unwrap().into_inner();
    assert_eq!(renewed.chain, [mine(AuthorityKind::System), cross]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cross_certificate_is_shown_by_the_listener_without_a_restart() {
    let mut world = World::start().await;
    let until = day(&world);
    let (new, _) = beneath(&world, &[ACCESS, AuthorityKind::System], until).await;
    let bundle = TrustBundle::from_pem(&world.system_bundle().await).unwrap();
    let authority =
        bundle.authorities().iter().find(|authority| authority.parent().is_some()).unwrap().clone();
    // At the next start at the latest it shows a certificate of the authority that issues.
    world.close().await;
    std::fs::remove_file(world.dir.path().join("server-certificate.pem")).unwrap();
    world.open().await;
    assert_eq!(listener(&world).await[1..], [authority.der().to_vec()]);
    let old = Ceremony::at(world.clock.now());
    world.trust_root(&old, until).await;
    let cross = old.cross(&new.root, world.clock.now());
    let row = root_row::cross(&cross, &old.root).unwrap();
    let serial = row.by.serial;
    world.enact(Command::AddCrossCertificate(row)).await.unwrap();
    until_shown(&world, &[authority.der().to_vec(), cross]).await;
    // Its root takes it back, and it is shown no more.
    world.bring(&old, &[serial], until).await;
    until_shown(&world, &[authority.der().to_vec()]).await;
}

async fn until_shown(world: &World, above: &[Vec<u8>]) {
    let shown = timeout(LIMIT, async {
        while listener(world).await[1..] != *above {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    shown.await.expect("in time");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gate_that_goes_beneath_a_root_keeps_the_chain() {
    let world = World::start().await;
    let ceremony = Ceremony::at(world.clock.now());
    world.trust_root(&ceremony, day(&world)).await;
    let caller = world.gateway("gw-1").await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gateway.pem");
    let config = gate::config(&world, (&caller, world.running().address()), gate::STRONG, &world.clock);
    let options = GateOptions { renewal: Some(Renewal::to_file(&path)), ..GateOptions::default() };
    let gate = Gate::connect_with(config, options).await.unwrap();
    gate.ready(gate::PATIENCE).await.unwrap();
    let next = world.prepare_beneath(&ceremony, AuthorityKind::System).await;
    let activated = timeout(LIMIT, async {
        while world.enact(Command::ActivateAuthority(next)).await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    activated.await.expect("the gate acknowledges it");
    let is_renewed = |_: &Gate, _: &[u8]| {
        world.clock.advance_ms(1_000);
        path.exists()
    };
    gate::until(&gate, &[], is_renewed).await;
    let kept = pem::parse_many(std::fs::read_to_string(&path).unwrap()).unwrap();
    let [leaf, above] = kept.as_slice() else { panic!("{kept:?}") };
    assert_eq!(world.read(leaf.contents()).issuer, next);
    assert_eq!(above.contents(), world.running().app().state().authorities[&next].certificate);
    gate::until(&gate, &[], |gate, _| gate.status().fault.is_none()).await;
    gate.shutdown().await;
}
