//! Connections of whoever is denied are closed, and only then is the record acknowledged that denied them: what makes
//! `closes_connections` and `stream_cut_ms` of [`Strength`](crate::domain::enforce::message::Strength) true.
//!
//! A connection that is registered after the handshake and one whose holder is cut meanwhile cannot miss each other: it is
//! entered first and judged then, and a record is published first and looked up then.

use std::sync::Arc;

use thiserror::Error;

use super::gate::{Gate, Shared};
use super::index::{Holder, Signal, Touched};
use super::question::Question;
use crate::domain::announcement::Announcement;
use crate::domain::certificate::Facts;
use crate::domain::decision::{CredentialFault, Denial, StateFault};
use crate::domain::enforce::{GateView, Names, Position, decide, validity_fault};
use crate::domain::id::Seq;
use crate::domain::policy::PolicyRule;
use crate::domain::time::{Now, Timestamp};

/// How many connections are judged again in each tick, so that what time alone takes away closes them too: 10,000 a
/// second.
const SWEEP: usize = 1_000;

/// The connection may not be: close it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("no connection: {0}")]
pub struct Barred(pub &'static str);

/// The open connections of a gate. Cheap to clone.
#[derive(Clone)]
pub struct Connections {
    shared: Arc<Shared>,
}

/// One open connection or stream. Dropping it says that it is closed, so the owner drops it last:
///
/// ```text
/// let connection = gate.connections().register(&leaf)?;
/// tokio::select! {
///     done = serve(&mut stream) => done?,
///     why = connection.denied() => tracing::info!(why, "closed"),
/// }
/// drop(stream);
/// drop(connection);
/// ```
///
/// As long as it is told to close and not dropped, the record that closed it is not acknowledged. A server that waits for
/// that stops extending the gate's lease after half of one: an owner that never lets go closes the whole gate.
#[must_use = "dropping it says that the connection is closed"]
pub struct Connection {
    shared: Arc<Shared>,
    id: u64,
    signal: Arc<Signal>,
}

impl Gate {
    /// The open connections.
    pub fn connections(&self) -> Connections {
        Connections { shared: Arc::clone(&self.shared) }
    }
}

impl Connections {
    /// Registers a connection, by the certificate of its handshake. It is closed when a record revokes, holds, cuts, stops
    /// or suspends its holder, when the certificate ends, and when the gate has had no lease for `stream_cut_ms`.
    ///
    /// # Errors
    /// It may not be at all.
    pub fn register(&self, leaf_der: &[u8]) -> Result<Connection, Barred> {
        self.enter(leaf_der, None, None)
    }

    /// The same for a stream that serves one question: it is closed as well when the answer would be another, such as by a
    /// stop of the model, the end of a grant or a new policy. What only the server can decide is not decided again: when a
    /// record touches such a stream it is closed with `SERVER_DID_NOT_ANSWER`, and the client may ask again on a new one.
    ///
    /// # Errors
    /// It may not be at all.
    pub fn register_stream(&self, leaf_der: &[u8], question: Question) -> Result<Connection, Barred> {
        self.enter(leaf_der, Some(question), None)
    }

    /// The same for an answer on this state of the world: what it did not see and only the server can judge bars it.
    pub(super) fn register_answer(
        &self,
        leaf_der: &[u8],
        question: Question,
        as_of: Position,
    ) -> Result<Connection, Barred> {
        self.enter(leaf_der, Some(question), Some(as_of))
    }

    /// How many are open.
    pub fn count(&self) -> usize {
        self.shared.index.len()
    }

    fn enter(
        &self,
        leaf_der: &[u8],
        question: Option<Question>,
        as_of: Option<Position>,
    ) -> Result<Connection, Barred> {
        let shared = &self.shared;
        let read = shared.with_certificate(leaf_der, |read| read.cloned());
        let Ok(certificate) = read else { return Err(Barred(Denial::CredentialInvalid.as_str())) };
        let Facts::Access(facts) = &certificate.facts else {
            return Err(Barred(Denial::CredentialWrongKind.as_str()));
        };
        let holder = Holder { certificate: Arc::clone(&certificate), question };
        let entered = shared.index.enter(holder.clone(), facts);
        let (id, signal) = entered.map_err(|_| Barred(Denial::StateUnavailable.as_str()))?;
        let connection = Connection { shared: Arc::clone(shared), id, signal };
        // Entered first: a record that is published from here on finds it, one that was published before is seen here.
        match shared.bar_now(&holder, as_of) {
            Some(why) => Err(Barred(why)),
            None => Ok(connection),
        }
    }
}

impl Connection {
    /// Returns when the connection must be closed, with the code of the reason.
    pub async fn denied(&self) -> &'static str {
        self.signal.wait().await
    }

    pub(super) fn signal(&self) -> Arc<Signal> {
        Arc::clone(&self.signal)
    }

    /// Why the connection must be closed, if it must.
    pub fn why_denied(&self) -> Option<&'static str> {
        self.signal.why()
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.shared.index.leave(self.id);
    }
}

