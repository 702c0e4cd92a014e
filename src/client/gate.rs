//! The gate: what a program in front of a model holds. Decides at once on what it has, and fails closed.

use std::sync::atomic::AtomicI64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use thiserror::Error;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tonic::transport::Channel;

use super::index::Index;
use super::keep::{self, SnapshotFile};
use super::link::{Keeper, TICK_MS};
use super::metrics::Counts;
use super::published::{Published, Standing};
use super::renew::Renewal;
use super::replica::{Replica, ReplicaConfig};
use super::reports::{Queue, Reporter, Reports};
use super::transport::{Identity, Target, TransportFault};
use super::trust::Trust;
use crate::domain::algorithm::AlgorithmProfile;
use crate::domain::certificate::{Certificate, Facts};
use crate::domain::decision::{
    Access, CredentialFault, Decision, Denial, Gate as GateNumber, LOGIC_VERSION, Legal, LegalReason, Rule,
    StateFault,
};
use crate::domain::enforce::message::{SoftwareName, Strength};
use crate::domain::enforce::report::{AskedMore, CHAIN_LEN_MAX, DecisionReport};
use crate::domain::enforce::{Position, Request, decide};
use crate::domain::head::PUBLIC_KEY_LEN;
use crate::domain::id::{BootId, Digest, EntityId, Ordinal, SubjectId};
use crate::domain::time::{Now, Timestamp};
use crate::env::{Clock, Entropy};
use crate::x509::{CertificateFault, Profile, TrustBundle, chain};

/// Entities that may wait to be asked for. When it is full the next decision about an entity asks again.
const WANTS_WAITING_MAX: usize = 1_024;
/// How often a decision is made again because the view was replaced under it. Then nothing is permitted.
const ROUNDS_MAX: usize = 4;

/// What a gate needs to know.
#[derive(Clone)]
pub struct GateConfig {
    /// Where the server is, and how it proves itself.
    pub target: Target,
    /// How this gateway proves itself.
    pub identity: Identity,
    /// Trust domain and arc of the certificates that it will judge.
    pub profile: Profile,
    /// The public key that signs heads: Ed25519, from the operator's records, not from the server.
    pub log_key: [u8; PUBLIC_KEY_LEN],
    /// What this gateway can promise.
    pub strength: Strength,
    /// Its clocks.
    pub clock: Arc<dyn Clock>,
    /// Its randomness.
    pub entropy: Arc<dyn Entropy>,
}

/// What a gate does beside deciding. Nothing of it unless it is asked for.
#[derive(Debug, Clone, Default)]
pub struct GateOptions {
    /// Keeps its view across restarts.
    pub snapshot: Option<SnapshotFile>,
    /// Renews its own certificate.
    pub renewal: Option<Renewal>,
    /// Reports its decisions. When the server takes none for too long, nothing is permitted any more.
    pub reports: Option<Reports>,
    /// What joins it to its gateway, as the fleet shows it. Without one: `library`.
    pub adapter: Option<SoftwareName>,
}

/// A gate with lease was not there in time.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("the gate has no lease yet: {0}")]
pub struct NotReady(pub String);

pub(super) struct Shared {
    pub(super) published: Arc<Published>,
    pub(super) trust: ArcSwapOption<Trust>,
    /// The authorities that the server may prove itself by, PEM.
    pub(super) system_pem: ArcSwap<String>,
    pub(super) channel: ArcSwapOption<Channel>,
    pub(super) last_fault: Mutex<String>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) index: Index,
    pub(super) counts: Counts,
    /// When the gate's own certificate ends, in milliseconds; 0: it is not known.
    pub(super) not_after_ms: AtomicI64,
    /// Where decisions wait to be reported, if they are.
    pub(super) reports: Option<Arc<Queue>>,
    /// Which algorithms the service uses, by the bundle that the gate was configured with; never changes.
    pub(super) algorithms: AlgorithmProfile,
    /// Where the tasks of the gate run.
    pub(super) runtime: Handle,
    profile: Profile,
    wants: mpsc::Sender<EntityId>,
}

/// A decision at a gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GateDecision {
    /// The decision.
    pub decision: Decision,
    /// The state of the world that was judged.
    pub as_of: Position,
    /// For a permit: when it ends at the latest, on this machine's boot clock. It is to be used within 250 ms or asked
    /// again all the same.
    pub good_until_boot_ms: Option<u64>,
    /// The same on the wall clock.
    pub good_until: Option<Timestamp>,
    /// Why the certificate was not accepted, in detail for the log.
    pub certificate_fault: Option<CertificateFault>,
    /// The entity of the certificate, if it has one.
    pub entity: Option<EntityId>,
    /// The subject of the certificate, if it has one.
    pub subject: Option<SubjectId>,
    /// The number of the certificate, if it was accepted.
    pub ordinal: Option<Ordinal>,
}

