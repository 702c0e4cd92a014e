//! Rotation by itself, under a standing approval of two officers: what is due is prepared, activated and retired, and each step
//! is a record that names the approval.
//!
//! A step needs here what the same step of officers needs: the key is made here, and nothing issues before every gateway that
//! can hold a lease knows it. What goes wrong for good ends it: it is recorded, and officers rotate by hand.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::crl::blocking;
use super::error::Error;
use super::{App, Caller, authorities};
use crate::ca::bootstrap;
use crate::domain::authority::{AuthorityState, NewAuthority};
use crate::domain::certificate::{AuthorityKind, Serial};
use crate::domain::event::Event;
use crate::domain::id::{AuthorityId, Seq};
use crate::domain::rotation::RotationStep;
use crate::domain::state::State;
use crate::domain::time::Timestamp;
use crate::faults::kill_point;

/// The pause after a step that could not be taken now: what is waited for takes a lease or longer.
const RETRY_MS: u64 = 5_000;
/// How often the log says that a successor is due and nobody prepares one.
const REMIND_MS: u64 = 86_400_000;
/// The longest reason that is recorded of a failure.
const WHY_LEN_MAX: usize = 500;

/// What the rotation of one kind remembers between looks, in this run.
#[derive(Default)]
pub(super) struct Automation {
    kinds: BTreeMap<AuthorityKind, Memory>,
}

#[derive(Default)]
struct Memory {
    /// Not before, in milliseconds of the boot clock.
    again_ms: u64,
    /// Nobody is reminded before, likewise.
    remind_ms: u64,
    /// The lapse that the log told of.
    lapse_told: Option<Seq>,
    /// Made here and not on record yet: the next try is with the same, so that nobody piles up keys.
    made: Option<NewAuthority>,
}

/// How the rotation of a kind stands, for who watches it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RotationOutlook {
    /// Of which authorities.
    pub kind: AuthorityKind,
    /// When the one that issues ends; none: nobody issues.
    pub ends: Option<Timestamp>,
    /// A successor is due, and there is none.
    pub is_overdue: bool,
    /// A step that the server took by itself failed: officers rotate by hand.
    pub has_failed: bool,
    /// The standing approval lost one of its officers: nothing is done under it.
    pub has_lapsed: bool,
}

/// Why a step was not taken.
enum Refusal {
    /// It can be taken later.
    Later(String),
    /// It cannot.
    Never(String),
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        match error {
            Error::Unavailable(_) | Error::Limit { .. } | Error::Deadline | Error::Conflict(_) => {
                Self::Later(error.to_string())
            }
            other => Self::Never(other.to_string()),
        }
    }
}

impl App {
    /// Takes the next step of each kind, if one is due and approved.
    pub(super) async fn rotate(self: &Arc<Self>, automation: &mut Automation) {
        // Nothing is decided on a clock that is not believed, on a record that cannot be written, or before officers have
        // acknowledged a restore.
        let state = self.state();
        if self.state_fault().is_some() || !self.shared.is_writable() || state.pending_restore().is_some() {
            return;
        }
        for kind in AuthorityKind::ALL.iter().copied() {
            let memory = automation.kinds.entry(kind).or_default();
            if self.clock.boot_ms() >= memory.again_ms {
                self.rotate_kind(kind, &state, memory).await;
            }
        }
    }

    async fn rotate_kind(self: &Arc<Self>, kind: AuthorityKind, state: &Arc<State>, memory: &mut Memory) {
        let now = self.clock.now();
        tell_lapse(kind, state, memory);
        let approval = state.standing_approval(kind, now).ok().filter(|_| !is_beneath_a_root(state, kind));
        let Some(approval) = approval else {
            self.remind(kind, state, memory, now);
            return;
        };
        let given = approval.given;
        let Some(due) = due(state, kind, approval.left, now) else { return };
        let boot_ms = self.clock.boot_ms();
        match self.take_due(kind, given, due, memory).await {
            Ok(step) => {
                memory.made = None;
                tracing::info!(
                    authority.kind = %kind, authority.id = %step.authority(), step = step.name(), approval = given.0,
                    "a step of a rotation was taken under a standing approval"
                );
            }
            Err(Refusal::Later(why)) => {
                memory.again_ms = boot_ms.saturating_add(RETRY_MS);
                tracing::info!(authority.kind = %kind, why, "a step of a rotation waits");
            }
            Err(Refusal::Never(why)) => {
                memory.again_ms = boot_ms.saturating_add(RETRY_MS);
                self.fail(kind, given, why).await;
            }
        }
    }

