//! The task that keeps a gate's subscription: connects, pings, applies, acknowledges, and begins again after a while.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use imbl::OrdMap;
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::Channel;
use tonic_types::StatusExt as _;

use super::gate::{GateConfig, GateOptions, Shared, told_to_stop};
use super::give_back::give_back;
use super::keep::Saver;
use super::renew::Renewer;
use super::replica::{Refusal, Replica, Taken};
use super::transport::{Identity, channel};
use super::trust::{self, Trust};
use crate::domain::authority::AuthorityCard;
use crate::domain::enforce::Contradiction;
use crate::domain::enforce::message::{FromGateway, MESSAGE_LEN_MAX, NackCode, Strength, ToGateway};
use crate::domain::id::{AuthorityId, EntityId, Seq};
use crate::domain::time::Timestamp;
use crate::pb;
use crate::pb::enforcement_service_client::EnforcementServiceClient;

/// How often the lease, the clock and the Ping are looked at: the shortest ping interval.
pub(super) const TICK_MS: u64 = 100;
/// How long one call may take before the connection counts as lost.
const CALL_TIMEOUT_MS: u64 = 5_000;
/// The first pause after a lost connection, and the longest: it doubles, and half of it is random.
const PAUSE_MIN_MS: u64 = 250;
const PAUSE_MAX_MS: u64 = 10_000;
/// The longest pause while a lease runs: a server that is back within it is found before anything is denied, and whoever
/// connects once does not ask again, so that many gateways do not add up.
const PAUSE_LEASED_MS: u64 = 1_000;
/// The longest pause that a server can ask for.
const DRAIN_MAX_MS: u64 = 60_000;
/// Messages that may wait for the transport. When it is full the server does not read: the connection is ended.
const UP_MAX: usize = 256;
/// How long the end of a refused stream is waited for, so that the refusal is not cut off.
const FAREWELL_MS: u64 = 1_000;

/// What is done beside the stream.
enum Chore {
    Renewal(Result<Identity, String>),
    GaveBack(Result<u64, String>),
}

/// How a connection ended.
#[derive(Debug, Default)]
struct Ended {
    why: String,
    had_lease: bool,
    drain: Option<(u32, u32)>,
    /// To begin at once with a new certificate.
    is_renewed: bool,
}

/// What the task owns.
pub(super) struct Keeper {
    config: GateConfig,
    replica: Replica,
    shared: Arc<Shared>,
    wants: mpsc::Receiver<EntityId>,
    stopped: watch::Receiver<bool>,
    /// What is enforced but for connections that are still closing: acknowledged when they are closed.
    withheld: Option<Seq>,
    /// Since when nothing may be permitted.
    closed_since_ms: Option<u64>,
    /// Up to which instant connections were closed that announcements cut.
    cut_seen: Option<Timestamp>,
    saver: Option<Saver>,
    renewer: Option<Renewer>,
    /// The authorities that are trusted now, as the view has them.
    learnt: Option<OrdMap<AuthorityId, Arc<AuthorityCard>>>,
}

impl Keeper {
    pub(super) fn new(
        config: GateConfig,
        options: GateOptions,
        replica: Replica,
        shared: Arc<Shared>,
        (wants, stopped): (mpsc::Receiver<EntityId>, watch::Receiver<bool>),
    ) -> Self {
        let own = (&config.identity, &config.profile);
        let renewer = options.renewal.and_then(|renewal| Renewer::new(renewal, own, &config.entropy));
        let saver = options.snapshot.map(Saver::new);
        let (withheld, closed_since_ms) = (None, None);
        let mut keeper = Self {
            config,
            replica,
            shared,
            wants,
            stopped,
            withheld,
            closed_since_ms,
            cut_seen: None,
            saver,
            renewer,
            learnt: None,
        };
        // Of a view that was kept; one with authorities that are none is refused when the server confirms it.
        drop(keeper.learn());
        keeper.note_end();
        keeper
    }

    /// Shows when the gate's own certificate ends.
    fn note_end(&self) {
        let end_ms = self.renewer.as_ref().map_or(0, |renewer| renewer.not_after().millis());
        self.shared.not_after_ms.store(end_ms, Ordering::Relaxed);
    }

    /// Runs until it is stopped.
    pub(super) async fn run(mut self) {
        self.connections().await;
        if let Some(saver) = self.saver.take() {
            saver.finish(self.replica.kept()).await;
        }
    }

