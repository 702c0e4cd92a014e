//! Decisions explained, replayed and judged again. What officers see and what a partner sees are two views: a partner is told what
//! stands in the way of its own people, and of what others have to do with it no more than that there is something.

use tonic::Status;

use super::attestation::CHAIN_LEN_MAX;
use super::parse::{invalid, optional, or_default, required};
use super::{decided, show};
use crate::app::{Answer, DecisionCursor, Explained, Exposed, Exposure, Replayed};
use crate::domain::command::ObjectRef;
use crate::domain::decided::{Decided, Question};
use crate::domain::decision::{Decision, Denial, Finding, LOGIC_VERSION, Stage, Step};
use crate::domain::id::{EntityId, Seq};
use crate::domain::model::{AccessForm, MODEL_NAME_LEN_MAX};
use crate::domain::policy::Place;
use crate::domain::time::Timestamp;
use crate::pb;

/// What a partner is told instead of what concerns others, or what it might act on before officers do.
const NOT_TOLD: &str = "ASK_THE_PROVIDER";
const NOT_TOLD_TEXT: &str = "the provider can say no more here; ask it";

/// What is asked.
pub(super) fn question(message: &pb::ExplainAccessRequest) -> Result<Question, Status> {
    if message.chain.len() > CHAIN_LEN_MAX {
        return Err(invalid("chain", "at most 16 intermediaries are allowed"));
    }
    if message.model.len() > MODEL_NAME_LEN_MAX {
        return Err(invalid("model", "no model has a name that long"));
    }
    Ok(Question {
        model: message.model.clone(),
        form: or_default("access_form", &message.access_form, AccessForm::Inference)?,
        place: or_default("place", &message.place, Place::Unknown)?,
        serving: Some(or_default("serving_region", &message.serving_region, Place::Unknown)?),
        purpose: optional("purpose", &message.purpose)?,
        chain: message.chain.iter().map(|hop| required("chain", hop)).collect::<Result<_, _>>()?,
        end_user_identified: message.end_user_identified,
    })
}

fn step(step: &Step) -> pb::ReasonStep {
    pb::ReasonStep {
        stage: step.stage.to_string(),
        name: step.name.clone(),
        finding: step.finding.to_string(),
        text: step.says.to_owned(),
        clause: step.clause.to_owned(),
    }
}

fn fact((object, revision): &(ObjectRef, Seq)) -> pb::FactUsed {
    pb::FactUsed { object: object.to_string(), revision: revision.0 }
}

/// What officers see.
pub(super) fn explained(explained: &Explained) -> pb::ExplainAccessResponse {
    let answer = Answer {
        id: None,
        decision: explained.decision.clone(),
        as_of: explained.state.position,
        good_until: explained.at,
        certificate_fault: None,
    };
    // It permits nothing, so it is good for no time.
    let decision = pb::Decision { good_until: String::new(), ..show::decision(&answer) };
    pb::ExplainAccessResponse {
        decision: Some(decision),
        steps: explained.steps.iter().map(step).collect(),
        facts: explained.facts.iter().map(fact).collect(),
        at: explained.at.to_string(),
        logic_version: LOGIC_VERSION,
        policy_sha256: explained.state.bundle().hash().0.to_vec().into(),
    }
}

/// May a partner be told of this gate? Of screening and of flags on it nobody is warned, and other parties are not its own.
const fn is_told(denial: Denial) -> bool {
    match denial {
        Denial::PartyDenied
        | Denial::ScreeningPending
        | Denial::ScreeningStale
        | Denial::MiEndUser
        | Denial::EndUserUnidentified => false,
        Denial::StateUnavailable
        | Denial::ClockUntrusted
        | Denial::StaleView
        | Denial::CredentialInvalid
        | Denial::CredentialNotYetValid
        | Denial::CredentialExpired
        | Denial::CredentialWrongKind
        | Denial::CredentialNotIssued
        | Denial::CredentialRevoked
        | Denial::CredentialHeld
        | Denial::CredentialLineageLocked
        | Denial::CredentialStale
        | Denial::EmergencyStop
        | Denial::ModelUnknown
        | Denial::Embargo
        | Denial::AccessForm
        | Denial::ModelNotListed
        | Denial::ServerNotAsked => true,
    }
}

