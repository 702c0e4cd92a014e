//! What is due, and how far a restoration is: pages of what was counted on one state.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::parse::{invalid, optional, page_len};
use super::provisioning::confined;
use super::{show, status::status};
use crate::app::{App, RestorationView};
use crate::domain::due::{Due, REMINDER_MS};
use crate::domain::id::EntityId;
use crate::domain::restoration::{Cohort, Restored};
use crate::domain::time::Now;
use crate::pb;

/// The furthest that is looked ahead: ten years.
const WITHIN_DAYS_MAX: u32 = 3_660;
const DAY_MS: i64 = 86_400_000;

/// A page of what is due. A partner is shown its own whatever it names: of another's there is nothing.
pub(super) async fn list(
    app: &Arc<App>,
    request: Request<pb::ListDueRequest>,
) -> Result<Response<pb::ListDueResponse>, Status> {
    let own = confined(&app.state(), &request)?;
    let m = request.into_inner();
    let asked: Option<EntityId> = optional("entity_id", &m.entity_id)?;
    if m.within_days > WITHIN_DAYS_MAX {
        return Err(invalid("within_days", "at most 3660 days are looked ahead"));
    }
    let within_ms = if m.within_days == 0 { REMINDER_MS } else { i64::from(m.within_days) * DAY_MS };
    // The same is counted whoever is named, and shown if it may be.
    let (rows, now) = app.due(own.or(asked), within_ms).await.map_err(status)?;
    let rows = rows.into_iter().filter(|row| asked.is_none_or(|asked| asked == row.entity));
    let rows = rows.skip_while(|row| !m.page_token.is_empty() && token(row) <= m.page_token);
    let (page, next) = page(rows, page_len(m.page_size), token);
    let now = Now::with_margin(now);
    let due = page.iter().map(|row| shown(row, now)).collect();
    Ok(Response::new(pb::ListDueResponse { due, next_page_token: next }))
}

/// Where a row stands in the list: the instant in digits that sort as text, and what else tells rows apart.
fn token(row: &Due) -> String {
    let (at, entity, kind, what) = row.key();
    let since_ever = i128::from(at.millis()) - i128::from(i64::MIN);
    format!("{since_ever:020}/{entity}/{:02}/{what}", kind as u8)
}

/// The first rows, and the token of the last one when there are more.
fn page<T>(rows: impl Iterator<Item = T>, len: usize, token: impl Fn(&T) -> String) -> (Vec<T>, String) {
    let mut page: Vec<_> = rows.take(len + 1).collect();
    let more = page.len() > len;
    page.truncate(len);
    let next = if more { page.last().map(token) } else { None };
    (page, next.unwrap_or_default())
}

fn shown(row: &Due, now: Now) -> pb::Due {
    pb::Due {
        kind: row.kind.to_string(),
        stage: row.stage(now).to_string(),
        at: row.at.to_string(),
        entity_id: row.entity.to_string(),
        what: row.what.clone(),
        subjects: row.subjects,
        subject_ids: row.named.iter().map(ToString::to_string).collect(),
    }
}

/// A page of a restoration, with its totals.
pub(super) async fn restoration(
    app: &Arc<App>,
    request: Request<pb::GetRestorationRequest>,
) -> Result<Response<pb::GetRestorationResponse>, Status> {
    let m = request.into_inner();
    let after: Option<EntityId> = optional("page_token", &m.page_token)?;
    let view = app.restoration(m.model).await.map_err(status)?;
    let (eligible, certified) = view.counts.totals();
    let stage = match view.counts.since {
        None => "NOT_LIFTED",
        Some(_) if certified < eligible => "RESTORING",
        Some(_) => "RESTORED",
    };
    let took_s = took_s(&view, certified == eligible);
    let rows = view.counts.entities.iter();
    let rest = rows.skip_while(|row| after.is_some_and(|after| row.entity != after));
    let rest = rest.skip(usize::from(after.is_some()));
    let (page, next) = page(rest, page_len(m.page_size), |row| row.entity.to_string());
    Ok(Response::new(pb::GetRestorationResponse {
        model: view.counts.model.to_string(),
        since: view.counts.since.map(|since| since.to_string()).unwrap_or_default(),
        stage: stage.to_owned(),
        eligible,
        certified,
        took_s,
        entities: page.into_iter().map(restored).collect(),
        next_page_token: next,
        as_of: Some(show::position(view.as_of)),
    }))
}

/// From the lift to the last certificate, or so far.
fn took_s(view: &RestorationView, is_complete: bool) -> u64 {
    let until = if is_complete { view.last_enrolled_at.unwrap_or(view.now) } else { view.now };
    let took_ms = view.counts.since.map_or(0, |since| until.millis().saturating_sub(since.millis()));
    u64::try_from(took_ms / 1_000).unwrap_or_default()
}

fn restored(row: &Restored) -> pb::RestoredEntity {
    pb::RestoredEntity {
        entity_id: row.entity.to_string(),
        cohort: match row.cohort {
            Cohort::Provider => "PROVIDER".to_owned(),
            Cohort::Revision(revision) => format!("REVISION {revision}"),
            Cohort::Unlisted => "UNLISTED".to_owned(),
        },
        approved: row.approved,
        eligible: row.eligible,
        certified: row.certified,
        denied: row
            .denied
            .iter()
            .map(|(code, subjects)| pb::DenialCount { code: (*code).to_owned(), subjects: *subjects })
            .collect(),
    }
}