impl GateDecision {
    /// Permitted?
    pub fn is_permit(&self) -> bool {
        self.decision.is_permit()
    }

    fn closed(denial: Denial, as_of: Position) -> Self {
        let decision = Decision {
            legal: Legal::Indeterminate,
            rule: Rule::Gate(GateNumber::G1),
            reason: LegalReason::NotJudged,
            clause: "",
            determination: None,
            license: None,
            access: Access::Deny,
            denials: vec![denial],
            policy: None,
            ask_server: false,
        };
        Self {
            decision,
            as_of,
            good_until_boot_ms: None,
            good_until: None,
            certificate_fault: None,
            entity: None,
            subject: None,
            ordinal: None,
        }
    }
}

/// How the gate stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GateStatus {
    /// Up to which record it is.
    pub position: Position,
    /// Why nothing is permitted now, if so.
    pub fault: Option<StateFault>,
    /// How long the lease still is.
    pub lease_left_ms: u64,
    /// What went wrong last; empty: nothing yet.
    pub last_fault: String,
}

/// A gate. One task keeps its subscription; [`Gate::shutdown`] joins it, and dropping the gate ends it.
pub struct Gate {
    pub(super) shared: Arc<Shared>,
    stop: watch::Sender<bool>,
    task: Option<JoinHandle<()>>,
    reporter: Option<(watch::Sender<bool>, JoinHandle<()>)>,
}

impl Gate {
    /// Begins to subscribe, and returns at once: until the first lease everything is denied.
    ///
    /// # Errors
    /// The configuration cannot work: identity, bundle or address are not in their form.
    pub async fn connect(config: GateConfig) -> Result<Self, TransportFault> {
        Self::connect_with(config, GateOptions::default()).await
    }

    /// The same with options.
    ///
    /// # Errors
    /// The same.
    pub async fn connect_with(config: GateConfig, options: GateOptions) -> Result<Self, TransportFault> {
        config.target.check(Some(&config.identity), &config.clock)?;
        let algorithms = TrustBundle::from_pem(&config.target.system_bundle_pem)?.algorithms()?;
        let config = GateConfig { profile: config.profile.with_algorithms(algorithms), ..config };
        let (wants, wants_waiting) = mpsc::channel(WANTS_WAITING_MAX);
        let (stop, stopped) = watch::channel(false);
        let published = Arc::new(Published::default());
        let (reports, waiting) = options.reports.map(Queue::new).unzip();
        let reports = reports.map(Arc::new);
        let shared = Arc::new(Shared {
            published: Arc::clone(&published),
            trust: ArcSwapOption::empty(),
            system_pem: ArcSwap::from_pointee(config.target.system_bundle_pem.clone()),
            channel: ArcSwapOption::empty(),
            last_fault: Mutex::default(),
            clock: Arc::clone(&config.clock),
            index: Index::default(),
            counts: Counts::default(),
            not_after_ms: AtomicI64::new(0),
            reports: reports.clone(),
            runtime: Handle::current(),
            profile: config.profile.clone(),
            algorithms,
            wants,
        });
        let boot = BootId::from_bytes(config.entropy.bytes16());
        let replica = ReplicaConfig {
            boot,
            strength: config.strength,
            log_key: config.log_key,
            adapter: options.adapter.clone(),
        };
        let mut replica = Replica::new(replica, published);
        if let Some(file) = &options.snapshot {
            resume(&mut replica, file).await;
        }
        let reporter = reports.zip(waiting).map(|(queue, waiting)| {
            let (stop, stopped) = watch::channel(false);
            let reporter = Reporter::new(Arc::clone(&shared), queue, waiting, boot, stopped);
            (stop, tokio::spawn(reporter.run()))
        });
        let keeper = Keeper::new(config, options, replica, Arc::clone(&shared), (wants_waiting, stopped));
        let task = Some(tokio::spawn(keeper.run()));
        Ok(Self { shared, stop, task, reporter })
    }

