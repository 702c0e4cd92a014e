//! The one task that gives the proxy its sets: connects, subscribes, installs, proves, acknowledges, and begins again
//! after a while. A set that the proxy does not work with is refused and not acknowledged; the one before runs out.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, sleep};
use tonic::transport::Channel;

use super::canary::{Canaries, Nest};
use super::enforcer::Enforcer;
use super::haproxy::Haproxy;
use super::nginx::Nginx;
use super::own::Own;
use super::prove::{Proof, Prover, Resumption};
use super::remedy::{NOT_ASKED, RELOAD, RESUMPTION, Refusal};
use super::sds::{Offer, Subscription};
use super::set::TrustSet;
use crate::client::channel;
use crate::domain::enforce::message::Strength;
use crate::env::Clock;

/// The pause after a lost connection: the first, and the longest.
const PAUSE_MIN: Duration = Duration::from_millis(250);
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// How long after a refusal the proxy is given its list again.
const TRY_AGAIN: Duration = Duration::from_secs(2);
/// How often the age of the canaries is looked at, and health is logged.
const LOOK: Duration = Duration::from_secs(10);
/// The set whose lists run out with the lease, and the one whose lists do not.
const LEASED: &str = "countersign-access-canary";
const UNLEASED: &str = "countersign-access-unleased-canary";

/// The proxy.
pub(super) enum Proxy {
    Haproxy(Haproxy),
    Nginx(Nginx),
}

impl Proxy {
    async fn install(&mut self, set: &TrustSet) -> Result<(), Refusal> {
        match self {
            Self::Haproxy(haproxy) => haproxy.install(set).await,
            Self::Nginx(nginx) => nginx.install(set).await,
        }
    }

    /// A reload of nginx costs every worker, so it gets only what changed; `auth_request` is its lease.
    const fn secret(&self) -> &'static str {
        match self {
            Self::Haproxy(_) => LEASED,
            Self::Nginx(_) => UNLEASED,
        }
    }
}

/// Who asks the service, and the time.
pub(super) struct Service {
    pub(super) own: Arc<Own>,
    pub(super) clock: Arc<dyn Clock>,
}

/// What the task owns.
pub(super) struct Publisher {
    pub(super) service: Service,
    pub(super) proxy: Proxy,
    pub(super) prover: Prover,
    pub(super) nest: Nest,
    pub(super) enforcer: Arc<Enforcer>,
    /// The canaries, those before them for lists that do not name the new ones yet.
    pub(super) canaries: Vec<Canaries>,
    /// Did it have a lease when it was last looked at?
    pub(super) is_well: Option<bool>,
    /// What was seen of the proxy and logged last.
    pub(super) said: Option<Proof>,
}

