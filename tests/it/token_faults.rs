//! A PKCS#11 token that goes wrong while the service runs: it hangs, somebody resets its sessions, somebody changes its PIN.

use std::path::{Path, PathBuf};
use std::process::Command as Process;
use std::time::{Duration, Instant};

use countersign::domain::command::Command;
use countersign::domain::person::EvidenceKind;
use countersign::domain::revocation::{RevocationReason, StopScope};
use countersign::pb;
use tonic::Code;

use crate::calls::key;
use crate::cli::root;
use crate::pkcs11::{Load, PATIENCE, PIN, Token, given, served_by, softhsm, spy, until, with_token};

/// How long an answer of the token may take here.
const TIMEOUT_MS: u32 = 1_000;
const OTHER_PIN: &str = "730164";

/// Builds the module that does what a bad token does (tests/data/bad_token.c).
fn bad_token(folder: &Path) -> PathBuf {
    let module = folder.join("bad_token.so");
    let mut cc = Process::new("cc");
    cc.args(["-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-o"]).arg(&module);
    let built = cc.arg(root("tests/data/bad_token.c")).arg("-ldl").output().expect("a C compiler");
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    module
}

fn ask(token: &Token, what: &str) -> PathBuf {
    let file = token.0.join(what);
    std::fs::write(&file, "").unwrap();
    file
}

#[test]
fn a_token_that_hangs_holds_nobody_longer_than_its_deadline() {
    with_token("token_faults::the_service_whose_token_hangs");
}

#[expect(clippy::disallowed_methods, reason = "a test measures how long an answer took")]
#[tokio::test(flavor = "multi_thread")]
async fn the_service_whose_token_hangs() {
    let Some(token) = given() else { return };
    let (mut world, _) = served_by(&token, bad_token(&token.0), TIMEOUT_MS).await;
    let entity = world.partner().await;
    let caller = world.person(entity, "EMPLOYEE", EvidenceKind::NoUsStatus).await;
    let (own, own_key) = (world.token(caller).await, key());
    let load = Load::on(&world, entity).await;
    until("issuance by the token", || load.issued() > 20).await;
    // Longer than every session's call: all of them hang, and who comes then waits in the queue.
    let hangs = ask(&token, "hang");
    let before = load.refused();
    until("all four are refused, several times", || load.refused() >= before + 12).await;
    let issued = load.issued();
    let since = Instant::now();
    let status = tokio::time::timeout(PATIENCE, world.redeem(&own, &own_key)).await;
    let status = status.expect("an answer, though the token gives none").unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status}");
    assert!(since.elapsed() >= Duration::from_millis(TIMEOUT_MS.into()), "it was asked: {status}");
    assert_eq!(load.issued(), issued, "nothing is released unsigned");
    // What needs no token goes on: registrations under the key in a file, and a stop.
    world.gateway("gw-1").await;
    // Of a model that nobody here uses: a stop of everything refuses who enrolls with other words.
    let scope = StopScope::Model("fable-5".parse().unwrap());
    let stop = Command::Stop { scope, reason: RevocationReason::Drill };
    assert!(world.restrict(stop.clone(), pb::Wait::Committed).await.unwrap().durable);
    let Command::Stop { scope, .. } = stop else { unreachable!() };
    world.enact(Command::ReleaseStop(scope)).await.unwrap();
    std::fs::remove_file(&hangs).unwrap();
    let before = load.issued();
    until("issuance again, by itself", || load.issued() > before + 20).await;
    load.end().await;
    // Its intent was on record when the token was asked: it is finished for the key that it names.
    world.redeem(&own, &key()).await.unwrap_err();
    world.redeem(&own, &own_key).await.expect("what was begun is finished");
    // A service whose token hangs can be stopped.
    let hangs = ask(&token, "hang");
    let last = world.token(caller).await;
    world.redeem(&last, &key()).await.unwrap_err();
    tokio::time::timeout(PATIENCE, world.close()).await.expect("it ends");
    std::fs::remove_file(hangs).unwrap();
}

#[test]
fn sessions_that_somebody_resets_are_made_anew_and_nobody_is_refused() {
    with_token("token_faults::the_service_whose_sessions_are_reset");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_service_whose_sessions_are_reset() {
    let Some(token) = given() else { return };
    let (mut world, _) = served_by(&token, bad_token(&token.0), 5_000).await;
    let entity = world.partner().await;
    let load = Load::on(&world, entity).await;
    until("issuance by the token", || load.issued() > 20).await;
    for _ in 0..5 {
        // In the middle of a signature: every session of every thread ends, and the login with them.
        let drop = ask(&token, "drop");
        until("they were closed", || !drop.exists()).await;
        let before = load.issued();
        until("issuance goes on", || load.issued() > before + 20).await;
    }
    assert_eq!(load.refused(), 0, "each call is made again on a new session");
    load.end().await;
    world.close().await;
}

#[test]
fn a_pin_that_is_changed_under_a_running_service_is_tried_once() {
    with_token("token_faults::the_service_whose_pin_is_changed");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_service_whose_pin_is_changed() {
    let Some(token) = given() else { return };
    let (mut world, authority) = served_by(&token, spy(), 5_000).await;
    let entity = world.partner().await;
    let caller = world.person(entity, "EMPLOYEE", EvidenceKind::NoUsStatus).await;
    let own = world.token(caller).await;
    let load = Load::on(&world, entity).await;
    until("issuance by the token", || load.issued() > 20).await;
    assert_eq!(token.logins(), 1);
    change_pin(&token, (PIN, OTHER_PIN));
    // Its login goes on for as long as its connection does.
    let before = load.issued();
    until("issuance goes on", || load.issued() > before + 20).await;
    assert_eq!((token.logins(), load.refused()), (1, 0));
    token.take_away();
    until("refusals", || load.refused() > 8).await;
    token.bring_back();
    until("the old PIN is refused", || token.logins() == 2).await;
    // A token that is away is looked for every second: so many refusals take several of these.
    let before = load.refused();
    until("refusals, for seconds", || load.refused() > before + 600).await;
    assert_eq!(token.logins(), 2, "one try of a PIN that is wrong now, however many ask");
    let status = world.redeem(&own, &key()).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status}");
    assert!(!format!("{status:?}").contains(PIN), "{status:?}");
    load.end().await;
    world.close().await;
    // Put right, with the token's own tool as well, it serves again.
    token.pin(OTHER_PIN);
    log_in(&token, OTHER_PIN);
    world.open().await;
    let certificate = world.redeem(&own, &key()).await.expect("the token of the caller was not used up");
    assert_eq!(world.read(&certificate).issuer, authority);
    world.close().await;
}

fn tool(token: &Token, words: &[&str]) {
    let mut tool = Process::new("pkcs11-tool");
    tool.arg("--module").arg(softhsm()).args(words).env("SOFTHSM2_CONF", token.conf());
    let ended = tool.output().expect("tests/run installs pkcs11-tool");
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
}

fn change_pin(token: &Token, (from, to): (&str, &str)) {
    tool(token, &["--login", "--pin", from, "--change-pin", "--new-pin", to]);
}

fn log_in(token: &Token, pin: &str) {
    tool(token, &["--login", "--pin", pin, "--list-objects"]);
}
