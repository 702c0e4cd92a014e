//! What goes wrong between a service and a real Envoy that it pushes to: garbage on the way, and a service that is killed.

use std::fs::Permissions;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::pin::Pin;
use std::process::{Child, Command as Process, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use countersign::domain::command::Command;
use countersign::domain::id::SubjectId;
use countersign::domain::person::EvidenceKind;
use countersign::domain::revocation::{RevocationReason, RevocationScope};
use countersign::domain::time::Timestamp;
use countersign::env::{Clock as _, SystemClock};
use countersign::pb;
use envoy_types::pb::envoy::config::core::v3::DataSource;
use envoy_types::pb::envoy::config::core::v3::data_source::Specifier;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::Secret;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::secret::Type;
use envoy_types::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
};
use envoy_types::pb::envoy::service::secret::v3::secret_discovery_service_client::SecretDiscoveryServiceClient;
use envoy_types::pb::envoy::service::secret::v3::secret_discovery_service_server::{
    SecretDiscoveryService, SecretDiscoveryServiceServer,
};
use envoy_types::pb::google::protobuf::Any;
use prost::Message as _;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_stream::wrappers::TcpListenerStream;
use tokio_stream::{Stream, StreamExt as _};
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Request, Response, Status, Streaming};

use crate::cli::Desk;
use crate::envoy::free_port;
use crate::envoy_sds::{Control, LEASE, LIMIT, SAMPLE, Scene, assert_enforced, pem};
use crate::sds::{self, Delta};
use crate::world::{CRL_BASE, Caller, World, tls_stream};

/// How the bytes of a set are spoiled on their way to Envoy; nothing else is touched.
#[derive(Debug, Clone, Copy)]
enum Garbage {
    /// The list is PEM, and what is in it no list.
    List,
    /// The same of the authorities.
    Authorities,
    /// No secret at all.
    Secret,
}

