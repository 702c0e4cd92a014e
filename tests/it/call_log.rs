//! The audit of calls: what a call leaves behind, who may read it, and what shows that it was altered.

use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use countersign::app::store::verify_offline;
use countersign::domain::certificate::PrincipalKind;
use countersign::domain::command::Command;
use countersign::domain::principal::Role;
use countersign::env::Clock as _;
use countersign::pb;
use countersign::pb::audit_service_client::AuditServiceClient;
use countersign::pb::provisioning_service_client::ProvisioningServiceClient;
use countersign::rpc::GatekeeperLayer;
use countersign::wire::REQUEST_ID;
use prost::bytes::Bytes;
use tonic::body::Body;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::codegen::http::{Request, Response};
use tonic::transport::Channel;
use tonic::{Code, Status};
use tower::{Layer as _, Service as _};

use crate::calls::{apply, enrolled, refused};
use crate::world::World;

/// A line is written within a second; a busy machine may need many times that.
const LIMIT: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(50);

async fn list(channel: &Channel, request: pb::ListCallsRequest) -> Result<Vec<pb::Call>, Status> {
    let (mut calls, mut request) = (Vec::new(), request);
    loop {
        let page = AuditServiceClient::new(channel.clone()).list_calls(request.clone()).await?.into_inner();
        calls.extend(page.calls);
        if page.next_page_token.is_empty() {
            return Ok(calls);
        }
        request.page_token = page.next_page_token;
    }
}

/// The first line like this.
async fn line(world: &World, like: impl Fn(&pb::Call) -> bool) -> pb::Call {
    let found = async {
        loop {
            let calls = list(&world.alice(), pb::ListCallsRequest::default()).await.unwrap();
            if let Some(call) = calls.into_iter().find(&like) {
                return call;
            }
            tokio::time::sleep(POLL).await;
        }
    };
    tokio::time::timeout(LIMIT, found).await.expect("such a call is in the audit")
}

async fn raw(channel: &Channel, path: &'static str) -> Code {
    let mut client = tonic::client::Grpc::new(channel.clone());
    client.ready().await.unwrap();
    let codec = tonic_prost::ProstCodec::<(), ()>::default();
    let path = PathAndQuery::from_static(path);
    client.unary(tonic::Request::new(()), path, codec).await.map_or_else(|status| status.code(), |_| Code::Ok)
}

