//! Recovery keys through the real RPC: what enough of them announce, what nobody can do with fewer, and who stops it.

use std::time::Duration;

use countersign::domain::approval::{Basis, MANDATE_PREFIX, Mandate};
use countersign::domain::certificate::PrincipalKind;
use countersign::domain::codec::to_bytes;
use countersign::domain::command::{Command, NewPrincipal, ObjectRef};
use countersign::domain::event::{Entry, Event};
use countersign::domain::id::Seq;
use countersign::domain::principal::Role;
use countersign::domain::recovery::{RECOVERY_PREFIX, RecoverySignature, SignedRecovery};
use countersign::domain::revocation::{RevocationReason, StopScope};
use countersign::env::Clock as _;
use countersign::pb;
use countersign::pb::mandate_service_client::MandateServiceClient;
use countersign::x509::ClientKey;
use tokio::time::timeout;
use tonic::{Code, Status};

use crate::calls::{key, refused};
use crate::world::{Caller, TRUST_DOMAIN, World, sign};

const LIMIT: Duration = Duration::from_secs(20);
const DAY_MS: u32 = 86_400_000;

pub(crate) fn officer(name: &str, key: &ClientKey) -> NewPrincipal {
    NewPrincipal {
        id: name.parse().unwrap(),
        kind: PrincipalKind::Officer,
        roles: vec![Role::Approver, Role::SecurityOps],
        entity: None,
        key: key.public_key().spki().to_vec(),
        is_pausable: false,
    }
}

/// What recovery keys sign, as `countersign recovery prepare` writes it.
pub(crate) fn prepared(world: &World, command: Command) -> Vec<u8> {
    let basis = command.objects().into_iter().map(|object| Basis { object, revision: Seq(0) }).collect();
    let made_at = world.clock.now();
    to_bytes(&Mandate { trust_domain: TRUST_DOMAIN.to_owned(), command, basis, made_at })
}

pub(crate) fn by(key: &ClientKey, bytes: &[u8]) -> pb::RecoverySignature {
    let digest = key.public_key().digest().to_string();
    pb::RecoverySignature { key_sha256: digest, signature: sign(key, RECOVERY_PREFIX, bytes).into() }
}

pub(crate) fn request(
    bytes: &[u8],
    signatures: Vec<pb::RecoverySignature>,
    key: &ClientKey,
) -> pb::SubmitRecoveryRequest {
    pb::SubmitRecoveryRequest {
        mandate: bytes.to_vec().into(),
        signatures,
        csr: key.request().unwrap().into(),
        validate_only: false,
    }
}

/// Without any certificate: who needs it has none.
pub(crate) async fn submit(
    world: &World,
    request: pb::SubmitRecoveryRequest,
) -> Result<pb::SubmitRecoveryResponse, Status> {
    let mut client = MandateServiceClient::new(world.connect(None).await);
    Ok(client.submit_recovery(request).await?.into_inner())
}

async fn waiting(world: &World) -> Vec<pb::Recovery> {
    let list = pb::ListProposalsRequest::default();
    MandateServiceClient::new(world.bob()).list_proposals(list).await.unwrap().into_inner().recoveries
}