/// What stands between the service and Envoy. The service sees a gateway that is sent what it cannot read.
#[derive(Clone)]
struct Relay {
    service: SecretDiscoveryServiceClient<Channel>,
    garbage: Arc<Mutex<Option<Garbage>>>,
    spoiled: Arc<AtomicU64>,
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl SecretDiscoveryService for Relay {
    type StreamSecretsStream = Answers<DiscoveryResponse>;
    type DeltaSecretsStream = Answers<DeltaDiscoveryResponse>;

    async fn stream_secrets(
        &self,
        _: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamSecretsStream>, Status> {
        Err(Status::unimplemented("the sample is incremental"))
    }

    async fn delta_secrets(
        &self,
        request: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaSecretsStream>, Status> {
        let up = request.into_inner().map_while(Result::ok);
        let down = self.service.clone().delta_secrets(up).await?.into_inner();
        let relay = self.clone();
        Ok(Response::new(Box::pin(down.map(move |response| {
            let mut response = response?;
            let secrets = response.resources.iter_mut().filter_map(|resource| resource.resource.as_mut());
            secrets.for_each(|secret| relay.spoil(secret));
            Ok(response)
        }))))
    }

    async fn fetch_secrets(
        &self,
        _: Request<DiscoveryRequest>,
    ) -> Result<Response<DiscoveryResponse>, Status> {
        Err(Status::unimplemented("nothing is fetched"))
    }
}

impl Relay {
    /// Where it listens, over plain HTTP/2 on loopback, and the task that it ends with.
    async fn start(world: &World, gateway: &Caller) -> (Self, u16, JoinSet<()>) {
        let service = SecretDiscoveryServiceClient::new(world.connect_as(gateway).await);
        let relay = Self { service, garbage: Arc::default(), spoiled: Arc::default() };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let serving = Server::builder()
            .add_service(SecretDiscoveryServiceServer::new(relay.clone()))
            .serve_with_incoming(TcpListenerStream::new(listener));
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { serving.await.unwrap() });
        (relay, port, tasks)
    }

    fn set(&self, garbage: Option<Garbage>) {
        *self.garbage.lock().unwrap() = garbage;
    }

    fn spoil(&self, any: &mut Any) {
        let Some(garbage) = *self.garbage.lock().unwrap() else { return };
        self.spoiled.fetch_add(1, Ordering::SeqCst);
        let mut secret = Secret::decode(any.value.as_slice()).unwrap();
        let Some(Type::ValidationContext(context)) = &mut secret.r#type else { panic!("{}", secret.name) };
        match garbage {
            Garbage::List => spoil_pem(context.crl.as_mut().unwrap()),
            Garbage::Authorities => spoil_pem(context.trusted_ca.as_mut().unwrap()),
            Garbage::Secret => {}
        }
        any.value = match garbage {
            Garbage::List | Garbage::Authorities => secret.encode_to_vec(),
            Garbage::Secret => vec![0xff; 64],
        };
    }
}

fn spoil_pem(source: &mut DataSource) {
    let Some(Specifier::InlineBytes(bytes)) = &mut source.specifier else { panic!("{source:?}") };
    let text = String::from_utf8(std::mem::take(bytes)).unwrap();
    let half = text.len() / 2;
    // Letters that base64 knows: what is broken is the DER.
    let spoil = |(at, line): (usize, &str)| match line.starts_with('-') || at > half {
        true => line.to_owned(),
        false => "A".repeat(line.len()),
    };
    let lines: Vec<String> = text.lines().enumerate().map(spoil).collect();
    *bytes = (lines.join("\n") + "\n").into_bytes();
}

/// The sample, whose secrets come through the relay.
fn through(port: u16) -> String {
    // The cluster of secrets stands on a line of its own, that of requests does not.
    let sds = SAMPLE.replace(
        "\n                      cluster_name: countersign\n",
        "\n                      cluster_name: relay\n",
    );
    assert_ne!(sds, SAMPLE);
    let cluster = "
  - name: relay
    type: STATIC
    connect_timeout: 1s
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        \"@type\": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config: { http2_protocol_options: {} }
    load_assignment:
      cluster_name: relay
      endpoints:
      - lb_endpoints:
        - endpoint: { address: { socket_address: { address: 127.0.0.1, port_value: PORT } } }
";
    sds + &cluster.replace("PORT", &port.to_string())
}

fn revoke(subject: SubjectId) -> Command {
    Command::Revoke { scope: RevocationScope::Subject(subject), reason: RevocationReason::Misuse }
}

/// What an officer's command line prints of the gateway.
async fn shown(scene: &Scene, arguments: &[&str]) -> String {
    let desk = Desk::new();
    let folder = desk.path("alice");
    std::fs::create_dir(&folder).unwrap();
    let app = scene.world.running().app();
    let csr = scene.world.alice.key.request().unwrap();
    let issued = app.issue_principal(&"alice".parse().unwrap(), &csr).await.unwrap();
    for (name, text) in [
        ("certificate.pem", pem(&issued.certificate)),
        ("key.pem", scene.world.alice.key.to_pem()),
        ("system-bundle.pem", scene.world.system_pem()),
    ] {
        let path = folder.join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    }
    let url = format!("https://{}", scene.world.running().address());
    let mut command = desk.command(arguments);
    command.args(["--server", &url, "--identity", "alice"]);
    let run = tokio::task::spawn_blocking(move || command.output().unwrap());
    let output = timeout(LIMIT, run).await.expect("the command ends").unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_envoy_refuses_is_shown_and_acknowledges_nothing_until_a_good_set_comes() {
    let (world, entity) = Scene::world().await;
    let gateway = world.gateway("gw-envoy").await;
    let (relay, port, _serving) = Relay::start(&world, &gateway).await;
    let control = Control::of(&world);
    let scene = Scene::with((world, entity), &gateway, &control, &through(port)).await;
    let (_, other) = scene.employee().await;
    assert_eq!(scene.status(&other).await, Some(200), "{}", scene.envoy.log());
    for (garbage, why) in
        [(Garbage::List, "CRL"), (Garbage::Authorities, "trusted CA"), (Garbage::Secret, "Secret")]
    {
        let (subject, caller) = scene.employee().await;
        assert_eq!(scene.status(&caller).await, Some(200), "{}", scene.envoy.log());
        let before = scene.world.running().app().feed().counts().nacks;
        relay.set(Some(garbage));
        let waiting = scene.world.begin(revoke(subject)).await;
        let row = scene.world.row("gw-envoy", |row| row.last_nack.contains(why)).await;
        println!("{garbage:?}: {}", row.last_nack);
        let revoked = scene.world.running().app().state().feed_seq;
        assert!(row.applied_seq < revoked.0 && row.connected, "{row:?}");
        assert!(scene.world.running().app().feed().counts().nacks > before);
        // The set before is in force: nobody is let in without it, and what is asked at each request is denied.
        assert_eq!(scene.status(&caller).await, Some(403), "{}", scene.envoy.log());
        assert_eq!(scene.status(&other).await, Some(200));
        assert!(!waiting.is_finished(), "refused is not enforced");
        for arguments in [&["gateway", "list"][..], &["gateway", "show", "gw-envoy"]] {
            let shown = shown(&scene, arguments).await;
            assert!(shown.contains(why), "{arguments:?}: {shown}");
        }
        relay.set(None);
        // The next one comes at half of the lease of the one that was refused.
        let report = timeout(LIMIT, waiting).await.expect("an answer").unwrap();
        assert_enforced(&report);
        println!("{garbage:?}: enforced by the next set after {} ms", report.took_ms);
        scene.until(&caller, None).await;
        assert_eq!(scene.status(&other).await, Some(200));
    }
    let nacks = scene.world.running().app().feed().counts().nacks;
    assert_eq!(nacks, relay.spoiled.load(Ordering::SeqCst), "each spoiled set was refused, and no other");
    assert_eq!(scene.rows().await.len(), 1, "one stream all along");
}

/// `countersign serve` as a process. Dropping it kills it as `kill -9` does.
struct Served(Child);

impl Served {
    /// Serves what is in a folder, and returns when it says so.
    async fn start(world: &World, port: u16) -> Self {
        let config = world.dir.path().join("countersign.toml");
        let text = format!(
            "listen = \"127.0.0.1:{port}\"\ncrl_base_url = \"{CRL_BASE}\"\nlow_water_mib = 1\n\
             [log]\nformat = \"json\"\n"
        );
        std::fs::write(&config, text).unwrap();
        let mut serve = Process::new(env!("CARGO_BIN_EXE_countersign"));
        serve.args(["serve", "--config"]).arg(&config).stdin(Stdio::null()).stderr(Stdio::piped());
        let mut served = Self(serve.spawn().unwrap());
        let lines = BufReader::new(served.0.stderr.take().unwrap()).lines();
        let (say, said) = mpsc::channel();
        // To its end: a full pipe would stop the service.
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(|line| drop(say.send(line))));
        let is_up = tokio::task::spawn_blocking(move || {
            let mut said = std::iter::from_fn(|| said.recv_timeout(LIMIT).ok());
            said.any(|line| line.contains("\"serving\""))
        });
        assert!(is_up.await.unwrap(), "it serves");
        served
    }

    fn kill(mut self) {
        self.0.kill().unwrap();
        assert!(!self.0.wait().unwrap().success(), "killed, not ended");
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The nextUpdate of a pushed list, as openssl reads it.
fn next_update(list: &str) -> Timestamp {
    let (is_list, out, _) =
        crate::calls::openssl(&["crl", "-noout", "-nextupdate", "-dateopt", "iso_8601"], list.as_bytes());
    let text = String::from_utf8(out).unwrap();
    assert!(is_list, "{text}");
    let instant = text.trim().strip_prefix("nextUpdate=").unwrap().replacen(' ', "T", 1);
    instant.parse().unwrap()
}

/// How often a busy machine may be too slow for a list: each has ten seconds.
const LISTS: usize = 20;

/// Kills the service while the newest list is in force at Envoy and the next one is not due. Gives when that list ends, and in how long.
async fn killed_with_a_new_list(
    served: Served,
    scene: &Scene,
    caller: &Caller,
    observer: &mut Delta,
) -> (Timestamp, Duration) {
    let left = |until: Timestamp| {
        Duration::from_millis(u64::try_from(until.millis() - SystemClock.now().millis()).unwrap_or_default())
    };
    for _ in 0..LISTS {
        let last = observer.next().await;
        observer.answer(&last, None).await;
        let list = sds::secret(last.resources[0].resource.as_ref().unwrap()).2;
        let until = next_update(&list);
        // Streams are looked at within tens of milliseconds of each other; so many handshakes take longer.
        for _ in 0..50 {
            assert_eq!(scene.status(caller).await, Some(200), "{}", scene.envoy.log());
        }
        // The next one comes at half of the lease: if that is near, Envoy may have another list than the observer.
        if left(until) > LEASE / 2 + LEASE / 10 {
            served.kill();
            let left = left(until);
            assert!(left > LEASE / 2 && left < LEASE, "{left:?}");
            return (until, left);
        }
    }
    panic!("{LISTS} lists came, and the machine was too slow for each");
}

#[tokio::test(flavor = "multi_thread")]
async fn after_kill_9_handshakes_go_on_until_the_list_ends_and_again_when_the_service_is_back() {
    let (mut world, entity) = Scene::world().await;
    let gateway = world.gateway("gw-envoy").await;
    let employee = async || {
        let subject = world.person(entity, "EMPLOYEE", EvidenceKind::NoUsStatus).await;
        (subject, world.enroll(subject).await)
    };
    let ((subject, revoked), (_, caller)) = (employee().await, employee().await);
    world.restrict(revoke(subject), pb::Wait::Committed).await.unwrap();
    let system_pem = world.system_pem();
    let tls = world.tls(Some((&gateway.key, &gateway.certificate)));
    world.close().await;

    // From here on the service is a process, which has the machine's clock.
    let port = free_port();
    let served = Served::start(&world, port).await;
    let control = Control { system_pem, port };
    let scene = Scene::with((world, entity), &gateway, &control, SAMPLE).await;
    assert_eq!(scene.status(&caller).await, Some(200), "{}", scene.envoy.log());
    assert_eq!(scene.status(&revoked).await, None);
    // Who else is sent the set is sent the same one at the same time.
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let connector = tower::service_fn(move |_| {
        let connected = tls_stream(Arc::clone(&tls), address);
        async move { connected.await.map(hyper_util::rt::TokioIo::new) }
    });
    let channel = Endpoint::from_static("https://localhost").connect_with_connector_lazy(connector);
    let mut observer = Delta::open_on(channel, sds::ALL, &[sds::LEASED]).await.unwrap();
    let (until, left) = killed_with_a_new_list(served, &scene, &caller, &mut observer).await;

    let mut let_in = 0_u32;
    // Handshakes go on, and nothing is permitted.
    loop {
        let status = scene.status(&caller).await;
        // What took until the end proves nothing.
        if SystemClock.now() >= until {
            break;
        }
        assert_eq!(status, Some(503), "{}", scene.envoy.log());
        let_in += 1;
    }
    scene.until(&caller, None).await;
    let closed = SystemClock.now();
    // The list ends with its last second.
    assert!(closed.millis() <= until.millis() + 2_000, "closed at {closed}, the list ended at {until}");
    assert_eq!(scene.status(&caller).await, None, "and stays so");
    println!(
        "killed {left:?} before nextUpdate; {let_in} handshakes until it; closed {} ms after it",
        closed.millis() - until.millis()
    );

    let _served = Served::start(&scene.world, port).await;
    scene.until(&caller, Some(200)).await;
    println!("let in again {} ms after the end", SystemClock.now().millis() - closed.millis());
    assert_eq!(scene.status(&revoked).await, None);
}
