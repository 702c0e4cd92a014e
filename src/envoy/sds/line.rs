//! One stream of one gateway: what it asks for is made, sent and acknowledged until one side ends.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{MissedTickBehavior, sleep};
use tonic::{Status, Streaming};

use super::dialect::{Dialect, Sent};
use super::ledger::{Heard, Ledger, Refusal, Version};
use super::name::Name;
use super::{Outbox, Secrets, check_type, end, listeners, refuse};
use crate::app::{Admission, App, CrlNumber, Error, Term, TrustSet};
use crate::domain::certificate::{CanaryFacts, CanarySide, Serial};
use crate::domain::enforce::About;
use crate::domain::enforce::message::{NACK_DETAIL_LEN_MAX, Nack, NackCode};
use crate::domain::id::{PrincipalId, Seq};
use crate::domain::state::State;
use crate::feed::PushedSession;

/// How often a stream's caller is looked at again.
const ADMIT_INTERVAL: Duration = Duration::from_secs(1);
/// The longest pause between two looks at what could be sent, and the one after a look that found no set.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// The shortest one.
const LOOK_INTERVAL_MIN: Duration = Duration::from_millis(20);

/// A set that was made for a name.
struct Made {
    name: Name,
    /// The shared set that it was made from, and up to which record that says what the record says.
    base: CrlNumber,
    as_of: Seq,
    set: TrustSet,
    term: Term,
}

/// The sets that could be made, and when to look again.
type Making = Pin<Box<dyn Future<Output = Result<(Vec<Made>, Duration), Status>> + Send>>;

/// What is to be made: for each name the shared set that was sent last, and the canary that comes next.
type Wishes = Vec<((Name, Term), Option<Version>, Option<Serial>)>;

async fn make(app: Arc<App>, wishes: Wishes) -> Result<(Vec<Made>, Duration), Status> {
    let (mut made, mut pause) = (Vec::new(), LOOK_INTERVAL);
    for ((name, term), last, canary) in wishes {
        let base = match app.trust_set(term, None).await {
            Ok(base) => base,
            Err(error) => {
                not_made(error)?;
                continue;
            }
        };
        let left_ms = base.renew_boot_ms.saturating_sub(app.clock().boot_ms());
        pause = pause.min(Duration::from_millis(left_ms)).max(LOOK_INTERVAL_MIN);
        let (number, as_of) = (base.number, base.as_of);
        let set = match canary {
            Some(canary) if last != Some(Version::Set(number)) => app.trust_set(term, Some(canary)).await,
            Some(_) | None => Ok(base),
        };
        match set {
            Ok(set) => made.push(Made { name, base: number, as_of, set, term }),
            Err(error) => not_made(error)?,
        }
    }
    Ok((made, pause))
}

/// A set that cannot be made now may be later; what was sent runs out meanwhile.
fn not_made(error: Error) -> Result<(), Status> {
    match error {
        Error::Unavailable(why) => tracing::debug!(why, "no trust set"),
        Error::WrongState(why) => return Err(Status::failed_precondition(why)),
        other => tracing::error!(error = %other, "no trust set"),
    }
    Ok(())
}

/// One stream of one gateway.
pub(super) struct Line {
    secrets: Secrets,
    /// Something makes sure that its lease ends.
    may_lease: bool,
    admission: Admission,
    about: About,
    /// None as long as it asks for nothing but the certificate of its listener: no barrier has to do with it.
    session: Option<PushedSession>,
    /// Its place among such streams.
    place: Option<OwnedSemaphorePermit>,
    ledger: Ledger,
    acked: Seq,
}

impl Line {
    pub(super) fn new(secrets: Secrets, admission: Admission, about: About, has_clock: bool) -> Self {
        let state = secrets.app.state();
        let is_pausable = state.principal(admission.principal()).is_some_and(|gateway| gateway.is_pausable);
        Self {
            secrets,
            may_lease: has_clock || is_pausable,
            admission,
            about,
            session: None,
            place: None,
            ledger: Ledger::default(),
            acked: Seq(0),
        }
    }

