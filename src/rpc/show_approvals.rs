//! What waits for officers, as messages; and what of it changed, for who watches.

use std::collections::{BTreeMap, BTreeSet};

use super::show::{count, position};
use crate::app::App;
use crate::domain::approval::MANDATE_FRESH_MS;
use crate::domain::command::{Command, Signers};
use crate::domain::id::{Digest, PrincipalId, ProposalId, Seq};
use crate::domain::officer_command::Review;
use crate::domain::proposal::{ClosedProposal, Proposal};
use crate::domain::recovery::PendingRecovery;
use crate::domain::state::State;
use crate::domain::time::Timestamp;
use crate::pb;

/// It waits for signatures.
const WAITING: &str = "WAITING";
/// It can never be carried out, and will be closed in a moment.
const LAPSED: &str = "LAPSED";
/// It waits no more, and the record says why.
const CLOSED: &str = "CLOSED";

/// Whether a message carries the mandate: up to 512 KiB, so only where one proposal is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mandates {
    With,
    Without,
}

/// A proposal that waits, or has lapsed and will be closed in a moment.
pub(super) fn waiting(state: &State, proposal: &Proposal, now: Timestamp, with: Mandates) -> pb::Proposal {
    let lapse = state.lapse_of(proposal, now);
    let mut shown = shown(state, proposal, with);
    shown.status = if lapse.is_some() { LAPSED } else { WAITING }.to_owned();
    if let Some(lapse) = lapse {
        (shown.why, shown.may_approve) = (lapse.to_string(), Vec::new());
    }
    shown
}

/// A proposal that waits no more.
pub(super) fn closed(state: &State, closed: &ClosedProposal, with: Mandates) -> pb::Proposal {
    pb::Proposal {
        status: closed.outcome.as_str().to_owned(),
        why: closed.outcome.why().unwrap_or_default(),
        may_approve: Vec::new(),
        closed_seq: closed.seq.0,
        closed_by: closed.by.as_ref().map(ToString::to_string).unwrap_or_default(),
        ..shown(state, &closed.proposal, with)
    }
}

fn shown(state: &State, proposal: &Proposal, with: Mandates) -> pb::Proposal {
    let signed = &proposal.signed;
    let command = signed.mandate(&state.settings.trust_domain).ok().map(|mandate| mandate.command);
    let approvals = || signed.approvals.iter();
    let mandate = (with == Mandates::With).then(|| pb::SignedMandate {
        mandate: signed.bytes.clone().into(),
        approvals: approvals()
            .map(|approval| pb::Approval {
                officer: approval.officer.to_string(),
                signature: approval.signature.clone().into(),
            })
            .collect(),
    });
    let objects = proposal.basis.iter().map(|basis| pb::ProposalObject {
        object: basis.object.to_string(),
        revision_then: basis.revision.0,
        revision_now: state.revision(&basis.object).0,
    });
    let signers = command.as_ref().map(Command::signers);
    let needed = signers.map_or(2, |signers| signers.count);
    let signed_by: Vec<&PrincipalId> = approvals().map(|approval| &approval.officer).collect();
    pb::Proposal {
        proposal_id: proposal.id.to_string(),
        mandate,
        command: command.map(|command| command.name().to_owned()).unwrap_or_default(),
        made_at: proposal.made_at.to_string(),
        signatures_missing: count(needed.saturating_sub(signed.approvals.len())),
        may_approve: signers.map(|signers| may_approve(state, signers, &signed_by)).unwrap_or_default(),
        signed_by: signed_by.into_iter().map(ToString::to_string).collect(),
        lapses_at: proposal.mandated_at.plus_ms(MANDATE_FRESH_MS).to_string(),
        objects: objects.collect(),
        ..Default::default()
    }
}

/// The acting officers with a fitting role who have not signed.
fn may_approve(state: &State, signers: Signers, signed_by: &[&PrincipalId]) -> Vec<String> {
    let acting = state.principals.keys().filter_map(|id| state.officer(id));
    let fitting = acting.filter(|officer| signers.roles.iter().any(|role| officer.has(*role)));
    fitting
        .filter(|officer| !signed_by.contains(&&officer.id))
        .map(|officer| officer.id.to_string())
        .collect()
}

/// The emergencies after this record that nobody has reviewed yet.
pub(super) fn reviews(state: &State, after: Seq) -> Vec<pb::Review> {
    let show = |review: &Review| {
        let command = review.what.command();
        pb::Review {
            review: review.seq.0,
            officers: review.officers.iter().map(ToString::to_string).collect(),
            command: command.name().to_owned(),
            scope: command.restriction().map_or("NONE", |(scope, _)| scope).to_owned(),
            reason: review.reason.clone(),
            time: review.at.to_string(),
            objects: command.objects().iter().map(ToString::to_string).collect(),
        }
    };
    state.reviews.values().filter(|review| review.seq > after).map(|review| show(review)).collect()
}

