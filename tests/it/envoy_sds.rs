//! The real, unmodified Envoy, pushed what its handshakes are checked with: the sample in deploy/envoy/sds.yaml in front of
//! a model.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use countersign::domain::algorithm::AlgorithmProfile;
use countersign::domain::command::Command;
use countersign::domain::id::{EntityId, SubjectId};
use countersign::domain::person::EvidenceKind;
use countersign::domain::revocation::{RevocationReason, RevocationScope, StopScope};
use countersign::env::{Clock, SystemClock};
use countersign::pb;
use countersign::pb::enforcement_service_client::EnforcementServiceClient;
use countersign::x509::Curve;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;

use crate::envoy::{Credential, Envoy, HttpsClient, Upstream, client_config};
use crate::world::{Caller, World};

pub(crate) const SAMPLE: &str = include_str!("../../deploy/envoy/sds.yaml");
pub(crate) const HOST: &str = "gateway.test.example";
/// How long something may take that takes milliseconds on a machine that does nothing else.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);
/// The lease of a test's genesis.
pub(crate) const LEASE: Duration = Duration::from_secs(10);
/// Connections that are begun after the acknowledgement, at least.
const ATTEMPTS: usize = 40;

/// Lets the clock of a world go as the machine's goes, because Envoy has no other.
struct Ticking(JoinHandle<()>);

impl Ticking {
    fn of(world: &World) -> Self {
        let clock = Arc::clone(&world.clock);
        Self(tokio::spawn(async move {
            loop {
                let behind_ms = SystemClock.now().millis() - clock.now().millis();
                clock.advance_ms(u32::try_from(behind_ms).unwrap_or_default());
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }))
    }
}

impl Drop for Ticking {
    fn drop(&mut self) {
        self.0.abort();
    }
}

pub(crate) struct Scene {
    pub(crate) world: World,
    pub(crate) entity: EntityId,
    upstream: Upstream,
    pub(crate) envoy: Envoy,
    pub(crate) roots: String,
    dir: tempfile::TempDir,
    _ticking: Ticking,
}

/// Which service an Envoy asks.
pub(crate) struct Control {
    pub(crate) system_pem: String,
    pub(crate) port: u16,
}

impl Control {
    pub(crate) fn of(world: &World) -> Self {
        Self { system_pem: world.system_pem(), port: world.running().address().port() }
    }
}

pub(crate) fn write(dir: &Path, name: &str, text: &str) -> String {
    let path = dir.join(name);
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

pub(crate) fn pem(der: &[u8]) -> String {
    countersign::x509::bundle::certificate_pem(der)
}

pub(crate) fn credential(caller: &Caller) -> Credential {
    Credential { chain_pem: pem(&caller.certificate), key_pem: caller.key.to_pem() }
}

impl Scene {
    async fn start(sample: &str) -> Self {
        Self::start_under(AlgorithmProfile::Standard, sample).await
    }

    /// The same of a service under this profile of algorithms.
    pub(crate) async fn start_under(algorithms: AlgorithmProfile, sample: &str) -> Self {
        let (world, entity) = Self::world_under(algorithms).await;
        let gateway = world.gateway("gw-envoy").await;
        let control = Control::of(&world);
        Self::with((world, entity), &gateway, &control, sample).await
    }

    /// A service with a partner, whose clock is the machine's.
    pub(crate) async fn world() -> (World, EntityId) {
        Self::world_under(AlgorithmProfile::Standard).await
    }

    async fn world_under(algorithms: AlgorithmProfile) -> (World, EntityId) {
        // Making a partner moves the clock by two seconds.
        let world = World::start_under(algorithms, SystemClock.now().plus_ms(-2_000)).await;
        let entity = world.partner().await;
        (world, entity)
    }

    /// An Envoy with this configuration in front of a model, which asks this service.
    pub(crate) async fn with(
        (world, entity): (World, EntityId),
        gateway: &Caller,
        control: &Control,
        sample: &str,
    ) -> Self {
        let ticking = Ticking::of(&world);
        let upstream = Upstream::start().await;
        let algorithm = match world.curve {
            Curve::P256 => &rcgen::PKCS_ECDSA_P256_SHA256,
            Curve::P384 => &rcgen::PKCS_ECDSA_P384_SHA384,
        };
        let key = rcgen::KeyPair::generate_for(algorithm).unwrap();
        let listener = rcgen::CertificateParams::new(vec![HOST.to_owned()]).unwrap();
        let listener = listener.self_signed(&key).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let put = |name: &str, text: &str| write(dir.path(), name, text);
        let values = [
            ("GATEWAY_ID", "envoy-1".to_owned()),
            ("SYSTEM_BUNDLE", put("system.pem", &control.system_pem)),
            ("SERVER_CERT", put("listener.pem", &listener.pem())),
            ("SERVER_KEY", put("listener.key", &key.serialize_pem())),
            ("GATEWAY_CERT", put("gateway.pem", &pem(&gateway.certificate))),
            ("GATEWAY_KEY", put("gateway.key", &gateway.key.to_pem())),
            ("CONTROL_HOST", "127.0.0.1".to_owned()),
            ("CONTROL_PORT", control.port.to_string()),
            ("CONTROL_NAME", "localhost".to_owned()),
            ("UPSTREAM_PORT", upstream.port().to_string()),
        ];
        let values: Vec<(&str, &str)> = values
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            // A certificate that is pushed has no files here.
            .filter(|(name, _)| !name.starts_with("SERVER_") || sample.contains(&format!("@{name}@")))
            .collect();
        let envoy = Envoy::start(sample, &values).await;
        Self { world, entity, upstream, envoy, roots: listener.pem(), dir, _ticking: ticking }
    }

    pub(crate) async fn employee(&self) -> (SubjectId, Caller) {
        let subject = self.world.person(self.entity, "EMPLOYEE", EvidenceKind::NoUsStatus).await;
        (subject, self.world.enroll(subject).await)
    }

    pub(crate) fn knock(
        &self,
        caller: &Caller,
    ) -> impl Future<Output = std::io::Result<HttpsClient>> + Send + 'static {
        self.knock_with(credential(caller))
    }

    fn knock_with(
        &self,
        credential: Credential,
    ) -> impl Future<Output = std::io::Result<HttpsClient>> + Send + 'static {
        let config = Arc::new(client_config(&self.roots, Some(&credential)));
        let port = self.envoy.port();
        async move { HttpsClient::connect(port, HOST, config).await }
    }