impl Publisher {
    /// Runs until it is stopped.
    pub(super) async fn run(mut self, mut stopped: watch::Receiver<bool>) {
        let mut pause = PAUSE_MIN;
        loop {
            let ended = tokio::select! {
                _ = stopped.wait_for(|stop| *stop) => return,
                ended = self.connection(&mut pause) => ended,
            };
            if let Err(why) = ended {
                tracing::warn!(why, "the subscription to trust sets ended");
            }
            tokio::select! {
                _ = stopped.wait_for(|stop| *stop) => return,
                () = sleep(pause) => {}
            }
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    async fn connection(&mut self, pause: &mut Duration) -> Result<(), String> {
        let Service { own, clock } = &self.service;
        let target = self.enforcer.target();
        let connected =
            channel(&target, Some(&own.identity()), clock).await.map_err(|fault| fault.to_string())?;
        self.remember(self.nest.fetch(&connected).await?);
        let promised = self.enforcer.promised();
        let mut sets = Subscription::open(connected.clone(), self.proxy.secret(), promised).await?;
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut was_refused = false;
        loop {
            let offer = tokio::select! {
                offer = sets.next() => offer?,
                // What was refused is offered again to a new stream only.
                () = sleep(TRY_AGAIN), if was_refused => return Ok(()),
                _ = looks.tick() => {
                    self.look(&connected).await?;
                    continue;
                }
            };
            if let Ok(set) = &offer.set
                && self.canaries.first().is_some_and(|canaries| canaries.are_shut_out(set))
            {
                // A set that names the new ones comes with the next stream.
                let renewed = self.nest.renew(&connected).await?;
                tracing::warn!("the authority of the canaries is not trusted any more; there are new ones");
                self.remember(renewed);
            }
            match self.enforce(&offer).await {
                Ok(()) => {
                    sets.acknowledge(&offer)?;
                    was_refused = false;
                    *pause = PAUSE_MIN;
                }
                Err(refusal) => {
                    tracing::error!(
                        why = %refusal.what, remedy = refusal.remedy,
                        "the proxy does not work with its list: nothing is acknowledged, and the last one runs out"
                    );
                    sets.refuse(&offer, &refusal.what)?;
                    was_refused = true;
                }
            }
            // What a participant promises is read when its stream begins.
            if self.enforcer.promised() != promised {
                return Ok(());
            }
        }
    }

    async fn look(&mut self, connected: &Channel) -> Result<(), String> {
        let trouble = self.enforcer.trouble();
        if self.is_well != Some(trouble.is_none()) {
            self.is_well = Some(trouble.is_none());
            match trouble {
                Some(why) => tracing::warn!(why, "the agent denies everything: it has no lease"),
                None => tracing::info!("the agent has a lease"),
            }
        }
        let now = self.service.clock.now();
        if self.canaries.first().is_some_and(|canaries| canaries.are_old(now)) {
            let renewed = self.nest.renew(connected).await?;
            tracing::info!("the canaries were renewed");
            self.remember(renewed);
        }
        Ok(())
    }

    fn remember(&mut self, canaries: Canaries) {
        let known = self.canaries.first().is_some_and(|last| last.a.serial == canaries.a.serial);
        if !known {
            self.canaries.insert(0, canaries);
            self.canaries.truncate(2);
        }
    }

    async fn enforce(&mut self, offer: &Offer) -> Result<(), Refusal> {
        let set = offer.set.as_ref().map_err(|why| Refusal::new(why.clone(), RELOAD))?;
        self.proxy.install(set).await?;
        if set.until <= self.service.clock.now() {
            let canaries =
                self.canaries.first().ok_or_else(|| Refusal::new("there are no canaries", RELOAD))?;
            return self.prover.prove_closed(canaries).await;
        }
        let pair = self.canaries.iter().find_map(|canaries| canaries.of(set));
        let (listed, other) =
            pair.ok_or_else(|| Refusal::new("the list does not name exactly one canary", RELOAD))?;
        let proof = self.prover.prove(listed, other, set.until).await?;
        tracing::debug!(canary.listed = %listed.side, ?proof, "the proxy works with its list");
        let strength = self.strength(proof);
        self.enforcer.promise(strength).await.map_err(|why| Refusal::new(why, RELOAD))?;
        if proof.resumption == Resumption::Leaks {
            return Err(Refusal::new("a revoked client gets in by resuming its session", RESUMPTION));
        }
        Ok(())
    }

    /// What the proxy was seen to keep.
    fn strength(&mut self, proof: Proof) -> Strength {
        let resumption = proof.resumption;
        let promised = self.enforcer.promised();
        let resumption_off = match resumption {
            Resumption::Untried => promised.resumption_off,
            Resumption::Off => true,
            Resumption::Held | Resumption::Leaks => false,
        };
        let per_request = proof.is_asked && resumption != Resumption::Leaks;
        let strength = Strength { per_request, resumption_off, ..promised };
        let nothing_new = resumption == Resumption::Untried && strength == promised;
        if nothing_new || self.said == Some(proof) {
            return strength;
        }
        self.said = Some(proof);
        if !proof.is_asked {
            tracing::error!(
                remedy = NOT_ASKED,
                "requests pass that the agent was not asked about: it is weak"
            );
        }
        if resumption == Resumption::Held {
            tracing::warn!(
                remedy = RESUMPTION,
                "a revoked client resumes its session; only its requests are denied"
            );
        }
        tracing::info!(per_request, resumption_off, "what the proxy keeps was seen");
        strength
    }
}
