//! `fanout_N`: one revocation, from the call to the acknowledgements of all of N gateways in another process, against a
//! bare tonic echo to as many streams over the same mTLS; and what an idle gateway costs the server in memory.
//!
//! The revocation is measured from outside: request, signature check, fdatasync, push, acknowledgements, answer. The echo
//! has none of that but push and answers.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use countersign::domain::certificate::AuthorityKind;
use countersign::domain::command::Command;
use countersign::domain::person::EvidenceKind;
use countersign::domain::revocation::{RevocationReason, RevocationScope};
use countersign::env::Clock as _;
use countersign::pb;
use countersign::pb::enforcement_service_server::{EnforcementService, EnforcementServiceServer};
use countersign::pb::revocation_service_client::RevocationServiceClient;
use tokio::net::TcpListener;
use tokio::sync::{Notify, mpsc};
use tokio_rustls::TlsAcceptor;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Server};
use tonic::{Request, Response, Status, Streaming};

use crate::bare::{Connection, Pki};
use crate::fleet::{Conduct, Fleet, Target};
use crate::in_role;
use crate::issue::{prepare, redeem_all};
use crate::measure::{Row, percentile, resident_kib, wall_us};
use crate::world::World;

/// Connections of one registered gateway: runs of it, of which the service allows 256.
const RUNS_EACH: usize = 250;
/// How long a fleet is left alone before anything is measured: some Pings, after which all of it has leases.
pub(crate) const SETTLE: Duration = Duration::from_secs(8);
/// How long all acknowledgements of one round may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// The answer names everybody who acknowledged.
pub(crate) const ANSWER_LEN_MAX: usize = 16 << 20;

/// Milliseconds at half and at 99 percent of the rounds, and KiB for each idle gateway.
type Measured = [f64; 3];

