//! From values to messages.

use crate::app::{Answer, Restriction};
use crate::domain::drill::Drill;
use crate::domain::enforce::{EnforcedBy, ParticipantId, Position};
use crate::domain::entity::Entity;
use crate::domain::id::{Epoch, PrincipalId, Seq};
use crate::domain::principal::Role;
use crate::domain::restore::{Restore, RestoreReport};
use crate::domain::revocation::SuspensionTarget;
use crate::domain::state::State;
use crate::domain::subject::{Subject, SubjectBody};
use crate::domain::time::Now;
use crate::feed::Standing;
use crate::pb;
use crate::views::CertificateRow;

pub(super) const fn position(position: Position) -> pb::Position {
    pb::Position { epoch: position.epoch.0, seq: position.seq.0 }
}

pub(super) fn decision(answer: &Answer) -> pb::Decision {
    let decision = &answer.decision;
    let mut explanation = decision.explain();
    if let Some(fault) = &answer.certificate_fault {
        explanation = format!("{explanation} ({})", fault.code());
    }
    pb::Decision {
        legal: decision.legal.to_string(),
        rule: decision.rule.to_string(),
        reason: decision.reason.to_string(),
        clause: decision.clause.to_owned(),
        permit: decision.is_permit(),
        denials: decision.denials.iter().map(ToString::to_string).collect(),
        policy: decision.policy.map(|rule| rule.to_string()).unwrap_or_default(),
        explanation,
        as_of: Some(position(answer.as_of)),
        good_until: answer.good_until.to_string(),
        code: decision.code().to_owned(),
        determination: decision.determination.as_ref().map(ToString::to_string).unwrap_or_default(),
        id: answer.id.map(|id| id.to_string()).unwrap_or_default(),
    }
}

pub(super) fn enforcement(done: &Restriction) -> pb::Enforcement {
    let names = |list: &[ParticipantId]| list.iter().map(ToString::to_string).collect();
    let report = done.report.clone().unwrap_or_default();
    let status = match (&done.report, report.is_enforced()) {
        (None, _) if done.durable => pb::EnforcementStatus::Committed,
        (None, _) => pb::EnforcementStatus::Unspecified,
        (Some(_), true) => pb::EnforcementStatus::Enforced,
        (Some(_), false) => pb::EnforcementStatus::Partial,
    };
    let enforced_by = match report.enforced_by {
        Some(EnforcedBy::Acks) => pb::EnforcedBy::Acks,
        Some(EnforcedBy::Bound) => pb::EnforcedBy::Bound,
        None => pb::EnforcedBy::Unspecified,
    };
    pb::Enforcement {
        position: Some(position(done.position)),
        acked: names(&report.acked),
        weak: names(&report.weak),
        lease_expired: names(&report.lease_expired),
        pending: names(&report.pending),
        enforced_by: enforced_by.into(),
        status: status.into(),
        durable: done.durable,
        took_ms: done.took_ms,
    }
}

/// A drill, with who acknowledged it when.
pub(super) fn drill(done: &Restriction) -> pb::DrillResponse {
    let times = done.drill.clone().unwrap_or_default();
    let report = done.report.clone().unwrap_or_default();
    let named = report.acked.iter().chain(&report.weak).zip(times.acked_ms);
    let acknowledgements = named.filter_map(|(id, took_ms)| {
        Some(pb::DrillAcknowledgement { participant: id.to_string(), took_ms: took_ms? })
    });
    pb::DrillResponse {
        enforcement: Some(enforcement(done)),
        durable_ms: times.durable_ms,
        acknowledgements: acknowledgements.collect(),
    }
}

pub(super) fn drill_record(seq: Seq, drill: &Drill) -> pb::DrillRecord {
    let mut record = pb::DrillRecord {
        seq: seq.0,
        scope: drill.scope.to_string(),
        time: drill.at.to_string(),
        ..pb::DrillRecord::default()
    };
    if let Some(outcome) = &drill.outcome {
        record.report_seq = outcome.report.0;
        (record.durable_ms, record.took_ms) = (outcome.durable_ms, outcome.took_ms);
        (record.acked_p50_ms, record.acked_p99_ms) = (outcome.p50_ms, outcome.p99_ms);
        record.acked_max_ms = outcome.max_ms;
        (record.acked, record.weak) = (outcome.acked, outcome.weak);
        (record.lease_expired, record.pending) = (outcome.lease_expired, outcome.pending);
    }
    record
}

pub(super) fn standing(
    position: Position,
    standing: &Standing,
    took_ms: u64,
) -> pb::WatchEnforcementResponse {
    let done =
        Restriction { position, durable: true, report: Some(standing.report.clone()), took_ms, drill: None };
    let missing = standing.missing.iter().map(|(participant, lease_left_ms)| pb::MissingParticipant {
        participant: participant.to_string(),
        lease_left_ms: *lease_left_ms,
    });
    pb::WatchEnforcementResponse {
        enforcement: Some(enforcement(&done)),
        missing: missing.collect(),
        bound_left_ms: standing.bound_left_ms,
    }
}

