//! The same for the system authority: gateways and officers whose own certificates are re-issued while they are connected. Every call
//! of theirs succeeds, no gateway denies wrongly meanwhile, and with a certificate of a revoked one nobody gets in.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use countersign::client::{Gate, GateConfig, GateOptions, Renewal};
use countersign::domain::certificate::PrincipalKind;
use countersign::domain::codec::to_bytes;
use countersign::domain::command::NewPrincipal;
use countersign::domain::principal::Role;
use countersign::pb::audit_service_client::AuditServiceClient;
use countersign::pb::authority_service_client::AuthorityServiceClient;
use countersign::pb::mandate_service_client::MandateServiceClient;
use countersign::x509::ClientKey;
use tonic::Status;

use super::*;
use crate::gate_renewal::NoJitter;

type Shown = Mutex<BTreeMap<String, Vec<u8>>>;

const SYSTEM: AuthorityKind = AuthorityKind::System;

/// Whose key signs a request for the next certificate.
enum Whose {
    Alice,
    Bob,
    Own(ClientKey),
}

impl Whose {
    fn key<'a>(&'a self, world: &'a World) -> &'a ClientKey {
        match self {
            Self::Alice => &world.alice.key,
            Self::Bob => &world.bob.key,
            Self::Own(key) => key,
        }
    }
}

struct System {
    load: Arc<Load>,
    /// Alice's newest connection: she carries the rotation out.
    alice: Mutex<Channel>,
    /// The certificate that each shows from now on.
    shown: Arc<Shown>,
    count: usize,
    calls: AtomicU64,
    reissued: AtomicU64,
}

impl System {
    fn world(&self) -> &World {
        &self.load.world
    }

    /// One call of this caller over an open connection.
    async fn call(&self, is_officer: bool, channel: &Channel) {
        if is_officer {
            let head = AuditServiceClient::new(channel.clone()).get_head(pb::GetHeadRequest::default()).await;
            head.expect("an officer's call");
        } else {
            let leaf = self.load.one_good(0).expect("a certificate");
            let decision = self.world().evaluate(channel, &leaf, "mythos-5").await;
            self.load.assert_permit("the server", &leaf, decision.permit, &decision);
            Counts::one(&self.load.counts.evaluated);
        }
        Counts::one(&self.calls);
    }

    async fn connect(&self, whose: &Whose, certificate: &[u8]) -> Channel {
        self.world().connect(Some((whose.key(self.world()), certificate))).await
    }
}

