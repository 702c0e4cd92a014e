//! A full rotation under continuous load of issue, renew, verify and gateways over mTLS, by a program that asserts every answer:
//! no request fails, nobody is denied wrongly, and nothing of a revoked authority is permitted anywhere.
//!
//! Small here; `COUNTERSIGN_ROTATION_LOAD=50` sets the number of gateways, as `tests/rotation-load` does for the figure in
//! docs/ratios.md.

mod system;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use countersign::client::Gate;
use countersign::domain::authority::AuthorityState;
use countersign::domain::certificate::AuthorityKind;
use countersign::domain::command::Command;
use countersign::domain::id::{AnnouncementId, AuthorityId, EntityId, SubjectId};
use countersign::domain::person::EvidenceKind;
use countersign::domain::revocation::{RevocationReason, RevocationScope, StopScope};
use countersign::domain::time::Timestamp;
use countersign::env::{Clock as _, Entropy as _, SystemClock, SystemEntropy};
use countersign::pb;
use countersign::pb::attestation_service_client::AttestationServiceClient;
use tonic::transport::Channel;

use crate::calls::key;
use crate::gate::{self, STRONG, permits, question};
use crate::kill::asked;
use crate::world::{Caller, World};

const ACCESS: AuthorityKind = AuthorityKind::Access;
const REASON: RevocationReason = RevocationReason::CaCompromise;
/// Gateways and holders of the small version.
const GATEWAYS: usize = 4;
const HOLDERS: usize = 6;
/// How long a step may take before the test fails.
const PATIENCE: Duration = Duration::from_secs(120);
/// Renewals of one holder are so far apart, unless it has to.
const PAUSE: Duration = Duration::from_millis(150);

/// What was asked and answered as it has to be.
#[derive(Debug, Default)]
struct Counts {
    issued: AtomicU64,
    renewed: AtomicU64,
    verified: AtomicU64,
    evaluated: AtomicU64,
    permits: AtomicU64,
    denials: AtomicU64,
}

