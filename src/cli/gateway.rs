//! `countersign gateway list`, `show` and `watch`: the fleet as officers see it, and nothing that changes it.

use std::io::{IsTerminal as _, Write as _};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::{Value, json};

use super::output::{every_page, table};
use super::remote::{answer, incoming};
use super::words::printable;
use super::{Context, Failure, Outcome};
use crate::domain::id::PrincipalId;
use crate::pb;

/// Rows of a page: as many as the server gives at once.
const PAGE_LEN: u32 = 1_000;

pub(super) async fn list(context: &Context<'_>) -> Result<Outcome, Failure> {
    let remote = context.connection.remote().await?;
    let sessions = every_page(async |page_token| {
        let request = pb::ListGatewaysRequest { page_size: PAGE_LEN, page_token };
        let page = answer(remote.enforcement().list_gateways(request)).await?;
        Ok((page.sessions, page.next_page_token))
    })
    .await?;
    context.output.print(&Value::from_iter(sessions.iter().map(value)), &rows(&sessions));
    Ok(Outcome::Done)
}

pub(super) async fn show(name: &PrincipalId, context: &Context<'_>) -> Result<Outcome, Failure> {
    let remote = context.connection.remote().await?;
    let request = pb::GetGatewayRequest { gateway: name.to_string() };
    let gateway = answer(remote.enforcement().get_gateway(request)).await?.gateway.unwrap_or_default();
    let until = or_dash(&gateway.certificate_not_after);
    let machine = if gateway.pausable { "can be paused: its promises are weak" } else { "never paused" };
    let mut text = format!(
        "gateway      {}\nkey sha-256  {}\nmachine      {machine}\ncertificate  until {until}\nchanged      in record {}\n",
        printable(&gateway.gateway),
        printable(&gateway.key_sha256),
        gateway.revision,
    );
    if gateway.sessions.is_empty() {
        text.push_str("sessions     none\n");
    }
    for session in &gateway.sessions {
        text.push_str(&details(session));
    }
    let value = json!({
        "gateway": gateway.gateway, "key_sha256": gateway.key_sha256, "pausable": gateway.pausable,
        "certificate_not_after": gateway.certificate_not_after, "revision": gateway.revision,
        "as_of": gateway.as_of.unwrap_or_default().seq,
        "sessions": Value::from_iter(gateway.sessions.iter().map(value)),
    });
    context.output.print(&value, &text);
    Ok(Outcome::Done)
}

/// Shows the list and shows it again whenever it changed, until it is interrupted or nobody reads.
pub(super) async fn watch(context: &Context<'_>) -> Result<Outcome, Failure> {
    let remote = context.connection.remote().await?;
    let mut screen = Screen::new(context.output.is_json())?;
    loop {
        // The server ends a watch after an hour; this one goes on.
        let mut lists = incoming(remote.enforcement().watch_gateways(pb::WatchGatewaysRequest {})).await?;
        while let Some(list) = lists.next().await? {
            if !screen.draw(&list) {
                return Ok(Outcome::Done);
            }
        }
    }
}

/// Where a list is drawn.
enum Screen {
    /// A terminal: over the last one.
    Terminal(ProgressBar),
    /// For programs: one JSON object a line.
    Lines,
    /// A pipe: one after another.
    Pipe,
}

impl Screen {
    fn new(json: bool) -> Result<Self, Failure> {
        if json {
            return Ok(Self::Lines);
        }
        if !std::io::stdout().is_terminal() {
            return Ok(Self::Pipe);
        }
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stdout());
        Ok(Self::Terminal(bar.with_style(ProgressStyle::with_template("{msg}")?)))
    }

    /// False when nobody reads any more.
    fn draw(&mut self, list: &pb::WatchGatewaysResponse) -> bool {
        let mut text = rows(&list.sessions);
        let left_out =
            usize::try_from(list.total_size).unwrap_or(usize::MAX).saturating_sub(list.sessions.len());
        if left_out > 0 {
            text.push_str(&format!("and {left_out} more: countersign gateway list\n"));
        }
        let mut out = std::io::stdout().lock();
        match self {
            Self::Terminal(bar) => {
                drop(out);
                bar.set_message(text);
                bar.tick();
                true
            }
            Self::Lines => {
                let sessions = Value::from_iter(list.sessions.iter().map(value));
                let line = json!({ "sessions": sessions, "total": list.total_size });
                writeln!(out, "{line}").and_then(|()| out.flush()).is_ok()
            }
            Self::Pipe => writeln!(out, "{text}").and_then(|()| out.flush()).is_ok(),
        }
    }
}

