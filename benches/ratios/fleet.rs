//! A fleet of gateways in a process of its own: this binary, started again with `--fleet FILE`.
//!
//! Each gateway has its connection, its handshake and its stream. It holds what the client library holds, by the library's
//! own `Replica`: it reads each message, applies it in order, acknowledges, and pings for its lease. It has no
//! `Gate`, for it decides nothing. Or it echoes, for the floor: reads each message, and answers it.

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use countersign::client::{Published, Replica, ReplicaConfig};
use countersign::domain::enforce::PING_MS;
use countersign::domain::enforce::message::{FromGateway, MESSAGE_LEN_MAX, Strength, ToGateway};
use countersign::domain::id::BootId;
use countersign::domain::time::Timestamp;
use countersign::env::{Clock as _, Entropy as _, SystemClock, SystemEntropy};
use countersign::pb;
use countersign::pb::enforcement_service_client::EnforcementServiceClient;
use countersign::pb::subscribe_request::Message as Up;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::Endpoint;

use crate::bare::Credential;

/// Handshakes under way at once: a fleet that starts, without filling the server's memory with handshakes.
const CONNECTING: usize = 32;
/// How long a fleet may take to be there.
const PATIENCE: Duration = Duration::from_secs(600);

/// What the gateways do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Conduct {
    /// They enforce.
    Enforce,
    /// They answer each message with one of their own.
    Echo,
    /// They hold what there is at the beginning and read nothing more.
    Stall,
}

impl Conduct {
    const ALL: [(Self, &'static str); 3] =
        [(Self::Enforce, "enforce"), (Self::Echo, "echo"), (Self::Stall, "stall")];

    pub(crate) fn of(word: &str) -> Self {
        Self::ALL.into_iter().find(|(_, known)| *known == word).unwrap().0
    }

    pub(crate) fn word(self) -> &'static str {
        Self::ALL.iter().find(|(conduct, _)| *conduct == self).unwrap().1
    }
}

/// Whom the fleet connects to, and as whom.
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    pub(crate) root: Vec<u8>,
    /// Used in turn: a principal is as good for 250 connections as for one.
    pub(crate) credentials: Vec<Credential>,
    pub(crate) now: Timestamp,
    pub(crate) log_key: [u8; 32],
}

/// A fleet that is connected. It leaves when this is dropped.
pub(crate) struct Fleet {
    child: Child,
    said: BufReader<ChildStdout>,
    _stdin: Option<ChildStdin>,
}

impl Fleet {
    /// Starts it and waits until every gateway is there.
    pub(crate) async fn start(folder: &Path, target: &Target, conduct: Conduct, count: usize) -> Self {
        let credential =
            |(certificate, key): &Credential| json!([hex::encode(certificate), hex::encode(key)]);
        let brief = json!({
            "address": target.address.to_string(),
            "root": hex::encode(&target.root),
            "credentials": target.credentials.iter().map(credential).collect::<Vec<_>>(),
            "now": target.now.millis(),
            "log_key": hex::encode(target.log_key),
            "conduct": conduct.word(),
            "count": count,
        });
        let path = folder.join("fleet.json");
        std::fs::write(&path, brief.to_string()).unwrap();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .arg("--fleet")
            .arg(&path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdin = child.stdin.take();
        let mut said = BufReader::new(child.stdout.take().unwrap());
        let reading = tokio::task::spawn_blocking(move || {
            let mut line = String::new();
            said.read_line(&mut line).unwrap();
            (line, said)
        });
        let (line, said) = tokio::time::timeout(PATIENCE, reading).await.unwrap().unwrap();
        assert_eq!(line, "connected\n", "the fleet did not start");
        Self { child, said, _stdin: stdin }
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        self._stdin = None;
        let mut rest = String::new();
        drop(self.said.read_line(&mut rest));
        drop(self.child.wait());
    }
}

/// The role of the other process: serves the brief until its standard input ends.
pub(crate) fn run(path: &str) {
    // One gateway that fails is the end of the measurement.
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        print(panic);
        std::process::exit(1);
    }));
    let brief: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(gather(Arc::new(brief)));
    // Thousands of connections: the system closes them faster than their tasks end.
    std::process::exit(0);
}

