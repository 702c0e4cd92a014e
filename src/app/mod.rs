//! The service itself, without a transport: the one writer and the workflows that orchestrate. Each request reads the
//! clock once, here. Called by `rpc`, `envoy` and `server`; knows no wire format.

mod admission;
mod algorithms;
mod apart;
mod as_of;
mod authorities;
mod automation;
pub mod backup;
mod beneath;
mod calls;
mod crl;
mod decided;
mod engine;
mod enroll;
mod error;
mod evaluate;
mod expired;
mod failure;
mod group;
mod held;
mod hierarchy;
pub mod inspect;
mod issue;
mod mandates;
mod people;
mod provision;
mod readings;
mod recovery;
mod renewals;
mod replay;
mod reports;
mod restoration;
mod restored;
mod restrict;
mod rotation;
mod screening;
mod shared;
mod signals;
mod simulate;
pub mod store;
#[cfg(test)]
mod tests;
mod trust;
mod trusted_time;
mod upkeep;
mod view;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::Mutex;

pub use admission::Admission;
pub use automation::RotationOutlook;
pub use calls::{Call, CallsFault, CallsVerified, Cursor as CallCursor, Recorded};
pub use crl::PublishedCrl;
pub use decided::{Asker, Asking, Cursor as DecisionCursor, DecisionsFault, DecisionsVerified};
pub use engine::Committed;
pub use enroll::{Issuance, TokenText};
pub use error::Error;
pub use evaluate::{Answer, Evaluation, Verification};
pub use mandates::Submitted;
pub use people::{Differing, Known, PEOPLE_MAX, PersonRow, Taken, TakenRows};
pub use provision::{NewToken, Nomination};
pub use recovery::Recovered;
pub use renewals::{Campaign, CampaignCause, RenewalWindow};
pub use replay::{Explained, Exposed, Exposure, Replayed};
pub use restoration::RestorationView;
pub use restrict::{Restriction, Wait};
pub use rotation::{AuthorityStanding, MadeAuthority};
pub use screening::Receiving;
pub use simulate::{Simulation, Stage};
pub use trust::{Term, TrustSet};
pub use trusted_time::TrustedTime;
pub use upkeep::Upkeep;

use self::authorities::Authorities;
use self::crl::Crls;
use self::engine::{Engine, Parts};
use self::evaluate::CertificateCache;
use self::issue::Ordinals;
use self::renewals::Renewals;
use self::rotation::Rotation;
use self::screening::Lists;
use self::shared::Shared;
use self::trust::TrustSets;
use crate::ca::{AuthorityKeys, Signer};
use crate::calls::CallLog;
use crate::decisions::DecisionLog;
use crate::decisions::record::DecisionRecord;
use crate::domain::certificate::{BLOCK_LEN, PrincipalKind};
use crate::domain::codec::to_bytes;
use crate::domain::decided::Keep;
use crate::domain::decision::{LOGIC_VERSION, StateFault};
use crate::domain::enforce::Position;
use crate::domain::event::{Entry, Event};
use crate::domain::head::{
    HeadError, HeadSigner, PUBLIC_KEY_LEN, SIGNATURE_LEN, SignedHead, snapshot_statement,
};
use crate::domain::id::{BootId, Digest, Ordinal, PrincipalId, RequestId, Seq};
use crate::domain::state::State;
use crate::domain::time::Timestamp;
use crate::env::{Clock, Entropy};
use crate::feed::{self, Feed};
use crate::journal::Journal;
use crate::journal::merkle::Frontier;
use crate::journal::snapshot::SnapshotStore;
use crate::metrics::Metrics;
use crate::views::CertificateIndex;
use crate::x509::{CrlBase, Profile};

pub use crate::x509::CrlNumber;

/// The name of the server's own principal.
pub const SERVER_NAME: &str = "server";

