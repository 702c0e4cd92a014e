//! The certificate of an Envoy's own listener, pushed by SDS from two files of the service: to that gateway only, replaced
//! without a restart, and never by a pair that nobody could use.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use countersign::config::ListenerFiles;
use countersign::env::{Clock as _, SystemClock};
use envoy_types::pb::envoy::config::core::v3::DataSource;
use envoy_types::pb::envoy::config::core::v3::data_source::Specifier;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::secret::Type;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::{Secret, TlsCertificate};
use envoy_types::pb::envoy::service::discovery::v3::{DeltaDiscoveryResponse, DiscoveryRequest};
use envoy_types::pb::envoy::service::secret::v3::secret_discovery_service_client::SecretDiscoveryServiceClient;
use prost::Message as _;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use tokio::time::timeout;
use tonic::Code;

use crate::calls::refused;
use crate::envoy_sds::{Control, HOST, LIMIT, SAMPLE, Scene, assert_enforced};
use crate::logs;
use crate::metrics::{page, value};
use crate::sds::{ALL, Delta, LEASED};
use crate::world::{Caller, World};

const LISTENER: &str = "countersign-listener";
const STALE: &str = "countersign_listener_certificate_stale{gateway=\"gw-envoy\"}";
const ENDS: &str = "countersign_listener_certificate_expiry_timestamp_seconds{gateway=\"gw-envoy\"}";
const NACKS: &str = "countersign_listener_certificate_nacks_total{gateway=\"gw-envoy\"}";

/// A certificate that an authority of somebody else issued, and its key.
struct Pair {
    certificate: String,
    key: String,
}

impl Pair {
    fn new() -> Self {
        Self::of(&rcgen::PKCS_ECDSA_P256_SHA256, 2_049)
    }