    /// Carries messages both ways until either side ends, the gateway may no longer call, or the service stops. What the
    /// consumer says is always heard, also while it does not read.
    pub(super) async fn carry<D: Dialect>(
        mut self,
        mut inbox: Streaming<D::Request>,
        outbox: &Outbox<D>,
    ) -> Result<(), Status> {
        let mut waiting: Option<D::Response> = None;
        let mut making: Option<Making> = Some(self.begin_making());
        let mut looks = tokio::time::interval(ADMIT_INTERVAL);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut pause = LOOK_INTERVAL;
        loop {
            tokio::select! {
                _ = looks.tick() => self.admitted()?,
                heard = inbox.message() => {
                    let Some(message) = heard? else { return Ok(()) };
                    let (_, type_url, heard) = D::hear(message);
                    self.hear(&type_url, heard)?;
                    pause = Duration::ZERO;
                }
                () = news(&mut self.session), if making.is_none() => making = Some(self.begin_making()),
                () = sleep(pause), if making.is_none() => making = Some(self.begin_making()),
                sets = finished(&mut making), if making.is_some() && waiting.is_none() => {
                    making = None;
                    let (made, again) = sets?;
                    waiting = self.take::<D>(made);
                    pause = again;
                }
                place = outbox.reserve(), if waiting.is_some() => {
                    let Ok(place) = place else { return Ok(()) };
                    if let Some(response) = waiting.take() {
                        place.send(Ok(response));
                    }
                }
            }
        }
    }

    /// The stream outlives the call that was admitted, so the same question is asked again.
    fn admitted(&self) -> Result<(), Status> {
        if self.secrets.app.feed().is_draining() {
            return Err(Status::unavailable("the service stops"));
        }
        self.admission.still_holds().map_err(|error| {
            tracing::warn!(code = error.code(), %error, "a secret stream ended: the gateway may no longer call");
            Status::unauthenticated(error.to_string())
        })
    }

    pub(super) fn hear(&mut self, type_url: &str, heard: Heard) -> Result<(), Status> {
        check_type(type_url)?;
        let has_canaries = self.canaries().is_some();
        let has_listener = self.secrets.listeners.has(self.admission.principal());
        let exists = |name: Name| match name {
            Name::Set { has_canary, .. } => !has_canary || has_canaries,
            Name::Listener => has_listener,
        };
        let refusal = self.ledger.hear(heard, exists).map_err(end)?;
        self.enter()?;
        if let Some(refusal) = refusal {
            self.note(&refusal);
        }
        let is_leased = self.ledger.names().any(|name| name.term() == Some(Term::Leased));
        if is_leased && !self.may_lease {
            return Err(Status::failed_precondition(
                "leased secrets end by the clock of this gateway: set clock_synchronized in node.metadata.countersign, \
                 have the gateway registered as pausable, or ask for countersign-access-unleased",
            ));
        }
        self.acknowledge();
        Ok(())
    }

    /// Whoever asks for a set is a session from then on.
    fn enter(&mut self) -> Result<(), Status> {
        let gateway = self.admission.principal();
        let (mut has_set, mut has_listener) = (false, self.place.is_some());
        for name in self.ledger.names() {
            match name {
                Name::Set { .. } => has_set = true,
                Name::Listener => has_listener = true,
            }
        }
        if self.session.is_some() {
            return Ok(());
        }
        if has_set || !has_listener {
            let key = (gateway.clone(), self.secrets.app.new_run());
            let session = self.secrets.app.feed().open_pushed(key, self.about.clone());
            self.session = Some(session.map_err(|fault| refuse(&fault))?);
            self.place = None;
        } else if self.place.is_none() {
            let place = self.secrets.listeners.place(gateway);
            let full = || Status::resource_exhausted("this gateway has too many streams for its listener");
            self.place = Some(place.ok_or_else(full)?);
        }
        Ok(())
    }

