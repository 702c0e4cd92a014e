//! The record of decisions: a place is taken before anything is decided, and filled with the answer.

use std::sync::Arc;

use super::error::Error;
use super::evaluate::{Answer, Verification};
use super::{App, Caller};
#[cfg(feature = "faults")]
use crate::decisions::record::Place;
use crate::decisions::record::RecordFault;
use crate::domain::certificate::{Certificate, Facts};
#[cfg(feature = "faults")]
use crate::domain::decided::UNWRITTEN_MAX;
use crate::domain::decided::{Decided, DecidedBy, Judged, Question, VALID};
use crate::domain::decision::LOGIC_VERSION;
use crate::domain::enforce::report::DecisionReport;
use crate::domain::enforce::{Position, Request};
use crate::domain::event::Event;
use crate::domain::id::{DecisionId, Digest, PrincipalId};
use crate::domain::time::Timestamp;
use crate::journal::Condition;

pub use crate::decisions::record::{Cursor, DecisionsFault, DecisionsVerified};

/// Who asks for a decision, as the edge knows it.
#[derive(Debug, Clone)]
pub struct Asker(pub PrincipalId);

/// Who asks, and by which way.
#[derive(Debug, Clone)]
pub struct Asking {
    /// By which way.
    pub by: DecidedBy,
    /// Who, if it is a registered principal.
    pub gateway: Option<PrincipalId>,
}

/// What was shown, when, and to which state.
pub(super) struct Shown<'a> {
    pub(super) id: DecisionId,
    pub(super) at: Timestamp,
    pub(super) hash: Digest,
    pub(super) certificate: Option<&'a Certificate>,
    pub(super) bundle: Digest,
    pub(super) as_of: Position,
}

impl Shown<'_> {
    fn line(self, asking: Asking) -> Decided {
        let facts = self.certificate.and_then(|certificate| match &certificate.facts {
            Facts::Access(facts) => Some(facts),
            Facts::System(_) | Facts::Canary(_) => None,
        });
        Decided {
            id: self.id,
            at: self.at,
            by: asking.by,
            gateway: asking.gateway,
            certificate: Some(self.hash),
            ordinal: self.certificate.map(|certificate| certificate.ordinal),
            entity: facts.map(|facts| facts.entity.entity),
            subject: facts.map(|facts| facts.subject),
            question: None,
            as_of: self.as_of,
            logic: Some(LOGIC_VERSION),
            bundle: Some(self.bundle),
            is_permit: false,
            code: String::new(),
            judged: None,
            good_until: None,
            count: 1,
        }
    }

    /// The line of an access that was judged.
    pub(super) fn answered(self, asking: Asking, request: &Request<'_>, answer: &Answer) -> Decided {
        let decision = &answer.decision;
        Decided {
            question: Some(Question::from(request)),
            is_permit: decision.is_permit(),
            code: decision.code().to_owned(),
            judged: Some(Judged::from(decision)),
            good_until: Some(answer.good_until),
            ..self.line(asking)
        }
    }

    /// The line of a certificate that was verified.
    pub(super) fn verified(self, asking: Asking, verification: &Verification) -> Decided {
        let code = verification.fault.as_ref().map_or(VALID, |(code, _)| code);
        Decided { is_permit: verification.fault.is_none(), code: code.to_owned(), ..self.line(asking) }
    }
}

impl App {
    pub(super) fn new_decision(&self) -> DecisionId {
        DecisionId::from_parts(self.now(), self.entropy.bytes16())
    }

    /// What a gateway reported, as it is recorded.
    pub(super) fn reported(&self, gateway: &PrincipalId, reports: &[DecisionReport]) -> Vec<Decided> {
        let line = |report| Decided::reported(self.new_decision(), gateway.clone(), report);
        reports.iter().map(line).collect()
    }

    /// Writes what is due of the record of decisions. Blocks: not for an async task.
    pub(super) fn write_decisions(&self) {
        // What officers record comes first: decisions take none of the room that is kept for it.
        let has_room = match self.journal.condition() {
            Condition::Open(space) => space.free >= space.low_water,
            Condition::Closed(_) => true,
        };
        let written = self.record.write((self.now(), self.clock.boot_ms()), has_room, self.new_decision());
        self.metrics().decisions_recorded(written.lines);
        if !written.signals.is_empty() {
            self.signal(written.signals);
        }
        if let Some(fault) = written.fault {
            tracing::error!(%fault, "the record of decisions is not written; when there is no room, nothing is permitted");
        }
        for sealed in written.sealed {
            self.note(Event::DecisionsSealed(Box::new(sealed)));
        }
    }

    /// Takes the room for decisions but for so many, as a disk does that cannot be written for long.
    #[cfg(feature = "faults")]
    pub fn take_room_but(&self, left: usize) -> Option<Place<'_>> {
        self.record.try_reserve(UNWRITTEN_MAX - left - self.record.unwritten())
    }

    /// Waits until the record of decisions is to be written.
    pub(super) async fn decisions_due(&self) {
        self.record.due().await;
    }

    /// Removes decisions that need not be kept any more: first the journal says so, then they are gone.
    pub(super) async fn remove_decisions(self: &Arc<Self>) {
        let held = self.state().records_held_since();
        let Some(removed) = self.record.overdue(&self.keep, self.now(), held) else { return };
        let event = Event::DecisionsRemoved(removed.clone());
        if let Err(error) = self.record(Caller::default().entry(event)).await {
            // An order to keep them came in between, or nothing can be recorded now: tried again in a second.
            tracing::warn!(%error, "the oldest decisions are not removed now");
            return;
        }
        let (until, is_early) = (removed.until, removed.is_early);
        match is_early {
            true => {
                tracing::warn!(%until, "decisions were removed before their time, as there is no room for more")
            }
            false => tracing::info!(%until, "decisions were removed after their time"),
        }
        let app = Arc::clone(self);
        match tokio::task::spawn_blocking(move || app.record.remove(&removed)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "decisions whose time is over cannot be removed"),
            Err(_) => tracing::error!("removing decisions ended in a panic"),
        }
    }

    /// A page of the record of decisions: those that are wanted, and where to go on. Blocks: not for an async task.
    ///
    /// # Errors
    /// A segment cannot be read.
    pub fn list_decisions(
        &self,
        from: (Cursor, Option<Timestamp>),
        len: usize,
        wanted: &dyn Fn(&Decided) -> bool,
    ) -> Result<(Vec<Decided>, Option<Cursor>), Error> {
        self.record.page(from, len, wanted).map_err(|fault| match fault {
            RecordFault::Io(_) | RecordFault::Closed(_) => Error::Unavailable(fault.to_string()),
        })
    }
}
