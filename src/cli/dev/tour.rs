//! The tour: onboard, issue, permit, revoke with a barrier, deny at the gateway.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::runtime::Runtime;

use super::{Place, command, found, text};
use crate::app::App;
use crate::cli::files::{self, Access};
use crate::cli::identity::{self, CERTIFICATE, KEY};
use crate::cli::unlock::Unlock;
use crate::cli::{Failure, Outcome};
use crate::client::{Gate, GateConfig, Identity, Target};
use crate::domain::enforce::message::Strength;
use crate::domain::enforce::{Chain, Request};
use crate::domain::model::AccessForm;
use crate::domain::policy::Place as Where;
use crate::env::{Clock, SystemClock, SystemEntropy};

/// How long the gateway may take to get its lease or a card.
const PATIENCE: Duration = Duration::from_secs(10);
/// What widens takes effect a second after its record: the margin for a clock that is not exact.
const MARGIN: Duration = Duration::from_millis(2_100);

struct Step {
    name: &'static str,
    outcome: Result<String, String>,
    took_us: u64,
}

/// Steps with their outcomes.
pub(super) struct Steps {
    done: Vec<Step>,
    clock: SystemClock,
}

impl Steps {
    pub(super) const fn new() -> Self {
        Self { done: Vec::new(), clock: SystemClock }
    }

    /// Does a step, prints it, and passes its failure on: what follows would make no sense.
    pub(super) fn step<T>(
        &mut self,
        name: &'static str,
        work: impl FnOnce() -> Result<(T, String), Failure>,
    ) -> Result<T, Failure> {
        let begin = self.clock.steady_us();
        let done = work();
        let took_us = self.clock.steady_us().saturating_sub(begin);
        match done {
            Ok((value, said)) => {
                self.add(name, Ok(said), took_us);
                Ok(value)
            }
            Err(Failure(why)) => {
                self.add(name, Err(why.clone()), took_us);
                Err(Failure(format!("step {name}: {why}")))
            }
        }
    }

    pub(super) fn note(&mut self, name: &'static str, said: &str) {
        self.add(name, Ok(said.to_owned()), 0);
    }

    /// Checks an answer: what differs is printed and counted, and the tour goes on.
    fn check(&mut self, name: &'static str, got: String, wanted: &str, took_us: u64) {
        let outcome = if got == wanted { Ok(got) } else { Err(format!("{got}; it should be {wanted}")) };
        self.add(name, outcome, took_us);
    }

    fn add(&mut self, name: &'static str, outcome: Result<String, String>, took_us: u64) {
        let (mark, said) = match &outcome {
            Ok(said) => ("ok  ", said),
            Err(why) => ("FAIL", why),
        };
        let took = if took_us < 10_000 { format!("{took_us} us") } else { format!("{} ms", took_us / 1_000) };
        println!("{mark} {name:<12} {took:>9}  {said}");
        self.done.push(Step { name, outcome, took_us });
    }

    pub(super) fn failed(&self) -> usize {
        self.done.iter().filter(|step| step.outcome.is_err()).count()
    }

    pub(super) const fn count(&self) -> usize {
        self.done.len()
    }

    pub(super) fn to_json(&self) -> Value {
        let steps = self.done.iter().map(|step| {
            let (ok, said) = match &step.outcome {
                Ok(said) => (true, said),
                Err(why) => (false, why),
            };
            json!({ "name": step.name, "ok": ok, "outcome": said, "took_us": step.took_us })
        });
        steps.collect()
    }
}

/// Runs a command of an officer, and has the other one approve what it proposes.
fn officer(place: &Place, words: &[&str]) -> Result<Value, Failure> {
    let (alice, bob) = (place.path("alice"), place.path("bob"));
    let as_alice = [words, &["--server", &place.server, "--identity", &alice]].concat();
    let (_, value) = command(&as_alice)?;
    if let Some(proposal) = value.get("proposal").and_then(Value::as_str) {
        command(&["approvals", "approve", proposal, "--yes", "--server", &place.server, "--identity", &bob])?;
    }
    Ok(value)
}