    /// Waits until there is a lease.
    ///
    /// # Errors
    /// It took longer than `timeout`; the gate goes on trying.
    pub async fn ready(&self, timeout: Duration) -> Result<(), NotReady> {
        let until_ready = async {
            while self.status().fault.is_some() || self.shared.trust.load().is_none() {
                tokio::time::sleep(Duration::from_millis(TICK_MS)).await;
            }
        };
        let not_ready = |_| NotReady(self.status().last_fault);
        tokio::time::timeout(timeout, until_ready).await.map_err(not_ready)
    }

    /// Decides, on what is known here. Takes about a microsecond for a certificate that was seen before, and one
    /// signature check for another.
    pub fn decide(&self, leaf_der: &[u8], request: &Request<'_>) -> GateDecision {
        self.shared.decide(leaf_der, request)
    }

    /// Asks for the card of an entity before it is needed.
    pub fn want(&self, entity: EntityId) {
        self.shared.want(entity);
    }

    /// The authorities that the server may prove itself by, as the view has them (PEM): for other connections, and to be
    /// given to the next gate.
    pub fn system_bundle_pem(&self) -> String {
        String::clone(&self.shared.system_pem.load())
    }

    /// How the gate stands.
    pub fn status(&self) -> GateStatus {
        let shared = &self.shared;
        let (boot_ms, now) = (shared.clock.boot_ms(), shared.clock.now());
        let standing = shared.published.load();
        GateStatus {
            position: standing.view.as_ref().map(|view| view.position).unwrap_or_default(),
            fault: shared.published.fault(&standing, boot_ms, now),
            lease_left_ms: standing.lease_until_ms.map_or(0, |until| until.saturating_sub(boot_ms)),
            last_fault: shared.last_fault.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }

    /// Ends the subscription and waits for its task. Decisions are denied once the lease has run out.
    pub async fn shutdown(mut self) {
        // Tasks that panicked have nothing more to end. The connection is kept until the last decisions are reported.
        if let Some((stop, task)) = self.reporter.take() {
            stop.send_replace(true);
            let _ = task.await;
        }
        self.stop.send_replace(true);
        if let Some(task) = self.task.take() {
            let _ = task.await;
        }
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        // Nobody watches any more: what is open is closed, and nothing is opened.
        let standing = self.shared.published.load();
        let seq = standing.view.as_ref().map(|view| view.position.seq).unwrap_or_default();
        self.shared.index.end(seq, Denial::StaleView.as_str());
        self.stop.send_replace(true);
        let reporter = self.reporter.take().map(|(_, task)| task);
        self.task.take().into_iter().chain(reporter).for_each(|task| task.abort());
    }
}

/// What a request says beside model, form and place.
fn asked_more(request: &Request<'_>) -> Option<AskedMore> {
    let chain = &request.chain;
    (chain.hops.len() <= CHAIN_LEN_MAX).then(|| AskedMore {
        serving: request.serving,
        purpose: request.purpose.clone(),
        chain: chain.hops.clone(),
        end_user_identified: chain.end_user_identified,
        logic: LOGIC_VERSION,
    })
}

impl Shared {
    pub(super) fn decide(&self, leaf_der: &[u8], request: &Request<'_>) -> GateDecision {
        let decided = self.judge(leaf_der, request);
        if self.report(&decided, (decided.is_permit(), decided.decision.code()), request) {
            return decided;
        }
        GateDecision::closed(Denial::StateUnavailable, decided.as_of)
    }

    /// Notes a decision for the server. False: there is no room, and this permit may not be given.
    pub(super) fn report(
        &self,
        decided: &GateDecision,
        (is_permit, code): (bool, &str),
        request: &Request<'_>,
    ) -> bool {
        let Some(queue) = &self.reports else { return true };
        let report = |is_permit, code: &str| DecisionReport {
            at: self.clock.now(),
            is_permit,
            code: code.to_owned(),
            model: request.model.to_owned(),
            form: request.form,
            place: request.place,
            subject: decided.subject,
            entity: decided.entity,
            ordinal: decided.ordinal,
            as_of: decided.as_of,
            count: 1,
            asked: asked_more(request),
        };
        if queue.put(report(is_permit, code)).is_ok() {
            return true;
        }
        // What is answered instead is a denial, and is reported as one.
        let _ = queue.put(report(false, Denial::StateUnavailable.as_str()));
        false
    }

