//! How often, how many at once, by when, and by which clock: what a call must pass beside its caller's role.

use std::time::Duration;

use countersign::domain::certificate::PrincipalKind;
use countersign::domain::command::Command;
use countersign::domain::principal::Role;
use countersign::domain::revocation::{RevocationReason, StopScope};
use countersign::env::Clock as _;
use countersign::pb;
use countersign::pb::audit_service_client::AuditServiceClient;
use countersign::pb::enforcement_service_client::EnforcementServiceClient;
use countersign::pb::provisioning_service_client::ProvisioningServiceClient;
use countersign::pb::revocation_service_client::RevocationServiceClient;
use countersign::rpc::{CLIENT_SKEW_MAX_MS, Rate};
use countersign::wire::{CLIENT_TIME, REQUEST_ID};
use tonic::metadata::MetadataValue;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tonic_types::StatusExt as _;

use crate::calls::{apply, reason, refused};
use crate::world::World;

/// A busy machine may need many times what these take.
const LIMIT: Duration = Duration::from_secs(30);

/// A world whose service has other settings.
async fn world(change: impl FnOnce(&mut countersign::server::Settings)) -> World {
    let mut world = World::start().await;
    world.close().await;
    change(&mut world.settings);
    world.open().await;
    world
}

#[track_caller]
fn limited<T: std::fmt::Debug>(answer: Result<T, Status>) -> Duration {
    let status = answer.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::ResourceExhausted, "LIMIT"));
    status.get_details_retry_info().and_then(|info| info.retry_delay).expect("it says when to come back")
}

async fn entities(channel: &Channel) -> Result<(), Status> {
    let request = pb::ListEntitiesRequest::default();
    ProvisioningServiceClient::new(channel.clone()).list_entities(request).await.map(drop)
}

