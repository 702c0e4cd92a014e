//! What waits for another officer, through the real RPCs: shown, watched, rejected, lapsed; and which signatures do not count.

use std::time::Duration;

use countersign::domain::approval::{MANDATE_PREFIX, Mandate};
use countersign::domain::certificate::PrincipalKind;
use countersign::domain::codec::{from_bytes, to_bytes};
use countersign::domain::command::Command;
use countersign::domain::principal::Role;
use countersign::domain::revocation::{RevocationReason, StopScope};
use countersign::pb;
use countersign::pb::mandate_service_client::MandateServiceClient;
use tokio::time::timeout;
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};

use crate::calls::{reason, refused};
use crate::world::{Caller, World, sign};

/// News come within two looks; the rest is for a busy machine.
const LIMIT: Duration = Duration::from_secs(20);
const DAY_MS: u32 = 86_400_000;
const STOP: Command = Command::Stop { scope: StopScope::All, reason: RevocationReason::Drill };

type News = Streaming<pb::WatchApprovalsResponse>;

/// A service with a stop engaged, whose release is a command for two; and the mandate of it.
async fn stopped() -> (World, Vec<u8>) {
    let world = World::start().await;
    world.restrict(STOP, pb::Wait::Committed).await.unwrap();
    let mandate = release(&world).await;
    (world, mandate)
}

async fn release(world: &World) -> Vec<u8> {
    world.mandate(&Command::ReleaseStop(StopScope::All)).await.unwrap()
}

fn is_stopped(world: &World) -> bool {
    world.running().app().state().enforcement.stops.contains(&StopScope::All)
}

async fn propose(world: &World, mandate: &[u8]) -> String {
    let approvals = vec![world.alice.approve(mandate)];
    world.submit(mandate.to_vec(), approvals).await.unwrap().proposal_id
}

async fn approve(channel: Channel, id: &str, approval: pb::Approval) -> Result<u32, Status> {
    let request = pb::ApproveProposalRequest {
        proposal_id: id.to_owned(),
        approval: Some(approval),
        ..Default::default()
    };
    let answer = MandateServiceClient::new(channel).approve_proposal(request).await?;
    Ok(answer.into_inner().signatures_missing)
}

async fn reject(channel: Channel, id: &str, why: &str) -> Result<u64, Status> {
    let request = pb::RejectProposalRequest {
        proposal_id: id.to_owned(),
        reason: why.to_owned(),
        ..Default::default()
    };
    let answer = MandateServiceClient::new(channel).reject_proposal(request).await?;
    Ok(answer.into_inner().position.unwrap().seq)
}

async fn show(world: &World, id: &str) -> Result<pb::Proposal, Status> {
    let request = pb::GetProposalRequest { proposal_id: id.to_owned() };
    let answer = MandateServiceClient::new(world.bob()).get_proposal(request).await?;
    Ok(answer.into_inner().proposal.unwrap())
}

async fn watch(channel: Channel) -> Result<News, Status> {
    let request = pb::WatchApprovalsRequest {};
    Ok(MandateServiceClient::new(channel).watch_approvals(request).await?.into_inner())
}

/// The next message; its proposals.
async fn next(news: &mut News) -> Vec<pb::Proposal> {
    let message = timeout(LIMIT, news.message()).await.expect("news within the limit");
    message.unwrap().expect("the stream goes on").changed
}

/// Reads until a proposal has this status.
async fn until(news: &mut News, id: &str, status: &str) -> pb::Proposal {
    loop {
        let changed = next(news).await;
        if let Some(found) = changed.into_iter().find(|p| p.proposal_id == id && p.status == status) {
            return found;
        }
    }
}

/// An officer with these roles, and their signature over a mandate.
async fn officer(world: &World, name: &str, roles: &[Role]) -> Caller {
    world.principal(name, (PrincipalKind::Officer, roles), None).await
}