impl Shared {
    /// Why nobody may begin a connection now, or this holder may not.
    fn bar_now(&self, holder: &Holder, as_of: Option<Position>) -> Option<&'static str> {
        let (boot_ms, now) = (self.clock.boot_ms(), self.clock.now());
        let standing = self.published.load();
        let fault = self.published.fault(&standing, boot_ms, now);
        if let Some(fault) = fault {
            return Some(state_code(fault));
        }
        let Some(view) = &standing.view else { return Some(Denial::StaleView.as_str()) };
        let now = Now::with_margin(now);
        match as_of {
            Some(as_of) if view.position > as_of => bar_touched(view, holder, now),
            Some(_) | None => bar(view, holder, now),
        }
    }

    /// Why the holder of this certificate may have no connection now, if so.
    pub(super) fn barred(&self, leaf_der: &[u8]) -> Option<&'static str> {
        let read = self.with_certificate(leaf_der, |read| read.cloned());
        match read {
            Ok(certificate) => self.bar_now(&Holder { certificate, question: None }, None),
            // Without authorities nobody can be known: the gate has no lease yet.
            Err(None) => Some(Denial::StaleView.as_str()),
            Err(Some(_)) => Some(code_of(CredentialFault::Invalid)),
        }
    }

    /// Closes what the view denies of what was touched, and what only the server could permit again.
    pub(super) fn close_denied(&self, view: &GateView, touched: &Touched) {
        if *touched == Touched::default() {
            return;
        }
        let now = Now::with_margin(self.clock.now());
        self.index.close_denied(touched, view.position.seq, |holder| bar_touched(view, holder, now));
    }

    /// Closes what time alone takes away, some at each call.
    pub(super) fn close_ended(&self, view: &GateView) {
        let now = Now::with_margin(self.clock.now());
        self.index.sweep(SWEEP, view.position.seq, |holder| bar(view, holder, now));
    }

    /// Closes what was announced to be cut when its instant comes, whether or not the server is there to say so. `seen`: up
    /// to which instant that was done.
    pub(super) fn close_cut(&self, view: &GateView, seen: &mut Option<Timestamp>) {
        let announced = &view.enforcement.announced;
        let at = self.clock.now();
        let now = Now::with_margin(at);
        let before = seen.replace(at).map(Now::with_margin);
        let is_new =
            |cut: &&Arc<Announcement>| cut.is_cut(now) && before.is_none_or(|before| !cut.is_cut(before));
        let mut touched = Touched::default();
        announced.values().filter(is_new).for_each(|cut| touched.add_cut(&cut.cut));
        self.close_denied(view, &touched);
    }

    /// Closes everything: nothing has been permitted for too long.
    pub(super) fn close_all(&self, at: Seq, fault: StateFault) {
        self.index.close_denied(&Touched::All, at, |_| Some(state_code(fault)));
    }
}

pub(super) fn code_of(fault: CredentialFault) -> &'static str {
    Denial::from(fault).as_str()
}

pub(super) const fn state_code(fault: StateFault) -> &'static str {
    match fault {
        StateFault::Unavailable => Denial::StateUnavailable.as_str(),
        StateFault::ClockUntrusted => Denial::ClockUntrusted.as_str(),
        StateFault::StaleView => Denial::StaleView.as_str(),
    }
}

/// What a view says of a holder.
enum Verdict {
    Open,
    Denied(&'static str),
    /// Only the server can decide its question.
    Unknown,
}

/// Why the holder may have no connection on this view, if so. Without a question: only what denies whatever is asked.
fn bar(view: &GateView, holder: &Holder, now: Now) -> Option<&'static str> {
    match verdict(view, holder, now) {
        Verdict::Denied(why) => Some(why),
        Verdict::Open | Verdict::Unknown => None,
    }
}

/// The same after a record that the answer did not know of. What the server permitted before, it may deny now.
fn bar_touched(view: &GateView, holder: &Holder, now: Now) -> Option<&'static str> {
    match verdict(view, holder, now) {
        Verdict::Denied(why) => Some(why),
        Verdict::Unknown => Some(Denial::ServerNotAsked.as_str()),
        Verdict::Open => None,
    }
}

fn verdict(view: &GateView, holder: &Holder, now: Now) -> Verdict {
    let certificate = holder.certificate.as_ref();
    let Facts::Access(facts) = &certificate.facts else {
        return Verdict::Denied(code_of(CredentialFault::WrongKind));
    };
    let set = view.enforcement.as_ref();
    let names = Names::of(certificate, facts);
    let fault = validity_fault(certificate, now).or_else(|| set.fault_of(&names, now));
    if let Some(fault) = fault {
        return Verdict::Denied(code_of(fault));
    }
    if set.is_barred(&names) {
        return Verdict::Denied(Denial::EmergencyStop.as_str());
    }
    if set.is_suspended(names.entity, names.subject) {
        return Verdict::Denied(PolicyRule::Suspended.as_str());
    }
    let Some(question) = &holder.question else { return Verdict::Open };
    // Whatever the server could say: a stop leaves nothing to ask.
    let family = set.bundle.registry().resolve(&question.model);
    if set.is_stopped(family, Some((certificate, facts))) {
        return Verdict::Denied(Denial::EmergencyStop.as_str());
    }
    let decision = decide(view, None, Ok(certificate), &question.request(), now);
    if decision.ask_server {
        Verdict::Unknown
    } else if decision.is_permit() {
        Verdict::Open
    } else {
        Verdict::Denied(decision.code())
    }
}
