//! The server's side of the feed: what every gateway is told, who has acknowledged what, who may hold a lease, and when
//! a record is enforced everywhere (design section 4).
//!
//! The engine publishes; sessions are cursors into one shared log; barriers wait. Nothing here touches a disk, a socket
//! or the API's messages. A session is never skipped: what it missed it gets, merged forward or as a snapshot. Callers:
//! app, server.

mod barrier;
mod image;
mod inflight;
mod log;
mod pushed;
mod session;
mod standing;
#[cfg(test)]
pub(crate) mod tests;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use thiserror::Error;
use tokio::sync::watch;

use crate::domain::codec::from_bytes;
use crate::domain::enforce::message::Open;
use crate::domain::enforce::{EnforcementEvent, Position, Roster, RosterFull, lost_history};
use crate::domain::head::SignedHead;
use crate::domain::id::{Digest, EntityId, PrincipalId, Seq};
use crate::domain::state::State;
use crate::env::Clock;

pub use crate::domain::enforce::{About, SessionStatus};
pub use inflight::{Guard, InFlight};
pub use pushed::PushedSession;
pub use session::{Closed, Session, SessionFault};
pub use standing::Standing;

use image::Image;
use log::Log;

/// Cards that all sessions together may ask for: two million, a few hundred MiB of bookkeeping.
const WANTS_TOTAL_MAX: usize = 2_000_000;

/// How often sessions that are over are looked for: it looks at all of them, and ten thousand may open in a second.
const FORGET_INTERVAL_MS: u64 = 1_000;

/// What the feed asks of the journal and the log key.
pub trait Heads: Send + Sync + 'static {
    /// The committed head, read now: called after a Ping arrived, and its answer is what the Pong carries.
    fn committed_head(&self) -> Position;
    /// The last signed head as canonical CBOR. May sign again when the head moved; called for each Pong.
    fn signed_head(&self) -> Bytes;
    /// Did our own log key, now or before a rotation, sign this?
    fn verify(&self, head: &SignedHead) -> bool;
    /// The tree hash over records 1 to `seq` of this epoch, if it can be told.
    fn root_at(&self, seq: Seq) -> Option<Digest>;
}

/// What a durable record changed for gateways.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PublishedRecord {
    /// Which record.
    pub seq: Seq,
    /// Events for every gateway.
    pub events: Vec<EnforcementEvent>,
    /// Entities whose card changed.
    pub cards: Vec<EntityId>,
}

/// Why a gateway's Open is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum OpenFault {
    /// Not a registered gateway.
    #[error("{0} is not a registered gateway")]
    NotAGateway(PrincipalId),
    /// The claim contradicts the record and nothing proves it.
    #[error("the gateway claims a state that this server never had, without a signed head that shows it")]
    BadClaim,
    /// The gateway showed a head that this server signed and does not have: history was lost.
    #[error("history was lost: {0}")]
    RolledBack(String),
    /// It says that its machine can be paused, and is not registered so: after a restart nobody would know.
    #[error("{0} says that it can be paused: register it again with `gateway register --pausable`")]
    NotRegisteredPausable(PrincipalId),
    /// Too many sessions, of all gateways or of this one.
    #[error("there are too many sessions")]
    TooManySessions,
}

impl From<RosterFull> for OpenFault {
    fn from(_: RosterFull) -> Self {
        Self::TooManySessions
    }
}

/// How often something happened since the start, for metrics.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FeedCounts {
    /// Sessions opened.
    pub opened: u64,
    /// Claims refused.
    pub bad_claims: u64,
    /// Nacks received.
    pub nacks: u64,
    /// Snapshots begun.
    pub snapshots: u64,
    /// Pongs granted.
    pub pongs: u64,
    /// Pings that got no Pong.
    pub refused_pings: u64,
}

/// The feed. Clones share it.
#[derive(Clone)]
pub struct Feed {
    shared: Arc<Shared>,
}

struct Shared {
    clock: Arc<dyn Clock>,
    heads: Arc<dyn Heads>,
    in_flight: Arc<InFlight>,
    inner: Mutex<Inner>,
    image: Mutex<Option<Arc<Image>>>,
    wants: AtomicUsize,
    /// Wakes sessions: something to send may be there.
    news: watch::Sender<u64>,
    /// Wakes sessions that hold a Ping: records were published, whether they concern gateways or not.
    moved: watch::Sender<u64>,
    /// Wakes barriers: somebody may have acknowledged. Held by `in_flight` as well.
    acks: Arc<watch::Sender<u64>>,
}

