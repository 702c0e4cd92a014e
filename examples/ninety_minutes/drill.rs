//! The drill: a service is founded, its gateways connect, everything is stopped; then the stop is lifted, partners and their
//! people are brought in bulk, and each person is permitted at a gateway; then the same once more with all of them on record.
//! It asserts each step, and says how long it took.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use countersign::client::{Gate, GateConfig, Identity, Question, Target};
use countersign::domain::approval::MANDATE_PREFIX;
use countersign::domain::codec::to_bytes;
use countersign::domain::command::{Command, Ruling, SubjectDecision};
use countersign::domain::enforce::message::Strength;
use countersign::domain::id::{Digest, EntityId, SubjectId, TokenId};
use countersign::domain::person::{Assurance, EvidenceKind};
use countersign::domain::policy::Place;
use countersign::domain::revocation::{RevocationReason, StopScope};
use countersign::domain::subject::Vetting;
use countersign::env::{Clock as _, Entropy as _, SystemClock, SystemEntropy};
use countersign::pb;
use countersign::pb::attestation_service_client::AttestationServiceClient;
use countersign::pb::mandate_service_client::MandateServiceClient;
use countersign::pb::provisioning_service_client::ProvisioningServiceClient;
use countersign::x509::Profile;
use countersign::x509::bundle::certificate_pem;
use tokio::task::JoinSet;

use crate::world::{Caller, World};

/// Requests under way at once.
const CONCURRENT: usize = 32;
/// People of one batch.
const BATCH_LEN: usize = 1_000;
/// How long a gate may take to get its first lease, or to permit: a machine of two cores has a thousand of them.
const PATIENCE_MS: u64 = 300_000;
const LOOK: Duration = Duration::from_millis(20);

/// How large it is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sizes {
    pub(crate) gateways: usize,
    pub(crate) partners: usize,
    pub(crate) people: usize,
}

/// How long each step took, and from when to when it counts.
#[derive(Debug, Default)]
pub(crate) struct Times(Vec<(&'static str, Duration)>);

impl Times {
    fn note(&mut self, step: &'static str, since_ms: u64) {
        self.0.push((step, Duration::from_millis(SystemClock.boot_ms() - since_ms)));
    }

    /// The steps.
    pub(crate) fn steps(&self) -> impl Iterator<Item = &'static str> {
        self.0.iter().map(|(step, _)| *step)
    }
}

impl fmt::Display for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|(step, took)| writeln!(f, "{:>10.3} s  {step}", took.as_secs_f64()))
    }
}

/// Runs it.
pub(crate) async fn run(sizes: Sizes) -> Times {
    let mut times = Times::default();
    let begin = SystemClock.boot_ms();
    let mut world = World::start().await;
    times.note("empty folder to a service of two officers", begin);
    let since = SystemClock.boot_ms();
    let registered = register(&world, sizes.gateways).await;
    times.note("gateways registered, each by two signatures", since);
    let since = SystemClock.boot_ms();
    let gates = Arc::new(connect(&world, registered).await);
    times.note("gateways connected, each with a lease", since);
    let since = SystemClock.boot_ms();
    stop(&world, sizes.gateways).await;
    times.note("stop of everything to its enforcement at every gateway", since);
    times.note("EMPTY STATE TO STOP ENFORCED", begin);

    let lifted = SystemClock.boot_ms();
    lift(&world).await;
    times.note("the stop released, by two signatures", lifted);
    let people = onboard(&world, sizes, &mut times).await;
    let since = SystemClock.boot_ms();
    permitted(&gates, &people).await;
    times.note("each person permitted at a gateway", since);
    times.note("LIFT TO EVERYBODY PERMITTED, FROM NOBODY ON RECORD", lifted);

    let since = SystemClock.boot_ms();
    stop(&world, sizes.gateways).await;
    assert!(gates.iter().all(|gate| !gate.decide(&people[0], &question().request()).is_permit()));
    times.note("a second stop of everything to its enforcement", since);
    let lifted = SystemClock.boot_ms();
    lift(&world).await;
    permitted(&gates, &people).await;
    times.note("LIFT TO EVERYBODY PERMITTED AGAIN, ALL ON RECORD", lifted);
    for gate in Arc::into_inner(gates).into_iter().flatten() {
        gate.shutdown().await;
    }
    world.close().await;
    times
}

fn question() -> Question {
    Question::inference("mythos-5").from_place(Place::Us)
}

