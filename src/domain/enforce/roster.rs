//! The server's account of who may hold a lease: sessions as participants of barriers, what was granted to them, and
//! what an earlier run may have granted. A session that left stays until its lease has certainly run out, for until then
//! it may permit.

use std::collections::BTreeMap;

use super::barrier::{Barrier, BarrierReport, Participant, ParticipantId, bound_ms};
use super::message::{Nack, Open, SoftwareName, Strength};
use super::view::Position;
use crate::domain::id::{BootId, PrincipalId, Seq};
use crate::domain::time::Timestamp;

/// The most sessions, present and left: a fleet of 10,000 gateways, the largest that was measured, and as many runs of
/// before that may still hold a lease when all of them start again.
const SESSIONS_MAX: usize = 20_000;
/// The most sessions of one gateway principal: a deployment that shares one name, and its restarts.
const SESSIONS_EACH_MAX: usize = 256;
/// How long a gateway that may have been paused is remembered after it left: its lease may end an hour late.
const PAUSED_KEPT_MS: u64 = 3_600_000;

/// What a session says of itself and where it is from. For people: nothing is decided by it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct About {
    /// The software that speaks the feed.
    pub agent: Option<SoftwareName>,
    /// What joins it to the gateway.
    pub adapter: Option<SoftwareName>,
    /// What the gateway can promise, with what its registration says of its machine.
    pub strength: Strength,
    /// Where this connection is from, as people read it, and when it began.
    pub from: Option<(String, Timestamp)>,
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
    /// Barriers wait for it.
    pub is_participant: bool,
    /// Format versions that it understands.
    pub versions: Vec<u32>,
    /// Its last refusal, and when.
    pub last_nack: Option<(Nack, Timestamp)>,
    /// What it says of itself.
    pub about: About,
}

/// A session: a gateway and one run of it.
pub type SessionKey = (PrincipalId, BootId);

/// There are too many sessions, of all gateways or of this one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RosterFull;

/// How the server's own decisions stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OwnPath {
    /// The state that new decisions read.
    pub published: Position,
    /// The oldest state that an unsent answer was computed on. Read only when new decisions already read the barrier's
    /// record, or later ones: an answer that begins after that has it.
    pub unsent: Option<Seq>,
}

/// Where a barrier stands, and when time alone changes that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outlook {
    /// Where it stands.
    pub report: BarrierReport,
    /// When every gateway is closed whatever happens.
    pub bound_at_ms: u64,
    /// When a lease or a doubt ends next.
    pub look_again_ms: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Row {
    acked: Seq,
    last_pong_ms: Option<u64>,
    last_nack: Option<(Nack, Timestamp)>,
    about: About,
    versions: Vec<u32>,
    /// Which of the connections of this run is the present one; the others are over.
    connection: u64,
    is_connected: bool,
    /// It is pushed trust sets and holds no view.
    is_pushed: bool,
    /// The last drill that it acknowledged, and when.
    drilled: Option<(Seq, u64)>,
}

impl Row {
    /// Is it named in reports? Who is pushed sets and asks at every request has promised nothing before the first leased
    /// one. Who does not ask is known to let the revoked in for as long as its set lasts.
    const fn is_participant(&self) -> bool {
        !self.is_pushed || self.last_pong_ms.is_some() || !self.about.strength.per_request
    }

    fn participant(&self) -> Participant {
        let is_weak = self.about.strength.is_weak();
        let Self { acked, last_pong_ms, is_pushed, .. } = *self;
        Participant { acked, last_pong_ms, is_pushed, is_weak }
    }
}

/// Who may hold a lease. All times are milliseconds of the server's boot clock.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Roster {
    rows: BTreeMap<SessionKey, Row>,
    connections: u64,
    started_ms: u64,
    is_first_run: bool,
    lease_ms_max: u32,
    /// The last run of each gateway that left and may have been paused, and until when it may still hold a lease.
    paused: BTreeMap<PrincipalId, (BootId, u64)>,
    /// The record of the last drill that this run published.
    drill: Option<Seq>,
}