    fn of(algorithm: &'static rcgen::SignatureAlgorithm, last_year: i32) -> Self {
        let key = rcgen::KeyPair::generate_for(algorithm).unwrap();
        let mut params = rcgen::CertificateParams::new(vec![HOST.to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(2_000, 1, 1);
        params.not_after = rcgen::date_time_ymd(last_year, 1, 1);
        Self { certificate: params.self_signed(&key).unwrap().pem(), key: key.serialize_pem() }
    }

    fn der(&self) -> Vec<u8> {
        CertificateDer::from_pem_slice(self.certificate.as_bytes()).unwrap().to_vec()
    }

    /// Puts both files in their places, as `mv` does.
    fn put(&self, dir: &Path) {
        for (name, text) in [("listener.pem", &self.certificate), ("listener.key", &self.key)] {
            put(dir, name, text, 0o600);
        }
    }
}

fn put(dir: &Path, name: &str, text: &str, mode: u32) {
    let new = dir.join(format!("{name}.new"));
    std::fs::write(&new, text).unwrap();
    std::fs::set_permissions(&new, Permissions::from_mode(mode)).unwrap();
    std::fs::rename(&new, dir.join(name)).unwrap();
}

/// The service, told where the pair of this gateway's listener is and where Prometheus reads.
async fn serve(world: &mut World, gateway: &str) {
    world.close().await;
    let dir = world.dir.path();
    let files = ListenerFiles { chain: dir.join("listener.pem"), key: dir.join("listener.key") };
    world.settings.listeners.insert(gateway.parse().unwrap(), files);
    world.settings.metrics = "127.0.0.1:0".parse().ok();
    world.open().await;
}

/// The sample with the lines that are commented out in the place of those that they replace.
fn pushed_sample() -> String {
    let files = SAMPLE.find("            tls_certificates:\n            - certificate_chain").unwrap();
    let (before, after) = SAMPLE.split_at(files);
    let after: Vec<&str> = after.lines().skip(3).collect();
    // Its head explains the two files.
    let lines = before.lines().filter(|line| !line.starts_with("#   @SERVER_")).chain(after);
    let sample: Vec<String> = lines.map(|line| line.replacen("#: ", "", 1)).collect();
    sample.join("\n")
}

/// What a new handshake shows.
async fn shown(scene: &Scene, caller: &Caller) -> Option<Vec<u8>> {
    scene.knock(caller).await.ok()?.server_certificate()
}

async fn until_shown(scene: &Scene, caller: &Caller, pair: &Pair) {
    let reached = async {
        while shown(scene, caller).await != Some(pair.der()) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(LIMIT, reached).await.expect("a new handshake shows the new certificate");
}

async fn until_metric(world: &World, sample: &str, wanted: f64) {
    let reached = async {
        while value(&page(world).await, sample) != wanted {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(LIMIT, reached).await.unwrap_or_else(|_| panic!("{sample} is never {wanted}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_gets_its_certificate_by_push_and_a_bad_pair_replaces_nothing() {
    let (mut world, entity) = Scene::world().await;
    let gateway = world.gateway("gw-envoy").await;
    let (first, second, third) = (Pair::new(), Pair::new(), Pair::new());
    first.put(world.dir.path());
    serve(&mut world, "gw-envoy").await;
    let control = Control::of(&world);
    let mut scene = Scene::with((world, entity), &gateway, &control, &pushed_sample()).await;
    scene.roots = [&first, &second, &third].map(|pair| pair.certificate.as_str()).concat();
    let dir = scene.world.dir.path().to_owned();
    let (subject, caller) = scene.employee().await;
    assert_eq!(scene.status(&caller).await, Some(200), "{}", scene.envoy.log());
    assert_eq!(shown(&scene, &caller).await, Some(first.der()));
    // Its stream for that is no session, and no barrier waits for it.
    assert_eq!(scene.rows().await.len(), 1);
    let metrics = page(&scene.world).await;
    assert_eq!((value(&metrics, STALE), value(&metrics, NACKS)), (0.0, 0.0));
    assert!(value(&metrics, ENDS) > 0.0);

    let mut open = scene.knock(&caller).await.unwrap();
    let put_at = SystemClock.boot_ms();
    second.put(&dir);
    until_shown(&scene, &caller, &second).await;
    println!("shown {} ms after the files were replaced", SystemClock.boot_ms() - put_at);
    assert_eq!(scene.status(&caller).await, Some(200), "{}", scene.envoy.log());
    assert_eq!(open.get("/v1/mythos", &[]).await.unwrap().status, 200, "who is connected stays so");

    // A pair that no server could use, each in its own way: the one before stays, and that is said.
    let expired = Pair::of(&rcgen::PKCS_ECDSA_P256_SHA256, 2_010);
    for (chain, key, mode) in [
        (third.certificate.as_str(), second.key.as_str(), 0o600),
        ("garbage", third.key.as_str(), 0o600),
        (third.certificate.as_str(), "garbage", 0o600),
        (expired.certificate.as_str(), expired.key.as_str(), 0o600),
        (third.certificate.as_str(), third.key.as_str(), 0o644),
    ] {
        put(&dir, "listener.pem", chain, 0o600);
        put(&dir, "listener.key", key, mode);
        until_metric(&scene.world, STALE, 1.0).await;
        assert_eq!(shown(&scene, &caller).await, Some(second.der()));
        second.put(&dir);
        until_metric(&scene.world, STALE, 0.0).await;
    }
    std::fs::remove_file(dir.join("listener.key")).unwrap();
    until_metric(&scene.world, STALE, 1.0).await;
    third.put(&dir);
    until_shown(&scene, &caller, &third).await;
    until_metric(&scene.world, STALE, 0.0).await;
    assert_enforced(&scene.revoke(subject).await);
    assert_eq!(scene.status(&caller).await, None);

    // What the service can use and this Envoy cannot is refused by Envoy: shown, and the one before stays.
    let (_, other) = scene.employee().await;
    Pair::of(&rcgen::PKCS_ED25519, 2_049).put(&dir);
    until_metric(&scene.world, NACKS, 1.0).await;
    assert_eq!(shown(&scene, &other).await, Some(third.der()), "{}", scene.envoy.log());
    assert_eq!(scene.status(&other).await, Some(200));
    assert!(scene.rows().await.iter().all(|row| row.last_nack.is_empty()), "no set was refused");
}

fn certificate(response: &DeltaDiscoveryResponse) -> (String, String) {
    let any = response.resources[0].resource.as_ref().unwrap();
    let secret = Secret::decode(any.value.as_slice()).unwrap();
    let Some(Type::TlsCertificate(TlsCertificate { certificate_chain, private_key, .. })) = secret.r#type
    else {
        panic!("{} is no certificate", secret.name)
    };
    let text = |source: Option<DataSource>| match source.and_then(|source| source.specifier) {
        Some(Specifier::InlineBytes(bytes)) => String::from_utf8(bytes).unwrap(),
        _ => panic!("not inline"),
    };
    (text(certificate_chain), text(private_key))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_certificate_of_a_listener_is_for_its_gateway_alone() {
    logs::keep();
    let mut world = World::start().await;
    let (gateway, other) = (world.gateway("gw-nosy").await, world.gateway("gw-other").await);
    let (pair, of_nosy) = (Pair::new(), |sample: &str| sample.replace("gw-envoy", "gw-nosy"));
    // A service starts without the files, and pushes nothing until they are there.
    serve(&mut world, "gw-nosy").await;
    let mut stream = Delta::open(&world, &gateway, &[], &[LISTENER]).await.unwrap();
    assert!(stream.is_quiet().await);
    let metrics = page(&world).await;
    assert_eq!((value(&metrics, &of_nosy(STALE)), value(&metrics, &of_nosy(ENDS))), (1.0, 0.0));
    assert!(world.row("gw-nosy", |row| !row.connected).await.adapter.is_empty(), "no session");
    pair.put(world.dir.path());
    let response = stream.next().await;
    assert_eq!(certificate(&response), (pair.certificate.clone(), pair.key.clone()));
    stream.answer(&response, None).await;
    // Another gateway is told what it is told of a name that there is not.
    let mut stranger = Delta::open(&world, &other, &[], &[LISTENER, "no-such-secret"]).await.unwrap();
    let nothing = stranger.next().await;
    assert!(nothing.resources.is_empty());
    assert_eq!(nothing.removed_resources, [LISTENER, "no-such-secret"]);
    stranger.answer(&nothing, None).await;
    assert!(stranger.is_quiet().await && stream.is_quiet().await);
    for caller in [&gateway, &other] {
        let mut client = SecretDiscoveryServiceClient::new(world.connect_as(caller).await);
        let names = vec![LISTENER.to_owned()];
        let fetched =
            client.fetch_secrets(DiscoveryRequest { resource_names: names, ..Default::default() }).await;
        refused(fetched, Code::NotFound, "no such secret");
    }

    // One stream may ask for both: each comes in a response of its own, and a refused certificate is no refused set.
    let mut both = Delta::open(&world, &gateway, ALL, &[LISTENER, LEASED]).await.unwrap();
    let (set, pushed) = (both.next().await, both.next().await);
    assert_eq!((set.resources.len(), pushed.resources.len()), (1, 1));
    assert_eq!((set.resources[0].name.as_str(), pushed.resources[0].name.as_str()), (LEASED, LISTENER));
    // An Envoy quotes what it cannot read.
    both.answer(&pushed, Some(&format!("no: {}", pair.key.lines().nth(1).unwrap()))).await;
    world.row("gw-nosy", |row| row.connected && row.last_nack.is_empty()).await;
    until_metric(&world, &of_nosy(NACKS), 1.0).await;
    let line = logs::line_with(&["refused by the gateway", "gw-nosy", "code 13"]);
    assert!(!line.contains("no: "), "{line}");
    let mut again = Delta::open(&world, &gateway, ALL, &[LEASED]).await.unwrap();
    let set = again.next().await;
    again.answer(&set, None).await;
    world.row("gw-nosy", |row| row.applied_seq > 0 && row.last_nack.is_empty()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_for_a_listener_alone_are_bounded() {
    let mut world = World::start().await;
    let gateway = world.gateway("gw-envoy").await;
    Pair::new().put(world.dir.path());
    serve(&mut world, "gw-envoy").await;
    let channel = world.connect_as(&gateway).await;
    let mut streams = Vec::new();
    for _ in 0..64 {
        streams.push(Delta::open_on(channel.clone(), &[], &[LISTENER]).await.unwrap());
    }
    let one_more = Delta::open_on(channel.clone(), &[], &[LISTENER]).await;
    refused(one_more.map(drop), Code::ResourceExhausted, "too many streams");
    // A session has its own bound, and who leaves makes room.
    Delta::open_on(channel.clone(), ALL, &[LEASED]).await.unwrap();
    streams.pop();
    let room = async {
        while Delta::open_on(channel.clone(), &[], &[LISTENER]).await.is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(LIMIT, room).await.expect("room for one more");
}