/// An officer or a gateway: calls all the time, asks for the next certificate, and goes on with it when it comes.
async fn act(system: Arc<System>, name: String, whose: Whose, first: Vec<u8>) {
    let is_officer = !name.starts_with("gw-");
    let (mut own, mut channel) = (first.clone(), system.connect(&whose, &first).await);
    while system.load.goes_on() {
        system.call(is_officer, &channel).await;
        let csr = whose.key(system.world()).request().unwrap().into();
        let mut client = AttestationServiceClient::new(channel.clone());
        let next = client.renew_principal_certificate(pb::RenewPrincipalCertificateRequest { csr }).await;
        let next = next.expect("a certificate that is re-issued").into_inner().certificate.to_vec();
        if next != own {
            own = next;
            channel = system.connect(&whose, &own).await;
            system.call(is_officer, &channel).await;
            Counts::one(&system.reissued);
            if name == "alice" {
                *system.alice.lock().unwrap() = channel.clone();
            }
        }
        system.shown.lock().unwrap().insert(name.clone(), own.clone());
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
}

impl System {
    fn alice(&self) -> Channel {
        self.alice.lock().unwrap().clone()
    }

    async fn sign(&self, mandate: Vec<u8>, count: u32) -> Result<(), Status> {
        let world = self.world();
        let mut approvals = vec![world.alice.approve(&mandate)];
        if count == 2 {
            approvals.push(world.bob.approve(&mandate));
        }
        let mandate = Some(pb::SignedMandate { mandate: mandate.into(), approvals });
        let request = pb::SubmitMandateRequest { mandate, ..Default::default() };
        MandateServiceClient::new(self.alice()).submit_mandate(request).await.map(drop)
    }

    async fn enact(&self, command: Command) -> Result<(), Status> {
        let request = pb::PrepareMandateRequest { command: to_bytes(&command).into() };
        let made = MandateServiceClient::new(self.alice()).prepare_mandate(request).await?.into_inner();
        self.sign(made.mandate.to_vec(), u32::try_from(command.signers().count).unwrap()).await
    }

    /// Prepares and activates the next one, and waits until everybody shows a certificate of it.
    async fn rotate(&self) -> (AuthorityId, AuthorityId) {
        let world = self.world();
        let old = world.running().app().state().authority(SYSTEM).unwrap().id;
        let request = pb::PrepareAuthorityRequest { kind: SYSTEM.to_string(), ..Default::default() };
        let made = AuthorityServiceClient::new(self.alice()).prepare_authority(request).await.unwrap();
        let made = made.into_inner();
        self.sign(made.mandate.to_vec(), 2).await.unwrap();
        let next = made.authority_id.parse().unwrap();
        eventually("every gateway knows it", async || {
            self.enact(Command::ActivateAuthority(next)).await.is_ok()
        })
        .await;
        eventually("everybody shows a certificate of it", async || {
            let state = world.running().app().state();
            // The service is no principal that anybody registered.
            let issued = state.system_certificates.iter();
            let mut issued = issued.filter(|(name, _)| state.principals.contains_key(*name));
            let shown = self.shown.lock().unwrap();
            let mut issuers = shown.values().map(|leaf| world.read(leaf).issuer);
            shown.len() == self.count
                && issuers.all(|issuer| issuer == next)
                && issued.all(|(_, last)| last.issuer == next)
        })
        .await;
        (old, next)
    }

    /// Rotates, and ends the one before today: certificates that were replaced are good until they end, so it would retire in a
    /// month. Tainted first, so that the service itself shows one of the next before; what was kept of it is refused after.
    async fn rotate_and_revoke(&self) {
        let world = self.world();
        let stands = |id| world.running().app().state().authorities[&id].state;
        let kept = certificate_of(world, "bob", &world.bob.key).await;
        let (old, next) = self.rotate().await;
        self.load.rest().await;
        let refused = self.enact(Command::RetireAuthority(old)).await.unwrap_err();
        assert!(refused.message().contains("are still good"), "{refused}");
        self.enact(Command::TaintAuthority { authority: old, reason: REASON }).await.unwrap();
        eventually("the service shows one of the next", async || {
            let state = world.running().app().state();
            state.system_certificates.values().all(|last| last.issuer == next)
        })
        .await;
        // Replaced on record, and a moment later at the listener.
        self.load.rest().await;
        self.enact(Command::RevokeAuthority { authority: old, reason: REASON }).await.unwrap();
        assert_eq!(stands(old), AuthorityState::Revoked);
        let channel = world.connect(Some((&world.bob.key, &kept))).await;
        let refused = AuditServiceClient::new(channel).get_head(pb::GetHeadRequest::default()).await;
        assert!(refused.is_err(), "a certificate of a revoked authority: {refused:?}");
        for _ in 0..4 {
            self.load.rest().await;
        }
    }

    async fn twice(&self) {
        self.load.rest().await;
        self.rotate_and_revoke().await;
        self.rotate_and_revoke().await;
    }
}

async fn officer(world: &World, name: &str) -> (Whose, Vec<u8>) {
    let key = key();
    let principal = NewPrincipal {
        id: name.parse().unwrap(),
        kind: PrincipalKind::Officer,
        roles: vec![Role::Auditor],
        entity: None,
        key: key.public_key().spki().to_vec(),
        is_pausable: false,
    };
    world.enact(Command::RegisterPrincipal(principal)).await.unwrap();
    let csr = key.request().unwrap();
    let issued = world.running().app().issue_principal(&name.parse().unwrap(), &csr).await.unwrap();
    (Whose::Own(key), issued.certificate)
}

/// A gate that renews its own certificate as soon as it may.
async fn renewing(world: &World, name: &str, shown: &Arc<Shown>) -> Gate {
    let caller = world.gateway(name).await;
    let config = gate::config(world, (&caller, world.running().address()), STRONG, &world.clock);
    let config = GateConfig { entropy: Arc::new(NoJitter), ..config };
    let (shown, name) = (Arc::clone(shown), name.to_owned());
    let renewal = Renewal::with(move |chain| {
        let leaf = pem::parse(chain).map_err(std::io::Error::other)?.into_contents();
        shown.lock().unwrap().insert(name.clone(), leaf);
        Ok(())
    });
    let options = GateOptions { renewal: Some(renewal), ..GateOptions::default() };
    let gate = Gate::connect_with(config, options).await.unwrap();
    gate.ready(gate::PATIENCE).await.unwrap();
    gate
}

async fn certificate_of(world: &World, name: &str, key: &ClientKey) -> Vec<u8> {
    let csr = key.request().unwrap();
    world.running().app().issue_principal(&name.parse().unwrap(), &csr).await.unwrap().certificate
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_of_the_system_authority_under_load_fails_no_officer_and_no_gateway() {
    let gateways = asked("COUNTERSIGN_ROTATION_LOAD").map_or(GATEWAYS, |count| count.parse().unwrap());
    let (load, entity, subjects, _) = begin(0).await;
    let world = &load.world;
    let (shown, mut gates) = (Arc::<Shown>::default(), Vec::new());
    for number in 0..gateways {
        gates.push(renewing(world, &format!("gate-{number}"), &shown).await);
    }
    let mut callers = Vec::new();
    for number in 0..gateways.div_ceil(2) {
        let name = format!("auditor-{number}");
        let (whose, certificate) = officer(world, &name).await;
        callers.push((name, whose, certificate));
        let name = format!("gw-{number}");
        let caller = world.gateway(&name).await;
        callers.push((name, Whose::Own(caller.key), caller.certificate));
    }
    let of_bob = certificate_of(world, "bob", &world.bob.key).await;
    callers.push(("bob".to_owned(), Whose::Bob, of_bob));
    let own = certificate_of(world, "alice", &world.alice.key).await;
    let alice = Mutex::new(world.connect(Some((&world.alice.key, &own))).await);
    callers.push(("alice".to_owned(), Whose::Alice, own));
    let count = callers.len() + gateways;
    let mut tasks = load_it(&load, entity, &subjects, gates).await;
    let counter = AtomicU64::default;
    let (calls, reissued) = (counter(), counter());
    let system = Arc::new(System { load: Arc::clone(&load), alice, shown, count, calls, reissued });
    for (name, whose, first) in callers {
        tasks.spawn(act(Arc::clone(&system), name, whose, first));
    }
    run(&load, &mut tasks, system.twice()).await;
    let reissued = system.reissued.load(Ordering::Relaxed);
    let others = count - gateways;
    assert!(reissued >= 2 * others as u64, "{reissued} of {others} callers in two rotations");
    let [permits, calls] = [&load.counts.permits, &system.calls].map(|count| count.load(Ordering::Relaxed));
    assert!(permits > 0 && calls > 0);
    println!(
        "system_rotation_under_load: {gateways} gates, {others} other officers and gateways, {calls} calls, {reissued} certificates \
         re-issued on open connections, {permits} permits: 0 failed, 0 wrongly denied"
    );
}