impl Roster {
    /// Of a run that began at `started_ms`. Until leases of `lease_ms` that were granted before have run out, somebody
    /// may hold one whom this run does not know; so it is the longest that may still hold, whatever is granted now.
    pub const fn new(started_ms: u64, lease_ms: u32) -> Self {
        Self {
            rows: BTreeMap::new(),
            connections: 0,
            started_ms,
            is_first_run: false,
            lease_ms_max: lease_ms,
            paused: BTreeMap::new(),
            drill: None,
        }
    }

    /// No run before this one ever granted a lease.
    pub const fn begin_first_run(&mut self) {
        self.is_first_run = true;
    }

    /// Leases are now granted for so long. Bounds never become shorter in a run: what was granted before may hold.
    pub fn set_lease_ms(&mut self, lease_ms: u32) {
        self.lease_ms_max = self.lease_ms_max.max(lease_ms);
    }

    /// How long after an instant every lease granted until then has run out.
    const fn bound_ms(&self) -> u64 {
        bound_ms(self.lease_ms_max)
    }

    /// Enters a session that enforces every record up to `holds`, and gives the number of its connection; an earlier
    /// connection of the same run is over.
    ///
    /// # Errors
    /// There are too many.
    pub fn enter(
        &mut self,
        gateway: &PrincipalId,
        open: &Open,
        is_pausable: bool,
        holds: Seq,
    ) -> Result<u64, RosterFull> {
        let key = (gateway.clone(), open.boot);
        self.make_room(&key)?;
        let before = self.rows.get(&key);
        self.connections += 1;
        let strength = Strength { pausable: open.strength.pausable || is_pausable, ..open.strength };
        let (agent, adapter) = (open.agent.clone(), open.adapter.clone());
        let row = Row {
            // It may have lost what it once acknowledged.
            acked: before.map_or(Seq(0), |row| row.acked.min(holds)),
            last_pong_ms: before.and_then(|row| row.last_pong_ms),
            last_nack: before.and_then(|row| row.last_nack.clone()),
            about: About { agent, adapter, strength, from: None },
            versions: open.versions.clone(),
            connection: self.connections,
            is_connected: true,
            is_pushed: false,
            drilled: before.and_then(|row| row.drilled),
        };
        self.rows.insert(key, row);
        Ok(self.connections)
    }

    /// Enters a stream that is pushed trust sets, and gives the number of its connection. Each stream is a session of its
    /// own: whoever connects again may be another machine with the same name, and holds what the first was sent until
    /// that has run out.
    ///
    /// # Errors
    /// There are too many.
    pub fn enter_pushed(&mut self, key: SessionKey, about: About) -> Result<u64, RosterFull> {
        self.make_room(&key)?;
        self.connections += 1;
        let row = Row {
            acked: Seq(0),
            last_pong_ms: None,
            last_nack: None,
            about,
            versions: Vec::new(),
            connection: self.connections,
            is_connected: true,
            is_pushed: true,
            drilled: None,
        };
        self.rows.insert(key, row);
        Ok(self.connections)
    }

    fn make_room(&self, key: &SessionKey) -> Result<(), RosterFull> {
        let own = self.rows.range((key.0.clone(), BootId::from_bytes([0; 16]))..);
        let own = own.take_while(|((id, _), _)| *id == key.0).count();
        let is_full = self.rows.len() >= SESSIONS_MAX || own >= SESSIONS_EACH_MAX;
        if is_full && !self.rows.contains_key(key) { Err(RosterFull) } else { Ok(()) }
    }

    /// A leased trust set that was signed at `signed_ms` and says what the record says up to `as_of` is sent now. False
    /// when it must not be: a later connection took the place, or the set does not know `changed`, the last record that
    /// changed something for gateways. A barrier at that record may have counted this one as closed already.
    pub fn push(
        &mut self,
        (key, connection): (&SessionKey, u64),
        (as_of, signed_ms): (Seq, u64),
        changed: Seq,
    ) -> bool {
        let row = self.row(key, connection).filter(|_| as_of >= changed);
        row.map(|row| row.last_pong_ms = row.last_pong_ms.max(Some(signed_ms))).is_some()
    }

    /// Is this the present connection of its session?
    pub fn is_present(&self, key: &SessionKey, connection: u64) -> bool {
        self.rows.get(key).is_some_and(|row| row.connection == connection)
    }

