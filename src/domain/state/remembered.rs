//! What is over and must not come again: mandates that were rejected or are used up, and what roots said before they were
//! dropped. The bytes of a mandate stay good for seven days, whoever still holds them; so what ends one is remembered as long.

use std::sync::Arc;

use imbl::OrdMap;
use minicbor::{Decode, Encode};

use super::State;
use crate::domain::approval::{MANDATE_FRESH_MS, Mandate, SignedMandate};
use crate::domain::certificate::Serial;
use crate::domain::codec::{map, rows};
use crate::domain::command::Command;
use crate::domain::id::{Digest, RootId};
use crate::domain::officer_command::OfficerCommand;
use crate::domain::recovery::SignedRecovery;
use crate::domain::root::Root;
use crate::domain::time::Timestamp;

/// The most mandates of one sort that are remembered. More emergencies or rejected recoveries within seven days are not
/// accepted; of rejected proposals, the one that is soonest too old is forgotten.
pub const REMEMBERED_MAX: usize = 1_000;
/// The most roots, trusted ones and dropped ones: one a year for a lifetime. What a dropped one revoked is never forgotten.
pub const ROOTS_EVER_MAX: usize = 64;

/// What the list of a root said when it was dropped.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct DroppedRoot {
    /// The number of its last list.
    #[n(0)]
    pub number: u64,
    /// What that revoked.
    #[n(1)]
    pub revoked: Vec<Serial>,
}

/// What is over. Mandates by the SHA-256 of their bytes, with the time from which they are too old anyway.
#[derive(Debug, Clone, Default, PartialEq, Encode, Decode)]
pub struct Remembered {
    /// Roots that were dropped.
    #[n(0)]
    #[cbor(with = "rows")]
    pub roots: OrdMap<RootId, Arc<DroppedRoot>>,
    /// Recoveries that an officer rejected.
    #[n(1)]
    #[cbor(with = "map")]
    pub recoveries: OrdMap<Digest, Timestamp>,
    /// Emergencies that were carried out.
    #[n(2)]
    #[cbor(with = "map")]
    pub emergencies: OrdMap<Digest, Timestamp>,
    /// Proposals that an officer rejected.
    #[n(3)]
    #[cbor(with = "map")]
    pub proposals: OrdMap<Digest, Timestamp>,
}

/// Notes a mandate and forgets those that are too old; beyond the bound, the one that is so first.
fn note(table: &mut OrdMap<Digest, Timestamp>, (bytes, made_at): (&[u8], Timestamp), now: Timestamp) {
    table.insert(Digest::of(bytes), made_at.plus_ms(MANDATE_FRESH_MS));
    *table =
        table.iter().filter(|(_, until)| **until >= now).map(|(digest, until)| (*digest, *until)).collect();
    if table.len() > REMEMBERED_MAX
        && let Some(first) = table.iter().min_by_key(|(_, until)| **until).map(|(digest, _)| *digest)
    {
        table.remove(&first);
    }
}

/// How many are not too old yet.
fn fresh(table: &OrdMap<Digest, Timestamp>, now: Timestamp) -> usize {
    table.values().filter(|until| **until >= now).count()
}

impl Remembered {
    pub(super) fn drop_root(&mut self, root: &Root) {
        let dropped = DroppedRoot { number: root.list.number, revoked: root.list.revoked.clone() };
        self.roots.insert(root.id, Arc::new(dropped));
    }

    pub(super) fn reject_proposal(&mut self, bytes: &[u8], made_at: Timestamp, now: Timestamp) {
        note(&mut self.proposals, (bytes, made_at), now);
    }

    pub(super) fn reject_recovery(&mut self, bytes: &[u8], made_at: Timestamp, now: Timestamp) {
        note(&mut self.recoveries, (bytes, made_at), now);
    }

    pub(super) fn use_emergency(&mut self, bytes: &[u8], made_at: Timestamp, now: Timestamp) {
        note(&mut self.emergencies, (bytes, made_at), now);
    }

    /// Can one more rejected recovery be remembered?
    pub fn has_room_for_recovery(&self, now: Timestamp) -> bool {
        fresh(&self.recoveries, now) < REMEMBERED_MAX
    }

    /// Can one more emergency be remembered?
    pub fn has_room_for_emergency(&self, now: Timestamp) -> bool {
        fresh(&self.emergencies, now) < REMEMBERED_MAX
    }
}

impl State {
    /// Why this mandate is over, although its signatures hold: it was rejected, or it is an emergency that happened already.
    pub(in crate::domain) fn spent_fault(
        &self,
        signed: &SignedMandate,
        mandate: &Mandate,
    ) -> Option<&'static str> {
        let digest = Digest::of(&signed.bytes);
        if self.remembered.proposals.contains_key(&digest) {
            return Some("an officer rejected exactly this; prepare it anew");
        }
        if !matches!(mandate.command, Command::Officers(OfficerCommand::BreakGlass { .. })) {
            return None;
        }
        if self.remembered.emergencies.contains_key(&digest) {
            return Some(
                "this emergency was carried out before, and its mandate is good once; prepare it anew",
            );
        }
        // The part of the record that was lost may have had it.
        self.predates_restore(mandate).then_some(
            "the emergency was prepared before the record was restored from a backup; prepare it anew",
        )
    }

    /// Did an officer reject exactly this recovery?
    pub(in crate::domain) fn is_rejected(&self, signed: &SignedRecovery) -> bool {
        self.remembered.recoveries.contains_key(&Digest::of(&signed.bytes))
    }
}
