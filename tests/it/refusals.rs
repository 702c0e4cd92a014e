//! What refused calls cost: a budget of their own, lines of the log that a flood does not fill, and a count in the audit that has each
//! of them.

use std::time::Duration;

use countersign::domain::approval::MANDATE_PREFIX;
use countersign::domain::certificate::PrincipalKind;
use countersign::domain::command::Command;
use countersign::domain::principal::Role;
use countersign::domain::revocation::{RevocationReason, StopScope};
use countersign::pb;
use countersign::pb::audit_service_client::AuditServiceClient;
use countersign::pb::mandate_service_client::MandateServiceClient;
use countersign::pb::provisioning_service_client::ProvisioningServiceClient;
use countersign::pb::revocation_service_client::RevocationServiceClient;
use countersign::rpc::Rate;
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::calls::apply;
use crate::health;
use crate::logs;
use crate::world::{World, sign};

/// A busy machine may need many times what these take.
const LIMIT: Duration = Duration::from_secs(60);
const BURST: usize = 3;

/// A world where three calls of a stranger, or three refused ones of a principal, are as many as a second has.
async fn world() -> World {
    let mut world = World::start().await;
    world.close().await;
    world.settings.rates.addresses = Rate { per_s: 1, burst: 3 };
    world.open().await;
    world
}

async fn head(channel: &Channel) -> Result<(), Status> {
    AuditServiceClient::new(channel.clone()).get_head(pb::GetHeadRequest::default()).await.map(drop)
}

/// What an officer of security may not do.
async fn forbidden(channel: &Channel) -> Code {
    let request = apply("not hers to apply for");
    ProvisioningServiceClient::new(channel.clone()).apply_entity(request).await.unwrap_err().code()
}

/// How often the audit has such calls of a caller, when it has so many.
async fn counted(world: &World, wanted: u64, is_it: impl Fn(&pb::Call) -> bool) {
    let mut audit = AuditServiceClient::new(world.alice());
    let all = async {
        loop {
            let request = pb::ListCallsRequest { refused: true, page_size: 1_000, ..Default::default() };
            let calls = audit.list_calls(request).await.unwrap().into_inner().calls;
            let count: u64 = calls.iter().filter(|call| is_it(call)).map(|call| call.count).sum();
            assert!(count <= wanted, "{count}");
            if count == wanted {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(LIMIT, all).await.expect("the audit has each of them");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_officer_who_is_refused_again_and_again_is_slowed_and_can_still_stop_everything() {
    const MORE: u64 = 40;
    let world = world().await;
    let carol = world.principal("carol", (PrincipalKind::Officer, &[Role::SecurityOps]), None).await;
    let channel = world.connect_as(&carol).await;
    for _ in 0..BURST {
        assert_eq!(forbidden(&channel).await, Code::PermissionDenied);
    }
    for _ in 0..MORE {
        assert_eq!(forbidden(&channel).await, Code::ResourceExhausted);
    }
    // Whatever she may do she can do, and a stop first of all.
    head(&channel).await.unwrap();
    let stop = Command::Stop { scope: StopScope::All, reason: RevocationReason::Drill };
    let request = pb::PrepareMandateRequest { command: countersign::domain::codec::to_bytes(&stop).into() };
    let prepared = MandateServiceClient::new(channel.clone()).prepare_mandate(request).await.unwrap();
    let mandate = prepared.into_inner().mandate;
    let signature = sign(&carol.key, MANDATE_PREFIX, &mandate).into();
    let approvals = vec![pb::Approval { officer: "carol".to_owned(), signature }];
    let mandate = Some(pb::SignedMandate { mandate, approvals });
    let request = pb::StopRequest { mandate, ..Default::default() };
    RevocationServiceClient::new(channel.clone()).stop(request).await.unwrap();
    // And nobody else is slowed by her.
    head(&world.bob()).await.unwrap();
    counted(&world, BURST as u64 + MORE, |call| call.principal == "carol").await;
    world.clock.advance_ms(1_000);
    assert_eq!(forbidden(&channel).await, Code::PermissionDenied, "time heals");
    assert_eq!(forbidden(&channel).await, Code::ResourceExhausted);
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_and_refused_certificates_pay_for_what_they_may_not_do() {
    let world = world().await;
    let gateways = [world.gateway("gw-1").await, world.gateway("gw-2").await];
    for name in ["gw-1", "gw-2"] {
        world.enact(Command::RemovePrincipal(name.parse().unwrap())).await.unwrap();
    }
    // The certificates of two that were removed, and nobody, all at one address: each has a budget of its own.
    let channels = [
        world.connect_as(&gateways[0]).await,
        world.connect_as(&gateways[1]).await,
        world.connect(None).await,
    ];
    for channel in &channels {
        for n in 0..2 * BURST {
            let wanted = if n < BURST { Code::Unauthenticated } else { Code::ResourceExhausted };
            assert_eq!(head(channel).await.unwrap_err().code(), wanted, "{n}");
        }
    }
    // A stranger has used up what it may do as well; probes are answered.
    let stranger = &channels[2];
    let watch = tonic_health::pb::HealthCheckRequest { service: String::new() };
    let watched = tonic_health::pb::health_client::HealthClient::new(stranger.clone()).watch(watch).await;
    assert_eq!(watched.unwrap_err().code(), Code::ResourceExhausted);
    health::status(stranger).await;
    head(&world.alice()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_that_is_no_method_costs_too() {
    let world = world().await;
    let nowhere = async |channel: Channel| {
        let mut client = tonic::client::Grpc::new(channel);
        client.ready().await.unwrap();
        let codec = tonic_prost::ProstCodec::<pb::GetHeadRequest, pb::GetHeadResponse>::default();
        let path = "/countersign.v1.NoService/NoMethod".parse().unwrap();
        let request = tonic::Request::new(pb::GetHeadRequest::default());
        client.unary(request, path, codec).await.unwrap_err().code()
    };
    for channel in [world.alice(), world.connect(None).await] {
        for n in 0..2 * BURST {
            let wanted = if n < BURST { Code::PermissionDenied } else { Code::ResourceExhausted };
            assert_eq!(nowhere(channel.clone()).await, wanted, "{n}");
        }
    }
    head(&world.alice()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_refused_calls_fills_no_log_and_the_audit_counts_each() {
    const CALLS: usize = 200;
    logs::keep();
    // By its name it is found among the lines of all tests.
    let name = "flooding-officer";
    let world = World::start().await;
    let officer = world.principal(name, (PrincipalKind::Officer, &[Role::SecurityOps]), None).await;
    let channel = world.connect_as(&officer).await;
    for _ in 0..CALLS {
        assert_eq!(forbidden(&channel).await, Code::PermissionDenied);
    }
    counted(&world, CALLS as u64, |call| call.principal == name).await;
    let refused = [name, "call refused", "none of your roles"];
    assert_eq!(logs::count(&refused), 5, "the clock stands");
    // A second later one line says how many were left out; and when it is quiet, another does.
    world.clock.advance_ms(1_000);
    for _ in 0..10 {
        forbidden(&channel).await;
    }
    assert_eq!(logs::count(&refused), 6);
    logs::line_with(&[name, "call refused", "left_out=195"]);
    world.clock.advance_ms(10_000);
    head(&world.bob()).await.unwrap();
    logs::line_with(&[name, "more calls were refused", "left_out=9"]);
}
