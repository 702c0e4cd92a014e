//! Issuance: take ordinal and serial -> build and lint -> record the intent -> sign once -> read again -> record the
//! signature, everything re-checked at commit -> release. A crash anywhere leaves a record that can be revoked and no
//! certificate that can be used.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Notify;

use super::crl::blocking;
use super::engine::Committed;
use super::enroll::Issuance;
use super::error::Error;
use super::{App, Caller, authorities};
use crate::ca::lifetime::{TooShort, Ttl, Validity, validity};
use crate::ca::{Issued as Signed, Issuer, Order, Prepared, assemble};
use crate::domain::certificate::{
    AuthorityKind, BLOCK_LEN, CanaryFacts, Facts, LineageStep, PrincipalKind, Serial, SystemFacts, TTL_MAX_S,
};
use crate::domain::decision::StateFault;
use crate::domain::enforce::Position;
use crate::domain::event::{Cause, Event, Intent};
use crate::domain::flow::{LimitKind, Limits, canary_limits, certifiable, check_key, check_unblocked};
use crate::domain::id::{LineageId, Ordinal, PrincipalId, Seq, SubjectId};
use crate::domain::principal::Principal;
use crate::domain::state::{Issued, State};
use crate::domain::time::Timestamp;
use crate::faults::kill_point;
use crate::x509::{Content, RequestedKey, ServerName};

/// How often an issuance starts again when something changed under it.
pub(super) const TRIES_MAX: u32 = 5;
/// How long an issuance waits for a block of ordinals to open: longer than the longest lease bound by default.
const BLOCK_WAIT_MS: u64 = 15_000;
/// How often it looks while it waits.
const BLOCK_LOOK_MS: u64 = 50;
/// How long certificates of the system authority live, but for those of officers: 30 days. Machines renew them by themselves.
const SYSTEM_TTL_S: u32 = 30 * 86_400;

/// Hands out ordinals of the access authority, each once, and those of the system authority one after the other.
#[derive(Debug)]
pub(super) struct Ordinals {
    next: AtomicU64,
    low: Notify,
    /// Held from when the next ordinal of the system authority is read until it is on record: a whole fleet renews within a
    /// minute when its authority retires, and who comes second would have to begin anew again and again.
    system: tokio::sync::Mutex<()>,
}

impl Ordinals {
    pub(super) fn after(last: Ordinal) -> Self {
        Self { next: AtomicU64::new(last.0 + 1), low: Notify::new(), system: tokio::sync::Mutex::default() }
    }

    /// The next ordinal, if it is not above what is open.
    fn take(&self, opened: Ordinal) -> Option<Ordinal> {
        let taken = self
            .next
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |next| (next <= opened.0).then(|| next + 1));
        if self.is_low(opened) {
            self.low.notify_one();
        }
        taken.ok().map(Ordinal)
    }

    /// Is less than half a block left of what is open?
    pub(super) fn is_low(&self, opened: Ordinal) -> bool {
        opened.0.saturating_sub(self.next().0) < BLOCK_LEN / 2
    }

    /// Returns when an ordinal was taken while few were left.
    pub(super) async fn low(&self) {
        self.low.notified().await;
    }

    /// The next ordinal, without taking it.
    pub(super) fn next(&self) -> Ordinal {
        Ordinal(self.next.load(Ordering::SeqCst))
    }
}

/// What one issuance is for.
pub(super) struct Purpose {
    pub(super) cause: Cause,
    pub(super) subject: SubjectId,
    pub(super) step: LineageStep,
}

/// A certificate of the access authority that may be issued.
struct Leaf {
    issuer: Arc<Issuer>,
    facts: Facts,
    limits: Limits,
    ttl: Ttl,
    cause: Cause,
}

/// Signs what was prepared: a key in memory here, a device on a thread that may wait for it.
async fn sign(issuer: &Arc<Issuer>, prepared: Prepared) -> Result<Signed, Error> {
    if !issuer.is_remote() {
        return Ok(issuer.sign(prepared)?);
    }
    let issuer = Arc::clone(issuer);
    blocking(move || Ok(issuer.sign(prepared)?)).await
}

impl App {
    /// Issues an access certificate. A conflict means that the caller should look at the record again.
    pub(super) async fn issue(&self, purpose: Purpose, key: RequestedKey) -> Result<Issuance, Error> {
        self.check_clock()?;
        let state = self.state();
        let (facts, limits) = certifiable(&state, purpose.subject, purpose.step, self.clock.now())?;
        let ttl = Ttl::access(state.settings.ttl_s);
        let issuer = self.active(&state, AuthorityKind::Access)?;
        let leaf = Leaf { issuer, facts: Facts::Access(facts), limits, ttl, cause: purpose.cause };
        self.issue_leaf(leaf, key).await
    }

