//! What an announced revocation does to State. Whether one may still be postponed is checked here as well as at its
//! admission: what was cut once never comes back, whoever writes to the journal.

use std::sync::Arc;

use thiserror::Error;

use super::State;
use super::apply::Applied;
use super::causes::RevocationCause;
use crate::domain::announcement::{Announcement, AnnouncementRow, Cut, LISTED_AHEAD_MS};
use crate::domain::certificate::AuthorityKind;
use crate::domain::command::Command;
use crate::domain::enforce::{EnforcementEvent, Names};
use crate::domain::id::{AnnouncementId, Ordinal, Seq};
use crate::domain::revocation::{RevocationReason, RevocationScope};
use crate::domain::time::{Now, Timestamp};

/// Why an announcement cannot be changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum AnnouncementFault {
    /// It is not on record.
    #[error("no such announcement")]
    Unknown,
    /// Officers withdrew it.
    #[error("it was withdrawn")]
    Withdrawn,
    /// Its instant has come, or is so near that lists name its certificates already.
    #[error("its instant has come")]
    Cut,
    /// Its instant has not come.
    #[error("its instant has not come")]
    NotCut,
    /// That it passed is on record.
    #[error("that its instant passed is on record already")]
    Noted,
    /// Another command says so.
    #[error("the instant does not move in that direction")]
    Direction,
}

impl State {
    /// Why an announcement cannot be cut earlier.
    ///
    /// # Errors
    /// It is not there, withdrawn, or that is no earlier instant.
    pub fn check_hasten(&self, id: AnnouncementId, cut_at: Timestamp) -> Result<(), AnnouncementFault> {
        match cut_at < self.announced(id)?.told.cut_at {
            // What gateways were told to forget reaches nothing any more, and would stand in their sets for good.
            true if !self.enforcement.announced.contains_key(&id) => Err(AnnouncementFault::Cut),
            true => Ok(()),
            false => Err(AnnouncementFault::Direction),
        }
    }

    /// Why it cannot be postponed or withdrawn.
    ///
    /// # Errors
    /// It is not there, withdrawn or cut, or that is no later instant.
    pub fn check_postpone(
        &self,
        id: AnnouncementId,
        cut_at: Option<Timestamp>,
        at: Timestamp,
    ) -> Result<(), AnnouncementFault> {
        let told = &self.announced(id)?.told;
        if told.cut_at <= at.plus_ms(LISTED_AHEAD_MS) {
            return Err(AnnouncementFault::Cut);
        }
        match cut_at.is_none_or(|cut_at| cut_at > told.cut_at) {
            true => Ok(()),
            false => Err(AnnouncementFault::Direction),
        }
    }

    /// Why it cannot be noted that its instant passed.
    ///
    /// # Errors
    /// It is not there or withdrawn, it has not passed, or that is on record.
    pub fn check_passed(&self, id: AnnouncementId, at: Timestamp) -> Result<(), AnnouncementFault> {
        let row = self.announced(id)?;
        match (row.passed, row.told.cut_at <= at) {
            (Some(_), _) => Err(AnnouncementFault::Noted),
            (None, false) => Err(AnnouncementFault::NotCut),
            (None, true) => Ok(()),
        }
    }

    fn announced(&self, id: AnnouncementId) -> Result<&Arc<AnnouncementRow>, AnnouncementFault> {
        let row = self.announcements.get(&id).ok_or(AnnouncementFault::Unknown)?;
        if row.withdrawn.is_some() { Err(AnnouncementFault::Withdrawn) } else { Ok(row) }
    }

    /// Announcements whose instant has come without a record that says so.
    pub fn unnoted(&self, now: Timestamp) -> impl Iterator<Item = AnnouncementId> {
        let rows = self.announcements.values();
        rows.filter(move |row| row.passed.is_none() && row.withdrawn.is_none() && row.told.cut_at <= now)
            .map(|row| row.told.id)
    }

    /// Since when and why a certificate is cut that was announced to be.
    pub(super) fn announced_cause(&self, names: &Names<'_>, now: Now) -> Option<RevocationCause> {
        let cut = self.enforcement.announcements(names).filter(|announced| announced.is_cut(now));
        let first = cut.min_by_key(|announced| announced.cut_at)?;
        // What a gateway gave back after a restore has no row: the reason was lost with its record.
        let row = self.announcements.get(&first.id);
        let reason = row.map_or(RevocationReason::StatusChanged, |row| row.reason);
        // Lists say since when: an instant before the announcement cuts at once, and not in a year that nobody meant.
        Some(RevocationCause { at: first.cut_at.max(first.announced_at), reason })
    }

