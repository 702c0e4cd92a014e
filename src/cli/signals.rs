//! `countersign audit signals`: what in decisions somebody should look at.

use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use super::output::table;
use super::remote::answer;
use super::{Context, Failure, Outcome, words};
use crate::pb;

/// How often it is looked for more.
const LOOK: Duration = Duration::from_secs(1);
const PAGE_LEN: u32 = 1_000;

#[derive(Args)]
pub(super) struct Query {
    /// Go on with those to come, one JSON object a line, until it is interrupted.
    #[arg(long)]
    follow: bool,
}

pub(super) async fn run(query: &Query, context: &Context<'_>) -> Result<Outcome, Failure> {
    let remote = context.connection.remote().await?;
    let mut request = pb::ListSignalsRequest { after: 0, page_size: PAGE_LEN, boot_id: String::new() };
    let mut all = Vec::new();
    // Ends: without --follow at the first page that is not full, and there are ten at most.
    loop {
        let page = answer(remote.audit().list_signals(request.clone())).await?;
        let is_last = page.signals.len() < usize::try_from(PAGE_LEN).unwrap_or(usize::MAX);
        if page.boot_id != request.boot_id {
            (request.boot_id, request.after) = (page.boot_id, 0);
        }
        request.after = page.signals.last().map_or(request.after, |last| last.number);
        match query.follow {
            true => page.signals.iter().for_each(|signal| println!("{}", plain(signal))),
            false => all.extend(page.signals),
        }
        match (is_last, query.follow) {
            (false, _) => {}
            (true, true) => tokio::time::sleep(LOOK).await,
            (true, false) => break,
        }
    }
    let value: Vec<_> = all.iter().map(plain).collect();
    let rows: Vec<_> = all
        .iter()
        .map(|signal| {
            [
                &signal.time,
                &signal.kind,
                &signal.entity_id,
                &signal.subject_id,
                &signal.gateway,
                &signal.detail,
                &signal.decision_id,
            ]
            .map(|text| words::printable(text))
        })
        .collect();
    let head = ["TIME", "SIGNAL", "ENTITY", "PERSON", "BY", "WHAT", "DECISION"];
    context.output.print(&json!(value), &table(head, &rows));
    Ok(Outcome::Done)
}

fn plain(signal: &pb::Signal) -> Value {
    json!({
        "number": signal.number, "signal": signal.kind, "time": signal.time, "entity": signal.entity_id,
        "person": signal.subject_id, "gateway": signal.gateway, "detail": signal.detail,
        "decision": signal.decision_id,
    })
}