pub(super) fn run(
    runtime: &Runtime,
    app: &Arc<App>,
    place: &Place,
    mut steps: Steps,
) -> Result<Steps, Failure> {
    let entity = steps.step("onboard", || onboard(app, place))?;
    let subject = steps.step("vet", || vet(place, &entity))?;
    std::thread::sleep(MARGIN);
    let leaf = steps.step("issue", || issue(place, &subject))?;
    let gate = steps.step("gateway", || gateway(runtime, app, place))?;
    runtime.block_on(hold_card(&gate, &leaf));
    let (decided, took_us) = decide(&gate, &leaf, "Claude Mythos 5");
    steps.check("permit", decided, "PERMIT EXEMPT L-21", took_us);
    let (decided, took_us) = decide(&gate, &leaf, "fable-5");
    steps.check("other model", decided, "DENY LICENSE_REQUIRED L-11 P-SUSPEND_ALL", took_us);
    steps.step("server", || evaluate(place))?;
    steps.step("revoke", || revoke(place, &subject))?;
    let (decided, took_us) = decide(&gate, &leaf, "mythos-5");
    steps.check("deny", decided, "DENY INDETERMINATE G2 CREDENTIAL_REVOKED", took_us);
    steps.step("record", || {
        let (_, head) =
            command(&["audit", "head", "--server", &place.server, "--identity", &place.path("alice")])?;
        let root = text(&head, "root")?;
        Ok(((), format!("{} records, tree {}...", app.state().position.seq, root.get(..16).unwrap_or(&root))))
    })?;
    runtime.block_on(gate.shutdown());
    Ok(steps)
}

fn onboard(app: &App, place: &Place) -> Result<(String, String), Failure> {
    let now = app.now().to_string();
    let applied =
        officer(place, &["entity", "apply", "--name", "Sample Defender Inc.", "--organisation", "US"])?;
    let entity = text(&applied, "id")?;
    officer(
        place,
        &[
            "screening",
            "record",
            &entity,
            "--list-version",
            "sample",
            "--list-date",
            &now,
            "--result",
            "CLEAR",
            "--reason",
            "no match",
            "--commit",
        ],
    )?;
    officer(place, &["entity", "activate", &entity, "--commit"])?;
    let lift = "2026-06-26-lift";
    let revision = lift
        .parse()
        .ok()
        .and_then(|id: crate::domain::id::DeterminationId| app.state().annexes.get(&id).copied())
        .unwrap_or_default()
        + 1;
    officer(
        place,
        &[
            "annex",
            "amend",
            "--determination",
            lift,
            "--revision",
            &revision.to_string(),
            "--add",
            &entity,
            "--commit",
        ],
    )?;
    officer(place, &["grant", "add", &entity, "--model", "mythos-5", "--from", &now, "--commit"])?;
    let said =
        format!("{entity}: applied, screened, activated, listed in revision {revision}, granted mythos-5");
    Ok((entity, said))
}

fn vet(place: &Place, entity: &str) -> Result<(String, String), Failure> {
    let nominated = officer(place, &["person", "nominate", "--entity", entity, "--relation", "EMPLOYEE"])?;
    let subject = text(&nominated, "id")?;
    let today = SystemClock.now().day().to_string();
    officer(
        place,
        &[
            "person",
            "approve",
            &subject,
            "--evidence",
            "NO_US_STATUS",
            "--verified-on",
            &today,
            "--assurance",
            "IAL2",
            "--commit",
        ],
    )?;
    Ok((subject.clone(), format!("{subject}: FOREIGN_PERSON, EMPLOYEE, IAL2")))
}

fn issue(place: &Place, subject: &str) -> Result<(Vec<u8>, String), Failure> {
    let token = officer(place, &["token", "create", subject])?;
    let folder = place.root.join("partner");
    // Every tour has a new person, with a new key.
    if folder.exists() {
        std::fs::remove_dir_all(&folder)?;
    }
    let bundle = place.path("data/trust/system.pem");
    command(&[
        "enroll",
        "--token",
        &text(&token, "token")?,
        "--system-bundle",
        &bundle,
        "--out",
        &place.path("partner"),
        "--server",
        &place.server,
    ])?;
    let leaf = files::read_der(&folder.join(CERTIFICATE), "CERTIFICATE")?;
    Ok((leaf, format!("{}", folder.join(CERTIFICATE).display())))
}