async fn register(world: &World, count: usize) -> Vec<Caller> {
    let mut registered = Vec::new();
    for n in 0..count {
        registered.push(world.gateway(&format!("gw-{n}")).await);
    }
    registered
}

fn config(world: &World, caller: &Caller) -> GateConfig {
    let settings = Arc::clone(&world.running().app().state().settings);
    GateConfig {
        target: Target {
            address: world.running().address().to_string(),
            server_name: Some("localhost".to_owned()),
            system_bundle_pem: world.system_pem(),
        },
        identity: Identity::from_pem(&certificate_pem(&caller.certificate), &caller.key.to_pem()).unwrap(),
        profile: Profile::new(settings.trust_domain.parse().unwrap(), settings.arc.parse().unwrap(), None),
        log_key: settings.log_key.as_slice().try_into().unwrap(),
        strength: Strength { per_request: true, resumption_off: true, ..Strength::default() },
        clock: world.clock.clone(),
        entropy: Arc::new(SystemEntropy),
    }
}

/// Does something for each, some at once; the results in order.
async fn each<T, F>(items: impl Iterator<Item = F>) -> Vec<T>
where
    T: Send + 'static,
    F: Future<Output = T> + Send + 'static,
{
    let (mut running, mut done) = (JoinSet::new(), Vec::new());
    for (at, item) in items.enumerate() {
        if running.len() == CONCURRENT {
            done.push(running.join_next().await.unwrap().unwrap());
        }
        running.spawn(async move { (at, item.await) });
    }
    done.extend(running.join_all().await);
    done.sort_by_key(|(at, _)| *at);
    done.into_iter().map(|(_, done)| done).collect()
}

async fn connect(world: &World, registered: Vec<Caller>) -> Vec<Gate> {
    let configs: Vec<_> = registered.iter().map(|caller| config(world, caller)).collect();
    each(configs.into_iter().map(|config| async move {
        let gate = Gate::connect(config).await.unwrap();
        gate.ready(Duration::from_millis(PATIENCE_MS)).await.unwrap();
        gate
    }))
    .await
}

/// Stops everything, with one signature, and waits until every gateway has said that it is enforced.
async fn stop(world: &World, gateways: usize) {
    let command = Command::Stop { scope: StopScope::All, reason: RevocationReason::Drill };
    let done = world.restrict(command, pb::Wait::Enforced).await.unwrap();
    assert_eq!(done.status, i32::from(pb::EnforcementStatus::Enforced), "{done:?}");
    assert!(done.acked.len() >= gateways && done.lease_expired.is_empty(), "{done:?}");
}

async fn lift(world: &World) {
    world.enact(Command::ReleaseStop(StopScope::All)).await.unwrap();
    // What widens takes effect a second after its record; the clock is the drill's.
    world.clock.advance_ms(2_000);
}

/// Partners, their people, decisions about them, tokens and certificates; the certificates.
async fn onboard(world: &World, sizes: Sizes, times: &mut Times) -> Vec<Vec<u8>> {
    let since = SystemClock.boot_ms();
    let mut entities = Vec::new();
    for _ in 0..sizes.partners {
        entities.push(world.partner().await);
    }
    times.note("partners: applied, screened, activated, in the annex, granted", since);
    let since = SystemClock.boot_ms();
    let subjects = import(world, &entities, sizes.people).await;
    times.note("people imported by one officer", since);
    let since = SystemClock.boot_ms();
    vet(world, &subjects).await;
    times.note("people decided on by another, a signature for a thousand", since);
    let since = SystemClock.boot_ms();
    let tokens = tokens(world, &subjects).await;
    times.note("tokens recorded, whose secrets stay with who made them", since);
    let since = SystemClock.boot_ms();
    let certificates = enroll(world, tokens).await;
    times.note("keys made and certificates issued", since);
    // Of what widens, the last second.
    world.clock.advance_ms(2_000);
    certificates
}