struct Inner {
    state: Arc<State>,
    log: Log,
    roster: Roster,
    barriers: BTreeMap<u64, Seq>,
    /// How many wait for a barrier, asked about or not.
    waiting: usize,
    next_barrier: u64,
    /// When sessions whose leases have run out are next forgotten.
    forget_at_ms: u64,
    may_grant: bool,
    closed: Option<String>,
    /// Records and state did not fit together: no lease until a restart.
    is_broken: bool,
    rolled_back: Option<String>,
    drain: Option<(u32, u32)>,
    counts: FeedCounts,
}

impl Inner {
    /// May leases be granted at all?
    fn grants(&self) -> bool {
        self.may_grant && self.closed.is_none() && !self.is_broken && self.rollback().is_none()
    }

    /// Why this server may have permitted what it does not know any more.
    fn rollback(&self) -> Option<String> {
        let pending = self.state.pending_restore().map(|restore| {
            format!(
                "a backup that ends at record {} of epoch {} was restored and is not acknowledged: `countersign restore show`",
                restore.from.seq, restore.from.epoch
            )
        });
        self.rolled_back.clone().or(pending)
    }

    fn forget(&mut self, now_ms: u64) {
        if now_ms >= self.forget_at_ms {
            self.forget_at_ms = now_ms + FORGET_INTERVAL_MS;
            self.roster.forget(now_ms, self.waiting == 0);
        }
    }
}

impl Feed {
    /// The feed at a state, of a process that started at `started_boot_ms`. It grants no lease until
    /// [`Feed::start_granting`].
    pub fn new(
        clock: Arc<dyn Clock>,
        heads: Arc<dyn Heads>,
        state: Arc<State>,
        started_boot_ms: u64,
    ) -> Self {
        let acks = Arc::new(watch::Sender::new(0));
        let inner = Inner {
            log: Log::new(&state),
            // No record changes the lease after genesis: no earlier run granted a longer one.
            roster: Roster::new(started_boot_ms, state.enforcement.lease_ms),
            barriers: BTreeMap::new(),
            waiting: 0,
            next_barrier: 1,
            forget_at_ms: 0,
            may_grant: false,
            closed: None,
            is_broken: false,
            rolled_back: None,
            drain: None,
            counts: FeedCounts::default(),
            state,
        };
        let shared = Shared {
            clock,
            heads,
            in_flight: Arc::new(InFlight::new(Arc::clone(&acks))),
            inner: Mutex::new(inner),
            image: Mutex::new(None),
            wants: AtomicUsize::new(0),
            news: watch::Sender::new(0),
            moved: watch::Sender::new(0),
            acks,
        };
        Self { shared: Arc::new(shared) }
    }

    /// Tells the gateways of durable records, in order, each once. `state` is the state after the last of them and is
    /// already what new decisions read. Never waits for a subscriber.
    pub fn publish(&self, state: Arc<State>, records: Vec<PublishedRecord>) {
        let at_ms = self.shared.clock.boot_ms();
        let is_news = records.iter().any(|record| !record.events.is_empty() || !record.cards.is_empty());
        let is_drill = |event: &EnforcementEvent| matches!(event, EnforcementEvent::Drilled(_));
        let drills = records.iter().filter(|record| record.events.iter().any(is_drill));
        let drill = drills.map(|record| record.seq).next_back();
        let mut inner = self.shared.lock();
        drill.into_iter().for_each(|at| inner.roster.begin_drill(at));
        let fits = inner.log.push(&state, records, at_ms);
        // Of a gateway that is removed the session has to end.
        let is_news = is_news || !fits || !state.principals.ptr_eq(&inner.state.principals);
        if !fits {
            // Gateways would acknowledge something else than what was decided: better nobody gets a lease.
            tracing::error!(
                seq = state.position.seq.0,
                "records and state do not fit together; no more leases"
            );
            inner.is_broken = true;
        }
        inner.roster.set_lease_ms(state.enforcement.lease_ms);
        inner.state = state;
        inner.forget(at_ms);
        drop(inner);
        // Issuance publishes hundreds of records a second that no gateway is told of: they wake nobody who has no Ping.
        if is_news {
            self.shared.wake();
        } else {
            self.shared.wake_barriers();
        }
        count(&self.shared.moved);
    }

    /// From now on leases may be granted: the process has durably appended its own start.
    pub fn start_granting(&self) {
        self.shared.lock().may_grant = true;
        self.shared.wake();
    }

    /// No run before this one ever granted a lease: the journal is new, so barriers need not wait for leases of before.
    pub fn begin_first_run(&self) {
        self.shared.lock().roster.begin_first_run();
    }

    /// No lease for anybody until [`Feed::reopen`]: what is enforced cannot be written down.
    pub fn close(&self, reason: &str) {
        self.shared.lock().closed = Some(reason.to_owned());
        self.shared.wake();
    }

