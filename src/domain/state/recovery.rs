//! Recoveries in State: announced, effective a day later, or ended before.

use std::sync::Arc;

use super::State;
use crate::domain::approval::Mandate;
use crate::domain::command::{Command, NewPrincipal, ObjectRef};
use crate::domain::event::Event;
use crate::domain::id::{ProposalId, Seq};
use crate::domain::recovery::{PendingRecovery, RecoveryFault, SignedRecovery};
use crate::domain::time::Timestamp;

impl State {
    /// What recovery keys signed, if enough of them did.
    ///
    /// # Errors
    /// What does not hold.
    pub fn check_recovery(&self, signed: &SignedRecovery) -> Result<(Mandate, NewPrincipal), RecoveryFault> {
        let trust_domain = &self.settings.trust_domain;
        signed.check(self.recovery.as_ref(), trust_domain, |key| self.enforcement.is_blocked(key))
    }

    /// Somebody else has the name or the key meanwhile: it can never be effective.
    pub fn is_recovery_void(&self, recovery: &PendingRecovery) -> bool {
        let id = &recovery.new.id;
        self.revision(&ObjectRef::Principal(id.clone())) != Seq(0)
            || self.keys.contains_key(&crate::domain::id::Digest::of(&recovery.new.key))
    }

    /// A recovery is announced, or its day has come.
    pub(super) fn recover(
        &mut self,
        (seq, time): (Seq, Timestamp),
        event: &Event,
        mandate: Option<&Mandate>,
    ) -> Result<(), String> {
        match event {
            Event::RecoveryAnnounced { id, signed } => {
                let mandate = mandate.ok_or("its signatures were not verified")?;
                let Command::RegisterPrincipal(new) = &mandate.command else {
                    return Err("a recovery registers an officer".to_owned());
                };
                let (new, signed) = (new.clone(), signed.clone());
                let pending = PendingRecovery { id: *id, signed, new, seq, announced_at: time };
                self.recoveries.insert(*id, Arc::new(pending));
                Ok(())
            }
            Event::RecoveryTookEffect(id) => self.take_effect(*id, seq, time),
            _ => Ok(()),
        }
    }

    fn take_effect(&mut self, id: ProposalId, seq: Seq, time: Timestamp) -> Result<(), String> {
        let pending = self.recoveries.get(&id).ok_or("it is no recovery that waits")?;
        if time < pending.effective_at() {
            return Err(format!("the recovery is effective at {}, not before", pending.effective_at()));
        }
        if self.is_recovery_void(pending) {
            return Err("its name or its key is registered already".to_owned());
        }
        let new = pending.new.clone();
        self.recoveries.remove(&id);
        self.put_principal(new, seq);
        Ok(())
    }
}