async fn import(world: &World, entities: &[EntityId], count: usize) -> Vec<SubjectId> {
    let person = |n: usize| pb::ImportedPerson {
        entity_id: entities[n % entities.len()].to_string(),
        reference: format!("E-{n}"),
        relation: "EMPLOYEE".to_owned(),
        ..Default::default()
    };
    let people: Vec<_> = (0..count).map(person).collect();
    let mut client = ProvisioningServiceClient::new(world.alice());
    let mut subjects = Vec::new();
    for call in people.chunks(8 * BATCH_LEN) {
        let batch = |people: &[_]| pb::ImportPeopleRequest { people: people.to_vec(), ..Default::default() };
        let batches: Vec<_> = call.chunks(BATCH_LEN).map(batch).collect();
        let answer = client.import_people(tokio_stream::iter(batches)).await.unwrap().into_inner();
        subjects.extend(answer.outcomes.iter().map(|one| one.subject_id.parse::<SubjectId>().unwrap()));
    }
    subjects
}

async fn vet(world: &World, subjects: &[SubjectId]) {
    let evidence = EvidenceKind::CitizenOrNational;
    let vetting = Vetting {
        status: evidence.status(),
        evidence,
        verified_on: world.clock.now().day(),
        assurance: Assurance::Ial2,
    };
    let decision = SubjectDecision::Approve { vetting: Some(vetting), reverify_due: None };
    let mut client = MandateServiceClient::new(world.bob());
    for batch in subjects.chunks(BATCH_LEN) {
        let ruling = |subject: &SubjectId| Ruling { subject: *subject, decision: decision.clone() };
        let command = to_bytes(&Command::DecideSubjects(batch.iter().map(ruling).collect())).into();
        let prepared =
            client.prepare_rulings(pb::PrepareRulingsRequest { command }).await.unwrap().into_inner();
        assert!(prepared.outcomes.iter().all(|one| one.outcome == "READY"));
        let signature = crate::world::sign(&world.bob.key, MANDATE_PREFIX, &prepared.mandate).into();
        let approvals = vec![pb::Approval { officer: "bob".to_owned(), signature }];
        world.submit(prepared.mandate.to_vec(), approvals).await.unwrap();
    }
}

/// Tokens as the partner makes them: the service gets digests.
async fn tokens(world: &World, subjects: &[SubjectId]) -> Vec<String> {
    let now = world.clock.now();
    let mut client = ProvisioningServiceClient::new(world.alice());
    let mut texts = Vec::new();
    for batch in subjects.chunks(BATCH_LEN) {
        let made = batch.iter().map(|subject| {
            let (id, secret) = (TokenId::from_parts(now, SystemEntropy.bytes16()), SystemEntropy.bytes32());
            texts.push(format!("{id}.{}", hex::encode(secret)));
            pb::MadeToken {
                subject_id: subject.to_string(),
                token_id: id.to_string(),
                secret_sha256: Digest::of(&secret).0.to_vec().into(),
                expires_at: now.plus_ms(86_400_000).to_string(),
            }
        });
        let request = pb::CreateTokensRequest { tokens: made.collect(), validate_only: false };
        let answer = client.create_tokens(request).await.unwrap().into_inner();
        assert!(answer.outcomes.iter().all(|one| one.outcome == "CREATED"));
    }
    texts
}

async fn enroll(world: &World, tokens: Vec<String>) -> Vec<Vec<u8>> {
    let (channel, curve) = (world.connect(None).await, world.curve);
    let clock = Arc::clone(&world.clock);
    each(tokens.into_iter().map(|token| {
        let mut client = AttestationServiceClient::new(channel.clone());
        let clock = Arc::clone(&clock);
        async move {
            // So that the buckets of the rates fill again.
            clock.advance_ms(1);
            let key = countersign::x509::ClientKey::generate(curve).unwrap();
            let csr = key.request().unwrap().into();
            client.enroll(pb::EnrollRequest { token, csr }).await.unwrap().into_inner().certificate.to_vec()
        }
    }))
    .await
}

/// Waits until each person is permitted at a gateway: each asks another one.
async fn permitted(gates: &Arc<Vec<Gate>>, people: &[Vec<u8>]) {
    each(people.iter().cloned().enumerate().map(|(at, leaf)| {
        let gates = Arc::clone(gates);
        async move {
            let (gate, question) = (&gates[at % gates.len()], question());
            let since = SystemClock.boot_ms();
            while !gate.decide(&leaf, &question.request()).is_permit() {
                assert!(
                    SystemClock.boot_ms() - since < PATIENCE_MS,
                    "{:?}",
                    gate.decide(&leaf, &question.request())
                );
                // The card of an entity comes when it is asked for.
                gate.decide_or_ask(&leaf, &question.request()).await;
                tokio::time::sleep(LOOK).await;
            }
        }
    }))
    .await;
}