pub(super) fn entity(state: &State, entity: &Entity, now: Now) -> pb::Entity {
    let card = &entity.card;
    let grants = card.grants.iter().map(|grant| pb::ModelGrant {
        grant_id: grant.id.to_string(),
        model: grant.model.to_string(),
        from: grant.interval.from.to_string(),
        until: grant.interval.until.map(|at| at.to_string()).unwrap_or_default(),
        countries: grant.countries.iter().map(ToString::to_string).collect(),
        purposes: grant.purposes.iter().map(ToString::to_string).collect(),
        active: grant.is_active(now),
    });
    let fresh_ms = state.bundle().parts().posture.screening_fresh_ms;
    pb::Entity {
        entity_id: card.id.to_string(),
        name: entity.name.clone(),
        kind: entity.kind.to_string(),
        organisation: card.org.to_string(),
        seat: card.seat.map(|seat| seat.to_string()).unwrap_or_default(),
        status: entity.status.to_string(),
        suspended: state.enforcement.suspended.contains(&SuspensionTarget::Entity(card.id)),
        entity_class: card.class(now).to_string(),
        grants: grants.collect(),
        screening: format!("{:?}", card.screening_state(fresh_ms, now)).to_uppercase(),
        revision: card.revision.0,
    }
}

pub(super) fn subject(state: &State, subject: &Subject) -> pb::Subject {
    let (mut owner, mut operators) = (String::new(), Vec::new());
    let (mut person_status, mut relation, mut assurance) = (String::new(), String::new(), String::new());
    match &subject.body {
        SubjectBody::Human(employment) => {
            relation = employment.relation.to_string();
            if let Some(vetting) = &employment.vetting {
                person_status = vetting.status.to_string();
                assurance = vetting.assurance.to_string();
            }
        }
        SubjectBody::Workload(workload) => {
            owner = workload.owner.to_string();
            operators = workload.operators.iter().map(ToString::to_string).collect();
        }
    }
    pb::Subject {
        subject_id: subject.id.to_string(),
        entity_id: subject.entity.to_string(),
        kind: subject.kind().to_string(),
        status: subject.status.to_string(),
        suspended: state.enforcement.suspended.contains(&SuspensionTarget::Subject(subject.id)),
        person_status,
        relation,
        assurance,
        owner,
        operators,
        revision: subject.revision.0,
        issuance_refusal: String::new(),
    }
}

pub(super) fn count(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

pub(super) fn certificate(row: &CertificateRow) -> pb::CertificateRecord {
    pb::CertificateRecord {
        authority: row.authority.to_string(),
        ordinal: row.ordinal.0,
        serial: row.serial.to_string(),
        entity_id: row.entity.map(|id| id.to_string()).unwrap_or_default(),
        subject_id: row.subject.map(|id| id.to_string()).unwrap_or_default(),
        principal: row.principal.as_ref().map(ToString::to_string).unwrap_or_default(),
        lineage_id: row.step.map(|step| step.lineage.to_string()).unwrap_or_default(),
        generation: row.step.map_or(0, |step| step.generation),
        not_before: row.not_before.to_string(),
        not_after: row.not_after.to_string(),
        intended_seq: row.intended.0,
        issued_seq: row.issued.map_or(0, |seq| seq.0),
    }
}

/// The last restore, with who has not reported.
pub(super) fn restore(state: &State, restore: &Restore) -> pb::Restore {
    let reported = |gateway: &PrincipalId| restore.reports.iter().any(|report| report.gateway == *gateway);
    let gateways = state.principals.values().filter(|p| p.has(Role::Gateway));
    let silent = gateways.map(|gateway| &gateway.id).filter(|id| !reported(id));
    let report = |report: &RestoreReport| pb::RestoreReport {
        gateway: report.gateway.to_string(),
        applied_seq: report.upto.seq.0,
        time: report.at.to_string(),
        restrictions: report.restrictions,
    };
    pb::Restore {
        position: Some(position(Position { epoch: Epoch(restore.from.epoch.0 + 1), seq: restore.seq })),
        backup_end: Some(position(restore.from)),
        time: restore.at.to_string(),
        first_ordinal: restore.gap.first().0,
        last_ordinal: restore.gap.last().0,
        reports: restore.reports.iter().map(report).collect(),
        silent_gateways: silent.map(ToString::to_string).collect(),
        records_lost: restore.records_lost(),
        acknowledged_seq: restore.acknowledged.map_or(0, |seq| seq.0),
    }
}
