//! The real HAProxy and the real nginx of Debian with the sample configurations of deploy/, and the real agent beside them.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command as Process, Stdio};
use std::sync::Arc;
use std::time::Duration;

use countersign::app::store;
use countersign::domain::certificate::{AuthorityKind, Serial};
use countersign::domain::codec::to_bytes;
use countersign::domain::command::Command;
use countersign::domain::event::{Entry, Event, Intent};
use countersign::domain::id::{BootId, Digest, EntityId, Ordinal, Seq, SubjectId};
use countersign::domain::person::EvidenceKind;
use countersign::domain::revocation::{RevocationReason, RevocationScope};
use countersign::env::{Clock, Entropy as _, ManualClock, SystemClock, SystemEntropy};
use countersign::journal::file::Options;
use countersign::journal::{Batch, Draft, Journal as _, Outcome};
use countersign::pb;
use countersign::x509::Curve;
use rustls::ClientConfig;
use rustls::client::Resumption;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::envoy::{Credential, HttpsClient, Response, Upstream, client_config, free_port, render};
use crate::world::{Caller, World};

/// A process starts in half a second; a busy machine that builds at the same time may need many.
const START_LIMIT: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(50);
pub(crate) const HOST: &str = "gateway.test.example";
/// The service's clock begins so far back, so that it can catch up with the machine's when all is set up.
pub(crate) const BEHIND_MS: i64 = 20_000;

/// Which proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Proxy {
    Haproxy,
    Nginx,
}

impl Proxy {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Haproxy => "haproxy",
            Self::Nginx => "nginx",
        }
    }

    pub(crate) const fn sample(self) -> &'static str {
        match self {
            Self::Haproxy => include_str!("../../deploy/haproxy/haproxy.cfg"),
            Self::Nginx => include_str!("../../deploy/nginx/nginx.conf"),
        }
    }

    const fn agent_sample(self) -> &'static str {
        match self {
            Self::Haproxy => include_str!("../../deploy/haproxy/agent.toml"),
            Self::Nginx => include_str!("../../deploy/nginx/agent.toml"),
        }
    }
}

/// A process that ends with this value; what it wrote is shown when a test fails.
pub(crate) struct Running {
    process: Child,
    log: PathBuf,
}

