//! `ext_authz`: a request through the real Envoy that asks this service first, against the same Envoy that asks a service
//! which always says yes, and against one that asks nobody. All three are asked in turn.

use std::io;
use std::sync::Arc;

use countersign::domain::person::EvidenceKind;
use countersign::env::{Clock, SystemClock};
use countersign::x509::bundle::certificate_pem;
use envoy_types::ext_authz::v3::CheckResponseExt;
use envoy_types::ext_authz::v3::pb::{Authorization, AuthorizationServer, CheckRequest, CheckResponse};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Server;
use tonic::{Request, Response, Status};

use crate::bare::{Connection, Credential as Der, Pki};
use crate::envoy::{Credential, Envoy, HttpsClient, Upstream, client_config};
use crate::measure::{Row, median, wall_us};
use crate::world::World;

const SAMPLE: &str = include_str!("../../deploy/envoy/envoy.yaml");
const HOST: &str = "gateway.test.example";
/// Requests of each kind, one after the other.
const REQUESTS: usize = 3_000;
/// Requests before that are not measured.
const WARM_UP: usize = 50;
/// Connections that ask at once, and what each asks, for the rate.
const CONNECTIONS: usize = 32;
const REQUESTS_EACH: usize = 300;

/// Somebody who says yes to everything.
struct Yes;

#[tonic::async_trait]
impl Authorization for Yes {
    async fn check(&self, _: Request<CheckRequest>) -> Result<Response<CheckResponse>, Status> {
        Ok(Response::new(CheckResponse::with_status(Status::ok(""))))
    }
}

/// Serves over the same mTLS; on which port.
async fn say_yes(pki: &Pki) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let acceptor = TlsAcceptor::from(pki.server());
    let (ready, incoming) = mpsc::channel::<io::Result<Connection>>(8);
    tokio::spawn(async move {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            socket.set_nodelay(true).unwrap();
            let Ok(stream) = acceptor.accept(socket).await else { continue };
            drop(ready.send(Ok(Connection(stream))).await);
        }
    });
    let server = Server::builder().add_service(AuthorizationServer::new(Yes));
    tokio::spawn(server.serve_with_incoming(ReceiverStream::new(incoming)));
    port
}

/// The sample without the filter: what it asks nobody.
fn without_filter() -> String {
    let (begin, rest) = SAMPLE.split_once("          - name: envoy.filters.http.ext_authz\n").unwrap();
    let (_, end) = rest.split_once("          - name: envoy.filters.http.router\n").unwrap();
    let text = format!("{begin}          - name: envoy.filters.http.router\n{end}");
    let (begin, rest) = text.split_once("                typed_per_filter_config:\n").unwrap();
    let (_, end) = rest.split_once("                        serving_region: US\n").unwrap();
    format!("{begin}{end}")
}

/// A folder of files for an Envoy.
struct Files<'a> {
    world: &'a World,
    upstream: u16,
    listener: rcgen::Certificate,
    listener_key: rcgen::KeyPair,
}

impl Files<'_> {
    /// An Envoy that asks whoever listens there and shows this certificate.
    async fn envoy(&self, name: &str, template: &str, control: (u16, &str, &Der)) -> Envoy {
        let (port, root_pem, (certificate, key)) = control;
        let write = |file: &str, text: &str| {
            let path = self.world.dir.path().join(format!("{name}-{file}"));
            std::fs::write(&path, text).unwrap();
            path.to_str().unwrap().to_owned()
        };
        let key_pem = pem::encode(&pem::Pem::new("PRIVATE KEY", key.clone()));
        let values = [
            ("BUNDLE", write("access.pem", &self.world.access_pem())),
            ("SYSTEM_BUNDLE", write("system.pem", root_pem)),
            ("SERVER_CERT", write("listener.pem", &self.listener.pem())),
            ("SERVER_KEY", write("listener.key", &self.listener_key.serialize_pem())),
            ("GATEWAY_CERT", write("gateway.pem", &certificate_pem(certificate))),
            ("GATEWAY_KEY", write("gateway.key", &key_pem)),
            ("CONTROL_HOST", "127.0.0.1".to_owned()),
            ("CONTROL_PORT", port.to_string()),
            ("CONTROL_NAME", "localhost".to_owned()),
            ("UPSTREAM_PORT", self.upstream.to_string()),
        ];
        let values: Vec<_> = values.iter().map(|(name, value)| (*name, value.as_str())).collect();
        Envoy::start(template, &values).await
    }
}