    async fn connections(&mut self) {
        let mut pause_ms = PAUSE_MIN_MS;
        loop {
            let ended = self.connection().await;
            self.replica.close();
            let Some(ended) = ended else { return };
            if ended.is_renewed {
                // The lease goes on, and questions over the old connection too.
                continue;
            }
            self.shared.channel.store(None);
            tracing::warn!(why = %ended.why, "the subscription ended");
            self.shared.note_fault(ended.why);
            pause_ms = if ended.had_lease { PAUSE_MIN_MS } else { (pause_ms * 2).min(self.pause_max_ms()) };
            let wait_ms = match ended.drain {
                Some((after, jitter)) => u64::from(after) + self.random_below(u64::from(jitter)),
                None => pause_ms / 2 + self.random_below(pause_ms / 2),
            };
            let sleep = tokio::time::sleep(Duration::from_millis(wait_ms.min(DRAIN_MAX_MS)));
            if self.with_ticks(sleep).await.is_none() {
                return;
            }
        }
    }

    fn pause_max_ms(&self) -> u64 {
        let lease_until_ms = self.shared.published.load().lease_until_ms;
        let is_leased = lease_until_ms.is_some_and(|until| until > self.shared.clock.boot_ms());
        if is_leased { PAUSE_LEASED_MS } else { PAUSE_MAX_MS }
    }

    fn random_below(&self, bound: u64) -> u64 {
        let [a, b, c, d, ..] = self.config.entropy.bytes16();
        u64::from(u32::from_le_bytes([a, b, c, d])) % bound.max(1)
    }

    fn tick(&mut self) -> Option<FromGateway> {
        let (boot_ms, now) = (self.shared.clock.boot_ms(), self.shared.clock.now());
        let ping = self.replica.tick(boot_ms, now);
        if let Some(view) = self.replica.view() {
            self.shared.close_ended(view);
            self.shared.close_cut(view, &mut self.cut_seen);
        }
        self.close_without_lease(boot_ms, now);
        ping
    }

    /// Who may not permit may not serve what it permitted before either, beyond the time that its streams are promised to
    /// end in. A gate that decides every request and has no streams has nothing to close.
    fn close_without_lease(&mut self, boot_ms: u64, now: Timestamp) {
        let standing = self.shared.published.load();
        let Some(fault) = self.shared.published.fault(&standing, boot_ms, now) else {
            self.closed_since_ms = None;
            return;
        };
        let Strength { per_request, stream_cut_ms, .. } = self.config.strength;
        let since_ms = *self.closed_since_ms.get_or_insert(boot_ms);
        let outlives = !per_request || stream_cut_ms > 0;
        if outlives && boot_ms.saturating_sub(since_ms) >= u64::from(stream_cut_ms) {
            self.shared.close_all(self.replica.position().seq, fault);
        }
    }

    /// Holds an acknowledgement back until the connections that its records closed are closed.
    fn hold(&mut self, message: FromGateway) -> Option<FromGateway> {
        match message {
            FromGateway::Ack { applied, .. }
                if self.shared.index.closing_at().is_some_and(|at| at <= applied) =>
            {
                self.withheld = Some(applied);
                None
            }
            message => Some(message),
        }
    }

    /// The acknowledgement of as much as is closed by now.
    fn released(&mut self) -> Option<FromGateway> {
        let withheld = self.withheld?;
        let closed = self.shared.index.closing_at().map_or(withheld, |at| Seq(at.0.saturating_sub(1)));
        if closed >= withheld {
            self.withheld = None;
        }
        Some(FromGateway::Ack { applied: closed.min(withheld), barrier: None })
    }

    /// Awaits something while the lease is kept under watch; none when the gate is shut down.
    async fn with_ticks<T>(&mut self, future: impl Future<Output = T>) -> Option<T> {
        tokio::pin!(future);
        let mut stopped = self.stopped.clone();
        let mut ticks = ticks();
        loop {
            tokio::select! {
                biased;
                () = told_to_stop(&mut stopped) => return None,
                out = &mut future => return Some(out),
                _ = ticks.tick() => drop(self.tick()),
            }
        }
    }