    /// Says in good time that officers have something to do.
    fn remind(&self, kind: AuthorityKind, state: &State, memory: &mut Memory, now: Timestamp) {
        let boot_ms = self.clock.boot_ms();
        if boot_ms < memory.remind_ms || !is_overdue(state, kind, now) {
            return;
        }
        memory.remind_ms = boot_ms.saturating_add(REMIND_MS);
        let ends = state.authority(kind).map(|active| active.not_after.to_string()).unwrap_or_default();
        tracing::warn!(
            authority.kind = %kind, ends,
            "the authority that issues needs a successor, and the server may not make one by itself: \
             `countersign authority prepare`, a ceremony of the root that it is beneath, or `authority automate`"
        );
    }

    async fn take_due(
        self: &Arc<Self>,
        kind: AuthorityKind,
        approval: Seq,
        due: Due,
        memory: &mut Memory,
    ) -> Result<RotationStep, Refusal> {
        let step = match due {
            Due::Prepare(life_ms) => {
                let new = self.made_alone(kind, life_ms, memory).await?;
                let (app, adopted) = (Arc::clone(self), new.clone());
                blocking(move || app.adopt(&app.state(), &adopted)).await?;
                RotationStep::Prepare(new)
            }
            Due::Activate(id) => {
                if self.authorities.get(id).is_none() {
                    return Err(Refusal::Never(format!("the key of authority {id} is not at this server")));
                }
                // Exactly as for officers. Gateways that do not know it yet are waited for.
                self.check_known(&self.state(), id).map_err(|error| Refusal::Later(error.to_string()))?;
                RotationStep::Activate(id)
            }
            Due::Retire(id) => RotationStep::Retire(id),
        };
        let event = Event::RotationStepped { kind, approval, step: step.clone() };
        kill_point("rotation.before_record");
        let committed = self.record(Caller::default().entry(event)).await?;
        kill_point("rotation.after_record");
        if let RotationStep::Prepare(new) = &step {
            self.rotation.note(new.id, committed.boot_ms);
        }
        Ok(step)
    }

    /// The next authority of a kind: the one of the last try, if the record would still take it.
    async fn made_alone(
        self: &Arc<Self>,
        kind: AuthorityKind,
        life_ms: i64,
        memory: &mut Memory,
    ) -> Result<NewAuthority, Refusal> {
        let (state, now) = (self.state(), self.clock.now());
        let is_good = |new: &&NewAuthority| {
            let of_now = now.plus_ms(life_ms).millis().saturating_sub(new.not_after.millis());
            !state.authorities.contains_key(&new.id) && (0..life_ms / 10).contains(&of_now)
        };
        if let Some(new) = memory.made.as_ref().filter(is_good) {
            return Ok(new.clone());
        }
        let active = state.authority(kind).ok_or(Error::NotFound("authority"))?;
        let curve = authorities::read(&active.certificate)?.key().curve();
        let id = AuthorityId::from_parts(now, self.entropy.bytes16());
        let serial = Serial::from_random(self.entropy.bytes16());
        let new = bootstrap::NewAuthority { id, kind, serial, not_after: now.plus_ms(life_ms) };
        let app = Arc::clone(self);
        let made = blocking(move || app.make_authority(&new, curve, now)).await?;
        memory.made = Some(made.clone());
        Ok(made)
    }