    /// The row of a session, unless a later connection took its place.
    fn row(&mut self, key: &SessionKey, connection: u64) -> Option<&mut Row> {
        self.rows.get_mut(key).filter(|row| row.connection == connection)
    }

    /// It acknowledged. False when a later connection took its place: then it counts for nothing.
    pub fn ack(&mut self, key: &SessionKey, connection: u64, applied: Seq) -> bool {
        let row = self.row(key, connection);
        row.map(|row| row.acked = row.acked.max(applied)).is_some()
    }

    /// From now on it is noted when somebody acknowledges this record: before anybody can have been sent it.
    pub const fn begin_drill(&mut self, at: Seq) {
        self.drill = Some(at);
    }

    /// Notes when it acknowledged the last drill, if it just did.
    pub fn note_drill(&mut self, key: &SessionKey, now_ms: u64) {
        let Some((drill, row)) = self.drill.zip(self.rows.get_mut(key)) else { return };
        if row.acked >= drill && row.drilled.is_none_or(|(noted, _)| noted < drill) {
            row.drilled = Some((drill, now_ms));
        }
    }

    /// When whoever this is acknowledged a drill; none: it did not, or another one followed.
    pub fn drilled_at_ms(&self, id: &ParticipantId, drill: Seq) -> Option<u64> {
        let ParticipantId::Gateway(gateway, boot) = id else { return None };
        let (noted, at_ms) = self.rows.get(&(gateway.clone(), *boot))?.drilled?;
        (noted == drill).then_some(at_ms)
    }

    /// It refused what it was sent.
    pub fn nack(&mut self, key: &SessionKey, connection: u64, nack: Nack, at: Timestamp) {
        if let Some(row) = self.row(key, connection) {
            row.last_nack = Some((nack, at));
        }
    }

    /// Where it connects from, and since when.
    pub fn came_from(&mut self, key: &SessionKey, connection: u64, from: (String, Timestamp)) {
        if let Some(row) = self.row(key, connection) {
            row.about.from = Some(from);
        }
    }

    /// Until the lease of whoever this is has run out for certain; none: the server's own path has no lease.
    pub fn lease_left_ms(&self, id: &ParticipantId, now_ms: u64) -> Option<u64> {
        let granted_ms = match id {
            ParticipantId::Server => return None,
            ParticipantId::Gateway(gateway, boot) => {
                self.rows.get(&(gateway.clone(), *boot)).and_then(|row| row.last_pong_ms)
            }
            ParticipantId::EarlierRun => Some(self.started_ms),
        };
        Some(granted_ms.map_or(0, |granted| granted.saturating_add(self.bound_ms()).saturating_sub(now_ms)))
    }

    /// A Pong is sent to it now. False when a later connection took its place: then none may be sent.
    pub fn pong(&mut self, key: &SessionKey, connection: u64, now_ms: u64) -> bool {
        self.row(key, connection).map(|row| row.last_pong_ms = Some(now_ms)).is_some()
    }

    /// The connection is over. Without a lease there is nothing to remember.
    pub fn leave(&mut self, key: &SessionKey, connection: u64) {
        let Some(row) = self.row(key, connection) else { return };
        row.is_connected = false;
        if row.last_pong_ms.is_none() {
            self.rows.remove(key);
        }
    }

    /// Forgets sessions that left and whose leases have certainly run out. While a barrier waits nobody is forgotten, so
    /// that its report names everybody, unless the table is half full.
    pub fn forget(&mut self, now_ms: u64, is_idle: bool) {
        if !is_idle && self.rows.len() < SESSIONS_MAX / 2 {
            return;
        }
        let (bound_ms, paused) = (self.bound_ms(), &mut self.paused);
        paused.retain(|_, (_, until_ms)| now_ms < *until_ms);
        self.rows.retain(|(gateway, boot), row| {
            let sent = row.last_pong_ms;
            let is_kept = row.is_connected || sent.is_some_and(|sent| now_ms < sent.saturating_add(bound_ms));
            if let Some(sent) = sent.filter(|_| !is_kept && row.about.strength.pausable) {
                let until_ms = sent.saturating_add(PAUSED_KEPT_MS);
                let last = paused.entry(gateway.clone()).or_insert((*boot, until_ms));
                *last = if last.1 < until_ms { (*boot, until_ms) } else { *last };
            }
            is_kept
        });
    }

