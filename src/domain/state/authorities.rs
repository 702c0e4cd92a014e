//! What steps of a rotation do to the list of authorities. Whether one may be taken is checked when it is admitted; that it
//! is one of this list, here as well.

use std::sync::Arc;

use super::State;
use super::apply::Applied;
use crate::domain::authority::{Authority, AuthorityState, NewAuthority};
use crate::domain::enforce::EnforcementEvent;
use crate::domain::id::{AuthorityId, Seq};
use crate::domain::time::Timestamp;

impl State {
    pub(super) fn prepare_authority(&mut self, seq: Seq, time: Timestamp, new: &NewAuthority) -> Applied {
        self.rotations.since.insert(new.id, time);
        let row = Authority {
            id: new.id,
            kind: new.kind,
            certificate: new.certificate.clone(),
            not_after: new.not_after,
            state: AuthorityState::Prepared,
            prepared: Some(seq),
            predecessor: None,
            issued_until: None,
            beneath: new.beneath,
        };
        let listed = EnforcementEvent::AuthorityListed(Arc::new(row.card()));
        self.authorities.insert(new.id, Arc::new(row));
        Applied::event(listed)
    }

    /// The one that was active retires in the same record, so that there are never two.
    pub(super) fn activate_authority(&mut self, id: AuthorityId) -> Result<Applied, String> {
        let kind = self.authorities.get(&id).ok_or("no such authority")?.kind;
        let before = self.authority(kind).map(|authority| authority.id);
        let mut applied = Applied::default();
        if let Some(before) = before {
            let retired = self.list_authority(before, |row| row.state = AuthorityState::Retiring)?;
            applied.events.extend(retired.events);
        }
        let activated = self.list_authority(id, |row| {
            row.state = AuthorityState::Active;
            row.predecessor = before;
        })?;
        applied.events.extend(activated.events);
        Ok(applied)
    }

    pub(super) fn roll_authority_back(&mut self, id: AuthorityId) -> Result<Applied, String> {
        let row = self.authorities.get(&id).ok_or("no such authority")?;
        // Whoever goes back by hand has decided otherwise: the server would only go forward again.
        self.rotations.approvals.remove(&row.kind);
        let (AuthorityState::Active, Some(before)) = (row.state, row.predecessor) else {
            return self.drop_authority(id);
        };
        let mut applied = self.list_authority(id, |row| {
            row.state = AuthorityState::Prepared;
            row.predecessor = None;
        })?;
        let again = self.list_authority(before, |row| row.state = AuthorityState::Active)?;
        applied.events.extend(again.events);
        Ok(applied)
    }

    /// It is trusted no more, and its row stays: its id is never used again.
    pub(super) fn drop_authority(&mut self, id: AuthorityId) -> Result<Applied, String> {
        self.change_authority(id, |row| row.state = AuthorityState::Retired)?;
        Ok(Applied::event(EnforcementEvent::AuthorityDropped(id)))
    }

    pub(super) fn revoke_authority(&mut self, id: AuthorityId) -> Result<Applied, String> {
        self.change_authority(id, |row| row.state = AuthorityState::Revoked)?;
        Ok(Applied::event(EnforcementEvent::IssuerRevoked(id)))
    }

    pub(super) fn taint_authority(&mut self, id: AuthorityId) -> Result<Applied, String> {
        self.list_authority(id, |row| row.state = AuthorityState::Tainted)
    }

    /// Changes an authority and tells gateways where it stands.
    fn list_authority(
        &mut self,
        id: AuthorityId,
        change: impl FnOnce(&mut Authority),
    ) -> Result<Applied, String> {
        let row = self.change_authority(id, change)?;
        Ok(Applied::event(EnforcementEvent::AuthorityListed(Arc::new(row.card()))))
    }

    fn change_authority(
        &mut self,
        id: AuthorityId,
        change: impl FnOnce(&mut Authority),
    ) -> Result<&Authority, String> {
        let row = Arc::make_mut(self.authorities.get_mut(&id).ok_or("no such authority")?);
        change(row);
        Ok(row)
    }
}
