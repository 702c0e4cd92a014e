//! Rotations over the wire: what somebody gets who enrolls or renews in each phase, who has to know of an authority before it
//! issues, what a rollback, a taint and a revocation do, and what a kill in between leaves.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use countersign::app::{App, Caller as AppCaller, Mode};
use countersign::domain::approval::{Approval, SignedMandate};
use countersign::domain::authority::AuthorityState;
use countersign::domain::certificate::AuthorityKind;
use countersign::domain::codec::to_bytes;
use countersign::domain::command::Command;
use countersign::domain::decision::Denial;
use countersign::domain::enforce::bound_ms;
use countersign::domain::id::{AuthorityId, SubjectId};
use countersign::domain::person::EvidenceKind;
use countersign::domain::revocation::{RevocationReason, StopScope};
use countersign::env::{Clock as _, ManualClock};
use countersign::pb;
use countersign::pb::authority_service_client::AuthorityServiceClient;
use countersign::x509::{ClientKey, TrustBundle};
use tonic::{Code, Status};

use crate::calls::{denied, enrolled, key, refused};
use crate::gate::{self, PATIENCE, STRONG, permits, question};
use crate::kill::{Victim, asked, brief, told};
use crate::partition::Network;
use crate::world::{Caller, Officer, World};

const REASON: RevocationReason = RevocationReason::CaCompromise;
const HOUR_MS: u32 = 3_600_000;
const ACCESS: AuthorityKind = AuthorityKind::Access;
const SYSTEM: AuthorityKind = AuthorityKind::System;

impl World {
    fn authorities(&self) -> AuthorityServiceClient<tonic::transport::Channel> {
        AuthorityServiceClient::new(self.alice())
    }

    /// Has the server make the key of the next authority and two officers trust it.
    pub(crate) async fn prepare(&self, kind: AuthorityKind) -> AuthorityId {
        // Ids begin with the time: a list is in the order in which they were made.
        self.clock.advance_ms(5);
        let request =
            pb::PrepareAuthorityRequest { kind: kind.to_string(), life_days: 0, ..Default::default() };
        let made = self.authorities().prepare_authority(request).await.unwrap().into_inner();
        assert_eq!(made.signatures_needed, 2);
        let mandate = made.mandate.to_vec();
        let approvals = vec![self.alice.approve(&mandate), self.bob.approve(&mandate)];
        self.submit(mandate, approvals).await.unwrap();
        made.authority_id.parse().unwrap()
    }

