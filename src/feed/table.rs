//! The sessions as participants of barriers. A session that left stays until its lease has certainly run out, for until
//! then it may permit.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::OpenFault;
use crate::domain::enforce::message::{Nack, Open, SoftwareName, Strength};
use crate::domain::enforce::{Participant, ParticipantId};
use crate::domain::id::{BootId, PrincipalId, Seq};
use crate::domain::time::Timestamp;

/// The most sessions, present and left: 10,000, above any fleet this server is built for.
const SESSIONS_MAX: usize = 10_000;
/// The most sessions of one gateway principal: a deployment that shares one name, and its restarts.
const SESSIONS_EACH_MAX: usize = 256;
/// How long a gateway that may have been paused is remembered after it left: its lease may end an hour late.
const PAUSED_KEPT_MS: u64 = 3_600_000;

/// What a session says of itself and where it is from. For people: nothing is decided by it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct About {
    /// The software that speaks the feed.
    pub agent: Option<SoftwareName>,
    /// What joins it to the gateway.
    pub adapter: Option<SoftwareName>,
    /// What the gateway can promise, with what its registration says of its machine.
    pub strength: Strength,
    /// When this connection began.
    pub since: Timestamp,
    /// Where it is from.
    pub address: Option<IpAddr>,
}

impl About {
    pub(super) fn of(open: &Open, is_pausable: bool, since: Timestamp) -> Self {
        let strength = Strength { pausable: open.strength.pausable || is_pausable, ..open.strength };
        let (agent, adapter) = (open.agent.clone(), open.adapter.clone());
        Self { agent, adapter, strength, since, address: None }
    }
}

/// How a session stands, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionStatus {
    /// Whose.
    pub gateway: PrincipalId,
    /// Which run of it.
    pub boot: BootId,
    /// Is its stream open?
    pub is_connected: bool,
    /// Up to which record it enforces.
    pub acked: Seq,
    /// Records behind the head.
    pub lag: u64,
    /// Until its lease has run out for certain; 0: it has.
    pub lease_left_ms: u64,
    /// It cannot promise all of enforcement.
    pub is_weak: bool,
    /// Format versions that it understands.
    pub versions: Vec<u32>,
    /// Its last refusal, and when.
    pub last_nack: Option<(Nack, Timestamp)>,
    /// What it says of itself.
    pub about: About,
}

#[derive(Debug)]
pub(super) struct Row {
    pub(super) acked: Seq,
    pub(super) last_pong_ms: Option<u64>,
    pub(super) last_nack: Option<(Nack, Timestamp)>,
    pub(super) about: About,
    versions: Vec<u32>,
    /// Which of the connections of this run is the present one; the others are over.
    connection: u64,
    is_connected: bool,
}

#[derive(Debug, Default)]
pub(super) struct Table {
    rows: BTreeMap<(PrincipalId, BootId), Row>,
    connections: u64,
}

impl Table {
    /// Enters a session and gives the number of its connection; an earlier connection of the same run is over.
    pub(super) fn enter(
        &mut self,
        gateway: &PrincipalId,
        open: &Open,
        about: About,
        holds: Seq,
    ) -> Result<u64, OpenFault> {
        let key = (gateway.clone(), open.boot);
        let before = self.rows.get(&key);
        let own = self.rows.keys().filter(|(id, _)| id == gateway).count();
        if before.is_none() && (self.rows.len() >= SESSIONS_MAX || own >= SESSIONS_EACH_MAX) {
            return Err(OpenFault::TooManySessions);
        }
        self.connections += 1;
        let row = Row {
            // It may have lost what it once acknowledged.
            acked: before.map_or(Seq(0), |row| row.acked.min(holds)),
            last_pong_ms: before.and_then(|row| row.last_pong_ms),
            last_nack: before.and_then(|row| row.last_nack.clone()),
            about,
            versions: open.versions.clone(),
            connection: self.connections,
            is_connected: true,
        };
        self.rows.insert(key, row);
        Ok(self.connections)
    }

    /// The row of a session, unless a later connection took its place.
    pub(super) fn row(&mut self, key: &(PrincipalId, BootId), connection: u64) -> Option<&mut Row> {
        self.rows.get_mut(key).filter(|row| row.connection == connection)
    }

    /// The connection is over. Without a lease there is nothing to remember.
    pub(super) fn leave(&mut self, key: &(PrincipalId, BootId), connection: u64) {
        let Some(row) = self.row(key, connection) else { return };
        row.is_connected = false;
        if row.last_pong_ms.is_none() {
            self.rows.remove(key);
        }
    }

    /// Forgets sessions that left and whose leases have certainly run out. While a barrier waits nobody is forgotten, so
    /// that its report names everybody, unless the table is half full.
    pub(super) fn forget(&mut self, now_ms: u64, bound_ms: u64, is_idle: bool) {
        if !is_idle && self.rows.len() < SESSIONS_MAX / 2 {
            return;
        }
        self.rows.retain(|_, row| {
            let kept_ms = if row.about.strength.pausable { PAUSED_KEPT_MS.max(bound_ms) } else { bound_ms };
            row.is_connected || row.last_pong_ms.is_some_and(|sent| now_ms < sent.saturating_add(kept_ms))
        });
    }

    pub(super) fn participants(&self) -> BTreeMap<ParticipantId, Participant> {
        let participant = |((id, boot), row): (&(PrincipalId, BootId), &Row)| {
            let Row { acked, last_pong_ms, ref about, .. } = *row;
            let is_weak = about.strength.is_weak();
            (ParticipantId::Gateway(id.clone(), *boot), Participant { acked, last_pong_ms, is_weak })
        };
        self.rows.iter().map(participant).collect()
    }

    /// When the next lease of a session that has not acknowledged a record runs out for certain.
    pub(super) fn next_end_ms(&self, at: Seq, now_ms: u64, bound_ms: u64) -> Option<u64> {
        let behind = self.rows.values().filter(|row| row.acked < at);
        behind
            .filter_map(|row| row.last_pong_ms)
            .map(|sent| sent + bound_ms)
            .filter(|end| *end > now_ms)
            .min()
    }

    /// Until the lease of a session has run out for certain; 0: it has.
    pub(super) fn lease_left_ms(&self, key: &(PrincipalId, BootId), now_ms: u64, bound_ms: u64) -> u64 {
        let sent = self.rows.get(key).and_then(|row| row.last_pong_ms);
        sent.map_or(0, |sent| (sent + bound_ms).saturating_sub(now_ms))
    }

    pub(super) fn statuses(&self, head: Seq, now_ms: u64, bound_ms: u64) -> Vec<SessionStatus> {
        let status = |((gateway, boot), row): (&(PrincipalId, BootId), &Row)| SessionStatus {
            gateway: gateway.clone(),
            boot: *boot,
            is_connected: row.is_connected,
            acked: row.acked,
            lag: head.0.saturating_sub(row.acked.0),
            lease_left_ms: row.last_pong_ms.map_or(0, |sent| (sent + bound_ms).saturating_sub(now_ms)),
            is_weak: row.about.strength.is_weak(),
            versions: row.versions.clone(),
            last_nack: row.last_nack.clone(),
            about: row.about.clone(),
        };
        self.rows.iter().map(status).collect()
    }
}
