//! A restriction that is waited for, as who looks on sees it: who acknowledged, who is missing and for how long at most.

use std::sync::Arc;
use std::time::Duration;

use countersign::client::{Gate, GateConfig, Identity, Target};
use countersign::domain::enforce::bound_ms;
use countersign::env::{SystemClock, SystemEntropy};
use countersign::pb;
use countersign::pb::revocation_service_client::RevocationServiceClient;
use countersign::x509::Profile;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tonic::{Code, Status, Streaming};

use crate::calls::refused;
use crate::cli_served::Served;
use crate::gate::{self, PATIENCE, STRONG, revoke, world_with_employee};
use crate::world::World;

/// A look is made four times a second; a busy machine may need many times that.
const LIMIT: Duration = Duration::from_secs(30);
const LEASE_MS: u32 = 10_000;
const REQUEST: &str = "req_01KW4F6WG0GYFRG660A2NWY2P0";

type Watch = Streaming<pb::WatchEnforcementResponse>;

async fn watch(world: &World) -> Watch {
    let request = pb::WatchEnforcementRequest { request_id: REQUEST.to_owned() };
    RevocationServiceClient::new(world.alice()).watch_enforcement(request).await.unwrap().into_inner()
}

async fn next(watch: &mut Watch) -> Option<pb::WatchEnforcementResponse> {
    timeout(LIMIT, watch.message()).await.expect("there is news").unwrap()
}

