//! Steps of a rotation: the key of the next authority is made here and never leaves, nothing issues before every gateway
//! that can hold a lease knows it, and nothing is retired of which a certificate is still good.
//!
//! What is looked at here only ever gets better: gateways learn and do not forget, and who issues nothing any more has
//! ever fewer certificates. So what a step was allowed by still holds when it is recorded.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::crl::{blocking, listed_access};
use super::error::Error;
use super::{App, authorities, hierarchy};
use crate::ca::bootstrap::{self, BootstrapFault};
use crate::domain::approval::{Mandate, SignedMandate};
use crate::domain::authority::{Authority as Row, AuthorityState, NewAuthority};
use crate::domain::certificate::{AuthorityKind, BLOCK_LEN, Serial, TTL_MAX_S};
use crate::domain::codec::to_bytes;
use crate::domain::command::Command;
use crate::domain::enforce::{ParticipantId, Position};
use crate::domain::flow::{admit_mandate, mandate_for};
use crate::domain::id::{AuthorityId, Digest, EntityId, Ordinal};
use crate::domain::state::{State, Withdrawal};
use crate::domain::time::{Now, Timestamp};
use crate::faults::kill_point;
use crate::feed::{SessionStatus, Standing};
use crate::views::CertificateRow;
use crate::x509::template::SYSTEM_TTL_MAX_S;
use crate::x509::{Authority, Curve, ReasonCode};

/// How many names an error gives of those that are waited for.
const NAMED_MAX: usize = 10;

/// What steps of a rotation remember between them, in this run.
#[derive(Default)]
pub(super) struct Rotation {
    /// Made here and not on record yet: who asks again gets the same, so that nobody piles up keys.
    made: tokio::sync::Mutex<BTreeMap<AuthorityKind, NewAuthority>>,
    /// When the record of a prepared authority was first seen, in milliseconds of the boot clock.
    seen: Mutex<BTreeMap<AuthorityId, u64>>,
}

/// An authority whose key is here, for officers to look at and sign.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MadeAuthority {
    /// What would be trusted.
    pub authority: NewAuthority,
    /// The mandate of that.
    pub mandate: Mandate,
}

/// How an authority stands.
#[derive(Debug, Clone)]
pub struct AuthorityStanding {
    /// As it is on record.
    pub row: Arc<Row>,
    /// Its key is at this server.
    pub has_key: bool,
    /// Who knows it and who does not yet; none: nobody has to learn of it, or not any more.
    pub known: Option<Standing>,
    /// How many certificates of it are still good, by the entity that has them; none: principals and canaries.
    pub held: BTreeMap<Option<EntityId>, u64>,
    /// When the newest list of the root above it ends.
    pub root_list_until: Option<Timestamp>,
}

impl AuthorityStanding {
    /// May it issue, as far as gateways go?
    pub fn is_known_everywhere(&self) -> bool {
        self.known.as_ref().is_none_or(is_known)
    }

    /// How many certificates of it are still good.
    pub fn held_count(&self) -> u64 {
        self.held.values().sum()
    }
}

/// An answer of this server that somebody does not read is no gateway: it cannot meet a certificate that is not issued yet.
fn is_known(standing: &Standing) -> bool {
    let report = &standing.report;
    report.enforced_by.is_some() || report.pending.iter().all(|id| *id == ParticipantId::Server)
}

type Held = BTreeMap<AuthorityId, BTreeMap<Option<EntityId>, u64>>;

impl Rotation {
    /// Of a run that began at `boot_ms`: whatever it found on record was durable by then.
    pub(super) fn since(state: &State, boot_ms: u64) -> Self {
        let rotation = Self::default();
        let prepared = state.authorities.values().filter(|row| row.prepared.is_some());
        prepared.for_each(|row| {
            rotation.note(row.id, boot_ms);
        });
        rotation
    }

    /// Nobody else makes a key meanwhile.
    pub(super) async fn lock(&self) -> impl Drop + '_ {
        self.made.lock().await
    }

    /// Notes when it was durable that an authority is to be trusted; the first time counts.
    pub(super) fn note(&self, authority: AuthorityId, boot_ms: u64) -> u64 {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        *seen.entry(authority).or_insert(boot_ms)
    }
}