/// The keys that a service signs with.
pub struct Keys {
    /// Signs certificates of people and workloads: the access authority of genesis.
    pub access: Arc<dyn Signer>,
    /// Signs certificates of principals: the system authority of genesis.
    pub system: Arc<dyn Signer>,
    /// Signs heads: Ed25519.
    pub log: Arc<dyn Signer>,
    /// The keys of the authorities that came after.
    pub authorities: Arc<dyn AuthorityKeys>,
}

/// What a service is made of.
pub struct Ingredients {
    /// The opened data directory.
    pub store: store::Store,
    /// The keys.
    pub keys: Keys,
    /// Where CRLs will be found; in every leaf.
    pub crl_base: CrlBase,
    /// How long a CRL may be used, in seconds.
    pub crl_lifetime_s: u32,
    /// How long certificates of officers live, in seconds.
    pub officer_ttl_s: u32,
    /// How many decisions are kept.
    pub keep: Keep,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub entropy: Arc<dyn Entropy>,
}

/// The service.
pub struct App {
    shared: Arc<Shared>,
    engine: Engine,
    journal: Arc<dyn Journal>,
    snapshots: SnapshotStore,
    /// The last state as of an earlier record that somebody asked for.
    as_of: std::sync::Mutex<Option<Arc<State>>>,
    feed: Feed,
    heads: Arc<Heads>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    profile: Profile,
    authorities: Authorities,
    rotation: Rotation,
    ordinals: Ordinals,
    verified: CertificateCache,
    crls: Crls,
    trust: TrustSets,
    renewals: Renewals,
    /// How long certificates of officers live.
    officer_ttl_s: u32,
    keep: Keep,
    /// Held by the drill that is measured.
    drilling: tokio::sync::Mutex<()>,
    /// Places for simulations.
    simulations: Arc<tokio::sync::Semaphore>,
    certificates: Arc<dyn CertificateIndex>,
    decisions: DecisionLog,
    record: DecisionRecord,
    signals: signals::Signals,
    lists: Lists,
    calls: CallLog,
    boot: BootId,
}

/// Who asks, and by which request.
#[derive(Debug, Clone, Default)]
pub struct Caller {
    /// The registered principal; none: a subject with its own certificate, or a person with a token.
    pub principal: Option<PrincipalId>,
    /// The caller's request, for idempotent retries.
    pub request: Option<RequestId>,
}

impl Caller {
    fn entry(&self, event: Event) -> Entry {
        Entry { event, by: self.principal.clone(), request: self.request }
    }
}

/// Whether a change is made or only checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Make it.
    Commit,
    /// Say whether it could be made.
    ValidateOnly,
}

/// What does not fit together when the service starts.
fn internal(what: &str, e: &dyn std::fmt::Display) -> Error {
    Error::Internal(format!("{what}: {e}"))
}