pub(crate) fn ext_authz() -> Vec<Row> {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let ([ours, yes, bare], [our_rate, yes_rate]) = runtime.block_on(measure());
    let us = |name, (measured, floor), goal, met| Row {
        name,
        measured: (measured, "us"),
        floor: (floor, "us"),
        goal,
        met,
    };
    vec![
        us("ext_authz", (ours, yes), "<= 1.15 x a service that says yes", ours <= 1.15 * yes),
        us("ext_authz_added", (ours - bare, bare), "added to Envoy that asks nobody", true),
        Row {
            name: "ext_authz_rate",
            measured: (our_rate, "/s"),
            floor: (yes_rate, "/s"),
            goal: "checks, against always yes",
            met: true,
        },
    ]
}

/// Microseconds of a request through each, and requests a second through the first two.
async fn measure() -> ([f64; 3], [f64; 2]) {
    // Envoy has no clock but the machine's.
    let mut world = World::start_at(SystemClock.now()).await;
    let entity = world.partner().await;
    let subject = world.person(entity, "EMPLOYEE", EvidenceKind::NoUsStatus).await;
    let caller = world.enroll(subject).await;
    let gateway = world.gateway("gw-envoy").await;
    let gateway = (gateway.certificate, gateway.key.to_pkcs8().to_vec());
    let pki = Pki::new();
    let upstream = Upstream::start().await;
    let listener_key = rcgen::KeyPair::generate().unwrap();
    let listener = rcgen::CertificateParams::new(vec![HOST.to_owned()]).unwrap();
    let listener = listener.self_signed(&listener_key).unwrap();
    let files = Files { world: &world, upstream: upstream.port(), listener, listener_key };
    let (port, system) = (world.running().address().port(), world.system_pem());
    let yes = (say_yes(&pki).await, certificate_pem(&pki.root));
    let envoys = [
        files.envoy("ours", SAMPLE, (port, &system, &gateway)).await,
        files.envoy("yes", SAMPLE, (yes.0, &yes.1, &pki.client)).await,
        files.envoy("bare", &without_filter(), (port, &system, &gateway)).await,
    ];
    let credential =
        Credential { chain_pem: certificate_pem(&caller.certificate), key_pem: caller.key.to_pem() };
    let config = Arc::new(client_config(&files.listener.pem(), Some(&credential)));
    let connect = |envoy: &Envoy| HttpsClient::connect(envoy.port(), HOST, Arc::clone(&config));
    let mut clients = Vec::new();
    for envoy in &envoys {
        let mut client = connect(envoy).await.unwrap();
        // Envoy connects when it is first asked, and has a quarter of a second for it.
        for _ in 0..WARM_UP {
            drop(client.get("/v1/mythos", &[]).await.unwrap());
        }
        clients.push(client);
    }
    let mut samples = [(); 3].map(|()| Vec::new());
    for _ in 0..REQUESTS {
        for (client, samples) in clients.iter_mut().zip(&mut samples) {
            let begin = wall_us();
            let answer = client.get("/v1/mythos", &[]).await.unwrap();
            samples.push(wall_us() - begin);
            assert_eq!(answer.status, 200, "{answer:?}");
        }
    }
    let mut rates = [0.0; 2];
    for (envoy, rate) in envoys.iter().zip(&mut rates) {
        let mut clients = Vec::new();
        for _ in 0..CONNECTIONS {
            clients.push(connect(envoy).await.unwrap());
        }
        *rate = per_second(clients).await;
    }
    drop((envoys, files));
    world.close().await;
    (samples.map(median), rates)
}

async fn per_second(clients: Vec<HttpsClient>) -> f64 {
    let mut tasks = tokio::task::JoinSet::new();
    let begin = wall_us();
    for mut client in clients {
        tasks.spawn(async move {
            for _ in 0..REQUESTS_EACH {
                assert_eq!(client.get("/v1/mythos", &[]).await.unwrap().status, 200);
            }
        });
    }
    tasks.join_all().await;
    (CONNECTIONS * REQUESTS_EACH) as f64 / ((wall_us() - begin) / 1e6)
}
