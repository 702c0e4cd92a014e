//! Officers who leave or are compromised, and emergencies, through the real RPCs: what one does alone, what two do, and
//! what becomes of open connections.

use std::collections::BTreeSet;
use std::time::Duration;

use countersign::client::Gate;
use countersign::domain::certificate::PrincipalKind;
use countersign::domain::command::Command;
use countersign::domain::decision::Denial;
use countersign::domain::enforce::LEASE_DEFAULT_MS;
use countersign::domain::officer_command::{Emergency, OfficerCommand};
use countersign::domain::principal::Role;
use countersign::domain::revocation::{RevocationReason, StopScope};
use countersign::pb;
use countersign::pb::mandate_service_client::MandateServiceClient;
use countersign::pb::revocation_service_client::RevocationServiceClient;
use countersign::rpc::methods::{Access, METHODS};
use envoy_types::pb::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DiscoveryRequest};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};

use crate::calls::{reason, refused};
use crate::gate::{self, STRONG, gate, permits, question, world_with_employee};
use crate::sds;
use crate::world::{Caller, World, sign};

/// A stream ends within a look or two; the rest is for a busy machine.
const LIMIT: Duration = Duration::from_secs(20);
const REASON: RevocationReason = RevocationReason::KeyCompromise;

fn suspend(name: &str) -> Command {
    Command::Officers(OfficerCommand::Suspend { principal: name.parse().unwrap(), reason: REASON })
}

fn release(name: &str) -> Command {
    Command::Officers(OfficerCommand::Release(name.parse().unwrap()))
}

/// Begins a stream of any method with this first message. The other direction stays open where the method reads more.
async fn begin<M: prost::Message + Default + 'static>(
    channel: Channel,
    path: &'static str,
    first: M,
) -> (Option<mpsc::Sender<M>>, Streaming<()>) {
    let (up, waiting) = mpsc::channel(4);
    up.send(first).await.unwrap();
    let up = [SUBSCRIBE, DELTA, STATE, REFLECTION].contains(&path).then_some(up);
    let mut client = tonic::client::Grpc::new(channel);
    client.ready().await.unwrap();
    let codec = tonic_prost::ProstCodec::<M, ()>::default();
    let request = tonic::Request::new(ReceiverStream::new(waiting));
    let answer = client.streaming(request, PathAndQuery::from_static(path), codec);
    let stream = timeout(LIMIT, answer).await.expect("it begins").unwrap();
    (up, stream.into_inner())
}

/// Reads until the stream ends, and gives its last word.
async fn end(path: &str, mut stream: Streaming<()>) -> Status {
    let end = async {
        loop {
            match stream.message().await {
                Ok(Some(())) => {}
                Ok(None) => panic!("{path} ended without a word"),
                Err(status) => return status,
            }
        }
    };
    timeout(LIMIT, end).await.unwrap_or_else(|_| panic!("{path} goes on"))
}

fn open() -> pb::SubscribeRequest {
    let boot_id = "boo_01ARZ3NDEKTSV4RRFFQ69G5FAV".to_owned();
    let open = pb::Open { boot_id, versions: vec![1], ..Default::default() };
    pb::SubscribeRequest { message: Some(pb::subscribe_request::Message::Open(open)) }
}

const SUBSCRIBE: &str = "/countersign.v1.EnforcementService/Subscribe";
const DELTA: &str = "/envoy.service.secret.v3.SecretDiscoveryService/DeltaSecrets";
const STATE: &str = "/envoy.service.secret.v3.SecretDiscoveryService/StreamSecrets";
const GATEWAYS: &str = "/countersign.v1.EnforcementService/WatchGateways";
const AUTHORITIES: &str = "/countersign.v1.AuthorityService/WatchAuthorities";
const APPROVALS: &str = "/countersign.v1.MandateService/WatchApprovals";
const ENFORCEMENT: &str = "/countersign.v1.RevocationService/WatchEnforcement";
const RENEWALS: &str = "/countersign.v1.RevocationService/WatchRenewals";
/// It ends by itself, here in milliseconds, so nobody can be removed meanwhile. It is a watch like those of officers and admits
/// its caller at each look as they do.
const SIMULATE: &str = "/countersign.v1.DeterminationService/Simulate";
const REFLECTION: &str = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";