impl App {
    /// Starts the service on an opened data directory. It grants nothing before [`begin`](Self::begin).
    ///
    /// # Errors
    /// Keys that do not fit the record, or a system without threads.
    pub fn start(ingredients: Ingredients) -> Result<Arc<Self>, Error> {
        let Ingredients { store, keys, crl_base, crl_lifetime_s, officer_ttl_s, keep, clock, entropy } =
            ingredients;
        let state = store.state;
        let trust_domain =
            state.settings.trust_domain.parse().map_err(|e| internal("trust domain of genesis", &e))?;
        let arc = state.settings.arc.parse().map_err(|e| internal("arc of genesis", &e))?;
        let profile =
            Profile::new(trust_domain, arc, Some(crl_base)).with_algorithms(state.settings.algorithms());
        let authorities = Authorities::new(&keys, &profile, &state)?;
        apart::check_record(&authorities.known(&state), &state)?;
        algorithms::check_record(&authorities.known(&state), &state)?;
        check_log_key(keys.log.as_ref(), &state)?;
        let (boot_ms, boot) = (clock.boot_ms(), BootId::from_parts(clock.now(), entropy.bytes16()));
        let time = TrustedTime::start(clock.now(), boot_ms, state.clock_floor());
        let journal: Arc<dyn Journal> = Arc::new(store.journal);
        let ordinals = Ordinals::after(state.last_ordinal);
        let rotation = Rotation::since(&state, boot_ms);
        let recovered = Arc::new(state.clone());
        let shared = Arc::new(Shared::new(state, time));
        let heads = Arc::new(Heads {
            shared: Arc::clone(&shared),
            journal: Arc::clone(&journal),
            clock: Arc::clone(&clock),
            key: LogKey(keys.log),
            last: Mutex::new(None),
            trees: Mutex::default(),
        });
        let feed = Feed::new(Arc::clone(&clock), Arc::clone(&heads) as _, recovered, boot_ms);
        let parts = Parts {
            journal: Arc::clone(&journal),
            shared: Arc::clone(&shared),
            feed: feed.clone(),
            clock: Arc::clone(&clock),
            boot,
        };
        let engine = Engine::start(parts).map_err(|e| internal("writer", &e))?;
        Ok(Arc::new(Self {
            trust: TrustSets::default(),
            renewals: Renewals::default(),
            drilling: tokio::sync::Mutex::new(()),
            simulations: Arc::new(tokio::sync::Semaphore::new(simulate::SIMULATIONS_MAX)),
            officer_ttl_s,
            keep,
            crls: Crls::new(crl_lifetime_s, shared.state.load().position.seq, clock.now()),
            shared,
            engine,
            journal,
            snapshots: store.snapshots,
            as_of: std::sync::Mutex::default(),
            feed,
            heads,
            clock,
            entropy,
            profile,
            authorities,
            rotation,
            ordinals,
            verified: CertificateCache::default(),
            certificates: store.certificates,
            decisions: store.decisions,
            record: store.record,
            signals: signals::Signals::default(),
            lists: Lists::new(store.lists),
            calls: store.calls,
            boot,
        }))
    }

    /// Durably begins this run: only then may the service permit anything or grant a lease.
    ///
    /// # Errors
    /// The record cannot be written, or the clock is not trusted. The service stays closed and can be tried again.
    pub async fn begin(&self) -> Result<Position, Error> {
        if !self.shared.has_started() {
            let event = Event::ServerStarted { boot: self.boot, logic_version: LOGIC_VERSION };
            // Also while a restore waits for officers: this run may be told what it lost.
            self.engine.record(Caller::default().entry(event), false).await?;
        }
        let state = self.state();
        if state.principals.values().all(|principal| principal.kind != PrincipalKind::Gateway) {
            // Nobody who could hold a lease has ever been registered, so nobody of an earlier run need be waited for.
            self.feed.begin_first_run();
        }
        if state.enforcement.ceiling == Ordinal::default() {
            let first = Ordinal(BLOCK_LEN);
            self.record(Caller::default().entry(Event::CeilingAnnounced(first))).await?;
            self.record(Caller::default().entry(Event::BlockOpened(first))).await?;
        }
        self.feed.start_granting();
        self.warn_of_recoveries();
        Ok(self.state().position)
    }

    /// Commits what is waiting and ends the writer. The app answers nothing that changes state afterwards.
    pub async fn stop(self: &Arc<Self>) {
        let app = Arc::clone(self);
        let write = move || {
            app.write_calls(true);
            app.write_decisions();
        };
        if tokio::task::spawn_blocking(write).await.is_err() {
            tracing::error!("writing the audit of calls and decisions ended in a panic");
        }
        self.engine.stop().await;
    }

    /// The state as of the last durable record.
    pub fn state(&self) -> Arc<State> {
        self.shared.state.load_full()
    }

    /// The feed, for subscriptions.
    pub const fn feed(&self) -> &Feed {
        &self.feed
    }

    /// The signed heads, for subscriptions and auditors.
    pub fn heads(&self) -> Arc<Heads> {
        Arc::clone(&self.heads)
    }

    /// The journal, for auditors.
    pub fn journal(&self) -> &Arc<dyn Journal> {
        &self.journal
    }

    /// Certificates on record. Follows the journal in the background.
    pub fn certificates(&self) -> &Arc<dyn CertificateIndex> {
        &self.certificates
    }