#[tokio::test(flavor = "multi_thread")]
async fn each_call_is_a_line_refused_or_not() {
    let world = World::start().await;
    let (_, _, subject) = enrolled(&world).await;
    let roles = (PrincipalKind::Officer, [Role::Auditor].as_slice());
    let auditor = world.connect_as(&world.principal("auditor-1", roles, None).await).await;
    // A change, with its record.
    let answer = ProvisioningServiceClient::new(world.alice()).apply_entity(apply("new")).await.unwrap();
    let id = answer.metadata().get(REQUEST_ID).unwrap().to_str().unwrap().to_owned();
    let seq = answer.into_inner().position.unwrap().seq;
    let change = line(&world, |call| call.request_id == id).await;
    assert_eq!(
        (change.principal.as_str(), change.code.as_str(), change.reason.as_str()),
        ("alice", "OK", "")
    );
    assert_eq!((change.record_seq, change.count, change.address.as_str()), (seq, 1, "127.0.0.1"));
    assert!(
        change.method.ends_with("ProvisioningService/ApplyEntity") && change.duration_us > 0,
        "{change:?}"
    );
    // The wrong role, by name.
    let denied = ProvisioningServiceClient::new(auditor.clone()).apply_entity(apply("not theirs")).await;
    let id = denied.unwrap_err().metadata().get(REQUEST_ID).unwrap().to_str().unwrap().to_owned();
    let denied = line(&world, |call| call.request_id == id).await;
    assert_eq!((denied.principal.as_str(), denied.code.as_str()), ("auditor-1", "PERMISSION_DENIED"));
    assert_eq!((denied.reason.as_str(), denied.record_seq), ("DENIED", 0));
    // A subject, by its certificate; of a person the network, not the address.
    let person = world.connect_as(&subject).await;
    raw(&person, "/countersign.v1.AuditService/GetHead").await;
    let ordinal = world.read(&subject.certificate).ordinal.0;
    let of_person = line(&world, |call| call.ordinal == ordinal && call.code != "OK").await;
    assert_eq!((of_person.principal.as_str(), of_person.address.as_str()), ("", "127.0.0.0"));
    assert_eq!(of_person.refused_authority, "", "it is accepted, and may not do that");
    // Nobody: without a certificate, and of something that is no method.
    let stranger = world.connect(None).await;
    raw(&stranger, "/countersign.v1.AuditService/GetHead").await;
    let nobody = line(&world, |call| call.code == "UNAUTHENTICATED").await;
    assert_eq!((nobody.principal.as_str(), nobody.ordinal, nobody.address.as_str()), ("", 0, "127.0.0.0"));
    raw(&stranger, "/countersign.v1.NoService/Nothing").await;
    let no_method = line(&world, |call| call.method == "none").await;
    assert_eq!(no_method.detail, "/countersign.v1.NoService/Nothing");
    // What is too long is refused within the service, and is a line all the same.
    let long = pb::GetHeadRequest { remembered: Bytes::from(vec![0; 2 << 20]) };
    let long = AuditServiceClient::new(world.alice()).get_head(long).await.unwrap_err();
    let id = long.metadata().get(REQUEST_ID).unwrap().to_str().unwrap().to_owned();
    assert_eq!(line(&world, |call| call.request_id == id).await.code, "OUT_OF_RANGE");
    // Of a certificate that was accepted once.
    let removed = world.gateway("gw-removed").await;
    let channel = world.connect_as(&removed).await;
    let path = "/countersign.v1.AttestationService/Evaluate";
    assert_ne!(raw(&channel, path).await, Code::Unauthenticated);
    world.enact(Command::RemovePrincipal("gw-removed".parse().unwrap())).await.unwrap();
    assert_eq!(raw(&channel, path).await, Code::Unauthenticated);
    let ordinal = world.read(&removed.certificate).ordinal.0;
    let gone = line(&world, |call| call.refused_authority == "SYSTEM" && call.ordinal == ordinal).await;
    assert_eq!((gone.principal.as_str(), gone.code.as_str()), ("", "UNAUTHENTICATED"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_whose_caller_is_gone_before_its_answer_is_in_the_audit() {
    let world = World::start().await;
    let never = |_: Request<Body>| std::future::pending::<Result<Response<Body>, Infallible>>();
    let app = Arc::clone(world.running().app());
    let mut gate = GatekeeperLayer::new(app, world.settings.rates, 8).layer(tower::service_fn(never));
    let request = Request::post("/grpc.health.v1.Health/Check").body(Body::empty()).unwrap();
    let mut answer = gate.call(request);
    tokio::time::timeout(POLL, &mut answer).await.unwrap_err();
    // As a transport does with a stream that is reset, and with all of a connection that is closed.
    drop(answer);
    let left = line(&world, |call| call.code == "CANCELLED").await;
    assert!(left.method.ends_with("Health/Check") && left.principal.is_empty(), "{left:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_are_found_by_who_what_and_when_and_only_by_those_who_may() {
    let world = World::start().await;
    let stranger = world.connect(None).await;
    for _ in 0..5 {
        raw(&stranger, "/countersign.v1.AuditService/GetHead").await;
    }
    for n in 0..5 {
        ProvisioningServiceClient::new(world.bob())
            .apply_entity(apply(&format!("applicant {n}")))
            .await
            .unwrap();
    }
    line(&world, |call| call.principal == "bob" && call.method.ends_with("ApplyEntity")).await;
    line(&world, |call| call.code == "UNAUTHENTICATED").await;
    let alice = world.alice();
    let by = |change: &dyn Fn(&mut pb::ListCallsRequest)| {
        let mut request = pb::ListCallsRequest { page_size: 2, ..Default::default() };
        change(&mut request);
        let alice = alice.clone();
        async move { list(&alice, request).await }
    };
    let of_bob = by(&|r| r.principal = "bob".to_owned()).await.unwrap();
    assert!(of_bob.len() >= 5 && of_bob.iter().all(|call| call.principal == "bob"), "{of_bob:?}");
    let applied = by(&|r| r.method = "ApplyEntity".to_owned()).await.unwrap();
    assert_eq!(applied.len(), 5, "each has a record and so a line");
    let refusals = by(&|r| r.refused = true).await.unwrap();
    assert!(refusals.iter().all(|call| call.code != "OK"));
    let strange = by(&|r| r.code = "UNAUTHENTICATED".to_owned()).await.unwrap();
    assert_eq!(strange.iter().map(|call| call.count).sum::<u64>(), 5, "one line, or two, for all five");
    let one = by(&|r| r.request_id = applied[3].request_id.clone()).await.unwrap();
    assert_eq!(one, [applied[3].clone()]);
    assert!(by(&|r| r.until = "2026-06-01T00:00:00Z".to_owned()).await.unwrap().is_empty());
    assert!(by(&|r| r.since = "2027-06-01T00:00:00Z".to_owned()).await.unwrap().is_empty());
    refused(by(&|r| r.page_token = "1.x".to_owned()).await, Code::InvalidArgument, "page_token");
    refused(by(&|r| r.since = "noon".to_owned()).await, Code::InvalidArgument, "since");
    refused(by(&|r| r.method = "x".repeat(129)).await, Code::InvalidArgument, "method");
    let roles = (PrincipalKind::Officer, [Role::Registrar].as_slice());
    let registrar = world.connect_as(&world.principal("registrar-1", roles, None).await).await;
    let answer = list(&registrar, pb::ListCallsRequest::default()).await;
    refused(answer, Code::PermissionDenied, "none of your roles");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_and_no_message_is_in_the_audit() {
    let mut world = World::start().await;
    let (_, subject, caller) = enrolled(&world).await;
    let token = world.token(subject).await;
    world.enroll_csr(&token, b"not a csr".to_vec()).await.unwrap_err();
    world.verify(&caller.certificate).await;
    world.close().await;
    let mut all = String::new();
    for path in segments(&world) {
        let bytes = std::fs::read(&path).unwrap();
        type Batch = countersign::domain::call::CallBatch;
        for (_, batch) in countersign::segments::Frames::<Batch>::of(&bytes) {
            all.push_str(&format!("{:?}", batch.unwrap()));
        }
    }
    assert!(all.contains("Enroll") && all.contains("Verify") && all.contains("alice"));
    let secret = token.rsplit('.').next().unwrap();
    for text in [token.as_str(), secret, &subject.to_string(), "Partner Inc", "not a csr"] {
        assert!(!all.contains(text), "{text} is in the audit");
    }
    world.open().await;
}

fn segments(world: &World) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(world.settings.data.join("calls")).unwrap();
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sealed_segment_that_is_altered_or_removed_is_located_by_the_record() {
    let mut world = World::start().await;
    ProvisioningServiceClient::new(world.alice()).apply_entity(apply("first")).await.unwrap();
    line(&world, |call| call.record_seq > 0).await;
    // An hour later the segment is complete, and its digests are on record.
    world.clock.advance_ms(3_600_001);
    until_sealed(&world).await;
    ProvisioningServiceClient::new(world.alice()).apply_entity(apply("second")).await.unwrap();
    world.close().await;
    let verify = |world: &World| verify_offline(&world.settings.data, &mut |_| {}).unwrap().calls;
    let good = verify(&world);
    assert!(good.faults.is_empty() && good.good >= 1 && good.unsealed >= 1, "{good:?}");
    let complete = |path: &PathBuf| path.extension().is_some_and(|end| end == "calls");
    let path = segments(&world).into_iter().find(complete).unwrap();
    let whole = std::fs::read(&path).unwrap();
    let mut bytes = whole.clone();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    let found = verify(&world).faults;
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].offset.is_some() && found[0].why.contains("altered"), "{found:?}");
    // The service starts all the same: it is evidence, and not the record.
    world.open().await;
    world.close().await;
    std::fs::write(&path, &whole).unwrap();
    assert!(verify(&world).faults.is_empty(), "no start records anew what is on record");
    world.open().await;
}

async fn seals(world: &World) -> usize {
    let records = pb::ListRecordsRequest { from_seq: 0, page_size: 1_000 };
    let records = AuditServiceClient::new(world.alice()).list_records(records).await.unwrap();
    records.into_inner().records.iter().filter(|record| record.event == "calls.sealed").count()
}

async fn until_sealed(world: &World) {
    let sealed = async {
        while seals(world).await == 0 {
            tokio::time::sleep(POLL).await;
        }
    };
    tokio::time::timeout(LIMIT, sealed).await.expect("it is sealed");
}

/// Waits until a segment is complete, which is more than that it grows and less than that it is on record.
async fn until_complete(world: &World) {
    let complete = async {
        while !segments(world).iter().any(|path| path.extension().is_some_and(|end| end == "complete")) {
            tokio::time::sleep(POLL).await;
        }
    };
    tokio::time::timeout(LIMIT, complete).await.expect("a segment is complete");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_seal_that_the_record_refuses_is_recorded_when_it_can_be() {
    let world = World::start().await;
    ProvisioningServiceClient::new(world.alice()).apply_entity(apply("first")).await.unwrap();
    line(&world, |call| call.record_seq > 0).await;
    // Nothing but restrictions is recorded while the clock is wrong; an hour later by the clock that never steps, the segment
    // is complete.
    let right = world.clock.now();
    world.clock.set_wall(right.plus_ms(-7_200_000));
    world.clock.advance_ms(3_600_001);
    until_complete(&world).await;
    assert_eq!(seals(&world).await, 0);
    world.clock.set_wall(right.plus_ms(3_600_001));
    world.enact(Command::AcceptClock(world.clock.now())).await.unwrap();
    until_sealed(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_seal_that_a_broken_record_refused_is_recorded_by_the_next_start() {
    let mut world = World::start().await;
    ProvisioningServiceClient::new(world.alice()).apply_entity(apply("first")).await.unwrap();
    line(&world, |call| call.record_seq > 0).await;
    countersign::journal::faulty::DiskFaults::at(&world.dir.path().join("journal")).fail_sync();
    ProvisioningServiceClient::new(world.alice()).apply_entity(apply("lost")).await.unwrap_err();
    world.clock.advance_ms(3_600_001);
    until_complete(&world).await;
    world.close().await;
    let found = verify_offline(&world.settings.data, &mut |_| {}).unwrap().calls;
    assert!(found.faults.is_empty() && found.good == 0 && found.unsealed >= 1, "{found:?}");
    world.open().await;
    until_sealed(&world).await;
    world.close().await;
    let found = verify_offline(&world.settings.data, &mut |_| {}).unwrap().calls;
    assert!(found.faults.is_empty() && found.good >= 1, "{found:?}");
    world.open().await;
}

/// Killed at this point of a seal; then says how often the record has it.
async fn killed_at(point: &str) -> usize {
    let mut world = World::start().await;
    ProvisioningServiceClient::new(world.alice()).apply_entity(apply("first")).await.unwrap();
    line(&world, |call| call.record_seq > 0).await;
    world.close().await;
    // A segment of a run before that nobody sealed: complete by its name.
    let open = segments(&world).remove(0);
    std::fs::rename(&open, open.with_extension("complete")).unwrap();
    let victim = crate::kill::Victim::start(&world, "wait", Some(point));
    assert!(victim.last_words().is_empty());
    let found = verify_offline(&world.settings.data, &mut |_| {}).unwrap().calls;
    assert!(found.faults.is_empty(), "{point}: {found:?}");
    assert_eq!(found.good, u64::from(point == "calls.after_seal"), "{point}");
    world.open().await;
    until_sealed(&world).await;
    world.close().await;
    let found = verify_offline(&world.settings.data, &mut |_| {}).unwrap().calls;
    assert!(found.faults.is_empty() && found.good == 1, "{point}: {found:?}");
    assert!(!segments(&world).iter().any(|path| path.extension().is_some_and(|end| end == "complete")));
    world.open().await;
    seals(&world).await
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_between_a_segment_and_its_seal_the_next_start_seals_it() {
    assert_eq!(killed_at("calls.before_seal").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_between_a_seal_and_its_name_the_next_start_records_the_same_again() {
    assert_eq!(killed_at("calls.after_seal").await, 2);
}
