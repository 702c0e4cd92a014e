//! Streams of everybody together: a bound that no caller alone reaches, and places that come back.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use countersign::domain::certificate::PrincipalKind;
use countersign::domain::principal::Role;
use countersign::pb;
use countersign::pb::enforcement_service_client::EnforcementServiceClient;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status, Streaming};
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

use crate::calls::reason;
use crate::connections::tls_stream_from;
use crate::world::World;

/// A busy machine may need many times what these take.
const LIMIT: Duration = Duration::from_secs(60);
/// Addresses of strangers that take every place of strangers, of which each has 16.
const NETWORKS: u8 = 64;
const OF_EACH: usize = 16;

async fn watch(channel: &Channel) -> Result<Streaming<HealthCheckResponse>, Status> {
    let request = HealthCheckRequest { service: String::new() };
    HealthClient::new(channel.clone()).watch(request).await.map(tonic::Response::into_inner)
}

#[track_caller]
fn limited<T: std::fmt::Debug>(answer: Result<T, Status>) {
    let status = answer.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::ResourceExhausted, "LIMIT"), "{status}");
}

/// A place comes back when the server has seen that its stream ended.
async fn comes_back(channel: &Channel) {
    let again = async { while watch(channel).await.is_err() {} };
    tokio::time::timeout(LIMIT, again).await.expect("a place comes back");
}

/// A stranger at this address of this machine.
fn stranger_at(world: &World, from: Ipv4Addr) -> Channel {
    let (config, address) = (world.tls(None), world.running().address());
    let connector = tower::service_fn(move |_| {
        let config = Arc::clone(&config);
        async move { tls_stream_from(from, config, address).await.map(hyper_util::rt::TokioIo::new) }
    });
    Endpoint::from_static("https://localhost").connect_with_connector_lazy(connector)
}

#[tokio::test(flavor = "multi_thread")]
async fn all_principals_together_have_so_many_streams() {
    let mut world = World::start().await;
    world.close().await;
    world.settings.streams_max = 8;
    world.open().await;
    let (alice, bob) = (world.alice(), world.bob());
    let mut open = Vec::new();
    for channel in [&alice, &alice, &alice, &alice, &alice, &bob, &bob, &bob] {
        open.push(watch(channel).await.unwrap());
    }
    // Nobody has many; together they have all.
    limited(watch(&alice).await);
    limited(watch(&bob).await);
    let gateway = world.gateway("gw-1").await;
    let list = EnforcementServiceClient::new(world.connect_as(&gateway).await);
    let subscription = tokio_stream::pending::<pb::SubscribeRequest>();
    limited({ list }.subscribe(subscription).await);
    // Calls that are no streams go on, and strangers have places of their own.
    assert!(!world.mythos(&gateway.certificate).await.permit);
    watch(&world.connect(None).await).await.unwrap();
    open.pop();
    comes_back(&alice).await;
    drop(open);
}

#[tokio::test(flavor = "multi_thread")]
async fn all_strangers_together_have_so_many_streams() {
    let world = World::start().await;
    let mut open = Vec::new();
    for network in 1..=NETWORKS {
        let stranger = stranger_at(&world, Ipv4Addr::new(127, 0, 1, network));
        for _ in 0..OF_EACH {
            open.push(watch(&stranger).await.unwrap());
        }
    }
    // One more network finds none, though it has none yet.
    let late = stranger_at(&world, Ipv4Addr::new(127, 0, 2, 1));
    limited(watch(&late).await);
    // Who has a certificate is not shut out by who has none.
    watch(&world.alice()).await.unwrap();
    open.pop();
    comes_back(&late).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_officers_together_have_so_many_watches() {
    const OFFICERS: usize = 8;
    const WATCHES: usize = 8;
    let world = World::start().await;
    let roles = (PrincipalKind::Officer, [Role::Auditor].as_slice());
    let look = async |channel: &Channel| {
        let request = pb::WatchGatewaysRequest::default();
        EnforcementServiceClient::new(channel.clone()).watch_gateways(request).await
    };
    let mut open = Vec::new();
    for n in 0..OFFICERS {
        let auditor = world.principal(&format!("auditor-{n}"), roles, None).await;
        let channel = world.connect_as(&auditor).await;
        for _ in 0..WATCHES {
            open.push(look(&channel).await.unwrap());
        }
        limited(look(&channel).await);
    }
    let late = world.principal("auditor-late", roles, None).await;
    let late = world.connect_as(&late).await;
    limited(look(&late).await);
    open.pop();
    let again = async { while look(&late).await.is_err() {} };
    tokio::time::timeout(LIMIT, again).await.expect("a place comes back");
}