/// Waits until the service has looked and the recovery is over.
pub(crate) async fn over(world: &World) {
    let over = async {
        while !world.running().app().state().recoveries.is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(LIMIT, over).await.expect("it is over");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_of_three_recovery_keys_register_an_officer_a_day_later() {
    let mut world = World::start().await;
    let carol = key();
    let bytes = prepared(&world, Command::RegisterPrincipal(officer("carol", &carol)));
    let signatures = vec![by(&world.recovery[0], &bytes), by(&world.recovery[2], &bytes)];
    let mut news = MandateServiceClient::new(world.bob())
        .watch_approvals(pb::WatchApprovalsRequest {})
        .await
        .unwrap()
        .into_inner();
    news.message().await.unwrap().expect("what waits");
    let dry =
        pb::SubmitRecoveryRequest { validate_only: true, ..request(&bytes, signatures.clone(), &carol) };
    assert_eq!(submit(&world, dry).await.unwrap(), pb::SubmitRecoveryResponse::default());
    assert!(waiting(&world).await.is_empty());
    let announced = submit(&world, request(&bytes, signatures.clone(), &carol)).await.unwrap();
    assert!(announced.recovery_id.starts_with("prp_") && announced.certificate.is_empty());
    assert_eq!(announced.effective_at, world.clock.now().plus_ms(i64::from(DAY_MS)).to_string());
    // Announced once, and to everybody.
    assert_eq!(submit(&world, request(&bytes, signatures.clone(), &carol)).await.unwrap(), announced);
    let told = timeout(LIMIT, news.message()).await.unwrap().unwrap().unwrap();
    assert_eq!((told.recoveries.len(), told.recoveries[0].principal.as_str()), (1, "carol"));
    let [shown] = waiting(&world).await.try_into().unwrap();
    assert_eq!((shown.recovery_id, shown.signed_by.len()), (announced.recovery_id.clone(), 2));
    // Not a second early, not even after a restart, and not in a forged record.
    world.clock.advance_ms(DAY_MS - 1_000);
    world.close().await;
    world.open().await;
    let state = world.running().app().state();
    assert!(state.officer(&"carol".parse().unwrap()).is_none());
    let id = announced.recovery_id.parse().unwrap();
    let early = Entry { event: Event::RecoveryTookEffect(id), by: None, request: None };
    let fault =
        state.as_ref().clone().apply(state.position.seq.next(), world.clock.now(), &early).unwrap_err();
    assert!(fault.why.contains("effective at"), "{fault}");
    let again = submit(&world, request(&bytes, signatures.clone(), &carol)).await.unwrap();
    assert_eq!(again, announced);
    world.clock.advance_ms(1_000);
    over(&world).await;
    // The same command gives the certificate, to the key that is registered and no other.
    let of_other = request(&bytes, signatures.clone(), &key());
    refused(submit(&world, of_other).await, Code::InvalidArgument, "csr");
    let effective = submit(&world, request(&bytes, signatures, &carol)).await.unwrap();
    let carol = Caller { key: carol, certificate: effective.certificate.to_vec() };
    let channel = world.connect_as(&carol).await;
    let list = pb::ListProposalsRequest::default();
    MandateServiceClient::new(channel).list_proposals(list).await.unwrap();
    // And she approves what another one proposes.
    world
        .restrict(
            Command::Stop { scope: StopScope::All, reason: RevocationReason::Drill },
            pb::Wait::Committed,
        )
        .await
        .unwrap();
    let mandate = world.mandate(&Command::ReleaseStop(StopScope::All)).await.unwrap();
    let signature = sign(&carol.key, MANDATE_PREFIX, &mandate).into();
    let of_carol = pb::Approval { officer: "carol".to_owned(), signature };
    world.submit(mandate.clone(), vec![world.alice.approve(&mandate), of_carol]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn any_one_officer_rejects_a_recovery_in_time() {
    let world = World::start().await;
    let auditor = world.principal("audrey", (PrincipalKind::Officer, &[Role::Auditor]), None).await;
    let carol = key();
    let bytes = prepared(&world, Command::RegisterPrincipal(officer("carol", &carol)));
    let signatures = vec![by(&world.recovery[0], &bytes), by(&world.recovery[1], &bytes)];
    let announced = submit(&world, request(&bytes, signatures.clone(), &carol)).await.unwrap();
    let reject = pb::RejectProposalRequest {
        proposal_id: announced.recovery_id.clone(),
        reason: "nobody of us asked for it".to_owned(),
        ..Default::default()
    };
    let mut client = MandateServiceClient::new(world.connect_as(&auditor).await);
    client.reject_proposal(reject.clone()).await.unwrap();
    assert!(waiting(&world).await.is_empty());
    refused(client.reject_proposal(reject).await, Code::NotFound, "proposal");
    for _ in 0..2 {
        world.clock.advance_ms(DAY_MS);
    }
    assert!(world.running().app().state().officer(&"carol".parse().unwrap()).is_none());
    let id = announced.recovery_id.parse().unwrap();
    let state = world.running().app().state();
    let late = Entry { event: Event::RecoveryTookEffect(id), by: None, request: None };
    let fault =
        state.as_ref().clone().apply(state.position.seq.next(), world.clock.now(), &late).unwrap_err();
    assert!(fault.why.contains("no recovery that waits"), "{fault}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_less_than_enough_recovery_keys_over_these_bytes_announces_anything() {
    let world = World::start().await;
    let carol = key();
    let bytes = prepared(&world, Command::RegisterPrincipal(officer("carol", &carol)));
    let [a, b, c] = [0, 1, 2].map(|n| by(&world.recovery[n], &bytes));
    let before = world.running().app().state().position;
    let no = async |signatures: Vec<pb::RecoverySignature>, says: &str| {
        let answer = submit(&world, request(&bytes, signatures, &carol)).await;
        refused(answer, Code::FailedPrecondition, says);
    };
    no(vec![], "needs the signatures of 2 recovery keys and has 0").await;
    no(vec![a.clone()], "needs the signatures of 2 recovery keys and has 1").await;
    no(vec![a.clone(), a.clone()], "signed twice").await;
    // The second signature of one key is another one, and still one key.
    no(vec![a.clone(), by(&world.recovery[0], &bytes)], "signed twice").await;
    no(vec![a.clone(), by(&key(), &bytes)], "not one of the recovery keys").await;
    no(vec![a.clone(), by(&world.bob.key, &bytes)], "not one of the recovery keys").await;
    let disguised = pb::RecoverySignature { signature: a.signature.clone(), ..b.clone() };
    no(vec![a.clone(), disguised], "does not verify").await;
    // For something else: as a mandate, for other bytes.
    let as_mandate = sign(&world.recovery[1], MANDATE_PREFIX, &bytes).into();
    no(vec![a.clone(), pb::RecoverySignature { signature: as_mandate, ..b.clone() }], "does not verify")
        .await;
    let other = prepared(&world, Command::RegisterPrincipal(officer("dave", &carol)));
    no(vec![a.clone(), by(&world.recovery[1], &other)], "does not verify").await;
    // Least power: they register officers and do nothing else.
    let gateway =
        NewPrincipal { kind: PrincipalKind::Gateway, roles: vec![Role::Gateway], ..officer("gw", &carol) };
    for command in [
        Command::RegisterPrincipal(gateway),
        Command::RemovePrincipal("alice".parse().unwrap()),
        Command::ReleaseStop(StopScope::All),
    ] {
        let bytes = prepared(&world, command);
        let both = vec![by(&world.recovery[0], &bytes), by(&world.recovery[1], &bytes)];
        let answer = submit(&world, request(&bytes, both, &carol)).await;
        refused(answer, Code::FailedPrecondition, "register officers and nothing else");
    }
    // Nobody takes a name that is on record, and a basis that says so is no basis.
    let alice = prepared(&world, Command::RegisterPrincipal(officer("alice", &carol)));
    let both = vec![by(&world.recovery[0], &alice), by(&world.recovery[1], &alice)];
    refused(submit(&world, request(&alice, both, &carol)).await, Code::Aborted, "changed since");
    assert_eq!(world.running().app().state().position, before);
    drop(c);
}

#[tokio::test(flavor = "multi_thread")]
async fn old_signatures_and_those_of_a_blocked_key_announce_nothing() {
    let world = World::start().await;
    let carol = key();
    let command = Command::RegisterPrincipal(officer("carol", &carol));
    let bytes = prepared(&world, command.clone());
    let [a, b] = [0, 1].map(|n| by(&world.recovery[n], &bytes));
    let before = world.running().app().state().position;
    let late = request(&bytes, vec![a.clone(), b.clone()], &carol);
    for _ in 0..7 {
        world.clock.advance_ms(DAY_MS);
    }
    world.clock.advance_ms(1);
    refused(submit(&world, late).await, Code::Aborted, "older than seven days");
    assert_eq!(world.running().app().state().position, before);
    let fresh = prepared(&world, command);
    let block = Command::BlockKey {
        key: world.recovery[2].public_key().digest(),
        reason: RevocationReason::KeyCompromise,
    };
    world.enact(block).await.unwrap();
    let with_blocked = vec![by(&world.recovery[0], &fresh), by(&world.recovery[2], &fresh)];
    let answer = submit(&world, request(&fresh, with_blocked, &carol)).await;
    refused(answer, Code::FailedPrecondition, "or it is blocked");
    let good = vec![by(&world.recovery[0], &fresh), by(&world.recovery[1], &fresh)];
    submit(&world, request(&fresh, good, &carol)).await.unwrap();
    // The record is not fed one either.
    let state = world.running().app().state();
    let signature = |n: usize| RecoverySignature {
        key: world.recovery[n].public_key().digest(),
        signature: sign(&world.recovery[n], RECOVERY_PREFIX, &fresh),
    };
    let signed = SignedRecovery { bytes: fresh.clone(), signatures: vec![signature(0)] };
    let id = "prp_01ARZ3NDEKTSV4RRFFQ69G5FAV".parse().unwrap();
    let forged = Entry { event: Event::RecoveryAnnounced { id, signed }, by: None, request: None };
    let fault =
        state.as_ref().clone().apply(state.position.seq.next(), world.clock.now(), &forged).unwrap_err();
    assert!(fault.why.contains("needs the signatures of 2 recovery keys"), "{fault}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recovery_whose_name_is_taken_meanwhile_is_never_effective() {
    let world = World::start().await;
    let carol = key();
    let bytes = prepared(&world, Command::RegisterPrincipal(officer("carol", &carol)));
    let both = vec![by(&world.recovery[0], &bytes), by(&world.recovery[1], &bytes)];
    submit(&world, request(&bytes, both.clone(), &carol)).await.unwrap();
    // Two officers register somebody else of that name.
    world.enact(Command::RegisterPrincipal(officer("carol", &key()))).await.unwrap();
    over(&world).await;
    world.clock.advance_ms(DAY_MS);
    let name: countersign::domain::id::PrincipalId = "carol".parse().unwrap();
    let registered = world.running().app().state().principals[&name].key.clone();
    assert_ne!(registered, carol.public_key().spki());
    let again = submit(&world, request(&bytes, both, &carol)).await;
    refused(again, Code::Aborted, "changed since");
    assert_eq!(ObjectRef::Principal("carol".parse().unwrap()).to_string(), "principal carol");
}
