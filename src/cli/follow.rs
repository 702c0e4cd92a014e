//! The progress of a restriction that is waited for, on a terminal: who acknowledged, who is missing with what is left of
//! their leases, and how long it takes at most. It only shows; the answer that is waited for decides.

use std::future::Future;

use indicatif::ProgressBar;

use super::Failure;
use super::remote::{Remote, incoming};
use super::words::printable;
use crate::pb;

/// The most names that are shown: what fits a line.
const NAMES_MAX: usize = 8;

/// Waits for an answer, and shows meanwhile how its request stands. Without a terminal nothing is shown and nothing asked.
pub(super) async fn beside<T>(
    answer: impl Future<Output = Result<T, Failure>>,
    remote: &Remote,
    request_id: String,
    bar: &ProgressBar,
) -> Result<T, Failure> {
    if bar.is_hidden() {
        return answer.await;
    }
    tokio::select! {
        answered = answer => answered,
        never = show(remote, request_id, bar) => match never {},
    }
}

async fn show(remote: &Remote, request_id: String, bar: &ProgressBar) -> std::convert::Infallible {
    let mut revocation = remote.revocation();
    let request = pb::WatchEnforcementRequest { request_id };
    // A server that is older, or watched by too many, shows nothing; the answer comes all the same.
    if let Ok(mut standings) = incoming(revocation.watch_enforcement(request)).await {
        while let Ok(Some(standing)) = standings.next().await {
            bar.set_message(line(&standing));
        }
    }
    std::future::pending().await
}

const fn seconds(ms: u64) -> u64 {
    ms.div_ceil(1_000)
}

fn line(standing: &pb::WatchEnforcementResponse) -> String {
    let acked = standing.enforcement.as_ref().map_or(0, |at| at.acked.len() + at.weak.len());
    let closed = standing.enforcement.as_ref().map_or(0, |at| at.lease_expired.len());
    let mut text = format!("{acked} acknowledged");
    if closed > 0 {
        text.push_str(&format!(", {closed} closed by their lease"));
    }
    if standing.missing.is_empty() {
        return text;
    }
    let missing = standing.missing.iter().take(NAMES_MAX).map(|missing| {
        let name = printable(&missing.participant);
        let left = missing.lease_left_ms.map(|ms| format!(" ({} s of its lease left)", seconds(ms)));
        format!("{name}{}", left.unwrap_or_default())
    });
    text.push_str(&format!("; waiting for {}", missing.collect::<Vec<_>>().join(", ")));
    let more = standing.missing.len().saturating_sub(NAMES_MAX);
    if more > 0 {
        text.push_str(&format!(" and {more} more"));
    }
    text.push_str(&format!("; at most {} s", seconds(standing.bound_left_ms)));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_who_is_missing_and_for_how_long() {
        let missing = |name: &str, lease_left_ms| pb::MissingParticipant {
            participant: name.to_owned(),
            lease_left_ms,
        };
        let enforcement = pb::Enforcement {
            acked: vec!["gw-1".to_owned(), "server".to_owned()],
            weak: vec!["gw-2".to_owned()],
            lease_expired: vec!["gw-3".to_owned()],
            ..Default::default()
        };
        let mut standing = pb::WatchEnforcementResponse {
            enforcement: Some(enforcement),
            missing: vec![missing("gw-4\u{1b}[2J", Some(6_001)), missing("server", None)],
            bound_left_ms: 9_500,
        };
        assert_eq!(
            line(&standing),
            "3 acknowledged, 1 closed by their lease; waiting for gw-4\u{fffd}[2J (7 s of its lease left), server; at most 10 s"
        );
        standing.missing = (0..10).map(|n| missing(&format!("gw-{n}"), Some(0))).collect();
        assert!(
            line(&standing).contains("gw-7 (0 s of its lease left) and 2 more; at most"),
            "{}",
            line(&standing)
        );
        standing.missing.clear();
        assert_eq!(line(&standing), "3 acknowledged, 1 closed by their lease");
    }
}