    /// Recorded once; until officers permit it anew, nothing more is tried.
    async fn fail(&self, kind: AuthorityKind, approval: Seq, why: String) {
        tracing::error!(
            authority.kind = %kind, approval = approval.0, why,
            "a step of a rotation failed: the authorities are rotated by hand until officers permit it anew"
        );
        let printable = why.chars().filter(|c| !c.is_control()).take(WHY_LEN_MAX).collect();
        let event = Event::RotationFailed { kind, approval, why: printable };
        if let Err(error) = self.record(Caller::default().entry(event)).await {
            tracing::error!(authority.kind = %kind, %error, "that it failed is not on record yet");
        }
    }

    /// How the rotation of each kind stands.
    pub fn rotation_outlook(&self) -> Vec<RotationOutlook> {
        let (state, now) = (self.state(), self.clock.now());
        let outlook = |kind: &AuthorityKind| RotationOutlook {
            kind: *kind,
            ends: state.authority(*kind).map(|active| active.not_after),
            is_overdue: is_overdue(&state, *kind, now),
            has_failed: state.rotations.approvals.get(kind).is_some_and(|held| held.failed.is_some()),
            has_lapsed: state.rotations.approvals.get(kind).is_some_and(|held| held.lapsed.is_some()),
        };
        AuthorityKind::ALL.iter().map(outlook).collect()
    }
}

/// Says at once that nothing is done under an approval any more, and because of whom.
fn tell_lapse(kind: AuthorityKind, state: &State, memory: &mut Memory) {
    let lost = state.rotations.approvals.get(&kind).and_then(|held| held.lapsed.as_ref());
    if memory.lapse_told == lost.map(|lost| lost.at) {
        return;
    }
    memory.lapse_told = lost.map(|lost| lost.at);
    if let Some(lost) = lost {
        tracing::error!(
            authority.kind = %kind, officer = %lost.officer, record = lost.at.0,
            "the standing approval of rotations lapsed: an officer who signed it was suspended or removed, or their key blocked; \
             the authorities are rotated by hand until two officers permit it anew: `countersign authority automate`"
        );
    }
}

/// What is to be done.
enum Due {
    /// With a life of so many milliseconds, as long as that of the one before.
    Prepare(i64),
    Activate(AuthorityId),
    Retire(AuthorityId),
}

/// The step that is due now.
fn due(state: &State, kind: AuthorityKind, left: u32, now: Timestamp) -> Option<Due> {
    let given = state.rotations.approvals.get(&kind)?.given;
    let is_spent =
        |id: &AuthorityId| state.check_rotation((kind, given), &RotationStep::Retire(*id), now).is_ok();
    let retiring = state.authorities.values();
    let retiring = retiring.filter(|row| row.kind == kind && row.state == AuthorityState::Retiring);
    if let Some(id) = retiring.map(|row| row.id).find(is_spent) {
        return Some(Due::Retire(id));
    }
    let (active, schedule) = (state.authority(kind)?, state.schedule(kind)?);
    match state.prepared(kind) {
        Some(next) if now >= schedule.activate_at => Some(Due::Activate(next.id)),
        None if now >= schedule.prepare_at && left > 0 => {
            let since = state.rotations.since.get(&active.id).copied()?;
            Some(Due::Prepare(active.not_after.millis().saturating_sub(since.millis())))
        }
        Some(_) | None => None,
    }
}

/// Only a ceremony of the root makes a successor of an authority beneath one.
fn is_beneath_a_root(state: &State, kind: AuthorityKind) -> bool {
    let active = state.authority(kind).map(|active| authorities::read(&active.certificate));
    active.is_some_and(|read| read.is_ok_and(|authority| authority.parent().is_some()))
}

/// Is a successor due that nobody prepared, or activated?
fn is_overdue(state: &State, kind: AuthorityKind, now: Timestamp) -> bool {
    state.schedule(kind).is_some_and(|schedule| match state.prepared(kind) {
        Some(_) => now >= schedule.activate_at,
        None => now >= schedule.prepare_at,
    })
}