    /// May a gateway that was paused still hold a lease of an earlier run? Nothing that this run knows says no.
    pub const fn may_miss_paused(&self, now_ms: u64) -> bool {
        !self.is_first_run && now_ms < self.started_ms.saturating_add(PAUSED_KEPT_MS)
    }

    /// How a record that was committed at `committed_ms` stands now.
    pub fn report(&self, at: Position, committed_ms: u64, own: OwnPath, now_ms: u64) -> Outlook {
        let barrier = Barrier::new(at, committed_ms, self.lease_ms_max);
        let complete_at_ms = self.started_ms.saturating_add(self.bound_ms());
        let is_complete = self.is_first_run || now_ms >= complete_at_ms;
        let participant = |((id, boot), row): (&SessionKey, &Row)| {
            (ParticipantId::Gateway(id.clone(), *boot), row.participant())
        };
        let participants = self.rows.iter().filter(|(_, row)| row.is_participant());
        let mut report = barrier.report(participants.map(participant), is_complete, now_ms);
        let paused = self.paused.iter().filter(|(_, (_, until_ms))| now_ms < *until_ms);
        let left =
            paused.map(|(id, (boot, _))| (id.clone(), *boot)).filter(|key| !self.rows.contains_key(key));
        report.weak.extend(left.map(|(id, boot)| ParticipantId::Gateway(id, boot)));
        if own.published >= at && own.unsent.is_none_or(|seq| seq >= at.seq) {
            report.acked.push(ParticipantId::Server);
        } else {
            // No lease ends for the server itself: an unsent answer is pending for as long as it is unsent.
            report.pending.push(ParticipantId::Server);
            report.enforced_by = None;
        }
        let bound_at_ms = barrier.bound_at_ms();
        let ends = [Some(complete_at_ms), self.next_end_ms(at.seq, now_ms)];
        let ends = ends.into_iter().flatten().filter(|end| *end > now_ms);
        Outlook { report, bound_at_ms, look_again_ms: ends.fold(bound_at_ms, u64::min) }
    }

    /// Is this gateway still missing from the barrier of a record that was committed at `committed_ms`? Then the report
    /// has not changed for the better: with thousands of gateways most looks at it can be spared.
    pub fn awaits(&self, id: &ParticipantId, at: Position, committed_ms: u64, now_ms: u64) -> bool {
        let ParticipantId::Gateway(gateway, boot) = id else { return false };
        let row = self.rows.get(&(gateway.clone(), *boot));
        let barrier = Barrier::new(at, committed_ms, self.lease_ms_max);
        row.is_some_and(|row| barrier.awaits(&row.participant(), now_ms))
    }

    /// When the next lease of a session that has not acknowledged a record runs out for certain.
    fn next_end_ms(&self, at: Seq, now_ms: u64) -> Option<u64> {
        let behind = self.rows.values().filter(|row| row.acked < at);
        let ends = behind.filter_map(|row| row.last_pong_ms).map(|sent| sent + self.bound_ms());
        ends.filter(|end| *end > now_ms).min()
    }

    /// How every session stands that is connected or may still hold a lease.
    pub fn statuses(&self, head: Seq, now_ms: u64) -> Vec<SessionStatus> {
        let end_ms = |sent: u64| sent + self.bound_ms();
        let status = |((gateway, boot), row): (&SessionKey, &Row)| SessionStatus {
            gateway: gateway.clone(),
            boot: *boot,
            is_connected: row.is_connected,
            acked: row.acked,
            lag: head.0.saturating_sub(row.acked.0),
            lease_left_ms: row.last_pong_ms.map_or(0, |sent| end_ms(sent).saturating_sub(now_ms)),
            is_weak: row.about.strength.is_weak(),
            is_participant: row.is_participant(),
            versions: row.versions.clone(),
            last_nack: row.last_nack.clone(),
            about: row.about.clone(),
        };
        self.rows.iter().map(status).collect()
    }
}
