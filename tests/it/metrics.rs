//! The page that Prometheus reads: every documented metric is on it and nothing else, and what happens moves it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use countersign::config::ListenerFiles;
use countersign::domain::command::Command;
use countersign::domain::id::PrincipalId;
use countersign::domain::person::EvidenceKind;
use countersign::domain::revocation::{RevocationReason, RevocationScope, StopScope};
use countersign::pb;
use countersign::pb::attestation_service_client::AttestationServiceClient;
use countersign::pb::provisioning_service_client::ProvisioningServiceClient;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tonic::Code;

use crate::calls::{denied, refused};
use crate::cli::root;
use crate::gate::{self, STRONG};
use crate::world::World;

/// The page is small and near.
const LIMIT: Duration = Duration::from_secs(30);
/// Calls that left no line in the audit.
const DROPPED: &str = "countersign_audit_dropped_calls_total";

async fn world() -> World {
    let mut world = World::start().await;
    world.close().await;
    world.settings.metrics = "127.0.0.1:0".parse().ok();
    // No such files: the gateway is named all the same.
    let files = ListenerFiles { chain: "no-chain.pem".into(), key: "no-key.pem".into() };
    world.settings.listeners.insert("gw-1".parse().unwrap(), files);
    world.open().await;
    world
}

/// The head and the body of an answer of plain HTTP.
async fn http(address: SocketAddr, request_line: &str) -> (String, String) {
    let answer = async {
        let mut socket = TcpStream::connect(address).await.unwrap();
        let request = format!("{request_line} HTTP/1.1\r\nhost: metrics\r\nconnection: close\r\n\r\n");
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await.unwrap();
        answer
    };
    let answer = tokio::time::timeout(LIMIT, answer).await.expect("an answer");
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_owned(), body.to_owned())
}

pub(crate) async fn page(world: &World) -> String {
    let (head, body) = http(world.running().metrics().unwrap(), "GET /metrics").await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert!(head.contains("content-type: application/openmetrics-text; version=1.0.0"), "{head}");
    assert!(body.ends_with("# EOF\n"), "{body}");
    body
}

/// The value of a sample, by its name with labels.
#[track_caller]
pub(crate) fn value(page: &str, sample: &str) -> f64 {
    let line = page.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("{sample} is not on the page: {page}")).parse().unwrap()
}

/// The names of a page as people write them, with the type of each.
fn exported(page: &str) -> BTreeMap<String, String> {
    let types = page.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    let name = |(name, kind): (&str, &str)| {
        let total = if kind == "counter" { "_total" } else { "" };
        (format!("{name}{total}"), kind.to_owned())
    };
    types.map(name).collect()
}

/// The names in the table of the document.
fn documented() -> BTreeMap<String, String> {
    let text = std::fs::read_to_string(root("docs/metrics.md")).unwrap();
    let rows = text.lines().filter_map(|line| line.strip_prefix("| `"));
    rows.map(|row| {
        let (name, rest) = row.split_once("` | ").unwrap();
        (name.to_owned(), rest.split_once(" | ").unwrap().0.to_owned())
    })
    .collect()
}

/// Officers trust a root.
async fn trust_a_root(world: &World) {
    use countersign::ca::root::{RootIssuer, new_root};
    use countersign::ca::{FileSigner, ListOrder, SignatureAlgorithm, backdated};
    use countersign::domain::certificate::Serial;
    use countersign::domain::id::RootId;
    use countersign::domain::time::Timestamp;
    use countersign::env::Clock as _;
    use countersign::x509::{CrlNumber, Curve, root_row};
    let (folder, now) = (tempfile::tempdir().unwrap(), world.clock.now());
    let until = Timestamp::from_millis(now.plus_ms(1_000 * 86_400_000).seconds() * 1_000);
    let key = folder.path().join("root.pem");
    let signer = FileSigner::create(&key, SignatureAlgorithm::Ecdsa(Curve::P384)).unwrap();
    let name = (RootId::from_parts(now, [1; 16]), Serial::from_random([1; 16]));
    let root = new_root(&signer, name, until, now).unwrap();
    let order = ListOrder {
        address: None,
        number: CrlNumber::counted(1),
        this_update: backdated(now),
        next_update: Timestamp::from_millis(now.plus_ms(400 * 86_400_000).seconds() * 1_000),
        entries: Vec::new(),
    };
    let list = RootIssuer::new(root.clone(), &signer).unwrap().sign_list(order).unwrap();
    let row = root_row::root(root.certificate().der(), &list.der).unwrap();
    world.enact(Command::TrustRoot(row)).await.unwrap();
}

