//! What operators watch and nobody counts: the fleet, the disk, and what keeps the service from permitting.

use std::collections::BTreeMap;

use super::{App, RotationOutlook, SERVER_NAME};
use crate::domain::certificate::PrincipalKind;
use crate::domain::decision::StateFault;
use crate::domain::due::{DueKind, DueStage, REMINDER_MS, due};
use crate::domain::id::PrincipalId;
use crate::domain::root::Root;
use crate::domain::state::State;
use crate::domain::time::{Now, Timestamp};
use crate::feed::SessionStatus;
use crate::journal::Condition;
use crate::metrics::{Fault, GatewayReading, Readings, RootReading, RotationReading};

impl App {
    /// How everything stands now. Asks the disk: not for an async task.
    pub fn readings(&self) -> Readings {
        let state = self.state();
        let (counts, sessions) = (self.feed.counts(), self.feed.sessions());
        let connected = || sessions.iter().filter(|session| session.is_connected);
        let len = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        let condition = self.journal.condition();
        let space = match &condition {
            Condition::Open(space) => Some(*space),
            Condition::Closed(_) => None,
        };
        let registered = state.principals.values();
        let registered = registered.filter(|p| p.kind == PrincipalKind::Gateway && !p.is_removed);
        Readings {
            sessions_opened: counts.opened,
            bad_claims: counts.bad_claims,
            nacks: counts.nacks,
            snapshots: counts.snapshots,
            pongs: counts.pongs,
            refused_pings: counts.refused_pings,
            connected: len(connected().count()),
            weak: len(connected().filter(|session| session.is_weak).count()),
            with_lease: len(sessions.iter().filter(|session| session.lease_left_ms > 0).count()),
            gateways: gateways(&state, registered.map(|p| &p.id), &sessions),
            head_seq: state.position.seq.0,
            disk_free: space.map_or(0, |space| space.free),
            decisions_unwritten: len(self.record.unwritten()),
            decisions_kept: self.record.kept_len(),
            low_water: space.map_or(0, |space| space.low_water),
            reserve: space.map_or(0, |space| space.reserve),
            certificate_ends_s: SERVER_NAME.parse().map_or(0, |server| ends_s(&state, &server)),
            pushed_set: self.pushed_set(),
            roots: state.roots.values().map(|root| root_reading(root)).collect(),
            proposals: len(state.proposals.len()),
            reviews: len(state.reviews.len()),
            recoveries: len(state.recoveries.len()),
            suspended: len(state
                .principals
                .values()
                .filter(|p| p.suspended.is_some() && !p.is_removed)
                .count()),
            screening: self.screening_reading(&state),
            due: due_readings(&state, self.clock.now()),
            faults: self.faults(space.is_some()),
            rotations: self.rotation_readings(),
            listeners: Vec::new(),
        }
    }

    fn rotation_readings(&self) -> Vec<RotationReading> {
        let reading = |outlook: RotationOutlook| RotationReading {
            kind: outlook.kind.as_str(),
            ends_s: outlook.ends.map_or(0, |at| at.seconds()),
            is_overdue: outlook.is_overdue,
            has_failed: outlook.has_failed,
            has_lapsed: outlook.has_lapsed,
        };
        self.rotation_outlook().into_iter().map(reading).collect()
    }

    fn faults(&self, is_open: bool) -> Vec<Fault> {
        let state_fault = self.state_fault();
        vec![
            Fault { kind: "JOURNAL_CLOSED", is_so: !is_open },
            Fault { kind: "STATE_UNAVAILABLE", is_so: state_fault == Some(StateFault::Unavailable) },
            Fault { kind: "CLOCK_UNTRUSTED", is_so: state_fault == Some(StateFault::ClockUntrusted) },
            Fault { kind: "ROLLED_BACK", is_so: self.feed.rollback().is_some() },
            Fault { kind: "NO_LEASES", is_so: self.feed.closed().is_some() },
        ]
    }
}

/// How much is due, by kind and stage; those of which there is nothing too. People are counted, not lines.
fn due_readings(state: &State, now: Timestamp) -> Vec<(&'static str, &'static str, u64)> {
    let rows = due(state, None, now, now.plus_ms(REMINDER_MS));
    let judged = Now::with_margin(now);
    let stages = [DueStage::Reminder, DueStage::Grace, DueStage::Overdue];
    let cells = DueKind::ALL.iter().flat_map(|kind| stages.map(|stage| (*kind, stage)));
    let count = |(kind, stage): (DueKind, DueStage)| {
        let of = rows.iter().filter(|row| row.kind == kind && row.stage(judged) == stage);
        (kind.as_str(), stage.as_str(), of.map(|row| row.subjects.max(1)).sum())
    };
    cells.map(count).collect()
}

fn root_reading(root: &Root) -> RootReading {
    let (certificate_ends_s, list_ends_s) = (root.not_after.seconds(), root.list.next_update.seconds());
    RootReading { name: root.id.to_string(), certificate_ends_s, list_ends_s }
}

/// When the last certificate of a principal ends; 0: it has none.
fn ends_s(state: &State, id: &PrincipalId) -> i64 {
    state.system_certificates.get(id).map_or(0, |last| last.not_after.seconds())
}

/// A row for each registered gateway, with the worst of its connected sessions.
fn gateways<'a>(
    state: &State,
    registered: impl Iterator<Item = &'a PrincipalId>,
    sessions: &[SessionStatus],
) -> Vec<GatewayReading> {
    let new = |id: &'a PrincipalId| {
        (
            id,
            GatewayReading {
                name: id.to_string(),
                certificate_ends_s: ends_s(state, id),
                ..Default::default()
            },
        )
    };
    let mut rows: BTreeMap<&PrincipalId, GatewayReading> = registered.map(new).collect();
    for session in sessions.iter().filter(|session| session.is_connected) {
        let Some(row) = rows.get_mut(&session.gateway) else { continue };
        row.connected += 1;
        // Who asks at each request holds no lease, and need not be up to date.
        if session.is_participant {
            let least = row.lease_left_ms.map_or(session.lease_left_ms, |ms| ms.min(session.lease_left_ms));
            row.lease_left_ms = Some(least);
            row.lag = row.lag.max(session.lag);
        }
    }
    rows.into_values().collect()
}