impl App {
    /// Makes the key of an authority, here, and its certificate, for `life_s` seconds; none: as long as the one that issues
    /// now. Nothing trusts it before its mandate is recorded. Asked again before that, it gives the same.
    ///
    /// # Errors
    /// The record would not take it, or the key cannot be kept.
    pub async fn prepare_authority(
        self: &Arc<Self>,
        kind: AuthorityKind,
        life_s: Option<u64>,
    ) -> Result<MadeAuthority, Error> {
        self.check_clock()?;
        let mut made = self.rotation.made.lock().await;
        let state = self.state();
        let now = self.clock.now();
        let waiting =
            made.get(&kind).filter(|new| !state.authorities.contains_key(&new.id) && new.not_after > now);
        let authority = match waiting {
            Some(new) if life_s.is_none() => new.clone(),
            Some(_) | None => {
                let (like, not_after) = self.next_like(&state, kind, life_s, now)?;
                let id = AuthorityId::from_parts(now, self.entropy.bytes16());
                let serial = Serial::from_random(self.entropy.bytes16());
                let new = bootstrap::NewAuthority { id, kind, serial, not_after };
                let app = Arc::clone(self);
                let new = blocking(move || app.make_authority(&new, like, now)).await?;
                made.insert(kind, new.clone());
                new
            }
        };
        let mandate = mandate_for(&state, Command::PrepareAuthority(authority.clone()), now);
        let unsigned = SignedMandate { bytes: to_bytes(&mandate), approvals: Vec::new() };
        admit_mandate(&state, &unsigned, now)?;
        Ok(MadeAuthority { authority, mandate })
    }

    /// The curve and the end of the next authority of a kind.
    pub(super) fn next_like(
        &self,
        state: &State,
        kind: AuthorityKind,
        life_s: Option<u64>,
        now: Timestamp,
    ) -> Result<(Curve, Timestamp), Error> {
        let last = state.authorities.values().rfind(|row| row.kind == kind);
        let last = state.authority(kind).or(last).ok_or(Error::NotFound("authority"))?;
        let last = authorities::read(&last.certificate)?;
        let life_ms = match life_s {
            Some(life_s) => i64::try_from(life_s).unwrap_or(i64::MAX).saturating_mul(1_000),
            None => last.not_after().millis().saturating_sub(last.not_before().millis()),
        };
        Ok((last.key().curve(), now.plus_ms(life_ms)))
    }

    /// Blocks: a key is written and synced.
    pub(super) fn make_authority(
        &self,
        new: &bootstrap::NewAuthority,
        curve: Curve,
        now: Timestamp,
    ) -> Result<NewAuthority, Error> {
        let signer = self.authorities.make(new.id, curve)?;
        kill_point("authority.after_key");
        let made = bootstrap::authority(signer.as_ref(), new, self.algorithms(), now).map_err(|fault| {
            if let Err(error) = self.authorities.remove(new.id) {
                tracing::error!(authority.id = %new.id, %error, "a key that is no authority's could not be removed");
            }
            match fault {
                BootstrapFault::Validity => Error::Invalid { field: "life_s", why: fault.to_string() },
                fault => Error::Internal(format!("no authority was made: {fault}")),
            }
        })?;
        tracing::info!(authority.id = %new.id, authority.kind = %new.kind, "the key of an authority was made");
        Ok(NewAuthority {
            id: new.id,
            kind: new.kind,
            certificate: made.der().to_vec(),
            not_after: made.not_after(),
            beneath: None,
        })
    }

    /// What the record cannot know of a step, looked at before it is recorded. `takes_effect`: not only proposed.
    pub(super) async fn check_step(
        self: &Arc<Self>,
        command: &Command,
        takes_effect: bool,
    ) -> Result<(), Error> {
        self.check_apart_command(command)?;
        let state = self.state();
        let stands = |id: &AuthorityId| state.authorities.get(id).map(|row| row.state);
        match command {
            Command::PrepareAuthority(new) if stands(&new.id).is_none() => {
                let (app, new) = (Arc::clone(self), new.clone());
                blocking(move || app.adopt(&app.state(), &new)).await
            }
            Command::ActivateAuthority(id)
                if takes_effect && stands(id) == Some(AuthorityState::Prepared) =>
            {
                self.check_known(&state, *id)
            }
            Command::RetireAuthority(id)
                if takes_effect
                    && matches!(stands(id), Some(AuthorityState::Retiring | AuthorityState::Tainted)) =>
            {
                self.check_spent(&state, *id).await
            }
            Command::ImportScreeningList { list, .. } => self.check_list(list),
            command => hierarchy::check(&state, command),
        }
    }

