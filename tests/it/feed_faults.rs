//! What a gateway can do wrong on the feed: its stream ends with a status, and nobody else notices. And what a network can
//! do: a peer that is gone without a word, one that reads nothing, a thousand at once.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use countersign::domain::command::Command;
use countersign::domain::enforce::message::{SNAPSHOT_PART_LEN, WANTS_MAX};
use countersign::domain::id::{BootId, Digest};
use countersign::env::{Clock as _, Entropy as _, SystemEntropy};
use countersign::pb;
use countersign::pb::audit_service_client::AuditServiceClient;
use countersign::pb::enforcement_service_client::EnforcementServiceClient;
use countersign::pb::subscribe_request::Message as Up;
use countersign::pb::subscribe_response::Message as Down;
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use prost::Message as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::body::Body;
use tonic::codegen::http::{HeaderMap, Request, Response};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status, Streaming};
use tower::Service as _;

use crate::calls::reason;
use crate::subscribe::Stream;
use crate::world::{Caller, World};

/// How long an event may take before a test fails, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// Gateways that come back at once, and how many registered ones they are runs of.
const STORM: usize = 1_000;
const STORM_PRINCIPALS: usize = 4;
/// How long the service may take for anybody else meanwhile, on a busy machine with unoptimized code.
const RESPONSIVE: Duration = Duration::from_secs(10);

/// A stream whose bytes the test writes itself.
struct Raw {
    up: mpsc::Sender<Result<Frame<Bytes>, Status>>,
    response: Response<Body>,
}

impl Raw {
    /// Calls Subscribe and sends these bytes first.
    async fn open(world: &World, gateway: &Caller, first: Bytes) -> Self {
        let (up, frames) = mpsc::channel(16);
        up.send(Ok(Frame::data(first))).await.unwrap();
        let request = Request::post("https://localhost/countersign.v1.EnforcementService/Subscribe")
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(Body::new(StreamBody::new(ReceiverStream::new(frames))))
            .unwrap();
        let mut channel = world.connect_as(gateway).await;
        std::future::poll_fn(|context| channel.poll_ready(context)).await.unwrap();
        let response = timeout(PATIENCE, channel.call(request)).await.unwrap().unwrap();
        Self { up, response }
    }

    /// The status in headers or trailers; whatever is sent before is not looked at.
    async fn end(self) -> Status {
        if let Some(status) = Status::from_header_map(self.response.headers()) {
            return status;
        }
        let mut body = self.response.into_body();
        loop {
            let frame = timeout(PATIENCE, body.frame()).await.expect("it ends");
            let frame = frame.expect("not without trailers").expect("not without a status");
            if let Ok(trailers) = frame.into_trailers() {
                return from_trailers(&trailers);
            }
        }
    }
}

fn from_trailers(trailers: &HeaderMap) -> Status {
    Status::from_header_map(trailers).expect("trailers have a status")
}

/// A message as gRPC frames it.
fn framed(payload: &[u8]) -> Bytes {
    [&[0], u32::try_from(payload.len()).unwrap().to_be_bytes().as_slice(), payload].concat().into()
}

fn message(message: Up) -> Bytes {
    framed(&pb::SubscribeRequest { message: Some(message) }.encode_to_vec())
}