    /// The status of a first request on a new connection; none: the handshake was refused.
    pub(crate) async fn status(&self, caller: &Caller) -> Option<u16> {
        self.status_of(credential(caller)).await
    }

    /// The same of whoever shows this chain.
    pub(crate) async fn status_of(&self, shown: Credential) -> Option<u16> {
        self.knock_with(shown).await.ok()?.get("/v1/mythos", &[]).await.ok().map(|response| response.status)
    }

    /// Waits until new connections get this.
    pub(crate) async fn until(&self, caller: &Caller, wanted: Option<u16>) {
        let reached = async {
            while self.status(caller).await != wanted {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(LIMIT, reached).await.unwrap_or_else(|_| panic!("never {wanted:?}"));
    }

    pub(crate) async fn revoke(&self, subject: SubjectId) -> pb::Enforcement {
        let scope = RevocationScope::Subject(subject);
        let command = Command::Revoke { scope, reason: RevocationReason::AffiliationEnded };
        self.world.restrict(command, pb::Wait::Enforced).await.unwrap()
    }

    pub(crate) async fn rows(&self) -> Vec<pb::GatewaySession> {
        let mut client = EnforcementServiceClient::new(self.world.alice());
        let list = client.list_gateways(pb::ListGatewaysRequest::default()).await.unwrap();
        list.into_inner().sessions
    }
}

pub(crate) fn assert_enforced(report: &pb::Enforcement) {
    assert_eq!(report.status, i32::from(pb::EnforcementStatus::Enforced), "{report:?}");
    assert!(report.acked.contains(&"gw-envoy".to_owned()), "{report:?}");
}

/// What the sample does, with either variant of the protocol and under either profile.
pub(crate) async fn a_revoked_client_is_refused(scene: &Scene) {
    let (subject, caller) = scene.employee().await;
    let (_, other) = scene.employee().await;
    let mut open = scene.knock(&caller).await.unwrap();
    let first = open.get("/v1/mythos", &[]).await.unwrap();
    assert_eq!((first.status, first.body.as_str()), (200, "model"), "{}", scene.envoy.log());
    assert_eq!(scene.status(&other).await, Some(200));
    let rows = scene.rows().await;
    let [row] = rows.as_slice() else { panic!("{rows:?}") };
    assert!(row.connected && !row.weak && row.lease_left_ms > 0, "{row:?}");
    assert_eq!((row.adapter.as_str(), row.agent.starts_with("envoy/1.")), ("sds", true), "{row:?}");

    // Four clients try without a pause; what each connection got, and when it was begun.
    let done = Arc::new(AtomicBool::new(false));
    let mut knocking = JoinSet::new();
    for _ in 0..4 {
        let (done, config, port) = (
            Arc::clone(&done),
            Arc::new(client_config(&scene.roots, Some(&credential(&caller)))),
            scene.envoy.port(),
        );
        knocking.spawn(async move {
            let mut tries = Vec::new();
            while !done.load(Ordering::SeqCst) {
                let begun = SystemClock.boot_ms();
                let answer = async {
                    HttpsClient::connect(port, HOST, Arc::clone(&config)).await?.get("/v1/mythos", &[]).await
                };
                tries.push((begun, answer.await.is_ok()));
            }
            tries
        });
    }
    let report = scene.revoke(subject).await;
    let enforced = SystemClock.boot_ms();
    assert_enforced(&report);
    assert!(Duration::from_millis(report.took_ms) < LEASE / 2, "by its acknowledgement: {report:?}");
    tokio::time::sleep(Duration::from_secs(1)).await;
    done.store(true, Ordering::SeqCst);
    let tries: Vec<_> = knocking.join_all().await.into_iter().flatten().collect();
    let after: Vec<_> = tries.iter().filter(|(begun, _)| *begun > enforced).collect();
    assert!(after.len() >= ATTEMPTS, "{} connections", after.len());
    assert!(tries.iter().any(|(begun, is_in)| *begun < enforced && *is_in), "before it some were let in");
    let let_in = after.iter().filter(|(_, is_in)| *is_in).count();
    assert_eq!(let_in, 0, "of {} connections begun after the acknowledgement", after.len());
    println!(
        "{} connections after the acknowledgement, {let_in} let in; took {} ms",
        after.len(),
        report.took_ms
    );

    // The connection that was open is stopped at its next request, and nobody else is touched.
    let stopped = open.get("/v1/mythos", &[]).await.unwrap();
    assert_eq!((stopped.status, stopped.header("x-countersign-code")), (403, Some("CREDENTIAL_REVOKED")));
    assert_eq!(scene.status(&other).await, Some(200));
    assert!(scene.upstream.seen().len() >= 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn after_the_acknowledgement_no_connection_of_a_revoked_client_is_let_in() {
    a_revoked_client_is_refused(&Scene::start(SAMPLE).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_older_variant_of_the_protocol_does_the_same() {
    a_revoked_client_is_refused(&Scene::start(&SAMPLE.replace("DELTA_GRPC", "GRPC")).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_service_no_connection_is_let_in_after_the_lease_until_it_is_back() {
    let mut scene = Scene::start(SAMPLE).await;
    let (_, caller) = scene.employee().await;
    assert_eq!(scene.status(&caller).await, Some(200), "{}", scene.envoy.log());
    let port = scene.world.running().address().port();
    scene.world.close().await;
    let gone = SystemClock.boot_ms();
    // The handshake still succeeds, and nothing is permitted.
    assert_eq!(scene.status(&caller).await, Some(503));
    scene.until(&caller, None).await;
    let closed = Duration::from_millis(SystemClock.boot_ms() - gone);
    assert!(closed <= LEASE, "{closed:?} after the service was gone");
    println!("closed {closed:?} after the service was gone");
    scene.world.open_at(port).await;
    scene.until(&caller, Some(200)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_stop_of_everything_nobody_is_let_in_until_it_is_released() {
    let scene = Scene::start(SAMPLE).await;
    let (_, caller) = scene.employee().await;
    assert_eq!(scene.status(&caller).await, Some(200), "{}", scene.envoy.log());
    let stop = StopScope::All;
    let command = Command::Stop { scope: stop.clone(), reason: RevocationReason::GovernmentOrder };
    let report = scene.world.restrict(command, pb::Wait::Enforced).await.unwrap();
    assert_enforced(&report);
    assert_eq!(scene.status(&caller).await, None, "the list of a closed set has ended");
    assert!(scene.rows().await.iter().all(|row| row.last_nack.is_empty()), "{}", scene.envoy.log());
    scene.world.enact(Command::ReleaseStop(stop)).await.unwrap();
    scene.until(&caller, Some(200)).await;
}

/// A request through openssl's own client, which keeps its session in a file. What it printed.
async fn s_client(scene: &Scene, caller: &Caller, version: &'static str, session: &'static str) -> String {
    let put = |name: &str, text: &str| write(scene.dir.path(), name, text);
    let (certificate, key) =
        (put("client.pem", &pem(&caller.certificate)), put("client.key", &caller.key.to_pem()));
    let file = scene.dir.path().join("session").to_str().unwrap().to_owned();
    let address = format!("127.0.0.1:{}", scene.envoy.port());
    let printed = tokio::task::spawn_blocking(move || {
        let arguments = [
            "s_client",
            "-connect",
            &address,
            "-servername",
            HOST,
            version,
            "-cert",
            &certificate,
            "-key",
            &key,
            session,
            &file,
            "-ign_eof",
        ];
        let request = format!("GET /v1/mythos HTTP/1.1\r\nhost: {HOST}\r\nconnection: close\r\n\r\n");
        let (_, out, error) = crate::calls::openssl(&arguments, request.as_bytes());
        format!("{}{error}", String::from_utf8_lossy(&out))
    });
    timeout(LIMIT, printed).await.expect("openssl ends").unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_not_resumed_after_the_push_also_where_resumption_is_on() {
    // What the sample turns off is turned on, to see what the push alone does.
    let sample = SAMPLE.replace("session_resumption: true", "session_resumption: false").replacen(
        "tls_minimum_protocol_version: TLSv1_3",
        "tls_minimum_protocol_version: TLSv1_2",
        1,
    );
    let scene = Scene::start(&sample).await;
    for version in ["-tls1_2", "-tls1_3"] {
        let (subject, caller) = scene.employee().await;
        let first = s_client(&scene, &caller, version, "-sess_out").await;
        assert!(first.contains("HTTP/1.1 200") && first.contains("New, TLS"), "{first}");
        let resumed = s_client(&scene, &caller, version, "-sess_in").await;
        assert!(resumed.contains("HTTP/1.1 200") && resumed.contains("Reused, TLS"), "{resumed}");
        assert_enforced(&scene.revoke(subject).await);
        let refused = s_client(&scene, &caller, version, "-sess_in").await;
        assert!(!refused.contains("HTTP/1.1"), "{refused}");
        assert!(refused.contains("revoked"), "{refused}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_is_not_asked_at_each_request_is_weak() {
    let sample = SAMPLE.replace("per_request: true", "per_request: false");
    let scene = Scene::start(&sample).await;
    let (subject, caller) = scene.employee().await;
    assert_eq!(scene.status(&caller).await, Some(200), "{}", scene.envoy.log());
    let report = scene.revoke(subject).await;
    assert_eq!(report.weak, ["gw-envoy"], "{report:?}");
    assert_eq!(report.status, i32::from(pb::EnforcementStatus::Partial));
    assert_eq!(scene.status(&caller).await, None, "it refuses new connections all the same");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_block_keeps_no_live_client_out() {
    let scene = Scene::start(SAMPLE).await;
    scene.world.take_ordinals(scene.entity, 9_998).await;
    let mut clients = Vec::new();
    for expected in 9_998..=10_002 {
        let (subject, caller) = scene.employee().await;
        assert_eq!(scene.world.read(&caller.certificate).ordinal.0, expected);
        clients.push((subject, caller));
        for (_, caller) in &clients {
            assert_eq!(scene.status(caller).await, Some(200), "{expected}: {}", scene.envoy.log());
        }
    }
    for place in [1, 2, 3] {
        assert_enforced(&scene.revoke(clients[place].0).await);
    }
    for (place, (_, caller)) in clients.iter().enumerate() {
        let expected = if (1..=3).contains(&place) { None } else { Some(200) };
        assert_eq!(scene.status(caller).await, expected, "{place}");
    }
}