fn signature(name: &str, caller: &Caller, bytes: &[u8]) -> pb::Approval {
    let signature = sign(&caller.key, MANDATE_PREFIX, bytes).into();
    pb::Approval { officer: name.to_owned(), signature }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proposal_says_who_may_approve_it_what_it_rests_on_and_when_it_lapses() {
    let (world, mandate) = stopped().await;
    officer(&world, "carol", &[Role::Approver]).await;
    officer(&world, "vera", &[Role::Vetter, Role::SecurityOps]).await;
    let id = propose(&world, &mandate).await;
    let shown = show(&world, &id).await.unwrap();
    assert_eq!((shown.status.as_str(), shown.why.as_str()), ("WAITING", ""));
    assert_eq!(shown.signed_by, ["alice"]);
    assert_eq!(shown.may_approve, ["bob", "carol"], "not who signed, nor who lacks the role");
    let read: Mandate = from_bytes(&mandate).unwrap();
    assert_eq!(shown.lapses_at, read.made_at.plus_ms(7 * i64::from(DAY_MS)).to_string());
    let [object] = shown.objects.as_slice() else { panic!("{shown:?}") };
    assert_eq!(object.object, "stop of everything");
    assert_eq!((object.revision_then, object.revision_now), (read.basis[0].revision.0, object.revision_then));
    approve(world.bob(), &id, world.bob.approve(&mandate)).await.unwrap();
    let shown = show(&world, &id).await.unwrap();
    assert_eq!((shown.status.as_str(), shown.closed_by.as_str()), ("ENACTED", "bob"));
    assert_eq!(shown.signed_by, ["alice", "bob"]);
    assert!(shown.closed_seq > 0 && shown.may_approve.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rejection_is_on_record_with_its_reason_and_nobody_approves_any_more() {
    let (mut world, mandate) = stopped().await;
    let id = propose(&world, &mandate).await;
    refused(reject(world.bob(), &id, "").await, Code::InvalidArgument, "reason");
    refused(reject(world.bob(), &id, "two\nlines").await, Code::InvalidArgument, "reason");
    // A vetter could not have approved it, and does not stop it either.
    let vera = officer(&world, "vera", &[Role::Vetter]).await;
    let by_vera = reject(world.connect_as(&vera).await, &id, "no").await;
    refused(by_vera, Code::PermissionDenied, "who may approve or restrict");
    let request = pb::RejectProposalRequest {
        proposal_id: id.clone(),
        reason: "the order still stands".to_owned(),
        request_id: "req_01ARZ3NDEKTSV4RRFFQ69G5FAV".to_owned(),
        validate_only: true,
    };
    let mut bob = MandateServiceClient::new(world.bob());
    bob.reject_proposal(request.clone()).await.unwrap();
    assert_eq!(show(&world, &id).await.unwrap().status, "WAITING", "a dry run rejects nothing");
    let request = pb::RejectProposalRequest { validate_only: false, ..request };
    let first = bob.reject_proposal(request.clone()).await.unwrap().into_inner();
    assert_eq!(bob.reject_proposal(request.clone()).await.unwrap().into_inner(), first);
    let again = reject(world.bob(), &id, "again").await;
    refused(again, Code::FailedPrecondition, "waits no more: REJECTED");
    let late = approve(world.bob(), &id, world.bob.approve(&mandate)).await;
    refused(late, Code::FailedPrecondition, "waits no more: REJECTED");
    assert!(is_stopped(&world));
    world.close().await;
    world.open().await;
    let shown = show(&world, &id).await.unwrap();
    assert_eq!((shown.status.as_str(), shown.closed_by.as_str()), ("REJECTED", "bob"));
    assert_eq!(
        (shown.why.as_str(), shown.closed_seq),
        ("the order still stands", first.position.unwrap().seq)
    );
    refused(reject(world.bob(), "prp_01ARZ3NDEKTSV4RRFFQ69G5FAV", "no").await, Code::NotFound, "proposal");
    // Rejected is rejected, whoever has signatures; prepared anew it waits again, and who proposed it may take it back.
    let both = vec![world.alice.approve(&mandate), world.bob.approve(&mandate)];
    refused(world.submit(mandate.clone(), both).await, Code::Aborted, "rejected exactly this");
    world.clock.advance_ms(1);
    let mandate = release(&world).await;
    let id = propose(&world, &mandate).await;
    reject(world.alice(), &id, "a mistake").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_never_be_carried_out_lapses_and_says_why() {
    let (world, mandate) = stopped().await;
    let mut news = watch(world.bob()).await.unwrap();
    assert!(next(&mut news).await.is_empty(), "nothing waits");
    let id = propose(&world, &mandate).await;
    assert_eq!(until(&mut news, &id, "WAITING").await.signed_by, ["alice"]);
    // Released by others and engaged again: the stop is not the one that alice saw.
    let anew = release(&world).await;
    let both = vec![world.alice.approve(&anew), world.bob.approve(&anew)];
    world.submit(anew, both).await.unwrap();
    world.restrict(STOP, pb::Wait::Committed).await.unwrap();
    let lapsed = until(&mut news, &id, "LAPSED").await;
    assert!(lapsed.why.contains("stop of everything changed since"), "{lapsed:?}");
    assert!(lapsed.may_approve.is_empty());
    let late = approve(world.bob(), &id, world.bob.approve(&mandate)).await;
    refused(late, Code::Aborted, "changed since");
    // Seven days, to the millisecond.
    let mandate = release(&world).await;
    let id = propose(&world, &mandate).await;
    until(&mut news, &id, "WAITING").await;
    for _ in 0..7 {
        world.clock.advance_ms(DAY_MS);
    }
    assert_eq!(show(&world, &id).await.unwrap().status, "WAITING");
    world.clock.advance_ms(1);
    let late = approve(world.bob(), &id, world.bob.approve(&mandate)).await;
    refused(late, Code::Aborted, "older than seven days");
    // And it waits no longer: the record says that it lapsed.
    let gone = async {
        while show(&world, &id).await.unwrap().closed_seq == 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(LIMIT, gone).await.expect("it is closed");
    let shown = show(&world, &id).await.unwrap();
    assert_eq!((shown.status.as_str(), shown.closed_by.as_str()), ("LAPSED", ""));
    assert!(shown.why.contains("older than seven days"), "{shown:?}");
    assert!(world.running().app().state().proposals.is_empty() && is_stopped(&world));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_shows_what_waits_and_then_every_change() {
    let (world, mandate) = stopped().await;
    let first = propose(&world, &mandate).await;
    let mut news = watch(world.bob()).await.unwrap();
    let waiting = next(&mut news).await;
    let [one] = waiting.as_slice() else { panic!("{waiting:?}") };
    assert_eq!((one.proposal_id.as_str(), one.command.as_str()), (first.as_str(), "RELEASE_STOP"));
    assert!(one.mandate.is_none());
    reject(world.bob(), &first, "not yet").await.unwrap();
    assert_eq!(until(&mut news, &first, "REJECTED").await.why, "not yet");
    world.clock.advance_ms(1);
    let mandate = release(&world).await;
    let second = propose(&world, &mandate).await;
    approve(world.bob(), &second, world.bob.approve(&mandate)).await.unwrap();
    assert_eq!(until(&mut news, &second, "ENACTED").await.closed_by, "bob");
    // Who begins now is not told what is over.
    let mut later = watch(world.alice()).await.unwrap();
    assert!(next(&mut later).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn watches_are_bounded_and_end_when_their_officer_is_removed() {
    let (world, mandate) = stopped().await;
    let carol = officer(&world, "carol", &[Role::Auditor]).await;
    let channel = world.connect_as(&carol).await;
    let mut open = Vec::new();
    for _ in 0..8 {
        let mut news = watch(channel.clone()).await.unwrap();
        next(&mut news).await;
        open.push(news);
    }
    let ninth = watch(channel.clone()).await.unwrap_err();
    assert_eq!((ninth.code(), reason(&ninth).as_str()), (Code::ResourceExhausted, "LIMIT"));
    watch(world.bob()).await.unwrap();
    world.enact(Command::RemovePrincipal("carol".parse().unwrap())).await.unwrap();
    propose(&world, &mandate).await;
    for mut news in open {
        let end = timeout(LIMIT, async {
            while news.message().await?.is_some() {}
            Ok::<_, Status>(())
        });
        refused(end.await.expect("it ends"), Code::Unauthenticated, "no registered principal");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_good_signature_of_another_acting_approver_over_these_bytes_counts() {
    let (world, mandate) = stopped().await;
    let carol = officer(&world, "carol", &[Role::Approver]).await;
    let vera = officer(&world, "vera", &[Role::Vetter, Role::SecurityOps]).await;
    let id = propose(&world, &mandate).await;
    let by_bob = async |approval| approve(world.bob(), &id, approval).await;
    // One's own, under one's own name and under another.
    refused(by_bob(world.alice.approve(&mandate)).await, Code::FailedPrecondition, "signed twice");
    let alias = pb::Approval { officer: "bob".to_owned(), ..world.alice.approve(&mandate) };
    refused(by_bob(alias).await, Code::FailedPrecondition, "does not verify");
    // Altered bytes: another revision, another instant, another domain, another command.
    let altered = |change: fn(&mut Mandate)| {
        let mut read: Mandate = from_bytes(&mandate).unwrap();
        change(&mut read);
        to_bytes(&read)
    };
    for bytes in [
        altered(|read| read.basis[0].revision.0 += 1),
        altered(|read| read.made_at = read.made_at.plus_ms(1)),
        altered(|read| read.trust_domain = "elsewhere.example".to_owned()),
        altered(|read| read.command = STOP),
    ] {
        refused(by_bob(world.bob.approve(&bytes)).await, Code::FailedPrecondition, "does not verify");
    }
    // A role that may not, a stranger, and nothing at all.
    refused(by_bob(signature("vera", &vera, &mandate)).await, Code::FailedPrecondition, "none of the roles");
    let stranger = signature("mallory", &carol, &mandate);
    refused(by_bob(stranger).await, Code::FailedPrecondition, "not a registered officer");
    let none = pb::Approval { officer: "bob".to_owned(), signature: Vec::new().into() };
    refused(by_bob(none).await, Code::FailedPrecondition, "does not verify");
    // A removed officer's, made while it was good.
    let of_carol = signature("carol", &carol, &mandate);
    world.enact(Command::RemovePrincipal("carol".parse().unwrap())).await.unwrap();
    refused(by_bob(of_carol).await, Code::FailedPrecondition, "not a registered officer");
    assert!(is_stopped(&world));
    let before = world.running().app().state().position;
    assert_eq!(show(&world, &id).await.unwrap().status, "WAITING", "a bad signature does not spoil it");
    assert_eq!(world.running().app().state().position, before);
    assert_eq!(by_bob(world.bob.approve(&mandate)).await.unwrap(), 0);
    assert!(!is_stopped(&world));
}