    /// Takes up a key that was made here for what is to be trusted now. Blocks.
    pub(super) fn adopt(&self, state: &State, new: &NewAuthority) -> Result<(), Error> {
        let wrong = |why: String| Error::Invalid { field: "certificate", why };
        let read = Authority::from_der(&new.certificate).map_err(|fault| wrong(fault.to_string()))?;
        if (read.id(), read.kind(), read.not_after()) != (new.id, new.kind, new.not_after) {
            return Err(wrong("it is not the certificate of this authority".to_owned()));
        }
        hierarchy::check_beneath(state, &read, new.beneath)?;
        let (curve, _) = self.next_like(state, new.kind, None, self.clock.now())?;
        if read.key().curve() != curve {
            let (is, must) = (read.key().curve().as_str(), curve.as_str());
            return Err(wrong(format!(
                "its key is {is}; authorities of this service have {must} keys, for good"
            )));
        }
        let has_this_key = |row: &&Arc<Row>| {
            authorities::read(&row.certificate).is_ok_and(|other| other.key().spki() == read.key().spki())
        };
        let is_used = state.keys.contains_key(&Digest::of(read.key().spki()));
        if is_used || state.authorities.values().any(|row| has_this_key(&row)) {
            return Err(wrong("its key is in use already".to_owned()));
        }
        self.authorities.adopt(new)
    }

    /// Refuses until every gateway that can hold a lease has acknowledged the authority, and says who is missing.
    pub(super) fn check_known(&self, state: &State, id: AuthorityId) -> Result<(), Error> {
        let row = state.authorities.get(&id).ok_or(Error::NotFound("authority"))?;
        if self.authorities.get(id).is_none() {
            return Err(Error::WrongState(format!("the key of authority {id} is not at this server")));
        }
        let Some(known) = self.known(state, row).filter(|known| !is_known(known)) else { return Ok(()) };
        let missing = known.missing.iter().filter(|(id, _)| *id != ParticipantId::Server);
        let count = missing.clone().count();
        let names: Vec<_> = missing.take(NAMED_MAX).map(|(id, _)| id.to_string()).collect();
        let more = if count > NAMED_MAX { format!(" and {} more", count - NAMED_MAX) } else { String::new() };
        Err(Error::WrongState(format!(
            "authority {id} is not known everywhere yet: {}{more} did not acknowledge record {}; in {} ms at the latest \
             it is",
            names.join(", "),
            row.prepared.unwrap_or_default(),
            known.bound_left_ms,
        )))
    }

    /// How the record stands that had gateways trust an authority; none: it is of genesis, or trusted no more.
    fn known(&self, state: &State, row: &Row) -> Option<Standing> {
        let seq = row.prepared.filter(|_| row.state.is_trusted())?;
        // Seen later than it was durable: the bound can only be later.
        let seen_ms = self.rotation.note(row.id, self.clock.boot_ms());
        let mut known = self.feed.standing(Position { epoch: state.position.epoch, seq }, seen_ms);
        // A stream that promised nothing holds no lease, and its proxy knows only what it was sent: it is waited for as well,
        // as long as for everybody else.
        let left_ms = known.bound_left_ms;
        let sessions = if left_ms > 0 { self.feed.sessions() } else { Vec::new() };
        let behind =
            |session: &SessionStatus| !session.is_participant && session.is_connected && session.acked < seq;
        for session in sessions.into_iter().filter(behind) {
            let id = ParticipantId::Gateway(session.gateway, session.boot);
            known.report.pending.push(id.clone());
            known.missing.push((id, Some(left_ms)));
            known.report.enforced_by = None;
        }
        Some(known)
    }

