//! The fleet as officers see it: every session, and every registered gateway without one.

use std::collections::BTreeMap;

use tonic::Status;

use super::parse::{invalid, page_len};
use super::show;
use crate::app::{App, Error};
use crate::domain::certificate::PrincipalKind;
use crate::domain::id::{BootId, PrincipalId};
use crate::feed::SessionStatus;
use crate::pb;

/// The most rows that a watcher is sent: what a terminal can show, and far less than the largest message.
const WATCHED_ROWS_MAX: usize = 1_000;

/// A row of the list: a run of a gateway, or a registered gateway without one.
type Key = (PrincipalId, Option<BootId>);

fn rows(app: &App) -> BTreeMap<Key, Option<SessionStatus>> {
    let sessions = app.feed().sessions();
    let mut rows: BTreeMap<Key, Option<SessionStatus>> = BTreeMap::new();
    for session in sessions {
        rows.insert((session.gateway.clone(), Some(session.boot)), Some(session));
    }
    let state = app.state();
    let registered = state.principals.values();
    for gateway in registered.filter(|p| p.kind == PrincipalKind::Gateway && !p.is_removed) {
        let own = rows.range((gateway.id.clone(), None)..).next();
        if own.is_none_or(|((id, _), _)| *id != gateway.id) {
            rows.insert((gateway.id.clone(), None), None);
        }
    }
    rows
}

fn row((gateway, _): &Key, session: Option<&SessionStatus>) -> pb::GatewaySession {
    let Some(session) = session else {
        return pb::GatewaySession { gateway: gateway.to_string(), ..Default::default() };
    };
    let about = &session.about;
    let text = |value: Option<String>| value.unwrap_or_default();
    pb::GatewaySession {
        gateway: gateway.to_string(),
        boot_id: session.boot.to_string(),
        connected: session.is_connected,
        applied_seq: session.acked.0,
        lag: session.lag,
        lease_left_ms: session.lease_left_ms,
        weak: session.is_weak,
        last_nack: text(
            session.last_nack.as_ref().map(|(nack, _)| format!("{}: {}", nack.code, nack.detail)),
        ),
        agent: text(about.agent.as_ref().map(ToString::to_string)),
        adapter: text(about.adapter.as_ref().map(ToString::to_string)),
        connected_since: text(about.from.as_ref().map(|(_, since)| since.to_string())),
        enforcement: Some(about.strength.into()),
        weak_because: about.strength.weaknesses().map(|weakness| weakness.to_string()).collect(),
        last_nack_at: text(session.last_nack.as_ref().map(|(_, at)| at.to_string())),
        peer_address: text(about.from.as_ref().map(|(address, _)| address.clone())),
    }
}

/// Names the last row of a page.
fn token((gateway, boot): &Key) -> String {
    format!("{gateway}/{}", boot.map(|boot| boot.to_string()).unwrap_or_default())
}

fn parse_token(text: &str) -> Result<Option<Key>, Status> {
    if text.is_empty() {
        return Ok(None);
    }
    let key = text.split_once('/').and_then(|(gateway, boot)| {
        let boot = if boot.is_empty() { None } else { Some(boot.parse().ok()?) };
        Some((gateway.parse().ok()?, boot))
    });
    key.map(Some).ok_or_else(|| invalid("page_token", "it is not one that this server gave"))
}

pub(super) fn list(app: &App, page: &pb::ListGatewaysRequest) -> Result<pb::ListGatewaysResponse, Status> {
    let (after, len) = (parse_token(&page.page_token)?, page_len(page.page_size));
    let rows = rows(app);
    let mut rest = rows.iter().filter(|(key, _)| after.as_ref().is_none_or(|after| *key > after));
    let page: Vec<_> = rest.by_ref().take(len).collect();
    let next = rest.next().and(page.last()).map(|(key, _)| token(key));
    Ok(pb::ListGatewaysResponse {
        sessions: page.into_iter().map(|(key, session)| row(key, session.as_ref())).collect(),
        next_page_token: next.unwrap_or_default(),
    })
}

pub(super) fn watched(app: &App) -> pb::WatchGatewaysResponse {
    let rows = rows(app);
    let sessions = rows.iter().take(WATCHED_ROWS_MAX).map(|(key, session)| row(key, session.as_ref()));
    pb::WatchGatewaysResponse { sessions: sessions.collect(), total_size: show::count(rows.len()) }
}

/// What of a list is news. The lease of a session that pings goes up and down all the time; that of one that left is
/// counted down second by second.
pub(super) fn news(list: &pb::WatchGatewaysResponse) -> pb::WatchGatewaysResponse {
    let mut list = list.clone();
    for session in &mut list.sessions {
        session.lease_left_ms = match session.connected {
            true => session.lease_left_ms.min(1),
            false => session.lease_left_ms.div_ceil(1_000),
        };
    }
    list
}

pub(super) fn gateway(app: &App, id: &PrincipalId) -> Result<pb::Gateway, Error> {
    let state = app.state();
    let registered = state.principal(id).filter(|p| p.kind == PrincipalKind::Gateway && !p.is_removed);
    let principal = registered.ok_or(Error::NotFound("gateway"))?;
    let sessions = app.feed().sessions().into_iter().filter(|session| session.gateway == *id);
    let last = state.system_certificates.get(id);
    Ok(pb::Gateway {
        gateway: id.to_string(),
        key_sha256: principal.key_digest().to_string(),
        pausable: principal.is_pausable,
        certificate_not_after: last.map(|last| last.not_after.to_string()).unwrap_or_default(),
        revision: principal.revision.0,
        sessions: sessions.map(|session| row(&(id.clone(), None), Some(&session))).collect(),
        as_of: Some(show::position(state.position)),
    })
}