    /// Issues a canary to a gateway. The same key again: the same certificate, as long as it lives.
    ///
    /// # Errors
    /// It is no registered gateway, the key is in use, or the record cannot be written.
    pub async fn issue_canary(&self, canary: CanaryFacts, csr: &[u8]) -> Result<Issuance, Error> {
        let key = self.requested(csr)?;
        self.check_clock()?;
        let state = self.state();
        let last = state.canaries.get(&canary).map(|last| last.issued);
        if let Some(last) = last
            && last.key == key.key().digest()
            && is_alive(&last, self.clock.now())
            && state.enforcement.is_trusted(&last.issuer)
        {
            return self.stored(&last).await;
        }
        let mut last = Error::Deadline;
        for _ in 0..TRIES_MAX {
            let state = self.state();
            let leaf = Leaf {
                issuer: self.active(&state, AuthorityKind::Access)?,
                limits: canary_limits(&state, &canary.gateway)?,
                ttl: Ttl::access(TTL_MAX_S),
                cause: Cause::Register(canary.gateway.clone()),
                facts: Facts::Canary(canary.clone()),
            };
            match self.issue_leaf(leaf, key.clone()).await {
                Err(Error::Conflict(why)) => last = Error::Conflict(why),
                done => return done,
            }
        }
        Err(last)
    }

    /// The key of a request, unless it is blocked: then nothing is issued to it, and nothing that was is handed out again.
    pub(super) fn requested(&self, csr: &[u8]) -> Result<RequestedKey, Error> {
        let key = RequestedKey::from_csr(csr)?;
        self.check_algorithms(key.key(), "csr")?;
        check_unblocked(&self.state(), key.key().digest(), "csr")?;
        self.check_apart(key.key().digest(), "csr")?;
        Ok(key)
    }

    pub(super) fn check_clock(&self) -> Result<(), Error> {
        match self.state_fault() {
            // Judged by that clock, a refusal would name a wrong reason.
            Some(StateFault::ClockUntrusted) => {
                Err(Error::Unavailable("the clock is not trusted; nothing is issued".to_owned()))
            }
            Some(StateFault::Unavailable | StateFault::StaleView) | None => Ok(()),
        }
    }

    /// Signs and records it. What would be refused now is refused before it takes an ordinal; what changes until the
    /// commit is found there.
    async fn issue_leaf(&self, leaf: Leaf, key: RequestedKey) -> Result<Issuance, Error> {
        let ignored = key.ignored().iter().map(ToString::to_string).collect();
        let state = self.state();
        check_key(&state, key.key().digest())?;
        let ordinal = self.take_ordinal().await?;
        let now = self.clock.now();
        let [random, ..] = *self.entropy.bytes16().as_chunks::<8>().0 else {
            return Err(Error::Internal("no randomness".to_owned()));
        };
        let Validity { not_before, not_after } = validity(now, leaf.ttl, &leaf.limits.0, random)?;
        let content = Content {
            serial: Serial::from_random(self.entropy.bytes16()),
            ordinal,
            not_before,
            not_after,
            facts: leaf.facts,
            names: Vec::new(),
        };
        let order = Order { content, key };
        let prepared = leaf.issuer.prepare(&order, now)?;
        let intent = intent(&leaf.issuer, &order, &prepared, leaf.cause);
        self.intend(&leaf.issuer, intent).await?;
        let (der, committed) = self.sign_and_record(&leaf.issuer, prepared).await?;
        Ok(Issuance { certificate: der, ignored, position: committed.position })
    }

    /// Why this subject gets no certificate now, for officers; none: it gets one.
    pub fn issuance_refusal(&self, subject: SubjectId) -> Option<String> {
        let (state, now) = (self.state(), self.clock.now());
        let step = LineageStep { lineage: LineageId::from_parts(now, [0; 16]), generation: 1 };
        let refusal = match certifiable(&state, subject, step, now) {
            Err(reject) => Error::from(reject),
            Ok((_, limits)) => {
                validity(now, Ttl::access(state.settings.ttl_s), &limits.0, [0; 8]).err()?.into()
            }
        };
        Some(refusal.to_string())
    }

    async fn intend(&self, issuer: &Arc<Issuer>, intent: Intent) -> Result<(), Error> {
        // What cannot be signed now needs no intent on record.
        issuer.check()?;
        kill_point("issue.before_intent");
        self.record(Caller::default().entry(Event::IssuanceIntended(Box::new(intent)))).await?;
        kill_point("issue.after_intent");
        Ok(())
    }

