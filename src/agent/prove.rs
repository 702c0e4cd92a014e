//! The proof that a proxy works with a set: the canary that its list names is refused, the other one gets as far as the
//! endpoint and is denied there.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::canary::{Canaries, Canary};
use super::hold::Hold;
use super::probe::{Dress, Outcome, Prober};
use super::remedy::{NOT_ASKED, RELOAD, RESUMPTION, Refusal};
use crate::domain::certificate::Serial;
use crate::domain::time::Timestamp;

/// How long to wait before the proxy is looked at again.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// What HAProxy says when its lease is over.
const STALE: &str = "STALE_VIEW";

/// What a proof shows beside that the proxy works with the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Proof {
    /// The endpoint is asked for each request.
    pub(super) is_asked: bool,
    /// What the proxy does with sessions.
    pub(super) resumption: Resumption,
}

/// What came of resuming the session of a canary that is revoked by now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Resumption {
    /// No session was there to be resumed.
    Untried,
    /// Refused.
    Off,
    /// Resumed, and the request was denied all the same.
    Held,
    /// Resumed, and the request passed.
    Leaks,
}

/// Looks at one proxy.
pub(super) struct Prover {
    prober: Prober,
    hold: Arc<Hold>,
    timeout: Duration,
    /// How often the proof must be seen: a proxy whose old processes go on for a moment may show both.
    sightings: u32,
    /// Sessions of each canary from when it was accepted.
    sessions: BTreeMap<Serial, Vec<Dress>>,
    /// A revoked canary got in by resuming a session, and no other try has shown yet that none can.
    leaks: bool,
}

impl Prover {
    pub(super) const fn new(prober: Prober, hold: Arc<Hold>, timeout: Duration, sightings: u32) -> Self {
        Self { prober, hold, timeout, sightings, sessions: BTreeMap::new(), leaks: false }
    }

    /// Waits until the proxy shows that it works with a set that may be used until then, and looks what it does with
    /// sessions. One that lets the revoked in by those is closed at once, and not opened to look at it again.
    pub(super) async fn prove(
        &mut self,
        listed: &Canary,
        other: &Canary,
        until: Timestamp,
    ) -> Result<Proof, Refusal> {
        if self.leaks && self.is_resumed(listed).await {
            return Err(Refusal::new("a revoked client still resumes its session", RESUMPTION));
        }
        self.leaks = false;
        let is_asked = self.open(listed, other, until).await?;
        let resumption = self.resume(listed, other).await;
        if resumption == Resumption::Leaks {
            self.leaks = true;
            self.hold.allow(Timestamp::default()).await?;
        }
        Ok(Proof { is_asked, resumption })
    }

    async fn open(&self, listed: &Canary, other: &Canary, until: Timestamp) -> Result<bool, Refusal> {
        if !self.hold.is_needed() {
            return self.see(listed, other, |outcome| matches!(outcome, Outcome::Denied)).await;
        }
        let is_through = |outcome: &Outcome| matches!(outcome, Outcome::Denied | Outcome::Passed(_));
        if self.hold.is_open().await {
            let is_asked = self.see(listed, other, is_through).await?;
            self.hold.allow(until).await?;
            return Ok(is_asked);
        }
        // The rule of the lease is looked at too, before anybody rests on it.
        let is_closed = |outcome: &Outcome| matches!(outcome, Outcome::Held(code) if code == STALE);
        self.see(listed, other, is_closed).await?;
        self.hold.allow(until).await?;
        let proven = self.see(listed, other, is_through).await;
        if proven.is_err() {
            self.hold.allow(Timestamp::default()).await?;
        }
        proven
    }

    /// Waits until the proxy refuses everybody: it was given a list that has ended.
    pub(super) async fn prove_closed(&self, canaries: &Canaries) -> Result<(), Refusal> {
        self.hold.allow(Timestamp::default()).await?;
        self.see(&canaries.a, &canaries.b, |outcome| *outcome == Outcome::Refused).await.map(drop)
    }

    /// Says whether the endpoint was asked.
    async fn see(
        &self,
        listed: &Canary,
        other: &Canary,
        expected: impl Fn(&Outcome) -> bool,
    ) -> Result<bool, Refusal> {
        let wrong = |why| Refusal::new(why, RELOAD);
        let (a, b) = (self.prober.fresh(listed).map_err(wrong)?, self.prober.fresh(other).map_err(wrong)?);
        let mut last = None;
        let looked = timeout(self.timeout, async {
            let mut seen = 0;
            loop {
                let ((refused, _), (accepted, _)) = (self.prober.show(&a).await, self.prober.show(&b).await);
                let fits = refused == Outcome::Refused && expected(&accepted);
                seen = if fits { seen + 1 } else { 0 };
                if seen >= self.sightings {
                    return accepted == Outcome::Denied;
                }
                last = Some((refused, accepted));
                sleep(if fits { LOOK_AGAIN * 3 } else { LOOK_AGAIN }).await;
            }
        });
        match looked.await {
            Ok(is_asked) => Ok(is_asked),
            Err(_) => Err(unproven(listed, other, last)),
        }
    }

    /// Does the proxy resume a session of a canary that is revoked now? What it answers on it says nothing while it is
    /// closed.
    async fn is_resumed(&self, listed: &Canary) -> bool {
        for dress in self.sessions.get(&listed.serial).into_iter().flatten() {
            if let (_, true) = self.prober.show(dress).await {
                return true;
            }
        }
        false
    }

    /// Tries to resume sessions of the canary that is revoked now, and begins sessions of the other for the next time.
    async fn resume(&mut self, listed: &Canary, other: &Canary) -> Resumption {
        let mut found = Resumption::Untried;
        let tried = self.sessions.remove(&listed.serial).unwrap_or_default();
        for dress in &tried {
            let one = match self.prober.show(dress).await {
                (Outcome::Refused, _) => Resumption::Off,
                (Outcome::Denied | Outcome::Held(_), _) => Resumption::Held,
                (Outcome::Passed(_), _) => Resumption::Leaks,
                // A version that the proxy does not speak.
                (Outcome::Unreachable(_), _) => continue,
            };
            found = match (found, one) {
                (Resumption::Leaks, _) | (_, Resumption::Leaks) => Resumption::Leaks,
                (Resumption::Held, _) | (_, Resumption::Held) => Resumption::Held,
                (Resumption::Untried | Resumption::Off, one) => one,
            };
        }
        if found == Resumption::Leaks {
            // Kept, to see whether they still are.
            self.sessions.insert(listed.serial, tried);
        }
        if !self.sessions.contains_key(&other.serial) {
            let dresses =
                self.prober.versions().iter().filter_map(|version| self.prober.resuming(other, version).ok());
            let dresses: Vec<Dress> = dresses.collect();
            for dress in &dresses {
                self.prober.show(dress).await;
            }
            // Two canaries at a time; those of renewed ones go.
            self.sessions.retain(|serial, _| *serial == listed.serial);
            self.sessions.insert(other.serial, dresses);
        }
        found
    }
}

fn unproven(listed: &Canary, other: &Canary, last: Option<(Outcome, Outcome)>) -> Refusal {
    let Some((refused, accepted)) = last else {
        return Refusal::new("the proxy did not answer in time", RELOAD);
    };
    let passed = matches!((&refused, &accepted), (Outcome::Refused, Outcome::Passed(_)));
    let (a, b) = (listed.side, other.side);
    let what = format!(
        "the list names canary {a} and not {b}, and the proxy answered {a} {refused}, {b} {accepted}"
    );
    Refusal::new(what, if passed { NOT_ASKED } else { RELOAD })
}
