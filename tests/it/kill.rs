//! `kill -9` at every step of an issuance and at any moment of a busy service: what was acknowledged is on record, what
//! is on record is whole, and a retry finishes what was begun.
//!
//! The victim is this test binary again, with one hidden test and a directory in its environment. It writes a line to its
//! standard output after each answer; a line that arrived was acknowledged.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command as Process, Stdio};
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use countersign::app::store;
use countersign::app::{Caller as AppCaller, Mode, Wait};
use countersign::domain::approval::{Approval, SignedMandate};
use countersign::domain::certificate::Facts;
use countersign::domain::codec::to_bytes;
use countersign::domain::command::Command;
use countersign::domain::entity::{EntityKind, Organisation};
use countersign::domain::id::{Digest, EntityId, SubjectId};
use countersign::domain::person::EvidenceKind;
use countersign::domain::revocation::{RevocationReason, RevocationScope};
use countersign::env::{Clock as _, Entropy as _, ManualClock, SystemEntropy};
use countersign::server::{self, Running};
use countersign::x509::ClientKey;

use crate::calls::{denied, key};
use crate::forge::Forgery;
use crate::world::{Officer, World, settings};

const DIRECTORY: &str = "COUNTERSIGN_TEST_VICTIM";
const POINT: &str = "COUNTERSIGN_KILL_AT";
/// A victim starts in a second; a busy machine may need many.
const START_LIMIT: Duration = Duration::from_secs(60);