/// Revokes a certificate as a task that waits until that is enforced.
async fn revoking(world: &World, leaf: &[u8]) -> JoinHandle<Result<pb::Enforcement, Status>> {
    let mandate = world.mandate(&revoke(world, leaf)).await.unwrap();
    let approvals = vec![world.alice.approve(&mandate)];
    let request = pb::RevokeRequest {
        mandate: Some(pb::SignedMandate { mandate: mandate.into(), approvals }),
        wait: pb::Wait::Enforced.into(),
        request_id: REQUEST.to_owned(),
        ..Default::default()
    };
    let mut client = RevocationServiceClient::new(world.alice());
    tokio::spawn(async move { Ok(client.revoke(request).await?.into_inner().enforcement.unwrap()) })
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_missing_is_shown_with_the_rest_of_the_lease_until_it_has_run_out() {
    let (world, leaf) = world_with_employee().await;
    let [kept, lost] = [world.gateway("gw-kept").await, world.gateway("gw-lost").await];
    let address = world.running().address();
    let _kept = gate::connect(&world, (&kept, address), STRONG, &world.clock).await;
    drop(gate::connect(&world, (&lost, address), STRONG, &world.clock).await);
    // Its tasks end by themselves: until the server has seen that, it may acknowledge, or have its lease renewed.
    world.row("gw-lost", |row| !row.connected).await;
    world.clock.advance_ms(1_000);
    // Begun before the record is there.
    let mut watch = watch(&world).await;
    let answer = revoking(&world, &leaf).await;
    let shown = loop {
        let shown = next(&mut watch).await.expect("it goes on");
        let acked = &shown.enforcement.as_ref().unwrap().acked;
        if acked.iter().any(|name| name == "gw-kept") {
            break shown;
        }
    };
    let at = shown.enforcement.unwrap();
    assert_eq!((at.status(), at.pending), (pb::EnforcementStatus::Partial, vec!["gw-lost".to_owned()]));
    let bound = bound_ms(LEASE_MS);
    assert_eq!(shown.bound_left_ms, bound, "nothing has passed since the record");
    let [missing] = &shown.missing[..] else { panic!("{:?}", shown.missing) };
    assert_eq!(missing.participant, "gw-lost");
    assert_eq!(missing.lease_left_ms, Some(bound - 1_000), "its lease began a second before");
    // Without the clock nothing is over; then the watch ends with the answer of the request.
    world.clock.advance_ms(u32::try_from(bound).unwrap());
    world.running().app().feed().tick();
    let mut last = None;
    while let Some(shown) = next(&mut watch).await {
        last = Some(shown);
    }
    let last = last.unwrap();
    let answer = timeout(LIMIT, answer).await.unwrap().unwrap().unwrap();
    let seen = last.enforcement.unwrap();
    assert_eq!(answer.status(), pb::EnforcementStatus::Enforced);
    assert_eq!((seen.status(), &seen.lease_expired), (answer.status(), &answer.lease_expired));
    assert_eq!((seen.position, last.missing, last.bound_left_ms), (answer.position, vec![], 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_of_what_is_enforced_ends_at_once() {
    let (world, leaf) = world_with_employee().await;
    let answer = revoking(&world, &leaf).await.await.unwrap().unwrap();
    let mut watch = watch(&world).await;
    let shown = next(&mut watch).await.unwrap().enforcement.unwrap();
    assert_eq!((shown.status(), shown.position), (pb::EnforcementStatus::Enforced, answer.position));
    assert_eq!(next(&mut watch).await, None);
    let request = pb::WatchEnforcementRequest { request_id: "req_1".to_owned() };
    let unnamed = RevocationServiceClient::new(world.alice()).watch_enforcement(request).await;
    refused(unnamed, Code::InvalidArgument, "request_id");
}

/// A gate of a gateway that the served process knows, ready.
async fn gate_of(served: &Served, folder: &str) -> Gate {
    let read = |name: &str| std::fs::read_to_string(served.desk.path(name)).unwrap();
    let log_key = pem::parse(read("alice/log-key.pem")).unwrap().into_contents();
    let config = GateConfig {
        target: Target {
            address: served.url.trim_start_matches("https://").to_owned(),
            server_name: Some("localhost".to_owned()),
            system_bundle_pem: read("data/trust/system.pem"),
        },
        identity: Identity::from_pem(
            &read(&format!("{folder}/certificate.pem")),
            &read(&format!("{folder}/key.pem")),
        )
        .unwrap(),
        profile: Profile::new("example.org".parse().unwrap(), countersign::x509::Arc::default(), None),
        log_key: log_key[log_key.len() - 32..].try_into().unwrap(),
        strength: STRONG,
        clock: Arc::new(SystemClock),
        entropy: Arc::new(SystemEntropy),
    };
    let gate = Gate::connect(config).await.unwrap();
    gate.ready(PATIENCE).await.unwrap();
    gate
}

/// A command on a terminal, for which Python stands in.
fn terminal(served: &Served, arguments: &[&str]) -> std::process::Command {
    let run = "import pty, sys; sys.exit(pty.spawn(sys.argv[1:]) >> 8)";
    let mut python = std::process::Command::new("python3");
    python.args(["-c", run, env!("CARGO_BIN_EXE_countersign")]).args(arguments).env("TERM", "xterm");
    python.args(["--server", &served.url]).current_dir(served.desk.path("."));
    python
}

/// Its exit code and everything that it wrote there.
fn on_a_terminal(served: &Served, arguments: &[&str]) -> (i32, String) {
    let done = terminal(served, arguments).output().unwrap();
    (done.status.code().unwrap(), String::from_utf8_lossy(&done.stdout).into_owned())
}

#[test]
fn on_a_terminal_a_watch_draws_the_list_over_the_last_one() {
    use std::io::Read as _;
    use std::process::Stdio;
    let served = Served::start();
    let mut watch = terminal(&served, &["gateway", "watch", "--identity", "alice"]);
    let mut watch = watch.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    let mut out = watch.stdout.take().unwrap();
    let mut screen = String::new();
    let mut until = |word: &str| {
        let mut bytes = [0; 4_096];
        while !screen.contains(word) {
            let len = out.read(&mut bytes).unwrap();
            assert!(len > 0, "it ended: {screen:?}");
            screen.push_str(&String::from_utf8_lossy(&bytes[..len]));
        }
        std::mem::take(&mut screen)
    };
    until("none");
    served.desk.run(&["officer", "new", "--name", "gw-1", "--out", "gw-1"]).done();
    served.both(&["gateway", "register", "--name", "gw-1", "--csr", "gw-1/gw-1.csr"]);
    let drawn = until("gw-1");
    assert!(drawn.contains("GATEWAY"), "{drawn:?}");
    assert!(drawn.contains("\u{1b}[2K") || drawn.contains("\r"), "it draws over what was there: {drawn:?}");
    watch.kill().unwrap();
    watch.wait().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_terminal_the_wait_shows_who_is_missing_and_on_a_pipe_only_the_result() {
    let served = Served::start();
    served.desk.run(&["officer", "new", "--name", "gw-1", "--out", "gw-1"]).done();
    served.both(&["gateway", "register", "--name", "gw-1", "--csr", "gw-1/gw-1.csr"]);
    let certificate = ["gateway", "certificate", "--name", "gw-1", "--csr", "gw-1/gw-1.csr"];
    served.by("alice", &[&certificate[..], &["--out", "gw-1/certificate.pem"]].concat()).done();
    drop(gate_of(&served, "gw-1").await);
    // It left with a lease of ten seconds.
    let stop = |model: &'static str, deadline_ms: &'static str| {
        let wait = ["--reason", "DRILL", "--wait", "--deadline-ms", deadline_ms, "--identity", "alice"];
        [&["stop", "engage", "--model", model][..], &wait].concat()
    };
    let (code, screen) = on_a_terminal(&served, &stop("mythos-5", "3000"));
    assert_eq!(code, 1, "it is not enforced: {screen}");
    assert!(screen.contains("1 acknowledged; waiting for gw-1 ("), "{screen:?}");
    assert!(screen.contains("pending        gw-1"), "{screen:?}");
    let piped = served.desk.run(&[&stop("fable-5", "100")[..], &["--server", &served.url]].concat());
    assert!(piped.out.starts_with("done at record") && !piped.out.contains("waiting for"), "{}", piped.out);
    assert!(!piped.err.contains("waiting for"), "{}", piped.err);
}
