//! Pages of the record of decisions.

use tonic::Status;

use super::parse::{invalid, optional, page_len};
use super::show;
use crate::app::DecisionCursor;
use crate::domain::decided::{Decided, Judged, Question};
use crate::domain::id::{DecisionId, EntityId, PrincipalId, SubjectId};
use crate::domain::signal::Signal;
use crate::domain::time::Timestamp;
use crate::pb;
use crate::pb::list_decisions_request::Outcome;

/// The longest name of a model, and the longest code.
const WORD_LEN_MAX: usize = 128;

/// What a caller wants to see.
pub(super) struct Filter {
    id: Option<DecisionId>,
    entity: Option<EntityId>,
    subject: Option<SubjectId>,
    model: String,
    gateway: Option<PrincipalId>,
    code: String,
    permit: Option<bool>,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
    pub(super) from: DecisionCursor,
    pub(super) len: usize,
}

impl TryFrom<pb::ListDecisionsRequest> for Filter {
    type Error = Status;
    fn try_from(message: pb::ListDecisionsRequest) -> Result<Self, Status> {
        for (field, text) in [("model", &message.model), ("code", &message.code)] {
            if text.len() > WORD_LEN_MAX {
                return Err(invalid(field, "at most 128 characters are allowed"));
            }
        }
        let outcome = Outcome::try_from(message.outcome);
        let permit = match outcome.map_err(|_| invalid("outcome", "it is not one that is known"))? {
            Outcome::Unspecified => None,
            Outcome::Permit => Some(true),
            Outcome::Deny => Some(false),
        };
        Ok(Self {
            id: optional("decision_id", &message.decision_id)?,
            entity: optional("entity_id", &message.entity_id)?,
            subject: optional("subject_id", &message.subject_id)?,
            gateway: optional("gateway", &message.gateway)?,
            since: optional("since", &message.since)?,
            until: optional("until", &message.until)?,
            from: cursor(&message.page_token)?,
            len: page_len(message.page_size),
            model: message.model,
            code: message.code,
            permit,
        })
    }
}

impl Filter {
    /// Nothing that is wanted was decided before this.
    pub(super) fn since(&self) -> Option<Timestamp> {
        self.since.max(self.id.map(DecisionId::made_at))
    }

    pub(super) fn wants(&self, line: &Decided) -> bool {
        let of_model = || line.question.as_ref().is_some_and(|question| question.model == self.model);
        self.id.is_none_or(|id| line.id == id)
            && self.entity.is_none_or(|id| line.entity == Some(id))
            && self.subject.is_none_or(|id| line.subject == Some(id))
            && (self.model.is_empty() || of_model())
            && self.gateway.as_ref().is_none_or(|id| line.gateway.as_ref() == Some(id))
            && (self.code.is_empty() || line.code == self.code)
            && self.permit.is_none_or(|permit| line.is_permit == permit)
            && self.since.is_none_or(|since| line.at >= since)
            && self.until.is_none_or(|until| line.at < until)
    }
}

/// Where a page begins: a segment and a decision of it.
pub(super) fn cursor(token: &str) -> Result<DecisionCursor, Status> {
    if token.is_empty() {
        return Ok(DecisionCursor::default());
    }
    let parts = token.split_once('.').and_then(|(segment, line)| {
        Some(DecisionCursor { segment: segment.parse().ok()?, line: line.parse().ok()? })
    });
    parts.ok_or_else(|| invalid("page_token", "it is not one of this service"))
}

/// The token of the page that begins there.
pub(super) fn token(cursor: Option<DecisionCursor>) -> String {
    cursor.map(|at| format!("{}.{}", at.segment, at.line)).unwrap_or_default()
}

fn text(value: Option<impl std::fmt::Display>) -> String {
    value.map(|value| value.to_string()).unwrap_or_default()
}

/// A decision as the API shows it.
pub(super) fn decision(line: Decided) -> pb::RecordedDecision {
    let shown = pb::RecordedDecision {
        id: line.id.to_string(),
        time: line.at.to_string(),
        decided_by: line.by.to_string(),
        gateway: text(line.gateway),
        certificate_sha256: line.certificate.map(|hash| hash.0.to_vec()).unwrap_or_default().into(),
        ordinal: line.ordinal.map_or(0, |ordinal| ordinal.0),
        entity_id: text(line.entity),
        subject_id: text(line.subject),
        as_of: Some(show::position(line.as_of)),
        logic_version: line.logic.unwrap_or_default(),
        policy_sha256: line.bundle.map(|hash| hash.0.to_vec()).unwrap_or_default().into(),
        permit: line.is_permit,
        code: line.code,
        good_until: text(line.good_until),
        count: line.count,
        ..Default::default()
    };
    judged(asked(shown, line.question), line.judged)
}

fn asked(shown: pb::RecordedDecision, question: Option<Question>) -> pb::RecordedDecision {
    let Some(question) = question else { return shown };
    pb::RecordedDecision {
        model: question.model,
        access_form: question.form.to_string(),
        place: question.place.to_string(),
        serving_region: text(question.serving),
        purpose: text(question.purpose),
        chain: question.chain.iter().map(ToString::to_string).collect(),
        end_user_identified: question.end_user_identified,
        ..shown
    }
}

fn judged(shown: pb::RecordedDecision, judged: Option<Judged>) -> pb::RecordedDecision {
    let Some(judged) = judged else { return shown };
    pb::RecordedDecision {
        legal: judged.legal.to_string(),
        rule: judged.rule,
        reason: judged.reason.to_string(),
        clause: judged.clause,
        determination: text(judged.determination),
        license: text(judged.license),
        denials: judged.denials.iter().map(ToString::to_string).collect(),
        policy: text(judged.policy),
        ..shown
    }
}

/// A signal as the API shows it.
pub(super) fn signal(number: u64, signal: Signal) -> pb::Signal {
    let (entity, subject) = signal.of.unzip();
    pb::Signal {
        number,
        kind: signal.kind.to_string(),
        time: signal.at.to_string(),
        entity_id: text(entity),
        subject_id: text(subject),
        gateway: text(signal.gateway),
        decision_id: signal.decision.to_string(),
        detail: signal.detail,
    }
}