/// What a partner sees.
pub(super) fn explained_to_partner(explained: &Explained) -> pb::ExplainAccessResponse {
    let hidden = |decision: &Decision| decision.denials.iter().any(|denial| !is_told(*denial));
    let whole = self::explained(explained);
    let is_own =
        |(object, _): &&(ObjectRef, Seq)| matches!(object, ObjectRef::Entity(_) | ObjectRef::Subject(_));
    let facts = explained.facts.iter().filter(is_own).map(fact).collect();
    let answer = whole.decision.unwrap_or_default();
    let bare = pb::Decision { permit: answer.permit, as_of: answer.as_of, ..pb::Decision::default() };
    if hidden(&explained.decision) {
        let decision = pb::Decision {
            code: NOT_TOLD.to_owned(),
            explanation: format!("denied: {NOT_TOLD_TEXT}"),
            ..bare
        };
        return pb::ExplainAccessResponse {
            decision: Some(decision),
            facts,
            at: whole.at,
            ..Default::default()
        };
    }
    let failing =
        explained.steps.iter().filter(|step| step.finding == Finding::Fails || step.stage == Stage::Law);
    let decision = pb::Decision {
        legal: answer.legal,
        rule: answer.rule,
        reason: answer.reason,
        clause: answer.clause,
        denials: answer.denials,
        policy: answer.policy,
        explanation: answer.explanation,
        code: answer.code,
        ..bare
    };
    pb::ExplainAccessResponse {
        decision: Some(decision),
        steps: failing.map(step).collect(),
        facts,
        at: whole.at,
        logic_version: whole.logic_version,
        policy_sha256: Default::default(),
    }
}

pub(super) fn replayed(replayed: Replayed) -> pb::ReplayDecisionResponse {
    pb::ReplayDecisionResponse {
        same: replayed.is_same(),
        steps: replayed.steps.iter().map(step).collect(),
        facts: replayed.facts.iter().map(fact).collect(),
        recorded: Some(decided::decision(replayed.recorded)),
        again: Some(decided::decision(replayed.again)),
    }
}

/// Which permits are judged again.
pub(super) struct Permits {
    entity: Option<EntityId>,
    until: Option<Timestamp>,
    since: Option<Timestamp>,
    from: DecisionCursor,
}

impl TryFrom<pb::ListExposureRequest> for Permits {
    type Error = Status;
    fn try_from(message: pb::ListExposureRequest) -> Result<Self, Status> {
        Ok(Self {
            entity: optional("entity_id", &message.entity_id)?,
            since: optional("since", &message.since)?,
            until: optional("until", &message.until)?,
            from: decided::cursor(&message.page_token)?,
        })
    }
}

impl Permits {
    pub(super) const fn from(&self) -> (DecisionCursor, Option<Timestamp>) {
        (self.from, self.since)
    }

    pub(super) fn wants(&self, line: &Decided) -> bool {
        self.entity.is_none_or(|id| line.entity == Some(id))
            && self.since.is_none_or(|since| line.at >= since)
            && self.until.is_none_or(|until| line.at < until)
    }
}

pub(super) fn exposure(((entity, subject, model, code), row): (Exposed, Exposure)) -> pb::Exposure {
    pb::Exposure {
        entity_id: entity.to_string(),
        subject_id: subject.to_string(),
        model,
        code: code.to_owned(),
        legal: row.legal.to_string(),
        permits: row.count,
        first_time: row.interval.0.to_string(),
        last_time: row.interval.1.to_string(),
        first_decision_id: row.first.to_string(),
    }
}