    /// One connection, to its end; none when the gate is shut down.
    async fn connection(&mut self) -> Option<Ended> {
        let ended = |why: String| Some(Ended { why, ..Ended::default() });
        let (target, identity) = (self.config.target.clone(), self.config.identity.clone());
        let clock = Arc::clone(&self.config.clock);
        let connecting = async move { channel(&target, Some(&identity), &clock).await };
        let connected = match self.with_ticks(connecting).await? {
            Ok(connected) => connected,
            Err(fault) => return ended(fault.to_string()),
        };
        self.shared.channel.store(Some(Arc::new(connected.clone())));
        self.withheld = None;
        let (up, waiting) = mpsc::channel(UP_MAX);
        // The channel is new and has room.
        let _ = up.try_send(FromGateway::Open(self.replica.open()).into());
        let mut client =
            EnforcementServiceClient::new(connected.clone()).max_decoding_message_size(MESSAGE_LEN_MAX);
        let subscribing = async move {
            let stream = client.subscribe(ReceiverStream::new(waiting));
            timeout(Duration::from_millis(CALL_TIMEOUT_MS), stream).await
        };
        let down = match self.with_ticks(subscribing).await? {
            Ok(Ok(response)) => response.into_inner(),
            Ok(Err(status)) => {
                if is_contradiction(&status) && self.replica.drop_kept() {
                    tracing::error!(%status, "the server does not know the view that was kept; it is dropped");
                }
                return ended(status.to_string());
            }
            Err(_) => return ended("the server did not accept the stream in time".to_owned()),
        };
        self.stream(connected, up, down).await
    }

    async fn stream(
        &mut self,
        connected: Channel,
        up: mpsc::Sender<pb::SubscribeRequest>,
        mut down: Streaming<pb::SubscribeResponse>,
    ) -> Option<Ended> {
        let mut ended = Ended::default();
        let mut stopped = self.stopped.clone();
        let mut ticks = ticks();
        let mut chores = JoinSet::new();
        loop {
            let (mut send, mut refused) = (Vec::new(), None);
            tokio::select! {
                () = told_to_stop(&mut stopped) => return None,
                message = down.message() => match self.take(message) {
                    Ok(taken) => {
                        ended.had_lease |= taken.has_lease;
                        ended.drain = taken.drain;
                        send = taken.send;
                        if let Some(held) = taken.gives_back {
                            let giving = give_back(connected.clone(), held);
                            chores.spawn(async move { Chore::GaveBack(giving.await) });
                        }
                    }
                    Err(End::Lost(why)) => return Some(Ended { why, ..ended }),
                    Err(End::Refused(refusal)) => refused = Some(refusal),
                },
                Some(entity) = self.wants.recv() => send.extend(self.replica.want(entity)),
                _ = ticks.tick() => {
                    send.extend(self.tick());
                    self.renew(&connected, &mut chores);
                }
                () = self.shared.index.closed.notified() => send.extend(self.released()),
                Some(chore) = chores.join_next() => ended.is_renewed = self.did(chore),
            }
            if let Some(refusal) = refused {
                return self.farewell(refusal, up, down).await.map(|why| Ended { why, ..ended });
            }
            if ended.is_renewed {
                return Some(Ended { why: "its certificate was renewed".to_owned(), ..ended });
            }
            if ended.drain.is_some() {
                return Some(Ended { why: "the server asked to connect again".to_owned(), ..ended });
            }
            for message in send.into_iter().filter_map(|message| self.hold(message)) {
                if up.try_send(message.into()).is_err() {
                    return Some(Ended { why: "the server does not read".to_owned(), ..ended });
                }
            }
        }
    }

    /// Sends the refusal and waits a little for the end of the stream, so that it is not cut off. Gives the reason.
    async fn farewell(
        &mut self,
        refusal: Refusal,
        up: mpsc::Sender<pb::SubscribeRequest>,
        mut down: Streaming<pb::SubscribeResponse>,
    ) -> Option<String> {
        // Full or closed: the server learns by the next Open.
        let Refusal(nack) = refusal;
        let why = format!("{}: {}", nack.code, nack.detail);
        let _ = up.try_send(FromGateway::Nack(nack).into());
        drop(up);
        let until_end = async { while let Ok(Some(_)) = down.message().await {} };
        let _ = self.with_ticks(timeout(Duration::from_millis(FAREWELL_MS), until_end)).await?;
        Some(why)
    }