/// The recoveries that wait for their day.
pub(super) fn recoveries(state: &State) -> Vec<pb::Recovery> {
    state.recoveries.values().map(|pending| recovery(pending)).collect()
}

fn recovery(pending: &PendingRecovery) -> pb::Recovery {
    pb::Recovery {
        recovery_id: pending.id.to_string(),
        principal: pending.new.id.to_string(),
        roles: pending.new.roles.iter().map(ToString::to_string).collect(),
        key_sha256: Digest::of(&pending.new.key).to_string(),
        announced_at: pending.announced_at.to_string(),
        effective_at: pending.effective_at().to_string(),
        signed_by: pending.signed.signatures.iter().map(|signature| signature.key.to_string()).collect(),
    }
}

/// How a proposal stood: its status, and how many signatures it had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stood {
    status: &'static str,
    signatures: usize,
}

/// What of a watch was sent.
#[derive(Debug, Default)]
pub(super) struct Watched {
    /// The record at its first look: what was closed before is no news.
    since: Option<Seq>,
    stood: BTreeMap<ProposalId, Stood>,
    reviews: BTreeSet<Seq>,
    recoveries: BTreeSet<ProposalId>,
}

impl Watched {
    /// What is new since the last look; the first time all that waits, also when that is nothing.
    pub(super) fn look(&mut self, app: &App) -> Option<pb::WatchApprovalsResponse> {
        let (state, now) = (app.state(), app.now());
        let is_first = self.since.is_none();
        let since = *self.since.get_or_insert(state.position.seq);
        let (mut stand, mut changed) = (BTreeMap::new(), Vec::new());
        for proposal in state.proposals.values() {
            let status = if state.lapse_of(proposal, now).is_some() { LAPSED } else { WAITING };
            let stands = Stood { status, signatures: proposal.signed.approvals.len() };
            if self.stood.get(&proposal.id) != Some(&stands) {
                changed.push(waiting(&state, proposal, now, Mandates::Without));
            }
            stand.insert(proposal.id, stands);
        }
        for one in state.closed.values().filter(|closed| closed.seq > since) {
            let (id, signatures) = (one.proposal.id, one.proposal.signed.approvals.len());
            let stands = Stood { status: one.outcome.as_str(), signatures };
            if self.stood.get(&id) != Some(&stands) {
                changed.push(closed(&state, one, Mandates::Without));
            }
            stand.insert(id, stands);
        }
        // So many were closed since the last look that this one is remembered no more, or a restore dropped it.
        let waited = self.stood.iter().filter(|(_, stood)| [WAITING, LAPSED].contains(&stood.status));
        changed.extend(waited.filter(|(id, _)| !stand.contains_key(*id)).map(|(id, _)| pb::Proposal {
            proposal_id: id.to_string(),
            status: CLOSED.to_owned(),
            ..Default::default()
        }));
        self.stood = stand;
        let as_of = Some(position(state.position));
        let (reviews, reviewed) = self.look_at_reviews(&state);
        let (recoveries, ended_recoveries) = self.look_at_recoveries(&state);
        let news = pb::WatchApprovalsResponse {
            changed,
            as_of: None,
            reviews,
            reviewed,
            recoveries,
            ended_recoveries,
        };
        let is_news = is_first || news != pb::WatchApprovalsResponse::default();
        is_news.then_some(pb::WatchApprovalsResponse { as_of, ..news })
    }

    fn look_at_recoveries(&mut self, state: &State) -> (Vec<pb::Recovery>, Vec<String>) {
        let new = state.recoveries.values().filter(|pending| !self.recoveries.contains(&pending.id));
        let new = new.map(|pending| recovery(pending)).collect();
        let ended = self.recoveries.iter().filter(|id| !state.recoveries.contains_key(*id));
        let ended = ended.map(ToString::to_string).collect();
        self.recoveries = state.recoveries.keys().copied().collect();
        (new, ended)
    }

    fn look_at_reviews(&mut self, state: &State) -> (Vec<pb::Review>, Vec<u64>) {
        let last = self.reviews.last().copied().unwrap_or_default();
        let closed: Vec<Seq> =
            self.reviews.iter().filter(|seq| !state.reviews.contains_key(*seq)).copied().collect();
        self.reviews = state.reviews.keys().copied().collect();
        (reviews(state, last), closed.into_iter().map(|seq| seq.0).collect())
    }
}
