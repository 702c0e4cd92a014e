//! Connections on real sockets: how many anybody may have, what is kept for officers, and the end of those whose callers may
//! no longer call.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use countersign::domain::certificate::PrincipalKind;
use countersign::domain::command::Command;
use countersign::domain::officer_command::OfficerCommand;
use countersign::domain::principal::Role;
use countersign::domain::revocation::{RevocationReason, RevocationScope, StopScope};
use countersign::env::Clock as _;
use countersign::pb;
use countersign::server::ConnectionLimits;
use rustls::pki_types::ServerName;
use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;
use tonic_health::pb::health_check_response::ServingStatus;

use crate::calls::enrolled;
use crate::health::becomes;
use crate::slow::Raw;
use crate::world::{Caller, World};

/// A busy machine may need many times what these take.
const LIMIT: Duration = Duration::from_secs(60);
const REASON: RevocationReason = RevocationReason::KeyCompromise;
const HERE: Ipv4Addr = Ipv4Addr::LOCALHOST;

/// Another network on this machine.
const fn network(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(127, 0, 1, number)
}

async fn tcp_from(from: Ipv4Addr, address: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::from((from, 0)))?;
    let socket = socket.connect(address).await?;
    socket.set_nodelay(true)?;
    Ok(socket)
}

/// A TLS connection from this address of this machine.
pub(crate) async fn tls_stream_from(
    from: Ipv4Addr,
    config: Arc<rustls::ClientConfig>,
    address: SocketAddr,
) -> std::io::Result<TlsStream<TcpStream>> {
    shake(tcp_from(from, address).await?, config).await
}

async fn shake(
    socket: TcpStream,
    config: Arc<rustls::ClientConfig>,
) -> std::io::Result<TlsStream<TcpStream>> {
    let name = ServerName::try_from("localhost").unwrap();
    tokio_rustls::TlsConnector::from(config).connect(name, socket).await
}

/// A world whose service has other settings.
async fn world(change: impl FnOnce(&mut countersign::server::Settings)) -> World {
    let mut world = World::start().await;
    world.close().await;
    change(&mut world.settings);
    world.open().await;
    world
}

async fn connect(world: &World, from: Ipv4Addr, caller: Option<&Caller>) -> Raw {
    let config = world.tls(caller.map(|caller| (&caller.key, caller.certificate.as_slice())));
    Raw::over(tls_stream_from(from, config, world.running().address()).await.unwrap()).await
}

/// A connection that is served.
async fn served(world: &World, from: Ipv4Addr, caller: Option<&Caller>) -> Raw {
    let mut raw = connect(world, from, caller).await;
    assert!(raw.is_served().await, "there is a place");
    raw
}

async fn is_closed(world: &World, from: Ipv4Addr, caller: Option<&Caller>) -> bool {
    !connect(world, from, caller).await.is_served().await
}

/// A place comes back when the service has seen that its connection ended.
async fn comes_back(world: &World, from: Ipv4Addr, caller: Option<&Caller>) -> Raw {
    let again = async {
        loop {
            let mut raw = connect(world, from, caller).await;
            if raw.is_served().await {
                return raw;
            }
        }
    };
    timeout(LIMIT, again).await.expect("a place comes back")
}