    fn note(&self, refusal: &Refusal) {
        let gateway = self.admission.principal();
        if refusal.names == [Name::Listener] {
            // What Envoy cannot read it quotes, and here that has a private key in it.
            let code = refusal.why.split(':').next();
            tracing::error!(
                gateway.id = %gateway, code,
                "the certificate of its listener was refused by the gateway, whose own log says why"
            );
            self.secrets.listeners.refused(gateway);
            return;
        }
        let detail: String = refusal.why.chars().filter(|c| !c.is_control()).collect();
        let detail = detail.chars().scan(0, |len, c| {
            *len += c.len_utf8();
            (*len <= NACK_DETAIL_LEN_MAX).then_some(c)
        });
        let detail: String = detail.collect();
        tracing::warn!(gateway.id = %gateway, detail, "a trust set was refused by the gateway");
        if let Some(session) = &self.session {
            session.nack(Nack { applied: self.acked, code: NackCode::Undecodable, detail });
        }
    }

    fn canaries(&self) -> Option<[Serial; 2]> {
        canaries(&self.secrets.app.state(), self.admission.principal())
    }

    fn begin_making(&self) -> Making {
        let canaries = self.canaries();
        let wish = |name: Name| {
            let Name::Set { term, has_canary } = name else { return None };
            let (last, turn) = self.ledger.last(name);
            let canary = canaries.filter(|_| has_canary);
            Some(((name, term), last, canary.map(|[first, second]| if turn { second } else { first })))
        };
        let wishes = self.ledger.names().filter_map(wish).collect();
        Box::pin(make(Arc::clone(&self.secrets.app), wishes))
    }

    /// The response with what must be sent, if anything.
    fn take<D: Dialect>(&mut self, made: Vec<Made>) -> Option<D::Response> {
        for made in &made {
            self.ledger.confirm(made.name, Version::Set(made.base), made.as_of);
        }
        self.acknowledge();
        if !self.ledger.has_room() {
            return None;
        }
        let mut due = made;
        due.retain(|made| {
            let Made { name, base, as_of, set, term } = made;
            let lease = || self.session.as_ref().is_some_and(|s| s.lease(*as_of, set.signed_boot_ms));
            self.ledger.is_due(*name, Version::Set(*base))
                && (*term == Term::Unleased || set.is_closed || lease())
        });
        let unknown = self.ledger.take_unknown();
        if due.is_empty() && unknown.is_empty() {
            return self.take_pair::<D>();
        }
        let sets = due.iter().map(|made| (made.name, Version::Set(made.base), made.as_of));
        let nonce = self.ledger.send(sets.collect());
        let sent = |made: &Made| Sent {
            name: made.name.to_string(),
            version: made.set.number.to_string(),
            secret: self.secrets.secret(made.name, &made.set),
        };
        D::speak(due.iter().map(sent).collect(), unknown, nonce)
    }

    /// The same of the listener's certificate, in a response of its own: whoever refuses it has refused no set.
    fn take_pair<D: Dialect>(&mut self) -> Option<D::Response> {
        let pair = self.secrets.listeners.pair(self.admission.principal())?;
        let version = Version::Chain(pair.fingerprint());
        if !self.ledger.is_due(Name::Listener, version) {
            return None;
        }
        let nonce = self.ledger.send(vec![(Name::Listener, version, Seq(0))]);
        let (name, secret) = (Name::Listener.to_string(), listeners::secret(&pair));
        D::speak(vec![Sent { name, version: version.to_string(), secret }], Vec::new(), nonce)
    }

    fn acknowledge(&mut self) {
        if let Some(seq) = self.ledger.acked().filter(|seq| *seq > self.acked) {
            self.acked = seq;
            if let Some(session) = &self.session {
                session.ack(seq);
            }
        }
    }
}

async fn finished(making: &mut Option<Making>) -> Result<(Vec<Made>, Duration), Status> {
    match making {
        Some(making) => making.await,
        None => std::future::pending().await,
    }
}

async fn news(session: &mut Option<PushedSession>) {
    match session {
        Some(session) => session.news().await,
        None => std::future::pending().await,
    }
}

/// The two canaries of a gateway, if it has them.
fn canaries(state: &State, gateway: &PrincipalId) -> Option<[Serial; 2]> {
    let of = |side| {
        let canary = state.canaries.get(&CanaryFacts { gateway: gateway.clone(), side })?;
        Some(canary.serial)
    };
    Some([of(CanarySide::A)?, of(CanarySide::B)?])
}