fn gateway(runtime: &Runtime, app: &App, place: &Place) -> Result<(Gate, String), Failure> {
    let folder = place.root.join("gateway");
    let (key, is_new) = identity::key_in(&folder, app.algorithms(), &Unlock::default())?;
    let (csr, certificate) = (place.path("gateway/gateway.csr"), place.path("gateway/certificate.pem"));
    if is_new {
        let request = files::request_pem(&key.request()?);
        files::write(&folder.join("gateway.csr"), request.as_bytes(), Access::Public)?;
        officer(place, &["gateway", "register", "--name", "gw-dev", "--csr", &csr, "--commit"])?;
    }
    officer(place, &["gateway", "certificate", "--name", "gw-dev", "--csr", &csr, "--out", &certificate])?;
    found::trust(place, &folder)?;
    let settings = Arc::clone(&app.state().settings);
    let log_key =
        settings.log_key.as_slice().try_into().map_err(|_| Failure("the log key is damaged".to_owned()))?;
    let config = GateConfig {
        target: Target {
            address: place.server.trim_start_matches("https://").to_owned(),
            server_name: None,
            system_bundle_pem: files::read_text(&folder.join(identity::SYSTEM_BUNDLE))?,
        },
        identity: Identity::from_pem(
            &files::read_text(&folder.join(CERTIFICATE))?,
            &files::read_text(&folder.join(KEY))?,
        )?,
        profile: app.profile().clone(),
        log_key,
        strength: Strength { per_request: true, resumption_off: true, ..Strength::default() },
        clock: Arc::new(SystemClock),
        entropy: Arc::new(SystemEntropy),
    };
    let gate = runtime.block_on(async {
        let gate = Gate::connect(config).await?;
        gate.ready(PATIENCE).await.map_err(|e| Failure(e.to_string()))?;
        Ok::<_, Failure>(gate)
    })?;
    let left = gate.status().lease_left_ms;
    Ok((gate, format!("gw-dev subscribes; lease of {left} ms left")))
}

fn question(model: &str) -> Request<'_> {
    Request {
        model,
        form: AccessForm::Inference,
        place: Where::Us,
        serving: Where::Us,
        purpose: None,
        chain: Chain::default(),
    }
}

/// The first decision about an entity asks the server and for its card; wait until the gateway has it.
async fn hold_card(gate: &Gate, leaf: &[u8]) {
    let held = async {
        while gate.decide(leaf, &question("mythos-5")).decision.ask_server {
            gate.decide_or_ask(leaf, &question("mythos-5")).await;
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    // What the gateway then decides is checked by the next step.
    drop(tokio::time::timeout(PATIENCE, held).await);
}

fn decide(gate: &Gate, leaf: &[u8], model: &str) -> (String, u64) {
    let begin = SystemClock.steady_us();
    let decided = gate.decide(leaf, &question(model));
    let took_us = SystemClock.steady_us().saturating_sub(begin);
    let decision = decided.decision;
    let mut said = format!("{} {} {}", decision.access, decision.legal, decision.rule);
    let denials = decision.denials.iter().map(|denial| denial.as_str());
    let credential = denials.filter(|code| code.starts_with("CREDENTIAL"));
    for word in credential.chain(decision.policy.map(|rule| rule.as_str())) {
        said.push(' ');
        said.push_str(word);
    }
    (said, took_us)
}

fn evaluate(place: &Place) -> Result<((), String), Failure> {
    let (outcome, decision) = command(&[
        "evaluate",
        "--server",
        &place.server,
        "--identity",
        &place.path("gateway"),
        "--certificate",
        &place.path("partner/certificate.pem"),
        "--model",
        "mythos-5",
        "--place",
        "US",
        "--serving-region",
        "US",
    ])?;
    match outcome {
        Outcome::Done => Ok(((), "the server decides the same".to_owned())),
        Outcome::Failed | Outcome::Denied | Outcome::Warned => {
            Err(Failure(format!("the server decides otherwise: {decision}")))
        }
    }
}

fn revoke(place: &Place, subject: &str) -> Result<((), String), Failure> {
    let done = officer(
        place,
        &["revoke", "subject", subject, "--reason", "AFFILIATION_ENDED", "--wait", "--commit"],
    )?;
    let status = text(&done, "status")?;
    let names = |key: &str| {
        let list = done.get(key).and_then(Value::as_array).cloned().unwrap_or_default();
        list.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", ")
    };
    let acked = names("acked");
    if status != "ENFORCED" || !acked.contains("gw-dev") {
        return Err(Failure(format!(
            "{status}, acknowledged by {acked}; it should be ENFORCED by gw-dev: {done}"
        )));
    }
    let took = done.get("took_ms").and_then(Value::as_u64).unwrap_or_default();
    Ok(((), format!("{status} {took} ms after it was durable, acknowledged by {acked}")))
}