/// The streaming methods that an officer or a gateway calls. Health answers strangers, so it asks nobody who they are.
const STREAMS: [&str; 9] =
    [SUBSCRIBE, DELTA, STATE, GATEWAYS, AUTHORITIES, APPROVALS, ENFORCEMENT, RENEWALS, REFLECTION];

#[test]
fn every_streaming_method_for_principals_is_in_the_test_below() {
    use prost::Message as _;
    let set = prost_types::FileDescriptorSet::decode(pb::DESCRIPTORS).unwrap();
    let mut streaming: BTreeSet<String> = BTreeSet::new();
    for file in &set.file {
        for service in &file.service {
            for method in service.method.iter().filter(|method| method.server_streaming()) {
                streaming.insert(format!("/{}.{}/{}", file.package(), service.name(), method.name()));
            }
        }
    }
    assert!(streaming.remove(SIMULATE));
    // Not in our descriptor set: Envoy's, and reflection.
    streaming.extend([DELTA, STATE, REFLECTION].map(str::to_owned));
    assert_eq!(streaming, STREAMS.map(str::to_owned).into());
    for path in STREAMS {
        let row = METHODS.iter().find(|method| method.path == path).unwrap();
        assert!(matches!(row.access, Access::Roles(_)), "{path}");
    }
}

/// Every stream of an officer and of a gateway.
async fn every_stream(officer: &Channel, gateway: &Channel) -> Vec<(&'static str, Streaming<()>)> {
    let mut streams = Vec::new();
    let (of_feed, subscribed) = begin(gateway.clone(), SUBSCRIBE, open()).await;
    streams.push((SUBSCRIBE, subscribed));
    let node = Some(sds::node(sds::ALL));
    let names = vec![sds::LEASED.to_owned()];
    let first = DeltaDiscoveryRequest {
        node: node.clone(),
        resource_names_subscribe: names.clone(),
        ..Default::default()
    };
    let (of_delta, delta) = begin(gateway.clone(), DELTA, first).await;
    streams.push((DELTA, delta));
    let first = DiscoveryRequest { node, resource_names: names, ..Default::default() };
    let (of_state, state) = begin(gateway.clone(), STATE, first).await;
    streams.push((STATE, state));
    for path in [GATEWAYS, AUTHORITIES, APPROVALS, RENEWALS] {
        let (_, watch) = begin(officer.clone(), path, ()).await;
        streams.push((path, watch));
    }
    // Nobody made this request: the watch waits for it.
    let request_id = "req_01ARZ3NDEKTSV4RRFFQ69G5FAV".to_owned();
    let (_, watch) = begin(officer.clone(), ENFORCEMENT, pb::WatchEnforcementRequest { request_id }).await;
    streams.push((ENFORCEMENT, watch));
    let list = tonic_reflection::pb::v1::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(
            tonic_reflection::pb::v1::server_reflection_request::MessageRequest::ListServices(String::new()),
        ),
    };
    let (of_reflection, mut reflection) = begin(officer.clone(), REFLECTION, list).await;
    reflection.message().await.unwrap().expect("the services");
    streams.push((REFLECTION, reflection));
    // The other directions stay open for as long as the process: a stream ends because the service ends it.
    std::mem::forget((of_feed, of_delta, of_state, of_reflection));
    streams
}