    pub(super) fn announce(
        &mut self,
        seq: Seq,
        time: Timestamp,
        command: &Command,
    ) -> Result<Applied, String> {
        match command {
            Command::AnnounceRevocation { id, scope, cut_at, reason } => {
                if self.announcements.contains_key(id) {
                    return Err("this announcement exists already".to_owned());
                }
                let told = self.announcement(*id, scope, time, *cut_at);
                let row = AnnouncementRow {
                    scope: scope.clone(),
                    reason: *reason,
                    announced: seq,
                    told: told.clone(),
                    withdrawn: None,
                    passed: None,
                };
                self.announcements.insert(*id, Arc::new(row));
                let mut events = self.forget_spent(time);
                events.push(EnforcementEvent::RevocationAnnounced(Arc::new(told)));
                Ok(Applied { events, cards: Vec::new() })
            }
            Command::HastenRevocation { announcement, cut_at } => {
                self.check_hasten(*announcement, *cut_at).map_err(|fault| fault.to_string())?;
                let told = self.tell(*announcement, |row| row.told.cut_at = *cut_at)?;
                Ok(Applied::event(EnforcementEvent::RevocationAnnounced(Arc::new(told))))
            }
            Command::PostponeRevocation { announcement, cut_at } => {
                self.check_postpone(*announcement, *cut_at, time).map_err(|fault| fault.to_string())?;
                self.tell(*announcement, |row| match cut_at {
                    Some(cut_at) => row.told.cut_at = *cut_at,
                    None => row.withdrawn = Some(seq),
                })?;
                let (announcement, cut_at) = (*announcement, *cut_at);
                Ok(Applied::event(EnforcementEvent::RevocationPostponed { announcement, cut_at }))
            }
            other => Err(format!("{} announces nothing", other.name())),
        }
    }

    pub(super) fn note_passed(
        &mut self,
        (seq, time): (Seq, Timestamp),
        id: AnnouncementId,
    ) -> Result<(), String> {
        self.check_passed(id, time).map_err(|fault| fault.to_string())?;
        self.tell(id, |row| row.passed = Some(seq)).map(drop)
    }

    fn tell(
        &mut self,
        id: AnnouncementId,
        change: impl FnOnce(&mut AnnouncementRow),
    ) -> Result<Announcement, String> {
        let row = Arc::make_mut(self.announcements.get_mut(&id).ok_or("no such announcement")?);
        change(row);
        Ok(row.told.clone())
    }

    /// Gateways need not hold what can reach nothing any more.
    fn forget_spent(&self, time: Timestamp) -> Vec<EnforcementEvent> {
        let spent = self.enforcement.announced.values().filter(|held| held.is_spent(time));
        spent
            .map(|held| EnforcementEvent::RevocationPostponed { announcement: held.id, cut_at: None })
            .collect()
    }

    /// What gateways are told: names that they know certificates by, as of now.
    fn announcement(
        &self,
        id: AnnouncementId,
        scope: &RevocationScope,
        announced_at: Timestamp,
        cut_at: Timestamp,
    ) -> Announcement {
        let cut = match scope {
            RevocationScope::Certificate(ordinal) => Cut::Certificate(*ordinal),
            RevocationScope::Lineage(lineage) => Cut::Lineage(*lineage),
            RevocationScope::Subject(subject) => Cut::Subjects(vec![*subject]),
            RevocationScope::Person(person) => Cut::Subjects(self.employments(*person)),
            RevocationScope::Entity(entity) => Cut::Entity(*entity),
            RevocationScope::Issuer(issuer) => Cut::Issuer(*issuer),
            RevocationScope::Determination(id) => Cut::Determination(id.clone(), None),
            RevocationScope::AnnexRevision(id, revision) => Cut::Determination(id.clone(), Some(*revision)),
        };
        Announcement { id, cut, cutoff: self.issued_up_to(scope), announced_at, cut_at }
    }

    fn issued_up_to(&self, scope: &RevocationScope) -> Ordinal {
        let is_system = |id| self.authorities.get(id).is_some_and(|row| row.kind == AuthorityKind::System);
        match scope {
            RevocationScope::Issuer(id) if is_system(id) => self.last_system_ordinal,
            _ => self.last_ordinal,
        }
    }
}