fn or_dash(text: &str) -> String {
    if text.is_empty() { "-".to_owned() } else { printable(text) }
}

/// Agent and adapter, as far as the gateway says.
fn software(session: &pb::GatewaySession) -> String {
    match session.adapter.as_str() {
        "" => or_dash(&session.agent),
        adapter => format!("{} ({})", or_dash(&session.agent), printable(adapter)),
    }
}

/// What a gateway can promise, in words.
fn strength(session: &pb::GatewaySession) -> String {
    let Some(strength) = session.enforcement else { return "-".to_owned() };
    let promises = [
        (strength.per_request, "per_request".to_owned()),
        (strength.closes_connections, "closes_connections".to_owned()),
        (strength.resumption_off, "resumption_off".to_owned()),
        (strength.stream_cut_ms > 0, format!("stream_cut_ms={}", strength.stream_cut_ms)),
        (strength.pausable, "pausable".to_owned()),
    ];
    let kept: Vec<_> = promises.into_iter().filter(|(is_so, _)| *is_so).map(|(_, word)| word).collect();
    if kept.is_empty() { "nothing".to_owned() } else { kept.join(",") }
}

fn weak(session: &pb::GatewaySession) -> String {
    or_dash(&session.weak_because.join(","))
}

const fn connected(session: &pb::GatewaySession) -> &'static str {
    match (session.connected, session.boot_id.is_empty()) {
        (true, _) => "yes",
        (false, false) => "left",
        (false, true) => "no",
    }
}

fn nack(session: &pb::GatewaySession) -> String {
    if session.last_nack.is_empty() {
        return "-".to_owned();
    }
    format!("{} at {}", printable(&session.last_nack), printable(&session.last_nack_at))
}

fn rows(sessions: &[pb::GatewaySession]) -> String {
    let row = |session: &pb::GatewaySession| {
        [
            printable(&session.gateway),
            connected(session).to_owned(),
            software(session),
            or_dash(&session.peer_address),
            or_dash(&session.connected_since),
            session.applied_seq.to_string(),
            session.lag.to_string(),
            session.lease_left_ms.to_string(),
            strength(session),
            weak(session),
            nack(session),
        ]
    };
    let header = [
        "GATEWAY",
        "CONNECTED",
        "SOFTWARE",
        "FROM",
        "SINCE",
        "APPLIED",
        "BEHIND",
        "LEASE MS",
        "STRENGTH",
        "WEAK",
        "LAST NACK",
    ];
    table(header, &sessions.iter().map(row).collect::<Vec<_>>())
}

fn details(session: &pb::GatewaySession) -> String {
    format!(
        "session      {}\n  connected  {}, since {}, from {}\n  software   {}\n  applied    record {}, {} behind\n  \
         lease      {} ms left\n  strength   {}\n  weak       {}\n  last nack  {}\n",
        printable(&session.boot_id),
        connected(session),
        or_dash(&session.connected_since),
        or_dash(&session.peer_address),
        software(session),
        session.applied_seq,
        session.lag,
        session.lease_left_ms,
        strength(session),
        weak(session),
        nack(session),
    )
}

fn value(session: &pb::GatewaySession) -> Value {
    let enforcement = session.enforcement.map(|strength| {
        json!({
            "per_request": strength.per_request, "closes_connections": strength.closes_connections,
            "resumption_off": strength.resumption_off, "stream_cut_ms": strength.stream_cut_ms,
            "pausable": strength.pausable,
        })
    });
    json!({
        "gateway": session.gateway, "boot_id": session.boot_id, "connected": session.connected,
        "applied_seq": session.applied_seq, "lag": session.lag, "lease_left_ms": session.lease_left_ms,
        "weak": session.weak, "last_nack": session.last_nack, "agent": session.agent, "adapter": session.adapter,
        "connected_since": session.connected_since, "enforcement": enforcement,
        "weak_because": session.weak_because, "last_nack_at": session.last_nack_at,
        "peer_address": session.peer_address,
    })
}
