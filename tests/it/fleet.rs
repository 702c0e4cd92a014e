//! The fleet as officers see it: who is connected, with what software and which promises, who is behind, and who never came.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use countersign::client::Gate;
use countersign::domain::command::Command;
use countersign::domain::enforce::message::Strength;
use countersign::env::Clock as _;
use countersign::pb;
use countersign::pb::enforcement_service_client::EnforcementServiceClient;
use countersign::pb::subscribe_request::Message as Up;
use tokio::time::timeout;
use tonic::transport::Channel;
use tonic::{Code, Streaming};

use crate::calls::{reason, refused};
use crate::gate::{self, STRONG};
use crate::subscribe::Stream;
use crate::world::World;

/// News comes once a second; a busy machine may need many times that.
const LIMIT: Duration = Duration::from_secs(30);

fn officer(world: &World) -> EnforcementServiceClient<Channel> {
    EnforcementServiceClient::new(world.alice())
}

async fn list(world: &World) -> Vec<pb::GatewaySession> {
    officer(world).list_gateways(pb::ListGatewaysRequest::default()).await.unwrap().into_inner().sessions
}

async fn connect(world: &World, name: &str, strength: Strength) -> Gate {
    let caller = world.gateway_on(name, strength.pausable).await;
    gate::connect(world, (&caller, world.running().address()), strength, &world.clock).await
}