/// One of everything that is counted.
async fn something_of_all(world: &World) -> countersign::client::Gate {
    trust_a_root(world).await;
    let entity = world.partner().await;
    let subject = world.person(entity, "EMPLOYEE", EvidenceKind::NoUsStatus).await;
    let leaf = world.enroll(subject).await.certificate;
    let caller = world.gateway("gw-1").await;
    let address = world.running().address();
    let gate = gate::connect(world, (&caller, address), STRONG, &world.clock).await;
    crate::reports::client(world, &caller).await.report_decisions(crate::reports::good()).await.unwrap();
    assert!(world.mythos(&leaf).await.permit);
    let scope = RevocationScope::Subject(subject);
    let revoke = Command::Revoke { scope, reason: RevocationReason::Drill };
    let done = world.restrict(revoke, pb::Wait::Enforced).await.unwrap();
    assert_eq!(done.status(), pb::EnforcementStatus::Enforced);
    denied(&world.mythos(&leaf).await, "CREDENTIAL_REVOKED");
    let request = pb::EnrollRequest { token: "nobody's".to_owned(), csr: Default::default() };
    let enrolled = AttestationServiceClient::new(world.connect(None).await).enroll(request).await;
    refused(enrolled, Code::NotFound, "token");
    gate
}

#[tokio::test(flavor = "multi_thread")]
async fn every_documented_metric_is_exported_and_every_exported_one_documented() {
    let world = world().await;
    let _gate = something_of_all(&world).await;
    let page = page(&world).await;
    assert_eq!(exported(&page), documented());
    assert!(!page.contains("ent_") && !page.contains("sub_") && !page.contains("alice"), "{page}");
    assert!(page.lines().all(|line| !line.contains("_total_total")), "{page}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_happens_moves_its_metric() {
    let world = world().await;
    let before = page(&world).await;
    assert_eq!(value(&before, "countersign_barrier_duration_seconds_count{outcome=\"ENFORCED\"}"), 0.0);
    assert_eq!(value(&before, "countersign_certificates_issued_total{authority=\"ACCESS\"}"), 0.0);
    let _gate = something_of_all(&world).await;
    let page = page(&world).await;
    for (sample, expected) in [
        ("countersign_barrier_duration_seconds_count{outcome=\"ENFORCED\"}", 1.0),
        ("countersign_barrier_duration_seconds_count{outcome=\"PARTIAL\"}", 0.0),
        ("countersign_certificates_issued_total{authority=\"ACCESS\"}", 1.0),
        ("countersign_certificates_refused_total{reason=\"NOT_FOUND\"}", 1.0),
        ("countersign_restrictions_total{command=\"REVOKE\",scope=\"SUBJECT\"}", 1.0),
        ("countersign_decisions_total{access=\"PERMIT\",code=\"EXEMPT_ANNEX_A_FN_EMPLOYEE\"}", 1.0),
        ("countersign_decisions_total{access=\"DENY\",code=\"CREDENTIAL_REVOKED\"}", 1.0),
        ("countersign_rpcs_total{method=\"/countersign.v1.AttestationService/Evaluate\",code=\"OK\"}", 2.0),
        ("countersign_rpcs_total{method=\"/countersign.v1.AttestationService/Enroll\",code=\"OK\"}", 1.0),
        (
            "countersign_rpcs_total{method=\"/countersign.v1.AttestationService/Enroll\",code=\"NOT_FOUND\"}",
            1.0,
        ),
        ("countersign_rpc_duration_seconds_count{method=\"/countersign.v1.RevocationService/Revoke\"}", 1.0),
        ("countersign_feed_sessions_opened_total", 1.0),
        ("countersign_feed_sessions_connected", 1.0),
        ("countersign_feed_sessions_leased", 1.0),
        ("countersign_feed_sessions_weak", 0.0),
        ("countersign_gateway_sessions{gateway=\"gw-1\"}", 1.0),
        ("countersign_fault{fault=\"CLOCK_UNTRUSTED\"}", 0.0),
        ("countersign_journal_append_failures_total{reason=\"NO_SPACE\"}", 0.0),
    ] {
        assert_eq!(value(&page, sample), expected, "{sample}");
    }
    let state = world.running().app().state();
    assert!(value(&page, "countersign_journal_head_seq") <= state.position.seq.0 as f64);
    assert!(value(&page, "countersign_journal_head_seq") > value(&before, "countersign_journal_head_seq"));
    let appends = value(&page, "countersign_journal_append_duration_seconds_count");
    assert!(appends > value(&before, "countersign_journal_append_duration_seconds_count"));
    assert!(value(&page, "countersign_gateway_lease_left_seconds{gateway=\"gw-1\"}") > 0.0);
    assert!(value(&page, "countersign_journal_disk_free_bytes") > 0.0);
    let ends = |name: &str| {
        let name: PrincipalId = name.parse().unwrap();
        state.system_certificates[&name].not_after.seconds() as f64
    };
    let (of_server, of_gateway) = (
        value(&page, "countersign_server_certificate_expiry_timestamp_seconds"),
        value(&page, "countersign_gateway_certificate_expiry_timestamp_seconds{gateway=\"gw-1\"}"),
    );
    assert_eq!((of_server, of_gateway), (ends("server"), ends("gw-1")));
    assert_eq!(value(&page, "countersign_journal_low_water_bytes"), world.settings.low_water as f64);
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_refusals_and_a_stop_that_is_not_enforced_are_seen() {
    let world = world().await;
    let caller = world.gateway("gw-1").await;
    let address = world.running().address();
    drop(gate::connect(&world, (&caller, address), STRONG, &world.clock).await);
    let mandate = world
        .mandate(&Command::Stop { scope: StopScope::All, reason: RevocationReason::Drill })
        .await
        .unwrap();
    let approvals = vec![world.alice.approve(&mandate)];
    let request = pb::StopRequest {
        mandate: Some(pb::SignedMandate { mandate: mandate.into(), approvals }),
        wait: pb::Wait::Enforced.into(),
        deadline_ms: 1,
        ..Default::default()
    };
    let mut client = pb::revocation_service_client::RevocationServiceClient::new(world.alice());
    let stop = tokio::spawn(async move { client.stop(request).await });
    while !stop.is_finished() {
        world.clock.advance_ms(1);
        world.running().app().feed().tick();
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    stop.await.unwrap().unwrap();
    // A wall clock that stepped back is not believed.
    let back = countersign::env::Clock::now(world.clock.as_ref()).plus_ms(-60_000);
    world.clock.set_wall(back);
    let stranger = world.connect(None).await;
    let list = pb::ListGatewaysRequest::default();
    let mut stranger = pb::enforcement_service_client::EnforcementServiceClient::new(stranger);
    assert!(stranger.list_gateways(list).await.is_err());
    let page = page(&world).await;
    for (sample, expected) in [
        ("countersign_barrier_duration_seconds_count{outcome=\"PARTIAL\"}", 1.0),
        ("countersign_restrictions_total{command=\"STOP\",scope=\"ALL\"}", 1.0),
        ("countersign_fault{fault=\"CLOCK_UNTRUSTED\"}", 1.0),
        ("countersign_fault{fault=\"JOURNAL_CLOSED\"}", 0.0),
        ("countersign_gateway_sessions{gateway=\"gw-1\"}", 0.0),
        (
            "countersign_rpcs_total{method=\"/countersign.v1.EnforcementService/ListGateways\",code=\"UNAUTHENTICATED\"}",
            1.0,
        ),
    ] {
        assert_eq!(value(&page, sample), expected, "{sample}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_under_its_mark_is_seen_with_what_was_not_stored() {
    let mut world = world().await;
    world.close().await;
    let mark = 1_u64 << 50;
    world.settings.low_water = mark;
    world.open().await;
    let request = crate::calls::apply("Partner Inc.");
    let applied = ProvisioningServiceClient::new(world.alice()).apply_entity(request).await;
    refused(applied, Code::Unavailable, "only restrictions are recorded");
    let page = page(&world).await;
    assert!(value(&page, "countersign_journal_append_failures_total{reason=\"NO_SPACE\"}") >= 1.0);
    assert_eq!(value(&page, "countersign_journal_low_water_bytes"), mark as f64);
    assert!(value(&page, "countersign_journal_disk_free_bytes") < mark as f64);
    assert_eq!(value(&page, "countersign_fault{fault=\"JOURNAL_CLOSED\"}"), 0.0, "it restricts still");
    // Reads leave no line in the audit, and that is counted; the sample alert reads it.
    let lost = async {
        while value(&self::page(&world).await, DROPPED) < 1.0 {
            let mut reader = pb::audit_service_client::AuditServiceClient::new(world.alice());
            reader.get_head(pb::GetHeadRequest::default()).await.unwrap();
        }
    };
    tokio::time::timeout(LIMIT, lost).await.expect("it is counted");
    let alerts = std::fs::read_to_string(root("deploy/prometheus/alerts.yml")).unwrap();
    let reads = |line: &str| line.contains("expr: ") && line.contains(&format!("increase({DROPPED}["));
    assert!(alerts.lines().any(reads), "no alert reads {DROPPED}");
}

#[tokio::test(flavor = "multi_thread")]
async fn there_is_one_page_and_it_is_only_read() {
    let world = world().await;
    let address = world.running().metrics().unwrap();
    for (request, status) in [
        ("GET /", "404"),
        ("GET /metrics/", "404"),
        ("GET /metrics?name=x", "200"),
        ("POST /metrics", "405"),
        ("DELETE /metrics", "405"),
    ] {
        let (head, _) = http(address, request).await;
        assert!(head.starts_with(&format!("HTTP/1.1 {status}")), "{request}: {head}");
    }
    let silent = World::start().await;
    assert_eq!(silent.running().metrics(), None, "nothing is served unless it is asked for");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scraper_that_sends_nothing_does_not_hold_up_a_stop() {
    let mut world = world().await;
    let _silent = TcpStream::connect(world.running().metrics().unwrap()).await.unwrap();
    page(&world).await;
    tokio::time::timeout(LIMIT, world.close()).await.expect("it stops");
}

#[test]
fn the_sample_alerts_use_metrics_that_are_documented() {
    let text = std::fs::read_to_string(root("deploy/prometheus/alerts.yml")).unwrap();
    let kinds = documented();
    let mut samples = BTreeSet::new();
    for (name, kind) in &kinds {
        let suffixes: &[&str] = if kind == "histogram" { &["_bucket", "_sum", "_count"] } else { &[""] };
        samples.extend(suffixes.iter().map(|suffix| format!("{name}{suffix}")));
    }
    let expressions: Vec<_> = text.lines().filter_map(|line| line.trim().strip_prefix("expr: ")).collect();
    let alerts = text.lines().filter(|line| line.trim().starts_with("- alert: ")).count();
    assert_eq!(expressions.len(), alerts, "each alert has its expression, on one line");
    assert!(alerts >= 10, "{alerts} alerts");
    for expression in expressions {
        let is_of_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        let words = expression.split(|c| !is_of_name(c)).filter(|word| word.starts_with("countersign_"));
        let used: Vec<_> = words.collect();
        assert!(!used.is_empty(), "{expression}");
        for name in used {
            assert!(samples.contains(name), "{name} in {expression:?} is no documented metric");
        }
        let depth = expression.chars().fold(0_i32, |depth, c| match c {
            '(' => depth + 1,
            ')' => depth - 1,
            _ => depth,
        });
        assert_eq!(depth, 0, "{expression}");
    }
    for line in text.lines().filter(|line| line.contains("summary:")) {
        assert!(line.ends_with("\" }"), "{line}");
    }
}