    async fn check_spent(self: &Arc<Self>, state: &Arc<State>, id: AuthorityId) -> Result<(), Error> {
        let row = state.authorities.get(&id).ok_or(Error::NotFound("authority"))?;
        if row.issued_until.is_none_or(|until| until < self.clock.now()) {
            return Ok(());
        }
        let held = self.held(state).await?;
        let count: u64 = held.get(&id).map(|held| held.values().sum()).unwrap_or_default();
        match count {
            0 => Ok(()),
            count => Err(Error::WrongState(format!(
                "{count} certificates of authority {id} are still good: renew or revoke them, or revoke the authority"
            ))),
        }
    }

    /// Every authority on record, as it stands now.
    ///
    /// # Errors
    /// The certificate index is behind or damaged.
    pub async fn authority_standings(self: &Arc<Self>) -> Result<Vec<AuthorityStanding>, Error> {
        let state = self.state();
        let mut held = self.held(&state).await?;
        let standing = |row: &Arc<Row>| AuthorityStanding {
            row: Arc::clone(row),
            has_key: self.authorities.get(row.id).is_some(),
            known: self.known(&state, row),
            held: held.remove(&row.id).unwrap_or_default(),
            root_list_until: row
                .beneath
                .and_then(|beneath| state.roots.get(&beneath.root))
                .map(|root| root.list.next_update),
        };
        Ok(state.authorities.values().map(standing).collect())
    }

    /// Certificates that are neither expired nor revoked, by authority and entity. One on hold counts: it may come back.
    async fn held(self: &Arc<Self>, state: &Arc<State>) -> Result<Held, Error> {
        // Every service has certificates of the system authority.
        self.await_index(state, AuthorityKind::System, 0).await?;
        let (app, as_of, now) = (Arc::clone(self), Arc::clone(state), self.clock.now());
        blocking(move || {
            let mut held = Held::new();
            for (kind, last, life_s) in [
                (AuthorityKind::Access, as_of.last_ordinal, TTL_MAX_S),
                (AuthorityKind::System, as_of.last_system_ordinal, SYSTEM_TTL_MAX_S),
            ] {
                app.count_held(&as_of, (kind, last, life_s), now, &mut held)?;
            }
            Ok(held)
        })
        .await
    }

    /// From the newest shard back to one that is older than any certificate lives. Blocks.
    fn count_held(
        &self,
        state: &State,
        (kind, last, life_s): (AuthorityKind, Ordinal, u32),
        now: Timestamp,
        held: &mut Held,
    ) -> Result<(), Error> {
        for shard in (0..=last.0 / BLOCK_LEN).rev() {
            let rows = self.certificates.by_shard(kind, shard);
            let rows = rows.map_err(|e| Error::Unavailable(format!("the certificate index: {e}")))?;
            let is_good = |row: &&CertificateRow| row.issued.is_some() && row.not_after > now;
            for row in rows.iter().filter(is_good) {
                let Some(issuer) = state.issuer_named(row.authority, row.issuer) else { continue };
                if !is_revoked(state, issuer, row, now) {
                    *held.entry(issuer.id).or_default().entry(row.entity).or_default() += 1;
                }
            }
            let newest = rows.iter().map(|row| row.not_before).max();
            if newest.is_some_and(|at| at.plus_ms(i64::from(life_s) * 1_000 + 3_600_000) < now) {
                break;
            }
        }
        Ok(())
    }
}

fn is_revoked(state: &State, issuer: &Row, row: &CertificateRow, now: Timestamp) -> bool {
    if !issuer.state.is_trusted() {
        return true;
    }
    match (row.authority, &row.principal) {
        (AuthorityKind::Access, _) if row.entity.is_none() => {
            matches!(state.canary_withdrawal(issuer.id, row.ordinal, row.key), Some(Withdrawal::Revoked(_)))
        }
        (AuthorityKind::Access, _) => {
            let listed = listed_access(state, issuer.id, row, Now::with_margin(now));
            listed.is_some_and(|(_, reason)| reason != ReasonCode::CertificateHold)
        }
        // The server's own is the last one; of others, whoever has the registered key.
        (AuthorityKind::System, Some(id)) => match state.principals.get(id) {
            Some(principal) => principal.is_removed || principal.key_digest() != row.key,
            None => state.system_certificates.get(id).is_none_or(|last| Some(last.hash) != row.hash),
        },
        (AuthorityKind::System, None) => true,
    }
}
