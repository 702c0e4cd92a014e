//! Health, reflection, the listener and the end: what operators and strangers see.

use std::time::Duration;

use countersign::domain::command::Command;
use countersign::domain::person::EvidenceKind;
use countersign::domain::revocation::{RevocationReason, StopScope};
use countersign::env::Clock as _;
use countersign::pb;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tonic::transport::Channel;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

use crate::world::{World, tls_stream};

/// The service looks twice a second; a busy machine may need many times that.
const LIMIT: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(20);

pub(crate) async fn status(channel: &Channel) -> ServingStatus {
    let request = HealthCheckRequest { service: String::new() };
    HealthClient::new(channel.clone()).check(request).await.unwrap().into_inner().status()
}

/// Polls until it says so.
pub(crate) async fn becomes(channel: &Channel, wanted: ServingStatus) {
    let reached = async {
        while status(channel).await != wanted {
            tokio::time::sleep(POLL).await;
        }
    };
    timeout(LIMIT, reached).await.unwrap_or_else(|_| panic!("health never becomes {wanted:?}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn health_says_whether_anything_could_be_permitted() {
    let world = World::start().await;
    let stranger = world.connect(None).await;
    becomes(&stranger, ServingStatus::Serving).await;
    let request = HealthCheckRequest { service: String::new() };
    let mut watched = HealthClient::new(stranger.clone()).watch(request).await.unwrap().into_inner();
    let first = timeout(LIMIT, watched.message()).await.unwrap().unwrap().unwrap();
    assert_eq!(first.status(), ServingStatus::Serving);
    // A stop is an answer, not a fault of the service.
    let stop = Command::Stop { scope: StopScope::All, reason: RevocationReason::Drill };
    world.restrict(stop, pb::Wait::Committed).await.unwrap();
    assert_eq!(status(&stranger).await, ServingStatus::Serving);
    world.clock.set_wall(world.clock.now().plus_ms(60_000));
    let pushed = timeout(LIMIT, watched.message()).await.unwrap().unwrap().unwrap();
    assert_eq!(pushed.status(), ServingStatus::NotServing);
    becomes(&stranger, ServingStatus::NotServing).await;
    world.enact(Command::AcceptClock(world.clock.now())).await.unwrap();
    becomes(&stranger, ServingStatus::Serving).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reflection_lists_our_services_to_principals() {
    let world = World::start().await;
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut client = ServerReflectionClient::new(world.alice());
    let mut answers = client.server_reflection_info(tokio_stream::once(request)).await.unwrap().into_inner();
    let answer = answers.message().await.unwrap().unwrap().message_response.unwrap();
    let MessageResponse::ListServicesResponse(list) = answer else { panic!("{answer:?}") };
    let names: Vec<_> = list.service.into_iter().map(|service| service.name).collect();
    for name in ["Attestation", "Audit", "Enforcement", "Mandate", "Provisioning", "Revocation"] {
        let name = format!("countersign.v1.{name}Service");
        assert!(names.contains(&name), "{name}: {names:?}");
    }
    assert!(names.iter().any(|name| name == "grpc.health.v1.Health"));
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_on_the_port_disturbs_nobody() {
    let world = World::start().await;
    let entity = world.partner().await;
    let caller = world.enroll(world.person(entity, "EMPLOYEE", EvidenceKind::NoUsStatus).await).await;
    let address = world.running().address();
    let mut sockets = Vec::new();
    for bytes in [
        b"GET / HTTP/1.1\r\n\r\n".as_slice(),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        &[0xff; 65_536],
        &[0x16, 0x03, 0x01, 0xff, 0xff],
        b"",
    ] {
        for _ in 0..20 {
            let mut socket = TcpStream::connect(address).await.unwrap();
            // The other side may have closed already.
            let _ = socket.write_all(bytes).await;
            sockets.push(socket);
        }
    }
    // Those that wait for more are still open.
    for _ in 0..20 {
        assert!(world.mythos(&caller.certificate).await.permit);
    }
    let stranger = world.connect(None).await;
    becomes(&stranger, ServingStatus::Serving).await;
    drop(sockets);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handshake_that_takes_too_long_is_cut() {
    let world = World::start().await;
    let mut silent = TcpStream::connect(world.running().address()).await.unwrap();
    let mut slow = TcpStream::connect(world.running().address()).await.unwrap();
    slow.write_all(&[0x16, 0x03, 0x01]).await.unwrap();
    for socket in [&mut silent, &mut slow] {
        let mut buffer = [0; 64];
        let read = timeout(LIMIT, socket.read(&mut buffer)).await.expect("it is cut");
        assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
    }
}

/// Speaks HTTP/2 (RFC 9113) as far as it must, and reads what the server sends to the end of the connection.
async fn frames_until_the_end(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> Vec<u8> {
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    // An empty SETTINGS.
    stream.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await.unwrap();
    let mut kinds = Vec::new();
    let mut header = [0; 9];
    // A connection that is cut ends without a TLS close_notify.
    while stream.read_exact(&mut header).await.is_ok() {
        kinds.push(header[3]);
        let len = u32::from_be_bytes([0, header[0], header[1], header[2]]);
        let mut payload = vec![0; usize::try_from(len).unwrap()];
        if stream.read_exact(&mut payload).await.is_err() {
            break;
        }
    }
    kinds
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_without_a_certificate_is_told_to_go_away_and_then_cut() {
    const GOAWAY: u8 = 7;
    let mut world = World::start().await;
    world.close().await;
    world.settings.strangers.age = Duration::from_millis(500);
    world.settings.strangers.grace = Duration::from_millis(500);
    world.open().await;
    // A principal's stream is older than the stranger's connection, and outlives it.
    let request = HealthCheckRequest { service: String::new() };
    let mut of_alice = HealthClient::new(world.alice()).watch(request.clone()).await.unwrap().into_inner();
    // It never acknowledges anything, so only the cut ends it.
    let stream = tls_stream(world.tls(None), world.running().address()).await.unwrap();
    let kinds = timeout(LIMIT, frames_until_the_end(stream)).await.expect("it is cut");
    assert!(kinds.contains(&GOAWAY), "{kinds:?}");
    // A stream without end is under way when its connection is told to go away: it ends with the cut.
    let stranger = world.connect(None).await;
    let mut watched = HealthClient::new(stranger.clone()).watch(request).await.unwrap().into_inner();
    let rest = async {
        while watched.message().await?.is_some() {}
        Ok::<_, tonic::Status>(())
    };
    timeout(LIMIT, rest).await.expect("it is cut").expect_err("it does not end, it is cut");
    // Who comes again is answered.
    assert_eq!(status(&world.connect(None).await).await, ServingStatus::Serving);
    world.clock.set_wall(world.clock.now().plus_ms(60_000));
    let pushed =
        async { while of_alice.message().await.unwrap().unwrap().status() != ServingStatus::NotServing {} };
    timeout(LIMIT, pushed).await.expect("the stream goes on");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_who_never_reads_is_cut_all_the_same() {
    let mut world = World::start().await;
    world.close().await;
    world.settings.strangers.age = Duration::from_millis(500);
    world.settings.strangers.grace = Duration::from_millis(500);
    world.open().await;
    let mut stream = tls_stream(world.tls(None), world.running().address()).await.unwrap();
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    // Each is answered, until the answers fill every buffer and the server waits to write.
    let pings = b"\0\0\x08\x06\0\0\0\0\0--ping--".repeat(1_000);
    let flood = async { while stream.write_all(&pings).await.is_ok() {} };
    timeout(LIMIT, flood).await.expect("it is cut");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_too_many_is_closed_and_has_its_place_when_another_ends() {
    const MAX: usize = 4;
    let mut world = World::start().await;
    world.close().await;
    world.settings.connections.all = MAX;
    world.open().await;
    // A handshake that fails gives its place back.
    for _ in 0..2 * MAX {
        let mut stranger = TcpStream::connect(world.running().address()).await.unwrap();
        stranger.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
        let mut rest = Vec::new();
        let _ = timeout(LIMIT, stranger.read_to_end(&mut rest)).await.expect("it is closed");
    }
    let mut open = Vec::new();
    for _ in 0..MAX / 4 * 3 {
        let channel = world.connect(None).await;
        becomes(&channel, ServingStatus::Serving).await;
        open.push(channel);
    }
    // Strangers leave a quarter of the places to principals.
    let request = HealthCheckRequest { service: String::new() };
    HealthClient::new(world.connect(None).await).check(request).await.expect_err("one stranger too many");
    becomes(&world.alice(), ServingStatus::Serving).await;
    // So does the next one to whom all are taken.
    let request = HealthCheckRequest { service: String::new() };
    HealthClient::new(world.bob()).check(request).await.expect_err("more connections than there may be");
    assert_eq!(status(&open[0]).await, ServingStatus::Serving);
    open.pop();
    let late = world.bob();
    let request = || HealthCheckRequest { service: String::new() };
    let its_turn = async { while HealthClient::new(late.clone()).check(request()).await.is_err() {} };
    timeout(LIMIT, its_turn).await.expect("its turn comes");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_ends_every_call_and_loses_nothing() {
    let mut world = World::start().await;
    let stranger = world.connect(None).await;
    let request = HealthCheckRequest { service: String::new() };
    let mut watched = HealthClient::new(stranger.clone()).watch(request).await.unwrap().into_inner();
    watched.message().await.unwrap().unwrap();
    // Calls are under way while the service stops.
    let mut portal = pb::provisioning_service_client::ProvisioningServiceClient::new(world.alice());
    let calls = tokio::spawn(async move {
        let mut made = Vec::new();
        for round in 0.. {
            let apply = crate::calls::apply(&format!("applicant {round}"));
            match portal.apply_entity(apply).await {
                Ok(answer) => made.push(answer.into_inner().entity_id),
                Err(_) => break,
            }
        }
        made
    });
    timeout(LIMIT, world.close()).await.expect("the service stops");
    // Nothing is left of the old service: not a stream, not a connection.
    let rest = async { while let Ok(Some(_)) = watched.message().await {} };
    timeout(LIMIT, rest).await.expect("a stream outlives its service");
    let made = timeout(LIMIT, calls).await.expect("calls end").unwrap();
    world.open().await;
    let state = world.running().app().state();
    for id in made {
        assert!(
            state.entities.contains_key(&id.parse::<countersign::domain::id::EntityId>().unwrap()),
            "{id} was acknowledged"
        );
    }
}