impl Running {
    pub(crate) fn start(command: &mut Process, log: PathBuf) -> Self {
        let err = File::options().create(true).append(true).open(&log).unwrap();
        let out = err.try_clone().unwrap();
        let process = command.stdin(Stdio::null()).stdout(out).stderr(err).spawn();
        let process = process.unwrap_or_else(|error| {
            panic!("{command:?}: {error}: run the tests with tests/run, which installs it")
        });
        Self { process, log }
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// `kill -9`.
    pub(crate) fn kill(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // nginx's workers end with their master only when it is asked: SIGTERM is what a service manager sends.
        if let Some(pid) = rustix::process::Pid::from_raw(self.process.id().cast_signed()) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        for _ in 0..100 {
            if !matches!(self.process.try_wait(), Ok(None)) {
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        self.kill();
        if std::thread::panicking() {
            eprintln!("{}:\n{}", self.log.display(), self.log());
        }
    }
}

/// A service with two people, a proxy in front of a model, and everything that an agent needs.
pub(crate) struct Scene {
    // These end before their folder goes.
    pub(crate) proxy: Option<Running>,
    pub(crate) agent: Option<Running>,
    pub(crate) world: World,
    pub(crate) proxy_kind: Proxy,
    pub(crate) caller: Caller,
    pub(crate) entity: EntityId,
    pub(crate) subject: SubjectId,
    pub(crate) other: Caller,
    pub(crate) upstream: Upstream,
    pub(crate) port: u16,
    authz: u16,
    /// The authority of the proxy's own certificate, PEM.
    pub(crate) roots: String,
    clock: JoinHandle<()>,
}

impl Drop for Scene {
    fn drop(&mut self) {
        self.clock.abort();
    }
}

/// Has the service's clock run as the machine's does: proxies have no other.
fn run_clock(clock: Arc<ManualClock>) -> JoinHandle<()> {
    tokio::spawn(async move {
        loop {
            let behind = SystemClock.now().millis() - clock.now().millis();
            clock.advance_ms(u32::try_from(behind).unwrap_or(0));
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
}

fn write(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
}

fn pem(der: &[u8]) -> String {
    countersign::x509::bundle::certificate_pem(der)
}

fn log_key_pem(key: &[u8]) -> String {
    const SPKI: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
    pem::encode(&pem::Pem::new("PUBLIC KEY", [&SPKI, key].concat()))
}

impl Scene {
    /// Everything but the two processes.
    pub(crate) async fn set(proxy_kind: Proxy) -> Self {
        Self::set_on(proxy_kind, World::start_at(SystemClock.now().plus_ms(-BEHIND_MS)).await).await
    }

    /// The same on this service.
    pub(crate) async fn set_on(proxy_kind: Proxy, world: World) -> Self {
        let entity = world.partner().await;
        let subject = world.person(entity, "EMPLOYEE", EvidenceKind::NoUsStatus).await;
        let caller = world.enroll(subject).await;
        let other =
            world.enroll(world.person(entity, "EMPLOYEE", EvidenceKind::CitizenOrNational).await).await;
        let gateway = world.gateway("gw-agent").await;
        let dir = world.dir.path().join("gateway");
        let identity = dir.join("identity");
        std::fs::create_dir_all(&identity).unwrap();
        write(&identity.join("certificate.pem"), &pem(&gateway.certificate));
        write(&identity.join("key.pem"), &gateway.key.to_pem());
        let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(identity.join("key.pem"), private).unwrap();
        write(&identity.join("system-bundle.pem"), &world.system_pem());
        write(&identity.join("log-key.pem"), &log_key_pem(&world.running().app().state().settings.log_key));
        let algorithm = match world.curve {
            Curve::P256 => &rcgen::PKCS_ECDSA_P256_SHA256,
            Curve::P384 => &rcgen::PKCS_ECDSA_P384_SHA384,
        };
        let key = rcgen::KeyPair::generate_for(algorithm).unwrap();
        let own = rcgen::CertificateParams::new(vec![HOST.to_owned()]).unwrap().self_signed(&key).unwrap();
        let (roots, key) = (own.pem(), key.serialize_pem());
        write(&dir.join("listener-ca.pem"), &roots);
        match proxy_kind {
            Proxy::Haproxy => {
                write(&dir.join("listener.pem"), &format!("{roots}{key}"));
                write(&dir.join("countersign.lua"), include_str!("../../deploy/haproxy/countersign.lua"));
            }
            Proxy::Nginx => {
                write(&dir.join("listener.pem"), &roots);
                write(&dir.join("listener.key"), &key);
            }
        }
        let upstream = Upstream::start().await;
        let clock = run_clock(Arc::clone(&world.clock));
        let scene = Self {
            world,
            proxy_kind,
            caller,
            entity,
            subject,
            other,
            upstream,
            port: free_port(),
            authz: free_port(),
            roots,
            proxy: None,
            agent: None,
            clock,
        };
        scene.configure(proxy_kind.sample());
        scene
    }

    /// The same with both processes, and the proxy lets a client through.
    pub(crate) async fn start(proxy_kind: Proxy) -> Self {
        let mut scene = Self::set(proxy_kind).await;
        scene.start_all().await;
        scene
    }

    /// Waits until every session of the fleet is as strong as it can be: those of the agent's first, weak promises last
    /// as long as their leases.
    pub(crate) async fn until_strong(&self) {
        let mut last = Vec::new();
        let waited = timeout(START_LIMIT, async {
            loop {
                last = self.fleet().await;
                let is_over = |s: &pb::GatewaySession| !s.connected && s.lease_left_ms == 0;
                let mut left = last.iter().filter(|session| !is_over(session)).peekable();
                if left.peek().is_some() && left.all(|session| session.connected && !session.weak) {
                    return;
                }
                tokio::time::sleep(POLL).await;
            }
        });
        let waited = waited.await;
        assert!(waited.is_ok(), "weak: {last:#?}\n{}", self.agent_log());
    }

    /// Starts the agent, then the proxy, and waits until it lets a client through.
    pub(crate) async fn start_all(&mut self) {
        self.start_agent();
        self.start_proxy().await;
        self.until_permitted().await;
    }

    pub(crate) fn dir(&self) -> PathBuf {
        self.world.dir.path().join("gateway")
    }

    /// Fills the samples: this one for the proxy.
    pub(crate) fn configure(&self, sample: &str) {
        let dir = self.dir();
        let (listen, authz) = (format!("127.0.0.1:{}", self.port), format!("127.0.0.1:{}", self.authz));
        let control = format!("127.0.0.1:{}", self.world.running().address().port());
        let upstream = self.upstream.port().to_string();
        let domain = self.world.running().app().state().settings.trust_domain.clone();
        let dir_text = dir.to_str().unwrap();
        let of = |text: &str| {
            let values = [
                ("DIR", dir_text),
                ("LISTEN", &listen),
                ("AUTHZ", &authz),
                ("UPSTREAM_PORT", &upstream),
                ("HOST", HOST),
                ("CONTROL", &control),
                ("CONTROL_NAME", "localhost"),
                ("TRUST_DOMAIN", &domain),
            ];
            let there = |(name, _): &&(&str, &str)| text.contains(&format!("@{name}@"));
            let values: Vec<(&str, &str)> = values.iter().filter(there).copied().collect();
            render(text, &values)
        };
        write(&dir.join("proxy.conf"), &of(sample));
        write(&dir.join("agent.toml"), &of(self.proxy_kind.agent_sample()));
    }

    pub(crate) fn start_agent(&mut self) {
        let dir = self.dir();
        let mut command = Process::new(env!("CARGO_BIN_EXE_countersign"));
        let config = dir.join("agent.toml");
        command.args(["agent", "--adapter", self.proxy_kind.name(), "--config", config.to_str().unwrap()]);
        self.agent = Some(Running::start(&mut command, dir.join("agent.log")));
    }

    /// Waits until the agent wrote what the proxy needs to begin, and starts it.
    pub(crate) async fn start_proxy(&mut self) {
        let dir = self.dir();
        let written = dir.join("access-crl.pem");
        self.until("the agent writes its files", || written.exists()).await;
        let config = dir.join("proxy.conf");
        let mut command = match self.proxy_kind {
            Proxy::Haproxy => {
                let mut command = Process::new("haproxy");
                command.arg("-db").arg("-f").arg(&config);
                command
            }
            Proxy::Nginx => {
                let mut command = Process::new("nginx");
                command.args(["-g", "daemon off; user root;", "-p"]).arg(&dir).arg("-c").arg(&config);
                command
            }
        };
        self.proxy = Some(Running::start(&mut command, dir.join("proxy.log")));
    }

    pub(crate) fn agent_log(&self) -> String {
        std::fs::read_to_string(self.dir().join("agent.log")).unwrap_or_default()
    }

    /// Waits for something that another process does.
    pub(crate) async fn until(&self, what: &str, is_so: impl Fn() -> bool) {
        let waited = timeout(START_LIMIT, async {
            while !is_so() {
                tokio::time::sleep(POLL).await;
            }
        });
        assert!(waited.await.is_ok(), "{what}: not in {START_LIMIT:?}\n{}", self.agent_log());
    }

    /// Waits until a client gets through.
    pub(crate) async fn until_permitted(&self) {
        self.until_answered("200", |answer| matches!(answer, Ok(response) if response.status == 200)).await;
    }

    /// Waits until the other client, on a new connection, is answered so.
    pub(crate) async fn until_answered(&self, what: &str, fits: impl Fn(&std::io::Result<Response>) -> bool) {
        let mut last = None;
        let waited = timeout(START_LIMIT, async {
            loop {
                let answer = self.ask_anew(&self.other).await;
                if fits(&answer) {
                    return;
                }
                last = Some(answer);
                tokio::time::sleep(POLL).await;
            }
        });
        let waited = waited.await;
        assert!(waited.is_ok(), "{what}: not in {START_LIMIT:?}, but {last:?}\n{}", self.agent_log());
    }

    /// Waits until the revoked caller is refused at TLS.
    pub(crate) async fn until_refused(&self) {
        let waited = timeout(START_LIMIT, async {
            while !is_refused(&self.ask_anew(&self.caller).await) {
                tokio::time::sleep(POLL).await;
            }
        });
        assert!(waited.await.is_ok(), "not refused in {START_LIMIT:?}\n{}", self.agent_log());
    }

    pub(crate) fn tls(&self, caller: &Caller) -> ClientConfig {
        let credential = Credential { chain_pem: pem(&caller.certificate), key_pem: caller.key.to_pem() };
        let mut config = client_config(&self.roots, Some(&credential));
        config.resumption = Resumption::disabled();
        config
    }

    /// TLS that resumes, of one version.
    pub(crate) fn resuming(
        &self,
        caller: &Caller,
        version: &'static rustls::SupportedProtocolVersion,
    ) -> Arc<ClientConfig> {
        use rustls::pki_types::pem::PemObject as _;
        let mut roots = rustls::RootCertStore::empty();
        roots.add(rustls::pki_types::CertificateDer::from_pem_slice(self.roots.as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots)
            .with_client_auth_cert(
                vec![caller.certificate.clone().into()],
                rustls::pki_types::PrivateKeyDer::Pkcs8(caller.key.to_pkcs8().into()),
            );
        Arc::new(config.unwrap())
    }

    pub(crate) async fn connect(&self, config: Arc<ClientConfig>) -> std::io::Result<HttpsClient> {
        HttpsClient::connect(self.port, HOST, config).await
    }

    /// One request on a new connection.
    pub(crate) async fn ask_anew(&self, caller: &Caller) -> std::io::Result<Response> {
        self.connect(Arc::new(self.tls(caller))).await?.get("/v1/mythos", &[]).await
    }

    /// The sessions of the fleet.
    pub(crate) async fn fleet(&self) -> Vec<pb::GatewaySession> {
        use pb::enforcement_service_client::EnforcementServiceClient;
        let request = pb::ListGatewaysRequest::default();
        EnforcementServiceClient::new(self.world.alice())
            .list_gateways(request)
            .await
            .unwrap()
            .into_inner()
            .sessions
    }

    /// Revokes the caller and waits until it is enforced.
    pub(crate) async fn revoke(&self) -> pb::Enforcement {
        let scope = RevocationScope::Subject(self.subject);
        let command = Command::Revoke { scope, reason: RevocationReason::AffiliationEnded };
        self.world.restrict(command, pb::Wait::Enforced).await.unwrap()
    }
}

/// Did the proxy refuse the certificate at TLS? nginx finishes the handshake to say so in HTTP.
pub(crate) fn is_refused(answer: &std::io::Result<Response>) -> bool {
    match answer {
        Ok(response) => response.status == 400 && response.body.contains("SSL certificate error"),
        Err(error) => error.to_string().contains("CertificateRevoked"),
    }
}

impl Scene {
    /// Stops the service, has its record go on as if ordinals up to this one had been taken, and starts it again on the
    /// same port.
    pub(crate) async fn skip_ordinals(&mut self, last: Ordinal) {
        let port = self.world.running().address().port();
        self.world.close().await;
        let store = store::open(self.world.dir.path(), &Options::new(SystemEntropy.bytes16())).unwrap();
        let records = store.journal.read(Seq(1), 1_000).unwrap();
        let mut intents = records.iter().filter_map(|record| match store::entry_of(record).unwrap().event {
            Event::IssuanceIntended(intent) if intent.authority == AuthorityKind::Access => Some(intent),
            _ => None,
        });
        let intent = Intent {
            ordinal: last,
            serial: Serial::from_random(SystemEntropy.bytes16()),
            key: Digest(SystemEntropy.bytes32()),
            ..*intents.next().unwrap()
        };
        let event = Event::IssuanceIntended(Box::new(intent));
        let draft = Draft { kind: event.number(), body: to_bytes(&Entry { event, by: None, request: None }) };
        let batch = Batch {
            writer: BootId::from_bytes(SystemEntropy.bytes16()),
            nonce: 1,
            time: store.state.time,
            drafts: vec![draft],
            restricting: false,
        };
        let appended = store.journal.append(store.state.position.seq.next(), &batch);
        assert!(matches!(appended, Outcome::Done(_)), "{appended:?}");
        drop(store);
        self.world.open_at(port).await;
        assert_eq!(self.world.running().app().state().last_ordinal, last);
        self.until_permitted().await;
    }
}