    fn take(&mut self, message: Result<Option<pb::SubscribeResponse>, tonic::Status>) -> Result<Taken, End> {
        let message = match message {
            Ok(Some(message)) => message,
            Ok(None) => return Err(End::Lost("the server ended the stream".to_owned())),
            Err(status) => return Err(End::Lost(status.to_string())),
        };
        let (boot_ms, now) = (self.shared.clock.boot_ms(), self.shared.clock.now());
        let taken = match ToGateway::try_from(message) {
            Ok(message) => self.replica.take(message, boot_ms, now),
            Err(error) => Err(self.replica.refuse(NackCode::Undecodable, error.to_string())),
        };
        let taken = match (taken, self.learn()) {
            (Ok(_), Err(why)) => Err(self.replica.refuse(NackCode::Undecodable, why)),
            (taken, _) => taken,
        };
        if let (Ok(taken), Some(view)) = (&taken, self.replica.view()) {
            self.shared.close_denied(view, &taken.touched);
            if let Some(saver) = self.saver.as_mut().filter(|saver| taken.has_lease && saver.is_due(boot_ms))
                && let Some(kept) = self.replica.kept()
            {
                saver.save(kept, boot_ms);
            }
        }
        taken.map_err(End::Refused)
    }

    /// Asks for a new certificate when it is time.
    fn renew(&mut self, connected: &Channel, chores: &mut JoinSet<Chore>) {
        let (boot_ms, now) = (self.shared.clock.boot_ms(), self.shared.clock.now());
        if let (Some(renewer), Some(learnt)) = (&mut self.renewer, &self.learnt) {
            renewer.look_at(learnt, now, &self.config.entropy);
        }
        let Some(renewer) = self.renewer.as_mut().filter(|renewer| renewer.is_due(boot_ms, now)) else {
            return;
        };
        let GateConfig { identity, profile, .. } = self.config.clone();
        let asked = renewer.ask(connected.clone(), identity, profile, boot_ms);
        chores.spawn(async move { Chore::Renewal(asked.await) });
    }

    /// Takes what was done beside the stream. True: there is a new certificate to connect with.
    fn did(&mut self, chore: Result<Chore, JoinError>) -> bool {
        let Self { config, renewer, .. } = self;
        match chore {
            Ok(Chore::Renewal(Ok(identity))) => {
                config.identity = identity;
                if let Some(renewer) = renewer {
                    renewer.renewed(&config.identity, &config.profile, &config.entropy);
                }
                self.note_end();
                tracing::info!("the gate's certificate was renewed");
                return true;
            }
            Ok(Chore::Renewal(Err(why))) => {
                tracing::error!(why, "the gate's certificate could not be renewed");
                if let Some(renewer) = renewer {
                    renewer.failed(&config.clock, &config.entropy);
                }
                self.shared.note_fault(why);
            }
            Ok(Chore::GaveBack(Ok(collected))) => {
                tracing::warn!(
                    collected,
                    "the service was restored from a backup; restrictions were given back"
                );
            }
            Ok(Chore::GaveBack(Err(why))) => {
                tracing::error!(why, "the service was restored from a backup and takes nothing back");
                self.shared.note_fault(why);
            }
            Err(error) => tracing::error!(%error, "what was done beside the stream failed"),
        }
        false
    }

    /// Trusts whom the view trusts. Before anything is acknowledged: an acknowledgement covers this too.
    fn learn(&mut self) -> Result<(), String> {
        let Some(set) = self.replica.view().map(|view| Arc::clone(&view.enforcement)) else { return Ok(()) };
        if self.learnt.as_ref().is_some_and(|learnt| learnt.ptr_eq(&set.authorities)) {
            return Ok(());
        }
        let trust = Trust::of(&set)?;
        let system_pem = trust::system_pem(&set, self.shared.algorithms)?;
        let digest = |trust: Option<&Trust>| trust.map(|trust| trust.digest);
        // What was verified stays verified while the authorities are the same.
        if digest(self.shared.trust.load().as_deref()) != digest(trust.as_ref()) {
            self.shared.trust.store(trust.map(Arc::new));
        }
        if let Some(pem) = system_pem {
            self.shared.system_pem.store(Arc::new(pem.clone()));
            self.config.target.system_bundle_pem = pem;
        }
        self.learnt = Some(set.authorities.clone());
        Ok(())
    }
}

enum End {
    Lost(String),
    Refused(Refusal),
}

/// Was the claim refused? Whatever else the server refuses says nothing about what is held.
fn is_contradiction(status: &tonic::Status) -> bool {
    status.get_details_error_info().is_some_and(|info| info.reason == Contradiction::REASON)
}

fn ticks() -> tokio::time::Interval {
    let mut ticks = interval(Duration::from_millis(TICK_MS));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}
