//! Reported decisions, both ways.

use super::words::place;
use super::{WireError, bounded, parse};
use crate::domain::enforce::report::{AskedMore, BATCH_LEN_MAX, CHAIN_LEN_MAX, CODE_LEN_MAX, DecisionReport};
use crate::domain::id::{BootId, Ordinal};
use crate::domain::model::{AccessForm, MODEL_NAME_LEN_MAX};
use crate::domain::time::Timestamp;
use crate::pb;

impl From<DecisionReport> for pb::DecisionReport {
    fn from(report: DecisionReport) -> Self {
        let text = |id: Option<String>| id.unwrap_or_default();
        Self {
            time_ms: report.at.millis(),
            permit: report.is_permit,
            code: report.code,
            model: report.model,
            access_form: report.form.to_string(),
            place: place(report.place),
            subject_id: text(report.subject.map(|id| id.to_string())),
            entity_id: text(report.entity.map(|id| id.to_string())),
            ordinal: report.ordinal.map_or(0, |ordinal| ordinal.0),
            as_of: Some(report.as_of.into()),
            count: report.count,
            asked: report.asked.map(Into::into),
        }
    }
}

impl From<AskedMore> for pb::AskedMore {
    fn from(asked: AskedMore) -> Self {
        Self {
            serving_region: place(asked.serving),
            purpose: asked.purpose.map(|purpose| purpose.to_string()).unwrap_or_default(),
            chain: asked.chain.iter().map(ToString::to_string).collect(),
            end_user_identified: asked.end_user_identified,
            logic_version: asked.logic,
        }
    }
}

impl TryFrom<pb::AskedMore> for AskedMore {
    type Error = WireError;

    fn try_from(asked: pb::AskedMore) -> Result<Self, WireError> {
        bounded("decisions.asked.chain", asked.chain.len(), CHAIN_LEN_MAX)?;
        let hops = asked.chain.iter().map(|hop| parse("decisions.asked.chain", hop));
        Ok(Self {
            serving: parse("decisions.asked.serving_region", &asked.serving_region)?,
            purpose: present("decisions.asked.purpose", &asked.purpose)?,
            chain: hops.collect::<Result<_, _>>()?,
            end_user_identified: asked.end_user_identified,
            logic: asked.logic_version,
        })
    }
}

impl TryFrom<pb::DecisionReport> for DecisionReport {
    type Error = WireError;

    fn try_from(report: pb::DecisionReport) -> Result<Self, WireError> {
        bounded("decisions.code", report.code.len(), CODE_LEN_MAX)?;
        bounded("decisions.model", report.model.len(), MODEL_NAME_LEN_MAX)?;
        let as_of = report.as_of.ok_or_else(|| WireError::missing("decisions.as_of"))?;
        if report.count == 0 {
            return Err(WireError::new("decisions.count", "must be at least 1"));
        }
        Ok(Self {
            at: Timestamp::from_millis(report.time_ms),
            is_permit: report.permit,
            code: report.code,
            model: report.model,
            form: match report.access_form.as_str() {
                "" => AccessForm::Inference,
                form => parse("decisions.access_form", form)?,
            },
            place: parse("decisions.place", &report.place)?,
            subject: present("decisions.subject_id", &report.subject_id)?,
            entity: present("decisions.entity_id", &report.entity_id)?,
            ordinal: (report.ordinal != 0).then_some(Ordinal(report.ordinal)),
            as_of: as_of.into(),
            count: report.count,
            asked: report.asked.map(TryInto::try_into).transpose()?,
        })
    }
}

/// A text that may be empty.
fn present<T>(field: &'static str, text: &str) -> Result<Option<T>, WireError>
where
    T: std::str::FromStr,
    T::Err: ToString,
{
    if text.is_empty() { Ok(None) } else { parse(field, text).map(Some) }
}

/// Run, number and decisions of a batch.
///
/// # Errors
/// What is wrong with it.
pub fn decision_batch(
    request: pb::ReportDecisionsRequest,
) -> Result<(BootId, u64, Vec<DecisionReport>), WireError> {
    bounded("decisions", request.decisions.len(), BATCH_LEN_MAX)?;
    let boot = parse("boot_id", &request.boot_id)?;
    if request.batch == 0 || request.decisions.is_empty() {
        return Err(WireError::new("batch", "a number from 1 and at least one decision are needed"));
    }
    let decisions = request.decisions.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?;
    Ok((boot, request.batch, decisions))
}