    /// What operators watch.
    pub fn metrics(&self) -> &Metrics {
        &self.shared.metrics
    }

    /// The certificate profile.
    pub const fn profile(&self) -> &Profile {
        &self.profile
    }

    /// The time, as this service sees it.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// A name that no other run of anything has.
    pub fn new_run(&self) -> BootId {
        BootId::from_parts(self.clock.now(), self.entropy.bytes16())
    }

    /// The clock, for who sends to gateways.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    /// Why nothing may be permitted, if so: gate G1.
    pub fn state_fault(&self) -> Option<StateFault> {
        if !self.shared.is_writable() || self.feed.rollback().is_some() {
            return Some(StateFault::Unavailable);
        }
        let trusted = self.shared.time.check(self.clock.as_ref());
        trusted.is_err().then_some(StateFault::ClockUntrusted)
    }

    /// The time, if the clock is believed.
    pub fn trusted_now(&self) -> Option<Timestamp> {
        self.shared.time.check(self.clock.as_ref()).ok()?;
        Some(self.now())
    }

    /// While the clock is not trusted: the time that was last believed, walked on. Whoever could call by then still can, for
    /// officers must be able to restrict and to accept the clock whatever it shows.
    pub fn doubted_now(&self) -> Option<Timestamp> {
        self.shared.time.check(self.clock.as_ref()).err()?;
        Some(self.shared.time.believed(self.clock.boot_ms()))
    }

    /// A name for a call.
    pub fn new_request(&self) -> RequestId {
        RequestId::from_parts(self.clock.now(), self.entropy.bytes16())
    }

    /// Says that the clock is right as it is. For `dev` only: elsewhere two officers do.
    pub fn accept_clock(&self) {
        self.shared.time.accept(self.clock.now(), self.clock.boot_ms());
    }

    /// Records entries together: each has an outcome of its own.
    async fn record_all(&self, entries: Vec<Entry>) -> Result<Vec<Result<Committed, Error>>, Error> {
        if let Some(why) = self.feed.rollback() {
            return Err(Error::Unavailable(format!("only restrictions are recorded: {why}")));
        }
        self.engine.record_all(entries).await
    }

    async fn record(&self, entry: Entry) -> Result<Committed, Error> {
        if let Some(why) = self.feed.rollback()
            && !(self.state().pending_restore().is_some() && restored::goes_on(&self.state(), &entry))
        {
            return Err(Error::Unavailable(format!("only restrictions are recorded: {why}")));
        }
        self.engine.record(entry, false).await
    }
}

/// Nobody would believe a head that another key signs.
fn check_log_key(key: &dyn Signer, state: &State) -> Result<(), Error> {
    if key.public_key().ends_with(&state.settings.log_key) {
        return Ok(());
    }
    Err(internal(&format!("log key in {}", key.place()), &"it is not the one that genesis names"))
}

/// How old a signed head may be before a moved head is signed anew: 100 ms, shared by all streams.
const HEAD_FRESH_MS: u64 = 100;
/// Trees that are kept: one for each officer and gateway that connects now and then, about 1 KiB each.
const TREES_MAX: usize = 1_024;

/// The log key as a signer of heads.
struct LogKey(Arc<dyn Signer>);

impl HeadSigner for LogKey {
    fn key(&self) -> Digest {
        // RFC 8410: the raw key is the end of the SubjectPublicKeyInfo.
        let spki = self.0.public_key();
        Digest::of(spki.get(spki.len().saturating_sub(PUBLIC_KEY_LEN)..).unwrap_or_default())
    }

    fn sign(&self, message: &[u8]) -> Result<[u8; SIGNATURE_LEN], HeadError> {
        let signature = self.0.sign(message).map_err(|e| HeadError::Signer(e.to_string()))?;
        signature.try_into().map_err(|_| HeadError::Signer("the signature has another length".to_owned()))
    }
}