#[tokio::test(flavor = "multi_thread")]
async fn suspension_removal_and_a_blocked_key_end_every_open_stream() {
    for (step, says) in [
        ("suspend", "is suspended"),
        ("remove", "no registered principal"),
        ("block", "no registered principal"),
    ] {
        let world = World::start().await;
        let carol = world.principal("carol", (PrincipalKind::Officer, &[Role::SecurityOps]), None).await;
        let gateway = world.gateway("gw-1").await;
        let (of_carol, of_gateway) = (world.connect_as(&carol).await, world.connect_as(&gateway).await);
        let streams = every_stream(&of_carol, &of_gateway).await;
        for (name, caller) in [("carol", &carol), ("gw-1", &gateway)] {
            let command = match step {
                "suspend" => suspend(name),
                "remove" => Command::RemovePrincipal(name.parse().unwrap()),
                _ => Command::BlockKey { key: caller.key.public_key().digest(), reason: REASON },
            };
            world.enact(command).await.unwrap();
        }
        for (path, stream) in streams {
            let status = end(path, stream).await;
            assert_eq!(status.code(), Code::Unauthenticated, "{step} {path}: {status:?}");
            // The feed may be the first to see it.
            let known = [says, "the gateway is no longer registered"];
            assert!(known.iter().any(|says| status.message().contains(says)), "{step} {path}: {status:?}");
        }
        // And the next call on the same connection.
        let list = pb::ListProposalsRequest::default();
        let next = MandateServiceClient::new(of_carol).list_proposals(list).await;
        refused(next, Code::Unauthenticated, says);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_lease_of_a_suspended_gateway_runs_out_until_two_officers_release_it() {
    let (world, leaf) = world_with_employee().await;
    let gate = gate(&world, "gw-1", STRONG, &world.clock).await;
    assert!(gate.decide_or_ask(&leaf, &question("mythos-5")).await.is_permit);
    gate::until(&gate, &leaf, permits).await;
    world.restrict(suspend("gw-1"), pb::Wait::Committed).await.unwrap();
    // No Pong comes any more. When the lease that it had is over it permits nothing, by its own clock.
    world.clock.advance_ms(LEASE_DEFAULT_MS + 1_000);
    let denied = |gate: &Gate, leaf: &[u8]| {
        gate.decide(leaf, &question("mythos-5")).decision.denials == [Denial::StaleView]
    };
    gate::until(&gate, &leaf, denied).await;
    assert!(
        !gate.decide_or_ask(&leaf, &question("mythos-5")).await.is_permit,
        "nor does the server answer it"
    );
    world.enact(release("gw-1")).await.unwrap();
    gate::until(&gate, &leaf, permits).await;
    gate.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_officer_suspends_another_and_two_release() {
    let world = World::start().await;
    let carol = world.principal("carol", (PrincipalKind::Officer, &[Role::Approver]), None).await;
    // With two approvers left, neither suspends the other: nobody could approve anything.
    world.restrict(suspend("carol"), pb::Wait::Enforced).await.unwrap();
    refused(
        world.restrict(suspend("bob"), pb::Wait::Committed).await,
        Code::FailedPrecondition,
        "two remain",
    );
    refused(world.restrict(suspend("carol"), pb::Wait::Committed).await, Code::AlreadyExists, "suspension");
    let list = pb::ListRestrictionsRequest {};
    let now = RevocationServiceClient::new(world.bob()).list_restrictions(list).await.unwrap().into_inner();
    assert_eq!(now.suspended_principals, ["carol"]);
    // No certificate, no signature, no call.
    let app = world.running().app();
    let csr = carol.key.request().unwrap();
    let issued = app.issue_principal(&"carol".parse().unwrap(), &csr).await.unwrap_err();
    assert_eq!(issued.code(), "WRONG_STATE");
    assert!(!world.verify(&carol.certificate).await.valid);
    let mandate = world.mandate(&Command::Stop { scope: StopScope::All, reason: REASON }).await.unwrap();
    let signature = sign(&carol.key, countersign::domain::approval::MANDATE_PREFIX, &mandate).into();
    let by_carol = pb::Approval { officer: "carol".to_owned(), signature };
    refused(
        world.submit(mandate, vec![by_carol]).await,
        Code::FailedPrecondition,
        "not a registered officer",
    );
    // Two release; until then, and by one, nothing.
    let mandate = world.mandate(&release("carol")).await.unwrap();
    let one = world.submit(mandate.clone(), vec![world.alice.approve(&mandate)]).await.unwrap();
    assert_eq!(one.signatures_missing, 1);
    let connection = world.connect_as(&carol).await;
    let read = async || {
        let list = pb::ListProposalsRequest::default();
        MandateServiceClient::new(connection.clone()).list_proposals(list).await
    };
    refused(read().await, Code::Unauthenticated, "is suspended (KEY_COMPROMISE); two officers release it");
    world.enact(release("carol")).await.unwrap();
    read().await.unwrap();
    assert!(world.verify(&carol.certificate).await.valid);
}

/// Revokes with whatever was signed, as this caller.
async fn restrict(channel: Channel, mandate: Vec<u8>, approval: pb::Approval) -> Result<u64, Status> {
    let request = pb::RevokeRequest {
        mandate: Some(pb::SignedMandate { mandate: mandate.into(), approvals: vec![approval] }),
        wait: pb::Wait::Committed.into(),
        ..Default::default()
    };
    let answer = RevocationServiceClient::new(channel).revoke(request).await?.into_inner();
    Ok(answer.enforcement.unwrap().position.unwrap().seq)
}

fn approval(name: &str, caller: &Caller, mandate: &[u8]) -> pb::Approval {
    let signature = sign(&caller.key, countersign::domain::approval::MANDATE_PREFIX, mandate).into();
    pb::Approval { officer: name.to_owned(), signature }
}

async fn reviews(world: &World) -> Vec<pb::Review> {
    let list = pb::ListProposalsRequest::default();
    MandateServiceClient::new(world.bob()).list_proposals(list).await.unwrap().into_inner().reviews
}

#[tokio::test(flavor = "multi_thread")]
async fn an_officer_without_the_role_breaks_the_glass_and_another_one_reviews_it() {
    let mut world = World::start().await;
    let vera = world.principal("vera", (PrincipalKind::Officer, &[Role::Vetter]), None).await;
    let of_vera = world.connect_as(&vera).await;
    let stop = Command::Stop { scope: StopScope::All, reason: REASON };
    let plain = world.mandate(&stop).await.unwrap();
    let refusal = restrict(of_vera.clone(), plain.clone(), approval("vera", &vera, &plain)).await;
    refused(refusal, Code::PermissionDenied, "who may sign one");
    let mut news = MandateServiceClient::new(world.bob())
        .watch_approvals(pb::WatchApprovalsRequest {})
        .await
        .unwrap()
        .into_inner();
    news.message().await.unwrap().expect("what waits");
    let what = Emergency::Stop(StopScope::All, REASON);
    let glass = |reason: &str| {
        Command::Officers(OfficerCommand::BreakGlass { what: what.clone(), reason: reason.to_owned() })
    };
    let signed = world.mandate(&glass("nobody of security answers")).await.unwrap();
    // Who has the role needs no emergency.
    let by_alice = restrict(world.alice(), signed.clone(), world.alice.approve(&signed)).await;
    refused(by_alice, Code::PermissionDenied, "break no glass");
    let seq = restrict(of_vera.clone(), signed.clone(), approval("vera", &vera, &signed)).await.unwrap();
    assert!(world.running().app().state().enforcement.stops.contains(&StopScope::All));
    let [review] = reviews(&world).await.try_into().unwrap();
    assert_eq!(
        (review.review, review.officers, review.command.as_str()),
        (seq, vec!["vera".to_owned()], "STOP")
    );
    assert_eq!((review.reason.as_str(), review.scope.as_str()), ("nobody of security answers", "ALL"));
    let told = timeout(LIMIT, news.message()).await.unwrap().unwrap().unwrap();
    assert_eq!(told.reviews.iter().map(|review| review.review).collect::<Vec<_>>(), [seq]);
    // It survives a restart, and who did it does not close it.
    world.close().await;
    world.open().await;
    let close = Command::Officers(OfficerCommand::CloseReview {
        review: countersign::domain::id::Seq(seq),
        finding: "the stop was right".to_owned(),
    });
    let mandate = world.mandate(&close).await.unwrap();
    let own = world.submit(mandate.clone(), vec![approval("vera", &vera, &mandate)]).await;
    refused(own, Code::FailedPrecondition, "none of the roles");
    assert_eq!(reviews(&world).await.len(), 1);
    world.enact(close.clone()).await.unwrap();
    assert!(reviews(&world).await.is_empty());
    let again = world.submit(mandate.clone(), vec![world.alice.approve(&mandate)]).await.unwrap_err();
    assert_eq!(reason(&again), "CONFLICT");
}
