//! Recoveries in State: announced, effective a day later, or ended before.

use std::sync::Arc;

use super::State;
use crate::domain::approval::Mandate;
use crate::domain::command::{Command, NewPrincipal, ObjectRef};
use crate::domain::event::Event;
use crate::domain::id::{Digest, ProposalId, Seq};
use crate::domain::proposal::Lapse;
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

    /// Why it can never be effective, if so: somebody else has the name or the key meanwhile, or its key is blocked, or one
    /// that signed it.
    pub fn recovery_lapse(&self, recovery: &PendingRecovery) -> Option<Lapse> {
        let (id, key) = (&recovery.new.id, Digest::of(&recovery.new.key));
        let name = ObjectRef::Principal(id.clone());
        if self.revision(&name) != Seq(0) || self.keys.contains_key(&key) {
            return Some(Lapse::Changed(name));
        }
        let signers = recovery.signed.signatures.iter().map(|signature| signature.key);
        let blocked = std::iter::once(key).chain(signers).find(|key| self.enforcement.is_blocked(*key));
        blocked.map(|key| Lapse::Changed(ObjectRef::Key(key)))
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
        if let Some(why) = self.recovery_lapse(pending) {
            return Err(why.to_string());
        }
        let new = pending.new.clone();
        self.recoveries.remove(&id);
        self.put_principal(new, seq);
        Ok(())
    }
}