#[expect(clippy::disallowed_methods, reason = "how a test tells its child process what to be")]
pub(crate) fn asked(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Everything that a victim needs to know, in files beside the data directory's own.
pub(crate) fn brief(world: &World, name: &str, text: &str) {
    std::fs::write(world.dir.path().join(format!("victim-{name}")), text).unwrap();
}

pub(crate) fn told(data: &Path, name: &str) -> String {
    std::fs::read_to_string(data.join(format!("victim-{name}"))).unwrap()
}

/// A started victim and the lines that it wrote.
pub(crate) struct Victim {
    pub(crate) process: Child,
    lines: mpsc::Receiver<String>,
}

impl Victim {
    pub(crate) fn start(world: &World, role: &str, point: Option<&str>) -> Self {
        brief(world, "role", role);
        brief(world, "now", &world.clock.now().to_string());
        brief(world, "alice", &world.alice.key.to_pem());
        let mut command = Process::new(std::env::current_exe().unwrap());
        command
            .args(["--exact", "kill::the_victim_of_the_kill_tests", "--nocapture"])
            .env(DIRECTORY, world.dir.path())
            .env("RUST_BACKTRACE", "0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        if let Some(point) = point {
            command.env(POINT, point);
        }
        let mut process = command.spawn().unwrap();
        let stdout = BufReader::new(process.stdout.take().unwrap());
        let (send, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                if send.send(line).is_err() {
                    return;
                }
            }
        });
        Self { process, lines }
    }

    /// Waits until it says this.
    pub(crate) fn says(&self, wanted: &str) {
        while self.lines.recv_timeout(START_LIMIT).expect("the victim started") != wanted {}
    }

    /// Waits until it says something about this, and gives what.
    pub(crate) fn tells(&self, about: &str) -> String {
        loop {
            let line = self.lines.recv_timeout(START_LIMIT).expect("the victim started");
            if let Some(what) = line.strip_prefix(about) {
                return what.trim().to_owned();
            }
        }
    }

    /// Waits until it is dead, and gives what it acknowledged.
    pub(crate) fn last_words(mut self) -> Vec<Vec<String>> {
        assert!(!self.process.wait().unwrap().success(), "the victim was to be killed");
        let lines = std::iter::from_fn(|| self.lines.recv_timeout(START_LIMIT).ok());
        let words = lines.map(|line| line.split(' ').map(str::to_owned).collect::<Vec<_>>());
        words.filter(|words| words[0] == "ack").collect()
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

pub(crate) fn acknowledge(what: &str) {
    use std::io::Write as _;
    // One write: a line that is cut is no acknowledgement.
    std::io::stdout().write_all(format!("{what}\n").as_bytes()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_victim_of_the_kill_tests() {
    let Some(data) = asked(DIRECTORY) else { return };
    let data = Path::new(&data);
    let clock = Arc::new(ManualClock::at(told(data, "now").parse().unwrap()));
    let running = server::start(settings(data), clock, Arc::new(SystemEntropy)).await.unwrap();
    let running = Arc::new(running);
    acknowledge("ready");
    acknowledge(&format!("port {}", running.address().port()));
    match told(data, "role").as_str() {
        "enroll" => {
            let key = ClientKey::from_pem(&told(data, "key")).unwrap();
            let token = told(data, "token");
            let issued = running.app().enroll(&token, &key.request().unwrap()).await.unwrap();
            acknowledge(&format!("ack certificate {}", hex::encode(issued.certificate)));
            // The kill point did not kill: the parent sees a clean end.
        }
        "busy" => busy(&running, data).await,
        "revoke" => revoke(&running, data).await,
        "decide" => crate::decided::decide_for_ever(running.app(), data).await,
        "step" => crate::rotation::take_step(running.app(), data).await,
        // What the service does by itself kills it.
        "wait" => tokio::time::sleep(START_LIMIT).await,
        role => panic!("no role {role}"),
    }
}

/// Once told to, revokes and waits until that is enforced, which it never is before the kill.
async fn revoke(running: &Running, data: &Path) {
    let read = |name| hex::decode(told(data, name)).unwrap();
    let approvals = vec![Approval { officer: "alice".parse().unwrap(), signature: read("signature") }];
    let signed = SignedMandate { bytes: read("mandate"), approvals };
    let request = Some(crate::partition::REQUEST.parse().unwrap());
    let caller = AppCaller { principal: Some("alice".parse().unwrap()), request };
    let poll = || tokio::time::sleep(Duration::from_millis(5));
    while !data.join("victim-go").exists() {
        poll().await;
    }
    let before = running.app().state().position;
    let wait = Wait::Enforced { deadline_ms: None };
    let mut barrier = std::pin::pin!(running.app().restrict(&caller, signed, wait, Mode::Commit));
    let mut is_said = false;
    loop {
        tokio::select! {
            done = &mut barrier => panic!("the barrier ended: {done:?}"),
            () = poll() => {}
        }
        if !is_said && running.app().state().position > before {
            is_said = true;
            acknowledge("revoked");
        }
    }
}

/// Enrolls, applies and revokes at once, until it is killed.
async fn busy(running: &Arc<Running>, data: &Path) {
    let subject: SubjectId = told(data, "subject").parse().unwrap();
    let alice = Arc::new(Officer { name: "alice", key: ClientKey::from_pem(&told(data, "alice")).unwrap() });
    let caller = AppCaller { principal: Some("alice".parse().unwrap()), request: None };
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..6 {
        let (running, alice, caller) = (Arc::clone(running), Arc::clone(&alice), caller.clone());
        tasks.spawn(async move {
            let app = running.app();
            for round in 0_u64.. {
                if task < 2 {
                    let name = format!("applicant {task} {round}");
                    let law = (Organisation::Us, None);
                    let what = (EntityKind::Company, name);
                    let (id, _) = app.apply_entity(&caller, what, law, Mode::Commit).await.unwrap();
                    acknowledge(&format!("ack entity {id}"));
                    continue;
                }
                let new = app.create_token(&caller, subject, 0, Mode::Commit).await.unwrap();
                let csr = key().request().unwrap();
                let issued = app.enroll(&new.token.reveal(), &csr).await.unwrap();
                let hash = Digest::of(&issued.certificate);
                let ordinal = app.read_certificate(&issued.certificate).unwrap().ordinal;
                acknowledge(&format!("ack issued {} {hash}", ordinal.0));
                if round % 2 == 0 {
                    let scope = RevocationScope::Certificate(ordinal);
                    let command = Command::Revoke { scope, reason: RevocationReason::Drill };
                    let bytes = to_bytes(&app.prepare(command));
                    let signature = alice.approve(&bytes).signature.to_vec();
                    let approvals = vec![Approval { officer: "alice".parse().unwrap(), signature }];
                    let signed = SignedMandate { bytes, approvals };
                    let done = app.submit(&caller, signed, Mode::Commit).await.unwrap();
                    assert!(done.durable);
                    acknowledge(&format!("ack revoked {}", ordinal.0));
                }
            }
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended.unwrap();
    }
}

async fn killed_at(point: &'static str) {
    let mut world = World::start().await;
    let entity = world.partner().await;
    let subject = world.person(entity, "EMPLOYEE", EvidenceKind::NoUsStatus).await;
    let template = world.enroll(subject).await;
    let (token, key) = (world.token(subject).await, key());
    world.close().await;
    brief(&world, "token", &token);
    brief(&world, "key", &key.to_pem());
    let victim = Victim::start(&world, "enroll", Some(point));
    let acknowledged = victim.last_words();
    assert!(acknowledged.is_empty(), "{point}: it answered {acknowledged:?}");

    store::verify_offline(world.dir.path(), &mut |_| ()).unwrap();
    world.open().await;
    let state = world.running().app().state();
    let begun = point != "issue.before_intent";
    let done = point == "issue.after_record";
    assert_eq!(state.intents.len(), usize::from(begun && !done), "{point}");
    let pending = state.intents.values().next().map(|row| row.1.clone());
    if let Some(intent) = &pending {
        // Whoever had signed it, here with the stolen key: without its record it is worth nothing, and it can be revoked.
        let mut forgery = Forgery::of(&world, &template.certificate);
        forgery.facts = intent.facts.clone();
        forgery.ordinal = intent.ordinal;
        let signed = forgery.sign(&world, &key);
        denied(&world.mythos(&signed).await, "CREDENTIAL_NOT_ISSUED");
        let scope = RevocationScope::Certificate(intent.ordinal);
        let command = Command::Revoke { scope, reason: RevocationReason::Drill };
        world.restrict(command, countersign::pb::Wait::Committed).await.unwrap();
    }
    // Another key gets nothing when the first is on record; the same key gets what it was promised.
    if begun {
        assert!(world.redeem(&token, &crate::calls::key()).await.is_err(), "{point}");
    }
    let certificate = world.redeem(&token, &key).await.unwrap();
    assert!(world.mythos(&certificate).await.permit, "{point}");
    assert_eq!(world.redeem(&token, &key).await.unwrap(), certificate);
    let ordinal = world.read(&certificate).ordinal;
    assert!(pending.is_none_or(|intent| intent.ordinal != ordinal), "{point}: an ordinal was used twice");
    world.close().await;
    store::verify_offline(world.dir.path(), &mut |_| ()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_before_its_intent_an_issuance_never_was() {
    killed_at("issue.before_intent").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_after_its_intent_an_issuance_is_finished_by_a_retry() {
    killed_at("issue.after_intent").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_after_signing_a_certificate_without_its_record_is_worth_nothing() {
    killed_at("issue.after_sign").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_before_the_answer_a_recorded_certificate_is_given_to_its_key() {
    killed_at("issue.after_record").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_was_acknowledged_before_a_kill_is_on_record() {
    const ROUNDS: u64 = 20;
    let mut world = World::start().await;
    let entity = world.partner().await;
    let subject = world.person(entity, "EMPLOYEE", EvidenceKind::NoUsStatus).await;
    world.close().await;
    brief(&world, "subject", &subject.to_string());
    let mut certificates = BTreeMap::new();
    let (mut entities, mut revoked) = (Vec::<EntityId>::new(), Vec::<u64>::new());
    for round in 0..ROUNDS {
        let mut victim = Victim::start(&world, "busy", None);
        victim.says("ready");
        // Any moment will do: not a wait for anything.
        let moment = 20 + u64::from(SystemEntropy.bytes16()[0]);
        tokio::time::sleep(Duration::from_millis(moment)).await;
        victim.process.kill().unwrap();
        for words in victim.last_words() {
            match (words[1].as_str(), &words[2..]) {
                ("issued", [ordinal, hash]) => {
                    let before = certificates.insert(ordinal.parse::<u64>().unwrap(), hash.clone());
                    assert!(before.is_none(), "round {round}: ordinal {ordinal} was used twice");
                }
                ("entity", [id]) => entities.push(id.parse().unwrap()),
                ("revoked", [ordinal]) => revoked.push(ordinal.parse::<u64>().unwrap()),
                _ => panic!("{words:?}"),
            }
        }
        store::verify_offline(world.dir.path(), &mut |_| ()).unwrap();
    }
    assert!(!certificates.is_empty() && !entities.is_empty() && !revoked.is_empty(), "nothing was done");
    world.open().await;
    let state = world.running().app().state();
    let on_record: BTreeMap<u64, String> =
        state.lineages.values().map(|row| (row.last.ordinal.0, row.last.hash.to_string())).collect();
    for (ordinal, hash) in &certificates {
        assert_eq!(on_record.get(ordinal), Some(hash), "certificate {ordinal} was acknowledged");
    }
    for id in &entities {
        assert!(state.entities.contains_key(id), "{id} was acknowledged");
    }
    for ordinal in &revoked {
        let ordinal = countersign::domain::id::Ordinal(*ordinal);
        assert!(state.enforcement.revoked.contains(ordinal), "the revocation of {ordinal} was acknowledged");
    }
    // No half state: an ordinal is issued, intended or skipped, and never two of them.
    for intent in state.intents.keys() {
        assert!(!on_record.contains_key(&intent.0) && !state.gaps.contains(intent));
    }
    assert!(state.intents.values().all(|row| matches!(row.1.facts, Facts::Access(_))));
}