impl Counts {
    fn one(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// What the load shares.
struct Load {
    world: World,
    counts: Counts,
    /// The certificate of each holder that is good now.
    good: Mutex<BTreeMap<SubjectId, Vec<u8>>>,
    /// Certificates that are refused everywhere, from before this was written on.
    dead: Mutex<Vec<Vec<u8>>>,
    /// Issued by this authority they are cut from this instant on.
    cut: Mutex<Option<(AuthorityId, Timestamp)>>,
    is_over: AtomicBool,
}

impl Load {
    fn goes_on(&self) -> bool {
        !self.is_over.load(Ordering::Relaxed)
    }

    fn one_good(&self, number: usize) -> Option<Vec<u8>> {
        let good = self.good.lock().unwrap();
        good.values().nth(number % good.len().max(1)).cloned()
    }

    fn one_dead(&self, number: usize) -> Option<Vec<u8>> {
        let dead = self.dead.lock().unwrap();
        dead.get(number % dead.len().max(1)).cloned()
    }

    /// Is a denial of this certificate right? It was replaced meanwhile, and what it was replaced for has come.
    fn may_be_denied(&self, leaf: &[u8]) -> bool {
        let is_good = self.good.lock().unwrap().values().any(|good| good == leaf);
        let cut = *self.cut.lock().unwrap();
        let has_come = |at: Timestamp| self.world.clock.now() >= at.plus_ms(-1_000);
        !is_good && cut.is_some_and(|(issuer, at)| has_come(at) && self.world.read(leaf).issuer == issuer)
    }

    fn assert_permit(&self, who: &str, leaf: &[u8], is_permit: bool, said: &dyn std::fmt::Debug) {
        assert!(is_permit || self.may_be_denied(leaf), "{who} denied a good certificate: {said:?}");
        Counts::one(if is_permit { &self.counts.permits } else { &self.counts.denials });
    }
}

/// New certificates, one after the other, of people who are there already.
async fn issue(load: Arc<Load>, subject: SubjectId) {
    while load.goes_on() {
        let token = load.world.token(subject).await;
        load.world.redeem(&token, &key()).await.expect("an enrollment");
        Counts::one(&load.counts.issued);
        tokio::time::sleep(PAUSE).await;
    }
}

/// One holder renews again and again, each time with the certificate it has.
async fn renew(load: Arc<Load>, subject: SubjectId) {
    let mut own = load.world.enroll(subject).await;
    load.good.lock().unwrap().insert(subject, own.certificate.clone());
    while load.goes_on() {
        tokio::time::sleep(PAUSE).await;
        let (channel, next) = (load.world.connect_as(&own).await, key());
        let window =
            AttestationServiceClient::new(channel.clone()).get_renewal(pb::GetRenewalRequest {}).await;
        window.expect("when to renew");
        let certificate = load.world.renew(&channel, &next).await.expect("a renewal");
        own = Caller { key: next, certificate };
        load.good.lock().unwrap().insert(subject, own.certificate.clone());
        Counts::one(&load.counts.renewed);
    }
}

/// The server's own answers.
async fn ask(load: Arc<Load>, channel: Channel) {
    let mut number = 0;
    let mut client = AttestationServiceClient::new(channel.clone());
    while load.goes_on() {
        number += 1;
        if let Some(leaf) = load.one_good(number) {
            let request = pb::VerifyRequest { certificate: leaf.clone().into(), ..Default::default() };
            let verified = client.verify(request).await.expect("a verification").into_inner();
            assert!(verified.valid || load.may_be_denied(&leaf), "{verified:?}");
            Counts::one(&load.counts.verified);
            let decision = load.world.evaluate(&channel, &leaf, "mythos-5").await;
            load.assert_permit("the server", &leaf, decision.permit, &decision);
            Counts::one(&load.counts.evaluated);
        }
        if let Some(leaf) = load.one_dead(number) {
            let decision = load.world.evaluate(&channel, &leaf, "mythos-5").await;
            assert!(!decision.permit, "the server permitted what is revoked: {decision:?}");
            Counts::one(&load.counts.denials);
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// One gateway decides by itself.
async fn decide(load: Arc<Load>, gate: Gate, entity: EntityId, first: usize) {
    gate.want(entity);
    let mut number = first;
    let warm = load.one_good(0).expect("a certificate");
    gate::until(&gate, &warm, |gate, leaf| permits(gate, leaf) || load.may_be_denied(leaf)).await;
    while load.goes_on() {
        for _ in 0..8 {
            number += 1;
            if let Some(leaf) = load.one_good(number) {
                let decision = gate.decide(&leaf, &question("mythos-5"));
                load.assert_permit("a gateway", &leaf, decision.is_permit(), &(&decision, gate.status()));
            }
            if let Some(leaf) = load.one_dead(number) {
                let decision = gate.decide(&leaf, &question("mythos-5"));
                assert!(!decision.is_permit(), "a gateway permitted what is revoked: {decision:?}");
                Counts::one(&load.counts.denials);
            }
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    gate.shutdown().await;
}

/// Until something is so, with a deadline.
async fn eventually(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let until_so = async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, until_so).await.is_ok(), "not in time: {what}");
}

impl Load {
    async fn rest(&self) {
        tokio::time::sleep(Duration::from_millis(600)).await;
    }

    /// Prepares and activates the next authority, as officers do it.
    async fn rotate(&self) -> (AuthorityId, AuthorityId) {
        let old = self.world.running().app().state().authority(ACCESS).unwrap().id;
        let next = self.world.prepare(ACCESS).await;
        eventually("every gateway knows it", async || {
            self.world.enact(Command::ActivateAuthority(next)).await.is_ok()
        })
        .await;
        (old, next)
    }

    /// Has everybody renew, and cuts what the old one issued.
    async fn cut(&self, old: AuthorityId) {
        let id = AnnouncementId::from_parts(self.world.clock.now(), SystemEntropy.bytes16());
        let in_ms = 6_000;
        let cut_at = self.world.clock.now().plus_ms(in_ms);
        let scope = RevocationScope::Issuer(old);
        let command = Command::AnnounceRevocation { id, scope, cut_at, reason: REASON };
        self.world.restrict(command, pb::Wait::Enforced).await.unwrap();
        eventually("all are renewed", async || {
            let good: Vec<_> = self.good.lock().unwrap().values().cloned().collect();
            good.iter().all(|leaf| self.world.read(leaf).issuer != old)
        })
        .await;
        *self.cut.lock().unwrap() = Some((old, cut_at));
        assert!(self.world.clock.now() < cut_at.plus_ms(-1_000), "all were renewed before the cut");
        eventually("it is cut", async || self.world.clock.now() > cut_at.plus_ms(1_000)).await;
    }

    /// Revokes the old one with two officers, and has what it issued be refused from then on.
    async fn revoke(&self, old: AuthorityId) {
        let kept: Vec<_> = self.good.lock().unwrap().values().cloned().collect();
        *self.cut.lock().unwrap() = Some((old, self.world.clock.now()));
        let stop = Command::Stop { scope: StopScope::Issuer(old), reason: REASON };
        let done = self.world.restrict(stop, pb::Wait::Enforced).await.unwrap();
        assert_eq!(done.status(), pb::EnforcementStatus::Enforced, "{done:?}");
        self.world.enact(Command::RevokeAuthority { authority: old, reason: REASON }).await.unwrap();
        let of_old = kept.into_iter().filter(|leaf| self.world.read(leaf).issuer == old);
        self.dead.lock().unwrap().extend(of_old);
    }

    /// A rotation from prepare to retire, and one that ends in a revocation.
    async fn rotate_and_revoke(&self) {
        let world = &self.world;
        self.rest().await;
        // From prepare to retire: the old one goes while all the load goes on.
        let (old, _) = self.rotate().await;
        self.cut(old).await;
        eventually("nothing of it is left", async || {
            world.enact(Command::RetireAuthority(old)).await.is_ok()
        })
        .await;
        let stands = |id| world.running().app().state().authorities[&id].state;
        assert_eq!(stands(old), AuthorityState::Retired);
        *self.cut.lock().unwrap() = None;
        self.rest().await;
        // And one that is revoked with certificates out: they are refused everywhere from then on.
        let keep = self.good.lock().unwrap().values().cloned().collect::<Vec<_>>();
        let (bad, _) = self.rotate().await;
        eventually("all are renewed", async || {
            let good: Vec<_> = self.good.lock().unwrap().values().cloned().collect();
            good.iter().all(|leaf| world.read(leaf).issuer != bad)
        })
        .await;
        self.revoke(bad).await;
        self.dead.lock().unwrap().extend(keep.into_iter().filter(|leaf| world.read(leaf).issuer == bad));
        assert!(!self.dead.lock().unwrap().is_empty());
        assert_eq!(stands(bad), AuthorityState::Revoked);
        for _ in 0..4 {
            self.rest().await;
        }
    }
}

async fn begin(gateways: usize) -> (Arc<Load>, EntityId, Vec<SubjectId>, Vec<Gate>) {
    let world = World::start().await;
    let entity = world.partner().await;
    let mut subjects = Vec::new();
    for _ in 0..=HOLDERS.max(gateways / 2) {
        subjects.push(world.person(entity, "EMPLOYEE", EvidenceKind::NoUsStatus).await);
    }
    let mut gates = Vec::new();
    for number in 0..gateways {
        let caller = world.gateway(&format!("gw-{number}")).await;
        gates.push(gate::connect(&world, (&caller, world.running().address()), STRONG, &world.clock).await);
    }
    let load = Load {
        world,
        counts: Counts::default(),
        good: Mutex::default(),
        dead: Mutex::default(),
        cut: Mutex::default(),
        is_over: AtomicBool::new(false),
    };
    (Arc::new(load), entity, subjects, gates)
}

/// Begins what goes on in any rotation: holders renew, gateways decide.
async fn load_it(
    load: &Arc<Load>,
    entity: EntityId,
    subjects: &[SubjectId],
    gates: Vec<Gate>,
) -> tokio::task::JoinSet<()> {
    let mut tasks = tokio::task::JoinSet::new();
    // Time goes on as it does outside.
    let clock = Arc::clone(load);
    tasks.spawn(async move {
        let mut last_ms = SystemClock.boot_ms();
        while clock.goes_on() {
            tokio::time::sleep(Duration::from_millis(5)).await;
            let now_ms = SystemClock.boot_ms();
            clock.world.clock.advance_ms(u32::try_from(now_ms - last_ms).unwrap());
            last_ms = now_ms;
        }
    });
    let (_, holders) = subjects.split_first().unwrap();
    for subject in holders {
        tasks.spawn(renew(Arc::clone(load), *subject));
    }
    eventually("all have one", async || load.good.lock().unwrap().len() == holders.len()).await;
    for (number, gate) in gates.into_iter().enumerate() {
        tasks.spawn(decide(Arc::clone(load), gate, entity, number));
    }
    tasks
}

/// Carries a rotation out under the load, and ends the load.
async fn run(load: &Load, tasks: &mut tokio::task::JoinSet<()>, rotation: impl Future<Output = ()>) {
    let mut rotation = std::pin::pin!(rotation);
    loop {
        tokio::select! {
            () = &mut rotation => break,
            // Whoever of the load ends before it is over has found something.
            Some(ended) = tasks.join_next() => ended.expect("the load found a wrong answer"),
        }
    }
    load.is_over.store(true, Ordering::Relaxed);
    while let Some(ended) = tasks.join_next().await {
        ended.expect("the load found a wrong answer");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_rotation_under_load_fails_nobody_and_permits_nothing_that_is_revoked() {
    let gateways = asked("COUNTERSIGN_ROTATION_LOAD").map_or(GATEWAYS, |count| count.parse().unwrap());
    let (load, entity, subjects, gates) = begin(gateways).await;
    let mut tasks = load_it(&load, entity, &subjects, gates).await;
    tasks.spawn(issue(Arc::clone(&load), subjects[0]));
    let asking = load.world.gateway("gw-asking").await;
    let asking = load.world.connect_as(&asking).await;
    tasks.spawn(ask(Arc::clone(&load), asking));
    run(&load, &mut tasks, load.rotate_and_revoke()).await;
    let Counts { issued, renewed, verified, evaluated, permits, denials } = &load.counts;
    let all =
        [issued, renewed, verified, evaluated, permits, denials].map(|count| count.load(Ordering::Relaxed));
    assert!(all.iter().all(|count| *count > 0), "{:?}", load.counts);
    let [issued, renewed, verified, evaluated, permits, denials] = all;
    println!(
        "rotation_under_load: {gateways} gateways, {issued} issued, {renewed} renewed, {verified} verified, {evaluated} \
         evaluated, {permits} permits and {denials} denials as they have to be: 0 failed, 0 wrongly denied, 0 wrongly permitted"
    );
}