    async fn sign_and_record(
        &self,
        issuer: &Arc<Issuer>,
        prepared: Prepared,
    ) -> Result<(Vec<u8>, Committed), Error> {
        let (authority, ordinal) = (issuer.authority().kind(), prepared.ordinal());
        let issued = sign(issuer, prepared).await?;
        kill_point("issue.after_sign");
        let event =
            Event::CertificateIssued { authority, ordinal, signature: issued.signature, hash: issued.hash };
        let committed = self.record(Caller::default().entry(event)).await?;
        kill_point("issue.after_record");
        self.metrics().issued(authority.as_str());
        tracing::info!(cert.ordinal = ordinal.0, cert.authority = %authority, "certificate issued");
        Ok((issued.der, committed))
    }

    async fn take_ordinal(&self) -> Result<Ordinal, Error> {
        if let Some(ordinal) = self.ordinals.take(self.shared.state.load().opened) {
            return Ok(ordinal);
        }
        // The block is used up and the next one waits for the gateways: wait with it, for a while.
        let mut head = self.journal.watch();
        let opened = async {
            loop {
                if let Some(ordinal) = self.ordinals.take(self.shared.state.load().opened) {
                    return Some(ordinal);
                }
                // The journal's head moves a moment before the state does, so the state is looked at again soon anyway.
                let soon = std::time::Duration::from_millis(BLOCK_LOOK_MS);
                if let Ok(Err(_)) = tokio::time::timeout(soon, head.changed()).await {
                    return None;
                }
                tokio::task::yield_now().await;
            }
        };
        let wait = std::time::Duration::from_millis(BLOCK_WAIT_MS);
        let none =
            || Error::Unavailable("no ordinals are open for issuance; retry in some seconds".to_owned());
        tokio::time::timeout(wait, opened).await.map_err(|_| none())?.ok_or_else(none)
    }

    /// Issues a certificate of the system authority to a registered principal, for its registered key.
    ///
    /// # Errors
    /// The principal is not registered, or the request is for another key.
    pub async fn issue_principal(&self, principal: &PrincipalId, csr: &[u8]) -> Result<Issuance, Error> {
        let key = self.requested(csr)?;
        let state = self.state();
        let kind = acting(&state, principal)?.kind;
        let last = state.system_certificates.get(principal).copied();
        let now = self.clock.now();
        // The same key again: the same certificate, as long as half of its life is left, or no other would live longer.
        let ttl = self.system_ttl(kind);
        let fresh_until = now.plus_ms(i64::from(ttl.seconds()) * 500);
        let active = self.active(&state, AuthorityKind::System)?;
        // And unless its authority has a successor: then the next one is of that.
        let is_of_active = |issued: &Issued| issued.issuer == active.authority().id();
        let is_last_word = |issued: &Issued| {
            let next = system_validity(&active, ttl, now).map(|next| next.not_after);
            is_alive(issued, now) && next.is_ok_and(|not_after| not_after <= issued.not_after)
        };
        if let Some(issued) = last.filter(|issued| {
            issued.key == key.key().digest()
                && is_of_active(issued)
                && (issued.not_after > fresh_until || is_last_word(issued))
        }) {
            return self.stored(&issued).await;
        }
        self.issue_system(SystemFacts { kind, principal: principal.clone() }, key, Vec::new()).await
    }

    /// Issues the server's own certificate.
    ///
    /// # Errors
    /// The record cannot be written.
    pub async fn issue_server(
        &self,
        name: &PrincipalId,
        key: crate::x509::PublicKey,
        names: Vec<ServerName>,
    ) -> Result<Issuance, Error> {
        self.check_apart(key.digest(), "server key")?;
        self.check_algorithms(&key, "server key")?;
        if self.state().keys.contains_key(&key.digest()) {
            let why = "the server's key is also that of a principal or subject; make a new one".to_owned();
            return Err(Error::Invalid { field: "server key", why });
        }
        let facts = SystemFacts { kind: PrincipalKind::Server, principal: name.clone() };
        self.issue_system(facts, RequestedKey::own(key), names).await
    }

    async fn issue_system(
        &self,
        facts: SystemFacts,
        key: RequestedKey,
        names: Vec<ServerName>,
    ) -> Result<Issuance, Error> {
        let ignored: Vec<String> = key.ignored().iter().map(ToString::to_string).collect();
        let mut last = Error::Deadline;
        for _ in 0..TRIES_MAX {
            match self.try_issue_system(&facts, key.clone(), names.clone()).await {
                Ok((certificate, position)) => return Ok(Issuance { certificate, ignored, position }),
                Err(Error::Conflict(why)) => last = Error::Conflict(why),
                Err(error) => return Err(error),
            }
        }
        Err(last)
    }

