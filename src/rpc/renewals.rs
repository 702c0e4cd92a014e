//! What is to be renewed before its time, for who watches it. A partner sees what its own entity holds: what is announced for
//! others is not there for it, on the same path as what is not announced at all.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::show;
use super::watch::{Look, Watch};
use crate::app::{App, Campaign, CampaignCause};
use crate::domain::id::EntityId;
use crate::domain::time::Timestamp;
use crate::pb;

/// How often it is looked at for who watches it. All who watch share one count, which is made no more often than it can be.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// How long one watch lasts; a command that goes on begins another.
const LIFE: Duration = Duration::from_secs(3_600);

/// Shows the campaigns on a stream: every one, or what an entity holds.
pub(super) fn follow(app: &Arc<App>, watch: Watch<pb::WatchRenewalsResponse>, own: Option<EntityId>) {
    let mut watched = Watched { app: Arc::clone(app), own, found: Arc::default(), looking: None, last: None };
    watch.run((LOOK_INTERVAL, LIFE), move |_| watched.look());
}

/// What a watch shows: the last look that is over, while the next one is made beside it.
struct Watched {
    app: Arc<App>,
    own: Option<EntityId>,
    found: Arc<Mutex<Option<Vec<pb::RenewalCampaign>>>>,
    looking: Option<tokio::task::JoinHandle<()>>,
    last: Option<Vec<pb::RenewalCampaign>>,
}

impl Watched {
    fn look(&mut self) -> Look<pb::WatchRenewalsResponse> {
        if self.looking.as_ref().is_none_or(tokio::task::JoinHandle::is_finished) {
            let (app, found, own) = (Arc::clone(&self.app), Arc::clone(&self.found), self.own);
            self.looking = Some(tokio::spawn(async move {
                match app.renewal_campaigns().await {
                    Ok(campaigns) => {
                        let now = app.now();
                        let shown = campaigns.iter().filter_map(|campaign| shown(campaign, own, now));
                        *found.lock().unwrap_or_else(PoisonError::into_inner) = Some(shown.collect());
                    }
                    Err(error) => tracing::debug!(%error, "renewals cannot be shown now"),
                }
            }));
        }
        let found = self.found.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(campaigns) = found.filter(|found| self.last.as_ref() != Some(found)) else {
            return Look::Same;
        };
        self.last = Some(campaigns.clone());
        let as_of = Some(show::position(self.app.state().position));
        Look::News(pb::WatchRenewalsResponse { campaigns, as_of })
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.looking.take().into_iter().for_each(|task| task.abort());
    }
}

/// A campaign as an officer sees it, or an entity: none when it holds nothing of it.
fn shown(campaign: &Campaign, own: Option<EntityId>, now: Timestamp) -> Option<pb::RenewalCampaign> {
    let is_own = |entity: &Option<EntityId>| own.is_none() || *entity == own;
    let renewed = campaign.renewed.iter().filter(|(entity, _)| is_own(entity)).map(|(_, count)| count).sum();
    let left: Vec<_> = campaign.left.iter().filter(|(entity, _)| is_own(entity)).collect();
    let count: u64 = left.iter().map(|(_, count)| **count).sum();
    if own.is_some() && renewed == 0 && count == 0 {
        return None;
    }
    let (cause, state, since, cut_at) = match &campaign.cause {
        CampaignCause::Announced(announced) => {
            let state = if announced.cut_at <= now { "CUT" } else { "ANNOUNCED" };
            let (since, cut_at) = (announced.announced_at.to_string(), announced.cut_at.to_string());
            (announced.id.to_string(), state, since, cut_at)
        }
        CampaignCause::Authority(id, state) => (id.to_string(), state.as_str(), String::new(), String::new()),
    };
    let named = own.and_then(|own| campaign.named.get(&own)).into_iter().flatten();
    let named = named.map(|(subject, ordinal)| pb::CertificateToRenew {
        subject_id: subject.to_string(),
        ordinal: ordinal.0,
    });
    let holder = |(entity, certificates): (&Option<EntityId>, &u64)| pb::CertificateHolder {
        entity_id: entity.map(|id| id.to_string()).unwrap_or_default(),
        certificates: *certificates,
    };
    let for_officers = |text: String| if own.is_some() { String::new() } else { text };
    Some(pb::RenewalCampaign {
        cause,
        state: state.to_owned(),
        scope: for_officers(campaign.scope.clone()),
        reason: for_officers(campaign.reason.map(|reason| reason.to_string()).unwrap_or_default()),
        since,
        cut_at,
        affected: count + renewed,
        renewed,
        left: count,
        holders: left.into_iter().map(holder).collect(),
        certificates: named.collect(),
    })
}
