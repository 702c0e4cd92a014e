//! What commands do to roots, their lists and cross-certificates; and what a root's list does to authorities beneath it.
//!
//! An authority that its root revoked is revoked here as well, by the officer who brings the list and the root that signed it:
//! two, of whom one cannot be at the server. That of the system, when two approvers have no certificates of another, is
//! tainted instead: it issues nothing more, and nobody is locked out who would have to replace it.

use std::sync::Arc;

use super::State;
use super::apply::Applied;
use crate::domain::authority::AuthorityState;
use crate::domain::certificate::AuthorityKind;
use crate::domain::command::{Command, ObjectRef};
use crate::domain::id::{AuthorityId, Digest, RootId, Seq};
use crate::domain::principal::Role;
use crate::domain::root::{CrossCertificate, CrossSubject, ListFault, Root, RootList};
use crate::domain::time::Timestamp;

impl State {
    /// A command about roots.
    pub(super) fn enact_of_roots(
        &mut self,
        at: (Seq, Timestamp),
        command: &Command,
    ) -> Result<Applied, String> {
        match command {
            Command::TrustRoot(new) => self.trust_root(new)?,
            Command::RenewRootList { root, list } => return self.renew_root_list(at, *root, list),
            Command::AddCrossCertificate(new) => self.add_cross_certificate(new),
            Command::DropRoot(id) => self.drop_root(*id)?,
            other => return Err(format!("{} is not about roots", other.name())),
        }
        Ok(Applied::default())
    }

    /// One that was trusted before comes back with the list that it had, or a later one.
    pub(in crate::domain) fn check_comeback(&self, new: &Root) -> Result<(), ListFault> {
        let Some(dropped) = self.remembered.roots.get(&new.id) else { return Ok(()) };
        match new.list.number < dropped.number {
            true => Err(ListFault::Number),
            false => new.list.check_keeps(&dropped.revoked),
        }
    }

    fn trust_root(&mut self, new: &Root) -> Result<(), String> {
        self.check_comeback(new).map_err(|fault| fault.to_string())?;
        self.remembered.roots.remove(&new.id);
        self.roots.insert(new.id, Arc::new(new.clone()));
        Ok(())
    }

    fn add_cross_certificate(&mut self, new: &CrossCertificate) {
        self.cross_certificates.insert(Digest::of(&new.certificate), Arc::new(new.clone()));
    }

    /// The cross-certificates by it and of it go as well. What it revoked stays known.
    fn drop_root(&mut self, id: RootId) -> Result<(), String> {
        let root = self.roots.remove(&id).ok_or("no such root")?;
        self.remembered.drop_root(&root);
        self.keep_cross_certificates(|cross| cross.by.root != id && cross.subject != CrossSubject::Root(id));
        Ok(())
    }

    fn renew_root_list(
        &mut self,
        (seq, time): (Seq, Timestamp),
        id: RootId,
        list: &RootList,
    ) -> Result<Applied, String> {
        let root = Arc::make_mut(self.roots.get_mut(&id).ok_or("no such root")?);
        let follows = list.check_follows(root.list.number, &root.list.revoked);
        follows.map_err(|fault| fault.to_string())?;
        root.list = list.clone();
        self.keep_cross_certificates(|cross| cross.by.root != id || !list.revokes(cross.by.serial));
        let named = self.authorities.values().filter(|row| {
            let is_named = |by: crate::domain::root::Beneath| by.root == id && list.revokes(by.serial);
            row.state.is_trusted() && row.beneath.is_some_and(is_named)
        });
        let named: Vec<AuthorityId> = named.map(|row| row.id).collect();
        let mut applied = Applied::default();
        for authority in named {
            applied.events.extend(self.end_authority(authority, time)?.events);
            self.touch(ObjectRef::Authorities, seq);
        }
        Ok(applied)
    }

    fn keep_cross_certificates(&mut self, is_kept: impl Fn(&CrossCertificate) -> bool) {
        let kept = self.cross_certificates.iter().filter(|(_, cross)| is_kept(cross));
        self.cross_certificates = kept.map(|(hash, cross)| (*hash, Arc::clone(cross))).collect();
    }

    /// Ends an authority, unless officers are needed for it: then it is tainted, and they see that.
    pub(super) fn end_authority(&mut self, id: AuthorityId, time: Timestamp) -> Result<Applied, String> {
        let row = self.authorities.get(&id).ok_or("no such authority")?;
        match (row.kind, row.state) {
            (AuthorityKind::System, AuthorityState::Tainted) if !self.approvers_remain(id, time) => {
                Ok(Applied::default())
            }
            (AuthorityKind::System, AuthorityState::Active | AuthorityState::Retiring)
                if !self.approvers_remain(id, time) =>
            {
                self.taint_authority(id)
            }
            _ => self.revoke_authority(id),
        }
    }

    /// Would two acting approvers still have certificates of another system authority? Decided by the rows: the enforcement
    /// set learns only at the end of a record that one of two was revoked in it.
    pub(in crate::domain) fn approvers_remain(&self, without: AuthorityId, now: Timestamp) -> bool {
        let remains = |id| {
            self.system_certificates.get(id).is_some_and(|last| {
                let is_trusted = self.authorities.get(&last.issuer).is_some_and(|row| row.state.is_trusted());
                last.issuer != without
                    && last.not_after > now
                    && is_trusted
                    && self.enforcement.is_trusted(&last.issuer)
            })
        };
        let acting = self.principals.keys().filter_map(|id| self.officer(id));
        let approvers = acting.filter(|p| p.has(Role::Approver));
        approvers.filter(|p| remains(&p.id)).count() >= 2
    }
}