    /// How long a certificate of such a principal lives: an officer's key is carried about and opens the most.
    fn system_ttl(&self, kind: PrincipalKind) -> Ttl {
        match kind {
            PrincipalKind::Officer => Ttl::system(self.officer_ttl_s),
            PrincipalKind::Gateway | PrincipalKind::Partner | PrincipalKind::Server => {
                Ttl::system(SYSTEM_TTL_S)
            }
        }
    }

    async fn try_issue_system(
        &self,
        facts: &SystemFacts,
        key: RequestedKey,
        names: Vec<ServerName>,
    ) -> Result<(Vec<u8>, Position), Error> {
        let alone = self.ordinals.system.lock().await;
        let now = self.clock.now();
        let state = self.state();
        let issuer = self.active(&state, AuthorityKind::System)?;
        let ttl = self.system_ttl(facts.kind);
        let Validity { not_before, not_after } = system_validity(&issuer, ttl, now)?;
        let content = Content {
            serial: Serial::from_random(self.entropy.bytes16()),
            ordinal: Ordinal(state.last_system_ordinal.0 + 1),
            not_before,
            not_after,
            facts: Facts::System(facts.clone()),
            names,
        };
        let order = Order { content, key };
        let prepared = issuer.prepare(&order, now)?;
        let cause = Cause::Register(facts.principal.clone());
        let intent = intent(&issuer, &order, &prepared, cause);
        self.intend(&issuer, intent).await?;
        drop(alone);
        let (der, committed) = self.sign_and_record(&issuer, prepared).await?;
        Ok((der, committed.position))
    }

    /// A certificate that was issued before, from its two records.
    pub(super) async fn stored(&self, issued: &Issued) -> Result<Issuance, Error> {
        self.stored_in(issued.intended, issued.issued).await
    }

    /// The certificate of these two records.
    pub(super) async fn stored_in(&self, intended: Seq, completed: Seq) -> Result<Issuance, Error> {
        let journal = std::sync::Arc::clone(&self.journal);
        let read = tokio::task::spawn_blocking(move || {
            Ok::<_, crate::journal::JournalError>((journal.read(intended, 1)?, journal.read(completed, 1)?))
        });
        let (intent, signature) = read.await.map_err(|e| Error::Internal(e.to_string()))??;
        let entry = |records: &[crate::journal::Record]| {
            let record = records.first().ok_or_else(|| Error::Internal("a record is missing".to_owned()))?;
            super::store::entry_of(record).map_err(|e| Error::Internal(e.to_string()))
        };
        match (entry(&intent)?.event, entry(&signature)?.event) {
            (Event::IssuanceIntended(intent), Event::CertificateIssued { signature, .. }) => {
                let signed_by =
                    self.state().issuer_of(&intent).map(|authority| authority.certificate.clone());
                let signed_by = signed_by.ok_or(Error::NotFound("authority"))?;
                let curve = authorities::read(&signed_by)?.key().curve();
                let certificate = assemble(&intent.tbs, curve, &signature);
                let position = Position { epoch: self.state().position.epoch, seq: completed };
                Ok(Issuance { certificate, ignored: Vec::new(), position })
            }
            _ => Err(Error::Internal("the records of a certificate are not those of an issuance".to_owned())),
        }
    }
}

/// From when until when a certificate of the system authority is valid that is issued now.
fn system_validity(issuer: &Issuer, ttl: Ttl, now: Timestamp) -> Result<Validity, TooShort> {
    let limits = [(LimitKind::Issuer, issuer.authority().not_after())];
    validity(now, ttl, &limits, [0; 8])
}

fn intent(issuer: &Issuer, order: &Order, prepared: &Prepared, cause: Cause) -> Intent {
    Intent {
        authority: issuer.authority().kind(),
        ordinal: prepared.ordinal(),
        serial: prepared.serial(),
        facts: order.content.facts.clone(),
        key: prepared.key(),
        not_before: order.content.not_before,
        not_after: prepared.not_after(),
        cause,
        tbs: prepared.tbs().to_vec(),
        issuer: Some(issuer.authority().id()),
    }
}

/// Is a certificate with this end still worth handing out again?
pub(super) fn is_alive(issued: &Issued, now: Timestamp) -> bool {
    now < issued.not_after
}

/// Who gets a certificate: a registered principal that is not suspended.
fn acting<'a>(state: &'a State, id: &PrincipalId) -> Result<&'a Principal, Error> {
    let principal = state.principal(id).ok_or(Error::NotFound("principal"))?;
    match principal.suspended {
        None => Ok(principal),
        Some(why) => Err(Error::WrongState(format!("{id} is suspended ({why}); two officers release it"))),
    }
}