pub(crate) fn fanout(names: [&'static str; 3], count: usize, rounds: usize) -> Vec<Row> {
    let measured = tokio::runtime::Runtime::new().unwrap().block_on(gateways(count, rounds));
    // In a process of its own: what the service left in the allocator would make it look smaller than it is.
    let floor: Measured =
        serde_json::from_value(in_role(&["--echo", &count.to_string(), &rounds.to_string()])).unwrap();
    let row = |place: usize, unit, goal, met: fn(f64, f64) -> bool| {
        let (measured, floor) = (measured[place], floor[place]);
        let met = met(measured, floor);
        Row { name: names[place], measured: (measured, unit), floor: (floor, unit), goal, met }
    };
    vec![
        row(0, "ms", "<= 1.5 x bare echo to as many", |measured, floor| measured <= 1.5 * floor),
        row(1, "ms", "<= 3 x bare echo to as many", |measured, floor| measured <= 3.0 * floor),
        row(2, "KiB", "<= 40 KiB for an idle gateway", |measured, _| measured <= 40.0),
    ]
}

fn summary(samples: &[f64], kib: f64) -> Measured {
    [percentile(samples, 50), percentile(samples, 99), kib]
}

/// The role of the process that measures the floor.
pub(crate) fn run_echo(count: usize, rounds: usize) {
    let measured = tokio::runtime::Runtime::new().unwrap().block_on(echo(count, rounds));
    println!("{}", serde_json::json!(measured));
}

/// Whom a fleet connects to.
pub(crate) async fn target(world: &World, conduct: Conduct, count: usize) -> Target {
    let mut credentials = Vec::new();
    for n in 0..count.div_ceil(RUNS_EACH) {
        let caller = world.gateway(&format!("gw-{}-{n}", conduct.word())).await;
        credentials.push((caller.certificate, caller.key.to_pkcs8().to_vec()));
    }
    let state = world.running().app().state();
    Target {
        address: world.running().address(),
        root: state.authority(AuthorityKind::System).unwrap().certificate.clone(),
        credentials,
        now: world.clock.now(),
        log_key: state.settings.log_key.as_slice().try_into().unwrap(),
    }
}

async fn gateways(count: usize, rounds: usize) -> Measured {
    let mut world = World::start().await;
    let entity = world.partner().await;
    let subject = world.person(entity, "EMPLOYEE", EvidenceKind::NoUsStatus).await;
    let leaves = redeem_all(&world, prepare(&world, subject, rounds).await).await;
    let target = target(&world, Conduct::Enforce, count).await;
    let before = resident_kib();
    let fleet = Fleet::start(world.dir.path(), &target, Conduct::Enforce, count).await;
    tokio::time::sleep(SETTLE).await;
    let kib = (resident_kib() - before) / count as f64;
    let mut client = RevocationServiceClient::new(world.alice()).max_decoding_message_size(ANSWER_LEN_MAX);
    let mut samples = Vec::new();
    for leaf in &leaves {
        let ordinal = world.running().app().read_certificate(leaf).unwrap().ordinal;
        samples.push(revoke_ms(&world, &mut client, RevocationScope::Certificate(ordinal), count).await);
    }
    drop(fleet);
    world.close().await;
    summary(&samples, kib)
}

/// From the call to the answer, which all of so many gateways have acknowledged. The mandate is signed before.
pub(crate) async fn revoke_ms(
    world: &World,
    client: &mut RevocationServiceClient<Channel>,
    scope: RevocationScope,
    count: usize,
) -> f64 {
    let mandate = world.mandate(&Command::Revoke { scope, reason: RevocationReason::Drill }).await.unwrap();
    let approvals = vec![world.alice.approve(&mandate)];
    let request = pb::RevokeRequest {
        mandate: Some(pb::SignedMandate { mandate: mandate.into(), approvals }),
        wait: pb::Wait::Enforced.into(),
        ..Default::default()
    };
    let begin = wall_us();
    let done = client.revoke(request).await.unwrap().into_inner().enforcement.unwrap();
    let took_ms = (wall_us() - begin) / 1e3;
    assert_eq!(done.status, i32::from(pb::EnforcementStatus::Enforced));
    assert_eq!(done.acked.len(), count + 1, "every gateway and the server");
    took_ms
}

async fn echo(count: usize, rounds: usize) -> Measured {
    let folder = tempfile::tempdir().unwrap();
    let before = resident_kib();
    let (echo, target) = Echo::serve().await;
    let fleet = Fleet::start(folder.path(), &target, Conduct::Echo, count).await;
    tokio::time::sleep(SETTLE).await;
    let kib = (resident_kib() - before) / count as f64;
    let mut samples = Vec::new();
    for round in 0..rounds {
        let begin = wall_us();
        tokio::time::timeout(PATIENCE, echo.round(round as u64, count)).await.unwrap();
        samples.push((wall_us() - begin) / 1e3);
    }
    drop(fleet);
    summary(&samples, kib)
}

type Outbox = mpsc::Sender<Result<pb::SubscribeResponse, Status>>;

/// A service that knows nothing: it sends a message to every stream and counts what comes back.
#[derive(Clone, Default)]
struct Echo {
    streams: Arc<Mutex<Vec<Outbox>>>,
    answers: Arc<AtomicUsize>,
    expected: Arc<AtomicUsize>,
    all: Arc<Notify>,
}

impl Echo {
    async fn serve() -> (Self, Target) {
        let (echo, pki) = (Self::default(), Pki::new());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address: SocketAddr = listener.local_addr().unwrap();
        let acceptor = TlsAcceptor::from(pki.server());
        let (ready, incoming) = mpsc::channel::<io::Result<Connection>>(128);
        tokio::spawn(async move {
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                let (acceptor, ready) = (acceptor.clone(), ready.clone());
                tokio::spawn(async move {
                    socket.set_nodelay(true).unwrap();
                    let Ok(stream) = acceptor.accept(socket).await else { return };
                    drop(ready.send(Ok(Connection(stream))).await);
                });
            }
        });
        let service = EnforcementServiceServer::new(echo.clone());
        let server = Server::builder().add_service(service);
        tokio::spawn(server.serve_with_incoming(ReceiverStream::new(incoming)));
        let now = "2026-06-27T12:00:00Z".parse().unwrap();
        let target = Target { address, root: pki.root, credentials: vec![pki.client], now, log_key: [0; 32] };
        (echo, target)
    }

    /// One message to every stream, as long as that of a revocation, and back.
    async fn round(&self, round: u64, count: usize) {
        let record = pb::RecordEvents { seq: round, events: vec![Bytes::from_static(&[7; 8])] };
        let delta = pb::Delta { from_seq: round, to_seq: round, records: vec![record], cards: vec![] };
        let message = pb::subscribe_response::Message::Delta(delta);
        let message = pb::SubscribeResponse { message: Some(message) };
        self.answers.store(0, Ordering::SeqCst);
        self.expected.store(count, Ordering::SeqCst);
        let streams = self.streams.lock().unwrap().clone();
        assert_eq!(streams.len(), count);
        for stream in streams {
            stream.send(Ok(message.clone())).await.unwrap();
        }
        self.all.notified().await;
    }
}

#[tonic::async_trait]
impl EnforcementService for Echo {
    type SubscribeStream = ReceiverStream<Result<pb::SubscribeResponse, Status>>;

    async fn subscribe(
        &self,
        request: Request<Streaming<pb::SubscribeRequest>>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        let (sender, stream) = mpsc::channel(4);
        let mut inbox = request.into_inner();
        // The Open.
        inbox.message().await?;
        self.streams.lock().unwrap().push(sender);
        let echo = self.clone();
        tokio::spawn(async move {
            while let Ok(Some(_)) = inbox.message().await {
                if echo.answers.fetch_add(1, Ordering::SeqCst) + 1 == echo.expected.load(Ordering::SeqCst) {
                    echo.all.notify_one();
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn report_decisions(
        &self,
        _: Request<pb::ReportDecisionsRequest>,
    ) -> Result<Response<pb::ReportDecisionsResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn report_restrictions(
        &self,
        _: Request<pb::ReportRestrictionsRequest>,
    ) -> Result<Response<pb::ReportRestrictionsResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn list_gateways(
        &self,
        _: Request<pb::ListGatewaysRequest>,
    ) -> Result<Response<pb::ListGatewaysResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn get_gateway(
        &self,
        _: Request<pb::GetGatewayRequest>,
    ) -> Result<Response<pb::GetGatewayResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    type WatchGatewaysStream =
        Pin<Box<dyn tokio_stream::Stream<Item = Result<pb::WatchGatewaysResponse, Status>> + Send>>;

    async fn watch_gateways(
        &self,
        _: Request<pb::WatchGatewaysRequest>,
    ) -> Result<Response<Self::WatchGatewaysStream>, Status> {
        Err(Status::unimplemented(""))
    }
}
