//! Recoveries: announced to everybody at once, effective a day later unless an officer rejects them.

use super::enroll::Issuance;
use super::error::Error;
use super::{App, Caller, Mode};
use crate::domain::event::Event;
use crate::domain::flow::admit;
use crate::domain::id::{Digest, ProposalId};
use crate::domain::recovery::{PendingRecovery, SignedRecovery};
use crate::domain::time::Timestamp;

/// What became of a recovery.
#[derive(Debug, Clone)]
pub enum Recovered {
    /// It is only checked.
    Checked,
    /// It waits for its day.
    Announced {
        /// Its name.
        id: ProposalId,
        /// From when it is effective.
        effective_at: Timestamp,
    },
    /// The officer is registered; with the certificate, if a request for one was given.
    Effective(Option<Box<Issuance>>),
}

impl App {
    /// Announces what enough recovery keys signed. Said again it is not announced again: it says how it stands, and once it is
    /// effective it gives the officer's certificate, which nobody else could ask for.
    ///
    /// # Errors
    /// The signatures do not hold, or the officer cannot be registered.
    pub async fn recover(&self, signed: SignedRecovery, csr: &[u8], mode: Mode) -> Result<Recovered, Error> {
        let state = self.state();
        let (_, new) = state.check_recovery(&signed).map_err(|e| Error::NeedsApproval(e.to_string()))?;
        if let Some(pending) = state.recoveries.values().find(|pending| pending.signed.bytes == signed.bytes)
        {
            return Ok(announced(pending));
        }
        if state.principal(&new.id).is_some_and(|principal| principal.key == new.key) {
            let issued = match csr {
                [] => None,
                csr => Some(Box::new(self.issue_principal(&new.id, csr).await?)),
            };
            return Ok(Recovered::Effective(issued));
        }
        self.check_apart(Digest::of(&new.key), "key")?;
        let id = ProposalId::from_parts(self.clock.now(), self.entropy.bytes16());
        let entry = Caller::default().entry(Event::RecoveryAnnounced { id, signed });
        if mode == Mode::ValidateOnly {
            drop(admit(&state, &entry, self.clock.now())?);
            return Ok(Recovered::Checked);
        }
        self.record(entry).await?;
        let state = self.state();
        let pending = state.recoveries.get(&id).ok_or(Error::NotFound("recovery"))?;
        warn_of(pending);
        Ok(announced(pending))
    }

    /// Says again at each start what is under way.
    pub(super) fn warn_of_recoveries(&self) {
        self.state().recoveries.values().for_each(|pending| warn_of(pending));
    }

    /// Makes recoveries effective whose day has come, and ends those that never can be.
    pub(super) async fn close_recoveries(&self) {
        let (state, now) = (self.state(), self.clock.now());
        for pending in state.recoveries.values() {
            let id = pending.id;
            let event = match state.recovery_lapse(pending) {
                Some(why) => Event::ProposalLapsed { id, why },
                None if now < pending.effective_at() => continue,
                None => {
                    if let Err(error) = self.check_apart(Digest::of(&pending.new.key), "key") {
                        tracing::error!(recovery.id = %id, %error, "a recovery is not effective; reject it");
                        continue;
                    }
                    Event::RecoveryTookEffect(id)
                }
            };
            match self.record(Caller::default().entry(event)).await {
                Ok(_) => {
                    tracing::error!(recovery.id = %id, principal = %pending.new.id, "a recovery is over")
                }
                // Tried again in a second.
                Err(error) => tracing::debug!(recovery.id = %id, %error, "a recovery is not recorded yet"),
            }
        }
    }
}

fn announced(pending: &PendingRecovery) -> Recovered {
    Recovered::Announced { id: pending.id, effective_at: pending.effective_at() }
}

/// Loud: it is how somebody with the recovery keys would take over.
fn warn_of(pending: &PendingRecovery) {
    let (id, principal, at) = (pending.id, &pending.new.id, pending.effective_at());
    tracing::error!(
        recovery.id = %id, %principal, effective_at = %at,
        "recovery keys register an officer; any officer can reject it until then"
    );
}