async fn head(channel: &Channel) -> Result<(), Status> {
    AuditServiceClient::new(channel.clone()).get_head(pb::GetHeadRequest::default()).await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn each_kind_of_call_has_a_budget_of_its_own_and_a_stop_has_none() {
    let tight = Rate { per_s: 1, burst: 2 };
    let world = world(|settings| {
        settings.rates.reads = tight;
        settings.rates.lists = tight;
        settings.rates.mutations = tight;
        settings.rates.mandates = Rate { per_s: 1, burst: 3 };
    })
    .await;
    let alice = world.alice();
    for _ in 0..2 {
        entities(&alice).await.unwrap();
    }
    let wait = limited(entities(&alice).await);
    assert!(wait > Duration::ZERO && wait <= Duration::from_millis(1_000), "{wait:?}");
    // What is used up is Alice's lists: neither her other calls nor Bob's lists.
    head(&alice).await.unwrap();
    entities(&world.bob()).await.unwrap();
    let mut portal = ProvisioningServiceClient::new(alice.clone());
    for n in 0..2 {
        portal.apply_entity(apply(&format!("applicant {n}"))).await.unwrap();
    }
    limited(portal.apply_entity(apply("one too many")).await);
    head(&alice).await.unwrap();
    limited(head(&alice).await);
    // Mandates too; but what takes something away is not counted among them.
    let stop = Command::Stop { scope: StopScope::All, reason: RevocationReason::Drill };
    let mandate = world.mandate(&stop).await.unwrap();
    world.mandate(&stop).await.unwrap();
    world.mandate(&stop).await.unwrap();
    limited(world.mandate(&stop).await);
    let mandate =
        pb::SignedMandate { mandate: mandate.clone().into(), approvals: vec![world.alice.approve(&mandate)] };
    let request = pb::StopRequest { mandate: Some(mandate), ..Default::default() };
    RevocationServiceClient::new(alice.clone()).stop(request).await.unwrap();
    // Time heals all of it.
    world.clock.advance_ms(1_000);
    entities(&alice).await.unwrap();
    portal.apply_entity(apply("a second later")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn all_calls_of_a_principal_together_have_a_limit_too() {
    let world = world(|settings| settings.rates.principals = Rate { per_s: 1, burst: 4 }).await;
    let alice = world.alice();
    for _ in 0..2 {
        entities(&alice).await.unwrap();
        head(&alice).await.unwrap();
    }
    limited(entities(&alice).await);
    limited(head(&alice).await);
    // Probes never; and a subject is limited as a stranger is, by its certificate.
    for _ in 0..10 {
        crate::health::status(&alice).await;
    }
    head(&world.bob()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_refused_thousands_of_times_keeps_the_connection() {
    let world = world(|settings| settings.rates.lists = Rate { per_s: 1, burst: 1 }).await;
    let alice = world.alice();
    let request = HealthCheckRequest { service: String::new() };
    let mut watched = HealthClient::new(alice.clone()).watch(request).await.unwrap().into_inner();
    watched.message().await.unwrap().unwrap();
    entities(&alice).await.unwrap();
    for _ in 0..100 {
        let calls: tokio::task::JoinSet<_> = (0..30)
            .map(|_| {
                let alice = alice.clone();
                async move { entities(&alice).await }
            })
            .collect();
        for answer in calls.join_all().await {
            limited(answer);
        }
    }
    head(&alice).await.unwrap();
    // A stream on the same connection goes on.
    world.clock.set_wall(world.clock.now().plus_ms(60_000));
    tokio::time::timeout(LIMIT, watched.message()).await.expect("there is news").unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn one_caller_has_so_many_streams_and_a_stranger_fewer() {
    let world = World::start().await;
    let stranger = world.connect(None).await;
    let watch = |channel: Channel| async move {
        let request = HealthCheckRequest { service: String::new() };
        HealthClient::new(channel).watch(request).await
    };
    let mut open = Vec::new();
    for _ in 0..16 {
        open.push(watch(stranger.clone()).await.unwrap());
    }
    limited(watch(stranger.clone()).await);
    // Another connection of the same address does not help, and principals are not touched.
    limited(watch(world.connect(None).await).await);
    open.push(watch(world.alice()).await.unwrap());
    // A place comes back with the end of its stream.
    drop(open);
    let again = async { while watch(stranger.clone()).await.is_err() {} };
    tokio::time::timeout(LIMIT, again).await.expect("places come back");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_done_in_time_is_refused_before_it_does_anything() {
    let world = World::start().await;
    let before = world.running().app().state().position;
    let mut portal = ProvisioningServiceClient::new(world.alice());
    let hurried = |ms: u64| {
        let mut request = Request::new(apply("in a hurry"));
        // As it is written on the wire; the client itself would give up before the answer.
        request.metadata_mut().insert("grpc-timeout", MetadataValue::try_from(format!("{ms}m")).unwrap());
        request
    };
    for ms in [0, 1, 50, 99, 99] {
        let status = portal.apply_entity(hurried(ms)).await.unwrap_err();
        // The client itself may have given up before it had the answer.
        assert!(matches!(status.code(), Code::DeadlineExceeded | Code::Cancelled), "{ms} ms: {status:?}");
    }
    let refused_in_time = async {
        let request = || pb::ListCallsRequest {
            method: "ApplyEntity".to_owned(),
            code: "DEADLINE_EXCEEDED".to_owned(),
            ..Default::default()
        };
        let mut audit = AuditServiceClient::new(world.alice());
        while audit.list_calls(request()).await.unwrap().into_inner().calls.is_empty() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(LIMIT, refused_in_time).await.expect("the service refused it");
    assert_eq!(world.running().app().state().position, before, "nothing was recorded");
    portal.apply_entity(hurried(20_000)).await.unwrap();
    let mut bad = Request::new(apply("no deadline"));
    bad.metadata_mut().insert("grpc-timeout", MetadataValue::from_static("soon"));
    refused(portal.apply_entity(bad).await, Code::InvalidArgument, "grpc-timeout");
    // A read needs little, and says so when even that is not left.
    let mut glance = Request::new(pb::GetHeadRequest::default());
    glance.metadata_mut().insert("grpc-timeout", MetadataValue::from_static("1m"));
    let status = AuditServiceClient::new(world.alice()).get_head(glance).await.unwrap_err();
    assert!(matches!(status.code(), Code::DeadlineExceeded | Code::Cancelled), "{status:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restriction_is_recorded_however_little_time_its_caller_has() {
    let world = World::start().await;
    let stop = Command::Stop { scope: StopScope::All, reason: RevocationReason::Drill };
    let mandate = world.mandate(&stop).await.unwrap();
    let mandate =
        pb::SignedMandate { mandate: mandate.clone().into(), approvals: vec![world.alice.approve(&mandate)] };
    let mut request = Request::new(pb::StopRequest { mandate: Some(mandate), ..Default::default() });
    request.metadata_mut().insert("grpc-timeout", MetadataValue::from_static("1m"));
    // Whether the answer comes in time or not.
    drop(RevocationServiceClient::new(world.alice()).stop(request).await);
    let stopped = async {
        while world.running().app().state().enforcement.stops.is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LIMIT, stopped).await.expect("the stop is on record");
    // And its line says which record it made.
    let kept = async {
        let request = || pb::ListCallsRequest { method: "/Stop".to_owned(), ..Default::default() };
        let mut audit = AuditServiceClient::new(world.alice());
        while !audit.list_calls(request()).await.unwrap().into_inner().calls.iter().any(|c| c.record_seq > 0)
        {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(LIMIT, kept).await.expect("the record is in the audit");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_recorded_before_its_answer_was_lost_is_not_done_twice() {
    let world = World::start().await;
    let request_id = "req_01ARZ3NDEKTSV4RRFFQ69G5FAV".to_owned();
    let request = pb::ApplyEntityRequest { request_id, ..apply("once") };
    let mut portal = ProvisioningServiceClient::new(world.alice());
    let first = portal.apply_entity(request.clone()).await.unwrap().into_inner();
    let before = world.running().app().state();
    // Who saw DEADLINE_EXCEEDED asks again with the same request id, and gets the answer of the first time.
    let second = portal.apply_entity(request.clone()).await.unwrap().into_inner();
    assert_eq!((first.entity_id, first.position), (second.entity_id, second.position));
    // With it something else cannot be asked for.
    let status = portal.apply_entity(pb::ApplyEntityRequest { name: "twice".to_owned(), ..request }).await;
    let status = status.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::AlreadyExists, "REPEATED"));
    assert_eq!(world.running().app().state().position, before.position, "nothing was recorded");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_whose_clock_is_off_is_told_by_how_much() {
    let world = World::start().await;
    let at = |off_ms: i64| {
        let mut request = Request::new(apply("by the clock"));
        let time = world.clock.now().plus_ms(off_ms).millis().to_string();
        request.metadata_mut().insert(CLIENT_TIME, MetadataValue::try_from(time).unwrap());
        request
    };
    let mut portal = ProvisioningServiceClient::new(world.alice());
    for off_ms in [0, CLIENT_SKEW_MAX_MS, -CLIENT_SKEW_MAX_MS] {
        portal.apply_entity(at(off_ms)).await.unwrap();
    }
    let entities = world.running().app().state().entities.len();
    for (off_ms, says) in [(600_000, "600 s ahead of"), (-3_600_000, "3600 s behind")] {
        let status = portal.apply_entity(at(off_ms)).await.unwrap_err();
        assert_eq!((status.code(), reason(&status).as_str()), (Code::FailedPrecondition, "CLOCK_SKEW"));
        assert!(status.message().contains(says), "{status:?}");
        let told = status.get_details_error_info().unwrap().metadata;
        assert_eq!(told["skew_ms"], off_ms.to_string());
        assert_eq!(told["server_time"], world.clock.now().to_string());
    }
    assert_eq!(world.running().app().state().entities.len(), entities, "nothing was recorded");
    for text in ["", "noon", "99999999999999999999", "1e3"] {
        let mut request = Request::new(apply("no clock"));
        request.metadata_mut().insert(CLIENT_TIME, MetadataValue::try_from(text).unwrap());
        refused(portal.apply_entity(request).await, Code::InvalidArgument, CLIENT_TIME);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_whose_own_clock_is_wrong_refuses_nobody_for_theirs() {
    let world = World::start().await;
    let right = world.clock.now();
    world.clock.set_wall(right.plus_ms(3_600_000));
    // Officers, whose clocks are right, must be able to accept the clock when it was set right.
    let mut request = Request::new(pb::GetHeadRequest::default());
    let time = MetadataValue::try_from(right.millis().to_string()).unwrap();
    request.metadata_mut().insert(CLIENT_TIME, time);
    AuditServiceClient::new(world.alice()).get_head(request).await.unwrap();
    world.clock.set_wall(right);
    world.enact(Command::AcceptClock(world.clock.now())).await.unwrap();
    head(&world.alice()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_names_its_call() {
    let world = World::start().await;
    let mut audit = AuditServiceClient::new(world.alice());
    let named = |metadata: &tonic::metadata::MetadataMap| {
        let id = metadata.get(REQUEST_ID).expect("a request id").to_str().unwrap().to_owned();
        assert!(id.parse::<countersign::domain::id::RequestId>().is_ok(), "{id}");
        id
    };
    let first = audit.get_head(pb::GetHeadRequest::default()).await.unwrap();
    let second = audit.get_head(pb::GetHeadRequest::default()).await.unwrap();
    assert_ne!(named(first.metadata()), named(second.metadata()));
    // Those of a service, of the gatekeeper, and of a stream.
    let wrong = pb::GetEntityRequest { entity_id: "nobody".to_owned() };
    let status = ProvisioningServiceClient::new(world.alice()).get_entity(wrong).await.unwrap_err();
    named(status.metadata());
    let stranger = world.connect(None).await;
    let status = head_of(&stranger).await.unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated);
    named(status.metadata());
    let roles = (PrincipalKind::Officer, [Role::Auditor].as_slice());
    let auditor = world.principal("auditor-1", roles, None).await;
    let request = pb::WatchGatewaysRequest::default();
    let mut client = EnforcementServiceClient::new(world.connect_as(&auditor).await);
    named(client.watch_gateways(request).await.unwrap().metadata());
}

async fn head_of(channel: &Channel) -> Result<(), Status> {
    head(channel).await
}