/// Signs heads, and says what is committed.
pub struct Heads {
    shared: Arc<Shared>,
    journal: Arc<dyn Journal>,
    clock: Arc<dyn Clock>,
    key: LogKey,
    last: Mutex<Option<(SignedHead, bytes::Bytes, u64)>>,
    /// The tree as of records that were asked for: who is asked again goes on from there.
    trees: Mutex<BTreeMap<Seq, Frontier>>,
}

impl Heads {
    /// A signed head that covers everything that is visible now, as a value.
    ///
    /// # Errors
    /// The log key does not sign.
    pub fn signed_now(&self) -> Result<(SignedHead, bytes::Bytes), Error> {
        let visible = self.shared.state.load().position.seq;
        self.signed(|last, _| last.seq >= visible)
    }

    /// The last signed head while it is good enough, judged with its age in milliseconds; otherwise a new one.
    fn signed(
        &self,
        is_enough: impl Fn(&SignedHead, u64) -> bool,
    ) -> Result<(SignedHead, bytes::Bytes), Error> {
        let boot_ms = self.clock.boot_ms();
        let mut last = self.last.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        // Only what is published is signed: a head that runs ahead of the state would look like lost history to whoever
        // shows it a moment later.
        let head = loop {
            let head = self.journal.head();
            if let Some((signed, bytes, at)) = last.as_ref()
                && (signed.seq == head.seq || is_enough(signed, boot_ms.saturating_sub(*at)))
            {
                return Ok((signed.clone(), bytes.clone()));
            }
            if head.seq == self.shared.state.load().position.seq {
                break head;
            }
            std::thread::yield_now();
        };
        let signed = SignedHead::sign((head.epoch, head.seq, head.root), self.clock.now(), &self.key)
            .map_err(|e| Error::Internal(e.to_string()))?;
        let bytes = bytes::Bytes::from(to_bytes(&signed));
        *last = Some((signed.clone(), bytes.clone(), boot_ms));
        Ok((signed, bytes))
    }
}

impl Heads {
    /// The log key's word for a snapshot.
    pub(super) fn sign_snapshot(&self, at: Seq, hash: &Digest) -> Result<Vec<u8>, Error> {
        let signature = self.key.sign(&snapshot_statement(at, hash));
        Ok(signature.map_err(|e| Error::Internal(e.to_string()))?.to_vec())
    }
}

impl feed::Heads for Heads {
    fn committed_head(&self) -> Position {
        self.shared.state.load().position
    }

    fn signed_head(&self) -> bytes::Bytes {
        // Shared by all streams: signed again at most so often, and never waited for while a record is being published.
        let state_moves = || self.journal.head().seq != self.shared.state.load().position.seq;
        match self.signed(|_, age_ms| age_ms < HEAD_FRESH_MS || state_moves()) {
            Ok((_, bytes)) => bytes,
            Err(error) => {
                tracing::error!(%error, "the log key does not sign; gateways get no signed head");
                bytes::Bytes::new()
            }
        }
    }

    fn verify(&self, head: &SignedHead) -> bool {
        let settings = Arc::clone(&self.shared.state.load().settings);
        settings.log_key.as_slice().try_into().is_ok_and(|key| head.verify(key).is_ok())
    }

    /// Reads the records from the nearest tree that is known. Asked only about heads that our log key signed.
    fn root_at(&self, seq: Seq) -> Option<Digest> {
        let lock = || self.trees.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let known = lock().range(..=seq).next_back().map(|(_, tree)| tree.clone());
        let mut tree = known.unwrap_or_default();
        while tree.size() < seq.0 {
            let records = self.journal.read(Seq(tree.size() + 1), crate::journal::READ_RECORDS_MAX).ok()?;
            if records.is_empty() {
                return None;
            }
            let wanted = usize::try_from(seq.0 - tree.size()).unwrap_or(usize::MAX);
            records.iter().take(wanted).for_each(|record| tree.push(record.header.leaf()));
        }
        let root = tree.root();
        let mut trees = lock();
        trees.insert(seq, tree);
        if trees.len() > TREES_MAX {
            trees.pop_first();
        }
        Some(root)
    }
}