fn claim(world: &World) -> pb::Open {
    let boot_id = BootId::from_parts(world.clock.now(), SystemEntropy.bytes16()).to_string();
    pb::Open { boot_id, versions: vec![1], digest: vec![0; 32].into(), ..Default::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_message_ends_its_stream_with_a_status_and_no_other() {
    let world = World::start().await;
    let (bad, good) = (world.gateway("gw-bad").await, world.gateway("gw-good").await);
    let mut of_good = Stream::open(&world, &good).await;
    let open = || message(Up::Open(claim(&world)));
    let ack = |applied_seq| message(Up::Ack(pb::Ack { applied_seq, barrier_id: 0 }));
    let nack = |code: &str| pb::Nack { seq: 0, code: code.to_owned(), detail: "x".repeat(1_000) };
    let want = pb::Want { entity_id: "garbage".to_owned() };
    let after_open = [
        ("garbage", framed(&[0xff; 64]), Code::InvalidArgument),
        ("no message", framed(&[]), Code::InvalidArgument),
        ("compressed", Bytes::from_static(&[1, 0, 0, 0, 1, 0]), Code::InvalidArgument),
        ("a flag that is none", Bytes::from_static(&[9, 0, 0, 0, 1, 0]), Code::InvalidArgument),
        ("endless", Bytes::from_static(&[0, 0x7f, 0xff, 0xff, 0xff, 0]), Code::InvalidArgument),
        ("a second open", open(), Code::FailedPrecondition),
        ("what was not sent", ack(u64::MAX), Code::FailedPrecondition),
        ("no such entity", message(Up::Want(want)), Code::InvalidArgument),
        ("an unknown refusal", message(Up::Nack(nack("BORED"))), Code::InvalidArgument),
        ("a refusal", message(Up::Nack(nack("GAP"))), Code::FailedPrecondition),
    ];
    for (what, bytes, code) in after_open {
        let raw = Raw::open(&world, &bad, open()).await;
        raw.up.send(Ok(Frame::data(bytes))).await.unwrap();
        let end = raw.end().await;
        assert_eq!(end.code(), code, "{what}: {end:?}");
    }
    // Cut off in the middle of a message.
    let Raw { up, response } = Raw::open(&world, &bad, open()).await;
    up.send(Ok(Frame::data(ack(1).slice(..6)))).await.unwrap();
    drop(up);
    let (up, _) = mpsc::channel(1);
    let end = Raw { up, response }.end().await;
    assert_eq!(end.code(), Code::InvalidArgument, "{end:?}");
    of_good.is_carried().await;
}

/// First messages that are refused, with how.
fn first_messages(world: &World, signed_head: &Bytes) -> Vec<(&'static str, Bytes, Code)> {
    let position = world.running().app().state().position;
    let (epoch, seq) = (position.epoch.0, position.seq.0);
    let with = |change: &dyn Fn(&mut pb::Open)| {
        let mut open = claim(world);
        change(&mut open);
        message(Up::Open(open))
    };
    let card = pb::HeldCard { entity_id: world.provider.to_string(), revision: 1 };
    let digest = Bytes::copy_from_slice(&Digest::of(b"other").0);
    let ahead = |open: &mut pb::Open| (open.epoch, open.applied_seq) = (epoch, seq + 1_000);
    let ping = pb::Ping { ping_id: 1, applied_seq: 0 };
    vec![
        ("garbage", framed(&[0xff; 64]), Code::InvalidArgument),
        ("no open", message(Up::Ping(ping)), Code::InvalidArgument),
        ("no run", with(&|open| open.boot_id.clear()), Code::InvalidArgument),
        ("versions", with(&|open| open.versions = vec![1; 17]), Code::InvalidArgument),
        (
            "a short digest",
            with(&|open| (open.epoch, open.digest) = (1, vec![0; 31].into())),
            Code::InvalidArgument,
        ),
        ("a long head", with(&|open| open.signed_head = vec![0; 513].into()), Code::InvalidArgument),
        (
            "too many cards",
            with(&|open| open.cards = vec![card.clone(); WANTS_MAX + 1]),
            Code::InvalidArgument,
        ),
        ("the future", with(&|open| ahead(open)), Code::FailedPrecondition),
        (
            "another epoch",
            with(&|open| (open.epoch, open.applied_seq) = (epoch + 1, 1)),
            Code::FailedPrecondition,
        ),
        (
            "another history",
            with(&|open| (open.epoch, open.applied_seq, open.digest) = (epoch, seq, digest.clone())),
            Code::FailedPrecondition,
        ),
        (
            "the future, with a head that nobody signed",
            with(&|open| {
                ahead(open);
                open.signed_head = vec![0xa0; 200].into();
            }),
            Code::FailedPrecondition,
        ),
        (
            "the future, with a head that was signed and does not show it",
            with(&|open| {
                ahead(open);
                open.signed_head = signed_head.clone();
            }),
            Code::FailedPrecondition,
        ),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_begins_with_a_claim_that_can_be_read_and_is_believed() {
    let world = World::start().await;
    let (bad, good) = (world.gateway("gw-bad").await, world.gateway("gw-good").await);
    let mut of_good = Stream::open(&world, &good).await;
    let head = AuditServiceClient::new(world.alice()).get_head(pb::GetHeadRequest::default()).await.unwrap();
    let signed_head = head.into_inner().signed_head;
    for (what, bytes, code) in first_messages(&world, &signed_head) {
        let end = Raw::open(&world, &bad, bytes).await.end().await;
        assert_eq!(end.code(), code, "{what}: {end:?}");
        if code == Code::FailedPrecondition {
            assert_eq!(reason(&end), "CLAIM_CONTRADICTED", "{what}");
        }
    }
    // None of it proves anything: leases are granted and the stream of the other goes on.
    assert_eq!(world.running().app().feed().rollback(), None);
    of_good.is_carried().await;
}

/// A stream with what arrives on it.
async fn subscribe(
    channel: Channel,
    open: pb::Open,
) -> (mpsc::Sender<pb::SubscribeRequest>, Streaming<pb::SubscribeResponse>) {
    let (up, messages) = mpsc::channel(8);
    up.send(pb::SubscribeRequest { message: Some(Up::Open(open)) }).await.unwrap();
    let mut client = EnforcementServiceClient::new(channel);
    let down = client.subscribe(ReceiverStream::new(messages)).await.unwrap().into_inner();
    (up, down)
}

/// A policy whose names do not compress: a snapshot of many parts.
async fn adopt_long_policy(world: &World) {
    let name = |n: u64| hex::encode(Digest::of(&n.to_le_bytes()).0);
    let mut parts = world.running().app().state().bundle().parts().clone();
    parts.models[0].aliases.extend((0..7_500).map(name));
    world.enact(Command::AdoptPolicy(Box::new(parts))).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_stalls_in_a_snapshot_holds_up_nobody_and_goes_on_later() {
    let world = World::start().await;
    adopt_long_policy(&world).await;
    let (slow, fast) = (world.gateway("gw-slow").await, world.gateway("gw-fast").await);
    // Room for one part; more is sent only when the gateway has read.
    let window = u32::try_from(SNAPSHOT_PART_LEN).unwrap();
    let endpoint = Endpoint::from_static("https://localhost").initial_stream_window_size(window);
    let channel = world.connect_with(Some((&slow.key, &slow.certificate)), endpoint).await;
    let (_up, mut down) = subscribe(channel, claim(&world)).await;
    let first = timeout(PATIENCE, down.message()).await.unwrap().unwrap().unwrap();
    assert!(matches!(first.message, Some(Down::Welcome(_))), "{first:?}");
    let Some(Down::SnapshotBegin(begin)) = down.message().await.unwrap().unwrap().message else { panic!() };
    assert!(begin.parts > 3, "{begin:?}");
    // Meanwhile another is served in full.
    let mut of_fast = Stream::open(&world, &fast).await;
    of_fast.is_carried().await;
    let mut parts = 0;
    loop {
        match timeout(PATIENCE, down.message()).await.unwrap().unwrap().unwrap().message {
            Some(Down::SnapshotPart(part)) => {
                assert!(part.data.len() <= SNAPSHOT_PART_LEN);
                parts += 1;
            }
            Some(Down::SnapshotEnd(_)) => break,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(parts, begin.parts);
}

/// A wire that can stop carrying anything without telling either end.
async fn wire(to: SocketAddr) -> (SocketAddr, watch::Sender<bool>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (cut, is_cut) = watch::channel(false);
    tokio::spawn(async move {
        let (mut near, _) = listener.accept().await.unwrap();
        let mut far = TcpStream::connect(to).await.unwrap();
        let mut cut = is_cut;
        let is_cut = async move { drop(cut.wait_for(|cut| *cut).await) };
        tokio::select! {
            _ = tokio::io::copy_bidirectional(&mut near, &mut far) => return,
            () = is_cut => {}
        }
        // Both ends stay open: no FIN, no reset.
        std::future::pending::<()>().await;
    });
    (address, cut)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_is_gone_without_a_word_is_noticed() {
    let world = World::start().await;
    let gateway = world.gateway("gw-1").await;
    let (address, cut) = wire(world.running().address()).await;
    let config = world.tls(Some((&gateway.key, &gateway.certificate)));
    let connector = tower::service_fn(move |_| {
        let connected = crate::world::tls_stream(Arc::clone(&config), address);
        async move { connected.await.map(hyper_util::rt::TokioIo::new) }
    });
    let channel = Endpoint::from_static("https://localhost").connect_with_connector_lazy(connector);
    let (_up, mut down) = subscribe(channel, claim(&world)).await;
    let first = timeout(PATIENCE, down.message()).await.unwrap().unwrap().unwrap();
    assert!(matches!(first.message, Some(Down::Welcome(_))), "{first:?}");
    let connected = || world.running().app().feed().sessions().iter().any(|session| session.is_connected);
    assert!(connected());
    cut.send_replace(true);
    // Ten seconds of silence and ten without an answer; the rest is for a busy machine.
    let noticed = async {
        while connected() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    timeout(Duration::from_secs(40), noticed).await.expect("the connection is over");
}

/// A thousand runs of gateways, each on a connection of its own, until every one is welcomed.
async fn storm(
    world: &World,
    gateways: &[Caller],
    opens: &[pb::Open],
) -> Vec<(Channel, mpsc::Sender<pb::SubscribeRequest>, Streaming<pb::SubscribeResponse>)> {
    let mut joined = JoinSet::new();
    for (n, open) in opens.iter().enumerate() {
        let (channel, open) = (world.connect_as(&gateways[n % gateways.len()]).await, open.clone());
        joined.spawn(async move {
            let (up, mut down) = subscribe(channel.clone(), open).await;
            let first = down.message().await.unwrap().unwrap();
            assert!(matches!(first.message, Some(Down::Welcome(_))), "{first:?}");
            (channel, up, down)
        });
    }
    timeout(4 * PATIENCE, joined.join_all()).await.expect("all of them are welcomed")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_gateways_that_come_back_at_once_keep_nobody_from_being_served() {
    let world = World::start().await;
    let mut gateways = Vec::new();
    for n in 0..STORM_PRINCIPALS {
        gateways.push(world.gateway(&format!("gw-{n}")).await);
    }
    let opens: Vec<_> = (0..STORM).map(|_| claim(&world)).collect();
    let first = storm(&world, &gateways, &opens).await;
    drop(first);
    let (done, is_done) = watch::channel(false);
    let officer = world.alice();
    let probe = tokio::spawn(async move {
        let (mut calls, mut is_done) = (0, is_done);
        loop {
            let mut audit = AuditServiceClient::new(officer.clone());
            let call = timeout(RESPONSIVE, audit.get_head(pb::GetHeadRequest::default()));
            call.await.expect("an officer is answered meanwhile").unwrap();
            calls += 1;
            let pause = timeout(Duration::from_millis(100), is_done.wait_for(|done| *done));
            if pause.await.is_ok() {
                return calls;
            }
        }
    });
    let again = storm(&world, &gateways, &opens).await;
    done.send_replace(true);
    assert!(probe.await.unwrap() > 1);
    let sessions = world.running().app().feed().sessions();
    assert_eq!(sessions.iter().filter(|session| session.is_connected).count(), STORM);
    drop(again);
}