    /// The same, and issues from it.
    pub(crate) async fn rotate(&self, kind: AuthorityKind) -> AuthorityId {
        let next = self.prepare(kind).await;
        // Gateways acknowledge it when they come to it.
        for _ in 0..200 {
            if self.shown(next).await.known_everywhere {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        self.enact(Command::ActivateAuthority(next)).await.unwrap();
        next
    }

    fn active_id(&self, kind: AuthorityKind) -> AuthorityId {
        self.running().app().state().authority(kind).unwrap().id
    }

    fn stands(&self, id: AuthorityId) -> AuthorityState {
        self.running().app().state().authorities[&id].state
    }

    async fn shown(&self, id: AuthorityId) -> pb::Authority {
        let request = pb::GetAuthorityRequest { authority_id: id.to_string() };
        self.authorities().get_authority(request).await.unwrap().into_inner().authority.unwrap()
    }

    async fn bundle(&self) -> (Option<TrustBundle>, TrustBundle) {
        let mut client = pb::attestation_service_client::AttestationServiceClient::new(self.alice());
        let bundle = client.get_trust_bundle(pb::GetTrustBundleRequest {}).await.unwrap().into_inner();
        let access = TrustBundle::from_pem(&bundle.access_pem).ok();
        (access, TrustBundle::from_pem(&bundle.system_pem).unwrap())
    }

    async fn renewed(&self, caller: &Caller) -> Result<Caller, Status> {
        let key = key();
        let certificate = self.renew(&self.connect_as(caller).await, &key).await?;
        Ok(Caller { key, certificate })
    }

    fn issuer(&self, caller: &Caller) -> AuthorityId {
        self.read(&caller.certificate).issuer
    }
}

/// Until something is so, with a deadline.
async fn eventually(is_so: impl Fn() -> bool) {
    let until_so = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, until_so).await.expect("in time");
}

fn keys_of(world: &World) -> Vec<String> {
    let Ok(folder) = std::fs::read_dir(world.dir.path().join("keys/authorities")) else { return Vec::new() };
    let names = folder.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.ends_with(".pem")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_rotation_leaves_nobody_without_a_certificate() {
    let world = World::start().await;
    let (_, subject, first) = enrolled(&world).await;
    let old = world.active_id(ACCESS);
    // PREPARED: everybody is told, and nothing comes from it.
    let next = world.prepare(ACCESS).await;
    let (access, _) = world.bundle().await;
    assert_eq!(access.unwrap().authorities().iter().map(|a| a.id()).collect::<Vec<_>>(), [old, next]);
    let second = world.enroll(subject).await;
    assert_eq!((world.issuer(&second), world.issuer(&world.renewed(&second).await.unwrap())), (old, old));
    let shown = world.shown(next).await;
    assert_eq!((shown.state.as_str(), shown.has_key, shown.known_everywhere), ("PREPARED", true, true));
    // ACTIVE and RETIRING: what is issued is of the new one, what was issued stays good.
    world.enact(Command::ActivateAuthority(next)).await.unwrap();
    let third = world.enroll(subject).await;
    let renewed = world.renewed(&first).await.unwrap();
    assert_eq!((world.issuer(&third), world.issuer(&renewed)), (next, next));
    for caller in [&first, &third, &renewed] {
        assert!(world.mythos(&caller.certificate).await.permit);
    }
    assert_eq!(world.shown(old).await.state, "RETIRING");
    let early = world.enact(Command::RetireAuthority(old)).await;
    refused(early, Code::FailedPrecondition, "are still good: renew or revoke them");
    let held = world.shown(old).await;
    assert!(held.certificates >= 3 && held.holders.iter().any(|holder| holder.entity_id.starts_with("ent_")));
    // RETIRED: trusted by nobody, when nothing of it is good any more.
    world.clock.advance_ms(25 * HOUR_MS);
    world.enact(Command::RetireAuthority(old)).await.unwrap();
    assert_eq!(world.stands(old), AuthorityState::Retired);
    let (access, _) = world.bundle().await;
    assert_eq!(access.unwrap().authorities().iter().map(|a| a.id()).collect::<Vec<_>>(), [next]);
    assert!(!world.mythos(&first.certificate).await.permit);
    assert!(world.mythos(&world.enroll(subject).await.certificate).await.permit);
    for command in
        [Command::ActivateAuthority(old), Command::RollbackAuthority(old), Command::RetireAuthority(old)]
    {
        refused(world.enact(command).await, Code::FailedPrecondition, "the authority is RETIRED");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_from_each_step_goes_back_to_where_it_was() {
    let mut world = World::start().await;
    let (_, subject, _) = enrolled(&world).await;
    let old = world.active_id(ACCESS);
    let gone = world.prepare(ACCESS).await;
    world.enact(Command::RollbackAuthority(gone)).await.unwrap();
    assert_eq!((world.stands(gone), world.active_id(ACCESS)), (AuthorityState::Retired, old));
    let next = world.rotate(ACCESS).await;
    let caller = world.enroll(subject).await;
    world.enact(Command::RollbackAuthority(next)).await.unwrap();
    assert_eq!((world.stands(next), world.active_id(ACCESS)), (AuthorityState::Prepared, old));
    // What it issued is good, and its holder gets the next one from the authority that issues again.
    assert!(world.mythos(&caller.certificate).await.permit);
    assert_eq!(world.issuer(&world.renewed(&caller).await.unwrap()), old);
    let wrong = world.enact(Command::RollbackAuthority(next)).await;
    refused(wrong, Code::FailedPrecondition, "certificates that are still valid");
    // All of it is on record and survives a restart, with the keys.
    world.close().await;
    world.open().await;
    world.enact(Command::ActivateAuthority(next)).await.unwrap();
    assert_eq!(world.issuer(&world.enroll(subject).await), next);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_officer_stops_an_authority_at_once_and_two_make_it_final() {
    let world = World::start().await;
    let (_, subject, caller) = enrolled(&world).await;
    let old = world.active_id(ACCESS);
    let next = world.prepare(ACCESS).await;
    let revoke = Command::RevokeAuthority { authority: old, reason: REASON };
    let mandate = world.mandate(&revoke).await.unwrap();
    let proposed = world.submit(mandate.clone(), vec![world.alice.approve(&mandate)]).await.unwrap();
    assert!(!proposed.proposal_id.is_empty() && world.mythos(&caller.certificate).await.permit);
    let stop = Command::Stop { scope: StopScope::Issuer(old), reason: REASON };
    world.restrict(stop, pb::Wait::Enforced).await.unwrap();
    denied(&world.mythos(&caller.certificate).await, "EMERGENCY_STOP");
    world.enact(revoke).await.unwrap();
    denied(&world.mythos(&caller.certificate).await, "CREDENTIAL_REVOKED");
    // The only one that issued is gone: nothing is issued until another takes its place.
    let token = world.token(subject).await;
    world.not_issuable(world.redeem(&token, &key()).await, subject, "this needs ACTIVE").await;
    let (access, _) = world.bundle().await;
    assert_eq!(access.unwrap().authorities().iter().map(|a| a.id()).collect::<Vec<_>>(), [next]);
    world.enact(Command::ActivateAuthority(next)).await.unwrap();
    let again = world.enroll(subject).await;
    assert!(world.issuer(&again) == next && world.mythos(&again.certificate).await.permit);
    // And the one whose predecessor is gone can be revoked as well: no way leads into a dead end.
    world.enact(Command::RevokeAuthority { authority: next, reason: REASON }).await.unwrap();
    denied(&world.mythos(&again.certificate).await, "CREDENTIAL_REVOKED");
    assert!(world.bundle().await.0.is_none());
    assert_eq!(
        world.issuer(&Caller { certificate: world.redeem_after(subject).await, key: key() }),
        world.active_id(ACCESS)
    );
}

impl World {
    /// Rotates once more and enrolls.
    async fn redeem_after(&self, subject: SubjectId) -> Vec<u8> {
        self.rotate(ACCESS).await;
        self.enroll(subject).await.certificate
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tainted_authority_issues_nothing_and_its_certificates_stay_good_until_they_are_replaced() {
    let world = World::start().await;
    let (_, subject, caller) = enrolled(&world).await;
    let old = world.active_id(ACCESS);
    world
        .restrict(Command::TaintAuthority { authority: old, reason: REASON }, pb::Wait::Committed)
        .await
        .unwrap();
    assert!(world.mythos(&caller.certificate).await.permit, "trusted until it is replaced");
    let token = world.token(subject).await;
    world.not_issuable(world.redeem(&token, &key()).await, subject, "TAINTED").await;
    let next = world.rotate(ACCESS).await;
    let before = world.shown(old).await.certificates;
    assert_eq!(world.issuer(&world.renewed(&caller).await.unwrap()), next);
    assert!(before >= 1 && world.shown(old).await.state == "TAINTED");
    let back = world.enact(Command::RollbackAuthority(next)).await;
    refused(back, Code::FailedPrecondition, "needs one whose predecessor is RETIRING");
    world.enact(Command::RevokeAuthority { authority: old, reason: REASON }).await.unwrap();
    denied(&world.mythos(&caller.certificate).await, "CREDENTIAL_REVOKED");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_issues_before_every_gateway_that_can_hold_a_lease_knows_it() {
    let world = World::start().await;
    let (_, subject, _) = enrolled(&world).await;
    let network = Network::start().await;
    network.heal(world.running().address().port());
    let caller = world.gateway("gw-1").await;
    let gate = gate::connect(&world, (&caller, network.address), STRONG, &world.clock).await;
    let old = world.active_id(ACCESS);
    let next = world.prepare(ACCESS).await;
    eventually(|| world.running().app().feed().sessions().iter().all(|session| session.lag == 0)).await;
    assert!(world.shown(next).await.known_by.iter().any(|name| name == "gw-1"));
    world.enact(Command::ActivateAuthority(next)).await.unwrap();
    // It acknowledged the authority, so it permits what comes from it without another word.
    let employee = world.enroll(subject).await;
    assert_eq!(world.issuer(&employee), next);
    gate.want(world.facts(&employee.certificate).entity.entity);
    eventually(|| permits(&gate, &employee.certificate)).await;
    // Cut off with a lease: the next one waits for it, by name.
    network.cut();
    let third = world.prepare(ACCESS).await;
    let shown = world.shown(third).await;
    assert!(!shown.known_everywhere && shown.unaware[0].participant == "gw-1", "{shown:?}");
    let early = world.enact(Command::ActivateAuthority(third)).await;
    refused(early, Code::FailedPrecondition, "gw-1 did not acknowledge");
    assert_eq!(world.active_id(ACCESS), next);
    // Until its lease has run out for certain.
    world.clock.advance_ms(u32::try_from(bound_ms(10_000)).unwrap() + 1);
    world.enact(Command::ActivateAuthority(third)).await.unwrap();
    let employee = world.enroll(subject).await;
    assert!(!permits(&gate, &employee.certificate), "it does not know the issuer, and has no lease");
    // Back again it learns all of it before it has a lease, and what is revoked meanwhile.
    world.enact(Command::RevokeAuthority { authority: old, reason: REASON }).await.unwrap();
    network.heal(world.running().address().port());
    eventually(|| permits(&gate, &employee.certificate)).await;
    gate.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gate_refuses_what_a_revoked_authority_issued_and_says_so() {
    let world = World::start().await;
    let (entity, _, employee) = enrolled(&world).await;
    let clock = Arc::new(ManualClock::at(world.clock.now()));
    let caller = world.gateway("gw-1").await;
    let gate = gate::connect(&world, (&caller, world.running().address()), STRONG, &clock).await;
    gate.want(entity);
    eventually(|| permits(&gate, &employee.certificate)).await;
    let authority = world.active_id(ACCESS);
    world.enact(Command::RevokeAuthority { authority, reason: REASON }).await.unwrap();
    eventually(|| !permits(&gate, &employee.certificate)).await;
    let denied = gate.decide(&employee.certificate, &question("mythos-5"));
    assert_eq!(denied.decision.denials[0], Denial::CredentialRevoked);
    gate.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn issuance_goes_on_while_the_authority_changes() {
    const ROTATIONS: usize = 3;
    let world = World::start().await;
    let entity = world.partner().await;
    let mut tasks = tokio::task::JoinSet::new();
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let caller = AppCaller { principal: Some("alice".parse().unwrap()), request: None };
    for _ in 0..4 {
        let subject = world.person(entity, "EMPLOYEE", EvidenceKind::NoUsStatus).await;
        let (app, caller) = (Arc::clone(world.running().app()), caller.clone());
        let stop = Arc::clone(&stop);
        tasks.spawn(async move {
            let mut issued = Vec::new();
            while !stop.load(std::sync::atomic::Ordering::SeqCst) {
                let new = app.create_token(&caller, subject, 0, Mode::Commit).await.unwrap();
                let key = key();
                let first = app.enroll(&new.token.reveal(), &key.request().unwrap()).await.unwrap();
                let certificate = app.read_certificate(&first.certificate).unwrap();
                let renewed = app.renew(&certificate, &crate::calls::key().request().unwrap()).await.unwrap();
                issued.extend([first.certificate, renewed.certificate]);
            }
            issued
        });
    }
    let mut issuers = vec![world.active_id(ACCESS)];
    for _ in 0..ROTATIONS {
        tokio::time::sleep(Duration::from_millis(150)).await;
        issuers.push(world.rotate(ACCESS).await);
    }
    tokio::time::sleep(Duration::from_millis(150)).await;
    stop.store(true, std::sync::atomic::Ordering::SeqCst);
    let mut seen = std::collections::BTreeSet::new();
    while let Some(issued) = tasks.join_next().await {
        for certificate in issued.unwrap() {
            assert!(world.mythos(&certificate).await.permit, "no certificate was lost or wrongly refused");
            seen.insert(world.read(&certificate).issuer);
        }
    }
    assert!(seen.len() > 1 && seen.iter().all(|issuer| issuers.contains(issuer)), "{seen:?}");
}

/// Can a client connect that trusts this system authority only?
async fn connects(world: &World, root: AuthorityId) -> bool {
    let row = world.running().app().state().authorities[&root].clone();
    let config = world.tls_of(std::slice::from_ref(&row.certificate), None);
    crate::world::tls_stream(config, world.running().address()).await.is_ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_system_authority_changes_old_and_new_clients_connect() {
    let world = World::start().await;
    let old = world.active_id(SYSTEM);
    let clock = Arc::new(ManualClock::at(world.clock.now()));
    let caller = world.gateway("gw-1").await;
    let gate = gate::connect(&world, (&caller, world.running().address()), STRONG, &clock).await;
    let next = world.rotate(SYSTEM).await;
    let (_, system) = world.bundle().await;
    assert_eq!(system.authorities().iter().map(|a| a.id()).collect::<Vec<_>>(), [old, next]);
    // Who knows the old one only still gets in, and who is certified now is certified by the new one.
    assert!(connects(&world, old).await);
    let fresh = world.gateway("gw-2").await;
    assert_eq!(world.issuer(&fresh), next);
    // The listener trusts it from its record on: known, and no officer.
    let mut client = AuthorityServiceClient::new(world.connect_as(&fresh).await);
    let denied = client.list_authorities(pb::ListAuthoritiesRequest {}).await;
    refused(denied, Code::PermissionDenied, "");
    // Alone it cannot be revoked: the officers' certificates are of it.
    let revoke = Command::RevokeAuthority { authority: old, reason: REASON };
    refused(
        world.enact(revoke.clone()).await,
        Code::FailedPrecondition,
        "two approvers with certificates of another",
    );
    for officer in [&world.alice, &world.bob] {
        let csr = officer.key.request().unwrap();
        let issued =
            world.running().app().issue_principal(&officer.name.parse().unwrap(), &csr).await.unwrap();
        assert_eq!(world.read(&issued.certificate).issuer, next);
    }
    // Tainted: the server shows the new one at once, and the gate, which has learnt it, finds it.
    let taint = Command::TaintAuthority { authority: old, reason: REASON };
    world.restrict(taint, pb::Wait::Committed).await.unwrap();
    for _ in 0..200 {
        if connects(&world, next).await && !connects(&world, old).await {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(connects(&world, next).await && !connects(&world, old).await);
    let (port, mut world) = (world.running().address().port(), world);
    world.close().await;
    world.open_at(port).await;
    eventually(|| {
        gate.status().fault.is_none() && gate.status().position == world.running().app().state().position
    })
    .await;
    gate.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_made_here_and_only_for_what_is_asked() {
    let mut world = World::start().await;
    let ask = |kind: &str, life_days| pb::PrepareAuthorityRequest {
        kind: kind.to_owned(),
        life_days,
        ..Default::default()
    };
    refused(world.authorities().prepare_authority(ask("ROOT", 0)).await, Code::InvalidArgument, "ROOT");
    refused(
        world.authorities().prepare_authority(ask("ACCESS", 4_000)).await,
        Code::InvalidArgument,
        "ten years",
    );
    assert!(keys_of(&world).is_empty(), "a key without an authority was left");
    let made = world.authorities().prepare_authority(ask("ACCESS", 0)).await.unwrap().into_inner();
    let again = world.authorities().prepare_authority(ask("ACCESS", 0)).await.unwrap().into_inner();
    assert_eq!(made.authority_id, again.authority_id, "nobody piles up keys");
    assert_eq!(keys_of(&world), [format!("{}.pem", made.authority_id)]);
    // Somebody else's certificate, and one whose key is in use, is not trusted even by two.
    let other = countersign::domain::authority::NewAuthority {
        id: made.authority_id.parse().unwrap(),
        kind: ACCESS,
        certificate: world.running().app().state().authority(ACCESS).unwrap().certificate.clone(),
        not_after: world.clock.now().plus_ms(86_400_000),
        beneath: None,
    };
    refused(world.enact(Command::PrepareAuthority(other)).await, Code::InvalidArgument, "certificate");
    // Nothing names the key after a restart: it is set aside, and what was signed for it is refused.
    world.close().await;
    world.open().await;
    assert!(keys_of(&world).is_empty());
    let mandate = made.mandate.to_vec();
    let approvals = vec![world.alice.approve(&mandate), world.bob.approve(&mandate)];
    refused(world.submit(mandate, approvals).await, Code::FailedPrecondition, "is not at this server");
    // While officers are asked to sign, it stays.
    let made = world.authorities().prepare_authority(ask("ACCESS", 0)).await.unwrap().into_inner();
    let mandate = made.mandate.to_vec();
    let proposed = world.submit(mandate.clone(), vec![world.alice.approve(&mandate)]).await.unwrap();
    world.close().await;
    world.open().await;
    let approval = Some(world.bob.approve(&mandate));
    let request =
        pb::ApproveProposalRequest { proposal_id: proposed.proposal_id, approval, ..Default::default() };
    let mut client = pb::mandate_service_client::MandateServiceClient::new(world.bob());
    client.approve_proposal(request).await.unwrap();
    world.enact(Command::ActivateAuthority(made.authority_id.parse().unwrap())).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn each_authority_has_its_own_lists_and_a_set_has_all_of_them() {
    let world = World::start().await;
    let (_, subject, first) = enrolled(&world).await;
    let old = world.active_id(ACCESS);
    let next = world.rotate(ACCESS).await;
    let second = world.enroll(subject).await;
    let app = world.running().app();
    for caller in [&first, &second] {
        world.restrict(gate::revoke(&world, &caller.certificate), pb::Wait::Committed).await.unwrap();
    }
    let set = app.trust_set(countersign::app::Term::Leased, None).await.unwrap();
    let bundle = TrustBundle::from_pem(std::str::from_utf8(&set.bundle).unwrap()).unwrap();
    assert_eq!((bundle.authorities().len(), set.entries), (2, 2));
    let lists = pem::parse_many(&set.crl).unwrap();
    let lists = lists.iter().map(|list| countersign::x509::crl_read::read(list.contents(), &bundle).unwrap());
    for (list, (issuer, caller)) in lists.zip([(old, &first), (next, &second)]) {
        assert_eq!((list.issuer, list.serials.len()), (issuer, 1));
        assert!(list.serials.contains(&world.read(&caller.certificate).serial));
        let shard = app.crl(issuer, 0).await.unwrap().unwrap();
        let shard = countersign::x509::crl_read::read(&shard.der, &bundle).unwrap();
        assert_eq!(shard.serials.len(), 1, "it lists its own and no other's");
    }
    // Revoked, it leaves the set; the other one stays.
    world.enact(Command::RevokeAuthority { authority: old, reason: REASON }).await.unwrap();
    let set = app.trust_set(countersign::app::Term::Leased, None).await.unwrap();
    let bundle = TrustBundle::from_pem(std::str::from_utf8(&set.bundle).unwrap()).unwrap();
    assert!(bundle.authorities().len() == 1 && bundle.find(next).is_some() && !set.is_closed);
    // Without any, a set that lets nobody in.
    world.enact(Command::RevokeAuthority { authority: next, reason: REASON }).await.unwrap();
    let set = app.trust_set(countersign::app::Term::Leased, None).await.unwrap();
    assert!(set.is_closed && !set.bundle.is_empty());
}

/// Signs with both officers' keys what a victim is to do.
fn by_both(app: &App, data: &Path, command: Command) -> SignedMandate {
    let bytes = to_bytes(&app.prepare(command));
    let approval = |name: &'static str| {
        let officer = Officer { name, key: ClientKey::from_pem(&told(data, name)).unwrap() };
        Approval { officer: name.parse().unwrap(), signature: officer.approve(&bytes).signature.to_vec() }
    };
    let approvals = vec![approval("alice"), approval("bob")];
    SignedMandate { bytes, approvals }
}

/// What a victim does, until it is killed: the step that it was told.
pub(crate) async fn take_step(app: &Arc<App>, data: &Path) {
    let caller = AppCaller { principal: Some("alice".parse().unwrap()), request: None };
    let step = told(data, "step");
    let command = match step.split_once(' ') {
        None => Command::PrepareAuthority(app.prepare_authority(ACCESS, None).await.unwrap().authority),
        Some((verb, id)) => {
            let id: AuthorityId = id.parse().unwrap();
            match verb {
                "activate" => Command::ActivateAuthority(id),
                "rollback" => Command::RollbackAuthority(id),
                "taint" => Command::TaintAuthority { authority: id, reason: REASON },
                "retire" => Command::RetireAuthority(id),
                "revoke" => Command::RevokeAuthority { authority: id, reason: REASON },
                other => panic!("no step {other}"),
            }
        }
    };
    let signed = by_both(app, data, command);
    app.submit(&caller, signed, Mode::Commit).await.unwrap();
    // The kill point did not kill: the parent sees a clean end.
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_any_step_a_rotation_stands_before_it_or_after_it() {
    if asked("COUNTERSIGN_TEST_VICTIM").is_some() {
        return;
    }
    let mut world = World::start().await;
    let (_, subject, _) = enrolled(&world).await;
    brief(&world, "bob", &world.bob.key.to_pem());
    let mut next = None;
    let old = world.active_id(ACCESS);
    for (verb, before, after) in [
        ("prepare", None, Some(AuthorityState::Prepared)),
        ("activate", Some(AuthorityState::Prepared), Some(AuthorityState::Active)),
        ("rollback", Some(AuthorityState::Active), Some(AuthorityState::Prepared)),
        ("taint", Some(AuthorityState::Prepared), Some(AuthorityState::Tainted)),
        ("retire", Some(AuthorityState::Tainted), Some(AuthorityState::Retired)),
    ] {
        let step = next.map_or_else(|| verb.to_owned(), |id| format!("{verb} {id}"));
        brief(&world, "step", &step);
        let points: &[&str] = match verb {
            "prepare" => &["authority.after_key", "mandate.before_record", "mandate.after_record"],
            _ => &["mandate.before_record", "mandate.after_record"],
        };
        for point in points {
            world.close().await;
            assert!(Victim::start(&world, "step", Some(point)).last_words().is_empty());
            countersign::app::store::verify_offline(world.dir.path(), &mut |_| ()).unwrap();
            world.open().await;
            let state = world.running().app().state();
            let known = state.authorities.keys().filter(|id| state.authorities[*id].kind == ACCESS);
            next = known.copied().find(|id| *id != old);
            let expected = if *point == "mandate.after_record" { after } else { before };
            assert_eq!(next.map(|id| state.authorities[&id].state), expected, "{verb} {point}");
            // A key is there exactly when the record names it, and exactly one authority issues.
            assert_eq!(keys_of(&world).len(), usize::from(next.is_some()), "{verb} {point}");
            let active =
                state.authorities.values().filter(|a| a.kind == ACCESS && a.state == AuthorityState::Active);
            assert_eq!(active.count(), 1, "{verb} {point}");
            let caller = world.enroll(subject).await;
            assert_eq!(world.issuer(&caller), world.active_id(ACCESS));
            if verb == "rollback" && *point == "mandate.after_record" {
                // So that what the new one issued has ended when it is retired.
                world.clock.advance_ms(25 * HOUR_MS);
            }
        }
    }
    assert_eq!(world.active_id(ACCESS), old);
}