async fn gather(brief: Arc<Value>) {
    let count = usize::try_from(brief["count"].as_u64().unwrap()).unwrap();
    let (stop, stopped) = watch::channel(false);
    let (places, ready) = (Arc::new(Semaphore::new(CONNECTING)), Arc::new(AtomicUsize::new(0)));
    for n in 0..count {
        let (brief, places, ready) = (Arc::clone(&brief), Arc::clone(&places), Arc::clone(&ready));
        let gateway = Gateway { brief, number: n, places, ready, stopped: stopped.clone() };
        tokio::spawn(gateway.run());
    }
    while ready.load(Ordering::Relaxed) < count {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    println!("connected");
    std::io::stdout().flush().unwrap();
    // Until the end of the input.
    let end = tokio::task::spawn_blocking(|| std::io::stdin().read_line(&mut String::new()));
    drop(end.await);
    stop.send_replace(true);
}

struct Gateway {
    brief: Arc<Value>,
    number: usize,
    places: Arc<Semaphore>,
    ready: Arc<AtomicUsize>,
    stopped: watch::Receiver<bool>,
}

impl Gateway {
    async fn run(mut self) {
        let mut stopped = self.stopped.clone();
        tokio::select! {
            _ = stopped.wait_for(|stop| *stop) => {}
            () = self.subscribe() => panic!("a gateway lost its stream"),
        }
    }

    async fn subscribe(&mut self) {
        let place = Arc::clone(&self.places).acquire_owned().await.unwrap();
        let conduct = Conduct::of(self.brief["conduct"].as_str().unwrap());
        let channel = connect(&self.brief, self.number).await;
        let (up, messages) = mpsc::channel(64);
        let mut replica = self.replica();
        up.send(FromGateway::Open(replica.open()).into()).await.unwrap();
        let mut client = EnforcementServiceClient::new(channel).max_decoding_message_size(MESSAGE_LEN_MAX);
        let mut down = client.subscribe(ReceiverStream::new(messages)).await.unwrap().into_inner();
        if conduct == Conduct::Echo {
            drop(place);
            self.ready.fetch_add(1, Ordering::Relaxed);
            return echo(&up, &mut down).await;
        }
        // Until it holds what there is.
        while replica.view().is_none() {
            take(&mut replica, &up, down.message().await.unwrap().unwrap()).await;
        }
        drop(place);
        self.ready.fetch_add(1, Ordering::Relaxed);
        if conduct == Conduct::Stall {
            return std::future::pending().await;
        }
        // Spread over the interval, as gateways that started at different times are.
        let spread = Duration::from_millis(u64::from(PING_MS) * (self.number as u64 % 97) / 97);
        let mut ticks = tokio::time::interval(Duration::from_millis(u64::from(PING_MS) / 2));
        ticks.reset_after(spread);
        loop {
            tokio::select! {
                message = down.message() => take(&mut replica, &up, message.unwrap().unwrap()).await,
                _ = ticks.tick() => {
                    if let Some(ping) = replica.tick(SystemClock.boot_ms(), SystemClock.now()) {
                        up.send(ping.into()).await.unwrap();
                    }
                }
            }
        }
    }

    fn replica(&self) -> Replica {
        let log_key = hex::decode(self.brief["log_key"].as_str().unwrap()).unwrap();
        let config = ReplicaConfig {
            boot: BootId::from_parts(SystemClock.now(), SystemEntropy.bytes16()),
            strength: Strength { per_request: true, resumption_off: true, ..Strength::default() },
            log_key: log_key.try_into().unwrap(),
            adapter: None,
        };
        Replica::new(config, Arc::new(Published::default()))
    }
}

async fn take(
    replica: &mut Replica,
    up: &mpsc::Sender<pb::SubscribeRequest>,
    message: pb::SubscribeResponse,
) {
    let message = ToGateway::try_from(message).unwrap();
    let taken = replica.take(message, SystemClock.boot_ms(), SystemClock.now()).unwrap();
    for message in taken.send {
        up.send(message.into()).await.unwrap();
    }
}

/// Answers each message with an acknowledgement, whatever it is.
async fn echo(up: &mpsc::Sender<pb::SubscribeRequest>, down: &mut Streaming<pb::SubscribeResponse>) {
    while let Some(message) = down.message().await.unwrap() {
        std::hint::black_box(message);
        let ack = pb::Ack { applied_seq: 1, barrier_id: 0 };
        up.send(pb::SubscribeRequest { message: Some(Up::Ack(ack)) }).await.unwrap();
    }
}

async fn connect(brief: &Value, number: usize) -> tonic::transport::Channel {
    let address: SocketAddr = brief["address"].as_str().unwrap().parse().unwrap();
    let bytes = |value: &Value| hex::decode(value.as_str().unwrap()).unwrap();
    let credentials = brief["credentials"].as_array().unwrap();
    let credential = &credentials[number % credentials.len()];
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from(bytes(&brief["root"]))).unwrap();
    let now = Duration::from_millis(brief["now"].as_u64().unwrap());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ClientConfig::builder_with_details(provider, Arc::new(Fixed(now)))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_client_auth_cert(
            vec![CertificateDer::from(bytes(&credential[0]))],
            PrivateKeyDer::Pkcs8(bytes(&credential[1]).into()),
        )
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.resumption = rustls::client::Resumption::disabled();
    let config = Arc::new(config);
    let connector = tower::service_fn(move |_| {
        let config = Arc::clone(&config);
        async move {
            let socket = TcpStream::connect(address).await?;
            socket.set_nodelay(true)?;
            let name = ServerName::try_from("localhost").unwrap();
            let stream = tokio_rustls::TlsConnector::from(config).connect(name, socket).await?;
            Ok::<_, std::io::Error>(hyper_util::rt::TokioIo::new(stream))
        }
    });
    // As the client library has it.
    let interval = Duration::from_millis(u64::from(PING_MS));
    Endpoint::from_static("http://localhost")
        .http2_keep_alive_interval(interval)
        .keep_alive_timeout(interval * 8)
        .keep_alive_while_idle(true)
        .connect_with_connector(connector)
        .await
        .unwrap()
}

/// The time of the service, whose clock stands.
#[derive(Debug)]
struct Fixed(Duration);

impl rustls::time_provider::TimeProvider for Fixed {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(self.0))
    }
}

/// Takes as many file descriptors as the system lets this process have; each connection is one.
pub(crate) fn raise_descriptors() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).unwrap();
}