    /// Decides and tells nobody.
    pub(super) fn judge(&self, leaf_der: &[u8], request: &Request<'_>) -> GateDecision {
        let decided = self.with_certificate(leaf_der, |certificate| {
            for _ in 0..ROUNDS_MAX {
                let standing = self.published.load();
                let decided = self.decide_on(&standing, certificate, request);
                // A permit counts as computed here: if the view was replaced meanwhile, and perhaps acknowledged, it is
                // computed again on the new one.
                if !decided.is_permit() || Arc::ptr_eq(&standing, &self.published.load()) {
                    return decided;
                }
            }
            GateDecision::closed(Denial::StaleView, Position::default())
        });
        self.counts.decided(&decided);
        decided
    }

    fn decide_on(
        &self,
        standing: &Standing,
        certificate: Result<&Arc<Certificate>, Option<CertificateFault>>,
        request: &Request<'_>,
    ) -> GateDecision {
        let (boot_ms, now) = (self.clock.boot_ms(), self.clock.now());
        let fault = self.published.fault(standing, boot_ms, now);
        let Some(view) = &standing.view else {
            return GateDecision::closed(Denial::StaleView, Position::default());
        };
        let credential = certificate.map(AsRef::as_ref).map_err(|_| CredentialFault::Invalid);
        let decision = decide(view.as_ref(), fault, credential, request, Now::with_margin(now));
        let good_until_boot_ms = standing.lease_until_ms.filter(|_| decision.is_permit());
        let facts = certificate.ok().and_then(|certificate| match &certificate.facts {
            Facts::Access(facts) => Some(facts),
            Facts::System(_) | Facts::Canary(_) => None,
        });
        let left_ms = |until: u64| i64::try_from(until.saturating_sub(boot_ms)).unwrap_or(0);
        GateDecision {
            decision,
            as_of: view.position,
            good_until_boot_ms,
            good_until: good_until_boot_ms.map(|until| now.plus_ms(left_ms(until))),
            certificate_fault: certificate.err().flatten(),
            entity: facts.map(|facts| facts.entity.entity),
            subject: facts.map(|facts| facts.subject),
            ordinal: certificate.ok().map(|certificate| certificate.ordinal),
        }
    }

    /// Does something with the verified certificate; `Err(None)` when no authorities are known yet. It is lent, not
    /// given: a count of references would be written by every thread that decides about the same certificate.
    pub(super) fn with_certificate<R>(
        &self,
        leaf_der: &[u8],
        then: impl FnOnce(Result<&Arc<Certificate>, Option<CertificateFault>>) -> R,
    ) -> R {
        let trust = self.trust.load();
        let Some(trust) = trust.as_ref() else { return then(Err(None)) };
        // Before hashing: nobody makes this process hash megabytes.
        if leaf_der.len() > LEAF_LEN_MAX {
            return then(Err(Some(CertificateFault::TooLarge)));
        }
        let hash = Digest::of(leaf_der);
        if let Some(certificate) = trust.cache.shard(&hash).load().get(&hash) {
            self.counts.known.add();
            return then(Ok(certificate));
        }
        self.counts.read.add();
        match chain::read(leaf_der, &self.profile, &trust.bundle) {
            Ok(certificate) => {
                let certificate = Arc::new(certificate);
                trust.cache.put(hash, Arc::clone(&certificate));
                then(Ok(&certificate))
            }
            Err(fault) => then(Err(Some(fault))),
        }
    }

    pub(super) fn want(&self, entity: EntityId) {
        // Full: the next decision about the entity asks again.
        let _ = self.wants.try_send(entity);
    }

    pub(super) fn note_fault(&self, fault: String) {
        *self.last_fault.lock().unwrap_or_else(PoisonError::into_inner) = fault;
    }
}

/// Begins with what an earlier run kept, if there is anything that can be used.
async fn resume(replica: &mut Replica, file: &SnapshotFile) {
    let path = file.path.clone();
    let read = tokio::task::spawn_blocking(move || keep::read(&path)).await;
    let resumed = match read {
        Ok(Ok(None)) => return,
        Ok(Ok(Some(kept))) => replica.resume(kept),
        Ok(Err(fault)) => Err(fault.to_string()),
        Err(error) => Err(error.to_string()),
    };
    match resumed {
        Ok(()) => tracing::info!(seq = %replica.position().seq, "the gate begins with the view that it kept"),
        Err(why) => {
            tracing::warn!(path = %file.path.display(), why, "the kept view is passed over; the gate begins empty");
        }
    }
}

/// The longest leaf that is looked at; the parser has the same limit.
const LEAF_LEN_MAX: usize = 4_096;

/// Returns when the gate is shut down; its sender is gone only when the gate is.
pub(super) async fn told_to_stop(stopped: &mut watch::Receiver<bool>) {
    let _ = stopped.wait_for(|stop| *stop).await;
}