    /// Leases may be granted again.
    pub fn reopen(&self) {
        self.shared.lock().closed = None;
        self.shared.wake();
    }

    /// Why no lease is granted, if none is.
    pub fn closed(&self) -> Option<String> {
        let inner = self.shared.lock();
        let not_started = (!inner.may_grant).then(|| "the start is not on record yet".to_owned());
        let broken = inner.is_broken.then(|| "records and state do not fit together".to_owned());
        inner.rollback().or(broken).or_else(|| inner.closed.clone()).or(not_started)
    }

    /// Why this server must not loosen anything: a gateway showed history that it lost, or it was restored from a backup
    /// and officers have not acknowledged that.
    pub fn rollback(&self) -> Option<String> {
        self.shared.lock().rollback()
    }

    /// Does a gateway that holds this have anything that a restored server lost and still looks for?
    pub fn wants_restrictions(&self, held: Position) -> bool {
        self.shared.lock().state.pending_restore().is_some_and(|restore| !restore.covers(held))
    }

    /// What a head that somebody remembers shows that this server lost. Reads the journal. If it is anything, no lease is
    /// granted any more and nothing loosened.
    pub fn lost_history(&self, signed_head: &[u8]) -> Option<String> {
        let lost = self.shared.lost_history(self.shared.heads.committed_head(), signed_head)?;
        tracing::error!("history was lost: {lost}");
        self.shared.roll_back(&lost);
        Some(lost)
    }

    /// Tells every session, now and later, to reconnect elsewhere.
    pub fn drain(&self, reconnect_after_ms: u32, jitter_ms: u32) {
        self.shared.lock().drain = Some((reconnect_after_ms, jitter_ms));
        self.shared.wake();
    }

    /// Does the service stop? Then a wait for enforcement ends before anything is known.
    pub fn is_draining(&self) -> bool {
        self.shared.lock().drain.is_some()
    }

    /// Begins the session of a gateway, which is named by its verified certificate.
    ///
    /// # Errors
    /// Why the Open is not accepted; the stream is then ended.
    pub fn open(&self, gateway: PrincipalId, open: Open) -> Result<Session, OpenFault> {
        Session::open(Arc::clone(&self.shared), gateway, open)
    }

    /// Every session that is connected or may still hold a lease.
    pub fn sessions(&self) -> Vec<SessionStatus> {
        let now_ms = self.shared.clock.boot_ms();
        let inner = self.shared.lock();
        inner.roster.statuses(inner.state.position.seq, now_ms)
    }

    /// Answers of the server's own decisions that are on their way.
    pub fn in_flight(&self) -> &Arc<InFlight> {
        &self.shared.in_flight
    }

    /// Counters since the start.
    pub fn counts(&self) -> FeedCounts {
        self.shared.lock().counts
    }

    /// Changes when something that gateways are told was published, after State shows it.
    pub fn news(&self) -> watch::Receiver<u64> {
        self.shared.news.subscribe()
    }

    /// Lets barriers look at the clock again. They do so by themselves; a test that moves a clock calls this.
    pub fn tick(&self) {
        self.shared.wake_barriers();
    }
}

/// Wakes whoever waits.
fn count(wakes: &watch::Sender<u64>) {
    wakes.send_modify(|count| *count = count.wrapping_add(1));
}

impl Shared {
    /// What a gateway's signed head proves that this server had and lost. One that we did not sign proves nothing.
    fn lost_history(&self, committed: Position, signed_head: &[u8]) -> Option<String> {
        if signed_head.is_empty() {
            return None;
        }
        let head: SignedHead = from_bytes(signed_head).ok()?;
        if !self.heads.verify(&head) {
            return None;
        }
        let signed = (Position { epoch: head.epoch, seq: head.seq }, head.root);
        lost_history(signed, committed, |seq| self.heads.root_at(seq))
    }

    /// Short sections only: nothing under this lock waits, signs or compresses.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn roll_back(&self, lost: &str) {
        self.lock().rolled_back.get_or_insert_with(|| lost.to_owned());
        self.wake();
    }

    fn wake(&self) {
        count(&self.news);
        self.wake_barriers();
    }

    fn wake_barriers(&self) {
        count(&self.acks);
    }

    /// Takes room for cards to be asked for; false when there is none.
    fn take_wants(&self, count: usize) -> bool {
        let taken = self.wants.fetch_add(count, Ordering::Relaxed);
        if taken + count > WANTS_TOTAL_MAX {
            self.wants.fetch_sub(count, Ordering::Relaxed);
            return false;
        }
        true
    }

    fn give_wants(&self, count: usize) {
        self.wants.fetch_sub(count, Ordering::Relaxed);
    }
}