async fn officer(world: &World, name: &str) -> Caller {
    world.principal(name, (PrincipalKind::Officer, &[Role::SecurityOps]), None).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_ends_with_its_principal_though_it_asks_nothing() {
    for step in ["suspend", "remove", "block"] {
        let world = world(|settings| settings.pace.farewell = Duration::ZERO).await;
        let (carol, dora) = (officer(&world, "carol").await, officer(&world, "dora").await);
        let gateway = world.gateway("gw-1").await;
        let idle = [served(&world, HERE, Some(&carol)).await, served(&world, HERE, Some(&gateway)).await];
        let stays = served(&world, HERE, Some(&dora)).await;
        let stays = tokio::spawn(stays.until_cut());
        for (name, caller) in [("carol", &carol), ("gw-1", &gateway)] {
            let principal = name.parse().unwrap();
            let command = match step {
                "suspend" => Command::Officers(OfficerCommand::Suspend { principal, reason: REASON }),
                "remove" => Command::RemovePrincipal(principal),
                _ => Command::BlockKey { key: caller.key.public_key().digest(), reason: REASON },
            };
            world.enact(command).await.unwrap();
        }
        for raw in idle {
            timeout(LIMIT, raw.until_cut()).await.expect("it is closed");
        }
        assert!(!stays.is_finished(), "{step}: nobody else's is closed");
        // Who comes again is told why, and that connection lasts: it never was one of a principal.
        let again = served(&world, HERE, Some(&carol)).await;
        drop(again);
        stays.abort();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_connection_of_a_revoked_certificate_ends_too() {
    let world = world(|settings| settings.pace.farewell = Duration::ZERO).await;
    let (_, subject, caller) = enrolled(&world).await;
    let (other, gateway) = (world.gateway("gw-1").await, served(&world, HERE, Some(&caller)).await);
    let stays = tokio::spawn(served(&world, HERE, Some(&other)).await.until_cut());
    let revoke = Command::Revoke { scope: RevocationScope::Subject(subject), reason: REASON };
    world.restrict(revoke, pb::Wait::Committed).await.unwrap();
    timeout(LIMIT, gateway.until_cut()).await.expect("it is closed");
    assert!(!stays.is_finished());
    stays.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_ended_ends_its_connection() {
    let world = world(|settings| settings.pace.farewell = Duration::ZERO).await;
    let (_, _, caller) = enrolled(&world).await;
    let raw = served(&world, HERE, Some(&caller)).await;
    let cut = tokio::spawn(raw.until_cut());
    let left_ms = world.read(&caller.certificate).not_after.millis() - world.clock.now().millis();
    world.clock.advance_ms(u32::try_from(left_ms).unwrap() + 2_000);
    timeout(LIMIT, cut).await.expect("it is closed").unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_has_all_other_places_an_officer_stops_everything() {
    const ALL: usize = 64;
    let world = world(|settings| {
        settings.connections =
            ConnectionLimits { all: ALL, of_machine: 32, of_network: 16, ..settings.connections };
    })
    .await;
    let gateways = [world.gateway("gw-1").await, world.gateway("gw-2").await];
    let carol = officer(&world, "carol").await;
    let mut open = Vec::new();
    // Three quarters for whoever is no principal, and of the rest all but four.
    for number in 1..=3 {
        for _ in 0..16 {
            open.push(served(&world, network(number), None).await);
        }
    }
    assert!(is_closed(&world, network(4), None).await, "a quarter is kept for principals");
    for _ in 0..12 {
        open.push(served(&world, HERE, Some(&gateways[0])).await);
    }
    assert!(is_closed(&world, HERE, Some(&gateways[1])).await, "some are kept for officers");
    let of_carol = served(&world, HERE, Some(&carol)).await;
    let stop = Command::Stop { scope: StopScope::All, reason: RevocationReason::Drill };
    world.restrict(stop, pb::Wait::Committed).await.unwrap();
    assert!(!world.running().app().state().enforcement.stops.is_empty());
    // A place that is given back is anybody's who may have it.
    open.pop();
    open.push(comes_back(&world, HERE, Some(&gateways[1])).await);
    drop((open, of_carol));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_principal_has_so_many_connections_and_so_has_a_network() {
    let world = world(|settings| {
        settings.connections =
            ConnectionLimits { of_machine: 3, of_officer: 2, of_network: 2, ..settings.connections };
    })
    .await;
    let gateways = [world.gateway("gw-1").await, world.gateway("gw-2").await];
    let (_, _, subject) = enrolled(&world).await;
    let carol = officer(&world, "carol").await;
    let mut open = Vec::new();
    // From wherever they come.
    for number in 1..=3 {
        open.push(served(&world, network(number), Some(&gateways[0])).await);
    }
    assert!(is_closed(&world, network(1), Some(&gateways[0])).await);
    for _ in 0..2 {
        open.push(served(&world, network(1), Some(&carol)).await);
    }
    assert!(is_closed(&world, network(2), Some(&carol)).await);
    // Strangers and subjects are counted by where they come from, and principals are not counted there.
    open.push(served(&world, network(1), None).await);
    open.push(served(&world, network(1), Some(&subject)).await);
    assert!(is_closed(&world, network(1), None).await);
    assert!(is_closed(&world, network(1), Some(&subject)).await);
    open.push(served(&world, network(2), Some(&subject)).await);
    open.push(served(&world, network(1), Some(&gateways[1])).await);
    open.remove(0);
    open.push(comes_back(&world, network(1), Some(&gateways[0])).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_network_does_not_hold_all_places_of_handshakes() {
    const MAX: usize = 8;
    let world = world(|settings| {
        settings.connections.handshakes = MAX;
        settings.pace.handshake = Duration::from_secs(600);
    })
    .await;
    // Theirs are done.
    becomes(&world.alice(), ServingStatus::Serving).await;
    becomes(&world.bob(), ServingStatus::Serving).await;
    let address = world.running().address();
    let mut silent = Vec::new();
    for _ in 0..MAX {
        silent.push(tcp_from(network(1), address).await.unwrap());
    }
    let closed = async |stream: &mut TcpStream| {
        let mut bytes = Vec::new();
        // An end or a reset.
        let _ = timeout(LIMIT, stream.read_to_end(&mut bytes)).await.expect("it is closed");
        assert!(bytes.is_empty());
    };
    closed(&mut tcp_from(network(1), address).await.unwrap()).await;
    // Another network gets in, at the expense of the one that has taken longest.
    let other = served(&world, network(2), None).await;
    closed(&mut silent.remove(0)).await;
    // All others can still be brought to their end.
    for stream in silent {
        let mut raw = Raw::over(shake(stream, world.tls(None)).await.unwrap()).await;
        assert!(raw.is_served().await);
    }
    drop(other);
}