/// The next list in which this holds of the row of a gateway.
async fn until(
    lists: &mut Streaming<pb::WatchGatewaysResponse>,
    name: &str,
    wanted: impl Fn(&pb::GatewaySession) -> bool,
) -> pb::GatewaySession {
    let found = async {
        loop {
            let list = lists.message().await.unwrap().expect("the watch goes on");
            assert_eq!(usize::try_from(list.total_size).unwrap(), list.sessions.len());
            if let Some(row) = list.sessions.into_iter().find(|row| row.gateway == name && wanted(row)) {
                return row;
            }
        }
    };
    timeout(LIMIT, found).await.expect("the list shows it")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_list_shows_who_is_connected_how_and_who_never_came() {
    let world = World::start().await;
    world.gateway("gw-absent").await;
    let weak = Strength { per_request: false, pausable: true, ..STRONG };
    let _strong = connect(&world, "gw-strong", STRONG).await;
    let _weak = connect(&world, "gw-weak", weak).await;
    let rows = list(&world).await;
    let names: Vec<_> = rows.iter().map(|row| row.gateway.as_str()).collect();
    assert_eq!(names, ["gw-absent", "gw-strong", "gw-weak"]);
    assert_eq!(
        rows[0],
        pb::GatewaySession { gateway: "gw-absent".to_owned(), ..Default::default() },
        "registered, and nothing is known of it"
    );
    let strong = &rows[1];
    assert!(strong.connected && !strong.weak && strong.lease_left_ms > 0, "{strong:?}");
    assert_eq!(strong.agent, concat!("countersign-client/", env!("CARGO_PKG_VERSION")));
    assert_eq!((strong.adapter.as_str(), strong.peer_address.as_str()), ("library", "127.0.0.1"));
    assert_eq!(strong.connected_since, world.clock.now().to_string());
    assert_eq!(strong.enforcement, Some(pb::Strength::from(STRONG)));
    assert_eq!(strong.weak_because, [""; 0]);
    let weak_row = &rows[2];
    assert!(weak_row.weak, "{weak_row:?}");
    assert_eq!(weak_row.weak_because, ["PAUSABLE", "CONNECTIONS_OUTLIVE"]);
    assert_eq!(weak_row.enforcement, Some(pb::Strength::from(weak)));
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_the_list_make_the_whole_without_gap_or_repeat() {
    let world = World::start().await;
    for name in ["gw-1", "gw-2", "gw-3"] {
        world.gateway(name).await;
    }
    let shared = world.gateway("gw-4").await;
    let _first = Stream::open(&world, &shared).await;
    let _second = Stream::open(&world, &shared).await;
    let whole = list(&world).await;
    assert_eq!(whole.len(), 5, "two runs of one gateway are two rows");
    let (mut rows, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = pb::ListGatewaysRequest { page_size: 2, page_token };
        let page = officer(&world).list_gateways(request).await.unwrap().into_inner();
        assert!(page.sessions.len() <= 2);
        rows.extend(page.sessions);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    let key = |row: &pb::GatewaySession| (row.gateway.clone(), row.boot_id.clone());
    assert_eq!(rows.iter().map(key).collect::<Vec<_>>(), whole.iter().map(key).collect::<Vec<_>>());
    for token in ["gw-1", "gw-1/boo_", "/", "GW/"] {
        let request = pb::ListGatewaysRequest { page_size: 2, page_token: token.to_owned() };
        refused(officer(&world).list_gateways(request).await, Code::InvalidArgument, "page_token");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_gateway_is_shown_with_its_registration_and_the_end_of_its_certificate() {
    let world = World::start().await;
    let caller = world.gateway("gw-1").await;
    let get = |name: &str| pb::GetGatewayRequest { gateway: name.to_owned() };
    let before = officer(&world).get_gateway(get("gw-1")).await.unwrap().into_inner().gateway.unwrap();
    assert_eq!(before.key_sha256, caller.key.public_key().digest().to_string());
    assert_eq!(before.certificate_not_after, world.read(&caller.certificate).not_after.to_string());
    assert_eq!((before.sessions.len(), before.pausable), (0, false));
    let _stream = Stream::open(&world, &caller).await;
    let shown = officer(&world).get_gateway(get("gw-1")).await.unwrap().into_inner().gateway.unwrap();
    assert!(shown.sessions.len() == 1 && shown.sessions[0].connected, "{shown:?}");
    // An officer is no gateway, and a removed one is none any more.
    for name in ["gw-2", "alice"] {
        refused(officer(&world).get_gateway(get(name)).await, Code::NotFound, "gateway");
    }
    refused(officer(&world).get_gateway(get("GW 1")).await, Code::InvalidArgument, "gateway");
    world.enact(Command::RemovePrincipal("gw-1".parse().unwrap())).await.unwrap();
    refused(officer(&world).get_gateway(get("gw-1")).await, Code::NotFound, "gateway");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_is_registered_as_pausable_is_weak_whatever_it_says() {
    let world = World::start().await;
    let caller = world.gateway_on("gw-1", true).await;
    let _gate = gate::connect(&world, (&caller, world.running().address()), STRONG, &world.clock).await;
    let rows = list(&world).await;
    assert_eq!((rows[0].weak, &rows[0].weak_because), (true, &vec!["PAUSABLE".to_owned()]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_shows_a_gateway_come_refuse_and_leave() {
    let world = World::start().await;
    let caller = world.gateway("gw-1").await;
    let mut lists = officer(&world).watch_gateways(pb::WatchGatewaysRequest {}).await.unwrap().into_inner();
    let absent = until(&mut lists, "gw-1", |row| !row.connected).await;
    assert_eq!(absent.boot_id, "");
    let stream = Stream::open(&world, &caller).await;
    until(&mut lists, "gw-1", |row| row.connected && row.last_nack.is_empty()).await;
    drop(stream);
    until(&mut lists, "gw-1", |row| !row.connected && row.boot_id.is_empty()).await;
    // A gate that had a lease is shown until that has certainly run out, counted down.
    let clock = Arc::clone(&world.clock);
    let gate = gate::connect(&world, (&caller, world.running().address()), STRONG, &clock).await;
    until(&mut lists, "gw-1", |row| row.connected && row.lease_left_ms > 0).await;
    drop(gate);
    let left = until(&mut lists, "gw-1", |row| !row.connected).await;
    assert!(!left.boot_id.is_empty() && left.lease_left_ms > 5_000, "{left:?}");
    world.clock.advance_ms(4_000);
    until(&mut lists, "gw-1", |row| row.lease_left_ms < left.lease_left_ms).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_refusal_of_a_gateway_is_shown_with_its_time() {
    let world = World::start().await;
    let caller = world.gateway("gw-1").await;
    let _gate = gate::connect(&world, (&caller, world.running().address()), STRONG, &world.clock).await;
    let boot_id = list(&world).await[0].boot_id.clone();
    // The same run of the gateway connects again, and refuses what it gets.
    let mut stream = Stream::open_as(&world, &caller, boot_id).await;
    world.clock.advance_ms(7_000);
    let nack = pb::Nack { seq: 3, code: "GAP".to_owned(), detail: "3 does not follow 1".to_owned() };
    stream.up.send(pb::SubscribeRequest { message: Some(Up::Nack(nack)) }).await.unwrap();
    let end = stream.end().await;
    assert_eq!(end.code(), Code::FailedPrecondition);
    let rows = list(&world).await;
    assert_eq!(rows[0].last_nack, "GAP: 3 does not follow 1", "{rows:?}");
    assert_eq!(rows[0].last_nack_at, world.clock.now().to_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn watches_of_one_officer_are_bounded_and_end_with_the_service() {
    let mut world = World::start().await;
    let mut open = Vec::new();
    for _ in 0..8 {
        let mut lists =
            officer(&world).watch_gateways(pb::WatchGatewaysRequest {}).await.unwrap().into_inner();
        lists.message().await.unwrap().expect("the list as it is now");
        open.push(lists);
    }
    let refusal = officer(&world).watch_gateways(pb::WatchGatewaysRequest {}).await.unwrap_err();
    assert_eq!((refusal.code(), reason(&refusal).as_str()), (Code::ResourceExhausted, "LIMIT"));
    // Another officer has places of their own, and a place comes back.
    let mut of_bob = EnforcementServiceClient::new(world.bob());
    drop(of_bob.watch_gateways(pb::WatchGatewaysRequest {}).await.unwrap());
    open.pop();
    let again = async {
        while officer(&world).watch_gateways(pb::WatchGatewaysRequest {}).await.is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(LIMIT, again).await.expect("the place of a watch that ended is free");
    timeout(LIMIT, world.close()).await.expect("watches do not hold up a stop");
    let mut ends = BTreeSet::new();
    for mut lists in open {
        let end = loop {
            match lists.message().await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("it ended without a word"),
                Err(status) => break status,
            }
        };
        ends.insert(end.code() as i32);
    }
    assert_eq!(ends, BTreeSet::from([Code::Unavailable as i32]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_ends_when_its_officer_is_removed() {
    use countersign::domain::certificate::PrincipalKind;
    use countersign::domain::principal::Role;
    let world = World::start().await;
    let auditor = world.principal("carol", (PrincipalKind::Officer, &[Role::Auditor]), None).await;
    let mut client = EnforcementServiceClient::new(world.connect_as(&auditor).await);
    let mut lists = client.watch_gateways(pb::WatchGatewaysRequest {}).await.unwrap().into_inner();
    lists.message().await.unwrap().expect("the list as it is now");
    world.enact(Command::RemovePrincipal("carol".parse().unwrap())).await.unwrap();
    let end = timeout(LIMIT, async {
        while lists.message().await?.is_some() {}
        Ok::<_, tonic::Status>(())
    });
    refused(end.await.expect("it ends"), Code::Unauthenticated, "no registered principal");
}
